//! Every phase of an own address against every event (RFC 4862 5.4, RFC 7527 4), one cell each.

use super::super::address::{Action, Event, Phase, Rules, Wait, step};

const EVENTS: [Event; 5] = [
    Event::Start,
    Event::Stop,
    Event::Timeout,
    Event::Looped,
    Event::Claimed,
];

fn probing(left: u8, looped: bool, extended: bool) -> Phase {
    Phase::Probing {
        left,
        looped,
        extended,
    }
}

fn announcing(left: u8) -> Phase {
    Phase::Announcing { left }
}

/// With two probes configured; the outcomes in the order of `EVENTS`.
#[test]
fn every_phase_takes_every_event_as_the_rfcs_say() {
    use Action::{Announce, Assign, Complain, GiveUp, Probe};
    let none = Action::None;
    let (keep, cancel, start, retransmit) =
        (Wait::Keep, Wait::Cancel, Wait::Start, Wait::Retransmit);
    let (waiting, assigned, duplicate) = (Phase::Waiting, Phase::Assigned, Phase::Duplicate);
    let lost = (duplicate, GiveUp, cancel);
    let table = [
        (
            waiting,
            [
                (waiting, none, start),
                (waiting, none, cancel),
                (probing(1, false, false), Probe, retransmit),
                (waiting, none, keep),
                lost,
            ],
        ),
        (
            probing(1, false, false),
            [
                (probing(1, false, false), none, keep),
                (waiting, none, cancel),
                (probing(0, false, false), Probe, retransmit),
                (probing(1, true, false), none, keep),
                lost,
            ],
        ),
        (
            probing(0, false, false),
            [
                (probing(0, false, false), none, keep),
                (waiting, none, cancel),
                (announcing(2), Assign, retransmit),
                (probing(0, true, false), none, keep),
                lost,
            ],
        ),
        (
            // A probe came back: three more (RFC 7527 4.1).
            probing(0, true, false),
            [
                (probing(0, true, false), none, keep),
                (waiting, none, cancel),
                (probing(2, false, true), Probe, retransmit),
                (probing(0, true, false), none, keep),
                lost,
            ],
        ),
        (
            // These came back as well: the link loops for good, and nobody else was heard.
            probing(0, true, true),
            [
                (probing(0, true, true), none, keep),
                (waiting, none, cancel),
                (announcing(2), Assign, retransmit),
                (probing(0, true, true), none, keep),
                lost,
            ],
        ),
        (
            announcing(3),
            [
                (announcing(3), none, start),
                (assigned, none, cancel),
                (announcing(2), Announce, retransmit),
                (announcing(3), none, keep),
                (announcing(3), Complain, keep),
            ],
        ),
        (
            announcing(1),
            [
                (announcing(3), none, start),
                (assigned, none, cancel),
                (assigned, Announce, cancel),
                (announcing(1), none, keep),
                (announcing(1), Complain, keep),
            ],
        ),
        (
            assigned,
            [
                (announcing(3), none, start),
                (assigned, none, cancel),
                (assigned, none, cancel),
                (assigned, none, keep),
                (assigned, Complain, keep),
            ],
        ),
        (
            duplicate,
            [
                (waiting, none, start),
                (duplicate, none, cancel),
                (duplicate, none, cancel),
                (duplicate, none, cancel),
                (duplicate, none, cancel),
            ],
        ),
    ];
    for (phase, row) in table {
        for (event, outcome) in EVENTS.into_iter().zip(row) {
            assert_eq!(
                step(phase, event, Rules::ipv6(2)),
                outcome,
                "{phase:?} {event:?}"
            );
        }
    }
}

/// RFC 4862 5.1: DupAddrDetectTransmits of zero means no detection.
#[test]
fn without_probes_an_address_is_ours_at_once() {
    assert_eq!(
        step(Phase::Waiting, Event::Timeout, Rules::ipv6(0)),
        (announcing(2), Action::Assign, Wait::Retransmit)
    );
}
