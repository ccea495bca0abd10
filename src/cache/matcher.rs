//! Matches keys against a pattern in one pass.
//!
//! A `{x}` never holds a ':', so pattern and key are cut at their colons and compared group by group. Within a group
//! every `{x}` takes as little as it can, but for the last literal, which must end the group: as a shell's glob is
//! matched, without going back, in time linear in the key.

use crate::config::{Part, Pattern};

/// A compiled [`Pattern`].
#[derive(Debug)]
pub struct Matcher {
    groups: Vec<Group>,
    /// The last group ends in `{*x}`, which takes the rest of the key, colons and all.
    open: bool,
    /// The pattern is a literal and one segment: that literal.
    simple: Option<Box<[u8]>>,
}

/// What stands between two colons: `head`, then segments, each followed by a literal (perhaps empty).
#[derive(Debug, Default)]
struct Group {
    head: Vec<u8>,
    after: Vec<Vec<u8>>,
}

impl Matcher {
    /// Compiles a pattern that the configuration has checked.
    pub fn new(pattern: &Pattern) -> Self {
        let mut groups = vec![Group::default()];
        let mut open = false;
        for part in &pattern.parts {
            let group = groups.last_mut().expect("there is always a group");
            match part {
                Part::Literal(text) => push_literal(&mut groups, text),
                Part::Segment(_) => group.after.push(Vec::new()),
                Part::Rest(_) => {
                    group.after.push(Vec::new());
                    open = true;
                }
            }
        }
        let simple = match &pattern.parts[..] {
            [Part::Literal(text), Part::Segment(_)] => Some(text.as_bytes().into()),
            _ => None,
        };
        Matcher { groups, open, simple }
    }

    /// Whether the key matches. One that is not UTF-8 does not.
    #[inline]
    pub fn matches(&self, key: &[u8]) -> bool {
        match &self.simple {
            Some(literal) => key.starts_with(literal) && is_segment(key, literal.len()),
            None => self.walk(key, &mut |_| ()) && std::str::from_utf8(key).is_ok(),
        }
    }

    /// If the pattern is a literal and one segment: the length of that literal.
    pub fn simple(&self) -> Option<usize> {
        self.simple.as_ref().map(|literal| literal.len())
    }

    /// Whether the key matches; hands each captured part to `on_part`, in the order of the pattern. Parts handed over
    /// before a mismatch is found mean nothing.
    pub fn walk<'k>(&self, key: &'k [u8], on_part: &mut impl FnMut(&'k [u8])) -> bool {
        let last = self.groups.len() - 1;
        let mut rest = Some(key);
        for (index, group) in self.groups.iter().enumerate() {
            let Some(text) = rest else { return false };
            let (text, following) = match memchr::memchr(b':', text) {
                Some(colon) if !(self.open && index == last) => (&text[..colon], Some(&text[colon + 1..])),
                _ => (text, None),
            };
            if !group.walk(text, on_part) {
                return false;
            }
            rest = following;
        }
        rest.is_none()
    }
}

/// Whether a segment may take all of a key from its byte `at` on. Eight bytes are looked at together; most texts are ASCII,
/// and two words long at most.
#[inline]
pub fn is_segment(key: &[u8], at: usize) -> bool {
    let (Some(text), Some(last)) = (key.get(at..), key.last_chunk()) else { return is_odd_segment(key, at) };
    let last = u64::from_le_bytes(*last);
    let is_plain = match (text.len(), text.first_chunk()) {
        // Of the key's last eight bytes, those that are the segment's.
        (length @ 1..8, _) => !needs_care(last >> (u64::BITS - 8 * length as u32)),
        (8..=16, Some(first)) => !(needs_care(u64::from_le_bytes(*first)) | needs_care(last)),
        _ => false,
    };
    is_plain || is_odd_segment(key, at)
}

/// Whether a ':' is among these eight bytes, or one that is not ASCII.
#[inline]
fn needs_care(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    // A colon becomes zero, and a byte of ASCII is zero if taking one from it borrows.
    let colons = word ^ (ONES * b':' as u64);
    (colons.wrapping_sub(ONES) & !colons | word) & HIGH != 0
}

/// Whether a segment may take it, whatever it is: see [`is_segment`]. Apart, for most are decided before.
#[inline(never)]
fn is_odd_segment(key: &[u8], at: usize) -> bool {
    let Some(text) = key.get(at..).filter(|text| !text.is_empty()) else { return false };
    let (words, _) = text.as_chunks();
    let mut words = words.iter().chain(text.last_chunk()).map(|word| u64::from_le_bytes(*word));
    // There is no word in fewer.
    let is_plain = text.len() >= 8 && !words.any(needs_care);
    is_plain || memchr::memchr(b':', text).is_none() && std::str::from_utf8(text).is_ok()
}

