//! Statements to what they say: the grammar, section by section. Reports and goes on; never stops early.

use super::error::{ConfigError, Location, Note, Problem, Wanted, Why};
use super::options::{Effect, Kind, Spec};
use super::raw::{Given, Layer, Resource, Setting, Slot, Volume};
use super::section::{self, Section};
use super::tree::Statement;
use super::value;
use super::{Include, lexer::Word};

mod host;

/// Everything collected so far.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) errors: Vec<ConfigError>,
    pub(super) notes: Vec<Note>,
    pub(super) common: Layer,
    pub(super) resources: Vec<Resource>,
    pub(super) includes: Vec<Include>,
}

impl Collector {
    /// The statements of a file.
    pub(super) fn file(&mut self, statements: &[Statement]) {
        for statement in statements {
            match statement.name() {
                // Everything up to the end of the block or statement is to be ignored.
                "skip" => {}
                "include" => self.include(statement),
                "global" => {
                    let mut rest = Vec::new();
                    self.section(Section::Global, statement, &mut rest);
                }
                "common" => self.common(statement),
                "resource" => self.resource(statement),
                _ => self.unknown(Section::File, statement),
            }
        }
    }

    fn include(&mut self, statement: &Statement) {
        if let Some(word) = self.one(statement, Wanted::Text("one file pattern, for example \"*.res\"")) {
            self.includes.push(Include { pattern: word.text.clone(), at: word.at.clone() });
        }
    }

    fn common(&mut self, statement: &Statement) {
        let mut layer = std::mem::take(&mut self.common);
        for inner in self.block(statement) {
            if !self.layered(inner, &mut layer) {
                self.unknown(Section::Common, inner);
            }
        }
        self.common = layer;
    }

    fn resource(&mut self, statement: &Statement) {
        let name = self.name(statement, Wanted::Text(value::RESOURCE));
        if let Some(word) = name.filter(|w| !value::is_resource_name(&w.text)) {
            self.bad(word, statement.name(), Wanted::Text(value::RESOURCE));
        }
        let mut resource = Resource {
            name: name.map(|w| w.text.clone()).unwrap_or_default(),
            at: statement.at().clone(),
            volumes: Vec::new(),
            hosts: Vec::new(),
            connections: Vec::new(),
            layer: Layer::default(),
        };
        for inner in self.block(statement) {
            self.in_resource(inner, &mut resource);
        }
        if let Some(first) = self.resources.iter().find(|r| r.name == resource.name) {
            let (what, first) = (format!("resource {}", resource.name), first.at.clone());
            self.error(statement.at(), Problem::Twice { what, first });
        } else if value::is_resource_name(&resource.name) {
            self.resources.push(resource);
        }
    }

    fn in_resource(&mut self, statement: &Statement, resource: &mut Resource) {
        match statement.name() {
            "skip" => {}
            "on" => {
                let host = self.on(statement);
                resource.hosts.extend(host);
            }
            "volume" => self.volume(statement, &mut resource.volumes),
            "connection" => {
                let connection = self.connection(statement);
                resource.connections.push(connection);
            }
            "connection-mesh" => {
                let mesh = self.mesh(statement);
                resource.connections.push(mesh);
            }
            "floating" => self.refuse(statement, "name the hosts with \"on NAME { … }\""),
            "stacked-on-top-of" => self.refuse(statement, "a resource is mirrored between two hosts only"),
            "template-file" => self.refuse(statement, "write its content into this file"),
            _ if self.layered(statement, &mut resource.layer) => {}
            _ if self.in_plain_volume(statement, &mut resource.volumes) => {}
            _ => self.unknown(Section::Resource, statement),
        }
    }

    /// `volume N { … }`.
    fn volume(&mut self, statement: &Statement, volumes: &mut Vec<Volume>) {
        let number = self.name(statement, Wanted::Text(value::VOLUME));
        let parsed = number.and_then(|word| match value::number(&word.text, 65_534) {
            Some(number) => Some(number),
            None => {
                self.bad(word, "volume", Wanted::Text(value::VOLUME));
                None
            }
        });
        let mut volume = Volume::new(parsed.unwrap_or_default(), statement.at().clone());
        for inner in self.block(statement) {
            match inner.name() {
                "disk" if inner.block.is_some() => self.section(Section::Disk, inner, &mut volume.layer.disk),
                "tiebreaker" => self.note(inner, "with two nodes there is no tiebreaker"),
                _ if self.in_volume(inner, &mut volume) => {}
                _ => self.unknown(Section::Volume, inner),
            }
        }
        match volumes.iter().find(|v| v.number == volume.number) {
            Some(first) => {
                let (what, first) = (format!("volume {}", volume.number), first.at.clone());
                self.error(statement.at(), Problem::Twice { what, first });
            }
            None => volumes.push(volume),
        }
    }

