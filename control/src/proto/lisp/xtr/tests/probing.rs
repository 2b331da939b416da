//! Probes and what follows from their answers: RFC 9301 7.1, 5.4.

mod answers;
mod many;

use super::*;

const RLOC: &str = "2001:db8:ffff::9";
const RLOC_V4: &str = "192.0.2.9";
const PREFIX: &str = "2001:db8:b::/48";

fn normal() -> Settings {
    probing(Duration::from_secs(30), 500)
}

fn fast() -> Settings {
    probing(Duration::from_millis(100), 50)
}

fn probing(period: Duration, least_wait: u64) -> Settings {
    Settings {
        probing: Some(ProbeSchedule {
            period,
            misses: 3,
            least_wait: Duration::from_millis(least_wait),
            per_second: 500,
        }),
        ..settings()
    }
}

/// A far site: which of its locators answer, and how long that takes.
struct Site {
    bench: Bench,
    deaf: Vec<IpAddr>,
    /// Own RLOCs to which no answer comes.
    lost_to: Vec<IpAddr>,
    round_trip: Duration,
    /// What is on its way back.
    answers: Vec<(Instant, Datagram, Request)>,
    /// Probes that came, with their time since the start.
    probes: Vec<(Duration, Datagram, Request)>,
    /// What was said of locators, with the time.
    said: Vec<(Duration, IpAddr, bool)>,
}

impl Site {
    fn new(settings: Settings, rlocs: &[&str]) -> Self {
        let mut site = Self {
            bench: Bench::new(settings),
            deaf: Vec::new(),
            lost_to: Vec::new(),
            round_trip: Duration::from_millis(2),
            answers: Vec::new(),
            probes: Vec::new(),
            said: Vec::new(),
        };
        for rloc in rlocs {
            site.watch(rloc, &[PREFIX], true);
        }
        site
    }

    fn watch(&mut self, rloc: &str, prefixes: &[&str], is_learned: bool) {
        let keys = prefixes.iter().map(|prefix| key(prefix)).collect();
        let now = self.bench.now;
        self.bench.xtr.watch(now, ip(rloc), keys, is_learned);
    }

    /// Time goes on, a millisecond after the other.
    fn run(&mut self, duration: Duration) {
        let end = self.bench.now + duration;
        while self.bench.now < end {
            self.bench.now += Duration::from_millis(1);
            let now = self.bench.now;
            let arrived: Vec<_> = self.answers.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, datagram, request) in arrived {
                self.answer(datagram.destination.ip(), &request);
            }
            self.bench.xtr.handle_timeout(now);
            self.take();
        }
    }

    fn take(&mut self) {
        let now = self.bench.now;
        for (at, output) in self.bench.outputs() {
            match output {
                Output::Send(datagram) => {
                    if let Ok(Message::Request(request)) = parse(&datagram.payload) {
                        let is_lost = self.deaf.contains(&datagram.destination.ip())
                            || self.lost_to.contains(&datagram.source.ip());
                        if !is_lost {
                            let back = now + self.round_trip;
                            self.answers.push((back, datagram.clone(), request.clone()));
                        }
                        self.probes.push((at, datagram, request));
                    }
                }
                Output::Liveness { rloc, is_up } => self.said.push((at, rloc, is_up)),
                _ => {}
            }
        }
    }

    fn answer(&mut self, rloc: IpAddr, request: &Request) {
        let record = marked(request.asked[0].key, &[rloc]);
        let message = probe_reply(request.nonce, vec![record]);
        // From another address than it was sent to (B-02).
        self.bench.receive(PEER, &message);
        self.take();
    }

    fn state(&self, rloc: &str) -> RlocState {
        self.bench.xtr.rloc_state(ip(rloc)).unwrap()
    }

    fn is_up(&self, rloc: &str) -> bool {
        self.bench.xtr.is_up(ip(rloc))
    }

    fn at(&self) -> Duration {
        self.bench.now - self.bench.start
    }
}

fn marked(key: EidKey, rlocs: &[IpAddr]) -> Record {
    let locators = rlocs
        .iter()
        .enumerate()
        .map(|(position, rloc)| LocatorRecord {
            is_probed: position == 0,
            ..LocatorRecord::new(Locator::new(*rloc))
        });
    Record {
        is_authoritative: true,
        locators: locators.collect(),
        ..Record::negative(key, Act::default(), 1440)
    }
}

