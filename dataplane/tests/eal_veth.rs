//! The real DPDK on the kernel's own interfaces: `net_af_packet` and `net_af_xdp` on one end of a veth pair, the kernel
//! on the other, in a network namespace of its own.

mod eal_support;

use std::net::Ipv6Addr;
use std::process::Command;
use std::time::Duration;

use dataplane::frame::Frame;
use dataplane::testing::builder::Packet;
use dataplane::wire::ethernet::Mac;

use eal_support::{in_own_namespace, pool, receive, send_all, start, started, wait_for};

/// The kernel's end.
const HOST: &str = "02:00:00:00:00:02";
const PATIENCE: Duration = Duration::from_secs(15);

fn ip(words: &str) {
    let status = Command::new("ip")
        .args(words.split(' '))
        .status()
        .expect("iproute2");
    assert!(status.success(), "ip {words}: {status}");
}

/// Send an echo request through `device` and wait for the kernel's reply on the other end.
fn the_other_end_answers(device: &str) {
    ip(&format!(
        "link add sx-edge type veth peer name sx-host address {HOST}"
    ));
    // The edge's end belongs to DPDK: the kernel shall not speak on it as well.
    ip("link set sx-edge addrgenmode none");
    ip("link set sx-edge up");
    ip("link set sx-host up");
    ip("-6 address add 2001:db8::1/64 dev sx-host nodad");
    let eal = start(&[device]).expect("DPDK starts");
    let pool = pool(&eal);
    let (port, mut rx, mut tx) = started(&eal, device, &pool);
    assert_eq!(port.info().interface.as_deref(), Some("sx-edge"));
    let ours = port.mac();
    let mac = Mac::from_octets(ours);
    ip(&format!(
        "-6 neighbor add 2001:db8::2 lladdr {mac} dev sx-host"
    ));
    wait_for(PATIENCE, "link", || port.link().up.then_some(()));
    let (source, destination): (Ipv6Addr, Ipv6Addr) = (
        "2001:db8::2".parse().unwrap(),
        "2001:db8::1".parse().unwrap(),
    );
    let request = Packet::ethernet(mac, HOST.parse().unwrap())
        .ipv6(source, destination)
        .icmpv6_echo(7, 1, &[0x5a; 1000])
        .build();
    let reply = wait_for(PATIENCE, "echo reply", || {
        // A veth drops what comes before its other end is ready.
        send_all(&mut tx, [pool.allocate(&request)?].into_iter().collect());
        std::thread::sleep(Duration::from_millis(20));
        let burst = receive(&mut rx);
        let replies = burst
            .iter()
            .filter(|frame| frame.is_contiguous())
            .map(|frame| frame.bytes().to_vec());
        replies
            .into_iter()
            .find(|bytes| bytes.len() == request.len() && bytes[54] == 129)
    });
    assert_eq!(reply[..6], ours);
    assert_eq!(reply[58..], request[58..]);
    assert!(port.stats().tx_packets >= 1);
    drop((port, rx, tx));
    drop((pool, eal));
    ip("link del sx-edge");
}

#[test]
fn af_packet_reaches_the_other_end_of_a_veth() {
    in_own_namespace("af_packet_reaches_the_other_end_of_a_veth", || {
        the_other_end_answers("net_af_packet0,iface=sx-edge");
    });
}

#[test]
fn af_xdp_reaches_the_other_end_of_a_veth() {
    in_own_namespace("af_xdp_reaches_the_other_end_of_a_veth", || {
        the_other_end_answers("net_af_xdp0,iface=sx-edge");
    });
}
