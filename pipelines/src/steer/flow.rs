//! What a packet to a service address says of its flow.
//!
//! A flow is addresses, protocol and ports; of ICMPv6 echo the identifier, of anything else addresses and protocol. An
//! ICMPv6 error belongs to the flow of the packet it quotes, which went the other way (RFC 7690 3). The flow label is not
//! looked at: a sender may change it while the flow goes on (Linux does when it retransmits).

use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::{ext, icmpv6, tcp};

use super::sessions::Tuple;
use crate::lisp::flow::{Hashed, has_ports};

/// The same on every box: boxes behind one router steer alike.
pub(super) const SEED: u64 = 0x2545_f491_4f6c_dd1d;

/// What a packet is to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It opens a TCP connection: SYN without ACK.
    Opens,
    /// Any other of a TCP connection.
    Goes,
    /// It ends one: FIN or RST.
    Ends,
    /// Of a protocol without beginning and end.
    Datagram,
    /// An ICMPv6 error about what the server sent.
    Error,
    /// A fragment without ports.
    Later,
}

/// What a packet says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// Of the addresses: client, then service.
    addresses: Hashed,
    /// What else tells flows between them apart.
    last: u64,
    pub(crate) protocol: u8,
    /// The service's port, of protocols that have some.
    pub(crate) port: Option<u16>,
    pub(crate) role: Role,
    /// Of a fragment: its identification.
    pub(crate) fragment: Option<u32>,
}

impl Read {
    /// The hash of the flow.
    #[inline(always)]
    pub(crate) fn flow(&self) -> u64 {
        self.addresses.with(self.last)
    }

    /// Where a box with this seed remembers the flow. Not made of its hash, so that neither waits for the other.
    #[inline(always)]
    pub(crate) fn spot(&self, seed: u64) -> u64 {
        self.addresses.scattered(self.last, seed)
    }

    /// The hash of everything from this client, for a pool.
    #[inline(always)]
    pub(crate) fn source(&self, salt: u64) -> u64 {
        self.addresses.with(salt)
    }

    /// The client's port or identifier, and the service's port.
    #[inline(always)]
    pub(crate) fn ports(&self) -> [u16; 2] {
        let [a, b, c, d] = (self.last as u32).to_ne_bytes(); // `as`: the lower half
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    }

    /// The hash of all fragments of this packet.
    pub(crate) fn fragments(&self, id: u32) -> u64 {
        self.addresses.with(u64::from(id) | 1 << 63)
    }
}

/// Read a packet whose IPv6 header is followed by TCP or UDP; `None`: it is another.
#[inline(always)]
pub(crate) fn read_common(packet: &[u8]) -> Option<Read> {
    let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let protocol = header[6];
    let role = match protocol {
        proto::TCP => role_of_tcp(*payload.get(tcp::FLAGS_OFFSET)?),
        proto::UDP => Role::Datagram,
        _ => return None,
    };
    let ports = *payload.first_chunk::<4>()?;
    Some(Read {
        addresses: Hashed::new(SEED, &header[8..]),
        last: last_of(protocol, ports),
        protocol,
        port: Some(u16::from_be_bytes([ports[2], ports[3]])),
        role,
        fragment: None,
    })
}

/// Read any packet. `None`: nobody can say what it belongs to.
pub(crate) fn read(packet: &[u8]) -> Option<Read> {
    if let Some(read) = read_common(packet) {
        return Some(read);
    }
    let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let upper = ext::walk(header[6], payload).ok()?;
    let whole = Read {
        addresses: Hashed::new(SEED, &header[8..]),
        last: last_of(upper.protocol, [0; 4]),
        protocol: upper.protocol,
        port: None,
        role: Role::Datagram,
        fragment: None,
    };
    let fragment = upper.fragment.filter(|fragment| !fragment.is_atomic());
    if let Some(fragment) = fragment.filter(|fragment| fragment.offset_bytes > 0) {
        return Some(Read {
            role: Role::Later,
            fragment: Some(fragment.id),
            ..whole
        });
    }
    let message = payload.get(upper.offset..).unwrap_or(&[]);
    if upper.protocol == proto::ICMPV6 && icmpv6::is_error(*message.first()?) {
        return about(header, message.get(icmpv6::ERROR_HEADER_LEN..)?);
    }
    let ports = ports_of(upper.protocol, message)?;
    Some(Read {
        last: last_of(upper.protocol, ports),
        port: has_ports(upper.protocol).then_some(u16::from_be_bytes([ports[2], ports[3]])),
        role: match upper.protocol {
            proto::TCP => message
                .get(tcp::FLAGS_OFFSET)
                .map_or(Role::Goes, |flags| role_of_tcp(*flags)),
            _ => Role::Datagram,
        },
        fragment: fragment.map(|fragment| fragment.id),
        ..whole
    })
}

