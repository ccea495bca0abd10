//! One client: its socket, its unread bytes, and the loop that carries them.
//!
//! A session is one task and one future, polled when the socket or one of its replies is ready. Each poll reads what
//! has come, acts on every whole command of it, and writes what is ready with one write. Commands that wait (for room,
//! or for an earlier command on the same key) stay unparsed in `input`.

use super::buffers::{Buffer, Held};
use super::clients::Client;
use super::conn::{Conn, Flow, Request};
use super::incoming::hang_up;
use super::metrics;
use super::patience::{Progress, Waiting};
use super::worker::Worker;
use crate::resp::scan::{CommandScanner, Scanned};
use crate::resp::write;
use crate::transport::Transport;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads of one poll; after them other clients get their turn.
const MOST_READS: usize = 4;

/// Bytes that a buffer may keep beyond what it needs.
const SPARE: usize = 64 << 10;

/// For a client that is closed since all clients' unanswered commands together are too long.
const QUERY_TOTAL: &str = "ERR the unanswered commands of all clients are together longer than [limits] max_query_total; yours are the longest";

/// Serves one client to its end. No future but this one holds the session: an `async fn` would hold its arguments too.
pub fn serve(stream: Transport, client: Arc<Client>, worker: Rc<Worker>) -> impl Future<Output = ()> {
    let mut session = Session::new(stream, client, worker);
    async move {
        poll_fn(|cx| session.take_seat(cx)).await;
        poll_fn(|cx| session.poll(cx)).await;
        session.conn.replies.close();
        hang_up(&mut session.stream).await;
        session.conn.worker.left(&session.conn.client);
    }
}

struct Session {
    stream: Transport,
    conn: Conn,
    /// In the middle of a command; between two the worker has it, for all its clients.
    scanner: Option<Box<CommandScanner>>,
    /// Bytes read and not yet acted on: part of a command, or commands that wait.
    input: Vec<u8>,
    /// Why the commands in `input` wait.
    waits: Waits,
    /// It has been counted that a limit is reached.
    paused: bool,
    /// The client will send no more.
    ended: bool,
    /// … and takes no more replies.
    gone: bool,
    /// What has happened since it was noted what the client waits for.
    progress: Progress,
    /// What its buffers held when it was last noted.
    held: Held,
}

/// What the first command of a session's `input` waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// For the rest of its own bytes, if there is any of it.
    No,
    /// For room: the client takes its replies slowly, or the link is full.
    Room,
    /// For the reply to an earlier command. Only that reply's arrival, which wakes the session, is a reason to look again.
    Reply,
}

impl Session {
    fn new(stream: Transport, client: Arc<Client>, worker: Rc<Worker>) -> Self {
        let conn = Conn::new(worker, client);
        Session {
            stream,
            scanner: None,
            conn,
            input: Vec::new(),
            waits: Waits::No,
            paused: false,
            ended: false,
            gone: false,
            progress: Progress::default(),
            held: Held::default(),
        }
    }

    /// Tells the worker whom to wake. A task's waker stays the same for its life: once is enough.
    fn take_seat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Conn { worker, client, replies, .. } = &self.conn;
        worker.arrived(client, replies);
        client.waker.register(cx.waker());
        Poll::Ready(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.conn.replies.set_waker(cx.waker());
        loop {
            self.conn.catch_up();
            if let Some(reason) = self.conn.client.ended() {
                self.say_goodbye(reason, cx);
                return Poll::Ready(());
            }
            if let Some(reason) = self.conn.replies.closed() {
                metrics::closed(reason);
                return Poll::Ready(());
            }
            let readable = self.take_commands(cx);
            self.conn.catch_up();
            let written = self.poll_write(cx);
            if readable.is_err() || matches!(written, Poll::Ready(Err(_))) {
                // What it sent before it left is done all the same, as by a server that reads first and writes then.
                (self.ended, self.gone) = (true, true);
                self.conn.replies.output(|output| output.advance(output.len()));
            }
            if self.is_over() && written.is_ready() {
                return Poll::Ready(());
            }
            let room = self.waits == Waits::Room && !self.must_wait(cx);
            if !room || written.is_pending() {
                self.note_buffers();
                return if self.is_overdue(written.is_pending(), cx) { Poll::Ready(()) } else { Poll::Pending };
            }
        }
    }

    /// Tells the client why somebody has ended it, where it may be told anything.
    fn say_goodbye(&mut self, reason: &'static str, cx: &mut Context<'_>) {
        metrics::closed(reason);
        if reason == Buffer::Query.reason() && !self.conn.replies.any_open() {
            self.conn.replies.now(|out| write::error(out, QUERY_TOTAL));
            let _ = self.poll_write(cx);
        }
    }

