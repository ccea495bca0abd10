//! Keys that applications fill themselves, as clients meet them: who waits for another client's SET, and for how long
//! (`wait_for_fill`, see [`crate::cache::aside`]).
//!
//! - Reads of one key that answer of its value wait: GET, GETEX, HGET, HGETALL, LRANGE, SMEMBERS, ZRANGE … . Those that ask whether
//!   or how long it is there (EXISTS, STRLEN, TTL …) do not, nor does MGET or any read of several keys: nil at once.
//! - Nobody waits inside MULTI or under WATCH, with CLIENT TRACKING, or in any state that the server remembers.
//! - A client's replies stay in order, so what it has sent together with a read that waits waits too. If it sends more
//!   meanwhile, it does not wait for one answer after the other: many requests share that connection. Then its reads are
//!   answered nil at once; and so they are if a command that came with them cannot be done before they are answered
//!   (a write of the same key, MULTI, SELECT, one more than may be under way …).

use super::conn::{Conn, Muting};
use super::lifetime::Leaves;
use super::output::Output;
use super::replies::Read;
use super::routed::{self, upstream_text};
use super::worker::Worker;
use crate::cache::aside::{Reader, Waited};
use crate::cache::route::{Fence, Route};
use crate::resp::args::Args;
use crate::resp::command::{Group, Spec, Use, Uses};
use crate::resp::scan::may_be_absent;
use crate::store::{StoreKey, Token, Way};
use bytes::Bytes;
use futures_util::FutureExt;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// A key may be written and gone again so often before its reader gets there.
const ATTEMPTS: usize = 4;

/// One connection's reads: which came together.
#[derive(Default)]
pub struct Batches {
    current: Cell<u64>,
    next: Notify,
    /// How many of them wait for other clients.
    waiting: Cell<usize>,
}

/// One of them waits as long as this lives.
struct Waits<'a>(&'a Cell<usize>);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Waits(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Batches {
    /// How many reads wait for other clients.
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// The client has sent more, or must not wait any longer.
    pub fn begin(&self) {
        self.current.set(self.current.get() + 1);
        if self.waiting.get() > 0 {
            self.next.notify_waiters();
        }
    }

    /// Is over as soon as `batch` is not the last one.
    async fn after(&self, batch: u64) {
        let next = self.next.notified();
        if self.current.get() == batch {
            next.await;
        }
    }
}

/// Under what conditions a read waits.
pub struct Patience {
    reader: Token,
    batches: Rc<Batches>,
    batch: u64,
}

impl Patience {
    /// Of a read that the connection `reader` sends now.
    pub fn new(reader: Token, batches: &Rc<Batches>) -> Self {
        Patience { reader, batch: batches.current.get(), batches: batches.clone() }
    }
}

/// Whether a command reads the value of its one key.
pub fn waits(spec: &Spec) -> bool {
    let values = matches!(spec.group, Group::String | Group::Hash | Group::List | Group::Set | Group::SortedSet);
    let only_looks = matches!(Uses::of(spec, None), Uses::All(Use { reads: false, writes: false }));
    values && (spec.first, spec.last) == (1, 1) && !only_looks
}

/// A read of keys that cannot be loaded, whose reply may be that of an absent one.
pub async fn read(worker: &Worker, read: &Read, spec: &Spec, args: Args<'_>, mut reply: Vec<u8>) -> Output {
    let route = worker.app.routes.get(read.route);
    if let (Some(patience), true) = (&read.patience, waits(spec)) {
        let key = StoreKey { db: read.way.identity.db, name: Bytes::copy_from_slice(&args[1]) };
        let deadline = worker.engine.deadline_of(route);
        let reader = Reader { route, key: &key, name: patience.reader, deadline };
        for _ in 0..ATTEMPTS {
            let waits = Waits::begin(&patience.batches.waiting);
            let waited = worker.engine.wait_for_fill(&reader, patience.batches.after(patience.batch)).await;
            drop(waits);
            if waited == Waited::Absent {
                break;
            }
            reply = match read.way.run(args).await {
                Ok(reply) => reply,
                Err(failure) => {
                    route.metrics.lookups.error.increment(1);
                    return routed::error(&upstream_text(failure));
                }
            };
            if waited == Waited::Present || !may_be_absent(&reply) {
                route.metrics.lookups.hit.increment(1);
                return Output::whole(reply);
            }
        }
    }
    // The keys of an MGET are counted by themselves; what others of several keys have missed cannot be told.
    if read.all_keys == 1 && spec.name != "mget" {
        route.metrics.lookups.miss.increment(1);
    }
    Output::whole(reply)
}

/// After a write of a key that readers may wait for, sent on this way: its lease is dropped, and those who wait are woken.
/// Sent before this returns, so that it comes before the client's next command.
pub fn release(worker: &Worker, route: &Arc<Route>, key: &[u8], way: &Way, leaves: Leaves) {
    if route.fence(leaves.a_value()) != Fence::Behind {
        return;
    }
    let (engine, way) = (worker.engine.clone(), way.clone());
    let key = StoreKey { db: way.identity.db, name: Bytes::copy_from_slice(key) };
    let mut released = Box::pin(async move {
        // If it does not get there, the lease ends by itself, and those who wait look by themselves.
        if way.release(&key.name).await.is_ok() {
            engine.written(&key);
        }
    });
    if released.as_mut().now_or_never().is_none() {
        tokio::task::spawn_local(released);
    }
}

impl Conn {
    /// How a read of a key of this route waits for another client to fill it.
    pub(super) fn patience(&self, route: &Route) -> Option<Patience> {
        let waits = !route.config.wait_for_fill().is_zero() && !self.is_private() && self.muting == Muting::Off;
        waits.then(|| Patience::new(self.worker.engine.reader(self.client.id), self.batches.get_or_init(Rc::default)))
    }

    /// The client has sent more.
    pub fn begin_batch(&self) {
        self.batches.get().inspect(|batches| batches.begin());
    }

    /// What it has sent cannot be done yet: it must not be other clients that this waits for.
    pub fn hurry(&self) {
        let Some(batches) = self.batches.get() else { return };
        if batches.waiting() > 0 && batches.waiting() == self.replies.unanswered() {
            batches.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::command::lookup;

    #[test]
    fn what_answers_of_a_value_waits() {
        let waits = |name: &str| super::waits(lookup(name.as_bytes()).expect("a command"));
        for name in ["get", "getex", "getrange", "hget", "hmget", "hgetall", "lrange", "smembers", "zrange", "zscore"] {
            assert!(waits(name), "{name}");
        }
        for name in ["mget", "exists", "strlen", "ttl", "pttl", "type", "hlen", "hexists", "scard", "sinter", "xread"] {
            assert!(!waits(name), "{name}");
        }
    }

    #[test]
    fn a_batch_ends_with_the_next() {
        let batches = Rc::new(Batches::default());
        let first = Patience::new(Token(1), &batches);
        let _waits = Waits::begin(&batches.waiting);
        let mut over = Box::pin(first.batches.after(first.batch));
        assert!(over.as_mut().now_or_never().is_none());
        batches.begin();
        assert!(over.now_or_never().is_some());
        assert!(batches.after(0).now_or_never().is_some() && batches.after(1).now_or_never().is_none());
    }
}
