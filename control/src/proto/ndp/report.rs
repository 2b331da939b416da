//! What the machine tells people: why a message was invalid, what it counted, what happened.

use std::net::IpAddr;

use dataplane::wire::ethernet::Mac;

use super::InterfaceIndex;

macro_rules! registry {
    ($(#[$doc:meta])* $enum:ident { $($variant:ident = $name:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $enum {
            $(#[doc = $text] $variant,)*
        }

        impl $enum {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable name, snake case: the key in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// One line for a person.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            const fn index(self) -> usize {
                self as usize // `as`: a fieldless repr(u8) enum
            }
        }
    };
}

registry! {
    /// Why a message was discarded unread. Nothing is changed by such a message.
    Invalid {
        Truncated = "truncated", "shorter than its headers say, or neither IPv6 (RFC 8200 3) nor ARP";
        ExtensionHeaders = "extension_headers", "extension header chain malformed (RFC 8200 4)";
        Fragmented = "fragmented", "neighbour discovery in a fragment (RFC 6980 5)";
        NotIcmpv6 = "not_icmpv6", "no ICMPv6 message for us in it";
        UnknownType = "unknown_type", "not a neighbour discovery or MLD query type";
        HopLimit = "hop_limit", "hop limit is not 255: it has been forwarded (RFC 4861 7.1)";
        Checksum = "checksum", "ICMPv6 checksum is wrong (RFC 4861 7.1)";
        Code = "code", "ICMPv6 code is not 0 (RFC 4861 7.1)";
        Length = "length", "shorter than its type needs (RFC 4861 7.1)";
        OptionLength = "option_length", "option of length zero, of the wrong length, or cut short (RFC 4861 7.1)";
        LinkLayerAddress = "link_layer_address", "link-layer address option holds a group or zero address";
        SourceMulticast = "source_multicast", "source is a multicast address (RFC 4291 2.7)";
        TargetMulticast = "target_multicast", "target is a multicast address (RFC 4861 7.1)";
        ProbeDestination = "probe_destination", "unspecified source, and not to a solicited-node group (RFC 4861 7.1.1)";
        ProbeWithSourceAddress = "probe_with_source_address", "unspecified source with a source link-layer address (RFC 4861 7.1.1)";
        SolicitedMulticast = "solicited_multicast", "solicited flag in a multicast advertisement (RFC 4861 7.1.2)";
        QuerySource = "query_source", "MLD query whose source is not link-local (RFC 3810 5.1.14)";
        QueryRouterAlert = "query_router_alert", "MLD query without Router Alert (RFC 3810 6.2)";
        ArpKind = "arp_kind", "ARP for another hardware or protocol than Ethernet and IPv4 (RFC 826)";
        ArpOperation = "arp_operation", "ARP message that is neither request nor reply (RFC 826)";
        ArpSender = "arp_sender", "ARP sender is no host: a group's MAC address, or not a unicast IPv4 address";
        NoInterface = "no_interface", "interface unknown or down";
    }
}

registry! {
    /// What the machine counts beside invalid messages.
    Counter {
        SolicitationsReceived = "solicitations_received", "valid neighbour solicitations";
        AdvertisementsReceived = "advertisements_received", "valid neighbour advertisements";
        RouterSolicitationsReceived = "router_solicitations_received", "valid router solicitations, ignored";
        RouterAdvertisementsReceived = "router_advertisements_received", "router advertisements, ignored";
        RedirectsReceived = "redirects_received", "redirects, ignored: a router takes none (RFC 4861 8.2)";
        QueriesReceived = "queries_received", "valid MLD queries";
        SolicitationsSent = "solicitations_sent", "neighbour solicitations";
        ProbesSent = "probes_sent", "probes of duplicate address detection";
        AdvertisementsSent = "advertisements_sent", "answers to solicitations for own addresses";
        ProxyAdvertisementsSent = "proxy_advertisements_sent", "answers to solicitations for translated prefixes";
        AnnouncementsSent = "announcements_sent", "unsolicited advertisements";
        ReportsSent = "reports_sent", "MLD reports";
        ArpRequestsReceived = "arp_requests_received", "valid ARP requests";
        ArpRepliesReceived = "arp_replies_received", "valid ARP replies";
        ArpRequestsSent = "arp_requests_sent", "ARP requests";
        ArpProbesSent = "arp_probes_sent", "ARP probes of own addresses (RFC 5227 2.1)";
        ArpRepliesSent = "arp_replies_sent", "answers to ARP requests for own addresses";
        ArpAnnouncementsSent = "arp_announcements_sent", "ARP announcements of own addresses (RFC 5227 2.3)";
        ArpDefencesSent = "arp_defences_sent", "ARP announcements in defence of own addresses (RFC 5227 2.4)";
        ArpForOthers = "arp_for_others", "ARP messages that neither concern us nor an address in use here";
        SolicitationsForOthers = "solicitations_for_others", "solicitations whose target is not ours";
        SolicitationsForTentative = "solicitations_for_tentative", "solicitations for an address not yet, or not, ours (RFC 4862 5.4.3, RFC 5227 2.1)";
        ProxyProbesIgnored = "proxy_probes_ignored", "probes for an address of a translated prefix, left unanswered";
        ProxyLeftToNeighbor = "proxy_left_to_neighbor", "solicitations in a translated prefix for a real neighbour";
        Looped = "looped", "own messages that came back";
        AdvertisementsUnknown = "advertisements_unknown", "advertisements about nobody we may learn (RFC 4861 7.2.5)";
        SourceNotOnLink = "source_not_on_link", "solicitations answered, but not learned from: source is not on-link";
        CacheFull = "cache_full", "neighbours not learned or resolved: the cache is full";
        Evicted = "evicted", "unused neighbours evicted to make room";
        IncompleteLimit = "incomplete_limit", "resolutions refused: too many are running (RFC 6583 7)";
        RateLimited = "rate_limited", "resolutions refused: too many were begun (RFC 6583 7)";
        QueueFull = "queue_full", "packets pushed out of a neighbour's queue (RFC 4861 7.2.2)";
        ResolutionsFailed = "resolutions_failed", "neighbours that did not answer";
        SolicitationsWithoutSource = "solicitations_without_source", "solicitations not sent: no own address is valid yet";
        EventsSuppressed = "events_suppressed", "events beyond the rate of their interface";
    }
}

