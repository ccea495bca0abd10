//! Tags as a route writes them: `category:{category_id}`.
//!
//! What stands in braces is a part of the key where the key has one of that name, and else a column of the row: only the
//! database can say whether there is such a column.

use super::pattern::PatternError;
use super::setting::Problem;

/// Most bytes of one tag as written.
const LONGEST: usize = 512;
/// Most tags that a route may write.
pub const MOST: usize = 32;

/// One of a route's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPattern {
    /// As written.
    pub text: String,
    /// What it is put together from.
    pub parts: Vec<TagPart>,
}

/// A piece of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagPart {
    /// Itself.
    Literal(String),
    /// What the key's part of this name captures.
    Parameter(String),
    /// What the row's column of this name holds.
    Column(String),
}

impl TagPattern {
    /// The columns that it is made of.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TagPart::Column(name) => Some(name.as_str()),
            TagPart::Literal(_) | TagPart::Parameter(_) => None,
        })
    }
}

/// The tag that `text` writes, for a key whose parts have these names.
pub fn parse(text: &str, names: &[&str]) -> Result<TagPattern, PatternError> {
    let whole = 0..text.len();
    if text.is_empty() {
        return Err((whole, Problem::new("an empty tag", "write one, as in \"category:{category_id}\"")));
    }
    if text.len() > LONGEST {
        return Err((whole, Problem::new(format!("a tag of more than {LONGEST} bytes"), "write a shorter one")));
    }
    let mut parts = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = match rest.strip_prefix('{') {
            None => rest.find('{').unwrap_or(rest.len()),
            Some(inside) => match inside.find(['{', '}']) {
                Some(close) if inside.as_bytes()[close] == b'}' => close + 2,
                _ => return Err((at..at + 1, Problem::new("this brace is not closed", EXAMPLE))),
            },
        };
        parts.push(part(&rest[..length], at, names)?);
        at += length;
    }
    Ok(TagPattern { text: text.to_owned(), parts })
}

const EXAMPLE: &str = "write a part of the key or a column as \"{category_id}\"";

fn part(text: &str, at: usize, names: &[&str]) -> Result<TagPart, PatternError> {
    let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        return match text.find('}') {
            Some(brace) => Err((at + brace..at + brace + 1, Problem::new("this brace was not opened", EXAMPLE))),
            None => Ok(TagPart::Literal(text.to_owned())),
        };
    };
    if name.is_empty() {
        return Err((at..at + text.len(), Problem::new("nothing stands in these braces", EXAMPLE)));
    }
    Ok(if names.contains(&name) { TagPart::Parameter(name.to_owned()) } else { TagPart::Column(name.to_owned()) })
}
