//! Weir's own keys are none of its clients' (T35): what lists or counts keys answers as a server that has only the clients'
//! keys, and who knows the name of one may read it and not change it.

mod harness;

use harness::*;
use std::collections::BTreeSet;

const ROUTE: &str = "[[route]]\nkey = \"product:{id}\"\nload = \"SELECT id, name FROM products WHERE id = :id\"\n\
    tags = [\"products\", \"product {id}\"]\n";

/// Weir on this upstream, with or without routes.
fn start(url: &str, sqlite: &Sqlite, routes: &str) -> Weir {
    let database = format!("[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n", sqlite.url());
    Weir::start(&format!("[upstream]\nurl = \"{url}\"\ntimeout = \"20s\"\n{database}{routes}"))
}

/// What the clients have, by name and value.
fn clients_keys() -> Vec<(String, String)> {
    let plain = (0..40).map(|number| (format!("plain:{number}"), number.to_string()));
    let odd = ["weir", "weird", "weir:", "weir:tag", "x weir:{0}lease:a", ""];
    plain.chain(odd.map(|name| (name.to_owned(), "odd".to_owned()))).collect()
}

/// Keys of the clients, of rows that were loaded, and Weir's own beside them: absences that are remembered, tags, a lease.
#[track_caller]
fn fill(client: &mut Client, mut raw: impl FnMut(&[&str]) -> Reply) {
    for (name, value) in clients_keys() {
        assert_eq!(client.cmd(&["SET", &name, &value]), Reply::ok());
    }
    for id in 1..=5 {
        assert_ne!(client.run(&format!("GET product:{id}")), Reply::Nil);
    }
    for id in 0..60 {
        assert_eq!(client.run(&format!("GET product:{}", 900_000 + id)), Reply::Nil);
    }
    assert_eq!(client.run("WEIR SET tagged 1 EX 1000 TAGS plain"), Reply::ok());
    assert_eq!(client.run("WEIR INVALIDATE nothing"), Reply::Int(0));
    assert_eq!(raw(&["SET", LEASE, LEASE_VALUE, "PX", "600000"]), Reply::ok());
}

/// A lease, as another process would hold it.
const LEASE: &str = "weir:{0}lease:elsewhere";
const LEASE_VALUE: &str = "00000000000000010000000000000001";

/// The names that clients must see.
fn expected() -> BTreeSet<String> {
    let others = (1..=5).map(|id| format!("product:{id}")).chain(["tagged".to_owned()]);
    clients_keys().into_iter().map(|(name, _)| name).chain(others).collect()
}

fn names(reply: &Reply) -> Vec<String> {
    reply.items().iter().map(Reply::text).collect()
}

fn set(names: Vec<String>) -> BTreeSet<String> {
    names.into_iter().collect()
}

/// All that SCAN shows, with these options.
#[track_caller]
fn scan(client: &mut Client, options: &[&str]) -> BTreeSet<String> {
    let (mut all, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let page = client.cmd(&[&["SCAN", &cursor], options].concat());
        all.extend(names(&page.items()[1]));
        cursor = page.items()[0].text();
        if cursor == "0" {
            return all;
        }
    }
}

/// Everything that lists or counts keys, through Weir and at a server that has the clients' keys alone.
#[track_caller]
fn shows_clients_keys_only(through: &mut Client, bare: &mut Client) {
    let all = expected();
    assert_eq!(set(names(&bare.run("KEYS *"))), all, "the server to compare with");
    for options in [
        &[][..],
        &["COUNT", "1"],
        &["COUNT", "7"],
        &["COUNT", "1000"],
        &["MATCH", "*"],
        &["MATCH", "w*"],
        &["MATCH", "weir:*", "COUNT", "3"],
        &["MATCH", "plain:1*"],
        &["TYPE", "string"],
        &["TYPE", "hash"],
        &["MATCH", "*lease*", "COUNT", "100", "TYPE", "string"],
    ] {
        assert_eq!(scan(through, options), scan(bare, options), "SCAN {options:?}");
    }
    for pattern in ["*", "w*", "?eir:*", "[vw]eir:*", "weir:{*", LEASE, "plain:*", "*a*", "\\weir*", "none"] {
        let [shown, there] = [through.cmd(&["KEYS", pattern]), bare.cmd(&["KEYS", pattern])];
        assert_eq!(names(&shown).len(), set(names(&shown)).len(), "KEYS {pattern} shows a name twice");
        assert_eq!(set(names(&shown)), set(names(&there)), "KEYS {pattern}");
    }
    assert_eq!(through.run("DBSIZE"), bare.run("DBSIZE"));
    for _ in 0..100 {
        assert!(all.contains(&through.run("RANDOMKEY").text()));
    }
    assert_eq!(through.run("PUBSUB CHANNELS"), Reply::Array(Vec::new()));
    // What cannot be right is told in the server's own words.
    for wrong in ["SCAN x", "SCAN 0 COUNT x", "SCAN 0 MATCH", "SCAN", "KEYS", "KEYS a b", "DBSIZE x", "RANDOMKEY x"] {
        assert_eq!(through.run(wrong), bare.run(wrong), "{wrong}");
    }
    in_a_pipeline(through, bare);
}