/// The first eight bytes, or zeros where there are no more.
#[inline]
pub fn first_eight(text: &[u8]) -> u64 {
    match text.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => first_few(text),
    }
}

/// Apart, for most keys have eight.
#[inline(never)]
fn first_few(text: &[u8]) -> u64 {
    text.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

fn push_literal(groups: &mut Vec<Group>, text: &str) {
    for (index, piece) in text.split(':').enumerate() {
        if index > 0 {
            groups.push(Group::default());
        }
        let group = groups.last_mut().expect("there is always a group");
        group.after.last_mut().unwrap_or(&mut group.head).extend_from_slice(piece.as_bytes());
    }
}

impl Group {
    fn walk<'k>(&self, text: &'k [u8], on_part: &mut impl FnMut(&'k [u8])) -> bool {
        let Some(mut rest) = text.strip_prefix(self.head.as_slice()) else { return false };
        let Some((last, before)) = self.after.split_last() else { return rest.is_empty() };
        for literal in before {
            let found = rest.get(1..).and_then(|tail| memchr::memmem::find(tail, literal));
            let Some(end) = found.map(|position| position + 1) else { return false };
            on_part(&rest[..end]);
            rest = &rest[end + literal.len()..];
        }
        let Some(part) = rest.strip_suffix(last.as_slice()).filter(|part| !part.is_empty()) else { return false };
        on_part(part);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(parts: &[Part]) -> Matcher {
        Matcher::new(&Pattern { text: String::new(), parts: parts.to_vec() })
    }

    fn captured(matcher: &Matcher, key: &str) -> Option<Vec<String>> {
        let mut parts = Vec::new();
        let matched = matcher.walk(key.as_bytes(), &mut |part| parts.push(String::from_utf8_lossy(part).into_owned()));
        matched.then_some(parts)
    }

    fn segment(name: &str) -> Part {
        Part::Segment(name.into())
    }

    fn literal(text: &str) -> Part {
        Part::Literal(text.into())
    }

    #[test]
    fn segments_hold_no_colon_and_are_never_empty() {
        let product = matcher(&[literal("product:"), segment("id")]);
        assert_eq!(captured(&product, "product:42").unwrap(), ["42"]);
        for key in ["product:", "product:1:2", "products:1", "product", ""] {
            assert_eq!(captured(&product, key), None, "{key}");
        }
    }

    #[test]
    fn a_simple_pattern_matches_as_any_other() {
        for head in ["", "p:", "product:", "the:product:"] {
            let simple = matcher(&[literal(head), segment("id")]);
            let slow = |key: &[u8]| simple.walk(key, &mut |_| ()) && std::str::from_utf8(key).is_ok();
            for length in 0..30 {
                let key = [head.as_bytes(), &vec![b'x'; length]].concat();
                assert_eq!(simple.matches(&key), slow(&key), "{length}");
                for at in 0..length {
                    for byte in [0, b':', b'9', b';', 0x7f, 0x80, 0xba, 0xff] {
                        let mut other = key.clone();
                        other[head.len() + at] = byte;
                        assert_eq!(simple.matches(&other), slow(&other), "{}", other.escape_ascii());
                    }
                }
            }
            assert!(simple.matches(format!("{head}\u{e4}\u{f6}").as_bytes()));
        }
        assert!(!matcher(&[literal("product:"), segment("id")]).matches(b"produce:1"));
    }

    #[test]
    fn a_segment_may_begin_anywhere_in_a_key_of_any_length() {
        for length in 0..40 {
            let key = vec![b'x'; length];
            for at in 0..45 {
                assert_eq!(is_segment(&key, at), at < length, "{at} of {length}");
            }
        }
    }

    #[test]
    fn literals_between_and_after_segments_must_be_there() {
        let both = matcher(&[literal("o:"), segment("a"), literal("-"), segment("b"), literal("-x:lines")]);
        assert_eq!(captured(&both, "o:7-8-x:lines").unwrap(), ["7", "8"]);
        assert_eq!(captured(&both, "o:7-x-x-x:lines").unwrap(), ["7", "x-x"]);
        for key in ["o:7:lines", "o:7-8-x", "o:7-8:lines", "o:7-8-x:lines:y", "o:-8-x:lines"] {
            assert_eq!(captured(&both, key), None, "{key}");
        }
    }

    #[test]
    fn the_rest_takes_everything_but_nothing() {
        let rest = matcher(&[literal("report:"), Part::Rest("path".into())]);
        assert_eq!(captured(&rest, "report:a:b/c").unwrap(), ["a:b/c"]);
        assert_eq!(captured(&rest, "report::").unwrap(), [":"]);
        assert_eq!(captured(&rest, "report:"), None);
    }
}
