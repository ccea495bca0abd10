//! A Redis Cluster behind Weir looks like one Redis (T22, T23, T29, T36): whatever moves or dies in it, clients see no
//! redirect, their commands stay in order, and no reply is another's.

mod harness;

use harness::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn on(cluster: &RedisCluster, timeout: &str) -> Weir {
    Weir::start(&format!("[upstream]\nurl = \"{}\"\ntimeout = \"{timeout}\"\n", cluster.url()))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn commands_find_their_nodes_and_answer_as_one_redis() {
    let cluster = RedisCluster::start(0);
    let weir = on(&cluster, "20s");
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut client = weir.client();
        client.run(hello);
        assert_eq!(client.run("FLUSHALL"), Reply::ok());
        every_key_is_reached(&mut client);
        all_keys_are_one_keyspace(&cluster, &mut client);
        keys_of_several_slots_are_split_and_joined(&mut client);
        scripts_are_known_on_every_node(&mut client);
        what_a_cluster_refuses_is_refused_in_its_words(&mut client);
    }
}

fn every_key_is_reached(client: &mut Client) {
    let pairs: Vec<Vec<String>> =
        (0..300).flat_map(|n| [words(&format!("SET k{n} v{n}")), words(&format!("GET k{n}"))]).collect();
    for (n, two) in client.pipeline(&pairs).chunks(2).enumerate() {
        assert_eq!(two, [Reply::ok(), Reply::bulk(format!("v{n}"))]);
    }
    let mixed = ["INCR n", "LPUSH {n}l a b", "PING", "ECHO x", "GET", "INCR k1", "NONSENSE n", "OBJECT ENCODING n"];
    let commands: Vec<Vec<String>> = mixed.iter().map(|text| words(text)).collect();
    let replies = client.pipeline(&commands);
    assert_eq!(replies[..2], [Reply::Int(1), Reply::Int(2)]);
    assert_eq!(replies[2..4], [Reply::Simple("PONG".into()), Reply::bulk("x")]);
    assert!(replies[4].is_error("ERR wrong number of arguments for 'get'"));
    assert!(replies[5].is_error("ERR value is not an integer"));
    assert!(replies[6].is_error("ERR unknown command"));
    assert_eq!(replies[7], Reply::bulk("int"));
    client.send(b"SET inline 1\r\nGET inline\r\n");
    assert_eq!([client.recv(), client.recv()], [Reply::ok(), Reply::bulk("1")]);
    client.run("DEL n {n}l inline");
}

fn all_keys_are_one_keyspace(cluster: &RedisCluster, client: &mut Client) {
    for node in 0..3 {
        assert!(cluster.client(node).run("DBSIZE").int() > 0, "every node has some of the keys");
    }
    assert_eq!(client.run("DBSIZE"), Reply::Int(300));
    assert_eq!(client.run("KEYS k*").items().len(), 300);
    assert!(client.run("RANDOMKEY").text().starts_with('k'));
    let mut seen = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let step = client.run(&format!("SCAN {cursor} MATCH k* COUNT 20"));
        seen.extend(step.items()[1].items().iter().map(Reply::text));
        cursor = step.items()[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen.len(), 300);
    assert!(client.run("SCAN x").is_error("ERR invalid cursor"));
    let after = client.pipeline(&[words("FLUSHALL"), words("SET k 1"), words("DBSIZE"), words("GET k")]);
    assert_eq!(after, [Reply::ok(), Reply::ok(), Reply::Int(1), Reply::bulk("1")]);
    client.run("DEL k");
}

fn keys_of_several_slots_are_split_and_joined(client: &mut Client) {
    let set = words("MSET a 1 b 2 c 3 {a}x 4 d 5");
    let get = words("MGET d absent {a}x c b a a");
    let replies = client.pipeline(&[set, get, words("EXISTS a b absent c a"), words("DEL a absent b"), words("GET a")]);
    let values: Vec<Reply> = ["5", "", "4", "3", "2", "1", "1"]
        .iter()
        .map(|text| if text.is_empty() { Reply::Nil } else { Reply::bulk(text) })
        .collect();
    assert_eq!(replies[0], Reply::ok());
    assert_eq!(replies[1].items(), values);
    assert_eq!(replies[2..], [Reply::Int(4), Reply::Int(2), Reply::Nil]);
    assert_eq!(client.run("TOUCH c d absent"), Reply::Int(2));
    assert_eq!(client.run("UNLINK c d {a}x absent"), Reply::Int(3));
    let many: Vec<String> = (0..2000).flat_map(|n| [format!("many{n}"), n.to_string()]).collect();
    let mset: Vec<String> = ["MSET".to_owned()].into_iter().chain(many.clone()).collect();
    assert_eq!(client.cmd(&mset), Reply::ok());
    let keys: Vec<String> = many.iter().step_by(2).cloned().collect();
    let mget: Vec<String> = ["MGET".to_owned()].into_iter().chain(keys.clone()).collect();
    let found = client.cmd(&mget);
    assert!(found.items().iter().zip(0..).all(|(value, n)| *value == Reply::bulk(n.to_string())));
    assert_eq!(found.items().len(), 2000);
    client.run("LPUSH list x");
    assert_eq!(client.run("MGET list many1").items(), [Reply::Nil, Reply::bulk("1")]);
    assert!(client.run("MSET a 1 b").is_error("CROSSSLOT"));
    let unlink: Vec<String> = ["UNLINK".to_owned(), "list".to_owned()].into_iter().chain(keys).collect();
    assert_eq!(client.cmd(&unlink), Reply::Int(2001));
}

