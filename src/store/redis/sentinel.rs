//! Follows the master through sentinels: asks them where it is, and hears from them when it moves.
//!
//! One task for the whole process. It stays with one sentinel for as long as that answers: a first connection is
//! subscribed to its news, a second is asked once a second, for news can be lost, and more often while links cannot
//! reach the master. When the sentinel fails, or points to a server that says itself that it is no master, the next
//! one's turn has come. Sentinels tell of each other, so one of the URL is enough to begin with.
//!
//! Promises: links are sent to a server only after it has said that it is a master (ROLE); at an announcement, all leave
//! the old one before anything else is done; a sentinel that was cut off and has an older configuration than one heard
//! before, or than another that can be asked, is not believed.
//!
//! tests/serve_sentinel.rs holds it to this.

use super::dial;
use super::master::Whereabouts;
use super::talk::{self, Command, Talk, command};
use crate::config::{self, Address, Sentinels};
use crate::resp::frame::Reply;
use crate::store::StoreError;
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Channels of a sentinel. The one that leads a failover names the new master from `+promoted-slave` on, and announces it
/// after the other replicas have turned to it; the others announce it as soon as they hear of it.
const NEWS: [&str; 2] = ["+switch-master", "+promoted-slave"];
/// How often the sentinel is asked while all is well.
const POLL: Duration = Duration::from_secs(1);
/// The pause before the next sentinel is asked while the master is not known. Up to a third longer, by chance.
const RETRY: Duration = Duration::from_millis(250);
/// Doubts are looked into no more often than this.
const BETWEEN_DOUBTS: Duration = Duration::from_millis(100);
/// One question, a connection included, may take this long.
const ANSWER: Duration = Duration::from_secs(1);
/// So long the others have to contradict a sentinel; those that are down must not hold up a failover.
const COMPARISON: Duration = Duration::from_millis(250);
/// Most sentinels that are remembered.
const MOST_SENTINELS: usize = 32;

/// Runs for as long as the process does.
pub async fn follow(upstream: config::Upstream, sentinels: Sentinels, master: Arc<Whereabouts>) {
    let known = sentinels.addresses.clone();
    metrics::describe_counter!("weir_upstream_failovers_total", "How often the master behind the sentinels has moved");
    let failovers = metrics::counter!("weir_upstream_failovers_total");
    let mut follower = Follower { upstream, sentinels, master, known, in_vain: 0, epoch: 0, last: None, failovers };
    // A fault of our own must not leave links that nobody tells of a failover.
    while AssertUnwindSafe(follower.run()).catch_unwind().await.is_err() {
        tracing::error!("the task that follows the sentinels failed and begins again");
        sleep(RETRY).await;
    }
}

struct Follower {
    upstream: config::Upstream,
    sentinels: Sentinels,
    master: Arc<Whereabouts>,
    /// Sentinels: those of the URL, then those that were learned.
    known: Vec<Address>,
    /// So many were asked since one of them led to the master.
    in_vain: usize,
    /// The highest configuration epoch that a sentinel has told.
    epoch: u64,
    /// Where the master was found last.
    last: Option<Address>,
    failovers: metrics::Counter,
}

/// What a sentinel says of the master.
struct Answer {
    address: Address,
    epoch: u64,
    sentinels: Vec<Address>,
}

impl Follower {
    async fn run(&mut self) {
        let mut turn = 0;
        loop {
            let sentinel = self.known[turn % self.known.len()].clone();
            let error = self.stay_with(&sentinel).await;
            tracing::debug!(%sentinel, %error, "asking the next sentinel");
            self.in_vain += 1;
            if self.in_vain == self.known.len() {
                tracing::warn!(name = %self.sentinels.name, %error, "no sentinel leads to the master; asking on");
                // Sentinels that were all made anew count from the beginning.
                self.epoch = 0;
            }
            // One that is down must not fail commands that the next may find the master for.
            if self.in_vain >= self.known.len() && self.master.known().is_none() {
                self.master.lost(error);
            }
            turn += 1;
            sleep(RETRY.mul_f64(1.0 + fastrand::f64() / 3.0)).await;
        }
    }

    /// Asks and hears one sentinel until it fails or is of no use; why.
    async fn stay_with(&mut self, sentinel: &Address) -> StoreError {
        let Err(error) = self.try_stay_with(sentinel).await;
        about("sentinel", sentinel, error)
    }

