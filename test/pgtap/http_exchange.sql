-- http_exchange.sql: http nodes that are more than one plain request: credentials, bodies, redirects, pages, polling, streams, callbacks, spill. The server is
-- test/servers/faulty_http.py, as for http.sql.

\set file http_exchange
\ir lib/http.psql
ALTER SYSTEM SET goya.http_allow_loopback = on;
ALTER SYSTEM SET goya.master_key_command = '/bin/echo k1 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f';
SELECT pg_reload_conf() \g /dev/null

CREATE FUNCTION pg_temp.get(label text, path text, more jsonb DEFAULT '{}', input jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.start(label, jsonb_build_object('nodes', jsonb_build_array(
        jsonb_build_object('key', 'h', 'kind', 'http', 'url', current_setting('test.server') || path, 'timeout', '15s', 'output', '$.output.body') || more)), input)
$$;
-- The codes and places of a definition's problems.
CREATE FUNCTION pg_temp.problems(node jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(p.code || ' ' || p.path, ', ' ORDER BY p.path, p.code), 'none')
    FROM goya.validate_workflow(jsonb_build_object('nodes', jsonb_build_array('{"key": "h", "kind": "http", "url": "http://a.test/"}'::jsonb || node))) p
$$;

-- ---- definitions ----

SELECT is(pg_temp.problems(n.node), n.wanted, n.node::text) FROM (VALUES
    ('{"auth": {"type": "bearer", "secret": "k"}}'::jsonb, 'none'),
    ('{"auth": {"type": "basic", "secret": "k", "username": "u"}}', 'none'),
    ('{"auth": {"type": "api_key", "secret": "k", "name": "X-Key", "in": "header", "prefix": "Key "}}', 'none'),
    ('{"auth": {"type": "aws_sigv4", "secret": "k", "access_key": "a", "region": "r", "service": "s"}}', 'none'),
    ('{"auth": {"type": "magic", "secret": "k"}}', 'bad_value /nodes/0/auth/type'),
    ('{"auth": {"secret": "k"}}', 'missing_field /nodes/0/auth'),
    ('{"auth": {"type": "bearer"}}', 'missing_field /nodes/0/auth'),
    ('{"auth": {"type": "bearer", "secret": "k", "region": "r"}}', 'unknown_field /nodes/0/auth/region'),
    ('{"auth": {"type": "aws_sigv4", "secret": "k"}}', 'missing_field /nodes/0/auth, missing_field /nodes/0/auth, missing_field /nodes/0/auth'),
    ('{"auth": {"type": "api_key", "secret": "k", "name": "a", "in": "cookie"}}', 'bad_value /nodes/0/auth/in'),
    ('{"auth": "bearer"}', 'wrong_type /nodes/0/auth'),
    ('{"secret_headers": {"X-A": "k"}}', 'none'),
    ('{"secret_headers": {"X-A": 5}}', 'wrong_type /nodes/0/secret_headers'),
    ('{"body_type": "xml"}', 'bad_value /nodes/0/body_type'),
    ('{"redirects": 11}', 'bad_value /nodes/0/redirects'),
    ('{"redirects": -1}', 'bad_value /nodes/0/redirects'),
    ('{"stream": "lines"}', 'bad_value /nodes/0/stream'),
    ('{"stream": 5}', 'wrong_type /nodes/0/stream'),
    ('{"paging": {"type": "link", "items": "$.items", "max_pages": 5}}', 'none'),
    ('{"paging": {"type": "cursor"}}', 'missing_field /nodes/0/paging'),
    ('{"paging": {"type": "cursor", "cursor": "$.["}}', 'bad_expression /nodes/0/paging/cursor'),
    ('{"paging": {"type": "link", "max_pages": 0}}', 'bad_value /nodes/0/paging/max_pages'),
    ('{"paging": {}}', 'missing_field /nodes/0/paging'),
    ('{"poll": {"until": "$.done"}}', 'none'),
    ('{"poll": {"interval": "1s"}}', 'missing_field /nodes/0/poll'),
    ('{"poll": {"until": "$.done", "interval": "soon"}}', 'bad_value /nodes/0/poll/interval'),
    ('{"poll": {"until": "$.done"}, "stream": true}', 'bad_value /nodes/0'),
    ('{"callback": true, "stream": false}', 'none'),
    ('{"callback": {"header": "X-Token", "timeout": "1 h"}}', 'none'),
    ('{"callback": 5}', 'wrong_type /nodes/0/callback'),
    ('{"spill": {"over": 1000}}', 'none'),
    ('{"spill": {"above": 1000}}', 'unknown_field /nodes/0/spill/above')) n(node, wanted);

-- ---- bodies ----

SELECT pg_temp.get('form', '/echo', '{"body_type": "form", "body": {"a": "b c&d=ü", "n": 5, "list": [1, "two"], "none": null}}');
SELECT pg_temp.get('json string', '/echo', '{"body_type": "json", "body": "plain"}');
SELECT pg_temp.get('text', '/echo', '{"body_type": "text", "body": "plain"}');
SELECT pg_temp.get('binary', '/echo', '{"body_type": "binary", "body": {"base64": "aGVsbG8=", "media_type": "application/x-thing"}, "method": "PUT"}');
SELECT pg_temp.get('binary bad', '/echo', '{"body_type": "binary", "body": "not base64!"}');
SELECT pg_temp.get('multipart', '/echo', '{"body_type": "multipart", "body": {"field": "value", "meta": {"json": {"a": 1}}, "file": {"base64": "aGVsbG8=", "filename": "a\"b\r\n.txt", "media_type": "text/plain"}}}');
SELECT pg_temp.get('multipart injection', '/echo', '{"body_type": "multipart", "body": {"file": {"text": "x", "media_type": "text/plain\r\nX-Evil: 1"}}}');
SELECT pg_temp.get('own type', '/echo', '{"body_type": "form", "body": {"a": "1"}, "headers": {"Content-Type": "application/x-mine"}}');
SELECT goya.new_id() AS shared, goya.new_id() AS private \gset
INSERT INTO goya.assets (id, name, content, mime_type) VALUES (:'shared', 'hello.bin', 'asset bytes', 'application/x-asset');
INSERT INTO goya.assets (id, name, content, visibility) VALUES (:'private', 'private.bin', 'private bytes', 'private');
SELECT pg_temp.get('asset', '/echo', replace('{"body_type": "binary", "body": {"asset_id": "ASSET"}}', 'ASSET', :'shared')::jsonb);
SELECT pg_temp.get('asset part', '/echo', replace('{"body_type": "multipart", "body": {"f": {"asset_id": "ASSET"}}}', 'ASSET', :'shared')::jsonb);
SELECT pg_temp.get('asset private', '/echo', replace('{"body_type": "binary", "body": {"asset_id": "ASSET"}}', 'ASSET', :'private')::jsonb);

SELECT is(pg_temp.output('form', 'h') ->> 'body', 'a=b+c%26d%3D%C3%BC&n=5&list=1&list=two', 'form');
SELECT is(pg_temp.output('form', 'h') #>> '{headers,content-type}', 'application/x-www-form-urlencoded', 'with its type');
SELECT is(pg_temp.output('json string', 'h') ->> 'body', '"plain"', 'json: a string is JSON too');
SELECT is(pg_temp.output('text', 'h') ->> 'body', 'plain', 'text');
SELECT is(pg_temp.output('text', 'h') #>> '{headers,content-type}', 'text/plain; charset=utf-8', 'with its type');
SELECT is(pg_temp.output('binary', 'h') ->> 'body', 'hello', 'binary');
SELECT is(pg_temp.output('binary', 'h') #>> '{headers,content-type}', 'application/x-thing', 'with its type');
SELECT matches(pg_temp.outcome('binary bad'), '^failed VALIDATION 22', 'what is no base64');
SELECT matches(pg_temp.output('multipart', 'h') ->> 'body', '^--([0-9a-f]{36})\r\nContent-Disposition: form-data; name="file"; filename="a%22b%0D%0A.txt"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--\1\r\n'
    'Content-Disposition: form-data; name="meta"\r\nContent-Type: application/json\r\n\r\n\{"a": 1\}\r\n--\1\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n--\1--\r\n$', 'multipart');
SELECT matches(pg_temp.outcome('multipart injection'), '^failed VALIDATION 22023', 'a part cannot write headers');
SELECT is(pg_temp.output('own type', 'h') #>> '{headers,content-type}', 'application/x-mine', 'a type of one''s own is kept');
SELECT is(pg_temp.output('asset', 'h') ->> 'body', 'asset bytes', 'the inline bytes of an asset');
SELECT is(pg_temp.output('asset', 'h') #>> '{headers,content-type}', 'application/x-asset', 'with its type');
SELECT matches(pg_temp.output('asset part', 'h') ->> 'body', 'filename="hello.bin"\r\nContent-Type: application/x-asset\r\n\r\nasset bytes', 'and its name as a part');
SELECT matches(pg_temp.outcome('asset private'), '^failed [A-Z]+ PT404', 'not those of somebody''s private asset');

-- ---- redirects ----

SELECT pg_temp.get('redirect', '/redirect?to=/echo?x=1', '{"redirects": 1}');
SELECT pg_temp.get('redirect twice', '/redirect?to=/redirect%3Fto%3D/ok', '{"redirects": 2}');
SELECT pg_temp.get('redirect too many', '/redirect?to=/redirect%3Fto%3D/ok', '{"redirects": 1}');
SELECT pg_temp.get('redirect loop', '/redirect?to=/redirect', '{"redirects": 10}');
SELECT pg_temp.get('post ' || s, '/redirect?to=/echo&status=' || s, '{"method": "POST", "body": {"a": 1}, "redirects": 3}') FROM unnest('{301,302,303,307,308}'::int[]) s;
SELECT pg_temp.get('put 302', '/redirect?to=/echo&status=302', '{"method": "PUT", "body": {"a": 1}, "redirects": 3}');
SELECT pg_temp.get('redirect denied', '/redirect?to=http://169.254.169.254/latest/', '{"redirects": 3}');
SELECT pg_temp.get('redirect scheme', '/redirect?to=file:///etc/passwd', '{"redirects": 3}');
SELECT pg_temp.get('redirect gopher', '/redirect?to=gopher://127.0.0.1:70/', '{"redirects": 3}');
SELECT pg_temp.get('redirect away', '/redirect?to=http://localhost:' || :'port' || '/echo', '{"redirects": 3, "headers": {"Authorization": "Bearer mine", "Cookie": "a=b", "X-Api-Key": "k", "X-Kept": "yes"}}');
SELECT pg_temp.get('redirect here', '/redirect?to=/echo', '{"redirects": 3, "headers": {"Authorization": "Bearer mine"}}');
SELECT pg_temp.get('redirect userinfo', '/redirect?to=http://u:p@127.0.0.1:' || :'port' || '/echo', '{"redirects": 3}');
SELECT is(pg_temp.output('redirect', 'h') ->> 'path', '/echo', 'a redirect is followed when the node says so');
SELECT is(pg_temp.outcome('redirect twice'), 'succeeded "ok\n"', 'two of two');
SELECT is(pg_temp.outcome('redirect too many'), 'failed RESOURCE_LIMIT 54000: more than 1 redirects', 'two of one');
SELECT is(pg_temp.outcome('redirect loop'), 'succeeded "ok\n"', 'relative ones (the server''s default is /ok)');
SELECT is((SELECT string_agg(concat_ws(' ', s, pg_temp.output('post ' || s, 'h') ->> 'method', pg_temp.output('post ' || s, 'h') ->> 'body'), ', ' ORDER BY s) FROM unnest('{301,302,303,307,308}'::int[]) s),
    '301 GET , 302 GET , 303 GET , 307 POST {"a": 1}, 308 POST {"a": 1}', 'methods and bodies after each status');
SELECT ok(NOT pg_temp.output('post 303', 'h') -> 'headers' ? 'content-type', 'a body that is not sent has no type');
SELECT is(pg_temp.output('put 302', 'h') ->> 'method', 'PUT', 'PUT stays PUT after 302');
SELECT is(pg_temp.outcome('redirect denied'), 'failed POLICY_DENY 08000: calls to address 169.254.169.254 are not allowed', 'where it leads is asked anew');
SELECT matches(pg_temp.outcome('redirect scheme'), '^failed VALIDATION 22023', 'not to a file');
SELECT matches(pg_temp.outcome('redirect gopher'), '^failed VALIDATION 22023', 'nor gopher');
SELECT is(pg_temp.output('redirect away', 'h') -> 'headers' ?| '{authorization,cookie,x-api-key}', false, 'credentials do not go to another host');
SELECT is(pg_temp.output('redirect away', 'h') #>> '{headers,x-kept}', 'yes', 'other headers do');
SELECT is(pg_temp.output('redirect here', 'h') #>> '{headers,authorization}', 'Bearer mine', 'and to the same host they do');
SELECT ok(NOT pg_temp.output('redirect userinfo', 'h') -> 'headers' ? 'authorization', 'a Location gives no credentials');

-- ---- pages ----

SELECT pg_temp.get('links', '/links?n=3', '{"paging": {"type": "link"}}');
SELECT pg_temp.get('links odd', '/links?n=3&style=odd', '{"paging": {"type": "link"}}');
SELECT pg_temp.get('links capped', '/links?n=9', '{"paging": {"type": "link", "max_pages": 2}, "output": "$.output"}');
SELECT pg_temp.get('cursors', '/cursors?n=3&keep=1', '{"paging": {"type": "cursor", "cursor": "$.next", "param": "cursor", "items": "$.items"}}');
SELECT pg_temp.get('cursors body', '/cursors?n=3', '{"method": "POST", "body": {"q": 1}, "paging": {"type": "cursor", "cursor": "$.next", "param": "cursor", "in": "body", "items": "$.items[*]"}}');
SELECT pg_temp.get('next urls', '/nexturls?n=4', '{"paging": {"type": "cursor", "cursor": "$.next", "items": "$.items"}}');
SELECT pg_temp.get('endless', '/endless?bytes=50000', '{"paging": {"type": "link", "max_pages": 10000}, "max_response": 200000}');
SELECT pg_temp.get('endless pages', '/endless', '{"paging": {"type": "link", "max_pages": 7}, "output": "$.output.pages"}');
SELECT pg_temp.get('page fails', '/status/500', '{"paging": {"type": "link"}}');
SELECT is(pg_temp.outcome('links'), 'succeeded [0, 1, 2, 3, 4, 5]', 'paging by Link');
SELECT is(pg_temp.outcome('links odd'), 'succeeded [0, 1, 2, 3, 4, 5]', 'however it is written');
SELECT is(pg_temp.output('links capped', 'h') - 'headers', '{"status": 200, "body": [0, 1, 2, 3], "pages": 2, "more": true}', 'no more than max_pages, and it says so');
SELECT is(pg_temp.outcome('cursors'), 'succeeded [10, 11, 20, 21, 30, 31]', 'paging by a cursor in the query');
SELECT is(pg_temp.outcome('cursors body'), 'succeeded [10, 11, 20, 21, 30, 31]', 'by a cursor in the body');
SELECT is(pg_temp.outcome('next urls'), 'succeeded [1, 2, 3, 4]', 'by a cursor that is a url');
SELECT matches(pg_temp.outcome('endless'), '^failed RESOURCE_LIMIT 54000: the pages together are larger than 200000 bytes', 'pages are limited in bytes');
SELECT is(pg_temp.outcome('endless pages'), 'succeeded 7', 'and in number');
SELECT is(pg_temp.outcome('page fails'), 'failed DEPENDENCY 38000: the service answered 500', 'a page that fails');

-- ---- polling ----

SELECT pg_temp.get('job', '/jobs?n=3&key={{ task.id }}', '{"method": "POST", "body": {"a": 1}, "poll": {"until": "$.state == \"done\"", "interval": 0.02, "output": "$.result.value"}}');
SELECT pg_temp.get('job whole', '/jobs?n=1&key={{ task.id }}', '{"method": "POST", "poll": {"until": "$ ? (@.state == \"done\")", "interval": 0.02}}');
SELECT pg_temp.get('job path', '/jobs?n=2&silent=1&key={{ task.id }}', '{"method": "POST", "poll": {"url": "$.where", "until": "$.state == \"done\"", "interval": 0.02, "output": "$.looks"}}');
SELECT pg_temp.get('job url', '/jobs?silent=1', jsonb_build_object('method', 'POST', 'poll', jsonb_build_object('url', current_setting('test.server') || '/job?n=2&key={{ task.id }}', 'until', '$.state == "done"', 'interval', 0.02, 'output', '$.looks')));
SELECT pg_temp.get('job silent', '/jobs?silent=1', '{"method": "POST", "poll": {"until": "$.state == \"done\""}}');
SELECT pg_temp.get('job failed', '/jobs?n=2&end=failed&key={{ task.id }}', '{"method": "POST", "poll": {"until": "$.state == \"done\"", "failed": "$.state == \"failed\"", "interval": 0.02}}');
SELECT pg_temp.get('job failed once', '/jobs?n=2&end=failed&key={{ task.id }}', '{"method": "POST", "idempotent": false, "poll": {"until": "$.state == \"done\"", "failed": "$.state == \"failed\"", "interval": 0.02}}');
SELECT pg_temp.get('job endless', '/jobs?n=100000&key={{ task.id }}', '{"method": "POST", "timeout": "500ms", "poll": {"until": "$.state == \"done\"", "interval": 0.05}}');
SELECT pg_temp.get('job endless once', '/jobs?n=100000&key={{ task.id }}', '{"method": "POST", "timeout": "500ms", "idempotent": false, "poll": {"until": "$.state == \"done\"", "interval": 0.05}}');
SELECT pg_temp.get('job busy', '/jobs?n=2&busy=1&key={{ task.id }}', '{"method": "POST", "poll": {"until": "$.state == \"done\"", "interval": 0.02, "output": "$.looks"}}');
SELECT pg_temp.get('job after', '/jobs?n=2&retry_after=1&key={{ task.id }}', '{"method": "POST", "poll": {"until": "$.state == \"done\"", "interval": 0.02, "output": "$.looks"}}');
SELECT pg_temp.get('job at once', '/json', '{"poll": {"until": "$.ok"}}');
SELECT pg_temp.get('job refused', '/status/400', '{"poll": {"until": "$.ok"}}');
SELECT is(pg_temp.outcome('job'), 'succeeded 42', 'an operation that is over at the third look');
SELECT is(pg_temp.output('job whole', 'h') - 'looks' - 'result', '{"key": null, "body": "", "state": "done", "method": "GET"}', 'asked by GET, without body and key');
SELECT is(pg_temp.outcome('job path'), 'succeeded 2', 'at the url in the answer');
SELECT is(pg_temp.outcome('job url'), 'succeeded 2', 'at a url of the node''s');
SELECT is(pg_temp.outcome('job silent'), 'failed VALIDATION 22023: the service does not say where to ask for the result', 'without any');
SELECT is(pg_temp.outcome('job failed'), 'failed DEPENDENCY 38000: the operation failed', 'an operation that fails');
SELECT is(pg_temp.outcome('job failed once'), 'failed UNKNOWN 38000: the operation failed', 'and is not to be begun twice');
SELECT matches(pg_temp.outcome('job endless'), '^failed TIMEOUT 08000', 'one that never ends');
SELECT matches(pg_temp.outcome('job endless once'), '^failed UNKNOWN 08000', 'and is not to be begun twice');
SELECT is(pg_temp.outcome('job busy'), 'succeeded 2', '503 while polling is no end');
SELECT is(pg_temp.outcome('job after'), 'succeeded 2', 'Retry-After while polling');
SELECT ok(r.finished_at - r.started_at >= interval '0.9 s', 'is waited for') FROM pg_temp.last_run('job after', 'h') r;
SELECT is(pg_temp.output('job at once', 'h') -> 'ok', 'true', 'over with the first answer');
SELECT is(pg_temp.outcome('job refused'), 'failed VALIDATION 38000: the service answered 400', 'refused at once');
SELECT pg_temp.get('poll cancel', '/jobs?n=100000&key={{ task.id }}', '{"method": "POST", "timeout": "1 h", "poll": {"until": "$.state == \"done\"", "interval": "1 h"}}');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('poll cancel')$$, 'running'), 'running', 'polling');
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('poll cancel'), 'no more')$$), 'true', 'cancelled between two looks');
SELECT is(pg_temp.outcome('poll cancel'), 'cancelled', 'it ends');

-- ---- streams ----

SELECT pg_temp.get('sse', '/sse?n=2', '{"stream": true}');
SELECT pg_temp.get('sse open', '/sse?n=2&then=open', '{"stream": true}');
SELECT pg_temp.get('sse said', '/sse?n=2', '{"stream": "sse"}');
SELECT pg_temp.get('ndjson', '/ndjson?n=3', '{"stream": true}');
SELECT pg_temp.get('stream text', '/chunked?n=2', '{"stream": true}');
SELECT pg_temp.get('stream cut', '/sse?n=2&then=cut', '{"stream": true}');
SELECT is(pg_temp.outcome('sse'), 'succeeded [{"id": "0", "data": {"text": "grüß 0"}, "event": "token"}, {"id": "1", "data": {"text": "grüß 1"}, "event": "token"}, '
    '{"id": "1", "data": "two\nlines", "event": "message"}, {"id": "1", "data": "[DONE]", "event": "message"}]', 'events');
SELECT is(pg_temp.outcome('sse said'), pg_temp.outcome('sse'), 'the same when the node says so');
SELECT is(pg_temp.outcome('sse open'), pg_temp.outcome('sse'), 'and when no empty line ends the last event');
SELECT is(pg_temp.outcome('ndjson'), 'succeeded [{"i": 0}, {"i": 1}, {"i": 2}]', 'lines of JSON');
SELECT is(pg_temp.outcome('stream text'), 'succeeded "chunk 0\nchunk 1\n"', 'text');
SELECT matches(pg_temp.outcome('stream cut'), '^failed TRANSIENT 08000', 'a stream that breaks off');
SELECT pg_temp.get('sse slow', '/sse?n=100&ms=50', '{"stream": true}');
SELECT matches(pg_temp.until($$SELECT (count(*) > 0)::text FROM goya.read_stream(pg_temp.task_id('sse slow'), 'h', timeout => '2 s') s WHERE s.delta LIKE '{"text": "grüß 0"}%'$$, 'true'),
    'true', 'what has come can be read while it runs');
SELECT is((SELECT status::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('sse slow')), 'running', 'which it does');
SELECT is(jsonb_array_length(pg_temp.output('sse slow', 'h')), 102, 'until it ends');

-- ---- callbacks ----

SELECT pg_temp.get('tokens before', '/_tokens');
SELECT jsonb_array_length(pg_temp.output('tokens before', 'h')) AS before \gset
SELECT pg_temp.get('callback', '/callback', '{"callback": true, "method": "POST", "body": {"a": 1}}');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('callback')$$, 'waiting'), 'waiting', 'callback: the run waits');
SELECT is(pg_temp.until($$SELECT t.status::text FROM goya.tasks t WHERE t.id = pg_temp.task_id('callback')$$, 'waiting'), 'waiting', 'and so does the task');
SELECT is((SELECT string_agg(format('%s %s', c.code, c.detail), ', ') FROM goya.check() c), NULL, 'goya.check() has nothing against it');
SELECT pg_temp.get('tokens', '/_tokens');
SELECT pg_temp.output('tokens', 'h') ->> :before AS token \gset
SELECT ok(:'token' ~ '^[0-9a-f]{64}$', 'the service has a token');
SELECT is(pg_temp.try($$SELECT goya.callback(repeat('0', 64))$$), 'PT404: callback not found', 'another is none');
SELECT is(pg_temp.try(format('SELECT goya.callback(%L, %L)', :'token', '{"frames": 7}')), 'true', 'called back');
SELECT is(pg_temp.outcome('callback'), 'succeeded {"frames": 7}', 'the payload is the output');
SELECT is(pg_temp.try(format('SELECT goya.callback(%L)', :'token')), 'PT404: callback not found', 'a token is for once');
SELECT ok(NOT EXISTS (SELECT FROM goya_private.callbacks c WHERE c::text LIKE '%' || :'token' || '%') AND NOT EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = pg_temp.task_id('callback') AND concat(r.input, r.output) LIKE '%' || :'token' || '%'), 'and is kept nowhere');
SELECT pg_temp.get('callback late', '/callback?status=200', '{"callback": {"field": "token", "timeout": 0.3}, "method": "POST", "body": {"a": 1}}');
SELECT is(pg_temp.outcome('callback late'), 'failed TIMEOUT 57014: no callback came in time', 'a callback that does not come');
SELECT pg_temp.get('callback refused', '/status/400', '{"callback": true}');
SELECT is(pg_temp.outcome('callback refused'), 'failed VALIDATION 38000: the service answered 400', 'a request that is refused');
SELECT pg_temp.get('callback failed', '/callback', '{"callback": {"header": "X-Token"}, "method": "POST"}');
-- Before the answer is recorded: its answer takes half a second.
SELECT pg_temp.get('callback early', '/callback?ms=500', '{"callback": true, "method": "POST"}');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('callback failed')$$, 'waiting'), 'waiting', 'waits again');
SELECT pg_temp.get('tokens late', '/_tokens');
SELECT pg_temp.output('tokens late', 'h') ->> -1 AS token, pg_temp.output('tokens late', 'h') ->> (:before + 1) AS late \gset
SELECT is(pg_temp.try(format('SELECT goya.callback(%L)', :'late')), 'false', 'a callback that comes too late');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya_private.callbacks c WHERE c.task_id = pg_temp.task_id('callback early')$$, '1'), '1', 'the token is known before the answer');
SELECT goya_private.enqueue(t.id, t.tenant_id, t.priority, c.plan_node, 0, c.attempt, 4) FROM goya_private.callbacks c, goya.tasks t WHERE c.task_id = pg_temp.task_id('callback early') AND t.id = c.task_id \g /dev/null
UPDATE goya_private.callbacks SET called_at = clock_timestamp(), payload = '"early"' WHERE task_id = pg_temp.task_id('callback early');
SELECT is(pg_temp.outcome('callback early'), 'succeeded "early"', 'is found when the answer is recorded');
SELECT is(pg_temp.try(format('SELECT goya.callback(%L, %L, true)', :'token', '{"why": "no"}')), 'true', 'called back with a failure');
SELECT is(pg_temp.outcome('callback failed'), 'failed DEPENDENCY 38000: the service called back with a failure', 'fails the node');
SELECT is((pg_temp.task('callback failed')).error -> 'payload', '{"why": "no"}', 'with what it said');

