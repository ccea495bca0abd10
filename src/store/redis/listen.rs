//! Hears of the ends of other processes' leases, on one channel on which the *fill* of whichever process tells that a lease
//! has ended which somebody else waits for.
//!
//! While nobody listens, or the user may not PUBLISH or SUBSCRIBE (which is logged once), whoever waits for another
//! process's load looks for its end now and then ([`crate::cache`]). So nothing depends on this but how soon waiters are
//! answered, and what their waiting costs.
//!
//! tests/serve_fleet.rs holds it to this.

use super::handshake::Upstream;
use super::scripts::ENDED;
use super::subscriber::Audience;
use super::talk::{Command, command};
use crate::store::{StoreError, Token};
use std::sync::Arc;

/// Who waits for other processes' loads.
pub struct Waiters(Arc<Upstream>);

impl Waiters {
    /// Those of this process.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        metrics::describe_gauge!(
            "weir_upstream_subscribed",
            "1 if the ends of other processes' loads are heard, 0 if waiters look for them"
        );
        Waiters(upstream)
    }
}

/// What an operator does about a refusal.
pub const ADVICE: &str = "give Weir's user +publish and +subscribe, and the channel &weir:{*, so that readers who wait for \
     another Weir's load are woken when it ends";

/// Who may listen and not tell would leave others to wait: that is tried first, with an end that nobody waits for.
pub(super) fn subscription() -> [Command; 2] {
    [command(&["PUBLISH", ENDED, ""]), command(&["SUBSCRIBE", ENDED])]
}

impl Audience for Waiters {
    fn opening(&self) -> Vec<Command> {
        subscription().into()
    }

    async fn message(&self, payload: &[u8]) {
        if let Some(token) = ended(payload) {
            self.0.ends().hear(token);
        }
    }

    fn attends(&self, attends: bool) {
        match attends {
            true => self.0.ends().listen(),
            false => self.0.ends().break_off(),
        }
        metrics::gauge!("weir_upstream_subscribed").set(if attends { 1.0 } else { 0.0 });
    }

    fn refused(&self, error: &StoreError) {
        tracing::warn!(
            upstream = %self.0.address(),
            %error,
            hint = ADVICE,
            "loads of other Weirs are looked for, not heard of"
        );
    }
}

/// The lease that has ended. Other messages are none of ours.
fn ended(payload: &[u8]) -> Option<Token> {
    u64::from_str_radix(std::str::from_utf8(payload).ok()?, 16).ok().map(Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_where_they_are_heard() {
        assert!(super::super::scripts::FILL.text.contains(&format!("'PUBLISH', '{ENDED}'")));
    }

    #[test]
    fn only_a_token_is_an_end() {
        assert_eq!(ended(b"00000000000000ff"), Some(Token(255)));
        for other in [&b""[..], b"x", b"\xff"] {
            assert_eq!(ended(other), None, "{other:?}");
        }
    }
}
