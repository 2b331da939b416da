//! The generator: sockets with so many messages under way each, a new one for every answer.
//!
//! A datagram is sent as soon as there is an answer, so the server is never idle while the generator keeps up, and time
//! to answer is mostly that of waiting behind the others. The loopback keeps the order of datagrams and so does the
//! server: what was sent before what is answered, and was not, is lost.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use control::proto::lisp::wire::CONTROL_PORT;

use super::messages::nonce_of;
use super::server::Server;
use crate::interrupt;

/// Messages under way of one socket: what the kernel keeps for a socket that was not asked for more.
const DEPTH: usize = 32;
/// After so long without any answer what is under way is lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// One lost message of so many is one too many.
const LOST_ONE_OF: u64 = 1000;
/// No answer is longer.
const ANSWER_MAX: usize = 2048;

/// How long one round takes.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Before anything counts.
    pub warm_up: Duration,
    /// While everything does.
    pub window: Duration,
}

impl Effort {
    /// For results of record.
    pub const fn full() -> Self {
        Self {
            warm_up: Duration::from_millis(300),
            window: Duration::from_millis(1500),
        }
    }

    /// For a quick look.
    pub const fn quick() -> Self {
        Self {
            warm_up: Duration::from_millis(150),
            window: Duration::from_millis(400),
        }
    }

    /// Until there is nothing left to say, however long that takes, but for ever.
    pub const fn all() -> Self {
        Self {
            warm_up: Duration::ZERO,
            window: Duration::from_secs(120),
        }
    }
}

/// What is said in a flow, and what may be answered.
pub trait Talk {
    /// What a message is about.
    type About: Copy;

    /// The message with this nonce; the same if it is asked for twice. `None`: there is nothing left.
    fn say(&mut self, flow: usize, nonce: u64) -> Option<(Self::About, &[u8])>;

    /// Whether this is an answer to it.
    fn judge(&mut self, flow: usize, nonce: u64, about: Self::About, bytes: &[u8]) -> Result<()>;
}

/// What a round found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Answers, all of them right.
    pub per_second: f64,
    /// One answer of a hundred took longer, with so many under way.
    pub p99_us: f64,
    /// The part of the time in which the server ran: below 1 it waited, for messages or for its core.
    pub busy: f64,
}

/// A socket and what it is about to say.
pub struct Flow {
    socket: UdpSocket,
    /// Rising over all rounds.
    pub next_nonce: u64,
}

impl Flow {
    /// From this address and port to the server.
    pub fn open(from: IpAddr, port: u16) -> Result<Self> {
        let from = SocketAddr::new(from, port);
        let socket = UdpSocket::bind(from).with_context(|| format!("cannot have {from}"))?;
        socket.connect((Server::address(from.ip()), CONTROL_PORT))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            next_nonce: 1,
        })
    }
}

/// A message that is under way.
struct Sent<About> {
    nonce: u64,
    about: About,
    at: Instant,
}

/// Where a round stands.
struct Round<About> {
    under_way: Vec<VecDeque<Sent<About>>>,
    /// Nanoseconds.
    times: Vec<u32>,
    answered: u64,
    lost: u64,
}

/// Talk in all flows, for as long as there is time and something to say.
pub fn talk<T: Talk>(
    flows: &mut [Flow],
    talk: &mut T,
    effort: &Effort,
    server: &Server,
) -> Result<Found> {
    let mut round = Round {
        under_way: flows.iter().map(|_| VecDeque::new()).collect(),
        times: Vec::with_capacity(1 << 20),
        answered: 0,
        lost: 0,
    };
    // What nobody waited for at the end of the last round.
    for flow in flows.iter() {
        while flow.socket.recv(&mut [0; ANSWER_MAX]).is_ok() {}
    }
    let start = Instant::now();
    round.go(flows, talk, start + effort.warm_up)?;
    round.times.clear();
    let (warm, busy) = (Instant::now(), server.busy()?);
    let before = round.answered;
    round.go(flows, talk, warm + effort.window)?;
    let (seconds, busy) = (warm.elapsed().as_secs_f64(), server.busy()? - busy);
    let Round {
        mut times,
        answered,
        lost,
        ..
    } = round;
    ensure!(answered > before, "the server answers nothing");
    ensure!(
        lost * LOST_ONE_OF <= answered,
        "{lost} messages were not answered, {answered} were"
    );
    Ok(Found {
        // `as`: far below 2^53.
        per_second: (answered - before) as f64 / seconds,
        p99_us: p99(&mut times) / 1e3,
        busy: busy.as_secs_f64() / seconds,
    })
}

