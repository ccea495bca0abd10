//! A master with two replicas, and three sentinels that watch over them.

use super::certificates::{Authority, Signed};
use super::process::{Process, free_port};
use super::{Client, Reply, wait_for, wait_until};
use std::process::Command;

/// What the sentinels call the master.
pub const NAME: &str = "my-master";

/// How the servers and sentinels are set up.
#[derive(Default)]
pub struct Setup<'a> {
    /// More arguments for every redis-server.
    pub servers: &'a [&'a str],
    /// More lines for every sentinel's configuration.
    pub sentinels: &'a str,
    /// What the sentinels and the harness give to a server's AUTH, and to each other's.
    pub password: Option<&'a str>,
    /// Servers and sentinels know each other by ports of their own that speak TLS with this certificate.
    pub tls: Option<(&'a Authority, &'a Signed)>,
}

/// Three redis-servers and three sentinels.
pub struct Sentinels {
    servers: Vec<Node>,
    sentinels: Vec<Node>,
    password: Option<String>,
}

/// A redis-server, as either.
struct Node {
    /// Where the harness asks.
    port: u16,
    /// Where the others and Weir ask: the same, or one that speaks TLS.
    known_as: u16,
    arguments: Vec<String>,
    process: Process,
    folder: tempfile::TempDir,
}

/// A server that does not answer for so long counts as dead, in ms.
const DOWN_AFTER: &str = "500";
/// A failover that takes longer may be tried again, in ms.
const FAILOVER_TIMEOUT: &str = "5000";

impl Sentinels {
    pub fn start() -> Sentinels {
        Sentinels::start_with(&Setup::default())
    }

    /// Answers once every sentinel knows the others and both replicas.
    pub fn start_with(setup: &Setup<'_>) -> Sentinels {
        let mut servers: Vec<Node> = Vec::new();
        for _ in 0..3 {
            let master = servers.first().map(|master| master.known_as);
            servers.push(Node::start(|port, tls| server(port, tls, master, setup), None, setup));
        }
        let master = servers[0].known_as;
        let sentinels = (0..3).map(|_| Node::start_sentinel(master, setup)).collect();
        let all = Sentinels { servers, sentinels, password: setup.password.map(str::to_owned) };
        for sentinel in 0..3 {
            all.keep_calm(sentinel);
            wait_until("every sentinel knows the others and the replicas", || all.knows_all(sentinel));
        }
        all
    }

    /// A sentinel whose clock has jumped, as on a busy machine, does nothing for half a minute: here, for a second.
    fn keep_calm(&self, sentinel: usize) {
        self.sentinel(sentinel).run("SENTINEL DEBUG tilt-period 1000");
    }

    /// Whether this sentinel could lead a failover.
    fn knows_all(&self, sentinel: usize) -> bool {
        let mut client = self.sentinel(sentinel);
        let known = |list: Reply| list.items().iter().filter(|one| is_well(one)).count();
        known(client.run(&format!("SENTINEL SENTINELS {NAME}"))) == 2
            && known(client.run(&format!("SENTINEL REPLICAS {NAME}"))) == 2
    }

    /// Waits until all is well again: two replicas in step with the master that all sentinels name.
    #[track_caller]
    pub fn settle(&self) {
        wait_until("all sentinels name one master, and it has its replicas", || {
            let masters: Vec<u16> = (0..3).map(|sentinel| self.master_by(sentinel)).collect();
            let one = masters.iter().all(|master| *master == masters[0]);
            one && (0..3).all(|sentinel| self.knows_all(sentinel)) && self.replicas_in_step(masters[0])
        });
    }

    fn replicas_in_step(&self, master: u16) -> bool {
        let role = self.server(master).run("ROLE");
        role.items()[0] == Reply::bulk("master") && role.items()[2].items().len() == 2
    }

    /// What `[upstream] url` names it by.
    pub fn url(&self) -> String {
        self.url_of(&[0, 1, 2])
    }

    /// The same, with some of the sentinels, in this order.
    pub fn url_of(&self, sentinels: &[usize]) -> String {
        let hosts: Vec<String> = sentinels.iter().map(|&sentinel| self.address_of(sentinel)).collect();
        let scheme = if self.sentinels[0].known_as == self.sentinels[0].port { "redis" } else { "rediss" };
        let password = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("{scheme}-sentinel://{password}{}/{NAME}/0", hosts.join(","))
    }

