//! The agent on a host, spoken to through one SSH channel.

use std::collections::BTreeSet;
use std::time::Duration;

use base::frame::{self, Decoder};
use russh::client::{Handle, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};

use super::error::RUN;
use super::upload::Program;
use super::verify::Verifier;
use super::{HostError, Target, reaches, root};
use crate::agent::EXIT_BUSY;
use crate::protocol::{Facts, Outcome, Owed, Progress, Reply, Request, VERSION};

/// Bound for the agent's first words: starting, waiting for the lock, saying hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(30);
/// Bound for the agent's end once it has nothing more to do.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Exit codes of a shell that could not execute a program.
const NOT_EXECUTABLE: [u32; 2] = [126, 127];

const START: &str = "start the agent";

/// The last bytes that a remote program wrote.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

/// Bytes kept of what a remote program said.
const TAIL_BYTES: usize = 4096;

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(TAIL_BYTES);
        self.0.drain(..excess);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0).contains(text)
    }

    pub(super) fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim();
        if text.is_empty() { "it said nothing".into() } else { text.into() }
    }
}

/// A running agent.
pub(super) struct Agent {
    host: String,
    writer: ChannelWriteHalf<Msg>,
    incoming: Incoming,
    facts: Facts,
    owed: BTreeSet<Owed>,
}

/// What comes from the agent, as far as it has come.
struct Incoming {
    reader: ChannelReadHalf,
    decoder: Decoder,
    log: Tail,
    code: Option<u32>,
}

/// How the agent's channel went on.
enum Event {
    Reply(Reply),
    /// The channel is closed; the exit code when there was one.
    Ended(Option<u32>),
}

impl Agent {
    /// Starts the agent; brings the program onto the host first when it is not there.
    pub(super) async fn start(
        handle: &Handle<Verifier>,
        target: &Target,
        program: &Program,
    ) -> Result<Self, HostError> {
        if let Some(agent) = Self::try_start(handle, target, program).await? {
            return Ok(agent);
        }
        program.upload(handle, target).await?;
        let started = Self::try_start(handle, target, program).await?;
        started.ok_or_else(|| HostError::Upload {
            host: target.name.clone(),
            path: program.remote_path(),
            reason:
                "it arrived whole, but the host cannot execute it: is it another architecture, or is the \
                     folder mounted noexec?"
                    .into(),
        })
    }

    /// `None` when the program is not on the host.
    async fn try_start(
        handle: &Handle<Verifier>,
        target: &Target,
        program: &Program,
    ) -> Result<Option<Self>, HostError> {
        let path = program.remote_path();
        // The agent looks for the system's programs where a user's shell may not.
        let script = format!(
            "[ -x {path} ] || exit 127; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH; \
             exec {path} agent --holder {}",
            holder()
        );
        let begun = root::begin(handle, target, &["sh", "-c", &script], None, START).await?;
        let mut decoder = Decoder::default();
        decoder.push(&begun.said);
        let mut agent = Self {
            host: target.name.clone(),
            writer: begun.writer,
            incoming: Incoming { reader: begun.reader, decoder, log: begun.complaint, code: begun.code },
            facts: Facts::default(),
            owed: BTreeSet::new(),
        };
        match tokio::time::timeout(HELLO_TIMEOUT, agent.incoming.next()).await {
            Err(_) => Err(start_error(target, format!("it does not answer; {}", agent.incoming.log.said()))),
            Ok(Err(reason)) => Err(start_error(target, reason)),
            Ok(Ok(Event::Ended(code))) => match code {
                Some(code) if NOT_EXECUTABLE.contains(&code) => Ok(None),
                code => Err(agent.start_failure(target, code)),
            },
            Ok(Ok(Event::Reply(Reply::Hello { version: VERSION, facts, owed }))) => {
                (agent.facts, agent.owed) = (facts, owed);
                Ok(Some(agent))
            }
            Ok(Ok(Event::Reply(_))) => {
                Err(start_error(target, format!("it is not the agent of this program (language {VERSION})")))
            }
        }
    }

