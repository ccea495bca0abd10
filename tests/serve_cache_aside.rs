//! Routes without `load`: keys that applications fill themselves. Of those who find one absent one is left to fill it and the
//! others wait for its SET (`wait_for_fill`); no key outlives its route; clients' TTLs are jittered, and locks are not (T27).

mod harness;

use harness::*;
use std::collections::BTreeSet;
use std::time::Instant;

/// What the tests of waiting need: nobody's time is up before the test is over.
const ROUTES: &str = r#"
[[route]]
name = "report"
key = "report:{*rest}"
ttl = "1000s"
jitter = "10%"
wait_for_fill = "60s"

[[route]]
name = "brief"
key = "brief:{id}"
wait_for_fill = "1s"

[[route]]
name = "tagged"
key = "tagged:{id}"
ttl = "1000s"
wait_for_fill = "60s"
tags = ["all", "one-{id}"]

[[route]]
name = "plainly"
key = "plainly:{id}"
ttl = "1000s"
jitter = "0%"
"#;

/// What is behind Weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Embedded,
    Redis,
    Cluster,
}

enum Upstream {
    Embedded,
    Redis(Redis),
    Cluster(RedisCluster),
}

impl Upstream {
    fn start(kind: Kind) -> Upstream {
        match kind {
            Kind::Embedded => Upstream::Embedded,
            Kind::Redis => Upstream::Redis(Redis::start()),
            Kind::Cluster => Upstream::Cluster(RedisCluster::start(0)),
        }
    }

    fn weir(&self, more: &str) -> Weir {
        let url = match self {
            Upstream::Embedded => return Weir::start(more),
            Upstream::Redis(redis) => redis.url(),
            Upstream::Cluster(cluster) => cluster.url(),
        };
        Weir::start(&format!("[upstream]\nurl = \"{url}\"\ntimeout = \"20s\"\n{more}"))
    }
}

fn start(kind: Kind) -> (Upstream, Weir) {
    let upstream = Upstream::start(kind);
    let weir = upstream.weir(ROUTES);
    (upstream, weir)
}

macro_rules! over_all_stores {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use super::Kind;
            #[test]
            fn embedded() { super::$name(Kind::Embedded); }
            #[test]
            fn redis() { super::$name(Kind::Redis); }
            #[test]
            fn cluster() { super::$name(Kind::Cluster); }
        }
    )+ };
}

over_all_stores!(
    of_a_stampede_one_is_left_to_fill,
    a_filler_that_dies_is_replaced_by_one,
    what_nobody_fills_is_not_waited_for_for_ever,
    nobody_waits_for_itself,
    replies_stay_in_order_and_who_sends_more_is_not_held_up,
    every_read_of_a_value_waits_and_no_other,
    a_delete_lets_the_next_reader_fill,
    who_hangs_up_leaves_nothing,
    more_than_max_fill_waiters_do_not_wait,
    no_key_outlives_its_route,
    clients_ttls_are_jittered_and_locks_are_not,
    what_clients_fill_has_the_tags_of_its_route,
);

fn waiters(weir: &Weir) -> usize {
    weir.metric("weir_fill_waiters", &[]) as usize
}

#[track_caller]
fn wait_until_waiting(weir: &Weir, count: usize) {
    wait_until(&format!("{count} clients wait"), || waiters(weir) == count);
}

fn coalesced(weir: &Weir) -> usize {
    weir.metric("weir_coalesced_total", &[]) as usize
}

/// So many connections to `weir` that have sent `words`.
fn crowd(weir: &Weir, count: usize, words: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| weir.client()).collect();
    clients.iter_mut().for_each(|client| client.run_later(words));
    clients
}

/// Takes the one client out that has been answered nil; nobody else has an answer.
#[track_caller]
fn filler(clients: &mut Vec<Client>) -> Client {
    let answered: Vec<usize> = (0..clients.len()).filter(|&index| clients[index].has_reply()).collect();
    assert_eq!(answered.len(), 1, "clients that have an answer");
    let mut filler = clients.swap_remove(answered[0]);
    assert_eq!(filler.recv(), Reply::Nil);
    filler
}

