//! Everything before contact: inventory and playbook are read and checked, all mistakes together.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::problem::Problems;

use crate::assets::Assets;
use crate::inventory::{self, Inventory};
use crate::plan::{self, Plan, Selection};
use crate::playbook::{self, Read};
use crate::quote::Quotes;
use crate::report::Mask;

/// What can be done.
#[derive(Debug)]
pub struct Prepared {
    /// The checked inventory.
    pub inventory: Inventory,
    /// The file of the checked playbook, as shown.
    pub playbook: String,
    /// The wanted part of it.
    pub plan: Plan,
}

/// Why nothing can be done. Shown, it is the whole text that the user needs.
#[derive(Debug)]
pub enum Refusal {
    /// A mistake in the command line.
    Usage(String),
    /// Mistakes in what the user wrote.
    Mistakes(Problems),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => f.write_str(message),
            Self::Mistakes(problems) => write!(f, "{problems}"),
        }
    }
}

/// Where the playbooks, templates and files of an inventory are looked for.
#[must_use]
pub fn assets(inventory: &Path) -> Assets {
    let beside = inventory.parent().unwrap_or(Path::new("")).to_owned();
    Assets::new(vec![inventory::project(inventory), beside, PathBuf::from(".")])
}

/// Reads and checks an inventory and a playbook. Also where one is wrong, what can be known of the other is said.
pub fn prepare(
    file: &Path,
    playbook: &str,
    selection: &Selection,
    assets: &Assets,
) -> Result<Prepared, Refusal> {
    let inventory = Inventory::load(file);
    if !file.is_file() {
        // Where the inventory is decides where everything else is looked for.
        return Err(Refusal::Mistakes(inventory.err().unwrap_or_default()));
    }
    let Read { playbook, mut problems, is_whole } = playbook::read(playbook, assets);
    let inventory = match inventory {
        Ok(inventory) => inventory,
        Err(mut all) => {
            all.extend(quoted(problems, file, &Mask::new(Inventory::hidden_in(file))));
            return Err(Refusal::Mistakes(all));
        }
    };
    if problems.is_empty() {
        plan::check_selection(selection, &playbook, &inventory).map_err(Refusal::Usage)?;
    }
    let plan = if is_whole {
        plan::prepare(&inventory, &playbook, selection, assets)
    } else {
        Err(Problems::default())
    };
    match plan {
        Ok(plan) if problems.is_empty() => Ok(Prepared { inventory, playbook: playbook.name, plan }),
        found => {
            problems.extend(found.err().unwrap_or_default());
            Err(Refusal::Mistakes(quoted(problems, file, &Mask::new(inventory.hidden()))))
        }
    }
}

/// The mistakes without secrets, with the lines of playbooks, templates and the inventory that may be shown.
fn quoted(problems: Problems, inventory: &Path, mask: &Mask) -> Problems {
    let mut problems = mask.problems(problems);
    let files: BTreeSet<Arc<str>> = problems.iter().map(|problem| problem.place.file.clone()).collect();
    for file in files {
        let Some(text) = Assets::shown(&file) else { continue };
        let is_inventory = Path::new(&*file) == inventory;
        let quotes = if is_inventory { Quotes::of_inventory(&text) } else { Quotes::of_asset(&file, &text) };
        problems = quotes.add(&file, mask, problems);
    }
    problems
}
