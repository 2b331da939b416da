//! EID records and their locators, which every message but a Map-Request consists of (RFC 9301 5.4).
//!
//! ```text
//! EID record  TTL 32 (minutes) | locators 8 | mask 8 | ACT 3, A 1, rsvd 12 | rsvd 4, map-version 12 | AFI 16 | prefix
//! locator     priority 8 | weight 8 | multicast priority 8 | multicast weight 8 | unused 13, L, p, R | AFI 16 | address
//! ```

use std::net::IpAddr;

use super::address::{self, Address};
use super::count_of;
use super::error::Error;
use super::reader::Reader;
use crate::proto::lisp::{Action, EidKey, Locator, Mapping, mapping::LOCATORS_MAX};

/// Smallest record and locator: of family 0. What cannot hold as many is not read.
const RECORD_LEN_MIN: usize = 12;
const LOCATOR_LEN_MIN: usize = 8;

const AUTHORITATIVE: u16 = 1 << 12;
const MAP_VERSION: u16 = 0x0fff;

const LOCAL: u16 = 1 << 2;
const PROBED: u16 = 1 << 1;
const REACHABLE: u16 = 1;

/// The three bits of ACT, those included that mean nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Act(u8);

impl Act {
    /// `None` where three bits are not enough.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        if bits < 8 { Some(Self(bits)) } else { None }
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// What is to be done; `None` for the two that are unassigned and count as "no action".
    #[must_use]
    pub const fn action(self) -> Option<Action> {
        match self.0 {
            0 => Some(Action::NoAction),
            1 => Some(Action::Native),
            2 => Some(Action::SendMapRequest),
            3 => Some(Action::Drop),
            4 => Some(Action::PolicyDenied),
            5 => Some(Action::AuthFailure),
            _ => None,
        }
    }
}

impl From<Action> for Act {
    fn from(action: Action) -> Self {
        Self(match action {
            Action::NoAction => 0,
            // To whom it is said, a proxy ETR of ours is nothing.
            Action::Native | Action::Petr => 1,
            Action::SendMapRequest => 2,
            Action::Drop => 3,
            Action::PolicyDenied => 4,
            Action::AuthFailure => 5,
        })
    }
}

/// A locator of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocatorRecord {
    /// The address.
    pub rloc: IpAddr,
    /// The lowest is used, 255 never.
    pub priority: u8,
    /// Share among those of the same priority.
    pub weight: u8,
    /// The same for multicast.
    pub multicast_priority: u8,
    /// The same for multicast.
    pub multicast_weight: u8,
    /// L: it is the sender's own.
    pub is_local: bool,
    /// p: it is the one that was probed.
    pub is_probed: bool,
    /// R: the sender can reach it.
    pub is_reachable: bool,
}

impl LocatorRecord {
    /// A locator for unicast, reachable.
    #[must_use]
    pub const fn new(locator: Locator) -> Self {
        Self {
            rloc: locator.rloc,
            priority: locator.priority,
            weight: locator.weight,
            multicast_priority: 255,
            multicast_weight: 0,
            is_local: false,
            is_probed: false,
            is_reachable: locator.up,
        }
    }

    /// As a mapping has it: weights above the largest count as the largest.
    #[must_use]
    pub fn locator(&self) -> Locator {
        Locator {
            rloc: self.rloc,
            priority: self.priority,
            weight: self.weight.min(Locator::WEIGHT_MAX),
            up: self.is_reachable,
        }
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Option<Self>, Error> {
        let [priority, weight, multicast_priority, multicast_weight] = reader.array()?;
        let flags = reader.u16()?;
        let rloc = Address::parse(reader)?.rloc();
        Ok(rloc.map(|rloc| Self {
            rloc,
            priority,
            weight,
            multicast_priority,
            multicast_weight,
            is_local: flags & LOCAL != 0,
            is_probed: flags & PROBED != 0,
            is_reachable: flags & REACHABLE != 0,
        }))
    }

    fn emit(&self, bytes: &mut Vec<u8>) {
        let mut flags = 0;
        for (is_set, flag) in [
            (self.is_local, LOCAL),
            (self.is_probed, PROBED),
            (self.is_reachable, REACHABLE),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        bytes.extend([
            self.priority,
            self.weight,
            self.multicast_priority,
            self.multicast_weight,
        ]);
        bytes.extend(flags.to_be_bytes());
        address::emit_rloc(Some(self.rloc), bytes);
    }
}

/// What is said of an EID prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The prefix.
    pub key: EidKey,
    /// How long it holds, in minutes; 0: no longer; [`Record::TTL_UNSAID`]: as long as the receiver likes.
    pub ttl_minutes: u32,
    /// What to do without locators; of a meaning in a Map-Reply only (RFC 9301 5.4).
    pub act: Act,
    /// A: an ETR of the site says it.
    pub is_authoritative: bool,
    /// 12 bits (RFC 9302), 0: none.
    pub map_version: u16,
    /// Where packets go; at most 255 are written. Those that were not understood are not here.
    pub locators: Vec<LocatorRecord>,
}

impl Record {
    /// A TTL that leaves the matter to the receiver (RFC 9301 5.4).
    pub const TTL_UNSAID: u32 = u32::MAX;

