//! Registrations as bytes that outlive the machine, and back.
//!
//! ```text
//! registration = expires:4 flags:1 key-id:1 algorithm:1 mac-length:1 site:(length:1 name) who:(1|4|16) address:(1|4) record
//! ```
//!
//! Numbers in network order, times in seconds of the machine that wrote them, the record as on the wire (RFC 9301 5.4).
//! An EID's registrations stand together, the newest last, so that registering them in this order restores the
//! order. What is read is judged like everything else: it may be of other settings, or of another time.

use std::net::IpAddr;
use std::time::Instant;

use super::database::{Etr, Outcome, Registration, Seconds, Who};
use super::machine::Machine;
use crate::proto::lisp::wire::{Act, Error, Reader, Record};

const PROXY_REPLY: u8 = 1;
const MERGE: u8 = 2;
/// Kinds of addresses, and of who an ETR is.
const V4: u8 = 4;
const V6: u8 = 6;
const XTR: u8 = 1;

/// What became of saved registrations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// In force again.
    pub restored: u64,
    /// They had run out.
    pub expired: u64,
    /// No longer allowed, or no room.
    pub refused: u64,
}

impl Machine {
    /// Append the registrations of the EIDs in some places, from `first`; the place to go on from, or none when that
    /// was the last. While it goes on the table may change: an EID that changes its place may be missed or be there twice.
    pub fn save(&self, first: usize, places: usize, bytes: &mut Vec<u8>) -> Option<usize> {
        let (entries, next) = self.database.places(first, places);
        for entry in entries {
            let newest_last: Vec<&Registration> = entry.registrations().collect();
            for one in newest_last.into_iter().rev() {
                if let Some(etr) = self.database.etr(one.etr)
                    && let Some(name) = self.sites.name(etr.site)
                {
                    emit(one, etr, name, bytes);
                    let record = Record {
                        map_version: one.map_version,
                        locators: one.locators.to_vec(),
                        ..Record::negative(entry.key, Act::default(), one.ttl_minutes)
                    };
                    record.emit(bytes);
                }
            }
        }
        next
    }

    /// Seconds of this machine, in which [`Machine::save`] writes times.
    #[must_use]
    pub fn clock(&self, now: Instant) -> u32 {
        self.seconds(now)
    }

    /// Put back what another machine saved, when `elapsed` seconds have passed since its clock began: what has not run
    /// out since goes on for the rest of its time.
    ///
    /// # Errors
    /// When they are not such bytes. What stands in front of the mistake is in force then.
    pub fn restore(&mut self, now: Instant, elapsed: u64, bytes: &[u8]) -> Result<Restored, Error> {
        let mut reader = Reader::new(bytes);
        let mut restored = Restored::default();
        while !reader.is_empty() {
            self.restore_one(now, elapsed, &mut reader, &mut restored)?;
        }
        Ok(restored)
    }

    fn restore_one(
        &mut self,
        now: Instant,
        elapsed: u64,
        reader: &mut Reader<'_>,
        restored: &mut Restored,
    ) -> Result<(), Error> {
        let expires = reader.u32()?;
        let [flags, key_id, algorithm_id, mac_len, name_len] = reader.array()?;
        let name = reader.take(usize::from(name_len))?;
        let who = match reader.array()? {
            [XTR] => Who::Xtr(u128::from_be_bytes(reader.array()?)),
            [family] => Who::Address(address(family, reader)?),
        };
        let [family] = reader.array()?;
        let address = address(family, reader)?;
        let record = Record::parse(reader)?;
        let remaining = u64::from(expires).saturating_sub(elapsed);
        if remaining == 0 {
            restored.expired += 1;
            return Ok(());
        }
        let site = std::str::from_utf8(name)
            .ok()
            .and_then(|name| self.sites.known(name));
        let site = site.filter(|site| self.sites.allowed(record.key).any(|known| known == *site));
        let Some(site) = site else {
            restored.refused += 1;
            return Ok(());
        };
        let etr = self.database.note_etr(Etr {
            site,
            who,
            address,
            key_id,
            algorithm_id,
            mac_len,
            uses: 0,
        });
        // However the clock was set: not longer than a registration of now.
        let ttl = match record.ttl_minutes {
            Record::TTL_UNSAID => 0,
            minutes => u64::from(minutes) * 60,
        };
        let longest = ttl.max(self.settings.registration_timeout.as_secs()) + 1;
        let remaining = Seconds::try_from(remaining.min(longest)).unwrap_or(Seconds::MAX);
        let registration = Registration {
            locators: record.locators.into(),
            etr,
            expires: self.seconds(now).saturating_add(remaining),
            ttl_minutes: record.ttl_minutes,
            map_version: record.map_version,
            proxy_reply: flags & PROXY_REPLY != 0,
            merge: flags & MERGE != 0,
        };
        let max = self.settings.registrations_max;
        match self.database.register(record.key, registration, max) {
            Outcome::Full => restored.refused += 1,
            Outcome::Stays | Outcome::Moved(_) => restored.restored += 1,
        }
        self.database.release_etr(etr);
        Ok(())
    }
}

fn emit(one: &Registration, etr: &Etr, site: &str, bytes: &mut Vec<u8>) {
    let mut flags = 0;
    if one.proxy_reply {
        flags |= PROXY_REPLY;
    }
    if one.merge {
        flags |= MERGE;
    }
    // Names of sites are short, as configurations are.
    let name = site.as_bytes();
    let name = name.get(..255).unwrap_or(name);
    let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
    bytes.extend(one.expires.to_be_bytes());
    bytes.extend([flags, etr.key_id, etr.algorithm_id, etr.mac_len, name_len]);
    bytes.extend(name);
    match etr.who {
        Who::Xtr(id) => {
            bytes.push(XTR);
            bytes.extend(id.to_be_bytes());
        }
        Who::Address(address) => emit_address(address, bytes),
    }
    emit_address(etr.address, bytes);
}

fn emit_address(address: IpAddr, bytes: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            bytes.push(V4);
            bytes.extend(address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(V6);
            bytes.extend(address.octets());
        }
    }
}

fn address(family: u8, reader: &mut Reader<'_>) -> Result<IpAddr, Error> {
    match family {
        V4 => Ok(IpAddr::from(reader.array::<4>()?)),
        V6 => Ok(IpAddr::from(reader.array::<16>()?)),
        _ => Err(Error::Truncated),
    }
}
