//! LISP control messages thrown at the codec and at the two machines: nothing panics, grows without bounds, or is believed
//! without being authentic.
//!
//! An input is bytes. For the codec it is the message; for a machine it is a script of steps (`script`): messages that
//! are authentic but for the damage the script does to them afterwards, bytes as they stand in the script, time that
//! passes, settings that change. What a step may have as a consequence is judged by who made the message, not by who read
//! it. A law that does not hold is a panic, so that the same targets serve [`Thrower`], which needs nothing but a seed,
//! and libFuzzer, which looks for inputs that reach what none has reached (`ci/fuzz guided`).

mod codec;
mod mapserver;
mod script;
mod xtr;

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, bail};
use control::proto::lisp::wire::Identity;
use dataplane::testing::fault::{self, Rng};

/// What was reached, by the names under which machines count, and how often.
pub type Reached = BTreeMap<&'static str, u64>;

/// What is thrown at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Reading and writing messages.
    Codec,
    /// The tunnel router.
    Xtr,
    /// The Map-Server.
    MapServer,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Codec, Self::Xtr, Self::MapServer];

    /// Its name, as the command line has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Xtr => "xtr",
            Self::MapServer => "map-server",
        }
    }

    /// The target of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// One input.
    ///
    /// # Panics
    /// When something does not hold.
    #[must_use]
    pub fn check(self, input: &[u8]) -> Reached {
        match self {
            Self::Codec => codec::check(input),
            Self::Xtr => xtr::check(input),
            Self::MapServer => mapserver::check(input),
        }
    }

    /// Inputs to begin with.
    #[must_use]
    pub fn seeds(self) -> Vec<Vec<u8>> {
        match self {
            Self::Codec => codec::seeds(),
            Self::Xtr => script::seeds(xtr::STEPS),
            Self::MapServer => script::seeds(mapserver::STEPS),
        }
    }
}

/// Throws random and damaged inputs, which depend on a seed and their number alone.
pub struct Thrower {
    target: Target,
    seed: u64,
    seeds: Vec<Vec<u8>>,
    reached: Reached,
}

impl Thrower {
    /// Longest input.
    const LENGTH_MAX: usize = 1500;

    /// At this target.
    #[must_use]
    pub fn new(target: Target, seed: u64) -> Self {
        Self {
            target,
            seed,
            seeds: target.seeds(),
            reached: Reached::new(),
        }
    }

    /// Input `number`: one of the seeds, damaged, or noise.
    #[must_use]
    pub fn input(&self, number: u64) -> Vec<u8> {
        let mut rng = Rng::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if self.target != Target::Codec && rng.below(2) == 0 || rng.below(64) == 0 {
            let mut noise = vec![0; rng.below(Self::LENGTH_MAX)];
            rng.fill(&mut noise);
            return noise;
        }
        let mut input = self
            .seeds
            .get(rng.below(self.seeds.len()))
            .cloned()
            .unwrap_or_default();
        for _ in 0..rng.below(3) {
            fault::mutate(&mut rng, &mut input);
        }
        input
    }

    /// Throw it.
    ///
    /// # Errors
    /// When something did not hold.
    pub fn throw(&mut self, number: u64) -> Result<()> {
        let input = self.input(number);
        match catch_unwind(AssertUnwindSafe(|| self.target.check(&input))) {
            Ok(reached) => {
                for (name, count) in reached {
                    *self.reached.entry(name).or_default() += count;
                }
                Ok(())
            }
            Err(_) => bail!(
                "input {number} of seed {} broke a law of {}",
                self.seed,
                self.target.name()
            ),
        }
    }

    /// What was reached so far.
    #[must_use]
    pub const fn reached(&self) -> &Reached {
        &self.reached
    }
}

/// Whether somebody who knows a secret made the message: it is one of `authentic`, or one of them with an xTR-ID and Site-ID
/// behind it, which not every router covers.
fn is_authentic(authentic: &HashSet<Vec<u8>>, bytes: &[u8]) -> bool {
    let shorter = bytes.len().checked_sub(Identity::LEN);
    let shorter = shorter.and_then(|length| bytes.get(..length));
    authentic.contains(bytes) || shorter.is_some_and(|bytes| authentic.contains(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thrown(target: Target, inputs: u64) -> Reached {
        let mut thrower = Thrower::new(target, 1);
        for number in 0..inputs {
            thrower.throw(number).expect("every law holds");
        }
        thrower.reached
    }

    /// A script that reaches little would find little: what machines count when they believe something, and when they do
    /// not, has happened.
    #[test]
    fn everything_that_matters_is_reached() {
        for (target, inputs, names) in [
            (Target::Codec, 20_000, codec::MATTERS),
            (Target::Xtr, 2_000, xtr::MATTERS),
            (Target::MapServer, 2_000, mapserver::MATTERS),
        ] {
            let reached = thrown(target, inputs);
            for name in names {
                assert!(reached.contains_key(name), "{name}: {reached:?}");
            }
        }
    }

    #[test]
    fn an_input_depends_on_seed_and_number_alone() {
        for target in Target::ALL {
            let input = |seed, number| Thrower::new(target, seed).input(number);
            assert_eq!(input(1, 5), input(1, 5));
            assert_ne!(input(1, 5), input(1, 6));
            assert_ne!(input(1, 5), input(2, 5));
        }
    }

    #[test]
    fn targets_are_found_by_their_names() {
        for target in Target::ALL {
            assert_eq!(Target::named(target.name()), Some(target));
        }
        assert_eq!(Target::named("other"), None);
    }
}
