//! Which sections and keys a file may have: read from the tree, each value by itself. How they fit together is
//! judged in [`validate`](super::validate).

mod health;
mod lisp;
mod steering;

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use dataplane::reason::PuntReason;
use dataplane::wire::ethernet::Mac;
use ipnet::{IpNet, Ipv6Net};
use toml::de::DeTable;

use super::error::{Place, Sink};
use super::model::{Device, HugePages, Poll, ZeroIid};
use super::reader::{Field, List, Table, Value, list, root_place};
use super::scalar::{
    address, address_v6, boolean, choice, device, integer, mac, name, own_address, prefix,
    prefix_v6, reference, socket_path,
};
pub(super) use health::{HealthTable, Kind as HealthKind, Verify};
pub(super) use lisp::{
    InstanceTable, LispTable, LocatorTable, MapServerTable, MappingTable, OwnRlocTable,
};
pub(super) use steering::{
    PoolBySourceTable, PoolTable, ServerTable, ServiceTable, SteeringTables, WhenDownWord,
};

/// A file, section by section.
pub(super) struct File {
    pub(super) system: SystemTable,
    pub(super) workers: WorkersTable,
    pub(super) ports: Field<Vec<PortTable>>,
    pub(super) interfaces: Field<Vec<InterfaceTable>>,
    pub(super) routes: Field<Vec<RouteTable>>,
    pub(super) neighbors: Field<Vec<NeighborTable>>,
    pub(super) npt66: Field<Vec<Npt66Table>>,
    pub(super) icmp: IcmpTable,
    pub(super) punt: Vec<(PuntReason, RateTable)>,
    pub(super) ndp: NdpTable,
    pub(super) lisp: Field<LispTable>,
    pub(super) steering: SteeringTables,
}

pub(super) struct SystemTable {
    pub(super) name: Field<String>,
    pub(super) admin_socket: Field<PathBuf>,
    pub(super) huge_pages: Field<HugePages>,
    pub(super) memory_mib: Field<u32>,
    pub(super) control_core: Field<usize>,
}

pub(super) struct WorkersTable {
    pub(super) cores: Field<List<usize>>,
    pub(super) poll: Field<Poll>,
    pub(super) burst: Field<usize>,
    pub(super) mbufs: Field<u32>,
}

pub(super) struct PortTable {
    pub(super) place: Place,
    pub(super) name: Field<String>,
    pub(super) device: Field<Device>,
    pub(super) rx_queues: Field<u16>,
    pub(super) tx_queues: Field<u16>,
    pub(super) rx_descriptors: Field<u16>,
    pub(super) tx_descriptors: Field<u16>,
    pub(super) promiscuous: Field<bool>,
}

pub(super) struct InterfaceTable {
    pub(super) place: Place,
    pub(super) name: Field<String>,
    pub(super) port: Field<String>,
    pub(super) vlan: Field<List<u16>>,
    pub(super) mtu: Field<u16>,
    pub(super) vrf: Field<String>,
    pub(super) addresses: Field<List<IpNet>>,
    pub(super) link_local: Field<Ipv6Addr>,
}

pub(super) struct RouteTable {
    pub(super) place: Place,
    pub(super) prefix: Field<IpNet>,
    pub(super) vrf: Field<String>,
    pub(super) next_hops: Field<List<NextHopTable>>,
    pub(super) blackhole: Field<bool>,
    pub(super) unreachable: Field<bool>,
}

pub(super) struct NextHopTable {
    pub(super) via: Field<IpAddr>,
    pub(super) interface: Field<String>,
    pub(super) weight: Field<u16>,
}

pub(super) struct NeighborTable {
    pub(super) interface: Field<String>,
    pub(super) address: Field<IpAddr>,
    pub(super) mac: Field<Mac>,
}

pub(super) struct Npt66Table {
    pub(super) name: Field<String>,
    pub(super) interface: Field<String>,
    pub(super) inside: Field<Ipv6Net>,
    pub(super) outside: Field<Ipv6Net>,
    pub(super) proxy_nd: Field<bool>,
    pub(super) zero_iid: Field<ZeroIid>,
}

pub(super) struct IcmpTable {
    pub(super) errors_per_second: Field<u32>,
    pub(super) errors_burst: Field<u32>,
}

pub(super) struct RateTable {
    pub(super) per_second: Field<u32>,
    pub(super) burst: Field<u32>,
}

pub(super) struct NdpTable {
    pub(super) max_neighbors: Field<usize>,
    pub(super) max_incomplete: Field<usize>,
    pub(super) queue_packets: Field<usize>,
    pub(super) retrans_timer_ms: Field<u64>,
    pub(super) reachable_time_ms: Field<u64>,
    pub(super) dad_transmits: Field<u32>,
}

