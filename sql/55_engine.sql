-- 55_engine.sql: routines the engine calls, and what administrators say to it.

-- Which copy of which cluster this is.
CREATE FUNCTION goya_private.system_id() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_system_id_sql';

CREATE FUNCTION goya.adopt_copy() RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    adopted_rows integer;
BEGIN
    IF NOT goya.is_admin() THEN
        RAISE EXCEPTION 'only an administrator may adopt a copy' USING ERRCODE = '42501',
            DETAIL = 'A restored copy would send its webhooks and charge its wallets a second time.',
            HINT = 'Ask for the role goya_admin.';
    END IF;
    UPDATE goya_private.engine SET adopted = true WHERE system_id <> goya_private.system_id() AND NOT adopted;
    GET DIAGNOSTICS adopted_rows = ROW_COUNT;
    PERFORM goya_private.wake();
    RETURN adopted_rows;
END;
$$;
COMMENT ON FUNCTION goya.adopt_copy() IS
'Lets a restored copy of a database run: until then goya starts nothing in it.
Returns the number of origins adopted; 0 when this is no copy. Errors: 42501 for others than administrators.';
