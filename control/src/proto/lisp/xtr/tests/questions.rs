//! The transitions of a question and of what was learned, all of them, by what the machine is told and does: the diagram
//! at the top of `question`, and `learned`.

use super::super::learned::Standing;
use super::super::question::{State, TRIES};
use super::*;

const HOST: &str = "2001:db8:b::7";
const PREFIX: &str = "2001:db8:b::/48";

/// How a question for [`HOST`] stands: as the machine has it, and what the time until it is due tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Not at all.
    Never,
    /// So often, and no answer came.
    Times { tries: u8, again: bool },
    /// And answered within this second.
    Answered { again: bool },
    /// And given up, for half a minute.
    Silent { again: bool },
}

const ASKED: [Asked; 11] = [
    Asked::Never,
    Asked::Times {
        tries: 1,
        again: false,
    },
    Asked::Times {
        tries: 1,
        again: true,
    },
    Asked::Times {
        tries: 5,
        again: false,
    },
    Asked::Times {
        tries: 5,
        again: true,
    },
    Asked::Times {
        tries: TRIES,
        again: false,
    },
    Asked::Times {
        tries: TRIES,
        again: true,
    },
    Asked::Answered { again: false },
    Asked::Answered { again: true },
    Asked::Silent { again: false },
    Asked::Silent { again: true },
];

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    /// A packet misses.
    Miss,
    /// Somebody says that what is known of it is old.
    Solicitation,
    /// The next timer.
    Timer,
    /// Answers: with a mapping, without one, with one that holds no longer.
    Positive,
    Negative,
    Withdrawn,
    /// Answers that are none.
    OtherPrefix,
    OtherNonce,
    /// The question itself, sent on to us.
    Back,
    /// There are no Map-Resolvers any more.
    NobodyToAsk,
}

const HAPPENS: [Happens; 10] = [
    Happens::Miss,
    Happens::Solicitation,
    Happens::Timer,
    Happens::Positive,
    Happens::Negative,
    Happens::Withdrawn,
    Happens::OtherPrefix,
    Happens::OtherNonce,
    Happens::Back,
    Happens::NobodyToAsk,
];

/// What is seen of it: Map-Requests and which bit they have, changes of the map-cache, whether it was given up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    requests: Vec<bool>,
    is_learned: bool,
    is_forgotten: bool,
    is_given_up: bool,
}

/// What was solicited is known: of a host of which nothing is, no solicitation is followed (S-03).
fn cached() -> Bench {
    let mut bench = Bench::new(settings());
    bench.miss("2001:db8:b::1");
    let nonce = nonce_in(&bench.sent(Duration::ZERO));
    bench.receive(PEER, &reply(nonce, vec![positive(PREFIX, 1440)]));
    bench.run(seconds(5));
    bench
}

fn nonce_in(sent: &[(u64, Datagram)]) -> u64 {
    asked(&sent.last().expect("a Map-Request").1).request.nonce
}

/// One bench for each state, brought there as anything is: and the nonce of its question.
fn bring(state: Asked) -> (Bench, u64) {
    let mut bench = cached();
    let ask = |bench: &mut Bench, tries: u8| {
        bench.miss(HOST);
        nonce_in(&bench.sent(seconds(u64::from(tries) - 1)))
    };
    let nonce = match state {
        Asked::Never => 0,
        Asked::Times { tries, again } => {
            let nonce = ask(&mut bench, tries);
            if again {
                solicit(&mut bench);
            }
            nonce
        }
        Asked::Answered { again } => {
            let nonce = ask(&mut bench, 1);
            let record = positive(&format!("{HOST}/128"), 1440);
            bench.receive(PEER, &reply(nonce, vec![record]));
            if again {
                solicit(&mut bench);
            }
            nonce
        }
        Asked::Silent { again } => {
            let nonce = ask(&mut bench, TRIES);
            if again {
                solicit(&mut bench);
            }
            // What is solicited anew is followed after three seconds.
            bench.run(seconds(5));
            nonce
        }
    };
    bench.outputs();
    assert_eq!(observed(&bench), state);
    (bench, nonce)
}

fn observed(bench: &Bench) -> Asked {
    let host = eid(HOST).host();
    match bench.xtr.itr.state_of(host) {
        None => Asked::Never,
        Some(State::Asking { tries, again }) => Asked::Times { tries, again },
        Some(State::Resting { again }) => {
            let due = bench.xtr.itr.due_of(host).expect("a question has a time");
            match due <= bench.now + seconds(1) {
                true => Asked::Answered { again },
                false => Asked::Silent { again },
            }
        }
    }
}

