//! Registers of sixteen words, for bulk lookups with AVX-512.

use std::arch::x86_64::*;

use super::word::{DIRECT, DIRECT_FORM, FORM};

/// Lanes of a register.
pub(super) const LANES: usize = 16;

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn constant(value: u32) -> __m512i {
    _mm512_set1_epi32(value.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn has_form(words: __m512i, form: u32) -> __mmask16 {
    _mm512_cmpeq_epi32_mask(_mm512_and_si512(words, constant(FORM)), constant(form))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn is_direct(words: __m512i) -> __mmask16 {
    let form = _mm512_and_si512(words, constant(DIRECT_FORM));
    _mm512_cmpeq_epi32_mask(form, constant(DIRECT))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(out: &mut [u32; LANES], words: __m512i) {
    // SAFETY: the store fills the sixteen words.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), words) };
}
