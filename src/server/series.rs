//! GETs that follow each other: answered in this process, by the near cache or by the embedded store, or sent on in one run.
//!
//! What every command costs by itself (who may do it, what is open before it, whether there is room) is paid once for all of them,
//! and what their look-ups read comes from memory together. Each is answered as it would be alone; the first that must go
//! another way ends the series.

use super::conn::Conn;
use super::freshness::{asked, remembers};
use super::gets::{Get, Gets, MOST};
use super::lives::Milliseconds;
use super::near::show;
use super::reads::Routed;
use super::timed::Shows;
use crate::cache::near::Near;
use crate::cache::refresh::Schedule;
use crate::cache::route::{Kept, Route};
use crate::resp::command::{Spec, lookup_indexed};
use crate::resp::scan::Series;
use crate::store::Backend;
use crate::store::embedded::Embedded;
use crate::store::redis::cluster::lane::Target;

/// Bytes of answers after which it is looked whether there is room for more.
const MOST_BYTES: usize = 64 << 10;

/// How far a series was acted on.
pub struct Done {
    /// Where the first command begins that is not.
    pub end: usize,
    /// There may be more of it.
    pub goes_on: bool,
}

impl Done {
    /// So many of these, which began at `start`.
    fn new(gets: &[Get<'_>], start: usize, count: usize) -> Self {
        Done { end: gets[..count].last().map_or(start, |get| get.end), goes_on: count == MOST }
    }
}

/// The schedule of the last route: most of a series read keys of one, and mostly it is the same for all who read.
#[derive(Default)]
struct Schedules {
    last: Option<usize>,
    schedule: Schedule,
    remembers: Option<Milliseconds>,
}

impl Schedules {
    /// That of this route; and above what, heard lately, nothing is asked.
    #[inline]
    fn of(
        &mut self,
        index: usize,
        route: &Route,
        make: impl FnOnce() -> Schedule,
    ) -> (&Schedule, Option<Milliseconds>) {
        if self.last != Some(index) {
            self.schedule = make();
            self.remembers = remembers(&self.schedule);
            self.last = (!route.refreshes_early()).then_some(index);
        }
        (&self.schedule, self.remembers)
    }
}

impl Conn {
    /// Acts on the GETs that begin at `start`, as far as they go one of these ways.
    #[inline]
    pub fn act_on_series(&mut self, bytes: &[u8], start: usize) -> Done {
        let nothing = Done { end: start, goes_on: false };
        if !self.is_plain() || self.errand_is_open() || self.replies.any_slow() {
            return nothing;
        }
        let Some(series) = Series::new(bytes, start, &self.scan_limits()) else { return nothing };
        let known = lookup_indexed(series.name());
        let Some((command, spec)) = known.filter(|(_, spec)| Shows::of(spec.name) == Some(Shows::String)) else {
            return nothing;
        };
        let worker = self.worker.clone();
        let is_first = self.gathered() == 0 && !self.replies.any_open();
        let Some((key, end)) = series.clone().next() else { return nothing };
        let (routes, is_alone) = (&worker.app.routes, end == bytes.len());
        if let Backend::Embedded(embedded) = &worker.backend {
            return match routes.find(key) {
                None if is_first && is_alone => {
                    self.answer_embedded(embedded, &[Get::new(key, end, 0)], start, command)
                }
                None if is_first => {
                    let gets = Gets::new(series, |key| routes.find(key).is_none().then_some(0));
                    self.answer_embedded(embedded, gets.all(), start, command)
                }
                _ => nothing,
            };
        }
        match (routes.find_indexed(key), &worker.app.near) {
            (None, _) => self.pass_on(series, bytes, start, command),
            (Some(_), _) if worker.engine.has_doubts() => nothing,
            (Some((index, route)), Some(near)) if is_first && is_alone && route.kept() == Some(Kept::Near) => {
                self.answer_near(near, &[Get::new(key, end, index)], start, command)
            }
            (Some((_, route)), Some(near)) if is_first && route.has_near() => {
                let gets = Gets::new(series, |key| routes.find_kept(Kept::Near, key));
                self.answer_near(near, gets.all(), start, command)
            }
            (Some(_), _) => self.send_behind(series, bytes, start, (command, spec)),
        }
    }

