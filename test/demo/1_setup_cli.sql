-- 1_setup_cli.sql: what a superuser does once so that goya may run programs: ffprobe and ffmpeg, each for one purpose, with arguments that no value can change.
\set QUIET on
SET client_min_messages = warning;
ALTER SYSTEM SET goya.cli = on;
SELECT pg_reload_conf() \g /dev/null

-- No network, and nothing of a file name is an option: only files are read, and each {word} is one argument.
SELECT goya.create_program('probe', '/usr/bin/ffprobe', ARRAY['-v', 'error', '-of', 'json', '-show_format', '-show_streams', '-protocol_whitelist', 'file', '-i', '{uri}'],
           ARRAY['default'], 'What a media file is, as JSON', timeout => '1 min'),
       goya.create_program('scenes', '/usr/bin/ffmpeg', ARRAY['-v', 'error', '-nostdin', '-y', '-protocol_whitelist', 'file', '-i', '{uri}', '-an', '-vf',
           'select=''eq(n,0)+gt(scene,0.3)'',metadata=print:file=-', '-vsync', 'vfr', '-frames:v', '{most}', '{frames}'],
           ARRAY['default'], 'The first picture of each scene, and when it begins', timeout => '1 min', memory_mb => NULL),
       goya.create_program('analyse', '/usr/bin/ffmpeg', ARRAY['-v', 'error', '-nostdin', '-protocol_whitelist', 'file', '-i', '{uri}', '-filter_complex',
           '[0:v]scale=320:-2,format=yuv444p,split[a][b];[a]signalstats,metadata=print:file=-[x];[b]edgedetect=low=0.1:high=0.3,format=gray,signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-[y]',
           '-map', '[x]', '-frames:v', '1', '-f', 'null', '-', '-map', '[y]', '-frames:v', '1', '-f', 'null', '-'],
           ARRAY['default'], 'What signalstats says of a picture, and of its edges', timeout => '1 min', memory_mb => NULL),
       goya.create_program('thumbnail', '/usr/bin/ffmpeg', ARRAY['-v', 'error', '-nostdin', '-y', '-protocol_whitelist', 'file', '-i', '{uri}', '-vf', 'scale={width}:-2', '-frames:v', '1', '{file}'],
           ARRAY['default'], 'A small picture', timeout => '1 min', memory_mb => NULL),
       -- In its own directory, which goes away when it is stopped; only what is whole is moved to where it belongs.
       goya.create_program('preview', '/bin/sh', ARRAY['-c', 'ffmpeg -v error -nostdin -stream_loop -1 -re -protocol_whitelist file -i "$1" -t "$2" -an -vf scale=160:-2 -metadata title="$3" preview.mkv && mv preview.mkv "$3"', 'preview',
           '{uri}', '{seconds}', '{file}'], ARRAY['default'], 'A preview of so many seconds, made as slowly as it plays', timeout => '2 min', memory_mb => NULL) \g /dev/null