fn probe_reply(nonce: u64, records: Vec<Record>) -> Message {
    Message::Reply(Reply {
        flags: ReplyFlags {
            probe: true,
            ..ReplyFlags::default()
        },
        nonce,
        records,
    })
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// B-01, Q-04, Q-05.
#[test]
fn a_probe_goes_to_the_locator_itself_and_asks_for_a_prefix_that_leads_there() {
    let mut site = Site::new(normal(), &[RLOC, RLOC_V4]);
    site.run(seconds(1));
    assert_eq!(site.probes.len(), 2, "one for each locator");
    for (_, datagram, request) in &site.probes {
        let rloc = datagram.destination.ip();
        let own = if rloc.is_ipv4() { OWN_V4 } else { OWN };
        assert_eq!(datagram.destination.port(), CONTROL_PORT);
        assert_eq!(datagram.source, control(own));
        assert!(request.flags.probe && request.source.is_none());
        assert_eq!(request.asked[0].key, key(PREFIX));
        assert_eq!(
            request.itr_rlocs,
            [ip(own)],
            "the answer comes the same way"
        );
    }
    assert_ne!(site.probes[0].2.nonce, site.probes[1].2.nonce);
    // Each period is another: nothing falls into step.
    site.run(seconds(300));
    let at = site
        .probes
        .iter()
        .filter(|(_, d, _)| d.destination.ip() == ip(RLOC));
    let at: Vec<Duration> = at.map(|(at, ..)| *at).collect();
    let periods: Vec<u64> = at
        .windows(2)
        .map(|two| (two[1] - two[0]).as_millis() as u64)
        .collect();
    assert!(
        periods
            .iter()
            .all(|period| (24_000..=30_001).contains(period)),
        "{periods:?}"
    );
    assert!(periods.windows(2).any(|two| two[0] != two[1]));
    assert!(site.said.is_empty(), "nothing happened");
    let state = site.state(RLOC);
    assert_eq!((state.liveness, state.sent), (Liveness::Up, state.answered));
    assert_eq!(state.round_trip, Some(milliseconds(2)));
}

/// B-01: however many prefixes lead to a locator.
#[test]
fn a_locator_is_probed_once_for_all_its_prefixes_and_for_another_after_a_miss() {
    let mut site = Site::new(normal(), &[]);
    let prefixes = [PREFIX, "2001:db8:c::/48", "10.2.0.0/16"];
    site.watch(RLOC, &prefixes, true);
    site.deaf = vec![ip(RLOC)];
    site.run(seconds(4));
    let asked: Vec<String> = site
        .probes
        .iter()
        .map(|(.., r)| r.asked[0].key.eid.to_string())
        .collect();
    assert!(asked.len() >= 3, "{asked:?}");
    for prefix in prefixes {
        assert!(asked.iter().any(|asked| asked == prefix), "{asked:?}");
    }
}

/// B-01, B-04: answers to one of two own RLOCs are lost. That is no fault of the locator, and the next probe goes from the
/// other.
#[test]
fn where_the_way_back_fails_the_next_probe_has_another() {
    const SECOND: &str = "2001:db8:ffff::1:2";
    for settings in [normal(), fast()] {
        let mut settings = settings;
        settings.rlocs.push(Locator::new(ip(SECOND)));
        let mut site = Site::new(settings, &[RLOC]);
        site.lost_to = vec![ip(OWN)];
        site.run(seconds(120));
        assert_eq!(site.said, []);
        let answered = site.state(RLOC).answered;
        assert!(answered > 0 && site.state(RLOC).missed == 0, "{answered}");
        // And the other way about.
        site.lost_to = vec![ip(SECOND)];
        site.run(seconds(120));
        assert_eq!(site.said, []);
        assert!(site.state(RLOC).answered > answered);
    }
}

/// B-04: what is silent goes down, is probed all the same, and comes back after three answers.
#[test]
fn a_locator_that_falls_silent_goes_down_and_comes_back() {
    let mut site = Site::new(normal(), &[RLOC, RLOC_V4]);
    site.run(seconds(100));
    site.deaf = vec![ip(RLOC)];
    let died = site.at();
    site.run(seconds(40));
    let [(at, rloc, is_up)] = site.said[..] else {
        panic!("{:?}", site.said)
    };
    assert_eq!((rloc, is_up), (ip(RLOC), false));
    assert!(at - died <= seconds(32), "{:?}", at - died);
    assert!(!site.is_up(RLOC) && site.is_up(RLOC_V4));
    // Less and less often, but not never.
    let before = site.probes.len();
    site.run(seconds(600));
    let probes = site.probes[before..]
        .iter()
        .filter(|(_, d, _)| d.destination.ip() == ip(RLOC));
    assert!((5..=12).contains(&probes.count()));
    site.deaf.clear();
    site.run(seconds(130));
    let (_, rloc, is_up) = site.said[1];
    assert_eq!((rloc, is_up, site.said.len()), (ip(RLOC), true, 2));
    assert_eq!(site.bench.count("rloc_down"), 1);
    assert_eq!(site.bench.count("rloc_up"), 1);
}

/// B-08: a period of 100 ms, three misses.
#[test]
fn in_fast_mode_a_failure_is_found_within_400_ms() {
    for seed in 0..20 {
        let mut site = Site::new(fast(), &[RLOC, RLOC_V4]);
        site.run(seconds(2) + milliseconds(seed * 7));
        assert!(site.said.is_empty());
        site.deaf = vec![ip(RLOC)];
        let died = site.at();
        site.run(seconds(1));
        let [(at, rloc, false)] = site.said[..] else {
            panic!("{:?}", site.said)
        };
        assert_eq!(rloc, ip(RLOC));
        let took = at - died;
        assert!(took <= milliseconds(270), "{took:?}");
        site.deaf.clear();
        let back = site.at();
        site.run(seconds(2));
        let (at, _, is_up) = site.said[1];
        assert!(is_up && at - back <= milliseconds(700), "{:?}", at - back);
    }
}

/// A path that is longer than the period is no reason to think that it is broken.
#[test]
fn long_round_trips_are_no_failures() {
    for round_trip in [80, 150, 400, 900] {
        let mut site = Site::new(fast(), &[RLOC]);
        site.round_trip = milliseconds(round_trip);
        site.run(seconds(20));
        assert!(site.said.is_empty(), "{round_trip} ms: {:?}", site.said);
        assert_eq!(site.state(RLOC).round_trip, Some(milliseconds(round_trip)));
    }
}

/// One loss in three, even two in a row, is nothing.
#[test]
fn single_losses_are_no_failures() {
    let mut site = Site::new(fast(), &[RLOC]);
    site.run(seconds(2));
    for _ in 0..20 {
        let before = site.state(RLOC).sent;
        site.deaf = vec![ip(RLOC)];
        while site.state(RLOC).sent < before + 2 {
            site.run(milliseconds(1));
        }
        site.deaf.clear();
        site.run(milliseconds(250));
    }
    assert!(site.said.is_empty(), "{:?}", site.said);
    assert!(site.bench.count("probe_missed") >= 20);
}

/// A router at the other end of a mapping by hand need not know probes; once it has answered, its silence counts.
#[test]
fn one_that_never_answered_is_dead_only_where_a_mapping_was_learned() {
    let mut site = Site::new(normal(), &[]);
    site.watch(RLOC, &[PREFIX], false);
    site.deaf = vec![ip(RLOC)];
    site.run(seconds(200));
    assert!(site.is_up(RLOC) && site.said.is_empty());
    let probes = site.probes.len();
    assert!(
        (6..=16).contains(&probes),
        "{probes}, and not faster and faster"
    );
    // The mapping system names it as well.
    site.watch(RLOC, &[PREFIX], true);
    site.run(seconds(40));
    assert!(!site.is_up(RLOC));
    let mut other = Site::new(normal(), &[]);
    other.watch(RLOC, &[PREFIX], false);
    other.run(seconds(40));
    other.deaf = vec![ip(RLOC)];
    other.run(seconds(40));
    assert!(!other.is_up(RLOC), "it could answer once");
}

/// Neighbours on the way may be unknown at first: nothing is taken for dead within five seconds.
#[test]
fn the_first_silence_says_nothing() {
    let mut site = Site::new(fast(), &[RLOC]);
    site.deaf = vec![ip(RLOC)];
    site.run(milliseconds(4900));
    assert!(site.said.is_empty());
    site.deaf.clear();
    site.run(seconds(1));
    assert_eq!(site.state(RLOC).liveness, Liveness::Up);
    // Nor after the way to it was gone.
    let now = site.bench.now;
    site.bench.xtr.set_way(now, ip(RLOC), false);
    let sent = site.state(RLOC).sent;
    site.deaf = vec![ip(RLOC)];
    site.run(seconds(20));
    assert_eq!(site.state(RLOC).sent, sent, "there is no way to ask");
    assert!(site.said.is_empty(), "and no answer to miss");
    let now = site.bench.now;
    site.bench.xtr.set_way(now, ip(RLOC), true);
    site.run(milliseconds(4900));
    assert!(site.said.is_empty());
    site.run(seconds(1));
    assert_eq!(site.said.len(), 1);
}

/// An answer says more than the silence before it.
#[test]
fn an_answer_settles_the_probes_before_it() {
    let mut site = Site::new(normal(), &[RLOC]);
    site.run(seconds(2));
    site.deaf = vec![ip(RLOC)];
    let now = site.bench.now;
    assert!(site.bench.xtr.probe(now, ip(RLOC)));
    site.take();
    site.run(milliseconds(10));
    site.deaf.clear();
    let now = site.bench.now;
    assert!(site.bench.xtr.probe(now, ip(RLOC)));
    site.take();
    site.run(seconds(5));
    assert_eq!(site.bench.count("probe_missed"), 0);
    assert_eq!(site.state(RLOC).sent, site.state(RLOC).answered + 1);
}

/// While control messages are dropped in the box itself, nobody is taken for silent; afterwards they are.
#[test]
fn a_flood_of_messages_takes_no_locator_down() {
    let mut site = Site::new(fast(), &[RLOC]);
    site.run(seconds(2));
    site.deaf = vec![ip(RLOC)];
    for _ in 0..100 {
        let now = site.bench.now;
        site.bench.xtr.note_unheard(now);
        site.run(milliseconds(20));
    }
    assert!(site.said.is_empty(), "{:?}", site.said);
    assert!(site.bench.count("probe_unheard") > 10);
    site.run(milliseconds(400));
    assert_eq!(site.said.len(), 1);
}

/// B-04: what ICMP says can be forged, so it only brings the next probe forward.
#[test]
fn a_suspicion_brings_a_probe_and_nothing_else() {
    let mut site = Site::new(normal(), &[RLOC]);
    site.run(seconds(5));
    let sent = site.state(RLOC).sent;
    for _ in 0..1000 {
        let now = site.bench.now;
        site.bench.xtr.suspect(now, ip(RLOC));
        site.run(milliseconds(1));
    }
    assert!(site.said.is_empty(), "it answers");
    let probes = site.state(RLOC).sent - sent;
    assert!(
        (1..=3).contains(&probes),
        "{probes} in a second, whatever is forged"
    );
    // Where it is true, nobody waits for the period.
    site.deaf = vec![ip(RLOC)];
    site.run(seconds(1));
    let now = site.bench.now;
    let begun = site.at();
    site.bench.xtr.suspect(now, ip(RLOC));
    site.run(seconds(3));
    let (at, ..) = site.said[0];
    assert!(at - begun <= seconds(2), "{:?}", at - begun);
    site.bench.xtr.suspect(now, ip("2001:db8::77"));
}

/// B-05: that nothing comes from a locator is no reason for anything but a probe.
#[test]
fn locators_nobody_watches_are_up_and_nothing_is_kept_of_them() {
    let mut site = Site::new(normal(), &[RLOC]);
    assert!(site.is_up("2001:db8::77"));
    site.deaf = vec![ip(RLOC)];
    site.run(seconds(40));
    assert!(!site.is_up(RLOC));
    site.bench.xtr.unwatch(ip(RLOC));
    assert!(site.is_up(RLOC) && site.bench.xtr.rloc_state(ip(RLOC)).is_none());
    let (.., request) = site.probes.last().unwrap().clone();
    site.answer(ip(RLOC), &request);
    assert_eq!(site.bench.count("probe_reply_unknown_nonce"), 1);
    let probes = site.probes.len();
    site.run(seconds(300));
    assert_eq!(site.probes.len(), probes);
}

#[test]
fn without_probing_nobody_is_down_and_probes_are_sent_by_hand_only() {
    let mut site = Site::new(normal(), &[RLOC]);
    site.deaf = vec![ip(RLOC)];
    site.run(seconds(40));
    assert!(!site.is_up(RLOC));
    let now = site.bench.now;
    site.bench.xtr.set_settings(now, settings());
    site.take();
    assert!(site.is_up(RLOC));
    assert!(site.said.last().unwrap().2, "its traffic comes back");
    let sent = site.state(RLOC).sent;
    site.run(seconds(600));
    assert_eq!(site.state(RLOC).sent, sent);
    site.deaf.clear();
    let now = site.bench.now;
    assert!(site.bench.xtr.probe(now, ip(RLOC)));
    site.take();
    site.run(seconds(5));
    let state = site.state(RLOC);
    assert_eq!((state.sent, state.answered), (sent + 1, 1));
    assert_eq!(state.round_trip, Some(milliseconds(2)));
    assert_eq!(site.said.len(), 2, "and nothing follows from it");
    assert!(!site.bench.xtr.probe(now, ip("2001:db8::77")));
    // On again.
    site.bench.xtr.set_settings(now, normal());
    site.run(seconds(2));
    assert_eq!(site.state(RLOC).liveness, Liveness::Up);
}

/// Without an own RLOC of its family nothing is sent, and nothing follows from silence.
#[test]
fn a_locator_that_cannot_be_asked_is_not_judged() {
    let mut only_v6 = fast();
    only_v6.rlocs.retain(|own| !own.rloc.is_ipv4());
    let mut site = Site::new(only_v6, &[RLOC_V4]);
    site.run(seconds(20));
    assert!(site.probes.is_empty() && site.said.is_empty());
    assert!(site.bench.count("probe_not_possible") > 0);
    site.watch(RLOC, &[], true);
    site.run(seconds(20));
    assert!(
        site.probes.is_empty(),
        "nor one of which no prefix is known"
    );
}
