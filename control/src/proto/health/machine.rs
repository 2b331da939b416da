//! All checks: when each is due, which of them an answer belongs to, and what became of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use super::exchange::Exchange;
use super::judge::{Health, Judge};
use super::tcp::{Connection, Progress};
use super::wire::{self, Message};
use super::{Failure, Handled, Output, Pace, Probe, Report, ServerKey, TOKENS, Target};

/// A first check is due within this time, or its interval if that is shorter.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// All ports of an address are in use: when to look again.
const NO_TOKEN_PAUSE: Duration = Duration::from_millis(50);

/// What an answer is recognised by: routing table, our address, the peer's, our port or identifier.
type Token = (u16, Ipv6Addr, Ipv6Addr, u16);

/// A check under way.
#[derive(Debug)]
struct Flight {
    token: Token,
    begun: Instant,
    deadline: Instant,
    asked: Asked,
    /// What became of it; a connection goes on to its end.
    result: Option<Result<Duration, Failure>>,
}

#[derive(Debug)]
enum Asked {
    Echo { sequence: u16 },
    Datagram,
    Connection(Box<Connection>),
}

impl Asked {
    /// Why there is no answer when time is over.
    fn late(&self) -> Failure {
        match self {
            Self::Connection(connection) => connection.late(),
            Self::Echo { .. } | Self::Datagram => Failure::Timeout,
        }
    }
}

#[derive(Debug)]
struct Check {
    target: Target,
    judge: Judge,
    due: Instant,
    sequence: u16,
    flight: Option<Flight>,
    since: Instant,
    changes: u64,
    last: Option<(Instant, Result<Duration, Failure>)>,
    checks: (u64, u64),
}

/// All checks.
#[derive(Debug)]
pub struct Machine {
    rng: fastrand::Rng,
    checks: BTreeMap<ServerKey, Check>,
    flights: HashMap<Token, ServerKey>,
    outputs: VecDeque<Output>,
    /// Nothing is due before.
    next: Option<Instant>,
}

impl Machine {
    /// None yet. `rng` spreads checks over time and makes sequence numbers.
    #[must_use]
    pub fn new(rng: fastrand::Rng) -> Self {
        Self {
            rng,
            checks: BTreeMap::new(),
            flights: HashMap::new(),
            outputs: VecDeque::new(),
            next: None,
        }
    }

    /// These servers from now on. One that stays keeps its state; what is asked of it may be another thing.
    pub fn configure(&mut self, now: Instant, targets: Vec<Target>) {
        let mut before = std::mem::take(&mut self.checks);
        for target in targets {
            let check = match before.remove(&target.key) {
                Some(mut check) => {
                    if check.target != target {
                        self.end(now, &mut check);
                        check.due = check.due.min(now + target.pace.interval);
                        check.target = target;
                    }
                    check
                }
                None => Check {
                    judge: Judge::new(now),
                    due: now + self.within(FIRST_WITHIN.min(target.pace.interval)),
                    sequence: self.rng.u16(..),
                    flight: None,
                    since: now,
                    changes: 0,
                    last: None,
                    checks: (0, 0),
                    target,
                },
            };
            self.checks.insert(check.target.key.clone(), check);
        }
        for check in before.values_mut() {
            self.end(now, check);
        }
        self.next = Some(now);
    }

    /// How a server is doing; `None`: it is not checked.
    #[must_use]
    pub fn report(&self, key: &ServerKey) -> Option<Report> {
        let check = self.checks.get(key)?;
        Some(Report {
            health: check.judge.state(),
            since: check.since,
            changes: check.changes,
            last: check.last,
            checks: check.checks,
        })
    }

    /// A server's state; `None`: it is not checked.
    #[must_use]
    pub fn health(&self, key: &ServerKey) -> Option<Health> {
        self.checks.get(key).map(|check| check.judge.state())
    }