    /// A record without locators.
    #[must_use]
    pub const fn negative(key: EidKey, act: Act, ttl_minutes: u32) -> Self {
        Self {
            key,
            ttl_minutes,
            act,
            is_authoritative: false,
            map_version: 0,
            locators: Vec::new(),
        }
    }

    /// Locators in the order of RFC 9301 5.5: ascending, IPv4 before IPv6.
    pub fn sort_locators(&mut self) {
        self.locators.sort_by_key(|locator| locator.rloc);
    }

    /// As the map-cache has it: the first [`LOCATORS_MAX`] different locators, or the action.
    #[must_use]
    pub fn mapping(&self) -> Mapping {
        let mut locators: Vec<Locator> = Vec::new();
        for record in &self.locators {
            let is_new = locators.iter().all(|known| known.rloc != record.rloc);
            if is_new && locators.len() < LOCATORS_MAX {
                locators.push(record.locator());
            }
        }
        if locators.is_empty() {
            return Mapping::Negative(self.act.action().unwrap_or(Action::NoAction));
        }
        Mapping::Locators {
            locators,
            version: self.map_version,
        }
    }

    /// Bytes it takes in a message.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        let locators = self.locators.iter().take(255);
        let locators = locators.map(|locator| 6 + address::rloc_len(locator.rloc));
        let EidKey { instance, eid } = self.key;
        10 + address::eid_len(instance, eid.addr()) + locators.sum::<usize>()
    }

    pub(in crate::proto::lisp) fn parse(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let ttl_minutes = reader.u32()?;
        let [count, mask] = reader.array()?;
        let [flags, map_version] = [reader.u16()?, reader.u16()?];
        let key = Address::parse(reader)?.prefix(mask)?;
        let count = usize::from(count);
        reader.check_room(count, LOCATOR_LEN_MIN)?;
        let mut locators = Vec::with_capacity(count);
        for _ in 0..count {
            locators.extend(LocatorRecord::parse(reader)?);
        }
        let [act, _] = flags.to_be_bytes();
        Ok(Self {
            key,
            ttl_minutes,
            act: Act(act >> 5),
            is_authoritative: flags & AUTHORITATIVE != 0,
            map_version: map_version & MAP_VERSION,
            locators,
        })
    }

    /// `count` records and nothing behind them judged.
    pub(super) fn parse_all(reader: &mut Reader<'_>, count: u8) -> Result<Vec<Self>, Error> {
        let count = usize::from(count);
        reader.check_room(count, RECORD_LEN_MIN)?;
        let mut records = Vec::with_capacity(count);
        for _ in 0..count {
            records.push(Self::parse(reader)?);
        }
        Ok(records)
    }

    pub(in crate::proto::lisp) fn emit(&self, bytes: &mut Vec<u8>) {
        let (locators, count) = count_of(&self.locators);
        let EidKey { instance, eid } = self.key;
        let mut flags = u16::from(self.act.0) << 13;
        if self.is_authoritative {
            flags |= AUTHORITATIVE;
        }
        bytes.extend(self.ttl_minutes.to_be_bytes());
        bytes.extend([count, eid.prefix_len()]);
        bytes.extend(flags.to_be_bytes());
        bytes.extend((self.map_version & MAP_VERSION).to_be_bytes());
        // Bits behind the mask are sent as 0.
        address::emit_eid(instance, eid.network(), bytes);
        for locator in locators {
            locator.emit(bytes);
        }
    }
}
