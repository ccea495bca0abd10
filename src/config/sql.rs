//! SQL with named parameters: finds them, and nothing else.
//!
//! `:name` is a parameter. Strings, quoted names, dollar quotes, comments, `::type` casts, `:=` and array slices are left
//! alone; a colon directly after a word begins no parameter, as in `a[low:high]`. One statement only; whether it is valid
//! is for the database to say, which is why nothing here knows keywords. Held by the tests below, and by a property test
//! that no text makes it panic.

use std::ops::Range;

/// A statement taken apart at its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSql {
    /// The distinct names, without the colon, in the order of their first use.
    pub parameters: Vec<String>,
    /// Byte offset of each parameter's first use (its colon) in the text that was parsed.
    pub offsets: Vec<usize>,
    /// Text and parameters in their order.
    pub pieces: Vec<Piece>,
}

/// One piece of a [`NamedSql`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// SQL as written.
    Text(String),
    /// Index into [`NamedSql::parameters`].
    Parameter(usize),
}

/// Why a text is not one statement with named parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// Where, in bytes from the start of the text.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl NamedSql {
    /// The statement with `f(index)` written for each parameter, as `$1` or `?1` or whatever a database wants.
    pub fn render(&self, mut f: impl FnMut(usize) -> String) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Parameter(index) => f(*index),
            })
            .collect()
    }
}

/// Takes one statement apart. A trailing `;` and what follows it are dropped.
///
/// A line comment at the very end gets its newline, so that the statement may be put into parentheses.
pub fn parse(sql: &str) -> Result<NamedSql, SqlError> {
    let mut lexer = Lexer::new(sql);
    while lexer.at < lexer.bytes.len() {
        lexer.step()?;
    }
    lexer.finish()
}

struct Lexer<'a> {
    sql: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Start of the text that no piece holds yet.
    text_from: usize,
    /// Whether anything but space and comments was seen.
    seen_content: bool,
    /// Where the statement's `;` stands.
    end: Option<usize>,
    ends_in_line_comment: bool,
    named: NamedSql,
}

impl<'a> Lexer<'a> {
    fn new(sql: &'a str) -> Self {
        let named = NamedSql { parameters: Vec::new(), offsets: Vec::new(), pieces: Vec::new() };
        let (seen_content, end, ends_in_line_comment) = (false, None, false);
        Self { sql, bytes: sql.as_bytes(), at: 0, text_from: 0, seen_content, end, ends_in_line_comment, named }
    }

    /// Passes over one token, the kind of which its first two bytes decide.
    fn step(&mut self) -> Result<(), SqlError> {
        match (self.bytes[self.at], self.peek(1)) {
            (b'-', Some(b'-')) => self.line_comment(),
            (b'/', Some(b'*')) => self.block_comment()?,
            (byte, _) if byte.is_ascii_whitespace() => self.at += 1,
            (0, _) => return Err(self.error(self.at..self.at + 1, "a NUL byte in SQL", "remove it")),
            (byte, next) => self.content(byte, next)?,
        }
        Ok(())
    }

