//! Map-Request: answered, or sent on to an ETR (RFC 9301 5.5, 8.1, 8.3, 8.4).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::counters::Counter;
use super::database::{Entry, host, shortened};
use super::machine::Machine;
use super::sites::Denial;
use crate::proto::lisp::wire::{
    self, CONTROL_PORT, Encapsulated, Message, Record, Reply, ReplyFlags, Request, message_max,
};
use crate::proto::lisp::{Action, EidKey};

/// Minutes a negative answer holds: no EID of any site, or one that is denied; what may be otherwise soon, such as an EID
/// nobody registered (RFC 9301 8.3).
const TTL_NEGATIVE: u32 = 15;
const TTL_TEMPORARY: u32 = 1;
/// Prefixes of one request that are answered; our own kind asks for one (RFC 9301 5.2).
const ASKED_MAX: usize = 8;

/// Who asked, and where the answer goes.
struct Asker {
    now: Instant,
    /// The address of ours that was asked.
    local: IpAddr,
    reply_to: SocketAddr,
}

impl Machine {
    /// A Map-Request that came as it is.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        request: &Request,
    ) {
        let Some(asker) = self.admit(now, from, from.port(), to, request) else {
            return;
        };
        for asked in request.asked.iter().take(ASKED_MAX) {
            let eid = asked.key.eid.network();
            self.answer(&asker, request.nonce, asked.key, || {
                // A question for one of several prefixes is one for that prefix.
                let request = Request {
                    asked: vec![*asked],
                    ..request.clone()
                };
                wire::emit(&Message::Encapsulated(Encapsulated {
                    ddt: false,
                    source: from,
                    destination: SocketAddr::new(eid, CONTROL_PORT),
                    request,
                }))
            });
        }
    }

    /// A Map-Request in a datagram: what is answered is the inner one.
    pub(super) fn handle_encapsulated(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        encapsulated: &Encapsulated,
        bytes: &[u8],
    ) {
        let request = &encapsulated.request;
        let port = encapsulated.source.port();
        let Some(asker) = self.admit(now, from, port, to, request) else {
            return;
        };
        let [asked] = request.asked.as_slice() else {
            for asked in request.asked.iter().take(ASKED_MAX) {
                let request = Request {
                    asked: vec![*asked],
                    ..request.clone()
                };
                self.answer(&asker, request.nonce, asked.key, || {
                    wire::emit(&Message::Encapsulated(Encapsulated {
                        request: request.clone(),
                        ..encapsulated.clone()
                    }))
                });
            }
            return;
        };
        self.answer(&asker, request.nonce, asked.key, || {
            Encapsulated::emit_forwarded(bytes)
        });
    }

    /// What is refused of all requests, and where the answer would go (G-03, Q-01, Q-05, Q-06 of the requirements).
    fn admit(
        &mut self,
        now: Instant,
        from: SocketAddr,
        port: u16,
        to: SocketAddr,
        request: &Request,
    ) -> Option<Asker> {
        self.counters.add(Counter::Requests);
        let refused = if request.flags.probe {
            Some(Counter::DropProbe)
        } else if request.flags.solicit {
            Some(Counter::DropSolicit)
        } else if request.flags.no_reply {
            Some(Counter::DropNoReply)
        } else {
            None
        };
        if let Some(refused) = refused {
            self.counters.add(refused);
            return None;
        }
        let [ipv4, ipv6] = self.settings.families;
        let usable = |rloc: &&IpAddr| {
            let has_socket = if rloc.is_ipv4() { ipv4 } else { ipv6 };
            has_socket && is_unicast(**rloc)
        };
        // The address that asked if it is one of them, then one of its family, then any.
        let rlocs = || request.itr_rlocs.iter().filter(usable);
        let rloc = rlocs()
            .find(|rloc| **rloc == from.ip())
            .or_else(|| rlocs().find(|rloc| rloc.is_ipv4() == from.is_ipv4()))
            .or_else(|| rlocs().next());
        let Some(rloc) = rloc else {
            self.counters.add(Counter::DropNoItrRloc);
            return None;
        };
        Some(Asker {
            now,
            local: to.ip(),
            reply_to: SocketAddr::new(*rloc, port),
        })
    }

    fn answer(
        &mut self,
        asker: &Asker,
        nonce: u64,
        asked: EidKey,
        forwarded: impl FnOnce() -> Vec<u8>,
    ) {
        if !self.replies.take(asker.now, asker.reply_to.ip()) {
            self.counters.add(Counter::DropReplyRate);
            return;
        }
        // A question for more than is registered is one for its first address.
        let found = self.database.lookup(asked);
        let denial = self.sites.denial(asked);
        let denial = denial.or_else(|| match found {
            Some(_) => None,
            None => self.sites.denial(host(asked)),
        });
        if let Some(denial) = denial {
            self.counters.add(Counter::ReplyDenied);
            let record = self.empty(asked, denial.key.eid.prefix_len(), &denied(denial));
            self.reply(asker, nonce, vec![record]);
            return;
        }
        let Some(entry) = found.or_else(|| self.database.lookup(host(asked))) else {
            let record = self.negative(asker.now, asked);
            self.reply(asker, nonce, vec![record]);
            return;
        };
        if !entry.proxy_reply() {
            match self.pick_etr(entry, nonce) {
                Some(to) => {
                    self.counters.add(Counter::Forwarded);
                    self.send(None, SocketAddr::new(to, CONTROL_PORT), forwarded());
                }
                None => self.counters.add(Counter::DropNoEtr),
            }
            return;
        }
        let room = message_max(asker.reply_to.is_ipv4()) - Reply::HEADER_LEN;
        let (records, counter) = match self.all_within(entry, room) {
            Some(records) => (records, Counter::ReplyProxy),
            None => (
                vec![fitted(self.narrowed(entry, asked), room)],
                Counter::ReplyNarrowed,
            ),
        };
        self.counters.add(counter);
        self.reply(asker, nonce, records);
    }

    /// The mapping and every more-specific one (RFC 9301 5.5), with those that are denied as such, all with one TTL;
    /// `None`: they do not fit.
    fn all_within(&self, entry: &Entry, room: usize) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut ttl_minutes = u32::MAX;
        // Within a host there is nothing else, and it is at hand.
        let is_host = entry.key == host(entry.key);
        let within = (!is_host).then(|| self.database.within(entry.key));
        let alone = is_host.then_some(entry);
        let within = within.into_iter().flatten();
        let within = within.filter(|within| self.sites.denial(within.key).is_none());
        let mappings = alone.into_iter().chain(within).map(proxied);
        let denials = (!is_host).then(|| self.sites.denials(entry.key).map(denied));
        for record in mappings.chain(denials.into_iter().flatten()) {
            let record = fitted(record, room);
            bytes += record.wire_len();
            if bytes > room {
                return None;
            }
            ttl_minutes = ttl_minutes.min(record.ttl_minutes);
            records.push(record);
        }
        for record in &mut records {
            record.ttl_minutes = ttl_minutes;
        }
        Some(records)
    }

    /// The mapping for as much of its prefix as holds the EID and no more-specific mapping: right, and of one record.
    fn narrowed(&self, entry: &Entry, asked: EidKey) -> Record {
        let entry = self.database.lookup(host(asked)).unwrap_or(entry);
        let hole = self.database.hole(host(asked));
        let hole = hole.max(self.sites.denied_hole(host(asked)));
        Record {
            key: shortened(host(asked), hole.max(entry.key.eid.prefix_len())),
            ..proxied(entry)
        }
    }

    /// RFC 9301 8.3: why there is no mapping, and for how long.
    fn negative(&mut self, now: Instant, asked: EidKey) -> Record {
        let timeout = self.settings.registration_timeout.as_secs();
        let failed = self.sites.failed(asked).is_some_and(|failed| {
            let ago = self.seconds(now).saturating_sub(failed);
            u64::from(ago) < timeout
        });
        let (action, ttl, counter) = match (self.sites.is_known(asked), failed) {
            (true, true) => (
                Action::AuthFailure,
                TTL_TEMPORARY,
                Counter::ReplyAuthFailure,
            ),
            (true, false) => (Action::Native, TTL_TEMPORARY, Counter::ReplyUnregistered),
            (false, _) => (Action::Native, TTL_NEGATIVE, Counter::ReplyNegative),
        };
        self.counters.add(counter);
        let address = host(asked);
        let registered = self.database.hole(address);
        self.empty(
            asked,
            registered,
            &Record::negative(asked, action.into(), ttl),
        )
    }

    /// The record for the least specific prefix around the EID that holds no EID-prefix of any site (RFC 9301 8.4), and is
    /// not shorter than this, nor than the settings allow.
    fn empty(&self, asked: EidKey, shortest: u8, record: &Record) -> Record {
        let [shortest_v4, shortest_v6] = self.settings.negative_shortest;
        let least = match asked.eid {
            ipnet::IpNet::V4(_) => shortest_v4,
            ipnet::IpNet::V6(_) => shortest_v6,
        };
        let hole = self.sites.hole(host(asked)).max(shortest);
        Record {
            key: shortened(host(asked), hole.max(least)),
            ..record.clone()
        }
    }

    /// One of the ETRs of the EID, a different one for different requests.
    fn pick_etr(&self, entry: &Entry, nonce: u64) -> Option<IpAddr> {
        let [ipv4, ipv6] = self.settings.families;
        let etrs = entry.in_force();
        let etrs = etrs.filter_map(|one| self.database.etr(one.etr));
        let etrs = etrs.filter(|etr| if etr.address.is_ipv4() { ipv4 } else { ipv6 });
        let etrs: Vec<IpAddr> = etrs.map(|etr| etr.address).collect();
        let count = u64::try_from(etrs.len()).unwrap_or(1);
        let at = usize::try_from(nonce.checked_rem(count)?).unwrap_or(0);
        etrs.get(at).copied()
    }

    fn reply(&mut self, asker: &Asker, nonce: u64, records: Vec<Record>) {
        let reply = Message::Reply(Reply {
            flags: ReplyFlags::default(),
            nonce,
            records,
        });
        // From the address that was asked, if the answer goes out by the same family.
        let is_same_family = asker.local.is_ipv4() == asker.reply_to.is_ipv4();
        let from = is_same_family.then_some(asker.local);
        self.send(from, asker.reply_to, wire::emit(&reply));
    }
}

