//! `[steering]`, `[[pools]]` and `[[services]]`.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use toml::de::DeValue;

use super::super::error::{Place, Sink};
use super::super::problem::Problem;
use super::super::reader::{Field, List, Table, Value, list};
use super::super::scalar::{
    address, address_v6, boolean, choice, integer, name, prefix, prefix_v6, reference,
};
use super::super::steering::{Affinity, Mode, Ports, Protocol};
use super::health::{HealthTable, health};

/// Ports and ranges of a service, most: they are looked through one by one.
const PORTS_MAX: usize = 64;
/// Words of a command, most.
const WORDS_MAX: usize = 32;
/// Pools by source of a service, most: they are looked through one by one.
const BY_SOURCE_MAX: usize = 64;
/// Servers of a pool, most.
const SERVERS_MAX: usize = pipelines::steer::SERVERS_MAX;

pub(in crate::config) struct SteeringTables {
    pub(in crate::config) section: SectionTable,
    pub(in crate::config) pools: Field<Vec<PoolTable>>,
    pub(in crate::config) services: Field<Vec<ServiceTable>>,
}

pub(in crate::config) struct SectionTable {
    pub(in crate::config) flows: Field<u32>,
    pub(in crate::config) node: Field<String>,
    pub(in crate::config) announce_delay: Field<u32>,
    pub(in crate::config) on_change: Field<List<String>>,
}

/// The word of `when_down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum WhenDownWord {
    Refuse,
    Drop,
    Fallback,
}

pub(in crate::config) struct PoolTable {
    pub(in crate::config) place: Place,
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) vrf: Field<String>,
    pub(in crate::config) mode: Field<Mode>,
    pub(in crate::config) source: Field<IpNet>,
    pub(in crate::config) port: Field<u16>,
    pub(in crate::config) udp_checksum: Field<bool>,
    pub(in crate::config) sources: Field<List<Ipv6Addr>>,
    pub(in crate::config) table_size: Field<u32>,
    pub(in crate::config) servers: Field<List<ServerTable>>,
    pub(in crate::config) health: Field<HealthTable>,
    pub(in crate::config) when_down: Field<WhenDownWord>,
    pub(in crate::config) fallback: Field<String>,
}

pub(in crate::config) struct ServerTable {
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) address: Field<Ipv6Addr>,
    pub(in crate::config) weight: Field<u16>,
    pub(in crate::config) drained: Field<bool>,
}

pub(in crate::config) struct ServiceTable {
    pub(in crate::config) name: Field<String>,
    pub(in crate::config) prefix: Field<Ipv6Net>,
    pub(in crate::config) protocol: Field<Protocol>,
    pub(in crate::config) ports: Field<List<Ports>>,
    pub(in crate::config) pool: Field<String>,
    pub(in crate::config) pools: Field<List<PoolBySourceTable>>,
    pub(in crate::config) affinity: Field<Affinity>,
    pub(in crate::config) new_flows_per_second: Field<u32>,
    pub(in crate::config) flows_max: Field<u32>,
}

pub(in crate::config) struct PoolBySourceTable {
    pub(in crate::config) source: Field<Ipv6Net>,
    pub(in crate::config) pool: Field<String>,
}

pub(super) fn section(mut table: Table<'_>, sink: &mut Sink<'_>) -> SectionTable {
    let most = pipelines::steer::FLOWS_MAX;
    let read = SectionTable {
        flows: table.optional("flows", sink, integer(1024..=most, "flows")),
        node: table.optional("node", sink, name),
        announce_delay: table.optional("announce_delay", sink, integer(0..=86_400, "seconds")),
        on_change: table.optional("on_change", sink, |value, sink| {
            let what = "an array: a program and its arguments";
            list(value, what, 1..=WORDS_MAX, "words", reference, sink)
        }),
    };
    table.finish(sink);
    read
}

pub(super) fn pool(mut table: Table<'_>, sink: &mut Sink<'_>) -> PoolTable {
    const MODE: [(&str, Mode); 6] = [
        (Mode::L2.name(), Mode::L2),
        (Mode::Ip6Ip6.name(), Mode::Ip6Ip6),
        (Mode::Ipip.name(), Mode::Ipip),
        (Mode::Gue.name(), Mode::Gue),
        (Mode::Dnat.name(), Mode::Dnat),
        (Mode::FullNat.name(), Mode::FullNat),
    ];
    const WHEN_DOWN: [(&str, WhenDownWord); 3] = [
        ("refuse", WhenDownWord::Refuse),
        ("drop", WhenDownWord::Drop),
        ("fallback", WhenDownWord::Fallback),
    ];
    let most = dataplane::table::maglev::SIZE_MAX;
    let read = PoolTable {
        place: table.place.clone(),
        name: table.required("name", "a name for the pool", sink, name),
        vrf: table.optional("vrf", sink, reference),
        mode: table.optional("mode", sink, choice(&MODE)),
        source: table.optional("source", sink, source),
        port: table.optional("port", sink, integer(1..=65_535, "")),
        udp_checksum: table.optional("udp_checksum", sink, boolean),
        sources: table.optional("sources", sink, |value, sink| {
            let (expected, most) = ("an array of addresses", pipelines::steer::SOURCES_MAX);
            list(value, expected, 1..=most, "sources", address_v6, sink)
        }),
        table_size: table.optional("table_size", sink, integer(251..=most, "cells")),
        servers: table.required("servers", "who answers", sink, |value, sink| {
            list(
                value,
                "an array of tables",
                1..=SERVERS_MAX,
                "servers",
                server,
                sink,
            )
        }),
        health: table.optional("health", sink, health),
        when_down: table.optional("when_down", sink, choice(&WHEN_DOWN)),
        fallback: table.optional("fallback", sink, reference),
    };
    table.finish(sink);
    read
}