/// S-04: what changed is the source EID. It is followed at once.
fn solicit(bench: &mut Bench) {
    let mut request = Request::new(0, vec![ip(PEER)], key("2001:db8:a::/48"));
    request.source = Some(eid(HOST));
    request.flags.solicit = true;
    bench.receive(PEER, &Message::Request(request));
    bench.xtr.handle_timeout(bench.now);
}

fn happen(bench: &mut Bench, nonce: u64, happens: Happens) -> Seen {
    let records = |record: Record| vec![record];
    let host = format!("{HOST}/128");
    match happens {
        Happens::Miss => bench.miss(HOST),
        Happens::Solicitation => solicit(bench),
        Happens::Timer => {
            if let Some(due) = bench.xtr.itr.due_of(eid(HOST).host()) {
                bench.now = due;
            }
            bench.xtr.handle_timeout(bench.now);
        }
        Happens::Positive => {
            bench.receive(PEER, &reply(nonce, records(positive(&host, 9))));
        }
        Happens::Negative => {
            let record = Record::negative(key(&host), Act::from(Action::Native), 15);
            bench.receive(PEER, &reply(nonce, records(record)));
        }
        Happens::Withdrawn => {
            bench.receive(PEER, &reply(nonce, records(positive(&host, 0))));
        }
        Happens::OtherPrefix => {
            let other = positive("2001:db8:b::8/128", 9);
            bench.receive(PEER, &reply(nonce, records(other)));
        }
        Happens::OtherNonce => {
            bench.receive(PEER, &reply(nonce ^ 1, records(positive(&host, 9))));
        }
        Happens::Back => bench.receive(
            RESOLVER,
            &Message::Encapsulated(Encapsulated {
                ddt: false,
                source: control(OWN),
                destination: control(HOST),
                request: Request::new(nonce, vec![ip(OWN)], key(&host)),
            }),
        ),
        Happens::NobodyToAsk => bench.xtr.set_settings(
            bench.now,
            Settings {
                map_resolvers: Vec::new(),
                ..settings()
            },
        ),
    }
    let mut seen = Seen::default();
    let of_host = eid(HOST).host();
    for (_, output) in bench.outputs() {
        match output {
            Output::Send(datagram) => match parse(&datagram.payload) {
                Ok(Message::Encapsulated(sent)) if sent.request.asked[0].key == of_host => {
                    seen.requests.push(sent.request.flags.smr_invoked);
                }
                // The same of the prefix, which is known too; and an answer to our own question.
                Ok(Message::Encapsulated(_) | Message::Reply(_)) => {}
                other => panic!("{other:?}"),
            },
            Output::Learned { key, .. } => seen.is_learned |= key == of_host,
            Output::Forgotten(key) => seen.is_forgotten |= key == of_host,
            Output::Event(Event::Unanswered { key }) => seen.is_given_up |= key == of_host,
            other => panic!("{other:?}"),
        }
    }
    seen
}

/// The table. No pair is left to a default: what is new has to be decided here.
fn expected(state: Asked, happens: Happens) -> (Asked, Seen) {
    use Asked::{Answered, Never, Silent, Times};
    use Happens::{
        Back, Miss, Negative, NobodyToAsk, OtherNonce, OtherPrefix, Positive, Solicitation, Timer,
        Withdrawn,
    };
    let nothing = Seen::default;
    let sent = |smr_invoked| Seen {
        requests: vec![smr_invoked],
        ..nothing()
    };
    let first = Times {
        tries: 1,
        again: false,
    };
    match (state, happens) {
        (Never, Miss) => (first, sent(false)),
        (Never, Solicitation) => (first, sent(true)),
        (Never, Timer | Positive | Negative | Withdrawn | OtherPrefix | OtherNonce | Back) => {
            (Never, nothing())
        }

        (Times { .. }, Miss | OtherPrefix | OtherNonce) => (state, nothing()),
        (Times { tries, .. }, Solicitation) => (Times { tries, again: true }, nothing()),
        (Times { tries, again }, Timer) if tries < TRIES => {
            let tries = tries + 1;
            (Times { tries, again }, sent(false))
        }
        (Times { again, .. }, Timer) => (
            Silent { again },
            Seen {
                is_given_up: true,
                ..nothing()
            },
        ),
        (Times { again, .. }, Positive | Negative) => (
            Answered { again },
            Seen {
                is_learned: true,
                ..nothing()
            },
        ),
        (Times { again, .. }, Withdrawn | Back) => (Answered { again }, nothing()),

        (Answered { again: false }, Timer) => (Never, nothing()),
        (Answered { again: true }, Timer) => (first, sent(true)),
        (Answered { .. }, Solicitation) => (Answered { again: true }, nothing()),
        // An answer counts once.
        (
            Answered { .. },
            Miss | Positive | Negative | Withdrawn | OtherPrefix | OtherNonce | Back,
        ) => (state, nothing()),

        (Silent { again: false }, Timer) => (Never, nothing()),
        (Silent { again: true }, Timer) => (first, sent(true)),
        // Whoever solicits is there. More than a second has passed.
        (Silent { .. }, Solicitation) => (first, sent(true)),
        // What comes after that long is not believed.
        (
            Silent { .. },
            Miss | Positive | Negative | Withdrawn | OtherPrefix | OtherNonce | Back,
        ) => (state, nothing()),

        (Never | Times { .. } | Silent { .. }, NobodyToAsk) => (Never, nothing()),
        (Answered { .. }, NobodyToAsk) => (
            Never,
            Seen {
                is_forgotten: true,
                ..nothing()
            },
        ),
    }
}

