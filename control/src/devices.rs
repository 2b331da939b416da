//! DPDK as the control thread's [`Platform`]: from configuration to running ports, and their state.

use std::collections::BTreeMap;

use dataplane::dpdk::{
    Eal, EalConfig, EalError, HugePages, LogLevel, Mbuf, Mempool, MempoolConfig, MempoolError,
    Port, PortConfig, PortError,
};
use dataplane::port::{PortId, RxQueue, TxQueue};
use dataplane::wire::ethernet::Mac;
use dataplane::worker::PortQueues;

use crate::admin::view::Link;
use crate::config::{self, Config};
use crate::platform::{Platform, PortFacts};
use crate::publish;

/// Buffers each thread keeps for itself.
const MBUF_CACHE: u32 = 256;
/// Shortest buffer: an ordinary frame, and room for what drivers add.
const DATA_ROOM_MIN: u16 = 2048;
/// What an IPv6 packet of the MTU's size gains on a link: Ethernet header, two VLAN tags, frame check sequence.
const LINK_OVERHEAD: u16 = 14 + 2 * 4 + 4;

/// Why devices cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// DPDK did not start, or a device did not come up.
    #[error(transparent)]
    Eal(#[from] EalError),
    /// No packet memory.
    #[error(transparent)]
    Mempool(#[from] MempoolError),
    /// A port refused its configuration.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Started ports, and the memory of their packets.
pub(crate) struct Devices {
    ports: Vec<(Port, PortFacts)>,
    /// For packets of the control thread.
    mempool: Mempool,
    memory: String,
    /// Last: DPDK ends when nothing needs it any more.
    eal: Eal,
}

impl Devices {
    /// Start DPDK, open and start every port.
    pub(crate) fn start(config: &Config) -> Result<Self, DeviceError> {
        let eal = Eal::start(&EalConfig {
            huge_pages: match config.system.huge_pages {
                config::HugePages::Auto => HugePages::Auto,
                config::HugePages::Require => HugePages::Require,
                config::HugePages::Off => HugePages::Off,
            },
            devices: config
                .ports
                .iter()
                .map(|port| port.device.to_string())
                .collect(),
            control_core: config.system.control_core,
            memory_mib: config.system.memory_mib,
            log_level: LogLevel::Warning,
        })?;
        log(&eal);
        let memory = eal.memory().to_string();
        tracing::info!("{}, {memory}", Eal::dpdk_version());

        let mut mempools = BTreeMap::<Option<u32>, Mempool>::new();
        let mut ports = Vec::with_capacity(config.ports.len());
        // More queues than u16 can say are more than any device has.
        let wanted_queues = u16::try_from(config.workers.cores.len()).unwrap_or(u16::MAX);
        let sockets = config.ports.iter();
        let sockets = sockets.map(|port| eal.socket_of(port.device.as_str()));
        for (port, socket) in config
            .ports
            .iter()
            .zip(sockets_of_memory(sockets.collect()))
        {
            let mempool = match mempools.get(&socket) {
                Some(mempool) => mempool.clone(),
                None => {
                    let mempool = make_mempool(&eal, config, socket)?;
                    mempools.insert(socket, mempool.clone());
                    mempool
                }
            };
            let mut open = Port::open(&eal, &port_config(port), wanted_queues, &mempool)?;
            open.start()?;
            log(&eal);
            let info = open.info();
            let facts = PortFacts {
                mac: Mac::from_octets(open.mac()),
                driver: info.driver.clone(),
                rx_queues: open.rx_queues(),
                tx_queues: open.tx_queues(),
                socket: info.socket,
            };
            tracing::info!(
                "port {}: {} ({}), {}, {} receive and {} transmit queues, MTU {}",
                port.name,
                port.device.name(),
                facts.driver,
                facts.mac,
                facts.rx_queues,
                facts.tx_queues,
                port.mtu
            );
            ports.push((open, facts));
        }
        let first = mempools.into_values().next();
        Ok(Self {
            ports,
            mempool: first.expect("the configuration has a port"),
            memory,
            eal,
        })
    }

    /// All queues, once.
    pub(crate) fn take_queues(&mut self) -> Vec<PortQueues<Mbuf>> {
        let ports = self.ports.iter_mut().enumerate();
        let queues = ports.map(|(position, (port, facts))| PortQueues {
            id: publish::port(position),
            receive: (0..facts.rx_queues)
                .filter_map(|queue| port.take_rx_queue(queue))
                .map(|queue| Box::new(queue) as Box<dyn RxQueue<Frame = Mbuf>>)
                .collect(),
            transmit: (0..facts.tx_queues)
                .filter_map(|queue| port.take_tx_queue(queue))
                .map(|queue| Box::new(queue) as Box<dyn TxQueue<Frame = Mbuf>>)
                .collect(),
        });
        queues.collect()
    }
}

/// What DPDK says is for those who debug it: what matters comes as an error.
fn log(eal: &Eal) {
    for line in eal.take_log() {
        tracing::debug!("DPDK: {line}");
    }
}

/// Whose memory each port's packets are in. A device that is on no socket, as most virtual ones are, shares the memory of one
/// that is: a pool of its own would take as much again.
fn sockets_of_memory(sockets: Vec<Option<u32>>) -> Vec<Option<u32>> {
    let some = sockets.iter().find_map(|socket| *socket);
    sockets.into_iter().map(|socket| socket.or(some)).collect()
}

fn make_mempool(eal: &Eal, config: &Config, socket: Option<u32>) -> Result<Mempool, MempoolError> {
    let mtu = config.ports.iter().map(|port| port.mtu).max().unwrap_or(0);
    let name = socket.map_or_else(|| "frames".to_owned(), |socket| format!("frames-{socket}"));
    Mempool::new(
        eal,
        &MempoolConfig {
            name: &name,
            mbufs: config.workers.mbufs,
            cache: MBUF_CACHE,
            data_room: DATA_ROOM_MIN.max(mtu.saturating_add(LINK_OVERHEAD)),
            socket,
        },
    )
}

fn port_config(port: &config::Port) -> PortConfig {
    PortConfig {
        name: port.name.clone(),
        device: port.device.to_string(),
        rx_queues: port.rx_queues,
        tx_queues: port.tx_queues,
        rx_descriptors: port.rx_descriptors,
        tx_descriptors: port.tx_descriptors,
        mtu: port.mtu,
        promiscuous: port.promiscuous,
    }
}

impl Platform for Devices {
    type Frame = Mbuf;

    fn engine(&self) -> String {
        Eal::dpdk_version()
    }

    fn memory(&self) -> String {
        self.memory.clone()
    }

    fn allocate(&self, bytes: &[u8]) -> Option<Mbuf> {
        self.mempool.allocate(bytes)
    }

    fn port(&self, port: PortId) -> &PortFacts {
        &self.ports[port.index()].1
    }

    fn link(&self, port: PortId) -> Link {
        log(&self.eal);
        let link = self.ports[port.index()].0.link();
        Link {
            up: link.up,
            speed_mbps: link.speed_mbps,
            full_duplex: link.full_duplex,
        }
    }

    fn device_counters(&self, port: PortId, detailed: bool) -> BTreeMap<String, u64> {
        let port = &self.ports[port.index()].0;
        let stats = port.stats();
        let mut counters: BTreeMap<String, u64> = if detailed {
            port.xstats().into_iter().collect()
        } else {
            BTreeMap::new()
        };
        counters.extend([
            ("rx_packets".to_owned(), stats.rx_packets),
            ("rx_bytes".to_owned(), stats.rx_bytes),
            ("rx_missed".to_owned(), stats.rx_missed),
            ("rx_errors".to_owned(), stats.rx_errors),
            ("rx_no_buffer".to_owned(), stats.rx_no_buffer),
            ("tx_packets".to_owned(), stats.tx_packets),
            ("tx_bytes".to_owned(), stats.tx_bytes),
            ("tx_errors".to_owned(), stats.tx_errors),
        ]);
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_on_no_socket_share_the_memory_of_others() {
        let [zero, one] = [Some(0), Some(1)];
        let memory = |sockets: &[Option<u32>]| sockets_of_memory(sockets.to_vec());
        assert_eq!(memory(&[None, one, zero, None]), [one, one, zero, one]);
        assert_eq!(memory(&[None, None]), [None, None]);
    }
}
