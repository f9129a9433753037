// bench/peers/openworkflow.mjs: OpenWorkflow with its Postgres backend.
//
// Decided: one workflow function per workload, steps with step.run, parallel ones under Promise.all. Its worker backs off 50–100 ms when idle and
// its result() asks once a second; for W3 the loop calls the worker's public tick() right after the submit and looks at the run every
// millisecond, which is better than any user gets by default. It allows 1,000 steps in a run: W4 needs 1,002, so its map is two child
// runs of 500 steps each.
// Must hold: a task is finished when its row in workflow_runs is completed.
import postgres from 'postgres';
import { OpenWorkflow } from 'openworkflow';
import { BackendPostgres } from 'openworkflow/postgres';
import { PG, WIDTH, sleep } from './common.mjs';

function connect(context, max) {
	const sql = postgres({ host: PG.host, port: PG.port, username: PG.user, database: context.database, max, onnotice: () => {}, transform: { column: { from: postgres.toCamel } } });
	return BackendPostgres.fromPool(sql);
}

function define(ow, workload, onEnd) {
	const width = WIDTH[workload];
	const nothing = (input) => async () => input;
	if (!width) {
		return ow.defineWorkflow({ name: 'chain' }, async ({ input, step }) => {
			const a = await step.run({ name: 'a' }, nothing(input));
			const b = await step.run({ name: 'b' }, nothing(a));
			const c = await step.run({ name: 'c' }, nothing(b));
			onEnd();
			return c;
		});
	}
	const all = (step, count, input) => Promise.all(Array.from({ length: count }, (_, i) => step.run({ name: `m${i}` }, nothing(input))));
	if (width <= 900) {
		return ow.defineWorkflow({ name: 'fan' }, async ({ input, step }) => {
			const root = await step.run({ name: 'root' }, nothing(input));
			const parts = await all(step, width, root);
			const join = await step.run({ name: 'join' }, async () => parts.length);
			onEnd();
			return join;
		});
	}
	const half = ow.defineWorkflow({ name: 'half' }, async ({ input, step }) => (await all(step, width / 2, input)).length);
	return ow.defineWorkflow({ name: 'fan' }, async ({ input, step }) => {
		const root = await step.run({ name: 'root' }, nothing(input));
		const parts = await Promise.all([1, 2].map((i) => step.runWorkflow(half.workflow.spec, root, { name: `half${i}` })));
		const join = await step.run({ name: 'join' }, async () => parts[0] + parts[1]);
		onEnd();
		return join;
	});
}

const NAME = { W1: 'chain', W2: 'fan', W3: 'chain', W4: 'fan' };
export default {
	settings: {
		W1: { tasks: 1500, processes: 2, concurrency: 50, pool: 20 },
		W2: { tasks: 500, processes: 2, concurrency: 50, pool: 20 },
		W3: { tasks: 200, concurrency: 1, pool: 4 },
		W4: { processes: 2, concurrency: 4, pool: 20, rounds: 2 },
	},
	sweep: {
		W1: [[1, 20, 10], [1, 50, 20], [2, 10, 10], [2, 20, 10], [2, 20, 20], [2, 50, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
		W2: [[1, 20, 10], [1, 50, 20], [2, 10, 10], [2, 20, 10], [2, 20, 20], [2, 50, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
		W3: [{}],
		W4: [[1, 8, 10], [1, 8, 20], [2, 4, 10], [2, 4, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
	},
	how: {
		W1: 'step.run three times',
		W2: 'step.run, eight under Promise.all, step.run',
		W3: 'client in the worker process calls tick() after the submit and looks for the result every ms',
		W4: 'two child runs of 500 steps under Promise.all (a run may have 1,000 steps)',
	},
	async setup(context) {
		const backend = await BackendPostgres.connect(`postgresql:///${context.database}`);
		await backend.stop();
	},
	async submit(context, count) {
		// What createWorkflowRun writes, for all at once.
		const backend = connect(context, 1);
		const ow = new OpenWorkflow({ backend });
		const flow = define(ow, context.workload, () => {});
		for (let i = 0; i < count; i += 500) await Promise.all(Array.from({ length: Math.min(500, count - i) }, (_, j) => flow.run({ x: i + j })));
		await backend.stop();
	},
	async finished(context) {
		const { rows } = await context.db.query("SELECT count(*)::int AS n FROM openworkflow.workflow_runs WHERE status = 'completed' AND workflow_name = $1", [NAME[context.workload]]);
		return rows[0].n;
	},
	async worker(context) {
		const backend = connect(context, context.settings.pool);
		const ow = new OpenWorkflow({ backend });
		define(ow, context.workload, () => context.done());
		const worker = ow.newWorker({ concurrency: context.settings.concurrency });
		return { start: () => worker.start(), stop: async () => { await worker.stop(); await backend.stop(); } };
	},
	async client(context) {
		const backend = connect(context, context.settings.pool);
		const ow = new OpenWorkflow({ backend });
		const flow = define(ow, context.workload, () => {});
		const worker = ow.newWorker({ concurrency: 1 });
		return {
			submit: async (i) => {
				const handle = await flow.run({ x: i });
				return {
					result: async () => {
						await worker.tick();
						for (;;) {
							const run = await backend.getWorkflowRun({ workflowRunId: handle.workflowRun.id });
							if (run.status === 'completed') return run.output;
							if (run.status === 'failed') throw new Error('a run failed');
							await sleep(1);
						}
					},
				};
			},
			stop: () => backend.stop(),
		};
	},
};
