//! Which lines of the memory are in use: blocks of one size stand together in slabs, and an empty slab goes back to all.
//!
//! A slab is 1,024 lines (64 KiB). Blocks of up to 34 lines have a slab for their exact size, those of 64, 128, 256 or 512
//! too, others for the next size that is a multiple of 17 and one more, which is what a BROAD of `slot` has when its
//! INDEXes are full, and what is larger takes whole slabs in a row. A block whose size is a power of two stands at a
//! multiple of it; others do not, or the first lines of all nodes would share few sets of a cache. Taking and giving back costs a few loads and stores; rows of slabs are found first fit.

use std::collections::BTreeMap;

use super::memory::{HUGE, LINE_BYTES};

/// Lines of a slab.
const SLAB: u32 = 1024;
/// Slabs of a region: what a DIRECT node's place can name, 4 GiB.
const SLABS: u32 = (1 << 26) / SLAB;
/// Sizes up to this one, in lines, have slabs of their own.
const EXACT: u32 = 34;
/// Sizes above are this far apart.
const STEP: u32 = 17;
/// Sizes of blocks: up to [`EXACT`] a size is its own number, so 0 is not used; then those of 64, 128, 256 and 512 lines, then
/// all by steps.
const CLASSES: usize = (EXACT + 5 + SLAB / STEP) as usize; // `as`: a small number
/// Freed rows of at least this many slabs (2 MiB) give their pages back.
const DISCARD: u32 = 32;

#[derive(Default)]
struct Slab {
    /// Lines of each block; 0: not in use, or part of a row.
    block: u32,
    /// Blocks in use.
    used: u32,
    /// Blocks that were ever used: those after them hold nothing.
    touched: u32,
    /// Freed blocks, by number, last freed first out: it is the one still cached.
    free: Vec<u16>,
    /// Where this slab stands in its size's list of slabs with room.
    listed: Option<u32>,
}

impl Slab {
    fn blocks(&self) -> u32 {
        SLAB / self.block
    }
}

/// The allocator.
pub(super) struct Slabs {
    slabs: Vec<Slab>,
    /// Slabs with room, by size class.
    with_room: [Vec<u32>; CLASSES],
    /// Free rows below the end: first slab and number of slabs. Neighbours are joined.
    rows: BTreeMap<u32, u32>,
    /// Lines in use, rounded as they were given.
    lines: u32,
}

impl Default for Slabs {
    fn default() -> Self {
        Self {
            slabs: Vec::new(),
            with_room: std::array::from_fn(|_| Vec::new()),
            rows: BTreeMap::new(),
            lines: 0,
        }
    }
}

impl Slabs {
    /// The first line of a block of at least `lines` lines.
    ///
    /// # Panics
    /// When 4 GiB are in use: nodes of tens of millions of prefixes.
    pub fn take(&mut self, lines: u32) -> u32 {
        let size = rounded(lines);
        self.lines += size;
        if size >= SLAB {
            return self.take_row(size / SLAB) * SLAB;
        }
        let class = class(size);
        let number = match self.with_room[class].last() {
            Some(number) => *number,
            None => {
                let number = self.take_row(1);
                self.slabs[at(number)].block = size;
                self.list(class, number);
                number
            }
        };
        let slab = &mut self.slabs[at(number)];
        let block = slab.free.pop().map_or_else(
            || {
                slab.touched += 1;
                slab.touched - 1
            },
            u32::from,
        );
        slab.used += 1;
        if slab.used == slab.blocks() {
            self.unlist(class, number);
        }
        number * SLAB + block * size
    }

    /// Give a block back: the line and the size it was taken with. Returns a row of slabs whose pages may be discarded,
    /// as line and lines.
    pub fn give_back(&mut self, line: u32, lines: u32) -> Option<(u32, u32)> {
        let size = rounded(lines);
        self.lines -= size;
        let number = line / SLAB;
        if size >= SLAB {
            self.give_back_row(number, size / SLAB);
            return (size / SLAB >= DISCARD).then_some((line, size));
        }
        let slab = &mut self.slabs[at(number)];
        debug_assert_eq!(slab.block, size, "a block goes back with its own size");
        let block = (line % SLAB) / size;
        slab.used -= 1;
        slab.free
            .push(u16::try_from(block).expect("a slab has at most 1,024 blocks"));
        let (is_empty, listed) = (slab.used == 0, slab.listed.is_some());
        let class = class(size);
        if !listed {
            self.list(class, number);
        }
        // The last slab with room stays, so that one block taken and given back in turn costs nothing.
        if is_empty && self.with_room[class].len() > 1 {
            self.unlist(class, number);
            self.slabs[at(number)] = Slab::default();
            self.give_back_row(number, 1);
        }
        None
    }

