//! Control messages as bytes (RFC 9301 5): what arrives is judged here, completely, before any machine sees it; what
//! leaves is written here.
//!
//! A message is the payload of a UDP datagram whose source or destination port is [`CONTROL_PORT`]; the datagram's
//! checksum was verified by whoever received it. Counts and lengths are checked against the bytes that are left before
//! anything is allocated. What is not known is told apart (G-06 to G-08 of the requirements): an unknown address family
//! condemns the message, and so does a vendor's address format; an unknown address format (LCAF, RFC 8060) takes away
//! the locator it stands for, or the message if an EID is made of it.
//!
//! Authentication data is carried here and computed in [`auth`]. What follows a Map-Request or a Map-Reply, such as
//! LISP-SEC's, is left alone.

mod address;
pub mod auth;
mod ecm;
mod error;
mod reader;
mod record;
mod register;
mod reply;
mod request;

#[cfg(test)]
mod tests;

pub use address::EidAddress;
pub use ecm::{Encapsulated, enclose, open};
pub use error::Error;
pub use record::{Act, LocatorRecord, Record};
pub use register::{Identity, Notify, Register, RegisterFlags, Registration};
pub use reply::{Reply, ReplyFlags};
pub use request::{Asked, ITR_RLOCS_MAX, Request, RequestFlags};

pub(in crate::proto::lisp) use reader::Reader;

pub use dataplane::wire::lisp::{CONTROL_PORT, DATA_PORT};

/// Types of messages (RFC 9301 5.1).
pub mod types {
    /// Map-Request.
    pub const MAP_REQUEST: u8 = 1;
    /// Map-Reply.
    pub const MAP_REPLY: u8 = 2;
    /// Map-Register.
    pub const MAP_REGISTER: u8 = 3;
    /// Map-Notify.
    pub const MAP_NOTIFY: u8 = 4;
    /// Map-Notify-Ack.
    pub const MAP_NOTIFY_ACK: u8 = 5;
    /// Map-Referral (RFC 8111).
    pub const MAP_REFERRAL: u8 = 6;
    /// Encapsulated Control Message.
    pub const ENCAPSULATED: u8 = 8;
    /// Shared extension (RFC 9304).
    pub const SHARED_EXTENSION: u8 = 15;
}

/// Most bytes of a message, so that its packet has the 1280 or 576 that every path takes (RFC 9301 5).
#[must_use]
pub const fn message_max(over_ipv4: bool) -> usize {
    if over_ipv4 {
        576 - 20 - 8
    } else {
        1280 - 40 - 8
    }
}

/// A control message that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Type 1.
    Request(Request),
    /// Type 2.
    Reply(Reply),
    /// Type 3.
    Register(Register),
    /// Type 4.
    Notify(Notify),
    /// Type 5, of the form of a Map-Notify.
    NotifyAck(Notify),
    /// Type 8.
    Encapsulated(Encapsulated),
    /// A type that exists and that nobody here understands, as it came: Map-Referral, shared extension.
    Other(Vec<u8>),
}

/// Type of a message, before anything else is known of it.
#[must_use]
pub fn kind(bytes: &[u8]) -> Option<u8> {
    bytes.first().map(|first| first >> 4)
}

/// Read and judge the payload of a datagram.
///
/// # Errors
/// With the first thing that is wrong; nothing of such a message is to be used.
pub fn parse(bytes: &[u8]) -> Result<Message, Error> {
    match kind(bytes).ok_or(Error::Truncated)? {
        types::MAP_REQUEST => Request::parse(bytes).map(Message::Request),
        types::MAP_REPLY => Reply::parse(bytes).map(Message::Reply),
        types::MAP_REGISTER => Register::parse(bytes).map(Message::Register),
        types::MAP_NOTIFY => Notify::parse(bytes).map(Message::Notify),
        types::MAP_NOTIFY_ACK => Notify::parse(bytes).map(Message::NotifyAck),
        types::ENCAPSULATED => Encapsulated::parse(bytes).map(Message::Encapsulated),
        types::MAP_REFERRAL | types::SHARED_EXTENSION => Ok(Message::Other(bytes.to_vec())),
        other => Err(Error::UnknownType(other)),
    }
}

/// The message as bytes. Authentication data is written as it stands; [`auth::seal`] computes it.
#[must_use]
pub fn emit(message: &Message) -> Vec<u8> {
    match message {
        Message::Request(request) => request.emit(),
        Message::Reply(reply) => reply.emit(),
        Message::Register(register) => register.emit(),
        Message::Notify(notify) => notify.emit(types::MAP_NOTIFY),
        Message::NotifyAck(ack) => ack.emit(types::MAP_NOTIFY_ACK),
        Message::Encapsulated(encapsulated) => encapsulated.emit(),
        Message::Other(bytes) => bytes.clone(),
    }
}

/// The first word of a message: type, flags as they stand in bits 4 to 23, count.
const fn first_word(kind: u8, flags: u32, count: u8) -> [u8; 4] {
    // `as`: widening, and `from` is not const
    (((kind as u32) << 28) | flags | count as u32).to_be_bytes()
}

/// Bit `number` of a word, counted from the most significant, as the RFCs count.
const fn bit(number: u32) -> u32 {
    1 << (31 - number)
}

/// How many of `things` a count of eight bits can say, and that count.
fn count_of<T>(things: &[T]) -> (&[T], u8) {
    let said = things.get(..255).unwrap_or(things);
    (said, u8::try_from(said.len()).expect("at most 255"))
}