/// Q-03, C-10, S-02, S-03: every state of a question, and everything that can happen to it.
#[test]
fn every_question_and_occurrence_has_its_transition() {
    for state in ASKED {
        for happens in HAPPENS {
            let (mut bench, nonce) = bring(state);
            let seen = happen(&mut bench, nonce, happens);
            let (next, effects) = expected(state, happens);
            let what = format!("{state:?} {happens:?}");
            assert_eq!((observed(&bench), seen), (next, effects), "{what}");
            let waits = matches!(next, Asked::Times { .. });
            assert_eq!(bench.xtr.itr.nonce_of(eid(HOST).host()).is_some(), waits);
        }
    }
}

/// How [`PREFIX`] stands in the map-cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Not,
    /// Learned; whether with locators, used since, and asked for again if it is used.
    Entry(Standing),
}

const fn entry(is_positive: bool, is_used: bool, is_ending: bool) -> Known {
    Known::Entry(Standing {
        is_positive,
        is_used,
        is_ending,
    })
}

const KNOWN: [Known; 9] = [
    Known::Not,
    entry(true, false, false),
    entry(true, true, false),
    entry(true, false, true),
    entry(true, true, true),
    entry(false, false, false),
    entry(false, true, false),
    entry(false, false, true),
    entry(false, true, true),
];

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// An answer about it: with locators, without, or that it holds no longer.
    Positive,
    Negative,
    Withdrawn,
    /// An answer about a prefix around it, which does not list it; and one about a prefix under it.
    Around,
    Under,
    /// The answer to a probe for it, with the mapping or without.
    Probed,
    ProbedWithdrawn,
    /// A packet uses it.
    Used,
    /// Its next time comes: to be asked for again, or to end.
    Timer,
    /// The operator clears it.
    Cleared,
    NobodyToAsk,
}

const CHANGES: [Change; 11] = [
    Change::Positive,
    Change::Negative,
    Change::Withdrawn,
    Change::Around,
    Change::Under,
    Change::Probed,
    Change::ProbedWithdrawn,
    Change::Used,
    Change::Timer,
    Change::Cleared,
    Change::NobodyToAsk,
];

const TTL: u32 = 10;
/// Five sixths of it.
const REFRESH: u64 = 540;

fn standing(bench: &Bench) -> Known {
    let known = bench.xtr.itr.standing_of(bench.now, key(PREFIX));
    known.map_or(Known::Not, Known::Entry)
}

/// With what a probe for it would be answered to: the nonce of one that was just sent.
fn probed(bench: &mut Bench) -> u64 {
    bench
        .xtr
        .watch(bench.now, ip(PEER), vec![key(PREFIX)], true);
    assert!(bench.xtr.probe(bench.now, ip(PEER)));
    let probes = bench.sent(Duration::ZERO).into_iter();
    let mut nonces = probes.filter_map(|(_, datagram)| match parse(&datagram.payload) {
        Ok(Message::Request(request)) if request.flags.probe => Some(request.nonce),
        _ => None,
    });
    nonces.next_back().expect("a probe")
}

fn bring_known(known: Known) -> Bench {
    let mut bench = Bench::new(settings());
    let Known::Entry(wanted) = known else {
        return bench;
    };
    bench.miss(HOST);
    let nonce = nonce_in(&bench.sent(Duration::ZERO));
    let record = match wanted.is_positive {
        true => positive(PREFIX, TTL),
        false => Record::negative(key(PREFIX), Act::from(Action::Native), TTL),
    };
    bench.receive(PEER, &reply(nonce, vec![record]));
    bench.run(seconds(5));
    if wanted.is_used {
        bench.note_used(PREFIX, PEER);
    }
    if wanted.is_ending {
        bench.run(seconds(REFRESH));
    }
    assert_eq!(standing(&bench), known);
    bench
}

