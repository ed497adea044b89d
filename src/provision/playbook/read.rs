//! Makes playbooks from YAML and follows their imports. Every mistake in every file is reported at once.

use crate::assets::{Asset, Assets};
use crate::inventory::{RESERVED, read_variables};
use crate::module::schemas;
use base::fields::{Fields, is_identifier};
use base::problem::{Place, Problem, Problems};
use base::yaml::{Content, Entry, Node};

use super::{Each, Expression, Pattern, Play, Playbook, Task, Until};

const PLAY: &[&str] = &["name", "hosts", "when", "vars", "tasks", "handlers", "tags", "serial"];
const IMPORT: &[&str] = &["name", "import_playbook", "import", "when", "tags"];
const TASK: &[&str] = &[
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
/// Ansible's words that do not exist here, and what to do instead.
const FOREIGN: &[(&str, &str)] = &[
    ("become", "every task runs as the user that `ssh.user` of the inventory names; drop it"),
    ("gather_facts", "facts are always there, at no cost; drop it"),
    ("with_items", "use `loop`"),
    ("ignore_errors", "say what a failure is with `failed_when`"),
    ("delegate_to", "write a play with `hosts: NAME`"),
    ("block", "write a play of its own"),
    ("roles", "use `import_playbook`"),
    ("include_tasks", "use `import_playbook`"),
    ("import_tasks", "use `import_playbook`"),
];

const MAX_IMPORT_DEPTH: usize = 8;
const MAX_RETRIES: u64 = 10_000;
const MAX_DELAY_SECONDS: u64 = 3600;
const DEFAULT_RETRIES: u64 = 3;
const DEFAULT_DELAY_SECONDS: u64 = 5;
/// More hosts than an inventory can have.
const MAX_SERIAL: u64 = 16;

/// Reads a playbook and all that it imports.
pub fn load(name: &str, assets: &Assets) -> Result<Playbook, Problems> {
    let asset = assets.playbook(name).map_err(|e| Problem::new(&Place::whole(name), e.to_string()))?;
    let mut reader = Reader { assets, problems: Problems::default(), trail: Vec::new(), plays: Vec::new() };
    let shown = asset.name.clone();
    reader.file(&asset, &Inherited::default());
    let Reader { problems, plays, .. } = reader;
    problems.or(Playbook { name: shown, plays })
}

/// What an import hands on to the plays that it brings in.
#[derive(Clone, Default)]
struct Inherited {
    tags: Vec<String>,
    when: Vec<Expression>,
}

impl Inherited {
    /// With what an import or a play says itself.
    fn with(&self, fields: &mut Fields<'_, '_>) -> Self {
        let mut all = self.clone();
        all.tags.extend(fields.texts("tags").into_iter().map(|(tag, _)| tag));
        all.when.extend(expressions(fields, "when"));
        all
    }
}

struct Reader<'a> {
    assets: &'a Assets,
    problems: Problems,
    /// Files that are being read, the outermost first.
    trail: Vec<String>,
    plays: Vec<Play>,
}

impl Reader<'_> {
    fn file(&mut self, asset: &Asset, inherited: &Inherited) {
        let root = match Node::parse(&asset.name, &asset.text) {
            Ok(root) => root,
            Err(problems) => return self.problems.extend(problems),
        };
        let Content::List(items) = &root.content else {
            let message = format!("a playbook is a list of plays, not {}", root.shown());
            return self.problems.push(Problem::new(&root.place, message));
        };
        self.trail.push(asset.name.clone());
        for item in items {
            if item.get("import_playbook").or(item.get("import")).is_some() {
                self.import(item, &asset.name, inherited);
            } else if let Some(play) = play(item, inherited, &mut self.problems) {
                self.plays.push(play);
            }
        }
        self.trail.pop();
    }

    fn import(&mut self, item: &Node, importer: &str, inherited: &Inherited) {
        let Some(mut fields) = Fields::of(item, "an import", IMPORT, &mut self.problems) else { return };
        let inherited = inherited.with(&mut fields);
        let Some(name) = fields.text("import_playbook").or_else(|| fields.text("import")) else { return };
        let place = item.get("import_playbook").or(item.get("import")).map_or(&item.place, |n| &n.place);
        match self.assets.imported(&name, importer) {
            Err(error) => self.problems.push(Problem::new(place, error.to_string())),
            Ok(asset) if self.trail.contains(&asset.name) || self.trail.len() >= MAX_IMPORT_DEPTH => {
                let trail = self.trail.join(" → ");
                let message = format!("importing {} here does not come to an end: {trail}", asset.name);
                self.problems.push(Problem::new(place, message));
            }
            Ok(asset) => self.file(&asset, &inherited),
        }
    }
}

