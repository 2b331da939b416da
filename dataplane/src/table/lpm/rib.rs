//! The writer's own trie: every prefix, by 16 bits a level. Readers never see it.
//!
//! A node stands for the first `16 * level` bits of addresses. Its items, in one ordered list, are the prefixes that end
//! within its 16 bits and the children that go on. The order is that of the trie walked from the top: a prefix stands
//! before all it contains. So what readers need, ranges of keys with one answer each, is one walk along the list with a
//! stack ([`Rib::paint`]).

use super::node::Range;
use super::word::Word;

/// Keys of a node: 16 bits.
pub(super) const KEYS: u32 = 1 << 16;
/// Parts of a node of the second 16 bits whose items are counted: the slots of `slots`.
const SLOTS: usize = 16;
const SLOT_CODE: u32 = SLOTS.ilog2();
/// The code of a child: deeper than any prefix of the node.
const CHILD: u32 = 17;
const CODE_BITS: u32 = 5;
/// The node of the whole address.
pub(super) const TOP: u32 = 0;

/// A prefix of a node, or a child.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// The first of the keys it covers, and after it the length within the node, 1 to 16, or [`CHILD`].
    order: u32,
    /// The leaf, or the child's number.
    value: u32,
}

impl Item {
    fn start(self) -> u32 {
        self.order >> CODE_BITS
    }

    fn code(self) -> u32 {
        self.order & ((1 << CODE_BITS) - 1)
    }

    /// The child's number, if this is one.
    pub fn child(self) -> Option<u32> {
        (self.code() == CHILD).then_some(self.value)
    }
}

/// What a range of a node's keys has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// A leaf.
    Word(Word),
    /// The child of this number.
    Child(u32),
}

fn order(start: u32, code: u32) -> u32 {
    start << CODE_BITS | code
}

/// A node of the trie.
#[derive(Debug)]
pub(super) struct Node {
    items: Vec<Item>,
    /// The node above, and this one's key there. The top is its own parent.
    pub parent: u32,
    pub start: u32,
    /// Which 16 bits of the address, from 0.
    pub level: u32,
    /// The leaf of the longest shorter prefix that covers all of the node; 0 is none.
    pub inherited: u32,
    /// Host routes below; counted only at the level where they are marked.
    pub hosts: u32,
    /// Whether answers below are marked to ask the host table.
    pub hosted: bool,
    /// What readers are led to.
    pub word: Word,
    /// Items of the second and the third 16 bits by the first four of the second, kept at nodes of the second.
    slots: Option<Box<[u32; SLOTS]>>,
}

impl Node {
    fn new(parent: u32, start: u32, level: u32, inherited: u32, hosted: bool) -> Self {
        Self {
            items: Vec::new(),
            parent,
            start,
            level,
            inherited,
            hosts: 0,
            hosted,
            word: Word::leaf(inherited, hosted),
            slots: None,
        }
    }

    /// Of a node of the second 16 bits: items of it, and of the third, whose second begins with these four bits.
    pub fn slot_items(&self, slot: u32) -> u32 {
        let slots = self.slots.as_ref();
        slots.map_or(0, |slots| slots[slot as usize % SLOTS]) // `as`: u32 to index
    }

    pub fn item_count(&self) -> usize {
        self.items.len()
    }

    /// The items that start within `from..to` and have a length within the node of more than `above`, 0 for all.
    pub fn slice(&self, from: u32, above: u32, to: u32) -> &[Item] {
        let first = self
            .items
            .partition_point(|item| item.order < order(from, above + 1));
        let rest = &self.items[first..];
        let count = rest.partition_point(|item| item.order < order(to, 0));
        &rest[..count]
    }

    fn find(&self, start: u32, code: u32) -> Result<usize, usize> {
        let wanted = order(start, code);
        // Loading a table in order appends, or asks for what was appended last.
        match self.items.last() {
            Some(last) if last.order > wanted => {
                self.items.binary_search_by_key(&wanted, |item| item.order)
            }
            Some(last) if last.order == wanted => Ok(self.items.len() - 1),
            _ => Err(self.items.len()),
        }
    }

    /// The leaf of the longest prefix that covers `start`, is at most `code_max` long and begins before `before`.
    pub fn covering(&self, start: u32, code_max: u32, before: u32) -> u32 {
        for code in (1..=code_max).rev() {
            let first = start & !((KEYS >> code) - 1);
            if first < before
                && let Ok(at) = self.find(first, code)
            {
                return self.items[at].value;
            }
        }
        self.inherited
    }
}

