//! The machine as its users see it: bytes and packets in, bytes and packets out, a clock that tests turn by hand.
