//! What is said: templates in which a number and a nonce are all that changes, so that making a message and judging an
//! answer takes the generator less than the server takes to answer.
//!
//! Host `number` has an EID of its own in 2001:db8::/32 and a locator of its own in 10.0.0.0/8: an answer for another one
//! differs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, bail, ensure};
use control::proto::lisp::wire::auth::{self, Acceptance, Algorithm, Secret};
use control::proto::lisp::wire::{
    Act, Identity, LocatorRecord, Message, Record, Register, RegisterFlags, Registration, Reply,
    ReplyFlags, Request, emit, parse,
};
use control::proto::lisp::{EidKey, InstanceId, Locator};

/// The secret of the one site.
pub const SECRET: &str = "correct horse";
/// The one site's prefix.
pub const PREFIX: &str = "2001:db8::/32";
/// Records of a Map-Register that makes the table: as many as 576 bytes hold.
pub const RECORDS: usize = 12;
/// Minutes a mapping holds.
const TTL_MINUTES: u32 = 1440;
/// Of authentication data: that of HMAC-SHA-256-128.
const MAC_LEN: usize = 16;
/// Where a nonce is in every message but an encapsulated one.
const NONCE_AT: usize = 4;
/// Address bytes of an EID, and what lies between them and those of the only locator: its header and address family.
const EID_LEN: usize = 16;
const TO_RLOC: usize = EID_LEN + 8;

/// The EID of a host, scattered over the prefix.
#[must_use]
pub fn eid(number: u32) -> Ipv6Addr {
    // An odd factor: every number has its own place.
    let scattered = u128::from(number.wrapping_mul(0x9e37_79b1));
    Ipv6Addr::from((0x2001_0db8 << 96) | (scattered << 32))
}

fn rloc(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | (number & 0x00ff_ffff))
}

fn key(number: u32) -> EidKey {
    EidKey {
        instance: InstanceId::default(),
        eid: IpAddr::V6(eid(number)).into(),
    }
}

fn record(number: u32) -> Record {
    let locator = Locator::new(rloc(number).into());
    Record {
        locators: vec![LocatorRecord::new(locator)],
        ..Record::negative(key(number), Act::default(), TTL_MINUTES)
    }
}

/// A question for a host, to be answered to this address.
#[must_use]
pub fn request(nonce: u64, number: u32, itr: IpAddr) -> Message {
    Message::Request(Request::new(nonce, vec![itr], key(number)))
}

/// The only right answer.
#[must_use]
pub fn reply(nonce: u64, number: u32) -> Message {
    Message::Reply(Reply {
        flags: ReplyFlags::default(),
        nonce,
        records: vec![record(number)],
    })
}

/// What router `router` registers, with room for authentication data.
#[must_use]
pub fn register(nonce: u64, numbers: impl IntoIterator<Item = u32>, router: u32) -> Message {
    Message::Register(Register {
        flags: RegisterFlags {
            proxy_reply: true,
            want_notify: true,
            ..RegisterFlags::default()
        },
        body: Registration {
            nonce,
            key_id: 1,
            algorithm_id: Algorithm::HmacSha256.id(),
            mac: vec![0; MAC_LEN],
            records: numbers.into_iter().map(record).collect(),
            identity: Some(Identity {
                xtr_id: u128::from(router) + 1,
                site_id: 1,
            }),
        },
    })
}

/// A Map-Register of these hosts as it goes out.
#[must_use]
pub fn sealed(
    nonce: u64,
    numbers: impl IntoIterator<Item = u32>,
    router: u32,
    secret: &Secret,
) -> Vec<u8> {
    let mut bytes = emit(&register(nonce, numbers, router));
    seal(&mut bytes, secret);
    bytes
}

/// Authenticate what has room for it.
pub fn seal(bytes: &mut [u8], secret: &Secret) {
    auth::seal(bytes, secret).expect("the message says HMAC-SHA-256 and has its 16 bytes");
}

/// Whether this is the authentic Map-Notify to what router `router` registered.
///
/// # Errors
/// When it is not, and why.
pub fn check_notify(
    bytes: &[u8],
    nonce: u64,
    numbers: impl IntoIterator<Item = u32>,
    router: u32,
    secret: &Secret,
) -> Result<()> {
    let Message::Notify(mut notify) = parse(bytes).context("an answer cannot be read")? else {
        bail!("a Map-Register was answered by something that is no Map-Notify");
    };
    auth::verify(bytes, &notify.body, secret, Acceptance { strict: true })
        .context("a Map-Notify is not authentic")?;
    notify.body.mac.fill(0);
    let Message::Register(registered) = register(nonce, numbers, router) else {
        bail!("a Map-Register is one");
    };
    ensure!(
        notify.body == registered.body,
        "a Map-Notify says something else than was registered: {:?}",
        notify.body
    );
    Ok(())
}

