"""The two programs that a benchmark needs: Weir as it is shipped, and the load generator."""

import json
import subprocess
from pathlib import Path

from servers import fail

ROOT = Path(__file__).resolve().parents[2]


def programs(weir, load):
    """(Weir, load generator): those that were given, and else what deploy/build and a release build make."""
    load = load or build("load", "--release", "--bench", "load")
    weir = weir or shipped()
    return str(Path(weir).resolve()), str(Path(load).resolve())


def programs_to_count(weir, load):
    """The same for counting instructions, in a fraction of the time: Weir itself is optimised as for a release, and its
    libraries are those that the tests have built already."""
    options = ["--config", "tests/optimised.toml"]
    targets = ["--bin", "weir", "--bench", "load"]
    weir = weir or build("weir", *targets, *options)
    load = load or build("load", *targets, *options)
    return str(Path(weir).resolve()), str(Path(load).resolve())


def shipped():
    built = subprocess.run([ROOT / "deploy/build"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        fail("deploy/build failed; --weir takes a binary that is built already", built.returncode)
    return built.stdout.strip()


def build(name, *options):
    command = ["cargo", "build", "--locked", *options, "--message-format=json-render-diagnostics"]
    try:
        built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        fail("cargo is missing; install Rust from https://rustup.rs", 69)
    if built.returncode != 0:
        fail(f"{' '.join(command)} failed", built.returncode)
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    made = [
        message["executable"]
        for message in messages
        if message.get("executable") and message["target"]["name"] == name
    ]
    if not made:
        fail(f"cargo does not say where it has put {name}")
    return made[-1]
