//! What will be done, and everything that can be known to be wrong with it before any host is contacted.
//!
//! The whole playbook is walked for every host with its variables, also what tags leave out: expressions are
//! evaluated, templates rendered, arguments checked, handlers looked up. Facts and results are not known yet;
//! what depends on them is checked for its form only.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Map;

use crate::assets::Assets;
use crate::inventory::{Inventory, Member};
use crate::module::schemas;
use crate::playbook::{ALWAYS, Each, Expression, NEVER, Pattern, Play, Playbook, Task};
use crate::protocol::Facts;
pub use crate::step::Source;
use crate::step::{Resolution, Resolver};
use crate::template::{Resolved, Scope};
use base::nearest::nearest;
use base::problem::{Problem, Problems};

/// Most items of one loop.
pub(crate) const MAX_ITEMS: usize = 1000;

/// Which part of a playbook is wanted, and where.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only tasks with one of these tags.
    pub tags: Vec<String>,
    /// No tasks with one of these tags.
    pub skip_tags: Vec<String>,
    /// Only these hosts or groups.
    pub limit: Vec<String>,
    /// Only from the task with this name on.
    pub start_at: Option<String>,
}

/// What will be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In order.
    pub plays: Vec<PlannedPlay>,
    /// What was checked for it.
    pub checked: Checked,
}

/// All that was checked, also what the selection leaves out; a play that is for no host of the inventory was not.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Number of plays.
    pub plays: usize,
    /// Number of their tasks.
    pub tasks: usize,
    /// Number of their handlers.
    pub handlers: usize,
    /// Templates and files that tasks bring to the hosts.
    pub sources: BTreeSet<Source>,
}

/// The wanted part of a play.
#[derive(Clone, Debug)]
pub struct PlannedPlay {
    /// Its name.
    pub name: String,
    /// Names of hosts; those of one batch go together.
    pub batches: Vec<Vec<String>>,
    /// The play with the wanted tasks only.
    pub play: Play,
}

impl Plan {
    /// Names of all hosts that are needed, in the order of the inventory.
    #[must_use]
    pub fn hosts(&self, inventory: &Inventory) -> Vec<String> {
        let needed =
            |name: &&str| self.plays.iter().flat_map(|p| p.batches.iter().flatten()).any(|h| h == name);
        inventory.members().map(|m| m.name.as_str()).filter(needed).map(str::to_owned).collect()
    }

    /// Number of tasks, handlers not counted.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.plays.iter().map(|p| p.play.tasks.len() * p.batches.len()).sum()
    }
}

/// The words of a selection must mean something; an error here is an error of usage.
pub fn check_selection(
    selection: &Selection,
    playbook: &Playbook,
    inventory: &Inventory,
) -> Result<(), String> {
    let tasks = || playbook.plays.iter().flat_map(|p| &p.tasks);
    let tags: Vec<&str> = tasks().flat_map(|t| t.tags.iter().map(String::as_str)).collect();
    for tag in selection.tags.iter().chain(&selection.skip_tags) {
        if !tags.contains(&tag.as_str()) && tag != ALWAYS && tag != NEVER {
            return Err(unknown("no task has the tag", tag, &tags));
        }
    }
    let mut hosts: Vec<&str> = inventory.members().flat_map(|m| [m.name.as_str(), &m.fqdn]).collect();
    hosts.extend(["all", "pair", "first", "witness"]);
    for word in &selection.limit {
        if !hosts.contains(&word.as_str()) {
            return Err(unknown("the inventory has no host", word, &hosts));
        }
    }
    let names: Vec<&str> = tasks().map(|t| t.name.as_str()).collect();
    match &selection.start_at {
        Some(name) if !names.contains(&name.as_str()) => Err(unknown("no task is called", name, &names)),
        _ => Ok(()),
    }
}

fn unknown(what: &str, word: &str, allowed: &[&str]) -> String {
    match nearest(word, allowed.iter().copied()) {
        Some(near) => format!("{what} {word:?}; did you mean {near:?}?"),
        None => format!("{what} {word:?}"),
    }
}

