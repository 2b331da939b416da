//! The way back of destination NAT: what servers answer comes from the service's address again.
//!
//! There is no state in it. A server's address, protocol and port belong to one service, so any worker turns any answer
//! back, and a restart loses nothing. Only of the fragments behind a first one the worker remembers what that was.
//! Errors about what clients sent are known by their quote, whoever says them.

use std::collections::BTreeMap;

use dataplane::reason::DropReason;
use dataplane::table::exact::ExactTable;
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6};

use super::memory::{Memory, Stage};
use super::rewrite::{self, End, Ends};
use super::spec::Protocol;
use super::view::Steer;
use crate::lisp::flow::{Hashed, has_ports, scatter};
use crate::tables::VrfId;

/// Tells the hashes of fragments from those of clients' packets.
const SEED: u64 = 0x6a09_e667_f3bc_c909;

/// Ports of a server, and whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) protocol: Protocol,
    pub(super) first: u16,
    pub(super) last: u16,
    /// The service, and its port where that is another than the server's.
    pub(super) service: End,
}

impl Answer {
    #[inline(always)]
    fn is_for(&self, protocol: u8, port: Option<u16>) -> bool {
        let is_protocol = match self.protocol {
            Protocol::Any => true,
            Protocol::Number(number) => number == protocol,
        };
        is_protocol && port.is_none_or(|port| self.first <= port && port <= self.last)
    }
}

/// All of them, by the server's address. Key: VRF and address; value: a short list. 48 to 96 bytes a server and 28 an
/// answer; a packet that is from no server costs one line. It is made whole, so it is never full.
#[derive(Debug)]
pub(crate) struct Returns {
    servers: ExactTable,
    /// A server's leaf is its place, counted from 1.
    answers: Box<[Box<[Answer]>]>,
}

/// What a packet is to the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Common {
    /// Nothing.
    Foreign,
    /// A plain answer, from this end.
    Answer(End),
    /// Perhaps something: ask [`Steer::turn_back`].
    Odd,
}

impl Returns {
    /// Of servers, each with what it answers.
    pub(super) fn new(servers: BTreeMap<(VrfId, [u8; 16]), Vec<Answer>>) -> Self {
        let keys = servers.keys().zip(1..).map(|((vrf, address), place)| {
            let key = (vrf.0, u128::from_be_bytes(*address));
            (key, place)
        });
        Self {
            servers: ExactTable::new(keys),
            answers: servers.into_values().map(Vec::into_boxed_slice).collect(),
        }
    }

    #[inline(always)]
    fn answers(&self, vrf: VrfId, server: &[u8; 16]) -> Option<&[Answer]> {
        let place = self.servers.lookup(vrf.0, u128::from_be_bytes(*server))?;
        self.answers
            .get(place as usize - 1)
            .map(|answers| &**answers) // `as`: u32 to index; never 0
    }

    /// What a packet with nothing between its IPv6 and TCP or UDP header is; of another, whether it may be anything.
    #[inline(always)]
    pub(crate) fn common(&self, vrf: VrfId, packet: &[u8]) -> Common {
        let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
            return Common::Foreign;
        };
        let answers = header[8..].first_chunk();
        let answers = answers.and_then(|source| self.answers(vrf, source));
        match (header[6], payload.first_chunk::<2>(), answers) {
            (proto::TCP | proto::UDP, _, None) => Common::Foreign,
            (protocol @ (proto::TCP | proto::UDP), Some(port), Some(answers)) => {
                let port = Some(u16::from_be_bytes(*port));
                match answers.iter().find(|answer| answer.is_for(protocol, port)) {
                    Some(answer) if rewrite::is_common(packet) => Common::Answer(answer.service),
                    Some(_) => Common::Odd,
                    None => Common::Foreign,
                }
            }
            (proto::ICMPV6, ..) => Common::Odd,
            (protocol, _, None) if !ext::is_extension(protocol) => Common::Foreign,
            _ => Common::Odd,
        }
    }
}

