//! ARP messages as bytes (RFC 826): what arrives is judged here before the machine sees it; what leaves is written here.
//!
//! Messages start behind the Ethernet header, whose padding they may carry. One that fails a check changes nothing
//! anywhere and is counted under its [`Invalid`] reason.

use std::net::Ipv4Addr;

use dataplane::wire::ethernet::{ETHERTYPE_IPV4, Mac};

use super::report::Invalid;

/// Ethernet.
const HARDWARE: u16 = 1;
const MESSAGE_LEN: usize = 28;

/// What a message wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Reply,
}

/// A message that passed every check. Its target hardware address is not kept: in a request it means nothing, and in a
/// reply the frame came to us or it did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) operation: Operation,
    pub(super) sender_mac: Mac,
    /// `None`: a probe, whose sender has no address yet (RFC 5227 1.1).
    pub(super) sender: Option<Ipv4Addr>,
    pub(super) target: Ipv4Addr,
}

/// Judge a message.
pub(super) fn parse(message: &[u8]) -> Result<Message, Invalid> {
    let (header, _) = message
        .split_first_chunk::<MESSAGE_LEN>()
        .ok_or(Invalid::Truncated)?;
    let [
        h0,
        h1,
        p0,
        p1,
        hl,
        pl,
        o0,
        o1,
        a,
        b,
        c,
        d,
        e,
        f,
        s0,
        s1,
        s2,
        s3,
        _,
        _,
        _,
        _,
        _,
        _,
        t0,
        t1,
        t2,
        t3,
    ] = *header;
    let kind = (
        u16::from_be_bytes([h0, h1]),
        u16::from_be_bytes([p0, p1]),
        hl,
        pl,
    );
    if kind != (HARDWARE, ETHERTYPE_IPV4, 6, 4) {
        return Err(Invalid::ArpKind);
    }
    let operation = match u16::from_be_bytes([o0, o1]) {
        1 => Operation::Request,
        2 => Operation::Reply,
        _ => return Err(Invalid::ArpOperation),
    };
    let sender_mac = Mac::from_octets([a, b, c, d, e, f]);
    judge(
        operation,
        sender_mac,
        Ipv4Addr::new(s0, s1, s2, s3),
        Ipv4Addr::new(t0, t1, t2, t3),
    )
}

/// The rules that are not about form.
fn judge(
    operation: Operation,
    sender_mac: Mac,
    sender: Ipv4Addr,
    target: Ipv4Addr,
) -> Result<Message, Invalid> {
    // RFC 1812 3.3.2: a router "MUST not believe any ARP reply that claims that the Link Layer address of another host
    // or router is a broadcast or multicast address".
    if sender_mac.is_multicast() || sender_mac == Mac::from_octets([0; 6]) {
        return Err(Invalid::ArpSender);
    }
    let is_probe = sender.is_unspecified() && operation == Operation::Request;
    let is_host = !(sender.is_unspecified()
        || sender.is_loopback()
        || sender.is_multicast()
        || sender.is_broadcast());
    if !is_probe && !is_host {
        return Err(Invalid::ArpSender);
    }
    Ok(Message {
        operation,
        sender_mac,
        sender: is_host.then_some(sender),
        target,
    })
}

/// Who has `target`? From us at `sender_mac`; a probe has no `sender`, an announcement is a question for the own address.
pub(super) fn request(sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    // The target's MAC address is what is asked for; zero (RFC 5227 1.1 recommends it).
    emit(1, (sender_mac, sender), (Mac::from_octets([0; 6]), target))
}

/// The sender's pair, for the one who asked.
pub(super) fn reply(sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    emit(2, sender, target)
}

fn emit(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut message = Vec::with_capacity(MESSAGE_LEN);
    message.extend(HARDWARE.to_be_bytes());
    message.extend(ETHERTYPE_IPV4.to_be_bytes());
    message.extend([6, 4]);
    message.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        message.extend(mac.octets());
        message.extend(address.octets());
    }
    message
}
