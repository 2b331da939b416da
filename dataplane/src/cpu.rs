//! What a processor can do that not every one of its kind can, and loops compiled for it.
//!
//! A [`Job`] is written once, over any [`Cpu`]. Where the processor has more, [`Avx512::detect`] says so when the program
//! starts, and [`Avx512::run`] runs the job compiled for that, all that it inlines included.

#[cfg(target_arch = "x86_64")]
pub use x86::Avx512;

/// Eight words: a cache line, or the first 64 bytes of a frame, read in little-endian order.
pub type Words = [u64; 8];

/// What of a frame's first bytes is compared with a line.
pub trait Shape {
    /// The bits that come from the frame. The others come from the rest.
    const TAKEN: Words;
    /// The bits that are compared.
    const COMPARED: Words;
}

/// A loop that is worth compiling for several processors. What it calls has to be inlined into it.
pub trait Job {
    /// What comes of it.
    type Output;
    /// Do it.
    fn run<C: Cpu>(self, cpu: C) -> Self::Output;
}

/// A processor, with what it can do at once.
pub trait Cpu: Copy {
    /// Whether a line is like the beginning of a frame, and like `rest` where that is not taken from the frame.
    fn is_alike<S: Shape, const BYTES: usize>(
        self,
        line: &Words,
        frame: &[u8; BYTES],
        rest: &Words,
    ) -> bool;
}

/// Any.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Cpu for Plain {
    #[inline(always)]
    fn is_alike<S: Shape, const BYTES: usize>(
        self,
        line: &Words,
        frame: &[u8; BYTES],
        rest: &Words,
    ) -> bool {
        let frame = words_of(frame);
        let mut differs = 0;
        for word in 0..8 {
            let taken = S::TAKEN[word];
            let other = frame[word] & taken | rest[word] & !taken;
            differs |= (line[word] ^ other) & S::COMPARED[word];
        }
        differs == 0
    }
}

