//! Routers and a Map-Server joined by a network that loses, repeats and reorders, while EIDs move at random: once
//! things are quiet, what is answered is where the EIDs are.

use std::collections::BTreeMap;

use super::*;

/// Time between registrations (RFC 9301 8.2), and before the first of them is repeated (5.6).
const REGISTER: Duration = Duration::from_secs(60);
const REPEAT: Duration = Duration::from_secs(1);

/// A router as RFC 9301 has it: registers what it has, repeats what was not notified, acknowledges what it is told.
struct Etr {
    router: Router,
    rloc: String,
    /// The last Map-Register while it waits for its Map-Notify: nonce, message, when it is repeated, the pause after
    /// that.
    waiting: Option<(u64, Vec<u8>, Instant, Duration)>,
    register_at: Instant,
    told: usize,
}

struct World {
    bench: Bench,
    etrs: Vec<Etr>,
    /// EIDs and the routers they are at.
    homes: BTreeMap<EidKey, usize>,
    /// Messages on their way: when they arrive, a number, to whom (`None`: the server), from where.
    wires: BTreeMap<(Instant, u64), (Option<usize>, Vec<u8>)>,
    numbers: u64,
    rng: fastrand::Rng,
    is_lossy: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let bench = Bench::new(settings());
        let etrs = (0..3_u32).map(|number| Etr {
            router: Router::new(&format!("192.0.2.{}:4342", number + 1), "first")
                .with_id(number.into()),
            rloc: format!("192.0.2.{}", number + 1),
            waiting: None,
            register_at: bench.now,
            told: 0,
        });
        Self {
            etrs: etrs.collect(),
            homes: (0..6)
                .map(|host| (key(7, &format!("10.1.0.{host}/32")), 0))
                .collect(),
            wires: BTreeMap::new(),
            numbers: 0,
            rng: fastrand::Rng::with_seed(seed),
            is_lossy: true,
            bench,
        }
    }

    /// Onto the network: lost, once or twice, sooner or later.
    fn send(&mut self, to: Option<usize>, from: usize, bytes: &[u8]) {
        let copies = match (self.is_lossy, self.rng.u8(0..10)) {
            (true, 0..3) => 0,
            (true, 3) => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let delay = if self.is_lossy {
                self.rng.u64(0..3000)
            } else {
                20
            };
            let at = self.bench.now + Duration::from_millis(delay);
            self.numbers += 1;
            // A router's own number is its sender; the server has one address.
            let message = [&[u8::try_from(from).unwrap()], bytes].concat();
            self.wires.insert((at, self.numbers), (to, message));
        }
    }

    fn registered_by(&mut self, at: usize) {
        let mine = self.homes.iter().filter(|(_, home)| **home == at);
        let etr = &mut self.etrs[at];
        let records: Vec<Record> = mine.map(|(key, _)| record(*key, &[&etr.rloc])).collect();
        etr.register_at = self.bench.now + REGISTER;
        etr.waiting = None;
        if records.is_empty() {
            return;
        }
        etr.router.flags.want_notify = true;
        let bytes = etr.router.message(&records);
        etr.waiting = Some((
            etr.router.nonce,
            bytes.clone(),
            self.bench.now + REPEAT,
            REPEAT,
        ));
        self.send(None, at, &bytes);
    }

    fn arrived(&mut self, to: Option<usize>, message: &[u8]) {
        let (from, bytes) = message.split_first().unwrap();
        let Some(at) = to else {
            let from = self.etrs[usize::from(*from)].router.from;
            let sent = self.bench.give(from, bytes);
            self.sent(sent);
            return;
        };
        let Ok(Message::Notify(Notify { body })) = parse(bytes) else {
            panic!("a Map-Notify")
        };
        let etr = &mut self.etrs[at];
        let lax = auth::Acceptance { strict: false };
        assert_eq!(auth::verify(bytes, &body, &etr.router.secret, lax), Ok(()));
        if etr
            .waiting
            .as_ref()
            .is_some_and(|(nonce, ..)| *nonce == body.nonce)
        {
            etr.waiting = None;
        } else if body
            .records
            .iter()
            .any(|record| record.locators[0].rloc != ip(&etr.rloc))
        {
            etr.told += 1;
            let mut ack = emit(&Message::NotifyAck(Notify { body }));
            auth::seal(&mut ack, &etr.router.secret).unwrap();
            self.send(None, at, &ack);
        }
    }

    fn sent(&mut self, sent: Vec<(SocketAddr, Vec<u8>)>) {
        for (to, bytes) in sent {
            let at = self.etrs.iter().position(|etr| etr.router.from == to);
            self.send(Some(at.unwrap()), 0, &bytes);
        }
    }

    /// What happens in a time, moment by moment, in order.
    fn run(&mut self, duration: Duration, moves: bool) {
        let end = self.bench.now + duration;
        while self.bench.now < end {
            self.bench.now += Duration::from_millis(100);
            let now = self.bench.now;
            while let Some(first) = self
                .wires
                .first_entry()
                .filter(|first| first.key().0 <= now)
            {
                let (to, message) = first.remove();
                self.arrived(to, &message);
            }
            for at in 0..self.etrs.len() {
                if self.etrs[at].register_at <= now {
                    self.registered_by(at);
                }
                if let Some((_, bytes, due, pause)) = &mut self.etrs[at].waiting
                    && *due <= now
                {
                    *pause *= 2;
                    *due = now + *pause;
                    let bytes = bytes.clone();
                    self.send(None, at, &bytes);
                }
            }
            if self
                .bench
                .machine
                .poll_timeout()
                .is_some_and(|due| due <= now)
            {
                self.bench.machine.handle_timeout(now);
                let sent = self.bench.sent();
                self.sent(sent);
            }
            if moves && self.rng.u8(0..100) == 0 {
                let at = self.rng.usize(0..self.homes.len());
                let to = self.rng.usize(0..self.etrs.len());
                *self.homes.values_mut().nth(at).unwrap() = to;
                // It registers what came at once.
                self.registered_by(to);
            }
            // Nothing is registered that no router has, and never more than there is.
            assert!(self.bench.machine.registrations() <= self.homes.len());
        }
    }
}

#[test]
fn answers_converge_on_where_the_eids_are() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        world.run(Duration::from_secs(600), true);
        let nonces: Vec<SavedNonce> = world.bench.machine.nonces().collect();
        world.is_lossy = false;
        world.run(Duration::from_secs(200), false);
        // Nonces only rise, and stay those of the routers.
        for (before, after) in nonces.iter().zip(world.bench.machine.nonces()) {
            assert!(before.nonce <= after.nonce);
        }
        for nonce in world.bench.machine.nonces() {
            let etr = &world.etrs[usize::try_from(nonce.xtr_id.unwrap()).unwrap()];
            assert_eq!(nonce.nonce, etr.router.nonce);
        }
        for (key, home) in world.homes.clone() {
            let answer = world.bench.ask(7, &key.eid.to_string());
            assert_eq!(
                answer[0].locators[0].rloc,
                ip(&world.etrs[home].rloc),
                "{seed}"
            );
        }
        assert!(world.etrs.iter().any(|etr| etr.told > 0));
        let bench = &world.bench;
        assert!(bench.count(Counter::Acks) > 0 && bench.count(Counter::RegisterRepeated) > 0);
        assert_eq!(bench.count(Counter::DropAuthMac), 0);
    }
}
