"""redis-py, asyncio: redis_asyncio.py URL [PROTOCOL]

Without PROTOCOL it connects as `redis.asyncio.from_url` does by itself.
"""

import asyncio
import sys

import redis.asyncio as redis
from redis.exceptions import RedisError, WatchError

from shown import PATIENCE, refused, show

url, options = sys.argv[1], {}
if len(sys.argv) > 2:
    options["protocol"] = int(sys.argv[2])


def connect(**more):
    return redis.from_url(url, **options, **more)


async def until(condition):
    """Waits until `await condition()` holds, looking every few milliseconds."""

    async def holds():
        while not await condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(holds(), PATIENCE)


async def blocked(r, count):
    async def are_blocked():
        return (await r.info("clients"))["blocked_clients"] == count

    await until(are_blocked)


async def attempt(what, work):
    try:
        show(what, await work)
    except RedisError as error:
        refused(what, error)


async def basics(r):
    show("ping", await r.ping())
    show("set", await r.set("k", "v", ex=1000))
    show("get", await r.get("k"))
    show("mset", await r.mset({"a": 1, "b": 2}))
    show("mget", await r.mget("a", "absent", "b"))
    show("hash", (await r.hset("h", mapping={"f": 1, "g": 2}), await r.hgetall("h")))
    show("scan_iter", sorted([key async for key in r.scan_iter("*")]))
    await attempt("wrong type", r.incr("h"))
    show("at once", await asyncio.gather(*(r.incr("n") for _ in range(50))) and await r.get("n"))
    one = await connect(single_connection_client=True, client_name="one", db=2).initialize()
    about = await one.client_info()
    show("client_info", [about[field] for field in ("name", "db", "resp")])
    await one.aclose()


async def transactions(r):
    async with r.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.incr("pipelined")
        show("pipeline", (await pipe.execute())[-1])
    async with r.pipeline() as pipe:
        show("transaction", await pipe.set("x", 1).incr("x").get("x").lpush("x", 1).execute(raise_on_error=False))
    async with r.pipeline() as pipe:
        await pipe.watch("w")
        await r.set("w", "theirs")
        pipe.multi()
        pipe.set("w", "mine")
        try:
            await pipe.execute()
        except WatchError as error:
            refused("conflict", error)

    async def increment(pipe):
        number = int(await pipe.get("counter") or 0)
        pipe.multi()
        pipe.set("counter", number + 1)

    await asyncio.gather(*(r.transaction(increment, "counter") for _ in range(5)))
    show("five increments", await r.get("counter"))


async def scripts(r):
    script = r.register_script("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}")
    show("script", await script(keys=["scripted"], args=[5]))
    await r.script_flush()
    show("again", await script(keys=["scripted"], args=[5]))
    await attempt("noscript", r.evalsha("f" * 40, 0))


async def subscriptions(r):
    async with r.pubsub() as p:
        await p.subscribe("news")
        await p.psubscribe("n*")
        for _ in range(2):
            show("subscribed", await p.get_message(timeout=PATIENCE))
        show("publish", await r.publish("news", "one"))
        for _ in range(2):
            show("message", await p.get_message(timeout=PATIENCE))
        await p.unsubscribe()
        show("unsubscribed", await p.get_message(timeout=PATIENCE))
    async with r.pubsub(ignore_subscribe_messages=True) as p:
        await p.subscribe("listened")

        async def publish():
            for n in range(100):
                await until(lambda: subscribers("listened"))
                await r.publish("listened", n)

        async def subscribers(channel):
            return (await r.pubsub_numsub(channel))[0][1] == 1

        publishing, heard = asyncio.create_task(publish()), 0
        async for message in p.listen():
            heard += int(message["data"])
            if message["data"] == b"99":
                break
        await publishing
        show("heard", heard)


async def blocking(r):
    waiting = [asyncio.create_task(r.blpop(["q1", "q2"], timeout=0)) for _ in range(5)]
    await blocked(r, 5)
    await r.rpush("q2", *range(5))
    show("blpop", sorted(answer[1] for answer in await asyncio.gather(*waiting)))
    show("nothing", await r.blpop("q1", timeout=0.1))
    await r.xgroup_create("st", "g", id="$", mkstream=True)
    reading = asyncio.create_task(r.xreadgroup("g", "me", {"st": ">"}, block=0))
    await blocked(r, 1)
    await r.xadd("st", {"f": "v"}, id="5-5")
    show("xreadgroup", await reading)
    cancelled = asyncio.create_task(r.blpop("never", timeout=0))
    await blocked(r, 1)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    await blocked(r, 0)
    show("after a cancelled one", (await r.rpush("never", 1), await r.llen("never")))


async def locks(r):
    async def count():
        async with r.lock("lock", timeout=PATIENCE, sleep=0.005):
            number = int(await r.get("counted") or 0)
            await asyncio.sleep(0)
            await r.set("counted", number + 1)

    await asyncio.gather(*(count() for _ in range(10)))
    show("counted", await r.get("counted"))


async def main():
    r = connect()
    for part in (basics, transactions, scripts, subscriptions, blocking, locks):
        print(f"-- {part.__name__}")
        await part(r)
    await r.flushall()
    show("end", await r.dbsize())
    await r.aclose()


asyncio.run(main())
