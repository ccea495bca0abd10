//! Uses of a connection that the server must remember: transactions, waiting, subscriptions, databases …

use super::command::Command;
use super::generate::{any, one, some, step};
use super::sequence::{Step, Turn};
use super::templates::*;
use super::words::{fill, pick};
use fastrand::Rng;

fn filled(rng: &mut Rng, template: &str) -> Step {
    Step(vec![Command::Words(fill(rng, template))])
}

/// Written now and then in lower case, or as a line.
fn said(rng: &mut Rng, templates: &[&str]) -> Step {
    let template = pick(rng, templates);
    let mut command = Command::Words(fill(rng, template));
    if rng.u8(..16) == 0 {
        command = command.inline();
    }
    Step(vec![command])
}

/// MULTI, commands, and its end; each part may be missing or come twice.
fn transaction_steps(rng: &mut Rng) -> Vec<Step> {
    let mut steps = vec![said(rng, MULTI)];
    steps.extend(some(rng, 5, queued));
    match rng.u8(..16) {
        0 => {}
        1 => steps.push(Step::of("RESET")),
        2..=4 => steps.push(said(rng, &["DISCARD"])),
        _ => steps.push(said(rng, &["EXEC"])),
    }
    steps
}

const MULTI: &[&str] = &["MULTI", "MULTI", "MULTI", "multi"];

/// What comes between MULTI and EXEC.
fn queued(rng: &mut Rng) -> Step {
    match rng.u8(..24) {
        0 => said(rng, &["MULTI", "MULTI x", "WATCH $s", "UNWATCH", "EXEC x", "DISCARD x"]),
        1 => step(rng, BLOCKING),
        2 => step(rng, UNKNOWN),
        3 => step(rng, CONNECTION),
        4 => step(rng, SCRIPTS),
        5 => said(rng, &["SELECT $db", "SUBSCRIBE ch1", "PUBLISH $ch $v", "CLIENT REPLY ON", "WAIT 0 0", "QUIT x"]),
        _ => any(rng),
    }
}

/// A pipeline with transactions in it.
pub fn transaction(rng: &mut Rng) -> Vec<Turn> {
    let mut steps = Vec::new();
    for _ in 0..rng.usize(1..=3) {
        match rng.u8(..8) {
            0 => steps.push(said(rng, &["EXEC", "DISCARD", "UNWATCH", "EXEC x"])),
            1..=4 => steps.extend(some(rng, 3, any)),
            _ => {}
        }
        steps.extend(transaction_steps(rng));
    }
    vec![Turn::new(0, steps)]
}

/// WATCH, and another client that may write between it and EXEC.
pub fn watched(rng: &mut Rng) -> Vec<Turn> {
    let mut first = vec![said(rng, &["WATCH { $s }", "WATCH $k", "WATCH s1 s2 new1", "WATCH"])];
    if rng.bool() {
        first.push(said(rng, &["UNWATCH", "GET s1", "DISCARD", "WATCH new2", "SELECT 1"]));
    }
    let writes = |rng: &mut Rng| match rng.u8(..4) {
        0 => any(rng),
        1 => said(rng, &["SET $s $v", "DEL $s", "FLUSHALL", "EXPIRE $s 1000", "SWAP $s"]),
        2 => said(rng, &["SET s1 x", "SET s2 x", "SET new1 x", "APPEND s1 x"]),
        _ => step(rng, STRINGS),
    };
    match rng.u8(..4) {
        // Its own write counts as well.
        0 => {
            first.extend(some(rng, 2, writes));
            first.extend(transaction_steps(rng));
            vec![Turn::new(0, first)]
        }
        // The other one writes while commands are queued.
        1 => {
            first.push(Step::of("MULTI"));
            let rest = [some(rng, 3, queued), vec![Step::of("EXEC"), Step::of("GET s1")]].concat();
            vec![Turn::new(0, first), Turn::new(1, some(rng, 2, writes)), Turn::new(0, rest)]
        }
        _ => {
            vec![Turn::new(0, first), Turn::new(1, some(rng, 2, writes)), Turn::new(0, transaction_steps(rng))]
        }
    }
}

