//! Known values, computed from the RFCs with another implementation of the hashes, and what is not accepted.

use super::super::{Identity, Message, Register, RegisterFlags, emit, parse};
use super::*;

const LAX: Acceptance = Acceptance { strict: false };
const STRICT: Acceptance = Acceptance { strict: true };

fn secret() -> Secret {
    Secret::new(b"correct horse")
}

fn register(algorithm: Algorithm, mac_len: usize, identity: Option<Identity>) -> Vec<u8> {
    let message = Message::Register(Register {
        flags: RegisterFlags::default(),
        body: Registration {
            nonce: 0x0102_0304_0506_0708,
            key_id: 1,
            algorithm_id: algorithm.id(),
            mac: vec![0; mac_len],
            records: Vec::new(),
            identity,
        },
    });
    let mut bytes = emit(&message);
    seal(&mut bytes, &secret()).unwrap();
    bytes
}

fn verified(bytes: &[u8], secret: &Secret, acceptance: Acceptance) -> Result<(), Refused> {
    let Ok(Message::Register(register)) = parse(bytes) else {
        panic!("a Map-Register")
    };
    verify(bytes, &register.body, secret, acceptance)
}

const WHO: Identity = Identity {
    xtr_id: 7,
    site_id: 9,
};

#[test]
fn known_messages_have_known_macs() {
    let cases: [(Algorithm, usize, &str); 5] = [
        (Algorithm::HmacSha1, 12, "9d772db65521db8e50984507"),
        (
            Algorithm::HmacSha1,
            20,
            "6f42e4be0937d285cec69407bd6ec9b84b1b9275",
        ),
        (
            Algorithm::HmacSha256,
            16,
            "0e6da678de79687c3ebc4bcee33e4f43",
        ),
        (
            Algorithm::HmacSha256,
            32,
            "05573cfdf14869f616ba3c707537eba5260f6a7ec899ed13d011d1808f19e2ff",
        ),
        (
            Algorithm::HkdfSha256,
            16,
            "5b8ad09227cfe5046bd2389db33dd41b",
        ),
    ];
    for (algorithm, length, expected) in cases {
        let bytes = register(algorithm, length, None);
        let mac: String = bytes[16..].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(mac, expected, "{algorithm:?} {length}");
    }
}

#[test]
fn the_derived_key_differs_by_message_and_nonce() {
    let keys = [
        derive_key(&secret(), 1, types::MAP_REGISTER),
        derive_key(&secret(), 1, types::MAP_NOTIFY),
        derive_key(&secret(), 1, types::MAP_NOTIFY_ACK),
        derive_key(&secret(), 2, types::MAP_REGISTER),
        derive_key(&Secret::new(b"correct horsf"), 1, types::MAP_REGISTER),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[at + 1..].contains(key));
    }
}

/// R-07 of the requirements: one changed bit anywhere, the authentication data included, and it is refused.
#[test]
fn what_was_sealed_is_authentic_and_nothing_else_is() {
    for algorithm in Algorithm::ALL {
        for length in [algorithm.mac_len(), algorithm.full_mac_len()] {
            let bytes = register(algorithm, length, Some(WHO));
            assert_eq!(verified(&bytes, &secret(), LAX), Ok(()));
            let wrong = verified(&bytes, &Secret::new(b"correct horsd"), LAX);
            assert_eq!(wrong, Err(Refused::Mac));
            for at in 4..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                if let Ok(Message::Register(register)) = parse(&damaged) {
                    assert!(verify(&damaged, &register.body, &secret(), LAX).is_err());
                }
            }
        }
    }
}

/// the length field decides, never less than the algorithm's, never none.
#[test]
fn short_and_odd_lengths_are_refused_before_anything_is_computed() {
    for algorithm in Algorithm::ALL {
        let good = [algorithm.mac_len(), algorithm.full_mac_len()];
        for length in (0..=32).filter(|length| !good.contains(length)) {
            let mut bytes = register(algorithm, algorithm.full_mac_len(), None);
            bytes.truncate(16 + length.min(bytes.len() - 16));
            bytes.resize(16 + length, 0);
            bytes[15] = u8::try_from(length).unwrap();
            assert_eq!(
                verified(&bytes, &secret(), LAX),
                Err(Refused::Length(length))
            );
        }
        let full = register(algorithm, algorithm.full_mac_len(), None);
        let length = algorithm.full_mac_len();
        assert_eq!(
            verified(&full, &secret(), STRICT),
            Err(Refused::Length(length))
        );
    }
}

#[test]
fn no_authentication_is_refused() {
    for id in [0, 4, 255] {
        let mut bytes = register(Algorithm::HmacSha256, 16, None);
        bytes[13] = id;
        assert_eq!(
            verified(&bytes, &secret(), LAX),
            Err(Refused::Algorithm(id))
        );
        assert_eq!(seal(&mut bytes, &secret()), Err(Refused::Algorithm(id)));
    }
}

/// RFC 9301 5.6 can be read both ways.
#[test]
fn a_mac_up_to_the_last_record_is_accepted_unless_strict() {
    let whole = register(Algorithm::HmacSha256, 16, Some(WHO));
    let end = whole.len() - Identity::LEN;
    let mut to_records = whole.clone();
    let (head, _) = to_records.split_at_mut(end);
    seal(head, &secret()).unwrap();
    assert_ne!(whole, to_records);
    assert_eq!(verified(&to_records, &secret(), LAX), Ok(()));
    assert_eq!(verified(&to_records, &secret(), STRICT), Err(Refused::Mac));
    assert_eq!(verified(&whole, &secret(), STRICT), Ok(()));
}

#[test]
fn the_secret_is_not_shown() {
    assert_eq!(format!("{:?}", secret()), "Secret");
}
