-- algorithms.sql: intents, their implementations, and which one is chosen, explained and when a node runs.
--
-- Decided: what is chosen is seen in the child task, whose workflow stands for the operator.

\set file algorithms
\ir lib/tasks.psql
SELECT no_plan();

CREATE FUNCTION regress_algorithms.good(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"people": 3, "by": "good"}'::jsonb $$;
CREATE FUNCTION regress_algorithms.cheap(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF input ->> 'break' = 'cheap' THEN
        RAISE EXCEPTION 'broken';
    END IF;
    RETURN '{"people": 2, "by": "cheap"}';
END $$;
SELECT set_config('test.n', extract(epoch FROM clock_timestamp())::bigint::text, false) AS n \gset
\set algo 'detect' :n
\set good 'good' :n
\set cheap 'cheap' :n
CREATE FUNCTION pg_temp.chosen(label text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_temp.task(label);
    RETURN (SELECT string_agg(format('%s:%s', regexp_replace(w.name, '[0-9]{9,}', ''), t.status), ' ' ORDER BY t.id)
            FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE t.parent_task_id = pg_temp.task_id(label));
END $$;
CREATE FUNCTION pg_temp.choice(policy text DEFAULT NULL, tier text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    answer text;
BEGIN
    PERFORM pg_temp.become(true);
    SELECT string_agg(regexp_replace(c.operator, '[0-9]{9,}', '') || coalesce(' (' || c.reason || ')', ''), ', ' ORDER BY c.place) INTO answer
    FROM goya.choose_implementation('detect' || current_setting('test.n'), choice.policy, choice.tier) c;
    PERFORM pg_temp.become(false);
    RETURN answer;
END $$;

SELECT unalike(pg_temp.try(format($$SELECT goya.create_operator(%L, 'sql', '{"function": "regress_algorithms.%s"}', '{}', '{"required": ["people"]}')$$, o || :'n', o)), '_____: %', o) FROM unnest('{good,cheap}'::text[]) o;
SELECT unalike(pg_temp.try(format($$SELECT goya.create_algorithm(%L, '{"required": ["frame"]}', '{"type": "object", "properties": {"people": {"type": "integer"}}}')$$, :'algo')), '_____: %', 'an algorithm');
SELECT matches(pg_temp.try(format('SELECT goya.create_algorithm(%L)', :'algo')), '^23505', 'once');
SELECT is((SELECT v.code FROM (SELECT pg_temp.become(true)) b, goya.validate_workflow(format('{"nodes": [{"key": "a", "kind": "algorithm", "algorithm": "%s"}]}', :'algo')::jsonb) v), 'unknown_algorithm', 'of no use without an implementation');
SELECT is(pg_temp.try(format('SELECT goya.add_implementation(%L, %L, cost => 900, latency_ms => 50, quality => 0.9, tier => ''premium'')', :'algo', :'good')), '', 'a good one');
SELECT is(pg_temp.try(format('SELECT goya.add_implementation(%L, %L, cost => 10, latency_ms => 5, quality => 0.6)', :'algo', :'cheap')), '', 'a cheap one');
SELECT is(left(pg_temp.try(format('SELECT goya.%s', c)), 5), e, c) FROM (VALUES
    (format('add_implementation(%L, ''nix'')', :'algo'), 'PT404'), (format('add_implementation(''nix'', %L)', :'good'), 'PT404'), (format('add_implementation(%L, %L, version => 3)', :'algo', :'good'), 'PT404'),
    (format('add_implementation(%L, %L, quality => 2)', :'algo', :'good'), '22023'), (format('record_evaluation(%L, %L, 1)', :'algo', :'good'), '22023'),
    (format('record_evaluation(%L, %L, 7, quality => 1)', :'algo', :'good'), 'PT404'), (format('choose_implementation(%L, ''magic'')', :'algo'), '22023'), ('choose_implementation(''nix'')', 'PT404')) v(c, e);

-- ---- explained ----
SELECT is(pg_temp.choice(), 'good (policy stable: the fewest failures, 0 %, then quality 0.900), cheap', 'stable: nothing is known of failures, so the better one');
SELECT is(pg_temp.choice('low_cost'), 'cheap (policy low_cost: the lowest cost, 10 nano-units), good', 'low_cost');
SELECT is(pg_temp.choice('high_quality', 'standard'), 'cheap (policy high_quality: the best quality, 0.600)', 'only those of the tier');
SELECT is(pg_temp.choice('high_quality', 'golden'), 'good (policy high_quality: the best quality, 0.900; there is none of tier golden), cheap', 'if there are any');

-- ---- quoted ----
SELECT (goya.set_price('regress-good' || :'n', 900)).amount, (goya.set_price('regress-cheap' || :'n', 10, 'second')).amount \g /dev/null
SELECT unalike(pg_temp.try(format($$SELECT goya.create_operator(%1$L, 'sql', %2$L)$$, 'priced-' || o || :'n', c)), '_____: %', 'a priced one') FROM (VALUES
    ('good', format('{"function": "regress_algorithms.good", "price": "regress-good%s"}', :'n')),
    ('cheap', format('{"function": "regress_algorithms.cheap", "price": {"name": "regress-cheap%s", "quantity": "{{ input.seconds }}", "estimate": 4}}', :'n'))) v(o, c);
SELECT unalike(pg_temp.try(format('SELECT goya.create_algorithm(%L)', 'priced' || :'n')), '_____: %', 'an algorithm of those');
SELECT is(pg_temp.try(format('SELECT goya.add_implementation(%L, %L, cost => %s, quality => %s)', 'priced' || :'n', 'priced-' || o || :'n', c, q)), '', o) FROM (VALUES ('good', 900, 0.9), ('cheap', 40, 0.5)) v(o, c, q);
SELECT pg_temp.define('quoted', format('{"nodes": [{"key": "a", "kind": "algorithm", "algorithm": "priced%1$s", "policy": "high_quality"},
    {"key": "m", "kind": "map", "over": "{{ input.list }}", "node": {"key": "each", "kind": "algorithm", "algorithm": "priced%1$s", "policy": "low_cost"}}]}', :'n')::jsonb);
SELECT is(replace(pg_temp.try($$SELECT string_agg(concat_ws(' ', node, unit, quantity, amount), ', ') FROM goya.quote('quoted', '{"list": [1, 2, 3], "seconds": 7}')$$), :'n', ''),
    'a.priced-good request 1 900, each.priced-cheap second 12 120, 1020', 'a quote has what the implementation would cost that the policy would choose now');
SELECT is((SELECT goya_private.quote_resolved(r.tenant_id, r.resolved, clock_timestamp()) FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id WHERE w.name = 'quoted'
           ORDER BY r.published_at DESC LIMIT 1), 0::bigint, 'and the task''s own hold has not: the child has one');
SELECT is(pg_temp.try(format('SELECT goya.add_implementation(%L, %L, cost => 1, quality => 0.95)', 'priced' || :'n', :'good')), '', 'another, of no price');
SELECT is(pg_temp.try($$SELECT amount FROM goya.quote('quoted', '{"list": []}') WHERE node IS NULL$$), '900', 'an implementation that was not there at publishing is none; no items, no price');
SELECT pg_temp.define('quoted', format('{"nodes": [{"key": "a", "kind": "algorithm", "algorithm": "priced%1$s", "policy": "high_quality"}]}', :'n')::jsonb);
SELECT is(pg_temp.try($$SELECT amount FROM goya.quote('quoted')$$), '0', 'a better one at no price');

-- ---- run ----
SELECT pg_temp.start('low', format('{"nodes": [{"key": "a", "kind": "algorithm", "algorithm": "%s", "policy": "low_cost"}]}', :'algo')::jsonb, '{"frame": 1}');
SELECT is(pg_temp.outcome('low'), 'succeeded {"by": "cheap", "people": 2}', 'a node gets what the policy says');
SELECT is(pg_temp.chosen('low'), '~operator cheap@1:succeeded', 'as a child task of the operator');
SELECT pg_temp.run('no frame', $$SELECT goya.run('low', '{}')$$);
SELECT is(pg_temp.outcome('no frame'), 'failed VALIDATION 22023: the input does not fit the input schema of node "a"', 'the algorithm''s contract is kept');
SELECT unalike(pg_temp.try(format('SELECT goya.record_evaluation(%L, %L, 1, cost => 5, quality => 0.8, samples => 10)', :'algo', :'good')), '_____: %', 'good is found to be cheaper');
SELECT pg_temp.run('low again', $$SELECT goya.run('low', '{"frame": 1}')$$);
SELECT is(pg_temp.outcome('low again'), 'succeeded {"by": "good", "people": 3}', 'the same revision now takes good: figures count when the node runs');
SELECT is(pg_temp.try(format('SELECT goya.add_implementation(%L, %L, cost => 900, quality => 0.9, tier => ''premium'', enabled => false)', :'algo', :'good')), '', 'good is disabled');
SELECT pg_temp.run('disabled', $$SELECT goya.run('low', '{"frame": 1}')$$);
SELECT is(pg_temp.chosen('disabled'), '~operator cheap@1:succeeded', 'which published workflows heed');
SELECT is(pg_temp.try(format('SELECT goya.add_implementation(%L, %L, cost => 900, quality => 0.9, tier => ''premium'')', :'algo', :'good')), '', 'and enabled');

-- ---- measured ----
SELECT pg_temp.start('best', format('{"nodes": [{"key": "a", "kind": "algorithm", "algorithm": "%s", "policy": "low_cost", "tier": "standard"}]}', :'algo')::jsonb, '{"frame": 1, "break": "cheap"}');
SELECT pg_temp.run('best ' || i, $$SELECT goya.run('best', '{"frame": 1, "break": "cheap"}')$$) FROM generate_series(1, 5) i;
SELECT matches(pg_temp.outcome('best' || i), '^failed UNKNOWN P0001: child task .* failed', 'cheap fails') FROM unnest(ARRAY['', ' 1', ' 2', ' 3', ' 4', ' 5']) i;
SELECT pg_temp.become(true);
SELECT is((SELECT format('%s runs, %s failed, %s', c.runs, round(c.failure_share::numeric, 2), c.source) FROM goya.choose_implementation('detect' || current_setting('test.n')) c WHERE c.operator LIKE 'cheap%'),
    '8 runs, 0.75 failed, measured in 8 runs', 'what children did is measured');
SELECT is(pg_temp.choice('low_cost'), 'good (policy low_cost: the lowest cost, 5 nano-units), cheap', 'what fails more than half of the time comes last');
SELECT pg_temp.run('retried', $$SELECT goya.run('low', '{"frame": 1}')$$);
SELECT is(pg_temp.chosen('retried'), '~operator good@1:succeeded', 'in running too');

-- ---- versions, and what one must not ----
SELECT is(pg_temp.try(format('SELECT goya.add_algorithm_version(%L, note => ''empty'')', :'algo')), '2', 'a new version');
SELECT matches(pg_temp.try($$SELECT goya.publish_workflow('low')$$), '^22023', 'has no implementations yet');
SELECT is(pg_temp.try(format('SELECT goya.activate_algorithm_version(%L, 1)', :'algo')) || pg_temp.try($$SELECT goya.publish_workflow('low')$$), '2', 'the one before has');
SELECT pg_temp.define('forged', jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'a', 'kind', 'workflow', 'workflow', 'x', 'algorithm', :'algo', 'version', 1, 'policy', 'low_cost',
    'candidates', jsonb_build_array(jsonb_build_object('workflow', (SELECT w.id FROM goya.workflows w WHERE w.name = 'low' AND w.owner_role = 'regress_algorithms'), 'revision', 1))))));
SELECT pg_temp.run('forged', $$SELECT goya.run('forged')$$);
SELECT is(pg_temp.outcome('forged'), 'failed VALIDATION PT404: node "a" has no implementation left to choose', 'candidates that do not stand for an operator of the tenant are none');
SELECT is(pg_temp.try(format('SELECT goya.drop_implementation(%L, %L, 1)', :'algo', :'good')), '', 'an implementation goes with its evaluations');
SELECT is((SELECT count(*) FROM goya.algorithm_evaluations e WHERE e.algorithm = :'algo'), 0::bigint, 'none is left');
SELECT pg_temp.run('dropped', $$SELECT goya.run('low', '{"frame": 1}')$$);
SELECT is(pg_temp.chosen('dropped'), '~operator good@1:succeeded', 'a revision keeps its candidates');

\ir lib/finish.psql