/// The machine's counters since it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    counts: [u64; Counter::ALL.len()],
    invalid: [u64; Invalid::ALL.len()],
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            counts: [0; Counter::ALL.len()],
            invalid: [0; Invalid::ALL.len()],
        }
    }

    pub(super) fn add(&mut self, counter: Counter) {
        self.counts[counter.index()] += 1;
    }

    pub(super) fn add_invalid(&mut self, reason: Invalid) {
        self.invalid[reason.index()] += 1;
    }

    /// One counter.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts[counter.index()]
    }

    /// Messages discarded for this reason.
    #[must_use]
    pub fn invalid(&self, reason: Invalid) -> u64 {
        self.invalid[reason.index()]
    }

    /// Every counter with its value.
    pub fn counts(&self) -> impl Iterator<Item = (Counter, u64)> + '_ {
        Counter::ALL.iter().copied().zip(self.counts)
    }

    /// Every reason with the number of messages discarded for it.
    pub fn invalid_counts(&self) -> impl Iterator<Item = (Invalid, u64)> + '_ {
        Invalid::ALL.iter().copied().zip(self.invalid)
    }
}

/// Something an operator may want in the log. Those that strangers on the link can cause come at a bounded rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Duplicate address detection found nobody: the address is ours.
    AddressValid {
        /// Where.
        interface: InterfaceIndex,
        /// Which.
        address: IpAddr,
    },
    /// Somebody else has the address; it is not used (RFC 4862 5.4.5). Tried again when the link comes up.
    AddressDuplicate {
        /// Where.
        interface: InterfaceIndex,
        /// Which.
        address: IpAddr,
        /// The other's Ethernet source address.
        by: Mac,
    },
    /// Somebody else claims an address that is ours and in use.
    AddressConflict {
        /// Where.
        interface: InterfaceIndex,
        /// Which.
        address: IpAddr,
        /// The other's Ethernet source address.
        by: Mac,
    },
    /// A probe of ours came back: the link loops frames (RFC 7527 4.2).
    ProbeLooped {
        /// Where.
        interface: InterfaceIndex,
        /// Of which address.
        address: IpAddr,
    },
    /// A gateway has a link-layer address now.
    GatewayResolved {
        /// Where.
        interface: InterfaceIndex,
        /// Which.
        address: IpAddr,
        /// Its link-layer address.
        mac: Mac,
    },
    /// A gateway does not answer; it is asked again and again.
    GatewayUnreachable {
        /// Where.
        interface: InterfaceIndex,
        /// Which.
        address: IpAddr,
    },
    /// A neighbour has another link-layer address than before.
    NeighborMoved {
        /// Where.
        interface: InterfaceIndex,
        /// Which.
        address: IpAddr,
        /// Before.
        from: Mac,
        /// Now.
        to: Mac,
    },
    /// A gateway says that it is no longer a router (RFC 4861 7.2.5).
    GatewayNotRouter {
        /// Where.
        interface: InterfaceIndex,
        /// Which.
        address: IpAddr,
    },
    /// The cache of an interface is full of neighbours in use.
    CacheFull {
        /// Where.
        interface: InterfaceIndex,
    },
}
