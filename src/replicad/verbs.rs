//! What the verbs do: ask the daemon, print the answer, choose the exit code. drbdadm's words and numbers.

use std::time::Duration;

use base::frame::FrameError;
use replica::config::Parsed;
use replica::control::{Command, Refusal, Status};

use crate::cli::{StatusArgs, Target, Verb};
use crate::config::{self, Site};
use crate::create::{self, CreateError, Leftovers};
use crate::ctl::{self, Answer, Report, Request};
use crate::status::{self, Detail, Shown};
use crate::{
    adjust, differences, disk::DiskProblem, dump, events, generations, reexec, resize, rollback, verify,
};

/// Exit codes, as drbdadm's.
mod exit {
    pub(super) const DONE: u8 = 0;
    pub(super) const UNKNOWN: u8 = 1;
    pub(super) const TIMED_OUT: u8 = 5;
    pub(super) const NOT_UP: u8 = 10;
    pub(crate) const FAILED: u8 = 20;
    pub(super) const REFUSED_DATA: u8 = 40;
}

/// Runs a verb.
pub(crate) fn run(verb: Verb) -> anyhow::Result<u8> {
    let command = |verb: &'static str, target: &Target, command: Command| {
        for_each(target, |name| tell(&target.site, verb, name, command, None))
    };
    let wait = |verb, args: &crate::cli::Wait, command| {
        let timeout = args.timeout.map(Duration::from_secs);
        for_each(&args.target, |name| tell(&args.target.site, verb, name, command, timeout))
    };
    Ok(match verb {
        Verb::CreateMd { target, force } => {
            let leftovers = if force { Leftovers::Overwrite } else { Leftovers::Respect };
            for_each(&target, |name| create_md(&target.site, name, leftovers))
        }
        Verb::Up(target) => for_each(&target, |name| up(&target.site, name)),
        Verb::Down(target) => command("down", &target, Command::Down),
        Verb::Primary { target, force, term, alone } => {
            command("primary", &target, Command::Primary { force, term, alone })
        }
        Verb::Fence { target, term } => command("fence", &target, Command::Fence { term }),
        Verb::GoAlone { target, term, loss } => command("go-alone", &target, Command::GoAlone { term, loss }),
        Verb::Revoke(target) => command("revoke", &target, Command::Revoke),
        Verb::Secondary(target) => command("secondary", &target, Command::Secondary),
        Verb::Connect { target, discard_my_data } => {
            command("connect", &target, Command::Connect { discard_my_data })
        }
        Verb::Disconnect(target) => command("disconnect", &target, Command::Disconnect),
        Verb::Invalidate(target) => command("invalidate", &target, Command::Invalidate),
        Verb::InvalidateRemote(target) => command("invalidate-remote", &target, Command::InvalidateRemote),
        Verb::Outdate(target) => command("outdate", &target, Command::Outdate),
        Verb::NewCurrentUuid { target, .. } => command("new-current-uuid", &target, Command::SkipInitialSync),
        Verb::SuspendIo(target) => command("suspend-io", &target, Command::SuspendIo),
        Verb::ResumeIo(target) => command("resume-io", &target, Command::ResumeIo),
        Verb::Adjust(args) => for_each(&args.target, |name| adjust::run(&args, name)),
        Verb::ShowGi(target) => for_each(&target, |name| generations::run(&target.site, name, "show-gi")),
        Verb::GetGi(target) => for_each(&target, |name| generations::run(&target.site, name, "get-gi")),
        Verb::Diff { target, json } => for_each(&target, |name| differences::run(&target.site, name, json)),
        Verb::PauseSync(target) => command("pause-sync", &target, Command::PauseSync),
        Verb::ResumeSync(target) => command("resume-sync", &target, Command::ResumeSync),
        Verb::Resize(target) => for_each(&target, |name| {
            resize::run(&target.site, name, || tell(&target.site, "resize", name, Command::Resize, None))
        }),
        Verb::Rollback(target) => for_each(&target, |name| rollback(&target.site, name)),
        Verb::Verify { target, stop: true, .. } => command("verify", &target, Command::VerifyStop),
        Verb::Verify { target, repair, no_wait, .. } => {
            for_each(&target, |name| verify(&target.site, name, repair, no_wait))
        }
        Verb::WaitConnect(args) => wait("wait-connect", &args, Command::WaitConnect),
        Verb::WaitSync(args) => wait("wait-sync", &args, Command::WaitSync),
        Verb::Status(args) => print_status(&args),
        Verb::Events2(args) => events::run(&args),
        Verb::Role(target) => print_word(&target, |s| s.role.to_string()),
        Verb::Dstate(target) => {
            print_word(&target, |s| format!("{}/{}", s.device.disk, s.connection.peer_disk))
        }
        Verb::Cstate(target) => print_word(&target, |s| s.connection.state.to_string()),
        Verb::Reexec(here) => reexec::run(&here.site),
        Verb::Dump(args) => print_config(&args.site, &args.resource),
        // Not a verb for people; handled before it gets here.
        Verb::LoopDevice { .. } => exit::UNKNOWN,
    })
}

