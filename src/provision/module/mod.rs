//! What the provisioner can do on a host: one file per module, each with its arguments and its checks.
//!
//! Every module looks first, says what differs, and only then changes it. It never destroys by surprise, and
//! a second run changes nothing.

mod attributes;
mod cluster;
mod command;
mod context;
mod copy;
mod disk;
mod error;
mod exec;
mod file;
mod filesystem;
mod firewall;
mod hostname;
mod hosts;
mod http;
mod lines;
mod mount;
mod mysql;
mod mysql_db;
mod mysql_query;
mod mysql_user;
mod package;
mod partition;
mod planned;
mod program;
mod replica;
mod repository;
mod schema;
mod selinux;
mod service;
mod state;
mod sysctl;
#[cfg(test)]
mod testing;
mod text;
mod user;
mod wait_for;

pub use schema::{ArgError, Key, Kind, Schema};

use std::time::Duration;

use base::nearest::nearest;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::protocol::{Failure, Outcome, Progress, Step};
use context::Context;
use error::Error;
pub(crate) use planned::Planned;

/// The arguments of a module, and what it does with them.
trait Module: DeserializeOwned {
    const SCHEMA: Schema;

    /// Mistakes that the schema cannot express: combinations, and texts with an inner form.
    fn validate(&self) -> Vec<ArgError> {
        Vec::new()
    }

    /// Brings the host into the wanted state, or with `check` only says what is missing.
    fn run(self, context: &mut Context) -> Result<Outcome, Error>;
}

type Given = Map<String, Value>;
type Checked = Result<(), Vec<ArgError>>;

struct Entry {
    check: fn(&Given) -> Checked,
    run: fn(&Given, &mut Context) -> Result<Outcome, Failure>,
}

macro_rules! modules {
    ($($name:ident),* $(,)?) => {
        static SCHEMAS: &[Schema] = &[$($name::Args::SCHEMA),*];
        static ENTRIES: &[Entry] = &[$(Entry { check: check::<$name::Args>, run: execute::<$name::Args> }),*];
    };
}

modules![
    cluster,
    command,
    copy,
    file,
    filesystem,
    firewall,
    hostname,
    hosts,
    http,
    lines,
    mount,
    mysql_db,
    mysql_query,
    mysql_user,
    package,
    partition,
    program,
    replica,
    repository,
    selinux,
    service,
    sysctl,
    user,
    wait_for,
];

/// All modules, by name.
#[must_use]
pub fn schemas() -> &'static [Schema] {
    SCHEMAS
}

/// Checks arguments before anything is done: unknown and missing ones, wrong types, combinations that
/// exclude each other. Every mistake is reported.
pub fn check_args(module: &str, args: &Map<String, Value>) -> Result<(), Vec<ArgError>> {
    (find(module).map_err(|error| vec![error])?.check)(args)
}

/// Runs a step on this host.
///
/// `planned` holds what the steps before it have announced, and goes on with what this one does.
/// `reached` has the controller try a new connection, and says whether it got through within that time.
pub(crate) fn run(
    step: &Step,
    planned: &mut Planned,
    report: &mut dyn FnMut(Progress),
    reached: &mut dyn FnMut(Duration) -> bool,
) -> Outcome {
    let mut context = Context::new(step.check, step.diff, report);
    context.reached = Some(reached);
    context.planned = std::mem::take(planned);
    let entry = find(&step.module).map_err(|error| refused(&[error]));
    let result = entry.and_then(|entry| (entry.run)(&step.args, &mut context));
    *planned = context.planned;
    result.unwrap_or_else(|failure| Outcome { failure: Some(failure), ..Outcome::default() })
}

fn find(module: &str) -> Result<&'static Entry, ArgError> {
    let position = SCHEMAS.iter().position(|schema| schema.name == module);
    position.and_then(|index| ENTRIES.get(index)).ok_or_else(|| {
        ArgError::whole(match nearest(module, SCHEMAS.iter().map(|schema| schema.name)) {
            Some(right) => format!("there is no module \"{module}\"; did you mean \"{right}\"?"),
            None => format!("there is no module \"{module}\""),
        })
    })
}

fn parse<M: Module>(args: &Map<String, Value>) -> Result<M, Vec<ArgError>> {
    let args = M::SCHEMA.coerce(args)?;
    let module: M = serde_json::from_value(Value::Object(args))
        .map_err(|error| vec![ArgError::whole(format!("arguments of module {}: {error}", M::SCHEMA.name))])?;
    let errors = module.validate();
    if errors.is_empty() { Ok(module) } else { Err(errors) }
}

fn check<M: Module>(args: &Map<String, Value>) -> Result<(), Vec<ArgError>> {
    parse::<M>(args).map(drop)
}

fn execute<M: Module>(args: &Map<String, Value>, context: &mut Context) -> Result<Outcome, Failure> {
    let module = parse::<M>(args).map_err(|errors| refused(&errors))?;
    let result = module.run(context);
    let told = result.as_ref().map(|outcome| outcome.data.keys().map(String::as_str).collect::<Vec<_>>());
    debug_assert!(
        told.as_ref().map_or(&[][..], Vec::as_slice).iter().all(|key| M::SCHEMA.returns.contains(key)),
        "{} gives {told:?}, its schema says {:?}",
        M::SCHEMA.name,
        M::SCHEMA.returns
    );
    match result {
        // A plan does not fail on what an earlier task of the same plan provides.
        Err(error @ Error::NoSuchOwner { .. }) if context.check => Ok(Context::unknown(error.to_string())),
        result => Ok(result?),
    }
}

fn refused(errors: &[ArgError]) -> Failure {
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    Failure { message: messages.join("; "), ..Failure::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_module_has_its_own_name_and_explains_itself() {
        let names: Vec<&str> = schemas().iter().map(|schema| schema.name).collect();
        let mut unique = names.clone();
        unique.dedup();
        assert_eq!((unique.len(), names.is_sorted()), (names.len(), true), "{names:?}");
        for schema in schemas() {
            assert!(schema.summary.ends_with('.') && schema.keys.iter().all(|key| !key.help.is_empty()));
        }
    }

    #[test]
    fn an_unknown_module_is_answered_with_the_nearest_one() {
        let errors = check_args("pakage", &Map::new()).unwrap_err();
        assert_eq!(errors[0].message, "there is no module \"pakage\"; did you mean \"package\"?");
        let step = Step { module: "nothing-like-it".into(), check: true, ..Step::default() };
        let outcome = run(&step, &mut Planned::default(), &mut |_| {}, &mut |_| true);
        assert_eq!(outcome.failure.unwrap().message, "there is no module \"nothing-like-it\"");
    }

    #[test]
    fn a_step_with_wrong_arguments_fails_and_names_them_all() {
        let args = json!({"paht": "/x", "state": "gone"}).as_object().unwrap().clone();
        let outcome = run(
            &Step { module: "file".into(), args, ..Step::default() },
            &mut Planned::default(),
            &mut |_| {},
            &mut |_| true,
        );
        let message = outcome.failure.unwrap().message;
        for part in ["did you mean \"path\"", "not \"gone\"", "needs the argument \"path\""] {
            assert!(message.contains(part), "{message}");
        }
    }
}
