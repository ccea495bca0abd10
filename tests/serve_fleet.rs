//! Several Weirs over one Redis: one of them loads, the readers of all others are woken when it ends, and none asks Redis
//! meanwhile (G2, T14). A loader that dies is replaced by one; where nobody may be told, waiters look for the end.

mod harness;

use harness::*;

const CLIENTS: usize = 500;

fn routes(database: &Database, load_timeout: &str) -> String {
    let held = database.held_column(700);
    format!(
        "[[route]]\nname = \"slow\"\nkey = \"slow:{{id}}\"\nload_timeout = \"{load_timeout}\"\n\
         load = \"SELECT id, name, {held} AS held FROM products WHERE id = :id /* slow */\"\n"
    )
}

/// Some Weirs over one store and one PostgreSQL.
struct Fleet {
    weirs: Vec<Weir>,
    postgres: Postgres,
}

impl Fleet {
    /// Over the upstream of this URL. Its Weirs listen to each other, if they may.
    fn start(url: &str, weirs: usize) -> Fleet {
        Fleet::with(url, "20s", weirs, "20s")
    }

    /// The same, where the upstream's answers may take `timeout`, and leases end a second after `load_timeout`.
    fn with(url: &str, timeout: &str, weirs: usize, load_timeout: &str) -> Fleet {
        let Database::Postgres(postgres) = Database::shop(Pair::RedisPostgres) else { unreachable!("it is one") };
        let database = Database::Postgres(postgres);
        let config = format!(
            "[upstream]\nurl = \"{url}\"\ntimeout = \"{timeout}\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n\
             [defaults]\ndatabase = \"main\"\n{}",
            database.url(),
            routes(&database, load_timeout)
        );
        let weirs = (0..weirs).map(|_| Weir::start(&config)).collect();
        let Database::Postgres(postgres) = database else { unreachable!("it is one") };
        Fleet { weirs, postgres }
    }

    #[track_caller]
    fn wait_until_all_listen(&self) {
        wait_until("all listen", || self.weirs.iter().all(|weir| weir.metric("weir_upstream_subscribed", &[]) == 1.0));
    }

    /// So many clients, on all Weirs in turn, each of which has sent the same GET.
    fn ask(&self, clients: usize, key: &str) -> Vec<Client> {
        let mut clients: Vec<Client> =
            (0..clients).map(|number| self.weirs[number % self.weirs.len()].client()).collect();
        clients.iter_mut().for_each(|client| client.run_later(&format!("GET {key}")));
        clients
    }

    /// Sum over all Weirs.
    fn coalesced(&self, scope: &str) -> f64 {
        self.weirs.iter().map(|weir| weir.metric("weir_coalesced_total", &[("scope", scope)])).sum()
    }

    #[track_caller]
    fn wait_until_coalesced(&self, count: usize) {
        let waiting = || self.coalesced("process") + self.coalesced("fleet");
        wait_until("all but one wait", || waiting() >= count as f64);
    }

    fn loads(&self) -> f64 {
        self.weirs.iter().map(|weir| weir.metric("weir_loads_total", &[])).sum()
    }
}

#[track_caller]
fn all_answered(clients: &mut [Client]) {
    for client in clients {
        assert_eq!(client.recv().json()["name"], "product 1");
    }
}

/// Of the keys of one MGET another Weir loads some: those are waited for, and the others loaded.
#[test]
fn an_mget_loads_what_nobody_loads_yet() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis.url(), 2);
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let [mut first, mut second] = [0, 1].map(|weir| fleet.weirs[weir].client());
    first.run_later("MGET slow:1 slow:2 slow:3 slow:900");
    let loads = |weir: usize| fleet.weirs[weir].metric("weir_loads_in_flight", &[]) == 1.0;
    wait_until("it loads", || loads(0));
    second.run_later("MGET slow:2 slow:3 slow:4 slow:5 slow:900");
    wait_until("the other waits", || fleet.coalesced("fleet") == 3.0);
    wait_until("it loads the others", || loads(1));
    drop(gate);
    let names = |reply: Reply| -> Vec<String> {
        let rows = reply.items().iter().filter(|item| **item != Reply::Nil);
        rows.map(|item| item.json()["name"].as_str().expect("it has a name").to_owned()).collect()
    };
    assert_eq!(names(first.recv()), ["product 1", "product 2", "product 3"]);
    assert_eq!(names(second.recv()), ["product 2", "product 3", "product 4", "product 5"]);
    assert_eq!(fleet.postgres.runs("/* slow */"), 2);
    // Each key once, whoever loaded it.
    assert_eq!(fleet.loads(), 6.0);
}

