//! The transitions of a registration with a Map-Server, all of them: everything that is registered, one EID host beside it
//! that comes and goes, and whether the Map-Server keeps it.

use std::collections::BTreeSet;

use super::*;
use crate::proto::lisp::wire::{Notify, Registration, auth};

const SERVER: &str = "2001:db8:ffff::100";
const PREFIX: &str = "2001:db8:a::/48";
const HOST: &str = "2001:db8:a:1::7";
const AT: InterfaceIndex = InterfaceIndex(1);

/// All that is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// Is to be said at once.
    Due,
    /// Was said and is not confirmed.
    Said,
    /// Was confirmed.
    Confirmed,
}

/// The host, of which the Map-Server is to know something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    /// It came, or went; whether that was said.
    Came {
        said: bool,
    },
    Went {
        said: bool,
    },
}

/// Whether the Map-Server has what was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Never,
    Yes,
    NoLonger,
}

type Standing = Option<(Whole, News, Holds)>;

/// Every state; none: nothing is registered there.
fn standings() -> Vec<Standing> {
    let news = [
        News::None,
        News::Came { said: false },
        News::Came { said: true },
        News::Went { said: false },
        News::Went { said: true },
    ];
    let mut standings = vec![None];
    for whole in [Whole::Due, Whole::Said, Whole::Confirmed] {
        for holds in [Holds::Never, Holds::Yes, Holds::NoLonger] {
            // What is confirmed is kept until everything is due again.
            if whole != Whole::Confirmed || holds == Holds::Yes {
                standings.extend(news.map(|news| Some((whole, news, holds))));
            }
        }
    }
    standings
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    /// The next timer.
    Timer,
    /// A Map-Notify for all that was said.
    Notify,
    /// One that is not authentic, and one that nobody asked for.
    Forged,
    Unasked,
    /// The host is heard, is silent, is registered elsewhere.
    Heard,
    Silent,
    Taken,
    /// Something else is said of every own EID.
    Restated,
    /// No own RLOC can send there, and the time has come.
    NoSource,
    /// The Map-Server says nothing for longer than a registration holds.
    Silence,
    /// It is configured no longer; we end.
    Removed,
    End,
}

const HAPPENS: [Happens; 12] = [
    Happens::Timer,
    Happens::Notify,
    Happens::Forged,
    Happens::Unasked,
    Happens::Heard,
    Happens::Silent,
    Happens::Taken,
    Happens::Restated,
    Happens::NoSource,
    Happens::Silence,
    Happens::Removed,
    Happens::End,
];

/// What is seen of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    /// EIDs that are registered, and those that are withdrawn.
    said: BTreeSet<(&'static str, bool)>,
    is_acknowledged: bool,
    /// The operator is told that it stands, or does not any more.
    told: Option<bool>,
}

fn registering() -> Settings {
    Settings {
        map_resolvers: Vec::new(),
        map_servers: vec![server(SERVER)],
        dynamic_eids: vec![key("2001:db8:a:1::/64")],
        ..settings()
    }
}

/// A bench, and what was said and not confirmed.
struct Told {
    bench: Bench,
    said: Vec<Registration>,
}

impl Told {
    /// What was sent and told now.
    fn seen(&mut self, outputs: Vec<(Duration, Output)>) -> Seen {
        let mut seen = Seen::default();
        for (_, output) in outputs {
            match output {
                Output::Send(datagram) => match parse(&datagram.payload) {
                    Ok(Message::Register(register)) => {
                        for record in &register.body.records {
                            let name = match record.key.eid.prefix_len() {
                                128 => HOST,
                                _ => PREFIX,
                            };
                            seen.said.insert((name, record.ttl_minutes != 0));
                        }
                        self.said.push(register.body);
                    }
                    Ok(Message::NotifyAck(_)) => seen.is_acknowledged = true,
                    other => panic!("{other:?}"),
                },
                Output::Event(Event::Registered { .. }) => seen.told = Some(true),
                Output::Event(Event::RegistrationLost { .. }) => seen.told = Some(false),
                _ => {}
            }
        }
        seen
    }

    fn run(&mut self, duration: Duration) -> Seen {
        let outputs = self.bench.run(duration);
        self.seen(outputs)
    }

    fn notify(&mut self, body: Registration, secret: &[u8]) {
        let mut bytes = emit(&Message::Notify(Notify { body }));
        auth::seal(&mut bytes, &Secret::new(secret)).unwrap();
        let (now, from) = (self.bench.now, control(SERVER));
        self.bench.xtr.handle_input(now, from, ip(OWN), &bytes);
    }

    fn unasked(&mut self, records: Vec<Record>) {
        let algorithm = Algorithm::HmacSha256;
        let body = Registration {
            nonce: 5,
            key_id: 1,
            algorithm_id: algorithm.id(),
            mac: vec![0; algorithm.mac_len()],
            records,
            identity: None,
        };
        self.notify(body, b"a secret");
    }

