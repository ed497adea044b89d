//! What a plan has announced on this host and not done: its later steps are told as if that were there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::attributes::Wanted;

/// What earlier steps of the same plan would have brought.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    folders: BTreeMap<PathBuf, Wanted>,
    packages: bool,
}

impl Planned {
    /// A folder would be made.
    pub(super) fn make_folder(&mut self, path: &Path, wanted: Wanted) {
        self.folders.insert(path.to_owned(), wanted);
    }

    /// Whether a folder would be there by now as it is asked for, with the parents that are made along with it.
    pub(super) fn has_folder(&self, path: &Path, wanted: Wanted) -> bool {
        let asks_nothing = wanted == Wanted::default();
        self.folders.get(path).is_some_and(|made| asks_nothing || *made == wanted)
            || asks_nothing && self.folders.keys().any(|made| made.starts_with(path))
    }

    /// Packages would be installed.
    pub(super) fn install(&mut self) {
        self.packages = true;
    }

    /// Whether a file may be there by then that is not there now.
    pub(super) fn may_bring_files(&self) -> bool {
        self.packages
    }
}
