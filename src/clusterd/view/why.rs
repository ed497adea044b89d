//! The text of `futago cluster why`: what is decided, what is refused, and by which fact, a sentence each.

use cluster::control::Status;

use super::facts;
use super::page::Page;
use super::tone::Tone;
use super::words::{self, Names};

/// Writes the reasons.
pub(crate) fn write(page: &mut Page, status: &Status) {
    let names = Names::of(status);
    let tone = Tone::verdict(status.verdict);
    page.sentence(&[(0, tone, words::verdict(status.verdict)), (2, tone, ":")], Tone::Plain, &status.because);
    list(page, Tone::Plain, status.doing.iter().map(|doing| format!("now: {doing}")));
    // Problems of this host follow with its name.
    let problems = &status.local.health.problems;
    list(page, Tone::Plain, status.why.iter().filter(|why| !problems.contains(why)).cloned());
    let no = status.can.iter().filter(|ability| !ability.yes);
    list(page, Tone::Warn, no.map(|ability| format!("cannot {}: {}", ability.what, ability.because)));
    list(page, Tone::Warn, facts::intents(status, &names).into_iter().map(|(_, text)| text));
    list(page, Tone::Warn, facts::problems(status, &names));
    page.heading("These rest on");
    list(page, Tone::Plain, evidence(status, &names));
}

fn list(page: &mut Page, tone: Tone, sentences: impl IntoIterator<Item = String>) {
    for sentence in sentences {
        page.sentence(&[(4, Tone::Plain, "  -")], tone, &sentence);
    }
}

/// The facts that every decision rests on.
fn evidence(status: &Status, names: &Names) -> Vec<String> {
    let peer = names.get(status.node.peer());
    let (third, role, heard) = facts::third(status);
    vec![
        format!("the record: {}", facts::record(status, names).1),
        format!("{}: {}", names.get(status.node), facts::lease(status).1),
        format!("{peer}: {}", facts::heard(status, status.peer_heard_ms_ago).1),
        [third, ": ", &role.1, if heard.1.is_empty() { "" } else { ", " }, &heard.1].concat(),
        format!("replication: {}", facts::replication(status, names).1),
        format!(
            "a member that is silent for {} counts as gone; a silent primary's lease is over after {}",
            words::time(status.timing.peer_silence_ms),
            words::time(status.timing.grant_hold_ms),
        ),
    ]
}
