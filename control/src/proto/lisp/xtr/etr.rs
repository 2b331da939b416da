//! Answering Map-Requests for own EIDs (RFC 9301 5.2 to 5.5, 7.1).
//!
//! An answer has the best match and all under it (RFC 9301 5.5): own prefixes with all own RLOCs, and hosts that are away
//! with what the mapping system said of them, none of it authoritative. It goes from port 4342 to one of the request's
//! ITR-RLOCs, to the port the request came from. Answers are limited, in all and for each of those they go to
//! (P-07): a request costs nothing to forge.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ipnet::IpNet;

use super::hosts::Hosts;
use super::settings::{Settings, is_within};
use super::{Context, is_unicast};
use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::{Act, Record, Reply, ReplyFlags, Request, message_max};
use crate::proto::ndp::bucket::TokenBucket;

/// Answers a second, and at once.
const ANSWERS: (u32, u32) = (1000, 500);
/// The same to one RLOC: behind it may be many that ask.
const ANSWERS_PER_RLOC: (u32, u32) = (10, 40);
/// The same for answers to probes, which come from everybody who sends here, again and again.
const PROBE_ANSWERS: (u32, u32) = (5000, 1000);
const PROBE_ANSWERS_PER_RLOC: (u32, u32) = (200, 100);
/// RLOCs whose answers are counted, most; where there are more, all begin anew, and the limit in all holds.
const RLOCS_MAX: usize = 4096;

/// Prefixes of one request that are looked up, most: others send one (RFC 9301 5.2).
const ASKED_MAX: usize = 4;
/// Records of an answer, most: as many of the smallest as a packet has room for.
const RECORDS_MAX: usize = 64;

pub(super) struct Etr {
    answers: Limits,
    probe_answers: Limits,
}

/// How many answers may leave, in all and to each RLOC.
struct Limits {
    all: TokenBucket,
    /// A second, and at once.
    each: (u32, u32),
    per_rloc: HashMap<IpAddr, TokenBucket>,
}

impl Limits {
    fn new(now: Instant, (per_second, burst): (u32, u32), each: (u32, u32)) -> Self {
        Self {
            all: TokenBucket::new(now, per_second, burst),
            each,
            per_rloc: HashMap::new(),
        }
    }

    fn take(&mut self, now: Instant, rloc: IpAddr) -> bool {
        if self.per_rloc.len() >= RLOCS_MAX && !self.per_rloc.contains_key(&rloc) {
            self.per_rloc.clear();
        }
        let (per_second, burst) = self.each;
        let bucket = self.per_rloc.entry(rloc);
        let bucket = bucket.or_insert_with(|| TokenBucket::new(now, per_second, burst));
        bucket.take(now, 0) && self.all.take(now, 0)
    }
}

impl Etr {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            answers: Limits::new(now, ANSWERS, ANSWERS_PER_RLOC),
            probe_answers: Limits::new(now, PROBE_ANSWERS, PROBE_ANSWERS_PER_RLOC),
        }
    }

    /// `from` is where the request itself came from: for an encapsulated one, what stands inside. `to` is the own RLOC it
    /// arrived at. `hosts` knows those under own prefixes that are at other sites.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        (settings, hosts): (&Settings, &Hosts),
        request: &Request,
        from: SocketAddr,
        to: IpAddr,
        context: &mut Context,
    ) {
        if !settings.is_etr {
            context.count("request_not_etr");
            return;
        }
        // Through the mapping system none comes (RFC 9301 6.1).
        if request.flags.solicit {
            context.count("solicitation_encapsulated");
            return;
        }
        if request.flags.no_reply {
            context.count("request_no_reply");
            return;
        }
        let Some(destination) = destination(settings, request, from.ip()) else {
            context.count("request_no_rloc");
            return;
        };
        // From where the request went to, if that can be (P-08).
        let source = Some(to).filter(|to| to.is_ipv4() == destination.is_ipv4());
        let source = source.filter(|to| settings.is_own(*to));
        let source = source.or_else(|| settings.source(destination.is_ipv4()));
        let Some(source) = source else {
            context.count("request_no_rloc");
            return;
        };
        let probed = request.flags.probe.then_some(to);
        let mut records: Vec<Record> = Vec::new();
        let room = message_max(destination.is_ipv4()) - Reply::HEADER_LEN;
        for asked in request.asked.iter().take(ASKED_MAX) {
            // Where a host is that is away, its own site says.
            if hosts.away().contains(&asked.key) {
                continue;
            }
            // A probe asks whether the locator answers: it does, also for a prefix around hosts that are away.
            let away = (!request.flags.probe).then_some(hosts);
            for record in answer(settings, away, asked.key, probed, room) {
                let used: usize = records.iter().map(Record::wire_len).sum();
                let is_new = records.iter().all(|known| known.key != record.key);
                if is_new && used + record.wire_len() <= room {
                    records.push(record);
                }
            }
        }
        if records.is_empty() {
            context.count("request_not_own");
            return;
        }
        let limits = if request.flags.probe {
            &mut self.probe_answers
        } else {
            &mut self.answers
        };
        if !limits.take(now, destination) {
            context.count("limit_answers");
            return;
        }
        let reply = Reply {
            flags: ReplyFlags {
                probe: request.flags.probe,
                echo_nonce: false,
            },
            nonce: request.nonce,
            records,
        };
        context.count("sent_map_reply");
        context.send(
            source,
            SocketAddr::new(destination, from.port()),
            reply.emit(),
        );
    }
}

