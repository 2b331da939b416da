//! The real DPDK on a `net_ring` device, which receives what it sends.

mod eal_support;

use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::port::TxQueue;

use eal_support::{contents, in_own_process, numbered, pool, receive, send_all, start, started};

#[test]
fn what_is_sent_is_received_byte_for_byte_in_order() {
    in_own_process("what_is_sent_is_received_byte_for_byte_in_order", || {
        let eal = start(&["net_ring0"]).expect("DPDK starts");
        let pool = pool(&eal);
        let (port, mut rx, mut tx) = started(&eal, "net_ring0", &pool);
        let frames: Vec<Vec<u8>> = (60..=1514).map(|len| numbered(len, len)).collect();
        for chunk in frames.chunks(BURST_MAX) {
            let burst = chunk
                .iter()
                .map(|bytes| pool.allocate(bytes).expect("a buffer"));
            send_all(&mut tx, burst.collect());
            assert_eq!(contents(&receive(&mut rx)), chunk);
        }
        assert_eq!(pool.in_use(), 0);
        assert_eq!(port.stats().rx_packets, 1455);
        assert_eq!(port.stats().tx_packets, 1455);
    });
}

#[test]
fn what_a_full_device_did_not_take_stays_in_front_and_in_order() {
    in_own_process(
        "what_a_full_device_did_not_take_stays_in_front_and_in_order",
        || {
            let eal = start(&["net_ring0"]).expect("DPDK starts");
            let pool = pool(&eal);
            let (_port, mut rx, mut tx) = started(&eal, "net_ring0", &pool);
            let mut sent = 0;
            let mut given = 0;
            let left = loop {
                let mut burst: Burst<_> = (given..given + 60)
                    .map(|number| pool.allocate(&numbered(number, 64)).expect("a buffer"))
                    .collect();
                given += 60;
                sent += tx.transmit(&mut burst);
                if !burst.is_empty() {
                    break burst;
                }
            };
            assert!(sent > 60, "the ring took {sent}");
            assert_eq!(sent + left.len(), given);
            let expected: Vec<Vec<u8>> = (sent..given).map(|number| numbered(number, 64)).collect();
            assert_eq!(contents(&left), expected);

            let mut received = 0;
            loop {
                let burst = receive(&mut rx);
                if burst.is_empty() {
                    break;
                }
                for frame in &burst {
                    assert_eq!(frame.bytes(), numbered(received, 64));
                    received += 1;
                }
            }
            assert_eq!(received, sent);
            drop(left);
            assert_eq!(pool.in_use(), 0);
        },
    );
}

#[test]
fn a_received_frame_grows_into_its_headroom() {
    in_own_process("a_received_frame_grows_into_its_headroom", || {
        let eal = start(&["net_ring0"]).expect("DPDK starts");
        let pool = pool(&eal);
        let (_port, mut rx, mut tx) = started(&eal, "net_ring0", &pool);
        let frame = pool.allocate(&numbered(1, 100)).expect("a buffer");
        send_all(&mut tx, [frame].into_iter().collect());
        let mut frame = receive(&mut rx).pop().expect("it came back");
        frame.prepend(128).expect("128 bytes of headroom");
        assert!(frame.prepend(1).is_err());
        frame.bytes_mut()[..128].fill(0xab);
        frame.resize(128 + 60).expect("shorter");
        send_all(&mut tx, [frame].into_iter().collect());
        let frame = receive(&mut rx).pop().expect("it came back");
        let expected = [&[0xab; 128][..], &numbered(1, 100)[..60]].concat();
        assert_eq!(frame.bytes(), expected);
    });
}

#[test]
fn packets_still_in_a_device_at_the_end_do_no_harm() {
    in_own_process("packets_still_in_a_device_at_the_end_do_no_harm", || {
        let eal = start(&["net_ring0"]).expect("DPDK starts");
        let pool = pool(&eal);
        let (port, rx, mut tx) = started(&eal, "net_ring0", &pool);
        let kept = pool.allocate(&numbered(1, 64)).expect("a buffer");
        let sent = pool.allocate(&numbered(2, 64)).expect("a buffer");
        send_all(&mut tx, [sent].into_iter().collect());
        drop((port, rx, tx, pool, eal));
        assert_eq!(kept.bytes(), numbered(1, 64), "its memory is still there");
    });
}
