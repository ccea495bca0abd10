//! Something that takes its time, and that a client's next command waits for.

use super::as_user::Verdict;
use super::conn::Conn;
use futures_util::FutureExt;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// Something that the client's next command waits for, and what is to be done to the client then.
pub type Errand = Rc<RefCell<Option<After>>>;
/// What an errand comes to.
pub type After = Box<dyn FnOnce(&mut Conn)>;

impl Conn {
    /// The client's next command waits until `errand` is over; what that comes to is then done first.
    pub fn run_errand<A: FnOnce(&mut Conn) + 'static>(&mut self, errand: impl Future<Output = A> + 'static) {
        let cell = Errand::default();
        self.errand = Some(cell.clone());
        let replies = self.replies.clone();
        tokio::task::spawn_local(async move {
            let after: After = match AssertUnwindSafe(errand).catch_unwind().await {
                Ok(after) => Box::new(after),
                Err(_) => Box::new(|conn| conn.closing = true),
            };
            *cell.borrow_mut() = Some(after);
            replies.wake();
        });
    }

    /// What an errand finds out about the command being acted on: one question a command. `None`: the command waits for the
    /// answer, and is acted on again.
    pub fn ask(&mut self, question: impl Future<Output = Verdict> + 'static) -> Option<Verdict> {
        if let Some(verdict) = &self.verdict {
            return Some((**verdict).clone());
        }
        self.run_errand(async move {
            let verdict = question.await;
            move |conn: &mut Conn| conn.verdict = Some(Box::new(verdict))
        });
        None
    }

    /// Whether an errand is not over yet.
    pub fn errand_is_open(&self) -> bool {
        self.errand.is_some()
    }

    /// Does what an errand has come to.
    pub(super) fn finish_errand(&mut self) {
        let after = self.errand.as_ref().and_then(|errand| errand.borrow_mut().take());
        if let Some(after) = after {
            self.errand = None;
            after(self);
        }
    }
}
