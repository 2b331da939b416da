//! Checks by HTTPS: which name, and whose certificates.

use rustls::pki_types::ServerName;

use super::*;
use crate::proto::health::{Probe, Tls};

const AUTHORITY: &str = include_str!("../../../tests/tls/authority.pem");
const OTHER: &str = include_str!("../../../tests/tls/alone.pem");

/// A pool whose servers are asked so.
fn pool(health: &str) -> String {
    format!(
        "[[ports]]\nname = \"p\"\ndevice = \"net_tap0\"\n[[interfaces]]\nport = \"p\"\naddresses = [\"2001:db8:5::1/64\"]\n\
         [[pools]]\nname = \"web\"\nservers = [{{ address = \"2001:db8:5::11\" }}]\nhealth = {{ kind = \"https\", {health} }}\n"
    )
}

/// The Host header, and TLS.
fn asked(health: &str) -> (String, Tls) {
    let mut targets = crate::publish::health_targets(&right(&pool(health)), 7);
    match targets.remove(0).probe {
        Probe::Http {
            host,
            tls: Some(tls),
            ..
        } => (host, tls),
        probe => panic!("{probe:?}"),
    }
}

#[test]
fn the_name_is_that_of_the_host_unless_there_is_one() {
    for (health, host, name) in [
        ("port = 443", "[2001:db8:5::11]", None),
        ("port = 80", "[2001:db8:5::11]:80", None),
        (
            "port = 443, host = \"www.example.com\"",
            "www.example.com",
            Some("www.example.com"),
        ),
        (
            "port = 443, host = \"www.example.com:8443\"",
            "www.example.com:8443",
            Some("www.example.com"),
        ),
        (
            "port = 443, host = \"[2001:db8::7]:8443\"",
            "[2001:db8::7]:8443",
            Some("2001:db8::7"),
        ),
        (
            "port = 443, host = \"a b\", server_name = \"www.example.com\"",
            "",
            None,
        ),
        (
            "port = 443, host = \"!\", server_name = \"www.example.com\"",
            "!",
            Some("www.example.com"),
        ),
        (
            "port = 443, server_name = \"192.0.2.7\"",
            "[2001:db8:5::11]",
            Some("192.0.2.7"),
        ),
    ] {
        if host.is_empty() {
            assert_eq!(wrong(&pool(health)).len(), 1, "{health}");
            continue;
        }
        let (found, tls) = asked(health);
        assert_eq!(found, host, "{health}");
        let name = name.map(|name| ServerName::try_from(name).expect("a name"));
        assert_eq!(tls.server_name, name, "{health}");
    }
    for host in ["!", "[www.example.com]", "[2001:db8::7", "a..b:443"] {
        let [error] = &wrong(&pool(&format!("port = 443, host = \"{host}\"")))[..] else {
            panic!("{host}")
        };
        assert!(error.contains("without server_name"), "{error}");
    }
}

#[test]
fn authorities_are_those_of_the_file_when_it_was_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("authorities.pem");
    let health = format!("port = 443, verify = \"{}\"", path.display());
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    write(AUTHORITY);
    let first = right(&pool(&health));
    assert_eq!(first, right(&pool(&health)));
    let json = serde_json::to_value(&first).expect("plain values");
    let probe = &json["steering"]["pools"][0]["health"]["probe"]["http"];
    assert_eq!(probe["tls"]["verify"], true, "{json}");
    assert_ne!(first, right(&pool("port = 443, verify = false")));
    assert_eq!(
        right(&pool("port = 443, verify = false")),
        right(&pool("port = 443"))
    );
    // A reload takes what is in it then, and other words beside a certificate are passed over.
    write(&format!("Of the company:\n{AUTHORITY}\n{OTHER}"));
    assert_ne!(first, right(&pool(&health)));

    let damaged = AUTHORITY.replacen("MII", "NII", 1);
    let cut = &AUTHORITY[..AUTHORITY.len() - 40];
    for (text, expected) in [
        (
            damaged.clone(),
            "has a certificate, number 1, that cannot be read",
        ),
        (
            format!("{OTHER}{damaged}"),
            "has a certificate, number 2, that cannot be read",
        ),
        (cut.to_owned(), "is not PEM"),
        (String::new(), "has no certificate"),
        (
            include_str!("../../../tests/tls/server.key").to_owned(),
            "has no certificate",
        ),
    ] {
        write(&text);
        let [error] = &wrong(&pool(&health))[..] else {
            panic!("{text}")
        };
        assert!(error.starts_with("10 pools[0].health.verify: "), "{error}");
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("authorities.pem"), "{error}");
    }
    // Each pool that names it is told of.
    let two = format!(
        "{}{}",
        pool(&health),
        "[[pools]]\nname = \"b\"\nservers = [{ address = \"2001:db8:5::12\" }]\n"
    );
    let two = format!("{two}health = {{ kind = \"https\", {health} }}\n");
    assert_eq!(wrong(&two).len(), 2);
}

/// The authorities of this machine, where it has some.
#[test]
fn verify_is_true_with_the_authorities_of_this_machine() {
    const FILE: &str = "/etc/ssl/certs/ca-certificates.crt";
    let text = pool("port = 443, verify = true");
    if Path::new(FILE).exists() {
        let (_, tls) = asked("port = 443, verify = true");
        assert_ne!(tls.trust, asked("port = 443").1.trust);
    } else {
        assert!(wrong(&text)[0].contains(FILE));
    }
}
