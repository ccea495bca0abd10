//! What clients and tools ask of a server, where the embedded store stands in for one: COMMAND, CONFIG GET, TIME, ROLE …

use super::app::{App, EMBEDDED_VERSION};
use crate::resp::args::Args;
use crate::resp::command::{COMMANDS, Flags, Spec, lookup};
use crate::resp::write::{self, Protocol};
use crate::store::embedded::{Context, glob, supports};
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers `args` if it is such a command; false: it is the embedded store's.
pub fn answer(app: &App, context: Context, args: Args<'_>, out: &mut Vec<u8>) -> bool {
    let Some(spec) = args.get(0).and_then(lookup) else { return false };
    let words: Vec<String> = match spec.name {
        "command" | "config" => args.from(1).iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        _ => Vec::new(),
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match (spec.name, args.len()) {
        ("command", _) => command(&words, args, context.protocol, out),
        ("config", _) => config(app, &words, context.protocol, out),
        ("time", 1) => time(out),
        ("role", 1) => {
            write::array(out, 3);
            write::bulk(out, "master");
            write::integer(out, 0);
            write::array(out, 0);
        }
        ("lolwut", _) => write::verbatim(out, context.protocol, format!("Redis ver. {EMBEDDED_VERSION}\n")),
        _ => return false,
    }
    true
}

fn time(out: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    write::array(out, 2);
    write::bulk(out, now.as_secs().to_string());
    write::bulk(out, now.subsec_micros().to_string());
}

/// COMMAND and its subcommands, over the commands that are served here.
fn command(words: &[&str], args: Args<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let served = || {
        COMMANDS
            .iter()
            .filter(|spec| supports(spec.name.as_bytes()) || spec.handling == crate::resp::command::Handling::Own)
    };
    let sub = words.first().map(|word| word.to_ascii_lowercase());
    match (sub.as_deref(), words.len()) {
        (None, _) => {
            write::array(out, served().count());
            served().for_each(|spec| describe(spec, protocol, out));
        }
        (Some("count"), 1) => write::integer(out, served().count() as i64),
        (Some("list"), 1) => {
            write::array(out, served().count());
            served().for_each(|spec| write::bulk(out, spec.name));
        }
        (Some("info"), _) => {
            write::array(out, words.len() - 1);
            for name in &words[1..] {
                match served().find(|spec| spec.name.eq_ignore_ascii_case(name)) {
                    Some(spec) => describe(spec, protocol, out),
                    None => write::nil_array(out, protocol),
                }
            }
        }
        // Documentation is for people; a tool that finds none goes on without.
        (Some("docs"), _) => write::map(out, protocol, 0),
        (Some("getkeys"), 2..) => get_keys(args.from(2), out),
        (Some("help"), 1) => {
            write::array(out, 1);
            write::simple(out, "COMMAND [COUNT | DOCS | GETKEYS | INFO | LIST]");
        }
        (Some("count" | "list" | "getkeys" | "help"), _) => {
            let sub = sub.unwrap_or_default();
            write::error(out, format!("ERR wrong number of arguments for 'command|{sub}' command"));
        }
        _ => write::error(out, format!("ERR unknown subcommand '{}'. Try COMMAND HELP.", words[0])),
    }
}

fn get_keys(args: Args<'_>, out: &mut Vec<u8>) {
    let Some(spec) = lookup(&args[0]) else { return write::error(out, "ERR Invalid command specified") };
    if !spec.arity_ok(args.len()) {
        return write::error(out, "ERR Invalid number of arguments specified for command");
    }
    let positions: Vec<usize> = spec.key_positions(args).collect();
    if positions.is_empty() {
        return write::error(out, "ERR The command has no key arguments");
    }
    write::array(out, positions.len());
    positions.into_iter().for_each(|position| write::bulk(out, &args[position]));
}

/// One command as COMMAND INFO tells of it (Redis 7's ten fields; tips, key specifications and subcommands are left
/// empty).
fn describe(spec: &Spec, protocol: Protocol, out: &mut Vec<u8>) {
    const FLAGS: [(Flags, &str); 8] = [
        (Flags::WRITE, "write"),
        (Flags::READONLY, "readonly"),
        (Flags::DENYOOM, "denyoom"),
        (Flags::ADMIN, "admin"),
        (Flags::NOSCRIPT, "noscript"),
        (Flags::FAST, "fast"),
        (Flags::NO_AUTH, "no_auth"),
        (Flags::MOVABLE_KEYS, "movablekeys"),
    ];
    let flags: Vec<&str> = FLAGS.iter().filter(|(flag, _)| spec.flags.contains(*flag)).map(|(_, name)| *name).collect();
    write::array(out, 10);
    write::bulk(out, spec.name);
    write::integer(out, spec.arity.into());
    write::set(out, protocol, flags.len());
    flags.iter().for_each(|flag| write::simple(out, flag));
    for position in [spec.first, spec.last, spec.step] {
        write::integer(out, position.into());
    }
    (0..4).for_each(|_| write::array(out, 0));
}

/// CONFIG GET of what tools look at; nothing can be set through a client.
fn config(app: &App, words: &[&str], protocol: Protocol, out: &mut Vec<u8>) {
    match words {
        [sub, patterns @ ..] if sub.eq_ignore_ascii_case("get") && !patterns.is_empty() => {
            let asked = |name: &str| {
                patterns.iter().any(|pattern| glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()))
            };
            let found: Vec<(&str, String)> = settings(app).into_iter().filter(|(name, _)| asked(name)).collect();
            write::map(out, protocol, found.len());
            for (name, value) in found {
                write::bulk(out, name);
                write::bulk(out, value);
            }
        }
        [sub] if sub.eq_ignore_ascii_case("get") => {
            write::error(out, "ERR wrong number of arguments for 'config|get' command");
        }
        _ => write::error(out, "ERR only CONFIG GET is served; settings belong in Weir's configuration file"),
    }
}

fn settings(app: &App) -> Vec<(&'static str, String)> {
    vec![
        ("appendonly", "no".into()),
        ("databases", "16".into()),
        ("maxclients", app.config.server.max_clients.to_string()),
        ("maxmemory", app.config.embedded.max_memory.to_string()),
        ("maxmemory-policy", "allkeys-lfu".into()),
        ("proto-max-bulk-len", app.config.limits.max_command.to_string()),
        ("save", String::new()),
        ("timeout", "0".into()),
    ]
}
