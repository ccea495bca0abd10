//! [`Look`] at a Redis: by the commands that clients read with, over Weir's own links.

use super::Redis;
use super::side_key::{Beside, Kind};
use crate::resp::args::OwnedArgs;
use crate::resp::frame::{self, Reply};
use crate::store::look::{Look, Seen};
use crate::store::{StoreError, StoreKey};
use crate::value::Value;
use bytes::Bytes;

impl Look for Redis {
    async fn look(&self, key: &StoreKey) -> Result<Seen, StoreError> {
        match self.ask_of(key, "GET", &key.name).await? {
            Reply::Bulk(text) => return Ok(Seen::value(Value::String(text.into()))),
            Reply::Nil => {}
            Reply::Error(text) if text.starts_with(b"WRONGTYPE") => return self.look_at_hash(key).await,
            other => return Err(refused(other)),
        }
        let negative = Beside::of(&key.name).name(Kind::Negative);
        match self.ask_of(key, "EXISTS", &negative).await? {
            Reply::Integer(0) => Ok(Seen::Absent),
            Reply::Integer(_) => Ok(Seen::Negative),
            other => Err(refused(other)),
        }
    }
}

impl Redis {
    async fn look_at_hash(&self, key: &StoreKey) -> Result<Seen, StoreError> {
        let fields = match self.ask_of(key, "HGETALL", &key.name).await? {
            Reply::Array(fields) => fields,
            Reply::Error(text) if text.starts_with(b"WRONGTYPE") => return Ok(Seen::Foreign),
            other => return Err(refused(other)),
        };
        let texts: Vec<Bytes> = fields.iter().filter_map(Reply::as_bytes).map(Bytes::copy_from_slice).collect();
        // A hash is never empty: it is gone since.
        let pairs: Vec<_> = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        Ok(if pairs.is_empty() { Seen::Absent } else { Seen::value(Value::Hash(pairs)) })
    }

    /// Asks the node of `key` a question about `name`, which is that key's or one of its side keys'.
    async fn ask_of(&self, key: &StoreKey, question: &str, name: &[u8]) -> Result<Reply, StoreError> {
        let args = OwnedArgs::from_iter([question.as_bytes(), name]);
        let reply = self.run_own(key.db, &key.name, args.as_args()).await?;
        frame::decode(&reply, 2).map_err(|error| StoreError::Protocol(error.to_string()))
    }
}

fn refused(reply: Reply) -> StoreError {
    match reply {
        Reply::Error(text) => StoreError::Refused(String::from_utf8_lossy(&text).into_owned()),
        _ => StoreError::Protocol("a read was answered by another type".into()),
    }
}
