//! Whether two streams of replies are the same, but for what differs by design.

use super::by_design::{self, Rule};
use super::reply::Reply;

/// Where two lists of frames first differ. They are compared as far as both go.
pub fn difference(expected: &[Vec<u8>], found: &[Vec<u8>]) -> Option<usize> {
    let mut rule = None;
    expected.iter().zip(found).position(|(expected, found)| {
        if expected == found && rule.is_none() && !is_or_has_mark(expected) {
            return false;
        }
        let (Some(expected), Some(found)) = (Reply::of(expected), Reply::of(found)) else { return true };
        !same_next(&mut rule, &expected, &found)
    })
}

/// A cheap no for nearly all frames.
fn is_or_has_mark(frame: &[u8]) -> bool {
    memchr::memmem::find(frame, b"~differs:").is_some()
}

/// Compares what comes next, under the rule of the mark before it.
fn same_next(rule: &mut Option<Rule>, expected: &Reply, found: &Reply) -> bool {
    if let (Some(ruled), false) = (*rule, expected.is_push()) {
        *rule = None;
        return same_under(ruled, expected, found);
    }
    if expected.kind == b'$' {
        *rule = by_design::rule(&expected.text).or(*rule);
    }
    if !expected.is_container() || expected.elements.is_empty() {
        return expected == found;
    }
    let mut within = None;
    let is_same = alike(expected, found)
        && expected.elements.iter().zip(&found.elements).all(|(one, other)| same_next(&mut within, one, other));
    // A mark at the end: pushes stand among the elements, and have moved what it marks out of the array.
    *rule = within.or(*rule);
    is_same
}

/// Same kind and, of containers, same count.
fn alike(one: &Reply, other: &Reply) -> bool {
    one.kind == other.kind && one.elements.len() == other.elements.len()
}

fn same_under(rule: Rule, expected: &Reply, found: &Reply) -> bool {
    if rule == Rule::Any {
        return true;
    }
    if expected.is_error() || found.is_error() {
        return expected == found;
    }
    match rule {
        Rule::Any => true,
        Rule::Kind => expected.kind == found.kind,
        Rule::Shape => same_shape(expected, found),
        Rule::Near(most) => near(most, expected, found),
        Rule::Unordered(width) => alike(expected, found) && rows(expected, width) == rows(found, width),
        Rule::Scan(width) => match (expected.elements.as_slice(), found.elements.as_slice()) {
            ([cursor, expected], [other, found]) => cursor == other && rows(expected, width) == rows(found, width),
            _ => expected == found,
        },
        Rule::Except(names) => {
            let excepted = |at: usize| {
                let before = at.checked_sub(1).map(|before| expected.elements[before].text.as_slice());
                before.is_some_and(|name| names.iter().any(|excepted| excepted.as_bytes() == name))
            };
            let mut pairs = expected.elements.iter().zip(&found.elements).enumerate();
            alike(expected, found)
                && pairs.all(|(at, (one, other))| one == other || (excepted(at) && alike(one, other)))
        }
    }
}

fn same_shape(expected: &Reply, found: &Reply) -> bool {
    alike(expected, found) && expected.elements.iter().zip(&found.elements).all(|(one, other)| same_shape(one, other))
}

fn near(most: i64, expected: &Reply, found: &Reply) -> bool {
    if !expected.elements.is_empty() {
        let mut pairs = expected.elements.iter().zip(&found.elements);
        return alike(expected, found) && pairs.all(|(one, other)| near(most, one, other));
    }
    let number = |reply: &Reply| std::str::from_utf8(&reply.text).ok()?.parse::<i64>().ok();
    match (number(expected), number(found)) {
        (Some(one), Some(other)) => {
            expected.kind == found.kind
                && (one == other || (one >= 0 && other >= 0 && one.abs_diff(other) <= most as u64))
        }
        _ => expected == found,
    }
}

fn rows(reply: &Reply, width: usize) -> Vec<&[Reply]> {
    let mut rows: Vec<&[Reply]> = reply.elements.chunks(width).collect();
    rows.sort();
    rows
}

#[test]
fn a_mark_counts_for_what_pushes_have_moved_out_of_exec_s_array() {
    let mark = by_design::mark(&super::command::Command::of("PTTL s4")).expect("it tells the time");
    let array = [b"*3\r\n>1\r\n$1\r\nm\r\n:1\r\n$11\r\n", &mark[..], b"\r\n"].concat();
    let frames = |life: &str| [array.clone(), life.as_bytes().to_vec(), b":7\r\n".to_vec()];
    let found = |life, last: &[u8]| {
        let mut found = frames(life);
        found[2] = last.to_vec();
        difference(&frames(":100000\r\n"), &found)
    };
    assert_eq!(found(":99999\r\n", b":7\r\n"), None);
    assert_eq!(found(":-1\r\n", b":7\r\n"), Some(1));
    assert_eq!(found(":99999\r\n", b":8\r\n"), Some(2), "it counts once");
}
