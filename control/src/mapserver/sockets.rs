//! The UDP sockets of a Map-Server: port 4342 of each of its addresses.
//!
//! Datagrams are taken and given many at a time, because a system call for each costs more than most answers. Answers of
//! one length to one destination go out as one large datagram, which the kernel, or the card, cuts (`UDP_SEGMENT`):
//! it finds the way and passes the firewall once. Where the kernel refuses that they go out one by one.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::task::Poll;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
};
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::proto::lisp::mapserver::Input;
use crate::proto::lisp::wire::CONTROL_PORT;

/// Room for datagrams that wait while the one thread does something else: a burst of registrations after a restart.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Datagrams of one system call.
pub(super) const BATCH: usize = 64;
/// Longest datagram.
const DATAGRAM_MAX: usize = 65_535;
/// From the start of one datagram to that of the next. No power of two, or the starts of all of them, which is what is
/// used of most, would share a few places of the processor's caches.
const STRIDE: usize = DATAGRAM_MAX + 1 + 5 * 64;
/// Bytes the kernel takes as one datagram to be cut.
const SEGMENTED_MAX: usize = 65_000;

/// A message to be sent.
#[derive(Debug)]
pub(super) struct Datagram {
    /// The own address it should come from; none: the first of the family.
    pub(super) from: Option<IpAddr>,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// Where datagrams are received to.
#[derive(Debug)]
pub(super) struct Room(Vec<u8>);

impl Room {
    pub(super) fn new() -> Self {
        Self(vec![0; BATCH * STRIDE])
    }
}

/// One of them.
struct Own {
    local: SocketAddr,
    socket: UdpSocket,
    /// Of received datagrams. Not shared: the kernel leaves the length of an address in it, which depends on the family.
    received: MultiHeaders<SockaddrStorage>,
    sent: MultiHeaders<SockaddrStorage>,
}

/// The sockets.
pub(super) struct Sockets {
    sockets: Vec<Own>,
}

impl Sockets {
    /// A socket for each address. To be called within the runtime.
    pub(super) fn bind(addresses: &[IpAddr]) -> Result<Self, (SocketAddr, io::Error)> {
        let bind = |address: &IpAddr| {
            let local = SocketAddr::new(*address, CONTROL_PORT);
            let socket = std::net::UdpSocket::bind(local).map_err(|error| (local, error))?;
            // As much as the kernel allows; what it allows is its administrator's business.
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
            let socket = socket
                .set_nonblocking(true)
                .and_then(|()| UdpSocket::from_std(socket));
            Ok(Own {
                local,
                socket: socket.map_err(|error| (local, error))?,
                received: MultiHeaders::preallocate(BATCH, None),
                sent: MultiHeaders::preallocate(BATCH, None),
            })
        };
        let sockets = addresses.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Until a datagram is there.
    pub(super) async fn readable(&self) {
        poll_fn(|context| {
            let mut ready = Poll::Pending;
            // All are asked, so that each of them wakes us.
            for own in &self.sockets {
                if own.socket.poll_recv_ready(context).is_ready() {
                    ready = Poll::Ready(());
                }
            }
            ready
        })
        .await;
    }

    /// Take at most [`BATCH`] datagrams of one of the sockets; how many there were. The kernel has verified their
    /// checksums.
    pub(super) fn receive(
        &mut self,
        at: usize,
        room: &mut Room,
        take: impl FnOnce(&[Input<'_>]),
    ) -> usize {
        let Some(own) = self.sockets.get_mut(at) else {
            return 0;
        };
        let (to, socket, received) = (own.local, &own.socket, &mut own.received);
        let chunks = room.0.chunks_exact_mut(STRIDE);
        let mut slices: Vec<_> = chunks.map(|chunk| [IoSliceMut::new(chunk)]).collect();
        let messages = socket.try_io(Interest::READABLE, || {
            let flags = MsgFlags::MSG_DONTWAIT;
            let messages = recvmmsg(socket.as_raw_fd(), received, &mut slices, flags, None);
            Ok(messages?)
        });
        let Ok(messages) = messages else {
            return 0;
        };
        let inputs: Vec<Input<'_>> = messages
            .filter_map(|message| {
                let from = message.address.and_then(of_kernel)?;
                let bytes = message.iovs().next()?;
                Some(Input { from, to, bytes })
            })
            .collect();
        take(&inputs);
        inputs.len()
    }

    /// Send all of them; how many the kernel did not take. What goes to one destination keeps its order, but for
    /// messages of different lengths.
    pub(super) fn send(&mut self, datagrams: &mut Vec<Datagram>) -> u64 {
        let way = |one: &Datagram| (one.from, one.to.is_ipv4());
        datagrams.sort_by_key(|one| (way(one), one.to));
        let mut unsent = 0;
        for ours in datagrams.chunk_by(|one, next| way(one) == way(next)) {
            let own = ours.first().and_then(|one| self.own(way(one)));
            unsent += match own {
                Some(own) => own.send(ours),
                None => count(ours.len()),
            };
        }
        datagrams.clear();
        unsent
    }

    /// The socket of this address, or the first of the family.
    fn own(&mut self, (from, is_ipv4): (Option<IpAddr>, bool)) -> Option<&mut Own> {
        let own = |own: &Own| Some(own.local.ip()) == from;
        let family = |own: &Own| own.local.is_ipv4() == is_ipv4;
        let at = self.sockets.iter().position(own);
        let at = at.or_else(|| self.sockets.iter().position(family))?;
        self.sockets.get_mut(at)
    }
}

impl Own {
    /// Send what is sorted by destination; how many the kernel did not take.
    fn send(&mut self, datagrams: &[Datagram]) -> u64 {
        let mut single = Vec::with_capacity(BATCH);
        let mut rest = datagrams;
        while !rest.is_empty() {
            let (group, after) = rest.split_at(cuttable(rest));
            rest = after;
            if group.len() == 1 || !self.send_cut(group) {
                single.extend(group);
            }
        }
        single
            .chunks(BATCH)
            .map(|batch| self.send_each(batch))
            .sum()
    }

    /// All as one datagram to be cut; whether the kernel took it.
    fn send_cut(&self, group: &[Datagram]) -> bool {
        let Some(first) = group.first() else {
            return true;
        };
        let Ok(length) = u16::try_from(first.bytes.len()) else {
            return false;
        };
        let slices: Vec<_> = group.iter().map(|one| IoSlice::new(&one.bytes)).collect();
        let to = SockaddrStorage::from(first.to);
        let cut = [ControlMessage::UdpGsoSegments(&length)];
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        sendmsg(fd, &slices, &cut, flags, Some(&to)).is_ok()
    }

    /// At most [`BATCH`], each by itself; how many the kernel did not take.
    fn send_each(&mut self, batch: &[&Datagram]) -> u64 {
        let slices = batch.iter().map(|one| [IoSlice::new(&one.bytes)]);
        let slices: Vec<_> = slices.collect();
        let addresses = batch.iter().map(|one| Some(one.to.into()));
        let addresses: Vec<Option<SockaddrStorage>> = addresses.collect();
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let (mut at, mut unsent) = (0, 0);
        while let (Some(slices @ [_, ..]), Some(addresses)) =
            (slices.get(at..), addresses.get(at..))
        {
            match sendmmsg(fd, &mut self.sent, slices, addresses, [], flags) {
                Ok(sent) => at += sent.count().max(1),
                Err(Errno::EINTR) => {}
                Err(_) => {
                    // The first of them; what follows may go elsewhere.
                    at += 1;
                    unsent += 1;
                }
            }
        }
        unsent
    }
}

/// `as`: widening.
const fn count(length: usize) -> u64 {
    length as u64
}

/// How many of these, from the first, can go as one: those of its length to its destination.
fn cuttable(datagrams: &[Datagram]) -> usize {
    let Some(first) = datagrams.first() else {
        return 0;
    };
    let length = first.bytes.len();
    let fits = SEGMENTED_MAX
        .checked_div(length)
        .unwrap_or(0)
        .clamp(1, BATCH);
    let same = |one: &&Datagram| one.to == first.to && one.bytes.len() == length;
    datagrams.iter().take(fits).take_while(same).count()
}

fn of_kernel(address: SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address
        .as_sockaddr_in()
        .map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| {
        address
            .as_sockaddr_in6()
            .map(|v6| SocketAddr::V6((*v6).into()))
    })
}
