//! The load generator of `tests/bench/run` and `tests/bench/instructions`: one thread that asks a server over many connections,
//! checks that each reply is the one expected, and prints what it found as one line of JSON.
//!
//! It must cost less than what it measures, or it measures itself: commands are encoded once, only the digits of their keys are
//! written anew, and of a reply no more is looked at than its head.

mod batch;
mod cold;
mod drive;
mod idle;
mod replies;
mod scan;

use clap::Parser;

/// Asks a Redis server, or a proxy before one, and says how fast it answered.
#[derive(Parser)]
enum Arguments {
    /// GETs, each a hit.
    Get(drive::Options),
    /// SETs.
    Set {
        #[command(flatten)]
        options: drive::Options,
        /// Gives each key a TTL, in seconds.
        #[arg(long)]
        expire: Option<u32>,
    },
    /// GETs and SETs.
    Mix {
        #[command(flatten)]
        options: drive::Options,
        /// How many of a hundred commands are GETs.
        #[arg(long, default_value_t = 90)]
        reads: usize,
    },
    /// MGETs, each key a hit. One of them counts as one command.
    Mget {
        #[command(flatten)]
        options: drive::Options,
        /// Keys of each.
        #[arg(long, default_value_t = 100)]
        count: usize,
    },
    /// GETs of keys with several prefixes in turn.
    Mixed {
        #[command(flatten)]
        options: drive::Options,
        /// Prefixes whose keys are there.
        #[arg(long, value_delimiter = ',')]
        present: Vec<String>,
        /// Prefixes whose keys are not.
        #[arg(long, value_delimiter = ',')]
        absent: Vec<String>,
    },
    /// MGETs of keys that must be loaded first, and in turn with them the same rows from the database itself.
    Cold(cold::Options),
    /// Clients that connect, send one PING, and stay.
    Idle(idle::Options),
    /// Nothing is asked: only finds where commands end, to count the instructions of that.
    Scan(scan::Options),
}

fn main() -> anyhow::Result<()> {
    if std::env::args().skip(1).any(|argument| argument == "--bench") {
        // `cargo bench` runs every benchmark.
        println!("load: measures nothing by itself; tests/bench/run uses it");
        return Ok(());
    }
    let found = match Arguments::parse() {
        Arguments::Get(options) => drive::run(&options, &batch::gets(&options.shape()))?,
        Arguments::Set { options, expire } => drive::run(&options, &batch::sets(&options.shape(), expire))?,
        Arguments::Mix { options, reads } => drive::run(&options, &batch::mix(&options.shape(), reads))?,
        Arguments::Mget { options, count } => drive::run(&options, &batch::mgets(&options.shape(), count))?,
        Arguments::Mixed { options, present, absent } => {
            drive::run(&options, &batch::mixed(&options.shape(), &present, &absent))?
        }
        Arguments::Cold(options) => cold::run(&options)?,
        Arguments::Idle(options) => return idle::run(&options),
        Arguments::Scan(options) => scan::run(&options)?,
    };
    println!("{found}");
    Ok(())
}
