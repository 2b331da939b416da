//! Packets addressed to us: neighbour discovery, echo requests and answers to health checks go to the control thread, the rest is refused the way
//! a host without that service refuses it (RFC 4443 3.1, 3.4; RFC 1122 3.2.2.1).

use std::net::IpAddr;

use dataplane::frame::Frame;
use dataplane::node::{Leaving, Node};
use dataplane::reason::{DropReason, PuntReason};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{FromBytes, checksum, ext, icmpv4, icmpv6, ipv4, lisp};

use crate::icmp_error::IcmpError;
use crate::ingress::is_first;
use crate::lisp::view::Lisp;
use crate::meta::{Family, Meta, Next};
use crate::tables::Tables;

pub(crate) struct Local;

impl<F: Frame> Node<F> for Local {
    type Tables = Tables;
    type Meta = Meta;
    type Next = Next;
    const MAIN: Next = Next::Continue;
    const NAME: &'static str = "local";
    const INDEX: usize = 5;

    fn process(
        &mut self,
        tables: &Tables,
        frames: &mut [F],
        meta: &mut [Meta],
        leaving: &mut Leaving<Next>,
    ) {
        for (index, (frame, meta)) in frames.iter().zip(meta).enumerate() {
            let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
            let next = match meta.family {
                Family::V6 => receive(packet),
                Family::V4 => receive_v4(packet),
            };
            let next = match &tables.lisp {
                Some(lisp) if meta.vrf == lisp.underlay => of_lisp(lisp, packet, meta.family, next),
                _ => next,
            };
            let next = match next {
                Next::Drop(DropReason::LocalProtocol)
                | Next::Error(DropReason::LocalProtocol, _)
                    if is_answer(tables, packet, meta) =>
                {
                    Next::Punt(PuntReason::Health)
                }
                next => next,
            };
            leaving.push(index, next);
        }
    }
}

/// The same where encapsulated packets come: what of them was not opened, control messages, and errors about packets we
/// sent.
fn of_lisp(router: &Lisp, packet: &[u8], family: Family, next: Next) -> Next {
    let roles = router.roles;
    let (protocol, message, is_fragment, to) = match family {
        Family::V6 => {
            let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
                return next;
            };
            let Ok(upper) = ext::walk(header[6], payload) else {
                return next;
            };
            let is_fragment = upper.fragment.is_some_and(|fragment| !fragment.is_atomic());
            let message = payload.get(upper.offset..).unwrap_or(&[]);
            let to = ipv6::Header::ref_from_prefix(packet).map(|(header, _)| header.destination());
            (
                upper.protocol,
                message,
                is_fragment,
                to.ok().map(IpAddr::V6),
            )
        }
        Family::V4 => match ipv4::parse(packet) {
            Ok(packet) => (
                packet.header.protocol,
                packet.payload,
                packet.header.is_fragment(),
                Some(IpAddr::V4(packet.header.destination())),
            ),
            Err(_) => return next,
        },
    };
    match (protocol, message) {
        // Of a later fragment the ports are not known; nothing but LISP is sent to an RLOC by UDP.
        (proto::UDP, _) if is_fragment && roles.decapsulates() => {
            Next::Drop(DropReason::LispFragment)
        }
        (proto::UDP, [_, _, high, low, ..])
            if roles.decapsulates() && u16::from_be_bytes([*high, *low]) == lisp::DATA_PORT =>
        {
            Next::Drop(DropReason::LispOuterOptions)
        }
        // RFC 9301 5: either port. Whether the checksum is right is seen by whoever reads the message.
        (proto::UDP, [a, b, c, d, ..])
            if !is_fragment
                && [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])]
                    .contains(&lisp::CONTROL_PORT)
                && to.is_some_and(|to| router.is_own_rloc(to)) =>
        {
            Next::Punt(PuntReason::LispControl)
        }
        // The checksum was wrong.
        _ if matches!(
            next,
            Next::Drop(DropReason::Icmpv6Checksum | DropReason::Icmpv4Checksum)
        ) =>
        {
            next
        }
        (
            proto::ICMPV6,
            [
                icmpv6::types::PACKET_TOO_BIG | icmpv6::types::DESTINATION_UNREACHABLE,
                ..,
            ],
        )
        | (ipv4::proto::ICMP, [icmpv4::types::DESTINATION_UNREACHABLE, ..])
            if !is_fragment && roles.encapsulates() =>
        {
            Next::Punt(PuntReason::PathMtu)
        }
        _ => next,
    }
}

