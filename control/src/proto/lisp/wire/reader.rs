//! Takes fields off the front of a message; what is not there is [`Error::Truncated`].

use super::error::Error;

/// The bytes that were not read yet.
#[derive(Debug, Clone, Copy)]
pub(in crate::proto::lisp) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(in crate::proto::lisp) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(in crate::proto::lisp) const fn remaining(&self) -> usize {
        self.0.len()
    }

    pub(in crate::proto::lisp) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::proto::lisp) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(in crate::proto::lisp) fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (field, rest) = self.0.split_at_checked(count).ok_or(Error::Truncated)?;
        self.0 = rest;
        Ok(field)
    }

    pub(in crate::proto::lisp) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(in crate::proto::lisp) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    pub(in crate::proto::lisp) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// Before room is made for `count` things of at least `least` bytes each: whether they can be there at all.
    pub(in crate::proto::lisp) fn check_room(
        &self,
        count: usize,
        least: usize,
    ) -> Result<(), Error> {
        if count.saturating_mul(least) > self.0.len() {
            return Err(Error::Truncated);
        }
        Ok(())
    }
}
