//! Turning a TCP segment round into the reset that refuses it, in its own buffer: RFC 9293 3.10.7.1.
//!
//! For services without a server, and for flows that were cut. A segment is believed when its checksum is right.

use dataplane::frame::{Frame, NoRoom};
use dataplane::wire::ethernet::{self, ETHERTYPE_IPV6};
use dataplane::wire::ipv6::{self, proto};
use dataplane::wire::tcp::{self, flags};
use dataplane::wire::{FromBytes, IntoBytes, checksum, ext};

use crate::icmp_error::{own, undo_translation};
use crate::meta::{Entry, Family, Meta};
use crate::tables::Tables;

/// Hop limit of what we originate.
const HOP_LIMIT: u8 = 64;

/// What of a segment its reset is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    source: [u8; 16],
    destination: [u8; 16],
    header: tcp::Header,
    /// SEG.LEN: data, and one for each of SYN and FIN (RFC 9293 3.4).
    len: u32,
}

impl Segment {
    /// `None`: not TCP, not a whole segment, or one whose checksum is wrong.
    fn read(packet: &[u8]) -> Option<Self> {
        let (header, rest) = ipv6::Header::ref_from_prefix(packet).ok()?;
        let payload = rest.get(..header.payload_len())?;
        let upper = ext::walk(header.next_header, payload).ok()?;
        let is_whole = upper.fragment.is_none_or(|fragment| fragment.is_atomic());
        if upper.protocol != proto::TCP || !is_whole || upper.routing_segments_left > 0 {
            return None;
        }
        let segment = payload.get(upper.offset..)?;
        if !checksum::is_valid(&header.source, &header.destination, proto::TCP, segment) {
            return None;
        }
        let (tcp, _) = tcp::Header::ref_from_prefix(segment).ok()?;
        let data = segment.len().checked_sub(tcp.header_len())?;
        let mut len = u32::try_from(data).ok()?;
        for flag in [flags::SYN, flags::FIN] {
            if tcp.flags & flag != 0 {
                len += 1;
            }
        }
        Some(Self {
            source: header.source,
            destination: header.destination,
            header: *tcp,
            len,
        })
    }

    /// "If the ACK bit is off, sequence number zero is used, `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`. If the ACK bit is
    /// on, `<SEQ=SEG.ACK><CTL=RST>`." (RFC 9293 3.10.7.1)
    fn reset(&self) -> tcp::Header {
        let (sequence, acknowledgement, flags) = if self.header.flags & flags::ACK == 0 {
            let next = self.header.sequence.get().wrapping_add(self.len);
            (0, next, flags::RST | flags::ACK)
        } else {
            (self.header.acknowledgement.get(), 0, flags::RST)
        };
        let mut header = tcp::Header {
            source_port: self.header.destination_port,
            destination_port: self.header.source_port,
            sequence: sequence.into(),
            acknowledgement: acknowledgement.into(),
            data_offset: 5 << 4,
            flags,
            window: 0.into(),
            checksum: 0.into(),
            urgent: 0.into(),
        };
        let sum = checksum::upper_layer(
            &self.destination,
            &self.source,
            proto::TCP,
            header.as_bytes(),
        );
        header.checksum = sum.into();
        header
    }
}

/// Whether this frame is a segment that is refused by a reset: "An incoming segment containing a RST is discarded"; and
/// like with ICMPv6 errors nobody is answered that is not one node.
pub(crate) fn may_answer<F: Frame>(frame: &F, meta: &Meta) -> bool {
    let bytes = frame.bytes();
    if meta.entry != Entry::Received
        || meta.family != Family::V6
        || bytes.first().is_none_or(|first| first & 1 != 0)
    {
        return false;
    }
    let packet = bytes.get(meta.l3_offset()..).unwrap_or(&[]);
    Segment::read(packet).is_some_and(|segment| {
        let is_one = segment.source[0] != 0xff && segment.source != [0; 16];
        is_one && segment.header.flags & flags::RST == 0
    })
}

