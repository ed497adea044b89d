//! Templates and expressions: minijinja with strict undefined, and values that are not known yet.
//!
//! Facts, and results of steps that were not really done, are unknown before contact and in a plan. An expression
//! that looked at one has no value yet ([`Resolved::Unknown`]); everything else about it is still checked:
//! syntax, names of variables, filters and tests. What is written into a file is text: lists, mappings and nothing
//! are refused there instead of being printed in the notation of another language.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use minijinja::value::{Enumerator, Object, Serde, Value as Jinja, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, syntax::SyntaxConfig};
use serde_json::{Map, Value};

use crate::assets::Assets;
use base::nearest::nearest;
use base::problem::{Place, Problem};

/// Steps of evaluation after which a template is taken for endless.
const MAX_FUEL: u64 = 2_000_000;

/// A value, or the statement that it cannot be known before earlier steps are really done.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved<T> {
    /// The value.
    Known(T),
    /// Not before the run.
    Unknown,
}

impl<T> Resolved<T> {
    /// The value, if it is known.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown => None,
        }
    }
}

/// The variables of one host at one moment. Copies belong to the same host and are used one at a time.
#[derive(Clone, Debug)]
pub struct Scope {
    values: BTreeMap<String, Jinja>,
    touched: Arc<AtomicBool>,
    /// Variables whose attributes are all known by name, also where their values are not.
    fixed: BTreeSet<String>,
    /// What to say about variables that are not there, by name.
    absent: Arc<BTreeMap<String, String>>,
}

impl Scope {
    /// Variables that are all known.
    #[must_use]
    pub fn new(variables: &Map<String, Value>) -> Self {
        let mut scope = Self {
            values: BTreeMap::new(),
            touched: Arc::default(),
            fixed: BTreeSet::new(),
            absent: Arc::default(),
        };
        scope.extend(variables);
        scope
    }

    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &Value) {
        self.values.insert(name.to_owned(), Jinja::from(Serde(value)));
    }

    /// Sets variables.
    pub fn extend(&mut self, variables: &Map<String, Value>) {
        variables.iter().for_each(|(name, value)| self.set(name, value));
    }

    /// Sets a variable of which only these attributes are known yet.
    pub fn set_partial(&mut self, name: &str, known: &Map<String, Value>) {
        let known = known.iter().map(|(k, v)| (k.clone(), Jinja::from(Serde(v)))).collect();
        let partial = Partial { known, keys: None, touched: self.touched.clone() };
        self.values.insert(name.to_owned(), Jinja::from_object(partial));
    }

    /// Sets a variable of which all attributes, but none of their values, are known yet: another one is a mistake.
    pub(crate) fn set_later(&mut self, name: &str, keys: &[&str]) {
        let keys = Some(keys.iter().map(|key| (*key).to_owned()).collect());
        let partial = Partial { known: BTreeMap::new(), keys, touched: self.touched.clone() };
        self.values.insert(name.to_owned(), Jinja::from_object(partial));
        self.fix(name);
    }

    /// States that a variable has no other attributes than those that are there now.
    pub(crate) fn fix(&mut self, name: &str) {
        self.fixed.insert(name.to_owned());
    }

    /// What to say about variables that are not there.
    pub(crate) fn explain_absent(&mut self, reasons: BTreeMap<String, String>) {
        self.absent = Arc::new(reasons);
    }

    /// Whether `a.b` cannot be there, whatever happens before it is looked at.
    fn lacks(&self, path: &str) -> bool {
        let mut words = path.split('.');
        let root = words.next().unwrap_or_default();
        let Some(mut value) = self.values.get(root).filter(|_| self.fixed.contains(root)).cloned() else {
            return false;
        };
        for word in words {
            if value.kind() != ValueKind::Map || METHODS.contains(&word) || is_open(&value) {
                return false;
            }
            value = value.get_attr(word).unwrap_or_default();
            if value.is_undefined() {
                return true;
            }
        }
        false
    }

    /// Takes a variable away.
    pub fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Whether a variable is there.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    fn context(&self) -> Jinja {
        self.touched.store(false, Ordering::Relaxed);
        Jinja::from_pairs(self.values.iter().map(|(k, v)| (k.clone(), v.clone())))
    }

    fn touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// The names that could have been meant by an undefined `a.b.c`.
    fn names_beside(&self, path: &str) -> Vec<String> {
        let mut words: Vec<&str> = path.split('.').collect();
        words.pop();
        let mut words = words.into_iter();
        let Some(first) = words.next() else { return self.values.keys().cloned().collect() };
        let root = self.values.get(first).cloned().unwrap_or_default();
        let value = words.fold(root, |value, word| value.get_attr(word).unwrap_or_default());
        value
            .try_iter()
            .map(|keys| keys.filter_map(|k| k.as_str().map(str::to_owned)).collect())
            .unwrap_or_default()
    }
}

