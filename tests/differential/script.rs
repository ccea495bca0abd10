//! Prints sequences as a shell script that anybody can run against any server.

use super::command::Command;
use super::run::{Difference, Told};
use super::sequence::{Sequence, Turn};
use super::setup;
use std::fmt::Write;
use weir::resp::command::lookup;

/// Runs the sequences one after the other on new connections; shows all that each client was told.
pub fn script(sequences: &[Sequence]) -> String {
    let mut text = String::from(
        "#!/usr/bin/env bash\n# Usage: bash this.sh PORT [PORT of the Redis behind, to be filled first]\n\
         fill() { exec 9<>/dev/tcp/127.0.0.1/$1; printf \"$2\" >&9; timeout 1 cat <&9 >/dev/null; exec 9>&-; }\n\
         write() { printf \"$2\" >&$1; sleep 0.01; }\n",
    );
    for sequence in sequences {
        sequence_into(&mut text, sequence);
    }
    text
}

/// Descriptors of clients begin here.
const FIRST: usize = 3;

fn sequence_into(text: &mut String, sequence: &Sequence) {
    let mut filling = Vec::new();
    setup::commands(true).iter().for_each(|command| command.write(&mut filling));
    let _ = writeln!(text, "fill ${{2:-$1}} '{}'", quoted(&filling));
    let mut clients: Vec<usize> = sequence.turns.iter().map(|turn| turn.client).collect();
    clients.sort_unstable();
    clients.dedup();
    for client in &clients {
        let _ = writeln!(text, "exec {}<>/dev/tcp/127.0.0.1/$1", FIRST + client);
    }
    for turn in &sequence.turns {
        for command in turn.commands() {
            let _ = writeln!(text, "# {}", shown(command));
        }
        for piece in turn.pieces() {
            let _ = writeln!(text, "write {} '{}'", FIRST + turn.client, quoted(&piece));
        }
        if turn.ends {
            let _ = writeln!(text, "# and its end: only a program that can shut one direction down can do that");
        }
    }
    for client in &clients {
        let _ = writeln!(text, "echo '--- client {client}'; timeout 1 cat -v <&{}", FIRST + client);
    }
}

/// For printf between single quotes.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = match byte {
            b'\r' => write!(text, "\\r"),
            b'\n' => write!(text, "\\n"),
            b'%' => write!(text, "%%"),
            b'\'' | b'\\' => write!(text, "\\{byte:03o}"),
            b' '..=b'~' => write!(text, "{}", char::from(*byte)),
            _ => write!(text, "\\{byte:03o}"),
        };
    }
    text
}

fn shown(command: &Command) -> String {
    match command {
        Command::Raw(bytes) => format!("raw: {}", bytes.escape_ascii()),
        Command::Inline(words) => format!("inline: {}", words.join(&b' ').escape_ascii()),
        Command::Words(words) => {
            let word = |word: &Vec<u8>| match word.is_empty() || word.contains(&b' ') {
                true => format!("\"{}\"", word.escape_ascii()),
                false => word.escape_ascii().to_string(),
            };
            words.iter().map(word).collect::<Vec<_>>().join(" ")
        }
    }
}

/// The commands' names, with their subcommands.
pub fn names(sequences: &[Sequence]) -> String {
    let turns = sequences.iter().flat_map(|sequence| &sequence.turns);
    let name = |command: &Command| {
        let sub = lookup(command.word(0).as_bytes()).and_then(|spec| spec.subcommand(command.word(1).as_bytes()));
        format!("{} {}", command.word(0), sub.map_or("", |sub| sub.name))
    };
    turns.flat_map(Turn::commands).map(name).collect::<Vec<_>>().join(", ")
}

/// What was expected and what came, from the first frame that differs.
pub fn difference(difference: &Difference) -> String {
    let Difference { turn, client, at, expected, found } = difference;
    format!(
        "turn {turn}, client {client}, frame {at}:\n  redis: {}\n  found: {}\n",
        told(expected, *at),
        told(found, *at)
    )
}

/// No more of a frame is shown.
const SHOWN: usize = 400;

fn told(told: &Told, from: usize) -> String {
    let mut shown: Vec<String> = told
        .frames
        .iter()
        .skip(from)
        .take(3)
        .map(|frame| frame[..frame.len().min(SHOWN)].escape_ascii().to_string())
        .collect();
    let more = told.frames.len().saturating_sub(from + 3);
    if more > 0 {
        shown.push(format!("… {more} more"));
    }
    if told.ended {
        shown.push("(end of the connection)".into());
    }
    if shown.is_empty() { "(nothing)".into() } else { shown.join("\n         ") }
}
