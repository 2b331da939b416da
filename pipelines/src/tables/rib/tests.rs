use dataplane::port::PortId;
use dataplane::wire::ethernet::Mac;
use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::*;
use crate::fib::Kind;
use crate::npt66;
use crate::tables::{Builder, InterfaceSpec, Tables};

const ADDRESSES: [&str; 12] = [
    "2001:db8::1",
    "2001:db8:0:1::1",
    "2001:db8:0:1::2",
    "2001:db8:1::1",
    "2001:db8:1:1::1",
    "2001:db8:2::1",
    "2001:db9::1",
    "fd00::1",
    "192.0.2.1",
    "192.0.2.2",
    "198.51.100.1",
    "203.0.113.9",
];
const PREFIXES: [&str; 11] = [
    "::/0",
    "2001:db8::/32",
    "2001:db8::/48",
    "2001:db8:0:1::/64",
    "2001:db8:0:1::2/128",
    "2001:db8:1::/48",
    "2001:db8:2::1/128",
    "0.0.0.0/0",
    "192.0.2.0/24",
    "192.0.2.2/32",
    "198.51.100.0/24",
];
const ROUTERS: [&str; 2] = ["fe80::a", "2001:db8:0:1::2"];
const ROUTERS_V4: [&str; 2] = ["192.0.2.9", "198.51.100.9"];

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn net6(text: &str) -> Ipv6Net {
    text.parse().expect("a prefix")
}

/// What changes outside of routes.
#[derive(Debug, Clone)]
struct World {
    /// The first interface has 2001:db8:0:1::1/64.
    has_address: bool,
    /// The second one's link.
    is_up: bool,
    /// Routers with known MAC addresses.
    resolved: usize,
    /// 2001:db8:1::/48 is an outside prefix on the second interface.
    has_rule: bool,
}

fn builder(world: &World) -> Builder {
    let mut builder = Builder::new();
    for (port, vrf) in [(0, 0), (1, 0), (2, 1)] {
        builder.interface(InterfaceSpec {
            port: PortId::new(port).expect("a port"),
            vlan: vec![],
            mac: Mac::from_octets([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            vrf: VrfId(vrf),
            addresses: if port == 0 && world.has_address {
                vec![net("2001:db8:0:1::1/64"), net("192.0.2.1/24")]
            } else {
                vec![]
            },
            link_local: "fe80::1".parse().expect("an address"),
            up: port != 1 || world.is_up,
        });
    }
    let routers = [&ROUTERS, &ROUTERS_V4].map(|routers| &routers[..world.resolved]);
    for router in routers.concat() {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 9]);
        builder.neighbor(InterfaceId(1), router.parse().expect("an address"), mac);
    }
    if world.has_rule {
        let rule = npt66::Spec {
            interface: InterfaceId(1),
            inside: net6("fd00::/48"),
            outside: net6("2001:db8:1::/48"),
            zero_iid: npt66::ZeroIid::Drop,
        };
        builder.npt66(rule).expect("valid");
    }
    builder
}

fn hop(interface: u16, router: usize, weight: u16) -> Hop {
    Hop {
        interface: InterfaceId(interface),
        via: Some(ROUTERS[router].parse().expect("an address")),
        weight,
    }
}

fn hop_v4(interface: u16, router: usize, weight: u16) -> Hop {
    Hop {
        via: Some(ROUTERS_V4[router].parse().expect("an address")),
        ..hop(interface, router, weight)
    }
}

fn any_route() -> impl Strategy<Value = Route> {
    prop_oneof![
        Just(Route::Blackhole),
        Just(Route::Unreachable),
        (0_u16..3, 0_usize..2)
            .prop_map(|(interface, router)| { Route::Hops(vec![hop(interface, router, 3)]) }),
        (1_u16..3).prop_map(|weight| Route::Hops(vec![hop(0, 0, weight), hop(1, 1, 1)])),
        (0_u16..3, 0_usize..2)
            .prop_map(|(interface, router)| Route::Hops(vec![hop_v4(interface, router, 3)])),
        (1_u16..3).prop_map(|weight| Route::Hops(vec![hop_v4(0, 0, weight), hop(1, 1, 1)])),
    ]
}

fn any_routes() -> impl Strategy<Value = Vec<(VrfId, IpNet, Route)>> {
    let one = (0_u16..2, 0..PREFIXES.len(), any_route())
        .prop_map(|(vrf, prefix, route)| (VrfId(vrf), net(PREFIXES[prefix]), route));
    prop::collection::vec(one, 0..8)
}

fn any_world() -> impl Strategy<Value = World> {
    (any::<bool>(), any::<bool>(), 0_usize..3, any::<bool>()).prop_map(
        |(has_address, is_up, resolved, has_rule)| World {
            has_address,
            is_up,
            resolved,
            has_rule,
        },
    )
}

/// Where packets to every address go, by the prefix tables alone.
fn meaning(tables: &Tables) -> Vec<String> {
    let addresses = ADDRESSES
        .iter()
        .flat_map(|address| [(0, address), (1, address)]);
    addresses
        .map(|(vrf, address)| {
            let fib = tables.fib(VrfId(vrf));
            let leaf = match address.parse().expect("an address") {
                IpAddr::V6(address) => fib.v6.lookup(&address.octets()),
                IpAddr::V4(address) => fib.v4.lookup(&address.into()),
            };
            let next_hop = tables.next_hop(leaf);
            let shown = |next_hop: &crate::fib::NextHop| {
                let mut next_hop = next_hop.clone();
                next_hop.first = 0;
                format!("{next_hop:?}")
            };
            let members = (0..next_hop.count).map(|member| {
                let index = next_hop.first + member;
                shown(tables.next_hop(tables.members[index as usize]))
            });
            let members: Vec<String> = members.collect();
            format!("{vrf} {address}: {} {members:?}", shown(next_hop))
        })
        .collect()
}

