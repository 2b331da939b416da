//! Packets from the workers: to neighbour discovery, to the echo responder, or to wait for their next hop; and what the
//! protocols then want.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use dataplane::frame::Frame;
use dataplane::reason::PuntReason;
use dataplane::ring::{Injected, Punted};
use dataplane::wire::ethernet::{ETHERTYPE_IPV6, Mac};
use pipelines::Meta;
use pipelines::tables::InterfaceId;

use super::Appliance;
use super::discard::Discard;
use crate::platform::Platform;
use crate::proto::echo;
use crate::proto::ndp::{Event, Handled, InterfaceIndex, Output, RefusedReason};
use crate::publish;

/// Packets taken from one worker in one tick, so that timers and questions are never kept waiting for long.
const PUNTS_PER_TICK: usize = 256;

/// A packet that waits for its next hop.
pub(super) enum Waiting<F> {
    /// One that a worker handed over.
    Punted {
        /// The worker.
        worker: usize,
        frame: F,
        meta: Meta,
    },
    /// One of our own to a link-local destination, which no prefix table can find.
    Own {
        interface: InterfaceIndex,
        destination: Ipv6Addr,
        /// From the IPv6 header on.
        packet: Vec<u8>,
    },
}

impl<P: Platform> Appliance<P> {
    /// Take what the workers handed over.
    pub(super) fn receive_punts(&mut self, now: Instant) {
        self.more_punts = false;
        for worker in 0..self.workers.len() {
            for _ in 0..PUNTS_PER_TICK {
                let Ok(punted) = self.workers[worker].punts.pop() else {
                    break;
                };
                self.last_packet = now;
                self.receive(now, worker, punted);
            }
            self.more_punts |= !self.workers[worker].punts.is_empty();
        }
    }

    fn receive(&mut self, now: Instant, worker: usize, punted: Punted<P::Frame, Meta>) {
        let Punted {
            frame,
            meta,
            reason,
        } = punted;
        match reason {
            // Local: queries of multicast listener discovery.
            PuntReason::NeighborDiscovery | PuntReason::Local => self.discover(now, &frame, &meta),
            PuntReason::Echo => self.reply(now, worker, &frame, &meta),
            PuntReason::NeighborMiss => self.resolve(now, worker, frame, meta),
            // Neighbour discovery is all that is spoken here.
            PuntReason::Arp => self.discards.count(Discard::NotNeighbor),
        }
    }

    fn discover(&mut self, now: Instant, frame: &P::Frame, meta: &Meta) {
        let source_mac = frame.bytes().get(6..).and_then(<[u8]>::first_chunk);
        let packet = frame.bytes().get(meta.l3_offset()..);
        let (Some(source_mac), Some(packet)) = (source_mac, packet) else {
            self.discards.count(Discard::NdInvalid);
            return;
        };
        let interface = InterfaceIndex(meta.interface().0);
        let mac = Mac::from_octets(*source_mac);
        if let Handled::Invalid(reason) = self.machine.handle_input(now, interface, mac, packet) {
            tracing::debug!(
                "neighbour discovery message from {mac} is invalid: {}",
                reason.text()
            );
            self.discards.count(Discard::NdInvalid);
        }
    }

    /// Answer an echo request.
    fn reply(&mut self, now: Instant, worker: usize, frame: &P::Frame, meta: &Meta) {
        let id = meta.interface();
        let Some(position) = self.slots.position(id) else {
            self.discards.count(Discard::InterfaceGone);
            return;
        };
        let interface = &self.config.interfaces[position];
        let own = publish::link_local(interface, self.macs[interface.port]);
        let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
        let Ok(reply) = echo::reply(packet, own) else {
            self.discards.count(Discard::EchoUnanswerable);
            return;
        };
        let destination: [u8; 16] = *reply
            .get(24..)
            .and_then(<[u8]>::first_chunk)
            .expect("a reply has an IPv6 header");
        let destination = Ipv6Addr::from(destination);
        if destination.is_unicast_link_local() {
            let waiting = Waiting::Own {
                interface: InterfaceIndex(id.0),
                destination,
                packet: reply,
            };
            self.wait(now, id, destination.into(), waiting);
            return;
        }
        // The way back is the prefix table's to say; a worker overwrites the link header.
        let mut bytes = vec![0; 14]; // ethernet::HEADER_LEN
        bytes.extend(reply);
        match self.platform.allocate(&bytes) {
            Some(frame) => {
                let meta = Meta::originate(id);
                self.inject(worker, Injected::Resume { frame, meta });
            }
            None => self.discards.count(Discard::NoBuffer),
        }
    }

