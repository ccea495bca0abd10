// BullMQ: bullmq.js URL [node-redis]. Over ioredis, which is its own choice, or over node-redis.
'use strict';

const { Queue, Worker, QueueEvents, FlowProducer, Job, UnrecoverableError } = require('bullmq');
const { createClient } = require('redis');
const { PATIENCE, show, attempt, until, run } = require('./shown');

const [url, driver] = process.argv.slice(2);
const made = [];
const clients = [];

async function connection() {
  const { hostname: host, port } = new URL(url);
  if (driver !== 'node-redis') return { host, port: Number(port) };
  const client = createClient({ url });
  client.on('error', (error) => console.error('error event', error));
  clients.push(client);
  return client.connect();
}

async function make(Kind, ...args) {
  const options = { connection: await connection(), ...(typeof args.at(-1) === 'object' ? args.pop() : {}) };
  const one = new Kind(...args, options);
  one.on('error', (error) => console.error('error event', error));
  made.push(one);
  await one.waitUntilReady?.();
  return one;
}

let queue, events, worker;
const processed = [];

async function work(job) {
  processed.push(job.name);
  if (job.name === 'flaky' && job.attemptsMade < 2) throw new Error('not yet');
  if (job.name === 'hopeless') throw new UnrecoverableError('never');
  if (job.name === 'progress') {
    await job.updateProgress(50);
    await job.log('half of it');
  }
  if (job.name === 'parent') return Object.values(await job.getChildrenValues()).sort();
  return (job.data.n ?? 0) * 2;
}

// A notification that is sent before somebody blocks for it is for nobody.
async function listening(from, events) {
  let hears = false;
  events.on('resumed', () => { hears = true; });
  await until('its events are heard', async () => {
    await from.pause();
    await from.resume();
    return hears;
  });
}

// In turn: each wait listens to the queue, and Node warns of more than ten listeners.
async function all(jobs, from = events) {
  const answers = [];
  for (const job of jobs) answers.push(await job.waitUntilFinished(from, PATIENCE));
  return answers;
}

const done = (job) => job.waitUntilFinished(events, PATIENCE);

async function jobs() {
  queue = await make(Queue, 'jobs');
  events = await make(QueueEvents, 'jobs');
  await listening(queue, events);
  worker = await make(Worker, 'jobs', work, { concurrency: 4 });
  show('one', await done(await queue.add('double', { n: 21 })));
  const many = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'double', data: { n } })));
  show('bulk', await all(many));
  show('ids', many.map((job) => job.id).slice(0, 3));
  show('delayed', await done(await queue.add('double', { n: 1 }, { delay: 300 })));
  const flaky = await queue.add('flaky', {}, { attempts: 3, backoff: { type: 'fixed', delay: 10 } });
  show('flaky', [await done(flaky), (await Job.fromId(queue, flaky.id)).attemptsMade]);
  await attempt('hopeless', async () => done(await queue.add('hopeless', {}, { attempts: 3 })));
  const heard = new Promise((resolve) => events.on('progress', ({ data }) => resolve(data)));
  const progress = await queue.add('progress', {});
  show('progress', [await done(progress), await heard, (await queue.getJobLogs(progress.id)).logs]);
  show('same id', [(await queue.add('double', { n: 2 }, { jobId: 'own' })).id, (await queue.add('double', { n: 3 }, { jobId: 'own' })).id]);
  await until('that is done', async () => (await Job.fromId(queue, 'own')).returnvalue === 4);
  show('counts', await queue.getJobCounts('completed', 'failed', 'delayed', 'waiting', 'active'));
  show('failed', (await queue.getFailed()).map((job) => [job.name, job.failedReason]));
}

async function waiting() {
  await worker.pause();
  const low = await queue.add('low', {}, { priority: 10 });
  const high = await queue.add('high', {}, { priority: 1 });
  show('prioritized', await queue.getJobCounts('prioritized', 'waiting'));
  processed.length = 0;
  worker.resume();
  await all([low, high]);
  show('both', processed.length);
  await queue.pause();
  const held = await queue.add('double', { n: 5 });
  show('paused', [await queue.isPaused(), await held.getState()]);
  await queue.resume();
  show('resumed', await done(held));
  const removed = await queue.add('double', {}, { delay: PATIENCE });
  show('removed', [await queue.remove(removed.id), await removed.getState()]);
  const retried = (await queue.getFailed())[0];
  await retried.retry();
  await attempt('retried', () => done(retried));
  await queue.upsertJobScheduler('often', { every: 100, limit: 3 }, { name: 'double', data: { n: 8 } });
  await until('it was scheduled three times', async () => (await queue.getCompleted()).filter((job) => job.repeatJobKey === 'often').length === 3);
  await queue.removeJobScheduler('often');
  show('schedulers', await queue.getJobSchedulersCount());
}

async function flows() {
  const flow = await make(FlowProducer, {});
  const { job } = await flow.add({
    name: 'parent',
    queueName: 'jobs',
    children: [1, 2, 3].map((n) => ({ name: 'child', queueName: 'jobs', data: { n } })),
  });
  show('parent', await done(job));
}

async function several() {
  const others = await make(Queue, 'others');
  const limited = await make(Worker, 'others', async (job) => job.id, { limiter: { max: 5, duration: 100 } });
  const second = await make(Worker, 'others', async (job) => job.id);
  const told = await make(QueueEvents, 'others');
  await listening(others, told);
  const added = await others.addBulk(Array.from({ length: 20 }, (_, n) => ({ name: 'n', data: { n } })));
  show('all', (await all(added, told)).length);
  await limited.close();
  await second.close();
  show('clean', (await others.clean(0, 100, 'completed')).length);
  await others.obliterate();
  show('counts', await others.getJobCounts('completed', 'waiting'));
}

run([jobs, waiting, flows, several], async () => {
  await worker.close();
  await queue.obliterate();
  for (const one of made) await one.close();
  for (const client of clients) if (client.isOpen) client.destroy();
  show('end', 'closed');
});
