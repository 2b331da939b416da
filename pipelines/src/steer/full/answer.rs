//! What servers answer to a source address of full NAT, and errors about what they were sent.

use dataplane::reason::DropReason;
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6, tcp};

use crate::lisp::flow::has_ports;
use crate::steer::flow::{self, Role};

/// What an answer, or an error about what a server was sent, says.
pub(super) struct Answer {
    pub(super) protocol: u8,
    /// Ours; `None`: a fragment without ports.
    pub(super) port: Option<u16>,
    /// Who answers, or was sent what the error is about.
    pub(super) server: [u8; 16],
    pub(super) server_port: u16,
    pub(super) role: Role,
    pub(super) fragment: Option<u32>,
}

/// Read what came to a source address.
///
/// # Errors
/// Why nobody can say what it belongs to.
pub(super) fn read(packet: &[u8]) -> Result<Answer, DropReason> {
    let unreadable = DropReason::SteerHeaders;
    let (header, payload) = packet
        .split_first_chunk::<{ ipv6::HEADER_LEN }>()
        .ok_or(unreadable)?;
    let upper = ext::walk(header[6], payload).map_err(|_| unreadable)?;
    let mut answer = Answer {
        protocol: upper.protocol,
        port: None,
        server: *header[8..].first_chunk().ok_or(unreadable)?,
        server_port: 0,
        role: Role::Datagram,
        fragment: None,
    };
    let fragment = upper.fragment.filter(|fragment| !fragment.is_atomic());
    answer.fragment = fragment.map(|fragment| fragment.id);
    if fragment.is_some_and(|fragment| fragment.offset_bytes > 0) {
        answer.role = Role::Later;
        return Ok(answer);
    }
    let message = payload.get(upper.offset..).unwrap_or(&[]);
    if upper.protocol == proto::ICMPV6 {
        let kind = *message.first().ok_or(unreadable)?;
        if icmpv6::is_error(kind) {
            return read_quote(header, message);
        }
        let [icmpv6::types::ECHO_REPLY, _, _, _, a, b, ..] = message else {
            return Err(DropReason::SteerNoFlow);
        };
        answer.port = Some(u16::from_be_bytes([*a, *b]));
        return Ok(answer);
    }
    if !has_ports(upper.protocol) {
        return Err(DropReason::SteerNoFlow);
    }
    let [a, b, c, d] = *message.first_chunk().ok_or(unreadable)?;
    answer.server_port = u16::from_be_bytes([a, b]);
    answer.port = Some(u16::from_be_bytes([c, d]));
    if upper.protocol == proto::TCP {
        let flags = message.get(tcp::FLAGS_OFFSET);
        answer.role = flags.map_or(Role::Goes, |flags| flow::role_of_tcp(*flags));
    }
    Ok(answer)
}

/// An error about what we sent to a server.
fn read_quote(header: &[u8; ipv6::HEADER_LEN], message: &[u8]) -> Result<Answer, DropReason> {
    let foreign = DropReason::SteerQuote;
    let quote = message.get(icmpv6::ERROR_HEADER_LEN..).ok_or(foreign)?;
    let (quoted, payload) = quote
        .split_first_chunk::<{ ipv6::HEADER_LEN }>()
        .ok_or(foreign)?;
    let upper = ext::walk(quoted[6], payload).map_err(|_| foreign)?;
    if quoted[8..24] != header[24..] || !crate::ingress::is_first(&upper) {
        return Err(foreign);
    }
    let inner = payload.get(upper.offset..).unwrap_or(&[]);
    let (port, server_port) = match (upper.protocol, inner) {
        (proto::ICMPV6, [icmpv6::types::ECHO_REQUEST, _, _, _, a, b, ..]) => ([*a, *b], [0, 0]),
        (protocol, [a, b, c, d, ..]) if has_ports(protocol) => ([*a, *b], [*c, *d]),
        _ => return Err(foreign),
    };
    Ok(Answer {
        protocol: upper.protocol,
        port: Some(u16::from_be_bytes(port)),
        server: *quoted[24..].first_chunk().ok_or(foreign)?,
        server_port: u16::from_be_bytes(server_port),
        role: Role::Error,
        fragment: None,
    })
}
