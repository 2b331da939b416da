//! The Map-Server as it runs: `sextant mapserver` on one core, asked and registered to over the loopback from another.
//!
//! ```text
//!   core 0: a few sockets, each with so many messages under way          last core: sextant mapserver
//!   127.77.0.2 to .5, port 4342   Map-Register  -->  <-- Map-Notify      127.77.0.1 port 4342
//!   127.77.0.2, .3, ::1           Map-Request   -->  <-- Map-Reply       ::1 port 4342
//! ```
//!
//! The table is registered over the wire too, many records to a message. Every answer is compared, byte by byte, with
//! the only right one; every Map-Notify is authenticated. All that is sent goes through the kernel, a system call for
//! each datagram on either side.

mod fleet;
mod load;
mod memory;
mod messages;
mod server;
mod talks;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use control::proto::lisp::wire::CONTROL_PORT;
use control::proto::lisp::wire::auth::Secret;
use core_affinity::CoreId;

use crate::appliance::Sextant;
use crate::record::{Metric, Record};
use load::{Effort, Flow, Found};
use messages::{RECORDS, SECRET};
use server::Server;
use talks::{Fill, Registers, Requests};

/// Name of the suite in records.
pub const SUITE: &str = "mapserver";
/// Who registers; Map-Notifies come to the control port.
const ROUTERS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 77, 0, 2),
    Ipv4Addr::new(127, 77, 0, 3),
    Ipv4Addr::new(127, 77, 0, 4),
    Ipv4Addr::new(127, 77, 0, 5),
];
/// Who asks, half of them over IPv6.
const ASKERS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(127, 77, 0, 2)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(127, 77, 0, 3)),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];
/// Map-Registers of each router in a round, at most.
const REGISTERS: u64 = 100_000;

/// How many /128 are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Eids(u32);

impl Eids {
    const FEW: Self = Self(50_000);
    const MANY: Self = Self(1_000_000);
}

impl fmt::Display for Eids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1_000_000 => f.write_str("1M"),
            count => write!(f, "{}k", count / 1000),
        }
    }
}

/// What is sent while time is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Register,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Register => "register",
        }
    }

    const fn rate(self) -> Metric {
        match self {
            Self::Request => Metric::RequestsPerSPerCore,
            Self::Register => Metric::RegistersPerSPerCore,
        }
    }
}

/// What there is to measure: tables, and what is sent to a server with such a table.
const CASES: [(Eids, &[Kind]); 2] = [
    (Eids::FEW, &[Kind::Request, Kind::Register]),
    (Eids::MANY, &[Kind::Request]),
];

/// All cases with `only` in their name; the quick ones are short and over 50,000 EIDs.
///
/// # Errors
/// When the server cannot be started, or answers wrongly, or not at all.
pub fn run(
    rounds: usize,
    quick: bool,
    only: &str,
    sextant: &Sextant,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    // First: memory that was free before would be taken again and not be seen.
    let name = memory_name();
    if !quick && name.contains(only) {
        let bytes = memory::bytes_per_eid(Eids::MANY.0)?;
        say(&format!("{name}: {bytes:.1} bytes each"));
        let figures = [bytes];
        records.push(Record::of(SUITE, &name, Metric::BytesPerEid, &figures));
    }
    records.extend(fleet::run(quick, only, say)?);
    let effort = if quick {
        Effort::quick()
    } else {
        Effort::full()
    };
    for (eids, kinds) in CASES {
        if quick && eids != Eids::FEW {
            continue;
        }
        let named = kinds
            .iter()
            .map(|kind| (*kind, format!("{SUITE}/{}/{eids}", kind.name())));
        let named: Vec<_> = named.filter(|(_, name)| name.contains(only)).collect();
        if !named.is_empty() {
            // In a thread of its own: the caller's stays on whatever core it is.
            let (named, effort) = (&named, &effort);
            records.extend(std::thread::scope(|scope| {
                let measuring = scope.spawn(|| measure(eids, named, rounds, effort, sextant, say));
                measuring
                    .join()
                    .map_err(|_| anyhow!("the suite of the Map-Server panicked"))?
            })?);
        }
    }
    Ok(records)
}

fn memory_name() -> String {
    format!("{SUITE}/memory/{}", Eids::MANY)
}

/// Register a table, then send to the server that has it. On two cores, the last one the server's.
fn measure(
    eids: Eids,
    named: &[(Kind, String)],
    rounds: usize,
    effort: &Effort,
    sextant: &Sextant,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Record>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ensure!(
        cores >= 2,
        "the Map-Server and who asks it need a core each"
    );
    pin(cores - 1)?;
    let server = Server::start(sextant);
    pin(0)?;
    let server = server?;
    let secret = Secret::new(SECRET.as_bytes());
    let mut routers = ROUTERS
        .iter()
        .map(|address| Flow::open((*address).into(), CONTROL_PORT))
        .collect::<Result<Vec<_>>>()?;
    let mut fill = Fill {
        eids: eids.0,
        routers: u32::try_from(ROUTERS.len()).expect("a few"),
        secret: secret.clone(),
        message: Vec::new(),
    };
    let start = Instant::now();
    load::talk(&mut routers, &mut fill, &Effort::all(), &server)?;
    let seconds = start.elapsed().as_secs_f64();
    say(&format!(
        "{SUITE}: {eids} EIDs registered, {RECORDS} to a message, in {seconds:.2} s"
    ));
    let askers = ASKERS.iter().map(|address| Flow::open(*address, 0));
    let mut askers = askers.collect::<Result<Vec<_>>>()?;
    let mut records = Vec::new();
    for (kind, name) in named {
        let mut found = Vec::new();
        for _ in 0..rounds {
            let one = match kind {
                Kind::Request => {
                    let mut requests = Requests::new(eids.0, &ASKERS);
                    load::talk(&mut askers, &mut requests, effort, &server)?
                }
                Kind::Register => {
                    let nonces: Vec<u64> = routers.iter().map(|flow| flow.next_nonce).collect();
                    let mut registers = Registers::new(eids.0, &nonces, REGISTERS, &secret);
                    let one = load::talk(&mut routers, &mut registers, effort, &server)?;
                    registers.check()?;
                    one
                }
            };
            say(&format!(
                "{name}: {:.0} a second, the server's core {:.0} % busy",
                one.per_second,
                one.busy * 100.0
            ));
            found.push(one);
        }
        let mut note = |metric, of: fn(&Found) -> f64| {
            let figures: Vec<f64> = found.iter().map(of).collect();
            records.push(Record::of(SUITE, name, metric, &figures));
        };
        note(kind.rate(), |found| found.per_second);
        note(Metric::P99Us, |found| found.p99_us);
        note(Metric::ServerBusy, |found| found.busy);
    }
    Ok(records)
}

fn pin(core: usize) -> Result<()> {
    ensure!(
        core_affinity::set_for_current(CoreId { id: core }),
        "cannot stay on core {core}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::TARGETS;

    #[test]
    fn cases_have_the_names_of_their_goals() {
        let mut names: Vec<String> = CASES
            .iter()
            .flat_map(|(eids, kinds)| {
                kinds
                    .iter()
                    .map(move |kind| format!("{SUITE}/{}/{eids}", kind.name()))
            })
            .collect();
        names.push(memory_name());
        names.push(fleet::Plan::FULL.name());
        let goals = TARGETS.iter().map(|target| target.case);
        let goals: Vec<&str> = goals.filter(|case| case.starts_with(SUITE)).collect();
        for name in &names {
            assert!(goals.contains(&name.as_str()), "{name}");
        }
        assert_eq!(names.len(), goals.len());
    }
}
