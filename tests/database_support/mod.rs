//! A PostgreSQL of one's own for the tests of src/database, and short ways to prepare and load.
//!
//! Servers run as user `postgres` when the tests run as root, on a free port, with a data folder that is removed with
//! them. [`shared`] is one server for all tests of a binary that run at the same time.
#![allow(dead_code)]

use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use weir::config::{self, DatabaseUrl, Encoding, Origin, Rows, Secret};
use weir::database::{Database, DatabaseError, LoadSpec, Loaded, Statement};
use weir::value::Value;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Server {
    child: Option<Child>,
    pub folder: tempfile::TempDir,
    pub port: u16,
    settings: Vec<String>,
}

impl Server {
    pub fn start(settings: &[&str]) -> Server {
        let folder = open_folder();
        let data = folder.path().join("data");
        run(Command::new("cp").arg("-a").arg(template()).arg(&data));
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Server { child: None, folder, port: free_port(), settings };
        server.launch();
        server
    }

    pub fn launch(&mut self) {
        let mut command = as_postgres(&program("postgres"));
        command.arg("-D").arg(self.folder.path().join("data")).args(["-p", &self.port.to_string()]);
        for setting in ["fsync=off", "unix_socket_directories=", "max_connections=100", "autovacuum=off"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        self.child = Some(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let port = self.port;
        wait_until("postgres answers", || psql_output(port, "SELECT 1").0);
    }

    /// At once, with all its connections.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("sh").args(["-c", &format!("kill -QUIT {}", child.id())]).status();
            let _ = child.wait();
        }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// What psql prints, without its last newline.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        let (good, text) = psql_output(self.port, sql);
        assert!(good, "{sql}: {text}");
        text
    }

    /// How many statements that hold `mark` run now.
    pub fn running(&self, mark: &str) -> usize {
        let not_me = "pid <> pg_backend_pid() AND state = 'active'";
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{mark}%' AND {not_me}");
        self.psql(&sql).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("{}", log.lines().rev().take(30).collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The server that tests share while any of them holds it.
pub fn shared() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Server::start(&[]));
    *shared = Arc::downgrade(&server);
    server
}

fn psql_output(port: u16, sql: &str) -> (bool, String) {
    let output = Command::new("psql")
        .args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-p",
            &port.to_string(),
            "-c",
            sql,
            "postgres",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap();
    (output.status.success(), text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// A fresh data folder, made once for all runs.
fn template() -> PathBuf {
    static MADE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MADE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let ready = Path::new(env!("CARGO_TARGET_TMPDIR")).join("database-postgres-template");
    if !ready.exists() {
        // Made elsewhere and then renamed, so that a test run that is killed leaves no half of it.
        let folder = open_folder();
        let data = folder.path().join("data");
        let arguments = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-D"];
        run(as_postgres(&program("initdb")).args(arguments).arg(&data));
        let copy = ready.with_extension(std::process::id().to_string());
        run(Command::new("cp").arg("-a").arg(&data).arg(&copy));
        if std::fs::rename(&copy, &ready).is_err() {
            std::fs::remove_dir_all(&copy).unwrap();
        }
    }
    ready
}

/// A folder that user `postgres` may write to.
pub fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    folder
}

pub fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// A command that runs as the user that PostgreSQL accepts.
pub fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg("--").arg(program).current_dir("/");
    command
}

/// Debian keeps the server's programs off the PATH.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| name.into())
}

#[track_caller]
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub fn postgres_config(url: &str) -> config::Database {
    config::Database {
        name: "main".into(),
        url: DatabaseUrl::Postgres(Secret(url.into())),
        pool: 4,
        timeout: Duration::from_secs(10),
        prepare: true,
        origin: Origin::default(),
    }
}

pub fn sqlite_config(path: &Path) -> config::Database {
    config::Database { url: DatabaseUrl::Sqlite(path.to_owned()), ..postgres_config("") }
}

pub fn spec(sql: &str, rows: Rows, encoding: Encoding) -> LoadSpec {
    let parameters = config::sql::parse(sql).unwrap().parameters;
    LoadSpec { sql: sql.into(), parameters, rows, encoding, tag_columns: Vec::new() }
}