    /// A packet to an address of ours came in a routing table, from the IPv6 header on.
    pub fn handle_input(&mut self, now: Instant, vrf: u16, packet: &[u8]) -> Handled {
        let Some(answer) = wire::read(packet) else {
            return Handled::Invalid;
        };
        let token = (vrf, answer.destination, answer.source, answer.token);
        let Some(mut check) = self
            .flights
            .get(&token)
            .and_then(|key| self.checks.remove(key))
        else {
            return Handled::Unexpected;
        };
        let handled = self.take(now, &mut check, answer.message);
        // A connection may want another time than it said.
        self.next = Some(now);
        self.checks.insert(check.target.key.clone(), check);
        handled
    }

    fn take(&mut self, now: Instant, check: &mut Check, message: Message<'_>) -> Handled {
        let Some(flight) = &mut check.flight else {
            return Handled::Unexpected;
        };
        let took = now.saturating_duration_since(flight.begun);
        let result = match (&mut flight.asked, &check.target.probe, message) {
            (Asked::Echo { sequence }, _, Message::Echo { sequence: found })
                if *sequence == found =>
            {
                Ok(took)
            }
            (
                Asked::Datagram,
                Probe::Udp { port, expect, .. },
                Message::Udp { source_port, data },
            ) if *port == source_port => {
                if data.starts_with(expect) {
                    Ok(took)
                } else {
                    Err(Failure::Unexpected)
                }
            }
            (
                Asked::Connection(connection),
                Probe::Tcp { port } | Probe::Http { port, .. },
                Message::Tcp {
                    source_port,
                    packet,
                },
            ) if *port == source_port => {
                connection.receive(packet);
                self.advance(now, check);
                return Handled::Taken;
            }
            _ => return Handled::Unexpected,
        };
        self.settle(now, check, result);
        self.end(now, check);
        Handled::Taken
    }

    /// It could not be sent.
    pub fn fail(&mut self, now: Instant, key: &ServerKey) {
        let Some(mut check) = self.checks.remove(key) else {
            return;
        };
        if check.flight.is_some() {
            self.settle(now, &mut check, Err(Failure::Unresolved));
            self.end(now, &mut check);
        }
        self.checks.insert(key.clone(), check);
    }

