//! Random and damaged frames through the whole graph in process: nothing panics, nothing is lost, nothing is made up.
//!
//! What a burst holds depends on the seed and the burst's number alone, so a failure is looked at by giving both. For
//! every burst *in + handed back + generated = sent + dropped + punted* is checked by the counters, and sent and punted
//! frames are also counted one by one. Each frame that was sent is looked at: it must be one IPv6 or IPv4 packet from our
//! MAC address, with no less in it than its header says, and that of IPv4 with the checksum it should have. In a program with the counting allocator, a burst that makes the
//! graph allocate is a failure too.

mod corpus;
pub mod messages;
mod network;
mod outcome;
mod source;
#[cfg(test)]
mod twin;

use std::net::Ipv6Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use crossbeam_utils::CachePadded;
use dataplane::batch::Batch;
use dataplane::counters::WorkerCounters;
use dataplane::frame::{BURST_MAX, Burst, Frame as _};
use dataplane::outputs::{Outputs, TxPath};
use dataplane::port::{PortId, TxQueue};
use dataplane::reason::PuntReason;
use dataplane::ring::{Punted, ring};
use dataplane::testing::HeapFrame;
use dataplane::trace::Tracer;
use dataplane::wire::{ethernet, ipv4, ipv6, vlan};
use dataplane::worker::Pipeline as _;
use pipelines::tables::InterfaceId;
use pipelines::testing::HeapEdge;
use pipelines::{Family, Meta, Tables};
use rtrb::{Consumer, Producer};
use zerocopy::FromBytes as _;

pub use self::outcome::Outcome;
pub use self::source::{Samples, Source};

use self::network::{PORTS, mac_of};
use self::outcome::Totals;
use crate::alloc::allocations_of_this_thread;

/// Punted frames kept to be handed back.
const KEPT: usize = BURST_MAX;
/// More than all frames of two bursts can be cut into, none being longer than two MTUs.
const PIECES: usize = 4 * BURST_MAX;
/// No limit in practice: policing is tested elsewhere, here every frame shall go its way.
const PUNT_RATE: (u32, u32) = (u32::MAX, u32::MAX);

/// Every IPv6 address that is steered: services of each mode, and sources of full NAT.
#[must_use]
pub fn steered() -> Vec<Ipv6Addr> {
    let all = network::steer::SERVICES
        .iter()
        .chain(&network::steer::SOURCES);
    all.map(|text| text.parse().expect("a constant")).collect()
}

/// One thread's appliance and everything round it.
pub struct Fuzzer {
    source: Source,
    edge: HeapEdge,
    /// By [`Network`](network::Network).
    tables: [Tables; 4],
    out: Outputs<HeapFrame, Meta>,
    counters: Arc<CachePadded<WorkerCounters>>,
    /// What each port sent.
    sent: Vec<Consumer<HeapFrame>>,
    punts: Consumer<Punted<HeapFrame, Meta>>,
    kept: Vec<Punted<HeapFrame, Meta>>,
    spare: Vec<HeapFrame>,
    received: u64,
    handed_back: u64,
}

/// The transmit function: frames go to a ring, to be counted and looked at.
struct Collect(Producer<HeapFrame>);

impl TxQueue for Collect {
    type Frame = HeapFrame;

    fn transmit(&mut self, burst: &mut Burst<HeapFrame>) -> usize {
        // The ring is emptied after each burst; what did not fit would be a drop like any other.
        let count = burst.len().min(self.0.slots());
        self.0
            .write_chunk_uninit(count)
            .map_or(0, |chunk| chunk.fill_from_iter(burst.drain(..count)))
    }
}

impl Fuzzer {
    /// A fuzzer of its own for each thread.
    pub fn new(source: Source) -> Result<Self> {
        let (queues, sent): (Vec<_>, Vec<_>) = (0..PORTS).map(|_| ring(8 * BURST_MAX)).unzip();
        let paths = queues
            .into_iter()
            .map(|queue| TxPath::Queue(Box::new(Collect(queue)) as _))
            .collect();
        let (punt, punts) = ring(4 * BURST_MAX);
        let counters = Arc::new(WorkerCounters::new());
        let rates = [PUNT_RATE; PuntReason::COUNT];
        Ok(Self {
            source,
            edge: HeapEdge::new(),
            tables: network::all_tables()?,
            out: Outputs::new(
                paths,
                Vec::new(),
                punt,
                rates,
                Arc::clone(&counters),
                Tracer::off(),
            ),
            counters,
            sent,
            punts,
            kept: Vec::with_capacity(KEPT),
            spare: Vec::new(),
            received: 0,
            handed_back: 0,
        })
    }

