//! A conversation with a server in which Weir itself asks: handshakes, and questions to sentinels.
//!
//! No client's bytes pass here. Whoever asks sets the time limit.

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
}

/// What is asked here has short answers; one longer than this comes from no Redis.
const MOST_REPLY: usize = 64 << 10;
/// Nesting that such an answer may have.
const MOST_DEPTH: usize = 16;

impl Talk {
    /// Over a fresh connection.
    pub fn new(stream: Transport) -> Self {
        Talk { stream, scanner: ReplyScanner::new(MOST_DEPTH), bytes: Vec::new(), scanned: 0 }
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
        self.stream.write_all(&bytes).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            replies.push(self.next().await?);
        }
        Ok(replies)
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
            if self.bytes.len() > MOST_REPLY {
                return Err(StoreError::Protocol("a reply too long for a Redis".into()));
            }
            if self.stream.read_buf(&mut self.bytes).await.map_err(broken)? == 0 {
                return Err(StoreError::Unavailable("the connection was closed during the handshake".into()));
            }
        }
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

fn broken(error: io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn no_resp(error: crate::resp::scan::ProtocolError) -> StoreError {
    StoreError::Protocol(error.to_string())
}