/// The first 64 bytes of a frame that may have fewer, with zeros behind them.
#[inline(always)]
pub fn words_of<const BYTES: usize>(frame: &[u8; BYTES]) -> Words {
    let mut words = [0; 8];
    let (whole, part) = frame.as_chunks();
    for (word, bytes) in words.iter_mut().zip(whole) {
        *word = u64::from_le_bytes(*bytes);
    }
    if let Some(last) = words.get_mut(whole.len()) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        *last = u64::from_le_bytes(bytes);
    }
    words
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::{Cpu, Job, Shape, Words};

    /// Proof that the processor has AVX-512 F, BW, VL and DQ, and all that came before.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx512(());

    impl Avx512 {
        /// Whether it has. To be asked once: the question can cost a trap in a virtual machine.
        #[must_use]
        pub fn detect() -> Option<Self> {
            use std::arch::is_x86_feature_detected as has;
            let has_avx2 = has!("avx2") && has!("bmi1") && has!("bmi2") && has!("movbe");
            let has_counts = has!("popcnt") && has!("lzcnt");
            let has_avx512 =
                has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq");
            (has_avx2 && has_counts && has_avx512).then_some(Self(()))
        }

        /// Do a job, compiled for such a processor.
        #[inline(always)]
        pub fn run<J: Job>(self, job: J) -> J::Output {
            // SAFETY: `self` comes from `detect`, which asked for all of them.
            unsafe { run(self, job) }
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,movbe,popcnt,lzcnt")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn run<J: Job>(cpu: Avx512, job: J) -> J::Output {
        job.run(cpu)
    }

    impl Cpu for Avx512 {
        #[inline(always)]
        fn is_alike<S: Shape, const BYTES: usize>(
            self,
            line: &Words,
            frame: &[u8; BYTES],
            rest: &Words,
        ) -> bool {
            // SAFETY: `self` is proof that the processor has what it is compiled for.
            unsafe { is_alike::<S, BYTES>(line, frame, rest) }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn is_alike<S: Shape, const BYTES: usize>(
        line: &Words,
        frame: &[u8; BYTES],
        rest: &Words,
    ) -> bool {
        let taken = const { bytes_of(&S::TAKEN) };
        const { assert!(bytes_of(&S::TAKEN) >> (BYTES - 1) <= 1) };
        let differs: __mmask8;
        // SAFETY: eight words each are loaded, and of the frame bytes that it has: the others of its line are neither read nor
        // waited for. As it stands in assembly, the words of the line are not taken for known where a part of them is
        // needed, which would be taken out of a register.
        unsafe {
            let load = |words: &Words| _mm512_loadu_si512(words.as_ptr().cast());
            asm!(
                "vpblendmb {other}{{{taken}}}, {rest}, zmmword ptr [{frame}]",
                // Ones where one of the two has one and it is compared.
                "vpternlogq {other}, {compared}, zmmword ptr [{line}], 0x48",
                "vptestmq {differs}, {other}, {other}",
                taken = in(kreg) taken,
                rest = in(zmm_reg) load(rest),
                compared = in(zmm_reg) load(&S::COMPARED),
                frame = in(reg) frame.as_ptr(),
                line = in(reg) line.as_ptr(),
                other = out(zmm_reg) _,
                differs = out(kreg) differs,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        differs == 0
    }

    /// One bit for each byte, which has to be taken as a whole.
    const fn bytes_of(taken: &Words) -> u64 {
        let mut bytes = 0;
        let mut at = 0;
        while at < 64 {
            let byte = (taken[at / 8] >> (at % 8 * 8)) as u8; // `as`: one of them
            assert!(byte == 0 || byte == 0xff);
            bytes |= ((byte & 1) as u64) << at; // `as`: widening
            at += 1;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes 3 to 40 of 41 come from the frame, of the last one the upper half is compared, and of the rest two bytes.
    struct Odd;

    const BYTES: usize = 41;

    impl Shape for Odd {
        const TAKEN: Words = bits(0xff, 0);
        const COMPARED: Words = bits(0xf0, 0xff);
    }

    const fn bits(last: u8, rest: u8) -> Words {
        let mut words = [0; 8];
        let mut at = 0;
        while at < 64 {
            let byte = match at {
                3..40 => 0xff,
                40 => last,
                1 | 63 => rest,
                _ => 0,
            };
            words[at / 8] |= (byte as u64) << (at % 8 * 8); // `as`: widening
            at += 1;
        }
        words
    }

    /// Asks whether a line is like a frame and the rest.
    struct Question<'q>(&'q Words, &'q [u8; BYTES], &'q Words);

    impl Job for Question<'_> {
        type Output = bool;

        #[inline(always)]
        fn run<C: Cpu>(self, cpu: C) -> bool {
            cpu.is_alike::<Odd, BYTES>(self.0, self.1, self.2)
        }
    }

    /// What every processor says.
    fn is_alike(line: &Words, frame: &[u8; BYTES], rest: &Words) -> bool {
        let said = Question(line, frame, rest).run(Plain);
        #[cfg(target_arch = "x86_64")]
        if let Some(cpu) = Avx512::detect() {
            assert_eq!(cpu.run(Question(line, frame, rest)), said);
        }
        said
    }

    #[test]
    fn a_line_is_compared_bit_for_bit_where_its_shape_says() {
        let frame: [u8; BYTES] = std::array::from_fn(|at| (at * 37 + 11) as u8); // `as`: any byte
        let rest: Words = std::array::from_fn(|at| 0x0123_4567_89ab_cdef << at);
        let mut line = words_of(&frame);
        for (word, (rest, taken)) in line.iter_mut().zip(rest.iter().zip(Odd::TAKEN)) {
            *word = *word & taken | rest & !taken;
        }
        assert!(is_alike(&line, &frame, &rest));
        for bit in 0..512 {
            let (word, mask) = (bit / 64, 1 << (bit % 64));
            let (is_compared, is_taken) = (
                Odd::COMPARED[word] & mask != 0,
                Odd::TAKEN[word] & mask != 0,
            );
            let mut other = line;
            other[word] ^= mask;
            assert_eq!(is_alike(&other, &frame, &rest), !is_compared, "line, {bit}");
            let mut other = rest;
            other[word] ^= mask;
            let counts = is_compared && !is_taken;
            assert_eq!(is_alike(&line, &frame, &other), !counts, "rest, {bit}");
            if bit < BYTES * 8 {
                let mut other = frame;
                other[bit / 8] ^= 1 << (bit % 8);
                let counts = is_compared && is_taken;
                assert_eq!(is_alike(&line, &other, &rest), !counts, "frame, {bit}");
            }
        }
    }

    #[test]
    fn words_are_those_of_the_bytes_and_zeros() {
        assert_eq!(words_of(&[1, 2, 3]), [0x03_0201, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(words_of(&[9; 8])[..2], [0x0909_0909_0909_0909, 0]);
        assert_eq!(words_of(&[7; 70]), [0x0707_0707_0707_0707; 8]);
    }
}
