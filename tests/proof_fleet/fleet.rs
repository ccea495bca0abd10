//! Three real Weirs over one upstream and one PostgreSQL, with doors on the way that can be shut.

use crate::faults::Fault;
use crate::harness::*;
use crate::scenario::{Near, Over, Scenario};
use crate::shop::Shop;
use std::time::Duration;

pub const WEIRS: usize = 3;

/// How long a Weir may keep what it has read.
pub const NEAR: Duration = Duration::from_secs(2);

/// `load_timeout` and the upstream's `timeout` where something fails on purpose; where nothing does, a slow machine must not
/// look as if.
const SHORT: Duration = Duration::from_millis(500);
const PATIENT: Duration = Duration::from_secs(20);

/// Longer than the upstream's `timeout`, and than a lease: `load_timeout` and a second.
pub const BEYOND_TIMEOUT: Duration = Duration::from_millis(800);
pub const BEYOND_LEASE: Duration = Duration::from_millis(1_800);

pub enum Upstream {
    Standalone(Redis),
    Cluster(RedisCluster),
}

impl Upstream {
    fn start(over: Over) -> Upstream {
        match over {
            Over::Redis => Upstream::Standalone(Redis::start()),
            Over::Cluster => Upstream::Cluster(RedisCluster::start(0)),
        }
    }

    /// Clients of every node, past Weir.
    pub fn nodes(&self) -> Vec<Client> {
        match self {
            Upstream::Standalone(redis) => vec![redis.client()],
            Upstream::Cluster(cluster) => (0..3).map(|node| cluster.client(node)).collect(),
        }
    }
}

pub struct Fleet<'a> {
    pub weirs: Vec<Weir>,
    pub upstream: Upstream,
    /// Where they are to be cut: between each Weir and a standalone upstream, and between each Weir and the database. The nodes
    /// of a cluster tell Weir their own addresses, which no door stands before.
    pub upstream_doors: Vec<FaultProxy>,
    pub database_doors: Vec<FaultProxy>,
    /// Keys that upstreams have come back with.
    pub kept: u64,
    /// Of those that were killed.
    last_metrics: Vec<Metrics>,
    shop: &'a Shop,
}

impl<'a> Fleet<'a> {
    pub fn start(scenario: &Scenario, shop: &'a Shop) -> Fleet<'a> {
        let upstream = Upstream::start(scenario.over);
        let doors = |to: u16| (0..WEIRS).map(|_| FaultProxy::start(to)).collect::<Vec<_>>();
        let upstream_doors = match (&upstream, scenario.fault) {
            (Upstream::Standalone(redis), Fault::CutUpstream) => doors(redis.port()),
            _ => Vec::new(),
        };
        let database_doors = match scenario.fault {
            Fault::CutDatabase => doors(shop.database_port()),
            _ => Vec::new(),
        };
        let mut fleet = Fleet {
            weirs: Vec::new(),
            upstream,
            upstream_doors,
            database_doors,
            kept: 0,
            last_metrics: Vec::new(),
            shop,
        };
        fleet.weirs = (0..WEIRS).map(|number| fleet.start_weir(scenario, number)).collect();
        fleet.wait_until_all_hear(scenario.near);
        fleet
    }

    fn start_weir(&self, scenario: &Scenario, number: usize) -> Weir {
        let port = |doors: &[FaultProxy], own: u16| doors.get(number).map_or(own, FaultProxy::port);
        let upstream = match &self.upstream {
            Upstream::Standalone(redis) => {
                format!("redis://127.0.0.1:{}/0", port(&self.upstream_doors, redis.port()))
            }
            Upstream::Cluster(cluster) => cluster.url(),
        };
        let database = self.shop.url_through(port(&self.database_doors, self.shop.database_port()));
        Weir::start_under(&config(scenario, &upstream, &database), &scenario.fault.environment(number))
    }

    /// Of each other's loads, of changes, and of events.
    pub fn wait_until_all_hear(&self, near: Near) {
        let gauges = match near {
            Near::Off => &["weir_upstream_subscribed", "weir_invalidation_channel_up"][..],
            Near::On => &["weir_upstream_subscribed", "weir_invalidation_channel_up", "weir_near_open"],
        };
        wait_until("all Weirs hear what they must", || {
            self.weirs.iter().map(Weir::metrics).all(|metrics| gauges.iter().all(|name| metrics.sum(name, &[]) == 1.0))
        });
    }

    pub fn kill9(&mut self, number: usize) {
        self.last_metrics.push(self.weirs[number].metrics());
        self.weirs[number].kill9();
    }

    /// Of all Weirs, with those that were killed. None may be stopped.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let living: f64 = self.weirs.iter().map(|weir| weir.metric(name, labels)).sum();
        let dead: f64 = self.last_metrics.iter().map(|metrics| metrics.sum(name, labels)).sum();
        (living + dead) as u64
    }
}

fn config(scenario: &Scenario, upstream: &str, database: &str) -> String {
    let patience = if scenario.fault.may_fail() { SHORT } else { PATIENT }.as_millis();
    let near = match scenario.near {
        Near::Off => Duration::ZERO,
        Near::On => NEAR,
    };
    // The row is read as it is when the statement begins, and stands in no cache before the statement ends.
    let slowly = if scenario.fault.slows_loads() { ", (SELECT pg_sleep(random() * 0.03)) AS slowly" } else { "" };
    let load = format!("SELECT id, version, category FROM rows{slowly} WHERE id = :id AND version % 8 <> 0");
    format!(
        r#"
[server]
listen = ["127.0.0.1:{{port}}"]
admin = "127.0.0.1:{{admin}}"
workers = 2
[upstream]
url = "{upstream}"
timeout = "{patience}ms"
[database.main]
url = "{database}"
timeout = "20s"
[invalidation]
channel = "changes"
[defaults]
load_timeout = "{patience}ms"
ttl = "3s"
jitter = "20%"
grace = "3s"
early_refresh = 1.0
near = "{near}s"
[[route]]
name = "row"
key = "row:{{id}}"
load = "{load}"
tags = ["category:{{category}}", "row-{{id}}"]
[[route]]
name = "card"
key = "card:{{id}}"
load = "{load}"
value = "hash"
tags = ["category:{{category}}", "row-{{id}}"]
"#,
        near = near.as_secs()
    )
}
