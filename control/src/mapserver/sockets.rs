//! The UDP sockets of a Map-Server: port 4342 of each of its addresses.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use rustix::net::sockopt;
use tokio::net::UdpSocket;

use crate::proto::lisp::wire::CONTROL_PORT;

/// Room for datagrams that wait while the one thread does something else: a burst of registrations after a restart.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    sockets: Vec<(SocketAddr, UdpSocket)>,
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
            Ok((local, socket.map_err(|error| (local, error))?))
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
            for (_, socket) in &self.sockets {
                if socket.poll_recv_ready(context).is_ready() {
                    ready = Poll::Ready(());
                }
            }
            ready
        })
        .await;
    }

    /// A datagram from one of the sockets: its length, where from, where to. The kernel has verified its checksum.
    pub(super) fn receive(
        &self,
        at: usize,
        buffer: &mut [u8],
    ) -> Option<(usize, SocketAddr, SocketAddr)> {
        let (local, socket) = self.sockets.get(at)?;
        loop {
            match socket.try_recv_from(buffer) {
                Ok((length, from)) => return Some((length, from, *local)),
                // Of an earlier datagram that nobody took; told once.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return None,
            }
        }
    }

    /// Send from this address, or from the first of the family; whether the kernel took it.
    pub(super) fn send(&self, from: Option<IpAddr>, to: SocketAddr, bytes: &[u8]) -> bool {
        let own = |(local, _): &&(SocketAddr, UdpSocket)| Some(local.ip()) == from;
        let family = |(local, _): &&(SocketAddr, UdpSocket)| local.is_ipv4() == to.is_ipv4();
        let socket = self.sockets.iter().find(own);
        let socket = socket.or_else(|| self.sockets.iter().find(family));
        socket.is_some_and(|(_, socket)| socket.try_send_to(bytes, to).is_ok())
    }
}
