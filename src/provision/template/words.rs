//! Words of a template that the engine looks up only when it comes by them: filters, tests, included templates.
//!
//! A branch that is not taken in one place is taken in another, so they are looked up here, all of them.

use std::iter::Peekable;
use std::str::CharIndices;

use base::nearest::nearest;
use minijinja::{Environment, ErrorKind};

use super::{TemplateError, line_and_column};

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// An expression as a whole.
    Expression,
    /// Text with expressions and statements in braces.
    Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Filter,
    Test,
    Template,
}

/// Words that are likely to be meant by a misspelt one.
const FILTERS: &[&str] = &[
    "abs",
    "bool",
    "capitalize",
    "default",
    "dictsort",
    "first",
    "indent",
    "int",
    "float",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "to_yaml",
    "tojson",
    "trim",
    "unique",
    "upper",
];
const TESTS: &[&str] = &[
    "changed",
    "defined",
    "divisibleby",
    "endingwith",
    "even",
    "failed",
    "in",
    "iterable",
    "mapping",
    "none",
    "number",
    "odd",
    "sequence",
    "skipped",
    "startingwith",
    "string",
    "undefined",
];
/// Ansible's words with another name here.
const OTHERWISE: &[(&str, &str)] = &[
    ("to_json", "use `tojson`"),
    ("to_nice_json", "use `tojson(indent=2)`"),
    ("to_nice_yaml", "use `to_yaml`"),
    ("regex_replace", "there are no regular expressions; `replace` takes plain text"),
    ("mandatory", "drop it: an undefined variable is an error anyway"),
    ("ternary", "write `a if condition else b`"),
    ("succeeded", "write `is not failed`"),
    ("success", "write `is not failed`"),
];
/// Ansible's variables with another name here.
const VARIABLES: &[(&str, &str)] = &[
    ("ansible_facts", "facts"),
    ("ansible_hostname", "inventory_hostname"),
    ("ansible_fqdn", "fqdn"),
    ("ansible_domain", "cluster.domain"),
    ("ansible_host", "host.address"),
    ("ansible_os_family", "facts.family"),
    ("ansible_distribution", "facts.distribution"),
    ("ansible_distribution_version", "facts.distribution_version"),
    ("ansible_architecture", "facts.architecture"),
    ("ansible_kernel", "facts.kernel"),
    ("ansible_memtotal_mb", "facts.memory_mib"),
    ("ansible_processor_vcpus", "facts.processors"),
    ("ansible_default_ipv4", "host.address"),
    ("hostvars", "hosts"),
    ("groups", "hosts"),
    ("play_hosts", "hosts"),
];

/// What to write instead of a variable that is another program's.
pub(super) fn foreign(name: &str) -> Option<String> {
    if name == "item" {
        return Some("`item` is there in a task with `loop` only".into());
    }
    if ["lookup", "query", "q"].contains(&name) {
        return Some(
            "there are no lookups; write the value into `vars` or `secrets` of the inventory".into(),
        );
    }
    if name == "omit" {
        return Some("an argument that is nothing is left out: write `none`".into());
    }
    let (_, here) = VARIABLES.iter().find(|(theirs, _)| *theirs == name)?;
    Some(format!("what Ansible calls `{name}` is `{here}` here"))
}

/// The words that mean nothing.
pub(super) fn unknown(environment: &Environment<'_>, source: &str, of: Of) -> Vec<TemplateError> {
    let words = scan(source, of).into_iter();
    words.filter_map(|(kind, name, at)| fault(environment, kind, name, line_and_column(source, at))).collect()
}

fn fault(
    environment: &Environment<'_>,
    kind: Kind,
    name: &str,
    position: (usize, usize),
) -> Option<TemplateError> {
    let fails = |expression: String, with: ErrorKind| {
        let result = environment.compile_expression_owned(expression).and_then(|e| e.eval(()));
        result.is_err_and(|error| error.kind() == with)
    };
    let (what, is_unknown, near) = match kind {
        Kind::Filter => ("filter", fails(format!("1 | {name}"), ErrorKind::UnknownFilter), FILTERS),
        Kind::Test => ("test", fails(format!("1 is {name}"), ErrorKind::UnknownTest), TESTS),
        Kind::Template => {
            let lost = environment.get_template(name).is_err_and(|e| e.kind() == ErrorKind::TemplateNotFound);
            ("template", lost, &[][..])
        }
    };
    if !is_unknown {
        return None;
    }
    let other = OTHERWISE.iter().find(|(theirs, _)| *theirs == name).map(|(_, advice)| (*advice).to_owned());
    let near = || nearest(name, near.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    Some(TemplateError {
        template: None,
        position: Some(position),
        message: format!("there is no {what} `{name}`"),
        hint: other.or_else(near),
    })
}

type Chars<'a> = Peekable<CharIndices<'a>>;
type Word<'a> = (Kind, &'a str, usize);

