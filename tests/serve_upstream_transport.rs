//! Every way to reach an upstream: TLS with and without certificates of Weir's own, a unix socket, a user with no more
//! rights than Weir needs. What goes wrong is told in words that say what to write instead, by `weir check` and in the log
//! of `weir serve`, which goes on trying.

mod harness;

use harness::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

/// A Redis that speaks TLS on a port of its own, and plain on another for the harness.
struct TlsRedis {
    redis: Redis,
    tls: u16,
}

impl TlsRedis {
    fn start(authority: &Authority, signed: &Signed, more: &[&str]) -> TlsRedis {
        let tls = free_port();
        let files = [&signed.cert, &signed.key, &authority.file()].map(|path| path.display().to_string());
        let [cert, key, ca] = &files;
        let port = tls.to_string();
        let settings = ["--tls-port", &port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca];
        TlsRedis { redis: Redis::start_with(&[&settings[..], more].concat()), tls }
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls)
    }
}

fn upstream(url: &str, more: &str) -> String {
    format!("[upstream]\nurl = \"{url}\"\ntimeout = \"5s\"\n{more}\n")
}

fn trusting(authority: &Authority, more: &str) -> String {
    format!("tls = {{ ca = \"{}\"{more} }}", authority.file().display())
}

fn showing(signed: &Signed) -> String {
    format!(", cert = \"{}\", key = \"{}\"", signed.cert.display(), signed.key.display())
}

#[track_caller]
fn check_is_well(config: &str) {
    let checked = check(config);
    assert_eq!(checked.code, Some(0), "{config}\n{}", checked.stderr);
}

/// `weir check` ends with 69, and its error has all of `parts`.
#[track_caller]
fn check_fails(config: &str, parts: &[&str]) {
    let checked = check(config);
    println!("{}", checked.stderr);
    assert_eq!(checked.code, Some(69), "{config}\n{checked:?}");
    for part in parts {
        assert!(checked.stderr.contains(part), "no `{part}` in\n{}", checked.stderr);
    }
}

/// `weir serve` starts, is not ready, tells its log of `part` and its clients of an unreachable upstream.
#[track_caller]
fn serve_waits(config: &str, part: &str) -> Weir {
    let weir = Weir::start_unready(config);
    wait_until(&format!("the log tells of `{part}`"), || weir.log().contains(part));
    assert_eq!(weir.admin_get("/readyz").0, 503);
    assert!(weir.client().run("GET k").is_error("UPSTREAM "));
    assert_eq!(weir.client().run("PING"), Reply::Simple("PONG".into()));
    weir
}

#[test]
fn over_tls_everything_is_as_in_clear() {
    let authority = Authority::new();
    let mut server = TlsRedis::start(&authority, &authority.sign("127.0.0.1"), &["--tls-auth-clients", "no"]);
    let config = upstream(&server.url(), &trusting(&authority, ""));
    check_is_well(&config);
    let weir = Weir::start(&config);
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut client = weir.client();
        client.run(hello);
        let commands: Vec<Vec<String>> = (0..5_000)
            .flat_map(|n| [vec!["SET".into(), format!("k{n}"), n.to_string()], vec!["GET".into(), format!("k{n}")]])
            .collect();
        let begun = std::time::Instant::now();
        let replies = client.pipeline(&commands);
        println!("{} commands in one pipeline over TLS: {:.2} s", replies.len(), begun.elapsed().as_secs_f64());
        for (n, two) in replies.chunks(2).enumerate() {
            assert_eq!(two, [Reply::ok(), Reply::bulk(n.to_string())]);
        }
        let value: Vec<u8> = (0..5_000_000u32).map(|n| n as u8).collect();
        assert_eq!(client.cmd(&[&b"SET"[..], b"big", &value]), Reply::ok());
        assert_eq!(client.run("GET big"), Reply::Bulk(value));
        assert_eq!(client.run("MULTI"), Reply::ok());
        assert_eq!(client.run("INCR n"), Reply::Simple("QUEUED".into()));
        assert_eq!(client.run("EXEC").items(), [Reply::Int(1)]);
        client.run("DEL n");
    }
    server.redis.restart();
    wait_until("the upstream answers again", || weir.client().run("SET k again") == Reply::ok());
    assert_eq!(weir.client().run("GET k"), Reply::bulk("again"));
}

