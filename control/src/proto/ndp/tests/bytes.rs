//! Known bytes out. The packets below were read by hand against RFC 4861 4, RFC 7527 4 and RFC 3810 5.2.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// RFC 4861 4.3.
#[test]
fn a_solicitation_is_these_bytes() {
    let mut bench = Bench::new();
    bench.resolve(PEER, 7).unwrap();
    let expected = hex("60000000 0020 3a ff
         fe800000000000000000000000000001 ff0200000000000000000001ff000099
         87 00 4a27 00000000 20010db8000a00000000000000000099
         01 01 020000000001");
    let sent = bench.drain();
    assert_eq!(sent.only().packet, expected);
    assert_eq!(sent.only().mac.octets(), [0x33, 0x33, 0xff, 0, 0, 0x99]);
}

/// RFC 4861 4.4.
#[test]
fn an_advertisement_is_these_bytes() {
    let mut bench = Bench::new();
    let sent = bench.receive(&solicitation(PEER, GLOBAL, &source_mac(PEER_MAC)));
    let expected = hex("60000000 0020 3a ff
         20010db8000a00000000000000000001 20010db8000a00000000000000000099
         88 00 09be e0000000 20010db8000a00000000000000000001
         02 01 020000000001");
    assert_eq!(sent.only().packet, expected);
    assert_eq!(sent.only().mac, PEER_MAC);
}

/// RFC 4862 5.4.2, RFC 7527 4: source `::`, no link-layer address, a nonce.
#[test]
fn a_probe_is_these_bytes() {
    let settings = Settings {
        dad_transmits: 1,
        ..settings()
    };
    let mut bench = Bench::bare(settings);
    bench.machine.set_interface(bench.now, WAN, Some(config()));
    let drained = bench.drain();
    let probe = drained
        .sent
        .iter()
        .find(|sent| sent.kind == SOLICITATION && sent.target() == ip(GLOBAL))
        .unwrap();
    let mut expected = hex("60000000 0020 3a ff
         00000000000000000000000000000000 ff0200000000000000000001ff000001
         87 00 0000 00000000 20010db8000a00000000000000000001
         0e 01 000000000000");
    // The nonce is random, and the checksum (verified when taken apart) with it.
    expected[42..44].copy_from_slice(&probe.packet[42..44]);
    expected[66..72].copy_from_slice(&probe.packet[66..72]);
    assert_ne!(probe.packet[66..72], [0; 6]);
    assert_eq!(probe.packet, expected);
}

/// RFC 3810 5.2, RFC 2711 2.1: hop limit 1, Router Alert, a record for each group.
#[test]
fn a_report_is_these_bytes() {
    let mut bench = Bench::new();
    let mut bigger = config();
    bigger.addresses.push("2001:db8:a::2/64".parse().unwrap());
    bench.machine.set_interface(bench.now, WAN, Some(bigger));
    let drained = bench.drain();
    let expected = hex("60000000 0024 00 01
         fe800000000000000000000000000001 ff020000000000000000000000000016
         3a 00 05 02 0000 01 00
         8f 00 7106 0000 0001
         04 00 0000 ff0200000000000000000001ff000002");
    assert_eq!(drained.sent[0].packet, expected);
    assert_eq!(drained.sent[0].mac.octets(), [0x33, 0x33, 0, 0, 0, 0x16]);
}
