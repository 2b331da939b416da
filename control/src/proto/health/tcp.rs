//! One TCP connection from us to a server, by smoltcp: packets in, packets out, time given.
//!
//! A connection has an interface of its own, with one address and one socket, so that checks share nothing. It ends with a
//! reset (RFC 9293 3.10.5): neither side has to remember it, and the port can be used again at once.

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::Failure;
use super::exchange::Exchange;
use super::wire::HOP_LIMIT;

/// Bytes of an answer kept at a time, and its window.
const RECEIVE_BUFFER: usize = 4096;
/// Bytes on their way to a server: a whole request, as it is or in TLS.
const SEND_BUFFER: usize = 4096;
/// Every link carries this much IPv6 (RFC 8200 5).
const MTU: usize = 1280;

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is known yet.
    Waits,
    /// It is open, and a status came if one was asked for; the server is still at it.
    Answered(Option<u16>),
    /// The same, and nothing more is to come.
    Finished(Option<u16>),
    /// It failed.
    Failed(Failure),
}

/// A connection.
pub(super) struct Connection {
    begun: Instant,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    queues: Queues,
    /// What is said when it opens; `None`: nothing.
    exchange: Option<Exchange>,
    was_open: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Open one; the first packet is ready.
    pub(super) fn open(
        now: Instant,
        seed: u64,
        own: (Ipv6Addr, u16),
        peer: (Ipv6Addr, u16),
        exchange: Option<Exchange>,
    ) -> Self {
        let mut queues = Queues::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut queues, Moment::ZERO);
        interface.update_ip_addrs(|addresses| {
            // Length 0: everybody is on the link, and where packets go is decided elsewhere.
            addresses
                .push(IpCidr::new(own.0.into(), 0))
                .expect("room for one address");
        });
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let send_buffer = if exchange.is_some() { SEND_BUFFER } else { 1 };
        let mut socket = Socket::new(
            SocketBuffer::new(vec![0; RECEIVE_BUFFER]),
            SocketBuffer::new(vec![0; send_buffer]),
        );
        socket.set_hop_limit(Some(HOP_LIMIT));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket
            .connect(interface.context(), peer, own)
            .expect("a new socket, and ports that are not 0");
        let handle = sockets.add(socket);
        let mut connection = Self {
            begun: now,
            interface,
            sockets,
            handle,
            queues,
            exchange,
            was_open: false,
        };
        connection.poll(now);
        connection
    }

    /// A packet of the connection came, from the IPv6 header on.
    pub(super) fn receive(&mut self, packet: &[u8]) {
        self.queues.received.push_back(packet.to_vec());
    }

    /// A packet to be sent.
    pub(super) fn poll_output(&mut self) -> Option<Vec<u8>> {
        self.queues.sent.pop_front()
    }

    /// When it wants to be looked at again, though nothing came.
    pub(super) fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        let moment = self.moment(now);
        let at = self.interface.poll_at(moment, &self.sockets)?;
        Some(self.begun + Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0)))
    }

    /// Go on as far as possible.
    pub(super) fn advance(&mut self, now: Instant) -> Progress {
        self.poll(now);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        self.was_open |= socket.may_send();
        if !self.was_open {
            return match socket.state() {
                State::Closed => Progress::Failed(Failure::Refused),
                _ => Progress::Waits,
            };
        }
        let Some(exchange) = &mut self.exchange else {
            return Progress::Finished(None);
        };
        while socket.can_recv() && !exchange.is_over() {
            // Bytes that can be received are.
            let _ = socket.recv(|bytes| {
                exchange.receive(bytes);
                (bytes.len(), ())
            });
        }
        let outgoing = exchange.outgoing();
        let sent = socket.send_slice(outgoing).unwrap_or(0);
        outgoing.drain(..sent);
        let is_closed = !socket.may_recv();
        let progress = match exchange.result(is_closed) {
            None => Progress::Waits,
            Some(Err(failure)) => Progress::Failed(failure),
            Some(Ok(status)) if is_closed || exchange.is_over() => Progress::Finished(Some(status)),
            Some(Ok(status)) => Progress::Answered(Some(status)),
        };
        self.poll(now);
        progress
    }

    /// Why there is no result when time is over.
    pub(super) fn late(&self) -> Failure {
        match &self.exchange {
            Some(exchange) if self.was_open => exchange.late(),
            _ => Failure::Timeout,
        }
    }

    /// End it at once; a reset may be ready.
    pub(super) fn abort(&mut self, now: Instant) {
        self.sockets.get_mut::<Socket<'_>>(self.handle).abort();
        self.poll(now);
    }

    fn moment(&self, now: Instant) -> Moment {
        let since = now.saturating_duration_since(self.begun);
        Moment::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn poll(&mut self, now: Instant) {
        let moment = self.moment(now);
        let (queues, sockets) = (&mut self.queues, &mut self.sockets);
        self.interface.poll(moment, queues, sockets);
    }
}

/// Packets to and from smoltcp.
#[derive(Debug, Default)]
pub(super) struct Queues {
    pub(super) received: VecDeque<Vec<u8>>,
    pub(super) sent: VecDeque<Vec<u8>>,
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Moment) -> Option<(Received, Sent<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sent(&mut self.sent)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Sent<'_>> {
        Some(Sent(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

pub(super) struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

pub(super) struct Sent<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}
