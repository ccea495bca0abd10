//! Whether what the upstream holds may be served, or has come back from the past (A5).
//!
//! A Redis that was killed comes back with its last snapshot, or with nothing; a replica that takes its master's place may lack
//! the master's last commands. Either may hold values whose invalidation was acknowledged. Each process of a server has a *run
//! id*; a mark beside the data (`weir:{…}epoch`) names the one whose data was found to be in order. So:
//!
//! 1. Every link of Weir's own asks for the run id before it carries anything. One that is not known, of a server whose mark does
//!    not name it, puts the upstream *in doubt*: what was queued for the link fails, and no routed key is read from it.
//! 2. [`keep`] looks: if the mark names this run id, another Weir has seen to it. If not, all keys of routes with a `load` are
//!    deleted, with their leases and negative entries, and the mark is set.
//! 3. The doubt is over, and an epoch with it: what was loaded under a lease of an earlier one is not stored.
//!
//! A server without a mark that this process has never met is one that no Weir has worked with: it is taken as it is. A mark
//! that is lost (FLUSHALL, eviction) is set again, for as long as a process is there that knows better. In a cluster the mark stands
//! in one of the node's own slots, which a link does not know; there, a node that joins while this process runs, and has
//! never followed a master, is taken for new: what it holds has come from nodes that are trusted.
//!
//! What such a server knew of tags may be lost, too. Their indexes: so in a cluster the keys of routes with tags are deleted at the other
//! masters as well. And the sequence of their invalidations: it takes a leap that no lost part of it can have been ([`LEAP`]), or
//! begins again from the server's time, so that a load that noted a number before is refused by every mark after
//! (`cache::tags`).
//!
//! Limits: in a cluster, what one node holds may be in doubt, and all nodes are; for as long as that one's keys are looked
//! through. A run id tells restarts and failovers, and not DEBUG RELOAD or a restored file that the server was made to load.
//! After a FLUSHALL that came past every Weir the mark is missing until one looks after it ([`PERIOD`]): a server that writes its
//! snapshot in that time, and is then restarted together with all Weirs, is believed.
//! tests/serve_replaced.rs holds it to this.

use super::handshake::{self, Upstream};
use super::side_key;
use super::sweep::{self, Pick};
use super::talk::{self, Talk};
use crate::resp::frame::Reply;
use crate::store::{Identity, StoreError};
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// For the whole upstream. Until [`Trust::begin`] nothing is ever in doubt.
#[derive(Debug, Default)]
pub struct Trust {
    on: AtomicBool,
    /// Servers in doubt.
    doubted: AtomicUsize,
    /// Grows whenever a doubt is raised or over.
    epoch: AtomicU64,
    /// All servers were met once.
    met: AtomicBool,
    look: Notify,
}

impl Trust {
    /// From here on servers are to be what they were.
    pub fn begin(&self) {
        let about = "0 while what the upstream holds of routes with `load` may be out of date and is not served";
        metrics::describe_gauge!("weir_upstream_trusted", about);
        self.show();
        self.on.store(true, Ordering::Release);
    }

    /// See [`crate::store::Store::epoch`].
    #[inline]
    pub fn epoch(&self) -> Option<u64> {
        let in_doubt = self.doubted.load(Ordering::Acquire) > 0;
        (!in_doubt).then(|| self.epoch.load(Ordering::Acquire))
    }

    /// Marks may be gone: they are looked after at once.
    pub fn look_again(&self) {
        self.look.notify_one();
    }

    /// Whether it was seen of every server whether it may be trusted.
    pub fn is_settled(&self) -> bool {
        !self.is_on() || (self.met.load(Ordering::Acquire) && self.epoch().is_some())
    }

    /// Whether it was begun.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    fn raise(&self) {
        self.doubted.fetch_add(1, Ordering::AcqRel);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.show();
    }

    /// The epoch first: nobody may find the old one trusted.
    fn lower(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.doubted.fetch_sub(1, Ordering::AcqRel);
        self.show();
    }

    fn show(&self) {
        metrics::gauge!("weir_upstream_trusted").set(if self.epoch().is_some() { 1.0 } else { 0.0 });
    }
}

/// What is known of one server.
#[derive(Debug)]
pub struct Standing {
    trust: Arc<Trust>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Of the process that was met last.
    run_id: Option<String>,
    doubted: bool,
}

