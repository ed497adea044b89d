//! The JSON Schema of playbooks and of files of tasks, for editors: the words of plays and tasks, and each module with
//! its arguments from its own schema. Tests keep the words equal to those that the reader accepts.

use serde_json::{Map, Value, json};

use super::read::MAX_SERIAL;
use super::task::{MAX_DELAY_SECONDS, MAX_RETRIES};
use crate::doc::{Module, modules};
use crate::module::Kind;

/// Text in which something is worked out: it may become a value of any kind.
const COMPUTED: &str = r"\{[{%]";

/// What the word of a play or task may hold.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Texts,
    Bool,
    Int(u64, u64),
    /// One expression without braces, or a list of them.
    Expressions,
    /// A list, or an expression that gives one.
    Loop,
    Name,
    Variables,
    /// A list of tasks, blocks and imports.
    Tasks,
}

/// A word: its name, what it may hold, one sentence.
type Word = (&'static str, Shape, &'static str);

const NAME: Word = ("name", Shape::Text, "What it is for; shown in reports.");
const WHEN: Word = ("when", Shape::Expressions, "Only where this holds; of a list, where all hold.");
const TAGS: Word = ("tags", Shape::Texts, "Words by which it can be chosen or left out; always and never.");
const VARS: Word = ("vars", Shape::Variables, "Variables of all tasks in it.");
const IMPORT_TASKS: Word =
    ("import_tasks", Shape::Text, "A file with a list of tasks, beside this one or in playbooks/.");

const PLAY: &[Word] = &[
    NAME,
    ("hosts", Shape::Texts, "all, pair, first, witness, or the name of a host."),
    WHEN,
    VARS,
    ("tasks", Shape::Tasks, "What to do, in order."),
    ("handlers", Shape::Tasks, "What to do at the end of the play when a task notifies it by name."),
    TAGS,
    ("serial", Shape::Int(1, MAX_SERIAL), "How many hosts at a time (default: all)."),
];
const IMPORT: &[Word] = &[
    NAME,
    ("import_playbook", Shape::Text, "A playbook, beside this one or in playbooks/."),
    ("import", Shape::Text, "The same as import_playbook."),
    WHEN,
    TAGS,
];
const BLOCK: &[Word] =
    &[NAME, ("block", Shape::Tasks, "Tasks that share the words beside it."), WHEN, VARS, TAGS];
const IMPORTED: &[Word] = &[NAME, IMPORT_TASKS, WHEN, VARS, TAGS];
const TASK: &[Word] = &[
    NAME,
    WHEN,
    ("loop", Shape::Loop, "Once for each item; it is called item."),
    ("register", Shape::Name, "Variable that takes the result."),
    ("notify", Shape::Texts, "Handlers that run at the end of the play when this task changed something."),
    ("until", Shape::Expressions, "Again until this holds; it sees the result as result."),
    (
        "retries",
        Shape::Int(0, MAX_RETRIES),
        "With until: at most this often after the first time (default: 3).",
    ),
    ("delay", Shape::Int(0, MAX_DELAY_SECONDS), "With until: seconds in between (default: 5)."),
    ("changed_when", Shape::Expressions, "When the task counts as changed, instead of what its module says."),
    ("failed_when", Shape::Expressions, "When the task counts as failed, instead of what its module says."),
    ("no_log", Shape::Bool, "Nothing of what it says is shown or logged."),
    ("run_once", Shape::Bool, "Only on the first of the hosts; the others get its result."),
    TAGS,
    VARS,
];

/// The schema of a playbook.
pub(crate) fn of_playbook() -> Value {
    let items = json!({"anyOf": [{"$ref": "#/$defs/play"}, {"$ref": "#/$defs/import"}]});
    schema("Playbook of futago", items)
}

/// The schema of a file that `import_tasks` names.
pub(crate) fn of_tasks() -> Value {
    schema("Tasks of futago", json!({"$ref": "#/$defs/step"}))
}

fn schema(title: &str, items: Value) -> Value {
    let steps = ["task", "block", "import_tasks"].map(|name| json!({"$ref": format!("#/$defs/{name}")}));
    let mut import = object(IMPORT, &[]);
    import["oneOf"] = json!([{"required": ["import_playbook"]}, {"required": ["import"]}]);
    let mut imported = object(IMPORTED, &[]);
    imported["patternProperties"] = json!({r"^ansible\.builtin\.import_tasks$": {"type": "string"}});
    imported["anyOf"] = json!([{"required": ["import_tasks"]}, with_collection()]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "array",
        "items": items,
        "$defs": {
            "play": object(PLAY, &["hosts"]),
            "import": import,
            "step": {"anyOf": steps},
            "task": task(),
            "block": object(BLOCK, &["block"]),
            "import_tasks": imported,
        },
    })
}

