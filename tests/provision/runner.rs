//! How the runner behaves: order, failures, handlers, loops, plans, secrets.

use provision::plan::Selection;
use provision::protocol::Outcome;
use provision::report::Event;
use provision::runner::{Lost, Stop, exit};
use serde_json::json;

use crate::project::Project;
use crate::scripted::{Pair, apply, changed, check, failed};

fn playbook(text: &str) -> Project {
    Project::new([("playbooks/site.yml", text), ("templates/x.j2", "password={{ password }}\n")])
}

fn tasks(tasks: &str) -> Project {
    playbook(&format!("- hosts: pair\n  tasks:\n{tasks}"))
}

#[test]
fn both_hosts_finish_a_task_before_the_next_one_starts() {
    let project = tasks("  - command: one\n  - command: two\n  - command: three\n");
    let ran = Pair::new(|_, _| Ok(Outcome::default())).run(&project, apply(), &Selection::default());
    let mut order = ran.order();
    order.chunks_mut(2).for_each(<[String]>::sort);
    assert_eq!(order, ["ha-a one", "ha-b one", "ha-a two", "ha-b two", "ha-a three", "ha-b three"]);
    assert_eq!(ran.exit_code, exit::DONE);
    assert_eq!(
        ran.recap(),
        [
            "ha-a : ok=3 changed=0 failed=0 unreachable=0 skipped=0",
            "ha-b : ok=3 changed=0 failed=0 unreachable=0 skipped=0"
        ]
    );
}

#[test]
fn a_failure_on_one_host_stops_both_after_that_task() {
    let project = tasks("  - command: one\n  - {name: Two, command: two}\n  - command: three\n");
    let pair = Pair::new(|host, step| {
        Ok(if host == "ha-b" && step.args["line"] == "two" { failed("no") } else { Outcome::default() })
    });
    let ran = pair.run(&project, apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::FAILED);
    assert!(!ran.order().iter().any(|step| step.ends_with("three")), "{:?}", ran.order());
    assert_eq!(
        ran.recap(),
        [
            "ha-a : ok=2 changed=0 failed=0 unreachable=0 skipped=0",
            "ha-b : ok=1 changed=0 failed=1 unreachable=0 skipped=0"
        ]
    );
    for part in [
        "host: ha-b",
        "task: Two",
        "site.yml:4:5",
        "why:  no",
        "| last words",
        "hint: look there",
        "--start-at-task \"Two\"",
    ] {
        assert!(ran.text.contains(part), "{part} is missing in:\n{}", ran.text);
    }
}

#[test]
fn nothing_is_done_when_a_host_cannot_be_reached() {
    let project = tasks("  - command: one\n");
    let ran = Pair::new(|_, _| Ok(changed())).without("ha-b").run(&project, apply(), &Selection::default());
    assert_eq!((ran.exit_code, ran.steps.len()), (exit::UNREACHABLE, 0));
    assert_eq!(ran.recap()[1], "ha-b : ok=0 changed=0 failed=0 unreachable=1 skipped=0");
}

#[test]
fn a_host_that_calls_itself_differently_is_not_touched() {
    let project = tasks("  - command: one\n");
    let pair = Pair::new(|_, _| Ok(changed())).calling_itself("ha-a", "other.example.com");
    let ran = pair.run(&project, apply(), &Selection::default());
    assert_eq!((ran.exit_code, ran.steps.len()), (exit::FAILED, 0));
    assert!(ran.text.contains("hostnamectl set-hostname ha-a.example.com"), "{}", ran.text);
}

#[test]
fn a_host_lost_in_the_middle_is_counted_as_unreachable() {
    let project = tasks("  - command: one\n  - command: two\n");
    let pair = Pair::new(|host, _| {
        if host == "ha-a" { Err(Lost { message: "gone".into(), unreachable: true }) } else { Ok(changed()) }
    });
    let ran = pair.run(&project, apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::UNREACHABLE);
    assert_eq!(ran.recap()[0], "ha-a : ok=0 changed=0 failed=0 unreachable=1 skipped=0");
}

