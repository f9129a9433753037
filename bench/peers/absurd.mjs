// bench/peers/absurd.mjs: Absurd: its SQL schema (from absurdctl) and its TypeScript SDK.
//
// Decided: one task handler per workload, steps with ctx.step, parallel ones under Promise.all. Workers poll; the interval is swept.
// Must hold: a task is finished when its row in absurd.t_bench is completed.
import { readFileSync } from 'node:fs';
import { Absurd } from 'absurd-sdk';
import { WIDTH, pool, sleep } from './common.mjs';

const quiet = { log() {}, info() {}, warn: console.error, error: console.error };

function register(app, workload, onEnd) {
	const width = WIDTH[workload];
	app.registerTask({ name: 'flow' }, async (params, ctx) => {
		let result;
		if (width) {
			const root = await ctx.step('root', async () => params);
			const parts = await Promise.all(Array.from({ length: width }, (_, i) => ctx.step(`m${i}`, async () => root)));
			result = await ctx.step('join', async () => parts.length);
		} else {
			const a = await ctx.step('a', async () => params);
			const b = await ctx.step('b', async () => a);
			result = await ctx.step('c', async () => b);
		}
		onEnd();
		return result;
	});
}

export default {
	settings: {
		W1: { tasks: 1500, processes: 1, concurrency: 50, pool: 20, poll: 10 },
		W2: { tasks: 500, processes: 1, concurrency: 50, pool: 20, poll: 10 },
		W3: { tasks: 300, concurrency: 1, pool: 4, poll: 2 },
		W4: { processes: 1, concurrency: 1, pool: 4, poll: 5, rounds: 2 },
	},
	sweep: {
		W1: [[1, 20, 10], [1, 50, 20], [2, 10, 10], [2, 20, 10], [2, 20, 20], [2, 50, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
		W2: [[1, 20, 10], [1, 50, 20], [2, 10, 10], [2, 20, 10], [2, 20, 20], [2, 50, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
		W3: [1, 2, 5].map((poll) => ({ poll })),
		W4: [4, 10, 20, 40].map((pool) => ({ pool })),
	},
	how: {
		W1: 'ctx.step three times',
		W2: 'ctx.step, eight under Promise.all, ctx.step',
		W3: 'client in the worker process, both look every poll ms',
		W4: '1,000 ctx.step under Promise.all',
	},
	async setup(context) {
		await context.db.query(readFileSync(new URL('./sql/absurd.sql', import.meta.url), 'utf8'));
		await context.db.query("SELECT absurd.create_queue('bench')");
		context.submitted = 0;
	},
	async submit(context, count) {
		await context.db.query("SELECT count(*) FROM generate_series(1, $1::int) i, absurd.spawn_task('bench', 'flow', jsonb_build_object('x', i), '{}'::jsonb)", [count]);
	},
	async finished(context) {
		const { rows } = await context.db.query("SELECT count(*)::int AS n FROM absurd.t_bench WHERE state = 'completed'");
		return rows[0].n;
	},
	async worker(context) {
		const { settings } = context;
		const db = pool(context.database, settings.pool);
		const app = new Absurd({ db, queueName: 'bench', log: quiet });
		register(app, context.workload, () => context.done());
		return {
			start: () => app.startWorker({ concurrency: settings.concurrency, batchSize: settings.batch, pollInterval: settings.poll / 1000, claimTimeout: 300, workerId: `w${context.index}` }),
			stop: async () => { await app.close(); await db.end(); },
		};
	},
	async client(context) {
		const db = pool(context.database, context.settings.pool);
		const app = new Absurd({ db, queueName: 'bench', log: quiet });
		register(app, context.workload, () => {});
		await app.startWorker({ concurrency: 1, pollInterval: context.settings.poll / 1000, claimTimeout: 300 });
		return {
			submit: async (i) => {
				const { taskID } = await app.spawn('flow', { x: i });
				return {
					result: async () => {
						for (;;) {
							const now = await app.fetchTaskResult(taskID);
							if (now?.state === 'completed') return now.result;
							if (now?.state === 'failed') throw new Error('a task failed');
							await sleep(context.settings.poll);
						}
					},
				};
			},
			stop: async () => { await app.close(); await db.end(); },
		};
	},
};
