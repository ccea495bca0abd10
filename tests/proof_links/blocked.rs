//! T33: clients that wait for a list without end, beside others that read; whoever leaves frees the link.

use crate::harness::*;
use crate::{links, over};
use std::time::{Duration, Instant};

const READS: usize = 2_000;

#[test]
fn blocked_clients_are_in_nobodys_way_and_leave_nothing_behind() {
    many_descriptors();
    let count = size("WEIR_PROOF_CLIENTS", 160) as usize;
    let redis = Redis::start();
    let weir = over(&redis, 2, "", "");
    weir.client().run("SET k v");
    let before = read(&weir);
    let mut clients: Vec<Client> = (0..count).map(|_| weir.client()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.run_later(&format!("BLPOP queue:{index} 0"));
    }
    wait_until("all are blocked", || links(&redis, &["cmd=blpop"]) == count);
    let beside = read(&weir);
    // Each is woken by its own list, and blocks again.
    let mut pushes = weir.client();
    for index in (0..count).step_by(3) {
        let (list, element) = (format!("queue:{index}"), format!("element {index}"));
        assert_eq!(pushes.cmd(&["RPUSH", &list, &element]), Reply::Int(1));
        assert_eq!(clients[index].recv(), Reply::Array(vec![Reply::bulk(&list), Reply::bulk(&element)]));
        clients[index].run_later(&format!("BLPOP {list} 0"));
    }
    wait_until("all are blocked again", || links(&redis, &["cmd=blpop"]) == count);
    let left = Instant::now();
    for (index, client) in clients.into_iter().enumerate() {
        if index % 2 == 0 {
            client.abort();
        }
    }
    wait_until("no link waits any more", || links(&redis, &["cmd=blpop"]) == 0);
    println!("T33: {count} blocked clients left, and their links were gone {:?} later", left.elapsed());
    println!("T33: GET alone {}, beside them {}", Spread(&before), Spread(&beside));
    // Nobody is left who could take this.
    assert_eq!(pushes.run("RPUSH queue:0 last"), Reply::Int(1));
    assert_eq!(pushes.run("LLEN queue:0"), Reply::Int(1));
}

/// How long each of some GETs took, sorted.
fn read(weir: &Weir) -> Vec<Duration> {
    let mut client = weir.client();
    let mut taken: Vec<Duration> = (0..READS)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(client.run("GET k"), Reply::bulk("v"));
            begun.elapsed()
        })
        .collect();
    taken.sort_unstable();
    taken
}

struct Spread<'a>(&'a [Duration]);

impl std::fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |share: usize| self.0[self.0.len() * share / 100];
        write!(f, "median {:?}, p99 {:?}", at(50), at(99))
    }
}
