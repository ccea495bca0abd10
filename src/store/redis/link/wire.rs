//! What a link carries, in both directions, while it is up.

use super::{Inner, State};
use crate::resp::scan::ReplyScanner;
use crate::store::StoreError;
use crate::transport::Transport;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A stalled link is given up after this many timeouts without a byte.
const STALLED_TIMEOUTS: u32 = 4;
/// Size of one read.
const READ: usize = 64 << 10;
/// Nesting that a reply may have: deeper than any Redis makes.
const MOST_DEPTH: usize = 128;
/// The finest step in which timeouts are looked at.
const TICK: Duration = Duration::from_millis(1);

/// Carries bytes in both directions; returns why the link ended.
pub async fn carry(inner: &Rc<Inner>, mut stream: Transport) -> StoreError {
    let mut wire = Wire {
        scanner: ReplyScanner::new(MOST_DEPTH),
        scratch: vec![0; READ].into_boxed_slice(),
        tail: Vec::new(),
        writing: Vec::new(),
        written: 0,
    };
    let mut timer = pin!(tokio::time::sleep(inner.upstream.timeout));
    poll_fn(|cx| {
        inner.driver.set(Some(cx.waker().clone()));
        if inner.is_abandoned() {
            return Poll::Ready(StoreError::Unavailable("nobody uses the link any more".into()));
        }
        if let Poll::Ready(error) = wire.poll_write(inner, &mut stream, cx) {
            return Poll::Ready(error);
        }
        if let Poll::Ready(error) = wire.poll_read(inner, &mut stream, cx) {
            return Poll::Ready(error);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            inner.time_out(now);
            let given_up =
                inner.private.is_some() || inner.progress.get() + inner.upstream.timeout * STALLED_TIMEOUTS <= now;
            if inner.state.get() == State::Stalled && given_up {
                return Poll::Ready(StoreError::Timeout);
            }
            inner.probe_if_others_fail();
            let next = inner.next_deadline().unwrap_or(now + inner.upstream.timeout).max(now + TICK);
            timer.as_mut().reset(next);
        }
        Poll::Pending
    })
    .await
}

/// One connection's buffers.
struct Wire {
    scanner: ReplyScanner,
    scratch: Box<[u8]>,
    /// Bytes that the scanner could not use yet: part of one header line.
    tail: Vec<u8>,
    writing: Vec<u8>,
    written: usize,
}

impl Wire {
    fn poll_write(&mut self, inner: &Inner, stream: &mut Transport, cx: &mut Context<'_>) -> Poll<StoreError> {
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                if self.writing.capacity() > READ {
                    self.writing = Vec::new();
                }
                std::mem::swap(&mut self.writing, &mut inner.out.borrow_mut());
                if self.writing.is_empty() {
                    // TLS may have taken bytes that it has not sent yet.
                    return match ready!(Pin::new(&mut *stream).poll_flush(cx)) {
                        Ok(()) => Poll::Pending,
                        Err(error) => Poll::Ready(lost(&error)),
                    };
                }
                inner.taken.set(inner.taken.get() + self.writing.len() as u64);
                inner.wake_waiting_for_room();
            }
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.writing[self.written..])) {
                Ok(count) => {
                    self.written += count;
                    inner.progress.set(Instant::now());
                }
                Err(error) => return Poll::Ready(lost(&error)),
            }
        }
    }

    fn poll_read(&mut self, inner: &Inner, stream: &mut Transport, cx: &mut Context<'_>) -> Poll<StoreError> {
        loop {
            if inner.is_halted() {
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(&mut self.scratch);
            if let Err(error) = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) {
                return Poll::Ready(lost(&error));
            }
            let count = buffer.filled().len();
            if count == 0 {
                return Poll::Ready(StoreError::Unavailable("the upstream closed the connection".into()));
            }
            inner.progress.set(Instant::now());
            if inner.state.get() == State::Stalled {
                inner.state.set(State::Up);
            }
            if let Err(error) = self.take(inner, count) {
                return Poll::Ready(error);
            }
        }
    }

    fn take(&mut self, inner: &Inner, count: usize) -> Result<(), StoreError> {
        let fresh = &self.scratch[..count];
        if self.tail.is_empty() {
            let used = inner.deliver(&mut self.scanner, fresh)?;
            self.tail.extend_from_slice(&fresh[used..]);
        } else {
            self.tail.extend_from_slice(fresh);
            let used = inner.deliver(&mut self.scanner, &self.tail)?;
            self.tail.drain(..used);
        }
        Ok(())
    }
}

fn lost(error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("the link broke: {error}"))
}
