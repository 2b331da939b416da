//! What a reload changes, in words for the log and for whoever asked.

use std::collections::BTreeMap;

use crate::config::lisp::Lisp;
use crate::config::{self, Config, Target};

/// Most names that are listed one by one.
const NAMES_MAX: usize = 8;

/// What differs, one line for each section: `+` came, `-` went, `~` is another.
pub(super) fn changes(old: &Config, new: &Config) -> Vec<String> {
    let new = &with_references_of(old, new);
    let mut lines = Vec::new();
    named(
        &mut lines,
        "interfaces",
        &old.interfaces,
        &new.interfaces,
        |interface| interface.name.clone(),
    );
    named(&mut lines, "npt66", &old.npt66, &new.npt66, |rule| {
        rule.name.clone()
    });
    named(
        &mut lines,
        "routes",
        &old.routes,
        &new.routes,
        |route| match old.vrfs.get(route.vrf) {
            _ if route.vrf == 0 => route.prefix.to_string(),
            Some(vrf) => format!("{} in {vrf}", route.prefix),
            None => format!("{} in a new VRF", route.prefix),
        },
    );
    named(
        &mut lines,
        "neighbors",
        &old.neighbors,
        &new.neighbors,
        |neighbor| neighbor.address.to_string(),
    );
    for (section, differs) in [("icmp", old.icmp != new.icmp), ("ndp", old.ndp != new.ndp)] {
        if differs {
            lines.push(format!("{section}: changed"));
        }
    }
    lisp(&mut lines, old.lisp.as_ref(), new.lisp.as_ref());
    let (was, is) = (&old.steering, &new.steering);
    if was.flows != is.flows {
        lines.push("steering: changed".to_owned());
    }
    named(&mut lines, "pools", &was.pools, &is.pools, |pool| {
        pool.name.clone()
    });
    named(
        &mut lines,
        "services",
        &was.services,
        &is.services,
        |service| service.name.clone(),
    );
    lines
}

/// `[lisp]`, its instances and its mappings, a line each.
fn lisp(lines: &mut Vec<String>, old: Option<&Lisp>, new: Option<&Lisp>) {
    let settings = |lisp: Option<&Lisp>| {
        lisp.map(|lisp| Lisp {
            instances: Vec::new(),
            mappings: Vec::new(),
            ..lisp.clone()
        })
    };
    match (settings(old), settings(new)) {
        (None, Some(_)) => lines.push("lisp: came".to_owned()),
        (Some(_), None) => lines.push("lisp: went".to_owned()),
        (was, is) if was != is => lines.push("lisp: changed".to_owned()),
        _ => {}
    }
    let instances = |lisp: Option<&Lisp>| lisp.map_or_else(Vec::new, |lisp| lisp.instances.clone());
    named(
        lines,
        "lisp.instances",
        &instances(old),
        &instances(new),
        |instance| instance.id.to_string(),
    );
    let mappings = |lisp| <Option<&Lisp>>::map_or(lisp, &[][..], |lisp| &lisp.mappings);
    named(
        lines,
        "lisp.mappings",
        mappings(old),
        mappings(new),
        |mapping| match mapping.key.instance.get() {
            0 => mapping.key.eid.to_string(),
            instance => format!("{} in {instance}", mapping.key.eid),
        },
    );
}

/// `new`, with interfaces and VRFs referred to by their positions in `old`, so that what only moved compares equal.
fn with_references_of(old: &Config, new: &Config) -> Config {
    let interface = |position: usize| {
        let name = &new.interfaces[position].name;
        let found = old
            .interfaces
            .iter()
            .position(|interface| interface.name == *name);
        found.unwrap_or(usize::MAX)
    };
    let vrf = |position: usize| {
        let name = &new.vrfs[position];
        old.vrfs
            .iter()
            .position(|vrf| vrf == name)
            .unwrap_or(usize::MAX)
    };
    let mut mapped = new.clone();
    for item in &mut mapped.interfaces {
        item.vrf = vrf(item.vrf);
    }
    for item in &mut mapped.npt66 {
        item.interface = interface(item.interface);
    }
    for item in &mut mapped.neighbors {
        item.interface = interface(item.interface);
    }
    if let Some(lisp) = &mut mapped.lisp {
        lisp.vrf = vrf(lisp.vrf);
        for instance in &mut lisp.instances {
            instance.vrf = vrf(instance.vrf);
        }
    }
    for service in &mut mapped.steering.services {
        let name = new.steering.pools.get(service.pool).map(|pool| &pool.name);
        let mut known = old.steering.pools.iter();
        let found = known.position(|pool| Some(&pool.name) == name);
        service.pool = found.unwrap_or(usize::MAX);
    }
    for pool in &mut mapped.steering.pools {
        pool.vrf = vrf(pool.vrf);
        for server in &mut pool.servers {
            server.interface = server.interface.map(interface);
        }
    }
    for route in &mut mapped.routes {
        route.vrf = vrf(route.vrf);
        let hops: &mut [config::NextHop] = match &mut route.target {
            Target::NextHops(hops) => hops,
            Target::Blackhole | Target::Unreachable => &mut [],
        };
        for hop in hops {
            hop.interface = interface(hop.interface);
        }
    }
    mapped
}

