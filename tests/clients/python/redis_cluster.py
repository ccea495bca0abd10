"""redis-py's cluster client, blocking and asyncio: redis_cluster.py URL [PROTOCOL]

URL is of a cluster of one node. What the client is told of the cluster must lead it nowhere else.
"""

import asyncio
import sys
from urllib.parse import urlsplit

from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from shown import PATIENCE, refused, show, wait_until

url, options = sys.argv[1], {}
if len(sys.argv) > 2:
    options["protocol"] = int(sys.argv[2])


def attempt(what, work):
    try:
        show(what, work())
    except RedisError as error:
        refused(what, error)


def nodes(r):
    show("one node, the one asked", [node.port == urlsplit(url).port for node in r.get_nodes()])
    show("it is a primary", [node.server_type for node in r.get_primaries()])
    show("slots", [r.get_node_from_key(key) is not None for key in ("a", "b", "{c}d")])
    show("ping", r.ping(target_nodes=RedisCluster.ALL_NODES))
    show("keyslot", r.cluster_keyslot("key"))
    show("info", r.info("server")["redis_mode"])


def keys(r):
    show("set", [r.set(f"k{n}", n) for n in range(20)])
    show("get", [r.get(f"k{n}") for n in range(20)])
    show("mset", r.mset_nonatomic({"a": 1, "b": 2, "c": 3}))
    show("mget", r.mget_nonatomic("a", "absent", "b", "c"))
    show("mget of a tag", r.mset({"{t}a": 1, "{t}b": 2}) and r.mget("{t}a", "{t}b"))
    show("delete", r.delete("a", "b", "c"))
    show("exists", r.exists("k1", "k2", "absent"))
    show("scan_iter", len(set(r.scan_iter("k*"))))
    show("keys", sorted(r.keys("k1*")))
    show("dbsize", r.dbsize())
    attempt("wrong type", lambda: r.lpush("k1", 1))


def pipelines(r):
    with r.pipeline() as pipe:
        for n in range(200):
            pipe.incr(f"p{n % 50}")
        show("pipeline", sum(pipe.execute()))
    with r.pipeline(transaction=True) as pipe:
        show("transaction", pipe.set("{t}x", 1).incr("{t}x").get("{t}x").execute())
    with r.pipeline(transaction=True) as pipe:
        pipe.watch("{t}x")
        r.set("{t}x", "theirs")
        pipe.multi()
        pipe.set("{t}x", "mine")
        attempt("conflict", pipe.execute)


def scripts(r):
    script = r.register_script("return {KEYS[1], redis.call('INCR', KEYS[1])}")
    show("script", script(keys=["scripted"]))
    show("eval", r.eval("return redis.call('GET', KEYS[1])", 1, "scripted"))
    show("flush", r.script_flush())
    show("again", script(keys=["scripted"]))


def subscriptions(r):
    p = r.pubsub()
    p.subscribe("news")
    show("subscribed", p.get_message(timeout=PATIENCE))
    show("publish", r.publish("news", "one"))
    show("message", p.get_message(timeout=PATIENCE))
    p.ssubscribe("shard")
    wait_until("it is subscribed", lambda: p.get_sharded_message(timeout=0.1) or r.pubsub_shardnumsub("shard")[0][1] == 1)
    show("spublish", r.spublish("shard", "two"))
    heard = []
    wait_until("it is heard", lambda: heard.append(p.get_sharded_message(timeout=0.1)) or
               any(message and message["type"] == "smessage" for message in heard))
    show("smessage", [message["data"] for message in heard if message and message["type"] == "smessage"])
    p.close()


def blocking(r):
    show("blpop", (r.rpush("q", 1), r.blpop("q", timeout=PATIENCE), r.blpop("q", timeout=0.1)))
    show("stream", (r.xadd("st", {"f": "v"}, id="1-1"), r.xgroup_create("st", "g", id="0")))
    show("xreadgroup", r.xreadgroup("g", "me", {"st": ">"}, block=50))
    with r.lock("lock", timeout=PATIENCE):
        show("locked", r.lock("lock", timeout=PATIENCE).acquire(blocking=False))


async def in_asyncio():
    print("-- asyncio")
    async with AsyncRedisCluster.from_url(url, **options) as r:
        show("ping", await r.ping())
        show("one node, the one asked", [node.port == urlsplit(url).port for node in r.get_nodes()])
        show("set", await asyncio.gather(*(r.set(f"async{n}", n) for n in range(20))))
        show("get", await asyncio.gather(*(r.get(f"async{n}") for n in range(20))))
        async with r.pipeline() as pipe:
            for n in range(20):
                pipe.incr(f"async{n}")
            show("pipeline", await pipe.execute())


r = RedisCluster.from_url(url, **options)
for part in (nodes, keys, pipelines, scripts, subscriptions, blocking):
    print(f"-- {part.__name__}")
    part(r)
asyncio.run(in_asyncio())
r.flushall(target_nodes=RedisCluster.PRIMARIES)
show("end", r.dbsize())
r.close()
