//! Loads through what stands between: PgBouncer in transaction mode, TLS, passwords, and a server that restarts.

#![allow(clippy::unwrap_used)]

mod database_support;

use database_support::*;
use futures_util::future::join_all;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;
use weir::config::{self, Encoding, Rows};
use weir::database::{Database, DatabaseError};

/// A PgBouncer with two server connections in transaction mode, strict about startup parameters as it is by default.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    fn start(server: &Server) -> PgBouncer {
        let (folder, port) = (open_folder(), free_port());
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n",
            server.port
        );
        std::fs::write(&file, text).unwrap();
        let mut command = as_postgres(Path::new("/usr/sbin/pgbouncer"));
        let child =
            command.arg(&file).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let bouncer = PgBouncer { child, port, _folder: folder };
        wait_until("pgbouncer listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        bouncer
    }

    fn config(&self) -> config::Database {
        let url = format!("postgres://postgres@127.0.0.1:{}/postgres", self.port);
        config::Database { prepare: false, pool: 20, ..postgres_config(&url) }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn loads_work_through_pgbouncer_in_transaction_mode() {
    let server = shared();
    let bouncer = PgBouncer::start(&server);
    server.psql(
        "CREATE TYPE bounced_mood AS ENUM ('sad', 'glad'); CREATE TYPE bounced_pair AS (a int, b bounced_mood);
         CREATE TABLE bounced AS SELECT n AS id, 'glad'::bounced_mood AS mood, ROW(n, 'sad')::bounced_pair AS pair
         FROM generate_series(1, 100) n",
    );
    let database = Database::connect(&bouncer.config()).await.unwrap();
    let sql = "SELECT *, pg_sleep(0.005) FROM bounced WHERE id = :id AND mood = :mood";
    for (rows, encoding) in [(Rows::One, Encoding::Json), (Rows::One, Encoding::Hash), (Rows::Many, Encoding::MsgPack)]
    {
        let statement = prepare(&database, sql, rows, encoding).await;
        assert_eq!(statement.parameter_types(), ["integer", "bounced_mood"]);
        let arguments = |id: usize| vec![id.to_string(), "glad".to_owned()];
        let all = statement.load((1..=100).map(arguments).collect()).await.unwrap();
        let loads = (1..=20).map(|id| statement.load(vec![arguments(id)]));
        for (id, loaded) in join_all(loads).await.into_iter().enumerate() {
            assert_eq!(loaded.unwrap()[0], all[id]);
        }
    }
    for sql in
        ["SELECT mood FROM bounced WHERE id = :id AND wrong = 1", "SELECT mood, mood FROM bounced WHERE id = :id"]
    {
        refused(&database, sql, Rows::One, Encoding::Json).await;
    }
    // Neither connection of the pooler has a statement of ours left.
    let left =
        one(&database, "SELECT count(*), pg_sleep(0.05) FROM pg_prepared_statements WHERE :x = 'x'", Encoding::Hash)
            .await;
    let left = join_all((0..2).map(|_| load(&left, &["x"]))).await;
    assert!(left.iter().all(|loaded| fields(&loaded[0])[0].1 == b"0"));
}

#[tokio::test]
async fn a_dropped_load_is_cancelled_through_pgbouncer_too() {
    let server = shared();
    let bouncer = PgBouncer::start(&server);
    let database = Database::connect(&bouncer.config()).await.unwrap();
    let statement = one(&database, "SELECT pg_sleep(60), 'bounced' AS mark, :id::int", Encoding::Json).await;
    let load = tokio::spawn(async move { try_load(&statement, &["1"]).await });
    let watch = server.clone();
    wait("it runs", move || watch.running("''bounced''") == 1).await;
    load.abort();
    wait("it has stopped", move || server.running("''bounced''") == 0).await;
}

#[tokio::test]
async fn pgbouncer_without_its_setting_is_told() {
    let bouncer = PgBouncer::start(&shared());
    let error = Database::connect(&config::Database { prepare: true, ..bouncer.config() }).await.err().unwrap();
    assert!(error.to_string().contains("prepare = false"), "{error}");
}

async fn wait(what: &'static str, condition: impl Fn() -> bool + Send + 'static) {
    tokio::task::spawn_blocking(move || wait_until(what, condition)).await.unwrap();
}

/// A server with a certificate for `localhost`, and the authorities that did and did not sign it.
struct Secure {
    server: Server,
    _certificates: tempfile::TempDir,
    authority: String,
    stranger: String,
}

impl Secure {
    fn start() -> Secure {
        let folder = open_folder();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (authority, issuer) = authority();
        let (stranger, _) = self::authority();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        for (name, text) in [
            ("authority.pem", authority),
            ("stranger.pem", stranger),
            ("server.pem", certificate.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            std::fs::write(path(name), text).unwrap();
        }
        if is_root() {
            run(std::process::Command::new("chown").arg("postgres").arg(path("server.key")));
        }
        run(std::process::Command::new("chmod").arg("600").arg(path("server.key")));
        let certificate = format!("ssl_cert_file={}", path("server.pem"));
        let key = format!("ssl_key_file={}", path("server.key"));
        let server = Server::start(&["ssl=on", &certificate, &key]);
        let (trusted, stranger) = (path("authority.pem"), path("stranger.pem"));
        let secure = Secure { server, _certificates: folder, authority: trusted, stranger };
        secure.server.psql("CREATE ROLE app LOGIN PASSWORD 'pass?w@rd'");
        let rules = "hostssl all app all scram-sha-256\nhost all postgres all trust\n";
        std::fs::write(secure.server.folder.path().join("data/pg_hba.conf"), rules).unwrap();
        secure.server.psql("SELECT pg_reload_conf()");
        secure
    }

    fn config(&self, host: &str, password: &str, options: &str) -> config::Database {
        postgres_config(&format!("postgres://app:{password}@{host}:{}/postgres{options}", self.server.port))
    }

    async fn encrypted(&self, host: &str, options: &str) -> Result<bool, DatabaseError> {
        let database = Database::connect(&self.config(host, "pass?w%40rd", options)).await?;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let statement = one(&database, sql, Encoding::Text).await;
        Ok(texts(values(statement.load(vec![vec![]]).await?)) == [Some("t".to_owned())])
    }
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(parameters, key))
}

#[tokio::test]
async fn tls_asks_of_the_server_what_sslmode_says() {
    let secure = Secure::start();
    let (right, wrong) = (&secure.authority, &secure.stranger);
    for (host, options) in [
        ("localhost", String::new()),
        ("127.0.0.1", "?sslmode=require".to_owned()),
        ("127.0.0.1", format!("?sslmode=verify-ca&sslrootcert={right}")),
        ("localhost", format!("?sslmode=verify-full&sslrootcert={right}")),
    ] {
        let encrypted = secure.encrypted(host, &options).await.unwrap_or_else(|error| panic!("{options}: {error}"));
        assert!(encrypted, "{options}");
    }
    for (host, options, words) in [
        ("127.0.0.1", format!("?sslmode=verify-full&sslrootcert={right}"), "certificate not valid for name"),
        ("localhost", format!("?sslmode=verify-full&sslrootcert={wrong}"), "certificate"),
        ("localhost", format!("?sslmode=verify-ca&sslrootcert={wrong}"), "certificate"),
        ("localhost", format!("?sslmode=require&sslrootcert={wrong}"), "certificate"),
        ("localhost", "?sslmode=verify-full&sslrootcert=/nowhere.pem".to_owned(), "sslrootcert /nowhere.pem"),
        ("localhost", "?sslmode=disable".to_owned(), "no encryption"),
    ] {
        let error = secure.encrypted(host, &options).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Unavailable(_)), "{options}: {error}");
        assert!(error.to_string().contains(words) && !error.to_string().contains("w@rd"), "{options}: {error}");
    }
    let error = Database::connect(&secure.config("localhost", "wrongpass", "")).await.err().unwrap().to_string();
    assert!(error.contains("password authentication failed") && !error.contains("wrongpass"), "{error}");

    // Cancelling needs TLS of its own here.
    let database = Database::connect(&secure.config("localhost", "pass?w%40rd", "?sslmode=require")).await.unwrap();
    let statement = one(&database, "SELECT pg_sleep(60), 'secured' AS mark, :id::int", Encoding::Json).await;
    let load = tokio::spawn(async move { try_load(&statement, &["1"]).await });
    let secure = std::sync::Arc::new(secure);
    let watch = secure.clone();
    wait("it runs", move || watch.server.running("''secured''") == 1).await;
    load.abort();
    wait("it has stopped", move || secure.server.running("''secured''") == 0).await;
}

