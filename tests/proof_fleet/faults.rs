//! What goes wrong meanwhile, and how it is seen to have bitten: a run in which nothing did has shown nothing.

use crate::crowd::Counts;
use crate::fleet::{BEYOND_LEASE, BEYOND_TIMEOUT, Fleet, Upstream, WEIRS};
use crate::harness::{Client, Fault as Door, FaultProxy, Reply, Weir, lasts, wait_until};
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing goes wrong.
    None,
    /// Loads take their time, each with a row that changes meanwhile.
    SlowLoads,
    /// One Weir after another stands still for longer than a lease and than any time limit, and goes on.
    StoppedWeir,
    /// One Weir after another loses its upstream: its connections end, and answers come when nobody waits for them any more.
    CutUpstream,
    /// One Weir after another loses its database.
    CutDatabase,
    /// One Weir after another is killed, and started again.
    KilledWeir,
    /// Redis, or one master of the cluster after another, is killed, and comes back empty.
    KilledUpstream,
    /// The same, and it comes back with what it held a moment before (proof A5).
    OldUpstream,
    /// One Weir's clock is an hour fast, another's an hour slow.
    OtherClocks,
    /// Connections end over which Weirs hear of changes, and one Weir after another hesitates.
    CutPushes,
}

const HOUR: i64 = 3_600;

impl Fault {
    /// Whether a client may be told an error, or lose its connection.
    pub fn may_fail(self) -> bool {
        matches!(
            self,
            Fault::StoppedWeir
                | Fault::CutUpstream
                | Fault::CutDatabase
                | Fault::KilledWeir
                | Fault::KilledUpstream
                | Fault::OldUpstream
        )
    }

    /// Whether Weirs forget what they remember.
    pub fn ends_weirs(self) -> bool {
        self == Fault::KilledWeir
    }

    pub fn slows_loads(self) -> bool {
        !matches!(self, Fault::None | Fault::CutPushes)
    }

