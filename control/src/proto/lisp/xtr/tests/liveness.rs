//! The transitions of a locator's liveness, all of them: the diagram at the top of `liveness`.

use super::super::liveness::{Liveness::*, Occurrence::*, Rloc};
use super::*;

const SCHEDULE: ProbeSchedule = ProbeSchedule {
    period: Duration::from_secs(30),
    misses: 3,
    least_wait: Duration::from_millis(500),
    per_second: 500,
};

/// B-01, B-04: state, misses before, whether it may be dead, what happens, state and misses after, and when the next probe
/// is due if that changes, milliseconds.
#[test]
fn every_state_and_occurrence_has_its_transition() {
    let now = Instant::now();
    for (state, missed, is_learned, is_patient, occurrence, expected, missed_after, next) in [
        // It has never answered.
        (Unproven, 0, true, false, Answered, Up, 0, None),
        (Unproven, 2, false, false, Answered, Up, 0, None),
        (Unproven, 0, true, false, Missed, Unproven, 1, Some(0)),
        (Unproven, 2, true, false, Missed, Down, 3, Some(1000)),
        (Unproven, 9, true, true, Missed, Unproven, 10, Some(0)),
        // Perhaps it knows no probes: it is asked less and less often.
        (Unproven, 2, false, false, Missed, Unproven, 3, None),
        (Unproven, 9, false, false, Missed, Unproven, 10, None),
        // It answers.
        (Up, 2, true, false, Answered, Up, 0, None),
        (Up, 0, false, false, Missed, Up, 1, Some(0)),
        (Up, 1, false, false, Missed, Up, 2, Some(0)),
        (Up, 2, false, false, Missed, Down, 3, Some(1000)),
        (Up, 2, true, false, Missed, Down, 3, Some(1000)),
        (Up, 2, true, true, Missed, Up, 3, Some(0)),
        // It is down, and stays so until it has answered three times in a row.
        (Down, 3, true, false, Missed, Down, 4, None),
        (Down, 3, true, false, Answered, Returning(1), 0, Some(1000)),
        (
            Returning(1),
            0,
            true,
            false,
            Answered,
            Returning(2),
            0,
            Some(1000),
        ),
        (Returning(2), 0, true, false, Answered, Up, 0, None),
        (Returning(1), 0, true, false, Missed, Down, 1, Some(1000)),
        (Returning(2), 0, true, true, Missed, Down, 1, Some(1000)),
    ] {
        let mut rloc = Rloc::new(now);
        rloc.liveness = state;
        rloc.missed = missed;
        rloc.is_learned = is_learned;
        rloc.patient_until = if is_patient { now + seconds(1) } else { now };
        rloc.step(now, &SCHEDULE, occurrence);
        let next = next.map(|after| now + Duration::from_millis(after));
        assert_eq!(
            (rloc.liveness, rloc.missed, rloc.next),
            (expected, missed_after, next),
            "{state:?} {missed} learned {is_learned} patient {is_patient} {occurrence:?}"
        );
    }
}

/// One that is down is asked less and less often, to four periods, and as often as at first when it goes down again.
#[test]
fn silence_makes_pauses_longer_to_a_limit() {
    let now = Instant::now();
    let mut rloc = Rloc::new(now);
    rloc.liveness = Returning(1);
    rloc.step(now, &SCHEDULE, Missed);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        pauses.push(rloc.pause.as_secs());
        rloc.step(now, &SCHEDULE, Missed);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    rloc.step(now, &SCHEDULE, Answered);
    rloc.step(now, &SCHEDULE, Missed);
    assert_eq!(rloc.pause, seconds(1));
}

/// The same of one that never answered, to one period.
#[test]
fn what_may_know_no_probes_is_asked_less_and_less_often() {
    let now = Instant::now();
    let mut rloc = Rloc::new(now);
    rloc.patient_until = now;
    rloc.missed = 2;
    let mut intervals = Vec::new();
    for _ in 0..6 {
        rloc.step(now, &SCHEDULE, Missed);
        assert_eq!(rloc.liveness, Unproven);
        intervals.push(rloc.interval(&SCHEDULE).as_secs());
    }
    assert_eq!(intervals, [2, 4, 8, 16, 30, 30]);
    rloc.step(now, &SCHEDULE, Answered);
    assert_eq!(rloc.interval(&SCHEDULE), seconds(30));
}

/// RFC 6298 2: the wait follows the round trips, between what the schedule says and a second.
#[test]
fn the_wait_for_an_answer_follows_the_round_trips() {
    let milliseconds = Duration::from_millis;
    let fast = ProbeSchedule {
        period: milliseconds(100),
        misses: 3,
        least_wait: milliseconds(50),
        per_second: 500,
    };
    let mut rloc = Rloc::new(Instant::now());
    assert_eq!(rloc.wait(Some(&fast)), seconds(1), "nothing is known");
    rloc.note_round_trip(milliseconds(100));
    assert_eq!(rloc.wait(Some(&fast)), milliseconds(300));
    for _ in 0..50 {
        rloc.note_round_trip(milliseconds(1));
    }
    assert_eq!(rloc.wait(Some(&fast)), milliseconds(50));
    assert_eq!(rloc.wait(Some(&SCHEDULE)), milliseconds(500));
    for _ in 0..50 {
        rloc.note_round_trip(seconds(5));
    }
    assert_eq!(rloc.wait(Some(&fast)), seconds(1));
}
