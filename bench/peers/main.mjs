// bench/peers/main.mjs: runs one workload on one peer, in as many worker processes as set, and prints the figures. See README.md.
//
// Decided: the parent makes the database, submits and measures; children (a fork of this file) work. W1 and W2: everything is submitted before
// the children are told to go (after a tenth of it, not counted, in the same processes: Node compiles as it runs); the clock runs from that word until the peer's own tables say that every task is finished. W3: one process, one
// task at a time, from the end of the submitting call to the result in the client's hands. W4: children idle and looking for work, one task.
// Must hold: children report what they finished only to tell the parent when to start asking the tables; the tables decide. No child outlives
// the parent (they end when their channel closes), and the database is dropped whatever happens.
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { readFileSync } from 'node:fs';
import { STEPS, cpuSeconds, createDatabase, databaseOf, dropDatabase, median, percentile, pool, refuseUnlogged, result, round, sleep, waitFor } from './common.mjs';

const DEFAULT_ROUNDS = { W1: 1, W2: 1, W3: 1, W4: 4 };

function parse(argv) {
	const [name, workload, ...rest] = argv;
	const given = {};
	for (let i = 0; i < rest.length; i++) {
		const key = rest[i].replace(/^--/, '');
		given[key] = key === 'sweep' ? true : Number(rest[++i]);
	}
	return { name, workload, given };
}

// child: imports the peer, says ready, works from 'go' to 'stop'.
async function child() {
	const { name, workload, settings, index } = JSON.parse(process.env.GOYA_PEER_CHILD);
	const { default: peer } = await import(`./${name}.mjs`);
	let finished = 0, timer = null;
	const report = () => { timer = null; process.send(finished); finished = 0; };
	const done = (count = 1) => { finished += count; timer ??= setTimeout(report, 5); };
	const make = () => peer.worker({ name, workload, settings, index, database: databaseOf(name), done });
	let worker = await make();
	process.on('disconnect', () => process.exit(0));
	process.on('message', async (message) => {
		if (message.count) await worker.start(message);
		if (message === 'renew') { await worker.stop(); worker = await make(); process.send('ready'); }
		if (message === 'stop') { await Promise.race([worker.stop(), sleep(5000)]); process.exit(0); }
	});
	process.send('ready');
}

// startChildren: as many as settings.processes; resolves when all are ready. done() is how many tasks they reported.
async function startChildren(context) {
	let reported = 0, dead = null;
	const children = [];
	for (let index = 0; index < context.settings.processes; index++) {
		const data = JSON.stringify({ name: context.name, workload: context.workload, settings: context.settings, index });
		const made = fork(fileURLToPath(import.meta.url), [], { env: { ...process.env, GOYA_PEER_CHILD: data } });
		made.ready = () => new Promise((resolve, reject) => { made.isReady = resolve; made.failed = reject; });
		made.on('message', (message) => (message === 'ready' ? made.isReady() : (reported += message)));
		made.once('exit', (code) => { if (!made.stopping) { dead = new Error(`worker ended with ${code}`); made.failed(dead); } });
		children.push(made);
	}
	await Promise.all(children.map((made) => made.ready()));
	const ended = (made) => new Promise((resolve) => (made.exitCode !== null || made.signalCode ? resolve() : made.once('exit', resolve)));
	return {
		// go: work on what is there: tasks first, first + 1, … (only peers without a queue need to know).
		go: (first, count) => children.forEach((made) => made.send({ first, count })),
		renew: () => Promise.all(children.map((made) => { made.send('renew'); return made.ready(); })),
		done: () => { if (dead) throw dead; return reported; },
		async stop() {
			for (const made of children) {
				made.stopping = true;
				if (made.connected) made.send('stop');
			}
			const killer = setTimeout(() => children.forEach((made) => made.kill('SIGKILL')), 7000);
			await Promise.all(children.map(ended));
			clearTimeout(killer);
		},
	};
}

// servers: the processes whose CPU time is the peer's: PostgreSQL's postmaster (or redis-server) and this process with its children.
async function servers(peer, context) {
	if (peer.noPostgres) return [process.pid, await peer.serverProcess(context)];
	const { rows } = await context.db.query('SELECT pg_backend_pid() AS pid');
	const parent = readFileSync(`/proc/${rows[0].pid}/stat`, 'latin1').split(') ').at(-1).split(' ')[1];
	return [process.pid, Number(parent)];
}

// throughput: W1, W2. Seconds from 'go' until the tables say that all tasks are finished.
async function throughput(peer, context) {
	const { tasks } = context.settings;
	const warm = Math.ceil(tasks / 10);
	const children = await startChildren(context);
	const all = async (count) => {
		await waitFor('workers', () => children.done() >= count);
		await waitFor('the last commits', async () => (await peer.finished(context)) >= count);
	};
	try {
		await peer.submit(context, warm);
		children.go(0, warm);
		await all(warm);
		await children.renew();
		await peer.submit(context, tasks);
		if (!peer.noPostgres && context.settings.analyze !== 0) await context.db.query('VACUUM (ANALYZE)');
		await sleep(100);
		const roots = await servers(peer, context);
		const used = cpuSeconds(roots);
		const began = performance.now();
		children.go(warm, tasks);
		await all(warm + tasks);
		const seconds = (performance.now() - began) / 1000;
		const cpu = cpuSeconds(roots) - used;
		if ((await peer.finished(context)) !== warm + tasks) throw new Error('more tasks finished than were submitted');
		return { seconds, cpu };
	} finally {
		await children.stop();
	}
}