/// Read everything; what is wrong goes to `sink`.
pub(super) fn read(tree: &DeTable<'_>, sink: &mut Sink<'_>) -> File {
    let empty = DeTable::new();
    let mut root = Table::new(tree, root_place());
    let system = system(root.section("system", &empty, sink), sink);
    let workers = workers(root.section("workers", &empty, sink), sink);
    let ports = root.tables("ports", sink, port);
    let interfaces = root.tables("interfaces", sink, interface);
    let routes = root.tables("routes", sink, route);
    let neighbors = root.tables("neighbors", sink, neighbor);
    let npt66 = root.tables("npt66", sink, npt66);
    let icmp = icmp(root.section("icmp", &empty, sink), sink);
    let punt = punt(root.section("punt", &empty, sink), &empty, sink);
    let ndp = ndp(root.section("ndp", &empty, sink), sink);
    let lisp = root.optional("lisp", sink, |value, sink| {
        let table = value.table("a table", sink)?;
        Some(lisp::lisp(table, sink))
    });
    let steering = SteeringTables {
        section: steering::section(root.section("steering", &empty, sink), sink),
        pools: root.tables("pools", sink, steering::pool),
        services: root.tables("services", sink, steering::service),
    };
    root.finish(sink);
    File {
        system,
        workers,
        ports,
        interfaces,
        routes,
        neighbors,
        npt66,
        icmp,
        punt,
        ndp,
        lisp,
        steering,
    }
}

fn system(mut table: Table<'_>, sink: &mut Sink<'_>) -> SystemTable {
    const HUGE_PAGES: [(&str, HugePages); 3] = [
        ("auto", HugePages::Auto),
        ("require", HugePages::Require),
        ("off", HugePages::Off),
    ];
    let read = SystemTable {
        name: table.optional("name", sink, name),
        admin_socket: table.optional("admin_socket", sink, socket_path),
        huge_pages: table.optional("huge_pages", sink, choice(&HUGE_PAGES)),
        memory_mib: table.optional("memory_mib", sink, integer(32..=1_048_576, "MiB")),
        control_core: table.optional("control_core", sink, core),
    };
    table.finish(sink);
    read
}

fn workers(mut table: Table<'_>, sink: &mut Sink<'_>) -> WorkersTable {
    const POLL: [(&str, Poll); 2] = [("busy", Poll::Busy), ("adaptive", Poll::Adaptive)];
    let read = WorkersTable {
        cores: table.optional("cores", sink, |value, sink| {
            list(
                value,
                "an array of core numbers",
                1..=64,
                "cores",
                core,
                sink,
            )
        }),
        poll: table.optional("poll", sink, choice(&POLL)),
        burst: table.optional("burst", sink, |value, sink| {
            integer::<u16>(1..=64, "frames")(value, sink).map(usize::from)
        }),
        mbufs: table.optional("mbufs", sink, integer(1024..=4_194_304, "buffers")),
    };
    table.finish(sink);
    read
}

fn port(mut table: Table<'_>, sink: &mut Sink<'_>) -> PortTable {
    const DEVICE: &str = "a PCI address or a DPDK virtual device";
    let read = PortTable {
        place: table.place.clone(),
        name: table.required("name", "a name for the port", sink, name),
        device: table.required("device", DEVICE, sink, device),
        rx_queues: table.optional("rx_queues", sink, integer(1..=64, "queues")),
        tx_queues: table.optional("tx_queues", sink, integer(1..=64, "queues")),
        rx_descriptors: table.optional("rx_descriptors", sink, integer(32..=32_768, "descriptors")),
        tx_descriptors: table.optional("tx_descriptors", sink, integer(32..=32_768, "descriptors")),
        promiscuous: table.optional("promiscuous", sink, boolean),
    };
    table.finish(sink);
    read
}

fn interface(mut table: Table<'_>, sink: &mut Sink<'_>) -> InterfaceTable {
    let read = InterfaceTable {
        place: table.place.clone(),
        name: table.optional("name", sink, name),
        port: table.required("port", "the name of a port", sink, reference),
        vlan: table.optional("vlan", sink, |value, sink| {
            list(
                value,
                "an array of VLAN ids",
                0..=2,
                "VLAN tags",
                integer(1..=4094, ""),
                sink,
            )
        }),
        // RFC 8200 5: every link of IPv6 carries 1280 bytes.
        mtu: table.optional("mtu", sink, integer(1280..=9600, "bytes")),
        vrf: table.optional("vrf", sink, name),
        addresses: table.optional("addresses", sink, |value, sink| {
            list(
                value,
                "an array of addresses",
                0..=1024,
                "addresses",
                own_address,
                sink,
            )
        }),
        link_local: table.optional("link_local", sink, address_v6),
    };
    table.finish(sink);
    read
}

