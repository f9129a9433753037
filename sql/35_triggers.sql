-- 35_triggers.sql: what starts workflows by themselves: cron schedules, intervals, events, NOTIFY channels.
--
-- Decided: a trigger fires when it is enabled, its workflow is enabled and published, and its tenant is active. Its tasks run as the role that
-- enabled it. Every firing has a slot (due time, or event id) that is unique per trigger, so two schedulers, a repeated job or a
-- restart make one task. pg_cron only wakes us: the schedule is also read here, so that slots it missed (server down, launcher dead) are
-- known exactly. A slot is missed when it was not handled within its grace (a minute, or the interval if that is shorter; 90 s for cron):
--   skip  missed slots make no task;
--   once  one task for the newest of them;
--   all   a task for each, of the newest 100 (cron looks back 31 days at most).
-- Times while the trigger or its workflow was disabled are not missed: enabling starts anew. All arithmetic is in UTC.
-- Must hold: one trigger's error never stops another's task; it becomes an event trigger_failed.

-- ---- cron schedules ----

-- Numbers that one field of a cron schedule allows.
CREATE FUNCTION goya_private.cron_field(field text, low integer, high integer, names text[] DEFAULT '{}') RETURNS integer[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    part   text;
    m      text[];
    first  integer;
    last   integer;
    allowed integer[] := '{}';
BEGIN
    FOREACH part IN ARRAY string_to_array(lower(field), ',') LOOP
        m := regexp_match(part, '^(\*|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?$');
        first := CASE WHEN m[1] = '*' THEN low WHEN m[2] ~ '[0-9]' THEN m[2]::integer ELSE array_position(names, m[2]) - 1 + low END;
        last := CASE WHEN m[1] = '*' THEN high WHEN m[3] IS NULL THEN first WHEN m[3] ~ '[0-9]' THEN m[3]::integer
                     ELSE array_position(names, m[3]) - 1 + low END;
        IF m IS NULL OR first IS NULL OR last IS NULL OR first < low OR last > high OR first > last OR m[4]::integer = 0
           OR (m[4] IS NOT NULL AND m[1] <> '*' AND m[3] IS NULL) THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad cron schedule',
                DETAIL = format('"%s" is not a value, range or step between %s and %s.', part, low, high),
                HINT = 'Five fields: minute hour day-of-month month day-of-week, as in */10 8-18 * * mon-fri.';
        END IF;
        allowed := allowed || ARRAY(SELECT generate_series(first, last, coalesce(m[4]::integer, 1)));
    END LOOP;
    RETURN ARRAY(SELECT DISTINCT a FROM unnest(allowed) a ORDER BY a);
END;
$$;

-- A schedule taken apart. either: days of month and of week are both restricted, and one of them is enough.
CREATE FUNCTION goya_private.cron_plan(schedule text, OUT minutes integer[], OUT hours integer[], OUT days integer[], OUT months integer[],
    OUT weekdays integer[], OUT either boolean) RETURNS record
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    fields text[] := regexp_split_to_array(CASE btrim(schedule)
        WHEN '@yearly' THEN '0 0 1 1 *' WHEN '@annually' THEN '0 0 1 1 *' WHEN '@monthly' THEN '0 0 1 * *' WHEN '@weekly' THEN '0 0 * * 0'
        WHEN '@daily' THEN '0 0 * * *' WHEN '@midnight' THEN '0 0 * * *' WHEN '@hourly' THEN '0 * * * *' ELSE btrim(schedule) END, '\s+');
BEGIN
    IF cardinality(fields) <> 5 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad cron schedule',
            DETAIL = format('"%s" has %s fields, not five.', schedule, cardinality(fields)),
            HINT = 'Five fields: minute hour day-of-month month day-of-week. For less than a minute use a trigger of kind interval.';
    END IF;
    minutes := goya_private.cron_field(fields[1], 0, 59);
    hours := goya_private.cron_field(fields[2], 0, 23);
    days := goya_private.cron_field(fields[3], 1, 31);
    months := goya_private.cron_field(fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}');
    weekdays := ARRAY(SELECT DISTINCT d % 7 FROM unnest(goya_private.cron_field(fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}')) d);
    either := left(fields[3], 1) <> '*' AND left(fields[5], 1) <> '*';
END;
$$;

CREATE FUNCTION goya_private.cron_timezone() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(nullif(current_setting('cron.timezone', true), ''), 'UTC')      -- pg_cron before 1.6 knows GMT only
$$;

-- The newest slots of a schedule in (after, until], oldest first; it looks back 31 days at most.
CREATE FUNCTION goya_private.cron_slots(schedule text, after timestamptz, until timestamptz, max_slots integer) RETURNS timestamptz[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(newest.slot ORDER BY newest.slot)
    FROM (SELECT DISTINCT slots.slot
          FROM goya_private.cron_plan(cron_slots.schedule) p
          CROSS JOIN goya_private.cron_timezone() zone
          CROSS JOIN generate_series(date_trunc('day', greatest(cron_slots.after, cron_slots.until - interval '31 days') AT TIME ZONE zone),
                                     cron_slots.until AT TIME ZONE zone, interval '1 day') day
          CROSS JOIN unnest(p.hours) h CROSS JOIN unnest(p.minutes) m
          CROSS JOIN LATERAL (SELECT (day + make_interval(hours => h, mins => m)) AT TIME ZONE zone AS slot) slots
          WHERE extract(month FROM day)::integer = ANY (p.months)
            AND CASE WHEN p.either THEN extract(day FROM day)::integer = ANY (p.days) OR extract(dow FROM day)::integer = ANY (p.weekdays)
                     ELSE extract(day FROM day)::integer = ANY (p.days) AND extract(dow FROM day)::integer = ANY (p.weekdays) END
            AND slots.slot > greatest(cron_slots.after, cron_slots.until - interval '31 days') AND slots.slot <= cron_slots.until
          ORDER BY slots.slot DESC LIMIT cron_slots.max_slots) newest
$$;

-- The first slot after a time; null when there is none in eight years (30 February).
CREATE FUNCTION goya_private.cron_next(schedule text, after timestamptz) RETURNS timestamptz
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    zone text := goya_private.cron_timezone();
    p    record := goya_private.cron_plan(schedule);
    day  timestamp := date_trunc('day', after AT TIME ZONE zone);
    slot timestamptz;
BEGIN
    FOR ahead IN 0 .. 2922 LOOP
        IF extract(month FROM day)::integer = ANY (p.months)
           AND (CASE WHEN p.either THEN extract(day FROM day)::integer = ANY (p.days) OR extract(dow FROM day)::integer = ANY (p.weekdays)
                     ELSE extract(day FROM day)::integer = ANY (p.days) AND extract(dow FROM day)::integer = ANY (p.weekdays) END) THEN
            SELECT min(s.slot) INTO slot
            FROM (SELECT (day + make_interval(hours => h, mins => m)) AT TIME ZONE zone AS slot
                  FROM unnest(p.hours) h CROSS JOIN unnest(p.minutes) m) s
            WHERE s.slot > after;
            IF slot IS NOT NULL THEN
                RETURN slot;
            END IF;
        END IF;
        day := day + interval '1 day';
    END LOOP;
    RETURN NULL;
END;
$$;

-- ---- scheduling ----

-- pg_cron as goya can use it, or 0A000 with what to do. Names in cron are only touched after this.
CREATE FUNCTION goya_private.require_cron() RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    hint text;
BEGIN
    hint := CASE
        WHEN NOT EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron')
            THEN format('Add pg_cron to shared_preload_libraries, set cron.database_name = ''%1$s'' and cron.use_background_workers = on, '
                        'restart, and CREATE EXTENSION pg_cron in database "%1$s".', current_database())
        WHEN NOT EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                         WHERE n.nspname = 'cron' AND p.proname = 'schedule' AND p.proargtypes = ARRAY[25, 25, 25]::oidvector)
            THEN 'This pg_cron is too old: install 1.4 or later and ALTER EXTENSION pg_cron UPDATE.'
        WHEN NOT has_schema_privilege('goya_owner', 'cron', 'USAGE') THEN 'GRANT USAGE ON SCHEMA cron TO goya_owner.'
        -- goya_owner admits background workers and no connection: without them its jobs would never start. Only some may read the setting;
        -- goya.health tells the others.
        WHEN pg_has_role('pg_read_all_settings', 'USAGE') AND NOT coalesce(current_setting('cron.use_background_workers', true), 'off')::boolean
            THEN 'Set cron.use_background_workers = on, with pg_cron in shared_preload_libraries, and restart.' END;
    IF hint IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = 'cron triggers need pg_cron',
            DETAIL = format('pg_cron cannot be used in database "%s" as it is.', current_database()), HINT = hint;
    END IF;
END;
$$;

-- Runs as goya_owner, whose job it becomes.
CREATE FUNCTION goya_private.schedule_cron(trigger_id uuid, schedule text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    job     bigint;
    problem text;
BEGIN
    PERFORM goya_private.require_cron();
    BEGIN
        EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO job
            USING 'goya:' || schedule_cron.trigger_id, schedule_cron.schedule,
                  format('SELECT goya_private.fire_trigger(%L::uuid, date_trunc(''minute'', now()))', schedule_cron.trigger_id);
    EXCEPTION WHEN invalid_parameter_value OR internal_error OR syntax_error THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad cron schedule', DETAIL = format('pg_cron says: %s.', problem),
            HINT = 'Five fields: minute hour day-of-month month day-of-week, as in */10 8-18 * * mon-fri.';
    END;
    RETURN job;
END;
$$;

CREATE FUNCTION goya_private.schedule_trigger(t goya.triggers) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
#variable_conflict use_column
DECLARE
    start timestamptz := date_trunc('second', clock_timestamp());
BEGIN
    UPDATE goya.triggers x
    SET cron_job_id = CASE t.kind WHEN 'cron' THEN goya_private.schedule_cron(t.id, t.schedule) END,
        last_slot = CASE t.kind WHEN 'cron' THEN date_trunc('minute', start) END,
        next_due = CASE t.kind WHEN 'cron' THEN goya_private.cron_next(t.schedule, start) WHEN 'interval' THEN start + t.every END
    WHERE x.id = t.id;
    PERFORM goya_private.wake();        -- the engine has a new deadline, or a new channel to listen on
END;
$$;

CREATE FUNCTION goya_private.unschedule_trigger(t goya.triggers) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- Without pg_cron, or with the job removed by hand, there is nothing to take back.
    IF t.cron_job_id IS NOT NULL AND EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') THEN
        PERFORM goya_private.require_cron();
        EXECUTE 'SELECT cron.unschedule(j.jobid) FROM cron.job j WHERE j.jobname = $1 AND j.username = current_user' USING 'goya:' || t.id;
    END IF;
    UPDATE goya.triggers x SET cron_job_id = NULL, next_due = NULL WHERE x.id = t.id;
    PERFORM goya_private.wake();
END;
$$;

-- pg_cron that was there before goya.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron') THEN
        GRANT USAGE ON SCHEMA cron TO goya_owner;
    END IF;
END;
$$;

-- ---- what users call ----

CREATE FUNCTION goya_private.find_trigger(workflow text, name text) RETURNS goya.triggers
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w goya.workflows := goya_private.find_workflow(find_trigger.workflow, true);
    t goya.triggers;
BEGIN
    SELECT x.* INTO t FROM goya.triggers x WHERE x.workflow_id = w.id AND x.name = find_trigger.name FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('trigger', find_trigger.name, 'SELECT name FROM goya.triggers lists them.');
    END IF;
    RETURN t;
END;
$$;

-- Enables a trigger for the caller; it is scheduled when its workflow is enabled too.
CREATE FUNCTION goya_private.start_trigger(t goya.triggers) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    caller name := goya.current_caller();
BEGIN
    IF NOT coalesce(current_setting('goya.allow_superuser_tasks', true), 'off')::boolean
       AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = caller AND (r.rolsuper OR r.rolbypassrls)) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('role "%s" may not run tasks', caller),
            DETAIL = 'A trigger''s tasks run as the role that enables it, and this one is a superuser or bypasses row-level security.',
            HINT = 'SET ROLE to a role that is granted goya_user, or create the trigger with enabled => false.';
    END IF;
    UPDATE goya.triggers x SET enabled = true, run_as = caller WHERE x.id = t.id;
    IF (SELECT w.enabled FROM goya.workflows w WHERE w.id = t.workflow_id) THEN
        PERFORM goya_private.schedule_trigger(t);
    END IF;
END;
$$;

-- A filter as jsonpath, or 22023. Variables ($name) have no value here and would fail at every event.
CREATE FUNCTION goya_private.check_filter(filter text) RETURNS jsonpath
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    path    jsonpath;
    problem text;
BEGIN
    BEGIN
        path := filter::jsonpath;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    END;
    IF problem IS NULL AND regexp_replace(path::text, '"([^"\\]|\\.)*"', '""', 'g') LIKE '%$""%' THEN
        problem := 'it uses a variable';
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad trigger filter', DETAIL = format('"%s": %s.', filter, problem),
            HINT = 'A filter is a jsonpath predicate over event and asset (or payload), as in $.asset.media_type == "video".';
    END IF;
    RETURN path;
END;
$$;

-- What is wrong with the arguments of create_trigger, or null.
CREATE FUNCTION goya_private.trigger_problem(kind text, schedule text, every interval, event text, channel text, filter text, input jsonb,
    priority integer, missed text, max_depth integer) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN kind IS NULL OR kind NOT IN ('cron', 'interval', 'event', 'notify')
            THEN format('kind "%s" is none of cron, interval, event, notify.', kind)
        WHEN kind = 'cron' AND schedule IS NULL THEN 'A cron trigger needs a schedule.'
        WHEN kind = 'interval' AND every IS NULL THEN 'An interval trigger needs every.'
        WHEN kind = 'event' AND event IS NULL THEN 'An event trigger needs an event.'
        WHEN kind = 'notify' AND channel IS NULL THEN 'A notify trigger needs a channel.'
        WHEN kind <> 'cron' AND schedule IS NOT NULL THEN 'schedule is for triggers of kind cron.'
        WHEN kind <> 'interval' AND every IS NOT NULL THEN 'every is for triggers of kind interval.'
        WHEN kind <> 'event' AND event IS NOT NULL THEN 'event is for triggers of kind event.'
        WHEN kind <> 'notify' AND channel IS NOT NULL THEN 'channel is for triggers of kind notify.'
        WHEN kind NOT IN ('event', 'notify') AND filter IS NOT NULL THEN 'filter is for triggers of kind event and notify.'
        WHEN every < interval '1 second' OR every > interval '10 years' THEN 'every is not between 1 second and 10 years.'
        WHEN event !~ '^[a-z][a-z0-9_]{0,62}$' THEN format('"%s" is not the name of an event, as asset_new or asset_done.', event)
        WHEN octet_length(channel) NOT BETWEEN 1 AND 63 THEN 'A channel has a name of 1 to 63 bytes.'
        WHEN channel ~ '^goya_' THEN 'Channels that begin with goya_ are goya''s own; use a trigger of kind event.'
        WHEN input IS NULL OR jsonb_typeof(input) <> 'object' THEN 'input is not an object.'
        WHEN priority IS NULL OR priority NOT BETWEEN -100 AND 100 THEN 'priority is not between -100 and 100.'
        WHEN missed IS NULL OR missed NOT IN ('skip', 'once', 'all') THEN format('missed "%s" is none of skip, once, all.', missed)
        WHEN max_depth IS NULL OR max_depth NOT BETWEEN 1 AND 100 THEN 'max_depth is not between 1 and 100.' END
$$;

CREATE FUNCTION goya.create_trigger(workflow text, name text, kind text, schedule text DEFAULT NULL, every interval DEFAULT NULL,
    event text DEFAULT NULL, channel text DEFAULT NULL, filter text DEFAULT NULL, input jsonb DEFAULT '{}', priority integer DEFAULT 0,
    missed text DEFAULT 'skip', allow_own_output boolean DEFAULT false, max_depth integer DEFAULT 8, enabled boolean DEFAULT true) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant  uuid := goya_private.require_writer();
    w       goya.workflows;
    t       goya.triggers;
    problem text;
BEGIN
    w := goya_private.find_workflow(create_trigger.workflow, true);
    problem := CASE WHEN create_trigger.name IS NULL OR create_trigger.name !~ '^[A-Za-z0-9][A-Za-z0-9_. -]{0,126}$'
        THEN format('"%s" is not a name of up to 127 letters, digits, spaces, "_", "." and "-".', create_trigger.name)
        ELSE goya_private.trigger_problem(create_trigger.kind, create_trigger.schedule, create_trigger.every, create_trigger.event,
            create_trigger.channel, create_trigger.filter, create_trigger.input, create_trigger.priority, create_trigger.missed,
            create_trigger.max_depth) END;
    IF problem IS NULL AND create_trigger.kind = 'cron' AND goya_private.cron_next(create_trigger.schedule, now()) IS NULL THEN
        problem := format('The schedule "%s" never comes.', create_trigger.schedule);
    END IF;
    IF problem IS NULL AND create_trigger.input <> '{}' THEN
        BEGIN
            PERFORM goya_private.eval_template(create_trigger.input, '{}');
        EXCEPTION WHEN invalid_parameter_value THEN
            GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
            problem := format('input: %s.', problem);
        END;
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad trigger', DETAIL = problem,
            HINT = 'Kinds are cron (schedule), interval (every), event (event, filter) and notify (channel, filter).';
    END IF;
    PERFORM goya_private.check_priority(tenant, create_trigger.priority);
    INSERT INTO goya.triggers (tenant_id, workflow_id, name, kind, schedule, every, event, channel, filter, input, priority, missed,
                               allow_own_output, max_depth, enabled, run_as)
    VALUES (tenant, w.id, create_trigger.name, create_trigger.kind, create_trigger.schedule, create_trigger.every, create_trigger.event,
            create_trigger.channel, goya_private.check_filter(create_trigger.filter), create_trigger.input, create_trigger.priority,
            create_trigger.missed, coalesce(create_trigger.allow_own_output, false), create_trigger.max_depth, false, goya.current_caller())
    ON CONFLICT (workflow_id, name) DO NOTHING
    RETURNING * INTO t;
    IF t.id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('trigger "%s" already exists', create_trigger.name),
            DETAIL = format('Workflow "%s" has a trigger of that name.', w.name), HINT = 'Choose another name, or goya.drop_trigger first.';
    END IF;
    IF create_trigger.enabled THEN
        PERFORM goya_private.start_trigger(t);
    END IF;
    RETURN t.id;
END;
$$;
COMMENT ON FUNCTION goya.create_trigger(text, text, text, text, interval, text, text, text, jsonb, integer, text, boolean, integer, boolean) IS
'Makes a trigger that starts a workflow by itself, enables it unless told not to, and returns its id.
kind cron: schedule, five fields in UTC, needs pg_cron; interval: every, from 1 second; event: event (asset_new, asset_done, task_completed,
workflow_published …); notify: channel, on which an application calls NOTIFY. filter: a jsonpath predicate over {"event", "asset", "task"} or {"payload"}.
input: the task''s input, with templates over event, asset, task, payload and slot; left empty it is {"event", "asset_id"}, {"slot"} or {"payload"}.
missed: what happens with slots nobody handled in time: skip, once (one task for the newest), all (up to 100). An asset that a workflow made triggers it again only
with allow_own_output; and events more than max_depth generations of triggered tasks deep fire nothing. A notification has no history: a workflow that
notifies its own channel starts itself for ever. Tasks run as the role that enables the trigger, with priority, or what goya.tenants.max_priority is then if that is lower.
Errors: PT404 unknown workflow; 22023 bad argument; 23505 the workflow has a trigger of that name; 0A000 cron without pg_cron;
42501 no tenant, reader, or a superuser without goya.allow_superuser_tasks.
Example: SELECT goya.create_trigger(''take-apart'', ''new videos'', ''event'', event => ''asset_new'', filter => ''$.asset.media_type == "video"'');';

CREATE FUNCTION goya.enable_trigger(workflow text, name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM goya_private.require_writer();
    PERFORM goya_private.start_trigger(goya_private.find_trigger(enable_trigger.workflow, enable_trigger.name));
END;
$$;
COMMENT ON FUNCTION goya.enable_trigger(text, text) IS
'Enables a trigger; its tasks run as the caller. It is scheduled in the same transaction, from now on.
Errors: PT404 unknown workflow or trigger, 0A000 cron without pg_cron, 42501 no tenant, reader, or a superuser without goya.allow_superuser_tasks.';

CREATE FUNCTION goya.disable_trigger(workflow text, name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t goya.triggers;
BEGIN
    PERFORM goya_private.require_writer();
    t := goya_private.find_trigger(disable_trigger.workflow, disable_trigger.name);
    UPDATE goya.triggers x SET enabled = false WHERE x.id = t.id;
    PERFORM goya_private.unschedule_trigger(t);
END;
$$;
COMMENT ON FUNCTION goya.disable_trigger(text, text) IS
'Disables a trigger and takes it off the schedule in the same transaction. Tasks it started go on.
Errors: PT404 unknown workflow or trigger, 42501 no tenant or reader.';

CREATE FUNCTION goya.drop_trigger(workflow text, name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    t goya.triggers;
BEGIN
    PERFORM goya_private.require_writer();
    t := goya_private.find_trigger(drop_trigger.workflow, drop_trigger.name);
    PERFORM goya_private.unschedule_trigger(t);
    DELETE FROM goya_private.trigger_slots s WHERE s.trigger_id = t.id;
    DELETE FROM goya.triggers x WHERE x.id = t.id;
END;
$$;
COMMENT ON FUNCTION goya.drop_trigger(text, text) IS
'Deletes a trigger and its schedule. Tasks it started stay.
Errors: PT404 unknown workflow or trigger, 42501 no tenant or reader.';
