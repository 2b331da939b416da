//! Servers of TLS: what a check says of those that are right, and of those that are not.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::UnbufferedServerConnection;
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ServerConfig, SupportedProtocolVersion};

use super::super::exchange::Exchange;
use super::super::tls::words;
use super::*;

const AUTHORITY: &str = include_str!("../../../../tests/tls/authority.pem");
const SERVER: [&str; 2] = [
    include_str!("../../../../tests/tls/server.pem"),
    include_str!("../../../../tests/tls/server.key"),
];
const ALONE: [&str; 2] = [
    include_str!("../../../../tests/tls/alone.pem"),
    include_str!("../../../../tests/tls/alone.key"),
];
const OLD: &str = include_str!("../../../../tests/tls/old.pem");
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
/// Seconds since 1970: in 2020, before all certificates of the tests; in 2030; in 2160.
const EARLY: u64 = 1_600_000_000;
const NOW: u64 = 1_900_000_000;
const LATE: u64 = 6_000_000_000;
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[derive(Debug)]
struct Clock(u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

fn certificates(text: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    certificates.map(|one| one.unwrap()).collect()
}

fn everyone() -> Tls {
    Tls {
        server_name: ServerName::try_from("www.example.com").ok(),
        trust: Trust::everyone(Arc::new(Clock(NOW))),
    }
}

fn believing(authorities: &str, name: Option<&'static str>, now: u64) -> Tls {
    Tls {
        server_name: name.map(|name| ServerName::try_from(name).unwrap()),
        trust: Trust::authorities(certificates(authorities), Arc::new(Clock(now))).unwrap(),
    }
}

fn settings(
    chain: &str,
    key: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates(chain), key);
    Arc::new(config.unwrap())
}

/// A server that answers a request, and says that this was all.
pub(super) struct Server {
    connection: UnbufferedServerConnection,
    incoming: Vec<u8>,
    answer: Option<Vec<u8>>,
    request: Vec<u8>,
    /// The client said that this was all.
    is_closed: bool,
    is_broken: bool,
    alert: Option<AlertDescription>,
}

impl Server {
    fn new(settings: &Arc<ServerConfig>, answer: &[u8]) -> Self {
        Self {
            connection: UnbufferedServerConnection::new(Arc::clone(settings)).unwrap(),
            incoming: Vec::new(),
            answer: Some(answer.to_vec()),
            request: Vec::new(),
            is_closed: false,
            is_broken: false,
            alert: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.answer.is_none()
    }

    /// What it says to what comes.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.is_broken {
            return Vec::new();
        }
        self.incoming.extend_from_slice(bytes);
        let mut said = Vec::new();
        let mut room = vec![0; 100_000];
        while !self.is_broken || self.connection.wants_write() {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut is_over = false;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    let len = data.encode(&mut room).unwrap();
                    said.extend_from_slice(&room[..len]);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        self.request.extend_from_slice(record.unwrap().payload);
                    }
                }
                Ok(ConnectionState::PeerClosed) => self.is_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if self.request.ends_with(b"\r\n\r\n")
                        && let Some(answer) = self.answer.take()
                    {
                        let len = traffic.encrypt(&answer, &mut room).unwrap();
                        said.extend_from_slice(&room[..len]);
                        let len = traffic.queue_close_notify(&mut room).unwrap();
                        said.extend_from_slice(&room[..len]);
                    }
                    is_over = true;
                }
                Ok(_) => is_over = true,
                Err(error) => {
                    if let rustls::Error::AlertReceived(alert) = error {
                        self.alert = Some(alert);
                    }
                    self.is_broken = true;
                }
            }
            self.incoming.drain(..discard);
            if is_over {
                break;
            }
        }
        said
    }
}

fn exchange(tls: &Tls) -> Exchange {
    Exchange::encrypted(wire::get("/", "www.example.com"), tls, PEER)
}

/// Let both talk until neither has more to say; the server's bytes come in pieces, as `way` changes them. Then it hangs up.
fn talk(
    exchange: &mut Exchange,
    mut hear: impl FnMut(&[u8]) -> Vec<u8>,
    piece: usize,
) -> Result<u16, Failure> {
    let mut said = Vec::new();
    while !exchange.is_over() {
        let outgoing = std::mem::take(exchange.outgoing());
        if !outgoing.is_empty() {
            said.extend(hear(&outgoing));
        }
        if said.is_empty() {
            break;
        }
        let bytes: Vec<u8> = said.drain(..piece.min(said.len())).collect();
        exchange.receive(&bytes);
    }
    let outgoing = std::mem::take(exchange.outgoing());
    hear(&outgoing);
    let result = exchange.result(true);
    result.expect("there is one when the server hung up")
}

