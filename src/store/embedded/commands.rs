//! The table of commands: what each is called, how many arguments it takes, which are its keys, and what it does.

use super::refusal::Refusal;
use super::{Context, Embedded, bits, call::Call, deadlines, hashes, keys, number, scan, sets, strings};
use crate::resp::args::Args;
use crate::resp::command;

/// What a command came to: its reply is written, or it is refused and nothing is.
pub(super) type Outcome = Result<(), Refusal>;

/// A command on keys that are locked for it.
pub(super) type Keyed = fn(&mut Call<'_>, Args<'_>, &mut Vec<u8>) -> Outcome;

/// A command on whole databases, which locks for itself.
pub(super) type Whole = fn(&Embedded, Context, Args<'_>, &mut Vec<u8>) -> Outcome;

/// How a command is run.
#[derive(Clone, Copy)]
pub(super) enum Run {
    Keyed(Keyed),
    Whole(Whole),
}

/// What a command does to its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Nothing.
    Read,
    /// Changes them only where they are there; an absent key is only read.
    Touch,
    /// Changes them: drops what stands beside them.
    Write,
    /// Changes them, and may take memory for it.
    Grow,
}

/// Which arguments are keys.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    /// The one at this position.
    One(usize),
    /// The first two.
    Two,
    /// From the first on, each of these steps.
    Every(usize),
    /// As many as the first argument says, after it.
    Counted,
}

impl Keys {
    /// Where the key is, if there is but one in a call that its command accepts.
    #[inline]
    pub fn only(self, args: Args<'_>) -> Option<usize> {
        match self {
            Keys::One(position) => Some(position),
            Keys::Every(step) if args.len() <= 1 + step => Some(1),
            _ => None,
        }
    }

    /// Visits the keys. A malformed count gives none, and a command that then looks at none.
    pub fn each<'a>(self, args: Args<'a>, mut visit: impl FnMut(&'a [u8])) {
        let (first, step, count) = match self {
            Keys::One(position) => (position, 1, 1),
            Keys::Two => (1, 1, 2),
            Keys::Every(step) => (1, step, usize::MAX),
            Keys::Counted => (2, 1, counted(args)),
        };
        args.from(first).iter().step_by(step).take(count).for_each(&mut visit);
    }
}

