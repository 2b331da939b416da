//! The multicast groups of a link and what is still to be reported of them (RFC 3810, listener part).
//!
//! Switches that snoop MLD deliver a group only where somebody reported it, and solicitations for our addresses go to
//! solicited-node groups: unreported, nobody behind such a switch would ever find us. Reports are sent when groups
//! change and when the link comes up, twice (robustness variable), and in answer to queries. A report sent before the
//! link-local address is valid has an unspecified source, which switches take and routers do not (RFC 3810 5.2.13); it
//! is repeated with the address once that is valid.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use super::wire::RecordType;

/// How often a change is reported (RFC 3810 9.1).
const ROBUSTNESS: u8 = 2;
/// A repetition comes after a random time up to this (RFC 3810 9.11).
pub(super) const UNSOLICITED_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Groups joined, and changes to report.
#[derive(Debug, Default)]
pub(super) struct Membership {
    groups: BTreeSet<Ipv6Addr>,
    pending: BTreeMap<Ipv6Addr, (RecordType, u8)>,
}

impl Membership {
    /// Join and leave groups until exactly these are joined. Says whether that changed anything.
    pub(super) fn set(&mut self, wanted: BTreeSet<Ipv6Addr>) -> bool {
        let joined = wanted.difference(&self.groups);
        let joined = joined.map(|group| (*group, (RecordType::Joined, ROBUSTNESS)));
        let left = self.groups.difference(&wanted);
        let left = left.map(|group| (*group, (RecordType::Left, ROBUSTNESS)));
        let changes: Vec<_> = joined.chain(left).collect();
        let changed = !changes.is_empty();
        self.pending.extend(changes);
        self.groups = wanted;
        changed
    }

    /// Report every group anew.
    pub(super) fn report_all(&mut self) {
        let joined = self.groups.iter();
        self.pending
            .extend(joined.map(|group| (*group, (RecordType::Joined, ROBUSTNESS))));
    }

    /// The records of the next report of changes; each comes as often as the robustness variable says.
    pub(super) fn take_changes(&mut self) -> Vec<(RecordType, Ipv6Addr)> {
        let pending = self.pending.iter();
        let records = pending.map(|(group, (kind, _))| (*kind, *group)).collect();
        self.pending.retain(|_, (_, left)| {
            *left -= 1;
            *left > 0
        });
        records
    }

    /// Whether there is a change to report.
    pub(super) fn has_changes(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether this group is joined; the unspecified address stands for "any" (a general query).
    pub(super) fn concerns(&self, group: Ipv6Addr) -> bool {
        if group.is_unspecified() {
            return !self.groups.is_empty();
        }
        self.groups.contains(&group)
    }

    /// The records that answer a query.
    pub(super) fn current(&self) -> Vec<(RecordType, Ipv6Addr)> {
        let groups = self.groups.iter();
        groups
            .map(|group| (RecordType::Listening, *group))
            .collect()
    }
}
