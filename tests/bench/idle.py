"""What a client costs that only stays, and how fast many come."""

import json
import sys
import time
from statistics import median

import generator
import tables
from roles import PASSING, upstream
from servers import Servers, fail, most_descriptors

CLIENTS = 10_000
# What connects before memory is counted for the first time: what a server allocates once is no client's.
FIRST_CLIENTS = 200
SETTLE_SECONDS = 0.5


def report(binary, options):
    """Each target is a process that nobody has asked anything before: memory that was once used may never be given back."""
    found = {}
    for number in range(options.rounds):
        with Servers() as servers:
            redis = servers.redis()
            weir = servers.weir(binary, "Weir, passing through", upstream(redis) + PASSING, options.workers)
            embedded = servers.weir(binary, "Weir, embedded store", "", options.workers)
            targets = [redis, *servers.peers(redis), weir, embedded]
            for step in range(len(targets)):
                target = targets[(number + step) % len(targets)]
                found.setdefault(target.name, []).append(measure(target))
    lines = []
    for name in [target.name for target in targets]:
        clients, kib, seconds = (median(column) for column in zip(*found[name]))
        lines.append((name, [f"{clients:,.0f}", f"{kib:.1f}", f"{seconds:.2f}"]))
    heads = ["clients", "KiB for each", "seconds until all were answered a PING"]
    tables.show("Clients that connect and stay", heads, lines)


def measure(target):
    """(clients, KiB of resident memory for each, seconds until all were connected and answered)"""
    # A proxy that needs two descriptors for a client cannot serve as many where they are few.
    room = (most_descriptors() - 500) // target.descriptors_a_client
    clients = min(room, CLIENTS)
    stay(target, FIRST_CLIENTS, lambda: None)
    time.sleep(SETTLE_SECONDS)
    before = target.resident_bytes()
    seconds, after = stay(target, clients, target.resident_bytes)
    print(f"idle {target.name}: {clients:,} clients in {seconds:.2f} s", file=sys.stderr)
    return clients, (after - before) / 1024 / clients, seconds


def stay(target, clients, look):
    """(seconds until all were answered, what `look` finds while they stay)"""
    process = generator.start("idle", "--port", target.port, "--connections", clients)
    line = process.stdout.readline()
    if not line:
        fail(f"{target.name}: {clients} clients could not connect:\n{process.stderr.read()}")
    time.sleep(SETTLE_SECONDS)
    seen = look()
    process.communicate("\n", timeout=60)
    return json.loads(line)["seconds"], seen
