// bench/peers/graphile-worker.mjs: Graphile Worker, a job queue. It has no notion of a flow.
//
// Decided: a chain is a job that adds its successor; a fan is a root that adds the branches in one addJobs, and branches that count down a row, the
// last one adding the join in the same statement: its documented parts (tasks add jobs, in SQL where that must be atomic with other changes).
// The local queue and batched completion (its documented settings for throughput) are on for W1, W2, W4 and off for W3, where they cost latency.
// Must hold: a task is finished when its job rows are gone (Graphile Worker deletes what succeeded) and its last step has run.
import { run, makeWorkerUtils, Logger } from 'graphile-worker';
import { WIDTH, pool, waitFor } from './common.mjs';

const logger = new Logger(() => () => {});

function taskList(workload, onEnd) {
	const width = WIDTH[workload];
	if (!width) {
		return {
			step: async (payload, helpers) => {
				if (payload.k < 3) await helpers.addJob('step', { k: payload.k + 1, n: payload.n });
				else onEnd(payload);
			},
		};
	}
	// Each in one statement, so that the row is locked no longer than it must be.
	const FAN = `WITH fan AS (INSERT INTO app.fans VALUES ($1, $2))
		SELECT count(*) FROM graphile_worker.add_jobs(array(SELECT ('branch', json_build_object('n', $1::int, 'i', i), NULL, NULL, NULL, NULL, NULL, NULL)
			::graphile_worker.job_spec FROM generate_series(1, $2::int) i))`;
	const COUNT = `WITH fan AS (UPDATE app.fans SET missing = missing - 1 WHERE n = $1 RETURNING missing)
		SELECT graphile_worker.add_job('join', json_build_object('n', $1::int)) FROM fan WHERE missing = 0`;
	return {
		root: async ({ n }, helpers) => { await helpers.query(FAN, [n, width]); },
		branch: async ({ n }, helpers) => { await helpers.withPgClient((client) => client.query({ name: 'count', text: COUNT, values: [n] })); },
		join: async (payload) => onEnd(payload),
	};
}

async function start(context, onEnd, events) {
	const { concurrency, local, delay, poll } = context.settings;
	const pgPool = pool(context.database, context.settings.pool ?? concurrency + 2);
	const preset = { worker: { ...(local ? { localQueue: { size: local } } : {}), completeJobBatchDelay: delay, getQueueNameBatchDelay: 0 } };
	const runner = await run({ pgPool, taskList: taskList(context.workload, onEnd), concurrency, pollInterval: poll, noHandleSignals: true, logger, preset, events });
	return { runner, pgPool, stop: async () => { await runner.stop(); await pgPool.end(); } };
}

const FAST = { concurrency: 24, local: 500, delay: 0, poll: 100, pool: 12 };
export default {
	settings: {
		W1: { tasks: 3000, processes: 1, ...FAST, concurrency: 50, pool: 25 },
		W2: { tasks: 600, processes: 2, ...FAST },
		W3: { tasks: 300, concurrency: 4, local: 0, delay: -1, poll: 1000 },
		W4: { processes: 1, ...FAST, concurrency: 8, pool: 8 },
	},
	sweep: {
		W1: [[2, 24, 500, 0, 12], [2, 50, 500, 0, 20], [1, 50, 500, 0, 25], [2, 100, 1000, 5, 40], [2, 10, 500, 0, 10], [2, 24, 0, -1, 24]]
			.map(([processes, concurrency, local, delay, pool]) => ({ processes, concurrency, local, delay, pool })),
		W2: [[2, 24, 500, 0, 12], [2, 50, 500, 0, 20], [1, 50, 500, 0, 25], [2, 8, 500, 0, 8]]
			.map(([processes, concurrency, local, delay, pool]) => ({ processes, concurrency, local, delay, pool })),
		W3: [1, 2, 4, 8].map((concurrency) => ({ concurrency })),
		W4: [[1, 8, 8], [1, 24, 12], [2, 8, 8], [2, 24, 12]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
	},
	how: {
		W1: 'a job that adds its successor; run objects: none',
		W2: 'root adds 8 jobs, branches count down a row, the last adds the join in the same transaction',
		W3: 'client in the worker process, result when the last job is completed (event job:complete)',
		W4: 'root adds 1,000 jobs at once, branches count down a row',
	},
	async setup(context) {
		const utils = await makeWorkerUtils({ pgPool: context.db, logger });
		await utils.migrate();
		await utils.release();
		await context.db.query('CREATE SCHEMA app; CREATE TABLE app.fans (n int PRIMARY KEY, missing int NOT NULL)');
		context.submitted = 0;
	},
	async submit(context, count) {
		const [name, first] = WIDTH[context.workload] ? ['root', 0] : ['step', 1];
		await context.db.query(`SELECT count(*) FROM graphile_worker.add_jobs(array(SELECT ($1::text, json_build_object('n', n, 'k', $2::int), NULL, NULL, NULL, NULL, NULL, NULL)
			::graphile_worker.job_spec FROM generate_series($3::int, $4::int) n))`, [name, first, context.submitted + 1, context.submitted + count]);
		context.submitted += count;
	},
	async finished(context) {
		const { rows } = await context.db.query('SELECT count(*)::int AS open FROM graphile_worker._private_jobs');
		return rows[0].open === 0 ? context.submitted : 0;
	},
	async worker(context) {
		let running;
		return {
			start: async () => { running = await start(context, () => context.done()); },
			stop: () => running?.stop(),
		};
	},
	async client(context) {
		const { EventEmitter } = await import('node:events');
		const events = new EventEmitter();
		const waiting = new Map();
		events.on('job:complete', ({ job, error }) => {
			if (!error && job.payload.k === 3) waiting.get(job.payload.n)?.();
		});
		const running = await start(context, () => {}, events);
		return {
			submit: async (n) => {
				const ended = new Promise((resolve) => waiting.set(n, resolve));
				await running.runner.addJob('step', { k: 1, n });
				return { result: () => ended };
			},
			stop: () => running.stop(),
		};
	},
};
