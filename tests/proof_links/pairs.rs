//! T23: SET and GET in one pipeline, while the client moves to a link of its own and back now and then.

use crate::harness::*;
use crate::over;
use fastrand::Rng;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const ROUTE: &str = "[[route]]\nname = \"note\"\nkey = \"note:{name}\"\nvalue = \"text\"\n\
    load = \"SELECT name FROM products WHERE name = :name\"\n";

#[derive(Default)]
struct Count {
    pairs: AtomicU64,
    moves: AtomicU64,
}

#[test]
fn a_client_reads_its_own_writes_on_whatever_links() {
    let (target, seed) = (size("WEIR_PROOF_PAIRS", 10_000), seed());
    let (redis, shop) = (Redis::start(), Sqlite::shop());
    let database = format!("[database.main]\nurl = \"{}\"\n{ROUTE}", shop.url());
    let weir = over(&redis, 4, "", &database);
    let count = Count::default();
    std::thread::scope(|threads| {
        for client in 0..16 {
            let (count, port) = (&count, weir.port());
            threads
                .spawn(move || write_and_read(port, client, target, count, Rng::with_seed(seed.wrapping_add(client))));
        }
    });
    let (pairs, moves) = (count.pairs.load(SeqCst), count.moves.load(SeqCst));
    println!("T23: {pairs} pairs of SET and GET, 0 mismatches; {moves} times a link of their own");
    assert!(pairs >= target && moves > 0);
}

/// Every second client's key is routed.
fn write_and_read(port: u16, number: u64, target: u64, count: &Count, mut random: Rng) {
    let mut client = Client::connect(port);
    let key = if number.is_multiple_of(2) { format!("note:{number}") } else { format!("plain:{number}") };
    let mut round = 0;
    while count.pairs.load(SeqCst) < target {
        let (mut commands, mut expected) = (Vec::new(), Vec::new());
        let mut pairs = 0;
        for _ in 0..random.u8(1..60) {
            round += 1;
            let value = format!("{number}/{round}");
            let pair = [format!("SET {key} {value}"), format!("GET {key}")];
            let (moved, replies) = match random.u8(..20) {
                0 => (vec![format!("WATCH {key}")], vec![Reply::ok()]),
                1 => (vec!["UNWATCH".into()], vec![Reply::ok()]),
                2 => (vec![format!("BLPOP none:{number} 0.001")], vec![Reply::Nil]),
                3 => {
                    let queued = Reply::Simple("QUEUED".into());
                    let done = Reply::Array(vec![Reply::ok(), Reply::bulk(&value)]);
                    let transaction = [vec!["MULTI".into()], pair.to_vec(), vec!["EXEC".into()]].concat();
                    // The EXEC ends a WATCH too; the pair that follows overwrites what an aborted one has not written.
                    commands.push(raw("UNWATCH"));
                    expected.push(Reply::ok());
                    (transaction, vec![Reply::ok(), queued.clone(), queued, done])
                }
                _ => (Vec::new(), Vec::new()),
            };
            count.moves.fetch_add(u64::from(!moved.is_empty()), SeqCst);
            commands.extend(moved.iter().map(|words| raw(words)));
            expected.extend(replies);
            commands.extend(pair.iter().map(|words| raw(words)));
            expected.extend([Reply::ok(), Reply::bulk(&value)]);
            pairs += 1;
        }
        let replies = client.pipeline(&commands);
        for (index, (reply, expected)) in replies.iter().zip(&expected).enumerate() {
            assert_eq!(reply, expected, "client {number}, command {index} of {commands:?}");
        }
        count.pairs.fetch_add(pairs, SeqCst);
    }
}

fn raw(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}
