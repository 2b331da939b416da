//! Authentication of Map-Register, Map-Notify and Map-Notify-Ack (RFC 9301 5.6).
//!
//! ```text
//! algorithm             MAC             its bytes   as deployed routers send it   key
//! 1 HMAC-SHA-1-96       HMAC-SHA-1             12   20                            the secret
//! 2 HMAC-SHA-256-128    HMAC-SHA-256           16   32                            the secret
//! 3 the same with HKDF  HMAC-SHA-256           16   32                            derived for each message
//! ```
//!
//! The MAC is over the message with its authentication data zeroed. The RFC says "the entire payload" and then, of a
//! Map-Register, only "to the last record": here it is made over all of it, and both are accepted where xTR-ID and
//! Site-ID follow, unless [`Acceptance::strict`] says otherwise.

use std::fmt;
use std::ops::Range;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::Sha256;

use super::register::{Identity, Registration};
use super::types;

/// How messages are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// 1: HMAC-SHA-1-96.
    HmacSha1,
    /// 2: HMAC-SHA-256-128.
    HmacSha256,
    /// 3: HMAC-SHA-256-128 with a key that HKDF-SHA-256 makes for each message.
    HkdfSha256,
}

impl Algorithm {
    /// All of them, in the order of their code points.
    pub const ALL: [Self; 3] = [Self::HmacSha1, Self::HmacSha256, Self::HkdfSha256];

    /// By its code point.
    #[must_use]
    pub const fn new(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::HmacSha1),
            2 => Some(Self::HmacSha256),
            3 => Some(Self::HkdfSha256),
            _ => None,
        }
    }

    /// Its code point.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::HmacSha1 => 1,
            Self::HmacSha256 => 2,
            Self::HkdfSha256 => 3,
        }
    }

    /// The word for it in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HkdfSha256 => "hkdf-sha256",
        }
    }

    /// Bytes of its MAC as the RFC has it.
    #[must_use]
    pub const fn mac_len(self) -> usize {
        match self {
            Self::HmacSha1 => 12,
            Self::HmacSha256 | Self::HkdfSha256 => 16,
        }
    }

    /// Bytes of the MAC that was not truncated, which deployed routers send.
    #[must_use]
    pub const fn full_mac_len(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha256 | Self::HkdfSha256 => 32,
        }
    }
}

/// A shared secret, prepared for each algorithm. Never shown.
#[derive(Clone)]
pub struct Secret {
    bytes: Vec<u8>,
    sha1: Hmac<Sha1>,
    sha256: Hmac<Sha256>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Secret {}

impl Secret {
    /// Of any length.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        const ANY: &str = "HMAC takes a key of any length (RFC 2104 3)";
        Self {
            bytes: bytes.to_vec(),
            sha1: Hmac::new_from_slice(bytes).expect(ANY),
            sha256: Hmac::new_from_slice(bytes).expect(ANY),
        }
    }
}

/// What is accepted of a peer beyond what the RFC says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// Only MACs of the RFC's length, over the whole message.
    pub strict: bool,
}

/// Why a message is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// None, or one that is not known here.
    #[error("unknown authentication algorithm {0}")]
    Algorithm(u8),
    /// Shorter than the algorithm's, or of a length nobody sends.
    #[error("authentication data of {0} bytes is not that of the algorithm")]
    Length(usize),
    /// Another secret, or another message.
    #[error("wrong authentication data")]
    Mac,
}

impl Refused {
    /// A word for it, for counters.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Algorithm(_) => "auth_algorithm",
            Self::Length(_) => "auth_length",
            Self::Mac => "auth_mac",
        }
    }
}

/// Whether a message is authentic: `bytes` are those of which `registration` was read.
///
/// # Errors
/// When it is not, and why: such a message is dropped with no further processing (RFC 9301 5.7).
pub fn verify(
    bytes: &[u8],
    registration: &Registration,
    secret: &Secret,
    acceptance: Acceptance,
) -> Result<(), Refused> {
    let id = registration.algorithm_id;
    let algorithm = Algorithm::new(id).ok_or(Refused::Algorithm(id))?;
    let length = registration.mac.len();
    let is_full = !acceptance.strict && length == algorithm.full_mac_len();
    if length != algorithm.mac_len() && !is_full {
        return Err(Refused::Length(length));
    }
    let message = Message::new(bytes, length).ok_or(Refused::Length(length))?;
    if message.has_mac(algorithm, secret, &registration.mac) {
        return Ok(());
    }
    if registration.identity.is_some() && !acceptance.strict {
        let shorter = bytes.len().checked_sub(Identity::LEN);
        let shorter = shorter.and_then(|end| bytes.get(..end));
        let message = shorter.and_then(|bytes| Message::new(bytes, length));
        if message.is_some_and(|message| message.has_mac(algorithm, secret, &registration.mac)) {
            return Ok(());
        }
    }
    Err(Refused::Mac)
}

