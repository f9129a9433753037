#!/usr/bin/env node
// worker.mjs QUEUE: does the work of a queue of goya, one piece at a time, until it is told to stop (SIGTERM, Ctrl-C).
//
// Needs Node.js 18 and pg (npm ci in this directory); the connection comes from the environment (PGHOST, PGDATABASE, PGUSER, ...).
// A heartbeat keeps the lease while the work goes on, and says when nobody wants the work any more.
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const queue = process.argv[2];
const name = `${os.hostname()}-${process.pid}`;
const pool = new pg.Pool({ max: 2 });           // one for the work, one for its heartbeat; each call is a transaction
let stopping = false;
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { stopping = true; });

async function call(sql, ...values) {
  return (await pool.query(sql, values)).rows[0];
}

// The work itself: here, as many steps as the input says. wanted() is false when it should stop.
async function doWork(work, wanted, report) {
  const steps = Number(work.steps ?? 3);
  for (let step = 0; step < steps; step++) {
    if (!wanted()) return null;
    report(100 * step / steps, `step ${step + 1} of ${steps}`);
    await sleep(1000 * Number(work.seconds ?? 0.1));
  }
  if (work.fail) throw new Error(work.fail);
  return { done: steps, by: name };
}

async function doOne({ token, input, seconds }) {
  const state = { wanted: true, said: [null, null] };
  const heart = setInterval(async () => {
    try {
      const { on } = await call('SELECT goya.heartbeat($1, $2, $3) AS on', token, ...state.said);
      state.wanted &&= on;
    } catch (error) {
      console.error(`heartbeat: ${error.message}`);   // the lease lasts for two more
    }
  }, 1000 * seconds / 3);
  try {
    const output = await doWork(input, () => state.wanted, (...said) => { state.said = said; });
    if (state.wanted) await call('SELECT goya.complete_work($1, $2, $3)', token, JSON.stringify(output), JSON.stringify({ step: output.done }));
  } catch (error) {                              // of the work: the node's retry rules decide what follows
    await call('SELECT goya.fail_work($1, $2)', token, JSON.stringify({ message: error.message, code: error.name }));
  } finally {
    clearInterval(heart);
  }
}

while (!stopping) {
  const claimed = await call('SELECT token, input, extract(epoch FROM lease_until - now())::float AS seconds FROM goya.claim_work($1, $2)', queue, name);
  if (claimed) await doOne(claimed);
  else await call("SELECT goya.wait_for_work($1, '5 s')", queue);
}
await pool.end();
