//! Files of Map-Servers, right and wrong.

use super::*;

const RIGHT: &str = r#"
[mapserver]
listen = ["192.0.2.1", "2001:db8::1"]
state = "/var/lib/sextant/nonces"

[[sites]]
name = "berlin"
keys = [{ id = 1, secret = "correct horse" }]
prefixes = [
    { eid = "2001:db8:1::/48", more_specifics = true },
    { instance = 7, eid = "10.1.0.0/16" },
]
"#;

fn errors(text: &str) -> Vec<(String, String)> {
    let errors = parse("test.toml", text).expect_err("something is wrong");
    let errors = errors.as_slice().iter();
    errors
        .map(|error| (error.key().to_owned(), error.problem().to_string()))
        .collect()
}

#[test]
fn defaults_are_strict() {
    let server = parse("test.toml", RIGHT).unwrap_or_else(|errors| panic!("{errors}"));
    let settings = &server.settings;
    assert_eq!(settings.registration_timeout, Duration::from_secs(180));
    assert_eq!(settings.families, [true, true]);
    assert_eq!(server.registrations, None);
    assert_eq!(
        server.admin_socket,
        Path::new("/var/lib/sextant/mapserver.sock")
    );
    let [site] = settings.sites.as_slice() else {
        panic!("one site")
    };
    assert!(site.check_nonce);
    assert!(!site.algorithms.contains(&Algorithm::HmacSha1));
    assert_eq!(site.prefixes.len(), 2);
    assert!(site.prefixes[0].more_specifics && !site.prefixes[1].more_specifics);
}

#[test]
fn secrets_are_not_shown() {
    let server = parse("test.toml", RIGHT).unwrap_or_else(|errors| panic!("{errors}"));
    for text in [server.to_json().to_string(), format!("{server:?}")] {
        assert!(!text.contains("correct horse"), "{text}");
    }
}

#[test]
fn every_error_is_found_and_located() {
    let text = r#"
[mapserver]
listen = ["192.0.2.1", "192.0.2.1", "::"]
state = "nonces"
registrations = "registrations"
admin_socket = "mapserver.sock"
requests = { per_second = 0 }

[[sites]]
name = "berlin"
keys = [{ id = 1, secret = "a secret" }, { id = 1, secret = "" }]
algorithms = ["md5"]
auth_failure = "yes"
prefixes = [{ eid = "10.1.2.3/16" }, { eid = "10.2.0.0/16", action = "native" }, { eid = "10.2.0.0/16" }]

[[sites]]
name = "berlin"
keys = []
"#;
    let found: Vec<String> = errors(text).into_iter().map(|(key, _)| key).collect();
    assert_eq!(
        found,
        [
            "mapserver.listen[1]",
            "mapserver.listen[2]",
            "mapserver.state",
            "mapserver.registrations",
            "mapserver.admin_socket",
            "mapserver.requests.per_second",
            "sites[0].keys[1].secret",
            "sites[0].algorithms[0]",
            "sites[0].auth_failure",
            "sites[0].prefixes[0].eid",
            "sites[0].prefixes[1].action",
            "sites[0].prefixes[2]",
            "sites[1].prefixes",
            "sites[1].name",
            "sites[1].keys",
        ]
    );
}

/// P-09: what may be answered for a prefix, and what is said of anything else.
#[test]
fn prefixes_can_be_denied() {
    let denied = |action: &str| {
        let with = format!("more_specifics = true, action = {action:?} }}");
        RIGHT.replace("more_specifics = true }", &with)
    };
    for (name, action) in ACTIONS {
        let server = parse("test.toml", &denied(name)).unwrap_or_else(|errors| panic!("{errors}"));
        let site = &server.settings.sites[0];
        assert_eq!(site.prefixes[0].action, Some(action));
        assert_eq!(server.to_json()["sites"][0]["prefixes"][0]["action"], name);
    }
    let [(key, problem)] = &errors(&denied("policy-denied"))[..] else {
        panic!("one error")
    };
    assert_eq!(key, "sites[0].prefixes[0].action");
    assert_eq!(
        problem,
        r#""policy-denied" is not one of the choices, expected one of "policy_denied", "auth_failure", "drop", "send_map_request""#
    );
}

#[test]
fn one_file_cannot_keep_both() {
    let text = RIGHT.replace(
        "[[sites]]",
        "registrations = \"/var/lib/sextant/nonces\"\n[[sites]]",
    );
    let found: Vec<String> = errors(&text).into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, ["mapserver.registrations"]);
}

#[test]
fn an_empty_file_says_what_is_missing() {
    let found: Vec<String> = errors("").into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, ["mapserver.listen", "mapserver.state"]);
}