/// Checks the whole playbook and returns the wanted part of it.
pub fn prepare(
    inventory: &Inventory,
    playbook: &Playbook,
    selection: &Selection,
    assets: &Assets,
) -> Result<Plan, Problems> {
    let resolver = Resolver::new(assets.clone(), inventory);
    let mut check =
        Check { inventory, resolver: &resolver, problems: Problems::default(), sources: BTreeSet::new() };
    check.patterns(playbook);
    check.handlers(playbook);
    let applicable = check.applicable(playbook);
    let members: Vec<&Member> = inventory.members().collect();
    let mut found: BTreeMap<Problem, Vec<&str>> = BTreeMap::new();
    for member in &members {
        for problem in check.host(&applicable, member) {
            found.entry(problem).or_default().push(&member.name);
        }
    }
    for (mut problem, hosts) in found {
        if hosts.len() == 1 && members.len() > 1 && !only_one(&applicable, inventory, &problem) {
            problem.message = format!("{} (on {})", problem.message, hosts.join(", "));
        }
        check.problems.push(problem);
    }
    let mut plan = select(inventory, &applicable, selection);
    let plays: Vec<&Play> =
        applicable.plays.iter().filter(|play| !play.members(inventory).is_empty()).collect();
    plan.checked = Checked {
        plays: plays.len(),
        tasks: plays.iter().map(|play| play.tasks.len()).sum(),
        handlers: plays.iter().map(|play| play.handlers.len()).sum(),
        sources: std::mem::take(&mut check.sources),
    };
    check.skipped_results(&applicable, &plan);
    check.problems.or(plan)
}

/// Whether the play that a problem is in runs on one host anyway.
fn only_one(playbook: &Playbook, inventory: &Inventory, problem: &Problem) -> bool {
    let before = |p: &&Play| p.place.file == problem.place.file && p.place.line <= problem.place.line;
    playbook.plays.iter().rfind(before).is_some_and(|p| p.members(inventory).len() == 1)
}

fn select(inventory: &Inventory, playbook: &Playbook, selection: &Selection) -> Plan {
    let mut started = selection.start_at.is_none();
    let mut plays = Vec::new();
    for play in &playbook.plays {
        let mut wanted = play.clone();
        wanted.tasks.retain(|task| {
            started |= selection.start_at.as_ref() == Some(&task.name);
            started && is_wanted(&task.tags, selection)
        });
        let limit: Vec<Pattern> = selection.limit.iter().map(|word| Pattern::parse(word.clone())).collect();
        let members = play.members(inventory).into_iter();
        let members = members.filter(|m| limit.is_empty() || limit.iter().any(|p| p.covers(m, inventory)));
        let names: Vec<String> = members.map(|m| m.name.clone()).collect();
        let batches: Vec<Vec<String>> =
            names.chunks(play.serial.unwrap_or(names.len()).max(1)).map(<[String]>::to_vec).collect();
        if !wanted.tasks.is_empty() && !batches.is_empty() {
            plays.push(PlannedPlay { name: play.name.clone(), batches, play: wanted });
        }
    }
    Plan { plays, checked: Checked::default() }
}

fn is_wanted(tags: &[String], selection: &Selection) -> bool {
    let has = |wanted: &[String]| tags.iter().any(|t| wanted.contains(t));
    let never = tags.iter().any(|t| t == NEVER);
    let always = tags.iter().any(|t| t == ALWAYS);
    let asked = has(&selection.tags);
    !has(&selection.skip_tags) && (asked || (!never && (selection.tags.is_empty() || always)))
}

struct Check<'a> {
    inventory: &'a Inventory,
    resolver: &'a Resolver,
    problems: Problems,
    sources: BTreeSet<Source>,
}

