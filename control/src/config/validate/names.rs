//! Names that must be unique, and references to them.

use std::collections::HashMap;
use std::hash::Hash;

use crate::config::error::{Place, Sink};
use crate::config::problem::Problem;
use crate::config::reader::Field;

/// What has been seen, and where first.
pub(super) struct Seen<K> {
    places: HashMap<K, Place>,
}

impl<K> Default for Seen<K> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq> Seen<K> {
    /// Note a value; if it was there before, where.
    pub(super) fn insert(&mut self, key: K, place: &Place) -> Option<&Place> {
        match self.places.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Some(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(place.clone());
                None
            }
        }
    }

    pub(super) fn first(&self, key: &K) -> Option<&Place> {
        self.places.get(key)
    }
}

/// Named things of one kind, by the position in their list.
pub(super) struct Names {
    what: &'static str,
    order: Vec<String>,
    by_name: HashMap<String, usize>,
    places: Seen<String>,
    /// Whether every thing has a right name; otherwise an unknown reference may be to one of the others.
    is_complete: bool,
}

impl Names {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            order: Vec::new(),
            by_name: HashMap::new(),
            places: Seen::default(),
            is_complete: true,
        }
    }

    /// The thing at `index` has this name, or one that is wrong. A name given twice is reported.
    pub(super) fn add(&mut self, index: usize, name: Option<(&str, &Place)>, sink: &mut Sink<'_>) {
        let Some((name, place)) = name else {
            self.is_complete = false;
            return;
        };
        if let Some(first) = self.places.insert(name.to_owned(), place) {
            let problem = Problem::Duplicate {
                what: self.what,
                found: format!("{name:?}"),
                scope: "name once",
            };
            sink.push_related(place, problem, first, "first here");
            return;
        }
        self.by_name.insert(name.to_owned(), index);
        self.order.push(name.to_owned());
    }

    /// Add a name unless it is there; its position.
    pub(super) fn declare(&mut self, name: &str) -> usize {
        if let Some(index) = self.position(name) {
            return index;
        }
        let index = self.order.len();
        self.by_name.insert(name.to_owned(), index);
        self.order.push(name.to_owned());
        index
    }

    /// Unknown names may be names of things that are wrong.
    pub(super) fn note_incomplete(&mut self) {
        self.is_complete = false;
    }

    /// Names in their order.
    pub(super) fn order(&self) -> &[String] {
        &self.order
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// What a reference names; an unknown name is reported.
    pub(super) fn resolve(&self, reference: &Field<String>, sink: &mut Sink<'_>) -> Option<usize> {
        let (name, place) = reference.given()?;
        let index = self.position(name);
        if index.is_none() && self.is_complete {
            let (found, expected) = (name.clone(), self.order.clone());
            sink.push(
                place,
                Problem::UnknownReference {
                    what: self.what,
                    found,
                    expected,
                },
            );
        }
        index
    }
}
