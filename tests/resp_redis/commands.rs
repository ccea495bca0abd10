//! The command table is what a Redis server says of itself.

use crate::server::{Connection, Redis};
use weir::resp::args::OwnedArgs;
use weir::resp::command::{Access, COMMANDS, Flags, Handling, Keys, Spec, lookup};
use weir::resp::frame::Reply;

const FLAGS: [(&str, Flags); 10] = [
    ("write", Flags::WRITE),
    ("readonly", Flags::READONLY),
    ("denyoom", Flags::DENYOOM),
    ("admin", Flags::ADMIN),
    ("pubsub", Flags::PUBSUB),
    ("noscript", Flags::NOSCRIPT),
    ("blocking", Flags::BLOCKING),
    ("fast", Flags::FAST),
    ("no_auth", Flags::NO_AUTH),
    ("movablekeys", Flags::MOVABLE_KEYS),
];

pub fn array(reply: &Reply) -> &[Reply] {
    let Reply::Array(elements) = reply else { panic!("no array: {reply:?}") };
    elements
}

pub fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(text) | Reply::Simple(text) => String::from_utf8(text.clone()).expect("names are text"),
        other => panic!("no text: {other:?}"),
    }
}

fn number(reply: &Reply) -> i64 {
    let Reply::Integer(number) = reply else { panic!("no number: {reply:?}") };
    *number
}

/// Compares one entry of COMMAND with the table, and its subcommands; answers how many were compared.
fn compare(entry: &Reply, find: &dyn Fn(&str) -> Option<&'static Spec>) -> usize {
    let entry = array(entry);
    let full = text(&entry[0]);
    let name = full.rsplit('|').next().expect("a name");
    let spec = find(name).unwrap_or_else(|| panic!("the table lacks {full}"));
    let facts = [spec.arity, spec.first, spec.last, spec.step].map(i64::from);
    assert_eq!(facts, [1, 3, 4, 5].map(|column| number(&entry[column])), "arity, first, last, step of {full}");
    let flags: Vec<String> = array(&entry[2]).iter().map(text).collect();
    for (name, flag) in FLAGS {
        assert_eq!(spec.flags.contains(flag), flags.iter().any(|flag| flag == name), "{name} of {full}");
    }
    let subcommands = array(&entry[9]);
    1 + subcommands.iter().map(|entry| compare(entry, &|name| spec.subcommand(name.as_bytes()))).sum::<usize>()
}

#[test]
fn the_table_says_what_the_server_says() {
    let redis = Redis::start(&[]);
    let commands = redis.connect().ask(&["COMMAND"]);
    let compared: usize = array(&commands).iter().map(|entry| compare(entry, &|name| lookup(name.as_bytes()))).sum();
    assert!(compared > 300, "{compared}");
}

/// The positions that the table finds, and the keys that the server finds.
fn both(connection: &mut Connection, call: &[&str]) -> (Vec<String>, Reply) {
    let args: OwnedArgs = call.iter().collect();
    let spec = lookup(call[0].as_bytes()).expect("a known command");
    assert!(spec.resolve(args.as_args()).arity_ok(call.len()), "{call:?}");
    let keys = spec.key_positions(args.as_args()).map(|position| call[position].to_string()).collect();
    (keys, connection.ask(&[&["COMMAND", "GETKEYS"], call].concat()))
}

#[test]
fn keys_are_where_the_server_finds_them() {
    let redis = Redis::start(&[]);
    let mut connection = redis.connect();
    for call in CALLS.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let call: Vec<&str> = call.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let (mut keys, reply) = both(&mut connection, &call);
        let mut server: Vec<String> = match &reply {
            Reply::Array(keys) => keys.iter().map(text).collect(),
            other => panic!("{call:?}: {other:?}"),
        };
        // The server tells a destination first or last, as it likes.
        keys.sort();
        server.sort();
        assert_eq!(keys, server, "{call:?}");
    }
}

