//! A link's task: connects, and begins again when the link breaks.

use super::wire::carry;
use super::{Inner, Private, State};
use crate::store::StoreError;
use crate::store::redis::handshake;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// First pause before connecting again; doubles up to [`LONGEST_PAUSE`].
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A Redis that is back is found within this, or a third more.
pub const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Connects, carries bytes until the link breaks, and begins again, for as long as anybody holds a handle.
pub async fn drive(inner: Rc<Inner>) {
    if let Some(private) = &inner.private {
        return drive_private(&inner, private).await;
    }
    let mut pause = FIRST_PAUSE;
    let mut moves = inner.upstream.moves();
    while !inner.is_abandoned() {
        let error = match in_time(&inner, handshake::connect(&inner.upstream, &inner.identity, &mut moves)).await {
            Ok(stream) => {
                pause = FIRST_PAUSE;
                if inner.upstream.trust().epoch().is_none() {
                    // What waits was meant for a server that could be trusted.
                    inner.fail_all(&StoreError::InDoubt);
                }
                inner.state.set(State::Up);
                inner.upstream.note_link(true);
                tracing::debug!(protocol = ?inner.identity.protocol, db = inner.identity.db, "upstream link is up");
                // A fault of our own must not leave a link behind that looks alive and carries nothing.
                let carried = async {
                    tokio::select! {
                        biased;
                        error = carry(&inner, stream) => error,
                        error = moves.next() => error,
                    }
                };
                let ended = AssertUnwindSafe(carried).catch_unwind().await;
                inner.upstream.note_link(false);
                ended.unwrap_or_else(|_| StoreError::Unavailable("the link's task failed".into()))
            }
            Err(error) => error,
        };
        inner.state.set(State::Down);
        if inner.is_abandoned() {
            return;
        }
        match inner.identity.user {
            // Not Weir's own affair: the clients are hung up on.
            Some(_) if error.denies_user() => {
                tracing::debug!(%error, "the upstream does not know a client's user any more")
            }
            _ => inner.upstream.note_failure(&error),
        }
        inner.fail_all(&error);
        if inner.is_abandoned() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64() / 3.0)) => pause = (pause * 2).min(LONGEST_PAUSE),
            _ = moves.next() => pause = FIRST_PAUSE,
        }
    }
}

/// Connects and carries bytes, once.
async fn drive_private(inner: &Rc<Inner>, private: &Private) {
    let mut moves = inner.upstream.moves();
    let permitted = private.permit.borrow().is_some();
    let connected = match permitted {
        // The shared links knock again in their time; clients by the thousand must not.
        true if inner.upstream.is_known_down() => Err(StoreError::Unavailable("no link is up".into())),
        true => in_time(inner, handshake::connect_private(&inner.upstream, &inner.identity, &mut moves)).await,
        false => Err(StoreError::Full),
    };
    let error = match connected {
        Ok((stream, connection)) => {
            private.connection.set(connection);
            inner.state.set(State::Up);
            let owner = private.owner.borrow().clone();
            owner.inspect(|owner| owner.connected());
            let carried = async {
                tokio::select! {
                    biased;
                    error = carry(inner, stream) => error,
                    error = moves.next() => error,
                    error = inner.upstream.leaves() => error,
                }
            };
            let ended = AssertUnwindSafe(carried).catch_unwind().await;
            ended.unwrap_or_else(|_| StoreError::Unavailable("the link's task failed".into()))
        }
        Err(error) => error,
    };
    inner.state.set(State::Down);
    private.permit.take();
    inner.fail_all(&error);
    let owner = private.owner.borrow_mut().take();
    owner.inspect(|owner| owner.lost());
}

/// Waits for a connection. Commands that have waited for it too long are told so, and will not be sent.
async fn in_time<T>(inner: &Inner, connect: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let mut connect = pin!(connect);
    loop {
        let deadline = inner.next_deadline().unwrap_or_else(|| Instant::now() + inner.upstream.timeout);
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(deadline) => {}
            connected = &mut connect => return connected,
        }
        if inner.next_deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            if inner.private.is_some() {
                return Err(StoreError::Timeout);
            }
            inner.state.set(State::Down);
            inner.fail_all(&StoreError::Timeout);
        }
    }
}
