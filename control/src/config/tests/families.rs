//! IPv4 and IPv6 in one configuration.

use super::*;

#[test]
fn both_families_stand_side_by_side() {
    let config = right(
        r#"
[[ports]]
name = "wan"
device = "net_tap0"
[[interfaces]]
port = "wan"
addresses = ["192.0.2.1/24", "2001:db8::1/64", "198.51.100.1/31", "203.0.113.7/32"]
[[routes]]
prefix = "0.0.0.0/0"
next_hops = [{ via = "192.0.2.254", weight = 3 }, { via = "198.51.100.0", interface = "wan" }]
[[routes]]
prefix = "::/0"
next_hops = [{ via = "fe80::9", interface = "wan" }]
[[routes]]
prefix = "10.9.0.0/16"
next_hops = [{ interface = "wan" }]
[[routes]]
prefix = "192.0.2.7/32"
blackhole = true
[[neighbors]]
interface = "wan"
address = "192.0.2.254"
mac = "02:00:00:00:00:09"
[[neighbors]]
interface = "wan"
address = "10.9.0.4"
mac = "02:00:00:00:00:0a"
"#,
    );
    let addresses: Vec<String> = config.interfaces[0]
        .addresses
        .iter()
        .map(IpNet::to_string)
        .collect();
    assert_eq!(
        addresses,
        [
            "192.0.2.1/24",
            "2001:db8::1/64",
            "198.51.100.1/31",
            "203.0.113.7/32"
        ]
    );
    let hop = |via: Option<&str>, weight| NextHop {
        via: via.map(|address| address.parse().expect("an address")),
        interface: 0,
        weight,
    };
    let targets: Vec<&Target> = config.routes.iter().map(|route| &route.target).collect();
    let ipv4 = vec![hop(Some("192.0.2.254"), 3), hop(Some("198.51.100.0"), 1)];
    assert_eq!(
        targets,
        [
            &Target::NextHops(ipv4),
            &Target::NextHops(vec![hop(Some("fe80::9"), 1)]),
            &Target::NextHops(vec![hop(None, 1)]),
            &Target::Blackhole,
        ]
    );
    assert!(config.routes[2].is_on_link(0));
    assert_eq!(config.neighbors[1].address.to_string(), "10.9.0.4");
    let json = serde_json::to_value(&config).expect("JSON");
    assert_eq!(json["interfaces"][0]["addresses"][0], "192.0.2.1/24");
    assert_eq!(json["routes"][0]["prefix"], "0.0.0.0/0");
    assert_eq!(json["neighbors"][0]["address"], "192.0.2.254");
}

/// A route or next hop of one family is no conflict with one of the other.
#[test]
fn families_do_not_overlap() {
    let text = |first: &str, second: &str| {
        format!(
            "[[ports]]\nname = \"a\"\ndevice = \"net_tap0\"\n[[ports]]\nname = \"b\"\ndevice = \"net_tap1\"\n\
             [[interfaces]]\nport = \"a\"\naddresses = [\"{first}\"]\n\
             [[interfaces]]\nport = \"b\"\naddresses = [\"{second}\"]\n"
        )
    };
    // The same first bits.
    right(&text("32.1.13.1/8", "2001:db8::1/16"));
    let [error] = &wrong(&text("32.1.13.1/8", "32.1.13.2/16"))[..] else {
        panic!("one overlap")
    };
    assert!(error.contains("32.1.0.0/16 overlaps 32.0.0.0/8"), "{error}");
}