/// The mark is a hash, with this field.
pub const RUN_ID: &str = "run_id";

/// The mark beside a server's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It was not asked for.
    Unknown,
    /// Nor was this, but the server has never followed another.
    OfNobodyElse,
    /// There is none.
    Absent,
    /// It names this run id.
    Names(String),
}

impl Mark {
    /// From the reply to HGET.
    pub fn of(reply: &Reply) -> Mark {
        match (reply, reply.as_bytes()) {
            (Reply::Error(_), _) => Mark::Unknown,
            (_, Some(run_id)) => Mark::Names(String::from_utf8_lossy(run_id).into_owned()),
            (_, None) => Mark::Absent,
        }
    }
}

impl Standing {
    /// Of a server that was not met yet.
    pub fn new(trust: Arc<Trust>) -> Self {
        Standing { trust, known: Mutex::default() }
    }

    /// A connection was made to this process of the server, which carries nothing yet.
    pub fn meet(&self, run_id: &str, mark: &Mark) {
        if !self.trust.is_on() {
            return;
        }
        let mut known = self.known.lock();
        let is_first = match &known.run_id {
            Some(earlier) if earlier == run_id => return,
            earlier => earlier.is_none(),
        };
        known.run_id = Some(run_id.to_owned());
        let is_fine = match mark {
            Mark::Names(seen_to) => seen_to == run_id,
            Mark::Absent => is_first,
            Mark::OfNobodyElse => is_first && self.trust.met.load(Ordering::Acquire),
            Mark::Unknown => false,
        };
        if is_fine && std::mem::take(&mut known.doubted) {
            self.trust.lower();
        } else if !is_fine && !std::mem::replace(&mut known.doubted, true) {
            self.trust.raise();
        }
        self.trust.look_again();
    }

    /// Whether what it holds must not be served.
    pub fn is_doubted(&self) -> bool {
        self.known.lock().doubted
    }

    /// What this process of it holds may be served.
    fn clear(&self, run_id: &str) {
        let mut known = self.known.lock();
        if known.run_id.as_deref() == Some(run_id) && std::mem::take(&mut known.doubted) {
            self.trust.lower();
        }
    }

    /// Nothing is read from it any more, or written to it.
    pub fn forget(&self) {
        let known = std::mem::take(&mut *self.known.lock());
        if known.doubted {
            self.trust.lower();
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.forget();
    }
}

/// No more invalidations by tag than this are lost with a server that has kept some. One that has lost all begins again
/// from microseconds, and so above what one with fewer invalidations than that ever reaches.
const LEAP: u64 = 1 << 20;
/// The mark lasts so long from when it was last looked after.
const MARK_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// The mark is looked after this often.
const PERIOD: Duration = Duration::from_secs(30);
/// Pauses before a server is tried again that could not be looked through; they double.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// One answer may take this long, or `timeout` if that is longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which keys go once a server is another than before.
pub struct Picks {
    /// From it: those that can be loaded again.
    pub loaded: Pick,
    /// From the others: those of them whose tags it may have known. `None`: there are none.
    pub tagged: Option<Pick>,
}

/// Looks through servers that are in doubt, and looks after the marks, for as long as the runtime lives.
pub async fn keep(upstream: Arc<Upstream>, picks: Picks) {
    let trust = upstream.trust().clone();
    let mut changes = upstream.cluster().map(|cluster| cluster.changes());
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(changes) = &mut changes {
            changes.borrow_and_update();
        }
        if upstream.is_known_down() {
            // Its links knock at it, and are enough.
            sleep(FIRST_PAUSE).await;
            continue;
        }
        let servers = upstream.servers();
        let looked = join_all(servers.iter().map(|(server, slot)| look(&upstream, server, *slot, &picks))).await;
        let all_well = !servers.is_empty() && looked.iter().all(Result::is_ok);
        if all_well {
            trust.met.store(true, Ordering::Release);
        }
        let until_next = if all_well && trust.epoch().is_some() {
            pause = FIRST_PAUSE;
            PERIOD
        } else {
            pause = (pause * 2).min(LONGEST_PAUSE);
            pause.mul_f64(1.0 + fastrand::f64() / 3.0)
        };
        let topology = async {
            match &mut changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Whoever flushes again and again has it looked so often at most.
            () = trust.look.notified() => sleep(FIRST_PAUSE).await,
            _ = topology => {}
            () = sleep(until_next) => {}
        }
    }
}