    /// Notes what this client's buffers hold, if that has changed.
    fn note_buffers(&mut self) {
        let (output, asked) = self.conn.replies.held();
        let held = Held::new(output, self.input.len() + asked);
        if held != self.held {
            self.held = held;
            self.conn.worker.app.clients.note_buffers(&self.conn.client, held);
        }
    }

    /// Notes what is waited for; true if that has lasted too long, and the client has been told so.
    fn is_overdue(&mut self, stuck: bool, cx: &mut Context<'_>) -> bool {
        let what = match () {
            () if !self.conn.authenticated => Waiting::Auth,
            () if stuck => Waiting::Reader,
            () if self.waits == Waits::No && !self.input.is_empty() => Waiting::Command,
            () if self.conn.replies.any_open() || self.conn.is_private() => Waiting::Store,
            () => Waiting::Idle,
        };
        let wait = &self.conn.replies.wait;
        wait.note(what, std::mem::take(&mut self.progress), self.conn.worker.clock());
        let Some(what) = wait.overdue() else { return false };
        metrics::closed(what.reason());
        // In the middle of its replies the line would be taken for one of them.
        if let Some(words) = what.last_words().filter(|_| !stuck && !self.conn.replies.any_open()) {
            self.conn.replies.now(|out| write::error(out, words));
            let _ = self.poll_write(cx);
        }
        true
    }

    /// Nothing more will be read, and everything that was read is answered.
    fn is_over(&self) -> bool {
        let left = self.ended || self.conn.worker.is_draining();
        if left && self.conn.waits_for_ever() {
            return true;
        }
        if self.gone && self.waits == Waits::No && !self.conn.is_private() {
            // What it has sent is on its way, and nobody waits for the answers.
            return true;
        }
        (left || self.conn.closing) && !self.conn.replies.any_open() && (self.conn.closing || self.waits == Waits::No)
    }

