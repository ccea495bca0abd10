"""Celery with its worker processes, over Redis as broker and result backend: celery_run.py URL"""

import os
import subprocess
import sys

os.environ["CELERY_URL"] = sys.argv[1]

from celery import chain, chord, group
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from celery_tasks import add, app, fails, reports, third_time_lucky, total
from shown import PATIENCE, show, wait_until


def worker():
    """`celery worker` as it comes, with two processes. It says nothing but warnings and errors."""
    # Whom the tests run as is no matter of Redis.
    options = ["-W", "ignore:You're running the worker with superuser privileges"]
    options += ["-m", "celery", "--quiet", "--app", "celery_tasks", "worker", "--concurrency", "2", "--loglevel", "WARNING"]
    return subprocess.Popen([sys.executable, *options], cwd=os.path.dirname(__file__), stdout=subprocess.DEVNULL)


def answers(process):
    if process.poll() is not None:
        sys.exit(f"the worker has ended: {process.returncode}")
    return app.control.ping(timeout=1, limit=1)


def tasks():
    show("add", add.delay(2, 3).get(timeout=PATIENCE))
    show("many", [result.get(timeout=PATIENCE) for result in [add.delay(n, n) for n in range(50)]])
    show("retried", third_time_lucky.delay().get(timeout=PATIENCE))
    try:
        fails.delay("said the task").get(timeout=PATIENCE)
    except ValueError as error:
        show("failed", str(error))
    later = add.apply_async((1, 1), countdown=1)
    show("later", later.get(timeout=PATIENCE))
    show("state", (later.state, AsyncResult(later.id).result))
    halfway = reports.delay()
    wait_until("it reports", lambda: halfway.state == "HALFWAY")
    show("reported", halfway.info)
    halfway.forget()
    later.forget()
    show("forgotten", AsyncResult(later.id).state)


def workflows():
    show("chain", chain(add.s(1, 2), add.s(3), add.s(4)).delay().get(timeout=PATIENCE))
    show("group", group(add.s(n, 1) for n in range(10)).delay().get(timeout=PATIENCE))
    show("chord", chord((add.s(n, n) for n in range(10)), total.s()).delay().get(timeout=PATIENCE))
    show("chain with a chord", chain(add.s(1, 1), group(add.s(n) for n in range(5)), total.s()).delay().get(timeout=PATIENCE))


def control():
    show("ping", [list(answer.values()) for answer in app.control.ping(timeout=PATIENCE, limit=1)])
    inspect = app.control.inspect(timeout=PATIENCE, limit=1)
    show("registered", sorted(*inspect.registered().values()))
    show("active", list(inspect.active().values()))
    show("queues", [queue["name"] for queues in inspect.active_queues().values() for queue in queues])
    revoked = add.apply_async((1, 1), countdown=1)
    revoked.revoke()
    try:
        revoked.get(timeout=PATIENCE)
    except TaskRevokedError as error:
        show("revoked", str(error))
    show("purged", app.control.purge())


process = worker()
try:
    wait_until("the worker answers", lambda: answers(process))
    for part in (tasks, workflows, control):
        print(f"-- {part.__name__}", flush=True)
        part()
finally:
    process.terminate()
    show("worker ended", process.wait(PATIENCE))

# Celery keeps some results until the interpreter ends, and they then complain on stderr that it does. That is no matter of the
# server, so it ends without them.
sys.stdout.flush()
os._exit(0)
