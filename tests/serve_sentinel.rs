//! Behind sentinels, Weir finds the master and follows it: whoever dies or is demoted, clients need no restart, no write
//! goes to a server that has ceased to be the master, and no reply is another's.
//!
//! `WEIR_FAILOVERS` sets how many failovers of each kind are made under load (default 1).

mod harness;

use harness::*;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn on(url: &str) -> String {
    format!("[upstream]\nurl = \"{url}\"\ntimeout = \"2s\"\n")
}

/// What clients were told.
#[derive(Clone, Debug, Default)]
struct Count {
    commands: usize,
    wrong: usize,
    /// Acknowledged writes that a later read did not find, nor one after them. Replication is asynchronous: a failover may lose some.
    lost: usize,
    errors: BTreeMap<String, usize>,
}

impl Count {
    fn error(&mut self, text: &str) {
        *self.errors.entry(text.to_owned()).or_default() += 1;
    }

    fn failed(&self) -> usize {
        self.errors.values().sum()
    }
}

/// Clients, each with a key of its own, that write and read and look at every reply.
struct Crowd {
    port: u16,
    /// So that no crowd meets the keys of an earlier one.
    name: u64,
    ends: AtomicBool,
    count: Mutex<Count>,
}

const CLIENTS: usize = 8;
/// Between two pipelines of a client.
const REST: Duration = Duration::from_millis(1);

impl Crowd {
    fn count(&self) -> Count {
        self.count.lock().expect("no client panics with it").clone()
    }

    /// Works until it is told to end; the last round whose SET was acknowledged.
    fn ask(&self, number: usize) -> usize {
        let mut client = Client::connect(self.port);
        let (key, mut acknowledged, mut round) = (format!("{}:{number}", self.name), 0, 0);
        while !self.ends.load(Ordering::SeqCst) {
            // The sentinels need the machine too: starved of it they take each other for dead.
            std::thread::park_timeout(REST);
            round += 1;
            let value = format!("{number}/{round}");
            let commands = vec![vec!["GET", &key], vec!["SET", &key, &value], vec!["GET", &key], vec!["ECHO", &value]];
            let replies = client.try_pipeline(&commands);
            let mut count = self.count.lock().expect("no client panics with it");
            count.commands += commands.len();
            let Ok(replies) = replies else {
                count.error("closed in the middle of a reply");
                drop(count);
                client = Client::connect(self.port);
                continue;
            };
            let before = acknowledged;
            if replies[1] == Reply::ok() {
                acknowledged = round;
            }
            for (index, reply) in replies.iter().enumerate() {
                let right = match (index, reply) {
                    (_, Reply::Error(text)) => {
                        count.error(text);
                        true
                    }
                    (0, reply) => {
                        let found = round_of(reply, number).filter(|&found| found < round);
                        count.lost += found.map_or(0, |found| before.saturating_sub(found));
                        found.is_some()
                    }
                    (1, reply) => *reply == Reply::ok(),
                    (2, reply) if acknowledged == round => *reply == Reply::bulk(&value),
                    // A SET that failed may have been made nevertheless.
                    (2, reply) => round_of(reply, number).is_some_and(|found| found <= round),
                    (_, reply) => *reply == Reply::bulk(&value),
                };
                if !right {
                    eprintln!("client {number}, round {round}, acknowledged {before}: {replies:?}");
                    count.wrong += 1;
                }
            }
        }
        acknowledged
    }
}

/// Which of this client's own values this is: 0 for none yet.
fn round_of(reply: &Reply, number: usize) -> Option<usize> {
    match reply {
        Reply::Nil => Some(0),
        Reply::Bulk(bytes) => {
            std::str::from_utf8(bytes).ok()?.strip_prefix(&format!("{number}/"))?.parse::<usize>().ok()
        }
        _ => None,
    }
}

