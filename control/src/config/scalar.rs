//! What single values must look like: numbers in ranges, names, devices, addresses, prefixes.
//!
//! Each function reports what is wrong with a value and returns `None`, or returns the value.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use dataplane::wire::ethernet::Mac;
use ipnet::{IpNet, Ipv6Net};
use toml::de::DeValue;

use super::error::Sink;
use super::model::Device;
use super::problem::Problem;
use super::reader::Value;

/// Bytes of a name of ours, most.
const NAME_MAX: usize = 32;
/// Bytes of a network interface's name in Linux, most (IFNAMSIZ less the terminator).
const KERNEL_NAME_MAX: usize = 15;
/// Bytes of a unix socket's path, most (`sun_path` less the terminator).
const SOCKET_PATH_MAX: usize = 107;

/// A whole number of a range that its type holds.
pub(super) fn integer<T>(
    range: RangeInclusive<u32>,
    unit: &'static str,
) -> impl Fn(Value<'_>, &mut Sink<'_>) -> Option<T>
where
    T: TryFrom<u32>,
{
    move |value, sink| {
        let DeValue::Integer(number) = value.node else {
            return value.wrong_type("an integer", sink);
        };
        let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let in_range = parsed
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| range.contains(n));
        let converted = in_range.and_then(|n| T::try_from(n).ok());
        if converted.is_none() {
            let (minimum, maximum) = (u64::from(*range.start()), u64::from(*range.end()));
            let found = number.to_string();
            sink.push(
                &value.place,
                Problem::OutOfRange {
                    found,
                    minimum,
                    maximum,
                    unit,
                },
            );
        }
        converted
    }
}

