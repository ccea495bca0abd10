//! Ends of leases that other processes hold, as this process hears of them.
//!
//! Whoever finds another process's lease at the store waits for its end instead of asking again and again (T14). The store
//! tells each end once, to whoever listens at that moment; so nothing may get lost between the store's answer, which shows
//! the lease, and the registration of who waits for it:
//!
//! 1. Before the store is asked, [`Ends::since`] notes how many ends were heard so far.
//! 2. The store answers: lease L stands. Its holder fills, and L's end is told at once.
//! 3. The end is heard before the answer is read. Nobody waits for L yet, so it only joins the newest ends.
//! 4. [`Ends::of`] finds L among the ends heard since 1, and who asked looks again without waiting.
//!
//! An end that is not heard (the link was lost, the holder has died) is no harm but for the time: every lease ends by
//! itself, [`End::left`] says when, and whoever waits looks again then. While nobody listens there is no [`End`] to wait
//! for at all, and when listening breaks off, all who wait are sent to look.
//!
//! Bounded: the newest ends are a fixed number, and what waits is no more than the reads that do.

use super::Token;
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// So many of the newest ends are remembered. Who has missed more while asking once looks again at once.
const MOST_RECENT: usize = 1024;

/// The registry of one process.
#[derive(Debug, Default)]
pub struct Ends(Mutex<State>);

/// The lock is held for a few instructions, and only on the way of a miss.
#[derive(Debug, Default)]
struct State {
    listens: bool,
    /// How often listening has begun: what was told in a pause is not known.
    begun: u64,
    heard: u64,
    recent: VecDeque<Token>,
    /// Whoever waits sees the end of the channel. The order is fixed, so that a seed replays a test.
    waiting: HashMap<Token, watch::Sender<()>, FixedState>,
}

/// A moment before the store is asked.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    begun: u64,
    heard: u64,
}

/// The end of one lease, to be waited for.
#[derive(Debug)]
pub struct End {
    /// The lease ends by itself after this, as the store said.
    pub left: Duration,
    /// `None`: it has ended already.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    token: Token,
    call: watch::Receiver<()>,
    ends: Arc<Ends>,
}

impl Ends {
    /// To be noted before the store is asked.
    pub fn since(&self) -> Since {
        let state = self.0.lock();
        Since { begun: state.begun, heard: state.heard }
    }

    /// The end of the lease that the store has shown, asked after `since`. `None`: it would not be heard; look again.
    pub fn of(self: &Arc<Self>, token: Token, left: Duration, since: Since) -> Option<End> {
        let mut state = self.0.lock();
        if !state.listens || state.begun != since.begun {
            return None;
        }
        let news = (state.heard - since.heard) as usize;
        if news > state.recent.len() || state.recent.iter().rev().take(news).any(|&ended| ended == token) {
            return Some(End { left, waiting: None });
        }
        let call = state.waiting.entry(token).or_insert_with(|| watch::channel(()).0).subscribe();
        Some(End { left, waiting: Some(Waiting { token, call, ends: self.clone() }) })
    }

    /// From here on every end is heard.
    pub fn listen(&self) {
        let mut state = self.0.lock();
        state.listens = true;
        state.begun += 1;
    }

    /// Ends are not heard any more: all who wait must look themselves.
    pub fn break_off(&self) {
        let mut state = self.0.lock();
        state.listens = false;
        state.waiting.clear();
    }

    /// A lease has ended.
    pub fn hear(&self, token: Token) {
        let mut state = self.0.lock();
        state.heard += 1;
        if state.recent.len() == MOST_RECENT {
            state.recent.pop_front();
        }
        state.recent.push_back(token);
        state.waiting.remove(&token);
    }

    /// Leases whose ends are waited for.
    #[cfg(test)]
    fn awaited(&self) -> usize {
        self.0.lock().waiting.len()
    }
}

impl End {
    /// Completes once the end is heard, or cannot be heard any more. Perhaps never.
    pub async fn heard(mut self) {
        if let Some(waiting) = &mut self.waiting {
            // Nothing is ever sent: what is waited for is the end of the channel.
            let _ = waiting.call.changed().await;
        }
    }
}

impl Drop for Waiting {
    /// The last one who waits for a lease leaves nothing behind.
    fn drop(&mut self) {
        let mut state = self.ends.0.lock();
        if state.waiting.get(&self.token).is_some_and(|sender| sender.receiver_count() == 1) {
            state.waiting.remove(&self.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const LEFT: Duration = Duration::from_secs(3);

    fn listening() -> Arc<Ends> {
        let ends = Arc::<Ends>::default();
        ends.listen();
        ends
    }

    #[test]
    fn an_end_is_heard_by_all_who_wait_for_it_and_by_nobody_else() {
        let ends = listening();
        let since = ends.since();
        let [one, two, other] = [1, 1, 2].map(|token| ends.of(Token(token), LEFT, since).expect("they listen"));
        let mut heard = [one, two, other].map(|end| Box::pin(end.heard()));
        assert!(heard.iter_mut().all(|heard| heard.as_mut().now_or_never().is_none()));
        ends.hear(Token(1));
        let told = heard.each_mut().map(|heard| heard.as_mut().now_or_never().is_some());
        assert_eq!(told, [true, true, false]);
        ends.break_off();
        assert!(heard[2].as_mut().now_or_never().is_some(), "who cannot hear any more must look");
        assert!(ends.of(Token(3), LEFT, ends.since()).is_none());
    }

    #[test]
    fn an_end_that_is_heard_before_the_store_s_answer_is_read_is_not_lost() {
        let ends = listening();
        let since = ends.since();
        ends.hear(Token(1));
        ends.hear(Token(2));
        let of = |token| ends.of(Token(token), LEFT, since).expect("they listen").heard().now_or_never();
        assert_eq!([of(1), of(2), of(3)], [Some(()), Some(()), None]);
        let later = ends.of(Token(1), LEFT, ends.since()).expect("they listen");
        assert!(later.heard().now_or_never().is_none(), "what was heard before is no news");
        for token in 10..10 + MOST_RECENT as u64 {
            ends.hear(Token(token));
        }
        assert_eq!(of(3), Some(()), "more was heard than is remembered: it may have been among that");
    }

    #[test]
    fn what_was_told_in_a_pause_counts_as_not_heard() {
        let ends = listening();
        let since = ends.since();
        ends.break_off();
        ends.listen();
        assert!(ends.of(Token(1), LEFT, since).is_none());
        assert!(ends.of(Token(1), LEFT, ends.since()).is_some());
    }

    #[test]
    fn who_waits_no_longer_leaves_nothing_behind() {
        let ends = listening();
        let since = ends.since();
        let waiting: Vec<End> = (0..3).filter_map(|_| ends.of(Token(1), LEFT, since)).collect();
        assert_eq!((waiting.len(), ends.awaited()), (3, 1));
        let mut waiting = waiting.into_iter();
        drop((waiting.next(), waiting.next()));
        assert_eq!(ends.awaited(), 1, "one waits still");
        drop(waiting);
        assert_eq!(ends.awaited(), 0);
        for token in 0..3 * MOST_RECENT as u64 {
            ends.hear(Token(token));
        }
        assert_eq!(ends.0.lock().recent.len(), MOST_RECENT);
    }
}
