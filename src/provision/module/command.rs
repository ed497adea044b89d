//! Another program, run without a shell.
//!
//! A plan never runs it: with `creates`, `removes` or `unless` it says whether it would run, without them the
//! result is unknown.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base::process::{self, ProcessError};
use serde::Deserialize;
use serde_json::Value;

use super::context::{Context, with_data};
use super::error::Error;
use super::exec::{self, Finished};
use super::schema::{ArgError, Kind, Schema};
use super::{Module, attributes};
use crate::protocol::{Failure, Outcome};

const DEFAULT_TIMEOUT_SECONDS: u64 = 3600;
/// Characters that mean something to a shell only.
const SHELL_ONLY: &str = "|&;<>()$`";
/// Lines of output shown with a failure.
const TAIL_LINES: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    #[serde(default)]
    argv: Vec<String>,
    line: Option<String>,
    chdir: Option<PathBuf>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    stdin: Option<String>,
    creates: Option<PathBuf>,
    removes: Option<PathBuf>,
    unless: Option<Vec<String>>,
    timeout: Option<u64>,
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "command",
        summary: "Runs a program without a shell; creates, removes and unless make it run only when needed.",
        returns: &["rc", "stdout", "stderr", "stdout_lines"],
        example: "\
- name: Set up the shop's tables
  command:
    argv: [/usr/local/bin/shop, migrate, --database, shop]
    unless: [/usr/local/bin/shop, migrate, --is-done]
  register: migrated
