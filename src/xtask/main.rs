//! Development tasks. `verify` proves that a change may be handed in and writes nothing but build output;
//! `fix` repairs what can be repaired mechanically; `soak` runs what takes too long for every day. None
//! contains knowledge of the product.

mod mutate;

use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask TASK

  verify   read only: formatting, lints, rules of the tree, documentation, licences of dependencies
  soak     what takes too long for every run: thousands of simulated histories, the pair of daemons and the
           scenarios on real hosts again; needs root, 16 GiB of memory and hours
  sim --seed N
           replay the histories of one seed, of the replication alone and of the managed pair, and tell their
           stories if they fail
  fix      write: apply lint suggestions and formatting
  mutate [WORD]
           break each rule of the replication core in a copy of the tree (only those that say WORD): do the
           tests notice? `--sim` asks the simulator alone";

/// One command to run.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const VERIFY: &[Step] = &[
    Step { name: "formatting", arguments: &["fmt", "--all", "--check"], environment: &[] },
    Step {
        name: "lints",
        arguments: &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"],
        environment: &[],
    },
    Step {
        name: "rules of the tree",
        arguments: &["test", "--locked", "--package", "futago", "--test", "tidy"],
        environment: &[],
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--locked", "--workspace", "--no-deps"],
        environment: &[("RUSTDOCFLAGS", "-D warnings")],
    },
];

const SOAK: &[Step] = &[
    Step {
        name: "5000 simulated histories of the replication, and of the managed pair",
        arguments: &["test", "--locked", "--package", "futago", "--test", "sim", "--", "--nocapture"],
        environment: &[("SIM_SEEDS", "5000")],
    },
    Step {
        name: "orders of events, far bounds",
        arguments: &[
            "test",
            "--locked",
            "--package",
            "futago",
            "--test",
            "sim",
            "--",
            "--nocapture",
            "every_order",
        ],
        environment: &[("SIM_DEPTH", "10")],
    },
    Step {
        name: "models, far bounds",
        arguments: &["test", "--locked", "--package", "futago", "--test", "model", "--", "--nocapture"],
        environment: &[("MODEL_BOUNDS", "large")],
    },
    Step {
        name: "two daemons",
        arguments: &["test", "--locked", "--package", "futago", "--test", "replica"],
        environment: &[("CI", "true")],
    },
    Step {
        name: "real hosts",
        arguments: &["test", "--locked", "--package", "futago", "--test", "lab"],
        environment: &[("CI", "true"), ("FUTAGO_DRILLS", "all")],
    },
];

/// Needs a program of its own, which not everybody has.
const DENY: Step = Step { name: "dependencies", arguments: &["deny", "--locked", "check"], environment: &[] };

const FIX: &[Step] = &[
    Step {
        name: "lints",
        arguments: &["clippy", "--fix", "--allow-dirty", "--allow-staged", "--workspace", "--all-targets"],
        environment: &[],
    },
    Step { name: "formatting", arguments: &["fmt", "--all"], environment: &[] },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["verify"] => verify(),
        ["soak"] => finish(&run_all(SOAK)),
        ["fix"] => finish(&run_all(FIX)),
        ["sim", "--seed", seed] if seed.parse::<u64>().is_ok() => sim(seed),
        ["mutate", rest @ ..] => mutate(rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(64)
        }
    }
}

/// One seed in both worlds; everything is told.
fn sim(seed: &str) -> ExitCode {
    let arguments = ["test", "--package", "futago", "--test", "sim", "--", "--nocapture", "whatever_fails"];
    let status = cargo().args(arguments).env("SIM_SEED", seed).status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutate(arguments: &[&str]) -> ExitCode {
    let simulator_alone = arguments.contains(&"--sim");
    let word = arguments.iter().find(|a| !a.starts_with("--")).copied().unwrap_or_default();
    match mutate::run(cargo, word, simulator_alone) {
        Ok(unnoticed) => finish(&unnoticed),
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn verify() -> ExitCode {
    let mut failed = run_all(VERIFY);
    if cargo().args(["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        failed.extend(run_all(&[DENY]));
    } else {
        eprintln!("xtask: {}: skipped, cargo-deny is not installed (cargo install cargo-deny)", DENY.name);
    }
    finish(&failed)
}

/// Runs every step, also after a failed one, so that one run shows all there is to do.
fn run_all(steps: &[Step]) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for step in steps {
        eprintln!("xtask: {}: cargo {}", step.name, step.arguments.join(" "));
        let status = cargo().args(step.arguments).envs(step.environment.iter().copied()).status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => failed.push(step.name),
            Err(error) => {
                eprintln!("xtask: start cargo: {error}");
                failed.push(step.name);
            }
        }
    }
    failed
}

fn finish(failed: &[&str]) -> ExitCode {
    if failed.is_empty() {
        eprintln!("xtask: all steps passed");
        return ExitCode::SUCCESS;
    }
    eprintln!("xtask: failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
