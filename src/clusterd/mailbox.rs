//! The only way to the driver. Bounded: who reports faster than the driver decides waits for it, except members,
//! whose messages may be lost anyway.

use cluster::control::{Command, CommandError, Status};
use cluster::etcd::Answer;
use cluster::event::{Event, PathId};
use cluster::member::Voter;
use cluster::message::Message;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

/// Inputs that wait: some heartbeats of every path, every agent's report, every client's request.
const CAPACITY: usize = 512;

/// Something for the driver.
#[derive(Debug)]
pub(crate) enum Input {
    /// A member said something.
    Heard {
        /// Who, by its certificate.
        from: Voter,
        /// On which way.
        path: PathId,
        /// What.
        message: Box<Message>,
    },
    /// Something for the core as it is.
    Event(Event),
    /// The acceptor's state of this number is durable.
    Stored {
        /// Which.
        seq: u64,
    },
    /// etcd has answered, or not.
    Etcd {
        /// The request of this number.
        number: u64,
        /// How.
        answer: Answer,
    },
    /// An operator's command.
    Command {
        /// What.
        command: Command,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<String, CommandError>>,
    },
    /// Something that people shall be told.
    Alert {
        /// What kind.
        kind: String,
        /// The sentence.
        text: String,
    },
    /// An operator's question.
    Plan {
        /// What if.
        command: Option<Command>,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<String>>,
    },
    /// An operator's question.
    Status {
        /// Where the answer goes.
        reply: oneshot::Sender<Box<Status>>,
    },
}

/// The sender's side.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox(mpsc::Sender<Input>);

/// A mailbox and its reader.
pub(crate) fn mailbox() -> (Mailbox, mpsc::Receiver<Input>) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Mailbox(sender), receiver)
}

impl Mailbox {
    /// Puts something in; waits while it is full. Nothing happens when the driver has ended.
    pub(crate) async fn put(&self, input: Input) {
        let _ = self.0.send(input).await;
    }

    /// Puts in what may be lost.
    pub(crate) fn offer(&self, input: Input) {
        if let Err(TrySendError::Full(_)) = self.0.try_send(input) {
            tracing::debug!("a message was dropped: the driver is behind by {CAPACITY}");
        }
    }
}
