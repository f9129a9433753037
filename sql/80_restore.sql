-- 80_restore.sql: a dump's rows in place of those that CREATE EXTENSION makes.
--
-- CREATE EXTENSION makes two rows before a dump's are loaded: tenant default and a row of its engine. A dump has them too, with what became of them
-- (weight, settings, which cluster it was), so a loaded one takes the place of the one that is there.

CREATE FUNCTION goya_private.replace_first_row() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'engine' THEN
        DELETE FROM goya_private.engine e WHERE e.system_id = NEW.system_id;
        PERFORM goya_private.wake();               -- the engine is to see that this is a copy now
    ELSE
        DELETE FROM goya.tenants t WHERE t.id = NEW.id;
    END IF;
    RETURN NEW;
END;
$$;
CREATE TRIGGER replace_first_row BEFORE INSERT ON goya_private.engine FOR EACH ROW EXECUTE FUNCTION goya_private.replace_first_row();
CREATE TRIGGER replace_first_row BEFORE INSERT ON goya.tenants FOR EACH ROW
    WHEN (NEW.id = '00000000-0000-7000-8000-000000000001') EXECUTE FUNCTION goya_private.replace_first_row();
