//! Makes tasks from YAML: the module with its arguments, and the words around it.

use crate::inventory::{RESERVED, read_variables};
use crate::module::schemas;
use base::fields::{Fields, is_identifier};
use base::problem::{Place, Problem, Problems};
use base::yaml::{Content, Entry, Node};

use super::{Each, Expression, Task, Until, foreign};

pub(super) const TASK: &[&str] = &[
    "name",
    "when",
    "loop",
    "register",
    "notify",
    "until",
    "retries",
    "delay",
    "changed_when",
    "failed_when",
    "no_log",
    "run_once",
    "tags",
    "vars",
];
/// Modules that are resolved on the controller.
const CONTROLLER: &[&str] = &["template"];
pub(super) const MAX_RETRIES: u64 = 10_000;
pub(super) const MAX_DELAY_SECONDS: u64 = 3600;
const DEFAULT_RETRIES: u64 = 3;
const DEFAULT_DELAY_SECONDS: u64 = 5;

/// What imports, plays and blocks hand on to the tasks in them.
#[derive(Clone, Default)]
pub(super) struct Inherited {
    pub(super) tags: Vec<String>,
    pub(super) when: Vec<Expression>,
    pub(super) vars: Vec<Entry>,
}

impl Inherited {
    /// With what an import, a play or a block says itself.
    pub(super) fn with(&self, fields: &mut Fields<'_, '_>) -> Self {
        let mut all = self.clone();
        all.tags.extend(fields.texts("tags").into_iter().map(|(tag, _)| tag));
        all.when.extend(expressions(fields, "when"));
        all
    }
}

/// Variables that a play, a block or a task sets.
pub(super) fn checked_variables(fields: &mut Fields<'_, '_>) -> Vec<Entry> {
    let entries = fields.map("vars");
    read_variables(entries, fields.problems());
    entries.to_vec()
}

fn modules<'a>() -> impl Iterator<Item = &'a str> {
    schemas().iter().map(|s| s.name).chain(CONTROLLER.iter().copied())
}

/// Reads one task. One whose module cannot be told has none: the rest of it counts for what comes later.
pub(super) fn task(node: &Node, inherited: &Inherited, problems: &mut Problems) -> Option<Task> {
    foreign::report(node, problems);
    let full = node.entries().iter().map(|e| e.key.as_str());
    let full = full.filter(|key| builtin(key) != *key && modules().any(|name| name == builtin(key)));
    let allowed: Vec<&str> = TASK.iter().copied().chain(modules()).chain(full).collect();
    let module = module(node, problems);
    let mut fields = Fields::of(node, "a task", &allowed, problems)?;
    let name = fields.text("name");
    let when = inherited.when.iter().cloned().chain(expressions(&mut fields, "when")).collect();
    let until = until(&mut fields);
    let each = each(node, &mut fields);
    let register = register(&mut fields);
    let notify = fields.texts("notify").into_iter().map(|(name, node)| (name, node.place.clone())).collect();
    let changed_when = expressions(&mut fields, "changed_when").into_iter().next();
    let failed_when = expressions(&mut fields, "failed_when").into_iter().next();
    let no_log = fields.bool("no_log").unwrap_or(false);
    let run_once = fields.bool("run_once").unwrap_or(false);
    let own = fields.texts("tags").into_iter().map(|(tag, _)| tag);
    let tags = inherited.tags.iter().cloned().chain(own).collect();
    let vars = inherited.vars.iter().cloned().chain(checked_variables(&mut fields)).collect();
    let Module { name: module, place: module_place, args } = module.unwrap_or_else(|| Module::none(node));
    Some(Task {
        name: name.unwrap_or_else(|| module.clone()),
        place: node.place.clone(),
        module,
        module_place,
        args,
        when,
        each,
        register,
        notify,
        until,
        changed_when,
        failed_when,
        no_log,
        run_once,
        tags,
        vars,
    })
}

/// The module of a task, and what it is given.
struct Module {
    name: String,
    place: Place,
    args: Vec<Entry>,
}

impl Module {
    fn none(task: &Node) -> Self {
        Self { name: String::new(), place: task.place.clone(), args: Vec::new() }
    }
}

/// A module's name without Ansible's own collection before it.
fn builtin(key: &str) -> &str {
    key.strip_prefix("ansible.builtin.").or_else(|| key.strip_prefix("ansible.legacy.")).unwrap_or(key)
}