// fan: W4. Milliseconds from the commit of one task to its end, workers idle before.
async function fan(peer, context, rounds) {
	if (peer.fan) return await peer.fan(context, rounds);
	const children = await startChildren(context);
	try {
		children.go(0, rounds + 1);
		await sleep(1000);
		const times = [];
		for (let i = 1; i <= rounds + 1; i++) {
			await peer.submit(context, 1);
			const began = performance.now();
			await waitFor('the join', () => children.done() >= i, 1);
			await waitFor('its commit', async () => (await peer.finished(context)) >= i, 1);
			if (i > 1) times.push(performance.now() - began);
			await sleep(200);
		}
		return times;
	} finally {
		await children.stop();
	}
}

// latency: W3. client.submit resolves when the submitting transaction is committed, the promise it returns when the result is here.
async function latency(peer, context) {
	const client = await peer.client(context);
	try {
		const times = [];
		for (let i = 0; i < context.settings.tasks + 20; i++) {
			const handle = await client.submit(i);
			const began = performance.now();
			await handle.result();
			if (i >= 20) times.push(performance.now() - began);
			await sleep(3);
		}
		return times;
	} finally {
		await client.stop();
	}
}

// once: one measurement in a fresh database.
async function once(peer, context, rounds) {
	await createDatabase(context.database);
	context.db = pool(context.database, 4);
	try {
		await peer.setup(context);
		if (!peer.noPostgres) await refuseUnlogged(context.db);
		if (context.workload === 'W3') return await latency(peer, context);
		if (context.workload === 'W4') return await fan(peer, context, rounds);
		return await throughput(peer, context);
	} finally {
		await peer.teardown?.(context);
		await context.db.end();
		await dropDatabase(context.database);
	}
}

async function measure(peer, name, workload, given) {
	const settings = { processes: 1, ...peer.settings[workload], ...given };
	delete settings.rounds;
	delete settings.sweep;
	const context = { name, workload, settings, database: databaseOf(name) };
	const rounds = given.rounds ?? peer.settings[workload].rounds ?? DEFAULT_ROUNDS[workload];
	const shown = Object.entries(settings).map(([key, value]) => `${key} ${value}`).join(', ');
	const line = (metric, value, unit, extra) => result({ workload, engine: name, metric, value, unit, note: `${shown}; ${peer.how[workload]}`, extra });
	if (workload === 'W4') {
		const times = await once(peer, context, rounds);
		line('ms_to_done', round(median(times), 1), 'ms', { rounds: times.map((ms) => round(ms, 1)) });
	} else if (workload === 'W3') {
		const times = await once(peer, context, 1);
		line('p50_ms', round(percentile(times, 50), 2), 'ms', { count: times.length });
		line('p99_ms', round(percentile(times, 99), 2), 'ms', { count: times.length });
	} else {
		const steps = settings.tasks * STEPS[workload];
		const runs = [];
		for (let i = 0; i < rounds; i++) runs.push(await once(peer, context, 1));
		const rates = runs.map(({ seconds }) => steps / seconds);
		// CPU time of the engine's processes and its server: what the rate would be on idle cores does not depend on who else was running.
		const extra = { rounds: rates.map((rate) => round(rate)), cpu_us_per_step: round((median(runs.map(({ cpu }) => cpu)) * 1e6) / steps), cores_used: round(median(runs.map(({ cpu, seconds }) => cpu / seconds)), 2) };
		line('steps_per_second', round(median(rates)), '1/s', extra);
	}
}

async function main() {
	const { name, workload, given } = parse(process.argv.slice(2));
	const { default: peer } = await import(`./${name}.mjs`);
	if (!peer.settings[workload]) throw new Error(`${name} has no ${workload}`);
	for (const signal of ['SIGINT', 'SIGTERM']) {
		process.once(signal, async () => { await dropDatabase(databaseOf(name)).catch(() => {}); process.exit(1); });
	}
	const runs = given.sweep ? peer.sweep[workload] : [{}];
	for (const change of runs) {
		try {
			await measure(peer, name, workload, { ...given, ...change });
		} catch (error) {
			console.error(error);
			process.exitCode = 1;
			const metrics = { W3: ['p50_ms', 'p99_ms'], W4: ['ms_to_done'] }[workload] ?? ['steps_per_second'];
			for (const metric of metrics) result({ workload, engine: name, metric, value: null, unit: metric !== 'steps_per_second' ? 'ms' : '1/s', note: `failed: ${error.message}` });
		}
	}
}

if (process.env.GOYA_PEER_CHILD) await child();
else {
	await main();
	process.exit();
}