/// SELECT, and commands that find other keys there.
pub fn databases(rng: &mut Rng) -> Vec<Turn> {
    let commands = |rng: &mut Rng| match rng.u8(..6) {
        0 | 1 => said(rng, &["SELECT $db", "SELECT 1", "SELECT 0", "SELECT $baddb"]),
        2 => said(rng, &["MOVE $k $db", "COPY s1 s1 DB $db", "DBSIZE", "FLUSHDB", "SET s1 there", "GET s1", "RESET"]),
        3 => transaction_steps(rng).swap_remove(0),
        _ => any(rng),
    };
    (0..rng.usize(1..=3)).map(|index| Turn::new(index % 2, some(rng, 6, commands))).collect()
}

/// CLIENT REPLY: commands whose replies nobody wants.
pub fn unheard(rng: &mut Rng) -> Vec<Turn> {
    let mut steps = some(rng, 2, any);
    for _ in 0..rng.usize(1..=3) {
        if rng.bool() {
            steps.push(Step::of("CLIENT REPLY SKIP"));
            steps.extend(some(rng, 2, any));
        } else {
            steps.push(Step::of("CLIENT REPLY OFF"));
            steps.extend(some(rng, 4, any));
            steps.push(Step::of(pick(rng, &["CLIENT REPLY ON", "CLIENT REPLY ON", "CLIENT REPLY SKIP", "RESET"])));
            steps.extend(some(rng, 2, any));
        }
    }
    vec![Turn::new(0, steps)]
}

/// Commands that find something at once, or must not wait.
pub const BLOCKING: &[&str] = &[
    "BLPOP $l! 0",
    "BRPOP $l! $l! 0",
    "BLMOVE l1 $l! LEFT RIGHT 0",
    "BRPOPLPUSH l1 $l! 0",
    "BLMPOP 0 2 $l! $l! LEFT COUNT 2",
    "BZPOPMIN $z! 0",
    "BZPOPMAX $z! $z! 0",
    "BZMPOP 0 1 $z! MIN",
    "XREAD BLOCK 0 STREAMS $x! 0",
    "XREADGROUP GROUP w1 c1 BLOCK 0 STREAMS x1 >",
    "BLPOP e1 0",
    "BLPOP $l! abc",
    "BLPOP $l! -1",
    "BLPOP 0",
    "BLMOVE $l! $l! UP DOWN 0",
    "BLMPOP 0 0 $l! LEFT",
    "BZMPOP 0 1 $z! MAX COUNT 0",
    "XREAD BLOCK -1 STREAMS $x! 0",
    "XREAD BLOCK abc STREAMS $x! 0",
];

/// Of those a pipeline; the keys may have become empty, and then the client waits for the other one.
pub fn blocked(rng: &mut Rng) -> Vec<Turn> {
    let steps = some(rng, 6, |rng| if rng.bool() { said(rng, BLOCKING) } else { any(rng) });
    let mut turns = vec![Turn::new(0, steps)];
    for _ in 0..rng.usize(..3) {
        turns.push(Turn::new(1, some(rng, 2, |rng| said(rng, WAKING))));
    }
    turns
}

const WAITING: &[&str] = &[
    "BLPOP new1 0",
    "BRPOP new1 new2 0",
    "BLMOVE new1 l1 LEFT RIGHT 0",
    "BRPOPLPUSH new1 new2 0",
    "BLMPOP 0 2 new1 new2 LEFT COUNT 2",
    "BZPOPMIN new1 new2 0",
    "BZPOPMAX new1 0",
    "BZMPOP 0 1 new1 MAX COUNT 3",
    "XREAD BLOCK 0 STREAMS x1 $",
    "XREAD BLOCK 0 COUNT 1 STREAMS new1 x2 $ $",
    "XREADGROUP GROUP w1 c1 BLOCK 0 STREAMS x1 >",
];

const WAKING: &[&str] = &[
    "RPUSH new1 a b",
    "LPUSH new2 c",
    "ZADD new1 1 a 2 b",
    "ZADD new2 1 z",
    "SET new1 x",
    "XADD x1 7-1 f v",
    "XADD x2 8-1 f v",
    "XADD new1 1-1 f v",
    "LMOVE l1 new1 LEFT LEFT",
    "RENAME l2 new1",
    "COPY l2 new1",
    "XGROUP DESTROY x1 w1",
    "DEL x1",
    "RESTORE new1 0 $restore",
    "EVAL return#redis.call('RPUSH',KEYS[1],'s') 1 new1",
    "FLUSHALL",
];

