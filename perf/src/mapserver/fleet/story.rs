//! What happens in a fleet's life: flows begin, hosts move, providers fail, Map-Servers and tunnel routers start anew.

use anyhow::Result;
use control::proto::lisp::EidKey;
use control::proto::lisp::mapserver::Machine;
use ipnet::IpNet;
use std::net::IpAddr;

use super::Plan;
use super::addresses::{key, mobile, prefix, prefix_v4, providers};
use super::tally::SECOND;
use super::world::{GROUP, PROVIDERS, SERVERS, World};

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// All sites are switched on within this time.
const POWER_ON: u64 = 10 * SECOND;
/// How long a failed provider carries nothing.
const FAILURE: u64 = 10 * MINUTE;
/// A site sees its link go within this time.
const DETECTION: u64 = SECOND;
/// How long a Map-Server is down, and how old its saved nonces are then.
const RESTART: u64 = 20 * SECOND;
const SAVED_BEFORE: u64 = SECOND;
/// Sites most flows of one go to.
const PARTNERS: usize = 20;

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub enum Happening {
    /// A site is switched on, or was and starts anew.
    SiteStarts(usize),
    /// A flow begins.
    Flow(usize),
    /// A host moves to another site of its group.
    Move,
    /// The site a host left sees that it is silent.
    Left(usize, EidKey),
    /// A provider carries nothing any more.
    ProviderFails(usize),
    /// It does again.
    ProviderRecovers(usize),
    /// A site sees how its links are.
    LinksSeen(usize),
    /// A Map-Server's nonces are on its disk.
    NoncesSaved(usize),
    /// A Map-Server is killed.
    ServerStops(usize),
    /// And started.
    ServerStarts(usize),
    /// Some tunnel router starts anew, and knows its nonce.
    SomeRestart,
    /// Some site asks for some EID.
    Sample,
}

/// Everything that comes by itself.
pub fn begin(world: &mut World, plan: &Plan) {
    for site in 0..plan.sites {
        let at = world.rng.u64(..POWER_ON);
        world.after(at, Happening::SiteStarts(site));
        let at = POWER_ON + world.rng.u64(..plan.flow_every_s * SECOND);
        world.after(at, Happening::Flow(site));
    }
    world.after(MINUTE, Happening::Move);
    world.after(2 * MINUTE, Happening::Sample);
    world.after(30 * MINUTE, Happening::SomeRestart);
    for hour in 0..plan.hours {
        let provider = usize::try_from(hour).unwrap_or(0) % PROVIDERS;
        let at = hour * HOUR + 20 * MINUTE;
        world.after(at, Happening::ProviderFails(provider));
    }
    // Each Map-Server once, a third and two thirds into the time.
    for server in 0..SERVERS {
        let part = plan.hours * HOUR / (SERVERS as u64 + 1); // `as`: widening
        let at = part * (server as u64 + 1) + 40 * MINUTE % part; // `as`: widening
        world.after(at - SAVED_BEFORE, Happening::NoncesSaved(server));
        world.after(at, Happening::ServerStops(server));
        world.after(at + RESTART, Happening::ServerStarts(server));
    }
}

