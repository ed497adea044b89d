//! Asks on the terminal for what must not be seen there. Bars that are drawn on it stand aside meanwhile.
//!
//! The terminal is as it was before when the answer is there, and also when it is interrupted.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::MultiProgress;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

const TERMINAL: &str = "/dev/tty";
/// Longest answer.
const MAX_BYTES: usize = 1024;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;
const CLEAR: u8 = 0x15;

/// One question at a time.
static ASKING: Mutex<()> = Mutex::new(());
/// Somebody wants the program to end, and no further question.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// What is drawn on the terminal now.
static DRAWN: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Bars that stand aside for questions until this is dropped.
pub(crate) struct Drawn(());

impl Drawn {
    /// There is one set of bars at a time.
    pub(crate) fn begin(bars: &MultiProgress) -> Self {
        *lock(&DRAWN) = Some(bars.clone());
        Self(())
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        *lock(&DRAWN) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked has left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers by what they are about, for all hosts: nobody is asked twice, also not after giving up.
pub(crate) struct Once<T> {
    asking: Mutex<()>,
    answers: Mutex<BTreeMap<String, Option<T>>>,
}

impl<T: Clone> Once<T> {
    pub(crate) const fn new() -> Self {
        Self { asking: Mutex::new(()), answers: Mutex::new(BTreeMap::new()) }
    }

    /// What was answered.
    pub(crate) fn known(&self, about: &str) -> Option<T> {
        lock(&self.answers).get(about).cloned().flatten()
    }

    /// What was answered, or is now; blocks until it is. The error is told to the first one who asks, the others get none.
    pub(crate) fn answer<E>(&self, about: &str, ask: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        let _asking = lock(&self.asking);
        if let Some(known) = lock(&self.answers).get(about) {
            return Ok(known.clone());
        }
        let (known, result) = match ask() {
            Ok(answer) => (Some(answer.clone()), Ok(Some(answer))),
            Err(error) => (None, Err(error)),
        };
        lock(&self.answers).insert(about.to_owned(), known);
        result
    }
}

/// Asks, and waits for the answer; blocks.
pub(crate) fn ask(prompt: &str) -> io::Result<Vec<u8>> {
    let _asking = lock(&ASKING);
    if INTERRUPTED.load(Ordering::SeqCst) {
        return Err(interrupted());
    }
    let drawn = lock(&DRAWN).clone();
    match drawn {
        Some(bars) => bars.suspend(|| ask_now(prompt)),
        None => ask_now(prompt),
    }
}

fn ask_now(prompt: &str) -> io::Result<Vec<u8>> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
    let terminal = terminal.map_err(|e| io::Error::new(e.kind(), format!("open {TERMINAL}: {e}")))?;
    let answer = {
        let _silent = Silent::begin(&terminal)?;
        (&terminal).write_all(prompt.as_bytes())?;
        let answer = answer(BufReader::new(&terminal).bytes());
        (&terminal).write_all(b"\r\n")?;
        answer
    };
    if answer.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {
        INTERRUPTED.store(true, Ordering::SeqCst);
        kill_process(getpid(), Signal::INT)?;
    }
    answer
}

fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "interrupted")
}

/// A line, as it was edited.
fn answer(keys: impl Iterator<Item = io::Result<u8>>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for key in keys {
        match key? {
            b'\r' | b'\n' => return Ok(line),
            INTERRUPT => return Err(interrupted()),
            END if line.is_empty() => break,
            BACKSPACE | DELETE => drop(line.pop()),
            CLEAR => line.clear(),
            _ if line.len() == MAX_BYTES => {
                return Err(io::Error::other(format!("an answer has at most {MAX_BYTES} bytes")));
            }
            byte => line.push(byte),
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "nothing was typed"))
}

/// Nothing that is typed is shown, and every key arrives at once; undone when dropped.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing undone.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_once_also_when_it_was_not_answered() {
        let once = Once::new();
        assert_eq!(once.answer("a", || Ok::<_, ()>(1)), Ok(Some(1)));
        assert_eq!(once.answer("a", || Err("asked again")), Ok(Some(1)));
        assert_eq!(once.answer("b", || Err("given up")), Err("given up"));
        assert_eq!(once.answer("b", || Ok::<_, ()>(2)), Ok(None));
        assert_eq!((once.known("a"), once.known("b"), once.known("c")), (Some(1), None, None));
    }

    #[test]
    fn keys_edit_the_answer_as_on_a_terminal() {
        for (typed, expected) in [
            (&b"secret\r"[..], &b"secret"[..]),
            (b"sx\x7fecret\n", b"secret"),
            (b"wrong\x15secret\r", b"secret"),
            (b"\x7f\r", b""),
            (b"a b\xc3\xa4\x04\r", b"a b\xc3\xa4\x04"),
        ] {
            assert_eq!(answer(typed.bytes()).unwrap(), expected, "{typed:?}");
        }
        let kind = |typed: &[u8]| answer(typed.bytes()).unwrap_err().kind();
        assert_eq!(kind(b"sec\x03ret\r"), io::ErrorKind::Interrupted);
        assert_eq!(kind(b"\x04"), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"sec"), io::ErrorKind::UnexpectedEof);
        assert_eq!(kind(&[b'a'; MAX_BYTES + 1]), io::ErrorKind::Other);
    }
}
