//! Where cached data lives: a Redis upstream, or the embedded store.
//!
//! The engine meets a store through [`Store`] only: three steps on one key, each atomic at the store.
//! Clients' own commands do not pass here; the server hands their bytes to the same store as they are.
//!
//! Beside each key may stand two side keys of Weir's own: its *lease* (the right to load it: a random token with a
//! time limit) and its *negative entry* ("the database has no such row", with a short TTL). Every change of a key
//! drops both before it is made, which is what refuses the fill of a load that began earlier (G1, T1). Of a key that clients
//! fill themselves there is no such load; its lease goes after the change, for those who wait for it.
//!
//! Each database number has a *sequence*, which counts invalidations by tag, and for each tag an *index* of the keys that
//! have it, and a *mark*: the number of its newest invalidation. `cache::tags` tells how they work together. Beside the value of
//! a key may stand a *note* of the tags that the key does not tell, so that they can be kept as long as the key.

mod backend;
pub mod embedded;
pub mod ends;
mod identity;
pub mod look;
pub mod redis;
mod way;

pub use self::backend::Backend;
pub use self::identity::{Credentials, Identity};
pub use self::way::Way;

use self::ends::End;
use crate::value::Value;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use std::future::Future;
use std::time::Duration;

/// A lease's random token. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A key as the store knows it: database number and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreKey {
    /// Number of the Redis database (`SELECT`).
    pub db: u32,
    /// The key's bytes.
    pub name: Bytes,
}

/// The number of an invalidation by tag, of one database number: a counter of the store's and never a clock (T43).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub u64);

/// The random name of a list of keys that an invalidation by tag has set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListId(pub u64);

/// How long a tag's mark stands at least: longer than any load takes, for the longest `load_timeout` is an hour.
pub const MARK_LIFE: Duration = Duration::from_secs(2 * 3600);

/// A lease that is asked for together with others.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The key.
    pub key: StoreKey,
    /// The lease's token, unlike all others.
    pub token: Token,
}

/// The outcome of a load that is stored together with others.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The key.
    pub key: StoreKey,
    /// Its lease.
    pub token: Token,
    /// What it leaves behind.
    pub fill: Fill,
}

/// A tag, and keys that have it.
#[derive(Clone, Debug)]
pub struct Tagged {
    /// Its name.
    pub tag: Bytes,
    /// The keys, each once.
    pub keys: Vec<Bytes>,
}

/// What [`Store::acquire`] found.
#[derive(Debug, PartialEq)]
pub enum Acquired {
    /// The key holds a value, of whatever type.
    Present,
    /// The database is known to have no such row.
    Negative,
    /// Nobody was loading: the caller's token is the lease now.
    Granted,
    /// Somebody else's lease stands.
    Held(Held),
}

/// A lease that stands.
#[derive(Debug)]
pub struct Held {
    /// Its token.
    pub token: Token,
    /// Its end, where that will be told: it is another process's, and the store tells. Else whoever waits looks again.
    pub end: Option<End>,
}

/// Leases are told apart by their tokens alone.
impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl From<Token> for Held {
    /// One whose end nobody tells.
    fn from(token: Token) -> Self {
        Held { token, end: None }
    }
}

/// What a load leaves behind.
#[derive(Clone, Debug)]
pub enum Fill {
    /// Store the value, to live for `ttl`.
    Value {
        /// The value, raw.
        value: Value,
        /// Its time to live.
        ttl: Duration,
        /// Those of its tags that its key does not tell; noted beside it, in the place of those that an earlier fill noted.
        /// What [`Store::note_tags`] has noted beside a value stays with the one that takes its place.
        tags: Vec<Bytes>,
    },
    /// Remember for `ttl` that there is no such row.
    Negative {
        /// How long.
        ttl: Duration,
    },
    /// Store nothing, only give the lease back.
    Nothing,
    /// Store nothing, and keep nothing that a refresh was to replace.
    Gone,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Done, and the lease is given back.
    Stored,
    /// The lease was gone: the key was changed meanwhile, or the lease's time had passed. Nothing was stored.
    LeaseLost,
    /// The lease stood, but the key holds a value that somebody else wrote. Nothing was stored, the lease is given back.
    Occupied,
}

/// The steps of the cache protocol that a store must make atomic, for one key or one tag each.
pub trait Store {
    /// Counts how often the store may have lost what was acknowledged: it came back with what it held earlier, or another took
    /// its place. `None`: that is so now, and nothing that it holds may be served. Known before the first answer of such a
    /// store.
    fn epoch(&self) -> Option<u64>;

