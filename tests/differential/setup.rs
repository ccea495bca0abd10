//! What every sequence finds: an empty server but for a few keys of each type.

use super::command::Command;
use std::sync::LazyLock;

/// Letters say the type: (s)tring, (n)umber, (b)its, (h)ash, (l)ist, s(e)t, sorted set (z), stream (x), (g)eo, HyperLogLog (p).
const KEYS: &[&str] = &[
    "MSET s1 hello s2 10 s3 3.5 n1 10 n2 -3 b1 foobar b2 abc",
    "SETEX s4 100000 expires",
    "HSET h1 f1 v1 f2 2 f3 3.5",
    "HSET h2 f1 other f4 7",
    "RPUSH l1 a b c 1 2",
    "RPUSH l2 3 1 2",
    "SADD e1 m1 m2 m3",
    "SADD e2 m2 m3 4",
    "SADD e3 1 2 3",
    "ZADD z1 1 m1 2 m2 3 m3",
    "ZADD z2 5 m2 7 m4",
    "ZADD z3 0 a 0 b 0 c",
    "ZADD z4 0 a 0 b 0 c 0 d",
    "XADD x1 1-1 f1 v1",
    "XADD x1 2-1 f1 v2",
    "XADD x1 3-1 f2 v3",
    "XADD x2 1-1 f1 v1",
    "XGROUP CREATE x1 w1 0",
    "XGROUP CREATECONSUMER x1 w1 c1",
    "PFADD p1 a b c",
    "PFADD p2 c d",
    "GEOADD g1 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
];

/// What empties a server; the slow ones only if something was loaded since.
const EMPTY: &[&str] = &["FLUSHALL"];
const UNLOAD: &[&str] = &["SCRIPT FLUSH SYNC", "FUNCTION FLUSH SYNC"];

/// The commands before a sequence.
pub fn commands(unload: bool) -> &'static [Command] {
    static BOTH: LazyLock<[Vec<Command>; 2]> = LazyLock::new(|| {
        [&[][..], UNLOAD].map(|unload| [EMPTY, unload, KEYS].concat().into_iter().map(Command::of).collect())
    });
    &BOTH[usize::from(unload)]
}

/// Whether a command may leave something behind that FLUSHALL does not end and that a later sequence can name: a
/// function, or a script of those that `$sha` stands for.
pub fn loads(command: &Command) -> bool {
    let named = |word: &Vec<u8>| matches!(word.as_slice(), b"return 1" | b"return ARGV");
    command.is("FUNCTION") || command.is("SCRIPT FLUSH") || command.words().iter().any(named)
}
