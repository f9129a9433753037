-- 4_show.sql: what the two tasks left behind. Variables: asset, task, second.
\set QUIET on
\pset footer off
\echo
\echo '== goya.timeline: what ran when'
\pset format unaligned
\pset tuples_only on
SELECT * FROM goya.timeline(:'task', 50);
\pset tuples_only off
\pset format aligned
\echo
\echo '== artifacts of both tasks'
SELECT w.name AS workflow, a.node, a.type, a.name, left(CASE a.type WHEN 'asset' THEN a.data ->> 'uri' ELSE a.data::text END, 70) AS data
FROM goya.artifacts a JOIN goya.tasks t ON t.id = a.task_id JOIN goya.workflows w ON w.id = t.workflow_id
WHERE a.task_id IN (:'task', :'second') ORDER BY a.task_id, a.created_at, a.name;
\echo
\echo '== derivation: what was made from the video'
\pset tuples_only on
\pset format unaligned
SELECT line FROM goya.derivation_tree(:'asset');
\pset tuples_only off
\pset format aligned
\echo
\echo '== what the scenes look like, by studio.score'
SELECT f.scene, f.label, f.score
FROM goya.node_runs r, jsonb_to_recordset(r.output -> 'frames') f(scene integer, label text, score numeric)
WHERE r.task_id = :'task' AND r.node = 'score' ORDER BY f.scene;
\echo
\echo '== used and paid'
SELECT node, count(*) AS calls, unit, sum(quantity) AS quantity, round(sum(cost) / 1e9, 3) AS usd
FROM goya.usage_records WHERE task_id = :'task' GROUP BY node, unit ORDER BY min(created_at);
\echo
\echo '== the ledger'
SELECT seq, kind, round(amount / 1e9, 3) AS amount, round(moved / 1e9, 3) AS moved, round(balance_after / 1e9, 3) AS balance,
       round(frozen_after / 1e9, 3) AS frozen, reference
FROM goya.wallet_entries ORDER BY seq;
