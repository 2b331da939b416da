//! Anycast steering: what is measured with. One service address, its servers on the link of the sink.
//!
//! ```text
//!   clients --- fd00:a::2 | fd00:a::1  Sextant  2001:db8:ffff::2 | 64 servers, 2001:db8:ffff::1:0 to ::1:3f
//!                           service 2001:db8:a11::1
//! ```
//!
//! `cases` are those on devices, `graph` the graph alone with established flows, `flows` what becomes of flows that begin,
//! of others beside a flood of them, and of those whose server is lost, `maglev` the tables themselves.

pub mod cases;
pub mod flows;
pub mod graph;
pub mod maglev;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

use pipelines::steer::{self, FLOWS_DEFAULT, FLOWS_MAX};

/// Name of the suite in records.
pub const SUITE: &str = "steer";
/// The service address.
pub const SERVICE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa11, 0, 0, 0, 0, 1);
/// Our address towards the servers: what tunnels come from.
const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2);
/// What tunnels by IPv4 come from.
const SOURCES4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 20);
/// Servers of the pool.
pub const SERVERS: u16 = 64;

/// How packets reach servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// First part of the names of cases.
    pub name: &'static str,
    /// What the packet graph is told.
    pub spec: steer::Mode,
    /// What a pool of the configuration says.
    pub lines: &'static str,
    /// What is put before a packet, bytes.
    pub overhead: usize,
}

/// All modes; what is measured of a mode is measured of each.
pub const MODES: [Mode; 6] = [
    Mode {
        name: "steer-dsr-l2",
        spec: steer::Mode::L2,
        lines: "mode = \"l2\"",
        overhead: 0,
    },
    Mode {
        name: "steer-dsr-ip6ip6",
        spec: steer::Mode::Ip6Ip6 { source: SOURCE },
        lines: "mode = \"ip6ip6\"\nsource = \"2001:db8:ffff::2\"",
        overhead: 40,
    },
    Mode {
        name: "steer-dsr-ipip",
        spec: steer::Mode::IpIp { source: SOURCES4 },
        lines: "mode = \"ipip\"\nsource = \"198.18.0.0/20\"",
        overhead: 20,
    },
    Mode {
        name: "steer-dsr-gue",
        spec: steer::Mode::Gue {
            source: SOURCE,
            port: 6080,
            checksum: true,
        },
        lines: "mode = \"gue\"\nsource = \"2001:db8:ffff::2\"",
        overhead: 52,
    },
    Mode {
        name: "steer-dnat",
        spec: steer::Mode::Dnat { port: None },
        lines: "mode = \"dnat\"",
        overhead: 0,
    },
    Mode {
        name: "steer-fullnat",
        spec: steer::Mode::FullNat { port: None },
        lines: "mode = \"full-nat\"\nsources = [\"2001:db8:a0::1\", \"2001:db8:a0::2\", \"2001:db8:a0::3\", \"2001:db8:a0::4\"]",
        overhead: 0,
    },
];

impl Mode {
    /// Whether what servers answer comes through us.
    #[must_use]
    pub const fn is_both_ways(&self) -> bool {
        matches!(
            self.spec,
            steer::Mode::Dnat { .. } | steer::Mode::FullNat { .. }
        )
    }

    /// From which addresses servers are asked: 65,536 flows take a quarter of their ports.
    #[must_use]
    pub fn sources(&self) -> Vec<Ipv6Addr> {
        let source = |number| Ipv6Addr::new(0x2001, 0xdb8, 0xa0, 0, 0, 0, 0, number);
        match self.spec {
            steer::Mode::FullNat { .. } => (1..=4).map(source).collect(),
            _ => Vec::new(),
        }
    }
}

/// The address of server `number`.
#[must_use]
pub fn server(mode: steer::Mode, number: u16) -> IpAddr {
    match mode {
        steer::Mode::IpIp { .. } => {
            let [upper, lower] = number.to_be_bytes();
            Ipv4Addr::new(198, 51, 100 + upper, 128 + (lower & 0x7f)).into()
        }
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 1, number).into(),
    }
}

/// The MAC address of server `number`.
#[must_use]
pub fn server_mac(number: u16) -> [u8; 6] {
    let [upper, lower] = number.to_be_bytes();
    [2, 0, 0, 1, upper, lower]
}

/// What an operator who expects so many flows lets a worker remember: twice as many, that few lines overflow.
#[must_use]
pub fn remembered(flows: usize) -> u32 {
    let flows = u32::try_from(flows).unwrap_or(FLOWS_MAX);
    let twice = flows.saturating_mul(2).checked_next_power_of_two();
    twice.unwrap_or(FLOWS_MAX).clamp(FLOWS_DEFAULT, FLOWS_MAX)
}
