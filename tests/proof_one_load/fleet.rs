//! Some Weirs over one upstream and one PostgreSQL, which count what they are asked.

use crate::harness::*;
use std::time::Duration;

/// What stands behind the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Redis,
    Cluster,
}

enum Upstream {
    Redis(Redis),
    Cluster(RedisCluster),
}

impl Upstream {
    fn start(over: Over) -> Upstream {
        match over {
            Over::Redis => Upstream::Redis(Redis::start()),
            Over::Cluster => Upstream::Cluster(RedisCluster::start(0)),
        }
    }

    fn url(&self) -> String {
        match self {
            Upstream::Redis(redis) => redis.url(),
            Upstream::Cluster(cluster) => cluster.url(),
        }
    }

    /// Clients of every node, past Weir.
    fn nodes(&self) -> Vec<Client> {
        match self {
            Upstream::Redis(redis) => vec![redis.client()],
            Upstream::Cluster(cluster) => (0..3).map(|node| cluster.client(node)).collect(),
        }
    }
}

pub struct Fleet {
    pub weirs: Vec<Weir>,
    upstream: Upstream,
    postgres: Postgres,
}

/// A load is one call of `attempt`, which numbers it, waits in the gate, takes its time, and fails if its number is no larger
/// than `plan.failing`. The sequence counts those that fail, too.
const ATTEMPT: &str = "CREATE SEQUENCE attempts;
    CREATE TABLE plan AS SELECT 0::bigint AS failing;
    CREATE FUNCTION attempt(seconds float8) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
    DECLARE number bigint := nextval('attempts');
    BEGIN
        PERFORM through_gate();
        PERFORM pg_sleep(seconds);
        IF number <= (SELECT failing FROM plan) THEN RAISE EXCEPTION 'this attempt is to fail'; END IF;
        RETURN '';
    END $$";

impl Fleet {
    /// Three Weirs. `item:7` answers `row 7`, once its query has taken `time`, and passed the gate; for `load_timeout` at most.
    pub fn start(over: Over, time: Duration, load_timeout: Duration) -> Fleet {
        let (upstream, postgres) = (Upstream::start(over), Postgres::start());
        postgres.sql(ATTEMPT);
        let config = format!(
            "[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"1m\"\n\
             [[route]]\nname = \"item\"\nkey = \"item:{{id}}\"\nvalue = \"text\"\nload_timeout = \"{}ms\"\n\
             load = \"SELECT 'row ' || :id::text || attempt({}) /* item */\"\n",
            upstream.url(),
            postgres.url(),
            load_timeout.as_millis(),
            time.as_secs_f64()
        );
        let weirs: Vec<Weir> = (0..3).map(|_| Weir::start(&config)).collect();
        wait_until("all listen", || weirs.iter().all(|weir| weir.metric("weir_upstream_subscribed", &[]) == 1.0));
        Fleet { weirs, upstream, postgres }
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

    /// All attempts up to this one fail, which may stand in the gate already.
    pub fn let_fail_up_to(&self, attempt: u64) {
        self.postgres.sql(&format!("UPDATE plan SET failing = {attempt}"));
    }

    /// Ends the connection whose statement stands in the gate.
    pub fn cut_the_loader_off(&self) {
        let mine = "state = 'active' AND query LIKE '%/* item */%' AND pid <> pg_backend_pid()";
        self.postgres.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"));
    }

    /// Loads that PostgreSQL has begun.
    pub fn attempts(&self) -> u64 {
        self.postgres.number("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM attempts") as u64
    }

    /// Loads that PostgreSQL has run to their end.
    pub fn queries(&self) -> u64 {
        self.postgres.runs("/* item */") as u64
    }

    /// Loads by Weir's own count, by what came of them.
    pub fn loads(&self, result: &str) -> u64 {
        self.count("weir_loads_total", &[("result", result)])
    }

    /// Reads that have met another proxy's lease.
    pub fn waited_elsewhere(&self) -> u64 {
        self.count("weir_coalesced_total", &[("scope", "fleet")])
    }

    /// Reads that have met anybody's.
    pub fn waiting(&self) -> u64 {
        self.count("weir_coalesced_total", &[])
    }

    fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.weirs.iter().map(|weir| weir.metric(name, labels) as u64).sum()
    }

    /// Steps of the cache protocol that the upstream has run.
    pub fn calls(&self) -> u64 {
        self.upstream.nodes().iter_mut().map(calls).sum()
    }
}

fn calls(node: &mut Client) -> u64 {
    let stats = node.run("INFO commandstats").text();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}
