//! Registrations page by page, for who looks at them: an answer costs so much and no more, however many there are.

use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::Registered;
use super::database::{Entry, host};
use super::machine::Machine;
use crate::proto::lisp::{EidKey, InstanceId};

/// Registrations of one page, most, but for those of an EID that several ETRs registered: half a millisecond's work,
/// which is mostly that of writing them down.
const PAGE_MAX: usize = 64;
/// EIDs that are looked at for one page, most.
const STEPS_MAX: usize = 8192;

/// Which registrations are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only this prefix, those under it, and the one that is in force for its first address in the instance, 0 where
    /// none is named.
    pub prefix: Option<IpNet>,
    /// Only of the site with this name.
    pub site: Option<String>,
    /// Only those behind this one, in the order of pages: instance, IPv6 before IPv4, prefix.
    pub after: Option<EidKey>,
}

/// Some of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order; maybe none, and yet there are more.
    pub registered: Vec<Registered>,
    /// There may be more: behind this one.
    pub more_after: Option<EidKey>,
}

impl Machine {
    /// What is wanted, as much of it as fits one page.
    #[must_use]
    pub fn page(&self, now: Instant, wanted: &Wanted) -> Page {
        let mut registered = Vec::new();
        if let (Some(eid), None) = (wanted.prefix, wanted.after) {
            let instance = wanted.instance.unwrap_or_default();
            let around = self.database.lookup(host(EidKey { instance, eid }));
            let around = around.filter(|entry| entry.key.eid.prefix_len() < eid.prefix_len());
            registered.extend(
                around
                    .into_iter()
                    .flat_map(|entry| self.of_site(now, entry, wanted)),
            );
        }
        let mut steps = 0;
        for (key, entry) in self
            .database
            .ordered(wanted.instance, wanted.prefix, wanted.after)
        {
            registered.extend(
                entry
                    .into_iter()
                    .flat_map(|entry| self.of_site(now, entry, wanted)),
            );
            steps += 1;
            if registered.len() >= PAGE_MAX || steps >= STEPS_MAX {
                let more_after = Some(key);
                return Page {
                    registered,
                    more_after,
                };
            }
        }
        let more_after = None;
        Page {
            registered,
            more_after,
        }
    }

    fn of_site(&self, now: Instant, entry: &Entry, wanted: &Wanted) -> Vec<Registered> {
        let is_wanted =
            |one: &Registered| wanted.site.as_ref().is_none_or(|site| *site == one.site);
        self.shown(now, entry).filter(is_wanted).collect()
    }
}

/// Behind all prefixes of a family, in the order of pages.
pub(super) fn last_of(instance: InstanceId, is_v4: bool) -> EidKey {
    let last: IpAddr = match is_v4 {
        true => IpAddr::V4(u32::MAX.into()),
        false => IpAddr::V6(u128::MAX.into()),
    };
    EidKey {
        instance,
        eid: last.into(),
    }
}
