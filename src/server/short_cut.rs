//! The short way of what most commands are: reads of one key, and changes of keys that no route matches, of a client that the
//! server remembers nothing of.
//!
//! It takes nothing that needs more than a route match to be told what is to be done; everything else goes the long way
//! ([`super::conn`]), and so may any command: the result is the same.

use super::conn::{Conn, Flow, Muting, Request};
use super::keys::{KeyHashes, RoutedKey, RoutedKeys};
use super::reads::Routed;
use super::timed::Shows;
use crate::resp::command::{Access, Spec};
use crate::store::Backend;
use crate::store::redis::hidden;
use std::rc::Rc;

impl Conn {
    /// Acts on a command, if it is such; `None`, and nothing is done: it is not.
    #[inline]
    pub(super) fn short_cut(&mut self, spec: &'static Spec, request: Request<'_>) -> Option<Flow> {
        if !spec.is_plain() || request.inline || !self.is_plain() {
            return None;
        }
        match spec.access {
            Access::None => None,
            Access::Read => self.read_plainly(spec, request),
            Access::Modify | Access::Write => self.change_plainly(spec, request),
        }
    }

    /// Whether this client may do everything and the server remembers nothing of it.
    pub(super) fn is_plain(&self) -> bool {
        self.authenticated
            && self.has_no_limits()
            && self.hold.is_none()
            && self.pending.is_none()
            && self.muting == Muting::Off
            && self.way.lane().is_none()
    }

    fn read_plainly(&mut self, spec: &'static Spec, request: Request<'_>) -> Option<Flow> {
        if !spec.reads_one_key() {
            let is_answered = Shows::of(spec.name) == Some(Shows::Strings) && self.read_strings_near(request);
            return is_answered.then_some(Flow::Next);
        }
        let worker = Rc::clone(&self.worker);
        let name = request.args.get(1)?;
        match RoutedKey::find(&worker, name) {
            Some(key) => self.read_routed_plainly(spec, request, key),
            None if self.replies.any_slow() && self.replies.is_open(&KeyHashes::of(spec, request.args)?, false) => {
                Some(Flow::Wait)
            }
            None => Some(self.forward(request)),
        }
    }

    /// A read of one routed key: answered here, or one more of a run.
    fn read_routed_plainly(&mut self, spec: &'static Spec, request: Request<'_>, key: RoutedKey<'_>) -> Option<Flow> {
        let Backend::Redis(_) = self.worker.backend else { return None };
        let waits_for_fill = !key.route.config.wait_for_fill().is_zero();
        if waits_for_fill || !spec.arity_ok(request.args.len()) || self.worker.engine.has_doubts() {
            return None;
        }
        let keys = RoutedKeys::from(key);
        if self.replies.any_slow() && self.replies.is_open(&keys.hashes, false) {
            return Some(Flow::Wait);
        }
        if self.read_near(spec, request, &keys) {
            return Some(Flow::Next);
        }
        if keys.tells_life_without_grace(spec) {
            return None;
        }
        self.send_plain(request.bytes);
        let (drawn, shows) = (self.worker.engine.draws(key.route.checks.hits), Shows::of(spec.name));
        let asked = self.ask_behind(shows, spec, &key);
        let read = Routed { key: key.hash, route: key.index, command: self.command_index(), drawn, shows };
        let reads = &mut self.batch().reads;
        let command = &request.bytes[request.start..request.end];
        reads.push(0..command.len(), read);
        reads.copy(command);
        asked.into_iter().for_each(|asked| reads.ask(key.key, asked));
        Some(Flow::Next)
    }

    /// A change of keys of no route: as it is.
    fn change_plainly(&mut self, spec: &'static Spec, request: Request<'_>) -> Option<Flow> {
        let app = &self.worker.app;
        let is_routed = |position| request.args.get(position).is_some_and(|key| app.routes.find(key).is_some());
        if spec.key_positions(request.args).any(is_routed)
            || (app.has_own_keys() && hidden::names_own(spec, request.args))
        {
            return None;
        }
        let waits = self.replies.any_routed_open()
            && KeyHashes::of(spec, request.args).is_some_and(|hashes| self.replies.is_open(&hashes, true));
        Some(if waits { Flow::Wait } else { self.forward(request) })
    }
}
