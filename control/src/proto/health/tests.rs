//! The machine and servers of all kinds, joined by queues and a clock that the test holds.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::tcp::Queues;
use super::*;

mod tls;

const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 1);
const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x11);
const TOKEN: u16 = 0xd5a0;
const PACE: Pace = Pace {
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    rise: 2,
    fall: 3,
    hold_down: Duration::ZERO,
    hold_down_max: Duration::from_secs(300),
};

fn key() -> ServerKey {
    ("web".to_owned(), PEER)
}

fn target(probe: Probe) -> Target {
    Target {
        key: key(),
        vrf: 3,
        source: OWN,
        destination: PEER,
        token: TOKEN,
        probe,
        pace: PACE,
    }
}

fn http(path: &str) -> Probe {
    Probe::Http {
        port: 80,
        path: path.to_owned(),
        host: "www.example.com".to_owned(),
        status: vec![(200, 299), (404, 404)],
        tls: None,
    }
}

/// What a server does with a packet of a check.
trait Peer {
    fn answer(&mut self, now: Instant, packet: &[u8]) -> Vec<Vec<u8>>;
}

impl<F: FnMut(&[u8]) -> Vec<Vec<u8>>> Peer for F {
    fn answer(&mut self, _: Instant, packet: &[u8]) -> Vec<Vec<u8>> {
        self(packet)
    }
}

/// A server of one TCP port that says `answer` to whoever asks for something, in pieces of `piece` bytes; or what a server
/// of TLS says, of which each connection has one.
struct TcpServer {
    begun: Instant,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    queues: Queues,
    answer: Vec<u8>,
    said: usize,
    /// The most it said in one connection.
    said_most: usize,
    piece: usize,
    /// What was asked.
    request: Vec<u8>,
    /// It does not wait for the end of a request.
    is_eager: bool,
    make: Option<Box<dyn Fn() -> tls::Server>>,
    tls: Option<tls::Server>,
}

impl TcpServer {
    fn new(now: Instant, answer: &[u8], piece: usize) -> Self {
        let mut queues = Queues::default();
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut queues, Moment::ZERO);
        interface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(PEER.into(), 0)).unwrap());
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || SocketBuffer::new(vec![0; 2048]);
        let handle = sockets.add(Socket::new(buffer(), buffer()));
        Self {
            begun: now,
            interface,
            sockets,
            handle,
            queues,
            answer: answer.to_vec(),
            said: 0,
            said_most: 0,
            piece,
            request: Vec::new(),
            is_eager: false,
            make: None,
            tls: None,
        }
    }
}

impl Peer for TcpServer {
    fn answer(&mut self, now: Instant, packet: &[u8]) -> Vec<Vec<u8>> {
        let moment = Moment::from_millis((now - self.begun).as_millis() as i64);
        self.queues.received.push_back(packet.to_vec());
        for _ in 0..4 {
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            if !socket.is_open() {
                socket.listen(80).unwrap();
                self.said = 0;
                self.tls = self.make.as_ref().map(|make| make());
                if self.tls.is_some() {
                    self.answer.clear();
                }
            }
            if socket.can_recv() {
                let bytes = socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
                match &mut self.tls {
                    None => self.request.extend(bytes),
                    Some(tls) => self.answer.extend(tls.hear(&bytes)),
                }
            }
            let is_asked =
                self.is_eager || self.tls.is_some() || self.request.ends_with(b"\r\n\r\n");
            if is_asked && socket.can_send() {
                let rest = &self.answer[self.said..];
                let piece = &rest[..rest.len().min(self.piece)];
                self.said += socket.send_slice(piece).unwrap();
                self.said_most = self.said_most.max(self.said);
                let is_done = self.tls.as_ref().is_none_or(tls::Server::is_done);
                if is_done && self.said == self.answer.len() {
                    socket.close();
                }
            }
            self.interface
                .poll(moment, &mut self.queues, &mut self.sockets);
        }
        self.queues.sent.drain(..).collect()
    }
}

struct Joined {
    machine: Machine,
    now: Instant,
    start: Instant,
    /// Packets sent, and when, in ms since the start.
    sent: Vec<(u64, Vec<u8>)>,
    changes: Vec<(u64, Health, Option<Failure>)>,
}

