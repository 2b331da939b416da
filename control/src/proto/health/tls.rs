//! One TLS session from us to a server, by rustls: bytes in, bytes out. Versions 1.2 (RFC 5246) and 1.3 (RFC 8446).
//!
//! What came is kept until it is a whole record, or a whole message of the handshake, of which rustls takes none above
//! 65,535 bytes; how much is given to it altogether is limited by [`exchange`](super::exchange).

use std::net::{IpAddr, Ipv6Addr};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

use super::trust::{Tls, is_authority};
use super::{CertificateFault, Failure};

/// A session.
pub(super) struct Session {
    connection: UnbufferedClientConnection,
    /// What came and is not used yet.
    incoming: Vec<u8>,
    /// What is said when the handshake is over.
    request: Option<Vec<u8>>,
    /// The beginning of what came was used.
    is_begun: bool,
    is_closed: bool,
    has_said_goodbye: bool,
}

impl Session {
    /// Begin one with the server at an address; the first bytes are put behind `outgoing`.
    pub(super) fn begin(
        tls: &Tls,
        peer: Ipv6Addr,
        request: Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Self, Failure> {
        let name = tls.server_name.clone();
        let name = name.unwrap_or(ServerName::from(IpAddr::V6(peer)));
        let connection = UnbufferedClientConnection::new(tls.trust.settings(), name);
        let mut session = Self {
            connection: connection.map_err(|_| Failure::BrokenTls)?,
            incoming: Vec::new(),
            request: Some(request),
            is_begun: false,
            is_closed: false,
            has_said_goodbye: false,
        };
        session.advance(outgoing, &mut Vec::new())?;
        Ok(session)
    }

    /// Bytes came. What they say is put behind `text`, and what is to be sent for them behind `outgoing`. With a failure
    /// that is the alert that says why, and the session is of no more use.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        outgoing: &mut Vec<u8>,
        text: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        self.incoming.extend_from_slice(bytes);
        self.advance(outgoing, text)
    }

    /// Whether nothing could be asked yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.request.is_some()
    }

    /// Whether the server said that nothing more comes (RFC 8446 6.1).
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn advance(&mut self, outgoing: &mut Vec<u8>, text: &mut Vec<u8>) -> Result<(), Failure> {
        let mut failure = None;
        // After a failure rustls must not be given anything, and has an alert to say.
        while failure.is_none() || self.connection.wants_write() {
            // Types and version of records (RFC 8446 5.1).
            let is_tls = self.is_begun || matches!(self.incoming.as_slice(), [20..=24, 3, ..]);
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut is_over = false;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(outgoing, |room| data.encode(room)).ok_or(Failure::BrokenTls)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        text.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::PeerClosed) => self.is_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if let Some(request) = self.request.take() {
                        append(outgoing, |room| traffic.encrypt(&request, room))
                            .ok_or(Failure::BrokenTls)?;
                    }
                    if self.is_closed && !self.has_said_goodbye {
                        self.has_said_goodbye = true;
                        append(outgoing, |room| traffic.queue_close_notify(room))
                            .ok_or(Failure::BrokenTls)?;
                    }
                    is_over = true;
                }
                // More is needed, or nothing more can come.
                Ok(_) => is_over = true,
                Err(error) => failure = Some(self::failure(&error, is_tls)),
            }
            self.is_begun |= discard > 0;
            self.incoming.drain(..discard.min(self.incoming.len()));
            if is_over {
                break;
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Put something behind a buffer, which says how much room it needs.
fn append<E: Into<Refused>>(
    outgoing: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Option<()> {
    let begin = outgoing.len();
    let needed = match write(&mut []).map_err(E::into) {
        Ok(_) => return Some(()),
        Err(Refused(needed)) => needed?,
    };
    outgoing.resize(begin + needed, 0);
    let written = write(outgoing.get_mut(begin..)?).ok();
    outgoing.truncate(begin + written.unwrap_or(0));
    written.map(|_| ())
}

/// Nothing was written: it needs this much room, or cannot be.
struct Refused(Option<usize>);

impl From<EncodeError> for Refused {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self(Some(required_size))
            }
            EncodeError::AlreadyEncoded => Self(None),
        }
    }
}

impl From<EncryptError> for Refused {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
                Self(Some(required_size))
            }
            EncryptError::EncryptExhausted => Self(None),
        }
    }
}

fn failure(error: &Error, is_tls: bool) -> Failure {
    match error {
        Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        ) => Failure::TooLong,
        Error::InvalidMessage(_) if !is_tls => Failure::NotTls,
        Error::AlertReceived(alert) => Failure::Alert(*alert),
        Error::PeerIncompatible(_) => Failure::Incompatible,
        Error::NoCertificatesPresented => Failure::Certificate(CertificateFault::Missing),
        Error::InvalidCertificate(why) => Failure::Certificate(fault(why)),
        _ => Failure::BrokenTls,
    }
}

fn fault(why: &CertificateError) -> CertificateFault {
    match why {
        CertificateError::BadEncoding => CertificateFault::Unreadable,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CertificateFault::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::OtherName
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateFault::OtherPurpose
        }
        CertificateError::BadSignature => CertificateFault::BadSignature,
        CertificateError::Other(OtherError(why)) if is_authority(&**why) => {
            CertificateFault::Authority
        }
        _ => CertificateFault::Unacceptable,
    }
}

/// An alert's name in words (RFC 8446 6).
pub(super) fn words(alert: AlertDescription) -> String {
    let mut words = String::new();
    let mut was_small = false;
    for letter in format!("{alert:?}").chars() {
        if was_small && letter.is_ascii_uppercase() {
            words.push(' ');
        }
        was_small = letter.is_ascii_lowercase();
        words.push(letter.to_ascii_lowercase());
    }
    words
}
