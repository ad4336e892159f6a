//! Manifests in folders and files, read once or followed.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::Update;

/// Folders and files with manifests.
#[derive(Debug)]
pub struct Directory {}

impl Directory {
    /// Names what to read; nothing is read yet.
    pub fn new(_paths: Vec<PathBuf>) -> Self {
        Self {}
    }

    /// Reads whatever changed since the last call; at first everything.
    pub fn load(&mut self) -> Update {
        Update::default()
    }

    /// Follows the files until the receiver is gone. The first update is the complete view.
    pub async fn run(self, _updates: mpsc::Sender<Update>) {}
}
