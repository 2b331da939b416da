//! The transitions of a registered EID, all of them: what it is answered with, and who is told.

use std::collections::BTreeSet;

use super::*;
use crate::proto::lisp::mapserver::database::Who;

const EID: &str = "10.1.0.5/32";
/// Three routers of a site and an RLOC of each. The first is the newest in every state, where it is in it.
const ROUTERS: [&str; 3] = [ETR_A, ETR_B, "[2001:db8:d::1]:4342"];
const RLOCS: [&str; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];

/// What is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Nothing,
    /// By one router.
    One,
    /// By several that say the same.
    Agreed,
    /// By several that say different things, all of which counts.
    Merged,
    /// By several, and what some of them said is no longer true.
    Moved,
}

/// The newest router, and the number of Map-Notifies that wait for their acknowledgement.
type Standing = (Entry, Option<usize>, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    /// The newest router says what it said, something else, or that it has it no longer.
    FirstAgain,
    FirstElsewhere,
    FirstWithdraws,
    /// The other one says that it has it, the same as the first, or something that merges; or withdraws.
    SecondHasIt,
    SecondAgrees,
    SecondMerges,
    SecondWithdraws,
    /// A third one says that it has it.
    ThirdHasIt,
    /// A Map-Notify is acknowledged, by whoever may, or by somebody else.
    Acknowledged,
    Forged,
    /// Time passes: until one is sent again, is given up, what the other registered runs out, and everything.
    SentAgain,
    GivenUp,
    OlderRunsOut,
    AllRunsOut,
    /// The site may not register it any more.
    Unconfigured,
}

const HAPPENS: [Happens; 15] = [
    Happens::FirstAgain,
    Happens::FirstElsewhere,
    Happens::FirstWithdraws,
    Happens::SecondHasIt,
    Happens::SecondAgrees,
    Happens::SecondMerges,
    Happens::SecondWithdraws,
    Happens::ThirdHasIt,
    Happens::Acknowledged,
    Happens::Forged,
    Happens::SentAgain,
    Happens::GivenUp,
    Happens::OlderRunsOut,
    Happens::AllRunsOut,
    Happens::Unconfigured,
];

const ENTRIES: [Entry; 5] = [
    Entry::Nothing,
    Entry::One,
    Entry::Agreed,
    Entry::Merged,
    Entry::Moved,
];

struct Registered {
    bench: Bench,
    routers: [Router; 3],
    /// The last Map-Notify that nobody asked for, and whom it went to.
    notice: Option<(SocketAddr, Vec<u8>)>,
}

impl Registered {
    /// A minute lies between what the second router said and what the first did.
    fn new(entry: Entry, is_told: bool) -> Self {
        let number = std::cell::Cell::new(0);
        let routers = ROUTERS.map(|address| {
            number.set(number.get() + 1);
            let mut router = Router::new(address, "first").with_id(number.get());
            router.flags.want_notify = true;
            router
        });
        let mut this = Self {
            bench: Bench::new(settings()),
            routers,
            notice: None,
        };
        let second = match entry {
            Entry::Nothing | Entry::One if !is_told => None,
            Entry::Agreed if !is_told => Some((0, false)),
            Entry::Merged if !is_told => Some((1, true)),
            _ => Some((1, false)),
        };
        if let Some((rloc, merge)) = second {
            this.register(1, rloc, merge);
        }
        this.bench.pass(60);
        if is_told || entry != Entry::Nothing {
            let merges = entry == Entry::Merged && !is_told;
            this.register(0, 0, merges);
        }
        // The second one was told, and meanwhile it is as it shall be. That it says something ends what it was told, so
        // that a third one is in it.
        if is_told {
            match entry {
                Entry::Nothing => {
                    this.withdraw(0);
                    this.withdraw(1);
                }
                Entry::One => {
                    this.withdraw(1);
                }
                Entry::Agreed => {
                    this.withdraw(1);
                    this.register(2, 0, false);
                    this.bench.pass(20);
                    this.bench.sent();
                    this.swap_second_and_third();
                    this.register(0, 0, false);
                }
                Entry::Merged => {
                    this.withdraw(1);
                    this.register(2, 1, true);
                    this.bench.pass(20);
                    this.bench.sent();
                    this.swap_second_and_third();
                    this.register(0, 0, true);
                }
                Entry::Moved => {}
            }
        } else if entry == Entry::Moved {
            this.acknowledge(false);
        }
        let newest = (entry != Entry::Nothing).then_some(0);
        assert_eq!(this.observed(), (entry, newest, usize::from(is_told)));
        this
    }

