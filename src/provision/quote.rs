//! Which lines of a file may be shown beside a mistake: none that holds a secret, or could hold one by its name.
//!
//! A line with a value of a secret-like name, one of a task with `no_log`, and one with the value of a secret are left out,
//! and all lines of a file that cannot be read where such a name stands before something written out.

use base::excerpt::Excerpt;
use base::problem::{Problem, Problems};
use base::yaml::{Content, Entry, Node};

use crate::report::Mask;
use crate::template::alone;

/// Parts of the names of what nobody may see.
const SECRET: &[&str] = &["pass", "secret", "token", "key", "community", "credential"];
/// The key of an inventory that names a file.
const SECRETS: &str = "secrets";

/// Whether a value of this name is hidden.
pub(crate) fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// A file with what may be shown of it.
pub(crate) struct Quotes<'a> {
    text: &'a str,
    hidden: Hidden,
}

enum Hidden {
    Everything,
    /// From line to line.
    Lines(Vec<(usize, usize)>),
}

impl<'a> Quotes<'a> {
    /// Of an inventory, whose root is a mapping.
    pub(crate) fn of_inventory(text: &'a str) -> Self {
        Self::new(text, |root| matches!(root.content, Content::Map(_)))
    }

    /// Of a playbook, a file of tasks or a template. A mapping in YAML is none of them; it may be the secrets.
    pub(crate) fn of_asset(name: &str, text: &'a str) -> Self {
        let mapping = || matches!(parsed(text), Some(Node { content: Content::Map(_), .. }));
        if !name.ends_with(".j2") && mapping() {
            return Self { text, hidden: Hidden::Everything };
        }
        Self::new(text, |root| matches!(root.content, Content::List(_)))
    }

    fn new(text: &'a str, has_shape: impl Fn(&Node) -> bool) -> Self {
        let hidden = match parsed(text).filter(has_shape) {
            Some(root) => {
                let mut lines = Vec::new();
                hide(&root, text.lines().count(), text, &mut lines);
                Hidden::Lines(lines)
            }
            None if text.lines().any(may_hold_a_secret) => Hidden::Everything,
            None => Hidden::Lines(Vec::new()),
        };
        Self { text, hidden }
    }

    /// The mistakes of this file with their lines; those of other files as they are.
    pub(crate) fn add(&self, file: &str, mask: &Mask, problems: Problems) -> Problems {
        let mut all = Problems::default();
        all.extend(problems.into_iter().map(|problem| {
            let is_here = *problem.place.file == *file;
            let excerpt = is_here.then(|| self.excerpt(&problem, mask)).flatten();
            Problem { excerpt: excerpt.or(problem.excerpt), ..problem }
        }));
        all
    }

    fn excerpt(&self, problem: &Problem, mask: &Mask) -> Option<Excerpt> {
        let number = problem.place.line;
        let is_hidden = match &self.hidden {
            Hidden::Everything => true,
            Hidden::Lines(lines) => lines.iter().any(|(from, to)| (*from..=*to).contains(&number)),
        };
        let line = self.text.lines().nth(number.checked_sub(1)?)?;
        (!is_hidden && mask.text(line) == line).then(|| Excerpt::of(&problem.place, self.text)).flatten()
    }
}

fn parsed(text: &str) -> Option<Node> {
    Node::read("", text, &mut Problems::default())
}

/// Adds the lines of secret-like values; `end` is the last line that the node may reach.
fn hide(node: &Node, end: usize, text: &str, lines: &mut Vec<(usize, usize)>) {
    match &node.content {
        Content::Map(entries)
            if entries.iter().any(|e| e.key == "no_log" && e.value.content == Content::Bool(true)) =>
        {
            lines.push((node.place.line, end));
        }
        Content::Map(entries) => {
            for (index, Entry { key, place, value }) in entries.iter().enumerate() {
                let next = entries.get(index + 1).map(|next| &next.place);
                let end =
                    next.map_or(end, |next| last_line_before(next.line, next.column, place.line, end, text));
                if names_a_secret(key) && key != SECRETS && is_written_out(value) {
                    lines.push((place.line.min(value.place.line), end));
                } else {
                    hide(value, end, text, lines);
                }
            }
        }
        Content::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let (next, start) = (items.get(index + 1).map(|next| &next.place), item.place.line);
                let end = next.map_or(end, |next| last_line_before(next.line, next.column, start, end, text));
                hide(item, end, text, lines);
            }
        }
        _ => {}
    }
}

