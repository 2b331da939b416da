//! The map-cache against a plain list, and every bound on misses.

mod cache;
mod misses;

use std::net::IpAddr;

use super::*;

fn key(instance: u32, eid: &str) -> EidKey {
    EidKey {
        instance: InstanceId::new(instance).expect("24 bits"),
        eid: eid.parse().expect("a prefix"),
    }
}

fn rloc(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Locators 2001:db8::1, 2001:db8::2, ... of these priorities and weights.
fn locators(pairs: &[(u8, u8)]) -> Mapping {
    let locators = pairs
        .iter()
        .zip(1..)
        .map(|((priority, weight), number)| Locator {
            rloc: rloc(&format!("2001:db8::{number}")),
            priority: *priority,
            weight: *weight,
            up: true,
        });
    Mapping::Locators {
        locators: locators.collect(),
        version: 0,
    }
}

#[test]
fn instance_ids_have_24_bits() {
    assert_eq!(
        InstanceId::new(0x00ff_ffff).map(InstanceId::get),
        Some(0x00ff_ffff)
    );
    assert_eq!(InstanceId::new(0x0100_0000), None);
    assert_eq!("7".parse(), Ok(InstanceId::new(7).unwrap()));
    let error = "16777216".parse::<InstanceId>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"16777216\" is not an instance id, expected 0 to 16777215"
    );
    assert!(serde_json::from_str::<InstanceId>("16777216").is_err());
}

#[test]
fn actions_have_one_word_everywhere() {
    for action in Action::ALL {
        assert_eq!(serde_json::to_value(action).unwrap(), action.name());
    }
}