    fn configure(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut other = registering();
        change(&mut other);
        self.bench.xtr.set_settings(self.bench.now, other);
    }

    fn hear(&mut self) {
        self.bench.xtr.host_heard(self.bench.now, eid(HOST), AT);
    }

    fn silence(&mut self) {
        self.bench.xtr.host_silent(self.bench.now, eid(HOST), AT);
    }

    fn restate(&mut self) {
        self.configure(|settings| settings.rlocs[1].weight = 7);
    }

    /// In this state, by what brings anything there.
    fn new(standing: Standing) -> Self {
        let mut told = Self {
            bench: Bench::new(registering()),
            said: Vec::new(),
        };
        let Some((whole, news, holds)) = standing else {
            told.run(Duration::ZERO);
            told.configure(|settings| settings.map_servers.clear());
            told.run(Duration::ZERO);
            return told;
        };
        let is_news_said = matches!(news, News::Came { said: true } | News::Went { said: true });
        let went = matches!(news, News::Went { .. });
        if went {
            told.hear();
        }
        if holds != Holds::Never || whole == Whole::Said || is_news_said {
            told.run(Duration::ZERO);
        }
        if holds != Holds::Never {
            told.happen(Happens::Notify);
            // The same minute is not the next.
            told.run(seconds(2));
        }
        if holds == Holds::NoLonger {
            told.run(seconds(200));
        } else if holds == Holds::Yes && whole == Whole::Said {
            told.run(seconds(60));
        }
        match news {
            News::None => {}
            News::Came { .. } => told.hear(),
            News::Went { .. } => told.silence(),
        }
        if is_news_said {
            told.run(Duration::ZERO);
        }
        if whole == Whole::Due && (holds != Holds::Never || is_news_said) {
            told.restate();
        }
        told.bench.outputs();
        assert_eq!(told.observed(), standing);
        told
    }

    fn observed(&self) -> Standing {
        let (xtr, host) = (&self.bench.xtr, eid(HOST).host());
        let found = xtr.registrar.standing(self.bench.now, host)?;
        let whole = match (found.is_due, found.is_said) {
            (true, _) => Whole::Due,
            (false, true) => Whole::Said,
            (false, false) => Whole::Confirmed,
        };
        let is_here = xtr.settings().eids.contains(&host);
        let said = !found.is_news;
        let news = match (found.is_unconfirmed, is_here) {
            (true, true) => News::Came { said },
            (true, false) => News::Went { said },
            (false, _) => News::None,
        };
        let holds = match (found.was_confirmed, found.is_registered) {
            (_, true) => Holds::Yes,
            (true, false) => Holds::NoLonger,
            (false, false) => Holds::Never,
        };
        Some((whole, news, holds))
    }

    fn happen(&mut self, happens: Happens) -> Seen {
        let mut outputs = Vec::new();
        match happens {
            Happens::Timer => {
                if let Some(due) = self.bench.xtr.registrar.poll_timeout() {
                    self.bench.now = self.bench.now.max(due);
                }
                self.bench.xtr.handle_timeout(self.bench.now);
            }
            Happens::Notify => {
                for body in std::mem::take(&mut self.said) {
                    self.notify(body, b"a secret");
                }
            }
            Happens::Forged => {
                for body in self.said.clone() {
                    self.notify(body, b"another secret");
                }
            }
            Happens::Unasked => self.unasked(vec![positive("2001:db8:b::/48", 9)]),
            Happens::Heard => self.hear(),
            Happens::Silent => self.silence(),
            Happens::Taken => self.unasked(vec![positive(&format!("{HOST}/128"), 9)]),
            Happens::Restated => self.configure(|settings| settings.rlocs[1].weight = 9),
            Happens::NoSource => {
                self.configure(|settings| settings.rlocs[0].up = false);
                self.bench.xtr.handle_timeout(self.bench.now);
            }
            Happens::Silence => outputs = self.bench.run(seconds(300)),
            Happens::Removed => {
                self.configure(|settings| settings.map_servers.clear());
                self.bench.xtr.handle_timeout(self.bench.now);
            }
            Happens::End => self.bench.xtr.shut_down(),
        }
        outputs.extend(self.bench.outputs());
        self.seen(outputs)
    }
}

/// What is said of the host when its turn comes.
fn of_host(news: News) -> Vec<(&'static str, bool)> {
    match news {
        News::None => vec![],
        News::Came { .. } => vec![(HOST, true)],
        News::Went { .. } => vec![(HOST, false)],
    }
}

fn said(news: News) -> News {
    match news {
        News::None => News::None,
        News::Came { .. } => News::Came { said: true },
        News::Went { .. } => News::Went { said: true },
    }
}

