//! The command line as a shell sees it: output and exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn weir(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(arguments)
        .env("WEIR_PASSWORD", "hunter2")
        .env("DATABASE_URL", "postgres://app:secret@127.0.0.1:1/shop");
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Exit code, standard output, standard error.
fn outcome(output: &Output) -> (Option<i32>, &str, &str) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn file(folder: &Path, toml: &str) -> PathBuf {
    let path = folder.join("weir.toml");
    std::fs::write(&path, toml).expect("a writable folder");
    path
}

#[test]
fn check_prints_the_resolved_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(
        folder.path(),
        r#"
[server]
workers = 2
password = "env:WEIR_PASSWORD"
[upstream]
url = "redis://app:pw@cache/1"
[database.main]
url = "env:DATABASE_URL"
[database.side]
url = "sqlite:/var/side.sqlite"
[[route]]
key = "product:{id}"
load = """
SELECT name FROM products
WHERE id = :id"""
database = "main"
check_hits = 1000
check_invalidations = 100
[[route]]
key = "tree:{*rest}"
load = "SELECT 1"
database = "side"
rows = "many"
value = "msgpack"
ttl = "1h"
jitter = "0%"
negative_ttl = "0s"
on_modify = "reject"
tags = ["trees", "tree-{rest}"]
near = "5s"
[[route]]
key = "report:{*rest}"
ttl = "15m"
sliding = true
wait_for_fill = "500ms"
[[route]]
key = "lock:{id}"
jitter = "0%"
"#,
    );
    let expected = "\
server    127.0.0.1:6380 (with a password), admin 127.0.0.1:9600, workers 2, max_clients 10000
store     redis://app@cache:6379/1, timeout 250ms, when_replaced drop
database  main: postgres, named statements, pool 16, timeout 2s
database  side: sqlite:/var/side.sqlite, pool 16, timeout 2s
limits    max_command 512MiB, max_arguments 1048576, max_inline 64KiB, max_command_before_auth 16KiB, \
max_output 1MiB, max_output_total 1GiB, max_query_total 1GiB, max_subscriber_output 32MiB, max_private_links 10000, \
max_pipeline 10000, max_negative 100000, max_tags 128, max_near 64MiB, max_fill_waiters 10000, max_missed_invalidations 100000, max_waiting_loads 1024, auth_timeout 10s, command_timeout 30s, idle_timeout off, write_timeout 1m

route product
  key        product:{id}
  database   main
  load       SELECT name FROM products WHERE id = :id
  parameters :id
  value      json of one row, max_value 1MiB
  timeline   fresh 4.5m–5m, grace off, early refresh off, negative 1m, load timeout 2s, near off
  checks     1 in 1000 hits, 1 in 100 invalidations
  on_modify  load

route tree
  key        tree:{*rest}
  database   side
  load       SELECT 1
  parameters none
  value      msgpack of many rows, max_value 1MiB
  timeline   fresh 1h, grace off, early refresh off, negative off, load timeout 2s, near 5s
  on_modify  reject
  tags       trees, tree-{rest}

route report
  key        report:{*rest}
  load       none: applications fill these keys themselves
  timeline   at most 13.5m–15m from the last read, clients' TTLs jittered 10%, wait for fill 500ms, near off

route lock
  key        lock:{id}
  load       none: applications fill these keys themselves
  timeline   at most 5m, clients' TTLs jittered off, wait for fill off, near off
";
    let output = weir(&["check", path.to_str().expect("a plain path"), "--offline"]);
    assert_eq!(outcome(&output), (Some(0), expected, ""));
}

#[test]
fn over_the_embedded_store_nothing_is_kept_near() {
    let folder = tempfile::tempdir().expect("a folder");
    let toml = "[database.main]\nurl = \"sqlite:x\"\n[[route]]\nkey = \"a:{id}\"\nload = \"SELECT 1\"\nnear = \"5s\"\n";
    let path = file(folder.path(), toml);
    let output = weir(&["check", path.to_str().expect("a plain path"), "--offline"]);
    let (code, report, _) = outcome(&output);
    assert_eq!(code, Some(0));
    assert!(report.contains(", near off (the embedded store is as near)\n"), "{report}");
}

#[test]
fn a_bad_file_is_78_and_its_errors_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), "[server]\nworkers = \"two\"\nport = 6380\n");
    let name = path.to_str().expect("a plain path");
    for arguments in [&["check", name][..], &["serve", "--config", name], &["--config", name]] {
        let output = weir(arguments);
        let (code, stdout, stderr) = outcome(&output);
        assert_eq!((code, stdout), (Some(78), ""));
        assert!(stderr.starts_with("error: expected a whole number, found a string\n"), "{stderr}");
        assert!(stderr.ends_with(&format!("\n2 errors in {name}\n")), "{stderr}");
    }
    let missing = weir(&["check", "no/such/file"]);
    let expected = "error: cannot read no/such/file: No such file or directory (os error 2)\n";
    assert_eq!(outcome(&missing), (Some(78), "", expected));
}

#[test]
fn wrong_usage_is_64_and_help_is_0() {
    for arguments in [&["chekc"][..], &["check"], &["serve", "--log-format", "xml"], &["--confg", "x"], &["explain"]] {
        let output = weir(arguments);
        let (code, stdout, stderr) = outcome(&output);
        assert_eq!((code, stdout), (Some(64), ""), "{arguments:?}");
        assert!(stderr.starts_with("error: "), "{stderr}");
    }
    for arguments in [&["--help"][..], &["check", "--help"], &["--version"]] {
        let output = weir(arguments);
        let (code, stdout, stderr) = outcome(&output);
        assert_eq!((code, stderr), (Some(0), ""), "{arguments:?}");
        assert!(stdout.contains("weir") || stdout.contains("FILE"), "{stdout}");
    }
}

#[test]
fn schema_prints_the_schema() {
    let output = weir(&["schema"]);
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), printed), (Some(0), weir::config::schema()));
}

#[test]
fn the_shipped_files_pass_the_offline_check() {
    for name in ["config/weir.toml", "config/demo.toml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let output = weir(&["check", path.to_str().expect("a plain path"), "--offline"]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{name}");
    }
}