    /// Run burst `number`, at most `limit` frames of it; says how many frames came in.
    pub fn burst(&mut self, number: u64, limit: usize) -> Result<usize> {
        match catch_unwind(AssertUnwindSafe(|| self.run(number, limit))) {
            Ok(frames) => frames.with_context(|| format!("burst {number}")),
            Err(_) => bail!("burst {number}: the graph panicked"),
        }
    }

    /// What became of all frames so far. None waits any more.
    pub fn outcome(&mut self) -> Outcome {
        self.edge.finish(&mut self.out);
        Outcome::of(&self.counters, self.received, self.handed_back)
    }

    fn run(&mut self, number: u64, limit: usize) -> Result<usize> {
        let mut plan = self.source.plan(number);
        let before = Totals::of(&self.counters);
        let waited = self.edge.waiting() as u64; // `as`: a count
        let mut burst = Burst::new();
        for _ in 0..plan.frames.min(limit) {
            let mut frame = self.spare.pop().unwrap_or_else(|| HeapFrame::new(&[]));
            frame.refill(self.source.frame(&mut plan));
            burst.push(frame);
        }
        let frames = burst.len();
        let port = PortId::new(plan.port).context("a few ports are not too many")?;
        let mut batch = Batch::new();
        if plan.hands_back {
            self.hand_back(&mut plan, &mut batch);
        }
        let handed_back = batch.len();
        let tables = &self.tables[plan.network as usize]; // `as`: a fieldless enum
        // Fragments come from a pool, as in the product.
        HeapFrame::stock(PIECES);
        let allocations = allocations_of_this_thread();
        self.edge.process(tables, port, &mut burst, &mut self.out);
        self.edge.resume(tables, &mut batch, &mut self.out);
        self.out.flush();
        let allocations = allocations_of_this_thread() - allocations;
        ensure!(allocations == 0, "{allocations} allocations in the graph");
        ensure!(
            burst.is_empty() && batch.is_empty(),
            "frames were left in the burst"
        );
        self.received += frames as u64; // `as`: at most BURST_MAX
        self.handed_back += handed_back as u64; // `as`: at most BURST_MAX
        self.settle(&before, (frames + handed_back) as u64 + waited)?; // `as`: two bursts
        Ok(frames)
    }

    /// Punted frames go back as the control thread would give them back, and with them a packet of our own.
    fn hand_back(&mut self, plan: &mut source::Plan, batch: &mut Batch<HeapFrame, Meta>) {
        for punted in self.kept.drain(..) {
            let meta = if plan.rng.below(2) == 0 {
                punted.meta
            } else {
                punted.meta.unreachable()
            };
            batch.push(punted.frame, meta);
        }
        if !batch.is_full() {
            let mut frame = self.spare.pop().unwrap_or_else(|| HeapFrame::new(&[]));
            frame.refill(self.source.own(plan));
            // The control thread may also name an interface that a reload just took away.
            let interface = u16::try_from(plan.rng.below(2 * PORTS)).unwrap_or(0);
            let is_v4 = ether_type(frame.bytes()) == Some(ethernet::ETHERTYPE_IPV4);
            let family = if is_v4 { Family::V4 } else { Family::V6 };
            batch.push(frame, Meta::originate(InterfaceId(interface)).of(family));
        }
    }

    /// Count and look at what came out, and compare with what went in.
    fn settle(&mut self, before: &Totals, given: u64) -> Result<()> {
        let after = Totals::of(&self.counters);
        let mut sent = 0;
        for (port, queue) in self.sent.iter_mut().enumerate() {
            while let Ok(frame) = queue.pop() {
                look_at(port, frame.bytes())
                    .with_context(|| format!("sent by port {port}: {:02x?}", frame.bytes()))?;
                sent += 1;
                self.spare.push(frame);
            }
        }
        self.spare.truncate(2 * BURST_MAX);
        let mut punted = 0;
        while let Ok(punt) = self.punts.pop() {
            punted += 1;
            // An ARP message is never handed back, nor the beginning of a packet that went on: they are no packets.
            let is_note = punt.meta.went_on();
            if punt.reason != PuntReason::Arp && !is_note && self.kept.len() < KEPT {
                self.kept.push(punt);
            } else {
                self.spare.push(punt.frame);
            }
        }
        let made = after.generated - before.generated;
        let waiting = self.edge.waiting() as u64; // `as`: a count
        let dropped = after.dropped - before.dropped;
        ensure!(
            sent == after.sent - before.sent,
            "{sent} frames sent, {} counted",
            after.sent - before.sent
        );
        ensure!(
            punted == after.punted - before.punted,
            "{punted} punted, {} counted",
            after.punted - before.punted
        );
        ensure!(
            given + made == sent + dropped + punted + waiting,
            "{given} frames in and {made} made, but {sent} sent, {dropped} dropped, {punted} punted, {waiting} waiting"
        );
        Ok(())
    }
}

