//! config/commands.md is the command table, in words (T34): what clients are refused, and what they get otherwise.
//!
//! After a change of the table: `WEIR_WRITE=1 cargo test --test commands_document` writes the file anew.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use weir::resp::command::{COMMANDS, Handling, Spec};
use weir::server::WEIR_HELP;

const HEAD: &str = "# Commands

How Weir serves each command of Redis. Generated from the command table (src/resp/command/table.rs); a test holds them equal.

A command that is not named here goes to the store as it is: over a Redis upstream all of them do; the embedded store answers
those for strings, hashes, sets and keys, and `ERR unknown command` otherwise. A name that Weir does not know, of a module or of a
newer server, is asked of the upstream with COMMAND INFO: its keys, and whether it writes or waits; one that the server calls an
administrator's is refused. On routed keys reads load, and changes fence loads; see README.md.
";

const WITHIN_MULTI: &str = "
Inside MULTI these are refused too, and EXEC then answers EXECABORT: AUTH, HELLO with options, HELLO 2 of a subscriber, SUBSCRIBE and
its kin, CLIENT KILL, LIST, REPLY, UNBLOCK and TRACKING with REDIRECT, WEIR. They are about a connection that is Weir's own; send them
before MULTI or after EXEC. Over a cluster CLIENT TRACKING and WAIT are refused altogether: each node knows of its own connections only.
";

const OWN_KEYS: &str = "
## Weir's own keys

Where there are routes over an upstream, or clients have named tags (WEIR SET, WEIR TAG), Weir keeps keys of its own there, whose
names begin with `weir:{`. Clients do not see them:

- SCAN, KEYS and PUBSUB CHANNELS leave such names out. A page of SCAN may then be empty while its cursor goes on, as with MATCH.
- DBSIZE counts clients' keys. Up to 4,096 keys that is exact, of more an estimate, for only so many are looked at: with a
  hundredth of 10^6 keys being Weir's, mostly within 2,000. Where none of those is Weir's it is Redis's own number.
- RANDOMKEY draws again, 100 times, and then takes another of the first 4,096 keys; only if all are Weir's it answers nil.

So too in pipelines, over a cluster, and inside MULTI, where these commands are sent as scripts. The upstream's own users
(`auth = \"upstream\"`) see Weir's keys inside MULTI.

Who names such a key may read it. A command that may change it is refused: `-ERR 'weir:{' begins the names of Weir's own keys …`.
A client that subscribes to a pattern such as `*` is not sent what is said on Weir's own channel, and nobody is sent keyspace events
of Weir's own keys who has not asked for one by its name. As they are stay: INFO's keyspace section, CLUSTER COUNTKEYSINSLOT and
GETKEYSINSLOT, MONITOR, invalidations that CLIENT TRACKING brings with BCAST and no prefix, and what a client's own script finds.
";

/// Every command and subcommand, by its whole name.
fn all() -> Vec<(String, &'static Spec)> {
    let subcommands =
        |spec: &'static Spec| spec.subcommands.iter().map(move |sub| (format!("{} {}", spec.name, sub.name), sub));
    let mut all: Vec<(String, &Spec)> = COMMANDS
        .iter()
        .flat_map(|spec| std::iter::once((spec.name.to_owned(), spec)).chain(subcommands(spec)))
        .map(|(name, spec)| (name.to_uppercase(), spec))
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// The commands for which `reason` has one, those with the same reason together.
fn section(reason: impl Fn(Handling) -> Option<&'static str>) -> String {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, spec) in all() {
        if let Some(why) = reason(spec.handling) {
            by_reason.entry(why).or_default().push(format!("`{name}`"));
        }
    }
    let mut rows: Vec<_> = by_reason.into_iter().map(|(why, names)| (names.join(", "), why)).collect();
    rows.sort();
    rows.into_iter().fold(String::from("| commands | why, and the way out |\n|---|---|\n"), |mut text, (names, why)| {
        writeln!(text, "| {names} | {why} |").expect("a string takes every text");
        text
    })
}

fn document() -> String {
    let refused = section(|handling| match handling {
        Handling::Refused(why) => Some(why),
        _ => None,
    });
    let stateful = section(|handling| match handling {
        Handling::Stateful(why) => Some(why),
        _ => None,
    });
    let own: Vec<String> = all()
        .into_iter()
        .filter(|(name, spec)| spec.handling == Handling::Own && !name.contains(' '))
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    let help: String =
        WEIR_HELP.iter().filter(|line| line.contains(" -- ")).map(|line| format!("WEIR {line}\n")).collect();
    format!(
        "{HEAD}{OWN_KEYS}\n## Refused\n\n`-ERR '…' is not served by Weir: …`, with these words.\n\n{refused}{WITHIN_MULTI}\n\
         ## Over a link of the client's own\n\nA server remembers something of the connection that they came over, so such a client has \
         one for as long as that (XREAD and\nXREADGROUP only with BLOCK). Over the embedded store they are refused.\n\n{stateful}\n\
         ## Answered by Weir itself\n\nIn whole or in part: {}.\n\n## Weir's own commands\n\n```text\n{help}```\n",
        own.join(", ")
    )
}

#[test]
fn the_documented_commands_are_those_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/commands.md");
    let document = document();
    if std::env::var_os("WEIR_WRITE").is_some() {
        std::fs::write(&path, &document).expect("config is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == document, "config/commands.md is not what the table says: run this test with WEIR_WRITE=1");
}
