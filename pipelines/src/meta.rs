//! The record beside each frame, and the verdict every node of this appliance gives.

use dataplane::reason::{DropReason, PuntReason};
use dataplane::trace::Traceable;

use crate::icmp_error::IcmpError;
use crate::npt66::Direction;
use crate::tables::{InterfaceId, VrfId};

/// Where a packet enters the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entry {
    /// Received: it is forwarded or it is for us.
    #[default]
    Received,
    /// Received from a link-local address: it must not leave its link.
    Scoped,
    /// Our own packet: no hop-limit decrement, no ICMPv6 error about it.
    Originated,
    /// Its next hop did not answer address resolution: it is dropped and answered, never forwarded.
    Unreachable,
}

/// The address family of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    #[default]
    V6,
}

/// Marks [`Meta::rule_in`] and [`Meta::rule_out`] when no rule was applied.
pub(crate) const NO_RULE: u16 = u16::MAX;

/// What the graph knows of one packet. The frame's bytes are the only other state.
#[derive(Debug, Clone, Copy)]
pub struct Meta {
    /// Index of the next hop chosen by the lookup.
    pub(crate) next_hop: u32,
    /// Trace id, 0: not traced.
    pub(crate) trace: u32,
    /// Interface it came in by; for our own packets, the one whose VRF they belong to.
    pub(crate) interface: InterfaceId,
    /// The VRF of that interface.
    pub(crate) vrf: VrfId,
    /// NPT66 rule by which its destination was translated, to undo in a quote; else [`NO_RULE`].
    pub(crate) rule_in: u16,
    /// NPT66 rule by which its source was translated.
    pub(crate) rule_out: u16,
    /// Priority and drop-eligible bits of the outer VLAN tag it came with, in their place in the TCI.
    pub(crate) priority: u16,
    /// Offset of the IP header in the frame, bytes.
    pub(crate) l3: u8,
    pub(crate) family: Family,
    pub(crate) entry: Entry,
    /// It has been through the hairpin once.
    pub(crate) hairpinned: bool,
    /// It was an answer by full NAT, and is looked up again.
    pub(crate) is_returned: bool,
    /// It came encapsulated.
    pub(crate) is_decapsulated: bool,
    /// It goes on, but its destination has no mapping, and the control thread is to be told.
    pub(crate) is_missed: bool,
    /// It goes on, but its source may be at any site and is not known to be here: the control thread is to be told.
    pub(crate) is_stranger: bool,
    /// It is a fragment that came before its first one, and has waited for it.
    pub(crate) has_waited: bool,
    /// It is larger than the MTU of its next hop, and is cut as it leaves (RFC 791 3.2).
    pub(crate) is_oversize: bool,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            next_hop: 0,
            trace: 0,
            interface: InterfaceId(0),
            vrf: VrfId(0),
            rule_in: NO_RULE,
            rule_out: NO_RULE,
            priority: 0,
            l3: 0,
            family: Family::V6,
            entry: Entry::Received,
            hairpinned: false,
            is_returned: false,
            is_decapsulated: false,
            is_missed: false,
            is_stranger: false,
            has_waited: false,
            is_oversize: false,
        }
    }
}

impl Meta {
    /// A packet that comes in untagged by `interface`, which is in `vrf`.
    pub(crate) fn received(interface: InterfaceId, vrf: VrfId) -> Self {
        Self {
            interface,
            vrf,
            l3: 14,
            ..Self::default()
        }
    }

    /// [`Meta::rule_out`] or [`Meta::rule_in`].
    #[inline]
    pub(crate) fn rule_mut(&mut self, direction: Direction) -> &mut u16 {
        match direction {
            Direction::Out => &mut self.rule_out,
            Direction::In => &mut self.rule_in,
        }
    }

    /// A packet of our own, in the VRF of `interface`: an Ethernet header of 14 bytes that will be overwritten, then a
    /// complete IPv6 packet with its final hop limit and checksum. An IPv4 packet is [`Meta::of`] the other family.
    #[must_use]
    pub fn originate(interface: InterfaceId) -> Self {
        Self {
            interface,
            l3: 14,
            entry: Entry::Originated,
            ..Self::default()
        }
    }

    /// The same, of this family.
    #[must_use]
    pub fn of(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// The same packet, to be answered with Destination Unreachable, address unreachable (RFC 4861 7.2.2).
    #[must_use]
    pub fn unreachable(self) -> Self {
        Self {
            entry: Entry::Unreachable,
            ..self
        }
    }

    /// Whether this record says of a packet that has just been admitted what `start` says of all.
    pub(crate) fn is_like(&self, start: &Self) -> bool {
        let shape = |meta: &Self| (meta.interface, meta.l3, meta.family, meta.entry);
        shape(self) == shape(start)
    }

    /// Interface it came in by.
    #[must_use]
    pub fn interface(&self) -> InterfaceId {
        self.interface
    }

    /// Its routing table. Of what was decapsulated that of the instance, which need not be that of any interface.
    #[must_use]
    pub fn vrf(&self) -> VrfId {
        self.vrf
    }

    /// Whether the packet itself went on: then this is only its beginning, for the control thread to know of it, and
    /// nothing that could go anywhere.
    #[must_use]
    pub fn went_on(&self) -> bool {
        self.is_missed || self.is_stranger
    }

    /// Whether it came encapsulated.
    #[must_use]
    pub fn is_decapsulated(&self) -> bool {
        self.is_decapsulated
    }

    /// Its address family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Offset of the IP header in the frame, bytes.
    #[must_use]
    pub fn l3_offset(&self) -> usize {
        usize::from(self.l3)
    }

    /// Whether this is one of our own packets.
    #[must_use]
    pub fn is_originated(&self) -> bool {
        self.entry == Entry::Originated
    }
}

impl Traceable for Meta {
    fn trace_id(&self) -> u32 {
        self.trace
    }
}

/// The verdict of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// On along the main way.
    Continue,
    /// Drop silently.
    Drop(DropReason),
    /// Drop, and answer with an ICMP error where RFC 4443 2.4, or RFC 1812 4.3.2.7, allows one.
    Error(DropReason, IcmpError),
    /// Drop, and answer a TCP segment with a reset (RFC 9293 3.10.7.1).
    Reset(DropReason),
    /// To the control thread.
    Punt(PuntReason),
    /// To a mapping, and too large: in pieces of at most this many bytes (RFC 9300 7.1).
    Cut(u16),
    /// Addressed to us.
    Local,
    /// Translated: look up again.
    Again,
    /// A fragment of a packet whose first one has not come: it waits for that.
    Wait,
    /// It belongs to a flow of the worker with this number.
    HandOver(u8),
    /// From inside to an outside prefix of ours: translate both ways and look up again (RFC 6296 4.3).
    Hairpin,
}
