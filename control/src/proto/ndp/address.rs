//! One own address: duplicate address detection (RFC 4862 5.4 with the nonce of RFC 7527; for IPv4 RFC 5227 2.1) and
//! announcing it, as one pure function from phase and event to phase and action. The families differ in [`Rules`], and
//! in the pauses, which are not here.
//!
//! ```text
//!              first probe        no objection in time
//!   WAITING ---------------> PROBING ------------------------> ANNOUNCING ---> ASSIGNED
//!      ^ \______________________|\______ no probes wanted _________^  ^  announced  |
//!      |     somebody has it    v                                    |___ link up ___|
//!      +------ link up ---- DUPLICATE
//! ```
//!
//! An address that has been ours stays ours over a loss of the link and is announced again when it returns; running the
//! detection again would take the address away for a second at each flap of a cable.

/// RFC 7527 4.1: so many more probes when one of ours came back. MAX_MULTICAST_SOLICIT (RFC 4861 10).
const PROBES_AFTER_LOOP: u8 = 3;

/// What the families do a different number of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Probes before an address is ours; 0: it is ours at once.
    pub(super) probes: u8,
    /// Announcements of one that is, at least 1.
    pub(super) announcements: u8,
}

impl Rules {
    /// IPv6: DupAddrDetectTransmits (RFC 4862 5.1), MAX_NEIGHBOR_ADVERTISEMENT (RFC 4861 10).
    pub(super) fn ipv6(dad_transmits: u8) -> Self {
        Self {
            probes: dad_transmits,
            announcements: 3,
        }
    }

    /// IPv4: PROBE_NUM and ANNOUNCE_NUM (RFC 5227 1.1); whoever wants no probes for IPv6 wants none here.
    pub(super) fn ipv4(dad_transmits: u8) -> Self {
        Self {
            probes: if dad_transmits == 0 { 0 } else { 3 },
            announcements: 2,
        }
    }
}

/// How an own address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the first probe: the link is down, or the first deadline has not come.
    Waiting,
    /// Probes are out, `left` are still to be sent.
    Probing {
        left: u8,
        /// One of the probes came back.
        looped: bool,
        /// The probes that follow a loop have been granted; they are granted once.
        extended: bool,
    },
    /// Ours; so many unsolicited advertisements are still to be sent.
    Announcing { left: u8 },
    /// Ours.
    Assigned,
    /// Somebody else's.
    Duplicate,
}

impl Phase {
    /// Whether the address may be used.
    pub(super) fn is_valid(self) -> bool {
        match self {
            Self::Announcing { .. } | Self::Assigned => true,
            Self::Waiting | Self::Probing { .. } | Self::Duplicate => false,
        }
    }
}

/// What happened to an own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The link came up, the interface was made, or its link-layer address changed.
    Start,
    /// The link went down.
    Stop,
    /// The deadline has come.
    Timeout,
    /// A probe of ours came back.
    Looped,
    /// Somebody else probes it or claims it.
    Claimed,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    None,
    /// Send a probe.
    Probe,
    /// It is ours now: tell, and send an unsolicited advertisement.
    Assign,
    /// Send an unsolicited advertisement.
    Announce,
    /// It is somebody else's: tell.
    GiveUp,
    /// Somebody claims what is ours: tell.
    Complain,
}

/// What to do with the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Keep,
    Cancel,
    /// Now, or after the random delay of a start.
    Start,
    /// Until the next probe or announcement, or the end of them: RetransTimer; for IPv4 the intervals of RFC 5227.
    Retransmit,
}

/// One transition.
pub(super) fn step(phase: Phase, event: Event, rules: Rules) -> (Phase, Action, Wait) {
    match (phase, event) {
        (Phase::Waiting | Phase::Duplicate, Event::Start) => {
            (Phase::Waiting, Action::None, Wait::Start)
        }
        (Phase::Waiting, Event::Stop) => (phase, Action::None, Wait::Cancel),
        (Phase::Waiting, Event::Timeout) => match rules.probes.checked_sub(1) {
            None => assign(rules),
            Some(left) => {
                let next = Phase::Probing {
                    left,
                    looped: false,
                    extended: false,
                };
                (next, Action::Probe, Wait::Retransmit)
            }
        },
        (Phase::Waiting, Event::Looped) => (phase, Action::None, Wait::Keep),

        // It runs already.
        (Phase::Probing { .. }, Event::Start) => (phase, Action::None, Wait::Keep),
        (Phase::Probing { .. }, Event::Stop) => (Phase::Waiting, Action::None, Wait::Cancel),
        (
            Phase::Probing {
                left,
                looped,
                extended,
            },
            Event::Timeout,
        ) => {
            if let Some(left) = left.checked_sub(1) {
                let next = Phase::Probing {
                    left,
                    looped,
                    extended,
                };
                (next, Action::Probe, Wait::Retransmit)
            } else if looped && !extended {
                let next = Phase::Probing {
                    left: PROBES_AFTER_LOOP - 1,
                    looped: false,
                    extended: true,
                };
                (next, Action::Probe, Wait::Retransmit)
            } else {
                // RFC 7527 4.1: on a link that loops for good probing may be stopped; only our own probes were seen.
                assign(rules)
            }
        }
        (Phase::Probing { left, extended, .. }, Event::Looped) => {
            let next = Phase::Probing {
                left,
                looped: true,
                extended,
            };
            (next, Action::None, Wait::Keep)
        }
        // RFC 4862 5.4.3 and 5.4.4: tentative, and somebody else has it or wants it as well: nobody gets it.
        (Phase::Waiting | Phase::Probing { .. }, Event::Claimed) => {
            (Phase::Duplicate, Action::GiveUp, Wait::Cancel)
        }

        (Phase::Announcing { .. } | Phase::Assigned, Event::Start) => {
            let next = Phase::Announcing {
                left: rules.announcements,
            };
            (next, Action::None, Wait::Start)
        }
        (Phase::Announcing { .. } | Phase::Assigned, Event::Stop) => {
            (Phase::Assigned, Action::None, Wait::Cancel)
        }
        (Phase::Announcing { left }, Event::Timeout) => match left {
            0 => (Phase::Assigned, Action::None, Wait::Cancel),
            1 => (Phase::Assigned, Action::Announce, Wait::Cancel),
            _ => {
                let next = Phase::Announcing { left: left - 1 };
                (next, Action::Announce, Wait::Retransmit)
            }
        },
        (Phase::Assigned, Event::Timeout) => (phase, Action::None, Wait::Cancel),
        (Phase::Announcing { .. } | Phase::Assigned, Event::Looped) => {
            (phase, Action::None, Wait::Keep)
        }
        (Phase::Announcing { .. } | Phase::Assigned, Event::Claimed) => {
            (phase, Action::Complain, Wait::Keep)
        }

        (Phase::Duplicate, Event::Stop | Event::Timeout | Event::Looped | Event::Claimed) => {
            (phase, Action::None, Wait::Cancel)
        }
    }
}

fn assign(rules: Rules) -> (Phase, Action, Wait) {
    let next = Phase::Announcing {
        left: rules.announcements - 1,
    };
    (next, Action::Assign, Wait::Retransmit)
}
