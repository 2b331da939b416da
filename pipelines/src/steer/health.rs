//! Answers to the control thread's health checks: which packets to our own addresses they are.
//!
//! A check is sent from a port (of ICMPv6 echo: an identifier) that only this box can tell: ten bits of it are a hash of a
//! secret and the two addresses. What does not come from an address that is checked, to the port that belongs to it, is
//! refused like anything else that is sent to us. So whoever floods the box without seeing its checks reaches the control
//! thread with one packet in a thousand, and that is policed under a reason of its own.

use std::net::Ipv6Addr;

use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{icmpv6, tcp};

use crate::lisp::flow::{Hashed, scatter};
use crate::tables::VrfId;

/// Checks of one address under way at a time: the lowest bits of a port, which the control thread counts up.
pub const TOKENS: u16 = 16;
/// Ports of checks are dynamic ones (RFC 6335 6), as far as nobody else takes them.
const FIRST: u16 = 0xc000;
/// Makes another secret of the seed that places flows.
const PURPOSE: u64 = 0x6865_616c_7468_2d31;

/// The first of the [`TOKENS`] ports and identifiers from which `peer` is checked by `own`.
#[must_use]
pub fn token(seed: u64, vrf: VrfId, own: Ipv6Addr, peer: Ipv6Addr) -> u16 {
    let mut addresses = [0; 32];
    addresses[..16].copy_from_slice(&own.octets());
    addresses[16..].copy_from_slice(&peer.octets());
    of_addresses(seed, vrf, &addresses)
}

fn of_addresses(seed: u64, vrf: VrfId, addresses: &[u8]) -> u16 {
    let secret = scatter(seed, PURPOSE);
    let hash = Hashed::new(secret, addresses).with(secret ^ u64::from(vrf.0));
    FIRST | (hash >> 48) as u16 & !FIRST & !(TOKENS - 1) // `as`: the upper bits
}

/// Who is checked.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(super) seed: u64,
    /// In order.
    pub(super) peers: Box<[(VrfId, [u8; 16])]>,
}

impl Answers {
    /// Whether a packet to an own address is an answer. `message`: what follows the extension headers, of which there may
    /// be none but destination options and the like; never of a fragment.
    #[cold]
    pub(crate) fn has(
        &self,
        vrf: VrfId,
        header: &[u8; ipv6::HEADER_LEN],
        protocol: u8,
        message: &[u8],
    ) -> bool {
        let to = match (protocol, message) {
            (proto::TCP, [_, _, a, b, ..]) => {
                let flags = message.get(tcp::FLAGS_OFFSET).copied().unwrap_or(0);
                let opens = flags & (tcp::flags::ACK | tcp::flags::RST) == 0;
                (!opens).then_some([*a, *b])
            }
            (proto::UDP, [_, _, a, b, ..]) => Some([*a, *b]),
            (proto::ICMPV6, [icmpv6::types::ECHO_REPLY, _, _, _, a, b, ..]) => Some([*a, *b]),
            _ => None,
        };
        let (Some(to), Some(peer)) = (to, header[8..].first_chunk()) else {
            return false;
        };
        if self.peers.binary_search(&(vrf, *peer)).is_err() {
            return false;
        }
        let mut addresses = [0; 32];
        addresses[..16].copy_from_slice(&header[24..]);
        addresses[16..].copy_from_slice(&header[8..24]);
        of_addresses(self.seed, vrf, &addresses) == u16::from_be_bytes(to) & !(TOKENS - 1)
    }
}
