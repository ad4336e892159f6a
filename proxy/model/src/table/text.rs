//! Short texts within their owner, so that comparing one reads no other memory.

/// A text that is compared with requests: a host's name, a rule's path, an element of one. 32 bytes.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Short { length: u8, text: [u8; SHORT] },
    Long(Box<str>),
}

/// Up to this many bytes a text is short. With as many bytes more its owner fills one line of a processor's cache.
const SHORT: usize = 30;

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut short = [0; SHORT];
        match (u8::try_from(text.len()), short.get_mut(..text.len())) {
            (Ok(length), Some(start)) => {
                start.copy_from_slice(text.as_bytes());
                Self::Short {
                    length,
                    text: short,
                }
            }
            _ => Self::Long(text.into()),
        }
    }
}

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, text } => &text[..usize::from(*length)],
            Self::Long(text) => text.as_bytes(),
        }
    }

    /// As text again: slower, as it is checked once more.
    pub(super) fn as_str(&self) -> Option<&str> {
        str::from_utf8(self.as_bytes()).ok()
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Short { length, .. } => usize::from(*length),
            Self::Long(text) => text.len(),
        }
    }
}
