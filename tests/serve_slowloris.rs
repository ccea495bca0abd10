//! A19: who lets Weir wait is hung up on, before AUTH and after it, whatever it drips; who is merely idle stays.

mod harness;

use harness::*;
use std::io::Write;
use std::time::Duration;

const PASSWORD: &str = "correct horse";

/// With short limits where the file gives none, and a password if one is asked for.
fn start(locked: bool, limits: &str) -> Weir {
    let password = if locked { format!("password = \"{PASSWORD}\"\n") } else { String::new() };
    Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\n{password}[limits]\n{limits}"
    ))
}

fn closed(weir: &Weir, reason: &str) -> f64 {
    weir.metric("weir_clients_closed_total", &[("reason", reason)])
}

/// Sends the bytes of a command one by one, over and over, until the other side hangs up.
fn drip(client: &Client, bytes: &'static [u8]) -> std::thread::JoinHandle<()> {
    let mut writer = client.writer();
    std::thread::spawn(move || {
        for byte in bytes.iter().cycle() {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            // The pace of a slowloris; nothing is waited for.
            std::thread::park_timeout(Duration::from_millis(20));
        }
    })
}

#[test]
fn before_auth_neither_silence_nor_drips_nor_refused_commands_gain_time() {
    let weir = start(true, "auth_timeout = \"2s\"\n");
    let (mut silent, mut dripping, mut chatty) = (weir.client(), weir.client(), weir.client());
    let mut honest = weir.client();
    assert_eq!(honest.cmd(&["AUTH", PASSWORD]), Reply::ok());
    // An inline command that never ends, and one that is refused each time.
    let drips = drip(&dripping, b"x");
    let chat = drip(&chatty, b"PING\r\n");
    for client in [&mut silent, &mut dripping] {
        assert!(client.recv().is_error("ERR no AUTH within [limits] auth_timeout"));
        assert!(client.is_closed());
    }
    let mut last = chatty.recv();
    while let Ok(reply) = chatty.try_recv() {
        last = reply;
    }
    assert!(last.is_error("ERR no AUTH") || last.is_error("NOAUTH"), "{last:?}");
    assert!(chatty.is_closed());
    drips.join().expect("no panic");
    chat.join().expect("no panic");
    assert_eq!(closed(&weir, "auth_timeout"), 3.0);
    assert_eq!(honest.run("PING"), Reply::Simple("PONG".into()), "who has given AUTH may be idle");
}

#[test]
fn a_command_that_does_not_end_ends_the_connection_and_an_idle_one_stays() {
    let weir = start(false, "command_timeout = \"1s\"\n");
    let (mut idle, mut half, mut dripping) = (weir.client(), weir.client(), weir.client());
    assert_eq!(idle.run("PING"), Reply::Simple("PONG".into()));
    half.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\nhalf");
    dripping.send(b"*2\r\n$3\r\nGET\r\n$1000000\r\n");
    let drips = drip(&dripping, b"x");
    for client in [&mut half, &mut dripping] {
        assert!(client.recv().is_error("ERR no whole command within [limits] command_timeout"));
        assert!(client.is_closed());
    }
    drips.join().expect("no panic");
    assert_eq!(closed(&weir, "command_timeout"), 2.0);
    assert_eq!(idle.run("GET k"), Reply::Nil, "half a command is none");
    assert_eq!(closed(&weir, "idle"), 0.0);
}

#[test]
fn whole_commands_between_the_drips_gain_time() {
    let weir = start(false, "command_timeout = \"3s\"\n");
    let mut client = weir.client();
    let (bytes, commands) = (b"*1\r\n$4\r\nPING\r\n", 40);
    // Always with the next command begun; each is whole within its time, all together are not.
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || {
        writer.write_all(&bytes[..7]).expect("sent");
        for _ in 0..commands {
            std::thread::park_timeout(Duration::from_millis(100));
            writer.write_all(&[&bytes[7..], &bytes[..7]].concat()).expect("sent");
        }
    });
    for _ in 0..commands {
        assert_eq!(client.recv(), Reply::Simple("PONG".into()));
    }
    sender.join().expect("no panic");
}

#[test]
fn an_idle_client_is_closed_where_that_is_asked_for() {
    let weir = start(false, "idle_timeout = \"2s\"\n");
    let mut client = weir.client();
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    assert!(client.try_recv().is_err(), "without a word, as Redis closes it");
    assert_eq!(closed(&weir, "idle"), 1.0);
}

#[test]
fn a_reader_that_takes_nothing_is_closed_and_one_that_takes_a_little_is_not() {
    let weir = start(false, "write_timeout = \"4s\"\nmax_output = \"1MiB\"\n");
    let value = vec![b'v'; 1 << 20];
    assert_eq!(weir.client().cmd(&[&b"SET"[..], b"k", &value]), Reply::ok());
    let (mut stuck, mut slow) = (weir.client(), weir.client());
    const GETS: usize = 32;
    for client in [&mut stuck, &mut slow] {
        client.send(&raw_command("GET k").repeat(GETS));
    }
    // Takes all, some of it every now and then, until the other one is closed.
    let reply = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    let all = reply.repeat(GETS);
    let mut pieces = all.chunks(512 * 1024);
    while closed(&weir, "slow_reader") == 0.0 {
        if let Some(piece) = pieces.next() {
            assert!(slow.recv_bytes(piece.len()) == piece);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    for piece in pieces {
        assert!(slow.recv_bytes(piece.len()) == piece);
    }
    assert_eq!(slow.run("PING"), Reply::Simple("PONG".into()));
    assert!(stuck.is_closed());
    assert_eq!(closed(&weir, "slow_reader"), 1.0);
}
