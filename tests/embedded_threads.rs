//! Commands are atomic though all workers share the embedded store.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use weir::resp::args::OwnedArgs;
use weir::resp::write::Protocol;
use weir::store::embedded::{Context, Embedded};
use weir::store::{Acquired, Fill, Filled, StoreKey, Token};
use weir::value::Value;

const THREADS: usize = 4;
const ROUNDS: usize = 20_000;

fn run(store: &Embedded, line: &str) -> String {
    let args: OwnedArgs = line.split(' ').collect();
    let mut out = Vec::new();
    store.execute(Context { db: 0, protocol: Protocol::Resp2 }, args.as_args(), &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn no_increment_is_lost() {
    let store = Embedded::new(1 << 24);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    run(store, "INCR counter");
                    run(store, "HINCRBY hash field 2");
                    run(store, &format!("INCRBY counter{} {thread}", round % 50));
                }
            });
        }
    });
    let total = (THREADS * ROUNDS).to_string();
    assert_eq!(run(&store, "GET counter"), format!("${}\r\n{total}\r\n", total.len()));
    let double = (2 * THREADS * ROUNDS).to_string();
    assert_eq!(run(&store, "HGET hash field"), format!("${}\r\n{double}\r\n", double.len()));
}

#[test]
fn nobody_sees_half_of_a_command_on_several_keys() {
    let store = Embedded::new(1 << 24);
    let done = AtomicBool::new(false);
    run(&store, "MSET a 0 b 0 c 0 d 0");
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let value = format!("{thread}-{round}");
                    // In another order each time: locks are taken in one order all the same.
                    run(store, &format!("MSET {0} {value} {1} {value} {2} {value} {3} {value}", "a", "b", "c", "d"));
                    run(store, &format!("MSET d {value} b {value} a {value} c {value}"));
                    run(store, "RENAME a moving");
                    run(store, "RENAME moving a");
                }
                done.store(true, Relaxed);
            });
        }
        scope.spawn(|| {
            while !done.load(Relaxed) {
                let reply = run(&store, "MGET b d c");
                let values: Vec<&str> = reply.split("\r\n").skip(2).step_by(2).collect();
                assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{reply}");
            }
        });
    });
}

#[test]
fn a_fill_never_overtakes_a_delete_that_was_acknowledged_before_it() {
    let store = Embedded::new(1 << 24);
    let key = StoreKey { db: 0, name: "row".into() };
    let deleted = AtomicBool::new(false);
    for round in 1..=2000u64 {
        store.invalidate(&key);
        deleted.store(false, Relaxed);
        assert_eq!(store.acquire(&key, Token(round), Duration::from_secs(5)), Acquired::Granted);
        let value = Fill::Value { value: Value::String("old".into()), ttl: Duration::from_secs(5), tags: Vec::new() };
        let filled = std::thread::scope(|scope| {
            let delete = scope.spawn(|| run(&store, "DEL row"));
            let filled = scope.spawn(|| store.fill(&key, Token(round), value)).join().expect("no panic");
            delete.join().expect("no panic");
            filled
        });
        assert!(matches!(filled, Filled::Stored | Filled::LeaseLost));
        assert_eq!(run(&store, "GET row"), "$-1\r\n", "whichever came first, nothing is left");
    }
}
