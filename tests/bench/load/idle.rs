//! Clients that connect, are answered once, and then only stay.

use anyhow::{Context, ensure};
use serde_json::json;
use std::io::Write;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

/// So many connect at once: fewer than what the kernel lets wait for a server that is slow to accept.
const AT_ONCE: usize = 128;

/// Prints how long it took until all were answered, and hangs up when it reads a line.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let began = Instant::now();
        let turns = Rc::new(Semaphore::new(AT_ONCE));
        let tasks: Vec<_> =
            (0..options.connections).map(|_| tokio::task::spawn_local(connect(options.port, turns.clone()))).collect();
        let mut clients = Vec::new();
        for task in tasks {
            clients.push(task.await??);
        }
        println!("{}", json!({ "connections": clients.len(), "seconds": began.elapsed().as_secs_f64(), "errors": 0 }));
        std::io::stdout().flush()?;
        std::io::stdin().read_line(&mut String::new())?;
        Ok(())
    })
}

async fn connect(port: u16, turns: Rc<Semaphore>) -> anyhow::Result<TcpStream> {
    let _turn = turns.acquire().await?;
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.context("connect")?;
    client.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
    let mut reply = [0; 7];
    client.read_exact(&mut reply).await.context("PING")?;
    ensure!(&reply == b"+PONG\r\n", "PING was answered {}", String::from_utf8_lossy(&reply));
    Ok(client)
}
