//! Commands on data, as their keys have routes:
//! - a read goes to the store, and comes back to the engine only if its reply could be an absent key's; reads of one key each that
//!   follow each other make a run of their own ([`super::reads`]);
//! - a write first drops the key's lease (the fence), and says no longer TTL than the route's ([`super::lifetime`]); of a key
//!   that applications fill themselves the lease goes afterwards ([`super::aside`]);
//! - a command that needs the old value makes the key present first.

use super::as_user::Verdict;
use super::conn::{Conn, Flow, Request};
use super::keys::{KeyHashes, RoutedKey, RoutedKeys};
use super::lasting::Lasting;
use super::lifetime::{self, Bounds, Leaves};
use super::missed;
use super::replies::{Missed, Read};
use super::routed::{self, Modify};
use super::sampling::DrawnKeys;
use crate::cache::consistency::Source;
use crate::cache::route::{Fence, Route};
use crate::config::OnModify;
use crate::resp::args::{Args, OwnedArgs};
use crate::resp::command::{Access, Flags, Spec};
use crate::resp::scan::may_be_absent_among;
use crate::store::Backend;
use std::sync::Arc;

impl Conn {
    /// A command on data.
    pub(super) fn data(&mut self, spec: &'static Spec, request: Request<'_>) -> Flow {
        let app = &self.worker.app;
        if app.routes.is_empty() && self.way.lane().is_none() && !app.has_own_keys() {
            return self.forward(request);
        }
        let access = spec.access_of(request.args);
        if access == Access::None {
            // FLUSHALL, KEYS, SCRIPT …: it may see or change every key.
            let wide = spec.flags.contains(Flags::WRITE) || spec.flags.contains(Flags::READONLY);
            let waits = wide && self.replies.any_routed_open();
            return if waits { Flow::Wait } else { self.without_own_keys(spec, request) };
        }
        if let Some(refusal) = self.refuse_on_own_keys(spec, access, request) {
            return refusal;
        }
        let worker = self.worker.clone();
        let Some(keys) = RoutedKeys::find(&worker, spec, request.args) else {
            let waits = self.replies.any_routed_open()
                && KeyHashes::of(spec, request.args)
                    .is_some_and(|hashes| self.replies.is_open(&hashes, access != Access::Read));
            return if waits { Flow::Wait } else { self.forward(request) };
        };
        if self.replies.is_open(&keys.hashes, access != Access::Read) || !self.lane_is_free_for(access, request) {
            return Flow::Wait;
        }
        match access {
            Access::Read if self.read_in_doubt(spec, request, &keys) => {}
            Access::Read if self.prolongs(spec, request, &keys) => self.read_prolonging(request, keys),
            Access::Read if !self.loads() => return self.forward(request),
            Access::Read if self.read_near(spec, request, &keys) => {}
            Access::Read if keys.tells_life_without_grace(spec) => self.read_life(spec, request, keys),
            Access::Read => self.read(spec, request, keys),
            Access::Modify if self.loads() && keys.iter().any(|key| key.route.on_modify() != OnModify::Pass) => {
                self.modify(spec, request, keys)
            }
            _ if self.is_upstream_user() => {
                let routed = keys.iter().map(|key| (key.key.to_vec(), key.route.clone())).collect();
                return self.write_as_user(request, routed, keys.hashes, Leaves::of(spec, request.args));
            }
            _ => self.write(spec, request, keys),
        }
        Flow::Next
    }

    /// A routed read: at the store first.
    fn read(&mut self, spec: &Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let command = request.command();
        let (way, RoutedKey { key, index, route, .. }) = (self.way.clone(), *keys.first());
        let caps = (spec.name == "getex" && request.args.len() > 2)
            .then(|| (route.clone(), key.to_vec(), Leaves::of(spec, request.args)));
        let patience = self.patience(route);
        let other_routes: Box<[usize]> = keys.others().iter().map(|key| key.index).collect();
        let all_keys = if spec.first == spec.last { 1 } else { spec.key_positions(request.args).count() };
        let count_hits = || {
            route.metrics.lookups.hit.increment(1);
            keys.others().iter().for_each(|key| key.route.metrics.lookups.hit.increment(1));
        };
        let (seen, opts_in) = (self.is_private(), self.opts_in());
        let timed = self.time(spec, request.args, &keys);
        let drawn = self.draw(&keys);
        let command_of = || command.to_vec();
        let read = |keys, timed, drawn| Read {
            command: command_of(),
            keys,
            route: index,
            other_routes,
            all_keys,
            way,
            seen,
            opts_in,
            timed,
            drawn,
            patience,
        };
        match &self.worker.backend {
            Backend::Redis(_) => {
                let drawn = (!drawn.is_empty()).then(|| Box::new(DrawnKeys(drawn)));
                let asked = timed.as_ref().map(|timed| timed.commands(&command, request.args));
                let slot = self.replies.open_read(read(keys.hashes, timed, drawn), self.command);
                match asked {
                    None => self.send(&command, &[command.len() as u32], slot),
                    Some((commands, ends)) => self.send(&commands, &ends, slot),
                }
                if let Some((route, key, leaves)) = caps {
                    routed::cap(&self.worker, &route, &key, &self.way, leaves);
                }
            }
            Backend::Embedded(embedded) => {
                let mut reply = Vec::new();
                if !embedded.execute_known(self.command, self.way.context(), request.args, &mut reply) {
                    embedded.execute(self.way.context(), request.args, &mut reply);
                }
                let due = timed.map(|timed| self.refresh_embedded(embedded, request.args, &timed));
                if may_be_absent_among(&reply, all_keys) {
                    let slot = self.replies.open_slow(keys.hashes.clone(), self.command);
                    return self.start_read(Missed {
                        place: slot.into(),
                        read: read(keys.hashes, None, None),
                        reply: Ok(reply),
                    });
                }
                if let Some((route, key, leaves)) = caps {
                    routed::cap(&self.worker, &route, &key, &self.way, leaves);
                }
                match due {
                    None => count_hits(),
                    Some(due) => self.count_timed(&keys, &due),
                }
                for (route, key) in drawn {
                    self.worker.engine.check_hit(self.worker.app.routes.get(route), key, Source::Store);
                }
                self.batch().embedded.1 += 1;
                self.answer_now(|out| out.extend_from_slice(&reply));
            }
        }
    }

