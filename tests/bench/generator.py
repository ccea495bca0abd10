"""Calls of the load generator, and what it has found."""

import json
import subprocess
from dataclasses import dataclass
from threading import Timer

from servers import fail

RUN_LIMIT_SECONDS = 300
# Where the load generator is; set once, by the command that needs it.
program = None


@dataclass(frozen=True)
class Measured:
    """What one run has cost."""

    cpu: float
    rate: float
    p50: float
    p99: float


def ask_all(target, verb, prefix, data, *more):
    """One command for each key, in order, in large writes."""
    words = ["--port", target.port, "--prefix", prefix, "--connections", 4, "--commands", data.keys]
    pipeline = 64 if data.value_bytes <= 1024 else 4
    found = call(verb, *words, "--pipeline", pipeline, *data.words(), *more)
    expect_no_errors(target, verb, found)


def call(*words):
    """Runs it to its end."""
    process = start(*words)
    return finish(process)


def start(*words):
    command = [program, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    try:
        output, errors = process.communicate("\n", timeout=RUN_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        fail(f"no end after {RUN_LIMIT_SECONDS} s: {' '.join(process.args)}")
    if process.returncode != 0:
        fail(f"{' '.join(process.args)}\n{output}{errors}")
    return json.loads(output.splitlines()[-1])


def measure(target, *words):
    """What the commands cost the target, from when all are connected until all is answered; not what coming and going costs."""
    process = start(*words, "--port", target.port, "--wait")
    expect_line(process, "ready", target)
    before = target.cpu_seconds()
    process.stdin.write("\n")
    process.stdin.flush()
    expect_line(process, "done", target)
    cpu = target.cpu_seconds() - before
    found = finish(process)
    expect_no_errors(target, words[0], found)
    commands = found["commands"]
    return Measured(cpu * 1e6 / commands, commands / found["seconds"], found["p50_us"], found["p99_us"]), commands


def expect_line(process, word, target):
    limit = Timer(RUN_LIMIT_SECONDS, process.kill)
    limit.start()
    line = process.stdout.readline()
    limit.cancel()
    if line != f"{word}\n":
        finish(process)
        fail(f"{target.name}: the load generator was not {word}")


def expect_no_errors(target, verb, found):
    if found["errors"]:
        first = found.get("first_error")
        fail(f"{target.name}: {found['errors']} of {found['commands']} replies to {verb} are wrong, the first: {first}")
