//! From what is configured and what a device can do to what the device is told, before it starts.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use dpdk_sys::{
    DPDK_RSS_IP, DPDK_RSS_TCP, DPDK_RSS_UDP, DPDK_RX_OFFLOAD_IPV4_CKSUM, DPDK_RX_OFFLOAD_TCP_CKSUM,
    DPDK_RX_OFFLOAD_UDP_CKSUM, DPDK_TX_OFFLOAD_TCP_CKSUM, DPDK_TX_OFFLOAD_UDP_CKSUM,
    rte_eth_dev_info,
};

use super::mempool::Mempool;
use super::port::{OpenPort, PortConfig, PortError, PortFault, PortInfo};
use super::{Errno, kernel};

/// Ethernet header and frame check sequence, as DPDK counts them round an MTU.
const ETHERNET_OVERHEAD: u32 = 18;

/// Two VLAN tags, on top of the IPv6 MTU.
const VLAN_ROOM: u16 = 8;

/// net_tap chains one buffer per descriptor as landing place for a single packet, and holds on to all of them. One packet
/// fits in one buffer here, so one descriptor does.
const TAP_DESCRIPTORS: u16 = 1;

const RX_CHECKSUMS: u64 =
    DPDK_RX_OFFLOAD_IPV4_CKSUM | DPDK_RX_OFFLOAD_UDP_CKSUM | DPDK_RX_OFFLOAD_TCP_CKSUM;
const TX_CHECKSUMS: u64 = DPDK_TX_OFFLOAD_UDP_CKSUM | DPDK_TX_OFFLOAD_TCP_CKSUM;

/// What DPDK says about a valid port.
pub(super) fn device_info(port: u16) -> Result<rte_eth_dev_info, Errno> {
    let mut info = MaybeUninit::zeroed();
    // SAFETY: takes any port number, and a place for the answer.
    Errno::check(unsafe { dpdk_sys::rte_eth_dev_info_get(port, info.as_mut_ptr()) })?;
    // SAFETY: filled in by the call; zeroed before it.
    Ok(unsafe { info.assume_init() })
}

/// The device's address.
pub(super) fn mac(open: &OpenPort) -> Result<[u8; 6], PortError> {
    let mut mac = dpdk_sys::rte_ether_addr { addr_bytes: [0; 6] };
    // SAFETY: a valid port and a place for the address.
    let result = unsafe { dpdk_sys::rte_eth_macaddr_get(open.id(), &raw mut mac) };
    open.check("read its MAC address", result)?;
    Ok(mac.addr_bytes)
}

/// Configure the device and set up its queues.
pub(super) fn configure(
    open: &OpenPort,
    config: &PortConfig,
    wanted_queues: u16,
    mempool: &Mempool,
) -> Result<PortInfo, PortError> {
    let device =
        device_info(open.id()).map_err(|errno| open.refused("read its abilities", errno))?;
    let mut info = describe(open, config, wanted_queues, &device);
    if info.rx_queues == 0 || info.tx_queues == 0 {
        return Err(open.error(PortFault::OneWay));
    }
    if config.mtu > info.max_mtu {
        return Err(open.error(PortFault::Mtu {
            mtu: config.mtu,
            most: info.max_mtu,
        }));
    }
    let needed = u32::from(config.mtu) + u32::from(VLAN_ROOM) + ETHERNET_OVERHEAD;
    if needed > u32::from(mempool.data_room()) {
        let (mtu, data_room) = (config.mtu, mempool.data_room());
        return Err(open.error(PortFault::Buffer {
            mtu,
            needed,
            data_room,
        }));
    }
    let mtu = device_mtu(config.mtu, &info);
    if configure_device(open, &info, &device, mtu).is_err() {
        // Some drivers offer more than they grant together. Nothing we do relies on either.
        (info.rss, info.rx_checksums) = (false, false);
        configure_device(open, &info, &device, mtu)?;
    }
    set_up_queues(open, config, &info, &device, mempool)?;
    if info.interface.is_some() {
        // `configure` only told DPDK; this tells the kernel.
        // SAFETY: a configured port of ours.
        let result = unsafe { dpdk_sys::rte_eth_dev_set_mtu(open.id(), mtu) };
        open.check_unless_unsupported("set its MTU", result)?;
    }
    Ok(info)
}

