//! Addresses in two words, as they stand in a packet: what a loop keeps in registers.

/// The two words of an IPv6 address.
pub(crate) type Words = [u64; 2];

/// Those of an address.
#[inline(always)]
pub(crate) fn words(address: &[u8; 16]) -> Words {
    let (words, _) = address.as_chunks();
    [0, 1].map(|word: usize| u64::from_ne_bytes(words[word]))
}

/// The address of both.
#[inline(always)]
pub(crate) fn joined(words: Words) -> [u8; 16] {
    let mut address = [0; 16];
    for (bytes, word) in address.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_ne_bytes();
    }
    address
}
