//! Who may register what, and the nonces that make sure of it (RFC 9301 5.6, 8.2).
//!
//! A nonce is kept for each xTR-ID and key of a site: registers of routers that say no xTR-ID share one, which must
//! rise over all of them. Sites keep their number over changes of the settings, by their name.

use std::collections::BTreeMap;

use super::database::{Seconds, bits};
use super::trie::{Bits, Trie};
use super::{Settings, Site};
use crate::proto::lisp::wire::auth::Secret;
use crate::proto::lisp::{Action, EidKey, InstanceId};

/// Nonces kept for one site: beyond, unknown xTR-IDs are refused.
const NONCES_MAX: usize = 1 << 16;

/// A nonce as it is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedNonce {
    /// Name of the site.
    pub site: String,
    /// The router, if it says who it is.
    pub xtr_id: Option<u128>,
    /// The key.
    pub key_id: u8,
    /// The last nonce.
    pub nonce: u64,
}

/// Whose nonce.
pub(super) type NonceKey = (u32, Option<u128>, u8);

#[derive(Debug, Clone, Copy)]
struct Last {
    nonce: u64,
    /// Start of the authentication data of that message, to know it when it is sent again.
    mac: u64,
}

/// What a nonce says of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// Greater than any before.
    Fresh,
    /// The very message that was the last.
    Repeated,
    /// Not greater than this.
    Stale(u64),
    /// Too many routers.
    NoRoom,
}

/// Sites that may register a prefix, and what is answered for it.
#[derive(Debug, Clone)]
struct Allowance {
    key: EidKey,
    /// Site, whether more-specifics are allowed.
    sites: Vec<(u32, bool)>,
    /// What is answered whatever is registered.
    action: Option<Action>,
    /// When somebody who is not authentic wanted to register something of it, if that matters.
    failed: Option<Seconds>,
}

/// What is answered for an EID whatever is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) key: EidKey,
    pub(super) action: Action,
}

/// The sites.
#[derive(Debug)]
pub(super) struct Sites {
    /// By number; `None`: no longer configured.
    sites: Vec<Option<Site>>,
    numbers: BTreeMap<String, u32>,
    tries: BTreeMap<(InstanceId, bool), Trie>,
    /// Of them, those that are denied.
    denied: BTreeMap<(InstanceId, bool), Trie>,
    allowances: Vec<Allowance>,
    nonces: BTreeMap<NonceKey, Last>,
    /// Rises whenever a nonce does.
    pub(super) revision: u64,
}

impl Sites {
    pub(super) const fn new() -> Self {
        Self {
            sites: Vec::new(),
            numbers: BTreeMap::new(),
            tries: BTreeMap::new(),
            denied: BTreeMap::new(),
            allowances: Vec::new(),
            nonces: BTreeMap::new(),
            revision: 0,
        }
    }

