//! Programs that forward on one core take turns on it.
//!
//! A machine that is shared changes its speed within seconds, by more than programs differ. So everybody is started, held,
//! and let go for some hundredths of a second at a time, one after the other: the speeds of one turn compare.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt;
use crate::record::median;

/// From letting a program go until it is looked at: its memory is to come back into the core's caches.
const SETTLE: Duration = Duration::from_millis(8);

/// How everybody takes turns.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    /// How many each has after a start.
    pub count: usize,
    /// How long each takes.
    pub length: Duration,
}

impl Turns {
    /// For results of record.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            count: 16,
            length: Duration::from_millis(60),
        }
    }

    /// For a quick look.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            count: 10,
            ..Self::full()
        }
    }
}

/// A program that forwards all the time.
pub trait Forwarder {
    /// Its process.
    fn process(&self) -> Pid;

    /// Packets a second that it sends on the sink while `time` passes.
    fn rate(&mut self, time: Duration) -> Result<f64>;
}

/// One that is stopped unless it has its turn.
pub struct Held<F> {
    forwarder: F,
}

impl<F: Forwarder> Held<F> {
    /// Stop it.
    pub fn new(forwarder: F) -> Result<Self> {
        let held = Self { forwarder };
        held.signal(Signal::STOP)?;
        Ok(held)
    }

    /// Let it go while `work` is done with it. When that fails it is not stopped again, being of no more use.
    pub fn release<T>(&mut self, work: impl FnOnce(&mut F) -> Result<T>) -> Result<T> {
        self.signal(Signal::CONT)?;
        let found = work(&mut self.forwarder)?;
        self.signal(Signal::STOP)?;
        Ok(found)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.forwarder.process();
        kill_process(process, signal)
            .with_context(|| format!("cannot stop or continue process {}", process.as_raw_pid()))
    }
}

/// Anything that has turns.
pub trait Turn {
    /// Packets a second in a turn of this length.
    fn turn(&mut self, length: Duration) -> Result<f64>;
}

impl<F: Forwarder> Turn for Held<F> {
    fn turn(&mut self, length: Duration) -> Result<f64> {
        self.release(|forwarder| {
            interrupt::sleep(SETTLE)?;
            forwarder.rate(length)
        })
    }
}

/// What everybody reached in all turns after one start: packets a second, a list for each in the order they were given.
#[derive(Debug, Clone, PartialEq)]
pub struct Rates(Vec<Vec<f64>>);

impl Rates {
    /// For tests: what each reached, a turn after the other.
    #[cfg(test)]
    pub fn from_turns<const TURNS: usize>(rates: [[f64; TURNS]; 4]) -> Self {
        Self(rates.iter().map(|rates| rates.to_vec()).collect())
    }

    /// Give everybody their turns.
    pub fn measure(everybody: &mut [&mut dyn Turn], turns: &Turns) -> Result<Self> {
        let mut rates = vec![Vec::with_capacity(turns.count); everybody.len()];
        for _ in 0..turns.count {
            for (one, rates) in everybody.iter_mut().zip(&mut rates) {
                rates.push(one.turn(turns.length)?);
            }
        }
        Ok(Self(rates))
    }

    /// Half the turns of this one were not faster.
    #[must_use]
    pub fn of(&self, one: usize) -> f64 {
        median(&self.0[one])
    }

    /// One over the other, made inside each turn: the median.
    #[must_use]
    pub fn ratio(&self, one: usize, other: usize) -> f64 {
        let pairs = self.0[one].iter().zip(&self.0[other]);
        median(&pairs.map(|(one, other)| one / other).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::children::Running;

    struct Clockwork {
        speeds: std::vec::IntoIter<f64>,
    }

    impl Turn for Clockwork {
        fn turn(&mut self, _: Duration) -> Result<f64> {
            self.speeds.next().context("one speed a turn")
        }
    }

    #[test]
    fn ratios_are_made_inside_each_turn() {
        // The machine halves its speed after the first turn and doubles it in the last: the ratio does not move.
        let of = |speeds: [f64; 4]| Clockwork {
            speeds: Vec::from(speeds).into_iter(),
        };
        let (mut ours, mut other) = (of([8.0, 4.0, 4.0, 16.0]), of([10.0, 5.0, 5.0, 20.0]));
        let turns = Turns {
            count: 4,
            length: Duration::ZERO,
        };
        let rates = Rates::measure(&mut [&mut ours, &mut other], &turns).expect("nothing fails");
        assert_eq!(rates.of(0), 6.0);
        assert_eq!((rates.ratio(0, 1), rates.ratio(1, 0)), (0.8, 1.25));
    }

    struct Sleeper(Running);

    impl Forwarder for Sleeper {
        fn process(&self) -> Pid {
            self.0.process()
        }

        fn rate(&mut self, _: Duration) -> Result<f64> {
            Ok(f64::from(u8::from(self.state() == 'S')))
        }
    }

    impl Sleeper {
        /// As `proc_pid_stat(5)` has it, once it is one of the two that are expected: a signal takes its time.
        fn state(&self) -> char {
            let path = format!("/proc/{}/stat", self.process().as_raw_pid());
            let text = std::fs::read_to_string(path).expect("it runs");
            let (_, rest) = text.rsplit_once(") ").expect("the name is in brackets");
            rest.chars().next().expect("the state follows")
        }
    }

    #[test]
    fn a_program_runs_in_its_turn_only() {
        let mut command = Command::new("sleep");
        let running = Running::start("sleep", command.arg("600")).expect("sleep is everywhere");
        let mut held = Held::new(Sleeper(running)).expect("it can be stopped");
        let stopped = |held: &Held<Sleeper>| {
            (0..1000).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                held.forwarder.state() == 'T'
            })
        };
        assert!(stopped(&held));
        assert_eq!(held.turn(Duration::ZERO).expect("it runs"), 1.0);
        assert!(stopped(&held));
    }
}
