//! `state: present | absent`, which means the same in every module that has it.

use serde::Deserialize;

/// Whether what a task names shall be there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    #[default]
    Present,
    Absent,
}
