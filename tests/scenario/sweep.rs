//! The same trouble at every moment of a switchover. What must hold at every moment is watched by the world itself;
//! here it is asked that the pair serves in the end, and that nobody has to be called.

use crate::script;

/// Longer than a switchover takes.
const END_MS: usize = 1_000;
const STEP_MS: usize = 50;

/// What strikes, and what mends it afterwards.
const STRIKES: [(&str, &str); 14] = [
    ("kill manager ha-a", ""),
    ("kill manager ha-b", ""),
    ("lose replicad ha-a", ""),
    ("lose replicad ha-b", ""),
    ("kill replicad ha-a", ""),
    ("kill replicad ha-b", ""),
    ("power-off ha-a", "boot ha-a"),
    ("power-off ha-b", "boot ha-b"),
    ("pause manager ha-a", "continue manager ha-a"),
    ("pause manager ha-b", "continue manager ha-b"),
    ("freeze ha-a 8s", ""),
    ("suspend ha-b 8s", ""),
    ("cut local", "heal"),
    ("isolate ha-b", "heal"),
];

#[test]
fn a_switchover_ends_well_whatever_strikes_at_whatever_moment() {
    std::thread::scope(|scope| {
        for (strike, mend) in STRIKES {
            scope.spawn(move || (0..END_MS).step_by(STEP_MS).for_each(|at| strikes(strike, at, mend)));
        }
    });
}

fn strikes(strike: &str, at: usize, mend: &str) {
    let script = format!(
        "up\noperator ha-a switchover\nrun {at}ms\n{strike}\nrun 10s\nexpect somebody\n{mend}\n\
         run 40s\nexpect somebody\nexpect verdict ha-a PROTECTED\nexpect verdict ha-b PROTECTED"
    );
    let outcome = script::run(&script);
    if let Err(problem) = outcome.result {
        panic!("{strike} {at} ms after the order: {problem}\n{}", outcome.log);
    }
}
