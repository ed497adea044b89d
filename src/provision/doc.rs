//! The reference of the modules, from their schemas: as text for a terminal, and as the section of the documentation.

use std::fmt::Write as _;

use base::nearest::nearest;

use crate::module::{Key, Kind, Schema, schemas};
use crate::playbook;
use crate::runner::exit;
use crate::step::TEMPLATE;

/// What to show of the reference.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// The modules: all of them with one line each, or one with its arguments and an example.
    #[command(after_help = "Examples:\n  futago doc module\n  futago doc module service")]
    Module {
        /// The module
        name: Option<String>,
    },
}

/// Shows; the number is the exit code.
#[must_use]
pub fn run(command: &Command) -> u8 {
    let Command::Module { name } = command;
    match name {
        None => print!("{}", list()),
        Some(name) => match as_text(name) {
            Ok(text) => print!("{text}"),
            Err(message) => {
                eprintln!("{message}");
                return exit::USAGE;
            }
        },
    }
    exit::DONE
}

/// A module as playbooks see it.
pub struct Module {
    /// Its name in a task.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its arguments.
    pub keys: Vec<Key>,
    /// What its result has for `register`.
    pub returns: &'static [&'static str],
    /// A task of a playbook that uses it.
    pub example: &'static str,
}

const SRC_OF_COPY: Key =
    Key { name: "src", kind: Kind::Text, required: false, help: "a file below files/, instead of content" };
const SRC_OF_KEY: Key =
    Key { name: "key_src", kind: Kind::Text, required: false, help: "a file below files/, instead of key" };
const SRC_OF_TEMPLATE: Key =
    Key { name: "src", kind: Kind::Text, required: true, help: "a file below templates/" };

/// All modules that a playbook can name: those of the hosts, and what is worked out before a host is sent anything.
#[must_use]
pub fn modules() -> Vec<Module> {
    let mut all: Vec<Module> = schemas().iter().map(of_schema).collect();
    let template = all.iter().find(|module| module.name == "copy").map(|copy| Module {
        name: "template",
        summary: "Writes a file from a template: rendered here, sent as with `copy`.",
        keys: std::iter::once(SRC_OF_TEMPLATE)
            .chain(copy.keys.iter().filter(|key| TEMPLATE.contains(&key.name) && key.name != "src").copied())
            .collect(),
        returns: copy.returns,
        example: "\
- name: Site of the shop
  template: {src: shop.conf.j2, dest: /etc/apache2/sites-available/shop.conf, mode: \"0644\"}
",
    });
    all.extend(template);
    all.sort_by_key(|module| module.name);
    all
}

fn of_schema(schema: &Schema) -> Module {
    let Schema { name, summary, keys, returns, example } = *schema;
    let mut keys = keys.to_vec();
    match name {
        "copy" => keys.insert(1, SRC_OF_COPY),
        "repository" => keys.push(SRC_OF_KEY),
        _ => {}
    }
    Module { name, summary, keys, returns, example }
}

/// One line for each module.
#[must_use]
pub fn list() -> String {
    let all = modules();
    let width = all.iter().map(|module| module.name.len()).max().unwrap_or(0);
    let lines = all.iter().map(|Module { name, summary, .. }| format!("{name:<width$}  {summary}\n"));
    format!(
        "{}\nfutago doc module NAME shows one with its arguments and an example\n",
        lines.collect::<String>()
    )
}

/// One module; an error is what to say about a name that is none.
pub fn as_text(name: &str) -> Result<String, String> {
    let all = modules();
    let Some(module) = all.iter().find(|module| module.name == name) else {
        let near = || nearest(name, all.iter().map(|module| module.name));
        let near = || near().map(|near| format!("did you mean {near:?}?"));
        let advice = playbook::advice(name).map(str::to_owned).or_else(near);
        let advice = advice.unwrap_or_else(|| "`futago doc module` lists them".to_owned());
        return Err(format!("there is no module {name:?}; {advice}"));
    };
    let Module { name, summary, keys, returns, example } = module;
    let mut text = format!("{name}: {summary}\n\n");
    let width = keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
    for Key { name, kind, required, help } in keys {
        let required = if *required { ", required" } else { "" };
        // Writing into a text cannot fail.
        let _ = writeln!(text, "  {name:<width$}  {help}\n  {:<width$}  ({}{required})", "", kind.wanted());
    }
    let _ = writeln!(text, "\nResult, for `register`: {}", result(returns));
    let _ = write!(text, "\nExample:\n\n{}", indented(example));
    Ok(text)
}

fn result(returns: &[&str]) -> String {
    let common = ["changed", "failed", "skipped", "msg"];
    common.iter().chain(returns).copied().collect::<Vec<_>>().join(", ")
}

fn indented(example: &str) -> String {
    example.lines().map(|line| format!("  {line}\n")).collect()
}

/// The section of docs/provisioning.md.
#[must_use]
pub fn as_markdown() -> String {
    let mut text = String::new();
    for Module { name, summary, keys, returns, example } in modules() {
        let _ = write!(text, "\n**{name}**: {summary}\n\n| argument | meaning |\n|---|---|\n");
        for Key { name, required, help, .. } in keys {
            let required = if required { ", required" } else { "" };
            let _ = writeln!(text, "| `{name}`{required} | {help} |");
        }
        if !returns.is_empty() {
            let returns: Vec<String> = returns.iter().map(|key| format!("`{key}`")).collect();
            let _ = write!(text, "\nIts result has {}.\n", returns.join(", "));
        }
        let _ = write!(text, "\n```yaml\n{example}```\n");
    }
    text.push('\n');
    text
}
