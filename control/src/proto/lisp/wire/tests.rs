//! Messages of which every byte is known, and what must be refused.

mod properties;

use std::net::IpAddr;

use super::*;
use crate::proto::lisp::{Action, EidKey, InstanceId, Locator};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(instance: u32, eid: &str) -> EidKey {
    EidKey {
        instance: InstanceId::new(instance).unwrap(),
        eid: eid.parse().unwrap(),
    }
}

/// Bytes written as hexadecimal digits, with blanks between fields.
fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|digit| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn assert_known(message: &Message, text: &str) {
    let expected = bytes(text);
    assert_eq!(emit(message), expected, "emitted");
    assert_eq!(parse(&expected).as_ref(), Ok(message), "parsed");
}

fn record() -> Record {
    let first = Locator {
        rloc: ip("192.0.2.1"),
        priority: 1,
        weight: 60,
        up: true,
    };
    let second = Locator {
        rloc: ip("2001:db8:f::2"),
        priority: 2,
        weight: 40,
        up: false,
    };
    Record {
        key: key(0, "2001:db8:1::/48"),
        ttl_minutes: 1440,
        act: Act::default(),
        is_authoritative: true,
        map_version: 0x123,
        locators: vec![
            LocatorRecord {
                is_local: true,
                is_probed: true,
                ..LocatorRecord::new(first)
            },
            LocatorRecord::new(second),
        ],
    }
}

const RECORD: &str = "000005a0 02 30 1000 0123 0002 20010db8000100000000000000000000
    01 3c ff 00 0007 0001 c0000201
    02 28 ff 00 0000 0002 20010db8000f00000000000000000002";

const WHO: Identity = Identity {
    xtr_id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
    site_id: 0x2122_2324_2526_2728,
};
const WHO_BYTES: &str = "0102030405060708090a0b0c0d0e0f10 2122232425262728";

fn registration() -> Registration {
    Registration {
        nonce: 0x1122_3344_5566_7788,
        key_id: 3,
        algorithm_id: 2,
        mac: (0..16).collect(),
        records: vec![record()],
        identity: Some(WHO),
    }
}

const REGISTRATION: &str = "1122334455667788 03 02 0010 000102030405060708090a0b0c0d0e0f";

/// RFC 9301 5.2.
#[test]
fn map_request_bytes() {
    let request = Request {
        flags: RequestFlags {
            authoritative: true,
            probe: true,
            solicit: true,
            pitr: true,
            smr_invoked: true,
            local_xtr: true,
            no_reply: true,
        },
        nonce: 0x1122_3344_5566_7788,
        source: Some(EidAddress {
            instance: InstanceId::new(7).unwrap(),
            address: ip("10.0.0.1"),
        }),
        itr_rlocs: vec![ip("192.0.2.9"), ip("2001:db8:f::9")],
        asked: vec![Asked {
            key: key(7, "10.1.0.0/16"),
            subscribe: true,
        }],
        own: Some(record()),
        identity: Some(WHO),
    };
    let text = format!(
        "1f d0 61 01 1122334455667788
         4003 00 00 02 00 000a 00000007 0001 0a000001
         0001 c0000209 0002 20010db8000f00000000000000000009
         80 10 4003 00 00 02 00 000a 00000007 0001 0a010000
         {RECORD} {WHO_BYTES}"
    );
    assert_known(&Message::Request(request), &text);
}

#[test]
fn plain_map_request_bytes() {
    let request = Request::new(5, vec![ip("192.0.2.9")], key(0, "2001:db8::1/128"));
    let text = "10 00 00 01 0000000000000005 0000 0001 c0000209
        00 80 0002 20010db8000000000000000000000001";
    assert_known(&Message::Request(request), text);
}

/// RFC 9301 5.4.
#[test]
fn map_reply_bytes() {
    let negative = Record::negative(key(0, "0.0.0.0/1"), Action::Native.into(), 15);
    let reply = Reply {
        flags: ReplyFlags {
            probe: true,
            echo_nonce: true,
        },
        nonce: 6,
        records: vec![record(), negative],
    };
    let text = format!(
        "2c 00 00 02 0000000000000006 {RECORD}
         0000000f 00 01 2000 0000 0001 00000000"
    );
    assert_known(&Message::Reply(reply), &text);
}

/// RFC 9301 5.6.
#[test]
fn map_register_bytes() {
    let register = Register {
        flags: RegisterFlags {
            proxy_reply: true,
            security: true,
            eid_notify: true,
            use_ttl: true,
            merge: true,
            want_notify: true,
        },
        body: registration(),
    };
    let text = format!("3e 00 1d 01 {REGISTRATION} {RECORD} {WHO_BYTES}");
    assert_known(&Message::Register(register), &text);
    let bare = Register {
        flags: RegisterFlags::default(),
        body: Registration {
            identity: None,
            ..registration()
        },
    };
    assert_known(
        &Message::Register(bare),
        &format!("30 00 00 01 {REGISTRATION} {RECORD}"),
    );
}