/// One or two clients wait, with a pipeline behind; another one gives them what they wait for, or not.
pub fn unblocked(rng: &mut Rng) -> Vec<Turn> {
    let mut turns = Vec::new();
    for client in 0..rng.usize(1..=2) {
        let mut steps = vec![said(rng, WAITING)];
        if rng.bool() {
            steps.insert(0, any(rng));
            steps.push(step(rng, LISTS));
        }
        turns.push(Turn::new(client, steps));
    }
    for _ in 0..rng.usize(1..=3) {
        let steps = match rng.u8(..4) {
            0 => [vec![Step::of("MULTI")], some(rng, 3, |rng| said(rng, WAKING)), vec![Step::of("EXEC")]].concat(),
            _ => some(rng, 2, |rng| said(rng, WAKING)),
        };
        turns.push(Turn::new(2, steps));
    }
    turns.push(Turn::new(0, some(rng, 2, any)));
    turns
}

/// Nobody comes, and the wait ends by itself.
pub fn timed_out(rng: &mut Rng) -> Vec<Turn> {
    let waiting =
        ["BLPOP new1 0.01", "BZPOPMIN new1 0.02", "XREAD BLOCK 5 STREAMS x1 $", "BLMOVE new1 new2 LEFT LEFT 0.01"];
    let mut steps = vec![said(rng, &waiting)];
    steps.extend(some(rng, 2, any));
    vec![Turn::new(0, steps)]
}

/// What one may say while subscribed in RESP2, and what one may not.
const SUBSCRIBING: &[&str] = &[
    "SUBSCRIBE { $ch }",
    "SUBSCRIBE $ch",
    "PSUBSCRIBE ch*",
    "PSUBSCRIBE news:*",
    "PSUBSCRIBE __keyevent@0__:*",
    "SUBSCRIBE __keyspace@0__:s1",
    "UNSUBSCRIBE $ch",
    "UNSUBSCRIBE { $ch }",
    "PUNSUBSCRIBE ch*",
    "PUNSUBSCRIBE news:* nothing",
    "PUNSUBSCRIBE",
    "PING",
    "PING $v",
    "SUBSCRIBE",
    "SSUBSCRIBE $ch",
    "SUNSUBSCRIBE $ch",
    "RESET",
    "QUIT",
];

/// Subscribers in both protocols, and one who publishes; the first subscriber may as well.
pub fn subscribed(rng: &mut Rng) -> Vec<Turn> {
    let speaks = |rng: &mut Rng| match rng.u8(..10) {
        0..=5 => said(rng, SUBSCRIBING),
        6 => said(rng, &["PUBLISH $ch $v", "PUBSUB NUMSUB ch1 news:a", "PUBSUB NUMPAT"]),
        7 => step(rng, CONNECTION),
        _ => any(rng),
    };
    let mut turns = Vec::new();
    for _ in 0..rng.usize(1..=2) {
        let mut steps = vec![said(rng, &SUBSCRIBING[..5])];
        steps.extend(some(rng, 4, speaks));
        turns.push(Turn::new(0, steps));
        turns.push(Turn::new(1, some(rng, 4, publishes)));
        if rng.bool() {
            turns.push(Turn::new(2, vec![said(rng, SUBSCRIBING)]));
            turns.push(Turn::new(1, some(rng, 3, publishes)));
        }
    }
    turns.push(Turn::new(0, some(rng, 4, speaks)));
    turns
}

fn publishes(rng: &mut Rng) -> Step {
    match rng.u8(..6) {
        0 => any(rng),
        1 => said(rng, &["SET $s $v", "DEL $s", "SET s1 x", "RPUSH l1 x"]),
        2 => said(rng, &["PUBSUB NUMSUB ch1 ch2 news:a", "PUBSUB NUMPAT", "SPUBLISH $ch $v", "PUBSUB CHANNELS"]),
        3 => said(rng, &["EVAL return#redis.call('PUBLISH','ch1',ARGV[1]) 0 $m", "PUBLISH news:a $long"]),
        _ => said(rng, &["PUBLISH $ch $v"]),
    }
}

