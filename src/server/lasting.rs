//! What a client's commands mean for how long a routed key's *tags* last, and for its *end*: what is seen to before the command
//! runs and again after it, by Weir's own user.
//!
//! - Whatever leaves a value at a key of a route with tags enters the key in the indexes of the tags that it tells: a proxy that
//!   dies then leaves no value without them, and an invalidation that comes between finds the key afterwards
//!   ([`crate::cache`], tags).
//! - What may prolong a value's life (EXPIRE and its kin, PERSIST, GETEX) prolongs the tags too that are noted beside it.
//! - What gives a value another name (RENAME, COPY, MOVE) gives that all its tags.
//! - On a `sliding` route, whoever says when a key is to end (EXPIRE and its kin, GETEX, SET … NX with a TTL) holds its end: until
//!   then no read renews it. The hold is of that value: whatever puts another in its place, or none, through Weir (SET, DEL, RENAME,
//!   a fill …) lets go of it first. This alone waits for nothing: it goes ahead of the command on the same link, where there is
//!   one. (To hold the very moment of the end, and look whether it is still the value's, would tell SET k v EX 3 from the EXPIRE k 3
//!   before it only by a millisecond's difference, and not always.)
//!
//! So these commands wait for some answers of the store's before and after. Not a SET, SETEX or PSETEX of a key that is only entered,
//! over a link that clients share: entering, dropping the lease and the command itself are one step there, and no invalidation comes
//! between ([`Way::run_entering`]). What MULTI queues is seen to around its EXEC, in every
//! database that it may meet. Not seen to: what a blocking command leaves at its destination, what a script does to keys
//! that it does not name, and commands that Weir does not know. Nor is it seen to that a hold is let go of by what may leave the
//! value as it is (SETNX, RENAMENX and MOVE, HDEL of the last field): it ends at the moment that was said.

use super::conn::{Conn, Request};
use super::keys::RoutedKeys;
use super::lifetime::{self, Leaves};
use super::replies::Read;
use super::routed;
use crate::cache::Engine;
use crate::cache::route::{Route, Routes};
use crate::clock::Clock;
use crate::resp::args::Args;
use crate::resp::command::{Access, Spec};
use crate::resp::number;
use crate::store::{Store, StoreError, StoreKey, Way};
use bytes::Bytes;
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::time::Duration;

/// So many keys are seen to at once.
const AT_ONCE: usize = 1000;

/// See the module's page. Of one command, or of all that a transaction has queued.
#[derive(Default)]
pub struct Lasting(Vec<Care>);

/// What is seen to for one key of a route.
struct Care {
    name: Bytes,
    route: Arc<Route>,
    /// What is noted beside it must last too.
    noted: bool,
    /// The command leaves a value that has the tags which the key tells, or lets it live longer.
    keeps: bool,
    /// For so long its end is held.
    holds: Option<Duration>,
    /// It is another value's end that may be held.
    lets_go: bool,
    /// Where its value goes.
    to: Option<To>,
}

/// Another place for a value.
struct To {
    /// `None`: in the same database.
    db: Option<u32>,
    name: Bytes,
    /// Its route, if that keeps notes.
    route: Option<Arc<Route>>,
}

/// The tags that each of the cares' values had before the command.
pub struct Tagged(Vec<Vec<Bytes>>);

impl Lasting {
    /// Of a well-formed command that leaves this at its keys.
    pub fn of(routes: &Routes, spec: &Spec, args: Args<'_>, leaves: Leaves) -> Self {
        let prolongs = prolongs(spec, args);
        let only_reads = matches!(spec.access_of(args), Access::None | Access::Read) && !prolongs;
        if only_reads {
            return Lasting::default();
        }
        let held = lifetime::held(spec, args);
        let care = |(index, position): (usize, usize)| {
            let name = args.get(position)?;
            let route = routes.find(name).filter(|route| route.keeps_notes())?;
            let to = if index == 0 { To::of(routes, spec, args) } else { None };
            let holds = held.filter(|_| route.config.sliding);
            let lets_go = route.config.sliding && lifetime::lets_go(spec, args, index);
            let noted = prolongs || to.is_some();
            let keeps = leaves.a_value() && (noted || holds.is_some() || route.tags.has_key_tags());
            let (name, route) = (Bytes::copy_from_slice(name), route.clone());
            (keeps || lets_go).then(|| Care { name, route, noted, keeps, holds, lets_go, to })
        };
        Lasting(spec.key_positions(args).enumerate().filter_map(care).collect())
    }