fn of_a_stampede_one_is_left_to_fill(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut clients = crowd(&weir, 200, "GET report:1");
    wait_until_waiting(&weir, 199);
    let mut filler = filler(&mut clients);
    assert_eq!(filler.run("SET report:1 computed EX 100"), Reply::ok());
    for client in &mut clients {
        assert_eq!(client.recv(), Reply::bulk("computed"));
    }
    wait_until_waiting(&weir, 0);
    let metrics = weir.metrics();
    let count = |name: &str, label: (&str, &str)| metrics.sum(name, &[("route", "report"), label]);
    assert_eq!(count("weir_coalesced_total", ("scope", "process")), 199.0);
    assert_eq!(count("weir_lookups_total", ("outcome", "miss")), 1.0);
    assert_eq!(count("weir_lookups_total", ("outcome", "hit")), 199.0);
    assert_eq!(metrics.sum("weir_loads_total", &[]), 0.0);
}

/// T14: the lease ends with its time, and one of those who wait is the next.
fn a_filler_that_dies_is_replaced_by_one(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut dies = weir.client();
    assert_eq!(dies.run("GET brief:1"), Reply::Nil);
    dies.abort();
    let mut second = weir.client();
    assert_eq!(second.run("GET brief:1"), Reply::Nil, "after the first one's time");
    let mut third = weir.client();
    third.run_later("GET brief:1");
    wait_until("the third waits for the second", || coalesced(&weir) == 2);
    assert_eq!(second.run("SET brief:1 computed"), Reply::ok());
    assert_eq!(third.recv(), Reply::bulk("computed"));
}

fn what_nobody_fills_is_not_waited_for_for_ever(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut clients: Vec<Client> = (0..5).map(|_| weir.client()).collect();
    for client in &mut clients[..3] {
        assert_eq!(client.run("GET brief:1"), Reply::Nil);
    }
    assert_eq!(coalesced(&weir), 2, "the second and the third have waited for a filler each");
    assert_eq!(clients[3].run("GET brief:1"), Reply::Nil);
    assert_eq!(clients[4].run("GET brief:1"), Reply::Nil);
    assert_eq!(coalesced(&weir), 2, "nobody waits for the key any more");
    // Until it is set.
    assert_eq!(clients[0].run("SET brief:1 at-last"), Reply::ok());
    assert_eq!(clients[0].run("DEL brief:1"), Reply::Int(1));
    assert_eq!(clients[1].run("GET brief:1"), Reply::Nil);
    clients[2].run_later("GET brief:1");
    wait_until("they wait again", || coalesced(&weir) == 3);
    assert_eq!(clients[1].run("SET brief:1 again"), Reply::ok());
    assert_eq!(clients[2].recv(), Reply::bulk("again"));
}

fn nobody_waits_for_itself(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut client = weir.client();
    for _ in 0..3 {
        assert_eq!(client.run("GET report:1"), Reply::Nil);
    }
    assert_eq!(client.pipeline(&[vec!["GET", "report:1"], vec!["GET", "report:1"]]), [Reply::Nil, Reply::Nil]);
    assert_eq!(coalesced(&weir), 0);
}