    /// Of the Weir of this number.
    pub fn environment(self, number: usize) -> Vec<(String, String)> {
        let ahead = [0, HOUR, -HOUR][number % WEIRS];
        if self != Fault::OtherClocks || ahead == 0 {
            return Vec::new();
        }
        // What it waits for goes by the clock that only counts.
        [
            ("LD_PRELOAD", library_of_false_time().display().to_string()),
            ("FAKETIME", format!("{ahead:+}s")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// One round of it. Afterwards nothing is in the way of anybody any more.
    pub fn strike(self, fleet: &mut Fleet, round: usize) {
        let one = round % WEIRS;
        match self {
            Fault::None | Fault::SlowLoads | Fault::OtherClocks => {}
            Fault::StoppedWeir => {
                fleet.weirs[one].signal("STOP");
                lasts(BEYOND_LEASE);
                fleet.weirs[one].signal("CONT");
            }
            Fault::CutUpstream => cut_upstream(fleet, one),
            Fault::CutDatabase => shut(&fleet.database_doors[one]),
            Fault::KilledWeir => {
                fleet.kill9(one);
                lasts(Duration::from_millis(300));
                fleet.weirs[one].start_again();
            }
            Fault::KilledUpstream => kill_upstream(&mut fleet.upstream, round),
            Fault::OldUpstream => {
                let mut nodes = fleet.upstream.nodes();
                let number = round % nodes.len();
                fleet.kept += save(&mut nodes[number]);
                // What is invalidated meanwhile is forgotten.
                lasts(Duration::from_millis(200));
                kill_upstream(&mut fleet.upstream, round);
            }
            Fault::CutPushes => {
                cut_pushes(&fleet.upstream);
                fleet.weirs[one].signal("STOP");
                lasts(Duration::from_millis(50));
                fleet.weirs[one].signal("CONT");
            }
        }
    }

    /// How often it has bitten, and in what that is seen.
    pub fn hits(self, fleet: &Fleet, counts: &Counts) -> (u64, &'static str) {
        let refused = |reason| fleet.count("weir_fills_refused_total", &[("reason", reason)]);
        match self {
            Fault::None => (counts.acknowledged.load(SeqCst), "invalidations"),
            Fault::SlowLoads => (
                refused("invalidated") + refused("tag_invalidated"),
                "fills refused, whose row was invalidated meanwhile",
            ),
            Fault::StoppedWeir => (refused("lease_expired"), "fills refused, that came after their lease's end"),
            Fault::CutUpstream => (counts.refused.load(SeqCst), "commands refused"),
            Fault::CutDatabase => (fleet.count("weir_loads_total", &[("result", "error")]), "loads that failed"),
            Fault::KilledWeir => (counts.cut.load(SeqCst), "connections lost"),
            Fault::KilledUpstream => (counts.refused.load(SeqCst), "commands refused"),
            Fault::OldUpstream => (fleet.kept, "keys that it came back with"),
            Fault::OtherClocks => {
                let apart = fleet.weirs.iter().map(Weir::log).filter(|log| minutes_ahead(log).abs() > 30).count();
                let refused = refused("invalidated") + refused("tag_invalidated");
                (if apart == 2 { refused } else { 0 }, "fills refused, whose row was invalidated meanwhile")
            }
            Fault::CutPushes => (
                fleet.count("weir_near_flushes_total", &[("reason", "lost")]),
                "near caches flushed, for a lost connection",
            ),
        }
    }
}

fn cut_upstream(fleet: &mut Fleet, one: usize) {
    match &mut fleet.upstream {
        Upstream::Standalone(_) => {
            let door = &fleet.upstream_doors[one];
            door.set(Door::Hold);
            lasts(BEYOND_TIMEOUT);
            door.set(Door::None);
            lasts(Duration::from_millis(100));
            shut(door);
        }
        upstream @ Upstream::Cluster(_) => {
            for mut node in upstream.nodes() {
                node.run("CLIENT KILL TYPE normal");
                node.run("CLIENT KILL TYPE pubsub");
            }
        }
    }
}

/// Ends all connections, and lets none in for a while.
fn shut(door: &FaultProxy) {
    door.set(Door::Refuse);
    door.cut();
    lasts(Duration::from_millis(300));
    door.set(Door::None);
}

/// Has a node write down what it holds, and come back with that whenever it is started. Answers how many keys.
fn save(node: &mut Client) -> u64 {
    assert_eq!(node.run("SAVE"), Reply::ok());
    node.run("DBSIZE").int() as u64
}

fn kill_upstream(upstream: &mut Upstream, round: usize) {
    let away = Duration::from_millis(500);
    match upstream {
        Upstream::Standalone(redis) => {
            redis.kill9();
            lasts(away);
            redis.start_again();
        }
        Upstream::Cluster(cluster) => {
            let port = cluster.port(round % 3);
            cluster.kill9(port);
            lasts(away);
            cluster.start_again(port);
            wait_until("the cluster is whole", || {
                let states = (0..3).map(|node| cluster.client(node).run("CLUSTER INFO").text());
                states.into_iter().all(|state| state.contains("cluster_state:ok"))
            });
        }
    }
}

/// Ends every connection over which somebody hears of changes.
fn cut_pushes(upstream: &Upstream) {
    for mut node in upstream.nodes() {
        let list = node.run("CLIENT LIST").text();
        let field = |line: &str, name: &str| {
            line.split(' ')
                .find_map(|field| field.strip_prefix(name).map(str::to_owned))
                .expect("a field of CLIENT LIST")
        };
        for line in list.lines().filter(|line| field(line, "flags=").contains('B')) {
            node.cmd(&["CLIENT", "KILL", "ID", &field(line, "id=")]);
        }
    }
}

/// Debian's libfaketime, which tells a program another time than it is.
fn library_of_false_time() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is installed")
}

/// How far a Weir's clock is ahead of ours, by the first line that it has logged: `2026-01-31T23:59:58.123Z …`.
fn minutes_ahead(log: &str) -> i64 {
    const DAY: i64 = 24 * 60;
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let time = log.split_once('T').map(|(_, time)| time).expect("a log begins with a time");
    let logged = number(time.get(0..2)).zip(number(time.get(3..5))).map(|(hours, minutes)| hours * 60 + minutes);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs() as i64 / 60 % DAY;
    // The nearest of those that the clock may mean.
    (logged.expect("a log begins with a time") - now + DAY + DAY / 2) % DAY - DAY / 2
}
