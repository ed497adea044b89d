//! Makes playbooks from YAML and follows their imports. Every mistake in every file is reported at once.

use crate::assets::{Asset, Assets};
use base::fields::Fields;
use base::problem::{Place, Problem, Problems};
use base::yaml::{Content, Node};

use super::task::{Inherited, checked_variables, task};
use super::{Pattern, Play, Playbook, Task, foreign};

pub(super) const PLAY: &[&str] = &["name", "hosts", "when", "vars", "tasks", "handlers", "tags", "serial"];
pub(super) const IMPORT: &[&str] = &["name", "import_playbook", "import", "when", "tags"];
pub(super) const BLOCK: &[&str] = &["name", "block", "when", "vars", "tags"];
pub(super) const IMPORTED: &[&str] = &["name", "import_tasks", "when", "vars", "tags"];

const MAX_IMPORT_DEPTH: usize = 8;
/// More hosts than an inventory can have.
pub(super) const MAX_SERIAL: u64 = 16;

/// What could be read of a playbook and all that it imports, with the mistakes in it.
#[derive(Debug)]
pub struct Read {
    /// The plays and tasks that are known by name. With problems it is fit for further checks only.
    pub playbook: Playbook,
    /// The mistakes.
    pub problems: Problems,
    /// Every file could be read, so that what is missing in the playbook is missing.
    pub is_whole: bool,
}

/// Reads a playbook and all that it imports.
#[must_use]
pub fn read(name: &str, assets: &Assets) -> Read {
    let mut reader = Reader {
        assets,
        problems: Problems::default(),
        trail: Vec::new(),
        plays: Vec::new(),
        is_whole: true,
    };
    let mut shown = name.to_owned();
    match assets.playbook(name) {
        Err(error) => reader.lost(Problem::new(&Place::whole(name), error.to_string())),
        Ok(asset) => {
            shown.clone_from(&asset.name);
            reader.file(&asset, &Inherited::default());
        }
    }
    let Reader { problems, plays, is_whole, .. } = reader;
    Read { playbook: Playbook { name: shown, plays }, problems, is_whole }
}

struct Reader<'a> {
    assets: &'a Assets,
    problems: Problems,
    /// Files that are being read, the outermost first.
    trail: Vec<String>,
    plays: Vec<Play>,
    is_whole: bool,
}

