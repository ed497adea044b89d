//! What is right fits the schemas, what the program refuses for its shape does not.

use std::fs;
use std::path::{Path, PathBuf};

use base::yaml::Node;
use serde_json::{Value, json};

use super::structure::Structure;
use super::{Of, text};
use crate::doc;

fn schema(of: Of) -> Structure {
    Structure::of(text(of).parse().unwrap())
}

fn read(text: &str) -> Value {
    Node::parse("a.yml", text).unwrap().to_json()
}

fn in_tree(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn shipped_playbooks() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(in_tree("playbooks")).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), read(&fs::read_to_string(path).unwrap()))).collect()
}

#[test]
fn every_shipped_playbook_fits_and_no_other_word_does() {
    let (schema, tasks) = (schema(Of::Playbook), schema(Of::Tasks));
    let playbooks = shipped_playbooks();
    assert!(playbooks.len() > 10);
    for (path, playbook) in playbooks {
        assert_eq!(schema.mistakes(&playbook), Vec::<String>::new(), "{}", path.display());
        for mut play in playbook.as_array().unwrap().clone() {
            play["taks"] = json!([]);
            assert!(!schema.mistakes(&json!([play])).is_empty(), "{}: {play}", path.display());
            for mut task in play["tasks"].as_array().into_iter().flatten().cloned() {
                task["ignore_errors"] = json!(true);
                assert!(!tasks.mistakes(&json!([task])).is_empty(), "{}: {task}", path.display());
            }
        }
    }
}

#[test]
fn the_example_of_every_module_fits_and_an_argument_that_it_does_not_have_does_not() {
    let schema = schema(Of::Tasks);
    for module in doc::modules() {
        let example = read(module.example);
        assert_eq!(schema.mistakes(&example), Vec::<String>::new(), "{}", module.name);
        let mut full = example.clone();
        let task = full[0].as_object_mut().unwrap();
        let arguments = task.shift_remove(module.name).unwrap();
        task.insert(format!("ansible.builtin.{}", module.name), arguments.clone());
        assert_eq!(schema.mistakes(&full), Vec::<String>::new(), "{} with its collection", module.name);
        let mut wrong = example;
        if arguments.is_string() {
            wrong[0][module.name] = json!({});
        }
        wrong[0][module.name]["frobnicate"] = json!(1);
        assert!(!schema.mistakes(&wrong).is_empty(), "{}: an argument too much", module.name);
    }
}

#[test]
fn inventories_that_are_right_fit() {
    let schema = schema(Of::Inventory);
    let example = fs::read_to_string(in_tree("inventory/example.yml")).unwrap();
    // What is a comment there is an example of the key, line by line.
    let keys = ["# witness:", "# stack:", "# https:", "# backup:", "# wipe:", "# vars:", "# secrets:"];
    let full: String = example
        .lines()
        .map(|line| if keys.iter().any(|key| line.starts_with(key)) { &line[2..] } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    assert!(read(&full)["backup"]["keep"].is_number() && read(&full)["wipe"].is_array());
    for text in [example, full] {
        assert_eq!(schema.mistakes(&read(&text)), Vec::<String>::new());
    }
}

#[test]
fn what_is_refused_for_its_shape_does_not_fit() {
    let cases = [
        (Of::Inventory, "inventory-misspelt-key"),
        (Of::Inventory, "inventory-all-mistakes-at-once"),
        (Of::Inventory, "inventory-manager-all-mistakes-at-once"),
        (Of::Inventory, "inventory-backup-all-mistakes-at-once"),
        (Of::Inventory, "inventory-jump-host-misspelt-keys"),
        (Of::Inventory, "inventory-jump-host-of-another-kind"),
        (Of::Playbook, "playbook-misspelt-argument"),
        (Of::Playbook, "playbook-misspelt-module"),
        (Of::Playbook, "playbook-misspelt-task-key"),
        (Of::Playbook, "playbook-all-mistakes-at-once"),
        (Of::Playbook, "playbook-braces-in-when"),
        (Of::Playbook, "playbook-not-a-list"),
        (Of::Playbook, "playbook-two-modules"),
        (Of::Playbook, "playbook-words-of-ansible"),
    ];
    for (of, case) in cases {
        let text = fs::read_to_string(in_tree("tests/provision/errors").join(case)).unwrap();
        let file = if of == Of::Inventory { "=== ha.yml\n" } else { "=== playbooks/site.yml\n" };
        let (_, rest) = text.split_once(file).unwrap();
        let (wrong, _) = rest.split_once("=== ").unwrap();
        assert!(!schema(of).mistakes(&read(wrong)).is_empty(), "{case}");
    }
}
