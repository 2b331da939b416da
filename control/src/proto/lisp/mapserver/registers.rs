//! Map-Register: judged, taken record by record, answered (RFC 9301 5.6, 5.7, 8.2).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::counters::Counter;
use super::database::{Etr, EtrId, Outcome, Registration, Seconds, Who};
use super::machine::Machine;
use super::sites::Freshness;
use super::{Report, Site};
use crate::proto::lisp::wire::auth::{self, Acceptance, Algorithm, Refused, Secret};
use crate::proto::lisp::wire::{
    self, CONTROL_PORT, Message, Notify, Record, Register, RegisterFlags, message_max,
};

/// Sites that share a prefix and whose secrets are tried.
const CANDIDATES_MAX: usize = 4;

impl Machine {
    pub(super) fn handle_register(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        register: &Register,
        bytes: &[u8],
    ) {
        self.counters.add(Counter::Registers);
        let body = &register.body;
        let Some(first) = body.records.first() else {
            self.counters.add(Counter::DropRegisterEmpty);
            return;
        };
        let candidates = self.sites.allowed(first.key).take(CANDIDATES_MAX);
        let candidates: Vec<u32> = candidates.collect();
        if candidates.is_empty() {
            self.counters.add(Counter::DropRegisterUnknown);
            return;
        }
        let authentic = self.authenticate(now, from, &candidates, register, bytes);
        let (second, is_authentic) = (self.seconds(now), authentic.is_some());
        self.sites.note_tried(second, first.key, is_authentic);
        let Some((number, secret)) = authentic else {
            return;
        };
        let Some(site) = self.sites.site(number) else {
            return;
        };
        let is_repeated = if site.check_nonce {
            let name = site.name.clone();
            let xtr_id = body.identity.map(|identity| identity.xtr_id);
            let whose = (number, xtr_id, body.key_id);
            match self.sites.judge(whose, body.nonce, &body.mac) {
                Freshness::Fresh => false,
                Freshness::Repeated => true,
                Freshness::Stale(last) => {
                    self.counters.add(Counter::DropReplay);
                    let (site, nonce) = (name, body.nonce);
                    let report = Report::Replay {
                        from,
                        site,
                        nonce,
                        last,
                    };
                    self.report(now, report);
                    return;
                }
                Freshness::NoRoom => {
                    self.counters.add(Counter::RecordNoRoom);
                    return;
                }
            }
        } else {
            false
        };
        if is_repeated {
            self.counters.add(Counter::RegisterRepeated);
        }
        // One that was taken before says nothing new, and its source may be whoever overheard it.
        let etr = (!is_repeated).then(|| self.database.note_etr(etr_of(number, from, register)));
        let mut accepted = Vec::with_capacity(body.records.len());
        let mut moved: BTreeMap<EtrId, Vec<Record>> = BTreeMap::new();
        for record in &body.records {
            if !self.sites.allowed(record.key).any(|site| site == number) {
                self.counters.add(Counter::RecordRefused);
                let site = self.site_name(number);
                let key = record.key;
                self.report(now, Report::Refused { site, key });
                continue;
            }
            // Only the answer to what was taken before was lost.
            if etr.is_none_or(|etr| self.take(now, register.flags, etr, record, &mut moved)) {
                accepted.push(self.notified(register.flags, record));
            }
        }
        if let Some(etr) = etr {
            self.database.release_etr(etr);
        }
        if register.flags.want_notify && !accepted.is_empty() {
            let mut notify = body.clone();
            notify.records = accepted;
            self.notify(from, to, notify, &body.records, &secret);
        }
        for (old, records) in moved {
            self.tell_old_etr(now, old, &records);
        }
    }

