//! A blocking RESP client that does what a test asks for and nothing by itself.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// One reply, as it stood on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Nil,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Double(String),
    Bool(bool),
    Big(String),
    Verbatim(Vec<u8>),
}

impl Reply {
    pub fn ok() -> Reply {
        Reply::Simple("OK".into())
    }

    pub fn bulk(bytes: impl AsRef<[u8]>) -> Reply {
        Reply::Bulk(bytes.as_ref().to_vec())
    }

    pub fn is_error(&self, prefix: &str) -> bool {
        matches!(self, Reply::Error(text) if text.starts_with(prefix))
    }

    /// The text of a bulk or simple string.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Reply::Simple(text) => text.clone(),
            Reply::Bulk(bytes) | Reply::Verbatim(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("a string was expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub fn error(&self) -> &str {
        match self {
            Reply::Error(text) => text,
            other => panic!("an error was expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub fn int(&self) -> i64 {
        match self {
            Reply::Int(number) => *number,
            other => panic!("an integer was expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items,
            other => panic!("an array was expected, not {other:?}"),
        }
    }

    /// A bulk string read as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
    }

    /// A map (RESP3) or a flat array of pairs (RESP2) as sorted pairs of strings.
    #[track_caller]
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs: Vec<(String, String)> = match self {
            Reply::Map(pairs) => pairs.iter().map(|(name, value)| (name.text(), value.text())).collect(),
            other => other.items().chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect(),
        };
        pairs.sort();
        pairs
    }
}

/// The bytes of one command.
pub fn command<A: AsRef<[u8]>>(arguments: &[A]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        let argument = argument.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The bytes of one command given as words: `raw_command("SET k v")`.
pub fn raw_command(words: &str) -> Vec<u8> {
    command(&words.split_whitespace().collect::<Vec<_>>())
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    #[track_caller]
    pub fn connect(port: u16) -> Client {
        Client::try_connect(port).unwrap_or_else(|error| panic!("cannot connect to port {port}: {error}"))
    }

    pub fn try_connect(port: u16) -> io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        stream.set_write_timeout(Some(super::PATIENCE))?;
        Ok(Client { stream, unread: Vec::new() })
    }

    /// A second handle on the same connection, for writing from another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("socket handle")
    }

    /// Sends one command and reads its reply.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        self.try_cmd(arguments).unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> io::Result<Reply> {
        self.stream.write_all(&command(arguments))?;
        self.try_recv()
    }

    /// The same, given as words: `client.run("SET k v")`.
    #[track_caller]
    pub fn run(&mut self, words: &str) -> Reply {
        self.cmd(&words.split_whitespace().collect::<Vec<_>>())
    }