/// RFC 9301 5.7.
#[test]
fn map_notify_and_ack_bytes() {
    let body = registration();
    let notify = Message::Notify(Notify { body: body.clone() });
    let text = format!("48 00 00 01 {REGISTRATION} {RECORD} {WHO_BYTES}");
    assert_known(&notify, &text);
    let body = Registration {
        identity: None,
        ..body
    };
    let ack = Message::NotifyAck(Notify { body });
    assert_known(&ack, &format!("50 00 00 01 {REGISTRATION} {RECORD}"));
}

/// Some peers announce the trailer in one bit, some in none: the bytes decide.
#[test]
fn a_notify_has_its_identity_with_and_without_the_bit() {
    for first in ["48", "40", "4a"] {
        let text = format!("{first} 00 00 01 {REGISTRATION} {RECORD} {WHO_BYTES}");
        let Ok(Message::Notify(notify)) = parse(&bytes(&text)) else {
            panic!("a Map-Notify")
        };
        assert_eq!(notify.body.identity, Some(WHO));
    }
    let text = format!("40 00 00 01 {REGISTRATION} {RECORD} 00000000");
    assert_eq!(parse(&bytes(&text)), Err(Error::Trailing(4)));
    let text = format!("32 00 00 01 {REGISTRATION} {RECORD}");
    assert_eq!(parse(&bytes(&text)), Err(Error::NoIdentity));
}

fn encapsulated(source: &str, destination: &str) -> Encapsulated {
    Encapsulated {
        ddt: true,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        request: Request::new(5, vec![ip("192.0.2.9")], key(0, "10.1.2.3/32")),
    }
}

/// The request in [`encapsulated`].
const INNER: &str = "10000001 0000000000000005 0000 0001c0000209 0020 0001 0a010203";

/// RFC 9301 5.8, over IPv4: header checksum and UDP checksum as a calculator says.
#[test]
fn encapsulated_bytes_over_ipv4() {
    let message = Message::Encapsulated(encapsulated("192.0.2.9:4342", "10.1.2.3:4342"));
    let text = format!(
        "84000000
         4500 0038 0000 0000 4011 aca8 c0000209 0a010203
         10f6 10f6 0024 3177 {INNER}"
    );
    assert_known(&message, &text);
}

#[test]
fn encapsulated_bytes_over_ipv6() {
    let message = Message::Encapsulated(encapsulated("[2001:db8::9]:5000", "[2001:db8::1]:4342"));
    let text = format!(
        "84000000
         60000000 0024 11 40 20010db8000000000000000000000009 20010db8000000000000000000000001
         1388 10f6 0024 a176 {INNER}"
    );
    assert_known(&message, &text);
}

/// G-04 and E-01, E-02 of the requirements.
#[test]
fn what_must_not_be_encapsulated_is_refused() {
    let good = emit(&Message::Encapsulated(encapsulated(
        "192.0.2.9:4342",
        "10.1.2.3:4342",
    )));
    let damaged = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        parse(&bytes)
    };
    assert_eq!(damaged(0, 0x88), Err(Error::Security));
    assert_eq!(damaged(4, 0x55), Err(Error::InnerVersion(5)));
    assert_eq!(damaged(10, 1), Err(Error::InnerHeader), "header checksum");
    let last = good.len() - 1;
    assert_eq!(damaged(last, 4), Err(Error::InnerChecksum));
    let mut unsummed = good.clone();
    unsummed[30..32].fill(0);
    assert_eq!(parse(&unsummed), Err(Error::InnerChecksum), "zero");
    for (source, destination) in [
        ("192.0.2.9:4341", "10.1.2.3:4342"),
        ("192.0.2.9:4342", "10.1.2.3:4341"),
    ] {
        let bytes = emit(&Message::Encapsulated(encapsulated(source, destination)));
        assert_eq!(parse(&bytes), Err(Error::InnerPort));
    }
    let mut probe = encapsulated("192.0.2.9:4342", "10.1.2.3:4342");
    probe.request.flags.probe = true;
    let bytes = emit(&Message::Encapsulated(probe));
    assert_eq!(parse(&bytes), Err(Error::InnerProbe));
}

