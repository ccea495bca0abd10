//! However many clients ask for one absent key, one query runs (G2, T3, T16, T17); `pool` caps loads of different keys.

mod harness;

use harness::*;

const CLIENTS: usize = 1_000;

fn routes(database: &Database) -> String {
    let held = database.held_column(700);
    // SQLite: all must have asked before this load has failed and its back-off is over.
    let held_long = database.held_column(2_000);
    let endless = database.held_column(3_600_000);
    let failing = database.failing_column();
    format!(
        r#"
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, {held} AS held FROM products WHERE id = :id /* slow */"
load_timeout = "20s"

[[route]]
name = "failing"
key = "failing:{{id}}"
load = "SELECT id, {held_long} AS held, {failing} AS detail FROM products WHERE id = :id /* failing */"
load_timeout = "20s"

[[route]]
name = "stuck"
key = "stuck:{{id}}"
load = "SELECT id, {endless} AS held FROM products WHERE id = :id /* stuck */"
load_timeout = "300ms"
"#
    )
}

over_all_pairs!(
    a_thousand_clients_share_one_query,
    the_load_survives_the_client_that_began_it,
    a_failed_load_is_told_to_all_and_tried_once_more,
    a_load_over_its_time_limit_is_cancelled_at_the_database,
);

/// A thousand connections, each with `words` sent and nothing read.
fn ask(stack: &Stack, count: usize, words: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| stack.weir.client()).collect();
    for client in &mut clients {
        client.send(&raw_command(words));
    }
    clients
}

/// Until all of them wait for one load. With SQLite nothing holds the load, so some may come after it: they hit, or are told
/// its error.
fn wait_until_coalesced(stack: &Stack, route: &str, count: usize) {
    let waits = [("route", route)];
    wait_until("all clients wait for the one load", || {
        let metrics = stack.weir.metrics();
        let hits = metrics.sum("weir_lookups_total", &[("route", route), ("outcome", "hit")]);
        let told = metrics.sum("weir_lookups_total", &[("route", route), ("outcome", "error")]);
        metrics.sum("weir_coalesced_total", &waits) + hits + told >= count as f64
    });
    assert!(stack.weir.metric("weir_coalesced_total", &waits) > 0.0, "no client met the load: nothing was shown");
}

fn a_thousand_clients_share_one_query(pair: Pair) {
    many_descriptors();
    let stack = Stack::with(pair, routes);
    let gate = stack.database.shut_gate();
    let mut clients = ask(&stack, CLIENTS, "GET slow:1");
    wait_until_coalesced(&stack, "slow", CLIENTS - 1);
    drop(gate);
    for client in &mut clients {
        assert_eq!(client.recv().json()["name"], "product 1");
    }
    stack.assert_loads("slow", 1);
}

fn the_load_survives_the_client_that_began_it(pair: Pair) {
    many_descriptors();
    let stack = Stack::with(pair, routes);
    let gate = stack.database.shut_gate();
    let mut first = ask(&stack, 1, "GET slow:1");
    stack.wait_until_loading(1);
    let mut others = ask(&stack, CLIENTS - 1, "GET slow:1");
    first.pop().expect("one client").abort();
    wait_until("the first client is gone", || stack.weir.metric("weir_clients", &[]) as usize == CLIENTS - 1);
    wait_until_coalesced(&stack, "slow", CLIENTS - 1);
    drop(gate);
    for client in &mut others {
        assert_eq!(client.recv().json()["name"], "product 1");
    }
    stack.assert_loads("slow", 1);
}

fn a_failed_load_is_told_to_all_and_tried_once_more(pair: Pair) {
    many_descriptors();
    let stack = Stack::with(pair, routes);
    stack.database.sql("UPDATE products SET detail = 'broken' WHERE id = 1");
    let gate = stack.database.shut_gate();
    let mut clients = ask(&stack, CLIENTS, "GET failing:1");
    wait_until_coalesced(&stack, "failing", CLIENTS - 1);
    drop(gate);
    for client in &mut clients {
        let reply = client.recv();
        assert!(reply.is_error("LOAD "), "{reply:?}");
        assert!(reply.error().contains("failing"), "the route is named: {reply:?}");
        for secret in ["SELECT", "products", "broken", "detail"] {
            assert!(!reply.error().contains(secret), "{secret:?} is told to a client: {reply:?}");
        }
    }
    let failed = || stack.weir.metric("weir_loads_total", &[("route", "failing"), ("result", "error")]);
    assert_eq!(failed(), 1.0);
    if let Database::Postgres(postgres) = &stack.database {
        assert_eq!(postgres.failures("/* failing */"), 1, "queries that the database saw fail");
    }
    stack.database.sql("UPDATE products SET detail = '{}' WHERE id = 1");
    wait_until("the load is tried again after its back-off", || !clients[0].run("GET failing:1").is_error("LOAD "));
    assert_eq!(failed(), 1.0);
    assert_eq!(stack.weir.metric("weir_loads_total", &[("route", "failing"), ("result", "row")]), 1.0);
}

fn a_load_over_its_time_limit_is_cancelled_at_the_database(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let gate = stack.database.shut_gate();
    let reply = stack.weir.client().run("GET stuck:1");
    assert!(reply.is_error("LOAD ") && reply.error().contains("stuck"), "{reply:?}");
    assert_eq!(stack.weir.metric("weir_loads_total", &[("route", "stuck"), ("result", "timeout")]), 1.0);
    wait_until("no load is left", || stack.weir.metric("weir_loads_in_flight", &[("database", "main")]) == 0.0);
    if let Database::Postgres(postgres) = &stack.database {
        wait_until("the database has no such statement any more", || postgres.running("/* stuck */") == 0);
    }
    // The connection that ran it is usable again, or another took its place.
    drop(gate);
    assert_eq!(stack.weir.client().run("GET slow:2").json()["name"], "product 2");
}

#[test]
fn no_more_loads_run_than_the_pool_has_connections() {
    let database = Database::shop(Pair::EmbeddedPostgres);
    let Database::Postgres(postgres) = &database else { unreachable!("the pair has a PostgreSQL") };
    let weir = Weir::start(&format!(
        "[database.main]\nurl = \"{}\"\npool = 2\ntimeout = \"20s\"\n[defaults]\ndatabase = \"main\"\n{}",
        postgres.url(),
        routes(&database)
    ));
    let gate = postgres.shut_gate();
    let mut clients: Vec<Client> = (0..50).map(|_| weir.client()).collect();
    for (client, id) in clients.iter_mut().zip(1..) {
        client.send(&raw_command(&format!("GET slow:{id}")));
    }
    wait_until("the pool is full", || postgres.in_gate() == 2);
    wait_until("all have asked", || weir.metric("weir_lookups_total", &[("outcome", "miss")]) == 50.0);
    assert_eq!(postgres.in_gate(), 2);
    drop(gate);
    for (client, id) in clients.iter_mut().zip(1..) {
        assert_eq!(client.recv().json()["id"], id);
    }
}
