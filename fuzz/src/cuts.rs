//! Where a stream of bytes is cut: as a network may do it, and the same again for the same input.

/// Cuts bytes into pieces of lengths that a seed decides.
#[derive(Clone, Debug)]
pub struct Cuts {
    state: u64,
    /// Pieces are at most so long; `None`: nothing is cut.
    longest: Option<usize>,
}

impl Cuts {
    /// The low bits of the seed say how long pieces may be: the whole, one byte, a few, some hundred.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self {
            state: u64::from(seed) << 1 | 1,
            longest: match seed % 4 {
                0 => None,
                1 => Some(1),
                2 => Some(7),
                _ => Some(300),
            },
        }
    }

    /// The first piece and what is left; `None` at the end.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        if bytes.is_empty() {
            return None;
        }
        let Some(longest) = self.longest else {
            return Some((bytes, &[]));
        };
        // A multiplicative generator modulo 2^64 (L'Ecuyer 1999); its upper bits are good enough for lengths.
        self.state = self.state.wrapping_mul(3_935_559_000_370_003_845);
        let draw = usize::try_from(self.state >> 33).unwrap_or(0);
        Some(bytes.split_at(1 + draw % longest.min(bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(seed: u8, whole: &[u8]) -> Vec<&[u8]> {
        let (mut cuts, mut rest, mut pieces) = (Cuts::new(seed), whole, Vec::new());
        while let Some((piece, left)) = cuts.next(rest) {
            pieces.push(piece);
            rest = left;
        }
        pieces
    }

    #[test]
    fn pieces_are_the_whole_in_order() {
        let whole: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for seed in 0..=255 {
            let pieces = pieces(seed, &whole);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert_eq!(pieces.concat(), whole);
        }
    }

    #[test]
    fn seeds_choose_the_lengths() {
        let counts = [4, 5, 6, 7].map(|seed| pieces(seed, &[0; 100]).len());
        assert_eq!(counts[0], 1);
        assert_eq!(counts[1], 100);
        assert!((15..100).contains(&counts[2]), "{counts:?}");
    }
}
