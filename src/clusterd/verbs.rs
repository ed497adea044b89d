//! What the verbs do: ask the manager, print its answer, choose the exit code.

use std::path::PathBuf;
use std::time::Duration;

use base::frame::FrameError;
use base::question::{self, Answered};
use cluster::control::{Command, CommandError, CommandErrorKind, Status, Verdict};
use cluster::member::Node;
use cluster::timing::Timing;

use crate::cli::{Action, Confirm, OnOff, Verb, Wait};
use crate::config::Site;
use crate::ctl::{self, Answer, AskError, Request};
use crate::history;
use crate::progress;
use crate::view::page::Page;
use crate::view::words::{self, Names};
use crate::view::{self, loss, timings};
use crate::{report, watch};

/// Exit codes.
pub(crate) mod exit {
    pub(crate) const DONE: u8 = 0;
    pub(crate) const FAILED: u8 = 1;
    pub(crate) const REFUSED: u8 = 3;
    pub(crate) const NOT_REACHED: u8 = 4;
    pub(crate) const DEGRADED: u8 = 10;
    pub(crate) const HELD: u8 = 11;
    pub(crate) const DOWN: u8 = 12;
    pub(crate) const USAGE: u8 = 64;
}

/// Quiet time of the inequalities' example; they do not depend on it.
const WINDOW_MS: u64 = 600_000;
/// Entries of the history shown when the manager does not run.
const LAST_WORDS: usize = 3;

/// Runs a verb. An exit code that is not 0 has been explained on stderr.
pub(crate) fn run(site: &Site, verb: Verb) -> anyhow::Result<u8> {
    let done = match verb {
        Verb::Status { watch: true, .. } => return watch::run(site),
        Verb::Status { json, .. } => status(site, json),
        Verb::Why => show(site, view::why::write),
        Verb::Plan { action } => plan(site, action),
        Verb::Act(action) => act(site, action),
        Verb::Timings { target } => times(site, target.as_deref()),
        Verb::History { json, last } => return print_history(site, json, last),
        Verb::Alert { kind, text } => {
            ask(site, &Request::Alert { kind, text: text.join(" ") }).map(|answer| say(&answer))
        }
        Verb::Report { file } => return report::write(site, file),
    };
    Ok(done.unwrap_or_else(|code| code))
}

/// Asks the manager, or says why that is not possible.
pub(crate) fn ask(site: &Site, request: &Request) -> Result<Answer, u8> {
    ctl::ask(&site.socket(), request).map_err(|error| {
        eprintln!("{}", unreachable(&error));
        exit::NOT_REACHED
    })
}

/// Why the manager cannot be reached, and what to do.
pub(crate) fn unreachable(error: &AskError) -> String {
    use std::io::ErrorKind;
    const LOG: &str = "\n  its log: journalctl -u futago-clusterd";
    let (socket, reason) = match error {
        AskError::NotRunning { socket, error } if error.kind() == ErrorKind::PermissionDenied => {
            (socket, "only root may talk to it".to_owned())
        }
        AskError::NotRunning { socket, error } => {
            let known = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
            let reason = if known { "it does not run".to_owned() } else { error.to_string() };
            (socket, format!("{reason}\n  start it: systemctl start futago-clusterd{LOG}"))
        }
        AskError::Broken { socket, error: FrameError::Io(error) }
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
        {
            (socket, format!("it does not answer in time{LOG}"))
        }
        AskError::Broken { socket, error } => (socket, format!("{error}{LOG}")),
    };
    format!("The cluster manager on this host cannot be reached at {}: {reason}", socket.display())
}

fn get(site: &Site) -> Result<Status, u8> {
    match ask(site, &Request::Status)? {
        Answer::Status(status) => Ok(words::harmless(*status)),
        answer => Err(say(&answer)),
    }
}

/// Tells people about an answer and returns the exit code.
fn say(answer: &Answer) -> u8 {
    match answer {
        Answer::Done(text) => {
            println!("{}", words::clean(text));
            exit::DONE
        }
        Answer::Refused(CommandError { kind, text }) => {
            let (word, code) = match kind {
                CommandErrorKind::Refused => ("Refused", exit::REFUSED),
                CommandErrorKind::NotFound => ("Not found", exit::NOT_REACHED),
                CommandErrorKind::Unreachable => ("Unreachable", exit::NOT_REACHED),
                CommandErrorKind::Failed => ("Failed", exit::FAILED),
            };
            eprintln!("{word}: {}", lines(text));
            code
        }
        Answer::Failed { text } => {
            eprintln!("Failed: {}", lines(text));
            exit::FAILED
        }
        Answer::Plan(_) | Answer::Status(_) => {
            eprintln!("The cluster manager gave an unexpected answer: is it of another version?");
            exit::FAILED
        }
    }
}

