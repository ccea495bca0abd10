//! redis-rs, blocking and in tokio: what it sees of a server, one line for one thing.

// As in the harness: a step that fails ends the test.
#![allow(clippy::unwrap_used)]

use crate::harness::{PATIENCE, wait_until};
use redis::caching::CacheConfig;
use redis::{AsyncCommands, Client, Cmd, Commands, Connection, FromRedisValue, RedisResult, Script, Value, cmd, pipe};
use redis::{AsyncConnectionConfig, streams::StreamReadOptions};
use std::fmt::Debug;

/// The lines so far.
#[derive(Default)]
struct Seen(String);

impl Seen {
    fn part(&mut self, name: &str) {
        self.0.push_str(&format!("-- {name}\n"));
    }

    fn show(&mut self, what: &str, value: impl Debug) {
        self.0.push_str(&format!("{what}: {value:?}\n"));
    }

    /// Shows the value, or the error with the text that the server gave it.
    fn attempt<T: Debug>(&mut self, what: &str, result: RedisResult<T>) {
        match result {
            Ok(value) => self.show(what, value),
            Err(error) => self.show(what, format!("{error}")),
        }
    }
}

/// Everything it sees of the server at `url`.
pub fn outcome(url: &str) -> String {
    let client = Client::open(url).unwrap();
    let mut seen = Seen::default();
    let mut connection = client.get_connection().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    commands(&mut seen, &mut connection);
    transactions(&mut seen, &client, &mut connection);
    scripts(&mut seen, &mut connection);
    subscriptions(&mut seen, &client, &mut connection);
    blocking(&mut seen, &client, &mut connection);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(asynchronous(&mut seen, &client, url.contains("resp3")));
    seen.attempt("end", connection.flushall::<String>());
    seen.0
}

fn words(text: &str) -> Cmd {
    let mut words = text.split(' ');
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command
}

fn ask<T: FromRedisValue>(connection: &mut Connection, text: &str) -> RedisResult<T> {
    words(text).query(connection)
}

fn commands(seen: &mut Seen, connection: &mut Connection) {
    seen.part("commands");
    seen.attempt("ping", connection.ping::<String>());
    seen.attempt("set", connection.set::<_, _, String>("k", "v"));
    seen.attempt("get", connection.get::<_, Option<String>>("k"));
    seen.attempt("absent", connection.get::<_, Option<String>>("absent"));
    seen.attempt("mset", connection.mset::<_, _, String>(&[("a", 1), ("b", 2)]));
    seen.attempt("mget", connection.mget::<_, Vec<Option<i64>>>(&["a", "absent", "b"]));
    seen.attempt("incr", connection.incr::<_, _, i64>("n", 5));
    seen.attempt("hset", connection.hset_multiple::<_, _, _, String>("h", &[("f", 1), ("g", 2)]));
    seen.attempt("hgetall", connection.hgetall::<_, std::collections::BTreeMap<String, i64>>("h"));
    seen.attempt("zadd", connection.zadd::<_, _, _, i64>("z", "m", 1.5));
    seen.attempt("zrange", connection.zrange_withscores::<_, Vec<(String, f64)>>("z", 0, -1));
    seen.attempt("wrong type", connection.lpush::<_, _, i64>("k", 1));
    seen.attempt("unknown", ask::<Value>(connection, "NONSENSE a b"));
    let name =
        ask::<String>(connection, "CLIENT SETNAME rust").and_then(|_| ask::<String>(connection, "CLIENT GETNAME"));
    seen.attempt("name", name);
    let about: String = ask(connection, "CLIENT INFO").unwrap();
    let fields = about
        .trim_end()
        .split(' ')
        .filter(|field| ["name=", "db=", "resp="].iter().any(|name| field.starts_with(name)));
    seen.show("about", fields.collect::<Vec<_>>());
    for n in 0..300 {
        connection.set::<_, _, ()>(format!("scan:{n}"), n).unwrap();
    }
    let keys: RedisResult<Vec<String>> = connection.scan_match("scan:*").unwrap().collect();
    let mut keys = keys.unwrap();
    keys.sort_unstable();
    keys.dedup();
    seen.show("scan", keys.len());
    seen.attempt("select", ask::<String>(connection, "SELECT 3"));
    seen.attempt("elsewhere", connection.get::<_, Option<String>>("k"));
    seen.attempt("select", ask::<String>(connection, "SELECT 0"));
    seen.attempt("select 99", ask::<String>(connection, "SELECT 99"));
}

