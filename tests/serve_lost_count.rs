//! A master of a cluster that comes back empty has forgotten how many invalidations there were, and which keys its tags have;
//! what other masters hold is not old nevertheless.

mod harness;

use harness::*;

#[test]
fn a_load_that_outlives_the_count_of_invalidations_is_not_stored() {
    let mut cluster = RedisCluster::start(0);
    let postgres = Postgres::start();
    postgres.sql("CREATE TABLE rows (id integer PRIMARY KEY, version integer, category integer); INSERT INTO rows SELECT i, 1, 3 FROM generate_series(0, 99) AS i");
    let weir = Weir::start(&format!(
        "[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"50s\"\n\
         [[route]]\nname = \"row\"\nkey = \"row:{{id}}\"\nvalue = \"json\"\ntags = [\"category:{{category}}\"]\n\
         load = \"SELECT id, version, category FROM rows, (SELECT through_gate()) AS held WHERE id = :id\"\n",
        cluster.url(),
        postgres.url()
    ));
    let mut client = weir.client();
    for _ in 0..5 {
        assert_eq!(client.run("WEIR INVALIDATE other"), Reply::Int(0));
    }
    let masters = cluster.masters();
    let slot = |client: &mut Client, key: &str| client.run(&format!("CLUSTER KEYSLOT {key}")).int() as u16;
    let counting = slot(&mut cluster.client(0), "weir:{0}sequence");
    let owner = masters.iter().find(|master| master.slots.contains(&counting)).expect("an owner").clone();
    let id =
        (0..99).find(|id| !owner.slots.contains(&slot(&mut cluster.client(0), &format!("row:{id}")))).expect("a row");
    let gate = postgres.shut_gate();
    let mut reader = weir.client();
    reader.run_later(&format!("GET row:{id}"));
    wait_until("it loads", || postgres.in_gate() == 1);
    cluster.kill9(owner.port);
    cluster.start_again(owner.port);
    wait_until("the cluster is whole", || {
        (0..3).all(|node| cluster.client(node).run("CLUSTER INFO").text().contains("cluster_state:ok"))
    });
    postgres.sql("UPDATE rows SET version = 2");
    let mut writer = weir.client();
    wait_until("the invalidation is acknowledged", || {
        matches!(writer.run("WEIR INVALIDATE category:3"), Reply::Int(_))
    });
    drop(gate);
    println!("{:?}", reader.recv());
    assert_eq!(writer.run(&format!("GET row:{id}")).json()["version"], 2);
}

#[test]
fn a_value_whose_tag_is_forgotten_is_dropped_by_it_nevertheless() {
    let mut cluster = RedisCluster::start(0);
    let database = Sqlite::empty();
    database.sql("CREATE TABLE rows (id INTEGER PRIMARY KEY, version INTEGER, category INTEGER); WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) INSERT INTO rows SELECT i, 1, 3 FROM n");
    let weir = Weir::start(&format!(
        "[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n\
         [[route]]\nname = \"row\"\nkey = \"row:{{id}}\"\ntags = [\"category:{{category}}\"]\n\
         load = \"SELECT id, version, category FROM rows WHERE id = :id\"\n",
        cluster.url(),
        database.url()
    ));
    let mut client = weir.client();
    client.run("GET row:0");
    // The node that has the index of the tag, and a row on another.
    let index = (0..3).find(|&node| {
        cluster.client(node).run("KEYS weir:*").items().iter().any(|key| key.text().ends_with("index:category:3"))
    });
    let port = cluster.port(index.expect("an index"));
    let owner = cluster.masters().into_iter().find(|master| master.port == port).expect("a master");
    let mut direct = cluster.client(0);
    let id = (0..99).find(|id| {
        let slot = direct.run(&format!("CLUSTER KEYSLOT row:{id}")).int() as u16;
        !owner.slots.contains(&slot)
    });
    let key = format!("row:{}", id.expect("a row elsewhere"));
    client.run(&format!("GET {key}"));
    drop(direct);
    cluster.kill9(port);
    cluster.start_again(port);
    wait_until("the cluster is whole", || {
        (0..3).all(|node| cluster.client(node).run("CLUSTER INFO").text().contains("cluster_state:ok"))
    });
    database.sql("UPDATE rows SET version = 2");
    wait_until("the invalidation is acknowledged", || {
        matches!(client.run("WEIR INVALIDATE category:3"), Reply::Int(_))
    });
    assert_eq!(client.run(&format!("GET {key}")).json()["version"], 2);
}
