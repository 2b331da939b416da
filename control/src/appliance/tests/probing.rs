//! Locators that answer probes and locators that do not, over packets: where the traffic goes, and what the operator sees.

use std::net::IpAddr;

use dataplane::testing::builder::Packet;

use super::bench::*;
use crate::admin::map::MapChange;
use crate::admin::protocol::{Answer, Command, LispPart, Subject};
use crate::admin::view::{self, LispCleared, LispEvents, LispRlocs, LispStatistics};
use crate::proto::lisp::wire::{self, LocatorRecord, Message, Record, Reply, ReplyFlags};
use crate::proto::lisp::{InstanceId, Locator};

const OWN: &str = "2001:db8:ffff::2";
const FIRST: &str = "2001:db8:ffff::8";
const SECOND: &str = "2001:db8:ffff::9";
const EID: &str = "2610:b::1";

/// Two locators, of which the second is used when the first is not.
fn lisp(settings: &str) -> String {
    text(&format!(
        r#"
[lisp]
rlocs = ["{OWN}"]
{settings}
[[lisp.instances]]
eids = ["fd01:203:405::/48"]
map_request = ["2610::/16"]
[[lisp.mappings]]
eid = "2610:b::/48"
locators = [{{ rloc = "{FIRST}", priority = 1 }}, {{ rloc = "{SECOND}", priority = 2 }}]
"#
    ))
}

/// The box, and routers behind its locators.
struct Far {
    bench: Bench,
    deaf: Vec<&'static str>,
    /// Whether neighbours on the link answer.
    has_neighbours: bool,
    /// Outer destinations of data packets.
    data: Vec<IpAddr>,
    probes: Vec<IpAddr>,
}

impl Far {
    fn new(settings: &str) -> Self {
        let mut far = Self {
            bench: Bench::new(&lisp(settings)),
            deaf: Vec::new(),
            has_neighbours: true,
            data: Vec::new(),
            probes: Vec::new(),
        };
        far.run(50);
        far
    }

    fn run(&mut self, milliseconds: u64) {
        for step in 0..milliseconds {
            if self.has_neighbours && step % 5000 == 0 {
                for neighbour in [FIRST, SECOND] {
                    self.bench.advertise(OUTSIDE, address_of(neighbour), ROUTER);
                }
            }
            self.bench.run(1);
            for frame in self.bench.sent(OUTSIDE) {
                self.take(&frame);
            }
        }
    }

    fn take(&mut self, frame: &[u8]) {
        let Ok((from, to, payload)) = wire::open(frame.get(14..).unwrap_or(&[])) else {
            // Encapsulated packets have no UDP checksum.
            if frame.get(20) == Some(&17) && frame[56..58] == 4341_u16.to_be_bytes() {
                let rloc: [u8; 16] = frame[38..54].try_into().unwrap();
                self.data.push(rloc.into());
            }
            return;
        };
        let Ok(Message::Request(request)) = wire::parse(payload) else {
            return;
        };
        assert!(request.flags.probe && from.ip().to_string() == OWN);
        self.probes.push(to.ip());
        if self.deaf.iter().any(|deaf| *deaf == to.ip().to_string()) {
            return;
        }
        let locators = [FIRST, SECOND].map(|rloc| LocatorRecord {
            is_probed: rloc == to.ip().to_string(),
            ..LocatorRecord::new(Locator::new(rloc.parse().unwrap()))
        });
        let record = Record {
            is_authoritative: true,
            locators: locators.to_vec(),
            ..Record::negative(request.asked[0].key, Default::default(), 1440)
        };
        let flags = ReplyFlags {
            probe: true,
            ..ReplyFlags::default()
        };
        let reply = wire::emit(&Message::Reply(Reply {
            flags,
            nonce: request.nonce,
            records: vec![record],
        }));
        let frame = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
            .ipv6(address_of(&to.ip().to_string()), address_of(OWN))
            .udp(4342, from.port(), &reply)
            .build();
        self.bench.feed(OUTSIDE, &frame);
    }

    /// Where a packet to the far site goes now.
    fn way(&mut self) -> Option<String> {
        self.data.clear();
        self.bench.feed(INSIDE, &ping(HOST_ADDRESS, EID, 1));
        self.run(2);
        self.data.first().map(IpAddr::to_string)
    }

