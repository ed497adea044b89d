//! One line of a text file, or a marked block of lines; every other line stays as it is.
//!
//! What is asked for is found again by a second run: a line by itself or by `match`, a block by its marks.

use std::ops::Range;
use std::path::PathBuf;

use regex::Regex;
use serde::Deserialize;

use super::attributes::Wanted;
use super::context::Context;
use super::error::Error;
use super::schema::{ArgError, Kind, Schema};
use super::state::State;
use super::text::{self, Text};
use super::{Module, copy};
use crate::protocol::Outcome;

const DEFAULT_MARKER: &str = "futago";
const DEFAULT_COMMENT: &str = "#";
/// Comments that end with something too.
const CLOSED_COMMENTS: &[(&str, &str)] = &[("<!--", " -->"), ("/*", " */")];
/// Ansible's words for the begin and the end of a file, as anchors.
const BEGIN_OF_FILE: &str = "BOF";
const END_OF_FILE: &str = "EOF";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    path: PathBuf,
    line: Option<String>,
    r#match: Option<String>,
    block: Option<String>,
    marker: Option<String>,
    comment: Option<String>,
    after: Option<String>,
    before: Option<String>,
    #[serde(default)]
    state: State,
    #[serde(default)]
    create: bool,
    mode: Option<String>,
    owner: Option<String>,
    group: Option<String>,
}

/// Why a file cannot be edited as asked.
enum Unfit {
    /// No line is like this anchor: its argument and its expression.
    Anchor(&'static str, String),
    /// The block has a mark at this line that has no counterpart.
    Damaged(usize),
}

impl Module for Args {
    const SCHEMA: Schema = Schema {
        name: "lines",
        summary: "Keeps one line, or a marked block of lines, in a text file; all other lines stay.",
        returns: &[],
        example: "\
- name: Root logs in by key only
  lines: {path: /etc/ssh/sshd_config, line: PermitRootLogin prohibit-password, match: '^#?PermitRootLogin '}
",
        keys: &[
            Schema::must("path", Kind::Path, "the file on the host"),
            Schema::may("line", Kind::Text, "the line, added unless it is there"),
            Schema::may(
                "match",
                Kind::Text,
                "regular expression: the last line that is like it is replaced by line; with absent all of them go",
            ),
            Schema::may("block", Kind::Text, "lines that are kept between two marks, instead of line"),
            Schema::may("marker", Kind::Text, "name of the block, when there are several (default: futago)"),
            Schema::may("comment", Kind::Text, "what begins a comment in this file (default: #)"),
            Schema::may(
                "after",
                Kind::Text,
                "where a new line or block goes: after the last line like this regular expression (default: EOF)",
            ),
            Schema::may("before", Kind::Text, "before the last line like this one, or BOF, instead of after"),
            Schema::may("state", Kind::Choice(&["present", "absent"]), "present (default) or absent"),
            Schema::may("create", Kind::Bool, "make the file when there is none"),
            Schema::may(
                "mode",
                Kind::Mode,
                "permission bits (default: kept, or \"0644\" for a new file); needed when a secret is in it",
            ),
            Schema::may("owner", Kind::Text, "user that owns it"),
            Schema::may("group", Kind::Text, "group that owns it"),
        ],
    };

