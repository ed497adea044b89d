//! What is to be said on one way: bounded, and never waited for. While the way is down nothing is kept; members
//! say again what matters, and old words would only mislead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::frame;
use cluster::message::Message;
use tokio::sync::Notify;

/// Messages that wait on a way that is up but slow: some rounds of the register. Beyond, the way is as good as
/// lost, and the oldest messages are of no use any more.
const MAX_WAITING: usize = 64;

/// Longest message: a heartbeat that names every resource.
pub(crate) const MAX_MESSAGE_BYTES: u32 = 256 << 10;

/// A message, encoded once for all ways.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    /// The frame.
    pub(crate) bytes: Arc<[u8]>,
    /// Only the newest of these is worth saying.
    heartbeat: bool,
}

impl Parcel {
    /// Encodes a message; `None` if it is too long, which is a defect and said so.
    pub(crate) fn new(message: &Message) -> Option<Self> {
        let longest = usize::try_from(MAX_MESSAGE_BYTES).unwrap_or(usize::MAX);
        match frame::encode(message) {
            Ok(bytes) if bytes.len() <= longest => {
                Some(Self { bytes: bytes.into(), heartbeat: matches!(message, Message::Heartbeat(_)) })
            }
            Ok(bytes) => {
                tracing::error!("a message of {} bytes was not sent: at most {longest}", bytes.len());
                None
            }
            Err(error) => {
                tracing::error!("encode a message: {error}");
                None
            }
        }
    }
}

/// The messages for one way, and the connection that carries them at the moment.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

/// Names one connection of a way; a newer one takes the way over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u64);

#[derive(Debug, Default)]
struct Queue {
    turn: u64,
    up: bool,
    waiting: VecDeque<Parcel>,
}

impl Outbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection carries the way from now on; one that did until now ends.
    pub(crate) fn take_over(&self) -> Turn {
        let mut queue = self.queue();
        queue.turn += 1;
        queue.up = true;
        queue.waiting.clear();
        let turn = Turn(queue.turn);
        drop(queue);
        self.wake.notify_waiters();
        turn
    }

    /// The connection is gone.
    pub(crate) fn gone(&self, turn: Turn) {
        let mut queue = self.queue();
        if queue.turn == turn.0 {
            queue.up = false;
            queue.waiting.clear();
        }
    }

    /// Whether a connection carries the way.
    pub(crate) fn is_up(&self) -> bool {
        self.queue().up
    }

    /// Says something, if the way is up.
    pub(crate) fn put(&self, parcel: Parcel) {
        let mut queue = self.queue();
        if !queue.up {
            return;
        }
        if parcel.heartbeat {
            queue.waiting.retain(|other| !other.heartbeat);
        }
        if queue.waiting.len() >= MAX_WAITING {
            let oldest = queue.waiting.iter().position(|other| other.heartbeat).unwrap_or(0);
            queue.waiting.remove(oldest);
        }
        queue.waiting.push_back(parcel);
        drop(queue);
        self.wake.notify_waiters();
    }

    /// The next message for this connection; `None` when another one has taken the way over.
    pub(crate) async fn next(&self, turn: Turn) -> Option<Parcel> {
        loop {
            // Before the look: what is put in after it must wake.
            let woken = self.wake.notified();
            {
                let mut queue = self.queue();
                if queue.turn != turn.0 {
                    return None;
                }
                if let Some(parcel) = queue.waiting.pop_front() {
                    return Some(parcel);
                }
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::record::Term;

    fn parcel(text: &str, heartbeat: bool) -> Parcel {
        Parcel { bytes: text.as_bytes().into(), heartbeat }
    }

    fn all(outbox: &Outbox) -> Vec<String> {
        let text = |p: Parcel| String::from_utf8(p.bytes.to_vec()).unwrap();
        outbox.queue().waiting.drain(..).map(text).collect()
    }

    #[test]
    fn nothing_is_kept_for_a_way_that_is_down() {
        let outbox = Outbox::default();
        outbox.put(Parcel::new(&Message::Goodbye { term: Term(1) }).unwrap());
        let turn = outbox.take_over();
        assert!(all(&outbox).is_empty() && outbox.is_up());
        outbox.put(parcel("late", false));
        outbox.gone(turn);
        assert!(all(&outbox).is_empty() && !outbox.is_up());
    }

    #[test]
    fn only_the_newest_heartbeat_waits_and_a_full_queue_loses_its_oldest() {
        let outbox = Outbox::default();
        outbox.take_over();
        outbox.put(parcel("h1", true));
        outbox.put(parcel("m0", false));
        outbox.put(parcel("h2", true));
        assert_eq!(all(&outbox), ["m0", "h2"]);
        for number in 0..=MAX_WAITING {
            outbox.put(parcel(&format!("m{number}"), false));
        }
        let kept = all(&outbox);
        assert_eq!((kept.len(), kept[0].as_str()), (MAX_WAITING, "m1"));
    }

    #[tokio::test]
    async fn a_newer_connection_ends_the_older_one() {
        let outbox = Outbox::default();
        let old = outbox.take_over();
        let new = outbox.take_over();
        outbox.gone(old);
        assert!(outbox.next(old).await.is_none());
        outbox.put(parcel("x", false));
        assert!(outbox.next(new).await.is_some());
    }
}
