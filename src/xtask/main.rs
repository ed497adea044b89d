//! Development tasks: verify (reads only) and fix (writes).

fn main() {}