/// The ITR-RLOC an answer goes to: the one that sent the request, else the first there is an own RLOC for.
fn destination(settings: &Settings, request: &Request, from: IpAddr) -> Option<IpAddr> {
    let usable = |rloc: &&IpAddr| {
        is_unicast(**rloc) && !settings.is_own(**rloc) && settings.source(rloc.is_ipv4()).is_some()
    };
    let mut usable = request.itr_rlocs.iter().filter(usable);
    let first = usable.clone().next().copied();
    usable.find(|rloc| **rloc == from).copied().or(first)
}

/// The best match and all under it. Where that does not fit in a message, or it is not known where a host is, the same of
/// a part of the prefix in which no host is away; where that does not fit either, what is asked alone, if nothing is under
/// it.
fn answer(
    settings: &Settings,
    hosts: Option<&Hosts>,
    asked: EidKey,
    probed: Option<IpAddr>,
    room: usize,
) -> Vec<Record> {
    let around = settings.eids.iter().filter(|own| is_within(asked, **own));
    let Some(best) = around.max_by_key(|own| own.eid.prefix_len()).copied() else {
        return Vec::new();
    };
    if let Some(records) = all_within(settings, hosts, best, probed, room) {
        return records;
    }
    let nobody = BTreeSet::new();
    let away = hosts.map_or(&nobody, Hosts::away);
    let Some(part) = without(best, asked, away) else {
        return Vec::new();
    };
    if let Some(records) = all_within(settings, hosts, part, probed, room) {
        return records;
    }
    let mut own = settings.eids.iter();
    if own.any(|own| *own != asked && is_within(*own, asked)) {
        return Vec::new();
    }
    vec![settings.record(asked, probed)]
}

/// What is said of a prefix within own ones and of all under it, with one TTL; none: it does not fit, or it is not known.
fn all_within(
    settings: &Settings,
    hosts: Option<&Hosts>,
    prefix: EidKey,
    probed: Option<IpAddr>,
    room: usize,
) -> Option<Vec<Record>> {
    let own = settings.eids.iter().filter(|own| is_within(**own, prefix));
    let own: BTreeSet<EidKey> = own.copied().chain([prefix]).collect();
    let away = hosts.map(|hosts| hosts.away().range(prefix..));
    let away = away.into_iter().flatten();
    let away = away.take_while(|key| is_within(**key, prefix));
    let own = own.iter().map(|key| Some(settings.record(*key, probed)));
    let away = away.map(|key| hosts?.mapping(*key).map(of_others));
    let mut records = Vec::new();
    let mut bytes = 0;
    for record in own.chain(away) {
        let record = record?;
        bytes += record.wire_len();
        if bytes > room || records.len() >= RECORDS_MAX {
            return None;
        }
        records.push(record);
    }
    let ttl_minutes = records.iter().map(|record| record.ttl_minutes).min()?;
    for record in &mut records {
        record.ttl_minutes = ttl_minutes;
    }
    records.sort_by_key(|record| record.key);
    Some(records)
}

/// What is said of a host at another site: it is not ours to say (RFC 9301 5.4: A and L).
fn of_others(said: &Record) -> Record {
    let mut record = Record {
        is_authoritative: false,
        act: Act::default(),
        ..said.clone()
    };
    for locator in &mut record.locators {
        (locator.is_local, locator.is_probed) = (false, false);
    }
    record.sort_locators();
    record
}

/// The widest prefix around `asked` within `best` that none of these hosts is in.
fn without(best: EidKey, asked: EidKey, away: &BTreeSet<EidKey>) -> Option<EidKey> {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let under = away.range(best..).take_while(|key| is_within(**key, best));
    let lengths = under.map(|key| {
        let apart = bits(key.eid.addr()) ^ bits(asked.eid.addr());
        apart.leading_zeros() + 1
    });
    let length = lengths.max().unwrap_or(0).max(best.eid.prefix_len().into());
    let length = u8::try_from(length).ok()?;
    let is_around = length <= asked.eid.prefix_len();
    let eid = IpNet::new(asked.eid.addr(), length).ok()?.trunc();
    is_around.then_some(EidKey { eid, ..best })
}