    async fn try_stay_with(&mut self, sentinel: &Address) -> Result<std::convert::Infallible, StoreError> {
        // First to hear and then to ask, so that nothing happens unnoticed in between.
        let mut news = self.open(sentinel).await?;
        within(news.ask(&NEWS.map(|channel| command(&["SUBSCRIBE", channel])))).await?;
        let mut talk = self.open(sentinel).await?;
        let mut doubted = false;
        loop {
            let answer = self.question(&mut talk).await?;
            self.learn(sentinel, &answer)?;
            if self.master.known().as_ref() != Some(&answer.address) {
                self.leave_for(&answer.address);
                self.compare(sentinel).await;
                self.learn(sentinel, &answer)?;
            }
            self.go_to(answer.address, doubted).await?;
            self.in_vain = 0;
            doubted = false;
            tokio::select! {
                message = news.next() => self.hear(&message?),
                () = async { sleep(BETWEEN_DOUBTS).await; self.master.doubted().await } => doubted = true,
                () = async { sleep(BETWEEN_DOUBTS).await; self.master.missed().await } => {}
                () = sleep(POLL) => {}
            }
        }
    }

    async fn open(&self, sentinel: &Address) -> Result<Talk, StoreError> {
        within(async {
            let mut talk = Talk::new(dial::address(sentinel, self.upstream.tls.as_ref()).await?);
            let auth = talk::auth(self.sentinels.user.as_deref(), self.sentinels.password.as_ref());
            talk.ask(auth.as_slice()).await?;
            Ok(talk)
        })
        .await
    }

    async fn question(&self, talk: &mut Talk) -> Result<Answer, StoreError> {
        let name = self.sentinels.name.as_str();
        let questions: Vec<Command> = ["GET-MASTER-ADDR-BY-NAME", "MASTER", "SENTINELS"]
            .iter()
            .map(|question| command(&["SENTINEL", question, name]))
            .collect();
        let unknown = || StoreError::Refused(format!("it knows no master named {name}"));
        let replies = match within(talk.ask(&questions)).await {
            Ok(replies) => replies,
            Err(StoreError::Refused(text)) if text.contains("No such master") => return Err(unknown()),
            Err(error) => return Err(error),
        };
        Ok(Answer {
            address: address_of_pair(&replies[0]).ok_or_else(unknown)?,
            epoch: field(&replies[1], "config-epoch").and_then(|digits| digits.parse().ok()).unwrap_or(0),
            sentinels: sentinels_of(&replies[2]),
        })
    }

    /// Asks the other sentinels too, before links are sent elsewhere: one that was cut off names the master of old, which
    /// may still take itself for one.
    async fn compare(&mut self, sentinel: &Address) {
        let others = self.known.iter().filter(|other| *other != sentinel);
        let epochs = others.map(|other| async {
            let asking = async { self.question(&mut self.open(other).await?).await };
            timeout(COMPARISON, asking).await.ok()?.ok().map(|answer| answer.epoch)
        });
        let newest = join_all(epochs).await.into_iter().flatten().max();
        self.epoch = self.epoch.max(newest.unwrap_or(0));
    }

    /// Takes over what a sentinel knows, unless others have known more.
    fn learn(&mut self, sentinel: &Address, answer: &Answer) -> Result<(), StoreError> {
        if answer.epoch < self.epoch {
            let why = format!("its configuration is of epoch {}, and {} was heard", answer.epoch, self.epoch);
            return Err(StoreError::Unavailable(why));
        }
        self.epoch = answer.epoch;
        let mut known = self.sentinels.addresses.clone();
        for address in std::iter::once(sentinel).chain(&answer.sentinels) {
            if known.len() < MOST_SENTINELS && !known.contains(address) {
                known.push(address.clone());
            }
        }
        self.known = known;
        Ok(())
    }

    /// Sends the links there, once the server has said that it is a master.
    async fn go_to(&mut self, address: Address, doubted: bool) -> Result<(), StoreError> {
        let known = self.master.known();
        if known.as_ref() == Some(&address) && !doubted {
            return Ok(());
        }
        match self.is_master(&address).await {
            Ok(true) => {}
            Ok(false) => {
                let error = StoreError::Unavailable(format!("{address} is a replica"));
                self.master.lost(error.clone());
                return Err(error);
            }
            // Links that cannot reach it find that out themselves, and find it again when it is back.
            Err(_) if known.as_ref() == Some(&address) => return Ok(()),
            Err(error) => {
                self.master.lost(error.clone());
                return Err(error);
            }
        }
        match self.last.replace(address.clone()) {
            Some(last) if last != address => {
                tracing::warn!(name = %self.sentinels.name, from = %last, to = %address, "the master has moved");
                self.failovers.increment(1);
            }
            Some(_) => {}
            None => tracing::info!(name = %self.sentinels.name, %address, "the sentinels know the master"),
        }
        self.master.found(address);
        Ok(())
    }

    async fn is_master(&self, address: &Address) -> Result<bool, StoreError> {
        within(async {
            let mut talk = Talk::new(dial::address(address, self.upstream.tls.as_ref()).await?);
            let auth = talk::auth(self.upstream.user.as_deref(), self.upstream.password.as_ref());
            let commands: Vec<Command> = auth.into_iter().chain([command(&["ROLE"])]).collect();
            let replies = talk.ask(&commands).await?;
            Ok(replies.last().is_some_and(talk::is_master))
        })
        .await
        .map_err(|error| about("its master", address, error))
    }