impl Reader<'_> {
    /// A mistake behind which there is more that is not known.
    fn lost(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.is_whole = false;
    }

    /// The items of a file; `what` is what it should be.
    fn items(&mut self, asset: &Asset, what: &str) -> Vec<Node> {
        let mut problems = Problems::default();
        let root = Node::read(&asset.name, &asset.text, &mut problems);
        self.is_whole &= problems.is_empty();
        self.problems.extend(problems);
        match root {
            None => {}
            Some(Node { content: Content::List(items), .. }) => return items,
            Some(root) => {
                let problem = Problem::new(&root.place, format!("{what}, not {}", root.shown()));
                self.lost(match root.get("cluster") {
                    Some(_) => problem.hint("this is an inventory: name each with -i, or their folder"),
                    None => problem,
                });
            }
        }
        Vec::new()
    }

    fn file(&mut self, asset: &Asset, inherited: &Inherited) {
        let items = self.items(asset, "a playbook is a list of plays");
        self.trail.push(asset.name.clone());
        for item in &items {
            if item.get("import_playbook").or(item.get("import")).is_some() {
                self.import(item, &asset.name, inherited);
            } else if let Some(play) = self.play(item, &asset.name, inherited) {
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
        if let Some(asset) = self.imported(&name, importer, place) {
            self.file(&asset, &inherited);
        }
    }

    /// A file that another one names; none when it is not there, or is being read already.
    fn imported(&mut self, name: &str, importer: &str, place: &Place) -> Option<Asset> {
        match self.assets.imported(name, importer) {
            Err(error) => self.lost(Problem::new(place, error.to_string())),
            Ok(asset) if self.trail.contains(&asset.name) || self.trail.len() >= MAX_IMPORT_DEPTH => {
                let trail = self.trail.join(" → ");
                let message = format!("importing {} here does not come to an end: {trail}", asset.name);
                self.lost(Problem::new(place, message));
            }
            Ok(asset) => return Some(asset),
        }
        None
    }

    fn play(&mut self, node: &Node, file: &str, inherited: &Inherited) -> Option<Play> {
        foreign::report(node, &mut self.problems);
        let mut fields = Fields::of(node, "a play", PLAY, &mut self.problems)?;
        fields.required("hosts", "all, pair, first, witness, or the name of a host");
        let hosts = fields.texts("hosts").into_iter().map(|(word, _)| Pattern::parse(word)).collect();
        let Inherited { tags, when, .. } = inherited.with(&mut fields);
        let serial = fields.int("serial", 1, MAX_SERIAL).and_then(|n| usize::try_from(n).ok());
        let vars = checked_variables(&mut fields);
        let name = fields.text("name").unwrap_or_else(|| "play".to_owned());
        let (tasks, handlers) = (fields.list("tasks"), fields.list("handlers"));
        // Its variables and conditions are the play's own; tasks inherit its tags.
        let inherited = Inherited { tags, ..Inherited::default() };
        let tasks = self.tasks(tasks, file, &inherited);
        let handlers = self.tasks(handlers, file, &inherited);
        for (index, handler) in handlers.iter().enumerate() {
            if handlers.iter().take(index).any(|h| h.name == handler.name) {
                let message = format!("a handler {:?} is there already", handler.name);
                self.problems.push(Problem::new(&handler.place, message));
            }
        }
        Some(Play { name, place: node.place.clone(), hosts, when, vars, tasks, handlers, serial })
    }

    /// Tasks, those of blocks and of imported files in their place.
    fn tasks(&mut self, items: &[Node], file: &str, inherited: &Inherited) -> Vec<Task> {
        let mut tasks = Vec::new();
        for item in items {
            if item.get("block").is_some() {
                tasks.extend(self.block(item, file, inherited));
            } else if let Some(key) = import_of_tasks(item) {
                tasks.extend(self.tasks_of_file(item, key, file, inherited));
            } else {
                tasks.extend(task(item, inherited, &mut self.problems));
            }
        }
        tasks
    }

    fn block(&mut self, item: &Node, file: &str, inherited: &Inherited) -> Vec<Task> {
        foreign::report(item, &mut self.problems);
        let Some(mut fields) = Fields::of(item, "a block", BLOCK, &mut self.problems) else {
            return Vec::new();
        };
        let mut inherited = inherited.with(&mut fields);
        inherited.vars.extend(checked_variables(&mut fields));
        let items = fields.list("block");
        self.tasks(items, file, &inherited)
    }

    fn tasks_of_file(&mut self, item: &Node, key: &str, file: &str, inherited: &Inherited) -> Vec<Task> {
        let allowed: Vec<&str> = IMPORTED.iter().copied().chain([key]).collect();
        let Some(mut fields) = Fields::of(item, "an import of tasks", &allowed, &mut self.problems) else {
            return Vec::new();
        };
        let mut inherited = inherited.with(&mut fields);
        inherited.vars.extend(checked_variables(&mut fields));
        let Some(name) = fields.text(key) else { return Vec::new() };
        let place = item.get(key).map_or(&item.place, |node| &node.place);
        let Some(asset) = self.imported(&name, file, place) else { return Vec::new() };
        let items = self.items(&asset, "a file of tasks is a list of tasks");
        self.trail.push(asset.name.clone());
        let tasks = self.tasks(&items, &asset.name, &inherited);
        self.trail.pop();
        tasks
    }
}

/// The key with which a file of tasks is imported.
fn import_of_tasks(item: &Node) -> Option<&'static str> {
    ["import_tasks", "ansible.builtin.import_tasks"].into_iter().find(|key| item.get(key).is_some())
}
