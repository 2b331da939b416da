//! Services of the network: by every mode, by flow and by source, with servers of every state, pools that refuse, drop and
//! have another step in, pools by source, and limits of new flows and of all.

use anyhow::Result;
use pipelines::steer::{
    Affinity, Limits, Mode, PoolSpec, Protocol, ServerSpec, ServiceSpec, Settings, State, WhenDown,
};
use pipelines::tables::VrfId;

/// Service addresses: by link and flow, by tunnel and source, of servers out of reach, of pools without servers: one that
/// refuses, one that drops, one that has others step in; by address translation, to another port, by translation of both ends.
pub const SERVICES: [&str; 9] = [
    "2001:db8:5e::1",
    "2001:db8:5e::2",
    "2001:db8:5e::3",
    "2001:db8:5e::4",
    "2001:db8:5e::5",
    "2001:db8:5e::6",
    "2001:db8:5e::7",
    "2001:db8:5e::8",
    "2001:db8:5e::9",
];

/// Source addresses of full NAT: routed to us, and on a link.
pub const SOURCES: [&str; 2] = ["2001:db8:50::1", "fd01:203:405:1::50"];

/// States of servers, each in turn from the first of a pool on: as they should be, and after some were taken out.
pub const UP: [State; 1] = [State::Up];
pub const TAKEN_OUT: [State; 5] = [
    State::Cut,
    State::Up,
    State::Drained,
    State::Up,
    State::Down,
];

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Few flows, so that memory is short.
pub fn settings(states: &[State]) -> Result<Settings> {
    let tunnel = Mode::Ip6Ip6 {
        source: super::lisp::OWN6.parse()?,
    };
    let servers = [
        (
            Mode::L2,
            &["fd01:203:405:1::2", "fd05:0:0:64::2", "2001:db8:2:2::2"][..],
        ),
        (
            tunnel,
            &[
                "fd01:203:405:1::2",
                "2400:cb00::9",
                "2001:db8:2:2::2",
                "2001:db8:fffe::1",
            ],
        ),
        // Unresolved, behind a router, on a link that is down, nowhere.
        (
            Mode::L2,
            &[
                "fd01:203:405:1::dead",
                "2400:cb00::9",
                "2001:db8:8:8::2",
                "2001:db8:d::1",
            ],
        ),
        (tunnel, &[]),
        (
            tunnel,
            &[
                "fd01:203:405:1::dead",
                "2001:db8:a::1",
                "2001:db8:f::1",
                "2001:db8:c::1",
                "2001:db8:e::9",
            ],
        ),
        (tunnel, &[]),
        (tunnel, &[]),
        (
            Mode::IpIp {
                source: "198.18.0.0/20".parse()?,
            },
            &[
                "::ffff:192.0.2.2",
                "::ffff:10.2.2.2",
                "::ffff:203.0.113.200",
                "::ffff:10.14.0.9",
                "::ffff:10.10.0.9",
                "::ffff:10.15.0.9",
                "::ffff:10.12.0.9",
            ],
        ),
        (
            gue(true)?,
            &["fd01:203:405:1::2", "2400:cb00::9", "2001:db8:2:2::2"],
        ),
        (
            gue(false)?,
            &[
                "fd01:203:405:1::dead",
                "2001:db8:a::1",
                "2001:db8:f::1",
                "2001:db8:e::9",
            ],
        ),
        // On links, behind a router, unresolved, behind a router that does not answer.
        (
            Mode::Dnat { port: None },
            &[
                "fd01:203:405:1::2",
                "fd05:0:0:64::2",
                "fd01:203:405:77::10",
                "fd01:203:405:1::dead",
                "2001:db8:f::1",
            ],
        ),
        (Mode::Dnat { port: Some(1) }, &["2001:db8:2:2::2"]),
        (
            Mode::FullNat { port: None },
            &[
                "fd01:203:405:1::2",
                "2001:db8:ffff::1",
                "2001:db8:e::9",
                "2001:db8:a::1",
            ],
        ),
        (Mode::FullNat { port: Some(4000) }, &["2001:db8:2:2::2"]),
    ];
    let pools = servers.iter().zip(0..).map(|((mode, servers), number)| {
        Ok(PoolSpec {
            name: format!("pool-{number}"),
            vrf: VrfId(0),
            mode: *mode,
            sources: match mode {
                Mode::FullNat { .. } => SOURCES
                    .iter()
                    .map(|text| text.parse())
                    .collect::<Result<_, _>>()?,
                _ => Vec::new(),
            },
            table_size: 251,
            servers: servers
                .iter()
                .zip(states.iter().cycle())
                .map(|(text, state)| server(text, *state))
                .collect::<Result<_>>()?,
            when_down: match number {
                5 => WhenDown::Drop,
                6 => WhenDown::Fallback(1),
                _ => WhenDown::Refuse,
            },
        })
    });
    let services = [
        (
            0,
            Protocol::Number(UDP),
            &[2..=2, 53..=53, 4000..=4000][..],
            0,
            Affinity::Flow,
        ),
        (0, Protocol::Number(TCP), &[2..=80], 1, Affinity::Flow),
        (0, Protocol::Number(58), &[], 0, Affinity::Flow),
        (1, Protocol::Any, &[], 1, Affinity::Source),
        (2, Protocol::Number(UDP), &[], 2, Affinity::Flow),
        (2, Protocol::Number(TCP), &[], 7, Affinity::Flow),
        (2, Protocol::Any, &[], 4, Affinity::Flow),
        (3, Protocol::Number(TCP), &[], 8, Affinity::Flow),
        (3, Protocol::Number(58), &[], 9, Affinity::Source),
        (3, Protocol::Any, &[], 3, Affinity::Flow),
        (4, Protocol::Any, &[], 5, Affinity::Flow),
        (5, Protocol::Any, &[], 6, Affinity::Source),
        (
            6,
            Protocol::Number(UDP),
            &[2..=2, 53..=4000],
            10,
            Affinity::Flow,
        ),
        (6, Protocol::Number(TCP), &[2..=4000], 10, Affinity::Flow),
        (6, Protocol::Number(58), &[], 10, Affinity::Flow),
        (6, Protocol::Number(SCTP), &[], 10, Affinity::Source),
        (7, Protocol::Number(UDP), &[2..=2], 11, Affinity::Flow),
        (7, Protocol::Number(TCP), &[2..=2], 11, Affinity::Source),
        (7, Protocol::Number(SCTP), &[], 11, Affinity::Source),
        (8, Protocol::Number(UDP), &[], 12, Affinity::Flow),
        (8, Protocol::Number(TCP), &[2..=79], 12, Affinity::Source),
        (8, Protocol::Number(TCP), &[80..=80], 13, Affinity::Flow),
        (8, Protocol::Number(58), &[], 12, Affinity::Flow),
        (8, Protocol::Any, &[], 12, Affinity::Flow),
    ];
    let services = services.map(|(address, protocol, ports, pool, affinity)| {
        let address = SERVICES[address];
        Ok(ServiceSpec {
            vrf: VrfId(0),
            prefix: format!("{address}/128").parse()?,
            protocol,
            ports: ports.to_vec(),
            pool,
            pools_by_source: match pool {
                6 => vec![("2600::/12".parse()?, 4), ("2600:1::/32".parse()?, 1)],
                _ => vec![],
            },
            affinity,
            limits: Limits {
                new_per_second: (pool == 0).then_some(400),
                // Nobody counts the flows here, so none of them may begin.
                flows: (pool == 11 && protocol == Protocol::Number(SCTP)).then_some(3),
            },
        })
    });
    Ok(Settings {
        flows: 1024,
        seed: 7,
        pools: pools.collect::<Result<_>>()?,
        services: services.into_iter().collect::<Result<_>>()?,
        checked: vec![(VrfId(0), "fd01:203:405:1::2".parse()?)],
    })
}

fn gue(checksum: bool) -> Result<Mode> {
    Ok(Mode::Gue {
        source: super::lisp::OWN6.parse()?,
        port: 6080,
        checksum,
    })
}

fn server(address: &str, state: State) -> Result<ServerSpec> {
    Ok(ServerSpec {
        address: address.parse()?,
        weight: 1,
        state,
    })
}
