//! EID hosts that may be at any site: what neighbour discovery and the packet path see of them, and what follows for both.
//!
//! A host that is here has a route to its interface and is an EID of the site to the packet path; one of ours that is away
//! is answered for on its link, so that its packets come here and are sent after it.

use std::net::IpAddr;
use std::time::Instant;

use dataplane::frame::Frame;
use dataplane::wire::ethernet::Mac;
use pipelines::tables::InterfaceId;
use pipelines::{Family, Meta};

use super::super::Appliance;
use super::{LispState, v4_at, v6_at};
use crate::platform::Platform;
use crate::proto::lisp::wire::EidAddress;
use crate::proto::lisp::{EidKey, InstanceId};
use crate::proto::ndp::InterfaceIndex;
use crate::publish::{self, Hosts};

impl<F> LispState<F> {
    /// EID hosts that are here.
    pub(in crate::appliance) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// EID hosts of own prefixes that are at other sites.
    pub(in crate::appliance) fn away(&self) -> &std::collections::BTreeSet<EidKey> {
        &self.away
    }
}

impl<P: Platform> Appliance<P> {
    /// A packet's source may be a host that came. Neighbour discovery judges whether it is a neighbour.
    pub(in crate::appliance) fn hear(&mut self, now: Instant, frame: &P::Frame, meta: &Meta) {
        let interface = InterfaceIndex(meta.interface().0);
        if meta.is_decapsulated() || meta.is_originated() || self.instance_of(interface).is_none() {
            return;
        }
        let mac = frame.bytes().get(6..).and_then(<[u8]>::first_chunk);
        let packet = frame.bytes().get(meta.l3_offset()..).unwrap_or(&[]);
        let source = match meta.family() {
            Family::V4 => v4_at(packet, 12),
            Family::V6 => v6_at(packet, 8),
        };
        if let (Some(mac), Some(source)) = (mac, source) {
            let mac = Mac::from_octets(*mac);
            self.machine.hear(now, interface, source, mac);
        }
    }

    /// The instance whose hosts are at an interface.
    fn instance_of(&self, interface: InterfaceIndex) -> Option<InstanceId> {
        let position = self.slots.position(InterfaceId(interface.0))?;
        let interface = self.config.interfaces.get(position)?;
        publish::instance_at(&self.config, interface).map(|instance| instance.id)
    }

    /// A neighbour of a dynamic prefix spoke.
    pub(in crate::appliance) fn host_heard(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        address: IpAddr,
    ) {
        if let Some(instance) = self.instance_of(interface) {
            let eid = EidAddress { instance, address };
            self.lisp.xtr.host_heard(now, eid, interface);
            self.do_lisp_outputs(now);
        }
    }

    /// It does not answer.
    pub(in crate::appliance) fn host_silent(
        &mut self,
        now: Instant,
        interface: InterfaceIndex,
        address: IpAddr,
    ) {
        if let Some(instance) = self.instance_of(interface) {
            let eid = EidAddress { instance, address };
            self.lisp.xtr.host_silent(now, eid, interface);
            self.do_lisp_outputs(now);
        }
    }

    /// A host is at this interface, or not here.
    pub(in crate::appliance) fn set_host(&mut self, key: EidKey, at: Option<InterfaceIndex>) {
        let before = match at {
            Some(at) => self.lisp.hosts.insert(key, at),
            None => self.lisp.hosts.remove(&key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.machine.give_up(before, key.eid.addr());
        }
        if let Some(vrf) = self.lisp.vrfs.get(&key.instance) {
            self.rib.set_host(*vrf, key.eid.addr(), at.is_some());
        }
        self.outdated = true;
    }

    /// The configuration is another: hosts may be where none can be any more.
    pub(in crate::appliance) fn look_at_hosts(&mut self, now: Instant) {
        let hosts = self.lisp.hosts.iter();
        let gone = hosts.filter(|(key, at)| self.instance_of(**at) != Some(key.instance));
        let gone: Vec<(EidKey, InterfaceIndex)> = gone.map(|(key, at)| (*key, *at)).collect();
        for (key, at) in gone {
            let eid = EidAddress {
                instance: key.instance,
                address: key.eid.addr(),
            };
            self.lisp.xtr.host_silent(now, eid, at);
        }
        self.do_lisp_outputs(now);
    }

    /// Which hosts are away is another question now: links are answered for them, or no longer.
    pub(in crate::appliance) fn look_at_away(&mut self, now: Instant) {
        if self.lisp.away == *self.lisp.xtr.away() {
            return;
        }
        self.lisp.away.clone_from(self.lisp.xtr.away());
        for (position, interface) in self.config.interfaces.iter().enumerate() {
            if publish::instance_at(&self.config, interface).is_some() {
                let mac = self.macs[interface.port];
                let away = &self.lisp.away;
                let settings = publish::neighbor_discovery(&self.config, position, mac, away);
                let index = InterfaceIndex(self.slots.id(position).0);
                self.machine.set_interface(now, index, Some(settings));
            }
        }
    }
}
