//! Counters as plain numbers: what the control thread shows, tests assert and benchmarks subtract.

use super::{Cell, NODES_MAX, PortCounters, RuleCounters, ServerCounters, Traffic, WorkerCounters};
use crate::port::PortId;
use crate::reason::{DropReason, PuntReason};

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficTotal {
    /// Packets.
    pub packets: u64,
    /// Bytes, Ethernet frame length without FCS.
    pub bytes: u64,
}

/// What one port received and sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortTotal {
    /// Received, before any check.
    pub rx: TrafficTotal,
    /// Taken by the device.
    pub tx: TrafficTotal,
}

/// What one node did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeTotal {
    /// Batches.
    pub calls: u64,
    /// Frames.
    pub frames: u64,
}

/// What one translation rule did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleTotal {
    /// Inside to outside.
    pub out: TrafficTotal,
    /// Outside to inside.
    pub r#in: TrafficTotal,
}

/// What went to one server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerTotal {
    /// Frames as they came.
    pub traffic: TrafficTotal,
    /// Flows that began.
    pub flows: u64,
}

/// The counters of one worker, or the sum over several, at one moment.
///
/// Each number is exact, but they are read one after the other while workers run. Laws between them
/// ([`Snapshot::is_conserved`]) hold once the workers are *drained*: nothing in a pipeline and nothing in the rings
/// between workers. A frame in such a ring was counted as received by one worker and is not yet anything else; one in
/// the punt ring was counted as punted, one in the inject ring is not counted yet. A crew that was stopped is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Rounds of the poll loops.
    pub polls: u64,
    /// Rounds that found at least one frame.
    pub busy_polls: u64,
    /// Frames from the control thread, new or handed back.
    pub injected: u64,
    /// ICMPv6 errors made.
    pub generated: u64,
    /// ICMPv6 errors not made because of the rate limit.
    pub errors_limited: u64,
    /// Frames given to another worker.
    pub spread_out: u64,
    /// Frames taken over from another worker.
    pub spread_in: u64,
    /// By [`PortId`], [`PortId::MAX`] of them.
    pub ports: Vec<PortTotal>,
    /// By node, in the pipeline's order.
    pub nodes: [NodeTotal; NODES_MAX],
    /// By translation rule.
    pub rules: Vec<RuleTotal>,
    /// Encapsulated.
    pub lisp_encap: TrafficTotal,
    /// Decapsulated.
    pub lisp_decap: TrafficTotal,
    /// By server.
    pub servers: Vec<ServerTotal>,
    /// Flows that are steered: displaced, stateless, moved.
    pub steer: [u64; 3],
    /// By [`DropReason::index`].
    pub drops: [u64; DropReason::COUNT],
    /// By [`PuntReason::index`].
    pub punts: [u64; PuntReason::COUNT],
}