    /// Whether there is nothing to see to.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is something that its client must wait for.
    pub fn waits(&self) -> bool {
        self.0.iter().any(|care| care.keeps)
    }

    /// The one key that there is to see to, if all of that is to enter it in the indexes of the tags that it tells: a store may do
    /// that and the command in one step, and then neither [`Lasting::begin`] nor [`Lasting::end`] is needed.
    pub fn only_enters(&self) -> Option<(&[u8], &Route)> {
        match &self.0[..] {
            [Care { name, route, noted: false, keeps: true, holds: None, lets_go: false, to: None }] => {
                Some((name, route))
            }
            _ => None,
        }
    }

    /// In place of [`Lasting::begin`] and [`Lasting::end`], where nothing [`waits`](Lasting::waits): ahead of the command, which is sent
    /// next on this way.
    pub fn send_ahead(&self, way: &Way) {
        self.0.iter().filter(|care| care.lets_go).for_each(|care| way.let_go_of_end(&care.name));
    }

    /// What is to be seen to for both, of which the other runs later.
    pub fn join(&mut self, other: Lasting) {
        for later in other.0.iter().filter(|care| care.lets_go) {
            self.0.iter_mut().filter(|care| care.name == later.name).for_each(|care| care.holds = None);
        }
        self.0.extend(other.0);
    }

    /// Before the command runs in `db`.
    ///
    /// # Errors
    /// The store did not do it: then the command must not run.
    pub async fn begin<S, C>(&self, engine: &Engine<S, C>, db: u32) -> Result<Tagged, StoreError>
    where
        S: Store + Clone + 'static,
        C: Clock + Clone + 'static,
    {
        let mut tagged = Vec::with_capacity(self.0.len());
        let letting_go: Vec<&Care> = self.0.iter().filter(|care| care.lets_go).collect();
        for cares in letting_go.chunks(AT_ONCE) {
            try_join_all(cares.iter().map(|care| care.let_go(engine, db))).await?;
        }
        for cares in self.0.chunks(AT_ONCE) {
            let begun = cares.iter().map(|care| async move {
                let tags = care.see_to(engine, db).await?;
                care.carry(engine, db, &tags).await?;
                Ok(tags)
            });
            tagged.extend(try_join_all(begun).await?);
        }
        Ok(Tagged(tagged))
    }

    /// After it has run there.
    ///
    /// # Errors
    /// The store did not do it: then nobody may be told that the command is done.
    pub async fn end<S, C>(&self, engine: &Engine<S, C>, db: u32, tagged: &Tagged) -> Result<(), StoreError>
    where
        S: Store + Clone + 'static,
        C: Clock + Clone + 'static,
    {
        for (cares, tagged) in self.0.chunks(AT_ONCE).zip(tagged.0.chunks(AT_ONCE)) {
            let ended = cares.iter().zip(tagged).map(|(care, tags)| async move {
                care.see_to(engine, db).await?;
                care.carry(engine, db, tags).await
            });
            try_join_all(ended).await?;
        }
        Ok(())
    }
}

impl Care {
    /// Nobody holds the end of what stands there any more.
    async fn let_go<S, C>(&self, engine: &Engine<S, C>, db: u32) -> Result<(), StoreError>
    where
        S: Store + Clone + 'static,
        C: Clock + Clone + 'static,
    {
        engine.store().hold_end(&StoreKey { db, name: self.name.clone() }, Duration::ZERO).await
    }

    /// Answers the tags of its value, if they are to go elsewhere too.
    async fn see_to<S, C>(&self, engine: &Engine<S, C>, db: u32) -> Result<Vec<Bytes>, StoreError>
    where
        S: Store + Clone + 'static,
        C: Clock + Clone + 'static,
    {
        if !self.keeps {
            return Ok(Vec::new());
        }
        let key = StoreKey { db, name: self.name.clone() };
        if let Some(time) = self.holds {
            engine.store().hold_end(&key, time).await?;
        }
        if !self.noted {
            return engine.enter(&self.route, &key, &[]).await.map(|()| Vec::new());
        }
        let mut tags = engine.keep_tags(&self.route, &key, &[]).await?;
        tags.extend(self.route.tags_of_key(&self.name));
        Ok(tags)
    }