/// The last line of what starts on a line and is followed by something at a place: the one before it, when nothing
/// else is on that line. An alias stands where its anchor is, before all this.
fn last_line_before(line: usize, column: usize, start: usize, end: usize, text: &str) -> usize {
    if line < start {
        return end;
    }
    let before = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let is_first = before.chars().take(column.saturating_sub(1)).all(|c| c == ' ' || c == '-');
    if is_first { line.saturating_sub(1).max(start) } else { line }
}

/// Whether a value is there itself, and not only the name of a variable.
fn is_written_out(value: &Node) -> bool {
    match &value.content {
        Content::Null | Content::Bool(_) => false,
        Content::Number(_) => true,
        Content::Text(text) => alone(text).is_none(),
        Content::List(items) => items.iter().any(is_written_out),
        Content::Map(entries) => entries.iter().any(|entry| is_written_out(&entry.value)),
    }
}

/// Whether a secret-like name is followed by something written out, or nothing yet; also a task that says nothing.
fn may_hold_a_secret(line: &str) -> bool {
    let lower = line.trim_start().to_lowercase();
    if lower.starts_with('#') || line.starts_with("secrets:") {
        return false;
    }
    let is_set_after =
        |part: &str| lower.match_indices(part).any(|(at, _)| is_set(lower.get(at..).unwrap_or_default()));
    lower.contains("no_log") || SECRET.iter().any(|part| is_set_after(part))
}

/// Whether this name, which ends before the first other character, is given a value here.
fn is_set(text: &str) -> bool {
    let rest = text.trim_start_matches(|c: char| c.is_alphanumeric() || "_-.[\"']".contains(c)).trim_start();
    let value =
        rest.strip_prefix([':', '=', ',']).map(|value| value.trim_start_matches([' ', '"', '\'', '=', '>']));
    value.is_some_and(|value| !value.starts_with("{{"))
}

#[cfg(test)]
mod tests {
    use base::problem::Place;

    use super::*;

    /// The numbers of the lines that are shown.
    fn shown(quotes: &Quotes<'_>, secrets: &[&str]) -> Vec<usize> {
        let mask = Mask::new(secrets.iter().map(|secret| (*secret).to_owned()));
        let is_shown = |line: &usize| {
            let place = Place { file: "a.yml".into(), line: *line, column: 1 };
            let problems = quotes.add("a.yml", &mask, Problem::new(&place, "wrong").into());
            problems.iter().any(|problem| problem.excerpt.is_some())
        };
        (1..=quotes.text.lines().count()).filter(is_shown).collect()
    }

    #[test]
    fn values_of_secret_like_names_are_not_shown_however_long_they_are() {
        let text = "\
- user: ann
  password: |
    tiger
    dragon
  home: /a
- {token: \"tiger
    dragon\", a: b,
   c: d}
- {password: \"{{ shop_password }}\", a: b}
- name: quiet
  no_log: true
  command: login tiger
- keys: [a, b]
- last: 1
";
        assert_eq!(shown(&Quotes::of_asset("a.yml", text), &[]), [1, 5, 8, 9, 14]);
    }

    #[test]
    fn a_line_with_the_value_of_a_secret_is_not_shown() {
        let text = "cluster: tiger\nsecrets: own.yml\nvars: {a: b}\n";
        assert_eq!(shown(&Quotes::of_inventory(text), &["tiger"]), [2, 3]);
    }

    #[test]
    fn of_what_cannot_be_read_nothing_is_shown_where_a_secret_may_be() {
        let broken = |line: &str| format!("# the password: x\nsecrets: a.yml\n{line}\n a: [\n");
        for harmless in ["user: ann", "password: \"{{ shop_password }}\"", "db_password = {{ shop }}"] {
            assert_eq!(shown(&Quotes::of_inventory(&broken(harmless)), &[]), [1, 2, 3, 4], "{harmless}");
        }
        for risky in
            ["password: x", "params: {'api-token': x}", "$pass[\"a\"] = 'x'", "password:", "no_log: yes"]
        {
            assert_eq!(shown(&Quotes::of_inventory(&broken(risky)), &[]), Vec::<usize>::new(), "{risky}");
        }
    }

    #[test]
    fn a_mapping_in_the_place_of_a_playbook_is_not_shown() {
        assert_eq!(shown(&Quotes::of_asset("secrets.yml", "admin: tiger\n"), &[]), Vec::<usize>::new());
        assert_eq!(shown(&Quotes::of_asset("a.conf.j2", "admin: tiger\n"), &[]), [1]);
    }
}
