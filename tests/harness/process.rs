//! One child process: started with its output kept, signalled and ended by its own pid.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// A running server. Killed and waited for on drop; its output is printed if the test is failing.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    /// What ends it at once and with its children: KILL, or QUIT for a PostgreSQL.
    last_signal: &'static str,
}

impl Process {
    /// Starts `command` with stdout and stderr in `folder`/NAME.log.
    ///
    /// `setpriv` stands in front of it so that it also ends when the test itself is killed: the kernel then sends it
    /// `last_signal`. That is tied to the thread that calls this, so call it from the test's own thread.
    pub fn start(name: &str, folder: &Path, command: &mut Command, last_signal: &'static str) -> Process {
        let log = folder.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("log file");
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", last_signal]).arg("--").arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            guarded.env(key, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            guarded.current_dir(folder);
        }
        let child = guarded
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("log file"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Process { child, name: name.to_owned(), log, last_signal }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// `Some` once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("own child")
    }

    /// Sends a signal by name: `TERM`, `STOP`, …
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// The same to it, and then to its children.
    pub fn signal_family(&self, name: &str) {
        self.signal(name);
        children(self.pid()).into_iter().for_each(|child| signal(child, name));
    }

    /// Ends it without mercy and waits for it.
    pub fn kill(&mut self, signal: &str) {
        if self.ended().is_none() {
            self.signal(signal);
            // A stopped process acts on anything but KILL only once it is continued.
            self.signal("CONT");
        }
        let _ = self.child.wait();
    }

    /// Waits for its own end, bounded.
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name.clone();
        super::wait_for(&format!("{name} ends"), || self.ended())
    }

    /// Processor time that it has used so far, user and system together.
    pub fn cpu_time(&self) -> Duration {
        // The fields of `stat` behind the program's name, which may hold anything.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("own child");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("own child");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS in /proc");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("VmRSS is a number") * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let signal = self.last_signal;
        self.kill(signal);
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- {} (last lines) ---", self.name);
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// The processes whose parent it is.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent_of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field behind the program's name, which may hold anything.
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    pids.filter(|pid| parent_of(pid) == Some(parent)).collect()
}

/// Sends a signal by name to a process of one's own. Through the shell's builtin, for there is no safe call in std.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("sh").args(["-c", &format!("kill -{name} {pid} 2>/dev/null")]).status();
}

/// Below the range from which the kernel takes the ports of outgoing connections, so that none of these takes it first.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// A port of 127.0.0.1 that nobody listens on and that this process has not handed out before.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at once begin at different places.
    let start = (std::process::id().wrapping_mul(97) % u32::from(PORTS)) as u16;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (start + step % PORTS) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Raises this process's soft limit of open files: a thousand clients need more than the usual 1,024.
pub fn many_descriptors() {
    let pid = std::process::id().to_string();
    let hard = "ulimit -Hn";
    let limit = Command::new("sh").args(["-c", hard]).output().expect("sh");
    let limit = String::from_utf8_lossy(&limit.stdout).trim().to_owned();
    let soft = if limit == "unlimited" { "65536".to_owned() } else { limit };
    let _ = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={soft}:")]).status();
}
