//! What clients do, and how the server serves them: with the steps of the engine and of the near cache in the order in which
//! the server takes them.

use crate::history::{From, Invalidation};
use crate::process::{CATCH_UP, Process, SimEngine};
use crate::store::Bug;
use crate::universe::{CATEGORIES, KEYS, Kind, World};
use bytes::Bytes;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use weir::cache::error::{self, LoadError};
use weir::cache::gate::Reason;
use weir::cache::near::{Bar, Key, Marker};
use weir::cache::{Found, Wanted};
use weir::store::{StoreError, StoreKey};
use weir::value::Value;

/// One client of one worker.
pub struct Client {
    pub world: World,
    pub process: Rc<Process>,
    pub engine: SimEngine,
}

/// What a client is answered, and whence.
type Answer = (Option<String>, From);

impl Client {
    /// Some commands, each after the answer to the one before.
    pub async fn live(self) {
        let kind = self.world.kind;
        let has_near = self.process.near.is_some();
        let commands = match kind {
            kind if kind.is_calm() => 1,
            kind if kind.is_long() => 60,
            _ if has_near => 12,
            _ => 6,
        };
        for _ in 0..commands {
            let pause = match kind {
                kind if kind.is_long() => 200,
                // What is near is so for less time than what is not.
                Kind::Stormy if has_near => 30,
                Kind::Stormy => 120,
                Kind::Calm | Kind::Unheard => 10,
                Kind::Sliding | Kind::Without(_) => 60,
            };
            self.world.chance.pause(pause).await;
            let number = self.world.chance.below(if matches!(kind, Kind::Without(_)) { 1 } else { KEYS });
            let key = StoreKey { db: 0, name: format!("row:{number}").into() };
            // What is near must be read again to matter.
            match self.world.chance.below(if has_near { 25 } else { 11 }) {
                _ if kind.is_calm() => self.get(number, &key).await,
                _ if kind.is_long() => match self.world.chance.below(60) {
                    0 => self.change_and_move(number).await,
                    1 => self.change_all().await,
                    _ => self.get(number, &key).await,
                },
                0 => self.change(number, &key).await,
                1 => self.change_and_move(number).await,
                2 => self.change_all().await,
                3 => self.change_and_refresh(number, &key).await,
                4 => self.set(number, &key).await,
                5 => self.get_together().await,
                _ => self.get(number, &key).await,
            }
        }
    }

    /// At the near cache first; then at the store; the engine if there is nothing; at the store again if it says so; and the
    /// database alone where the store cannot be asked.
    async fn get(&self, number: u64, key: &StoreKey) {
        let name = number.to_string();
        let begun = self.world.history.borrow_mut().reading(&name, self.process.number);
        let asked = Instant::now();
        let answer = self.look_up(key).await;
        let mut history = self.world.history.borrow_mut();
        history.longest = history.longest.max(asked.elapsed());
        match answer {
            Ok((answer, from)) => history.read(&name, &begun, answer.as_deref(), from),
            Err(error) if self.world.kind.is_calm() => {
                history.violations.push(format!("GET {name} was not answered: {error}"));
            }
            Err(_) => {}
        }
    }

    /// Several keys by one command, those that are missing by one call of the engine.
    async fn get_together(&self) {
        let numbers: Vec<u64> = (0..KEYS).filter(|_| !self.world.chance.one_in(4)).collect();
        let begin = |number: &u64| self.world.history.borrow_mut().reading(&number.to_string(), self.process.number);
        let begun: Vec<_> = numbers.iter().map(begin).collect();
        let keys = numbers.iter().map(|number| StoreKey { db: 0, name: format!("row:{number}").into() }).collect();
        let answers = self.look_up_together(keys).await;
        for ((number, begun), answer) in numbers.iter().zip(&begun).zip(answers) {
            if let Ok((answer, from)) = answer {
                self.world.history.borrow_mut().read(&number.to_string(), begun, answer.as_deref(), from);
            }
        }
    }

    async fn look_up_together(&self, keys: Vec<StoreKey>) -> Vec<Result<Answer, StoreError>> {
        let mut answers: Vec<Result<Answer, StoreError>> = Vec::new();
        let mut wanted = Vec::new();
        for key in keys {
            answers.push(self.ask(&key, false).await.map(|value| (value, From::Elsewhere)));
            if let Some(Ok((None, _))) = answers.last() {
                wanted.push((answers.len() - 1, Wanted { route: self.process.route.clone(), key }));
            }
        }
        let (places, wanted): (Vec<usize>, Vec<Wanted>) = wanted.into_iter().unzip();
        let found = self.engine.ensure(&wanted).await;
        for ((place, wanted), found) in places.into_iter().zip(wanted).zip(found) {
            self.note_database(&found);
            answers[place] = match found {
                Ok(Found::Absent) => Ok((None, From::Elsewhere)),
                Ok(Found::Loaded { value, .. }) => Ok((Some(text(&value)), From::Elsewhere)),
                Ok(Found::Present) => self.look_up(&wanted.key).await,
                Err(_) => Err(StoreError::Timeout),
            };
        }
        answers
    }

