//! Laws of the codec: what is emitted is read back the same, and nothing that arrives makes it panic.

use std::net::SocketAddr;

use dataplane::testing::fault::{self, Rng};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ]
}

fn instance() -> impl Strategy<Value = InstanceId> {
    prop_oneof![Just(0), 0..=InstanceId::MAX].prop_map(|id| InstanceId::new(id).unwrap())
}

fn any_key() -> impl Strategy<Value = EidKey> {
    let v4 = (any::<u32>(), 0..=32_u8)
        .prop_map(|(bits, len)| IpNet::V4(Ipv4Net::new(bits.into(), len).unwrap().trunc()));
    let v6 = (any::<u128>(), 0..=128_u8)
        .prop_map(|(bits, len)| IpNet::V6(Ipv6Net::new(bits.into(), len).unwrap().trunc()));
    (instance(), prop_oneof![v4, v6]).prop_map(|(instance, eid)| EidKey { instance, eid })
}

fn locator() -> impl Strategy<Value = LocatorRecord> {
    (address(), any::<[u8; 4]>(), any::<[bool; 3]>()).prop_map(|(rloc, numbers, flags)| {
        let [priority, weight, multicast_priority, multicast_weight] = numbers;
        let [is_local, is_probed, is_reachable] = flags;
        LocatorRecord {
            rloc,
            priority,
            weight,
            multicast_priority,
            multicast_weight,
            is_local,
            is_probed,
            is_reachable,
        }
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    (
        any_key(),
        any::<u32>(),
        0..8_u8,
        any::<bool>(),
        0..4096_u16,
        vec(locator(), 0..6),
    )
        .prop_map(
            |(key, ttl_minutes, act, is_authoritative, map_version, locators)| Record {
                key,
                ttl_minutes,
                act: Act::new(act).unwrap(),
                is_authoritative,
                map_version,
                locators,
            },
        )
}

fn identity() -> impl Strategy<Value = Option<Identity>> {
    option::of(
        (any::<u128>(), any::<u64>()).prop_map(|(xtr_id, site_id)| Identity { xtr_id, site_id }),
    )
}

fn any_request(probe: impl Strategy<Value = bool>) -> impl Strategy<Value = Request> {
    let source = option::of(
        (instance(), address()).prop_map(|(instance, address)| EidAddress { instance, address }),
    );
    let asked = (any_key(), any::<bool>()).prop_map(|(key, subscribe)| Asked { key, subscribe });
    (
        (any::<[bool; 6]>(), probe),
        any::<u64>(),
        source,
        vec(address(), 1..=ITR_RLOCS_MAX),
        vec(asked, 1..5),
        option::of(any_record()),
        identity(),
    )
        .prop_map(
            |((flags, probe), nonce, source, itr_rlocs, asked, own, identity)| {
                let [
                    authoritative,
                    solicit,
                    pitr,
                    smr_invoked,
                    local_xtr,
                    no_reply,
                ] = flags;
                Request {
                    flags: RequestFlags {
                        authoritative,
                        probe,
                        solicit,
                        pitr,
                        smr_invoked,
                        local_xtr,
                        no_reply,
                    },
                    nonce,
                    source,
                    itr_rlocs,
                    asked,
                    own,
                    identity,
                }
            },
        )
}

fn any_registration() -> impl Strategy<Value = Registration> {
    (
        any::<u64>(),
        any::<u8>(),
        any::<u8>(),
        vec(any::<u8>(), 0..=32),
        vec(any_record(), 0..4),
        identity(),
    )
        .prop_map(
            |(nonce, key_id, algorithm_id, mac, records, identity)| Registration {
                nonce,
                key_id,
                algorithm_id,
                mac,
                records,
                identity,
            },
        )
}

fn any_encapsulated() -> impl Strategy<Value = Encapsulated> {
    let port = any::<u16>().prop_filter("not that of data", |port| *port != DATA_PORT);
    let v4 = (any::<u32>(), any::<u32>())
        .prop_map(|(a, b)| (IpAddr::V4(a.into()), IpAddr::V4(b.into())));
    let v6 = (any::<u128>(), any::<u128>())
        .prop_map(|(a, b)| (IpAddr::V6(a.into()), IpAddr::V6(b.into())));
    (
        any::<bool>(),
        prop_oneof![v4, v6],
        (port.clone(), port),
        any_request(Just(false)),
    )
        .prop_map(
            |(ddt, (source, destination), (from, to), request)| Encapsulated {
                ddt,
                source: SocketAddr::new(source, from),
                destination: SocketAddr::new(destination, to),
                request,
            },
        )
}

fn any_message() -> impl Strategy<Value = Message> {
    let reply = (any::<[bool; 2]>(), any::<u64>(), vec(any_record(), 0..5)).prop_map(
        |([probe, echo_nonce], nonce, records)| Reply {
            flags: ReplyFlags { probe, echo_nonce },
            nonce,
            records,
        },
    );
    let register = (any::<[bool; 6]>(), any_registration()).prop_map(|(flags, body)| {
        let [
            proxy_reply,
            security,
            eid_notify,
            use_ttl,
            merge,
            want_notify,
        ] = flags;
        Register {
            flags: RegisterFlags {
                proxy_reply,
                security,
                eid_notify,
                use_ttl,
                merge,
                want_notify,
            },
            body,
        }
    });
    prop_oneof![
        any_request(any::<bool>()).prop_map(Message::Request),
        reply.prop_map(Message::Reply),
        register.prop_map(Message::Register),
        any_registration().prop_map(|body| Message::Notify(Notify { body })),
        any_registration().prop_map(|body| Message::NotifyAck(Notify { body })),
        any_encapsulated().prop_map(Message::Encapsulated),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_emitted_is_read_back(message in any_message()) {
        prop_assert_eq!(parse(&emit(&message)), Ok(message));
    }

    /// A message that was cut is refused, wherever it was cut; only a Map-Request or Map-Reply has an end that is left
    /// alone.
    #[test]
    fn every_truncation_is_refused(message in any_message()) {
        let whole = emit(&message);
        for length in 0..whole.len() {
            let cut = parse(whole.get(..length).unwrap());
            // Without its trailer a Map-Notify is a whole one, and so is a Map-Register that says it has none.
            let is_shorter_whole = matches!(&cut, Ok(Message::Notify(_) | Message::NotifyAck(_)));
            prop_assert!(cut.is_err() || is_shorter_whole, "{} of {}", length, whole.len());
        }
    }

    /// What damage leaves readable can be written and read again.
    #[test]
    fn damage_never_panics(message in any_message(), seed in any::<u64>()) {
        let whole = emit(&message);
        let mut rng = Rng::new(seed);
        for _ in 0..64 {
            let mut damaged = whole.clone();
            fault::mutate(&mut rng, &mut damaged);
            if let Ok(read) = parse(&damaged) {
                prop_assert_eq!(parse(&emit(&read)), Ok(read));
            }
        }
    }

    #[test]
    fn noise_never_panics(mut noise in vec(any::<u8>(), 0..200), kind in 0..16_u8) {
        let _ = parse(&noise);
        if let Some(first) = noise.first_mut() {
            *first = kind << 4 | *first & 0x0f;
        }
        let _ = parse(&noise);
    }
}

/// Every byte of the largest of each kind, every single bit.
#[test]
fn a_single_bit_of_damage_never_panics() {
    let request = Request {
        own: Some(record()),
        identity: Some(WHO),
        ..Request::new(1, vec![ip("192.0.2.1")], key(7, "2001:db8::/32"))
    };
    let messages = [
        Message::Encapsulated(Encapsulated {
            request: request.clone(),
            ..encapsulated("[2001:db8::9]:5000", "[2001:db8::1]:4342")
        }),
        Message::Encapsulated(encapsulated("192.0.2.9:4342", "10.1.2.3:4342")),
        Message::Request(request),
        Message::Reply(Reply {
            flags: ReplyFlags::default(),
            nonce: 1,
            records: vec![record(), record()],
        }),
        Message::Register(Register {
            flags: RegisterFlags::default(),
            body: registration(),
        }),
        Message::Notify(Notify {
            body: registration(),
        }),
    ];
    for message in messages {
        let whole = emit(&message);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(read) = parse(&damaged) {
                    assert_eq!(parse(&emit(&read)), Ok(read));
                }
            }
        }
    }
}