/// What a Map-Server says for an ETR: neither authoritative nor local (RFC 9301 5.4), locators in order.
fn proxied(entry: &Entry) -> Record {
    let mut record = entry.record();
    record.is_authoritative = false;
    for locator in &mut record.locators {
        locator.is_local = false;
        locator.is_probed = false;
    }
    record.sort_locators();
    record
}

/// What is said of a prefix that is denied: where that is for a while only, to ask again soon (RFC 9301 8.3).
fn denied(denial: Denial) -> Record {
    let ttl = match denial.action {
        Action::SendMapRequest => TTL_TEMPORARY,
        _ => TTL_NEGATIVE,
    };
    Record::negative(denial.key, denial.action.into(), ttl)
}

/// A record without as many of its last-choice locators as do not fit.
fn fitted(mut record: Record, room: usize) -> Record {
    while record.wire_len() > room && record.locators.len() > 1 {
        let locators = record.locators.iter().enumerate();
        let last_choice = locators.max_by_key(|(_, locator)| locator.priority);
        let Some((at, _)) = last_choice else {
            break;
        };
        record.locators.remove(at);
    }
    record
}

/// Nothing is sent to a group or to nobody because a message says so.
fn is_unicast(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_multicast() && !address.is_unspecified() && !is_broadcast
}