/// The one key of a task that is a module, with its arguments; none when that is reported.
fn module(node: &Node, problems: &mut Problems) -> Option<Module> {
    let known: Vec<&str> = modules().collect();
    let mut found = node.entries().iter().filter(|e| known.contains(&builtin(&e.key)));
    let Some(entry) = found.next() else {
        let unknown = |e: &&Entry| !TASK.contains(&e.key.as_str()) && foreign::advice(&e.key).is_none();
        let is_foreign = |e: &Entry| foreign::advice(&e.key).is_some();
        // A misspelt module is reported as an unknown key, with the nearest right one.
        let entries = node.entries();
        if !entries.is_empty() && !entries.iter().any(|e| unknown(&e) || is_foreign(e)) {
            let problem = Problem::new(&node.place, "this task names no module");
            problems.push(problem.hint(format!("modules: {}", known.join(", "))));
        }
        return None;
    };
    if let Some(second) = found.next() {
        let message = format!("a task runs one module, here are {:?} and {:?}", entry.key, second.key);
        problems.push(Problem::new(&second.place, message));
    }
    let Entry { key, place, value } = entry;
    let name = builtin(key);
    let args = match &value.content {
        Content::Map(entries) => entries.clone(),
        Content::Null => Vec::new(),
        Content::Text(_) if name == "command" => {
            vec![Entry { key: "line".into(), place: value.place.clone(), value: value.clone() }]
        }
        _ => {
            let message = format!("the arguments of {name} are a mapping, not {}", value.shown());
            let problem = Problem::new(&value.place, message);
            problems.push(match mapping_of(value) {
                Some(mapping) => problem.hint(format!("write {name}: {mapping}")),
                None => problem,
            });
            return None;
        }
    };
    Some(Module { name: name.to_owned(), place: place.clone(), args })
}

/// What `name=apache2 state=started` is as a mapping.
fn mapping_of(value: &Node) -> Option<String> {
    let Content::Text(text) = &value.content else { return None };
    let pairs: Option<Vec<String>> = text
        .split_whitespace()
        .map(|word| word.split_once('=').map(|(key, value)| format!("{key}: {value}")))
        .collect();
    Some(format!("{{{}}}", pairs.filter(|pairs| !pairs.is_empty())?.join(", ")))
}

pub(super) fn expressions(fields: &mut Fields<'_, '_>, key: &str) -> Vec<Expression> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    let items =
        if let Content::List(items) = &node.content { items.as_slice() } else { std::slice::from_ref(node) };
    items.iter().filter_map(|item| expression(item, key, fields.problems())).collect()
}

fn expression(node: &Node, key: &str, problems: &mut Problems) -> Option<Expression> {
    let source = match &node.content {
        Content::Text(text) => text.trim().to_owned(),
        Content::Bool(b) => b.to_string(),
        Content::Number(n) => n.to_string(),
        _ => {
            problems.push(Problem::new(
                &node.place,
                format!("{key:?} must be an expression, not {}", node.kind()),
            ));
            return None;
        }
    };
    if source.contains("{{") || source.contains("{%") {
        let problem = Problem::new(&node.place, format!("{key:?} is an expression already, without braces"));
        problems.push(problem.hint(source.replace(['{', '}'], "").trim().to_owned()));
        return None;
    }
    Some(Expression { source, place: node.place.clone() })
}

fn until(fields: &mut Fields<'_, '_>) -> Option<Until> {
    let condition = expressions(fields, "until").into_iter().next();
    let retries = fields.int("retries", 0, MAX_RETRIES);
    let delay = fields.int("delay", 0, MAX_DELAY_SECONDS);
    if condition.is_none() {
        for key in ["retries", "delay"] {
            if let Some(node) = fields.get(key).filter(|_| fields.get("until").is_none()) {
                fields.report(node, format!("{key:?} has no meaning without \"until\""));
            }
        }
    }
    Some(Until {
        condition: condition?,
        retries: retries.unwrap_or(DEFAULT_RETRIES),
        delay_seconds: delay.unwrap_or(DEFAULT_DELAY_SECONDS),
    })
}

fn each(node: &Node, fields: &mut Fields<'_, '_>) -> Option<Each> {
    // Ansible's other loops are reported; that there is one means that `item` is not wrong too.
    let is_other = |key: &str| key.starts_with("with_") && !["with_items", "with_list"].contains(&key);
    if node.entries().iter().any(|e| is_other(&e.key)) {
        return Some(Each::Items(Vec::new()));
    }
    let node = ["loop", "with_items", "with_list"].iter().find_map(|key| fields.get(key))?;
    match &node.content {
        Content::List(items) => Some(Each::Items(items.clone())),
        Content::Text(text) => {
            let inner = text.trim().strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).unwrap_or(text);
            let source = inner.trim().to_owned();
            Some(Each::Computed(Expression { source, place: node.place.clone() }))
        }
        _ => {
            fields.report(node, format!("\"loop\" must be a list or an expression, not {}", node.shown()));
            Some(Each::Items(Vec::new()))
        }
    }
}

fn register(fields: &mut Fields<'_, '_>) -> Option<String> {
    let name = fields.text("register")?;
    let node = fields.get("register")?;
    if !is_identifier(&name) || RESERVED.contains(&name.as_str()) {
        fields.report(node, format!("{name:?} cannot be the name of a variable"));
        return None;
    }
    Some(name)
}
