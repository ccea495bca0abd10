//! What loads from SQLite promise: exact values, integer parameters, order, and no job that outlives its wish.

#![allow(clippy::unwrap_used)]

mod database_support;

use database_support::*;
use futures_util::FutureExt;
use futures_util::future::join_all;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir::config::{Encoding, Rows};
use weir::database::{Database, DatabaseError, Statement};

struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    /// A database with this in it, and the connection that another process would have.
    fn new(schema: &str) -> (File, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch(schema).unwrap();
        (File { path, _folder: folder }, writer)
    }

    async fn connect(&self) -> Database {
        Database::connect(&sqlite_config(&self.path)).await.unwrap()
    }
}

const ITEMS: &str = "CREATE TABLE items (id INTEGER PRIMARY KEY, n INTEGER, r REAL, t TEXT, b BLOB, j TEXT, x);
    INSERT INTO items VALUES (1, 9223372036854775807, 0.1, 'é \"q\" ' || char(10), x'00ff10', '{\"a\": [1, 2]}', NULL);
    INSERT INTO items VALUES (2, -9223372036854775808, 1e300, '', x'', '', 1.0);
    INSERT INTO items VALUES (3, 0, 9e999, 'a' || char(0) || 'b', NULL, NULL, 'typed as it likes')";

#[tokio::test]
async fn every_value_is_exact_alone_and_in_a_batch() {
    let (file, _writer) = File::new(ITEMS);
    let database = file.connect().await;
    let expected = [
        r#"{"id":1,"n":9223372036854775807,"r":0.1,"t":"é \"q\" \n","b":"\\x00ff10","j":"{\"a\": [1, 2]}","x":null}"#,
        r#"{"id":2,"n":-9223372036854775808,"r":1e+300,"t":"","b":"\\x","j":"","x":1.0}"#,
        r#"{"id":3,"n":0,"r":"Infinity","t":"a\u0000b","b":null,"j":null,"x":"typed as it likes"}"#,
    ]
    .map(|text| Some(text.to_owned()));
    let json = one(&database, "SELECT * FROM items WHERE id = :id", Encoding::Json).await;
    for (key, expected) in ["1", "2", "3"].iter().zip(&expected) {
        assert_eq!(texts(load(&json, &[key]).await), std::slice::from_ref(expected));
    }
    assert_eq!(texts(load(&json, &["2", "9", "1"]).await), [expected[1].clone(), None, expected[0].clone()]);

    let hash = one(&database, "SELECT * FROM items WHERE id = :id", Encoding::Hash).await;
    let row: Vec<Vec<u8>> = fields(&load(&hash, &["1"]).await[0]).into_iter().map(|(_, value)| value).collect();
    let text = "é \"q\" \n".as_bytes();
    assert_eq!(row, [b"1", &b"9223372036854775807"[..], b"0.1", text, &[0, 255, 16], b"{\"a\": [1, 2]}"]);

    let blob = one(&database, "SELECT b FROM items WHERE id = :id", Encoding::Text).await;
    let loaded: Vec<_> = load(&blob, &["1", "2", "3", "4"]).await.into_iter().map(|value| value.map(string)).collect();
    assert_eq!(loaded, [Some(vec![0, 255, 16]), Some(vec![]), None, None]);

    let packed = one(&database, "SELECT n, b, x FROM items WHERE id = :id", Encoding::MsgPack).await;
    let mut expected = vec![0x83, 0xa1, b'n', 0xcf];
    expected.extend(i64::MAX.to_be_bytes());
    expected.extend([0xa1, b'b', 0xc4, 3, 0, 255, 16, 0xa1, b'x', 0xc0]);
    assert_eq!(load(&packed, &["1"]).await[0].clone().map(string), Some(expected));
}

