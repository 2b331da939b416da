//! Why a packet was dropped, and why one was handed to the control thread: the two registries.
//!
//! Every frame that is not transmitted has exactly one of these reasons and is counted under it. A reason has a stable
//! name (counters, JSON), a text for people, and the clause that asks for it.

/// What is said of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Stable name, snake case: the key in counters and JSON.
    pub name: &'static str,
    /// One line for a person.
    pub text: &'static str,
    /// The clause that asks for it, or "-" where it is our own policy.
    pub rfc: &'static str,
}

macro_rules! reasons {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident = $name:literal, $text:literal, $rfc:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $enum {
            $(#[doc = $text] $variant,)*
        }

        impl $enum {
            /// Every reason, in the order of its index.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Position in counter arrays.
            #[must_use]
            #[inline]
            pub const fn index(self) -> usize {
                self as usize // `as`: a fieldless repr(u8) enum
            }

            /// Name, text and clause.
            #[must_use]
            pub const fn info(self) -> Info {
                match self {
                    $(Self::$variant => Info { name: $name, text: $text, rfc: $rfc },)*
                }
            }
        }
    };
}

reasons! {
    /// Why a frame was dropped.
    DropReason {
        NotContiguous = "not_contiguous", "frame spread over several buffers", "-";
        Truncated = "truncated", "shorter than its headers say", "RFC 8200 3";
        NotForUs = "not_for_us", "destination MAC address is not ours", "-";
        UnknownVlan = "unknown_vlan", "no interface has these VLAN tags on this port", "IEEE 802.1Q 8.6";
        UnknownEtherType = "unknown_ethertype", "neither IPv6 nor IPv4 nor ARP", "RFC 2464 3";
        BadVersion = "bad_version", "IP version is not that of the EtherType", "RFC 8200 3";
        Ipv4Header = "ipv4_header", "IPv4 header or total length is too small", "RFC 1812 5.2.2";
        Ipv4Checksum = "ipv4_checksum", "IPv4 header checksum is wrong", "RFC 1812 5.2.2";
        Ipv4Mapped = "ipv4_mapped", "IPv4-mapped address in an IPv6 packet", "RFC 4291 2.5.5.2";
        SourceMulticast = "source_multicast", "source is a multicast address", "RFC 4291 2.7";
        SourceLoopback = "source_loopback", "source is the loopback address", "RFC 4291 2.5.3";
        SourceBroadcast = "source_broadcast", "source is a broadcast or reserved address", "RFC 1812 5.3.7";
        SourceUnspecified = "source_unspecified", "source is unspecified and the packet would be forwarded", "RFC 4291 2.5.2";
        DestinationUnspecified = "destination_unspecified", "destination is the unspecified address", "RFC 4291 2.5.2";
        DestinationLoopback = "destination_loopback", "destination is the loopback address", "RFC 4291 2.5.3";
        DestinationBroadcast = "destination_broadcast", "destination is the limited broadcast or a reserved address", "RFC 1812 5.3.5.1";
        DirectedBroadcast = "directed_broadcast", "broadcast of a connected prefix is not forwarded", "RFC 2644 2";
        LinkLocalScope = "link_local_scope", "link-local address would leave its link", "RFC 4291 2.5.6";
        MulticastNotForwarded = "multicast_not_forwarded", "multicast is not forwarded and we do not listen to this group", "RFC 4291 2.7";
        ExtensionHeaders = "extension_headers", "extension header chain malformed or over the limit", "RFC 8200 4";
        HopLimit = "hop_limit", "hop limit would reach zero", "RFC 4443 3.3";
        NoRoute = "no_route", "no route to the destination", "RFC 4443 3.1";
        Blackhole = "blackhole", "route says discard", "-";
        PacketTooBig = "packet_too_big", "larger than the MTU of the outgoing interface", "RFC 4443 3.2";
        NeighborUnresolved = "neighbor_unresolved", "next hop did not answer address resolution", "RFC 4861 7.2.2";
        InterfaceDown = "interface_down", "outgoing interface is down or gone", "-";
        TranslationLoop = "translation_loop", "hairpin would be taken twice", "RFC 6296 4.3";
        Npt66NoMapping = "npt66_no_mapping", "address has no counterpart under the prefix pair", "RFC 6296 3.2";
        Npt66NoWord = "npt66_no_word", "no word of the interface identifier can be adjusted", "RFC 6296 3.7";
        Npt66ZeroIid = "npt66_zero_iid", "interface identifier is all zeros", "RFC 6296 3.7";
        Npt66QuoteTruncated = "npt66_quote_truncated", "ICMPv6 error quotes less than an IPv6 header", "RFC 4443 2.4";
        Npt66QuoteForeign = "npt66_quote_foreign", "ICMPv6 error quotes a packet that is not of our prefix", "draft-ietf-v6ops-rfc6296bis 3.8";
        Icmpv4Checksum = "icmpv4_checksum", "ICMP checksum is wrong", "RFC 1122 3.2.2";
        Icmpv6Checksum = "icmpv6_checksum", "ICMPv6 checksum is wrong", "RFC 4443 2.3";
        LocalProtocol = "local_protocol", "addressed to us, and nothing here takes it", "RFC 4443 3.1";
        PuntPoliced = "punt_policed", "over the rate of its punt reason", "-";
        PuntRingFull = "punt_ring_full", "control thread does not keep up", "-";
        SpreadRingFull = "spread_ring_full", "the worker that owns this flow does not keep up", "-";
        WorkerPanic = "worker_panic", "the worker panicked while it had it in work", "-";
        TxQueueFull = "tx_queue_full", "the device did not take the frame", "-";
        LispFragment = "lisp_fragment", "fragment of an encapsulated packet; they are not reassembled", "RFC 9300 16";
        LispOuterOptions = "lisp_outer_options", "encapsulated packet with IPv4 options or IPv6 extension headers", "RFC 9300 5.3";
        LispLength = "lisp_length", "UDP length of an encapsulated packet does not fit", "RFC 9300 5.3";
        LispUdpChecksum = "lisp_udp_checksum", "UDP checksum of an encapsulated packet is not 0 and wrong", "RFC 9300 5.3";
        LispEncrypted = "lisp_encrypted", "payload is encrypted, and we have no key", "RFC 8061 8";
        LispNextProtocol = "lisp_next_protocol", "LISP header announces something else than what follows", "RFC 9305 3.1";
        LispUnknownInstance = "lisp_unknown_instance", "no instance with this id here", "RFC 9300 8";
        LispInnerVersion = "lisp_inner_version", "inner packet is neither IPv4 nor IPv6", "RFC 9300 5.3";
        LispInnerLength = "lisp_inner_length", "inner packet is shorter than its header says", "RFC 9300 5.3";
        LispInnerChecksum = "lisp_inner_checksum", "inner IPv4 header checksum is wrong", "RFC 1812 5.2.2";
        LispInnerSource = "lisp_inner_source", "inner source cannot have sent this", "RFC 9300 16";
        LispInnerDestination = "lisp_inner_destination", "inner destination is not for forwarding", "RFC 9300 16";
        LispInnerHopLimit = "lisp_inner_hop_limit", "inner hop limit or TTL is zero", "RFC 9300 5.3";
        LispEcn = "lisp_ecn", "congestion experienced, and the inner packet cannot say so", "RFC 6040 4.2";
        LispNotOurEid = "lisp_not_our_eid", "inner destination is none of our EIDs, and we are no proxy", "RFC 9300 16";
        LispSourceRloc = "lisp_source_rloc", "outer source is not a locator of the inner source", "RFC 9300 16";
        LispSourceEid = "lisp_source_eid", "source is none of our EIDs, and we are no proxy", "RFC 9300 3";
        LispNoAction = "lisp_no_action", "negative mapping: no action", "RFC 9301 5.4";
        LispNegative = "lisp_negative", "negative mapping: drop", "RFC 9301 5.4";
        LispPolicy = "lisp_policy", "negative mapping: denied by policy", "RFC 9301 5.4";
        LispAuthentication = "lisp_authentication", "negative mapping: authentication failed", "RFC 9301 5.4";
        LispNoLocator = "lisp_no_locator", "no locator of the mapping can be used", "RFC 9300 9";
        LispTooDeep = "lisp_too_deep", "would have a third LISP header", "RFC 9300 4";
        LispPathTooSmall = "lisp_path_too_small", "path to the locator carries less than 1280 bytes of IPv6", "RFC 8200 5";
        SteerNoService = "steer_no_service", "service address, but no service of it takes this protocol and port", "RFC 4443 3.1";
        SteerNoServer = "steer_no_server", "no server of the pool takes flows", "-";
        SteerUnresolved = "steer_unresolved", "the server's link-layer address is not known", "RFC 4861 7.2.2";
        SteerFragment = "steer_fragment", "fragment of a flow, and the first one did not come", "RFC 8200 4.5";
        SteerQuote = "steer_quote", "ICMPv6 error that quotes no packet of a service", "RFC 7690 3";
        SteerHeaders = "steer_headers", "headers do not say which flow it belongs to", "RFC 8200 4";
        SteerProtocol = "steer_protocol", "to a server by address translation, and of a protocol that cannot be translated", "RFC 6146 3.4";
        SteerChecksum = "steer_checksum", "UDP without a checksum cannot be translated", "RFC 8200 8.1";
        SteerNoFlow = "steer_no_flow", "to a source address of a pool, and of no flow there", "RFC 6146 3.5";
        SteerNoPort = "steer_no_port", "no port of the pool's source addresses is free for another flow", "RFC 6146 3.5.1.1";
        SteerCut = "steer_cut", "flow of a server that was cut", "RFC 9293 3.10.7.1";
        SteerRate = "steer_rate", "the service has had its new flows of this second", "-";
        SteerFlows = "steer_flows", "the service has as many flows as it may", "-";
        NoHeadroom = "no_headroom", "headers do not fit in the buffer", "-";
        NoBuffer = "no_buffer", "no buffer for a fragment", "-";
        NotFragmentable = "not_fragmentable", "too large, and cannot be cut into few fragments", "RFC 791 3.2";
    }
}

