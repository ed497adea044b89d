//! The program brought onto a host, once for each content.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use russh::ChannelMsg;
use russh::client::Handle;
use sha2::{Digest as _, Sha256};

use super::channel::Tail;
use super::root::{self, Begun};
use super::verify::Verifier;
use super::{HostError, Target};

/// Folder on the host that holds the program, readable by root only.
pub(super) const FOLDER: &str = "/var/lib/futago/program";

/// An executable file and the SHA-256 of its content.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    hash: String,
}

impl Program {
    /// The running program; it is hashed once.
    pub fn running() -> io::Result<&'static Self> {
        static RUNNING: OnceLock<Program> = OnceLock::new();
        if let Some(program) = RUNNING.get() {
            return Ok(program);
        }
        // The link leads to the running file even after its path was replaced.
        let program = Self::at(Path::new("/proc/self/exe"))?;
        Ok(RUNNING.get_or_init(|| program))
    }

    /// The program in a file.
    pub fn at(path: &Path) -> io::Result<Self> {
        let hash = Sha256::digest(fs::read(path)?).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.to_path_buf(), hash })
    }

    /// Where it is on a host.
    pub(super) fn remote_path(&self) -> String {
        format!("{FOLDER}/{}", self.hash)
    }

    /// Writes it to the host and verifies what arrived; older versions are removed.
    pub(super) async fn upload(&self, handle: &Handle<Verifier>, target: &Target) -> Result<(), HostError> {
        let failed = |reason: String| HostError::Upload {
            host: target.name.clone(),
            path: self.remote_path(),
            reason,
        };
        let bytes =
            tokio::fs::read(&self.path).await.map_err(|e| failed(format!("read the program: {e}")))?;
        let (status, tail) = self.transfer(handle, target, &bytes).await?;
        if status == Some(0) {
            return Ok(());
        }
        Err(failed(format!("the host could not store or verify it: {}", tail.said())))
    }

    async fn transfer(
        &self,
        handle: &Handle<Verifier>,
        target: &Target,
        bytes: &[u8],
    ) -> Result<(Option<u32>, Tail), HostError> {
        let Begun { mut reader, writer, complaint, code, .. } =
            root::begin(handle, target, &["sh", "-c", &self.script()], None, "copy the program").await?;
        let write = async {
            writer.data(bytes).await?;
            writer.eof().await
        };
        let read = async {
            let (mut status, mut tail) = (code, complaint);
            while let Some(message) = reader.wait().await {
                match message {
                    ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } => tail.push(&data),
                    ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                    _ => {}
                }
            }
            (status, tail)
        };
        // A host that closes the channel never makes room for the rest: its end is the end, not ours.
        let mut read = std::pin::pin!(read);
        Ok(tokio::select! {
            result = &mut read => result,
            // A failed write shows in the exit status, with the reason in what the host said.
            _ = write => read.await,
        })
    }

    /// A shell on the host does this, because nothing of ours is there yet. No other programs than coreutils.
    fn script(&self) -> String {
        let hash = &self.hash;
        format!(
            "umask 077 && mkdir -p {FOLDER} && chmod 700 {FOLDER} && cd {FOLDER} && t=.{hash}.$$ && \
             trap \"rm -f $t\" EXIT && cat >$t && echo \"{hash}  $t\" | sha256sum -c --quiet - && chmod 700 $t && \
             sync $t && mv -f $t {hash} && for f in *; do [ \"$f\" = {hash} ] || rm -f \"$f\"; done"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, "abc").unwrap();
        let program = Program::at(&path).unwrap();
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(program.remote_path(), format!("/var/lib/futago/program/{hash}"));
    }
}
