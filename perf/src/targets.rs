//! What the figures are held against: goals of the project, and what others reach on this class of machine.

use crate::record::{Metric, Record};

/// A goal for one figure of one case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The case.
    pub case: &'static str,
    /// The figure.
    pub metric: Metric,
    /// The median must be on this side of it.
    pub bound: Bound,
}

/// Which side is good.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// All goals.
pub const TARGETS: [Target; 8] = [
    at_least("npt66-out/64B/1k", Metric::RatioToTestpmdMacswap, 0.70),
    at_least("npt66-in/64B/1k", Metric::RatioToTestpmdMacswap, 0.70),
    at_least("forward/64B/1k", Metric::RatioToTestpmdMacswap, 0.75),
    at_least("npt66-out/64B/1k", Metric::RatioToLinuxSnpt, 8.0),
    at_least("npt66-in/64B/1k", Metric::RatioToLinuxSnpt, 8.0),
    at_most("forward/64B/64k", Metric::GraphClkPerPacket, 65.0),
    at_most("npt66-out/64B/64k", Metric::GraphClkPerPacket, 90.0),
    at_most("npt66-in/64B/64k", Metric::GraphClkPerPacket, 90.0),
];

/// Clocks per packet of VPP 26.10-rc0's graph (release build, AVX-512, 65,536 flows, one route, 256 packets a vector),
/// measured on an AMD Zen 4 class machine with a TSC of 2.6 GHz; a case and a figure.
pub const VPP_GRAPH_CLOCKS: [(&str, f64); 3] = [
    ("forward/64B/64k", 74.0),
    ("npt66-out/64B/64k", 117.0),
    ("npt66-in/64B/64k", 106.0),
];

const fn at_least(case: &'static str, metric: Metric, bound: f64) -> Target {
    Target {
        case,
        metric,
        bound: Bound::AtLeast(bound),
    }
}

const fn at_most(case: &'static str, metric: Metric, bound: f64) -> Target {
    Target {
        case,
        metric,
        bound: Bound::AtMost(bound),
    }
}

impl Bound {
    /// The figure itself.
    #[must_use]
    pub const fn figure(self) -> f64 {
        match self {
            Self::AtLeast(figure) | Self::AtMost(figure) => figure,
        }
    }

    /// Whether `figure` is on the good side.
    #[must_use]
    pub fn is_met_by(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
        }
    }
}

/// The goal for the figure in `record`, if there is one.
#[must_use]
pub fn target_of(record: &Record) -> Option<Bound> {
    TARGETS
        .iter()
        .find(|target| target.case == record.case && target.metric == record.metric)
        .map(|target| target.bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_belongs_to_one_figure_of_one_case() {
        let record = |case, metric, figure: f64| Record::of("npt66", case, metric, &[figure]);
        let ratio = record("npt66-out/64B/1k", Metric::RatioToTestpmdMacswap, 0.7);
        let bound = target_of(&ratio).expect("there is a goal");
        assert!(bound.is_met_by(ratio.median) && !bound.is_met_by(0.69));
        let clocks = target_of(&record("npt66-in/64B/64k", Metric::GraphClkPerPacket, 91.0))
            .expect("there is a goal");
        assert!(clocks.is_met_by(90.0) && !clocks.is_met_by(91.0));
        assert_eq!(
            target_of(&record(
                "npt66-out/64B/1",
                Metric::RatioToTestpmdMacswap,
                0.1
            )),
            None
        );
    }
}