fn play(node: &Node, inherited: &Inherited, problems: &mut Problems) -> Option<Play> {
    foreign(node, problems);
    let mut fields = Fields::of(node, "a play", PLAY, problems)?;
    fields.required("hosts", "all, pair, first, witness, or the name of a host");
    let hosts = fields.texts("hosts").into_iter().map(|(word, _)| Pattern::parse(word)).collect();
    let Inherited { tags, when } = inherited.with(&mut fields);
    let serial = fields.int("serial", 1, MAX_SERIAL).and_then(|n| usize::try_from(n).ok());
    let vars = checked_variables(&mut fields);
    let name = fields.text("name").unwrap_or_else(|| "play".to_owned());
    let (tasks, handlers) = (fields.list("tasks"), fields.list("handlers"));
    let tasks = tasks.iter().filter_map(|t| task(t, &tags, problems)).collect();
    let handlers: Vec<Task> = handlers.iter().filter_map(|t| task(t, &tags, problems)).collect();
    for (index, handler) in handlers.iter().enumerate() {
        if handlers.iter().take(index).any(|h| h.name == handler.name) {
            let message = format!("a handler {:?} is there already", handler.name);
            problems.push(Problem::new(&handler.place, message));
        }
    }
    Some(Play { name, place: node.place.clone(), hosts, when, vars, tasks, handlers, serial })
}

fn checked_variables(fields: &mut Fields<'_, '_>) -> Vec<Entry> {
    let entries = fields.map("vars");
    read_variables(entries, fields.problems());
    entries.to_vec()
}

/// Ansible's words get advice of their own instead of "unknown key".
fn foreign(node: &Node, problems: &mut Problems) {
    for entry in node.entries() {
        if let Some((word, advice)) = FOREIGN.iter().find(|(word, _)| *word == entry.key) {
            problems.push(Problem::new(&entry.place, format!("{word:?} does not exist here")).hint(*advice));
        }
    }
}

fn modules() -> impl Iterator<Item = &'static str> {
    schemas().iter().map(|s| s.name).chain(CONTROLLER.iter().copied())
}

fn task(node: &Node, tags: &[String], problems: &mut Problems) -> Option<Task> {
    foreign(node, problems);
    let allowed: Vec<&str> = TASK.iter().copied().chain(modules()).collect();
    let module = module(node, problems);
    let mut fields = Fields::of(node, "a task", &allowed, problems)?;
    let name = fields.text("name");
    let when = expressions(&mut fields, "when");
    let until = until(&mut fields);
    let each = each(&mut fields);
    let register = register(&mut fields);
    let notify = fields.texts("notify").into_iter().map(|(name, node)| (name, node.place.clone())).collect();
    let changed_when = expressions(&mut fields, "changed_when").into_iter().next();
    let failed_when = expressions(&mut fields, "failed_when").into_iter().next();
    let no_log = fields.bool("no_log").unwrap_or(false);
    let run_once = fields.bool("run_once").unwrap_or(false);
    let own = fields.texts("tags").into_iter().map(|(tag, _)| tag);
    let tags = tags.iter().cloned().chain(own).collect();
    let vars = checked_variables(&mut fields);
    let (module, args) = module?;
    Some(Task {
        name: name.unwrap_or_else(|| module.key.clone()),
        place: node.place.clone(),
        module: module.key.clone(),
        module_place: module.place.clone(),
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

/// The one key of a task that is a module, with its arguments.
fn module<'a>(node: &'a Node, problems: &mut Problems) -> Option<(&'a Entry, Vec<Entry>)> {
    let known: Vec<&str> = modules().collect();
    let mut found = node.entries().iter().filter(|e| known.contains(&e.key.as_str()));
    let Some(module) = found.next() else {
        let unknown =
            |e: &&Entry| !TASK.contains(&e.key.as_str()) && !FOREIGN.iter().any(|(w, _)| *w == e.key);
        // A misspelt module is reported as an unknown key, with the nearest right one.
        if !node.entries().is_empty() && !node.entries().iter().any(|e| unknown(&e)) {
            let problem = Problem::new(&node.place, "this task names no module");
            problems.push(problem.hint(format!("modules: {}", known.join(", "))));
        }
        return None;
    };
    if let Some(second) = found.next() {
        let message = format!("a task runs one module, here are {:?} and {:?}", module.key, second.key);
        problems.push(Problem::new(&second.place, message));
    }
    let args = match &module.value.content {
        Content::Map(entries) => entries.clone(),
        Content::Null => Vec::new(),
        Content::Text(_) if module.key == "command" => {
            vec![Entry { key: "line".into(), place: module.value.place.clone(), value: module.value.clone() }]
        }
        _ => {
            let message =
                format!("the arguments of {} are a mapping, not {}", module.key, module.value.shown());
            problems.push(Problem::new(&module.value.place, message));
            Vec::new()
        }
    };
    Some((module, args))
}

fn expressions(fields: &mut Fields<'_, '_>, key: &str) -> Vec<Expression> {
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

fn each(fields: &mut Fields<'_, '_>) -> Option<Each> {
    let node = fields.get("loop")?;
    match &node.content {
        Content::List(items) => Some(Each::Items(items.clone())),
        Content::Text(text) => {
            let inner = text.trim().strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).unwrap_or(text);
            let source = inner.trim().to_owned();
            Some(Each::Computed(Expression { source, place: node.place.clone() }))
        }
        _ => {
            fields.report(node, format!("\"loop\" must be a list or an expression, not {}", node.shown()));
            None
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
