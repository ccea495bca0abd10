// redlock over ioredis: redlock.js URL. It wants several masters for safety; one is asked the same things.
'use strict';

const Redis = require('ioredis');
const Redlock = require('redlock');
const { PATIENCE, show, attempt, run } = require('./shown');

const [url] = process.argv.slice(2);
const r = new Redis(url);
const locks = new Redlock([r], { retryCount: -1, retryDelay: 5, retryJitter: 5 });
const impatient = new Redlock([r], { retryCount: 0 });
for (const one of [r, locks, impatient]) one.on('error', (error) => console.error('error event', error));
impatient.removeAllListeners('clientError');

async function one() {
  const lock = await locks.lock('resource', PATIENCE);
  show('held', (await r.get('resource')) === lock.value);
  await attempt('second', () => impatient.lock('resource', PATIENCE));
  const extended = await lock.extend(2 * PATIENCE);
  show('extended', (await r.pttl('resource')) > PATIENCE);
  await extended.unlock();
  show('free', await r.exists('resource'));
  await attempt('no longer ours', () => lock.unlock());
  const both = await locks.lock(['first', 'second'], PATIENCE);
  show('both', await r.exists('first', 'second'));
  await both.unlock();
}

async function many() {
  let counted = 0;
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      const lock = await locks.lock('counter', PATIENCE);
      const seen = Number((await r.get('counted')) ?? 0);
      counted = seen + 1;
      await r.set('counted', counted);
      await lock.unlock();
    }),
  );
  show('counted', [counted, await r.get('counted')]);
}

run([one, many], async () => {
  show('end', await r.flushall());
  await locks.quit();
});
