//! The cases on devices: what is done, families, lengths, mappings and flows.

use std::fmt;
use std::path::Path;

use super::graph::Step;
use super::{Families, Mappings, appliance};
use crate::beside;
use crate::cases::{Flows, Sizes};
use crate::setup::Setup;

/// The usual number of mappings.
pub const USUAL: Mappings = Mappings(1 << 10);

/// A case on devices. Its [`Display`](fmt::Display) is `lisp-encap/6in6/64B/1k`, the last being mappings; that of the graph
/// alone has the same name, and other figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is done to packets.
    pub step: Step,
    /// Inner and outer family.
    pub families: Families,
    /// Lengths of frames, those that are encapsulated as they are before.
    pub sizes: Sizes,
    /// Mappings; what is decapsulated does not ask for them.
    pub mappings: Mappings,
}

impl Case {
    /// Every combination with 1,024 mappings, and encapsulation of the first families to other numbers of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for sizes in [Sizes::Small, Sizes::Imix] {
            for families in Families::ALL {
                for step in Step::ALL {
                    cases.push(Self {
                        step,
                        families,
                        sizes,
                        mappings: USUAL,
                    });
                }
            }
        }
        let others = Mappings::ALL
            .into_iter()
            .filter(|mappings| *mappings != USUAL);
        cases.extend(others.map(|mappings| Self {
            step: Step::Encap,
            families: Families::ALL[0],
            sizes: Sizes::Small,
            mappings,
        }));
        cases
    }

    /// Those with a goal.
    #[must_use]
    pub fn quick() -> Vec<Self> {
        let mut cases = Self::all();
        cases.retain(|case| {
            let is_usual = case.sizes == Sizes::Small && case.mappings == USUAL;
            is_usual && !case.families.inner_is_v4
        });
        cases
    }

    /// As many as few mappings need, and enough to reach most of many.
    #[must_use]
    pub fn flows(self) -> Flows {
        if self.mappings.0 > USUAL.0 {
            Flows::SixtyFourThousand
        } else {
            Flows::Thousand
        }
    }
}

impl beside::Case for Case {
    fn suite(&self) -> &'static str {
        super::SUITE
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let (flows, pattern) = (self.flows().count(), self.sizes.pattern());
        match self.step {
            Step::Encap => super::frames_out(self.families, self.mappings, flows, pattern),
            Step::Decap => super::frames_in(self.families, flows, pattern),
        }
    }

    fn overhead(&self) -> isize {
        let overhead = self.families.overhead().cast_signed();
        match self.step {
            Step::Encap => overhead,
            Step::Decap => -overhead,
        }
    }

    fn configuration(&self, setup: &Setup, socket: &Path) -> String {
        appliance::configuration(*self, setup, socket)
    }

    fn changes(&self) -> Option<String> {
        appliance::is_loaded(*self).then(|| appliance::changes(*self))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            families,
            sizes,
            mappings,
        } = self;
        write!(f, "{step}/{families}/{sizes}/{mappings}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::beside::Case as _;

    #[test]
    fn a_case_is_named_step_families_sizes_mappings() {
        let names: Vec<String> = Case::quick().iter().map(Case::to_string).collect();
        assert_eq!(
            names,
            [
                "lisp-encap/6in6/64B/1k",
                "lisp-decap/6in6/64B/1k",
                "lisp-encap/6in4/64B/1k",
                "lisp-decap/6in4/64B/1k",
            ]
        );
        let all: Vec<String> = Case::all().iter().map(Case::to_string).collect();
        for name in [
            "lisp-decap/4in4/IMIX/1k",
            "lisp-encap/6in6/64B/1",
            "lisp-encap/6in6/64B/100k",
            "lisp-encap/6in6/64B/1M",
        ] {
            assert!(all.contains(&name.to_owned()), "{name}");
        }
    }

    #[test]
    fn frames_grow_by_the_headers_and_shrink_by_them() {
        for case in Case::all() {
            if case.mappings.0 > USUAL.0 {
                continue;
            }
            let frames = case.frames();
            let inner: Vec<usize> = case.sizes.pattern().to_vec();
            let overhead = case.families.overhead();
            for (frame, size) in frames.iter().zip(inner.iter().cycle()) {
                let expected = match case.step {
                    Step::Encap => *size,
                    Step::Decap => size + overhead,
                };
                assert_eq!(frame.len(), expected, "{case}");
            }
            let grown = match case.step {
                Step::Encap => overhead.cast_signed(),
                Step::Decap => -overhead.cast_signed(),
            };
            assert_eq!(case.overhead(), grown, "{case}");
        }
    }
}
