//! The reference of the modules on the terminal; what its examples say must be right.

use provision::doc;
use provision::plan::Selection;

use crate::project::{INVENTORY, Project};

#[test]
fn every_module_has_an_example_that_passes_the_check_of_a_playbook() {
    for module in doc::modules() {
        let example: String = module.example.lines().map(|line| format!("    {line}\n")).collect();
        let playbook = format!("- hosts: pair\n  tasks:\n{example}");
        let template = ("templates/shop.conf.j2", "{{ cluster.name }}\n");
        let inventory = format!("{INVENTORY}secrets: secrets.yml\n");
        let secrets = [("ha.yml", inventory.as_str()), ("secrets.yml", "shop_password: tiger-and-dragon\n")];
        let files = [("playbooks/site.yml", playbook.as_str()), template];
        let project = Project::new(secrets.into_iter().chain(files));
        let (_, plan) =
            project.plan(&Selection::default()).unwrap_or_else(|said| panic!("{}: {said}", module.name));
        let tasks: Vec<&str> = plan.plays[0].play.tasks.iter().map(|task| task.module.as_str()).collect();
        assert_eq!(tasks, [module.name], "an example is one task of its module");
        assert!(
            plan.plays[0].play.tasks[0].name != module.name,
            "{}: a name tells what it is for",
            module.name
        );
    }
}

#[test]
fn a_module_is_shown_with_arguments_result_and_example() {
    let expected = "\
wait_for: Waits until a TCP port answers or a path exists, or until they no longer do.

  port     TCP port
           (a whole number)
  host     address of the port (default: 127.0.0.1)
           (a text)
  path     path
           (an absolute path)
  state    present (default) or absent
           (one of present, absent)
  timeout  seconds to wait at most (default: 60)
           (a whole number)

Result, for `register`: changed, failed, skipped, msg, elapsed

Example:

  - name: Wait for the application
    wait_for: {port: 8080, timeout: 120}
";
    assert_eq!(doc::as_text("wait_for").unwrap(), expected);
}

#[test]
fn the_list_has_one_line_for_each_module_and_an_unknown_one_is_answered_with_the_nearest() {
    let list = doc::list();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), doc::modules().len() + 2);
    assert_eq!(
        lines[4],
        "filesystem   Makes a file system on a blank device; refuses one that holds anything else."
    );
    assert!(
        doc::as_text("template").unwrap().contains("a file below templates/"),
        "not only those of the hosts"
    );
    assert_eq!(
        doc::as_text("pakage").unwrap_err(),
        "there is no module \"pakage\"; did you mean \"package\"?"
    );
    assert_eq!(
        doc::as_text("apt").unwrap_err(),
        "there is no module \"apt\"; use `package: {name: [NAME], state: present}`"
    );
    assert_eq!(
        doc::as_text("xyz").unwrap_err(),
        "there is no module \"xyz\"; `futago doc module` lists them"
    );
}
