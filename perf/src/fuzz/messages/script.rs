//! An input read as a script: each step takes the bytes it needs, and a script that is over gives zeros, so that every
//! input is one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use control::proto::lisp::wire::{
    Act, Asked, CONTROL_PORT, EidAddress, Encapsulated, LocatorRecord, Message, Record, Request,
    RequestFlags,
};
use control::proto::lisp::{EidKey, InstanceId, Locator};
use dataplane::testing::fault::Rng;
use ipnet::IpNet;

/// Addresses of everybody there is: few, so that they meet.
const RLOCS: [&str; 8] = [
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.9",
    "2001:db8:ffff::1",
    "2001:db8:ffff::2",
    "2001:db8:ffff::9",
    "224.0.0.1",
    "::",
];
/// What EIDs are made of.
const EIDS: [&str; 6] = [
    "10.1.0.0",
    "10.2.0.0",
    "2001:db8:a::",
    "2001:db8:b::",
    "0.0.0.0",
    "::",
];
/// Minutes.
const TTLS: [u32; 8] = [0, 1, 2, 15, 60, 1440, u32::MAX - 1, Record::TTL_UNSAID];
/// Milliseconds.
const PAUSES: [u64; 12] = [
    0, 1, 100, 1000, 1001, 3000, 20_000, 31_000, 60_000, 181_000, 900_000, 86_400_000,
];
/// Longest message of bytes as they stand.
const RAW_MAX: usize = 400;

pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub fn u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        bytes.fill_with(|| self.u8());
        u64::from_be_bytes(bytes)
    }

    pub fn is(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// One of so many, which are not more than 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u8()) % bound.max(1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Bytes as they stand.
    pub fn raw(&mut self) -> Vec<u8> {
        let length = usize::from(self.u16()) % RAW_MAX;
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }

    pub fn address(&mut self) -> IpAddr {
        parsed(self.one_of(&RLOCS))
    }

    /// Most often from the control port, and never from what can be no packet's source.
    pub fn from(&mut self) -> SocketAddr {
        let address = parsed(self.one_of(&RLOCS[..6]));
        match self.u8() {
            port @ 1..16 => SocketAddr::new(address, u16::from(port) << 12),
            _ => SocketAddr::new(address, CONTROL_PORT),
        }
    }

    pub fn eid(&mut self) -> EidAddress {
        let EidKey { instance, eid } = self.key();
        EidAddress {
            instance,
            address: eid.addr(),
        }
    }

    pub fn key(&mut self) -> EidKey {
        let instance = if self.u8() < 192 { 0 } else { 7 };
        let base: IpAddr = parsed(self.one_of(&EIDS));
        let bits = self.u8();
        let address = match base {
            IpAddr::V4(address) => IpAddr::V4((u32::from(address) | u32::from(bits) << 4).into()),
            IpAddr::V6(address) => {
                IpAddr::V6((u128::from(address) | u128::from(bits) << 60).into())
            }
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match self.u8() {
            0..100 => most,
            100..160 => most / 2,
            160..200 => most / 8 * 3,
            other => other % (most + 1),
        };
        let eid = IpNet::new(address, length).expect("not longer than the address");
        EidKey {
            instance: InstanceId::new(instance).expect("a small number"),
            eid: eid.trunc(),
        }
    }

    pub fn record(&mut self, key: EidKey) -> Record {
        let count = match self.u8() {
            0..48 => 0,
            160.. => 12,
            other => 1 + other % 3,
        };
        let locators = (0..count).map(|_| {
            let (rloc, priority, weight, flags) = (self.address(), self.u8(), self.u8(), self.u8());
            LocatorRecord {
                is_local: flags & 1 != 0,
                is_probed: flags & 2 != 0,
                ..LocatorRecord::new(Locator {
                    rloc,
                    priority,
                    weight,
                    up: flags & 4 == 0,
                })
            }
        });
        let locators = locators.collect();
        Record {
            key,
            ttl_minutes: self.one_of(&TTLS),
            act: Act::new(self.u8() & 7).expect("three bits"),
            is_authoritative: self.is(),
            map_version: u16::from(self.u8()),
            locators,
        }
    }

    /// One record for the prefix, or for what is around it; then others.
    pub fn records(&mut self, key: EidKey) -> Vec<Record> {
        let around = match self.u8() {
            shorter @ 0..64 => IpNet::new(
                key.eid.addr(),
                key.eid.prefix_len().saturating_sub(shorter / 2),
            ),
            _ => Ok(key.eid),
        };
        let eid = around.expect("shorter than it was").trunc();
        let mut records = vec![self.record(EidKey { eid, ..key })];
        for _ in 0..self.below(4) {
            let key = self.key();
            records.push(self.record(key));
        }
        records
    }

    /// A Map-Request, plain or encapsulated, for one of these or for another EID.
    pub fn request(&mut self, keys: &[EidKey]) -> Message {
        let nonce = self.u64();
        let itr_rlocs = (0..=self.below(3)).map(|_| self.address()).collect();
        let key = match self.u8() {
            0..64 => self.key(),
            other => match keys.get(usize::from(other) % keys.len().max(1)) {
                Some(key) => *key,
                None => self.key(),
            },
        };
        let flags = self.u8();
        let mut request = Request {
            flags: RequestFlags {
                authoritative: flags & 1 != 0,
                probe: flags & 6 == 6,
                solicit: flags & 28 == 28,
                pitr: flags & 32 != 0,
                smr_invoked: flags & 64 != 0,
                local_xtr: false,
                no_reply: flags & 224 == 224,
            },
            source: self.is().then(|| self.eid()),
            ..Request::new(nonce, itr_rlocs, key)
        };
        for _ in 0..self.below(8).saturating_sub(4) {
            request.asked.push(Asked {
                key: self.key(),
                subscribe: false,
            });
        }
        if self.below(8) == 0 {
            let key = self.key();
            request.own = Some(self.record(key));
        }
        if self.is() {
            return Message::Request(request);
        }
        request.flags.probe = false;
        let destination = key.eid.addr();
        let mut source = self.address();
        if source.is_ipv4() != destination.is_ipv4() {
            source = destination;
        }
        Message::Encapsulated(Encapsulated {
            ddt: false,
            source: SocketAddr::new(source, CONTROL_PORT),
            destination: SocketAddr::new(destination, CONTROL_PORT),
            request,
        })
    }

    /// Three of four messages stay as they are; the others get a few faults.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        if self.u8() < 192 {
            return;
        }
        for _ in 0..=self.below(4) {
            let at = usize::from(self.u16()) % bytes.len().max(1);
            let (kind, value) = (self.u8(), self.u8());
            match kind % 5 {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), value),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 => bytes.extend([value; 24]),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= value;
                    }
                }
            }
        }
    }

    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.one_of(&PAUSES))
    }
}

fn parsed(text: &str) -> IpAddr {
    text.parse().expect("a constant of this file")
}

/// Scripts in which every kind of step comes first, and long ones of everything.
pub fn seeds(steps: u8) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(u64::from(steps));
    let lengths = (0..steps).map(|_| 24).chain([100, 200, 400, 800, 1200]);
    let filled = lengths.zip(0..).map(|(length, first)| {
        let mut bytes = vec![0; length];
        rng.fill(&mut bytes);
        bytes[0] = first;
        bytes
    });
    filled.collect()
}