    fn validate(&self) -> Vec<ArgError> {
        let mut errors = self.combination();
        for (key, source) in [("match", &self.r#match), ("after", &self.after), ("before", &self.before)] {
            if let Some(Err(error)) = source.as_deref().map(Regex::new) {
                errors.push(ArgError::at(
                    key,
                    format!(
                        "argument \"{key}\" of module lines is no regular expression: {}",
                        reason(&error)
                    ),
                ));
            }
        }
        for (key, text) in [("line", &self.line), ("marker", &self.marker), ("comment", &self.comment)] {
            if text.as_ref().is_some_and(|text| text.contains(['\n', '\r'])) {
                let hint = if key == "line" { "; several lines are a block" } else { "" };
                errors.push(ArgError::at(
                    key,
                    format!("argument \"{key}\" of module lines must be one line{hint}"),
                ));
            }
        }
        let (begin, end) = self.marks();
        if self
            .block
            .iter()
            .flat_map(|block| block.lines())
            .any(|line| [begin.as_str(), end.as_str()].contains(&line.trim()))
        {
            errors
                .push(ArgError::at("block", format!("the block must not have its own marks in it: {begin}")));
        }
        errors
    }

    fn run(self, context: &mut Context) -> Result<Outcome, Error> {
        let name = self.path.display();
        let text = match text::read(&self.path)? {
            Some(text) => text,
            None if self.state == State::Absent => {
                return Ok(Context::same(format!("{name} does not exist")));
            }
            None if self.create => String::new(),
            None if context.check => return Ok(Context::unknown(format!("{name} does not exist yet"))),
            None => {
                let hint = "an earlier task must make it, or write create: true";
                return Err(Error::refused(format!("edit {name}: it does not exist"), hint));
            }
        };
        let wanted = Wanted::new(self.mode.as_deref(), self.owner.as_deref(), self.group.as_deref())?;
        let mut lines = Text::new(&text);
        match self.edit(&mut lines) {
            Ok(()) => copy::place(&self.path, lines.to_string().as_bytes(), wanted, context),
            Err(Unfit::Damaged(line)) => Err(text::damaged(&self.path, self.marker(), line)),
            // An earlier task of the same plan may write it.
            Err(Unfit::Anchor(key, source)) if context.check => {
                Ok(Context::unknown(format!("no line of {name} is like \"{key}\", {source}, yet")))
            }
            Err(Unfit::Anchor(key, source)) => {
                let what = format!("edit {name}: no line is like \"{key}\", {source}");
                Err(Error::refused(what, format!("correct it, or leave \"{key}\" out to add at the end")))
            }
        }
    }
}

impl Args {
    /// Mistakes in what is given together.
    fn combination(&self) -> Vec<ArgError> {
        let mut errors = Vec::new();
        let mut whole = |message: &str| errors.push(ArgError::whole(format!("module lines {message}")));
        let of_line = self.line.is_some() || self.r#match.is_some();
        let of_block = self.is_block();
        match (self.state, of_line, of_block) {
            (_, true, true) => whole("takes line and match, or block and marker, not both"),
            (State::Present, _, _) if self.line.is_none() && self.block.is_none() => {
                whole("needs either line or block");
            }
            (State::Absent, false, false) => whole("needs line, match or marker with state absent"),
            (State::Absent, _, _) if self.line.is_some() && self.r#match.is_some() => {
                whole("takes line or match with state absent, not both");
            }
            _ => {}
        }
        if self.after.is_some() && self.before.is_some() {
            whole("takes after or before, not both");
        }
        if self.state == State::Absent && (self.after.is_some() || self.before.is_some() || self.create) {
            whole("takes no after, before or create with state absent");
        }
        if self.comment.is_some() && !of_block {
            whole("takes comment with a block only");
        }
        errors
    }

    fn is_block(&self) -> bool {
        self.block.is_some() || self.marker.is_some()
    }

    fn marker(&self) -> &str {
        self.marker.as_deref().unwrap_or(DEFAULT_MARKER)
    }

    /// The lines that enclose the block.
    fn marks(&self) -> (String, String) {
        let comment = self.comment.as_deref().unwrap_or(DEFAULT_COMMENT).trim();
        let close = CLOSED_COMMENTS.iter().find(|(open, _)| *open == comment).map_or("", |(_, close)| *close);
        let marker = self.marker();
        (format!("{comment} BEGIN {marker}{close}"), format!("{comment} END {marker}{close}"))
    }

    fn edit(&self, text: &mut Text) -> Result<(), Unfit> {
        match (self.state, self.is_block()) {
            (State::Present, true) => self.add_block(text),
            (State::Present, false) => self.add_line(text),
            (State::Absent, true) => {
                let (begin, end) = self.marks();
                if let Some(block) = text.block(&begin, &end).map_err(Unfit::Damaged)? {
                    text.splice(block, &[]);
                }
                Ok(())
            }
            (State::Absent, false) => {
                let pattern = compiled(self.r#match.as_deref());
                let line = self.line.as_deref();
                text.remove(|found| pattern.as_ref().map_or(line == Some(found), |p| p.is_match(found)));
                Ok(())
            }
        }
    }

    fn add_line(&self, text: &mut Text) -> Result<(), Unfit> {
        let line = self.line.as_deref().unwrap_or_default();
        let is_there = text.bare().any(|found| found == line);
        if let Some(pattern) = compiled(self.r#match.as_deref()) {
            // A line that is not like its own expression could not be found by it: it is looked for first.
            if is_there && !pattern.is_match(line) {
                return Ok(());
            }
            if let Some(index) = text.last(|found| pattern.is_match(found)) {
                if text.bare().nth(index) != Some(line) {
                    text.splice(index..index + 1, &[line]);
                }
                return Ok(());
            }
        }
        if !is_there {
            let place = self.place(text)?;
            text.splice(place, &[line]);
        }
        Ok(())
    }

    fn add_block(&self, text: &mut Text) -> Result<(), Unfit> {
        let (begin, end) = self.marks();
        let place = match text.block(&begin, &end).map_err(Unfit::Damaged)? {
            Some(place) => place,
            None => self.place(text)?,
        };
        let inner = self.block.as_deref().unwrap_or_default().lines();
        let new: Vec<&str> = std::iter::once(&*begin).chain(inner).chain(std::iter::once(&*end)).collect();
        if !text.bare().skip(place.start).take(place.len()).eq(new.iter().copied()) {
            text.splice(place, &new);
        }
        Ok(())
    }

    /// Where what is new goes.
    fn place(&self, text: &Text) -> Result<Range<usize>, Unfit> {
        let end = text.len()..text.len();
        let (key, source, shift) = match (self.after.as_deref(), self.before.as_deref()) {
            (None | Some(END_OF_FILE), None) => return Ok(end),
            (_, Some(BEGIN_OF_FILE)) => return Ok(0..0),
            (Some(source), _) => ("after", source, 1),
            (None, Some(source)) => ("before", source, 0),
        };
        let pattern = compiled(Some(source));
        let found = text.last(|line| pattern.as_ref().is_some_and(|pattern| pattern.is_match(line)));
        let index = found.ok_or_else(|| Unfit::Anchor(key, source.to_owned()))? + shift;
        Ok(index..index)
    }
}

/// Expressions have been checked with the other arguments.
fn compiled(source: Option<&str>) -> Option<Regex> {
    source.and_then(|source| Regex::new(source).ok())
}

/// The last line of what the expression's parser says: those before it draw the place.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or(&text);
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, checked, converges, mistakes};
    use serde_json::{Value, json};
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use tempfile::TempDir;

