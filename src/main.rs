//! Parses the command line, dispatches to a part, maps an error to an exit code.

fn main() {}