/// Reads the configuration, or says why that is not possible.
pub(crate) fn configuration(site: &Site) -> Result<Parsed, u8> {
    config::load(&site.config).map_err(|error| {
        eprintln!("{error}");
        config::exit_code(&error)
    })
}

/// Runs a verb for a resource, or for each of `all`; the exit code is the first one that is not 0.
fn for_each(target: &Target, run: impl Fn(&str) -> u8) -> u8 {
    if target.resource != "all" {
        return run(&target.resource);
    }
    let parsed = match configuration(&target.site) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let here = config::local(&parsed, &target.site.node());
    here.iter().map(|local| run(&local.settings.resource)).fold(exit::DONE, |first, code| match first {
        exit::DONE => code,
        first => first,
    })
}

pub(crate) fn ask(site: &Site, request: &Request) -> Result<Answer, u8> {
    let socket = site.socket();
    ctl::ask(&socket, request).map_err(|error| {
        let reason = match &error {
            FrameError::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                "only root may talk to it".to_owned()
            }
            error => format!("{error}\n  start it: systemctl start futago-replicad"),
        };
        eprintln!("The replication daemon cannot be reached at {}: {reason}", socket.display());
        exit::FAILED
    })
}

fn up(site: &Site, name: &str) -> u8 {
    let answer = ask(site, &Request::Up { name: name.to_owned() });
    answer.map_or_else(|code| code, |answer| say(&answer, "up", name))
}

fn tell(site: &Site, verb: &str, name: &str, command: Command, timeout: Option<Duration>) -> u8 {
    let timeout_ms = timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
    let request = Request::Command { name: name.to_owned(), command, timeout_ms };
    ask(site, &request).map_or_else(|code| code, |answer| say(&answer, verb, name))
}

/// Waits until both disks are UpToDate.
pub(crate) fn in_sync(site: &Site, name: &str, within: Duration) -> u8 {
    tell(site, "wait-sync", name, Command::WaitSync, Some(within))
}

fn verify(site: &Site, name: &str, repair: bool, no_wait: bool) -> u8 {
    let begun = tell(site, "verify", name, Command::Verify { repair }, None);
    if begun != exit::DONE || no_wait {
        return begun;
    }
    verify::follow(name, || {
        let status = reports(site, name)?.into_iter().next().and_then(|report| report.status);
        Ok(status.and_then(|status| status.connection.verify))
    })
}

fn rollback(site: &Site, name: &str) -> u8 {
    rollback::follow(
        name,
        || tell(site, "rollback", name, Command::Rollback, None),
        || reports(site, name).ok()?.into_iter().next()?.status,
    )
}

/// Tells people about an answer and returns the exit code.
pub(crate) fn say(answer: &Answer, verb: &str, name: &str) -> u8 {
    match answer {
        Answer::Done => exit::DONE,
        Answer::Refused(refusal) => {
            eprint!("{}", refusal_text(refusal, verb, name));
            refusal.reason.exit_code()
        }
        Answer::TimedOut => {
            eprintln!("{name}: {verb}: not within the given time");
            exit::TIMED_OUT
        }
        Answer::Unknown { text } => {
            eprintln!("{text}");
            exit::UNKNOWN
        }
        Answer::NotUp { text } => {
            eprintln!("{name}: No such resource\n  {text}");
            exit::NOT_UP
        }
        Answer::Failed { text } => {
            eprintln!(
                "{name}: Failure: {text}\nCommand 'replica {verb} {name}' terminated with exit code 10"
            );
            exit::NOT_UP
        }
        Answer::Status(_) | Answer::Adjusted(_) | Answer::Generations(_) | Answer::Differences(_) => {
            eprintln!("{name}: the daemon gave an unexpected answer: is it of another version?");
            exit::FAILED
        }
    }
}

fn refusal_text(refusal: &Refusal, verb: &str, name: &str) -> String {
    let (code, text) = (refusal.reason.code(), refusal.reason.text());
    let mut out = format!("{name}: State change failed: ({code}) {text}\n");
    for line in refusal.detail.lines() {
        out.push_str(&format!("  {line}\n"));
    }
    out.push_str(&format!(
        "Command 'replica {verb} {name}' terminated with exit code {}\n",
        refusal.reason.exit_code()
    ));
    out
}