    /// Whoever has its value by another name has its tags.
    async fn carry<S, C>(&self, engine: &Engine<S, C>, db: u32, tags: &[Bytes]) -> Result<(), StoreError>
    where
        S: Store + Clone + 'static,
        C: Clock + Clone + 'static,
    {
        let Some(To { db: to, name, route }) = &self.to else { return Ok(()) };
        let key = StoreKey { db: to.unwrap_or(db), name: name.clone() };
        match route {
            Some(route) => engine.keep_tags(route, &key, tags).await.map(drop),
            None => {
                let tags: Vec<&[u8]> = tags.iter().map(|tag| &tag[..]).collect();
                engine.add_tags(&key, &tags, self.route.longest_life()).await
            }
        }
    }
}

impl To {
    fn of(routes: &Routes, spec: &Spec, args: Args<'_>) -> Option<To> {
        let number = |at: usize| args.get(at).and_then(number::parse).and_then(|number| u32::try_from(number).ok());
        let (db, name) = match spec.name {
            "rename" | "renamenx" => (None, args.get(2)?),
            "copy" => {
                let option = (3..args.len()).find(|&at| args[at].eq_ignore_ascii_case(b"DB"));
                (option.and_then(|at| number(at + 1)), args.get(2)?)
            }
            "move" => (Some(number(2)?), args.get(1)?),
            _ => return None,
        };
        let route = routes.find(name).filter(|route| route.keeps_notes()).cloned();
        Some(To { db, name: Bytes::copy_from_slice(name), route })
    }
}

/// Whether a command may let a value live longer that it leaves as it is.
pub fn prolongs(spec: &Spec, args: Args<'_>) -> bool {
    match spec.name {
        "expire" | "pexpire" | "expireat" | "pexpireat" | "persist" => true,
        "getex" => args.len() > 2,
        _ => false,
    }
}

impl Conn {
    /// Whether a routed read may let its key live longer, and something is to be seen to for that. Where nothing is loaded, at
    /// least that it lives no longer than its route allows.
    pub(super) fn prolongs(&self, spec: &Spec, request: Request<'_>, keys: &RoutedKeys<'_>) -> bool {
        prolongs(spec, request.args) && (keys.first().route.keeps_notes() || !self.loads())
    }