    /// How often the server has run a command since CONFIG RESETSTAT; what scripts do counts.
    pub fn calls(&mut self, command: &str) -> u64 {
        let stats = self.run("INFO commandstats").text();
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().and_then(|number| number.parse().ok()).expect("a number"))
    }

    /// Sends one command and reads nothing.
    #[track_caller]
    pub fn cmd_later<A: AsRef<[u8]>>(&mut self, arguments: &[A]) {
        self.send(&command(arguments));
    }

    /// The same, given as words.
    #[track_caller]
    pub fn run_later(&mut self, words: &str) {
        self.send(&raw_command(words));
    }

    /// All in one write; the replies in order.
    #[track_caller]
    pub fn pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> Vec<Reply> {
        let bytes: Vec<u8> = commands.iter().flat_map(|one| command(one)).collect();
        self.send(&bytes);
        commands.iter().map(|_| self.recv()).collect()
    }

    /// The same, where the connection may be cut.
    pub fn try_pipeline<A: AsRef<[u8]>>(&mut self, commands: &[Vec<A>]) -> io::Result<Vec<Reply>> {
        self.stream.write_all(&commands.iter().flat_map(|one| command(one)).collect::<Vec<u8>>())?;
        commands.iter().map(|_| self.try_recv()).collect()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    #[track_caller]
    pub fn recv(&mut self) -> Reply {
        self.try_recv().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    pub fn try_recv(&mut self) -> io::Result<Reply> {
        self.try_recv_raw().map(|(reply, _)| reply)
    }

    /// One reply and the bytes that it was.
    pub fn try_recv_raw(&mut self) -> io::Result<(Reply, Vec<u8>)> {
        loop {
            if let Some((reply, end)) = parse(&self.unread, 0)? {
                let raw = self.unread.drain(..end).collect();
                return Ok((reply, raw));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.unread.extend_from_slice(&piece[..n]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Exactly `n` bytes, whatever they are.
    #[track_caller]
    pub fn recv_bytes(&mut self, n: usize) -> Vec<u8> {
        while self.unread.len() < n {
            self.fill().unwrap_or_else(|error| panic!("{} of {n} bytes: {error}", self.unread.len()));
        }
        self.unread.drain(..n).collect()
    }

    /// Whether a reply is already there, without waiting for one.
    pub fn has_reply(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("socket option");
        let filled = self.fill();
        self.stream.set_nonblocking(false).expect("socket option");
        drop(filled);
        matches!(parse(&self.unread, 0), Ok(Some(_)))
    }

    /// True if the other side has closed the connection (after what it may still have said).
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.fill() {
                Ok(()) => continue,
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }

    pub fn set_timeout(&mut self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).expect("socket option");
    }

    /// Hangs up for good: a reset, which no one can take for a client that has only finished sending.
    pub fn abort(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("socket option");
    }

    /// No more commands; replies can still be read.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shutdown");
    }
}

/// One reply from `at`: `None` if it is not complete yet.
fn parse(bytes: &[u8], at: usize) -> io::Result<Option<(Reply, usize)>> {
    let Some((kind, line, after)) = header(bytes, at)? else { return Ok(None) };
    let text = || String::from_utf8_lossy(line).into_owned();
    let reply = match kind {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(text()),
        b':' => Reply::Int(number(line)?),
        b',' => Reply::Double(text()),
        b'(' => Reply::Big(text()),
        b'#' => Reply::Bool(line == b"t"),
        b'_' => Reply::Nil,
        b'$' | b'*' if line == b"-1" => Reply::Nil,
        b'$' | b'=' | b'!' => return blob(kind, number(line)?, bytes, after),
        b'*' | b'~' | b'>' => return aggregate(kind, number(line)?, bytes, after),
        b'%' => return map(number(line)?, bytes, after),
        other => return Err(malformed(&format!("reply begins with {:?}", char::from(other)))),
    };
    Ok(Some((reply, after)))
}

type Header<'a> = (u8, &'a [u8], usize);

/// Type byte, the rest of its line, and where the next line begins.
fn header(bytes: &[u8], at: usize) -> io::Result<Option<Header<'_>>> {
    let Some(end) = bytes[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let line = &bytes[at..at + end];
    match line.split_first() {
        Some((kind, rest)) => Ok(Some((*kind, rest, at + end + 2))),
        None => Err(malformed("empty line")),
    }
}

fn blob(kind: u8, len: i64, bytes: &[u8], at: usize) -> io::Result<Option<(Reply, usize)>> {
    let end = at + usize::try_from(len).map_err(|_| malformed("negative length"))?;
    if bytes.len() < end + 2 {
        return Ok(None);
    }
    if &bytes[end..end + 2] != b"\r\n" {
        return Err(malformed("blob without its end"));
    }
    let content = bytes[at..end].to_vec();
    let reply = match kind {
        b'$' => Reply::Bulk(content),
        b'=' => Reply::Verbatim(content),
        _ => Reply::Error(String::from_utf8_lossy(&content).into_owned()),
    };
    Ok(Some((reply, end + 2)))
}

fn aggregate(kind: u8, count: i64, bytes: &[u8], at: usize) -> io::Result<Option<(Reply, usize)>> {
    let Some((items, end)) = several(count, bytes, at)? else { return Ok(None) };
    let reply = match kind {
        b'*' => Reply::Array(items),
        b'~' => Reply::Set(items),
        _ => Reply::Push(items),
    };
    Ok(Some((reply, end)))
}

fn map(count: i64, bytes: &[u8], at: usize) -> io::Result<Option<(Reply, usize)>> {
    let Some((items, end)) = several(count * 2, bytes, at)? else { return Ok(None) };
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        pairs.push((name, value));
    }
    Ok(Some((Reply::Map(pairs), end)))
}

fn several(count: i64, bytes: &[u8], mut at: usize) -> io::Result<Option<(Vec<Reply>, usize)>> {
    let mut items = Vec::new();
    for _ in 0..count {
        let Some((item, end)) = parse(bytes, at)? else { return Ok(None) };
        items.push(item);
        at = end;
    }
    Ok(Some((items, at)))
}

fn number(line: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(line).map_err(|_| malformed("no number"))?;
    text.parse().map_err(|_| malformed(&format!("no number: {text}")))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}
