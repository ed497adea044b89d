//! Breaks the rules of the replication core one by one, in a copy of the tree; the tests must notice each time.
//! Not part of `verify`: it takes minutes, and is meant for changes of the core, of its tests and of the simulator.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A rule, broken: `from` becomes `to` in a file below `src/replica`.
struct Mutation {
    breaks: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const MUTATIONS: &[Mutation] = &[
    Mutation {
        breaks: "a target waits for its script",
        file: "engine/undo.rs",
        from: "if !self.waits_at(Gate::Target { base, blocks, as_of }) {",
        to: "{",
    },
    Mutation {
        breaks: "a script that fails refuses the resync",
        file: "engine/script.rs",
        from: "self.stand_alone(text);",
        to: "self.pass(waiting.gate);",
    },
    Mutation {
        breaks: "suspended writes wait",
        file: "engine/request.rs",
        from: "|| self.suspension.is_on()",
        to: "",
    },
    Mutation {
        breaks: "a peer that is to be written over lacks every block",
        file: "engine/declare.rs",
        from: "self.bitmap.set_all();",
        to: "",
    },
    Mutation {
        breaks: "a disk with data is never declared the same as another one",
        file: "engine/declare.rs",
        from: "yields && settled && self.is_blank()",
        to: "yields && settled",
    },
    Mutation {
        breaks: "a write is answered when the peer has it",
        file: "engine/request.rs",
        from: "matches!(write.remote, Remote::Confirmed | Remote::Named)",
        to: "matches!(write.remote, Remote::Pending | Remote::Confirmed | Remote::Named)",
    },
    Mutation {
        breaks: "a lone write is answered under a new generation",
        file: "engine/request.rs",
        from: "s.part(new, now)",
        to: "s.generations.counter = new",
    },
    Mutation {
        breaks: "writes of the same blocks keep their order",
        file: "engine/request.rs",
        from: "|| self.requests.started.values().any(|w| overlap(w.wish.whole, whole))",
        to: "",
    },
    Mutation {
        breaks: "a write waits for a resync of its blocks",
        file: "engine/request.rs",
        from: "|| self.resync.touches(range)",
        to: "",
    },
    Mutation {
        breaks: "a resync waits for a write of its blocks",
        file: "engine/resync.rs",
        from: "if self.requests.touches(range) {",
        to: "if false {",
    },
    Mutation {
        breaks: "an extent is in the activity log before it is written",
        file: "engine/request.rs",
        from: "|| !self.activity.begin(range)",
        to: "",
    },
    Mutation {
        breaks: "an extent leaves the activity log after a flush",
        file: "engine/flush.rs",
        from: "self.request_flush(Purpose::Evict)",
        to: "self.flush_served(Purpose::Evict, true)",
    },
    Mutation {
        breaks: "what the peer has not flushed is marked when it is lost",
        file: "engine/flush.rs",
        from: "run.remote = Remote::Alone;\n        }\n        self.flusher.flushing.move_into(&mut self.bitmap);\n        self.flusher.unstable.move_into(&mut self.bitmap);",
        to: "run.remote = Remote::Alone;\n        }\n        self.flusher.flushing.move_into(&mut self.bitmap);",
    },
    Mutation {
        breaks: "a flush is a flush of both disks",
        file: "engine/flush.rs",
        from: "Some(link) => self.flush_peer(link),",
        to: "Some(_) => Remote::Done,",
    },
    Mutation {
        breaks: "a flush without the peer promises nothing by itself",
        file: "engine/flush.rs",
        from: "if !unnamed {",
        to: "if true {",
    },
    Mutation {
        breaks: "bits are cleared after a flush of both disks",
        file: "engine/resync.rs",
        from: "if !both || self.link.mirror() != Some(checkpoint.link) {",
        to: "if false {",
    },
    Mutation {
        breaks: "the target is marked Inconsistent, durably",
        file: "engine/resync/target.rs",
        from: "s.undo = undo;\n            s.consistent = false;",
        to: "s.undo = undo;",
    },
    Mutation {
        breaks: "promotion waits for writes of a lost peer",
        file: "engine/role.rs",
        from: "if self.has_peer_writes() || self.requests.pending() > 0 {",
        to: "if false {",
    },
    Mutation {
        breaks: "the peer is asked before a promotion",
        file: "engine/role.rs",
        from: "self.out.push(Action::Send { link, term, message, payload: None });",
        to: "let _ = (link, term, message);\n                self.store_promotion(token, bid);",
    },
    Mutation {
        breaks: "a node stays the writer until its writes are over",
        file: "engine/role.rs",
        from: "if self.requests.pending() > 0 {",
        to: "if false {",
    },
    Mutation {
        breaks: "a successor takes the activity log for unflushed",
        file: "engine/resume.rs",
        from: "extents.into_iter().for_each(|range| self.flusher.unstable_on_peer(range));",
        to: "drop(extents);",
    },
    Mutation {
        breaks: "a successor that is alone marks what was hot",
        file: "engine/resume.rs",
        from: "self.mark_hot(activity);",
        to: "",
    },
    Mutation {
        breaks: "a successor does not leave a flush out",
        file: "engine/resume.rs",
        from: "self.requests.answered += 1;",
        to: "",
    },
    Mutation {
        breaks: "a successor keeps the activity log",
        file: "engine/resume.rs",
        from: "self.activity.resume(activity);",
        to: "",
    },
    Mutation {
        breaks: "of two sizes the larger one holds",
        file: "engine/handshake.rs",
        from: "(false, false) => me.bytes.max(peer.bytes),",
        to: "(false, false) => me.bytes.min(peer.bytes),",
    },
    Mutation {
        breaks: "what a device gets is compared before it is seen",
        file: "engine/grow.rs",
        from: "self.begin_comparison(from, bytes, true);",
        to: "self.growth_compared();",
    },
    Mutation {
        breaks: "an extent that was just admitted is not the first to leave",
        file: "activity.rs",
        from: "Hot { writes: 0, last_use: self.clock }",
        to: "Hot::default()",
    },
];

const COPY: &str = "target/mutate/tree";
const BUILD: &str = "target/mutate/build";
/// What must notice, cheapest first.
const TESTS: &[&[&str]] =
    &[&["test", "--package", "replica", "--lib"], &["test", "--package", "futago", "--test", "sim"]];

/// Runs all of them, or those whose rule contains `word`. The result names the rules that can be
/// broken without a test that fails.
pub(crate) fn run(
    cargo: impl Fn() -> Command,
    word: &str,
    simulator_alone: bool,
) -> Result<Vec<&'static str>, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let copy = root.join(COPY);
    copy_tree(&root, &copy)?;
    let tests = if simulator_alone { &TESTS[1..] } else { TESTS };
    let passes = |arguments: &[&str]| {
        let mut command = cargo();
        command.args(arguments).current_dir(&copy).env("CARGO_TARGET_DIR", root.join(BUILD));
        command.output().map(|output| output.status.success()).map_err(|e| format!("start cargo: {e}"))
    };
    eprintln!("xtask: the tree as it is");
    for arguments in tests {
        if !passes(arguments)? {
            return Err(format!("cargo {} fails without a mutation", arguments.join(" ")));
        }
    }
    let mut unnoticed = Vec::new();
    for mutation in MUTATIONS.iter().filter(|m| m.breaks.contains(word)) {
        let path = copy.join("src/replica").join(mutation.file);
        let text = fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
        if text.matches(mutation.from).count() != 1 {
            return Err(format!(
                "{}: not exactly once in {}: {}",
                mutation.breaks, mutation.file, mutation.from
            ));
        }
        write(&path, &text.replace(mutation.from, mutation.to))?;
        let mut noticed = None;
        for arguments in tests {
            if noticed.is_none() && !passes(arguments)? {
                noticed = arguments.last();
            }
        }
        write(&path, &text)?;
        match noticed {
            Some(by) => eprintln!("xtask: noticed by {by}: {}", mutation.breaks),
            None => {
                eprintln!("xtask: NOT NOTICED: {}", mutation.breaks);
                unnoticed.push(mutation.breaks);
            }
        }
    }
    Ok(unnoticed)
}

/// The files that git knows, as they are in the working tree.
fn copy_tree(root: &Path, copy: &Path) -> Result<(), String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = listed.map_err(|e| format!("list the files of the tree: start git: {e}"))?;
    if copy.exists() {
        fs::remove_dir_all(copy).map_err(|e| format!("remove {}: {e}", copy.display()))?;
    }
    for name in String::from_utf8_lossy(&listed.stdout).split_terminator('\0') {
        let (from, to) = (root.join(name), copy.join(name));
        let folder = to.parent().unwrap_or(copy);
        let copied = fs::create_dir_all(folder).and_then(|()| fs::copy(&from, &to));
        copied.map_err(|e| format!("copy {name}: {e}"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("write {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_where_it_is_said_to_be() {
        let replica = Path::new(env!("CARGO_MANIFEST_DIR")).join("../replica");
        let text = |file: &str| fs::read_to_string(replica.join(file)).unwrap_or_default();
        let stale = MUTATIONS.iter().filter(|m| text(m.file).matches(m.from).count() != 1);
        assert_eq!(stale.map(|m| m.breaks).collect::<Vec<_>>(), Vec::<&str>::new());
    }
}
