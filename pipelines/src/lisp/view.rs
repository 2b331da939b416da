//! What one batch looks at: settings, own RLOCs, instances, and the shared map-cache.

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dataplane::reason::DropReason;
use dataplane::table::lpm::{Range, View4, View6};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::lisp::DATA_PORT;
use ipnet::IpNet;

use super::cache::MapCache;
use super::encap;
use super::flow;
use super::spec::{Act, Dscp, Miss, RLOCS_MAX, Roles, Settings};
use super::table::{Kind, LEAF, Locator, Shared};
use super::template::{IPV4_LEN, overhead};
use crate::meta::Meta;
use crate::tables::{InterfaceId, VrfId};

/// How headers are made and read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// What of the inner traffic class goes into the outer one: all of it, or congestion notification alone.
    pub(crate) class_mask: u8,
    /// RFC 9305.
    pub(crate) gpe: bool,
}

/// An instance, as the graph reads it.
pub(crate) struct Instance {
    pub(crate) id: u32,
    pub(crate) vrf: VrfId,
    /// An interface of its VRF, for errors about what was decapsulated; else one of the underlay.
    pub(crate) interface: InterfaceId,
    /// Own EID prefixes, prefixes whose hosts may be at any site, and those of them that are here: [`Role`] by address.
    pub(crate) first6: First6,
    pub(crate) eids6: View6,
    pub(crate) eids4: View4,
    /// Some hosts may be at any site.
    pub(crate) has_dynamic: bool,
    /// The mapping that leads to the proxy ETRs; 0: there are none.
    pub(crate) petr: u32,
}

/// What an address is to an instance, as the leaf of a prefix table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Role {
    /// An EID of the site.
    Own = 1,
    /// One of a host that may be at any site, and is not known to be here.
    Dynamic,
    /// The same of one that is here.
    Here,
}

/// The first own IPv6 EID prefix, if it has at most 64 bits and no host in it may be elsewhere, as its bits stand in a
/// packet: most sites have one, and are asked for it with every packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct First6 {
    mask: u64,
    value: u64,
}

impl First6 {
    /// Of these prefixes.
    pub(crate) fn of(eids: &[IpNet], dynamic: &[IpNet]) -> Self {
        let is_fixed = |eid: &IpNet| {
            let mut dynamic = dynamic.iter();
            !dynamic.any(|other| eid.contains(other) || other.contains(eid))
        };
        let first = eids.iter().find_map(|eid| match eid {
            IpNet::V6(fixed) if is_fixed(eid) => Some(fixed),
            _ => None,
        });
        // Nothing has these bits.
        let none = Self { mask: 0, value: 1 };
        first
            .filter(|eid| eid.prefix_len() <= 64)
            .map_or(none, |eid| {
                let upper = |address: std::net::Ipv6Addr| {
                    let [half, _] = *address.octets().as_chunks::<8>().0 else {
                        unreachable!("16 bytes are two halves")
                    };
                    u64::from_ne_bytes(half)
                };
                Self {
                    mask: upper(eid.netmask()),
                    value: upper(eid.network()),
                }
            })
    }

    /// The first 64 bits of its first and last address.
    #[inline(always)]
    pub(crate) fn ends(self) -> Option<(u64, u64)> {
        let is_one = self.value & !self.mask == 0;
        let last = self.value | !self.mask;
        is_one.then_some((u64::from_be(self.value), u64::from_be(last)))
    }

    #[inline(always)]
    pub(crate) fn contains(self, address: &[u8; 16]) -> bool {
        let upper = address.first_chunk::<8>().expect("8 of 16 bytes");
        u64::from_ne_bytes(*upper) & self.mask == self.value
    }
}

impl Instance {
    /// Whether the address, in network order, is an own EID, or one of a host that may be here.
    #[inline(always)]
    pub(crate) fn is_own(&self, address: &[u8; 16], is_v4: bool) -> bool {
        (!is_v4 && self.first6.contains(address)) || self.leaf(address, is_v4) != 0
    }

    /// Whether the address is that of a host that may be here, and is not known to be.
    #[inline(always)]
    pub(crate) fn is_roaming(&self, address: &[u8; 16], is_v4: bool) -> bool {
        self.has_dynamic && self.leaf(address, is_v4) == Role::Dynamic as u32 // `as`: its number
    }

    #[inline(always)]
    fn leaf(&self, address: &[u8; 16], is_v4: bool) -> u32 {
        if is_v4 {
            let [.., a, b, c, d] = *address;
            self.eids4.lookup(&u32::from_be_bytes([a, b, c, d]))
        } else {
            self.eids6.lookup(address)
        }
    }
}

/// The whole of LISP in one version of the tables.
pub(crate) struct Lisp {
    pub(crate) shared: Arc<Shared>,
    pub(crate) rules: Rules,
    pub(crate) udp_checksum: bool,
    pub(crate) roles: Roles,
    pub(crate) miss: Miss,
    pub(crate) check_source_rloc: bool,
    pub(crate) seed: u64,
    pub(crate) underlay: VrfId,
    own6: ArrayVec<[u8; 16], RLOCS_MAX>,
    own4: ArrayVec<[u8; 4], RLOCS_MAX>,
    /// By instance id.
    instances: Box<[Instance]>,
}

