// node-redis: node_redis.js URL [PROTOCOL]. Without PROTOCOL it connects as `createClient({ url })` does by itself.
'use strict';

const { createClient, createClientPool, defineScript, WatchError } = require('redis');
const { show, attempt, until, field, run } = require('./shown');

const [url, protocol] = process.argv.slice(2);
const options = protocol ? { RESP: Number(protocol) } : {};
const clients = [];

async function connect(more, onError = (error) => console.error('error event', error)) {
  const client = createClient({ url, ...options, ...more });
  client.on('error', onError);
  clients.push(client);
  return client.connect();
}

// For a client that is going to be killed.
const expected = () => {};

const twice = defineScript({
  SCRIPT: "return {KEYS[1], redis.call('INCRBY', KEYS[1], ARGV[1] * 2)}",
  NUMBER_OF_KEYS: 1,
  parseCommand(parser, key, number) {
    parser.pushKey(key);
    parser.push(String(number));
  },
  transformReply: (reply) => reply,
});

let r;

const blocked = (count) =>
  until(`${count} are blocked`, async () => field(await r.info('clients'), 'blocked_clients') === count);

async function connection() {
  r = await connect({ scripts: { twice } });
  show('ping', await r.ping());
  const named = await connect({ name: 'named', database: 2 }, expected);
  show('name', await named.clientGetName());
  const about = await named.clientInfo();
  show('about', [about.name, about.db, about.resp]);
  show('set', [await named.set('only-in-2', 1), await r.get('only-in-2')]);
  show('select', [await named.select(3), await named.get('only-in-2'), await named.select(2), await named.get('only-in-2')]);
  await attempt('select 99', () => named.select(99));
  const id = await named.clientId();
  show('killed', await r.clientKill({ filter: 'ID', id }));
  await until('it is back', async () => (await named.clientId().catch(() => id)) !== id);
  show('back', [await named.clientGetName(), await named.get('only-in-2')]);
  await named.close();
  const pool = await createClientPool({ url, ...options }).connect();
  show('pool', await Promise.all(Array.from({ length: 50 }, (_, n) => pool.set(`pool${n}`, n))));
  show('pooled', await pool.execute((client) => client.get('pool7')));
  await pool.close();
}

async function commands() {
  show('set', await r.set('k', 'v', { expiration: { type: 'EX', value: 1000 } }));
  show('get', await r.get('k'));
  show('mset', await r.mSet({ a: '1', b: '2' }));
  show('mget', await r.mGet(['a', 'absent', 'b']));
  show('hset', await r.hSet('h', { f: 1, g: 2 }));
  show('hgetall', await r.hGetAll('h'));
  show('zadd', await r.zAdd('z', [{ score: 1.5, value: 'a' }, { score: 2, value: 'b' }]));
  show('zrange', await r.zRangeWithScores('z', 0, -1));
  show('sadd', [await r.sAdd('s', ['a', 'b']), new Set(await r.sMembers('s'))]);
  show('geo', await r.geoAdd('geo', { longitude: 13.361389, latitude: 38.115556, member: 'here' }));
  show('type', [await r.type('h'), await r.exists(['k', 'absent']), await r.ttl('absent')]);
  await attempt('wrong type', () => r.lPush('k', '1'));
  await attempt('unknown', () => r.sendCommand(['NONSENSE', 'a']));
  await r.mSet(Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`scan:${n}`, String(n)])));
  const keys = new Set();
  for await (const some of r.scanIterator({ MATCH: 'scan:*', COUNT: 50 })) some.forEach((key) => keys.add(key));
  show('scanIterator', keys.size);
  show('at once', (await Promise.all(Array.from({ length: 300 }, (_, n) => r.get(`scan:${n}`)))).length);
}

async function transactions() {
  const many = r.multi();
  for (let n = 0; n < 1000; n++) many.incr('pipelined');
  show('pipeline', (await many.execAsPipeline()).at(-1));
  show('multi', await r.multi().set('x', 1).incr('x').get('x').exec());
  await attempt('its errors', () => r.multi().set('x', 'text').incr('x').exec().catch((error) => error.replies));
  await attempt('aborted', () => r.multi().set('x', 2).addCommand(['GET']).exec());
  const watching = await connect();
  await watching.watch('w');
  await r.set('w', 'theirs');
  const conflict = await watching.multi().set('w', 'mine').exec().catch((error) => error);
  show('conflict', conflict instanceof WatchError);
  await watching.watch('w');
  show('no conflict', await watching.multi().set('w', 'mine').get('w').exec());
  await watching.close();
}

