//! The harness itself: its servers start, count and end, and its proxy's faults bite.

#![allow(clippy::unwrap_used)]

mod harness;

use harness::*;

#[test]
fn redis_answers_and_comes_back_empty_after_a_restart() {
    let mut redis = Redis::start();
    assert_eq!(redis.client().run("SET k v"), Reply::ok());
    redis.restart();
    assert_eq!(redis.client().run("GET k"), Reply::Nil);
}

#[test]
fn postgres_counts_marked_statements_and_failures() {
    let postgres = Postgres::start();
    for _ in 0..3 {
        postgres.sql("SELECT 1 /* marked */");
    }
    assert_eq!(postgres.runs("/* marked */"), 3);
    postgres.sql("DO $$ BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END $$");
    assert_eq!(postgres.failures("/* failing */"), 0);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| postgres.sql("SELECT 1/0\n/* failing */")));
    assert!(failed.is_err());
    assert_eq!(postgres.failures("/* failing */"), 1);
}

#[test]
fn a_statement_waits_in_the_gate_with_its_old_snapshot() {
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE t (v integer); INSERT INTO t VALUES (1)");
    let gate = postgres.shut_gate();
    let url = postgres.url();
    let reader = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.query_one("SELECT v, through_gate() FROM t", &[]).await.unwrap().get::<_, i32>(0)
        })
    });
    wait_until("the reader is in the gate", || postgres.in_gate() == 1);
    postgres.sql("UPDATE t SET v = 2");
    gate.open();
    assert_eq!(reader.join().unwrap(), 1);
}

#[test]
fn pgbouncer_hands_statements_on() {
    let postgres = Postgres::start();
    let bouncer = PgBouncer::start(&postgres);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&bouncer.url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.simple_query("SELECT 1 /* bounced */").await.unwrap();
    });
    assert_eq!(postgres.runs("/* bounced */"), 1);
}

#[test]
fn faults_bite() {
    let redis = Redis::start();
    let proxy = FaultProxy::start(redis.port());
    let mut client = Client::connect(proxy.port());
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    assert_eq!(proxy.hits(), 0);
    proxy.set(Fault::OneByte);
    assert_eq!(client.run("ECHO hello"), Reply::bulk("hello"));
    assert!(proxy.hits() >= 2);
    proxy.set(Fault::CutMidway);
    assert!(client.try_cmd(&["PING"]).is_err());
    proxy.set(Fault::None);
    assert_eq!(Client::connect(proxy.port()).run("PING"), Reply::Simple("PONG".into()));
}

#[test]
fn the_shop_is_the_same_in_both_databases() {
    let sqlite = Database::shop(Pair::EmbeddedSqlite);
    let postgres = Database::shop(Pair::EmbeddedPostgres);
    for database in [&sqlite, &postgres] {
        database.sql("UPDATE products SET price = price + 1 WHERE id = 200");
        database.sql(&format!(
            "SELECT {}, {} FROM products WHERE id = 1",
            database.held_column(1),
            database.failing_column()
        ));
    }
}