impl Check<'_> {
    fn patterns(&mut self, playbook: &Playbook) {
        let mut known: Vec<&str> = self.inventory.members().map(|m| m.name.as_str()).collect();
        known.extend(["all", "pair", "first", "witness"]);
        for play in &playbook.plays {
            for name in self.unknown_hosts(play) {
                let problem = Problem::unknown_word(&play.place, "the inventory has no host", &name, &known);
                self.problems.push(problem);
            }
        }
    }

    /// Names in `hosts` that the inventory does not have.
    fn unknown_hosts(&self, play: &Play) -> Vec<String> {
        let is_known =
            |pattern: &Pattern| self.inventory.members().any(|m| pattern.covers(m, self.inventory));
        let names = play.hosts.iter().filter_map(|pattern| match pattern {
            Pattern::Name(name) if !is_known(pattern) => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }

    fn handlers(&mut self, playbook: &Playbook) {
        for play in &playbook.plays {
            let known: Vec<&str> = play.handlers.iter().map(|h| h.name.as_str()).collect();
            for (name, place) in play.tasks.iter().chain(&play.handlers).flat_map(|t| &t.notify) {
                if !known.contains(&name.as_str()) {
                    self.problems.push(Problem::unknown_word(
                        place,
                        "this play has no handler",
                        name,
                        &known,
                    ));
                }
            }
        }
    }

    /// The plays with the hosts for which their conditions hold: without those that hold for none.
    fn applicable(&mut self, playbook: &Playbook) -> Playbook {
        let mut plays = Vec::new();
        for play in &playbook.plays {
            let mut play = play.clone();
            if !self.unknown_hosts(&play).is_empty() {
                // That is reported; the rest of the play is checked as if it were for the pair.
                play.hosts = vec![Pattern::Pair];
            }
            if !play.when.is_empty() {
                let members = play.members(self.inventory);
                let hosts = members.into_iter().filter(|m| self.applies(&play, m));
                play.hosts = hosts.map(|m| Pattern::Name(m.name.clone())).collect();
            }
            if !play.hosts.is_empty() {
                plays.push(play);
            }
        }
        Playbook { name: playbook.name.clone(), plays }
    }

    fn applies(&mut self, play: &Play, member: &Member) -> bool {
        let mut scope = self.inventory.scope(member);
        set_facts(&mut scope);
        for condition in &play.when {
            match self.expression(condition, &scope) {
                Ok(Resolved::Known(true)) => {}
                Ok(Resolved::Known(false)) => return false,
                Ok(Resolved::Unknown) => {
                    let message = "\"when\" of a play must be known before any host is contacted";
                    let problem = Problem::new(&condition.place, message);
                    self.problems.push(problem.hint("write it on its tasks"));
                }
                Err(problem) => self.problems.push(problem),
            }
        }
        true
    }

    /// A task must not need the result of one that the selection leaves out.
    fn skipped_results(&mut self, playbook: &Playbook, plan: &Plan) {
        let registers = |play: &Play| -> Vec<(String, String)> {
            play.tasks.iter().filter_map(|t| Some((t.register.clone()?, t.name.clone()))).collect()
        };
        let all = playbook.plays.iter().flat_map(registers);
        let wanted: Vec<String> =
            plan.plays.iter().flat_map(|p| registers(&p.play)).map(|(r, _)| r).collect();
        let missing: Vec<(String, String)> = all.filter(|(r, _)| !wanted.contains(r)).collect();
        for task in plan.plays.iter().flat_map(|p| p.play.tasks.iter().chain(&p.play.handlers)) {
            for (register, by) in missing.iter().filter(|(r, _)| mentions(task, r)) {
                let message = format!("{register:?} is the result of the task {by:?}, which is left out");
                let problem = Problem::new(&task.place, message);
                self.problems.push(problem.hint(format!("start at {by:?}, or choose tags that include it")));
            }
        }
    }

    /// Walks the playbook as it would run on one host.
    fn host(&mut self, playbook: &Playbook, member: &Member) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut base = self.inventory.scope(member);
        set_facts(&mut base);
        base.explain_absent(results(playbook));
        for play in &playbook.plays {
            let covers = play.hosts.iter().any(|p| p.covers(member, self.inventory));
            if !covers {
                continue;
            }
            let mut scope = base.clone();
            problems.extend(self.resolver.add_variables(&play.vars, &mut scope).err().into_iter().flatten());
            for task in play.tasks.iter().chain(&play.handlers) {
                problems.extend(self.task(task, &scope));
                if let Some(name) = &task.register {
                    set_result(name, task, &mut base);
                    set_result(name, task, &mut scope);
                }
            }
        }
        problems
    }

    fn task(&mut self, task: &Task, scope: &Scope) -> Vec<Problem> {
        let mut scope = scope.clone();
        let mut problems = self.resolver.add_variables(&task.vars, &mut scope).err().unwrap_or_default();
        let items = match self.items(task, &scope) {
            Ok(items) => items,
            Err(problem) => {
                problems.push(problem);
                return problems;
            }
        };
        for item in items {
            match &item {
                Some(Resolved::Known(value)) => scope.set("item", value),
                Some(Resolved::Unknown) => scope.set_partial("item", &Map::new()),
                None => {}
            }
            problems.extend(self.once(task, &scope));
        }
        problems
    }

    /// The items of a loop; one "no item" when there is no loop.
    fn items(&self, task: &Task, scope: &Scope) -> Result<Vec<Option<Resolved<serde_json::Value>>>, Problem> {
        Ok(match items(self.resolver, task, scope)? {
            None => vec![None],
            Some(Resolved::Unknown) => vec![Some(Resolved::Unknown)],
            Some(Resolved::Known(items)) => items.into_iter().map(|i| Some(Resolved::Known(i))).collect(),
        })
    }

    fn once(&mut self, task: &Task, scope: &Scope) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut skipped = false;
        for condition in &task.when {
            // Conditions after one that fails are not evaluated when it runs, so they may not make sense.
            match self.expression(condition, scope) {
                Ok(Resolved::Known(false)) => {
                    skipped = true;
                    break;
                }
                Ok(_) => {}
                Err(problem) => problems.push(problem),
            }
        }
        let checked = if task.module.is_empty() {
            // That it has none has been reported; what it would be given cannot be checked.
            Ok(Resolution::default())
        } else if skipped {
            self.resolver.check_skipped(task, scope)
        } else {
            self.resolver.resolve(task, scope)
        };
        match checked {
            Ok(Resolution { source, .. }) => self.sources.extend(source),
            Err(found) => problems.extend(found),
        }
        let mut with_result = scope.clone();
        for name in ["result"].into_iter().chain(task.register.as_deref()) {
            set_one_result(name, task, &mut with_result);
        }
        let until = task.until.as_ref().map(|u| &u.condition);
        for expression in [&task.changed_when, &task.failed_when].into_iter().flatten().chain(until) {
            problems.extend(self.expression(expression, &with_result).err());
        }
        problems
    }

    fn expression(&self, expression: &Expression, scope: &Scope) -> Result<Resolved<bool>, Problem> {
        let Expression { source, place } = expression;
        self.resolver.engine.condition(source, scope).map_err(|e| e.in_value(place, source))
    }
}

