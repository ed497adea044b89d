//! Tokens to statements: words, then `;` or a block. Finds missing and superfluous signs and goes on.
//!
//! The whole grammar has this one shape, so that everything else works on statements whose borders are sure.

use super::error::{ConfigError, Location, Problem};
use super::lexer::{Token, Word};
use super::section;

/// Deepest nesting; the grammar needs five (resource, connection, volume, disk).
const DEPTH_LIMIT: usize = 8;

/// `words ;` or `words { block }`. There is at least one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) head: Word,
    /// The words after the first.
    pub(super) rest: Vec<Word>,
    pub(super) block: Option<Vec<Statement>>,
}

impl Statement {
    pub(super) fn name(&self) -> &str {
        &self.head.text
    }

    pub(super) fn at(&self) -> &Location {
        &self.head.at
    }

    fn text(&self) -> String {
        let words: Vec<_> = std::iter::once(&self.head).chain(&self.rest).map(|w| w.text.as_str()).collect();
        words.join(" ")
    }

    fn last(&self) -> &Word {
        self.rest.last().unwrap_or(&self.head)
    }
}

/// Builds the statements of one file.
pub(super) fn statements(tokens: Vec<Token>, errors: &mut Vec<ConfigError>) -> Vec<Statement> {
    let mut builder = Builder { tokens: tokens.into_iter().peekable(), errors };
    builder.list(0).0
}

struct Builder<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    errors: &'a mut Vec<ConfigError>,
}

/// How a list of statements ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    File,
}

impl Builder<'_> {
    fn list(&mut self, depth: usize) -> (Vec<Statement>, End) {
        let mut out = Vec::new();
        loop {
            match self.tokens.next() {
                None => return (out, End::File),
                Some(Token::Sign('}', _)) if depth > 0 => return (out, End::Closed),
                Some(Token::Sign('}', at)) => self.error(at, Problem::StrayClose),
                Some(Token::Sign('{', at)) => {
                    self.error(at.clone(), Problem::Nameless { found: '{' });
                    self.block(depth, at);
                }
                Some(Token::Sign(found, at)) => self.error(at, Problem::Nameless { found }),
                Some(Token::Word(head)) => out.push(self.statement(head, depth)),
            }
        }
    }

    /// Everything from the first word to `;`, a block, or where one of them should have been.
    fn statement(&mut self, head: Word, depth: usize) -> Statement {
        let mut statement = Statement { head, rest: Vec::new(), block: None };
        loop {
            match self.tokens.peek() {
                Some(Token::Sign(';', _)) => {
                    self.tokens.next();
                    return statement;
                }
                Some(Token::Sign('{', at)) => {
                    let at = at.clone();
                    self.tokens.next();
                    self.open(&mut statement, depth, at);
                    return statement;
                }
                Some(Token::Word(word)) if !begins_next(&statement, word) => {
                    let word = word.clone();
                    self.tokens.next();
                    statement.rest.push(word);
                }
                Some(Token::Word(_)) if section::opens_block(statement.name(), statement.rest.len()) => {
                    let Word { text: after, at, .. } = statement.last().clone();
                    self.error(at.clone(), Problem::MissingOpen { after });
                    self.open(&mut statement, depth, at);
                    return statement;
                }
                // The next statement, "}" or the end of the file, and no ";" before it.
                _ => {
                    let Word { text: after, at, .. } = statement.last().clone();
                    self.error(at, Problem::MissingSemicolon { after });
                    return statement;
                }
            }
        }
    }

    fn open(&mut self, statement: &mut Statement, depth: usize, at: Location) {
        let (block, end) = self.block(depth, at);
        if end == End::File {
            let opened = statement.text();
            self.error(statement.at().clone(), Problem::UnclosedBlock { opened });
        }
        statement.block = Some(block);
    }

    /// The content of a block whose opening brace, taken already, stood `at`.
    fn block(&mut self, depth: usize, at: Location) -> (Vec<Statement>, End) {
        if depth < DEPTH_LIMIT {
            return self.list(depth + 1);
        }
        self.error(at, Problem::TooDeep { limit: DEPTH_LIMIT });
        let mut open = 1_usize;
        for token in self.tokens.by_ref() {
            match token {
                Token::Sign('{', _) => open += 1,
                Token::Sign('}', _) => open -= 1,
                _ => {}
            }
            if open == 0 {
                return (Vec::new(), End::Closed);
            }
        }
        (Vec::new(), End::File)
    }

    fn error(&mut self, at: Location, problem: Problem) {
        self.errors.push(ConfigError { at, problem });
    }
}

/// Whether a word on a new line is the begin of another statement: a keyword, at the begin of a line.
fn begins_next(statement: &Statement, word: &Word) -> bool {
    !word.quoted && word.at.line > statement.last().at.line && section::is_keyword(&word.text)
}