fn counted(args: Args<'_>) -> usize {
    args.get(1).and_then(number::parse).and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// One command.
pub(super) struct Command {
    /// In lower case.
    pub name: &'static str,
    /// How many arguments, the name included; if negative, at least so many.
    arity: i32,
    pub keys: Keys,
    pub effect: Effect,
    pub run: Run,
}

impl Command {
    /// Whether this is its name, in whatever case. All names here are of letters alone, which one bit takes to lower case:
    /// no other byte becomes one of them by that.
    #[inline]
    pub fn is_called(&self, name: &[u8]) -> bool {
        self.name.len() == name.len() && self.name.bytes().zip(name).all(|(own, byte)| own == byte | 0x20)
    }

    /// Whether it takes `count` arguments, the name included.
    #[inline]
    pub fn accepts(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }
}

const fn keyed(name: &'static str, arity: i32, keys: Keys, effect: Effect, run: Keyed) -> Command {
    Command { name, arity, keys, effect, run: Run::Keyed(run) }
}

const fn whole(name: &'static str, arity: i32, run: Whole) -> Command {
    Command { name, arity, keys: Keys::One(usize::MAX), effect: Effect::Read, run: Run::Whole(run) }
}

use Effect::{Grow, Read, Touch, Write};
use Keys::{Counted, Every, One, Two};

static COMMANDS: &[Command] = &[
    keyed("get", 2, One(1), Read, strings::get),
    keyed("set", -3, One(1), Grow, strings::set),
    keyed("setnx", 3, One(1), Grow, strings::setnx),
    keyed("setex", 4, One(1), Grow, strings::setex),
    keyed("psetex", 4, One(1), Grow, strings::psetex),
    keyed("getset", 3, One(1), Grow, strings::getset),
    keyed("getdel", 2, One(1), Write, strings::getdel),
    keyed("getex", -2, One(1), Touch, strings::getex),
    keyed("mget", -2, Every(1), Read, strings::mget),
    keyed("mset", -3, Every(2), Grow, strings::mset),
    keyed("msetnx", -3, Every(2), Grow, strings::msetnx),
    keyed("append", 3, One(1), Grow, strings::append),
    keyed("strlen", 2, One(1), Read, strings::strlen),
    keyed("getrange", 4, One(1), Read, strings::getrange),
    keyed("substr", 4, One(1), Read, strings::getrange),
    keyed("setrange", 4, One(1), Grow, strings::setrange),
    keyed("incr", 2, One(1), Grow, strings::incr),
    keyed("decr", 2, One(1), Grow, strings::decr),
    keyed("incrby", 3, One(1), Grow, strings::incrby),
    keyed("decrby", 3, One(1), Grow, strings::decrby),
    keyed("incrbyfloat", 3, One(1), Grow, bits::incrbyfloat),
    keyed("setbit", 4, One(1), Grow, bits::setbit),
    keyed("getbit", 3, One(1), Read, bits::getbit),
    keyed("bitcount", -2, One(1), Read, bits::bitcount),
    keyed("hset", -4, One(1), Grow, hashes::hset),
    keyed("hmset", -4, One(1), Grow, hashes::hmset),
    keyed("hsetnx", 4, One(1), Grow, hashes::hsetnx),
    keyed("hget", 3, One(1), Read, hashes::hget),
    keyed("hmget", -3, One(1), Read, hashes::hmget),
    keyed("hgetall", 2, One(1), Read, hashes::hgetall),
    keyed("hkeys", 2, One(1), Read, hashes::hkeys),
    keyed("hvals", 2, One(1), Read, hashes::hvals),
    keyed("hdel", -3, One(1), Write, hashes::hdel),
    keyed("hlen", 2, One(1), Read, hashes::hlen),
    keyed("hexists", 3, One(1), Read, hashes::hexists),
    keyed("hstrlen", 3, One(1), Read, hashes::hstrlen),
    keyed("hincrby", 4, One(1), Grow, hashes::hincrby),
    keyed("hincrbyfloat", 4, One(1), Grow, bits::hincrbyfloat),
    keyed("hrandfield", -2, One(1), Read, hashes::hrandfield),
    keyed("hscan", -3, One(1), Read, scan::hscan),
    keyed("sadd", -3, One(1), Grow, sets::sadd),
    keyed("srem", -3, One(1), Write, sets::srem),
    keyed("smembers", 2, One(1), Read, sets::smembers),
    keyed("sismember", 3, One(1), Read, sets::sismember),
    keyed("smismember", -3, One(1), Read, sets::smismember),
    keyed("scard", 2, One(1), Read, sets::scard),
    keyed("spop", -2, One(1), Write, sets::spop),
    keyed("srandmember", -2, One(1), Read, sets::srandmember),
    keyed("smove", 4, Two, Write, sets::smove),
    keyed("sinter", -2, Every(1), Read, sets::sinter),
    keyed("sunion", -2, Every(1), Read, sets::sunion),
    keyed("sdiff", -2, Every(1), Read, sets::sdiff),
    keyed("sinterstore", -3, Every(1), Grow, sets::sinterstore),
    keyed("sunionstore", -3, Every(1), Grow, sets::sunionstore),
    keyed("sdiffstore", -3, Every(1), Grow, sets::sdiffstore),
    keyed("sintercard", -3, Counted, Read, sets::sintercard),
    keyed("sscan", -3, One(1), Read, scan::sscan),
    keyed("del", -2, Every(1), Write, keys::del),
    keyed("unlink", -2, Every(1), Write, keys::del),
    keyed("exists", -2, Every(1), Read, keys::exists),
    keyed("touch", -2, Every(1), Read, keys::exists),
    keyed("type", 2, One(1), Read, keys::type_),
    keyed("rename", 3, Two, Write, keys::rename),
    keyed("renamenx", 3, Two, Write, keys::renamenx),
    keyed("copy", -3, Two, Grow, keys::copy),
    keyed("move", 3, One(1), Write, keys::move_),
    keyed("object", -2, One(2), Read, keys::object),
    keyed("expire", -3, One(1), Write, deadlines::expire),
    keyed("pexpire", -3, One(1), Write, deadlines::pexpire),
    keyed("expireat", -3, One(1), Write, deadlines::expireat),
    keyed("pexpireat", -3, One(1), Write, deadlines::pexpireat),
    keyed("ttl", 2, One(1), Read, deadlines::ttl),
    keyed("pttl", 2, One(1), Read, deadlines::pttl),
    keyed("expiretime", 2, One(1), Read, deadlines::expiretime),
    keyed("pexpiretime", 2, One(1), Read, deadlines::pexpiretime),
    keyed("persist", 2, One(1), Write, deadlines::persist),
    whole("randomkey", 1, keys::randomkey),
    whole("keys", 2, keys::keys),
    whole("scan", -2, scan::scan),
    whole("dbsize", 1, keys::dbsize),
    whole("flushdb", -1, keys::flushdb),
    whole("flushall", -1, keys::flushall),
    whole("swapdb", 3, keys::swapdb),
    whole("echo", 2, keys::echo),
];

/// What else Redis 7.0 knows, and this store does not.
static ELSEWHERE: &[&str] = &[
    "acl",
    "asking",
    "auth",
    "bgrewriteaof",
    "bgsave",
    "bitfield",
    "bitfield_ro",
    "bitop",
    "bitpos",
    "blmove",
    "blmpop",
    "blpop",
    "brpop",
    "brpoplpush",
    "bzmpop",
    "bzpopmax",
    "bzpopmin",
    "client",
    "cluster",
    "command",
    "config",
    "debug",
    "discard",
    "dump",
    "eval",
    "eval_ro",
    "evalsha",
    "evalsha_ro",
    "exec",
    "failover",
    "fcall",
    "fcall_ro",
    "function",
    "geoadd",
    "geodist",
    "geohash",
    "geopos",
    "georadius",
    "georadius_ro",
    "georadiusbymember",
    "georadiusbymember_ro",
    "geosearch",
    "geosearchstore",
    "hello",
    "info",
    "lastsave",
    "latency",
    "lcs",
    "lindex",
    "linsert",
    "llen",
    "lmove",
    "lmpop",
    "lolwut",
    "lpop",
    "lpos",
    "lpush",
    "lpushx",
    "lrange",
    "lrem",
    "lset",
    "ltrim",
    "memory",
    "migrate",
    "module",
    "monitor",
    "multi",
    "pfadd",
    "pfcount",
    "pfdebug",
    "pfmerge",
    "pfselftest",
    "ping",
    "psubscribe",
    "psync",
    "publish",
    "pubsub",
    "punsubscribe",
    "quit",
    "readonly",
    "readwrite",
    "replconf",
    "replicaof",
    "reset",
    "restore",
    "restore-asking",
    "role",
    "rpop",
    "rpoplpush",
    "rpush",
    "rpushx",
    "save",
    "script",
    "select",
    "shutdown",
    "slaveof",
    "slowlog",
    "sort",
    "sort_ro",
    "spublish",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "sync",
    "time",
    "unsubscribe",
    "unwatch",
    "wait",
    "watch",
    "xack",
    "xadd",
    "xautoclaim",
    "xclaim",
    "xdel",
    "xgroup",
    "xinfo",
    "xlen",
    "xpending",
    "xrange",
    "xread",
    "xreadgroup",
    "xrevrange",
    "xsetid",
    "xtrim",
    "zadd",
    "zcard",
    "zcount",
    "zdiff",
    "zdiffstore",
    "zincrby",
    "zinter",
    "zintercard",
    "zinterstore",
    "zlexcount",
    "zmpop",
    "zmscore",
    "zpopmax",
    "zpopmin",
    "zrandmember",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrangestore",
    "zrank",
    "zrem",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscan",
    "zscore",
    "zunion",
    "zunionstore",
];

/// For each command of the protocol's table, the one here; [`NONE`]: there is none.
static HERE: [u8; command::COMMANDS.len()] = here();
const NONE: u8 = u8::MAX;

const fn here() -> [u8; command::COMMANDS.len()] {
    let mut here = [NONE; command::COMMANDS.len()];
    let mut index = 0;
    while index < here.len() {
        let mut own = 0;
        while own < COMMANDS.len() {
            if same(COMMANDS[own].name.as_bytes(), command::COMMANDS[index].name.as_bytes()) {
                here[index] = own as u8;
            }
            own += 1;
        }
        index += 1;
    }
    const { assert!(COMMANDS.len() < NONE as usize) };
    here
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// The command called `name`, in whatever case.
#[inline]
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    command::lookup_indexed(name).and_then(|(index, _)| known(index))
}

/// The command at this index of the protocol's table.
#[inline]
pub(super) fn known(index: u16) -> Option<&'static Command> {
    COMMANDS.get(*HERE.get(index as usize)? as usize)
}