#[test]
fn one_query_answers_the_clients_of_three_proxies() {
    many_descriptors();
    let redis = Redis::start();
    let fleet = Fleet::start(&redis.url(), 3);
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let mut clients = fleet.ask(CLIENTS, "slow:1");
    fleet.wait_until_coalesced(CLIENTS - 1);
    let asked = redis.client().calls("evalsha");
    // Waiting is for nothing but the end: the connections that listen have been silent, and were asked for a sign twice.
    let signs = redis.client().calls("ping");
    wait_until("time passes", || redis.client().calls("ping") >= signs + 6);
    assert_eq!(redis.client().calls("evalsha"), asked, "somebody asks while it waits");
    drop(gate);
    all_answered(&mut clients);
    assert_eq!(fleet.postgres.runs("/* slow */"), 1);
    assert_eq!(fleet.loads(), 1.0);
    // Two Weirs waited for the third. Each reader asks once before and once after, and the loader fills once.
    let elsewhere = CLIENTS - CLIENTS.div_ceil(3);
    let fleet_waits = fleet.coalesced("fleet") as usize;
    assert!((elsewhere..=elsewhere + 1).contains(&fleet_waits), "{fleet_waits} were counted, {elsewhere} waited");
    let asked = redis.client().calls("evalsha") as usize;
    assert!(asked <= 2 * CLIENTS + 1, "{asked} calls for {CLIENTS} readers");
}

#[test]
fn a_dead_loader_is_replaced_by_one() {
    many_descriptors();
    let redis = Redis::start();
    let mut fleet = Fleet::with(&redis.url(), "20s", 3, "12s");
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let mut first = fleet.weirs[0].client();
    first.run_later("GET slow:1");
    wait_until("it loads", || fleet.postgres.in_gate() == 1);
    let dead = fleet.weirs.remove(0);
    let mut clients = fleet.ask(CLIENTS, "slow:1");
    fleet.wait_until_coalesced(CLIENTS);
    dead.signal("KILL");
    drop(gate);
    all_answered(&mut clients);
    assert_eq!(fleet.loads(), 1.0, "one takes over");
    let queries = fleet.postgres.runs("/* slow */");
    assert!((1..=2).contains(&queries), "{queries} queries");
}

#[test]
fn waiters_go_on_when_the_loader_s_key_is_invalidated() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis.url(), 2);
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let mut first = fleet.weirs[0].client();
    first.run_later("GET slow:1");
    wait_until("it loads", || fleet.postgres.in_gate() == 1);
    let mut second = fleet.weirs[1].client();
    second.run_later("GET slow:1");
    fleet.wait_until_coalesced(1);
    // The lease is gone, and with it the note that somebody waits; the loader tells its end all the same.
    assert_eq!(fleet.weirs[1].client().run("DEL slow:1"), Reply::Int(0));
    drop(gate);
    assert_eq!(first.recv().json()["name"], "product 1");
    assert_eq!(second.recv().json()["name"], "product 1");
    assert_eq!(fleet.loads(), 2.0, "the second loads for itself");
    let refused = [("reason", "invalidated")];
    assert_eq!(fleet.weirs[0].metric("weir_fills_refused_total", &refused), 1.0);
}

#[test]
fn waiters_look_for_the_end_where_nobody_may_be_told() {
    let redis = Redis::start();
    let words = "ACL SETUSER weir on >secret ~* resetchannels +@all -publish";
    assert_eq!(redis.client().run(words), Reply::ok());
    let fleet = Fleet::start(&format!("redis://weir:secret@127.0.0.1:{}", redis.port()), 2);
    wait_until("both say so", || {
        fleet.weirs.iter().all(|weir| weir.log().contains("loads of other Weirs are looked for, not heard of"))
    });
    let gate = fleet.postgres.shut_gate();
    let mut clients = fleet.ask(20, "slow:1");
    fleet.wait_until_coalesced(19);
    drop(gate);
    all_answered(&mut clients);
    assert_eq!(fleet.loads(), 1.0);
    assert_eq!(fleet.coalesced("fleet"), 10.0, "each that waits counts once, however often it looks");
    for weir in &fleet.weirs {
        assert_eq!(weir.metric("weir_upstream_subscribed", &[]), 0.0);
        assert_eq!(weir.log().matches("looked for, not heard of").count(), 1);
    }
}

#[test]
fn who_was_cut_off_listens_again() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis.url(), 2);
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let mut clients = fleet.ask(20, "slow:1");
    fleet.wait_until_coalesced(19);
    let killed = redis.client().run("CLIENT KILL TYPE pubsub");
    assert_eq!(killed, Reply::Int(2));
    drop(gate);
    all_answered(&mut clients);
    assert_eq!(fleet.loads(), 1.0);
    fleet.wait_until_all_listen();
    assert_eq!(redis.client().run("PUBSUB NUMSUB weir:{lease}ended").items()[1], Reply::Int(2));
}

