//! Anycast steering: which server, by what way, and what is in the way.

mod alike;
mod dnat;
mod early;
mod errors;
mod flows;
mod full_nat;
mod health;
mod limits;
mod refusals;
mod tunnel;

use std::sync::Arc;

use dataplane::testing::HeapFrame;
use dataplane::testing::builder::Packet;
use dataplane::wire::tcp;
use pipelines::steer::{
    Affinity, FlowMemory, Limits, Mode, PoolSpec, Protocol, ServerSpec, ServiceSpec, Settings,
    State, WhenDown,
};
use pipelines::tables::{Builder, Hop, Rib, Route, VrfId};
use pipelines::testing::HeapEdge;

use crate::bench::*;

const SERVICE: &str = "2001:db8:a11::1";
const CLIENT: &str = "2600:1::1";
/// A server on the uplink's link.
const SERVER_OUTSIDE: &str = "2001:db8:ffff::78";
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A box with servers on the inside link, and clients behind the uplink's router.
struct Site {
    rib: Rib,
    settings: Settings,
    memory: FlowMemory,
    bench: Bench,
}

fn server_address(number: u8) -> std::net::Ipv6Addr {
    address(&format!("2001:db8:5::{number:x}"))
}

/// Servers `0x80` and up, by MAC address of the same number.
fn servers(count: u8) -> Vec<ServerSpec> {
    let server = |number| ServerSpec {
        address: server_address(0x80 + number),
        weight: 1,
        state: State::Up,
    };
    (0..count).map(server).collect()
}

fn pool(servers: Vec<ServerSpec>, mode: Mode) -> PoolSpec {
    PoolSpec {
        name: "web".to_owned(),
        vrf: VrfId(0),
        mode,
        sources: vec![],
        table_size: 65_537,
        servers,
        when_down: WhenDown::Refuse,
    }
}

/// TCP and UDP port 443, by flow.
fn services() -> Vec<ServiceSpec> {
    let service = |protocol| ServiceSpec {
        vrf: VrfId(0),
        prefix: net(&format!("{SERVICE}/128")),
        protocol: Protocol::Number(protocol),
        ports: vec![443..=443],
        pool: 0,
        pools_by_source: vec![],
        affinity: Affinity::Flow,
        limits: Limits::default(),
    };
    vec![service(TCP), service(UDP)]
}

fn network(known: u8) -> Builder {
    let mut builder = Builder::new();
    let inside = builder.interface(interface(INSIDE, &["2001:db8:5::1/64"]));
    let uplink = builder.interface(interface(UPLINK, &["2001:db8:ffff::2/64"]));
    builder.neighbor(uplink, ip_address(ROUTER), mac(0x22));
    builder.neighbor(uplink, ip_address(SERVER_OUTSIDE), mac(0x78));
    for number in 0x80..0x80 + known {
        builder.neighbor(inside, server_address(number).into(), mac(number));
    }
    let hop = Hop {
        interface: uplink,
        via: Some(ip_address(ROUTER)),
        weight: 1,
    };
    builder.route(VrfId(0), net("::/0"), Route::Hops(vec![hop]));
    builder
}

impl Site {
    fn new(pool: PoolSpec, services: Vec<ServiceSpec>) -> Self {
        let memory = FlowMemory::new();
        let edge = HeapEdge::remembering(memory.clone());
        Self {
            memory,
            ..Self::with(pool, services, edge)
        }
    }

    /// With a graph of one's choice.
    fn with(pool: PoolSpec, services: Vec<ServiceSpec>, edge: HeapEdge) -> Self {
        let settings = Settings {
            flows: 1 << 16,
            seed: 7,
            pools: vec![pool],
            services,
            checked: vec![],
        };
        let mut rib = Rib::new();
        rib.set_steering(Some(settings.clone()));
        let tables = network(100).build_in(&mut rib);
        rib.commit();
        let memory = FlowMemory::new();
        Self {
            rib,
            settings,
            bench: Bench::with(Arc::new(tables), edge),
            memory,
        }
    }

    /// `count` servers by MAC address.
    fn l2(count: u8) -> Self {
        Self::new(pool(servers(count), Mode::L2), services())
    }

    fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.rib.set_steering(Some(self.settings.clone()));
        self.bench.tables = Arc::new(network(100).build_in(&mut self.rib));
        self.rib.commit();
    }

    /// By which servers' links these packets leave.
    fn servers_of(&mut self, packets: &[Vec<u8>]) -> Vec<u8> {
        let sent = self.bench.receive(UPLINK, packets);
        assert!(sent.iter().all(|(port, _)| *port == INSIDE));
        sent.iter().map(|(_, frame)| frame[5]).collect()
    }

    /// Frames, flows begun and bytes of the server at a position.
    fn counted(&self, position: usize) -> (u64, u64, u64) {
        let state = self.rib.pool("web").expect("it is configured");
        let (place, _) = state.servers[position].expect("it has a place");
        let counters = &self.bench.counters.servers[place];
        let traffic = &counters.traffic;
        (
            traffic.packets.read(),
            counters.flows.read(),
            traffic.bytes.read(),
        )
    }
}

/// From a client, one for each number.
fn from_client(number: u16) -> Packet {
    let client = address(&format!("2600:1::{:x}", number >> 8));
    from_router().ipv6(client, address(SERVICE))
}

fn segment(number: u16, flags: u8) -> Vec<u8> {
    let header = tcp::Header {
        source_port: (1000 + number).into(),
        destination_port: 443.into(),
        sequence: 1.into(),
        acknowledgement: 0.into(),
        data_offset: 5 << 4,
        flags,
        window: 1000.into(),
        checksum: 0.into(),
        urgent: 0.into(),
    };
    from_client(number).tcp_segment(header, b"").build()
}

fn syns(count: u16) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| segment(number, tcp::flags::SYN))
        .collect()
}

fn acks(count: u16) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| segment(number, tcp::flags::ACK))
        .collect()
}