fn transactions(seen: &mut Seen, client: &Client, connection: &mut Connection) {
    seen.part("transactions");
    let mut many = pipe();
    for _ in 0..1000 {
        many.incr("pipelined", 1);
    }
    seen.attempt("pipeline", many.query::<Vec<i64>>(connection).map(|answers| answers.iter().sum::<i64>()));
    let mut some = pipe();
    some.atomic().set("x", 1).ignore().incr("x", 1).get("x");
    seen.attempt("transaction", some.query::<(i64, i64)>(connection));
    let mut wrong = pipe();
    wrong.atomic().set("x", "text").incr("x", 1);
    seen.attempt("its error", wrong.query::<Value>(connection));
    let mut aborted = pipe();
    aborted.atomic().set("x", 3).add_command(words("GET x y"));
    seen.attempt("aborted", aborted.query::<Value>(connection));
    seen.attempt("after it", connection.get::<_, String>("x"));
    let mut other = client.get_connection().unwrap();
    let mut tries = 0;
    let counted = redis::transaction(connection, &["counter"], |connection, pipe| {
        tries += 1;
        let number: i64 = connection.get::<_, Option<i64>>("counter")?.unwrap_or(0);
        if tries == 1 {
            other.set::<_, _, ()>("counter", 10)?;
        }
        pipe.set("counter", number + 1).ignore().get("counter").query::<Option<(i64,)>>(connection)
    });
    seen.attempt("counted", counted);
    seen.show("tries", tries);
}

fn scripts(seen: &mut Seen, connection: &mut Connection) {
    seen.part("scripts");
    let script = Script::new("return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1])}");
    seen.attempt("script", script.key("scripted").arg(5).invoke::<(String, i64)>(connection));
    seen.attempt("flush", ask::<String>(connection, "SCRIPT FLUSH"));
    seen.attempt("again", script.key("scripted").arg(5).invoke::<(String, i64)>(connection));
    seen.attempt("noscript", ask::<Value>(connection, "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"));
}

fn subscriptions(seen: &mut Seen, client: &Client, connection: &mut Connection) {
    seen.part("subscriptions");
    let mut listening = client.get_connection().unwrap();
    {
        let mut heard = listening.as_pubsub();
        heard.set_read_timeout(Some(PATIENCE)).unwrap();
        // One by one: it waits for one confirmation of each call.
        heard.subscribe("news").unwrap();
        heard.subscribe("more").unwrap();
        heard.psubscribe("n?ws").unwrap();
        seen.attempt("publish", connection.publish::<_, _, i64>("news", "one"));
        seen.attempt("publish", connection.publish::<_, _, i64>("more", "two"));
        for _ in 0..3 {
            let message = heard.get_message().unwrap();
            let pattern: Option<String> = message.get_pattern().unwrap();
            seen.show("heard", (pattern, message.get_channel_name(), message.get_payload::<String>().unwrap()));
        }
        heard.unsubscribe("more").unwrap();
        seen.attempt("numsub", ask::<Vec<Value>>(connection, "PUBSUB NUMSUB news more"));
    }
    // Dropping it has unsubscribed it.
    seen.attempt("then", listening.get::<_, String>("k"));
    seen.attempt("channels", ask::<Vec<String>>(connection, "PUBSUB CHANNELS"));
}