/// E-02: no ECM in an ECM, no other message either.
#[test]
fn only_a_map_request_is_encapsulated() {
    for kind in (0..=15).filter(|kind| *kind != types::MAP_REQUEST) {
        let mut packet = bytes("84000000");
        let source = "[2001:db8::9]:4342".parse().unwrap();
        let destination = "[2001:db8::1]:4342".parse().unwrap();
        ecm::emit_packet(source, destination, &[kind << 4, 0, 0, 0], &mut packet);
        assert_eq!(parse(&packet), Err(Error::InnerType(kind)));
    }
}

#[test]
fn a_forwarded_message_is_the_same_inside() {
    let received = emit(&Message::Encapsulated(encapsulated(
        "192.0.2.9:4342",
        "10.1.2.3:4342",
    )));
    let forwarded = Encapsulated::emit_forwarded(&received);
    assert_eq!(forwarded[..4], [0x80, 0, 0, 0]);
    assert_eq!(forwarded[4..], received[4..]);
}

#[test]
fn types_nobody_understands_are_kept_or_refused() {
    for kind in [types::MAP_REFERRAL, types::SHARED_EXTENSION] {
        let bytes = vec![kind << 4, 1, 2];
        assert_eq!(parse(&bytes), Ok(Message::Other(bytes.clone())));
    }
    for kind in [0, 7, 9, 10, 11, 12, 13, 14] {
        assert_eq!(parse(&[kind << 4; 12]), Err(Error::UnknownType(kind)));
    }
    assert_eq!(parse(&[]), Err(Error::Truncated));
}

fn asked(eid: &str) -> Result<Message, Error> {
    let text = format!("10 00 00 01 0000000000000005 0000 0001 c0000209 {eid}");
    parse(&bytes(&text))
}

fn replied(locators: u8, addresses: &str) -> Result<Vec<IpAddr>, Error> {
    let text = format!(
        "20 00 00 01 0000000000000005 0000000f {locators:02x} 08 0000 0000 0001 0a000000 {addresses}"
    );
    parse(&bytes(&text)).map(|message| match message {
        Message::Reply(reply) => reply.records[0].locators.iter().map(|l| l.rloc).collect(),
        other => panic!("{other:?}"),
    })
}

/// G-06 of the requirements, RFC 9301 5.1: anywhere.
#[test]
fn an_unknown_family_condemns_the_message() {
    assert_eq!(asked("00 20 0009 0a010203"), Err(Error::UnknownAfi(9)));
    let locator = "01 01 ff 00 0001 0009 01020304";
    assert_eq!(replied(1, locator), Err(Error::UnknownAfi(9)));
    let listed = "01 01 ff 00 0001 4003 0000 0100 0008 0001 c0000201 0009";
    assert_eq!(replied(1, listed), Err(Error::UnknownAfi(9)));
}

/// G-07, RFC 9306 3.
#[test]
fn an_unknown_address_format_takes_away_only_its_locator() {
    let unknown = "01 01 ff 00 0001 4003 0000 6300 0003 aabbcc";
    let known = "01 01 ff 00 0001 0001 c0000201";
    assert_eq!(
        replied(2, &format!("{unknown} {known}")),
        Ok(vec![ip("192.0.2.1")])
    );
    assert_eq!(replied(1, unknown), Ok(vec![]));
    let eid = asked("00 20 4003 0000 6300 0003 aabbcc");
    assert_eq!(eid, Err(Error::UnknownEid(99)));
    let inside = asked("00 20 4003 0000 0200 000d 00000007 4003 0000 6300 0001 aa");
    assert_eq!(inside, Err(Error::UnknownEid(99)));
}

/// G-08, RFC 9306 4.
#[test]
fn a_vendors_address_format_condemns_the_message() {
    let vendor = "01 01 ff 00 0001 4003 0000 ff00 0006 00 00aabb cccc";
    assert_eq!(replied(1, vendor), Err(Error::VendorLcaf(0xaabb)));
    let eid = "00 20 4003 0000 ff00 0004 00 00aabb";
    assert_eq!(asked(eid), Err(Error::VendorLcaf(0xaabb)));
}

/// RFC 8060 4.16: every element is judged, the first address is used.
#[test]
fn a_list_of_families_is_its_first_address() {
    let list = "01 01 ff 00 0001 4003 0000 0100 0021
        4003 0000 6300 0001 aa 0001 c0000201 0002 20010db8000f00000000000000000002";
    assert_eq!(replied(1, list), Ok(vec![ip("192.0.2.1")]));
}