/// Several lines without characters that would act on a terminal.
fn lines(text: &str) -> String {
    text.lines().map(words::clean).collect::<Vec<_>>().join("\n  ")
}

fn status(site: &Site, json: bool) -> Result<u8, u8> {
    let status = match ask(site, &Request::Status) {
        Ok(Answer::Status(status)) => status,
        Ok(answer) => return Err(say(&answer)),
        Err(code) => {
            last_words(site);
            return Err(code);
        }
    };
    if json {
        match serde_json::to_string_pretty(&status) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("write the status as JSON: {error}"),
        }
    } else {
        let mut page = Page::stdout();
        view::status::write(&mut page, &words::harmless(*status.clone()));
        print!("{}", page.finish());
    }
    Ok(match status.verdict {
        Verdict::Protected => exit::DONE,
        Verdict::Degraded => exit::DEGRADED,
        Verdict::Held => exit::HELD,
        Verdict::Down => exit::DOWN,
    })
}

/// What a manager that cannot be asked has written down last.
fn last_words(site: &Site) {
    let Ok(entries) = history::read(&site.state_dir, LAST_WORDS) else { return };
    if entries.is_empty() {
        return;
    }
    let mut page = Page::stdout();
    page.heading("Its last words:");
    view::history::write(&mut page, &entries, &Names::unknown());
    eprint!("{}", page.finish());
}

fn show(site: &Site, write: impl FnOnce(&mut Page, &Status)) -> Result<u8, u8> {
    let status = get(site)?;
    let mut page = Page::stdout();
    write(&mut page, &status);
    print!("{}", page.finish());
    Ok(exit::DONE)
}

fn plan(site: &Site, action: Option<Action>) -> Result<u8, u8> {
    let (command, title) = match &action {
        Some(action) => {
            let status = get(site)?;
            let command = command(action, &status)?;
            let names = Names::of(&status);
            let title = command.words(|node| names.get(node).to_owned());
            (Some(command), Some(title))
        }
        None => (None, None),
    };
    let steps = match ask(site, &Request::Plan { command })? {
        Answer::Plan(steps) => steps,
        answer => return Err(say(&answer)),
    };
    let mut page = Page::stdout();
    view::plan::write(&mut page, title.as_deref(), &steps);
    print!("{}", page.finish());
    let refused = steps.iter().any(|step| step.starts_with("refused: "));
    Ok(if refused { exit::REFUSED } else { exit::DONE })
}

fn act(site: &Site, action: Action) -> Result<u8, u8> {
    let status = get(site)?;
    let command = command(&action, &status)?;
    confirm(&action, &command, &status)?;
    let timeout = Duration::from_secs(u64::from(action.wait().timeout));
    let answer = progress::perform(&site.socket(), command, timeout).map_err(|error| {
        eprintln!("{}", unreachable(&error));
        exit::NOT_REACHED
    })?;
    Ok(say(&answer))
}

/// The command that an action means in this cluster.
fn command(action: &Action, status: &Status) -> Result<Command, u8> {
    let node = |name: &str| {
        words::find(status, name).map_err(|text| {
            eprintln!("{text}");
            exit::NOT_REACHED
        })
    };
    Ok(match action {
        Action::Switchover { to, .. } => Command::Switchover { to: to.as_deref().map(node).transpose()? },
        Action::Standby { host, .. } => Command::Standby { node: node(host)? },
        Action::Online { host, .. } => Command::Online { node: node(host)? },
        Action::Maintenance { state, .. } => Command::Maintenance { on: *state == OnOff::On },
        Action::Hold { reason, .. } => Command::Hold { reason: reason.join(" ") },
        Action::Resume(_) => Command::Resume,
        Action::Cleanup { resource, .. } => Command::Cleanup { resource: resource.clone() },
        Action::Restart { resource, .. } => Command::Restart { resource: resource.clone() },
        Action::Bootstrap { primary, maintenance, .. } => {
            Command::Bootstrap { primary: node(primary)?, maintenance: *maintenance }
        }
        Action::ForcePrimary { host, accept_loss, .. } => {
            Command::ForcePrimary { node: node(host)?, accept_loss: *accept_loss }
        }
        Action::ConfirmOff { host, .. } => Command::ConfirmOff { node: node(host)? },
        Action::DiscardDiverged { host, .. } => Command::DiscardDiverged { node: node(host)? },
    })
}

