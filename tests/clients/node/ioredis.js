// ioredis: ioredis.js URL [PROTOCOL]. Without PROTOCOL it connects as `new Redis(url)` does by itself.
'use strict';

const Redis = require('ioredis');
const { show, attempt, until, field, run } = require('./shown');

const [url, protocol] = process.argv.slice(2);
const options = protocol ? { protocol: Number(protocol) } : {};
const clients = [];

function connect(more) {
  const client = new Redis(url, { ...options, ...more });
  client.on('error', (error) => console.error('error event', error));
  clients.push(client);
  return client;
}

const r = connect();

const blocked = (count) =>
  until(`${count} are blocked`, async () => field(await r.info('clients'), 'blocked_clients') === count);

async function connection() {
  show('ping', await r.ping());
  const named = connect({ connectionName: 'named', db: 2 });
  show('name', await named.client('GETNAME'));
  show('about', /name=named .*db=2 .*resp=\d/.exec(await named.client('INFO'))[0].replace(/^(name=\w+) .*(db=\d+) .*(resp=\d)$/, '$1 $2 $3'));
  show('status', named.status);
  show('quit', await named.quit());
  await until('it has ended', () => named.status === 'end');
  const lazy = connect({ lazyConnect: true });
  await lazy.connect();
  show('lazy', await lazy.echo('text'));
  lazy.disconnect();
  const reconnected = connect({ connectionName: 'victim' });
  const id = await reconnected.client('ID');
  const closed = new Promise((resolve) => reconnected.once('close', resolve));
  show('killed', await r.client('KILL', 'ID', id));
  // What is sent before it knows would be answered by a reset.
  await closed;
  await until('it is back', async () => (await reconnected.client('ID').catch(() => id)) !== id);
  show('back', await reconnected.client('GETNAME'));
  reconnected.disconnect();
}

async function commands() {
  show('set', await r.set('k', 'v', 'EX', 1000));
  show('get', await r.get('k'));
  show('buffer', (await r.getBuffer('k')).length);
  show('mset', await r.mset({ a: 1, b: 2 }));
  show('mget', await r.mget('a', 'absent', 'b'));
  show('hset', await r.hset('h', { f: 1, g: 2 }));
  show('hgetall', await r.hgetall('h'));
  show('zadd', await r.zadd('z', 1.5, 'a', 2, 'b'));
  show('zrange', await r.zrange('z', 0, -1, 'WITHSCORES'));
  show('sadd', [await r.sadd('s', 'a', 'b'), (await r.smembers('s')).sort()]);
  await attempt('wrong type', () => r.lpush('k', 1));
  await attempt('unknown', () => r.call('NONSENSE', 'a'));
  const keys = new Set();
  await r.mset(Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`scan:${n}`, n])));
  for await (const some of r.scanStream({ match: 'scan:*', count: 50 })) some.forEach((key) => keys.add(key));
  show('scanStream', keys.size);
  const automatic = connect({ enableAutoPipelining: true });
  show('automatic pipelining', (await Promise.all(Array.from({ length: 100 }, (_, n) => automatic.get(`scan:${n}`)))).length);
  automatic.disconnect();
}

async function transactions() {
  const pipeline = r.pipeline();
  for (let n = 0; n < 1000; n++) pipeline.incr('pipelined');
  show('pipeline', (await pipeline.exec()).at(-1));
  show('multi', await r.multi().set('x', 1).incr('x').lpush('x', 1).get('x').exec());
  await attempt('aborted', () => r.multi().set('x', 2).call('GET').exec());
  await r.multi({ pipeline: false });
  show('queued', [await r.set('x', 3), await r.get('x'), await r.exec()]);
  await r.multi({ pipeline: false });
  await r.set('x', 4);
  show('discarded', [await r.discard(), await r.get('x')]);
  const watching = connect();
  await watching.watch('w');
  await r.set('w', 'theirs');
  show('conflict', await watching.multi().set('w', 'mine').exec());
  await watching.watch('w');
  show('no conflict', await watching.multi().set('w', 'mine').get('w').exec());
  watching.disconnect();
}