    /// These sites and no others.
    pub(super) fn configure(&mut self, settings: &Settings) {
        self.sites.iter_mut().for_each(|site| *site = None);
        self.tries.clear();
        self.denied.clear();
        self.allowances.clear();
        for site in &settings.sites {
            let number = self.number(&site.name);
            for allowed in &site.prefixes {
                let (family, prefix) = bits(allowed.key);
                let trie = self.tries.entry(family).or_insert_with(Trie::new);
                let at = trie.value(prefix).unwrap_or_else(|| {
                    self.allowances.push(Allowance {
                        key: allowed.key,
                        sites: Vec::new(),
                        action: None,
                        failed: None,
                    });
                    let at = u32::try_from(self.allowances.len() - 1);
                    let at = at.expect("a configuration has fewer than 2^32 prefixes");
                    trie.insert(prefix, at);
                    at
                });
                if let Some(allowance) = self.allowances.get_mut(at as usize) {
                    // `as`: widening
                    allowance.sites.push((number, allowed.more_specifics));
                    allowance.action = allowance.action.or(allowed.action);
                }
                if allowed.action.is_some() {
                    let denied = self.denied.entry(family).or_insert_with(Trie::new);
                    denied.insert(prefix, at);
                }
            }
            if let Some(slot) = self.sites.get_mut(number as usize) {
                // `as`: widening
                *slot = Some(site.clone());
            }
        }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.sites.len()).expect("fewer than 2^32 sites");
        self.sites.push(None);
        self.numbers.insert(name.to_owned(), number);
        number
    }

    pub(super) fn site(&self, number: u32) -> Option<&Site> {
        self.sites.get(number as usize)?.as_ref() // `as`: widening
    }

    /// Name of a site that is configured.
    pub(super) fn name(&self, number: u32) -> Option<&str> {
        self.site(number).map(|site| site.name.as_str())
    }

    /// Number of a site that is configured.
    pub(super) fn known(&self, name: &str) -> Option<u32> {
        let number = *self.numbers.get(name)?;
        self.site(number).map(|_| number)
    }

    pub(super) fn secret(&self, number: u32, key_id: u8) -> Option<&Secret> {
        let keys = &self.site(number)?.keys;
        keys.iter()
            .find(|(id, _)| *id == key_id)
            .map(|(_, secret)| secret)
    }

    /// Sites that may register this prefix, exactly or as part of what is theirs.
    pub(super) fn allowed(&self, key: EidKey) -> impl Iterator<Item = u32> + '_ {
        let allowance = self.around(key);
        let sites = allowance.map(|allowance| (allowance.key == key, &allowance.sites));
        sites.into_iter().flat_map(|(is_exact, sites)| {
            let allowed = sites.iter().filter(move |(_, more)| is_exact || *more);
            allowed.map(|(site, _)| *site)
        })
    }

    /// Whether a prefix lies in what some site may register.
    pub(super) fn is_known(&self, key: EidKey) -> bool {
        self.around(key).is_some()
    }

    /// Of the longest prefix around this one, or itself.
    fn around(&self, key: EidKey) -> Option<&Allowance> {
        let (family, prefix) = bits(key);
        let (_, at) = self.tries.get(&family)?.longest(prefix)?;
        self.allowances.get(at as usize) // `as`: widening
    }

    /// What is answered for this prefix whatever is registered.
    pub(super) fn denial(&self, key: EidKey) -> Option<Denial> {
        if self.denied.is_empty() {
            return None;
        }
        let Allowance { key, action, .. } = *self.around(key)?;
        Some(Denial {
            key,
            action: action?,
        })
    }

    /// All that is denied within a prefix.
    pub(super) fn denials(&self, key: EidKey) -> impl Iterator<Item = Denial> + '_ {
        let (family, prefix) = bits(key);
        let denied = self.denied.get(&family).into_iter();
        let denied = denied.flat_map(move |trie| trie.within(prefix));
        denied.filter_map(|(_, at)| {
            // `as`: widening
            let Allowance { key, action, .. } = *self.allowances.get(at as usize)?;
            let action = action?;
            Some(Denial { key, action })
        })
    }

    /// Length of the least specific prefix around an address without a denied one inside but those around it.
    pub(super) fn denied_hole(&self, key: EidKey) -> u8 {
        let (family, prefix): (_, Bits) = bits(key);
        self.denied.get(&family).map_or(0, |trie| trie.hole(prefix))
    }

    /// Somebody wanted to register this, and was authentic or not.
    pub(super) fn note_tried(&mut self, now: Seconds, key: EidKey, is_authentic: bool) {
        let Some(allowance) = self.around(key) else {
            return;
        };
        let sites = allowance.sites.iter();
        let mut sites = sites.filter_map(|(number, _)| self.site(*number));
        let failed = (!is_authentic).then_some(now);
        if allowance.failed == failed || !sites.any(|site| site.auth_failure) {
            return;
        }
        let (family, prefix) = bits(key);
        let trie = self.tries.get(&family);
        let at = trie.and_then(|trie| trie.longest(prefix));
        if let Some((_, at)) = at
            && let Some(allowance) = self.allowances.get_mut(at as usize)
        {
            // `as`: widening
            allowance.failed = failed;
        }
    }

    /// When somebody last wanted to register something of what is around this, and was not authentic; none: whoever did
    /// last was, or it does not matter.
    pub(super) fn failed(&self, key: EidKey) -> Option<Seconds> {
        self.around(key)?.failed
    }

    /// Length of the least specific prefix around an address without a site's inside but those around it.
    pub(super) fn hole(&self, key: EidKey) -> u8 {
        let (family, prefix): (_, Bits) = bits(key);
        self.tries.get(&family).map_or(0, |trie| trie.hole(prefix))
    }

    /// Judge the nonce of an authentic message, and keep it if it is fresh.
    pub(super) fn judge(&mut self, key: NonceKey, nonce: u64, mac: &[u8]) -> Freshness {
        let mac = mac
            .first_chunk()
            .map_or(0, |start| u64::from_be_bytes(*start));
        if let Some(last) = self.nonces.get_mut(&key) {
            if nonce > last.nonce {
                *last = Last { nonce, mac };
                self.revision += 1;
                return Freshness::Fresh;
            }
            if nonce == last.nonce && mac == last.mac {
                return Freshness::Repeated;
            }
            return Freshness::Stale(last.nonce);
        }
        let (site, ..) = key;
        let of_site = (site, None, 0)..=(site, Some(u128::MAX), u8::MAX);
        if self.nonces.len() >= NONCES_MAX && self.nonces.range(of_site).count() >= NONCES_MAX {
            return Freshness::NoRoom;
        }
        self.nonces.insert(key, Last { nonce, mac });
        self.revision += 1;
        Freshness::Fresh
    }

    pub(super) fn nonces(&self) -> impl Iterator<Item = SavedNonce> + '_ {
        let names: BTreeMap<u32, &String> = self
            .numbers
            .iter()
            .map(|(name, number)| (*number, name))
            .collect();
        let nonces = self.nonces.iter();
        nonces.filter_map(move |(&(site, xtr_id, key_id), last)| {
            Some(SavedNonce {
                site: (*names.get(&site)?).clone(),
                xtr_id,
                key_id,
                nonce: last.nonce,
            })
        })
    }

    /// A nonce that was saved; a greater one stays.
    pub(super) fn restore(&mut self, saved: &SavedNonce) {
        let site = self.number(&saved.site);
        let last = self.nonces.entry((site, saved.xtr_id, saved.key_id));
        let last = last.or_insert(Last { nonce: 0, mac: 0 });
        last.nonce = last.nonce.max(saved.nonce);
    }
}
