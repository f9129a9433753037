-- 61_pictures.sql: workflows and tasks as text for psql, as Mermaid, DOT and SVG.
--
-- Decided: pictures are made from the definition and the node runs, by SQL alone, so that they need no engine and work on a copy of the data.
-- An SVG is self-contained (no scripts, fonts or references), drawn left to right in layers: longest path for the layer, barycenters for
-- the order (few crossings), long edges routed through free places of the layers between. Drafts with mistakes are drawn as far as they go.
-- Must hold: every text of a user is escaped in every format; a foreign task or workflow is PT404; no more than 10,000 nodes, no recursion.

CREATE DOMAIN goya."image/svg+xml" AS text;
COMMENT ON DOMAIN goya."image/svg+xml" IS 'SVG: PostgREST answers requests that accept this media type with functions that return it.';

-- ---- small helpers ----

CREATE FUNCTION goya_private.clip(value text, length integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN char_length(value) > length THEN left(value, length - 1) || '…' ELSE value END;

CREATE FUNCTION goya_private.one_line(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN btrim(regexp_replace(value, '[[:space:][:cntrl:]]+', ' ', 'g'));

CREATE FUNCTION goya_private.escape_xml(value text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN replace(replace(replace(replace(regexp_replace(value, '[\x01-\x08\x0b\x0c\x0e-\x1f]', ' ', 'g'), '&', '&amp;'), '<', '&lt;'),
                           '>', '&gt;'), '"', '&quot;');

CREATE FUNCTION goya_private.format_ms(ms numeric) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ms < 1 THEN round(ms * 1000) || ' µs'
                WHEN ms < 100 THEN round(ms, 1) || ' ms'
                WHEN ms < 1000 THEN round(ms) || ' ms'
                WHEN ms < 100000 THEN round(ms / 1000, 2) || ' s'
                WHEN ms < 7200000 THEN div(ms, 60000) || ' min ' || div(ms % 60000, 1000) || ' s'
                ELSE div(ms, 3600000) || ' h ' || div(ms % 3600000, 60000) || ' min' END;

CREATE FUNCTION goya_private.elapsed_ms(since timestamptz, until timestamptz) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN since IS NOT NULL AND until IS NOT NULL THEN greatest(extract(epoch FROM until - since) * 1000, 0) END;

-- What a node calls, in a few words.
CREATE FUNCTION goya_private.describe_node(node jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN goya_private.one_line(CASE
        WHEN node ? 'operator' THEN (node ->> 'operator') || coalesce(' v' || (node ->> 'version'), '')
        WHEN node ->> 'kind' = 'sql' THEN (node ->> 'function') || '(jsonb)'
        WHEN node ->> 'kind' = 'http' THEN coalesce(node ->> 'method', CASE WHEN node ? 'body' THEN 'POST' ELSE 'GET' END) || ' ' || (node ->> 'url')
        WHEN node ? 'cases' THEN 'cases ' || coalesce((SELECT string_agg(c ->> 'name', ', ') FROM jsonb_array_elements(
            CASE jsonb_typeof(node -> 'cases') WHEN 'array' THEN node -> 'cases' ELSE '[]' END) c), '')
        WHEN node ->> 'kind' IN ('condition', 'switch') THEN node ->> 'when'
        WHEN node ->> 'kind' = 'map' THEN 'each of ' || coalesce(node ->> 'over', '?') || ': '
            || coalesce(node -> 'node' ->> 'operator', node -> 'node' ->> 'function', node -> 'node' ->> 'workflow', node -> 'node' ->> 'kind',
                        node ->> 'workflow', '')
        WHEN node ->> 'kind' = 'agent' THEN (node ->> 'model') || coalesce(' with ' || (
            SELECT string_agg(coalesce(t ->> 'operator', t ->> 'name', t #>> '{}'), ', ')
            FROM jsonb_array_elements(CASE jsonb_typeof(node -> 'tools') WHEN 'array' THEN node -> 'tools' ELSE '[]' END) t), '')
        WHEN node ->> 'kind' = 'wait' THEN 'signal ' || (node ->> 'signal')
        WHEN node ->> 'kind' = 'approval' THEN coalesce(node ->> 'message', 'a decision')
        WHEN node ->> 'kind' = 'sleep' THEN coalesce('for ' || (node ->> 'duration'), 'until ' || (node ->> 'until'))
        WHEN node ->> 'kind' = 'workflow' THEN node ->> 'workflow'
        ELSE '' END);

-- Nodes of a definition that is at least an object with an array of nodes; edges between nodes that exist.
CREATE FUNCTION goya_private.picture_nodes(definition jsonb, OUT place integer, OUT key text, OUT kind text, OUT calls text, OUT node jsonb)
    RETURNS SETOF record
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT (row_number() OVER (ORDER BY n.ordinality))::integer, n.value ->> 'key', coalesce(n.value ->> 'kind', 'noop'),
               coalesce(goya_private.describe_node(n.value), ''), n.value
        FROM jsonb_array_elements(CASE jsonb_typeof(definition -> 'nodes') WHEN 'array' THEN definition -> 'nodes' ELSE '[]' END)
             WITH ORDINALITY n
        WHERE n.value ->> 'key' IS NOT NULL
        ORDER BY n.ordinality LIMIT 10000;
    END;

CREATE FUNCTION goya_private.picture_edges(definition jsonb, OUT place integer, OUT source integer, OUT target integer, OUT kind text, OUT label text)
    RETURNS SETOF record
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH n AS MATERIALIZED (SELECT * FROM goya_private.picture_nodes(definition))
        SELECT (row_number() OVER (ORDER BY e.ordinality))::integer, s.place, t.place, coalesce(e.value ->> 'on', 'success'),
               concat_ws(', ', CASE coalesce(e.value ->> 'on', 'success') WHEN 'success' THEN NULL WHEN 'failure' THEN 'on failure' ELSE e.value ->> 'on' END,
                         e.value ->> 'case', 'when ' || goya_private.one_line(e.value ->> 'when'))
        FROM jsonb_array_elements(CASE jsonb_typeof(definition -> 'edges') WHEN 'array' THEN definition -> 'edges' ELSE '[]' END)
             WITH ORDINALITY e
        JOIN n s ON s.key = e.value ->> 'from' JOIN n t ON t.key = e.value ->> 'to'
        WHERE s.place <> t.place
        ORDER BY e.ordinality;
    END;

-- Layer (from 0) of each of n nodes: the longest path that leads to it. Nodes on a cycle come last, in a layer of their own.
CREATE FUNCTION goya_private.find_layers(n integer, sources integer[], targets integer[]) RETURNS integer[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    layers integer[] := array_fill(0, ARRAY[greatest(n, 1)]);
    missing integer[] := array_fill(0, ARRAY[greatest(n, 1)]);   -- edges not yet seen from above
    first integer[] := array_fill(0, ARRAY[greatest(n, 1) + 1]); -- CSR over edges sorted by source
    follow integer[];
    queue integer[];
    head integer := 1;
    v integer;
    w integer;
BEGIN
    follow := ARRAY(SELECT e.t FROM unnest(sources, targets) e(s, t) ORDER BY e.s);
    FOR v, w IN SELECT * FROM unnest(sources, targets) LOOP
        missing[w] := missing[w] + 1;
        first[v + 1] := first[v + 1] + 1;
    END LOOP;
    FOR v IN 2 .. n + 1 LOOP
        first[v] := first[v] + first[v - 1];
    END LOOP;
    queue := ARRAY(SELECT i FROM generate_series(1, n) i WHERE missing[i] = 0);
    WHILE head <= coalesce(array_length(queue, 1), 0) LOOP
        v := queue[head];
        head := head + 1;
        FOR i IN first[v] + 1 .. first[v + 1] LOOP
            w := follow[i];
            layers[w] := greatest(layers[w], layers[v] + 1);
            missing[w] := missing[w] - 1;
            IF missing[w] = 0 THEN
                queue[array_length(queue, 1) + 1] := w;
            END IF;
        END LOOP;
    END LOOP;
    v := (SELECT max(layers[i]) + 1 FROM generate_series(1, n) i WHERE missing[i] = 0);
    FOR i IN 1 .. n LOOP
        IF missing[i] > 0 THEN
            layers[i] := coalesce(v, 0);
        END IF;
    END LOOP;
    RETURN layers;
END;
$$;

-- The definition and title of a workflow, or of a task and its state. what: name of a workflow or id of a task.
CREATE FUNCTION goya_private.picture_subject(what text, OUT definition jsonb, OUT title text, OUT task goya.tasks)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    workflow goya.workflows;
BEGIN
    IF what ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
        task := goya_private.own_task(what::uuid);
        SELECT r.resolved, w.name INTO definition, title
        FROM goya.workflows w LEFT JOIN goya.workflow_revisions r ON r.workflow_id = w.id AND r.revision = task.revision
        WHERE w.id = task.workflow_id;
        title := format('%s · revision %s · task %s · %s', coalesce(title, 'deleted workflow'), task.revision, task.id, task.status)
            || coalesce(' · ' || goya_private.format_ms(goya_private.elapsed_ms(task.started_at, task.finished_at)), '');
    ELSE
        workflow := goya_private.find_workflow(what);
        SELECT r.resolved INTO definition FROM goya.workflow_revisions r WHERE r.workflow_id = workflow.id AND r.revision = workflow.revision;
        definition := coalesce(definition, workflow.draft);
        title := format('%s · %s', workflow.name, coalesce('revision ' || workflow.revision, 'draft'));
    END IF;
    definition := coalesce(definition, '{}');
END;
$$;

-- How the nodes of a task stand: one row per node of its definition, items of a map counted.
CREATE FUNCTION goya_private.picture_states(task goya.tasks, definition jsonb, OUT place integer, OUT status text, OUT label text, OUT tooltip text)
    RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH n AS MATERIALIZED (SELECT * FROM goya_private.picture_nodes(definition)),
        runs AS MATERIALIZED (SELECT r.* FROM goya.node_runs r WHERE r.task_id = (task).id),
        latest AS (SELECT DISTINCT ON (r.node) r.* FROM runs r WHERE r.item = 0 ORDER BY r.node, r.attempt DESC),
        items AS (
            SELECT i.node, count(*) AS seen, count(*) FILTER (WHERE i.status = 'succeeded') AS succeeded, count(*) FILTER (WHERE i.status = 'failed') AS failed
            FROM (SELECT DISTINCT ON (r.node, r.item) r.* FROM runs r
                  WHERE r.node IN (SELECT coalesce(n.node -> 'node' ->> 'key', n.key || '.item') FROM n WHERE n.kind = 'map')
                  ORDER BY r.node, r.item, r.attempt DESC) i
            GROUP BY i.node
            UNION ALL
            SELECT n.key, count(*), count(*) FILTER (WHERE i.status = 'succeeded'), count(*) FILTER (WHERE i.status = 'failed')
            FROM n JOIN (SELECT DISTINCT ON (r.node, r.item) r.* FROM runs r ORDER BY r.node, r.item, r.attempt DESC) i ON starts_with(i.node, n.key || '.')
            WHERE n.kind = 'agent' GROUP BY n.key)
        SELECT n.place,
               coalesce(l.status::text, CASE WHEN i.seen > 0 THEN 'running' WHEN goya_private.is_terminal((task).status) THEN 'not run' ELSE 'pending' END),
               CASE WHEN n.kind = 'agent' AND i.seen > 0 THEN format('%s calls', i.seen)
                    WHEN i.seen > 0 THEN format('%s of %s', i.succeeded, i.seen)
                    ELSE concat_ws(' · ', CASE WHEN l.attempt > 1 THEN format('try %s', l.attempt) END,
                                   goya_private.format_ms(goya_private.elapsed_ms(l.started_at, l.finished_at))) END,
               concat_ws(E'\n', n.key || ' (' || n.kind || ')', nullif(n.calls, ''), coalesce(l.status::text, 'no run yet'),
                   CASE WHEN i.seen > 0 THEN format('items: %s seen, %s succeeded, %s failed', i.seen, i.succeeded, i.failed) END,
                   concat_ws(', ', goya_private.iso_time(l.started_at), goya_private.format_ms(goya_private.elapsed_ms(l.started_at, l.finished_at))),
                   l.error ->> 'code' || ' ' || (l.error ->> 'message'), l.message)
        FROM n LEFT JOIN latest l ON l.node = n.key
        LEFT JOIN items i ON i.node = CASE n.kind WHEN 'map' THEN coalesce(n.node -> 'node' ->> 'key', n.key || '.item') WHEN 'agent' THEN n.key END;
    END;

-- ---- text ----

CREATE FUNCTION goya.explain_workflow(name text, revision integer DEFAULT NULL) RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 50 AS $$
#variable_conflict use_column
DECLARE
    workflow goya.workflows := goya_private.find_workflow(explain_workflow.name);
    wanted integer := coalesce(explain_workflow.revision, workflow.revision);
    definition jsonb := workflow.draft;
    layers integer[];
    layer integer := -1;
    key_width integer;
    n record;
BEGIN
    IF wanted IS NOT NULL THEN
        SELECT r.resolved INTO definition FROM goya.workflow_revisions r WHERE r.workflow_id = workflow.id AND r.revision = wanted;
        IF NOT FOUND THEN
            PERFORM goya_private.not_found('revision', format('%s of %s', wanted, workflow.name), 'goya.workflow_revisions lists them.');
        END IF;
    END IF;
    SELECT goya_private.find_layers((SELECT count(*)::integer FROM goya_private.picture_nodes(definition)), coalesce(array_agg(x.source), '{}'),
                                    coalesce(array_agg(x.target), '{}')) INTO layers
    FROM goya_private.picture_edges(definition) x;
    SELECT least(max(char_length(x.key)), 32) INTO key_width FROM goya_private.picture_nodes(definition) x;

    RETURN NEXT format('%s · %s%s · %s nodes, %s edges', workflow.name, coalesce('revision ' || wanted, 'draft'),
        CASE WHEN NOT workflow.enabled THEN ' (disabled)' WHEN wanted IS NULL THEN '' WHEN wanted = workflow.revision THEN ' (active)' ELSE ' (not active)' END,
        (SELECT count(*) FROM goya_private.picture_nodes(definition)), (SELECT count(*) FROM goya_private.picture_edges(definition)));
    IF definition ->> 'description' <> '' THEN
        RETURN NEXT goya_private.clip(goya_private.one_line(definition ->> 'description'), 120);
    END IF;
    IF jsonb_typeof(definition -> 'context') = 'object' THEN
        RETURN NEXT 'context: ' || concat_ws('; ',
            (SELECT 'vars ' || string_agg(v, ', ' ORDER BY v) FROM jsonb_object_keys(coalesce(definition #> '{context,vars}', '{}')) v),
            (SELECT 'shared ' || string_agg(v, ', ' ORDER BY v) FROM jsonb_object_keys(coalesce(definition #> '{context,shared}', '{}')) v));
    END IF;
    FOR n IN
        WITH nodes AS MATERIALIZED (SELECT * FROM goya_private.picture_nodes(definition)),
        arrows AS (
            SELECT e.source, array_agg(t.key || coalesce('   (' || nullif(goya_private.clip(e.label, 80), '') || ')', '') ORDER BY e.place) AS leads_to
            FROM goya_private.picture_edges(definition) e JOIN nodes t ON t.place = e.target GROUP BY e.source)
        SELECT x.*, l.layer, a.leads_to
        FROM nodes x JOIN unnest(layers) WITH ORDINALITY l(layer, place) ON l.place = x.place LEFT JOIN arrows a ON a.source = x.place
        ORDER BY l.layer, x.place
    LOOP
        IF n.layer <> layer THEN
            RETURN NEXT '';
            RETURN NEXT format('── step %s ──', n.layer + 1);
            layer := n.layer;
        END IF;
        RETURN NEXT rtrim(format('● %s  %s  %s', rpad(goya_private.clip(n.key, 32), key_width), rpad(n.kind, 9), concat_ws('  ',
            nullif(goya_private.clip(n.calls, 70), ''),
            CASE WHEN n.node ->> 'join' = 'any' THEN '[any]' END,
            '[retry ' || (n.node #>> '{retry,max_attempts}') || '×' || coalesce(' ' || (n.node #>> '{retry,backoff}'), '') || ']',
            '[timeout ' || (n.node ->> 'timeout') || ']',
            '[price ' || CASE jsonb_typeof(n.node -> 'price') WHEN 'object' THEN n.node #>> '{price,name}' ELSE n.node ->> 'price' END || ']',
            '[undo ' || coalesce(nullif(goya_private.describe_node(n.node -> 'compensate'), ''), n.node #>> '{compensate,kind}') || ']')));
        FOR i IN 1 .. coalesce(cardinality(n.leads_to), 0) LOOP
            RETURN NEXT format('  %s─▶ %s', CASE WHEN i = cardinality(n.leads_to) THEN '└' ELSE '├' END, n.leads_to[i]);
        END LOOP;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION goya.explain_workflow(text, integer) IS
'Draws a workflow as text: its steps, what each node calls, and where its edges lead.
revision: null is the active one, or the draft of a workflow never published. A step starts when what it needs of earlier ones has ended.
Errors: PT404 no such workflow or revision. Example (psql): SELECT goya.explain_workflow(''hello'');';

CREATE FUNCTION goya.timeline(task_id uuid, width integer DEFAULT 60) RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 50 AS $$
#variable_conflict use_column
DECLARE
    subject record := goya_private.picture_subject(coalesce(timeline.task_id, '00000000-0000-0000-0000-000000000000')::text);
    task goya.tasks := subject.task;
    cells integer := least(greatest(coalesce(timeline.width, 60), 10), 200);
    origin timestamptz := coalesce(task.started_at, task.created_at);
    finish timestamptz := coalesce(task.finished_at, clock_timestamp());
    cell_ms numeric;
    key_width integer;
    line record;
    bar text;
BEGIN
    SELECT least(origin, min(r.started_at)), greatest(finish, max(r.finished_at)) INTO origin, finish
    FROM goya.node_runs r WHERE r.task_id = task.id AND (r.message IS NULL OR r.message NOT LIKE 'copied from task %');
    cell_ms := greatest(goya_private.elapsed_ms(origin, finish), 0.001) / cells;
    RETURN NEXT subject.title;
    SELECT least(max(char_length(r.node)), 28) + 6 INTO key_width FROM goya.node_runs r WHERE r.task_id = task.id;
    IF key_width IS NULL THEN
        RETURN NEXT 'no node has run';
        RETURN;
    END IF;
    RETURN NEXT repeat(' ', key_width + 2) || rpad('0', cells - char_length(goya_private.format_ms(goya_private.elapsed_ms(origin, finish))), ' ')
        || goya_private.format_ms(goya_private.elapsed_ms(origin, finish));

    FOR line IN
        WITH runs AS MATERIALIZED (
            SELECT r.*, goya_private.elapsed_ms(origin, coalesce(r.started_at, r.finished_at)) / cell_ms AS from_cell,
                   goya_private.elapsed_ms(origin, coalesce(r.finished_at, finish)) / cell_ms AS to_cell
            FROM goya.node_runs r WHERE r.task_id = task.id),
        last_of AS (SELECT DISTINCT ON (r.node, r.item) r.* FROM runs r ORDER BY r.node, r.item, r.attempt DESC),
        nodes AS (
            SELECT r.node, count(*) AS items, min(r.item) AS item, max(r.attempt) AS attempts, min(r.seq) AS seq,
                   count(*) FILTER (WHERE r.status = 'succeeded') AS succeeded, count(*) FILTER (WHERE r.status = 'failed') AS failed,
                   (array_agg(r.status ORDER BY array_position(ARRAY['running', 'waiting', 'ready', 'pending', 'failed', 'cancelled', 'compensated',
                                                                     'succeeded', 'skipped'], r.status::text)))[1]::text AS status,
                   sum(r.cost) AS cost, min(r.error ->> 'code' || ' ' || goya_private.one_line(r.error ->> 'message')) FILTER (WHERE r.status = 'failed') AS error,
                   coalesce(bool_or(r.message LIKE 'copied from task %'), false) AS copied
            FROM last_of r GROUP BY r.node),
        covered AS (                               -- cells that runs of a node touch, and how many do
            SELECT r.node, c.cell, count(*) AS load
            FROM runs r CROSS JOIN LATERAL generate_series(least(greatest(floor(r.from_cell), 0), cells - 1)::integer,
                                                           least(greatest(ceil(r.to_cell) - 1, floor(r.from_cell)), cells - 1)::integer) c(cell)
            WHERE r.status NOT IN ('skipped', 'pending', 'ready') GROUP BY r.node, c.cell),
        bars AS (
            SELECT n.node, array_agg(coalesce(c.load, 0) ORDER BY g.cell) AS loads
            FROM nodes n CROSS JOIN generate_series(0, cells - 1) g(cell) LEFT JOIN covered c ON c.node = n.node AND c.cell = g.cell GROUP BY n.node),
        spans AS (
            SELECT r.node, sum(goya_private.elapsed_ms(r.started_at, coalesce(r.finished_at, finish))) AS ms, max(r.to_cell) - min(r.from_cell) AS span
            FROM runs r GROUP BY r.node)
        SELECT n.*, s.ms, s.span, b.loads, (SELECT max(l) FROM unnest(b.loads) l) AS most
        FROM nodes n JOIN spans s ON s.node = n.node JOIN bars b ON b.node = n.node ORDER BY n.seq
    LOOP
        bar := '';
        IF NOT line.copied THEN
            FOR i IN 1 .. cells LOOP
                bar := bar || CASE
                    WHEN line.loads[i] = 0 THEN ' '
                    WHEN line.status = 'waiting' AND line.items = 1 THEN '░'
                    WHEN line.items > 1 THEN substr('░▒▓█', ceil(4.0 * line.loads[i] / line.most)::integer, 1)
                    WHEN line.span < 1 THEN substr('▏▎▍▌▋▊▉█', 1 + floor(line.span * 7.999)::integer, 1)
                    ELSE '█' END;
            END LOOP;
        END IF;
        RETURN NEXT rtrim(format('%s %s▕%s▏%s', CASE line.status WHEN 'succeeded' THEN '✔' WHEN 'failed' THEN '✘' WHEN 'skipped' THEN '↷'
                WHEN 'running' THEN '▶' WHEN 'waiting' THEN '◷' WHEN 'cancelled' THEN '⊘' WHEN 'compensated' THEN '↶' ELSE '○' END,
            rpad(goya_private.clip(line.node, 28) || CASE WHEN line.items > 1 THEN ' ×' || line.items ELSE '' END, key_width), rpad(bar, cells),
            ' ' || CASE WHEN line.status = 'skipped' THEN 'skipped' WHEN line.copied THEN 'copied' ELSE concat_ws(', ', goya_private.format_ms(line.ms),
                CASE WHEN line.items > 1 THEN format('%s ✔ %s ✘', line.succeeded, line.failed) END,
                CASE WHEN line.attempts > 1 THEN format('%s tries', line.attempts) END,
                CASE WHEN line.status NOT IN ('succeeded', 'failed') THEN line.status END,
                CASE WHEN line.cost > 0 THEN format('cost %s', trim_scale(line.cost / 1000000000)) END,
                goya_private.clip(line.error, 60)) END));
    END LOOP;
    IF task.error IS NOT NULL THEN
        RETURN NEXT format('%s: %s %s', task.status, task.error ->> 'code', goya_private.clip(goya_private.one_line(task.error ->> 'message'), 160));
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.timeline(uuid, integer) IS
'Draws when each node of a task ran: a bar per node, with its time, tries, cost and error; items of a map in one bar, darker where more ran at once.
width: characters of the bars, 10 to 200. Marks: ✔ succeeded, ✘ failed, ↷ skipped, ▶ running, ◷ waiting, ⊘ cancelled, ↶ compensated.
Errors: PT404 no such task. Example (psql): SELECT goya.timeline(''0190…'');';

-- ---- Mermaid and DOT ----

CREATE FUNCTION goya_private.status_colours(status text, OUT fill text, OUT line text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
        SELECT c.fill, c.line FROM (VALUES
            ('succeeded', '#e3f5e8', '#2e9e5b'), ('failed', '#fde5e4', '#d64541'), ('running', '#e1edfd', '#2f74d8'), ('waiting', '#fdf1d8', '#d08a10'),
            ('ready', '#e9f1fb', '#7fa6dd'), ('cancelled', '#ececef', '#70757f'), ('compensated', '#efe6fb', '#8250c4'), ('skipped', '#f7f7f9', '#b4b8c0'),
            ('not run', '#ffffff', '#c6cad2'), ('pending', '#ffffff', '#9aa0ab')) c(status, fill, line)
        WHERE c.status = coalesce(status_colours.status, 'pending');
    END;

CREATE FUNCTION goya_private.draw_mermaid(definition jsonb, task goya.tasks) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        -- Mermaid takes entities in quoted labels: &, <, > and " as themselves would end or style the label.
        WITH n AS MATERIALIZED (SELECT * FROM goya_private.picture_nodes(definition)),
        s AS MATERIALIZED (SELECT * FROM goya_private.picture_states(task, definition) WHERE (task).id IS NOT NULL),
        lines AS (
            SELECT 1 AS part, n.place, format('    n%s%s"%s<br/><small>%s</small>"%s%s', n.place,
                CASE WHEN n.kind IN ('condition', 'switch') THEN '{' WHEN n.kind IN ('wait', 'approval', 'sleep') THEN '([' WHEN n.kind = 'map' THEN '[[' ELSE '[' END,
                replace(replace(goya_private.escape_xml(n.key), '#', '#35;'), '`', '#96;'),
                replace(replace(goya_private.escape_xml(goya_private.clip(concat_ws(' ', n.kind, nullif(n.calls, '')), 60)), '#', '#35;'), '`', '#96;'),
                CASE WHEN n.kind IN ('condition', 'switch') THEN '}' WHEN n.kind IN ('wait', 'approval', 'sleep') THEN '])' WHEN n.kind = 'map' THEN ']]' ELSE ']' END,
                CASE WHEN s.place IS NOT NULL THEN ':::' || replace(s.status, ' ', '_') ELSE '' END) AS line
            FROM n LEFT JOIN s ON s.place = n.place
            UNION ALL
            SELECT 2, e.place, format('    n%s %s%s n%s', e.source, CASE e.kind WHEN 'success' THEN '-->' ELSE '-.->' END,
                CASE WHEN e.label = '' THEN '' ELSE '|"' || replace(goya_private.escape_xml(goya_private.clip(e.label, 60)), '#', '#35;') || '"|' END, e.target)
            FROM goya_private.picture_edges(definition) e
            UNION ALL
            SELECT DISTINCT 3, 0, format('    classDef %s fill:%s,stroke:%s', replace(s.status, ' ', '_'), c.fill, c.line)
            FROM s CROSS JOIN LATERAL goya_private.status_colours(s.status) c)
        SELECT E'flowchart LR\n' || coalesce(string_agg(line, E'\n' ORDER BY part, place, line) || E'\n', '') FROM lines;
    END;

CREATE FUNCTION goya_private.draw_dot(definition jsonb, task goya.tasks, title text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        -- In a quoted DOT string only \ and " are special.
        WITH n AS MATERIALIZED (SELECT * FROM goya_private.picture_nodes(definition)),
        s AS MATERIALIZED (SELECT * FROM goya_private.picture_states(task, definition) WHERE (task).id IS NOT NULL),
        lines AS (
            SELECT 1 AS part, n.place, format('    n%s [label="%s\n%s", shape=%s, fillcolor="%s", color="%s"];', n.place,
                replace(replace(n.key, '\', '\\'), '"', '\"'),
                replace(replace(goya_private.clip(concat_ws(' ', n.kind, nullif(n.calls, '')), 60), '\', '\\'), '"', '\"'),
                CASE WHEN n.kind IN ('condition', 'switch') THEN 'diamond' WHEN n.kind = 'map' THEN 'box3d' ELSE 'box' END, c.fill, c.line) AS line
            FROM n LEFT JOIN s ON s.place = n.place CROSS JOIN LATERAL goya_private.status_colours(s.status) c
            UNION ALL
            SELECT 2, e.place, format('    n%s -> n%s%s;', e.source, e.target, CASE WHEN e.label = '' AND e.kind = 'success' THEN ''
                ELSE format(' [label="%s", style=%s]', replace(replace(goya_private.clip(e.label, 60), '\', '\\'), '"', '\"'),
                            CASE e.kind WHEN 'success' THEN 'solid' ELSE 'dashed' END) END)
            FROM goya_private.picture_edges(definition) e)
        SELECT format(E'digraph goya {\n    rankdir=LR; label="%s"; labelloc=t;\n    node [style="filled,rounded", fontname="Helvetica"];\n%s}\n',
            replace(replace(title, '\', '\\'), '"', '\"'), coalesce(string_agg(line, E'\n' ORDER BY part, place) || E'\n', ''))
        FROM lines;
    END;
