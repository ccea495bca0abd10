//! One connection of the whole process that is subscribed to one channel, and made again for as long as the process lives.
//!
//! It follows the master behind sentinels. In a cluster any master will do, since messages go to all nodes. A connection that
//! is silent is asked whether it lives. What is told while there is none is lost: whoever subscribes is told of that, and has to
//! know what it means.

use super::handshake::{self, Upstream};
use super::link::{FIRST_PAUSE, LONGEST_PAUSE};
use super::talk::{Command, Talk, command};
use crate::resp::frame::Reply;
use crate::store::{Identity, StoreError};
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

/// Who subscribes.
pub trait Audience: Send + Sync + 'static {
    /// What is said on a new connection; the last of it subscribes.
    fn opening(&self) -> Vec<Command>;

    /// A message of the channel has come. The next is read when this is done.
    fn message(&self, payload: &[u8]) -> impl Future<Output = ()> + Send;

    /// From here on messages come, or do not come any more.
    fn attends(&self, attends: bool);

    /// The server does not let Weir subscribe; called once for each different answer.
    fn refused(&self, error: &StoreError);
}

/// Runs for as long as the process does.
pub async fn subscribe(upstream: Arc<Upstream>, audience: impl Audience) {
    let (mut pause, mut told) = (FIRST_PAUSE, String::new());
    loop {
        // A fault of our own must not leave others to believe that somebody listens.
        let ended = AssertUnwindSafe(hear(&upstream, &audience, &mut pause)).catch_unwind().await;
        audience.attends(false);
        let error = match ended {
            Ok(Err(error)) => error,
            Err(_) => StoreError::Unavailable("the task that listens failed".into()),
        };
        let is_refused = matches!(error, StoreError::Refused(_));
        if is_refused && told != error.to_string() {
            told = error.to_string();
            audience.refused(&error);
        }
        sleep(if is_refused { REFUSED_PAUSE } else { pause.mul_f64(1.0 + fastrand::f64() / 3.0) }).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until that is not possible any more; why.
async fn hear(
    upstream: &Arc<Upstream>,
    audience: &impl Audience,
    pause: &mut Duration,
) -> Result<Infallible, StoreError> {
    let server = server(upstream);
    let mut moves = server.moves();
    let (stream, _) = handshake::connect_private(&server, &Identity::default(), &mut moves).await?;
    let mut talk = Talk::new(stream);
    let opening = audience.opening();
    let begun = begin(&mut talk, &opening);
    timeout(upstream.timeout.max(ANSWER), begun).await.unwrap_or(Err(StoreError::Timeout))?;
    audience.attends(true);
    *pause = FIRST_PAUSE;
    tokio::select! {
        broke = attend(&mut talk, upstream, audience) => broke,
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

async fn begin(talk: &mut Talk, opening: &[Command]) -> Result<(), StoreError> {
    // For the server's CLIENT LIST; a user may lack the right to it.
    talk.exchange(&[command(&["CLIENT", "SETNAME", "weir"])]).await?;
    talk.ask(opening).await.map(drop)
}

/// Passes on what is heard, for as long as there are signs of life.
async fn attend(talk: &mut Talk, upstream: &Upstream, audience: &impl Audience) -> Result<Infallible, StoreError> {
    let mut asked = false;
    loop {
        let limit = if asked { upstream.timeout } else { SILENCE };
        match timeout(limit, talk.next()).await {
            Ok(reply) => {
                asked = false;
                if let Some(payload) = payload(&reply?) {
                    audience.message(payload).await;
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

/// That of `message CHANNEL PAYLOAD`. Other frames say that the server lives.
fn payload(message: &Reply) -> Option<&[u8]> {
    let Reply::Array(parts) = message else { return None };
    let [kind, _, payload] = &parts[..] else { return None };
    (kind.as_bytes() == Some(b"message")).then(|| payload.as_bytes()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_has_a_payload() {
        let frame = |words: [&str; 3]| Reply::Array(words.map(|word| Reply::Bulk(word.as_bytes().to_vec())).to_vec());
        assert_eq!(payload(&frame(["message", "c", "text"])), Some(&b"text"[..]));
        for other in [["pong", "", "text"], ["subscribe", "c", "1"]] {
            assert_eq!(payload(&frame(other)), None, "{other:?}");
        }
        assert_eq!(payload(&Reply::Simple("PONG".into())), None);
    }
}
