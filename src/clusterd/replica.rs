//! The replication daemon as the manager sees it: its status as it changes, and the few commands that the core
//! gives. What the daemon says is handed on, never judged here.
//!
//! The two shapes of a request and the answers are the daemon's own (replicad::ctl); they are repeated because
//! shells do not depend on each other.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base::frame::FrameError;
use cluster::event::{Event, OpId, ReplicaVerb, ReplicaView};
use cluster::record::Term;
use replica::control::{Command, Refusal, Status};
use replica::state::{ConnectionState, Role};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch as channel;
use tokio::time::timeout;

use crate::frames::{self, Reader};
use crate::mailbox::{Input, Mailbox};

/// Pause before the daemon is looked for again: it restarts within a second.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The daemon says something at least this often only when something changes; its socket tells when it is gone.
/// Saying what is wanted takes no longer than this.
const ASK: Duration = Duration::from_secs(2);
/// Longest that an exchange of its program is believed to take: a daemon that can be connected to and says nothing.
const EXCHANGE: Duration = Duration::from_secs(3);
/// Longest that a command may take: a demotion makes everything durable on two disks.
const COMMAND: Duration = Duration::from_secs(20);
/// Taking the device away must not wait for anything.
const REVOKE: Duration = Duration::from_secs(5);
/// Commands that wait for the one before them; the core gives one and waits for its end.
const QUEUE: usize = 16;
/// Longest answer.
const MAX_ANSWER_BYTES: u32 = 1 << 20;

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    Watch { name: String },
    Command { name: String, command: Command, timeout_ms: Option<u64> },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Done,
    Refused(Refusal),
    TimedOut,
    Unknown { text: String },
    NotUp { text: String },
    Failed { text: String },
    Status(Vec<Report>),
}

#[derive(Debug, Deserialize)]
struct Report {
    status: Option<Status>,
    problem: Option<String>,
}

/// Why the daemon does not tell or do something.
#[derive(Debug, thiserror::Error)]
enum ReplicaError {
    /// It cannot be talked to.
    #[error("talk to the replication daemon at {}: {error}", socket.display())]
    Talk {
        /// Where.
        socket: PathBuf,
        /// Why.
        error: FrameError,
    },
    /// It does not answer.
    #[error("the replication daemon did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It says no.
    #[error("{refusal}: {}", refusal.detail)]
    Refused {
        /// Its words.
        refusal: Refusal,
    },
    /// It cannot.
    #[error("{0}")]
    Said(String),
}

/// The resource that this manager decides about.
#[derive(Clone, Debug)]
struct Resource {
    socket: PathBuf,
    name: String,
}

/// Gives commands to the daemon, in order.
#[derive(Debug)]
pub(crate) struct Replica {
    resource: Resource,
    mailbox: Mailbox,
    queue: mpsc::Sender<(OpId, ReplicaVerb)>,
}

impl Replica {
    /// Begins to watch and to command.
    /// `unseen` gets the reason why the resource cannot be seen.
    pub(crate) fn start(
        socket: PathBuf,
        name: String,
        mailbox: &Mailbox,
        unseen: channel::Sender<Option<String>>,
    ) -> Self {
        let resource = Resource { socket, name };
        let (queue, mut orders) = mpsc::channel(QUEUE);
        tokio::spawn(watch(resource.clone(), mailbox.clone(), unseen));
        let (commanded, answers) = (resource.clone(), mailbox.clone());
        tokio::spawn(async move {
            while let Some((op, verb)) = orders.recv().await {
                commanded.perform(op, verb, &answers).await;
            }
        });
        Self { resource, mailbox: mailbox.clone(), queue }
    }

