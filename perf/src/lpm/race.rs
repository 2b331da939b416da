//! Rounds: every contender looks up the same addresses, one after the other, again and again; ratios are made inside a
//! round, because the machine's speed moves between them.

use anyhow::{Result, ensure};

use super::cold::Eviction;
use super::contender::{BURST, Contender, count_wrong, score};
use super::courses::Course;
use super::crates;
use super::prefix::Address;
use super::{OURS, OURS_SINGLE, SUITE};
use crate::interrupt;
use crate::record::{Metric, Record};

/// A figure made of the scores of one round.
struct Ratio {
    metric: Metric,
    of: &'static str,
    to: To,
}

/// Which contender a ratio is to.
enum To {
    /// The first of these that takes part.
    First(&'static [&'static str]),
    /// The best of these in the round.
    Best(&'static [&'static str]),
}

const RATIOS: [Ratio; 9] = [
    ratio(
        Metric::RatioToRteFib6,
        OURS,
        To::First(&["rte_fib6-avx512", "rte_fib6-scalar"]),
    ),
    ratio(
        Metric::RatioToRteFib6,
        OURS_SINGLE,
        To::First(&["rte_fib6-single"]),
    ),
    ratio(Metric::RatioToRteLpm6, OURS, To::First(&["rte_lpm6"])),
    ratio(
        Metric::RatioToRteLpm6,
        OURS_SINGLE,
        To::First(&["rte_lpm6-single"]),
    ),
    ratio(
        Metric::RatioToRteFib,
        OURS,
        To::First(&["rte_fib-avx512", "rte_fib-scalar"]),
    ),
    ratio(Metric::RatioToRteLpm, OURS, To::First(&["rte_lpm"])),
    ratio(Metric::RatioToRteHash, OURS, To::First(&["rte_hash"])),
    ratio(
        Metric::RatioToRteHash,
        OURS_SINGLE,
        To::First(&["rte_hash-single"]),
    ),
    ratio(
        Metric::RatioToBestCrate,
        OURS_SINGLE,
        To::Best(&crates::NAMES),
    ),
];

const fn ratio(metric: Metric, of: &'static str, to: To) -> Ratio {
    Ratio { metric, of, to }
}

/// How often, and how exactly.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds.
    pub rounds: usize,
    /// Bursts of one contender in one round of the cold case.
    pub cold_bursts: usize,
    /// Rate of the time-stamp counter.
    pub tsc_hertz: f64,
}

/// The name of a contender's case: ours has the plain one.
fn case_of(table: &str, course: &str, contender: &str) -> String {
    match contender {
        OURS => format!("{table}/{course}"),
        _ => format!("{table}/{course}/{contender}"),
    }
}

