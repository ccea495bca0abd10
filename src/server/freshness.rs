//! How fresh the values are that clients read of routes with `grace`, `early_refresh` or `sliding`, and what comes of it.
//!
//! What is left of a value's life in the store tells its freshness ([`crate::cache::refresh`]); so a read asks for it in the
//! same write, as a timed read, unless it was heard a moment ago ([`super::lives`]). A stale or due value is answered like any
//! other, and refreshed behind its reader; that of a `sliding` route is renewed there ([`crate::cache::sliding`]). TTL and its kin
//! tell the fresh part of a key's life, and 0 in its grace; they and OBJECT ask about the key and not for its value, and renew
//! nothing.
//!
//! Not asked: reads of several keys but MGET, and in a cluster those of several slots; whatever a client does over a link of its own (MULTI, WATCH, TRACKING …), for there
//! nothing is loaded, and TTL tells what the server does.

use super::conn::{Conn, Request};
use super::keys::{RoutedKey, RoutedKeys};
use super::lives::Milliseconds;
use super::near::key;
use super::output::Output;
use super::routed::{error, parse, upstream_text};
use super::timed::{Action, Asked, Due, Shows, Timed};
use super::worker::Worker;
use crate::cache::Wanted;
use crate::cache::near::Marker;
use crate::cache::refresh::Schedule;
use crate::cache::route::Route;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::Spec;
use crate::resp::number;
use crate::resp::write;
use crate::store::embedded::Embedded;
use crate::store::{StoreKey, Way};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of an MGET, no more keys are asked about: each costs the store a question.
const MOST_ASKED: usize = 128;
/// A key may vanish between its load and the question: so often it is made present anew.
const ATTEMPTS: usize = 4;

impl RoutedKeys<'_> {
    /// Whether the command tells how long a key lives whose grace is no part of that.
    pub(super) fn tells_life_without_grace(&self, spec: &Spec) -> bool {
        !self.first().route.grace().is_zero() && Unit::of(spec).is_some()
    }
}

impl Conn {
    /// What must be asked with a routed read, so that its values can be kept near and refreshed in time; `None`: nothing.
    pub(super) fn time(&self, spec: &Spec, args: Args<'_>, keys: &RoutedKeys<'_>) -> Option<Box<Timed>> {
        if self.is_private() || !spec.arity_ok(args.len()) {
            return None;
        }
        let (identity, sent) = (&self.way.identity, Instant::now());
        let shows = Shows::of(spec.name);
        // Users of the upstream have what GET or HGETALL has brought in, and not what MGET has.
        let near = self.worker.app.near.as_ref().filter(|_| match shows {
            None => false,
            Some(Shows::Strings) => identity.user.is_none(),
            Some(Shows::String | Shows::Hash) => true,
        });
        let ask = |position: usize, index: usize, route: &Route| {
            let near = near.filter(|_| route.has_near());
            let marker = near.and_then(|near| near.mark(key(identity, &args[position]), sent));
            asked(position, index, route, self.schedule(spec, route), marker)
        };
        let asked: Vec<Asked> = match shows {
            Some(Shows::Strings) => {
                let routed =
                    (1..args.len()).filter_map(|at| Some((at, self.worker.app.routes.find_indexed(&args[at])?)));
                routed.filter_map(|(at, (index, route))| ask(at, index, route)).take(MOST_ASKED).collect()
            }
            _ => {
                let mut positions = spec.key_positions(args);
                match (positions.next(), positions.next()) {
                    (Some(only), None) => ask(only, keys.first().index, keys.first().route).into_iter().collect(),
                    _ => Vec::new(),
                }
            }
        };
        (!asked.is_empty()).then(|| Box::new(Timed::new(shows, sent, asked)))
    }

    /// The same with a read of one key.
    pub(super) fn ask_behind(&self, shows: Option<Shows>, spec: &Spec, key: &RoutedKey<'_>) -> Option<Asked> {
        let near = self.worker.app.near.as_ref().filter(|_| shows.is_some() && key.route.has_near());
        let marker = near.and_then(|near| near.mark(key.near(&self.way.identity), self.now()));
        let schedule = self.schedule(spec, key.route);
        let lives = &self.worker.app.lives;
        let is_calm = |than| lives.has_more(key.hash, self.way.identity.db, than, lives.moment(self.now()));
        if marker.is_none() && remembers(&schedule).is_some_and(is_calm) {
            return None;
        }
        asked(1, key.index, key.route, schedule, marker)
    }

    /// When this reader refreshes or renews a value of the route.
    pub(super) fn schedule(&self, spec: &Spec, route: &Route) -> Schedule {
        let schedule = route.refreshing().map_or_else(Schedule::default, |load| self.worker.engine.schedule(load));
        let renewal = route.renewal();
        if renewal.is_zero() || Unit::of(spec).is_some() || spec.name == "object" {
            return schedule;
        }
        Schedule { renewal, ..schedule }
    }

    /// Begins what the reads that were answered since the last time have found due.
    pub(super) fn refresh_due(&self) {
        for read in self.replies.take_due() {
            let args = parse(&read.command);
            read.keys.iter().for_each(|due| self.refresh(due, args.as_args(), read.db));
        }
    }

    fn refresh(&self, due: &Due, args: Args<'_>, db: u32) {
        let (engine, route) = (&self.worker.engine, self.worker.app.routes.get(due.route));
        let Some(name) = args.get(due.position) else { return };
        let key = StoreKey { db, name: Bytes::copy_from_slice(name) };
        match due.action {
            Action::Renew => engine.renew_behind(route, key),
            Action::ReplaceStale | Action::RefreshEarly => {
                route.loading().into_iter().for_each(|route| engine.refresh_behind(route, key.clone(), due.left));
            }
        }
    }