    /// A message that was subscribed to. After any, the sentinel is asked.
    fn hear(&self, message: &Reply) {
        if let Some(to) = announced(message, &self.sentinels.name) {
            self.leave_for(&to);
        }
    }

    /// Links leave the master at once if this is another: what it still takes is lost when it is demoted.
    fn leave_for(&self, to: &Address) {
        if self.master.known().is_some_and(|known| known != *to) {
            tracing::debug!(name = %self.sentinels.name, %to, "the sentinels name another master");
            self.master.lost(StoreError::Unavailable(format!("the sentinels name {to} as the new master")));
        }
    }
}

/// The error, with whom it is about in front.
fn about(whom: &str, address: &Address, error: StoreError) -> StoreError {
    let named = |why: String| {
        let prefix = format!("{address}: ");
        format!("{whom} {prefix}{}", why.strip_prefix(&prefix).unwrap_or(&why))
    };
    match error {
        StoreError::Unavailable(why) => StoreError::Unavailable(named(why)),
        StoreError::Refused(why) => StoreError::Refused(named(why)),
        StoreError::Protocol(why) => StoreError::Protocol(named(why)),
        StoreError::Timeout => StoreError::Unavailable(named("no answer in time".into())),
        other @ (StoreError::Full | StoreError::InDoubt | StoreError::Unsent(_)) => other,
    }
}

async fn within<T>(asking: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(ANSWER, asking).await.unwrap_or(Err(StoreError::Timeout))
}

/// The new master in `NAME OLD-HOST OLD-PORT NEW-HOST NEW-PORT`, if the name is this one.
fn announced(message: &Reply, name: &str) -> Option<Address> {
    let Reply::Array(parts) = message else { return None };
    let [kind, _, payload] = &parts[..] else { return None };
    let (kind, payload) = (text(kind)?, text(payload)?);
    let rest = payload.strip_prefix(name)?.strip_prefix(' ').filter(|_| kind == "message")?;
    let [_, _, host, port] = rest.split(' ').collect::<Vec<_>>()[..] else { return None };
    address(host, port)
}

fn address_of_pair(reply: &Reply) -> Option<Address> {
    let Reply::Array(parts) = reply else { return None };
    let [host, port] = &parts[..] else { return None };
    address(text(host)?, text(port)?)
}

/// What SENTINEL SENTINELS lists.
fn sentinels_of(reply: &Reply) -> Vec<Address> {
    let Reply::Array(sentinels) = reply else { return Vec::new() };
    sentinels.iter().filter_map(|one| address(field(one, "ip")?, field(one, "port")?)).collect()
}

fn address(host: &str, port: &str) -> Option<Address> {
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| Address { host: host.to_owned(), port })
}

/// A field in a list of names and values.
fn field<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let Reply::Array(parts) = reply else { return None };
    parts.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).and_then(|pair| text(&pair[1]))
}

fn text(reply: &Reply) -> Option<&str> {
    std::str::from_utf8(reply.as_bytes()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Reply {
        Reply::Array(words.iter().map(|word| Reply::Bulk(word.as_bytes().to_vec())).collect())
    }

    fn at(host: &str, port: u16) -> Option<Address> {
        Some(Address { host: host.into(), port })
    }

    #[test]
    fn an_announcement_is_of_one_name() {
        let message = |payload| list(&["message", "+switch-master", payload]);
        let payload = "my-cache 10.0.0.1 6379 10.0.0.2 6380";
        assert_eq!(announced(&message(payload), "my-cache"), at("10.0.0.2", 6380));
        assert_eq!(announced(&message(payload), "my"), None);
        assert_eq!(announced(&message("my-cache 10.0.0.1 6379"), "my-cache"), None);
        assert_eq!(announced(&message("my-cache 10.0.0.1 6379 10.0.0.2 x"), "my-cache"), None);
        assert_eq!(announced(&list(&["subscribe", "+switch-master", payload]), "my-cache"), None);
        assert_eq!(announced(&Reply::Nil, "my-cache"), None);
    }

    #[test]
    fn answers_that_are_none_are_not_taken_for_one() {
        assert_eq!(address_of_pair(&list(&["::1", "6379"])), at("::1", 6379));
        for none in [Reply::Nil, list(&["h"]), list(&["h", "0"]), list(&["", "1"]), list(&["h", "70000"])] {
            assert_eq!(address_of_pair(&none), None, "{none:?}");
        }
        let sentinels = Reply::Array(vec![
            list(&["name", "x", "ip", "10.0.0.1", "port", "26379", "runid", ""]),
            list(&["name", "y", "ip", "10.0.0.2"]),
            Reply::Nil,
        ]);
        assert_eq!(sentinels_of(&sentinels), [at("10.0.0.1", 26379).expect("an address")]);
        assert_eq!(field(&list(&["flags", "config-epoch", "config-epoch", "7"]), "config-epoch"), Some("7"));
    }
}
