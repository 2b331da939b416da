//! Services whose packets are translated: an answer must say which service it is of.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use crate::config::error::{Place, Sink};
use crate::config::file::ServiceTable;
use crate::config::problem::Problem;
use crate::config::steering::{Mode, Pool, Ports, Protocol};

/// All ports there are.
const ALL: Ports = Ports {
    first: 0,
    last: u16::MAX,
};

/// Ports of servers by VRF, address and protocol, and where they are said to be those of a service.
#[derive(Default)]
pub(super) struct Answers(BTreeMap<(usize, Ipv6Addr, &'static str), Vec<(Ports, Place)>>);

impl Answers {
    /// Judge a service of this pool.
    pub(super) fn check(&mut self, table: &ServiceTable, pool: &Pool, sink: &mut Sink<'_>) {
        let Some((_, at_pool)) = table.pool.given() else {
            return;
        };
        if pool.mode != Mode::Dnat || table.protocol.is_invalid() {
            return;
        }
        let mut refuse = |place: &Place, found: String, expected| {
            let mode = pool.mode.name();
            let problem = Problem::NotInMode {
                found,
                mode,
                expected,
            };
            sink.push(place, problem);
        };
        if let Some((prefix, place)) = table.prefix.given()
            && prefix.prefix_len() < 128
        {
            refuse(place, prefix.to_string(), "one address, with /128");
        }
        let protocol = table.protocol.value().copied().unwrap_or_default();
        let at_protocol = table.protocol.given().map_or(at_pool, |(_, place)| place);
        if protocol == Protocol::Any {
            let expected = "\"tcp\", \"udp\", \"udp-lite\", \"sctp\" or \"icmpv6\"";
            refuse(at_protocol, "protocol \"any\"".to_owned(), expected);
            return;
        }
        if !protocol.has_ports() && table.ports.given().is_some() {
            return; // refused already
        }
        if let Some(port) = pool.port {
            if matches!(protocol, Protocol::Sctp | Protocol::Icmpv6) {
                let found = format!("protocol {:?} and port = {port}", protocol.name());
                let expected = "\"tcp\", \"udp\" or \"udp-lite\", or a pool without port";
                refuse(at_protocol, found, expected);
                return;
            }
            let ports = table.ports.value().map(|list| &list.items[..]);
            if !matches!(ports, Some([(ports, _)]) if ports.first == ports.last) {
                let found = format!("port = {port} for several ports");
                let expected = "one port, or a pool without port";
                let place = table.ports.given().map_or(at_pool, |(_, place)| place);
                refuse(place, found, expected);
                return;
            }
        }
        self.claim(table, pool, (protocol, at_pool), sink);
    }

    /// Ports of the pool's servers are this service's, and no other's.
    fn claim(
        &mut self,
        table: &ServiceTable,
        pool: &Pool,
        (protocol, at_pool): (Protocol, &Place),
        sink: &mut Sink<'_>,
    ) {
        let given = table.ports.value().map(|list| &list.items[..]);
        let whole = [(ALL, at_pool.clone())];
        for (ports, place) in given.unwrap_or(&whole) {
            let ports = pool.port.map_or(*ports, |port| Ports {
                first: port,
                last: port,
            });
            let mut told = false;
            for server in &pool.servers {
                let key = (pool.vrf, server.address, protocol.name());
                let claims = self.0.entry(key).or_default();
                let clash = claims
                    .iter()
                    .find(|(other, _)| other.first <= ports.last && ports.first <= other.last);
                if let Some((_, first)) = clash.filter(|_| !told) {
                    let of_ports = match protocol.has_ports() && ports != ALL {
                        true => format!(" {ports}"),
                        false => String::new(),
                    };
                    let problem = Problem::Duplicate {
                        what: "server port",
                        found: format!("{}, {}{of_ports}", server.address, protocol.name()),
                        scope: "with one service, or nobody could tell whose its answers are",
                    };
                    sink.push_related(place, problem, first, "first here");
                    told = true;
                }
                claims.push((ports, place.clone()));
            }
        }
    }
}