    /// Looks for the value, then the negative entry, then a lease; where there is none of them, takes the lease.
    fn acquire(
        &self,
        key: &StoreKey,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Acquired, StoreError>>;

    /// Stores the outcome of a load, if `token` is still the lease and the key is absent; drops that lease.
    fn fill(&self, key: &StoreKey, token: Token, fill: Fill) -> impl Future<Output = Result<Filled, StoreError>>;

    /// Most keys that one step takes, of the steps for many. 1: they are the steps for one key, made side by side, and gain
    /// nothing.
    fn most_together(&self) -> usize {
        1
    }

    /// [`Store::acquire`] of no more than [`Store::most_together`] keys of database `db`; answers in their order. What holds of each
    /// key's step holds here, and nothing besides: others' steps may come between two of these.
    fn acquire_all(
        &self,
        _db: u32,
        asked: &[Asked],
        lease: Duration,
    ) -> impl Future<Output = Vec<Result<Acquired, StoreError>>> {
        join_all(asked.iter().map(move |Asked { key, token }| self.acquire(key, *token, lease)))
    }

    /// [`Store::fill`] of as many; answers in their order.
    fn fill_all(&self, _db: u32, outcomes: Vec<Outcome>) -> impl Future<Output = Vec<Result<Filled, StoreError>>> {
        async move {
            let fill = |Outcome { key, token, fill }| async move { self.fill(&key, token, fill).await };
            join_all(outcomes.into_iter().map(fill)).await
        }
    }

    /// [`Store::index`] of as many under each of these tags. Answers each tag's mark, as it was once the last of its keys was in
    /// its index, or later.
    fn index_all(
        &self,
        db: u32,
        tagged: &[Tagged],
        life: Duration,
    ) -> impl Future<Output = Result<Vec<Sequence>, StoreError>> {
        async move {
            try_join_all(tagged.iter().map(|Tagged { tag, keys }| async move {
                let index = |name: &Bytes| {
                    let key = StoreKey { db, name: name.clone() };
                    async move { self.index(&key, tag, life).await }
                };
                // Marks only rise.
                Ok(try_join_all(keys.iter().map(index)).await?.into_iter().max().unwrap_or_default())
            }))
            .await
        }
    }

    /// Takes the lease of a key that is to be refreshed, whatever stands there, unless somebody holds it: then
    /// [`Acquired::Held`], and else [`Acquired::Granted`].
    fn acquire_to_refresh(
        &self,
        key: &StoreKey,
        token: Token,
        lease: Duration,
    ) -> impl Future<Output = Result<Acquired, StoreError>>;

    /// Puts the outcome of a load in the place of what is there, if `token` is still the lease; drops that lease. `due`: only if
    /// what is there has no more than so much left to live, else [`Filled::Occupied`]. For a lease that is taken after a
    /// client's change tells nothing of that change.
    fn replace(
        &self,
        key: &StoreKey,
        token: Token,
        fill: Fill,
        due: Option<Duration>,
    ) -> impl Future<Output = Result<Filled, StoreError>>;

    /// Takes the lease of a key that is to be refreshed, whatever stands there and whoever holds it: the fill of a load that
    /// is under way is refused.
    fn seize(&self, key: &StoreKey, token: Token, lease: Duration) -> impl Future<Output = Result<(), StoreError>>;

    /// Deletes value, lease and negative entry. True if there was a value.
    fn invalidate(&self, key: &StoreKey) -> impl Future<Output = Result<bool, StoreError>>;

    /// Deletes values, leases and negative entries of all `keys` of database `db`, each key in a step of its own. Answers
    /// how many values there were.
    fn invalidate_all(&self, db: u32, keys: &[Bytes]) -> impl Future<Output = Result<usize, StoreError>>;

    /// The number of the newest invalidation by tag in `db`.
    fn sequence(&self, db: u32) -> impl Future<Output = Result<Sequence, StoreError>>;

    /// The number of a new one.
    fn next_sequence(&self, db: u32) -> impl Future<Output = Result<Sequence, StoreError>>;

    /// Puts `key` into the index of `tag`, to stay there for `life` at least, and answers the tag's mark.
    fn index(&self, key: &StoreKey, tag: &[u8], life: Duration) -> impl Future<Output = Result<Sequence, StoreError>>;

    /// Raises the mark of `tag` to `number`, and turns its index into the list `list`, which never changes again, until it
    /// is dropped. Answers all lists of the tag: this one, and those of others who are at work on them or have given up.
    fn set_aside(
        &self,
        db: u32,
        tag: &[u8],
        number: Sequence,
        list: ListId,
    ) -> impl Future<Output = Result<Vec<ListId>, StoreError>>;

    /// At most `count` of a list's keys from position `from`; none beyond its end, or if it was dropped.
    fn listed(
        &self,
        db: u32,
        tag: &[u8],
        list: ListId,
        from: usize,
        count: usize,
    ) -> impl Future<Output = Result<Vec<Bytes>, StoreError>>;

    /// Drops a list of which every key was invalidated after it was set aside.
    fn drop_list(&self, db: u32, tag: &[u8], list: ListId) -> impl Future<Output = Result<(), StoreError>>;

    /// Notes beside the value of `key` that it has these tags too, and answers all that are noted there. The note lasts
    /// for `life` at least, or as long as the value.
    fn note_tags(
        &self,
        key: &StoreKey,
        tags: &[Bytes],
        life: Duration,
    ) -> impl Future<Output = Result<Vec<Bytes>, StoreError>>;

    /// Lets a value, and what is noted beside it, live for `life`, if it would end earlier, has more than `grace` left, and
    /// nobody holds its end. Answers the tags that are noted; `None`: nothing was done.
    fn renew(
        &self,
        key: &StoreKey,
        life: Duration,
        grace: Duration,
    ) -> impl Future<Output = Result<Option<Vec<Bytes>>, StoreError>>;

    /// A client has said when `key` is to end: for this time [`Store::renew`] leaves it alone. For none, if that was another value's
    /// end. A fill that stores something lets go of the end too.
    fn hold_end(&self, key: &StoreKey, time: Duration) -> impl Future<Output = Result<(), StoreError>>;
}

/// Why a store did not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Not connected, or the link broke before the answer. A retry may help.
    #[error("upstream unreachable: {0}")]
    Unavailable(String),
    /// No answer within `[upstream] timeout`. A retry may help.
    #[error("upstream did not answer in time")]
    Timeout,
    /// The upstream answered an error; the text is its own.
    #[error("upstream refused: {0}")]
    Refused(String),
    /// One more link that serves one client alone would be too many: see [`crate::config::Limits::max_private_links`].
    #[error("max_private_links reached")]
    Full,
    /// The upstream's bytes are no RESP. Its link is closed.
    #[error("upstream broke the protocol: {0}")]
    Protocol(String),
    /// What it holds of the key must not be served yet: it has missed an invalidation, or come back with what it held earlier.
    #[error("upstream holds what was invalidated while it could not be reached")]
    InDoubt,
    /// For one of the reasons above, and before any of the command was sent: it has certainly not run.
    #[error("{0}")]
    Unsent(Box<StoreError>),
}