    /// Such a read, in its turn.
    pub(super) fn read_prolonging(&mut self, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let (route, loads) = (keys.first(), self.loads());
        let read = Read {
            command: request.command().into_owned(),
            keys: keys.hashes.clone(),
            route: route.index,
            other_routes: Box::default(),
            all_keys: 1,
            way: self.way().clone(),
            seen: self.is_private(),
            opts_in: self.opts_in(),
            timed: None,
            drawn: None,
            patience: self.patience(route.route),
        };
        let slot = self.replies.open_slow(keys.hashes, self.command_index());
        let worker = self.worker.clone();
        self.replies.finish_with(slot, async move { routed::prolonging_read(&worker, read, loads).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Config};
    use crate::resp::args::OwnedArgs;
    use crate::resp::command::lookup;
    use std::path::Path;

    fn routes() -> Routes {
        let toml = "[[route]]\nkey = \"page:{id}\"\ntags = [\"page-{id}\"]\n\
                    [[route]]\nkey = \"session:{id}\"\nsliding = true\n\
                    [[route]]\nkey = \"plain:{id}\"\n";
        let config: Config = config::parse(toml, Path::new("weir.toml"), |_| None).expect("a valid file");
        Routes::new(config.routes.into_iter().map(|route| Arc::new(Route::of_clients(route))).collect())
    }

    /// What is seen to, of each key.
    fn seen_to(line: &str) -> String {
        let args: OwnedArgs = line.split(' ').collect();
        let args = args.as_args();
        let spec = lookup(&args[0]).expect("a command");
        let shown = |care: &Care| {
            let mut text = String::from_utf8_lossy(&care.name).into_owned();
            text += if care.noted { " noted" } else { "" };
            text += if care.keeps { "" } else { " nothing" };
            text += if care.lets_go { " let go of" } else { "" };
            text += &care.holds.map(|time| format!(" held for {time:?}")).unwrap_or_default();
            let to = |to: &To| format!(" to {} in {:?}", String::from_utf8_lossy(&to.name), to.db);
            text + &care.to.as_ref().map(to).unwrap_or_default()
        };
        let all = Lasting::of(&routes(), spec, args, Leaves::of(spec, args));
        all.0.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_leaves_or_prolongs_a_value_keeps_its_tags() {
        for (line, expected) in [
            ("SET page:1 v", "page:1"),
            ("MSET page:1 v plain:1 v page:2 v", "page:1, page:2"),
            ("DEL page:1", ""),
            ("GET page:1", ""),
            ("SET plain:1 v", ""),
            ("EXPIRE plain:1 5", ""),
            ("EXPIRE page:1 5", "page:1 noted"),
            ("PERSIST page:1", "page:1 noted"),
            ("GETEX page:1 PERSIST", "page:1 noted"),
            ("GETEX page:1", ""),
            ("PERSIST session:1", "session:1 noted let go of"),
        ] {
            assert_eq!(seen_to(line), expected, "{line}");
        }
    }

    #[test]
    fn who_says_when_a_key_of_a_sliding_route_is_to_end_holds_its_end() {
        for (line, expected) in [
            ("EXPIRE session:1 5", "session:1 noted held for 5s"),
            ("PEXPIRE session:1 5 GT", "session:1 noted held for 5ms"),
            ("GETEX session:1 PX 7", "session:1 noted held for 7ms"),
            ("SET session:1 v NX PX 30", "session:1 held for 30ms"),
            ("SET session:1 v NX", ""),
            ("INCR session:1", ""),
        ] {
            assert_eq!(seen_to(line), expected, "{line}");
        }
    }

    #[test]
    fn what_leaves_another_value_or_none_lets_go_of_its_end_and_waits_for_nothing() {
        for line in [
            "SET session:1 v",
            "SET session:1 v XX EX 5",
            "SETEX session:1 5 v",
            "GETSET session:1 v",
            "MSET session:1 v plain:1 v page:1 v",
            "DEL plain:1 session:1",
            "UNLINK session:1",
            "GETDEL session:1",
            "COPY plain:1 session:1 REPLACE",
            "SUNIONSTORE session:1 plain:1 session:2",
        ] {
            assert!(seen_to(line).contains("session:1 nothing let go of"), "{line}: {}", seen_to(line));
        }
        for line in ["SET session:1 v KEEPTTL", "SETNX session:1 v", "HSET session:1 f v", "COPY plain:1 session:1"] {
            assert_eq!(seen_to(line), "", "{line}");
        }
        assert_eq!(
            seen_to("RENAME session:1 session:2"),
            "session:1 noted let go of to session:2 in None, session:2 nothing let go of"
        );
    }

    #[test]
    fn of_a_transaction_only_the_last_value_s_end_is_held() {
        let all = |lines: &[&str]| {
            let mut all = Lasting::default();
            for line in lines {
                let args: OwnedArgs = line.split(' ').collect();
                let spec = lookup(&args.as_args()[0]).expect("a command");
                all.join(Lasting::of(&routes(), spec, args.as_args(), Leaves::of(spec, args.as_args())));
            }
            all.0.iter().filter(|care| care.holds.is_some()).count()
        };
        assert_eq!(all(&["EXPIRE session:1 5", "EXPIRE session:2 5", "SET session:1 v"]), 1);
        assert_eq!(all(&["SET session:1 v", "EXPIRE session:1 5"]), 1);
    }

    #[test]
    fn a_value_takes_its_tags_along() {
        for (line, expected) in [
            ("RENAME page:1 other", "page:1 noted to other in None"),
            ("RENAMENX page:1 page:2", "page:1 noted to page:2 in None, page:2"),
            ("COPY page:1 copy DB 3 REPLACE", "page:1 noted to copy in Some(3)"),
            ("MOVE page:1 4", "page:1 noted to page:1 in Some(4)"),
            ("RENAME other plain:1", ""),
            ("RENAME other page:1", "page:1"),
        ] {
            assert_eq!(seen_to(line), expected, "{line}");
        }
    }
}
