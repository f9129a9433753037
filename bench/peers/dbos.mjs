// bench/peers/dbos.mjs: DBOS Transact.
//
// Decided: workflows wait in a queue (DBOSClient) and are dequeued by the worker processes; steps are DBOS.runStep, parallel ones under
// Promise.all. W3 starts the workflow in the process that runs it (DBOS.startWorkflow), its fastest way: no queue, and the handle resolves without asking the database.
// Must hold: a task is finished when its row in dbos.workflow_status is SUCCESS.
import { DBOS, DBOSClient } from '@dbos-inc/dbos-sdk';
import { WIDTH, urlOf } from './common.mjs';

const logger = { info() {}, debug() {}, warn() {}, error: console.error };
const configure = (context) => {
	process.env.DBOS__APPVERSION = 'bench';
	DBOS.setConfig({
		name: 'bench', systemDatabaseUrl: urlOf(context.database), systemDatabasePoolSize: context.settings.pool, applicationVersion: 'bench',
		executorID: `executor${context.index ?? 0}`, logger, enableOTLP: false, tracingEnabled: false, useListenNotify: false,
	});
};

function define(workload, onEnd) {
	const width = WIDTH[workload];
	const nothing = (name, value) => DBOS.runStep(async () => value, { name });
	return DBOS.registerWorkflow(async (input) => {
		let result;
		if (width) {
			const root = await nothing('root', input);
			const parts = await Promise.all(Array.from({ length: width }, (_, i) => nothing(`m${i}`, root)));
			result = await nothing('join', parts.length);
		} else {
			result = await nothing('c', await nothing('b', await nothing('a', input)));
		}
		onEnd();
		return result;
	}, { name: 'flow' });
}

// A process may register its workflow once only.
const worker = { done: null, defined: null };

export default {
	settings: {
		W1: { tasks: 1500, processes: 2, concurrency: 50, pool: 10, poll: 20 },
		W2: { tasks: 300, processes: 2, concurrency: 50, pool: 10, poll: 20 },
		W3: { tasks: 300, pool: 4 },
		W4: { processes: 1, concurrency: 1, pool: 4, poll: 5, rounds: 1 },
	},
	sweep: {
		W1: [[1, 50, 10, 20], [2, 20, 10, 20], [2, 50, 10, 20], [2, 100, 20, 20], [2, 100, 20, 100]]
			.map(([processes, concurrency, pool, poll]) => ({ processes, concurrency, pool, poll })),
		W2: [[1, 20, 10], [1, 50, 20], [2, 10, 10], [2, 20, 10], [2, 20, 20], [2, 50, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
		W3: [2, 4, 8].map((pool) => ({ pool })),
		W4: [4, 10, 20, 40].map((pool) => ({ pool })),
	},
	how: {
		W1: 'queued workflows, DBOS.runStep three times',
		W2: 'queued workflows, runStep, eight under Promise.all, runStep',
		W3: 'DBOS.startWorkflow in the process that runs it, from its return (the row is committed) to getResult()',
		W4: 'a queued workflow, 1,000 runStep under Promise.all',
	},
	async setup(context) {
		configure(context);
		await DBOS.launch();
		const { concurrency, poll } = context.settings;
		if (concurrency) await DBOS.registerQueue('bench', { workerConcurrency: concurrency, minPollingIntervalMs: poll });
		await DBOS.shutdown();
	},
	async submit(context, count) {
		const client = await DBOSClient.create({ systemDatabaseUrl: urlOf(context.database), systemDatabasePoolSize: 4, logger, applicationName: 'bench' });
		for (let i = 0; i < count; i += 200) {
			await Promise.all(Array.from({ length: Math.min(200, count - i) }, (_, j) =>
				client.enqueue({ queueName: 'bench', workflowName: 'flow', appVersion: 'bench' }, { x: i + j })));
		}
		await client.destroy();
	},
	async finished(context) {
		const { rows } = await context.db.query("SELECT count(*)::int AS n FROM dbos.workflow_status WHERE status = 'SUCCESS'");
		return rows[0].n;
	},
	async worker(context) {
		configure(context);
		worker.done = context.done;
		worker.defined ??= define(context.workload, () => worker.done());
		return { start: () => DBOS.launch(), stop: () => DBOS.shutdown() };
	},
	async client(context) {
		configure(context);
		worker.done = () => {};
		const flow = (worker.defined ??= define(context.workload, () => worker.done()));
		await DBOS.launch();
		return {
			submit: async (i) => {
				const handle = await DBOS.startWorkflow(flow)({ x: i });
				return { result: () => handle.getResult() };
			},
			stop: () => DBOS.shutdown(),
		};
	},
};
