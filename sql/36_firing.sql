-- 36_firing.sql: triggers firing: events, due intervals, cron slots and notifications become tasks. Called by the engine and by
-- pg_cron's jobs, as goya_owner; nothing here is for users. What fires when, and what becomes of missed slots: see 35_triggers.sql.
--
-- Decided: events are dispatched many at once, in C; only when something fails are they done again one by one, here.
-- Must hold: one task per trigger and slot, whoever fires it and however often; one trigger's error never stops another's task.

-- Triggers that may fire now.
CREATE VIEW goya_private.live_triggers AS
    SELECT t.*, t AS whole FROM goya.triggers t
    JOIN goya.workflows w ON w.id = t.workflow_id AND w.enabled AND w.revision IS NOT NULL
    JOIN goya.tenants n ON n.id = t.tenant_id AND n.status = 'active'
    WHERE t.enabled;

-- True when there is no filter, or it gives anything but false and null: a predicate that holds, or a path with a filter that finds something. In a
-- worker an error when it takes too long.
CREATE FUNCTION goya_private.filter_passes(filter jsonpath, document jsonb) RETURNS boolean
    LANGUAGE c IMMUTABLE AS 'MODULE_PATHNAME', 'goya_filter_passes_sql';

CREATE FUNCTION goya_private.slot_text(slot timestamptz) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT replace(to_char(slot_text.slot AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), '.000Z', 'Z')
$$;

-- Starts the task of one slot; null when the filter says no or the slot was taken. Without a slot every call starts one.
CREATE FUNCTION goya_private.start_slot(t goya.triggers, slot text, roots jsonb, default_input jsonb, asset_id uuid, depth integer) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    started uuid;
BEGIN
    IF NOT goya_private.filter_passes(t.filter, start_slot.roots) THEN
        RETURN NULL;
    END IF;
    IF start_slot.slot IS NOT NULL THEN
        INSERT INTO goya_private.trigger_slots (trigger_id, slot) VALUES (t.id, start_slot.slot) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    started := goya_private.start_task(t.tenant_id, t.run_as, NULL, t.workflow_id,
        CASE WHEN t.input = '{}' THEN start_slot.default_input ELSE goya_private.eval_template(t.input, start_slot.roots) END,
        start_slot.asset_id, NULL, t.priority, NULL, NULL, NULL, start_slot.depth, t.id,
        jsonb_build_object('kind', t.kind, 'name', t.name, 'slot', start_slot.slot) || start_slot.roots - ARRAY['asset', 'task'],
        NULL, NULL, NULL, NULL);
    UPDATE goya_private.trigger_slots s SET task_id = started WHERE s.trigger_id = t.id AND s.slot = start_slot.slot;
    RETURN started;
END;
$$;

-- The same, but an error becomes an event trigger_failed. What the next try may heal (deadlock, serialization, for a slot a wallet that is locked) is left
-- to the caller's retry.
CREATE FUNCTION goya_private.try_slot(t goya.triggers, slot text, roots jsonb, default_input jsonb, asset_id uuid, depth integer) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem jsonb;
    state   text;
    message text;
    detail  text;
    hint    text;
BEGIN
    RETURN goya_private.start_slot(t, slot, roots, default_input, asset_id, depth);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    IF left(state, 2) = '40' OR (state = '55P03' AND try_slot.slot IS NOT NULL) THEN
        RAISE;
    END IF;
    problem := jsonb_strip_nulls(jsonb_build_object('code', state, 'message', message, 'detail', nullif(detail, ''), 'hint', nullif(hint, '')));
    PERFORM goya_private.publish_event(t.tenant_id, 'trigger_failed', t.id,
        jsonb_build_object('trigger', t.name, 'workflow', (SELECT w.name FROM goya.workflows w WHERE w.id = t.workflow_id),
                           'slot', slot, 'error', problem), NULL, depth);
    RETURN NULL;
END;
$$;

