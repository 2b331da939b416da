//! What a million registered EIDs take in a Map-Server: at most 400 bytes each, everything counted that the process
//! holds.
//!
//! A test of its own program, so that nothing else makes the process larger. Prints what it measured.

use std::fs;
use std::io::Write as _;
use std::net::Ipv6Addr;
use std::time::Instant;

use control::proto::lisp::mapserver::{Allowed, Counter, Machine, Rate, Settings, Site};
use control::proto::lisp::wire::auth::{self, Algorithm, Secret};
use control::proto::lisp::wire::{
    Act, LocatorRecord, Message, Record, Register, RegisterFlags, Registration, emit,
};
use control::proto::lisp::{EidKey, InstanceId, Locator};

const EIDS: u32 = 1_000_000;
const BYTES_PER_EID_MAX: u64 = 400;
/// Of one Map-Register: as many as 1280 bytes hold.
const RECORDS: u32 = 15;

/// Bytes of the process that are in memory.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn key(eid: &str) -> EidKey {
    EidKey {
        instance: InstanceId::default(),
        eid: eid.parse().unwrap(),
    }
}

/// Hosts scattered over a /32, each with two locators.
fn record(number: u32) -> Record {
    let scattered = number.wrapping_mul(0x9e37_79b1);
    let address =
        u128::from("2001:db8::".parse::<Ipv6Addr>().unwrap()) | u128::from(scattered) << 32;
    let mut key = key("::/0");
    key.eid = std::net::IpAddr::V6(address.into()).into();
    let locators = ["192.0.2.1", "2001:db8:ffff::1"];
    let locators = locators.map(|rloc| LocatorRecord::new(Locator::new(rloc.parse().unwrap())));
    Record {
        locators: locators.to_vec(),
        ..Record::negative(key, Act::default(), 1440)
    }
}

#[test]
fn a_million_eids_take_at_most_400_bytes_each() {
    let secret = Secret::new(b"secret");
    let mut site = Site::new("all");
    site.keys = vec![(0, secret.clone())];
    site.prefixes = vec![Allowed::new(key("2001:db8::/32"), true)];
    let fast = Rate {
        per_second: 10_000_000,
        burst: 10_000_000,
    };
    let settings = Settings {
        sites: vec![site],
        registers: fast,
        ..Settings::default()
    };
    let now = Instant::now();
    let mut machine = Machine::new(now, settings, fastrand::Rng::with_seed(1));
    let from = "[2001:db8:ffff::1]:4342".parse().unwrap();
    let before = resident();
    for (nonce, first) in (1..).zip((0..EIDS).step_by(15)) {
        let last = (first + RECORDS).min(EIDS);
        let mut bytes = emit(&Message::Register(Register {
            flags: RegisterFlags::default(),
            body: Registration {
                nonce,
                key_id: 0,
                algorithm_id: Algorithm::HmacSha256.id(),
                mac: vec![0; 16],
                records: (first..last).map(record).collect(),
                identity: None,
            },
        }));
        auth::seal(&mut bytes, &secret).unwrap();
        machine.handle_input(now, from, from, &bytes);
    }
    let bytes_per_eid = (resident() - before) / u64::from(EIDS);
    // Not `eprintln`, which the test harness would swallow.
    let text = format!("\n{EIDS} registered EIDs: {bytes_per_eid} bytes each\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    assert_eq!(machine.registrations(), 1_000_000);
    assert_eq!(machine.counters().count(Counter::RecordAccepted), 1_000_000);
    assert!(bytes_per_eid <= BYTES_PER_EID_MAX, "{bytes_per_eid}");
}
