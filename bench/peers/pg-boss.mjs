// bench/peers/pg-boss.mjs: pg-boss, a job queue with flows.
//
// Decided: W1 is the way with the highest throughput, without run objects: fetch a batch, insert the successors and complete the batch in
// one transaction (fetch, insert and complete take a connection). W2 and W4 are its flows (boss.flow, dependsOn), fetched and completed in
// batches, the dependents unblocked with boss.resolveFlow (by itself pg-boss does that once in flowIntervalSeconds). One queue for all steps:
// with a queue per step its statistics say that the later queues are empty, and fetch becomes 15 times slower. W3 is W1's loop
// with short waits: boss.work with notify was three times slower.
// Must hold: a task is finished when the job of its last step is completed; nothing is deleted during a run.
import { PgBoss } from 'pg-boss';
import { PG, WIDTH, pool, sleep } from './common.mjs';

const boss = (context, options = {}) => {
	const made = new PgBoss({ host: PG.host, port: PG.port, user: PG.user, database: context.database, max: context.settings.pool ?? 4, supervise: false, schedule: false, ...options });
	made.on('error', (error) => console.error(error));
	return made;
};
const QUEUE = 'step';
const over = (client) => ({ executeSql: (text, values) => client.query(text, values) });

// batchLoop: takes whole batches until running() is false; one process also unblocks the dependents of flows.
async function batchLoop(db, instance, context, running, onEnd) {
	const { batch, poll } = context.settings;
	const flow = WIDTH[context.workload] !== undefined;
	const client = await db.connect();
	const connection = { db: over(client) };
	try {
		while (running()) {
			await client.query('BEGIN');
			const jobs = await instance.fetch(QUEUE, { batchSize: batch, ...connection });
			if (jobs.length) {
				const next = flow ? [] : jobs.filter((job) => job.data.k < 3).map((job) => ({ data: { ...job.data, k: job.data.k + 1 } }));
				if (next.length) await instance.insert(QUEUE, next, connection);
				await instance.complete(QUEUE, jobs.map((job) => job.id), undefined, connection);
			}
			await client.query('COMMIT');
			const last = jobs.filter((job) => job.data.k === 3);
			if (last.length) onEnd(last);
			if (flow && context.index === 0 && (jobs.length < batch || context.settings.eager)) await instance.resolveFlow();
			if (!jobs.length) await sleep(poll);
		}
	} finally {
		client.release();
	}
}

export default {
	settings: {
		W1: { tasks: 20000, processes: 1, concurrency: 2, batch: 500, poll: 5 },
		W2: { tasks: 2000, processes: 2, concurrency: 1, batch: 500, poll: 5 },
		W3: { tasks: 300, batch: 10, poll: 1 },
		W4: { processes: 1, concurrency: 1, batch: 500, poll: 2 },
	},
	sweep: {
		W1: [[1, 1, 500], [1, 2, 500], [2, 1, 500], [2, 2, 500], [2, 1, 1000]].map(([processes, concurrency, batch]) => ({ processes, concurrency, batch })),
		W2: [[1, 1, 500], [1, 2, 500], [2, 1, 500], [2, 2, 500], [2, 1, 1000]].map(([processes, concurrency, batch]) => ({ processes, concurrency, batch })),
		W3: [1, 2].map((poll) => ({ poll })),
		W4: [500, 1000, 2000].map((batch) => ({ batch })),
	},
	how: {
		W1: 'no run objects: fetch, insert successors, complete, one transaction a batch',
		W2: 'boss.flow, fetched and completed in batches',
		W3: 'no run objects: as W1, looking every poll ms; client in the worker process, result when the last completion is committed',
		W4: 'boss.flow of 1,002 jobs, fetched and completed in batches',
	},
	async setup(context) {
		const instance = boss(context);
		await instance.start();
		await instance.createQueue(QUEUE, { retryLimit: 2, expireInSeconds: 300, deleteAfterSeconds: 0 });
		await instance.stop({ graceful: false });
		context.submitted = 0;
	},
	async submit(context, count) {
		const instance = boss(context);
		await instance.start();
		const width = WIDTH[context.workload];
		if (!width) {
			for (let i = 0; i < count; i += 5000) await instance.insert(QUEUE, Array.from({ length: Math.min(5000, count - i) }, (_, j) => ({ data: { x: i + j, k: 1 } })));
		} else {
			const chunk = Math.max(1, Math.floor(2000 / width));
			for (let i = 0; i < count; i += chunk) {
				const jobs = [];
				for (let n = i; n < Math.min(count, i + chunk); n++) {
					jobs.push({ ref: `r${n}`, name: QUEUE, data: { n, k: 1 } });
					const refs = Array.from({ length: width }, (_, k) => `b${n}_${k}`);
					for (const ref of refs) jobs.push({ ref, name: QUEUE, data: { n, k: 2 }, dependsOn: [`r${n}`] });
					jobs.push({ ref: `j${n}`, name: QUEUE, data: { n, k: 3 }, dependsOn: refs });
				}
				await instance.flow(jobs);
			}
		}
		await instance.stop({ graceful: false });
	},
	async finished(context) {
		const { rows } = await context.db.query("SELECT count(*)::int AS n FROM pgboss.job WHERE name = $1 AND state = 'completed' AND data->>'k' = '3'", [QUEUE]);
		return rows[0].n;
	},
	async worker(context) {
		const { concurrency } = context.settings;
		const db = pool(context.database, concurrency);
		const instance = boss(context);
		await instance.start();
		let on = false, loops = [];
		const failed = (error) => { if (on) { console.error(error); process.exit(1); } };
		return {
			start: () => { on = true; loops = Array.from({ length: concurrency }, () => batchLoop(db, instance, context, () => on, (jobs) => context.done(jobs.length)).catch(failed)); },
			stop: async () => { on = false; await Promise.all(loops); await instance.stop({ graceful: false }); await db.end(); },
		};
	},
	async client(context) {
		const db = pool(context.database, 1);
		const instance = boss(context);
		await instance.start();
		const waiting = new Map();
		let on = true;
		const loop = batchLoop(db, instance, context, () => on, (jobs) => jobs.forEach((job) => waiting.get(job.data.x)()));
		return {
			submit: async (x) => {
				const ended = new Promise((resolve) => waiting.set(x, resolve));
				await instance.send(QUEUE, { x, k: 1 });
				return { result: () => ended };
			},
			stop: async () => { on = false; await loop; await instance.stop({ graceful: false }); await db.end(); },
		};
	},
};