#[test]
fn a_status_comes_through_tls_of_both_versions_in_whatever_pieces() {
    for version in VERSIONS {
        let settings = settings(SERVER[0], SERVER[1], &[version]);
        for piece in [1, 7, 1200, 100_000] {
            let mut server = Server::new(&settings, ANSWER);
            let mut exchange = exchange(&everyone());
            let result = talk(&mut exchange, |bytes| server.hear(bytes), piece);
            assert_eq!(result, Ok(200), "{version:?} {piece}");
            assert_eq!(server.request, wire::get("/", "www.example.com"));
            assert!(
                server.is_closed,
                "RFC 8446 6.1: each side says that it ends"
            );
        }
    }
}

#[test]
fn a_certificate_is_taken_as_it_is_or_verified() {
    use CertificateFault::{Authority, Expired, NotYetValid, OtherName, UnknownIssuer};
    let name = Some("www.example.com");
    let other = Some("example.net");
    let both = [AUTHORITY, ALONE[0]].concat();
    let alone = ALONE[0];
    for (tls, shown, expected) in [
        (everyone(), SERVER, None),
        (everyone(), ALONE, None),
        (believing(AUTHORITY, name, NOW), SERVER, None),
        (believing(AUTHORITY, None, NOW), SERVER, None),
        (believing(&both, name, NOW), SERVER, None),
        (believing(&both, name, NOW), ALONE, None),
        (believing(AUTHORITY, other, NOW), SERVER, Some(OtherName)),
        (believing(AUTHORITY, name, EARLY), SERVER, Some(NotYetValid)),
        (believing(AUTHORITY, name, LATE), SERVER, Some(Expired)),
        (believing(alone, name, NOW), SERVER, Some(UnknownIssuer)),
        (believing(AUTHORITY, name, NOW), ALONE, Some(Authority)),
        // A certificate that is listed itself must have the name and its dates nonetheless.
        (believing(alone, other, NOW), ALONE, Some(OtherName)),
        (believing(alone, None, NOW), ALONE, Some(OtherName)),
        (believing(alone, name, EARLY), ALONE, Some(NotYetValid)),
        (believing(alone, name, LATE), ALONE, Some(Expired)),
    ] {
        for version in VERSIONS {
            let mut server = Server::new(&settings(shown[0], shown[1], &[version]), ANSWER);
            let result = talk(&mut exchange(&tls), |bytes| server.hear(bytes), 1200);
            let expected = expected.map_or(Ok(200), |fault| Err(Failure::Certificate(fault)));
            assert_eq!(result, expected, "{tls:?}");
            assert_eq!(
                server.alert.is_some(),
                expected.is_err(),
                "the server is told"
            );
        }
    }
}

/// Versions 1 of X.509 cannot be verified, and are taken where nothing is.
#[test]
fn trust_is_by_what_is_listed() {
    let clock = || Arc::new(Clock(NOW));
    assert!(is_readable(&certificates(AUTHORITY)[0]));
    assert!(!is_readable(&CertificateDer::from(vec![0x30, 3, 2, 1, 1])));
    assert!(Trust::authorities(vec![], clock()).is_none());
    let nonsense = vec![CertificateDer::from(vec![1, 2, 3])];
    assert!(Trust::authorities(nonsense, clock()).is_none());
    let list = |text| Trust::authorities(certificates(text), clock()).unwrap();
    assert_eq!(list(AUTHORITY), list(AUTHORITY));
    assert_ne!(list(AUTHORITY), list(ALONE[0]));
    assert_ne!(list(AUTHORITY), Trust::everyone(clock()));
    assert!(is_readable(&certificates(OLD)[0]));
}

