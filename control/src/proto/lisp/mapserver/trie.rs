//! Prefixes of one instance and family with a number each: a radix tree whose nodes skip the bits nobody branches at.
//!
//! Key: bits, left-aligned, and their number. Value: 32 bits. 32 bytes a node and less than two nodes a prefix; every
//! operation costs at most one step for each bit of the address, most of them as many as prefixes lie on the way. It
//! grows as long as there is memory: its owner says how many prefixes there may be.

/// No node, no value.
const NONE: u32 = u32::MAX;

/// Bits of a prefix, left-aligned, none set after its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bits {
    pub(super) bits: u128,
    pub(super) len: u8,
}

impl Bits {
    pub(super) fn new(bits: u128, len: u8) -> Self {
        let len = len.min(128);
        let mask = u128::MAX.checked_shl(u32::from(128 - len)).unwrap_or(0);
        Self {
            bits: bits & mask,
            len,
        }
    }

    /// The bit after the first `at`, as the number of a child.
    fn bit(self, at: u8) -> usize {
        if self.bits.checked_shl(u32::from(at)).unwrap_or(0) >> 127 == 1 {
            1
        } else {
            0
        }
    }

    /// How many leading bits both have in common.
    fn common(self, other: Self) -> u8 {
        // `as`: at most 128
        let same = (self.bits ^ other.bits).leading_zeros() as u8;
        same.min(self.len).min(other.len)
    }
}

/// Two halves, because a `u128` would take the node to 48 bytes.
#[derive(Debug, Clone, Copy)]
struct Node {
    high: u64,
    low: u64,
    children: [u32; 2],
    value: u32,
    len: u8,
}

impl Node {
    fn new(prefix: Bits, value: u32) -> Self {
        Self {
            high: (prefix.bits >> 64) as u64, // `as`: the upper half
            low: prefix.bits as u64,          // `as`: the lower half
            children: [NONE; 2],
            value,
            len: prefix.len,
        }
    }

    fn prefix(&self) -> Bits {
        Bits {
            bits: u128::from(self.high) << 64 | u128::from(self.low),
            len: self.len,
        }
    }
}

/// What points to a node.
#[derive(Debug, Clone, Copy)]
enum Link {
    Root,
    Child(u32, usize),
}

/// The tree.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    root: u32,
    /// First of the nodes that are not in use, chained by their first child.
    free: u32,
    values: usize,
}

impl Trie {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Vec::new(),
            root: NONE,
            free: NONE,
            values: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// Give a prefix a value; the one it had.
    pub(super) fn insert(&mut self, prefix: Bits, value: u32) -> Option<u32> {
        let (mut link, mut at) = (Link::Root, self.root);
        loop {
            if at == NONE {
                let leaf = self.allocate(Node::new(prefix, value));
                self.set(link, leaf);
                break;
            }
            let node = self.node(at).prefix();
            let common = prefix.common(node);
            if common == node.len && common == prefix.len {
                let old = std::mem::replace(&mut self.node_mut(at).value, value);
                if old != NONE {
                    return Some(old);
                }
                break;
            }
            if common == node.len {
                let side = prefix.bit(common);
                link = Link::Child(at, side);
                at = self.child(at, side);
                continue;
            }
            // The node lies below the prefix, or both below a branch.
            let above = if common == prefix.len {
                self.allocate(Node::new(prefix, value))
            } else {
                let branch = self.allocate(Node::new(Bits::new(prefix.bits, common), NONE));
                let leaf = self.allocate(Node::new(prefix, value));
                self.set(Link::Child(branch, prefix.bit(common)), leaf);
                branch
            };
            self.set(Link::Child(above, node.bit(common)), at);
            self.set(link, above);
            break;
        }
        self.values += 1;
        None
    }

    /// Take a prefix's value away.
    pub(super) fn remove(&mut self, prefix: Bits) -> Option<u32> {
        let (mut above, mut link, mut at) = (None, Link::Root, self.root);
        loop {
            if at == NONE {
                return None;
            }
            let node = self.node(at).prefix();
            if prefix.common(node) < node.len {
                return None;
            }
            if node.len == prefix.len {
                break;
            }
            let side = prefix.bit(node.len);
            above = Some((link, at, side));
            link = Link::Child(at, side);
            at = self.child(at, side);
        }
        let value = std::mem::replace(&mut self.node_mut(at).value, NONE);
        if value == NONE {
            return None;
        }
        self.values -= 1;
        let only_child = match self.node(at).children {
            [NONE, child] | [child, NONE] => child,
            _ => return Some(value),
        };
        self.set(link, only_child);
        self.release(at);
        // A branch with one side left is none.
        if only_child == NONE
            && let Some((link, branch, side)) = above
            && self.node(branch).value == NONE
        {
            let other = self.child(branch, 1 - side);
            self.set(link, other);
            self.release(branch);
        }
        Some(value)
    }

