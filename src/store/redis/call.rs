//! Calls of Weir's own: a script, or a command, and what is made of the answer.

use super::scripts::Script;
use super::side_key::{Beside, Kind};
use super::{Links, Redis};
use crate::resp::args::OwnedArgs;
use crate::resp::frame::{self, Reply};
use crate::resp::write;
use crate::store::{StoreError, StoreKey};
use std::time::Duration;

impl Redis {
    /// Calls a script on a key and what stands beside it.
    pub(super) async fn call(
        &self,
        links: &Links,
        script: &'static Script,
        key: &[u8],
        args: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        let (beside, mut call) = (Beside::of(key), Call::of(script.keys, args));
        call.word(key);
        Kind::ALL[..script.keys - 1].iter().for_each(|kind| call.name(&beside, *kind));
        args.iter().for_each(|word| call.word(word));
        self.run_script(links, script, key, call).await
    }

    /// The same of a script that answers a word.
    pub(super) async fn call_for_word(
        &self,
        script: &'static Script,
        key: &StoreKey,
        args: &[&[u8]],
    ) -> Result<Vec<u8>, StoreError> {
        let reply = self.call(&self.own(key.db), script, &key.name, args).await?;
        match self.noting_refusal(decode(&reply))? {
            Reply::Integer(number) => Ok(number.to_string().into_bytes()),
            other => other
                .as_bytes()
                .map(<[u8]>::to_vec)
                .ok_or_else(|| StoreError::Protocol("a script answered no word".into())),
        }
    }

    /// Calls a script that answers words, errors among them; the array of them, as it came.
    pub(super) async fn call_for_words(
        &self,
        db: u32,
        script: &'static Script,
        call: Call,
    ) -> Result<Vec<u8>, StoreError> {
        let reply = self.run_script(&self.own(db), script, b"", call).await?;
        refusal(&reply).map_or(Ok(reply), Err)
    }

    /// Calls a script of Weir's own in the slot of `place`.
    pub(super) async fn call_in_slot(
        &self,
        db: u32,
        script: &'static Script,
        place: &[u8],
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Reply, StoreError> {
        let mut call = Call::of(keys.len(), arguments);
        keys.iter().chain(arguments).for_each(|word| call.word(word));
        let reply = self.run_script(&self.own(db), script, place, call).await?;
        self.noting_refusal(decode(&reply))
    }

    /// Calls a script by its hash, or by its text where the upstream has forgotten it; at the node that has the slot of
    /// `place`, and so all of the call's keys.
    pub(super) async fn run_script(
        &self,
        links: &Links,
        script: &'static Script,
        place: &[u8],
        call: Call,
    ) -> Result<Vec<u8>, StoreError> {
        if let Some(hash) = self.upstream.hash_of(script) {
            let reply = links.request(place, &call.command(b"EVALSHA", hash.as_bytes())).await?;
            if !reply.starts_with(b"-NOSCRIPT") {
                return Ok(reply);
            }
        }
        links.request(place, &call.command(b"EVAL", script.text.as_bytes())).await
    }

    /// Runs a command of Weir's own in the slot of `key`.
    pub(super) async fn ask_own(&self, db: u32, key: &[u8], words: &[&[u8]]) -> Result<Reply, StoreError> {
        let args: OwnedArgs = words.iter().copied().collect();
        let reply = self.run_own(db, key, args.as_args()).await?;
        self.noting_refusal(decode(&reply))
    }

    fn noting_refusal(&self, reply: Result<Reply, StoreError>) -> Result<Reply, StoreError> {
        reply.inspect_err(|error| {
            if let StoreError::Refused(_) = error {
                self.upstream.note_refusal(error);
            }
        })
    }
}

/// What a script is called with.
pub(super) struct Call {
    keys: usize,
    arguments: usize,
    /// Both, as bulk strings.
    words: Vec<u8>,
}

impl Call {
    /// With so many keys and arguments, which are to be written.
    pub(super) fn new(keys: usize, arguments: usize) -> Self {
        Call { keys, arguments, words: Vec::with_capacity(64 * (keys + arguments)) }
    }

    /// With room for so many keys, and for these arguments, which are to be written behind them.
    pub(super) fn of(keys: usize, arguments: &[&[u8]]) -> Self {
        let length: usize = arguments.iter().map(|argument| argument.len() + write::AROUND).sum();
        Call { keys, arguments: arguments.len(), words: Vec::with_capacity(64 * keys + length) }
    }

    pub(super) fn word(&mut self, word: &[u8]) {
        write::bulk(&mut self.words, word);
    }

    /// The name of what stands beside a key.
    pub(super) fn name(&mut self, beside: &Beside, kind: Kind) {
        beside.write(&mut self.words, kind);
    }

    fn command(&self, verb: &[u8], script: &[u8]) -> Vec<u8> {
        let mut command = Vec::with_capacity(64 + script.len() + self.words.len());
        write::array(&mut command, 3 + self.keys + self.arguments);
        [verb, script, itoa::Buffer::new().format(self.keys).as_bytes()]
            .iter()
            .for_each(|word| write::bulk(&mut command, word));
        command.extend_from_slice(&self.words);
        command
    }
}

/// What a reply says; `Err` if it is an error.
pub(super) fn decode(reply: &[u8]) -> Result<Reply, StoreError> {
    match frame::decode(reply, 16).map_err(|error| StoreError::Protocol(error.to_string()))? {
        Reply::Error(text) => Err(StoreError::Refused(String::from_utf8_lossy(&text).into_owned())),
        reply => Ok(reply),
    }
}

/// What a reply says, if it is an error.
pub(super) fn refusal(reply: &[u8]) -> Option<StoreError> {
    let text = reply.strip_prefix(b"-")?.strip_suffix(b"\r\n")?;
    Some(StoreError::Refused(String::from_utf8_lossy(text).into_owned()))
}

/// Redis counts TTLs in whole milliseconds and refuses 0.
pub(super) fn milliseconds(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}