#[track_caller]
fn in_a_pipeline(through: &mut Client, bare: &mut Client) {
    let words = [
        "SET own 1",
        "DBSIZE",
        "GET own",
        "KEYS *",
        "SCAN 0 COUNT 1000",
        "DEL own",
        "DBSIZE",
        "GET product:1",
        "KEYS own",
    ];
    let commands: Vec<Vec<&str>> = words.map(|words| words.split(' ').collect()).into();
    let (shown, there) = (through.pipeline(&commands), bare.pipeline(&commands));
    for index in [0, 1, 2, 5, 6, 8] {
        assert_eq!(shown[index], there[index], "{}", words[index]);
    }
    assert_eq!(set(names(&shown[3])), set(names(&there[3])));
    // A cluster walks from node to node.
    assert!(set(names(&shown[4].items()[1])).is_subset(&set(names(&there[4].items()[1]))));
    assert_eq!(shown[7].json()["id"], 1);
}

/// A server with the clients' keys, and nothing else.
fn bare() -> Redis {
    let redis = Redis::start();
    let mut client = redis.client();
    for (name, value) in clients_keys() {
        client.cmd(&["SET", &name, &value]);
    }
    for id in 1..=5 {
        client.run(&format!("SET product:{id} loaded"));
    }
    client.run("SET tagged 1");
    redis
}

#[test]
fn a_server_s_clients_see_their_own_keys_only() {
    let (redis, bare, sqlite) = (Redis::start(), bare(), Sqlite::shop());
    let weir = start(&redis.url(), &sqlite, ROUTE);
    let (mut raw, mut through, mut compared) = (redis.client(), weir.client(), bare.client());
    fill(&mut through, |command| raw.cmd(command));
    assert!(raw.run("DBSIZE").int() > expected().len() as i64 + 60, "Weir has keys of its own: else nothing is shown");
    shows_clients_keys_only(&mut through, &mut compared);
    for client in [&mut through, &mut compared] {
        client.run("HELLO 3");
    }
    shows_clients_keys_only(&mut through, &mut compared);
    // Over a link of the client's own.
    for client in [&mut through, &mut compared] {
        assert_eq!(client.run("WATCH nothing"), Reply::ok());
    }
    shows_clients_keys_only(&mut through, &mut compared);
}

#[test]
fn in_a_transaction_they_see_no_others_either() {
    let (redis, bare, sqlite) = (Redis::start(), bare(), Sqlite::shop());
    let weir = start(&redis.url(), &sqlite, ROUTE);
    let (mut raw, mut through, mut compared) = (redis.client(), weir.client(), bare.client());
    fill(&mut through, |command| raw.cmd(command));
    for hello in ["HELLO 2", "HELLO 3"] {
        let words = ["MULTI", "DBSIZE", "KEYS *", "SCAN 0 COUNT 1000", "SCAN x", "KEYS plain:1*", "RANDOMKEY", "EXEC"];
        let commands: Vec<Vec<&str>> = words.map(|words| words.split(' ').collect()).into();
        let [shown, there] = [&mut through, &mut compared].map(|client| {
            client.run(hello);
            client.pipeline(&commands)
        });
        assert_eq!(shown[..7], there[..7]);
        let (shown, there) = (shown[7].items(), there[7].items());
        assert_eq!(shown[0], there[0], "DBSIZE");
        assert_eq!(set(names(&shown[1])), set(names(&there[1])), "KEYS");
        assert_eq!(set(names(&shown[2].items()[1])), set(names(&there[2].items()[1])), "SCAN");
        assert_eq!(shown[3], there[3], "an error within EXEC");
        assert_eq!(set(names(&shown[4])), set(names(&there[4])));
        assert!(expected().contains(&shown[5].text()));
    }
}

