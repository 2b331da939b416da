//! One worker's counters: written by that worker alone, read by anybody at any time.
//!
//! A cell is an atomic that is loaded and stored relaxed by its single writer: 0.7 clocks against 4.9 for a locked add.
//! Each worker's block is padded, so no two workers share a line. Sums are right once the worker is idle, and never
//! torn while it is not.
//!
//! Conservation, which every test asserts: `rx + injected + generated = tx + drops + punts`, where an ICMP error that
//! answers a dropped packet counts as generated, and a packet handed back by the control thread as injected. It holds
//! for the sum over all workers once they are drained; [`Snapshot`] says what that means and checks it. A frame that is
//! spread is received by the worker that polled it (`rx`, `spread_out`) and settled by the one that took it over
//! (`spread_in`, then `tx`, drop or punt).

mod snapshot;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;

pub use snapshot::{NodeTotal, PortTotal, RuleTotal, ServerTotal, Snapshot, TrafficTotal};

use crate::port::PortId;
use crate::reason::{DropReason, PuntReason};

/// Most nodes one pipeline may count.
pub const NODES_MAX: usize = 16;
/// Most translation rules that have counters of their own.
pub const RULES_MAX: usize = 1024;

/// Most servers that flows are steered to and that have counters of their own.
pub const SERVERS_MAX: usize = 1024;

/// One counter with a single writer.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Add `n`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets and bytes (Ethernet frame length without FCS).
#[derive(Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: Cell,
    /// Bytes.
    pub bytes: Cell,
}

/// What one port received and sent through this worker.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Received, before any check.
    pub rx: Traffic,
    /// Taken by the device.
    pub tx: Traffic,
}

/// What one node did.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Batches.
    pub calls: Cell,
    /// Frames.
    pub frames: Cell,
}

/// What one translation rule did.
#[derive(Debug, Default)]
pub struct RuleCounters {
    /// Inside to outside.
    pub out: Traffic,
    /// Outside to inside.
    pub r#in: Traffic,
}

/// What went to one server.
#[derive(Debug, Default)]
pub struct ServerCounters {
    /// Frames as they came.
    pub traffic: Traffic,
    /// Flows that began here.
    pub flows: Cell,
}

/// What became of flows that are steered.
#[derive(Debug, Default)]
pub struct SteerCounters {
    /// Remembered in the place of another of which only one packet had come.
    pub displaced: Cell,
    /// Not remembered, for want of room.
    pub stateless: Cell,
    /// Led to another server, because theirs is down or gone.
    pub moved: Cell,
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    /// Rounds of the poll loop, each over every queue and ring of the worker.
    pub polls: Cell,
    /// Rounds that found at least one frame.
    pub busy_polls: Cell,
    /// Frames that came from the control thread, new or handed back.
    pub injected: Cell,
    /// Packets made here: ICMP errors, and of a packet that was fragmented each piece but the first.
    pub generated: Cell,
    /// ICMP errors not made because of the rate limit.
    pub errors_limited: Cell,
    /// Frames given to another worker, which receives them in its own `spread_in`.
    pub spread_out: Cell,
    /// Frames taken over from another worker.
    pub spread_in: Cell,
    /// By port.
    pub ports: Box<[CachePadded<PortCounters>]>,
    /// By node, in the pipeline's order.
    pub nodes: [NodeCounters; NODES_MAX],
    /// By translation rule.
    pub rules: Box<[RuleCounters]>,
    /// Encapsulated (RFC 9300), frames as they leave.
    pub lisp_encap: Traffic,
    /// Decapsulated, frames as they came.
    pub lisp_decap: Traffic,
    /// By server.
    pub servers: Box<ServerTable>,
    /// Of all services.
    pub steer: SteerCounters,
    drops: [Cell; DropReason::COUNT],
    punts: [Cell; PuntReason::COUNT],
    punts_refused: [Cell; PuntReason::COUNT],
}

/// One for each server.
pub type ServerTable = [ServerCounters; SERVERS_MAX];

impl WorkerCounters {
    /// All zero.
    #[must_use]
    pub fn new() -> CachePadded<Self> {
        CachePadded::new(Self {
            polls: Cell::default(),
            busy_polls: Cell::default(),
            injected: Cell::default(),
            generated: Cell::default(),
            errors_limited: Cell::default(),
            spread_out: Cell::default(),
            spread_in: Cell::default(),
            ports: (0..PortId::MAX).map(|_| CachePadded::default()).collect(),
            nodes: Default::default(),
            rules: (0..RULES_MAX).map(|_| RuleCounters::default()).collect(),
            lisp_encap: Traffic::default(),
            lisp_decap: Traffic::default(),
            servers: Box::new(std::array::from_fn(|_| ServerCounters::default())),
            steer: SteerCounters::default(),
            drops: std::array::from_fn(|_| Cell::default()),
            punts: std::array::from_fn(|_| Cell::default()),
            punts_refused: std::array::from_fn(|_| Cell::default()),
        })
    }

    /// The counters of `port`.
    #[inline]
    #[must_use]
    pub fn port(&self, port: PortId) -> &PortCounters {
        &self.ports[port.index()]
    }

    /// Count `n` dropped frames.
    #[inline]
    pub fn count_drop(&self, reason: DropReason, n: u64) {
        self.drops[reason.index()].add(n);
    }

    /// Count `n` punted frames.
    #[inline]
    pub fn count_punt(&self, reason: PuntReason, n: u64) {
        self.punts[reason.index()].add(n);
    }

    /// Count a frame that was dropped instead of punted.
    #[inline]
    pub fn count_punt_refused(&self, reason: PuntReason) {
        self.punts_refused[reason.index()].add(1);
    }

    /// Of the frames dropped so far because they were too many for the control thread, those of `reason`.
    #[must_use]
    pub fn punts_refused(&self, reason: PuntReason) -> u64 {
        self.punts_refused[reason.index()].read()
    }

    /// Dropped for `reason` so far.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()].read()
    }

    /// Punted for `reason` so far.
    #[must_use]
    pub fn punted(&self, reason: PuntReason) -> u64 {
        self.punts[reason.index()].read()
    }
}