fn replies_stay_in_order_and_who_sends_more_is_not_held_up(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let (mut filler, mut client, mut other) = (weir.client(), weir.client(), weir.client());
    assert_eq!(filler.run("GET report:1"), Reply::Nil);

    // A client that has had no reply yet, or only such as are known at once, may have one command under way.
    (8..10).for_each(|number| drop(client.run(&format!("GET report:{number}"))));
    // What came together waits together; others are served meanwhile.
    let pipeline = ["SET a 1", "GET report:1", "INCR a", "SET report:2 b", "GET report:2"];
    client.send(&pipeline.iter().flat_map(|words| raw_command(words)).collect::<Vec<u8>>());
    wait_until_waiting(&weir, 1);
    assert_eq!(other.run("PING"), Reply::Simple("PONG".into()));
    wait_until("what was sent behind the read is done", || other.run("GET report:2") == Reply::bulk("b"));
    assert_eq!(filler.run("SET report:1 computed"), Reply::ok());
    let replies: Vec<Reply> = pipeline.iter().map(|_| client.recv()).collect();
    assert_eq!(replies, [Reply::ok(), Reply::bulk("computed"), Reply::Int(2), Reply::ok(), Reply::bulk("b")]);

    // Who sends more while it waits has others behind it.
    assert_eq!(filler.run("GET report:3"), Reply::Nil);
    client.run_later("GET report:3");
    wait_until_waiting(&weir, 1);
    client.run_later("PING");
    assert_eq!([client.recv(), client.recv()], [Reply::Nil, Reply::Simple("PONG".into())]);

    // Nor does a read wait that a command stands behind which must come after it.
    let behind = if kind == Kind::Embedded { &["SET report:3 mine"][..] } else { &["MULTI", "SET report:3 mine"] };
    for behind in behind {
        client.send(&[raw_command("GET report:3"), raw_command(behind)].concat());
        assert_eq!([client.recv(), client.recv()], [Reply::Nil, Reply::ok()], "{behind}");
        client.run(if *behind == "MULTI" { "DISCARD" } else { "PING" });
    }
    assert_eq!(client.run("GET report:3"), Reply::bulk("mine"));
    let mut fresh = weir.client();
    assert_eq!(filler.run("GET report:4"), Reply::Nil);
    fresh.send(&["GET report:4", "GET report:3"].map(raw_command).concat());
    assert_eq!([fresh.recv(), fresh.recv()], [Reply::Nil, Reply::bulk("mine")]);
    wait_until_waiting(&weir, 0);
}

fn every_read_of_a_value_waits_and_no_other(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut filler = weir.client();
    let mut client = weir.client();
    let mut waiting = 0;
    let hashes = ["HGETALL KEY", "HGET KEY field", "HMGET KEY field"];
    let lists = ["LRANGE KEY 0 -1", "LINDEX KEY 0"];
    let strings = ["GET KEY", "GETEX KEY EX 50", "GETRANGE KEY 0 -1"];
    let mut kinds = vec![("SET KEY value", &strings[..]), ("HSET KEY field value", &hashes[..])];
    if kind != Kind::Embedded {
        kinds.push(("RPUSH KEY value", &lists[..]));
    }
    for (fill, reads) in kinds {
        for read in reads {
            let key = format!("report:{waiting}");
            assert_eq!(filler.run(&format!("GET {key}")), Reply::Nil);
            for words in ["EXISTS KEY", "TTL KEY", "STRLEN KEY", "HLEN KEY", "TYPE KEY", "MGET KEY", "MGET KEY KEY"] {
                let reply = client.run(&words.replace("KEY", &key));
                let absent = matches!(&reply, Reply::Int(0 | -2) | Reply::Array(_)) || reply.text() == "none";
                assert!(absent, "{words}: {reply:?}");
            }
            client.run_later(&read.replace("KEY", &key));
            wait_until_waiting(&weir, 1);
            waiting += 1;
            filler.run(&fill.replace("KEY", &key));
            let answer = client.recv();
            let text = format!("{answer:?}");
            assert!(text.contains(&format!("{:?}", b"value".to_vec())), "{read}: {text}");
            assert_eq!(coalesced(&weir), waiting, "{read}");
        }
    }
    // A field that is not there is no absent key, and nobody fills it.
    filler.run("HSET report:hash field value");
    assert_eq!(client.run("HGET report:hash other"), Reply::Nil);
    assert_eq!(filler.run("HGET report:hash other"), Reply::Nil);
    assert_eq!(coalesced(&weir), waiting);
}

fn a_delete_lets_the_next_reader_fill(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let (mut filler, mut client, mut third) = (weir.client(), weir.client(), weir.client());
    assert_eq!(filler.run("GET report:1"), Reply::Nil);
    assert_eq!(third.run("DEL report:1"), Reply::Int(0));
    assert_eq!(client.run("GET report:1"), Reply::Nil, "what the first computes may be from before the DEL");
    third.run_later("GET report:1");
    wait_until_waiting(&weir, 1);
    assert_eq!(filler.run("DEL report:1"), Reply::Int(0));
    assert_eq!(third.recv(), Reply::Nil, "one that waits is left to fill as soon as it has looked");
}