/// Says what a command costs and asks, if it costs something.
fn confirm(action: &Action, command: &Command, status: &Status) -> Result<(), u8> {
    let (node, confirm) = match (command, action) {
        (Command::ForcePrimary { node, .. }, Action::ForcePrimary { confirm, .. })
        | (Command::DiscardDiverged { node }, Action::DiscardDiverged { confirm, .. }) => (*node, *confirm),
        _ => return Ok(()),
    };
    let sentences = match command {
        Command::ForcePrimary { .. } => loss::of_force(status, node),
        _ => loss::of_discard(status, node),
    };
    let [a, b] = &status.names;
    let full = if node == Node::A { a } else { b };
    if sentences.is_empty() {
        eprintln!("Nothing is lost: {full} holds every acknowledged write.");
        return Ok(());
    }
    sentences.iter().for_each(|sentence| eprintln!("{sentence}"));
    if matches!(command, Command::ForcePrimary { accept_loss: false, .. }) {
        eprintln!("Nothing was done. To go on: futago cluster force-primary {full} --accept-loss");
        return Err(exit::REFUSED);
    }
    ask_for(confirm, full)
}

fn ask_for(confirm: Confirm, name: &str) -> Result<(), u8> {
    if confirm.yes {
        return Ok(());
    }
    match question::typed(&[name]) {
        Answered::Yes => Ok(()),
        Answered::No => {
            eprintln!("Nothing was done.");
            Err(exit::REFUSED)
        }
        Answered::Nobody => {
            eprintln!("Nothing was done: there is no terminal to ask on. Add --yes if you mean it.");
            Err(exit::REFUSED)
        }
    }
}

fn times(site: &Site, target: Option<&str>) -> Result<u8, u8> {
    let timing = match target {
        None => get(site)?.timing,
        Some(target) => {
            let target = timings::parse_target(target).map_err(|text| {
                eprintln!("{text}");
                exit::USAGE
            })?;
            Timing::derive(target, WINDOW_MS).map_err(|error| {
                eprintln!("{error}");
                exit::FAILED
            })?
        }
    };
    let mut page = Page::stdout();
    let hold = timings::write(&mut page, &timing);
    print!("{}", page.finish());
    Ok(if hold { exit::DONE } else { exit::FAILED })
}

fn print_history(site: &Site, json: bool, last: usize) -> anyhow::Result<u8> {
    use anyhow::Context as _;
    let folder: &PathBuf = &site.state_dir;
    let entries =
        history::read(folder, last).with_context(|| format!("read the history in {}", folder.display()))?;
    if json {
        for entry in &entries {
            println!("{}", serde_json::to_string(entry)?);
        }
        return Ok(exit::DONE);
    }
    if entries.is_empty() {
        eprintln!("Nothing has happened yet.");
        return Ok(exit::DONE);
    }
    let status = ctl::ask(&site.socket(), &Request::Status);
    let names = match status {
        Ok(Answer::Status(status)) => Names::of(&words::harmless(*status)),
        // The history is told all the same.
        _ => Names::unknown(),
    };
    let mut page = Page::stdout();
    view::history::write(&mut page, &entries, &names);
    print!("{}", page.finish());
    Ok(exit::DONE)
}

impl Action {
    const fn wait(&self) -> Wait {
        match self {
            Self::Switchover { wait, .. }
            | Self::Standby { wait, .. }
            | Self::Online { wait, .. }
            | Self::Maintenance { wait, .. }
            | Self::Hold { wait, .. }
            | Self::Resume(wait)
            | Self::Cleanup { wait, .. }
            | Self::Restart { wait, .. }
            | Self::Bootstrap { wait, .. }
            | Self::ForcePrimary { wait, .. }
            | Self::ConfirmOff { wait, .. }
            | Self::DiscardDiverged { wait, .. } => *wait,
        }
    }
}
