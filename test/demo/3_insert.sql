-- 3_insert.sql: somebody inserts a video. Nothing else is called: the insert's event starts the workflow. Variable: video, a file:// address.
\set QUIET on
\echo
\echo '== a video is inserted'
LISTEN goya_asset;
INSERT INTO goya.assets (media_type, uri, name) VALUES ('video', :'video', regexp_replace(:'video', '^.*/', '')) RETURNING id AS asset, media_type, name;
UNLISTEN goya_asset;
