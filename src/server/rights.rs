//! What one user may do, checked on each of its commands before anything else is done about it: the command, its keys,
//! its channels. Whether the answer would be a hit, a miss or an error makes no difference.
//!
//! The errors are those of a Redis 7.0 with the same rights. Two rules are Weir's own, for what a script does is seen by
//! nobody but the upstream, which runs it with Weir's rights: a user with limits runs scripts only if `users.toml` says
//! so, and one that may only read runs only those that the server itself keeps from writing.

use super::rules::Commands;
use crate::config::{Diagnostic, KeyRule, User, Users};
use crate::resp::args::Args;
use crate::resp::command::{COMMANDS, Flags, Group, Keys, Spec, Use, Uses};
use crate::store::embedded::glob;
use std::sync::LazyLock;

/// See the module's page.
#[derive(Debug)]
pub struct Rights {
    commands: Commands,
    /// `None`: all.
    keys: Option<Vec<KeyRule>>,
    /// `None`: all.
    channels: Option<Vec<String>>,
    read_only: bool,
    scripts: bool,
}

/// What commands, and their subcommands, do to their keys: by index in [`COMMANDS`].
static USES: LazyLock<Vec<(Uses, Box<[Uses]>)>> = LazyLock::new(|| {
    let of = |spec: &Spec| spec.subcommands.iter().map(|sub| Uses::of(spec, Some(sub))).collect();
    COMMANDS.iter().map(|spec| (Uses::of(spec, None), of(spec))).collect()
});

const NO_KEY: &str = "NOPERM this user has no permissions to access one of the keys used as arguments";
const NO_CHANNEL: &str = "NOPERM this user has no permissions to access one of the channels used as arguments";

impl Rights {
    /// Those of a user of the file; `None`: it may do everything. What is wrong with them is added to `problems`.
    pub fn of(user: &User, file: &Users, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let commands =
            user.commands.as_ref().map_or_else(|| Commands::all(true), |words| Commands::of(words, file, problems));
        let unlimited = |rule: &KeyRule| rule.pattern == "*" && rule.reads && rule.writes;
        let keys = user.keys.clone().filter(|keys| !keys.iter().any(unlimited));
        let channels = user.channels.clone().filter(|channels| !channels.iter().any(|pattern| pattern == "*"));
        let rights = Rights { commands, keys, channels, read_only: user.read_only, scripts: user.scripts };
        (rights.is_limited() || rights.read_only).then_some(rights)
    }

    fn is_limited(&self) -> bool {
        self.keys.is_some() || self.channels.is_some() || !self.commands.is_all()
    }