/// G-10: bounds.
#[test]
fn what_does_not_fit_is_refused() {
    assert_eq!(asked("00 21 0001 0a010203"), Err(Error::MaskLength(33)));
    let v6 = "00 81 0002 20010db8000000000000000000000001";
    assert_eq!(asked(v6), Err(Error::MaskLength(129)));
    assert_eq!(asked("00 00 0000"), Err(Error::NoEid));
    // An instance of 32 bits, an instance without an address.
    let wide = "00 20 4003 0000 0200 000a 01000000 0001 0a010203";
    assert_eq!(asked(wide), Err(Error::InstanceId(1 << 24)));
    let none = "00 20 4003 0000 0200 0006 00000007 0000";
    assert_eq!(asked(none), Err(Error::NoEid));
    // Lengths that disagree with what is in them.
    let long = "00 20 4003 0000 0200 000b 00000007 0001 0a010203 00";
    assert_eq!(asked(long), Err(Error::LcafLength));
    let short = "00 20 4003 0000 0200 0009 00000007 0001 0a010203";
    assert_eq!(asked(short), Err(Error::LcafLength));
    let beyond = "00 20 4003 0000 0200 0010 00000007 0001 0a010203";
    assert_eq!(asked(beyond), Err(Error::Truncated));
    // Formats three deep, and an instance in an instance.
    let deep = "01 01 ff 00 0001 4003 0000 0100 0016 4003 0000 0100 000e
        4003 0000 0100 0006 0001 c0000201";
    assert_eq!(replied(1, deep), Err(Error::Nesting));
    // More records than bytes.
    assert_eq!(replied(200, ""), Err(Error::Truncated));
    let text = format!(
        "30 00 00 01 0000000000000001 01 02 0021 {}",
        "00".repeat(40)
    );
    assert_eq!(parse(&bytes(&text)), Err(Error::MacLength(33)));
}

#[test]
fn bits_behind_the_mask_are_cleared() {
    let Ok(Message::Request(request)) = asked("00 10 0001 0a01ffff") else {
        panic!("a Map-Request")
    };
    assert_eq!(request.asked[0].key, key(0, "10.1.0.0/16"));
    let loose = Request::new(1, vec![ip("192.0.2.9")], key(0, "10.1.255.255/16"));
    assert!(loose.emit().ends_with(&[10, 1, 0, 0]));
}

/// nobody to answer to.
#[test]
fn a_request_without_an_itr_rloc_is_refused() {
    let text = "10 00 00 01 0000000000000005 0000 0000 0020 0001 0a010203";
    assert_eq!(parse(&bytes(text)), Err(Error::NoItrRloc));
    let unknown = "10 00 00 01 0000000000000005 0000 4003 0000 6300 0000 0020 0001 0a010203";
    assert_eq!(parse(&bytes(unknown)), Err(Error::NoItrRloc));
    let nothing = "10 00 00 00 0000000000000005 0000 0001 c0000209";
    assert_eq!(parse(&bytes(nothing)), Err(Error::NoRecords));
}

/// RFC 9301 5.1: reserved bits are ignored, and never come back.
#[test]
fn reserved_bits_are_ignored() {
    let plain = "10 00 00 01 0000000000000005 0000 0001 c0000209 00 20 0001 0a010203";
    let noisy = "10 2f 80 01 0000000000000005 0000 0001 c0000209 7f 20 0001 0a010203";
    assert_eq!(parse(&bytes(noisy)), parse(&bytes(plain)));
    let plain = "20 00 00 01 0000000000000005 0000000f 00 08 0000 0000 0001 0a000000";
    let noisy = "23 ff ff 01 0000000000000005 0000000f 00 08 0fff f000 0001 0a000000";
    assert_eq!(parse(&bytes(noisy)), parse(&bytes(plain)));
    let plain = format!("30 00 00 01 {REGISTRATION} {RECORD}");
    let noisy = format!("31 ff e2 01 {REGISTRATION} {RECORD}");
    assert_eq!(parse(&bytes(&noisy)), parse(&bytes(&plain)));
}

/// RFC 9301 5.4: the two unassigned values are kept and mean nothing.
#[test]
fn every_action_has_its_bits() {
    for bits in 0..8 {
        let act = Act::new(bits).unwrap();
        assert_eq!(act.bits(), bits);
        match act.action() {
            Some(action) => assert_eq!(Act::from(action), act),
            None => assert!(bits > 5),
        }
    }
    assert_eq!(Act::new(8), None);
}

/// P-03: as locator-status-bits number them.
#[test]
fn locators_are_sorted_ipv4_first() {
    let mut sorted = record();
    sorted.locators.reverse();
    sorted.sort_locators();
    assert_eq!(sorted, record());
    let mapping = sorted.mapping();
    assert_eq!(mapping.locators().len(), 2);
}

#[test]
fn a_record_knows_its_length() {
    for sample in [
        record(),
        Record::negative(key(9, "10.0.0.0/8"), Act::default(), 1),
    ] {
        let mut written = Vec::new();
        sample.emit(&mut written);
        assert_eq!(written.len(), sample.wire_len());
    }
}
