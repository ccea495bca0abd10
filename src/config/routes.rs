//! `[[route]]` with `[defaults]` applied: what can only be checked with the databases and the other routes in view.

use super::context::Context;
use super::diagnostic::Diagnostic;
use super::one_in::OneIn;
use super::setting::{At, Setting};
use super::shares::{self, Share};
use super::sizes::{self, Size};
use super::sql::NamedSql;
use super::tags::{self, TagPattern};
use super::{
    Checks, Database, Encoding, Filler, Load, OnModify, Origin, Pattern, Route, Rows, Warm, durations, keys, pattern,
    raw, shadow, sql,
};
use serde_spanned::Spanned;
use std::collections::BTreeMap;
use std::time::Duration;

const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// What nobody tells the near cache of is served for this long.
const LONGEST_NEAR: Duration = Duration::from_secs(3600);
/// Clients have time limits of their own, and few that are longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is known of the file's databases: those that are valid, and the names of all.
pub struct Databases<'a> {
    /// The valid ones.
    pub valid: &'a BTreeMap<String, Database>,
    /// Every name, also of those with an error of their own.
    pub names: Vec<&'a str>,
}

/// All routes, validated, with the errors that concern two of them; and before them the `ttl` of `[defaults]`.
pub fn routes(
    context: &mut Context<'_>,
    databases: &Databases<'_>,
    defaults: &raw::Defaults,
    raw: Vec<Spanned<raw::Route>>,
) -> (Duration, Vec<Route>) {
    let default_ttl = check_defaults(context, databases, defaults);
    let mut routes: Vec<Named> = Vec::new();
    for spanned in raw {
        let section = Origin(spanned.span());
        let mut raw = spanned.into_inner();
        raw.inherit(defaults);
        let Some(found) = route(context, databases, &raw, &section) else { continue };
        if !complain_shadowed(context, &routes, &found) {
            complain_duplicate_name(context, &routes, &found);
        }
        routes.push(found);
    }
    (default_ttl, routes.into_iter().map(|named| named.route).collect())
}

/// What `[defaults]` says may be wrong though no route takes it. Errors that routes repeat are told once in the end.
fn check_defaults(context: &mut Context<'_>, databases: &Databases<'_>, defaults: &raw::Defaults) -> Duration {
    let raw = raw::Route::of_defaults(defaults);
    let database =
        raw.database.as_ref().and_then(|_| read_database(context, databases, &raw.database, &Origin::default()));
    let (ttl, _) = lifetime(context, &raw);
    shape(context, &raw);
    negative_ttl(context, &raw);
    load_timeout(context, &raw, databases.valid.get(database.as_deref().unwrap_or_default()));
    max_value(context, &raw);
    context.read(&raw.on_modify);
    grace(context, &raw);
    early_refresh(context, &raw);
    checks(context, &raw);
    read_tags(context, &raw.tags, &[], true);
    context.read(&raw.sliding);
    near(context, &raw);
    wait_for_fill(context, &raw);
    ttl
}

/// A route and the place of its name, which is its key's where it has none of its own.
struct Named {
    route: Route,
    name_origin: Origin,
}

fn route(context: &mut Context<'_>, databases: &Databases<'_>, raw: &raw::Route, section: &Origin) -> Option<Named> {
    if raw.key.is_none() {
        let hint = "write the keys it is for, as in `key = \"product:{id}\"`";
        context.complain(section, "this route has no `key`", hint);
    }
    let key = context.read(&raw.key);
    let pattern = key.as_ref().and_then(|key| read_pattern(context, key));
    let filler = match raw.load {
        Some(_) => load(context, databases, raw, pattern.as_ref(), section).map(Filler::Load),
        None => Some(clients(context, raw)),
    };
    let (ttl, jitter) = lifetime(context, raw);
    let parts: Vec<&str> = pattern.iter().flat_map(Pattern::names).collect();
    let tags = read_tags(context, &raw.tags, &parts, raw.load.is_some());
    let sliding = context.read(&raw.sliding).is_some_and(|sliding| sliding.value);
    let near = near(context, raw);
    let (name, name_origin) = name(context, &raw.name, key.as_ref(), pattern.as_ref());
    let route =
        Route { name, key: pattern?, ttl, jitter, filler: filler?, tags, sliding, near, key_origin: key?.origin };
    Some(Named { route, name_origin })
}

