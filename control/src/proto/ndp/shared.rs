//! What the interfaces of one machine share: settings, randomness, deadlines, outputs, counters.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use dataplane::wire::ethernet::{ETHERTYPE_ARP, ETHERTYPE_IPV6, Mac};

use super::report::{Counter, Counters};
use super::timers::Timers;
use super::wire::Nonce;
use super::{InterfaceIndex, Output, Settings};

/// What a deadline is for. Equal deadlines are served in this order: groups are joined before addresses are probed, and
/// addresses are valid before neighbours are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKind {
    /// Report changes of groups.
    GroupChanges,
    /// Answer an MLD query.
    GroupQuery,
    /// Probe or announce this own address.
    Address(IpAddr),
    /// Go on with this neighbour.
    Neighbor(IpAddr),
    /// Send the delayed answer of this number.
    Answer(u64),
}

pub(super) struct Shared<P> {
    pub(super) settings: Settings,
    pub(super) rng: fastrand::Rng,
    pub(super) timers: Timers<(InterfaceIndex, TimerKind)>,
    pub(super) counters: Counters,
    /// Packets that wait in all queues.
    pub(super) queued: usize,
    outputs: VecDeque<Output<P>>,
    /// A `NeighborsChanged` is among the outputs.
    change_is_told: bool,
}

impl<P> Shared<P> {
    pub(super) fn new(settings: Settings, rng: fastrand::Rng) -> Self {
        Self {
            settings,
            rng,
            timers: Timers::new(),
            counters: Counters::new(),
            queued: 0,
            outputs: VecDeque::new(),
            change_is_told: false,
        }
    }

    pub(super) fn transmit(
        &mut self,
        interface: InterfaceIndex,
        destination_mac: Mac,
        packet: Vec<u8>,
        counter: Counter,
    ) {
        self.counters.add(counter);
        self.outputs.push_back(Output::Transmit {
            interface,
            destination_mac,
            ether_type: ETHERTYPE_IPV6,
            packet,
        });
    }

    pub(super) fn transmit_arp(
        &mut self,
        interface: InterfaceIndex,
        destination_mac: Mac,
        message: Vec<u8>,
        counter: Counter,
    ) {
        self.counters.add(counter);
        self.outputs.push_back(Output::Transmit {
            interface,
            destination_mac,
            ether_type: ETHERTYPE_ARP,
            packet: message,
        });
    }

    /// One is enough however many changes follow it: whoever takes it reads the state of that moment.
    pub(super) fn neighbors_changed(&mut self) {
        if !self.change_is_told {
            self.change_is_told = true;
            self.outputs.push_back(Output::NeighborsChanged);
        }
    }

    pub(super) fn output(&mut self, output: Output<P>) {
        self.outputs.push_back(output);
    }

    pub(super) fn take_output(&mut self) -> Option<Output<P>> {
        let output = self.outputs.pop_front()?;
        if matches!(output, Output::NeighborsChanged) {
            self.change_is_told = false;
        }
        Some(output)
    }

    /// A queue is given up: every packet goes back.
    pub(super) fn fail(&mut self, queue: VecDeque<P>) {
        self.queued -= queue.len();
        self.outputs.extend(queue.into_iter().map(Output::Failed));
    }

    /// A queue may go: every packet goes on.
    pub(super) fn release(&mut self, queue: VecDeque<P>) {
        self.queued -= queue.len();
        self.outputs.extend(queue.into_iter().map(Output::Ready));
    }

    /// Uniform in 0..=longest.
    pub(super) fn random_up_to(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.f64())
    }

    /// The duration times a random factor: MIN_RANDOM_FACTOR 0.5 to MAX_RANDOM_FACTOR 1.5 (RFC 4861 10).
    pub(super) fn jittered(&mut self, base: Duration) -> Duration {
        base.mul_f64(0.5 + self.rng.f64())
    }

    pub(super) fn nonce(&mut self) -> Nonce {
        let mut nonce = Nonce::default();
        self.rng.fill(&mut nonce);
        nonce
    }
}
