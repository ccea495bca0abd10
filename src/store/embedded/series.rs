//! GETs of one pipeline: what one of them costs beside its look-up is paid once for all.

use super::call::shard_of;
use super::refusal::Refusal;
use super::{Context, Embedded, refuse};
use crate::memory::warm::warm;
use crate::resp::write;
use std::sync::atomic::Ordering::Relaxed;

/// While the store holds no more than so many bytes, all is near enough to the core as it is.
const COLD: usize = 1 << 20;

/// What has become of GETs that came together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// So many are answered.
    pub count: usize,
    /// Of them, by an error.
    pub errors: usize,
}

impl Embedded {
    /// Look-ups of keys with these [`crate::hash::hash`]es are about to come: see [`crate::memory::warm`].
    pub fn warm(&self, context: Context, hashes: impl ExactSizeIterator<Item = u64> + Clone) {
        if self.used.load(Relaxed) >= COLD {
            let lock = |home: usize| self.shards[home].try_lock();
            warm(hashes, shard_of, lock, |shard, hash| shard.spaces[context.db as usize].warm(hash));
        }
    }

    /// Answers GETs of these keys, each given with its [`crate::hash::hash`], one after the other, until more than `most` bytes are
    /// written. All of them see the same time; each is a step of its own otherwise, as if it had come alone.
    pub fn get_each<'k>(
        &self,
        context: Context,
        keys: impl Iterator<Item = (&'k [u8], u64)>,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Answers {
        let (now, begin, mut answers) = (self.time.now(), out.len(), Answers::default());
        for (key, hash) in keys {
            let start = out.len();
            if start - begin > most {
                break;
            }
            let mut shard = self.shards[shard_of(hash)].lock();
            let found = shard.spaces[context.db as usize].touch(hash, key, now).map(|entry| entry.object.as_text());
            match found {
                None => write::nil(out, context.protocol),
                Some(Some(text)) => write::bulk(out, text),
                Some(None) => {
                    refuse(&Refusal::WrongType, start, out);
                    answers.errors += 1;
                }
            }
            answers.count += 1;
        }
        answers
    }
}
