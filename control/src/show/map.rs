//! `sextant map show` as a table.

use super::grid::Side::{Left, Right};
use super::grid::{Grid, or_dash};
use crate::admin::view::MappingView;

/// Flows that shares are counted in.
const FLOWS: f64 = 64.0;

/// Mappings, a line for each locator.
#[must_use]
pub fn mappings(mappings: &[MappingView]) -> String {
    let mut grid = Grid::new(&[
        ("instance", Right),
        ("eid", Left),
        ("source", Left),
        ("expires", Right),
        ("used", Right),
        ("action", Left),
        ("rloc", Left),
        ("priority", Right),
        ("weight", Right),
        ("state", Left),
        ("share", Right),
    ]);
    for mapping in mappings {
        let head = [
            mapping.instance.to_string(),
            mapping.eid.clone(),
            mapping.source.clone(),
            or_dash(mapping.expires_s.map(|seconds| format!("in {seconds} s"))),
            or_dash(mapping.used_s.map(|seconds| format!("{seconds} s ago"))),
            mapping
                .action
                .clone()
                .unwrap_or_else(|| "encapsulate".to_owned()),
        ];
        if mapping.locators.is_empty() {
            grid.row(head.iter().cloned().chain(vec!["-".to_owned(); 5]));
        }
        for (position, locator) in mapping.locators.iter().enumerate() {
            let head = head.iter().map(|text| match position {
                0 => text.clone(),
                _ => String::new(),
            });
            let share = 100.0 * f64::from(locator.share) / FLOWS;
            let tail = [
                locator.rloc.clone(),
                locator.priority.to_string(),
                locator.weight.to_string(),
                locator.state.clone(),
                format!("{share:.1} %"),
            ];
            grid.row(head.chain(tail));
        }
    }
    grid.finish("no mappings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::LocatorView;

    #[test]
    fn a_mapping_has_a_line_for_each_locator() {
        let locator = |rloc: &str, weight, state: &str, share| LocatorView {
            rloc: rloc.to_owned(),
            priority: 1,
            weight,
            up: true,
            state: state.to_owned(),
            share,
        };
        let two = MappingView {
            instance: 7,
            eid: "2001:db8:b::/48".to_owned(),
            source: "learned".to_owned(),
            expires_s: Some(59),
            action: None,
            locators: vec![
                locator("2001:db8:ffff::3", 75, "up", 48),
                locator("192.0.2.3", 25, "up", 16),
            ],
            map_version: 0,
            used_s: Some(3),
        };
        let native = MappingView {
            eid: "::/0".to_owned(),
            source: "admin".to_owned(),
            expires_s: None,
            action: Some("native".to_owned()),
            locators: Vec::new(),
            used_s: None,
            ..two.clone()
        };
        assert_eq!(
            mappings(&[two, native]),
            "\
INSTANCE  EID              SOURCE   EXPIRES     USED  ACTION       RLOC              PRIORITY  WEIGHT  STATE   SHARE
       7  2001:db8:b::/48  learned  in 59 s  3 s ago  encapsulate  2001:db8:ffff::3         1      75  up     75.0 %
                                                                   192.0.2.3                1      25  up     25.0 %
       7  ::/0             admin          -        -  native       -                        -       -  -           -
"
        );
        assert_eq!(mappings(&[]), "no mappings\n");
    }
}
