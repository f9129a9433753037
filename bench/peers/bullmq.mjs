// bench/peers/bullmq.mjs: BullMQ flows on Redis with appendfsync always (bench/peers/redis).
//
// Decided: a chain is a flow of jobs nested in each other (a parent runs after its children). A flow is a tree, so a root that eight
// branches share cannot be part of it: the root's processor adds the join with its branches when it runs, as the documentation shows for dynamic
// children. Finished jobs are kept, as the other engines keep theirs.
// Must hold: a task is finished when the job of its last step is in "completed". Redis answers after its fsync, so what was seen is durable.
import { FlowProducer, Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { WIDTH, redisOptions } from './common.mjs';

const connection = () => ({ ...redisOptions(), maxRetriesPerRequest: null });
const QUEUE = 'step';
const LAST = 'last';

const chain = (n) => ({ name: 'c', queueName: LAST, data: { n }, children: [{ name: 'b', queueName: QUEUE, data: { n }, children: [{ name: 'a', queueName: QUEUE, data: { n } }] }] });
const fan = (n, width) => ({ name: 'join', queueName: LAST, data: { n }, children: Array.from({ length: width }, (_, i) => ({ name: 'branch', queueName: QUEUE, data: { n, i } })) });

function start(context, onEnd) {
	const { concurrency, last } = context.settings;
	const width = WIDTH[context.workload];
	const producer = new FlowProducer({ connection: connection() });
	const shared = { connection: connection(), autorun: false, lockDuration: 60000 };
	const steps = new Worker(QUEUE, async (job) => { if (job.name === 'root') await producer.add(fan(job.data.n, width)); return job.data; }, { ...shared, concurrency });
	const ends = new Worker(LAST, async (job) => job.data, { ...shared, connection: connection(), concurrency: last ?? concurrency });
	ends.on('completed', (job) => onEnd(job.data.n));
	for (const worker of [steps, ends]) {
		worker.on('error', (error) => console.error(error));
		worker.run();
	}
	return { producer, stop: async () => { await Promise.all([steps.close(true), ends.close(true)]); await producer.close(); } };
}

export default {
	noPostgres: true,
	settings: {
		W1: { tasks: 8000, processes: 1, concurrency: 200 },
		W2: { tasks: 1500, processes: 1, concurrency: 200 },
		W3: { tasks: 300, concurrency: 1 },
		W4: { processes: 1, concurrency: 20 },
	},
	sweep: {
		W1: [[1, 50], [1, 200], [2, 20], [2, 50], [2, 100], [2, 200]].map(([processes, concurrency]) => ({ processes, concurrency })),
		W2: [[1, 50], [1, 200], [2, 20], [2, 50], [2, 100], [2, 200]].map(([processes, concurrency]) => ({ processes, concurrency })),
		W3: [1, 2].map((concurrency) => ({ concurrency })),
		W4: [[1, 50], [1, 200], [2, 20], [2, 50], [2, 100], [2, 200]].map(([processes, concurrency]) => ({ processes, concurrency })),
	},
	how: {
		W1: 'a flow of three nested jobs, redis appendfsync always',
		W2: 'the root adds a flow of a join with eight children, redis appendfsync always',
		W3: 'a flow of three nested jobs; client in the worker process, result at the event completed, redis appendfsync always',
		W4: 'the root adds a flow of a join with 1,000 children, redis appendfsync always',
	},
	async setup(context) {
		const redis = new Redis(connection());
		const [, always] = await redis.config('GET', 'appendfsync');
		if (always !== 'always') throw new Error(`redis has appendfsync ${always}`);
		await redis.flushall();
		context.redis = redis;
		context.submitted = 0;
	},
	async serverProcess(context) {
		return Number(/process_id:(\d+)/.exec(await context.redis.info('server'))[1]);
	},
	async teardown(context) {
		await context.redis.flushall();
		await context.redis.quit();
	},
	async submit(context, count) {
		const width = WIDTH[context.workload];
		const first = context.submitted;
		context.submitted += count;
		if (width) {
			const queue = new Queue(QUEUE, { connection: connection() });
			for (let i = 0; i < count; i += 500) await queue.addBulk(Array.from({ length: Math.min(500, count - i) }, (_, j) => ({ name: 'root', data: { n: first + i + j } })));
			await queue.close();
		} else {
			const producer = new FlowProducer({ connection: connection() });
			for (let i = 0; i < count; i += 200) await producer.addBulk(Array.from({ length: Math.min(200, count - i) }, (_, j) => chain(first + i + j)));
			await producer.close();
		}
	},
	async finished(context) {
		return await context.redis.zcard(`bull:${LAST}:completed`);
	},
	async worker(context) {
		let running;
		return { start: () => { running = start(context, () => context.done()); }, stop: () => running?.stop() };
	},
	async client(context) {
		const waiting = new Map();
		const running = start(context, (n) => waiting.get(n)?.());
		return {
			submit: async (n) => {
				const ended = new Promise((resolve) => waiting.set(n, resolve));
				await running.producer.add(chain(n));
				return { result: () => ended };
			},
			stop: () => running.stop(),
		};
	},
};
