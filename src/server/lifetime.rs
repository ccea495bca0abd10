//! How long what a client writes on a routed key may live: no longer than the route's `ttl`, and its own TTL shortened by
//! the route's `jitter`, so that what was set together does not end together (T27).
//!
//! A command that says a TTL is changed before anything is done about it: it says a shorter one. That is one step at the store, so
//! that the key at no moment lives longer or is lost, and it is the same step on every way: shared links, a cluster's
//! nodes, links of a client's own, MULTI, users of the upstream, the embedded store. SET without a TTL is given one likewise.
//! Whatever else leaves a value (INCR, HSET, MSET, PERSIST …) is followed by a PEXPIRE … LT.
//!
//! - A TTL is only ever shortened, and then the route's `grace` is added: so long the store keeps the value beyond it.
//!   That of SET … NX, a lock, only to the route's `ttl`; nor is EXPIRE … GT jittered, which
//!   is there to prolong.
//! - What the server would refuse, and what is not understood here, is left as it is: the error is the server's own.
//! - Points in time (EXAT, PXAT, EXPIREAT, PEXPIREAT) are shortened by this machine's clock.
//! - A client that is a user of the upstream may have the right to SETEX and none to SET: whole seconds stay whole seconds.

use crate::cache::Engine;
use crate::cache::route::Route;
use crate::clock::Clock;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Flags, Spec};
use crate::resp::number;
use crate::store::Store;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a command leaves at its keys, as far as it can be told from the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// No value.
    Nothing,
    /// A value that lives no longer than its route allows: [`shortened`] has seen to that.
    Bounded,
    /// A value whose TTL is the client's own affair, up to the route's.
    Own,
    /// Any value.
    Value,
}

/// A routed key that a command writes.
pub type Written = (Vec<u8>, Arc<Route>, Leaves);

impl Leaves {
    /// What a call leaves that has gone through [`shortened`].
    pub fn of(spec: &Spec, args: Args<'_>) -> Leaves {
        if matches!(spec.name, "del" | "unlink" | "getdel") {
            return Leaves::Nothing;
        }
        match said(spec, args) {
            Some(Said { ttl: Some(ttl), .. }) if !ttl.unit.is_absolute() && ttl.milliseconds(args).is_some() => {
                Leaves::Bounded
            }
            Some(Said { own: true, .. }) => Leaves::Own,
            _ if spec.name == "setnx" => Leaves::Own,
            _ => Leaves::Value,
        }
    }

    /// Whether there may be a value.
    pub fn a_value(self) -> bool {
        self != Leaves::Nothing
    }

    /// What a key's TTL must be cut to after the command; `None`: to nothing.
    pub fn cap<S, C>(self, route: &Route, engine: &Engine<S, C>) -> Option<Duration>
    where
        S: Store + Clone + 'static,
        C: Clock + Clone + 'static,
    {
        match self {
            Leaves::Nothing | Leaves::Bounded => None,
            Leaves::Own => Some(route.config.ttl + route.grace()),
            Leaves::Value => Some(engine.jittered(&route.config) + route.grace()),
        }
    }
}

/// How far a TTL is shortened.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The longest there may be.
    pub most: Duration,
    /// The share of it that is taken away, in `[0, 1)`.
    pub share: f64,
    /// Seconds may become milliseconds.
    pub finely: bool,
    /// What is added to it all: the value may be served for so long after its TTL.
    pub grace: Duration,
}

/// Whether a command says how long its key may live.
#[inline]
pub fn says(spec: &Spec) -> bool {
    const SAY: [&str; 8] = ["set", "setex", "psetex", "getex", "expire", "pexpire", "expireat", "pexpireat"];
    spec.flags.contains(Flags::WRITE) && SAY.contains(&spec.name)
}

/// The command that says a shorter TTL in place of this one; `None`: this one may go as it is.
pub fn shortened(spec: &Spec, args: Args<'_>, bounds: Bounds) -> Option<OwnedArgs> {
    let said = said(spec, args)?;
    let share = if said.own { 0.0 } else { bounds.share };
    let most = i64::try_from(bounds.most.as_millis()).unwrap_or(i64::MAX);
    let grace = i64::try_from(bounds.grace.as_millis()).unwrap_or(i64::MAX);
    let cut = |left: i64| {
        let left = left.min(most);
        (left - (left as f64 * share) as i64).max(1).saturating_add(grace)
    };
    let Some(ttl) = said.ttl else {
        let (word, ttl) = (&b"PX"[..], cut(most).to_string());
        return (spec.name == "set").then(|| args.iter().chain([word, ttl.as_bytes()]).collect());
    };
    let written = ttl.milliseconds(args)?;
    let begin = if ttl.unit.is_absolute() { now() } else { 0 };
    let left = written.checked_sub(begin).filter(|&left| left > 0)?;
    let (new, most) = (begin.saturating_add(cut(left)), begin.saturating_add(most).saturating_add(grace));
    (new != written).then(|| ttl.rewritten(spec, args, new, most, bounds.finely))
}