/// Looks at one server, and through it if it is in doubt.
async fn look(all: &Arc<Upstream>, server: &Arc<Upstream>, slot: u16, picks: &Picks) -> Result<(), StoreError> {
    let looked = look_with(all, server, slot, picks).await;
    if let Err(error @ StoreError::Refused(_)) = &looked {
        server.note_refusal(error);
    }
    looked
}

async fn look_with(all: &Arc<Upstream>, server: &Arc<Upstream>, slot: u16, picks: &Picks) -> Result<(), StoreError> {
    let mut visit = Visit::begin(server).await?;
    let name = String::from_utf8_lossy(&side_key::epoch(slot)).into_owned();
    let replies = visit.ask(&[talk::command(&["INFO", "server"]), talk::command(&["HGET", &name, RUN_ID])]).await?;
    let run_id = replies[0].as_bytes().map(handshake::run_id).unwrap_or_default();
    let mark = Mark::of(&replies[1]);
    let standing = server.standing();
    standing.meet(&run_id, &mark);
    let is_marked = mark == Mark::Names(run_id.clone());
    let is_new = mark == Mark::Absent && !server.trust().met.load(Ordering::Acquire);
    if standing.is_doubted() && !is_marked && !is_new {
        look_through(all, server, &mut visit, picks).await?;
    }
    standing.clear(&run_id);
    let mut marking = Vec::new();
    if !is_marked {
        visit.select(server.db()).await?;
        marking.push(talk::command(&["HSET", &name, RUN_ID, &run_id]));
    }
    marking.push(talk::command(&["PEXPIRE", &name, &MARK_LIFE.as_millis().to_string()]));
    visit.ask(&marking).await.map(drop)
}

/// Drops what a server may be wrong about.
async fn look_through(
    all: &Arc<Upstream>,
    server: &Arc<Upstream>,
    visit: &mut Visit,
    picks: &Picks,
) -> Result<(), StoreError> {
    let upstream = server.address();
    tracing::warn!(%upstream, "the server is another than before, and may lack invalidations: its keys of routes with `load` are dropped");
    let mut dropped = sweep::sweep(visit, &picks.loaded).await?;
    if let Some(tagged) = &picks.tagged {
        leap(visit).await?;
        for (other, _) in all.servers().into_iter().filter(|(other, _)| !Arc::ptr_eq(other, server)) {
            dropped += sweep::sweep(&mut Visit::begin(&other).await?, tagged).await?;
        }
    }
    tracing::info!(%upstream, dropped, "what may have been out of date is dropped");
    Ok(())
}

/// Lets the sequence of each database take its leap, where the server has one. If it has lost it, it begins again from
/// the time ([`super::scripts::NEXT`]).
async fn leap(visit: &mut Visit) -> Result<(), StoreError> {
    let sequence = String::from_utf8_lossy(side_key::SEQUENCE).into_owned();
    for db in visit.databases().await? {
        if !visit.select(db).await? {
            continue;
        }
        let Ok(replies) = visit.ask(&[talk::command(&["GET", &sequence])]).await else {
            // It stands at another node.
            continue;
        };
        let number = replies[0].as_bytes().and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
        if let Some(number) = number {
            let life = super::tags::SEQUENCE_LIFE.as_millis().to_string();
            visit.ask(&[talk::command(&["SET", &sequence, &(number + LEAP).to_string(), "PX", &life])]).await?;
        }
    }
    Ok(())
}

/// A connection of Weir's own on which a server is looked through.
pub struct Visit {
    talk: Talk,
    patience: Duration,
    /// Of a cluster, there is one database only.
    pub is_node: bool,
}

impl Visit {
    /// Connects.
    pub async fn begin(server: &Upstream) -> Result<Visit, StoreError> {
        let identity = Identity { db: server.db(), ..Identity::default() };
        let stream = handshake::connect_to_look(server, &identity).await?;
        let talk = Talk::new(stream).bounded(sweep::MOST_REPLY);
        Ok(Visit { talk, patience: PATIENCE.max(server.timeout), is_node: server.is_node() })
    }

