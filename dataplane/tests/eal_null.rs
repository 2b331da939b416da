//! The real DPDK on `net_null` devices, which receive out of nothing and send into nothing.

mod eal_support;

use std::thread;

use dataplane::dpdk::{Eal, EalError, Mbuf, Port, PortFault, ThreadRegistration};
use dataplane::frame::{BURST_MAX, Burst, Frame};
use dataplane::port::{RxQueue, TxQueue};

use eal_support::{MBUFS, config, cpus_of_thread, in_own_process, pool, receive, start, started};

#[test]
fn frames_pass_are_counted_and_leave_no_buffer_behind() {
    in_own_process("frames_pass_are_counted_and_leave_no_buffer_behind", || {
        const BURSTS: u64 = 1000;
        let eal = start(&["net_null0,size=64", "net_null1"]).expect("DPDK starts");
        let pool = pool(&eal);
        let (source, mut rx, _tx) = started(&eal, "net_null0", &pool);
        let (sink, _rx, mut tx) = started(&eal, "net_null1", &pool);
        for _ in 0..BURSTS {
            let mut burst = Burst::new();
            assert_eq!(rx.receive(&mut burst, 32), 32);
            for frame in &mut burst {
                assert!(frame.is_contiguous());
                assert_eq!((frame.bytes().len(), frame.packet_len()), (64, 64));
                frame.bytes_mut()[..6].fill(0xff);
            }
            assert_eq!(tx.transmit(&mut burst), 32);
        }
        let (received, sent) = (source.stats(), sink.stats()); // net_null counts no bytes
        assert_eq!((received.rx_packets, received.tx_packets), (BURSTS * 32, 0));
        assert_eq!((sent.rx_packets, sent.tx_packets), (0, BURSTS * 32));
        assert!(
            source
                .xstats()
                .contains(&("rx_good_packets".to_owned(), BURSTS * 32)),
            "{:?}",
            source.xstats()
        );
        assert_eq!((pool.in_use(), pool.available()), (0, MBUFS));
    });
}

