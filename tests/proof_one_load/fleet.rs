//! Some Weirs over one Redis and one PostgreSQL, which count what they are asked.

use crate::harness::*;
use std::time::Duration;

/// The route's `load_timeout` and a second.
pub const LEASE: Duration = Duration::from_secs(21);

pub struct Fleet {
    weirs: Vec<Weir>,
    redis: Redis,
    postgres: Postgres,
}

impl Fleet {
    /// `item:7` answers `row 7`, once its query has taken `time`, and passed the gate.
    pub fn start(weirs: usize, time: Duration) -> Fleet {
        let (redis, postgres) = (Redis::start(), Postgres::start());
        let config = format!(
            "[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n\
             [[route]]\nname = \"item\"\nkey = \"item:{{id}}\"\nvalue = \"text\"\nload_timeout = \"20s\"\n\
             load = \"SELECT 'row ' || :id::text FROM (SELECT through_gate(), pg_sleep({})) AS slow /* item */\"\n",
            redis.url(),
            postgres.url(),
            time.as_secs_f64()
        );
        let weirs: Vec<Weir> = (0..weirs).map(|_| Weir::start(&config)).collect();
        wait_until("all listen", || weirs.iter().all(|weir| weir.metric("weir_upstream_subscribed", &[]) == 1.0));
        Fleet { weirs, redis, postgres }
    }

    /// So many clients, on all Weirs in turn.
    pub fn connect(&self, clients: usize) -> Vec<Client> {
        (0..clients).map(|number| self.weirs[number % self.weirs.len()].client()).collect()
    }

    pub fn connect_besides_the_first(&self, clients: usize) -> Vec<Client> {
        (0..clients).map(|number| self.weirs[1 + number % (self.weirs.len() - 1)].client()).collect()
    }

    pub fn kill_the_first(&mut self) {
        let weir = &mut self.weirs[0];
        weir.signal("KILL");
        weir.wait();
    }

    pub fn shut_gate(&self) -> Gate {
        self.postgres.shut_gate()
    }

    /// Loads that stand in the gate.
    pub fn loading(&self) -> i64 {
        self.postgres.in_gate()
    }

    /// Loads that PostgreSQL has run to their end.
    pub fn queries(&self) -> u64 {
        self.postgres.runs("/* item */") as u64
    }

    /// Reads that have met another proxy's lease.
    pub fn waited_elsewhere(&self) -> u64 {
        self.coalesced(&[("scope", "fleet")])
    }

    /// Reads that have met anybody's.
    pub fn waiting(&self) -> u64 {
        self.coalesced(&[])
    }

    fn coalesced(&self, labels: &[(&str, &str)]) -> u64 {
        self.weirs.iter().map(|weir| weir.metric("weir_coalesced_total", labels) as u64).sum()
    }

    /// Steps of the cache protocol that Redis has run.
    pub fn calls(&self) -> u64 {
        let stats = self.redis.client().run("INFO commandstats").text();
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
    }
}
