//! Where the password of sudo comes from: a file, the secrets, or who sits at the terminal. Never from a command line.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::host::{Password, PasswordFileError};
use crate::inventory::Inventory;

/// Names the file where there is no option.
const VARIABLE: &str = "FUTAGO_BECOME_PASSWORD_FILE";
/// Name of the secret.
const SECRET: &str = "become_password";

/// How a user who is not root becomes root. Without any of it the password is asked for when sudo wants one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Sudo {
    /// Ask for the password of sudo before any host is contacted
    #[arg(short = 'K', long, conflicts_with = "become_password_file")]
    ask_become_pass: bool,
    /// File with the password of sudo, which only you can read [env: FUTAGO_BECOME_PASSWORD_FILE]
    #[arg(long, value_name = "FILE", alias = "become-pass-file")]
    become_password_file: Option<PathBuf>,
    /// What is in the file: a pipe can be read only once.
    #[arg(skip)]
    read: OnceLock<Password>,
}

/// The password could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SudoError {
    /// From the file.
    #[error(transparent)]
    File(#[from] PasswordFileError),
    /// From the terminal.
    #[error(
        "-K asks for the password of {user} on the terminal: {source}; without a terminal use --become-password-file"
    )]
    Ask {
        /// Whose.
        user: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Sudo {
    /// The file that is named by the option.
    #[must_use]
    pub(crate) fn file(&self) -> Option<&Path> {
        self.become_password_file.as_deref()
    }

    /// The password for the hosts of an inventory, as far as it is known before they are contacted.
    pub fn password(&self, inventory: &Inventory) -> Result<Option<Password>, SudoError> {
        let user = &inventory.ssh.user;
        if user == "root" {
            return Ok(None);
        }
        if self.ask_become_pass {
            let typed = Password::typed(user);
            return Ok(Some(typed.map_err(|source| SudoError::Ask { user: user.clone(), source })?));
        }
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        if let Some(file) = self.become_password_file.clone().or(named) {
            let read = self.read.get().cloned().map_or_else(|| Password::of_file(&file), Ok)?;
            return Ok(Some(self.read.get_or_init(|| read).clone()));
        }
        let secrets = &inventory.secrets;
        let secret = secrets.values().get(SECRET).and_then(|value| value.as_str());
        let origin = format!("`{SECRET}` in {}", secrets.file().display());
        Ok(secret.map(|text| Password::new(text, &origin)))
    }
}
