//! `health` of `[[pools]]`.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::super::error::{Place, Sink};
use super::super::health::Target;
use super::super::problem::Problem;
use super::super::reader::{Field, List, Value, list};
use super::super::scalar::{address_v6, choice, file_path, integer, reference};

/// Ranges of a status, most.
const STATUS_MAX: usize = 16;
/// Bytes of a path, a host or a payload, most: a request is one segment on any link.
const TEXT_MAX: usize = 1024;

/// The word of `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Kind {
    Icmpv6,
    Tcp,
    Http,
    Https,
    Udp,
}

/// What `verify` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum Verify {
    Nothing,
    /// With the authorities that this machine believes.
    System,
    /// With those of a file.
    File(PathBuf),
}

pub(in crate::config) struct HealthTable {
    pub(in crate::config) place: Place,
    pub(in crate::config) kind: Field<Kind>,
    pub(in crate::config) port: Field<u16>,
    pub(in crate::config) path: Field<String>,
    pub(in crate::config) host: Field<String>,
    pub(in crate::config) status: Field<List<(u16, u16)>>,
    pub(in crate::config) server_name: Field<ServerName<'static>>,
    pub(in crate::config) verify: Field<Verify>,
    pub(in crate::config) send: Field<Vec<u8>>,
    pub(in crate::config) expect: Field<Vec<u8>>,
    pub(in crate::config) target: Field<Target>,
    pub(in crate::config) source: Field<Ipv6Addr>,
    pub(in crate::config) interval_ms: Field<u32>,
    pub(in crate::config) timeout_ms: Field<u32>,
    pub(in crate::config) rise: Field<u8>,
    pub(in crate::config) fall: Field<u8>,
    pub(in crate::config) hold_down: Field<u32>,
    pub(in crate::config) hold_down_max: Field<u32>,
}

pub(super) fn health(value: Value<'_>, sink: &mut Sink<'_>) -> Option<HealthTable> {
    const TARGETS: [(&str, Target); 2] = [("server", Target::Server), ("service", Target::Service)];
    let mut table = value.table("a table such as { kind = \"tcp\", port = 443 }", sink)?;
    let read = HealthTable {
        place: table.place.clone(),
        kind: table.required("kind", "what is asked of servers", sink, kind),
        port: table.optional("port", sink, integer(1..=65_535, "")),
        path: table.optional("path", sink, path),
        host: table.optional("host", sink, host),
        status: table.optional("status", sink, |value, sink| {
            list(
                value,
                "an array of statuses",
                1..=STATUS_MAX,
                "statuses",
                status,
                sink,
            )
        }),
        server_name: table.optional("server_name", sink, server_name),
        verify: table.optional("verify", sink, verify),
        send: table.optional("send", sink, payload),
        expect: table.optional("expect", sink, payload),
        target: table.optional("target", sink, choice(&TARGETS)),
        source: table.optional("source", sink, address_v6),
        interval_ms: table.optional("interval_ms", sink, integer(100..=3_600_000, "ms")),
        timeout_ms: table.optional("timeout_ms", sink, integer(10..=60_000, "ms")),
        rise: table.optional("rise", sink, integer(1..=100, "checks")),
        fall: table.optional("fall", sink, integer(1..=100, "checks")),
        hold_down: table.optional("hold_down", sink, integer(0..=86_400, "seconds")),
        hold_down_max: table.optional("hold_down_max", sink, integer(1..=86_400, "seconds")),
    };
    table.finish(sink);
    Some(read)
}

fn kind(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Kind> {
    const KINDS: [(&str, Kind); 5] = [
        ("icmpv6", Kind::Icmpv6),
        ("tcp", Kind::Tcp),
        ("http", Kind::Http),
        ("https", Kind::Https),
        ("udp", Kind::Udp),
    ];
    choice(&KINDS)(value, sink)
}

fn path(value: Value<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let expected = "one such as \"/health?deep=1\", without spaces, at most 1024 bytes";
    text(value, "the path of a request", expected, sink, |text| {
        text.starts_with('/')
    })
}

fn host(value: Value<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let expected =
        "one such as \"www.example.com\", with a port where it is not 80, or 443 of HTTPS";
    text(value, "a Host header", expected, sink, |_| true)
}

/// What a certificate can be for (RFC 6125 1.8): a name of DNS, or an address.
fn server_name(value: Value<'_>, sink: &mut Sink<'_>) -> Option<ServerName<'static>> {
    let place = value.place.clone();
    let found = reference(value, sink)?;
    let name = ServerName::try_from(found.clone()).ok();
    if name.is_none() {
        let problem = Problem::Malformed {
            found,
            what: "the name of a server",
            expected: "one such as \"www.example.com\", or an address",
        };
        sink.push(&place, problem);
    }
    name
}

fn verify(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Verify> {
    match value.node {
        DeValue::Boolean(false) => Some(Verify::Nothing),
        DeValue::Boolean(true) => Some(Verify::System),
        DeValue::String(_) => file_path(value, sink).map(Verify::File),
        _ => value.wrong_type("true, false or the path of a file", sink),
    }
}

/// What can stand in a line of a request.
fn text(
    value: Value<'_>,
    what: &'static str,
    expected: &'static str,
    sink: &mut Sink<'_>,
    is_right: impl Fn(&str) -> bool,
) -> Option<String> {
    let place = value.place.clone();
    let found = reference(value, sink)?;
    let is_visible = found.bytes().all(|byte| byte.is_ascii_graphic());
    if is_visible && (1..=TEXT_MAX).contains(&found.len()) && is_right(&found) {
        return Some(found);
    }
    let problem = Problem::Malformed {
        found,
        what,
        expected,
    };
    sink.push(&place, problem);
    None
}

/// A number, or a range in quotes.
fn status(value: Value<'_>, sink: &mut Sink<'_>) -> Option<(u16, u16)> {
    let DeValue::String(text) = value.node else {
        let status = integer(100..=599, "")(value, sink)?;
        return Some((status, status));
    };
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (100 <= first && first <= last && last <= 599).then_some((first, last))
    });
    if range.is_none() {
        let problem = Problem::Malformed {
            found: text.to_string(),
            what: "a range of statuses",
            expected: "one such as \"200-299\"",
        };
        sink.push(&value.place, problem);
    }
    range
}

/// Bytes: a string as it is, or hexadecimal digits behind `hex:`.
fn payload(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Vec<u8>> {
    let place = value.place.clone();
    let found = reference(value, sink)?;
    let bytes = match found.strip_prefix("hex:") {
        None => Some(found.clone().into_bytes()),
        Some(digits) if digits.is_ascii() && digits.len().is_multiple_of(2) => {
            let pairs = digits.as_bytes().chunks(2);
            let bytes = pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
            bytes.collect()
        }
        Some(_) => None,
    };
    let bytes = bytes.filter(|bytes| bytes.len() <= TEXT_MAX);
    if bytes.is_none() {
        let problem = Problem::Malformed {
            found,
            what: "a payload",
            expected: "text, or bytes such as \"hex:0a1b\", at most 1024",
        };
        sink.push(&place, problem);
    }
    bytes
}