fn who_hangs_up_leaves_nothing(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut filler = weir.client();
    assert_eq!(filler.run("GET report:1"), Reply::Nil);
    let waiting = crowd(&weir, 20, "GET report:1");
    wait_until_waiting(&weir, 20);
    waiting.into_iter().for_each(Client::abort);
    wait_until_waiting(&weir, 0);
    wait_until("their connections are gone", || weir.metric("weir_clients", &[]) == 1.0);
}

fn more_than_max_fill_waiters_do_not_wait(kind: Kind) {
    let upstream = Upstream::start(kind);
    let weir = upstream.weir(&format!("{ROUTES}[limits]\nmax_fill_waiters = 2\n"));
    let mut filler = weir.client();
    assert_eq!(filler.run("GET report:1"), Reply::Nil);
    let mut waiting = crowd(&weir, 2, "GET report:1");
    wait_until_waiting(&weir, 2);
    for refused in 1..=3 {
        assert_eq!(weir.client().run("GET report:1"), Reply::Nil);
        assert_eq!(weir.metric("weir_fill_waiters_refused_total", &[]), f64::from(refused));
    }
    assert_eq!(filler.run("SET report:1 computed"), Reply::ok());
    waiting.iter_mut().for_each(|client| assert_eq!(client.recv(), Reply::bulk("computed")));
}

/// PTTL of a key, with what has passed since `start`: never more than that too little.
fn left(client: &mut Client, key: &str, start: Instant) -> (i64, i64) {
    let left = client.run(&format!("PTTL {key}")).int();
    (left, left + start.elapsed().as_millis() as i64 + 1)
}

fn no_key_outlives_its_route(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut client = weir.client();
    let commands = [
        "SET KEY v",
        "SET KEY v EX 5000",
        "SET KEY v NX PX 5000000",
        "SET KEY v NX",
        "SETNX KEY v",
        "SETEX KEY 5000 v",
        "PSETEX KEY 5000000 v",
        "SET KEY v EXAT 99999999999",
        "MSET KEY v",
        "APPEND KEY v",
        "INCR KEY",
        "HSET KEY f v",
        "GETSET KEY v",
    ];
    let later = [
        "EXPIRE KEY 5000",
        "PEXPIRE KEY 5000000 NX",
        "PEXPIREAT KEY 99999999999999",
        "PERSIST KEY",
        "GETEX KEY PERSIST",
    ];
    for (number, command) in commands.iter().enumerate() {
        let (start, key) = (Instant::now(), format!("plainly:{number}"));
        let reply = client.run(&command.replace("KEY", &key));
        assert!(!reply.is_error(""), "{command}: {reply:?}");
        // Some are cut by a command of their own behind them.
        wait_until(&format!("{command} is capped"), || {
            let (left, begun) = left(&mut client, &key, start);
            (1..=1_000_000).contains(&left) && begun >= 1_000_000
        });
    }
    for command in later {
        let (start, key) = (Instant::now(), "plainly:later");
        client.run(&format!("SET {key} v EX 10"));
        client.run(&command.replace("KEY", key));
        wait_until(&format!("{command} is capped"), || {
            let (left, begun) = left(&mut client, key, start);
            (1..=1_000_000).contains(&left) && (begun >= 1_000_000 || command.contains("NX"))
        });
    }
    client.run("SET plainly:kept v EX 10");
    client.run("SET plainly:kept w KEEPTTL");
    assert!((1..=10).contains(&client.run("TTL plainly:kept").int()));
}

