//! What is not routed behaves as on the Redis behind (G9); when that Redis stops, hangs or breaks off, clients are told, and no
//! reply ever reaches another request (T50).

mod harness;

use harness::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn on(redis_port: u16, timeout: &str) -> Weir {
    Weir::start(&format!("[upstream]\nurl = \"redis://127.0.0.1:{redis_port}/0\"\ntimeout = \"{timeout}\"\n"))
}

/// Commands of all groups whose replies depend on nothing but what came before.
const SEQUENCE: &str = "\
PING|PING hello|ECHO text|SET a 1|GET a|GET absent|SET a 2 NX|SET a 2 XX GET|GETSET a 3|APPEND a 4|STRLEN a|INCR a|INCRBY a 5|\
DECR a|INCRBYFLOAT a 1.5|SETRANGE b 3 x|GETRANGE b 0 -1|MSET c 1 d 2|MGET a c absent d|MSETNX c 1 e 2|GETDEL c|SETEX f 100 v|\
EXISTS a d absent|TYPE a|TYPE absent|DEL a absent|UNLINK d|EXPIRE f 200|PERSIST f|TTL f|TTL absent|EXPIRETIME f|COPY f g|\
RENAME g h|RENAMENX h f|OBJECT ENCODING f|TOUCH f h|SETBIT bits 7 1|GETBIT bits 7|BITCOUNT bits|BITPOS bits 1|\
BITFIELD bits GET u8 0|HSET hash f 1 g 2|HGET hash f|HMGET hash f x g|HGETALL hash|HINCRBY hash f 3|HDEL hash g|HLEN hash|\
HKEYS hash|HVALS hash|HEXISTS hash f|HSETNX hash f 1|HSTRLEN hash f|HSCAN hash 0|HRANDFIELD hash|RPUSH list a b c|LPUSH list z|\
LRANGE list 0 -1|LLEN list|LINDEX list 1|LSET list 0 y|LINSERT list BEFORE b x|LREM list 1 x|LTRIM list 0 2|LPOP list|\
RPOP list 2|LPOS list a|LMPOP 1 list LEFT|RPOPLPUSH list list2|SADD set a|SISMEMBER set a|SMISMEMBER set a b|SCARD set|\
SMEMBERS set|SREM set a|SPOP set|SADD set1 a|SADD set2 a b|SINTER set1 set2|SINTERCARD 2 set1 set2|SDIFF set2 set1|\
ZADD z 1 a 2 b 3 c|ZSCORE z b|ZRANGE z 0 -1 WITHSCORES|ZRANGEBYSCORE z 1 2|ZRANK z c|ZINCRBY z 5 a|ZCARD z|ZCOUNT z 1 3|\
ZPOPMIN z|ZREM z b|ZMSCORE z a x|PFADD p a b|PFCOUNT p|GEOADD geo 13 38 x|GEOPOS geo x|GEODIST geo x x|\
XADD s 1-1 f v|XLEN s|XRANGE s - +|XREAD COUNT 1 STREAMS s 0|XDEL s 1-1|SORT set2 ALPHA|EVAL return{1,'a',{2}} 0|\
EVAL return{err='MINE-x'} 0|SCRIPT EXISTS ffff|EVALSHA ffffffffffffffffffffffffffffffffffffffff 0|DUMP absent|\
PUBLISH channel message|PUBSUB CHANNELS|LPUSH hash x|INCR list2|HGET f x|GET|NONSENSE a b|SET a 1 EX x|OBJECT HELP2|\
SCAN 0 COUNT 1000 MATCH nothing*|DBSIZE|KEYS set*|FLUSHDB|DBSIZE";

fn pass_through_equals_redis(hello: &str) {
    let (bare, behind) = (Redis::start(), Redis::start());
    let weir = on(behind.port(), "20s");
    let (mut ours, mut theirs) = (weir.client(), bare.client());
    ours.run(hello);
    theirs.run(hello);
    for words in SEQUENCE.split('|') {
        ours.run_later(words);
        theirs.run_later(words);
        let our = ours.try_recv_raw().expect("weir answers").1;
        let their = theirs.try_recv_raw().expect("redis answers").1;
        let (our, their) = (String::from_utf8_lossy(&our), String::from_utf8_lossy(&their));
        // Redis itself gives the members of a set in no order that two servers share.
        let sorted = |text: &str| {
            let mut bytes: Vec<u8> = text.bytes().collect();
            bytes.sort_unstable();
            bytes
        };
        match words.split(' ').next() {
            Some("SMEMBERS" | "SINTER" | "SDIFF" | "KEYS" | "HKEYS") => {
                assert_eq!(sorted(&our), sorted(&their), "{words}")
            }
            _ => assert_eq!(our, their, "{words}"),
        }
    }
}