#[test]
fn a_handler_runs_once_at_the_end_and_only_where_it_was_asked_for() {
    let project = playbook(
        "- hosts: pair
  tasks:
  - {command: one, notify: Restart}
  - {command: two, notify: [Restart, Reload]}
  - command: three
  handlers:
  - {name: Reload, command: reload}
  - {name: Restart, command: restart}
",
    );
    let pair = Pair::new(|host, step| {
        Ok(if host == "ha-a" && step.args["line"] != "three" { changed() } else { Outcome::default() })
    });
    let ran = pair.run(&project, apply(), &Selection::default());
    let order = ran.order();
    assert_eq!(order[6..], ["ha-a reload", "ha-a restart"], "{order:?}");
}

#[test]
fn handlers_that_a_failed_run_owes_are_named() {
    let project = playbook(
        "- hosts: pair
  tasks:
  - {command: one, notify: Restart}
  - command: two
  handlers:
  - {name: Restart, command: restart}
",
    );
    let pair = Pair::new(|_, step| Ok(if step.args["line"] == "two" { failed("no") } else { changed() }));
    let ran = pair.run(&project, apply(), &Selection::default());
    assert!(ran.text.contains("Restart on ha-a; Restart on ha-b"), "{}", ran.text);
}

#[test]
fn serial_takes_one_host_at_a_time_through_the_whole_play() {
    let project = playbook("- hosts: pair\n  serial: 1\n  tasks:\n  - command: one\n  - command: two\n");
    let ran = Pair::new(|_, _| Ok(Outcome::default())).run(&project, apply(), &Selection::default());
    assert_eq!(ran.order(), ["ha-a one", "ha-a two", "ha-b one", "ha-b two"]);
}

#[test]
fn run_once_runs_on_the_first_host_and_all_know_the_result() {
    let project = tasks(
        "  - {command: one, run_once: true, register: r}\n  - {command: 'echo {{ r.stdout }}', when: r.stdout == 'x'}\n",
    );
    let pair = Pair::new(|_, _| {
        Ok(Outcome { data: json!({"stdout": "x"}).as_object().unwrap().clone(), ..Outcome::default() })
    });
    let mut order = pair.run(&project, apply(), &Selection::default()).order();
    order[1..].sort();
    assert_eq!(order, ["ha-a one", "ha-a echo x", "ha-b echo x"]);
}

#[test]
fn loops_when_facts_and_registered_results_are_evaluated_on_each_host() {
    let project = tasks(
        "  - {command: 'do {{ item.n }} {{ facts.family }}', loop: [{n: 1}, {n: 2}], when: inventory_hostname != 'ha-b', register: r}
  - {command: 'sum {{ r.results | length }}', when: r is not skipped}
",
    );
    let ran = Pair::new(|_, _| Ok(changed())).run(&project, apply(), &Selection::default());
    assert_eq!(ran.order(), ["ha-a do 1 debian", "ha-a do 2 debian", "ha-a sum 2"]);
    assert_eq!(
        ran.recap(),
        [
            "ha-a : ok=2 changed=2 failed=0 unreachable=0 skipped=0",
            "ha-b : ok=0 changed=0 failed=0 unreachable=0 skipped=2"
        ]
    );
}

/// A plan says that it cannot know; a run that left the task out would end as if it had been done.
#[test]
fn what_is_not_known_is_left_out_of_a_plan_and_fails_when_it_is_done() {
    let project = tasks("  - {command: a, register: r}\n  - {command: 'b {{ r.stdout }}'}\n");
    let pair = Pair::new(|_, _| Ok(Outcome { unknown: true, ..Outcome::default() }));
    let planned = pair.run(&project, check(), &Selection::default());
    assert!(planned.text.contains("with which arguments is unknown until applied"), "{}", planned.text);
    let done = pair.run(&project, apply(), &Selection::default());
    assert_eq!(done.exit_code, exit::FAILED, "{}", done.text);
    assert!(done.text.contains("the variable `r.stdout` is not defined"), "{}", done.text);
}

