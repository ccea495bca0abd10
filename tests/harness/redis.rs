//! A redis-server of one's own.

use super::process::{Process, free_port};
use super::{Client, PATIENCE, wait_for};
use std::process::Command;
use std::time::Instant;

/// A redis-server on a free port that persists nothing by itself.
pub struct Redis {
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    folder: tempfile::TempDir,
}

impl Redis {
    pub fn start() -> Redis {
        Redis::start_with(&[])
    }

    /// With more arguments, as in `--tls-port 7000`.
    pub fn start_with(arguments: &[&str]) -> Redis {
        let folder = tempfile::tempdir().expect("temporary folder");
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        let mut redis = Redis { port: free_port(), arguments, process: None, folder };
        let deadline = Instant::now() + PATIENCE;
        while !redis.try_start() {
            assert!(Instant::now() < deadline, "redis-server does not start");
            redis.port = free_port();
        }
        redis
    }

    /// False if it ended at once: somebody else took the port.
    fn try_start(&mut self) -> bool {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.args(["--maxclients", "4000", "--enable-debug-command", "yes"]);
        command.arg("--dir").arg(self.folder.path()).args(&self.arguments);
        let mut process = Process::start("redis", self.folder.path(), &mut command, "KILL");
        let answers = wait_for("redis-server answers PING", || {
            if process.ended().is_some() {
                return Some(false);
            }
            let mut client = Client::try_connect(self.port).ok()?;
            client.try_cmd(&["PING"]).ok().map(|_| true)
        });
        self.process = Some(process);
        answers
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `[upstream] url` names it by.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// A client that does not pass through Weir.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub fn kill9(&mut self) {
        self.process.as_mut().expect("redis-server runs").kill("KILL");
    }

    /// Starts it again on the same port, empty, or with what it was told to SAVE. Call [`Redis::kill9`] before.
    pub fn start_again(&mut self) {
        super::wait_until("redis-server has its port again", || self.try_start());
    }

    pub fn restart(&mut self) {
        self.kill9();
        self.start_again();
    }

    /// SIGSTOP: connections stay open and nothing answers.
    pub fn stop(&self) {
        self.process.as_ref().expect("redis-server runs").signal("STOP");
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.process.as_ref().expect("redis-server runs").signal("CONT");
    }
}
