//! Changes that do not come through this Weir: seen once their push is here, whoever makes them.

use crate::harness::*;
use crate::setup::*;
use std::time::Duration;

#[test]
fn what_others_change_is_seen_once_it_is_heard_of() {
    let scene = Scene::start(2);
    let (mut reader, mut elsewhere, mut direct) =
        (scene.weirs[0].client(), scene.weirs[1].client(), scene.redis.client());
    let changes = [
        "SET text:1 new",
        "DEL text:1",
        "EXPIRE text:1 0",
        "PEXPIRE text:1 1",
        "RENAME text:1 moved",
        "EVAL return{redis.call('SET','text:1','new')} 0",
        "MULTI; DEL text:1; EXEC",
        "FLUSHALL",
        "FLUSHDB",
        "GETDEL text:1",
    ];
    for change in changes {
        for writer in [&mut elsewhere, &mut direct] {
            writer.run("DEL text:1");
            writer.run("SET text:1 old");
            bring_in(&scene.redis, &mut reader, "GET text:1");
            assert_eq!(reader.run("GET text:1"), Reply::bulk("old"));
            for command in change.split("; ") {
                let reply = writer.run(command);
                assert!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
            }
            wait_until(&format!("{change} is seen"), || reader.run("GET text:1") != Reply::bulk("old"));
        }
    }
    // A script whose keys nobody was told of, through this very Weir (T28).
    reader.run("SET text:1 old");
    bring_in(&scene.redis, &mut reader, "GET text:1");
    reader.run("EVAL return{redis.call('SET','text:1','new')} 0");
    wait_until("the script's change is seen", || reader.run("GET text:1") == Reply::bulk("new"));
    let delays = |weir: &Weir| weir.metric("weir_near_push_delay_seconds_count", &[]);
    wait_until("the pushes' delay is measured", || scene.weirs.iter().all(|weir| delays(weir) > 0.0));
}

#[test]
fn nothing_is_kept_for_longer_than_it_lives_at_the_upstream_nor_than_near() {
    let scene = Scene::start(1);
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    direct.run("SET text:1 short PX 100000");
    bring_in(&scene.redis, &mut client, "GET text:1");
    // In this order, so that the time between the two questions cannot make it look longer; each is rounded.
    let life = direct.run("PTTL text:1").int() as u64;
    let near = left(&mut client, "text:1").expect("it is kept");
    assert!(near <= life + 2, "kept for {near} ms of {life}");
    direct.run("SET text:2 endless");
    bring_in(&scene.redis, &mut client, "GET text:2");
    assert!(left(&mut client, "text:2").is_some_and(|left| left <= 3_600_000));
    // No push tells of the end of a time limit before the server itself has seen it.
    direct.run("DEBUG SET-ACTIVE-EXPIRE 0");
    direct.run("SET text:3 shorter PX 300");
    client.run("GET text:3");
    wait_until("it is gone", || client.run("GET text:3") != Reply::bulk("shorter"));
}

#[test]
fn an_evicted_key_is_heard_of() {
    let scene = Scene::start(1);
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    direct.run("SET text:1 old");
    bring_in(&scene.redis, &mut client, "GET text:1");
    direct.run("CONFIG SET maxmemory-policy allkeys-random");
    direct.run("CONFIG SET maxmemory 1");
    // Only a command that may need memory makes room.
    wait_until("it is evicted, and that is heard of", || {
        direct.run("SET x y");
        !is_kept(&mut client, "text:1")
    });
}

/// T18: many pushes at once, and one that tells of many keys.
#[test]
fn a_storm_of_pushes_is_heard_to_its_end() {
    let scene = Scene::start(1);
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    direct.set_timeout(Duration::from_secs(60));
    let keys = sized("WEIR_NEAR_STORM", 20_000);
    for round in 0..3 {
        let mut words = vec!["MSET".to_owned()];
        words.extend((0..keys).flat_map(|key| [format!("text:{key}"), format!("round {round}")]));
        direct.cmd(&words);
        bring_in(&scene.redis, &mut client, "GET text:7");
        direct.cmd(&words);
        let commands: Vec<Vec<String>> =
            (0..keys).map(|key| vec!["SET".into(), format!("text:{key}"), format!("after {round}")]).collect();
        commands.chunks(1000).for_each(|chunk| drop(direct.pipeline(chunk)));
        wait_until("the last of them is heard of", || {
            client.run("GET text:7") == Reply::bulk(format!("after {round}"))
        });
    }
    assert!(is_open(scene.weir()));
    assert_eq!(scene.weir().metric("weir_near_flushes_total", &[("reason", "too_long")]), 0.0);
}