fn wait_until_blocked(connection: &mut Connection, count: usize) {
    let line = format!("blocked_clients:{count}");
    wait_until("the clients are blocked", || {
        ask::<String>(connection, "INFO clients").unwrap().lines().any(|found| found == line)
    });
}

fn blocking(seen: &mut Seen, client: &Client, connection: &mut Connection) {
    seen.part("blocking");
    let mut waiting = client.get_connection().unwrap();
    let answer = std::thread::spawn(move || waiting.blpop::<_, (String, String)>(&["q1", "q2"], 0.0));
    wait_until_blocked(connection, 1);
    seen.attempt("rpush", connection.rpush::<_, _, i64>("q2", "x"));
    seen.attempt("blpop", answer.join().unwrap());
    seen.attempt("nothing", connection.blpop::<_, Option<(String, String)>>("q1", 0.1));
    seen.attempt("group", connection.xgroup_create_mkstream::<_, _, _, String>("st", "g", "$"));
    let mut waiting = client.get_connection().unwrap();
    let answer = std::thread::spawn(move || {
        let options = StreamReadOptions::default().group("g", "me").block(0);
        waiting.xread_options::<_, _, Option<redis::streams::StreamReadReply>>(&["st"], &[">"], &options)
    });
    wait_until_blocked(connection, 1);
    seen.attempt("xadd", connection.xadd::<_, _, _, _, String>("st", "5-5", &[("f", "v")]));
    let read = answer.join().unwrap().map(|reply| reply.map(|reply| reply.keys[0].ids[0].id.clone()));
    seen.attempt("xreadgroup", read);
}

async fn asynchronous(seen: &mut Seen, client: &Client, resp3: bool) {
    seen.part("tokio");
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let shared = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    let all = (0..200).map(|n| {
        let mut shared = shared.clone();
        async move {
            shared.set::<_, _, ()>(format!("async:{n}"), n).await?;
            shared.get::<_, i64>(format!("async:{n}")).await
        }
    });
    let answers: RedisResult<Vec<i64>> = futures_util::future::try_join_all(all).await;
    seen.attempt("at once", answers.map(|numbers| numbers.iter().sum::<i64>()));
    let mut shared = shared.clone();
    let mut some = pipe();
    some.atomic().set("y", 1).ignore().incr("y", 1);
    seen.attempt("transaction", some.query_async::<(i64,)>(&mut shared).await);
    let script = Script::new("return ARGV[1] * 2");
    seen.attempt("script", script.arg(21).invoke_async::<i64>(&mut shared).await);
    let mut managed = client.get_connection_manager().await.unwrap();
    seen.attempt("managed", managed.set::<_, _, String>("z2", 1).await);

    let (mut sink, mut stream) = client.get_async_pubsub().await.unwrap().split();
    sink.subscribe("news").await.unwrap();
    seen.attempt("publish", shared.publish::<_, _, i64>("news", "one").await);
    let message = futures_util::StreamExt::next(&mut stream).await.unwrap();
    seen.show("heard", message.get_payload::<String>().unwrap());

    if resp3 {
        caching(seen, client, &mut shared).await;
    }
}

/// Client-side caching: it asks the server to tell it what has changed.
async fn caching(seen: &mut Seen, client: &Client, other: &mut redis::aio::MultiplexedConnection) {
    seen.part("caching");
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE)).set_cache_config(CacheConfig::new());
    let mut cached = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    other.set::<_, _, ()>("cached", "old").await.unwrap();
    for _ in 0..3 {
        seen.attempt("read", cached.get::<_, String>("cached").await);
    }
    let statistics = cached.get_cache_statistics().unwrap();
    seen.show("hits and misses", (statistics.hit, statistics.miss));
    other.set::<_, _, ()>("cached", "new").await.unwrap();
    let told = async {
        while cached.get::<_, String>("cached").await.unwrap() != "new" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("it is told of the change");
}
