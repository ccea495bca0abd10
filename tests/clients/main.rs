//! Other people's clients, as they come: what each sees of Weir is what it sees of Redis itself (G9, T24, T30, T32, T33).
//!
//! A script does with one client what applications do with it, and prints one line for each thing it saw. Here it runs twice,
//! against a redis-server and against Weir in front of another: both times it must end well, without one word on stderr,
//! and the lines must be the same. `tests/clients/install`, which `tests/run` runs, has put the clients into `target/clients`.

#[path = "../harness/mod.rs"]
mod harness;
mod redis_rs;

use harness::*;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A server that clients are shown, and what stands behind it.
struct Server {
    /// Weir, where it is not a redis-server itself.
    weir: Option<Weir>,
    redis: Redis,
    /// Empty: none.
    password: &'static str,
}

/// A client may not tell the server behind Weir to announce what happens to keys; its operator may.
const ANNOUNCES: &[&str] = &["--notify-keyspace-events", "KEA"];

const PASSWORD: &str = "open-sesame";

impl Server {
    fn redis() -> Server {
        Server { weir: None, redis: Redis::start_with(ANNOUNCES), password: "" }
    }

    /// Weir on a redis-server of its own. Its timeout is shorter than one blocking command of redis_cli.sh.
    fn weir() -> Server {
        let redis = Redis::start_with(ANNOUNCES);
        let weir = Weir::start(&format!("[upstream]\nurl = \"{}\"\ntimeout = \"5s\"\n", redis.url()));
        Server { weir: Some(weir), redis, password: "" }
    }

    /// Both of them with a password.
    fn guarded_redis() -> Server {
        let redis = Redis::start_with(&[ANNOUNCES, &["--requirepass", PASSWORD]].concat());
        Server { weir: None, redis, password: PASSWORD }
    }

    fn guarded_weir() -> Server {
        let redis = Server::guarded_redis().redis;
        let weir = Weir::start(&format!(
            "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\npassword = \"{PASSWORD}\"\n\
             [upstream]\nurl = \"redis://:{PASSWORD}@127.0.0.1:{}/0\"\ntimeout = \"5s\"\n",
            redis.port()
        ));
        Server { weir: Some(weir), redis, password: PASSWORD }
    }

    /// A redis-server that is a whole cluster by itself.
    fn cluster() -> Server {
        let redis = Redis::start_with(&["--cluster-enabled", "yes"]);
        let mut client = redis.client();
        assert_eq!(client.run("CLUSTER ADDSLOTSRANGE 0 16383"), Reply::ok());
        wait_until("the cluster is up", || client.run("CLUSTER INFO").text().contains("cluster_state:ok"));
        Server { weir: None, redis, password: "" }
    }

    fn weir_on_cluster() -> Server {
        let redis = Server::cluster().redis;
        let url = format!("redis-cluster://127.0.0.1:{}", redis.port());
        let weir = Weir::start(&format!("[upstream]\nurl = \"{url}\"\ntimeout = \"5s\"\n"));
        Server { weir: Some(weir), redis, password: "" }
    }

    fn url(&self) -> String {
        let port = self.weir.as_ref().map_or(self.redis.port(), Weir::port);
        match self.password {
            "" => format!("redis://127.0.0.1:{port}"),
            password => format!("redis://:{password}@127.0.0.1:{port}"),
        }
    }

    /// Fails if the client was not served by Weir at all, or if Weir warns its operator of something.
    #[track_caller]
    fn check_weir(&self) {
        let Some(weir) = &self.weir else { return };
        assert!(weir.metric("weir_commands_total", &[]) > 0.0, "no command has reached Weir");
        let log = weir.log();
        let warnings: Vec<&str> =
            log.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR")).collect();
        assert!(warnings.is_empty(), "Weir warns: {warnings:#?}");
    }
}

/// Where `tests/clients/install` has put the clients.
fn clients() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
    assert!(folder.join("stamp").exists(), "{} is not complete: run tests/clients/install", folder.display());
    folder
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn python(script: &str) -> Command {
    let mut command = Command::new(clients().join("venv/bin/python"));
    // Shows the warnings that Python keeps to itself by default, and leaves no compiled files beside the scripts.
    command.args(["-W", "default", "-B"]).arg(scripts().join("python").join(script));
    command
}

fn node(script: &str) -> Command {
    let mut command = Command::new(clients().join("node"));
    command.arg(scripts().join("node").join(script)).env("NODE_PATH", clients().join("node_modules"));
    command
}

fn shell(script: &str) -> Command {
    Command::new(scripts().join(script))
}

/// A running script, and all that it has started: ended with the test.
struct Script(Child);

