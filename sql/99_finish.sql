-- 99_finish.sql: what a dump keeps, and the last look over everything made.
--
-- Decided: a dump keeps every row of every table, queue and engine row included: a restored copy goes on where it was once somebody says so, and
-- the engine row says which cluster it came from, which is why the copy is paused until then.
-- Must hold: everything in both schemas belongs to goya_owner and to the extension.

DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT c.oid::pg_catalog.regclass AS name FROM pg_catalog.pg_class c
        WHERE c.relnamespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace) AND c.relkind IN ('r', 'p', 'S')
    LOOP
        -- goya's own templates come with the extension.
        PERFORM pg_catalog.pg_extension_config_dump(item.name, CASE WHEN item.name = 'goya.operator_templates'::pg_catalog.regclass THEN 'WHERE origin <> ''builtin''' ELSE '' END);
    END LOOP;

    FOR item IN
        SELECT pg_catalog.pg_describe_object(o.classid, o.objid, 0) AS name FROM (
            SELECT 'pg_class'::pg_catalog.regclass AS classid, c.oid AS objid, c.relnamespace AS namespace, c.relowner AS owner
            FROM pg_catalog.pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
            UNION ALL SELECT 'pg_proc'::pg_catalog.regclass, p.oid, p.pronamespace, p.proowner FROM pg_catalog.pg_proc p
            UNION ALL SELECT 'pg_operator'::pg_catalog.regclass, p.oid, p.oprnamespace, p.oprowner FROM pg_catalog.pg_operator p
            UNION ALL SELECT 'pg_type'::pg_catalog.regclass, t.oid, t.typnamespace, t.typowner FROM pg_catalog.pg_type t
            WHERE t.typtype IN ('e', 'd', 'r') OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')) o
        WHERE o.namespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace)
              AND (o.owner <> 'goya_owner'::pg_catalog.regrole
                   OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                                  WHERE d.classid = o.classid AND d.objid = o.objid AND d.refclassid = 'pg_extension'::pg_catalog.regclass
                                        AND d.deptype = 'e' AND e.extname = 'goya'))
    LOOP
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = pg_catalog.format('%s is not goya''s', item.name),
            DETAIL = 'It belongs to another role or was not made by this extension.', HINT = 'Drop schema goya, then create the extension again.';
    END LOOP;
END;
$$;

-- The launcher looks at once, not at its next turn.
SELECT goya_private.wake();
