//! A conversation with a server in which Weir itself asks: handshakes, and questions to sentinels.
//!
//! No client's bytes pass here. Whoever asks sets the time limit.

use super::failure;
use crate::config::Secret;
use crate::resp::frame::{self, Reply};
use crate::resp::scan::ReplyScanner;
use crate::resp::write;
use crate::store::StoreError;
use crate::transport::Transport;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A command's words.
pub type Command = Vec<String>;

/// A command of these words.
pub fn command(words: &[&str]) -> Command {
    words.iter().map(|word| word.to_string()).collect()
}

/// AUTH, where there is a password.
pub fn auth(user: Option<&str>, password: Option<&Secret>) -> Option<Command> {
    let Secret(password) = password?;
    Some(match user {
        Some(user) => command(&["AUTH", user, password]),
        None => command(&["AUTH", password]),
    })
}

/// Whether this reply to ROLE is a master's.
pub fn is_master(reply: &Reply) -> bool {
    matches!(reply, Reply::Array(parts) if parts.first().and_then(Reply::as_bytes) == Some(b"master"))
}

/// One connection, and what has been read of it.
pub struct Talk {
    stream: Transport,
    scanner: ReplyScanner,
    bytes: Vec<u8>,
    /// Of `bytes`, so many belong to the reply that the scanner is in the middle of.
    scanned: usize,
    /// A reply of more bytes comes from no Redis.
    most: usize,
}

/// What is mostly asked here has short answers.
const MOST_REPLY: usize = 64 << 10;
/// Nesting that such an answer may have.
const MOST_DEPTH: usize = 16;

impl Talk {
    /// Over a fresh connection.
    pub fn new(stream: Transport) -> Self {
        Talk { stream, scanner: ReplyScanner::new(MOST_DEPTH), bytes: Vec::new(), scanned: 0, most: MOST_REPLY }
    }

    /// The same, for answers of so many bytes.
    pub fn bounded(self, most: usize) -> Self {
        Talk { most, ..self }
    }

    /// Asks all commands at once; one reply for each, in order. The first that is an error is the result.
    pub async fn ask(&mut self, commands: &[Command]) -> Result<Vec<Reply>, StoreError> {
        let replies = self.exchange(commands).await?;
        for (command, reply) in commands.iter().zip(&replies) {
            if let Reply::Error(text) = reply {
                return Err(refused(command, text));
            }
        }
        Ok(replies)
    }

    /// The same, with errors among the replies.
    pub async fn exchange(&mut self, commands: &[Command]) -> Result<Vec<Reply>, StoreError> {
        let mut bytes = Vec::new();
        for command in commands {
            write::command(&mut bytes, command.iter());
        }
        if let Err(error) = self.send(&bytes).await {
            // Why the server hung up may have come before.
            return Err(match self.next().await {
                Ok(Reply::Error(text)) => turned_away(&text),
                Ok(_) => self.broke(&error),
                Err(why) => why,
            });
        }
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            match (self.next().await, replies.last()) {
                (Ok(reply), _) => replies.push(reply),
                // A server that has no room for a client says so and hangs up.
                (Err(_), Some(Reply::Error(text))) => return Err(turned_away(text)),
                (Err(error), _) => return Err(error),
            }
        }
        Ok(replies)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends a command whose reply comes among what [`Talk::next`] answers.
    pub async fn say(&mut self, command: &Command) -> Result<(), StoreError> {
        let bytes = write::whole_command(command.iter());
        let sent = self.send(&bytes).await;
        sent.map_err(|error| self.broke(&error))
    }

    /// The next reply, or message that was subscribed to. Nothing is lost if this is not waited for to its end.
    pub async fn next(&mut self) -> Result<Reply, StoreError> {
        loop {
            let progress = self.scanner.advance(&self.bytes[self.scanned..]).map_err(no_resp)?;
            self.scanned += progress.consumed;
            if progress.complete {
                let reply = frame::decode(&self.bytes[..self.scanned], MOST_DEPTH).map_err(no_resp)?;
                self.bytes.drain(..self.scanned);
                self.scanned = 0;
                return Ok(reply);
            }
            if progress.consumed > 0 {
                continue;
            }
            if self.bytes.len() > self.most {
                return Err(StoreError::Protocol("a reply too long for a Redis".into()));
            }
            if self.stream.read_buf(&mut self.bytes).await.map_err(|error| self.broke(&error))? == 0 {
                return Err(self.closed());
            }
        }
    }

    fn broke(&self, error: &io::Error) -> StoreError {
        match error.kind() {
            // What was sent had not been read when the server closed.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => self.closed(),
            _ => failure::broken(error),
        }
    }

    /// A port that speaks TLS closes a connection that does not.
    fn closed(&self) -> StoreError {
        let way_out = match self.stream {
            Transport::Tcp(_) => "; if that port speaks TLS, write `rediss://` in place of `redis://`",
            _ => "",
        };
        StoreError::Unavailable(format!("the connection was closed during the handshake{way_out}"))
    }

    /// The connection, for others to speak over.
    pub fn into_stream(self) -> Result<Transport, StoreError> {
        match self.bytes.is_empty() {
            true => Ok(self.stream),
            false => Err(StoreError::Protocol("a reply that nobody asked for".into())),
        }
    }
}

/// The error for a command that the server answered with `text`.
pub fn refused(command: &Command, text: &[u8]) -> StoreError {
    StoreError::Refused(format!("{} answered {}", command[0], String::from_utf8_lossy(text)))
}

fn turned_away(text: &[u8]) -> StoreError {
    StoreError::Refused(String::from_utf8_lossy(text).into_owned())
}

fn no_resp(error: crate::resp::scan::ProtocolError) -> StoreError {
    StoreError::Protocol(error.to_string())
}
