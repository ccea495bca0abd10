//! What a call does to each of its keys, as users' patterns tell it apart (`%R~`, `%W~`): Redis's own key specifications
//! (their flags ACCESS, and INSERT, UPDATE, DELETE). tests/resp_redis/rights.rs holds them against a server's own.
//!
//! Of a command that is newer than those, a write counts as a read too: one right too many is asked for, never too few.

use super::{Access, Flags, Group, Spec};
use crate::resp::args::Args;

/// What a call does to one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// It may answer some of its value.
    pub reads: bool,
    /// It may change its value.
    pub writes: bool,
}

const LOOKS: Use = Use { reads: false, writes: false };
const READS: Use = Use { reads: true, writes: false };
const WRITES: Use = Use { reads: false, writes: true };
const BOTH: Use = Use { reads: true, writes: true };

/// What a command does to its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uses {
    /// The same to all.
    All(Use),
    /// This to the first, that to the others.
    First(Use, Use),
    /// What SET does: it reads with GET.
    Set,
    /// What BITFIELD does: it writes unless all it does is GET.
    Bitfield,
}

impl Uses {
    /// Of a command, or of one of its subcommands.
    pub fn of(command: &Spec, sub: Option<&Spec>) -> Uses {
        let spec = sub.unwrap_or(command);
        match (command.name, spec.name) {
            ("set", _) => Uses::Set,
            ("bitfield", _) => Uses::Bitfield,
            // Only whether a key is there, of which type, or how long.
            ("exists" | "touch" | "type" | "strlen" | "watch" | "object", _)
            | ("hlen" | "llen" | "scard" | "zcard" | "xlen" | "hstrlen" | "hexists" | "sismember", _)
            | ("memory", "usage") => Uses::All(LOOKS),
            ("bitop" | "sdiffstore" | "sinterstore" | "sunionstore" | "geosearchstore", _)
            | ("zdiffstore" | "zinterstore" | "zunionstore" | "zrangestore", _) => Uses::First(WRITES, READS),
            ("copy" | "sort" | "georadius" | "georadiusbymember", _) => Uses::First(READS, WRITES),
            ("rename" | "renamenx" | "smove" | "lmove" | "blmove" | "rpoplpush" | "brpoplpush", _) => {
                Uses::First(BOTH, WRITES)
            }
            ("pfmerge", _) => Uses::First(BOTH, READS),
            ("xreadgroup", _) => Uses::All(READS),
            ("append" | "mset" | "msetnx" | "psetex" | "setex" | "setnx" | "setrange", _)
            | ("hdel" | "hmset" | "hset" | "hsetnx", _)
            | ("linsert" | "lpush" | "lpushx" | "lrem" | "lset" | "ltrim" | "rpush" | "rpushx", _)
            | ("sadd" | "srem" | "geoadd" | "pfadd", _)
            | ("zadd" | "zrem" | "zremrangebylex" | "zremrangebyrank" | "zremrangebyscore", _)
            | ("xack" | "xadd" | "xautoclaim" | "xclaim" | "xdel" | "xgroup" | "xsetid" | "xtrim", _)
            | ("del" | "unlink" | "restore" | "restore-asking", _)
            | ("expire" | "expireat" | "pexpire" | "pexpireat" | "persist", _) => Uses::All(WRITES),
            _ if spec.group == Group::PubSub => Uses::All(LOOKS),
            _ if spec.flags.contains(Flags::READONLY) || spec.access == Access::None => Uses::All(READS),
            _ => Uses::All(BOTH),
        }
    }

    /// What a call does to the key that is found as number `index`.
    pub fn of_key(self, index: usize, args: Args<'_>) -> Use {
        match self {
            Uses::All(all) => all,
            Uses::First(first, _) if index == 0 => first,
            Uses::First(_, others) => others,
            Uses::Set if has_word(args.from(3), b"GET") => BOTH,
            Uses::Set => WRITES,
            Uses::Bitfield if only_gets(args.from(2)) => READS,
            Uses::Bitfield => BOTH,
        }
    }
}

fn has_word(args: Args<'_>, word: &[u8]) -> bool {
    args.iter().any(|arg| arg.eq_ignore_ascii_case(word))
}

fn only_gets(args: Args<'_>) -> bool {
    !has_word(args, b"SET") && !has_word(args, b"INCRBY")
}
