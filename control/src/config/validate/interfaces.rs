//! Interfaces: names, VLANs, VRFs and own addresses. What routes and neighbours ask of them afterwards.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::addresses::{is_link_local_host, not_a_host, not_global};
use super::names::{Names, Seen};
use crate::config::error::{Place, Sink};
use crate::config::file::InterfaceTable;
use crate::config::model::Interface;
use crate::config::problem::Problem;
use crate::config::reader::{Field, end_of_file};

/// IPv6 MTU of an interface, bytes.
pub(super) const MTU_DEFAULT: u16 = 1500;
/// Interfaces of one configuration, most.
const INTERFACES_MAX: usize = 4096;
/// The VRF that is always there.
const VRF_DEFAULT: &str = "main";

/// Interfaces that were judged.
pub(super) struct Interfaces {
    list: Vec<Interface>,
    names: Names,
    vrfs: Names,
    connected: Connected,
    /// Own addresses, by VRF.
    own: HashMap<(usize, IpAddr), usize>,
    /// Whether all addresses are known; otherwise nothing can be said to be off link.
    addresses_are_complete: bool,
}

/// Connected prefixes of every VRF.
#[derive(Default)]
struct Connected {
    lengths: BTreeSet<u8>,
    prefixes: HashMap<(usize, IpNet), (usize, Place)>,
}

impl Connected {
    /// The most specific connected prefix with this one in it, at most `longest` bits, its interface and its place.
    fn covering(&self, vrf: usize, prefix: IpNet, longest: u8) -> Option<(IpNet, usize, &Place)> {
        self.lengths
            .range(..=longest.min(prefix.prefix_len()))
            .rev()
            .find_map(|length| {
                let wider = IpNet::new_assert(prefix.addr(), *length).trunc();
                let (interface, place) = self.prefixes.get(&(vrf, wider))?;
                Some((wider, *interface, place))
            })
    }
}

impl Interfaces {
    /// VRF names and interfaces.
    pub(super) fn into_model(self) -> (Vec<String>, Vec<Interface>) {
        (self.vrfs.order().to_vec(), self.list)
    }

    /// All of them, in the order of the file.
    pub(super) fn list(&self) -> &[Interface] {
        &self.list
    }

    pub(super) fn interface(&self, index: usize) -> &Interface {
        &self.list[index]
    }

    /// The VRF of an interface; the default one where there is no interface.
    pub(super) fn vrf_of(&self, index: usize) -> usize {
        self.list.get(index).map_or(0, |interface| interface.vrf)
    }

    pub(super) fn name(&self, index: usize) -> &str {
        &self.list[index].name
    }

    pub(super) fn resolve(&self, reference: &Field<String>, sink: &mut Sink<'_>) -> Option<usize> {
        self.names.resolve(reference, sink)
    }

    /// The VRF a route names; `None` if it names none that exists.
    pub(super) fn resolve_vrf(
        &self,
        reference: &Field<String>,
        sink: &mut Sink<'_>,
    ) -> Option<usize> {
        match reference {
            Field::Absent => Some(0),
            _ => self.vrfs.resolve(reference, sink),
        }
    }

    pub(super) fn vrf_name(&self, index: usize) -> &str {
        self.vrfs
            .order()
            .get(index)
            .map_or(VRF_DEFAULT, String::as_str)
    }

    /// Whose own address this is in the VRF.
    pub(super) fn owner(&self, vrf: usize, address: IpAddr) -> Option<usize> {
        self.own.get(&(vrf, address)).copied()
    }

    /// Say so if this is no own address of the VRF.
    pub(super) fn check_own(&self, vrf: usize, found: IpAddr, place: &Place, sink: &mut Sink<'_>) {
        if !self.addresses_are_complete || self.owner(vrf, found).is_some() {
            return;
        }
        let of_vrf = self.list().iter().filter(|one| one.vrf == vrf);
        let own = of_vrf.flat_map(|one| &one.addresses).map(IpNet::addr);
        let own = own.filter(|own| own.is_ipv6() == found.is_ipv6());
        let problem = Problem::NotOwnAddress {
            found,
            vrf: self.vrf_name(vrf).to_owned(),
            expected: own.map(|own| own.to_string()).collect(),
        };
        sink.push(place, problem);
    }

    /// The connected prefix an address of the VRF is on, and its interface.
    pub(super) fn on_link(&self, vrf: usize, address: IpAddr) -> Option<(IpNet, usize)> {
        let host = IpNet::from(address);
        self.connected
            .covering(vrf, host, host.prefix_len())
            .map(|(prefix, interface, _)| (prefix, interface))
    }

