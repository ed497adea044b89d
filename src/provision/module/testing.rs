//! Shorthand for the golden cases of the modules: arguments in, outcome out.

use serde_json::Value;

use super::{Planned, check_args, run};
use crate::protocol::{Outcome, Step};

fn outcome(module: &str, args: &Value, check: bool) -> Outcome {
    after(&mut Planned::default(), module, args, check)
}

/// What comes after other steps of the same run.
pub(super) fn after(planned: &mut Planned, module: &str, args: &Value, check: bool) -> Outcome {
    let args = args.as_object().unwrap().clone();
    let step = Step { module: module.into(), args, check, diff: true, ..Step::default() };
    run(&step, planned, &mut |_| {}, &mut |_| true)
}

/// The first of these programs that this machine does not have, after having tried to install parted, which
/// the other programs' packages are always there beside.
pub(super) fn missing_tool(names: &[&'static str]) -> Option<&'static str> {
    static INSTALLED: std::sync::Once = std::sync::Once::new();
    let missing = || names.iter().copied().find(|name| !is_there(name));
    if missing() == Some("parted") && is_there("apt-get") {
        INSTALLED.call_once(|| {
            eprintln!("apt-get install parted: needed to try partition tables on real devices");
            let update = "apt-get -q update; apt-get -qy --no-install-recommends -o DPkg::Lock::Timeout=120 install parted";
            let mut shell = std::process::Command::new("sh");
            // Whoever misses it below says so.
            let _ = base::process::run(shell.args(["-c", update]).env("DEBIAN_FRONTEND", "noninteractive"));
        });
    }
    missing()
}

fn is_there(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(name).exists())
}

/// What a plan says.
pub(super) fn checked(module: &str, args: Value) -> Outcome {
    outcome(module, &args, true)
}

/// What was done.
pub(super) fn applied(module: &str, args: Value) -> Outcome {
    outcome(module, &args, false)
}

/// The messages of all mistakes in the arguments.
pub(super) fn mistakes(module: &str, args: Value) -> Vec<String> {
    let errors = check_args(module, args.as_object().unwrap()).err().unwrap_or_default();
    errors.into_iter().map(|error| error.message).collect()
}

/// A plan that announces a change, the change, and a second run that changes nothing.
pub(super) fn converges(module: &str, args: Value) -> Outcome {
    let planned = checked(module, args.clone());
    assert_eq!((planned.changed, planned.failure), (true, None), "the plan of {args}");
    let done = applied(module, args.clone());
    assert_eq!((done.changed, &done.failure), (true, &None), "the change of {args}");
    for again in [checked(module, args.clone()), applied(module, args.clone())] {
        assert_eq!((again.changed, again.unknown, again.failure), (false, false, None), "again {args}");
    }
    done
}
