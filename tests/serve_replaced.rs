//! A Redis that comes back with what it held earlier (A5): what was invalidated since is not served again, by any Weir.

mod harness;

use harness::*;

const ROUTES: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
NEAR
load = "SELECT id, price FROM products WHERE id = :id /* product */"

[[route]]
name = "session"
key = "session:{id}"
ttl = "1h"
"#;

struct Shop {
    redis: Redis,
    database: Sqlite,
}

impl Shop {
    fn start() -> Shop {
        Shop { redis: Redis::start(), database: Sqlite::shop() }
    }

    fn weir(&self, upstream: &str, near: &str) -> Weir {
        let routes = ROUTES.replace("NEAR", near);
        let (redis, database) = (self.redis.url(), self.database.url());
        let head = format!(
            "[upstream]\nurl = \"{redis}\"\ntimeout = \"2s\"\n{upstream}[database.main]\nurl = \"{database}\"\ntimeout = \"20s\"\n"
        );
        Weir::start(&format!("{head}{routes}"))
    }

    /// Redis holds a product and a session on its disk, and the product is invalidated afterwards.
    fn save_and_invalidate(&self, client: &mut Client) {
        assert_eq!(client.run("GET product:1"), product(1, 101));
        assert_eq!(client.run("GET product:9999"), Reply::Nil);
        assert_eq!(client.run("SET session:1 mine"), Reply::ok());
        assert_eq!(self.redis.client().run("SAVE"), Reply::ok());
        self.database.sql("UPDATE products SET price = 7; INSERT INTO products VALUES (9999, 'new', 8, '{}')");
        assert_eq!(client.run("DEL product:1"), Reply::Int(1));
        client.run("DEL product:9999");
    }

    fn lose_what_came_after(&mut self) {
        self.redis.kill9();
        self.redis.start_again();
        assert_eq!(self.redis.client().run("GET session:1"), Reply::bulk("mine"), "it came back with its snapshot");
    }
}

fn product(id: u32, price: u32) -> Reply {
    Reply::bulk(format!(r#"{{"id":{id},"price":{price}}}"#))
}

fn settled(weir: &Weir) -> bool {
    weir.metric("weir_upstream_up", &[]) == 1.0 && weir.metric("weir_upstream_trusted", &[]) == 1.0
}

fn nothing_old_is_served(near: &str) {
    let mut shop = Shop::start();
    let weirs = [shop.weir("", near), shop.weir("", near)];
    let mut clients: Vec<Client> = weirs.iter().map(Weir::client).collect();
    for round in 0..5 {
        shop.save_and_invalidate(&mut clients[0]);
        shop.lose_what_came_after();
        let mut answered = 0;
        wait_until("both have looked the server through", || {
            for client in &mut clients {
                answered += usize::from(client.run("GET product:1") == product(1, 7));
                assert_eq!(
                    client.run("MGET product:1 product:9999"),
                    Reply::Array(vec![product(1, 7), product(9999, 8)])
                );
                let mut private = weirs[round % 2].client();
                // It may be hung up on: what the server remembered of it is gone.
                let replies = [&["MULTI"][..], &["GET", "product:1"], &["EXEC"]].map(|words| private.try_cmd(words));
                let old = Reply::Array(vec![product(1, 101)]);
                assert!(!replies.iter().flatten().any(|reply| *reply == old), "{replies:?}");
            }
            // Each worker finds it in its own time.
            let found = clients.iter_mut().all(|client| client.run("GET other") == Reply::Nil);
            found && weirs.iter().all(settled)
        });
        assert!(answered > 0);
        for client in &mut clients {
            assert_eq!(client.run("GET product:1"), product(1, 7));
            assert_eq!(client.run("GET session:1"), Reply::bulk("mine"), "what cannot be loaded stays");
        }
        shop.database.sql("UPDATE products SET price = 101 WHERE id = 1; DELETE FROM products WHERE id = 9999");
        clients[0].run("DEL product:1 product:9999");
    }
}

#[test]
fn what_was_invalidated_since_the_snapshot_is_not_served() {
    nothing_old_is_served("");
}

#[test]
fn nor_is_it_kept_near() {
    nothing_old_is_served("near = \"10s\"");
}

/// Nobody was there who could have known it.
#[test]
fn a_weir_that_starts_after_it_knows_by_the_mark() {
    let mut shop = Shop::start();
    let weir = shop.weir("", "");
    shop.save_and_invalidate(&mut weir.client());
    drop(weir);
    shop.lose_what_came_after();
    let weir = shop.weir("", "");
    let mut client = weir.client();
    assert_eq!(client.run("GET product:1"), product(1, 7));
    wait_until("it has looked the server through", || settled(&weir));
    assert_eq!(client.run("GET product:1"), product(1, 7));
    assert_eq!(weir.metric("weir_loads_total", &[("trigger", "miss")]), 1.0);

    // The same server, and another Weir: all that it holds is as it was left.
    drop(weir);
    let weir = shop.weir("", "");
    assert_eq!(weir.client().run("GET product:1"), product(1, 7));
    assert_eq!(weir.metric("weir_loads_total", &[]), 0.0);
}

#[test]
fn a_server_that_no_weir_has_worked_with_is_taken_as_it_is() {
    let shop = Shop::start();
    assert_eq!(shop.redis.client().run("SET product:1 filled-by-hand"), Reply::ok());
    let weir = shop.weir("", "");
    assert_eq!(weir.client().run("GET product:1"), Reply::bulk("filled-by-hand"));
}

#[test]
fn where_it_is_asked_for_all_is_kept() {
    let mut shop = Shop::start();
    let weir = shop.weir("when_replaced = \"keep\"\n", "");
    let mut client = weir.client();
    shop.save_and_invalidate(&mut client);
    shop.lose_what_came_after();
    wait_until("Redis is found again", || client.run("GET session:1") == Reply::bulk("mine"));
    assert_eq!(client.run("GET product:1"), product(1, 101));
}

/// Redis is emptied, writes its snapshot, and fails together with all Weirs.
#[test]
fn a_flush_leaves_no_server_without_its_mark() {
    let mut shop = Shop::start();
    let weirs = [shop.weir("", ""), shop.weir("", "near = \"10s\"\n")];
    let mark = || shop.redis.client().run("KEYS weir:{*}epoch").items().len();
    for flush in ["FLUSHALL", "FLUSHDB", "MULTI; FLUSHALL; EXEC"] {
        flush.split("; ").for_each(|command| drop(weirs[0].client().run(command)));
        wait_until("the mark is set again", || mark() == 1);
    }
    let mut past_weirs = shop.redis.client();
    assert_eq!(past_weirs.run("FLUSHALL"), Reply::ok());
    wait_until("who listens sets the mark again", || mark() == 1);
    shop.save_and_invalidate(&mut weirs[0].client());
    drop(weirs);
    shop.lose_what_came_after();
    assert_eq!(shop.weir("", "").client().run("GET product:1"), product(1, 7));
}

/// A mark that is gone is set again by whoever knows better; and after FLUSHALL, too, a snapshot is found out.
#[test]
fn a_lost_mark_is_no_way_past_it() {
    let mut shop = Shop::start();
    let weir = shop.weir("", "");
    let mut client = weir.client();
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    shop.save_and_invalidate(&mut client);
    shop.lose_what_came_after();
    wait_until("it has looked the server through", || {
        let reply = client.run("GET product:1");
        assert!(reply == product(1, 7), "{reply:?}");
        settled(&weir)
    });
    assert_eq!(client.run("GET product:1"), product(1, 7));
}
