//! Why a control message is not used.

/// One reason for each thing that can be wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A field, or as many records as are announced, do not fit in the bytes that are left.
    #[error("the message is shorter than it says")]
    Truncated,
    /// Unassigned (RFC 9301 5.1).
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// RFC 9301 5.1: such a message is dropped, wherever in it the family stands.
    #[error("unknown address family {0}")]
    UnknownAfi(u16),
    /// RFC 9306 4: the whole message is dropped.
    #[error("vendor's address format of organisation {0:06x}")]
    VendorLcaf(u32),
    /// RFC 9306 3: an EID that is made of what is not understood.
    #[error("an EID in the unknown address format {0}")]
    UnknownEid(u8),
    /// Address formats inside address formats inside address formats.
    #[error("address formats nested too deep")]
    Nesting,
    /// The length of an address format disagrees with what is in it.
    #[error("an address format with a wrong length")]
    LcafLength,
    /// More than the 24 bits that fit in a data packet's header (RFC 9300 8).
    #[error("instance id {0} has more than 24 bits")]
    InstanceId(u32),
    /// A mask longer than the address.
    #[error("an EID mask of {0} bits is longer than the address")]
    MaskLength(u8),
    /// An EID of family 0.
    #[error("an EID record without an EID")]
    NoEid,
    /// RFC 9301 5.2: nobody the answer could go to.
    #[error("a Map-Request without an ITR-RLOC that is understood")]
    NoItrRloc,
    /// Nothing is asked or said.
    #[error("a message without records")]
    NoRecords,
    /// The I-bit is set and xTR-ID and Site-ID are not there.
    #[error("xTR-ID and Site-ID are announced and missing")]
    NoIdentity,
    /// Authentication data longer than that of any algorithm.
    #[error("authentication data of {0} bytes")]
    MacLength(u16),
    /// Bytes after the last record that are no xTR-ID and Site-ID.
    #[error("{0} bytes after the last record")]
    Trailing(usize),
    /// LISP-SEC data in front of an encapsulated message (RFC 9303), which nothing here can judge.
    #[error("an encapsulated message with LISP-SEC data")]
    Security,
    /// Neither IPv4 nor IPv6 inside.
    #[error("encapsulated packet of IP version {0}")]
    InnerVersion(u8),
    /// An inner IP header that is not one, or longer than the packet.
    #[error("encapsulated packet with a wrong IP header")]
    InnerHeader,
    /// A piece of a packet inside.
    #[error("encapsulated fragment")]
    InnerFragment,
    /// Not UDP inside.
    #[error("encapsulated packet of protocol {0}")]
    InnerProtocol(u8),
    /// An inner UDP length that fits nothing.
    #[error("encapsulated datagram with a wrong length")]
    InnerLength,
    /// RFC 9301 5.8: it must be computed, and right.
    #[error("encapsulated datagram without a right checksum")]
    InnerChecksum,
    /// RFC 9301 5.8: neither port is that of data packets.
    #[error("encapsulated datagram with the port of data packets")]
    InnerPort,
    /// RFC 9301 5.8: only Map-Requests travel in one.
    #[error("encapsulated message of type {0}")]
    InnerType(u8),
    /// RFC 9301 5.2: a probe goes to the RLOC it probes, never through the mapping system.
    #[error("encapsulated probe")]
    InnerProbe,
}

impl Error {
    /// A word for it, for counters.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::UnknownType(_) => "unknown_type",
            Self::UnknownAfi(_) => "unknown_afi",
            Self::VendorLcaf(_) => "vendor_lcaf",
            Self::UnknownEid(_) => "unknown_eid",
            Self::Nesting => "nesting",
            Self::LcafLength => "lcaf_length",
            Self::InstanceId(_) => "instance_id",
            Self::MaskLength(_) => "mask_length",
            Self::NoEid => "no_eid",
            Self::NoItrRloc => "no_itr_rloc",
            Self::NoRecords => "no_records",
            Self::NoIdentity => "no_identity",
            Self::MacLength(_) => "mac_length",
            Self::Trailing(_) => "trailing",
            Self::Security => "security",
            Self::InnerVersion(_) => "inner_version",
            Self::InnerHeader => "inner_header",
            Self::InnerFragment => "inner_fragment",
            Self::InnerProtocol(_) => "inner_protocol",
            Self::InnerLength => "inner_length",
            Self::InnerChecksum => "inner_checksum",
            Self::InnerPort => "inner_port",
            Self::InnerType(_) => "inner_type",
            Self::InnerProbe => "inner_probe",
        }
    }
}
