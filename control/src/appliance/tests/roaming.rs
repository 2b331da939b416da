//! EID hosts that may be at any site, and solicitations, over packets.

use std::net::SocketAddr;

use dataplane::testing::builder::Packet;
use dataplane::wire::icmpv6;

use super::bench::*;
use crate::admin::map::MapQuery;
use crate::admin::protocol::Command;
use crate::admin::view;
use crate::proto::lisp::wire::auth::{self, Secret};
use crate::proto::lisp::wire::{
    self, Act, Asked, LocatorRecord, Message, Notify, Record, Register, Registration, Reply,
    ReplyFlags, Request, RequestFlags,
};
use crate::proto::lisp::{EidKey, InstanceId, Locator};

const OWN: &str = "2001:db8:ffff::2";
const SERVER: &str = "2001:db8:ffff::100";
const PEER: &str = "2001:db8:ffff::9";
const OTHER: &str = "2001:db8:ffff::8";
const FAR: &str = "2610:5::1";
/// Of a prefix whose hosts may be anywhere.
const ROAMING: &str = "fd01:203:405:1::77";

fn lisp(weight: u8) -> String {
    text(&format!(
        r#"
[lisp]
rlocs = [{{ rloc = "{OWN}", weight = {weight} }}]
miss = "hold"
map_resolvers = ["{SERVER}"]
[[lisp.map_servers]]
address = "{SERVER}"
key = "a secret"
[[lisp.instances]]
eids = ["fd01:203:405::/48"]
dynamic_eids = ["fd01:203:405:1::/64"]
map_request = ["2610::/16"]
[[lisp.mappings]]
eid = "2610:5::/32"
locators = [{{ rloc = "{PEER}" }}]
"#
    ))
}

fn key(prefix: &str) -> EidKey {
    EidKey {
        instance: InstanceId::default(),
        eid: prefix.parse().unwrap(),
    }
}

/// A box that has registered.
fn started() -> Bench {
    let mut bench = Bench::new(&lisp(100));
    bench.run(5);
    for neighbour in [SERVER, PEER, OTHER] {
        bench.advertise(OUTSIDE, address_of(neighbour), ROUTER);
    }
    bench.run(5);
    confirm(&mut bench);
    bench
}

/// Control messages that left, with where they went.
fn sent(bench: &mut Bench) -> Vec<(SocketAddr, Message)> {
    let frames = bench.sent(OUTSIDE).into_iter();
    let messages = frames.filter_map(|frame| {
        let (_, to, payload) = wire::open(frame.get(14..)?).ok()?;
        (to.port() != wire::DATA_PORT).then(|| (to, wire::parse(payload).expect("ours are right")))
    });
    messages.collect()
}

fn registers(messages: &[(SocketAddr, Message)]) -> Vec<&Register> {
    let registers = messages.iter().filter_map(|(_, message)| match message {
        Message::Register(register) => Some(register),
        _ => None,
    });
    registers.collect()
}

fn receive(bench: &mut Bench, from: &str, message: &[u8]) {
    let frame = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of(from), address_of(OWN))
        .udp(4342, 4342, message)
        .build();
    bench.feed(OUTSIDE, &frame);
    bench.run(20);
}

fn notify(bench: &mut Bench, body: Registration) {
    let mut bytes = wire::emit(&Message::Notify(Notify { body }));
    auth::seal(&mut bytes, &Secret::new(b"a secret")).unwrap();
    receive(bench, SERVER, &bytes);
}

/// The Map-Server confirms what was registered; all that left.
fn confirm(bench: &mut Bench) -> Vec<(SocketAddr, Message)> {
    let messages = sent(bench);
    let bodies: Vec<Registration> = registers(&messages)
        .iter()
        .map(|register| register.body.clone())
        .collect();
    for body in bodies {
        notify(bench, body);
    }
    messages
}

fn at_peer(prefix: &str, rloc: &str) -> Record {
    let mut record = Record::negative(key(prefix), Act::default(), 1440);
    let locator = Locator::new(rloc.parse().unwrap());
    record.locators.push(LocatorRecord::new(locator));
    record
}

/// A packet of the far site in a tunnel.
fn tunnelled(to: &str) -> Vec<u8> {
    let inner = Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of(FAR), address_of(to))
        .hop_limit(60)
        .udp(1, 2, b"x")
        .build_ipv6();
    let payload = [&[0; 8][..], &inner].concat();
    Packet::ethernet(ROUTER, own_mac(OUTSIDE))
        .ipv6(address_of(PEER), address_of(OWN))
        .udp(5555, 4341, &payload)
        .build()
}

