//! The way back of destination NAT: what servers answer comes from the service's address again.
//!
//! There is no state in it. A server's address, protocol and port belong to one service, so any worker turns any answer
//! back, and a restart loses nothing. Only of the fragments behind a first one the worker remembers what that was, also
//! where it was no answer.
//! Errors about what clients sent are known by their quote, whoever says them.

use std::collections::BTreeMap;

use dataplane::reason::DropReason;
use dataplane::table::exact::ExactTable;
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6};

use super::memory::Memory;
use super::rewrite::{self, End, Ends};
use super::spec::Protocol;
use super::view::Steer;
use crate::lisp::flow::{Hashed, has_ports, scatter};
use crate::tables::VrfId;

/// Tells the hashes of fragments from those of clients' packets.
const SEED: u64 = 0x6a09_e667_f3bc_c909;
/// Remembered of fragments that are no answer of a service.
const NO_ANSWER: u16 = u16::MAX;

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
            Common::Odd => self.service_of((memory, now), vrf, packet)?,
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
    ///
    /// # Errors
    /// Only the first fragment of its packet tells, and that has not come.
    fn service_of(
        &self,
        (memory, now): (&Memory, u16),
        vrf: VrfId,
        packet: &[u8],
    ) -> Result<Option<End>, DropReason> {
        let Some((piece, answers)) = self.piece(vrf, packet) else {
            return Ok(self
                .service_of_whole(vrf, packet)
                .map(|(_, service)| service));
        };
        let spot = spot_of_fragments(self, packet, piece.id);
        if piece.offset_bytes > 0 {
            let found = memory.find(spot, self.flows, now);
            let position = found.ok_or(DropReason::SteerFragment)?.server();
            let answer = answers.get(usize::from(position).wrapping_sub(1));
            return Ok(answer.map(|answer| answer.service));
        }
        let known = self.service_of_whole(vrf, packet);
        let position = known.map_or(NO_ANSWER, |(position, _)| position);
        // Without room the others stay what they are: nobody knows better.
        memory.keep_first(spot, self.flows, position, now);
        Ok(known.map(|(_, service)| service))
    }

    /// What a fragment of a server says of its packet, and what that server answers.
    fn piece(&self, vrf: VrfId, packet: &[u8]) -> Option<(ext::Fragment, &[Answer])> {
        let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
        let upper = ext::walk(header[6], payload).ok()?;
        let piece = upper.fragment.filter(|piece| !piece.is_atomic())?;
        Some((
            piece,
            self.returns.answers(vrf, header[8..].first_chunk()?)?,
        ))
    }

    /// Whose answer a packet is that has an upper-layer header: its position among those of its server, where it is not an
    /// error, and the service.
    fn service_of_whole(&self, vrf: VrfId, packet: &[u8]) -> Option<(u16, End)> {
        let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
        let upper = ext::walk(header[6], payload).ok()?;
        let message = payload.get(upper.offset..)?;
        let source = header[8..].first_chunk()?;
        if upper.protocol == proto::ICMPV6 {
            let kind = *message.first()?;
            if icmpv6::is_error(kind) {
                let quote = message.get(icmpv6::ERROR_HEADER_LEN..)?;
                let service = self.service_of_quote(vrf, quote)?;
                return Some((NO_ANSWER, service));
            }
            // What it asks, and what it says to neighbours, is its own.
            if kind != icmpv6::types::ECHO_REPLY {
                return None;
            }
        }
        let answers = self.returns.answers(vrf, source)?;
        let port = port_at(upper.protocol, message, 0)?;
        let mut numbered = (1..).zip(answers);
        let (position, answer) =
            numbered.find(|(_, answer)| answer.is_for(upper.protocol, port))?;
        Some((position, answer.service))
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

/// Where the fragments of what a server sends are remembered.
fn spot_of_fragments(steer: &Steer, packet: &[u8], id: u32) -> u64 {
    let addresses = packet.get(8..40).unwrap_or(&[]);
    scatter(Hashed::new(SEED, addresses).with(u64::from(id)), steer.seed)
}

/// The same of one without ports.
pub(super) fn spot_of_answer(steer: &Steer, packet: &[u8]) -> Option<u64> {
    let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let upper = ext::walk(header[6], payload).ok()?;
    let piece = upper.fragment.filter(|piece| piece.offset_bytes > 0)?;
    Some(spot_of_fragments(steer, packet, piece.id))
}

/// The port at this offset of an upper-layer header, of protocols that have some. `None`: there should be one.
fn port_at(protocol: u8, message: &[u8], at: usize) -> Option<Option<u16>> {
    if !has_ports(protocol) {
        return Some(None);
    }
    let port = message.get(at..)?.first_chunk()?;
    Some(Some(u16::from_be_bytes(*port)))
}