/// That at least one key has a collection before it.
fn with_collection() -> Value {
    json!({"not": {"propertyNames": {"not": {"pattern": r"^ansible\."}}}})
}

fn task() -> Value {
    let mut task = object(TASK, &[]);
    let mut by_collection = Map::new();
    let mut exactly_one = vec![with_collection()];
    for module in modules() {
        let name = module.name;
        task["properties"][name] = of_module(&module);
        let same = json!({"$ref": format!("#/$defs/task/properties/{name}")});
        by_collection.insert(format!(r"^ansible\.(builtin|legacy)\.{name}$"), same);
        exactly_one.push(json!({"required": [name]}));
    }
    task["patternProperties"] = by_collection.into();
    task["oneOf"] = exactly_one.into();
    task
}

fn of_module(module: &Module) -> Value {
    let mut arguments = Map::new();
    for key in &module.keys {
        let mut shape = of_kind(key.kind);
        shape["description"] = key.help.into();
        arguments.insert(key.name.to_owned(), shape);
    }
    let required: Vec<&str> = module.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut types = vec!["object"];
    // A module that needs no arguments may stand alone, and a command may be one line.
    types.extend(required.is_empty().then_some("null"));
    types.extend((module.name == "command").then_some("string"));
    json!({
        "description": module.summary,
        "type": types,
        "required": required,
        "additionalProperties": false,
        "properties": arguments,
    })
}

/// What an argument may hold as it is written: its kind, or text that becomes it.
fn of_kind(kind: Kind) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": format!("{pattern}|{COMPUTED}")});
    match kind {
        Kind::Text => json!({"type": ["string", "number"]}),
        Kind::Bool => json!({"anyOf": [{"type": "boolean"}, text("^[Tt]rue$|^[Ff]alse$")]}),
        Kind::Int => json!({"anyOf": [{"type": "integer", "minimum": 0}, text("^[0-9]+$")]}),
        Kind::Path => text("^/"),
        Kind::Mode => text("^[0-7]{3,4}$"),
        Kind::TextList => texts(),
        Kind::Choice(words) => json!({"anyOf": [{"enum": words}, {"type": "string", "pattern": COMPUTED}]}),
        Kind::Map => json!({"anyOf": [{"type": "object"}, {"type": "string", "pattern": COMPUTED}]}),
        Kind::Any => json!({}),
    }
}

fn texts() -> Value {
    json!({"type": ["string", "number", "array"], "items": {"type": ["string", "number"]}})
}

fn object(words: &[Word], required: &[&str]) -> Value {
    let mut properties = Map::new();
    for (name, shape, help) in words {
        let mut value = of_shape(*shape);
        value["description"] = (*help).into();
        properties.insert((*name).to_owned(), value);
    }
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn of_shape(shape: Shape) -> Value {
    match shape {
        Shape::Text => json!({"type": ["string", "number"]}),
        Shape::Texts => texts(),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Int(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Expressions => {
            let one = json!({"type": ["string", "boolean", "number"], "not": {"pattern": COMPUTED}});
            json!({"anyOf": [one, {"type": "array", "items": one}]})
        }
        Shape::Loop => json!({"type": ["array", "string"]}),
        Shape::Name => json!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}),
        Shape::Variables => {
            json!({"type": "object", "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}})
        }
        Shape::Tasks => json!({"type": "array", "items": {"$ref": "#/$defs/step"}}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read, task};
    use super::*;

    #[test]
    fn the_schema_knows_exactly_the_words_of_the_reader() {
        let of_reader = [
            (PLAY, read::PLAY),
            (IMPORT, read::IMPORT),
            (BLOCK, read::BLOCK),
            (IMPORTED, read::IMPORTED),
            (TASK, task::TASK),
        ];
        for (words, known) in of_reader {
            let sorted = |mut words: Vec<&'static str>| {
                words.sort_unstable();
                words
            };
            assert_eq!(sorted(words.iter().map(|(name, ..)| *name).collect()), sorted(known.to_vec()));
        }
    }
}
