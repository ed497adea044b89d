//! Colours by meaning, the same in plain text and in the live view. A colour never says anything alone: the
//! word beside it does.

use std::io::IsTerminal as _;

use cluster::control::Verdict;
use cluster::event::{LogLevel, Running};

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    Plain,
    /// A heading or a name.
    Strong,
    /// As it should be.
    Good,
    /// Somebody should look.
    Warn,
    /// Somebody must act.
    Bad,
    /// At rest.
    Dim,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[1;31m",
            Self::Dim => "\x1b[2m",
        }
    }

    /// Of a verdict.
    pub(crate) const fn verdict(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Protected => Self::Good,
            Verdict::Degraded | Verdict::Held => Self::Warn,
            Verdict::Down => Self::Bad,
        }
    }

    /// Of the state of a resource.
    pub(crate) const fn running(state: Running) -> Self {
        match state {
            Running::Started => Self::Good,
            Running::Stopped => Self::Dim,
            Running::Failed => Self::Bad,
            Running::Unknown => Self::Warn,
        }
    }

    /// Of an entry of the history.
    pub(crate) const fn level(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Bad,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Plain,
        }
    }
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// Colours only on a terminal that has them, and never with NO_COLOR (no-color.org).
    pub(crate) fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self(wanted && able && std::io::stdout().is_terminal())
    }

    /// The text in its colour.
    pub(crate) fn text(self, tone: Tone, text: &str) -> String {
        if !self.0 || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        format!("{}{text}\x1b[0m", tone.code())
    }
}
