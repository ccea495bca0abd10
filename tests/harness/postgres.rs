//! A PostgreSQL of one's own.
//!
//! `initdb` takes seconds, so its result is kept as an archive in cargo's target folder and unpacked for each server.
//! PostgreSQL refuses to run as root: then its files and processes belong to the user `postgres`.

use super::process::{Process, free_port};
use super::{PATIENCE, wait_for};
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// The database that the archive holds; it has the extension pg_stat_statements.
const DATABASE: &str = "shop";

/// A PostgreSQL server on a free port, trusting every connection of user `weir`.
pub struct Postgres {
    port: u16,
    session: Mutex<Option<Session>>,
    process: Option<Process>,
    folder: tempfile::TempDir,
}

impl Postgres {
    pub fn start() -> Postgres {
        let folder = tempfile::tempdir().expect("temporary folder");
        // The user `postgres` must reach its data folder through this one.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("own folder");
        unpack_template(folder.path());
        let mut postgres = Postgres { port: free_port(), session: Mutex::new(None), process: None, folder };
        let deadline = Instant::now() + PATIENCE;
        while !postgres.try_start() {
            assert!(Instant::now() < deadline, "postgres does not start");
            postgres.port = free_port();
        }
        postgres
    }

    /// False if it ended at once: somebody else took the port.
    fn try_start(&mut self) -> bool {
        let mut command = as_server_user(&program("postgres"));
        command.arg("-D").arg(self.folder.path().join("data")).arg("-p").arg(self.port.to_string());
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let mut process = Process::start("postgres", self.folder.path(), &mut command, "QUIT");
        let session = wait_for("postgres accepts connections", || {
            if process.ended().is_some() {
                return Some(None);
            }
            Session::open(&self.url()).ok().map(Some)
        });
        self.process = Some(process);
        let started = session.is_some();
        self.session = Mutex::new(session);
        started
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `[database.x] url` names it by.
    pub fn url(&self) -> String {
        format!("postgres://weir@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Runs SQL (several statements, if wanted) and answers the rows as text.
    #[track_caller]
    pub fn sql(&self, text: &str) -> Vec<Vec<Option<String>>> {
        let mut session = self.session.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        session.as_mut().expect("postgres runs").sql(text)
    }

    /// A connection of one's own, for those who work at once.
    #[track_caller]
    pub fn session(&self) -> Session {
        Session::open(&self.url()).expect("postgres runs")
    }

    /// One number: `pg.number("SELECT count(*) FROM …")`.
    #[track_caller]
    pub fn number(&self, text: &str) -> i64 {
        let rows = self.sql(text);
        let first = rows.first().and_then(|row| row.first()).and_then(|column| column.as_deref());
        first.unwrap_or("0").parse().unwrap_or_else(|_| panic!("no number: {first:?}"))
    }

    /// How many statements whose text holds `mark` have ended well. A mark is a comment in a route's `load`.
    /// Statements that differ in nothing but comments and names are one to PostgreSQL, under the first one's text: give
    /// routes whose loads are counted apart different statements.
    #[track_caller]
    pub fn runs(&self, mark: &str) -> i64 {
        let not_this_one = "query NOT LIKE '%pg_stat_statements%'";
        self.number(&format!(
            "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE query LIKE '%{mark}%' AND {not_this_one}"
        ))
    }

    /// How many statements whose text holds `mark` have failed or were cancelled: the server logs each with its text.
    pub fn failures(&self, mark: &str) -> usize {
        let log = self.process.as_ref().expect("postgres runs").log();
        // The text may have several lines; each begins with the STATEMENT that it belongs to.
        let statements = log.split("STATEMENT:").skip(1);
        statements.filter(|after| after.split("\n20").next().is_some_and(|text| text.contains(mark))).count()
    }

    /// How many statements whose text holds `mark` run at this moment.
    #[track_caller]
    pub fn running(&self, mark: &str) -> i64 {
        self.number(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{mark}%' AND pid <> pg_backend_pid()"
        ))
    }

    /// Shuts a gate: statements that call `through_gate()` wait in it, their snapshot already taken, until it opens.
    #[track_caller]
    pub fn shut_gate(&self) -> Gate {
        let mut session = self.session();
        session.sql("SELECT pg_advisory_lock(4711)");
        Gate { session }
    }

    /// How many statements wait in the gate.
    #[track_caller]
    pub fn in_gate(&self) -> i64 {
        self.number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    }

    pub fn kill9(&mut self) {
        *self.session.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
        // QUIT is PostgreSQL's immediate shutdown: like a crash, but it takes its children with it.
        self.process.as_mut().expect("postgres runs").kill("QUIT");
    }

    /// SIGSTOP, to it and all its children: connections stay open and nothing answers.
    pub fn stop(&self) {
        self.process.as_ref().expect("postgres runs").signal_family("STOP");
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.process.as_ref().expect("postgres runs").signal_family("CONT");
    }

    /// Starts it again on the same port with its data. Call [`Postgres::kill9`] before.
    pub fn start_again(&mut self) {
        super::wait_until("postgres has its port again", || self.try_start());
    }
}

impl Drop for Postgres {
    /// Stopped children would not end with it.
    fn drop(&mut self) {
        if self.process.is_some() {
            self.cont();
        }
    }
}

/// Holds statements in `through_gate()`; dropping it lets them go on.
pub struct Gate {
    session: Session,
}

impl Gate {
    pub fn open(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.session.sql("SELECT pg_advisory_unlock_all()");
    }
}

const SETTINGS: [&str; 12] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "wal_level=logical",
    "max_connections=200",
    "shared_buffers=32MB",
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.track_planning=off",
    // A known head of each log line, from which `failures` tells where a statement's text ends.
    "log_line_prefix=%m [%p] ",
];

/// A connection with its own small runtime, so that tests can be plain functions.
pub struct Session {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Session {
    fn open(url: &str) -> Result<Session, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        // Runs whenever `sql` blocks on this runtime.
        runtime.spawn(connection);
        Ok(Session { runtime, client })
    }