    /// `127.0.0.1:PORT`.
    pub fn address_of(&self, sentinel: usize) -> String {
        format!("127.0.0.1:{}", self.sentinels[sentinel].known_as)
    }

    /// A client of a sentinel.
    #[track_caller]
    pub fn sentinel(&self, sentinel: usize) -> Client {
        self.client(self.sentinels[sentinel].port)
    }

    /// A client of a server, past Weir.
    #[track_caller]
    pub fn server(&self, known_as: u16) -> Client {
        self.client(self.node(known_as).port)
    }

    fn client(&self, port: u16) -> Client {
        let mut client = Client::connect(port);
        if let Some(password) = &self.password {
            assert_eq!(client.cmd(&["AUTH", password]), Reply::ok());
        }
        client
    }

    fn node(&self, known_as: u16) -> &Node {
        self.servers.iter().find(|server| server.known_as == known_as).expect("a server of these")
    }

    /// The port of the master that the first sentinel names.
    #[track_caller]
    pub fn master(&self) -> u16 {
        self.master_by(0)
    }

    /// … that this one names.
    #[track_caller]
    pub fn master_by(&self, sentinel: usize) -> u16 {
        let reply = self.sentinel(sentinel).run(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"));
        reply.items()[1].text().parse().expect("a port")
    }

    /// A client of each server, past Weir.
    pub fn servers(&self) -> Vec<Client> {
        self.servers.iter().map(|server| self.client(server.port)).collect()
    }

    /// A server's port as its own INFO gives it.
    pub fn tcp_port(&self, known_as: u16) -> u16 {
        self.node(known_as).port
    }

    /// Asks a sentinel to make a replica the master, as an operator does before maintenance; again if that comes to nothing.
    #[track_caller]
    pub fn fail_over(&self) {
        let old = self.master();
        wait_until("a replica has become the master", || {
            // While a failover is under way, a second order is refused.
            self.master() != old || {
                self.sentinel(0).run(&format!("SENTINEL FAILOVER {NAME}"));
                false
            }
        });
    }

    /// Connections that are told of `+switch-master`, one to each sentinel.
    pub fn announcements(&self) -> Vec<Client> {
        let mut clients: Vec<Client> = (0..3).map(|sentinel| self.sentinel(sentinel)).collect();
        clients.iter_mut().for_each(|client| drop(client.run("SUBSCRIBE +switch-master")));
        clients
    }

    #[track_caller]
    pub fn kill9(&mut self, known_as: u16) {
        let server = self.servers.iter_mut().find(|server| server.known_as == known_as);
        server.expect("a server of these").process.kill("KILL");
    }

    /// SIGSTOP.
    pub fn stop(&self, known_as: u16) {
        self.node(known_as).process.signal("STOP");
    }

    /// SIGCONT.
    pub fn cont(&self, known_as: u16) {
        self.node(known_as).process.signal("CONT");
    }

    /// Starts a killed server again, as what it was started first: the first of all believes itself a master.
    #[track_caller]
    pub fn start_again(&mut self, known_as: u16) {
        let server = self.servers.iter_mut().find(|server| server.known_as == known_as);
        server.expect("a server of these").start_again();
    }

    #[track_caller]
    pub fn kill9_sentinel(&mut self, sentinel: usize) {
        self.sentinels[sentinel].process.kill("KILL");
    }

    /// Starts a killed one again, with what it had written to its file.
    #[track_caller]
    pub fn start_sentinel_again(&mut self, sentinel: usize) {
        self.sentinels[sentinel].start_again();
        self.keep_calm(sentinel);
    }
}

/// A sentinel that has never heard of the others, and watches a master under the same name.
pub struct CutOff(Node);

impl CutOff {
    pub fn watching(master: u16) -> CutOff {
        CutOff(Node::start_sentinel(master, &Setup::default()))
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.0.port)
    }
}

/// Whether an entry of SENTINEL SENTINELS or REPLICAS is connected and not taken for dead.
fn is_well(entry: &Reply) -> bool {
    let pairs = entry.pairs();
    let flags = pairs.iter().find(|(name, _)| name == "flags").map(|(_, flags)| flags.as_str());
    flags.is_some_and(|flags| !flags.contains("down") && !flags.contains("disconnected"))
}