#[test]
fn a_cluster_s_clients_see_their_own_keys_only() {
    let (cluster, bare, sqlite) = (RedisCluster::start(0), bare(), Sqlite::shop());
    let weir = start(&cluster.url(), &sqlite, ROUTE);
    let (mut through, mut compared) = (weir.client(), bare.client());
    let raw = |command: &[&str]| {
        let replies = (0..3).map(|node| cluster.client(node).cmd(command));
        replies.into_iter().find(|reply| !reply.is_error("MOVED")).expect("one node has the slot")
    };
    fill(&mut through, raw);
    let all: i64 = (0..3).map(|node| cluster.client(node).run("DBSIZE").int()).sum();
    assert!(all > expected().len() as i64 + 60, "Weir has keys of its own: else nothing is shown");
    shows_clients_keys_only(&mut through, &mut compared);
    for client in [&mut through, &mut compared] {
        client.run("HELLO 3");
    }
    shows_clients_keys_only(&mut through, &mut compared);
    for command in
        [&["SET", LEASE, "x"][..], &["DEL", "plain:1", "plain:2", LEASE], &["MSET", "plain:1", "x", LEASE, "x"]]
    {
        refused(through.cmd(command));
    }
    // Over a link of the client's own to one node.
    for client in [&mut through, &mut compared] {
        assert_eq!(client.run("WATCH nothing"), Reply::ok());
    }
    shows_clients_keys_only(&mut through, &mut compared);
    for command in [&["SET", LEASE, "x"][..], &["DEL", "plain:1", "plain:2", LEASE]] {
        refused(through.cmd(command));
    }
    assert_eq!(through.cmd(&["GET", LEASE]), Reply::bulk(LEASE_VALUE));
}

#[test]
fn a_random_key_is_found_among_many_of_weir_s() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let weir = start(&redis.url(), &sqlite, ROUTE);
    let (mut raw, mut through) = (redis.client(), weir.client());
    for number in 0..2_000 {
        raw.run_later(&format!("SET weir:{{0}}none:{number} x"));
    }
    for _ in 0..2_000 {
        assert_eq!(raw.recv(), Reply::ok());
    }
    assert_eq!(through.run("RANDOMKEY"), Reply::Nil);
    assert_eq!((through.run("DBSIZE"), through.run("KEYS *")), (Reply::Int(0), Reply::Array(Vec::new())));
    assert_eq!(scan(&mut through, &[]), BTreeSet::new());
    assert_eq!(through.run("SET one 1"), Reply::ok());
    for _ in 0..20 {
        assert_eq!(through.run("RANDOMKEY"), Reply::bulk("one"));
    }
    assert_eq!(through.run("DBSIZE"), Reply::Int(1));
}

#[test]
fn who_subscribes_to_everything_hears_nothing_of_weir_s_own_channel() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let weir = start(&redis.url(), &sqlite, ROUTE);
    for hello in ["HELLO 2", "HELLO 3"] {
        let (mut raw, mut listener) = (redis.client(), weir.client());
        listener.run(hello);
        listener.run("PSUBSCRIBE *");
        for channel in ["weir:{lease}ended", "news"] {
            assert!(raw.run(&format!("PUBLISH {channel} text")).int() > 0);
        }
        let heard: Vec<String> = listener.recv().items().iter().map(Reply::text).collect();
        assert_eq!(heard, ["pmessage", "*", "news", "text"], "{hello}");
    }
}

/// Of so many keys only a part is looked at.
#[test]
fn a_large_database_s_size_is_an_estimate_that_is_near() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let weir = start(&redis.url(), &sqlite, ROUTE);
    let (mut raw, mut through) = (redis.client(), weir.client());
    assert_eq!(raw.run("DEBUG POPULATE 100000 plain"), Reply::ok());
    // Weir's only key is the server's mark, which is among the 4,096 that are looked at or not.
    let estimate = through.run("DBSIZE").int();
    assert!([100_001, 99_977].contains(&estimate), "{estimate}");
    assert_eq!(raw.run("DEBUG POPULATE 2000 weir:{0}none"), Reply::ok());
    // 2 % of 4,096 are 82, give or take 9 (the standard deviation): 220 of all. Eight times that never happens.
    let estimate = through.run("DBSIZE").int();
    assert!((98_200..=101_800).contains(&estimate), "{estimate}");
    let shown = through.run("KEYS *");
    assert_eq!(shown.items().len(), 100_000);
    assert!(names(&shown).iter().all(|name| name.starts_with("plain:")));
}

