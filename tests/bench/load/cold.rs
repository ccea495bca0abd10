//! What a load costs that many keys share: an MGET whose keys are all absent, against the database's own answer to one statement
//! for the same rows. Both are asked in turn, so that a busy machine is as busy for the one as for the other.

use crate::drive::share;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;
use tokio_postgres::NoTls;

#[derive(clap::Args)]
pub struct Options {
    /// Weir's.
    #[arg(long)]
    port: u16,
    /// That of the Redis behind it.
    #[arg(long)]
    redis: u16,
    /// The database's.
    #[arg(long)]
    postgres: String,
    /// Answers the values of the bigint ids that are its parameter.
    #[arg(long, default_value = "SELECT id, value FROM items WHERE id = ANY($1)")]
    statement: String,
    #[arg(long)]
    prefix: String,
    #[arg(long, default_value_t = 100_000_000_000)]
    first: u64,
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Keys of one MGET.
    #[arg(long, default_value_t = 100)]
    count: u64,
    #[arg(long, default_value_t = 200)]
    rounds: u64,
}

/// Before it is measured: statements are prepared, pools filled and pages read.
const WARM_UP: u64 = 10;

pub fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!(options.count > 0 && options.count <= options.keys, "there are not so many keys");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (client, connection) = runtime.block_on(tokio_postgres::connect(&options.postgres, NoTls))?;
    runtime.spawn(connection);
    let statement = runtime.block_on(client.prepare(&options.statement))?;
    let (mut weir, mut redis) = (connect(options.port)?, connect(options.redis)?);
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + options.rounds {
        let from = options.first + round * options.count % (options.keys - options.count + 1);
        let ids: Vec<i64> = (from..from + options.count).map(|id| id as i64).collect();
        let keys: Vec<String> = ids.iter().map(|id| format!("{}{id}", options.prefix)).collect();
        redis.write_all(&command("UNLINK", &keys))?;
        ensure!(line(&mut redis)?.starts_with(':'), "Redis does not delete");

        let mget = command("MGET", &keys);
        let began = Instant::now();
        weir.write_all(&mget)?;
        values(&mut weir, options.count)?;
        let took = began.elapsed();

        let began = Instant::now();
        let rows = runtime.block_on(client.query(&statement, &[&ids]))?;
        let database = began.elapsed();
        ensure!(rows.len() as u64 == options.count, "the database has {} of {} rows", rows.len(), options.count);
        if round >= WARM_UP {
            through.push(took.as_nanos() as u64);
            direct.push(database.as_nanos() as u64);
        }
    }
    through.sort_unstable();
    direct.sort_unstable();
    Ok(json!({
        "commands": options.rounds,
        "p50_us": share(&through, 0.50),
        "p99_us": share(&through, 0.99),
        "database_p50_us": share(&direct, 0.50),
        "database_p99_us": share(&direct, 0.99),
        "errors": 0,
    }))
}

fn connect(port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn command(name: &str, keys: &[String]) -> Vec<u8> {
    let mut text = format!("*{}\r\n${}\r\n{name}\r\n", keys.len() + 1, name.len());
    for key in keys {
        text += &format!("${}\r\n{key}\r\n", key.len());
    }
    text.into_bytes()
}

/// A reply of one line, and nothing after it.
fn line(stream: &mut TcpStream) -> anyhow::Result<String> {
    let (mut text, mut buf) = (Vec::new(), [0; 1024]);
    while !text.ends_with(b"\r\n") {
        let read = stream.read(&mut buf)?;
        ensure!(read > 0, "it was closed");
        text.extend_from_slice(&buf[..read]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// An array of `count` bulk strings, none of them nil.
fn values(stream: &mut TcpStream, count: u64) -> anyhow::Result<()> {
    let mut scanner = weir::resp::scan::ReplyScanner::new(2);
    let (mut text, mut buf, mut scanned) = (Vec::new(), vec![0; 64 * 1024], 0);
    loop {
        let read = stream.read(&mut buf)?;
        ensure!(read > 0, "it was closed");
        text.extend_from_slice(&buf[..read]);
        let progress = scanner.advance(&text[scanned..])?;
        scanned += progress.consumed;
        if progress.complete {
            break;
        }
    }
    let told = String::from_utf8_lossy(&text[..text.len().min(100)]);
    ensure!(text.starts_with(format!("*{count}\r\n").as_bytes()), "MGET was answered {told}");
    ensure!(memchr::memmem::find(&text, b"$-1\r\n").is_none(), "a key has no value");
    Ok(())
}
