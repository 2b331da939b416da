//! What a suite finds: figures of several rounds, reduced to minimum, median and maximum.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What is measured about a case. Its [`Display`](fmt::Display) is the name in tables and in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Sextant, everything included, on one core.
    Mpps,
    /// Time-stamp counter clocks per packet, everything included.
    ClkPerPacket,
    /// Clocks per packet in the packet graph alone: no source, no transmit function.
    GraphClkPerPacket,
    /// Beside it: testpmd, `io` forwarding.
    TestpmdIoMpps,
    /// Beside it: testpmd, `macswap` forwarding.
    TestpmdMacswapMpps,
    /// Sextant over testpmd `io`, of the same round.
    RatioToTestpmdIo,
    /// Sextant over testpmd `macswap`, of the same round.
    RatioToTestpmdMacswap,
    /// Sextant over another build of it, of the same turns.
    RatioToOtherSextant,
    /// Beside it: Linux SNPT, per CPU-second.
    LinuxSnptMpps,
    /// Sextant over Linux SNPT of the same round, packets per CPU-second.
    RatioToLinuxSnpt,
    /// Lookups in a prefix table, one core.
    MlookupsPerS,
    /// Our table over `rte_fib6`, lookups of the same round: bursts with AVX-512 where there is any; single ones without.
    RatioToRteFib6,
    /// Our table over `rte_lpm6`.
    RatioToRteLpm6,
    /// Our table over `rte_fib` (IPv4), bursts with AVX-512 where there is any.
    RatioToRteFib,
    /// Our table over `rte_lpm` (IPv4).
    RatioToRteLpm,
    /// Our table over `rte_hash`, which holds hosts only.
    RatioToRteHash,
    /// Our table over the best Rust crate of the round, single lookups.
    RatioToBestCrate,
    /// Time of a burst of 32 lookups that finds nothing in a cache.
    BurstNs,
    /// Such a burst's time in our table over that in `rte_fib6`: less is better.
    TimeRatioToRteFib6,
    /// Memory of a table.
    Bytes,
    /// Memory of a table over its prefixes.
    BytesPerPrefix,
    /// Time to make a table of all its routes, or of its servers.
    BuildMs,
    /// Updates, one after the other.
    UpdatesPerS,
    /// Time of an update: half take no longer.
    UpdateUsMedian,
    /// Time of an update: one of a hundred takes longer.
    UpdateUsP99,
    /// Lookups that found what an oracle does not.
    WrongAnswers,
    /// Memory that workers may look at, over its mappings: map-cache and prefix table.
    BytesPerMapping,
    /// Forwarding rate beside updates over that without, windows of the same round.
    RatioToQuiet,
    /// Packets that were not sent.
    LostPackets,
    /// Packets that were sent where no mapping led from when they came until they were sent.
    MisdirectedPackets,
    /// Flows of 100,000 that went by a locator, or to a server, that was taken away.
    MovedFlows,
    /// Flows that its loss moved though they did not go by it, or did not move though they did.
    WronglyMovedFlows,
    /// Flows that begin, one packet each, all of them remembered.
    FlowsPerS,
    /// Packets a second over that with 1,024 flows, of the same round.
    #[serde(rename = "ratio_to_1k")]
    RatioTo1k,
    /// Cells of servers that stay which change when one server leaves, of a hundred.
    MovedPercent,
    /// From the change of a locator to the last packet by its old state.
    EffectUs,
    /// Changes of a locator that a burst which began after them had not heard of.
    LateBursts,
    /// Map-Requests answered by a Map-Server that has one core.
    RequestsPerSPerCore,
    /// Map-Registers of one EID, authenticated and answered by a Map-Server that has one core.
    RegistersPerSPerCore,
    /// From a message to its answer, with as many under way as keep the server busy: one of a hundred takes longer.
    P99Us,
    /// The part of the time in which the server ran.
    ServerBusy,
    /// Memory of a Map-Server over its registered EIDs.
    BytesPerEid,
    /// Control messages sent by a fleet and its Map-Servers, over tunnel routers and hours.
    MessagesPerXtrHour,
    /// Control messages of the fleet's busiest second.
    PeakMessagesPerS,
    /// How long after a change an answer may still be what it was before.
    ConvergeS,
    /// Memory of a fleet and all that is kept to judge it, over its tunnel routers.
    BytesPerXtr,
    /// Time a run took.
    WallS,
}

