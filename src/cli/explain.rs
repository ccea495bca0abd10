//! `weir explain`: asks a running proxy what answers a key.

use super::files::ConfigFile;
use super::{ExplainArguments, Failure, print};
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A proxy that is there answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the proxy at the admin address, or at that of the configuration file.
pub fn explain(arguments: &ExplainArguments) -> Result<(), Failure> {
    let admin = match (&arguments.config, arguments.admin) {
        (_, Some(admin)) => admin,
        (Some(path), None) => ConfigFile::read(path)?.config.server.admin,
        (None, None) => SocketAddr::from(([127, 0, 0, 1], 9600)),
    };
    let unreachable = |error| Failure::Unreachable(format!("error: no proxy answers at {admin}: {error}\n"));
    let (status, body) = get(admin, &format!("/api/explain?key={}", encoded(&arguments.key))).map_err(unreachable)?;
    if status != 200 {
        return Err(Failure::Other(anyhow::anyhow!("{}", body.trim_end())));
    }
    print(&shown(&body))
}

fn shown(body: &str) -> String {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).unwrap_or_default();
    let width = fields.keys().map(String::len).max().unwrap_or_default();
    fields.iter().fold(String::new(), |mut text, (name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), ToString::to_string);
        writeln!(text, "{name:width$}  {value}").expect("a string takes every text");
        text
    })
}

fn encoded(key: &str) -> String {
    key.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(byte as char),
            _ => write!(text, "%{byte:02X}").expect("a string takes every text"),
        }
        text
    })
}

/// One GET. HTTP/1.0, so that the answer ends with the connection.
fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "this is no admin port");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
    Ok((status, body.to_string()))
}
