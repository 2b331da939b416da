//! Map-Register, Map-Notify and Map-Notify-Ack, which have one body (RFC 9301 5.6, 5.7).
//!
//! ```text
//! Type=3 P S I rsvd12 E T a R M | count 8 |
//! Type=4, 5 rsvd20              | count 8 | nonce 64 | key id 8 | algorithm 8 | length 16 | authentication data
//!                                         | (EID record) x count | [xTR-ID 128 | Site-ID 64]
//! ```
//!
//! The RFC gives a Map-Notify "the same contents" as its Map-Register and no I-bit to say that xTR-ID and Site-ID are
//! among them. Deployed routers differ: so they are found by the bytes that are left after the last record, whatever
//! the bit says, and the bit is sent where they are.

use super::error::Error;
use super::reader::Reader;
use super::record::Record;
use super::{bit, count_of, first_word, types};

/// Longest authentication data: a whole SHA-256.
const MAC_LEN_MAX: u16 = 32;

/// The I-bit of a Map-Register, and that of deployed Map-Notifies.
const IDENTITY: [u32; 2] = [bit(6), bit(4)];

/// Who registers (RFC 9301 5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Of the router, unique in its site.
    pub xtr_id: u128,
    /// Of the site.
    pub site_id: u64,
}

impl Identity {
    /// Bytes it takes in a message.
    pub const LEN: usize = 24;

    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            xtr_id: u128::from_be_bytes(reader.array()?),
            site_id: reader.u64()?,
        })
    }

    pub(super) fn emit(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.xtr_id.to_be_bytes());
        bytes.extend(self.site_id.to_be_bytes());
    }
}

/// What the three messages have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Rising from one Map-Register to the next; that of the message that is answered in an answer.
    pub nonce: u64,
    /// Which secret.
    pub key_id: u8,
    /// Which method; see [`auth::Algorithm`](super::auth::Algorithm).
    pub algorithm_id: u8,
    /// Authentication data; its length is the room it has, at most 32 bytes.
    pub mac: Vec<u8>,
    /// The mappings; at most 255 are written.
    pub records: Vec<Record>,
    /// Who registers.
    pub identity: Option<Identity>,
}

impl Registration {
    /// Bytes in front of the authentication data.
    pub const MAC_OFFSET: usize = 16;

    /// After the first word.
    fn parse(reader: &mut Reader<'_>, count: u8, has_identity: bool) -> Result<Self, Error> {
        let nonce = reader.u64()?;
        let [key_id, algorithm_id] = reader.array()?;
        let length = reader.u16()?;
        if length > MAC_LEN_MAX {
            return Err(Error::MacLength(length));
        }
        let mac = reader.take(usize::from(length))?.to_vec();
        let records = Record::parse_all(reader, count)?;
        let identity = match reader.remaining() {
            0 if has_identity => return Err(Error::NoIdentity),
            0 => None,
            Identity::LEN => Some(Identity::parse(reader)?),
            other => return Err(Error::Trailing(other)),
        };
        Ok(Self {
            nonce,
            key_id,
            algorithm_id,
            mac,
            records,
            identity,
        })
    }

    fn emit(&self, kind: u8, flags: u32) -> Vec<u8> {
        let (records, count) = count_of(&self.records);
        let mac = self.mac.get(..usize::from(MAC_LEN_MAX));
        let mac = mac.unwrap_or(&self.mac);
        let length = u16::try_from(mac.len()).expect("at most 32");
        let mut bytes = Vec::with_capacity(192);
        bytes.extend(first_word(kind, flags, count));
        bytes.extend(self.nonce.to_be_bytes());
        bytes.extend([self.key_id, self.algorithm_id]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(mac);
        for record in records {
            record.emit(&mut bytes);
        }
        if let Some(identity) = &self.identity {
            identity.emit(&mut bytes);
        }
        bytes
    }
}

/// The flags of a Map-Register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegisterFlags {
    /// P: the Map-Server answers for the ETR.
    pub proxy_reply: bool,
    /// S: the ETR can do LISP-SEC (RFC 9303).
    pub security: bool,
    /// E: a first-hop router tells its site's xTR of an EID.
    pub eid_notify: bool,
    /// T: the registration ends when the record's TTL does.
    pub use_ttl: bool,
    /// a: locators of several xTRs are merged.
    pub merge: bool,
    /// M: a Map-Notify is wanted.
    pub want_notify: bool,
}

impl RegisterFlags {
    fn fields(&mut self) -> [(&mut bool, u32); 6] {
        [
            (&mut self.proxy_reply, bit(4)),
            (&mut self.security, bit(5)),
            (&mut self.eid_notify, bit(19)),
            (&mut self.use_ttl, bit(20)),
            (&mut self.merge, bit(21)),
            (&mut self.want_notify, bit(23)),
        ]
    }

    fn from_word(word: u32) -> Self {
        let mut flags = Self::default();
        for (flag, mask) in flags.fields() {
            *flag = word & mask != 0;
        }
        flags
    }

    fn word(mut self) -> u32 {
        let set = self.fields().into_iter().filter(|(flag, _)| **flag);
        set.fold(0, |word, (_, mask)| word | mask)
    }
}

/// A Map-Register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Its flags.
    pub flags: RegisterFlags,
    /// The rest.
    pub body: Registration,
}

impl Register {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let word = reader.u32()?;
        let [.., count] = word.to_be_bytes();
        let [identity, _] = IDENTITY;
        Ok(Self {
            flags: RegisterFlags::from_word(word),
            body: Registration::parse(&mut reader, count, word & identity != 0)?,
        })
    }

    /// As bytes.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let mut flags = self.flags.word();
        let [identity, _] = IDENTITY;
        if self.body.identity.is_some() {
            flags |= identity;
        }
        self.body.emit(types::MAP_REGISTER, flags)
    }
}

/// A Map-Notify or a Map-Notify-Ack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// All of it.
    pub body: Registration,
}

impl Notify {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let [.., count] = reader.u32()?.to_be_bytes();
        // The bit is reserved here: only the bytes that are left count.
        let body = Registration::parse(&mut reader, count, false)?;
        Ok(Self { body })
    }

    pub(super) fn emit(&self, kind: u8) -> Vec<u8> {
        let [_, identity] = IDENTITY;
        let flags = match self.body.identity {
            Some(_) => identity,
            None => 0,
        };
        self.body.emit(kind, flags)
    }
}