    /// The site whose secret the message was made with.
    fn authenticate(
        &mut self,
        now: Instant,
        from: SocketAddr,
        candidates: &[u32],
        register: &Register,
        bytes: &[u8],
    ) -> Option<(u32, Secret)> {
        let body = &register.body;
        let mut refused = None;
        for number in candidates {
            let Some(site) = self.sites.site(*number) else {
                continue;
            };
            let Some(secret) = self.sites.secret(*number, body.key_id) else {
                continue;
            };
            let judged = check_algorithm(site, body.algorithm_id).and_then(|()| {
                let strict = site.strict_mac;
                auth::verify(bytes, body, secret, Acceptance { strict })
            });
            match judged {
                Ok(()) => return Some((*number, secret.clone())),
                Err(why) => refused = Some((site.name.clone(), why)),
            }
        }
        let Some((site, why)) = refused else {
            self.counters.add(Counter::DropAuthKey);
            return None;
        };
        self.counters.add(match why {
            Refused::Algorithm(_) => Counter::DropAuthAlgorithm,
            Refused::Length(_) => Counter::DropAuthLength,
            Refused::Mac => Counter::DropAuthMac,
        });
        self.report(now, Report::NotAuthentic { from, site, why });
        None
    }

    /// One record of an authentic message; whether it counts.
    fn take(
        &mut self,
        now: Instant,
        flags: RegisterFlags,
        etr: EtrId,
        record: &Record,
        moved: &mut BTreeMap<EtrId, Vec<Record>>,
    ) -> bool {
        if record.ttl_minutes == 0 || record.locators.is_empty() {
            self.database.withdraw(record.key, etr);
            self.counters.add(Counter::RecordWithdrawn);
            return true;
        }
        let registration = Registration {
            locators: record.locators.clone().into(),
            etr,
            expires: self.expiry(now, flags, record.ttl_minutes),
            ttl_minutes: record.ttl_minutes,
            map_version: record.map_version,
            proxy_reply: flags.proxy_reply,
            merge: flags.merge,
        };
        let max = self.settings.registrations_max;
        match self.database.register(record.key, registration, max) {
            Outcome::Full => {
                self.counters.add(Counter::RecordNoRoom);
                return false;
            }
            Outcome::Stays => {}
            Outcome::Moved(old) => {
                self.counters.add(Counter::Moves);
                for old in old {
                    moved.entry(old).or_default().push(record.clone());
                }
                if let Some(to) = self.database.etr(etr).map(|etr| etr.address) {
                    let key = record.key;
                    self.report(now, Report::Moved { key, to });
                }
            }
        }
        if let Some(address) = self.database.etr(etr).map(|etr| etr.address) {
            let rest = self.notices.withdraw(address, record.key);
            if !rest.is_empty() {
                self.tell_old_etr(now, etr, &rest);
            }
        }
        self.counters.add(Counter::RecordAccepted);
        true
    }

    /// RFC 9301 8.2: after a fixed time, or with the T-bit after the record's TTL, rounded up to whole seconds.
    fn expiry(&self, now: Instant, flags: RegisterFlags, ttl_minutes: u32) -> Seconds {
        let lasts = match flags.use_ttl && ttl_minutes != Record::TTL_UNSAID {
            true => Duration::from_secs(u64::from(ttl_minutes) * 60),
            false => self.settings.registration_timeout,
        };
        let lasts = Seconds::try_from(lasts.as_secs()).unwrap_or(Seconds::MAX);
        self.seconds(now).saturating_add(lasts).saturating_add(1)
    }

    /// What a Map-Notify says of a record: with the a-bit, the locators of all who merge.
    fn notified(&self, flags: RegisterFlags, record: &Record) -> Record {
        let mut notified = Record {
            act: wire::Act::default(),
            ..record.clone()
        };
        if flags.merge
            && let Some(entry) = self.database.lookup(record.key)
            && entry.key == record.key
        {
            notified.locators = entry.record().locators;
        }
        notified
    }

