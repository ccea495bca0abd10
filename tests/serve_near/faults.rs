//! While changes may go unheard, nothing is kept.

use crate::harness::*;
use crate::setup::*;

fn flushes(weir: &Weir, reason: &str) -> f64 {
    weir.metric("weir_near_flushes_total", &[("reason", reason)])
}

/// T18: only the connection of the pushes hangs; all others are well.
#[test]
fn a_stalled_push_connection_closes_the_cache() {
    let (redis, database) = (Redis::start(), Sqlite::shop());
    let proxy = FaultProxy::start_for(redis.port(), "TRACKING");
    let url = format!("redis://127.0.0.1:{}/0", proxy.port());
    let weir = start_weir(&url, &database, "timeout = \"1s\"\n", "");
    let mut client = weir.client();
    redis.client().run("SET text:1 old");
    bring_in(&redis, &mut client, "GET text:1");
    proxy.set(Fault::BlackHole);
    redis.client().run("SET text:1 new");
    wait_until("the cache is closed", || !is_open(&weir));
    assert_eq!(client.run("GET text:1"), Reply::bulk("new"));
    assert!(proxy.hits() > 0, "no fault has hit");
    wait_until("it is told why", || flushes(&weir, "stalled") >= 1.0);
    assert_eq!(weir.metric("weir_upstream_up", &[]), 1.0, "nothing else has suffered");
    assert!(!is_kept(&mut client, "text:1"));
    proxy.set(Fault::None);
    wait_until_open(&weir);
    bring_in(&redis, &mut client, "GET text:1");
    redis.client().run("SET text:1 newest");
    wait_until("pushes arrive again", || client.run("GET text:1") == Reply::bulk("newest"));
}

#[test]
fn a_lost_push_connection_closes_the_cache_and_is_made_anew() {
    let scene = Scene::start(1);
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    for round in 1..=3 {
        direct.run("SET text:1 old");
        bring_in(&scene.redis, &mut client, "GET text:1");
        let list = direct.run("CLIENT LIST").text();
        let fields = |line: &str, name: &str| {
            line.split(' ').find_map(|field| field.strip_prefix(name).map(str::to_owned)).expect("a field")
        };
        let tracks: Vec<&str> = list.lines().filter(|line| fields(line, "flags=").contains('B')).collect();
        let [line] = tracks[..] else { panic!("one connection listens, not {tracks:?}") };
        // In one step, so that nobody listens when the key changes.
        let id = fields(line, "id=");
        direct.pipeline(&[
            vec!["CLIENT".to_owned(), "KILL".into(), "ID".into(), id],
            vec!["SET".into(), "text:1".into(), "new".into()],
        ]);
        wait_until("the change is seen", || client.run("GET text:1") == Reply::bulk("new"));
        wait_until("it is counted", || flushes(scene.weir(), "lost") == f64::from(round));
        wait_until_open(scene.weir());
    }
}

#[test]
fn a_redis_that_comes_back_has_nothing_kept_of_it() {
    let mut scene = Scene::with(1, "timeout = \"1s\"\n", "");
    let mut client = scene.weir().client();
    scene.redis.client().run("SET text:1 old");
    bring_in(&scene.redis, &mut client, "GET text:1");
    scene.redis.restart();
    wait_until("the row is read again", || client.run("GET text:1") == Reply::bulk("product 1"));
    wait_until_open(scene.weir());
    // Until then it is looked through, and what is put there meanwhile may go, too.
    wait_until("it is trusted", || scene.weir().metric("weir_upstream_trusted", &[]) == 1.0);
    bring_in(&scene.redis, &mut client, "GET text:1");
    scene.redis.client().run("SET text:1 new");
    wait_until("pushes arrive again", || client.run("GET text:1") == Reply::bulk("new"));
}

/// Clients' connections may lead to another server as soon as they are made anew.
#[test]
fn a_server_that_has_become_a_replica_is_not_believed() {
    let (scene, other) = (Scene::start(1), Redis::start());
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    bring_in(&scene.redis, &mut client, "GET text:1");
    assert_eq!(direct.run(&format!("REPLICAOF 127.0.0.1 {}", other.port())), Reply::ok());
    wait_until("the cache is closed", || !is_open(scene.weir()));
    wait_until("it is told why", || flushes(scene.weir(), "no_master") >= 1.0);
    assert_eq!(direct.run("REPLICAOF NO ONE"), Reply::ok());
    wait_until_open(scene.weir());
}

/// An upstream that tells nothing leaves a Weir without a near cache, and says why once.
#[test]
fn without_the_right_to_track_the_cache_stays_closed() {
    let (redis, database) = (Redis::start(), Sqlite::shop());
    let words = "ACL SETUSER weir on >secret ~* &* +@all -client|tracking";
    assert_eq!(redis.client().run(words), Reply::ok());
    let url = format!("redis://weir:secret@127.0.0.1:{}/0", redis.port());
    let config =
        format!("[upstream]\nurl = \"{url}\"\n{PATIENT}[database.main]\nurl = \"{}\"\n{ROUTES}", database.url());
    let weir = Weir::start(&config);
    wait_until("it has been refused", || weir.log().contains("near cache is closed"));
    let mut client = weir.client();
    for _ in 0..3 {
        assert_eq!(client.run("GET text:1"), Reply::bulk("product 1"));
    }
    assert!(!is_kept(&mut client, "text:1") && !is_open(&weir));
    assert_eq!(weir.log().matches("near cache is closed").count(), 1);
    let checked = check(&config);
    assert!(checked.all().contains("client|tracking"), "{}", checked.all());
    assert_eq!(redis.client().run("ACL SETUSER weir +client|tracking"), Reply::ok());
    wait_until_open(&weir);
}

/// The new master is listened to, and nothing is kept of the old one.
#[test]
fn a_failover_is_followed() {
    let (sentinels, database) = (Sentinels::start(), Sqlite::shop());
    let weir = start_weir(&sentinels.url(), &database, PATIENT, "");
    let (mut client, old) = (weir.client(), sentinels.master());
    assert_eq!(sentinels.server(old).run("SET text:1 old"), Reply::ok());
    read_until_kept(&mut client, "GET text:1");
    sentinels.fail_over();
    wait_until("the new master is found", || sentinels.master() != old);
    // What it may have missed as a replica is dropped first, whatever it is.
    wait_until("it is looked through", || {
        let metrics = weir.metrics();
        let seen = |name: &str| metrics.sum(name, &[]);
        seen("weir_upstream_failovers_total") == 1.0
            && seen("weir_upstream_up") == 1.0
            && seen("weir_upstream_trusted") == 1.0
    });
    let mut master = sentinels.server(sentinels.master());
    wait_until("it takes writes", || master.run("SET text:1 new") == Reply::ok());
    wait_until("the change is seen", || client.run("GET text:1") == Reply::bulk("new"));
    wait_until("what it has is kept", || {
        client.run("GET text:1");
        is_kept(&mut client, "text:1")
    });
    assert_eq!(master.run("SET text:1 newest"), Reply::ok());
    wait_until("the new master is listened to", || client.run("GET text:1") == Reply::bulk("newest"));
}