fn scripts_are_known_on_every_node(client: &mut Client) {
    let load = ["SCRIPT", "LOAD", "return redis.call('SET', KEYS[1], ARGV[1])"];
    assert_eq!(client.run("SCRIPT FLUSH"), Reply::ok());
    let hash = client.cmd(&load).text();
    for n in 0..50 {
        assert_eq!(client.run(&format!("EVALSHA {hash} 1 script{n} {n}")), Reply::ok());
        assert_eq!(client.run(&format!("GET script{n}")), Reply::bulk(n.to_string()));
    }
    assert_eq!(client.run(&format!("SCRIPT EXISTS {hash} ffff")).items(), [Reply::Int(1), Reply::Int(0)]);
    assert_eq!(client.cmd(&["EVAL", "return 7", "0"]), Reply::Int(7));
    assert_eq!(client.run("SCRIPT FLUSH"), Reply::ok());
    let gone = client.run(&format!("EVALSHA {hash} 1 script0 x"));
    assert_eq!(gone, Reply::Error("NOSCRIPT No matching script. Please use EVAL.".into()));
    let library = "#!lua name=mylib\nredis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)";
    assert_eq!(client.cmd(&["FUNCTION", "LOAD", "REPLACE", library]), Reply::bulk("mylib"));
    for n in 0..20 {
        assert_eq!(client.run(&format!("FCALL put 1 function{n} {n}")), Reply::ok());
    }
    client.run("FLUSHALL");
}

fn what_a_cluster_refuses_is_refused_in_its_words(client: &mut Client) {
    for text in ["RENAME a b", "SUNION a b", "MSETNX a 1 b 2", "EVAL x 2 a b", "PFMERGE a b", "LMOVE a b LEFT LEFT"] {
        let refused = Reply::Error("CROSSSLOT Keys in request don't hash to the same slot".into());
        assert_eq!(client.run(text), refused, "{text}");
    }
    assert_eq!(client.run("SELECT 1"), Reply::Error("ERR SELECT is not allowed in cluster mode".into()));
    assert_eq!(client.run("SELECT 0"), Reply::ok());
}

#[test]
fn a_client_that_speaks_cluster_is_told_of_one_node() {
    let cluster = RedisCluster::start(0);
    let weir = on(&cluster, "20s");
    let mut client = weir.client();
    let slots = client.run("CLUSTER SLOTS");
    let [first, last, node] = slots.items()[0].items() else { panic!("{slots:?}") };
    assert_eq!((first.int(), last.int(), slots.items().len()), (0, 16383, 1));
    assert_eq!((node.items()[0].text(), node.items()[1].int()), ("127.0.0.1".into(), i64::from(weir.port())));
    let id = client.run("CLUSTER MYID").text();
    assert_eq!((node.items()[2].text(), id.len()), (id.clone(), 40));
    let line = client.run("CLUSTER NODES").text();
    assert_eq!(
        line,
        format!("{id} 127.0.0.1:{port}@{port} myself,master - 0 0 1 connected 0-16383\n", port = weir.port())
    );
    assert!(client.run("CLUSTER INFO").text().contains("cluster_state:ok\r\n"));
    assert_eq!(client.run("CLUSTER SHARDS").items().len(), 1);
    assert_eq!(client.run("CLUSTER KEYSLOT foo"), Reply::Int(12182));
    client.run("SET foo bar");
    assert_eq!(client.run("CLUSTER COUNTKEYSINSLOT 12182"), Reply::Int(1));
    for text in ["READONLY", "READWRITE", "ASKING"] {
        assert_eq!(client.run(text), Reply::ok(), "{text}");
    }
    assert!(client.run("CLUSTER ADDSLOTS 1").is_error("ERR "));
    assert!(client.run("CLUSTER KEYSLOT").is_error("ERR wrong number of arguments for 'cluster|keyslot' command"));
    assert!(client.run("INFO cluster").text().contains("cluster_enabled:1"));
}

#[test]
fn nodes_are_found_by_the_names_that_they_announce() {
    let names = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
    let cluster = RedisCluster::start_with(0, &names);
    wait_until("the names are known everywhere", || {
        (0..3).all(|node| {
            let slots = cluster.client(node).run("CLUSTER SLOTS");
            slots.items().iter().all(|range| range.items()[2].items()[0] == Reply::bulk("localhost"))
        })
    });
    let weir = on(&cluster, "20s");
    let mut client = weir.client();
    for n in 0..100 {
        assert_eq!(client.run(&format!("SET k{n} {n}")), Reply::ok());
    }
    let mut masters = cluster.masters();
    let (to, from) = (masters.pop().unwrap(), masters.pop().unwrap());
    for slot in from.slots[..20].iter().copied().chain([12182]) {
        if from.slots.contains(&slot) {
            cluster.move_slot(slot, &from, &to);
        }
    }
    for n in 0..100 {
        assert_eq!(client.run(&format!("GET k{n}")), Reply::bulk(n.to_string()));
    }
}

