//! The state of one neighbour: address resolution (RFC 4861 7.2), Neighbor Unreachability Detection (7.3) and the
//! receipt of advertisements (7.2.5), as one pure function from state and event to state and action.
//!
//! Time, packets and limits are not here: [`super::interface`] turns a [`Wait`] into a deadline and a [`Solicit`] into
//! a packet.
//!
//! ```text
//!                 packet for it / gateway                    3 x RetransTimer unanswered
//!   (no entry,  ------------------------->  INCOMPLETE  ------------------------------->  (no entry, FAILED)
//!     FAILED)                                   |  NA S=1          NA S=0, NS
//!        |  NA or NS with address (RFC 9131)    +------------+-----------+
//!        +------------------------+                          |           |
//!                                 v      NA S=1              v           |
//!   FAILED <--- PROBE <--- DELAY <--- STALE ----------> REACHABLE <------+ (S=1; from any state with an address)
//!     3 x unanswered   5 s     packet   ^                   |
//!                                       +-------------------+ ReachableTime, or another address with O=0
//! ```
//!
//! What differs from the diagram of RFC 4861, and why:
//! - FAILED is not a state of the RFC: it is "no entry" with a memory. A neighbour that has answered once is remembered
//!   for a while, so that its next resolution goes before those of addresses nobody has ever seen (RFC 6583 7).
//! - STALE ends after a while in PROBE instead of lasting until somebody sends: packets are forwarded by workers that
//!   report no use, so the cache asks by itself. It costs one unicast solicitation a neighbour a minute or so.
//! - A gateway (next hop of a route) is resolved without waiting for packets, probed again as soon as its ReachableTime
//!   ends, and tried for ever.

use dataplane::wire::ethernet::Mac;

/// Multicast solicitations of one resolution (RFC 4861 10).
pub(super) const MAX_MULTICAST_SOLICIT: u8 = 3;
/// Unicast solicitations of one probing (RFC 4861 10).
pub(super) const MAX_UNICAST_SOLICIT: u8 = 3;

/// RFC 4861 7.3.2; a link-layer address is known in exactly the states that carry one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Resolution runs; so many solicitations are out.
    Incomplete { sent: u8 },
    /// It answered within ReachableTime.
    Reachable(Mac),
    /// The address is known, whether it still holds is not.
    Stale(Mac),
    /// Used while stale; a probe follows.
    Delay(Mac),
    /// Being asked at the address we know; so many solicitations are out.
    Probe { mac: Mac, sent: u8 },
    /// Nobody answered, or nobody was asked yet.
    Failed,
}

impl State {
    /// The address to send to.
    pub(super) fn mac(self) -> Option<Mac> {
        match self {
            Self::Reachable(mac)
            | Self::Stale(mac)
            | Self::Delay(mac)
            | Self::Probe { mac, .. } => Some(mac),
            Self::Incomplete { .. } | Self::Failed => None,
        }
    }
}

/// What happened to the neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The deadline of the last [`Wait`] has come.
    Timeout,
    /// A packet is sent to it, or a route needs it.
    Used,
    /// An advertisement whose target it is (7.2.5).
    Advertised(Advertised),
    /// A solicitation from it with its link-layer address (7.2.3).
    Learned(Mac),
}

/// What an advertisement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advertised {
    /// Its Target Link-Layer Address option.
    pub(super) mac: Option<Mac>,
    /// S.
    pub(super) solicited: bool,
    /// O.
    pub(super) override_cached: bool,
    /// R.
    pub(super) router: bool,
}

/// What the transition depends on beside the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// Never given up.
    pub(super) gateway: bool,
    /// Has answered at least once: remembered when it fails.
    pub(super) proven: bool,
}

/// What to do with the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Leave it.
    Keep,
    /// RetransTimer.
    Retransmit,
    /// A random ReachableTime.
    Reachable,
    /// Until a stale entry is asked again.
    Stale,
    /// DELAY_FIRST_PROBE_TIME.
    Delay,
    /// Until a silent gateway is tried again.
    Backoff,
    /// Until a silent neighbour is forgotten.
    Forget,
}

/// The solicitation to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Solicit {
    /// To the solicited-node group.
    Multicast,
    /// To the neighbour itself.
    Unicast(Mac),
}

/// The outcome of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// `None`: remove the entry.
    pub(super) next: Option<State>,
    pub(super) wait: Wait,
    pub(super) solicit: Option<Solicit>,
    /// The new IsRouter flag, where the event has a say in it.
    pub(super) router: Option<bool>,
}

impl Step {
    fn to(next: State, wait: Wait) -> Self {
        Self {
            next: Some(next),
            wait,
            solicit: None,
            router: None,
        }
    }

    fn unchanged(state: State) -> Self {
        Self::to(state, Wait::Keep)
    }

    fn ask(next: State, solicit: Solicit) -> Self {
        Self {
            solicit: Some(solicit),
            ..Self::to(next, Wait::Retransmit)
        }
    }

    fn router(self, router: bool) -> Self {
        Self {
            router: Some(router),
            ..self
        }
    }
}