#[test]
fn every_way_of_freeing_returns_the_buffer() {
    in_own_process("every_way_of_freeing_returns_the_buffer", || {
        let eal = start(&["net_null0"]).expect("DPDK starts");
        let pool = pool(&eal);
        let (_port, mut rx, mut tx) = started(&eal, "net_null0", &pool);
        let mut burst = receive(&mut rx);
        assert_eq!(burst.len(), BURST_MAX);
        assert_eq!(pool.in_use(), 64);
        drop(burst.pop());
        assert_eq!(pool.in_use(), 63);
        Mbuf::free_burst(&mut burst);
        assert!(burst.is_empty());
        Mbuf::free_burst(&mut burst); // of nothing
        assert_eq!(pool.in_use(), 0);
        drop(receive(&mut rx));
        let mut burst = receive(&mut rx);
        assert_eq!(tx.transmit(&mut burst), 64);
        assert_eq!(tx.transmit(&mut burst), 0, "nothing to send");
        assert_eq!(pool.in_use(), 0);

        // Another frame comes from the pool of the first, with headroom, as long as there are any.
        let frame = pool.allocate(b"the first").expect("a buffer");
        let mut other = frame.another(2048).expect("a buffer");
        assert_eq!((other.bytes().len(), pool.in_use()), (2048, 2));
        other.prepend(128).expect("headroom");
        assert!(frame.another(2049).is_none(), "longer than the data room");
        assert_eq!((frame.bytes(), pool.in_use()), (&b"the first"[..], 2));
        let others: Vec<_> = std::iter::from_fn(|| frame.another(1)).collect();
        assert_eq!(others.len() + 2, usize::try_from(MBUFS).unwrap());
        drop((frame, other, others));
        assert_eq!(pool.in_use(), 0);

        // To the last buffer, and from another thread.
        let mut all = Vec::new();
        while let Some(frame) = pool.allocate(b"all of them") {
            all.push(frame);
        }
        assert_eq!(all.len(), usize::try_from(MBUFS).unwrap());
        assert_eq!(receive(&mut rx).len(), 0, "no buffer, no frame");
        let mut none = Burst::new();
        assert_eq!(pool.allocate_burst(&mut none, 1), 0);
        thread::spawn(move || {
            let registered = ThreadRegistration::register().expect("room for one more thread");
            assert!(all.iter().all(|frame| frame.bytes() == b"all of them"));
            drop(all);
            drop(registered);
        })
        .join()
        .unwrap();
        assert_eq!((pool.in_use(), pool.available()), (0, MBUFS));
        assert!(pool.allocate(&[0; 2048]).is_some());
        assert!(
            pool.allocate(&[0; 2049]).is_none(),
            "longer than the data room"
        );
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_burst_never_exceeds_what_was_asked_for() {
    in_own_process("a_burst_never_exceeds_what_was_asked_for", || {
        let eal = start(&["net_null0"]).expect("DPDK starts");
        let pool = pool(&eal);
        let (_port, mut rx, _tx) = started(&eal, "net_null0", &pool);
        let mut burst = Burst::new();
        assert_eq!(rx.receive(&mut burst, 5), 5);
        assert_eq!(rx.receive(&mut burst, 0), 0);
        assert_eq!(rx.receive(&mut burst, 1000), BURST_MAX - 5);
        assert_eq!(rx.receive(&mut burst, 1), 0, "full");
        assert_eq!(burst.len(), BURST_MAX);
        assert_eq!(pool.in_use(), 64);
    });
}

#[test]
fn each_queue_has_one_owner_who_keeps_dpdk_alive() {
    in_own_process("each_queue_has_one_owner_who_keeps_dpdk_alive", || {
        let eal = start(&["net_null0", "net_null1"]).expect("DPDK starts");
        let pool = pool(&eal);
        let mut port = Port::open(&eal, &config("net_null0"), 2, &pool).expect("opens");
        assert_eq!((port.rx_queues(), port.tx_queues()), (2, 2));
        assert!(port.take_rx_queue(0).is_none(), "not started");
        port.start().expect("starts");
        port.start().expect("starting twice is nothing new");
        let mut first: Box<dyn RxQueue<Frame = Mbuf>> = Box::new(port.take_rx_queue(0).unwrap());
        let second = port.take_rx_queue(1).unwrap();
        let tx = port.take_tx_queue(1).unwrap();
        assert!(port.take_rx_queue(1).is_none(), "taken");
        assert!(port.take_tx_queue(1).is_none(), "taken");
        assert!(port.take_rx_queue(2).is_none(), "no such queue");
        assert_eq!(second.device(), "net_null0");

        let opened_twice = Port::open(&eal, &config("net_null0"), 1, &pool)
            .err()
            .unwrap();
        assert_eq!(opened_twice.fault, PortFault::InUse);
        assert!(
            opened_twice.to_string().contains("net_null0"),
            "{opened_twice}"
        );
        let absent = Port::open(&eal, &config("net_null7"), 1, &pool)
            .err()
            .unwrap();
        assert_eq!(absent.fault, PortFault::Absent);

        drop((port, pool, eal, second, tx));
        thread::spawn(move || {
            let _registered = ThreadRegistration::register().expect("DPDK lives on");
            let mut burst = Burst::new();
            assert_eq!(first.receive(&mut burst, 32), 32);
        })
        .join()
        .unwrap();
    });
}

#[test]
fn a_port_gets_what_its_device_has() {
    in_own_process("a_port_gets_what_its_device_has", || {
        let eal = start(&["net_null0", "net_null1", "net_null2"]).expect("DPDK starts");
        let pool = pool(&eal);
        let many = with_uneven_queues("net_null0");
        let port = Port::open(&eal, &many, 1, &pool).expect("opens");
        let info = port.info();
        assert_eq!(info.driver, "net_null");
        assert_eq!(
            (info.rx_queues, info.tx_queues),
            (3, 2),
            "as configured, not as wanted"
        );
        assert!(info.rss, "the device spreads flows over three queues");
        assert!(info.max_rx_queues >= 3);
        assert_eq!(info.interface, None);
        assert!(port.mac().iter().any(|octet| *octet != 0));

        let jumbo = dataplane::dpdk::PortConfig {
            mtu: 9000,
            ..config("net_null1")
        };
        let error = Port::open(&eal, &jumbo, 1, &pool).err().unwrap();
        assert!(
            matches!(
                error.fault,
                PortFault::Buffer {
                    mtu: 9000,
                    data_room: 2048,
                    ..
                }
            ),
            "{error}"
        );
        let _ = eal.take_log();
    });
}

/// More receive than transmit queues.
fn with_uneven_queues(device: &str) -> dataplane::dpdk::PortConfig {
    dataplane::dpdk::PortConfig {
        rx_queues: Some(3),
        tx_queues: Some(2),
        ..config(device)
    }
}

#[test]
fn the_start_leaves_the_threads_cpus_as_they_were() {
    in_own_process("the_start_leaves_the_threads_cpus_as_they_were", || {
        let before = cpus_of_thread();
        let eal = start(&["net_null0"]).expect("DPDK starts");
        assert_eq!(cpus_of_thread(), before);
        let later = thread::spawn(cpus_of_thread).join().unwrap();
        assert_eq!(later, before, "of a thread started afterwards");
        assert!(
            Eal::dpdk_version().starts_with("DPDK "),
            "{}",
            Eal::dpdk_version()
        );
        assert!(eal.memory().to_string().starts_with("packet memory: "));
    });
}

#[test]
fn dpdk_starts_once_a_process() {
    in_own_process("dpdk_starts_once_a_process", || {
        let eal = start(&["net_null0"]).expect("DPDK starts");
        assert!(matches!(
            start(&["net_null1"]),
            Err(EalError::AlreadyStarted)
        ));
        drop(eal);
        assert!(
            matches!(start(&["net_null1"]), Err(EalError::AlreadyStarted)),
            "not even after its end"
        );
    });
}
