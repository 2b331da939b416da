//! A seeded fault injector: turns good frames into plausible bad ones. The same seed makes the same faults, so a
//! failure is reproduced by its seed; cheap enough for hundreds of millions of frames.

/// A small generator (xorshift64*, Vigna 2016): good enough for tests, never for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Every seed gives another sequence, neighbouring and zero ones included.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // splitmix64: spreads seeds over the state; the state must not be zero.
        let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
        Self(if state == 0 { 1 } else { state })
    }

    /// The next 64 bits.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next 8 bits.
    #[inline]
    pub const fn next_u8(&mut self) -> u8 {
        (self.next_u64() >> 56) as u8 // `as`: eight bits are left
    }

    /// A number below `bound`, or zero when the bound is zero. Biased by less than one in a million below 2^40.
    #[inline]
    pub const fn below(&mut self, bound: usize) -> usize {
        // `as`: the product's upper half is below `bound`
        ((self.next_u64() as u128 * bound as u128) >> 64) as usize
    }

    /// Fill with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }
}

/// One kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Flip 1 to 8 bits, most often among the headers.
    Flip,
    /// Overwrite a byte with a value that means something in some header.
    Interesting,
    /// Drop the tail.
    Truncate,
    /// Add random bytes at the end.
    Extend,
    /// Copy one stretch of the frame over another one.
    Splice,
    /// Take a stretch out; what follows moves up.
    Remove,
    /// Put a stretch in twice; what follows moves down.
    Repeat,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Flip,
        Self::Interesting,
        Self::Truncate,
        Self::Extend,
        Self::Splice,
        Self::Remove,
        Self::Repeat,
    ];
}

/// Frames do not grow beyond this; it fits in a common mbuf.
pub const FRAME_MAX: usize = 2000;
/// Most faults hit the first bytes, where the headers are.
const HEADERS: usize = 128;
/// Next-header numbers, versions, lengths at their limits, ICMPv6 types, halves of EtherTypes.
const INTERESTING: [u8; 32] = [
    0, 1, 2, 3, 4, 6, 7, 8, 17, 40, 43, 44, 50, 51, 58, 59, 60, 0x60, 0x7f, 0x80, 0x81, 0x86, 0x87,
    0x88, 0x89, 0x8b, 0x8c, 0xa8, 0xdd, 0xfd, 0xfe, 0xff,
];

/// Damage a frame with one to four faults. The frame may be empty before and after.
pub fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    for _ in 0..=rng.below(4) {
        let fault = Fault::ALL[rng.below(Fault::ALL.len())];
        inject(rng, fault, frame);
    }
}

