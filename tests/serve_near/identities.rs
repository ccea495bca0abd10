//! T20: what is kept is for the database and the user that it was read in and as.

use crate::harness::*;
use crate::setup::*;

#[test]
fn each_database_has_its_own() {
    let scene = Scene::start(1);
    let mut direct = scene.redis.client();
    let mut clients: Vec<Client> = (0..3)
        .map(|db| {
            let mut client = scene.weir().client();
            for client in [&mut client, &mut direct] {
                assert_eq!(client.run(&format!("SELECT {db}")), Reply::ok());
            }
            direct.run(&format!("SET text:1 of-{db}"));
            client
        })
        .collect();
    for round in 0..5 {
        wait_until("all are kept side by side", || {
            clients.iter_mut().enumerate().all(|(db, client)| {
                assert_eq!(client.run("GET text:1"), Reply::bulk(format!("of-{db}")), "round {round}");
                is_kept(client, "text:1")
            })
        });
        // Still in the last database: a push names no database, so that it meets all of them.
        direct.run("SET text:1 of-2");
        wait_until("it is heard of", || clients.iter_mut().all(|client| !is_kept(client, "text:1")));
    }
    assert_eq!(clients[0].run("SELECT 1"), Reply::ok());
    assert_eq!(clients[0].run("GET text:1"), Reply::bulk("of-1"));
}

#[test]
fn a_user_without_the_right_is_refused_what_another_has_brought_in() {
    let users = UsersFile::new(
        "[user.default]\nnopass = true\n[user.other]\npassword = \"other-secret\"\nkeys = [\"~far:*\"]\n",
    );
    let sections = format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nusers = \"{}\"\n",
        users.path().display()
    );
    let scene = Scene::with(1, PATIENT, &sections);
    let mut client = scene.weir().client();
    bring_in(&scene.redis, &mut client, "GET text:1");
    let mut other = scene.weir().client();
    assert_eq!(other.run("AUTH other other-secret"), Reply::ok());
    for read in ["GET text:1", "MGET text:1", "STRLEN text:1"] {
        assert!(other.run(read).is_error("NOPERM"), "{read}");
    }
}

/// The upstream's users: each has what it has read itself, by the command that it has read it with.
#[test]
fn users_of_the_upstream_share_nothing() {
    let redis = Redis::start();
    let mut admin = redis.client();
    for user in [
        "ACL SETUSER one on >secret ~* &* +@all",
        "ACL SETUSER two on >secret ~* &* +@all",
        "ACL SETUSER three on >secret ~far:* &* +@all",
        "ACL SETUSER four on >secret ~* &* +@all -pttl",
    ] {
        assert_eq!(admin.run(user), Reply::ok());
    }
    let database = Sqlite::shop();
    let sections = "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nauth = \"upstream\"\n";
    let weir = start_weir(&redis.url(), &database, PATIENT, sections);
    let mut clients = ["one", "two", "three", "four"].map(|user| {
        let mut client = weir.client();
        assert_eq!(client.cmd(&["AUTH", user, "secret"]), Reply::ok());
        client
    });
    let [one, two, three, four] = &mut clients;
    admin.run("SET text:1 v");
    // A user of the upstream may not ask WEIR EXPLAIN: the counter tells.
    let hits_after = |client: &mut Client, read: &str| {
        let before = near_hits(&weir);
        let reply = client.run(read);
        (reply, near_hits(&weir) - before)
    };
    wait_until("it is kept for the first", || hits_after(one, "GET text:1") == (Reply::bulk("v"), 1.0));
    assert_eq!(hits_after(two, "GET text:1"), (Reply::bulk("v"), 0.0), "the second has not read it yet");
    assert_eq!(hits_after(two, "GET text:1"), (Reply::bulk("v"), 1.0));
    assert_eq!(hits_after(two, "STRLEN text:1"), (Reply::Int(1), 0.0), "a right to GET is none to STRLEN");
    assert_eq!(hits_after(two, "MGET text:1"), (Reply::Array(vec![Reply::bulk("v")]), 0.0));
    assert!(three.run("GET text:1").is_error("NOPERM"));
    for _ in 0..3 {
        assert_eq!(hits_after(four, "GET text:1"), (Reply::bulk("v"), 0.0), "nobody knows how long it lives");
    }
    assert_eq!(one.run("SET text:1 w"), Reply::ok());
    assert_eq!([one.run("GET text:1"), two.run("GET text:1")], [Reply::bulk("w"), Reply::bulk("w")]);
}
