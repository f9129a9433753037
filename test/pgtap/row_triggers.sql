-- row_triggers.sql: row triggers that somebody puts on goya's hot tables fire on what goya writes there without SQL (src/table.c), before and after
-- rows, for submits and in executors, and may change what is written; without them nothing is different.

\set QUIET 1
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET search_path = public, pg_catalog;

CREATE ROLE regress_audited;
GRANT goya_user TO regress_audited;
CREATE SCHEMA regress_audit;
CREATE TABLE regress_audit.seen (relation text, operation text, status text);
CREATE FUNCTION regress_audit.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO regress_audit.seen VALUES (TG_TABLE_NAME || ' ' || lower(TG_WHEN), lower(TG_OP), NEW.status::text);
    RETURN NEW;
END;
$$;
CREATE FUNCTION regress_audit.stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.message := 'stamped'; RETURN NEW; END; $$;
CREATE TRIGGER regress_see AFTER INSERT OR UPDATE ON goya.tasks FOR EACH ROW EXECUTE FUNCTION regress_audit.see();
CREATE TRIGGER regress_see AFTER INSERT ON goya.node_runs FOR EACH ROW EXECUTE FUNCTION regress_audit.see();
CREATE TRIGGER regress_stamp BEFORE INSERT ON goya.node_runs FOR EACH ROW EXECUTE FUNCTION regress_audit.stamp();

SET ROLE regress_audited;
SELECT goya.create_workflow('audited', '{"nodes": [{"key": "a", "kind": "noop"}, {"key": "b", "kind": "transform", "output": {"n": 1}}],
    "edges": [{"from": "a", "to": "b"}]}', publish => true) \g /dev/null
SELECT goya.run('audited') AS one \gset
SELECT status FROM goya.wait_for_task(:'one', '20 s') \g /dev/null
SELECT string_agg(id::text, ',') AS many FROM goya.run_many('audited', '[{}, {}]') id \gset
SELECT count(goya.wait_for_task(id::uuid, '20 s')) FROM regexp_split_to_table(:'many', ',') id \g /dev/null
RESET ROLE;

DROP TRIGGER regress_see ON goya.tasks;
DROP TRIGGER regress_see ON goya.node_runs;
DROP TRIGGER regress_stamp ON goya.node_runs;

SELECT plan(6);
SELECT is((SELECT count(*)::integer FROM regress_audit.seen WHERE relation = 'tasks after' AND operation = 'insert' AND status = 'pending'), 3, 'run and run_many: AFTER INSERT of tasks');
SELECT is((SELECT count(*)::integer FROM regress_audit.seen WHERE relation = 'tasks after' AND operation = 'update' AND status = 'succeeded'), 3, 'executors: AFTER UPDATE of tasks');
SELECT is((SELECT count(*)::integer FROM regress_audit.seen WHERE relation = 'node_runs after' AND status = 'succeeded'), 6, 'executors: AFTER INSERT of node runs');
SELECT is((SELECT count(*)::integer FROM goya.node_runs WHERE task_id = :'one' AND message = 'stamped'), 2, 'a BEFORE trigger changes what is written');
SELECT is((SELECT output FROM goya.tasks WHERE id = :'one'), '{"n": 1}', 'and the task ends as ever');
SET ROLE regress_audited;
SELECT goya.run('audited') AS two \gset
SELECT status FROM goya.wait_for_task(:'two', '20 s') \g /dev/null
RESET ROLE;
SELECT is((SELECT count(*)::integer FROM regress_audit.seen), 12, 'once they are dropped nothing fires');
SELECT * FROM finish();

DROP SCHEMA regress_audit CASCADE;