/// Compute the MAC of a message that has room for it and write it there.
///
/// # Errors
/// When the message says no known algorithm, or has not the room that one of its lengths takes.
pub fn seal(bytes: &mut [u8], secret: &Secret) -> Result<(), Refused> {
    let header: [u8; Registration::MAC_OFFSET] =
        *bytes.first_chunk().ok_or(Refused::Length(bytes.len()))?;
    let [.., id, high, low] = header;
    let algorithm = Algorithm::new(id).ok_or(Refused::Algorithm(id))?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length != algorithm.mac_len() && length != algorithm.full_mac_len() {
        return Err(Refused::Length(length));
    }
    let message = Message::new(bytes, length).ok_or(Refused::Length(length))?;
    let mac = message.mac(algorithm, secret);
    let range = mac_range(length);
    let (Some(field), Some(mac)) = (bytes.get_mut(range), mac.get(..length)) else {
        return Err(Refused::Length(length));
    };
    field.copy_from_slice(mac);
    Ok(())
}

fn mac_range(length: usize) -> Range<usize> {
    Registration::MAC_OFFSET..Registration::MAC_OFFSET + length
}

/// A message around its authentication data.
struct Message<'a> {
    before: &'a [u8],
    mac_len: usize,
    after: &'a [u8],
}

impl<'a> Message<'a> {
    fn new(bytes: &'a [u8], mac_len: usize) -> Option<Self> {
        let range = mac_range(mac_len);
        Some(Self {
            before: bytes.get(..range.start)?,
            mac_len,
            after: bytes.get(range.end..)?,
        })
    }

    /// Its bytes, the authentication data as zeros (RFC 9301 5.6).
    fn parts(&self) -> [&[u8]; 3] {
        const ZEROS: [u8; 32] = [0; 32];
        let zeros = ZEROS.get(..self.mac_len).unwrap_or(&ZEROS);
        [self.before, zeros, self.after]
    }

    fn sha1(&self, secret: &Secret) -> Hmac<Sha1> {
        let mut hmac = secret.sha1.clone();
        for part in self.parts() {
            hmac.update(part);
        }
        hmac
    }

    fn sha256(&self, algorithm: Algorithm, secret: &Secret) -> Hmac<Sha256> {
        let mut hmac = match algorithm {
            Algorithm::HkdfSha256 => {
                let key = self.derived_key(secret);
                Hmac::new_from_slice(&key).expect("HMAC takes a key of any length (RFC 2104 3)")
            }
            Algorithm::HmacSha1 | Algorithm::HmacSha256 => secret.sha256.clone(),
        };
        for part in self.parts() {
            hmac.update(part);
        }
        hmac
    }

    /// In constant time; the MAC may be truncated, its length was judged before.
    fn has_mac(&self, algorithm: Algorithm, secret: &Secret, mac: &[u8]) -> bool {
        match algorithm {
            Algorithm::HmacSha1 => self.sha1(secret).verify_truncated_left(mac).is_ok(),
            Algorithm::HmacSha256 | Algorithm::HkdfSha256 => {
                let hmac = self.sha256(algorithm, secret);
                hmac.verify_truncated_left(mac).is_ok()
            }
        }
    }

    /// Not truncated.
    fn mac(&self, algorithm: Algorithm, secret: &Secret) -> Vec<u8> {
        match algorithm {
            Algorithm::HmacSha1 => self.sha1(secret).finalize().into_bytes().to_vec(),
            Algorithm::HmacSha256 | Algorithm::HkdfSha256 => {
                let hmac = self.sha256(algorithm, secret);
                hmac.finalize().into_bytes().to_vec()
            }
        }
    }

    fn derived_key(&self, secret: &Secret) -> [u8; 32] {
        let mut fields = super::Reader::new(self.before);
        let kind = fields.u32().map_or(0, |word| word >> 28);
        let nonce = fields.u64().unwrap_or_default();
        // `as`: four bits
        derive_key(secret, nonce, kind as u8)
    }
}

/// The key of one message of algorithm 3. RFC 9301 5.6: `KDF(nonce + PSK, s)`, where `+` joins and `s` is the salt of
/// the message type. Which inputs of HKDF (RFC 5869) these are it does not say; taken here: the joined value is the
/// input keying material, `s` the salt, the info is empty and the key has the 32 bytes of RFC 4868 2.1.1.
fn derive_key(secret: &Secret, nonce: u64, kind: u8) -> [u8; 32] {
    let salt: &[u8] = match kind {
        types::MAP_NOTIFY => b"Map-Notify Authentication",
        types::MAP_NOTIFY_ACK => b"Map-Notify-Ack Authentication",
        _ => b"Map-Register Authentication",
    };
    let material = [&nonce.to_be_bytes()[..], &secret.bytes].concat();
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), &material)
        .expand(&[], &mut key)
        .expect("HKDF makes up to 255 times the length of the hash (RFC 5869 2.3)");
    key
}

#[cfg(test)]
mod tests;
