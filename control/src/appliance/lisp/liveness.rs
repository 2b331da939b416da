//! Which locators packets may go to, since when and why not: what the operator says comes first, then the underlay, then
//! probes ([`crate::proto::lisp::xtr`]). None of it touches a mapping.

use std::net::IpAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use dataplane::reason::PuntReason;

use super::super::Appliance;
use super::LispState;
use super::show::smallest;
use crate::admin::protocol::{Answer, Refusal};
use crate::admin::view::LispRlocs;
use crate::platform::Platform;
use crate::proto::lisp::unreachable::Unreachable;
use crate::proto::lisp::xtr::Liveness;
use crate::proto::lisp::{EidKey, InstanceId};

/// Locators that are looked at each time, most.
const LOOKED_AT: usize = 1024;
/// How long what ICMP said of a locator explains its silence.
const EXPLAINS: Duration = Duration::from_secs(60);
/// Between two events about what ICMP says.
const SUSPICIONS_APART: Duration = Duration::from_secs(1);

/// Why a locator is used, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    ByHand,
    NoRoute,
    PathTooSmall,
    Silent,
    Answers,
    Unproven,
    NotProbed,
}

impl Why {
    /// The state as it is shown: `up`, `down`, `unreachable` or `path_too_small`.
    pub(super) fn state(self) -> &'static str {
        match self {
            Self::ByHand | Self::Silent => "down",
            Self::NoRoute => "unreachable",
            Self::PathTooSmall => "path_too_small",
            Self::Answers | Self::Unproven | Self::NotProbed => "up",
        }
    }

    fn is_up(self) -> bool {
        matches!(self, Self::Answers | Self::Unproven | Self::NotProbed)
    }

    fn reason(self) -> &'static str {
        match self {
            Self::ByHand => "taken out of use by hand",
            Self::NoRoute => "no route to it by a link that is up",
            Self::PathTooSmall => "its path does not carry 1,280 bytes inside",
            Self::Silent => "no answer to probes",
            Self::Answers => "answers probes",
            Self::Unproven => "has not answered a probe yet",
            Self::NotProbed => "is not probed",
        }
    }
}

/// What was found last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) why: Why,
    /// Since when its state is what it is.
    pub(super) since: Instant,
    /// What ICMP last said of it.
    said: Option<(Instant, &'static str)>,
}

impl Verdict {
    /// In words.
    pub(super) fn reason(&self, liveness: Option<Liveness>) -> String {
        let reason = self.why.reason();
        if let (Why::Silent, Some(Liveness::Returning(times))) = (self.why, liveness) {
            return format!("{reason} before the last {times}");
        }
        match self.said {
            Some((then, said)) if self.why == Why::Silent && then + EXPLAINS >= self.since => {
                format!("{reason}, and ICMP says: {said}")
            }
            _ => reason.to_owned(),
        }
    }
}

impl<F> LispState<F> {
    /// Whether operator and probes let packets go there.
    pub(super) fn may_use(&self, rloc: IpAddr) -> bool {
        self.cache.is_up(rloc) && self.xtr.is_up(rloc)
    }

    /// What is found now, since when it is so.
    pub(super) fn verdict(&self, now: Instant, rloc: IpAddr, why: Why) -> Verdict {
        let known = self.verdicts.get(&rloc).copied();
        let known = known.filter(|known| known.why.state() == why.state());
        let (since, said) = known.map_or((now, None), |known| (known.since, known.said));
        Verdict { why, since, said }
    }
}

impl<P: Platform> Appliance<P> {
    /// Locators come and go with the mappings that name them.
    pub(super) fn watch_rlocs(&mut self, now: Instant) {
        for rloc in self.lisp.cache.take_touched() {
            let LispState {
                cache,
                xtr,
                verdicts,
                ..
            } = &mut self.lisp;
            let Some((prefixes, is_learned)) = cache.examples(rloc) else {
                verdicts.remove(&rloc);
                if !xtr.is_up(rloc) {
                    self.rib.set_locator(rloc, cache.is_up(rloc));
                }
                xtr.unwatch(rloc);
                continue;
            };
            xtr.watch(now, rloc, prefixes.to_vec(), is_learned);
            // Judged when its way is known.
            verdicts.entry(rloc).or_insert(Verdict {
                why: Why::NotProbed,
                since: now,
                said: None,
            });
        }
    }

    /// Whether control messages were dropped before they were read.
    pub(super) fn note_unheard(&mut self, now: Instant) {
        let unheard = self.sum(|counters| counters.punts_refused(PuntReason::LispControl));
        if unheard != self.lisp.unheard {
            self.lisp.unheard = unheard;
            self.lisp.xtr.note_unheard(now);
        }
    }