    /// Anything but space and comments.
    fn content(&mut self, byte: u8, next: Option<u8>) -> Result<(), SqlError> {
        self.begin_content(byte)?;
        match (byte, next) {
            (b';', _) => self.semicolon(),
            (b'\'', _) => self.quoted(b'\'', self.is_escape_string())?,
            (b'"' | b'`', _) => self.quoted(byte, false)?,
            (b'$', _) if !self.follows_word() => self.dollar()?,
            (b':', Some(b':')) => self.at += 2,
            (b':', Some(first)) if is_name_start(first) && !self.follows_word() => self.parameter(),
            _ => self.at += 1,
        }
        Ok(())
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    /// Nothing but space and comments may follow the statement's end.
    fn begin_content(&mut self, byte: u8) -> Result<(), SqlError> {
        self.ends_in_line_comment = false;
        if let Some(end) = self.end {
            let message = "more than one statement";
            return Err(self.error(end..end + 1, message, "write one statement, and nothing after its `;`"));
        }
        self.seen_content |= byte != b';';
        Ok(())
    }

    fn semicolon(&mut self) {
        self.end = Some(self.at);
        self.at += 1;
    }

    fn line_comment(&mut self) {
        let rest = &self.bytes[self.at..];
        let length = memchr::memchr(b'\n', rest);
        self.ends_in_line_comment = length.is_none();
        self.at += length.map_or(rest.len(), |newline| newline + 1);
    }

    /// Comments nest, as the SQL standard and PostgreSQL have it.
    fn block_comment(&mut self) -> Result<(), SqlError> {
        self.ends_in_line_comment = false;
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => (depth, self.at) = (depth + 1, self.at + 2),
                (Some(b'*'), Some(b'/')) => (depth, self.at) = (depth - 1, self.at + 2),
                (Some(_), _) => self.at += 1,
                (None, _) => {
                    return Err(self.error(start..start + 2, "this comment does not end", "close it with `*/`"));
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// A doubled quote stands for itself: it reads as one quoted text directly after another, so it needs no rule.
    fn quoted(&mut self, quote: u8, backslashes: bool) -> Result<(), SqlError> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            match byte {
                b'\\' if backslashes => self.at += 1,
                _ if byte == quote && backslashes && self.peek(0) == Some(quote) => self.at += 1,
                _ if byte == quote => return Ok(()),
                _ => {}
            }
        }
        let hint = format!("close it with `{}`", char::from(quote));
        Err(self.error(start..start + 1, "this quote does not end", &hint))
    }

    /// `E'…'`: the quote follows an `e` that is no part of a longer word.
    fn is_escape_string(&self) -> bool {
        let before = |distance: usize| self.at.checked_sub(distance).map(|index| self.bytes[index]);
        matches!(before(1), Some(b'e' | b'E')) && !before(2).is_some_and(is_word)
    }

    fn follows_word(&self) -> bool {
        self.at > 0 && is_word(self.bytes[self.at - 1])
    }

    /// `$tag$ … $tag$`, or a dollar sign that means nothing.
    fn dollar(&mut self) -> Result<(), SqlError> {
        let start = self.at;
        let tag = self.bytes[start + 1..].iter().take_while(|&&byte| is_word(byte)).count();
        if self.peek(1).is_some_and(|byte| byte.is_ascii_digit()) {
            let hint = "name it after a part of the key pattern, as in `:id`";
            return Err(self.error(start..start + 1 + tag, "a numbered parameter", hint));
        }
        if self.peek(1 + tag) != Some(b'$') {
            self.at += 1;
            return Ok(());
        }
        let fence = &self.sql[start..start + tag + 2];
        let body = start + fence.len();
        match self.sql[body..].find(fence) {
            Some(length) => {
                self.at = body + length + fence.len();
                Ok(())
            }
            None => Err(self.error(start..body, "this quote does not end", &format!("close it with `{fence}`"))),
        }
    }

    fn parameter(&mut self) {
        let start = self.at;
        let length = self.bytes[start + 1..].iter().take_while(|&&byte| is_name(byte)).count();
        let name = &self.sql[start + 1..start + 1 + length];
        self.flush_text(start);
        let index = self.named.parameters.iter().position(|known| known == name).unwrap_or_else(|| {
            self.named.parameters.push(name.to_owned());
            self.named.offsets.push(start);
            self.named.parameters.len() - 1
        });
        self.named.pieces.push(Piece::Parameter(index));
        self.at = start + 1 + length;
        self.text_from = self.at;
    }

    fn flush_text(&mut self, until: usize) {
        if until > self.text_from {
            self.named.pieces.push(Piece::Text(self.sql[self.text_from..until].to_owned()));
        }
    }

    fn finish(mut self) -> Result<NamedSql, SqlError> {
        if !self.seen_content {
            return Err(self.error(0..self.sql.len(), "no statement", "write a SELECT"));
        }
        self.flush_text(self.end.unwrap_or(self.sql.len()));
        if self.end.is_none() && self.ends_in_line_comment {
            self.named.pieces.push(Piece::Text("\n".into()));
        }
        Ok(self.named)
    }

    fn error(&self, span: Range<usize>, message: &str, hint: &str) -> SqlError {
        SqlError { span, message: message.into(), hint: hint.into() }
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What a word of SQL may consist of: every letter outside ASCII too.
fn is_word(byte: u8) -> bool {
    is_name(byte) || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbered(sql: &str) -> String {
        parse(sql).unwrap().render(|index| format!("${}", index + 1))
    }

    fn unchanged(sql: &str) {
        let named = parse(sql).unwrap();
        assert_eq!(named.parameters, Vec::<String>::new(), "{sql}");
        assert_eq!(named.render(|_| unreachable!()), sql);
    }

    #[test]
    fn parameters_are_numbered_by_their_first_use() {
        let named = parse("SELECT :b, :a, :b FROM t WHERE x=:a").unwrap();
        assert_eq!(named.parameters, ["b", "a"]);
        assert_eq!(named.offsets, [7, 11]);
        assert_eq!(numbered("SELECT :b, :a, :b FROM t WHERE x=:a"), "SELECT $1, $2, $1 FROM t WHERE x=$2");
    }

    #[test]
    fn casts_slices_and_assignments_are_no_parameters() {
        unchanged("SELECT '1'::int, a[1:2], a[low:high], a[:2], x := 1");
        assert_eq!(numbered("SELECT :id::bigint"), "SELECT $1::bigint");
        assert_eq!(numbered("SELECT (:id)::text || :id::text"), "SELECT ($1)::text || $1::text");
        assert_eq!(numbered("f(x => :id,y=>:id_2)"), "f(x => $1,y=>$2)");
    }

    #[test]
    fn quoted_text_is_left_alone() {
        unchanged("SELECT ':a', 'it''s :b', \":c\", \"q\"\":d\", `:e`");
        unchanged(r"SELECT E'\':a', e'''\\:b'");
        unchanged("SELECT $$ :a ' $$, $tag$ :b $$ :c $tag$");
        assert_eq!(numbered(r"SELECT 'a\', :id, table'x', :id"), r"SELECT 'a\', $1, table'x', $1");
        assert_eq!(numbered("SELECT a$b, :id, 'ü:x', ü$$"), "SELECT a$b, $1, 'ü:x', ü$$");
    }

    #[test]
    fn comments_are_left_alone_and_nest() {
        unchanged("SELECT 1 -- :a '\n, 2 /* :b /* ' */ :c */");
        assert_eq!(numbered("SELECT 5 - -:id -- :x"), "SELECT 5 - -$1 -- :x\n");
    }

    #[test]
    fn a_final_semicolon_is_dropped() {
        assert_eq!(numbered("SELECT :id ; -- done\n /* really */ "), "SELECT $1 ");
    }

    fn refused(sql: &str, span: Range<usize>, message: &str) {
        let error = parse(sql).unwrap_err();
        assert_eq!((error.span, error.message.as_str()), (span, message), "{sql}");
    }

    #[test]
    fn what_is_not_one_statement_is_refused() {
        refused("SELECT 1; SELECT 2", 8..9, "more than one statement");
        refused("SELECT 1;;", 8..9, "more than one statement");
        refused(" -- nothing", 0..11, "no statement");
        refused(";", 0..1, "no statement");
        refused("SELECT 'a", 7..8, "this quote does not end");
        refused("SELECT $x$ a $$", 7..10, "this quote does not end");
        refused("SELECT /* a /* */", 7..9, "this comment does not end");
        refused("SELECT $1", 7..9, "a numbered parameter");
        refused("SELECT \0", 7..8, "a NUL byte in SQL");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_pieces_are_the_text(sql in "[a-zE:;'\"$*/\\\\ \\-\n1ü]{0,40}") {
            if let Ok(named) = parse(&sql) {
                let again = named.render(|index| format!(":{}", named.parameters[index]));
                prop_assert!(sql.starts_with(again.trim_end_matches('\n')));
            }
        }
    }
}
