//! One command whose reply Weir itself waits for, over a link that clients share.

use super::link::{Link, Part, Sink};
use crate::store::StoreError;
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Sends one whole command and waits for the bytes of its one reply.
pub async fn request(link: &Link, command: &[u8]) -> Result<Vec<u8>, StoreError> {
    let pending = Rc::new(Pending::default());
    let sink: Rc<dyn Sink> = pending.clone();
    link.send(command, 1, &sink, 0);
    poll_fn(|cx| {
        let mut state = pending.0.borrow_mut();
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

#[derive(Default)]
struct Pending(RefCell<State>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    outcome: Option<Result<Vec<u8>, StoreError>>,
    waker: Option<Waker>,
}

impl State {
    fn finish(&mut self, outcome: Result<Vec<u8>, StoreError>) {
        self.outcome = Some(outcome);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Sink for Pending {
    fn reply(&self, _: u64, part: Part<'_>) {
        let mut state = self.0.borrow_mut();
        state.bytes.extend_from_slice(part.bytes);
        if part.done {
            let bytes = std::mem::take(&mut state.bytes);
            state.finish(Ok(bytes));
        }
    }

    fn failed(&self, _: u64, _: u32, error: &StoreError) {
        self.0.borrow_mut().finish(Err(error.clone()));
    }
}
