//! Patterns as KEYS and MATCH take them: `*`, `?`, `[a-z]`, `[^a]`, `\x`, byte by byte.
//!
//! Oddities are Redis's: an empty text fits `*` but not `**`, an unclosed class ends with the pattern, ranges may be
//! written backwards, a trailing backslash stands for itself. Where a star's guess fails only the last star guesses
//! again, so that no pattern takes exponential time.

/// Whether all of `text` fits `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        return matches!(pattern, b"" | b"*");
    }
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on if what follows the last star did not fit: one byte later in the text.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            retry = Some((rest, text));
            pattern = rest;
            continue;
        }
        match (one(pattern, text.first()), text) {
            (Some(rest), [_, tail @ ..]) => (pattern, text) = (rest, tail),
            _ if pattern.is_empty() && text.is_empty() => return true,
            _ => match retry {
                Some((rest, [_, tail @ ..])) => {
                    retry = Some((rest, tail));
                    (pattern, text) = (rest, tail);
                }
                _ => return false,
            },
        }
    }
}

/// What is left of the pattern once its first element, which is no star, has taken `byte`.
fn one<'a>(pattern: &'a [u8], byte: Option<&u8>) -> Option<&'a [u8]> {
    let byte = *byte?;
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => {
            let (fits, rest) = class(rest, byte);
            fits.then_some(rest)
        }
        [b'\\', escaped, rest @ ..] | [escaped, rest @ ..] => (*escaped == byte).then_some(rest),
    }
}

/// Whether `byte` is in the class that `pattern` starts within, and what follows the class.
fn class(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut pattern) = match pattern {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut found = false;
    loop {
        pattern = match pattern {
            [] => return (found != negated, pattern),
            [b']', rest @ ..] => return (found != negated, rest),
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                rest
            }
            [from, b'-', to, rest @ ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                rest
            }
            [only, rest @ ..] => {
                found |= *only == byte;
                rest
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_redis_matches_them() {
        let fits = [
            ("*", ""),
            ("*", "abc"),
            ("a*c", "abbbc"),
            ("a*c", "ac"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("h\\*llo", "h*llo"),
            ("***a***", "bab"),
            ("[abc", "a"),
            ("a\\", "a\\"),
            ("[\\]]", "]"),
            ("", ""),
            ("*b*d*", "abcde"),
            ("[^]", "x"),
            ("*[0-9]", "key7"),
        ];
        let misfits = [
            ("", "a"),
            ("a", ""),
            ("a*c", "abcd"),
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("[abc", "d"),
            ("h\\*llo", "hxllo"),
            ("?", ""),
            ("**", ""),
            ("[]", "x"),
            ("*[0-9]", "key"),
        ];
        for (pattern, text) in fits {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in misfits {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_cost_no_exponential_time() {
        assert!(!matches("a*".repeat(50).as_bytes(), &[b'a'; 49]));
        assert!(!matches(&[b"*a".repeat(50), b"b".to_vec()].concat(), &[b'a'; 100_000]));
    }
}