-- ---- spill ----

SELECT pg_temp.get('image', '/image', '{"spill": true}');
SELECT pg_temp.get('spill small', '/json', '{"spill": true}');
SELECT pg_temp.get('spill large', '/big?mb=1', '{"spill": true}');
SELECT pg_temp.get('spill text', '/json', '{"spill": {"over": 10}}');
SELECT pg_temp.get('spill too large', '/big?mb=2', '{"spill": true}');
SELECT is(pg_temp.output('image', 'h') - 'asset_id', jsonb_build_object('size', 264, 'media_type', 'image/png', 'sha256', encode(sha256(a.content), 'hex')), 'bytes become an asset')
FROM goya.assets a WHERE a.id = (pg_temp.output('image', 'h') ->> 'asset_id')::uuid;
SELECT is(concat_ws(' ', a.name, a.media_type, a.mime_type, a.status, a.source, a.node, a.item, a.owner_role, a.visibility, a.size_bytes, substr(a.content, 1, 4)), 'h image image/png ready operator h 0 regress_http_exchange tenant 264 \x89504e47',
    'which is the task''s') FROM goya.assets a WHERE a.id = (pg_temp.output('image', 'h') ->> 'asset_id')::uuid;
SELECT is(a.task_id, pg_temp.task_id('image'), 'and says where it came from') FROM goya.assets a WHERE a.id = (pg_temp.output('image', 'h') ->> 'asset_id')::uuid;
SELECT is(pg_temp.output('spill small', 'h') -> 'ok', 'true', 'small text stays');
SELECT is(pg_temp.output('spill large', 'h') ->> 'size', '1048576', 'a megabyte goes');
SELECT is(pg_temp.output('spill text', 'h') ->> 'media_type', 'application/json', 'text over the limit goes');
SELECT matches(pg_temp.outcome('spill too large'), '^failed RESOURCE_LIMIT 54000', 'two do not');