#[test]
fn changed_when_and_failed_when_replace_the_verdict_of_the_module() {
    let project = tasks(
        "  - {command: a, changed_when: false}
  - {command: b, failed_when: result.rc > 1, changed_when: result.rc == 1}
",
    );
    let pair = Pair::new(|_, step| {
        let data = json!({"rc": 1}).as_object().unwrap().clone();
        Ok(if step.args["line"] == "a" { changed() } else { Outcome { data, ..failed("rc 1") } })
    });
    let ran = pair.run(&project, apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
    assert_eq!(ran.recap()[0], "ha-a : ok=2 changed=1 failed=0 unreachable=0 skipped=0");
}

#[test]
fn until_repeats_at_most_as_often_as_it_says() {
    let project = tasks("  - {command: a, until: result.rc == 3, retries: 2, delay: 0}\n");
    let pair = Pair::new(|_, _| {
        Ok(Outcome { data: json!({"rc": 1}).as_object().unwrap().clone(), ..Outcome::default() })
    });
    let ran = pair.run(&project, apply(), &Selection::default());
    assert_eq!((ran.exit_code, ran.steps.len()), (exit::FAILED, 6));
    assert!(ran.text.contains("still not result.rc == 3 after 3 attempts"), "{}", ran.text);
}

#[test]
fn a_disk_that_one_host_refuses_is_not_touched_on_the_other_either() {
    let project = tasks("  - partition: {device: /dev/vdb}\n");
    let pair = Pair::new(|host, _| Ok(if host == "ha-b" { failed("it holds data") } else { changed() }));
    let ran = pair.run(&project, apply(), &Selection::default());
    assert!(ran.steps.iter().all(|(_, step)| step.check), "{:?}", ran.steps);
    assert_eq!(ran.exit_code, exit::FAILED);
    assert_eq!(ran.recap()[0], "ha-a : ok=0 changed=0 failed=0 unreachable=0 skipped=0");
    assert_eq!(ran.recap()[1], "ha-b : ok=0 changed=0 failed=1 unreachable=0 skipped=0");
    let ran = Pair::new(|_, _| Ok(changed())).run(&project, apply(), &Selection::default());
    assert_eq!(ran.steps.iter().map(|(_, step)| step.check).collect::<Vec<_>>(), [true, true, false, false]);
}

#[test]
fn a_plan_does_not_fail_because_an_earlier_step_was_not_really_done() {
    let project = tasks(
        "  - {command: make, register: made}
  - {command: 'use {{ made.stdout }}'}
  - {command: next, when: made.stdout == 'x'}
  - {command: certain, when: made is changed}
",
    );
    let ran = Pair::new(|_, step| {
        assert!(step.check && step.diff, "a plan must not change anything");
        Ok(changed())
    })
    .run(&project, check(), &Selection::default());
    let mut order = ran.order();
    order.sort();
    assert_eq!(order, ["ha-a certain", "ha-a make", "ha-b certain", "ha-b make"]);
    assert_eq!(ran.exit_code, exit::CHANGES);
    assert!(ran.text.contains("4 to change, 4 unknown until applied"), "{}", ran.text);
}

#[test]
fn a_plan_with_nothing_to_do_says_so() {
    let project = tasks("  - command: make\n");
    let ran = Pair::new(|_, _| Ok(Outcome::default())).run(&project, check(), &Selection::default());
    assert_eq!(ran.exit_code, exit::DONE);
    assert!(ran.text.contains("nothing to do"), "{}", ran.text);
}

#[test]
fn tags_limit_and_start_choose_a_part() {
    let project = playbook(
        "- hosts: pair
  tags: base
  tasks:
  - {name: One, command: one, tags: a}
  - {name: Two, command: two, tags: [b, never]}
  - {name: Three, command: three, tags: always}
",
    );
    let run = |selection: Selection| {
        let pair = Pair::new(|_, _| Ok(Outcome::default()));
        pair.run(&project, apply(), &Selection { limit: vec!["ha-a".into()], ..selection }).order()
    };
    let tags = |tags: &str| vec![tags.to_owned()];
    assert_eq!(run(Selection::default()), ["ha-a one", "ha-a three"]);
    assert_eq!(run(Selection { tags: tags("b"), ..Selection::default() }), ["ha-a two", "ha-a three"]);
    assert_eq!(run(Selection { skip_tags: tags("a"), ..Selection::default() }), ["ha-a three"]);
    assert_eq!(run(Selection { start_at: Some("Three".into()), ..Selection::default() }), ["ha-a three"]);
}

#[test]
fn words_of_a_selection_that_mean_nothing_are_refused() {
    let project = tasks("  - {name: One, command: one, tags: base}\n");
    let refused = |selection: Selection| project.plan(&selection).err().unwrap();
    let words = |word: &str| vec![word.to_owned()];
    assert_eq!(
        refused(Selection { tags: words("bsae"), ..Selection::default() }),
        "no task has the tag \"bsae\"; did you mean \"base\"?"
    );
    assert_eq!(
        refused(Selection { limit: words("ha-c"), ..Selection::default() }),
        "the inventory has no host \"ha-c\"; did you mean \"ha-a\"?"
    );
    assert_eq!(
        refused(Selection { start_at: Some("On".into()), ..Selection::default() }),
        "no task is called \"On\"; did you mean \"One\"?"
    );
}

#[test]
fn a_start_that_leaves_out_a_needed_result_is_refused() {
    let project =
        tasks("  - {name: One, command: one, register: r}\n  - {name: Two, command: two, when: r.rc == 0}\n");
    let error =
        project.plan(&Selection { start_at: Some("Two".into()), ..Selection::default() }).err().unwrap();
    assert!(error.contains("\"r\" is the result of the task \"One\", which is left out"), "{error}");
}

#[test]
fn secrets_and_no_log_are_never_shown() {
    let inventory = format!("{}secrets: secrets.yml\n", crate::project::INVENTORY);
    let project = Project::new([
        ("ha.yml", inventory.as_str()),
        ("secrets.yml", "password: correct-horse\n"),
        ("templates/x.j2", "password={{ password }}\n"),
        (
            "playbooks/site.yml",
            "- hosts: pair
  tasks:
  - template: {src: x.j2, dest: /etc/x, mode: '0600'}
  - {command: quiet, no_log: true}
",
        ),
    ]);
    let pair = Pair::new(|_, step| {
        let text = step.args.get("content").and_then(|c| c.as_str()).unwrap_or("open sesame").to_owned();
        Ok(Outcome { message: format!("wrote {text}"), diff: Some(format!("+{text}")), ..changed() })
    });
    let ran = pair.run(&project, provision::runner::Options { diff: true, ..apply() }, &Selection::default());
    assert_eq!(ran.steps[0].1.args["content"], "password=correct-horse\n", "the host gets the real value");
    let events = serde_json::to_string(&ran.events).unwrap();
    for shown in [&ran.text, &events] {
        assert!(shown.contains("password=********"), "{shown}");
        assert!(!shown.contains("correct-horse") && !shown.contains("open sesame"), "{shown}");
    }
}

#[test]
fn an_interrupt_finishes_the_running_step_and_says_how_to_go_on() {
    let project = tasks("  - {name: One, command: one}\n  - {name: Two, command: two}\n");
    let stop = Stop::default();
    let asked = stop.clone();
    let pair = Pair::new(move |_, _| {
        asked.ask();
        Ok(changed())
    });
    let ran = pair.stopping_with(stop).run(&project, apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::INTERRUPTED);
    assert_eq!(ran.steps.len(), 2, "both hosts finish the running task");
    assert!(
        ran.text.contains("continue with: futago apply -i ha.yml --start-at-task \"Two\""),
        "{}",
        ran.text
    );
}

#[test]
fn progress_is_passed_on_with_host_and_task() {
    let project = tasks("  - {name: One, command: one}\n");
    let ran = Pair::new(|_, _| Ok(Outcome::default())).run(&project, apply(), &Selection::default());
    let progress = |event: &&Event| matches!(event, Event::Progress { host, task, .. } if host == "ha-b" && task == "One");
    assert_eq!(ran.events.iter().filter(progress).count(), 1);
}

#[test]
fn tasks_of_blocks_and_of_imported_files_have_what_is_said_around_them() {
    let site = "\
- hosts: pair
  tasks:
  - when: inventory_hostname == 'ha-a'
    vars: {word: outer}
    block:
    - command: 'one {{ word }}'
    - vars: {word: inner}
      when: facts.family == 'debian'
      block:
      - command: 'two {{ word }}'
      - {command: 'three {{ word }}', when: false}
      - {command: 'four {{ word }}', vars: {word: own}}
  - import_tasks: web.yml
    tags: web
    vars: {word: imported}
";
    let web = "- ansible.builtin.command: 'five {{ word }}'\n- command: six\n";
    let project = Project::new([("playbooks/site.yml", site), ("playbooks/web.yml", web)]);
    let run = |selection: &Selection| {
        Pair::new(|_, _| Ok(Outcome::default())).run(&project, apply(), selection).order()
    };
    let mut order = run(&Selection::default());
    order[3..].chunks_mut(2).for_each(<[String]>::sort);
    assert_eq!(
        order,
        [
            "ha-a one outer",
            "ha-a two inner",
            "ha-a four own",
            "ha-a five imported",
            "ha-b five imported",
            "ha-a six",
            "ha-b six"
        ]
    );
    let tagged = run(&Selection { tags: vec!["web".into()], ..Selection::default() });
    assert_eq!(tagged.len(), 4, "{tagged:?}");
}

#[test]
fn a_step_that_could_not_even_be_done_says_why_and_not_that_it_has_no_result() {
    for word in ["until: result.rc == 0", "failed_when: result.rc > 1", "changed_when: result.rc == 1"] {
        let project = tasks(&format!("  - {{command: a, {word}}}\n"));
        let ran = Pair::new(|_, _| Ok(failed("run a: no such program"))).run(
            &project,
            apply(),
            &Selection::default(),
        );
        assert_eq!((ran.exit_code, ran.steps.len()), (exit::FAILED, 2), "{word}: {}", ran.text);
        assert!(ran.text.contains("why:  run a: no such program"), "{word}: {}", ran.text);
    }
}

#[test]
fn the_name_of_a_task_is_shown_as_it_is_written() {
    let project = tasks("  - {name: 'Greet {{ item }}', command: 'echo {{ item }}', loop: [a]}\n");
    let ran = Pair::new(|_, _| Ok(Outcome::default())).run(&project, apply(), &Selection::default());
    assert!(ran.text.contains("Greet {{ item }} (a)"), "{}", ran.text);
}

/// `default(none)` is what Ansible's `default(omit)` is for.
#[test]
fn an_argument_that_is_nothing_is_left_out() {
    let project = tasks("  - copy: {dest: /x, content: y, mode: '{{ wanted | default(none) }}'}\n");
    let ran = Pair::new(|_, step| {
        assert!(step.args["mode"].is_null());
        Ok(Outcome::default())
    })
    .run(&project, apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::DONE, "{}", ran.text);
}

#[test]
fn the_key_of_a_repository_is_read_from_the_project_and_may_be_unknown_to_a_plan() {
    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ\n";
    let text = "- hosts: pair\n  tasks:\n  - {command: one, register: made}\n  - repository: {name: shop, uris: http://x/, \
                suites: ./, key_src: '{{ made.stdout }}.asc'}\n";
    let project = Project::new([("playbooks/site.yml", text), ("files/shop.asc", KEY)]);
    let made = |_: &str, step: &provision::protocol::Step| {
        let data = if step.check { json!({}) } else { json!({"rc": 0, "stdout": "shop"}) };
        Ok(Outcome { unknown: step.check, data: data.as_object().unwrap().clone(), ..Outcome::default() })
    };
    let planned = Pair::new(made).run(&project, check(), &Selection::default());
    assert!(planned.text.contains("unknown until applied"), "{}", planned.text);
    assert!(planned.steps.iter().all(|(_, step)| step.module == "command"), "it is not sent without its key");
    let ran = Pair::new(made).run(&project, apply(), &Selection::default());
    let (_, sent) = ran.steps.iter().find(|(_, step)| step.module == "repository").unwrap();
    assert_eq!((&sent.args["key"], sent.args.get("key_src")), (&json!(KEY), None));
}

/// It is not known before the run whether such a password is a secret: then it is looked at.
#[test]
fn a_password_that_comes_from_a_result_is_not_sent() {
    let project = tasks(
        "  - {command: one, register: made}\n  - mysql_user: {name: shop, password: '{{ made.stdout }}'}\n",
    );
    let ran = Pair::new(|_, _| {
        let data = json!({"rc": 0, "stdout": "in-the-open"}).as_object().unwrap().clone();
        Ok(Outcome { data, ..Outcome::default() })
    })
    .run(&project, apply(), &Selection::default());
    assert_eq!(ran.exit_code, exit::FAILED);
    assert!(ran.text.contains("this password is not one of the secrets"), "{}", ran.text);
    assert!(ran.steps.iter().all(|(_, step)| step.module == "command"), "{:?}", ran.order());
}