/// Where the packet of a mapping goes.
#[derive(Clone, Copy)]
pub(crate) enum Way<'t> {
    /// To this locator.
    Encap(Locator<'t>),
    /// By this next hop, as if there were no LISP.
    Native(u32),
    /// A miss. With the next hop it would have without LISP, for [`Miss::Native`].
    Miss(u32),
    /// Nowhere.
    Drop(DropReason),
}

impl Lisp {
    pub(crate) fn new(cache: &MapCache, instances: Vec<Instance>) -> Self {
        let settings: &Settings = cache.settings();
        let own = settings.own_rlocs.iter();
        let mut instances = instances;
        instances.sort_by_key(|instance| instance.id);
        Self {
            shared: Arc::clone(cache.shared()),
            rules: Rules {
                class_mask: match settings.dscp {
                    Dscp::Uniform => 0xff,
                    Dscp::Pipe => 0x03,
                },
                gpe: settings.gpe,
            },
            udp_checksum: settings.udp_checksum,
            roles: settings.roles,
            miss: settings.miss,
            check_source_rloc: settings.check_source_rloc,
            seed: settings.seed,
            underlay: settings.underlay,
            own6: own
                .clone()
                .filter_map(|own| match own {
                    IpAddr::V6(own) => Some(own.octets()),
                    IpAddr::V4(_) => None,
                })
                .take(RLOCS_MAX)
                .collect(),
            own4: own
                .filter_map(|own| match own {
                    IpAddr::V4(own) => Some(own.octets()),
                    IpAddr::V6(_) => None,
                })
                .take(RLOCS_MAX)
                .collect(),
            instances: instances.into(),
        }
    }

