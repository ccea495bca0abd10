//! Many connections, each with one batch under way at a time, until all commands are answered.

use crate::batch::{Batch, Shape, is_key};
use crate::replies::Replies;
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// Whom to ask how much.
#[derive(clap::Args)]
pub struct Options {
    /// The server's, on 127.0.0.1.
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Commands that a connection sends together.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    /// Of all connections together; rounded up to whole batches.
    #[arg(long)]
    commands: u64,
    /// What the keys begin with; a number of twelve digits follows.
    #[arg(long, default_value = "key:")]
    prefix: String,
    /// The number of the first key.
    #[arg(long, default_value_t = 100_000_000_000)]
    first: u64,
    /// How many keys there are.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
    /// Keys by chance, and not one after another.
    #[arg(long)]
    random: bool,
    /// Says `ready` when all are connected and served, and begins when it reads a line. Says `done` when all is answered, and hangs
    /// up when it reads another.
    #[arg(long)]
    wait: bool,
}

impl Options {
    pub fn shape(&self) -> Shape {
        Shape { pipeline: self.pipeline, prefix: self.prefix.clone(), value_bytes: self.value_bytes }
    }
}

/// What the connections of one thread share.
struct Shared {
    batches: Vec<Batch>,
    /// Batches that nobody has begun yet.
    left: Cell<u64>,
    keys: Keys,
    /// Of each batch, from its write to its last reply, in nanoseconds.
    times: RefCell<Vec<u64>>,
    wrong: Cell<u64>,
    first_wrong: RefCell<Option<String>>,
}

struct Keys {
    first: u64,
    count: u64,
    next: Cell<u64>,
    random: Option<RefCell<fastrand::Rng>>,
}

impl Keys {
    fn next(&self) -> u64 {
        let number = match &self.random {
            Some(random) => random.borrow_mut().u64(..self.count),
            None => self.next.replace(self.next.get() + 1) % self.count,
        };
        self.first + number
    }
}

pub fn run(options: &Options, batches: &[Batch]) -> anyhow::Result<Value> {
    ensure!(options.keys > 0 && options.pipeline > 0 && options.connections > 0, "there must be one at least of each");
    ensure!(is_key(options.first) && is_key(options.first + options.keys - 1), "keys have twelve digits");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, drive(options, batches))
}

async fn drive(options: &Options, batches: &[Batch]) -> anyhow::Result<Value> {
    let mut streams = Vec::new();
    for _ in 0..options.connections {
        let stream = TcpStream::connect(("127.0.0.1", options.port)).await.context("connect")?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    if options.wait {
        for stream in &mut streams {
            greet(stream).await.context("PING")?;
        }
        wait_after("ready")?;
    }
    let wanted = options.commands.div_ceil(options.pipeline as u64);
    let shared = Rc::new(Shared {
        batches: batches.to_vec(),
        left: Cell::new(wanted),
        keys: Keys {
            first: options.first,
            count: options.keys,
            next: Cell::new(0),
            // The same keys in each run.
            random: options.random.then(|| RefCell::new(fastrand::Rng::with_seed(1))),
        },
        times: RefCell::new(Vec::with_capacity(wanted as usize)),
        wrong: Cell::new(0),
        first_wrong: RefCell::new(None),
    });
    let began = Instant::now();
    let tasks: Vec<_> =
        streams.into_iter().map(|stream| tokio::task::spawn_local(ask(stream, shared.clone()))).collect();
    let mut asked = Vec::new();
    for task in tasks {
        asked.push(task.await?.context("a connection")?);
    }
    let seconds = began.elapsed().as_secs_f64();
    if options.wait {
        wait_after("done")?;
    }
    let mut times = shared.times.take();
    times.sort_unstable();
    Ok(json!({
        "commands": wanted * options.pipeline as u64,
        "seconds": seconds,
        "p50_us": share(&times, 0.50),
        "p99_us": share(&times, 0.99),
        "errors": shared.wrong.get(),
        "first_error": shared.first_wrong.take(),
    }))
}

/// Says a word and reads a line.
fn wait_after(word: &str) -> anyhow::Result<()> {
    println!("{word}");
    std::io::stdout().flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// A connection that stands may not be served yet.
async fn greet(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut reply = [0; 7];
    stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
    stream.read_exact(&mut reply).await?;
    ensure!(&reply == b"+PONG\r\n", "{}", reply.escape_ascii());
    Ok(())
}

/// One connection's work. It stays open.
async fn ask(mut stream: TcpStream, shared: Rc<Shared>) -> anyhow::Result<TcpStream> {
    let (mut out, mut buf, mut held) = (Vec::new(), vec![0; 64 * 1024], 0);
    while let Some(left) = shared.left.get().checked_sub(1) {
        shared.left.set(left);
        let batch = &shared.batches[left as usize % shared.batches.len()];
        batch.write(&mut out, || shared.keys.next());
        let mut replies = Replies::default();
        let began = Instant::now();
        stream.write_all(&out).await?;
        while replies.done < batch.expected.len() {
            let read = stream.read(&mut buf[held..]).await?;
            ensure!(read > 0, "it was closed");
            held += read;
            let taken = replies.take(&buf[..held], &batch.expected);
            buf.copy_within(taken..held, 0);
            held -= taken;
            ensure!(held < buf.len(), "a line without an end");
        }
        shared.times.borrow_mut().push(began.elapsed().as_nanos() as u64);
        ensure!(held == 0, "more replies than commands");
        if replies.wrong > 0 {
            shared.wrong.set(shared.wrong.get() + replies.wrong);
            let mut first = shared.first_wrong.borrow_mut();
            *first = first.take().or(replies.first_wrong);
        }
    }
    Ok(stream)
}

/// So many of a hundred are no greater, in microseconds; of times that are sorted.
pub fn share(times: &[u64], share: f64) -> f64 {
    let index = (times.len() as f64 * share) as usize;
    times.get(index.min(times.len().saturating_sub(1))).map_or(0.0, |&time| time as f64 / 1000.0)
}