pub async fn prepare(database: &Database, sql: &str, rows: Rows, encoding: Encoding) -> Arc<dyn Statement> {
    database.prepare(spec(sql, rows, encoding)).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub async fn one(database: &Database, sql: &str, encoding: Encoding) -> Arc<dyn Statement> {
    prepare(database, sql, Rows::One, encoding).await
}

pub async fn refused(database: &Database, sql: &str, rows: Rows, encoding: Encoding) -> DatabaseError {
    database.prepare(spec(sql, rows, encoding)).await.err().unwrap_or_else(|| panic!("{sql} was prepared"))
}

/// The values that lists of one argument each load.
pub async fn load(statement: &Arc<dyn Statement>, keys: &[&str]) -> Vec<Option<Value>> {
    try_load(statement, keys).await.unwrap_or_else(|error| panic!("{keys:?}: {error}"))
}

pub async fn try_load(statement: &Arc<dyn Statement>, keys: &[&str]) -> Result<Vec<Option<Value>>, DatabaseError> {
    load_whole(statement, keys).await.map(values)
}

pub fn values(loaded: Vec<Loaded>) -> Vec<Option<Value>> {
    loaded.into_iter().map(|loaded| loaded.value).collect()
}

/// The same with what tags are made of.
pub async fn load_whole(statement: &Arc<dyn Statement>, keys: &[&str]) -> Result<Vec<Loaded>, DatabaseError> {
    statement.load(keys.iter().map(|key| vec![(*key).to_owned()]).collect()).await
}

/// Loaded strings as text.
pub fn texts(loaded: Vec<Option<Value>>) -> Vec<Option<String>> {
    loaded.into_iter().map(|value| value.map(|value| String::from_utf8(string(value)).unwrap())).collect()
}

pub fn string(value: Value) -> Vec<u8> {
    match value {
        Value::String(bytes) => bytes.to_vec(),
        Value::Hash(_) => panic!("a hash: {value:?}"),
    }
}

pub fn fields(loaded: &Option<Value>) -> Vec<(String, Vec<u8>)> {
    match loaded {
        Some(Value::Hash(fields)) => {
            fields.iter().map(|(name, value)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec())).collect()
        }
        other => panic!("no hash: {other:?}"),
    }
}

/// Each row's tag cells as text, for a statement that tags are made of.
pub async fn tag_cells(
    database: &Database,
    mut spec: LoadSpec,
    columns: &[&str],
    keys: &[&str],
) -> Vec<Vec<Vec<Option<String>>>> {
    spec.tag_columns = columns.iter().map(|name| (*name).to_owned()).collect();
    let statement = database.prepare(spec).await.expect("the statement is right");
    let loaded = load_whole(&statement, keys).await.expect("the rows can be read");
    let text = |cell: Option<Bytes>| cell.map(|text| String::from_utf8(text.to_vec()).expect("text"));
    let row = |cells: Vec<Option<Bytes>>| cells.into_iter().map(text).collect();
    loaded.into_iter().map(|loaded| loaded.tag_cells.into_iter().map(row).collect()).collect()
}

/// Of a table `tagged` with the rows (1, 10, 5), (2, 10, NULL) and (3, 11, 6) of `id`, `shop` and `category`.
pub async fn tag_columns_come_beside_the_rows(database: &Database) {
    let some = |text: &str| Some(text.to_owned());
    let by_id = "SELECT * FROM tagged WHERE id = :id";
    for encoding in [Encoding::Json, Encoding::MsgPack, Encoding::Hash] {
        let spec = || spec(by_id, Rows::One, encoding);
        let batch = tag_cells(database, spec(), &["category", "shop"], &["2", "9", "1"]).await;
        assert_eq!(batch, [vec![vec![None, some("10")]], vec![], vec![vec![some("5"), some("10")]]], "{encoding:?}");
        let alone = tag_cells(database, spec(), &["category", "shop"], &["3"]).await;
        assert_eq!(alone, [[[some("6"), some("11")]]], "{encoding:?}");
    }
    let by_shop = "SELECT id, category FROM tagged WHERE shop = :shop ORDER BY id";
    for encoding in [Encoding::Json, Encoding::MsgPack] {
        let many = tag_cells(database, spec(by_shop, Rows::Many, encoding), &["category"], &["10", "12"]).await;
        assert_eq!(many, [vec![vec![some("5")], vec![None]], vec![]], "{encoding:?}");
    }
    let mut unknown = spec(by_id, Rows::One, Encoding::Json);
    unknown.tag_columns = vec!["owner".to_owned()];
    let error = database.prepare(unknown).await.err().expect("there is no such column");
    assert!(error.to_string().contains("{owner}") && error.to_string().contains("shop"), "{error}");
}