    fn rloc(&mut self, rloc: &str) -> view::Rloc {
        let shown: LispRlocs = self.bench.show_lisp(LispPart::Rlocs);
        let found = shown.rlocs.into_iter().find(|known| known.address == rloc);
        found.expect("a mapping names it")
    }

    fn state(&mut self, rloc: &str) -> (String, String) {
        let shown = self.rloc(rloc);
        (shown.state, shown.reason)
    }

    fn events(&mut self) -> Vec<String> {
        let shown: LispEvents = self.bench.show_lisp(LispPart::Events);
        shown.events.into_iter().map(|event| event.text).collect()
    }

    fn by_hand(&mut self, rloc: &str, state: &str) {
        let line = format!(r#"{{"rloc":{{"address":"{rloc}","state":"{state}"}}}}"#);
        let change: MapChange = serde_json::from_str(&line).unwrap();
        let changes = vec![change];
        let answer = self.ask(Command::MapChange { changes });
        assert!(answer.ok, "{answer:?}");
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.bench.appliance.answer(self.bench.now, command)
    }
}

fn words(state: &str, reason: &str) -> (String, String) {
    (state.to_owned(), reason.to_owned())
}

/// B-01, B-04, B-08: traffic leaves a locator that fell silent within 400 ms, and returns with its answers; the mapping is
/// what it was.
#[test]
fn traffic_moves_when_a_locator_falls_silent_and_comes_back_with_it() {
    let mut far = Far::new("probing = \"fast\"");
    far.run(1000);
    assert_eq!(far.way().as_deref(), Some(FIRST));
    assert_eq!(far.state(FIRST), words("up", "answers probes"));
    let shown = far.rloc(FIRST);
    assert!(shown.round_trip_us.is_some_and(|time| time <= 2000));
    assert!(shown.probes_sent >= 9 && shown.probes_answered >= shown.probes_sent - 1);
    far.deaf = vec![FIRST];
    far.run(400);
    assert_eq!(far.way().as_deref(), Some(SECOND));
    assert_eq!(far.state(FIRST), words("down", "no answer to probes"));
    assert!(far.rloc(FIRST).since_ms <= 400);
    assert_eq!(far.state(SECOND), words("up", "answers probes"));
    let shown: view::Mappings = far.bench.show_lisp(LispPart::MapCache);
    let states = shown.mappings[0].locators.iter().map(|l| (&*l.state, l.up));
    assert_eq!(states.collect::<Vec<_>>(), [("down", true), ("up", true)]);
    far.run(5000);
    assert_eq!(far.rloc(FIRST).since_ms / 1000, 5);
    far.deaf.clear();
    far.run(1000);
    assert_eq!(far.way().as_deref(), Some(FIRST));
    assert_eq!(
        far.events(),
        [
            format!("locator {FIRST} is down: no answer to probes"),
            format!("locator {FIRST} is up: answers probes"),
        ]
    );
    let shown: LispStatistics = far.bench.show_lisp(LispPart::Statistics);
    let control = &shown.counters["control"];
    assert_eq!((control["rloc_down"], control["rloc_up"]), (1, 1));
    assert!(control["probe_answered"] > 10 && control["probe_missed"] >= 3);
    far.bench.assert_conserved();
}

/// What the operator says comes before what probes find, either way.
#[test]
fn a_locator_taken_out_by_hand_stays_out() {
    let mut far = Far::new("probing = \"fast\"");
    far.run(500);
    far.by_hand(FIRST, "down");
    assert_eq!(far.way().as_deref(), Some(SECOND));
    far.run(2000);
    assert_eq!(far.state(FIRST), words("down", "taken out of use by hand"));
    assert_eq!(far.way().as_deref(), Some(SECOND), "though it answers");
    far.deaf = vec![FIRST];
    far.run(1000);
    far.by_hand(FIRST, "up");
    assert_eq!(far.way().as_deref(), Some(SECOND), "it is dead as well");
    assert_eq!(far.state(FIRST), words("down", "no answer to probes"));
    far.deaf.clear();
    far.run(1000);
    assert_eq!(far.way().as_deref(), Some(FIRST));
}

/// Changes of mappings and of the configuration leave what is known of locators alone; what nothing leads to is forgotten.
#[test]
fn what_is_known_of_a_locator_outlives_mappings() {
    let mut far = Far::new("probing = \"fast\"");
    far.run(500);
    far.deaf = vec![FIRST];
    far.run(500);
    let line = format!(
        r#"{{"add":{{"eid":"2610:b::/48","locators":[{{"rloc":"{FIRST}","priority":1}},{{"rloc":"{SECOND}","priority":7}}]}}}}"#
    );
    let changes = vec![serde_json::from_str(&line).unwrap()];
    assert!(far.ask(Command::MapChange { changes }).ok);
    far.run(5);
    assert_eq!(far.way().as_deref(), Some(SECOND));
    assert!(
        far.bench
            .reload(&lisp("probing = \"fast\"\ndscp = \"pipe\""))
            .ok
    );
    far.run(5);
    assert_eq!(far.way().as_deref(), Some(SECOND));
    // Probes off: it is not known any more.
    assert!(far.bench.reload(&lisp("probing = \"off\"")).ok);
    far.run(300);
    assert_eq!(far.way().as_deref(), Some(FIRST));
    assert_eq!(far.state(FIRST), words("up", "is not probed"));
    let probes = far.probes.len();
    far.run(5000);
    assert_eq!(far.probes.len(), probes);
    // And without LISP nothing is.
    assert!(far.bench.reload(&lisp("probing = \"fast\"")).ok);
    far.run(6000);
    assert!(far.bench.reload(&text("")).ok);
    far.run(100);
    assert!(
        !far.ask(Command::ShowLisp {
            part: LispPart::Rlocs
        })
        .ok
    );
    far.probes.clear();
    far.run(1000);
    assert_eq!(far.probes, [] as [IpAddr; 0]);
}

/// A locator that no mapping names any more begins anew with the next one that does.
#[test]
fn what_nothing_leads_to_is_forgotten() {
    let mut far = Far::new("probing = \"fast\"");
    far.run(500);
    far.deaf = vec![FIRST];
    far.run(500);
    assert_eq!(far.way().as_deref(), Some(SECOND));
    let with = lisp("probing = \"fast\"");
    let first = format!("{{ rloc = \"{FIRST}\", priority = 1 }}, ");
    let without = with.replace(&first, "");
    assert_ne!(with, without);
    assert!(far.bench.reload(&without).ok);
    far.run(100);
    far.deaf.clear();
    assert!(far.bench.reload(&with).ok);
    far.run(10);
    assert_eq!(far.way().as_deref(), Some(FIRST));
    far.run(500);
    assert_eq!(far.state(FIRST), words("up", "answers probes"));
}

/// The first probes wait for neighbours like any packet, and nothing is taken for dead meanwhile.
#[test]
fn nothing_is_down_before_neighbours_are_known() {
    let mut far = Far {
        bench: Bench::new(&lisp("probing = \"fast\"")),
        deaf: Vec::new(),
        has_neighbours: false,
        data: Vec::new(),
        probes: Vec::new(),
    };
    far.run(4000);
    assert!(far.probes.is_empty(), "nobody knows where to send them");
    assert_eq!(
        far.state(FIRST),
        words("up", "has not answered a probe yet")
    );
    far.has_neighbours = true;
    far.run(500);
    assert_eq!(far.state(FIRST), words("up", "answers probes"));
    assert_eq!(far.events(), [] as [&str; 0]);
}

/// B-04: without a link there is no way; with it traffic is back at once, and no probe was missed meanwhile.
#[test]
fn no_way_is_told_from_no_answer() {
    let mut far = Far::new("probing = \"fast\"");
    far.run(500);
    far.bench.links.lock().unwrap()[OUTSIDE] = false;
    far.run(3000);
    for rloc in [FIRST, SECOND] {
        let expected = words("unreachable", "no route to it by a link that is up");
        assert_eq!(far.state(rloc), expected);
    }
    far.bench.links.lock().unwrap()[OUTSIDE] = true;
    far.run(1500);
    for rloc in [FIRST, SECOND] {
        assert_eq!(far.state(rloc), words("up", "answers probes"));
    }
    assert_eq!(far.way().as_deref(), Some(FIRST));
    let shown: LispStatistics = far.bench.show_lisp(LispPart::Statistics);
    assert_eq!(shown.counters["control"].get("rloc_down"), None);
    let down = far
        .events()
        .into_iter()
        .filter(|event| event.contains("unreachable"));
    assert_eq!(down.count(), 2);
}

fn unreachable(quote: &[u8]) -> Vec<u8> {
    Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of("2001:db8:5::1"), address_of(OWN))
        .icmpv6_error(1, 0, 0, quote)
        .build()
}