#[test]
fn plain_reads_go_to_replicas_where_that_is_wanted() {
    let cluster = RedisCluster::start(1);
    let url = cluster.url();
    let weir = Weir::start(&format!("[upstream]\nurl = \"{url}\"\ntimeout = \"20s\"\nread_from = \"replica\"\n"));
    let mut client = weir.client();
    for n in 0..60 {
        assert_eq!(client.run(&format!("SET k{n} {n}")), Reply::ok());
    }
    for n in 0..60 {
        wait_until("the replica has it", || client.run(&format!("GET k{n}")) == Reply::bulk(n.to_string()));
    }
    let gets = |node: usize| {
        let stats = cluster.client(node).run("INFO commandstats").text();
        stats.lines().any(|line| line.starts_with("cmdstat_get:"))
    };
    let role = |node: usize| cluster.client(node).run("ROLE").items()[0].text();
    for node in 0..6 {
        assert_eq!(gets(node), role(node) == "slave", "node {node} is a {}", role(node));
    }
}

/// Routes on every kind of access, over a cluster.
fn routed(cluster: &RedisCluster, timeout: &str) -> (Weir, Sqlite) {
    let database = Sqlite::shop();
    let (url, database_url) = (cluster.url(), database.url());
    let weir = Weir::start(&format!(
        r#"
[upstream]
url = "{url}"
timeout = "{timeout}"
[database.main]
url = "{database_url}"
timeout = "20s"
[[route]]
name = "price"
key = "price:{{id}}"
load = "SELECT price FROM products WHERE id = :id"
value = "text"
ttl = "1h"
jitter = "0%"
tags = ["prices", "price-{{id}}"]
[[route]]
name = "user"
key = "user:{{id}}"
load = "SELECT id, name FROM users WHERE id = :id"
value = "hash"
"#
    ));
    (weir, database)
}

#[test]
fn routed_keys_are_loaded_kept_and_invalidated_on_every_node() {
    let cluster = RedisCluster::start(0);
    let (weir, database) = routed(&cluster, "20s");
    let mut client = weir.client();
    for round in 0..2 {
        for id in 1..=100 {
            assert_eq!(client.run(&format!("GET price:{id}")), Reply::bulk((100 + id).to_string()), "round {round}");
        }
    }
    let loads = |route| weir.metric("weir_loads_total", &[("route", route)]) as i64;
    assert_eq!(loads("price"), 100);
    // Across slots, with what is cached, what is loaded, what no row has, and what no route has.
    client.run("SET plain p");
    let reply = client.run("MGET price:1 price:150 plain price:9999 nothing price:151");
    let expected =
        [Reply::bulk("101"), Reply::bulk("250"), Reply::bulk("p"), Reply::Nil, Reply::Nil, Reply::bulk("251")];
    assert_eq!(reply.items(), expected);
    assert_eq!(client.run("EXISTS price:1 price:160 price:9999 plain"), Reply::Int(3));
    assert_eq!(client.run("INCR price:170"), Reply::Int(271));
    assert_eq!(client.run("HGET user:7 name"), Reply::bulk("user 7"));
    database.sql("UPDATE products SET price = price + 1000");
    assert_eq!(client.run("GET price:3"), Reply::bulk("103"), "it is cached");
    let keys: Vec<String> = (1..=100).map(|id| format!("price:{id}")).collect();
    let del: Vec<String> = ["DEL".to_owned()].into_iter().chain(keys.clone()).collect();
    let mget: Vec<String> = ["MGET".to_owned()].into_iter().chain(keys).collect();
    let replies = client.pipeline(&[del, mget]);
    assert_eq!(replies[0], Reply::Int(100));
    assert!(replies[1].items().iter().zip(1..).all(|(price, id)| *price == Reply::bulk((1100 + id).to_string())));
    assert!(client.run("TTL price:3").int() > 3000);
    let pipelined =
        client.pipeline(&[words("SET price:5 x"), words("GET price:5"), words("DEL price:5"), words("GET price:5")]);
    assert_eq!(pipelined, [Reply::ok(), Reply::bulk("x"), Reply::Int(1), Reply::bulk("1105")]);
    assert_eq!(client.run("WEIR SET plain:1 v EX 100 TAGS prices mine"), Reply::ok());
    let tagged = client.run("WEIR INVALIDATE prices").int();
    // The hundred, one that INCR has changed, 160 and 150 and 151 that were read, and the plain one.
    assert_eq!(tagged, 105);
    assert_eq!(client.run("EXISTS plain:1"), Reply::Int(0));
    assert_eq!(client.run("WEIR INVALIDATE prices mine"), Reply::Int(0));
    let ttl = client.run("SET price:6 y").text() + &client.run("TTL price:6").int().to_string();
    assert_eq!(ttl, "OK3600", "the route's TTL caps the key's");
}

/// What many clients saw while the cluster was disturbed.
#[derive(Default)]
struct Seen {
    ends: AtomicBool,
    commands: AtomicUsize,
    refused: AtomicUsize,
    wrong: AtomicUsize,
}