/// Let all answer all courses, and count what ours answer wrongly, each way of theirs for itself. A peer that answers
/// wrongly is an error: its speed would mean nothing.
pub fn check<A: Address>(
    contenders: &[Box<dyn Contender<A::Key> + '_>],
    courses: &[Course<A>],
) -> Result<usize> {
    let mut wrong_of_ours = 0;
    for contender in contenders {
        for course in courses {
            let wrong = count_wrong(&contender.answers(&course.keys), &course.right);
            if matches!(contender.name(), OURS | OURS_SINGLE) {
                wrong_of_ours += wrong;
            } else {
                ensure!(
                    wrong == 0,
                    "{} answers {wrong} of {} addresses of {} wrongly",
                    contender.name(),
                    course.keys.len(),
                    course.name
                );
            }
        }
    }
    Ok(wrong_of_ours)
}

/// Race all contenders over all courses; what they and their ratios reached, by course.
pub fn race<A: Address>(
    table: &str,
    contenders: &[Box<dyn Contender<A::Key> + '_>],
    courses: &[Course<A>],
    effort: Effort,
) -> Result<Vec<Record>> {
    let names: Vec<&str> = contenders
        .iter()
        .map(|contender| contender.name())
        .collect();
    let mut records = Vec::new();
    for course in courses {
        let mut scores = vec![Vec::with_capacity(effort.rounds); contenders.len()];
        for number in 0..effort.rounds {
            interrupt::check()?;
            for position in rotated(contenders.len(), number) {
                let keys = &course.keys;
                scores[position].push(score(&*contenders[position], keys, effort.tsc_hertz));
            }
        }
        records.extend(reduce(table, &course.name, &names, &scores));
    }
    Ok(records)
}

/// Everybody's turn, another one first in each round.
fn rotated(count: usize, number: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |position| (position + number) % count)
}

/// Records of one course: rates by contender, then ratios. `scores` are by contender, then by round.
fn reduce(table: &str, course: &str, names: &[&str], scores: &[Vec<f64>]) -> Vec<Record> {
    let of = |name: &str| {
        let position = names.iter().position(|other| *other == name)?;
        Some(scores[position].as_slice())
    };
    let mut records = Vec::new();
    for (name, scores) in names.iter().zip(scores) {
        let case = case_of(table, course, name);
        records.push(Record::of(SUITE, &case, Metric::MlookupsPerS, scores));
        for ratio in RATIOS.iter().filter(|ratio| ratio.of == *name) {
            let others: Vec<&[f64]> = match ratio.to {
                To::First(names) => names.iter().find_map(|name| of(name)).into_iter().collect(),
                To::Best(names) => names.iter().filter_map(|name| of(name)).collect(),
            };
            if others.is_empty() {
                continue;
            }
            let ratios: Vec<f64> = scores
                .iter()
                .enumerate()
                .map(|(round, score)| {
                    score / others.iter().map(|other| other[round]).fold(0.0, f64::max)
                })
                .collect();
            records.push(Record::of(SUITE, &case, ratio.metric, &ratios));
        }
    }
    records
}

/// Race bursts that find neither tables nor addresses nor code in a cache: nanoseconds a burst of ours and of the first of
/// `reference` that takes part, and ours over that. Less is better, in the ratio too.
pub fn cold<A: Address>(
    table: &str,
    contenders: &[Box<dyn Contender<A::Key> + '_>],
    course: &Course<A>,
    reference: &[&str],
    effort: Effort,
) -> Result<Vec<Record>> {
    let by_name = |name: &&str| contenders.iter().find(|other| other.name() == *name);
    let raced: Vec<_> = by_name(&OURS)
        .into_iter()
        .chain(reference.iter().find_map(by_name))
        .collect();
    let mut eviction = Eviction::new();
    let mut times = vec![Vec::with_capacity(effort.rounds); raced.len()];
    // Other addresses in each round, far from each other, the same for all.
    let step = course.keys.len() / effort.cold_bursts;
    for number in 0..effort.rounds {
        interrupt::check()?;
        let bursts: Vec<_> = (0..effort.cold_bursts)
            .map(|burst| &course.keys[burst * step + number * BURST % step..][..BURST])
            .collect();
        for position in rotated(raced.len(), number) {
            let nanoseconds = eviction.time(&**raced[position], &bursts, effort.tsc_hertz);
            times[position].push(nanoseconds);
        }
    }
    let record = |contender: &str, metric, figures: &[f64]| {
        Record::of(SUITE, &case_of(table, "cold", contender), metric, figures)
    };
    let mut records: Vec<Record> = raced
        .iter()
        .zip(&times)
        .map(|(contender, times)| record(contender.name(), Metric::BurstNs, times))
        .collect();
    if let ([ours, _], [own, others]) = (raced.as_slice(), times.as_slice()) {
        let ratios: Vec<f64> = own
            .iter()
            .zip(others)
            .map(|(own, other)| own / other)
            .collect();
        records.push(record(ours.name(), Metric::TimeRatioToRteFib6, &ratios));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_made_inside_a_round_and_belong_to_ours() {
        let names = [
            OURS,
            OURS_SINGLE,
            "rte_fib6-scalar",
            "rte_fib6-single",
            "prefix-trie",
            "poptrie",
        ];
        let scores = [
            vec![200.0, 300.0, 100.0],
            vec![90.0, 80.0, 70.0],
            vec![100.0, 100.0, 100.0],
            vec![30.0, 40.0, 35.0],
            vec![10.0, 10.0, 5.0],
            vec![5.0, 5.0, 10.0],
        ];
        let records = reduce("lpm6/real/as", "U", &names, &scores);
        let median = |case: &str, metric| {
            let of = |record: &&Record| record.case == case && record.metric == metric;
            records.iter().find(of).map(|record| record.median)
        };
        assert_eq!(median("lpm6/real/as/U", Metric::MlookupsPerS), Some(200.0));
        assert_eq!(median("lpm6/real/as/U", Metric::RatioToRteFib6), Some(2.0));
        assert_eq!(
            median("lpm6/real/as/U/single", Metric::RatioToRteFib6),
            Some(2.0)
        );
        assert_eq!(
            median("lpm6/real/as/U/single", Metric::RatioToBestCrate),
            Some(8.0)
        );
        assert_eq!(
            median("lpm6/real/as/U/poptrie", Metric::MlookupsPerS),
            Some(5.0)
        );
        assert_eq!(median("lpm6/real/as/U", Metric::RatioToRteLpm6), None);
        assert_eq!(records.len(), names.len() + 3);
    }

    #[test]
    fn avx512_is_the_reference_where_it_takes_part() {
        let names = ["rte_fib6-scalar", "rte_fib6-avx512", OURS];
        let records = reduce("t", "U", &names, &[vec![10.0], vec![20.0], vec![40.0]]);
        let ratio = records
            .iter()
            .find(|record| record.metric == Metric::RatioToRteFib6);
        assert_eq!(ratio.expect("there is one").median, 2.0);
    }

    #[test]
    fn everybody_is_first_once() {
        let orders: Vec<Vec<usize>> = (0..3).map(|number| rotated(3, number).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }
}
