//! `[lisp]`: every key, every default, and what does not fit together.

use dataplane::reason::PuntReason;

use super::*;
use crate::config::lisp::rules::Rules;
use crate::config::lisp::{Dscp, Instance, Mode, OnMiss, PathMtu, Roles};
use crate::proto::lisp::xtr::ProbeSchedule;
use crate::proto::lisp::{Action, EidKey, InstanceId, Locator, Mapping};

/// Two VRFs with addresses of both families.
const NETWORK: &str = r#"
[[ports]]
name = "wan"
device = "net_tap0"
[[interfaces]]
port = "wan"
addresses = ["2001:db8:ffff::2/64", "192.0.2.2/24"]
[[interfaces]]
name = "site"
port = "wan"
vlan = [7]
vrf = "tenant"
addresses = ["2001:db8:a:1::1/64"]
[[routes]]
prefix = "2600::/16"
vrf = "tenant"
blackhole = true
"#;

const FULL: &str = r#"
[lisp]
roles = ["itr", "etr", "pitr"]
mode = "closed"
rlocs = ["2001:db8:ffff::2", { rloc = "192.0.2.2", priority = 2, weight = 30 }]
dscp = "pipe"
udp_checksum = true
path_mtu = "stateful"
path_mtu_age = 900
check_source_rloc = true
petr = ["2001:db8:ffff::9"]
miss = "petr"
locator_status_bits = true
map_version = 5
probing = "fast"
fast_probe_period_ms = 250
fast_probe_misses = 2

[[lisp.instances]]
id = 7
vrf = "tenant"
eids = ["2001:db8:a::/48", "10.1.0.0/16"]
map_request = ["2001:db8::/32"]

[[lisp.mappings]]
instance = 7
eid = "2001:db8:b::/48"
locators = [
    { rloc = "2001:db8:ffff::3", priority = 2, weight = 70 },
    { rloc = "192.0.2.3", up = false },
]
map_version = 9

[[lisp.mappings]]
instance = 7
eid = "::/0"
action = "petr"
"#;

/// The least that is right, with `more` in `[lisp]`.
fn least(more: &str) -> String {
    format!(
        "{NETWORK}[lisp]\nrlocs = [\"2001:db8:ffff::2\"]\n{more}\n[[lisp.instances]]\nvrf = \"tenant\"\neids = [\"2001:db8:a::/48\"]\n"
    )
}

