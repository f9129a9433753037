-- 2_define.sql: what the team defines, as role studio: operators, two workflows and their triggers. Variable: media, the service's address.
\set QUIET on
SET client_min_messages = warning;

-- ---- operators: the media service's endpoints ----
SELECT goya.create_operator('media.' || name, 'http',
           jsonb_build_object('method', 'POST', 'url', :'media' || '/' || name, 'output', '$.output.body', 'timeout', '60 s',
                              'retry', '{"max_attempts": 3, "initial": "200 ms"}'::jsonb),
           input_schema => schema, category => 'analysis')
FROM (VALUES
    ('probe',     '{"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}}}'::jsonb),
    ('scenes',    '{"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}, "max_frames": {"type": "integer", "maximum": 64}}}'),
    ('analyse',   '{"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}}}'),
    ('thumbnail', '{"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}, "width": {"type": "integer"}}}'),
    ('slow',      '{"type": "object", "required": ["seconds"], "properties": {"seconds": {"type": "number"}}}')) o(name, schema) \g /dev/null

-- ---- the main workflow ----
SELECT goya.create_workflow('take-apart', $$ {
  "input": {"type": "object", "required": ["asset_id", "uri"], "properties": {
      "asset_id": {"type": "string"}, "uri": {"type": "string"}, "preview_seconds": {"type": "number"}}},
  "nodes": [
    {"key": "probe", "kind": "operator", "operator": "media.probe", "input": {"uri": "{{ input.uri }}"}, "price": "probe"},
    {"key": "frames", "kind": "operator", "operator": "media.scenes", "input": {"uri": "{{ input.uri }}", "max_frames": 12},
     "price": {"name": "scenes", "quantity": {"second": "{{ nodes.probe.output.duration }}"}, "estimate": 60},
     "artifact": [{"type": "asset", "each": "{{ output.frames }}", "name": "scene {{ index }}", "data": "{{ item }}"},
                  {"type": "timeline", "name": "scenes", "data": {"scenes": "{{ output.scenes }}"}}]},
    {"key": "looks", "kind": "map", "over": "{{ nodes.frames.output.frames }}", "max_parallel": 4, "error_budget": 1,
     "node": {"key": "analyse", "kind": "operator", "operator": "media.analyse", "input": {"uri": "{{ item.uri }}"},
              "price": {"name": "analyse", "estimate": 12}}},
    {"key": "score", "kind": "sql", "function": "studio.score", "input": {"looks": "{{ nodes.looks.output }}"},
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
    {"key": "preview", "kind": "operator", "operator": "media.slow", "input": {"seconds": "{{ input.preview_seconds }}"},
     "price": {"name": "preview", "quantity": {"second": "{{ input.preview_seconds }}"}, "estimate": 30}}
  ],
  "edges": [
    {"from": "probe", "to": "frames", "when": "$.nodes.probe.output.duration > 1"},
    {"from": "frames", "to": "looks"}, {"from": "looks", "to": "score"}, {"from": "score", "to": "choose"},
    {"from": "choose", "to": "feature", "case": "feature"}, {"from": "choose", "to": "regular", "case": "regular"},
    {"from": "choose", "to": "archive", "case": "archive"},
    {"from": "feature", "to": "report"}, {"from": "regular", "to": "report"}, {"from": "archive", "to": "report"},
    {"from": "report", "to": "finish"},
    {"from": "frames", "to": "preview", "when": "$.input.preview_seconds > 0"}
  ],
  "output": "{{ nodes.report.output }}"
} $$, 'Takes a video apart: scenes, what is in them, a score', publish => true) \g /dev/null
SELECT goya.create_trigger('take-apart', 'new videos', 'event', event => 'asset_new', filter => '$.asset.media_type == "video"',
    input => '{"asset_id": "{{ asset.id }}", "uri": "{{ asset.uri }}"}') \g /dev/null

-- ---- what happens when a video is done ----
SELECT goya.create_workflow('list-video', $$ {
  "nodes": [
    {"key": "thumbnail", "kind": "operator", "operator": "media.thumbnail", "input": {"uri": "{{ input.uri }}", "width": 160},
     "artifact": {"type": "asset", "name": "thumbnail"}},
    {"key": "list", "kind": "sql", "function": "studio.list_video",
     "input": {"asset_id": "{{ input.asset_id }}", "title": "{{ input.name }}", "card": "{{ nodes.thumbnail.output.uri }}"},
     "artifact": {"type": "result", "name": "catalogue entry"}}],
  "edges": [{"from": "thumbnail", "to": "list"}]
} $$, 'Puts a finished video into the catalogue', publish => true) \g /dev/null
SELECT goya.create_trigger('list-video', 'finished videos', 'event', event => 'asset_done', filter => '$.asset.media_type == "video"',
    input => '{"asset_id": "{{ asset.id }}", "uri": "{{ asset.uri }}", "name": "{{ asset.name }}"}') \g /dev/null

\echo
\echo '== the workflow'
\pset format unaligned
\pset tuples_only on
SELECT * FROM goya.explain_workflow('take-apart');
