//! Hears of the ends of other processes' leases: one connection of the whole process, subscribed to one channel, on which the
//! *fill* of whichever process tells that a lease has ended which somebody else waits for.
//!
//! It follows the master behind sentinels. In a cluster any master will do, since messages go to all nodes. A connection that
//! is silent is asked whether it lives; while there is none, or the user may not PUBLISH or SUBSCRIBE (which is logged
//! once), whoever waits for another process's load looks for its end now and then ([`crate::cache`]). So nothing depends
//! on this but how soon waiters are answered, and what their waiting costs.
//!
//! tests/serve_fleet.rs holds it to this.

use super::handshake::{self, Upstream};
use super::link::{FIRST_PAUSE, LONGEST_PAUSE};
use super::scripts::ENDED;
use super::talk::{Command, Talk, command};
use crate::resp::frame::Reply;
use crate::store::{Identity, StoreError, Token};
use futures_util::FutureExt;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A connection that is silent for so long is asked for a sign.
const SILENCE: Duration = Duration::from_secs(1);
/// To subscribe may take so long, or `timeout` if that is longer.
const ANSWER: Duration = Duration::from_secs(1);
/// Rights are seldom given while somebody waits for them.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// Runs for as long as the process does.
pub async fn listen(upstream: Arc<Upstream>) {
    metrics::describe_gauge!(
        "weir_upstream_subscribed",
        "1 if the ends of other processes' loads are heard, 0 if waiters look for them"
    );
    let (mut pause, mut told) = (FIRST_PAUSE, String::new());
    loop {
        // A fault of our own must not leave waiters who believe that somebody listens.
        let ended = AssertUnwindSafe(hear(&upstream, &mut pause)).catch_unwind().await;
        note(&upstream, false);
        let error = match ended {
            Ok(Err(error)) => error,
            Err(_) => StoreError::Unavailable("the task that listens failed".into()),
        };
        let is_refused = matches!(error, StoreError::Refused(_));
        if is_refused && told != error.to_string() {
            told = error.to_string();
            tracing::warn!(
                upstream = %upstream.address(),
                error = %told,
                hint = ADVICE,
                "loads of other Weirs are looked for, not heard of"
            );
        }
        sleep(if is_refused { REFUSED_PAUSE } else { pause.mul_f64(1.0 + fastrand::f64() / 3.0) }).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What an operator does about a refusal.
pub const ADVICE: &str = "give Weir's user +publish and +subscribe, and the channel &weir:{*, so that readers who wait for \
     another Weir's load are woken when it ends";

/// Listens until that is not possible any more; why.
async fn hear(upstream: &Arc<Upstream>, pause: &mut Duration) -> Result<Infallible, StoreError> {
    let server = server(upstream);
    let mut moves = server.moves();
    let (stream, _) = handshake::connect_private(&server, &Identity::default(), &mut moves).await?;
    let mut talk = Talk::new(stream);
    timeout(upstream.timeout.max(ANSWER), begin(&mut talk)).await.unwrap_or(Err(StoreError::Timeout))?;
    note(upstream, true);
    *pause = FIRST_PAUSE;
    tokio::select! {
        broke = attend(&mut talk, upstream) => broke,
        error = moves.next() => Err(error),
        error = server.leaves() => Err(error),
    }
}

/// The upstream itself, or one of the masters of the cluster.
fn server(upstream: &Arc<Upstream>) -> Arc<Upstream> {
    let Some(cluster) = upstream.cluster() else { return upstream.clone() };
    let topology = cluster.topology();
    let master = fastrand::choice(topology.masters().collect::<Vec<_>>());
    let address = master.map_or_else(|| cluster.seed(), |master| topology.node(master).address.clone());
    cluster.upstream(upstream, &address, false)
}

async fn begin(talk: &mut Talk) -> Result<(), StoreError> {
    // For the server's CLIENT LIST; a user may lack the right to it.
    talk.exchange(&[command(&["CLIENT", "SETNAME", "weir"])]).await?;
    talk.ask(&subscription()).await.map(drop)
}

/// Who may listen and not tell would leave others to wait: that is tried first, with an end that nobody waits for.
pub(super) fn subscription() -> [Command; 2] {
    [command(&["PUBLISH", ENDED, ""]), command(&["SUBSCRIBE", ENDED])]
}

fn note(upstream: &Upstream, listens: bool) {
    match listens {
        true => upstream.ends().listen(),
        false => upstream.ends().break_off(),
    }
    metrics::gauge!("weir_upstream_subscribed").set(if listens { 1.0 } else { 0.0 });
}

/// Passes on what is heard, for as long as there are signs of life.
async fn attend(talk: &mut Talk, upstream: &Upstream) -> Result<Infallible, StoreError> {
    let mut asked = false;
    loop {
        let limit = if asked { upstream.timeout } else { SILENCE };
        match timeout(limit, talk.next()).await {
            Ok(reply) => {
                asked = false;
                if let Some(token) = ended(&reply?) {
                    upstream.ends().hear(token);
                }
            }
            Err(_) if asked => return Err(StoreError::Timeout),
            Err(_) => {
                asked = true;
                let ping = command(&["PING"]);
                timeout(upstream.timeout, talk.say(&ping)).await.unwrap_or(Err(StoreError::Timeout))?;
            }
        }
    }
}

/// The token in `message CHANNEL TOKEN`. Other frames, and messages that are none of ours, say that the server lives.
fn ended(message: &Reply) -> Option<Token> {
    let Reply::Array(parts) = message else { return None };
    let [kind, _, payload] = &parts[..] else { return None };
    let payload = std::str::from_utf8(payload.as_bytes()?).ok()?;
    let token = u64::from_str_radix(payload, 16).ok()?;
    (kind.as_bytes() == Some(b"message")).then_some(Token(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_where_they_are_heard() {
        assert!(super::super::scripts::FILL.text.contains(&format!("'PUBLISH', '{ENDED}'")));
    }

    #[test]
    fn only_a_message_with_a_token_is_an_end() {
        let frame = |words: [&str; 3]| Reply::Array(words.map(|word| Reply::Bulk(word.as_bytes().to_vec())).to_vec());
        assert_eq!(ended(&frame(["message", ENDED, "00000000000000ff"])), Some(Token(255)));
        for other in [["message", ENDED, ""], ["message", ENDED, "x"], ["pong", "", "ff"], ["subscribe", ENDED, "1"]] {
            assert_eq!(ended(&frame(other)), None, "{other:?}");
        }
        assert_eq!(ended(&Reply::Simple("PONG".into())), None);
    }
}