/// An error about `quote`, which a server sent from the service address to a client.
fn about(header: &[u8; ipv6::HEADER_LEN], quote: &[u8]) -> Option<Read> {
    let (quoted, payload) = quote.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    if quoted[8..24] != header[24..] {
        return None;
    }
    let mut addresses = [0; 32];
    addresses[..16].copy_from_slice(&quoted[24..]);
    addresses[16..].copy_from_slice(&quoted[8..24]);
    let upper = ext::walk(quoted[6], payload).ok()?;
    let read = Read {
        addresses: Hashed::new(SEED, &addresses),
        last: last_of(upper.protocol, [0; 4]),
        protocol: upper.protocol,
        port: None,
        role: Role::Error,
        fragment: None,
    };
    if upper
        .fragment
        .is_some_and(|fragment| fragment.offset_bytes > 0)
    {
        // Its identification is the server's, and says nothing here: only the client is known.
        return Some(Read {
            role: Role::Later,
            ..read
        });
    }
    let [a, b, c, d] = ports_of(upper.protocol, payload.get(upper.offset..)?)?;
    let ports = if has_ports(upper.protocol) {
        [c, d, a, b]
    } else {
        [a, b, c, d]
    };
    Some(Read {
        last: last_of(upper.protocol, ports),
        port: has_ports(upper.protocol).then_some(u16::from_be_bytes([a, b])),
        ..read
    })
}

/// The key of the flow of a packet that was read: of an error, that of what it quotes. Of a fragment without ports nobody
/// knows it.
#[inline(always)]
pub(crate) fn tuple(packet: &[u8], read: &Read) -> Option<Tuple> {
    let header = packet.first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let (client, service) = match read.role {
        Role::Error => {
            let upper = ext::walk(header[6], packet.get(ipv6::HEADER_LEN..)?).ok()?;
            let at = ipv6::HEADER_LEN + upper.offset + icmpv6::ERROR_HEADER_LEN;
            let quoted = packet.get(at..)?.first_chunk::<{ ipv6::HEADER_LEN }>()?;
            (*quoted[24..].first_chunk()?, *quoted[8..].first_chunk()?)
        }
        Role::Later => return None,
        _ => (*header[8..].first_chunk()?, *header[24..].first_chunk()?),
    };
    let [client_port, service_port] = read.ports();
    Some(Tuple {
        client,
        service,
        client_port,
        service_port,
        protocol: read.protocol,
    })
}

/// The client of a packet that was read: where an error is about what a server sent, whom that was sent to.
pub(crate) fn client(read: &Read, packet: &[u8]) -> Option<[u8; 16]> {
    let (header, payload) = packet.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let is_error = match read.role {
        Role::Error => true,
        Role::Later => read.fragment.is_none(),
        _ => false,
    };
    if !is_error {
        return header[8..].first_chunk().copied();
    }
    let upper = ext::walk(header[6], payload).ok()?;
    let quote = payload.get(upper.offset + icmpv6::ERROR_HEADER_LEN..)?;
    quote.get(24..)?.first_chunk().copied()
}

/// Both ports, or the identifier of an echo, or nothing.
fn ports_of(protocol: u8, message: &[u8]) -> Option<[u8; 4]> {
    const ECHO: [u8; 2] = [icmpv6::types::ECHO_REQUEST, icmpv6::types::ECHO_REPLY];
    if has_ports(protocol) {
        return message.first_chunk().copied();
    }
    match message {
        [kind, _, _, _, a, b, ..] if protocol == proto::ICMPV6 && ECHO.contains(kind) => {
            Some([*a, *b, 0, 0])
        }
        _ => Some([0; 4]),
    }
}

#[inline(always)]
pub(super) fn role_of_tcp(flags: u8) -> Role {
    use tcp::flags::{ACK, FIN, RST, SYN};
    if flags & (FIN | RST) != 0 {
        Role::Ends
    } else if flags & (SYN | ACK) == SYN {
        Role::Opens
    } else {
        Role::Goes
    }
}

#[inline(always)]
pub(super) fn last_of(protocol: u8, ports: [u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(ports)) | u64::from(protocol) << 32
}
