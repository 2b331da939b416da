//! What a host that comes or goes means for all parts: whom it is registered with, who is told, what is learned of it.

use std::collections::BTreeSet;
use std::time::Instant;

use super::hosts::{Change, Occurrence};
use super::settings::is_within;
use super::{Event, Output, Place, Xtr};
use crate::proto::lisp::EidKey;
use crate::proto::lisp::wire::{EidAddress, Record};
use crate::proto::ndp::InterfaceIndex;

impl Xtr {
    /// A host spoke on an interface, or was proven to be there.
    pub fn host_heard(&mut self, now: Instant, eid: EidAddress, at: InterfaceIndex) {
        let key = eid.host();
        if self.settings.is_etr && self.settings.is_dynamic(key) {
            self.note_host(now, key, Occurrence::Heard(at));
        }
    }

    /// A host does not answer on an interface. One that was not known to be there may be elsewhere.
    pub fn host_silent(&mut self, now: Instant, eid: EidAddress, at: InterfaceIndex) {
        let key = eid.host();
        if !self.settings.is_dynamic(key) {
            return;
        }
        let was_known = self.hosts.place(key).is_some();
        self.note_host(now, key, Occurrence::Silent(at));
        if !was_known && self.hosts.may_ask(now) {
            self.miss(now, eid, None);
        }
    }

    /// EID hosts: where they are, and since when.
    pub fn hosts(&self) -> impl Iterator<Item = (EidKey, Place, Instant)> + '_ {
        self.hosts.iter()
    }

    /// EID hosts of own prefixes that are at other sites.
    #[must_use]
    pub fn away(&self) -> &BTreeSet<EidKey> {
        self.hosts.away()
    }

    /// Something became known of a host; what follows from it.
    pub(super) fn note_host(&mut self, now: Instant, key: EidKey, occurrence: Occurrence) {
        let Self {
            settings,
            hosts,
            itr,
            registrar,
            soliciting,
            context,
            ..
        } = self;
        let before = hosts.place(key);
        let change = match hosts.handle(now, key, occurrence) {
            Ok(change) => change,
            Err(limit) => return context.count(limit),
        };
        if let Some(Place::Here(at)) = hosts.place(key)
            && change != Change::None
        {
            context.outputs.push_back(Output::HostHere { key, at });
        } else if let Some(Place::Here(_)) = before
            && change != Change::None
        {
            context.outputs.push_back(Output::HostGone(key));
        }
        match change {
            Change::None => return,
            Change::Shifted => return context.count("host_shifted"),
            Change::Settled => {
                context.count("host_settled");
                return itr.drop_learned(key, context);
            }
            Change::Came => {
                context.count("host_came");
                context.event(Event::HostCame { key });
                if let Err(position) = settings.eids.binary_search(&key) {
                    settings.eids.insert(position, key);
                }
                itr.drop_learned(key, context);
                registrar.restate(now, key);
            }
            Change::Left => {
                context.count("host_left");
                context.event(Event::HostLeft { key });
                settings.eids.retain(|own| *own != key);
                registrar.restate(now, key);
            }
            Change::Lost => {
                context.count("host_moved");
                context.event(Event::HostMoved { key });
                settings.eids.retain(|own| *own != key);
                registrar.drop_eid(key);
                if let Some(Place::Here(at)) = before {
                    context.outputs.push_back(Output::AskHost { key, at });
                }
            }
        }
        soliciting.changed(now, key, context);
    }

    /// A Map-Server says of its own accord what is registered now (RFC 9301 5.7).
    pub(super) fn note_registered(&mut self, now: Instant, record: &Record) {
        let key = record.key;
        let is_moved = is_host(key)
            && record.ttl_minutes != 0
            && self.settings.is_dynamic(key)
            && self.settings.is_of_others(record);
        if !is_moved {
            return;
        }
        let at_home = self.configured.has_eid(key);
        self.note_host(now, key, Occurrence::Elsewhere { at_home });
        self.hosts.note_mapping(key, record);
        if !matches!(self.hosts.place(key), Some(Place::Here(_))) {
            let Self {
                settings,
                itr,
                context,
                ..
            } = self;
            itr.handle_moved(now, settings, record, context);
        }
    }

    /// What was asked is answered: of a host whose prefix is ours, where it is.
    pub(super) fn note_answered(&mut self, now: Instant, asked: EidKey, records: &[Record]) {
        if !is_host(asked)
            || !self.settings.is_dynamic(asked)
            || matches!(self.hosts.place(asked), Some(Place::Here(_)))
        {
            return;
        }
        let own = self.configured.eids.iter();
        let own = own.filter(|own| is_within(asked, **own));
        let Some(own) = own.max_by_key(|own| own.eid.prefix_len()).copied() else {
            return;
        };
        // A prefix around ours says nothing of our hosts.
        let occurrence = match self.itr.covers_within(asked, own) {
            true => Occurrence::Elsewhere { at_home: true },
            false => Occurrence::Nowhere,
        };
        self.note_host(now, asked, occurrence);
        let around = records.iter().filter(|record| {
            is_within(asked, record.key)
                && is_within(record.key, own)
                && record.ttl_minutes != 0
                && self.settings.is_of_others(record)
        });
        if let Some(record) = around.max_by_key(|record| record.key.eid.prefix_len()) {
            self.hosts.note_mapping(asked, record);
        }
    }
}

/// Whether this is one address.
fn is_host(key: EidKey) -> bool {
    key.eid.prefix_len() == key.eid.max_prefix_len()
}
