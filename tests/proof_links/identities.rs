//! T31: many clients, each in a database and a protocol of its own choice, over few links.

use crate::harness::*;
use crate::{links, over};
use fastrand::Rng;
use std::collections::HashMap;

const DATABASES: u32 = 16;
const WORKERS: u32 = 2;
const THREADS: u64 = 8;

#[test]
fn a_thousand_clients_in_all_databases_never_meet() {
    many_descriptors();
    let (clients, rounds, seed) = (size("WEIR_PROOF_CLIENTS", 160), size("WEIR_PROOF_ROUNDS", 8), seed());
    let redis = Redis::start();
    let weir = over(&redis, WORKERS, "password = \"open\"\n", "");
    let port = weir.port();
    let work = |thread: u64| {
        let mut random = Rng::with_seed(seed.wrapping_add(thread));
        let numbers = (0..clients).filter(|number| number % THREADS == thread);
        let mut mine: Vec<Guest> = numbers.map(|number| Guest::new(port, number)).collect();
        let mut judged = 0;
        for _ in 0..rounds {
            mine.iter_mut().for_each(|guest| guest.ask(&mut random));
            judged += mine.iter_mut().map(Guest::judge).sum::<u64>();
        }
        judged
    };
    let judged: u64 = std::thread::scope(|threads| {
        let threads: Vec<_> = (0..THREADS).map(|thread| threads.spawn(move || work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no reply is another's")).sum()
    });
    let shared = links(&redis, &["name=weir "]);
    println!(
        "T31: {judged} replies to {clients} clients in {DATABASES} databases, 0 wrong, over {shared} shared links"
    );
    assert!(shared <= (DATABASES * 2 * WORKERS) as usize, "{shared} links for {DATABASES} databases");
}

/// A client that knows what it has written, in which database.
struct Guest {
    number: u64,
    client: Client,
    database: u32,
    authenticated: bool,
    written: HashMap<u32, String>,
    round: u64,
    expected: Vec<(String, Reply)>,
}

impl Guest {
    fn new(port: u16, number: u64) -> Guest {
        let client = Client::connect(port);
        let (database, authenticated, written) = (0, false, HashMap::new());
        Guest { number, client, database, authenticated, written, round: 0, expected: Vec::new() }
    }

    fn say(&mut self, words: String, expected: Reply) {
        let expected = match self.authenticated || words.starts_with("AUTH") {
            true => expected,
            false => Reply::Error("NOAUTH Authentication required.".into()),
        };
        self.client.run_later(&words);
        self.expected.push((words, expected));
    }

    /// Sends some commands, and reads nothing.
    fn ask(&mut self, random: &mut Rng) {
        for _ in 0..random.u8(2..12) {
            self.round += 1;
            let (key, value) =
                (format!("guest:{}", self.number), format!("{}/{}/{}", self.number, self.database, self.round));
            match random.u8(..10) {
                0 => {
                    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
                    self.say("AUTH shut".into(), Reply::Error(wrong.into()));
                }
                1 => {
                    self.say("AUTH open".into(), Reply::ok());
                    self.authenticated = true;
                }
                2..5 => {
                    let database = random.u32(..DATABASES);
                    self.say(format!("SELECT {database}"), Reply::ok());
                    self.database = if self.authenticated { database } else { 0 };
                }
                5..7 => {
                    self.say(format!("SET {key} {value}"), Reply::ok());
                    if self.authenticated {
                        self.written.insert(self.database, value);
                    }
                }
                7 => {
                    let name = format!("guest-{}-{}", self.number, self.round);
                    self.say(format!("CLIENT SETNAME {name}"), Reply::ok());
                    self.say("CLIENT GETNAME".into(), Reply::bulk(&name));
                }
                _ => {
                    let written = self.written.get(&self.database).map_or(Reply::Nil, Reply::bulk);
                    self.say(format!("GET {key}"), written);
                }
            }
        }
    }

    fn judge(&mut self) -> u64 {
        let expected = std::mem::take(&mut self.expected);
        for (words, expected) in &expected {
            let reply = self.client.recv();
            assert_eq!(reply, *expected, "client {} in database {} sent {words}", self.number, self.database);
        }
        expected.len() as u64
    }
}
