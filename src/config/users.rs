//! `[server] users`: a file of its own with who may connect, and what each may do.
//!
//! Its errors show its own lines. What the words of `commands` mean is found above, with the command table
//! ([`Users::diagnostic`]).

use super::context::Context;
use super::diagnostic::{Diagnostic, Source};
use super::setting::At;
use super::{KeyRule, Origin, User, Users, Word, raw, secret};
use serde_spanned::Spanned;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What stands in front of a password's SHA-256 in hexadecimal digits, instead of the password.
const HASHED: &str = "sha256:";

/// The file that `at` names, validated.
pub fn users(context: &mut Context<'_>, at: &At<String>) -> Option<Users> {
    let path = context.folder.join(&at.value);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            let message = format!("cannot read {}: {}", path.display(), secret::describe(&error));
            context.complain(&at.origin, message, "write the path of a file of users, relative to this one");
            return None;
        }
    };
    let source = Arc::new(Source { name: path.display().to_string(), text });
    let folder = path.parent().unwrap_or(context.folder);
    let mut inner = Context { text: &source.text, folder, env: context.env, diagnostics: Vec::new() };
    let users = super::parse::read::<raw::UsersFile>(&mut inner, &super::users_schema())
        .map(|file| file.user.iter().map(|(name, at)| user(&mut inner, name, at)).collect::<Vec<_>>());
    if users.as_ref().is_some_and(Vec::is_empty) {
        inner.diagnostics.push(Diagnostic::of_file("no user in it", "write `[user.NAME]` above each user's keys"));
    }
    let fine = inner.diagnostics.is_empty();
    inner.diagnostics.sort_by_key(|diagnostic| diagnostic.origin.0.start);
    let found = std::mem::take(&mut inner.diagnostics);
    context.diagnostics.extend(found.into_iter().map(|diagnostic| diagnostic.of_source(&source, &at.origin)));
    users.filter(|_| fine).map(|users| Users { source, users, origin: at.origin.clone() })
}

impl Users {
    /// An error at a place of this file.
    pub fn diagnostic(&self, origin: &Origin, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
        Diagnostic::at(origin, message, hint).of_source(&self.source, &self.origin)
    }
}

fn user(context: &mut Context<'_>, name: &str, at: &Spanned<raw::User>) -> User {
    let (raw, origin) = (at.get_ref(), Origin(at.span()));
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        context.complain(&origin, "a user's name has no blank in it", "write `[user.NAME]`");
    }
    let nopass = context.read_or(&raw.nopass, false).value;
    let passwords = passwords(context, raw);
    if passwords.is_empty() && !nopass && raw.password.is_none() && raw.passwords.is_none() {
        let hint = "write `password = \"sha256:…\"`, \"env:NAME\" or \"file:PATH\", or `nopass = true` for a user who needs none";
        context.complain(&origin, format!("the user `{name}` has no password"), hint);
    }
    if nopass && (raw.password.is_some() || raw.passwords.is_some()) {
        context.complain(&origin, format!("the user `{name}` has a password and needs none"), "remove one of the two");
    }
    User {
        name: name.to_owned(),
        passwords,
        nopass,
        enabled: context.read_or(&raw.enabled, true).value,
        read_only: context.read_or(&raw.read_only, false).value,
        scripts: context.read_or(&raw.scripts, false).value,
        commands: context.read(&raw.commands).map(|at| at.value.into_iter().map(word).collect()),
        keys: context.read(&raw.keys).map(|at| at.value.iter().filter_map(|rule| key_rule(context, rule)).collect()),
        channels: context.read(&raw.channels).map(|at| at.value.into_iter().map(|at| channel(at.value)).collect()),
    }
}

fn word(At { origin, value }: At<String>) -> Word {
    Word { text: value, origin }
}

/// Redis writes `&` in front of a channel's pattern; here nothing else can stand.
fn channel(text: String) -> String {
    text.strip_prefix('&').map(str::to_owned).unwrap_or(text)
}

fn key_rule(context: &mut Context<'_>, at: &At<String>) -> Option<KeyRule> {
    let text = at.value.as_str();
    let (flags, pattern) = match text.strip_prefix('%') {
        None => ("RW", text.strip_prefix('~')),
        Some(rest) => rest.split_once('~').map_or((rest, None), |(flags, pattern)| (flags, Some(pattern))),
    };
    let has = |flag: char| flags.chars().any(|one| one.eq_ignore_ascii_case(&flag));
    let known = !flags.is_empty() && flags.chars().all(|flag| "RWrw".contains(flag));
    match pattern.filter(|_| known) {
        Some(pattern) => Some(KeyRule { pattern: pattern.to_owned(), reads: has('R'), writes: has('W') }),
        None => {
            let hint = "write \"~product:*\" for reading and writing, \"%R~product:*\" for reading alone, \"%W~…\" for writing alone";
            context.complain(&at.origin, format!("`{text}` is no pattern of keys"), hint);
            None
        }
    }
}

fn passwords(context: &mut Context<'_>, raw: &raw::User) -> Vec<[u8; 32]> {
    let one = context.read(&raw.password);
    let several = context.read(&raw.passwords).map(|at| at.value).unwrap_or_default();
    one.into_iter().chain(several).filter_map(|at| digest(context, &at)).collect()
}

fn digest(context: &mut Context<'_>, at: &At<String>) -> Option<[u8; 32]> {
    if let Some(hexadecimal) = at.value.strip_prefix(HASHED) {
        let digest = from_hexadecimal(hexadecimal);
        if digest.is_none() {
            let hint = "write the 64 hexadecimal digits of the password's SHA-256: printf %s PASSWORD | sha256sum";
            context.complain(&at.origin, "what follows `sha256:` is no SHA-256", hint);
        }
        return digest;
    }
    match secret::resolve(&at.value, context.folder, context.env) {
        Ok(password) if password.is_empty() => {
            context.complain(
                &at.origin,
                "an empty password keeps nobody out",
                "write `nopass = true` if that is meant",
            );
            None
        }
        Ok(password) => Some(Sha256::digest(password.as_bytes()).into()),
        Err(problem) => {
            context.complain(&at.origin, problem.message, problem.hint);
            None
        }
    }
}

fn from_hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).filter(|pair| pair.len() == 2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}