    async fn look_up(&self, key: &StoreKey) -> Result<Answer, StoreError> {
        let route = &self.process.route;
        let may_be_near = !self.engine.is_in_doubt(route.route(), key);
        if may_be_near && let Some(value) = self.look_near(key) {
            return Ok((Some(value), From::Near));
        }
        for attempt in 0..4 {
            let wanted = Wanted { route: route.clone(), key: key.clone() };
            let found = match self.ask(key, attempt == 0).await {
                Ok(Some(value)) => return Ok((Some(value), From::Elsewhere)),
                Ok(None) => self.engine.ensure_one(wanted.clone()).await,
                Err(failure) => Err(LoadError { route: "row".into(), kind: error::Kind::Store(failure) }),
            };
            let found = match found {
                Err(LoadError { kind: error::Kind::Store(failure), .. }) if failure.is_outage() => {
                    self.load_unstored(wanted).await
                }
                found => found,
            };
            self.note_database(&found);
            match found.map_err(|_| StoreError::Timeout)? {
                Found::Absent => return Ok((None, From::Elsewhere)),
                Found::Present => {}
                Found::Loaded { value, .. } => return Ok((Some(text(&value)), From::Elsewhere)),
            }
        }
        Err(StoreError::Timeout)
    }

    fn look_near(&self, key: &StoreKey) -> Option<String> {
        let (near, _) = self.process.near.as_ref()?;
        let now = near.moment(Instant::now().into_std());
        near.look(near_key(key), now, |value| text(&value.to_value()))
    }

    /// At the store. What it answers to the client's own read is kept near, if nothing has changed since that was sent.
    async fn ask(&self, key: &StoreKey, is_own: bool) -> Result<Option<String>, StoreError> {
        let route = &self.process.route;
        if self.engine.is_in_doubt(route.route(), key) {
            return Err(StoreError::InDoubt);
        }
        let sent = Instant::now().into_std();
        let near = self.process.near.as_ref().filter(|_| is_own);
        let mark = || near.and_then(|(near, _)| near.mark(near_key(key), sent));
        let marks_late = self.world.kind == Kind::Without(Bug::Marker);
        let marker = if marks_late { None } else { mark() };
        let Some((value, left)) = self.engine.store().get(key).await? else { return Ok(None) };
        let marker = if marks_late { mark() } else { marker };
        let (stale, renewal) = (route.grace(), route.renewal());
        if left <= self.engine.schedule(&route.load).due {
            self.engine.refresh_behind(route.clone(), key.clone(), left);
        } else if left <= renewal {
            self.engine.renew_behind(route.route(), key.clone());
        }
        let until = if left > renewal { renewal.max(stale) } else { stale };
        let kept = left.saturating_sub(until).min(route.config.near);
        if let Some(marker) = marker.filter(|_| !kept.is_zero()) {
            marker.keep(Value::String(Bytes::from(value.clone())), sent + kept);
        }
        Ok(Some(value))
    }

    /// What the database answers is kept near while no pushes arrive.
    async fn load_unstored(&self, wanted: Wanted) -> Result<Found, LoadError> {
        self.world.history.borrow_mut().unstored += 1;
        let begun = Instant::now().into_std();
        let marker: Option<Marker> =
            self.process.near.as_ref().and_then(|(near, _)| near.mark_unheard(near_key(&wanted.key), begun));
        let until = begun + wanted.route.config.near;
        let found = self.engine.load_unstored(&[wanted]).await.pop().expect("one answer for one key");
        if let (Ok(Found::Loaded { value, .. }), Some(marker)) = (&found, marker) {
            marker.keep(Value::clone(value), until);
            self.world.history.borrow_mut().kept_unheard += 1;
        }
        found
    }

    fn note_database(&self, found: &Result<Found, LoadError>) {
        let is_down = self.process.route.load.gate.is_down();
        let was_down = self.process.down.replace(is_down);
        let mut history = self.world.history.borrow_mut();
        history.asked_again += u64::from(was_down && !is_down);
        if let Err(LoadError { kind: error::Kind::NotBegun(refusal), .. }) = found {
            match refusal.reason {
                Reason::Down => history.not_asked += 1,
                Reason::Full(_) | Reason::Late(..) | Reason::Busy => history.shed += 1,
            }
        }
    }

    /// An application's write: commit, then DEL.
    async fn change(&self, number: u64, key: &StoreKey) {
        let name = self.commit(number, self.world.category(number)).0;
        let invalidation = self.world.history.borrow_mut().invalidating(&name);
        let _barred = self.bar(key);
        let done = self.engine.store().del(key).await.is_ok();
        if !done {
            self.remember(|| self.engine.doubts().add_key(&self.process.route, key.clone()));
        }
        self.answered(done, &name, invalidation);
    }