-- What filters and templated inputs of event triggers see. A value whose master key is not here is seen as it is stored: no event waits for a key.
CREATE FUNCTION goya_private.event_documents(event_ids uuid[], tenant_ids uuid[], OUT event_id uuid, OUT document jsonb) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.id, jsonb_build_object('event', to_jsonb(e) - 'tenant_id', 'asset', to_jsonb(a) - 'content',
               'task', CASE WHEN k.id IS NOT NULL THEN jsonb_build_object('id', k.id, 'workflow_id', k.workflow_id, 'status', k.status,
                   'input', goya_private.peek_value(k.tenant_id, k.input), 'output', goya_private.peek_value(k.tenant_id, k.output), 'error', k.error, 'asset_id', k.asset_id, 'trace_id', k.trace_id) END)
    FROM unnest(event_documents.event_ids, event_documents.tenant_ids) AS q(event_id, tenant_id)
    JOIN goya.events e ON e.tenant_id = q.tenant_id AND e.id = q.event_id
    LEFT JOIN goya.assets a ON a.id = e.subject_id AND a.tenant_id = e.tenant_id
    LEFT JOIN goya.tasks k ON k.id = e.task_id AND k.tenant_id = e.tenant_id
$$;

-- What event triggers make of events: one row per event and trigger that wants it, before filters.
CREATE FUNCTION goya_private.match_events(event_ids uuid[], tenant_ids uuid[], OUT whole goya.triggers, OUT slot text, OUT roots jsonb, OUT default_input jsonb,
    OUT asset_id uuid, OUT depth integer) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.whole, 'event:' || e.id, d.document,
           CASE WHEN a.id IS NOT NULL THEN jsonb_build_object('event', e.type, 'asset_id', a.id)
                ELSE jsonb_build_object('event', e.type, 'subject_id', e.subject_id, 'data', e.data) END,
           a.id, e.depth + 1
    FROM unnest(match_events.event_ids, match_events.tenant_ids) AS q(event_id, tenant_id)
    JOIN goya.events e ON e.tenant_id = q.tenant_id AND e.id = q.event_id
    JOIN goya_private.event_documents(match_events.event_ids, match_events.tenant_ids) d ON d.event_id = e.id
    JOIN goya_private.live_triggers t ON t.tenant_id = e.tenant_id AND t.event = e.type AND t.kind = 'event'
    LEFT JOIN goya.assets a ON a.id = e.subject_id AND a.tenant_id = e.tenant_id
    LEFT JOIN goya.tasks k ON k.id = e.task_id AND k.tenant_id = e.tenant_id
    WHERE e.depth + 1 <= t.max_depth
      AND (t.allow_own_output OR k.workflow_id IS DISTINCT FROM t.workflow_id)
      -- Nobody is told of assets that the role the task runs as could not read.
      AND (a.id IS NULL OR a.visibility IN ('tenant', 'public')
           OR goya_private.role_may_see(t.run_as, a.visibility, a.owner_role, a.visible_roles))
    ORDER BY e.tenant_id, e.id, t.id
$$;

-- A task for each trigger and event, one by one, for a batch in which something failed. Wallets are locked tenant by tenant.
CREATE FUNCTION goya_private.dispatch_singly(event_ids uuid[], tenant_ids uuid[]) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT count(goya_private.try_slot(m.whole, m.slot, m.roots, m.default_input, m.asset_id, m.depth))
    FROM goya_private.match_events(dispatch_singly.event_ids, dispatch_singly.tenant_ids) m
$$;

-- Turns queued events into tasks; returns how many events it took. All at once, in C (src/dispatch.c), as match_events and start_slot would; one by
-- one, with those, only when something fails.
CREATE FUNCTION goya_private.dispatch_events(max_events integer) RETURNS integer
    LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'goya_dispatch_events_sql';

-- Fires missed slots by the trigger's policy, then the one that is on time. missed: oldest first; either may be null. Returns the last one's task.
CREATE FUNCTION goya_private.fire_slots(t goya.triggers, missed timestamptz[], on_time timestamptz) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due     timestamptz;
    started uuid;
BEGIN
    FOREACH due IN ARRAY CASE t.missed WHEN 'all' THEN coalesce(fire_slots.missed, '{}')
                                       WHEN 'once' THEN coalesce(fire_slots.missed[cardinality(fire_slots.missed):], '{}')
                                       ELSE '{}' END
                         || CASE WHEN on_time IS NULL THEN '{}' ELSE ARRAY[on_time] END LOOP
        started := goya_private.try_slot(t, goya_private.slot_text(due), jsonb_build_object('slot', goya_private.slot_text(due)),
                                         jsonb_build_object('slot', goya_private.slot_text(due)), NULL, 0);
    END LOOP;
    RETURN started;