fn id(number: u32) -> InstanceId {
    InstanceId::new(number).expect("24 bits")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

/// The only error has this in it.
fn one_error(text: &str, expected: &str) {
    let errors = wrong(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains(expected), "{errors:?}");
}

#[test]
fn every_lisp_value_arrives() {
    let lisp = right(&format!("{NETWORK}{FULL}"))
        .lisp
        .expect("there is LISP");
    let roles = Roles {
        itr: true,
        etr: true,
        pitr: true,
        petr: false,
        rtr: false,
    };
    assert_eq!(lisp.roles, roles);
    assert_eq!((lisp.mode, lisp.vrf), (Mode::Closed, 0));
    let addresses = |texts: &[&str]| -> Vec<std::net::IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let own: Vec<_> = lisp.own_rlocs().collect();
    assert_eq!(own, addresses(&["2001:db8:ffff::2", "192.0.2.2"]));
    let shares = lisp.rlocs.iter().map(|own| (own.priority, own.weight));
    assert_eq!(shares.collect::<Vec<_>>(), [(1, 100), (2, 30)]);
    assert_eq!(
        (lisp.dscp, lisp.udp_checksum, lisp.gpe),
        (Dscp::Pipe, true, false)
    );
    assert_eq!(lisp.path_mtu, PathMtu::Stateful);
    assert_eq!(lisp.path_mtu_age, Duration::from_secs(900));
    assert!(lisp.check_source_rloc);
    assert_eq!(lisp.petr, addresses(&["2001:db8:ffff::9"]));
    assert_eq!(lisp.miss, OnMiss::Petr);
    assert!(!lisp.nonce);
    assert_eq!((lisp.locator_status_bits, lisp.map_version), (true, 5));
    let instance = Instance {
        id: id(7),
        vrf: 1,
        eids: vec![net("2001:db8:a::/48"), net("10.1.0.0/16")],
        dynamic_eids: Vec::new(),
        map_request: vec![net("2001:db8::/32")],
    };
    assert_eq!(lisp.instances, [instance]);
    let [first, second] = &lisp.mappings[..] else {
        panic!("two mappings")
    };
    let eid = |text| EidKey {
        instance: id(7),
        eid: net(text),
    };
    assert_eq!(first.key, eid("2001:db8:b::/48"));
    let locators = vec![
        Locator {
            rloc: "2001:db8:ffff::3".parse().unwrap(),
            priority: 2,
            weight: 70,
            up: true,
        },
        Locator {
            rloc: "192.0.2.3".parse().unwrap(),
            priority: 1,
            weight: 100,
            up: false,
        },
    ];
    let version = 9;
    assert_eq!(first.mapping, Mapping::Locators { locators, version });
    assert_eq!(second.key, eid("::/0"));
    assert_eq!(second.mapping, Mapping::Negative(Action::Petr));
}

#[test]
fn lisp_defaults_are_those_documented() {
    assert_eq!(right(NETWORK).lisp, None);
    let lisp = right(&least("")).lisp.expect("there is LISP");
    let roles: Vec<&str> = lisp.roles.names().collect();
    assert_eq!(roles, ["itr", "etr"]);
    assert_eq!((lisp.mode, lisp.vrf), (Mode::Public, 0));
    assert_eq!(
        (lisp.dscp, lisp.udp_checksum, lisp.gpe),
        (Dscp::Uniform, false, false)
    );
    assert_eq!(lisp.path_mtu, PathMtu::Stateless);
    assert_eq!(lisp.path_mtu_age, Duration::from_secs(600));
    assert_eq!((lisp.miss, lisp.check_source_rloc), (OnMiss::Drop, false));
    assert!(!lisp.nonce && !lisp.locator_status_bits);
    assert_eq!(
        (lisp.map_version, lisp.petr.len(), lisp.mappings.len()),
        (0, 0, 0)
    );
    assert_eq!(lisp.instances[0].id, id(0));
    // K-03: GPE has the checksum on unless it is said otherwise.
    let checksum = |more: &str| {
        let text = least(&format!("mode = \"closed\"\ngpe = true\n{more}"));
        right(&text).lisp.unwrap().udp_checksum
    };
    assert!(checksum(""));
    assert!(!checksum("udp_checksum = false"));
}

#[test]
fn lisp_as_json_reads_like_the_file() {
    let config = right(&format!("{NETWORK}{FULL}"));
    let json = serde_json::to_value(&config).unwrap();
    let lisp = &json["lisp"];
    assert_eq!(lisp["roles"], serde_json::json!(["itr", "etr", "pitr"]));
    assert_eq!(lisp["path_mtu_age"], 900);
    assert_eq!(lisp["miss"], "petr");
    assert_eq!(
        (&lisp["probing"], &lisp["fast_probe_period_ms"]),
        (&"fast".into(), &250.into())
    );
    assert_eq!(
        lisp["mappings"][1],
        serde_json::json!({ "instance": 7, "eid": "::/0", "action": "petr" })
    );
    assert_eq!(lisp["mappings"][0]["locators"][1]["up"], false);
    assert_eq!(lisp["mappings"][0]["map_version"], 9);
}

/// B-01, B-08: what each mode makes of its keys; those of the other are refused.
#[test]
fn probing_has_modes_with_keys_of_their_own() {
    let schedule = |lines: &str| {
        let config = right(&least(lines));
        let answers = config.punt.rate(PuntReason::LispControl);
        config.lisp.unwrap().probing.schedule(answers)
    };
    let expected = |period, misses, least_wait| {
        let [period, least_wait] = [period, least_wait].map(Duration::from_millis);
        Some(ProbeSchedule {
            period,
            misses,
            least_wait,
            per_second: 500,
        })
    };
    assert_eq!(schedule(""), expected(30_000, 3, 500));
    assert_eq!(schedule("probing = \"off\""), None);
    let normal = "probe_period = 10\nprobe_misses = 1";
    assert_eq!(schedule(normal), expected(10_000, 1, 500));
    assert_eq!(schedule("probing = \"fast\""), expected(100, 3, 50));
    let fast = "fast_probe_period_ms = 400\nfast_probe_misses = 5";
    let with_mode = format!("probing = \"fast\"\n{fast}");
    assert_eq!(schedule(&with_mode), expected(400, 5, 200));
    for (lines, key, mode) in [
        ("fast_probe_misses = 2", "fast_probe_misses", "fast"),
        ("fast_probe_period_ms = 200", "fast_probe_period_ms", "fast"),
        (
            "probing = \"fast\"\nprobe_misses = 2",
            "probe_misses",
            "normal",
        ),
        (
            "probing = \"off\"\nprobe_period = 60",
            "probe_period",
            "normal",
        ),
    ] {
        one_error(
            &least(lines),
            &format!("{key} without probing = \"{mode}\", expected both"),
        );
    }
    one_error(&least("probing = \"quick\"\nprobe_period = 60"), "quick");
}

/// D-09: on the public Internet nothing that can be forged has an effect.
#[test]
fn public_mode_allows_no_forgeable_fields() {
    for (line, key) in [
        ("nonce = true", "nonce"),
        ("locator_status_bits = true", "locator_status_bits"),
        ("map_version = 1", "map_version"),
        ("gpe = true", "gpe"),
    ] {
        let expected = format!(
            "20 lisp.{key}: {key} in public mode, expected it only with mode = \"closed\" (RFC 9300 4.1)"
        );
        assert_eq!(wrong(&least(line)), [expected]);
        right(&least(&format!("mode = \"closed\"\n{line}")));
    }
    right(&least("nonce = false\nmap_version = 0"));
}

/// D-03, D-05, K-01.
#[test]
fn header_fields_that_share_bits_exclude_each_other() {
    let closed = |lines: &str| least(&format!("mode = \"closed\"\n{lines}"));
    for (lines, expected) in [
        (
            "nonce = true\nmap_version = 1",
            "map_version together with nonce",
        ),
        ("nonce = true\ngpe = true", "nonce together with gpe"),
        (
            "gpe = true\nmap_version = 1",
            "map_version together with gpe",
        ),
    ] {
        one_error(&closed(lines), expected);
    }
    right(&closed("nonce = true\nlocator_status_bits = true"));
}

#[test]
fn every_lisp_key_may_change_at_run_time() {
    let (none, some) = (right(NETWORK), right(&least("")));
    let other = right(&format!("{NETWORK}{FULL}"));
    for (old, new) in [(&none, &some), (&some, &other), (&other, &none)] {
        assert_eq!(reload_plan(old, new), Ok(()));
    }
}

/// What a mapping may not be, one mistake each: in `[lisp]`, in `[[lisp.mappings]]`, and the error.
#[test]
fn mappings_that_do_not_fit_are_refused() {
    let to = |eid: &str, more: &str| {
        format!("eid = \"{eid}\"\nlocators = [{{ rloc = \"2001:db8:ffff::3\" }}]\n{more}")
    };
    let via =
        |rloc: &str| format!("eid = \"2001:db8:b::/48\"\nlocators = [{{ rloc = \"{rloc}\" }}]");
    let eid = "eid = \"2001:db8:b::/48\"";
    for (more, mapping, expected) in [
        (
            "",
            to("2001:db8:a:5::/64", ""),
            "is inside 2001:db8:a::/48, an own EID prefix",
        ),
        ("", to("2001:db8:a::/48", ""), "an own EID prefix"),
        (
            "",
            to("2600::/16", ""),
            "2600::/16 is a route of the instance's VRF",
        ),
        ("", to("2001:db8:b::1/48", ""), "expected 2001:db8:b::/48"),
        ("", to("ff00::/8", ""), "holds multicast addresses"),
        (
            "",
            to("2001:db8:b::/48", "instance = 3"),
            "there is no instance 3, expected 0",
        ),
        (
            "roles = [\"etr\"]",
            to("2001:db8:b::/48", ""),
            "expected itr, pitr or rtr",
        ),
        (
            "",
            eid.to_owned(),
            "it leads nowhere, expected exactly one of locators and action",
        ),
        (
            "",
            to("2001:db8:b::/48", "action = \"drop\""),
            "stand together",
        ),
        (
            "",
            format!("{eid}\naction = \"petr\""),
            "no proxy ETR is known",
        ),
        ("", via("ff0e::1"), "is a multicast address"),
        ("", via("fe80::1"), "is a link-local address"),
        ("", via("::1"), "is the loopback address"),
        ("", via("2001:db8:ffff::2"), "is an own address"),
        (
            "",
            via("192.0.2.3"),
            "192.0.2.3 is an IPv4 address and no own RLOC is",
        ),
        (
            "",
            via("2001:db8::1\" }, { rloc = \"2001:db8::1"),
            "stands twice",
        ),
        (
            "",
            to("2001:db8:b::/48", "map_version = 2"),
            "where packets carry none",
        ),
    ] {
        one_error(
            &format!("{}[[lisp.mappings]]\n{mapping}\n", least(more)),
            expected,
        );
    }
    let twice = format!("[[lisp.mappings]]\n{}\n", to("2001:db8:b::/48", "")).repeat(2);
    one_error(
        &(least("") + &twice),
        "mapping 2001:db8:b::/48 stands twice",
    );
    // An RTR sends to itself: packets come in at one locator and leave by another.
    let own = format!("[[lisp.mappings]]\n{}\n", via("2001:db8:ffff::2"));
    right(&(least("roles = [\"rtr\"]") + &own));
    // A mapping may cover what is ours: the longer prefix wins.
    right(&(least("") + "[[lisp.mappings]]\neid = \"::/0\"\naction = \"native\"\n"));
}

#[test]
fn own_rlocs_are_own_addresses_in_the_underlay() {
    let text = |rlocs: &str| least("").replace("[\"2001:db8:ffff::2\"]", rlocs);
    assert_eq!(
        wrong(&text("[\"2001:db8:ffff::3\"]")),
        [
            "19 lisp.rlocs[0]: 2001:db8:ffff::3 is no own address in VRF \"main\", expected \"2001:db8:ffff::2\" or \"192.0.2.2\""
        ]
    );
    // Of another VRF.
    one_error(
        &text("[\"2001:db8:a:1::1\"]"),
        "is no own address in VRF \"main\"",
    );
    one_error(
        &text("[\"192.0.2.2\", \"192.0.2.2\"]"),
        "RLOC 192.0.2.2 stands twice",
    );
    one_error(&text("[]"), "no RLOCs, expected at least one");
    let without = least("").replace("rlocs = [\"2001:db8:ffff::2\"]\n", "");
    one_error(
        &without,
        "lisp.rlocs: missing, expected own addresses in the underlay",
    );
}

#[test]
fn instances_have_a_number_and_a_vrf_each() {
    let second = |text: &str| {
        format!(
            "{}[[lisp.instances]]\neids = [\"10.0.0.0/8\"]\n{text}\n",
            least("")
        )
    };
    one_error(&second(""), "instance 0 stands twice");
    one_error(
        &second("id = 4\nvrf = \"tenant\""),
        "VRF \"tenant\" stands twice",
    );
    one_error(&second("id = 16_777_216"), "expected 0 to 16777215");
    one_error(
        &second("id = 4\nvrf = \"tennant\""),
        "there is no VRF \"tennant\"",
    );
    right(&second("id = 4"));
    let none = least("");
    let none = none.split("[[lisp.instances]]").next().unwrap();
    one_error(
        none,
        "lisp.instances: missing, expected at least one instance",
    );
    // Boxes for others need no EIDs.
    let empty = |more: &str| least(more).replace("[\"2001:db8:a::/48\"]", "[]");
    one_error(
        &empty(""),
        "expected own EID prefixes, or a role pitr, petr or rtr",
    );
    right(&empty("roles = [\"petr\"]"));
}

#[test]
fn eid_space_is_not_where_a_route_leads() {
    let space = |prefix: &str, more: &str| format!("{}map_request = [\"{prefix}\"]\n", least(more));
    one_error(&space("2600::/16", ""), "is a route of the instance's VRF");
    one_error(
        &space("2001:db8:a::/56", ""),
        "is inside 2001:db8:a::/48, an own EID prefix",
    );
    one_error(
        &space("::/0", "roles = [\"etr\"]"),
        "expected itr, pitr or rtr",
    );
    right(&space("::/0", ""));
}

#[test]
fn misses_go_to_a_proxy_only_where_there_is_one() {
    one_error(
        &least("miss = \"petr\""),
        "lisp.miss: miss = \"petr\" without petr, expected both",
    );
    right(&least("miss = \"petr\"\npetr = [\"2001:db8::9\"]"));
}

const MAPPING_SYSTEM: &str = r#"
map_resolvers = ["2001:db8:ffff::100"]
xtr_id = "00000000000000000000000000000a01"
site_id = "7"
state = "/var/lib/sextant/nonce"
[[lisp.map_servers]]
address = "2001:db8:ffff::100"
key = "nobody shall read this"
key_id = 3
algorithm = "hkdf-sha256"
proxy_reply = true
merge = true
[[lisp.map_servers]]
address = "2001:db8:ffff::101"
key = "nor this"
"#;

/// RFC 9301 5.6, 8.1, 8.2.
#[test]
fn the_mapping_system_arrives_and_its_secrets_are_not_shown() {
    use crate::config::lisp::MapServer;
    use crate::proto::lisp::wire::Identity;
    use crate::proto::lisp::wire::auth::{Algorithm, Secret};

    let config = right(&least(MAPPING_SYSTEM));
    let json = serde_json::to_value(&config).unwrap();
    let text = format!("{json} {config:?}");
    assert!(!text.contains("nobody shall") && !text.contains("nor this"));
    assert_eq!(json["lisp"]["map_servers"][0]["algorithm"], "hkdf-sha256");
    let lisp = config.lisp.unwrap();
    let address = |text: &str| -> std::net::IpAddr { text.parse().unwrap() };
    assert_eq!(lisp.map_resolvers, [address("2001:db8:ffff::100")]);
    let (xtr_id, site_id) = (0xa01, 7);
    assert_eq!(lisp.identity, Some(Identity { xtr_id, site_id }));
    assert_eq!(
        lisp.state.as_deref(),
        Some(std::path::Path::new("/var/lib/sextant/nonce"))
    );
    assert_eq!(
        lisp.map_servers,
        [
            MapServer {
                address: address("2001:db8:ffff::100"),
                key: Secret::new(b"nobody shall read this"),
                key_id: 3,
                algorithm: Algorithm::HkdfSha256,
                proxy_reply: true,
                merge: true,
            },
            MapServer {
                address: address("2001:db8:ffff::101"),
                key: Secret::new(b"nor this"),
                key_id: 1,
                algorithm: Algorithm::HmacSha256,
                proxy_reply: false,
                merge: false,
            },
        ]
    );
    let none = right(&least("")).lisp.unwrap();
    assert!(none.map_resolvers.is_empty() && none.map_servers.is_empty());
    assert_eq!((none.identity, none.state), (None, None));
}

#[test]
fn a_mapping_system_that_cannot_be_reached_or_known_is_refused() {
    let servers = |rest: &str| format!("[[lisp.map_servers]]\n{rest}");
    for (more, expected) in [
        (
            "map_resolvers = [\"192.0.2.9\"]".to_owned(),
            "no own RLOC is",
        ),
        (
            "map_resolvers = [\"2001:db8:ffff::2\"]".to_owned(),
            "is an own address",
        ),
        (
            "map_resolvers = [\"ff02::1\"]".to_owned(),
            "is a multicast address",
        ),
        (
            "roles = [\"etr\"]\nmap_resolvers = [\"2001:db8:ffff::9\"]".to_owned(),
            "mappings are for boxes that encapsulate",
        ),
        (
            "xtr_id = \"1\"".to_owned(),
            "xtr_id without site_id, expected both",
        ),
        (
            "site_id = \"1\"".to_owned(),
            "site_id without xtr_id, expected both",
        ),
        (
            "xtr_id = \"x\"\nsite_id = \"1\"".to_owned(),
            "expected 1 to 32 hexadecimal digits",
        ),
        (
            "xtr_id = \"1\"\nsite_id = \"11112222333344445\"".to_owned(),
            "expected 1 to 16 hexadecimal digits",
        ),
        ("state = \"nonce\"".to_owned(), "expected an absolute path"),
        (
            servers("key = \"x\""),
            "missing, expected the Map-Server's address",
        ),
        (
            servers("address = \"2001:db8:ffff::9\""),
            "missing, expected the secret",
        ),
        (
            servers("address = \"2001:db8:ffff::9\"\nkey = \"\""),
            "no secret",
        ),
        (
            servers("address = \"2001:db8:ffff::9\"\nkey = \"x\"\nalgorithm = \"md5\""),
            "is not one of the choices",
        ),
        (
            format!(
                "roles = [\"itr\"]\n{}",
                servers("address = \"2001:db8:ffff::9\"\nkey = \"x\"")
            ),
            "map_servers without etr among the roles",
        ),
        (
            servers("address = \"2001:db8:ffff::9\"\nkey = \"x\"\n").repeat(2),
            "Map-Server",
        ),
    ] {
        one_error(&least(&more), expected);
    }
    let many: String = (1..=9)
        .map(|number| {
            servers(&format!(
                "address = \"2001:db8:ffff::9{number}\"\nkey = \"x\"\n"
            ))
        })
        .collect();
    one_error(&least(&many), "9 Map-Servers, expected at most 8");
}

#[test]
fn own_rlocs_as_tables_are_judged_like_addresses() {
    let rlocs = |items: &str| least("").replace("[\"2001:db8:ffff::2\"]", &format!("[{items}]"));
    right(&rlocs("{ rloc = \"2001:db8:ffff::2\" }"));
    for (items, expected) in [
        ("{ priority = 1 }", "missing, expected an own address"),
        ("{ rloc = \"2001:db8:ffff::3\" }", "is no own address"),
        (
            "{ rloc = \"2001:db8:ffff::2\", weight = 101 }",
            "expected 0 to 100",
        ),
        (
            "{ rloc = \"2001:db8:ffff::2\", up = false }",
            "unknown key \"up\"",
        ),
        (
            "\"2001:db8:ffff::2\", { rloc = \"2001:db8:ffff::2\" }",
            "stands twice",
        ),
        ("7", "expected a string"),
    ] {
        one_error(&rlocs(items), expected);
    }
}

/// Hosts that may be at any site: for whoever registers them; they stand for own EIDs, and mappings for them may be learned.
#[test]
fn dynamic_eids_are_for_those_who_register() {
    let instance = |roles: &str, eids: &str| {
        format!(
            "{NETWORK}[lisp]\nrlocs = [\"2001:db8:ffff::2\"]\nroles = [{roles}]\n\
             [[lisp.instances]]\nvrf = \"tenant\"\n{eids}\n"
        )
    };
    let prefixes = "[\"2001:db8:a:1::/64\", \"10.1.0.0/16\"]";
    let dynamic = format!("dynamic_eids = {prefixes}");
    let lisp = right(&instance("\"itr\", \"etr\"", &dynamic)).lisp.unwrap();
    let expected = [net("2001:db8:a:1::/64"), net("10.1.0.0/16")];
    assert_eq!(lisp.instances[0].dynamic_eids, expected);
    one_error(
        &instance("\"itr\", \"pitr\"", &dynamic),
        "dynamic_eids without etr among the roles, expected both",
    );
    // All of a prefix of ours may be dynamic, a part of what is dynamic cannot be ours for good.
    right(&instance(
        "\"itr\", \"etr\"",
        &format!("{dynamic}\neids = {prefixes}"),
    ));
    one_error(
        &instance(
            "\"itr\", \"etr\"",
            &format!("{dynamic}\neids = [\"10.1.1.0/24\"]"),
        ),
        "10.1.1.0/24 is inside 10.1.0.0/16, one of dynamic_eids",
    );
    let config = right(&instance(
        "\"itr\", \"etr\"",
        &format!("{dynamic}\neids = [\"2001:db8:a::/48\"]"),
    ));
    let lisp = config.lisp.as_ref().unwrap();
    let rules = Rules::new(lisp, &config.interfaces, &config.routes);
    let check = |eid: &str| {
        let instance = InstanceId::default();
        rules.check_eid(EidKey {
            instance,
            eid: net(eid),
        })
    };
    assert_eq!(check("2001:db8:a:1::7/128"), Ok(()));
    assert!(check("2001:db8:a:2::7/128").is_err());
}