/// B-04: ICMP about a packet of ours brings the next probe forward, and nothing but silence takes the locator down.
#[test]
fn icmp_only_makes_the_next_probe_due() {
    let mut far = Far::new("");
    far.run(2000);
    let (probes, sent) = (far.probes.len(), far.rloc(FIRST).probes_sent);
    let quote = Packet::anywhere()
        .ipv6(address_of(OWN), address_of(FIRST))
        .udp(50_000, 4341, &[0, 0, 0, 0, 0, 0, 0, 0, 0x60, 0, 0, 0])
        .build_ipv6();
    far.bench.feed(OUTSIDE, &unreachable(&quote));
    far.run(100);
    assert_eq!(far.rloc(FIRST).probes_sent, sent + 1);
    assert_eq!(far.probes.len(), probes + 1, "of this one alone");
    assert_eq!(far.state(FIRST), words("up", "answers probes"));
    let said = format!("locator {FIRST} is suspected: ICMP of 2001:db8:5::1 says: no route");
    assert_eq!(far.events(), [said]);
    // It is true.
    far.deaf = vec![FIRST];
    far.run(1000);
    far.bench.feed(OUTSIDE, &unreachable(&quote));
    far.run(2000);
    assert_eq!(far.way().as_deref(), Some(SECOND));
    let reason = "no answer to probes, and ICMP says: no route";
    assert_eq!(far.state(FIRST), words("down", reason));
    // What is no packet of ours says nothing.
    let mut other = quote.clone();
    other[23] ^= 1;
    let probes = far.probes.len();
    far.bench.feed(OUTSIDE, &unreachable(&other));
    far.run(10);
    assert_eq!(far.probes.len(), probes);
    let drops: view::Drops = far.bench.show(Subject::Drops);
    let count = drops
        .control
        .iter()
        .find(|count| count.name == "path_mtu_disbelieved");
    assert_eq!(count.map(|count| count.count), Some(1));
    far.bench.assert_conserved();
}

