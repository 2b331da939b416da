//! What is thrown: frames of the corpus as they are, damaged, and pure noise.

use std::net::Ipv6Addr;
use std::sync::Arc;

use anyhow::{Result, ensure};
use dataplane::frame::BURST_MAX;
use dataplane::testing::fault::{FRAME_MAX, Rng, mutate};
use dataplane::wire::ethernet::ETHERTYPE_IPV4;
use dataplane::wire::{FromBytes as _, ipv4, ipv6, lisp, vlan};

use super::corpus;
use super::network::{Network, PORTS};

/// Of sixteen frames: as many are as they should be.
const GOOD: usize = 3;
/// As many are noise; the others are damaged.
const NOISE: usize = 1;
/// Noise is mostly short: most of what parses is near the front.
const NOISE_SHORT: usize = 120;

/// Of so many runs of bursts, one is of few flows, as a router mostly sees: what is remembered of flows is met by them.
const RUNS: usize = 4;
/// Bursts of a run.
const RUN_BURSTS: u64 = 16;
/// Of so many frames of a run, one is damaged.
const RUN_FRAMES: usize = 256;
/// Flows made from one frame, and from how many they are at most.
const FLOWS: usize = 8;
const FLOW_FRAMES: usize = 2;

/// Offset of the destination in an IPv6 header.
const DESTINATION: usize = 24;

/// What everything is made from; made once, shared by threads.
pub struct Samples {
    received: [Vec<Vec<u8>>; PORTS],
    /// Those for LISP: fewer, and as many more things can be wrong with each.
    lisp: [Vec<Vec<u8>>; PORTS],
    /// Those of them about which nothing is odd.
    common: [Vec<Vec<u8>>; PORTS],
    own: Vec<Vec<u8>>,
}

impl Samples {
    /// The whole corpus of valid packets.
    #[must_use]
    pub fn all() -> Arc<Self> {
        Arc::new(Self {
            received: corpus::received_frames(),
            lisp: corpus::lisp_frames(),
            common: corpus::common_lisp_frames(),
            own: corpus::own_packets(),
        })
    }

    /// Those of them that are received, and are to this IPv6 address.
    ///
    /// # Errors
    /// When there are none.
    pub fn to(address: Ipv6Addr) -> Result<Arc<Self>> {
        let is_to = |frame: &Vec<u8>| {
            let at = vlan::parse(frame).map_or(0, |l2| usize::from(l2.l3_offset) + DESTINATION);
            frame.get(at..at + 16) == Some(&address.octets())
        };
        let mut received = corpus::received_frames();
        received
            .iter_mut()
            .for_each(|frames| frames.retain(|frame| is_to(frame)));
        let is_there = received.iter().all(|frames| !frames.is_empty());
        ensure!(is_there, "no frame of the corpus is to {address}");
        Ok(Arc::new(Self {
            lisp: received.clone(),
            common: received.clone(),
            received,
            own: corpus::own_packets(),
        }))
    }
}

/// Makes the bursts of one seed.
pub struct Source {
    seed: u64,
    samples: Arc<Samples>,
    scratch: Vec<u8>,
}

/// One burst.
pub(super) struct Plan {
    /// Everything about the burst comes from this.
    pub(super) rng: Rng,
    /// Where it comes in; [`PORTS`] is a port that does not exist.
    pub(super) port: usize,
    /// How many frames it has.
    pub(super) frames: usize,
    /// Which tables it meets.
    pub(super) network: Network,
    /// Whether punted frames are handed back with it.
    pub(super) hands_back: bool,
    /// The seeds of the frames that its flows come from, if they are few.
    flows: Option<[u64; FLOW_FRAMES]>,
}

/// What the bursts of a run have in common.
#[derive(Clone, Copy)]
struct Run {
    /// Seeds of the frames that its flows come from.
    flows: [u64; FLOW_FRAMES],
    port: usize,
    network: Network,
}

impl Source {
    /// Of this seed.
    #[must_use]
    pub fn new(seed: u64, samples: Arc<Samples>) -> Self {
        Self {
            seed,
            samples,
            scratch: Vec::with_capacity(FRAME_MAX),
        }
    }

    /// All frames of burst `number`, to look at.
    pub fn frames(&mut self, number: u64) -> Vec<Vec<u8>> {
        let mut plan = self.plan(number);
        (0..plan.frames)
            .map(|_| self.frame(&mut plan).to_vec())
            .collect()
    }

