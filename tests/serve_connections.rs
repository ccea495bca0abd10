//! What a client's connection is: AUTH, HELLO, inline commands, SELECT, and a clear refusal of what needs more state.
//! Where Redis has a text for it, a redis-server is asked the same and the bytes are compared.

mod harness;

use harness::*;
use std::path::Path;

const PASSWORD: &str = "correct horse";

/// Weir with a password, read from a file.
fn locked(extra: &str) -> (Weir, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("password");
    std::fs::write(&file, PASSWORD).expect("temporary folder");
    let weir = Weir::start(&format!("{}{extra}", server(&file)));
    (weir, folder)
}

fn server(password: &Path) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\npassword = \"file:{}\"\n",
        password.display()
    )
}

/// Sends the same to both and compares the bytes of each reply.
#[track_caller]
fn compare(weir: &mut Client, redis: &mut Client, commands: &[&[&str]]) {
    for words in commands {
        weir.cmd_later(words);
        redis.cmd_later(words);
        let (ours, theirs) = (weir.try_recv_raw(), redis.try_recv_raw());
        let show =
            |raw: std::io::Result<(Reply, Vec<u8>)>| raw.map(|(_, raw)| String::from_utf8_lossy(&raw).into_owned());
        assert_eq!(show(ours).expect("weir answers"), show(theirs).expect("redis answers"), "{words:?}");
    }
}

#[test]
fn auth_answers_as_redis_does() {
    let (weir, _folder) = locked("");
    let redis = Redis::start();
    redis.client().cmd(&["CONFIG", "SET", "requirepass", PASSWORD]);
    compare(
        &mut weir.client(),
        &mut redis.client(),
        &[
            &["PING"],
            &["GET", "k"],
            &["AUTH", "wrong"],
            &["AUTH", "default", "wrong"],
            &["AUTH", "nobody", PASSWORD],
            &["AUTH"],
            &["AUTH", "a", "b", "c"],
            &["GET", "k"],
            &["HELLO", "3"],
            &["HELLO", "3", "AUTH", "default", "wrong"],
            &["AUTH", PASSWORD],
            &["PING"],
            &["GET", "k"],
            &["AUTH", "wrong"],
            &["GET", "k"],
            &["AUTH", "default", PASSWORD],
        ],
    );
}

#[test]
fn auth_without_a_password_answers_as_redis_does() {
    let (weir, redis) = (Weir::start(""), Redis::start());
    compare(&mut weir.client(), &mut redis.client(), &[&["AUTH", "x"], &["AUTH", "default", "x"], &["PING"]]);
}

#[test]
fn hello_switches_the_protocol_and_names_the_client() {
    let (weir, _folder) = locked("");
    let mut client = weir.client();
    let hello = client.cmd(&["HELLO", "3", "AUTH", "default", PASSWORD, "SETNAME", "me"]);
    let Reply::Map(pairs) = hello else { panic!("{hello:?}") };
    let names: Vec<String> = pairs.iter().map(|(name, _)| name.text()).collect();
    assert_eq!(names, ["server", "version", "proto", "id", "mode", "role", "modules"]);
    assert_eq!(pairs[2].1, Reply::Int(3));
    assert_eq!(client.run("CLIENT GETNAME"), Reply::bulk("me"));
    client.run("HSET h f v");
    assert_eq!(client.run("HGETALL h"), Reply::Map(vec![(Reply::bulk("f"), Reply::bulk("v"))]));
    client.send(&raw_command("GET absent"));
    assert_eq!(client.recv_bytes(3), b"_\r\n");
    assert!(matches!(client.run("HELLO 2"), Reply::Array(_)));
    client.send(&raw_command("GET absent"));
    assert_eq!(client.recv_bytes(5), b"$-1\r\n");
}

#[test]
fn hello_refuses_as_redis_does() {
    let (weir, redis) = (Weir::start(""), Redis::start());
    compare(
        &mut weir.client(),
        &mut redis.client(),
        &[
            &["HELLO", "4"],
            &["HELLO", "x"],
            &["HELLO", "3", "NONSENSE"],
            &["HELLO", "3", "SETNAME", "has space"],
            &["HELLO", "3", "SETNAME"],
            &["PING"],
        ],
    );
}

#[test]
fn before_auth_little_may_be_sent() {
    let (weir, _folder) = locked("");
    let mut hostile = weir.client();
    hostile.send(b"*2\r\n$3\r\nGET\r\n$1000000\r\n");
    assert!(matches!(hostile.recv(), Reply::Error(_)));
    assert!(hostile.is_closed());
    let mut many = weir.client();
    many.send(b"*100000\r\n");
    assert!(matches!(many.recv(), Reply::Error(_)));
    assert!(many.is_closed());
    let mut honest = weir.client();
    assert_eq!(honest.cmd(&["AUTH", PASSWORD]), Reply::ok());
    assert_eq!(honest.cmd(&[&b"SET"[..], b"k", &vec![b'v'; 1_000_000]]), Reply::ok());
}

