//! What differs by design between two servers that are both right, and how it is compared all the same. Errors are
//! always compared by their bytes, and so is every reply of a command that is not named here.

use super::command::Command;

/// How two replies are compared, if not by their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Rows of so many elements stand in any order.
    Unordered(usize),
    /// A cursor, and rows of so many elements in any order.
    Scan(usize),
    /// Numbers differ by this much at most (0, 1 and negative ones are equal), all else is equal.
    Near(i64),
    /// Kinds and counts are equal, for the contents are random.
    Shape,
    /// The kind is equal.
    Kind,
    /// Equal but for what follows these names in a map.
    Except(&'static [&'static str]),
    /// Any whole reply, an error too.
    Any,
}

use Rule::{Any, Except, Kind, Near, Scan, Shape, Unordered};

/// A minute, for nobody knows how long a machine takes between the two sides.
const MINUTE: i64 = 60;
const MINUTE_MS: i64 = 60_000;

const HASH_SEED: &str = "each server walks its hash tables in the order of a seed of its own";
const RANDOM: &str = "the server chooses at random";
const CLOCK: &str = "it tells the time, or how much of it has passed";
const PROCESS: &str = "it speaks of the process that answers: its memory, port, history or version";
const FORKS: &str = "the answer depends on whether a child of the server still runs";
const CONNECTION: &str = "it speaks of the connection: ids are Weir's own, for links are shared";

/// By name, with the subcommand if the rule is for that; the first that fits counts.
pub const BY_DESIGN: &[(&str, Rule, &str)] = &[
    ("SMEMBERS", Unordered(1), HASH_SEED),
    ("SUNION", Unordered(1), HASH_SEED),
    ("SINTER", Unordered(1), HASH_SEED),
    ("SDIFF", Unordered(1), HASH_SEED),
    ("HKEYS", Unordered(1), HASH_SEED),
    ("HVALS", Unordered(1), HASH_SEED),
    ("HGETALL", Unordered(2), HASH_SEED),
    ("KEYS", Unordered(1), HASH_SEED),
    ("SCAN", Scan(1), HASH_SEED),
    ("SSCAN", Scan(1), HASH_SEED),
    ("HSCAN", Scan(2), HASH_SEED),
    ("ZSCAN", Scan(2), HASH_SEED),
    ("PUBSUB CHANNELS", Unordered(1), HASH_SEED),
    ("PUBSUB SHARDCHANNELS", Unordered(1), HASH_SEED),
    ("COMMAND LIST", Unordered(1), HASH_SEED),
    ("COMMAND DOCS", Shape, HASH_SEED),
    ("COMMAND INFO", Kind, HASH_SEED),
    ("FUNCTION LIST", Unordered(1), HASH_SEED),
    ("FUNCTION DUMP", Kind, HASH_SEED),
    ("ACL CAT", Unordered(1), HASH_SEED),
    ("DUMP", Kind, HASH_SEED),
    ("SPOP", Shape, RANDOM),
    ("SRANDMEMBER", Shape, RANDOM),
    ("HRANDFIELD", Shape, RANDOM),
    ("ZRANDMEMBER", Shape, RANDOM),
    ("RANDOMKEY", Kind, RANDOM),
    ("ACL GENPASS", Kind, RANDOM),
    ("LOLWUT", Kind, RANDOM),
    ("TIME", Near(1_000_000_000), CLOCK),
    ("TTL", Near(MINUTE), CLOCK),
    ("PTTL", Near(MINUTE_MS), CLOCK),
    ("EXPIRETIME", Near(MINUTE), CLOCK),
    ("PEXPIRETIME", Near(MINUTE_MS), CLOCK),
    ("OBJECT IDLETIME", Near(MINUTE), CLOCK),
    ("OBJECT FREQ", Near(MINUTE), CLOCK),
    ("XPENDING", Near(MINUTE_MS), CLOCK),
    ("XINFO CONSUMERS", Near(MINUTE_MS), CLOCK),
    ("XINFO STREAM", Near(MINUTE_MS), CLOCK),
    ("LASTSAVE", Kind, CLOCK),
    ("XADD", Kind, CLOCK),
    ("INFO", Kind, PROCESS),
    ("CONFIG GET", Near(1_000_000), PROCESS),
    ("MEMORY USAGE", Near(1024), PROCESS),
    ("MEMORY STATS", Kind, PROCESS),
    ("MEMORY DOCTOR", Kind, PROCESS),
    ("MEMORY MALLOC-STATS", Kind, PROCESS),
    ("SLOWLOG GET", Kind, PROCESS),
    ("SLOWLOG LEN", Kind, PROCESS),
    ("LATENCY HISTOGRAM", Kind, PROCESS),
    ("LATENCY LATEST", Kind, PROCESS),
    ("LATENCY HISTORY", Kind, PROCESS),
    ("LATENCY RESET", Kind, PROCESS),
    ("LATENCY DOCTOR", Kind, PROCESS),
    ("LATENCY GRAPH", Any, PROCESS),
    ("CLUSTER MYID", Kind, PROCESS),
    ("BGSAVE", Any, FORKS),
    ("BGREWRITEAOF", Any, FORKS),
    ("SAVE", Any, FORKS),
    ("HELLO", Except(&["id"]), CONNECTION),
    ("CLIENT ID", Kind, CONNECTION),
    ("CLIENT INFO", Kind, CONNECTION),
    ("CLIENT LIST", Kind, CONNECTION),
];

/// What stands in front of a mark's number.
const MARK: &[u8] = b"~differs:";

/// The mark of a command whose replies differ by design.
pub fn mark(command: &Command) -> Option<Vec<u8>> {
    let index = BY_DESIGN.iter().position(|(name, ..)| command.is(name))?;
    if command.is("XADD") && !command.words().iter().any(|word| word == b"*") {
        return None; // Its id is the caller's.
    }
    Some([MARK, index.to_string().as_bytes()].concat())
}

/// The rule that a mark stands for.
pub fn rule(mark: &[u8]) -> Option<Rule> {
    let index: usize = std::str::from_utf8(mark.strip_prefix(MARK)?).ok()?.parse().ok()?;
    BY_DESIGN.get(index).map(|(_, rule, _)| *rule)
}
