//! Addresses as messages carry them: family and address, or a canonical address format (LCAF, RFC 8060).
//!
//! ```text
//! AFI 16 | address                                              0: none, 1: IPv4, 2: IPv6
//! AFI 16387 | rsvd 8 | flags 8 | type 8 | rsvd 8 | length 16 | body
//!   type 1, list:      AFI 16 | address, repeated
//!   type 2, instance:  instance 32 | AFI 16 | address
//!   type 255, vendor:  rsvd 8 | organisation 24 | ...
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::error::Error;
use super::reader::Reader;
use crate::proto::lisp::{EidKey, InstanceId};

const AFI_NONE: u16 = 0;
const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;
const AFI_LCAF: u16 = 16387;

const LCAF_LIST: u8 = 1;
const LCAF_INSTANCE: u8 = 2;
const LCAF_VENDOR: u8 = 255;

/// A format inside a format is as deep as it goes.
const DEPTH_MAX: u8 = 2;

/// An EID, without a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EidAddress {
    /// Its instance.
    pub instance: InstanceId,
    /// The address.
    pub address: IpAddr,
}

impl EidAddress {
    /// The prefix that holds nothing else.
    #[must_use]
    pub fn host(self) -> EidKey {
        EidKey {
            instance: self.instance,
            eid: IpNet::from(self.address),
        }
    }
}

/// What an address field came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// Family 0.
    Absent,
    Ip(IpAddr),
    /// An address of an instance.
    Of(InstanceId, IpAddr),
    /// An instance without an address.
    Instance,
    /// An address format that is not understood, skipped.
    Unknown(u8),
}

impl Address {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Self::parse_at(reader, 0)
    }

    fn parse_at(reader: &mut Reader<'_>, depth: u8) -> Result<Self, Error> {
        match reader.u16()? {
            AFI_NONE => Ok(Self::Absent),
            AFI_IPV4 => Ok(Self::Ip(Ipv4Addr::from_octets(reader.array()?).into())),
            AFI_IPV6 => Ok(Self::Ip(Ipv6Addr::from_octets(reader.array()?).into())),
            AFI_LCAF if depth == DEPTH_MAX => Err(Error::Nesting),
            AFI_LCAF => Self::parse_lcaf(reader, depth + 1),
            other => Err(Error::UnknownAfi(other)),
        }
    }

    /// RFC 8060 3: the length counts from behind itself; reserved fields and flags are ignored.
    fn parse_lcaf(reader: &mut Reader<'_>, depth: u8) -> Result<Self, Error> {
        let [_, _, kind, _] = reader.array()?;
        let length = reader.u16()?;
        let mut body = Reader::new(reader.take(usize::from(length))?);
        match kind {
            LCAF_LIST => Self::parse_list(&mut body, depth),
            LCAF_INSTANCE => Self::parse_instance(&mut body, depth),
            LCAF_VENDOR => {
                let [_, organisation @ ..] = body.array::<4>().map_err(|_| Error::LcafLength)?;
                let [a, b, c] = organisation;
                Err(Error::VendorLcaf(u32::from_be_bytes([0, a, b, c])))
            }
            other => Ok(Self::Unknown(other)),
        }
    }

    /// RFC 8060 4.16: somebody who understands one element may use that one. Every element is judged.
    fn parse_list(body: &mut Reader<'_>, depth: u8) -> Result<Self, Error> {
        let mut found = Self::Unknown(LCAF_LIST);
        while !body.is_empty() {
            let element = Self::inner(body, depth)?;
            if matches!(found, Self::Unknown(_)) && matches!(element, Self::Ip(_) | Self::Of(..)) {
                found = element;
            }
        }
        Ok(found)
    }

    /// RFC 8060 4.1.
    fn parse_instance(body: &mut Reader<'_>, depth: u8) -> Result<Self, Error> {
        let number = body.u32().map_err(|_| Error::LcafLength)?;
        let instance = InstanceId::new(number).ok_or(Error::InstanceId(number))?;
        let address = Self::inner(body, depth)?;
        if !body.is_empty() {
            return Err(Error::LcafLength);
        }
        match address {
            Self::Ip(address) => Ok(Self::Of(instance, address)),
            Self::Absent => Ok(Self::Instance),
            // An instance within an instance says nothing anybody could act on.
            Self::Of(..) | Self::Instance => Err(Error::Nesting),
            Self::Unknown(kind) => Ok(Self::Unknown(kind)),
        }
    }

    /// An address inside a format: where it does not fit, it is the format's length that is wrong.
    fn inner(body: &mut Reader<'_>, depth: u8) -> Result<Self, Error> {
        Self::parse_at(body, depth).map_err(|error| match error {
            Error::Truncated => Error::LcafLength,
            other => other,
        })
    }

    /// As a locator; `None` is to be ignored (RFC 9306 3).
    pub(super) fn rloc(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Absent | Self::Of(..) | Self::Instance | Self::Unknown(_) => None,
        }
    }

    /// As an EID; `None` is family 0.
    pub(super) fn eid(self) -> Result<Option<EidAddress>, Error> {
        let (instance, address) = match self {
            Self::Absent | Self::Instance => return Ok(None),
            Self::Ip(address) => (InstanceId::default(), address),
            Self::Of(instance, address) => (instance, address),
            Self::Unknown(kind) => return Err(Error::UnknownEid(kind)),
        };
        Ok(Some(EidAddress { instance, address }))
    }

    /// As an EID with a mask; bits behind the mask are cleared.
    pub(super) fn prefix(self, mask: u8) -> Result<EidKey, Error> {
        let EidAddress { instance, address } = self.eid()?.ok_or(Error::NoEid)?;
        let eid = IpNet::new(address, mask).map_err(|_| Error::MaskLength(mask))?;
        let eid = eid.trunc();
        Ok(EidKey { instance, eid })
    }
}

/// Write a locator, or family 0.
pub(super) fn emit_rloc(rloc: Option<IpAddr>, bytes: &mut Vec<u8>) {
    match rloc {
        None => bytes.extend(AFI_NONE.to_be_bytes()),
        Some(IpAddr::V4(address)) => {
            bytes.extend(AFI_IPV4.to_be_bytes());
            bytes.extend(address.octets());
        }
        Some(IpAddr::V6(address)) => {
            bytes.extend(AFI_IPV6.to_be_bytes());
            bytes.extend(address.octets());
        }
    }
}

/// Write an EID: plain in the instance 0, else with its instance.
pub(super) fn emit_eid(instance: InstanceId, address: IpAddr, bytes: &mut Vec<u8>) {
    if instance != InstanceId::default() {
        let length: u16 = if address.is_ipv4() { 10 } else { 22 };
        bytes.extend(AFI_LCAF.to_be_bytes());
        bytes.extend([0, 0, LCAF_INSTANCE, 0]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(instance.get().to_be_bytes());
    }
    emit_rloc(Some(address), bytes);
}

/// Bytes [`emit_eid`] writes.
pub(super) const fn eid_len(instance: InstanceId, address: IpAddr) -> usize {
    let plain = rloc_len(address);
    if instance.get() == 0 {
        plain
    } else {
        plain + 12
    }
}

/// Bytes [`emit_rloc`] writes.
pub(super) const fn rloc_len(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => 6,
        IpAddr::V6(_) => 18,
    }
}
