//! A Redis Cluster of one's own: masters, and replicas if wanted.

use super::process::{Process, free_port};
use super::{Client, Reply, wait_for, wait_until};
use std::process::{Command, Stdio};

/// Some redis-servers that know each other.
pub struct RedisCluster {
    nodes: Vec<Node>,
}

/// One of them.
pub struct Node {
    port: u16,
    bus: u16,
    process: Process,
    folder: tempfile::TempDir,
}

/// A master with its name and what it owns, as the cluster sees it.
#[derive(Clone, Debug)]
pub struct Master {
    pub id: String,
    pub port: u16,
    pub slots: Vec<u16>,
}

/// A node that does not answer for so long counts as dead.
const NODE_TIMEOUT: &str = "1000";

impl RedisCluster {
    /// Three masters, each with so many replicas.
    pub fn start(replicas: usize) -> RedisCluster {
        RedisCluster::start_with(replicas, &[])
    }

    /// The same, with further settings for every node.
    pub fn start_with(replicas: usize, settings: &[&str]) -> RedisCluster {
        let nodes: Vec<Node> = (0..3 * (1 + replicas)).map(|_| Node::start(settings)).collect();
        let cluster = RedisCluster { nodes };
        let mut arguments = vec!["--cluster".to_owned(), "create".to_owned()];
        arguments.extend(cluster.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)));
        arguments.extend(["--cluster-replicas".into(), replicas.to_string(), "--cluster-yes".into()]);
        cluster.cli(&arguments);
        wait_until("every node knows the whole cluster", || {
            (0..cluster.nodes.len()).all(|node| cluster.is_whole(node, replicas))
        });
        cluster
    }

    fn is_whole(&self, node: usize, replicas: usize) -> bool {
        let Ok(mut client) = Client::try_connect(self.nodes[node].port) else { return false };
        let Ok(info) = client.try_cmd(&["CLUSTER", "INFO"]) else { return false };
        let Ok(slots) = client.try_cmd(&["CLUSTER", "SLOTS"]) else { return false };
        let ranges = slots.items();
        info.text().contains("cluster_state:ok")
            && ranges.len() == 3
            && ranges.iter().all(|range| range.items().len() == 3 + replicas)
    }

    /// What `[upstream] url` names it by: its first two nodes.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port, self.nodes[1].port)
    }

    /// Runs redis-cli to its end.
    #[track_caller]
    pub fn cli(&self, arguments: &[String]) -> String {
        let output = Command::new("redis-cli").args(arguments).stdin(Stdio::null()).output().expect("redis-cli");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "redis-cli {arguments:?}:\n{text}");
        text
    }

    pub fn port(&self, node: usize) -> u16 {
        self.nodes[node].port
    }

    /// A client that does not pass through Weir.
    #[track_caller]
    pub fn client(&self, node: usize) -> Client {
        Client::connect(self.nodes[node].port)
    }

    /// The masters, as a living node sees them.
    #[track_caller]
    pub fn masters(&self) -> Vec<Master> {
        let client = self.nodes.iter().find_map(|node| Client::try_connect(node.port).ok());
        let text = client.expect("a living node").run("CLUSTER NODES").text();
        text.lines().filter_map(Master::parse).collect()
    }

    /// A new empty master.
    pub fn add_master(&mut self) -> Master {
        let node = Node::start(&[]);
        let (port, bus) = (node.port, node.bus);
        self.nodes.push(node);
        let meet = ["CLUSTER".to_owned(), "MEET".into(), "127.0.0.1".into(), port.to_string(), bus.to_string()];
        self.client(0).cmd(&meet);
        let id = self.client(self.nodes.len() - 1).run("CLUSTER MYID").text();
        wait_until("every node knows the new one", || {
            (0..self.nodes.len()).all(|node| self.client(node).run("CLUSTER NODES").text().matches(&id).count() > 0)
        });
        wait_until("the new one knows the cluster", || {
            self.client(self.nodes.len() - 1).run("CLUSTER INFO").text().contains("cluster_state:ok")
        });
        Master { id, port, slots: Vec::new() }
    }

    /// Moves one slot with all its keys, as `redis-cli --cluster reshard` does.
    #[track_caller]
    pub fn move_slot(&self, slot: u16, from: &Master, to: &Master) {
        let (mut source, mut target) = (Client::connect(from.port), Client::connect(to.port));
        let importing = target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", from.id));
        let migrating = source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", to.id));
        assert_eq!((importing, migrating), (Reply::ok(), Reply::ok()), "slot {slot}");
        loop {
            let keys = source.run(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
            if keys.items().is_empty() {
                break;
            }
            let mut migrate: Vec<Vec<u8>> =
                format!("MIGRATE 127.0.0.1 {}", to.port).split(' ').map(|word| word.as_bytes().to_vec()).collect();
            migrate.extend([b"".to_vec(), b"0".to_vec(), b"5000".to_vec(), b"KEYS".to_vec()]);
            migrate.extend(keys.items().iter().map(|key| key.text().into_bytes()));
            // A key may have expired meanwhile: +NOKEY.
            let reply = source.cmd(&migrate);
            assert!(!reply.is_error(""), "MIGRATE: {reply:?}");
        }
        let done = format!("CLUSTER SETSLOT {slot} NODE {}", to.id);
        assert_eq!(target.run(&done), Reply::ok());
        for node in self.masters() {
            if node.id != to.id {
                assert_eq!(Client::connect(node.port).run(&done), Reply::ok());
            }
        }
    }

    /// Waits until all nodes know every master's newest epoch and slots. A slot must not move again before: its new owner
    /// could believe an older message of the one before, and Redis would have no owner for it.
    #[track_caller]
    pub fn settle(&self) {
        wait_until("all nodes agree on every master", || {
            let views = self.nodes.iter().filter_map(|node| Client::try_connect(node.port).ok());
            let views: Vec<Vec<String>> = views
                .map(|mut client| {
                    let text = client.run("CLUSTER NODES").text();
                    // Name, epoch and slots; what is still on its way stands in brackets.
                    let mut lines: Vec<String> = text
                        .lines()
                        .map(|line| line.split(' ').collect::<Vec<_>>())
                        .filter(|words| words[2].contains("master"))
                        .map(|words| format!("{} {} {}", words[0], words[6], words[8..].join(" ")))
                        .collect();
                    lines.sort();
                    lines
                })
                .collect();
            views.iter().all(|view| *view == views[0]) && !views[0].iter().any(|line| line.contains('['))
        });
    }

    /// Kills the node that listens on a port.
    #[track_caller]
    pub fn kill9(&mut self, port: u16) {
        let node = self.nodes.iter_mut().find(|node| node.port == port).expect("a node of the cluster");
        node.process.kill("KILL");
    }

    /// Starts a killed one again, with what it remembers of the cluster, and of the data what it was told to SAVE.
    #[track_caller]
    pub fn start_again(&mut self, port: u16) {
        let node = self.nodes.iter_mut().find(|node| node.port == port).expect("a node of the cluster");
        node.process = spawn(node.port, node.bus, &node.folder, &[]);
        answers(node.port, &mut node.process).then_some(()).expect("redis-server has its port again");
    }
}

