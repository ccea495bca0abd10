//! Which prefixes a server is asked to tell of: it refuses those that overlap, and the shorter of two tells of both.

/// The shortest that begin all of them.
pub fn reduce(heads: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut sorted = heads.to_vec();
    // What others begin with stands before them.
    sorted.sort_unstable();
    let mut reduced: Vec<Vec<u8>> = Vec::new();
    for head in sorted {
        if !reduced.last().is_some_and(|shorter| head.starts_with(shorter)) {
            reduced.push(head.to_vec());
        }
    }
    reduced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_begins_another_and_each_head_is_covered() {
        let reduced = |heads: &[&str]| {
            let heads: Vec<&[u8]> = heads.iter().map(|head| head.as_bytes()).collect();
            reduce(&heads).into_iter().map(|prefix| String::from_utf8(prefix).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(reduced(&["product:", "user:", "product:"]), ["product:", "user:"]);
        assert_eq!(reduced(&["a:b:", "a:", "a-", "a:a", "b"]), ["a-", "a:", "b"]);
        assert_eq!(reduced(&["x", ""]), [""]);
        assert!(reduced(&[]).is_empty());
    }
}