/// What every mapping can be asked.
const METHODS: &[&str] = &["get", "items", "keys", "values"];

fn is_partial(value: &Jinja) -> bool {
    value.downcast_object_ref::<Partial>().is_some()
}

/// Whether a value may have any attribute.
fn is_open(value: &Jinja) -> bool {
    value.downcast_object_ref::<Partial>().is_some_and(|partial| partial.keys.is_none())
}

/// A mapping of which more will be known later.
#[derive(Debug)]
struct Partial {
    known: BTreeMap<String, Jinja>,
    /// All that it will have, when that is known.
    keys: Option<Vec<String>>,
    touched: Arc<AtomicBool>,
}

impl Partial {
    fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }
}

impl Object for Partial {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        let known = key.as_str().and_then(|key| self.known.get(key));
        if known.is_some() {
            return known.cloned();
        }
        let is_one = |keys: &Vec<String>| key.as_str().is_none_or(|key| keys.iter().any(|one| one == key));
        self.keys.as_ref().is_none_or(is_one).then(|| {
            self.touch();
            Jinja::from_object(Self { known: BTreeMap::new(), keys: None, touched: self.touched.clone() })
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.touch();
        let keys = self.keys.iter().flatten().map(|key| Jinja::from(key.as_str()));
        Enumerator::Values(keys.collect())
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.touch();
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.touch();
        f.write_str("unknown until applied")
    }
}

/// A template or expression that could not be evaluated.
#[derive(Debug)]
pub struct TemplateError {
    /// Where inside the template, when it is not the one that was given.
    pub template: Option<String>,
    /// Line and column inside it, from 1.
    pub position: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl TemplateError {
    /// As a mistake in the value at `place` that contains the expression.
    #[must_use]
    pub fn in_value(self, place: &Place, source: &str) -> Problem {
        let line =
            self.position.and_then(|(line, _)| Some((line, source.lines().nth(line.checked_sub(1)?)?)));
        let shown = match line.filter(|_| source.lines().nth(1).is_some()) {
            Some((number, line)) => format!("line {number} of the value: {:?}", line.trim()),
            None => format!("{source:?}"),
        };
        let problem = Problem::new(place, format!("{} in {shown}", self.message));
        Problem { hint: self.hint, ..problem }
    }

    /// As a mistake in a template file.
    #[must_use]
    pub fn in_file(self, name: &str) -> Problem {
        let (line, column) = self.position.unwrap_or((1, 1));
        let file = self.template.as_deref().unwrap_or(name).into();
        let problem = Problem::new(&Place { file, line, column }, self.message);
        Problem { hint: self.hint, ..problem }
    }
}

/// Evaluates.
#[derive(Debug)]
pub struct Engine {
    environment: Environment<'static>,
}

impl Engine {
    /// An engine whose templates may include others of the project.
    #[must_use]
    pub fn new(assets: Assets) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_debug(true);
        environment.set_fuel(Some(MAX_FUEL));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        if let Ok(syntax) = syntax {
            environment.set_syntax(syntax);
        }
        environment.set_formatter(format_as_text);
        environment.set_loader(move |name| Ok(assets.template(name).ok().map(|asset| asset.text)));
        environment.add_filter("to_yaml", to_yaml);
        for flag in ["changed", "failed", "skipped"] {
            environment
                .add_test(flag, move |result: &Jinja| result.get_attr(flag).is_ok_and(|v| v.is_true()));
        }
        Self { environment }
    }

    /// The value of an expression, in its own type.
    pub fn expression(&self, source: &str, scope: &Scope) -> Result<Resolved<Value>, TemplateError> {
        let compiled =
            self.environment.compile_expression(source).map_err(|e| explain(&e, source, scope, true))?;
        let names = compiled.undeclared_variables(true);
        let faults = self.faults(names, source, words::Of::Expression, scope);
        if let Some(fault) = faults.into_iter().next() {
            // A message about an expression shows it whole.
            return Err(TemplateError { position: None, ..fault });
        }
        let value = compiled.eval(scope.context());
        if value.as_ref().is_ok_and(Jinja::is_undefined) {
            return Err(undefined(source, scope, None, None));
        }
        resolve(value.and_then(|v| to_json(&v)), scope).map_err(|e| explain(&e, source, scope, true))
    }

