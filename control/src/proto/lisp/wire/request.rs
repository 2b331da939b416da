//! Map-Request (RFC 9301 5.2).
//!
//! ```text
//! Type=1 A M P S p s R I rsvd5 L D IRC5 | count 8 | nonce 64 | source EID | (ITR-RLOC) x (IRC + 1)
//! | (N rsvd7 | mask 8 | EID) x count | [EID record if M] | [xTR-ID 128 | Site-ID 64 if I]
//! ```
//!
//! The I-bit with its trailer and the N-bit are those of RFC 9437.

use std::net::IpAddr;

use ipnet::IpNet;

use super::address::{self, Address, EidAddress};
use super::error::Error;
use super::reader::Reader;
use super::record::Record;
use super::register::Identity;
use super::{bit, count_of, first_word, types};
use crate::proto::lisp::EidKey;

/// Most ITR-RLOCs of a request: five bits that count from one.
pub const ITR_RLOCS_MAX: usize = 32;

const ASKED_LEN_MIN: usize = 4;
const RLOC_LEN_MIN: usize = 2;
const SUBSCRIBE: u8 = 0x80;

/// The flags of a Map-Request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RequestFlags {
    /// A: an answer from an ETR is wanted, not from who speaks for it.
    pub authoritative: bool,
    /// P: it probes the RLOC it is sent to.
    pub probe: bool,
    /// S: the receiver should ask again, as a mapping changed.
    pub solicit: bool,
    /// p: a proxy ITR asks.
    pub pitr: bool,
    /// s: asked because of an S.
    pub smr_invoked: bool,
    /// L: the asker is in the same site as the ETR.
    pub local_xtr: bool,
    /// D: no answer is wanted.
    pub no_reply: bool,
}

impl RequestFlags {
    fn fields(&mut self) -> [(&mut bool, u32); 7] {
        [
            (&mut self.authoritative, bit(4)),
            (&mut self.probe, bit(6)),
            (&mut self.solicit, bit(7)),
            (&mut self.pitr, bit(8)),
            (&mut self.smr_invoked, bit(9)),
            (&mut self.local_xtr, bit(17)),
            (&mut self.no_reply, bit(18)),
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

/// A prefix that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The prefix: of a host, or of a mapping that is to be refreshed or probed.
    pub key: EidKey,
    /// N: changes are to be told (RFC 9437).
    pub subscribe: bool,
}

/// A Map-Request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its flags.
    pub flags: RequestFlags,
    /// What the answer must carry.
    pub nonce: u64,
    /// The host whose packet was the reason, or what changed (S); none to refresh and to probe.
    pub source: Option<EidAddress>,
    /// Where answers may go, 1 to [`ITR_RLOCS_MAX`]; those that were not understood are not here.
    pub itr_rlocs: Vec<IpAddr>,
    /// What is asked: at least one, exactly one from us.
    pub asked: Vec<Asked>,
    /// The asker's own mapping (M), to be confirmed before it is used (RFC 9301 5.3).
    pub own: Option<Record>,
    /// Who asks, with the I-bit of RFC 9437.
    pub identity: Option<Identity>,
}

impl Request {
    const MAP_DATA: u32 = bit(5);
    const IDENTITY: u32 = bit(11);

    /// A question for one prefix.
    #[must_use]
    pub fn new(nonce: u64, itr_rlocs: Vec<IpAddr>, key: EidKey) -> Self {
        Self {
            flags: RequestFlags::default(),
            nonce,
            source: None,
            itr_rlocs,
            asked: vec![Asked {
                key,
                subscribe: false,
            }],
            own: None,
            identity: None,
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let word = reader.u32()?;
        let [_, _, irc, count] = word.to_be_bytes();
        let nonce = reader.u64()?;
        let source = Address::parse(&mut reader)?.eid()?;
        // The count is one less than there are.
        let rlocs = usize::from(irc & 0x1f) + 1;
        reader.check_room(rlocs, RLOC_LEN_MIN)?;
        let mut itr_rlocs = Vec::with_capacity(rlocs);
        for _ in 0..rlocs {
            itr_rlocs.extend(Address::parse(&mut reader)?.rloc());
        }
        if itr_rlocs.is_empty() {
            return Err(Error::NoItrRloc);
        }
        let count = usize::from(count);
        reader.check_room(count, ASKED_LEN_MIN)?;
        let mut asked = Vec::with_capacity(count);
        for _ in 0..count {
            let [flags, mask] = reader.array()?;
            asked.push(Asked {
                key: Address::parse(&mut reader)?.prefix(mask)?,
                subscribe: flags & SUBSCRIBE != 0,
            });
        }
        if asked.is_empty() {
            return Err(Error::NoRecords);
        }
        let own = match word & Self::MAP_DATA {
            0 => None,
            _ => Some(Record::parse(&mut reader)?),
        };
        let identity = match word & Self::IDENTITY {
            0 => None,
            _ => Some(Identity::parse(&mut reader).map_err(|_| Error::NoIdentity)?),
        };
        Ok(Self {
            flags: RequestFlags::from_word(word),
            nonce,
            source,
            itr_rlocs,
            asked,
            own,
            identity,
        })
    }

    /// As bytes. What the counts cannot say is left out; without an ITR-RLOC there is one of no family.
    #[must_use]
    pub fn emit(&self) -> Vec<u8> {
        let (asked, count) = count_of(&self.asked);
        let rlocs = self.itr_rlocs.get(..ITR_RLOCS_MAX);
        let rlocs = rlocs.unwrap_or(&self.itr_rlocs);
        let irc = u32::try_from(rlocs.len().saturating_sub(1)).expect("at most 31");
        let mut flags = self.flags.word() | irc << 8;
        if self.own.is_some() {
            flags |= Self::MAP_DATA;
        }
        if self.identity.is_some() {
            flags |= Self::IDENTITY;
        }
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(first_word(types::MAP_REQUEST, flags, count));
        bytes.extend(self.nonce.to_be_bytes());
        match self.source {
            None => address::emit_rloc(None, &mut bytes),
            Some(source) => address::emit_eid(source.instance, source.address, &mut bytes),
        }
        if rlocs.is_empty() {
            address::emit_rloc(None, &mut bytes);
        }
        for rloc in rlocs {
            address::emit_rloc(Some(*rloc), &mut bytes);
        }
        for Asked { key, subscribe } in asked {
            let eid: IpNet = key.eid;
            bytes.extend([if *subscribe { SUBSCRIBE } else { 0 }, eid.prefix_len()]);
            address::emit_eid(key.instance, eid.network(), &mut bytes);
        }
        if let Some(own) = &self.own {
            own.emit(&mut bytes);
        }
        if let Some(identity) = &self.identity {
            identity.emit(&mut bytes);
        }
        bytes
    }
}
