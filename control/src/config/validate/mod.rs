//! How the parts of a configuration fit: names, references, addresses, routes. Makes the model.
//!
//! Where a part is wrong by itself, that was reported when it was read; what depends on it is then not judged, so that
//! one mistake is one error. A configuration made while errors were reported holds stand-ins and is thrown away.

mod addresses;
mod authorities;
mod health;
mod interfaces;
mod lisp;
mod names;
mod neighbors;
mod npt66;
mod pools;
mod ports;
mod routes;
mod steering;

use std::path::PathBuf;
use std::time::Duration;

use super::error::Sink;
use super::file::{File, IcmpTable, NdpTable, RateTable, SystemTable, WorkersTable};
use super::host::Host;
use super::model::{Config, Icmp, Ndp, Poll, Port, Punt, Rate, System, Workers};
use super::problem::Problem;
use super::reader::Field;
use dataplane::reason::PuntReason;
use names::Seen;

pub(crate) use addresses::{inside_special as unusable_prefix, not_global as unusable_address};

/// Packet buffers, unless the queues hold more.
const MBUFS_DEFAULT: u32 = 16_384;

/// Judge everything that was read and make the model of it.
pub(super) fn validate(file: File, host: &Host, sink: &mut Sink<'_>) -> Config {
    let File {
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
    } = file;
    let (ports, port_names) = ports::ports(ports, sink);
    let workers = self::workers(workers, &system, &ports, host, sink);
    let interfaces = interfaces::interfaces(interfaces, &port_names, sink);
    let npt66 = npt66::rules(npt66, &interfaces, sink);
    let routes = routes::routes(routes, &interfaces, &npt66, sink);
    let neighbors = neighbors::neighbors(neighbors, &interfaces, &routes, sink);
    let lisp = lisp::lisp(lisp, &interfaces, &routes, sink);
    let steering = steering::steering(steering, &interfaces, &routes, &npt66, sink);
    let (vrfs, interfaces) = interfaces.into_model();
    let mut config = Config {
        system: self::system(system, host, sink),
        workers,
        ports,
        vrfs,
        interfaces,
        routes,
        neighbors,
        npt66,
        icmp: self::icmp(icmp),
        punt: self::punt(punt),
        ndp: self::ndp(ndp, sink),
        lisp,
        steering,
    };
    for (index, port) in config.ports.iter_mut().enumerate() {
        let on_port = config
            .interfaces
            .iter()
            .filter(|interface| interface.port == index);
        port.mtu = on_port
            .map(|interface| interface.mtu)
            .max()
            .unwrap_or(interfaces::MTU_DEFAULT);
    }
    config
}

fn system(table: SystemTable, host: &Host, sink: &mut Sink<'_>) -> System {
    if let Some((core, place)) = table.control_core.given()
        && !host.has_core(*core)
    {
        sink.push(place, Problem::NoSuchCore { found: *core });
    }
    let name = table.name.or("sextant".to_owned());
    let default_socket = PathBuf::from(format!("/run/sextant/{name}.sock"));
    System {
        name,
        admin_socket: table.admin_socket.or(default_socket),
        huge_pages: table.huge_pages.or_default(),
        memory_mib: table.memory_mib.optional(),
        control_core: table.control_core.optional(),
    }
}

fn workers(
    table: WorkersTable,
    system: &SystemTable,
    ports: &[Port],
    host: &Host,
    sink: &mut Sink<'_>,
) -> Workers {
    let mut seen = Seen::default();
    for (core, place) in table.cores.value().iter().flat_map(|list| &list.items) {
        if let Some(first) = seen.insert(*core, place) {
            let problem = Problem::Duplicate {
                what: "core",
                found: core.to_string(),
                scope: "once",
            };
            sink.push_related(place, problem, first, "first here");
        } else if !host.has_core(*core) {
            sink.push(place, Problem::NoSuchCore { found: *core });
        }
    }
    if let Some((core, place)) = system.control_core.given()
        && let Some(worker) = seen.first(core)
    {
        sink.push_related(
            place,
            Problem::CoreTaken { found: *core },
            worker,
            "the worker",
        );
    }
    let default_core = host.last_core_except(system.control_core.value().copied());
    let cores = match table.cores {
        Field::Given(list, _) => list.items.into_iter().map(|(core, _)| core).collect(),
        Field::Absent | Field::Invalid => vec![default_core],
    };
    let needed: u64 = ports.iter().map(|port| buffers_held(port, 1, 0)).sum();
    if let Some((mbufs, place)) = table.mbufs.given()
        && u64::from(*mbufs) <= needed
    {
        sink.push(
            place,
            Problem::TooFewBuffers {
                found: *mbufs,
                needed,
            },
        );
    }
    let mbufs_default = mbufs_default(ports, cores.len());
    Workers {
        cores,
        poll: table.poll.or(Poll::default()),
        burst: table.burst.or(32),
        mbufs: table.mbufs.or(mbufs_default),
    }
}

/// Buffers that the receive descriptors of a port hold, and `tx_share` times those of the transmit descriptors; a port
/// without a number of queues has `queues_default`.
fn buffers_held(port: &Port, queues_default: u16, tx_share: u64) -> u64 {
    let held = |queues: Option<u16>, descriptors: u16| {
        u64::from(queues.unwrap_or(queues_default)) * u64::from(descriptors)
    };
    held(port.rx_queues, port.rx_descriptors) + tx_share * held(port.tx_queues, port.tx_descriptors)
}

/// Enough for full descriptors everywhere, as many queues as workers.
fn mbufs_default(ports: &[Port], workers: usize) -> u32 {
    let queues = u16::try_from(workers).unwrap_or(u16::MAX);
    let held: u64 = ports.iter().map(|port| buffers_held(port, queues, 1)).sum();
    u32::try_from(held.next_power_of_two())
        .unwrap_or(u32::MAX)
        .max(MBUFS_DEFAULT)
}

fn icmp(table: IcmpTable) -> Icmp {
    let default = Icmp::default();
    Icmp {
        errors_per_second: table.errors_per_second.or(default.errors_per_second),
        errors_burst: table.errors_burst.or(default.errors_burst),
    }
}

fn punt(tables: Vec<(PuntReason, RateTable)>) -> Punt {
    let mut punt = Punt::default();
    for (reason, table) in tables {
        let default = punt.rate(reason);
        let per_second = table.per_second.or(default.per_second);
        let burst = table.burst.or(default.burst);
        punt.set(reason, Rate { per_second, burst });
    }
    punt
}

fn ndp(table: NdpTable, sink: &mut Sink<'_>) -> Ndp {
    let default = Ndp::default();
    let limit_is_known = !table.max_neighbors.is_invalid();
    let max_neighbors = table.max_neighbors.or(default.max_neighbors);
    if let Some((found, place)) = table.max_incomplete.given()
        && limit_is_known
        && *found > max_neighbors
    {
        let problem = Problem::MoreThan {
            found: *found,
            other: "max_neighbors",
            maximum: max_neighbors,
        };
        sink.push(place, problem);
    }
    Ndp {
        max_neighbors,
        max_incomplete: table
            .max_incomplete
            .or(default.max_incomplete.min(max_neighbors)),
        queue_packets: table.queue_packets.or(default.queue_packets),
        retrans_timer: table
            .retrans_timer_ms
            .optional()
            .map_or(default.retrans_timer, Duration::from_millis),
        reachable_time: table
            .reachable_time_ms
            .optional()
            .map_or(default.reachable_time, Duration::from_millis),
        dad_transmits: table.dad_transmits.or(default.dad_transmits),
    }
}
