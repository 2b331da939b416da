//! Changes of the map-cache over the admin socket, and how it is read.
//!
//! ```text
//! {"version":1,"command":"map_change","changes":[
//!   {"add":{"instance":7,"eid":"2001:db8:b::/48","locators":[{"rloc":"2001:db8:ffff::3","priority":1,"weight":70}]}},
//!   {"add":{"instance":7,"eid":"2001:db8:c::/48","action":"drop"}},
//!   {"delete":{"instance":7,"eid":"2001:db8:d::/48"}},
//!   {"rloc":{"address":"192.0.2.3","state":"down"}}]}
//! ```
//!
//! (one line on the wire). The changes of one question are made all or none, and in their order. `sextant map load` reads
//! one change a line, `sextant map dump` writes them so.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::proto::lisp::{Action, EidKey, InstanceId, Locator, Mapping};

/// Changes in one question, most: what the control thread makes without keeping others waiting.
pub const CHANGES_MAX: usize = 4096;

/// Mappings in one answer, most.
pub const PAGE_MAX: usize = 1024;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapChange {
    /// Add a mapping, in front of the one of the configuration, instead of the one that was added before.
    Add(NewMapping),
    /// Delete a mapping that was added.
    Delete(EidKey),
    /// Take a locator out of use in all mappings, or back.
    Rloc(RlocChange),
}

/// A mapping as it is written: locators or an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMapping {
    /// The instance; 0 where it is left out.
    #[serde(default)]
    pub instance: InstanceId,
    /// The EID prefix.
    pub eid: ipnet::IpNet,
    /// Where its packets go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locators: Vec<Locator>,
    /// Its map-version; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub map_version: u16,
    /// Or what becomes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// A locator's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlocChange {
    /// The locator.
    pub address: IpAddr,
    /// What it shall be.
    pub state: RlocState,
}

/// Whether a locator may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RlocState {
    /// It may.
    Up,
    /// It may not.
    Down,
}

/// Neither locators nor an action, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}, expected exactly one of locators and action")]
pub struct Ambiguous(&'static str);

impl NewMapping {
    /// The mapping of this key.
    #[must_use]
    pub fn new(key: EidKey, mapping: &Mapping) -> Self {
        let EidKey { instance, eid } = key;
        let (locators, map_version, action) = match mapping {
            Mapping::Locators { locators, version } => (locators.clone(), *version, None),
            Mapping::Negative(action) => (Vec::new(), 0, Some(*action)),
        };
        Self {
            instance,
            eid,
            locators,
            map_version,
            action,
        }
    }

    /// What it is for.
    #[must_use]
    pub fn key(&self) -> EidKey {
        EidKey {
            instance: self.instance,
            eid: self.eid,
        }
    }

    /// What it says.
    ///
    /// # Errors
    /// When it says two things, or nothing.
    pub fn into_mapping(self) -> Result<Mapping, Ambiguous> {
        match (self.locators, self.action) {
            (locators, None) if !locators.is_empty() => Ok(Mapping::Locators {
                locators,
                version: self.map_version,
            }),
            (locators, Some(action)) if locators.is_empty() => Ok(Mapping::Negative(action)),
            (_, None) => Err(Ambiguous("it leads nowhere")),
            (_, Some(_)) => Err(Ambiguous("locators and action stand together")),
        }
    }
}

/// Which mappings are asked for: those of an instance, or all; a prefix and what is under it, or all. An answer has at
/// most [`PAGE_MAX`]; the next question then names the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapQuery {
    /// Only of this instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Only this prefix and those under it, and the one that a packet to its first address would use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<ipnet::IpNet>,
    /// Only those added at run time.
    #[serde(default)]
    pub added: bool,
    /// Only those behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EidKey>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_the_documented_form() {
        for line in [
            r#"{"add":{"instance":7,"eid":"2001:db8:b::/48","locators":[{"rloc":"2001:db8:ffff::3","priority":1,"weight":70,"up":true}]}}"#,
            r#"{"add":{"instance":7,"eid":"2001:db8:c::/48","action":"drop"}}"#,
            r#"{"delete":{"instance":7,"eid":"2001:db8:d::/48"}}"#,
            r#"{"rloc":{"address":"192.0.2.3","state":"down"}}"#,
        ] {
            let change: MapChange = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&change).unwrap(), line);
        }
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let line = r#"{"add":{"eid":"10.0.0.0/8","locators":[{"rloc":"192.0.2.3"}]}}"#;
        let MapChange::Add(new) = serde_json::from_str(line).unwrap() else {
            panic!("it adds")
        };
        assert_eq!(new.instance.get(), 0);
        let locators = vec![Locator::new("192.0.2.3".parse().unwrap())];
        let version = 0;
        assert_eq!(
            new.into_mapping(),
            Ok(Mapping::Locators { locators, version })
        );
    }

    #[test]
    fn misspelt_and_ambiguous_mappings_are_refused() {
        let misspelt = r#"{"add":{"eid":"10.0.0.0/8","locator":[]}}"#;
        let error = serde_json::from_str::<MapChange>(misspelt).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `locator`"),
            "{error}"
        );
        for (line, expected) in [
            (r#"{"eid":"10.0.0.0/8"}"#, "it leads nowhere"),
            (
                r#"{"eid":"10.0.0.0/8","action":"drop","locators":[{"rloc":"192.0.2.3"}]}"#,
                "stand together",
            ),
        ] {
            let new: NewMapping = serde_json::from_str(line).unwrap();
            let error = new.into_mapping().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn written_mappings_are_read_back() {
        let mapping = Mapping::Negative(Action::PolicyDenied);
        let key = EidKey {
            instance: InstanceId::new(3).unwrap(),
            eid: "::/0".parse().unwrap(),
        };
        let written = serde_json::to_string(&NewMapping::new(key, &mapping)).unwrap();
        let read: NewMapping = serde_json::from_str(&written).unwrap();
        assert_eq!((read.key(), read.into_mapping()), (key, Ok(mapping)));
    }
}
