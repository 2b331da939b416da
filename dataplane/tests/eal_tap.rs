//! The real DPDK on `net_tap` devices, each in a network namespace of its own, talking to the kernel.

mod eal_support;

use std::net::Ipv6Addr;
use std::process::Command;
use std::time::Duration;

use dataplane::dpdk::{Port, PortConfig, PortFault};
use dataplane::frame::{Burst, Frame};
use dataplane::testing::builder::Packet;
use dataplane::wire::ethernet::Mac;

use eal_support::{
    config, in_own_namespace, interfaces, pool, receive, send_all, start, started, wait_for,
};

const TAP: &str = "net_tap0,iface=sx-tap,mac=02:00:00:00:00:01";
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PATIENCE: Duration = Duration::from_secs(15);

/// `ip` with these words; it must succeed.
fn ip(words: &str) {
    let status = Command::new("ip")
        .args(words.split(' '))
        .status()
        .expect("iproute2");
    assert!(status.success(), "ip {words}: {status}");
}

#[test]
fn the_kernel_hears_and_answers() {
    in_own_namespace("the_kernel_hears_and_answers", || {
        let eal = start(&[TAP]).expect("DPDK starts");
        let pool = pool(&eal);
        let (port, mut rx, mut tx) = started(&eal, TAP, &pool);
        assert_eq!(port.mac(), OURS);
        assert_eq!(port.info().driver, "net_tap");
        assert_eq!(port.info().interface.as_deref(), Some("sx-tap"));
        wait_for(PATIENCE, "link", || port.link().up.then_some(()));

        // The kernel speaks first: it solicits routers and reports its multicast groups on a link that came up. It may do
        // so between the start of the device and the moment its end gets an address of its own: those are passed over.
        let kernel_mac = wait_for(
            PATIENCE,
            "frame of the kernel, from a station of its own",
            || {
                receive(&mut rx)
                    .iter()
                    .map(|frame| frame.bytes().to_vec())
                    .filter(|bytes| bytes[12..14] == [0x86, 0xdd])
                    .map(|bytes| <[u8; 6]>::try_from(&bytes[6..12]).unwrap())
                    .find(|source| *source != OURS)
            },
        );

        // And answers an echo request.
        ip("-6 address add 2001:db8::1/64 dev sx-tap nodad");
        ip("-6 neighbor add 2001:db8::2 lladdr 02:00:00:00:00:01 dev sx-tap");
        let (ours, kernels) = (
            "2001:db8::2".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        );
        let request = echo(kernel_mac, ours, kernels);
        send_all(
            &mut tx,
            [pool.allocate(&request).expect("a buffer")]
                .into_iter()
                .collect(),
        );
        let reply = wait_for(PATIENCE, "echo reply", || {
            receive(&mut rx)
                .iter()
                .map(|frame| frame.bytes().to_vec())
                .find(|bytes| bytes.len() == request.len() && bytes[54] == 129)
        });
        assert_eq!(reply[..6], OURS);
        assert_eq!(reply[22..38], request[38..54], "from whom we asked");
        assert_eq!(reply[38..54], request[22..38], "to us");
        assert_eq!(reply[58..], request[58..], "with what we sent");
        assert_eq!(port.stats().tx_packets, 1);
    });
}

/// An echo request with 1000 bytes.
fn echo(to: [u8; 6], source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    Packet::ethernet(Mac::from_octets(OURS), Mac::from_octets(to))
        .ipv6(source, destination)
        .icmpv6_echo(7, 1, &[0x5a; 1000])
        .build()
}

#[test]
fn a_tap_is_gone_with_its_port_and_its_buffers_are_back() {
    in_own_namespace(
        "a_tap_is_gone_with_its_port_and_its_buffers_are_back",
        || {
            let eal = start(&[TAP, "net_tap1,iface=sx-idle"]).expect("DPDK starts");
            let pool = pool(&eal);
            assert!(interfaces().contains(&"sx-tap".to_owned()));
            let (port, rx, tx) = started(&eal, TAP, &pool);
            assert!(pool.in_use() > 0, "the queue holds a buffer ready");
            drop(port);
            assert!(
                interfaces().contains(&"sx-tap".to_owned()),
                "its queues are alive"
            );
            drop((rx, tx));
            assert!(!interfaces().contains(&"sx-tap".to_owned()));
            assert_eq!(pool.in_use(), 0);
            assert!(
                interfaces().contains(&"sx-idle".to_owned()),
                "started, never opened"
            );
            drop((pool, eal));
            assert_eq!(interfaces(), ["lo"]);
        },
    );
}

