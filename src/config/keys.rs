//! Sections and keys that the file may hold, checked against the schema before serde sees them.
//!
//! serde would stop at the first unknown key. This walk reports all of them, with the nearest accepted one, and takes
//! them out of the tree; serde then reads the rest. The schema is made from the raw structs, so nothing stands twice
//! but the list of keys that belong to later versions.

use super::Origin;
use super::diagnostic::Diagnostic;
use serde_json::Value;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

/// Sections and keys of the design that this version does not have.
const LATER: &[(&str, &[&str])] =
    &[("[embedded]", &["snapshot"]), ("[defaults]", LATER_IN_ROUTES), ("[[route]]", LATER_IN_ROUTES)];
const LATER_IN_ROUTES: &[&str] = &["compress", "write", "save", "remove", "watch"];

/// Takes what the schema does not know out of `table`; one error for each.
pub fn prune(table: &mut DeTable<'_>, schema: &Value) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    prune_table(table, schema, "", &mut diagnostics);
    diagnostics
}

fn prune_table(table: &mut DeTable<'_>, schema: &Value, section: &str, diagnostics: &mut Vec<Diagnostic>) {
    let mut refused: Vec<String> = Vec::new();
    for (key, value) in table.iter_mut() {
        let (origin, name) = (Origin(key.span()), key.get_ref().as_ref());
        let named = schema["properties"].get(name);
        let accepted = match named.or_else(|| Some(&schema["additionalProperties"]).filter(|any| any.is_object())) {
            Some(expected) => prune_value(&origin, name, value, expected, section, diagnostics),
            None => {
                diagnostics.push(unknown_key(&origin, name, schema, section));
                false
            }
        };
        refused.extend((!accepted).then(|| name.to_owned()));
    }
    for name in refused {
        table.remove(name.as_str());
    }
}

/// Whether serde may see the value: sections must be tables, and `route` an array of them.
fn prune_value(
    origin: &Origin,
    name: &str,
    value: &mut Spanned<DeValue<'_>>,
    expected: &Value,
    section: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    let is_section = expected["properties"].is_object() || expected["additionalProperties"].is_object();
    let is_sections = expected["items"]["properties"].is_object();
    let path = section_name(section, name, is_sections);
    match value.get_mut() {
        DeValue::Table(table) if is_section => prune_table(table, expected, &path, diagnostics),
        DeValue::Array(array) if is_sections && array.iter().all(|element| element.get_ref().is_table()) => {
            for element in array.iter_mut() {
                if let DeValue::Table(table) = element.get_mut() {
                    prune_table(table, &expected["items"], &path, diagnostics);
                }
            }
        }
        _ if is_section && matches!(section, "[database]" | "[user]") => {
            let kind = section.trim_matches(['[', ']']);
            let hint = format!("give the {kind} a name, as in `[{kind}.main]`");
            diagnostics.push(Diagnostic::at(origin, format!("`{name}` stands outside of any {kind}'s section"), hint));
            return false;
        }
        _ if is_section || is_sections => {
            let message = format!("`{name}` is a section");
            diagnostics.push(Diagnostic::at(origin, message, format!("write `{path}` above its keys")));
            return false;
        }
        _ => {}
    }
    true
}

/// How the file heads a section, for messages; all databases share one.
fn section_name(parent: &str, name: &str, repeated: bool) -> String {
    match (parent, repeated) {
        (_, true) => format!("[[{name}]]"),
        ("[database]", _) => "[database.NAME]".into(),
        ("[user]", _) => "[user.NAME]".into(),
        ("", _) => format!("[{name}]"),
        _ => format!("[{}.{name}]", parent.trim_matches(['[', ']'])),
    }
}

fn unknown_key(origin: &Origin, name: &str, schema: &Value, section: &str) -> Diagnostic {
    let place = if section.is_empty() { String::new() } else { format!(" in {section}") };
    if LATER.iter().any(|(at, keys)| *at == section && keys.contains(&name)) {
        let message = format!("`{name}`{place} is not supported by this version");
        return Diagnostic::at(origin, message, "remove it");
    }
    let known: Vec<&str> =
        schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    let all = format!("accepted here: {}", known.join(", "));
    let hint = match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    };
    let kind = if section.is_empty() { "section" } else { "key" };
    Diagnostic::at(origin, format!("unknown {kind} `{name}`{place}"), hint)
}

/// The candidate with the fewest edits, if those are few for a word of that length.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let scored = candidates.iter().map(|candidate| (edits(word, candidate), *candidate));
    scored.filter(|(edits, _)| *edits <= allowed).min_by_key(|(edits, _)| *edits).map(|(_, candidate)| candidate)
}

/// Levenshtein distance with swaps of neighbours as one edit, row by row.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = (above[j] + usize::from(a != b)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_with_the_fewest_edits() {
        assert_eq!((edits("", "abc"), edits("kitten", "sitting"), edits("tlt", "ttl")), (3, 3, 1));
        assert_eq!(nearest("tll", &["key", "ttl"]), Some("ttl"));
        assert_eq!(nearest("databse", &["database", "ttl"]), Some("database"));
        assert_eq!(nearest("colour", &["database", "ttl"]), None);
    }
}
