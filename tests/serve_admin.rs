//! What operators see: health, metrics, explanations, checks, exit codes, and a clean end.

mod harness;

use harness::*;
use std::path::PathBuf;

const ROUTE: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"
ttl = "1h"
"#;

#[test]
fn health_and_readiness_are_told() {
    let stack = Stack::start(Pair::EmbeddedSqlite, ROUTE);
    assert_eq!(stack.weir.admin_get("/healthz").0, 200);
    assert_eq!(stack.weir.admin_get("/readyz").0, 200);
    assert_eq!(stack.weir.admin_get("/nonsense").0, 404);
}

#[test]
fn readiness_ends_with_the_upstream_and_health_does_not() {
    let mut stack = Stack::start(Pair::RedisSqlite, ROUTE);
    let redis = stack.redis.as_mut().expect("the pair has a Redis");
    redis.kill9();
    wait_until("weir is not ready", || stack.weir.admin_get("/readyz").0 == 503);
    assert_eq!(stack.weir.admin_get("/healthz").0, 200);
    redis.start_again();
    wait_until("weir is ready again", || stack.weir.admin_get("/readyz").0 == 200);
}

#[test]
fn the_promised_metrics_are_there_and_no_key_is_a_label() {
    let stack = Stack::start(Pair::RedisPostgres, ROUTE);
    let mut client = stack.weir.client();
    client.run("GET product:1");
    client.run("GET product:1");
    client.run("DEL product:1");
    client.run("GET unrouted-secret-key");
    let metrics = stack.weir.metrics();
    for name in [
        "weir_lookups_total",
        "weir_loads_total",
        "weir_load_duration_seconds",
        "weir_loads_in_flight",
        "weir_loads_waiting",
        "weir_loads_shed_total",
        "weir_database_up",
        "weir_fills_total",
        "weir_invalidations_total",
        "weir_commands_total",
        "weir_command_duration_seconds",
        "weir_clients",
        "weir_upstream_up",
        "weir_build_info",
    ] {
        assert!(metrics.has(name), "{name} is missing in:\n{}", metrics.0);
    }
    assert_eq!(metrics.sum("weir_clients", &[]), 1.0);
    assert!(metrics.sum("weir_commands_total", &[("command", "get")]) >= 3.0, "{}", metrics.0);
    for key in ["product:1", "unrouted-secret-key"] {
        assert!(!metrics.0.contains(key), "a key is a label");
    }
}

#[test]
fn the_number_of_series_does_not_grow_with_what_clients_invent() {
    let weir = Weir::start("");
    let mut client = weir.client();
    client.run("NONSENSE0");
    let before = weir.metrics().0.lines().count();
    for n in 1..200 {
        client.run(&format!("NONSENSE{n}"));
    }
    assert_eq!(weir.metrics().0.lines().count(), before);
}