    /// Asks all commands at once; the first error among the replies is the result.
    pub async fn ask(&mut self, commands: &[talk::Command]) -> Result<Vec<Reply>, StoreError> {
        timeout(self.patience, self.talk.ask(commands)).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// The same, with errors among the replies.
    pub async fn try_all(&mut self, commands: &[talk::Command]) -> Result<Vec<Reply>, StoreError> {
        timeout(self.patience, self.talk.exchange(commands)).await.unwrap_or(Err(StoreError::Timeout))
    }

    /// The databases that hold anything.
    pub async fn databases(&mut self) -> Result<Vec<u32>, StoreError> {
        if self.is_node {
            return Ok(vec![0]);
        }
        let replies = self.ask(&[talk::command(&["INFO", "keyspace"])]).await?;
        let text = String::from_utf8_lossy(replies[0].as_bytes().unwrap_or_default()).into_owned();
        Ok(text.lines().filter_map(|line| line.strip_prefix("db")?.split(':').next()?.parse().ok()).collect())
    }

    /// What is asked from here on is asked of this database. False: Weir's user may not, and so nothing of it is Weir's.
    pub async fn select(&mut self, db: u32) -> Result<bool, StoreError> {
        if self.is_node {
            return Ok(true);
        }
        match self.ask(&[talk::command(&["SELECT", &db.to_string()])]).await {
            Ok(_) => Ok(true),
            Err(StoreError::Refused(text)) if text.contains("NOPERM") => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(run_id: &str) -> Mark {
        Mark::Names(run_id.into())
    }

    fn trust() -> Arc<Trust> {
        let trust = Arc::new(Trust::default());
        trust.begin();
        trust
    }

    #[test]
    fn a_server_is_doubted_once_it_is_another() {
        let trust = trust();
        let standing = Standing::new(trust.clone());
        standing.meet("a", &Mark::Absent);
        assert_eq!(trust.epoch(), Some(0), "no Weir has worked with it");
        standing.meet("a", &names("z"));
        assert_eq!(trust.epoch(), Some(0), "its mark may be old, but it has not changed under our eyes");
        standing.meet("b", &Mark::Absent);
        assert_eq!(trust.epoch(), None);
        standing.meet("b", &Mark::Absent);
        assert_eq!(trust.epoch(), None);
        standing.clear("a");
        assert_eq!(trust.epoch(), None, "that was another");
        standing.clear("b");
        let second = trust.epoch().expect("it was looked through");
        assert!(second > 0);
        standing.meet("c", &names("c"));
        assert_eq!(trust.epoch(), Some(second), "another Weir has looked through it");
        standing.meet("d", &Mark::Unknown);
        standing.meet("e", &names("e"));
        assert!(trust.epoch().expect("it is another again, and seen to") > second);
    }

    #[test]
    fn a_server_that_is_met_for_the_first_time_is_doubted_if_its_mark_names_another() {
        let trust = trust();
        let standing = Standing::new(trust.clone());
        standing.meet("a", &names("z"));
        assert_eq!(trust.epoch(), None);
        drop(standing);
        assert!(trust.epoch().is_some(), "nobody uses it any more");
    }

    #[test]
    fn all_servers_must_be_trusted() {
        let trust = trust();
        let (one, two) = (Standing::new(trust.clone()), Standing::new(trust.clone()));
        one.meet("a", &Mark::Unknown);
        two.meet("b", &Mark::Unknown);
        one.clear("a");
        assert_eq!(trust.epoch(), None);
        two.clear("b");
        assert!(trust.epoch().is_some());
    }

    #[test]
    fn a_node_that_joins_is_trusted_if_it_took_nobodys_place() {
        let trust = trust();
        let early = Standing::new(trust.clone());
        early.meet("a", &Mark::OfNobodyElse);
        assert_eq!(trust.epoch(), None, "it may have been there before this process");
        early.clear("a");
        trust.met.store(true, Ordering::Release);
        let (new, promoted) = (Standing::new(trust.clone()), Standing::new(trust.clone()));
        new.meet("b", &Mark::OfNobodyElse);
        assert!(trust.epoch().is_some());
        promoted.meet("c", &Mark::Unknown);
        assert_eq!(trust.epoch(), None);
        promoted.forget();
        new.meet("d", &Mark::OfNobodyElse);
        assert_eq!(trust.epoch(), None, "it was restarted");
    }

    #[test]
    fn where_nothing_can_be_loaded_nothing_is_doubted() {
        let trust = Arc::new(Trust::default());
        Standing::new(trust.clone()).meet("a", &names("z"));
        assert_eq!(trust.epoch(), Some(0));
    }
}