#[test]
fn a_client_certificate_is_shown_where_one_is_wanted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.sign("weir");
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        let settings = ["--tls-auth-clients", "yes", "--tls-protocols", protocols];
        let server = TlsRedis::start(&authority, &authority.sign("127.0.0.1"), &settings);
        let with = |certificate: &str| upstream(&server.url(), &trusting(&authority, certificate));
        check_is_well(&with(&showing(&own)));
        let weir = Weir::start(&with(&showing(&own)));
        assert_eq!(weir.client().run("SET k v"), Reply::ok());
        check_fails(&with(""), &["TLS", "wants a certificate of Weir's", "add `cert` and `key` to `tls`"]);
        check_fails(&with(&showing(&other.sign("weir"))), &["does not accept Weir's certificate"]);
        serve_waits(&with(""), "wants a certificate of Weir's");
    }
}

#[test]
fn a_server_that_is_not_who_it_should_be_is_not_spoken_to() {
    let (authority, other) = (Authority::new(), Authority::new());
    let no_clients = ["--tls-auth-clients", "no"];
    let server = TlsRedis::start(&authority, &authority.sign("127.0.0.1"), &no_clients);
    let named = TlsRedis::start(&authority, &authority.sign("redis.example"), &no_clients);
    let expired = TlsRedis::start(&authority, &authority.sign_expired(), &no_clients);
    let plain = server.redis.port();
    let cases = [
        (upstream(&server.url(), &trusting(&other, "")), "signed by nobody whom Weir trusts; write the file of its"),
        (upstream(&named.url(), &trusting(&authority, "")), "not made out to 127.0.0.1; write a name that"),
        (upstream(&expired.url(), &trusting(&authority, "")), "the certificate has expired"),
        (upstream(&format!("rediss://127.0.0.1:{plain}"), &trusting(&authority, "")), "write `redis://` in place of"),
        (upstream(&format!("redis://127.0.0.1:{}", server.tls), ""), "write `rediss://` in place of"),
        (upstream(&format!("redis://127.0.0.1:{}", free_port()), ""), "connection refused"),
    ];
    for (config, part) in &cases {
        check_fails(config, &["weir.toml:2", part]);
    }
    for (config, part) in &cases {
        serve_waits(config, part);
    }
    check_is_well(&upstream(&named.url(), &trusting(&authority, ", server_name = \"redis.example\"")));
}

#[test]
fn a_unix_socket_may_come_later_and_come_again() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let socket = folder.path().join("redis.sock");
    let config = upstream(&format!("redis+unix://{}", socket.display()), "");
    check_fails(&config, &["no such file", "is Redis running, with `unixsocket`"]);
    let weir = serve_waits(&config, "no such file");
    let path = socket.display().to_string();
    let mut redis = Redis::start_with(&["--unixsocket", &path, "--unixsocketperm", "700"]);
    wait_until("the upstream is found", || weir.client().run("SET k v") == Reply::ok());
    check_is_well(&config);
    redis.kill9();
    wait_until("clients are told", || weir.client().run("GET k").is_error("UPSTREAM "));
    check_fails(&config, &["connection refused", "Redis has left it behind"]);
    redis.start_again();
    wait_until("the upstream is found again", || weir.client().run("SET k v") == Reply::ok());
    assert!(weir.metric("weir_upstream_reconnects_total", &[]) >= 1.0);
}

