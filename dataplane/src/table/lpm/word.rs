//! The 32-bit word of a cell: a leaf, or a node's place and form.
//!
//! ```text
//!   0000 leaf, 28 bits, 0 = no match
//!   0100 ROOT    line number, 28 bits: the large root, found only in a head
//!   0110 RANGES  line number, 28 bits: all of a small table, found only where a lookup begins
//!   10   DIRECT  first cell, 30 bits, of which the lower six are 0, and stand for the shift
//!   1100 LINE    line number, 28 bits
//!   1101 INDEX   line number, 28 bits
//!   1110 HOSTS   leaf, 28 bits: the answer unless the host table has the address
//!   1111 BROAD   line number, 28 bits
//! ```
//!
//! So in the root of IPv4 a chunk is known by the upper bit, and its place and shift need no unpacking. Below the root of IPv6
//! the same forms are nodes over 28 bits (`slot`), and
//!
//! ```text
//!   10   DIRECT  where its first cell would be if it had cells for the keys before its own as well, modulo 2^30, a multiple
//!                of sixteen; half the shift stands in the lower four bits
//! ```

/// The largest leaf.
pub const LEAF_MAX: u32 = (1 << 28) - 1;

/// Cells of a line.
pub(super) const LINE_CELLS: u32 = 16;

/// The form: the upper four bits.
pub(super) const FORM: u32 = 0xf000_0000;
pub(super) const ROOT: u32 = 0x4000_0000;
pub(super) const RANGES: u32 = 0x6000_0000;
pub(super) const LINE: u32 = 0xc000_0000;
pub(super) const INDEX: u32 = 0xd000_0000;
pub(super) const HOSTS: u32 = 0xe000_0000;
pub(super) const BROAD: u32 = 0xf000_0000;
/// The two bits that are the form of a DIRECT node.
pub(super) const DIRECT_FORM: u32 = 0xc000_0000;
pub(super) const DIRECT: u32 = 0x8000_0000;
/// The bits of its first cell.
pub(super) const DIRECT_CELL: u32 = 0x3fff_ffc0;
/// The bits of the first cell of a chunk below the large root of IPv6.
pub(super) const SLOT_CELL: u32 = 0x3fff_fff0;
/// The bits of a cell.
pub(super) const CELL: u32 = 0x3fff_ffff;

const PLACE: u32 = !FORM;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Word(pub u32);

impl Word {
    #[inline(always)]
    pub fn form(self) -> u32 {
        self.0 & FORM
    }

    /// Whether this is a node over 16 bits, or in the large root a chunk.
    #[inline(always)]
    pub fn is_node(self) -> bool {
        self.0 >= DIRECT && self.form() != HOSTS
    }

    /// Whether this is anything but a plain leaf, where no ROOT or RANGES can be.
    #[inline(always)]
    pub fn is_marked(self) -> bool {
        self.0 >= DIRECT
    }

    /// The line number of any form but DIRECT, or the leaf.
    #[inline(always)]
    pub fn place(self) -> u32 {
        self.0 & PLACE
    }

    /// Whether this is a LINE or an INDEX.
    #[inline(always)]
    pub fn is_line(self) -> bool {
        self.0.wrapping_sub(LINE) < HOSTS - LINE
    }

    #[inline(always)]
    pub fn is_direct(self) -> bool {
        self.0 & DIRECT_FORM == DIRECT
    }

    /// The first cell of a DIRECT node.
    #[inline(always)]
    pub fn direct_cell(self) -> u32 {
        self.0 & DIRECT_CELL
    }

    /// How far a DIRECT node's index is shifted down.
    #[inline(always)]
    pub fn shift(self) -> u32 {
        self.0 & 31
    }

    /// A DIRECT node at a line that is a multiple of four.
    pub fn direct(line: u32, shift: u32) -> Self {
        debug_assert!(line.is_multiple_of(4) && line < 1 << 26 && shift < 16);
        Self(DIRECT | (line * LINE_CELLS) | shift)
    }

    /// A chunk below the large root of IPv6 at a line, whose first cell is that of index `first`.
    pub fn slot_chunk(line: u32, first: u32, shift: u32) -> Self {
        debug_assert!(first.is_multiple_of(LINE_CELLS) && line < 1 << 26);
        debug_assert!(shift.is_multiple_of(2) && shift / 2 < 16);
        let base = (line * LINE_CELLS).wrapping_sub(first) & SLOT_CELL;
        Self(DIRECT | base | (shift / 2))
    }

    /// Its cell of an index.
    #[inline(always)]
    pub fn slot_cell(self, index: u32) -> u32 {
        (self.0 & SLOT_CELL).wrapping_add(index) & CELL
    }

    /// The same of one whose first cell is that of index 0, which needs no modulus.
    #[inline(always)]
    pub fn slot_cell_of_first(self, index: u32) -> u32 {
        (self.0 & SLOT_CELL).wrapping_add(index)
    }

    /// How far a key is shifted down for its index.
    #[inline(always)]
    pub fn slot_shift(self) -> u32 {
        self.0 % 16 * 2
    }

    /// A node of any other form.
    pub fn node(form: u32, line: u32) -> Self {
        debug_assert!(line <= PLACE);
        Self(form | line)
    }

    /// A leaf, with the mark that the host table is to be asked first.
    pub fn leaf(leaf: u32, hosted: bool) -> Self {
        Self(if hosted { HOSTS | leaf } else { leaf })
    }
}