END;
$$;

-- A slot that pg_cron's job had to give up: something that it needs stays locked. With missed skip that is its end, and the tenant is told; else the
-- engine makes up for it, when it can (fire_intervals).
CREATE FUNCTION goya_private.give_up_slot(t goya.triggers, slot timestamptz) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF t.missed = 'skip' THEN
        PERFORM goya_private.publish_event(t.tenant_id, 'trigger_failed', t.id,
            jsonb_build_object('trigger', t.name, 'workflow', (SELECT w.name FROM goya.workflows w WHERE w.id = t.workflow_id),
                'slot', goya_private.slot_text(give_up_slot.slot),
                'error', jsonb_build_object('code', '55P03', 'message', 'a lock was not to be had in time',
                    'detail', 'A transaction keeps the trigger, or the wallet of its tenant, locked. The slot is skipped.',
                    'hint', 'End that transaction. With missed once or all a slot is made up for.')), NULL, 0);
    END IF;
END;
$$;

-- pg_cron's job. due is the minute in which the job started; the slot is the newest of the schedule in the five minutes before it. pg_cron has places for
-- few jobs at once, and they are everybody's: a tenant that keeps locked what its own trigger needs has them for goya.lock_wait and no longer.
CREATE FUNCTION goya_private.fire_trigger(trigger_id uuid, due timestamptz) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    t       goya.triggers;
    latest  timestamptz;
    started uuid;
BEGIN
    -- The transaction is the job's. What the database or the role has as lock_timeout counts when it is less.
    PERFORM set_config('lock_timeout', (SELECT min(nullif(s.setting, '0')::integer)::text FROM pg_settings s WHERE s.name IN ('lock_timeout', 'goya.lock_wait')), true);
    BEGIN
        -- Locked first and read then: an enabling or disabling that was under way is seen.
        PERFORM FROM goya.triggers x WHERE x.id = fire_trigger.trigger_id FOR UPDATE;
        SELECT (l.whole).* INTO t FROM goya_private.live_triggers l WHERE l.id = fire_trigger.trigger_id AND l.kind = 'cron';
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        latest := coalesce((goya_private.cron_slots(t.schedule, due - interval '5 minutes', due, 1))[1], due);
        IF latest <= t.last_slot THEN
            RETURN (SELECT s.task_id FROM goya_private.trigger_slots s WHERE s.trigger_id = t.id AND s.slot = goya_private.slot_text(latest));
        END IF;
        started := goya_private.fire_slots(t, CASE WHEN t.missed = 'skip' THEN NULL
            ELSE goya_private.cron_slots(t.schedule, t.last_slot, latest - interval '1 second', 100) END, latest);
        UPDATE goya.triggers x SET last_slot = latest, next_due = goya_private.cron_next(t.schedule, latest) WHERE x.id = t.id;
    EXCEPTION WHEN lock_not_available THEN
        SELECT (l.whole).* INTO t FROM goya_private.live_triggers l WHERE l.id = fire_trigger.trigger_id AND l.kind = 'cron';
        latest := coalesce((goya_private.cron_slots(t.schedule, due - interval '5 minutes', due, 1))[1], due);
        IF latest > t.last_slot THEN
            PERFORM goya_private.give_up_slot(t, latest);
        END IF;
        started := NULL;
    END;
    RETURN started;
END;
$$;

-- Somebody else has the wallet and may keep it: nothing that needs it can be started. Else it is locked, if there is one, until the transaction ends.
CREATE FUNCTION goya_private.wallet_is_held(tenant_id uuid) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM goya.wallets w WHERE w.tenant_id = wallet_is_held.tenant_id FOR NO KEY UPDATE SKIP LOCKED;
    RETURN NOT FOUND AND EXISTS (SELECT FROM goya.wallets w WHERE w.tenant_id = wallet_is_held.tenant_id);
