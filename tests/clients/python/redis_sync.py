"""redis-py, blocking: redis_sync.py URL [PROTOCOL]

Without PROTOCOL it connects as `redis.from_url` does by itself.
"""

import sys
import threading

import redis
from redis.cache import CacheConfig

from shown import refused, show, wait_until

url, options = sys.argv[1], {}
if len(sys.argv) > 2:
    options["protocol"] = int(sys.argv[2])


def connect(**more):
    return redis.from_url(url, **options, **more)


def in_thread(work):
    """Runs `work` in a thread of its own; the answer to a call of what this returns is that of `work`."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()

    def answer():
        thread.join(60)
        return answers[0]

    return answer


def blocked(r, count):
    wait_until(f"{count} clients are blocked", lambda: r.info("clients")["blocked_clients"] == count)


def attempt(what, work):
    try:
        show(what, work())
    except redis.RedisError as error:
        refused(what, error)


def connection(r):
    show("ping", r.ping())
    show("echo", r.echo("text"))
    show("client_setname", r.client_setname("sync"))
    one = connect(single_connection_client=True, client_name="one")
    show("client_getname", one.client_getname())
    show("client_id", one.client_id() > 0)
    about = one.client_info()
    show("client_info", [about[field] for field in ("name", "db", "flags", "multi", "resp", "user")])
    show("client_list", [each["name"] for each in one.client_list() if each["name"] == "one"])
    heard = one.pubsub()
    heard.subscribe("a", "b")
    wait_until("it is subscribed", lambda: r.pubsub_numsub("b")[0][1] == 1)
    listening = next(each for each in one.client_list() if each["cmd"] == "subscribe")
    show("who listens", [listening[field] for field in ("flags", "db", "sub", "psub")])
    heard.close()
    show("client_no_evict", one.client_no_evict("ON"))
    show("acl_whoami", one.acl_whoami())
    show("role", one.role()[0])
    info = one.info()
    show("info", [info[field] for field in ("redis_version", "redis_mode", "role", "loading", "maxmemory_policy")])
    show("config_get", one.config_get("maxmemory-policy"))
    show("time", len(one.time()))
    show("command_count", one.command_count() > 200)
    show("reset", one.execute_command("RESET"))
    show("quit", one.execute_command("QUIT"))
    one.close()


def strings(r):
    show("set", r.set("k", "v"))
    show("get", r.get("k"))
    show("absent", r.get("absent"))
    show("mset", r.mset({"a": 1, "b": 2}))
    show("mget", r.mget("a", "absent", "b"))
    show("set nx", r.set("k", "w", nx=True))
    show("set get", r.set("k", "w", get=True))
    show("set ex", r.set("t", "v", ex=1000))
    show("ttl", 990 < r.ttl("t") <= 1000)
    show("getex", r.getex("t", persist=True))
    show("getdel", r.getdel("t"))
    show("incr", r.incr("n", 5))
    show("incrbyfloat", r.incrbyfloat("f", 1.5))
    show("append", r.append("k", "xyz"))
    show("binary", r.set("bin", bytes(range(256))) and r.get("bin") == bytes(range(256)))
    show("large", r.set("large", b"x" * 3_000_000) and len(r.get("large")))
    show("exists", r.exists("k", "absent", "a"))
    show("type", r.type("k"))
    show("delete", r.delete("a", "b", "absent"))
    show("dump", r.restore("copy", 0, r.dump("k")) and r.get("copy"))
    decoded = connect(decode_responses=True)
    show("decoded", decoded.get("k"))
    decoded.close()
    attempt("wrong type", lambda: r.lpush("k", 1))
    attempt("not a number", lambda: r.incr("k"))
    attempt("unknown", lambda: r.execute_command("NONSENSE", "a", "b"))
    attempt("arity", lambda: r.execute_command("GET"))
    attempt("auth", lambda: r.execute_command("AUTH", "somebody", "wrong"))


def collections(r):
    show("hset", r.hset("h", mapping={"a": 1, "b": 2}))
    show("hgetall", r.hgetall("h"))
    show("hmget", r.hmget("h", "a", "x"))
    show("rpush", r.rpush("l", *"abc"))
    show("lrange", r.lrange("l", 0, -1))
    show("lmpop", r.lmpop(2, "absent", "l", direction="LEFT"))
    show("sadd", r.sadd("s", *"abc"))
    show("smembers", r.smembers("s"))
    show("sinter", r.sinter("s", "s"))
    show("zadd", r.zadd("z", {"a": 1, "b": 2.5}))
    show("zrange", r.zrange("z", 0, -1, withscores=True))
    show("zscore", r.zscore("z", "b"))
    show("zpopmin", r.zpopmin("z"))
    show("geoadd", r.geoadd("g", (13.361389, 38.115556, "here")))
    show("geopos", r.geopos("g", "here"))
    show("pfcount", r.pfadd("p", "a", "b") and r.pfcount("p"))
    show("bitfield", r.bitfield("bits").set("u8", 0, 255).get("u8", 0).execute())
    show("sort", r.sort("s", alpha=True, desc=True))
    show("object encoding", r.object("encoding", "h"))


def scans(r):
    r.mset({f"scan:{n}": n for n in range(500)})
    show("scan_iter", len(set(r.scan_iter("scan:*", count=50))))
    r.hset("scan-h", mapping={f"f{n}": n for n in range(500)})
    show("hscan_iter", len(dict(r.hscan_iter("scan-h"))))
    r.sadd("scan-s", *range(500))
    show("sscan_iter", len(set(r.sscan_iter("scan-s"))))
    r.zadd("scan-z", {str(n): n for n in range(500)})
    show("zscan_iter", len(dict(r.zscan_iter("scan-z"))))
    show("keys", len(r.keys("scan:*")))
    show("dbsize", r.dbsize())


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for n in range(1000):
            pipe.set(f"p{n}", n).get(f"p{n}")
        show("pipeline", sum(int(answer) for answer in pipe.execute()[1::2]))
    with r.pipeline() as pipe:
        show("transaction", pipe.set("x", 1).incr("x").get("x").lrange("absent", 0, -1).hgetall("h").execute())
    with r.pipeline() as pipe:
        show("errors within", pipe.set("x", "text").incr("x").get("x").execute(raise_on_error=False)[0::2])
    with r.pipeline() as pipe:
        pipe.set("x", 2).execute_command("GET")
        attempt("aborted", pipe.execute)
    show("after it", r.get("x"))
    with r.pipeline() as pipe:
        pipe.multi()
        pipe.set("x", 3)
        pipe.reset()
    show("never sent", r.get("x"))
    with r.pipeline() as pipe:
        pipe.publish("nobody", "m").sadd("s2", 1).zadd("z2", {"a": 1}).expire("z2", 100).eval("return {1,2}", 0)
        show("mixed", pipe.execute())


def watching(r):
    with r.pipeline() as pipe:
        pipe.watch("w")
        seen = pipe.get("w")
        pipe.multi()
        pipe.set("w", "mine")
        show("watched", (seen, pipe.execute()))
    with r.pipeline() as pipe:
        pipe.watch("w")
        r.set("w", "somebody's")
        pipe.multi()
        pipe.set("w", "mine")
        attempt("conflict", pipe.execute)
    show("theirs", r.get("w"))
    with r.pipeline() as pipe:
        pipe.watch("w")
        r.set("w", "again")
        pipe.unwatch()
        pipe.multi()
        pipe.set("w", "unwatched")
        show("unwatched", pipe.execute())
    tries = []

    def increment(pipe):
        tries.append(1)
        number = int(pipe.get("counter") or 0)
        if len(tries) == 1:
            r.set("counter", 10)
        pipe.multi()
        pipe.set("counter", number + 1)

    show("transaction()", r.transaction(increment, "counter"))
    show("counter", (len(tries), r.get("counter")))
    one = connect(single_connection_client=True)
    show("multi", [one.execute_command(*words) for words in (("MULTI",), ("SET", "d", "1"), ("DISCARD",), ("GET", "d"))])
    attempt("exec alone", lambda: one.execute_command("EXEC"))
    attempt("discard alone", lambda: one.execute_command("DISCARD"))
    one.execute_command("MULTI")
    attempt("nested", lambda: one.execute_command("MULTI"))
    attempt("watch within", lambda: one.execute_command("WATCH", "w"))
    show("exec", one.execute_command("DISCARD"))
    one.close()


def scripts(r):
    script = r.register_script("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
    show("script", script(keys=["scripted"], args=["a"]))
    show("known", r.script_exists(script.sha, "f" * 40))
    show("flush", r.script_flush())
    attempt("noscript", lambda: r.evalsha(script.sha, 1, "scripted", "a"))
    show("loaded again", script(keys=["scripted"], args=["b"]))
    r.script_flush()
    with r.pipeline() as pipe:
        script(keys=["scripted"], args=["c"], client=pipe)
        pipe.get("scripted")
        show("in a pipeline", pipe.execute())
    attempt("its error", lambda: r.eval("return redis.error_reply('MINE own words')", 0))
    attempt("its fault", lambda: r.eval("return redis.call('INCR', KEYS[1])", 1, "h"))
    show("function_load", r.function_load("#!lua name=lib\nredis.register_function('twice', function(k, a) return a[1] * 2 end)"))
    show("fcall", r.fcall("twice", 0, 21))
    show("function_list", [library[1] if isinstance(library, list) else library[b"library_name"] for library in r.function_list()])
    show("function_delete", r.function_delete("lib"))


def subscriptions(r):
    p = r.pubsub()
    p.subscribe("news", "more")
    p.psubscribe("n?ws")
    p.ssubscribe("shard")
    for _ in range(4):
        show("subscribed", p.get_message(timeout=60))
    show("publish", (r.publish("news", "one"), r.publish("more", "two"), r.publish("none", "three")))
    for _ in range(3):
        show("message", p.get_message(timeout=60))
    show("spublish", r.spublish("shard", "four"))
    show("sharded", p.get_message(timeout=60))
    show("channels", sorted(r.pubsub_channels()))
    show("numsub", r.pubsub_numsub("news", "none"))
    show("numpat", r.pubsub_numpat())
    p.ping("alive")
    show("pong", p.get_message(timeout=60))
    p.unsubscribe("more")
    show("unsubscribed", p.get_message(timeout=60))
    p.unsubscribe()
    p.punsubscribe()
    p.sunsubscribe()
    for _ in range(3):
        show("unsubscribed", p.get_message(timeout=60))
    p.subscribe("again")
    show("subscribed again", p.get_message(timeout=60))
    p.close()
    wait_until("nobody is subscribed", lambda: r.pubsub_channels() == [])

    heard, both = [], threading.Event()
    handled = r.pubsub()
    handled.subscribe(handled=lambda message: (heard.append(message["data"]), len(heard) == 100 and both.set()))
    thread = handled.run_in_thread(sleep_time=0.1, daemon=True)
    wait_until("it listens", lambda: r.publish("handled", "m") == 1)
    for _ in range(99):
        r.publish("handled", "m")
    show("heard", both.wait(60))
    thread.stop()
    thread.join(60)

    # The test has told the server to announce what happens to keys.
    events = r.pubsub(ignore_subscribe_messages=True)
    events.psubscribe("__key*__:noted")
    wait_until("it is subscribed", lambda: events.get_message(timeout=0.1) is None and r.pubsub_numpat() == 1)
    r.set("noted", 1)
    # Not so soon that a slow server finds it over already, and deletes it at once.
    r.pexpire("noted", 100)
    wait_until("it has expired", lambda: not r.exists("noted"))
    for _ in range(3):
        show("event", events.get_message(timeout=60))
    events.close()


def blocking(r):
    other = connect()
    answer = in_thread(lambda: r.blpop(["q1", "q2"], timeout=0))
    blocked(other, 1)
    show("rpush", other.rpush("q2", "x", "y"))
    show("blpop", answer())
    show("at once", r.brpop("q2", timeout=60))
    show("nothing", r.blpop("q2", timeout=0.1))
    answer = in_thread(lambda: r.blmove("q1", "q3", timeout=0))
    blocked(other, 1)
    other.lpush("q1", "moved")
    show("blmove", (answer(), other.lrange("q3", 0, -1)))
    answer = in_thread(lambda: r.bzpopmin("bz", timeout=0))
    blocked(other, 1)
    other.zadd("bz", {"m": 1.5})
    show("bzpopmin", answer())
    answer = in_thread(lambda: r.blmpop(0, 2, "q1", "q4", direction="LEFT", count=2))
    blocked(other, 1)
    with other.pipeline() as pipe:
        pipe.rpush("q4", 1, 2, 3).execute()
    show("blmpop", answer())
    answers = [in_thread(lambda: connect().brpop("many", timeout=0)) for _ in range(10)]
    blocked(other, 10)
    other.rpush("many", *range(10))
    show("ten", sorted(each()[1] for each in answers))
    show("wait", r.wait(0, 100))
    waiting = connect(single_connection_client=True)
    number = waiting.client_id()

    def is_unblocked():
        try:
            return waiting.blpop("never", timeout=0)
        except redis.ResponseError as error:
            return str(error)

    answer = in_thread(is_unblocked)
    blocked(other, 1)
    show("client_unblock", (other.client_unblock(number, error=True), answer()))
    waiting.close()
    other.close()


def databases(r):
    three = connect(db=3)
    show("set", three.set("only-in-3", 1))
    show("get", (three.get("only-in-3"), r.get("only-in-3")))
    show("dbsize", three.dbsize())
    show("move", three.move("only-in-3", 4))
    one = connect(single_connection_client=True)
    show("select", one.execute_command("SELECT", 4))
    show("moved", one.get("only-in-3"))
    for words in (("MULTI",), ("INCR", "only-in-3"), ("KEYS", "*"), ("EXEC",)):
        show("transaction there", one.execute_command(*words))
    attempt("select 99", lambda: one.execute_command("SELECT", 99))
    show("flushdb", (one.flushdb(), one.dbsize(), r.dbsize() > 0))
    show("url", redis.from_url(url + "/7", **options).set("k", 7))
    one.close()
    three.close()


def streams(r):
    show("xadd", [r.xadd("st", {"n": n}, id=f"{n}-1") for n in range(1, 6)])
    show("xrange", r.xrange("st", count=2))
    show("xread", r.xread({"st": "3-1"}))
    show("xgroup_create", r.xgroup_create("st", "g", id="0"))
    attempt("busy group", lambda: r.xgroup_create("st", "g", id="0"))
    show("xreadgroup", r.xreadgroup("g", "me", {"st": ">"}, count=2))
    show("xack", r.xack("st", "g", "1-1"))
    show("xpending", r.xpending("st", "g"))
    show("xautoclaim", r.xautoclaim("st", "g", "you", 0))
    show("xinfo", r.xinfo_stream("st")["length"])
    r.xreadgroup("g", "me", {"st": ">"})
    other = connect()
    answer = in_thread(lambda: r.xreadgroup("g", "me", {"st": ">"}, block=0))
    blocked(other, 1)
    other.xadd("st", {"late": 1}, id="9-1")
    show("xreadgroup block", answer())
    answer = in_thread(lambda: r.xread({"st": "$"}, block=0))
    blocked(other, 1)
    other.xadd("st", {"later": 1}, id="10-1")
    show("xread block", answer())
    show("nothing", r.xread({"st": "$"}, block=50))
    other.close()


def locks(r):
    with r.lock("lock", timeout=60) as lock:
        show("owned", lock.owned())
        show("second", r.lock("lock", timeout=60).acquire(blocking=False))
        show("extend", lock.extend(60))
        show("reacquire", lock.reacquire())
    lock = r.lock("lock", timeout=60)
    show("free again", lock.acquire(blocking=False))
    r.set("lock", "somebody's")
    attempt("not ours", lock.release)
    r.delete("lock")


def caching(r):
    attempt("cache", lambda: redis.from_url(url, protocol=3, cache_config=CacheConfig()).get("cached"))
    one = connect(single_connection_client=True)
    show("tracking", one.client_tracking_on())
    show("tracked", (r.set("cached", "old"), one.get("cached"), one.client_trackinginfo()))
    show("getredir", one.client_getredir())
    if options.get("protocol") != 2:
        told = []
        one.connection._parser.set_invalidation_push_handler(told.append)
        r.set("cached", "new")
        wait_until("it is told", lambda: one.ping() and told)
        show("told", told)
    show("tracking off", one.client_tracking_off())
    one.close()


def monitoring(r):
    other = connect()
    with r.monitor() as monitor:
        other.set("monitored", "by it")
        while True:
            command = monitor.next_command()
            if "monitored" in command["command"]:
                break
    show("monitor", (command["db"], command["command"], command["client_type"]))
    other.close()


def killing(r):
    victim = connect(single_connection_client=True, client_name="victim")
    victim.ping()
    number = next(each["id"] for each in r.client_list() if each["name"] == "victim")
    show("client_kill", r.client_kill_filter(_id=number))
    try:
        victim.ping()
    except redis.ConnectionError:
        pass
    show("reconnects", victim.ping())
    victim.close()
    pooled = redis.ConnectionPool.from_url(url, max_connections=20, **options)
    clients = redis.Redis(connection_pool=pooled)
    answers = [in_thread(lambda n=n: [clients.set(f"pool{n}", n), clients.get(f"pool{n}")]) for n in range(20)]
    show("pool", [answer() for answer in answers])
    pooled.disconnect()


r = connect()
for part in (connection, strings, collections, scans, pipelines, watching, scripts, subscriptions, blocking, databases,
             streams, locks, caching, monitoring, killing):
    print(f"-- {part.__name__}")
    part(r)
r.flushall()
show("end", r.dbsize())
