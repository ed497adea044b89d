//! Times, sizes and names as people say them; and texts that cannot do anything to a terminal.

use cluster::control::{Status, Verdict};
use cluster::event::Running;
use cluster::member::{Node, Nodes};
use cluster::timing::Millis;

/// `80 ms`, `0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`: two figures of what matters.
pub(crate) fn time(ms: Millis) -> String {
    let seconds = ms / 1000;
    match ms {
        0..100 => format!("{ms} ms"),
        100..10_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        10_000..60_000 => format!("{seconds} s"),
        60_000..3_600_000 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600_000..86_400_000 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, smaller: &str) -> String {
    if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {smaller}") }
}

/// `12 KiB`, `3.4 GiB`.
pub(crate) fn size(kib: u64) -> String {
    let mut unit = "KiB";
    let (mut whole, mut tenth) = (kib, 0);
    for larger in ["MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (whole, tenth, unit) = (whole / 1024, whole % 1024 * 10 / 1024, larger);
    }
    if tenth == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}

/// `1 failure`, `2 failures`.
pub(crate) fn count(number: u32, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// The verdict as it is written.
pub(crate) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Protected => "PROTECTED",
        Verdict::Degraded => "DEGRADED",
        Verdict::Held => "HELD",
        Verdict::Down => "DOWN",
    }
}

/// The state of a resource, in Pacemaker's words.
pub(crate) const fn running(state: Running) -> &'static str {
    match state {
        Running::Started => "Started",
        Running::Stopped => "Stopped",
        Running::Failed => "FAILED",
        Running::Unknown => "unknown",
    }
}

/// The names of the two hosts, short as long as they differ.
#[derive(Clone, Debug)]
pub(crate) struct Names([String; 2]);

impl Names {
    /// Of a cluster.
    pub(crate) fn of(status: &Status) -> Self {
        let [a, b] = &status.names;
        let (short_a, short_b) = (short(a), short(b));
        Self(if short_a == short_b {
            [a.clone(), b.clone()]
        } else {
            [short_a.to_owned(), short_b.to_owned()]
        })
    }

    /// When nobody tells them.
    pub(crate) fn unknown() -> Self {
        Self(["host A".to_owned(), "host B".to_owned()])
    }

    /// Of a node.
    pub(crate) fn get(&self, node: Node) -> &str {
        let [a, b] = &self.0;
        match node {
            Node::A => a,
            Node::B => b,
        }
    }

    /// `ha-a and ha-b`.
    pub(crate) fn list(&self, nodes: Nodes) -> String {
        let [a, b] = &self.0;
        match (nodes.a, nodes.b) {
            (true, true) => format!("{a} and {b}"),
            (true, false) => a.clone(),
            (false, true) => b.clone(),
            (false, false) => "no host".to_owned(),
        }
    }
}

fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The node that an operator means by a name: the whole one, or what stands before its first dot.
///
/// # Errors
/// Whose hosts there are, for people.
pub(crate) fn find(status: &Status, name: &str) -> Result<Node, String> {
    let by = |test: &dyn Fn(&str) -> bool| match status.names.each_ref().map(|full| test(full)) {
        [true, false] => Some(Node::A),
        [false, true] => Some(Node::B),
        _ => None,
    };
    by(&|full| full == name).or_else(|| by(&|full| short(full) == name)).ok_or_else(|| {
        let [a, b] = &status.names;
        format!("{} has no host `{name}`\n  its hosts are {a} and {b}", status.cluster)
    })
}

/// The status without characters that would act on a terminal: names and reasons come from programs that may
/// say anything.
pub(crate) fn harmless(status: Status) -> Status {
    let Ok(mut value) = serde_json::to_value(&status) else { return status };
    clean_value(&mut value);
    serde_json::from_value(value).unwrap_or(status)
}

fn clean_value(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = clean(text),
        serde_json::Value::Array(list) => list.iter_mut().for_each(clean_value),
        serde_json::Value::Object(map) => map.values_mut().for_each(clean_value),
        _ => {}
    }
}

/// One line without characters that would act on a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::sample;

    #[test]
    fn times_have_two_figures_of_what_matters() {
        let shown = [99, 800, 12_345, 60_000, 200_000, 7_500_000, 273_600_000].map(time);
        assert_eq!(shown, ["99 ms", "0.8 s", "12 s", "1 min", "3 min 20 s", "2 h 5 min", "3 d 4 h"]);
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!([0, 12, 1024, 3_565_158].map(size), ["0 KiB", "12 KiB", "1 MiB", "3.3 GiB"]);
    }

    #[test]
    fn hosts_are_found_by_whole_and_short_name() {
        let status = sample::protected();
        assert_eq!(find(&status, "ha-b.example.com"), Ok(Node::B));
        assert_eq!(find(&status, "ha-a"), Ok(Node::A));
        let error = find(&status, "ha-c").unwrap_err();
        assert!(error.contains("ha-a.example.com and ha-b.example.com"), "{error}");
    }

    #[test]
    fn hosts_with_the_same_short_name_keep_their_whole_names() {
        let mut status = sample::protected();
        status.names = ["ha.a.example".to_owned(), "ha.b.example".to_owned()];
        assert_eq!(Names::of(&status).get(Node::B), "ha.b.example");
        assert!(find(&status, "ha").is_err());
    }

    #[test]
    fn no_text_of_a_program_acts_on_the_terminal() {
        let mut status = sample::protected();
        status.because = "\x1b[2Jgone\r\n".to_owned();
        assert_eq!(harmless(status).because, " [2Jgone  ");
    }
}