/// The table. No pair is left to a default: what is new has to be decided here.
fn expected(standing: Standing, happens: Happens) -> (Standing, Seen) {
    use Happens::{
        End, Forged, Heard, NoSource, Notify, Removed, Restated, Silence, Silent, Taken, Timer,
        Unasked,
    };
    use Whole::{Confirmed, Due, Said};
    let nothing = Seen::default;
    let acknowledged = Seen {
        is_acknowledged: true,
        ..nothing()
    };
    let Some((whole, news, holds)) = standing else {
        // It is configured anew.
        let next = match happens {
            Restated => Some((Due, News::None, Holds::Never)),
            NoSource => Some((Said, News::None, Holds::Never)),
            Timer | Notify | Forged | Unasked | Heard | Silent | Taken | Silence | Removed
            | End => None,
        };
        return (next, nothing());
    };
    let all = |of_host: Vec<(&'static str, bool)>| of_host.into_iter().chain([(PREFIX, true)]);
    let saying = |said: BTreeSet<(&'static str, bool)>| Seen { said, ..nothing() };
    let (next, seen) = match (whole, happens) {
        (Due, Timer) => ((Said, said(news)), saying(all(of_host(news)).collect())),
        (Said | Confirmed, Timer) => match (whole, news) {
            // What was not said yet is said alone, and so is what alone is not confirmed.
            (_, News::Came { said: false } | News::Went { said: false })
            | (Confirmed, News::Came { said: true } | News::Went { said: true }) => (
                (whole, said(news)),
                saying(of_host(news).into_iter().collect()),
            ),
            (_, News::None) | (_, News::Came { said: true } | News::Went { said: true }) => {
                ((Said, news), saying(all(of_host(news)).collect()))
            }
        },

        // Of what is to be said anew, nothing that was said before says anything but of the host.
        (Due | Confirmed, Notify) => match news {
            News::Came { said: true } | News::Went { said: true } => {
                ((whole, News::None), nothing())
            }
            News::None | News::Came { said: false } | News::Went { said: false } => {
                ((whole, news), nothing())
            }
        },
        (Said, Notify) => match news {
            // Everything else is confirmed, but not all.
            News::Came { said: false } | News::Went { said: false } => ((whole, news), nothing()),
            News::None | News::Came { said: true } | News::Went { said: true } => {
                let told = (holds != Holds::Yes).then_some(true);
                ((Confirmed, News::None), Seen { told, ..nothing() })
            }
        },
        (Due | Said | Confirmed, Forged) => ((whole, news), nothing()),
        (Due | Said | Confirmed, Unasked) => ((whole, news), acknowledged),

        (Due | Said | Confirmed, Heard) => match news {
            News::None | News::Went { .. } => ((whole, News::Came { said: false }), nothing()),
            News::Came { .. } => ((whole, news), nothing()),
        },
        (Due | Said | Confirmed, Silent) => match news {
            News::Came { .. } => ((whole, News::Went { said: false }), nothing()),
            News::None | News::Went { .. } => ((whole, news), nothing()),
        },
        // Who has it now has said so.
        (Due | Said | Confirmed, Taken) => ((whole, News::None), acknowledged),

        (Due | Said | Confirmed, Restated) => ((Due, news), nothing()),
        (Due | Said | Confirmed, NoSource) => ((Said, said(news)), nothing()),
        (Due | Said | Confirmed, Silence) => {
            // A withdrawal is given up when the Map-Server has forgotten the host anyway.
            let news = match news {
                News::None | News::Went { .. } => News::None,
                News::Came { .. } => News::Came { said: true },
            };
            let told = (holds == Holds::Yes).then_some(false);
            let said = all(of_host(match news {
                News::None => standing.map_or(News::None, |(_, news, _)| news),
                came => came,
            }));
            let said = said.collect();
            (
                (Said, news),
                Seen {
                    said,
                    told,
                    ..nothing()
                },
            )
        }
        (Due | Said | Confirmed, Removed | End) => {
            let host = of_host(news).into_iter().map(|(host, _)| (host, false));
            let said = host.chain([(PREFIX, false)]).collect();
            return (None, saying(said));
        }
    };
    let holds = match (holds, happens) {
        (Holds::Yes, Silence) => Holds::NoLonger,
        (Holds::Never | Holds::NoLonger, Notify) if whole == Said && next.0 == Confirmed => {
            Holds::Yes
        }
        (Holds::Never | Holds::Yes | Holds::NoLonger, _) => holds,
    };
    let (whole, news) = next;
    (Some((whole, news, holds)), seen)
}

/// every state of a registration, and everything that can happen to it.
#[test]
fn every_registration_and_occurrence_has_its_transition() {
    let mut wrong = Vec::new();
    for standing in standings() {
        for happens in HAPPENS {
            let mut told = Told::new(standing);
            let seen = told.happen(happens);
            let found = (told.observed(), seen);
            let expected = expected(standing, happens);
            if found != expected {
                wrong.push(format!(
                    "{standing:?} {happens:?}:\n  {found:?}\n  {expected:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