",
        keys: &[
            Schema::may("argv", Kind::TextList, "the program and its arguments, each as it is"),
            Schema::may("line", Kind::Text, "the program and its arguments, split at spaces outside quotes"),
            Schema::may("chdir", Kind::Path, "folder to run it in"),
            Schema::may("environment", Kind::Map, "variables to set"),
            Schema::may("stdin", Kind::Text, "what it reads"),
            Schema::may("creates", Kind::Path, "do not run when this path exists"),
            Schema::may("removes", Kind::Path, "do not run when this path does not exist"),
            Schema::may(
                "unless",
                Kind::TextList,
                "do not run when this program succeeds; it must change nothing",
            ),
            Schema::may("timeout", Kind::Int, "seconds after which it is killed (default: 3600)"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        match (&self.line, self.argv.as_slice()) {
            (Some(_), [_, ..]) => errors.push(ArgError::whole("module command takes argv or line, not both")),
            (None, []) => errors.push(ArgError::whole("module command needs argv or line")),
            (Some(line), []) => errors.extend(split(line).err().map(|e| ArgError::at("line", e))),
            (None, _) => {}
        }
        if let Some([line]) = self.unless.as_deref() {
            errors.extend(split(line).err().map(|e| ArgError::at("unless", e)));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        if let Some(reason) = self.not_needed(context)? {
            // What uses the result does not have to know that there was no need to run.
            let data = [
                ("rc", 0.into()),
                ("stdout", "".into()),
                ("stderr", "".into()),
                ("stdout_lines", Value::Array(Vec::new())),
            ];
            return Ok(with_data(Context::same(reason), data));
        }
        let words = self.words()?;
        let mut command = self.command(&words);
        let line = process::line(&command);
        if context.check {
            let guarded = self.creates.is_some() || self.removes.is_some() || self.unless.is_some();
            let message = format!("would run {line}");
            return Ok(if guarded { context.changed(message, &[]) } else { Context::unknown(message) });
        }
        let bound = Duration::from_secs(self.timeout.unwrap_or(DEFAULT_TIMEOUT_SECONDS));
        let finished = exec::run(&mut command, self.stdin.map(String::into_bytes), bound, &mut |_| {})?;
        Ok(outcome(context, &line, &finished, bound))
    }
}

impl Args {
    fn words(&self) -> Result<Vec<String>, Error> {
        match &self.line {
            Some(line) => split(line).map_err(Error::Args),
            None => Ok(self.argv.clone()),
        }
    }

    fn command(&self, words: &[String]) -> Command {
        let (program, rest) = words.split_first().map_or(("", &[][..]), |(p, rest)| (p.as_str(), rest));
        let mut command = Command::new(program);
        command.args(rest).envs(&self.environment);
        command.current_dir(self.chdir.as_deref().unwrap_or(Path::new("/")));
        command
    }

    /// Why it does not have to run.
    fn not_needed(&self, context: &Context) -> Result<Option<String>, Error> {
        if let Some(path) = &self.creates
            && attributes::look(path)?.is_some()
        {
            return Ok(Some(format!("{} exists", path.display())));
        }
        if let Some(path) = &self.removes
            && attributes::look(path)?.is_none()
        {
            return Ok(Some(format!("{} does not exist", path.display())));
        }
        let Some(unless) = &self.unless else { return Ok(None) };
        let words =
            if let [line] = unless.as_slice() { split(line).map_err(Error::Args)? } else { unless.clone() };
        let mut command = self.command(&words);
        match process::output(&mut command) {
            Ok(output) => {
                Ok(output.status.success().then(|| format!("{} succeeds", process::line(&command))))
            }
            // An earlier task of the same plan may install it.
            Err(ProcessError::Start { source, .. })
                if context.check && source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn outcome(context: &Context, line: &str, finished: &Finished, bound: Duration) -> Outcome {
    let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&finished.stderr).into_owned();
    let failure = match finished.status {
        Some(status) if status.success() => None,
        Some(status) => Some(format!("`{line}` failed ({status})")),
        None => Some(format!("`{line}` was killed after {} s", bound.as_secs())),
    };
    let failure = failure.map(|message| Failure {
        message,
        output: tail(if stderr.trim().is_empty() { &stdout } else { &stderr }),
        hint: None,
    });
    let code = finished.status.and_then(|status| status.code());
    let message = if failure.is_some() { format!("{line} failed") } else { format!("ran {line}") };
    let lines: Vec<Value> = stdout.lines().map(Value::from).collect();
    let data = [
        ("rc", code.map_or(Value::Null, Value::from)),
        ("stdout", stdout.trim_end().into()),
        ("stderr", stderr.trim_end().into()),
        ("stdout_lines", lines.into()),
    ];
    Outcome { failure, ..with_data(context.changed(message, &[]), data) }
}

/// The last lines of what a program said.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// The words of a line, as a shell would split it; what only a shell could do is refused.
fn split(line: &str) -> Result<Vec<String>, String> {
    if let Some(found) = shell_only(line) {
        return Err(format!(
            "the line has \"{found}\" outside quotes, which only a shell understands; quote it, or use argv: \
             [sh, -c, …]"
        ));
    }
    match shlex::split(line) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err("the line is empty".into()),
        None => Err("the line has a quote without its counterpart".into()),
    }
}

fn shell_only(line: &str) -> Option<char> {
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') => drop(characters.next()),
            (None, c) if SHELL_ONLY.contains(c) => return Some(c),
            (Some('"'), '$' | '`') => return Some(c),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, mistakes};
    use serde_json::json;

    #[test]
    fn output_and_exit_code_are_registered() {
        let outcome = applied("command", json!({"line": "printf 'a b\\n'"}));
        assert_eq!(
            (outcome.changed, &outcome.data["stdout"], &outcome.data["rc"]),
            (true, &json!("a b"), &json!(0))
        );
    }

    #[test]
    fn a_failure_shows_the_command_and_its_last_words() {
        let outcome = applied("command", json!({"argv": ["sh", "-c", "echo no space >&2; exit 9"]}));
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.message, "`sh -c 'echo no space >&2; exit 9'` failed (exit status: 9)");
        assert_eq!((failure.output.as_str(), &outcome.data["rc"]), ("no space", &json!(9)));
    }

    #[test]
    fn creates_removes_and_unless_decide_without_running() {
        let folder = tempfile::tempdir().unwrap();
        let (here, gone) = (folder.path().join("here"), folder.path().join("gone"));
        std::fs::write(&here, "").unwrap();
        for guard in [json!({"creates": here}), json!({"removes": gone}), json!({"unless": "true"})] {
            let mut args = json!({"line": "false"});
            args.as_object_mut().unwrap().extend(guard.as_object().unwrap().clone());
            for run in [checked, applied] {
                let outcome = run("command", args.clone());
                assert_eq!(
                    (outcome.changed, outcome.unknown, outcome.failure),
                    (false, false, None),
                    "{guard}"
                );
            }
        }
        assert!(applied("command", json!({"line": "false", "creates": gone})).failure.is_some());
    }

    #[test]
    fn a_plan_runs_nothing_and_admits_what_it_cannot_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made");
        let touch = json!({"argv": ["touch", path]});
        assert!(checked("command", touch.clone()).unknown);
        let mut guarded = touch;
        guarded["creates"] = json!(path);
        let outcome = checked("command", guarded);
        assert_eq!((outcome.changed, outcome.unknown, path.exists()), (true, false, false));
        assert!(checked("command", json!({"line": "x", "unless": "/no/such/program"})).changed);
    }

    #[test]
    fn what_only_a_shell_can_do_is_refused_before_contact() {
        for line in ["a | b", "echo $HOME", "echo \"$HOME\"", "a; b", "a > b"] {
            let found = mistakes("command", json!({"line": line}));
            assert!(found[0].contains("only a shell understands"), "{line}: {found:?}");
        }
        assert!(mistakes("command", json!({"line": "echo '$HOME | x' a\\;b"})).is_empty());
        assert_eq!(mistakes("command", json!({})), ["module command needs argv or line"]);
        assert_eq!(
            mistakes("command", json!({"line": "a 'b"})),
            ["the line has a quote without its counterpart"]
        );
    }
}
