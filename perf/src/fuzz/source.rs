//! What is thrown: frames of the corpus as they are, damaged, and pure noise.

use std::sync::Arc;

use dataplane::frame::BURST_MAX;
use dataplane::testing::fault::{FRAME_MAX, Rng, mutate};
use dataplane::wire::ethernet::ETHERTYPE_IPV4;
use dataplane::wire::{FromBytes as _, ipv4, ipv6, vlan};

use super::corpus;
use super::network::PORTS;

/// Of sixteen frames: as many are as they should be.
const GOOD: usize = 3;
/// As many are noise; the others are damaged.
const NOISE: usize = 1;
/// Noise is mostly short: most of what parses is near the front.
const NOISE_SHORT: usize = 120;

/// What everything is made from; made once, shared by threads.
pub struct Samples {
    received: [Vec<Vec<u8>>; PORTS],
    own: Vec<Vec<u8>>,
}

impl Samples {
    /// The whole corpus of valid packets.
    #[must_use]
    pub fn all() -> Arc<Self> {
        Arc::new(Self {
            received: corpus::received_frames(),
            own: corpus::own_packets(),
        })
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
    /// Whether it meets the tables of the reduced network.
    pub(super) is_reduced: bool,
    /// Whether punted frames are handed back with it.
    pub(super) hands_back: bool,
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
        Plan {
            port,
            frames: 1 + rng.below(BURST_MAX),
            is_reduced: rng.below(16) == 0,
            hands_back: rng.below(4) == 0,
            rng,
        }
    }

    /// The next frame of a burst.
    pub(super) fn frame(&mut self, plan: &mut Plan) -> &[u8] {
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
        let samples = &self.samples.received[port];
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

    /// A packet of the control thread's own.
    pub(super) fn own(&self, plan: &mut Plan) -> &[u8] {
        &self.samples.own[plan.rng.below(self.samples.own.len())]
    }
}

/// Undo what happened to the link header, and make lengths and the IPv4 header checksum true again: what happened behind them is then
/// met by more than the first checks.
fn mend(sample: &[u8], frame: &mut [u8]) {
    let Ok(l2) = vlan::parse(sample) else { return };
    let l3 = usize::from(l2.l3_offset);
    let kept = l3.min(frame.len());
    frame[..kept].copy_from_slice(&sample[..kept]);
    if l2.ether_type == ETHERTYPE_IPV4 {
        mend_v4(frame.get_mut(l3..).unwrap_or(&mut []));
        return;
    }
    let payload = frame.len().saturating_sub(l3 + ipv6::HEADER_LEN);
    if let (Some(length), Ok(payload)) = (frame.get_mut(l3 + 4..l3 + 6), u16::try_from(payload)) {
        length.copy_from_slice(&payload.to_be_bytes());
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