fn create_md(site: &Site, name: &str, leftovers: Leftovers) -> u8 {
    let parsed = match configuration(site) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let local = match config::find(&parsed, name, site) {
        Ok(local) => local,
        Err(text) => {
            eprintln!("{text}");
            return exit::UNKNOWN;
        }
    };
    let (code, error) = match create::create(&local, leftovers) {
        Ok(()) => return exit::DONE,
        Err(error @ CreateError::Refused(_)) => (exit::REFUSED_DATA, error),
        Err(error @ CreateError::Disk(DiskProblem::Meta { .. })) => (exit::REFUSED_DATA, error),
        Err(error) => (exit::FAILED, error),
    };
    eprintln!("{error}\n\nCommand 'replica create-md {name}' terminated with exit code {code}");
    code
}

/// The resources that are asked for, or an exit code.
pub(crate) fn reports(site: &Site, name: &str) -> Result<Vec<Report>, u8> {
    let chosen = (name != "all").then(|| name.to_owned());
    match ask(site, &Request::Status { name: chosen })? {
        Answer::Status(reports) => Ok(reports),
        answer => Err(say(&answer, "status", name)),
    }
}

/// Says of a resource why it is not up.
pub(crate) fn not_up(report: &Report) -> u8 {
    eprintln!("{}: No such resource\n  {}", report.name, report.why_down());
    exit::NOT_UP
}

fn print_status(args: &StatusArgs) -> u8 {
    let name = &args.which.resource;
    let reports = match reports(&args.which.site, name) {
        Ok(reports) => reports,
        Err(code) => return code,
    };
    let shown: Vec<Shown<'_>> = reports.iter().filter_map(Report::shown).collect();
    let down = shown.len() < reports.len();
    if args.json {
        println!("{:#}", status::json(&shown));
    } else if !(down && shown.is_empty()) {
        print!("{}", status::text(&shown, Detail { verbose: args.verbose, statistics: args.statistics }));
    }
    status::explanations(&shown).iter().for_each(|line| eprintln!("{line}"));
    for report in reports.iter().filter(|r| r.status.is_none()) {
        not_up(report);
    }
    if reports.is_empty() {
        say_what_could_be_up(&args.which.site);
    }
    if down && name != "all" { exit::NOT_UP } else { exit::DONE }
}

/// Nothing is up: because of mistakes in the resource files, or because nobody has asked for it.
fn say_what_could_be_up(site: &Site) {
    let Ok(parsed) = configuration(site) else { return };
    for local in config::local(&parsed, &site.node()) {
        let name = &local.settings.resource;
        eprintln!("{name} is defined but not up\n  bring it up: futago replica up {name}");
    }
}

impl Report {
    fn shown(&self) -> Option<Shown<'_>> {
        Some(Shown {
            status: self.status.as_ref()?,
            backing_dev: Some(&self.backing_dev),
            addresses: Some(self.addresses),
            tls: self.tls,
        })
    }

    fn why_down(&self) -> String {
        let reason = self.problem.as_ref().map_or_else(String::new, |p| format!(": {p}"));
        format!("it is not up{reason}\n  bring it up: futago replica up {0}", self.name)
    }
}

fn print_word(target: &Target, word: impl Fn(&Status) -> String) -> u8 {
    let reports = match reports(&target.site, &target.resource) {
        Ok(reports) => reports,
        Err(code) => return code,
    };
    let mut code = exit::DONE;
    for report in &reports {
        if let Some(status) = &report.status {
            println!("{}", word(status));
        } else {
            code = not_up(report);
        }
    }
    code
}

fn print_config(site: &Site, name: &str) -> u8 {
    let parsed = match configuration(site) {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    parsed.notes.iter().for_each(|note| eprintln!("{note}"));
    let mut found = false;
    for resource in parsed.resources.iter().filter(|r| name == "all" || r.name == name) {
        print!("{}", dump::text(resource));
        found = true;
    }
    if !found && name != "all" {
        eprintln!("{}", config::undefined(&parsed, name, &site.config));
        return exit::UNKNOWN;
    }
    exit::DONE
}

#[cfg(test)]
mod tests {
    use super::*;
    use replica::control::Reason;

    #[test]
    fn a_refusal_is_told_in_drbd_words_with_its_detail() {
        let detail = "mounted on /mnt\nopened by mysqld (pid 42)".to_owned();
        let text = refusal_text(&Refusal { reason: Reason::InUse, detail }, "secondary", "r0");
        assert_eq!(
            text,
            "r0: State change failed: (-12) Device is held open by someone\n  mounted on /mnt\n  \
             opened by mysqld (pid 42)\nCommand 'replica secondary r0' terminated with exit code 11\n"
        );
    }
}
