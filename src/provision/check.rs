//! `check`: only what is looked at before the first contact; nobody is contacted.

use std::path::{Path, PathBuf};

use base::problem::{Place, Problem};
use serde_json::{Value, json};

use crate::apply;
use crate::inventory::{self, Member};
use crate::plan::{Checked, Selection, Source};
use crate::prepare::{self, Prepared, Refusal};
use crate::report::worst;
use crate::runner::exit;

/// What to check, and how to say what came out.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Inventory, or a folder of them; several by several -i [default: ha.yml, inventory.yml, or the only file in inventory/]
    #[arg(short, long = "inventory", value_name = "FILE")]
    inventories: Vec<PathBuf>,
    /// Playbook: a name, or the path of a file
    #[arg(default_value = apply::SITE)]
    playbook: String,
    /// One object of JSON for each inventory, a line each, also with mistakes
    #[arg(long)]
    json: bool,
}

/// Checks; the number is the exit code.
#[must_use]
pub fn run(arguments: &Arguments) -> u8 {
    match inventory::files(&arguments.inventories) {
        Ok(files) => worst(files.iter().map(|file| one(file, arguments))),
        Err(message) => {
            tell(&Err(Refusal::Usage(message)), arguments.json);
            exit::USAGE
        }
    }
}

/// Checks one inventory, and the playbook for it.
fn one(file: &Path, arguments: &Arguments) -> u8 {
    let checked = prepare::prepare(file, &arguments.playbook, &Selection::default(), &prepare::assets(file));
    tell(&checked, arguments.json);
    if checked.is_ok() { exit::DONE } else { exit::USAGE }
}

fn tell(checked: &Result<Prepared, Refusal>, json: bool) {
    match checked {
        _ if json => println!("{}", as_json(checked)),
        Ok(prepared) => println!("{}", line(prepared)),
        Err(refusal) => eprintln!("{refusal}"),
    }
}

/// How many templates and files.
fn brought(checked: &Checked) -> (usize, usize) {
    let files = checked.sources.iter().filter(|source| matches!(source, Source::File(_))).count();
    (checked.sources.len() - files, files)
}

/// What was checked, in one line.
#[must_use]
pub fn line(prepared: &Prepared) -> String {
    let Prepared { inventory, playbook, plan } = prepared;
    let (checked, (templates, files)) = (&plan.checked, brought(&plan.checked));
    let hosts = inventory.members().count();
    let counted = [
        (hosts, "host"),
        (checked.plays, "play"),
        (checked.tasks, "task"),
        (checked.handlers, "handler"),
        (templates, "template"),
        (files, "file"),
    ];
    let counted: Vec<String> = counted.iter().map(|(number, what)| plural(*number, what)).collect();
    let (file, counted) = (inventory.file.display(), counted.join(", "));
    format!("no mistakes in {file} and {playbook}: {counted}; no host was contacted")
}

fn plural(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The same for machines: counts, or the mistakes.
#[must_use]
pub fn as_json(checked: &Result<Prepared, Refusal>) -> Value {
    match checked {
        Ok(Prepared { inventory, playbook, plan }) => {
            let Checked { plays, tasks, handlers, .. } = plan.checked;
            let (templates, files) = brought(&plan.checked);
            let hosts: Vec<&str> = inventory.members().map(|Member { name, .. }| name.as_str()).collect();
            json!({
                "ok": true,
                "inventory": inventory.file.display().to_string(),
                "playbook": playbook,
                "hosts": hosts,
                "plays": plays,
                "tasks": tasks,
                "handlers": handlers,
                "templates": templates,
                "files": files,
            })
        }
        Err(Refusal::Usage(message)) => json!({"ok": false, "mistakes": [{"message": message}]}),
        Err(Refusal::Mistakes(problems)) => {
            let mistakes: Vec<Value> = problems.sorted().into_iter().map(mistake).collect();
            json!({"ok": false, "mistakes": mistakes})
        }
    }
}

fn mistake(problem: &Problem) -> Value {
    let Problem { place: Place { file, line, column }, message, hint, .. } = problem;
    json!({"file": &**file, "line": line, "column": column, "message": message, "hint": hint})
}