/// Whether the prefix is said to be known, or not any more, and whether it is asked for.
fn change(bench: &mut Bench, change: Change) -> (Option<bool>, bool) {
    let answer = |bench: &mut Bench, record: Record| {
        // Another host of it misses, as where its entry was just lost.
        bench.miss("2001:db8:b::9");
        let nonce = nonce_in(&bench.sent(Duration::ZERO));
        bench.receive(PEER, &reply(nonce, vec![record]));
    };
    match change {
        Change::Positive => answer(bench, positive(PREFIX, TTL)),
        Change::Negative => answer(
            bench,
            Record::negative(key(PREFIX), Act::from(Action::Drop), TTL),
        ),
        Change::Withdrawn => answer(bench, positive(PREFIX, 0)),
        Change::Around => answer(bench, positive("2001:db8::/32", TTL)),
        Change::Under => answer(bench, positive("2001:db8:b::9/128", TTL)),
        Change::Probed | Change::ProbedWithdrawn => {
            let nonce = probed(bench);
            let ttl = match change {
                Change::Probed => TTL,
                _ => 0,
            };
            let mut record = positive(PREFIX, ttl);
            record.is_authoritative = true;
            record.locators[0].is_probed = true;
            let mut answer = reply(nonce, vec![record]);
            if let Message::Reply(reply) = &mut answer {
                reply.flags.probe = true;
            }
            bench.receive(PEER, &answer);
        }
        Change::Used => bench.note_used(PREFIX, PEER),
        Change::Timer => {
            if let Some(due) = bench.xtr.itr.due_of_learned(key(PREFIX)) {
                bench.now = due;
            }
            bench.xtr.handle_timeout(bench.now);
        }
        Change::Cleared => bench.xtr.forget(key(PREFIX)),
        Change::NobodyToAsk => bench.xtr.set_settings(
            bench.now,
            Settings {
                map_resolvers: Vec::new(),
                ..settings()
            },
        ),
    }
    let mut said = None;
    let mut is_asked = false;
    for (_, output) in bench.outputs() {
        match output {
            Output::Learned { key: of, .. } if of == key(PREFIX) => said = Some(true),
            Output::Forgotten(of) if of == key(PREFIX) => said = Some(false),
            Output::Send(datagram) => {
                let of = |sent: &Encapsulated| sent.request.asked[0].key == key(PREFIX);
                is_asked |= matches!(parse(&datagram.payload),
                    Ok(Message::Encapsulated(sent)) if of(&sent));
            }
            _ => {}
        }
    }
    (said, is_asked)
}

/// The table: how it stands then, what is said of it, whether it is asked for.
fn expected_of(known: Known, change: Change) -> (Known, Option<bool>, bool) {
    use Change::{
        Around, Cleared, Negative, NobodyToAsk, Positive, Probed, ProbedWithdrawn, Timer, Under,
        Used, Withdrawn,
    };
    match (known, change) {
        (_, Positive) => (entry(true, false, false), Some(true), false),
        (_, Negative) => (entry(false, false, false), Some(true), false),
        (Known::Entry(_), Withdrawn | Around | NobodyToAsk) => (Known::Not, Some(false), false),
        (_, Under) => (known, None, false),
        // What nobody used does not hold for longer, but is what the ETR says now (B-03).
        (Known::Entry(Standing { is_used: false, .. }), Probed) => (known, Some(true), false),
        (
            Known::Entry(Standing {
                is_used: true,
                is_positive,
                ..
            }),
            Probed,
        ) => (entry(is_positive, false, false), Some(true), false),
        (Known::Entry(_), ProbedWithdrawn) => (Known::Not, Some(false), false),
        (
            Known::Entry(Standing {
                is_positive,
                is_ending,
                ..
            }),
            Used,
        ) => (entry(is_positive, true, is_ending), None, false),
        (
            Known::Entry(Standing {
                is_positive,
                is_used,
                is_ending: false,
            }),
            Timer,
        ) => (entry(is_positive, is_used, true), None, is_used),
        // The question for it goes on.
        (
            Known::Entry(Standing {
                is_ending: true,
                is_used,
                ..
            }),
            Timer,
        ) => (Known::Not, Some(false), is_used),
        // Whoever clears it knows.
        (Known::Entry(_), Cleared) => (Known::Not, None, false),
        (
            Known::Not,
            Withdrawn | Around | Probed | ProbedWithdrawn | Used | Timer | Cleared | NobodyToAsk,
        ) => (Known::Not, None, false),
    }
}

/// C-01, C-07, C-08, C-11, B-03: every state of an entry of the map-cache, and everything that can happen to it.
#[test]
fn everything_learned_and_every_occurrence_has_its_transition() {
    for known in KNOWN {
        for happens in CHANGES {
            let mut bench = bring_known(known);
            let (said, is_asked) = change(&mut bench, happens);
            assert_eq!(
                (standing(&bench), said, is_asked),
                expected_of(known, happens),
                "{known:?} {happens:?}"
            );
        }
    }
}
