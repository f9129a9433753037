-- work.sql: the contract of outside workers (sql/56_work.sql) and of programs (sql/38_programs.sql), as SQL alone says it; test/tap/043_worker.pl and 044_cli.pl have processes.

\set file work
\ir lib/tasks.psql
SELECT no_plan();

-- ---- definitions ----

SELECT bag_eq($$ SELECT code, path FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "worker"}, {"key": "b", "kind": "worker", "queue": 1},
    {"key": "c", "kind": "worker", "queue": "q", "lease": true, "max_claims": "x"}, {"key": "d", "kind": "cli"}, {"key": "e", "kind": "cli", "program": "p", "arguments": [1], "shell": true}]}')
    WHERE severity = 'error' $$,
  $$ VALUES ('missing_field', '/nodes/0'), ('wrong_type', '/nodes/1/queue'), ('wrong_type', '/nodes/2/lease'), ('wrong_type', '/nodes/2/max_claims'),
            ('missing_field', '/nodes/3'), ('wrong_type', '/nodes/4/arguments'), ('unknown_field', '/nodes/4/shell') $$, 'fields of worker and cli nodes');

-- ---- refused ----

SELECT throws_ok($$ SELECT * FROM goya.claim_work('', 'w') $$, '22023', NULL, 'a queue needs a name');
SELECT throws_ok($$ SELECT * FROM goya.claim_work('q', NULL) $$, '22023', NULL, 'a worker too');
SELECT throws_ok($$ SELECT * FROM goya.claim_work('q', 'w', 0) $$, '22023', NULL, 'at least one');
SELECT throws_ok($$ SELECT * FROM goya.claim_work('q', 'w', 1, '10 ms') $$, '22023', NULL, 'a lease of a second or more');
SELECT throws_ok($$ SELECT goya.heartbeat(goya.new_id(), 101) $$, '22023', NULL, 'progress to 100');
SELECT throws_ok($$ SELECT goya.heartbeat(goya.new_id(), 'NaN') $$, '22023', NULL, 'progress is a number');
SELECT throws_ok($$ SELECT goya.complete_work(goya.new_id(), '1', '{"second": -1}') $$, '22023', NULL, 'usage is not negative');
SELECT throws_ok($$ SELECT goya.complete_work(goya.new_id(), '1', '{"second": "1"}') $$, '22023', NULL, 'usage is numbers');
SELECT throws_ok($$ SELECT goya.complete_work(goya.new_id(), '1', '[1]') $$, '22023', NULL, 'a number or an object of them');
SELECT throws_ok($$ SELECT goya.fail_work(goya.new_id(), '"x"', 'CRASH') $$, '22023', NULL, 'a class that a worker may name');
SELECT throws_ok($$ SELECT goya.fail_work(goya.new_id(), '"x"', 'TRANSIENT', true, '-1 s') $$, '22023', NULL, 'retry_after is not in the past');
SELECT is(goya.heartbeat(goya.new_id()), false, 'a token nobody has: heartbeat');
SELECT is(goya.complete_work(goya.new_id(), '1', '{"second": 1.5}'), false, 'complete_work');
SELECT is(goya.fail_work(goya.new_id(), '{"message": "x"}'), false, 'fail_work');
SELECT is(goya.heartbeat(NULL), false, 'no token at all');
SELECT is((SELECT count(*) FROM goya.claim_work('empty', 'w', 10)), 0::bigint, 'an empty queue');
SELECT is(goya.wait_for_work('empty', '50 ms'), false, 'which is not waited for longer than asked');
SELECT is(left(pg_temp.try($$ SELECT goya.create_program('mine', '/bin/sh') $$), 5), '42501', 'users register no programs');
SELECT is(left(pg_temp.try($$ SELECT goya.drop_program('mine') $$), 5), '42501', 'nor drop them');
SELECT is(left(pg_temp.try($$ SELECT goya.allow_program('mine', 'default') $$), 5), '42501', 'nor allow them');

\ir lib/finish.psql