#[test]
fn pass_through_equals_redis_in_resp2() {
    pass_through_equals_redis("HELLO 2");
}

#[test]
fn pass_through_equals_redis_in_resp3() {
    pass_through_equals_redis("HELLO 3");
}

#[test]
fn large_values_and_large_pipelines_pass() {
    let redis = Redis::start();
    let weir = on(redis.port(), "20s");
    let mut client = weir.client();
    let value: Vec<u8> = (0..5_000_000u32).map(|n| n as u8).collect();
    assert_eq!(client.cmd(&[&b"SET"[..], b"big", &value]), Reply::ok());
    assert_eq!(client.run("GET big"), Reply::Bulk(value));
    let commands: Vec<Vec<String>> = (0..5_000).map(|n| vec!["SET".into(), format!("k{n}"), n.to_string()]).collect();
    assert!(client.pipeline(&commands).iter().all(|reply| *reply == Reply::ok()));
    let words: Vec<String> = ["MGET".into()].into_iter().chain((0..5_000).map(|n| format!("k{n}"))).collect();
    let reply = client.cmd(&words);
    assert!(reply.items().iter().zip(0..).all(|(item, n)| *item == Reply::bulk(n.to_string())));
    assert_eq!(reply.items().len(), 5_000);
}

#[test]
fn an_upstream_that_sends_single_bytes_is_understood() {
    let redis = Redis::start();
    let proxy = FaultProxy::start(redis.port());
    let weir = on(proxy.port(), "20s");
    proxy.set(Fault::OneByte);
    let mut client = weir.client();
    client.run("RPUSH l a b c");
    let commands: Vec<Vec<&str>> = (0..50).map(|_| vec!["LRANGE", "l", "0", "-1"]).collect();
    for reply in client.pipeline(&commands) {
        assert_eq!(reply.items().len(), 3);
    }
    assert!(proxy.hits() > 0);
}

#[test]
fn a_restarted_upstream_is_found_again() {
    let mut redis = Redis::start();
    let weir = on(redis.port(), "20s");
    let mut client = weir.client();
    assert_eq!(client.run("SET k v"), Reply::ok());
    assert_eq!(weir.metric("weir_upstream_up", &[]), 1.0);
    redis.kill9();
    wait_until("clients are told", || client.run("GET k").is_error("UPSTREAM "));
    wait_until("the metric says so", || weir.metric("weir_upstream_up", &[]) == 0.0);
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()), "what Weir answers itself it still answers");
    redis.start_again();
    wait_until("the upstream answers again", || client.run("SET k again") == Reply::ok());
    assert_eq!(client.run("GET k"), Reply::bulk("again"));
    assert_eq!(weir.metric("weir_upstream_up", &[]), 1.0);
    assert!(weir.metric("weir_upstream_reconnects_total", &[]) >= 1.0);
}

/// Each client asks only for what contains its own number, and counts what it is told.
struct Crowd {
    ends: AtomicBool,
    answered: AtomicUsize,
    refused: AtomicUsize,
    wrong: AtomicUsize,
}

impl Crowd {
    fn new() -> Crowd {
        Crowd {
            ends: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
        }
    }

    fn ask(&self, port: u16, number: usize) {
        let mut client = Client::connect(port);
        let mut round = 0;
        while !self.ends.load(Ordering::SeqCst) {
            round += 1;
            let (key, value) = (format!("client:{number}"), format!("{number}/{round}"));
            let commands = vec![vec!["SET", &key, &value], vec!["GET", &key], vec!["ECHO", &value]];
            let Ok(replies) = client.try_pipeline(&commands) else {
                // Part of a reply was already passed on: then only the end of the connection can tell the client.
                self.refused.fetch_add(1, Ordering::SeqCst);
                client = Client::connect(port);
                continue;
            };
            for (reply, expected) in replies.iter().zip(["OK", &value, &value]) {
                self.count(reply, expected, &replies, number);
            }
        }
    }

