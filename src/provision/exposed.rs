//! Secrets where everybody on a host would see them: in a file without a mode of its own, among the words of a
//! command, in the sources of packages. And passwords that are no secrets. All are refused before anything is done.

use serde_json::{Map, Value};

use crate::playbook::Task;
use crate::report::Mask;
use crate::step::UNKNOWN;
use base::problem::{Place, Problem};
use base::yaml::{Content, Node};

/// Arguments of `copy` and `lines` that are written into the file.
const WRITTEN: &[&str] = &["content", "content_base64", "line", "block"];
/// Arguments of `command` that stand in the list of processes.
const WORDS: &[&str] = &["argv", "line", "unless"];
/// Instead of the hash of a user's password: there is none.
const NO_PASSWORD: &[&str] = &["*", "!"];

/// What a step would show; the arguments are those that the host is sent.
pub(crate) fn problems(task: &Task, module: &str, args: &Map<String, Value>, secrets: &Mask) -> Vec<Problem> {
    match module {
        "copy" | "lines" => written(task, args, secrets).into_iter().collect(),
        "repository" => sources(task, args, secrets).into_iter().collect(),
        "user" | "mysql_user" => password(task, args, secrets).into_iter().collect(),
        "command" => task
            .args
            .iter()
            .filter(|entry| WORDS.contains(&entry.key.as_str()))
            .flat_map(|entry| words(&entry.value, args.get(&entry.key), secrets))
            .map(|place| {
                Problem::new(place, "a secret is among the words of this command: everybody on the host can read them")
                    .hint("give it as `stdin` or as a variable of `environment`, or have the program read it from a file")
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn written(task: &Task, args: &Map<String, Value>, secrets: &Mask) -> Option<Problem> {
    let has_mode = args.get("mode").is_some_and(|mode| !mode.is_null());
    let mut texts = WRITTEN.iter().filter_map(|key| args.get(*key)?.as_str());
    if has_mode || !texts.any(|text| secrets.is_in(text)) {
        return None;
    }
    let from = task.args.iter().find(|entry| entry.key == "src" || WRITTEN.contains(&entry.key.as_str()));
    let place = from.map_or(&task.module_place, |entry| &entry.value.place);
    let message = "a secret is in this content, and \"mode\" does not say who may read the file";
    let hint = "write mode: \"0600\"; or \"0640\", with the group of the service that reads it";
    Some(Problem::new(place, message).hint(hint))
}

/// Whoever is on the host can read the sources of its packages.
fn sources(task: &Task, args: &Map<String, Value>, secrets: &Mask) -> Option<Problem> {
    let is_there = args.get("uris").is_some_and(|uris| texts(uris).any(|text| secrets.is_in(text)));
    is_there.then(|| {
        let place =
            task.args.iter().find(|entry| entry.key == "uris").map_or(&task.module_place, |e| &e.value.place);
        Problem::new(place, "a secret is in the place of a repository: everybody on the host can read it")
            .hint("write it into a file below /etc/apt/auth.conf.d with `copy` and mode: \"0600\"")
    })
}

/// A password belongs into the secrets, so that it is not shown anywhere.
fn password(task: &Task, args: &Map<String, Value>, secrets: &Mask) -> Option<Problem> {
    let text = args.get("password")?.as_str()?;
    let entry = task.args.iter().find(|entry| entry.key == "password")?;
    let is_none = task.module == "user" && NO_PASSWORD.contains(&text);
    // One that is not known yet is looked at when it is.
    if secrets.is_in(text) || is_none || text == UNKNOWN {
        return None;
    }
    let message = "this password is not one of the secrets: it would be shown, and kept in logs";
    let hint = "write it into the file that `secrets` of the inventory names, 6 characters or more, and here `{{ its_name }}`";
    Some(Problem::new(&entry.value.place, message).hint(hint))
}

/// The places of words that hold a secret which is not written there itself.
fn words<'a>(node: &'a Node, value: Option<&Value>, secrets: &Mask) -> Vec<&'a Place> {
    match (&node.content, value) {
        (Content::List(nodes), Some(Value::Array(values))) if nodes.len() == values.len() => {
            nodes.iter().zip(values).flat_map(|(node, value)| words(node, Some(value), secrets)).collect()
        }
        (Content::Text(source), Some(value)) if texts(value).any(|text| secrets.is_new_in(text, source)) => {
            vec![&node.place]
        }
        _ => Vec::new(),
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    all.iter().filter_map(Value::as_str)
}
