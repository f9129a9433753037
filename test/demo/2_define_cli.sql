-- 2_define_cli.sql: the team's definitions as in 2_define.sql, with programs in the place of the service. Variable: folder, where pictures go.
--
-- A program says what it says: ffprobe JSON, ffmpeg lines of text. A function reads it, and from there on all is as with the service.
\set QUIET on
SET client_min_messages = warning;

-- ---- operators: the programs that a superuser has registered ----
SELECT goya.create_operator('media.' || name, 'cli', jsonb_build_object('program', name, 'arguments', arguments::jsonb, 'timeout', '60 s', 'retry', '{"max_attempts": 3, "initial": "200 ms"}'::jsonb),
           input_schema => schema::jsonb, category => 'analysis')
FROM (VALUES
    ('probe',     '{"uri": "{{ params.uri }}"}', '{"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}}}'),
    ('scenes',    '{"uri": "{{ params.uri }}", "most": "{{ params.max_frames }}", "frames": "{{ params.frames }}"}',
                  '{"type": "object", "required": ["uri", "frames"], "properties": {"uri": {"type": "string"}, "frames": {"type": "string"}, "max_frames": {"type": "integer", "maximum": 64}}}'),
    ('analyse',   '{"uri": "{{ params.uri }}"}', '{"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}}}'),
    ('thumbnail', '{"uri": "{{ params.uri }}", "width": "{{ params.width }}", "file": "{{ params.file }}"}',
                  '{"type": "object", "required": ["uri", "file"], "properties": {"uri": {"type": "string"}, "width": {"type": "integer"}, "file": {"type": "string"}}}'),
    ('preview',   '{"uri": "{{ params.uri }}", "seconds": "{{ params.seconds }}", "file": "{{ params.file }}"}',
                  '{"type": "object", "required": ["uri", "seconds", "file"], "properties": {"seconds": {"type": "number"}}}')) o(name, arguments, schema) \g /dev/null

