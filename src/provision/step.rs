//! From a task and the variables of one host to the step that the host is sent.
//!
//! `template` and `copy: src` end here: a host is only ever sent `copy` with the content itself.

use base64ct::{Base64, Encoding as _};
use serde_json::{Map, Value};

use crate::assets::{Asset, Assets};
use crate::exposed;
use crate::inventory::Inventory;
use crate::module::{ArgError, Kind, check_args, schemas};
use crate::playbook::Task;
use crate::report::Mask;
use crate::template::{Engine, Resolved, Scope};
use base::problem::{Place, Problem};
use base::yaml::{Content, Entry, Node};

/// Arguments of `template`; all but `src` are those of `copy`.
pub(crate) const TEMPLATE: &[&str] = &["src", "dest", "mode", "owner", "group"];

/// In the place of a text that is not known yet.
pub(crate) const UNKNOWN: &str = "unknown";

/// An argument that names a file below files/: the host is sent what is in it.
struct FromFile {
    module: &'static str,
    /// Its name.
    src: &'static str,
    /// The argument that takes its place when the file is text.
    text: &'static str,
    /// The one that does when it is not.
    base64: &'static str,
}

/// All of these.
const FROM_FILES: &[FromFile] = &[
    FromFile { module: "copy", src: "src", text: "content", base64: "content_base64" },
    FromFile { module: "repository", src: "key_src", text: "key", base64: "key_base64" },
];

/// A module with its arguments for one host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resolution {
    /// The module that runs on the host.
    pub(crate) module: &'static str,
    /// Its arguments; those that are not known yet hold a placeholder of the right kind.
    pub(crate) args: Map<String, Value>,
    /// Whether some argument is not known yet.
    pub(crate) unknown: bool,
    /// The file of the project, or built into the program, that its content comes from.
    pub(crate) source: Option<Source>,
}

/// A file that a task brings to the hosts; ordered, so that each is counted once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Below templates/, by its shown name.
    Template(String),
    /// Below files/, by its name there.
    File(String),
}

/// How far a template is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// Its words only: for a task that is known to be skipped.
    Names,
    /// It is rendered.
    Values,
}

/// Evaluates values of playbooks.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) engine: Engine,
    pub(crate) assets: Assets,
    secrets: Mask,
}

impl Resolver {
    pub(crate) fn new(assets: Assets, inventory: &Inventory) -> Self {
        Self { engine: Engine::new(assets.clone()), assets, secrets: Mask::new(inventory.hidden()) }
    }

    /// A value with every expression in it evaluated.
    pub(crate) fn value(&self, node: &Node, scope: &Scope) -> Result<Resolved<Value>, Problem> {
        match &node.content {
            Content::Text(text) => self.engine.text(text, scope).map_err(|e| e.in_value(&node.place, text)),
            Content::List(items) => {
                let items = items.iter().map(|item| self.value(item, scope));
                let items: Vec<Resolved<Value>> = items.collect::<Result<_, _>>()?;
                let known: Option<Vec<Value>> = items.into_iter().map(Resolved::known).collect();
                Ok(known.map_or(Resolved::Unknown, |items| Resolved::Known(items.into())))
            }
            Content::Map(entries) => {
                let mut map = Some(Map::new());
                for entry in entries {
                    match (self.value(&entry.value, scope)?.known(), &mut map) {
                        (Some(value), Some(map)) => drop(map.insert(entry.key.clone(), value)),
                        _ => map = None,
                    }
                }
                Ok(map.map_or(Resolved::Unknown, |map| Resolved::Known(map.into())))
            }
            _ => Ok(Resolved::Known(node.to_json())),
        }
    }