impl Joined {
    fn new(target: Target) -> Self {
        let mut machine = Machine::new(fastrand::Rng::with_seed(7));
        let now = Instant::now();
        machine.configure(now, vec![target]);
        Self {
            machine,
            now,
            start: now,
            sent: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn run(&mut self, milliseconds: u64, peer: &mut impl Peer) {
        for _ in 0..milliseconds {
            self.now += Duration::from_millis(1);
            self.machine.handle_timeout(self.now);
            let at = (self.now - self.start).as_millis() as u64;
            while let Some(output) = self.machine.poll_output() {
                match output {
                    Output::Transmit { key: to, packet } => {
                        assert_eq!(to, key());
                        self.sent.push((at, packet.clone()));
                        for answer in peer.answer(self.now, &packet) {
                            self.machine.handle_input(self.now, 3, &answer);
                        }
                    }
                    Output::Changed { to, cause, .. } => self.changes.push((at, to, cause)),
                }
            }
        }
    }

    fn report(&self) -> Report {
        self.machine.report(&key()).unwrap()
    }

    fn last(&self) -> Result<Duration, Failure> {
        self.report().last.expect("a check ended").1
    }
}

fn silence(_: &[u8]) -> Vec<Vec<u8>> {
    Vec::new()
}

/// An echo reply to a request (RFC 4443 4.2).
fn reply(packet: &[u8]) -> Vec<Vec<u8>> {
    vec![crate::proto::echo::reply(packet, PEER).unwrap()]
}

#[test]
fn a_server_that_echoes_is_up_and_one_that_falls_silent_goes_down_in_time() {
    let mut joined = Joined::new(target(Probe::Icmpv6));
    assert_eq!(joined.report().health, Health::Untried);
    joined.run(20_000, &mut reply);
    assert_eq!(joined.report().health, Health::Up);
    assert_eq!(joined.report().changes, 0);
    let ports: Vec<u16> = joined
        .sent
        .iter()
        .map(|(_, packet)| u16::from_be_bytes([packet[44], packet[45]]))
        .collect();
    assert!(
        ports.iter().all(|port| port & !(TOKENS - 1) == TOKEN),
        "{ports:x?}"
    );
    // Every two seconds, a tenth more or less, and not in step.
    let times: Vec<u64> = joined.sent.iter().map(|(at, _)| *at).collect();
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter().all(|gap| (1800..=2201).contains(gap)),
        "{gaps:?}"
    );
    assert!(
        gaps.iter().collect::<std::collections::BTreeSet<_>>().len() > 3,
        "{gaps:?}"
    );

    let silent_at = (joined.now - joined.start).as_millis() as u64;
    joined.run(10_000, &mut silence);
    let (at, health, cause) = *joined.changes.last().unwrap();
    assert_eq!((health, cause), (Health::Down, Some(Failure::Timeout)));
    assert!(
        (at - silent_at) <= 3 * 2200 + 1000,
        "three checks and a timeout"
    );
    joined.run(10_000, &mut reply);
    assert_eq!(joined.report().health, Health::Up);
    assert_eq!(joined.report().changes, 2);
}

#[test]
fn an_answer_of_another_server_or_check_is_none() {
    let mut joined = Joined::new(target(Probe::Icmpv6));
    let mut late: Vec<u8> = Vec::new();
    let mut other = |packet: &[u8]| {
        let answer = reply(packet).remove(0);
        // The answer to the check before, and the right one from another address.
        let before = std::mem::replace(&mut late, answer);
        let mut request = packet.to_vec();
        request[39] ^= 1;
        let mut answers = vec![wire::echo(PEER, OWN, TOKEN, 0)];
        let elsewhere = Ipv6Addr::from(<[u8; 16]>::try_from(&request[24..40]).unwrap());
        let request = wire::echo(OWN, elsewhere, TOKEN, 1);
        answers.push(crate::proto::echo::reply(&request, elsewhere).unwrap());
        answers.extend((!before.is_empty()).then_some(before));
        answers
    };
    joined.run(10_000, &mut other);
    assert_eq!(joined.report().health, Health::Down);
    let answer = reply(&wire::echo(OWN, PEER, TOKEN, 1)).remove(0);
    assert_eq!(
        joined.machine.handle_input(joined.now, 4, &answer),
        Handled::Unexpected,
        "another VRF"
    );
    assert_eq!(
        joined.machine.handle_input(joined.now, 3, &answer[..47]),
        Handled::Invalid
    );
}

#[test]
fn a_datagram_must_be_answered_as_expected() {
    let probe = |expect: &[u8]| Probe::Udp {
        port: 53,
        send: b"ping".to_vec(),
        expect: expect.to_vec(),
    };
    let mut peer = |packet: &[u8]| {
        assert_eq!(packet[42..44], [0, 53]);
        assert_eq!(&packet[48..], b"ping");
        let port = u16::from_be_bytes([packet[40], packet[41]]);
        vec![wire::datagram((PEER, 53), (OWN, port), b"pong!")]
    };
    for (expect, expected) in [
        (&b"pong"[..], Health::Up),
        (b"", Health::Up),
        (b"pang", Health::Down),
    ] {
        let mut joined = Joined::new(target(probe(expect)));
        joined.run(7000, &mut peer);
        assert_eq!(joined.report().health, expected, "{expect:?}");
        if expected == Health::Down {
            assert_eq!(joined.last(), Err(Failure::Unexpected));
        }
    }
    // From another port it is no answer.
    let mut elsewhere = |packet: &[u8]| {
        let port = u16::from_be_bytes([packet[40], packet[41]]);
        vec![wire::datagram((PEER, 54), (OWN, port), b"pong")]
    };
    let mut joined = Joined::new(target(probe(b"pong")));
    joined.run(3500, &mut elsewhere);
    assert_eq!(joined.last(), Err(Failure::Timeout));
}

/// RFC 9293 3.10.7.1: nobody listens. And every connection is reset at its end, so that no port waits.
#[test]
fn a_connection_opens_and_is_reset_or_is_refused() {
    let mut joined = Joined::new(target(Probe::Tcp { port: 80 }));
    let mut server = TcpServer::new(joined.now, b"", 1);
    joined.run(40_000, &mut server);
    assert_eq!(joined.report().health, Health::Up);
    assert_eq!(
        joined.report().checks.1,
        0,
        "of twenty ports each was used twice"
    );
    let flags: Vec<u8> = joined.sent.iter().map(|(_, packet)| packet[53]).collect();
    let (opened, reset) = (
        flags.iter().filter(|flags| **flags == 0x02),
        flags.iter().filter(|flags| **flags & 0x04 != 0),
    );
    assert!(opened.clone().count() >= 18);
    assert_eq!(opened.count(), reset.count());

    let mut closed = Joined::new(target(Probe::Tcp { port: 81 }));
    let mut server = TcpServer::new(closed.now, b"", 1);
    closed.run(8000, &mut server);
    assert_eq!(closed.report().health, Health::Down);
    assert_eq!(closed.last(), Err(Failure::Refused));
    let mut silent = Joined::new(target(Probe::Tcp { port: 80 }));
    silent.run(8000, &mut silence);
    assert_eq!(silent.last(), Err(Failure::Timeout));
}

#[test]
fn http_is_judged_by_its_status_in_whatever_pieces_it_comes() {
    let body = [b'x'; 3000];
    for (answer, piece, expected) in [
        (&b"HTTP/1.0 200 OK\r\n\r\n"[..], 2000, Ok(())),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 3, Ok(())),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 2000, Ok(())),
        (
            b"HTTP/1.1 503 Busy\r\n\r\n",
            2000,
            Err(Failure::Status(503)),
        ),
        (b"HTTP/1.1 301 There\r\n\r\n", 1, Err(Failure::Status(301))),
        (b"SSH-2.0-OpenSSH\r\n", 2000, Err(Failure::NotHttp)),
        (b"HTTP/1.1 2", 2000, Err(Failure::Closed)),
    ] {
        let mut joined = Joined::new(target(http("/up?deep=1")));
        let mut server = TcpServer::new(joined.now, answer, piece);
        joined.run(1500, &mut server);
        let text = String::from_utf8_lossy(answer);
        assert_eq!(joined.last().map(|_| ()), expected, "{text}");
        let request = String::from_utf8(server.request.clone()).unwrap();
        assert!(
            request.starts_with("GET /up?deep=1 HTTP/1.1\r\nHost: www.example.com\r\n"),
            "{request}"
        );
        assert!(
            request.ends_with("\r\nConnection: close\r\n\r\n"),
            "{request}"
        );
        joined.run(10_000, &mut server);
        assert_eq!(
            joined.report().health.takes_flows(),
            expected.is_ok(),
            "{text}"
        );
    }
    // A long page is read to its end, so that the server is not interrupted.
    let mut joined = Joined::new(target(http("/")));
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat();
    let mut server = TcpServer::new(joined.now, &answer, 2000);
    joined.run(1500, &mut server);
    assert!(joined.last().is_ok());
    assert_eq!(server.said_most, answer.len());
}

