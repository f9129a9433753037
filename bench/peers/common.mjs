// bench/peers/common.mjs: what the peers share: connections, a database of their own, waiting, percentiles and the JSON result lines.
//
// Decided: PostgreSQL is reached through PGHOST (a socket directory), PGPORT and PGUSER only; each peer works in a database goya_peer_<name>
// that it creates and drops. A figure that cannot be had is a line with "value": null and the reason in "note", never a missing line.
// Must hold: synchronous_commit stays on for every session (checked at the start), nothing is unlogged (checked after each peer's setup).
import { appendFileSync, readFileSync, readdirSync } from 'node:fs';
import pg from 'pg';

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const PG = { host: process.env.PGHOST, port: Number(process.env.PGPORT ?? 5432), user: process.env.PGUSER ?? 'postgres' };
export const databaseOf = (peer) => `goya_peer_${peer.replaceAll('-', '_')}`;
export const urlOf = (database) => `postgresql://${PG.user}@localhost/${database}?host=${encodeURIComponent(PG.host)}&port=${PG.port}`;
export const redisOptions = () => (process.env.REDIS_SOCKET ? { path: process.env.REDIS_SOCKET } : { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) });

// pool: a node-postgres pool whose dead connections (the database is dropped at the end) do not end the process.
export function pool(database, max = 4) {
	const made = new pg.Pool({ ...PG, database, max });
	made.on('error', () => {});
	made.on('connect', (client) => client.on('error', () => {}));
	return made;
}

// withAdmin: runs one function with a connection to the database postgres.
async function withAdmin(run) {
	const client = new pg.Client({ ...PG, database: 'postgres' });
	await client.connect();
	try {
		return await run(client);
	} finally {
		await client.end();
	}
}

export async function dropDatabase(name) {
	await withAdmin((client) => client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
}

export async function createDatabase(name) {
	await dropDatabase(name);
	await withAdmin(async (client) => {
		await client.query(`CREATE DATABASE ${name}`);
		const { rows } = await client.query("SELECT current_setting('synchronous_commit') sync, current_setting('fsync') fsync");
		if (rows[0].sync !== 'on' || rows[0].fsync !== 'on') throw new Error(`not durable: fsync ${rows[0].fsync}, synchronous_commit ${rows[0].sync}`);
	});
}

// refuseUnlogged: a peer's tables must survive a crash like anyone's. pgmq's table of NOTIFY throttles, which nothing here uses, is the exception.
export async function refuseUnlogged(db) {
	const { rows } = await db.query("SELECT oid::regclass::text AS name FROM pg_class WHERE relpersistence = 'u' AND relkind IN ('r', 'p')");
	const bad = rows.map((row) => row.name).filter((name) => !name.endsWith('notify_insert_throttle'));
	if (bad.length) throw new Error(`unlogged tables: ${bad.join(', ')}`);
}

// waitFor: asks until the answer is true; every is in milliseconds.
export async function waitFor(what, ask, every = 3, limit = 300_000) {
	for (const end = Date.now() + limit; !(await ask()); await sleep(every)) {
		if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
	}
}

export const percentile = (values, p) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.ceil((p / 100) * values.length) - 1)];
export const median = (values) => percentile(values, 50);
export const round = (value, digits = 0) => (value === null ? null : Number(value.toFixed(digits)));

// result: appends one line to $RESULTS (prints it too).
export function result(line) {
	const text = JSON.stringify(line);
	console.log(text);
	if (process.env.RESULTS) appendFileSync(process.env.RESULTS, text + '\n');
}

// cpuSeconds: CPU time so far of these processes and all below them, ended children included (PostgreSQL's backends are below the postmaster).
export function cpuSeconds(roots) {
	const processes = new Map();
	for (const pid of readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
		try {
			const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
			const f = stat.slice(stat.lastIndexOf(')') + 2).split(' ').map(Number);
			processes.set(Number(pid), { parent: f[1], own: f[11] + f[12], ended: f[13] + f[14] });
		} catch { /* it ended meanwhile */ }
	}
	let ticks = 0;
	for (const [pid, { own, ended }] of processes) {
		let at = pid;
		while (at && !roots.includes(at)) at = processes.get(at)?.parent;
		if (at) ticks += own + ended;
	}
	return ticks / 100;
}

// Steps of one task: W1 and W3 a chain of three; W2 root, 8 parallel, join; W4 root, map of 1,000, join.
export const WIDTH = { W2: 8, W4: 1000 };
export const STEPS = { W1: 3, W2: 10, W3: 3, W4: 1002 };