impl Script {
    /// How it ended, or `None` if it does not in three times the patience that it has with any one step of its own.
    fn end(&mut self) -> Option<ExitStatus> {
        let deadline = Instant::now() + 3 * PATIENCE;
        loop {
            match self.0.try_wait().expect("own child") {
                None if Instant::now() < deadline => std::thread::park_timeout(Duration::from_millis(10)),
                ended => return ended,
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // A group of its own, whose number is its own.
            let _ = Command::new("sh").args(["-c", &format!("kill -s KILL -- -{}", self.0.id())]).status();
        }
        let _ = self.0.wait();
    }
}

/// What a script printed. It has ended well, and had nothing to complain of.
#[track_caller]
fn outcome(mut command: Command, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = |name: &str| File::create(folder.path().join(name)).expect("temporary folder");
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("what it printed is text");
    command.args(arguments).stdin(Stdio::null()).stdout(file("out")).stderr(file("err")).process_group(0);
    let mut script = Script(command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}")));
    let ended = script.end();
    let (out, err) = (text("out"), text("err"));
    let said = format!("{command:?}\n--- stdout\n{out}\n--- stderr\n{err}");
    assert!(ended.is_some_and(|status| status.success()), "it ended with {ended:?}: {said}");
    assert!(err.is_empty(), "it complains: {said}");
    assert!(out.lines().count() > 3, "it has shown next to nothing: {said}");
    out
}

/// Fails with the first line in which the two differ.
#[track_caller]
fn assert_same(redis: &str, weir: &str) {
    let mut part = "";
    for (theirs, ours) in redis.lines().zip(weir.lines()) {
        part = if theirs.starts_with("--") { theirs } else { part };
        assert_eq!(ours, theirs, "{part}: left is Weir, right is Redis");
    }
    assert_eq!(weir.lines().count(), redis.lines().count(), "one goes on after all of the other's lines");
}

/// Runs a script with `arguments` behind the URL on both servers.
#[track_caller]
fn same_on(redis: Server, weir: Server, script: impl Fn() -> Command, arguments: &[&str]) {
    let on = |server: &Server| outcome(script(), &[&[server.url().as_str()], arguments].concat());
    let expected = on(&redis);
    let seen = on(&weir);
    assert_same(&expected, &seen);
    weir.check_weir();
}

#[track_caller]
fn same_as_redis(script: impl Fn() -> Command, arguments: &[&str]) {
    same_on(Server::redis(), Server::weir(), script, arguments);
}

#[test]
fn redis_py() {
    same_as_redis(|| python("redis_sync.py"), &[]);
}

#[test]
fn redis_py_in_resp2() {
    same_as_redis(|| python("redis_sync.py"), &["2"]);
}

#[test]
fn redis_py_in_resp3() {
    same_as_redis(|| python("redis_sync.py"), &["3"]);
}

#[test]
fn redis_py_in_asyncio() {
    same_as_redis(|| python("redis_asyncio.py"), &[]);
}

#[test]
fn redis_py_in_asyncio_and_resp2() {
    same_as_redis(|| python("redis_asyncio.py"), &["2"]);
}

#[test]
fn redis_py_in_asyncio_and_resp3() {
    same_as_redis(|| python("redis_asyncio.py"), &["3"]);
}

#[test]
fn redis_py_with_a_password() {
    same_on(Server::guarded_redis(), Server::guarded_weir(), || python("redis_sync.py"), &[]);
}

#[test]
fn redis_py_for_clusters() {
    same_on(Server::cluster(), Server::weir_on_cluster(), || python("redis_cluster.py"), &[]);
}

#[test]
fn redis_py_for_clusters_in_resp2() {
    same_on(Server::cluster(), Server::weir_on_cluster(), || python("redis_cluster.py"), &["2"]);
}

#[test]
fn celery() {
    same_as_redis(|| python("celery_run.py"), &[]);
}

#[test]
fn redlock_py_and_pottery() {
    same_as_redis(|| python("locks.py"), &[]);
}

#[test]
fn ioredis() {
    same_as_redis(|| node("ioredis.js"), &[]);
}

#[test]
fn ioredis_in_resp2() {
    same_as_redis(|| node("ioredis.js"), &["2"]);
}

#[test]
fn ioredis_with_a_password() {
    same_on(Server::guarded_redis(), Server::guarded_weir(), || node("ioredis.js"), &[]);
}

#[test]
fn node_redis() {
    same_as_redis(|| node("node_redis.js"), &[]);
}

#[test]
fn node_redis_in_resp2() {
    same_as_redis(|| node("node_redis.js"), &["2"]);
}

#[test]
fn node_redis_with_a_password() {
    same_on(Server::guarded_redis(), Server::guarded_weir(), || node("node_redis.js"), &[]);
}

#[test]
fn bullmq() {
    same_as_redis(|| node("bullmq.js"), &[]);
}

#[test]
fn bullmq_on_node_redis() {
    same_as_redis(|| node("bullmq.js"), &["node-redis"]);
}

#[test]
fn redlock() {
    same_as_redis(|| node("redlock.js"), &[]);
}

#[test]
fn redis_cli() {
    same_as_redis(|| shell("redis_cli.sh"), &[]);
}

#[test]
fn redis_cli_in_resp3() {
    same_as_redis(|| shell("redis_cli.sh"), &["3"]);
}

#[test]
fn redis_rs() {
    redis_rs_is_the_same("");
}

#[test]
fn redis_rs_in_resp3() {
    redis_rs_is_the_same("?protocol=resp3");
}

#[test]
fn redis_rs_with_a_password() {
    redis_rs_on(Server::guarded_redis(), Server::guarded_weir(), "");
}

#[track_caller]
fn redis_rs_is_the_same(options: &str) {
    redis_rs_on(Server::redis(), Server::weir(), options);
}

#[track_caller]
fn redis_rs_on(redis: Server, weir: Server, options: &str) {
    let on = |server: &Server| redis_rs::outcome(&format!("{}/{options}", server.url()));
    assert_same(&on(&redis), &on(&weir));
    weir.check_weir();
}