impl Steer {
    /// Turn a packet from the side of servers back, if it is an answer or an error about what a client sent; leave any
    /// other as it is. `now` in seconds.
    ///
    /// # Errors
    /// Why it cannot be.
    pub(crate) fn turn_back(
        &self,
        (memory, now): (&Memory, u16),
        vrf: VrfId,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let service = match self.returns.common(vrf, packet) {
            Common::Foreign => None,
            Common::Answer(service) => Some(service),
            Common::Odd => self.service_of((memory, now), vrf, packet),
        };
        match service {
            None => Ok(()),
            Some(_) => {
                let ends = Ends {
                    source: service,
                    destination: None,
                };
                rewrite::translate(packet, &ends)
            }
        }
    }

    /// Whose answer a packet is that is not common.
    fn service_of(&self, (memory, now): (&Memory, u16), vrf: VrfId, packet: &[u8]) -> Option<End> {
        let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
        let upper = ext::walk(header[6], payload).ok()?;
        let message = payload.get(upper.offset..)?;
        let source = header[8..].first_chunk()?;
        let fragment = upper.fragment.filter(|fragment| !fragment.is_atomic());
        let spot = |id: u32| {
            let hash = Hashed::new(SEED, &header[8..]).with(u64::from(id));
            scatter(hash, self.seed)
        };
        if let Some(piece) = fragment.filter(|piece| piece.offset_bytes > 0) {
            let answers = self.returns.answers(vrf, source)?;
            let found = memory.find(spot(piece.id), self.flows, now)?;
            let position = usize::from(found.server()).checked_sub(1)?;
            return answers.get(position).map(|answer| answer.service);
        }
        if upper.protocol == proto::ICMPV6 {
            let kind = *message.first()?;
            if icmpv6::is_error(kind) {
                return self.service_of_quote(vrf, message.get(icmpv6::ERROR_HEADER_LEN..)?);
            }
            // What it asks, and what it says to neighbours, is its own.
            if kind != icmpv6::types::ECHO_REPLY {
                return None;
            }
        }
        let answers = self.returns.answers(vrf, source)?;
        let port = port_at(upper.protocol, message, 0)?;
        let mut numbered = answers.iter().zip(1..);
        let (answer, position) =
            numbered.find(|(answer, _)| answer.is_for(upper.protocol, port))?;
        if let Some(piece) = fragment {
            let spot = spot(piece.id);
            match memory.find(spot, self.flows, now) {
                Some(found) => found.move_to(position, Stage::Fragments, now),
                None => {
                    // Without room the others stay what they are: nobody knows better.
                    memory.keep(spot, self.flows, position, Stage::Fragments, now);
                }
            }
        }
        Some(answer.service)
    }

    /// Whose client sent what an error quotes.
    fn service_of_quote(&self, vrf: VrfId, quote: &[u8]) -> Option<End> {
        let (quoted, payload) = quote.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
        let answers = self.returns.answers(vrf, quoted[24..].first_chunk()?)?;
        let upper = ext::walk(quoted[6], payload).ok()?;
        if crate::ingress::is_first(&upper) {
            let inner = payload.get(upper.offset..)?;
            if upper.protocol == proto::ICMPV6
                && inner.first() != Some(&icmpv6::types::ECHO_REQUEST)
            {
                return None;
            }
            let port = port_at(upper.protocol, inner, 2)?;
            let mut answers = answers.iter();
            return answers
                .find(|answer| answer.is_for(upper.protocol, port))
                .map(|answer| answer.service);
        }
        // Without ports only the address can be known, and only if there is one.
        let mut candidates = answers
            .iter()
            .filter(|answer| answer.is_for(upper.protocol, None))
            .map(|answer| answer.service);
        let first = candidates.next()?;
        candidates
            .all(|other| other.address == first.address)
            .then_some(first)
    }
}

/// The port at this offset of an upper-layer header, of protocols that have some. `None`: there should be one.
fn port_at(protocol: u8, message: &[u8], at: usize) -> Option<Option<u16>> {
    if !has_ports(protocol) {
        return Some(None);
    }
    let port = message.get(at..)?.first_chunk()?;
    Some(Some(u16::from_be_bytes(*port)))
}
