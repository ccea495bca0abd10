//! What loads from a real PostgreSQL promise: exact values, order, types, errors, and no query that outlives its wish.

#![allow(clippy::unwrap_used)]

mod database_support;

use database_support::*;
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use weir::config::{Encoding, Rows};
use weir::database::{Database, DatabaseError};

/// A database of its own on the shared server, with these objects in it.
async fn database(schema: &str) -> (Arc<Server>, Database) {
    let server = shared();
    server.psql(schema);
    let database = Database::connect(&postgres_config(&server.url())).await.unwrap();
    (server, database)
}

/// Every type, each with an ordinary value, an extreme one and NULL.
const TYPES: &[(&str, &str)] = &[
    ("bool", "true"),
    ("smallint", "-32768"),
    ("int", "2147483647"),
    ("bigint", "-9223372036854775808"),
    ("bigint", "9223372036854775807"),
    ("numeric", "'1234567890123456789012345678901234567890.1234567890123456789012345678901234567890'"),
    ("numeric(10,4)", "1.5"),
    ("numeric", "'NaN'"),
    ("real", "'1.1'"),
    ("real", "'-Infinity'"),
    ("double precision", "'0.30000000000000004'"),
    ("double precision", "1e300"),
    ("double precision", "'NaN'"),
    ("money", "'$1,234.50'"),
    ("text", "E'é \\u20ac \"quoted\" \\\\ \\n\\t \\x7f'"),
    ("text", "''"),
    ("varchar(10)", "'a  '"),
    ("char(5)", "'ab'"),
    ("\"char\"", "'x'"),
    ("name", "'relname'"),
    ("bytea", "'\\x00ff10'"),
    ("date", "'2024-02-29'"),
    ("date", "'infinity'"),
    ("date", "'0044-03-15 BC'"),
    ("time", "'23:59:59.999999'"),
    ("timetz", "'12:00:00+02'"),
    ("timestamp", "'2024-02-29 12:34:56.123456'"),
    ("timestamptz", "'2024-02-29 12:34:56.123456+05:30'"),
    ("timestamptz", "'-infinity'"),
    ("interval", "'1 year 2 mons -3 days 04:05:06.789'"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
    ("json", "'{\"b\" : 1.50, \"a\":[1, null], \"a\": 2}'"),
    ("jsonb", "'{\"b\": 123456789012345678901234567890.5, \"a\": [1, null, \"é\"]}'"),
    ("xml", "'<a>&amp;</a>'"),
    ("inet", "'192.168.1.5'"),
    ("cidr", "'10.0.0.0/8'"),
    ("macaddr", "'08:00:2b:01:02:03'"),
    ("bit(4)", "B'1010'"),
    ("varbit", "B'10101'"),
    ("int[]", "'{1,NULL,-3}'"),
    ("int[]", "'{{1,2},{3,4}}'"),
    ("text[]", "ARRAY['a,b', 'c\"d', NULL, '']"),
    ("numeric[]", "'{1.10,NaN}'"),
    ("float8[]", "'{0.1,Infinity}'"),
    ("int4range", "'[1,5)'"),
    ("int4multirange", "'{[1,3),[5,7)}'"),
    ("tsvector", "to_tsvector('simple', 'a fat cat')"),
    ("point", "'(1.5,2)'"),
    ("oid", "4294967295"),
    ("regclass", "'pg_class'"),
    ("types_mood", "'so so'"),
    ("types_mood[]", "'{sad,\"so so\"}'"),
    ("types_price", "12.30"),
    ("types_pair", "ROW(7, 'x y')"),
    ("types_pair", "ROW(NULL, NULL)"),
    ("types_pair[]", "ARRAY[ROW(1, 'a')::types_pair]"),
];

fn types_schema() -> String {
    let columns: Vec<String> = (0..).zip(TYPES).map(|(n, (kind, _))| format!("c{n} {kind}")).collect();
    let values: Vec<&str> = TYPES.iter().map(|(_, value)| *value).collect();
    format!(
        "CREATE TYPE types_mood AS ENUM ('sad', 'so so');
         CREATE DOMAIN types_price AS numeric(8,2) CHECK (VALUE >= 0);
         CREATE TYPE types_pair AS (a int, b text);
         CREATE TABLE types (id bigint PRIMARY KEY, {});
         INSERT INTO types VALUES (1, {});
         INSERT INTO types (id) VALUES (2);",
        columns.join(", "),
        values.join(", ")
    )
}

#[tokio::test]
async fn every_type_is_exactly_what_postgres_prints() {
    let (server, database) = database(&types_schema()).await;

    let json = one(&database, "SELECT * FROM types WHERE id = :id", Encoding::Json).await;
    let printed = |id: &str| Some(server.psql(&format!("SELECT row_to_json(t) FROM types t WHERE id = {id}")));
    assert_eq!(texts(load(&json, &["1"]).await), [printed("1")]);
    assert_eq!(texts(load(&json, &["2", "3", "1"]).await), [printed("2"), None, printed("1")]);

    let hash = one(&database, "SELECT * FROM types WHERE id = :id", Encoding::Hash).await;
    let loaded = load(&hash, &["1"]).await;
    assert_eq!(load(&hash, &["2", "1"]).await[1], loaded[0], "a batch answers as a single load does");
    let row = fields(&loaded[0]);
    assert_eq!(row.len(), TYPES.len() + 1);
    for (n, (kind, value)) in (0..).zip(TYPES) {
        let (name, text) = &row[n + 1];
        assert_eq!(*name, format!("c{n}"));
        match *kind {
            "bytea" => assert_eq!(text, &[0, 255, 16]),
            _ => assert_eq!(
                String::from_utf8_lossy(text),
                server.psql(&format!("SELECT c{n} FROM types WHERE id = 1")),
                "{kind} {value}"
            ),
        }
        let alone = one(&database, &format!("SELECT c{n} FROM types WHERE id = :id"), Encoding::Text).await;
        let loaded = load(&alone, &["1", "2"]).await;
        assert_eq!(loaded[0].clone().map(string).as_ref(), Some(text), "{kind} {value}");
        assert_eq!(loaded[1], None, "NULL as text is not found");
    }
    assert_eq!(fields(&load(&hash, &["2"]).await[0]), [("id".to_owned(), b"2".to_vec())]);
}

#[tokio::test]
async fn messagepack_has_the_types_of_the_columns() {
    let schema = "CREATE TYPE packed_mood AS ENUM ('sad'); CREATE DOMAIN packed_id AS int;
        CREATE TABLE packed (id packed_id, b bool, i2 smallint, i8 bigint, f4 real, f8 float8, n numeric, t text, y bytea,
            j jsonb, a int[], fa float8[], na numeric[], m packed_mood, d date, x text);
        INSERT INTO packed VALUES (1, true, -2, 9223372036854775807, 1.5, 0.1, 1.50, 'é', '\\x00ff',
            '{\"k\": [1, 2.5, null]}', '{1,NULL}', '{1,Infinity}', '{1.10}', 'sad', '2024-02-29', NULL)";
    let (_server, database) = database(schema).await;
    let mut expected = Vec::new();
    {
        use rmp::encode::*;
        let out = &mut expected;
        let key = |out: &mut Vec<u8>, name: &str| write_str(out, name).unwrap();
        write_map_len(out, 16).unwrap();
        key(out, "id");
        write_sint(out, 1).unwrap();
        key(out, "b");
        write_bool(out, true).unwrap();
        key(out, "i2");
        write_sint(out, -2).unwrap();
        key(out, "i8");
        write_sint(out, i64::MAX).unwrap();
        key(out, "f4");
        write_f32(out, 1.5).unwrap();
        key(out, "f8");
        write_f64(out, 0.1).unwrap();
        key(out, "n");
        write_str(out, "1.50").unwrap();
        key(out, "t");
        write_str(out, "é").unwrap();
        key(out, "y");
        write_bin(out, &[0, 255]).unwrap();
        key(out, "j");
        write_map_len(out, 1).unwrap();
        key(out, "k");
        write_array_len(out, 3).unwrap();
        write_sint(out, 1).unwrap();
        write_f64(out, 2.5).unwrap();
        write_nil(out).unwrap();
        key(out, "a");
        write_array_len(out, 2).unwrap();
        write_sint(out, 1).unwrap();
        write_nil(out).unwrap();
        key(out, "fa");
        write_array_len(out, 2).unwrap();
        write_f64(out, 1.0).unwrap();
        write_f64(out, f64::INFINITY).unwrap();
        key(out, "na");
        write_array_len(out, 1).unwrap();
        write_str(out, "1.10").unwrap();
        key(out, "m");
        write_str(out, "sad").unwrap();
        key(out, "d");
        write_str(out, "2024-02-29").unwrap();
        key(out, "x");
        write_nil(out).unwrap();
    }
    let packed = one(&database, "SELECT * FROM packed WHERE id = :id", Encoding::MsgPack).await;
    assert_eq!(load(&packed, &["1"]).await[0].clone().map(string), Some(expected.clone()));
    let many = prepare(&database, "SELECT * FROM packed WHERE id = :id", Rows::Many, Encoding::MsgPack).await;
    let array = [vec![0x91], expected].concat();
    let loaded: Vec<_> = load(&many, &["2", "1"]).await.into_iter().map(|value| value.map(string)).collect();
    assert_eq!(loaded, [Some(vec![0x90]), Some(array)]);
}

#[tokio::test]
async fn a_batch_is_one_statement_and_answers_in_its_order() {
    let schema = "CREATE TABLE batch AS SELECT n AS id, 'name ' || n AS name FROM generate_series(1, 500) n";
    let (_server, database) = database(schema).await;
    let statement =
        one(&database, "SELECT name, txid_current() FROM batch WHERE id = :id -- the last line", Encoding::Hash).await;
    let keys: Vec<String> = (0..600).map(|n| ((n * 7) % 600 + 1).to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let loaded = load(&statement, &keys).await;
    let mut transactions = std::collections::HashSet::new();
    for (key, loaded) in keys.iter().zip(&loaded) {
        if key.parse::<u32>().unwrap() > 500 {
            assert_eq!(*loaded, None, "{key}");
            continue;
        }
        let row = fields(loaded);
        assert_eq!(row[0].1, format!("name {key}").into_bytes());
        transactions.insert(row[1].1.clone());
    }
    assert_eq!(transactions.len(), 1);
}

#[tokio::test]
async fn many_rows_keep_the_statements_order_alone_and_in_batches() {
    let schema = "CREATE TABLE listed AS SELECT n % 3 AS list, n FROM generate_series(1, 90) n";
    let (_server, database) = database(schema).await;
    let sql = "SELECT n FROM listed WHERE list = :list ORDER BY n % 7, n DESC";
    let statement = prepare(&database, sql, Rows::Many, Encoding::Json).await;
    let expected = |list: u32| {
        let mut rows: Vec<u32> = (1..=90).filter(|n| n % 3 == list).collect();
        rows.sort_by_key(|n| (n % 7, u32::MAX - n));
        Some(format!("[{}]", rows.iter().map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>().join(",")))
    };
    assert_eq!(texts(load(&statement, &["1"]).await), [expected(1)]);
    assert_eq!(
        texts(load(&statement, &["2", "9", "0", "2"]).await),
        [expected(2), Some("[]".into()), expected(0), expected(2)]
    );
}

#[tokio::test]
async fn statements_of_every_shape_run_in_batches() {
    let (_server, database) =
        database("CREATE TABLE shapes AS SELECT n, n % 2 AS odd FROM generate_series(1, 9) n").await;
    for (sql, expected) in [
        ("SELECT n FROM shapes ORDER BY n DESC LIMIT :n", [r#"[{"n":9}]"#, r#"[{"n":9},{"n":8}]"#]),
        ("WITH x AS (SELECT n FROM shapes WHERE n <= :n) SELECT sum(n) FROM x;", [r#"[{"sum":1}]"#, r#"[{"sum":3}]"#]),
        ("SELECT :n::int UNION ALL SELECT 7", [r#"[{"int4":1},{"int4":7}]"#, r#"[{"int4":2},{"int4":7}]"#]),
        (
            "SELECT odd, count(*) FROM shapes WHERE n <= :n GROUP BY 1 HAVING :n > 0 ORDER BY 1 DESC LIMIT 1",
            [r#"[{"odd":1,"count":1}]"#, r#"[{"odd":1,"count":1}]"#],
        ),
        ("SELECT generate_series(1, :n) AS g /* the end */", [r#"[{"g":1}]"#, r#"[{"g":1},{"g":2}]"#]),
        ("VALUES (:n::int)", [r#"[{"column1":1}]"#, r#"[{"column1":2}]"#]),
        // Not as a part of another statement: the aggregate would belong to that one.
        ("SELECT sum(:n::int) FROM shapes", [r#"[{"sum":9}]"#, r#"[{"sum":18}]"#]),
    ] {
        let statement = prepare(&database, sql, Rows::Many, Encoding::Json).await;
        let expected = expected.map(|text| Some(text.to_owned()));
        assert_eq!(texts(load(&statement, &["1"]).await), expected[..1], "{sql}");
        assert_eq!(texts(load(&statement, &["1", "2"]).await), expected, "{sql}");
    }
}

#[tokio::test]
async fn a_batch_finds_its_rows_through_the_index() {
    let schema = "CREATE TABLE indexed AS SELECT n AS id, n % 100 AS list FROM generate_series(1, 50000) n;
        CREATE UNIQUE INDEX ON indexed (id); CREATE INDEX ON indexed (list); ANALYZE indexed";
    let (server, database) = database(schema).await;
    let before = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'indexed'";
    let scans = server.psql(before);
    let one = one(&database, "SELECT * FROM indexed WHERE id = :id", Encoding::Json).await;
    let many =
        prepare(&database, "SELECT * FROM indexed WHERE list = :list ORDER BY id", Rows::Many, Encoding::Json).await;
    load(&one, &["1", "2", "70000"]).await;
    load(&many, &["1", "2"]).await;
    drop((one, many, database));
    // Counted when the connections end, if not before.
    let watch = server.clone();
    let found = "SELECT coalesce(sum(idx_scan), 0) FROM pg_stat_user_tables WHERE relname = 'indexed'";
    wait(move || watch.psql(found).parse::<u32>().unwrap() >= 5).await;
    assert_eq!(server.psql(before), scans);
}

#[tokio::test]
async fn columns_have_the_same_names_alone_and_in_batches() {
    let (_server, database) = database("").await;
    let sql = "SELECT :id::int, :id::int + 1, upper(:name), 'x' AS \"we\"\"ird\"";
    for (rows, encoding) in [(Rows::One, Encoding::Json), (Rows::Many, Encoding::MsgPack), (Rows::One, Encoding::Hash)]
    {
        let statement = prepare(&database, sql, rows, encoding).await;
        let arguments = vec!["5".to_owned(), "a".to_owned()];
        let alone = values(statement.load(vec![arguments.clone()]).await.unwrap());
        let batch = values(statement.load(vec![arguments.clone(), arguments]).await.unwrap());
        assert_eq!(batch, [alone[0].clone(), alone[0].clone()]);
    }
}

#[tokio::test]
async fn a_second_row_where_one_is_asked_for_is_an_error() {
    let (_server, database) = database("CREATE TABLE twice AS SELECT 1 AS id FROM generate_series(1, 2)").await;
    let statement = one(&database, "SELECT id FROM twice WHERE id = :id", Encoding::Json).await;
    for keys in [&["1"][..], &["2", "1"]] {
        let error = try_load(&statement, keys).await.unwrap_err();
        assert!(matches!(&error, DatabaseError::Encoding(message) if message.contains("more than one row")), "{error}");
    }
}

#[tokio::test]
async fn parameters_have_the_types_of_the_database_and_only_their_texts_fit() {
    let schema = "CREATE TYPE kinds_mood AS ENUM ('sad', 'glad');
        CREATE TABLE kinds (i int, t text, u uuid, c char(3), m kinds_mood, n numeric, d date, a inet);
        INSERT INTO kinds VALUES (1, 'x''; DROP TABLE kinds; --', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'abc', 'glad', 1.50,
            '2024-02-29', '10.0.0.1')";
    let (server, database) = database(schema).await;
    for (column, kind, good, bad) in [
        ("i", "integer", "1", "1;drop table kinds"),
        ("i", "integer", "1", "01"),
        ("u", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "abc"),
        ("m", "kinds_mood", "glad", "mad"),
        ("n", "numeric", "1.50", "1e5"),
        ("d", "date", "2024-02-29", "2023-02-29"),
        ("t", "text", "x'; DROP TABLE kinds; --", "a\0b"),
        ("c", "bpchar", "abc", "a\0b"),
    ] {
        let statement = one(&database, &format!("SELECT i FROM kinds WHERE {column} = :v"), Encoding::Text).await;
        assert_eq!(statement.parameter_types(), [kind]);
        assert!(statement.fits(&[good]) && !statement.fits(&[bad]), "{column}: {good}, {bad}");
        assert_eq!(texts(load(&statement, &[good]).await), [Some("1".into())]);
        assert_eq!(texts(load(&statement, &[good, good]).await), [Some("1".into()), Some("1".into())]);
    }
    let text = one(&database, "SELECT i FROM kinds WHERE t = :v", Encoding::Text).await;
    let attempts = ["' OR '1'='1", "x'; DROP TABLE kinds; --'", "$1", "\\", "{a,b}", "\"", "NULL", ""];
    assert_eq!(load(&text, &attempts).await, vec![None; attempts.len()]);
    for attempt in attempts {
        assert_eq!(load(&text, &[attempt]).await, [None]);
    }
    assert_eq!(server.psql("SELECT count(*) FROM kinds"), "1");
}

#[tokio::test]
async fn what_only_the_server_can_judge_is_not_found_when_it_is_invalid() {
    let (_server, database) = database("CREATE TABLE hosts AS SELECT '10.0.0.1'::inet AS a, 'x' AS name").await;
    let statement = one(&database, "SELECT name FROM hosts WHERE a = :a", Encoding::Text).await;
    assert_eq!(statement.parameter_types(), ["inet"]);
    assert_eq!(texts(load(&statement, &["nonsense"]).await), [None]);
    assert_eq!(texts(load(&statement, &["nonsense", "10.0.0.1", "10.0.0.2"]).await), [None, Some("x".into()), None]);
    let many = prepare(&database, "SELECT name FROM hosts WHERE a = :a", Rows::Many, Encoding::Json).await;
    assert_eq!(texts(load(&many, &["nonsense"]).await), [Some("[]".into())]);
}

#[tokio::test]
async fn a_data_error_of_the_statement_is_an_error_and_shows_no_data() {
    let (_server, database) = database("CREATE TABLE broken AS SELECT 1 AS id, 'secret'::text AS t").await;
    let statement = one(&database, "SELECT t::int FROM broken WHERE id = :id", Encoding::Json).await;
    let error = try_load(&statement, &["1"]).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Statement(_)), "{error}");
    assert!(error.to_string().contains("22P02") && !error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn several_parameters_bind_by_name_and_statements_without_any_run_too() {
    let (_server, database) = database("CREATE TABLE pairs AS SELECT 1 AS a, 2 AS b, 'weir_q' AS weir_q").await;
    let mut pair = spec(
        "WITH x AS (SELECT * FROM pairs WHERE b = :b) SELECT a, weir_q FROM x WHERE a = :a OR :a = 5",
        Rows::One,
        Encoding::Hash,
    );
    pair.parameters = vec!["a".into(), "b".into()];
    let statement = database.prepare(pair).await.unwrap();
    let batch =
        vec![vec!["1".to_owned(), "2".to_owned()], vec!["2".to_owned(), "1".to_owned()], vec!["5".into(), "2".into()]];
    let loaded = values(statement.load(batch).await.unwrap());
    assert_eq!(fields(&loaded[0]), [("a".to_owned(), b"1".to_vec()), ("weir_q".to_owned(), b"weir_q".to_vec())]);
    assert_eq!(loaded[1], None);
    assert_eq!(loaded[2], loaded[0]);
    let none = one(&database, "SELECT a FROM pairs", Encoding::Json).await;
    let loaded = values(none.load(vec![vec![], vec![]]).await.unwrap());
    assert_eq!(texts(loaded), vec![Some("{\"a\":1}".to_owned()); 2]);
    assert_eq!(none.load(vec![]).await.unwrap(), []);
}

#[tokio::test]
async fn wrong_statements_are_found_at_start_with_the_servers_words_and_the_place() {
    let (_server, database) = database("CREATE TABLE started (id int)").await;
    let sql = "SELECT id\n  FROM started WHERE id = :identity AND wrong = 1";
    let error = refused(&database, sql, Rows::One, Encoding::Json).await.to_string();
    assert_eq!(error, "statement failed: column \"wrong\" does not exist (42703) at line 2, column 41");
    for (sql, encoding, words) in [
        ("SELECT * FROM nowhere", Encoding::Json, "relation \"nowhere\" does not exist (42P01) at line 1, column 15"),
        ("SELECT 1, 2", Encoding::Text, "needs exactly one column"),
        ("SELECT 1 AS a, 2 AS a", Encoding::Json, "two columns are named \"a\""),
        ("DELETE FROM started WHERE id = :id RETURNING id", Encoding::Json, "must be a SELECT"),
        ("DELETE FROM started", Encoding::Json, "answers no columns"),
    ] {
        let error = refused(&database, sql, Rows::One, encoding).await.to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(matches!(refused(&database, "SELECT 1", Rows::Many, Encoding::Hash).await, DatabaseError::Encoding(_)));
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_ends_on_the_server() {
    let (server, database) = database("").await;
    let statement = one(&database, "SELECT pg_sleep(60), 'cancelled' AS mark, :id::int", Encoding::Json).await;
    let load = tokio::spawn(async move { try_load(&statement, &["1"]).await });
    let watch = server.clone();
    wait(move || watch.running("pg_sleep(60), ''cancelled''") == 1).await;
    load.abort();
    let watch = server.clone();
    wait(move || watch.running("pg_sleep(60), ''cancelled''") == 0).await;
    // All of the pool's places are free again.
    let quick = one(&database, "SELECT :id::int", Encoding::Text).await;
    let loads = join_all((0..8).map(|_| load_one(&quick))).await;
    assert_eq!(loads.len(), 8);
}

async fn load_one(statement: &Arc<dyn weir::database::Statement>) -> Vec<Option<String>> {
    texts(load(statement, &["1"]).await)
}

/// Waits for something that psql says, beside the runtime.
async fn wait(condition: impl Fn() -> bool + Send + 'static) {
    tokio::task::spawn_blocking(move || wait_until("the server is there", condition)).await.unwrap();
}

#[tokio::test]
async fn the_pool_caps_what_runs_at_once_also_while_loads_are_cancelled() {
    let server = shared();
    let config = weir::config::Database { pool: 3, ..postgres_config(&server.url()) };
    let database = Database::connect(&config).await.unwrap();
    let statement = one(&database, "SELECT pg_sleep(0.02), 'capped' AS mark, :id::int", Encoding::Json).await;
    let watched = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (watch, on) = (server.clone(), watched.clone());
    let watcher = tokio::task::spawn_blocking(move || {
        let mut most = 0;
        while on.load(std::sync::atomic::Ordering::Relaxed) {
            most = most.max(watch.running("''capped''"));
        }
        most
    });
    for _ in 0..3 {
        let loads = (0..20).map(|n| {
            let statement = statement.clone();
            async move {
                let limit = Duration::from_millis(if n % 3 == 0 { 10 } else { 10_000 });
                tokio::time::timeout(limit, load(&statement, &["1"])).await.is_ok()
            }
        });
        assert!(join_all(loads).await.into_iter().filter(|done| *done).count() >= 13);
    }
    watched.store(false, std::sync::atomic::Ordering::Relaxed);
    let most = watcher.await.unwrap();
    assert!((1..=3).contains(&most), "{most} ran at once");
}

#[tokio::test]
async fn the_servers_own_time_limit_holds_too() {
    let server = shared();
    let config = weir::config::Database { timeout: Duration::from_millis(200), ..postgres_config(&server.url()) };
    let database = Database::connect(&config).await.unwrap();
    let statement = one(&database, "SELECT pg_sleep(60), :id::int", Encoding::Json).await;
    let error = try_load(&statement, &["1"]).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_schema_change_is_met_by_preparing_again() {
    let (server, database) =
        database("CREATE TABLE changing (id int, a int, b text); INSERT INTO changing VALUES (1, 2, 'x')").await;
    let json = one(&database, "SELECT * FROM changing WHERE id = :id", Encoding::Json).await;
    let hash = one(&database, "SELECT * FROM changing WHERE id = :id", Encoding::Hash).await;
    let packed = one(&database, "SELECT a FROM changing WHERE id = :id", Encoding::MsgPack).await;
    for statement in [&json, &hash, &packed] {
        assert!(load(statement, &["1"]).await[0].is_some());
    }
    // What stands now where b stood is not b.
    server.psql("ALTER TABLE changing ALTER a TYPE bigint, DROP b, ADD c text DEFAULT 'new'");
    assert_eq!(texts(load(&json, &["1"]).await), [Some(r#"{"id":1,"a":2,"c":"new"}"#.into())]);
    assert_eq!(load(&packed, &["1"]).await[0].clone().map(string), Some(vec![0x81, 0xa1, b'a', 0x02]));
    let names: Vec<String> = fields(&load(&hash, &["1", "1"]).await[0]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["id", "a", "c"]);
    server.psql("DROP TABLE changing");
    let error = try_load(&json, &["1"]).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Statement(message) if message.contains("42P01")), "{error}");
}

#[tokio::test]
async fn a_named_statement_that_the_server_lost_is_prepared_again() {
    let server = shared();
    let config = weir::config::Database { pool: 1, ..postgres_config(&server.url()) };
    let database = Database::connect(&config).await.unwrap();
    let statement = one(&database, "SELECT :id::int", Encoding::Text).await;
    load(&statement, &["1"]).await;
    // A statement may do what a pooler between us would.
    server.psql("CREATE FUNCTION lose() RETURNS int LANGUAGE plpgsql AS 'BEGIN DEALLOCATE ALL; RETURN 1; END'");
    let losing = one(&database, "SELECT lose()", Encoding::Text).await;
    assert_eq!(texts(values(losing.load(vec![vec![]]).await.unwrap())), [Some("1".into())]);
    assert_eq!(texts(load(&statement, &["7"]).await), [Some("7".into())]);
}

#[tokio::test]
async fn columns_that_tags_are_made_of_come_beside_every_encoding_alone_and_in_a_batch() {
    let schema = "CREATE TABLE tagged (id bigint PRIMARY KEY, shop int NOT NULL, category bigint, good boolean, price numeric(8,2));
                  INSERT INTO tagged VALUES (1, 10, 5, true, 1.50), (2, 10, NULL, false, 2), (3, 11, 6, NULL, NULL);";
    let (_server, database) = database(schema).await;
    tag_columns_come_beside_the_rows(&database).await;
    let exact = tag_cells(
        &database,
        spec("SELECT * FROM tagged WHERE id = :id", Rows::One, Encoding::Json),
        &["price", "good"],
        &["1"],
    )
    .await;
    assert_eq!(exact, [[[Some("1.50".to_owned()), Some("t".to_owned())]]]);
}
