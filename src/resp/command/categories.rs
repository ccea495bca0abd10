//! The categories that users' rights speak of (`+@read`, `-@dangerous`), as Redis's ACL CAT has them: what follows from a
//! command's group and flags, and the few that do not. tests/resp_redis/rights.rs holds them against a server's own.

use super::{Flags, Group, Spec};

/// A set of categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Categories(u32);

/// Their names, by bit.
const NAMES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

const DANGEROUS: Categories = Categories::of(&["dangerous"]);
const ADMIN: Categories = Categories::of(&["admin", "dangerous"]);
const KEYSPACE: Categories = Categories::of(&["keyspace"]);
const CONNECTION: Categories = Categories::of(&["connection"]);
const NONE: Categories = Categories(0);

impl Categories {
    /// The category of this name, in lower case.
    pub const fn named(name: &str) -> Option<Categories> {
        let mut bit = 0;
        while bit < NAMES.len() {
            if is_same(NAMES[bit].as_bytes(), name.as_bytes()) {
                return Some(Categories(1 << bit));
            }
            bit += 1;
        }
        None
    }

    /// All names.
    pub const fn names() -> &'static [&'static str] {
        &NAMES
    }

    const fn of(names: &[&str]) -> Categories {
        let mut all = Categories(0);
        let mut index = 0;
        while index < names.len() {
            let one = Categories::named(names[index]);
            all = all.and(one.expect("the names here are categories"));
            index += 1;
        }
        all
    }

    const fn and(self, other: Categories) -> Categories {
        Categories(self.0 | other.0)
    }

    /// Whether both have one in common.
    pub const fn meet(self, other: Categories) -> bool {
        self.0 & other.0 != 0
    }
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// Those of a command, or of one of its subcommands.
pub fn categories(command: &Spec, sub: Option<&Spec>) -> Categories {
    let spec = sub.unwrap_or(command);
    let from_flags = [
        (Flags::WRITE, "write"),
        (Flags::ADMIN, "admin"),
        (Flags::ADMIN, "dangerous"),
        (Flags::PUBSUB, "pubsub"),
        (Flags::BLOCKING, "blocking"),
        (Flags::FAST, "fast"),
    ];
    let held = from_flags.into_iter().filter(|(flag, _)| spec.flags.contains(*flag)).map(|(_, name)| name);
    let mut all = held.fold(of_group(command, sub), |all, name| all.and(Categories::of(&[name])));
    if !spec.flags.contains(Flags::FAST) {
        all = all.and(Categories::of(&["slow"]));
    }
    if spec.flags.contains(Flags::READONLY) && !matches!(spec.group, Group::Scripting | Group::Weir) {
        all = all.and(Categories::of(&["read"]));
    }
    all
}

/// A container itself belongs to no group: nobody may run it without a subcommand.
fn of_group(command: &Spec, sub: Option<&Spec>) -> Categories {
    let group = match command.group {
        _ if sub.is_none() && !command.subcommands.is_empty() && command.name != "command" => NONE,
        Group::Bitmap => Categories::of(&["bitmap"]),
        Group::Connection => CONNECTION,
        Group::Generic => KEYSPACE,
        Group::Geo => Categories::of(&["geo"]),
        Group::Hash => Categories::of(&["hash"]),
        Group::HyperLogLog => Categories::of(&["hyperloglog"]),
        Group::List => Categories::of(&["list"]),
        Group::PubSub => Categories::of(&["pubsub"]),
        Group::Scripting => Categories::of(&["scripting"]),
        Group::Set => Categories::of(&["set"]),
        Group::SortedSet => Categories::of(&["sortedset"]),
        Group::Stream => Categories::of(&["stream"]),
        Group::String => Categories::of(&["string"]),
        Group::Transactions => Categories::of(&["transaction"]),
        Group::Cluster | Group::Server | Group::Vector | Group::Weir => NONE,
    };
    match (command.name, sub.map(|sub| sub.name)) {
        ("sort" | "sort_ro", _) => Categories::of(&["set", "sortedset", "list", "dangerous"]),
        ("wait" | "waitaof", _) => CONNECTION,
        ("command" | "asking" | "readonly" | "readwrite", _) => CONNECTION,
        ("pubsub", Some("help")) => NONE,
        ("dbsize", _) => KEYSPACE,
        ("flushall" | "flushdb" | "swapdb" | "restore-asking", _) => KEYSPACE.and(DANGEROUS),
        ("keys" | "restore" | "migrate" | "info", _) => group.and(DANGEROUS),
        ("role" | "lastsave", _) => ADMIN,
        // They show the configuration.
        ("weir", Some("explain" | "routes" | "stats" | "flush")) => ADMIN,
        _ => group,
    }
}
