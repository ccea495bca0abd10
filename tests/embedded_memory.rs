//! `max_memory` holds against the process's resident memory, and is not wasted.
//!
//! Each case runs in a process of its own (this test binary, started again with the case's name), since resident
//! memory is a number of the whole process.

use std::process::Command;
use weir::resp::args::OwnedArgs;
use weir::resp::write::Protocol;
use weir::store::embedded::{Context, Embedded};

const LIMIT: usize = 24 << 20;

/// What a process takes that has nothing to do with how much is stored.
const CONSTANT: usize = 4 << 20;

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).expect("the second number").parse::<usize>().expect("a number") * 4096
}

/// Runs `case` in a fresh process: the first call starts it and waits, the second is in it.
fn alone(name: &str, case: fn()) {
    if std::env::var("WEIR_TEST_CASE").as_deref() == Ok(name) {
        return case();
    }
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("WEIR_TEST_CASE", name)
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text.lines().filter(|line| line.contains("resident")).for_each(|line| println!("{line}"));
}

struct Filler {
    store: Embedded,
    before: usize,
    out: Vec<u8>,
}

impl Filler {
    fn new() -> Self {
        let before = resident();
        Filler { store: Embedded::new(LIMIT), before, out: Vec::new() }
    }

    fn run(&mut self, words: &[&[u8]]) -> &[u8] {
        let args: OwnedArgs = words.iter().collect();
        self.out.clear();
        self.store.execute(Context { db: 0, protocol: Protocol::Resp2 }, args.as_args(), &mut self.out);
        &self.out
    }

    /// Resident growth stays near the limit; `live` payload bytes are still there.
    fn check(&mut self, what: &str) {
        let grown = resident() - self.before;
        let stats = self.store.stats();
        println!(
            "resident {what}: grown {} KiB, counted {} KiB of {} KiB, keys {}, evicted {}",
            grown >> 10,
            stats.bytes >> 10,
            LIMIT >> 10,
            stats.keys,
            stats.evicted
        );
        assert!(stats.bytes <= LIMIT, "{what}: {stats:?}");
        assert!(grown <= LIMIT + LIMIT * 15 / 100 + CONSTANT, "{what}: resident memory grew by {grown}");
    }

    /// Payload bytes of all strings, hashes and sets.
    fn live(&mut self) -> usize {
        let keys = bulks(self.run(&[b"KEYS", b"*"]));
        let mut live = 0;
        for key in keys {
            live += key.len();
            let read: &[u8] = match key[0] {
                b's' => b"GET",
                b'h' => b"HGETALL",
                _ => b"SMEMBERS",
            };
            live += bulks(self.run(&[read, &key])).iter().map(Vec::len).sum::<usize>();
        }
        live
    }
}

/// All bulk strings of a reply.
fn bulks(mut reply: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(line) = reply.windows(2).position(|pair| pair == b"\r\n") {
        let (head, rest) = (&reply[..line], &reply[line + 2..]);
        reply = rest;
        if head[0] == b'$' {
            let length: usize = std::str::from_utf8(&head[1..]).expect("a length").parse().expect("a length");
            found.push(rest[..length].to_vec());
            reply = &rest[length + 2..];
        }
    }
    found
}

fn size(most: usize) -> usize {
    // As many small as large: uniform in the number of digits.
    (most as f64).powf(fastrand::f64()) as usize
}

fn strings() {
    fastrand::seed(1);
    let mut filler = Filler::new();
    let payload = vec![b'x'; 20_000];
    let mut written = 0;
    for number in 0.. {
        if written > 6 * LIMIT {
            break;
        }
        let length = size(20_000);
        written += length;
        filler.run(&[b"SET", format!("string:{number}").as_bytes(), &payload[..length]]);
    }
    filler.check("strings");
    let live = filler.live();
    assert!(live > LIMIT * 60 / 100, "only {live} bytes are live");
}

fn mixed() {
    fastrand::seed(2);
    let mut filler = Filler::new();
    let payload = vec![b'x'; 5_000];
    for number in 0..200_000 {
        let length = size(5_000);
        match fastrand::u8(..4) {
            0 | 1 => drop(filler.run(&[b"SET", format!("string:{number}").as_bytes(), &payload[..length]])),
            2 => {
                let key = format!("hash:{}", number / 40);
                filler.run(&[b"HSET", key.as_bytes(), format!("field{number}").as_bytes(), &payload[..length / 4]]);
            }
            _ => {
                let key = format!("zset:{}", number / 2000);
                filler.run(&[b"SADD", key.as_bytes(), format!("member of some length {number}").as_bytes()]);
            }
        }
    }
    filler.check("mixed");
    let live = filler.live();
    assert!(live > LIMIT * 60 / 100, "only {live} bytes are live");
}

fn shift() {
    fastrand::seed(3);
    let mut filler = Filler::new();
    for number in 0..500_000 {
        filler.run(&[b"SET", format!("s{number}").as_bytes(), b"v"]);
    }
    filler.check("tiny strings");
    let payload = vec![b'x'; 64 << 10];
    for number in 0..10_000 {
        filler.run(&[b"SET", format!("string:{number}").as_bytes(), &payload[..size(64 << 10)]]);
    }
    filler.check("large strings after tiny ones");
    let live = filler.live();
    assert!(live > LIMIT * 60 / 100, "only {live} bytes are live");
}

#[test]
fn strings_of_random_sizes_stay_within_max_memory() {
    alone("strings_of_random_sizes_stay_within_max_memory", strings);
}

#[test]
fn all_types_together_stay_within_max_memory() {
    alone("all_types_together_stay_within_max_memory", mixed);
}

#[test]
fn a_change_from_tiny_to_large_values_stays_within_max_memory() {
    alone("a_change_from_tiny_to_large_values_stays_within_max_memory", shift);
}

#[test]
fn keys_in_use_survive_a_flood_of_others() {
    fastrand::seed(4);
    let mut filler = Filler { store: Embedded::new(4 << 20), before: 0, out: Vec::new() };
    let hot: Vec<String> = (0..500).map(|number| format!("hot:{number}")).collect();
    hot.iter().for_each(|key| drop(filler.run(&[b"SET", key.as_bytes(), &[b'x'; 200]]).to_vec()));
    (0..20_000).for_each(|_| drop(filler.run(&[b"GET", hot[fastrand::usize(..500)].as_bytes()]).to_vec()));
    let (mut hits, mut reads) = (0, 0);
    for number in 0..60_000 {
        filler.run(&[b"SET", format!("flood:{number}").as_bytes(), &[b'y'; 200]]);
        let key = &hot[fastrand::usize(..500)];
        reads += 1;
        if filler.run(&[b"GET", key.as_bytes()]) == b"$-1\r\n" {
            filler.run(&[b"SET", key.as_bytes(), &[b'x'; 200]]);
        } else {
            hits += 1;
        }
    }
    assert!(filler.store.stats().evicted > 30_000);
    assert!(hits * 100 > reads * 98, "{hits} hits of {reads}");
}

#[test]
fn what_is_larger_than_the_whole_store_is_refused() {
    let mut filler = Filler { store: Embedded::new(1 << 20), before: 0, out: Vec::new() };
    let refused = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    assert_eq!(filler.run(&[b"SET", b"k", &vec![0; 2 << 20]]), refused);
    assert_eq!(filler.run(&[b"SETRANGE", b"k", b"2000000", b"x"]), refused);
    assert_eq!(filler.run(&[b"SET", b"k", &vec![0; 1000]]), b"+OK\r\n");
    assert_eq!(filler.run(&[b"STRLEN", b"k"]), b":1000\r\n");
}