/// The finest length of some items: a child needs all 16 bits.
pub(super) fn finest(items: &[Item]) -> u32 {
    let mut finest = 0;
    for item in items {
        finest = finest.max(item.code().min(16));
        if finest == 16 {
            break;
        }
    }
    finest
}

/// The trie.
pub(super) struct Rib {
    nodes: Vec<Node>,
    free: Vec<u32>,
    /// Whether slots are counted.
    has_slots: bool,
}

impl Rib {
    pub fn new(has_slots: bool) -> Self {
        let mut rib = Self {
            nodes: Vec::new(),
            free: Vec::new(),
            has_slots,
        };
        rib.nodes.push(Node::new(TOP, 0, 0, 0, false));
        rib
    }

    pub fn node(&self, number: u32) -> &Node {
        &self.nodes[number as usize] // `as`: u32 to index
    }

    pub fn node_mut(&mut self, number: u32) -> &mut Node {
        &mut self.nodes[number as usize] // `as`: u32 to index
    }

    /// Nodes in use.
    pub fn node_count(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Bytes of the nodes and their lists.
    pub fn bytes(&self) -> usize {
        let items = self.nodes.iter().map(|node| node.items.capacity());
        self.nodes.capacity() * size_of::<Node>() + items.sum::<usize>() * size_of::<Item>()
    }

    /// The child of a node at a key.
    pub fn child(&self, parent: u32, start: u32) -> Option<u32> {
        let node = self.node(parent);
        node.find(start, CHILD).ok().map(|at| node.items[at].value)
    }

    /// The child of a node at a key, made if it is not there.
    pub fn child_or_new(&mut self, parent: u32, start: u32) -> u32 {
        let above = self.node(parent);
        let at = match above.find(start, CHILD) {
            Ok(at) => return above.items[at].value,
            Err(at) => at,
        };
        let inherited = above.covering(start, 16, KEYS);
        let node = Node::new(parent, start, above.level + 1, inherited, above.hosted);
        let number = match self.free.pop() {
            Some(number) => {
                *self.node_mut(number) = node;
                number
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("memory ends before 2^32 nodes")
            }
        };
        let item = Item {
            order: order(start, CHILD),
            value: number,
        };
        self.node_mut(parent).items.insert(at, item);
        self.count(parent, start, CHILD, 1);
        number
    }

    /// An item of a node came, or went.
    fn count(&mut self, number: u32, start: u32, code: u32, by: i32) {
        let node = self.node(number);
        let (second, key) = match node.level {
            1 if code > SLOT_CODE => (number, start),
            2 => (node.parent, node.start),
            _ => return,
        };
        if self.has_slots {
            let slots = self.node_mut(second).slots.get_or_insert_default();
            let items = &mut slots[(key >> (16 - SLOT_CODE)) as usize % SLOTS]; // `as`: u32 to index
            *items = items.wrapping_add_signed(by);
        }
    }

    /// Take an empty node out of the trie.
    pub fn remove_child(&mut self, number: u32) {
        let Node { parent, start, .. } = *self.node(number);
        let above = self.node_mut(parent);
        if let Ok(at) = above.find(start, CHILD) {
            above.items.remove(at);
            shrink(&mut above.items);
            self.count(parent, start, CHILD, -1);
        }
        self.node_mut(number).items = Vec::new();
        self.free.push(number);
    }

    /// Set the leaf of a prefix of a node; returns the leaf it had.
    pub fn set(&mut self, number: u32, start: u32, code: u32, leaf: u32) -> Option<u32> {
        let node = self.node_mut(number);
        match node.find(start, code) {
            Ok(at) => Some(std::mem::replace(&mut node.items[at].value, leaf)),
            Err(at) => {
                let order = order(start, code);
                node.items.insert(at, Item { order, value: leaf });
                self.count(number, start, code, 1);
                None
            }
        }
    }

    /// Remove a prefix of a node; returns the leaf it had.
    pub fn unset(&mut self, number: u32, start: u32, code: u32) -> Option<u32> {
        let node = self.node_mut(number);
        let at = node.find(start, code).ok()?;
        let item = node.items.remove(at);
        shrink(&mut node.items);
        self.count(number, start, code, -1);
        Some(item.value)
    }

    /// The leaf of exactly this prefix of a node.
    pub fn leaf(&self, number: u32, start: u32, code: u32) -> Option<u32> {
        let node = self.node(number);
        node.find(start, code).ok().map(|at| node.items[at].value)
    }

    /// Walk keys `from..to` of a node and tell every range with one answer, in order: first key, key after the last, word.
    /// Neighbours may have equal words. `items` are those that count within the range, `cover` the leaf where none does.
    pub fn paint(
        &self,
        number: u32,
        items: &[Item],
        keys: (u32, u32),
        cover: u32,
        mut tell: impl FnMut(u32, u32, Word),
    ) {
        self.answers(
            number,
            items,
            keys,
            cover,
            |from, to, answer| match answer {
                Answer::Word(word) => tell(from, to, word),
                Answer::Child(child) => tell(from, to, self.node(child).word),
            },
        );
    }

    /// The same, with children themselves instead of what readers are led to.
    pub fn answers(
        &self,
        number: u32,
        items: &[Item],
        (from, to): (u32, u32),
        cover: u32,
        mut tell: impl FnMut(u32, u32, Answer),
    ) {
        let hosted = self.node(number).hosted;
        let mut stack = [(to, cover); 18];
        let mut depth = 0;
        let mut at = from;
        for item in items {
            let start = item.start();
            while stack[depth].0 <= start {
                let (end, leaf) = stack[depth];
                if at < end {
                    tell(at, end, Answer::Word(Word::leaf(leaf, hosted)));
                    at = end;
                }
                depth -= 1;
            }
            if at < start {
                tell(at, start, Answer::Word(Word::leaf(stack[depth].1, hosted)));
                at = start;
            }
            if let Some(child) = item.child() {
                tell(start, start + 1, Answer::Child(child));
                at = start + 1;
            } else {
                depth += 1;
                stack[depth] = (start + (KEYS >> item.code()), item.value);
            }
        }
        for (end, leaf) in stack[..=depth].iter().rev() {
            let end = (*end).min(to);
            if at < end {
                tell(at, end, Answer::Word(Word::leaf(*leaf, hosted)));
                at = end;
            }
        }
    }

    /// The ranges of `from..to` with equal neighbours joined.
    pub fn ranges(
        &self,
        number: u32,
        items: &[Item],
        keys: (u32, u32),
        cover: u32,
        ranges: &mut Vec<Range>,
    ) {
        ranges.clear();
        self.paint(number, items, keys, cover, |_, end, word| {
            let last = u16::try_from(end - 1).expect("a key has 16 bits");
            match ranges.last_mut() {
                Some(range) if range.1 == word => range.0 = last,
                _ => ranges.push((last, word)),
            }
        });
    }

    /// All items of a node.
    pub fn items(&self, number: u32) -> &[Item] {
        &self.node(number).items
    }

    /// The children of a node that start within `from..to`, each with the leaf it inherits.
    pub fn children(&self, number: u32, from: u32, to: u32, found: &mut Vec<(u32, u32)>) {
        found.clear();
        let node = self.node(number);
        let mut stack = [(KEYS, 0); 18];
        stack[0].1 = node.covering(from, 16, from);
        let mut depth = 0;
        for item in node.slice(from, 0, to) {
            let start = item.start();
            while stack[depth].0 <= start {
                depth -= 1;
            }
            if let Some(child) = item.child() {
                found.push((child, stack[depth].1));
            } else {
                depth += 1;
                stack[depth] = (start + (KEYS >> item.code()), item.value);
            }
        }
    }

    /// Every prefix, as level, bits above the node, first key, length within the node, leaf.
    pub fn visit(&self, mut tell: impl FnMut(u128, u32, u32)) {
        self.visit_below(TOP, 0, &mut tell);
    }

    fn visit_below(&self, number: u32, above: u128, tell: &mut impl FnMut(u128, u32, u32)) {
        let level = self.node(number).level;
        for item in self.items(number) {
            let address = above | u128::from(item.start()) << (112 - 16 * level);
            match item.child() {
                Some(child) => self.visit_below(child, address, tell),
                None => tell(address, level * 16 + item.code(), item.value),
            }
        }
    }

    /// Numbers of all nodes below and with this one, parents before children.
    pub fn subtree(&self, number: u32) -> Vec<u32> {
        let mut order = vec![number];
        let mut at = 0;
        while at < order.len() {
            order.extend(self.items(order[at]).iter().filter_map(|item| item.child()));
            at += 1;
        }
        order
    }
}

/// Give back most of a list that was much longer.
fn shrink(items: &mut Vec<Item>) {
    if items.capacity() > 16 && items.len() < items.capacity() / 4 {
        items.shrink_to(items.len() * 2);
    }
}