    pub(super) fn plan(&self, number: u64) -> Plan {
        // The odd factor sends neighbouring numbers of neighbouring seeds far apart.
        let mut rng =
            Rng::new(self.seed.rotate_left(32) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let port = if rng.below(64) == 0 {
            PORTS
        } else {
            rng.below(PORTS)
        };
        let network = match rng.below(16) {
            0 => Network::Reduced,
            1..5 => Network::Proxy,
            5..8 => Network::Unsteered,
            _ => Network::Site,
        };
        let run = self.run(number);
        // The tables of a run are the same but for a few bursts.
        let keeps = rng.below(32) != 0;
        Plan {
            port: run.map_or(port, |run| run.port),
            frames: 1 + rng.below(BURST_MAX),
            network: run.filter(|_| keeps).map_or(network, |run| run.network),
            flows: run.map(|run| run.flows),
            hands_back: rng.below(4) == 0,
            rng,
        }
    }

    /// The run of few flows that burst `number` is one of.
    fn run(&self, number: u64) -> Option<Run> {
        let number = (number / RUN_BURSTS).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut rng = Rng::new(self.seed.rotate_left(16) ^ number);
        if rng.below(RUNS) != 0 {
            return None;
        }
        let [first, other] = [rng.next_u64(), rng.next_u64()];
        Some(Run {
            flows: [first, if rng.below(2) == 0 { first } else { other }],
            port: rng.below(PORTS),
            network: match rng.below(4) {
                0 => Network::Proxy,
                1 => Network::Site,
                _ => Network::Unsteered,
            },
        })
    }

    /// The next frame of a burst.
    pub(super) fn frame(&mut self, plan: &mut Plan) -> &[u8] {
        if let Some(seeds) = plan.flows {
            return self.frame_of(plan, seeds);
        }
        let kind = plan.rng.below(16);
        self.scratch.clear();
        if kind < NOISE {
            let most = if plan.rng.below(4) == 0 {
                FRAME_MAX
            } else {
                NOISE_SHORT
            };
            self.scratch.resize(plan.rng.below(most), 0);
            plan.rng.fill(&mut self.scratch);
            return &self.scratch;
        }
        // Now and then a frame that belongs to another port.
        let port = if plan.port == PORTS || plan.rng.below(16) == 0 {
            plan.rng.below(PORTS)
        } else {
            plan.port
        };
        let samples = match plan.rng.below(4) {
            0 => &self.samples.lisp[port],
            _ => &self.samples.received[port],
        };
        let sample = &samples[plan.rng.below(samples.len())];
        self.scratch.extend_from_slice(sample);
        if kind >= NOISE + GOOD {
            mutate(&mut plan.rng, &mut self.scratch);
            if plan.rng.below(4) != 0 {
                mend(sample, &mut self.scratch);
            }
        }
        &self.scratch
    }

    /// One of few flows.
    fn frame_of(&mut self, plan: &mut Plan, seeds: [u64; FLOW_FRAMES]) -> &[u8] {
        let mut chosen = Rng::new(seeds[plan.rng.below(FLOW_FRAMES)]);
        let samples = match chosen.below(4) {
            0 => &self.samples.received[plan.port],
            1 => &self.samples.lisp[plan.port],
            _ => &self.samples.common[plan.port],
        };
        let sample = &samples[chosen.below(samples.len())];
        self.scratch.clear();
        self.scratch.extend_from_slice(sample);
        // The last byte of a source port, where there is one.
        if let Ok(l2) = vlan::parse(sample) {
            let l4 = match l2.ether_type {
                ETHERTYPE_IPV4 => ipv4::HEADER_LEN,
                _ => ipv6::HEADER_LEN,
            };
            if let Some(byte) = self.scratch.get_mut(usize::from(l2.l3_offset) + l4 + 1) {
                *byte ^= u8::try_from(plan.rng.below(FLOWS)).unwrap_or(0);
            }
        }
        if plan.rng.below(RUN_FRAMES) == 0 {
            mutate(&mut plan.rng, &mut self.scratch);
            mend(sample, &mut self.scratch);
        }
        &self.scratch
    }

    /// A packet of the control thread's own.
    pub(super) fn own(&self, plan: &mut Plan) -> &[u8] {
        &self.samples.own[plan.rng.below(self.samples.own.len())]
    }
}

/// Undo what happened to the link header, and make lengths and the IPv4 header checksum true again: what happened behind
/// them is then met by more than the first checks.
fn mend(sample: &[u8], frame: &mut [u8]) {
    let Ok(l2) = vlan::parse(sample) else { return };
    let l3 = usize::from(l2.l3_offset);
    let kept = l3.min(frame.len());
    frame[..kept].copy_from_slice(&sample[..kept]);
    let is_v4 = l2.ether_type == ETHERTYPE_IPV4;
    mend_packet(frame.get_mut(l3..).unwrap_or(&mut []), is_v4, true);
}

/// The same of a packet, and of what it carries if that is LISP.
fn mend_packet(packet: &mut [u8], is_v4: bool, may_carry: bool) {
    let header_len = if is_v4 {
        mend_v4(packet);
        ipv4::HEADER_LEN
    } else {
        let payload = packet.len().saturating_sub(ipv6::HEADER_LEN);
        if let (Some(length), Ok(payload)) = (packet.get_mut(4..6), u16::try_from(payload)) {
            length.copy_from_slice(&payload.to_be_bytes());
        }
        ipv6::HEADER_LEN
    };
    let protocol = packet.get(if is_v4 { 9 } else { 6 }).copied();
    let datagram = packet.get_mut(header_len..).unwrap_or(&mut []);
    let len = datagram.len();
    if may_carry
        && protocol == Some(ipv6::proto::UDP)
        && let Some((head, inner)) = datagram.split_first_chunk_mut::<16>()
        && u16::from_be_bytes([head[2], head[3]]) == lisp::DATA_PORT
        && let Ok(len) = u16::try_from(len)
    {
        head[4..6].copy_from_slice(&len.to_be_bytes());
        head[6..8].fill(0);
        let is_v4 = inner.first().is_some_and(|first| first >> 4 == 4);
        mend_packet(inner, is_v4, false);
    }
}

fn mend_v4(packet: &mut [u8]) {
    let len = packet.len();
    let Ok((header, _)) = ipv4::Header::mut_from_prefix(packet) else {
        return;
    };
    if let Ok(len) = u16::try_from(len) {
        header.total_length.set(len);
    }
    let header_len = header.header_len();
    if let Some(header) = packet.get_mut(..header_len) {
        // Shorter than a header: such a one has nothing to mend.
        let _ = ipv4::set_checksum(header);
    }
}
