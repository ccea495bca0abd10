//! Replies come in request order, to the client that asked, whatever a pipeline holds and however its bytes arrive (G3, T22).

mod harness;

use harness::*;
use std::io::Write;

fn routes(database: &Database) -> String {
    format!(
        r#"
[[route]]
name = "slow"
key = "slow:{{id}}"
load = "SELECT id, name, {} AS held FROM products WHERE id = :id /* slow */"

[[route]]
name = "product"
key = "product:{{id}}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"

[[route]]
name = "user"
key = "user:{{id}}"
value = "hash"
load = "SELECT id, name, visits FROM users WHERE id = :id /* user */"
"#,
        database.held_column(500)
    )
}

over_all_pairs!(
    a_miss_holds_back_later_replies_and_nobody_else,
    however_the_bytes_arrive_the_replies_are_the_same,
    a_client_reads_its_own_writes,
    a_client_that_has_finished_sending_gets_every_reply,
);

fn a_miss_holds_back_later_replies_and_nobody_else(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let (mut client, mut other) = (stack.weir.client(), stack.weir.client());
    other.run("GET product:1");
    let gate = stack.database.shut_gate();
    let pipeline = ["GET slow:1", "GET product:1", "SET k mine", "GET k", "INCR n", "NONSENSE", "GET product:2"];
    client.send(&pipeline.iter().flat_map(|words| raw_command(words)).collect::<Vec<u8>>());
    stack.wait_until_loading(1);
    for _ in 0..10 {
        assert_eq!(other.run("PING"), Reply::Simple("PONG".into()));
        assert_eq!(other.run("GET product:1").json()["id"], 1);
    }
    if gate.is_some() {
        assert_eq!(other.run("GET product:3").json()["id"], 3, "another load does not wait for this one");
        assert!(!client.has_reply(), "a later reply has overtaken the first");
    }
    drop(gate);
    assert_eq!(client.recv().json()["name"], "product 1");
    assert_eq!(client.recv().json()["id"], 1);
    assert_eq!(client.recv(), Reply::ok());
    assert_eq!(client.recv(), Reply::bulk("mine"));
    assert_eq!(client.recv(), Reply::Int(1));
    assert!(client.recv().is_error("ERR unknown command"));
    assert_eq!(client.recv().json()["id"], 2);
}

/// One command of a random mixture; none whose reply depends on the time.
fn random_command(random: &mut fastrand::Rng) -> Vec<String> {
    let key = format!("k{}", random.u8(0..20));
    let id = random.u8(1..30);
    let words = match random.u8(0..16) {
        0 => format!("SET {key} {}", "v".repeat(random.usize(1..200))),
        1 => format!("GET {key}"),
        2 => format!("DEL {key}"),
        3 => format!("INCR {key}"),
        4 => format!("APPEND {key} x"),
        5 => format!("HSET h{key} f{} 1", random.u8(0..4)),
        6 => format!("HGETALL h{key}"),
        7 => format!("MGET {key} product:{id} absent"),
        8 => "PING".into(),
        9 => format!("ECHO {}", random.u64(..)),
        10 => format!("GET product:{id}"),
        11 => format!("HGETALL user:{}", id % 20 + 1),
        12 => "GET product:9999".into(),
        13 => format!("DEL product:{id}"),
        14 => format!("NONSENSE {id}"),
        _ => format!("STRLEN product:{id}"),
    };
    words.split(' ').map(str::to_owned).collect()
}

/// The replies to all of `bytes`, written in pieces by a thread of their own.
fn replies(stack: &Stack, bytes: &[u8], count: usize, mut piece: impl FnMut() -> usize + Send) -> Vec<Vec<u8>> {
    let mut client = stack.weir.client();
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    let mut writer = client.writer();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
                writer.write_all(now).expect("weir reads");
                rest = later;
            }
        });
        (0..count).map(|_| client.try_recv_raw().expect("a reply").1).collect()
    })
}

fn however_the_bytes_arrive_the_replies_are_the_same(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut random = fastrand::Rng::with_seed(seed());
    let commands: Vec<Vec<String>> = (0..2_000).map(|_| random_command(&mut random)).collect();
    let bytes: Vec<u8> = commands.iter().flat_map(|one| command(one)).collect();
    let in_one = replies(&stack, &bytes, commands.len(), || usize::MAX);
    let in_bytes = replies(&stack, &bytes, commands.len(), || 1);
    let in_pieces = replies(&stack, &bytes, commands.len(), || random.usize(1..3_000));
    for (number, words) in commands.iter().enumerate() {
        let show = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
        assert_eq!(show(&in_one[number]), show(&in_bytes[number]), "command {number}, byte by byte: {words:?}");
        assert_eq!(show(&in_one[number]), show(&in_pieces[number]), "command {number}, in pieces: {words:?}");
    }
}

fn a_client_reads_its_own_writes(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    for round in 0..20 {
        let commands: Vec<Vec<String>> = (0..200)
            .flat_map(|n| {
                let key = if n % 2 == 0 { format!("plain:{}", n % 7) } else { format!("product:{}", n % 7 + 1) };
                [vec!["SET".into(), key.clone(), format!("{round}/{n}")], vec!["GET".into(), key]]
            })
            .collect();
        for (number, reply) in client.pipeline(&commands).iter().enumerate().filter(|(number, _)| number % 2 == 1) {
            assert_eq!(*reply, Reply::bulk(format!("{round}/{}", number / 2)));
        }
    }
}

fn a_client_that_has_finished_sending_gets_every_reply(pair: Pair) {
    let stack = Stack::with(pair, routes);
    let mut client = stack.weir.client();
    let commands: Vec<u8> = (1..=50).flat_map(|id| raw_command(&format!("GET product:{id}"))).collect();
    client.send(&commands);
    client.half_close();
    for id in 1..=50 {
        assert_eq!(client.recv().json()["id"], id);
    }
    assert!(client.is_closed());
}
