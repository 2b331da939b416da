//! What the writer and its readers share: the memory, and one line in it, the head, where every lookup begins.
//!
//! A head says all about one version of a table: its top word and its host table. A change that concerns both, or replaces
//! the whole table, writes a new head aside and publishes its line by one store; a lookup loads that line once and so
//! never mixes two versions. The top word stands beside the line's number in what is stored, so that most lookups need
//! not look at the head.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::atomics::{AtomicU32, AtomicU64, order};
use super::cells::{follow, publish};
use super::hosts::HostArea;
use super::isa::Isa;
use super::memory::{Mapping, Memory};
use super::slabs::Slabs;
use super::stamp::Changes;
use super::word::{LINE_CELLS, Word};

/// Memory that tables may have in common: many small ones then share pages. Cloning gives another handle to the same
/// memory.
///
/// Reserves 16 GiB of address space, uses what the tables in it need, at most 4 GiB.
#[derive(Clone)]
pub struct Arena(Arc<Region>);

/// The memory and its allocator.
pub(super) struct Region {
    pub memory: Memory,
    mapping: Mapping,
    slabs: Mutex<Slabs>,
}

impl Arena {
    /// An arena without tables.
    ///
    /// # Panics
    /// When the system gives no address space.
    #[must_use]
    pub fn new() -> Self {
        let mapping = Mapping::reserve().expect("16 GiB of address space can be reserved");
        // SAFETY: it stands beside the mapping, and nobody takes it from there.
        let memory = unsafe { mapping.memory() };
        Self(Arc::new(Region {
            memory,
            mapping,
            slabs: Mutex::default(),
        }))
    }

    /// Bytes in use by all its tables.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.slabs().bytes()
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl Region {
    /// Locked by writers only, for the time of an allocation.
    fn slabs(&self) -> MutexGuard<'_, Slabs> {
        self.slabs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first line of a block.
    pub fn take(&self, lines: u32) -> u32 {
        self.slabs().take(lines)
    }

    /// For a table that becomes large: new slabs stand on huge pages from now on.
    pub fn leave_small_pages(&self) {
        self.slabs().leave_small_pages();
    }

    /// Give a block back that no reader can reach.
    pub fn give_back(&self, block: Block) {
        let mut slabs = self.slabs();
        if let Some((line, lines)) = slabs.give_back(block.line, block.lines) {
            self.memory.discard(line, lines);
        }
    }
}

/// A block of lines, as it was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub line: u32,
    pub lines: u32,
}

/// The shared part of a table. All that a lookup begins with is in one cache line.
#[repr(align(64))]
pub(super) struct Shared {
    /// That of the region.
    memory: Memory,
    /// The line of the head in the lower half, its top word in the upper.
    now: AtomicU64,
    pub changes: Changes,
    region: Arc<Region>,
    /// Of the host table's hash.
    pub seed: u64,
    /// Whether the host table of the last head is large: a hint.
    has_many_hosts: AtomicU32,
    /// The best there is, in a line that each lookup needs. Asked when the table is made, so that no reader is the first: the
    /// question allocates, and traps in a virtual machine.
    pub isa: Isa,
    /// What the table still held when its writer went, given back when the last reader goes.
    left: Box<Mutex<Vec<Block>>>,
}

const _: () = assert!(size_of::<Shared>() == 64);

/// Where in a head its cells are.
const TOP: u32 = 0;
const HOSTS_LINE: u32 = 1;
const HOSTS_GROUPS: u32 = 2;
const STAGED: u32 = 3;

/// What a head says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub top: Word,
    pub hosts: HostArea,
    /// Large enough that lookups in bulk prefetch each step.
    pub staged: bool,
}

impl Shared {
    pub fn new(arena: &Arena, head: Head, seed: u64) -> Self {
        let region = Arc::clone(&arena.0);
        let line = region.take(1);
        let shared = Self {
            // SAFETY: it stands beside a handle to the region, and nobody takes it from there.
            memory: unsafe { region.mapping.memory() },
            now: AtomicU64::new(now(line, head.top)),
            changes: Changes::new(),
            region,
            seed,
            has_many_hosts: AtomicU32::new(0),
            isa: Isa::best(),
            left: Box::default(),
        };
        shared.write_head(line, head);
        shared
    }

