// What every script prints: one line for one fact, the same on every run against the same kind of server.
'use strict';

// The longest any wait of a script may last before it counts as "never", in milliseconds.
const PATIENCE = 60_000;

// One spelling for what clients answer: text for bytes, an object for a map, and the names of an object in order.
function plain(value) {
  if (Buffer.isBuffer(value)) return value.toString();
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (value instanceof Map) return plain(Object.fromEntries(value));
  if (value instanceof Set) return [...value].map(plain).sort();
  if (Array.isArray(value)) return value.map(plain);
  if (value === undefined) return 'undefined';
  if (typeof value === 'bigint') return `${value}n`;
  if (value !== null && typeof value === 'object') {
    return Object.fromEntries(Object.keys(value).sort().map((name) => [name, plain(value[name])]));
  }
  return value;
}

function show(what, value) {
  console.log(`${what}: ${JSON.stringify(plain(value))}`);
}

// Shows what `work` answers, or the error that it ends with.
async function attempt(what, work) {
  try {
    show(what, await work());
  } catch (error) {
    show(what, error);
  }
}

// Waits until `condition` holds, looking every few milliseconds.
async function until(what, condition) {
  const deadline = Date.now() + PATIENCE;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

// The number that INFO gives under `name`.
function field(info, name) {
  return Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)[1]);
}

// Runs `parts` in order, each under its name, then `end`.
function run(parts, end) {
  (async () => {
    for (const part of parts) {
      console.log(`-- ${part.name}`);
      await part();
    }
    await end();
  })().catch((error) => {
    console.error(error);
    process.exit(1);
  });
}

module.exports = { PATIENCE, plain, show, attempt, until, field, run };
