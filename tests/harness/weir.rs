//! The program under test, as its operator starts it.

use super::process::{Process, free_port};
use super::{Client, Metrics, PATIENCE, http, wait_for};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running `weir serve`.
pub struct Weir {
    port: u16,
    admin: u16,
    config: PathBuf,
    environment: Vec<(String, String)>,
    process: Process,
    folder: tempfile::TempDir,
}

impl Weir {
    /// Starts it on a configuration in which `{port}` and `{admin}` stand for free ports; without a `[server]` section,
    /// one is put in front. Answers once `/readyz` does.
    #[track_caller]
    pub fn start(config: &str) -> Weir {
        Weir::start_until(config, &[], "/readyz")
    }

    /// The same, with these variables in its environment.
    #[track_caller]
    pub fn start_under(config: &str, environment: &[(String, String)]) -> Weir {
        Weir::start_until(config, environment, "/readyz")
    }

    /// The same, but answers as soon as it is alive, ready or not.
    #[track_caller]
    pub fn start_unready(config: &str) -> Weir {
        Weir::start_until(config, &[], "/healthz")
    }

    #[track_caller]
    fn start_until(config: &str, environment: &[(String, String)], path: &str) -> Weir {
        let config = with_server(config);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Weir::try_start(&config, environment, path) {
                Ok(weir) => return weir,
                Err(log) => {
                    assert!(
                        log.contains("in use") && Instant::now() < deadline,
                        "weir does not start:\n{log}\n{config}"
                    );
                }
            }
        }
    }

    /// `Err` with what it printed, if it ended instead of answering 200 on `path`.
    fn try_start(config: &str, environment: &[(String, String)], path: &str) -> Result<Weir, String> {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (port, admin) = (free_port(), free_port());
        let text = config.replace("{port}", &port.to_string()).replace("{admin}", &admin.to_string());
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).expect("temporary folder");
        let mut process = spawn(folder.path(), &file, environment);
        match answers(&mut process, admin, path) {
            true => Ok(Weir { port, admin, config: file, environment: environment.to_vec(), process, folder }),
            false => Err(process.log()),
        }
    }

    pub fn kill9(&mut self) {
        self.process.kill("KILL");
    }

    /// Starts it again on the same ports and configuration. Call [`Weir::kill9`] before.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.process = spawn(self.folder.path(), &self.config, &self.environment);
        assert!(answers(&mut self.process, self.admin, "/readyz"), "weir does not start again:\n{}", self.log());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn admin(&self) -> u16 {
        self.admin
    }

    /// The folder that it runs in, and that relative paths of its configuration begin at.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file that it was started on.
    pub fn config(&self) -> &Path {
        &self.config
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// Status and body of a path of the admin port.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> (u16, String) {
        http::get(self.admin, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics(self.admin_get("/metrics").1)
    }

    /// The sum of the series of `name` with these labels.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Processor time that it has used so far.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }
}

fn spawn(folder: &Path, config: &Path, environment: &[(String, String)]) -> Process {
    let mut command = serve(config);
    command.current_dir(folder).envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start("weir", folder, &mut command, "KILL")
}

/// False if it ended instead of answering 200 on `path`.
#[track_caller]
fn answers(process: &mut Process, admin: u16, path: &str) -> bool {
    wait_for(&format!("weir answers {path}"), || {
        if process.ended().is_some() {
            return Some(false);
        }
        matches!(http::get(admin, path), Ok((200, _))).then_some(true)
    })
}

fn with_server(config: &str) -> String {
    if config.contains("[server]") {
        return config.to_owned();
    }
    format!("[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\n{config}")
}

/// `weir serve --config FILE` with room for thousands of clients.
fn serve(config: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" serve --config \"$1\"", env!("CARGO_BIN_EXE_weir")]);
    command.arg(config).env("RUST_BACKTRACE", "1");
    command
}

/// How a command of the program ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `weir ARGUMENTS…` to its end.
#[track_caller]
pub fn run_weir(arguments: &[&str]) -> Finished {
    finish(Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments))
}

/// The same as a user who is not root, and may read `folder`.
#[track_caller]
pub fn run_weir_unprivileged(folder: &Path, arguments: &[&str]) -> Finished {
    if std::fs::metadata("/proc/self").expect("a process").uid() != 0 {
        return run_weir(arguments);
    }
    // Where the program was built such a user may have no access.
    let program = folder.join("weir");
    std::fs::copy(env!("CARGO_BIN_EXE_weir"), &program).expect("temporary folder");
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("own folder");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(program);
    finish(command.args(arguments))
}

/// Runs `weir check` on a configuration.
#[track_caller]
pub fn check(config: &str) -> Finished {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config).expect("temporary folder");
    run_weir(&["check", &file.display().to_string()])
}

#[track_caller]
fn finish(command: &mut Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("weir does not start: {error}"));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
