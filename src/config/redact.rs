//! Stars out passwords in a configuration file, byte for byte, so that places in it stay where they are.

/// `source` with the passwords of URLs and the literal values of `password` and `passwords` keys starred out. Same length.
pub fn redact(source: &str) -> String {
    source.split_inclusive('\n').map(|line| redact_key(&redact_urls(line))).collect()
}

/// `scheme://user:password@host`: up to the last `@` before a quote or space, as a password may hold one, and also what
/// makes the URL wrong.
fn redact_urls(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let written = after.find(['"', '\'', ' ']).unwrap_or(after.len());
        let end = after[..written].rfind('@').unwrap_or(0);
        let user = after[..end].find(':').map_or(end, |colon| colon + 1);
        shown.push_str(&after[..user]);
        shown.push_str(&"*".repeat(end - user));
        rest = &after[end..];
    }
    shown + rest
}

/// `password = …` unless the value only says where the password is.
fn redact_key(line: &str) -> String {
    let Some(value) = password_value(line) else { return line.to_owned() };
    let (head, value) = line.split_at(value);
    let bare = value.trim_start().trim_start_matches(QUOTES);
    if bare.starts_with("env:") || bare.starts_with("file:") {
        return line.to_owned();
    }
    let starred = value.chars().map(|c| match c.is_whitespace() || QUOTES.contains(&c) {
        true => c.to_string(),
        false => "*".repeat(c.len_utf8()),
    });
    head.to_owned() + &starred.collect::<String>()
}

/// Where the value of a `password` or `sentinel_password` key begins. The word inside of another value is no key.
fn password_value(line: &str) -> Option<usize> {
    let key = line.find("password")?;
    let before = line[..key].trim_end_matches("sentinel_").trim_end_matches(QUOTES).trim_end();
    let after = &line[key + "password".len()..];
    let after = after.strip_prefix('s').unwrap_or(after).trim_start_matches(QUOTES).trim_start();
    let is_key = before.is_empty() || before.ends_with(['{', ',', '.', '#']);
    (is_key && after.starts_with('=')).then(|| line.len() - after.len() + 1)
}

const QUOTES: [char; 2] = ['"', '\''];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_starred_and_nothing_moves() {
        let cases = [
            ("url = \"postgres://app:s:c@ret@host/shop\"\n", "url = \"postgres://app:*******@host/shop\"\n"),
            ("url = \"redis://:pw@h\" # redis://h:1", "url = \"redis://:**@h\" # redis://h:1"),
            ("url = \"redis://app:a/b?c#d@e@h/0\"\n", "url = \"redis://app:*********@h/0\"\n"),
            ("url = \"redis+unix://app:pw@/run/r.sock\"\n", "url = \"redis+unix://app:**@/run/r.sock\"\n"),
            ("  sentinel_password = \"pw\"\n", "  sentinel_password = \"**\"\n"),
            ("  password = \"hü\"\n", "  password = \"***\"\n"),
            ("password = \"env:X\"\n", "password = \"env:X\"\n"),
            ("name = 'password reset = x'\n", "name = 'password reset = x'\n"),
            ("load = 'SELECT password = :x'\n", "load = 'SELECT password = :x'\n"),
            ("server = {\"password\"='pw'}\n", "server = {\"password\"='**'*\n"),
        ];
        for (source, shown) in cases {
            assert_eq!(redact(source), shown);
            assert_eq!(redact(source).len(), source.len());
        }
    }
}