impl Seen {
    fn answered(&self) -> usize {
        self.commands.load(Ordering::SeqCst) - self.refused()
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// Counts one reply; `true` if it is an answer.
    fn count(&self, reply: &Reply, right: impl FnOnce(&Reply) -> bool, what: &dyn Fn() -> String) -> bool {
        self.commands.fetch_add(1, Ordering::SeqCst);
        if reply.is_error("UPSTREAM ") {
            if self.refused.fetch_add(1, Ordering::SeqCst) < 5 {
                eprintln!("refused: {reply:?} to {}", what());
            }
            return false;
        }
        if !right(reply) && self.wrong.fetch_add(1, Ordering::SeqCst) < 20 {
            eprintln!("wrong: {reply:?} to {}", what());
        }
        true
    }

    /// A client with keys of its own. It knows the newest version that was acknowledged for each of them, and what was
    /// sent after that; no reply may be older, or of another key.
    fn ask(&self, port: u16, number: usize) {
        const KEYS: usize = 40;
        let mut client = Client::connect(port);
        let mut acknowledged = [0usize; KEYS];
        let mut version = 0;
        while !self.ends.load(Ordering::SeqCst) {
            let keys: Vec<usize> = (0..8).map(|_| fastrand::usize(..KEYS)).collect();
            let name = |key: usize| format!("load:{number}:{key}");
            let mut commands = Vec::new();
            let mut sent = Vec::new();
            for &key in &keys {
                version += 1;
                sent.push(version);
                commands.push(vec!["SET".to_owned(), name(key), format!("{}/{version}", name(key))]);
                commands.push(vec!["GET".to_owned(), name(key)]);
            }
            let all: Vec<usize> = (0..3).map(|_| keys[fastrand::usize(..8)]).collect();
            commands.push(["MGET".to_owned()].into_iter().chain(all.iter().map(|&key| name(key))).collect());
            let replies = client.pipeline(&commands);
            let parse = |reply: &Reply, key: usize| match reply {
                Reply::Bulk(bytes) => {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    text.strip_prefix(&format!("{}/", name(key))).and_then(|version| version.parse::<usize>().ok())
                }
                Reply::Nil => Some(0),
                _ => None,
            };
            for ((two, &key), &version) in replies.chunks(2).zip(&keys).zip(&sent) {
                let what = || format!("SET/GET {} {version}, acknowledged {}", name(key), acknowledged[key]);
                let is_set = self.count(&two[0], |reply| *reply == Reply::ok(), &what);
                let least = if is_set { version } else { acknowledged[key] };
                self.count(
                    &two[1],
                    |reply| parse(reply, key).is_some_and(|found| found >= least && found <= version),
                    &what,
                );
                if is_set {
                    acknowledged[key] = version;
                }
            }
            let last = &replies[replies.len() - 1];
            let right = |reply: &Reply| {
                let Reply::Array(items) = reply else { return false };
                items
                    .iter()
                    .zip(&all)
                    .all(|(item, &key)| parse(item, key).is_some_and(|found| found >= acknowledged[key]))
            };
            self.count(last, right, &|| format!("MGET {all:?} of {number}"));
        }
    }
}

/// Runs `disturb` while clients ask; prints what they saw.
fn under_load(name: &str, weir: &Weir, disturb: impl FnOnce(&Seen)) -> Seen {
    struct EndOnDrop<'a>(&'a Seen);
    impl Drop for EndOnDrop<'_> {
        fn drop(&mut self) {
            self.0.ends.store(true, Ordering::SeqCst);
        }
    }
    let seen = Seen::default();
    std::thread::scope(|threads| {
        let ends = EndOnDrop(&seen);
        for number in 0..8 {
            let (seen, port) = (&seen, weir.port());
            threads.spawn(move || seen.ask(port, number));
        }
        wait_until("the clients are at work", || seen.answered() > 500);
        disturb(&seen);
        let until_now = seen.answered();
        wait_until("the clients are at work again", || seen.answered() > until_now + 500);
        drop(ends);
    });
    println!(
        "{name}: {} commands, {} refused, {} wrong",
        seen.commands.load(Ordering::SeqCst),
        seen.refused(),
        seen.wrong.load(Ordering::SeqCst)
    );
    assert_eq!(seen.wrong.load(Ordering::SeqCst), 0);
    seen
}

#[test]
fn resharding_under_load_is_not_seen_by_clients() {
    seed();
    let mut cluster = RedisCluster::start(0);
    let weir = on(&cluster, "20s");
    let fresh = cluster.add_master();
    let mut moved = 0;
    let seen = under_load("reshard", &weir, |seen| {
        // To a master that is new and empty, and between old ones; the slots that hold keys, and others.
        for round in 0..4 {
            let masters = cluster.masters();
            let from = masters.iter().filter(|master| master.id != fresh.id).max_by_key(|master| master.slots.len());
            let from = from.expect("a master");
            let to = masters.iter().find(|master| {
                if round % 2 == 0 { master.id == fresh.id } else { master.id != from.id && master.id != fresh.id }
            });
            let to = to.unwrap_or(&fresh);
            let mut source = Client::connect(from.port);
            let mut slots: Vec<u16> = from.slots.clone();
            slots.sort_by_key(|slot| -source.run(&format!("CLUSTER COUNTKEYSINSLOT {slot}")).int());
            for slot in slots.into_iter().take(120) {
                cluster.move_slot(slot, from, to);
                moved += 1;
            }
            cluster.settle();
            let answered = seen.answered();
            wait_until("the clients go on", || seen.answered() > answered + 200);
        }
    });
    println!("reshard: {moved} slots moved");
    assert_eq!(seen.refused(), 0, "an error was seen");
}

