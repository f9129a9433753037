-- 58_callbacks.sql: services that answer later.
--
-- Decided: an http node with a callback gives the service a token of 32 random bytes, of which only the hash is kept; whoever has the token may call back, once.
-- The run waits from its answer on; a callback that is faster than the recording of that answer is found when it is recorded (src/exchange_http_callback.c).
-- Must hold: a token counts once, for the attempt of the node run it was made for.

CREATE FUNCTION goya.callback(token text, payload jsonb DEFAULT '{}', failed boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_call goya_private.callbacks;
    task goya.tasks;
BEGIN
    DELETE FROM goya_private.callbacks c WHERE c.expires_at < now() - interval '1 day';
    UPDATE goya_private.callbacks c SET called_at = clock_timestamp(), failed = coalesce(callback.failed, false),
        payload = goya_private.seal_value((SELECT t.tenant_id FROM goya.tasks t WHERE t.id = c.task_id), coalesce(callback.payload, 'null'))
    WHERE c.token_hash = sha256(convert_to(coalesce(callback.token, ''), 'UTF8')) AND c.called_at IS NULL AND c.expires_at > clock_timestamp()
    RETURNING c.* INTO found_call;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = 'callback not found', DETAIL = 'The token is unknown, was used before, or has expired.',
            HINT = 'Each token is for one call; the node run that it was made for says what became of it.';
    END IF;
    SELECT * INTO task FROM goya.tasks t WHERE t.id = found_call.task_id;
    IF NOT FOUND OR goya_private.is_terminal(task.status)
       OR NOT EXISTS (SELECT FROM goya.node_runs r WHERE (r.task_id, r.node, r.item, r.attempt) = (found_call.task_id, found_call.node, found_call.item, found_call.attempt)
                      AND r.status IN ('running', 'waiting')) THEN
        RETURN false;
    END IF;
    PERFORM goya_private.enqueue(task.id, task.tenant_id, task.priority, found_call.plan_node, found_call.item, found_call.attempt, 4);
    RETURN true;
END;
$$;
COMMENT ON FUNCTION goya.callback(text, jsonb, boolean) IS
'Ends the wait of an http node with a callback: the payload is the body of its output, or with failed true its error.
token is what the service got with the request, in the header Goya-Callback-Token or where the node says; it is the right to do this, whoever calls, and
counts once. True: taken; false: the node no longer waits (timed out, cancelled).
Errors: PT404 unknown, used or expired token. Example: SELECT goya.callback(''5c0e…'', ''{"frames": 120}'');';
