-- 5_cancelled.sql: a task that was cancelled midway: what it used is paid, the rest came back. Variable: task.
\set QUIET on
\pset footer off
\echo
SELECT node, item, status, round(cost / 1e9, 3) AS usd FROM goya.node_runs WHERE task_id = :'task' ORDER BY seq;
SELECT t.status, round(h.amount / 1e9, 3) AS held, round(h.captured / 1e9, 3) AS paid, round((h.amount - h.captured) / 1e9, 3) AS released,
       round(w.frozen / 1e9, 3) AS still_frozen
FROM goya.tasks t JOIN goya.holds h ON h.id = t.hold_id JOIN goya.wallets w ON w.id = h.wallet_id WHERE t.id = :'task';