#[test]
fn a_unix_socket_out_of_reach_is_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).expect("temporary folder");
    let socket = locked.join("redis.sock");
    let _redis = Redis::start_with(&["--unixsocket", &socket.display().to_string()]);
    std::fs::set_permissions(&locked, Permissions::from_mode(0o000)).expect("own folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, upstream(&format!("redis+unix://{}", socket.display()), "")).expect("temporary folder");
    let checked = run_weir_unprivileged(folder.path(), &["check", &file.display().to_string()]);
    std::fs::set_permissions(&locked, Permissions::from_mode(0o700)).expect("own folder");
    assert_eq!(checked.code, Some(69), "{checked:?}");
    for part in ["permission denied; let Weir's user connect", "`unixsocketperm 770`"] {
        assert!(checked.stderr.contains(part), "no `{part}` in\n{}", checked.stderr);
    }
}

/// What config/weir.toml says that Weir itself needs.
const ALWAYS: [&str; 2] = ["info", "script|load"];
const FOR_ROUTES: [&str; 11] =
    ["eval", "evalsha", "exists", "get", "set", "hget", "hset", "pexpire", "pttl", "unlink", "scan"];
const FOR_TAGS: [&str; 11] =
    ["hkeys", "time", "zadd", "zremrangebyscore", "zrange", "rename", "sadd", "smembers", "srem", "incr", "getex"];
const FOR_WAKING: [&str; 2] = ["publish", "subscribe"];
/// What the clients of the test use beyond that.
const FOR_CLIENTS: &str = "+hgetall +incrby +del";
const KEYS: &str = "~product:* ~user:* ~counter:* ~weir:{* &weir:{*";

/// Gives the user `weir` these rights and no others.
fn set_user(redis: &Redis, keys: &str, rights: impl Iterator<Item = &'static str>) {
    let rights: Vec<String> = rights.map(|right| format!("+{right}")).collect();
    let words = format!("ACL SETUSER weir reset on >secret {keys} {FOR_CLIENTS} {}", rights.join(" "));
    assert_eq!(redis.client().run(words.trim_end()), Reply::ok(), "{words}");
}

fn with_routes(redis: &Redis, userinfo: &str, sqlite: &Sqlite) -> String {
    let url = format!("redis://{userinfo}127.0.0.1:{}", redis.port());
    let database = format!("[database.main]\nurl = \"{}\"\n", sqlite.url());
    let routes = r#"
[[route]]
key = "product:{id}"
load = "SELECT id, name FROM products WHERE id = :id"
tags = ["products"]
[[route]]
key = "user:{id}"
load = "SELECT id, name FROM users WHERE id = :id"
value = "hash"
[[route]]
key = "counter:{name}"
load = "SELECT amount FROM counters WHERE name = :name"
value = "text"
"#;
    format!("{}{database}{routes}", upstream(&url, ""))
}

#[test]
fn the_rights_that_the_manual_names_are_enough_and_none_too_many() {
    let manual = include_str!("../config/weir.toml");
    for right in ALWAYS.iter().chain(&FOR_ROUTES).chain(&FOR_TAGS).chain(&FOR_WAKING) {
        let line = manual.lines().find(|line| line.contains(&format!(" +{right}")));
        assert!(line.is_some_and(|line| line.starts_with('#')), "config/weir.toml does not name +{right}");
    }
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let needed = || ALWAYS.into_iter().chain(FOR_ROUTES).chain(FOR_TAGS);
    let all = || needed().chain(FOR_WAKING);
    let config = with_routes(&redis, "weir:secret@", &sqlite);

    set_user(&redis, KEYS, all());
    check_is_well(&config);
    assert!(!check(&config).stdout.contains("warning"), "{}", check(&config).stdout);
    let weir = Weir::start(&config);
    let mut client = weir.client();
    for _ in 0..2 {
        assert!(client.run("GET product:7").text().contains("product 7"));
        assert_eq!(client.run("GET product:100000"), Reply::Nil);
        assert!(client.run("HGETALL user:7").pairs().contains(&("name".into(), "user 7".into())));
    }
    assert_eq!(client.run("INCRBY counter:a 1"), Reply::Int(11));
    assert_eq!(client.run("DEL product:7"), Reply::Int(1));
    assert_eq!(weir.metric("weir_fills_total", &[("result", "stored")]), 4.0, "{}", weir.metrics().0);
    wait_until("it listens", || weir.metric("weir_upstream_subscribed", &[]) == 1.0);
    assert!(!weir.log().contains("WARN"), "{}", weir.log());

    for missing in FOR_WAKING {
        set_user(&redis, KEYS, all().filter(|right| *right != missing));
        let checked = check(&config);
        assert_eq!(checked.code, Some(0), "it works all the same: {checked:?}");
        let warning = checked.stdout.lines().find(|line| line.starts_with("warning"));
        let warning = warning.unwrap_or_else(|| panic!("no warning in\n{}", checked.stdout));
        assert!(warning.contains(&format!("'{missing}'")) && warning.contains("+publish and +subscribe"), "{warning}");
    }
    set_user(&redis, &KEYS.replace(" &weir:{*", ""), all());
    assert!(check(&config).stdout.contains("one of the channels"), "{}", check(&config).stdout);
    for missing in needed() {
        set_user(&redis, KEYS, all().filter(|right| *right != missing));
        check_fails(&config, &[&format!("'{missing}'"), "give Weir's user this right; config/weir.toml lists all"]);
    }
    set_user(&redis, "~product:* ~user:* ~counter:* &weir:{*", all());
    check_fails(&config, &["key"]);
}