pub const CALLS: &str = "
    GET a
    set a b NX
    MGET a b c
    MSET a 1 b 2 c 3
    MSETNX a 1 b 2
    DEL a b
    RENAME a b
    COPY a b DB 1 REPLACE
    BITOP AND dst a b c
    BITOP NOT dst a
    EVAL script 2 a b c d
    EVAL script 0 a
    EVALSHA sha 1 a b
    EVAL_RO script 1 a
    EVALSHA_RO sha 2 a b
    FCALL f 1 a b
    FCALL_RO f 3 a b c
    ZUNIONSTORE dst 2 a b WEIGHTS 1 2
    ZINTERSTORE dst 1 a AGGREGATE SUM
    ZDIFFSTORE dst 2 a b
    ZUNION 2 a b WITHSCORES
    ZINTER 1 a
    ZDIFF 2 a b
    ZINTERCARD 2 a b LIMIT 1
    ZRANGESTORE dst src 0 -1
    SINTERCARD 2 a b LIMIT 7
    SINTERSTORE dst a b
    SUNIONSTORE dst a
    LMPOP 2 a b LEFT COUNT 2
    ZMPOP 1 a MIN
    BLMPOP 0 2 a b LEFT
    BZMPOP 0 1 a MAX
    BLPOP a b 0
    BZPOPMIN a b 0
    BRPOPLPUSH a b 0
    LMOVE a b LEFT RIGHT
    SMOVE a b member
    XREAD STREAMS a b 0 0
    XREAD COUNT 2 BLOCK 100 STREAMS a 0
    xread count 2 streams a b c 0 0 0
    XREADGROUP GROUP g c STREAMS a >
    XREADGROUP GROUP streams streams COUNT 1 NOACK STREAMS a b > >
    XADD a * f v
    XGROUP CREATE a g $
    XINFO STREAM a
    XCLAIM a g c 0 1-1
    SORT a
    SORT a BY nosort GET store LIMIT 0 1 STORE dst
    SORT a BY store DESC
    SORT a STORE one STORE two
    SORT_RO a BY x
    GEORADIUS a 1 2 3 m
    GEORADIUS a 1 2 3 m COUNT 2 STORE dst
    GEORADIUSBYMEMBER a m 3 km STOREDIST dst
    GEORADIUS_RO a 1 2 3 m
    GEOSEARCHSTORE dst src FROMMEMBER m BYRADIUS 1 m
    MIGRATE h 1 a 0 5
    MIGRATE h 1 '' 0 5 KEYS a b c
    MIGRATE h 1 '' 0 5 COPY AUTH keys KEYS a b
    MIGRATE h 1 '' 0 5 REPLACE AUTH2 keys keys KEYS a
    MIGRATE h 1 a 0 5 COPY REPLACE
    OBJECT ENCODING a
    MEMORY USAGE a SAMPLES 5
    PFCOUNT a b
    PFMERGE dst a b
    HSET a f v
    LCS a b
    RESTORE a 0 payload
    TOUCH a b c
    WATCH a b
";

#[test]
fn hostile_key_counts_have_no_keys() {
    for call in [
        &["EVAL", "s", "-1", "a"][..],
        &["EVAL", "s", "2", "a"],
        &["EVAL", "s", "9223372036854775807", "a"],
        &["EVAL", "s", "99999999999999999999", "a"],
        &["EVAL", "s", "01", "a"],
        &["EVAL", "s", "", "a"],
        &["EVAL"],
        &["MSETEX", "9223372036854775807", "a", "1"],
        &["MSETEX", "2", "a", "1", "b"],
        &["XREAD", "STREAMS"],
        &["XREAD", "COUNT"],
        &["XREADGROUP", "GROUP", "STREAMS"],
        &["MIGRATE", "h", "1", "", "0", "5", "KEYS"],
        &["GET"],
        &["MSET"],
        &["OBJECT"],
        &["OBJECT", "ENCODING"],
    ] {
        let args: OwnedArgs = call.iter().collect();
        let spec = lookup(call[0].as_bytes()).expect("known");
        assert_eq!(spec.key_positions(args.as_args()).next(), None, "{call:?}");
    }
}

fn of(call: &str) -> (Access, Handling) {
    let args: OwnedArgs = call.split(' ').collect();
    let spec = lookup(&args.as_args()[0]).expect("known");
    (spec.access_of(args.as_args()), spec.handling_of(args.as_args()))
}