    /// `device`, `disk` or `meta-disk` without a `volume` around it: volume 0.
    fn in_plain_volume(&mut self, statement: &Statement, volumes: &mut Vec<Volume>) -> bool {
        let mut volume = match volumes.iter().position(|v| v.number == 0) {
            Some(at) => volumes.swap_remove(at),
            None => Volume::new(0, statement.at().clone()),
        };
        let known = self.in_volume(statement, &mut volume);
        if volume.device.is_some() || volume.disk.is_some() || volume.meta_disk.is_some() {
            volumes.push(volume);
        }
        known
    }

    fn in_volume(&mut self, statement: &Statement, volume: &mut Volume) -> bool {
        match statement.name() {
            "device" => {
                let words: Vec<&str> = statement.rest.iter().map(|w| w.text.as_str()).collect();
                let device = self.value(statement, value::DEVICE, value::device(&words));
                self.once(statement, &mut volume.device, device);
            }
            "disk" if statement.block.is_none() => {
                let disk = self.disk(statement);
                self.once(statement, &mut volume.disk, disk);
            }
            "meta-disk" | "flexible-meta-disk" => {
                self.meta_disk(statement);
                self.once(statement, &mut volume.meta_disk, Some(()));
            }
            _ => return false,
        }
        true
    }

    fn meta_disk(&mut self, statement: &Statement) {
        if statement.rest.first().is_some_and(|word| word.text.starts_with('/')) {
            let why = "metadata lies at the end of the disk itself; write \"meta-disk internal;\"";
            return self.refuse(statement, why);
        }
        if let Some(word) = self.one(statement, Wanted::Text("internal")).filter(|w| w.text != "internal") {
            self.bad(word, statement.name(), Wanted::Text("internal"));
        }
    }

    fn disk(&mut self, statement: &Statement) -> Option<String> {
        let word = self.one(statement, Wanted::Text(value::DISK))?;
        if word.text == "none" {
            self.refuse(statement, "both hosts need a disk");
            return None;
        }
        if !value::is_plain_path(&word.text) {
            self.bad(word, "disk", Wanted::Text(value::DISK));
            return None;
        }
        Some(word.text.clone())
    }

    /// A section of options, or `protocol`, at a place that has them; `false` when it is something else.
    fn layered(&mut self, statement: &Statement, layer: &mut Layer) -> bool {
        match statement.name() {
            "protocol" => self.option(Section::Net, statement, &mut layer.net),
            "net" => self.section(Section::Net, statement, &mut layer.net),
            "disk" if statement.block.is_some() => self.section(Section::Disk, statement, &mut layer.disk),
            "options" => self.section(Section::Options, statement, &mut layer.rest),
            "startup" => self.section(Section::Startup, statement, &mut layer.rest),
            "handlers" => self.section(Section::Handlers, statement, &mut layer.rest),
            "proxy" => self.refuse(statement, "there is no proxy for slow links; remove it"),
            _ => return false,
        }
        true
    }

    fn section(&mut self, section: Section, statement: &Statement, settings: &mut Vec<Setting>) {
        if let Some(extra) = statement.rest.first() {
            let (found, name) = (extra.text.clone(), statement.name().to_owned());
            self.error(&extra.at, Problem::Extra { found, name, wanted: Wanted::Text("a block of options") });
        }
        for inner in self.block(statement) {
            self.option(section, inner, settings);
        }
    }

    fn option(&mut self, section: Section, statement: &Statement, settings: &mut Vec<Setting>) {
        let Some((spec, negated)) = section::option(section, statement.name()) else {
            return self.unknown(section, statement);
        };
        let wanted = Wanted::Option(spec.kind);
        if statement.block.is_some() {
            let name = statement.name().to_owned();
            return self.error(statement.at(), Problem::NeedsNoBlock { name, wanted });
        }
        let word = match (spec.kind, statement.rest.as_slice()) {
            (Kind::Flag, []) => if negated { "no" } else { "yes" }.to_owned(),
            _ => match self.one(statement, wanted) {
                Some(word) => word.text.clone(),
                None => return,
            },
        };
        let number = self.option_value(spec, statement, &word);
        match settings.iter().find(|s| s.name == spec.name) {
            Some(first) => {
                let (what, first) = (spec.name.to_owned(), first.at.clone());
                self.error(statement.at(), Problem::Twice { what, first });
            }
            None => {
                let (name, word, at) = (spec.name, word.to_owned(), statement.at().clone());
                settings.push(Setting { name, number, word, at });
            }
        }
    }

