//! Shorthand for the golden cases of the modules: arguments in, outcome out.

use serde_json::Value;

use super::{check_args, run};
use crate::protocol::{Outcome, Step};

fn outcome(module: &str, args: &Value, check: bool) -> Outcome {
    let args = args.as_object().unwrap().clone();
    run(&Step { module: module.into(), args, check, diff: true }, &mut |_| {})
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