    /// An application's write: commit, then WEIR REFRESH.
    async fn change_and_refresh(&self, number: u64, key: &StoreKey) {
        let name = self.commit(number, self.world.category(number)).0;
        let invalidation = self.world.history.borrow_mut().invalidating(&name);
        let _barred = self.bar(key);
        if self.engine.refresh_now(&Wanted { route: self.process.route.clone(), key: key.clone() }).await.is_ok() {
            self.answered(true, &name, invalidation);
        }
    }

    /// An application that moves a row to another category, perhaps, and invalidates both by their tags.
    async fn change_and_move(&self, number: u64) {
        let mut owed = self.world.writers[number as usize].lock().await;
        let category = self.world.chance.below(CATEGORIES);
        let (name, before) = self.commit(number, category);
        owed.insert(before);
        let invalidation = self.world.history.borrow_mut().invalidating_rows(&name);
        let tags: Vec<String> = owed.iter().chain([&category]).map(|category| format!("category:{category}")).collect();
        let done = self.invalidate(&tags.iter().map(String::as_str).collect::<Vec<_>>()).await;
        self.answered(done, &name, invalidation);
        if done {
            owed.clear();
        }
    }

    /// An application that changes every row, and invalidates them by one tag.
    async fn change_all(&self) {
        let mut promised = Vec::new();
        for number in 0..KEYS {
            let name = self.commit(number, self.world.category(number)).0;
            let invalidation = self.world.history.borrow_mut().invalidating(&name);
            promised.push((name, invalidation));
        }
        let done = self.invalidate(&["rows"]).await;
        promised.into_iter().for_each(|(name, promise)| self.answered(done, &name, promise));
    }

    /// WEIR INVALIDATE. False if nobody knows whether it was done.
    async fn invalidate(&self, tags: &[&str]) -> bool {
        self.world.history.borrow_mut().tags += 1;
        let tags: Vec<&[u8]> = tags.iter().map(|tag| tag.as_bytes()).collect();
        let tags = self.process.routes.with_absences(&tags);
        let done = self.engine.invalidate_tags(0, &tags).await.is_ok();
        match &self.process.near {
            Some((_, ear)) if done => ear.catch_up(CATCH_UP).await,
            Some((near, _)) => near.forget_all(),
            None => {}
        }
        if !done {
            let routes = self.process.routes.iter().map(|route| &**route);
            self.remember(|| self.engine.doubts().add_tags(0, &tags, routes));
        }
        done
    }

    /// An application that stores a value of its own.
    async fn set(&self, number: u64, key: &StoreKey) {
        let (name, ttl) = (number.to_string(), Duration::from_millis(60));
        let _barred = self.bar(key);
        if !self.engine.trusted(&self.process.route, key, Duration::from_millis(50)).await {
            return;
        }
        if self.engine.add_tags(key, &[b"rows"], ttl * 4).await.is_err() {
            return;
        }
        let set = self.world.history.borrow_mut().next_set();
        let invalidation = self.world.history.borrow_mut().invalidating(&name);
        let stored = self.engine.store().set(key, format!("set:{set}"), ttl).await.is_ok();
        if !stored {
            self.remember(|| self.engine.doubts().add_key(&self.process.route, key.clone()));
        }
        if stored && self.engine.add_tags(key, &[b"rows"], ttl * 4).await.is_ok() {
            self.world.history.borrow_mut().set(&name, set);
            self.answered(true, &name, invalidation);
        }
    }

    /// A key is being changed until this is dropped, which is after whatever the change leaves behind is known.
    fn bar(&self, key: &StoreKey) -> Option<Bar> {
        self.process.near.as_ref().map(|(near, _)| near.bar([&key.name[..]]))
    }

    /// The database commits a new version of a row, or its absence. Answers the row's name, and the category that it had before.
    fn commit(&self, number: u64, category: u64) -> (String, u64) {
        let before = self.world.commit(number, !self.world.chance.one_in(3), category);
        (number.to_string(), before)
    }

    /// The client is told whether its change was made.
    fn answered(&self, done: bool, name: &str, invalidation: Invalidation) {
        let told = self.process.near.as_ref().map(|_| self.world.table.borrow().pushes.borrow().now());
        let mut history = self.world.history.borrow_mut();
        match done {
            true => history.invalidated(name, self.process.number, invalidation, &told.unwrap_or_default()),
            false => history.missed(name, self.process.number, invalidation),
        }
    }

    /// The process remembers what the store has perhaps missed.
    fn remember(&self, remember: impl FnOnce()) {
        self.world.history.borrow_mut().failed_changes += 1;
        if self.world.kind != Kind::Without(Bug::Missed) {
            remember();
        }
    }
}

fn near_key(key: &StoreKey) -> Key<'_> {
    Key::new(key.db, None, &key.name)
}

fn text(value: &Value) -> String {
    let Value::String(bytes) = value else { unreachable!("the simulated rows are strings") };
    String::from_utf8_lossy(bytes).into_owned()
}
