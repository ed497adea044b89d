//! What can be wrong with a configuration file, and how it is said.
//!
//! The first line of every message is `file:line:column: what is wrong`; indented lines tell what is allowed
//! and what was probably meant. One mistake gives one message.

use std::fmt;
use std::sync::Arc;

use super::options::Kind;

/// A place in a configuration file. Lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file's name as given to the parser.
    pub file: Arc<str>,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where.
    pub at: Location,
    /// What.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            // drbdadm's own sentence, which scripts look for, begins the line.
            Problem::NotHere { .. } => write!(f, "{}", self.problem)?,
            problem => write!(f, "{}: {problem}", self.at)?,
        }
        match &self.problem {
            Problem::NotHere { resource, hosts, node } => {
                let [a, b] = hosts;
                write!(f, "\n  {}: {resource} is defined for {a} and {b}; this host is \"{node}\"", self.at)?;
                write!(f, "\n  the names after \"on\" must equal what \"uname -n\" prints")
            }
            problem => problem.advice().map_or(Ok(()), |advice| write!(f, "\n  {advice}")),
        }
    }
}

/// The kinds of mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A character outside of the grammar.
    #[error("the character {found:?} (U+{:04X}) cannot stand here", u32::from(*.found))]
    Character {
        /// The character.
        found: char,
    },
    /// A quoted text runs over the end of its line.
    #[error("this quoted text is not closed on its line")]
    UnclosedQuote,
    /// A word or quoted text is too long.
    #[error("this word has {length} characters, {limit} are allowed")]
    LongWord {
        /// Its length.
        length: usize,
        /// The longest possible.
        limit: usize,
    },
    /// A statement runs into the next one.
    #[error("\";\" is missing after \"{after}\"")]
    MissingSemicolon {
        /// The last word of the statement.
        after: String,
    },
    /// A block's content begins without its brace.
    #[error("\"{{\" is missing after \"{after}\"")]
    MissingOpen {
        /// The last word before the content.
        after: String,
    },
    /// The file ends inside a block.
    #[error("the block of \"{opened}\" is not closed before the end of the file")]
    UnclosedBlock {
        /// The words before the brace.
        opened: String,
    },
    /// A closing brace too many.
    #[error("this \"}}\" closes nothing")]
    StrayClose,
    /// A semicolon or an opening brace with nothing before it.
    #[error("nothing stands before this \"{found}\"")]
    Nameless {
        /// The sign.
        found: char,
    },
    /// Blocks in blocks in blocks.
    #[error("blocks are nested more than {limit} deep")]
    TooDeep {
        /// The deepest possible.
        limit: usize,
    },
    /// Too many mistakes to go on.
    #[error("too many mistakes: the rest of the file was not looked at")]
    TooMany,
    /// A word that has no meaning at this place.
    #[error("\"{found}\" is unknown in {inside}")]
    Unknown {
        /// The word.
        found: String,
        /// The enclosing section.
        inside: &'static str,
        /// What helps.
        advice: Advice,
    },
    /// A statement without its value.
    #[error("\"{name}\" has no value")]
    NoValue {
        /// The statement.
        name: String,
        /// What belongs there.
        wanted: Wanted,
    },
    /// A statement with too many words.
    #[error("\"{found}\" is one word too many for \"{name}\"")]
    Extra {
        /// The first superfluous word.
        found: String,
        /// The statement.
        name: String,
        /// What belongs there.
        wanted: Wanted,
    },
    /// A section name without a block.
    #[error("\"{name}\" needs a block")]
    NeedsBlock {
        /// The section.
        name: String,
    },
    /// A plain statement with a block.
    #[error("\"{name}\" has no block")]
    NeedsNoBlock {
        /// The statement.
        name: String,
        /// What belongs there.
        wanted: Wanted,
    },
    /// A value that its statement does not take.
    #[error("\"{found}\" is no value for \"{name}\"")]
    Value {
        /// The statement.
        name: String,
        /// The value.
        found: String,
        /// What it takes.
        wanted: Wanted,
    },
    /// Something of DRBD's that this version does not do, and that must not be ignored.
    #[error("{subject} is not available in this version: {why}")]
    Refused {
        /// What was asked.
        subject: String,
        /// Why ignoring it would be wrong, and what to do.
        why: &'static str,
    },
    /// The same thing twice in one section.
    #[error("\"{what}\" is given twice")]
    Twice {
        /// What.
        what: String,
        /// Where it was first given.
        first: Location,
    },
    /// Two things that must differ are equal.
    #[error("{what} is already used")]
    Clash {
        /// What.
        what: String,
        /// Where it was first used.
        first: Location,
    },
    /// Two things that must be equal differ.
    #[error("{what} differs between the hosts: \"{found}\" here, \"{other}\" there")]
    Differs {
        /// What.
        what: &'static str,
        /// The later value.
        found: String,
        /// The earlier value.
        other: String,
        /// Where the earlier one stands.
        first: Location,
    },
    /// A necessary statement is absent.
    #[error("{inside} has no \"{what}\"")]
    Missing {
        /// The statement.
        what: &'static str,
        /// The enclosing section with its name.
        inside: String,
        /// How it could look.
        example: &'static str,
    },
    /// Not two hosts.
    #[error("resource {resource} has {found} \"on\" blocks")]
    HostCount {
        /// The resource.
        resource: String,
        /// Hosts found.
        found: usize,
    },
    /// A connection names a host that has no `on`.
    #[error("host \"{found}\" has no \"on\" block in resource {resource}")]
    UnknownHost {
        /// The name.
        found: String,
        /// The resource.
        resource: String,
        /// The defined names.
        known: Vec<String>,
    },
    /// The resource belongs to other hosts.
    #[error("'{resource}' not defined in your config (for this host).")]
    NotHere {
        /// The resource.
        resource: String,
        /// Where it is defined for.
        hosts: [String; 2],
        /// This host.
        node: String,
    },
}

