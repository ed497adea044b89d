//! Text to tokens. Knows characters, words, quotes and comments; knows no keyword.

use std::sync::Arc;

use super::error::{ConfigError, Location, Problem};

/// Longest word or quoted text, in characters (DRBD: 128 and 255).
const WORD_LIMIT: usize = 255;

/// A word with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) at: Location,
    /// Written in quotes: never a keyword.
    pub(super) quoted: bool,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// One of `{`, `}`, `;`.
    Sign(char, Location),
}

/// Cuts a text into tokens. Unusable characters are reported and skipped.
pub(super) fn tokens(file: &Arc<str>, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Token> {
    let mut lexer = Lexer { file, chars: text.chars().peekable(), line: 1, column: 1, errors, pending: None };
    let mut out = Vec::new();
    while let Some(token) = lexer.next() {
        out.push(token);
    }
    out
}

struct Lexer<'a> {
    file: &'a Arc<str>,
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: u32,
    column: u32,
    errors: &'a mut Vec<ConfigError>,
    /// The `;` at the end of a line whose quote is missing.
    pending: Option<Token>,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<Token> {
        if let Some(token) = self.pending.take() {
            return Some(token);
        }
        loop {
            let at = self.here();
            match self.peek()? {
                ' ' | '\t' | '\n' | '\r' => {
                    self.take();
                }
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.take();
                    }
                }
                sign @ ('{' | '}' | ';') => {
                    self.take();
                    return Some(Token::Sign(sign, at));
                }
                '"' => return Some(Token::Word(self.quoted(at))),
                c if is_word(c) => return Some(Token::Word(self.word(at))),
                found => {
                    self.error(at, Problem::Character { found });
                    // One message for a run of them.
                    while self.peek().is_some_and(|c| !is_word(c) && !c.is_ascii()) {
                        self.take();
                    }
                    if found.is_ascii() {
                        self.take();
                    }
                }
            }
        }
    }

    fn word(&mut self, at: Location) -> Word {
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|c| is_word(*c)) {
            text.push(c);
            self.take();
        }
        self.limit(&text, &at);
        Word { text, at, quoted: false }
    }

    fn quoted(&mut self, at: Location) -> Word {
        self.take();
        let mut text = String::new();
        loop {
            match self.peek() {
                None | Some('\n') => {
                    self.error(at.clone(), Problem::UnclosedQuote);
                    if text.ends_with(';') {
                        text.pop();
                        self.pending = Some(Token::Sign(';', self.here()));
                    }
                    break;
                }
                Some('"') => {
                    self.take();
                    break;
                }
                Some('\\') => {
                    self.take();
                    if let Some(c) = self.peek().filter(|c| *c != '\n') {
                        text.push(c);
                        self.take();
                    }
                }
                Some(c) => {
                    text.push(c);
                    self.take();
                }
            }
        }
        self.limit(&text, &at);
        Word { text, at, quoted: true }
    }

    fn limit(&mut self, text: &str, at: &Location) {
        let length = text.chars().count();
        if length > WORD_LIMIT {
            self.error(at.clone(), Problem::LongWord { length, limit: WORD_LIMIT });
        }
    }

    fn error(&mut self, at: Location, problem: Problem) {
        self.errors.push(ConfigError { at, problem });
    }

    fn here(&self) -> Location {
        Location { file: Arc::clone(self.file), line: self.line, column: self.column }
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    fn take(&mut self) {
        match self.chars.next() {
            Some('\n') => {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            }
            Some(_) => self.column = self.column.saturating_add(1),
            None => {}
        }
    }
}

/// Wider than DRBD's set, so that a mistake such as `a=b` is one word in its message.
fn is_word(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '{' | '}' | ';' | '#' | '"')
}
