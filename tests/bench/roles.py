"""Who is asked for which keys: Redis, its proxies, and Weir in each of the ways in which it can answer."""

import sqlite3
from dataclasses import dataclass

from generator import ask_all

FIRST_KEY = 100_000_000_000
# No row has such an id: it has a digit more than all others.
ABSENT_PREFIX = "item:9"
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Data:
    """Keys that differ from all others' by their numbers."""

    first: int
    keys: int
    value_bytes: int

    def words(self):
        return ["--first", self.first, "--keys", self.keys, "--value-bytes", self.value_bytes]


SMALL = Data(FIRST_KEY, 10_000, 64)
KIB = Data(FIRST_KEY + 100_000_000, 10_000, 1024)
LARGE = Data(FIRST_KEY + 200_000_000, 1_000, 65_536)
MANY = Data(FIRST_KEY + 300_000_000, 1_000_000, 64)


class Role:
    """A target, and the keys that it is asked for."""

    # The label of weir_lookups_total that each read of these keys must be counted under.
    outcome = None
    # How many times fewer changes are measured than of others.
    fewer_changes = 1

    def __init__(self, target, prefix="pass:", server=None):
        """`server`: where its keys are stored, if not in the target itself."""
        self.target, self.prefix, self.server = target, prefix, server or target

    @property
    def name(self):
        return self.target.name

    def fill(self, data):
        """Before the first measurement on these data."""
        ask_all(self.server, "set", self.prefix, data)

    def prepare(self, data):
        """Before each of them."""


class Behind(Role):
    """A Redis that another role's keys are in."""

    def fill(self, data):
        pass


class Near(Role):
    outcome = "near_hit"

    def prepare(self, data):
        self.target.wait_until_near_opens()
        # The first read brings the value in, if it is not there any more; the second finds it.
        for _ in range(2):
            ask_all(self.target, "get", self.prefix, data)


class Routed(Role):
    outcome = "hit"
    # Each is a script at Redis, for the tags' sake: as many as of others would take minutes.
    fewer_changes = 8

    def fill(self, data):
        if data == SMALL:
            # Loaded, as a route's keys are.
            ask_all(self.target, "get", self.prefix, data)
        else:
            ask_all(self.server, "set", self.prefix, data, "--expire", DAY_SECONDS)


def upstream(redis):
    return f'[upstream]\nurl = "redis://127.0.0.1:{redis.port}/0"\ntimeout = "10s"\n'


# Keys of no route.
PASSING = ""

NEAR = """
[limits]
max_near = "1GiB"

[[route]]
key = "near:{id}"
ttl = "1d"
near = "1h"
"""

ROUTED = """
[limits]
max_negative = 1000000

[database.items]
url = "sqlite:items.sqlite"

[[route]]
key = "item:{id}"
database = "items"
load = "SELECT value FROM items WHERE id = :id"
value = "text"
ttl = "1d"
negative_ttl = "1d"
grace = "10m"
tags = ["items"]
"""

EMBEDDED = """
[embedded]
max_memory = "2GiB"
"""

# Two routes over the same rows: what grace and tags cost a load is the difference.
COLD = """
[database.rows]
url = "URL"

[[route]]
key = "cold:{id}"
database = "rows"
load = "SELECT value FROM items WHERE id = :id"
value = "text"
ttl = "1d"

[[route]]
key = "tagged:{id}"
database = "rows"
load = "SELECT value FROM items WHERE id = :id"
value = "text"
ttl = "1d"
grace = "10m"
tags = ["rows"]
"""


def make_sqlite(folder):
    """The rows of [`SMALL`]."""
    with sqlite3.connect(folder / "items.sqlite") as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, value TEXT NOT NULL)")
        rows = ((SMALL.first + number, "x" * SMALL.value_bytes) for number in range(SMALL.keys))
        connection.executemany("INSERT INTO items VALUES (?, ?)", rows)
    connection.close()


def postgres_sql():
    """The same for PostgreSQL, one statement a line."""
    rows = f"SELECT {SMALL.first} + n, repeat('x', {SMALL.value_bytes}) FROM generate_series(0, {SMALL.keys - 1}) AS n"
    return f"CREATE TABLE items (id bigint PRIMARY KEY, value text NOT NULL)\nINSERT INTO items {rows}\nANALYZE items\n"


class Stack:
    """All targets and their roles. Near and routed keys have a Redis of their own: what Weir asks of it (to be told of changes, keys
    beside the clients') must not weigh on the one that everybody is compared with."""

    def __init__(self, servers, binary, workers):
        make_sqlite(servers.folder)
        self.redis = servers.redis()
        self.own_redis = servers.redis()
        self.postgres = servers.postgres(postgres_sql())
        cold = COLD.replace("URL", self.postgres) if self.postgres else ""

        def weir(name, config):
            return servers.weir(binary, f"Weir, {name}", config, workers)

        self.direct = Role(self.redis)
        self.peers = [Role(peer, server=self.redis) for peer in servers.peers(self.redis)]
        self.passing = Role(weir("passing through", upstream(self.redis)), server=self.redis)
        near = weir("near hits", upstream(self.own_redis) + NEAR)
        self.near = Near(near, "near:", self.own_redis)
        routed = weir("hits with grace and tags", upstream(self.own_redis) + ROUTED + cold)
        self.routed = Routed(routed, "item:", self.own_redis)
        self.embedded = Role(weir("embedded store", EMBEDDED))

    def all(self):
        return [self.direct, *self.peers, self.passing, self.near, self.routed, self.embedded]

    def with_its_redis(self, role):
        """Before the role the Redis behind it, asked for the same keys."""
        return [Behind(role.server, role.prefix), role]

    def prepare_mixed(self):
        """Keys of no route where the routed ones are; and each absence is found out once, so that it is remembered."""
        ask_all(self.own_redis, "set", self.passing.prefix, SMALL)
        ask_all(self.routed.target, "mixed", "", SMALL, "--absent", ABSENT_PREFIX)