END;
$$;

-- Fires interval triggers that are due, and cron slots that pg_cron let pass (policies once and all). Returns when to call it again, or null.
CREATE FUNCTION goya_private.fire_intervals() RETURNS timestamptz
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    t       goya.triggers;
    at      timestamptz := clock_timestamp();
    newest  timestamptz;
    steps   integer;           -- whole intervals between next_due and now
    slots   timestamptz[];
    on_time boolean;
BEGIN
    FOR t IN SELECT x.* FROM goya.triggers x
             WHERE x.enabled AND x.kind = 'interval' AND x.next_due <= at AND EXISTS (SELECT FROM goya_private.live_triggers l WHERE l.id = x.id)
             ORDER BY x.next_due FOR UPDATE SKIP LOCKED LOOP
        CONTINUE WHEN goya_private.wallet_is_held(t.tenant_id);
        steps := floor(extract(epoch FROM at - t.next_due) / extract(epoch FROM t.every));
        -- Months are of different lengths.
        WHILE steps > 0 AND t.next_due + steps * t.every > at LOOP
            steps := steps - 1;
        END LOOP;
        WHILE t.next_due + (steps + 1) * t.every <= at LOOP
            steps := steps + 1;
        END LOOP;
        newest := t.next_due + steps * t.every;
        on_time := at - newest <= least(t.every, interval '1 minute');
        slots := ARRAY(SELECT t.next_due + n * t.every
                       FROM generate_series(greatest(0, steps - 99 - on_time::integer), steps - on_time::integer) n);
        PERFORM goya_private.fire_slots(t, slots, CASE WHEN on_time THEN newest END);
        UPDATE goya.triggers x SET last_slot = newest, next_due = t.next_due + (steps + 1) * t.every WHERE x.id = t.id;
    END LOOP;
    FOR t IN SELECT x.* FROM goya.triggers x
             WHERE x.enabled AND x.kind = 'cron' AND x.missed <> 'skip' AND x.next_due < at - interval '90 seconds'
               AND EXISTS (SELECT FROM goya_private.live_triggers l WHERE l.id = x.id)
             ORDER BY x.next_due FOR UPDATE SKIP LOCKED LOOP
        CONTINUE WHEN goya_private.wallet_is_held(t.tenant_id);
        slots := goya_private.cron_slots(t.schedule, t.last_slot, at - interval '90 seconds', 100);
        PERFORM goya_private.fire_slots(t, slots, NULL);
        newest := coalesce(slots[cardinality(slots)], at - interval '90 seconds');
        UPDATE goya.triggers x SET last_slot = newest, next_due = goya_private.cron_next(t.schedule, newest) WHERE x.id = t.id;
    END LOOP;
    -- What is due still has its trigger or its tenant's wallet locked by somebody: not before the next second.
    RETURN (SELECT min(CASE WHEN x.due <= at THEN at + interval '1 second' ELSE x.due END)
            FROM (SELECT CASE l.kind WHEN 'interval' THEN l.next_due ELSE l.next_due + interval '91 seconds' END AS due
                  FROM goya_private.live_triggers l
                  WHERE l.kind = 'interval' OR (l.kind = 'cron' AND l.missed <> 'skip')) x);
END;
$$;

-- Channels the engine has to listen on.
CREATE FUNCTION goya_private.notify_channels() RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT DISTINCT t.channel FROM goya_private.live_triggers t WHERE t.kind = 'notify' ORDER BY 1
$$;

-- A notification came: every trigger on its channel starts a task. A payload that is JSON is taken as that, any other as text. Returns how many.
CREATE FUNCTION goya_private.fire_channel(channel text, payload text) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    content jsonb := to_jsonb(nullif(fire_channel.payload, ''));
BEGIN
    BEGIN
        content := nullif(fire_channel.payload, '')::jsonb;
    EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
        NULL;                   -- not JSON
    END;
    RETURN (SELECT count(goya_private.try_slot(t.whole, NULL, jsonb_build_object('payload', content), jsonb_build_object('payload', content), NULL, 0))
            FROM goya_private.live_triggers t WHERE t.kind = 'notify' AND t.channel = fire_channel.channel);
END;
$$;
