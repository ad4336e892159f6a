//! Bytes that a stream could not pass on yet.

/// Bytes taken from the front and added at the end. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Leftover {
    bytes: Vec<u8>,
    taken: usize,
}

impl Leftover {
    pub(super) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// What is still to be taken.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    /// Takes up to `count` bytes away from the front.
    pub(super) fn take(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count);
        if self.is_empty() {
            *self = Self::default();
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_in_order_and_the_memory_with_the_last() {
        let mut left = Leftover::default();
        left.append(b"abc");
        left.take(2);
        left.append(b"def");
        assert_eq!(left.rest(), b"cdef");
        left.take(9);
        assert!(left.is_empty());
        assert_eq!(left.bytes.capacity(), 0);
        left.append(b"");
        assert!(left.is_empty());
    }
}