/// `load`, and all that is said of it.
fn load(
    context: &mut Context<'_>,
    databases: &Databases<'_>,
    raw: &raw::Route,
    pattern: Option<&Pattern>,
    section: &Origin,
) -> Option<Load> {
    if let Some(setting) = &raw.wait_for_fill {
        let message = "`wait_for_fill` is for routes without `load`: what has one, Weir fills itself";
        let hint = "remove it: whoever reads an absent key waits for its one load already, up to `load_timeout`";
        context.complain(&setting.origin, message, hint);
    }
    let load = context.read(&raw.load);
    let statement = load.as_ref().and_then(|load| read_statement(context, load));
    let database = read_database(context, databases, &raw.database, section);
    let parameters = match (pattern, &statement, &load) {
        (Some(pattern), Some(statement), Some(load)) => read_parameters(context, pattern, statement, load),
        _ => Vec::new(),
    };
    let (rows, value) = shape(context, raw);
    let negative_ttl = negative_ttl(context, raw);
    let load_timeout = load_timeout(context, raw, databases.valid.get(database.as_deref().unwrap_or_default()));
    let max_value = max_value(context, raw);
    let on_modify = context.read_or(&raw.on_modify, OnModify::Load).value;
    let (grace, early_refresh) = (grace(context, raw), early_refresh(context, raw));
    let checks = checks(context, raw);
    let warm = warm(context, raw);
    let (load, database) = (load?, database?);
    Some(Load {
        database,
        sql: load.value,
        parameters,
        rows,
        value,
        negative_ttl,
        max_value,
        load_timeout,
        on_modify,
        grace,
        early_refresh,
        checks,
        origin: load.origin,
        warm,
    })
}

fn grace(context: &mut Context<'_>, raw: &raw::Route) -> Duration {
    let show = |duration: &Duration| format!("{:?}", durations::show(*duration));
    context.read_within(&raw.grace, Duration::ZERO, (Duration::ZERO, YEAR), show)
}

/// More than ten times the measured load time is no early refresh any more.
fn early_refresh(context: &mut Context<'_>, raw: &raw::Route) -> f64 {
    context.read_within(&raw.early_refresh, 0.0, (0.0, 10.0), |beta| format!("{beta:?}"))
}

/// `check_hits` and `check_invalidations`.
fn checks(context: &mut Context<'_>, raw: &raw::Route) -> Checks {
    let mut one_in = |setting| context.read_or(setting, OneIn::default()).value.0;
    Checks { hits: one_in(&raw.check_hits), invalidations: one_in(&raw.check_invalidations) }
}

/// `warm`: it takes nothing from a key.
fn warm(context: &mut Context<'_>, raw: &raw::Route) -> Option<Warm> {
    let warm = context.read(&raw.warm)?;
    let statement = read_statement(context, &warm)?;
    if let (Some(name), Some(&offset)) = (statement.parameters.first(), statement.offsets.first()) {
        let origin = inside(context.text, &warm, offset..offset + 1 + name.len());
        let hint =
            "write a statement without parameters, as in \"SELECT id FROM products ORDER BY sold DESC LIMIT 1000\"";
        context.complain(&origin, format!("`:{name}` has no value here: no key is asked for yet"), hint);
    }
    Some(Warm { sql: warm.value, origin: warm.origin })
}