fn describe(
    open: &OpenPort,
    config: &PortConfig,
    wanted_queues: u16,
    device: &rte_eth_dev_info,
) -> PortInfo {
    // SAFETY: a driver's name is a terminated string that lives as long as the driver is loaded.
    let driver = unsafe { CStr::from_ptr(device.driver_name) }
        .to_string_lossy()
        .into_owned();
    let is_tap = driver == "net_tap";
    let wanted = wanted_queues.max(1);
    let mut rx_queues = config
        .rx_queues
        .unwrap_or(wanted)
        .max(1)
        .min(device.max_rx_queues);
    let mut tx_queues = config
        .tx_queues
        .unwrap_or(wanted)
        .max(1)
        .min(device.max_tx_queues);
    if is_tap {
        // A queue of a tap is one file descriptor for both directions.
        rx_queues = rx_queues.min(tx_queues);
        tx_queues = rx_queues;
    }
    // SAFETY: takes any port number.
    let socket = unsafe { dpdk_sys::rte_eth_dev_socket_id(open.id()) };
    PortInfo {
        socket: u32::try_from(socket).ok(),
        interface: (device.if_index != 0)
            .then(|| kernel::interface_name(device.if_index))
            .flatten(),
        // net_tap computes them in software, a cost with no gain.
        rx_checksums: !is_tap && device.rx_offload_capa & RX_CHECKSUMS != 0,
        tx_checksums: !is_tap && device.tx_offload_capa & TX_CHECKSUMS == TX_CHECKSUMS,
        rss: rx_queues > 1 && flows_to_spread(device) != 0,
        max_rx_queues: device.max_rx_queues,
        max_tx_queues: device.max_tx_queues,
        rx_queues,
        tx_queues,
        max_mtu: max_mtu(device.max_mtu, device.max_rx_pktlen),
        driver,
    }
}

fn flows_to_spread(device: &rte_eth_dev_info) -> u64 {
    device.flow_type_rss_offloads & (DPDK_RSS_IP | DPDK_RSS_TCP | DPDK_RSS_UDP)
}

/// The MTU to tell a device for this IPv6 MTU: with room for tags, unless a network interface of the kernel is behind it.
/// Such an interface has its own room for tags, and hosts behind it see its MTU.
pub(super) fn device_mtu(mtu: u16, info: &PortInfo) -> u16 {
    if info.interface.is_some() {
        mtu
    } else {
        mtu.saturating_add(VLAN_ROOM).min(info.max_mtu)
    }
}

/// The largest MTU that `rte_eth_dev_configure` accepts: it subtracts a frame's overhead from the longest packet, and
/// takes for overhead what lies between the two figures of the device, or the ordinary one where it gives no MTU.
fn max_mtu(max_mtu: u16, max_packet: u32) -> u16 {
    if max_mtu != u16::MAX && max_packet > u32::from(max_mtu) {
        return max_mtu;
    }
    let by_packet = max_packet.saturating_sub(ETHERNET_OVERHEAD);
    max_mtu.min(u16::try_from(by_packet).unwrap_or(u16::MAX))
}

fn configure_device(
    open: &OpenPort,
    info: &PortInfo,
    device: &rte_eth_dev_info,
    mtu: u16,
) -> Result<(), PortError> {
    // SAFETY: plain data for which all zeros means "nothing special".
    let mut settings: dpdk_sys::rte_eth_conf = unsafe { MaybeUninit::zeroed().assume_init() };
    settings.rxmode.mtu = u32::from(mtu);
    if info.rx_checksums {
        settings.rxmode.offloads = device.rx_offload_capa & RX_CHECKSUMS;
    }
    if info.rss {
        settings.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
        settings.rx_adv_conf.rss_conf.rss_hf = flows_to_spread(device);
    }
    // SAFETY: a valid port that is not started, and settings that outlive the call.
    let result = unsafe {
        dpdk_sys::rte_eth_dev_configure(
            open.id(),
            info.rx_queues,
            info.tx_queues,
            &raw const settings,
        )
    };
    open.check("configure it", result)
}