/// Outer destinations of encapsulated packets that left.
fn encapsulated(bench: &mut Bench) -> Vec<Vec<u8>> {
    let frames = bench.sent(OUTSIDE).into_iter();
    let to_lisp = |frame: &Vec<u8>| frame[20] == 17 && frame[56..58] == 4341_u16.to_be_bytes();
    let sent = frames.filter(to_lisp);
    sent.map(|frame| frame[38..54].to_vec()).collect()
}

fn octets(address: &str) -> Vec<u8> {
    address_of(address).octets().to_vec()
}

fn is_registered(messages: &[(SocketAddr, Message)], eid: &str, ttl: u32) -> bool {
    let registers = registers(messages);
    let mut records = registers.iter().flat_map(|register| &register.body.records);
    records.any(|record| record.key == key(eid) && (record.ttl_minutes == 0) == (ttl == 0))
}

#[test]
fn a_packet_of_a_new_host_goes_out_and_the_host_is_registered() {
    let mut bench = started();
    bench.feed(INSIDE, &ping(ROAMING, FAR, 1));
    bench.run(20);
    // Looked at twice, so that both are seen.
    let frames = bench.sent(OUTSIDE);
    let is_data = |frame: &&Vec<u8>| frame[56..58] == 4341_u16.to_be_bytes();
    assert_eq!(frames.iter().filter(is_data).count(), 1);
    let messages = frames
        .iter()
        .filter_map(|frame| wire::open(&frame[14..]).ok());
    let host = format!("{ROAMING}/128");
    let registered = messages.filter_map(|(.., payload)| wire::parse(payload).ok());
    let registered: Vec<(SocketAddr, Message)> = registered
        .map(|message| (SocketAddr::new(SERVER.parse().unwrap(), 4342), message))
        .collect();
    assert!(is_registered(&registered, &host, 1440));
    // What comes for it is delivered without a question: its packet said where it is.
    bench.sent(INSIDE);
    bench.feed(OUTSIDE, &tunnelled(ROAMING));
    bench.run(5);
    let delivered = bench.sent(INSIDE);
    assert!(delivered.iter().any(|frame| frame[..6] == HOST.octets()));
    bench.assert_conserved();
}

/// Also one that only asks for its router.
#[test]
fn a_solicitation_of_a_new_host_is_enough() {
    let mut bench = started();
    sent(&mut bench);
    bench.advertise(INSIDE, address_of(ROAMING), HOST);
    bench.run(10);
    let messages = confirm(&mut bench);
    assert!(is_registered(&messages, &format!("{ROAMING}/128"), 1440));
    // And on the side of the tunnels nobody is a host.
    bench.advertise(OUTSIDE, address_of("fd01:203:405:1::78"), ROUTER);
    bench.run(10);
    assert!(registers(&confirm(&mut bench)).is_empty());
}

#[test]
fn a_host_that_does_not_answer_any_more_is_withdrawn() {
    let mut bench = started();
    bench.advertise(INSIDE, address_of(ROAMING), HOST);
    bench.run(10);
    confirm(&mut bench);
    let mut messages = Vec::new();
    for _ in 0..60 {
        bench.run(4000);
        bench.advertise(OUTSIDE, address_of(SERVER), ROUTER);
        messages.extend(confirm(&mut bench));
    }
    assert!(is_registered(&messages, &format!("{ROAMING}/128"), 0));
}

/// R-15, D-17: the whole way of a host that goes to another site, and comes back.
#[test]
fn packets_follow_a_host_to_another_site_and_back() {
    let mut bench = started();
    bench.feed(INSIDE, &ping(ROAMING, FAR, 1));
    bench.run(20);
    confirm(&mut bench);
    let host = format!("{ROAMING}/128");
    let moved = Registration {
        nonce: 99,
        key_id: 1,
        algorithm_id: auth::Algorithm::HmacSha256.id(),
        mac: vec![0; auth::Algorithm::HmacSha256.mac_len()],
        records: vec![at_peer(&host, OTHER)],
        identity: None,
    };
    notify(&mut bench, moved.clone());
    let messages = sent(&mut bench);
    let told = messages.iter().filter(|(to, message)| {
        matches!(message, Message::Request(request) if request.flags.solicit)
            && to.ip().to_string() == PEER
    });
    assert_eq!(told.count(), 1, "S-01");
    // What still comes is sent on, what goes there from here too.
    bench.sent(INSIDE);
    bench.feed(OUTSIDE, &tunnelled(ROAMING));
    bench.feed(INSIDE, &ping(HOST_ADDRESS, ROAMING, 1));
    bench.run(20);
    assert_eq!(encapsulated(&mut bench), [octets(OTHER), octets(OTHER)]);
    assert!(bench.sent(INSIDE).iter().all(|frame| frame[20] != 17));
    // On its link it is answered for.
    let message = icmpv6::neighbor_solicitation(address_of(ROAMING), Some(HOST));
    let frame = Packet::ethernet(HOST, own_mac(INSIDE))
        .ipv6(address_of(HOST_ADDRESS), address_of("ff02::1:ff00:77"))
        .hop_limit(255)
        .icmpv6(&message)
        .build();
    bench.feed(INSIDE, &frame);
    bench.run(5);
    let answers = bench.sent(INSIDE);
    assert_eq!(of_type(&answers, 136).len(), 1);
    // It is back: that ends at once, whatever comes late.
    bench.feed(INSIDE, &ping(ROAMING, FAR, 2));
    bench.run(20);
    notify(&mut bench, moved);
    assert!(is_registered(&sent(&mut bench), &host, 1440));
    bench.sent(INSIDE);
    bench.feed(OUTSIDE, &tunnelled(ROAMING));
    bench.run(20);
    assert_eq!(encapsulated(&mut bench), [[0; 0]; 0]);
    assert!(bench.sent(INSIDE).iter().any(|frame| frame[20] == 17));
    bench.assert_conserved();
}