async function scripts() {
  r.defineCommand('twice', { numberOfKeys: 1, lua: "return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1] * 2)}" });
  show('script', await r.twice('scripted', 2));
  await r.script('FLUSH');
  show('loaded again', await r.twice('scripted', 2));
  await r.script('FLUSH');
  show('in a pipeline', await r.pipeline().twice('scripted', 2).get('scripted').exec());
  show('in a transaction', await r.multi().twice('scripted', 2).exec());
  await attempt('noscript', () => r.evalsha('f'.repeat(40), 0));
}

async function subscriptions() {
  const listener = connect({ connectionName: 'listening' });
  const heard = [];
  const note = (...event) => heard.push(event);
  listener.on('message', (...event) => note('message', ...event));
  listener.on('pmessage', (...event) => note('pmessage', ...event));
  listener.on('smessage', (...event) => note('smessage', ...event));
  show('subscribe', await listener.subscribe('news', 'more'));
  show('psubscribe', await listener.psubscribe('n?ws'));
  show('ssubscribe', await listener.ssubscribe('shard'));
  show('publish', [await r.publish('news', 'one'), await r.publish('more', 'two'), await r.spublish('shard', 'three')]);
  await until('all is heard', () => heard.length === 4);
  show('heard', heard);
  show('numsub', await r.pubsub('NUMSUB', 'news', 'none'));
  show('ping', await listener.ping());
  const id = /id=(\d+) .*name=listening /.exec(await r.client('LIST'))[1];
  show('killed', await r.client('KILL', 'ID', id));
  await until('it has subscribed again', async () => (await r.publish('news', 'again')) === 2);
  await until('it hears again', () => heard.some((event) => event.at(-1) === 'again'));
  show('unsubscribe', [await listener.unsubscribe('more')]);
  show('unsubscribe', [await listener.unsubscribe('news')]);
  show('unsubscribe', [await listener.punsubscribe('n?ws')]);
  show('unsubscribe', [await listener.sunsubscribe('shard')]);
  show('then', await listener.set('after', 'it'));
  listener.disconnect();
}

async function blocking() {
  const waiting = connect();
  let answer = waiting.blpop('q1', 'q2', 0);
  await blocked(1);
  show('rpush', await r.rpush('q2', 'x'));
  show('blpop', await answer);
  show('nothing', await waiting.blpop('q1', 0.1));
  answer = waiting.bzpopmin('bz', 0);
  await blocked(1);
  await r.zadd('bz', 1, 'm');
  show('bzpopmin', await answer);
  await r.xgroup('CREATE', 'st', 'g', '$', 'MKSTREAM');
  answer = waiting.xreadgroup('GROUP', 'g', 'me', 'BLOCK', 0, 'STREAMS', 'st', '>');
  await blocked(1);
  await r.xadd('st', '5-5', 'f', 'v');
  show('xreadgroup', await answer);
  answer = waiting.xread('BLOCK', 0, 'STREAMS', 'st', '$');
  await blocked(1);
  await r.xadd('st', '6-6', 'f', 'v');
  show('xread', await answer);
  answer = waiting.blpop('never', 0).catch((error) => error);
  await blocked(1);
  waiting.disconnect();
  await blocked(0);
  show('after it hung up', [await r.rpush('never', 1), await r.llen('never')]);
}

async function monitoring() {
  const monitor = await connect().monitor();
  const seen = new Promise((resolve) => monitor.on('monitor', (time, words) => words.includes('monitored') && resolve(words)));
  await r.set('monitored', 'by it');
  show('monitor', await seen);
  monitor.disconnect();
}

async function databases() {
  const other = connect();
  show('select', [await other.select(3), await other.set('only-in-3', 1), await other.dbsize(), await r.get('only-in-3')]);
  show('pipelined', await other.pipeline().select(4).set('only-in-4', 1).dbsize().select(3).dbsize().exec());
  await attempt('select 99', () => other.select(99));
  other.disconnect();
}

run([connection, commands, transactions, scripts, subscriptions, blocking, monitoring, databases], async () => {
  show('end', await r.flushall());
  clients.forEach((client) => client.disconnect());
});
