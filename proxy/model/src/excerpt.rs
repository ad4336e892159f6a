//! Values of others in our own messages: short and on one line.

use std::fmt;

/// Most characters of a value that are shown.
const SHOWN: usize = 100;

/// A value as messages quote it: its first 100 characters, and `…` when there are more. Control characters, which could
/// pass for the end of a log line, are escaped.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a>(pub &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(SHOWN) {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        match characters.next() {
            Some(_) => f.write_char('…'),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_control_characters_escaped() {
        assert_eq!(Excerpt("").to_string(), "");
        assert_eq!(Excerpt("a'é \n\u{85}b").to_string(), "a'é \\n\\u{85}b");
        let exact = "é".repeat(SHOWN);
        assert_eq!(Excerpt(&exact).to_string(), exact);
        let long = "é".repeat(1 << 20);
        assert_eq!(Excerpt(&long).to_string(), format!("{exact}…"));
    }
}
