//! A Redis, and Weirs before it whose routes have `near`.

use crate::harness::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub const ROUTES: &str = r#"
[defaults]
near = "1h"
[[route]]
name = "text"
key = "text:{id}"
value = "text"
load = "SELECT name FROM products WHERE id = :id"
[[route]]
name = "hash"
key = "hash:{id}"
value = "hash"
load = "SELECT name, price FROM products WHERE id = :id"
[[route]]
name = "far"
key = "far:{id}"
value = "text"
near = "0s"
load = "SELECT name FROM products WHERE id = :id"
"#;

/// A slow machine must not look like a dead Redis.
pub const PATIENT: &str = "timeout = \"20s\"\n";

pub struct Scene {
    pub redis: Redis,
    /// Until the Weirs have ended.
    _database: Sqlite,
    _proxy: Option<FaultProxy>,
    pub weirs: Vec<Weir>,
}

impl Scene {
    pub fn start(weirs: usize) -> Scene {
        Scene::with(weirs, PATIENT, "")
    }

    /// With this in `[upstream]`, and these sections.
    pub fn with(weirs: usize, upstream: &str, sections: &str) -> Scene {
        let (redis, database) = (Redis::start(), Sqlite::shop());
        let weirs = (0..weirs).map(|_| start_weir(&redis.url(), &database, upstream, sections)).collect();
        Scene { redis, _database: database, _proxy: None, weirs }
    }

    /// With pushes that arrive late, so that what must be seen at once is not seen by their help.
    pub fn late(weirs: usize, sections: &str) -> Scene {
        let (redis, database) = (Redis::start(), Sqlite::shop());
        let proxy = FaultProxy::start_for(redis.port(), "TRACKING");
        let url = format!("redis://127.0.0.1:{}/0", proxy.port());
        let weirs = (0..weirs).map(|_| start_weir(&url, &database, PATIENT, sections)).collect();
        proxy.set(Fault::Delay);
        Scene { redis, _database: database, _proxy: Some(proxy), weirs }
    }

    pub fn weir(&self) -> &Weir {
        &self.weirs[0]
    }
}

pub fn start_weir(url: &str, database: &Sqlite, upstream: &str, sections: &str) -> Weir {
    let weir = Weir::start(&format!(
        "{sections}[upstream]\nurl = \"{url}\"\n{upstream}[database.main]\nurl = \"{}\"\n{ROUTES}",
        database.url()
    ));
    wait_until_open(&weir);
    weir
}

pub fn is_open(weir: &Weir) -> bool {
    weir.metric("weir_near_open", &[]) == 1.0
}

pub fn wait_until_open(weir: &Weir) {
    wait_until("the near cache is open", || is_open(weir));
}

pub fn near_hits(weir: &Weir) -> f64 {
    weir.metric("weir_lookups_total", &[("outcome", "near_hit")])
}

/// Whether a read of the key by this client would be answered by this process.
pub fn is_kept(client: &mut Client, key: &str) -> bool {
    left(client, key).is_some()
}

/// How long it is kept at most, in ms.
pub fn left(client: &mut Client, key: &str) -> Option<u64> {
    let explanation = client.cmd(&["WEIR", "EXPLAIN", key]).pairs();
    let (_, text) = explanation.into_iter().find(|(name, _)| name == "near").expect("it is told");
    text.strip_prefix("kept for another ").and_then(|text| text.split(' ').next()?.parse().ok())
}

/// Reads until the key is kept, and stays so as long as nobody changes it.
#[track_caller]
pub fn bring_in(redis: &Redis, client: &mut Client, read: &str) {
    settle(&mut redis.client(), client, "text:barrier");
    read_until_kept(client, read);
}

/// Waits until this Weir has heard of all changes so far. `barrier` begins a key of the server that is asked: one that
/// nobody has used, and whose push comes after all others.
#[track_caller]
pub fn settle(direct: &mut Client, client: &mut Client, barrier: &str) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let barrier = format!("{barrier}{}", NUMBER.fetch_add(1, Relaxed));
    assert_eq!(direct.cmd(&["SET", &barrier, "x", "EX", "100"]), Reply::ok());
    read_until_kept(client, &format!("GET {barrier}"));
    assert_eq!(direct.cmd(&["DEL", &barrier]), Reply::Int(1));
    wait_until("the barrier is heard of", || !is_kept(client, &barrier));
}

#[track_caller]
pub fn read_until_kept(client: &mut Client, read: &str) {
    let key = read.split(' ').nth(1).expect("a key").to_owned();
    wait_until(&format!("{read} brings it in"), || {
        let reply = client.run(read);
        assert!(!matches!(reply, Reply::Error(_)), "{read}: {reply:?}");
        is_kept(client, &key)
    });
}
