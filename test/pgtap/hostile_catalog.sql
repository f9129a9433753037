-- hostile_catalog.sql: what is SECURITY DEFINER and what PUBLIC may do, against the list in docs/security.md; and how functions must be made.
--
-- Run in a directory with docs/ in it, as test/run does.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();
\set doc `cat docs/security.md`
SELECT isnt(:'doc'::text, '', 'docs/security.md is there');

CREATE TEMP TABLE functions AS
SELECT n.nspname || '.' || p.proname AS name, p.*, l.lanname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang WHERE n.nspname IN ('goya', 'goya_private');
CREATE TEMP TABLE listed AS
SELECT regexp_split_to_table(btrim(substring(:'doc' FROM '<!-- definers -->\s+```([^`]*)```')), '\s+') AS name;
DELETE FROM listed WHERE name = '';
SELECT set_eq('SELECT DISTINCT name FROM functions WHERE prosecdef', 'SELECT name FROM listed', 'docs/security.md lists the SECURITY DEFINER functions, these and no others');
SELECT is_empty($$SELECT name FROM functions WHERE prosecdef AND proowner <> 'goya_owner'::regrole$$, 'they are goya_owner''s');
SELECT is_empty($$SELECT name FROM functions WHERE prosecdef AND NOT proconfig @> ARRAY['search_path=pg_catalog, pg_temp']$$, 'with search_path pg_catalog, pg_temp');
SELECT is_empty($$SELECT name FROM functions WHERE prosecdef AND lanname NOT IN ('plpgsql', 'sql')$$, 'and not in C');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname IN ('goya_owner', 'goya_executor', 'goya_listener') AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)$$, 'their owner may nothing else');
-- Every name that is looked up when a function runs is looked up in pg_catalog.
SELECT is_empty($$SELECT name FROM functions WHERE lanname = 'plpgsql' AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']$$, 'all of PL/pgSQL has that search_path');
SELECT is_empty($$SELECT name FROM functions WHERE lanname = 'sql' AND prosqlbody IS NULL AND NOT coalesce(proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
    AND EXISTS (SELECT FROM aclexplode(proacl) a WHERE a.grantee <> proowner)$$, 'all of SQL that anybody may call has it, or was parsed when it was made');
SELECT is_empty($$SELECT name FROM functions WHERE prosrc ~* 'advisory'$$, 'nobody waits for an advisory lock, which anybody may take and keep');
-- Dynamic SQL is a constant: nothing of a caller's is ever part of a statement's text. search_assets puts constants together; its values are parameters.
SELECT is_empty($$SELECT name FROM functions WHERE lanname = 'plpgsql' AND name <> 'goya.search_assets' AND prosrc ~ '(?n)^\s*(RETURN QUERY |FOR .* IN )?EXECUTE\s+(?!''|\$cron\$)'$$, 'dynamic SQL begins with a constant');
SELECT is_empty($$SELECT name FROM functions WHERE lanname = 'plpgsql' AND prosrc ~ 'EXECUTE\s+''[^'']*''\s*(\|\||\))'$$, 'and has nothing added to it');
SELECT is_empty($$SELECT name FROM functions, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE a.grantee = 0$$, 'PUBLIC may call no function');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND a.grantee = 0$$, 'PUBLIC may use no relation');
SELECT is_empty($$SELECT n.nspname FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname IN ('goya', 'goya_private') AND a.grantee = 0$$, 'nor schema');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND c.relkind = 'v' AND NOT coalesce(c.reloptions, '{}') @> '{security_invoker=true}'
    AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)$$,
    'views run as their readers');
SELECT is_empty($$SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'goya'::regnamespace AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)$$, 'every table of goya has row security, also for its owner');
-- Nothing that a caller could bend runs when goya's rows are written or read.
SELECT is_empty($$SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND NOT t.tgisinternal AND p.pronamespace NOT IN ('goya'::regnamespace, 'goya_private'::regnamespace)$$, 'triggers call goya''s functions');
-- The script makes what it makes, or fails.
\set script `cat sql/*.sql`
SELECT cmp_ok(length(:'script'), '>', 100000, 'the script is there');
SELECT is(substring(:'script' FROM '(?ni)^\s*CREATE\s+OR\s+REPLACE.*$'), NULL, 'nothing is made over what was there before');
SELECT is(substring(:'script' FROM '(?ni)^\s*CREATE\s+(TABLE|SCHEMA|INDEX|TYPE|SEQUENCE|EXTENSION|VIEW|MATERIALIZED VIEW)\s+IF\s+NOT\s+EXISTS.*$'), NULL, 'nothing that was there before is taken');
SELECT is(substring(:'script' FROM '(?ni)^SET\s+search_path.*$'), NULL, 'the search_path is the one that CREATE EXTENSION makes');
SELECT * FROM finish();
ROLLBACK;