    /// Whether this is an own RLOC.
    pub(crate) fn is_own_rloc(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.own4.contains(&address.octets()),
            IpAddr::V6(address) => self.own6.contains(&address.octets()),
        }
    }

    /// Whether an own IPv6 RLOC has an address in this range.
    pub(crate) fn has_rloc_in(&self, range: &Range) -> bool {
        let prefix = |rloc: &[u8; 16]| *rloc.first_chunk().expect("8 of 16 bytes");
        let mut rlocs = self.own6.iter().map(prefix);
        rlocs.any(|prefix| range.contains(u64::from_be_bytes(prefix)))
    }

    /// Whether this outer packet is one to open: UDP to the LISP port of an own RLOC, without options or extension
    /// headers.
    #[inline(always)]
    pub(crate) fn is_for_us(&self, packet: &[u8], is_v4: bool) -> bool {
        let to_port = |datagram: &[u8]| {
            datagram
                .get(2..4)
                .is_some_and(|port| port == DATA_PORT.to_be_bytes())
        };
        if is_v4 {
            let Some((header, datagram)) = packet.split_first_chunk::<IPV4_LEN>() else {
                return false;
            };
            header[0] == 0x45
                && header[9] == proto::UDP
                && to_port(datagram)
                // Whole: no more fragments, no offset.
                && header[6] & 0x3f == 0
                && header[7] == 0
                && self.own4.iter().any(|own| header[16..] == *own)
        } else {
            let Some((header, datagram)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()
            else {
                return false;
            };
            header[6] == proto::UDP
                && to_port(datagram)
                && self.own6.iter().any(|own| header[24..] == *own)
        }
    }

    /// The source port of a packet that we encapsulated.
    pub(crate) fn outer_port(&self, packet: &[u8], is_v4: bool) -> Option<u16> {
        let (is_own, header_len, protocol_at) = if is_v4 {
            let source = packet.get(12..16)?;
            (self.own4.iter().any(|own| source == own), IPV4_LEN, 9)
        } else {
            let source = packet.get(8..24)?;
            let is_own = self.own6.iter().any(|own| source == own);
            (is_own, ipv6::HEADER_LEN, 6)
        };
        let [a, b, c, d] = *packet.get(header_len..)?.first_chunk()?;
        let is_outer = is_own
            && packet.get(protocol_at) == Some(&proto::UDP)
            && [c, d] == DATA_PORT.to_be_bytes();
        is_outer.then_some(u16::from_be_bytes([a, b]))
    }

    /// The instance of a header, and its position.
    #[inline(always)]
    pub(crate) fn instance(&self, id: u32) -> Option<(u16, &Instance)> {
        match &*self.instances {
            [only] => (only.id == id).then_some((0, only)),
            all => {
                let at = all.binary_search_by_key(&id, |instance| instance.id).ok()?;
                Some((at as u16, all.get(at)?)) // `as`: each has a VRF of its own, of which there are fewer than 2^16
            }
        }
    }

    /// An instance by its position.
    #[inline(always)]
    pub(crate) fn instance_at(&self, position: u16) -> Option<&Instance> {
        self.instances.get(usize::from(position))
    }

    /// The position of the instance by which a packet came.
    pub(crate) fn position_of(&self, meta: &Meta) -> Option<u16> {
        let mut numbered = (0..).zip(&self.instances);
        let found = numbered.find(|(_, instance)| meta.is_decapsulated && instance.vrf == meta.vrf);
        found.map(|(position, _)| position)
    }

    /// The instance whose EIDs are in a VRF.
    #[inline]
    pub(crate) fn instance_of(&self, vrf: VrfId) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.vrf == vrf)
    }

    /// Whether a received IPv6 packet of this instance may be encapsulated without further ado: an ITR does so for its own
    /// EIDs, a proxy for everybody; of a host that is not known to be here the control thread is told first.
    #[inline(always)]
    pub(crate) fn takes(&self, instance: Option<&Instance>, packet: &[u8]) -> bool {
        let source = packet.get(8..24).and_then(|source| source.first_chunk());
        let (Some(instance), Some(source)) = (instance, source) else {
            return self.roles.pitr;
        };
        (self.roles.pitr || (self.roles.itr && instance.is_own(source, false)))
            && !instance.is_roaming(source, false)
    }

    /// Addresses whose packets it [takes](Lisp::takes) for sure, on links of this instance; `None`: there are none.
    #[inline(always)]
    pub(crate) fn common_sources(&self, instance: &Instance) -> Option<First6> {
        if self.roles.pitr && !instance.has_dynamic {
            return Some(First6 { mask: 0, value: 0 });
        }
        (self.roles.pitr || self.roles.itr).then_some(instance.first6)
    }

    /// The hash of a packet's flow.
    #[inline(always)]
    pub(crate) fn hash(&self, packet: &[u8], is_v4: bool) -> u64 {
        if is_v4 {
            flow::of_v4(self.seed, packet)
        } else {
            flow::of_v6(self.seed, packet)
        }
    }

    /// Where the packet goes whose longest prefix has this leaf.
    pub(crate) fn way(&self, vrf: VrfId, leaf: u32, hash: u64) -> Way<'_> {
        let set = self.shared.set_of(leaf);
        match self.shared.locator_of(set, hash) {
            0 => self.way_without_locator(vrf, set, hash),
            locator => Way::Encap(self.shared.locator(locator)),
        }
    }

    /// The same for a set that has no locator for the flow.
    #[inline(never)]
    pub(crate) fn way_without_locator(&self, vrf: VrfId, set: u32, hash: u64) -> Way<'_> {
        match self.shared.kind(set) {
            Kind::Locators => Way::Drop(DropReason::LispNoLocator),
            Kind::Negative(act, native) => match act {
                Act::NoAction => Way::Drop(DropReason::LispNoAction),
                Act::Native => Way::Native(native),
                Act::SendMapRequest => Way::Miss(native),
                Act::Drop => Way::Drop(DropReason::LispNegative),
                Act::PolicyDenied => Way::Drop(DropReason::LispPolicy),
                Act::AuthFailure => Way::Drop(DropReason::LispAuthentication),
                Act::Petr => self
                    .petr(vrf, hash)
                    .map_or(Way::Drop(DropReason::LispNoLocator), Way::Encap),
            },
        }
    }

    /// A proxy ETR.
    pub(crate) fn petr(&self, vrf: VrfId, hash: u64) -> Option<Locator<'_>> {
        let set = self.shared.set_of(self.instance_of(vrf)?.petr);
        match self.shared.locator_of(set, hash) {
            0 => None,
            locator => Some(self.shared.locator(locator)),
        }
    }

    /// Whether the outer source is one of the locators that an inner source is mapped to (D-27). A source without a
    /// mapping is nobody's.
    pub(crate) fn is_from_its_locator(&self, leaf: u32, outer: &[u8], is_v4: bool) -> bool {
        let source = if is_v4 {
            let source = outer.get(12..16).and_then(|source| source.first_chunk());
            source.map(|source| u128::from(std::net::Ipv4Addr::from(*source).to_ipv6_mapped()))
        } else {
            let source = outer.get(8..24).and_then(|source| source.first_chunk());
            source.map(|source| u128::from_be_bytes(*source))
        };
        leaf & LEAF != 0
            && self
                .shared
                .slots(self.shared.set_of(leaf))
                .any(|locator| Some(locator.rloc()) == source)
    }

    /// The longest packet that fits to this locator, by the MTU of the underlay's next hop and what was learned of the
    /// path (F-02, F-06).
    #[inline(always)]
    pub(crate) fn room(&self, locator: Locator<'_>, mtu: u16) -> u16 {
        let state = locator.state();
        mtu.min(state.path_mtu)
            .saturating_sub(overhead(state.is_v4))
    }

    /// Whether this packet must not be encapsulated because it is twice already (D-19).
    #[inline(always)]
    pub(crate) fn is_too_deep(&self, packet: &[u8], is_v4: bool) -> bool {
        // Only what goes to the port can be; seldom anything does.
        let port = if is_v4 {
            packet.get(22..24)
        } else {
            packet.get(42..44)
        };
        port.is_some_and(|port| port == DATA_PORT.to_be_bytes()) && encap::is_nested(packet, is_v4)
    }
}