    /// the same nonce, the same fields, to the control port.
    fn notify(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        mut body: wire::Registration,
        registered: &[Record],
        secret: &Secret,
    ) {
        let mut bytes = wire::emit(&Message::Notify(Notify { body: body.clone() }));
        if bytes.len() > message_max(from.is_ipv4()) {
            // Merged locators do not fit: then what was registered, which did.
            let accepted: Vec<_> = body.records.iter().map(|record| record.key).collect();
            let fitting = registered.iter().filter(|one| accepted.contains(&one.key));
            body.records = fitting.cloned().collect();
            bytes = wire::emit(&Message::Notify(Notify { body }));
        }
        if auth::seal(&mut bytes, secret).is_ok() {
            self.counters.add(Counter::NotifySent);
            let address = SocketAddr::new(from.ip(), CONTROL_PORT);
            self.send(Some(to.ip()), address, bytes);
        }
    }

    /// an ETR is told that EIDs it registered are elsewhere now; with them, what else a notice that was to say
    /// something else of them was about.
    fn tell_old_etr(&mut self, now: Instant, id: EtrId, records: &[Record]) {
        let Some(etr) = self.database.etr(id).cloned() else {
            return;
        };
        let Some(secret) = self.sites.secret(etr.site, etr.key_id).cloned() else {
            return;
        };
        let mut records = records.to_vec();
        for at in 0..records.len() {
            let rest = self.notices.withdraw(etr.address, records[at].key);
            let is_new = |one: &Record| records.iter().all(|known| known.key != one.key);
            let rest: Vec<Record> = rest.into_iter().filter(is_new).collect();
            records.extend(rest);
        }
        let to = SocketAddr::new(etr.address, CONTROL_PORT);
        // Header, authentication data, then as many records as fit.
        let room = message_max(to.is_ipv4()) - wire::Registration::MAC_OFFSET - 32;
        for records in fitting(&records, room) {
            let nonce = self.notify_nonce;
            self.notify_nonce = nonce.wrapping_add(1);
            let body = wire::Registration {
                nonce,
                key_id: etr.key_id,
                algorithm_id: etr.algorithm_id,
                mac: vec![0; usize::from(etr.mac_len)],
                records: records.to_vec(),
                identity: None,
            };
            let mut bytes = wire::emit(&Message::Notify(Notify { body }));
            if auth::seal(&mut bytes, &secret).is_err() {
                continue;
            }
            self.counters.add(Counter::NotifyMoved);
            let whose = (to, etr.site, etr.key_id);
            if !self.notices.add(now, nonce, whose, records, bytes.clone()) {
                self.counters.add(Counter::NotifyNoRoom);
            }
            self.send(None, to, bytes);
        }
    }

    fn site_name(&self, number: u32) -> String {
        let site = self.sites.site(number);
        site.map_or_else(String::new, |site| site.name.clone())
    }
}

/// Who sent an authentic message.
fn etr_of(site: u32, from: SocketAddr, register: &Register) -> Etr {
    let body = &register.body;
    let xtr_id = body.identity.map(|identity| identity.xtr_id);
    Etr {
        site,
        who: xtr_id.map_or(Who::Address(from.ip()), Who::Xtr),
        address: from.ip(),
        key_id: body.key_id,
        algorithm_id: body.algorithm_id,
        mac_len: u8::try_from(body.mac.len()).unwrap_or(0),
        uses: 0,
    }
}

fn check_algorithm(site: &Site, id: u8) -> Result<(), Refused> {
    let algorithm = Algorithm::new(id).ok_or(Refused::Algorithm(id))?;
    if site.algorithms.contains(&algorithm) {
        Ok(())
    } else {
        Err(Refused::Algorithm(id))
    }
}

/// Records in groups that take at most `room` bytes; one that is larger is alone.
fn fitting(records: &[Record], room: usize) -> Vec<&[Record]> {
    let mut groups = Vec::new();
    let mut rest = records;
    while !rest.is_empty() {
        let mut taken = 0;
        let mut bytes = 0;
        for record in rest {
            bytes += record.wire_len();
            if taken > 0 && (bytes > room || taken == 255) {
                break;
            }
            taken += 1;
        }
        let (group, after) = rest.split_at(taken);
        groups.push(group);
        rest = after;
    }
    groups
}