/// Why a command that is not in the table is refused.
pub(super) fn unknown(args: Args<'_>) -> Refusal {
    let name = String::from_utf8_lossy(&args[0]).to_lowercase();
    if ELSEWHERE.contains(&name.as_str()) {
        return Refusal::Text(format!("ERR '{name}' needs an upstream Redis, set [upstream] url").into_bytes());
    }
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(c_string(&args[0], 128));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut quoted = 0;
    for argument in args.from(1).iter() {
        if quoted >= 128 {
            break;
        }
        let shown = c_string(argument, 128 - quoted);
        text.push(b'\'');
        text.extend_from_slice(shown);
        text.extend_from_slice(b"' ");
        quoted += shown.len() + 3;
    }
    Refusal::Text(text)
}

/// The bytes as C's `%.*s` prints them: at most `limit`, none from the first NUL on.
pub(super) fn c_string(bytes: &[u8], limit: usize) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    &bytes[..end.min(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_name_is_told_from_every_other() {
        for command in COMMANDS {
            assert!(command.name.bytes().all(|byte| byte.is_ascii_lowercase()), "{}", command.name);
            for at in 0..command.name.len() {
                for byte in 0..=u8::MAX {
                    let mut name = command.name.to_uppercase().into_bytes();
                    name[at] = byte;
                    assert_eq!(command.is_called(&name), name.eq_ignore_ascii_case(command.name.as_bytes()));
                }
            }
            assert!(!command.is_called(b"") && !command.is_called(&[command.name.as_bytes(), b"x"].concat()));
        }
    }

    #[test]
    fn an_only_key_is_the_one_that_a_visit_meets() {
        use crate::resp::args::OwnedArgs;
        for line in
            ["DEL k", "DEL k l", "MSET k v", "MSET k v l", "MSET k v l w", "OBJECT freq k", "SMOVE k l m", "GET k"]
        {
            let args: OwnedArgs = line.split(' ').collect();
            let (args, mut met) = (args.as_args(), Vec::new());
            let keys = find(&args[0]).expect("a command").keys;
            keys.each(args, |key| met.push(key));
            assert_eq!(keys.only(args).map(|position| &args[position]), (met.len() == 1).then(|| met[0]), "{line}");
        }
    }

    #[test]
    fn every_name_is_found_in_any_case_and_stands_once() {
        let names: BTreeSet<_> = COMMANDS.iter().map(|command| command.name).chain(ELSEWHERE.iter().copied()).collect();
        assert_eq!(names.len(), COMMANDS.len() + ELSEWHERE.len());
        for command in COMMANDS {
            assert_eq!(find(command.name.to_uppercase().as_bytes()).map(|found| found.name), Some(command.name));
        }
        assert!(find(b"get\0").is_none());
    }
}
