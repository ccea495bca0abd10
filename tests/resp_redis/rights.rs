//! Categories of commands, and what calls do to their keys, are what a Redis server says of itself.

use crate::commands::{CALLS, array, text};
use crate::server::Redis;
use std::collections::BTreeSet;
use weir::resp::args::OwnedArgs;
use weir::resp::command::{Categories, Uses, categories, lookup};
use weir::resp::frame::Reply;

#[test]
fn categories_are_the_servers() {
    let redis = Redis::start(&[]);
    let mut connection = redis.connect();
    let names: BTreeSet<String> = array(&connection.ask(&["ACL", "CAT"])).iter().map(text).collect();
    assert_eq!(names, Categories::names().iter().map(ToString::to_string).collect());
    let mut compared = 0;
    for name in &names {
        let category = Categories::named(name).expect("a known category");
        let theirs: BTreeSet<String> = array(&connection.ask(&["ACL", "CAT", name])).iter().map(text).collect();
        for entry in array(&connection.ask(&["COMMAND"])) {
            let command = lookup(text(&array(entry)[0]).as_bytes()).expect("a known command");
            let subs = array(&array(entry)[9]).iter().map(|sub| text(&array(sub)[0]));
            for full in subs.chain([command.name.to_owned()]) {
                let sub = full.split_once('|').and_then(|(_, sub)| command.subcommand(sub.as_bytes()));
                let ours = categories(command, sub).meet(category);
                assert_eq!(ours, theirs.contains(&full), "@{name}: {full}");
                compared += 1;
            }
        }
    }
    assert!(compared > 300 * names.len(), "{compared}");
}

/// Calls whose use of their keys depends on the arguments, besides those of the other test.
const MORE: &str = "
    SET a b
    SET a b GET
    SET a GET
    BITFIELD a GET u8 0
    BITFIELD a GET u8 0 SET u8 0 1
    BITFIELD a INCRBY u8 0 1
    STRLEN a
    EXISTS a b
    TOUCH a
    TYPE a
    APPEND a b
    GETEX a
    GETDEL a
    INCR a
    HSET a f v
    HLEN a
    HDEL a f
    LPOP a
    LPUSH a v
    SADD a b
    SPOP a
    SMOVE a b m
    ZADD a 1 m
    ZPOPMIN a
    EXPIRE a 1
    PERSIST a
    XADD a * f v
    XACK a g 1-1
    PFADD a e
    PFCOUNT a b
    PFMERGE a b c
    RENAMENX a b
    RPOPLPUSH a b
    LMOVE a b LEFT RIGHT
    BLMOVE a b LEFT RIGHT 0
    GEOSEARCHSTORE a b FROMMEMBER m BYRADIUS 1 m
    OBJECT ENCODING a
    MEMORY USAGE a
    XINFO STREAM a
    XGROUP CREATE a g 0
    WATCH a
";

#[test]
fn calls_do_to_their_keys_what_the_server_says() {
    let redis = Redis::start(&[]);
    let mut connection = redis.connect();
    for call in CALLS.lines().chain(MORE.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        let call: Vec<&str> = call.split(' ').map(|word| if word == "''" { "" } else { word }).collect();
        let args: OwnedArgs = call.iter().collect();
        let command = lookup(call[0].as_bytes()).expect("a known command");
        let sub = call.get(1).and_then(|name| command.subcommand(name.as_bytes()));
        let uses = Uses::of(command, sub);
        let ours: BTreeSet<(String, bool, bool)> = command
            .key_positions(args.as_args())
            .enumerate()
            .map(|(index, position)| (call[position].to_owned(), uses.of_key(index, args.as_args())))
            .map(|(key, does)| (key, does.reads, does.writes))
            .collect();
        let reply = connection.ask(&[&["COMMAND", "GETKEYSANDFLAGS"], &call[..]].concat());
        let Reply::Array(keys) = &reply else { panic!("{call:?}: {reply:?}") };
        let theirs = keys.iter().map(|pair| {
            let flags: Vec<String> = array(&array(pair)[1]).iter().map(text).collect();
            let has = |names: &[&str]| flags.iter().any(|flag| names.contains(&flag.as_str()));
            (text(&array(pair)[0]), has(&["access"]), has(&["insert", "update", "delete"]))
        });
        assert_eq!(ours, theirs.collect(), "{call:?}");
    }
}
