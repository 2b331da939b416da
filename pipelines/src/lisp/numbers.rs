//! Numbers of elements: handed out, given back, and handed out again once no reader can be at them.

/// What hands them out.
pub(super) struct Numbers {
    next: u32,
    free: Vec<u32>,
}

impl Numbers {
    /// Numbers from `first` on.
    pub(super) fn from(first: u32) -> Self {
        Self {
            next: first,
            free: Vec::new(),
        }
    }

    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// How many there are, in use or free, number 0 included.
    pub(super) fn made(&self) -> usize {
        self.next as usize // `as`: u32 to usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again() {
        let mut numbers = Numbers::from(1);
        assert_eq!([numbers.take(), numbers.take()], [1, 2]);
        numbers.give_back(1);
        assert_eq!([numbers.take(), numbers.take()], [1, 3]);
        assert_eq!(numbers.made(), 4);
    }
}
