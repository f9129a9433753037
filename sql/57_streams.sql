-- 57_streams.sql: what outside calls say while they run.
--
-- Decided: rows are written by the engine, ten times a second at most for all streams together (src/stream.c), and read here by long poll; the
-- NOTIFY says only which stream grew. A stream is a convenience: unlogged, its last 256 KB only, deleted a minute after the call has ended. The
-- truth is the output of the node run.
-- Must hold: who may not see the node run may not read its stream.

CREATE SEQUENCE goya_private.stream_seq;           -- logged: numbers grow over a crash too

CREATE UNLOGGED TABLE goya_private.stream_chunks (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    item        integer NOT NULL,
    seq         bigint NOT NULL DEFAULT nextval('goya_private.stream_seq'),
    attempt     smallint NOT NULL,
    position    bigint NOT NULL,                   -- bytes of the stream before this
    flags       smallint NOT NULL,                 -- 1 it begins (anew) here, 2 it ends here
    delta       text,
    sealed      bytea,                             -- instead of it, for tenants with encrypt_prompts; neither: there was no master key
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, node, item, seq)
);

CREATE FUNCTION goya.read_stream(task_id uuid, node text, item integer DEFAULT 0, after bigint DEFAULT 0, timeout interval DEFAULT '10 s')
    RETURNS TABLE (seq bigint, attempt smallint, "position" bigint, starts boolean, delta text, ends boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    deadline timestamptz := clock_timestamp() + least(read_stream.timeout, interval '1 minute');
    task goya.tasks := goya_private.own_task(read_stream.task_id);
    left_ms integer;
    over boolean;
BEGIN
    IF read_stream.timeout IS NULL OR read_stream.timeout < interval '0' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'timeout must be an interval of 0 s or more';
    END IF;
    LOOP
        -- Looked at before the rows: what ends between the two looks is read by the second.
        SELECT coalesce(bool_and(r.status NOT IN ('pending', 'ready', 'running', 'waiting')), false) INTO over
        FROM goya.node_runs r WHERE r.task_id = read_stream.task_id AND r.node = read_stream.node AND r.item = coalesce(read_stream.item, 0);
        over := over OR goya_private.is_terminal((SELECT t.status FROM goya.tasks t WHERE t.id = read_stream.task_id));
        RETURN QUERY SELECT c.seq, c.attempt, c.position, c.flags & 1 > 0,
                coalesce(c.delta, goya_private.open_sealed(task.tenant_id, 'completion', format('%s/%s/%s', c.task_id, c.node, c.item), c.sealed)), c.flags & 2 > 0 FROM goya_private.stream_chunks c
            WHERE c.task_id = read_stream.task_id AND c.node = read_stream.node AND c.item = coalesce(read_stream.item, 0)
              AND c.seq > coalesce(read_stream.after, 0) ORDER BY c.seq LIMIT 1000;
        EXIT WHEN FOUND;
        -- A call that is over has nothing more to say once its last row is the end, or there are none.
        EXIT WHEN over AND coalesce((SELECT c.flags & 2 > 0 FROM goya_private.stream_chunks c
                WHERE c.task_id = read_stream.task_id AND c.node = read_stream.node AND c.item = coalesce(read_stream.item, 0)
                ORDER BY c.seq DESC LIMIT 1), true);
        left_ms := ceil(extract(epoch FROM deadline - clock_timestamp()) * 1000);
        EXIT WHEN left_ms <= 0;
        PERFORM goya_private.wait_announcement(read_stream.task_id, least(left_ms, 1000));
    END LOOP;
END;
$$;
COMMENT ON FUNCTION goya.read_stream(uuid, text, integer, bigint, interval) IS
'What an outside call with "stream": true has said since, while it runs; waits for more up to timeout (at most 1 minute).
node is the node''s key, item its number in a map, after the seq of the last row that was read. Rows come in order, at most 1000 at once: delta is the text that came,
position the bytes before it; starts: what came before is void, the text begins anew (another attempt, another model, a repair); ends: this was the
last. No rows: nothing came in time, or the call is over and its stream is gone, which it is a minute after the end. The last 256 KB are kept. NOTIFY
goya_stream carries {"task_id", "node", "item", "seq"} for each new row. The node''s output has the whole text once it is recorded.
Must be called in another transaction than the one that started the task. A waiting session holds a snapshot: prefer short timeouts.
Errors: PT404 no such task, 22023 bad timeout.
Example: SELECT seq, delta, ends FROM goya.read_stream(''0190…'', ''write'', after => 17, timeout => ''5 s'');';