/// How long a key is to live that its client wants to end then, read or not: EXPIRE and its kin and GETEX say so, and SET … NX
/// with a TTL; `None`: nothing of the kind.
pub fn held(spec: &Spec, args: Args<'_>) -> Option<Duration> {
    if !says(spec) {
        return None;
    }
    let said = said(spec, args)?;
    let ttl = said.ttl.filter(|_| said.own || !matches!(spec.name, "set" | "setex" | "psetex"))?;
    let begin = if ttl.unit.is_absolute() { now() } else { 0 };
    let left = ttl.milliseconds(args)?.checked_sub(begin)?;
    u64::try_from(left).ok().filter(|&left| left > 0).map(Duration::from_millis)
}

/// Whether a command, if it is done, leaves at the key of this index among its keys a value whose end nobody has held: another than
/// was there, or none, or one that is to end no more. Not of those that leave what is there if they fail (SETNX, RENAMENX, MOVE).
pub fn lets_go(spec: &Spec, args: Args<'_>, index: usize) -> bool {
    const ANY: [&str; 9] = ["setex", "psetex", "getset", "mset", "del", "unlink", "getdel", "rename", "persist"];
    const FIRST: [&str; 9] = [
        "bitop",
        "sdiffstore",
        "sinterstore",
        "sunionstore",
        "zdiffstore",
        "zinterstore",
        "zunionstore",
        "zrangestore",
        "geosearchstore",
    ];
    let says = |words: &[&[u8]], from: usize| {
        args.from(from).iter().any(|word| words.iter().any(|option| word.eq_ignore_ascii_case(option)))
    };
    match spec.name {
        "set" => !says(&[b"NX", b"KEEPTTL", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"], 3),
        "getex" => says(&[b"PERSIST"], 2),
        "copy" => index == 1 && says(&[b"REPLACE"], 3),
        "restore" => says(&[b"REPLACE"], 4),
        name => ANY.contains(&name) || (index == 0 && FIRST.contains(&name)),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What a well-formed call says of its key's TTL.
struct Said {
    /// The TTL; `None`: none.
    ttl: Option<Ttl>,
    /// It is not to be jittered.
    own: bool,
}

#[derive(Clone, Copy)]
struct Ttl {
    unit: Unit,
    /// Where its number stands.
    at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
    AtSecond,
    AtMillisecond,
}

impl Unit {
    fn is_absolute(self) -> bool {
        matches!(self, Unit::AtSecond | Unit::AtMillisecond)
    }

    fn is_whole(self) -> bool {
        matches!(self, Unit::Seconds | Unit::AtSecond)
    }

    /// That an option of SET and GETEX names.
    fn of_option(word: &[u8]) -> Option<Unit> {
        let units: [(&[u8], Unit); 4] = [
            (b"EX", Unit::Seconds),
            (b"PX", Unit::Milliseconds),
            (b"EXAT", Unit::AtSecond),
            (b"PXAT", Unit::AtMillisecond),
        ];
        units.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| *unit)
    }
}

/// What a call says that the server would accept, as far as that can be told; `None` of all others.
fn said(spec: &Spec, args: Args<'_>) -> Option<Said> {
    let unit = match spec.name {
        "set" if args.len() > 2 => return options(args, 3, true),
        "getex" if args.len() > 2 => return options(args, 2, false),
        "setex" | "expire" => Unit::Seconds,
        "psetex" | "pexpire" => Unit::Milliseconds,
        "expireat" => Unit::AtSecond,
        "pexpireat" => Unit::AtMillisecond,
        _ => return None,
    };
    let ttl = Some(Ttl { unit, at: 2 });
    if matches!(spec.name, "setex" | "psetex") {
        return (args.len() == 4).then_some(Said { ttl, own: false });
    }
    let conditions: [&[u8]; 4] = [b"NX", b"XX", b"GT", b"LT"];
    let known = |word: &[u8]| conditions.iter().any(|condition| word.eq_ignore_ascii_case(condition));
    let well_formed = args.len() > 2 && args.from(3).iter().all(known);
    well_formed.then(|| Said { ttl, own: args.from(3).iter().any(|word| word.eq_ignore_ascii_case(b"GT")) })
}

/// The options of SET or GETEX, from position `first` on.
fn options(args: Args<'_>, first: usize, set: bool) -> Option<Said> {
    let mut said = Said { ttl: None, own: false };
    let mut at = first;
    while let Some(word) = args.get(at) {
        let is = |option: &[u8]| word.eq_ignore_ascii_case(option);
        let compares = [&b"IFEQ"[..], b"IFNE", b"IFDEQ", b"IFDNE"].iter().any(|option| is(option));
        if let (Some(unit), None) = (Unit::of_option(word), said.ttl) {
            at += 1;
            said.ttl = Some(Ttl { unit, at });
        } else if set && is(b"NX") {
            said.own = true;
        } else if set && compares {
            at += 1;
        } else if !(set && (is(b"XX") || is(b"GET"))) {
            // KEEPTTL and PERSIST too: the key's TTL is what it is.
            return None;
        }
        at += 1;
    }
    (at == args.len()).then_some(said)
}

impl Ttl {
    /// In milliseconds, if it is a time that a server takes.
    fn milliseconds(self, args: Args<'_>) -> Option<i64> {
        let number = number::parse(args.get(self.at)?).filter(|&number| number > 0)?;
        if self.unit.is_whole() { number.checked_mul(1000) } else { Some(number) }
    }

    /// The same command with another time, in milliseconds.
    fn rewritten(self, spec: &Spec, args: Args<'_>, new: i64, most: i64, finely: bool) -> OwnedArgs {
        let option = matches!(spec.name, "set" | "getex");
        // SET and PEXPIRE are what Weir's own user has the right to in any case.
        let finely = !self.unit.is_whole() || option || (finely && spec.name != "expireat");
        if spec.name == "setex" && finely {
            let new = new.to_string();
            return OwnedArgs::from_iter([b"SET", &args[1], &args[3], b"PX", new.as_bytes()]);
        }
        let up = new.saturating_add(999) / 1000;
        let number = match finely {
            true => new,
            // Up, lest more than the jitter's share is taken; but not beyond the longest.
            false if up.saturating_mul(1000) <= most => up,
            false => (new / 1000).max(1),
        };
        let number = number.to_string();
        let word: &[u8] = match self.unit {
            _ if spec.name == "expire" && finely => b"PEXPIRE",
            Unit::Seconds | Unit::Milliseconds => b"PX",
            Unit::AtSecond | Unit::AtMillisecond => b"PXAT",
        };
        let word_at = if option { self.at - 1 } else { 0 };
        let renamed = option || (spec.name == "expire" && finely);
        let replaced = |(at, arg)| match at {
            at if at == self.at => number.as_bytes(),
            at if at == word_at && renamed => word,
            _ => arg,
        };
        args.iter().enumerate().map(replaced).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::command::lookup;

    fn words(line: &str) -> OwnedArgs {
        line.split(' ').collect()
    }

    /// What becomes of a command on a route with a ttl of 100 s.
    fn made(line: &str, share: f64, finely: bool) -> String {
        made_with(line, share, finely, Duration::ZERO)
    }

    fn made_with(line: &str, share: f64, finely: bool, grace: Duration) -> String {
        let args = words(line);
        let args = args.as_args();
        let spec = lookup(&args[0]).expect("a command");
        let bounds = Bounds { most: Duration::from_secs(100), share, finely, grace };
        let changed = if says(spec) { shortened(spec, args, bounds) } else { None };
        let text =
            |args: Args<'_>| args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>();
        changed.map_or_else(|| line.to_owned(), |changed| text(changed.as_args()).join(" "))
    }

    fn leaves(line: &str) -> Leaves {
        let args = words(line);
        Leaves::of(lookup(&args.as_args()[0]).expect("a command"), args.as_args())
    }

    #[test]
    fn a_ttl_is_shortened_by_the_share_and_cut_to_the_routes() {
        for (line, expected) in [
            ("SET k v", "SET k v PX 90000"),
            ("SET k v XX GET", "SET k v XX GET PX 90000"),
            ("SET k v EX 10", "SET k v PX 9000"),
            ("set k v px 5 get", "set k v px 5 get"),
            ("SET k v PX 5000", "SET k v PX 4500"),
            ("SET k v IFEQ EX EX 10", "SET k v IFEQ EX PX 9000"),
            ("SET k v EX 1000", "SET k v PX 90000"),
            ("SETEX k 10 v", "SET k v PX 9000"),
            ("PSETEX k 10000 v", "PSETEX k 9000 v"),
            ("GETEX k EX 10", "GETEX k PX 9000"),
            ("EXPIRE k 10", "PEXPIRE k 9000"),
            ("EXPIRE k 1000 XX", "PEXPIRE k 90000 XX"),
            ("PEXPIRE k 10000 NX", "PEXPIRE k 9000 NX"),
        ] {
            assert_eq!(made(line, 0.1, true), expected);
        }
    }

    #[test]
    fn the_grace_is_added_to_what_is_left() {
        for (line, expected) in [
            ("SET k v", "SET k v PX 150000"),
            ("SET k v EX 10", "SET k v PX 69000"),
            ("SET k v NX EX 10", "SET k v NX PX 70000"),
            ("EXPIRE k 10 GT", "PEXPIRE k 70000 GT"),
            ("PSETEX k 1000 v", "PSETEX k 60900 v"),
            ("SET k v KEEPTTL", "SET k v KEEPTTL"),
            ("EXPIRE k -1", "EXPIRE k -1"),
        ] {
            assert_eq!(made_with(line, 0.1, true, Duration::from_secs(60)), expected);
        }
    }

    #[test]
    fn locks_and_prolongations_keep_their_time_up_to_the_routes() {
        for (line, expected) in [
            ("SET k v NX PX 30000", "SET k v NX PX 30000"),
            ("SET k v EX 30 NX", "SET k v EX 30 NX"),
            ("SET k v NX", "SET k v NX PX 100000"),
            ("SET k v NX EX 1000", "SET k v NX PX 100000"),
            ("EXPIRE k 30 GT", "EXPIRE k 30 GT"),
            ("EXPIRE k 1000 GT", "PEXPIRE k 100000 GT"),
        ] {
            assert_eq!(made(line, 0.1, true), expected);
        }
        assert_eq!(leaves("SETNX k v"), Leaves::Own);
        assert_eq!(leaves("SET k v NX EXAT 99999999999"), Leaves::Own);
    }

    #[test]
    fn what_a_server_refuses_or_nobody_understands_goes_as_it_is() {
        for line in [
            "SET k",
            "SET k v EX",
            "SET k v EX 0",
            "SET k v EX -5",
            "SET k v EX ten",
            "SET k v EX 9223372036854775807",
            "SET k v EX 10 PX 20",
            "SET k v EX 10 KEEPTTL",
            "SET k v KEEPTTL",
            "SET k v NEW 5",
            "SETEX k 10",
            "SETEX k 0 v",
            "SETEX k 10 v w",
            "GETEX k",
            "GETEX k PERSIST",
            "GETEX k NX",
            "EXPIRE k",
            "EXPIRE k -1",
            "EXPIRE k 10 YY",
            "EXPIREAT k 1",
            "PERSIST k",
            "GET k",
        ] {
            assert_eq!(made(line, 0.1, true), line);
            assert!(!matches!(leaves(line), Leaves::Bounded | Leaves::Nothing), "{line}");
        }
    }

    #[test]
    fn whole_seconds_stay_whole_where_the_right_to_others_may_be_missing() {
        for (line, expected) in [
            ("SETEX k 50 v", "SETEX k 45 v"),
            ("SETEX k 5 v", "SETEX k 5 v"),
            ("EXPIRE k 55", "EXPIRE k 50"),
            ("EXPIRE k 1000", "EXPIRE k 90"),
            ("SET k v EX 5", "SET k v PX 4500"),
        ] {
            assert_eq!(made(line, 0.1, false), expected);
        }
    }

    #[test]
    fn points_in_time_are_shortened_by_what_is_left_until_then() {
        let at = now() + 50_000;
        for (head, word) in [("SET k v PXAT ", "PXAT"), ("PEXPIREAT k ", "PEXPIREAT"), ("GETEX k PXAT ", "PXAT")] {
            let made = made(&format!("{head}{at}"), 0.1, true);
            let number = made.rsplit(' ').next().and_then(|text| text.parse::<i64>().ok()).expect("a number");
            assert!(made.contains(word) && (at - 5000..at - 4000).contains(&number), "{made} is not before {at}");
        }
        let second = at / 1000;
        let seconds = made(&format!("EXPIREAT k {second}"), 0.5, true);
        let number = seconds.rsplit(' ').next().and_then(|text| text.parse::<i64>().ok()).expect("a number");
        assert!((second - 26..second - 20).contains(&number), "{seconds} is not before {second}");
        assert_eq!(leaves(&format!("PEXPIREAT k {at}")), Leaves::Value);
    }

    #[test]
    fn what_is_bounded_needs_no_more_and_what_is_gone_too() {
        for line in ["SET k v EX 10", "SET k v NX PX 10", "SETEX k 1 v", "GETEX k EX 5", "EXPIRE k 5", "PEXPIRE k 5 GT"]
        {
            assert_eq!(leaves(line), Leaves::Bounded, "{line}");
        }
        for line in ["DEL k", "UNLINK k l", "GETDEL k"] {
            assert_eq!(leaves(line), Leaves::Nothing, "{line}");
        }
        for line in ["INCR k", "MSET k v l w", "HSET k f v", "PERSIST k", "APPEND k v", "EVAL return 1 k"] {
            assert_eq!(leaves(line), Leaves::Value, "{line}");
        }
    }
}
