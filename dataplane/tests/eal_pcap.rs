//! The real DPDK on `net_pcap` devices: frames out of a capture and into another.

mod eal_support;

use dataplane::dpdk::{Port, PortFault};
use dataplane::frame::Frame;
use dataplane::testing::pcap;
use tempfile::TempDir;

use eal_support::{
    config, contents, in_own_process, numbered, pool, receive, send_all, start, started,
};

#[test]
fn a_capture_passes_unchanged_into_another() {
    in_own_process("a_capture_passes_unchanged_into_another", || {
        let folder = TempDir::new().unwrap();
        let (input, output) = (
            folder.path().join("in.pcap"),
            folder.path().join("out.pcap"),
        );
        let frames: Vec<Vec<u8>> = (0..300)
            .map(|number| numbered(number, 60 + number))
            .collect();
        pcap::write(&input, &frames).unwrap();
        let device = format!(
            "net_pcap0,rx_pcap={},tx_pcap={}",
            input.display(),
            output.display()
        );
        let eal = start(&[&device]).expect("DPDK starts");
        let pool = pool(&eal);
        let (port, mut rx, mut tx) = started(&eal, &device, &pool);
        let mut passed = 0;
        loop {
            let burst = receive(&mut rx);
            if burst.is_empty() {
                break;
            }
            passed += burst.len();
            send_all(&mut tx, burst);
        }
        assert_eq!(passed, 300);
        let bytes: u64 = (60..360).sum();
        let counted = port.stats();
        assert_eq!((counted.rx_packets, counted.rx_bytes), (300, bytes));
        assert_eq!((counted.tx_packets, counted.tx_bytes), (300, bytes));
        assert_eq!(pool.in_use(), 0);
        drop((port, rx, tx));
        assert_eq!(pcap::read(&output).unwrap(), frames);
    });
}

#[test]
fn a_capture_replayed_for_ever_is_not_changed_by_rewriting_its_frames() {
    in_own_process(
        "a_capture_replayed_for_ever_is_not_changed_by_rewriting_its_frames",
        || {
            let folder = TempDir::new().unwrap();
            let input = folder.path().join("in.pcap");
            let frames: Vec<Vec<u8>> = (0..8).map(|number| numbered(number, 64)).collect();
            pcap::write(&input, &frames).unwrap();
            let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", input.display());
            let eal = start(&[&device]).expect("DPDK starts");
            let pool = pool(&eal);
            let (_port, mut rx, _tx) = started(&eal, &device, &pool);
            for _ in 0..100 {
                let mut burst = receive(&mut rx);
                assert_eq!(burst.len(), 64);
                for (at, frame) in burst.iter_mut().enumerate() {
                    assert!(frame.is_contiguous());
                    assert_eq!(frame.bytes(), frames[at % 8]);
                    frame.bytes_mut().fill(0);
                }
            }
        },
    );
}

#[test]
fn a_frame_over_several_buffers_is_told_from_a_whole_one() {
    in_own_process(
        "a_frame_over_several_buffers_is_told_from_a_whole_one",
        || {
            let folder = TempDir::new().unwrap();
            let input = folder.path().join("in.pcap");
            pcap::write(&input, &[numbered(1, 2048), numbered(2, 5000)]).unwrap();
            let device = format!("net_pcap0,rx_pcap={}", input.display());
            let eal = start(&[&device]).expect("DPDK starts");
            let pool = pool(&eal);
            let (_port, mut rx, _tx) = started(&eal, &device, &pool);
            let mut burst = receive(&mut rx);
            assert_eq!(burst.len(), 2);
            assert!(burst[0].is_contiguous());
            assert!(!burst[1].is_contiguous());
            assert_eq!(burst[1].packet_len(), 5000);
            assert_eq!(
                contents(&burst),
                [numbered(1, 2048), numbered(2, 5000)[..2048].to_vec()]
            );
            assert!(burst[1].prepend(1).is_err());
            assert!(burst[1].trim_front(1).is_err());
            assert!(burst[1].resize(60).is_err());
            assert!(pool.in_use() > 2, "the long one holds several buffers");
            drop(burst);
            assert_eq!(pool.in_use(), 0, "all its buffers are free again");
        },
    );
}

#[test]
fn a_port_that_dpdk_refuses_is_an_error_with_dpdks_own_words() {
    in_own_process(
        "a_port_that_dpdk_refuses_is_an_error_with_dpdks_own_words",
        || {
            let folder = TempDir::new().unwrap();
            let input = folder.path().join("in.pcap");
            // Replayed for ever, a capture is copied into packet buffers beforehand: more than there are.
            let frames: Vec<Vec<u8>> = (0..5000).map(|number| numbered(number, 64)).collect();
            pcap::write(&input, &frames).unwrap();
            let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", input.display());
            let eal = start(&[&device]).expect("DPDK starts");
            let pool = pool(&eal);
            let error = Port::open(&eal, &config(&device), 1, &pool)
                .err()
                .expect("too few buffers");
            let PortFault::Refused { action, log, .. } = &error.fault else {
                panic!("another error: {error}");
            };
            assert_eq!(*action, "set up a receive queue");
            assert!(!log.is_empty());
            let text = error.to_string();
            assert!(
                text.contains("net_pcap0") && text.contains("DPDK says"),
                "{text}"
            );
            assert_eq!(pool.in_use(), 0, "the port was closed again");
        },
    );
}