impl Master {
    /// `id host:port@bus flags … slots`, if it is a master that lives.
    fn parse(line: &str) -> Option<Master> {
        let words: Vec<&str> = line.split(' ').collect();
        if !words[2].contains("master") || words[2].contains("fail") {
            return None;
        }
        let port = words[1].split('@').next()?.rsplit(':').next()?.parse().ok()?;
        let slots = words[8..].iter().filter(|word| !word.starts_with('[')).flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<u16>().unwrap()..=last.parse::<u16>().unwrap()
        });
        Some(Master { id: words[0].to_owned(), port, slots: slots.collect() })
    }
}

impl Node {
    fn start(settings: &[&str]) -> Node {
        loop {
            let folder = tempfile::tempdir().expect("temporary folder");
            let (port, bus) = (free_port(), free_port());
            let mut process = spawn(port, bus, &folder, settings);
            if answers(port, &mut process) {
                return Node { port, bus, process, folder };
            }
        }
    }
}

fn spawn(port: u16, bus: u16, folder: &tempfile::TempDir, settings: &[&str]) -> Process {
    let (port, bus) = (port.to_string(), bus.to_string());
    let mut command = Command::new("redis-server");
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
    command.args(["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", NODE_TIMEOUT]);
    command.args(["--maxclients", "1000", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]);
    command.args(settings).arg("--dir").arg(folder.path());
    Process::start("redis", folder.path(), &mut command, "KILL")
}

/// False if it ended at once: somebody else took a port.
fn answers(port: u16, process: &mut Process) -> bool {
    wait_for("redis-server answers PING", || {
        if process.ended().is_some() {
            return Some(false);
        }
        let mut client = Client::try_connect(port).ok()?;
        client.try_cmd(&["PING"]).ok().map(|_| true)
    })
}
