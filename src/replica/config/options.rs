//! What an option is: its section, its values, and whether it has an effect here.

use std::fmt;

use super::section::Section;
pub(super) use super::table::TABLE;

/// One option of the grammar.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) section: Section,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) effect: Effect,
}

/// The values of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// yes or no; alone it means yes.
    Flag,
    /// A whole number in a unit, from a range.
    Number(Unit, u64, u64),
    /// One of some words.
    Words(&'static [&'static str]),
    /// Anything.
    Text,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("yes, no"),
            Self::Number(unit, min, max) => write!(f, "{min} to {max}{}", unit.text()),
            Self::Words(words) => f.write_str(&words.join(", ")),
            Self::Text => f.write_str("one word, or text in \"quotes\""),
        }
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
    /// Tenths of a second.
    Tenths,
    /// KiB per second; K, M and G are understood.
    KibPerSecond,
    /// Bytes; K, M and G are understood.
    Bytes,
    /// Sectors of 512 bytes; s, K, M and G are understood.
    Sectors,
}

impl Unit {
    const fn text(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Seconds => " seconds, without a unit",
            Self::Tenths => " tenths of a second, without a unit",
            Self::KibPerSecond => " KiB/s, also with the suffix K, M or G",
            Self::Bytes => " bytes, also with the suffix K, M or G",
            Self::Sectors => " sectors, also with the suffix s, K, M or G",
        }
    }

    /// Reads a number with its suffix; the result is in this unit.
    pub(super) fn parse(self, text: &str) -> Option<u64> {
        let (digits, suffix) = match text.char_indices().next_back()? {
            (at, c) if c.is_ascii_alphabetic() => (text.get(..at)?, Some(c)),
            _ => (text, None),
        };
        // from_str would also take a sign.
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        let Some(suffix) = suffix else { return Some(number) };
        let bytes_of_unit = match self {
            Self::Count | Self::Seconds | Self::Tenths => return None,
            Self::KibPerSecond => 1024,
            Self::Bytes => 1,
            Self::Sectors => 512,
        };
        let factor = match suffix {
            's' if self == Self::Sectors => 512,
            'K' | 'k' => 1 << 10,
            'M' | 'm' => 1 << 20,
            'G' | 'g' => 1 << 30,
            _ => return None,
        };
        Some(number.checked_mul(factor)? / bytes_of_unit)
    }
}

/// What giving the option does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It is obeyed.
    Used,
    /// Accepted with a note: it has no effect, and why.
    Ignored(&'static str),
    /// This word is what happens anyway; anything else is accepted with a note why it has no effect.
    Fixed(&'static str, &'static str),
    /// This word is what happens anyway; anything else is refused, because ignoring it would be dangerous.
    Only(&'static str, &'static str),
}

/// The options of one section.
pub(super) fn in_section(section: Section) -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().filter(move |spec| spec.section == section)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kib_unless_said_otherwise() {
        assert_eq!(Unit::KibPerSecond.parse("250"), Some(250));
        assert_eq!(Unit::KibPerSecond.parse("10M"), Some(10240));
        assert_eq!(Unit::Sectors.parse("1K"), Some(2));
        assert_eq!(Unit::Sectors.parse("7s"), Some(7));
        assert_eq!(Unit::Bytes.parse("2k"), Some(2048));
    }

    #[test]
    fn a_time_has_no_suffix_and_no_sign() {
        assert_eq!(Unit::Seconds.parse("1s"), None);
        assert_eq!(Unit::Seconds.parse("+1"), None);
        assert_eq!(Unit::Seconds.parse(""), None);
        assert_eq!(Unit::Seconds.parse("s"), None);
        assert_eq!(Unit::Bytes.parse("99999999999999999999"), None);
        assert_eq!(Unit::Bytes.parse("9999999999999G"), None);
    }

    #[test]
    fn no_option_is_listed_twice() {
        for (i, a) in TABLE.iter().enumerate() {
            assert!(!TABLE[i + 1..].iter().any(|b| a.section == b.section && a.name == b.name), "{}", a.name);
        }
    }
}