#[test]
fn what_cannot_be_sent_failed_and_why_is_said() {
    let mut machine = Machine::new(fastrand::Rng::with_seed(1));
    let mut now = Instant::now();
    machine.configure(now, vec![target(Probe::Tcp { port: 80 })]);
    for _ in 0..8000 {
        now += Duration::from_millis(1);
        machine.handle_timeout(now);
        while let Some(output) = machine.poll_output() {
            if let Output::Transmit { key, .. } = output {
                machine.fail(now, &key);
            }
        }
    }
    let report = machine.report(&key()).unwrap();
    assert_eq!(report.health, Health::Down);
    assert_eq!(report.last.unwrap().1, Err(Failure::Unresolved));
    assert!(machine.poll_timeout().is_some());
}

#[test]
fn a_reload_keeps_what_is_known_and_forgets_who_is_gone() {
    let mut joined = Joined::new(target(Probe::Icmpv6));
    joined.run(3000, &mut reply);
    let mut faster = target(Probe::Udp {
        port: 53,
        send: vec![],
        expect: vec![],
    });
    faster.pace.interval = Duration::from_millis(1000);
    joined.machine.configure(joined.now, vec![faster.clone()]);
    assert_eq!(joined.report().health, Health::Up);
    joined.run(5000, &mut silence);
    assert_eq!(
        joined.report().health,
        Health::Down,
        "it is another question now"
    );
    joined.machine.configure(joined.now, vec![]);
    assert_eq!(joined.machine.report(&key()), None);
    let before = joined.sent.len();
    joined.run(5000, &mut silence);
    assert_eq!(joined.sent.len(), before);
}

