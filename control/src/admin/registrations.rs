//! What is registered with a Map-Server, as it is asked for over the admin socket.
//!
//! ```text
//! {"version":1,"command":"registrations_show","instance":7,"prefix":"2001:db8:b::/48","site":"berlin"}
//! ```
//!
//! An answer is a page ([`super::view::LispRegistrations`]), whose `more_after` the next question names as `after`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::proto::lisp::{EidKey, InstanceId};

/// Which registrations are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationsQuery {
    /// Only of this instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Only this prefix and those under it, and the one that is in force for its first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<IpNet>,
    /// Only of the site with this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Only those behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EidKey>,
}
