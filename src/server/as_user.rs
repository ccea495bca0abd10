//! `auth = "upstream"`: clients whom the upstream knows. Each of their commands goes over links that are authenticated
//! as they are, so that the upstream itself judges every one of them, with the rights that its users have at that moment.
//!
//! Weir's own user does only what is Weir's own: it takes leases, fills, fences and caps TTLs. It never runs a client's
//! command. From this follows:
//! - a routed read goes to the store as the client first; only a reply that may be an absent key's begins a load, and a
//!   refusal is none. A client that coalesces has seen such a reply itself.
//! - a routed write waits until its fences, sent over another link, are acknowledged; its TTL is capped if it succeeded.
//!   Nothing of the client is done meanwhile.
//! - a command that needs the old value runs once the key is present, in a second step: the script which does both at
//!   once would run as Weir. A key that vanishes in between is found absent, as on a Redis alone. Nothing is loaded for
//!   a client that the upstream says (ACL DRYRUN) may not run the command.
//! - what Weir itself answers (CLIENT LIST …) is answered if ACL DRYRUN allows it.

use super::aside;
use super::conn::{Conn, Flow, Request};
use super::keys::KeyHashes;
use super::lifetime::{Leaves, Written};
use super::routed::{self, Modify, upstream_text};
use crate::cache::route::Route;
use crate::config::Secret;
use crate::resp::args::OwnedArgs;
use crate::resp::command::{Flags, Spec};
use crate::store::{Backend, Credentials, Identity};
use std::sync::Arc;

/// What is said of a command: it goes on, or the text of its error.
pub type Verdict = Result<(), String>;

impl Conn {
    /// Whether the upstream judges what this client does.
    pub fn is_upstream_user(&self) -> bool {
        self.way().identity.user.is_some()
    }

    /// AUTH with what the upstream must know. `None`: it is asked, and the command is acted on again.
    pub fn authenticate_upstream(&mut self, user: &[u8], password: &[u8]) -> Option<Verdict> {
        let (Ok(user), Ok(password)) = (std::str::from_utf8(user), std::str::from_utf8(password)) else {
            return Some(Err("ERR user and password must be UTF-8 to be passed on to the upstream".into()));
        };
        if self.is_busy() {
            // What was sent before is for the user that it was sent as.
            return None;
        }
        let credentials = Arc::new(Credentials { user: user.to_owned(), password: Secret(password.to_owned()) });
        let verdict = match self.is_private() {
            true => self.authenticate_link(&credentials),
            false => self.try_credentials(&credentials),
        }?;
        if verdict.is_ok() {
            self.authenticated = true;
            self.client.said.lock().set_user(&credentials.user);
            self.become_identity(Identity { user: Some(credentials), ..self.way().identity.clone() });
        }
        Some(verdict)
    }

    /// Over a fresh connection, which alone shows what the upstream says now.
    fn try_credentials(&mut self, credentials: &Arc<Credentials>) -> Option<Verdict> {
        let worker = self.worker.clone();
        let Backend::Redis(redis) = &worker.backend else { return Some(Err("ERR there is no upstream".into())) };
        let (redis, credentials) = (redis.clone(), credentials.clone());
        self.ask(
            async move { redis.try_credentials(&credentials).await.unwrap_or_else(|error| Err(upstream_text(error))) },
        )
    }

    /// Over the client's own link, which becomes the user's and is not handed on, from now on.
    fn authenticate_link(&mut self, credentials: &Arc<Credentials>) -> Option<Verdict> {
        let way = self.way().clone();
        let command = OwnedArgs::from_iter(["AUTH", &credentials.user, &credentials.password.0]);
        if let Some(hold) = &mut self.hold {
            hold.stained = true;
        }
        self.ask(async move {
            let reply = way.run(command.as_args()).await.map_err(upstream_text)?;
            reply.strip_prefix(b"-").map_or(Ok(()), |text| Err(String::from_utf8_lossy(text).trim_end().to_owned()))
        })
    }

    /// Whether this client may have what Weir answers itself. `None`: the upstream is asked.
    pub fn may_have_answered(&mut self, spec: &'static Spec, request: Request<'_>) -> Option<Verdict> {
        let Some(user) = self.way().identity.user.clone() else { return Some(Ok(())) };
        let sub = spec.resolve(request.args);
        // SELECT and INFO are run as the client.
        let asks_itself = matches!((spec.name, sub.name), ("select" | "info", _) | ("weir", "help"));
        if spec.flags.contains(Flags::NO_AUTH) || asks_itself {
            return Some(Ok(()));
        }
        if spec.name == "weir" {
            return Some(Err(
                "NOPERM WEIR shows what the upstream does not give rights to; use `weir explain`, or the admin port"
                    .into(),
            ));
        }
        let worker = self.worker.clone();
        let Backend::Redis(redis) = &worker.backend else { return Some(Ok(())) };
        let (redis, args, for_admins) =
            (redis.clone(), request.args.iter().collect::<OwnedArgs>(), sub.flags.contains(Flags::ADMIN));
        self.ask(async move {
            match redis.dry_run(&user.user, args.as_args()).await {
                Some(verdict) => verdict,
                None if !for_admins => Ok(()),
                None => Err(
                    "NOPERM the upstream does not say whether this user may; give Weir's own user ACL DRYRUN (Redis 7)"
                        .into(),
                ),
            }
        })
    }

    /// Drops leases over Weir's own links, ahead of a command that is sent as another user. `None`: the command waits.
    pub fn fence_as_weir(&mut self, keys: &[(Vec<u8>, Arc<Route>)]) -> Option<Verdict> {
        let (worker, db) = (self.worker.clone(), self.way().identity.db);
        let keys: Vec<Vec<u8>> = keys.iter().map(|(key, _)| key.clone()).collect();
        self.ask(async move { worker.backend.fence_all(db, keys).await.map_err(upstream_text) })
    }

    /// A routed write of such a client: fenced, run, capped, one after the other.
    pub fn write_as_user(
        &mut self,
        request: Request<'_>,
        keys: Vec<(Vec<u8>, Arc<Route>)>,
        hashes: KeyHashes,
        leaves: Leaves,
    ) -> Flow {
        self.send_run(request.bytes);
        let write =
            Modify { keys, lone: false, command: request.command().into_owned(), leaves, way: self.way().clone() };
        let slot = self.replies.open_slow(hashes, self.command_index());
        let worker = self.worker.clone();
        self.run_errand(async move {
            let answer = routed::write(&worker, write).await;
            move |conn: &mut Conn| conn.replies.finish(slot, answer)
        });
        Flow::Next
    }

    /// Caps the keys that a transaction has written, once it is executed.
    pub fn cap_as_weir(&mut self, writes: Vec<Written>) {
        let (worker, way) = (self.worker.clone(), self.way().clone());
        let capped = async move {
            for (key, route, leaves) in writes {
                if let Some(ttl) = leaves.cap(&route, &worker.engine) {
                    way.cap_behind(&key, ttl).await;
                }
                aside::release(&worker, &route, &key, &way, leaves);
            }
            |_: &mut Conn| {}
        };
        self.run_errand(capped);
    }
}
