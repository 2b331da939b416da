//! What happened to LISP lately, for the log and for `sextant show lisp events`: the last [`EVENTS_MAX`].

use std::collections::VecDeque;
use std::time::Instant;

use super::show::milliseconds;
use crate::admin::view::LispEvent;
use crate::proto::lisp::xtr::Event;

/// Most that are remembered.
const EVENTS_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Events {
    last: VecDeque<(Instant, String)>,
    forgotten: u64,
}

impl Events {
    /// Tell the log, and remember.
    pub(super) fn note(&mut self, now: Instant, event: Event) {
        let text = in_words(event);
        match event {
            Event::RegistrationLost { .. } => tracing::error!("lisp: {text}"),
            Event::Unanswered { .. }
            | Event::HostCame { .. }
            | Event::HostLeft { .. }
            | Event::HostMoved { .. } => tracing::debug!("lisp: {text}"),
            Event::Registered { .. } | Event::NotifiedUnasked { .. } => {
                tracing::info!("lisp: {text}");
            }
        }
        self.remember(now, text);
    }

    /// The same of something in words; `is_good`: nobody has to look.
    pub(super) fn note_text(&mut self, now: Instant, is_good: bool, text: String) {
        if is_good {
            tracing::info!("lisp: {text}");
        } else {
            tracing::warn!("lisp: {text}");
        }
        self.remember(now, text);
    }

    fn remember(&mut self, now: Instant, text: String) {
        if self.last.len() >= EVENTS_MAX {
            self.last.pop_front();
            self.forgotten += 1;
        }
        self.last.push_back((now, text));
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The latest last.
    pub(super) fn show(&self, now: Instant) -> Vec<LispEvent> {
        let events = self.last.iter().map(|(then, text)| LispEvent {
            age_ms: milliseconds(now, *then),
            text: text.clone(),
        });
        events.collect()
    }
}

fn in_words(event: Event) -> String {
    match event {
        Event::Registered { server } => format!("Map-Server {server} has our registration"),
        Event::RegistrationLost { server } => {
            format!("Map-Server {server} does not confirm our registration any more")
        }
        Event::NotifiedUnasked { server } => {
            format!("Map-Server {server} says that a registration changed")
        }
        Event::Unanswered { key } => format!("nobody says where {key} is"),
        Event::HostCame { key } => format!("host {key} is here"),
        Event::HostLeft { key } => format!("host {key} does not answer any more"),
        Event::HostMoved { key } => format!("host {key} is at another site now"),
    }
}
