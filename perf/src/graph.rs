//! The suite of the graph alone: the production pipeline in process, in time-stamp counter clocks per packet.
//!
//! Beside it stands an empty graph, a pipeline that only hands every frame to its port: what it takes is the price of
//! measuring, of the burst's way in and of the outgoing buffer, and is part of every other figure here.

use anyhow::{Context as _, Result, anyhow};
use core_affinity::CoreId;
use dataplane::batch::Batch;
use dataplane::frame::Burst;
use dataplane::outputs::Outputs;
use dataplane::port::PortId;
use dataplane::testing::HeapFrame;
use dataplane::trace::Traceable;
use dataplane::worker::Pipeline;
use ipnet::IpNet;
use pipelines::tables::{Builder, Hop, InterfaceSpec, Route, VrfId};
use pipelines::testing::HeapEdge;
use pipelines::{Tables, npt66};

use crate::cases::{Flows, Point, Sizes, Way};
use crate::internet::Internet;
use crate::interrupt;
use crate::lisp::{self, Families, Mappings};
use crate::network as net;
use crate::record::{Metric, Record, median};
use crate::replay::{EGRESS, INGRESS, Replay};
use crate::steer;
use crate::traffic::{self, Direction};

/// Packets in one stretch; a round's figure is the median of its stretches, so that one that was interrupted by the
/// machine's other work does not count.
const STRETCH_PACKETS: usize = 1 << 12;
/// Packets in one round: each of 65,536 flows 24 times.
const ROUND_PACKETS: usize = 24 << 16;
const QUICK_ROUND_PACKETS: usize = 8 << 16;
/// Packets before each round, to warm tables, code and predictors again after the other cases.
const WARM_UP_PACKETS: usize = 1 << 16;
/// What the product uses, which has the plain case name, and the longest there is.
const BURSTS: [usize; 2] = [32, 64];
const SUITE: &str = "graph";

/// A case that is ready to run.
struct Case {
    name: String,
    replay: Box<dyn Replayed>,
    figures: Vec<f64>,
}

/// A replay of any pipeline, run in stretches.
trait Replayed: Send {
    fn round(&mut self, packets: usize) -> f64;
    fn check(&self) -> Result<()>;
}

struct Stretches<P: Pipeline<HeapFrame>> {
    replay: Replay<P>,
    burst: usize,
    packets: u64,
}

impl<P: Pipeline<HeapFrame>> Stretches<P> {
    fn run(&mut self, packets: usize) -> Vec<f64> {
        (0..packets / STRETCH_PACKETS)
            .map(|_| {
                self.packets += STRETCH_PACKETS as u64; // `as`: a constant
                self.replay.stretch(STRETCH_PACKETS, self.burst)
            })
            .collect()
    }
}

impl<P: Pipeline<HeapFrame>> Replayed for Stretches<P> {
    fn round(&mut self, packets: usize) -> f64 {
        self.run(WARM_UP_PACKETS);
        median(&self.run(packets))
    }

    fn check(&self) -> Result<()> {
        self.replay.check(self.packets)
    }
}

/// Measure every case whose name has `only` in it, in `rounds` rounds, on a thread pinned to the last core; `say` is told what is going on.
pub fn run(
    rounds: usize,
    quick: bool,
    only: &str,
    internet: Option<&Internet>,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let mut cases = cases(only, internet)?;
    lisp_cases(quick, only, &mut cases)?;
    steer_cases(&[Flows::SixtyFourThousand], only, &mut cases)?;
    Ok(records(SUITE, &race(cases, rounds, quick, say)?))
}

/// The same for the cases of LISP.
pub fn run_lisp(rounds: usize, quick: bool, only: &str, say: &dyn Fn(&str)) -> Result<Vec<Record>> {
    let mut cases = Vec::new();
    lisp_cases(quick, only, &mut cases)?;
    Ok(records(lisp::SUITE, &race(cases, rounds, quick, say)?))
}