    /// The value of exactly this prefix.
    pub(super) fn value(&self, prefix: Bits) -> Option<u32> {
        let found = self.longest(prefix)?;
        (found.0 == prefix.len).then_some(found.1)
    }

    /// Length and value of the longest prefix that holds all of this one.
    pub(super) fn longest(&self, prefix: Bits) -> Option<(u8, u32)> {
        let (mut found, mut at) = (None, self.root);
        while at != NONE {
            let node = self.node(at);
            if prefix.common(node.prefix()) < node.len {
                break;
            }
            if node.value != NONE {
                found = Some((node.len, node.value));
            }
            if node.len == prefix.len {
                break;
            }
            at = self.child(at, prefix.bit(node.len));
        }
        found
    }

    /// Length of the shortest prefix around an address that holds no prefix of the tree but those that hold it.
    pub(super) fn hole(&self, address: Bits) -> u8 {
        let mut at = self.root;
        if at == NONE {
            return 0;
        }
        loop {
            let node = self.node(at);
            let common = address.common(node.prefix());
            if common < node.len {
                // All of the node's lie on the other side of this bit.
                return common + 1;
            }
            if node.len >= address.len {
                return node.len;
            }
            let side = address.bit(node.len);
            let child = self.child(at, side);
            if child != NONE {
                at = child;
            } else if self.child(at, 1 - side) != NONE {
                return node.len + 1;
            } else {
                return node.len;
            }
        }
    }

    /// Prefixes within this one, itself included, with their values, in order.
    pub(super) fn within(&self, prefix: Bits) -> Within<'_> {
        let mut at = self.root;
        while at != NONE {
            let node = self.node(at);
            let common = prefix.common(node.prefix());
            if common == prefix.len {
                break;
            }
            at = match common == node.len {
                true => self.child(at, prefix.bit(node.len)),
                false => NONE,
            };
        }
        let stack = if at == NONE { Vec::new() } else { vec![at] };
        Within { trie: self, stack }
    }

    /// Those of [`Trie::within`] that come behind another prefix.
    pub(super) fn behind(&self, prefix: Bits, after: Bits) -> Within<'_> {
        let Within { mut stack, .. } = self.within(prefix);
        let mut next = stack.pop();
        while let Some(at) = next.take() {
            let node = self.node(at);
            let around = node.prefix();
            if around > after {
                // And so does all under it.
                stack.push(at);
            } else if after.common(around) == around.len {
                let [left, right] = node.children;
                let is_left = around.len < after.len && after.bit(around.len) == 0;
                let is_right = around.len < after.len && !is_left;
                if !is_right && right != NONE {
                    stack.push(right);
                }
                match (is_left, is_right) {
                    (true, _) => next = Some(left),
                    (_, true) => next = Some(right),
                    // It is this very prefix.
                    (false, false) => stack.extend(Some(left).filter(|left| *left != NONE)),
                }
                next = next.filter(|next| *next != NONE);
            }
        }
        Within { trie: self, stack }
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize] // `as`: widening
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize] // `as`: widening
    }

    fn child(&self, at: u32, side: usize) -> u32 {
        self.node(at).children[side]
    }

    fn set(&mut self, link: Link, to: u32) {
        match link {
            Link::Root => self.root = to,
            Link::Child(at, side) => self.node_mut(at).children[side] = to,
        }
    }

    fn allocate(&mut self, node: Node) -> u32 {
        if self.free == NONE {
            self.nodes.push(node);
            return u32::try_from(self.nodes.len() - 1).expect("memory ends before 2^32 nodes");
        }
        let at = self.free;
        let [next, _] = self.node(at).children;
        self.free = next;
        *self.node_mut(at) = node;
        at
    }

    fn release(&mut self, at: u32) {
        self.node_mut(at).children = [self.free, NONE];
        self.free = at;
    }
}

/// What [`Trie::within`] finds.
#[derive(Debug)]
pub(super) struct Within<'a> {
    trie: &'a Trie,
    stack: Vec<u32>,
}

impl Iterator for Within<'_> {
    type Item = (Bits, u32);

    fn next(&mut self) -> Option<(Bits, u32)> {
        loop {
            let node = self.trie.node(self.stack.pop()?);
            let below = node.children.into_iter().rev();
            self.stack.extend(below.filter(|child| *child != NONE));
            if node.value != NONE {
                return Some((node.prefix(), node.value));
            }
        }
    }
}

#[cfg(test)]
mod tests;
