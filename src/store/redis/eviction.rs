//! What a Redis does that is full (`maxmemory-policy`), and what that means for Weir's own keys.
//!
//! Redis evicts without regard to what belongs together. Of what Weir keeps there:
//! - *An index* of a tag that is evicted leaves values behind that no WEIR INVALIDATE of the tag reaches: until their TTL, or
//!   until they are filled again. An index that was evicted looks like one that never was, and the next fill begins another; so
//!   it cannot be found out afterwards, only be kept from happening.
//! - *A note* of a value's tags that is evicted: the same, once that value is prolonged.
//! - *A lease* that is evicted costs a second load, for the first one's fill is refused.
//! - *The sequence* of invalidations begins anew above all that was ever noted of it.
//! - *A mark* that is evicted while a load of that tag is under way, in the moments after an invalidation: the load's fill is
//!   not refused by it. The invalidation has dropped the leases of all keys that it knew; only the fill of a key that nobody had
//!   by that tag before gets through.
//!
//! Which policy spares the indexes: `noeviction`, whatever happens: then what is loaded is served and not stored, until there is
//! room. `volatile-ttl` as good as always, for it takes what ends soonest of a sample (`maxmemory-samples`), and an index ends after all
//! its values. The others go by use, which for an index is a fill and for its values a read, or by chance: they take an index while
//! its values are read on.
//!
//! So the policy is asked for in every handshake (INFO memory, which is allowed where CONFIG GET is not), and whoever uses tags
//! is warned, when Weir starts, by `weir check`, and when it has changed by the time that a link is made anew.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The policies of all servers of an upstream.
#[derive(Debug, Default)]
pub struct Policies {
    /// There are tags.
    matter: AtomicBool,
    /// By the server's address.
    known: Mutex<BTreeMap<String, String>>,
}

impl Policies {
    /// What a server has said of itself; empty: nothing. What is new is logged.
    pub fn note(&self, server: &str, policy: &str) {
        let mut known = self.known.lock();
        let before = known.insert(server.to_owned(), policy.to_owned());
        if !self.matter.load(Relaxed) || before.as_deref() == Some(policy) {
            return;
        }
        match (danger(policy), before.as_deref().and_then(danger)) {
            (Some(danger), _) => tracing::warn!(upstream = server, "{danger}"),
            (None, Some(_)) => tracing::info!(upstream = server, policy, "maxmemory-policy spares tags again"),
            (None, None) => {}
        }
    }

    /// From here on there are tags.
    pub fn matter(&self) {
        if self.matter.load(Relaxed) {
            return;
        }
        let known = self.known.lock();
        if !self.matter.swap(true, Relaxed) {
            let dangers = known.iter().filter_map(|(server, policy)| Some((server, danger(policy)?)));
            dangers.for_each(|(server, danger)| tracing::warn!(upstream = server, "{danger}"));
        }
    }

    /// What is to be said of the servers, each thing once.
    pub fn dangers(&self) -> Vec<String> {
        let mut dangers: Vec<String> = self.known.lock().values().filter_map(|policy| danger(policy)).collect();
        dangers.sort_unstable();
        dangers.dedup();
        dangers
    }
}

/// What is wrong with a policy where there are tags; `None`: nothing, or nobody knows.
fn danger(policy: &str) -> Option<String> {
    if matches!(policy, "" | "noeviction" | "volatile-ttl") {
        return None;
    }
    Some(format!(
        "maxmemory-policy {policy} may evict what says which keys a tag has, and WEIR INVALIDATE then leaves values behind until \
         their TTL; write `maxmemory-policy noeviction` in the upstream's configuration, or volatile-ttl"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_may_take_an_index_is_told_once_for_all_servers() {
        let policies = Policies::default();
        for (server, policy) in [("a", "noeviction"), ("b", "volatile-ttl"), ("c", "")] {
            policies.note(server, policy);
        }
        assert!(policies.dangers().is_empty());
        for (server, policy) in [("a", "allkeys-lru"), ("b", "allkeys-lru"), ("c", "volatile-lfu")] {
            policies.note(server, policy);
        }
        let dangers = policies.dangers();
        assert_eq!(dangers.len(), 2);
        assert!(
            dangers[0].starts_with("maxmemory-policy allkeys-lru may evict") && dangers[1].contains("volatile-lfu")
        );
    }
}