    /// Acts on the commands that have come, and reads for more.
    fn take_commands(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.waits != Waits::No {
            self.act_on_input(cx);
        }
        for _ in 0..MOST_READS {
            let waits = self.waits != Waits::No && !self.listens_while_blocked();
            if waits || self.conn.closing || self.ended || self.conn.worker.is_draining() {
                return Ok(());
            }
            if self.is_full(cx) {
                // What has been read is acted on already; what has not, stays with the kernel.
                self.wait_for_room();
                return Ok(());
            }
            match self.poll_read(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// A client that waits behind a command which may take for ever is still listened to: it may leave, and the kernel tells
    /// that only behind all that it has sent. What it sends counts in `max_query_total`.
    fn listens_while_blocked(&self) -> bool {
        let most = self.conn.worker.app.config.limits.max_command;
        self.waits != Waits::No && self.conn.is_blocked() && self.input.len() < most
    }

    /// One read, and action on what it brought.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let worker = self.conn.worker.clone();
        let mut scratch = worker.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let fresh = buffer.filled();
        if fresh.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.progress.read = true;
        self.conn.begin_batch();
        if self.input.is_empty() {
            let used = self.act(fresh, cx);
            self.input.extend_from_slice(&fresh[used..]);
        } else {
            self.input.extend_from_slice(fresh);
            self.act_on_input(cx);
        }
        Poll::Ready(Ok(fresh.len()))
    }

    fn act_on_input(&mut self, cx: &mut Context<'_>) {
        let mut input = std::mem::take(&mut self.input);
        let used = self.act(&input, cx);
        if used == input.len() {
            return;
        }
        input.drain(..used);
        // What is left of a large command keeps no room for another.
        if input.capacity() > 4 * input.len() + SPARE {
            input.shrink_to_fit();
        }
        self.input = input;
    }

    /// Acts on every whole command of `bytes`; returns how many of them are done with.
    fn act(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let begun = Instant::now();
        self.conn.set_time(begun);
        // In the middle of a command it has one; most commands need none.
        let mut scanner = self.scanner.take();
        let mut used = 0;
        self.waits = Waits::No;
        let mut series_goes_on = scanner.as_ref().is_none_or(|scanner| scanner.is_between());
        while !self.conn.closing && used < bytes.len() {
            if self.must_wait(cx) {
                self.wait_for_room();
                break;
            }
            if series_goes_on {
                let done = self.conn.act_on_series(bytes, used);
                series_goes_on = done.goes_on;
                if done.end > used {
                    used = done.end;
                    continue;
                }
            }
            let scanner = scanner.get_or_insert_with(|| self.borrow_scanner());
            match scanner.scan(&bytes[used..]) {
                Ok(Scanned::Complete { len, inline }) => {
                    let args = scanner.args(&bytes[used..used + len]);
                    match self.conn.act(Request { bytes, start: used, end: used + len, args, inline }) {
                        Flow::Next => used += len,
                        Flow::Limits => {
                            used += len;
                            scanner.set_limits(self.conn.scan_limits());
                        }
                        Flow::Wait => {
                            self.waits = Waits::Reply;
                            break;
                        }
                    }
                }
                // How much more is needed is a client's claim, and no reason to hold memory for it.
                Ok(Scanned::Incomplete { .. }) => break,
                // What is wrong behind a command that may take for ever is told after it: until then it may leave.
                Err(_) if self.conn.is_blocked() => {
                    self.waits = Waits::Reply;
                    break;
                }
                Err(error) => {
                    self.conn.send_run(bytes);
                    self.conn.replies.now(|out| error.reply(out));
                    self.conn.closing = true;
                    metrics::closed("protocol");
                }
            }
        }
        match scanner {
            Some(scanner) if scanner.is_done() => self.conn.worker.give_scanner_back(scanner),
            unfinished => self.scanner = unfinished,
        }
        self.paused &= used == 0;
        self.conn.end_batch(bytes, begun);
        self.conn.replies.note_asked(used);
        self.progress.acted |= used > 0;
        used
    }

    /// The worker's, between two commands.
    #[inline]
    fn borrow_scanner(&self) -> Box<CommandScanner> {
        match self.conn.worker.take_scanner() {
            Some(scanner) if scanner.limits().authenticated == self.conn.authenticated => scanner,
            _ => Box::new(CommandScanner::new(self.conn.scan_limits())),
        }
    }

    /// Notes that the commands wait for room, and counts it once where it is a limit that is reached.
    fn wait_for_room(&mut self) {
        self.waits = Waits::Room;
        self.conn.hurry();
        let reached = self.conn.replies.reached(self.conn.gathered()).filter(|_| !self.paused);
        reached.inspect(|limit| metrics::paused(limit));
        self.paused |= reached.is_some();
    }

    /// Whether this client must not be acted on now: there is no room for one more reply, or the upstream's link is full.
    /// A client that is blocked is heard on nevertheless: what it sends may be that it leaves.
    fn must_wait(&self, cx: &mut Context<'_>) -> bool {
        let (replies, gathered) = (&self.conn.replies, self.conn.gathered());
        let has_room = replies.has_room(gathered) || (self.conn.is_blocked() && replies.reached(gathered).is_none());
        !has_room || self.conn.way().poll_room(cx).is_pending()
    }

    /// Whether this client must not even be read: it takes its replies too slowly, has too many requests open, or the
    /// upstream's link is full.
    fn is_full(&self, cx: &mut Context<'_>) -> bool {
        self.conn.replies.reached(self.conn.gathered()).is_some() || self.conn.way().poll_room(cx).is_pending()
    }

    /// Writes what is ready; pending if the client does not take all of it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.conn.is_private() {
            return self.write_output(cx);
        }
        let before = self.conn.replies.output(|output| output.len());
        let written = self.write_output(cx);
        if self.conn.replies.output(|output| output.len()) < before {
            self.conn.way().link().inspect(|link| link.resume());
        }
        written
    }

    #[inline]
    fn write_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (stream, taken) = (&mut self.stream, &mut self.progress.taken);
        self.conn.replies.output(|output| {
            while !output.is_empty() {
                let count = match output.single() {
                    Some(bytes) => ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?,
                    None => {
                        let mut slices = [IoSlice::new(&[]); 16];
                        let count = output.slices(&mut slices);
                        ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?
                    }
                };
                output.advance(count);
                *taken = true;
            }
            // TLS takes more than it has sent.
            Pin::new(stream).poll_flush(cx)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::replies::Replies;

    /// Ten thousand clients that only stay are the usual case. The task's own 104 bytes and what `serve` adds fill three times
    /// the 128 bytes that a task is aligned to, and one word more would take a fourth. What is not of every client, or only
    /// while it is acted on, has its place elsewhere: in a box, or with the worker.
    #[test]
    fn a_client_takes_little_room() {
        assert!(size_of::<Session>() <= 248, "a session takes {} bytes", size_of::<Session>());
        assert!(size_of::<Replies>() <= 288, "its replies take {}", size_of::<Replies>());
        assert!(size_of::<Client>() <= 160, "its entry in the registry takes {}", size_of::<Client>());
    }
}
