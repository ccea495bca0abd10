//! The command table, as data. Redis 7.0's facts, and those of newer commands up to Redis 8.
//!
//! A row: name, arity, flags, (first, last, step), other keys, group, handling, access; see [`Spec`].

use super::Access::{self, Modify, None as NoKeys, Read, Write};
use super::Group::{self, *};
use super::Handling::{self, Forward, Own, Refused, Stateful};
use super::Keys::{self, GeoStore, Migrate, None as Nowhere, Numkeys, NumkeysPairs, Range, SortStore, Streams};
use super::{Flags, Spec};

const NONE: u16 = 0;
const W: u16 = Flags::WRITE.0;
const RO: u16 = Flags::READONLY.0;
const OOM: u16 = Flags::DENYOOM.0;
const ADMIN: u16 = Flags::ADMIN.0;
const PUBSUB: u16 = Flags::PUBSUB.0;
const NOSCRIPT: u16 = Flags::NOSCRIPT.0;
const BLOCKING: u16 = Flags::BLOCKING.0;
const FAST: u16 = Flags::FAST.0;
const NO_AUTH: u16 = Flags::NO_AUTH.0;
const MOVABLE: u16 = Flags::MOVABLE_KEYS.0;

/// Also of single calls of commands that otherwise forward (XREAD … BLOCK).
pub(super) const BLOCKS: &str = "the embedded store has no lists, sorted sets or streams to wait for; \
    configure an [upstream]";
const SUBSCRIBES: &str = "the embedded store has no channels; configure an [upstream]";
const TRANSACTION: &str = "the embedded store has no transactions; send the commands without MULTI, \
    or configure an [upstream]";
const REPLICAS: &str = "the embedded store has no replicas; leave it out, or configure an [upstream]";
const MONITORS: &str = "the embedded store shows no commands; configure an [upstream]";
const REDIRECTS: &str = "it changes the state of a cluster connection, which Weir keeps itself; leave it out";
const SCRIPT_DEBUG: &str =
    "debugging a script halts the server for everybody behind the proxy; connect to Redis itself";

const REPLICATION: &str = "replication is between servers and does not go through a proxy; connect to Redis itself";
const DEBUGS: &str = "it tests or debugs the server itself; connect to Redis itself";
const SHUTDOWN: &str = "a client of a proxy may not stop the server behind it; connect to Redis itself";
const SWAPS: &str = "it would exchange keys under loads and leases that are under way; connect to Redis itself";
const CONFIGURES: &str = "a client of a proxy may not configure the server behind it; connect to Redis itself";
const MODULES: &str = "a client of a proxy may not change the server's modules; connect to Redis itself";
const USERS: &str = "the users behind a proxy are not its clients' to see or change; connect to Redis itself";
const CLUSTERS: &str = "a client of a proxy may not change the cluster behind it; connect to a node itself";
const CLIENTS: &str = "the server's connections are Weir's own, shared by its clients; connect to Redis itself";

#[expect(clippy::too_many_arguments, reason = "one row of a table, read as columns")]
const fn c(
    name: &'static str,
    arity: i16,
    flags: u16,
    (first, last, step): (i16, i16, i16),
    keys: Keys,
    group: Group,
    handling: Handling,
    access: Access,
) -> Spec {
    Spec { name, arity, flags: Flags(flags), first, last, step, keys, group, handling, access, subcommands: &[] }
}

impl Spec {
    const fn with(self, subcommands: &'static [Spec]) -> Spec {
        Spec { subcommands, ..self }
    }
}

