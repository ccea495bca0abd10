//! What Redis has missed while it was out of reach is not served when it is back (G7, T37): a change that was told -UPSTREAM takes
//! place as soon as Redis can be reached, and until then its keys are read from the database.

mod harness;

use harness::*;

const ROUTES: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
tags = ["product-tag:{id}"]
load = "SELECT id, price FROM products WHERE id = :id /* product */"

[[route]]
name = "user"
key = "user:{id}"
value = "hash"
load = "SELECT id, visits FROM users WHERE id = :id /* user */"

[[route]]
name = "session"
key = "session:{id}"
ttl = "1h"
"#;

/// Weir reaches a Redis that others reach, through something that may cut it off.
struct CutOff {
    weir: Weir,
    proxy: FaultProxy,
    redis: Redis,
    database: Sqlite,
}

impl CutOff {
    fn start(more: &str) -> CutOff {
        let (redis, database) = (Redis::start(), Sqlite::shop());
        let proxy = FaultProxy::start(redis.port());
        let config = format!(
            "[upstream]\nurl = \"redis://127.0.0.1:{}/0\"\ntimeout = \"2s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n{ROUTES}{more}",
            proxy.port(),
            database.url()
        );
        CutOff { weir: Weir::start(&config), proxy, redis, database }
    }

    fn cut(&self) {
        self.proxy.set(Fault::Refuse);
        self.proxy.cut();
        wait_until("Weir knows that Redis is out of reach", || self.weir.metric("weir_upstream_up", &[]) == 0.0);
    }

    /// Lets Weir reach Redis again, and reads all the while, until nothing is in doubt any more.
    fn mend(&self, mut read: impl FnMut(&mut Client)) {
        let mut client = self.weir.client();
        self.proxy.set(Fault::None);
        wait_until("what was missed is made up for", || {
            read(&mut client);
            // Each worker finds it in its own time.
            client.run("SET other 1") == Reply::ok() && self.missed() == 0.0
        });
        read(&mut client);
    }

    fn missed(&self) -> f64 {
        self.weir.metric("weir_missed_invalidations", &[])
    }

    fn raw(&self, words: &str) -> Reply {
        self.redis.client().run(words)
    }
}

