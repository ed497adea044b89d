//! A program that runs as root on a host: at once for root, by sudo for everybody else.
//!
//! sudo asks for a password by a prompt that nobody else writes, and only then, once, gets it as a line of the channel's
//! input. Where it does not ask, the line would reach the program itself. What the program says begins behind a line
//! of its own, so that nothing that sudo or the shell of a user says is taken for it.

use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use super::channel::Tail;
use super::password::Password;
use super::verify::Verifier;
use super::{HostError, Target};

/// By this sudo asks; without letters that it or a shell understands.
const PROMPT: &str = "[futago: sudo wants a password]";
/// By this line the program begins.
const BEGIN: &str = "[futago: begin]";
/// Bound for sudo's answer; after a wrong password it takes its time.
const SUDO_TIMEOUT: Duration = Duration::from_secs(30);
/// More than any shell greets with.
const MAX_GREETING_BYTES: usize = 64 * 1024;

/// A terminal for a program: its kind, columns and rows.
pub(super) type Terminal = (String, u32, u32);

/// A program that has begun, and what has come from it meanwhile.
pub(super) struct Begun {
    pub(super) reader: ChannelReadHalf,
    pub(super) writer: ChannelWriteHalf<Msg>,
    /// On stdout.
    pub(super) said: Vec<u8>,
    /// On stderr.
    pub(super) complaint: Tail,
    pub(super) code: Option<u32>,
}

/// The command line of a program that runs as root; none when a word cannot be passed on.
fn line(user: &str, words: &[&str]) -> Option<String> {
    let program = shlex::try_join(words.iter().copied()).ok()?;
    if user == "root" {
        return Some(program);
    }
    let begin = format!("echo '{BEGIN}'; exec \"$@\"");
    let sudo = ["sudo", "-S", "-p", PROMPT, "--", "sh", "-c", &begin, "sh"];
    Some(format!("{} {program}", shlex::try_join(sudo).ok()?))
}

/// Starts a program as root. `action` is what it is for.
pub(super) async fn begin(
    handle: &Handle<Verifier>,
    target: &Target,
    words: &[&str],
    terminal: Option<Terminal>,
    action: &'static str,
) -> Result<Begun, HostError> {
    let failed = |reason: String| HostError::Agent { host: target.name.clone(), action, reason };
    let line =
        line(&target.user, words).ok_or_else(|| failed("a word of the command has a NUL byte".into()))?;
    let opened = async {
        let (reader, writer) = handle.channel_open_session().await?.split();
        if let Some((kind, columns, rows)) = terminal {
            writer.request_pty(false, &kind, columns, rows, 0, 0, &[]).await?;
        }
        writer.exec(true, line).await?;
        Ok::<_, russh::Error>((reader, writer))
    };
    let (reader, writer) = opened.await.map_err(|error| failed(error.to_string()))?;
    let begun = Begun { reader, writer, said: Vec::new(), complaint: Tail::default(), code: None };
    if target.user == "root" { Ok(begun) } else { begun.by_sudo(target).await }
}

/// What sudo does first.
enum Turn {
    /// The program runs.
    Begins,
    /// It wants a password.
    Asks,
}

impl Begun {
    async fn by_sudo(mut self, target: &Target) -> Result<Self, HostError> {
        if matches!(self.turn(target).await?, Turn::Begins) {
            return Ok(self);
        }
        let password = password(target).await?;
        (self.said, self.complaint) = (Vec::new(), Tail::default());
        // A channel that is gone is noticed by who reads it.
        let _ = self.writer.data(password.line()).await;
        match self.turn(target).await? {
            Turn::Begins => Ok(self),
            Turn::Asks => Err(HostError::SudoPassword {
                host: target.name.clone(),
                user: target.user.clone(),
                origin: password.origin().to_owned(),
            }),
        }
    }

    /// Reads until the program begins, or until sudo asks.
    async fn turn(&mut self, target: &Target) -> Result<Turn, HostError> {
        match tokio::time::timeout(SUDO_TIMEOUT, self.listen()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(())) => Err(self.refused(target, &self.complaint.said())),
            Err(_) => Err(self.refused(target, &format!("sudo does not answer; {}", self.complaint.said()))),
        }
    }

    fn refused(&self, target: &Target, reason: &str) -> HostError {
        HostError::Sudo { host: target.name.clone(), user: target.user.clone(), reason: reason.to_owned() }
    }

    async fn listen(&mut self) -> Result<Turn, ()> {
        loop {
            match self.reader.wait().await {
                Some(ChannelMsg::Data { data }) => self.said.extend_from_slice(&data),
                Some(ChannelMsg::ExtendedData { data, .. }) => self.complaint.push(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => self.code = Some(exit_status),
                Some(_) => {}
                None => {
                    // With a terminal there is one stream for both.
                    self.complaint.push(&self.said);
                    return Err(());
                }
            }
            if let Some(end) = end_of_line_with(BEGIN, &self.said) {
                self.said.drain(..end);
                return Ok(Turn::Begins);
            }
            if self.complaint.contains(PROMPT) || find(PROMPT, &self.said).is_some() {
                return Ok(Turn::Asks);
            }
            if self.said.len() > MAX_GREETING_BYTES {
                return Err(());
            }
        }
    }
}

/// The password of the user on the host: the one that is given, or the one that is typed.
async fn password(target: &Target) -> Result<Password, HostError> {
    if let Some(password) = &target.password {
        return Ok(password.clone());
    }
    let user = target.user.clone();
    let asking = tokio::task::spawn_blocking(move || Password::typed(&user)).await;
    let failed =
        |reason: String| HostError::SudoAsks { host: target.name.clone(), user: target.user.clone(), reason };
    asking.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

fn find(text: &str, bytes: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

/// Where the line with this text has ended.
fn end_of_line_with(text: &str, bytes: &[u8]) -> Option<usize> {
    let start = find(text, bytes)?;
    let rest = bytes.get(start..)?;
    Some(start + rest.iter().position(|byte| *byte == b'\n')? + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_are_and_the_password_is_none_of_them() {
        let words = ["futago", "cluster", "hold", "it's a test; $HOME"];
        let plain = "futago cluster hold \"it's a test; \"'$HOME'";
        assert_eq!(line("root", &words).unwrap(), plain);
        let by_sudo = line("admin", &words).unwrap();
        assert!(by_sudo.starts_with("sudo -S -p ") && by_sudo.ends_with(plain), "{by_sudo}");
        let split = shlex::split(&by_sudo).unwrap();
        assert_eq!(split[split.len() - words.len()..], words);
        assert_eq!(line("root", &["a\0b"]), None);
    }

    #[test]
    fn a_program_begins_behind_its_line_whatever_was_said_before() {
        let said = format!("Welcome!\r\n{BEGIN}\r\nfirst\n");
        let end = end_of_line_with(BEGIN, said.as_bytes()).unwrap();
        assert_eq!(&said[end..], "first\n");
        assert_eq!(end_of_line_with(BEGIN, format!("Welcome!\n{BEGIN}").as_bytes()), None);
    }
}
