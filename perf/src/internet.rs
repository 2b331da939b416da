//! Forwarding over a full Internet table: the real IPv6 routes by way of sixteen routers, and packets to random addresses
//! of random prefixes, so that every packet asks another corner of the table.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use dataplane::wire::ethernet::Mac;
use ipnet::Ipv6Net;
use pipelines::tables::{Builder, Hop, InterfaceId, Route, VrfId};

use crate::cases::Point;
use crate::lpm::feed::{Feed, Profile};
use crate::lpm::prefix::{Address as _, Prefix};
use crate::lpm::{FEED6, prefix};
use crate::traffic;

/// Routers on the outside link; routes of one origin AS go by the same.
const ROUTERS: u32 = 16;

/// The table.
#[derive(Debug, Clone)]
pub struct Internet {
    routes: Vec<prefix::Route<u128>>,
}

impl Internet {
    /// The real table in the folder `data`; loudly nothing when it is not there.
    pub fn open(data: &Path, say: &dyn Fn(&str)) -> Option<Self> {
        match Feed::<u128>::read(&data.join(FEED6)) {
            Ok(feed) => {
                say(&format!("full table: {feed}"));
                let routes = feed.routes(Profile::As);
                Some(Self { routes })
            }
            Err(error) => {
                say(&format!(
                    "SKIPPED forwarding over a full table, and its goals: {error:#} (--data FOLDER says where it is)"
                ));
                None
            }
        }
    }

    /// Frames of `point`, from inside to random addresses of random prefixes.
    #[must_use]
    pub fn frames(&self, point: Point) -> Vec<Vec<u8>> {
        traffic::frames_to(point, |random| {
            let Prefix { address, length } = self.routes[random.usize(..self.routes.len())].prefix;
            Ipv6Addr::from(address.with_random_host(length, random))
        })
    }

    /// The routes, and their routers on the interface `outside`.
    ///
    /// # Errors
    /// When the table holds what is no prefix.
    pub fn add_to(&self, builder: &mut Builder, outside: InterfaceId) -> Result<()> {
        for number in 0..ROUTERS {
            let (address, mac) = router(number);
            builder.neighbor(outside, address.into(), mac);
        }
        for route in &self.routes {
            let (address, _) = router(route.leaf % ROUTERS);
            let hop = Hop {
                interface: outside,
                via: Some(address.into()),
                weight: 1,
            };
            let prefix = Ipv6Net::new(Ipv6Addr::from(route.prefix.address), route.prefix.length)
                .context("a prefix of the table")?;
            builder.route(VrfId(0), prefix, Route::Hops(vec![hop]));
        }
        Ok(())
    }

    /// The same in the words of a configuration file.
    #[must_use]
    pub fn configuration(&self, outside: &str) -> String {
        let mut text = String::with_capacity(128 * self.routes.len());
        for number in 0..ROUTERS {
            let (address, mac) = router(number);
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "[[neighbors]]\ninterface = \"{outside}\"\naddress = \"{address}\"\nmac = \"{mac}\"\n"
            );
        }
        for route in &self.routes {
            let (via, _) = router(route.leaf % ROUTERS);
            let address = Ipv6Addr::from(route.prefix.address);
            let _ = write!(
                text,
                "[[routes]]\nprefix = \"{address}/{}\"\nnext_hops = [ {{ via = \"{via}\", interface = \"{outside}\" }} ]\n",
                route.prefix.length
            );
        }
        text
    }
}

/// A router on the outside link of [`crate::network`].
fn router(number: u32) -> (Ipv6Addr, Mac) {
    let [.., low] = number.to_be_bytes();
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 1, u16::from(low));
    (address, Mac::from_octets([2, 0, 0, 0, 1, low]))
}
