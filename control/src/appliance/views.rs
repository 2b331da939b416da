//! The appliance as `sextant show` sees it. Reading only: nothing here changes anything.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dataplane::counters::WorkerCounters;
use dataplane::reason::{DropReason, Info, PuntReason};
use dataplane::worker::WorkerHandle;
use pipelines::{Meta, NODE_NAMES};

use super::Appliance;
use crate::admin::protocol::{Answer, Subject};
use crate::admin::view::{
    Address, Count, Counters, Drops, Instance, Interface, Interfaces, Neighbor, Neighbors, Node,
    Npt66, Port, PortCounters, Ports, Rule, RuleCounters, Totals, Worker, Workers,
};
use crate::config::ZeroIid;
use crate::platform::Platform;
use crate::proto::ndp::InterfaceIndex;
use crate::publish;

impl<P: Platform> Appliance<P> {
    pub(super) fn show(&self, now: Instant, subject: Subject) -> Answer {
        match subject {
            Subject::Ports => Answer::done(Ports {
                monotonic_ns: self.clock(now),
                ports: (0..self.config.ports.len())
                    .map(|port| self.show_port(port))
                    .collect(),
            }),
            Subject::Interfaces => Answer::done(self.show_interfaces(now)),
            Subject::Workers => Answer::done(Workers {
                monotonic_ns: self.clock(now),
                workers: self.show_workers(),
            }),
            Subject::Routes => Answer::done(self.show_routes(now)),
            Subject::Neighbors => Answer::done(self.show_neighbors(now)),
            Subject::Npt66 => Answer::done(self.show_npt66(now)),
            Subject::Lisp => Answer::done(self.show_lisp(now)),
            Subject::Services => Answer::done(self.show_services(now)),
            Subject::Counters => Answer::done(self.show_counters(now)),
            Subject::Drops => Answer::done(Drops {
                monotonic_ns: self.clock(now),
                drops: self.drops(),
                punts: self.punts(),
                control: self.discarded(),
            }),
            Subject::Instance => Answer::done(self.show_instance(now)),
        }
    }

