//! What the live view knows and which page it shows.

use std::time::Instant;

use cluster::control::Status;
use cluster::timing::Millis;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::feed::News;
use crate::history::Entry;
use crate::view::tone::Paint;

/// A status older than this is told with its age: the manager says something every second.
const OLD_MS: Millis = 3_000;

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Everything at a glance.
    Overview,
    /// Reasons.
    Why,
    /// What has happened.
    History,
    /// The keys.
    Help,
}

/// What follows from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Go on.
    Draw,
    /// The operator has seen enough.
    End,
}

/// The state of the view.
#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Option<Box<Status>>,
    pub(super) history: Vec<Entry>,
    pub(super) lost: Option<String>,
    pub(super) shown: Shown,
    /// Lines that a page of text is moved up by.
    pub(super) scroll: u16,
    pub(super) paint: Paint,
    heard: Instant,
}

impl State {
    /// Before the first news.
    pub(super) fn new(paint: Paint) -> Self {
        Self {
            status: None,
            history: Vec::new(),
            lost: None,
            shown: Shown::Overview,
            scroll: 0,
            paint,
            heard: Instant::now(),
        }
    }

    /// Takes news.
    pub(super) fn news(&mut self, news: News) {
        match news {
            News::Status(status) => {
                self.status = Some(status);
                self.lost = None;
                self.heard = Instant::now();
            }
            News::History(entries) => self.history = entries,
            News::Lost(text) => self.lost = Some(text),
            News::End => {}
        }
    }

    /// How old what is shown is, when that must be told.
    pub(super) fn age(&self) -> Option<Millis> {
        let age = u64::try_from(self.heard.elapsed().as_millis()).unwrap_or(u64::MAX);
        (self.lost.is_some() || age > OLD_MS).then_some(age)
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Draw;
        }
        let page = |state: &mut Self, page| {
            state.shown = if state.shown == page { Shown::Overview } else { page };
            state.scroll = 0;
        };
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Next::End,
            KeyCode::Char('q') => return Next::End,
            KeyCode::Esc if self.shown == Shown::Overview => return Next::End,
            KeyCode::Esc => page(self, Shown::Overview),
            KeyCode::Char('w') => page(self, Shown::Why),
            KeyCode::Char('h') => page(self, Shown::History),
            KeyCode::Char('?') => page(self, Shown::Help),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll = self.scroll.saturating_add(10),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            _ => {}
        }
        Next::Draw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    fn press(state: &mut State, code: KeyCode) -> Next {
        state.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn a_page_opens_and_closes_with_the_same_key_and_escape_goes_back_first() {
        let mut state = State::new(Paint(false));
        assert_eq!(press(&mut state, KeyCode::Char('w')), Next::Draw);
        assert_eq!(state.shown, Shown::Why);
        press(&mut state, KeyCode::Char('w'));
        assert_eq!(state.shown, Shown::Overview);
        press(&mut state, KeyCode::Char('h'));
        assert_eq!(press(&mut state, KeyCode::Esc), Next::Draw);
        assert_eq!(press(&mut state, KeyCode::Esc), Next::End);
        assert_eq!(press(&mut state, KeyCode::Char('q')), Next::End);
    }

    #[test]
    fn what_was_known_last_stays_while_the_manager_is_gone() {
        let mut state = State::new(Paint(false));
        state.news(News::Status(Box::new(sample::protected())));
        assert_eq!(state.age(), None);
        state.news(News::Lost("it does not run".to_owned()));
        assert!(state.status.is_some() && state.age().is_some());
        state.news(News::Status(Box::new(sample::held())));
        assert_eq!(state.age(), None);
    }
}