    /// Whether the underlay leads to locators, seen from time to time.
    pub(super) fn look_at_ways(&mut self, now: Instant) {
        let start = self
            .lisp
            .looked_at
            .map_or(Bound::Unbounded, Bound::Excluded);
        let rlocs = self.lisp.verdicts.range((start, Bound::Unbounded));
        let rlocs: Vec<IpAddr> = rlocs.map(|(rloc, _)| *rloc).take(LOOKED_AT).collect();
        self.lisp.looked_at = rlocs.last().copied().filter(|_| rlocs.len() == LOOKED_AT);
        for rloc in rlocs {
            let has_way = self.rib.is_reachable(rloc);
            self.lisp.xtr.set_way(now, rloc, has_way);
            self.judge_rloc(now, rloc);
        }
    }

    /// Probes found that a locator answers, or does not any more.
    pub(super) fn set_liveness(&mut self, now: Instant, rloc: IpAddr) {
        self.rib.set_locator(rloc, self.lisp.may_use(rloc));
        self.judge_rloc(now, rloc);
    }

    /// What keeps packets from this locator now, and since when; told where it is news.
    pub(super) fn judge_rloc(&mut self, now: Instant, rloc: IpAddr) {
        let why = self.why(rloc);
        let LispState {
            verdicts,
            events,
            xtr,
            ..
        } = &mut self.lisp;
        let Some(verdict) = verdicts.get_mut(&rloc) else {
            return;
        };
        let before = std::mem::replace(&mut verdict.why, why);
        if before.state() != why.state() {
            verdict.since = now;
        }
        if before == why || (before.is_up() && why.is_up()) {
            return;
        }
        let liveness = xtr.rloc_state(rloc).map(|state| state.liveness);
        let (state, reason) = (why.state(), verdict.reason(liveness));
        let text = format!("locator {rloc} is {}: {reason}", state.replace('_', " "));
        events.note_text(now, why.is_up(), text);
    }

    pub(super) fn why(&self, rloc: IpAddr) -> Why {
        let path_mtu = self.lisp.paths.mtu(rloc);
        if !self.lisp.cache.is_up(rloc) {
            return Why::ByHand;
        }
        if !self.rib.is_reachable(rloc) {
            return Why::NoRoute;
        }
        if path_mtu.is_some_and(|mtu| mtu < smallest(rloc)) {
            return Why::PathTooSmall;
        }
        let state = self.lisp.xtr.rloc_state(rloc);
        let is_probed = self.lisp.xtr.settings().probing.is_some();
        match state.map(|state| state.liveness) {
            Some(Liveness::Down | Liveness::Returning(_)) => Why::Silent,
            Some(Liveness::Up) if is_probed => Why::Answers,
            Some(Liveness::Unproven) if is_probed => Why::Unproven,
            Some(Liveness::Up | Liveness::Unproven) | None => Why::NotProbed,
        }
    }

    /// A router says that packets do not arrive at a locator.
    pub(super) fn suspect_rloc(&mut self, now: Instant, said: Unreachable) {
        let Unreachable { rloc, by, why } = said;
        tracing::debug!("lisp: ICMP of {by}: locator {rloc}: {why}");
        let LispState {
            xtr,
            verdicts,
            events,
            suspected,
            ..
        } = &mut self.lisp;
        xtr.suspect(now, rloc);
        if let Some(verdict) = verdicts.get_mut(&rloc) {
            verdict.said = Some((now, why));
            let is_time = suspected.is_none_or(|last| now >= last + SUSPICIONS_APART);
            if verdict.why.is_up() && is_time {
                *suspected = Some(now);
                let text = format!("locator {rloc} is suspected: ICMP of {by} says: {why}");
                events.note_text(now, false, text);
            }
        }
    }

    /// Probe a locator, those of the mapping an EID has, or all of them; or only look at them.
    pub(in crate::appliance) fn probe_rlocs(
        &mut self,
        now: Instant,
        target: Option<(InstanceId, IpAddr)>,
        send: bool,
    ) -> Answer {
        let rlocs: Vec<IpAddr> = match target {
            None => self.lisp.verdicts.keys().copied().take(LOOKED_AT).collect(),
            Some((_, rloc)) if self.lisp.cache.users(rloc) > 0 => vec![rloc],
            Some((instance, address)) => {
                let eid = address.into();
                let entry = self.lisp.cache.lookup(EidKey { instance, eid });
                let locators = entry.map_or(&[][..], |entry| entry.mapping.locators());
                locators.iter().map(|locator| locator.rloc).collect()
            }
        };
        if let (Some((instance, address)), true) = (target, rlocs.is_empty()) {
            let error = format_args!(
                "{address} is no locator of a mapping, and no EID of instance {instance} that has locators"
            );
            return Answer::refused(Refusal::Failed, error);
        }
        if send {
            for rloc in &rlocs {
                self.lisp.xtr.probe(now, *rloc);
            }
            self.do_lisp_outputs(now);
        }
        Answer::done(LispRlocs {
            monotonic_ns: self.clock(now),
            total: rlocs.len(),
            rlocs: rlocs
                .iter()
                .map(|rloc| self.show_rloc(now, *rloc))
                .collect(),
        })
    }
}
