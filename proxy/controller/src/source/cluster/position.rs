//! Where a watch stands, and how it goes on.

use super::failure::{Failure, FailureSort};

/// How everything is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// By a watch that begins with all objects.
    Streaming,
    /// Page by page, before a watch.
    Paged,
    /// In one answer, since the pages expire before they are read.
    Whole,
}

/// Where a watch stands.
pub(super) struct Position {
    pub(super) listing: Listing,
    /// The version of everything that has been seen; `None` before a list is whole.
    pub(super) version: Option<String>,
    /// Whether the last watch broke off, so that the server may be another one by now.
    pub(super) broke: bool,
    /// Streaming lists that the server ended before they were whole.
    pub(super) cut: u32,
    /// Watches in a row that were silent from their begin: for a kind of which there was never an object, some servers
    /// send no bookmarks.
    pub(super) quiet: u32,
}

impl Position {
    /// Where every watch begins.
    pub(super) fn start() -> Self {
        Self {
            listing: Listing::Streaming,
            version: None,
            broke: false,
            cut: 0,
            quiet: 0,
        }
    }

    /// What to do otherwise next time.
    pub(super) fn learn(&mut self, failure: &Failure) {
        match failure.sort {
            FailureSort::Gone => {
                let expired = self.version.take().is_none();
                if expired && self.listing == Listing::Paged {
                    self.listing = Listing::Whole;
                }
            }
            FailureSort::StreamingRefused => self.listing = Listing::Paged,
            FailureSort::Connection | FailureSort::Silent | FailureSort::Garbled => {
                self.broke = true;
            }
            FailureSort::Ended if self.version.is_none() => {
                self.cut += 1;
                if self.cut > 1 {
                    self.listing = Listing::Paged;
                }
            }
            _ => {}
        }
    }
}