/// The same for the cases of steering, with few flows and with many. Quick: not with ten million.
pub fn run_steer(
    rounds: usize,
    quick: bool,
    only: &str,
    say: &dyn Fn(&str),
) -> Result<Vec<Record>> {
    let mut flows = vec![Flows::Thousand, Flows::SixtyFourThousand, Flows::Million];
    if !quick {
        flows.push(Flows::TenMillion);
    }
    let mut cases = Vec::new();
    steer_cases(&flows, only, &mut cases)?;
    let raced = race(cases, rounds, quick, say)?;
    let mut found = records(steer::SUITE, &raced);
    let of = |name: &str| raced.iter().find(|raced| raced.name == name);
    for mode in &steer::MODES {
        let case = |flows: &Flows| of(&format!("{}/{}/{flows}", mode.name, Sizes::Small));
        let Some(few) = case(&Flows::Thousand) else {
            continue;
        };
        for many in flows
            .iter()
            .filter_map(case)
            .filter(|many| many.name != few.name)
        {
            let rounds = few.figures.iter().zip(&many.figures);
            let ratios: Vec<f64> = rounds.map(|(few, many)| few / many).collect();
            found.push(Record::of(
                steer::SUITE,
                &many.name,
                Metric::RatioTo1k,
                &ratios,
            ));
        }
    }
    found.sort_by(|a, b| a.case.cmp(&b.case));
    Ok(found)
}

fn records(suite: &str, raced: &[Case]) -> Vec<Record> {
    let record =
        |case: &Case| Record::of(suite, &case.name, Metric::GraphClkPerPacket, &case.figures);
    raced.iter().map(record).collect()
}

/// Run them round by round; each then has its figures, clocks a packet.
fn race(mut cases: Vec<Case>, rounds: usize, quick: bool, say: &dyn Fn(&str)) -> Result<Vec<Case>> {
    if cases.is_empty() {
        return Ok(Vec::new());
    }
    let packets = if quick {
        QUICK_ROUND_PACKETS
    } else {
        ROUND_PACKETS
    };
    for number in 0..rounds {
        interrupt::check()?;
        say(&format!("graph, round {} of {rounds}", number + 1));
        // A thread of its own, so that the pinning ends with it and no child inherits it.
        std::thread::scope(|scope| {
            let round = scope.spawn(|| {
                pin();
                let count = cases.len();
                for position in 0..count {
                    let case = &mut cases[(position + number) % count];
                    let figure = case.replay.round(packets);
                    case.figures.push(figure);
                }
            });
            round.join().map_err(|_| anyhow!("the graph panicked"))
        })?;
    }
    for case in &cases {
        case.replay.check().with_context(|| case.name.clone())?;
    }
    Ok(cases)
}

/// This thread stays on the core that measures.
pub(crate) fn pin() {
    let last = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1;
    // Not being allowed to costs precision, nothing else.
    core_affinity::set_for_current(CoreId { id: last });
}

fn cases(only: &str, internet: Option<&Internet>) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for flows in [Flows::One, Flows::SixtyFourThousand] {
        let point = Point {
            sizes: Sizes::Small,
            flows,
        };
        for burst in BURSTS {
            let suffix = if burst == BURSTS[0] {
                String::new()
            } else {
                format!("/burst{burst}")
            };
            let mut case = |name: &dyn std::fmt::Display, replay: Box<dyn Replayed>| {
                cases.push(Case {
                    name: format!("{name}/{point}{suffix}"),
                    replay,
                    figures: Vec::new(),
                });
            };
            let frames = traffic::frames(Direction::Out, point);
            case(&"empty", boxed(Replay::new(Empty, (), frames), burst));
            for way in Way::ALL {
                case(&way, boxed(edge(way, point)?, burst));
            }
            // One flow would ask one corner of the table.
            if let Some(internet) = internet.filter(|_| flows == Flows::SixtyFourThousand) {
                let way = Way::ForwardFullTable;
                let tables = tables(way, Some(internet))?;
                let replay = Replay::new(HeapEdge::new(), tables, internet.frames(point));
                case(&way, boxed(replay, burst));
            }
        }
    }
    cases.retain(|case| case.name.contains(only));
    Ok(cases)
}