fn scan(source: &str, of: Of) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    if of == Of::Expression {
        code(source, 0, &mut found);
        return found;
    }
    let mut rest = 0;
    while let Some(start) = source.get(rest..).and_then(|text| text.find('{')).map(|at| rest + at) {
        let close = match source.get(start..start + 2) {
            Some("{{") => "}}",
            Some("{%") => "%}",
            Some("{#") => "#}",
            _ => {
                rest = start + 1;
                continue;
            }
        };
        let end = source.get(start..).and_then(|text| text.find(close)).map_or(source.len(), |at| start + at);
        let inside = source.get(start + 2..end).unwrap_or_default();
        rest = (end + 2).min(source.len());
        match close {
            "}}" => code(inside, start + 2, &mut found),
            "%}" if statement(inside, start + 2, &mut found) => {
                let after = source.get(rest..).and_then(|text| text.find("endraw"));
                rest = after.map_or(source.len(), |at| rest + at);
            }
            _ => {}
        }
    }
    found
}

/// What stands in `{% … %}`; true for the begin of a raw part.
fn statement<'a>(inside: &'a str, offset: usize, found: &mut Vec<Word<'a>>) -> bool {
    let trimmed = inside.trim_start_matches(['-', '+', ' ', '\n']);
    let (tag, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
    let at = offset + inside.len() - rest.len();
    match tag {
        "raw" => return true,
        "include" | "extends" | "import" | "from" if !rest.contains("ignore missing") => {
            let literal = rest.trim_start();
            let quote = literal.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let name = quote.and_then(|quote| literal.get(1..)?.split_once(quote)).map(|(name, _)| name);
            let start = at + rest.len() - literal.len();
            found.extend(name.map(|name| (Kind::Template, name, start)));
        }
        "filter" => {
            let name = rest.split(|c: char| !is_word(c)).next().unwrap_or_default();
            found.push((Kind::Filter, name, at));
        }
        _ => {}
    }
    code(rest, at, found);
    false
}

/// Filters and tests of an expression; what stands in quotes is none.
fn code<'a>(inside: &'a str, offset: usize, found: &mut Vec<Word<'a>>) {
    let mut chars = inside.char_indices().peekable();
    let mut after_word = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' | '"' => quoted(&mut chars, c),
            '|' => found.extend(word(inside, &mut chars).map(|(name, at)| (Kind::Filter, name, offset + at))),
            c if is_word(c) && !after_word => {
                let end = ends(&mut chars, at, inside.len());
                if inside.get(at..end) == Some("is") {
                    let mut name = word(inside, &mut chars);
                    if name.is_some_and(|(name, _)| name == "not") {
                        name = word(inside, &mut chars);
                    }
                    found.extend(name.map(|(name, at)| (Kind::Test, name, offset + at)));
                }
            }
            _ => {}
        }
        after_word = c == '.';
    }
}

fn quoted(chars: &mut Chars<'_>, quote: char) {
    while let Some((_, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            return;
        }
    }
}

/// The next word, when nothing but blanks stands before it.
fn word<'a>(inside: &'a str, chars: &mut Chars<'_>) -> Option<(&'a str, usize)> {
    while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    let (start, _) = chars.next_if(|(_, c)| is_word(*c))?;
    let end = ends(chars, start, inside.len());
    Some((inside.get(start..end)?, start))
}

fn ends(chars: &mut Chars<'_>, start: usize, length: usize) -> usize {
    let mut end = start;
    while let Some((at, _)) = chars.next_if(|(_, c)| is_word(*c)) {
        end = at;
    }
    chars.peek().map_or(length, |(at, _)| *at).max(end)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::super::Engine;
    use super::*;
    use crate::assets::Assets;

    #[test]
    fn what_is_offered_for_a_misspelt_word_exists_and_what_is_foreign_does_not() {
        let engine = Engine::new(Assets::new(vec![]));
        let is_unknown = |kind: Kind, name: &str| fault(&engine.environment, kind, name, (1, 1)).is_some();
        for name in FILTERS {
            assert!(!is_unknown(Kind::Filter, name), "{name}");
        }
        for name in TESTS {
            assert!(!is_unknown(Kind::Test, name), "{name}");
        }
        for (name, _) in OTHERWISE.iter().filter(|(_, advice)| !advice.contains("is not")) {
            assert!(is_unknown(Kind::Filter, name), "{name}");
        }
    }
}
