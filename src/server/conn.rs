//! What one client's commands do: each goes to the store as it is, to the engine, or is answered here.
//!
//! Plain commands that follow each other travel upstream as one slice and wait as one slot (a *run*). A command on a
//! routed key ends the run:
//! - a read goes to the store too, and comes back to the engine only if its reply could be an absent key's;
//! - a write first drops the key's lease (the fence), and afterwards the route's TTL caps the key's;
//! - a command that needs the old value makes the key present first.
//!
//! A later command of the same client on a key that an earlier one still works on waits for it (G3): [`Flow::Wait`].

use super::clients::Client;
use super::metrics::{CommandCounts, Path};
use super::output::Output;
use super::replies::{KeyHashes, Missed, Read, Replies};
use super::routed::{self, Modify};
use super::worker::Worker;
use super::{embedded_server, own};
use crate::cache::route::Route;
use crate::config::OnModify;
use crate::resp::args::Args;
use crate::resp::command::{Access, Flags, Handling, Spec, lookup_indexed};
use crate::resp::scan::{ScanLimits, may_be_absent};
use crate::resp::write::{self, Protocol};
use crate::store::Backend;
use crate::store::embedded::Context;
use crate::store::redis::link::Sink;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// What comes after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next one.
    Next,
    /// The next one, under other limits (AUTH).
    Limits,
    /// This one again, once an earlier one is answered.
    Wait,
}

/// One client's state, without its socket.
pub struct Conn {
    /// The thread it is served on.
    pub worker: Rc<Worker>,
    /// Its replies, in order.
    pub replies: Rc<Replies>,
    /// Who it is.
    pub client: Arc<Client>,
    /// HELLO.
    pub protocol: Protocol,
    /// SELECT.
    pub db: u32,
    /// Whether it may send more than AUTH.
    pub authenticated: bool,
    /// It will be closed once its replies are sent.
    pub closing: bool,
    sink: Rc<dyn Sink>,
    run: Run,
    /// Index of the command being acted on, for the counters.
    command: u16,
    /// Commands that the embedded store has answered since the last [`Conn::end_batch`]: plain ones, and routed reads.
    embedded: (usize, usize),
}

/// Plain commands that stand together in the bytes being acted on.
#[derive(Default)]
struct Run {
    bytes: Range<usize>,
    commands: Vec<u16>,
}

/// A routed key among a command's arguments.
struct RoutedKey<'a> {
    key: &'a [u8],
    index: usize,
    route: &'a Arc<Route>,
}

impl Conn {
    /// A client that has said nothing yet.
    pub fn new(worker: Rc<Worker>, client: Arc<Client>) -> Self {
        let replies = Rc::new(Replies::new(worker.counts.clone()));
        let authenticated = worker.app.config.server.password.is_none();
        let db = worker.backend.first_db();
        client.said.lock().db = db;
        Conn {
            sink: replies.clone(),
            worker,
            replies,
            client,
            protocol: Protocol::Resp2,
            db,
            authenticated,
            closing: false,
            run: Run::default(),
            command: CommandCounts::UNKNOWN,
            embedded: (0, 0),
        }
    }

    /// What this client may send now.
    pub fn scan_limits(&self) -> ScanLimits {
        let limits = &self.worker.app.config.limits;
        let max_command = if self.authenticated { limits.max_command } else { limits.max_command_before_auth };
        ScanLimits {
            max_command,
            max_arguments: limits.max_arguments,
            max_inline: limits.max_inline,
            authenticated: self.authenticated,
        }
    }

    /// Acts on one command, which stands at `raw` in `bytes`.
    pub fn command(&mut self, bytes: &[u8], raw: Range<usize>, args: Args<'_>, inline: bool) -> Flow {
        let Some(name) = args.get(0) else { return Flow::Next };
        let known = lookup_indexed(name);
        self.command = known.map_or(CommandCounts::UNKNOWN, |(index, _)| index);
        if !self.authenticated && !known.is_some_and(|(_, spec)| spec.flags.contains(Flags::NO_AUTH)) {
            return self.answer(bytes, |out| write::error(out, "NOAUTH Authentication required."));
        }
        let Some((_, spec)) = known else { return self.unknown(bytes, raw, args, inline) };
        match spec.handling_of(args) {
            Handling::Forward => self.data(spec, bytes, raw, args, inline),
            Handling::Own => self.own(spec, bytes, args),
            Handling::Stateful(why) | Handling::Refused(why) => {
                let name = full_name(spec, args);
                self.answer(bytes, |out| write::error(out, format!("ERR '{name}' is not served by Weir: {why}")))
            }
        }
    }