/// What a server's refusals begin with that speak of its state, and not of the command or of who gives it.
const PASSING: [&str; 9] =
    ["OOM", "READONLY", "LOADING", "BUSY", "MISCONF", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"];

impl StoreError {
    /// The same, of a command of which nothing was sent. What is in doubt is to be asked for again by nobody but who knows that.
    pub fn unsent(self) -> Self {
        match self {
            StoreError::Unsent(_) | StoreError::InDoubt => self,
            error => StoreError::Unsent(Box::new(error)),
        }
    }

    /// Whether the command has certainly not run.
    pub fn is_unsent(&self) -> bool {
        matches!(self, StoreError::Unsent(_))
    }

    /// Whether the upstream has refused the credentials that the link was to be authenticated with.
    pub fn denies_user(&self) -> bool {
        match self {
            StoreError::Refused(text) => text.starts_with("AUTH answered"),
            StoreError::Unsent(error) => error.denies_user(),
            _ => false,
        }
    }

    /// Whether the link was lost, so that nobody knows whether the command has run.
    pub fn is_lost(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }

    /// Whether the store was not there to be asked, or has not answered: nobody knows what it holds.
    pub fn is_outage(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Timeout | StoreError::InDoubt | StoreError::Unsent(_))
    }

    /// Whether the same may succeed later, with nothing changed at Weir or in its rights: in an outage, or while the store is in a
    /// state that passes. Redis before 7.0 says which in the midst of a script's error.
    pub fn may_pass(&self) -> bool {
        let StoreError::Refused(text) = self else { return !matches!(self, StoreError::Full) };
        text.split_whitespace().any(|word| PASSING.contains(&word.trim_start_matches('-')))
    }

    /// What a client is told, without the `-`.
    pub fn reply(&self) -> String {
        match self {
            StoreError::Unavailable(_) => "UPSTREAM unreachable".into(),
            StoreError::Timeout => "UPSTREAM did not answer in time".into(),
            StoreError::InDoubt => {
                "UPSTREAM holds what may be out of date, and is not asked for it until that is dropped; try again"
                    .into()
            }
            // Redis adds the script's hash and line to an error of a script: of no use to a client.
            StoreError::Refused(text) => {
                format!("UPSTREAM refused: {}", text.split(" script: ").next().unwrap_or_default())
            }
            StoreError::Full => {
                "OVERLOADED this command needs a connection to the upstream of the client's own, and all \
                 [limits] max_private_links of them are in use; raise it, or try again later"
                    .into()
            }
            StoreError::Protocol(_) => "UPSTREAM broke the protocol".into(),
            StoreError::Unsent(error) => error.reply(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_the_server_may_pass_and_a_missing_right_does_not() {
        let may_pass = |text: &str| StoreError::Refused(text.into()).may_pass();
        for passing in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "ERR Error running script (call to f_0a): @user_script:1: -OOM command not allowed when used memory > 'maxmemory'.",
            "READONLY You can't write against a read only replica. script: 0a, on @user_script:1.",
            "LOADING Redis is loading the dataset in memory",
        ] {
            assert!(may_pass(passing), "{passing}");
        }
        for lasting in [
            "NOPERM this user has no permissions to run the 'eval' command",
            "ERR The user executing the script can't run this command or subcommand script: 0a, on @user_script:1.",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
        ] {
            assert!(!may_pass(lasting), "{lasting}");
        }
        assert!(StoreError::Timeout.may_pass() && StoreError::Protocol("x".into()).may_pass());
    }
}