#[test]
fn a_tap_takes_its_mtu_and_refuses_more() {
    in_own_namespace("a_tap_takes_its_mtu_and_refuses_more", || {
        let eal = start(&[TAP, "net_tap1"]).expect("DPDK starts");
        let pool = pool(&eal);
        let mut port = Port::open(
            &eal,
            &PortConfig {
                mtu: 1400,
                ..config(TAP)
            },
            1,
            &pool,
        )
        .unwrap();
        assert_eq!(kernels("mtu"), "1400");
        port.start().unwrap();
        port.set_mtu(1280).unwrap();
        assert_eq!(kernels("mtu"), "1280");
        assert!(matches!(
            port.set_mtu(9000).unwrap_err().fault,
            PortFault::Mtu { mtu: 9000, .. }
        ));
        let jumbo = PortConfig {
            mtu: 2000,
            ..config("net_tap1")
        };
        let error = Port::open(&eal, &jumbo, 1, &pool).err().unwrap();
        assert!(
            matches!(
                error.fault,
                PortFault::Mtu {
                    mtu: 2000,
                    most: 1504
                }
            ),
            "{error}"
        );
    });
}

#[test]
fn a_tap_that_was_moved_to_another_namespace_is_up_and_works() {
    in_own_namespace(
        "a_tap_that_was_moved_to_another_namespace_is_up_and_works",
        || {
            let eal = start(&[TAP]).expect("DPDK starts");
            let pool = pool(&eal);
            let (port, mut rx, _tx) = started(&eal, TAP, &pool);
            // A process in a namespace of its own, which dies with its standard input.
            let mut host = Command::new("unshare")
                .args(["--net", "--", "cat"])
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("util-linux");
            let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
            let theirs = format!("/proc/{}/ns/net", host.id());
            wait_for(PATIENCE, "namespace", || {
                (std::fs::read_link(&theirs).ok()? != ours).then_some(())
            });
            ip(&format!("link set sx-tap netns {}", host.id()));
            assert!(!interfaces().contains(&"sx-tap".to_owned()));
            while !receive(&mut rx).is_empty() {}
            let up = Command::new("nsenter")
                .args([
                    &format!("--net={theirs}"),
                    "ip",
                    "link",
                    "set",
                    "sx-tap",
                    "up",
                ])
                .status()
                .expect("util-linux");
            assert!(up.success());
            assert!(port.link().up);
            wait_for(PATIENCE, "frame out of the other namespace", || {
                receive(&mut rx).pop()
            });
            drop(host.stdin.take());
            host.wait().unwrap();
        },
    );
}

#[test]
fn several_queues_of_a_tap_all_receive() {
    in_own_namespace("several_queues_of_a_tap_all_receive", || {
        let eal = start(&[TAP]).expect("DPDK starts");
        let pool = pool(&eal);
        let uneven = PortConfig {
            rx_queues: Some(4),
            tx_queues: Some(2),
            ..config(TAP)
        };
        let mut port = Port::open(&eal, &uneven, 1, &pool).unwrap();
        assert_eq!(
            (port.rx_queues(), port.tx_queues()),
            (2, 2),
            "a tap has as many each way"
        );
        port.start().unwrap();
        let mut rx = [0, 1].map(|queue| port.take_rx_queue(queue).unwrap());
        let mut tx = [0, 1].map(|queue| port.take_tx_queue(queue).unwrap());
        ip("-6 address add 2001:db8::1/64 dev sx-tap nodad");
        ip("-6 neighbor add 2001:db8::2 lladdr 02:00:00:00:00:01 dev sx-tap");
        ip("-6 route add 2001:db8:1::/64 via 2001:db8::2");
        let kernel_mac: Mac = kernels("link/ether").parse().expect("ip prints an address");
        let kernel: Ipv6Addr = "2001:db8::1".parse().unwrap();
        // The kernel answers on the queue that the question came in on.
        for (at, queue) in tx.iter_mut().enumerate() {
            let burst: Burst<_> = (1..=16)
                .map(|host| {
                    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, u16::try_from(at).unwrap(), host)
                })
                .map(|host| {
                    pool.allocate(&echo(kernel_mac.octets(), host, kernel))
                        .expect("a buffer")
                })
                .collect();
            send_all(queue, burst);
        }
        let mut replies = [0, 0];
        wait_for(PATIENCE, "32 echo replies", || {
            for (queue, replies) in rx.iter_mut().zip(&mut replies) {
                let burst = receive(queue);
                let is_reply = |bytes: &[u8]| bytes.len() == 1062 && bytes[54] == 129;
                *replies += burst.iter().filter(|frame| is_reply(frame.bytes())).count();
            }
            (replies.iter().sum::<usize>() == 32).then_some(())
        });
        assert!(
            replies.iter().all(|count| *count > 0),
            "by queue: {replies:?}"
        );
    });
}

/// What `ip link` shows after `word` for the kernel's end.
fn kernels(word: &str) -> String {
    let output = Command::new("ip")
        .args(["-o", "link", "show", "sx-tap"])
        .output()
        .expect("iproute2");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|shown| *shown != word);
    words.nth(1).expect("ip shows it").to_owned()
}