#[test]
fn what_is_no_tls_or_none_of_ours_is_named() {
    // RFC 5246 7.4.1.3: an answer of version 1.0.
    let mut old = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    old.extend([7; 32]);
    old.extend([0, 0xc0, 0x13, 0]);
    let alert = |code| vec![21, 3, 3, 0, 2, 2, code];
    for (answer, expected) in [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            Failure::NotTls,
        ),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), Failure::NotTls),
        (vec![0; 100], Failure::NotTls),
        (vec![22, 4, 0, 0, 9, 9, 9], Failure::NotTls),
        (Vec::new(), Failure::ClosedInHandshake),
        (vec![22, 3, 3, 0], Failure::ClosedInHandshake),
        (vec![22, 3, 3, 0, 4, 2, 0, 0, 0], Failure::BrokenTls),
        (old, Failure::Incompatible),
        (
            alert(40),
            Failure::Alert(AlertDescription::HandshakeFailure),
        ),
        (alert(70), Failure::Alert(AlertDescription::ProtocolVersion)),
        // A message of 16 MB begins.
        (vec![22, 3, 3, 0, 4, 2, 255, 255, 255], Failure::TooLong),
    ] {
        let mut hear = |bytes: &[u8]| {
            if bytes.is_empty() {
                vec![]
            } else {
                answer.clone()
            }
        };
        for piece in [1, 1200] {
            let result = talk(&mut exchange(&everyone()), &mut hear, piece);
            assert_eq!(result, Err(expected), "{answer:?}");
        }
    }
    assert_eq!(
        words(AlertDescription::HandshakeFailure),
        "handshake failure"
    );
    assert_eq!(words(AlertDescription::UnknownCA), "unknown ca");
    let text = Failure::Certificate(CertificateFault::Expired).to_string();
    assert_eq!(text, "certificate has expired");
}

/// RFC 7301 3.2: a server that speaks HTTP/2 alone.
#[test]
fn a_server_without_our_protocol_says_so() {
    let mut settings = Arc::unwrap_or_clone(settings(SERVER[0], SERVER[1], &VERSIONS));
    settings.alpn_protocols = vec![b"h2".to_vec()];
    let mut server = Server::new(&Arc::new(settings), ANSWER);
    let result = talk(&mut exchange(&everyone()), |bytes| server.hear(bytes), 1200);
    let alert = AlertDescription::NoApplicationProtocol;
    assert_eq!(result, Err(Failure::Alert(alert)));
}

#[test]
fn a_long_chain_is_read_and_an_endless_one_is_not() {
    for version in VERSIONS {
        for (count, expected) in [(60, Ok(200)), (200, Err(Failure::TooLong))] {
            let chain = SERVER[0].repeat(count);
            let mut server = Server::new(&settings(&chain, SERVER[1], &[version]), ANSWER);
            let mut given = 0;
            let hear = |bytes: &[u8]| {
                let said = server.hear(bytes);
                given += said.len();
                said
            };
            let result = talk(&mut exchange(&everyone()), hear, 1200);
            assert_eq!(result, expected, "{count} certificates, {given} bytes");
        }
    }
    // Records that are right and lead nowhere: changes of cipher, which clients of 1.3 pass over, and words without end.
    let change = [20, 3, 3, 0, 1, 1].repeat(40_000);
    let result = talk(&mut exchange(&everyone()), |_| change.clone(), 1200);
    assert!(result.is_err(), "{result:?}");
    let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 90_000]].concat();
    let mut server = Server::new(&settings(SERVER[0], SERVER[1], &VERSIONS), &answer);
    let mut long = exchange(&everyone());
    let result = talk(&mut long, |bytes| server.hear(bytes), 1200);
    assert_eq!(result, Ok(200));
    assert!(long.is_over());
}