impl Metric {
    /// The name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mpps => "mpps",
            Self::ClkPerPacket => "clk_per_packet",
            Self::GraphClkPerPacket => "graph_clk_per_packet",
            Self::TestpmdIoMpps => "testpmd_io_mpps",
            Self::TestpmdMacswapMpps => "testpmd_macswap_mpps",
            Self::RatioToTestpmdIo => "ratio_to_testpmd_io",
            Self::RatioToTestpmdMacswap => "ratio_to_testpmd_macswap",
            Self::RatioToOtherSextant => "ratio_to_other_sextant",
            Self::LinuxSnptMpps => "linux_snpt_mpps",
            Self::RatioToLinuxSnpt => "ratio_to_linux_snpt",
            Self::MlookupsPerS => "mlookups_per_s",
            Self::RatioToRteFib6 => "ratio_to_rte_fib6",
            Self::RatioToRteLpm6 => "ratio_to_rte_lpm6",
            Self::RatioToRteFib => "ratio_to_rte_fib",
            Self::RatioToRteLpm => "ratio_to_rte_lpm",
            Self::RatioToRteHash => "ratio_to_rte_hash",
            Self::RatioToBestCrate => "ratio_to_best_crate",
            Self::BurstNs => "burst_ns",
            Self::TimeRatioToRteFib6 => "time_ratio_to_rte_fib6",
            Self::Bytes => "bytes",
            Self::BytesPerPrefix => "bytes_per_prefix",
            Self::BuildMs => "build_ms",
            Self::UpdatesPerS => "updates_per_s",
            Self::UpdateUsMedian => "update_us_median",
            Self::UpdateUsP99 => "update_us_p99",
            Self::WrongAnswers => "wrong_answers",
            Self::BytesPerMapping => "bytes_per_mapping",
            Self::RatioToQuiet => "ratio_to_quiet",
            Self::LostPackets => "lost_packets",
            Self::MisdirectedPackets => "misdirected_packets",
            Self::MovedFlows => "moved_flows",
            Self::WronglyMovedFlows => "wrongly_moved_flows",
            Self::FlowsPerS => "flows_per_s",
            Self::RatioTo1k => "ratio_to_1k",
            Self::MovedPercent => "moved_percent",
            Self::EffectUs => "effect_us",
            Self::LateBursts => "late_bursts",
            Self::RequestsPerSPerCore => "requests_per_s_per_core",
            Self::RegistersPerSPerCore => "registers_per_s_per_core",
            Self::P99Us => "p99_us",
            Self::ServerBusy => "server_busy",
            Self::BytesPerEid => "bytes_per_eid",
            Self::MessagesPerXtrHour => "messages_per_xtr_hour",
            Self::PeakMessagesPerS => "peak_messages_per_s",
            Self::ConvergeS => "converge_s",
            Self::BytesPerXtr => "bytes_per_xtr",
            Self::WallS => "wall_s",
        }
    }

    /// The unit in JSON.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Mpps | Self::TestpmdIoMpps | Self::TestpmdMacswapMpps | Self::LinuxSnptMpps => {
                "Mpps"
            }
            Self::ClkPerPacket | Self::GraphClkPerPacket => "TSC clocks",
            Self::RatioToTestpmdIo
            | Self::RatioToTestpmdMacswap
            | Self::RatioToOtherSextant
            | Self::RatioToLinuxSnpt
            | Self::RatioToRteFib6
            | Self::RatioToRteLpm6
            | Self::RatioToRteFib
            | Self::RatioToRteLpm
            | Self::RatioToRteHash
            | Self::RatioToBestCrate
            | Self::TimeRatioToRteFib6
            | Self::RatioToQuiet
            | Self::RatioTo1k
            | Self::ServerBusy => "1",
            Self::MovedPercent => "%",
            Self::MlookupsPerS => "Mlookups/s",
            Self::BurstNs => "ns",
            Self::Bytes
            | Self::BytesPerPrefix
            | Self::BytesPerMapping
            | Self::BytesPerEid
            | Self::BytesPerXtr => "bytes",
            Self::MessagesPerXtrHour => "1/h",
            Self::PeakMessagesPerS => "1/s",
            Self::ConvergeS | Self::WallS => "s",
            Self::BuildMs => "ms",
            Self::UpdatesPerS
            | Self::FlowsPerS
            | Self::RequestsPerSPerCore
            | Self::RegistersPerSPerCore => "1/s",
            Self::UpdateUsMedian | Self::UpdateUsP99 | Self::EffectUs | Self::P99Us => "us",
            Self::WrongAnswers => "answers",
            Self::LostPackets | Self::MisdirectedPackets => "packets",
            Self::MovedFlows | Self::WronglyMovedFlows => "flows",
            Self::LateBursts => "bursts",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One figure of one case, over all rounds. The JSON output is an array of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which suite.
    pub suite: String,
    /// Which case, as `npt66-out/64B/1k`.
    pub case: String,
    /// What was measured.
    pub metric: Metric,
    /// In which unit.
    pub unit: String,
    /// The least of all rounds.
    pub min: f64,
    /// The middle round; of an even number of rounds the mean of the two in the middle.
    pub median: f64,
    /// The greatest of all rounds.
    pub max: f64,
    /// How many rounds.
    pub rounds: usize,
}

