//! Asks the operator before something that cannot be taken back.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The operator means it.
    Yes,
    /// Anything else was typed.
    No,
    /// Nobody can be asked: stdin is no terminal.
    Nobody,
}

/// Longest line that is read.
const MAX_BYTES: u64 = 1024;

/// Whether the operator types one of these words, of which the first is what it is about.
pub fn typed(words: &[&str]) -> Answered {
    if !io::stdin().is_terminal() {
        return Answered::Nobody;
    }
    let mut out = io::stderr();
    let mut line = String::new();
    let asked = write!(out, "Type {} to go on: ", words.join(" or ")).and_then(|()| out.flush());
    let read = asked.and_then(|()| io::Read::take(io::stdin().lock(), MAX_BYTES).read_line(&mut line));
    if read.is_ok() && words.contains(&line.trim()) { Answered::Yes } else { Answered::No }
}
