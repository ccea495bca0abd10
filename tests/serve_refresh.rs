//! WEIR REFRESH loads a key now, and its answer is a promise: whoever has it reads what was loaded after the command.

mod harness;

use harness::*;

over_all_pairs!(
    a_key_is_loaded_now_whatever_stands_there,
    if_its_load_fails_the_old_value_stays,
    what_cannot_be_refreshed_says_why,
);

fn routes(database: &Database) -> String {
    format!(
        r#"
ttl = "1h"
negative_ttl = "1h"
[[route]]
name = "user"
key = "user:{{id}}"
load = "SELECT id, name FROM users WHERE id = :id /* user */"
[[route]]
name = "hash"
key = "hash:{{id}}"
value = "hash"
load = "SELECT id, name, email FROM users WHERE id = :id"
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, {} AS held FROM users WHERE id = :id /* slow */"
[[route]]
name = "failing"
key = "failing:{{id}}"
load = "SELECT {} AS detail FROM products WHERE id = :id"
[[route]]
name = "small"
key = "small:{{id}}"
value = "text"
max_value = "16B"
load = "SELECT detail FROM products WHERE id = :id"
[[route]]
name = "report"
key = "report:{{id}}"
"#,
        database.held_column(0),
        database.failing_column()
    )
}

fn refreshes(weir: &Weir, route: &str) -> f64 {
    weir.metric("weir_loads_total", &[("route", route), ("trigger", "refresh")])
}

fn a_key_is_loaded_now_whatever_stands_there(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert!(client.run("GET user:1").text().contains("user 1"));
    assert_eq!(client.run("HGET hash:1 email"), Reply::bulk("u@example.org"));
    assert_eq!(client.run("GET user:900"), Reply::Nil);
    assert_eq!(client.run("EXPIRE user:1 100"), Reply::Int(1));
    stack.database.sql("UPDATE users SET name = 'new', email = NULL");
    stack.database.sql("INSERT INTO users VALUES (900, 'late', NULL, 1)");

    for key in ["user:1", "hash:1", "user:2", "user:900"] {
        assert_eq!(client.run(&format!("WEIR REFRESH {key}")), Reply::Int(1), "{key}");
    }
    let misses = || stack.weir.metric("weir_lookups_total", &[("outcome", "miss")]);
    let before = misses();
    assert!(client.run("GET user:1").text().contains("new"));
    assert!(matches!(client.run("TTL user:1"), Reply::Int(3000..=3600)), "it lives anew");
    assert!(client.run("GET user:2").text().contains("new"), "it was absent");
    assert!(client.run("GET user:900").text().contains("late"), "its absence was remembered");
    assert_eq!(client.run("HGET hash:1 name"), Reply::bulk("new"));
    assert_eq!(client.run("HGET hash:1 email"), Reply::Nil, "nothing of the old hash is left");
    assert_eq!(misses(), before);

    // What a client has stored, and a row that is gone.
    assert_eq!(client.run("SET user:3 mine"), Reply::ok());
    stack.database.sql("DELETE FROM users WHERE id = 1");
    client.run_later("WEIR REFRESH user:3");
    client.run_later("GET user:3");
    client.run_later("WEIR REFRESH user:1");
    client.run_later("GET user:1");
    let replies: Vec<Reply> = (0..4).map(|_| client.recv()).collect();
    assert!(replies[1].text().contains("new"), "{replies:?}");
    assert_eq!([&replies[0], &replies[2], &replies[3]], [&Reply::Int(1), &Reply::Int(0), &Reply::Nil]);
    assert_eq!(misses(), before, "its absence is remembered");
    assert_eq!(client.run("WEIR REFRESH user:x"), Reply::Int(0), "no row has such a key");
    assert_eq!(refreshes(&stack.weir, "user"), 5.0);
}

fn if_its_load_fails_the_old_value_stays(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    assert_eq!(client.run("GET failing:1").json()["detail"], "{}");
    stack.database.sql("UPDATE products SET detail = 'no json' WHERE id = 1");
    for _ in 0..2 {
        let reply = client.run("WEIR REFRESH failing:1");
        assert!(reply.is_error("LOAD route 'failing': the database refused the statement"), "{reply:?}");
    }
    assert_eq!(client.run("GET failing:1").json()["detail"], "{}");
}

