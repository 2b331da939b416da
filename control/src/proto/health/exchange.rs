//! A request and the status of its answer, as it is or in TLS: bytes in, bytes out.

use std::net::Ipv6Addr;

use super::Failure;
use super::tls::Session;
use super::trust::Tls;
use super::wire;

/// Bytes of an answer that are read, at most: it is the status that counts.
const ANSWER_MAX: usize = 65_536;
/// Bytes of a handshake, at most: a chain of certificates has some thousands.
const HANDSHAKE_MAX: usize = 131_072;

/// An exchange.
pub(super) struct Exchange {
    session: Option<Session>,
    /// To be sent.
    outgoing: Vec<u8>,
    /// The beginning of the answer, until it has a status.
    answer: Vec<u8>,
    result: Option<Result<u16, Failure>>,
    is_broken: bool,
    handshake_bytes: usize,
    answer_bytes: usize,
}

impl Exchange {
    /// Over a connection as it is.
    pub(super) fn plain(request: Vec<u8>) -> Self {
        Self {
            session: None,
            outgoing: request,
            answer: Vec::new(),
            result: None,
            is_broken: false,
            handshake_bytes: 0,
            answer_bytes: 0,
        }
    }

    /// In TLS, with the server at an address.
    pub(super) fn encrypted(request: Vec<u8>, tls: &Tls, peer: Ipv6Addr) -> Self {
        let mut exchange = Self::plain(Vec::new());
        match Session::begin(tls, peer, request, &mut exchange.outgoing) {
            Ok(session) => exchange.session = Some(session),
            Err(failure) => exchange.result = Some(Err(failure)),
        }
        exchange
    }

    /// Bytes came from the server.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let Some(session) = &mut self.session else {
            self.answer_bytes += bytes.len();
            return self.read(bytes);
        };
        let count = if session.is_handshaking() {
            &mut self.handshake_bytes
        } else {
            &mut self.answer_bytes
        };
        *count += bytes.len();
        let mut text = Vec::new();
        let received = session.receive(bytes, &mut self.outgoing, &mut text);
        self.read(&text);
        if let Err(failure) = received {
            self.result.get_or_insert(Err(failure));
            self.is_broken = true;
            self.session = None;
        }
    }

    fn read(&mut self, text: &[u8]) {
        if self.result.is_none() {
            self.answer.extend_from_slice(text);
            self.result = wire::status(&self.answer);
        }
    }

    /// Bytes for the server; what is taken from them was sent.
    pub(super) fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    /// The status, or why there is none to come. `is_closed`: the server sends nothing more.
    pub(super) fn result(&self, is_closed: bool) -> Option<Result<u16, Failure>> {
        let is_over = || match &self.session {
            _ if self.is_long() => Some(Err(Failure::TooLong)),
            Some(session) if is_closed && session.is_handshaking() => {
                Some(Err(Failure::ClosedInHandshake))
            }
            _ if is_closed || self.is_closed() => Some(Err(Failure::Closed)),
            _ => None,
        };
        self.result.or_else(is_over)
    }

    /// Whether nothing more is read.
    pub(super) fn is_over(&self) -> bool {
        self.is_broken || self.is_long() || self.is_closed()
    }

    /// Why there is no result when time is over.
    pub(super) fn late(&self) -> Failure {
        match &self.session {
            Some(session) if session.is_handshaking() => Failure::Stalled,
            _ => Failure::Timeout,
        }
    }

    fn is_long(&self) -> bool {
        self.answer_bytes >= ANSWER_MAX || self.handshake_bytes >= HANDSHAKE_MAX
    }

    fn is_closed(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_closed)
    }
}