    /// Adds variables to a scope, evaluated in their order. One that is wrong is there all the same, without a value:
    /// what uses it is not wrong too.
    pub(crate) fn add_variables(&self, entries: &[Entry], scope: &mut Scope) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        for Entry { key, value, .. } in entries {
            match self.value(value, scope) {
                Ok(Resolved::Known(value)) => scope.set(key, &value),
                Ok(Resolved::Unknown) => scope.set_partial(key, &Map::new()),
                Err(problem) => {
                    problems.push(problem);
                    scope.set_partial(key, &Map::new());
                }
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The module and arguments of a task for one host.
    pub(crate) fn resolve(&self, task: &Task, scope: &Scope) -> Result<Resolution, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut args = Map::new();
        let mut unknown = Vec::new();
        for entry in &task.args {
            match self.value(&entry.value, scope) {
                Ok(Resolved::Known(value)) => drop(args.insert(entry.key.clone(), value)),
                Ok(Resolved::Unknown) => unknown.push(entry.key.as_str()),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let resolution = self.finish(task, args, &unknown, scope, Depth::Values)?;
        let problems = exposed::problems(task, resolution.module, &resolution.args, &self.secrets);
        if problems.is_empty() { Ok(resolution) } else { Err(problems) }
    }

    /// Checks a task that is known to be skipped: names of variables, syntax, arguments, but not values.
    pub(crate) fn check_skipped(&self, task: &Task, scope: &Scope) -> Result<Resolution, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut args = Map::new();
        let mut unknown = Vec::new();
        for entry in &task.args {
            let texts = texts(&entry.value);
            let computed = texts.iter().any(|(text, _)| text.contains("{{") || text.contains("{%"));
            for (text, place) in texts {
                let checked = self.engine.check_text(text, scope);
                problems.extend(checked.err().map(|e| e.in_value(place, text)));
            }
            if computed {
                unknown.push(entry.key.as_str());
            } else {
                args.insert(entry.key.clone(), entry.value.to_json());
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        self.finish(task, args, &unknown, scope, Depth::Names)
    }

    /// Turns the controller's modules into the host's, and checks the arguments.
    fn finish(
        &self,
        task: &Task,
        mut args: Map<String, Value>,
        unknown: &[&str],
        scope: &Scope,
        depth: Depth,
    ) -> Result<Resolution, Vec<Problem>> {
        let mut is_unknown = !unknown.is_empty();
        let source;
        let module = match task.module.as_str() {
            "template" => {
                let asset = self.template(task, &mut args, unknown).map_err(|p| vec![p])?;
                let content = asset.as_ref().map_or(Ok(None), |asset| self.render(asset, scope, depth))?;
                source = asset.map(|asset| Source::Template(asset.name));
                is_unknown |= content.is_none();
                args.insert("content".into(), Value::String(content.unwrap_or_default()));
                "copy"
            }
            other => {
                source = self.with_content(task, &mut args, unknown).map_err(|p| vec![p])?;
                schemas().iter().map(|s| s.name).find(|name| *name == other).unwrap_or_default()
            }
        };
        let keys = schemas().iter().find(|s| s.name == module).map_or(&[][..], |s| s.keys);
        for key in keys.iter().filter(|k| unknown.contains(&k.name)) {
            args.insert(key.name.into(), placeholder(key.kind));
        }
        match check_args(module, &args) {
            Ok(()) => Ok(Resolution { module, args, unknown: is_unknown, source }),
            Err(errors) => Err(without_meant(errors).map(|e| located(task, module, e)).collect()),
        }
    }

    /// The template that is meant; none when it cannot be known yet.
    fn template(
        &self,
        task: &Task,
        args: &mut Map<String, Value>,
        unknown: &[&str],
    ) -> Result<Option<Asset>, Problem> {
        if let Some(entry) = task.args.iter().find(|e| !TEMPLATE.contains(&e.key.as_str())) {
            return Err(Problem::unknown_word(
                &entry.place,
                "module template has no argument",
                &entry.key,
                TEMPLATE,
            ));
        }
        let place = argument_place(task, "src");
        if unknown.contains(&"src") {
            return Ok(None);
        }
        let Some(Value::String(src)) = args.shift_remove("src") else {
            return Err(Problem::new(
                place,
                "module template needs the argument \"src\": a file below templates/",
            ));
        };
        self.assets.template(&src).map(Some).map_err(|e| Problem::new(place, e.to_string()))
    }

    /// The rendered text; none when it cannot be known yet.
    fn render(&self, asset: &Asset, scope: &Scope, depth: Depth) -> Result<Option<String>, Vec<Problem>> {
        let faults = self.engine.check(&asset.name, &asset.text, scope);
        if !faults.is_empty() {
            return Err(faults.into_iter().map(|fault| fault.in_file(&asset.name)).collect());
        }
        if depth == Depth::Names {
            return Ok(None);
        }
        let text = self.engine.render(&asset.name, &asset.text, scope);
        text.map(Resolved::known).map_err(|mut error| {
            // An included template is shown with its whole path too.
            let included = error.template.take().filter(|name| *name != asset.name);
            let file = included.and_then(|name| self.assets.template(&name).ok());
            vec![error.in_file(file.as_ref().map_or(&asset.name, |included| &included.name))]
        })
    }

    /// What is in a file below files/, in the place of its name: `copy: src` as `content` or `content_base64`.
    fn with_content(
        &self,
        task: &Task,
        args: &mut Map<String, Value>,
        unknown: &[&str],
    ) -> Result<Option<Source>, Problem> {
        let Some(from) = FROM_FILES.iter().find(|from| from.module == task.module) else { return Ok(None) };
        if unknown.contains(&from.src) {
            args.insert(from.text.into(), placeholder(Kind::Text));
            return Ok(None);
        }
        let Some(given) = args.shift_remove(from.src) else { return Ok(None) };
        if let Some(other) = task.args.iter().find(|e| [from.text, from.base64].contains(&e.key.as_str())) {
            let FromFile { module, src, .. } = from;
            let message = format!("module {module} takes one of {src:?} and {:?}, not both", other.key);
            return Err(Problem::new(&other.place, message));
        }
        let place = argument_place(task, from.src);
        let Value::String(name) = given else {
            let message = format!("{:?} must be the name of a file below files/", from.src);
            return Err(Problem::new(place, message));
        };
        let bytes = self.assets.file(&name).map_err(|e| Problem::new(place, e.to_string()))?;
        let (key, value) = match String::from_utf8(bytes) {
            Ok(text) => (from.text, text),
            Err(error) => (from.base64, Base64::encode_string(error.as_bytes())),
        };
        args.insert(key.into(), value.into());
        Ok(Some(Source::File(name)))
    }
}

fn argument_place<'a>(task: &'a Task, key: &str) -> &'a Place {
    task.args.iter().find(|e| e.key == key).map_or(&task.module_place, |e| &e.value.place)
}

/// An argument that was only misspelt is not reported as missing too.
fn without_meant(errors: Vec<ArgError>) -> impl Iterator<Item = ArgError> {
    let all = errors.clone();
    errors.into_iter().filter(move |error| {
        let meant = error.key.as_ref().map(|key| format!("did you mean \"{key}\"?"));
        !meant.is_some_and(|meant| all.iter().any(|other| other.message.ends_with(&meant)))
    })
}

fn located(task: &Task, module: &str, error: ArgError) -> Problem {
    let entry = error.key.as_ref().and_then(|key| task.args.iter().find(|e| e.key == *key));
    let place = entry.map_or(&task.module_place, |e| &e.place);
    let message = error.message.replace(&format!("module {module}"), &format!("module {}", task.module));
    Problem::new(place, message)
}

fn placeholder(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::Any => UNKNOWN.into(),
        Kind::Bool => false.into(),
        Kind::Int => 1.into(),
        Kind::Path => "/unknown".into(),
        Kind::Mode => "0644".into(),
        Kind::TextList => Value::Array(vec![UNKNOWN.into()]),
        Kind::Choice(words) => words.first().copied().unwrap_or_default().into(),
        Kind::Map => Value::Object(Map::new()),
    }
}

fn texts(node: &Node) -> Vec<(&str, &Place)> {
    match &node.content {
        Content::Text(text) => vec![(text, &node.place)],
        Content::List(items) => items.iter().flat_map(texts).collect(),
        Content::Map(entries) => entries.iter().flat_map(|e| texts(&e.value)).collect(),
        _ => Vec::new(),
    }
}