/// One transition.
pub(super) fn step(state: State, event: Event, policy: Policy) -> Step {
    match (state, event) {
        // 7.2.2: "retransmit ... approximately every RetransTimer milliseconds", MAX_MULTICAST_SOLICIT in all.
        (State::Incomplete { sent }, Event::Timeout) => {
            if sent < MAX_MULTICAST_SOLICIT {
                Step::ask(State::Incomplete { sent: sent + 1 }, Solicit::Multicast)
            } else {
                give_up(policy)
            }
        }
        (State::Incomplete { .. }, Event::Used) => Step::unchanged(state),
        (State::Incomplete { .. }, Event::Advertised(advertised)) => match advertised.mac {
            // 7.2.5: without the option there is nothing to learn: discarded.
            None => Step::unchanged(state),
            Some(mac) if advertised.solicited => {
                Step::to(State::Reachable(mac), Wait::Reachable).router(advertised.router)
            }
            Some(mac) => Step::to(State::Stale(mac), Wait::Stale).router(advertised.router),
        },
        (State::Incomplete { .. }, Event::Learned(mac)) => Step::to(State::Stale(mac), Wait::Stale),

        (State::Reachable(mac), Event::Timeout) if policy.gateway => probe(mac),
        (State::Reachable(mac), Event::Timeout) => Step::to(State::Stale(mac), Wait::Stale),
        (State::Reachable(_), Event::Used) => Step::unchanged(state),

        (State::Stale(mac), Event::Timeout) => probe(mac),
        // 7.3.3: "The first time a node sends a packet to a neighbor whose entry is STALE".
        (State::Stale(mac), Event::Used) => Step::to(State::Delay(mac), Wait::Delay),

        (State::Delay(mac), Event::Timeout) => probe(mac),
        (State::Delay(_), Event::Used) => Step::unchanged(state),

        (State::Probe { mac, sent }, Event::Timeout) => {
            if sent < MAX_UNICAST_SOLICIT {
                let next = State::Probe {
                    mac,
                    sent: sent + 1,
                };
                Step::ask(next, Solicit::Unicast(mac))
            } else if policy.gateway {
                // It may have come back with another address: ask everybody, at once.
                Step::ask(State::Incomplete { sent: 1 }, Solicit::Multicast)
            } else {
                give_up(policy)
            }
        }
        (State::Probe { .. }, Event::Used) => Step::unchanged(state),

        (
            State::Reachable(mac)
            | State::Stale(mac)
            | State::Delay(mac)
            | State::Probe { mac, .. },
            Event::Advertised(advertised),
        ) => receive_advertisement(state, mac, advertised),
        (
            State::Reachable(mac)
            | State::Stale(mac)
            | State::Delay(mac)
            | State::Probe { mac, .. },
            Event::Learned(learned),
        ) => {
            if learned == mac {
                Step::unchanged(state)
            } else {
                // 7.2.3: the cached address differs: replaced, and STALE.
                Step::to(State::Stale(learned), Wait::Stale)
            }
        }

        (State::Failed, Event::Timeout) if policy.gateway => {
            Step::ask(State::Incomplete { sent: 1 }, Solicit::Multicast)
        }
        (State::Failed, Event::Timeout) => Step {
            next: None,
            ..Step::unchanged(state)
        },
        (State::Failed, Event::Used) => {
            Step::ask(State::Incomplete { sent: 1 }, Solicit::Multicast)
        }
        // RFC 9131 6.1.1: routers create an entry, and its state "MUST be set to STALE", whatever S says.
        (State::Failed, Event::Advertised(advertised)) => match advertised.mac {
            None => Step::unchanged(state),
            Some(mac) => Step::to(State::Stale(mac), Wait::Stale).router(advertised.router),
        },
        (State::Failed, Event::Learned(mac)) => Step::to(State::Stale(mac), Wait::Stale),
    }
}

/// RFC 4861 7.2.5 for an entry that has a link-layer address.
fn receive_advertisement(state: State, cached: Mac, advertised: Advertised) -> Step {
    let supplied = advertised.mac.unwrap_or(cached);
    if supplied != cached && !advertised.override_cached {
        // I: a REACHABLE entry becomes STALE "but do not update the entry in any other way"; otherwise ignored whole.
        return match state {
            State::Reachable(mac) => Step::to(State::Stale(mac), Wait::Stale),
            _ => Step::unchanged(state),
        };
    }
    // II: take the address; S proves the path both ways; without S a new address is STALE.
    let step = if advertised.solicited {
        Step::to(State::Reachable(supplied), Wait::Reachable)
    } else if supplied != cached {
        Step::to(State::Stale(supplied), Wait::Stale)
    } else {
        Step::unchanged(state)
    };
    step.router(advertised.router)
}

fn probe(mac: Mac) -> Step {
    Step::ask(State::Probe { mac, sent: 1 }, Solicit::Unicast(mac))
}

fn give_up(policy: Policy) -> Step {
    if policy.gateway {
        return Step::to(State::Failed, Wait::Backoff);
    }
    if policy.proven {
        return Step::to(State::Failed, Wait::Forget);
    }
    Step {
        next: None,
        ..Step::unchanged(State::Failed)
    }
}
