//! The network of [`super`] as a configuration of `sextant`, and its mappings as a file for `sextant map load`.

use std::fmt::Write as _;
use std::path::Path;

use pipelines::lisp::{LocatorSpec, MappingSpec};

use super::Mappings;
use super::cases::Case;
use super::graph::{Step, mapped};
use crate::appliance::{SINK, SOURCE, head};
use crate::network as net;
use crate::setup::Setup;

/// More mappings than this come over the admin socket.
const CONFIGURED_MAX: u32 = 1 << 10;

/// Whether the mappings of a case come from a file of [`changes`].
#[must_use]
pub fn is_loaded(case: Case) -> bool {
    case.mappings.0 > CONFIGURED_MAX
}

/// The configuration for `case`. The source stands inside for what is encapsulated, and outside for what is decapsulated.
#[must_use]
pub fn configuration(case: Case, setup: &Setup, socket: &Path) -> String {
    let (inside, outside) = match case.step {
        Step::Encap => (SOURCE, SINK),
        Step::Decap => (SINK, SOURCE),
    };
    let mut text = format!(
        r#"{head}[[interfaces]]
name = "{inside}"
port = "{inside}"
addresses = ["{inside6}", "{inside4}"]
[[interfaces]]
name = "{outside}"
port = "{outside}"
mtu = 1600
addresses = ["{outside6}", "{outside4}"]
"#,
        head = head(setup, socket),
        inside6 = net::INSIDE_ADDRESS,
        inside4 = super::INSIDE_ADDRESS4,
        outside6 = net::OUTSIDE_ADDRESS,
        outside4 = super::OUTSIDE_ADDRESS4,
    );
    for (prefix, interface, router, mac) in [
        (
            "::/0",
            outside,
            net::OUTSIDE_ROUTER,
            net::OUTSIDE_ROUTER_MAC,
        ),
        (
            "0.0.0.0/0",
            outside,
            super::OUTSIDE_ROUTER4,
            net::OUTSIDE_ROUTER_MAC,
        ),
        (
            super::SITE6,
            inside,
            net::INSIDE_ROUTER,
            net::INSIDE_ROUTER_MAC,
        ),
        (
            super::SITE4,
            inside,
            super::INSIDE_ROUTER4,
            net::INSIDE_ROUTER_MAC,
        ),
    ] {
        let _ = write!(
            text,
            r#"[[routes]]
prefix = "{prefix}"
next_hops = [ {{ via = "{router}", interface = "{interface}" }} ]
[[neighbors]]
interface = "{interface}"
address = "{router}"
mac = "{mac}"
"#
        );
    }
    let _ = write!(
        text,
        r#"[lisp]
rlocs = ["{}", "{}"]
[[lisp.instances]]
id = 0
eids = ["{}", "{}"]
"#,
        super::RLOC6,
        super::RLOC4,
        super::SITE6,
        super::SITE4,
    );
    let configured = if is_loaded(case) {
        Mappings(0)
    } else {
        case.mappings
    };
    for (eid, mapping) in mapped(case.families, configured) {
        let _ = write!(text, "[[lisp.mappings]]\neid = \"{eid}\"\nlocators = [");
        for LocatorSpec { rloc, weight, .. } in locators(&mapping) {
            let _ = write!(text, " {{ rloc = \"{rloc}\", weight = {weight} }},");
        }
        text += " ]\n";
    }
    text
}

/// The mappings of a case, one change a line.
#[must_use]
pub fn changes(case: Case) -> String {
    let mut text = String::new();
    for (eid, mapping) in mapped(case.families, case.mappings) {
        let locators: Vec<String> = locators(&mapping)
            .iter()
            .map(
                |LocatorSpec {
                     rloc,
                     priority,
                     weight,
                     ..
                 }| {
                    format!(r#"{{"rloc":"{rloc}","priority":{priority},"weight":{weight}}}"#)
                },
            )
            .collect();
        let locators = locators.join(",");
        let _ = writeln!(
            text,
            r#"{{"add":{{"eid":"{eid}","locators":[{locators}]}}}}"#
        );
    }
    text
}

fn locators(mapping: &MappingSpec) -> &[LocatorSpec] {
    match mapping {
        MappingSpec::Locators { locators, .. } => locators,
        MappingSpec::Negative(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lisp::Families;

    fn case(mappings: Mappings) -> Case {
        let first = Case::all()[0];
        assert_eq!(first.families, Families::ALL[0]);
        Case { mappings, ..first }
    }

    #[test]
    fn few_mappings_stand_in_the_configuration_and_many_in_a_file() {
        let setup = Setup {
            source: "net_null1".to_owned(),
            sink: "net_null0".to_owned(),
            mbufs: 1024,
            burst: 32,
            control_core: 0,
            worker_core: 1,
        };
        let text = |mappings| configuration(case(mappings), &setup, Path::new("socket"));
        assert_eq!(
            text(Mappings(1 << 10)).matches("[[lisp.mappings]]").count(),
            1 << 10
        );
        assert_eq!(
            text(Mappings(100_000)).matches("[[lisp.mappings]]").count(),
            0
        );
        assert!(is_loaded(case(Mappings(100_000))) && !is_loaded(case(Mappings(1 << 10))));
    }

    #[test]
    fn a_file_has_one_change_a_line() {
        let text = changes(case(Mappings(3)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[0]
                .starts_with(r#"{"add":{"eid":"3fff::/48","locators":[{"rloc":"2001:db8:bad::"#)
        );
        assert!(
            lines[0].ends_with(r#","priority":1,"weight":30}]}}"#),
            "{}",
            lines[0]
        );
    }
}
