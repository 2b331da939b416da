//! ARP messages as the machine wants them: what [`dataplane::wire::arp`] parsed is judged here (RFC 1812 3.3.2, RFC 1122
//! 3.2.1.3), what leaves is written here.
//!
//! Messages start behind the Ethernet header, whose padding they may carry. One that fails a check changes nothing
//! anywhere and is counted under its [`Invalid`] reason.

use std::net::Ipv4Addr;

use dataplane::wire::IntoBytes;
use dataplane::wire::arp::{self, Error};
use dataplane::wire::ethernet::Mac;

use super::report::Invalid;

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
    let message = arp::parse(message).map_err(|error| match error {
        Error::Truncated => Invalid::Truncated,
        Error::Hardware | Error::Protocol => Invalid::ArpKind,
        Error::Operation(_) => Invalid::ArpOperation,
    })?;
    let operation = if message.is_request() {
        Operation::Request
    } else {
        Operation::Reply
    };
    // RFC 1812 3.3.2: a router "MUST not believe any ARP reply that claims that the Link Layer address of another host
    // or router is a broadcast or multicast address".
    let sender_mac = message.sender_mac();
    if sender_mac.is_multicast() || sender_mac == Mac::from_octets([0; 6]) {
        return Err(Invalid::ArpSender);
    }
    let sender = message.sender();
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
        target: message.target(),
    })
}

/// Who has `target`? From 0.0.0.0 it is a probe, for the sender's own address an announcement.
pub(super) fn request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let message = arp::Message::request(mac, sender, target);
    message.as_bytes().to_vec()
}

/// The answer to who asked.
pub(super) fn reply(mac: Mac, sender: Ipv4Addr, to_mac: Mac, to: Ipv4Addr) -> Vec<u8> {
    let message = arp::Message::reply(mac, sender, to_mac, to);
    message.as_bytes().to_vec()
}