impl Record {
    /// Reduce the figures of all rounds.
    ///
    /// # Panics
    /// When there is no round.
    #[must_use]
    pub fn of(suite: &str, case: &str, metric: Metric, rounds: &[f64]) -> Self {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
            panic!("{suite} {case} {metric}: a suite runs at least one round");
        };
        Self {
            suite: suite.to_owned(),
            case: case.to_owned(),
            metric,
            unit: metric.unit().to_owned(),
            min: round(*min),
            median: round(median_of_sorted(&sorted)),
            max: round(*max),
            rounds: rounds.len(),
        }
    }
}

/// The median of figures in any order; 0 of none.
#[must_use]
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

fn median_of_sorted(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len().is_multiple_of(2)) {
        (Some(upper), true) => f64::midpoint(sorted[middle - 1], *upper),
        (Some(only), false) => *only,
        (None, _) => 0.0,
    }
}

/// Four decimals: below what any of these measurements can tell.
fn round(figure: f64) -> f64 {
    (figure * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_reduced_to_minimum_median_and_maximum() {
        let odd = Record::of("npt66", "npt66-out/64B/1k", Metric::Mpps, &[3.0, 1.0, 2.0]);
        assert_eq!(
            (odd.min, odd.median, odd.max, odd.rounds),
            (1.0, 2.0, 3.0, 3)
        );
        let even = Record::of(
            "npt66",
            "npt66-out/64B/1k",
            Metric::Mpps,
            &[4.0, 1.0, 2.0, 3.0],
        );
        assert_eq!(
            (even.min, even.median, even.max, even.rounds),
            (1.0, 2.5, 4.0, 4)
        );
    }

    #[test]
    fn json_has_exactly_the_documented_keys() {
        let record = Record::of(
            "graph",
            "forward/64B/64k",
            Metric::GraphClkPerPacket,
            &[61.5],
        );
        assert_eq!(
            serde_json::to_value(&record).expect("a record is plain data"),
            serde_json::json!({
                "suite": "graph", "case": "forward/64B/64k", "metric": "graph_clk_per_packet", "unit": "TSC clocks",
                "min": 61.5, "median": 61.5, "max": 61.5, "rounds": 1
            })
        );
    }

    #[test]
    fn metric_names_are_the_names_in_json() {
        for metric in [
            Metric::Mpps,
            Metric::ClkPerPacket,
            Metric::GraphClkPerPacket,
            Metric::TestpmdIoMpps,
            Metric::TestpmdMacswapMpps,
            Metric::RatioToTestpmdIo,
            Metric::RatioToTestpmdMacswap,
            Metric::LinuxSnptMpps,
            Metric::RatioToLinuxSnpt,
            Metric::MlookupsPerS,
            Metric::RatioToRteFib6,
            Metric::RatioToRteLpm6,
            Metric::RatioToRteFib,
            Metric::RatioToRteLpm,
            Metric::RatioToRteHash,
            Metric::RatioToBestCrate,
            Metric::BurstNs,
            Metric::TimeRatioToRteFib6,
            Metric::Bytes,
            Metric::BytesPerPrefix,
            Metric::BuildMs,
            Metric::UpdatesPerS,
            Metric::UpdateUsMedian,
            Metric::UpdateUsP99,
            Metric::WrongAnswers,
            Metric::BytesPerMapping,
            Metric::RatioToQuiet,
            Metric::LostPackets,
            Metric::MisdirectedPackets,
            Metric::MovedFlows,
            Metric::WronglyMovedFlows,
            Metric::FlowsPerS,
            Metric::RatioTo1k,
            Metric::MovedPercent,
            Metric::EffectUs,
            Metric::LateBursts,
            Metric::RequestsPerSPerCore,
            Metric::RegistersPerSPerCore,
            Metric::P99Us,
            Metric::ServerBusy,
            Metric::BytesPerEid,
            Metric::MessagesPerXtrHour,
            Metric::PeakMessagesPerS,
            Metric::ConvergeS,
            Metric::BytesPerXtr,
            Metric::WallS,
        ] {
            assert_eq!(
                serde_json::to_value(metric).expect("a name"),
                serde_json::Value::from(metric.name())
            );
        }
    }
}