    /// Whether an expression holds.
    pub fn condition(&self, source: &str, scope: &Scope) -> Result<Resolved<bool>, TemplateError> {
        Ok(match self.expression(source, scope)? {
            Resolved::Known(value) => Resolved::Known(is_true(&value)),
            Resolved::Unknown => Resolved::Unknown,
        })
    }

    /// A template rendered as text.
    pub fn render(&self, name: &str, source: &str, scope: &Scope) -> Result<Resolved<String>, TemplateError> {
        let template = self.environment.template_from_named_str(name, source);
        let template = template.map_err(|e| explain(&e, source, scope, false))?;
        let faults = self.faults(template.undeclared_variables(true), source, words::Of::Template, scope);
        if let Some(fault) = faults.into_iter().next() {
            return Err(fault);
        }
        let text = template.render(scope.context());
        resolve(text, scope).map_err(|e| explain(&e, source, scope, false))
    }

    /// All that can be wrong with a template whatever its variables hold: syntax, names of variables, of filters, of
    /// tests and of included templates, also where evaluation does not come by.
    #[must_use]
    pub fn check(&self, name: &str, source: &str, scope: &Scope) -> Vec<TemplateError> {
        match self.environment.template_from_named_str(name, source) {
            Err(error) => vec![explain(&error, source, scope, false)],
            Ok(template) => {
                self.faults(template.undeclared_variables(true), source, words::Of::Template, scope)
            }
        }
    }

    /// A value of a playbook with every text in it evaluated; `{{ x }}` alone keeps the type of `x`.
    pub fn text(&self, source: &str, scope: &Scope) -> Result<Resolved<Value>, TemplateError> {
        if !source.contains("{{") && !source.contains("{%") && !source.contains("{#") {
            return Ok(Resolved::Known(Value::String(source.to_owned())));
        }
        if let Some(expression) = alone(source) {
            return self.expression(expression, scope);
        }
        Ok(match self.render(INLINE, source, scope)? {
            Resolved::Known(text) => Resolved::Known(Value::String(text)),
            Resolved::Unknown => Resolved::Unknown,
        })
    }

    /// Checks what can be checked of a text that will not be evaluated.
    pub fn check_text(&self, source: &str, scope: &Scope) -> Result<(), TemplateError> {
        self.check(INLINE, source, scope).into_iter().next().map_or(Ok(()), Err)
    }

    /// Names that mean nothing, in the order of the text. `names` are the variables with their attributes.
    fn faults(
        &self,
        names: impl IntoIterator<Item = String>,
        source: &str,
        of: words::Of,
        scope: &Scope,
    ) -> Vec<TemplateError> {
        let names: BTreeSet<String> = names.into_iter().collect();
        let mut found: Vec<TemplateError> =
            names.iter().filter_map(|name| self.unknown_name(name, source, scope)).collect();
        found.extend(words::unknown(&self.environment, source, of));
        found.sort_by_key(|fault| fault.position);
        found
    }

    /// A name is checked also where evaluation does not come by; one that is tested first may be missing.
    fn unknown_name(&self, path: &str, source: &str, scope: &Scope) -> Option<TemplateError> {
        let root = path.split('.').next().unwrap_or(path);
        let is_global = self.environment.globals().any(|(global, _)| global == root);
        let name = match () {
            () if is_global => return None,
            () if !scope.contains(root) => root,
            () if scope.lacks(path) => path,
            () => return None,
        };
        let tested = ["is defined", "is not defined", "is undefined", "| default", "|default", "| d(", "|d("];
        let is_tested = |test: &str| {
            source.contains(&format!("{name} {test}")) || source.contains(&format!("{name}{test}"))
        };
        if tested.iter().any(|test| is_tested(test)) {
            return None;
        }
        let offset = word_offset(source, name);
        Some(undefined(name, scope, offset.map(|o| line_and_column(source, o)), None))
    }
}

/// Name of a template that is written inside a playbook.
const INLINE: &str = "<value>";

/// The expression, when the text is one `{{ … }}` and nothing else.
pub(crate) fn alone(source: &str) -> Option<&str> {
    let inner = source.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inner.contains("{{") && !inner.contains("}}")).then_some(inner.trim_matches('-').trim())
}

