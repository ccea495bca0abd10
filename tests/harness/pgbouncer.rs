//! A PgBouncer in transaction mode in front of a [`Postgres`](super::Postgres).

use super::postgres::{as_server_user, give_to_server_user};
use super::process::{Process, free_port};
use super::{PATIENCE, Postgres, wait_for};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

pub struct PgBouncer {
    port: u16,
    process: Process,
    folder: tempfile::TempDir,
}

impl PgBouncer {
    pub fn start(postgres: &Postgres) -> PgBouncer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(started) = PgBouncer::try_start(postgres) {
                return started;
            }
            assert!(Instant::now() < deadline, "pgbouncer does not start");
        }
    }

    fn try_start(postgres: &Postgres) -> Option<PgBouncer> {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("own folder");
        let port = free_port();
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(&config, configuration(port, postgres.port())).expect("temporary folder");
        give_to_server_user(&config);
        // Two server connections for any number of clients: a named statement does not survive that.
        let mut command = as_server_user(Path::new("/usr/sbin/pgbouncer"));
        command.arg(&config);
        let mut process = Process::start("pgbouncer", folder.path(), &mut command, "KILL");
        let listens = wait_for("pgbouncer listens", || {
            if process.ended().is_some() {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true)
        });
        listens.then_some(PgBouncer { port, process, folder })
    }

    /// What `[database.x] url` names it by.
    pub fn url(&self) -> String {
        format!("postgres://weir@127.0.0.1:{}/shop", self.port)
    }
}

fn configuration(port: u16, server: u16) -> String {
    format!(
        "[databases]\nshop = host=127.0.0.1 port={server} dbname=shop user=weir\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n\
         ignore_startup_parameters = extra_float_digits,options,statement_timeout\n"
    )
}