    /// Whose connected prefix exactly this is.
    pub(super) fn connected_owner(&self, vrf: usize, prefix: IpNet) -> Option<(usize, &Place)> {
        self.connected
            .prefixes
            .get(&(vrf, prefix))
            .map(|(interface, place)| (*interface, place))
    }

    pub(super) fn addresses_are_complete(&self) -> bool {
        self.addresses_are_complete
    }
}

pub(super) fn interfaces(
    tables: Field<Vec<InterfaceTable>>,
    ports: &Names,
    sink: &mut Sink<'_>,
) -> Interfaces {
    let mut reading = Reading::new(ports);
    if tables.is_absent() {
        let expected = "at least one interface";
        sink.push(&end_of_file("interfaces"), Problem::Missing { expected });
    }
    let Field::Given(tables, place) = tables else {
        reading.note_incomplete();
        return reading.finish(sink);
    };
    if tables.is_empty() {
        sink.push(&place, Problem::Empty { what: "interfaces" });
    }
    let (count, maximum) = (tables.len(), INTERFACES_MAX);
    for (index, table) in tables.into_iter().enumerate() {
        if index == maximum {
            sink.push(
                &table.place,
                Problem::TooMany {
                    found: count,
                    what: "interfaces",
                    maximum,
                },
            );
        }
        reading.add(index, table, sink);
    }
    reading.finish(sink)
}

/// Interfaces being judged.
struct Reading<'a> {
    ports: &'a Names,
    list: Vec<Interface>,
    names: Names,
    vrfs: Names,
    tags: Seen<(usize, Vec<u16>)>,
    own_places: Seen<(usize, IpAddr)>,
    own: HashMap<(usize, IpAddr), usize>,
    /// (VRF, prefix, interface, place), in the order of the file.
    prefixes: Vec<(usize, IpNet, usize, Place)>,
    addresses_are_complete: bool,
}

impl<'a> Reading<'a> {
    fn new(ports: &'a Names) -> Self {
        let mut vrfs = Names::new("VRF");
        vrfs.declare(VRF_DEFAULT);
        Self {
            ports,
            list: Vec::new(),
            names: Names::new("interface"),
            vrfs,
            tags: Seen::default(),
            own_places: Seen::default(),
            own: HashMap::new(),
            prefixes: Vec::new(),
            addresses_are_complete: true,
        }
    }

    /// Nothing is known of what there is.
    fn note_incomplete(&mut self) {
        self.names.note_incomplete();
        self.vrfs.note_incomplete();
        self.addresses_are_complete = false;
    }

    fn add(&mut self, index: usize, table: InterfaceTable, sink: &mut Sink<'_>) {
        let port = self.ports.resolve(&table.port, sink);
        let implied = table
            .port
            .given()
            .map(|(name, place)| (name.as_str(), place));
        let name = match &table.name {
            Field::Absent => implied,
            field => field.given().map(|(name, place)| (name.as_str(), place)),
        };
        self.names.add(index, name, sink);
        let name = name.map_or_else(String::new, |(name, _)| name.to_owned());

        let vlan: Option<Vec<u16>> = match &table.vlan {
            Field::Given(list, _) => list
                .is_complete
                .then(|| list.items.iter().map(|(id, _)| *id).collect()),
            Field::Absent => Some(Vec::new()),
            Field::Invalid => None,
        };
        if let (Some(port), Some(vlan)) = (port, &vlan) {
            let place = table
                .vlan
                .given()
                .map_or_else(|| table.place.child("vlan"), |(_, place)| place.clone());
            if let Some(first) = self.tags.insert((port, vlan.clone()), &place) {
                let found = if vlan.is_empty() {
                    "[] (untagged)".to_owned()
                } else {
                    format!("{vlan:?}")
                };
                let problem = Problem::Duplicate {
                    what: "VLAN stack",
                    found,
                    scope: "once on a port",
                };
                sink.push_related(&place, problem, first, "first here");
            }
        }

        let vrf = match &table.vrf {
            Field::Given(name, _) => Some(self.vrfs.declare(name)),
            Field::Absent => Some(0),
            Field::Invalid => None,
        };
        if vrf.is_none() {
            self.vrfs.note_incomplete();
            self.addresses_are_complete = false;
        }
        if let Some((address, place)) = table.link_local.given()
            && !is_link_local_host(*address)
        {
            let kind = "is not the link-local address of a host";
            let expected = "an address in fe80::/64 other than fe80::";
            sink.push(
                place,
                Problem::WrongKind {
                    found: address.to_string(),
                    kind,
                    expected,
                },
            );
        }
        self.addresses_are_complete &= match &table.addresses {
            Field::Given(list, _) => list.is_complete,
            Field::Absent => true,
            Field::Invalid => false,
        };
        let mut addresses = Vec::new();
        for (address, place) in table
            .addresses
            .optional()
            .map_or_else(Vec::new, |list| list.items)
        {
            if !check_own_address(address, &place, sink) {
                self.addresses_are_complete = false;
                continue;
            }
            addresses.push(address);
            let Some(vrf) = vrf else { continue };
            if let Some(first) = self.own_places.insert((vrf, address.addr()), &place) {
                let found = address.addr().to_string();
                let problem = Problem::Duplicate {
                    what: "address",
                    found,
                    scope: "once in a VRF",
                };
                sink.push_related(&place, problem, first, "first here");
                continue;
            }
            self.own.insert((vrf, address.addr()), index);
            self.prefixes.push((vrf, address.trunc(), index, place));
        }
        self.list.push(Interface {
            name,
            port: port.unwrap_or(0),
            vlan: vlan.unwrap_or_default(),
            mtu: table.mtu.or(MTU_DEFAULT),
            vrf: vrf.unwrap_or(0),
            addresses,
            link_local: table.link_local.optional(),
        });
    }