-- ---- credentials ----

SELECT goya.set_secret('http.token', 'tok-0123456789abcdef', ARRAY['http://127.0.0.1']) \g /dev/null
SELECT goya.set_secret('http.elsewhere', 'els-0123456789abcdef', ARRAY['api.example.com']) \g /dev/null
SELECT goya.set_secret('http.aws', 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY', ARRAY['http://127.0.0.1']) \g /dev/null
SELECT pg_temp.get('bearer', '/needs?header=authorization&value=Bearer+tok-0123456789abcdef', '{"auth": {"type": "bearer", "secret": "http.token"}}');
SELECT pg_temp.get('basic', '/needs?header=authorization&value=Basic+' || replace(encode('me:tok-0123456789abcdef', 'base64'), '=', '%3D'), '{"auth": {"type": "basic", "secret": "http.token", "username": "me"}}');
SELECT pg_temp.get('api key', '/needs?header=x-key&value=Key+tok-0123456789abcdef', '{"auth": {"type": "api_key", "secret": "http.token", "name": "X-Key", "prefix": "Key "}}');
SELECT pg_temp.get('query key', '/needs?param=key&value=tok-0123456789abcdef', '{"auth": {"type": "api_key", "secret": "http.token", "name": "key", "in": "query"}}');
SELECT pg_temp.get('secret header', '/needs?header=x-s&value=tok-0123456789abcdef', '{"secret_headers": {"X-S": "http.token"}}');
SELECT pg_temp.get('wrong key', '/needs?header=authorization&value=other', '{"auth": {"type": "bearer", "secret": "http.token"}}');
SELECT pg_temp.get('no secret', '/ok', '{"auth": {"type": "bearer", "secret": "http.none"}, "retry": {"max_attempts": 3, "initial": 0.01}}');
SELECT pg_temp.get('other host', '/ok', '{"auth": {"type": "bearer", "secret": "http.elsewhere"}}');
SELECT pg_temp.get('auth away', '/redirect?to=http://localhost:' || :'port' || '/echo', '{"redirects": 3, "auth": {"type": "api_key", "secret": "http.token", "name": "X-Mine"}}');
SELECT pg_temp.get('auth back', '/redirect?to=' || 'http://localhost:' || :'port' || '/redirect%3Fto%3Dhttp://127.0.0.1:' || :'port' || '/echo', '{"redirects": 3, "auth": {"type": "bearer", "secret": "http.token"}}');
SELECT pg_temp.get('auth here', '/redirect?to=/needs?header=authorization', '{"redirects": 3, "auth": {"type": "bearer", "secret": "http.token"}}');
SELECT pg_temp.get('auth pages', '/links?n=2', '{"paging": {"type": "link"}, "auth": {"type": "api_key", "secret": "http.token", "name": "key", "in": "query"}}');
SELECT pg_temp.get('stream secret', '/echo', '{"stream": "text", "auth": {"type": "bearer", "secret": "http.token"}}');
SELECT pg_temp.get('aws ' || s.n, s.path, '{"auth": {"type": "aws_sigv4", "secret": "http.aws", "access_key": "AKIDEXAMPLE", "region": "us-east-1", "service": "service"}}'::jsonb || s.more)
FROM (VALUES (1, '/sigv4', '{}'::jsonb), (2, '/sigv4', '{"method": "POST", "body": {"a": "ü"}}'), (3, '/sigv4?Action=List', '{}'), (4, '/sigv4?b=2&a=1', '{}'), (5, '/sigv4?a=x%20y&b=%C3%BC', '{}'),
    (6, '/sigv4', '{"method": "PUT", "body_type": "binary", "body": "AAECAwQ="}'), (7, '/sigv4', '{"headers": {"X-Amz-Target": "Thing.Do", "X-Custom": " a  b "}}'), (8, '/sigv4?empty=&flag', '{}'),
    (9, '/sigv4', '{"method": "DELETE"}'), (10, '/sigv4/a%20b/c', '{}'), (11, '/sigv4', '{"auth": {"type": "aws_sigv4", "secret": "http.aws", "access_key": "AKIDEXAMPLE", "region": "us-east-1", "service": "service", "session_token": "http.token"}}'),
    (12, '/sigv4', '{"auth": {"type": "aws_sigv4", "secret": "http.aws", "access_key": "AKIDEXAMPLE", "region": "eu-central-1", "service": "s3"}}'),
    (14, '/sigv4/a%20b/c?list-type=2&prefix=a%2Fb', '{"auth": {"type": "aws_sigv4", "secret": "http.aws", "access_key": "AKIDEXAMPLE", "region": "eu-central-1", "service": "s3"}}'),
    (13, '/sigv4', '{"method": "PUT", "body_type": "text", "body": "bytes", "auth": {"type": "aws_sigv4", "secret": "http.aws", "access_key": "AKIDEXAMPLE", "region": "eu-central-1", "service": "s3"}}')) s(n, path, more);

SELECT is(pg_temp.outcome('bearer'), pg_temp.outcome('bearer'), 'bearer');
SELECT is(l, 'succeeded', l || ' ' || t) FROM unnest('{bearer,basic,api key,query key,secret header}'::text[]) t, split_part(pg_temp.outcome(t), ' ', 1) l;
SELECT is(pg_temp.output('bearer', 'h') ->> 'got', 'Bearer [secret http.token]', 'what comes back is redacted');
SELECT is(pg_temp.output('basic', 'h') ->> 'got', 'Basic [secret http.token]', 'also in base64');
SELECT is(pg_temp.output('query key', 'h') #>> '{query,key}', '[secret http.token]', 'also of the url');
SELECT matches(pg_temp.outcome('wrong key'), '^failed POLICY_DENY 38000: the service answered 401', 'refused by the service');
SELECT ok((pg_temp.task('wrong key')).error::text NOT LIKE '%0123456789%' AND (pg_temp.task('wrong key')).error ->> 'detail' LIKE '%[secret http.token]%', 'its error is redacted');
SELECT matches(pg_temp.outcome('no secret'), '^failed VALIDATION PT404', 'no such secret');
SELECT is((SELECT count(*) FROM goya.node_runs r WHERE r.task_id = pg_temp.task_id('no secret')), 1::bigint, 'which is not tried again');
SELECT matches(pg_temp.outcome('other host'), '^failed POLICY_DENY 42501', 'a secret of another host');
SELECT ok(NOT pg_temp.output('auth away', 'h') -> 'headers' ? 'x-mine', 'a secret does not follow to another host');
SELECT ok(NOT pg_temp.output('auth back', 'h') -> 'headers' ? 'authorization', 'nor back');
SELECT is(pg_temp.output('auth here', 'h') ->> 'got', 'Bearer [secret http.token]', 'but within one');
SELECT is(pg_temp.outcome('auth pages'), 'succeeded [0, 1, 2, 3]', 'and to the next page');
SELECT ok(pg_temp.output('stream secret', 'h')::text NOT LIKE '%0123456789%', 'streams are redacted');
SELECT ok(NOT EXISTS (SELECT FROM goya_private.stream_chunks c WHERE c.delta LIKE '%0123456789%'), 'while they come');
SELECT is(pg_temp.outcome('aws ' || n), 'succeeded "signed\n"', 'AWS signature ' || n) FROM generate_series(1, 14) n;
SELECT ok(NOT EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id IN (SELECT id FROM started) AND concat(r.input, r.output, r.error, r.message) ~ 'tok-0123456789|wJalrXUtnFEMI'), 'no secret is in any node run');

SELECT goya.delete_secret(n) FROM unnest('{http.token,http.elsewhere,http.aws}'::text[]) n \g /dev/null
DELETE FROM goya.assets WHERE id IN (:'shared', :'private');
ALTER SYSTEM RESET goya.http_allow_loopback;
ALTER SYSTEM RESET goya.master_key_command;
SELECT pg_reload_conf() \g /dev/null
\ir lib/finish.psql
