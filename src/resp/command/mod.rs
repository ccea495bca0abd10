//! What each command is: its arity, where its keys are, whether it reads or changes them, and whether it may go to
//! an upstream at all. One table ([`COMMANDS`]) is the source of the code's behaviour and of the documented list of
//! what Weir refuses; `tests/resp_redis/commands.rs` holds it against a Redis server's own COMMAND and COMMAND GETKEYS.
//!
//! It does not know routes or stores: [`Access`] says what a command does to a key, not what Weir does about it.

mod categories;
mod keys;
mod lookup;
mod table;
mod uses;

pub use categories::{Categories, categories};
pub use keys::KeyPositions;
pub use lookup::{lookup, lookup_indexed};
pub use table::COMMANDS;
pub use uses::{Use, Uses};

use crate::resp::args::Args;

/// One command, or one subcommand of a container such as CONFIG.
#[derive(Debug)]
pub struct Spec {
    /// In lower case; a subcommand's own name only (`get` of CONFIG GET).
    pub name: &'static str,
    /// Arguments with the name (a subcommand's: with both names); negative: at least so many.
    pub arity: i16,
    /// What Redis says of it.
    pub flags: Flags,
    /// Position of the first key that is where it always is; 0: none.
    pub first: i16,
    /// Position of the last such key; negative: counted from the end.
    pub last: i16,
    /// From one such key to the next.
    pub step: i16,
    /// Where the other keys are.
    pub keys: Keys,
    /// Whom it belongs to in Redis's documentation.
    pub group: Group,
    /// Who answers it.
    pub handling: Handling,
    /// What it does to its keys.
    pub access: Access,
    /// The subcommands of a container; empty for others.
    pub subcommands: &'static [Spec],
}

/// Redis's flags of a command, as far as Weir cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// May change data.
    pub const WRITE: Flags = Flags(1);
    /// Reads data.
    pub const READONLY: Flags = Flags(2);
    /// Refused when the memory is full.
    pub const DENYOOM: Flags = Flags(4);
    /// For administrators.
    pub const ADMIN: Flags = Flags(8);
    /// Belongs to publish/subscribe.
    pub const PUBSUB: Flags = Flags(16);
    /// Not from scripts.
    pub const NOSCRIPT: Flags = Flags(32);
    /// May wait for data.
    pub const BLOCKING: Flags = Flags(64);
    /// Takes constant or logarithmic time.
    pub const FAST: Flags = Flags(128);
    /// Allowed before AUTH.
    pub const NO_AUTH: Flags = Flags(256);
    /// Its keys are not all where `first`, `last` and `step` say.
    pub const MOVABLE_KEYS: Flags = Flags(512);

    /// Those of Redis's names, as COMMAND INFO has them; others do not matter to Weir.
    pub fn of(names: &[&[u8]]) -> Flags {
        let bit = |name: &&[u8]| match *name {
            b"write" => Flags::WRITE.0,
            b"readonly" => Flags::READONLY.0,
            b"denyoom" => Flags::DENYOOM.0,
            b"admin" => Flags::ADMIN.0,
            b"pubsub" => Flags::PUBSUB.0,
            b"noscript" => Flags::NOSCRIPT.0,
            b"blocking" => Flags::BLOCKING.0,
            b"fast" => Flags::FAST.0,
            b"no_auth" => Flags::NO_AUTH.0,
            b"movablekeys" => Flags::MOVABLE_KEYS.0,
            _ => 0,
        };
        Flags(names.iter().map(bit).fold(0, |all, bit| all | bit))
    }

    /// True if all of `flags` are among these.
    pub const fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }
}