/// What everything we send has in common.
fn look_at(port: usize, frame: &[u8]) -> Result<()> {
    let source = frame.get(6..12).context("shorter than its addresses")?;
    ensure!(
        source == mac_of(port).octets(),
        "not from the port's MAC address"
    );
    let l2 = vlan::parse(frame).map_err(|_| anyhow::anyhow!("truncated Ethernet header"))?;
    let packet = frame
        .get(usize::from(l2.l3_offset)..)
        .context("nothing behind the Ethernet header")?;
    if l2.ether_type == ethernet::ETHERTYPE_IPV4 {
        let parsed = ipv4::parse(packet)?;
        let (says, has) = (parsed.header.total_len(), packet.len());
        ensure!(says == has, "says {says} bytes, has {has}");
        return Ok(());
    }
    ensure!(
        l2.ether_type == ethernet::ETHERTYPE_IPV6,
        "neither IPv6 nor IPv4"
    );
    let (header, payload) = ipv6::Header::ref_from_prefix(packet)
        .map_err(|_| anyhow::anyhow!("truncated IPv6 header"))?;
    ensure!(header.version() == 6, "IP version {}", header.version());
    ensure!(
        header.payload_len() <= payload.len(),
        "says {} bytes of payload, has {}",
        header.payload_len(),
        payload.len()
    );
    Ok(())
}

/// EtherType of an untagged frame.
fn ether_type(frame: &[u8]) -> Option<u16> {
    let field = frame.get(12..14)?.first_chunk()?;
    Some(u16::from_be_bytes(*field))
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn sixty_thousand_frames_go_everywhere_and_are_all_accounted_for() {
        let mut fuzzer = Fuzzer::new(Source::new(1, Samples::all())).expect("the network is valid");
        let mut frames = 0;
        let mut number = 0;
        while frames < 60_000 {
            frames += fuzzer.burst(number, BURST_MAX).expect("nothing is lost");
            number += 1;
        }
        let outcome = fuzzer.outcome();
        assert!(outcome.is_balanced(), "{outcome}");
        // A corpus that reaches little would find little.
        assert!(
            outcome.sent > 0
                && outcome.generated > 0
                && outcome.limited > 0
                && outcome.handed_back > 0
        );
        // The network has no LISP site whose mappings could be missing, and nobody guesses the token of a health check.
        let mut possible = outcome.punted.iter();
        assert!(
            possible.all(|(reason, count)| *count > 0
                || matches!(
                    reason,
                    PuntReason::MapCacheMiss | PuntReason::DynamicEid | PuntReason::Health
                )),
            "{outcome}"
        );
        let reasons = outcome
            .dropped
            .iter()
            .filter(|(_, count)| *count > 0)
            .count();
        assert!(
            reasons >= 32,
            "only {reasons} drop reasons were reached:\n{outcome}"
        );
        // These need more flows than there are in so few frames.
        let rare = ["steer_no_port", "steer_rate"];
        let missing: Vec<_> = outcome
            .dropped
            .iter()
            .filter(|(_, count)| *count == 0)
            .map(|(reason, _)| reason.info().name)
            .filter(|name| name.starts_with("lisp_") || name.starts_with("steer_"))
            .filter(|name| !rare.contains(name))
            .collect();
        assert_eq!(missing, [""; 0], "reasons that were not reached");
    }

    #[test]
    fn a_burst_depends_on_seed_and_number_alone() {
        let samples = Samples::all();
        let frames =
            |seed: u64, number: u64| Source::new(seed, Arc::clone(&samples)).frames(number);
        assert_eq!(frames(1, 77), frames(1, 77));
        assert_ne!(frames(1, 77), frames(1, 78));
        assert_ne!(frames(1, 77), frames(2, 77));
    }

    #[test]
    fn what_is_sent_is_looked_at() {
        let good = corpus::received_frames()[0][0].clone();
        let mut ours = good.clone();
        ours[6..12].copy_from_slice(&mac_of(2).octets());
        look_at(2, &ours).expect("from us");
        assert!(look_at(1, &ours).is_err());
        ours.truncate(60);
        assert!(look_at(2, &ours).is_err());
        assert!(look_at(2, &good).is_err());
    }
}