fn clients_ttls_are_jittered_and_locks_are_not(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut client = weir.client();
    let mut try_all = |commands: &[&str], full: i64, key_of: &dyn Fn(usize) -> String| {
        let mut seen = BTreeSet::new();
        for number in 0..20 {
            let (start, key) = (Instant::now(), key_of(number));
            for command in commands {
                let reply = client.run(&command.replace("KEY", &key));
                assert!(!reply.is_error(""), "{command}: {reply:?}");
            }
            let (left, begun) = left(&mut client, &key, start);
            assert!(left <= full, "{commands:?}: {left} ms is longer than asked for");
            assert!(begun >= full * 9 / 10, "{commands:?}: {left} ms is shorter than its jitter allows");
            client.run(&format!("DEL {key}"));
            seen.insert(begun / (full / 500));
        }
        seen.len()
    };
    let routed = |number: usize| format!("report:{number}");
    let jittered: [&[&str]; 9] = [
        &["SET KEY v EX 300"],
        &["SET KEY v PX 300000"],
        &["SET KEY v", "SET KEY v XX GET EX 300"],
        &["SETEX KEY 300 v"],
        &["PSETEX KEY 300000 v"],
        &["SET KEY v", "GETEX KEY EX 300"],
        &["SET KEY v", "EXPIRE KEY 300"],
        &["SET KEY v", "PEXPIRE KEY 300000"],
        &["SET KEY v", "EXPIRE KEY 300 LT"],
    ];
    for commands in jittered {
        assert!(try_all(commands, 300_000, &routed) > 3, "twenty TTLs of {commands:?} are nearly equal");
    }
    // Of twenty that begin at their full time only the machine's own slowness can be seen.
    let whole: [&[&str]; 3] = [
        &["SET KEY v NX PX 30000"],
        &["SET KEY v EX 30 NX"],
        &["SET KEY v NX", "PEXPIRE KEY 30000 GT", "PEXPIRE KEY 30000"],
    ];
    for commands in &whole[..2] {
        for number in 0..20 {
            let (start, key) = (Instant::now(), routed(number));
            commands.iter().for_each(|command| drop(client.run(&command.replace("KEY", &key))));
            let (left, begun) = left(&mut client, &key, start);
            assert!(left <= 30_000 && begun >= 30_000, "{commands:?}: {left} ms of a lock");
            client.run(&format!("DEL {key}"));
        }
    }
    // Keys of no route are nobody's business, and a TTL that a server refuses is refused by it.
    for number in 0..20 {
        let (start, key) = (Instant::now(), format!("other:{number}"));
        client.run(&format!("SETEX {key} 300 v"));
        assert!(left(&mut client, &key, start).1 >= 300_000);
    }
    assert!(client.run("SETEX report:1 0 v").is_error("ERR invalid expire time in 'setex' command"));
    assert!(client.run("SET report:1 v EX x").is_error("ERR value is not an integer"));
    assert!(client.run("SET report:1 v EX 5 PX 5").is_error("ERR syntax error"));
}

fn what_clients_fill_has_the_tags_of_its_route(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut filler = weir.client();
    for number in 1..=3 {
        assert_eq!(filler.run(&format!("SETEX tagged:{number} 100 v")), Reply::ok());
        assert!((90..=100).contains(&filler.run(&format!("TTL tagged:{number}")).int()));
    }
    assert_eq!(filler.run("WEIR INVALIDATE one-2"), Reply::Int(1));
    assert_eq!(filler.run("WEIR INVALIDATE all"), Reply::Int(2));
    for fill in ["SET tagged:1 computed", "WEIR SET tagged:1 computed TAGS other"] {
        assert_eq!(filler.run("GET tagged:1"), Reply::Nil);
        let mut waiting = crowd(&weir, 10, "GET tagged:1");
        wait_until_waiting(&weir, 10);
        assert_eq!(filler.run(fill), Reply::ok());
        waiting.iter_mut().for_each(|client| assert_eq!(client.recv(), Reply::bulk("computed")));
        assert!((900..=1000).contains(&filler.run("TTL tagged:1").int()));
        assert_eq!(filler.run("WEIR INVALIDATE all"), Reply::Int(1));
    }
}

/// Only where Weirs can share an upstream.
macro_rules! over_upstreams {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use super::Kind;
            #[test]
            fn redis() { super::$name(Kind::Redis); }
            #[test]
            fn cluster() { super::$name(Kind::Cluster); }
        }
    )+ };
}