    /// To the store as they are, as far as there is room, and no route matches.
    fn pass_on(&mut self, series: Series<'_>, bytes: &[u8], start: usize, command: u16) -> Done {
        self.send_reads();
        if !self.batch().run.goes_on(start, &Target::default()) {
            self.send_plain(bytes);
            self.batch().run.begin(start);
        }
        let worker = self.worker.clone();
        let room = self.replies.room(self.gathered()).min(MOST);
        let run = &mut self.batch().run;
        let (mut end, mut count) = (start, 0);
        for (name, next) in series.take(room) {
            // Of the first one it is known.
            if count > 0 && worker.app.routes.find(name).is_some() {
                break;
            }
            run.push(command, next, false);
            (end, count) = (next, count + 1);
        }
        self.set_command(command);
        Done { end, goes_on: count == MOST }
    }

    /// To the store, each with its question behind it: as far as there is room, and routes match that keep nothing near.
    fn send_behind(
        &mut self,
        series: Series<'_>,
        bytes: &[u8],
        start: usize,
        (command, spec): (u16, &'static Spec),
    ) -> Done {
        let worker = self.worker.clone();
        let gets = Gets::new(series.take(self.replies.room(self.gathered())), |key| {
            worker.app.routes.find_kept(Kept::Store, key)
        });
        if gets.len() == 0 {
            return Done::new(gets.all(), start, 0);
        }
        // What has gathered before these is of another kind.
        self.send_plain(bytes);
        self.set_command(command);
        let (lives, db) = (&worker.app.lives, self.way.identity.db);
        let now = lives.moment(self.now());
        lives.warm(gets.hashes(), db);
        let (mut schedules, mut reads) = (Schedules::default(), std::mem::take(&mut self.batch().reads));
        reads.reserve(gets.len());
        let (mut at, mut copied) = (start, start);
        for get in gets.all() {
            let route = worker.app.routes.get(get.route);
            let (drawn, shows) = (worker.engine.draws(route.checks.hits), Some(Shows::String));
            let read = Routed { key: get.hash, route: get.route, command, drawn, shows };
            reads.push(at - copied..get.end - copied, read);
            at = get.end;
            let (schedule, remembers) = schedules.of(get.route, route, || self.schedule(spec, route));
            if !remembers.is_some_and(|than| lives.has_more(get.hash, db, than, now)) {
                reads.copy(&bytes[copied..at]);
                copied = at;
                asked(1, get.route, route, *schedule, None).into_iter().for_each(|asked| reads.ask(get.key, asked));
            }
        }
        reads.copy(&bytes[copied..at]);
        self.batch().reads = reads;
        Done::new(gets.all(), start, gets.len())
    }

    /// From the near cache.
    fn answer_near(&mut self, near: &Near, gets: &[Get<'_>], start: usize, command: u16) -> Done {
        let (now, who) = (self.moment(near), &self.way.identity);
        let count = self.replies.now(|out| {
            let begin = out.len();
            near.look_each(gets.iter().map(|get| get.near(who)), now, |value| {
                out.len() - begin <= MOST_BYTES && show(Some(Shows::String), value, who.protocol, out)
            })
        });
        for get in &gets[..count] {
            self.batch().near_hits.add_one(get.route);
            self.draw_near_key(get.route, get.key);
        }
        self.note_answered(command, count, 0);
        Done::new(gets, start, count)
    }

    /// From the embedded store.
    fn answer_embedded(&mut self, embedded: &Embedded, gets: &[Get<'_>], start: usize, command: u16) -> Done {
        let context = self.way.context();
        embedded.warm(context, gets.iter().map(|get| get.hash));
        let keys = gets.iter().map(|get| (get.key, get.hash));
        let answers = self.replies.now(|out| embedded.get_each(context, keys, MOST_BYTES, out));
        self.batch().embedded.0 += answers.count;
        self.note_answered(command, answers.count, answers.errors);
        Done::new(gets, start, answers.count)
    }

    /// Counts commands that were answered together.
    fn note_answered(&mut self, command: u16, count: usize, errors: usize) {
        self.worker.counts.count_all(command, false, count - errors);
        self.worker.counts.count_all(command, true, errors);
        if count > 0 {
            self.set_command(command);
        }
    }
}
