//! The command scanner alone, for `tests/bench/instructions`.

use anyhow::{bail, ensure};
use serde_json::{Value, json};
use std::hint::black_box;
use weir::resp::scan::{CommandScanner, ScanLimits, Scanned};

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    commands: u64,
}

/// As many GETs as one read of a pipelining client brings.
const TOGETHER: u64 = 16;

pub fn run(options: &Options) -> anyhow::Result<Value> {
    let buf: Vec<u8> = (0..TOGETHER)
        .flat_map(|number| format!("*2\r\n$3\r\nGET\r\n$17\r\npass:{:012}\r\n", number).into_bytes())
        .collect();
    let mut scanner = CommandScanner::new(ScanLimits::default());
    let mut arguments = 0;
    for _ in 0..options.commands.div_ceil(TOGETHER) {
        let mut rest = black_box(&buf[..]);
        while !rest.is_empty() {
            let Scanned::Complete { len, .. } = scanner.scan(rest)? else { bail!("a command has no end") };
            arguments += scanner.args(rest).len() as u64;
            rest = &rest[len..];
        }
    }
    let commands = options.commands.div_ceil(TOGETHER) * TOGETHER;
    ensure!(arguments == 2 * commands, "GET has two arguments");
    Ok(json!({ "commands": commands, "errors": 0 }))
}
