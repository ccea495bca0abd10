//! SQLite's SQL as a list of tokens: enough to see what stands beside a parameter, and no grammar.
//! Held by the tests of `infer`.

/// A word of SQL, as far as `infer` tells them apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A bare name or keyword.
    Word(String),
    /// A quoted name.
    Quoted(String),
    /// `?N`, counted from 0.
    Parameter(usize),
    /// A string or a number.
    Literal,
    /// An operator or punctuation.
    Sign(&'static str),
}

/// The statement's tokens, without spaces and comments.
pub(super) fn tokens(sql: &str) -> Vec<Token> {
    let mut rest = sql;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            _ if first.is_whitespace() => first.len_utf8(),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\'' => push(&mut tokens, Token::Literal, quoted(rest, '\'')),
            '"' | '`' => push_name(&mut tokens, rest, quoted(rest, first)),
            '[' => push_name(&mut tokens, rest, rest.find(']').map_or(rest.len(), |end| end + 1)),
            '?' => {
                let digits = 1 + rest[1..].chars().take_while(char::is_ascii_digit).count();
                let index = rest[1..digits].parse::<usize>().unwrap_or(0).wrapping_sub(1);
                push(&mut tokens, Token::Parameter(index), digits)
            }
            _ if first.is_ascii_digit() => {
                push(&mut tokens, Token::Literal, span(rest, |c| c.is_alphanumeric() || c == '.'))
            }
            _ if first.is_alphabetic() || first == '_' => {
                let length = span(rest, |c| c.is_alphanumeric() || c == '_' || c == '$');
                push(&mut tokens, Token::Word(rest[..length].to_owned()), length)
            }
            _ => operator(&mut tokens, rest, first),
        };
        rest = &rest[length..];
    }
    tokens
}

/// Whether it is this keyword.
pub(super) fn word(token: Option<&Token>, keyword: &str) -> bool {
    matches!(token, Some(Token::Word(name)) if name.eq_ignore_ascii_case(keyword))
}

/// Whether it is this operator or punctuation.
pub(super) fn sign(token: Option<&Token>, sign: &str) -> bool {
    matches!(token, Some(Token::Sign(other)) if *other == sign)
}

/// The name that it may be: a keyword may be one too.
pub(super) fn identifier(token: &Token) -> Option<&str> {
    match token {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        _ => None,
    }
}

fn push(tokens: &mut Vec<Token>, token: Token, length: usize) -> usize {
    tokens.push(token);
    length
}

fn push_name(tokens: &mut Vec<Token>, rest: &str, length: usize) -> usize {
    let inner = rest.get(1..length.saturating_sub(1)).unwrap_or_default().to_owned();
    push(tokens, Token::Quoted(inner), length)
}

fn operator(tokens: &mut Vec<Token>, rest: &str, first: char) -> usize {
    const KNOWN: [&str; 6] = ["==", "=", "(", ")", ",", "."];
    // `<=`, `>=` and `!=` must not leave a `=` behind that would read as equality.
    let two = ["<=", ">=", "!=", "<>", "||"].iter().any(|sign| rest.starts_with(sign));
    match KNOWN.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => push(tokens, Token::Sign(sign), sign.len()),
        None => push(tokens, Token::Sign("other"), if two { 2 } else { first.len_utf8() }),
    }
}

fn span(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !belongs(c)).unwrap_or(rest.len())
}

/// Length of a quoted text with its quotes; a doubled quote stands for itself.
fn quoted(rest: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(found) = rest[at..].find(quote) {
        at += found + 1;
        if !rest[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    rest.len()
}