/// `sextant lisp probe`: of a locator, of an EID, of all.
#[test]
fn locators_are_probed_by_hand() {
    let mut far = Far::new("probing = \"off\"");
    far.run(1000);
    assert!(far.probes.is_empty());
    let probe = |far: &mut Far, target: Option<&str>, send| {
        let command = Command::LispProbe {
            instance: InstanceId::default(),
            target: target.map(|target| target.parse().unwrap()),
            send,
        };
        let answer = far.ask(command);
        assert!(answer.ok, "{answer:?}");
        let shown: LispRlocs = serde_json::from_value(answer.data).unwrap();
        shown.rlocs
    };
    for (target, expected) in [
        (Some(FIRST), &[FIRST][..]),
        (Some(EID), &[FIRST, SECOND]),
        (None, &[FIRST, SECOND]),
    ] {
        let before = probe(&mut far, target, true);
        far.run(10);
        let after = probe(&mut far, target, false);
        let addresses: Vec<&str> = after.iter().map(|rloc| &*rloc.address).collect();
        assert_eq!(addresses, expected);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(after.probes_answered, before.probes_answered + 1);
            assert!(after.round_trip_us.is_some());
        }
    }
    assert_eq!(far.probes.len(), 5);
    let command = Command::LispProbe {
        instance: InstanceId::default(),
        target: Some("2610:77::1".parse().unwrap()),
        send: true,
    };
    let refused = far.ask(command).error.unwrap();
    assert!(refused.contains("is no locator of a mapping"), "{refused}");
}

#[test]
fn only_what_was_learned_can_be_cleared() {
    let mut far = Far::new("");
    let clear = |prefix: Option<&str>| Command::LispClear {
        instance: None,
        prefix: prefix.map(|prefix| prefix.parse().unwrap()),
    };
    let answer = far.ask(clear(None));
    let cleared: LispCleared = serde_json::from_value(answer.data).unwrap();
    assert_eq!(cleared.forgotten, 0);
    let shown: view::Mappings = far.bench.show_lisp(LispPart::MapCache);
    assert_eq!(shown.mappings[0].eid, "2610:b::/48");
    assert!(far.bench.reload(&text("")).ok);
    assert!(!far.ask(clear(None)).ok);
}
