//! What the upstream has missed, and what is done about it: keys in doubt are not read from it, and are invalidated there as
//! soon as it can be reached ([`crate::cache::doubts`]).

use super::conn::{Conn, Request};
use super::keys::RoutedKeys;
use super::replies::{Missed, Read};
use super::routed::Modify;
use super::worker::Worker;
use crate::cache::doubts::Page;
use crate::resp::args::Args;
use crate::resp::command::Spec;
use crate::store::redis::sweep::Pick;
use crate::store::{StoreError, StoreKey, Way};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Pauses while the upstream is away; the longest is how much later than others these keys are found to be back.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Keys and tags of `db` were to be invalidated, and the store has failed to do all of it. If it may do so later, none of what it
/// holds of them is served until it has.
pub fn remember(worker: &Worker, db: u32, keys: &[Bytes], tags: &BTreeSet<Bytes>, failure: &StoreError) {
    if !failure.may_pass() {
        return;
    }
    let (doubts, routes) = (worker.engine.doubts(), &worker.app.routes);
    // Which keys the tags have, only the store knows.
    worker.app.near.iter().for_each(|near| near.forget_all());
    for (key, route) in keys.iter().filter_map(|key| Some((key, routes.find(key)?))) {
        doubts.add_key(route, StoreKey { db, name: key.clone() });
    }
    if !tags.is_empty() {
        doubts.add_tags(db, tags, routes.iter().map(|route| &**route));
    }
}

/// Settles what is in doubt, for as long as the process lives.
pub async fn follow(worker: Rc<Worker>) {
    loop {
        worker.engine.doubts().raised().await;
        let mut pause = FIRST_PAUSE;
        let mut settled = 0;
        loop {
            let page = worker.engine.doubts().page();
            if page.is_empty() {
                break;
            }
            match settle(&worker, &page).await {
                Ok(()) => {
                    settled += page.len();
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    tracing::debug!(%error, "what was missed is not invalidated yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        tracing::info!(settled, "what the upstream has missed is invalidated");
        metrics::counter!("weir_invalidations_total", "source" => "missed").increment(settled as u64);
    }
}

async fn settle(worker: &Worker, page: &Page) -> Result<(), StoreError> {
    if !page.routes.is_empty() {
        worker.backend.sweep(keys_of(worker, page)).await?;
    }
    worker.engine.invalidate_page(page).await?;
    if let Some(hearing) = &worker.app.hearing {
        // Which keys a tag had, the pushes tell what is kept near.
        hearing.catch_up(worker.app.upstream_timeout()).await;
    }
    worker.engine.doubts().settled(page);
    Ok(())
}

fn keys_of(worker: &Worker, page: &Page) -> Pick {
    let app = worker.app.clone();
    let names: Vec<String> = page.routes.iter().map(|(name, _)| name.clone()).collect();
    Arc::new(move |key| app.routes.find(key).is_some_and(|route| names.contains(&route.config.name)))
}

/// Whether any key of a command on routed keys is in doubt.
pub fn in_doubt(worker: &Worker, way: &Way, spec: &Spec, args: Args<'_>) -> bool {
    let (engine, db) = (&worker.engine, way.identity.db);
    engine.has_doubts()
        && spec.key_positions(args).filter_map(|position| args.get(position)).any(|key| {
            let route = worker.app.routes.find(key);
            route.is_some_and(|route| engine.is_in_doubt(route, &StoreKey { db, name: Bytes::copy_from_slice(key) }))
        })
}

/// A command that would leave a value at keys in doubt waits until they are so no more; what is to be dropped there must not be
/// what it has stored.
pub async fn wait(worker: &Worker, modify: &Modify) -> Result<(), StoreError> {
    if !worker.engine.has_doubts() || !modify.leaves.a_value() || !worker.app.is_connected() {
        return Ok(());
    }
    for (key, route) in &modify.keys {
        let key = StoreKey { db: modify.way.identity.db, name: Bytes::copy_from_slice(key) };
        if !worker.engine.trusted(route, &key, worker.app.upstream_timeout()).await {
            return Err(StoreError::InDoubt);
        }
    }
    Ok(())
}

/// The error for a command whose key is in doubt, and that only the upstream could answer.
pub fn refusal() -> String {
    StoreError::InDoubt.reply()
}

impl Conn {
    /// Answers a routed read without what the store holds, if that is in doubt.
    pub(super) fn read_in_doubt(&mut self, spec: &Spec, request: Request<'_>, keys: &RoutedKeys<'_>) -> bool {
        if !in_doubt(&self.worker, self.way(), spec, request.args) {
            return false;
        }
        self.send_run(request.bytes);
        let indices: Vec<usize> = keys.iter().map(|key| key.index).collect();
        let read = Read {
            command: request.command().into_owned(),
            keys: keys.hashes.clone(),
            route: indices[0],
            other_routes: indices[1..].into(),
            all_keys: spec.key_positions(request.args).count(),
            way: self.way().clone(),
            seen: self.is_private(),
            opts_in: false,
            timed: None,
            drawn: None,
            patience: None,
        };
        let slot = self.replies.open_slow(keys.hashes.clone(), self.command_index());
        self.start_read(Missed { place: slot.into(), read, reply: Err(StoreError::InDoubt) });
        true
    }
}