/// Nonce of a message.
#[must_use]
pub fn nonce_of(bytes: &[u8]) -> Option<u64> {
    let nonce = bytes.get(NONCE_AT..)?.first_chunk()?;
    Some(u64::from_be_bytes(*nonce))
}

/// A message with one host in it, and where that is.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Vec<u8>,
    eid_at: usize,
    rloc_at: Option<usize>,
}

impl Template {
    /// Of [`request`].
    #[must_use]
    pub fn request(itr: IpAddr) -> Self {
        let bytes = emit(&request(0, 0, itr));
        Self {
            eid_at: bytes.len() - EID_LEN,
            rloc_at: None,
            bytes,
        }
    }

    /// Of [`reply`].
    #[must_use]
    pub fn reply() -> Self {
        Self::with_locator(emit(&reply(0, 0)), 0)
    }

    /// Of [`register`].
    #[must_use]
    pub fn register(router: u32) -> Self {
        Self::with_locator(emit(&register(0, [0], router)), Identity::LEN)
    }

    /// Its record ends so many bytes before it does.
    fn with_locator(bytes: Vec<u8>, behind: usize) -> Self {
        let rloc_at = bytes.len() - behind - 4;
        Self {
            eid_at: rloc_at - TO_RLOC,
            rloc_at: Some(rloc_at),
            bytes,
        }
    }

    /// For this host, with this nonce.
    pub fn fill(&mut self, nonce: u64, number: u32) -> &mut [u8] {
        let Self {
            bytes,
            eid_at,
            rloc_at,
        } = self;
        bytes[NONCE_AT..NONCE_AT + 8].copy_from_slice(&nonce.to_be_bytes());
        bytes[*eid_at..*eid_at + EID_LEN].copy_from_slice(&eid(number).octets());
        if let Some(at) = *rloc_at {
            bytes[at..at + 4].copy_from_slice(&rloc(number).octets());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [u32; 4] = [0, 1, 49_999, 999_999];

    #[test]
    fn a_filled_template_is_the_message() {
        for number in NUMBERS {
            let nonce = 0x0102_0304_0506_0708 + u64::from(number);
            for itr in ["127.77.0.2", "::1"] {
                let itr = itr.parse().expect("an address");
                let expected = emit(&request(nonce, number, itr));
                assert_eq!(Template::request(itr).fill(nonce, number), expected);
            }
            let expected = emit(&reply(nonce, number));
            assert_eq!(Template::reply().fill(nonce, number), expected);
            let expected = emit(&register(nonce, [number], 3));
            assert_eq!(Template::register(3).fill(nonce, number), expected);
            assert_eq!(nonce_of(&expected), Some(nonce));
        }
    }

    #[test]
    fn a_map_register_of_the_table_fits_into_576_bytes() {
        let numbers = 0..u32::try_from(RECORDS).expect("a few");
        let bytes = sealed(1, numbers, 0, &Secret::new(SECRET.as_bytes()));
        assert!(bytes.len() <= control::proto::lisp::wire::message_max(true));
    }

    #[test]
    fn only_the_authentic_answer_to_what_was_registered_passes() {
        let secret = Secret::new(SECRET.as_bytes());
        let Message::Register(register) = register(7, [5, 6], 2) else {
            panic!("it is one");
        };
        let notify = control::proto::lisp::wire::Notify {
            body: register.body,
        };
        let mut bytes = emit(&Message::Notify(notify));
        let check = |bytes: &[u8], nonce, numbers: [u32; 2]| {
            check_notify(bytes, nonce, numbers, 2, &secret).is_ok()
        };
        assert!(!check(&bytes, 7, [5, 6]), "not authenticated");
        seal(&mut bytes, &secret);
        assert!(check(&bytes, 7, [5, 6]));
        assert!(!check(&bytes, 8, [5, 6]) && !check(&bytes, 7, [5, 7]));
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        assert!(!check(&bytes, 7, [5, 6]), "changed");
    }
}