fn named<T: PartialEq>(
    lines: &mut Vec<String>,
    section: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> String,
) {
    let old_items: BTreeMap<String, &T> = old.iter().map(|item| (name(item), item)).collect();
    let new_items: BTreeMap<String, &T> = new.iter().map(|item| (name(item), item)).collect();
    let mut parts = Vec::new();
    for (name, item) in &new_items {
        match old_items.get(name) {
            None => parts.push(format!("+{name}")),
            Some(was) if was != item => parts.push(format!("~{name}")),
            Some(_) => {}
        }
    }
    let gone = old_items
        .keys()
        .filter(|name| !new_items.contains_key(*name));
    parts.extend(gone.map(|name| format!("-{name}")));
    if parts.len() > NAMES_MAX {
        let more = parts.len() - NAMES_MAX;
        parts.truncate(NAMES_MAX);
        parts.push(format!("and {more} more"));
    }
    if !parts.is_empty() {
        lines.push(format!("{section}: {}", parts.join(" ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Host, parse_for};

    fn config(interfaces: &[&str], rest: &str) -> Config {
        let mut text = String::from("[[ports]]\nname = \"p\"\ndevice = \"net_null0\"\n");
        for (vlan, interface) in interfaces.iter().enumerate() {
            let vlan = vlan + 1;
            text.push_str(&format!(
                "[[interfaces]]\nname = \"{interface}\"\nport = \"p\"\nvlan = [{vlan}]\n"
            ));
        }
        parse_for("test.toml", &(text + rest), &Host::new(vec![0]))
            .unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn route(prefix: &str, interface: &str) -> String {
        format!(
            "[[routes]]\nprefix = \"{prefix}\"\nnext_hops = [{{ via = \"fe80::1\", interface = \"{interface}\" }}]\n"
        )
    }

    #[test]
    fn says_what_came_went_and_became_another() {
        let old = config(
            &["a", "b"],
            &(route("2600::/16", "a") + &route("2601::/16", "b")),
        );
        let new = config(
            &["a", "b", "c"],
            &(route("2600::/16", "b") + &route("2602::/16", "b") + "[icmp]\nerrors_burst = 5\n"),
        );
        assert_eq!(
            changes(&old, &new),
            [
                "interfaces: +c",
                "routes: ~2600::/16 +2602::/16 -2601::/16",
                "icmp: changed"
            ]
        );
        assert_eq!(changes(&old, &old), [""; 0]);
    }

    #[test]
    fn what_only_moved_in_the_file_did_not_change() {
        let old = config(
            &["a", "b"],
            &(route("2600::/16", "a") + &route("2601::/16", "b")),
        );
        let mut new = config(
            &["a", "b", "z"],
            &(route("2601::/16", "b") + &route("2600::/16", "a")),
        );
        new.interfaces.rotate_right(1);
        for route in &mut new.routes {
            let Target::NextHops(hops) = &mut route.target else {
                panic!("every route has next hops")
            };
            hops[0].interface += 1;
        }
        assert_eq!(changes(&old, &new), ["interfaces: +z"]);
    }

    #[test]
    fn lisp_is_told_by_its_parts() {
        let config = |lisp: &str| {
            let network = "[[ports]]\nname = \"p\"\ndevice = \"net_null0\"\n[[interfaces]]\nport = \"p\"\naddresses = [\"2001:db8::1/64\"]\n";
            parse_for(
                "test.toml",
                &format!("{network}{lisp}"),
                &Host::new(vec![0]),
            )
            .unwrap_or_else(|errors| panic!("{errors}"))
        };
        let lisp = |settings: &str, mappings: &[(&str, &str)]| {
            let head = format!(
                "[lisp]\nrlocs = [\"2001:db8::1\"]\n{settings}\n[[lisp.instances]]\neids = [\"10.0.0.0/8\"]\n"
            );
            let mappings = mappings.iter().map(|(eid, action)| {
                format!("[[lisp.mappings]]\neid = \"{eid}\"\naction = \"{action}\"\n")
            });
            config(&(head + &mappings.collect::<String>()))
        };
        let old = lisp("", &[("2600::/16", "drop"), ("2601::/16", "drop")]);
        let new = lisp(
            "dscp = \"pipe\"",
            &[("2602::/16", "native"), ("2600::/16", "native")],
        );
        assert_eq!(
            changes(&old, &new),
            [
                "lisp: changed",
                "lisp.mappings: ~2600::/16 +2602::/16 -2601::/16"
            ]
        );
        assert_eq!(changes(&old, &old), [""; 0]);
        let none = config("");
        assert_eq!(
            changes(&old, &none),
            [
                "lisp: went",
                "lisp.instances: -0",
                "lisp.mappings: -2600::/16 -2601::/16"
            ]
        );
    }

    #[test]
    fn long_lists_are_cut() {
        let routes: String = (0..20)
            .map(|number| route(&format!("26{number:02}::/16"), "a"))
            .collect();
        let [line] = &changes(&config(&["a"], ""), &config(&["a"], &routes))[..] else {
            panic!("one section changed")
        };
        assert!(line.ends_with("and 12 more"), "{line}");
    }
}