over_upstreams!(
    one_client_of_all_weirs_fills,
    who_has_state_at_the_server_does_not_wait,
    a_transaction_fills_and_jitters_too,
    others_than_weirs_clients_fill_too,
);

fn one_client_of_all_weirs_fills(kind: Kind) {
    let upstream = Upstream::start(kind);
    let weirs = [upstream.weir(ROUTES), upstream.weir(ROUTES), upstream.weir(ROUTES)];
    for round in 0..5 {
        let words = format!("GET report:{round}");
        let mut clients: Vec<Client> = weirs.iter().flat_map(|weir| crowd(weir, 40, &words)).collect();
        wait_until("all but one wait", || weirs.iter().map(waiters).sum::<usize>() == 119);
        let mut filler = filler(&mut clients);
        assert_eq!(filler.run(&format!("SET report:{round} {round}")), Reply::ok());
        for client in &mut clients {
            assert_eq!(client.recv(), Reply::bulk(round.to_string()));
        }
    }
    let fleet = |weir: &Weir| weir.metric("weir_coalesced_total", &[("scope", "fleet")]);
    let process = |weir: &Weir| weir.metric("weir_coalesced_total", &[("scope", "process")]);
    assert_eq!(weirs.iter().map(fleet).sum::<f64>(), 5.0 * 80.0);
    assert_eq!(weirs.iter().map(process).sum::<f64>(), 5.0 * 39.0);
}

fn who_has_state_at_the_server_does_not_wait(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut filler = weir.client();
    assert_eq!(filler.run("GET {report}:1"), Reply::Nil, "on no route");
    assert_eq!(filler.run("GET report:1"), Reply::Nil);
    let mut client = weir.client();
    assert_eq!(client.run("WATCH report:1"), Reply::ok());
    assert_eq!(client.run("GET report:1"), Reply::Nil);
    client.run("MULTI");
    client.run("GET report:1");
    assert_eq!(client.run("EXEC"), Reply::Array(vec![Reply::Nil]));
    if kind == Kind::Redis {
        let mut tracking = weir.client();
        tracking.run("HELLO 3");
        assert_eq!(tracking.run("CLIENT TRACKING ON"), Reply::ok());
        assert_eq!(tracking.run("GET report:1"), Reply::Nil);
    }
    assert_eq!(coalesced(&weir), 0);
}

fn a_transaction_fills_and_jitters_too(kind: Kind) {
    let (_upstream, weir) = start(kind);
    let mut filler = weir.client();
    for round in 0..10 {
        let key = format!("report:{round}");
        assert_eq!(filler.run(&format!("GET {key}")), Reply::Nil);
        let mut waiting = crowd(&weir, 10, &format!("GET {key}"));
        wait_until_waiting(&weir, 10);
        let start = Instant::now();
        let words = [format!("SET {key} half"), format!("SETEX {key} 300 whole")];
        filler.run("MULTI");
        words.iter().for_each(|words| assert_eq!(filler.run(words), Reply::Simple("QUEUED".into())));
        assert_eq!(filler.run("EXEC"), Reply::Array(vec![Reply::ok(), Reply::ok()]));
        waiting.iter_mut().for_each(|client| assert_eq!(client.recv(), Reply::bulk("whole")));
        let (left, begun) = left(&mut filler, &key, start);
        assert!(left <= 300_000 && begun >= 270_000, "{left} ms");
        filler.run("MULTI");
        filler.run(&format!("SET lock:{key} x NX PX 30000"));
        filler.run("EXEC");
    }
}

