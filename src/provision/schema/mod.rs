//! `futago schema`: JSON Schemas of what people write, for editors.

use crate::{inventory, playbook};

#[cfg(test)]
mod structure;
#[cfg(test)]
mod tests;

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Of {
    /// An inventory
    Inventory,
    /// A playbook: a list of plays
    Playbook,
    /// A file that `import_tasks` names: a list of tasks
    Tasks,
}

/// The schema as text.
#[must_use]
pub fn text(of: Of) -> String {
    match of {
        Of::Inventory => inventory::json_schema().to_owned(),
        Of::Playbook => format!("{:#}\n", playbook::of_playbook()),
        Of::Tasks => format!("{:#}\n", playbook::of_tasks()),
    }
}
