//! The table beside its twin, and who owns which port.

use std::collections::HashMap;

use dataplane::testing::builder::Packet;
use proptest::prelude::*;

use super::super::rewrite::{self, End, Ends, Whole};
use super::*;
use crate::words::words;

const FLOWS: u32 = 64;

fn tuple(number: u8) -> Tuple {
    Tuple {
        client: [number; 16],
        service: [0x5e; 16],
        client_port: 1000 + u16::from(number),
        service_port: 443,
        protocol: 6,
    }
}

fn target(number: u16) -> Target {
    Target {
        number,
        address: [7; 16],
        port: 8443,
    }
}

proptest! {
    /// T9: every port has one owner, and a worker that owns it; none below 1024 is taken.
    #[test]
    fn ports_are_shared_out(workers in 1_usize..64, port: u16) {
        let shares: Vec<_> = (0..workers).map(|worker| Shares::new(worker, workers)).collect();
        let owners: Vec<_> = shares.iter().filter(|share| share.is_own(port)).collect();
        prop_assert_eq!(owners.len(), 1);
        prop_assert_eq!(shares[0].owner(port), owners[0].worker as usize);
        let (first, count) = owners[0].own();
        let is_within = (first..first + count).contains(&u32::from(port));
        prop_assert_eq!(is_within, port >= 1024);
        let all: u32 = shares.iter().map(|share| share.own().1).sum();
        prop_assert_eq!(all, 65_536 - 1024);
    }

    /// What begins is found by its key and by its place until its time is over or it gives way; nothing else is found.
    #[test]
    fn agrees_with_its_twin(
        steps in prop::collection::vec((0_u8..40, 0_u16..3, prop_oneof![Just(0_u16), 0_u16..40], any::<bool>()), 1..300),
    ) {
        let sessions = Sessions::new(Shares::new(0, 1));
        let mut twin: HashMap<u8, (Place, Stage, u16)> = HashMap::new();
        let mut now = 65_000_u16;
        for (number, source, passes, goes_on) in steps {
            now = now.wrapping_add(passes);
            twin.retain(|_, (_, stage, seen)| now.wrapping_sub(*seen) <= stage.lifetime());
            // Few lines, so that they are full; one start, so that ports meet.
            let hash = u64::from(number) << 34 | u64::from(number % 3);
            let key = (hash, FLOWS);
            let found = sessions.find(key, &tuple(number), now);
            let known = twin.get(&number).map(|(place, stage, _)| (*place, *stage));
            prop_assert_eq!(found.map(|session| (session.place, session.stage())), known);
            match found {
                Some(session) => {
                    let stage = if goes_on { Stage::Connected } else { session.stage() };
                    session.renew(stage, now);
                    twin.insert(number, (session.place, stage, now));
                    prop_assert_eq!(session.tuple(), tuple(number));
                    prop_assert_eq!(session.target(), target(u16::from(number) + 1));
                }
                None => {
                    let to = target(u16::from(number) + 1);
                    match sessions.begin(key, (&tuple(number), &to), source, now) {
                        Taken::Free(place) => {
                            prop_assert!(twin.values().all(|(other, ..)| *other != place));
                            twin.insert(number, (place, Stage::New, now));
                        }
                        Taken::Displaced(place) => {
                            // Somebody young made room: ask who.
                            let gone: Vec<_> = twin
                                .iter()
                                .filter(|(other, _)| {
                                    let hash = u64::from(**other) << 34 | u64::from(**other % 3);
                                    sessions.find((hash, FLOWS), &tuple(**other), now).is_none()
                                })
                                .map(|(other, (_, stage, _))| (*other, *stage))
                                .collect();
                            prop_assert!((1..=2).contains(&gone.len()));
                            prop_assert!(gone.iter().all(|(_, stage)| *stage == Stage::New));
                            for (other, _) in gone {
                                twin.remove(&other);
                            }
                            twin.insert(number, (place, Stage::New, now));
                        }
                        Taken::Full => {
                            let on_line = twin.keys().filter(|other| *other % 3 == number % 3);
                            prop_assert!(on_line.count() >= 8 || twin.len() >= 16);
                        }
                    }
                }
            }
            for (place, ..) in twin.values() {
                prop_assert!(sessions.of_place(*place, now).is_some());
            }
        }
    }
}

fn ends() -> impl Strategy<Value = ([u8; 16], u16)> {
    (any::<[u8; 16]>(), any::<u16>())
}

proptest! {
    /// What a flow keeps of the change in a checksum makes the packet that is made when both ends are looked at, on the
    /// way to its server, to the one it is moved to, and on the way back.
    #[test]
    fn the_change_that_is_kept_is_that_of_its_ends(
        client in ends(),
        service in ends(),
        source in any::<[u8; 16]>(),
        servers in [ends(), ends()],
        is_tcp: bool,
        data in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let tuple = Tuple {
            client: client.0,
            service: service.0,
            client_port: client.1,
            service_port: service.1,
            protocol: if is_tcp { 6 } else { 17 },
        };
        let target = |(address, port): ([u8; 16], u16)| Target { number: 1, address, port };
        let sessions = Sessions::new(Shares::new(0, 1));
        let Taken::Free(place) = sessions.begin((7, FLOWS), (&tuple, &target(servers[0])), 0, 9) else {
            return Err(TestCaseError::fail("there is room"));
        };
        let session = sessions.of_place(place, 9).expect("it began");
        for server in servers {
            session.move_to(&target(server), Stage::Connected, 9);
            prop_assert_eq!((session.tuple(), session.target()), (tuple, target(server)));
            prop_assert!(session.is_steady(Stage::Connected, 9));
            let changes = [
                session.change(),
                Change::of(checksum::sum(&source)),
                Change::word(place.port),
            ];
            let ways = [
                ((client, service), ((source, place.port), server), changes),
                ((server, (source, place.port)), (service, client), changes.map(|change| -change)),
            ];
            for (before, after, changes) in ways {
                let packet = Packet::anywhere().ipv6(before.0.0.into(), before.1.0.into());
                let mut slow = match is_tcp {
                    true => packet.tcp(before.0.1, before.1.1, &data),
                    false => packet.udp(before.0.1, before.1.1, &data),
                }
                .build_ipv6();
                let mut fast = slow.clone();
                let end = |(address, port)| Some(End { address, port: Some(port) });
                rewrite::common(&mut slow, &Ends { source: end(after.0), destination: end(after.1) });
                let whole = Whole {
                    source: words(&after.0.0),
                    destination: words(&after.1.0),
                    ports: [after.0.1, after.1.1],
                    changes,
                };
                rewrite::whole(&mut fast, &whole);
                prop_assert_eq!(fast, slow);
            }
        }
    }
}