#[tokio::test]
async fn a_large_batch_answers_in_its_order() {
    let schema = "CREATE TABLE numbers (id INTEGER PRIMARY KEY, name TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        INSERT INTO numbers SELECT i, 'name ' || i FROM n";
    let (file, _writer) = File::new(schema);
    let database = file.connect().await;
    let statement = one(&database, "SELECT name FROM numbers WHERE id = :id -- last", Encoding::Text).await;
    let keys: Vec<String> = (0..600).map(|n| ((n * 7) % 600 + 1).to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected: Vec<_> =
        keys.iter().map(|key| (key.parse::<u32>().unwrap() <= 500).then(|| format!("name {key}"))).collect();
    assert_eq!(texts(load(&statement, &keys).await), expected);
}

#[tokio::test]
async fn many_rows_keep_the_statements_order_alone_and_in_batches() {
    let schema = "CREATE TABLE listed (list INTEGER, n INTEGER);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90)
        INSERT INTO listed SELECT i % 3, i FROM n";
    let (file, _writer) = File::new(schema);
    let database = file.connect().await;
    let sql = "SELECT n FROM listed WHERE list = :list ORDER BY n % 7, n DESC";
    let statement = prepare(&database, sql, Rows::Many, Encoding::Json).await;
    let expected = |list: u32| {
        let mut rows: Vec<u32> = (1..=90).filter(|n| n % 3 == list).collect();
        rows.sort_by_key(|n| (n % 7, u32::MAX - n));
        Some(format!("[{}]", rows.iter().map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>().join(",")))
    };
    assert_eq!(texts(load(&statement, &["1"]).await), [expected(1)]);
    let loaded = texts(load(&statement, &["2", "9", "0", "2"]).await);
    assert_eq!(loaded, [expected(2), Some("[]".into()), expected(0), expected(2)]);
}

#[tokio::test]
async fn statements_of_every_shape_run_in_batches() {
    let schema =
        "CREATE TABLE shapes (n INTEGER); INSERT INTO shapes VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)";
    let (file, _writer) = File::new(schema);
    let database = file.connect().await;
    for (sql, expected) in [
        ("SELECT n FROM shapes ORDER BY n DESC LIMIT :n", [r#"[{"n":9}]"#, r#"[{"n":9},{"n":8}]"#]),
        (
            "WITH x AS (SELECT n FROM shapes WHERE n <= CAST(:n AS INTEGER)) SELECT sum(n) FROM x;",
            [r#"[{"sum(n)":1}]"#, r#"[{"sum(n)":3}]"#],
        ),
        ("SELECT n FROM shapes WHERE n = :n UNION ALL SELECT 7", [r#"[{"n":1},{"n":7}]"#, r#"[{"n":2},{"n":7}]"#]),
        ("VALUES (CAST(:n AS INTEGER))", [r#"[{"column1":1}]"#, r#"[{"column1":2}]"#]),
        ("SELECT sum(CAST(:n AS INTEGER)) AS s FROM shapes", [r#"[{"s":9}]"#, r#"[{"s":18}]"#]),
    ] {
        let statement = prepare(&database, sql, Rows::Many, Encoding::Json).await;
        assert_eq!(statement.parameter_types(), ["INTEGER"], "{sql}");
        let expected = expected.map(|text| Some(text.to_owned()));
        assert_eq!(texts(load(&statement, &["1"]).await), expected[..1], "{sql}");
        assert_eq!(texts(load(&statement, &["1", "2"]).await), expected, "{sql}");
    }
}

#[tokio::test]
async fn several_parameters_bind_by_name_and_statements_without_any_run_too() {
    let (file, _writer) =
        File::new("CREATE TABLE pairs (a INTEGER, b TEXT); INSERT INTO pairs VALUES (1, 'x'), (2, 'y')");
    let database = file.connect().await;
    let mut pair = spec("SELECT a, :b FROM pairs WHERE b = :b AND a = :a", Rows::One, Encoding::Hash);
    pair.parameters = vec!["a".into(), "b".into()];
    let statement = database.prepare(pair).await.unwrap();
    assert_eq!(statement.parameter_types(), ["INTEGER", "TEXT"]);
    let lists = [["1", "x"], ["1", "y"], ["2", "y"]].map(|list| list.map(str::to_owned).to_vec());
    let batch = statement.load(lists.to_vec()).await.unwrap();
    assert_eq!(batch[1].value, None);
    for (list, loaded) in lists.iter().zip(&batch) {
        assert_eq!(statement.load(vec![list.clone()]).await.unwrap(), std::slice::from_ref(loaded));
    }
    assert_eq!(fields(&batch[2].value)[0], ("a".to_owned(), b"2".to_vec()));
    let none = one(&database, "SELECT max(a) AS m FROM pairs", Encoding::Json).await;
    assert_eq!(texts(values(none.load(vec![vec![], vec![]]).await.unwrap())), vec![Some("{\"m\":2}".to_owned()); 2]);
}

#[tokio::test]
async fn a_second_row_where_one_is_asked_for_is_an_error() {
    let (file, _writer) = File::new("CREATE TABLE twice (id INTEGER); INSERT INTO twice VALUES (1), (1)");
    let statement = one(&file.connect().await, "SELECT id FROM twice WHERE id = :id", Encoding::Json).await;
    for keys in [&["1"][..], &["2", "1"]] {
        let error = try_load(&statement, keys).await.unwrap_err();
        assert!(matches!(&error, DatabaseError::Encoding(message) if message.contains("more than one row")), "{error}");
    }
}

#[tokio::test]
async fn an_integer_key_part_that_is_none_does_not_fit_and_text_is_bound() {
    let (file, writer) = File::new(ITEMS);
    let database = file.connect().await;
    let typed = one(&database, "SELECT t FROM items WHERE id = :id", Encoding::Text).await;
    assert_eq!(typed.parameter_types(), ["INTEGER"]);
    assert!(typed.fits(&["1"]));
    for key in ["abc", "01", "1;drop table items", " 1", "1.0", "9223372036854775808", ""] {
        assert!(!typed.fits(&[key]), "{key}");
    }
    let text = one(&database, "SELECT id FROM items WHERE t = :t", Encoding::Text).await;
    assert_eq!(text.parameter_types(), ["TEXT"]);
    let attempts = ["' OR '1'='1", "x'; DROP TABLE items; --", "?1", "\0"];
    assert!(attempts.iter().all(|attempt| text.fits(&[attempt])));
    assert_eq!(load(&text, &attempts).await, vec![None; attempts.len()]);
    assert_eq!(texts(load(&text, &["a\0b"]).await), [Some("3".into())]);
    assert_eq!(writer.query_row("SELECT count(*) FROM items", [], |row| row.get::<_, i64>(0)).unwrap(), 3);
}

#[tokio::test]
async fn wrong_statements_are_found_at_start_with_the_place() {
    let (file, _writer) = File::new(ITEMS);
    let database = file.connect().await;
    let error =
        refused(&database, "SELECT id\n FROM items WHERE id = :identity AND wrong = 1", Rows::One, Encoding::Json)
            .await;
    assert_eq!(error.to_string(), "statement failed: no such column: wrong at line 2, column 38");
    for (sql, encoding, words) in [
        ("SELECT * FROM nowhere", Encoding::Json, "no such table: nowhere"),
        ("SELECT 1, 2", Encoding::Text, "needs exactly one column"),
        ("SELECT 1 AS a, 2 AS a", Encoding::Json, "two columns are named \"a\""),
        ("DELETE FROM items WHERE id = :id RETURNING id", Encoding::Json, "the statement writes"),
        ("SELECT id FROM items WHERE id = ?", Encoding::Json, "write :name"),
        ("PRAGMA user_version", Encoding::Json, "cannot be a subquery"),
    ] {
        let error = refused(&database, sql, Rows::One, encoding).await.to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_missing_file_is_an_error_and_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.db");
    let error = Database::connect(&sqlite_config(&path)).await.err().unwrap();
    assert!(
        matches!(&error, DatabaseError::Unavailable(message) if message.contains("no database file at")),
        "{error}"
    );
    assert!(!path.exists());
    std::fs::write(&path, "this is a text and certainly no database, however long it may go on").unwrap();
    let error = Database::connect(&sqlite_config(&path)).await.err().unwrap();
    assert!(error.to_string().contains("not a database"), "{error}");
}

#[tokio::test]
async fn what_another_process_changed_is_seen_by_the_next_load() {
    for mode in ["delete", "wal"] {
        let (file, writer) = File::new(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE t (id INTEGER, v TEXT)"));
        let database = file.connect().await;
        let statement = one(&database, "SELECT * FROM t WHERE id = :id", Encoding::Json).await;
        assert_eq!(load(&statement, &["1"]).await, [None]);
        writer.execute_batch("INSERT INTO t VALUES (1, 'a')").unwrap();
        assert_eq!(texts(load(&statement, &["1"]).await), [Some(r#"{"id":1,"v":"a"}"#.into())]);
        writer.execute_batch("ALTER TABLE t RENAME v TO w; ALTER TABLE t ADD x DEFAULT 5").unwrap();
        let changed = Some(r#"{"id":1,"w":"a","x":5}"#.to_owned());
        assert_eq!(texts(load(&statement, &["1"]).await), std::slice::from_ref(&changed), "{mode}");
        assert_eq!(texts(load(&statement, &["1", "2"]).await), [changed, None]);

        let other = file.path.with_extension("new");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE t (id INTEGER, v); INSERT INTO t VALUES (1, 2)")
            .unwrap();
        if mode == "delete" {
            std::fs::rename(&other, &file.path).unwrap();
            assert_eq!(texts(load(&statement, &["1"]).await), [Some(r#"{"id":1,"v":2}"#.into())]);
        }
    }
}

#[tokio::test]
async fn loads_go_on_while_a_writer_holds_the_write_lock_of_a_wal() {
    let (file, writer) = File::new(&format!("PRAGMA journal_mode = wal; {ITEMS}"));
    let statement = one(&file.connect().await, "SELECT t FROM items WHERE id = :id", Encoding::Text).await;
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE items SET t = 'new'").unwrap();
    assert_eq!(texts(load(&statement, &["2"]).await), [Some(String::new())]);
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(texts(load(&statement, &["2"]).await), [Some("new".into())]);
}

#[tokio::test]
async fn a_lock_held_too_long_is_a_timeout() {
    let (file, writer) = File::new(ITEMS);
    let config = weir::config::Database { timeout: Duration::from_millis(50), ..sqlite_config(&file.path) };
    let database = Database::connect(&config).await.unwrap();
    let statement = one(&database, "SELECT t FROM items WHERE id = :id", Encoding::Text).await;
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let error = try_load(&statement, &["1"]).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Timeout(_)), "{error}");
}

/// Counts to a number that takes minutes.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000000000) SELECT count(*), :id FROM n";

#[tokio::test]
async fn dropped_loads_free_their_threads_and_queued_ones_never_run() {
    let (file, _writer) = File::new(ITEMS);
    let config = weir::config::Database { pool: 2, ..sqlite_config(&file.path) };
    let database = Database::connect(&config).await.unwrap();
    let endless = one(&database, ENDLESS, Encoding::Json).await;
    let quick = one(&database, "SELECT t FROM items WHERE id = :id", Encoding::Text).await;
    let begun = Instant::now();
    for _ in 0..3 {
        let stopped = |statement: Arc<dyn Statement>| async move {
            tokio::time::timeout(Duration::from_millis(30), try_load(&statement, &["1"])).await.is_err()
        };
        let all = join_all((0..20).map(|_| stopped(endless.clone()))).await;
        assert!(all.into_iter().all(|stopped| stopped), "an endless load ended");
        // An interrupt reaches the load that was dropped, and no other.
        let loads = join_all((0..50).map(|_| load(&quick, &["2"]))).await;
        assert!(loads.into_iter().all(|loaded| texts(loaded) == [Some(String::new())]));
    }
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn it_is_idle_while_less_than_half_of_the_threads_have_something_to_do() {
    let (file, _writer) = File::new(ITEMS);
    for (pool, most) in [(1, 0), (2, 0), (5, 2)] {
        let config = weir::config::Database { pool, ..sqlite_config(&file.path) };
        let database = Database::connect(&config).await.unwrap();
        let endless = one(&database, ENDLESS, Encoding::Json).await;
        let mut running = Vec::new();
        for _ in 0..=most {
            assert!(endless.is_idle(), "{} of {pool}", running.len());
            let mut load = Box::pin(try_load(&endless, &["1"]));
            assert!((&mut load).now_or_never().is_none(), "an endless load ended");
            running.push(load);
        }
        assert!(!endless.is_idle(), "{} of {pool}", running.len());
        drop(running);
        assert!(endless.is_idle(), "nobody waits for them any more");
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_is_an_error_as_json_and_exact_as_text() {
    let (file, _writer) =
        File::new("CREATE TABLE raw (id INTEGER, t TEXT); INSERT INTO raw VALUES (1, CAST(x'ff41' AS TEXT))");
    let database = file.connect().await;
    let json = one(&database, "SELECT t FROM raw WHERE id = :id", Encoding::Json).await;
    assert!(matches!(try_load(&json, &["1"]).await, Err(DatabaseError::Encoding(_))));
    let text = one(&database, "SELECT t FROM raw WHERE id = :id", Encoding::Text).await;
    assert_eq!(load(&text, &["1"]).await[0].clone().map(string), Some(vec![0xff, 0x41]));
}

#[tokio::test]
async fn columns_that_tags_are_made_of_come_beside_every_encoding_alone_and_in_a_batch() {
    let schema = "CREATE TABLE tagged (id INTEGER PRIMARY KEY, shop INTEGER NOT NULL, category INTEGER);
                  INSERT INTO tagged VALUES (1, 10, 5), (2, 10, NULL), (3, 11, 6);";
    let (file, _writer) = File::new(schema);
    let database = file.connect().await;
    tag_columns_come_beside_the_rows(&database).await;
}
