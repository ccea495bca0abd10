//! Expired keys are never seen, and their memory comes back without anybody asking for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weir::resp::args::OwnedArgs;
use weir::resp::write::Protocol;
use weir::store::embedded::{Context, Embedded, TimeSource};

const START: u64 = 1_700_000_000_000;

fn store() -> (Embedded, Arc<AtomicU64>) {
    let clock = Arc::new(AtomicU64::new(START));
    let hand = clock.clone();
    (Embedded::with_time(1 << 28, TimeSource::from_fn(move || hand.load(Relaxed))), clock)
}

fn run(store: &Embedded, line: &str) -> String {
    let args: OwnedArgs = line.split(' ').collect();
    let mut out = Vec::new();
    store.execute(Context { db: 0, protocol: Protocol::Resp2 }, args.as_args(), &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn no_command_sees_an_expired_key() {
    let (store, clock) = store();
    for reads in [
        ["GET k", "$-1\r\n"],
        ["EXISTS k", ":0\r\n"],
        ["TTL k", ":-2\r\n"],
        ["TYPE k", "+none\r\n"],
        ["KEYS *", "*0\r\n"],
        ["SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n"],
        ["RANDOMKEY", "$-1\r\n"],
        ["MGET k", "*1\r\n$-1\r\n"],
        ["DEL k", ":0\r\n"],
        ["SETNX k new", ":1\r\n"],
        ["RENAME k l", "-ERR no such key\r\n"],
        ["SET k v XX", "$-1\r\n"],
        ["APPEND k ab", ":2\r\n"],
        ["INCR k", ":1\r\n"],
        ["PERSIST k", ":0\r\n"],
        ["COPY k l", ":0\r\n"],
        ["GETEX k", "$-1\r\n"],
        ["HGETALL k", "*0\r\n"],
        ["SADD k m", ":1\r\n"],
        ["OBJECT ENCODING k", "$-1\r\n"],
        ["EXPIRE k 10", ":0\r\n"],
        ["SUNION k", "*0\r\n"],
    ] {
        run(&store, "FLUSHALL");
        run(&store, "SET k old PX 1000");
        clock.fetch_add(999, Relaxed);
        assert_eq!(run(&store, "GET k"), "$3\r\nold\r\n");
        clock.fetch_add(1, Relaxed);
        assert_eq!(run(&store, reads[0]), reads[1], "{}", reads[0]);
    }
}

#[test]
fn the_sweep_gives_memory_back_in_bounded_steps() {
    let (store, clock) = store();
    (0..50_000).for_each(|number| drop(run(&store, &format!("SET expires:{number} v EX {}", 1 + number % 50))));
    (0..1000).for_each(|number| drop(run(&store, &format!("SET stays:{number} v"))));
    let full = store.stats().bytes;
    clock.fetch_add(25_000, Relaxed);
    let steps = |store: &Embedded, left: usize| {
        (1..500).find(|_| {
            store.sweep();
            store.stats().keys <= left
        })
    };
    assert!(steps(&store, 26_000).is_some(), "{:?}", store.stats());
    clock.fetch_add(25_000, Relaxed);
    assert!(steps(&store, 1000).is_some(), "{:?}", store.stats());
    let stats = store.stats();
    assert_eq!((stats.keys, stats.expired), (1000, 50_000));
    assert!(stats.bytes < full / 10, "{} of {full}", stats.bytes);
}

#[test]
fn absolute_times_come_back_as_they_were_given() {
    let (store, clock) = store();
    run(&store, "SET k v PXAT 1800000000123");
    assert_eq!(run(&store, "PEXPIRETIME k"), ":1800000000123\r\n");
    assert_eq!(run(&store, "EXPIREAT k 1900000000"), ":1\r\n");
    assert_eq!(run(&store, "EXPIRETIME k"), ":1900000000\r\n");
    clock.store(1_899_999_999_999, Relaxed);
    assert_eq!(run(&store, "PTTL k"), ":1\r\n");
    clock.store(1_900_000_000_000, Relaxed);
    assert_eq!(run(&store, "GET k"), "$-1\r\n");
}

#[test]
fn conditions_compare_deadlines() {
    let (store, _) = store();
    run(&store, "SET k v");
    let steps = [
        ("EXPIRE k 100 XX", 0),
        ("EXPIRE k 100 GT", 0),
        ("EXPIRE k 100 LT", 1),
        ("EXPIRE k 100 NX", 0),
        ("EXPIRE k 100 GT", 0),
        ("EXPIRE k 101 GT", 1),
        ("EXPIRE k 101 LT", 0),
        ("EXPIRE k 50 LT", 1),
        ("EXPIRE k -1 GT", 0),
        ("EXPIRE k -1 XX LT", 1),
        ("EXISTS k", 0),
    ];
    for (line, expected) in steps {
        assert_eq!(run(&store, line), format!(":{expected}\r\n"), "{line}");
    }
}
