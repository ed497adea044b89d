//! SQL as statements, and what each of them can do: read, change rows that the server counts, or anything else.
//!
//! It looks at first words only; it is no parser, and what it does not know counts as a change.

/// What a statement can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Gives rows and changes nothing.
    Reads,
    /// Changes rows: the server says how many.
    Counted,
    /// Concerns this connection only.
    Connection,
    /// Changes something, or may.
    Other,
}

const READS: &[&str] = &["SELECT", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "WITH", "VALUES", "TABLE"];
const COUNTED: &[&str] = &["INSERT", "UPDATE", "DELETE", "REPLACE"];
const CONNECTION: &[&str] = &["USE", "START", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "LOCK", "UNLOCK"];
/// What `SET` may be followed by to concern this connection only; a variable of one's own begins with one `@`.
const SET_CONNECTION: &[&str] = &["SESSION", "LOCAL", "NAMES", "CHARACTER"];

/// A statement without the `;` at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) text: String,
    pub(super) effect: Effect,
}

/// The statements of a text; what is in quotes or in a comment ends none.
pub(super) fn split(sql: &str) -> Vec<Statement> {
    let mut all = Vec::new();
    let (mut text, mut code) = (String::new(), String::new());
    let mut rest = sql;
    while let Some(length) = piece(rest) {
        let (piece, after) = rest.split_at(length);
        rest = after;
        if piece == ";" {
            all.extend(statement(&text, &code));
            text.clear();
            code.clear();
            continue;
        }
        text.push_str(piece);
        // What is quoted has no words of SQL in it.
        let is_quoted = piece.len() > 1 && piece.starts_with(['\'', '"', '`']);
        code.push_str(if is_comment(piece) || is_quoted { " " } else { piece });
    }
    all.extend(statement(&text, &code));
    all
}

/// The length of what comes next as a whole: a quoted text, a comment, or one character.
fn piece(rest: &str) -> Option<usize> {
    let first = rest.chars().next()?;
    let until = |end: &str, from: usize| {
        rest.get(from..).and_then(|inner| inner.find(end)).map_or(rest.len(), |at| from + at + end.len())
    };
    Some(match first {
        '\'' | '"' | '`' => quoted(rest, first),
        '#' => until("\n", 1),
        '-' if rest.starts_with("-- ") || rest.starts_with("--\t") || rest.starts_with("--\n") => {
            until("\n", 2)
        }
        '/' if rest.starts_with("/*") => until("*/", 2),
        c => c.len_utf8(),
    })
}

/// The length of a quoted text; a backslash escapes except in names.
fn quoted(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((index, c)) = characters.next() {
        if c == '\\' && quote != '`' {
            characters.next();
        } else if c == quote {
            return index + c.len_utf8();
        }
    }
    rest.len()
}

/// `/*!` is a comment for other servers only.
fn is_comment(piece: &str) -> bool {
    (piece.starts_with('#') || piece.starts_with("--") || piece.starts_with("/*"))
        && !piece.starts_with("/*!")
}

fn statement(text: &str, code: &str) -> Option<Statement> {
    let code = code.trim();
    (!code.is_empty()).then(|| Statement { text: text.trim().to_owned(), effect: effect(code) })
}

fn effect(code: &str) -> Effect {
    let upper = code.to_ascii_uppercase();
    let is_break = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let mut words = upper.trim_start_matches(['(', ' ']).split(is_break);
    let first = words.next().unwrap_or_default();
    // `SELECT … INTO OUTFILE` writes a file.
    if READS.contains(&first) {
        return if words.any(|word| word == "INTO") { Effect::Other } else { Effect::Reads };
    }
    if COUNTED.contains(&first) {
        return Effect::Counted;
    }
    let after = upper.strip_prefix("SET").unwrap_or_default().trim_start();
    let own = after.starts_with('@') && !after.starts_with("@@");
    let is_set = first == "SET" && (own || SET_CONNECTION.iter().any(|word| after.starts_with(word)));
    if CONNECTION.contains(&first) || is_set { Effect::Connection } else { Effect::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        split(sql).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn quotes_and_comments_end_no_statement() {
        let sql = "SELECT ';', \"a\\\";b\", `x;y`; -- one; two\nSELECT 'it''s; so' /* ; */ # ;\n;;  ";
        assert_eq!(
            texts(sql),
            ["SELECT ';', \"a\\\";b\", `x;y`", "-- one; two\nSELECT 'it''s; so' /* ; */ # ;"]
        );
        assert_eq!(texts("SELECT 'open;"), ["SELECT 'open;"]);
        assert_eq!(texts(" -- nothing\n"), Vec::<String>::new());
        assert_eq!(texts("SELECT 5--1; SELECT 'ä;'"), ["SELECT 5--1", "SELECT 'ä;'"]);
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_a_change() {
        let cases = [
            ("SELECT 1", Effect::Reads),
            ("/* x */ (select 1) union (select 2)", Effect::Reads),
            ("show tables", Effect::Reads),
            ("SELECT 'INTO' FROM `into`", Effect::Reads),
            ("SELECT 1 INTO OUTFILE '/tmp/x'", Effect::Other),
            ("insert into a values (1)", Effect::Counted),
            ("UPDATE a SET b = 1", Effect::Counted),
            ("USE shop", Effect::Connection),
            ("SET @a = 1", Effect::Connection),
            ("SET NAMES utf8mb4", Effect::Connection),
            ("SET @@global.x = 1", Effect::Other),
            ("SET GLOBAL x = 1", Effect::Other),
            ("SET PASSWORD = ''", Effect::Other),
            ("CREATE TABLE a (b INT)", Effect::Other),
            ("CALL p()", Effect::Other),
            ("/*!40101 SET x = 1 */", Effect::Other),
        ];
        for (sql, wanted) in cases {
            let found: Vec<Effect> = split(sql).into_iter().map(|statement| statement.effect).collect();
            assert_eq!(found, [wanted], "{sql}");
        }
    }
}
