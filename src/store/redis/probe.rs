//! Tries the upstream out before anything depends on it, for `weir check`: whether it is reached, takes Weir's
//! credentials, and gives it the rights that routes need.
//!
//! The rights are tried by running the scripts, and the commands in them, on a key of Weir's own, which is gone when this
//! ends, or a second later; those to tell and hear that a load has ended by doing so. Without the latter all works, and
//! readers wait longer for loads of other Weirs.

use super::failure;
use super::handshake::{self, Upstream};
use super::listen;
use super::scripts::{ACQUIRE, ENTER, FILL, IF_PRESENT, INDEX, INVALIDATE, NOTE, RELEASE, RENEW, SET_ASIDE, Script};
use super::side_key::{Beside, Kind, TagKeys};
use super::talk::{self, Command, Talk};
use crate::config::{self, Address, Place};
use crate::resp::frame::Reply;
use crate::store::{Identity, StoreError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// What is wrong, and what to do about it where that is known.
pub type Trouble = (StoreError, Option<&'static str>);

/// The key that scripts are tried on.
const KEY: &str = "weir:{check}";
/// A lease, as ARGV of the scripts.
const LEASE: &str = "00000000000000010000000000000001";
/// The name of a list.
const LIST: &str = "0000000000000001";
/// What is written lives no longer, in ms.
const SHORT: &str = "1000";
/// All sentinels may take so long to be asked, one after the other.
const SEARCH: Duration = Duration::from_secs(5);
/// All questions together may take so long.
const ANSWERS: Duration = Duration::from_secs(5);

/// What Weir wants to do there, and so which rights it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// To pass commands on.
    Nothing,
    /// To fill routed keys.
    Routes,
    /// And to renew their TTLs.
    Sliding,
    /// And to tag them.
    Tags,
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Probed {
    /// Everything that is wrong.
    pub wrong: Vec<Trouble>,
    /// What could be better.
    pub warnings: Vec<String>,
}

/// What some routes want besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// They are to be kept near.
    pub near: bool,
    /// They have hashes, which are to be compared with the database.
    pub checks_hashes: bool,
}

/// Tries the upstream.
pub async fn probe(config: &config::Upstream, needs: Needs, wishes: Wishes) -> Probed {
    let found = match &config.place {
        Place::Cluster(seeds) => any_seed(config, seeds, needs).await,
        _ => one_server(config, needs, wishes).await,
    };
    found.unwrap_or_else(|error| Probed { wrong: with_advice(vec![error]), warnings: Vec::new() })
}

fn with_advice(errors: Vec<StoreError>) -> Vec<Trouble> {
    errors.into_iter().map(|error| (error.clone(), failure::advice(&error))).collect()
}

async fn one_server(config: &config::Upstream, needs: Needs, wishes: Wishes) -> Result<Probed, StoreError> {
    let upstream = Upstream::new(config.clone());
    upstream.follow(&Handle::current());
    upstream.found(SEARCH).await?;
    let identity = Identity { db: config.db, ..Identity::default() };
    let mut talk = Talk::new(handshake::connect(&upstream, &identity, &mut upstream.moves()).await?);
    let tried = try_rights(&upstream, &mut talk, needs, wishes);
    match needs {
        Needs::Nothing => Ok(Probed::default()),
        _ => timeout(ANSWERS, tried).await.unwrap_or(Err(StoreError::Timeout)),
    }
}

/// What the near cache asks of the upstream.
async fn try_tracking(talk: &mut Talk) -> Result<Vec<StoreError>, StoreError> {
    let questions =
        [&["CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", KEY][..], &["PTTL", KEY], &["CLIENT", "TRACKING", "OFF"]];
    errors(talk, &questions.map(talk::command)).await
}

async fn try_rights(upstream: &Upstream, talk: &mut Talk, needs: Needs, wishes: Wishes) -> Result<Probed, StoreError> {
    let mut wrong = try_scripts(upstream, talk, needs).await?;
    if wishes.near {
        wrong.extend(try_tracking(talk).await?);
    }
    if wishes.checks_hashes {
        wrong.extend(errors(talk, &[talk::command(&["HGETALL", KEY])]).await?);
    }
    let wrong = with_advice(wrong);
    // The last words on this connection: a subscriber may say nothing else.
    let refused = errors(talk, &listen::subscription()).await?;
    let mut warnings: Vec<String> = refused.into_iter().map(|error| format!("{error}; {}", listen::ADVICE)).collect();
    if needs >= Needs::Tags {
        warnings.extend(upstream.policies().dangers());
    }
    Ok(Probed { wrong, warnings })
}

/// One node that answers is enough.
async fn any_seed(config: &config::Upstream, seeds: &[Address], needs: Needs) -> Result<Probed, StoreError> {
    let cluster = Upstream::new(config.clone());
    let mut outcome = Ok(());
    for seed in seeds {
        let node = cluster.of_node(seed.clone(), false);
        outcome = handshake::connect(&node, &Identity::default(), &mut node.moves()).await.map(drop);
        if outcome.is_ok() {
            break;
        }
    }
    let warnings = if needs >= Needs::Tags { cluster.policies().dangers() } else { Vec::new() };
    outcome.map(|()| Probed { wrong: Vec::new(), warnings })
}

/// Every command that the scripts use, by itself, for only so does an error say which one it is of; then the scripts.
async fn try_scripts(upstream: &Upstream, talk: &mut Talk, needs: Needs) -> Result<Vec<StoreError>, StoreError> {
    let for_routes: &[&[&str]] = &[
        &["UNLINK", KEY],
        &["EXISTS", KEY],
        &["SET", KEY, "1", "PX", SHORT],
        &["GET", KEY],
        &["UNLINK", KEY],
        &["HSET", KEY, "field", "1"],
        &["HGET", KEY, "field"],
        &["PEXPIRE", KEY, SHORT],
        &["PTTL", KEY],
        &["UNLINK", KEY],
        &["SCAN", "0", "COUNT", "1"],
    ];
    let for_tags: &[&[&str]] = &[
        &["TIME"],
        &["ZADD", KEY, "1", "member"],
        &["ZREMRANGEBYSCORE", KEY, "5", "6"],
        &["ZRANGE", KEY, "0", "1"],
        &["RENAME", KEY, KEY],
        &["UNLINK", KEY],
        &["SADD", KEY, "member"],
        &["SMEMBERS", KEY],
        &["SREM", KEY, "member"],
        &["INCR", KEY],
        &["GETEX", KEY, "PX", SHORT],
        &["UNLINK", KEY],
    ];
    let for_notes: &[&[&str]] = &[&["HKEYS", KEY]];
    let direct = for_routes.iter().chain(if needs >= Needs::Sliding { for_notes } else { &[] });
    let direct = direct.chain(if needs >= Needs::Tags { for_tags } else { &[] });
    let wrong = errors(talk, &direct.map(|words| talk::command(words)).collect::<Vec<_>>()).await?;
    if !wrong.is_empty() {
        return Ok(wrong);
    }
    let by_hash = |script: &'static Script, keys: &[&str], arguments: &[&str]| match upstream.hash_of(script) {
        Some(hash) => call("EVALSHA", &hash, keys, arguments),
        None => call("EVAL", script.text, keys, arguments),
    };
    let names = Kind::ALL.map(|kind| Beside::of(KEY.as_bytes()).name(kind));
    let [lease, negative, note, end] = names.each_ref().map(|name| String::from_utf8_lossy(name));
    let all: &[&str] = &[KEY, &lease, &negative, &note, &end];
    let beside = &all[..3];
    let mut scripts = vec![
        call("EVAL", INVALIDATE.text, all, &[]),
        by_hash(&ACQUIRE, beside, &[LEASE, SHORT, "miss"]),
        by_hash(&FILL, all, &[LEASE, "fill", "string", SHORT, "0", "1"]),
        by_hash(&IF_PRESENT, beside, &["GET", KEY]),
        by_hash(&RELEASE, beside, &[]),
        by_hash(&INVALIDATE, all, &[]),
    ];
    if needs >= Needs::Sliding {
        scripts.push(by_hash(&NOTE, &[&note], &[SHORT]));
        scripts.push(by_hash(&RENEW, &[KEY, &note, &end], &[SHORT, "0"]));
    }
    if needs >= Needs::Tags {
        let keys = TagKeys::of(KEY.as_bytes());
        let names = [keys.index(), keys.mark(), keys.lists(), keys.list(LIST)];
        let [index, mark, lists, list] = names.each_ref().map(|name| String::from_utf8_lossy(name));
        scripts.push(by_hash(&INDEX, &[&index, &mark], &[KEY, SHORT]));
        if upstream.cluster().is_none() {
            scripts.push(by_hash(
                &ENTER,
                &[KEY, &lease, &negative, &index],
                &[SHORT, "fence", "SET", KEY, "1", "PX", SHORT],
            ));
        }
        scripts.push(by_hash(&SET_ASIDE, &[&index, &mark, &lists, &list], &["1", SHORT, LIST]));
        scripts.push(talk::command(&["UNLINK", &index, &mark, &lists, &list]));
    }
    errors(talk, &scripts).await
}

/// The errors among the replies, those that differ.
async fn errors(talk: &mut Talk, commands: &[Command]) -> Result<Vec<StoreError>, StoreError> {
    let mut texts = Vec::new();
    for reply in talk.exchange(commands).await? {
        if let Reply::Error(text) = reply {
            let text = String::from_utf8_lossy(&text).into_owned();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
    }
    Ok(texts.into_iter().map(StoreError::Refused).collect())
}

fn call(verb: &str, script: &str, keys: &[&str], arguments: &[&str]) -> Command {
    talk::command(&[&[verb, script, &keys.len().to_string()], keys, arguments].concat())
}
