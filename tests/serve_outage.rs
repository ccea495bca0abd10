//! While Redis is down, routed reads are answered from the database: by loads that begin after the reader has asked, and of which
//! nothing is kept (G1, G7). Everything else is told that there is no Redis.

mod harness;

use harness::*;

const ROUTES: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"

[[route]]
name = "user"
key = "user:{id}"
value = "hash"
load = "SELECT id, name, visits FROM users WHERE id = :id /* user */"

[[route]]
name = "counter"
key = "counter:{name}"
value = "text"
load = "SELECT amount FROM counters WHERE name = :name /* counter */"
"#;

fn wait_until_down(weir: &Weir) {
    wait_until("Weir knows that Redis is down", || weir.metric("weir_upstream_up", &[]) == 0.0);
}

/// Weir over a killed Redis.
fn stack(pair: Pair, routes: impl FnOnce(&Database) -> String) -> Stack {
    let mut stack = Stack::with(pair, routes);
    stack.redis.as_mut().expect("there is one").kill9();
    wait_until_down(&stack.weir);
    stack
}

fn reads_are_answered(pair: Pair) {
    let mut stack = stack(pair, |_| ROUTES.to_owned());
    let mut client = stack.weir.client();
    let product = Reply::bulk(r#"{"id":1,"name":"product 1","price":101}"#);
    let answers = [
        ("GET product:1", product.clone()),
        ("GET product:9999", Reply::Nil),
        ("GET product:abc", Reply::Nil),
        ("MGET product:1 product:9999 counter:a", Reply::Array(vec![product.clone(), Reply::Nil, Reply::bulk("10")])),
        ("EXISTS product:1 product:9999 product:2", Reply::Int(2)),
        ("STRLEN counter:b", Reply::Int(2)),
        ("GETRANGE counter:b 1 1", Reply::bulk("1")),
        ("TYPE user:1", Reply::Simple("hash".into())),
        ("HGET user:1 name", Reply::bulk("user 1")),
        ("HLEN user:1", Reply::Int(3)),
        ("HGETALL user:9999", Reply::Array(vec![])),
        ("HMGET user:2 name none", Reply::Array(vec![Reply::bulk("user 2"), Reply::Nil])),
    ];
    for (words, expected) in &answers {
        assert_eq!(client.run(words), *expected, "{words}");
    }
    assert!(client.run("GET user:1").is_error("WRONGTYPE "));
    let refused = "GET other|MGET product:1 other|TTL product:1|GETEX product:1 EX 5|OBJECT ENCODING product:1|LRANGE product:1 0 -1|\
        SET product:1 x|DEL product:1|INCR counter:a|HSET user:1 name x|EXPIRE product:1 5|MULTI";
    for words in refused.split('|') {
        let reply = stack.weir.client().run(words);
        assert!(reply.is_error("UPSTREAM "), "{words}: {reply:?}");
    }
    // In one pipeline, with what fails among what does not, in order.
    let replies = client.pipeline(&[vec!["GET", "product:1"], vec!["GET", "other"], vec!["GET", "counter:a"]]);
    assert!(
        replies[0] == product && replies[1].is_error("UPSTREAM ") && replies[2] == Reply::bulk("10"),
        "{replies:?}"
    );
    let metrics = stack.weir.metrics();
    assert_eq!(metrics.sum("weir_loads_total", &[("trigger", "miss")]), 0.0);
    let labels = [("trigger", "unstored"), ("route", "product"), ("result", "empty")];
    assert_eq!(metrics.sum("weir_loads_total", &labels), 3.0);
    assert!(metrics.sum("weir_lookups_total", &[("outcome", "unstored"), ("route", "user")]) > 0.0);

    // Nothing of it was kept, and what was committed meanwhile is what is read.
    stack.database.sql("UPDATE products SET price = 5 WHERE id = 1");
    stack.redis.as_mut().expect("there is one").start_again();
    wait_until("Redis is found again", || {
        client.run("SET other 1") == Reply::ok()
            && stack.weir.metric("weir_upstream_trusted", &[]) == 1.0
            && stack.weir.metric("weir_missed_invalidations", &[]) == 0.0
    });
    assert_eq!(stack.raw("KEYS *product*"), Some(Reply::Array(vec![])));
    assert_eq!(client.run("GET product:1"), Reply::bulk(r#"{"id":1,"name":"product 1","price":5}"#));
    assert_eq!(stack.weir.metric("weir_loads_total", &[("trigger", "miss"), ("route", "product")]), 1.0);
}

#[test]
fn reads_are_answered_over_sqlite() {
    reads_are_answered(Pair::RedisSqlite);
}

#[test]
fn reads_are_answered_over_postgres() {
    reads_are_answered(Pair::RedisPostgres);
}

fn held(database: &Database) -> String {
    format!(
        "[[route]]\nname = \"price\"\nkey = \"price:{{id}}\"\nvalue = \"text\"\n\
         load = \"SELECT price FROM products WHERE id = :id AND {} > 0 /* price */\"\n",
        database.held_column(300)
    )
}

#[test]
fn those_who_come_while_a_load_runs_share_the_next_one() {
    let stack = stack(Pair::RedisPostgres, held);
    let gate = stack.database.shut_gate();
    let mut first = stack.weir.client();
    first.run_later("GET price:1");
    stack.wait_until_loading(1);
    let mut others: Vec<Client> = (0..50).map(|_| stack.weir.client()).collect();
    others.iter_mut().for_each(|client| client.run_later("GET price:1"));
    wait_until("all have joined", || stack.weir.metric("weir_coalesced_total", &[("route", "price")]) >= 50.0);
    // Whoever began the load may go.
    first.abort();
    drop(gate);
    others.iter_mut().for_each(|client| assert_eq!(client.recv(), Reply::bulk("101")));
    stack.assert_loads("price", 2);
}

#[test]
fn a_failed_load_is_told_to_all_who_wait() {
    let stack = stack(Pair::RedisPostgres, |database| {
        format!(
            "[[route]]\nname = \"price\"\nkey = \"price:{{id}}\"\nvalue = \"text\"\n\
             load = \"SELECT 1 / (price - 101 + ({} - 1)) FROM products WHERE id = :id /* price */\"\n",
            database.held_column(300)
        )
    });
    let gate = stack.database.shut_gate();
    let mut clients: Vec<Client> = (0..5).map(|_| stack.weir.client()).collect();
    clients.iter_mut().for_each(|client| client.run_later("GET price:1"));
    wait_until("all have joined", || stack.weir.metric("weir_coalesced_total", &[("route", "price")]) >= 4.0);
    drop(gate);
    clients.iter_mut().for_each(|client| assert!(client.recv().is_error("LOAD route 'price'")));
    assert_eq!(stack.weir.metric("weir_loads_total", &[("trigger", "unstored"), ("result", "error")]), 1.0);
}

/// G1: one Weir has lost Redis, another has not. What the other acknowledges binds the first.
#[test]
fn a_reader_never_shares_a_load_that_began_before_it() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(&shop_sql());
    let proxy = FaultProxy::start(redis.port());
    let database = Database::Postgres(postgres);
    let config = |port: u16| {
        let upstream = format!("[upstream]\nurl = \"redis://127.0.0.1:{port}/0\"\ntimeout = \"20s\"\n");
        format!("{upstream}[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n{}", database.url(), held(&database))
    };
    let (cut_off, well) = (Weir::start(&config(proxy.port())), Weir::start(&config(redis.port())));
    proxy.set(Fault::Refuse);
    proxy.cut();
    wait_until_down(&cut_off);
    let gate = database.shut_gate();
    let (mut early, mut late) = (cut_off.client(), cut_off.client());
    early.run_later("GET price:1");
    let Database::Postgres(postgres) = &database else { unreachable!("it is one") };
    wait_until("the load has its snapshot", || postgres.in_gate() == 1);
    database.sql("UPDATE products SET price = 7 WHERE id = 1");
    assert_eq!(well.client().run("DEL price:1"), Reply::Int(0));
    late.run_later("GET price:1");
    wait_until("the late one waits", || cut_off.metric("weir_coalesced_total", &[("route", "price")]) >= 1.0);
    drop(gate);
    assert_eq!([early.recv(), late.recv()], [Reply::bulk("101"), Reply::bulk("7")]);
}

/// A Redis that hangs is waited for once, and then known to hang.
#[test]
fn a_stopped_redis_is_waited_for_by_those_in_flight_alone() {
    let (redis, shop) = (Redis::start(), Sqlite::shop());
    let upstream = format!("[upstream]\nurl = \"{}\"\ntimeout = \"250ms\"\n", redis.url());
    let weir = Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = 1\n{upstream}[database.main]\nurl = \"{}\"\n{ROUTES}",
        shop.url()
    ));
    let mut client = weir.client();
    assert_eq!(client.run("GET counter:a"), Reply::bulk("10"));
    let unstored = || weir.metric("weir_lookups_total", &[("outcome", "unstored")]);
    let before = unstored();
    redis.stop();
    // The first waits for the timeout; those behind it are told, or answered, without another.
    for _ in 0..200 {
        assert_eq!(client.run("GET counter:a"), Reply::bulk("10"));
    }
    assert!(client.run("SET k v").is_error("UPSTREAM "));
    assert_eq!(unstored() - before, 200.0, "every read was answered by the database");
    redis.cont();
    wait_until("Redis answers again", || client.run("SET k v") == Reply::ok());
}

/// One of its workers has a client, which is told; the others ask for themselves.
#[test]
fn a_redis_that_hangs_is_known_to_though_next_to_nobody_asks() {
    let (redis, shop) = (Redis::start(), Sqlite::shop());
    let weir = Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = 3\n\
         [upstream]\nurl = \"{}\"\ntimeout = \"250ms\"\n[database.main]\nurl = \"{}\"\n{ROUTES}",
        redis.url(),
        shop.url()
    ));
    let mut client = weir.client();
    assert_eq!(client.run("SET k v"), Reply::ok());
    redis.stop();
    assert!(client.run("GET k").is_error("UPSTREAM "));
    wait_until_down(&weir);
    assert_eq!(weir.admin_get("/readyz").0, 503);
    redis.cont();
    wait_until("Redis answers again", || client.run("GET k") == Reply::bulk("v"));
}
