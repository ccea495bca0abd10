//! `WEIR …`: what Weir says of itself over RESP.

use super::conn::{Conn, Flow, Request};
use super::explain::explain;
use super::keys::KeyHashes;
use super::output::Output;
use super::{refreshing, stats, tagging, warming};
use crate::hash::hash;
use crate::resp::args::Args;
use crate::resp::command::Spec;
use crate::resp::write;

/// Answers a WEIR command whose number of arguments is right.
pub fn run(conn: &mut Conn, spec: &'static Spec, request: Request<'_>) -> Flow {
    let args = request.args;
    let app = conn.worker.app.clone();
    let protocol = conn.protocol();
    let sub = spec.resolve(args);
    if matches!(sub.name, "set" | "tag") {
        app.note_tags();
    }
    if let Some(refusal) = conn.refuse_on_own_keys(spec, sub.access, request) {
        return refusal;
    }
    match sub.name {
        "explain" => {
            return explain_key(conn, args);
        }
        "invalidate" => return tagging::invalidate(conn, request),
        "set" => return tagging::set(conn, request),
        "tag" => return tagging::tag(conn, request),
        "warm" => return warming::run(conn, request),
        "refresh" => return refreshing::run(conn, request),
        "stats" => return stats::run(conn, request),
        "routes" => conn.answer_now(|out| {
            write::map(out, protocol, app.routes.iter().count());
            for route in app.routes.iter() {
                write::bulk(out, &route.config.name);
                write::bulk(out, &route.config.key.text);
            }
        }),
        "help" => conn.answer_now(|out| {
            write::array(out, HELP.len());
            HELP.iter().for_each(|line| write::simple(out, line));
        }),
        other => {
            let name = other.to_uppercase();
            conn.answer_now(|out| {
                write::error(
                    out,
                    format!("ERR 'WEIR {name}' is not supported by this version; WEIR HELP lists what is"),
                );
            });
        }
    }
    Flow::Next
}

/// What the configuration says of the key, and what the store holds at it: the one part that must be asked for.
fn explain_key(conn: &Conn, args: Args<'_>) -> Flow {
    let key = args[2].to_vec();
    let (worker, replies, protocol) = (conn.worker.clone(), &conn.replies, conn.protocol());
    let identity = conn.way().identity.clone();
    let hashes = KeyHashes::one(hash(&key));
    if replies.is_open(&hashes, true) {
        return Flow::Wait;
    }
    let slot = replies.open_slow(hashes, conn.command_index());
    replies.finish_with(slot, async move {
        let explanation = explain(&worker, &key, &identity).await;
        let mut answer = Output::default();
        answer.write(|out| {
            write::map(out, protocol, explanation.len());
            for (name, text) in explanation {
                write::bulk(out, name);
                write::bulk(out, text);
            }
        });
        answer
    });
    Flow::Next
}

/// What WEIR HELP answers; config/commands.md has it too.
pub const HELP: [&str; 11] = [
    "WEIR <subcommand> [<arg> ...]. Subcommands are:",
    "SET <key> <value> [EX <seconds> | PX <milliseconds>] TAGS <tag> [<tag> ...] -- Store a value that tags invalidate.",
    "TAG <key> <tag> [<tag> ...] -- Tag a key that is there.",
    "INVALIDATE <tag> [<tag> ...] -- Drop every key that has any of the tags; answers how many there were.",
    "REFRESH <key> -- Load the key now; answers 1 once it is stored, 0 if there is no such row.",
    "EXPLAIN <key> -- Which route, SQL, parameters and TTLs answer this key.",
    "ROUTES -- Each route's name and pattern.",
    "STATS [<route>] -- What this Weir has counted since it began, of all routes or of one.",
    "WARM <route> -- Load the keys that the route's `warm` names; answers how many rows were loaded.",
    "HELP -- Print this help.",
    "More is in the project's config/weir.toml.",
];