/// Where a command's keys are, besides those at `first`, `last` and `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It has none at all.
    None,
    /// Nowhere else.
    Range,
    /// Their number is at this position, and they follow it (EVAL, ZUNIONSTORE).
    Numkeys(u8),
    /// The same, each followed by a value (MSETEX).
    NumkeysPairs(u8),
    /// The first half of what follows STREAMS (XREAD).
    Streams,
    /// After STORE (SORT).
    SortStore,
    /// After STORE or STOREDIST (GEORADIUS).
    GeoStore,
    /// After KEYS, if the key itself is empty (MIGRATE).
    Migrate,
}

/// Redis's command groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Redis's own")]
pub enum Group {
    Bitmap,
    Cluster,
    Connection,
    Generic,
    Geo,
    Hash,
    HyperLogLog,
    List,
    PubSub,
    Scripting,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
    Vector,
    Weir,
}

/// Who answers a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// The store, which gets the bytes as they are.
    Forward,
    /// Weir itself.
    Own,
    /// The upstream, which remembers something of the connection: over a link of the client's own. What the embedded
    /// store has to say instead: why not, and the way out.
    Stateful(&'static str),
    /// Nobody: it is not for clients of a proxy. Why, and the way out, for the `-ERR`.
    Refused(&'static str),
}

/// What a command does to its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It has no keys, or not as data.
    None,
    /// It only looks (or, as GETEX, changes no more than the TTL of what it has read).
    Read,
    /// What it does depends on the old value: INCR, HSET, SET … NX.
    Modify,
    /// It replaces or removes whatever is there: SET, DEL, EXPIRE. Scripts too: what they do cannot be known, and they are
    /// written for what the store holds.
    Write,
}

impl Spec {
    /// True if a call of `len` arguments, the name included, has the right number of them.
    pub fn arity_ok(&self, len: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { len >= wanted } else { len == wanted }
    }

    /// The subcommand that `args` call, or the command itself if it has none or not this one.
    #[inline]
    pub fn resolve(&self, args: Args<'_>) -> &Spec {
        if self.subcommands.is_empty() {
            return self;
        }
        args.get(1).and_then(|name| self.subcommand(name)).unwrap_or(self)
    }

    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&Spec> {
        self.subcommands.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Positions of the keys in `args`, subcommands included. Whatever clients write, each is a position in `args`;
    /// a call with a wrong number of keys has none of those.
    #[inline]
    pub fn key_positions(&self, args: Args<'_>) -> KeyPositions {
        KeyPositions::of(self.resolve(args), args)
    }

    /// What this call does to its keys.
    #[inline]
    pub fn access_of(&self, args: Args<'_>) -> Access {
        let spec = self.resolve(args);
        match spec.keys {
            Keys::SortStore | Keys::GeoStore if keys::stores(spec, args) => Access::Modify,
            _ if spec.access == Access::Write && args.len() > 2 && spec.is_conditional(args) => Access::Modify,
            _ => spec.access,
        }
    }

    /// True if a call that would replace what is there looks at it first.
    fn is_conditional(&self, args: Args<'_>) -> bool {
        const LOOKS: [&[u8]; 7] = [b"NX", b"XX", b"GET", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"];
        match self.name {
            "set" | "msetex" => {
                args.from(3).iter().any(|option| LOOKS.iter().any(|looks| looks.eq_ignore_ascii_case(option)))
            }
            "delex" => true,
            _ => false,
        }
    }

    /// Whether every call is the store's to answer, and its keys are where they always are.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.handling == Handling::Forward && self.keys == Keys::Range && self.subcommands.is_empty()
    }

    /// Whether it only reads, and has one key, its first argument.
    #[inline]
    pub fn reads_one_key(&self) -> bool {
        self.access == Access::Read && !self.flags.contains(Flags::WRITE) && self.first == 1 && self.last == 1
    }

    /// Who answers this call.
    #[inline]
    pub fn handling_of(&self, args: Args<'_>) -> Handling {
        let spec = self.resolve(args);
        if spec.keys == Keys::Streams && keys::blocks(args) {
            return Handling::Stateful(table::BLOCKS);
        }
        spec.handling
    }
}
