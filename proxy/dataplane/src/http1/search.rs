//! When a head that comes in pieces is worth another look.

use crate::buffer;

/// Spares a head that comes in small pieces from being parsed at every piece.
#[derive(Default)]
pub(super) struct Search {
    seen: usize,
}

impl Search {
    /// Whether a head may be complete, or can be refused.
    pub(super) fn is_worth_parsing(&mut self, bytes: &[u8]) -> bool {
        let (first, from) = (self.seen == 0, self.seen.saturating_sub(3));
        self.seen = bytes.len();
        let fresh = bytes.get(from..).unwrap_or_default();
        !bytes.is_empty()
            && (first
                || bytes.len() >= buffer::SIZE
                || memchr::memmem::find(fresh, b"\n\r\n").is_some()
                || memchr::memmem::find(fresh, b"\n\n").is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_and_the_end_of_a_head_are_looked_at() {
        let head = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut search = Search::default();
        assert!(!search.is_worth_parsing(b""));
        let looks = (1..=head.len()).filter(|end| search.is_worth_parsing(&head[..*end]));
        assert_eq!(looks.collect::<Vec<_>>(), [1, head.len()]);
    }
}