    /// A routed command that needs the old value: the engine's work.
    fn modify(&mut self, spec: &'static Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let modify = Modify {
            keys: keys.iter().map(|key| (key.key.to_vec(), key.route.clone())).collect(),
            lone: spec.key_positions(request.args).count() == 1,
            command: request.command().into_owned(),
            leaves: Leaves::of(spec, request.args),
            way: self.way.clone(),
        };
        let slot = self.replies.open_slow(keys.hashes, self.command);
        let worker = self.worker.clone();
        self.replies.finish_with(slot, async move { routed::modify(&worker, modify).await });
    }

    /// A routed write: fenced, as it is, and capped.
    fn write(&mut self, spec: &'static Spec, request: Request<'_>, keys: RoutedKeys<'_>) {
        self.send_run(request.bytes);
        let leaves = Leaves::of(spec, request.args);
        let lasting = match keys.iter().any(|key| key.route.keeps_notes()) {
            true => Lasting::of(&self.worker.app.routes, spec, request.args, leaves),
            false => Lasting::default(),
        };
        let waits = leaves.a_value() && missed::in_doubt(&self.worker, &self.way, spec, request.args);
        if lasting.waits() || waits || self.way.lane().is_some() {
            return self.write_in_task(request, keys, leaves);
        }
        for key in keys.iter() {
            self.worker.note_invalidation(key.route, self.way.identity.db, key.key);
            if key.route.fence(leaves.a_value()) == Fence::Ahead {
                self.way.fence(key.key);
            }
        }
        lasting.send_ahead(&self.way);
        self.forward(request);
        self.send_run(request.bytes);
        keys.iter().for_each(|key| routed::settle(&self.worker, key.key, key.route, leaves, &self.way));
    }

    /// The command that a client's command becomes on a route, by its TTL; `None`: it is as it should be.
    pub(super) fn shortened(&self, spec: &Spec, args: Args<'_>) -> Option<OwnedArgs> {
        if !lifetime::says(spec) {
            return None;
        }
        let route = self.worker.app.routes.find(args.get(1)?)?;
        let share = self.worker.engine.share(&route.config);
        let finely = !self.is_upstream_user();
        let bounds = Bounds { most: route.config.ttl, share, finely, grace: route.grace() };
        lifetime::shortened(spec, args, bounds)
    }

    /// The routed keys of a command, and their routes.
    pub fn routed_keys(&self, spec: &Spec, args: Args<'_>) -> Vec<(Vec<u8>, Arc<Route>)> {
        let keys = RoutedKeys::find(&self.worker, spec, args);
        keys.iter().flat_map(RoutedKeys::iter).map(|key| (key.key.to_vec(), key.route.clone())).collect()
    }

    /// Drops the leases of a command's routed keys, ahead of it. `None`: the command waits for that.
    pub fn fence_routed(&mut self, spec: &Spec, request: Request<'_>) -> Option<Verdict> {
        self.send_run(request.bytes);
        let keys = self.routed_keys(spec, request.args);
        if self.is_upstream_user() && !keys.is_empty() {
            return self.fence_as_weir(&keys);
        }
        for (key, route) in keys {
            self.worker.note_invalidation(&route, self.way.identity.db, &key);
            self.way.fence(&key);
        }
        Some(Ok(()))
    }

    pub(super) fn start_read(&self, missed: Missed) {
        let worker = self.worker.clone();
        self.replies.finish_with(missed.place, async move { routed::read(&worker, missed.read, missed.reply).await });
    }
}
