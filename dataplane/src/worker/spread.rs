//! Software spreading: which worker a received frame belongs to, by a hash of its flow.
//!
//! Used for ports with fewer receive queues than there are workers. All frames of one flow come in by one queue and have
//! one hash, so one worker runs them all, in order. The two directions of a conversation may go to different workers.

use crate::frame::{BURST_MAX, Burst, Frame};
use crate::outputs::Outputs;
use crate::port::PortId;
use crate::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::wire::ipv6::{HEADER_LEN, proto};
use crate::wire::{FromBytes, ipv4, vlan};

/// Where next header and addresses stand in an IPv6 header.
const NEXT_HEADER: usize = 6;
const ADDRESSES: usize = 8;
const ADDRESSES_LEN: usize = 32;
/// Source and destination port, where the transport has them.
const PORTS_LEN: usize = 4;

/// Deals frames out to the workers.
#[derive(Debug, Clone)]
pub(super) struct Spreader {
    seed: u64,
    /// All workers.
    workers: u32,
    /// The one this spreader belongs to.
    own: usize,
}

impl Spreader {
    pub(super) fn new(seed: u64, workers: usize, own: usize) -> Self {
        Self {
            seed,
            workers: u32::try_from(workers).expect("at most WORKERS_MAX workers"),
            own,
        }
    }

    /// Keep in `burst`, in order, what is this worker's, and give each other frame to its worker.
    pub(super) fn spread<F: Frame, M: Copy>(
        &self,
        port: PortId,
        burst: &mut Burst<F>,
        out: &mut Outputs<F, M>,
    ) {
        for frame in burst.iter() {
            frame.prefetch_data();
        }
        let mut targets = [self.own; BURST_MAX];
        let mut strangers = 0;
        for (frame, target) in burst.iter().zip(&mut targets) {
            *target = self.worker_of(frame);
            if *target != self.own {
                strangers += 1;
            }
        }
        if strangers == 0 {
            return;
        }
        let mut kept = Burst::new();
        for (frame, target) in burst.drain(..).zip(targets) {
            if target == self.own {
                kept.push(frame);
            } else {
                out.spread(target, port, frame);
            }
        }
        *burst = kept;
    }

    /// What has no flow (not IP, too short, scattered) stays with the worker that received it.
    #[inline]
    fn worker_of<F: Frame>(&self, frame: &F) -> usize {
        if !frame.is_contiguous() {
            return self.own;
        }
        match flow_hash(self.seed, frame.bytes()) {
            // The high half of hash times workers: an even deal without a division.
            Some(hash) => {
                let share = (u64::from(hash) * u64::from(self.workers)) >> 32;
                usize::try_from(share).expect("below the number of workers")
            }
            None => self.own,
        }
    }
}

/// A hash of addresses, next header and, for TCP and UDP right behind the IP header, ports; `None` where there is no
/// whole IP header. All fragments of a packet have the same hash: of none are the ports taken.
#[must_use]
#[inline]
pub fn flow_hash(seed: u64, frame: &[u8]) -> Option<u32> {
    let l2 = vlan::parse(frame).ok()?;
    let packet = frame.get(usize::from(l2.l3_offset)..)?;
    match l2.ether_type {
        ETHERTYPE_IPV6 => {}
        ETHERTYPE_IPV4 => return flow_hash_v4(seed, packet),
        _ => return None,
    }
    let header = packet.first_chunk::<HEADER_LEN>()?;
    let next_header = header[NEXT_HEADER];
    let mut last = u64::from(next_header);
    if matches!(next_header, proto::TCP | proto::UDP)
        && let Some(ports) = packet[HEADER_LEN..].first_chunk::<PORTS_LEN>()
    {
        last |= u64::from(u32::from_be_bytes(*ports)) << 8;
    }
    let mut hash = mix(seed, last);
    for word in header[ADDRESSES..ADDRESSES + ADDRESSES_LEN].as_chunks().0 {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    // The upper half, which every input bit has reached.
    u32::try_from(hash >> 32).ok()
}

/// The same for IPv4.
fn flow_hash_v4(seed: u64, packet: &[u8]) -> Option<u32> {
    let (header, rest) = ipv4::Header::ref_from_prefix(packet).ok()?;
    let mut last = u64::from(header.protocol);
    let options = header.header_len().saturating_sub(ipv4::HEADER_LEN);
    if matches!(header.protocol, proto::TCP | proto::UDP)
        && !header.is_fragment()
        && let Some(ports) = rest.get(options..).and_then(|rest| rest.first_chunk())
    {
        last |= u64::from(u32::from_be_bytes(*ports)) << 8;
    }
    let [source, destination] = [header.source, header.destination].map(u32::from_be_bytes);
    let addresses = u64::from(source) << 32 | u64::from(destination);
    u32::try_from(mix(mix(seed, last), addresses) >> 32).ok()
}

/// Multiply to 128 bits and fold: every bit of either input moves half the bits of the result.
#[inline]
fn mix(state: u64, word: u64) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    const OTHER: u64 = 0xd1b5_4a32_d192_ed03;
    let product = u128::from(state ^ ODD) * u128::from(word ^ OTHER);
    // `as`: the two halves of a 128-bit product.
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests;
