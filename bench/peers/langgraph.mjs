// bench/peers/langgraph.mjs: LangGraph JS with its Postgres checkpointer, durability "sync".
//
// Decided: LangGraph has no queue: a run is a call of invoke() in the process that runs it. "Submitted up front" is therefore a number to do, shared
// between the processes; nothing of the submit is in the database before. A run is one thread_id.
// Must hold: a task is finished when its thread has the checkpoint that follows its last step (checked at the end, as are no missing ones).
import { Annotation, END, START, Send, StateGraph } from '@langchain/langgraph';
import { PostgresSaver } from '@langchain/langgraph-checkpoint-postgres';
import { WIDTH, pool } from './common.mjs';

function compile(workload, checkpointer) {
	const width = WIDTH[workload];
	const State = Annotation.Root({ x: Annotation(), parts: Annotation({ reducer: (a, b) => a.concat(b), default: () => [] }) });
	const graph = new StateGraph(State);
	const pass = async ({ x }) => ({ x });
	if (!width) {
		graph.addNode('a', pass).addNode('b', pass).addNode('c', pass).addEdge(START, 'a').addEdge('a', 'b').addEdge('b', 'c').addEdge('c', END);
	} else if (width <= 8) {
		graph.addNode('root', pass).addNode('join', async ({ parts }) => ({ x: parts.length })).addEdge(START, 'root').addEdge('join', END);
		const names = Array.from({ length: width }, (_, i) => `m${i}`);
		for (const name of names) graph.addNode(name, async () => ({ parts: [1] })).addEdge('root', name);
		graph.addEdge(names, 'join');
	} else {
		graph.addNode('root', pass).addNode('map', async ({ i }) => ({ parts: [i] })).addNode('join', async ({ parts }) => ({ x: parts.length })).addEdge(START, 'root');
		graph.addConditionalEdges('root', () => Array.from({ length: width }, (_, i) => new Send('map', { i })), ['map']);
		graph.addEdge('map', 'join').addEdge('join', END);
	}
	return graph.compile({ checkpointer });
}

const open = (context) => {
	const db = pool(context.database, context.settings.pool);
	return { db, graph: compile(context.workload, new PostgresSaver(db)) };
};
const invoke = (graph, id) => graph.invoke({ x: 1 }, { configurable: { thread_id: id }, durability: 'sync', recursionLimit: 50 });

export default {
	settings: {
		W1: { tasks: 400, processes: 1, concurrency: 50, pool: 20 },
		W2: { tasks: 200, processes: 1, concurrency: 50, pool: 20 },
		W3: { tasks: 200, pool: 4 },
		W4: { processes: 1, concurrency: 1, pool: 16, rounds: 2 },
	},
	sweep: {
		W1: [[1, 20, 10], [1, 50, 20], [2, 10, 10], [2, 20, 10], [2, 20, 20], [2, 50, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
		W2: [[1, 20, 10], [1, 50, 20], [2, 10, 10], [2, 20, 10], [2, 20, 20], [2, 50, 20]].map(([processes, concurrency, pool]) => ({ processes, concurrency, pool })),
		W3: [2, 4, 8].map((pool) => ({ pool })),
		W4: [4, 10, 20, 40].map((pool) => ({ pool })),
	},
	how: {
		W1: 'no queue: invoke() in the worker processes, durability sync',
		W2: 'eight nodes after the root, an edge from all of them to the join, durability sync',
		W3: 'invoke() in the client: its start to its result, there is no submit',
		W4: 'Send to one node 1,000 times, durability sync; invoke() to its result',
	},
	async setup(context) {
		await new PostgresSaver(context.db).setup();
		context.submitted = 0;
		context.last = { W1: 3, W2: 3, W4: 3 }[context.workload];
	},
	async submit(context, count) {
		context.submitted += count;
	},
	async finished(context) {
		const { rows } = await context.db.query("SELECT count(DISTINCT thread_id)::int AS n FROM checkpoints WHERE (metadata->>'step')::int = $1", [context.last]);
		return rows[0].n;
	},
	async worker(context) {
		const { db, graph } = open(context);
		const { processes, concurrency } = context.settings;
		const loop = async (share, end) => {
			while (share.next < end) {
				const mine = share.next;
				share.next += processes;
				await invoke(graph, `t${mine}`);
				context.done();
			}
		};
		return {
			start: ({ first, count }) => {
				const share = { next: first + context.index };
				for (let i = 0; i < concurrency; i++) loop(share, first + count);
			},
			stop: () => db.end(),
		};
	},
	async fan(context, rounds) {
		const { db, graph } = open(context);
		const times = [];
		for (let i = 0; i <= rounds; i++) {
			const began = performance.now();
			const { x } = await invoke(graph, `t${i}`);
			if (x !== WIDTH.W4) throw new Error(`the join saw ${x}`);
			if (i > 0) times.push(performance.now() - began);
		}
		await db.end();
		return times;
	},
	async client(context) {
		const { db, graph } = open(context);
		return { submit: async (i) => ({ result: () => invoke(graph, `t${i}`) }), stop: () => db.end() };
	},
};
