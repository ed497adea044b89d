//! The lines of a text file of the host, edited in place: what is not touched stays as it is, byte by byte.
//!
//! Lines end as those of the file do. It only works on texts; reading and replacing files is for those who use it.

use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::error::Error;

/// A text as lines that keep their ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    lines: Vec<String>,
    end: &'static str,
}

impl Text {
    /// The lines of a text; new ones will end as its first one does.
    pub(super) fn new(text: &str) -> Self {
        let lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        let end = if lines.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
        Self { lines, end }
    }

    /// How many lines there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The lines without their ends.
    pub(super) fn bare(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.lines.iter().map(|line| bare(line))
    }

    /// The last line that fits.
    pub(super) fn last(&self, fits: impl Fn(&str) -> bool) -> Option<usize> {
        self.bare().rposition(fits)
    }

    /// Puts lines in the place of a range of them; an empty range inserts.
    pub(super) fn splice(&mut self, range: Range<usize>, new: &[&str]) {
        // A last line without an end gets one when something comes after it.
        if let Some(before) = range.start.checked_sub(1).and_then(|index| self.lines.get_mut(index))
            && !new.is_empty()
            && !before.ends_with('\n')
        {
            before.push_str(self.end);
        }
        let end = self.end;
        let fits = range.start <= range.end && range.end <= self.lines.len();
        let range = if fits { range } else { self.lines.len()..self.lines.len() };
        drop(self.lines.splice(range, new.iter().map(|line| format!("{line}{end}"))));
    }

    /// Removes the lines that fit.
    pub(super) fn remove(&mut self, fits: impl Fn(&str) -> bool) {
        self.lines.retain(|line| !fits(bare(line)));
    }

    /// The block between two marks, both of its lines included. The error is the number of a stray mark, from 1.
    pub(super) fn block(&self, begin: &str, end: &str) -> Result<Option<Range<usize>>, usize> {
        let find = |wanted: &str| -> Vec<usize> {
            let lines = self.bare().enumerate().filter(|(_, line)| line.trim() == wanted);
            lines.map(|(index, _)| index).collect()
        };
        match (find(begin).as_slice(), find(end).as_slice()) {
            ([], []) => Ok(None),
            ([first], [last]) if first < last => Ok(Some(*first..last + 1)),
            (begins, ends) => Err(begins.iter().chain(ends).max().map_or(1, |index| index + 1)),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| f.write_str(line))
    }
}

fn bare(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The text of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let not_text = |_| {
        let what = format!("edit {}: it is not a text in UTF-8", path.display());
        Error::refused(what, "write the whole file with the copy module")
    };
    String::from_utf8(bytes).map(Some).map_err(not_text)
}

/// A block that has lost one of its marks, or has one twice.
pub(super) fn damaged(path: &Path, marker: &str, line: usize) -> Error {
    let what = format!("{} has a damaged block {marker} at line {line}", path.display());
    Error::refused(what, "there must be one BEGIN and one END line; correct the file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_keeps_its_bytes_and_new_lines_end_like_the_others() {
        let mut text = Text::new("a\r\n\tb \r\nlast");
        text.splice(1..1, &["new"]);
        assert_eq!(text.to_string(), "a\r\nnew\r\n\tb \r\nlast");
        text.splice(4..4, &["end"]);
        assert_eq!(text.to_string(), "a\r\nnew\r\n\tb \r\nlast\r\nend\r\n");
        text.remove(|line| line == "new");
        assert_eq!((text.len(), text.last(|line| line == "a")), (4, Some(0)));
    }

    #[test]
    fn a_file_without_a_last_line_end_stays_so_when_nothing_comes_after_it() {
        let mut text = Text::new("a\nb");
        text.splice(0..1, &["A"]);
        assert_eq!(text.to_string(), "A\nb");
        let mut empty = Text::new("");
        empty.splice(0..0, &["x"]);
        assert_eq!(empty.to_string(), "x\n");
    }

    #[test]
    fn a_block_has_one_begin_before_one_end() {
        assert_eq!(Text::new("a\n# B\nx\n # E\nb\n").block("# B", "# E"), Ok(Some(1..4)));
        assert_eq!(Text::new("a\n").block("# B", "# E"), Ok(None));
        assert_eq!(Text::new("# E\n# B\n").block("# B", "# E"), Err(2));
        assert_eq!(Text::new("# B\n# E\n# E\n").block("# B", "# E"), Err(3));
    }
}