/// Truth as Ansible's `when` has it: also the text `false` is false.
#[must_use]
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64().is_some_and(|n| n != 0.0),
        Value::String(text) => !text.is_empty() && !text.eq_ignore_ascii_case("false"),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn resolve<T>(value: Result<T, Error>, scope: &Scope) -> Result<Resolved<T>, Error> {
    match value {
        Err(error) if scope.touched() && about_values(&error) => Ok(Resolved::Unknown),
        Err(error) => Err(error),
        Ok(_) if scope.touched() => Ok(Resolved::Unknown),
        Ok(value) => Ok(Resolved::Known(value)),
    }
}

/// Whether the error could come from a value that merely is not known yet.
fn about_values(error: &Error) -> bool {
    use ErrorKind as K;
    !matches!(
        error.kind(),
        K::SyntaxError
            | K::UndefinedError
            | K::UnknownFilter
            | K::UnknownTest
            | K::UnknownFunction
            | K::OutOfFuel
    )
}

fn to_json(value: &Jinja) -> Result<Value, Error> {
    serde_json::to_value(value).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

fn to_yaml(value: &Jinja) -> Result<String, Error> {
    let json = to_json(value)?;
    serde_yaml::to_string(&json).map_err(|e| Error::new(ErrorKind::BadSerialization, e.to_string()))
}

fn format_as_text(
    out: &mut minijinja::Output<'_>,
    state: &mut minijinja::State<'_, '_>,
    value: &Jinja,
) -> Result<(), Error> {
    let refuse = |what: &str, advice: &str| {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{what} cannot be written as text; {advice}")))
    };
    match value.kind() {
        ValueKind::Bool => minijinja::escape_formatter(out, state, &Jinja::from(value.is_true().to_string())),
        ValueKind::None => refuse("nothing (null)", "give it a value, or use `| default('', true)`"),
        ValueKind::Seq | ValueKind::Iterable => refuse("a list", "use `| join(', ')` or `| tojson`"),
        ValueKind::Map if !is_partial(value) => {
            refuse("a mapping", "name one of its keys, or use `| tojson`")
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

fn explain(error: &Error, source: &str, scope: &Scope, is_expression: bool) -> TemplateError {
    let inner = std::error::Error::source(error).and_then(|inner| inner.downcast_ref::<Error>());
    if let Some(inner) = inner.filter(|_| error.kind() == ErrorKind::BadInclude) {
        return explain(inner, inner.template_source().unwrap_or_default(), scope, false);
    }
    let template = error.name().filter(|name| !name.starts_with('<')).map(str::to_owned);
    let text = error.template_source().unwrap_or(source).to_owned();
    let position = if is_expression { None } else { position(error, &text) };
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    if error.kind() == ErrorKind::UndefinedError {
        let name = detail.split('`').nth(1).or_else(|| error.range().and_then(|r| text.get(r)));
        if let Some(name) = name {
            return undefined(name.trim(), scope, position, template);
        }
    }
    let message = match error.kind() {
        ErrorKind::SyntaxError => format!("this is not an expression or template: {detail}"),
        ErrorKind::OutOfFuel => "the template does not come to an end".to_owned(),
        _ => detail,
    };
    TemplateError { template, position, message, hint: None }
}

fn undefined(
    name: &str,
    scope: &Scope,
    position: Option<(usize, usize)>,
    template: Option<String>,
) -> TemplateError {
    let beside = scope.names_beside(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    let near = nearest(last, beside.iter().map(String::as_str));
    let prefix = name.strip_suffix(last).unwrap_or_default();
    let hint = match near {
        _ if scope.absent.contains_key(name) => scope.absent.get(name).cloned(),
        _ if words::foreign(name).is_some() => words::foreign(name),
        Some(near) => Some(format!("did you mean `{prefix}{near}`?")),
        None if prefix.is_empty() || beside.is_empty() => None,
        None => Some(format!("`{}` has: {}", prefix.trim_end_matches('.'), beside.join(", "))),
    };
    TemplateError { template, position, message: format!("the variable `{name}` is not defined"), hint }
}

fn position(error: &Error, source: &str) -> Option<(usize, usize)> {
    match error.range() {
        Some(range) => Some(line_and_column(source, range.start)),
        None => error.line().map(|line| (line, 1)),
    }
}

fn line_and_column(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}

fn word_offset(source: &str, word: &str) -> Option<usize> {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    source.match_indices(word).map(|(at, _)| at).find(|at| {
        let before = source.get(..*at).and_then(|s| s.chars().next_back());
        let after = source.get(at + word.len()..).and_then(|s| s.chars().next());
        !before.is_some_and(inside) && !after.is_some_and(|c| inside(c) && c != '.')
    })
}

#[cfg(test)]
mod tests;
