//! From text to [`Config`], in four steps: TOML, known keys, values, rules.
//!
//! A later step needs a whole tree, so a syntax error ends it; everything from there on is collected, and all errors
//! of a file are told at once, in the order of the file.

use super::context::Context;
use super::diagnostic::Diagnostic;
use super::routes::{self, Databases};
use super::{Config, Database, Origin, Route, database_url, keys, raw, schema, server, upstream};
use serde::de::DeserializeOwned;
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::DeTable;

/// Reads and validates a file, with secrets from the process's environment.
///
/// The errors come in the file's order and are never empty; [`Diagnostic::render`] shows them.
pub fn load(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        vec![Diagnostic::of_file(format!("cannot read the file: {error}"), "write the path of a readable TOML file")]
    })?;
    parse(&text, path, |name| std::env::var(name).ok())
}

/// Validates `text`, the content of `file`: relative paths are relative to its folder. `env` looks secrets up.
pub fn parse(text: &str, file: &Path, env: impl Fn(&str) -> Option<String>) -> Result<Config, Vec<Diagnostic>> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut context = Context { text, folder, env: &env, diagnostics: Vec::new() };
    let config = read::<raw::File>(&mut context, &schema()).map(|raw| validate(&mut context, raw));
    match config {
        Some(config) if context.diagnostics.is_empty() => Ok(config),
        _ => Err(in_order(context.diagnostics)),
    }
}

/// The raw file; `None` where it is no TOML, which is then reported.
pub(super) fn read<T: DeserializeOwned>(context: &mut Context<'_>, schema: &serde_json::Value) -> Option<T> {
    let (mut tree, errors) = DeTable::parse_recoverable(context.text);
    if !errors.is_empty() {
        context.diagnostics.extend(errors.iter().map(|error| syntax_error(error, context.text)));
        return None;
    }
    context.diagnostics.extend(keys::prune(tree.get_mut(), schema));
    let file = T::deserialize(toml::Deserializer::from(tree));
    file.inspect_err(|error| context.diagnostics.push(syntax_error(error, context.text))).ok()
}

/// The place is cut to its first line: an unclosed bracket would otherwise show half the file.
fn syntax_error(error: &toml::de::Error, text: &str) -> Diagnostic {
    let span = error.span().unwrap_or_default();
    let line_end = text[span.start..].find('\n').map_or(text.len(), |length| span.start + length);
    let end = span.end.min(line_end);
    let origin = if span.start < end { span.start..end } else { last_character(&text[..span.start]) };
    let message = error.message().lines().next().unwrap_or("this is no TOML");
    let message = message.trim_end_matches(", expected literal string");
    let hint = match message {
        "duplicate key" => "remove one of the two",
        _ => "strings stand in quotes, as in ttl = \"5m\"; sections in brackets, as in [server]",
    };
    Diagnostic::at(&Origin(origin), message, hint)
}

/// Where something is missing at a line's end, its last character stands for it.
fn last_character(before: &str) -> std::ops::Range<usize> {
    let start = before.char_indices().next_back().map_or(0, |(start, _)| start);
    start..before.len()
}

fn validate(context: &mut Context<'_>, raw: raw::File) -> Config {
    let databases = databases(context, &raw.database);
    let known = Databases { valid: &databases, names: raw.database.keys().map(String::as_str).collect() };
    let (default_ttl, routes) = routes::routes(context, &known, &raw.defaults, raw.route);
    let limits = server::limits(context, &raw.limits);
    check_numbers_of_tags(context, &routes, limits.max_tags);
    Config {
        invalidation_channel: invalidation_channel(context, &raw.invalidation, raw.upstream.is_some()),
        server: server::server(context, &raw.server, raw.upstream.is_some()),
        upstream: raw.upstream.and_then(|at| upstream::upstream(context, at.get_ref(), &Origin(at.span()))),
        embedded: server::embedded(context, &raw.embedded),
        limits,
        default_ttl,
        routes,
        databases,
    }
}

/// Of a route with more tags than a key may have nothing would ever be kept.
fn check_numbers_of_tags(context: &mut Context<'_>, routes: &[Route], most: usize) {
    for route in routes.iter().filter(|route| route.tags.len() > most) {
        let tags = route.tags.len();
        let message = format!("this route has {tags} tags, and `max_tags` allows {most}: nothing of it could be kept");
        let hint = format!("write fewer tags, or set max_tags = {tags} in [limits], or more");
        context.complain(&route.key_origin, message, hint);
    }
}

fn invalidation_channel(context: &mut Context<'_>, raw: &raw::Invalidation, has_upstream: bool) -> Option<String> {
    let channel = context.read(&raw.channel)?;
    if channel.value.is_empty() {
        context.complain(&channel.origin, "an empty channel", "write its name, as in \"cache:invalidate\"");
    } else if channel.value.starts_with("weir:{") {
        context.complain(&channel.origin, "'weir:{' begins the names of Weir's own channels", "choose another name");
    } else if !has_upstream {
        let hint = "add [upstream], or remove this: the embedded store has no channels";
        context.complain(&channel.origin, "there is no upstream whose channel this could be", hint);
    }
    Some(channel.value)
}

fn databases(context: &mut Context<'_>, raw: &BTreeMap<String, Spanned<raw::Database>>) -> BTreeMap<String, Database> {
    let mut databases = BTreeMap::new();
    for (name, section) in raw {
        let database = database_url::database(context, name, section.get_ref(), &Origin(section.span()));
        databases.extend(database.map(|database| (name.clone(), database)));
    }
    databases
}

/// Sorted by place, and without the repetitions of what several routes take from `[defaults]`.
fn in_order(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut distinct: Vec<Diagnostic> = Vec::new();
    for diagnostic in diagnostics {
        if !distinct.contains(&diagnostic) {
            distinct.push(diagnostic);
        }
    }
    distinct.sort_by_key(|diagnostic| (diagnostic.origin.0.start, diagnostic.origin.0.end));
    distinct
}