#[track_caller]
fn refused(reply: Reply) {
    assert!(reply.is_error("ERR 'weir:{' begins the names of Weir's own keys"), "{reply:?}");
}

#[test]
fn whoever_names_one_may_read_and_not_change_it() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let weir = start(&redis.url(), &sqlite, ROUTE);
    let (mut raw, mut through) = (redis.client(), weir.client());
    assert_eq!(raw.cmd(&["SET", LEASE, LEASE_VALUE]), Reply::ok());
    assert_eq!(through.cmd(&["GET", LEASE]), Reply::bulk(LEASE_VALUE));
    assert_eq!(through.cmd(&["EXISTS", LEASE, "plain"]), Reply::Int(1));
    for command in [
        &["SET", LEASE, "x"][..],
        &["DEL", LEASE],
        &["DEL", "plain", LEASE],
        &["EXPIRE", LEASE, "1"],
        &["INCR", LEASE],
        &["RENAME", "plain", LEASE],
        &["RENAME", "product:1", LEASE],
        &["MSET", "product:1", "x", LEASE, "x"],
        &["EVAL", "return 1", "1", LEASE],
        &["BLMOVE", "list", LEASE, "LEFT", "LEFT", "1"],
        &["set", "weir:{anything", "x"],
        &["WEIR", "SET", LEASE, "x", "TAGS", "t"],
        &["WEIR", "TAG", LEASE, "t"],
    ] {
        refused(through.cmd(command));
    }
    assert_eq!(through.run("MULTI"), Reply::ok());
    refused(through.cmd(&["DEL", LEASE]));
    assert!(through.run("EXEC").is_error("EXECABORT"));
    assert_eq!(raw.cmd(&["GET", LEASE]), Reply::bulk(LEASE_VALUE));
    for near in ["weir:", "weir", "weird:{a}", "a weir:{"] {
        assert_eq!(through.cmd(&["SET", near, "x"]), Reply::ok());
        assert_eq!(through.cmd(&["DEL", near]), Reply::Int(1));
    }

    // A Weir without routes has no keys of its own, but for those that tags need.
    let redis = Redis::start();
    let plain = start(&redis.url(), &sqlite, "");
    let mut through = plain.client();
    assert_eq!(through.cmd(&["SET", LEASE, "x"]), Reply::ok());
    assert_eq!(through.run("KEYS *"), Reply::Array(vec![Reply::bulk(LEASE)]));
    assert_eq!((through.run("DBSIZE"), through.run("RANDOMKEY")), (Reply::Int(1), Reply::bulk(LEASE)));
    assert_eq!(through.run("WEIR SET tagged 1 EX 1000 TAGS t"), Reply::ok());
    assert_eq!(through.run("KEYS *"), Reply::Array(vec![Reply::bulk("tagged")]));
    assert_eq!((through.run("DBSIZE"), through.run("RANDOMKEY")), (Reply::Int(1), Reply::bulk("tagged")));
    refused(through.cmd(&["DEL", LEASE]));
}

#[test]
fn the_upstream_judges_its_own_users_and_they_see_no_others() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let mut raw = redis.client();
    for words in [
        "ACL SETUSER reader on >reader ~* +keys +scan +dbsize +randomkey +hello +ping",
        "ACL SETUSER nobody on >nobody ~* +get",
    ] {
        assert_eq!(raw.run(words), Reply::ok());
    }
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nauth = \"upstream\"\n\
         [upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\n{ROUTE}",
        redis.url(),
        sqlite.url()
    );
    let weir = Weir::start(&config);
    raw.run("SET plain 1");
    raw.cmd(&["SET", LEASE, LEASE_VALUE]);
    let mut reader = weir.client();
    assert_eq!(reader.run("AUTH reader reader"), Reply::ok());
    for hello in ["HELLO 2", "HELLO 3"] {
        reader.run(hello);
        assert_eq!(reader.run("KEYS *"), Reply::Array(vec![Reply::bulk("plain")]));
        assert_eq!(scan(&mut reader, &[]), set(vec!["plain".into()]));
        assert_eq!((reader.run("DBSIZE"), reader.run("RANDOMKEY")), (Reply::Int(1), Reply::bulk("plain")));
    }
    let mut nobody = weir.client();
    assert_eq!(nobody.run("AUTH nobody nobody"), Reply::ok());
    for command in ["KEYS *", "SCAN 0", "DBSIZE", "RANDOMKEY"] {
        assert!(nobody.run(command).is_error("NOPERM"), "{command}");
    }
}
