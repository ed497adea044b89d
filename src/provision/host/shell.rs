//! A program on a host with our own input and output: what it says is said here, its exit code is ours.
//!
//! When a person sits at a terminal the program gets one too, so that live views and questions work as on the host.

use std::io::{self, IsTerminal as _};

use russh::client::Handle;
use russh::{ChannelMsg, ChannelWriteHalf, Disconnect, client::Msg};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::root::{self, Begun, Terminal};
use super::verify::Verifier;
use super::{HostError, Target, login, open};

const DO: &str = "run a command";
/// A screenful of typing; a paste comes in several.
const TYPED_BYTES: usize = 4096;

/// A host that we are logged in to.
pub struct Shell {
    pub(super) handle: Handle<Verifier>,
    pub(super) target: Target,
}

impl Shell {
    /// Connects, verifies the host's key and logs in; nothing is started there.
    pub async fn connect(target: Target) -> Result<Self, HostError> {
        let mut handle = open(&target).await?;
        login::login(&mut handle, &target).await?;
        Ok(Self { handle, target })
    }

    /// Runs a program as root, silently; its exit code.
    pub(crate) async fn code(&self, words: &[&str]) -> Result<u32, HostError> {
        self.run(words, To::Nobody).await
    }

    /// Runs a program as root, silently; its exit code, and what it says on stdout.
    pub async fn answer(&self, words: &[&str]) -> Result<(u32, String), HostError> {
        let mut said = Vec::new();
        let code = self.run(words, To::Kept(&mut said)).await?;
        Ok((code, String::from_utf8_lossy(&said).into_owned()))
    }

    /// Runs a program as root and shows what it says; its exit code.
    pub(crate) async fn show(self, words: &[&str]) -> Result<u32, HostError> {
        let code = self.run(words, To::Shown).await?;
        // The host notices a closed connection as well.
        let _ = self.handle.disconnect(Disconnect::ByApplication, "", "en").await;
        Ok(code)
    }

    /// Starts a program as root.
    pub(super) async fn begin(&self, words: &[&str], terminal: Option<Terminal>) -> Result<Begun, HostError> {
        root::begin(&self.handle, &self.target, words, terminal, DO).await
    }

    async fn run(&self, words: &[&str], mut to: To<'_>) -> Result<u32, HostError> {
        let terminal = matches!(to, To::Shown) && io::stdin().is_terminal() && io::stdout().is_terminal();
        let kind = || std::env::var("TERM").unwrap_or_else(|_| "xterm".into());
        let wanted = terminal.then(|| (kind(), size().0, size().1));
        let Begun { mut reader, writer, said, complaint, mut code } = self.begin(words, wanted).await?;
        to.hear(&said);
        to.hear_complaint(complaint.bytes());
        let raw = if terminal { Raw::enter() } else { None };
        let typing = async {
            if terminal {
                type_on(&writer).await;
            } else {
                drop(writer.eof().await);
            }
            std::future::pending::<()>().await;
        };
        let listening = async {
            while let Some(message) = reader.wait().await {
                match message {
                    ChannelMsg::Data { data } => to.hear(&data),
                    ChannelMsg::ExtendedData { data, .. } => to.hear_complaint(&data),
                    ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
                    _ => {}
                }
            }
            code
        };
        let code = tokio::select! {
            code = listening => code,
            () = typing => None,
        };
        drop(raw);
        code.ok_or_else(|| HostError::Agent {
            host: self.target.name.clone(),
            action: DO,
            reason: "the connection was lost; what was asked for may go on there".into(),
        })
    }
}

/// Who hears what a program says.
enum To<'a> {
    Nobody,
    /// The person who sits here.
    Shown,
    /// Its stdout.
    Kept(&'a mut Vec<u8>),
}

impl To<'_> {
    fn hear(&mut self, bytes: &[u8]) {
        match self {
            Self::Nobody => {}
            Self::Shown => say(&mut io::stdout(), bytes),
            Self::Kept(said) => said.extend_from_slice(bytes),
        }
    }

    fn hear_complaint(&self, bytes: &[u8]) {
        if matches!(self, Self::Shown) {
            say(&mut io::stderr(), bytes);
        }
    }
}

fn say(to: &mut impl io::Write, bytes: &[u8]) {
    // Nobody may be reading; the exit code tells all the same.
    let _ = to.write_all(bytes).and_then(|()| to.flush());
}

fn size() -> (u32, u32) {
    let size = tcgetwinsize(io::stdout());
    size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

/// Sends what is typed, and how large the window is, until there is nothing more to read.
async fn type_on(writer: &ChannelWriteHalf<Msg>) {
    let mut input = tokio::io::stdin();
    let mut resized = signal(SignalKind::window_change()).ok();
    let mut buffer = vec![0; TYPED_BYTES];
    loop {
        let changed = async {
            match &mut resized {
                Some(resized) => resized.recv().await,
                None => std::future::pending().await,
            }
        };
        // A connection that is gone is noticed by who listens.
        tokio::select! {
            read = input.read(&mut buffer) => match read.map(|count| buffer.get(..count).unwrap_or_default()) {
                Ok(bytes) if !bytes.is_empty() => drop(writer.data(bytes).await),
                _ => return drop(writer.eof().await),
            },
            _ = changed => {
                let (columns, rows) = size();
                drop(writer.window_change(columns, rows, 0, 0).await);
            }
        }
    }
}

/// Keys go to the other side as they are; undone when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing undone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