impl Snapshot {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self::of(&WorkerCounters::new())
    }

    /// One worker's counters now.
    #[must_use]
    pub fn of(counters: &WorkerCounters) -> Self {
        Self {
            polls: counters.polls.read(),
            busy_polls: counters.busy_polls.read(),
            injected: counters.injected.read(),
            generated: counters.generated.read(),
            errors_limited: counters.errors_limited.read(),
            spread_out: counters.spread_out.read(),
            spread_in: counters.spread_in.read(),
            ports: counters.ports.iter().map(|port| port.read()).collect(),
            nodes: std::array::from_fn(|index| NodeTotal {
                calls: counters.nodes[index].calls.read(),
                frames: counters.nodes[index].frames.read(),
            }),
            rules: counters.rules.iter().map(RuleCounters::read).collect(),
            lisp_encap: counters.lisp_encap.read(),
            lisp_decap: counters.lisp_decap.read(),
            servers: counters.servers.iter().map(ServerCounters::read).collect(),
            steer: {
                let steer = &counters.steer;
                [&steer.displaced, &steer.stateless, &steer.moved].map(Cell::read)
            },
            drops: counters.drops.each_ref().map(Cell::read),
            punts: counters.punts.each_ref().map(Cell::read),
        }
    }

    /// The sum over several workers.
    #[must_use]
    pub fn sum<'a>(workers: impl IntoIterator<Item = &'a WorkerCounters>) -> Self {
        let mut total = Self::new();
        for counters in workers {
            total.join(&Self::of(counters), u64::wrapping_add);
        }
        total
    }

    /// What happened since `earlier`, a snapshot of the same workers.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        difference.join(earlier, u64::wrapping_sub);
        difference
    }

    /// The counters of `port`.
    #[must_use]
    pub fn port(&self, port: PortId) -> &PortTotal {
        &self.ports[port.index()]
    }

    /// Dropped for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()]
    }

    /// Punted for `reason`.
    #[must_use]
    pub fn punted(&self, reason: PuntReason) -> u64 {
        self.punts[reason.index()]
    }

    /// Received on all ports.
    #[must_use]
    pub fn rx(&self) -> TrafficTotal {
        self.over_ports(|port| port.rx)
    }

    /// Taken by all devices.
    #[must_use]
    pub fn tx(&self) -> TrafficTotal {
        self.over_ports(|port| port.tx)
    }

    /// Packets dropped, for any reason.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Packets punted, for any reason.
    #[must_use]
    pub fn punts(&self) -> u64 {
        self.punts.iter().sum()
    }

    /// Packets that came in or were made.
    #[must_use]
    pub fn packets_in(&self) -> u64 {
        self.rx().packets + self.injected + self.generated
    }

    /// Packets that left, in whatever way.
    #[must_use]
    pub fn packets_out(&self) -> u64 {
        self.tx().packets + self.drops() + self.punts()
    }

    /// Whether every packet that came in went out, and every one that was handed over arrived: over all workers, once
    /// they are drained.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.packets_in() == self.packets_out() && self.spread_out == self.spread_in
    }

    fn over_ports(&self, of: impl Fn(&PortTotal) -> TrafficTotal) -> TrafficTotal {
        let mut total = TrafficTotal::default();
        for port in &self.ports {
            total.join(&of(port), u64::wrapping_add);
        }
        total
    }

    fn join(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        let pairs = [
            (&mut self.polls, other.polls),
            (&mut self.busy_polls, other.busy_polls),
            (&mut self.injected, other.injected),
            (&mut self.generated, other.generated),
            (&mut self.errors_limited, other.errors_limited),
            (&mut self.spread_out, other.spread_out),
            (&mut self.spread_in, other.spread_in),
        ];
        let drops = self.drops.iter_mut().zip(other.drops);
        let punts = self.punts.iter_mut().zip(other.punts);
        for (mine, other) in pairs.into_iter().chain(drops).chain(punts) {
            *mine = with(*mine, other);
        }
        for (mine, other) in self.ports.iter_mut().zip(&other.ports) {
            mine.rx.join(&other.rx, with);
            mine.tx.join(&other.tx, with);
        }
        for (mine, other) in self.nodes.iter_mut().zip(&other.nodes) {
            mine.calls = with(mine.calls, other.calls);
            mine.frames = with(mine.frames, other.frames);
        }
        for (mine, other) in self.rules.iter_mut().zip(&other.rules) {
            mine.out.join(&other.out, with);
            mine.r#in.join(&other.r#in, with);
        }
        self.lisp_encap.join(&other.lisp_encap, with);
        self.lisp_decap.join(&other.lisp_decap, with);
        for (mine, other) in self.servers.iter_mut().zip(&other.servers) {
            mine.traffic.join(&other.traffic, with);
            mine.flows = with(mine.flows, other.flows);
        }
        for (mine, other) in self.steer.iter_mut().zip(other.steer) {
            *mine = with(*mine, other);
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}

impl TrafficTotal {
    fn join(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        self.packets = with(self.packets, other.packets);
        self.bytes = with(self.bytes, other.bytes);
    }
}

impl Traffic {
    /// Both numbers now.
    #[must_use]
    pub fn read(&self) -> TrafficTotal {
        TrafficTotal {
            packets: self.packets.read(),
            bytes: self.bytes.read(),
        }
    }
}

impl ServerCounters {
    /// All numbers now.
    #[must_use]
    pub fn read(&self) -> ServerTotal {
        ServerTotal {
            traffic: self.traffic.read(),
            flows: self.flows.read(),
        }
    }
}

impl PortCounters {
    /// Both directions now.
    #[must_use]
    pub fn read(&self) -> PortTotal {
        PortTotal {
            rx: self.rx.read(),
            tx: self.tx.read(),
        }
    }
}

impl RuleCounters {
    /// Both directions now.
    #[must_use]
    pub fn read(&self) -> RuleTotal {
        RuleTotal {
            out: self.out.read(),
            r#in: self.r#in.read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every cell of a worker gets another number, so that a forgotten or swapped one shows.
    fn numbered(first: u64) -> impl std::ops::Deref<Target = WorkerCounters> {
        let counters = WorkerCounters::new();
        let mut number = first;
        let mut set = |cell: &Cell| {
            cell.add(number);
            number += 1;
        };
        for cell in [
            &counters.polls,
            &counters.busy_polls,
            &counters.injected,
            &counters.generated,
            &counters.errors_limited,
            &counters.spread_out,
            &counters.spread_in,
        ] {
            set(cell);
        }
        for port in &counters.ports {
            for traffic in [&port.rx, &port.tx] {
                set(&traffic.packets);
                set(&traffic.bytes);
            }
        }
        for node in &counters.nodes {
            set(&node.calls);
            set(&node.frames);
        }
        for rule in &counters.rules {
            for traffic in [&rule.out, &rule.r#in] {
                set(&traffic.packets);
                set(&traffic.bytes);
            }
        }
        for traffic in [&counters.lisp_encap, &counters.lisp_decap] {
            set(&traffic.packets);
            set(&traffic.bytes);
        }
        for server in counters.servers.iter() {
            set(&server.traffic.packets);
            set(&server.traffic.bytes);
            set(&server.flows);
        }
        let steer = &counters.steer;
        for cell in [&steer.displaced, &steer.stateless, &steer.moved] {
            set(cell);
        }
        counters.drops.iter().for_each(&mut set);
        counters.punts.iter().for_each(&mut set);
        counters
    }

    #[test]
    fn a_sum_minus_one_part_is_the_other() {
        let (one, two) = (numbered(1), numbered(100_000));
        let sum = Snapshot::sum([&*one, &*two]);
        assert_eq!(sum.since(&Snapshot::of(&two)), Snapshot::of(&one));
        assert_eq!(sum.since(&Snapshot::of(&one)), Snapshot::of(&two));
        assert_ne!(sum, Snapshot::of(&one));
        assert_eq!(sum.polls, 1 + 100_000);
        let last = PuntReason::COUNT - 1;
        assert_eq!(
            sum.punts[last],
            one.punts[last].read() + two.punts[last].read()
        );
    }

    #[test]
    fn conservation_sees_each_way_in_and_out() {
        let counters = WorkerCounters::new();
        counters.ports[3].rx.packets.add(5);
        counters.injected.add(2);
        counters.generated.add(1);
        assert!(!Snapshot::of(&counters).is_conserved());
        counters.ports[1].tx.packets.add(3);
        counters.count_drop(DropReason::NoRoute, 4);
        counters.count_punt(PuntReason::Echo, 1);
        assert!(Snapshot::of(&counters).is_conserved());
        counters.spread_out.add(1);
        assert!(!Snapshot::of(&counters).is_conserved(), "one is on its way");
        counters.spread_in.add(1);
        assert!(Snapshot::of(&counters).is_conserved());
    }

    #[test]
    fn totals_by_port_and_reason() {
        let counters = WorkerCounters::new();
        let port = PortId::new(31).expect("the last port");
        counters.port(port).tx.packets.add(2);
        counters.port(port).tx.bytes.add(120);
        counters.ports[0].tx.packets.add(1);
        counters.ports[0].tx.bytes.add(60);
        counters.count_drop(DropReason::HopLimit, 7);
        counters.count_punt(PuntReason::Local, 9);
        let snapshot = Snapshot::of(&counters);
        assert_eq!(snapshot.port(port).tx.packets, 2);
        assert_eq!(
            snapshot.tx(),
            TrafficTotal {
                packets: 3,
                bytes: 180
            }
        );
        assert_eq!(snapshot.rx(), TrafficTotal::default());
        assert_eq!(
            (snapshot.dropped(DropReason::HopLimit), snapshot.drops()),
            (7, 7)
        );
        assert_eq!(
            (snapshot.punted(PuntReason::Local), snapshot.punts()),
            (9, 9)
        );
    }
}