fn product(id: u32, price: u32) -> Reply {
    Reply::bulk(format!(r#"{{"id":{id},"price":{price}}}"#))
}

#[test]
fn what_was_changed_meanwhile_is_not_served_as_it_was() {
    let stack = CutOff::start("");
    let mut client = stack.weir.client();
    for id in 1..=6 {
        assert_eq!(client.run(&format!("GET product:{id}")), product(id, 100 + id));
    }
    assert_eq!(client.run("HGET user:1 visits"), Reply::bulk("1"));
    assert_eq!(client.run("SET session:1 mine"), Reply::ok());
    let mut transaction = stack.weir.client();
    assert_eq!(transaction.run("MULTI"), Reply::ok());
    assert_eq!(transaction.run("DEL product:5"), Reply::Simple("QUEUED".into()));

    stack.cut();
    stack.database.sql("UPDATE products SET price = 7; UPDATE users SET visits = 70");
    for words in [
        "DEL product:1",
        "SET product:2 x",
        "EVAL return(redis.call('DEL',KEYS[1])) 1 product:3",
        "WEIR INVALIDATE product-tag:4",
        "HSET user:1 visits 9",
        "SET session:1 other",
    ] {
        let reply = client.run(words);
        assert!(reply.is_error("UPSTREAM "), "{words}: {reply:?}");
    }
    // The transaction's connection has gone with its link, or is told so: either way nobody knows what became of it.
    let reply = transaction.try_cmd(&["EXEC"]);
    assert!(reply.as_ref().map_or(true, |reply| reply.is_error("")), "{reply:?}");
    assert_eq!(stack.raw("GET product:1"), product(1, 101), "Redis has what it had");

    wait_until("all keys and tags are in doubt", || stack.missed() == 6.0);
    stack.mend(|client| {
        for id in 1..=5 {
            assert_eq!(client.run(&format!("GET product:{id}")), product(id, 7));
        }
        assert_eq!(client.run("HGET user:1 visits"), Reply::bulk("70"));
        assert_eq!(client.run("MGET product:1 product:2"), Reply::Array(vec![product(1, 7), product(2, 7)]));
    });
    assert_eq!(client.run("GET product:6"), product(6, 106), "nobody has said that it has changed");
    assert_eq!(client.run("GET session:1"), Reply::bulk("mine"), "of what cannot be loaded nothing is dropped");
    assert_eq!(stack.raw("GET product:1"), product(1, 7));
}

#[test]
fn what_has_timed_out_counts_as_missed() {
    let stack = CutOff::start("");
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET product:1"), product(1, 101));
    stack.redis.stop();
    stack.database.sql("UPDATE products SET price = 7");
    assert!(client.run("DEL product:1").is_error("UPSTREAM "));
    assert_eq!(stack.missed(), 1.0);
    assert_eq!(client.run("GET product:1"), product(1, 7));
    stack.redis.cont();
    stack.mend(|client| assert_eq!(client.run("GET product:1"), product(1, 7)));
}

/// What stands in a transaction is to be fenced before its EXEC is sent; where Redis does not answer, it never is.
#[test]
fn a_transaction_that_could_not_be_run_counts_as_missed() {
    let stack = CutOff::start("");
    let mut client = stack.weir.client();
    for id in 1..=5 {
        assert_eq!(client.run(&format!("GET product:{id}")), product(id, 100 + id));
    }
    let begin = |words: &[&str]| {
        let mut client = stack.weir.client();
        words.iter().for_each(|words| assert!(!matches!(client.run(words), Reply::Error(_)), "{words}"));
        client
    };
    let mut late = begin(&["MULTI"]);
    let mut transactions = [
        begin(&["MULTI", "DEL product:1"]),
        begin(&["WATCH product:2", "MULTI", "DEL product:2"]),
        begin(&["MULTI", "SELECT 1", "DEL product:3"]),
    ];
    stack.redis.stop();
    stack.database.sql("UPDATE products SET price = 7");
    late.run_later("DEL product:5");
    transactions.iter_mut().for_each(|client| client.run_later("EXEC"));
    for client in transactions.iter_mut().chain([&mut late]) {
        let reply = client.recv();
        assert!(reply.is_error("UPSTREAM "), "{reply:?}");
    }
    assert_eq!(stack.missed(), 5.0, "one of them in the database of its client, or in that which it selects");
    for id in [1, 2, 3, 5] {
        assert_eq!(client.run(&format!("GET product:{id}")), product(id, 7));
    }
    stack.redis.cont();
    stack.mend(|client| {
        for id in [1, 2, 3, 5] {
            assert_eq!(client.run(&format!("GET product:{id}")), product(id, 7));
        }
    });
    for client in &mut transactions {
        assert_eq!(client.run("GET product:1"), product(1, 7), "the transaction is over, and its connection serves on");
    }
    assert_eq!(client.run("GET product:4"), product(4, 104), "nobody has said that it has changed");
}

/// Redis would not run it either.
#[test]
fn a_transaction_that_lacks_a_command_is_not_run() {
    let stack = CutOff::start("");
    let mut client = stack.weir.client();
    assert_eq!(client.run("MULTI"), Reply::ok());
    assert_eq!(client.run("SET a 1"), Reply::Simple("QUEUED".into()));
    stack.redis.stop();
    // It may be hung up on, for what the server remembers of it.
    let told = |client: &mut Client, words: &[&str], error: &str| {
        let reply = client.try_cmd(words);
        assert!(reply.as_ref().map_or(true, |reply| reply.is_error(error)), "{reply:?}");
    };
    told(&mut client, &["SET", "b", "1"], "UPSTREAM ");
    told(&mut client, &["SET", "c", "1"], "UPSTREAM ");
    stack.redis.cont();
    told(&mut client, &["EXEC"], "EXECABORT ");
    stack.mend(|client| assert!(matches!(client.run("EXISTS a b c"), Reply::Int(0) | Reply::Error(_))));
    assert_eq!(stack.raw("EXISTS a b c"), Reply::Int(0));
}

/// A client that sends all of a transaction at once, and is hung up on because MULTI failed, hears nothing of the rest.
#[test]
fn a_transaction_that_could_not_be_begun_counts_as_missed() {
    for hangs in [true, false] {
        let stack = CutOff::start("");
        let mut client = stack.weir.client();
        let mut transaction = stack.weir.client();
        for client in [&mut client, &mut transaction] {
            // A client that has had no answer yet is not heard on before it has the first.
            assert_eq!(client.run("GET product:1"), product(1, 101));
        }
        if hangs {
            stack.redis.stop()
        } else {
            stack.cut()
        }
        stack.database.sql("UPDATE products SET price = 7");
        transaction.send(b"MULTI\r\nDEL product:1\r\nEXEC\r\n");
        let reply = transaction.recv();
        assert!(reply.is_error("UPSTREAM "), "{reply:?}");
        wait_until("what was in it is remembered", || stack.missed() == 1.0);
        assert_eq!(client.run("GET product:1"), product(1, 7));
        stack.redis.cont();
        stack.mend(|client| assert_eq!(client.run("GET product:1"), product(1, 7)));
    }
}

#[test]
fn more_than_max_missed_invalidations_drop_their_route() {
    let stack = CutOff::start("[limits]\nmax_missed_invalidations = 3\n");
    let mut client = stack.weir.client();
    for id in 1..=10 {
        client.run(&format!("GET product:{id}"));
    }
    client.run("HGETALL user:1");
    stack.cut();
    stack.database.sql("UPDATE products SET price = 7; UPDATE users SET visits = 70");
    for id in 1..=5 {
        assert!(client.run(&format!("DEL product:{id}")).is_error("UPSTREAM "));
    }
    assert_eq!(stack.weir.metric("weir_missed_invalidations_overflows_total", &[]), 1.0);
    assert!(stack.missed() <= 4.0, "{} are remembered", stack.missed());
    stack.mend(|client| {
        for id in [1, 5, 6, 10] {
            assert_eq!(client.run(&format!("GET product:{id}")), product(id, 7));
        }
    });
    assert_eq!(client.run("HGET user:1 visits"), Reply::bulk("1"), "another route is not concerned");
    assert_eq!(stack.raw("EXISTS product:9"), Reply::Int(0));
}

#[test]
fn a_flush_that_was_missed_drops_all_that_can_be_loaded() {
    let stack = CutOff::start("");
    let mut client = stack.weir.client();
    client.run("GET product:1");
    client.run("HGETALL user:1");
    client.run("SET session:1 mine");
    stack.cut();
    stack.database.sql("UPDATE products SET price = 7; UPDATE users SET visits = 70");
    assert!(client.run("FLUSHALL").is_error("UPSTREAM "));
    stack.mend(|client| {
        assert_eq!(client.run("GET product:1"), product(1, 7));
        assert_eq!(client.run("HGET user:1 visits"), Reply::bulk("70"));
    });
    assert_eq!(client.run("GET session:1"), Reply::bulk("mine"));
}

/// What says that a tag is invalidated takes a little memory, and must go into a Redis that has none to give.
#[test]
fn a_full_redis_invalidates_tags() {
    let stack = CutOff::start("");
    let (mut client, mut raw) = (stack.weir.client(), stack.redis.client());
    for round in 0..3 {
        assert_eq!(client.run("GET product:1"), product(1, 101 + round));
        assert_eq!(raw.run("CONFIG SET maxmemory 1"), Reply::ok());
        assert!(raw.run("SET k v").is_error("OOM "));
        stack.database.sql("UPDATE products SET price = price + 1");
        assert_eq!(client.run("WEIR INVALIDATE product-tag:1"), Reply::Int(1));
        assert_eq!(client.run("GET product:1"), product(1, 102 + round));
        assert_eq!(raw.run("CONFIG SET maxmemory 0"), Reply::ok());
        assert_eq!(client.run("GET product:1"), product(1, 102 + round));
    }
    assert_eq!(stack.missed(), 0.0);
}

/// It can be read all the while, and what it holds is not what was.
#[test]
fn what_redis_has_refused_for_now_counts_as_missed() {
    let stack = CutOff::start("");
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET product:1"), product(1, 101));
    assert_eq!(stack.raw("CONFIG SET min-replicas-to-write 1"), Reply::ok());
    stack.database.sql("UPDATE products SET price = 7");
    let reply = client.run("WEIR INVALIDATE product-tag:1");
    assert!(reply.is_error("UPSTREAM refused: NOREPLICAS"), "{reply:?}");
    assert_eq!(stack.missed(), 1.0);
    assert_eq!(client.run("GET product:1"), product(1, 7));
    assert_eq!(stack.raw("GET product:1"), product(1, 101), "Redis has what it had");
    assert_eq!(stack.raw("CONFIG SET min-replicas-to-write 0"), Reply::ok());
    stack.mend(|client| assert_eq!(client.run("GET product:1"), product(1, 7)));
    assert_eq!(stack.raw("GET product:1"), product(1, 7));
}

/// A value that is stored while its key is in doubt is not among what is dropped.
#[test]
fn what_is_stored_afterwards_stays() {
    let stack = CutOff::start("");
    let mut client = stack.weir.client();
    client.run("GET product:1");
    for round in 0..20 {
        stack.cut();
        assert!(client.run("DEL product:1").is_error("UPSTREAM "));
        stack.proxy.set(Fault::None);
        let value = format!("mine {round}");
        wait_until("Redis takes a value again", || client.cmd(&["SET", "product:1", &value]) == Reply::ok());
        assert_eq!(client.run("GET product:1"), Reply::bulk(&value));
        wait_until("what was missed is made up for", || stack.missed() == 0.0);
        assert_eq!(client.run("GET product:1"), Reply::bulk(&value));
    }
}

/// Where the operator allows it, a hot key is loaded once in a while and not by every read (G7).
#[test]
fn what_the_database_has_answered_is_kept_near_until_redis_is_heard_again() {
    let stack = CutOff::start(
        "[[route]]\nname = \"price\"\nkey = \"price:{id}\"\nnear = \"1h\"\ntags = [\"prices\"]\nvalue = \"text\"\n\
         load = \"SELECT price FROM products WHERE id = :id /* price */\"\n",
    );
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET price:1"), Reply::bulk("101"));
    stack.cut();
    wait_until("nothing is heard of changes", || stack.weir.metric("weir_near_open", &[]) == 0.0);
    stack.database.sql("UPDATE products SET price = 7");
    let unstored = || stack.weir.metric("weir_loads_total", &[("route", "price"), ("trigger", "unstored")]);
    for _ in 0..50 {
        assert_eq!(client.run("GET price:1"), Reply::bulk("7"), "what was read before has gone");
    }
    assert_eq!(unstored(), 1.0);
    // Who fails to change it through this Weir has changed it for all who ask this Weir.
    stack.database.sql("UPDATE products SET price = 8");
    assert!(client.run("DEL price:1").is_error("UPSTREAM "));
    assert_eq!(client.run("GET price:1"), Reply::bulk("8"));
    stack.database.sql("UPDATE products SET price = 9");
    assert!(client.run("WEIR INVALIDATE prices").is_error("UPSTREAM "));
    assert_eq!(client.run("GET price:1"), Reply::bulk("9"));
    stack.mend(|client| assert_eq!(client.run("GET price:1"), Reply::bulk("9")));
    wait_until("changes are heard of again", || stack.weir.metric("weir_near_open", &[]) == 1.0);
    stack.database.sql("UPDATE products SET price = 10");
    assert!(matches!(stack.redis.client().run("DEL price:1"), Reply::Int(_)));
    wait_until("it is the store's again", || client.run("GET price:1") == Reply::bulk("10"));
}
