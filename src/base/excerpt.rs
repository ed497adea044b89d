//! One line of a file with a mark below the column that is meant, as plain text for a terminal.
//!
//! What a terminal would take as an order, or not show at all, is replaced; tabs become spaces; characters of two columns
//! count as such; a long line is cut around the mark.

use std::fmt;

use unicode_width::UnicodeWidthChar as _;

use crate::problem::Place;

/// Most columns of the line itself: with the number before it, what most terminals show.
const COLUMNS: usize = 100;
/// Where the mark stands in a line that is cut before it.
const MARK_COLUMN: usize = 60;
const TAB: &str = "    ";
const CUT: &str = "…";
const REPLACED: &str = "\u{fffd}";

/// The line, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excerpt {
    number: usize,
    line: String,
    /// Columns before the mark.
    before: usize,
}

impl Excerpt {
    /// The line of a place; none when the text has no such line.
    #[must_use]
    pub fn of(place: &Place, text: &str) -> Option<Self> {
        let line = text.lines().nth(place.line.checked_sub(1)?)?.trim_end();
        let cells: Vec<Cell> = line.chars().map(Cell::of).collect();
        let mark = place.column.saturating_sub(1).min(cells.len());
        let width = |cells: &[Cell]| cells.iter().map(|cell| cell.columns).sum::<usize>();
        let (head, tail) = cells.split_at(mark);
        let mut before = width(head);
        let mut shown = String::new();
        let mut first = 0;
        if before + width(tail) > COLUMNS && before > MARK_COLUMN {
            let mut spare = before - MARK_COLUMN + 1;
            for cell in head {
                if spare == 0 {
                    break;
                }
                spare = spare.saturating_sub(cell.columns);
                first += 1;
            }
            before = width(head.get(first..)?) + 1;
            shown.push_str(CUT);
        }
        let mut room = COLUMNS - usize::from(first > 0);
        let mut rest = width(cells.get(first..)?);
        for cell in cells.iter().skip(first) {
            // The last column is for the sign that more follows.
            if rest > room && cell.columns + 1 > room {
                shown.push_str(CUT);
                break;
            }
            shown.push_str(&cell.text);
            (room, rest) = (room - cell.columns, rest - cell.columns);
        }
        Some(Self { number: place.line, line: shown, before })
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.to_string();
        let margin = " ".repeat(number.len());
        let before = " ".repeat(self.before);
        write!(f, "  {number} | {}\n  {margin} | {before}^", self.line)
    }
}

/// A character as it is shown.
struct Cell {
    text: String,
    columns: usize,
}

impl Cell {
    fn of(c: char) -> Self {
        let text = match c {
            '\t' => TAB.to_owned(),
            // These turn the direction of what follows, or are there without being seen.
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => REPLACED.to_owned(),
            c if c.is_control() => REPLACED.to_owned(),
            c => c.to_string(),
        };
        let columns = text.chars().map(|c| c.width().unwrap_or(0)).sum();
        Self { text, columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize, column: usize) -> String {
        let place = Place { file: "a.yml".into(), line, column };
        Excerpt::of(&place, text).map(|excerpt| excerpt.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_mark_is_below_its_column() {
        assert_eq!(shown("a: 1\nbc: 2\n", 2, 5), "  2 | bc: 2\n    |     ^");
        assert_eq!(shown("a: 1\n", 1, 99), "  1 | a: 1\n    |     ^", "at the end of the line");
        assert_eq!(shown("a: 1\n", 7, 1), "", "there is no such line");
        assert_eq!(shown("a: 1\n", 0, 0), "", "the file as a whole");
        assert_eq!(shown(&"\n".repeat(11), 10, 1), "  10 | \n     | ^");
    }

    #[test]
    fn tabs_wide_and_combining_characters_keep_the_mark_in_its_place() {
        assert_eq!(shown("\ta: b", 1, 2), "  1 |     a: b\n    |     ^");
        assert_eq!(shown("双子: x", 1, 5), "  1 | 双子: x\n    |       ^");
        assert_eq!(shown("e\u{301}: x", 1, 5), "  1 | e\u{301}: x\n    |    ^");
    }

    #[test]
    fn nothing_is_an_order_for_the_terminal() {
        assert_eq!(shown("a\u{1b}[31m: x", 1, 1), "  1 | a\u{fffd}[31m: x\n    | ^");
        assert_eq!(shown("a\u{202e}b", 1, 3), "  1 | a\u{fffd}b\n    |   ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let line = format!("{}X{}", "a".repeat(200), "双".repeat(200));
        let text = shown(&line, 1, 201);
        let (line, mark) = text.split_once('\n').unwrap();
        assert_eq!(line.find('X').map(|at| line[..at].chars().count()), mark.find('^'));
        let columns: usize = line.chars().map(|c| c.width().unwrap_or(0)).sum();
        assert!(line.starts_with("  1 | …a") && line.ends_with('…') && columns <= 6 + COLUMNS, "{text}");
        let short = shown(&"b".repeat(300), 1, 1);
        assert!(short.starts_with("  1 | bb") && short.contains("b…\n"), "{short}");
        let whole = "c".repeat(COLUMNS);
        assert_eq!(shown(&whole, 1, 100), format!("  1 | {whole}\n    | {}^", " ".repeat(99)));
    }
}