/// It happens now.
///
/// # Errors
/// When a machine does what it should not.
pub fn happen(world: &mut World, happening: Happening) -> Result<()> {
    match happening {
        Happening::SiteStarts(site) => {
            let kept = world.sites[site].kept;
            world.sites[site].xtr = world.new_xtr(kept);
            world.sites[site].cache.clear();
            world.sites[site].forget_asked();
            world.configure(site);
            world.hosts_speak(site);
            world.site_acts(site)?;
        }
        Happening::Flow(site) => {
            let every = world.plan.flow_every_s * SECOND;
            let next = world.rng.u64(1..2 * every);
            world.after(next, happening);
            let host = destination(world, site);
            let is_own = world.sites[site].eids.iter();
            if is_own.into_iter().any(|own| own.eid.contains(&host.eid)) {
                return Ok(());
            }
            match world.lookup(site, host) {
                Some(mapping) => {
                    let now = world.instant();
                    let user = &mut world.sites[site];
                    if let Some(used) = user.cache.get(&mapping) {
                        user.xtr.note_used(now, mapping, used);
                    }
                    world.site_acts(site)?;
                }
                None => world.miss(site, host)?,
            }
        }
        Happening::Move => {
            let next = world.plan.move_every_ms * 1_000_000;
            world.after(next, happening);
            let groups = world.plan.sites / GROUP;
            let host = mobile(world.rng.usize(..groups), world.rng.usize(..GROUP));
            move_host(world, host)?;
        }
        Happening::Left(site, host) => {
            // It may have come back meanwhile.
            if world.homes.get(&host).is_some_and(|home| home.0 != site) {
                world.sites[site].eids.retain(|own| *own != host);
                world.host(site, host, false);
                world.site_acts(site)?;
            }
        }
        Happening::ProviderFails(provider) => {
            world.is_failed[provider] = true;
            see_links(world, provider);
            world.after(FAILURE, Happening::ProviderRecovers(provider));
        }
        Happening::ProviderRecovers(provider) => {
            world.is_failed[provider] = false;
            see_links(world, provider);
        }
        Happening::LinksSeen(site) => {
            let is_up = providers(site).map(|provider| !world.is_failed[provider]);
            if is_up != world.sites[site].is_up {
                world.sites[site].is_up = is_up;
                world.sites[site].changed = world.now;
                world.configure(site);
                world.site_acts(site)?;
            }
        }
        Happening::NoncesSaved(server) => {
            let machine = world.servers[server].machine.as_ref();
            let saved = machine.map(|machine| machine.nonces().collect());
            world.servers[server].saved = saved.unwrap_or_default();
        }
        Happening::ServerStops(server) => world.server_stops(server),
        Happening::ServerStarts(server) => {
            let mut machine: Machine = world.new_server();
            for nonce in &world.servers[server].saved {
                machine.restore_nonce(nonce);
            }
            world.servers[server].machine = Some(machine);
            world.servers[server].since = world.now;
            world.server_acts(server);
        }
        Happening::SomeRestart => {
            // The end is quiet.
            if world.now + 4 * MINUTE < world.plan.hours * HOUR {
                world.after(MINUTE, happening);
            }
            // A hundredth of all in an hour.
            let restarts = world.plan.sites.div_ceil(6000);
            for _ in 0..restarts {
                let site = world.rng.usize(..world.plan.sites);
                happen(world, Happening::SiteStarts(site))?;
            }
        }
        Happening::Sample => {
            let next = world.plan.sample_every_ms * 1_000_000;
            world.after(next, happening);
            let site = world.rng.usize(..world.plan.sites);
            let other = world.rng.usize(..world.plan.sites);
            let host = match world.rng.u8(..4) {
                0 => inside(prefix(other), world.rng.u8(..)),
                1 => inside(prefix_v4(other), world.rng.u8(..)),
                _ => mobile(other / GROUP, other % GROUP),
            };
            world.sample(site, host)?;
        }
    }
    Ok(())
}

/// A host in a prefix.
fn inside(prefix: EidKey, number: u8) -> EidKey {
    let address: IpAddr = match prefix.eid.network() {
        IpAddr::V4(network) => IpAddr::V4((u32::from(network) | u32::from(number)).into()),
        IpAddr::V6(network) => IpAddr::V6((u128::from(network) | u128::from(number)).into()),
    };
    key(IpNet::from(address))
}

/// Most often at one of a few sites; now and then anywhere, at a host that moves, or where there is nothing.
fn destination(world: &mut World, site: usize) -> EidKey {
    let sites = world.plan.sites;
    let partner = world.rng.usize(..PARTNERS);
    let number = world.rng.u8(..);
    let other = match world.rng.u8(..100) {
        0..5 => world.rng.usize(..sites),
        // The same ones in each life of the fleet.
        _ => (site * 7919 + partner * partner * 104_729 + partner) % sites,
    };
    match world.rng.u8(..100) {
        // Nobody's: between the prefixes of all sites and the end.
        0..2 => inside(prefix(sites + 1 + other), number),
        2..20 => mobile(other / GROUP, usize::from(number) % GROUP),
        20..50 => inside(prefix_v4(other), number),
        _ => inside(prefix(other), number),
    }
}

fn move_host(world: &mut World, host: EidKey) -> Result<()> {
    let Some((from, _)) = world.homes.get(&host).copied() else {
        return Ok(());
    };
    let first = from / GROUP * GROUP;
    let to = first + (from - first + 1 + world.rng.usize(..GROUP - 1)) % GROUP;
    world.homes.insert(host, (to, world.now));
    if !world.sites[to].eids.contains(&host) {
        world.sites[to].eids.push(host);
    }
    world.host(to, host, true);
    world.site_acts(to)?;
    let left = world.rng.u64(..SECOND / 10);
    world.after(left, Happening::Left(from, host));
    Ok(())
}

fn see_links(world: &mut World, provider: usize) {
    for site in 0..world.plan.sites {
        if providers(site).contains(&provider) {
            let at = world.rng.u64(..DETECTION);
            world.after(at, Happening::LinksSeen(site));
        }
    }
}