    /// The same of a read that the embedded store has answered.
    pub(super) fn refresh_embedded(&self, embedded: &Embedded, args: Args<'_>, timed: &Timed) -> Vec<Due> {
        let context = self.way.context();
        let due = timed.keys().iter().filter_map(|asked| asked.due(embedded.left(context, &args[asked.position])?));
        due.inspect(|due| self.refresh(due, args, context.db)).collect()
    }

    /// Counts the keys of a read that has found all of them, some of them due.
    pub(super) fn count_timed(&self, keys: &RoutedKeys<'_>, due: &[Due]) {
        for key in keys.iter() {
            let lookups = &key.route.metrics.lookups;
            let stale = due.iter().any(|due| due.is_stale() && due.route == key.index);
            if stale { &lookups.stale_hit } else { &lookups.hit }.increment(1);
        }
    }

    /// TTL, PTTL, EXPIRETIME or PEXPIRETIME: it reads through, and leaves out the grace.
    pub(super) fn read_life(&mut self, spec: &Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let Some(unit) = Unit::of(spec) else { return };
        let route = keys.first().route.clone();
        let (command, way, worker) = (request.command().into_owned(), self.way.clone(), self.worker.clone());
        let slot = self.replies.open_slow(keys.hashes, self.command_index());
        self.replies.finish_with(slot, async move { life(&worker, &command, unit, &route, &way).await });
    }
}

/// With more than so much left of a key's life, heard lately, nothing needs to be asked. `None`: it is asked about in any case, or
/// never. Where reads are to renew values it always is: a life that somebody has shortened is renewed by the next of them.
pub(super) fn remembers(schedule: &Schedule) -> Option<Milliseconds> {
    schedule.calm_above().filter(|_| schedule.renewal.is_zero()).map(Milliseconds::at_least)
}

/// What is to be asked about a key at this place among a command's arguments; `None`: nothing.
#[inline]
pub(super) fn asked(
    position: usize,
    index: usize,
    route: &Route,
    schedule: Schedule,
    marker: Option<Marker>,
) -> Option<Asked> {
    let asks = marker.is_some() || schedule != Schedule::default();
    asks.then(|| Asked { position, marker, most: route.config.near, route: index, schedule })
}

/// What a command tells a key's life in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    /// Until when, and not how long.
    absolute: bool,
    seconds: bool,
}

impl Unit {
    fn of(spec: &Spec) -> Option<Unit> {
        match spec.name {
            "ttl" => Some(Unit { absolute: false, seconds: true }),
            "pttl" => Some(Unit { absolute: false, seconds: false }),
            "expiretime" => Some(Unit { absolute: true, seconds: true }),
            "pexpiretime" => Some(Unit { absolute: true, seconds: false }),
            _ => None,
        }
    }

    /// The command that tells it in milliseconds.
    fn exact(self) -> &'static [u8] {
        if self.absolute { b"PEXPIRETIME" } else { b"PTTL" }
    }

    /// What the client is told, rounded as Redis rounds.
    fn told(self, milliseconds: i64, grace: Duration) -> i64 {
        if milliseconds < 0 {
            return milliseconds;
        }
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let fresh = milliseconds.saturating_sub(grace).max(0);
        if self.seconds { fresh.saturating_add(500) / 1000 } else { fresh }
    }
}

async fn life(worker: &Worker, command: &[u8], unit: Unit, route: &Arc<Route>, way: &Way) -> Output {
    let args = parse(command);
    let args = args.as_args();
    let Some(name) = args.get(1).filter(|_| args.len() == 2) else { return run(args, way).await };
    let exact = OwnedArgs::from_iter([unit.exact(), name]);
    for attempt in 0..ATTEMPTS {
        let reply = match way.run(exact.as_args()).await {
            Ok(reply) => reply,
            Err(failure) => return error(&upstream_text(failure)),
        };
        let told = reply.strip_prefix(b":").and_then(|text| number::parse(text.trim_ascii_end()));
        match told {
            // A refusal is the server's own affair.
            None => return run(args, way).await,
            Some(-2) => {}
            Some(milliseconds) => {
                // Else the engine has counted it.
                if attempt == 0 {
                    route.metrics.lookups.hit.increment(1);
                }
                return integer(unit.told(milliseconds, route.grace()));
            }
        }
        let Some(route) = route.loading() else { break };
        let key = StoreKey { db: way.identity.db, name: Bytes::copy_from_slice(name) };
        match worker.engine.ensure_one(Wanted { route, key }).await {
            Ok(crate::cache::Found::Absent) => break,
            Ok(_) => {}
            Err(failure) => return error(&failure.to_string()),
        }
    }
    integer(-2)
}

async fn run(args: Args<'_>, way: &Way) -> Output {
    let mut output = Output::default();
    match way.run(args).await {
        Ok(reply) => output.extend(&reply),
        Err(failure) => return error(&upstream_text(failure)),
    }
    output
}

fn integer(number: i64) -> Output {
    let mut output = Output::default();
    output.write(|out| write::integer(out, number));
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fresh_part_is_told_and_never_less_than_nothing() {
        let grace = Duration::from_secs(10);
        let unit = |absolute, seconds| Unit { absolute, seconds };
        for (unit, milliseconds, expected) in [
            (unit(false, false), 15_000, 5_000),
            (unit(false, false), 10_000, 0),
            (unit(false, false), 3, 0),
            (unit(false, true), 15_499, 5),
            (unit(false, true), 15_500, 6),
            (unit(false, true), -1, -1),
            (unit(true, true), 1_700_000_010_000, 1_700_000_000),
        ] {
            assert_eq!(unit.told(milliseconds, grace), expected, "{unit:?} {milliseconds}");
        }
    }
}
