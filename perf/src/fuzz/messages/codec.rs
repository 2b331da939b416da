//! The codec: what is read can be written and read again, is no longer than it was, and is not authentic by chance.

use control::proto::lisp::wire::auth::{self, Acceptance, Algorithm, Secret};
use control::proto::lisp::wire::{
    Encapsulated, Identity, Message, Notify, Registration, Reply, ReplyFlags, emit, enclose, kind,
    open, parse, types,
};

use super::Reached;
use super::script::Script;

/// What a run must have reached: every type, and most reasons to refuse one.
#[cfg(test)]
pub const MATTERS: &[&str] = &[
    "map_request",
    "map_reply",
    "map_register",
    "map_notify",
    "map_notify_ack",
    "encapsulated",
    "other",
    "packet",
    "truncated",
    "unknown_type",
    "unknown_afi",
    "no_itr_rloc",
    "mask_length",
    "mac_length",
    "trailing",
    "inner_header",
    "inner_checksum",
    "inner_length",
    "inner_version",
    "lcaf_length",
];

/// What an EID or an RLOC takes at least: family 0 and nothing else.
const ADDRESS_LEN_MIN: usize = 2;

pub fn check(input: &[u8]) -> Reached {
    let mut reached = Reached::new();
    let mut reach = |name| *reached.entry(name).or_default() += 1;
    if let Ok((from, to, message)) = open(input) {
        reach("packet");
        let again = enclose(from, to, message);
        assert_eq!(
            open(&again),
            Ok((from, to, message)),
            "a packet is read back as it was written"
        );
    }
    let message = match parse(input) {
        Ok(message) => message,
        Err(error) => {
            reach(error.cause());
            assert!(!error.to_string().is_empty(), "an error says what is wrong");
            return reached;
        }
    };
    let (name, said) = match &message {
        Message::Request(request) => ("map_request", request.itr_rlocs.len() + request.asked.len()),
        Message::Reply(reply) => ("map_reply", reply.records.len()),
        Message::Register(register) => ("map_register", judged(input, &register.body)),
        Message::Notify(notify) => ("map_notify", judged(input, &notify.body)),
        Message::NotifyAck(ack) => ("map_notify_ack", judged(input, &ack.body)),
        Message::Encapsulated(encapsulated) => {
            ("encapsulated", encapsulated.request.itr_rlocs.len())
        }
        Message::Other(_) => ("other", 0),
    };
    reach(name);
    assert!(
        said * ADDRESS_LEN_MIN <= input.len(),
        "{said} things in {} bytes",
        input.len()
    );
    let again = emit(&message);
    assert_eq!(kind(&again), kind(input), "it stays what it is");
    assert!(
        again.len() <= input.len(),
        "{} bytes became {}",
        input.len(),
        again.len()
    );
    assert_eq!(
        parse(&again).as_ref(),
        Ok(&message),
        "it is read back as it was written"
    );
    if let Message::Encapsulated(_) = message {
        let forwarded = Encapsulated::emit_forwarded(input);
        assert_eq!(
            forwarded.get(4..),
            input.get(4..),
            "what is inside stays as it is"
        );
        assert!(parse(&forwarded).is_ok(), "whoever gets it can read it");
    }
    reached
}

/// Nobody knows this secret, so nothing is authentic until it is sealed, and then everything is that has room for it. How
/// many records there are.
fn judged(input: &[u8], body: &Registration) -> usize {
    let secret = Secret::new(b"nobody knows this one");
    for strict in [true, false] {
        let judged = auth::verify(input, body, &secret, Acceptance { strict });
        assert!(judged.is_err(), "authentic by chance");
    }
    let mut sealed = input.to_vec();
    let is_sealed = auth::seal(&mut sealed, &secret).is_ok();
    let has_room = Algorithm::new(body.algorithm_id).is_some_and(|algorithm| {
        [algorithm.mac_len(), algorithm.full_mac_len()].contains(&body.mac.len())
    });
    assert_eq!(is_sealed, has_room, "sealed where there is room");
    if is_sealed {
        let read = match parse(&sealed) {
            Ok(Message::Register(register)) => register.body,
            Ok(Message::Notify(notify) | Message::NotifyAck(notify)) => notify.body,
            other => panic!("sealing made {other:?} of it"),
        };
        let judged = auth::verify(&sealed, &read, &secret, Acceptance { strict: false });
        assert_eq!(judged, Ok(()), "what was sealed is authentic");
    }
    body.records.len()
}

/// Messages of every type, of a few scripts.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for bytes in super::script::seeds(8) {
        let mut script = Script::new(&bytes);
        for _ in 0..4 {
            let request = script.request(&[]);
            let packet = enclose(
                "[2001:db8::1]:4342".parse().expect("a constant"),
                "[2001:db8::2]:4342".parse().expect("a constant"),
                &emit(&request),
            );
            seeds.push(packet);
            seeds.push(emit(&request));
            let key = script.key();
            let reply = Reply {
                flags: ReplyFlags::default(),
                nonce: script.u64(),
                records: script.records(key),
            };
            let algorithm = Algorithm::ALL[script.below(3)];
            let body = Registration {
                nonce: script.u64(),
                key_id: 1,
                algorithm_id: algorithm.id(),
                mac: vec![0; algorithm.mac_len()],
                records: script.records(key),
                identity: script.is().then_some(Identity {
                    xtr_id: 7,
                    site_id: 1,
                }),
            };
            seeds.push(emit(&Message::Reply(reply)));
            let notify = emit(&Message::Notify(Notify { body }));
            for kind in [
                types::MAP_REGISTER,
                types::MAP_NOTIFY_ACK,
                types::MAP_REFERRAL,
                types::SHARED_EXTENSION,
            ] {
                let mut other = notify.clone();
                other[0] = kind << 4 | (other[0] & 0x0f);
                seeds.push(other);
            }
            seeds.push(notify);
        }
    }
    seeds
}