/// Sixteen checks of one address go on at once, and the others wait for a port.
#[test]
fn checks_of_one_address_have_a_port_each() {
    let mut machine = Machine::new(fastrand::Rng::with_seed(1));
    let mut now = Instant::now();
    let targets = (0..20).map(|number| Target {
        key: (format!("pool-{number}"), PEER),
        ..target(Probe::Icmpv6)
    });
    machine.configure(now, targets.collect());
    let mut up = 0;
    let mut waiting = Vec::new();
    for _ in 0..4000 {
        now += Duration::from_millis(1);
        machine.handle_timeout(now);
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Transmit { packet, .. } => waiting.push((now, packet)),
                Output::Changed { to: Health::Up, .. } => up += 1,
                Output::Changed { .. } => {}
            }
        }
        let identifiers: std::collections::BTreeSet<_> = waiting
            .iter()
            .map(|(_, packet)| packet[44..46].to_vec())
            .collect();
        assert_eq!(identifiers.len(), waiting.len(), "each its own");
        // Answers come after 300 ms.
        while waiting
            .first()
            .is_some_and(|(sent, _)| now - *sent >= Duration::from_millis(300))
        {
            let (_, packet) = waiting.remove(0);
            assert_eq!(
                machine.handle_input(now, 3, &reply(&packet)[0]),
                Handled::Taken
            );
        }
    }
    assert_eq!(up, 20);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever comes, and whenever: nothing panics, a check never takes longer than its timeout, and the reported
        /// numbers agree.
        #[test]
        fn any_answers_at_any_time(
            kind in 0..4_u8,
            steps in prop::collection::vec((0..400_u64, 0..6_u8, any::<u16>()), 1..120),
        ) {
            let probe = match kind {
                0 => Probe::Icmpv6,
                1 => Probe::Tcp { port: 80 },
                2 => http("/"),
                _ => Probe::Udp { port: 80, send: vec![], expect: vec![7] },
            };
            let mut joined = Joined::new(target(probe));
            let mut server = TcpServer::new(joined.now, b"HTTP/1.1 200 OK\r\n\r\n", 5);
            let mut known: Vec<Vec<u8>> = Vec::new();
            for (milliseconds, what, noise) in steps {
                let mut peer = |packet: &[u8]| {
                    known.push(packet.to_vec());
                    match (what, packet[6]) {
                        (0, 58) => reply(packet),
                        (1, 17) => vec![wire::datagram((PEER, 80), (OWN, u16::from_be_bytes([packet[40], packet[41]])), &[7])],
                        _ => Vec::new(),
                    }
                };
                if what == 2 {
                    joined.run(milliseconds, &mut server);
                } else {
                    joined.run(milliseconds, &mut peer);
                }
                if what >= 3 && let Some(packet) = known.get(usize::from(noise) % known.len().max(1)) {
                    let mut packet = packet.clone();
                    let position = usize::from(noise) % packet.len();
                    packet[position] ^= noise.to_be_bytes()[0];
                    if what == 4 {
                        packet.truncate(position);
                    }
                    joined.machine.handle_input(joined.now, 3, &packet);
                }
                let report = joined.report();
                prop_assert!(report.checks.1 <= report.checks.0);
                if let Some((_, Ok(took))) = report.last {
                    prop_assert!(took <= PACE.timeout + Duration::from_millis(1));
                }
            }
            let before = joined.report().checks.0;
            joined.run(3300, &mut silence);
            prop_assert!(joined.report().checks.0 > before, "checks go on");
        }
    }
}
