//! What the control thread asks of whatever moves packets: DPDK in the product ([`crate::run`]), memory in tests.

use std::collections::BTreeMap;

use dataplane::frame::Frame;
use dataplane::port::PortId;
use dataplane::wire::ethernet::Mac;

use crate::admin::view::Link;

/// A source of frames, and the ports.
pub trait Platform {
    /// What packets are made of.
    type Frame: Frame;

    /// What moves packets, and its version.
    fn engine(&self) -> String;

    /// Where packet memory comes from, in one line.
    fn memory(&self) -> String;

    /// A frame with these bytes; `None` when there is no buffer.
    fn allocate(&self, bytes: &[u8]) -> Option<Self::Frame>;

    /// What does not change while the port is open.
    fn port(&self, port: PortId) -> &PortFacts;

    /// The port's link, now.
    fn link(&self, port: PortId) -> Link;

    /// The device's own counters, by name: the usual ones, or all that the driver has.
    fn device_counters(&self, port: PortId, detailed: bool) -> BTreeMap<String, u64>;
}

/// What does not change while a port is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// Its MAC address.
    pub mac: Mac,
    /// The driver that runs it.
    pub driver: String,
    /// Receive queues in use.
    pub rx_queues: u16,
    /// Transmit queues in use.
    pub tx_queues: u16,
    /// Processor socket, if it sits on one.
    pub socket: Option<u32>,
}