#[test]
fn explain_tells_what_answers_a_key() {
    let stack = Stack::start(Pair::EmbeddedSqlite, ROUTE);
    let mut client = stack.weir.client();
    client.run("HELLO 3");
    let reply = client.run("WEIR EXPLAIN product:7");
    assert!(matches!(reply, Reply::Map(_)), "{reply:?}");
    let names: Vec<String> = match &reply {
        Reply::Map(pairs) => pairs.iter().map(|(name, _)| name.text()).collect(),
        _ => Vec::new(),
    };
    assert!(names.iter().any(|name| name == "route"), "{names:?}");
    let Reply::Map(pairs) = &reply else { unreachable!("it is a map") };
    assert!(pairs.iter().any(|(name, value)| name.text() == "route" && value.text() == "product"), "{pairs:?}");
    assert!(matches!(client.run("WEIR EXPLAIN unrouted"), Reply::Map(_)));
    assert!(client.run("WEIR NONSENSE").is_error("ERR "));
    let admin = format!("127.0.0.1:{}", stack.weir.admin());
    let printed = run_weir(&["explain", "--admin", &admin, "product:7"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    for part in ["product", "SELECT id, name, price", "7"] {
        assert!(printed.stdout.contains(part), "{part} is missing: {printed:?}");
    }
}

#[test]
fn explain_without_a_proxy_says_that_none_answers() {
    let admin = format!("127.0.0.1:{}", free_port());
    let printed = run_weir(&["explain", "--admin", &admin, "product:7"]);
    assert_eq!(printed.code, Some(69), "{printed:?}");
    assert!(printed.stderr.contains(&admin), "{printed:?}");
}

struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> File {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("my.toml");
        std::fs::write(&path, text).expect("temporary folder");
        File { path, _folder: folder }
    }

    fn check(&self, options: &[&str]) -> Finished {
        let path = self.path.display().to_string();
        run_weir(&[&["check"], options, &[path.as_str()]].concat())
    }
}

fn with_database(url: &str, route: &str) -> File {
    File::new(&format!("[database.main]\nurl = \"{url}\"\n[defaults]\ndatabase = \"main\"\n{route}"))
}

#[test]
fn check_accepts_what_serves() {
    for pair in [Pair::EmbeddedSqlite, Pair::EmbeddedPostgres] {
        let database = Database::shop(pair);
        let checked = with_database(&database.url(), ROUTE).check(&[]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.stdout.contains("product"), "the resolved route is shown: {checked:?}");
    }
}

#[test]
fn check_names_the_place_and_the_way_out() {
    let database = Database::shop(Pair::EmbeddedSqlite);
    let cases = [
        ("ttll = \"1h\"\nkey = \"a:{id}\"\nload = \"SELECT name FROM products WHERE id = :id\"", "ttll"),
        ("ttl = \"1 fortnight\"\nkey = \"a:{id}\"\nload = \"SELECT name FROM products WHERE id = :id\"", "fortnight"),
        ("ttl = 5\nkey = \"a:{id}\"\nload = \"SELECT name FROM products WHERE id = :id\"", "ttl"),
        ("key = \"a:{id}\"\nload = \"SELECT name FROM products WHERE id = :other\"", "other"),
        ("key = \"a:{id}\"\nload = \"SELECT name FROM products WHERE id = :id\"\ndatabase = \"nowhere\"", "nowhere"),
        ("key = \"a:{id}\"\nload = \"SELECT name FROM no_such_table WHERE id = :id\"", "no_such_table"),
        ("key = \"a:{id\"\nload = \"SELECT 1\"", "a:{id"),
    ];
    for (route, culprit) in cases {
        let checked = with_database(&database.url(), &format!("[[route]]\n{route}\n")).check(&[]);
        assert_eq!(checked.code, Some(78), "{culprit}: {checked:?}");
        assert!(checked.all().contains("my.toml:"), "file, line and column: {checked:?}");
        assert!(checked.all().contains(culprit), "the line is shown: {checked:?}");
    }
}

#[test]
fn check_refuses_a_shadowed_route() {
    let route = |name: &str, key: &str| {
        format!("[[route]]\nname = \"{name}\"\nkey = \"{key}\"\nload = \"SELECT name FROM products WHERE id = :id\"\n")
    };
    let database = Database::shop(Pair::EmbeddedSqlite);
    let both = route("one", "a:{*id}") + &route("two", "a:b:{id}");
    let checked = with_database(&database.url(), &both).check(&[]);
    assert_eq!(checked.code, Some(78), "{checked:?}");
    assert!(checked.all().contains("two") || checked.all().contains("a:b:{id}"), "{checked:?}");
}

#[test]
fn check_tells_an_unreachable_database_from_a_bad_file() {
    let file = with_database(&format!("postgres://weir@127.0.0.1:{}/shop", free_port()), ROUTE);
    let checked = file.check(&[]);
    assert_eq!(checked.code, Some(69), "{checked:?}");
    let offline = file.check(&["--offline"]);
    assert_eq!(offline.code, Some(0), "{offline:?}");
}

#[test]
fn no_secret_is_ever_printed() {
    let file = with_database(&format!("postgres://weir:hunter2@127.0.0.1:{}/shop", free_port()), ROUTE);
    for checked in [file.check(&[]), file.check(&["--offline"])] {
        assert!(!checked.all().contains("hunter2"), "{checked:?}");
    }
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    for arguments in [&["nonsense"][..], &["check"], &["serve", "--nonsense"], &["explain"]] {
        assert_eq!(run_weir(arguments).code, Some(64), "{arguments:?}");
    }
    assert_eq!(run_weir(&["--help"]).code, Some(0));
    assert_eq!(run_weir(&["--version"]).code, Some(0));
    let missing = run_weir(&["serve", "--config", "/nonexistent/weir.toml"]);
    assert_eq!(missing.code, Some(78), "{missing:?}");
    assert!(missing.stderr.contains("/nonexistent/weir.toml"), "{missing:?}");
}

#[test]
fn the_schema_is_json() {
    let printed = run_weir(&["schema"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let schema: serde_json::Value = serde_json::from_str(&printed.stdout).expect("JSON");
    assert!(schema["properties"]["route"].is_object(), "{schema}");
}

#[test]
fn both_signals_end_it_cleanly() {
    for signal in ["INT", "TERM"] {
        let mut stack = Stack::start(Pair::RedisSqlite, ROUTE);
        let mut client = stack.weir.client();
        client.run("GET product:1");
        stack.weir.signal(signal);
        let status = stack.weir.wait();
        assert_eq!(status.code(), Some(0), "SIG{signal}: {status}\n{}", stack.weir.log());
        assert!(client.is_closed());
    }
}

#[test]
fn the_log_says_where_it_listens_and_no_secret() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2").expect("temporary folder");
    let weir = Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\npassword = \"file:{}\"\n",
        file.display()
    ));
    weir.client().run("AUTH hunter3");
    wait_until("both ports are told", || {
        let log = weir.log();
        log.contains(&weir.port().to_string()) && log.contains(&weir.admin().to_string())
    });
    assert!(!weir.log().contains("hunter"), "{}", weir.log());
}

/// ioredis, BullMQ and the exporters read these lines before anything else.
#[test]
fn info_carries_what_clients_and_exporters_look_for() {
    for pair in [Pair::EmbeddedSqlite, Pair::RedisSqlite] {
        let stack = Stack::start(pair, ROUTE);
        let mut client = stack.weir.client();
        client.run("SET k v EX 100");
        client.run("GET k");
        client.run("GET nothing");
        let text = client.run("INFO").text();
        for line in [
            "redis_version:7.0.",
            "redis_mode:standalone",
            "loading:0",
            "role:master",
            "keyspace_hits:",
            "keyspace_misses:",
            "db0:keys=",
            "# Weir",
            "weir_version:",
        ] {
            assert!(text.contains(line), "{pair:?}: {line} is missing in\n{text}");
        }
        assert!(!text.contains("keyspace_hits:0\r\n"), "{text}");
        let own = client.run("INFO weir").text();
        assert!(own.starts_with("# Weir") && !own.contains("redis_version"), "{own}");
    }
}
