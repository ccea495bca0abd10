//! Loads through a PgBouncer in transaction mode, where a named statement may meet a connection that does not know it (T39).

mod harness;

use harness::*;

#[test]
fn loads_pass_through_a_pgbouncer_in_transaction_mode() {
    let postgres = Postgres::start();
    postgres.sql(&shop_sql());
    let bouncer = PgBouncer::start(&postgres);
    let weir = Weir::start(&format!(
        "[database.main]\nurl = \"{}\"\nprepare = false\npool = 8\ntimeout = \"20s\"\n\
         [[route]]\nname = \"product\"\nkey = \"product:{{id}}\"\ndatabase = \"main\"\n\
         load = \"SELECT id, name, price FROM products WHERE id = :id /* product */\"\n",
        bouncer.url()
    ));
    let mut clients: Vec<Client> = (0..20).map(|_| weir.client()).collect();
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.run_later(&format!("GET product:{}", round * 20 + number + 1));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.recv().json()["id"], round * 20 + number + 1);
        }
    }
    assert_eq!(weir.metric("weir_loads_total", &[("result", "error")]), 0.0);
    let mut client = weir.client();
    client.run("FLUSHALL");
    assert_eq!(client.run("MGET product:1 product:999 product:3").items().len(), 3);
}
