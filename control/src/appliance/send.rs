//! Packets to the workers: the control thread's own, with their link header, and those that it hands back.

use dataplane::ring::Injected;
use dataplane::wire::ethernet::{ETHERTYPE_QINQ, ETHERTYPE_VLAN, Mac};
use dataplane::worker::State;
use pipelines::Meta;
use pipelines::tables::InterfaceId;

use super::Appliance;
use super::discard::Discard;
use crate::platform::Platform;
use crate::proto::ndp::InterfaceIndex;
use crate::publish;

impl<P: Platform> Appliance<P> {
    /// Send a packet of our own, which starts behind the link header, by an interface.
    pub(super) fn transmit(
        &mut self,
        interface: InterfaceIndex,
        destination: Mac,
        ether_type: u16,
        packet: &[u8],
    ) {
        let Some(position) = self.slots.position(InterfaceId(interface.0)) else {
            self.discards.count(Discard::InterfaceGone);
            return;
        };
        let interface = &self.config.interfaces[position];
        let source = self.macs[interface.port];
        let mut bytes = link_header(destination, source, &interface.vlan, ether_type);
        bytes.extend_from_slice(packet);
        let port = publish::port(interface.port);
        let Some(frame) = self.platform.allocate(&bytes) else {
            self.discards.count(Discard::NoBuffer);
            return;
        };
        let worker = self.first_alive();
        self.inject(worker, Injected::Transmit { port, frame });
    }

    /// Any worker reaches every port; always the same one keeps our packets in order.
    pub(super) fn first_alive(&self) -> usize {
        let mut workers = self.workers.iter();
        let alive = workers.find(|worker| worker.status.state() != State::Dead);
        alive.map_or(0, |worker| worker.index)
    }

    /// Hand a packet to a worker.
    pub(super) fn inject(&mut self, worker: usize, packet: Injected<P::Frame, Meta>) {
        let worker = &mut self.workers[worker];
        if worker.status.state() == State::Dead {
            self.discards.count(Discard::WorkerDead);
        } else if worker.inject.push(packet).is_err() {
            self.discards.count(Discard::InjectRingFull);
        }
    }
}

/// Ethernet header with VLAN tags, priority 0. Two tags: the outer one is a service tag (IEEE 802.1ad).
fn link_header(destination: Mac, source: Mac, vlan: &[u16], ether_type: u16) -> Vec<u8> {
    let mut header = Vec::with_capacity(22);
    header.extend(destination.octets());
    header.extend(source.octets());
    let types: &[u16] = match vlan {
        [] | [_] => &[ETHERTYPE_VLAN],
        _ => &[ETHERTYPE_QINQ, ETHERTYPE_VLAN],
    };
    for (tag_type, id) in types.iter().zip(vlan) {
        header.extend(tag_type.to_be_bytes());
        header.extend(id.to_be_bytes());
    }
    header.extend(ether_type.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use dataplane::wire::ethernet::ETHERTYPE_IPV6;

    use super::*;

    #[test]
    fn link_header_has_the_tags_of_its_interface() {
        let to = Mac::from_octets([1; 6]);
        let from = Mac::from_octets([2; 6]);
        for (vlan, expected) in [
            (&[][..], &[0x86, 0xdd][..]),
            (&[100], &[0x81, 0, 0, 100, 0x86, 0xdd]),
            (&[100, 7], &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 7, 0x86, 0xdd]),
        ] {
            let header = link_header(to, from, vlan, ETHERTYPE_IPV6);
            assert_eq!(header[..6], [1; 6]);
            assert_eq!(header[6..12], [2; 6]);
            assert_eq!(&header[12..], expected);
        }
    }
}