-- ---- functions: what the programs have said ----
CREATE FUNCTION studio.read_probe(input jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('format', input #> '{format,format_name}', 'duration', round((input #>> '{format,duration}')::numeric, 3), 'size_bytes', (input #>> '{format,size}')::bigint,
                              'width', video -> 'width', 'height', video -> 'height', 'video_codec', video -> 'codec_name')
    FROM jsonb_path_query_first(input, '$.streams[*] ? (@.codec_type == "video")') video;
$$;
-- frame:0 pts:0 pts_time:0
-- lavfi.scene_score=0.000000
CREATE FUNCTION studio.read_scenes(input jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    WITH said AS (
        SELECT n, m[1]::numeric AS start, coalesce(m[2], '0')::numeric AS score
        FROM regexp_matches(input ->> 'said', 'pts_time:([\d.]+)\s+(?:lavfi\.scene_score=([\d.]+))?', 'g') WITH ORDINALITY x(m, n)),
    scenes AS (
        SELECT n - 1 AS index, start, coalesce(lead(start) OVER (ORDER BY n), (input ->> 'duration')::numeric) AS "end", score,
               'file://' || replace(input ->> 'frames', '%03d', lpad(n::text, 3, '0')) AS uri
        FROM said)
    SELECT jsonb_build_object('count', count(*), 'scenes', jsonb_agg(jsonb_build_object('index', index, 'start', start, 'end', "end", 'score', score) ORDER BY index),
        'frames', jsonb_agg(jsonb_build_object('uri', uri, 'media_type', 'image', 'mime_type', 'image/png', 'index', index, 'time', start,
                                               'metadata', jsonb_build_object('scene_score', score, 'time', start)) ORDER BY index))
    FROM scenes;
$$;
-- Of a picture all of signalstats, of its edges only the brightness.
CREATE FUNCTION studio.read_look(said text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    WITH stats AS (
        SELECT block ~ 'SATAVG' AS picture, m[1] AS name, m[2]::numeric AS value
        FROM regexp_split_to_table(said, 'frame:\d') block, regexp_matches(block, 'lavfi\.signalstats\.(\w+)=([\d.]+)', 'g') m),
    measured AS (
        SELECT least(1, greatest(0, (max(value) FILTER (WHERE picture AND name = 'YAVG') - 16) / 219)) AS brightness,
               (max(value) FILTER (WHERE picture AND name = 'YHIGH') - max(value) FILTER (WHERE picture AND name = 'YLOW')) / 219 AS contrast,
               max(value) FILTER (WHERE picture AND name = 'SATAVG') / 128 AS saturation, coalesce(max(value) FILTER (WHERE NOT picture), 0) / 255 AS edges
        FROM stats)
    SELECT jsonb_build_object('contrast', contrast, 'saturation', saturation, 'edges', edges, 'label',
        CASE WHEN brightness < 0.2 THEN 'dark' WHEN brightness > 0.75 THEN 'bright' WHEN saturation > 0.4 THEN 'colourful' WHEN edges > 0.015 THEN 'detailed'
             WHEN contrast < 0.1 THEN 'plain' ELSE 'ordinary' END) FROM measured;
$$;
CREATE FUNCTION studio.score_said(input jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT studio.score(jsonb_build_object('looks', jsonb_agg(studio.read_look(said) ORDER BY n))) FROM jsonb_array_elements_text(input -> 'looks') WITH ORDINALITY x(said, n);
$$;

-- ---- the main workflow ----
SELECT goya.create_workflow('take-apart', replace($$ {
  "input": {"type": "object", "required": ["asset_id", "uri"], "properties": {
      "asset_id": {"type": "string"}, "uri": {"type": "string"}, "preview_seconds": {"type": "number"}}},
  "nodes": [
    {"key": "look", "kind": "operator", "operator": "media.probe", "input": {"uri": "{{ input.uri }}"}, "price": "probe"},
    {"key": "probe", "kind": "sql", "function": "studio.read_probe"},
    {"key": "cut", "kind": "operator", "operator": "media.scenes", "input": {"uri": "{{ input.uri }}", "max_frames": 12, "frames": "FOLDER/scene-{{ task.id }}-%03d.png"},
     "price": {"name": "scenes", "quantity": {"second": "{{ nodes.probe.output.duration }}"}, "estimate": 60}},
    {"key": "frames", "kind": "sql", "function": "studio.read_scenes",
     "input": {"said": "{{ nodes.cut.output }}", "duration": "{{ nodes.probe.output.duration }}", "frames": "FOLDER/scene-{{ task.id }}-%03d.png"},
     "artifact": [{"type": "asset", "each": "{{ output.frames }}", "name": "scene {{ index }}", "data": "{{ item }}"},
                  {"type": "timeline", "name": "scenes", "data": {"scenes": "{{ output.scenes }}"}}]},
    {"key": "looks", "kind": "map", "over": "{{ nodes.frames.output.frames }}", "max_parallel": 4, "error_budget": 1,
     "node": {"key": "analyse", "kind": "operator", "operator": "media.analyse", "input": {"uri": "{{ item.uri }}"},
              "price": {"name": "analyse", "estimate": 12}}},
    {"key": "score", "kind": "sql", "function": "studio.score_said", "input": {"looks": "{{ nodes.looks.output }}"},
     "artifact": {"type": "result", "name": "scores"}},
    {"key": "choose", "kind": "switch", "cases": [
        {"name": "feature", "when": "$.nodes.score.output.score >= 0.5"},
        {"name": "regular", "when": "$.nodes.score.output.score >= 0.2"}], "default": "archive"},
    {"key": "feature", "kind": "transform", "output": {"shelf": "front page", "score": "{{ nodes.score.output.score }}"}},
    {"key": "regular", "kind": "transform", "output": {"shelf": "catalogue", "score": "{{ nodes.score.output.score }}"}},
    {"key": "archive", "kind": "transform", "output": {"shelf": "archive", "score": "{{ nodes.score.output.score }}"}},
    {"key": "report", "kind": "transform", "join": "any", "output": {
        "summary": "{{ nodes.probe.output.format }}, {{ nodes.probe.output.width }}x{{ nodes.probe.output.height }}, {{ nodes.probe.output.duration }} s, {{ nodes.frames.output.count }} scenes, score {{ nodes.score.output.score }}",
        "choice": "{{ nodes.choose.output.case }}", "best_scene": "{{ nodes.score.output.best_scene }}"},
     "artifact": {"type": "report", "name": "summary"}},
    {"key": "finish", "kind": "sql", "function": "goya.finish_asset", "input": {"asset_id": "{{ input.asset_id }}", "status": "ready"}},
    {"key": "preview", "kind": "operator", "operator": "media.preview", "input": {"uri": "{{ input.uri }}", "seconds": "{{ input.preview_seconds }}", "file": "FOLDER/preview-{{ task.id }}.mkv"},
     "price": {"name": "preview", "quantity": {"second": "{{ input.preview_seconds }}"}, "estimate": 30}}
  ],
  "edges": [
    {"from": "look", "to": "probe"}, {"from": "probe", "to": "cut", "when": "$.nodes.probe.output.duration > 1"}, {"from": "cut", "to": "frames"},
    {"from": "frames", "to": "looks"}, {"from": "looks", "to": "score"}, {"from": "score", "to": "choose"},
    {"from": "choose", "to": "feature", "case": "feature"}, {"from": "choose", "to": "regular", "case": "regular"},
    {"from": "choose", "to": "archive", "case": "archive"},
    {"from": "feature", "to": "report"}, {"from": "regular", "to": "report"}, {"from": "archive", "to": "report"},
    {"from": "report", "to": "finish"},
    {"from": "frames", "to": "preview", "when": "$.input.preview_seconds > 0"}
  ],
  "output": "{{ nodes.report.output }}"
} $$, 'FOLDER', :'folder')::jsonb, 'Takes a video apart: scenes, what is in them, a score', publish => true) \g /dev/null
SELECT goya.create_trigger('take-apart', 'new videos', 'event', event => 'asset_new', filter => '$.asset.media_type == "video"',
    input => '{"asset_id": "{{ asset.id }}", "uri": "{{ asset.uri }}"}') \g /dev/null

-- ---- what happens when a video is done ----
SELECT goya.create_workflow('list-video', replace($$ {
  "nodes": [
    {"key": "thumbnail", "kind": "operator", "operator": "media.thumbnail", "input": {"uri": "{{ input.uri }}", "width": 160, "file": "FOLDER/thumb-{{ task.id }}.png"},
     "artifact": {"type": "asset", "name": "thumbnail", "data": {"uri": "file://FOLDER/thumb-{{ task.id }}.png", "media_type": "image", "mime_type": "image/png"}}},
    {"key": "list", "kind": "sql", "function": "studio.list_video",
     "input": {"asset_id": "{{ input.asset_id }}", "title": "{{ input.name }}", "card": "file://FOLDER/thumb-{{ task.id }}.png"},
     "artifact": {"type": "result", "name": "catalogue entry"}}],
  "edges": [{"from": "thumbnail", "to": "list"}]
} $$, 'FOLDER', :'folder')::jsonb, 'Puts a finished video into the catalogue', publish => true) \g /dev/null
SELECT goya.create_trigger('list-video', 'finished videos', 'event', event => 'asset_done', filter => '$.asset.media_type == "video"',
    input => '{"asset_id": "{{ asset.id }}", "uri": "{{ asset.uri }}", "name": "{{ asset.name }}"}') \g /dev/null

\echo
\echo '== the workflow'
\pset format unaligned
\pset tuples_only on
SELECT * FROM goya.explain_workflow('take-apart');
