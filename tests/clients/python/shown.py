"""What every script prints: one line for one fact, the same on every run against the same kind of server."""

import time

# The longest any wait of a script may last before it counts as "never", in seconds.
PATIENCE = 60


def plain(value):
    """`value` in one spelling: text for bytes, and the members of a set in order."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value), key=repr)
    if isinstance(value, dict):
        return {plain(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain, value))
    return value


def show(what, value):
    print(f"{what}: {plain(value)!r}", flush=True)


def refused(what, error):
    """Shows an error that was asked for: its class and its text."""
    print(f"{what}: {type(error).__name__}: {error}", flush=True)


def wait_until(what, condition):
    """Waits until `condition()` holds, looking every few milliseconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        time.sleep(0.005)