/// Encapsulation to each number of mappings, decapsulation, and long packets, over 65,536 flows; and encapsulation of a
/// thousand, which are remembered. Quick: nothing of IPv4 inside, and no long packets.
fn lisp_cases(quick: bool, only: &str, cases: &mut Vec<Case>) -> Result<()> {
    let many = Flows::SixtyFourThousand;
    let mut add = |name: String, step, families, mappings, flows: Flows, size| -> Result<()> {
        // A million mappings take seconds to make.
        if name.contains(only) {
            let replay = lisp::graph::replay(step, families, mappings, flows.count(), size)?;
            cases.push(Case {
                name,
                replay: boxed(replay, BURSTS[0]),
                figures: Vec::new(),
            });
        }
        Ok(())
    };
    let (encap, decap) = (lisp::graph::Step::Encap, lisp::graph::Step::Decap);
    let usual = lisp::cases::USUAL;
    for families in Families::ALL {
        if quick && families.inner_is_v4 {
            continue;
        }
        for mappings in Mappings::ALL {
            let is_first = families == Families::ALL[0];
            if mappings != usual && !is_first {
                continue;
            }
            let name = format!("lisp-encap/{families}/64B/{mappings}");
            add(name, encap, families, mappings, many, 64)?;
        }
        if !quick {
            let name = format!("lisp-encap/{families}/1414B/{usual}");
            add(name, encap, families, usual, many, 1414)?;
        }
        let few = Flows::Thousand;
        let name = format!("lisp-encap/{families}/64B/{usual}/{few}-flows");
        add(name, encap, families, usual, few, 64)?;
        let name = format!("lisp-decap/{families}/64B/{usual}");
        add(name, decap, families, usual, many, 64)?;
    }
    Ok(())
}

/// So many flows to a service address: the first mode with each number, the others with 65,536.
fn steer_cases(flows: &[Flows], only: &str, cases: &mut Vec<Case>) -> Result<()> {
    for (position, mode) in steer::MODES.iter().enumerate() {
        for flows in flows {
            let name = format!("{}/{}/{flows}", mode.name, Sizes::Small);
            let is_measured = position == 0 || *flows == Flows::SixtyFourThousand;
            if is_measured && name.contains(only) {
                let mut replay = Stretches {
                    replay: steer::graph::replay(mode, *flows)?,
                    burst: BURSTS[0],
                    packets: 0,
                };
                // Each flow once, so that all have begun.
                replay.run(flows.count().next_multiple_of(STRETCH_PACKETS));
                cases.push(Case {
                    name,
                    replay: Box::new(replay),
                    figures: Vec::new(),
                });
            }
        }
    }
    let flows = Flows::SixtyFourThousand;
    for mode in steer::MODES.iter().filter(|mode| mode.is_both_ways()) {
        let name = format!("{}-back/{}/{flows}", mode.name, Sizes::Small);
        if name.contains(only) {
            let replay = boxed(steer::graph::replay_back(mode, flows)?, BURSTS[0]);
            cases.push(Case {
                name,
                replay,
                figures: Vec::new(),
            });
        }
    }
    Ok(())
}

fn boxed<P>(replay: Replay<P>, burst: usize) -> Box<dyn Replayed>
where
    P: Pipeline<HeapFrame> + 'static,
{
    Box::new(Stretches {
        replay,
        burst,
        packets: 0,
    })
}

/// The production graph with the traffic of `point` going `way`.
pub fn edge(way: Way, point: Point) -> Result<Replay<HeapEdge>> {
    let direction = match way {
        Way::Forward | Way::ForwardFullTable | Way::Npt66Out => Direction::Out,
        Way::Npt66In => Direction::In,
    };
    Ok(Replay::new(
        HeapEdge::new(),
        tables(way, None)?,
        traffic::frames(direction, point),
    ))
}

