"""What is asked, and how often: rounds in which every role is asked in turn."""

import sys
from dataclasses import dataclass

import generator
from roles import ABSENT_PREFIX, KIB, LARGE, MANY, SMALL

CONNECTIONS = 50
# Enough for half a second of CPU at least, so that the clock tick of the CPU times (10 ms) hardly matters.
REQUESTS = {1: 200_000, 16: 800_000, 64: 1_600_000}


@dataclass(frozen=True)
class Column:
    """One measurement of each role."""

    head: str
    verb: str
    pipeline: int
    commands: int
    data: object
    connections: int = CONNECTIONS
    # More words for the load generator.
    more: tuple = ()
    # How many keys one command reads that are to be counted as the role's outcome.
    reads: int = 1


def column(verb, pipeline, data=SMALL, commands=None, **options):
    head = f"{options.pop('head', verb.upper())} P={pipeline}"
    return Column(head, verb, pipeline, commands or REQUESTS.get(pipeline, 50_000 * pipeline), data, **options)


def main_columns(pipelines):
    return [column(verb, pipeline) for verb in ("get", "set") for pipeline in pipelines]


def value_columns():
    kib = [column("get", pipeline, KIB, REQUESTS[pipeline] // 2, head="GET 1 KiB") for pipeline in (1, 16)]
    large = [column("get", pipeline, LARGE, 20_000, head="GET 64 KiB") for pipeline in (1, 16)]
    return kib + large


def key_columns():
    return [column("get", pipeline, MANY) for pipeline in (1, 16)]


def mix_columns():
    return [column("mix", pipeline, more=("--reads", 90), reads=0, head="90/10") for pipeline in (1, 16)]


def mixed_columns(stack):
    present = f"{stack.routed.prefix},{stack.passing.prefix}"
    more = ("--present", present, "--absent", ABSENT_PREFIX)
    return [column("mixed", 16, more=more, commands=REQUESTS[16] // 2, reads=0, head="mixed")]


def mget_columns():
    more = ("--count", 100)
    return [column("mget", pipeline, commands=20_000, more=more, reads=100, head="MGET of 100") for pipeline in (1, 16)]


def connection_columns():
    return [
        column("get", pipeline, connections=connections, head=f"{connections:,} connections")
        for pipeline in (1, 16)
        for connections in (CONNECTIONS, 1_000)
    ]


def measure(role, column, scale):
    role.prepare(column.data)
    fewer = role.fewer_changes if column.verb == "set" else 1
    commands = max(column.connections * column.pipeline, int(column.commands * scale / fewer))
    words = ["--prefix", role.prefix] if column.verb != "mixed" else []
    words += ["--connections", column.connections, "--pipeline", column.pipeline, "--commands", commands, "--random"]
    expected = role.outcome if column.reads and column.verb != "set" else None
    before = role.target.lookups() if expected else {}
    found, done = generator.measure(role.target, column.verb, *words, *column.data.words(), *column.more)
    if expected:
        counted = role.target.lookups().get(expected, 0) - before.get(expected, 0)
        # A few may find an entry whose time is over.
        if counted < 0.99 * done * column.reads:
            generator.fail(f"{role.name}: of {done * column.reads:,} reads only {counted:,.0f} were a {expected}")
    return found


def rounds(columns, roles, options):
    """{column: {role's name: [what was measured, for each round]}}"""
    for data in dict.fromkeys(column.data for column in columns):
        for role in roles:
            if (key := (role.target.port, role.prefix, data)) not in filled:
                role.fill(data)
                filled.add(key)
    results = {column: {role.name: [] for role in roles} for column in columns}
    for number in range(options.rounds):
        for column in columns:
            # Each round begins with another role, so that none always follows the same one.
            for step in range(len(roles)):
                role = roles[(number + step) % len(roles)]
                found = measure(role, column, options.scale)
                results[column][role.name].append(found)
                show = f"round {number + 1}/{options.rounds} {column.head} {role.name}"
                print(f"{show}: {found.cpu:.2f} us, {found.rate:,.0f}/s", file=sys.stderr)
    return results


# Which role's data are there already.
filled = set()


def cold(stack, options):
    """[(head, what the load generator found in each round)] of MGETs that must load all of their keys."""
    found = {"route without tags": [], "with grace and tags": []}
    prefixes = dict(zip(found, ("cold:", "tagged:")))
    for _ in range(options.rounds):
        for head, results in found.items():
            words = ["--port", stack.routed.target.port, "--redis", stack.routed.server.port]
            words += ["--postgres", stack.postgres, "--prefix", prefixes[head], "--first", SMALL.first]
            rounds = max(10, int(200 * options.scale))
            results.append(generator.call("cold", *words, "--keys", SMALL.keys, "--rounds", rounds))
    return found
