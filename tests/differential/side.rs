//! One of the two sides: the server that clients talk to, and a way past it to the Redis behind.

use super::command::Command;
use super::harness::PATIENCE;
use super::sequence::{CLIENTS, Turn};
use super::server::Server;
use super::wire::Wire;
use std::sync::Arc;

/// What clients connect to.
#[derive(Clone)]
pub enum Door {
    /// Redis itself.
    Own,
    /// A port that leads to it.
    Port(u16),
}

pub struct Side {
    server: Arc<Server>,
    door: Door,
    /// Straight to Redis: to fill it, and to ask what it is at.
    control: Wire,
    /// A client that only says PING.
    probe: Wire,
    pub clients: [Option<Wire>; CLIENTS],
}

impl Side {
    pub fn new(server: Arc<Server>, door: Door) -> Side {
        let (control, probe) = (Wire::unix(server.connect()), enter(&server, &door));
        Side { server, door, control, probe, clients: [const { None }; CLIENTS] }
    }

    /// The connection of this client, made when it is first needed.
    pub fn client(&mut self, index: usize) -> &mut Wire {
        self.clients[index].get_or_insert_with(|| enter(&self.server, &self.door))
    }

    /// Writes a turn, piece by piece; `apart`: lets another client be answered between pieces, so that each is read alone.
    pub fn write(&mut self, turn: &Turn, apart: bool) {
        for piece in turn.pieces() {
            self.client(turn.client).write(&piece);
            if apart {
                self.probe.write(b"PING\r\n");
                self.probe.wait(1, false, PATIENCE);
                self.probe.take();
            }
        }
        if turn.ends {
            self.client(turn.client).end_writing();
        }
    }

    /// Waits until Redis has done all that was written over its own socket, and takes what it said.
    ///
    /// Its loop reads every socket that has bytes, and then writes all replies: what was written before a PING is done
    /// when the reply to another one after that has come.
    pub fn quiesce(&mut self) {
        let (mut rounds, mut quiet) = (0, 0);
        while rounds < 3 || quiet < 2 {
            self.ask(&[Command::of("PING")]);
            let news = self.clients.iter_mut().flatten().fold(false, |news, client| client.poll() | news);
            quiet = if news { 0 } else { quiet + 1 };
            rounds += 1;
        }
    }

    /// How many clients of Redis wait in a blocking command.
    pub fn blocked(&mut self) -> usize {
        let info = self.ask(&[Command::of("INFO clients")]).concat();
        let text = String::from_utf8_lossy(&info);
        let line = text.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
        line.and_then(|count| count.parse().ok()).expect("INFO tells it")
    }

    /// The replies of the Redis behind.
    pub fn ask(&mut self, commands: &[Command]) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        commands.iter().for_each(|command| command.write(&mut bytes));
        assert!(self.control.write(&bytes), "Redis is there");
        assert!(self.control.wait(commands.len(), false, PATIENCE), "Redis answers {commands:?}");
        self.control.take()
    }

    /// Hangs up on this client.
    pub fn drop_client(&mut self, index: usize) {
        self.clients[index] = None;
    }
}

fn enter(server: &Server, door: &Door) -> Wire {
    match door {
        Door::Own => Wire::unix(server.connect()),
        Door::Port(port) => Wire::tcp(*port),
    }
}