    /// Nanoseconds since the start.
    pub(super) fn clock(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.started))
    }

    pub(super) fn show_instance(&self, now: Instant) -> Instance {
        Instance {
            monotonic_ns: self.clock(now),
            name: self.config.system.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.platform.engine(),
            memory: self.platform.memory(),
            pid: std::process::id(),
            config: self.config_path.display().to_string(),
            configurations_applied: self.counts.configurations_applied,
            configurations_refused: self.counts.configurations_refused,
            panics: self.counts.panics,
            publications: self.counts.publications,
            publications_pending: self.publisher.pending() as u64, // `as`: a length
            fib_bytes: self.rib.bytes() as u64,                    // `as`: a length
        }
    }

    fn show_port(&self, port: usize) -> Port {
        let configured = &self.config.ports[port];
        let facts = self.platform.port(publish::port(port));
        Port {
            device_string: configured.device.to_string(),
            driver: facts.driver.clone(),
            mac: facts.mac.to_string(),
            link: self.links[port],
            mtu: configured.mtu,
            rx_queues: facts.rx_queues,
            tx_queues: facts.tx_queues,
            socket: facts.socket,
            counters: self.port_counters(port, true),
        }
    }

    fn port_counters(&self, port: usize, detailed: bool) -> PortCounters {
        let id = publish::port(port);
        let sum = |read: fn(&dataplane::counters::PortCounters) -> u64| {
            self.sum(|counters| read(counters.port(id)))
        };
        PortCounters {
            name: self.config.ports[port].name.clone(),
            rx_packets: sum(|port| port.rx.packets.read()),
            rx_bytes: sum(|port| port.rx.bytes.read()),
            tx_packets: sum(|port| port.tx.packets.read()),
            tx_bytes: sum(|port| port.tx.bytes.read()),
            device: self.platform.device_counters(id, detailed),
        }
    }

    fn show_interfaces(&self, now: Instant) -> Interfaces {
        let mut neighbors = BTreeMap::<InterfaceIndex, usize>::new();
        for neighbor in self.machine.neighbors() {
            *neighbors.entry(neighbor.interface).or_default() += 1;
        }
        let interfaces = self.config.interfaces.iter().enumerate();
        let interfaces = interfaces.map(|(position, interface)| {
            let index = InterfaceIndex(self.slots.id(position).0);
            let mac = self.macs[interface.port];
            let link_local = publish::link_local(interface, mac);
            let state = |address| {
                let state = self.machine.address_state(index, address);
                state.map_or("unknown", |state| state.name()).to_owned()
            };
            let mut addresses: Vec<Address> = interface
                .addresses
                .iter()
                .map(|address| Address {
                    address: address.to_string(),
                    state: state(address.addr()),
                })
                .collect();
            addresses.push(Address {
                address: format!("{link_local}/64"),
                state: state(link_local.into()),
            });
            let rules = self.config.npt66.iter();
            Interface {
                name: interface.name.clone(),
                port: self.config.ports[interface.port].name.clone(),
                vlan: interface.vlan.clone(),
                vrf: self.config.vrfs[interface.vrf].clone(),
                up: self.links[interface.port].up,
                mac: mac.to_string(),
                mtu: interface.mtu,
                addresses,
                neighbors: neighbors.get(&index).copied().unwrap_or(0),
                npt66: rules
                    .filter(|rule| rule.interface == position)
                    .map(|rule| rule.name.clone())
                    .collect(),
            }
        });
        Interfaces {
            monotonic_ns: self.clock(now),
            interfaces: interfaces.collect(),
        }
    }

    fn show_workers(&self) -> Vec<Worker> {
        let ports = self.config.ports.len();
        self.workers
            .iter()
            .map(|worker| show_worker(worker, ports))
            .collect()
    }

    fn show_neighbors(&self, now: Instant) -> Neighbors {
        let neighbors = self.machine.neighbors().map(|neighbor| Neighbor {
            interface: self.interface_name(neighbor.interface).to_owned(),
            address: neighbor.address.to_string(),
            mac: neighbor.mac.map(|mac| mac.to_string()),
            state: neighbor.state.name().to_owned(),
            router: neighbor.is_router,
            gateway: neighbor.is_gateway,
            age_ms: neighbor.since.map(|since| {
                let age = now.saturating_duration_since(since).as_millis();
                u64::try_from(age).unwrap_or(u64::MAX)
            }),
            queued: neighbor.queued,
        });
        let mut neighbors: Vec<Neighbor> = neighbors.collect();
        neighbors.sort_by(|a, b| a.interface.cmp(&b.interface));
        let counters = self.machine.counters();
        Neighbors {
            monotonic_ns: self.clock(now),
            neighbors,
            counters: self.discovery_counters(),
            invalid: counters
                .invalid_counts()
                .map(|(reason, count)| (reason.name().to_owned(), count))
                .collect(),
        }
    }

    fn discovery_counters(&self) -> BTreeMap<String, u64> {
        let counts = self.machine.counters().counts();
        counts
            .map(|(counter, count)| (counter.name().to_owned(), count))
            .collect()
    }

    fn show_npt66(&self, now: Instant) -> Npt66 {
        let counters = self.rules.counters(&self.rule_sums());
        let rules = self.config.npt66.iter().zip(counters);
        let rules = rules.map(|(rule, counters)| Rule {
            interface: self.config.interfaces[rule.interface].name.clone(),
            inside: rule.inside.to_string(),
            outside: rule.outside.to_string(),
            proxy_nd: rule.proxy_nd,
            zero_iid: match rule.zero_iid {
                ZeroIid::Drop => "drop",
                ZeroIid::Translate => "translate",
            }
            .to_owned(),
            counters,
        });
        Npt66 {
            monotonic_ns: self.clock(now),
            npt66: rules.collect(),
        }
    }

    /// The workers' sums by position of the rule.
    pub(super) fn rule_sums(&self) -> Vec<RuleCounters> {
        let positions = 0..dataplane::counters::RULES_MAX;
        let sums = positions.map(|position| {
            let sum = |read: fn(&dataplane::counters::RuleCounters) -> u64| {
                self.sum(|counters| counters.rules.get(position).map_or(0, read))
            };
            RuleCounters {
                name: String::new(),
                out_packets: sum(|rule| rule.out.packets.read()),
                out_bytes: sum(|rule| rule.out.bytes.read()),
                in_packets: sum(|rule| rule.r#in.packets.read()),
                in_bytes: sum(|rule| rule.r#in.bytes.read()),
            }
        });
        sums.collect()
    }

    fn show_counters(&self, now: Instant) -> Counters {
        let ports: Vec<PortCounters> = (0..self.config.ports.len())
            .map(|port| self.port_counters(port, false))
            .collect();
        let drops = self.drops();
        let punts = self.punts();
        let total = |counts: &[Count]| counts.iter().map(|count| count.count).sum();
        Counters {
            monotonic_ns: self.clock(now),
            totals: Totals {
                rx: ports.iter().map(|port| port.rx_packets).sum(),
                injected: self.sum(|counters| counters.injected.read()),
                generated: self.sum(|counters| counters.generated.read()),
                tx: ports.iter().map(|port| port.tx_packets).sum(),
                drops: total(&drops),
                punts: total(&punts),
                errors_limited: self.sum(|counters| counters.errors_limited.read()),
                encapsulated: self.sum(|counters| counters.lisp_encap.packets.read()),
                decapsulated: self.sum(|counters| counters.lisp_decap.packets.read()),
            },
            ports,
            drops,
            punts,
            control: self.discarded(),
            workers: self.show_workers(),
            npt66: self.rules.counters(&self.rule_sums()),
            ndp: self.discovery_counters(),
        }
    }

    /// Where all packets went, in one line.
    #[must_use]
    pub fn account(&self) -> String {
        let totals = self.show_counters(self.started).totals;
        format!(
            "{} received, {} injected, {} generated; {} sent, {} dropped, {} punted",
            totals.rx, totals.injected, totals.generated, totals.tx, totals.drops, totals.punts
        )
    }

    fn drops(&self) -> Vec<Count> {
        let reasons = DropReason::ALL.iter();
        let counts = reasons.map(|reason| {
            let count = self.sum(|counters| counters.dropped(*reason));
            counted(reason.info(), count)
        });
        counts.collect()
    }

    fn punts(&self) -> Vec<Count> {
        let reasons = PuntReason::ALL.iter();
        let counts = reasons.map(|reason| {
            let count = self.sum(|counters| counters.punted(*reason));
            counted(reason.info(), count)
        });
        counts.collect()
    }

    fn discarded(&self) -> Vec<Count> {
        let counts = self.discards.iter().map(|(reason, count)| {
            let (name, text, rfc) = reason.info();
            counted(Info { name, text, rfc }, count)
        });
        counts.collect()
    }

    /// One counter, summed over all workers.
    pub(super) fn sum(&self, read: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.workers
            .iter()
            .map(|worker| read(&worker.counters))
            .sum()
    }
}

fn counted(info: Info, count: u64) -> Count {
    Count {
        name: info.name.to_owned(),
        text: info.text.to_owned(),
        rfc: info.rfc.to_owned(),
        count,
    }
}

fn show_worker<F>(worker: &WorkerHandle<F, Meta>, ports: usize) -> Worker {
    let counters = &worker.counters;
    let over_ports = |read: fn(&dataplane::counters::PortCounters) -> u64| {
        (0..ports)
            .map(|port| read(counters.port(publish::port(port))))
            .sum()
    };
    let nodes = NODE_NAMES.iter().zip(&counters.nodes);
    Worker {
        index: worker.index,
        core: worker.core,
        state: worker.status.state().name().to_owned(),
        panics: worker.status.panics(),
        cause: worker.status.message(),
        polls: counters.polls.read(),
        busy_polls: counters.busy_polls.read(),
        rx: over_ports(|port| port.rx.packets.read()),
        tx: over_ports(|port| port.tx.packets.read()),
        injected: counters.injected.read(),
        spread_in: counters.spread_in.read(),
        spread_out: counters.spread_out.read(),
        nodes: nodes
            .map(|(name, node)| Node {
                name: (*name).to_owned(),
                calls: node.calls.read(),
                frames: node.frames.read(),
            })
            .collect(),
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
