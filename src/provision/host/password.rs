//! The password that sudo asks for on a host. It has no text form: nothing can print it by accident.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;

use crate::ask::{Once, ask};

/// Longest file that may hold one.
const MAX_BYTES: u64 = 4096;

const MIN_MASKED_CHARS: usize = 6;

/// Typed ones by user.
static TYPED: Once<Password> = Once::new();

/// A password, and where it is from.
#[derive(Clone)]
pub struct Password {
    line: Arc<[u8]>,
    origin: Arc<str>,
}

/// A file that holds no password, or one that others know.
#[derive(Debug, thiserror::Error)]
#[error("read the password of sudo from {}: {reason}", path.display())]
pub struct PasswordFileError {
    path: PathBuf,
    reason: String,
}

impl Password {
    /// One that is known already; `origin` says from where: `from FILE`.
    #[must_use]
    pub fn new(text: &str, origin: &str) -> Self {
        let line = [text.as_bytes(), b"\n"].concat();
        Self { line: line.into(), origin: origin.into() }
    }

    /// The only line of a file that nobody else can read, or of a pipe.
    pub fn of_file(path: &Path) -> Result<Self, PasswordFileError> {
        let failed = |reason: String| PasswordFileError { path: path.to_owned(), reason };
        let (file, mode) = open(path).map_err(|error| failed(error.to_string()))?;
        if FileType::from_raw_mode(mode) == FileType::RegularFile && mode & 0o077 != 0 {
            return Err(failed(format!("others can read it; chmod 600 {}", path.display())));
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        match line {
            "" => Err(failed("it is empty".to_owned())),
            _ if line.contains('\n') => {
                Err(failed("it must be one line, with nothing but the password".to_owned()))
            }
            _ => Ok(Self::new(line, &format!("from {}", path.display()))),
        }
    }

    /// Asks for the one of a user, once; blocks. Other hosts wait for the same answer.
    pub(crate) fn typed(user: &str) -> io::Result<Self> {
        let nothing = || io::Error::new(io::ErrorKind::UnexpectedEof, "nothing was typed");
        let answered = TYPED.answer(user, || {
            let mut line = ask(&format!("Password of {user} for sudo: "))?;
            if line.is_empty() {
                return Err(nothing());
            }
            line.push(b'\n');
            Ok(Self { line: line.into(), origin: "typed".into() })
        });
        answered?.ok_or_else(nothing)
    }

    /// With its end of line, for sudo's ears only.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// For the mask of reports; a short one would mask ordinary words.
    pub(crate) fn masked(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.line);
        let text = text.trim_end_matches('\n');
        (text.chars().count() >= MIN_MASKED_CHARS).then(|| text.to_owned())
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }
}

fn open(path: &Path) -> io::Result<(File, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    Ok((file, mode))
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({})", self.origin)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_holds_one_line_that_nobody_else_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let read = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Password::of_file(&path).map_err(|error| error.to_string())
        };
        let password = read("hunter 2 \n", 0o600).unwrap();
        assert_eq!(password.line(), b"hunter 2 \n");
        assert!(!format!("{password:?}").contains("hunter"), "{password:?}");
        let refusal = |text, mode| read(text, mode).unwrap_err();
        assert!(refusal("hunter2\n", 0o640).contains("others can read it; chmod 600 "));
        assert!(refusal("\n", 0o600).contains("it is empty"));
        assert!(refusal("hunter2\nmore\n", 0o600).contains("one line"));
        fs::remove_file(&path).unwrap();
        let missing = Password::of_file(&path).unwrap_err().to_string();
        assert!(
            missing.starts_with("read the password of sudo from ") && missing.contains("No such file"),
            "{missing}"
        );
    }
}