    /// Gives a command; its end is reported to the driver.
    pub(crate) fn perform(&self, op: OpId, verb: ReplicaVerb) {
        if verb == ReplicaVerb::Revoke {
            let (resource, mailbox) = (self.resource.clone(), self.mailbox.clone());
            tokio::spawn(async move { resource.perform(op, verb, &mailbox).await });
            return;
        }
        if let Err(TrySendError::Full((op, _)) | TrySendError::Closed((op, _))) =
            self.queue.try_send((op, verb))
        {
            let mailbox = self.mailbox.clone();
            let result = Err(format!("{QUEUE} commands wait for the replication daemon already"));
            tokio::spawn(async move { mailbox.put(Input::Event(Event::ReplicaDone { op, result })).await });
        }
    }
}

impl Resource {
    async fn perform(&self, op: OpId, verb: ReplicaVerb, mailbox: &Mailbox) {
        let mut result = Ok(());
        for command in commands(verb) {
            if result.is_ok() {
                let wait = if command == Command::Revoke { REVOKE } else { COMMAND };
                result = self.command(command, wait).await;
            }
        }
        let result = result.map_err(|error| error.to_string());
        mailbox.put(Input::Event(Event::ReplicaDone { op, result })).await;
    }

    async fn command(&self, command: Command, wait: Duration) -> Result<(), ReplicaError> {
        let timeout_ms = u64::try_from(wait.as_millis()).ok();
        let request = Request::Command { name: self.name.clone(), command, timeout_ms };
        let mut reader = self.ask(&request).await?;
        // The daemon's own deadline comes first.
        let answer = timeout(wait + ASK, reader.next::<Answer>())
            .await
            .map_err(|_| ReplicaError::Silent(wait + ASK))?;
        match answer.map_err(|error| self.broken(error))? {
            Some(answer) => answer.done(),
            None => Err(self.broken(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reader<UnixStream>, ReplicaError> {
        let asked = async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            frames::write(&mut stream, request).await?;
            Ok(Reader::new(stream, MAX_ANSWER_BYTES))
        };
        let asked = timeout(ASK, asked).await.map_err(|_| ReplicaError::Silent(ASK))?;
        asked.map_err(|error| self.broken(error))
    }

    fn broken(&self, error: FrameError) -> ReplicaError {
        ReplicaError::Talk { socket: self.socket.clone(), error }
    }

    /// Hands on every status until there is none any more; the reason, and whether there was one at all.
    async fn follow(
        &self,
        told: &mut Option<ReplicaView>,
        mailbox: &Mailbox,
        unseen: &channel::Sender<Option<String>>,
    ) -> (bool, ReplicaError) {
        let mut reader = match self.ask(&Request::Watch { name: self.name.clone() }).await {
            Ok(reader) => reader,
            Err(error) => return (false, error),
        };
        let first = timeout(EXCHANGE, self.next_view(&mut reader)).await;
        let mut view = first.unwrap_or(Err(ReplicaError::Silent(EXCHANGE)));
        let mut heard = false;
        loop {
            match view {
                Err(error) => return (heard, error),
                Ok(view) if told.as_ref() == Some(&view) => {}
                Ok(view) => {
                    *told = Some(view.clone());
                    mailbox.put(Input::Event(Event::Replica(Some(view)))).await;
                }
            }
            if !heard {
                unseen.send_replace(None);
            }
            heard = true;
            view = self.next_view(&mut reader).await;
        }
    }

    async fn next_view(&self, reader: &mut Reader<UnixStream>) -> Result<ReplicaView, ReplicaError> {
        match reader.next::<Answer>().await {
            Ok(Some(answer)) => answer.view(&self.name),
            Ok(None) => Err(ReplicaError::Said("the replication daemon has ended".to_owned())),
            Err(error) => Err(self.broken(error)),
        }
    }
}

async fn watch(resource: Resource, mailbox: Mailbox, unseen: channel::Sender<Option<String>>) {
    let mut told = None;
    loop {
        let (heard, reason) = resource.follow(&mut told, &mailbox, &unseen).await;
        if heard {
            // A daemon whose program is exchanged takes connections all the while; one that has ended does not.
            continue;
        }
        if told.take().is_some() {
            mailbox.put(Input::Event(Event::Replica(None))).await;
        }
        let reason = Some(format!("{} cannot be seen: {reason}", resource.name));
        unseen.send_if_modified(|known| {
            *known != reason && {
                *known = reason;
                true
            }
        });
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Answer {
    fn done(self) -> Result<(), ReplicaError> {
        match self {
            Self::Done => Ok(()),
            Self::Refused(refusal) => Err(ReplicaError::Refused { refusal }),
            Self::TimedOut => Err(ReplicaError::Said("it did not come to pass in time".to_owned())),
            Self::Unknown { text } | Self::NotUp { text } | Self::Failed { text } => {
                Err(ReplicaError::Said(text))
            }
            Self::Status(_) => Err(ReplicaError::Said("an answer to another question".to_owned())),
        }
    }

    fn view(self, name: &str) -> Result<ReplicaView, ReplicaError> {
        let Self::Status(reports) = self else {
            let unexpected = || ReplicaError::Said("it cannot be watched".to_owned());
            return Err(self.done().err().unwrap_or_else(unexpected));
        };
        let Some(report) = reports.into_iter().next() else {
            return Err(ReplicaError::Said(format!("the replication daemon does not know {name}")));
        };
        let not_up = || report.problem.clone().unwrap_or_else(|| format!("{name} is not up"));
        let status = report.status.as_ref().ok_or_else(|| ReplicaError::Said(not_up()))?;
        view(status).ok_or_else(|| {
            ReplicaError::Said(format!(
                "{name} has no `managed yes` in its resource file: nobody may decide about it"
            ))
        })
    }
}

/// What the core needs to know of a status; `None` when no manager is to decide.
fn view(status: &Status) -> Option<ReplicaView> {
    let managed = status.managed?;
    let connection = &status.connection;
    let left = connection.out_of_sync_kib;
    let done = |total: u64| 1000u64.saturating_sub(left.saturating_mul(1000) / total.max(1));
    Some(ReplicaView {
        primary: status.role == Role::Primary,
        disk: status.device.disk.as_str().to_owned(),
        connected: connection.state == ConnectionState::Connected,
        stands_alone: connection.state == ConnectionState::StandAlone,
        alone_because: connection.standalone_reason.clone(),
        peer_primary: connection.peer_role == Role::Primary,
        peer_disk: connection.peer_disk.as_str().to_owned(),
        sync_permille: connection.sync.map(|sync| u32::try_from(done(sync.total_kib)).unwrap_or(0)),
        out_of_sync_kib: left,
        sent_kib: connection.sent_kib,
        received_kib: connection.received_kib,
        writes: status.device.waits.writes,
        write_us: status.device.waits.write_us,
        flushes: status.device.waits.flushes,
        flush_us: status.device.waits.flush_us,
        fence: Term(managed.fence),
        term: managed.term.map(Term),
        alone: managed.alone,
        loss: managed.loss,
        blocked: managed.blocked,
        deposed: managed.deposed,
    })
}

/// The daemon's words for it, one after the other.
fn commands(verb: ReplicaVerb) -> Vec<Command> {
    match verb {
        ReplicaVerb::Promote { term, alone, force } => {
            vec![Command::Primary { force, term: Some(term.0), alone }]
        }
        ReplicaVerb::Demote => vec![Command::Secondary],
        ReplicaVerb::Fence { term } => vec![Command::Fence { term: term.0 }],
        ReplicaVerb::GoAlone { term, loss } => vec![Command::GoAlone { term: term.0, loss }],
        ReplicaVerb::Revoke => vec![Command::Revoke],
        ReplicaVerb::Connect => vec![Command::Connect { discard_my_data: false }],
        ReplicaVerb::Discard => vec![Command::Disconnect, Command::Connect { discard_my_data: true }],
    }
}