fn others_than_weirs_clients_fill_too(kind: Kind) {
    let (upstream, weir) = start(kind);
    let mut filler = weir.client();
    assert_eq!(filler.run("GET report:1"), Reply::Nil);
    let mut waiting = crowd(&weir, 10, "GET report:1");
    wait_until_waiting(&weir, 10);
    let (mut past_weir, _nodes) = match &upstream {
        Upstream::Redis(redis) => (redis.client(), 1),
        Upstream::Cluster(cluster) => {
            let slot = filler.run("CLUSTER KEYSLOT report:1").int() as u16;
            let owner = cluster.masters().into_iter().find(|master| master.slots.contains(&slot)).expect("an owner");
            (Client::connect(owner.port), 3)
        }
        Upstream::Embedded => unreachable!("nobody gets past Weir to it"),
    };
    assert_eq!(past_weir.run("SET report:1 theirs"), Reply::ok());
    waiting.iter_mut().for_each(|client| assert_eq!(client.recv(), Reply::bulk("theirs")));
    assert_eq!(filler.run("GET report:1"), Reply::bulk("theirs"));
    assert_eq!(past_weir.run("TTL report:1"), Reply::Int(-1), "what others set is left alone");
}

const SERVER: &str = "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nauth = \"upstream\"\n";

/// Whom the upstream knows is waited for and waits like others; its SETEX stays a SETEX, for it may have the right to no other.
#[test]
fn users_of_the_upstream_fill_and_wait() {
    const APP: User = User {
        name: "app",
        commands: &["+get", "+setex", "+expire", "+ttl", "+pttl"],
        keys: &["~report:*"],
        channels: &[],
    };
    let redis = Redis::start();
    APP.create(&mut redis.client());
    let weir = Weir::start(&format!("{SERVER}[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n{ROUTES}", redis.url()));
    let client = || {
        let mut client = weir.client();
        assert_eq!(client.cmd(&["AUTH", "app", &APP.password()]), Reply::ok());
        client
    };
    let mut filler = client();
    for round in 0..5 {
        let words = format!("GET report:{round}");
        assert_eq!(filler.run(&words), Reply::Nil);
        let mut waiting: Vec<Client> = (0..10).map(|_| client()).collect();
        waiting.iter_mut().for_each(|client| client.run_later(&words));
        wait_until_waiting(&weir, 10);
        let start = Instant::now();
        assert_eq!(filler.run(&format!("SETEX report:{round} 300 computed")), Reply::ok());
        waiting.iter_mut().for_each(|client| assert_eq!(client.recv(), Reply::bulk("computed")));
        let (left, begun) = left(&mut filler, &format!("report:{round}"), start);
        assert!(left <= 300_000 && begun >= 270_000, "{left} ms");
        assert_eq!(filler.run(&format!("EXPIRE report:{round} 100")), Reply::Int(1));
        assert!((90..=100).contains(&filler.run(&format!("TTL report:{round}")).int()));
    }
    assert!(filler.run("SET report:1 x").is_error("NOPERM"));
}

/// What is kept near of such keys is as new as what their clients have set, also by commands that Weir gives another TTL.
#[test]
fn what_is_kept_near_is_what_was_set() {
    let redis = Redis::start();
    let routes = "[[route]]\nname = \"report\"\nkey = \"report:{id}\"\nnear = \"1h\"\nwait_for_fill = \"60s\"\n";
    let weir = Weir::start(&format!("[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n{routes}", redis.url()));
    let (mut client, mut other) = (weir.client(), weir.client());
    assert_eq!(client.run("SET report:1 0"), Reply::ok());
    let near_hits = || weir.metric("weir_lookups_total", &[("route", "report"), ("outcome", "near_hit")]);
    wait_until("it is kept near", || {
        assert_eq!(other.run("GET report:1"), Reply::bulk("0"));
        near_hits() > 0.0
    });
    for number in 1..500 {
        let value = number.to_string();
        let set =
            [["SET", "report:1", &value].to_vec(), ["SETEX", "report:1", "100", &value].to_vec()][number % 2].clone();
        let replies = client.pipeline(&[set, vec!["GET", "report:1"]]);
        assert_eq!(replies, [Reply::ok(), Reply::bulk(&value)]);
        assert_eq!(other.run("GET report:1"), Reply::bulk(&value), "another client after the acknowledgement");
    }
    // Who waits for a fill is answered by it, though the key was kept near.
    assert_eq!(client.run("DEL report:1"), Reply::Int(1));
    assert_eq!(client.run("GET report:1"), Reply::Nil);
    other.run_later("GET report:1");
    wait_until_waiting(&weir, 1);
    assert_eq!(client.run("SET report:1 again"), Reply::ok());
    assert_eq!(other.recv(), Reply::bulk("again"));
}