#[test]
fn what_a_call_does_depends_on_its_options() {
    for (call, access) in [
        ("SET a b", Access::Write),
        ("SET a b EX 10", Access::Write),
        ("SET a NX", Access::Write),
        ("SET NX GET", Access::Write),
        ("SET a b nx", Access::Modify),
        ("SET a b EX 10 XX", Access::Modify),
        ("SET a b GET", Access::Modify),
        ("GET a", Access::Read),
        ("GETEX a EX 10", Access::Read),
        ("INCR a", Access::Modify),
        ("GETDEL a", Access::Modify),
        ("DEL a b", Access::Write),
        ("EXPIRE a 1", Access::Write),
        ("RENAME a b", Access::Write),
        ("SORT a", Access::Read),
        ("SORT a GET store", Access::Read),
        ("SORT a STORE b", Access::Modify),
        ("GEORADIUS a 1 2 3 m STORE b", Access::Modify),
        ("GEORADIUS a 1 2 3 m", Access::Read),
        ("EVAL s 1 a", Access::Write),
        ("EVAL_RO s 1 a", Access::Read),
        ("OBJECT FREQ a", Access::Read),
        ("PING", Access::None),
        ("PUBLISH a b", Access::None),
        ("MSETEX 1 a b", Access::Write),
        ("MSETEX 1 a b NX", Access::Modify),
        ("DELEX a", Access::Write),
        ("DELEX a IFEQ b", Access::Modify),
        ("WEIR SET a b", Access::Write),
    ] {
        assert_eq!(of(call).0, access, "{call}");
    }
}

#[test]
fn what_needs_a_connection_of_its_own_is_told_apart() {
    let kind = |call: &str| match of(call).1 {
        Handling::Forward => "forward",
        Handling::Own => "own",
        Handling::Stateful(_) => "stateful",
        Handling::Refused(_) => "refused",
    };
    for (expected, calls) in [
        (
            "forward",
            "GET a|XREAD STREAMS a 0|CONFIG GET maxmemory|PUBLISH a b|EVAL s 0|SCRIPT LOAD x|COMMAND|ECHO a|SCAN 0|CONFIG",
        ),
        (
            "own",
            "PING|HELLO 3|AUTH x|CLIENT ID|CLIENT|CLIENT tracking ON|CLIENT KILL a|QUIT|RESET|SELECT 0|INFO|WEIR STATS",
        ),
        (
            "stateful",
            "MULTI|EXEC|WATCH a|SUBSCRIBE a|BLPOP a 0|XREAD BLOCK 0 STREAMS a $|WAIT 0 0|MONITOR|XREAD NEW BLOCK 0 STREAMS a $",
        ),
        ("stateful", "XREADGROUP GROUP g c BLOCK 1 STREAMS a >|BZMPOP 0 1 a MIN|WAITAOF 0 0 0"),
        ("refused", "SYNC|PSYNC a b|REPLICAOF a b|DEBUG SLEEP 1|SHUTDOWN|CONFIG set a b|ACL SETUSER a|MODULE LOAD a"),
        ("refused", "CLUSTER RESET|FAILOVER|SLAVEOF NO ONE|SCRIPT DEBUG YES|CLIENT PAUSE 1"),
    ] {
        for call in calls.split('|') {
            assert_eq!(kind(call), expected, "{call}");
        }
    }
}

fn all() -> impl Iterator<Item = (Option<&'static Spec>, &'static Spec)> {
    COMMANDS.iter().flat_map(|spec| {
        std::iter::once((None, spec)).chain(spec.subcommands.iter().map(move |subcommand| (Some(spec), subcommand)))
    })
}

#[test]
fn the_table_agrees_with_itself() {
    for (container, spec) in all() {
        let name = spec.name;
        assert_eq!(name, name.to_lowercase());
        assert_ne!(spec.arity, 0, "{name}");
        assert_eq!(spec.first == 0, spec.step == 0, "{name}");
        if spec.keys == Keys::None {
            assert_eq!((spec.first, spec.access), (0, Access::None), "{name}");
        } else if !spec.flags.contains(Flags::PUBSUB) && container.is_none_or(|container| container.name != "weir") {
            assert_ne!(spec.access, Access::None, "{name}");
        }
        if spec.flags.contains(Flags::READONLY) {
            assert!(matches!(spec.access, Access::None | Access::Read), "{name}");
        }
        if spec.flags.contains(Flags::BLOCKING) && spec.keys != Keys::Streams {
            assert!(matches!(spec.handling, Handling::Stateful(_) | Handling::Refused(_)), "{name}");
        }
        if let Handling::Stateful(reason) | Handling::Refused(reason) = spec.handling {
            assert!(reason.contains(';') || reason.contains(','), "{name} tells no way out: {reason}");
            assert!(!reason.contains("  "), "{name}");
        }
    }
}
