//! Why the control thread did not use or make a packet. Punted packets are settled once they are punted, so these stand
//! beside the workers' sums and are no part of them.

macro_rules! discards {
    ($($variant:ident = $name:literal, $text:literal, $rfc:literal;)*) => {
        /// Why a packet went no further in the control thread.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Discard {
            $(#[doc = $text] $variant,)*
        }

        impl Discard {
            /// All of them, in the order of their counters.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name, text and clause.
            pub(crate) const fn info(self) -> (&'static str, &'static str, &'static str) {
                match self {
                    $(Self::$variant => ($name, $text, $rfc),)*
                }
            }
        }
    };
}

discards! {
    NdInvalid = "nd_invalid", "neighbour discovery message fails its checks", "RFC 4861 7.1";
    ArpInvalid = "arp_invalid", "ARP message fails its checks", "RFC 826";
    EchoUnanswerable = "echo_unanswerable", "echo request that must not be answered", "RFC 4443 4.2";
    NotNeighbor = "not_neighbor", "next hop is not on the link it should be on", "RFC 4861 5.2";
    NeighborQueueFull = "neighbor_queue_full", "too many packets wait for address resolution", "RFC 4861 7.2.2";
    ResolutionLimit = "resolution_limit", "too many address resolutions", "RFC 6583 7.1";
    NeighborUnresolved = "neighbor_unresolved", "own packet whose next hop did not answer", "RFC 4861 7.2.2";
    InterfaceGone = "interface_gone", "its interface is down or gone", "-";
    MapCacheMiss = "map_cache_miss", "no mapping for its destination EID", "RFC 9300 6";
    MissLimit = "miss_limit", "enough packets wait for a mapping", "RFC 9300 6";
    MissTimeout = "miss_timeout", "waited in vain for a mapping", "RFC 9300 6";
    MappingUnfit = "mapping_unfit", "mapping was learned that cannot be used here", "RFC 9301 5.4";
    LispControlInvalid = "lisp_control_invalid", "LISP control message without a right UDP checksum", "RFC 9301 5";
    PathMtuUnused = "path_mtu_unused", "ICMP error about a path, and path_mtu is stateless", "RFC 9300 7.1";
    PathMtuDisbelieved = "path_mtu_disbelieved", "ICMP error about a path that quotes no packet of ours", "RFC 6936 4";
    HealthUnexpected = "health_unexpected", "answer to no health check that is under way", "-";
    HealthInvalid = "health_invalid", "answer to a health check that is damaged", "-";
    NoBuffer = "no_buffer", "no packet buffer for an own packet", "-";
    InjectRingFull = "inject_ring_full", "the worker does not keep up", "-";
    WorkerDead = "worker_dead", "the worker is dead", "-";
}

/// Counters of the control thread.
#[derive(Debug)]
pub(crate) struct Discards([u64; Discard::ALL.len()]);

impl Discards {
    pub(crate) fn new() -> Self {
        Self([0; Discard::ALL.len()])
    }

    pub(crate) fn count(&mut self, reason: Discard) {
        self.0[reason as usize] += 1; // `as`: a fieldless repr(u8) enum
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().copied().zip(self.0)
    }
}
