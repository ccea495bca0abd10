//! Leases: who may load a key, and the fill that ends one.

use super::Redis;
use super::call::milliseconds;
use super::scripts::{ACQUIRE, FILL};
use crate::store::ends::Since;
use crate::store::{Acquired, Fill, Filled, Held, StoreError, StoreKey, Token};
use crate::value::Value;
use bytes::Bytes;
use std::time::Duration;

impl Redis {
    /// `purpose` is `miss`, `refresh` or `seize`; see [`ACQUIRE`].
    pub(super) async fn take_lease(
        &self,
        key: &StoreKey,
        token: Token,
        lease: Duration,
        purpose: &[u8],
    ) -> Result<Acquired, StoreError> {
        let since = self.upstream.ends().since();
        let (mine, time) = (self.lease_text(token), milliseconds(lease));
        let word = self.call_for_word(&ACQUIRE, key, &[&mine, time.as_bytes(), purpose]).await?;
        self.acquired(&word, since)
    }

    /// What the word of a script says, which was called after `since`.
    pub(super) fn acquired(&self, word: &[u8], since: Since) -> Result<Acquired, StoreError> {
        match word {
            b"present" => Ok(Acquired::Present),
            b"negative" => Ok(Acquired::Negative),
            b"granted" => Ok(Acquired::Granted),
            held => {
                let (token, process, left) = parse_lease(held)?;
                let is_told = !process.is_empty() && process != self.upstream.process();
                let end = if is_told { self.upstream.ends().of(token, left, since) } else { None };
                Ok(Acquired::Held(Held { token, end }))
            }
        }
    }

    /// Ends a lease by what was loaded. `way` is `fill`, or what [`FILL`] says of a replacement.
    pub(super) async fn put(&self, key: &StoreKey, token: Token, fill: Fill, way: &[u8]) -> Result<Filled, StoreError> {
        let lease = self.lease_text(token);
        let (kind, ttl): (&[u8], Duration) = match &fill {
            Fill::Value { value: Value::String(_), ttl, .. } => (b"string", *ttl),
            Fill::Value { value: Value::Hash(_), ttl, .. } => (b"hash", *ttl),
            Fill::Negative { ttl } => (b"negative", *ttl),
            Fill::Nothing => (b"nothing", Duration::ZERO),
            Fill::Gone => (b"gone", Duration::ZERO),
        };
        let tags: &[Bytes] = if let Fill::Value { tags, .. } = &fill { tags } else { &[] };
        let (ttl, count) = (milliseconds(ttl), tags.len().to_string());
        let mut arguments: Vec<&[u8]> = vec![&lease, way, kind, ttl.as_bytes(), count.as_bytes()];
        arguments.extend(tags.iter().map(|tag| &tag[..]));
        match &fill {
            Fill::Value { value: Value::String(bytes), .. } => arguments.push(bytes),
            Fill::Value { value: Value::Hash(fields), .. } => {
                arguments.extend(fields.iter().flat_map(|(name, value)| [&name[..], &value[..]]));
            }
            Fill::Negative { .. } | Fill::Nothing | Fill::Gone => {}
        }
        filled(&self.call_for_word(&FILL, key, &arguments).await?)
    }

    /// A lease of this process, as the scripts write it.
    pub(super) fn lease_text(&self, Token(token): Token) -> Vec<u8> {
        let digits: [u8; 16] =
            std::array::from_fn(|place| b"0123456789abcdef"[(token >> (60 - 4 * place)) as usize & 15]);
        [&digits, self.upstream.process().as_bytes()].concat()
    }
}

/// A lease as [`ACQUIRE`] answers it: token, process, and how long it stands yet.
fn parse_lease(answer: &[u8]) -> Result<(Token, &str, Duration), StoreError> {
    let parse = || {
        let (lease, left) = std::str::from_utf8(answer).ok()?.split_once(' ')?;
        let (token, process) = lease.split_at_checked(16)?;
        let token = u64::from_str_radix(token, 16).ok()?;
        Some((Token(token), process, Duration::from_millis(left.parse().ok()?)))
    };
    parse().ok_or_else(|| StoreError::Protocol("a lease holds no token of ours".into()))
}

/// What the word of a script says.
pub(super) fn filled(word: &[u8]) -> Result<Filled, StoreError> {
    match word {
        b"stored" => Ok(Filled::Stored),
        b"lost" => Ok(Filled::LeaseLost),
        b"occupied" => Ok(Filled::Occupied),
        _ => Err(StoreError::Protocol("the fill script answered an unknown word".into())),
    }
}