/// Shard channels.
pub fn sharded(rng: &mut Rng) -> Vec<Turn> {
    let speaks = |rng: &mut Rng| {
        said(
            rng,
            &[
                "SSUBSCRIBE $ch",
                "SSUBSCRIBE { $ch }",
                "SUNSUBSCRIBE $ch",
                "PING",
                "SUBSCRIBE ch1",
                "GET s1",
                "UNSUBSCRIBE ch1",
            ],
        )
    };
    let publishes = |rng: &mut Rng| {
        said(
            rng,
            &[
                "SPUBLISH $ch $v",
                "SPUBLISH ch1 $v",
                "PUBSUB SHARDNUMSUB { $ch }",
                "PUBSUB SHARDCHANNELS",
                "PUBLISH ch1 x",
            ],
        )
    };
    vec![
        Turn::new(0, some(rng, 4, speaks)),
        Turn::new(1, some(rng, 4, publishes)),
        Turn::new(0, some(rng, 3, speaks)),
        Turn::new(1, some(rng, 2, publishes)),
    ]
}

const TRACKING: &[&str] = &[
    "CLIENT TRACKING on",
    "CLIENT TRACKING on",
    "CLIENT TRACKING on NOLOOP",
    "CLIENT TRACKING on OPTIN",
    "CLIENT TRACKING on OPTOUT",
    "CLIENT TRACKING on BCAST PREFIX s PREFIX h",
    "CLIENT TRACKING off",
];

const TRACKS: &[&str] = &[
    "CLIENT CACHING ( yes | no | foo )",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT TRACKING ( foo | on BCAST OPTIN | on REDIRECT 999999 | on PREFIX a )",
    "CLIENT TRACKING on BCAST PREFIX a PREFIX ab",
    "CLIENT TRACKING off",
    "GET s1",
    "MGET s1 s2 s3",
    "HGETALL h1",
    "HELLO 3",
    "RESET",
];

/// Client-side caching: keys read by one, written by another, one command a turn, for what is broadcast is gathered.
pub fn tracked(rng: &mut Rng) -> Vec<Turn> {
    let reads = |rng: &mut Rng| if rng.u8(..3) > 0 { said(rng, TRACKS) } else { step(rng, STRINGS) };
    let mut first = if rng.u8(..6) > 0 { vec![Step::of("HELLO 3")] } else { vec![] };
    first.push(said(rng, TRACKING));
    first.push(said(rng, TRACKS));
    let mut turns = vec![Turn::new(0, first)];
    for _ in 0..rng.usize(1..=4) {
        turns.push(Turn::new(0, some(rng, 1, reads)));
        turns.push(Turn::new(
            1,
            vec![said(rng, &["SET $s $v", "DEL s1 s2", "MSET s1 a s2 b s3 c", "HSET h1 f2 9", "FLUSHALL", "GET s1"])],
        ));
    }
    turns.push(Turn::new(0, vec![Step::of("PING")]));
    turns
}

/// WAIT, where no replica is, and the commands of a cluster's clients.
pub fn replicas(rng: &mut Rng) -> Vec<Turn> {
    let steps = some(rng, 5, |rng| match rng.u8(..3) {
        0 => said(rng, &["WAIT 0 0", "WAIT 0 100", "WAIT abc 0", "WAIT 0 -1", "WAIT 0"]),
        1 => step(rng, REDIRECTS),
        _ => any(rng),
    });
    vec![Turn::new(0, steps)]
}

/// Everything at once, by one client.
pub fn mixed(rng: &mut Rng) -> Vec<Turn> {
    let steps = some(rng, 16, |rng| match rng.u8(..12) {
        0 => said(rng, MULTI),
        1 => said(rng, &["EXEC", "DISCARD"]),
        2 => said(rng, &["WATCH $s", "UNWATCH", "SELECT $db", "RESET"]),
        3 => said(rng, &["SUBSCRIBE ch1", "UNSUBSCRIBE ch1", "PSUBSCRIBE ch*", "PUBLISH ch1 x"]),
        4 => filled(rng, "HELLO ( 2 | 3 )"),
        5 => Step(vec![one(rng, CONNECTION)]),
        6 => said(rng, &["BLPOP l1 0", "BZPOPMIN z1 0", "XREAD BLOCK 0 STREAMS x1 0"]),
        _ => any(rng),
    });
    vec![Turn::new(0, steps)]
}