    /// A command of a module, or of a newer Redis: the upstream knows. Its first argument may be a key that it changes.
    fn unknown(&mut self, bytes: &[u8], raw: Range<usize>, args: Args<'_>, inline: bool) -> Flow {
        if self.replies.any_routed_open() {
            return Flow::Wait;
        }
        if let (Backend::Redis(redis), Some(key)) = (self.worker.backend.clone(), args.get(1)) {
            if self.worker.app.routes.find(key).is_some() {
                self.send_run(bytes);
                redis.fence(key, self.protocol);
            }
        }
        self.forward(bytes, raw, args, inline)
    }

    fn own(&mut self, spec: &'static Spec, bytes: &[u8], args: Args<'_>) -> Flow {
        self.send_run(bytes);
        own::run(self, spec, args)
    }

    /// Answers at once, in order.
    fn answer(&mut self, bytes: &[u8], writer: impl FnOnce(&mut Vec<u8>)) -> Flow {
        self.send_run(bytes);
        self.answer_now(writer);
        Flow::Next
    }

    /// Answers in order and counts the command.
    pub fn answer_now(&self, writer: impl FnOnce(&mut Vec<u8>)) {
        let is_error = self.replies.now(|out| {
            let begin = out.len();
            writer(out);
            out.get(begin) == Some(&b'-')
        });
        self.worker.counts.count(self.command, is_error);
    }

    /// A command on data.
    fn data(&mut self, spec: &'static Spec, bytes: &[u8], raw: Range<usize>, args: Args<'_>, inline: bool) -> Flow {
        if self.worker.app.routes.is_empty() {
            return self.forward(bytes, raw, args, inline);
        }
        let access = spec.access_of(args);
        if access == Access::None {
            // FLUSHALL, KEYS, SCRIPT …: it may see or change every key.
            let wide = spec.flags.contains(Flags::WRITE) || spec.flags.contains(Flags::READONLY);
            return if wide && self.replies.any_routed_open() {
                Flow::Wait
            } else {
                self.forward(bytes, raw, args, inline)
            };
        }
        let worker = self.worker.clone();
        let mut routed = spec.key_positions(args).filter_map(|position| {
            let key = args.get(position)?;
            let (index, route) = worker.app.routes.find_indexed(key)?;
            Some(RoutedKey { key, index, route })
        });
        let Some(first) = routed.next() else { return self.forward(bytes, raw, args, inline) };
        let others: Vec<RoutedKey<'_>> = routed.collect();
        let writes = access != Access::Read;
        let hashes = KeyHashes {
            first: worker.hash(first.key),
            others: others.iter().map(|key| worker.hash(key.key)).collect(),
        };
        if self.replies.is_open(&hashes, writes) {
            return Flow::Wait;
        }
        match access {
            Access::Read => self.read(bytes, raw, args, inline, first, hashes),
            Access::Modify if first.route.on_modify() != OnModify::Pass => {
                self.modify(spec, bytes, args, first, others, hashes)
            }
            _ => self.write(spec, bytes, raw, args, inline, first, others),
        }
    }

    /// A routed read: at the store first.
    fn read(
        &mut self,
        bytes: &[u8],
        raw: Range<usize>,
        args: Args<'_>,
        inline: bool,
        key: RoutedKey<'_>,
        keys: KeyHashes,
    ) -> Flow {
        self.send_run(bytes);
        let command = whole_command(&bytes[raw], args, inline);
        let (protocol, db, route) = (self.protocol, self.db, key.index);
        let read = |keys| Read { command: command.to_vec(), keys, route, protocol, db };
        match self.worker.backend.clone() {
            Backend::Redis(redis) => {
                let link = redis.link(self.protocol);
                let slot = self.replies.open_read(read(keys), self.command);
                link.send(&command, 1, &self.sink, slot);
            }
            Backend::Embedded(embedded) => {
                let context = self.context();
                let mut reply = Vec::new();
                embedded.execute(context, args, &mut reply);
                if !may_be_absent(&reply) {
                    key.route.metrics.lookups.hit.increment(1);
                    self.embedded.1 += 1;
                    self.answer_now(|out| out.extend_from_slice(&reply));
                    return Flow::Next;
                }
                let slot = self.replies.open_slow(keys.clone(), self.command);
                self.start_read(Missed { slot, read: read(keys), reply });
            }
        }
        Flow::Next
    }

    /// A routed command that needs the old value: the engine's work.
    fn modify(
        &mut self,
        spec: &'static Spec,
        bytes: &[u8],
        args: Args<'_>,
        first: RoutedKey<'_>,
        others: Vec<RoutedKey<'_>>,
        hashes: KeyHashes,
    ) -> Flow {
        self.send_run(bytes);
        let slot = self.replies.open_slow(hashes, self.command);
        let keys = std::iter::once(first).chain(others).map(|key| (key.key.to_vec(), key.route.clone())).collect();
        let modify = Modify {
            keys,
            lone: spec.key_positions(args).count() == 1,
            command: whole_command(&[], args, true).into_owned(),
            caps: leaves_a_value(spec),
            protocol: self.protocol,
            db: self.db,
        };
        let (worker, replies) = (self.worker.clone(), self.replies.clone());
        tokio::task::spawn_local(async move {
            let answer = routed::modify(&worker, modify).await;
            replies.finish(slot, answer);
        });
        Flow::Next
    }