/// Whether nobody else takes it, but it answers a health check of ours.
fn is_answer(tables: &Tables, packet: &[u8], meta: &Meta) -> bool {
    let (Some(steer), Family::V6) = (&tables.steer, meta.family) else {
        return false;
    };
    let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return false;
    };
    let upper = ext::walk(header[6], payload).ok();
    let upper = upper.filter(|upper| upper.fragment.is_none_or(|fragment| fragment.is_atomic()));
    upper.is_some_and(|upper| {
        let message = payload.get(upper.offset..).unwrap_or(&[]);
        steer.answers.has(meta.vrf, header, upper.protocol, message)
    })
}

/// What takes this packet.
fn receive(packet: &[u8]) -> Next {
    let Some((header, payload)) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>() else {
        return Next::Drop(DropReason::Truncated);
    };
    let Ok(upper) = ext::walk(header[6], payload) else {
        return Next::Drop(DropReason::ExtensionHeaders);
    };
    if !is_first(&upper) || upper.fragment.is_some_and(|fragment| fragment.more) {
        // Nothing we answer needs more than one packet.
        return Next::Drop(DropReason::LocalProtocol);
    }
    let message = payload.get(upper.offset..).unwrap_or(&[]);
    match upper.protocol {
        proto::ICMPV6 => icmp(header, message),
        proto::TCP | proto::UDP => {
            Next::Error(DropReason::LocalProtocol, IcmpError::PortUnreachable)
        }
        proto::NO_NEXT => Next::Drop(DropReason::LocalProtocol),
        _ => {
            // RFC 4443 3.4: the pointer names the Next Header field; with no extension header it is the IPv6 header's.
            if upper.offset == 0 {
                Next::Error(
                    DropReason::LocalProtocol,
                    IcmpError::UnknownNextHeader { pointer: 6 },
                )
            } else {
                Next::Drop(DropReason::LocalProtocol)
            }
        }
    }
}

/// The same for IPv4. Ingress has found the header good.
fn receive_v4(packet: &[u8]) -> Next {
    let Ok(packet) = ipv4::parse(packet) else {
        return Next::Drop(DropReason::Truncated);
    };
    if packet.header.is_fragment() {
        // Nothing we answer needs more than one packet.
        return Next::Drop(DropReason::LocalProtocol);
    }
    match packet.header.protocol {
        ipv4::proto::ICMP if !icmpv4::is_valid(packet.payload) => {
            Next::Drop(DropReason::Icmpv4Checksum)
        }
        ipv4::proto::ICMP => match packet.payload.first() {
            Some(&icmpv4::types::ECHO_REQUEST) => Next::Punt(PuntReason::Echo),
            _ => Next::Drop(DropReason::LocalProtocol),
        },
        proto::TCP | proto::UDP => {
            Next::Error(DropReason::LocalProtocol, IcmpError::PortUnreachable)
        }
        _ => Next::Error(
            DropReason::LocalProtocol,
            IcmpError::UnknownNextHeader { pointer: 9 },
        ),
    }
}

fn icmp(header: &[u8; ipv6::HEADER_LEN], message: &[u8]) -> Next {
    let source = header[8..].first_chunk().expect("16 of 40 bytes");
    let destination = header[24..].first_chunk().expect("16 of 40 bytes");
    if !checksum::is_valid(source, destination, proto::ICMPV6, message) {
        return Next::Drop(DropReason::Icmpv6Checksum);
    }
    match message.first() {
        Some(&(icmpv6::types::ROUTER_SOLICITATION..=icmpv6::types::REDIRECT)) => {
            Next::Punt(PuntReason::NeighborDiscovery)
        }
        Some(&icmpv6::types::ECHO_REQUEST) => Next::Punt(PuntReason::Echo),
        Some(&icmpv6::types::MULTICAST_LISTENER_QUERY) => Next::Punt(PuntReason::Local),
        _ => Next::Drop(DropReason::LocalProtocol),
    }
}
