//! Key patterns: `product:{id}:{*rest}`.
//!
//! A pattern begins with a literal, so that a key finds its routes by its first bytes and no route swallows every key.
//! Between two parts stands a literal, and `{*rest}` ends the pattern. `{a}-{b}` may still cut `1-2-3` in two ways:
//! which one is for the matcher to say; whether the key matches at all is not, and `shadow` relies on that.

use super::setting::Problem;
use super::{Part, Pattern};
use std::ops::Range;

/// Most bytes of a pattern. This and the next bound the work of comparing patterns with each other.
pub const LONGEST: usize = 512;
/// Most parts of a pattern.
pub const MOST_PARTS: usize = 16;

/// A [`Problem`] and the bytes of the pattern that it concerns.
pub type PatternError = (Range<usize>, Problem);

/// The pattern that `text` writes.
pub fn parse(text: &str) -> Result<Pattern, PatternError> {
    let whole = 0..text.len();
    if text.len() > LONGEST {
        return Err((whole, Problem::new(format!("a pattern of more than {LONGEST} bytes"), "write a shorter one")));
    }
    let parts = split(text)?;
    if names(&parts).count() > MOST_PARTS {
        return Err((whole, Problem::new(format!("a pattern of more than {MOST_PARTS} parts"), "write fewer")));
    }
    if !matches!(parts.first(), Some(Part::Literal(_))) {
        let problem =
            Problem::new("the pattern does not begin with a literal", "begin it with one, as in \"product:{id}\"");
        return Err((whole, problem));
    }
    Ok(Pattern { text: text.to_owned(), parts })
}

fn split(text: &str) -> Result<Vec<Part>, PatternError> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = if rest.starts_with('{') { part_length(rest, at)? } else { literal_length(rest) };
        let part = match rest.strip_prefix('{') {
            Some(inside) => named_part(&inside[..length - 2], at..at + length, &parts)?,
            None => literal(&rest[..length], at, &parts)?,
        };
        parts.push(part);
        at += length;
    }
    Ok(parts)
}

fn literal_length(rest: &str) -> usize {
    rest.find('{').unwrap_or(rest.len())
}

fn part_length(rest: &str, at: usize) -> Result<usize, PatternError> {
    match rest.find('}').filter(|close| !rest[1..*close].contains('{')) {
        Some(close) => Ok(close + 1),
        None => Err((at..at + 1, Problem::new("this brace is not closed", "write a part as \"{id}\""))),
    }
}

fn literal(text: &str, at: usize, before: &[Part]) -> Result<Part, PatternError> {
    match (text.find('}'), before.last()) {
        (Some(brace), _) => {
            let span = at + brace..at + brace + 1;
            Err((span, Problem::new("this brace was not opened", "write a part as \"{id}\"")))
        }
        (None, Some(Part::Rest(earlier))) => Err((at..at + text.len(), not_last(earlier))),
        _ => Ok(Part::Literal(text.to_owned())),
    }
}

fn not_last(rest: &str) -> Problem {
    Problem::new(format!("`{{*{rest}}}` is not the last part"), "nothing can follow it: it matches all the rest")
}

fn named_part(inside: &str, span: Range<usize>, before: &[Part]) -> Result<Part, PatternError> {
    let (name, rest) = inside.strip_prefix('*').map_or((inside, false), |name| (name, true));
    let refuse = |message: String, hint: String| Err((span.clone(), Problem::new(message, hint)));
    if !is_name(name) {
        let hint = "a name begins with a letter or `_`; letters, digits and `_` follow, as in \"{id}\"";
        return refuse(format!("`{name}` is no name of a part"), hint.into());
    }
    if names(before).any(|known| known == name) {
        return refuse(format!("`{name}` stands in the pattern twice"), "give one of them another name".into());
    }
    match before.last() {
        Some(Part::Rest(earlier)) => Err((span.clone(), not_last(earlier))),
        Some(Part::Segment(earlier)) => {
            let hint = format!("write something between them, as in \"{{{earlier}}}:{{{inside}}}\"");
            refuse(format!("nothing stands between `{{{earlier}}}` and `{{{inside}}}`"), hint)
        }
        _ if rest => Ok(Part::Rest(name.to_owned())),
        _ => Ok(Part::Segment(name.to_owned())),
    }
}

fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn names(parts: &[Part]) -> impl Iterator<Item = &str> {
    parts.iter().filter_map(|part| match part {
        Part::Literal(_) => None,
        Part::Segment(name) | Part::Rest(name) => Some(name.as_str()),
    })
}

impl Pattern {
    /// The names of the parts, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        names(&self.parts)
    }

    /// The literal that every matching key begins with; never empty.
    pub fn head(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(head)) => head,
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_literals_and_parts() {
        let parts = |text: &str| parse(text).unwrap().parts;
        let (literal, segment) = (|t: &str| Part::Literal(t.into()), |t: &str| Part::Segment(t.into()));
        assert_eq!(parts("product:count"), [literal("product:count")]);
        assert_eq!(parts("a:{id}:b-{x}"), [literal("a:"), segment("id"), literal(":b-"), segment("x")]);
        assert_eq!(parts("a{*rest}"), [literal("a"), Part::Rest("rest".into())]);
    }

    #[test]
    fn what_is_no_pattern_is_refused_at_its_place() {
        let cases = [
            ("", 0..0, "the pattern does not begin with a literal"),
            ("{id}", 0..4, "the pattern does not begin with a literal"),
            ("{*all}", 0..6, "the pattern does not begin with a literal"),
            ("a:{id", 2..3, "this brace is not closed"),
            ("a:{id:{x}", 2..3, "this brace is not closed"),
            ("a:id}", 4..5, "this brace was not opened"),
            ("a:{}", 2..4, "`` is no name of a part"),
            ("a:{1x}", 2..6, "`1x` is no name of a part"),
            ("a:{a}{b}", 5..8, "nothing stands between `{a}` and `{b}`"),
            ("a:{a}{*b}", 5..9, "nothing stands between `{a}` and `{*b}`"),
            ("a:{a}:{a}", 6..9, "`a` stands in the pattern twice"),
            ("a:{*a}:x", 6..8, "`{*a}` is not the last part"),
            ("a:{*a}:{x}", 6..7, "`{*a}` is not the last part"),
        ];
        for (text, span, message) in cases {
            let (found, problem) = parse(text).unwrap_err();
            assert_eq!((found, problem.message.as_str()), (span, message), "{text}");
        }
        let many: String = (0..=MOST_PARTS).map(|number| format!(":{{p{number}}}")).collect();
        for text in [format!("a{}", "b".repeat(LONGEST)), format!("a{many}")] {
            assert!(parse(&text).unwrap_err().1.message.starts_with("a pattern of more than "), "{text}");
        }
    }
}