    /// A routed write: fenced, as it is, and capped.
    #[expect(clippy::too_many_arguments, reason = "one command with its bytes, its arguments and its routed keys")]
    fn write(
        &mut self,
        spec: &'static Spec,
        bytes: &[u8],
        raw: Range<usize>,
        args: Args<'_>,
        inline: bool,
        first: RoutedKey<'_>,
        others: Vec<RoutedKey<'_>>,
    ) -> Flow {
        let keys = || std::iter::once(&first).chain(&others);
        self.send_run(bytes);
        keys().for_each(|key| {
            key.route.metrics.invalidations.increment(1);
            self.worker.backend.fence(key.key, self.protocol);
        });
        let flow = self.forward(bytes, raw, args, inline);
        self.send_run(bytes);
        if leaves_a_value(spec) {
            keys().for_each(|key| routed::cap(&self.worker, key.route, key.key, self.protocol, self.db));
        }
        flow
    }

    /// Hands a command to the store as it is.
    fn forward(&mut self, bytes: &[u8], raw: Range<usize>, args: Args<'_>, inline: bool) -> Flow {
        match &self.worker.backend {
            Backend::Embedded(embedded) => {
                let context = self.context();
                self.answer_now(|out| {
                    if !embedded_server::answer(&self.worker.app, context, args, out) {
                        embedded.execute(context, args, out);
                    }
                });
                self.embedded.0 += 1;
            }
            Backend::Redis(_) if inline => {
                self.send_run(bytes);
                let command = whole_command(&[], args, true);
                self.run = Run { bytes: 0..command.len(), commands: vec![self.command] };
                self.send_run(&command);
            }
            Backend::Redis(_) => {
                if self.run.commands.is_empty() || self.run.bytes.end != raw.start {
                    self.send_run(bytes);
                    self.run.bytes.start = raw.start;
                }
                self.run.bytes.end = raw.end;
                self.run.commands.push(self.command);
            }
        }
        Flow::Next
    }

    /// Sends the run that has gathered, as one slice with one slot.
    pub fn send_run(&mut self, bytes: &[u8]) {
        let run = std::mem::take(&mut self.run);
        if run.commands.is_empty() {
            return;
        }
        let Backend::Redis(redis) = &self.worker.backend else { return };
        let replies = run.commands.len() as u32;
        let slot = self.replies.open_plain(run.commands);
        redis.link(self.protocol).send(&bytes[run.bytes], replies, &self.sink, slot);
    }

    /// All whole commands that came together, at `begun`, are acted on.
    pub fn end_batch(&mut self, bytes: &[u8], begun: Instant) {
        self.send_run(bytes);
        let (plain, reads) = std::mem::take(&mut self.embedded);
        for (path, commands) in [(Path::Pass, plain), (Path::Upstream, reads)] {
            if commands > 0 {
                self.worker.counts.observe(path, begun, commands);
            }
        }
    }

    /// Starts the engine on the reads that found nothing at the store, and counts those that found something.
    pub fn start_missed(&mut self) {
        let app = &self.worker.app;
        self.replies.take_hits(|route| app.routes.get(route).metrics.lookups.hit.increment(1));
        for missed in self.replies.take_missed() {
            self.start_read(missed);
        }
    }

    fn start_read(&self, missed: Missed) {
        let (worker, replies) = (self.worker.clone(), self.replies.clone());
        tokio::task::spawn_local(async move {
            let answer: Output = routed::read(&worker, missed.read, missed.reply).await;
            replies.finish(missed.slot, answer);
        });
    }

    /// Index of the command being acted on, for the counters.
    pub fn command_index(&self) -> u16 {
        self.command
    }

    /// What the embedded store must know of this client.
    pub fn context(&self) -> Context {
        Context { db: self.db, protocol: self.protocol }
    }
}

/// The bytes of a command as an array of bulk strings, whatever it came as.
fn whole_command<'a>(raw: &'a [u8], args: Args<'_>, encode: bool) -> std::borrow::Cow<'a, [u8]> {
    if !encode {
        return raw.into();
    }
    let mut command = Vec::new();
    write::command(&mut command, args.iter());
    command.into()
}

/// Whether the key may hold a value after this command, which the route's TTL then caps.
fn leaves_a_value(spec: &Spec) -> bool {
    !matches!(spec.name, "del" | "unlink" | "getdel")
}

/// A command's name with its subcommand, as people write it.
fn full_name(spec: &Spec, args: Args<'_>) -> String {
    let sub = spec.resolve(args);
    let name = if std::ptr::eq(sub, spec) { spec.name.to_string() } else { format!("{} {}", spec.name, sub.name) };
    name.to_uppercase()
}
