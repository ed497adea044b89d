//! Whether a value has the shape that a JSON Schema says: the words that our schemas use, and no others.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

/// Words that say nothing about the shape.
const SILENT: &[&str] = &["$schema", "$defs", "title", "description", "default"];

/// A schema.
pub(super) struct Structure {
    root: Value,
    patterns: RefCell<HashMap<String, Regex>>,
}

impl Structure {
    pub(super) fn of(root: Value) -> Self {
        Self { root, patterns: RefCell::default() }
    }

    /// What does not fit, with the path of the value.
    pub(super) fn mistakes(&self, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.check(&self.root, value, "", &mut found);
        found
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        let mut found = Vec::new();
        self.check(schema, value, "", &mut found);
        found.is_empty()
    }

    fn check(&self, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
        for (word, wanted) in schema.as_object().unwrap() {
            let count = |schemas: &Value| {
                schemas.as_array().unwrap().iter().filter(|schema| self.fits(schema, value)).count()
            };
            let fits = match word.as_str() {
                "type" => texts(wanted).any(|name| is(name, value)),
                "enum" => wanted.as_array().unwrap().contains(value),
                "pattern" => value.as_str().is_none_or(|text| self.matches(wanted.as_str().unwrap(), text)),
                "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
                "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
                "minProperties" => entries(value).count() >= size(wanted),
                "maxProperties" => entries(value).count() <= size(wanted),
                "required" => {
                    value.as_object().is_none_or(|map| texts(wanted).all(|key| map.contains_key(key)))
                }
                "propertyNames" => entries(value).all(|(key, _)| self.fits(wanted, &key.as_str().into())),
                "anyOf" => count(wanted) > 0,
                "oneOf" => count(wanted) == 1,
                "not" => !self.fits(wanted, value),
                "$ref" => {
                    let target = self.root.pointer(wanted.as_str().unwrap().strip_prefix('#').unwrap());
                    self.check(target.unwrap(), value, path, found);
                    true
                }
                "items" => {
                    for (item, index) in value.as_array().into_iter().flatten().zip(0..) {
                        self.check(wanted, item, &format!("{path}/{index}"), found);
                    }
                    true
                }
                "properties" | "patternProperties" => true,
                "additionalProperties" => {
                    self.check_entries(schema.as_object().unwrap(), value, path, found);
                    true
                }
                silent => {
                    assert!(SILENT.contains(&silent), "{silent} is not known here");
                    true
                }
            };
            if !fits {
                found.push(format!("{path}: {value} does not fit {word} {wanted}"));
            }
        }
    }

    /// The entries of a mapping: by name, by pattern, all others. A schema with properties says what the others are.
    fn check_entries(&self, schema: &Map<String, Value>, value: &Value, path: &str, found: &mut Vec<String>) {
        let patterns = schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
        let patterns: Vec<(&String, &Value)> = patterns.collect();
        for (key, value) in entries(value) {
            let path = format!("{path}/{key}");
            let by_name = schema.get("properties").and_then(|all| all.get(key));
            let by_pattern =
                patterns.iter().find(|(pattern, _)| self.matches(pattern, key)).map(|(_, found)| *found);
            match by_name.or(by_pattern).unwrap_or(&schema["additionalProperties"]) {
                Value::Bool(false) => found.push(format!("{path}: there is no such key")),
                wanted => self.check(wanted, value, &path, found),
            }
        }
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let known = patterns.entry(pattern.to_owned());
        known.or_insert_with(|| Regex::new(pattern).unwrap()).is_match(text)
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn texts(one_or_more: &Value) -> impl Iterator<Item = &str> {
    let all = one_or_more.as_array().map_or(std::slice::from_ref(one_or_more), Vec::as_slice);
    all.iter().map(|text| text.as_str().unwrap())
}

fn size(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("there is no type {other}"),
    }
}