/// What is said of keys that the applications fill themselves; nothing of a load that there is not.
fn clients(context: &mut Context<'_>, raw: &raw::Route) -> Filler {
    fn place<T>(setting: &Option<Setting<T>>) -> Option<Origin> {
        setting.as_ref().map(|setting| setting.origin.clone())
    }
    let of_loads = [
        ("database", place(&raw.database)),
        ("rows", place(&raw.rows)),
        ("value", place(&raw.value)),
        ("negative_ttl", place(&raw.negative_ttl)),
        ("max_value", place(&raw.max_value)),
        ("load_timeout", place(&raw.load_timeout)),
        ("on_modify", place(&raw.on_modify)),
        ("grace", place(&raw.grace)),
        ("early_refresh", place(&raw.early_refresh)),
        ("check_hits", place(&raw.check_hits)),
        ("check_invalidations", place(&raw.check_invalidations)),
        ("warm", place(&raw.warm)),
    ];
    for (key, origin) in of_loads.into_iter().filter_map(|(key, origin)| Some((key, origin?))) {
        let message = format!("`{key}` is said of a `load`, and this route has none");
        let hint = "write `load = \"SELECT … WHERE id = :id\"`, or remove this: without `load` the applications fill these \
                    keys themselves";
        context.complain(&origin, message, hint);
    }
    Filler::Clients { wait_for_fill: wait_for_fill(context, raw) }
}

fn max_value(context: &mut Context<'_>, raw: &raw::Route) -> usize {
    context
        .read_within(&raw.max_value, Size(1 << 20), (Size(1), Size(512 << 20)), |size| {
            format!("{:?}", sizes::show(size.0))
        })
        .0
}

fn read_pattern(context: &mut Context<'_>, key: &At<String>) -> Option<Pattern> {
    match pattern::parse(&key.value) {
        Ok(pattern) => Some(pattern),
        Err((span, problem)) => {
            let origin = inside(context.text, key, span);
            context.complain(&origin, problem.message, problem.hint);
            None
        }
    }
}

fn read_statement(context: &mut Context<'_>, load: &At<String>) -> Option<NamedSql> {
    match sql::parse(&load.value) {
        Ok(statement) => Some(statement),
        Err(error) => {
            let origin = inside(context.text, load, error.span);
            context.complain(&origin, error.message, error.hint);
            None
        }
    }
}

/// The place of a part of a string value. Where the TOML string has escapes, that of the whole value.
fn inside<'a>(text: &'a str, value: &At<String>, part: std::ops::Range<usize>) -> Origin {
    let whole = value.origin.0.clone();
    let written: Option<&'a str> = text.get(whole.clone());
    match written.and_then(|written| written.find(&value.value)) {
        Some(quotes) if !part.is_empty() => Origin(whole.start + quotes + part.start..whole.start + quotes + part.end),
        _ => value.origin.clone(),
    }
}

/// The parameters in the pattern's order; one error for each that the pattern lacks.
fn read_parameters(
    context: &mut Context<'_>,
    pattern: &Pattern,
    statement: &NamedSql,
    load: &At<String>,
) -> Vec<String> {
    let parts: Vec<&str> = pattern.names().collect();
    for (name, offset) in statement.parameters.iter().zip(&statement.offsets) {
        if !parts.contains(&name.as_str()) {
            let origin = inside(context.text, load, *offset..offset + 1 + name.len());
            let message = format!("`:{name}` is no part of the key `{}`", pattern.text);
            context.complain(&origin, message, parameter_hint(&pattern.text, name, &parts));
        }
    }
    let used = parts.iter().filter(|part| statement.parameters.iter().any(|name| name == *part));
    used.map(|part| (*part).to_owned()).collect()
}

