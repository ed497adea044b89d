//! `futago cluster status --watch`: a view that an operator leaves open. Shows, never changes anything.
//!
//! The manager may end and come back while it is open: what was known last stays on the screen with its age.
//! However it ends (q, a signal, a panic), the terminal is as it was before.

mod feed;
mod screen;
mod state;

use std::io::IsTerminal as _;
use std::sync::mpsc::{self, TryRecvError};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use self::feed::News;
use self::state::{Next, State};
use crate::config::Site;
use crate::verbs::exit;
use crate::view::tone::Paint;

/// How often news are looked for between two keys: people do not see less.
const LOOK: Duration = Duration::from_millis(100);
/// News that wait for the screen.
const BACKLOG: usize = 16;

/// Shows the view until the operator ends it.
pub(crate) fn run(site: &Site) -> anyhow::Result<u8> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        eprintln!("`status --watch` needs a terminal; for programs there is `status --json`");
        return Ok(exit::USAGE);
    }
    let (sender, news) = mpsc::sync_channel(BACKLOG);
    feed::signals(sender.clone())?;
    feed::start(site, sender)?;
    let mut state = State::new(Paint::stdout());
    // Installs the hook that restores the terminal before a panic is told.
    let mut terminal = ratatui::try_init().context("take over the terminal")?;
    let shown = show(&mut terminal, &mut state, &news);
    let restored = ratatui::try_restore().context("give the terminal back");
    shown?;
    restored?;
    Ok(exit::DONE)
}

fn show(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    news: &mpsc::Receiver<News>,
) -> anyhow::Result<()> {
    loop {
        terminal.draw(|frame| screen::draw(frame, state)).context("draw")?;
        if event::poll(LOOK).context("read the keyboard")? {
            // A changed size is drawn by the next turn.
            let event = event::read().context("read the keyboard")?;
            if let Event::Key(key) = event
                && state.key(key) == Next::End
            {
                return Ok(());
            }
        }
        loop {
            match news.try_recv() {
                Ok(News::End) | Err(TryRecvError::Disconnected) => return Ok(()),
                Ok(news) => state.news(news),
                Err(TryRecvError::Empty) => break,
            }
        }
    }
}