    fn count(&self, reply: &Reply, expected: &str, all: &[Reply], number: usize) {
        let counter = match reply {
            Reply::Error(text) if text.starts_with("UPSTREAM ") => &self.refused,
            Reply::Simple(text) if text == expected => &self.answered,
            Reply::Bulk(bytes) if bytes == expected.as_bytes() => &self.answered,
            // A SET that failed leaves the value of an earlier round, which is still this client's own.
            Reply::Bulk(bytes)
                if all[0].is_error("UPSTREAM ") && bytes.starts_with(format!("{number}/").as_bytes()) =>
            {
                &self.answered
            }
            Reply::Nil if all[0].is_error("UPSTREAM ") => &self.answered,
            other => {
                eprintln!("client {number} wanted {expected} and got {other:?} in {all:?}");
                &self.wrong
            }
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }
}

/// Runs `disturb` while twenty clients ask; ends them; no reply may have been another's.
fn with_a_crowd(weir: &Weir, disturb: impl FnOnce(&Crowd)) {
    let crowd = Crowd::new();
    std::thread::scope(|threads| {
        for number in 0..20 {
            let (crowd, port) = (&crowd, weir.port());
            threads.spawn(move || crowd.ask(port, number));
        }
        let ends = EndOnDrop(&crowd);
        wait_until("the crowd is at work", || crowd.answered() > 200);
        disturb(&crowd);
        let until_now = crowd.answered();
        wait_until("the crowd is at work again", || crowd.answered() > until_now + 500);
        drop(ends);
    });
    assert_eq!(crowd.wrong.load(Ordering::SeqCst), 0);
    assert!(crowd.refused() > 0, "no fault has hit: nothing was shown");
}

/// Ends the crowd also when the disturbance panics; otherwise the scope would wait for ever.
struct EndOnDrop<'a>(&'a Crowd);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_hung_upstream_fails_by_timeout_and_no_late_reply_goes_astray() {
    let redis = Redis::start();
    let weir = on(redis.port(), "300ms");
    with_a_crowd(&weir, |crowd| {
        for _ in 0..3 {
            let before = crowd.refused();
            redis.stop();
            wait_until("every client was told twice", || crowd.refused() > before + 40);
            redis.cont();
            let answered = crowd.answered();
            wait_until("the crowd is answered again", || crowd.answered() > answered + 100);
        }
    });
}

/// A stopped Redis still takes connections, and says nothing: it is the command's time that ends, not the handshake's.
#[test]
fn a_command_waits_for_a_link_of_its_own_no_longer_than_for_its_reply() {
    let redis = Redis::start();
    let weir = on(redis.port(), "250ms");
    assert_eq!(weir.client().run("SET k v"), Reply::ok());
    redis.stop();
    for words in ["MULTI", "WATCH k", "SUBSCRIBE c", "SELECT 16"] {
        assert_eq!(weir.client().run(words).error(), "UPSTREAM did not answer in time", "{words}");
    }
    // A database that every server has is believed in: routed reads go on.
    assert_eq!(weir.client().run("SELECT 7"), Reply::ok());
    redis.cont();
    wait_until("Redis answers again", || weir.client().run("GET k") == Reply::bulk("v"));
}

#[test]
fn links_cut_in_the_middle_of_a_reply_mix_up_nothing() {
    let redis = Redis::start();
    let proxy = FaultProxy::start(redis.port());
    let weir = on(proxy.port(), "20s");
    with_a_crowd(&weir, |crowd| {
        for _ in 0..10 {
            let (hits, refused) = (proxy.hits(), crowd.refused());
            proxy.set(Fault::CutMidway);
            wait_until("a link is cut", || proxy.hits() > hits && crowd.refused() > refused);
            proxy.set(Fault::None);
            let answered = crowd.answered();
            wait_until("the crowd is answered again", || crowd.answered() > answered + 100);
        }
    });
}

#[test]
fn an_upstream_that_is_not_there_at_start_is_waited_for() {
    let mut redis = Redis::start();
    let port = redis.port();
    redis.kill9();
    let weir = Weir::start_unready(&format!("[upstream]\nurl = \"redis://127.0.0.1:{port}/0\"\n"));
    assert!(weir.client().run("GET k").is_error("UPSTREAM "));
    redis.start_again();
    wait_until("the upstream is found", || weir.client().run("GET k") == Reply::Nil);
    wait_until("weir is ready", || weir.admin_get("/readyz").0 == 200);
}