/// The tables of [`crate::network`], and the routes of `internet`, with frames of `way` coming in by the ingress of a [`Replay`].
pub fn tables(way: Way, internet: Option<&Internet>) -> Result<Tables> {
    let (inside_port, outside_port) = match way {
        Way::Forward | Way::ForwardFullTable | Way::Npt66Out => (INGRESS, EGRESS),
        Way::Npt66In => (EGRESS, INGRESS),
    };
    let mut builder = Builder::new();
    let mut interface = |port: usize, address: &str| -> Result<_> {
        let mac = if port == INGRESS {
            net::SOURCE_MAC
        } else {
            net::SINK_MAC
        };
        Ok(builder.interface(InterfaceSpec {
            port: PortId::new(port).context("port 0 or 1")?,
            vlan: Vec::new(),
            mac: mac.parse()?,
            mtu: 1500,
            vrf: VrfId(0),
            addresses: vec![address.parse()?],
            link_local: "fe80::1".parse()?,
            up: true,
        }))
    };
    let inside = interface(inside_port, net::INSIDE_ADDRESS)?;
    let outside = interface(outside_port, net::OUTSIDE_ADDRESS)?;
    for (prefix, interface, router, mac) in [
        (
            "::/0",
            outside,
            net::OUTSIDE_ROUTER,
            net::OUTSIDE_ROUTER_MAC,
        ),
        (
            net::INSIDE_PREFIX,
            inside,
            net::INSIDE_ROUTER,
            net::INSIDE_ROUTER_MAC,
        ),
    ] {
        builder.neighbor(interface, router.parse()?, mac.parse()?);
        let hop = Hop {
            interface,
            via: Some(router.parse()?),
            weight: 1,
        };
        builder.route(VrfId(0), prefix.parse::<IpNet>()?, Route::Hops(vec![hop]));
    }
    if let Some(internet) = internet {
        internet.add_to(&mut builder, outside)?;
    }
    if way.translates() {
        builder.npt66(npt66::Spec {
            interface: outside,
            inside: net::INSIDE_PREFIX.parse()?,
            outside: net::OUTSIDE_PREFIX.parse()?,
            zero_iid: npt66::ZeroIid::Drop,
        })?;
    }
    Ok(builder.build())
}

/// The empty graph.
struct Empty;

/// Its record beside each frame.
#[derive(Clone, Copy, Default)]
struct Nothing;

impl Traceable for Nothing {
    fn trace_id(&self) -> u32 {
        0
    }
}

impl Pipeline<HeapFrame> for Empty {
    type Tables = ();
    type Meta = Nothing;

    fn process(
        &mut self,
        (): &(),
        _ingress: PortId,
        burst: &mut Burst<HeapFrame>,
        out: &mut Outputs<HeapFrame, Nothing>,
    ) {
        let port = PortId::new(EGRESS).expect("port 1 exists");
        for frame in burst.drain(..) {
            out.transmit(port, frame);
        }
    }

    fn resume(
        &mut self,
        (): &(),
        batch: &mut Batch<HeapFrame, Nothing>,
        out: &mut Outputs<HeapFrame, Nothing>,
    ) {
        let port = PortId::new(EGRESS).expect("port 1 exists");
        batch.consume(|frame, _| out.transmit(port, frame));
    }

    fn recover(&mut self) {}
}

#[cfg(test)]
mod tests {
    use dataplane::frame::Frame as _;

    use super::*;

    #[test]
    fn every_case_sends_every_packet_the_way_it_says() {
        for way in Way::ALL {
            let point = Point {
                sizes: Sizes::Imix,
                flows: Flows::Thousand,
            };
            let mut replay = edge(way, point).expect("the network of this crate is valid");
            replay.stretch(4096, 32);
            replay.check(4096).expect("all are sent");
            let frame = replay.into_last_sent().expect("frames come back");
            let (source, destination, hop_limit) = (
                &frame.bytes()[22..38],
                &frame.bytes()[38..54],
                frame.bytes()[21],
            );
            assert_eq!(hop_limit, 63, "{way}");
            let inside: ipnet::Ipv6Net = net::INSIDE_PREFIX.parse().expect("a prefix");
            let outside: ipnet::Ipv6Net = net::OUTSIDE_PREFIX.parse().expect("a prefix");
            let is_in = |net: ipnet::Ipv6Net, bytes: &[u8]| {
                net.contains(&std::net::Ipv6Addr::from(
                    <[u8; 16]>::try_from(bytes).expect("16 bytes"),
                ))
            };
            match way {
                Way::Forward | Way::ForwardFullTable => assert!(is_in(inside, source)),
                Way::Npt66Out => assert!(is_in(outside, source)),
                Way::Npt66In => assert!(is_in(inside, destination)),
            }
        }
    }
}
