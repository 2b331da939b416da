//! LISP as `sextant show lisp PART` sees it: one view for each part. Reading only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::super::Appliance;
use crate::admin::map::MapQuery;
use crate::admin::protocol::{Answer, LispPart, Refusal, SelfAsk};
use crate::admin::view::{
    DatabaseRloc, LispDatabase, LispEvents, LispRegistrations, LispRlocs, LispSelf, LispStatistics,
    OwnEid, SelfEid,
};
use crate::platform::Platform;

/// Locators that are listed one by one, most.
const RLOCS_MAX: usize = 4096;

impl<P: Platform> Appliance<P> {
    pub(in crate::appliance) fn show_lisp_part(&mut self, now: Instant, part: LispPart) -> Answer {
        if self.config.lisp.is_none() {
            return Answer::refused(Refusal::Failed, super::Refused::NotConfigured);
        }
        match part {
            LispPart::MapCache => self.show_mappings(now, &MapQuery::default()),
            LispPart::Database => Answer::done(self.show_database(now)),
            LispPart::Registrations => Answer::done(LispRegistrations {
                monotonic_ns: self.clock(now),
                map_servers: self.map_servers(now),
                eids: self.lisp.xtr.settings().eids.len(),
                registered: None,
            }),
            LispPart::Rlocs => Answer::done(LispRlocs {
                monotonic_ns: self.clock(now),
                rlocs: self.rlocs(now, RLOCS_MAX),
                total: self.lisp.cache.rlocs().count(),
            }),
            LispPart::Statistics => Answer::done(LispStatistics {
                monotonic_ns: self.clock(now),
                counters: BTreeMap::from([
                    ("control".to_owned(), self.control_counters()),
                    ("misses".to_owned(), self.miss_counters()),
                ]),
            }),
            LispPart::Events => Answer::done(LispEvents {
                monotonic_ns: self.clock(now),
                events: self.lisp.events.show(now),
                forgotten: self.lisp.events.forgotten(),
            }),
        }
    }

    /// Own EIDs as the mapping system knows them.
    pub(in crate::appliance) fn ask_for_own_eids(
        &mut self,
        now: Instant,
        to: Option<IpAddr>,
        ask: SelfAsk,
    ) -> Answer {
        let Some(lisp) = &self.config.lisp else {
            return Answer::refused(Refusal::Failed, super::Refused::NotConfigured);
        };
        if to.is_none() && lisp.map_resolvers.is_empty() {
            return Answer::refused(Refusal::Failed, super::Refused::NobodyToAsk);
        }
        let unasked = match ask {
            SelfAsk::Anew => self.lisp.xtr.ask_for_own(now, to, true),
            SelfAsk::Again => self.lisp.xtr.ask_for_own(now, to, false),
            SelfAsk::No => 0,
        };
        self.do_lisp_outputs(now);
        let eids = self.lisp.xtr.own_eids();
        Answer::done(LispSelf {
            eids: eids
                .map(|checked| SelfEid::new(checked.key, checked.said))
                .collect(),
            unasked,
        })
    }

    fn show_database(&self, now: Instant) -> LispDatabase {
        let settings = self.lisp.xtr.settings();
        let mut eids = settings.eids.clone();
        eids.sort_unstable();
        let eids = eids.iter().map(|own| OwnEid {
            instance: own.instance.get(),
            eid: own.eid.to_string(),
        });
        let rlocs = settings.rlocs.iter().map(|own| DatabaseRloc {
            rloc: own.rloc.to_string(),
            priority: own.priority,
            weight: own.weight,
            reachable: own.up,
        });
        LispDatabase {
            monotonic_ns: self.clock(now),
            eids: eids.collect(),
            rlocs: rlocs.collect(),
            map_version: settings.map_version,
        }
    }
}
