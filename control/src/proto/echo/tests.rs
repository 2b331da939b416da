//! Known bytes in, known bytes out.