fn what_cannot_be_refreshed_says_why(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    for key in ["report:1", "nobodys"] {
        let reply = client.run(&format!("WEIR REFRESH {key}"));
        assert!(reply.is_error("ERR no route with a `load` matches the key"), "{reply:?}");
    }
    for words in ["WEIR REFRESH", "WEIR REFRESH a b"] {
        assert!(client.run(words).is_error("ERR wrong number of arguments for 'weir|refresh' command"), "{words}");
    }
    assert_eq!(client.run("WEIR REFRESH small:1"), Reply::Int(1));
    stack.database.sql("UPDATE products SET detail = 'of more than sixteen bytes' WHERE id = 1");
    let reply = client.run("WEIR REFRESH small:1");
    assert!(reply.is_error("LOAD route 'small': the row was loaded and could not be stored"), "{reply:?}");
    assert_eq!(client.run("GET small:1"), Reply::bulk("of more than sixteen bytes"), "the old one is gone");
    assert!(client.run("WEIR HELP").items().iter().any(|line| line.text().starts_with("REFRESH <key>")));
}

#[test]
fn a_load_that_a_refresh_overtook_is_not_stored() {
    for pair in [Pair::EmbeddedPostgres, Pair::RedisPostgres] {
        let stack = Stack::with(pair, routes);
        let gate = stack.database.shut_gate();
        let mut reader = stack.weir.client();
        reader.run_later("GET slow:1");
        stack.wait_until_loading(1);
        stack.database.sql("UPDATE users SET name = 'new' WHERE id = 1");
        let mut operator = stack.weir.client();
        operator.run_later("WEIR REFRESH slow:1");
        stack.wait_until_loading(2);
        drop(gate);
        assert_eq!(operator.recv(), Reply::Int(1));
        assert!(operator.run("GET slow:1").text().contains("new"));
        assert!(reader.recv().text().contains("user 1"), "who began before may have the old row");
        wait_until("the old load's fill was refused", || {
            stack.weir.metric("weir_fills_refused_total", &[("route", "slow"), ("reason", "invalidated")]) == 1.0
        });
        assert!(operator.run("GET slow:1").text().contains("new"));
    }
}

#[test]
fn the_old_value_is_served_until_the_new_one_is_there() {
    for pair in [Pair::EmbeddedPostgres, Pair::RedisPostgres] {
        let stack = Stack::with(pair, routes);
        let (mut client, mut operator) = (stack.weir.client(), stack.weir.client());
        client.run("GET slow:1");
        let gate = stack.database.shut_gate();
        stack.database.sql("UPDATE users SET name = 'new' WHERE id = 1");
        operator.run_later("WEIR REFRESH slow:1");
        stack.wait_until_loading(1);
        assert!(client.run("GET slow:1").text().contains("user 1"));
        // A change meanwhile drops the lease: what comes of it is loaded once more.
        assert_eq!(client.run("DEL slow:1"), Reply::Int(1));
        stack.database.sql("UPDATE users SET name = 'newer' WHERE id = 1");
        drop(gate);
        assert_eq!(operator.recv(), Reply::Int(1));
        assert!(client.run("GET slow:1").text().contains("newer"));
    }
}

#[test]
fn many_who_refresh_one_key_share_the_load_that_begins_after_them() {
    for pair in [Pair::EmbeddedPostgres, Pair::RedisPostgres] {
        let stack = Stack::with(pair, routes);
        let gate = stack.database.shut_gate();
        let mut operators: Vec<Client> = (0..30).map(|_| stack.weir.client()).collect();
        operators[0].run_later("WEIR REFRESH slow:1");
        stack.wait_until_loading(1);
        stack.database.sql("UPDATE users SET name = 'new' WHERE id = 1");
        operators[1..].iter_mut().for_each(|operator| operator.run_later("WEIR REFRESH slow:1"));
        wait_until("they wait", || stack.weir.metric("weir_coalesced_total", &[("route", "slow")]) == 29.0);
        drop(gate);
        for operator in &mut operators {
            assert_eq!(operator.recv(), Reply::Int(1));
        }
        assert!(operators[0].run("GET slow:1").text().contains("new"));
        assert_eq!(refreshes(&stack.weir, "slow"), 2.0);
    }
}