    /// A packet whose next hop has no MAC address in the tables it met.
    fn resolve(&mut self, now: Instant, worker: usize, frame: P::Frame, meta: Meta) {
        let unresolved = self.publisher.current().unresolved(&frame, &meta);
        let waiting = Waiting::Punted {
            worker,
            frame,
            meta,
        };
        match unresolved {
            Some((id, address)) => self.wait(now, id, address, waiting),
            // Newer tables know what to do with it.
            None => self.resume(waiting),
        }
    }

    fn wait(&mut self, now: Instant, id: InterfaceId, address: IpAddr, packet: Waiting<P::Frame>) {
        let interface = InterfaceIndex(id.0);
        let Err(refused) = self.machine.resolve(now, interface, address, packet) else {
            return;
        };
        self.discards.count(match refused.reason {
            RefusedReason::InterfaceDown => Discard::InterfaceGone,
            RefusedReason::NotOnLink => Discard::NotNeighbor,
            RefusedReason::QueueFull => Discard::NeighborQueueFull,
            RefusedReason::CacheFull
            | RefusedReason::TooManyIncomplete
            | RefusedReason::RateLimited => Discard::ResolutionLimit,
        });
    }

    /// Do what neighbour discovery and ARP want.
    pub(super) fn do_outputs(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Transmit {
                    interface,
                    destination_mac,
                    ether_type,
                    packet,
                } => self.transmit(interface, destination_mac, ether_type, &packet),
                Output::NeighborsChanged => self.outdated = true,
                Output::Ready(waiting) if self.outdated => self.ready.push(waiting),
                Output::Ready(waiting) => self.resume(waiting),
                Output::Failed(waiting) => self.fail(waiting),
                Output::Event(event) => self.log(&event),
            }
        }
    }

    /// The next hop is known, and in the published tables.
    pub(super) fn resume(&mut self, waiting: Waiting<P::Frame>) {
        match waiting {
            Waiting::Punted {
                worker,
                frame,
                meta,
            } => self.inject(worker, Injected::Resume { frame, meta }),
            Waiting::Own {
                interface,
                destination,
                packet,
            } => match self.machine.usable(interface, destination.into()) {
                Some(mac) => self.transmit(interface, mac, ETHERTYPE_IPV6, &packet),
                None => self.discards.count(Discard::NeighborUnresolved),
            },
        }
    }

    /// The next hop does not answer: tell the packet's source (RFC 4861 7.2.2), unless that is us.
    fn fail(&mut self, waiting: Waiting<P::Frame>) {
        match waiting {
            Waiting::Punted {
                worker,
                frame,
                meta,
            } if !meta.is_originated() => {
                let meta = meta.unreachable();
                self.inject(worker, Injected::Resume { frame, meta });
            }
            Waiting::Punted { .. } | Waiting::Own { .. } => {
                self.discards.count(Discard::NeighborUnresolved);
            }
        }
    }

    /// What the operator calls an interface.
    pub(super) fn interface_name(&self, interface: InterfaceIndex) -> &str {
        let position = self.slots.position(InterfaceId(interface.0));
        position.map_or("a removed interface", |position| {
            &self.config.interfaces[position].name
        })
    }

    fn log(&mut self, event: &Event) {
        match event {
            Event::AddressValid { interface, address } => {
                // The address may be used from now on: tables have it.
                self.outdated = true;
                tracing::info!(
                    "{}: address {address} is ours",
                    self.interface_name(*interface)
                );
            }
            Event::AddressDuplicate {
                interface,
                address,
                by,
            } => {
                self.outdated = true;
                tracing::error!(
                    "{}: address {address} is not used: {by} has it already",
                    self.interface_name(*interface)
                );
            }
            Event::AddressConflict {
                interface,
                address,
                by,
            } => tracing::warn!(
                "{}: {by} claims our address {address}",
                self.interface_name(*interface)
            ),
            Event::ProbeLooped { interface, address } => tracing::warn!(
                "{}: our own probe for {address} came back: the link loops frames",
                self.interface_name(*interface)
            ),
            Event::GatewayResolved {
                interface,
                address,
                mac,
            } => tracing::info!(
                "{}: gateway {address} is at {mac}",
                self.interface_name(*interface)
            ),
            Event::GatewayUnreachable { interface, address } => tracing::warn!(
                "{}: gateway {address} does not answer",
                self.interface_name(*interface)
            ),
            Event::NeighborMoved {
                interface,
                address,
                from,
                to,
            } => tracing::info!(
                "{}: neighbour {address} moved from {from} to {to}",
                self.interface_name(*interface)
            ),
            Event::GatewayNotRouter { interface, address } => tracing::warn!(
                "{}: gateway {address} says that it is no router any more",
                self.interface_name(*interface)
            ),
            Event::CacheFull { interface } => tracing::warn!(
                "{}: the neighbour cache is full of neighbours in use",
                self.interface_name(*interface)
            ),
        }
    }
}
