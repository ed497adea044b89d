//! Lines of a page of text: columns, and sentences that are broken between words.

use super::tone::{Paint, Tone};

/// Columns unless the terminal is wider.
pub(crate) const COLUMNS: usize = 80;
/// Longer lines are hard to read.
const MOST_COLUMNS: usize = 110;

/// A page that grows.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    width: usize,
    paint: Paint,
}

impl Page {
    /// An empty page.
    pub(crate) const fn new(width: usize, paint: Paint) -> Self {
        Self { text: String::new(), width, paint }
    }

    /// As wide as the terminal on stdout, within reason.
    pub(crate) fn stdout() -> Self {
        let columns = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| size.ws_col);
        Self::new(usize::from(columns).clamp(COLUMNS, MOST_COLUMNS), Paint::stdout())
    }

    /// All of it.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// An empty line, except at the top.
    pub(crate) fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    /// A line of its own.
    pub(crate) fn heading(&mut self, text: &str) {
        self.gap();
        self.text.push_str(&self.paint.text(Tone::Strong, text));
        self.text.push('\n');
    }

    /// A line of cells, each as wide as it says; the last one is not padded.
    pub(crate) fn row(&mut self, cells: &[(usize, Tone, &str)]) {
        let start = self.text.len();
        for (width, tone, text) in cells {
            self.text.push_str(&self.paint.text(*tone, text));
            let pad = width.saturating_sub(text.chars().count());
            self.text.extend(std::iter::repeat_n(' ', pad));
        }
        let end = self.text.trim_end_matches(' ').len().max(start);
        self.text.truncate(end);
        self.text.push('\n');
    }

    /// A sentence after a label, broken between words and indented to where it began.
    pub(crate) fn sentence(&mut self, label: &[(usize, Tone, &str)], tone: Tone, text: &str) {
        let indent: usize = label.iter().map(|(width, _, text)| (*width).max(text.chars().count())).sum();
        let mut first = true;
        for line in wrap(text, self.width.saturating_sub(indent)) {
            let blank = (indent, Tone::Plain, "");
            let mut cells: Vec<_> = if first { label.to_vec() } else { vec![blank] };
            cells.push((0, tone, line.as_str()));
            self.row(&cells);
            first = false;
        }
    }
}

/// Breaks a text between words; a word longer than a line stands alone. Never empty.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && longer > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// At most this many characters; what is cut off is told by `…`.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_broken_between_words_and_indented() {
        let mut page = Page::new(20, Paint(false));
        page.sentence(&[(8, Tone::Plain, "  a")], Tone::Plain, "one two three four");
        assert_eq!(page.finish(), "  a     one two\n        three four\n");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let mut page = Page::new(20, Paint(true));
        page.row(&[(5, Tone::Good, "ab"), (0, Tone::Plain, "c")]);
        assert_eq!(page.finish(), "\x1b[32mab\x1b[0m   c\n");
    }

    #[test]
    fn what_is_cut_off_is_told() {
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("abcd", 4), "abcd");
    }
}