/// Each tag once. `names`: of the key's parts; `columns`: whether there are rows for others to be columns of.
fn read_tags(
    context: &mut Context<'_>,
    setting: &Option<Setting<Vec<At<String>>>>,
    names: &[&str],
    columns: bool,
) -> Vec<TagPattern> {
    let Some(written) = context.read(setting) else { return Vec::new() };
    if written.value.len() > tags::MOST {
        context.complain(&written.origin, format!("more than {} tags", tags::MOST), "write fewer");
    }
    let mut tags: Vec<TagPattern> = Vec::new();
    for tag in &written.value {
        match tags::parse(&tag.value, names) {
            Ok(pattern) if tags.contains(&pattern) => {
                context.complain(
                    &tag.origin,
                    format!("the tag {:?} stands here twice", tag.value),
                    "remove one of them",
                );
            }
            Ok(pattern) => {
                if let (Some(column), false) = (pattern.columns().next(), columns) {
                    let message =
                        format!("`{{{column}}}` is no part of the key, and without `load` there are no columns");
                    context.complain(
                        &tag.origin,
                        message,
                        "write tags of the key's parts for this route, or `tags = []`",
                    );
                }
                tags.push(pattern);
            }
            Err((span, problem)) => {
                let origin = inside(context.text, tag, span);
                context.complain(&origin, problem.message, problem.hint);
            }
        }
    }
    tags
}

fn parameter_hint(pattern: &str, name: &str, parts: &[&str]) -> String {
    let all: Vec<String> = parts.iter().map(|part| format!(":{part}")).collect();
    match (keys::nearest(name, parts), parts) {
        (_, []) => format!("the key has no parts; write one, as in \"{pattern}:{{{name}}}\""),
        (Some(near), [_, _, ..]) => format!("did you mean `:{near}`? the key's parts are {}", all.join(", ")),
        (_, [_]) => format!("the key's only part is {}", all.join(", ")),
        _ => format!("the key's parts are {}", all.join(", ")),
    }
}

fn read_database(
    context: &mut Context<'_>,
    databases: &Databases<'_>,
    setting: &Option<Setting<String>>,
    section: &Origin,
) -> Option<String> {
    let names = &databases.names;
    let known = if names.is_empty() {
        "there is none: add [database.main]".into()
    } else {
        format!("known: {}", names.join(", "))
    };
    if setting.is_none() {
        return match names.as_slice() {
            [only] => Some((*only).to_owned()),
            [] => {
                context.complain(
                    section,
                    "this route has no database to load from",
                    "add [database.main] with a `url`",
                );
                None
            }
            _ => {
                context.complain(
                    section,
                    "this route does not say which database",
                    format!("write `database`; {known}"),
                );
                None
            }
        };
    }
    let At { origin, value } = context.read(setting)?;
    if names.contains(&value.as_str()) {
        return Some(value);
    }
    let hint = match keys::nearest(&value, names) {
        Some(near) => format!("did you mean {near:?}? {known}"),
        None => known,
    };
    context.complain(&origin, format!("there is no [database.{value}]"), hint);
    None
}

/// `rows` and `value`, which must fit each other.
fn shape(context: &mut Context<'_>, raw: &raw::Route) -> (Rows, Encoding) {
    let rows = context.read_or(&raw.rows, Rows::One);
    let value = context.read_or(&raw.value, Encoding::Json);
    if rows.value == Rows::Many && matches!(value.value, Encoding::Hash | Encoding::Text) {
        let message = format!("value = {:?} holds one row, and rows = \"many\"", value.value.word());
        let hint = "write value = \"json\" or \"msgpack\", or rows = \"one\"";
        let diagnostic = Diagnostic::at(&rows.origin, message, hint);
        context.diagnostics.push(diagnostic.with_related(&value.origin, "one row"));
    }
    (rows.value, value.value)
}

fn show(duration: &Duration) -> String {
    format!("{:?}", durations::show(*duration))
}

/// `ttl` and `jitter`.
fn lifetime(context: &mut Context<'_>, raw: &raw::Route) -> (Duration, f64) {
    let jitter = context.read_or(&raw.jitter, Share(0.1));
    if jitter.value >= Share(1.0) {
        let message = format!("a jitter of {} may leave no TTL at all", shares::show(jitter.value.0));
        context.complain(&jitter.origin, message, "write a share below \"100%\", as in \"10%\"");
    }
    let bounds = (Duration::from_millis(1), YEAR);
    (context.read_within(&raw.ttl, Duration::from_secs(300), bounds, show), jitter.value.0)
}

