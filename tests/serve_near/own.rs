//! Changes through this very Weir: seen by everybody who asks it later, from the moment of the acknowledgement on.

use crate::harness::*;
use crate::setup::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Ways to set a key to a value.
const SETS: [&str; 6] = [
    "SET {k} {v}",
    "SET {k} {v} EX 100",
    "MSET other:1 x {k} {v}",
    "GETSET {k} {v}",
    "PSETEX {k} 100000 {v}",
    "EVAL return{redis.call('SET',KEYS[1],ARGV[1])} 1 {k} {v}",
];

/// G3.
#[test]
fn a_client_reads_its_own_writes_in_one_pipeline() {
    let scene = Scene::late(1, "");
    let mut client = scene.weir().client();
    let mut random = fastrand::Rng::with_seed(seed());
    for round in 0..sized("WEIR_NEAR_PAIRS", 400) {
        for _ in 0..random.usize(..3) {
            client.run("GET text:1");
        }
        let value = format!("{round:08}");
        let way = SETS[random.usize(..SETS.len())].replace("{k}", "text:1").replace("{v}", &value);
        let pipeline = [
            "GET text:1",
            &way,
            "GET text:1",
            "MGET text:1 text:1",
            "DEL text:1",
            "SET text:1 longer-than-before",
            "STRLEN text:1",
        ]
        .map(words);
        let replies = client.pipeline(&pipeline);
        assert!(!matches!(replies[1], Reply::Error(_)), "{way}: {:?}", replies[1]);
        assert_eq!(replies[2], Reply::bulk(&value), "round {round}, {way}");
        assert_eq!(replies[3].items(), [Reply::bulk(&value), Reply::bulk(&value)], "round {round}, {way}");
        assert_eq!(replies[6], Reply::Int(18), "round {round}");
    }
    assert!(near_hits(scene.weir()) > 0.0, "nothing was kept: nothing was shown");
}

/// Each way to change a key, acknowledged to one client, is seen at once by another, who has just been answered from the
/// near cache.
#[test]
fn every_change_is_seen_by_others_of_this_weir_once_it_is_acknowledged() {
    let scene =
        Scene::late(1, "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nworkers = 2\n");
    let clients = [scene.weir().client(), scene.weir().client()];
    let [mut writer, mut reader] = clients;
    let old = Reply::bulk("old");
    let changes = [
        "SET text:1 new",
        "DEL text:1",
        "UNLINK other text:1",
        "GETDEL text:1",
        "EXPIRE text:1 0",
        "GETEX text:1 PXAT 1",
        "RENAME source text:1",
        "RENAME text:1 elsewhere",
        "COPY source text:1 REPLACE",
        "APPEND text:1 x",
        "MSET text:1 new other x",
        "EVAL return{redis.call('DEL',KEYS[1])} 1 text:1",
        "FLUSHALL",
        "FLUSHDB",
        "MULTI; SET text:1 new; EXEC",
        "MULTI; FLUSHALL; EXEC",
        "MULTI; PING; EVAL return{redis.call('SET',KEYS[1],'new')} 1 text:1; EXEC",
        "WATCH other; MULTI; GETEX text:1 PXAT 1; EXEC",
        "MOVE text:1 5",
        "BITFIELD text:1 SET u8 0 65",
        "SORT list STORE text:1",
    ];
    for (round, change) in changes.iter().cycle().take(changes.len() * 3).enumerate() {
        scene.redis.client().run("FLUSHALL");
        scene.redis.client().run("RPUSH list 1");
        scene.redis.client().run("SET source new");
        scene.redis.client().run("SET text:1 old");
        bring_in(&scene.redis, &mut reader, "GET text:1");
        assert_eq!(reader.run("GET text:1"), old);
        for command in change.split("; ") {
            let reply = writer.run(command);
            assert!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
        }
        assert_ne!(reader.run("GET text:1"), old, "round {round}, after {change}");
        assert_ne!(writer.run("MGET text:1").items()[0], old, "round {round}, after {change}");
    }
    assert!(near_hits(scene.weir()) > 0.0, "nothing was kept: nothing was shown");
}

/// G1 through the Weir that acknowledges, while others read and change without a pause.
#[test]
fn under_load_no_read_is_older_than_what_was_acknowledged_before_it() {
    const KEYS: usize = 4;
    let scene =
        Scene::late(1, "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nworkers = 2\n");
    let (weir, first) = (scene.weir(), seed());
    let versions: [AtomicU64; KEYS] = Default::default();
    let floors: [AtomicU64; KEYS] = Default::default();
    let ends = AtomicBool::new(false);
    let rounds = sized("WEIR_NEAR_PAIRS", 400) * 5;
    std::thread::scope(|threads| {
        let writers: Vec<_> = (0..2)
            .map(|number| {
                let (versions, floors) = (&versions, &floors);
                threads.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(first.wrapping_add(number));
                    let mut client = weir.client();
                    for _ in 0..rounds {
                        // Each key has one writer, so its versions are set in their order.
                        let key = random.usize(..KEYS / 2) * 2 + number as usize;
                        let version = versions[key].fetch_add(1, SeqCst) + 1;
                        let set = format!("SET text:{key} {version:020}");
                        let replies = match random.u8(..3) {
                            0 => client.pipeline(&["MULTI", &set, "EXEC"].map(words)),
                            1 => client.pipeline(&[words("DEL text:nothing"), words(&set)]),
                            _ => vec![client.run(&set)],
                        };
                        assert!(!replies.iter().any(|reply| matches!(reply, Reply::Error(_))), "{replies:?}");
                        floors[key].fetch_max(version, SeqCst);
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|number| {
                let (floors, ends) = (&floors, &ends);
                threads.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(first.wrapping_add(100 + number));
                    let (mut client, mut reads) = (weir.client(), 0_u64);
                    while !ends.load(SeqCst) {
                        let key = random.usize(..KEYS);
                        let floor = floors[key].load(SeqCst);
                        let read = if random.bool() { "GET" } else { "MGET" };
                        let reply = client.run(&format!("{read} text:{key}"));
                        let reply = if let Reply::Array(mut items) = reply { items.remove(0) } else { reply };
                        // A key that nobody has set yet is a row of the database, or none.
                        let version = if let Reply::Bulk(bytes) = &reply { parse(bytes) } else { 0 };
                        assert!(version >= floor, "text:{key} answered {reply:?} after {floor} was acknowledged");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        ends.store(true, SeqCst);
        let reads: u64 = readers.into_iter().map(|reader| reader.join().expect("a reader")).sum();
        println!("{} changes, {reads} reads, {} of them near hits, 0 too old", 2 * rounds, near_hits(weir));
    });
    assert!(near_hits(weir) > 0.0, "nothing was kept: nothing was shown");
}

fn parse(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
