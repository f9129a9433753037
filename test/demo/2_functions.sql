-- 2_functions.sql: what SQL nodes of both demos call, as role studio; 2_define.sql and 2_define_cli.sql say what is run with it.
\set QUIET on
SET client_min_messages = warning;

-- SQL nodes call them with a jsonb and take a jsonb back.

-- Scores each frame by what was measured in it, and the video by its frames.
CREATE FUNCTION studio.score(input jsonb) RETURNS jsonb LANGUAGE sql STABLE AS $$
    WITH frames AS (
        SELECT n - 1 AS scene, look ->> 'label' AS label,
               round(((look ->> 'contrast')::numeric + (look ->> 'saturation')::numeric + 10 * (look ->> 'edges')::numeric) / 3, 3) AS score
        FROM jsonb_array_elements(input -> 'looks') WITH ORDINALITY x(look, n))
    SELECT jsonb_build_object('frames', jsonb_agg(to_jsonb(f) ORDER BY scene), 'score', round(avg(score), 3),
                              'best_scene', (array_agg(scene ORDER BY score DESC))[1], 'labels', jsonb_agg(DISTINCT label))
    FROM frames f;
$$;
CREATE TABLE studio.catalogue (asset_id uuid PRIMARY KEY, title text NOT NULL, card text NOT NULL, listed_at timestamptz NOT NULL DEFAULT now());
-- An ordinary write to an ordinary table: exactly once, in the transaction that records the node run.
CREATE FUNCTION studio.list_video(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO studio.catalogue (asset_id, title, card) VALUES ((input ->> 'asset_id')::uuid, input ->> 'title', input ->> 'card')
    RETURNING to_jsonb(catalogue);
$$;
