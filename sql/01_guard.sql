-- 01_guard.sql: refuses to install into a schema that somebody else prepared.
--
-- CREATE EXTENSION uses schema goya when it exists. Whoever may create there could leave a function or operator that matches an
-- unqualified call of this script better than the built-in one, and have a superuser run it. So the schema must be empty, belong to a
-- superuser or to goya_owner (what DROP EXTENSION leaves behind), and let nobody else create in it.

DO $$
DECLARE
    held text;
    owner pg_catalog.regrole;
BEGIN
    SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) INTO held
    FROM pg_catalog.pg_depend d
    WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
          AND d.refobjid OPERATOR(pg_catalog.=) 'goya'::pg_catalog.regnamespace
          AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'schema goya is not empty',
            DETAIL = pg_catalog.format('It holds %s.', held), HINT = 'Drop or rename the schema, then create the extension again.';
    END IF;
    SELECT n.nspowner INTO owner FROM pg_catalog.pg_namespace n
    WHERE n.oid OPERATOR(pg_catalog.=) 'goya'::pg_catalog.regnamespace
          AND (EXISTS (SELECT FROM pg_catalog.pg_roles r
                       WHERE r.oid OPERATOR(pg_catalog.=) n.nspowner AND NOT r.rolsuper AND r.rolname OPERATOR(pg_catalog.<>) 'goya_owner')
               OR EXISTS (SELECT FROM pg_catalog.aclexplode(n.nspacl) a
                          WHERE a.privilege_type OPERATOR(pg_catalog.=) 'CREATE' AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner));
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'schema goya can be written to by others',
            DETAIL = pg_catalog.format('It belongs to %s, or somebody else has CREATE on it.', owner),
            HINT = 'Drop or rename the schema, then create the extension again.';
    END IF;
END;
$$;
