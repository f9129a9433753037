-- 80_restore.sql: a dump's rows in place of those that CREATE EXTENSION makes.
--
-- CREATE EXTENSION makes two rows before a dump's are loaded: tenant default and a row of its engine. A dump has them too, with what became of them
-- (weight, settings, which cluster it was), so a loaded one takes the place of the one that is there.
--
-- What would run may be loaded before the row that says where it came from: pg_restore -j loads tables in any order, and triggers come first in a plain
-- dump. So the first COPY into a table of such rows leaves a row that pauses everything, in the same transaction, until the dump's own takes its place.

CREATE FUNCTION goya_private.replace_first_row() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_TABLE_NAME = 'engine' THEN
        DELETE FROM goya_private.engine e WHERE e.system_id = NEW.system_id OR (e.system_id = 'being restored' AND NEW.system_id <> goya_private.system_id());
        PERFORM goya_private.wake();               -- the engine is to see that this is a copy now
    ELSE
        DELETE FROM goya.tenants t WHERE t.id = NEW.id;
    END IF;
    RETURN NEW;
END;
$$;

CREATE FUNCTION goya_private.note_restore() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- An ordinary INSERT is goya's own.
    IF current_query() ~* '^[[:space:]]*COPY[[:space:]]'
       AND NOT EXISTS (SELECT FROM goya_private.engine e WHERE e.system_id <> goya_private.system_id() AND NOT e.adopted) THEN
        INSERT INTO goya_private.engine (system_id) VALUES ('being restored') ON CONFLICT (system_id) DO UPDATE SET adopted = false;
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER note_restore BEFORE INSERT ON goya_private.ready EXECUTE FUNCTION goya_private.note_restore();
CREATE TRIGGER note_restore BEFORE INSERT ON goya_private.timers EXECUTE FUNCTION goya_private.note_restore();
CREATE TRIGGER note_restore BEFORE INSERT ON goya_private.event_queue EXECUTE FUNCTION goya_private.note_restore();
CREATE TRIGGER note_restore BEFORE INSERT ON goya_private.cancel_requests EXECUTE FUNCTION goya_private.note_restore();
CREATE TRIGGER note_restore BEFORE INSERT ON goya.triggers EXECUTE FUNCTION goya_private.note_restore();

CREATE TRIGGER replace_first_row BEFORE INSERT ON goya_private.engine FOR EACH ROW EXECUTE FUNCTION goya_private.replace_first_row();
CREATE TRIGGER replace_first_row BEFORE INSERT ON goya.tenants FOR EACH ROW
    WHEN (NEW.id = '00000000-0000-7000-8000-000000000001') EXECUTE FUNCTION goya_private.replace_first_row();