impl Problem {
    /// Whether statements may have ended up in a section where they do not belong.
    pub(super) fn displaces(&self) -> bool {
        matches!(
            self,
            Self::MissingOpen { .. }
                | Self::UnclosedBlock { .. }
                | Self::StrayClose
                | Self::Nameless { found: '{' }
                | Self::TooDeep { .. }
                | Self::Unknown { advice: Advice::Belongs(_), .. }
        )
    }

    /// The indented line: what is allowed, or what to do.
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Character { found } => advice_on_character(*found).to_owned(),
            Self::UnclosedQuote => "add the closing \"".to_owned(),
            Self::MissingSemicolon { .. } => "end every statement with \";\"".to_owned(),
            Self::MissingOpen { .. } => "put a block's content between \"{\" and \"}\"".to_owned(),
            Self::UnclosedBlock { .. } => "add \"}\"".to_owned(),
            Self::StrayClose => "remove it, or look for a \"{\" that is missing above".to_owned(),
            Self::Nameless { found: ';' } => "remove it; no \";\" follows a \"}\"".to_owned(),
            Self::Nameless { .. } => "write the section's name before its block".to_owned(),
            Self::Unknown { advice, .. } => advice.to_string(),
            Self::NoValue { wanted, .. }
            | Self::Extra { wanted, .. }
            | Self::NeedsNoBlock { wanted, .. }
            | Self::Value { wanted, .. } => format!("allowed: {wanted}"),
            Self::NeedsBlock { name } => format!("write {name} {{ … }}"),
            Self::Twice { first, .. } => format!("first given at {first}; keep one of them"),
            Self::Clash { first, .. } => format!("first used at {first}"),
            Self::Differs { first, .. } => format!("the other one is at {first}; they must be the same"),
            Self::Missing { example, .. } => format!("add, for example: {example}"),
            Self::HostCount { .. } => "allowed: two, one \"on NAME { … }\" for each host".to_owned(),
            Self::UnknownHost { known, .. } => format!("defined: {}", known.join(", ")),
            Self::LongWord { .. }
            | Self::TooDeep { .. }
            | Self::TooMany
            | Self::Refused { .. }
            | Self::NotHere { .. } => return None,
        })
    }
}

fn advice_on_character(found: char) -> &'static str {
    match found {
        '“' | '”' | '„' | '‘' | '’' => "use straight quotes: \"",
        c if c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}' => "use an ordinary space",
        c if c.is_control() => "remove it",
        _ => "names and values are plain ASCII; put other text into \"quotes\"",
    }
}

/// Help for an unknown word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Spelled almost like this one.
    Near(&'static str),
    /// A statement of another section: most probably a brace is missing.
    Belongs(&'static str),
    /// An option of another section.
    OptionOf(&'static str),
    /// An old or foreign spelling.
    Instead(&'static str),
    /// Nothing similar: all that is possible.
    Allowed(Vec<&'static str>),
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near(word) => write!(f, "did you mean \"{word}\"?"),
            Self::Belongs(section) => {
                write!(f, "it belongs into {section}; is a \"{{\" or \"}}\" missing above?")
            }
            Self::OptionOf(section) => write!(f, "it belongs into {section} {{ … }}"),
            Self::Instead(text) => f.write_str(text),
            Self::Allowed(words) => write!(f, "allowed: {}", words.join(", ")),
        }
    }
}

/// What a statement takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// In words.
    Text(&'static str),
    /// An option's value.
    Option(Kind),
    /// An option's value, and the one that was probably meant.
    Near(Kind, &'static str),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Option(kind) => write!(f, "{kind}"),
            Self::Near(kind, near) => write!(f, "{kind}; did you mean \"{near}\"?"),
        }
    }
}

/// Something accepted that has no effect, or not the effect it has in DRBD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub at: Location,
    /// The statement.
    pub subject: String,
    /// What becomes of it.
    pub why: Why,
}

/// Why a statement is not followed to the letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has no effect.
    NoEffect(&'static str),
    /// Its value is lowered.
    Limited(&'static str),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::NoEffect(why) => write!(f, "{}: \"{}\" has no effect: {why}", self.at, self.subject),
            Why::Limited(why) => write!(f, "{}: \"{}\" is lowered: {why}", self.at, self.subject),
        }
    }
}
