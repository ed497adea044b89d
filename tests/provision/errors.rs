//! Broken inventories, playbooks and templates: each file of `errors/` holds the input and the exact message.
//!
//! A line `=== NAME` starts a file of the project; `=== expected` starts the message. With `BLESS=1` in the
//! environment the messages are rewritten to what the program says, for review.

use std::fs;
use std::path::Path;

use provision::plan::Selection;

use crate::project::Project;

fn split(text: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            files.push((name.to_owned(), String::new()));
        } else if let Some((_, content)) = files.last_mut() {
            content.push_str(line);
            content.push('\n');
        }
    }
    files
}

#[test]
fn every_mistake_has_its_exact_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provision/errors");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let files = split(&text);
        let (expected, input): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| name == "expected");
        let project = Project::new(input.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let said = match project.plan(&Selection::default()) {
            Ok(_) => "(no error)\n".to_owned(),
            Err(message) => format!("{message}\n"),
        };
        seen += 1;
        if expected.first().is_some_and(|(_, message)| *message == said) {
            continue;
        }
        if std::env::var_os("BLESS").is_some() {
            let kept = text.split("=== expected").next().unwrap();
            fs::write(&path, format!("{kept}=== expected\n{said}")).unwrap();
        }
        wrong.push(format!("{}:\n{said}", path.display()));
    }
    assert!(seen > 0 && wrong.is_empty(), "{}", wrong.join("\n"));
}
