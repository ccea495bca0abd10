//! Weir with a store and a database, in the four pairs that it must serve alike.

use super::{Gate, Postgres, Redis, Reply, Sqlite, Weir, shop, sqlite, wait_until};

/// Which store and which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    EmbeddedSqlite,
    EmbeddedPostgres,
    RedisSqlite,
    RedisPostgres,
}

impl Pair {
    pub fn has_redis(self) -> bool {
        matches!(self, Pair::RedisSqlite | Pair::RedisPostgres)
    }

    pub fn has_postgres(self) -> bool {
        matches!(self, Pair::EmbeddedPostgres | Pair::RedisPostgres)
    }
}

/// The source of truth, filled with the shop.
pub enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    pub fn shop(pair: Pair) -> Database {
        if !pair.has_postgres() {
            return Database::Sqlite(Sqlite::shop());
        }
        let postgres = Postgres::start();
        postgres.sql(&shop::sql());
        Database::Postgres(postgres)
    }

    pub fn url(&self) -> String {
        match self {
            Database::Sqlite(sqlite) => sqlite.url(),
            Database::Postgres(postgres) => postgres.url(),
        }
    }

    #[track_caller]
    pub fn sql(&self, text: &str) {
        match self {
            Database::Sqlite(sqlite) => sqlite.sql(text),
            Database::Postgres(postgres) => drop(postgres.sql(text)),
        }
    }

    /// A column for a `load` that keeps it busy after its snapshot is taken: in PostgreSQL while the gate is shut, in SQLite,
    /// which has nothing to wait for, by counting for about `milliseconds`. No test may depend on that time.
    pub fn held_column(&self, milliseconds: u64) -> String {
        match self {
            Database::Sqlite(_) => format!(
                "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT count(*) FROM n)",
                milliseconds * sqlite::steps_per_millisecond()
            ),
            Database::Postgres(_) => "(SELECT through_gate())".to_owned(),
        }
    }

    /// Shuts the gate for `held_column`, where there is one.
    pub fn shut_gate(&self) -> Option<Gate> {
        match self {
            Database::Sqlite(_) => None,
            Database::Postgres(postgres) => Some(postgres.shut_gate()),
        }
    }

    /// A column that is an error where the row's `detail` is no JSON.
    pub fn failing_column(&self) -> &'static str {
        match self {
            Database::Sqlite(_) => "json(detail)",
            Database::Postgres(_) => "detail::json::text",
        }
    }

    /// Where the database can say it: exactly how many statements with `mark` have ended well.
    pub fn runs(&self, mark: &str) -> Option<i64> {
        match self {
            Database::Sqlite(_) => None,
            Database::Postgres(postgres) => Some(postgres.runs(mark)),
        }
    }
}

/// The start of a configuration: the upstream at this address, if there is one, and the database `main`.
/// A slow machine must not look like a dead server: tests of the time limits set their own.
pub fn servers(upstream: Option<&str>, database: &str) -> String {
    let upstream = upstream.map(|url| format!("[upstream]\nurl = \"{url}\"\ntimeout = \"20s\"\n"));
    let database =
        format!("[database.main]\nurl = \"{database}\"\ntimeout = \"20s\"\n[defaults]\ndatabase = \"main\"\n");
    upstream.unwrap_or_default() + &database
}

/// Weir, its store and its database.
pub struct Stack {
    pub weir: Weir,
    pub redis: Option<Redis>,
    pub database: Database,
}

impl Stack {
    /// With these routes, all on the database `main`, which holds the shop.
    #[track_caller]
    pub fn start(pair: Pair, routes: &str) -> Stack {
        Stack::with(pair, |_| routes.to_owned())
    }

    /// The same, with routes that depend on the database's kind.
    #[track_caller]
    pub fn with(pair: Pair, routes: impl FnOnce(&Database) -> String) -> Stack {
        let database = Database::shop(pair);
        let redis = pair.has_redis().then(Redis::start);
        let upstream = redis.as_ref().map(Redis::url);
        let config = servers(upstream.as_deref(), &database.url()) + &routes(&database);
        let weir = Weir::start(&config);
        Stack { weir, redis, database }
    }

    /// Waits until `count` loads run: in PostgreSQL, until so many stand in the gate.
    #[track_caller]
    pub fn wait_until_loading(&self, count: i64) {
        wait_until(&format!("{count} loads run"), || match &self.database {
            Database::Sqlite(_) => self.weir.metric("weir_loads_in_flight", &[("database", "main")]) as i64 >= count,
            Database::Postgres(postgres) => postgres.in_gate() >= count,
        });
    }

    /// What the upstream itself holds, where there is one; asked past Weir.
    pub fn raw(&self, words: &str) -> Option<Reply> {
        self.redis.as_ref().map(|redis| redis.client().run(words))
    }

    /// Asserts how many loads a route has run: by Weir's own counter and, where it can say it, by the database's.
    #[track_caller]
    pub fn assert_loads(&self, route: &str, expected: i64) {
        assert_eq!(self.weir.metric("weir_loads_total", &[("route", route)]) as i64, expected, "loads of {route}");
        if let Some(runs) = self.database.runs(&format!("/* {route} */")) {
            assert_eq!(runs, expected, "statements of {route} that the database counted");
        }
    }
}

/// Makes four tests of one function that takes a [`Pair`].
macro_rules! over_all_pairs {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use super::harness::Pair;
            #[test]
            fn embedded_sqlite() { super::$name(Pair::EmbeddedSqlite); }
            #[test]
            fn embedded_postgres() { super::$name(Pair::EmbeddedPostgres); }
            #[test]
            fn redis_sqlite() { super::$name(Pair::RedisSqlite); }
            #[test]
            fn redis_postgres() { super::$name(Pair::RedisPostgres); }
        }
    )+ };
}
pub(crate) use over_all_pairs;