/// Clients' TTLs of keys that Weir loads are jittered alike.
#[test]
fn keys_with_a_load_are_jittered_too() {
    let routes = "[[route]]\nname = \"product\"\nkey = \"product:{id}\"\nttl = \"1000s\"\njitter = \"10%\"\n\
                  load = \"SELECT id, name FROM products WHERE id = :id\"\n";
    for pair in [Pair::EmbeddedSqlite, Pair::RedisSqlite] {
        let stack = Stack::start(pair, routes);
        let mut client = stack.weir.client();
        let mut seen = BTreeSet::new();
        for id in 1..=20 {
            let (start, key) = (Instant::now(), format!("product:{id}"));
            assert_eq!(client.run(&format!("SETEX {key} 300 mine")), Reply::ok());
            let (left, begun) = left(&mut client, &key, start);
            assert!(left <= 300_000 && begun >= 270_000, "{left} ms");
            seen.insert(begun / 600);
            assert_eq!(client.run(&format!("SET {key} mine NX PX 30000")), Reply::Nil, "there is one");
            client.run(&format!("DEL {key}"));
        }
        assert!(seen.len() > 3, "twenty TTLs are nearly equal: {seen:?}");
    }
}

/// A command on keys of both kinds loads what can be loaded.
#[test]
fn an_mget_of_both_kinds_loads_what_it_can() {
    let routes = format!(
        "{ROUTES}[[route]]\nname = \"product\"\nkey = \"product:{{id}}\"\nload = \"SELECT id FROM products WHERE id = :id\"\n"
    );
    for pair in [Pair::EmbeddedSqlite, Pair::RedisSqlite] {
        let stack = Stack::start(pair, &routes);
        let mut client = stack.weir.client();
        client.run("SET report:2 mine");
        let reply = client.run("MGET report:1 product:1 report:2 product:999 plain");
        let one = Reply::bulk(r#"{"id":1}"#);
        assert_eq!(reply, Reply::Array(vec![Reply::Nil, one, Reply::bulk("mine"), Reply::Nil, Reply::Nil]));
        assert_eq!(client.run("EXISTS report:1 report:2 product:2"), Reply::Int(2));
        let metrics = stack.weir.metrics();
        let lookups = |outcome| metrics.sum("weir_lookups_total", &[("route", "report"), ("outcome", outcome)]);
        assert_eq!((lookups("hit"), lookups("miss")), (1.0, 1.0));
    }
}

#[test]
fn weir_says_what_it_does_with_such_keys() {
    let weir = Weir::start(ROUTES);
    let explained = weir.client().run("WEIR EXPLAIN report:2026:sales").pairs();
    let field = |name: &str| explained.iter().find(|(field, _)| field == name).map(|(_, text)| text.as_str());
    assert_eq!(field("route"), Some("report"));
    assert_eq!(field("loads"), Some("no: the route has no `load`, applications fill the key themselves"));
    assert_eq!(field("ttl"), Some("900s to 1000s at most, and where a client sets none"));
    assert_eq!(field("wait_for_fill"), Some("60s"));
    assert_eq!(field("state"), Some("absent"));
    assert!(weir.client().run("WEIR ROUTES").pairs().contains(&("report".into(), "report:{*rest}".into())));
}

/// There is no database to answer from.
#[test]
fn without_the_upstream_it_says_so() {
    let mut redis = Redis::start();
    let weir = Weir::start(&format!("[upstream]\nurl = \"{}\"\n{ROUTES}", redis.url()));
    let mut client = weir.client();
    assert_eq!(client.run("GET report:1"), Reply::Nil);
    redis.kill9();
    wait_until("the upstream is known to be down", || client.run("GET report:1").is_error("UPSTREAM"));
    redis.start_again();
    wait_until("it is back", || client.run("SET report:1 v") == Reply::ok());
    assert_eq!(client.run("GET report:1"), Reply::bulk("v"));
}