/// Turn the frame into the reset that answers it. On success `meta` describes our own packet, which enters at the lookup.
///
/// # Errors
/// When the buffer has no room; the frame is then useless.
pub(crate) fn turn<F: Frame>(
    tables: &Tables,
    frame: &mut F,
    meta: &mut Meta,
) -> Result<(), NoRoom> {
    frame.trim_front(meta.l3_offset())?;
    undo_translation(tables, frame, meta);
    let segment = Segment::read(frame.bytes()).ok_or(NoRoom)?;
    let reset = segment.reset();
    frame.resize(ipv6::HEADER_LEN + tcp::HEADER_LEN)?;
    let payload_len = tcp::HEADER_LEN as u16; // `as`: 20
    let header = ipv6::Header::new(
        segment.destination.into(),
        segment.source.into(),
        proto::TCP,
        HOP_LIMIT,
        payload_len,
    );
    let (to_header, to_reset) = frame
        .bytes_mut()
        .split_at_mut_checked(ipv6::HEADER_LEN)
        .ok_or(NoRoom)?;
    to_header.copy_from_slice(header.as_bytes());
    to_reset.copy_from_slice(reset.as_bytes());
    frame.prepend(ethernet::HEADER_LEN)?;
    frame.bytes_mut()[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
    *meta = own(meta, 14); // ethernet::HEADER_LEN
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: u8, sequence: u32, acknowledgement: u32, data: usize) -> Segment {
        let header = tcp::Header {
            source_port: 1000.into(),
            destination_port: 443.into(),
            sequence: sequence.into(),
            acknowledgement: acknowledgement.into(),
            data_offset: 5 << 4,
            flags,
            window: 9.into(),
            checksum: 0.into(),
            urgent: 0.into(),
        };
        let (source, destination) = ([1; 16], [2; 16]);
        let mut bytes = [header.as_bytes(), &vec![7; data]].concat();
        let sum = checksum::upper_layer(&source, &destination, proto::TCP, &bytes);
        bytes[tcp::CHECKSUM_OFFSET..][..2].copy_from_slice(&sum.to_be_bytes());
        let payload_len = u16::try_from(bytes.len()).unwrap();
        let ip = ipv6::Header::new(
            source.into(),
            destination.into(),
            proto::TCP,
            9,
            payload_len,
        );
        let packet = [ip.as_bytes(), &bytes].concat();
        for len in 0..packet.len() {
            assert_eq!(Segment::read(&packet[..len]), None);
        }
        if data > 10 {
            let mut damaged = packet.clone();
            damaged[70] ^= 1;
            assert_eq!(Segment::read(&damaged), None);
        }
        Segment::read(&packet).expect("it is right")
    }

    /// RFC 9293 3.10.7.1, with and without ACK, and the length of what is acknowledged.
    #[test]
    fn a_reset_has_the_numbers_that_its_receiver_believes() {
        use flags::{ACK, FIN, PSH, SYN};
        for (flags, sequence, acknowledgement, data, expected) in [
            (SYN, 100, 0, 0, (0, 101, RST_ACK)),
            (SYN, u32::MAX, 7, 0, (0, 0, RST_ACK)),
            (SYN | FIN, 100, 0, 11, (0, 113, RST_ACK)),
            (0, 100, 0, 12, (0, 112, RST_ACK)),
            (ACK, 100, 77, 12, (77, 0, flags::RST)),
            (ACK | PSH, 100, 0, 0, (0, 0, flags::RST)),
            (SYN | ACK, 100, 78, 0, (78, 0, flags::RST)),
        ] {
            let reset = segment(flags, sequence, acknowledgement, data).reset();
            let found = (
                reset.sequence.get(),
                reset.acknowledgement.get(),
                reset.flags,
            );
            assert_eq!(found, expected, "{flags:#x}");
            assert_eq!(
                (reset.source_port.get(), reset.destination_port.get()),
                (443, 1000)
            );
            assert!(checksum::is_valid(
                &[2; 16],
                &[1; 16],
                proto::TCP,
                reset.as_bytes()
            ));
        }
    }

    const RST_ACK: u8 = flags::RST | flags::ACK;
}
