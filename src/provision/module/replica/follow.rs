//! What the resource file says otherwise than the running resource: `futago replica adjust` tells it, with what it takes.

use base::process;
use serde::Deserialize;

use super::{Args, Context, Error, Outcome, Status};

/// Exit code of `adjust`: something of the file takes more than that.
const LEFT: i32 = 11;

/// An option that the file gives another value than it has.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    option: String,
    from: String,
    to: String,
    pub(super) takes: Takes,
}

/// What it takes until a change holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Takes {
    Nothing,
    Reexec,
    DownUp,
}

impl Change {
    pub(super) fn line(&self, resource: &str) -> String {
        let Self { option, from, to, .. } = self;
        format!("~ {resource} {option}: {from} -> {to}")
    }
}

impl Args {
    /// What a resource that is up does not follow yet.
    pub(super) fn changes(&self, check: bool) -> Result<Vec<Change>, Error> {
        let mut command = self.command("adjust", &["--dry-run", "--json"]);
        let output = match process::run(command.arg(&self.resource)) {
            // A plan may meet an older program, which does not know the question, or a file that is about to be mended.
            Err(_) if check => return Ok(Vec::new()),
            result => result?,
        };
        serde_json::from_slice(&output.stdout)
            .map_err(|e| Error::Answer { command: process::line(&command), reason: e.to_string() })
    }

    /// Lets the resource follow its file, but for what takes another process ([`super::State::Current`]). What takes
    /// `down` and `up` is done where nobody uses the device.
    pub(super) fn follow(
        &self,
        mut status: Status,
        context: &mut Context,
    ) -> Result<(Outcome, Status), Error> {
        let resource = &self.resource;
        let mut changes = self.changes(context.check)?;
        changes.retain(|change| change.takes != Takes::Reexec);
        if changes.is_empty() {
            return Ok((Context::same(format!("{resource} is up: {status}")), status));
        }
        let lines: Vec<String> = changes.iter().map(|change| change.line(resource)).collect();
        let anew = changes.iter().any(|change| change.takes == Takes::DownUp);
        if !context.check && anew {
            self.verb("down", &[]).map_err(|error| {
                let what = format!("let {resource} follow its file ({}): {error}", lines.join(", "));
                Error::refused(
                    what,
                    "this takes the device away for a moment: end what uses it, then apply again",
                )
            })?;
            self.verb("up", &[])?;
            status = self.wait(context, "coming up anew", |_| true)?;
        } else if !context.check {
            process::run_or(self.command("adjust", &[]).arg(resource), &[LEFT])?;
        }
        let how = if anew { "down and up again, as its file says now" } else { "as its file says now" };
        Ok((context.changed(format!("{resource} is {how}: {status}"), &lines), status))
    }
}
