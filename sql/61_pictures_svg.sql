-- 61_pictures_svg.sql: the SVG picture of a workflow or task, and goya.graph, the way into every graphic format.
--
-- Decided: boxes in columns from left to right. The order within a column comes from four sweeps of barycenters; heights from twelve passes that pull
-- each box towards its neighbours and then push boxes of a column apart, from above and from below, and take the mean: both keep the
-- distance, so does their mean. An edge over several columns gets a place in each of them, so that it runs between boxes, not through.
-- Must hold: drawing costs O(columns × boxes + edges × passes); beyond 4,000 places for long edges these are drawn straight.

CREATE TYPE goya_private.graph_layout AS (
    count integer,                                 -- vertices: the nodes first, then the places of long edges
    layer integer[],                               -- column of each vertex, from 0
    y real[],                                      -- middle of each vertex, from 0
    seg_from integer[], seg_to integer[],          -- edges cut at columns …
    seg_edge integer[]                             -- … and which edge each piece belongs to, in order along the edge
);

-- Cuts edges at the columns they cross. y is left 0.
CREATE FUNCTION goya_private.cut_edges(n integer, layers integer[], sources integer[], targets integer[]) RETURNS goya_private.graph_layout
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result goya_private.graph_layout;
    vertex_layer integer[] := layers;
    froms integer[] := '{}';
    tos integer[] := '{}';
    edges integer[] := '{}';
    vertices integer := n;
    spare integer := 4000;
    span integer;
    last integer;
    pieces integer := 0;
BEGIN
    FOR i IN 1 .. coalesce(array_length(sources, 1), 0) LOOP
        span := layers[targets[i]] - layers[sources[i]];
        last := sources[i];
        IF span > 1 AND spare >= span THEN
            spare := spare - span;
            FOR step IN 1 .. span - 1 LOOP
                vertices := vertices + 1;
                vertex_layer[vertices] := layers[sources[i]] + step;
                pieces := pieces + 1;
                froms[pieces] := last;
                tos[pieces] := vertices;
                edges[pieces] := i;
                last := vertices;
            END LOOP;
        END IF;
        pieces := pieces + 1;
        froms[pieces] := last;
        tos[pieces] := targets[i];
        edges[pieces] := i;
    END LOOP;
    result.count := vertices;
    result.layer := vertex_layer;
    result.seg_from := froms;
    result.seg_to := tos;
    result.seg_edge := edges;
    RETURN result;
END;
$$;