#[test]
fn a_user_who_lacks_a_right_is_told_of_it() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    let config = with_routes(&redis, "weir:secret@", &sqlite);
    let all = || ALWAYS.into_iter().chain(FOR_ROUTES).chain(FOR_TAGS);

    set_user(&redis, KEYS, all().filter(|right| *right != "set"));
    let weir = Weir::start(&config);
    assert!(weir.client().run("GET product:7").text().contains("product 7"), "it is served, and not cached");
    wait_until("the log says so", || {
        let log = weir.log();
        log.contains("the upstream refuses what caching needs") && log.contains("`weir check FILE` names it")
    });
    check_fails(&config, &["'set'"]);
    set_user(&redis, KEYS, all());
    wait_until("it is cached", || {
        weir.client().run("GET product:7");
        redis.client().run("EXISTS product:7") == Reply::Int(1)
    });
    drop(weir);

    set_user(&redis, KEYS, all().filter(|right| *right != "script|load"));
    let weir = serve_waits(&config, "'script|load'");
    set_user(&redis, KEYS, all());
    wait_until("the upstream lets Weir in", || weir.admin_get("/readyz").0 == 200);
}

#[test]
fn wrong_passwords_are_told_and_put_right_without_a_restart() {
    let (redis, sqlite) = (Redis::start(), Sqlite::shop());
    set_user(&redis, KEYS, ALWAYS.into_iter().chain(FOR_ROUTES).chain(FOR_TAGS));
    let hint = "see user and password in the url of [upstream]";
    let wrong = with_routes(&redis, "weir:wrong@", &sqlite);
    check_fails(&wrong, &["AUTH answered WRONGPASS", hint]);
    let weir = serve_waits(&wrong, "AUTH answered WRONGPASS");
    assert!(weir.client().run("GET k").is_error("UPSTREAM refused: AUTH answered WRONGPASS"));
    redis.client().run("ACL SETUSER weir >wrong");
    wait_until("the upstream lets Weir in", || weir.admin_get("/readyz").0 == 200);

    assert_eq!(redis.client().run("CONFIG SET requirepass secret"), Reply::ok());
    let none = with_routes(&redis, "", &sqlite);
    check_fails(&none, &["answered NOAUTH", hint]);
    serve_waits(&none, "answered NOAUTH");
    check_is_well(&with_routes(&redis, ":secret@", &sqlite));
}

#[test]
fn a_server_that_has_no_room_says_so() {
    let redis = Redis::start();
    let mut other = redis.client();
    assert_eq!(other.run("CONFIG SET maxclients 1"), Reply::ok());
    let config = upstream(&redis.url(), "");
    check_fails(&config, &["max number of clients reached"]);
    let weir = serve_waits(&config, "max number of clients reached");
    assert_eq!(other.run("CONFIG SET maxclients 100"), Reply::ok());
    wait_until("there is room", || weir.client().run("SET k v") == Reply::ok());
}