/// S-01: who was sent packets is told of another weight.
#[test]
fn a_change_of_what_is_said_of_own_eids_is_told() {
    let mut bench = started();
    bench.feed(INSIDE, &ping(HOST_ADDRESS, FAR, 1));
    bench.run(20);
    sent(&mut bench);
    assert!(bench.reload(&lisp(50)).ok);
    bench.run(5);
    confirm(&mut bench);
    let messages = sent(&mut bench);
    let [(to, Message::Request(request))] = &messages[..] else {
        panic!("one solicitation: {messages:?}")
    };
    assert_eq!(*to, SocketAddr::new(PEER.parse().unwrap(), 4342));
    assert!(request.flags.solicit && request.flags.no_reply);
    // The host that pinged is an EID of its own.
    assert!(
        request
            .asked
            .iter()
            .any(|asked| asked.key == key("fd01:203:405::/48"))
    );
}

/// S-02, S-05: a solicitation leads to a question, and the answer into the map-cache.
#[test]
fn the_map_cache_follows_a_solicitation() {
    let mut bench = started();
    bench.feed(INSIDE, &ping(HOST_ADDRESS, "2610:6::1", 1));
    bench.run(20);
    let question = |bench: &mut Bench| {
        let messages = sent(bench).into_iter();
        let mut questions = messages.filter_map(|(_, message)| match message {
            Message::Encapsulated(encapsulated) => Some(encapsulated.request),
            _ => None,
        });
        questions.next()
    };
    let answer = |bench: &mut Bench, nonce, rloc| {
        let reply = Reply {
            flags: ReplyFlags::default(),
            nonce,
            records: vec![at_peer("2610:6::/32", rloc)],
        };
        receive(bench, PEER, &wire::emit(&Message::Reply(reply)));
    };
    let first = question(&mut bench).expect("a miss asks");
    answer(&mut bench, first.nonce, PEER);
    bench.run(1500);
    let request = Request {
        flags: RequestFlags {
            solicit: true,
            no_reply: true,
            ..RequestFlags::default()
        },
        asked: vec![Asked {
            key: key("2610:6::/32"),
            subscribe: false,
        }],
        ..Request::new(0, vec![OTHER.parse().unwrap()], key("2610:6::/32"))
    };
    receive(&mut bench, OTHER, &wire::emit(&Message::Request(request)));
    let locator = |bench: &mut Bench| {
        let command = Command::MapShow(MapQuery::default());
        let answer = bench.appliance.answer(bench.now, command);
        let shown: view::Mappings = serde_json::from_value(answer.data).unwrap();
        let mut rows = shown.mappings.into_iter();
        let row = rows.find(|row| row.eid == "2610:6::/32").unwrap();
        row.locators[0].rloc.to_string()
    };
    assert_eq!(locator(&mut bench), PEER, "nothing by itself");
    let again = question(&mut bench).expect("it is asked for anew");
    assert!(again.flags.smr_invoked);
    answer(&mut bench, again.nonce, OTHER);
    assert_eq!(locator(&mut bench), OTHER);
}

/// R-20.
#[test]
fn at_the_end_own_eids_are_withdrawn() {
    let mut bench = started();
    sent(&mut bench);
    bench.appliance.shut_down(bench.now);
    bench.run(1);
    let messages = sent(&mut bench);
    assert!(is_registered(&messages, "fd01:203:405::/48", 0));
}
