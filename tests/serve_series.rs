//! Reads that follow each other under one name are answered together, by the near cache or the embedded store: every client sees
//! what it would have seen had it sent them one after the other to Redis.

mod harness;

use harness::*;
use std::io::Write;
use std::time::Duration;

/// Many commands under few keys: most of them GETs that follow each other, between them whatever else may be done to such keys.
fn commands(random: &mut fastrand::Rng, count: usize, multi: bool) -> Vec<String> {
    let mut commands = Vec::new();
    while commands.len() < count {
        let key = || format!("k:{}", fastrand::u32(..40));
        match random.u8(..14) {
            0 => commands.push(format!("SET {} {}", key(), "v".repeat(random.usize(..150)))),
            1 => commands.push(format!("DEL {}", key())),
            2 => commands.push(format!("HSET {} f v", key())),
            3 => commands.push(format!("STRLEN {}", key())),
            4 => commands.push(format!("APPEND {} more", key())),
            5 => commands.push(format!("MGET {}", (0..random.u8(1..40)).map(|_| key()).collect::<Vec<_>>().join(" "))),
            6 => commands.push("GET".into()),
            7 => commands.push(format!("get {}", key())),
            8 => commands.push(format!("GET other:{}", "x".repeat(random.usize(..120)))),
            9 => commands.push(format!("SET {} {}", key(), "large".repeat(4_000))),
            10 if multi => {
                commands.extend(["MULTI".into(), format!("GET {}", key()), format!("GET {}", key()), "EXEC".into()])
            }
            _ => (0..random.u8(1..70)).for_each(|_| commands.push(format!("GET {}", key()))),
        }
    }
    commands
}

/// Sends the same to both, in pieces that end anywhere, and compares each reply.
fn compare(random: &mut fastrand::Rng, weir: &mut Client, redis: &mut Client, commands: &[String]) {
    let bytes: Vec<u8> = commands.iter().flat_map(|command| raw_command(command)).collect();
    let (mut writer, sent, most) = (weir.writer(), bytes.clone(), [20, 300, 20_000][random.usize(..3)]);
    let mut lengths = random.fork();
    let pieces = std::thread::spawn(move || {
        let mut rest = &sent[..];
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(lengths.usize(1..=most).min(rest.len()));
            writer.write_all(piece).expect("it is open");
            rest = others;
        }
    });
    let mut direct = redis.writer();
    let direct = std::thread::spawn(move || direct.write_all(&bytes).expect("it is open"));
    for (number, command) in commands.iter().enumerate() {
        let (expected, found) = (redis.recv(), weir.recv());
        let (command, lengths) =
            (&command[..command.len().min(60)], (format!("{found:?}").len(), format!("{expected:?}").len()));
        assert!(found == expected, "{number}: {command}: answers that are written in {lengths:?} characters");
    }
    pieces.join().expect("all is sent");
    direct.join().expect("all is sent");
}

/// Answers how many GETs there were. The embedded store has no transactions.
fn compared_with_redis(weir: &Weir, multi: bool) -> u64 {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let (mut random, redis, mut gets) = (fastrand::Rng::with_seed(seed), Redis::start(), 0);
    fastrand::seed(seed);
    let (mut client, mut direct) = (weir.client(), redis.client());
    for _ in 0..60 {
        let commands = commands(&mut random, 300, multi);
        gets += commands.iter().filter(|command| command.to_lowercase().starts_with("get")).count() as u64;
        compare(&mut random, &mut client, &mut direct, &commands);
    }
    gets
}

fn gets_counted(weir: &Weir) -> f64 {
    ["ok", "error"]
        .iter()
        .map(|result| weir.metric("weir_commands_total", &[("command", "get"), ("result", result)]))
        .sum()
}

#[test]
fn the_embedded_store_answers_as_redis_does() {
    let weir = Weir::start("[limits]\nmax_output = \"1MiB\"\n");
    let gets = compared_with_redis(&weir, false);
    assert_eq!(gets_counted(&weir), gets as f64);
    let errors = weir.metric("weir_commands_total", &[("command", "get"), ("result", "error")]);
    assert!(errors > 0.0, "GETs of hashes and such without a key are among them");
}

#[test]
fn the_near_cache_answers_as_redis_does() {
    let upstream = Redis::start();
    let weir = Weir::start(&format!(
        "[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[limits]\nmax_output = \"1MiB\"\n\n\
         [[route]]\nname = \"k\"\nkey = \"k:{{id}}\"\nttl = \"1h\"\nnear = \"1h\"\n",
        upstream.url()
    ));
    wait_until("it hears of changes", || weir.metric("weir_near_open", &[]) == 1.0);
    let gets = compared_with_redis(&weir, true);
    assert_eq!(gets_counted(&weir), gets as f64);
    let near = weir.metric("weir_lookups_total", &[("route", "k"), ("outcome", "near_hit")]);
    assert!(near > 1000.0, "{near} near hits");
}

#[test]
fn a_series_may_begin_with_a_command_that_has_come_in_part() {
    let weir = Weir::start("");
    let mut client = weir.client();
    let get = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    for first in 1..get.len() {
        for second in 1..get.len() {
            let all = get.repeat(2);
            for piece in [&all[..first], &all[first..get.len() + second], &all[get.len() + second..]] {
                client.send(piece.as_bytes());
                // So that most pieces are read by themselves.
                std::thread::sleep(Duration::from_micros(300));
            }
            assert_eq!((client.recv(), client.recv()), (Reply::Nil, Reply::Nil), "{first}, {second}");
        }
    }
}

#[test]
fn whoever_takes_its_replies_slowly_is_not_answered_ahead() {
    let weir = Weir::start("[limits]\nmax_output = \"1MiB\"\n");
    let mut client = weir.client();
    client.run(&format!("SET large {}", "v".repeat(100_000)));
    let before = weir.resident_bytes();
    let gets = raw_command("GET large").repeat(2_000);
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || writer.write_all(&gets).expect("it is open"));
    wait_until("it is paused", || weir.metrics().sum("weir_clients_paused_total", &[("reason", "max_output")]) > 0.0);
    let held = weir.resident_bytes().saturating_sub(before);
    assert!(held < 20 << 20, "{held} bytes are held for 2,000 replies of 100,000");
    (0..2_000).for_each(|_| assert_eq!(client.recv().text().len(), 100_000));
    sender.join().expect("all is sent");
}
