//! The queue before one hook: never blocks who puts something in; the oldest goes when it is full, and the next
//! one that is delivered says how many went.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Letter;

/// Alerts that wait for one hook: some minutes of a bad day. Who gets more reads none of them.
pub(super) const CAPACITY: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: VecDeque<Letter>,
    dropped: u64,
    closed: bool,
}

impl Queue {
    /// Puts one in at the end.
    pub(super) fn put(&self, letter: Letter) {
        self.with(|waiting| {
            if waiting.letters.len() >= CAPACITY {
                waiting.letters.pop_front();
                waiting.dropped += 1;
            }
            waiting.letters.push_back(letter);
        });
        self.changed.notify_one();
    }

    /// No more will come.
    pub(super) fn close(&self) {
        self.with(|waiting| waiting.closed = true);
        self.changed.notify_one();
    }

    /// Waits for the oldest; `None` when it is closed and empty.
    pub(super) async fn take(&self) -> Option<Letter> {
        loop {
            let (letter, closed) = self.with(|waiting| {
                let letter = waiting.letters.pop_front();
                let dropped = if letter.is_some() { std::mem::take(&mut waiting.dropped) } else { 0 };
                (letter.map(|letter| Letter { dropped, ..letter }), waiting.closed)
            });
            if letter.is_some() || closed {
                return letter;
            }
            self.changed.notified().await;
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Waiting) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Alert;
    use super::*;
    use cluster::event::LogLevel;
    use std::time::SystemTime;

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest_and_says_how_many() {
        let queue = Queue::default();
        for sequence in 0..70 {
            let alert = Alert { level: LogLevel::Info, kind: "k".to_owned(), text: String::new() };
            queue.put(Letter { alert, at: SystemTime::now(), sequence, dropped: 0 });
        }
        queue.close();
        let first = queue.take().await.unwrap();
        assert_eq!((first.sequence, first.dropped), (6, 6));
        let second = queue.take().await.unwrap();
        assert_eq!((second.sequence, second.dropped), (7, 0));
        let mut left = 0;
        while queue.take().await.is_some() {
            left += 1;
        }
        assert_eq!(left, CAPACITY - 2);
    }
}
