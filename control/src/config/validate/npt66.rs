//! Prefix pairs (RFC 6296): which prefixes may be translated, and which pairs may stand on one uplink.

use dataplane::counters::RULES_MAX;
use ipnet::{IpNet, Ipv6Net};

use super::addresses::{check_host_bits, overlap, touches_special};
use super::interfaces::Interfaces;
use super::names::Names;
use crate::config::error::{Place, Sink};
use crate::config::file::Npt66Table;
use crate::config::model::Npt66;
use crate::config::problem::Problem;
use crate::config::reader::Field;

/// Longest prefix for which RFC 6296 defines a translation.
const LENGTH_MAX: u8 = 64;

/// A right prefix of a rule.
type Side = Option<(Ipv6Net, Place)>;

/// What the pairs of one uplink are compared by.
struct Pair {
    name: String,
    interface: usize,
    inside: Side,
    outside: Side,
}

pub(super) fn rules(
    tables: Field<Vec<Npt66Table>>,
    interfaces: &Interfaces,
    sink: &mut Sink<'_>,
) -> Vec<Npt66> {
    let tables = tables.or(Vec::new());
    let mut names = Names::new("rule");
    let mut pairs: Vec<Pair> = Vec::new();
    let mut rules = Vec::with_capacity(tables.len());
    let (count, maximum) = (tables.len(), RULES_MAX);
    for (index, table) in tables.into_iter().enumerate() {
        if let (true, Some((_, place))) = (index == maximum, table.name.given()) {
            sink.push(
                place,
                Problem::TooMany {
                    found: count,
                    what: "rules",
                    maximum,
                },
            );
        }
        names.add(
            index,
            table
                .name
                .given()
                .map(|(name, place)| (name.as_str(), place)),
            sink,
        );
        let interface = interfaces.resolve(&table.interface, sink);
        let inside = side(&table.inside, sink);
        let outside = side(&table.outside, sink);
        if let (Some((inside, inside_place)), Some((outside, place))) = (&inside, &outside)
            && overlap(IpNet::V6(*inside), IpNet::V6(*outside))
        {
            let owner = "the inside of the same rule".to_owned();
            let problem = Problem::Overlap {
                found: IpNet::V6(*outside),
                other: IpNet::V6(*inside),
                owner,
                scope: "in a rule",
            };
            sink.push_related(place, problem, inside_place, "the other one");
        }
        let name = table.name.or(String::new());
        if let Some(interface) = interface {
            let pair = Pair {
                name: name.clone(),
                interface,
                inside,
                outside,
            };
            check_uplink(&pair, &pairs, sink);
            pairs.push(pair);
        }
        let nothing = Ipv6Net::default();
        rules.push(Npt66 {
            name,
            interface: interface.unwrap_or(0),
            inside: table.inside.or(nothing),
            outside: table.outside.or(nothing),
            proxy_nd: table.proxy_nd.or(false),
            zero_iid: table.zero_iid.or_default(),
        });
    }
    rules
}

/// A prefix that may be translated: of forwardable unicast addresses, at most 64 bits, nothing after its length.
fn side(field: &Field<Ipv6Net>, sink: &mut Sink<'_>) -> Side {
    let (prefix, place) = field.given()?;
    // "for prefixes longer than /64 the algorithm is undefined", RFC 6296 3.1.
    if prefix.prefix_len() > LENGTH_MAX {
        sink.push(place, Problem::TranslationLength { found: *prefix });
        return None;
    }
    if !check_host_bits(IpNet::V6(*prefix), place, sink) {
        return None;
    }
    if let Some(kind) = touches_special(IpNet::V6(*prefix)) {
        let expected = "a prefix of global or unique local unicast addresses";
        sink.push(
            place,
            Problem::WrongKind {
                found: prefix.to_string(),
                kind,
                expected,
            },
        );
        return None;
    }
    Some((*prefix, place.clone()))
}

/// Two pairs of one uplink must differ in every inside and every outside address, or both would match a packet. The
/// same inside prefix on two uplinks is how a site has two providers (RFC 6296 2.4).
fn check_uplink(pair: &Pair, earlier: &[Pair], sink: &mut Sink<'_>) {
    for other in earlier
        .iter()
        .filter(|other| other.interface == pair.interface)
    {
        for (mine, theirs) in [
            (&pair.inside, &other.inside),
            (&pair.outside, &other.outside),
        ] {
            if let (Some((found, place)), Some((other_prefix, other_place))) = (mine, theirs)
                && overlap(IpNet::V6(*found), IpNet::V6(*other_prefix))
            {
                let owner = format!("rule {:?}", other.name);
                let scope = "on an uplink";
                let problem = Problem::Overlap {
                    found: IpNet::V6(*found),
                    other: IpNet::V6(*other_prefix),
                    owner,
                    scope,
                };
                sink.push_related(place, problem, other_place, "the other one");
            }
        }
    }
}
