//! Answers to health checks: which packets to own addresses they are, and that no others reach the control thread.

use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::tcp::flags::{ACK, RST, SYN};
use pipelines::steer::{TOKENS, token};

use super::*;

const OWN: &str = "2001:db8:5::1";

fn own_port(site: &Site) -> u16 {
    token(
        site.settings.seed,
        VrfId(0),
        address(OWN),
        server_address(0x80),
    )
}

fn from_server(number: u8) -> Packet {
    Packet::ethernet(mac(number), mac(1)).ipv6(server_address(number), address(OWN))
}

fn segment_to(port: u16, flags: u8) -> Vec<u8> {
    let header = tcp::Header {
        source_port: 80.into(),
        destination_port: port.into(),
        sequence: 1.into(),
        acknowledgement: 1.into(),
        data_offset: 5 << 4,
        flags,
        window: 1000.into(),
        checksum: 0.into(),
        urgent: 0.into(),
    };
    from_server(0x80).tcp_segment(header, b"").build()
}

fn site() -> Site {
    let mut site = Site::l2(2);
    site.change(|settings| settings.checked = vec![(VrfId(0), server_address(0x80))]);
    site
}

fn punted(site: &mut Site, frame: Vec<u8>) -> bool {
    site.bench.receive(INSIDE, &[frame]);
    let punted = site.bench.punted();
    assert!(
        punted
            .iter()
            .all(|punted| punted.reason == PuntReason::Health)
    );
    !punted.is_empty()
}

#[test]
fn answers_of_servers_that_are_checked_are_handed_over() {
    let mut site = site();
    let first = own_port(&site);
    assert_eq!(first % TOKENS, 0);
    for port in first..first + TOKENS {
        assert!(punted(&mut site, segment_to(port, SYN | ACK)));
        assert!(punted(&mut site, segment_to(port, RST)));
        let udp = from_server(0x80).udp(53, port, b"pong").build();
        assert!(punted(&mut site, udp));
        let echo = [&[129, 0, 0, 0][..], &port.to_be_bytes(), &[0, 7]].concat();
        assert!(punted(&mut site, from_server(0x80).icmpv6(&echo).build()));
    }
}

#[test]
fn nothing_else_is() {
    let mut site = site();
    let first = own_port(&site);
    let mut refused = 0;
    for port in [first.wrapping_sub(1), first + TOKENS, 80, 0] {
        assert!(
            !punted(&mut site, segment_to(port, SYN | ACK)),
            "another port"
        );
        refused += 1;
    }
    assert!(
        !punted(&mut site, segment_to(first, SYN)),
        "it opens a connection"
    );
    let other = from_server(0x81).udp(53, first, b"pong").build();
    assert!(!punted(&mut site, other), "another server");
    let fragment = from_server(0x80)
        .udp(53, first, &[0; 2000])
        .build_fragments(4, 1200);
    assert!(!punted(&mut site, fragment[0].clone()));
    assert_eq!(
        site.bench.drops(),
        [(DropReason::LocalProtocol, refused + 3)]
    );
    site.change(|settings| settings.checked = vec![]);
    assert!(!punted(&mut site, segment_to(first, SYN | ACK)));
}