/// Ends the crowd also when the disturbance panics; otherwise the scope would wait for ever.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs `disturb` while clients ask. No reply may be wrong, and what was acknowledged last is on the new master.
fn under_load(weir: &Weir, sentinels: &mut Sentinels, what: &str, disturb: impl FnOnce(&mut Sentinels)) {
    let crowd =
        Crowd { port: weir.port(), name: fastrand::u64(..), ends: AtomicBool::new(false), count: Mutex::default() };
    let begun = Instant::now();
    let acknowledged: Vec<usize> = std::thread::scope(|threads| {
        let asking = |number| {
            let crowd = &crowd;
            threads.spawn(move || crowd.ask(number))
        };
        let clients: Vec<_> = (0..CLIENTS).map(asking).collect();
        let ends = EndOnDrop(&crowd.ends);
        wait_until("the crowd is at work", || crowd.count().commands > 1000);
        disturb(sentinels);
        let then = crowd.count();
        wait_until("the crowd is at work again", || {
            let now = crowd.count();
            now.commands - now.failed() > then.commands - then.failed() + 1000
        });
        drop(ends);
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let count = crowd.count();
    println!(
        "{what}: {} commands in {:.1} s, {} errors, {} wrong, {} acknowledged writes lost by replication; errors: {:?}",
        count.commands,
        begun.elapsed().as_secs_f64(),
        count.failed(),
        count.wrong,
        count.lost,
        count.errors
    );
    assert_eq!(count.wrong, 0);
    for (number, round) in acknowledged.iter().enumerate() {
        let stored = sentinels.server(sentinels.master()).run(&format!("GET {}:{number}", crowd.name));
        assert!(round_of(&stored, number).is_some_and(|stored| stored >= *round), "{number}: {stored:?}, not {round}");
    }
}

/// Makes a failover happen and measures it; the port of the new master.
fn measured(weir: &Weir, sentinels: &mut Sentinels, make: impl FnOnce(&mut Sentinels)) -> u16 {
    let old = sentinels.tcp_port(sentinels.master());
    let announcements = sentinels.announcements();
    let begun = Instant::now();
    std::thread::scope(|threads| {
        let hearing: Vec<_> = announcements
            .into_iter()
            .map(|mut client| {
                threads.spawn(move || {
                    client.recv().items()[2]
                        .text()
                        .split(' ')
                        .nth(4)
                        .map(|port| (port.parse::<u16>().expect("a port"), Instant::now()))
                })
            })
            .collect();
        make(sentinels);
        let written = first_write_elsewhere(weir, old);
        let mut heard: Vec<(u16, Instant)> =
            hearing.into_iter().map(|thread| thread.join().expect("an announcement").expect("five words")).collect();
        heard.sort_by_key(|(_, at)| *at);
        let seconds = |at: Instant| at.duration_since(begun).as_secs_f64();
        println!(
            "announced after {:.3} s (the last sentinel {:.3} s); first write to the new master after {:.3} s",
            seconds(heard[0].1),
            seconds(heard[2].1),
            seconds(written)
        );
        heard[0].0
    })
}

/// When the first write through Weir was acknowledged by another server than that on port `old`.
fn first_write_elsewhere(weir: &Weir, old: u16) -> Instant {
    let mut client = weir.client();
    let old = format!("tcp_port:{old}\r\n");
    wait_for("a write is acknowledged by another master", || {
        let info = client.run("INFO server");
        let elsewhere = matches!(&info, Reply::Bulk(text) if !String::from_utf8_lossy(text).contains(&old));
        (elsewhere && client.run("SET probe 1") == Reply::ok()).then(Instant::now)
    })
}

fn failovers() -> usize {
    std::env::var("WEIR_FAILOVERS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn an_ordered_failover_is_followed_under_load() {
    let mut sentinels = Sentinels::start();
    let weir = Weir::start(&on(&sentinels.url()));
    for _ in 0..failovers() {
        sentinels.settle();
        let old = sentinels.master();
        under_load(&weir, &mut sentinels, "ordered failover", |sentinels| {
            let new = measured(&weir, sentinels, |sentinels| sentinels.fail_over());
            assert_ne!(old, new);
        });
    }
    assert!(weir.log().contains("the master has moved"), "{}", weir.log());
}

#[test]
fn a_killed_master_is_left_and_not_returned_to() {
    let mut sentinels = Sentinels::start();
    let weir = Weir::start(&on(&sentinels.url()));
    for _ in 0..failovers() {
        sentinels.settle();
        let old = sentinels.master();
        under_load(&weir, &mut sentinels, "kill -9 of the master", |sentinels| {
            measured(&weir, sentinels, |sentinels| sentinels.kill9(old));
            sentinels.start_again(old);
            sentinels.settle();
        });
        let commands = sentinels.server(old).run("INFO commandstats").text();
        assert!(!commands.contains("cmdstat_echo:"), "a client came to the old master: {commands}");
    }
}

#[test]
fn a_hung_master_is_left() {
    let mut sentinels = Sentinels::start();
    let weir = Weir::start(&on(&sentinels.url()));
    let old = sentinels.master();
    under_load(&weir, &mut sentinels, "SIGSTOP of the master", |sentinels| {
        measured(&weir, sentinels, |sentinels| sentinels.stop(old));
        sentinels.cont(old);
        sentinels.settle();
    });
}

/// Clients of whose connection the server remembers something.
struct Private {
    transaction: Client,
    watch: Client,
    blocked: Client,
    subscribed: Client,
}

impl Private {
    fn of(weir: &Weir) -> Private {
        let [mut transaction, mut watch, mut blocked, mut subscribed] = std::array::from_fn(|_| weir.client());
        assert_eq!(transaction.run("MULTI"), Reply::ok());
        assert_eq!(transaction.run("SET in:transaction 1"), Reply::Simple("QUEUED".into()));
        assert_eq!(watch.run("WATCH watched"), Reply::ok());
        blocked.run_later("BLPOP nothing 0");
        assert_eq!(subscribed.run("SUBSCRIBE news").items()[2], Reply::Int(1));
        wait_until("a client is blocked", || weir.client().run("INFO clients").text().contains("blocked_clients:1"));
        Private { transaction, watch, blocked, subscribed }
    }

    /// Nobody waits in silence for what can no longer come, and nothing is executed that was remembered elsewhere.
    fn are_told(mut self) {
        assert!(self.subscribed.is_closed());
        let told = |reply: std::io::Result<Reply>| match reply {
            Ok(Reply::Error(text)) => {
                assert!(text.starts_with("UPSTREAM ") || text.starts_with("UNBLOCKED "), "{text}")
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
        };
        told(self.blocked.try_recv());
        let closed = |reply: std::io::Result<Reply>| matches!(&reply, Err(_) | Ok(Reply::Error(_)));
        assert!(closed(self.transaction.try_cmd(&["EXEC"])));
        assert!(closed(self.watch.try_cmd(&["MULTI"])), "the watch was forgotten, and the client not told");
    }
}

#[test]
fn clients_with_connections_of_their_own_are_told_of_a_failover() {
    let mut sentinels = Sentinels::start();
    let weir = Weir::start(&on(&sentinels.url()));
    let private = Private::of(&weir);
    measured(&weir, &mut sentinels, |sentinels| sentinels.fail_over());
    private.are_told();
    sentinels.settle();

    let private = Private::of(&weir);
    let old = sentinels.master();
    measured(&weir, &mut sentinels, |sentinels| sentinels.stop(old));
    private.are_told();
    sentinels.cont(old);
    assert_eq!(weir.metric("weir_upstream_failovers_total", &[]), 2.0);
    assert_eq!(weir.metric("weir_upstream_up", &[]), 1.0);
    assert_eq!(weir.client().run("EXISTS in:transaction"), Reply::Int(0));
}

#[test]
fn a_master_that_was_made_a_replica_takes_no_writes_through_weir() {
    let sentinels = Sentinels::start();
    let weir = Weir::start(&on(&sentinels.url()));
    let mut client = weir.client();
    assert_eq!(client.run("SET k 1"), Reply::ok());
    let master = sentinels.master();
    // By hand, past the sentinels, which go on naming it for a while.
    let other = Redis::start();
    assert_eq!(sentinels.server(master).run(&format!("REPLICAOF 127.0.0.1 {}", other.port())), Reply::ok());
    wait_until("Weir has left it", || {
        let reply = client.run("SET k 2");
        assert!(
            reply.is_error("READONLY ") || reply.is_error("UPSTREAM ") || sentinels.master() != master,
            "{reply:?}"
        );
        reply.is_error("UPSTREAM ")
    });
    assert!(weir.log().contains("replica"), "{}", weir.log());
    assert_eq!(sentinels.server(master).run("REPLICAOF NO ONE"), Reply::ok());
    wait_until("it is the master again, or another is", || client.run("SET k 3") == Reply::ok());
    assert_eq!(sentinels.server(sentinels.master()).run("GET k"), Reply::bulk("3"));
}

#[test]
fn sentinels_may_be_down_restarted_and_out_of_date() {
    let mut sentinels = Sentinels::start();
    let nobody = free_port();
    let good = format!("{},{}", sentinels.address_of(1), sentinels.address_of(2));
    let url = format!("redis-sentinel://127.0.0.1:{nobody},{good}/{NAME}");
    let weir = Weir::start(&on(&url));
    assert_eq!(weir.client().run("SET k 1"), Reply::ok());
    assert_eq!(check(&on(&url)).code, Some(0), "one that is down does not matter");

    (0..3).for_each(|sentinel| sentinels.kill9_sentinel(sentinel));
    wait_until("Weir has found all of them gone", || weir.log().contains("no sentinel leads to the master"));
    assert_eq!(weir.client().run("SET k 2"), Reply::ok(), "the master is where it was");
    let checked = check(&on(&url));
    assert_eq!(checked.code, Some(69));
    assert!(
        checked.stderr.contains("sentinel 127.0.0.1:") && checked.stderr.contains(": connection refused"),
        "{checked:?}"
    );

    (0..3).for_each(|sentinel| sentinels.start_sentinel_again(sentinel));
    sentinels.settle();
    let old = sentinels.master();
    measured(&weir, &mut sentinels, |sentinels| sentinels.fail_over());
    sentinels.settle();
    assert_ne!(sentinels.master(), old);
    assert_eq!(weir.client().run("SET k 3"), Reply::ok());

    // It names a server that takes itself for a master, as one on the far side of a cut network does.
    let lone = Redis::start();
    let cut_off = CutOff::watching(lone.port());
    let weir = Weir::start(&on(&format!("redis-sentinel://{},{good}/{NAME}", cut_off.address())));
    assert_eq!(weir.client().run("SET k 4"), Reply::ok());
    assert_eq!(sentinels.server(sentinels.master()).run("GET k"), Reply::bulk("4"));
    assert_eq!(lone.client().run("DBSIZE"), Reply::Int(0));
}

#[test]
fn sentinels_with_users_let_in_whom_they_know() {
    let user = "user weir on >known resetchannels &+switch-master &+promoted-slave -@all +subscribe \
                +sentinel|get-master-addr-by-name +sentinel|master +sentinel|sentinels\nuser poor on >known &* -@all +subscribe";
    let setup = Setup { password: Some("secret"), sentinels: user, ..Setup::default() };
    let mut sentinels = Sentinels::start_with(&setup);
    let with = |url: &str, user: &str, password: &str| {
        format!("{}sentinel_user = \"{user}\"\nsentinel_password = \"{password}\"\n", on(url))
    };
    // The rights that config/weir.toml names.
    for mut server in sentinels.servers() {
        assert_eq!(server.run("ACL SETUSER weir on >own ~* +info +script|load +role +set +get"), Reply::ok());
    }
    let url = sentinels.url().replace(":secret@", "weir:own@");
    let well = with(&url, "weir", "known");
    assert_eq!(check(&well).code, Some(0), "{well}\n{}", check(&well).stderr);
    let weir = Weir::start(&well);
    assert_eq!(weir.client().run("SET k 1"), Reply::ok());
    measured(&weir, &mut sentinels, |sentinels| sentinels.fail_over());

    let sentinel_hint = "see `sentinel_user` and `sentinel_password` in [upstream]";
    let unknown = url.replace(NAME, "another");
    let cases = [
        (with(&url, "weir", "unknown"), ["AUTH answered WRONGPASS", sentinel_hint]),
        (on(&url), ["SUBSCRIBE answered NOAUTH", sentinel_hint]),
        (with(&url, "poor", "known"), ["SENTINEL answered NOPERM", "give Weir's user of the sentinels this right"]),
        (
            with(&url.replace("weir:own@", ""), "weir", "known"),
            ["its master 127.0.0.1:", "see user and password in the url"],
        ),
        (with(&unknown, "weir", "known"), ["it knows no master named another", "SENTINEL MASTERS"]),
    ];
    for (config, parts) in cases {
        let checked = check(&config);
        println!("{}", checked.stderr);
        assert_eq!(checked.code, Some(69), "{config}\n{checked:?}");
        parts.iter().for_each(|part| assert!(checked.stderr.contains(part), "no `{part}` in\n{}", checked.stderr));
    }
    let lost = Weir::start_unready(&on(&unknown));
    wait_until("the log tells why", || lost.log().contains("no sentinel leads to the master"));
    assert!(lost.client().run("GET k").is_error("UPSTREAM "));
}

#[test]
fn sentinels_and_master_may_speak_tls() {
    let authority = Authority::new();
    let signed = authority.sign("127.0.0.1");
    let setup = Setup { tls: Some((&authority, &signed)), ..Setup::default() };
    let mut sentinels = Sentinels::start_with(&setup);
    let tls = format!("tls = {{ ca = \"{}\" }}\n", authority.file().display());
    let weir = Weir::start(&(on(&sentinels.url()) + &tls));
    assert_eq!(weir.client().run("SET k 1"), Reply::ok());
    let old = sentinels.master();
    let new = measured(&weir, &mut sentinels, |sentinels| sentinels.fail_over());
    assert_ne!(old, new);
    assert_eq!(weir.client().run("SET k 2"), Reply::ok());
    assert_eq!(sentinels.server(new).run("GET k"), Reply::bulk("2"));
    let untrusting = check(&on(&sentinels.url()));
    assert_eq!(untrusting.code, Some(69), "{untrusting:?}");
    assert!(untrusting.stderr.contains("signed by nobody whom Weir trusts"), "{untrusting:?}");
}
