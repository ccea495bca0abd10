//! `WEIR …`: what Weir says of itself over RESP.

use super::conn::{Conn, Flow};
use crate::cache::explain::explain;
use crate::resp::args::Args;
use crate::resp::command::Spec;
use crate::resp::write;

/// Answers a WEIR command whose number of arguments is right.
pub fn run(conn: &mut Conn, spec: &'static Spec, args: Args<'_>) -> Flow {
    let app = conn.worker.app.clone();
    let protocol = conn.protocol;
    match spec.resolve(args).name {
        "explain" => {
            let Some(route) = app.routes.find(&args[2]) else {
                conn.answer_now(|out| {
                    write::error(out, "ERR no route matches this key; WEIR ROUTES lists the patterns")
                });
                return Flow::Next;
            };
            let explanation = explain(route, &args[2]);
            conn.answer_now(|out| {
                write::map(out, protocol, explanation.len());
                for (name, text) in explanation {
                    write::bulk(out, name);
                    write::bulk(out, text);
                }
            });
        }
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

const HELP: [&str; 5] = [
    "WEIR <subcommand> [<arg> ...]. Subcommands are:",
    "EXPLAIN <key> -- Which route, SQL, parameters and TTLs answer this key.",
    "ROUTES -- Each route's name and pattern.",
    "HELP -- Print this help.",
    "More is in the project's config/weir.toml.",
];