fn route(mut table: Table<'_>, sink: &mut Sink<'_>) -> RouteTable {
    let read = RouteTable {
        place: table.place.clone(),
        prefix: table.required("prefix", "the prefix it leads to", sink, prefix),
        vrf: table.optional("vrf", sink, reference),
        next_hops: table.optional("next_hops", sink, |value, sink| {
            list(
                value,
                "an array of tables",
                1..=64,
                "next hops",
                next_hop,
                sink,
            )
        }),
        blackhole: table.optional("blackhole", sink, boolean),
        unreachable: table.optional("unreachable", sink, boolean),
    };
    table.finish(sink);
    read
}

fn next_hop(value: Value<'_>, sink: &mut Sink<'_>) -> Option<NextHopTable> {
    let mut table = value.table(
        "a table such as { via = \"fe80::1\", interface = \"wan\" }",
        sink,
    )?;
    let read = NextHopTable {
        via: table.optional("via", sink, address),
        interface: table.optional("interface", sink, reference),
        weight: table.optional("weight", sink, integer(1..=256, "")),
    };
    table.finish(sink);
    Some(read)
}

fn neighbor(mut table: Table<'_>, sink: &mut Sink<'_>) -> NeighborTable {
    let read = NeighborTable {
        interface: table.required("interface", "the name of an interface", sink, reference),
        address: table.required("address", "the neighbour's address", sink, address),
        mac: table.required("mac", "the neighbour's MAC address", sink, mac),
    };
    table.finish(sink);
    read
}

fn npt66(mut table: Table<'_>, sink: &mut Sink<'_>) -> Npt66Table {
    const ZERO_IID: [(&str, ZeroIid); 2] =
        [("drop", ZeroIid::Drop), ("translate", ZeroIid::Translate)];
    let read = Npt66Table {
        name: table.required("name", "a name for the rule", sink, name),
        interface: table.required(
            "interface",
            "the name of the uplink's interface",
            sink,
            reference,
        ),
        inside: table.required("inside", "the site's prefix", sink, prefix_v6),
        outside: table.required("outside", "the provider's prefix", sink, prefix_v6),
        proxy_nd: table.optional("proxy_nd", sink, boolean),
        zero_iid: table.optional("zero_iid", sink, choice(&ZERO_IID)),
    };
    table.finish(sink);
    read
}

fn icmp(mut table: Table<'_>, sink: &mut Sink<'_>) -> IcmpTable {
    let read = IcmpTable {
        errors_per_second: table.optional(
            "errors_per_second",
            sink,
            integer(1..=1_000_000, "errors"),
        ),
        errors_burst: table.optional("errors_burst", sink, integer(1..=1_000_000, "errors")),
    };
    table.finish(sink);
    read
}

fn punt<'a>(
    mut table: Table<'a>,
    empty: &'a DeTable<'a>,
    sink: &mut Sink<'_>,
) -> Vec<(PuntReason, RateTable)> {
    let mut rates = Vec::new();
    for reason in PuntReason::ALL {
        let mut rate = table.section(reason.info().name, empty, sink);
        let read = RateTable {
            per_second: rate.optional("per_second", sink, integer(1..=10_000_000, "packets")),
            burst: rate.optional("burst", sink, integer(1..=1_000_000, "packets")),
        };
        rate.finish(sink);
        rates.push((*reason, read));
    }
    table.finish(sink);
    rates
}

fn ndp(mut table: Table<'_>, sink: &mut Sink<'_>) -> NdpTable {
    fn count(
        value: Value<'_>,
        maximum: u32,
        what: &'static str,
        sink: &mut Sink<'_>,
    ) -> Option<usize> {
        let number: u32 = integer(1..=maximum, what)(value, sink)?;
        usize::try_from(number).ok()
    }
    let read = NdpTable {
        max_neighbors: table.optional("max_neighbors", sink, |value, sink| {
            count(value, 1_048_576, "neighbours", sink)
        }),
        max_incomplete: table.optional("max_incomplete", sink, |value, sink| {
            count(value, 1_048_576, "neighbours", sink)
        }),
        queue_packets: table.optional("queue_packets", sink, |value, sink| {
            count(value, 64, "packets", sink)
        }),
        retrans_timer_ms: table.optional("retrans_timer_ms", sink, integer(10..=60_000, "ms")),
        // RFC 4861 6.2.1: at most an hour.
        reachable_time_ms: table.optional(
            "reachable_time_ms",
            sink,
            integer(1000..=3_600_000, "ms"),
        ),
        dad_transmits: table.optional("dad_transmits", sink, integer(0..=10, "solicitations")),
    };
    table.finish(sink);
    read
}

/// A core by number; whether it exists is asked later.
fn core(value: Value<'_>, sink: &mut Sink<'_>) -> Option<usize> {
    integer::<u16>(0..=1023, "")(value, sink).map(usize::from)
}