    const SSHD: &str = "Port 22\n#PermitRootLogin yes\nX11Forwarding no\n";

    /// A file, edited once with a change and once without; what is in it then.
    fn edited(before: &str, mut args: Value) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, before).unwrap();
        args["path"] = json!(path);
        converges("lines", args);
        fs::read_to_string(&path).unwrap()
    }

    fn file(content: &str) -> (TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_line_is_added_at_the_end_or_at_its_anchor() {
        let line = "Listen 8080";
        let before = "Listen 80\n\n<IfModule ssl>\n</IfModule>";
        let at = |key: &str, anchor: &str| edited(before, json!({"line": line, key: anchor}));
        assert_eq!(edited(before, json!({"line": line})), format!("{before}\nListen 8080\n"));
        assert_eq!(at("after", "EOF"), format!("{before}\nListen 8080\n"));
        assert_eq!(at("before", "BOF"), format!("Listen 8080\n{before}"));
        assert_eq!(at("after", "^Listen "), "Listen 80\nListen 8080\n\n<IfModule ssl>\n</IfModule>");
        assert_eq!(at("before", "^<IfModule"), "Listen 80\n\nListen 8080\n<IfModule ssl>\n</IfModule>");
    }

    #[test]
    fn the_last_line_like_the_expression_is_replaced_and_found_again() {
        let args = json!({"line": "PermitRootLogin no", "match": "^#?PermitRootLogin "});
        assert_eq!(edited(SSHD, args.clone()), "Port 22\nPermitRootLogin no\nX11Forwarding no\n");
        let twice = "PermitRootLogin no\nPermitRootLogin yes\n";
        assert_eq!(edited(twice, args.clone()), "PermitRootLogin no\nPermitRootLogin no\n");
        assert_eq!(edited("Port 22\n", args), "Port 22\nPermitRootLogin no\n");
        // The new line is not like the expression: it is known by itself.
        let renamed = json!({"line": "new = 1", "match": "^old ?="});
        assert_eq!(edited("old = 1\nold=2\n", renamed), "old = 1\nnew = 1\n");
    }

    #[test]
    fn a_file_that_is_as_asked_is_left_alone_to_its_time_stamp() {
        let (_folder, path) = file(SSHD);
        for args in [json!({"line": "Port 22"}), json!({"line": "Port 22", "match": "^Port"})] {
            let before = fs::metadata(&path).unwrap();
            let mut args = args;
            args["path"] = json!(path);
            for outcome in [checked("lines", args.clone()), applied("lines", args)] {
                assert_eq!((outcome.changed, outcome.unknown, outcome.failure), (false, false, None));
            }
            let after = fs::metadata(&path).unwrap();
            assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
        }
    }

    #[test]
    fn a_change_shows_as_a_unified_diff_and_keeps_the_mode() {
        let (_folder, path) = file(SSHD);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let args = json!({"path": path, "line": "PermitRootLogin no", "match": "^#?PermitRootLogin "});
        let diff = converges("lines", args).diff.unwrap();
        assert!(diff.contains("-#PermitRootLogin yes\n+PermitRootLogin no\n X11Forwarding no"), "{diff}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn absent_removes_the_line_or_all_that_are_like_the_expression() {
        let before = "a\n# b\nb 1\nb 2\n";
        assert_eq!(edited(before, json!({"line": "a", "state": "absent"})), "# b\nb 1\nb 2\n");
        assert_eq!(edited(before, json!({"match": "^b ", "state": "absent"})), "a\n# b\n");
        let (_folder, path) = file(before);
        assert!(!applied("lines", json!({"path": path, "line": "c", "state": "absent"})).changed);
        let gone = applied("lines", json!({"path": "/no/such/file", "line": "c", "state": "absent"}));
        assert_eq!((gone.changed, gone.failure), (false, None));
    }

    #[test]
    fn a_block_is_added_replaced_where_it_is_and_removed() {
        let first = json!({"block": "one\ntwo\n", "marker": "shop", "after": "^a"});
        let with = edited("a\nb\n", first);
        assert_eq!(with, "a\n# BEGIN shop\none\ntwo\n# END shop\nb\n");
        let other = edited(&with, json!({"block": "three", "marker": "shop"}));
        assert_eq!(other, "a\n# BEGIN shop\nthree\n# END shop\nb\n");
        assert_eq!(edited(&other, json!({"marker": "shop", "state": "absent"})), "a\nb\n");
        let ini = edited("", json!({"block": "x = 1", "comment": ";"}));
        assert_eq!(ini, "; BEGIN futago\nx = 1\n; END futago\n");
        let xml = edited("<a>\n</a>\n", json!({"block": "<b/>", "comment": "<!--", "after": "^<a>"}));
        assert_eq!(xml, "<a>\n<!-- BEGIN futago -->\n<b/>\n<!-- END futago -->\n</a>\n");
        let windows = edited("a\r\n", json!({"block": "b"}));
        assert_eq!(windows, "a\r\n# BEGIN futago\r\nb\r\n# END futago\r\n");
    }

    #[test]
    fn a_damaged_block_a_missing_anchor_and_a_missing_file_are_named() {
        let (_folder, path) = file("# END futago\n");
        let failed = |args: Value| applied("lines", args).failure.unwrap();
        let damaged = failed(json!({"path": path, "block": "x"}));
        assert!(damaged.message.ends_with("a damaged block futago at line 1"), "{}", damaged.message);
        let anchored = json!({"path": path, "line": "x", "after": "^\\[web\\]"});
        let missing = failed(anchored.clone());
        assert!(missing.message.ends_with("no line is like \"after\", ^\\[web\\]"), "{}", missing.message);
        assert!(checked("lines", anchored).unknown, "an earlier task may write it");
        let absent = json!({"path": "/no/such/file", "line": "x"});
        assert!(checked("lines", absent.clone()).unknown);
        let absent = failed(absent);
        assert_eq!(absent.message, "edit /no/such/file: it does not exist");
        assert!(absent.hint.unwrap().contains("create: true"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        let bytes = failed(json!({"path": path, "line": "x"}));
        assert!(bytes.message.ends_with("it is not a text in UTF-8"), "{}", bytes.message);
    }

    #[test]
    fn a_new_file_is_made_only_when_asked_for_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        converges("lines", json!({"path": path, "line": "x", "create": true, "mode": "0600"}));
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn wrong_arguments_are_told_before_contact() {
        let cases = [
            (json!({}), "module lines needs either line or block"),
            (json!({"match": "x"}), "module lines needs either line or block"),
            (
                json!({"line": "a", "block": "b"}),
                "module lines takes line and match, or block and marker, not both",
            ),
            (json!({"state": "absent"}), "module lines needs line, match or marker with state absent"),
            (
                json!({"line": "a", "match": "a", "state": "absent"}),
                "module lines takes line or match with state absent, not both",
            ),
            (
                json!({"line": "a", "after": "b", "before": "c"}),
                "module lines takes after or before, not both",
            ),
            (
                json!({"line": "a", "after": "b", "state": "absent"}),
                "module lines takes no after, before or create with state absent",
            ),
            (json!({"line": "a", "comment": ";"}), "module lines takes comment with a block only"),
            (
                json!({"line": "a\nb"}),
                "argument \"line\" of module lines must be one line; several lines are a block",
            ),
            (
                json!({"block": "a\n# END futago"}),
                "the block must not have its own marks in it: # BEGIN futago",
            ),
            (
                json!({"line": "a", "match": "(a"}),
                "argument \"match\" of module lines is no regular expression: unclosed group",
            ),
            (
                json!({"line": "a", "regexp": "a"}),
                "module lines has no argument \"regexp\"; did you mean \"match\"?",
            ),
        ];
        for (mut args, wanted) in cases {
            args["path"] = json!("/etc/x");
            assert_eq!(mistakes("lines", args.clone()), [wanted], "{args}");
        }
        assert_eq!(mistakes("lines", json!({"path": "etc/x", "line": "a"})).len(), 1);
    }
}