    /// Runs SQL (several statements, if wanted) and answers the rows as text.
    #[track_caller]
    pub fn sql(&mut self, text: &str) -> Vec<Vec<Option<String>>> {
        let answer = self.runtime.block_on(self.client.simple_query(text));
        let messages = answer.unwrap_or_else(|error| panic!("{error:?}: {text}"));
        messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect()
    }
}

/// Puts the archived data folder into `folder`/data, making the archive first where there is none yet.
fn unpack_template(folder: &Path) {
    let archive = File::open(template()).expect("archive of the data folder");
    let data = folder.join("data");
    std::fs::create_dir(&data).expect("data folder");
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).expect("own folder");
    give_to_server_user(&data);
    // The open file is handed over, so the server's user needs no way into the target folder.
    let mut tar = as_server_user(Path::new("tar"));
    tar.args(["-x", "-f", "-", "-C"]).arg(&data).stdin(Stdio::from(archive));
    assert!(tar.status().expect("tar").success(), "the archive of the data folder cannot be unpacked");
}

/// The archive's path: one for each version of PostgreSQL and of the SQL in it.
fn template() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let version = Command::new(program("postgres")).arg("--version").output().expect("postgres --version").stdout;
    let version: String = String::from_utf8_lossy(&version).chars().filter(char::is_ascii_digit).collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{version}-1.tar"));
    if !path.exists() {
        make_template(&path);
    }
    path
}

fn make_template(path: &Path) {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("own folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("data folder");
    give_to_server_user(&data);
    let mut initdb = as_server_user(&program("initdb"));
    initdb.arg("-D").arg(&data).args(["-U", "weir", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]);
    finish("initdb", initdb.current_dir(folder.path()).stdout(Stdio::null()));
    single_user(&data, "postgres", &format!("CREATE DATABASE {DATABASE}\n"));
    single_user(&data, DATABASE, INTO_TEMPLATE);
    // Renamed once it is whole, so that test processes that run at once never see half of it.
    let half = path.with_extension(format!("{}", std::process::id()));
    let out = File::create(&half).expect("archive");
    let mut tar = as_server_user(Path::new("tar"));
    finish("tar", tar.args(["-c", "-f", "-", "-C"]).arg(&data).arg(".").stdout(out));
    std::fs::rename(half, path).expect("archive");
}

/// One statement a line, as the single-user mode reads them.
const INTO_TEMPLATE: &str = "CREATE EXTENSION pg_stat_statements\n\
    CREATE FUNCTION through_gate() RETURNS integer LANGUAGE sql VOLATILE AS \
    'SELECT pg_advisory_lock_shared(4711); SELECT pg_advisory_unlock_shared(4711); SELECT 1'\n";

/// Runs SQL on a data folder that no server uses.
fn single_user(data: &Path, database: &str, sql: &str) {
    let input = data.parent().expect("data is in a folder").join("input.sql");
    std::fs::write(&input, sql).expect("temporary folder");
    let mut postgres = as_server_user(&program("postgres"));
    postgres.args(["--single", "-D"]).arg(data).arg(database).stdin(File::open(input).expect("just written"));
    let folder = data.parent().expect("data is in a folder");
    finish("postgres --single", postgres.current_dir(folder).stdout(Stdio::null()));
}

fn finish(what: &str, command: &mut Command) {
    let piped = command.stderr(Stdio::piped());
    let output = piped.spawn().and_then(|child| child.wait_with_output()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where Debian keeps the server's programs (the newest version), else wherever PATH has them.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort_by_key(|path| path.components().nth(4).map(|version| version.as_os_str().len()));
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

pub(super) fn is_root() -> bool {
    std::fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0).unwrap_or(false)
}

/// A command that runs as `postgres` where we are root, else as ourselves.
pub(super) fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]).arg(program);
    command
}

pub(super) fn give_to_server_user(path: &Path) {
    if is_root() {
        let status = Command::new("chown").arg("postgres:postgres").arg(path).status();
        assert!(status.expect("chown").success(), "there is no user postgres");
    }
}
