//! Whether a route can ever be reached: does an earlier pattern match every key that a later one does?
//!
//! A pattern is a small automaton over bytes, so this is language inclusion, decided exactly: walk all states that keys
//! of the inner pattern can reach, beside the set of states that the outer one may be in by then. A key that ends the
//! inner and none of the outer's is a key that gets through. Bytes that stand in neither pattern behave alike, so
//! one of them stands for all.

use super::{Part, Pattern};
use std::collections::{BTreeSet, HashSet, VecDeque};

/// Where the walk gives up and says "not shadowed", which is the harmless answer. No sensible pair comes near.
const MOST_STATES: usize = 20_000;

/// One step of a pattern's automaton.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Byte(u8),
    /// One or more bytes other than ':'.
    Segment,
    /// One or more bytes.
    Rest,
}

impl Step {
    fn accepts(self, byte: u8) -> bool {
        match self {
            Step::Byte(own) => own == byte,
            Step::Segment => byte != b':',
            Step::Rest => true,
        }
    }
}

/// Whether every key that `inner` matches is matched by `outer` too.
pub fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    // What follows a head is its end or a part that may begin with any letter: most pairs end here.
    if !inner.head().starts_with(outer.head()) {
        return false;
    }
    let (outer, inner) = (steps(outer), steps(inner));
    if outer == inner {
        return true;
    }
    let alphabet = alphabet(&[&outer, &inner]);
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([(0_usize, BTreeSet::from([0_usize]))]);
    while let Some((at, outer_at)) = queue.pop_front() {
        if at == inner.len() && !outer_at.contains(&outer.len()) {
            return false;
        }
        for &byte in &alphabet {
            let outer_next: BTreeSet<usize> = outer_at.iter().flat_map(|&state| next(&outer, state, byte)).collect();
            for inner_next in next(&inner, at, byte) {
                let state = (inner_next, outer_next.clone());
                if seen.insert(state.clone()) {
                    queue.push_back(state);
                }
            }
        }
        if seen.len() > MOST_STATES {
            return false;
        }
    }
    true
}

/// States after `byte`: on to the next step, or once more through the one that repeats.
fn next(steps: &[Step], at: usize, byte: u8) -> impl Iterator<Item = usize> {
    let onward = steps.get(at).filter(|step| step.accepts(byte)).map(|_| at + 1);
    let again = at.checked_sub(1).map(|last| steps[last]);
    let again = again.filter(|step| !matches!(step, Step::Byte(_)) && step.accepts(byte)).map(|_| at);
    onward.into_iter().chain(again)
}

fn steps(pattern: &Pattern) -> Vec<Step> {
    let steps = pattern.parts.iter().flat_map(|part| match part {
        Part::Literal(text) => text.bytes().map(Step::Byte).collect(),
        Part::Segment(_) => vec![Step::Segment],
        Part::Rest(_) => vec![Step::Rest],
    });
    steps.collect()
}

/// Every byte that a pattern names, the colon, and one that none names.
fn alphabet(patterns: &[&[Step]]) -> BTreeSet<u8> {
    let named = patterns.iter().flat_map(|steps| steps.iter()).filter_map(|step| match step {
        Step::Byte(byte) => Some(*byte),
        Step::Segment | Step::Rest => None,
    });
    let mut alphabet: BTreeSet<u8> = named.chain([b':']).collect();
    alphabet.extend((0..=u8::MAX).find(|byte| !alphabet.contains(byte)));
    alphabet
}

#[cfg(test)]
mod tests {
    use super::super::pattern::{self, parse};
    use super::*;
    use proptest::prelude::*;

    fn covered(outer: &str, inner: &str) -> bool {
        covers(&parse(outer).unwrap(), &parse(inner).unwrap())
    }

    #[test]
    fn an_outer_pattern_covers_what_it_always_matches() {
        for (outer, inner) in [
            ("a:{x}", "a:{y}"),
            ("a:b", "a:b"),
            ("a:{x}", "a:b"),
            ("a:{*x}", "a:{x}"),
            ("a:{*x}", "a:{x}:b:{y}"),
            ("a{x}", "ab{x}"),
            ("a:{x}:{y}", "a:{x}:b{y}"),
            ("a:{x}-{y}", "a:{x}-b-{y}"),
            ("a:{*x}", "a:b{*y}"),
        ] {
            assert!(covered(outer, inner), "{outer} {inner}");
        }
    }

    #[test]
    fn an_overlap_is_not_a_cover() {
        for (outer, inner) in [
            ("a:b", "a:{x}"),
            ("a:{x}", "a:{*x}"),
            ("a:{x}", "a:"),
            ("a:{x}:{y}", "a:{x}"),
            ("a:{x}:b", "a:b:{y}"),
            ("ab{x}", "a{x}"),
            ("a:{x}-{y}", "a:{x}-"),
            ("a:{*x}", "b:{x}"),
        ] {
            assert!(!covered(outer, inner), "{outer} {inner}");
        }
    }

    /// Repetitive patterns of as many parts as are allowed: the worst for the walk, which must still give up in time.
    #[test]
    fn the_longest_patterns_are_compared_in_bounded_time() {
        let texts = ["{pN}b", "b{pN}a", "ab{pN}", "b{pN}bb", "a{pN}ab"].map(|piece| {
            let pieces = (0..pattern::MOST_PARTS).map(|number| piece.replace('N', &number.to_string()));
            format!("a:{}", pieces.collect::<String>())
        });
        let patterns = texts.map(|text| parse(&text).unwrap());
        let begun = std::time::Instant::now();
        for (outer, inner) in patterns.iter().flat_map(|outer| patterns.iter().map(move |inner| (outer, inner))) {
            assert!(outer != inner || covers(outer, inner), "{}", outer.text);
            covers(outer, inner);
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
    }

    fn matches(steps: &[Step], key: &[u8]) -> bool {
        let states = key.iter().fold(BTreeSet::from([0]), |states, &byte| {
            states.iter().flat_map(|&state| next(steps, state, byte)).collect()
        });
        states.contains(&steps.len())
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        "a(b|:|\\{p\\}:|\\{q\\}b){0,3}(\\{r\\}|\\{\\*r\\})?".prop_filter_map("no pattern", |text| parse(&text).ok())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The walk agrees with trying every short key over the letters that matter.
        #[test]
        fn covering_agrees_with_every_short_key(outer in any_pattern(), inner in any_pattern()) {
            let (outer_steps, inner_steps) = (steps(&outer), steps(&inner));
            let longest = 6;
            let mut keys: Vec<Vec<u8>> = vec![vec![]];
            let mut all = true;
            for _ in 0..longest {
                keys = keys.iter().flat_map(|key| b"ab:z".map(|byte| [key.as_slice(), &[byte]].concat())).collect();
                all &= keys.iter().all(|key| !matches(&inner_steps, key) || matches(&outer_steps, key));
            }
            if covers(&outer, &inner) {
                prop_assert!(all);
            } else if inner_steps.len() < longest - 2 {
                prop_assert!(!all, "{} {}", outer.text, inner.text);
            }
        }
    }
}