fn server(value: Value<'_>, sink: &mut Sink<'_>) -> Option<ServerTable> {
    let mut table = value.table("a table such as { address = \"2001:db8::11\" }", sink)?;
    let read = ServerTable {
        name: table.optional("name", sink, name),
        address: table.required(
            "address",
            "the server's own address",
            sink,
            |value, sink| address(value, sink).map(mapped),
        ),
        weight: table.optional("weight", sink, integer(1..=256, "")),
        drained: table.optional("drained", sink, boolean),
    };
    table.finish(sink);
    Some(read)
}

/// IPv4 as IPv4-mapped: a server has one kind of address, whatever its family.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    }
}

/// An address, or an IPv4 prefix of many.
fn source(value: Value<'_>, sink: &mut Sink<'_>) -> Option<IpNet> {
    match &value.node {
        DeValue::String(text) if text.contains('/') => prefix(value, sink),
        _ => address(value, sink).map(IpNet::from),
    }
}

pub(super) fn service(mut table: Table<'_>, sink: &mut Sink<'_>) -> ServiceTable {
    const PROTOCOLS: [(&str, Protocol); 6] = [
        (Protocol::Tcp.name(), Protocol::Tcp),
        (Protocol::Udp.name(), Protocol::Udp),
        (Protocol::UdpLite.name(), Protocol::UdpLite),
        (Protocol::Sctp.name(), Protocol::Sctp),
        (Protocol::Icmpv6.name(), Protocol::Icmpv6),
        (Protocol::Any.name(), Protocol::Any),
    ];
    const AFFINITY: [(&str, Affinity); 2] =
        [("flow", Affinity::Flow), ("source", Affinity::Source)];
    let read = ServiceTable {
        name: table.required("name", "a name for the service", sink, name),
        prefix: table.required("prefix", "the service address, with /128", sink, prefix_v6),
        protocol: table.optional("protocol", sink, choice(&PROTOCOLS)),
        ports: table.optional("ports", sink, |value, sink| {
            list(
                value,
                "an array of ports",
                1..=PORTS_MAX,
                "ports",
                ports,
                sink,
            )
        }),
        pool: table.required("pool", "the name of a pool", sink, reference),
        pools: table.optional("pools", sink, |value, sink| {
            let what = "an array of tables";
            list(value, what, 1..=BY_SOURCE_MAX, "pools", by_source, sink)
        }),
        affinity: table.optional("affinity", sink, choice(&AFFINITY)),
        new_flows_per_second: table.optional(
            "new_flows_per_second",
            sink,
            integer(1..=1_000_000_000, "flows"),
        ),
        flows_max: table.optional("flows_max", sink, integer(1..=1_000_000_000, "flows")),
    };
    table.finish(sink);
    read
}

fn by_source(value: Value<'_>, sink: &mut Sink<'_>) -> Option<PoolBySourceTable> {
    let expected = "a table such as { source = \"2001:db8:1::/48\", pool = \"near\" }";
    let mut table = value.table(expected, sink)?;
    let read = PoolBySourceTable {
        source: table.required("source", "where clients are", sink, prefix_v6),
        pool: table.required("pool", "the name of a pool", sink, reference),
    };
    table.finish(sink);
    Some(read)
}

/// A number, or a range in quotes.
fn ports(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Ports> {
    let DeValue::String(text) = value.node else {
        let port = integer(1..=65_535, "")(value, sink)?;
        return Some(Ports {
            first: port,
            last: port,
        });
    };
    let range = text.split_once('-').and_then(|(first, last)| {
        let first = first.parse().ok()?;
        let last = last.parse().ok()?;
        (first >= 1 && first <= last).then_some(Ports { first, last })
    });
    if range.is_none() {
        let problem = Problem::Malformed {
            found: text.to_string(),
            what: "a range of ports",
            expected: "one such as \"8000-8999\"",
        };
        sink.push(&value.place, problem);
    }
    range
}