/// Every command that Weir knows, by group and name. Others are unknown to it, whatever the upstream knows.
pub static COMMANDS: &[Spec] = &[
    // Strings
    c("append", 3, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("decr", 2, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("decrby", 3, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("delex", -2, W | FAST, (1, 1, 1), Range, String, Forward, Write),
    c("delifeq", 3, W | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("digest", 2, RO | FAST, (1, 1, 1), Range, String, Forward, Read),
    c("get", 2, RO | FAST, (1, 1, 1), Range, String, Forward, Read),
    c("getdel", 2, W | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("getex", -2, W | FAST, (1, 1, 1), Range, String, Forward, Read),
    c("getrange", 4, RO, (1, 1, 1), Range, String, Forward, Read),
    c("getset", 3, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("incr", 2, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("incrby", 3, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("incrbyfloat", 3, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("lcs", -3, RO, (1, 2, 1), Range, String, Forward, Read),
    c("mget", -2, RO | FAST, (1, -1, 1), Range, String, Forward, Read),
    c("mset", -3, W | OOM, (1, -1, 2), Range, String, Forward, Write),
    c("msetex", -4, W | OOM | MOVABLE, (0, 0, 0), NumkeysPairs(1), String, Forward, Write),
    c("msetnx", -3, W | OOM, (1, -1, 2), Range, String, Forward, Modify),
    c("psetex", 4, W | OOM, (1, 1, 1), Range, String, Forward, Write),
    c("set", -3, W | OOM, (1, 1, 1), Range, String, Forward, Write),
    c("setex", 4, W | OOM, (1, 1, 1), Range, String, Forward, Write),
    c("setnx", 3, W | OOM | FAST, (1, 1, 1), Range, String, Forward, Modify),
    c("setrange", 4, W | OOM, (1, 1, 1), Range, String, Forward, Modify),
    c("strlen", 2, RO | FAST, (1, 1, 1), Range, String, Forward, Read),
    c("substr", 4, RO, (1, 1, 1), Range, String, Forward, Read),
    // Hashes
    c("hdel", -3, W | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hexists", 3, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hexpire", -6, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hexpireat", -6, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hexpiretime", -5, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hget", 3, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hgetall", 2, RO, (1, 1, 1), Range, Hash, Forward, Read),
    c("hgetdel", -5, W | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hgetex", -5, W | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hincrby", 4, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hincrbyfloat", 4, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hkeys", 2, RO, (1, 1, 1), Range, Hash, Forward, Read),
    c("hlen", 2, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hmget", -3, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hmset", -4, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hpersist", -5, W | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hpexpire", -6, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hpexpireat", -6, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hpexpiretime", -5, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hpttl", -5, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hrandfield", -2, RO, (1, 1, 1), Range, Hash, Forward, Read),
    c("hscan", -3, RO, (1, 1, 1), Range, Hash, Forward, Read),
    c("hset", -4, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hsetex", -6, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hsetnx", 4, W | OOM | FAST, (1, 1, 1), Range, Hash, Forward, Modify),
    c("hstrlen", 3, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("httl", -5, RO | FAST, (1, 1, 1), Range, Hash, Forward, Read),
    c("hvals", 2, RO, (1, 1, 1), Range, Hash, Forward, Read),
    // Lists
    c("blmove", 6, W | OOM | NOSCRIPT | BLOCKING, (1, 2, 1), Range, List, Stateful(BLOCKS), Modify),
    c("blmpop", -5, W | BLOCKING | MOVABLE, (0, 0, 0), Numkeys(2), List, Stateful(BLOCKS), Modify),
    c("blpop", -3, W | NOSCRIPT | BLOCKING, (1, -2, 1), Range, List, Stateful(BLOCKS), Modify),
    c("brpop", -3, W | NOSCRIPT | BLOCKING, (1, -2, 1), Range, List, Stateful(BLOCKS), Modify),
    c("brpoplpush", 4, W | OOM | NOSCRIPT | BLOCKING, (1, 2, 1), Range, List, Stateful(BLOCKS), Modify),
    c("lindex", 3, RO, (1, 1, 1), Range, List, Forward, Read),
    c("linsert", 5, W | OOM, (1, 1, 1), Range, List, Forward, Modify),
    c("llen", 2, RO | FAST, (1, 1, 1), Range, List, Forward, Read),
    c("lmove", 5, W | OOM, (1, 2, 1), Range, List, Forward, Modify),
    c("lmpop", -4, W | MOVABLE, (0, 0, 0), Numkeys(1), List, Forward, Modify),
    c("lpop", -2, W | FAST, (1, 1, 1), Range, List, Forward, Modify),
    c("lpos", -3, RO, (1, 1, 1), Range, List, Forward, Read),
    c("lpush", -3, W | OOM | FAST, (1, 1, 1), Range, List, Forward, Modify),
    c("lpushx", -3, W | OOM | FAST, (1, 1, 1), Range, List, Forward, Modify),
    c("lrange", 4, RO, (1, 1, 1), Range, List, Forward, Read),
    c("lrem", 4, W, (1, 1, 1), Range, List, Forward, Modify),
    c("lset", 4, W | OOM, (1, 1, 1), Range, List, Forward, Modify),
    c("ltrim", 4, W, (1, 1, 1), Range, List, Forward, Modify),
    c("rpop", -2, W | FAST, (1, 1, 1), Range, List, Forward, Modify),
    c("rpoplpush", 3, W | OOM, (1, 2, 1), Range, List, Forward, Modify),
    c("rpush", -3, W | OOM | FAST, (1, 1, 1), Range, List, Forward, Modify),
    c("rpushx", -3, W | OOM | FAST, (1, 1, 1), Range, List, Forward, Modify),
    // Sets
    c("sadd", -3, W | OOM | FAST, (1, 1, 1), Range, Set, Forward, Modify),
    c("scard", 2, RO | FAST, (1, 1, 1), Range, Set, Forward, Read),
    c("sdiff", -2, RO, (1, -1, 1), Range, Set, Forward, Read),
    c("sdiffstore", -3, W | OOM, (1, -1, 1), Range, Set, Forward, Modify),
    c("sinter", -2, RO, (1, -1, 1), Range, Set, Forward, Read),
    c("sintercard", -3, RO | MOVABLE, (0, 0, 0), Numkeys(1), Set, Forward, Read),
    c("sinterstore", -3, W | OOM, (1, -1, 1), Range, Set, Forward, Modify),
    c("sismember", 3, RO | FAST, (1, 1, 1), Range, Set, Forward, Read),
    c("smembers", 2, RO, (1, 1, 1), Range, Set, Forward, Read),
    c("smismember", -3, RO | FAST, (1, 1, 1), Range, Set, Forward, Read),
    c("smove", 4, W | FAST, (1, 2, 1), Range, Set, Forward, Modify),
    c("spop", -2, W | FAST, (1, 1, 1), Range, Set, Forward, Modify),
    c("srandmember", -2, RO, (1, 1, 1), Range, Set, Forward, Read),
    c("srem", -3, W | FAST, (1, 1, 1), Range, Set, Forward, Modify),
    c("sscan", -3, RO, (1, 1, 1), Range, Set, Forward, Read),
    c("sunion", -2, RO, (1, -1, 1), Range, Set, Forward, Read),
    c("sunionstore", -3, W | OOM, (1, -1, 1), Range, Set, Forward, Modify),
    // Sorted sets
    c("bzmpop", -5, W | BLOCKING | MOVABLE, (0, 0, 0), Numkeys(2), SortedSet, Stateful(BLOCKS), Modify),
    c("bzpopmax", -3, W | NOSCRIPT | BLOCKING | FAST, (1, -2, 1), Range, SortedSet, Stateful(BLOCKS), Modify),
    c("bzpopmin", -3, W | NOSCRIPT | BLOCKING | FAST, (1, -2, 1), Range, SortedSet, Stateful(BLOCKS), Modify),
    c("zadd", -4, W | OOM | FAST, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zcard", 2, RO | FAST, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zcount", 4, RO | FAST, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zdiff", -3, RO | MOVABLE, (0, 0, 0), Numkeys(1), SortedSet, Forward, Read),
    c("zdiffstore", -4, W | OOM | MOVABLE, (1, 1, 1), Numkeys(2), SortedSet, Forward, Modify),
    c("zincrby", 4, W | OOM | FAST, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zinter", -3, RO | MOVABLE, (0, 0, 0), Numkeys(1), SortedSet, Forward, Read),
    c("zintercard", -3, RO | MOVABLE, (0, 0, 0), Numkeys(1), SortedSet, Forward, Read),
    c("zinterstore", -4, W | OOM | MOVABLE, (1, 1, 1), Numkeys(2), SortedSet, Forward, Modify),
    c("zlexcount", 4, RO | FAST, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zmpop", -4, W | MOVABLE, (0, 0, 0), Numkeys(1), SortedSet, Forward, Modify),
    c("zmscore", -3, RO | FAST, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zpopmax", -2, W | FAST, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zpopmin", -2, W | FAST, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zrandmember", -2, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrange", -4, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrangebylex", -4, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrangebyscore", -4, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrangestore", -5, W | OOM, (1, 2, 1), Range, SortedSet, Forward, Modify),
    c("zrank", 3, RO | FAST, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrem", -3, W | FAST, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zremrangebylex", 4, W, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zremrangebyrank", 4, W, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zremrangebyscore", 4, W, (1, 1, 1), Range, SortedSet, Forward, Modify),
    c("zrevrange", -4, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrevrangebylex", -4, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrevrangebyscore", -4, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zrevrank", 3, RO | FAST, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zscan", -3, RO, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zscore", 3, RO | FAST, (1, 1, 1), Range, SortedSet, Forward, Read),
    c("zunion", -3, RO | MOVABLE, (0, 0, 0), Numkeys(1), SortedSet, Forward, Read),
    c("zunionstore", -4, W | OOM | MOVABLE, (1, 1, 1), Numkeys(2), SortedSet, Forward, Modify),
    // Streams
    c("xack", -4, W | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xackdel", -6, W | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xadd", -5, W | OOM | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xautoclaim", -6, W | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xclaim", -6, W | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xdel", -3, W | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xdelex", -5, W | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xgroup", -2, NONE, (0, 0, 0), Nowhere, Stream, Forward, NoKeys).with(XGROUP_SUB),
    c("xinfo", -2, NONE, (0, 0, 0), Nowhere, Stream, Forward, NoKeys).with(XINFO_SUB),
    c("xlen", 2, RO | FAST, (1, 1, 1), Range, Stream, Forward, Read),
    c("xpending", -3, RO, (1, 1, 1), Range, Stream, Forward, Read),
    c("xrange", -4, RO, (1, 1, 1), Range, Stream, Forward, Read),
    c("xread", -4, RO | BLOCKING | MOVABLE, (0, 0, 0), Streams, Stream, Forward, Read),
    c("xreadgroup", -7, W | BLOCKING | MOVABLE, (0, 0, 0), Streams, Stream, Forward, Modify),
    c("xrevrange", -4, RO, (1, 1, 1), Range, Stream, Forward, Read),
    c("xsetid", -3, W | OOM | FAST, (1, 1, 1), Range, Stream, Forward, Modify),
    c("xtrim", -4, W, (1, 1, 1), Range, Stream, Forward, Modify),
    // Bitmaps
    c("bitcount", -2, RO, (1, 1, 1), Range, Bitmap, Forward, Read),
    c("bitfield", -2, W | OOM, (1, 1, 1), Range, Bitmap, Forward, Modify),
    c("bitfield_ro", -2, RO | FAST, (1, 1, 1), Range, Bitmap, Forward, Read),
    c("bitop", -4, W | OOM, (2, -1, 1), Range, Bitmap, Forward, Modify),
    c("bitpos", -3, RO, (1, 1, 1), Range, Bitmap, Forward, Read),
    c("getbit", 3, RO | FAST, (1, 1, 1), Range, Bitmap, Forward, Read),
    c("setbit", 4, W | OOM, (1, 1, 1), Range, Bitmap, Forward, Modify),
    // HyperLogLog
    c("pfadd", -2, W | OOM | FAST, (1, 1, 1), Range, HyperLogLog, Forward, Modify),
    c("pfcount", -2, RO, (1, -1, 1), Range, HyperLogLog, Forward, Read),
    c("pfdebug", 3, W | OOM | ADMIN, (2, 2, 1), Range, HyperLogLog, Refused(DEBUGS), Modify),
    c("pfmerge", -2, W | OOM, (1, -1, 1), Range, HyperLogLog, Forward, Modify),
    c("pfselftest", 1, ADMIN, (0, 0, 0), Nowhere, HyperLogLog, Refused(DEBUGS), NoKeys),
    // Geo
    c("geoadd", -5, W | OOM, (1, 1, 1), Range, Geo, Forward, Modify),
    c("geodist", -4, RO, (1, 1, 1), Range, Geo, Forward, Read),
    c("geohash", -2, RO, (1, 1, 1), Range, Geo, Forward, Read),
    c("geopos", -2, RO, (1, 1, 1), Range, Geo, Forward, Read),
    c("georadius", -6, W | OOM | MOVABLE, (1, 1, 1), GeoStore, Geo, Forward, Read),
    c("georadius_ro", -6, RO, (1, 1, 1), Range, Geo, Forward, Read),
    c("georadiusbymember", -5, W | OOM | MOVABLE, (1, 1, 1), GeoStore, Geo, Forward, Read),
    c("georadiusbymember_ro", -5, RO, (1, 1, 1), Range, Geo, Forward, Read),
    c("geosearch", -7, RO, (1, 1, 1), Range, Geo, Forward, Read),
    c("geosearchstore", -8, W | OOM, (1, 2, 1), Range, Geo, Forward, Modify),
    // Vector sets
    c("vadd", -5, W | OOM, (1, 1, 1), Range, Vector, Forward, Modify),
    c("vcard", 2, RO | FAST, (1, 1, 1), Range, Vector, Forward, Read),
    c("vdim", 2, RO | FAST, (1, 1, 1), Range, Vector, Forward, Read),
    c("vemb", -3, RO | FAST, (1, 1, 1), Range, Vector, Forward, Read),
    c("vgetattr", 3, RO | FAST, (1, 1, 1), Range, Vector, Forward, Read),
    c("vinfo", 2, RO | FAST, (1, 1, 1), Range, Vector, Forward, Read),
    c("vismember", 3, RO, (1, 1, 1), Range, Vector, Forward, Read),
    c("vlinks", -3, RO | FAST, (1, 1, 1), Range, Vector, Forward, Read),
    c("vrandmember", -2, RO, (1, 1, 1), Range, Vector, Forward, Read),
    c("vrange", -4, RO, (1, 1, 1), Range, Vector, Forward, Read),
    c("vrem", 3, W, (1, 1, 1), Range, Vector, Forward, Modify),
    c("vsetattr", 4, W | FAST, (1, 1, 1), Range, Vector, Forward, Modify),
    c("vsim", -4, RO, (1, 1, 1), Range, Vector, Forward, Read),
    // Keys of any type
    c("copy", -3, W | OOM, (1, 2, 1), Range, Generic, Forward, Modify),
    c("del", -2, W, (1, -1, 1), Range, Generic, Forward, Write),
    c("dump", 2, RO, (1, 1, 1), Range, Generic, Forward, Read),
    c("exists", -2, RO | FAST, (1, -1, 1), Range, Generic, Forward, Read),
    c("expire", -3, W | FAST, (1, 1, 1), Range, Generic, Forward, Write),
    c("expireat", -3, W | FAST, (1, 1, 1), Range, Generic, Forward, Write),
    c("expiretime", 2, RO | FAST, (1, 1, 1), Range, Generic, Forward, Read),
    c("keys", 2, RO, (0, 0, 0), Nowhere, Generic, Forward, NoKeys),
    c("migrate", -6, W | MOVABLE, (3, 3, 1), Migrate, Generic, Forward, Write),
    c("move", 3, W | FAST, (1, 1, 1), Range, Generic, Forward, Write),
    c("object", -2, NONE, (0, 0, 0), Nowhere, Generic, Forward, NoKeys).with(OBJECT_SUB),
    c("persist", 2, W | FAST, (1, 1, 1), Range, Generic, Forward, Write),
    c("pexpire", -3, W | FAST, (1, 1, 1), Range, Generic, Forward, Write),
    c("pexpireat", -3, W | FAST, (1, 1, 1), Range, Generic, Forward, Write),
    c("pexpiretime", 2, RO | FAST, (1, 1, 1), Range, Generic, Forward, Read),
    c("pttl", 2, RO | FAST, (1, 1, 1), Range, Generic, Forward, Read),
    c("randomkey", 1, RO, (0, 0, 0), Nowhere, Generic, Forward, NoKeys),
    c("rename", 3, W, (1, 2, 1), Range, Generic, Forward, Write),
    c("renamenx", 3, W | FAST, (1, 2, 1), Range, Generic, Forward, Modify),
    c("restore", -4, W | OOM, (1, 1, 1), Range, Generic, Forward, Write),
    c("scan", -2, RO, (0, 0, 0), Nowhere, Generic, Forward, NoKeys),
    c("sort", -2, W | OOM | MOVABLE, (1, 1, 1), SortStore, Generic, Forward, Read),
    c("sort_ro", -2, RO | MOVABLE, (1, 1, 1), Range, Generic, Forward, Read),
    c("touch", -2, RO | FAST, (1, -1, 1), Range, Generic, Forward, Read),
    c("ttl", 2, RO | FAST, (1, 1, 1), Range, Generic, Forward, Read),
    c("type", 2, RO | FAST, (1, 1, 1), Range, Generic, Forward, Read),
    c("unlink", -2, W | FAST, (1, -1, 1), Range, Generic, Forward, Write),
    c("wait", 3, NOSCRIPT, (0, 0, 0), Nowhere, Generic, Stateful(REPLICAS), NoKeys),
    c("waitaof", 4, BLOCKING, (0, 0, 0), Nowhere, Generic, Stateful(REPLICAS), NoKeys),
    // Scripts
    c("eval", -3, NOSCRIPT | MOVABLE, (0, 0, 0), Numkeys(2), Scripting, Forward, Write),
    c("eval_ro", -3, RO | NOSCRIPT | MOVABLE, (0, 0, 0), Numkeys(2), Scripting, Forward, Read),
    c("evalsha", -3, NOSCRIPT | MOVABLE, (0, 0, 0), Numkeys(2), Scripting, Forward, Write),
    c("evalsha_ro", -3, RO | NOSCRIPT | MOVABLE, (0, 0, 0), Numkeys(2), Scripting, Forward, Read),
    c("fcall", -3, NOSCRIPT | MOVABLE, (0, 0, 0), Numkeys(2), Scripting, Forward, Write),
    c("fcall_ro", -3, RO | NOSCRIPT | MOVABLE, (0, 0, 0), Numkeys(2), Scripting, Forward, Read),
    c("function", -2, NONE, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys).with(FUNCTION_SUB),
    c("script", -2, NONE, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys).with(SCRIPT_SUB),
    // Transactions
    c("discard", 1, NOSCRIPT | FAST, (0, 0, 0), Nowhere, Transactions, Stateful(TRANSACTION), NoKeys),
    c("exec", 1, NOSCRIPT, (0, 0, 0), Nowhere, Transactions, Stateful(TRANSACTION), NoKeys),
    c("multi", 1, NOSCRIPT | FAST, (0, 0, 0), Nowhere, Transactions, Stateful(TRANSACTION), NoKeys),
    c("unwatch", 1, NOSCRIPT | FAST, (0, 0, 0), Nowhere, Transactions, Stateful(TRANSACTION), NoKeys),
    c("watch", -2, NOSCRIPT | FAST, (1, -1, 1), Range, Transactions, Stateful(TRANSACTION), Read),
    // Publish/subscribe
    c("psubscribe", -2, PUBSUB | NOSCRIPT, (0, 0, 0), Nowhere, PubSub, Stateful(SUBSCRIBES), NoKeys),
    c("publish", 3, PUBSUB | FAST, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys),
    c("pubsub", -2, NONE, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys).with(PUBSUB_SUB),
    c("punsubscribe", -1, PUBSUB | NOSCRIPT, (0, 0, 0), Nowhere, PubSub, Stateful(SUBSCRIBES), NoKeys),
    c("spublish", 3, PUBSUB | FAST, (1, 1, 1), Range, PubSub, Forward, NoKeys),
    c("ssubscribe", -2, PUBSUB | NOSCRIPT, (1, -1, 1), Range, PubSub, Stateful(SUBSCRIBES), NoKeys),
    c("subscribe", -2, PUBSUB | NOSCRIPT, (0, 0, 0), Nowhere, PubSub, Stateful(SUBSCRIBES), NoKeys),
    c("sunsubscribe", -1, PUBSUB | NOSCRIPT, (1, -1, 1), Range, PubSub, Stateful(SUBSCRIBES), NoKeys),
    c("unsubscribe", -1, PUBSUB | NOSCRIPT, (0, 0, 0), Nowhere, PubSub, Stateful(SUBSCRIBES), NoKeys),
    // Connections
    c("auth", -2, NOSCRIPT | FAST | NO_AUTH, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("client", -2, NONE, (0, 0, 0), Nowhere, Connection, Own, NoKeys).with(CLIENT_SUB),
    c("echo", 2, FAST, (0, 0, 0), Nowhere, Connection, Forward, NoKeys),
    c("hello", -1, NOSCRIPT | FAST | NO_AUTH, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("ping", -1, FAST, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("quit", -1, NOSCRIPT | FAST | NO_AUTH, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("reset", 1, NOSCRIPT | FAST | NO_AUTH, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("select", 2, FAST, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    // Server
    c("acl", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys).with(ACL_SUB),
    c("bgrewriteaof", 1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("bgsave", -1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("command", -1, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys).with(COMMAND_SUB),
    c("config", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys).with(CONFIG_SUB),
    c("dbsize", 1, RO | FAST, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("debug", -2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(DEBUGS), NoKeys),
    c("failover", -1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(REPLICATION), NoKeys),
    c("flushall", -1, W, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("flushdb", -1, W, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("info", -1, NONE, (0, 0, 0), Nowhere, Server, Own, NoKeys),
    c("lastsave", 1, FAST, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("latency", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys).with(LATENCY_SUB),
    c("lolwut", -1, RO | FAST, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("memory", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys).with(MEMORY_SUB),
    c("module", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys).with(MODULE_SUB),
    c("monitor", 1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Stateful(MONITORS), NoKeys),
    c("psync", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(REPLICATION), NoKeys),
    c("replconf", -1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(REPLICATION), NoKeys),
    c("replicaof", 3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(REPLICATION), NoKeys),
    c("restore-asking", -4, W | OOM, (1, 1, 1), Range, Server, Refused(REPLICATION), Modify),
    c("role", 1, NOSCRIPT | FAST, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("save", 1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("shutdown", -1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(SHUTDOWN), NoKeys),
    c("slaveof", 3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(REPLICATION), NoKeys),
    c("slowlog", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys).with(SLOWLOG_SUB),
    c("swapdb", 3, W | FAST, (0, 0, 0), Nowhere, Server, Refused(SWAPS), NoKeys),
    c("sync", 1, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(REPLICATION), NoKeys),
    c("time", 1, FAST, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    // Cluster
    c("asking", 1, FAST, (0, 0, 0), Nowhere, Cluster, Refused(REDIRECTS), NoKeys),
    c("cluster", -2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys).with(CLUSTER_SUB),
    c("readonly", 1, FAST, (0, 0, 0), Nowhere, Cluster, Refused(REDIRECTS), NoKeys),
    c("readwrite", 1, FAST, (0, 0, 0), Nowhere, Cluster, Refused(REDIRECTS), NoKeys),
    // Weir's own
    c("weir", -2, NONE, (0, 0, 0), Nowhere, Weir, Own, NoKeys).with(WEIR_SUB),
];

const XGROUP_SUB: &[Spec] = &[
    c("create", -5, W | OOM, (2, 2, 1), Range, Stream, Forward, Modify),
    c("createconsumer", 5, W | OOM, (2, 2, 1), Range, Stream, Forward, Modify),
    c("delconsumer", 5, W, (2, 2, 1), Range, Stream, Forward, Modify),
    c("destroy", 4, W, (2, 2, 1), Range, Stream, Forward, Modify),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Stream, Forward, NoKeys),
    c("setid", -5, W, (2, 2, 1), Range, Stream, Forward, Modify),
];

const XINFO_SUB: &[Spec] = &[
    c("consumers", 4, RO, (2, 2, 1), Range, Stream, Forward, Read),
    c("groups", 3, RO, (2, 2, 1), Range, Stream, Forward, Read),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Stream, Forward, NoKeys),
    c("stream", -3, RO, (2, 2, 1), Range, Stream, Forward, Read),
];

const OBJECT_SUB: &[Spec] = &[
    c("encoding", 3, RO, (2, 2, 1), Range, Generic, Forward, Read),
    c("freq", 3, RO, (2, 2, 1), Range, Generic, Forward, Read),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Generic, Forward, NoKeys),
    c("idletime", 3, RO, (2, 2, 1), Range, Generic, Forward, Read),
    c("refcount", 3, RO, (2, 2, 1), Range, Generic, Forward, Read),
];

const FUNCTION_SUB: &[Spec] = &[
    c("delete", 3, W | NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("dump", 2, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("flush", -2, W | NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("kill", 2, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("list", -2, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("load", -3, W | OOM | NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("restore", -3, W | OOM | NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("stats", 2, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
];

const SCRIPT_SUB: &[Spec] = &[
    c("debug", 3, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Refused(SCRIPT_DEBUG), NoKeys),
    c("exists", -3, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("flush", -2, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("kill", 2, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
    c("load", 3, NOSCRIPT, (0, 0, 0), Nowhere, Scripting, Forward, NoKeys),
];

const PUBSUB_SUB: &[Spec] = &[
    c("channels", -2, PUBSUB, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys),
    c("numpat", 2, PUBSUB, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys),
    c("numsub", -2, PUBSUB, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys),
    c("shardchannels", -2, PUBSUB, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys),
    c("shardnumsub", -2, PUBSUB, (0, 0, 0), Nowhere, PubSub, Forward, NoKeys),
];

const CLIENT_SUB: &[Spec] = &[
    c("caching", 3, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("getname", 2, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("getredir", 2, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("id", 2, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("info", 2, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("kill", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("list", -2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("no-evict", 3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("no-touch", 3, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("pause", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Connection, Refused(CLIENTS), NoKeys),
    c("reply", 3, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("setinfo", 4, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("setname", 3, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("tracking", -3, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("trackinginfo", 2, NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("unblock", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Connection, Own, NoKeys),
    c("unpause", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Connection, Refused(CLIENTS), NoKeys),
];

const ACL_SUB: &[Spec] = &[
    c("cat", -2, NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("deluser", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("dryrun", -4, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("genpass", -2, NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("getuser", 3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("list", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("load", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("log", -2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("save", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("setuser", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("users", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(USERS), NoKeys),
    c("whoami", 2, NOSCRIPT, (0, 0, 0), Nowhere, Server, Own, NoKeys),
];

const COMMAND_SUB: &[Spec] = &[
    c("count", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("docs", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("getkeys", -4, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("getkeysandflags", -4, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("info", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("list", -2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
];

const CONFIG_SUB: &[Spec] = &[
    c("get", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("resetstat", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(CONFIGURES), NoKeys),
    c("rewrite", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(CONFIGURES), NoKeys),
    c("set", -4, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(CONFIGURES), NoKeys),
];

const LATENCY_SUB: &[Spec] = &[
    c("doctor", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("graph", 3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("histogram", -2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("history", 3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("latest", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("reset", -2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
];

const MEMORY_SUB: &[Spec] = &[
    c("doctor", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("malloc-stats", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("purge", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("stats", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("usage", -3, RO, (2, 2, 1), Range, Server, Forward, Read),
];

const MODULE_SUB: &[Spec] = &[
    c("help", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("list", 2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("load", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(MODULES), NoKeys),
    c("loadex", -3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(MODULES), NoKeys),
    c("unload", 3, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Server, Refused(MODULES), NoKeys),
];

const SLOWLOG_SUB: &[Spec] = &[
    c("get", -2, ADMIN, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("len", 2, ADMIN, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
    c("reset", 2, ADMIN, (0, 0, 0), Nowhere, Server, Forward, NoKeys),
];

const CLUSTER_SUB: &[Spec] = &[
    c("addslots", -3, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("addslotsrange", -4, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("bumpepoch", 2, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("count-failure-reports", 3, ADMIN, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("countkeysinslot", 3, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("delslots", -3, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("delslotsrange", -4, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("failover", -2, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("flushslots", 2, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("forget", 3, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("getkeysinslot", 4, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("info", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("keyslot", 3, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("links", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("meet", -4, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("migration", -4, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("myid", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("myshardid", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("nodes", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("replicas", 3, ADMIN, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("replicate", 3, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("reset", -2, ADMIN | NOSCRIPT, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("saveconfig", 2, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("set-config-epoch", 3, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("setslot", -4, ADMIN, (0, 0, 0), Nowhere, Cluster, Refused(CLUSTERS), NoKeys),
    c("shards", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("slaves", 3, ADMIN, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("slot-stats", -4, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
    c("slots", 2, NONE, (0, 0, 0), Nowhere, Cluster, Forward, NoKeys),
];

const WEIR_SUB: &[Spec] = &[
    c("explain", 3, RO, (2, 2, 1), Range, Weir, Own, Read),
    c("flush", 2, NONE, (0, 0, 0), Nowhere, Weir, Own, NoKeys),
    c("help", 2, NONE, (0, 0, 0), Nowhere, Weir, Own, NoKeys),
    c("invalidate", -3, W, (0, 0, 0), Nowhere, Weir, Own, NoKeys),
    c("refresh", 3, W, (2, 2, 1), Range, Weir, Own, Modify),
    c("routes", 2, NONE, (0, 0, 0), Nowhere, Weir, Own, NoKeys),
    c("set", -4, W, (2, 2, 1), Range, Weir, Own, Write),
    c("stats", -2, NONE, (0, 0, 0), Nowhere, Weir, Own, NoKeys),
    c("tag", -4, W, (2, 2, 1), Range, Weir, Own, Modify),
    c("warm", 3, W, (0, 0, 0), Nowhere, Weir, Own, NoKeys),
];