#[tokio::test]
async fn a_restarted_server_is_asked_again() {
    let mut server = Server::start(&[]);
    server.psql("CREATE TABLE kept AS SELECT 1 AS id, 'a' AS name");
    let config = config::Database { timeout: Duration::from_secs(2), ..postgres_config(&server.url()) };
    let database = Database::connect(&config).await.unwrap();
    let statement = one(&database, "SELECT name FROM kept WHERE id = :id", Encoding::Text).await;
    let expected = [Some("a".to_owned())];
    for _ in 0..2 {
        let loads = join_all((0..8).map(|_| load(&statement, &["1"]))).await;
        assert!(loads.into_iter().all(|loaded| texts(loaded) == expected));
        server.psql("CHECKPOINT");
        server.stop();
        let error = try_load(&statement, &["1"]).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Unavailable(_)) && error.is_transient(), "{error}");
        server.launch();
        let loads = join_all((0..8).map(|_| load(&statement, &["1"]))).await;
        assert!(loads.into_iter().all(|loaded| texts(loaded) == expected));
    }
    // Connections that the server ended while nobody looked at them.
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'");
    assert_eq!(texts(load(&statement, &["1"]).await), expected);
}

#[tokio::test]
async fn nobody_listening_is_told_within_the_time_limit() {
    let port = free_port();
    let config = postgres_config(&format!("postgres://u:secret@127.0.0.1:{port}/d"));
    let error = Database::connect(&config).await.err().unwrap();
    assert!(matches!(&error, DatabaseError::Unavailable(message) if message.contains("refused")), "{error}");
    assert!(!error.to_string().contains("secret"));
    // One that takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/d", silent.local_addr().unwrap());
    let config = config::Database { timeout: Duration::from_millis(100), ..postgres_config(&url) };
    let error = tokio::time::timeout(PATIENCE, Database::connect(&config)).await.unwrap().err().unwrap();
    assert!(error.to_string().contains("took too long"), "{error}");
}
