//! The real DPDK without huge pages, as on a laptop or in a container.

mod eal_support;

use std::fs;

use dataplane::dpdk::{HugePages, Memory};

use eal_support::{
    contents, in_own_process, numbered, pool, receive, send_all, start_with, started,
};

#[test]
fn ordinary_pages_do_and_are_said_in_one_line() {
    in_own_process("ordinary_pages_do_and_are_said_in_one_line", || {
        let eal = start_with(HugePages::Off, &["net_null0", "net_ring0"]).expect("DPDK starts");
        assert_eq!(eal.memory(), Memory::Ordinary);
        let line = eal.memory().to_string();
        assert!(
            line.contains("no huge pages") && !line.contains('\n'),
            "{line}"
        );
        let pool = pool(&eal);
        let (_null, mut null, _tx) = started(&eal, "net_null0", &pool);
        assert_eq!(receive(&mut null).len(), 64);
        let (_ring, mut rx, mut tx) = started(&eal, "net_ring0", &pool);
        let frame = pool.allocate(&numbered(1, 1514)).expect("a buffer");
        send_all(&mut tx, [frame].into_iter().collect());
        assert_eq!(contents(&receive(&mut rx)), [numbered(1, 1514)]);
        assert_eq!(pool.in_use(), 0);
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.contains("hugepage"), "{maps}");
    });
}
