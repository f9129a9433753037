// bench/peers/pgflow.mjs: pgflow's SQL core (the migrations in @pgflow/core) on pgmq's SQL, driven in batches.
//
// Decided: no edge worker: a loop reads messages, starts their tasks and completes them, each with one statement for a whole batch, its own
// functions throughout (pgmq.read, pgflow.start_tasks, pgflow.complete_task). Supabase's realtime.send does not exist outside Supabase: here
// it does nothing, which is in pgflow's favour. pgmq 1.13 comes as plain SQL, so "CREATE EXTENSION pgmq" is left out of the migration.
// Must hold: a task is finished when its row in pgflow.runs is completed. Tasks are completed in the order of their runs, so that two loops
// lock runs in one order.
import { randomUUID } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { WIDTH, pool, sleep } from './common.mjs';

const MIGRATIONS = new URL('./node_modules/@pgflow/core/dist/supabase/migrations/', import.meta.url);
const LAST = { W1: 'c', W2: 'last', W3: 'c', W4: 'last' };

// loop: one reader; resolves when running() is false.
async function loop(db, context, running, onEnd) {
	const { batch, poll } = context.settings;
	const client = await db.connect();
	const worker = randomUUID();
	const many = context.workload === 'W4';
	await client.query("INSERT INTO pgflow.workers (worker_id, queue_name, function_name) VALUES ($1, 'flow', 'bench')", [worker]);
	try {
		while (running()) {
			const { rows: messages } = await client.query({ name: 'read', text: "SELECT msg_id FROM pgmq.read('flow', 60, $1)", values: [batch] });
			if (!messages.length) { await sleep(poll); continue; }
			const { rows: tasks } = await client.query({ name: 'start', text: "SELECT run_id, step_slug, task_index, input FROM pgflow.start_tasks('flow', $1::bigint[], $2)",
				values: [messages.map((row) => row.msg_id), worker] });
			// The step: returns its input (the run's); W4's root returns the array that its map runs over.
			const outputs = tasks.map((task) => ({ ...task, output: many && task.step_slug === 'root' ? Array.from({ length: WIDTH.W4 }, (_, i) => i) : task.input.run ?? task.input }));
			await client.query({ name: 'complete', text: `SELECT count(*) FROM (SELECT * FROM jsonb_to_recordset($1::jsonb) AS t (run_id uuid, step_slug text, task_index int, output jsonb)
				ORDER BY run_id, step_slug, task_index) t, pgflow.complete_task(t.run_id, t.step_slug, t.task_index, t.output)`, values: [JSON.stringify(outputs)] });
			for (const task of tasks) if (task.step_slug === LAST[context.workload]) onEnd(task.run_id);
		}
	} finally {
		client.release();
	}
}

function start(context, onEnd) {
	const { concurrency } = context.settings;
	const db = pool(context.database, concurrency + 1);
	let on = true;
	const loops = Array.from({ length: concurrency }, () => loop(db, context, () => on, onEnd).catch((error) => { if (on) { console.error(error); process.exit(1); } }));
	return { db, stop: async () => { on = false; await Promise.all(loops); await db.end(); } };
}

export default {
	settings: {
		W1: { tasks: 1500, processes: 1, concurrency: 2, batch: 300, poll: 5 },
		W2: { tasks: 400, processes: 1, concurrency: 2, batch: 100, poll: 5 },
		W3: { tasks: 200, concurrency: 1, batch: 10, poll: 1 },
		W4: { processes: 1, concurrency: 1, batch: 10, poll: 5, rounds: 1 },
	},
	sweep: {
		W1: [[1, 1, 30], [1, 1, 100], [1, 2, 30], [1, 2, 100], [1, 2, 300], [2, 2, 100]].map(([processes, concurrency, batch]) => ({ processes, concurrency, batch })),
		W2: [[1, 1, 30], [1, 1, 100], [1, 2, 30], [1, 2, 100], [1, 2, 300], [2, 2, 100]].map(([processes, concurrency, batch]) => ({ processes, concurrency, batch })),
		W3: [1, 2, 5].map((poll) => ({ poll })),
		W4: [10, 50, 200].map((batch) => ({ batch })),
	},
	how: {
		W1: 'SQL core in batches of pgmq.read, start_tasks, complete_task',
		W2: 'SQL core in batches; the flow has eight steps after the root',
		W3: 'client in the process of the one loop, result when its complete_task is committed; both look every poll ms',
		W4: 'SQL core in batches; a map step',
	},
	async setup(context) {
		const { db } = context;
		await db.query(readFileSync(new URL('./sql/pgmq.sql', import.meta.url), 'utf8'));
		await db.query("CREATE SCHEMA realtime; CREATE FUNCTION realtime.send(jsonb, text, text, boolean) RETURNS void LANGUAGE sql AS ''");
		for (const file of readdirSync(MIGRATIONS).filter((name) => name.endsWith('.sql')).sort()) {
			await db.query(readFileSync(new URL(file, MIGRATIONS), 'utf8').replace(/^CREATE EXTENSION IF NOT EXISTS "pgmq".*$/m, ''));
		}
		await db.query("SELECT pgflow.create_flow('flow')");
		const step = (slug, deps, type = 'single') => db.query("SELECT pgflow.add_step('flow', $1, $2::text[], step_type => $3)", [slug, deps, type]);
		const width = WIDTH[context.workload];
		if (!width) {
			await step('a', []);
			await step('b', ['a']);
			await step('c', ['b']);
		} else {
			await step('root', []);
			const names = width <= 8 ? Array.from({ length: width }, (_, i) => `m${i}`) : ['map'];
			for (const name of names) await step(name, ['root'], width <= 8 ? 'single' : 'map');
			await step('last', names);
		}
	},
	async submit(context, count) {
		await context.db.query("SELECT count(*) FROM generate_series(1, $1::int) i, pgflow.start_flow('flow', jsonb_build_object('x', i))", [count]);
	},
	async finished(context) {
		const { rows } = await context.db.query("SELECT count(*)::int AS n FROM pgflow.runs WHERE status = 'completed'");
		return rows[0].n;
	},
	async worker(context) {
		let running;
		return { start: () => { running = start(context, () => context.done()); }, stop: () => running?.stop() };
	},
	async client(context) {
		const waiting = new Map();
		const early = new Set();
		const running = start(context, (run) => { if (waiting.has(run)) waiting.get(run)(); else early.add(run); });
		return {
			submit: async (i) => {
				const { rows } = await running.db.query("SELECT run_id FROM pgflow.start_flow('flow', $1)", [{ x: i }]);
				const run = rows[0].run_id;
				return { result: () => (early.has(run) ? undefined : new Promise((resolve) => waiting.set(run, resolve))) };
			},
			stop: () => running.stop(),
		};
	},
};