/// Cut or damaged anywhere: there is a reason, and nobody waits for more. The status may be known before.
#[test]
fn bytes_that_are_cut_or_damaged_anywhere_have_a_reason() {
    for version in VERSIONS {
        let settings = settings(SERVER[0], SERVER[1], &[version]);
        for is_cut in [true, false] {
            let mut ends = std::collections::BTreeMap::new();
            let mut position = 0_usize;
            loop {
                let mut server = Server::new(&settings, ANSWER);
                let mut given = 0;
                let hear = |bytes: &[u8]| {
                    let mut said = server.hear(bytes);
                    let from = given;
                    given += said.len();
                    let place = position.checked_sub(from);
                    if let Some(byte) = place.and_then(|place| said.get_mut(place)) {
                        *byte ^= 0x15;
                    }
                    if is_cut {
                        said.truncate(position.saturating_sub(from));
                    }
                    said
                };
                let result = talk(&mut exchange(&everyone()), hear, 1200);
                let end = result.map_err(|failure| failure.to_string());
                *ends.entry(end).or_insert(0) += 1;
                if given <= position {
                    break;
                }
                position += 1;
            }
            assert!(position > 500, "{position}");
            let whole = ends.get(&Ok(200)).copied().unwrap_or(0);
            // Nothing but what comes after the status may be lost.
            assert!((1..60).contains(&whole), "{version:?} {is_cut} {ends:?}");
            assert_eq!(ends.keys().filter(|end| end.is_ok()).count(), 1, "{ends:?}");
            let closed = Err(Failure::ClosedInHandshake.to_string());
            assert!(ends.contains_key(&closed) || !is_cut, "{ends:?}");
        }
    }
}

fn https(tls: Tls) -> Target {
    target(Probe::Http {
        port: 80,
        path: "/up".to_owned(),
        host: "www.example.com".to_owned(),
        status: vec![(200, 299)],
        tls: Some(tls),
    })
}

fn joined(tls: Tls, settings: Arc<ServerConfig>, answer: &'static [u8]) -> (Joined, TcpServer) {
    let joined = Joined::new(https(tls));
    let mut server = TcpServer::new(joined.now, b"", 1000);
    server.make = Some(Box::new(move || Server::new(&settings, answer)));
    (joined, server)
}

#[test]
fn a_server_of_https_is_up_while_its_status_and_its_certificate_are_right() {
    for version in VERSIONS {
        let settings = || settings(SERVER[0], SERVER[1], &[version]);
        let (mut right, mut server) = joined(everyone(), settings(), ANSWER);
        right.run(40_000, &mut server);
        assert_eq!(right.report().health, Health::Up);
        let (checks, failures) = right.report().checks;
        assert!(checks >= 18 && failures == 0, "{checks} {failures}");
        let (mut busy, mut server) = joined(everyone(), settings(), b"HTTP/1.1 503 Busy\r\n\r\n");
        busy.run(8000, &mut server);
        assert_eq!(busy.report().health, Health::Down);
        assert_eq!(busy.last(), Err(Failure::Status(503)));
        let wrong = believing(ALONE[0], Some("www.example.com"), NOW);
        let (mut wrong, mut server) = joined(wrong, settings(), ANSWER);
        wrong.run(8000, &mut server);
        assert_eq!(wrong.report().health, Health::Down);
        let fault = CertificateFault::UnknownIssuer;
        assert_eq!(wrong.last(), Err(Failure::Certificate(fault)));
    }
}

#[test]
fn a_server_that_stalls_in_the_handshake_fails_in_time() {
    let mut joined = Joined::new(https(everyone()));
    // It listens, and waits for the end of a request that it cannot read.
    let mut server = TcpServer::new(joined.now, b"", 1);
    joined.run(8000, &mut server);
    assert_eq!(joined.report().health, Health::Down);
    assert_eq!(joined.last(), Err(Failure::Stalled));
    let mut plain = Joined::new(https(everyone()));
    let mut server = TcpServer::new(plain.now, b"HTTP/1.1 400 What\r\n\r\n", 100);
    server.is_eager = true;
    plain.run(8000, &mut server);
    assert_eq!(plain.last(), Err(Failure::NotTls));
    let mut silent = Joined::new(https(everyone()));
    silent.run(8000, &mut silence);
    assert_eq!(silent.last(), Err(Failure::Timeout));
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        /// Nothing panics, whatever is said, and nothing is read without end.
        #[test]
        fn any_bytes_have_a_reason(
            heads in prop::collection::vec((prop::sample::select(vec![20_u8, 21, 22, 23, 24, 72]), prop::collection::vec(any::<u8>(), 0..300)), 0..40),
            piece in 1..3000_usize,
        ) {
            let mut answer = Vec::new();
            for (kind, body) in heads {
                answer.extend([kind, 3, 3]);
                answer.extend((body.len() as u16).to_be_bytes());
                answer.extend(body);
            }
            let result = talk(&mut exchange(&everyone()), |_| answer.clone(), piece);
            prop_assert!(result.is_err());
        }
    }
}