async function scripts() {
  show('script', await r.twice('scripted', 2));
  await r.scriptFlush();
  show('loaded again', await r.twice('scripted', 2));
  show('in a transaction', await r.multi().twice('scripted', 2).get('scripted').exec());
  await attempt('noscript', () => r.evalSha('f'.repeat(40)));
  show('function', await r.functionLoad("#!lua name=lib\nredis.register_function('f', function(k, a) return a[1] end)"));
  show('fcall', await r.fCall('f', { arguments: ['x'] }));
  show('removed', await r.functionDelete('lib'));
}

async function subscriptions() {
  const listener = await connect({ name: 'listening' }, expected);
  const heard = [];
  await listener.subscribe(['news', 'more'], (message, channel) => heard.push(['subscribe', channel, message]));
  await listener.pSubscribe('n?ws', (message, channel) => heard.push(['pSubscribe', channel, message]));
  await listener.sSubscribe('shard', (message, channel) => heard.push(['sSubscribe', channel, message]));
  show('publish', [await r.publish('news', 'one'), await r.publish('more', 'two'), await r.sPublish('shard', 'three')]);
  await until('all is heard', () => heard.length === 4);
  show('heard', heard);
  show('channels', (await r.pubSubChannels()).sort());
  show('numsub', await r.pubSubNumSub(['news', 'none']));
  show('ping', await listener.ping());
  const id = (await r.clientList()).find((client) => client.name === 'listening').id;
  show('killed', await r.clientKill({ filter: 'ID', id }));
  await until('it has subscribed again', async () => (await r.publish('news', 'again')) === 2);
  await until('it hears again', () => heard.some((event) => event.at(-1) === 'again'));
  await listener.unsubscribe('more');
  await listener.unsubscribe();
  await listener.pUnsubscribe();
  await listener.sUnsubscribe();
  show('then', [await listener.set('after', 'it'), await r.pubSubChannels()]);
  await listener.close();
}

async function blocking() {
  const waiting = await connect();
  let answer = waiting.blPop(['q1', 'q2'], 0);
  await blocked(1);
  show('rpush', await r.rPush('q2', 'x'));
  show('blpop', await answer);
  show('nothing', await waiting.blPop('q1', 0.1));
  answer = waiting.bzPopMin('bz', 0);
  await blocked(1);
  await r.zAdd('bz', { score: 1, value: 'm' });
  show('bzpopmin', await answer);
  await r.xGroupCreate('st', 'g', '$', { MKSTREAM: true });
  answer = waiting.xReadGroup('g', 'me', { key: 'st', id: '>' }, { BLOCK: 0 });
  await blocked(1);
  await r.xAdd('st', '5-5', { f: 'v' });
  show('xreadgroup', await answer);
  answer = waiting.blPop('never', 0).catch((error) => error);
  await blocked(1);
  waiting.destroy();
  show('destroyed', await answer);
  await blocked(0);
  show('after it hung up', [await r.rPush('never', '1'), await r.lLen('never')]);
}

async function caching() {
  if (protocol === '2') return;
  const cached = await connect({ RESP: 3, clientSideCache: { maxEntries: 100 } });
  await r.set('cached', 'old');
  show('read', [await cached.get('cached'), await cached.get('cached'), await cached.get('absent')]);
  await r.set('cached', 'new');
  await until('it is told', async () => (await cached.get('cached')) === 'new');
  await r.flushDb();
  await until('it is told of the flush', async () => (await cached.get('cached')) === null);
  await cached.close();
}

async function monitoring() {
  const monitor = await connect();
  let hear;
  const seen = new Promise((resolve) => (hear = resolve));
  await monitor.monitor((line) => line.includes('monitored') && hear(/"set".*/i.exec(line)[0]));
  await r.set('monitored', 'by it');
  show('monitor', await seen);
  monitor.destroy();
}

run([connection, commands, transactions, scripts, subscriptions, blocking, caching, monitoring], async () => {
  show('end', await r.flushAll());
  clients.filter((client) => client.isOpen).forEach((client) => client.destroy());
});