pub(super) fn boolean(value: Value<'_>, sink: &mut Sink<'_>) -> Option<bool> {
    match value.node {
        DeValue::Boolean(flag) => Some(*flag),
        _ => value.wrong_type("true or false", sink),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    choices: &[(&str, T)],
) -> impl Fn(Value<'_>, &mut Sink<'_>) -> Option<T> {
    move |value, sink| {
        let found = string(&value, sink)?;
        let chosen = choices
            .iter()
            .find(|(word, _)| *word == found)
            .map(|(_, choice)| *choice);
        if chosen.is_none() {
            let expected = choices.iter().map(|(word, _)| (*word).to_owned()).collect();
            sink.push(
                &value.place,
                Problem::NotAChoice {
                    found: found.to_owned(),
                    expected,
                },
            );
        }
        chosen
    }
}

/// A name of a port, an interface, a rule: short and without characters that need quoting in paths or shells.
pub(super) fn name(value: Value<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let found = string(&value, sink)?;
    let first_is_right = found.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest_is_right = found
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if first_is_right && rest_is_right && found.len() <= NAME_MAX {
        return Some(found.to_owned());
    }
    malformed(
        &value,
        found,
        "a name",
        "1 to 32 letters, digits, dots, dashes or underscores, a letter or digit first",
        sink,
    )
}

/// Any string: a reference to a name, which is looked up later.
pub(super) fn reference(value: Value<'_>, sink: &mut Sink<'_>) -> Option<String> {
    string(&value, sink).map(str::to_owned)
}

/// Path of a unix socket.
pub(super) fn socket_path(value: Value<'_>, sink: &mut Sink<'_>) -> Option<PathBuf> {
    let found = string(&value, sink)?;
    let names_a_file = found.starts_with('/') && !found.ends_with('/') && !found.contains('\0');
    if names_a_file && found.len() <= SOCKET_PATH_MAX {
        return Some(PathBuf::from(found));
    }
    malformed(
        &value,
        found,
        "the path of a unix socket",
        "an absolute path of a file, at most 107 bytes",
        sink,
    )
}

/// Path of a file of ours.
pub(super) fn file_path(value: Value<'_>, sink: &mut Sink<'_>) -> Option<PathBuf> {
    let found = string(&value, sink)?;
    if found.starts_with('/') && !found.ends_with('/') && !found.contains('\0') {
        return Some(PathBuf::from(found));
    }
    let (what, expected) = ("the path of a file", "an absolute path");
    malformed(&value, found, what, expected, sink)
}

/// What two sides know: anything but nothing. Never part of an error's words.
pub(super) fn secret(value: Value<'_>, sink: &mut Sink<'_>) -> Option<String> {
    let found = string(&value, sink)?;
    if found.is_empty() {
        sink.push(&value.place, Problem::Empty { what: "secret" });
        return None;
    }
    Some(found.to_owned())
}

pub(super) fn mac(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Mac> {
    let found = string(&value, sink)?;
    let Ok(mac) = found.parse::<Mac>() else {
        return malformed(
            &value,
            found,
            "a MAC address",
            "six bytes such as 02:00:5e:10:00:01",
            sink,
        );
    };
    let kind = if mac == Mac::BROADCAST {
        "is the broadcast address"
    } else if mac.is_multicast() {
        "is a multicast MAC address"
    } else if mac.octets() == [0; 6] {
        "is no address"
    } else {
        return Some(mac);
    };
    sink.push(
        &value.place,
        Problem::WrongKind {
            found: mac.to_string(),
            kind,
            expected: "a unicast MAC address",
        },
    );
    None
}

/// A number of up to 128 bits in hexadecimal digits.
pub(super) fn identifier<T: TryFrom<u128>>(
    expected: &'static str,
) -> impl Fn(Value<'_>, &mut Sink<'_>) -> Option<T> {
    move |value, sink| {
        let found = string(&value, sink)?;
        let digits = Some(found).filter(|found| is_hex(found));
        let number = digits.and_then(|digits| u128::from_str_radix(digits, 16).ok());
        match number.and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => malformed(&value, found, "an identifier", expected, sink),
        }
    }
}

/// An address of either family without a prefix length.
pub(super) fn address(value: Value<'_>, sink: &mut Sink<'_>) -> Option<IpAddr> {
    let expected = "an address such as 2001:db8::1 or 192.0.2.1, without a prefix length";
    parsed(&value, "an IP address", expected, sink)
}

/// An IPv6 address without a prefix length.
pub(super) fn address_v6(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Ipv6Addr> {
    let expected = "an address such as 2001:db8::1, without a prefix length";
    parsed(&value, "an IPv6 address", expected, sink)
}

/// A prefix of either family; what may stand after its length is judged elsewhere.
pub(super) fn prefix(value: Value<'_>, sink: &mut Sink<'_>) -> Option<IpNet> {
    let expected = "an address and a length such as 2001:db8::/32 or 192.0.2.0/24";
    parsed(&value, "an IP prefix", expected, sink)
}

/// An IPv6 prefix; what may stand after its length is judged elsewhere.
pub(super) fn prefix_v6(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Ipv6Net> {
    let expected = "an address and a length such as 2001:db8::/32";
    parsed(&value, "an IPv6 prefix", expected, sink)
}

/// An address of either family and the length of the prefix that is on its link.
pub(super) fn own_address(value: Value<'_>, sink: &mut Sink<'_>) -> Option<IpNet> {
    let expected = "both such as 2001:db8::1/64 or 192.0.2.1/24";
    parsed(&value, "an IP address with a prefix length", expected, sink)
}

fn parsed<T: FromStr>(
    value: &Value<'_>,
    what: &'static str,
    expected: &'static str,
    sink: &mut Sink<'_>,
) -> Option<T> {
    let found = string(value, sink)?;
    match found.parse() {
        Ok(parsed) => Some(parsed),
        Err(_) => malformed(value, found, what, expected, sink),
    }
}

/// A DPDK device: checked as far as that is possible without opening it.
pub(super) fn device(value: Value<'_>, sink: &mut Sink<'_>) -> Option<Device> {
    const EXPECTED: &str =
        "a PCI address such as 0000:03:00.0, or a virtual device such as net_tap0,iface=sx-wan";
    let found = string(&value, sink)?;
    let (name, arguments) = match found.split_once(',') {
        Some((name, arguments)) => (name, Some(arguments)),
        None => (found, None),
    };
    let Some(name) = device_name(name) else {
        return malformed(&value, found, "a DPDK device", EXPECTED, sink);
    };
    let mut pieces = arguments.iter().flat_map(|text| text.split(','));
    let is_printable = !found.contains(|c: char| c.is_whitespace() || c.is_control());
    if !is_printable || pieces.any(|piece| piece.is_empty() || piece.starts_with('=')) {
        let expected = "arguments such as key=value with commas between and no spaces";
        return malformed(&value, found, "a DPDK device", expected, sink);
    }
    let device = Device::new(&name, arguments);
    device_arguments(&value, &device, sink)
}

/// The name DPDK knows a device by; a PCI address gets its domain.
fn device_name(name: &str) -> Option<String> {
    const BUSES: [&str; 3] = ["auxiliary:", "vmbus:", "fslmc:"];
    let lower = name.to_ascii_lowercase();
    let on_other_bus = BUSES
        .iter()
        .any(|bus| name.len() > bus.len() && name.starts_with(bus));
    let is_virtual = name.strip_prefix("net_").is_some_and(|driver| {
        driver.starts_with(|c: char| c.is_ascii_lowercase())
            && driver
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    });
    if on_other_bus || is_virtual {
        return Some(name.to_owned());
    }
    match lower.split(':').collect::<Vec<_>>()[..] {
        [domain, bus, function] if domain.len() == 4 && is_hex(domain) => {
            is_pci_function(bus, function).then_some(lower)
        }
        [bus, function] => is_pci_function(bus, function).then(|| format!("0000:{lower}")),
        _ => None,
    }
}

fn is_pci_function(bus: &str, device_and_function: &str) -> bool {
    let Some((device, function)) = device_and_function.split_once('.') else {
        return false;
    };
    let number = |text: &str| u8::from_str_radix(text, 16).ok();
    let is_bus = bus.len() == 2 && is_hex(bus);
    let is_device = device.len() == 2 && is_hex(device) && number(device).is_some_and(|n| n < 32);
    is_bus && is_device && function.len() == 1 && number(function).is_some_and(|n| n < 8)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Arguments whose form is known whatever the driver.
fn device_arguments(value: &Value<'_>, device: &Device, sink: &mut Sink<'_>) -> Option<Device> {
    if let Some(iface) = device.argument("iface") {
        let is_name =
            !iface.is_empty() && iface.len() <= KERNEL_NAME_MAX && !iface.contains(['/', ':']);
        if !is_name || iface == "." || iface == ".." {
            let what = "a network interface's name (iface=)";
            return malformed(
                value,
                iface,
                what,
                "1 to 15 characters without / and :",
                sink,
            );
        }
    } else if ["net_af_packet", "net_af_xdp"]
        .iter()
        .any(|driver| device.name().starts_with(driver))
    {
        let what = "a complete device";
        return malformed(
            value,
            device.as_str(),
            what,
            "the argument iface= with the interface to open",
            sink,
        );
    }
    // net_tap's own word for "the same every time".
    if let Some(mac) = device.argument("mac").filter(|mac| *mac != "fixed") {
        let is_unicast = mac
            .parse::<Mac>()
            .is_ok_and(|mac| !mac.is_multicast() && mac.octets() != [0; 6]);
        if !is_unicast {
            let what = "a MAC address (mac=)";
            return malformed(
                value,
                mac,
                what,
                "six bytes such as 02:00:5e:10:00:01, unicast",
                sink,
            );
        }
    }
    Some(device.clone())
}

fn string<'a>(value: &Value<'a>, sink: &mut Sink<'_>) -> Option<&'a str> {
    match value.node {
        DeValue::String(text) => Some(text.as_ref()),
        _ => value.wrong_type("a string", sink),
    }
}

fn malformed<T>(
    value: &Value<'_>,
    found: &str,
    what: &'static str,
    expected: &'static str,
    sink: &mut Sink<'_>,
) -> Option<T> {
    sink.push(
        &value.place,
        Problem::Malformed {
            found: found.to_owned(),
            what,
            expected,
        },
    );
    None
}
