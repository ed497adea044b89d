//! Why a module did not do what it was asked to.

use std::io;
use std::path::PathBuf;

use base::process::ProcessError;

use crate::protocol::Failure;

/// A module failed, or refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or device could not be worked with.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// Bare verb: `read`, `replace`.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program said something that is not understood.
    #[error("understand the answer of `{command}`: {reason}")]
    Answer { command: String, reason: String },
    /// A guard said no; nothing was touched.
    #[error("{what}")]
    Refused { what: String, hint: String },
    /// The wanted state was not reached in time.
    #[error("{what}")]
    Late { what: String, output: String, hint: String },
    /// A user or group does not exist (yet).
    #[error("there is no {kind} \"{name}\" on this host")]
    NoSuchOwner { kind: &'static str, name: String },
    /// The arguments contradict what is on the host.
    #[error("{0}")]
    Args(String),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Process(ProcessError::Failed { command, status, tail }) => {
                Self { message: format!("`{command}` failed ({status})"), output: tail, hint: None }
            }
            Error::Process(ProcessError::Start { ref source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                let hint = "install the package that brings this program in an earlier task".to_owned();
                Self { message, hint: Some(hint), ..Self::default() }
            }
            Error::Refused { hint, .. } => Self { message, hint: Some(hint), ..Self::default() },
            Error::Late { output, hint, .. } => Self { message, output, hint: Some(hint) },
            Error::NoSuchOwner { .. } => {
                let hint = "the package that makes it must be installed by an earlier task".to_owned();
                Self { message, hint: Some(hint), ..Self::default() }
            }
            _ => Self { message, ..Self::default() },
        }
    }
}