reasons! {
    /// Why a frame was handed to the control thread.
    PuntReason {
        NeighborDiscovery = "nd", "neighbour discovery message", "RFC 4861 7";
        NeighborMiss = "neighbor_miss", "next hop on link needs address resolution", "RFC 4861 7.2.2";
        Echo = "echo", "echo request to one of our addresses", "RFC 4443 4.1";
        Arp = "arp", "ARP message", "RFC 826";
        LispControl = "lisp_control", "LISP control message to an own RLOC", "RFC 9301 5";
        PathMtu = "path_mtu", "ICMP error that tells of the path to a locator", "RFC 9300 7.2";
        MapCacheMiss = "map_cache_miss", "destination EID has no mapping yet", "RFC 9300 6";
        DynamicEid = "dynamic_eid", "packet of an EID host that is not known to be here", "RFC 9301 6.1";
        Health = "health", "answer to a health check of ours", "-";
        Local = "local", "other ICMPv6 message to one of our addresses", "RFC 4443 2.4";
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut seen = HashSet::new();
        let names = DropReason::ALL.iter().map(|r| ("drop", r.info().name));
        for (kind, name) in names.chain(PuntReason::ALL.iter().map(|r| ("punt", r.info().name))) {
            assert!(seen.insert((kind, name)), "{name} twice");
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn index_is_the_position() {
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), position);
        }
    }
}