    /// Why a command is refused, as the text of the error; `None`: it may be run. `known` is what the table says of it.
    /// A wrong number of arguments is told before a lack of rights.
    pub fn refusal(&self, known: Option<(u16, &'static Spec)>, args: Args<'_>) -> Option<String> {
        let Some((index, spec)) = known else { return self.refusal_of_unknown(&args[0]) };
        if spec.flags.contains(Flags::NO_AUTH) {
            return None;
        }
        let sub = args.get(1).and_then(|name| position_of(spec, name));
        let called = sub.map_or(spec, |sub| &spec.subcommands[sub]);
        let denial = self.denial(index, spec, sub, args)?;
        if spec.arity_ok(args.len()) && called.arity_ok(args.len()) {
            return Some(denial);
        }
        Some(format!("ERR wrong number of arguments for '{}' command", full_name(spec, sub)))
    }

    fn denial(&self, index: u16, spec: &'static Spec, sub: Option<usize>, args: Args<'_>) -> Option<String> {
        let called = sub.map_or(spec, |sub| &spec.subcommands[sub]);
        if sub.is_none() && !spec.subcommands.is_empty() && args.len() > 1 {
            return self.denial_of_new(index, spec, &args[1]);
        }
        let not_run = || format!("NOPERM this user has no permissions to run the '{}' command", full_name(spec, sub));
        if !self.commands.contains(index, sub) {
            return Some(not_run());
        }
        let is_script = matches!(spec.name, "eval" | "evalsha" | "fcall" | "eval_ro" | "evalsha_ro" | "fcall_ro");
        if self.read_only && is_script && !spec.name.ends_with("_ro") {
            let name = spec.name.to_uppercase();
            return Some(format!("{}: it may only read; use {name}_RO", not_run()));
        }
        if self.read_only && called.flags.contains(Flags::WRITE) {
            return Some(format!("{}: it may only read", not_run()));
        }
        if is_script && !self.scripts && self.is_limited() {
            let way_out = "what a script does cannot be checked; users.toml allows it with `scripts = true`";
            return Some(format!("{}: {way_out}", not_run()));
        }
        self.denial_of_keys(index, spec, sub, args).or_else(|| self.denial_of_channels(spec, args))
    }

    fn denial_of_keys(&self, index: u16, spec: &Spec, sub: Option<usize>, args: Args<'_>) -> Option<String> {
        // Shard channels stand where keys do, and are none.
        let rules = self.keys.as_ref().filter(|_| spec.group != Group::PubSub)?;
        let (own, subs) = &USES[usize::from(index)];
        let uses = sub.map_or(own, |sub| &subs[sub]);
        let allowed = |(number, position): (usize, usize)| fits(rules, &args[position], uses.of_key(number, args));
        if !spec.key_positions(args).enumerate().all(allowed) {
            return Some(NO_KEY.into());
        }
        let reads_all = rules.iter().any(|rule| rule.pattern == "*" && rule.reads);
        let option = if reads_all { None } else { reading_option(spec, args) };
        option.map(|option| format!("ERR {option} option of SORT denied due to insufficient ACL permissions."))
    }

    fn denial_of_channels(&self, spec: &Spec, args: Args<'_>) -> Option<String> {
        let patterns = self.channels.as_ref()?;
        let fits = |channel: &[u8]| patterns.iter().any(|pattern| glob::matches(pattern.as_bytes(), channel));
        let allowed = match spec.name {
            "publish" | "spublish" => args.get(1).is_none_or(fits),
            "subscribe" | "ssubscribe" => args.from(1).iter().all(fits),
            // A pattern may be subscribed to only as it stands in the file: whether one is within another nobody knows.
            "psubscribe" => args.from(1).iter().all(|wanted| patterns.iter().any(|known| known.as_bytes() == wanted)),
            _ => true,
        };
        (!allowed).then(|| NO_CHANNEL.into())
    }

    /// A subcommand that is not in the table: for those who may do everything with the command.
    fn denial_of_new(&self, index: u16, spec: &Spec, sub: &[u8]) -> Option<String> {
        if self.commands.contains(index, None) && self.keys.is_none() && self.channels.is_none() && !self.read_only {
            return None;
        }
        let sub = String::from_utf8_lossy(&sub[..sub.len().min(128)]).into_owned();
        Some(format!("ERR unknown subcommand '{sub}'. Try {} HELP.", spec.name.to_uppercase()))
    }

    /// What such a command does, and where its keys are, is not known.
    fn refusal_of_unknown(&self, name: &[u8]) -> Option<String> {
        let shown = String::from_utf8_lossy(&name[..name.len().min(128)]).to_lowercase();
        let denied = format!("NOPERM this user has no permissions to run the '{shown}' command");
        if !self.commands.contains_unknown(name) {
            return Some(denied);
        }
        let way_out = "Weir does not know what it does; only users without limits on keys and channels may run it";
        let limited = self.keys.is_some() || self.channels.is_some() || self.read_only;
        limited.then(|| format!("{denied}: {way_out}"))
    }
}

fn position_of(spec: &Spec, sub: &[u8]) -> Option<usize> {
    spec.subcommands.iter().position(|spec| spec.name.as_bytes().eq_ignore_ascii_case(sub))
}

fn full_name(spec: &Spec, sub: Option<usize>) -> String {
    sub.map_or_else(|| spec.name.to_owned(), |sub| format!("{}|{}", spec.name, spec.subcommands[sub].name))
}

/// Whether one of the rules allows all that is done to the key.
fn fits(rules: &[KeyRule], key: &[u8], does: Use) -> bool {
    let allows = |rule: &KeyRule| (rule.reads || !does.reads) && (rule.writes || !does.writes);
    rules.iter().any(|rule| allows(rule) && glob::matches(rule.pattern.as_bytes(), key))
}

/// The first option of a SORT that reads keys which its arguments do not name.
fn reading_option(spec: &Spec, args: Args<'_>) -> Option<&'static str> {
    let sorts = spec.keys == Keys::SortStore || spec.name == "sort_ro";
    let mut at = 2;
    while let Some(option) = args.get(at).filter(|_| sorts) {
        let value = args.get(at + 1)?;
        match option.to_ascii_lowercase().as_slice() {
            b"by" if value.contains(&b'*') => return Some("BY"),
            b"get" => return Some("GET"),
            b"by" | b"store" => at += 2,
            b"limit" => at += 3,
            _ => at += 1,
        }
    }
    None
}