/// Damage a frame with one fault of this kind.
pub fn inject(rng: &mut Rng, fault: Fault, frame: &mut Vec<u8>) {
    match fault {
        Fault::Flip => {
            for _ in 0..=rng.below(8) {
                let at = position(rng, frame.len());
                let bit = rng.below(8);
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
        }
        Fault::Interesting => {
            let at = position(rng, frame.len());
            let value = INTERESTING[rng.below(INTERESTING.len())];
            if let Some(byte) = frame.get_mut(at) {
                *byte = value;
            }
        }
        Fault::Truncate => frame.truncate(position(rng, frame.len())),
        Fault::Extend => {
            let room = FRAME_MAX.saturating_sub(frame.len());
            let start = frame.len();
            frame.resize(start + rng.below(room.min(256) + 1), 0);
            rng.fill(&mut frame[start..]);
        }
        Fault::Splice => {
            let (from, len) = stretch(rng, frame.len());
            let to = rng.below(frame.len() - len + 1);
            frame.copy_within(from..from + len, to);
        }
        Fault::Remove => {
            let (from, len) = stretch(rng, frame.len());
            frame.drain(from..from + len);
        }
        Fault::Repeat => {
            let (from, len) = stretch(rng, frame.len());
            let old = frame.len();
            if old + len <= FRAME_MAX {
                frame.resize(old + len, 0);
                frame.copy_within(from..old, from + len);
            }
        }
    }
}

/// A position in a frame; three of four are among the headers.
fn position(rng: &mut Rng, len: usize) -> usize {
    if rng.below(4) == 0 {
        rng.below(len)
    } else {
        rng.below(len.min(HEADERS))
    }
}

/// A stretch of at most 64 bytes that lies within the frame.
fn stretch(rng: &mut Rng, len: usize) -> (usize, usize) {
    let from = position(rng, len);
    (from, rng.below((len - from).min(64) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64) -> Vec<u64> {
        let mut rng = Rng::new(seed);
        (0..20).map(|_| rng.next_u64()).collect()
    }

    #[test]
    fn same_seed_makes_the_same_numbers_and_others_do_not() {
        assert_eq!(numbers(7), numbers(7));
        for seed in [0, 1, 2, 3, u64::MAX] {
            for other in [0, 1, 2, 3, u64::MAX] {
                let equal = numbers(seed) == numbers(other);
                assert_eq!(equal, seed == other, "{seed} and {other}");
            }
        }
    }

    /// The seed that splitmix64 maps to zero, the one state xorshift cannot leave.
    #[test]
    fn no_seed_gets_stuck_at_zero() {
        let rng = Rng::new(0_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15));
        assert_eq!(rng.0, 1);
        assert!(
            numbers(0_u64.wrapping_sub(0x9e37_79b9_7f4a_7c15))
                .iter()
                .all(|n| *n != 0)
        );
    }

    #[test]
    fn below_reaches_every_number_and_none_beyond() {
        let mut rng = Rng::new(1);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[rng.below(10)] += 1;
        }
        assert!(
            seen.iter().all(|count| (800..1200).contains(count)),
            "{seen:?}"
        );
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn fill_leaves_no_byte_alone() {
        let mut rng = Rng::new(1);
        for len in 0..40 {
            let mut ever_set = vec![0; len];
            for _ in 0..32 {
                let mut bytes = vec![0; len];
                rng.fill(&mut bytes);
                for (ever, byte) in ever_set.iter_mut().zip(bytes) {
                    *ever |= byte;
                }
            }
            assert!(ever_set.iter().all(|byte| *byte == 0xff), "{len}");
        }
    }

    #[test]
    fn faults_of_every_kind_do_what_they_say_to_frames_of_every_length() {
        let mut rng = Rng::new(99);
        for fault in Fault::ALL {
            let mut changed = 0;
            for len in (0..200).chain([FRAME_MAX - 1, FRAME_MAX]) {
                let mut good = vec![0; len];
                rng.fill(&mut good);
                let mut frame = good.clone();
                inject(&mut rng, fault, &mut frame);
                if frame != good {
                    changed += 1;
                }
                let differing = frame.iter().zip(&good).filter(|(a, b)| a != b).count();
                match fault {
                    Fault::Flip => assert!(frame.len() == len && differing <= 8),
                    Fault::Interesting => assert!(frame.len() == len && differing <= 1),
                    Fault::Truncate => assert!(frame.len() <= len && differing == 0),
                    Fault::Extend => {
                        assert!((len..=len + 256).contains(&frame.len()) && differing == 0);
                    }
                    Fault::Splice => assert!(frame.len() == len && differing <= 64),
                    Fault::Remove => assert!(frame.len() <= len && frame.len() + 64 >= len),
                    Fault::Repeat => assert!((len..=len + 64).contains(&frame.len())),
                }
                assert!(frame.len() <= FRAME_MAX);
            }
            assert!(
                changed > 150,
                "{fault:?} changed only {changed} of 202 frames"
            );
        }
    }

    #[test]
    fn mutation_is_reproduced_by_its_seed_and_stays_bounded() {
        let run = |seed| {
            let mut rng = Rng::new(seed);
            let mut frame = vec![0x60; 100];
            for _ in 0..5000 {
                mutate(&mut rng, &mut frame);
                assert!(frame.len() <= FRAME_MAX);
                if frame.len() < 20 {
                    frame.resize(100, 0x60);
                }
            }
            frame
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