impl<About: Copy> Round<About> {
    fn go<T: Talk<About = About>>(
        &mut self,
        flows: &mut [Flow],
        talk: &mut T,
        end: Instant,
    ) -> Result<()> {
        let mut heard = Instant::now();
        loop {
            interrupt::check()?;
            let now = Instant::now();
            let before = self.answered;
            let mut is_done = true;
            for (number, flow) in flows.iter_mut().enumerate() {
                self.listen(number, flow, talk)?;
                self.speak(number, flow, talk)?;
                is_done &= self.under_way[number].is_empty();
            }
            if is_done || now >= end {
                return Ok(());
            }
            if self.answered > before {
                heard = now;
            } else if now - heard > PATIENCE {
                for sent in &mut self.under_way {
                    self.lost += sent.len() as u64; // `as`: widening
                    sent.clear();
                }
                heard = now;
            }
        }
    }

    fn listen<T: Talk<About = About>>(
        &mut self,
        number: usize,
        flow: &Flow,
        talk: &mut T,
    ) -> Result<()> {
        let mut buffer = [0; ANSWER_MAX];
        for _ in 0..DEPTH {
            let length = match flow.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("cannot receive"),
            };
            let answer = &buffer[..length];
            let nonce = nonce_of(answer).context("an answer has no nonce")?;
            let under_way = &mut self.under_way[number];
            loop {
                let Some(sent) = under_way.front() else {
                    // Of what was given up.
                    ensure!(nonce < flow.next_nonce, "an answer to what nobody said");
                    break;
                };
                if sent.nonce > nonce {
                    break;
                }
                let (is_it, about, took) = (sent.nonce == nonce, sent.about, sent.at.elapsed());
                under_way.pop_front();
                if is_it {
                    talk.judge(number, nonce, about, answer)?;
                    self.answered += 1;
                    let took = u32::try_from(took.as_nanos()).unwrap_or(u32::MAX);
                    self.times.push(took);
                    break;
                }
                self.lost += 1;
            }
        }
        Ok(())
    }

    fn speak<T: Talk<About = About>>(
        &mut self,
        number: usize,
        flow: &mut Flow,
        talk: &mut T,
    ) -> Result<()> {
        while self.under_way[number].len() < DEPTH {
            let nonce = flow.next_nonce;
            let Some((about, message)) = talk.say(number, nonce) else {
                break;
            };
            let at = Instant::now();
            match flow.socket.send(message) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    bail!("the server is gone")
                }
                Err(error) => return Err(error).context("cannot send"),
            }
            flow.next_nonce += 1;
            self.under_way[number].push_back(Sent { nonce, about, at });
        }
        Ok(())
    }
}

/// The time one of a hundred is longer than; 0 of none.
fn p99(times: &mut [u32]) -> f64 {
    if times.is_empty() {
        return 0.0;
    }
    let at = (times.len() * 99 / 100).min(times.len() - 1);
    let (_, time, _) = times.select_nth_unstable(at);
    f64::from(*time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_hundred_is_longer() {
        let mut times: Vec<u32> = (1..=1000).rev().collect();
        assert_eq!(p99(&mut times), 991.0);
        assert_eq!(p99(&mut [7]), 7.0);
        assert_eq!(p99(&mut []), 0.0);
    }
}
