//! The 32-bit word of a cell: a leaf, or a node's place and form.
//!
//! ```text
//!   0xxx leaf, 28 bits, 0 = no match
//!   1000 LINE    line number, 28 bits
//!   1001 INDEX   line number, 28 bits
//!   1010 DIRECT  shift, 4 bits; place in units of 64 cells, 24 bits
//!   1011 HOSTS   leaf, 28 bits: the answer unless the host table has the address
//!   1100 SPARSE  line number, 28 bits: a LINE over the second 16 bits, met only below the large root
//!   1101 ROOT    line number, 28 bits: the large root itself
//! ```

/// The largest leaf.
pub const LEAF_MAX: u32 = (1 << 28) - 1;

/// Cells of a line.
pub(super) const LINE_CELLS: u32 = 16;

/// The form: the upper four bits.
pub(super) const FORM: u32 = 0xf000_0000;
pub(super) const LINE: u32 = 0x8000_0000;
pub(super) const INDEX: u32 = 0x9000_0000;
pub(super) const DIRECT: u32 = 0xa000_0000;
pub(super) const HOSTS: u32 = 0xb000_0000;
pub(super) const SPARSE: u32 = 0xc000_0000;
pub(super) const ROOT: u32 = 0xd000_0000;

const PLACE: u32 = !FORM;
const SHIFT_AT: u32 = 24;
const DIRECT_PLACE: u32 = (1 << SHIFT_AT) - 1;
/// The place of a DIRECT node counts 64 cells: four lines.
const DIRECT_UNIT_LOG2: u32 = 6;

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Word(pub u32);

impl Word {
    #[inline(always)]
    pub fn form(self) -> u32 {
        self.0 & FORM
    }

    /// Whether the walk goes on here; leaves and leaves with hosts end it.
    #[inline(always)]
    pub fn is_node(self) -> bool {
        self.0 >= LINE && self.form() != HOSTS
    }

    /// The line number of any form but DIRECT, or the leaf of HOSTS.
    #[inline(always)]
    pub fn place(self) -> u32 {
        self.0 & PLACE
    }

    #[inline(always)]
    pub fn is_direct(self) -> bool {
        self.form() == DIRECT
    }

    /// The first cell of a DIRECT node.
    #[inline(always)]
    pub fn direct_cell(self) -> u32 {
        (self.0 & DIRECT_PLACE) << DIRECT_UNIT_LOG2
    }

    /// How far a DIRECT node's index is shifted down.
    #[inline(always)]
    pub fn shift(self) -> u32 {
        self.0 >> SHIFT_AT & 15
    }

    /// A DIRECT node at a line that is a multiple of four.
    pub fn direct(line: u32, shift: u32) -> Self {
        debug_assert!(line.is_multiple_of(4) && line < 1 << 26 && shift < 16);
        Self(DIRECT | shift << SHIFT_AT | (line * LINE_CELLS) >> DIRECT_UNIT_LOG2)
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