    fn finish(self, sink: &mut Sink<'_>) -> Interfaces {
        let connected = connected(self.prefixes, &self.list, sink);
        Interfaces {
            list: self.list,
            names: self.names,
            vrfs: self.vrfs,
            connected,
            own: self.own,
            addresses_are_complete: self.addresses_are_complete,
        }
    }
}

/// Whether an address may be our own.
fn check_own_address(address: IpNet, place: &Place, sink: &mut Sink<'_>) -> bool {
    let host = address.addr();
    let (unicast, lengths) = match address {
        IpNet::V4(_) => ("a unicast address", "a length of 1 to 32"),
        IpNet::V6(_) => (
            "a global or unique local unicast address",
            "a length of 1 to 128",
        ),
    };
    let is_link_local = matches!(host, IpAddr::V6(host) if host.is_unicast_link_local());
    let (kind, expected) = if is_link_local {
        (
            "is a link-local address",
            "a global or unique local address; link-local ones go into link_local",
        )
    } else if let Some(kind) = not_global(host) {
        (kind, unicast)
    } else if address.prefix_len() == 0 {
        ("puts every address on the link", lengths)
    } else if let Some(kind) = not_a_host(host, address) {
        (kind, "an address with a host part")
    } else {
        return true;
    };
    sink.push(
        place,
        Problem::WrongKind {
            found: address.to_string(),
            kind,
            expected,
        },
    );
    false
}

/// Connected prefixes; those of two interfaces of one VRF must not overlap.
fn connected(
    mut prefixes: Vec<(usize, IpNet, usize, Place)>,
    interfaces: &[Interface],
    sink: &mut Sink<'_>,
) -> Connected {
    let mut connected = Connected::default();
    // Shorter ones first, so that a prefix is compared with those that may contain it.
    prefixes.sort_by_key(|(_, prefix, _, place)| (prefix.prefix_len(), place.span.start));
    for (vrf, prefix, interface, place) in prefixes {
        let covering = connected.covering(vrf, prefix, prefix.prefix_len());
        if let Some((other, owner, other_place)) =
            covering.filter(|(_, owner, _)| *owner != interface)
        {
            let (owner, found) = (interfaces.get(owner), interfaces.get(interface));
            let name = |interface: Option<&Interface>| {
                format!(
                    "interface {:?}",
                    interface.map_or("", |interface| &interface.name)
                )
            };
            let scope = "in a VRF";
            // The later one is the mistake.
            if place.span.start > other_place.span.start {
                let problem = Problem::Overlap {
                    found: prefix,
                    other,
                    owner: name(owner),
                    scope,
                };
                sink.push_related(&place, problem, other_place, "the other one");
            } else {
                let problem = Problem::Overlap {
                    found: other,
                    other: prefix,
                    owner: name(found),
                    scope,
                };
                sink.push_related(other_place, problem, &place, "the other one");
            }
        }
        connected.lengths.insert(prefix.prefix_len());
        connected
            .prefixes
            .entry((vrf, prefix))
            .or_insert((interface, place));
    }
    connected
}