    /// Checks the value, and says what becomes of it. The number is there when the option is obeyed.
    fn option_value(&mut self, spec: &Spec, statement: &Statement, word: &str) -> Option<u64> {
        let number = match spec.kind {
            Kind::Number(unit, min, max) => unit.parse(word).filter(|n| (min..=max).contains(n)),
            Kind::Flag => Some(u64::from(word == "yes")),
            _ => None,
        };
        let (valid, near) = match spec.kind {
            Kind::Number(..) => (number.is_some(), None),
            Kind::Flag => (matches!(word, "yes" | "no"), None),
            Kind::Words(words) => (words.contains(&word), section::nearest(word, words.iter().copied())),
            Kind::Text => (true, None),
        };
        if !valid {
            let place = statement.rest.first().unwrap_or(&statement.head);
            let wanted = near.map_or(Wanted::Option(spec.kind), |near| Wanted::Near(spec.kind, near));
            self.bad(place, spec.name, wanted);
            return None;
        }
        match spec.effect {
            Effect::Used => return number,
            Effect::Ignored(why) => self.note(statement, why),
            Effect::Fixed(fixed, why) if word != fixed => self.note(statement, why),
            Effect::Only(only, why) if word != only => {
                // A value that can never be right may be a secret: it is not repeated.
                let subject =
                    if only.is_empty() { spec.name.to_owned() } else { format!("{} {word}", spec.name) };
                self.error(statement.at(), Problem::Refused { subject, why });
            }
            Effect::Fixed(..) | Effect::Only(..) => {}
        }
        None
    }

    /// The statements of a section's block.
    fn block<'s>(&mut self, statement: &'s Statement) -> &'s [Statement] {
        if let Some(block) = &statement.block {
            return block;
        }
        let name = statement.name().to_owned();
        self.error(statement.at(), Problem::NeedsBlock { name });
        &[]
    }

    /// The one name before a block.
    fn name<'s>(&mut self, statement: &'s Statement, wanted: Wanted) -> Option<&'s Word> {
        let name = statement.name().to_owned();
        match statement.rest.as_slice() {
            [] => self.error(statement.at(), Problem::NoValue { name, wanted }),
            [word] => return Some(word),
            [word, extra, ..] => {
                self.error(&extra.at, Problem::Extra { found: extra.text.clone(), name, wanted });
                return Some(word);
            }
        }
        None
    }

    /// The one value of a statement without a block.
    fn one<'s>(&mut self, statement: &'s Statement, wanted: Wanted) -> Option<&'s Word> {
        if statement.block.is_some() {
            let name = statement.name().to_owned();
            self.error(statement.at(), Problem::NeedsNoBlock { name, wanted });
            return None;
        }
        self.name(statement, wanted)
    }

    /// A value made of all words of a statement without a block.
    fn value<T>(&mut self, statement: &Statement, wanted: &'static str, value: Option<T>) -> Option<T> {
        let (name, wanted) = (statement.name().to_owned(), Wanted::Text(wanted));
        match (&statement.block, statement.rest.first()) {
            (Some(_), _) => self.error(statement.at(), Problem::NeedsNoBlock { name, wanted }),
            (None, None) => self.error(statement.at(), Problem::NoValue { name, wanted }),
            (None, Some(_)) if value.is_some() => return value,
            (None, Some(first)) => {
                let words: Vec<_> = statement.rest.iter().map(|w| w.text.as_str()).collect();
                self.error(&first.at, Problem::Value { name, found: words.join(" "), wanted });
            }
        }
        None
    }

    fn once<T>(&mut self, statement: &Statement, slot: &mut Slot<T>, value: Option<T>) {
        match slot {
            None => *slot = Some(Given { value, at: statement.at().clone() }),
            Some(first) => {
                let (what, first) = (statement.name().to_owned(), first.at.clone());
                self.error(statement.at(), Problem::Twice { what, first });
            }
        }
    }

    fn unknown(&mut self, section: Section, statement: &Statement) {
        let found = statement.name().to_owned();
        let advice = section.advice(&found);
        self.error(statement.at(), Problem::Unknown { found, inside: section.name(), advice });
    }

    fn refuse(&mut self, statement: &Statement, why: &'static str) {
        let words: Vec<_> =
            std::iter::once(&statement.head).chain(&statement.rest).map(|w| w.text.as_str()).collect();
        self.error(statement.at(), Problem::Refused { subject: words.join(" "), why });
    }

    fn bad(&mut self, word: &Word, name: &str, wanted: Wanted) {
        let (name, found) = (name.to_owned(), word.text.clone());
        self.error(&word.at, Problem::Value { name, found, wanted });
    }

    fn note(&mut self, statement: &Statement, why: &'static str) {
        let subject = statement.name().to_owned();
        self.notes.push(Note { at: statement.at().clone(), subject, why: Why::NoEffect(why) });
    }

    fn error(&mut self, at: &Location, problem: Problem) {
        self.errors.push(ConfigError { at: at.clone(), problem });
    }
}