fn set_up_queues(
    open: &OpenPort,
    config: &PortConfig,
    info: &PortInfo,
    device: &rte_eth_dev_info,
    mempool: &Mempool,
) -> Result<(), PortError> {
    let id = open.id();
    let (mut rx_descriptors, mut tx_descriptors) = (config.rx_descriptors, config.tx_descriptors);
    // SAFETY: a configured port; both numbers are read and written.
    let result = unsafe {
        dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(
            id,
            &raw mut rx_descriptors,
            &raw mut tx_descriptors,
        )
    };
    open.check_unless_unsupported("size its queues", result)?;
    if info.driver == "net_tap" {
        rx_descriptors = TAP_DESCRIPTORS;
    }
    // The socket goes to C as unsigned, where "any" is minus one.
    let socket = info.socket.unwrap_or(u32::MAX);
    // Offloads are set for the whole port.
    let mut receive = device.default_rxconf;
    receive.offloads = 0;
    let mut transmit = device.default_txconf;
    transmit.offloads = 0;
    for queue in 0..info.rx_queues {
        // SAFETY: a configured port, one of its queues, settings that outlive the call, and a pool that the port holds.
        let result = unsafe {
            dpdk_sys::rte_eth_rx_queue_setup(
                id,
                queue,
                rx_descriptors,
                socket,
                &raw const receive,
                mempool.as_ptr(),
            )
        };
        open.check("set up a receive queue", result)?;
    }
    for queue in 0..info.tx_queues {
        // SAFETY: as above.
        let result = unsafe {
            dpdk_sys::rte_eth_tx_queue_setup(id, queue, tx_descriptors, socket, &raw const transmit)
        };
        open.check("set up a transmit queue", result)?;
    }
    Ok(())
}

/// net_tap gives its own end and the kernel's end of a tap the same MAC address, as if they were one station; but the
/// kernel is a neighbour of ours, and derives its link-local address from it. Its end gets another.
pub(super) fn separate_tap_ends(
    open: &OpenPort,
    info: &PortInfo,
    mac: [u8; 6],
) -> Result<(), PortError> {
    let ("net_tap", Some(interface)) = (info.driver.as_str(), &info.interface) else {
        return Ok(());
    };
    kernel::set_interface_mac(interface, far_end_mac(mac)).map_err(|error| {
        let errno = Errno(error.raw_os_error().unwrap_or(libc::EIO));
        open.refused(
            "give the kernel's end of the tap its own MAC address",
            errno,
        )
    })
}

/// Another locally administered unicast address, different for different ports.
fn far_end_mac(mac: [u8; 6]) -> [u8; 6] {
    let [first, rest @ ..] = mac;
    let first = ((first ^ 0x08) | 0x02) & !0x01;
    let [b, c, d, e, f] = rest;
    [first, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_mtu_is_what_dpdk_would_accept() {
        assert_eq!(max_mtu(u16::MAX, 1522), 1504); // net_tap
        assert_eq!(max_mtu(u16::MAX, u32::MAX), u16::MAX); // net_null
        assert_eq!(max_mtu(9702, 9728), 9702); // a NIC that counts two tags
        assert_eq!(max_mtu(9000, 1518), 1500); // contradictory, the packet decides
        assert_eq!(max_mtu(u16::MAX, 0), 0);
    }

    #[test]
    fn tags_have_room_unless_the_kernel_is_behind_the_port() {
        let mut info = PortInfo {
            driver: "net_null".into(),
            socket: None,
            interface: None,
            rx_checksums: false,
            tx_checksums: false,
            rss: false,
            max_rx_queues: 1,
            max_tx_queues: 1,
            rx_queues: 1,
            tx_queues: 1,
            max_mtu: 9000,
        };
        assert_eq!(device_mtu(1500, &info), 1508);
        assert_eq!(device_mtu(8996, &info), 9000);
        info.interface = Some("tap".into());
        assert_eq!(device_mtu(1500, &info), 1500);
    }

    #[test]
    fn the_far_end_of_a_tap_is_another_local_unicast_station() {
        for first in 0..=u8::MAX {
            let mac = [first, 0, 0, 0, 0, 1];
            let far = far_end_mac(mac);
            assert_ne!(far, mac);
            assert_eq!(far[0] & 0x03, 0x02, "local, unicast: {far:?}");
            assert_eq!(far[1..], mac[1..]);
        }
    }
}