    /// The third takes the part of the second, who is told still and has nothing.
    fn swap_second_and_third(&mut self) {
        self.routers.swap(1, 2);
    }

    fn register(&mut self, router: usize, rloc: usize, merge: bool) -> Told {
        self.routers[router].flags.merge = merge;
        let eid = record(key(7, EID), &[RLOCS[rloc]]);
        let sent = self.bench.register(&mut self.routers[router], &[eid]);
        self.told(sent)
    }

    fn withdraw(&mut self, router: usize) -> Told {
        let gone = record(key(7, EID), &[]);
        let sent = self.bench.register(&mut self.routers[router], &[gone]);
        self.told(sent)
    }

    fn pass(&mut self, seconds: u64) -> Told {
        self.bench.pass(seconds);
        let sent = self.bench.sent();
        self.told(sent)
    }

    /// Who is told, and with how many answers to what they said.
    fn told(&mut self, sent: Vec<(SocketAddr, Vec<u8>)>) -> Told {
        let mut told = Told::default();
        for (to, bytes) in sent {
            let Ok(Message::Notify(Notify { body })) = parse(&bytes) else {
                panic!("a Map-Notify")
            };
            let routers = self.routers.iter();
            let mut routers = routers.enumerate().filter(|(_, router)| router.from == to);
            let (number, router) = routers.next().expect("a router");
            if body.nonce == router.nonce {
                told.confirmed += 1;
            } else {
                told.unasked.insert(number);
                self.notice = Some((to, bytes));
            }
        }
        told
    }

    fn acknowledge(&mut self, is_forged: bool) {
        let Some((from, bytes)) = self.notice.clone() else {
            return;
        };
        let Ok(Message::Notify(Notify { body })) = parse(&bytes) else {
            panic!("a Map-Notify")
        };
        let mut ack = emit(&Message::NotifyAck(Notify { body }));
        let name = if is_forged { "second" } else { "first" };
        auth::seal(&mut ack, &secret(name)).unwrap();
        assert_eq!(self.bench.give(from, &ack), []);
    }

    fn happen(&mut self, happens: Happens) -> Told {
        match happens {
            Happens::FirstAgain => {
                let merge = self.routers[0].flags.merge;
                self.register(0, 0, merge)
            }
            Happens::FirstElsewhere => self.register(0, 2, false),
            Happens::FirstWithdraws => self.withdraw(0),
            Happens::SecondHasIt => self.register(1, 1, false),
            Happens::SecondAgrees => self.register(1, 0, false),
            Happens::SecondMerges => self.register(1, 1, true),
            Happens::SecondWithdraws => self.withdraw(1),
            Happens::ThirdHasIt => self.register(2, 2, false),
            Happens::Acknowledged | Happens::Forged => {
                self.acknowledge(happens == Happens::Forged);
                Told::default()
            }
            Happens::SentAgain => self.pass(8),
            Happens::GivenUp => self.pass(60),
            Happens::OlderRunsOut => self.pass(165),
            Happens::AllRunsOut => self.pass(200),
            Happens::Unconfigured => {
                let mut settings = settings();
                settings.sites[0].prefixes.truncate(2);
                self.bench.machine.configure(settings);
                Told::default()
            }
        }
    }

    fn observed(&self) -> Standing {
        let machine = &self.bench.machine;
        let entry = machine.database.lookup(key(7, EID));
        let kind = entry.map_or(Entry::Nothing, |entry| {
            let (all, in_force) = (entry.registrations().count(), entry.in_force().count());
            let merges = entry.registrations().all(|one| one.merge);
            match (all, merges) {
                (1, _) => Entry::One,
                _ if in_force < all => Entry::Moved,
                (_, true) => Entry::Merged,
                (_, false) => Entry::Agreed,
            }
        });
        let newest = entry.map(|entry| {
            let etr = machine.database.etr(entry.newest.etr).expect("it is known");
            let routers = self.routers.iter();
            let mut ids = routers.map(|router| router.identity.map(|id| Who::Xtr(id.xtr_id)));
            ids.position(|id| id == Some(etr.who)).expect("a router")
        });
        (kind, newest, machine.notices.len())
    }

