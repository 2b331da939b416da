//! The real DPDK on two `net_memif` devices, which share memory over a socket file: both ends in this process.

mod eal_support;

use std::time::Duration;

use dataplane::dpdk::Mbuf;
use dataplane::frame::Burst;
use dataplane::port::TxQueue;
use tempfile::TempDir;

use eal_support::{contents, in_own_process, numbered, pool, receive, start, started, wait_for};

#[test]
fn what_one_end_sends_the_other_receives() {
    in_own_process("what_one_end_sends_the_other_receives", || {
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("memif.sock");
        let end = |number, role| {
            format!(
                "net_memif{number},role={role},socket-abstract=no,socket={}",
                socket.display()
            )
        };
        let (server, client) = (end(0, "server"), end(1, "client"));
        let eal = start(&[&server, &client]).expect("DPDK starts");
        let pool = pool(&eal);
        let (one, _rx, mut tx) = started(&eal, &server, &pool);
        let (other, mut rx, _tx) = started(&eal, &client, &pool);
        let patience = Duration::from_secs(15);
        wait_for(patience, "link", || {
            (one.link().up && other.link().up).then_some(())
        });
        let frames: Vec<Vec<u8>> = (0..32)
            .map(|number| numbered(number, 60 + 40 * number))
            .collect();
        let mut burst: Burst<Mbuf> = frames
            .iter()
            .map(|bytes| pool.allocate(bytes).expect("a buffer"))
            .collect();
        let mut received = Vec::new();
        wait_for(patience, "frames", || {
            // A memif takes frames as far as its other end has made room for them, by receiving.
            tx.transmit(&mut burst);
            received.extend(contents(&receive(&mut rx)));
            (received.len() >= frames.len()).then_some(())
        });
        assert_eq!(received, frames);
    });
}
