//! What others tell on `[invalidation] channel`: `{"keys": ["product:7"], "tags": ["category:5"]}`, in JSON, with `"db"` where it is
//! not the upstream's.
//!
//! Such keys are invalidated as by DEL, and tags as by WEIR INVALIDATE. Every proxy that is told does it: twice is no harm but for a
//! load. A store that does not do it is asked again for a while; and if that may help, what it holds of them is not served before it
//! has done it ([`super::missed`]).

use super::missed;
use super::worker::Worker;
use crate::store::Store;
use bytes::Bytes;
use serde::Deserialize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// A message of the channel.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
struct Event {
    keys: Vec<String>,
    tags: Vec<String>,
    db: Option<u32>,
}

/// So often the store is asked; with doubling pauses from [`FIRST_PAUSE`] that is half a minute.
const ATTEMPTS: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// So many messages wait in this process; beyond them the server keeps them.
pub const MOST_WAITING: usize = 1024;
/// So many are worked on at once.
const MOST_AT_ONCE: usize = 64;

/// Does what the messages say, for as long as the process lives.
pub async fn follow(worker: Rc<Worker>, mut messages: mpsc::Receiver<Bytes>) {
    let room = Arc::new(Semaphore::new(MOST_AT_ONCE));
    while let Some(message) = messages.recv().await {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let worker = worker.clone();
        tokio::task::spawn_local(async move {
            apply(&worker, message).await;
            drop(permit);
        });
    }
}

/// Does what one message says.
async fn apply(worker: &Worker, message: Bytes) {
    let result = match read(&message) {
        Ok(event) => invalidate(worker, event).await,
        Err(error) => {
            let hint = r#"write {"keys": ["…"], "tags": ["…"]}"#;
            tracing::warn!(%error, hint, "a message on [invalidation] channel is not understood");
            "malformed"
        }
    };
    metrics::counter!("weir_invalidation_events_total", "result" => result).increment(1);
}

/// An object, and not the array of its values, which serde would take too.
fn read(message: &[u8]) -> Result<Event, serde_json::Error> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(message)?;
    serde_json::from_value(object.into())
}

async fn invalidate(worker: &Worker, event: Event) -> &'static str {
    let db = event.db.unwrap_or_else(|| worker.backend.first_db());
    let keys: Vec<Bytes> = event.keys.into_iter().map(Bytes::from).collect();
    let tags: Vec<&[u8]> = event.tags.iter().map(String::as_bytes).collect();
    let tags = worker.app.routes.with_absences(&tags);
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        let by_key = if keys.is_empty() { Ok(0) } else { worker.backend.invalidate_all(db, &keys).await };
        let done = match by_key {
            Ok(by_key) if tags.is_empty() => Ok(by_key),
            Ok(by_key) => {
                let told = |key: &Bytes| worker.note_invalidation_of(db, key);
                worker.engine.invalidate_tags_telling(db, &tags, &told).await.map(|by_tag| by_key + by_tag)
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(values) => {
                keys.iter().for_each(|key| worker.note_invalidation_of(db, key));
                metrics::counter!("weir_invalidations_total", "source" => "event").increment(values as u64);
                return "applied";
            }
            Err(error) => {
                missed::remember(worker, db, &keys, &tags, &error);
                if attempt == ATTEMPTS {
                    tracing::error!(%error, keys = keys.len(), tags = tags.len(), "what was told on [invalidation] channel could not be invalidated");
                    break;
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    "failed"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_keys_tags_or_both() {
        let read = |text: &str| read(text.as_bytes());
        let both = Event { keys: vec!["a".into()], tags: vec!["b".into(), "c".into()], db: Some(3) };
        assert_eq!(read(r#"{"keys":["a"],"tags":["b","c"],"db":3}"#).unwrap(), both);
        assert_eq!(read(r#"{"tags":[]}"#).unwrap(), Event::default());
        for wrong in ["", "a", "[]", r#"{"key":"a"}"#, r#"{"keys":"a"}"#, r#"{"keys":[1]}"#, r#"{"db":-1}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