    /// Take no slab of the beginning of the region, where pages are small, that was not in use before.
    pub fn leave_small_pages(&mut self) {
        const SMALL: usize = HUGE / (SLAB as usize * LINE_BYTES); // `as`: u32 to usize
        if self.slabs.len() < SMALL {
            self.slabs.resize_with(SMALL, Slab::default);
        }
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.lines as usize * LINE_BYTES // `as`: u32 to usize
    }

    fn take_row(&mut self, slabs: u32) -> u32 {
        let fit = self.rows.iter().find(|(_, length)| **length >= slabs);
        if let Some((&first, &length)) = fit {
            self.rows.remove(&first);
            if length > slabs {
                self.rows.insert(first + slabs, length - slabs);
            }
            return first;
        }
        let end = u32::try_from(self.slabs.len()).expect("at most 65,536 slabs");
        assert!(
            end + slabs <= SLABS,
            "4 GiB of prefix table nodes are in use"
        );
        self.slabs.resize_with(at(end + slabs), Slab::default);
        end
    }

    fn give_back_row(&mut self, first: u32, slabs: u32) {
        let (mut first, mut length) = (first, slabs);
        if let Some(after) = self.rows.remove(&(first + length)) {
            length += after;
        }
        if let Some((&before, &slabs)) = self.rows.range(..first).next_back()
            && before + slabs == first
        {
            self.rows.remove(&before);
            (first, length) = (before, slabs + length);
        }
        self.rows.insert(first, length);
    }

    fn list(&mut self, class: usize, number: u32) {
        let place = u32::try_from(self.with_room[class].len()).expect("at most 65,536 slabs");
        self.slabs[at(number)].listed = Some(place);
        self.with_room[class].push(number);
    }

    fn unlist(&mut self, class: usize, number: u32) {
        let place = self.slabs[at(number)].listed.take();
        let place = place.expect("only listed slabs are taken off");
        self.with_room[class].swap_remove(at(place));
        if let Some(moved) = self.with_room[class].get(at(place)) {
            self.slabs[at(*moved)].listed = Some(place);
        }
    }
}

fn rounded(lines: u32) -> u32 {
    if lines <= EXACT {
        lines
    } else if lines < SLAB {
        if lines.is_power_of_two() {
            return lines;
        }
        match (lines - 1).next_multiple_of(STEP) + 1 {
            size if size < SLAB => size,
            _ => SLAB,
        }
    } else {
        lines.next_multiple_of(SLAB)
    }
}

/// The list of a size below [`SLAB`], as [`rounded`] gives it.
fn class(size: u32) -> usize {
    if size <= EXACT {
        at(size)
    } else if size.is_power_of_two() {
        at(EXACT + size.trailing_zeros() - 5)
    } else {
        at(EXACT + 4 + size / STEP)
    }
}

fn at(number: u32) -> usize {
    number as usize // `as`: u32 to index
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_never_overlap_and_all_comes_back(
            steps in prop::collection::vec((any::<bool>(), 0_usize..12, any::<prop::sample::Index>()), 1..400),
        ) {
            const SIZES: [u32; 12] = [1, 1, 2, 5, 34, 35, 64, 200, 512, 1000, 1024, 5000];
            let mut slabs = Slabs::default();
            let mut held: BTreeMap<u32, u32> = BTreeMap::new();
            for (take, size, which) in steps {
                if take || held.is_empty() {
                    let line = slabs.take(SIZES[size]);
                    let before = held.range(..=line).next_back();
                    prop_assert!(before.is_none_or(|(start, lines)| start + lines <= line));
                    let after = held.range(line..).next();
                    prop_assert!(after.is_none_or(|(start, _)| line + SIZES[size] <= *start));
                    prop_assert!(!SIZES[size].is_power_of_two() || line % SIZES[size].min(SLAB) == 0);
                    held.insert(line, SIZES[size]);
                } else {
                    let (&line, &lines) = held.iter().nth(which.index(held.len())).unwrap();
                    held.remove(&line);
                    slabs.give_back(line, lines);
                }
            }
            for (line, lines) in held {
                slabs.give_back(line, lines);
            }
            prop_assert_eq!(slabs.bytes(), 0);
        }
    }

    #[test]
    fn an_empty_slab_serves_other_sizes() {
        let mut slabs = Slabs::default();
        let lines: Vec<u32> = (0..100_000).map(|_| slabs.take(1)).collect();
        let end = slabs.slabs.len();
        for line in lines {
            slabs.give_back(line, 1);
        }
        let lines: Vec<u32> = (0..6_000).map(|_| slabs.take(16)).collect();
        assert_eq!(lines.len(), 6_000);
        assert!(slabs.slabs.len() <= end);
    }
}
