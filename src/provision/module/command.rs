//! Another program, run without a shell.

use super::schema::{Kind, Schema};

pub(super) const SCHEMA: Schema = Schema {
    name: "command",
    summary: "Runs a program without a shell; creates, removes and unless make it run only when needed.",
    keys: &[
        Schema::may("argv", Kind::TextList, "the program and its arguments, each as it is"),
        Schema::may(
            "line",
            Kind::Text,
            "the program and its arguments in one line, split at spaces outside quotes",
        ),
        Schema::may("chdir", Kind::Path, "folder to run it in"),
        Schema::may("environment", Kind::Map, "variables to set"),
        Schema::may("stdin", Kind::Text, "what it reads"),
        Schema::may("creates", Kind::Path, "do not run when this path exists"),
        Schema::may("removes", Kind::Path, "do not run when this path does not exist"),
        Schema::may(
            "unless",
            Kind::TextList,
            "do not run when this program succeeds; it must change nothing",
        ),
        Schema::may("timeout", Kind::Int, "seconds after which it is killed (default: 3600)"),
    ],
};
