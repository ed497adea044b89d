//! YAML in which every value knows its file, line and column.
//!
//! The parser gives events with positions; this file builds a tree from them. What usual loaders let pass in
//! silence is refused here: a key written twice, custom tags, several documents in one file, trees that grow
//! without bound through aliases. Plain scalars get their type from serde_yaml, so that a value means here what it
//! means to every YAML 1.2 reader.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Number, Value};

use crate::problem::{Place, Problem, Problems};

/// Most bytes of one file: far above any playbook written by hand.
const MAX_BYTES: usize = 1 << 20;
/// Most values of one file after aliases are filled in: bounds an alias bomb.
const MAX_NODES: usize = 50_000;
/// Deepest nesting; the tree is walked recursively.
const MAX_DEPTH: usize = 64;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub place: Place,
    /// What it is.
    pub content: Content,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`; `yes` and `no` are text.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in its written order.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key is.
    pub place: Place,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Reads one document without mistakes.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        match Self::read(file, text, &mut problems) {
            Some(node) => problems.or(node),
            None => Err(problems),
        }
    }

    /// Reads one document, also one in which keys are there twice: the first one counts, so that the rest of it can be
    /// looked at. None for one that means nothing.
    pub fn read(file: &str, text: &str, problems: &mut Problems) -> Option<Self> {
        if text.len() > MAX_BYTES {
            let message = format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len());
            problems.push(Problem::new(&Place::start(file), message));
            return None;
        }
        let mut builder = Builder { file: file.into(), ..Builder::default() };
        if let Err(problem) = builder.read(text) {
            problems.push(problem);
            return None;
        }
        let is_clear = builder.problems.is_empty();
        problems.extend(builder.problems.into_iter().chain(builder.duplicates));
        let empty = || Self { place: Place::start(file), content: Content::Null };
        is_clear.then(|| builder.root.unwrap_or_else(empty))
    }

    /// The value without places.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(b) => Value::Bool(*b),
            Content::Number(n) => Value::Number(n.clone()),
            Content::Text(t) => Value::String(t.clone()),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => {
                entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect::<Map<_, _>>().into()
            }
        }
    }

    /// What it is, for messages: `text`, `a list` …
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "true or false",
            Content::Number(_) => "a number",
            Content::Text(_) => "text",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        }
    }

    /// The value in few words, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.content {
            Content::Text(text) => format!("{text:?}"),
            Content::Number(n) => n.to_string(),
            Content::Bool(b) => b.to_string(),
            _ => self.kind().to_owned(),
        }
    }

    /// A mapping's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// A mapping's entries; none for everything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        if let Content::Map(entries) = &self.content { entries } else { &[] }
    }

    fn size(&self) -> usize {
        1 + match &self.content {
            Content::List(items) => items.iter().map(Self::size).sum(),
            Content::Map(entries) => entries.iter().map(|e| e.value.size()).sum(),
            _ => 0,
        }
    }
}

/// A collection whose end has not come yet.
struct Open {
    anchor: usize,
    place: Place,
    children: Vec<Node>,
    mapping: bool,
}

#[derive(Default)]
struct Builder {
    file: Arc<str>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    documents: usize,
    root: Option<Node>,
    problems: Problems,
    /// Keys that are there twice.
    duplicates: Problems,
}

impl Builder {
    fn read(&mut self, text: &str) -> Result<(), Problem> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|error| {
                let marker = error.marker();
                self.syntax(
                    Place { file: self.file.clone(), line: marker.line(), column: marker.col() + 1 },
                    &error,
                )
            })?;
            self.event(event, &span)?;
        }
        Ok(())
    }

    fn syntax(&self, place: Place, error: &granit_parser::ScanError) -> Problem {
        let problem = Problem::new(&place, format!("this is not YAML: {}", error.info()));
        match self.open.last() {
            Some(open) => problem.hint(format!("it belongs to what starts on line {}", open.place.line)),
            None => problem,
        }
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Problem> {
        let marker = span.start;
        let place = Place { file: self.file.clone(), line: marker.line(), column: marker.col() + 1 };
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Problem::new(&place, "a second document starts here; one file holds one"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(&place, tag.as_deref());
                let content = scalar(&text, style);
                self.add(anchor, Node { place, content })?;
            }
            Event::SequenceStart(_, anchor, tag) => self.start(place, anchor, tag.as_deref(), false)?,
            Event::MappingStart(_, anchor, tag) => self.start(place, anchor, tag.as_deref(), true)?,
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id) else {
                    return Err(Problem::new(&place, "this alias stands inside the value that it names"));
                };
                let copy = target.clone();
                self.nodes += copy.size();
                self.add(0, copy)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn refuse_tag(&mut self, place: &Place, tag: Option<&granit_parser::Tag>) {
        if let Some(tag) = tag {
            self.problems.push(Problem::new(place, format!("the tag {:?} is not supported", tag.original())));
        }
    }

    fn start(
        &mut self,
        place: Place,
        anchor: usize,
        tag: Option<&granit_parser::Tag>,
        mapping: bool,
    ) -> Result<(), Problem> {
        self.refuse_tag(&place, tag);
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::new(&place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open { anchor, place, children: Vec::new(), mapping });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let content = if open.mapping { self.mapping(open.children) } else { Content::List(open.children) };
        self.add(open.anchor, Node { place: open.place, content })
    }

    fn mapping(&mut self, children: Vec<Node>) -> Content {
        let mut entries: Vec<Entry> = Vec::with_capacity(children.len() / 2);
        let mut children = children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            let Some(text) = key_text(&key) else {
                let message = format!("{} cannot be a key", key.kind());
                self.problems.push(
                    Problem::new(&key.place, message)
                        .hint("a value that starts with { must be quoted: \"{{ name }}\""),
                );
                continue;
            };
            if let Some(first) = entries.iter().find(|e| e.key == text) {
                let line = first.place.line;
                let message = format!("the key {text:?} is there twice, first on line {line}");
                self.duplicates.push(Problem::new(&key.place, message));
                continue;
            }
            entries.push(Entry { key: text, place: key.place, value });
        }
        Content::Map(entries)
    }

    fn add(&mut self, anchor: usize, node: Node) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Problem::new(&node.place, format!("more than {MAX_NODES} values in one file")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

fn key_text(key: &Node) -> Option<String> {
    match &key.content {
        Content::Text(text) => Some(text.clone()),
        Content::Number(n) => Some(n.to_string()),
        Content::Bool(b) => Some(b.to_string()),
        _ => None,
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Content {
    if style != ScalarStyle::Plain {
        return Content::Text(text.to_owned());
    }
    // Only what could be something else than text is worth a second parser.
    let typed = text.len() < 40 && text.starts_with(|c: char| c.is_ascii_digit() || "+-.~nNtTfF".contains(c));
    match typed.then(|| serde_yaml::from_str::<Value>(text)) {
        _ if text.is_empty() => Content::Null,
        Some(Ok(Value::Null)) => Content::Null,
        Some(Ok(Value::Bool(b))) => Content::Bool(b),
        Some(Ok(Value::Number(n))) => Content::Number(n),
        _ => Content::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Node::parse("a.yml", text).unwrap_err().to_string()
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let node = Node::parse("a.yml", "a: 1\nb:\n  - x\n  - {c: true}\n").unwrap();
        let b = node.get("b").unwrap();
        let Content::List(items) = &b.content else { panic!("{b:?}") };
        assert_eq!(items[0].place.to_string(), "a.yml:3:5");
        assert_eq!(items[1].get("c").unwrap().place.to_string(), "a.yml:4:9");
    }

    #[test]
    fn scalars_are_typed_as_yaml_1_2_does() {
        let node = Node::parse(
            "a.yml",
            "[yes, no, true, 0644, 0o17, 7, -1.5, ~, null, '1', 10.0.0.1, 1:30, '', 0%]",
        );
        let json = node.unwrap().to_json();
        let expected = serde_json::json!([
            "yes", "no", true, "0644", 15, 7, -1.5, null, null, "1", "10.0.0.1", "1:30", "", "0%"
        ]);
        assert_eq!(json, expected);
    }

    #[test]
    fn a_key_written_twice_is_refused_with_both_lines() {
        assert_eq!(message("a: 1\nb: 2\na: 3\n"), "a.yml:3:1: the key \"a\" is there twice, first on line 1");
    }

    #[test]
    fn an_unquoted_template_gets_the_advice_to_quote_it() {
        assert!(message("a: {{ name }}\n").contains("must be quoted"), "{}", message("a: {{ name }}\n"));
    }

    #[test]
    fn aliases_are_filled_in_but_cannot_explode() {
        let node = Node::parse("a.yml", "a: &x [1, 2]\nb: *x\n").unwrap();
        assert_eq!(node.get("b").unwrap().to_json(), serde_json::json!([1, 2]));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
        }
        assert!(message(&bomb).contains("more than 50000 values"), "{}", message(&bomb));
        assert!(message(&format!("{}1{}", "[".repeat(70), "]".repeat(70))).contains("nested deeper"));
    }

    #[test]
    fn a_syntax_error_names_its_place() {
        let text = message("a:\n  - b\n - c\n");
        assert!(text.starts_with("a.yml:3:"), "{text}");
    }

    #[test]
    fn a_second_document_and_a_tag_are_refused() {
        assert!(message("a: 1\n---\nb: 2\n").contains("second document"));
        assert!(message("a: !vault x\n").contains("!vault"));
    }
}
