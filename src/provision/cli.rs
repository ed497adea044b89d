//! The command line of this part.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::agent;
use crate::inventory;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write an example project into a folder.
    Init {
        /// The folder; made when missing.
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Print the JSON Schema of the inventory, for editors.
    Schema,
    /// Carry out steps on this host for a controller; started by it over SSH.
    #[command(hide = true)]
    Agent {
        /// On whose behalf.
        #[arg(long, default_value = "someone")]
        holder: String,
    },
}

/// Runs a verb; the number is the exit code of the program.
pub fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Init { folder } => {
            let path = inventory::write_example(&folder)
                .with_context(|| format!("write an example into {}", folder.display()))?;
            eprintln!("wrote {path}; next: futago plan -i {path}", path = path.display());
        }
        Command::Agent { holder } => return agent::run(&holder),
        Command::Schema => print!("{}", inventory::json_schema()),
    }
    Ok(0)
}
