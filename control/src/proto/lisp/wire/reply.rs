//! Map-Reply (RFC 9301 5.4).
//!
//! ```text
//! Type=2 P E S rsvd17 | count 8 | nonce 64 | (EID record) x count | [LISP-SEC data if S, left alone]
//! ```

use super::error::Error;
use super::reader::Reader;
use super::record::Record;
use super::{bit, count_of, first_word, types};

/// The flags of a Map-Reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplyFlags {
    /// P: it answers a probe.
    pub probe: bool,
    /// E: the site takes part in the echo of nonces (RFC 9300 10.1).
    pub echo_nonce: bool,
}

/// A Map-Reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its flags.
    pub flags: ReplyFlags,
    /// That of the request.
    pub nonce: u64,
    /// The mappings; at most 255 are written.
    pub records: Vec<Record>,
}

impl Reply {
    const PROBE: u32 = bit(4);
    const ECHO_NONCE: u32 = bit(5);
    /// Bytes in front of the records.
    pub const HEADER_LEN: usize = 12;

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let word = reader.u32()?;
        let [.., count] = word.to_be_bytes();
        let nonce = reader.u64()?;
        let records = Record::parse_all(&mut reader, count)?;
        Ok(Self {
            flags: ReplyFlags {
                probe: word & Self::PROBE != 0,
                echo_nonce: word & Self::ECHO_NONCE != 0,
            },
            nonce,
            records,
        })
    }

    /// As bytes.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let (records, count) = count_of(&self.records);
        let mut flags = 0;
        if self.flags.probe {
            flags |= Self::PROBE;
        }
        if self.flags.echo_nonce {
            flags |= Self::ECHO_NONCE;
        }
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(first_word(types::MAP_REPLY, flags, count));
        bytes.extend(self.nonce.to_be_bytes());
        for record in records {
            record.emit(&mut bytes);
        }
        bytes
    }
}