    fn start_failure(&self, target: &Target, code: Option<u32>) -> HostError {
        let said = self.incoming.log.said();
        if code == Some(EXIT_BUSY.into()) {
            return HostError::Busy { host: target.name.clone(), holder: said };
        }
        start_error(target, said)
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn owed(&self) -> &BTreeSet<Owed> {
        &self.owed
    }

    /// Asks for something and waits for its end; the target is for a new connection, when a step wants to know of one.
    pub(super) async fn ask(
        &mut self,
        target: &Target,
        request: &Request,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, HostError> {
        let result = self.exchange(target, request, progress).await;
        result.map_err(|reason| HostError::Agent { host: self.host.clone(), action: RUN, reason })
    }

    async fn exchange(
        &mut self,
        target: &Target,
        request: &Request,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Outcome, String> {
        let request = frame::encode(request).map_err(|e| e.to_string())?;
        // An agent that has ended never makes room for the rest of a large request.
        let mut early = tokio::select! {
            sent = self.writer.data(request.as_slice()) => {
                sent.map_err(|e| self.lost(&e.to_string()))?;
                None
            }
            event = self.incoming.next() => Some(event?),
        };
        loop {
            let event = match early.take() {
                Some(event) => event,
                None => self.incoming.next().await?,
            };
            match event {
                Event::Reply(Reply::Progress(sign)) => progress(sign),
                Event::Reply(Reply::Reach { seconds }) => {
                    let through = reaches(target, Duration::from_secs(seconds)).await;
                    let answer = frame::encode(&Request::Reached { through }).map_err(|e| e.to_string())?;
                    self.writer.data(answer.as_slice()).await.map_err(|e| self.lost(&e.to_string()))?;
                }
                Event::Reply(Reply::Done(outcome)) => return Ok(outcome),
                Event::Reply(Reply::Hello { .. }) => return Err("the agent answered out of turn".into()),
                Event::Ended(Some(code)) => {
                    return Err(self.lost(&format!("the agent ended with exit code {code}")));
                }
                Event::Ended(None) => return Err(self.lost("the connection was lost")),
            }
        }
    }

    fn lost(&self, what: &str) -> String {
        format!(
            "{what} in the middle of a step, which may have been done or not; {}",
            self.incoming.log.said()
        )
    }

    /// Closes the agent's input and waits, with a bound, until it has ended and given up the host's lock.
    pub(super) async fn close(mut self) {
        if self.writer.eof().await.is_err() {
            return;
        }
        let ended = async { while self.incoming.reader.wait().await.is_some() {} };
        // An agent that does not end by itself ends with the connection.
        let _ = tokio::time::timeout(END_TIMEOUT, ended).await;
    }
}

impl Incoming {
    /// The next whole reply, or the end. Nothing is lost when it is given up in the middle.
    async fn next(&mut self) -> Result<Event, String> {
        loop {
            if let Some(reply) = self.decoder.next().map_err(|e| format!("{e}; {}", self.log.said()))? {
                return Ok(Event::Reply(reply));
            }
            // The exit code may come before or after the end of the output: only the close is the end.
            match self.reader.wait().await {
                Some(ChannelMsg::Data { data }) => self.decoder.push(&data),
                Some(ChannelMsg::ExtendedData { data, .. }) => self.log.push(&data),
                Some(ChannelMsg::ExitStatus { exit_status }) => self.code = Some(exit_status),
                Some(_) => {}
                None => return Ok(Event::Ended(self.code)),
            }
        }
    }
}

fn start_error(target: &Target, reason: String) -> HostError {
    HostError::Agent { host: target.name.clone(), action: START, reason }
}

/// Who holds the host's lock, in letters that need no quotes: `name@controller`.
fn holder() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| format!("uid{}", rustix::process::getuid().as_raw()));
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let safe = |c: char| if c.is_ascii_alphanumeric() || "@.-_".contains(c) { c } else { '_' };
    format!("{user}@{machine}").chars().map(safe).collect()
}