    /// RLOCs of the answer; none: a negative one.
    fn answered(&mut self) -> BTreeSet<IpAddr> {
        let answer = self.bench.ask(7, "10.1.0.5");
        let locators = answer.iter().flat_map(|record| &record.locators);
        locators.map(|locator| locator.rloc).collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    confirmed: usize,
    unasked: BTreeSet<usize>,
}

/// The table: what is registered then and by whom last, and who is told. No pair is left to a default: what is new has to
/// be decided here.
fn expected(entry: Entry, happens: Happens) -> (Entry, Option<usize>, &'static [usize]) {
    use Entry::{Agreed, Merged, Moved, Nothing, One};
    use Happens::{
        Acknowledged, AllRunsOut, FirstAgain, FirstElsewhere, FirstWithdraws, Forged, GivenUp,
        OlderRunsOut, SecondAgrees, SecondHasIt, SecondMerges, SecondWithdraws, SentAgain,
        ThirdHasIt, Unconfigured,
    };
    let newest = (entry != Nothing).then_some(0);
    match (entry, happens) {
        // Its own change moves nothing.
        (Nothing | One, FirstAgain | FirstElsewhere) => (One, Some(0), &[]),
        (Agreed | Merged | Moved, FirstAgain) => (entry, Some(0), &[]),
        (Agreed | Merged | Moved, FirstElsewhere) => (Moved, Some(0), &[]),
        (Nothing | One, FirstWithdraws) => (Nothing, None, &[]),
        // What is still registered counts again.
        (Agreed | Merged | Moved, FirstWithdraws) => (One, Some(1), &[]),

        (Nothing, SecondHasIt | SecondAgrees | SecondMerges) => (One, Some(1), &[]),
        (One | Agreed | Merged | Moved, SecondHasIt) => (Moved, Some(1), &[0]),
        (One | Agreed | Merged | Moved, SecondAgrees) => (Agreed, Some(1), &[]),
        // Who merges takes nothing away, and does not count beside one that does not.
        (One | Agreed | Moved, SecondMerges) => (Moved, Some(1), &[]),
        (Merged, SecondMerges) => (Merged, Some(1), &[]),
        (Nothing, SecondWithdraws) => (Nothing, None, &[]),
        (One | Agreed | Merged | Moved, SecondWithdraws) => (One, Some(0), &[]),

        (Nothing, ThirdHasIt) => (One, Some(2), &[]),
        (One, ThirdHasIt) => (Moved, Some(2), &[0]),
        (Agreed | Merged | Moved, ThirdHasIt) => (Moved, Some(2), &[0, 1]),

        (Nothing | One | Agreed | Merged | Moved, Acknowledged | Forged | SentAgain | GivenUp) => {
            (entry, newest, &[])
        }
        (Nothing, OlderRunsOut) => (Nothing, None, &[]),
        (One | Agreed | Merged | Moved, OlderRunsOut) => (One, Some(0), &[]),
        (Nothing | One | Agreed | Merged | Moved, AllRunsOut | Unconfigured) => {
            (Nothing, None, &[])
        }
    }
}

/// What of the Map-Notifies that waited does still, and whether it is sent again.
fn waiting(entry: Entry, is_told: bool, happens: Happens) -> (usize, bool) {
    use Happens::{
        Acknowledged, AllRunsOut, FirstAgain, FirstElsewhere, FirstWithdraws, Forged, GivenUp,
        OlderRunsOut, SecondAgrees, SecondHasIt, SecondMerges, SecondWithdraws, SentAgain,
        ThirdHasIt, Unconfigured,
    };
    // Where it is in the entry, the second router is the one that was told: what it says ends that, and a third one that
    // has the EID is said instead. Else nobody in the entry is.
    let is_second = entry != Entry::Agreed && entry != Entry::Merged;
    match (is_told, happens) {
        (false, _) => (0, false),
        (true, SecondHasIt | SecondAgrees | SecondMerges) => (usize::from(!is_second), false),
        (true, ThirdHasIt) => (
            usize::from(entry == Entry::Nothing || entry == Entry::One),
            false,
        ),
        (
            true,
            FirstAgain | FirstElsewhere | FirstWithdraws | SecondWithdraws | Forged | Unconfigured,
        ) => (1, false),
        (true, SentAgain) => (1, true),
        (true, GivenUp | OlderRunsOut | AllRunsOut) => (0, true),
        (true, Acknowledged) => (0, false),
    }
}

/// What is answered: the newest router's RLOCs, with those that merge.
fn answer(this: &Registered) -> BTreeSet<IpAddr> {
    let entry = this.bench.machine.database.lookup(key(7, EID));
    let registrations = entry.iter().flat_map(|entry| entry.registrations());
    let newest = entry.map(|entry| entry.newest.clone());
    let counts = registrations.filter(|one| {
        let newest = newest.as_ref().expect("there is one");
        one.etr == newest.etr || (one.merge && newest.merge)
    });
    let locators = counts.flat_map(|one| one.locators.iter());
    locators.map(|locator| locator.rloc).collect()
}

/// every state of an EID, and everything that can happen to it.
#[test]
fn every_registered_eid_and_occurrence_has_its_transition() {
    let mut wrong = Vec::new();
    for entry in ENTRIES {
        for is_told in [false, true] {
            for happens in HAPPENS {
                let mut this = Registered::new(entry, is_told);
                let told = this.happen(happens);
                let (next, newest, unasked) = expected(entry, happens);
                let (waits, again) = waiting(entry, is_told, happens);
                // Who is told, it is waited for.
                let expected = (next, newest, waits + unasked.len());
                let is_said = matches!(
                    happens,
                    Happens::FirstAgain
                        | Happens::FirstElsewhere
                        | Happens::FirstWithdraws
                        | Happens::SecondHasIt
                        | Happens::SecondAgrees
                        | Happens::SecondMerges
                        | Happens::SecondWithdraws
                        | Happens::ThirdHasIt
                );
                let found = this.observed();
                let is_right = found == expected
                    && told.confirmed == usize::from(is_said)
                    && (again || told.unasked == unasked.iter().copied().collect())
                    && told.unasked.is_empty() != (again || !unasked.is_empty());
                if !is_right {
                    wrong.push(format!(
                        "{entry:?} {is_told} {happens:?}: {found:?} {told:?}, not {expected:?}"
                    ));
                }
                let expected = answer(&this);
                let is_unconfigured = happens == Happens::Unconfigured;
                assert_eq!(
                    expected.is_empty(),
                    next == Entry::Nothing,
                    "{is_unconfigured}"
                );
                assert_eq!(this.answered(), expected, "{entry:?} {happens:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// a host that goes and comes back while the first Map-Notify is lost. What is sent again then would take it away
/// from where it is.
#[test]
fn who_has_an_eid_back_is_not_told_that_it_moved() {
    let mut this = Registered::new(Entry::Moved, true);
    let others = [record(key(7, "10.1.0.6/32"), &[RLOCS[1]])];
    this.bench.register(&mut this.routers[1], &others);
    let others = [record(key(7, "10.1.0.6/32"), &[RLOCS[0]])];
    this.bench.register(&mut this.routers[0], &others);
    assert_eq!(this.register(1, 1, false).unasked, [0].into());
    let mut told = BTreeSet::new();
    for _ in 0..60 {
        this.bench.pass(1);
        for (to, bytes) in this.bench.sent() {
            let Ok(Message::Notify(Notify { body })) = parse(&bytes) else {
                panic!("a Map-Notify")
            };
            told.extend(body.records.iter().map(|one| (to, one.key.eid.to_string())));
        }
    }
    let [first, second] = [ETR_A, ETR_B].map(|address| address.parse().unwrap());
    let expected = [(first, EID.to_owned()), (second, "10.1.0.6/32".to_owned())];
    assert_eq!(told, expected.into());
}