-- Mean of value over each vertex's neighbours: above (in the column before), below, or both. Null without neighbours.
CREATE FUNCTION goya_private.neighbour_means(layout goya_private.graph_layout, value real[], above boolean, below boolean) RETURNS real[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    sums real[] := array_fill(0::real, ARRAY[layout.count]);
    seen integer[] := array_fill(0, ARRAY[layout.count]);
    v integer;
    w integer;
BEGIN
    FOR v, w IN SELECT * FROM unnest(layout.seg_from, layout.seg_to) LOOP
        IF above THEN
            sums[w] := sums[w] + value[v];
            seen[w] := seen[w] + 1;
        END IF;
        IF below THEN
            sums[v] := sums[v] + value[w];
            seen[v] := seen[v] + 1;
        END IF;
    END LOOP;
    FOR i IN 1 .. layout.count LOOP
        sums[i] := CASE WHEN seen[i] > 0 THEN sums[i] / seen[i] END;
    END LOOP;
    RETURN sums;
END;
$$;

-- Gives each vertex its height. pitch: distance of boxes in a column; lane: of an edge's place to anything.
CREATE FUNCTION goya_private.place_vertices(layout goya_private.graph_layout, n integer, pitch real, lane real) RETURNS goya_private.graph_layout
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    result goya_private.graph_layout := layout;
    rank real[];                                   -- place in the column
    wish real[];
    y real[];
    members integer[];                             -- of all columns, in order: column by column
    pushed real[];                                 -- from above
    v integer;
    above integer;
    sep real;
BEGIN
    SELECT array_agg(x.r ORDER BY x.i) INTO rank FROM (
        SELECT i, row_number() OVER (PARTITION BY layout.layer[i] ORDER BY i)::real AS r FROM generate_series(1, layout.count) i) x;
    FOR sweep IN 1 .. 12 LOOP
        wish := goya_private.neighbour_means(layout, rank, sweep % 2 = 1 OR sweep > 8, sweep % 2 = 0 OR sweep > 8);
        SELECT array_agg(x.r ORDER BY x.i) INTO rank FROM (
            SELECT i, (row_number() OVER (PARTITION BY layout.layer[i] ORDER BY coalesce(wish[i], rank[i]), rank[i])
                       - (count(*) OVER (PARTITION BY layout.layer[i]) + 1) / 2.0)::real AS r
            FROM generate_series(1, layout.count) i) x;
    END LOOP;
    members := ARRAY(SELECT i FROM generate_series(1, layout.count) i ORDER BY layout.layer[i], rank[i]);
    y := ARRAY(SELECT (rank[i] * pitch)::real FROM generate_series(1, layout.count) i ORDER BY i);
    FOR pass IN 1 .. 16 LOOP
        wish := goya_private.neighbour_means(layout, y, pass % 3 <> 2, pass % 3 <> 1);
        pushed := y;
        FOR k IN 1 .. layout.count LOOP
            v := members[k];
            pushed[v] := coalesce(wish[v], y[v]);
            IF k > 1 AND layout.layer[members[k - 1]] = layout.layer[v] THEN
                above := members[k - 1];
                sep := CASE WHEN v <= n AND above <= n THEN pitch WHEN v <= n OR above <= n THEN (pitch + lane) / 2 ELSE lane END;
                pushed[v] := greatest(pushed[v], pushed[above] + sep);
            END IF;
        END LOOP;
        FOR k IN REVERSE layout.count .. 1 LOOP
            v := members[k];
            y[v] := coalesce(wish[v], y[v]);
            IF k < layout.count AND layout.layer[members[k + 1]] = layout.layer[v] THEN
                above := members[k + 1];
                sep := CASE WHEN v <= n AND above <= n THEN pitch WHEN v <= n OR above <= n THEN (pitch + lane) / 2 ELSE lane END;
                y[v] := least(y[v], y[above] - sep);
            END IF;
        END LOOP;
        y := ARRAY(SELECT ((a + b) / 2)::real FROM unnest(y, pushed) WITH ORDINALITY m(a, b, i) ORDER BY i);
    END LOOP;
    sep := (SELECT min(h) FROM unnest(y) h);
    result.y := ARRAY(SELECT h - sep FROM unnest(y) WITH ORDINALITY m(h, i) ORDER BY i);
    RETURN result;
END;
$$;

-- Paths of the edges, as an edge's number and an SVG path with the middle of its first piece for the label.
CREATE FUNCTION goya_private.draw_edges(layout goya_private.graph_layout, n integer, box_width integer, column_width integer, top integer, margin integer,
    OUT edge integer, OUT path text, OUT label_x real, OUT label_y real) RETURNS SETOF record
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH pieces AS (
            SELECT s.e, s.i, s.v <= n AS first,
                   margin + layout.layer[s.v] * column_width + box_width AS x1, round((top + layout.y[s.v])::numeric, 1) AS y1,
                   margin + layout.layer[s.w] * column_width - CASE WHEN s.w <= n THEN 7 ELSE 0 END AS x2, round((top + layout.y[s.w])::numeric, 1) AS y2
            FROM unnest(layout.seg_from, layout.seg_to, layout.seg_edge) WITH ORDINALITY s(v, w, e, i))
        SELECT p.e,
               string_agg(CASE WHEN p.first THEN format('M%s %s', p.x1, p.y1) ELSE format('H%s', p.x1) END
                   || format(' C%s %s %s %s %s %s', (p.x1 + p.x2) / 2, p.y1, (p.x1 + p.x2) / 2, p.y2, p.x2, p.y2), ' ' ORDER BY p.i),
               (array_agg((p.x1 + p.x2) / 2.0 ORDER BY p.i))[1]::real, (array_agg((p.y1 + p.y2) / 2.0 ORDER BY p.i))[1]::real
        FROM pieces p GROUP BY p.e;
    END;

CREATE FUNCTION goya_private.draw_svg(definition jsonb, task goya.tasks, title text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    box_width CONSTANT integer := 190;
    box_height CONSTANT integer := 54;
    column_width CONSTANT integer := 290;
    margin CONSTANT integer := 24;
    top CONSTANT integer := 56 + 54 / 2;
    n integer := (SELECT count(*) FROM goya_private.picture_nodes(definition));
    layout goya_private.graph_layout;
    sources integer[];
    targets integer[];
    full_width integer;
    full_height integer;
    boxes text;
    lines text;
    labels text;
    legend text;
BEGIN
    SELECT coalesce(array_agg(e.source ORDER BY e.place), '{}'), coalesce(array_agg(e.target ORDER BY e.place), '{}') INTO sources, targets
    FROM goya_private.picture_edges(definition) e;
    IF n > 0 THEN
        layout := goya_private.cut_edges(n, goya_private.find_layers(n, sources, targets), sources, targets);
        layout := goya_private.place_vertices(layout, n, 82, 34);
    END IF;
    full_width := greatest(2 * margin + coalesce((SELECT max(l) FROM unnest(layout.layer) l), 0) * column_width + box_width, 560,
                           2 * margin + 8 * char_length(goya_private.clip(title, 140)));
    full_height := top + ceil(coalesce((SELECT max(h) FROM unnest(layout.y) h), 0))::integer + box_height / 2 + 62;

    SELECT string_agg(format('<g><title>%s</title>%s<rect x="%s" y="%s" width="%s" height="%s" rx="9" fill="%s" stroke="%s" stroke-width="1.5"%s/>'
               '<text class="k" x="%s" y="%s">%s</text><text class="c" x="%s" y="%s">%s</text>%s</g>',
               goya_private.escape_xml(coalesce(s.tooltip, concat_ws(E'\n', b.key || ' (' || b.kind || ')', nullif(b.calls, '')))),
               CASE WHEN b.kind = 'map' THEN format('<rect x="%s" y="%s" width="%s" height="%s" rx="9" fill="#fff" stroke="%s"/>',
                    b.x + 5, b.y - 5, box_width, box_height, c.line) ELSE '' END,
               b.x, b.y, box_width, box_height, c.fill, c.line, CASE WHEN s.status IN ('skipped', 'not run') THEN ' stroke-dasharray="5 4"' ELSE '' END,
               b.x + 13, b.y + 22, goya_private.escape_xml(goya_private.clip(goya_private.one_line(b.key), CASE WHEN s.label <> '' THEN 22 - char_length(goya_private.clip(s.label, 12)) * 3 / 4 ELSE 22 END)),
               b.x + 13, b.y + 40, goya_private.escape_xml(goya_private.clip(b.kind || CASE WHEN b.calls = '' THEN '' ELSE ' · ' || b.calls END, 29)),
               CASE WHEN s.label <> '' THEN format('<text class="t" x="%s" y="%s" fill="%s">%s</text>', b.x + box_width - 11, b.y + 22, c.line,
                    goya_private.escape_xml(goya_private.clip(s.label, 14))) ELSE '' END), E'\n' ORDER BY b.place) INTO boxes
    FROM (SELECT p.*, margin + layout.layer[p.place] * column_width AS x, round((top + layout.y[p.place])::numeric, 1) - box_height / 2 AS y
          FROM goya_private.picture_nodes(definition) p) b
    LEFT JOIN (SELECT * FROM goya_private.picture_states(task, definition) WHERE task.id IS NOT NULL) s ON s.place = b.place
    CROSS JOIN LATERAL goya_private.status_colours(CASE WHEN task.id IS NOT NULL THEN s.status ELSE CASE
        WHEN b.kind = 'sql' THEN 'ready' WHEN b.kind = 'http' THEN 'compensated' WHEN b.kind = 'workflow' THEN 'running'
        WHEN b.kind IN ('wait', 'approval', 'sleep') THEN 'waiting' ELSE 'cancelled' END END) c;

    SELECT string_agg(format('<path d="%s" class="%s" marker-end="url(#%s)"/>', d.path, e.kind, CASE e.kind WHEN 'failure' THEN 'hf' ELSE 'h' END), E'\n' ORDER BY e.place),
           string_agg(format('<text class="l" x="%s" y="%s"><title>%s</title>%s</text>', round(d.label_x::numeric, 1), round(d.label_y::numeric - 4, 1),
               goya_private.escape_xml(e.label), goya_private.escape_xml(goya_private.clip(e.label, 16))), E'\n' ORDER BY e.place) FILTER (WHERE e.label <> '')
    INTO lines, labels
    FROM goya_private.picture_edges(definition) e
    JOIN goya_private.draw_edges(layout, n, box_width, column_width, top, margin) d ON d.edge = e.place;

    SELECT string_agg(format('<circle cx="%s" cy="%s" r="6" fill="%s" stroke="%s" stroke-width="1.5"/><text class="c" x="%s" y="%s">%s %s</text>',
               margin + 6 + (l.i - 1) * 118, full_height - 26, l.fill, l.line, margin + 18 + (l.i - 1) * 118, full_height - 22, l.count, l.status), E'\n' ORDER BY l.i)
    INTO legend
    FROM (SELECT s.status, count(*) AS count, c.fill, c.line, row_number() OVER (ORDER BY min(s.place)) AS i
          FROM goya_private.picture_states(task, definition) s CROSS JOIN LATERAL goya_private.status_colours(s.status) c
          WHERE task.id IS NOT NULL GROUP BY s.status, c.fill, c.line) l;
    IF task.id IS NULL THEN
        legend := format('<text class="c" x="%s" y="%s">%s nodes, %s edges · dashed: always · red dashed: on failure</text>', margin, full_height - 22,
                         n, coalesce(array_length(sources, 1), 0));
    END IF;

    RETURN format('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %1$s %2$s" width="%1$s" height="%2$s" role="img" font-family="Inter, Helvetica, Arial, ''DejaVu Sans'', sans-serif">
<title>%3$s</title>
<style>
text { fill: #23272f; } .k { font-size: 13.5px; font-weight: 600; } .c { font-size: 11px; fill: #5c6370; } .t { font-size: 11px; text-anchor: end; }
.l { font-size: 10.5px; fill: #444b58; text-anchor: middle; paint-order: stroke; stroke: #fbfbfd; stroke-width: 5px; stroke-linejoin: round; }
path { fill: none; stroke: #9aa1ad; stroke-width: 1.6; } path.always { stroke-dasharray: 6 4; } path.failure { stroke: #d64541; stroke-dasharray: 6 4; }
marker path { fill: #9aa1ad; stroke: none; } #hf path { fill: #d64541; }
</style>
<defs><marker id="h" viewBox="0 0 10 10" refX="3" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z"/></marker>'
        '<marker id="hf" viewBox="0 0 10 10" refX="3" refY="5" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L10 5L0 10z"/></marker></defs>
<rect width="%1$s" height="%2$s" fill="#fbfbfd"/>
<text x="%4$s" y="34" font-size="15" font-weight="600">%5$s</text>
%6$s
%7$s
%8$s
%9$s
</svg>
', full_width, full_height, goya_private.escape_xml(title), margin, goya_private.escape_xml(goya_private.clip(title, 140)),
        coalesce(lines, ''), coalesce(boxes, ''), coalesce(labels, ''), coalesce(legend, ''));
END;
$$;

-- ---- what people call ----

CREATE FUNCTION goya.graph(what text, format text DEFAULT 'mermaid') RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    subject record;
BEGIN
    IF coalesce(graph.format, '') NOT IN ('mermaid', 'dot', 'svg') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown format "%s"', graph.format), HINT = 'Use mermaid, dot or svg.';
    END IF;
    IF graph.what IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'what must be the name of a workflow or the id of a task';
    END IF;
    subject := goya_private.picture_subject(graph.what);
    RETURN CASE graph.format
        WHEN 'mermaid' THEN goya_private.draw_mermaid(subject.definition, subject.task)
        WHEN 'dot' THEN goya_private.draw_dot(subject.definition, subject.task, subject.title)
        ELSE goya_private.draw_svg(subject.definition, subject.task, subject.title) END;
END;
$$;
COMMENT ON FUNCTION goya.graph(text, text) IS
'Draws a workflow, or a task with the state of each node, as mermaid (default), dot or svg text.
what: name of a workflow (its active revision, else its draft) or id of a task. The SVG is self-contained: save it, or send it to a browser.
Errors: PT404 no such workflow or task, 22023 unknown format. Example (psql): \g (format=unaligned tuples_only) graph.svg';

CREATE FUNCTION goya.task_svg(task_id uuid) RETURNS goya."image/svg+xml"
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT goya.graph(coalesce(task_svg.task_id, '00000000-0000-0000-0000-000000000000')::text, 'svg')::goya."image/svg+xml";
    END;
COMMENT ON FUNCTION goya.task_svg(uuid) IS
'Draws a task as SVG, for browsers: PostgREST 12 and later serve it as image/svg+xml at /rpc/task_svg?task_id=….
Errors: PT404 no such task.';