fn negative_ttl(context: &mut Context<'_>, raw: &raw::Route) -> Duration {
    context.read_within(&raw.negative_ttl, Duration::from_secs(60), (Duration::ZERO, YEAR), show)
}

fn near(context: &mut Context<'_>, raw: &raw::Route) -> Duration {
    context.read_within(&raw.near, Duration::ZERO, (Duration::ZERO, LONGEST_NEAR), show)
}

fn wait_for_fill(context: &mut Context<'_>, raw: &raw::Route) -> Duration {
    context.read_within(&raw.wait_for_fill, Duration::ZERO, (Duration::ZERO, LONGEST_WAIT), show)
}

/// The database ends a statement after its own timeout: a load cannot take longer.
fn load_timeout(context: &mut Context<'_>, raw: &raw::Route, database: Option<&Database>) -> Duration {
    let default = database.map_or(Duration::from_secs(2), |database| database.timeout);
    let bounds = (Duration::from_millis(1), Duration::from_secs(3600));
    let At { origin, value } = context.read_within_at(&raw.load_timeout, default, bounds, show);
    if let Some(database) = database.filter(|database| value > database.timeout) {
        let (name, limit) = (&database.name, durations::show(database.timeout));
        let message = format!("{} is longer than the timeout of [database.{name}], {limit}", durations::show(value));
        let hint = format!("write {limit:?} at most, or raise `timeout` in [database.{name}]");
        context.complain(&origin, message, hint);
    }
    value
}

/// The label in metrics, logs and error lines: short, and of characters that need no quoting anywhere.
fn name(
    context: &mut Context<'_>,
    setting: &Option<Setting<String>>,
    key: Option<&At<String>>,
    pattern: Option<&Pattern>,
) -> (String, Origin) {
    if let Some(At { origin, value }) = context.read(setting) {
        if !is_plain(&value) {
            let hint = "write 1 to 64 of letters, digits, `_`, `-`, `.` and `:`";
            context.complain(&origin, format!("{value:?} is no name of a route"), hint);
        }
        return (value, origin);
    }
    let (Some(key), Some(pattern)) = (key, pattern) else { return Default::default() };
    let head = pattern.head();
    let name = head.strip_suffix(':').filter(|name| !name.is_empty()).unwrap_or(head);
    if !is_plain(name) {
        let hint = "add a `name` of letters, digits, `_`, `-`, `.` and `:` to the route";
        context.complain(&key.origin, format!("{name:?}, what the key begins with, is no name of a route"), hint);
    }
    (name.to_owned(), key.origin.clone())
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
}

fn complain_duplicate_name(context: &mut Context<'_>, earlier: &[Named], later: &Named) {
    let Some(first) = earlier.iter().find(|route| route.route.name == later.route.name) else { return };
    let message = format!("there are two routes `{}`", later.route.name);
    let hint = match later.name_origin == later.route.key_origin {
        true => "a route without `name` is called after its key's literal head: give it a `name` of its own",
        false => "give it another name: metrics tell routes apart by it",
    };
    let diagnostic = Diagnostic::at(&later.name_origin, message, hint);
    context.diagnostics.push(diagnostic.with_related(&first.name_origin, "the first one"));
}

fn complain_shadowed(context: &mut Context<'_>, earlier: &[Named], later: &Named) -> bool {
    let shadowing = earlier.iter().find(|route| shadow::covers(&route.route.key, &later.route.key));
    let Some(first) = shadowing else { return false };
    let message = format!("no key reaches this route: `{}` matches them all", first.route.key.text);
    let hint = match shadow::covers(&later.route.key, &first.route.key) {
        true => "remove one of the two: they match the same keys",
        false => "put it before the other: the first route that matches wins",
    };
    let diagnostic = Diagnostic::at(&later.route.key_origin, message, hint);
    context.diagnostics.push(diagnostic.with_related(&first.route.key_origin, "matches first"));
    true
}
