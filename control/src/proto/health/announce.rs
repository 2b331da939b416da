//! Which services are to be announced (RFC 4786 4.4.1: only while the service answers; 4.4.4: not back and forth).
//!
//! ```text
//!            served                 not served
//!  Pending ----------> Announced ----------------> Withdrawn
//!     |                    ^                           | ^
//!     | not served         '--- served for a delay ----' | at the end
//!     '--------------------------------------------------'
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Whether a service is to be announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Announcement {
    /// Its servers were not checked yet.
    Pending,
    /// It is to be announced.
    Announced,
    /// It is not to be announced any more.
    Withdrawn,
}

impl Announcement {
    /// The word for people, JSON and the command that is run.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Announced => "announced",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What is known of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Served {
    /// A server takes its flows.
    Yes,
    /// None does.
    No,
    /// One does that was not checked yet.
    Unknown,
}

/// One service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub state: Announcement,
    /// Since when.
    pub since: Instant,
    /// How often it was announced or withdrawn.
    pub changes: u64,
    /// Withdrawn, but served: since when.
    served_since: Option<Instant>,
}

/// All services, by name.
#[derive(Debug, Default)]
pub struct Announcer {
    services: BTreeMap<String, Status>,
    delay: Duration,
}

impl Announcer {
    /// A service that was withdrawn is served this long before it is announced again.
    pub fn set_delay(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Only these services from now on; which ones are gone that were announced.
    pub fn retain(&mut self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        let mut gone = Vec::new();
        self.services.retain(|name, status| {
            let stays = is_there(name);
            if !stays && status.state == Announcement::Announced {
                gone.push(name.clone());
            }
            stays
        });
        gone
    }

    /// How a service is doing now; what it is from now on, if that is another thing than before.
    pub fn update(&mut self, now: Instant, name: &str, served: Served) -> Option<Announcement> {
        if !self.services.contains_key(name) {
            let status = Status {
                state: Announcement::Pending,
                since: now,
                changes: 0,
                served_since: None,
            };
            self.services.insert(name.to_owned(), status);
        }
        let status = self.services.get_mut(name)?;
        let next = match (status.state, served) {
            (Announcement::Pending, Served::Yes) => Announcement::Announced,
            (Announcement::Pending | Announcement::Announced, Served::No) => {
                Announcement::Withdrawn
            }
            (Announcement::Withdrawn, Served::Yes) => {
                let since = *status.served_since.get_or_insert(now);
                if now < since + self.delay {
                    return None;
                }
                Announcement::Announced
            }
            (Announcement::Withdrawn, Served::No | Served::Unknown) => {
                status.served_since = None;
                return None;
            }
            (Announcement::Pending, Served::Unknown)
            | (Announcement::Announced, Served::Yes | Served::Unknown) => return None,
        };
        *status = Status {
            state: next,
            since: now,
            changes: status.changes + 1,
            served_since: None,
        };
        Some(next)
    }

    /// A service's status.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<Status> {
        self.services.get(name).copied()
    }

    /// When an update is due though nothing happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let served = self.services.values();
        served
            .filter_map(|status| Some(status.served_since? + self.delay))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_state_and_news_has_its_step() {
        use Announcement::{Announced, Pending, Withdrawn};
        let start = Instant::now();
        let delay = Duration::from_secs(10);
        for (state, served_s, served, expected) in [
            (Pending, None, Served::Unknown, None),
            (Pending, None, Served::Yes, Some(Announced)),
            (Pending, None, Served::No, Some(Withdrawn)),
            (Announced, None, Served::Yes, None),
            (Announced, None, Served::Unknown, None),
            (Announced, None, Served::No, Some(Withdrawn)),
            (Withdrawn, None, Served::No, None),
            (Withdrawn, None, Served::Yes, None),
            (Withdrawn, Some(9), Served::Yes, None),
            (Withdrawn, Some(10), Served::Yes, Some(Announced)),
            (Withdrawn, Some(10), Served::Unknown, None),
            (Withdrawn, Some(10), Served::No, None),
        ] {
            let mut announcer = Announcer::default();
            announcer.set_delay(delay);
            let now = start + delay;
            let status = Status {
                state,
                since: start,
                changes: 4,
                served_since: served_s.map(|ago| now - Duration::from_secs(ago)),
            };
            announcer.services.insert("web".to_owned(), status);
            let case = (state, served_s, served);
            assert_eq!(announcer.update(now, "web", served), expected, "{case:?}");
            let status = announcer.status("web").unwrap();
            assert_eq!(status.state, expected.unwrap_or(state), "{case:?}");
            let changed = expected.is_some();
            assert_eq!(status.changes, 4 + u64::from(changed), "{case:?}");
            let waits = status.served_since.is_some();
            assert_eq!(
                waits,
                state == Withdrawn && served == Served::Yes && !changed
            );
        }
    }

    #[test]
    fn a_service_that_is_gone_is_told_if_it_was_announced() {
        let now = Instant::now();
        let mut announcer = Announcer::default();
        announcer.update(now, "a", Served::Yes);
        announcer.update(now, "b", Served::No);
        announcer.update(now, "c", Served::Yes);
        assert_eq!(announcer.retain(|name| name == "c"), ["a"]);
        assert_eq!(announcer.status("a"), None);
    }

    proptest! {
        /// However it flaps, twice announced is `delay` apart, and it is never announced while nothing serves it.
        #[test]
        fn announcements_are_damped(news in prop::collection::vec((0..3_u8, 0..8_u64), 1..200)) {
            let mut now = Instant::now();
            let mut announcer = Announcer::default();
            announcer.set_delay(Duration::from_secs(10));
            let mut withdrawn: Option<Instant> = None;
            for (served, seconds) in news {
                now += Duration::from_secs(seconds);
                let served = [Served::Yes, Served::No, Served::Unknown][usize::from(served)];
                match announcer.update(now, "web", served) {
                    Some(Announcement::Announced) => {
                        prop_assert_eq!(served, Served::Yes);
                        prop_assert!(withdrawn.is_none_or(|since| now - since >= Duration::from_secs(10)));
                    }
                    Some(Announcement::Withdrawn) => withdrawn = Some(now),
                    Some(Announcement::Pending) => prop_assert!(false),
                    None => {}
                }
                let state = announcer.status("web").unwrap().state;
                prop_assert!(served != Served::No || state == Announcement::Withdrawn);
            }
        }
    }
}