    /// Begin what is due, and end what takes too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        let mut checks = std::mem::take(&mut self.checks);
        let mut next: Option<Instant> = None;
        for check in checks.values_mut() {
            if check.flight.is_some() {
                self.look(now, check);
            }
            if check.flight.is_none() && now >= check.due {
                self.begin(now, check);
            }
            let wants = check.wants(now);
            next = Some(next.map_or(wants, |next| next.min(wants)));
        }
        self.checks = checks;
        self.next = next;
    }

    /// What is wanted.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Machine::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// A check under way.
    fn look(&mut self, now: Instant, check: &mut Check) {
        self.advance(now, check);
        if let Some(flight) = &check.flight
            && now >= flight.deadline
        {
            if flight.result.is_none() {
                let failure = flight.asked.late();
                self.settle(now, check, Err(failure));
            }
            self.end(now, check);
        }
    }

    fn begin(&mut self, now: Instant, check: &mut Check) {
        let target = &check.target;
        let Pace {
            interval, timeout, ..
        } = target.pace;
        let (own, peer) = (target.source, target.destination);
        let first = check.sequence;
        let free = (0..TOKENS)
            .map(|step| target.token | first.wrapping_add(step) & (TOKENS - 1))
            .map(|token| (target.vrf, own, peer, token))
            .find(|token| !self.flights.contains_key(token));
        let Some(token) = free else {
            check.due = now + NO_TOKEN_PAUSE;
            return;
        };
        check.sequence = first.wrapping_add(1);
        let from = (own, token.3);
        let asked = match &target.probe {
            Probe::Icmpv6 => {
                let packet = wire::echo(own, peer, token.3, first);
                self.transmit(&target.key, packet);
                Asked::Echo { sequence: first }
            }
            Probe::Udp { port, send, .. } => {
                let packet = wire::datagram(from, (peer, *port), send);
                self.transmit(&target.key, packet);
                Asked::Datagram
            }
            Probe::Tcp { port } => Asked::Connection(Box::new(Connection::open(
                now,
                self.rng.u64(..),
                from,
                (peer, *port),
                None,
            ))),
            Probe::Http {
                port,
                path,
                host,
                tls,
                ..
            } => {
                let request = wire::get(path, host);
                let exchange = match tls {
                    None => Exchange::plain(request),
                    Some(tls) => Exchange::encrypted(request, tls, peer),
                };
                Asked::Connection(Box::new(Connection::open(
                    now,
                    self.rng.u64(..),
                    from,
                    (peer, *port),
                    Some(exchange),
                )))
            }
        };
        let spread = interval / 10;
        check.due = now + interval - spread + self.within(spread * 2);
        self.flights.insert(token, check.target.key.clone());
        check.flight = Some(Flight {
            token,
            begun: now,
            deadline: now + timeout,
            asked,
            result: None,
        });
        self.advance(now, check);
    }

    /// What a connection has to say.
    fn advance(&mut self, now: Instant, check: &mut Check) {
        let Some(flight) = &mut check.flight else {
            return;
        };
        let Asked::Connection(connection) = &mut flight.asked else {
            return;
        };
        let progress = connection.advance(now);
        let took = now.saturating_duration_since(flight.begun);
        let is_known = flight.result.is_some();
        let judged = |status: Option<u16>| match (status, &check.target.probe) {
            (Some(found), Probe::Http { status, .. })
                if !status
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&found)) =>
            {
                Err(Failure::Status(found))
            }
            _ => Ok(took),
        };
        let (result, is_over) = match progress {
            Progress::Waits => (None, false),
            Progress::Answered(status) => (Some(judged(status)), false),
            Progress::Finished(status) => (Some(judged(status)), true),
            Progress::Failed(failure) => (Some(Err(failure)), true),
        };
        if let Some(result) = result
            && !is_known
        {
            self.settle(now, check, result);
        }
        if is_over {
            self.end(now, check);
        } else {
            self.flush(check);
        }
    }

    /// The result of a check is known.
    fn settle(&mut self, now: Instant, check: &mut Check, result: Result<Duration, Failure>) {
        if let Some(flight) = &mut check.flight {
            flight.result = Some(result);
        }
        check.last = Some((now, result));
        check.checks.0 += 1;
        if result.is_err() {
            check.checks.1 += 1;
        }
        let from = check.judge.state();
        check.judge.judge(now, result.is_ok(), &check.target.pace);
        let to = check.judge.state();
        if from != to {
            check.since = now;
            if from != Health::Untried && from.takes_flows() != to.takes_flows() {
                check.changes += 1;
            }
            self.outputs.push_back(Output::Changed {
                key: check.target.key.clone(),
                from,
                to,
                cause: result.err(),
            });
        }
    }

    /// A check is over: its port is free, and a connection is reset.
    fn end(&mut self, now: Instant, check: &mut Check) {
        if let Some(flight) = &mut check.flight
            && let Asked::Connection(connection) = &mut flight.asked
        {
            connection.abort(now);
        }
        self.flush(check);
        if let Some(flight) = check.flight.take() {
            self.flights.remove(&flight.token);
        }
    }

    fn flush(&mut self, check: &mut Check) {
        if let Some(flight) = &mut check.flight
            && let Asked::Connection(connection) = &mut flight.asked
        {
            while let Some(packet) = connection.poll_output() {
                let key = check.target.key.clone();
                self.outputs.push_back(Output::Transmit { key, packet });
            }
        }
    }

    fn transmit(&mut self, key: &ServerKey, packet: Vec<u8>) {
        let key = key.clone();
        self.outputs.push_back(Output::Transmit { key, packet });
    }

    /// A time up to `most`, by chance.
    fn within(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.rng.u64(..=most))
    }
}

impl Check {
    /// When it wants to be looked at.
    fn wants(&mut self, now: Instant) -> Instant {
        let Some(flight) = &mut self.flight else {
            return self.due;
        };
        match &mut flight.asked {
            Asked::Connection(connection) => connection
                .poll_timeout(now)
                .map_or(flight.deadline, |wants| wants.min(flight.deadline)),
            Asked::Echo { .. } | Asked::Datagram => flight.deadline,
        }
    }
}
