//! A cluster: every master is listened to, and whatever moves takes with it what is kept.

use crate::harness::*;
use crate::setup::*;

fn keys() -> Vec<String> {
    (0..30).map(|number| format!("text:{{{number}}}")).collect()
}

/// Reads all of them until they are kept, and stay so as long as nobody changes them.
#[track_caller]
fn bring_all_in(writer: &mut Client, reader: &mut Client) {
    for key in keys() {
        settle(writer, reader, &key);
        read_until_kept(reader, &format!("GET {key}"));
    }
}

#[test]
fn what_changes_on_any_master_is_heard_of() {
    let (cluster, database) = (RedisCluster::start(0), Sqlite::shop());
    let weirs = [0, 1].map(|_| start_weir(&cluster.url(), &database, PATIENT, ""));
    let (mut reader, mut writer, mut elsewhere) = (weirs[0].client(), weirs[0].client(), weirs[1].client());
    for key in keys() {
        writer.cmd(&["SET", &key, "old"]);
    }
    bring_all_in(&mut elsewhere, &mut reader);
    assert!(weirs[0].metric("weir_near_entries", &[]) >= 30.0);
    let words: Vec<String> = std::iter::once("MGET".to_owned()).chain(keys()).collect();
    let hits = near_hits(&weirs[0]);
    assert_eq!(reader.cmd(&words).items(), vec![Reply::bulk("old"); 30], "over all slots");
    assert_eq!(near_hits(&weirs[0]) - hits, 30.0);
    for key in keys() {
        assert_eq!(writer.cmd(&["SET", &key, "own"]), Reply::ok());
        assert_eq!(reader.cmd(&["GET", &key]), Reply::bulk("own"), "{key}, at once");
    }
    bring_all_in(&mut elsewhere, &mut reader);
    for key in keys() {
        let words = |text: &str| text.replace("KEY", &key).split(' ').map(str::to_owned).collect::<Vec<_>>();
        let replies = writer.pipeline(&["MULTI", "PING", "SET KEY queued", "EXEC"].map(words));
        assert_eq!(replies[3].items()[1], Reply::ok());
        assert_eq!(reader.cmd(&["GET", &key]), Reply::bulk("queued"), "{key}, at once");
    }
    bring_all_in(&mut elsewhere, &mut reader);
    for key in keys() {
        elsewhere.cmd(&["SET", &key, "new"]);
    }
    wait_until("every change is heard of", || keys().iter().all(|key| reader.cmd(&["GET", key]) == Reply::bulk("new")));
    bring_all_in(&mut elsewhere, &mut reader);
    assert_eq!(writer.run("FLUSHALL"), Reply::ok());
    assert!(keys().iter().all(|key| reader.cmd(&["GET", key]) != Reply::bulk("new")), "on no master anything is left");
}

#[test]
fn a_slot_that_moves_is_listened_to_where_it_goes() {
    let (mut cluster, database) = (RedisCluster::start(0), Sqlite::shop());
    let weir = start_weir(&cluster.url(), &database, PATIENT, "");
    let (mut reader, mut writer) = (weir.client(), weir.client());
    writer.run("SET text:1 old");
    read_until_kept(&mut reader, "GET text:1");
    let slot = cluster.client(0).run("CLUSTER KEYSLOT text:1").int() as u16;
    let from = cluster.masters().into_iter().find(|master| master.slots.contains(&slot)).expect("its owner");
    let to = cluster.add_master();
    cluster.move_slot(slot, &from, &to);
    // The first command that is sent on tells Weir of the new topology.
    assert_eq!(writer.run("SET text:1 moved"), Reply::ok());
    assert_eq!(reader.run("GET text:1"), Reply::bulk("moved"));
    wait_until_open(&weir);
    wait_until("what the new master has is kept", || {
        reader.run("GET text:1");
        is_kept(&mut reader, "text:1")
    });
    assert_eq!(Client::connect(to.port).run("SET text:1 new"), Reply::ok());
    wait_until("the new master is listened to", || reader.run("GET text:1") == Reply::bulk("new"));
}

/// While a slot is half moved, what its new node answers is not kept: nobody listens to a node that owns nothing yet.
#[test]
fn what_a_node_answers_that_is_no_master_yet_is_not_kept() {
    let (mut cluster, database) = (RedisCluster::start(0), Sqlite::shop());
    let weir = start_weir(&cluster.url(), &database, PATIENT, "");
    let mut reader = weir.client();
    assert_eq!(reader.run("SET text:1 old"), Reply::ok());
    let slot = cluster.client(0).run("CLUSTER KEYSLOT text:1").int() as u16;
    let from = cluster.masters().into_iter().find(|master| master.slots.contains(&slot)).expect("its owner");
    let to = cluster.add_master();
    let (mut source, mut target) = (Client::connect(from.port), Client::connect(to.port));
    assert_eq!(target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id)), Reply::ok());
    assert_eq!(source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id)), Reply::ok());
    assert_eq!(source.run(&format!("MIGRATE 127.0.0.1 {} text:1 0 5000", to.port)), Reply::ok());
    for round in 0..20 {
        let value = format!("round-{round}");
        let replies = target.pipeline(&[vec!["ASKING"], vec!["SET", "text:1", &value]]);
        assert_eq!(replies, [Reply::ok(), Reply::ok()]);
        for _ in 0..3 {
            assert_eq!(reader.run("GET text:1"), Reply::bulk(&value));
        }
        assert!(!is_kept(&mut reader, "text:1"), "round {round}");
    }
}