#[test]
fn inline_commands_are_understood_as_redis_does() {
    let (weir, redis) = (Weir::start(""), Redis::start());
    let lines: [&[u8]; 9] = [
        b"PING\r\n",
        b"SET k \"a b\\x41\\n\"\r\n",
        b"GET k\r\n",
        b"  GET   k  \r\n",
        b"SET k 'it''s'\r\n",
        b"SET k 'single \\' quote'\n",
        b"GET k\n",
        b"ECHO \"\"\r\n",
        b"\r\nPING\r\n",
    ];
    let (mut ours, mut theirs) = (weir.client(), redis.client());
    for line in lines {
        // An unbalanced quote ends the connection, in both.
        ours.send(line);
        theirs.send(line);
        let (our, their) = (ours.recv(), theirs.recv());
        assert_eq!(our, their, "{}", String::from_utf8_lossy(line));
        if their.is_error("ERR Protocol error") {
            assert!(ours.is_closed());
            (ours, theirs) = (weir.client(), redis.client());
        }
    }
}

#[test]
fn select_divides_the_embedded_store() {
    let weir = Weir::start("");
    let mut client = weir.client();
    client.run("SET k zero");
    assert_eq!(client.run("SELECT 1"), Reply::ok());
    assert_eq!(client.run("GET k"), Reply::Nil);
    client.run("SET k one");
    assert_eq!(weir.client().run("GET k"), Reply::bulk("zero"), "another client stays where it was");
    assert_eq!(client.run("SELECT 0"), Reply::ok());
    assert_eq!(client.run("GET k"), Reply::bulk("zero"));
    assert!(client.run("SELECT 99999").is_error("ERR DB index is out of range"));
    assert!(client.run("SELECT x").is_error("ERR "));
}

/// What the embedded store has not; not one of these may be answered wrongly, and the connection stays usable.
const NEED_STATE: [&str; 12] = [
    "MULTI",
    "EXEC",
    "WATCH k",
    "SUBSCRIBE c",
    "PSUBSCRIBE c*",
    "SSUBSCRIBE c",
    "BLPOP l 0",
    "BRPOPLPUSH a b 0",
    "BLMOVE a b LEFT RIGHT 0",
    "MONITOR",
    "CLIENT TRACKING ON",
    "WAIT 1 0",
];

#[test]
fn what_the_embedded_store_remembers_nothing_of_is_refused() {
    let weir = Weir::start("");
    let mut client = weir.client();
    for words in NEED_STATE {
        let reply = client.run(words);
        assert!(reply.is_error("ERR "), "{words}: {reply:?}");
        assert!(reply.error().len() > 12, "{words}: the text says why: {reply:?}");
        assert_eq!(client.run("PING"), Reply::Simple("PONG".into()), "after {words}");
    }
}

#[test]
fn what_would_harm_the_upstream_is_refused() {
    let redis = Redis::start();
    let weir = Weir::start(&format!("[upstream]\nurl = \"{}\"\n", redis.url()));
    for words in ["SHUTDOWN NOSAVE", "REPLICAOF 127.0.0.1 1", "DEBUG SLEEP 1", "SYNC", "PSYNC ? -1", "FAILOVER"] {
        let reply = weir.client().run(words);
        assert!(reply.is_error("ERR "), "{words}: {reply:?}");
    }
    assert_eq!(redis.client().run("PING"), Reply::Simple("PONG".into()));
}

#[test]
fn unknown_commands_and_wrong_counts_are_told_as_redis_does() {
    let (weir, redis) = (Weir::start(""), Redis::start());
    compare(
        &mut weir.client(),
        &mut redis.client(),
        &[
            &["NONSENSE"],
            &["NONSENSE", "a", "b"],
            &["nonsense", "a"],
            &["GET"],
            &["get", "a", "b"],
            &["SET", "k"],
            &["HSET", "k", "f"],
            &["MGET"],
            &["PING", "a", "b"],
            &["ECHO"],
            &["SET", "k", "v", "NONSENSE"],
            &["SET", "k", "v", "EX", "0"],
            &["SET", "k", "v", "EX", "x"],
            &["EXPIRE", "k", "x"],
        ],
    );
}

#[test]
fn what_the_embedded_store_lacks_names_the_way_out() {
    let weir = Weir::start("");
    for words in ["LPUSH l a", "ZADD z 1 a", "XADD s * a b", "EVAL return_1 0", "PFADD p a", "GEOADD g 1 1 a"] {
        let reply = weir.client().run(words);
        assert!(reply.is_error("ERR ") && reply.error().contains("[upstream]"), "{words}: {reply:?}");
    }
}

#[test]
fn quit_and_reset_are_answered() {
    let weir = Weir::start("");
    let mut client = weir.client();
    client.run("SELECT 1");
    client.run("HELLO 3");
    assert_eq!(client.run("RESET"), Reply::Simple("RESET".into()));
    client.send(&raw_command("GET absent"));
    assert_eq!(client.recv_bytes(5), b"$-1\r\n", "RESET goes back to RESP2");
    assert_eq!(client.run("QUIT"), Reply::ok());
    assert!(client.is_closed());
}

/// A web page can make a browser POST to this machine; its body must not be run as commands.
#[test]
fn what_looks_like_http_is_hung_up_on() {
    let stack = Stack::start(Pair::EmbeddedSqlite, "");
    for request in ["POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k 1\r\n", "PING\r\nhost: x\r\nSET k 1\r\n"] {
        let mut client = stack.weir.client();
        client.send(request.as_bytes());
        assert!(client.is_closed());
        assert_eq!(stack.weir.client().run("GET k"), Reply::Nil);
    }
}