/// What tables without a history say.
fn fresh(world: &World, routes: &[(VrfId, IpNet, Route)]) -> Vec<String> {
    let mut rib = Rib::new();
    rib.set_routes(routes.iter().cloned());
    let tables = builder(world).build_in(&mut rib);
    rib.commit();
    meaning(&tables)
}

proptest! {
    /// After any history the tables mean what they mean without one. Before the commit, tables just built send each
    /// packet where the prefixes led before, or where links and neighbours now lead it; never to nothing.
    #[test]
    fn history_leaves_no_trace(
        steps in prop::collection::vec((any_world(), prop::option::of(any_routes()), any::<bool>()), 1..12),
    ) {
        let mut rib = Rib::new();
        let mut routes = Vec::new();
        let mut committed = (Vec::new(), false);
        for (world, changed, commits) in steps {
            if let Some(changed) = changed {
                routes = changed;
                rib.set_routes(routes.iter().cloned());
            }
            let tables = builder(&world).build_in(&mut rib);
            if commits || !committed.1 {
                rib.commit();
                prop_assert!(!rib.is_pending());
                prop_assert_eq!(meaning(&tables), fresh(&world, &routes));
                committed = (routes.clone(), true);
            } else if !world.has_rule && !world.has_address {
                let expected = fresh(&world, &committed.0);
                // Prefixes that were derived when they were committed may still be there.
                for (now, expected) in meaning(&tables).iter().zip(&expected) {
                    let is_derived = now.contains("kind: Hairpin") || now.contains("kind: Glean") || now.contains("kind: Local");
                    prop_assert!(now == expected || is_derived, "{} {}", now, expected);
                }
            }
        }
    }
}

#[test]
fn a_resolved_neighbour_changes_no_prefix() {
    let mut world = World {
        has_address: true,
        is_up: true,
        resolved: 0,
        has_rule: false,
    };
    let mut rib = Rib::new();
    rib.set_routes([(VrfId(0), net("::/0"), Route::Hops(vec![hop(1, 0, 1)]))]);
    let tables = builder(&world).build_in(&mut rib);
    rib.commit();
    let far = |tables: &Tables| {
        let leaf = tables.fib(VrfId(0)).v6.lookup(&[0x20; 16]);
        tables.next_hop(leaf).kind
    };
    assert_eq!(far(&tables), Kind::Glean);
    world.resolved = 1;
    let resolved = builder(&world).build_in(&mut rib);
    assert!(!rib.is_pending());
    assert_eq!(far(&resolved), Kind::Neighbor);
    assert_eq!(rib.prefixes(), 3, "the route and two connected prefixes");
}

#[test]
fn a_number_is_used_again_only_after_its_prefixes_are_gone() {
    let world = World {
        has_address: false,
        is_up: true,
        resolved: 2,
        has_rule: false,
    };
    let prefix = net6("2001:db8::/32");
    let mut rib = Rib::new();
    let mut step = |route: Option<Route>, commits: bool| {
        rib.set_routes(route.map(|route| (VrfId(0), prefix.into(), route)));
        let tables = builder(&world).build_in(&mut rib);
        if commits {
            rib.commit();
        }
        let leaf = tables.fib(VrfId(0)).v6.lookup(&prefix.network().octets());
        (leaf, tables.next_hop(leaf).via)
    };
    let [first, second] = [0, 1].map(|router| Some(Route::Hops(vec![hop(1, router, 1)])));
    let via = |router: usize| Some(ROUTERS[router].parse::<IpAddr>().expect("an address"));
    let (number, to) = step(first, true);
    assert_eq!(to, via(0));
    // The new tables know both: workers that meet the old leaf still find the old router.
    assert_eq!(step(second.clone(), false), (number, via(0)));
    let (other, to) = step(second, true);
    assert_eq!(to, via(1));
    assert_ne!(other, number);
    assert_eq!(step(None, true), (0, None));
    let (again, _) = step(Some(Route::Blackhole), true);
    assert!([number, other].contains(&again), "numbers are used again");
}

/// RFC 8950 is not supported: a hop by a router of the other family is no hop.
#[test]
fn a_router_of_the_other_family_leads_nowhere() {
    let world = World {
        has_address: true,
        is_up: true,
        resolved: 2,
        has_rule: false,
    };
    let mut rib = Rib::new();
    let foreign = Route::Hops(vec![hop(1, 0, 1)]);
    let mixed = Route::Hops(vec![hop(1, 0, 2), hop_v4(1, 1, 2)]);
    rib.set_routes([
        (VrfId(0), net("0.0.0.0/0"), foreign),
        (VrfId(0), net("198.51.100.0/24"), mixed),
    ]);
    let tables = builder(&world).build_in(&mut rib);
    rib.commit();
    let to = |address: [u8; 4]| {
        let fib = tables.fib(VrfId(0));
        tables.next_hop(fib.v4.lookup(&u32::from_be_bytes(address)))
    };
    assert_eq!(to([203, 0, 113, 1]).kind, Kind::Drop);
    assert_eq!(to([198, 51, 100, 1]).kind, Kind::Neighbor);
    assert_eq!(to([198, 51, 100, 1]).link[12..14], [0x08, 0x00]);
}
