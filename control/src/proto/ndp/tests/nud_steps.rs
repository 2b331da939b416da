//! Every state against every event (RFC 4861 7.2.3, 7.2.5, 7.3.3, appendix C; RFC 9131 6.1.1), one cell each.

use super::super::nud::{Advertised, Event, Policy, Solicit, State, Step, Wait, step};
use super::*;

const A: Mac = Mac::from_octets([2, 0, 0, 0, 0, 0xa]);
const B: Mac = Mac::from_octets([2, 0, 0, 0, 0, 0xb]);

/// Rows are states, columns events. Of an advertisement: the address option (`-` none, `a` the one we know, `b`
/// another), S and O.
///
/// Cells: `=` as before; `I1` INCOMPLETE with one solicitation out; `R`, `S`, `D` with the address in `a` or `b`; `P1`
/// PROBE of `a`; `F` FAILED; `x` no entry. `!`: the advertisement is not believed, so its R flag is not taken either.
const TABLE: &str = "
state timeout used from-a from-b  -     -O    -S    -SO   a     aO    aS    aSO   b     bO    bS    bSO
I1    I2      =    Sa     Sb      =!    =!    =!    =!    Sa    Sa    Ra    Ra    Sb    Sb    Rb    Rb
I2    I3      =    Sa     Sb      =!    =!    =!    =!    Sa    Sa    Ra    Ra    Sb    Sb    Rb    Rb
I3    x/F/F   =    Sa     Sb      =!    =!    =!    =!    Sa    Sa    Ra    Ra    Sb    Sb    Rb    Rb
Ra    S/S/P1  =    =      Sb      =     =     Ra    Ra    =     =     Ra    Ra    Sa!   Sb    Sa!   Rb
Sa    P1      Da   =      Sb      =     =     Ra    Ra    =     =     Ra    Ra    =!    Sb    =!    Rb
Da    P1      =    =      Sb      =     =     Ra    Ra    =     =     Ra    Ra    =!    Sb    =!    Rb
P1    P2      =    =      Sb      =     =     Ra    Ra    =     =     Ra    Ra    =!    Sb    =!    Rb
P2    P3      =    =      Sb      =     =     Ra    Ra    =     =     Ra    Ra    =!    Sb    =!    Rb
P3    x/F/I1  =    =      Sb      =     =     Ra    Ra    =     =     Ra    Ra    =!    Sb    =!    Rb
F     x/x/I1  I1   Sa     Sb      =!    =!    =!    =!    Sa    Sa    Sa    Sa    Sb    Sb    Sb    Sb
";

/// A cell with three parts tells unproven neighbours, proven neighbours and gateways apart.
const POLICIES: [Policy; 3] = [
    Policy {
        gateway: false,
        proven: false,
    },
    Policy {
        gateway: false,
        proven: true,
    },
    Policy {
        gateway: true,
        proven: true,
    },
];

fn state(name: &str) -> State {
    match name {
        "F" => State::Failed,
        "Ra" => State::Reachable(A),
        "Rb" => State::Reachable(B),
        "S" | "Sa" => State::Stale(A),
        "Sb" => State::Stale(B),
        "Da" => State::Delay(A),
        _ => {
            let (kind, sent) = name.split_at(1);
            let sent = sent.parse().unwrap();
            match kind {
                "I" => State::Incomplete { sent },
                "P" => State::Probe { mac: A, sent },
                _ => panic!("no state {name}"),
            }
        }
    }
}

fn event(name: &str, router: bool) -> Event {
    match name {
        "timeout" => Event::Timeout,
        "used" => Event::Used,
        "from-a" => Event::Learned(A),
        "from-b" => Event::Learned(B),
        _ => Event::Advertised(Advertised {
            mac: match &name[..1] {
                "-" => None,
                "a" => Some(A),
                "b" => Some(B),
                other => panic!("no option {other}"),
            },
            solicited: name.contains('S'),
            override_cached: name.contains('O'),
            router,
        }),
    }
}

/// A state that is entered brings its deadline and, if it asks, its question.
fn expected(before: State, cell: &str, event: Event, policy: Policy) -> Step {
    let believed = !cell.ends_with('!');
    let cell = cell.trim_end_matches('!');
    let router = match event {
        Event::Advertised(advertised) if believed => Some(advertised.router),
        _ => None,
    };
    if cell == "=" || cell == "x" {
        return Step {
            next: (cell == "=").then_some(before),
            wait: Wait::Keep,
            solicit: None,
            router,
        };
    }
    let next = state(cell);
    let (wait, solicit) = match next {
        State::Incomplete { .. } => (Wait::Retransmit, Some(Solicit::Multicast)),
        State::Reachable(_) => (Wait::Reachable, None),
        State::Stale(_) => (Wait::Stale, None),
        State::Delay(_) => (Wait::Delay, None),
        State::Probe { mac, .. } => (Wait::Retransmit, Some(Solicit::Unicast(mac))),
        State::Failed if policy.gateway => (Wait::Backoff, None),
        State::Failed => (Wait::Forget, None),
    };
    Step {
        next: Some(next),
        wait,
        solicit,
        router,
    }
}

#[test]
fn every_state_takes_every_event_as_the_rfc_says() {
    let mut rows = TABLE.trim().lines();
    let columns: Vec<&str> = rows.next().unwrap().split_whitespace().skip(1).collect();
    let mut cells = 0;
    for row in rows {
        let mut words = row.split_whitespace();
        let before = words.next().unwrap();
        let row: Vec<&str> = words.collect();
        assert_eq!(row.len(), columns.len());
        for (column, cell) in columns.iter().zip(row) {
            for (index, policy) in POLICIES.into_iter().enumerate() {
                for router in [false, true] {
                    let cell = cell.split('/').nth(index).unwrap_or(cell);
                    let event = event(column, router);
                    assert_eq!(
                        step(state(before), event, policy),
                        expected(state(before), cell, event, policy),
                        "{before} {column} {policy:?}"
                    );
                    cells += 1;
                }
            }
        }
    }
    assert_eq!(cells, 10 * 16 * 3 * 2);
}
