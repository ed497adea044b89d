//! Which statement may stand where, and help for words that may not.

use super::error::Advice;
use super::options::{self, Spec};

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    File,
    Global,
    Common,
    Resource,
    On,
    Volume,
    Connection,
    Path,
    Mesh,
    Net,
    Disk,
    Options,
    Startup,
    Handlers,
}

impl Section {
    const ALL: [Self; 14] = [
        Self::File,
        Self::Global,
        Self::Common,
        Self::Resource,
        Self::On,
        Self::Volume,
        Self::Connection,
        Self::Path,
        Self::Mesh,
        Self::Net,
        Self::Disk,
        Self::Options,
        Self::Startup,
        Self::Handlers,
    ];

    /// As named in messages.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::File => "the file",
            Self::Global => "global",
            Self::Common => "common",
            Self::Resource => "resource",
            Self::On => "on",
            Self::Volume => "volume",
            Self::Connection => "connection",
            Self::Path => "path",
            Self::Mesh => "connection-mesh",
            Self::Net => "net",
            Self::Disk => "disk",
            Self::Options => "options",
            Self::Startup => "startup",
            Self::Handlers => "handlers",
        }
    }

    /// The statements it may hold, besides options.
    const fn statements(self) -> &'static [&'static str] {
        match self {
            Self::File => &["global", "common", "resource", "include", "skip"],
            Self::Common => &["protocol", "net", "disk", "options", "startup", "handlers", "proxy"],
            Self::Resource => &[
                "protocol",
                "volume",
                "on",
                "net",
                "disk",
                "device",
                "meta-disk",
                "flexible-meta-disk",
                "connection",
                "connection-mesh",
                "options",
                "startup",
                "handlers",
                "proxy",
                "floating",
                "stacked-on-top-of",
                "template-file",
                "skip",
            ],
            Self::On => &[
                "address",
                "node-id",
                "volume",
                "device",
                "disk",
                "meta-disk",
                "flexible-meta-disk",
                "options",
                "proxy",
            ],
            Self::Volume => &["device", "disk", "meta-disk", "flexible-meta-disk", "tiebreaker"],
            Self::Connection => &["host", "path", "net", "disk", "volume"],
            Self::Path => &["host"],
            Self::Mesh => &["hosts", "net"],
            Self::Global | Self::Net | Self::Disk | Self::Options | Self::Startup | Self::Handlers => &[],
        }
    }

    /// Everything that may stand in it.
    fn words(self) -> impl Iterator<Item = &'static str> {
        self.statements().iter().copied().chain(options::in_section(self).map(|spec| spec.name))
    }

    /// What to say about a word that may not stand in it.
    pub(super) fn advice(self, found: &str) -> Advice {
        if let Some(text) = instead(found) {
            return Advice::Instead(text);
        }
        // A section is tried before a spelling: `on` inside `volume` is a missing brace, not a typing mistake.
        if let Some(section) = Self::ALL.iter().find(|s| s.statements().contains(&found)) {
            return Advice::Belongs(section.name());
        }
        if let Some(section) = Self::ALL.iter().find(|s| option(**s, found).is_some()) {
            return Advice::OptionOf(section.name());
        }
        match nearest(found, self.words()) {
            Some(word) => Advice::Near(word),
            None => Advice::Allowed(self.words().collect()),
        }
    }
}

/// Old and foreign spellings.
fn instead(found: &str) -> Option<&'static str> {
    if found.contains('=') {
        return Some("write NAME VALUE; without \"=\"");
    }
    Some(match found {
        "syncer" => "DRBD 8.3's syncer is gone: resync-rate and al-extents go into disk, verify-alg into net",
        "rate" => "the resync's speed is \"resync-rate\" in disk",
        "host-id" => "the number of a host is \"node-id\"",
        "meta_disk" | "metadisk" => "did you mean \"meta-disk\"?",
        _ => return None,
    })
}

/// Whether `name` with `values` words after it can only be the begin of a block.
pub(super) fn opens_block(name: &str, values: usize) -> bool {
    match name {
        "global" | "common" | "resource" | "on" | "volume" | "net" | "options" | "startup" | "handlers"
        | "connection" | "path" | "connection-mesh" => true,
        "disk" => values == 0,
        _ => false,
    }
}

/// Whether a word begins a statement somewhere.
pub(super) fn is_keyword(word: &str) -> bool {
    Section::ALL.iter().any(|s| s.statements().contains(&word))
        || options::TABLE.iter().any(|s| s.name == word)
}

/// An option of a section, also in the old form `no-NAME` of a yes/no option; the second is whether it was that.
pub(super) fn option(section: Section, name: &str) -> Option<(&'static Spec, bool)> {
    let find = |name: &str| options::in_section(section).find(|spec| spec.name == name);
    if let Some(spec) = find(name) {
        return Some((spec, false));
    }
    let spec = find(name.strip_prefix("no-")?)?;
    (spec.kind == options::Kind::Flag).then_some((spec, true))
}

/// The candidate that `found` was probably meant to be.
pub(super) fn nearest(found: &str, words: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let limit = match found.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let scored = words.map(|word| (distance(&found.to_ascii_lowercase(), &word.to_ascii_lowercase()), word));
    scored.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(ca != cb)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                let swap: &Vec<usize> = &before;
                best = best.min(swap[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_is_one_mistake() {
        assert_eq!(distance("ping-itn", "ping-int"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn a_near_name_is_proposed_and_a_far_one_is_not() {
        assert_eq!(nearest("al-extent", ["al-extents", "al-updates"].into_iter()), Some("al-extents"));
        assert_eq!(nearest("weather", ["al-extents", "on"].into_iter()), None);
    }
}
