//! SCAN, HSCAN and SSCAN return whatever is there from the first step to the last, though others come and go.

use std::collections::BTreeSet;
use weir::resp::args::OwnedArgs;
use weir::resp::write::Protocol;
use weir::store::embedded::{Context, Embedded};

fn run(store: &Embedded, line: &str) -> String {
    let args: OwnedArgs = line.split(' ').collect();
    let mut out = Vec::new();
    store.execute(Context { db: 0, protocol: Protocol::Resp2 }, args.as_args(), &mut out);
    String::from_utf8(out).expect("text")
}

/// The cursor and the elements of a step.
fn step(store: &Embedded, line: &str) -> (String, Vec<String>) {
    let reply = run(store, line);
    let mut lines = reply.split("\r\n").map(str::to_string);
    let cursor = lines.nth(2).expect("a cursor");
    (cursor, lines.skip(2).step_by(2).filter(|element| !element.is_empty()).collect())
}

/// Walks to the end, with `disturb` between the steps; answers all that was seen and the number of steps.
fn walk(store: &Embedded, command: &str, rest: &str, mut disturb: impl FnMut()) -> (BTreeSet<String>, usize) {
    let (mut cursor, mut seen, mut steps) = ("0".to_string(), BTreeSet::new(), 0);
    loop {
        let (next, elements) = step(store, &format!("{command} {cursor}{rest}"));
        seen.extend(elements);
        steps += 1;
        if next == "0" {
            return (seen, steps);
        }
        cursor = next;
        disturb();
    }
}

#[test]
fn a_scan_sees_every_key_that_stays() {
    for seed in 0..5 {
        fastrand::seed(seed);
        let store = Embedded::new(1 << 28);
        let stays: BTreeSet<String> = (0..2000).map(|number| format!("stays:{number}")).collect();
        stays.iter().for_each(|key| drop(run(&store, &format!("SET {key} v"))));
        let mut others = Vec::new();
        let (seen, steps) = walk(&store, "SCAN", " COUNT 13", || {
            for _ in 0..fastrand::usize(..60) {
                let key = format!("passes:{}", fastrand::u64(..));
                run(&store, &format!("SET {key} v"));
                others.push(key);
            }
            while others.len() > 2000 || (fastrand::bool() && !others.is_empty()) {
                let key = others.swap_remove(fastrand::usize(..others.len()));
                run(&store, &format!("DEL {key}"));
            }
        });
        assert!(stays.is_subset(&seen), "seed {seed}");
        assert!(steps >= 2000 / 13, "COUNT is respected");
    }
}

#[test]
fn a_scan_without_changes_sees_each_key_once_in_steps_of_count() {
    let store = Embedded::new(1 << 28);
    (0..1000).for_each(|number| drop(run(&store, &format!("SET key:{number} v"))));
    let (mut cursor, mut seen) = ("0".to_string(), Vec::new());
    loop {
        let (next, elements) = step(&store, &format!("SCAN {cursor} COUNT 100"));
        assert!(elements.len() <= 100);
        seen.extend(elements);
        if next == "0" {
            break;
        }
        cursor = next;
    }
    assert_eq!(seen.len(), 1000);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>().len(), 1000);
}

#[test]
fn filters_choose_by_pattern_and_type() {
    let store = Embedded::new(1 << 24);
    (0..100).for_each(|number| drop(run(&store, &format!("SET text:{number} v"))));
    (0..50).for_each(|number| drop(run(&store, &format!("HSET hash:{number} f v"))));
    assert_eq!(walk(&store, "SCAN", " TYPE hash", || {}).0.len(), 50);
    assert_eq!(walk(&store, "SCAN", " MATCH *:1?", || {}).0.len(), 20);
    assert_eq!(walk(&store, "SCAN", " MATCH text* TYPE hash", || {}).0.len(), 0);
}

#[test]
fn walks_of_large_hashes_and_sets_see_whatever_stays() {
    fastrand::seed(1);
    let store = Embedded::new(1 << 28);
    for number in 0..1000 {
        run(&store, &format!("HSET hash stays:{number} v"));
        run(&store, &format!("SADD set stays:{number}"));
    }
    let stays = |seen: &BTreeSet<String>| (0..1000).all(|number| seen.contains(&format!("stays:{number}")));
    let disturb = || {
        for _ in 0..20 {
            let name = fastrand::u16(..300);
            let (hash, set) = if fastrand::bool() { ("HSET", "SADD") } else { ("HDEL", "SREM") };
            run(&store, &format!("{hash} hash passes:{name} v"));
            run(&store, &format!("{set} set passes:{name}"));
        }
    };
    assert!(stays(&walk(&store, "HSCAN hash", " COUNT 7", disturb).0));
    assert!(stays(&walk(&store, "SSCAN set", " COUNT 7", disturb).0));
}

#[test]
fn a_cursor_out_of_the_blue_harms_nobody() {
    let store = Embedded::new(1 << 24);
    (0..500).for_each(|number| drop(run(&store, &format!("HSET hash f{number} v"))));
    run(&store, "SET k v");
    for cursor in ["1", "18446744073709551615", "9999999999999", "-1", "549755813887"] {
        assert!(run(&store, &format!("SCAN {cursor}")).starts_with("*2\r\n"));
        assert!(run(&store, &format!("HSCAN hash {cursor}")).starts_with("*2\r\n"));
    }
}