/// The lease is seized from whichever proxy holds it, and whoever waits for that one's load is answered by the new one.
#[test]
fn a_refresh_through_one_proxy_fences_the_load_of_another() {
    let stack = Stack::with(Pair::RedisPostgres, routes);
    let config = std::fs::read_to_string(stack.weir.config()).expect("its own file");
    let sections = config.split_once("[upstream]").expect("it has an upstream").1;
    let other = Weir::start(&format!("[upstream]{sections}"));
    let gate = stack.database.shut_gate();
    let (mut leader, mut waiter) = (stack.weir.client(), other.client());
    leader.run_later("GET slow:1");
    stack.wait_until_loading(1);
    waiter.run_later("GET slow:1");
    wait_until("it waits for the other's load", || other.metric("weir_coalesced_total", &[("scope", "fleet")]) == 1.0);
    stack.database.sql("UPDATE users SET name = 'new' WHERE id = 1");
    let mut operator = other.client();
    operator.run_later("WEIR REFRESH slow:1");
    stack.wait_until_loading(2);
    drop(gate);
    assert_eq!(operator.recv(), Reply::Int(1));
    assert!(operator.run("GET slow:1").text().contains("new"));
    assert!(waiter.recv().text().contains("new"));
    assert!(leader.recv().text().contains("user 1"));
    wait_until("the old load's fill was refused", || {
        stack.weir.metric("weir_fills_refused_total", &[("route", "slow"), ("reason", "invalidated")]) == 1.0
    });
    assert!(leader.run("GET slow:1").text().contains("new"));
}

/// Also where the upstream's word of the change comes late.
#[test]
fn what_is_kept_near_is_dropped_before_the_answer() {
    let (redis, database) = (Redis::start(), Sqlite::shop());
    let proxy = FaultProxy::start_for(redis.port(), "TRACKING");
    let weir = Weir::start(&format!(
        r#"
[upstream]
url = "redis://127.0.0.1:{}/0"
timeout = "20s"
[database.main]
url = "{}"
[[route]]
name = "text"
key = "text:{{id}}"
value = "text"
near = "1h"
load = "SELECT name FROM products WHERE id = :id"
"#,
        proxy.port(),
        database.url()
    ));
    wait_until("the near cache is open", || weir.metric("weir_near_open", &[]) == 1.0);
    let mut client = weir.client();
    wait_until("it is kept near", || {
        assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
        weir.metric("weir_lookups_total", &[("outcome", "near_hit")]) >= 1.0
    });
    proxy.set(Fault::BlackHole);
    database.sql("UPDATE products SET name = 'new' WHERE id = 1");
    assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
    assert_eq!(client.run("WEIR REFRESH text:1"), Reply::Int(1));
    assert_eq!(client.run("GET text:1"), Reply::bulk("new"));
}

#[test]
fn it_takes_the_right_to_change_the_key() {
    let (redis, database) = (Redis::start(), Sqlite::shop());
    let file = r#"
[user.default]
nopass = true
[user.keys]
password = "keys"
keys = ["~user:1*"]
[user.reader]
password = "reader"
read_only = true
"#;
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("users.toml");
    std::fs::write(&path, file).expect("temporary folder");
    let weir = Weir::start(&format!(
        r#"
[server]
listen = ["127.0.0.1:{{port}}"]
admin = "127.0.0.1:{{admin}}"
users = "{}"
[upstream]
url = "{}"
timeout = "20s"
[database.main]
url = "{}"
[[route]]
key = "user:{{id}}"
load = "SELECT id, name FROM users WHERE id = :id"
"#,
        path.display(),
        redis.url(),
        database.url()
    ));
    let mut client = weir.client();
    assert_eq!(client.run("WEIR REFRESH user:2"), Reply::Int(1));
    assert_eq!(client.run("AUTH keys keys"), Reply::ok());
    assert_eq!(client.run("WEIR REFRESH user:1"), Reply::Int(1));
    assert!(
        client.run("WEIR REFRESH user:2").is_error("NOPERM this user has no permissions to access one of the keys")
    );
    assert_eq!(client.run("AUTH reader reader"), Reply::ok());
    assert!(client.run("WEIR REFRESH user:1").is_error("NOPERM"));
    assert_eq!(weir.metric("weir_loads_total", &[("trigger", "refresh")]), 2.0);
}