    #[inline(always)]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The version that is current now, for the lookups of one batch.
    #[inline(always)]
    pub fn version(&self) -> Version {
        self.current().0
    }

    /// The same, and its top word.
    #[inline(always)]
    pub fn current(&self) -> (Version, Word) {
        let now = self.now.load(order::follow_node());
        // `as`: the lower and the upper half.
        (
            Version((now as u32).wrapping_mul(LINE_CELLS)),
            Word((now >> 32) as u32),
        )
    }

    /// Whether it is worth asking the head how many hosts there are.
    #[inline(always)]
    pub fn may_have_many_hosts(&self) -> bool {
        self.has_many_hosts.load(Relaxed) != 0
    }

    /// Publish another top word of the same head.
    pub fn publish_top(&self, top: Word) {
        let line = self.head_line();
        publish(self.memory().cell(line * LINE_CELLS + TOP), top.0);
        self.now.store(now(line, top), order::publish_node());
    }

    /// Let lookups begin with ranges; the head keeps the trie's top word.
    pub fn publish_ranges(&self, ranges: Word) {
        let line = self.head_line();
        self.now.store(now(line, ranges), order::publish_node());
    }

    /// Let lookups begin with the trie's top word.
    pub fn publish_trie(&self) {
        self.publish_ranges(self.version().top(self.memory()));
    }

    /// Publish another head; returns the block of the old one.
    pub fn publish_head(&self, head: Head) -> Block {
        let line = self.region.take(1);
        self.write_head(line, head);
        let is_large = u32::from(head.hosts.is_large());
        self.has_many_hosts.store(is_large, Relaxed);
        let old = self.head_block();
        self.now.store(now(line, head.top), order::publish_node());
        old
    }

    /// The block of the head.
    pub fn head_block(&self) -> Block {
        let line = self.head_line();
        Block { line, lines: 1 }
    }

    /// The writer asks: nobody else stores there.
    fn head_line(&self) -> u32 {
        self.now.load(Relaxed) as u32 // `as`: the lower half
    }

    /// The writer goes; its blocks follow when the last reader does.
    pub fn leave(&self, blocks: Vec<Block>) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = blocks;
    }

    fn write_head(&self, line: u32, head: Head) {
        let values = [
            (TOP, head.top.0),
            (HOSTS_LINE, head.hosts.line),
            (HOSTS_GROUPS, head.hosts.groups),
            (STAGED, u32::from(head.staged)),
        ];
        for (cell, value) in values {
            self.memory()
                .cell(line * LINE_CELLS + cell)
                .store(value, Relaxed);
        }
    }
}

/// What says where readers begin: a head and its top word.
fn now(line: u32, top: Word) -> u64 {
    u64::from(line) | u64::from(top.0) << 32
}

/// One version of a table: what a batch of lookups begins with, and keeps to. A small `Copy` value; it is worth nothing
/// once its reader has reported a quiescent state.
#[derive(Debug, Clone, Copy)]
pub struct Version(
    /// The first cell of its head.
    u32,
);

impl Version {
    /// The cell of the top word.
    #[inline(always)]
    pub(super) fn top_cell(self) -> u32 {
        self.0.wrapping_add(TOP)
    }

    /// The top word: it may change in place.
    #[inline(always)]
    pub(super) fn top(self, memory: &Memory) -> Word {
        Word(follow(memory.cell(self.top_cell())))
    }

    #[inline(always)]
    pub(super) fn hosts(self, memory: &Memory) -> HostArea {
        let load = |cell| memory.cell(self.0.wrapping_add(cell)).load(Relaxed);
        HostArea {
            line: load(HOSTS_LINE),
            groups: load(HOSTS_GROUPS),
        }
    }

    #[inline(always)]
    pub(super) fn is_staged(self, memory: &Memory) -> bool {
        memory.cell(self.0.wrapping_add(STAGED)).load(Relaxed) != 0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let left = std::mem::take(self.left.get_mut().unwrap_or_else(PoisonError::into_inner));
        for block in left {
            self.region.give_back(block);
        }
    }
}