#[test]
fn a_slot_that_is_half_moved_is_waited_for_and_then_told() {
    let cluster = RedisCluster::start(0);
    let weir = on(&cluster, "300ms");
    let mut client = weir.client();
    client.run("MSET {t}1 a {t}2 b");
    let masters = cluster.masters();
    let slot = client.run("CLUSTER KEYSLOT t").int() as u16;
    let from = masters.iter().find(|master| master.slots.contains(&slot)).expect("an owner");
    let to = masters.iter().find(|master| master.id != from.id).expect("another");
    let (mut source, mut target) = (Client::connect(from.port), Client::connect(to.port));
    target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id));
    source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id));
    assert_eq!(source.run(&format!("MIGRATE 127.0.0.1 {} {{t}}1 0 5000", to.port)), Reply::ok());
    // Keys that have moved, that have not, and new ones.
    for (key, value) in [("{t}1", "a"), ("{t}2", "b")] {
        assert_eq!(client.run(&format!("GET {key}")), Reply::bulk(value));
    }
    assert_eq!(client.run("SET {t}3 c"), Reply::ok());
    assert_eq!(target.run("ASKING"), Reply::ok());
    assert_eq!(target.run("GET {t}3"), Reply::bulk("c"), "new keys are made at the target");
    let half = client.run("MGET {t}1 {t}2");
    assert!(half.is_error("UPSTREAM refused: TRYAGAIN"), "{half:?}");
    client.run_later("MGET {t}1 {t}2 {t}3");
    cluster.move_slot(slot, from, to);
    let reply = client.recv();
    if !reply.is_error("UPSTREAM refused: TRYAGAIN") {
        assert_eq!(reply.items(), [Reply::bulk("a"), Reply::bulk("b"), Reply::bulk("c")]);
    }
    assert_eq!(client.run("MGET {t}1 {t}2 {t}3").items(), [Reply::bulk("a"), Reply::bulk("b"), Reply::bulk("c")]);
}

#[test]
fn no_routed_read_is_older_than_an_acknowledged_invalidation_while_slots_move() {
    seed();
    let cluster = RedisCluster::start(0);
    let (weir, database) = routed(&cluster, "20s");
    const PRODUCTS: usize = 12;
    let (ends, wrong, reads, writes) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    // The newest price of each product whose invalidation was acknowledged.
    let acknowledged: Vec<AtomicUsize> = (0..PRODUCTS).map(|id| AtomicUsize::new(101 + id)).collect();
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let mut client = weir.client();
                while !ends.load(Ordering::SeqCst) {
                    let id = fastrand::usize(..PRODUCTS);
                    let least = acknowledged[id].load(Ordering::SeqCst);
                    let reply = client.run(&format!("GET price:{}", id + 1));
                    reads.fetch_add(1, Ordering::SeqCst);
                    let right = matches!(&reply, Reply::Bulk(text) if String::from_utf8_lossy(text).parse().is_ok_and(|price: usize| price >= least));
                    if !right && wrong.fetch_add(1, Ordering::SeqCst) < 10 {
                        eprintln!("price:{} is {reply:?}, acknowledged was {least}", id + 1);
                    }
                }
            });
        }
        threads.spawn(|| {
            let mut client = weir.client();
            while !ends.load(Ordering::SeqCst) {
                let id = fastrand::usize(..PRODUCTS);
                let price = acknowledged[id].load(Ordering::SeqCst) + 1;
                database.sql(&format!("UPDATE products SET price = {price} WHERE id = {}", id + 1));
                // By the key, and by a tag, whose index is at another node than the key more often than not.
                let reply = match fastrand::bool() {
                    true => client.run(&format!("DEL price:{}", id + 1)),
                    false => client.run(&format!("WEIR INVALIDATE price-{}", id + 1)),
                };
                if matches!(reply, Reply::Int(_)) {
                    acknowledged[id].store(price, Ordering::SeqCst);
                    writes.fetch_add(1, Ordering::SeqCst);
                } else {
                    eprintln!("an invalidation: {reply:?}");
                    wrong.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut client = cluster.client(0);
            for _ in 0..4 {
                for id in 1..=PRODUCTS {
                    let slot = client.run(&format!("CLUSTER KEYSLOT price:{id}")).int() as u16;
                    let masters = cluster.masters();
                    let from = masters.iter().find(|master| master.slots.contains(&slot)).expect("an owner");
                    let others: Vec<&Master> = masters.iter().filter(|master| master.id != from.id).collect();
                    cluster.move_slot(slot, from, others[fastrand::usize(..2)]);
                    cluster.settle();
                }
                let until_now = writes.load(Ordering::SeqCst);
                wait_until("the writer goes on", || writes.load(Ordering::SeqCst) > until_now + 10);
            }
        }));
        ends.store(true, Ordering::SeqCst);
        ended.expect("the slots move");
    });
    let (reads, writes, wrong) = (reads.into_inner(), writes.into_inner(), wrong.into_inner());
    println!("invalidation under reshard: {reads} reads, {writes} invalidations, {wrong} wrong");
    assert_eq!(wrong, 0);
}

