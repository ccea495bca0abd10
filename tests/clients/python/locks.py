"""Lock libraries on top of redis-py: locks.py URL

redlock-py and pottery want several masters for safety; one serves for asking the server the same things.
"""

import sys
import threading
import warnings

import pottery
import redis
from redlock import Redlock

from shown import PATIENCE, show

# It says so of whatever asks for all of a container.
warnings.filterwarnings("ignore", category=pottery.InefficientAccessWarning)

url = sys.argv[1]
r = redis.from_url(url)


def redlock_py():
    manager = Redlock([url], retry_count=1)
    lock = manager.lock("resource", PATIENCE * 1000)
    show("locked", (lock is not None, lock.resource, len(lock.key)))
    show("second", manager.lock("resource", 1000))
    show("held", 0 < r.pttl("resource") <= PATIENCE * 1000)
    manager.unlock(lock)
    show("free", r.exists("resource"))
    newer = manager.lock("resource", PATIENCE * 1000)
    manager.unlock(lock)
    show("not the old one's to unlock", (newer is not None, r.exists("resource")))


def pottery_locks():
    counted = []

    def count():
        with pottery.Redlock(key="printer", masters={redis.from_url(url)}, auto_release_time=PATIENCE):
            seen = len(counted)
            r.set("printing", seen)
            counted.append(int(r.get("printing")))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    show("counted", counted)
    lock = pottery.Redlock(key="printer", masters={r}, auto_release_time=PATIENCE)
    show("acquire", (lock.acquire(), PATIENCE - 10 < lock.locked() <= PATIENCE))
    show("extend", lock.extend())
    try:
        pottery.Redlock(key="printer", masters={redis.from_url(url)}).release()
    except pottery.ReleaseUnlockedLock as error:
        show("not ours", type(error).__name__)
    lock.release()
    show("released", lock.locked())


def pottery_containers():
    ids = pottery.NextID(key="ids", masters={r})
    show("ids", [next(ids) for _ in range(3)])
    numbers = pottery.RedisDict({"a": 1, "b": [2]}, redis=r, key="dict")
    numbers["c"] = {"d": None}
    show("dict", dict(numbers))
    items = pottery.RedisList([1, 2, 3], redis=r, key="list")
    items.insert(1, "x")
    items.extend([4, 5])
    show("list", (list(items), items[1:3], items.pop()))
    queue = pottery.RedisSimpleQueue(redis=r, key="queue")
    queue.put("job")
    show("queue", queue.get(timeout=PATIENCE))
    show("set", sorted(pottery.RedisSet({1, 2, 3}, redis=r, key="set")))


for part in (redlock_py, pottery_locks, pottery_containers):
    print(f"-- {part.__name__}")
    part()
r.flushall()
show("end", r.dbsize())