#[test]
fn waiters_of_a_hung_redis_are_answered_by_the_database() {
    let redis = Redis::start();
    let fleet = Fleet::with(&redis.url(), "1s", 2, "20s");
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let mut first = fleet.weirs[0].client();
    first.run_later("GET slow:1");
    wait_until("it loads", || fleet.postgres.in_gate() == 1);
    let mut second = fleet.weirs[1].client();
    second.run_later("GET slow:1");
    fleet.wait_until_coalesced(1);
    redis.stop();
    drop(gate);
    assert_eq!(first.recv().json()["name"], "product 1");
    assert_eq!(second.recv().json()["name"], "product 1");
    assert_eq!(fleet.weirs[1].metric("weir_loads_total", &[("trigger", "unstored"), ("result", "row")]), 1.0);
    assert_eq!(fleet.weirs[1].metric("weir_upstream_subscribed", &[]), 0.0, "silence was noticed");
    redis.cont();
    fleet.wait_until_all_listen();
}

/// One of its keys another Weir loads, and the other is invalidated while this one loads it: neither is missing.
#[test]
fn an_mget_of_what_one_weir_loads_and_another_may_not_keep_has_all_rows() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis.url(), 2);
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let (mut other, mut client, mut writer) =
        (fleet.weirs[1].client(), fleet.weirs[0].client(), fleet.weirs[0].client());
    other.run_later("GET slow:2");
    wait_until("one loads", || fleet.postgres.in_gate() == 1);
    client.run_later("MGET slow:1 slow:2");
    wait_until("both load", || fleet.postgres.in_gate() == 2);
    fleet.wait_until_coalesced(1);
    assert_eq!(writer.run("DEL slow:1"), Reply::Int(0));
    drop(gate);
    let names: Vec<_> = client.recv().items().iter().map(|row| row.json()["name"].clone()).collect();
    assert_eq!(names, ["product 1", "product 2"]);
    assert_eq!(other.recv().json()["name"], "product 2");
}

/// One of its keys another Weir loads, and the other is invalidated meanwhile: neither is missing.
#[test]
fn an_mget_of_what_one_weir_loads_and_another_drops_has_all_rows() {
    let redis = Redis::start();
    let fleet = Fleet::start(&redis.url(), 2);
    fleet.wait_until_all_listen();
    let (mut other, mut client, mut writer) =
        (fleet.weirs[1].client(), fleet.weirs[0].client(), fleet.weirs[0].client());
    client.run("GET slow:1");
    let gate = fleet.postgres.shut_gate();
    other.run_later("GET slow:2");
    wait_until("one loads", || fleet.postgres.in_gate() == 1);
    client.run_later("MGET slow:1 slow:2");
    fleet.wait_until_coalesced(1);
    assert_eq!(writer.run("DEL slow:1"), Reply::Int(1));
    drop(gate);
    let names: Vec<_> = client.recv().items().iter().map(|row| row.json()["name"].clone()).collect();
    assert_eq!(names, ["product 1", "product 2"]);
    assert_eq!(other.recv().json()["name"], "product 2");
}

#[test]
fn behind_sentinels_who_listens_follows_the_master() {
    let sentinels = Sentinels::start();
    let fleet = Fleet::start(&sentinels.url(), 2);
    fleet.wait_until_all_listen();
    sentinels.settle();
    let old = sentinels.master();
    let links = |master| sentinels.server(master).run("CLIENT LIST").text().matches(" name=weir ").count();
    let before = links(old);
    sentinels.fail_over();
    wait_until("all are at the new master", || {
        let new = sentinels.master();
        let listen = || sentinels.server(new).run("PUBSUB NUMSUB weir:{lease}ended").items()[1] == Reply::Int(2);
        new != old && links(new) == before && listen()
    });
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let mut clients = fleet.ask(20, "slow:1");
    fleet.wait_until_coalesced(19);
    drop(gate);
    all_answered(&mut clients);
    assert_eq!((fleet.loads(), fleet.coalesced("fleet")), (1.0, 10.0));
}

#[test]
fn in_a_cluster_any_node_tells_of_the_end() {
    let cluster = RedisCluster::start(0);
    let fleet = Fleet::start(&cluster.url(), 3);
    fleet.wait_until_all_listen();
    let gate = fleet.postgres.shut_gate();
    let mut clients: Vec<Client> = (1..=6).flat_map(|id| fleet.ask(30, &format!("slow:{id}"))).collect();
    fleet.wait_until_coalesced(6 * 29);
    drop(gate);
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.recv().json()["name"], format!("product {}", number / 30 + 1));
    }
    assert_eq!(fleet.loads(), 6.0);
    let looks: u64 = (0..3).map(|node| cluster.client(node).calls("evalsha")).sum();
    assert!(looks <= 2 * 180 + 6, "{looks} calls for 180 readers");
}
