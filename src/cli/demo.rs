//! The demo: a sample shop in SQLite, made on first start, and the configuration that serves it.

use crate::config::{self, Config, Listen, demo};
use anyhow::{Context, anyhow};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};

/// Makes the shop where it is missing, and reads the demo's configuration.
pub fn prepare() -> anyhow::Result<Config> {
    prepare_in_one_of(&folders(|name| std::env::var_os(name)))
}

/// Where the shop may live, best first: the user's data folder, else the machine's temporary one.
fn folders(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.into_iter().chain([std::env::temp_dir()]).map(|folder| folder.join("weir/demo")).collect()
}

/// What to try, for the terminal that the demo was started from.
pub fn greeting(config: &Config) -> String {
    let address = config.server.listen.iter().find_map(Listen::address);
    let port = address.map_or(6380, |address| address.port());
    format!(
        "Weir serves the demo shop on {listen}, with status and metrics on http://{admin}/. Try:\n\n  \
         redis-cli -p {port} GET product:1\n  \
         redis-cli -p {port} HGETALL user:7\n  \
         curl http://{admin}/metrics\n\n\
         Your own file: weir serve --config weir.toml. Ctrl-C ends it.\n",
        listen = address.map_or_else(String::new, |address| address.to_string()),
        admin = config.server.admin,
    )
}

/// The first folder that can be written wins; the last one's error is told.
fn prepare_in_one_of(folders: &[PathBuf]) -> anyhow::Result<Config> {
    let mut outcome = Err(anyhow!("no folder for the demo"));
    for folder in folders {
        outcome = prepare_in(folder).with_context(|| format!("cannot make the demo's shop in {}", folder.display()));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Makes the shop in `folder` where it is missing, and reads the demo's configuration as if it stood beside it.
pub fn prepare_in(folder: &Path) -> anyhow::Result<Config> {
    std::fs::create_dir_all(folder)?;
    let shop = folder.join(demo::SHOP);
    if !is_current(&shop) {
        make_shop(&shop)?;
    }
    let file = folder.join("demo.toml");
    config::parse(demo::TOML, &file, |name| std::env::var(name).ok())
        .map_err(|errors| anyhow!("{}", config::render_all(&errors, "demo.toml", demo::TOML, false)))
}

/// Whether a shop of this version is there. Whatever else is there is made anew.
fn is_current(shop: &Path) -> bool {
    let version = |connection: Connection| connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    let opened = Connection::open_with_flags(shop, OpenFlags::SQLITE_OPEN_READ_ONLY);
    opened.and_then(version).is_ok_and(|version| version == demo::SQL_VERSION)
}

/// Builds beside the place and renames: a start that is interrupted, or two at once, leave no half shop.
fn make_shop(shop: &Path) -> anyhow::Result<()> {
    let building = shop.with_extension(format!("{}.building", std::process::id()));
    let built = fill_shop(&building).and_then(|()| put_in_place(&building, shop));
    if built.is_err() {
        // What is left over would only lie about; the error that matters is the one above.
        let _ = std::fs::remove_file(&building);
    }
    built
}

/// The write-ahead log of an older shop must not be read into the new one.
fn put_in_place(building: &Path, shop: &Path) -> anyhow::Result<()> {
    for log in ["sqlite-wal", "sqlite-shm"].map(|extension| shop.with_extension(extension)) {
        if log.exists() {
            std::fs::remove_file(log)?;
        }
    }
    Ok(std::fs::rename(building, shop)?)
}

fn fill_shop(file: &Path) -> anyhow::Result<()> {
    let _ = std::fs::remove_file(file);
    let mut connection = Connection::open(file)?;
    let transaction = connection.transaction()?;
    for sql in demo::SQL {
        transaction.execute_batch(sql)?;
    }
    transaction.pragma_update(None, "user_version", demo::SQL_VERSION)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DatabaseUrl;

    fn count(shop: &Path, sql: &str) -> i64 {
        Connection::open(shop).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_first_start_makes_the_shop_and_later_ones_keep_it() {
        let folder = tempfile::tempdir().unwrap();
        let config = prepare_in(&folder.path().join("a/b")).unwrap();
        let DatabaseUrl::Sqlite(shop) = &config.databases["shop"].url else { panic!("{config:?}") };
        assert_eq!(shop, &folder.path().join("a/b/shop.sqlite"));
        assert_eq!(count(shop, "SELECT count(*) FROM products"), 2400);
        assert_eq!(count(shop, "SELECT count(DISTINCT name) FROM products"), 2400);
        assert_eq!(count(shop, "SELECT count(DISTINCT name) FROM users WHERE city <> ''"), 1200);
        assert_eq!(count(shop, "SELECT count(*) FROM categories"), 12);
        assert_eq!(std::fs::read_dir(shop.parent().unwrap()).unwrap().count(), 1);

        Connection::open(shop).unwrap().execute("DELETE FROM users", []).unwrap();
        prepare_in(&folder.path().join("a/b")).unwrap();
        assert_eq!(count(shop, "SELECT count(*) FROM users"), 0);
    }

    #[test]
    fn the_greeting_names_three_commands() {
        let folder = tempfile::tempdir().unwrap();
        let greeting = greeting(&prepare_in(folder.path()).unwrap());
        let expected =
            "Weir serves the demo shop on 127.0.0.1:6380, with status and metrics on http://127.0.0.1:9600/. Try:

  redis-cli -p 6380 GET product:1
  redis-cli -p 6380 HGETALL user:7
  curl http://127.0.0.1:9600/metrics

Your own file: weir serve --config weir.toml. Ctrl-C ends it.
";
        assert_eq!(greeting, expected);
    }

    #[test]
    fn what_is_no_shop_of_this_version_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let shop = folder.path().join(demo::SHOP);
        std::fs::write(&shop, "no database at all").unwrap();
        prepare_in(folder.path()).unwrap();
        assert_eq!(count(&shop, "SELECT count(*) FROM users"), 1200);
    }

    #[test]
    fn every_statement_of_the_demo_prepares() {
        let folder = tempfile::tempdir().unwrap();
        let config = prepare_in(folder.path()).unwrap();
        let connection = Connection::open(folder.path().join(demo::SHOP)).unwrap();
        for route in &config.routes {
            connection.prepare(&route.load().unwrap().sql).unwrap();
        }
    }

    #[test]
    fn the_shop_lives_in_the_data_folder_or_else_in_the_temporary_one() {
        let temporary = std::env::temp_dir().join("weir/demo");
        let of = |set: &'static [(&str, &str)]| {
            folders(move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
        };
        assert_eq!(of(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]), [PathBuf::from("/x/weir/demo"), temporary.clone()]);
        assert_eq!(of(&[("HOME", "/h")]), [PathBuf::from("/h/.local/share/weir/demo"), temporary.clone()]);
        assert_eq!(of(&[("XDG_DATA_HOME", "relative")]), [temporary]);

        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        assert!(prepare_in_one_of(&[blocked.clone(), folder.path().join("ok")]).is_ok());
        let error = prepare_in_one_of(std::slice::from_ref(&blocked)).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot make the demo's shop in {}", blocked.display()));
    }
}
