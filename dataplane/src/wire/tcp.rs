//! The TCP header without options (RFC 9293 3.1).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 20;
/// Where the control bits stand.
pub const FLAGS_OFFSET: usize = 13;
/// Where the checksum stands.
pub const CHECKSUM_OFFSET: usize = 16;

/// Control bits.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// The fixed part of the header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Source port.
    pub source_port: U16,
    /// Destination port.
    pub destination_port: U16,
    /// Sequence number.
    pub sequence: U32,
    /// Acknowledgement number.
    pub acknowledgement: U32,
    /// Header length in 32-bit words (4 bits), reserved (4).
    pub data_offset: u8,
    /// Control bits: [`flags`].
    pub flags: u8,
    /// Window.
    pub window: U16,
    /// Checksum.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

impl Header {
    /// Bytes of the header with its options, as the sender claims; less than [`HEADER_LEN`] is malformed.
    #[must_use]
    #[inline]
    pub const fn header_len(&self) -> usize {
        (self.data_offset >> 4) as usize * 4 // `as`: four bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_length_counts_words_and_ignores_reserved_bits() {
        let mut bytes = [0; HEADER_LEN];
        for words in 0..16_u8 {
            for reserved in 0..16 {
                bytes[12] = (words << 4) | reserved;
                let (header, _) = Header::ref_from_prefix(&bytes).expect("long enough");
                assert_eq!(header.header_len(), usize::from(words) * 4);
            }
        }
    }
}