#[test]
fn a_killed_master_s_replica_takes_over() {
    seed();
    let mut cluster = RedisCluster::start(1);
    let weir = on(&cluster, "250ms");
    let masters = cluster.masters();
    let victim = masters[0].clone();
    let survivors: Vec<u16> = (0..6).map(|node| cluster.port(node)).filter(|&port| port != victim.port).collect();
    // Nothing that was acknowledged may be lost by the cluster itself, so writes wait for its replicas no longer than this.
    let lost = AtomicUsize::new(0);
    let port = weir.port();
    let mut client = weir.client();
    for n in 0..200 {
        assert_eq!(client.run(&format!("SET before{n} {n}")), Reply::ok());
    }
    for master in &masters {
        wait_until("the replica has all of it", || {
            let role = Client::connect(master.port).run("ROLE");
            let replica = role.items()[2].items().first().map(|replica| replica.items()[2].text());
            replica.is_some_and(|offset| offset == role.items()[1].int().to_string())
        });
    }
    let (asked, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ends = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for number in 0..6 {
            let (asked, refused, lost, ends) = (&asked, &refused, &lost, &ends);
            threads.spawn(move || {
                let mut client = Client::connect(port);
                while !ends.load(Ordering::SeqCst) {
                    let n = fastrand::usize(..200);
                    let replies = client
                        .pipeline(&[words(&format!("GET before{n}")), words(&format!("SET during{number}:{n} {n}"))]);
                    asked.fetch_add(2, Ordering::SeqCst);
                    for (reply, right) in replies.iter().zip([Reply::bulk(n.to_string()), Reply::ok()]) {
                        if reply.is_error("UPSTREAM ") {
                            refused.fetch_add(1, Ordering::SeqCst);
                        } else if *reply != right {
                            eprintln!("wrong: {reply:?}, not {right:?}");
                            lost.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("the clients are at work", || asked.load(Ordering::SeqCst) > 500);
            cluster.kill9(victim.port);
            wait_until("a replica has taken over", || {
                let mut client = Client::connect(survivors[0]);
                let nodes = client.run("CLUSTER NODES").text();
                let masters = nodes.lines().filter(|line| line.contains("master") && !line.contains("fail"));
                masters.count() == 3 && client.run("CLUSTER INFO").text().contains("cluster_state:ok")
            });
            let mut client = weir.client();
            wait_until("every key is answered", || {
                (0..200).all(|n| client.run(&format!("GET before{n}")) == Reply::bulk(n.to_string()))
            });
            let (before, so_far) = (refused.load(Ordering::SeqCst), asked.load(Ordering::SeqCst));
            wait_until("the clients go on", || asked.load(Ordering::SeqCst) > so_far + 2000);
            let after = refused.load(Ordering::SeqCst) - before;
            println!("failover: {before} refused until the replica answered, {after} of 2000 and more afterwards");
            assert_eq!(after, 0);
            cluster.start_again(victim.port);
            wait_until("the old master is a replica", || {
                Client::connect(victim.port).run("ROLE").items()[0].text() == "slave"
            });
            let so_far = asked.load(Ordering::SeqCst);
            wait_until("the clients go on", || asked.load(Ordering::SeqCst) > so_far + 1000);
        }));
        ends.store(true, Ordering::SeqCst);
        ended.expect("the failover");
    });
    let (asked, refused, lost) = (asked.into_inner(), refused.into_inner(), lost.into_inner());
    println!("failover: {asked} commands, {refused} refused, {lost} wrong");
    assert_eq!(lost, 0);
    assert!(refused > 0, "the kill was not felt: nothing was shown");
}

#[test]
fn a_cluster_that_is_not_there_at_start_is_waited_for() {
    let mut cluster = RedisCluster::start(0);
    let ports: Vec<u16> = (0..3).map(|node| cluster.port(node)).collect();
    ports.iter().for_each(|&port| cluster.kill9(port));
    let url = cluster.url();
    let weir = Weir::start_unready(&format!("[upstream]\nurl = \"{url}\"\n"));
    let mut client = weir.client();
    assert_eq!(weir.admin_get("/readyz").0, 503);
    let reply = client.run("GET k");
    assert!(reply.is_error("UPSTREAM "), "{reply:?}");
    assert!(client.run("FLUSHALL").is_error("UPSTREAM "));
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    ports.iter().for_each(|&port| cluster.start_again(port));
    wait_until("the cluster is found", || client.run("GET k") == Reply::Nil);
    wait_until("weir is ready", || weir.admin_get("/readyz").0 == 200);
    // All nodes at once, with clients there.
    ports.iter().for_each(|&port| cluster.kill9(port));
    wait_until("clients are told", || client.run("GET k").is_error("UPSTREAM "));
    ports.iter().for_each(|&port| cluster.start_again(port));
    wait_until("the cluster is found again", || client.run("SET k v") == Reply::ok());
    assert_eq!(client.run("GET k"), Reply::bulk("v"));
}

#[test]
fn transactions_go_to_the_node_of_their_keys() {
    let cluster = RedisCluster::start(0);
    let weir = on(&cluster, "20s");
    let mut client = weir.client();
    for n in 0..30 {
        let all = ["MULTI", "PING", &format!("SET t{n} {n}"), "ECHO x", &format!("INCR t{n}"), "EXEC"];
        let replies = client.pipeline(&all.map(words));
        let queued = Reply::Simple("QUEUED".into());
        assert_eq!(replies[..5], [Reply::ok(), queued.clone(), queued.clone(), queued.clone(), queued]);
        let expected = [Reply::Simple("PONG".into()), Reply::ok(), Reply::bulk("x"), Reply::Int(n + 1)];
        assert_eq!(replies[5].items(), expected, "{n}");
        assert_eq!(client.run(&format!("GET t{n}")), Reply::bulk((n + 1).to_string()));
    }
    let empty =
        client.pipeline(&["MULTI", "EXEC", "MULTI", "ECHO a", "DISCARD", "EXEC", "MULTI", "TIME", "EXEC"].map(words));
    assert_eq!(empty[..3], [Reply::ok(), Reply::Array(vec![]), Reply::ok()]);
    assert_eq!(empty[4], Reply::ok());
    assert!(empty[5].is_error("ERR EXEC without MULTI"));
    assert_eq!(empty[8].items()[0].items().len(), 2);
    let nested = client.pipeline(&["MULTI", "MULTI", "SET t0 x", "EXEC"].map(words));
    assert!(nested[1].is_error("ERR MULTI calls can not be nested"));
    assert_eq!(nested[3].items(), [Reply::ok()]);
    let wrong = client.pipeline(&["MULTI", "GET", "SET t0 y", "EXEC", "GET t0"].map(words));
    assert!(wrong[1].is_error("ERR wrong number of arguments") && wrong[3].is_error("EXECABORT"), "{wrong:?}");
    assert_eq!(wrong[4], Reply::bulk("x"));
    // A second slot, and what would speak of one node only.
    let crossed = client.pipeline(&["MULTI", "SET t1 a", "SET t2 b", "EXEC", "GET t1"].map(words));
    assert!(crossed[2].is_error("CROSSSLOT") && crossed[3].is_error("EXECABORT"), "{crossed:?}");
    assert_eq!(crossed[4], Reply::bulk("2"));
    let wide = client.pipeline(&["MULTI", "SET t1 a", "DBSIZE", "EXEC"].map(words));
    assert!(wide[2].is_error("ERR 'DBSIZE' is not served by Weir") && wide[3].is_error("EXECABORT"), "{wide:?}");
}

#[test]
fn a_watched_key_does_not_keep_its_client_from_other_nodes() {
    let cluster = RedisCluster::start(0);
    let (weir, _database) = routed(&cluster, "20s");
    let (mut client, mut other) = (weir.client(), weir.client());
    client.run("MSET w1 1 w2 2 w3 3");
    for (disturbed, expected) in [(false, Reply::Array(vec![Reply::ok()])), (true, Reply::Nil)] {
        assert_eq!(client.run("WATCH w1"), Reply::ok());
        let reads = client.pipeline(&["GET w1", "GET w2", "GET w3", "MGET w1 w2 w3", "SET w4 4", "DBSIZE"].map(words));
        assert_eq!(reads[..3], [Reply::bulk("1"), Reply::bulk("2"), Reply::bulk("3")]);
        assert_eq!(reads[3].items(), [Reply::bulk("1"), Reply::bulk("2"), Reply::bulk("3")]);
        assert_eq!(reads[4], Reply::ok());
        assert!(client.run("WATCH w2").is_error("CROSSSLOT") || client.run("CLUSTER KEYSLOT w1").int() >= 0);
        if disturbed {
            assert_eq!(other.run("SET w1 1"), Reply::ok());
        }
        let done = client.pipeline(&["MULTI", "SET w1 1", "EXEC"].map(words));
        assert_eq!(done[2], expected);
    }
    // Routed keys of other nodes, read and written by a client that subscribes.
    client.run("HELLO 3");
    assert!(matches!(client.run("SUBSCRIBE news"), Reply::Push(_)));
    for id in 1..=30 {
        assert_eq!(client.run(&format!("GET price:{id}")), Reply::bulk((100 + id).to_string()));
        assert_eq!(client.run(&format!("INCR price:{id}")), Reply::Int(101 + id));
    }
    assert_eq!(other.run("PUBLISH news hello").int().min(1), other.run("PUBLISH news again").int().min(1));
    let push = client.recv();
    assert!(matches!(&push, Reply::Push(items) if items[2] == Reply::bulk("hello")), "{push:?}");
}

#[test]
fn messages_and_waits_reach_clients_on_every_node() {
    let cluster = RedisCluster::start(0);
    let weir = on(&cluster, "20s");
    let mut publisher = weir.client();
    let mut subscribers: Vec<Client> = (0..6)
        .map(|_| {
            let mut client = weir.client();
            assert_eq!(client.run("SUBSCRIBE news").items()[0], Reply::bulk("subscribe"));
            client
        })
        .collect();
    publisher.run("PUBLISH news hello");
    for client in &mut subscribers {
        assert_eq!(client.recv().items()[2], Reply::bulk("hello"));
    }
    for n in 0..12 {
        let mut sharded = weir.client();
        assert_eq!(sharded.run(&format!("SSUBSCRIBE shard{n}")).items()[2], Reply::Int(1));
        assert_eq!(publisher.run(&format!("SPUBLISH shard{n} hi")), Reply::Int(1));
        assert_eq!(sharded.recv().items()[2], Reply::bulk("hi"));
    }
    for n in 0..12 {
        let mut waiting = weir.client();
        waiting.run_later(&format!("BLPOP list{n} {{list{n}}}b 0"));
        wait_until("it waits", || {
            (0..3).any(|node| cluster.client(node).run("INFO clients").text().contains("blocked_clients:1"))
        });
        assert_eq!(publisher.run(&format!("RPUSH list{n} x")), Reply::Int(1));
        assert_eq!(waiting.recv().items(), [Reply::bulk(format!("list{n}")), Reply::bulk("x")]);
        assert_eq!(waiting.run(&format!("SET other{n} 1")), Reply::ok());
    }
    assert!(publisher.run("BLPOP a b 1").is_error("CROSSSLOT"));
    assert!(publisher.run("WAIT 0 10").is_error("ERR 'WAIT' is not served by Weir"));
    assert!(publisher.run("CLIENT TRACKING ON").is_error("ERR 'CLIENT TRACKING' is not served by Weir"));
}

#[test]
fn a_transaction_whose_slot_moves_is_told_in_weir_s_words_and_may_begin_again() {
    let cluster = RedisCluster::start(0);
    let weir = on(&cluster, "20s");
    let mut client = weir.client();
    let masters = cluster.masters();
    let slot = client.run("CLUSTER KEYSLOT t").int() as u16;
    let from = masters.iter().find(|master| master.slots.contains(&slot)).expect("an owner");
    let to = masters.iter().find(|master| master.id != from.id).expect("another");
    assert_eq!(client.run("SET t 1"), Reply::ok());
    assert_eq!(client.run("WATCH t"), Reply::ok());
    cluster.move_slot(slot, from, to);
    let replies = client.pipeline(&["MULTI", "INCR t", "EXEC"].map(words));
    assert!(
        replies.iter().all(|reply| !matches!(reply, Reply::Error(text) if text.starts_with("MOVED")))
            && !matches!(replies[2], Reply::Array(_)),
        "{replies:?}"
    );
    wait_until("it succeeds", || {
        let replies = client.pipeline(&["WATCH t", "MULTI", "INCR t", "EXEC"].map(words));
        replies[3] == Reply::Array(vec![Reply::Int(2)])
    });
    assert_eq!(client.run("GET t"), Reply::bulk("2"));
}

/// G1: what is about all keys meets every master, also one that joined, or took over, while nobody was sent to it.
#[test]
fn nobody_is_left_out_of_what_is_about_all_keys() {
    let mut cluster = RedisCluster::start(1);
    let weir = on(&cluster, "20s");
    let mut client = weir.client();
    for n in 0..50 {
        client.run(&format!("SET {{a}}{n} {n}"));
    }
    let fresh = cluster.add_master();
    let slot = cluster.client(0).run("CLUSTER KEYSLOT {a}").int() as u16;
    let from = cluster.masters().into_iter().find(|master| master.slots.contains(&slot)).expect("an owner");
    cluster.move_slot(slot, &from, &fresh);
    assert_eq!(client.run("DBSIZE"), Reply::Int(50));
    assert_eq!(client.run("KEYS *").items().len(), 50);
    let script = client.run("SCRIPT LOAD return(1)").text();
    assert_eq!(Client::connect(fresh.port).run(&format!("SCRIPT EXISTS {script}")), Reply::Array(vec![Reply::Int(1)]));
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    assert_eq!(Client::connect(fresh.port).run("DBSIZE"), Reply::Int(0));

    cluster.settle();
    for n in 0..50 {
        client.run(&format!("SET {n} {n}"));
    }
    let replica =
        (3..6).find(|&node| cluster.client(node).run("ROLE").items()[0].text() == "slave").expect("a replica");
    assert_eq!(cluster.client(replica).run("CLUSTER FAILOVER"), Reply::ok());
    wait_until("it has taken over", || cluster.client(replica).run("ROLE").items()[0].text() == "master");
    // Else the old master and the new one both answer for its keys for a moment.
    cluster.settle();
    assert_eq!(client.run("DBSIZE"), Reply::Int(50));
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    assert_eq!(cluster.client(replica).run("DBSIZE"), Reply::Int(0));
    assert_eq!(client.run("DBSIZE"), Reply::Int(0));
}

/// Whoever waits at a node that is no master any more would wait for ever: it is told by its end.
#[test]
fn a_client_of_whom_a_demoted_master_remembers_something_is_ended() {
    let cluster = RedisCluster::start(1);
    let weir = on(&cluster, "20s");
    let (mut watching, mut other) = (weir.client(), weir.client());
    assert_eq!(watching.run("WATCH {a}"), Reply::ok());
    let slot = cluster.client(0).run("CLUSTER KEYSLOT {a}").int() as u16;
    let owner = cluster.masters().into_iter().find(|master| master.slots.contains(&slot)).expect("an owner");
    let follows = |node: &usize| {
        let role = cluster.client(*node).run("ROLE");
        role.items()[0].text() == "slave" && role.items()[2].int() == i64::from(owner.port)
    };
    let replica = wait_for("the owner has a replica", || (3..6).find(follows));
    wait_until("it may take over", || cluster.client(replica).run("CLUSTER FAILOVER") == Reply::ok());
    wait_until("it has taken over", || cluster.client(replica).run("ROLE").items()[0].text() == "master");
    // What meets the old master lets Weir look again.
    assert_eq!(other.run("SET {a} 1"), Reply::ok());
    wait_until("the client is ended", || watching.is_closed());
}