/// Facts are known by name before contact.
fn set_facts(scope: &mut Scope) {
    let names = serde_json::to_value(Facts::default()).unwrap_or_default();
    let names: Vec<&str> = names.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    scope.set_later("facts", &names);
}

/// What the result of one run of a module has.
fn result_keys(task: &Task) -> Vec<&'static str> {
    // On a host, `template` is `copy`.
    let returns = schemas().iter().find(|s| s.name == task.module).map_or(&[][..], |s| s.returns);
    ["changed", "failed", "skipped", "msg"].iter().chain(returns).copied().collect()
}

/// Makes the result of a task a variable whose values are not known yet.
fn set_result(name: &str, task: &Task, scope: &mut Scope) {
    match task.each {
        Some(_) => scope.set_later(name, &["changed", "failed", "skipped", "results"]),
        None => set_one_result(name, task, scope),
    }
}

/// The same for one item. Of a module that could not be told, a result may have anything.
fn set_one_result(name: &str, task: &Task, scope: &mut Scope) {
    if task.module.is_empty() {
        scope.set_partial(name, &Map::new());
    } else {
        scope.set_later(name, &result_keys(task));
    }
}

/// What to say where the result of a task is used and not there.
fn results(playbook: &Playbook) -> BTreeMap<String, String> {
    let tasks = playbook.plays.iter().flat_map(|play| play.tasks.iter().chain(&play.handlers));
    let reason = |task: &Task| {
        let Task { name, place, .. } = task;
        let reason = format!("it is the result of {name:?} ({place}), which has not run there by then");
        Some((task.register.clone()?, reason))
    };
    tasks.filter_map(reason).collect()
}

/// The items of a task's loop, if it has one.
pub(crate) fn items(
    resolver: &Resolver,
    task: &Task,
    scope: &Scope,
) -> Result<Option<Resolved<Vec<serde_json::Value>>>, Problem> {
    let (value, place) = match &task.each {
        None => return Ok(None),
        Some(Each::Items(nodes)) => {
            let values: Result<Vec<_>, _> = nodes.iter().map(|node| resolver.value(node, scope)).collect();
            let known: Option<Vec<_>> = values?.into_iter().map(Resolved::known).collect();
            (known.map_or(Resolved::Unknown, |v| Resolved::Known(v.into())), &task.place)
        }
        Some(Each::Computed(Expression { source, place })) => {
            let value = resolver.engine.expression(source, scope).map_err(|e| e.in_value(place, source))?;
            (value, place)
        }
    };
    match value {
        Resolved::Unknown => Ok(Some(Resolved::Unknown)),
        Resolved::Known(serde_json::Value::Array(items)) if items.len() <= MAX_ITEMS => {
            Ok(Some(Resolved::Known(items)))
        }
        Resolved::Known(serde_json::Value::Array(items)) => Err(Problem::new(
            place,
            format!("a loop over {} items; at most {MAX_ITEMS} are allowed", items.len()),
        )),
        Resolved::Known(other) => Err(Problem::new(place, format!("\"loop\" needs a list, not {other}"))),
    }
}

/// Whether a task names a variable, in any expression or argument.
fn mentions(task: &Task, name: &str) -> bool {
    let until = task.until.as_ref().map(|u| &u.condition);
    let conditions = task.when.iter().chain(&task.changed_when).chain(&task.failed_when).chain(until);
    let mut texts: Vec<String> = conditions.map(|e| e.source.clone()).collect();
    texts.extend(task.args.iter().chain(&task.vars).map(|e| e.value.to_json().to_string()));
    match &task.each {
        Some(Each::Computed(e)) => texts.push(e.source.clone()),
        Some(Each::Items(items)) => texts.extend(items.iter().map(|i| i.to_json().to_string())),
        None => {}
    }
    let own = task.register.as_deref() == Some(name);
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    !own && texts.iter().any(|text| text.contains(name) && text.split(word).any(|w| w == name))
}