/// The arguments of a server on these ports, that replicates `master` if there is one.
fn server(port: u16, tls: u16, master: Option<u16>, setup: &Setup<'_>) -> Vec<String> {
    let mut text = format!(
        "--port {port} --bind 127.0.0.1 --save '' --appendonly no --daemonize no --maxclients 1000 \
         --repl-diskless-sync-delay 0 --repl-ping-replica-period 1"
    );
    if let Some(master) = master {
        text += &format!(" --replicaof 127.0.0.1 {master}");
    }
    if let Some(password) = setup.password {
        text += &format!(" --requirepass {password} --masterauth {password}");
    }
    let mut arguments: Vec<String> = text.split(' ').map(|word| word.replace("''", "")).collect();
    if setup.tls.is_some() {
        for line in tls_lines(tls, setup) {
            let (name, value) = line.split_once(' ').expect("two words");
            arguments.extend([format!("--{name}"), value.to_owned()]);
        }
    }
    arguments.extend(setup.servers.iter().map(|argument| argument.to_string()));
    arguments
}

fn tls_lines(port: u16, setup: &Setup<'_>) -> Vec<String> {
    let Some((authority, signed)) = setup.tls else { return Vec::new() };
    vec![
        format!("tls-port {port}"),
        format!("tls-cert-file {}", signed.cert.display()),
        format!("tls-key-file {}", signed.key.display()),
        format!("tls-ca-cert-file {}", authority.file().display()),
        "tls-auth-clients no".into(),
        "tls-replication yes".into(),
    ]
}

fn sentinel_file(port: u16, tls: u16, master: u16, setup: &Setup<'_>) -> String {
    let mut lines = vec![
        format!("port {port}"),
        "bind 127.0.0.1".into(),
        format!("sentinel monitor {NAME} 127.0.0.1 {master} 2"),
        format!("sentinel down-after-milliseconds {NAME} {DOWN_AFTER}"),
        format!("sentinel failover-timeout {NAME} {FAILOVER_TIMEOUT}"),
        format!("sentinel parallel-syncs {NAME} 2"),
    ];
    lines.extend(tls_lines(tls, setup));
    if let Some(password) = setup.password {
        lines.push(format!("sentinel auth-pass {NAME} {password}"));
        lines.push(format!("requirepass {password}"));
        lines.push(format!("sentinel sentinel-pass {password}"));
    }
    lines.push(setup.sentinels.to_owned());
    lines.join("\n") + "\n"
}

impl Node {
    fn start_sentinel(master: u16, setup: &Setup<'_>) -> Node {
        let file = |port, tls| sentinel_file(port, tls, master, setup);
        Node::start(|_, _| vec!["sentinel.conf".into(), "--sentinel".into()], Some(&file), setup)
    }

    /// On free ports: plain, and for TLS. `file` is its configuration's text.
    fn start(
        arguments: impl Fn(u16, u16) -> Vec<String>,
        file: Option<&dyn Fn(u16, u16) -> String>,
        setup: &Setup<'_>,
    ) -> Node {
        loop {
            let folder = tempfile::tempdir().expect("temporary folder");
            let (port, tls) = (free_port(), free_port());
            if let Some(file) = file {
                std::fs::write(folder.path().join("sentinel.conf"), file(port, tls)).expect("temporary folder");
            }
            let arguments = arguments(port, tls);
            let process = spawn(&arguments, &folder);
            let known_as = if setup.tls.is_some() { tls } else { port };
            let mut node = Node { port, known_as, arguments, process, folder };
            if node.answers() {
                return node;
            }
        }
    }

    fn start_again(&mut self) {
        self.process = spawn(&self.arguments, &self.folder);
        assert!(self.answers(), "redis-server has its port again");
    }

    /// False if it ended at once: somebody else took a port.
    fn answers(&mut self) -> bool {
        wait_for("redis-server answers PING", || {
            if self.process.ended().is_some() {
                return Some(false);
            }
            let mut client = Client::try_connect(self.port).ok()?;
            client.try_cmd(&["PING"]).ok().map(|_| true)
        })
    }
}

fn spawn(arguments: &[String], folder: &tempfile::TempDir) -> Process {
    let mut command = Command::new("redis-server");
    command.args(arguments).current_dir(folder.path());
    Process::start("redis", folder.path(), &mut command, "KILL")
}
