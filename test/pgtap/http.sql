-- http.sql: nodes that call a service, against a server with every fault a real one has (test/servers/faulty_http.py, started by test/run, which
-- gives its port as GOYA_HTTP_PORT): what comes back, what is an error of which class, what is tried again, what is refused.
--
-- get(label, path, more) starts a task with one http node; more is added to the node. Most are started together, as transfers run in parallel.

\set file http
\ir lib/http.psql

CREATE FUNCTION pg_temp.get(label text, path text, more jsonb DEFAULT '{}', input jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.start(label, jsonb_build_object('nodes', jsonb_build_array(
        jsonb_build_object('key', 'h', 'kind', 'http', 'url', current_setting('test.server') || path) || more)), input)
$$;

-- ---- loopback ----

ALTER SYSTEM RESET goya.http_allow_loopback;
SELECT pg_reload_conf() \g /dev/null
SELECT pg_temp.get('denied', '/ok');
SELECT pg_temp.start('denied name', jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'h', 'kind', 'http', 'url', 'http://localhost:' || :'port' || '/ok'))));
SELECT pg_temp.start('denied metadata', '{"nodes": [{"key": "h", "kind": "http", "url": "http://169.254.169.254/latest/meta-data/"}]}');
SELECT is(pg_temp.outcome('denied'), 'failed POLICY_DENY 08000: calls to address 127.0.0.1 are not allowed', 'loopback is denied unless goya.http_allow_loopback');
SELECT ok((pg_temp.task('denied')).error ->> 'hint' LIKE '%goya.http_allow_loopback%', 'with a hint');
SELECT matches(pg_temp.outcome('denied name'), '^failed POLICY_DENY 08000: calls to address', 'also by a name');
SELECT is(pg_temp.outcome('denied metadata'), 'failed POLICY_DENY 08000: calls to address 169.254.169.254 are not allowed', 'link-local addresses are denied');
ALTER SYSTEM SET goya.http_allow_loopback = on;
SELECT pg_temp.get('allowed', '/ok', '{"retry": {"max_attempts": 100, "initial": "50ms", "backoff": "fixed", "on": ["POLICY_DENY"]}}');
SELECT is(pg_temp.until($$SELECT (count(*) > 1)::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('allowed')$$, 'true'), 'true', 'denied, and to be tried again');
SELECT pg_reload_conf() \g /dev/null
SELECT is(pg_temp.output('allowed', 'h') -> 'body', '"ok\n"', 'allowed after a reload');

-- ---- what comes back ----

SELECT pg_temp.get('json', '/json');
SELECT pg_temp.get('text', '/chunked?n=2');
SELECT pg_temp.get('binary', '/gzipbomb?mb=1');
SELECT pg_temp.get('gzip', '/gzip', '{"output": "$.output.body.gzip"}');
SELECT pg_temp.get('no content', '/status/204');
SELECT pg_temp.get('head', '/ok', '{"method": "HEAD"}');
SELECT pg_temp.get('success status', '/status/404', '{"success": "$.output.status == 404", "output": "$.output.body"}');
SELECT pg_temp.get('success body', '/json', '{"success": "$.output.body.ok == false"}');
SELECT pg_temp.get('output path', '/json', '{"output": "$.output.body.list[1]"}');
SELECT pg_temp.get('output wildcard', '/json', '{"output": "$.output.body.list[*]"}');
SELECT pg_temp.get('output header', '/redirect?to=/elsewhere', '{"success": "$.output.status == 302", "output": "$.output.headers.location"}');
SELECT pg_temp.get('redirect', '/redirect?to=/ok');
SELECT pg_temp.get('drip', '/drip?n=3&ms=30');

SELECT is(pg_temp.output('json', 'h') - 'headers', '{"status": 200, "body": {"ok": true, "list": [1, 2.5, null], "text": "grüß"}}', 'a JSON body is parsed');
SELECT is(pg_temp.output('json', 'h') #>> '{headers,content-type}', 'application/json', 'headers have lower-case names');
SELECT is(pg_temp.output('text', 'h') ->> 'body', E'chunk 0\nchunk 1\n', 'a text body is a string; chunked coding');
SELECT is(pg_temp.output('binary', 'h') #> '{body,size}', '1048576', 'a binary body has its size');
SELECT is(decode(pg_temp.output('binary', 'h') #>> '{body,base64}', 'base64'), decode(repeat('00', 1048576), 'hex'), 'and is base64');
SELECT is(pg_temp.outcome('gzip'), 'succeeded true', 'gzip is unpacked');
SELECT is(pg_temp.output('no content', 'h') -> 'body', 'null', 'no body is null');
SELECT is(pg_temp.output('no content', 'h') -> 'status', '204', '204 is success');
SELECT is(pg_temp.output('head', 'h') -> 'body', 'null', 'HEAD');
SELECT is(pg_temp.outcome('success status'), 'succeeded "status 404\n"', 'success: another status may be one');
SELECT is(pg_temp.outcome('success body'), 'failed DEPENDENCY 38000: the service answered 200', 'success: and 200 may be none');
SELECT is(pg_temp.outcome('output path'), 'succeeded 2.5', 'output: a path');
SELECT is(pg_temp.outcome('output wildcard'), 'succeeded [1, 2.5, null]', 'output: a wildcard gives an array');
SELECT is(pg_temp.outcome('output header'), 'succeeded "/elsewhere"', 'output: a header');
SELECT is(pg_temp.outcome('redirect'), 'failed DEPENDENCY 38000: the service answered 302', 'a redirect is not followed');
SELECT is(pg_temp.output('drip', 'h') ->> 'body', '...', 'a slow body');

-- ---- what is sent ----

SELECT pg_temp.get('echo', '/echo?a={{ input.a }}', '{"headers": {"X-Custom": "v {{ input.a }}", "X-Number": 5, "X-None": null}, "output": "$.output.body"}', '{"a": "one"}');
SELECT pg_temp.get('post', '/echo', '{"method": "POST", "input": {"n": "{{ input.n }}"}, "output": "$.output.body"}', '{"n": 7}');
SELECT pg_temp.get('post body', '/echo', '{"body": {"got": "{{ params.n }}", "task": "{{ task.id }}"}, "output": "$.output.body"}', '{"n": 7}');
SELECT pg_temp.get('post text', '/echo', '{"method": "PUT", "body": "plain {{ params.n }}", "headers": {"Content-Type": "text/plain"}, "output": "$.output.body"}', '{"n": 7}');
SELECT pg_temp.get('own key', '/echo', '{"headers": {"idempotency-key": "mine"}, "output": "$.output.body.headers"}');
SELECT pg_temp.get('header injection', '/echo', '{"headers": {"X-Bad": "{{ input.v }}"}}', '{"v": "a\r\nX-Evil: 1"}');
SELECT pg_temp.get('header name', '/echo', '{"headers": {"X Bad:": "v"}}');
SELECT pg_temp.start('url template', '{"nodes": [{"key": "h", "kind": "http", "url": "{{ input.url }}", "output": "$.output.status"}]}', jsonb_build_object('url', current_setting('test.server') || '/ok'));
SELECT pg_temp.run('url empty', $$SELECT goya.run('url template', '{"url": ""}')$$);
SELECT pg_temp.run('url scheme', $$SELECT goya.run('url template', '{"url": "ftp://127.0.0.1/x"}')$$);
SELECT pg_temp.run('url file', $$SELECT goya.run('url template', '{"url": "file:///etc/passwd"}')$$);
SELECT pg_temp.run('url garbage', $$SELECT goya.run('url template', '{"url": "http://[::bad/"}')$$);

SELECT is(pg_temp.output('echo', 'h') -> 'query', '{"a": "one"}', 'templates in the url');
SELECT is(pg_temp.output('echo', 'h') ->> 'method', 'GET', 'GET without a body');
SELECT is(pg_temp.output('echo', 'h') #>> '{headers,x-custom}', 'v one', 'templates in headers');
SELECT is(pg_temp.output('echo', 'h') #>> '{headers,x-number}', '5', 'a number as header');
SELECT ok(NOT pg_temp.output('echo', 'h') -> 'headers' ? 'x-none', 'a null header is not sent');
SELECT is(pg_temp.output('echo', 'h') #>> '{headers,idempotency-key}', pg_temp.task_id('echo') || '/h/0/1', 'Idempotency-Key names node run and attempt');
SELECT is(pg_temp.output('echo', 'h') #>> '{headers,x-trace-id}', (pg_temp.task('echo')).trace_id, 'X-Trace-Id is the task''s');
SELECT is(pg_temp.output('post', 'h') ->> 'body', '{"n": 7}', 'POST without body sends the node''s input');
SELECT is(pg_temp.output('post', 'h') #>> '{headers,content-type}', 'application/json', 'as JSON');
SELECT is((pg_temp.output('post body', 'h') ->> 'body')::jsonb, jsonb_build_object('got', 7, 'task', pg_temp.task_id('post body')), 'a body of templates');
SELECT is(pg_temp.output('post body', 'h') ->> 'method', 'POST', 'makes it POST');
SELECT is(pg_temp.output('post text', 'h') ->> 'body', 'plain 7', 'a text body as it is');
SELECT is(pg_temp.output('post text', 'h') #>> '{headers,content-type}', 'text/plain', 'with its own type');
SELECT is(pg_temp.output('own key', 'h') ->> 'idempotency-key', 'mine', 'a key of one''s own is kept');
SELECT matches(pg_temp.outcome('header injection'), '^failed VALIDATION', 'a header with a line break is refused');
SELECT matches(pg_temp.outcome('header name'), '^failed VALIDATION', 'and a header with a bad name');
SELECT is(pg_temp.outcome('url template'), 'succeeded 200', 'a url from the input');
SELECT is(pg_temp.outcome('url empty'), 'failed VALIDATION 22023: the url of node "h" is empty', 'no url');
SELECT matches(pg_temp.outcome('url scheme'), '^failed VALIDATION', 'ftp is refused');
SELECT matches(pg_temp.outcome('url file'), '^failed VALIDATION', 'a file is refused');
SELECT matches(pg_temp.outcome('url garbage'), '^failed VALIDATION', 'what is no url is refused');

-- ---- what goes wrong ----

SELECT pg_temp.get('500', '/status/500');
SELECT pg_temp.get('404', '/status/404');
SELECT pg_temp.get('403', '/status/403');
SELECT pg_temp.get('429', '/status/429');
SELECT pg_temp.start('refuse', jsonb_build_object('nodes', jsonb_build_array(
    jsonb_build_object('key', 'port', 'kind', 'http', 'url', current_setting('test.server') || '/refuse', 'output', '$.output.body.port'),
    jsonb_build_object('key', 'h', 'kind', 'http', 'url', 'http://127.0.0.1:{{ nodes.port.output }}/')), 'edges', '[{"from": "port", "to": "h"}]'::jsonb));
SELECT pg_temp.get('hang', '/hang', '{"timeout": "200ms"}');
SELECT pg_temp.get('hang body', '/hangbody', '{"timeout": "200ms"}');
SELECT pg_temp.get('hang once', '/hang', '{"timeout": "200ms", "idempotent": false}');
SELECT pg_temp.get('reset', '/reset');
SELECT pg_temp.get('reset head', '/resethead');
SELECT pg_temp.get('close', '/close');
SELECT pg_temp.get('short', '/short');
SELECT pg_temp.get('too big', '/big?mb=1', '{"max_response": 100000}');
SELECT pg_temp.get('too big chunked', '/bigchunked?mb=1', '{"max_response": 100000}');
SELECT pg_temp.get('bomb', '/gzipbomb?mb=100');
SELECT pg_temp.get('bad gzip', '/badgzip');
SELECT pg_temp.get('latin1', '/latin1');
SELECT pg_temp.get('nul', '/nul');
SELECT pg_temp.get('many headers', '/headers?kb=1024');
SELECT pg_temp.get('garbage', '/garbage');
SELECT pg_temp.get('bad chunk', '/badchunk');
SELECT pg_temp.get('drop', '/drop', '{"method": "POST", "body": {"a": 1}}');
SELECT pg_temp.get('drop once', '/drop', '{"method": "POST", "body": {"a": 1}, "idempotent": false}');
SELECT pg_temp.get('long', '/long', '{"output": "$.output.body"}');
SELECT pg_temp.get('bad length', '/badlength');
SELECT pg_temp.get('two lengths', '/twolengths');
SELECT pg_temp.get('long header', '/longheader?kb=100');
SELECT pg_temp.get('odd headers', '/foldedheader', '{"output": "$.output.headers.\"x-folded\""}');
SELECT pg_temp.get('nul header', '/nulheader');
SELECT pg_temp.get('100 MB', '/big?mb=100');
SELECT pg_temp.get('100 MB chunked', '/bigchunked?mb=100');
SELECT pg_temp.get('drip long', '/drip?n=1000&ms=50', '{"timeout": "300ms"}');
SELECT pg_temp.get('metadata', '/redirect?to=http://169.254.169.254/latest/meta-data/');
SELECT pg_temp.start('handled', jsonb_build_object('nodes', jsonb_build_array(
    jsonb_build_object('key', 'h', 'kind', 'http', 'url', current_setting('test.server') || '/status/503'),
    '{"key": "mend", "kind": "transform", "output": {"status": "{{ nodes.h.error.status }}", "class": "{{ nodes.h.error.class }}"}}'::jsonb),
    'edges', '[{"from": "h", "to": "mend", "on": "failure"}]'::jsonb));

SELECT is(pg_temp.outcome('500'), 'failed DEPENDENCY 38000: the service answered 500', '500');
SELECT is((pg_temp.task('500')).error, '{"code": "38000", "class": "DEPENDENCY", "message": "the service answered 500", "detail": "status 500\n", "status": 500, "node": "h", "attempt": 1}',
    'its error has the status and the beginning of the body');
SELECT is(pg_temp.outcome('404'), 'failed VALIDATION 38000: the service answered 404', '404');
SELECT is(pg_temp.outcome('403'), 'failed POLICY_DENY 38000: the service answered 403', '403');
SELECT is(pg_temp.outcome('429'), 'failed TRANSIENT 38000: the service answered 429', '429');
SELECT matches(pg_temp.outcome('refuse'), '^failed DEPENDENCY 08000: ', 'a port nobody listens on');
SELECT matches(pg_temp.outcome('hang'), '^failed TIMEOUT 08000: ', 'a service that never answers');
SELECT ok(r.finished_at - r.started_at BETWEEN interval '190 ms' AND interval '3 s', 'at its timeout') FROM pg_temp.last_run('hang', 'h') r;
SELECT matches(pg_temp.outcome('hang body'), '^failed TIMEOUT 08000: ', 'a body that never ends');
SELECT matches(pg_temp.outcome('hang once'), '^failed UNKNOWN 08000: ', 'a call that is not idempotent and may have been made has class UNKNOWN');
SELECT matches(pg_temp.outcome('reset'), '^failed TRANSIENT 08000: ', 'a reset in the body');
SELECT matches(pg_temp.outcome('reset head'), '^failed TRANSIENT 08000: ', 'a reset before it');
SELECT matches(pg_temp.outcome('close'), '^failed TRANSIENT 08000: ', 'closed without an answer');
SELECT matches(pg_temp.outcome('short'), '^failed TRANSIENT 08000: ', 'less than promised');
SELECT matches(pg_temp.outcome('too big'), '^failed RESOURCE_LIMIT 08000: the response is larger than 100000 bytes', 'more than max_response');
SELECT matches(pg_temp.outcome('too big chunked'), '^failed RESOURCE_LIMIT 08000: ', 'the same when it is not said before');
SELECT matches(pg_temp.outcome('bomb'), '^failed RESOURCE_LIMIT 08000: ', '100 MB in 100 kB: the limit counts what is unpacked');
SELECT matches(pg_temp.outcome('bad gzip'), '^failed [A-Z]+ 08000: ', 'what is not gzip');
SELECT matches(pg_temp.outcome('latin1'), '^failed VALIDATION 22', 'JSON that is not UTF-8');
SELECT matches(pg_temp.outcome('nul'), '^failed VALIDATION 22', 'JSON with NUL bytes');
SELECT matches(pg_temp.outcome('many headers'), '^failed RESOURCE_LIMIT 08000: ', 'a megabyte of headers');
SELECT matches(pg_temp.outcome('garbage'), '^failed [A-Z]+ 08000: ', 'not HTTP');
SELECT matches(pg_temp.outcome('bad chunk'), '^failed TRANSIENT 08000: ', 'bad chunks');
SELECT matches(pg_temp.outcome('drop'), '^failed TRANSIENT 08000: ', 'closed after receiving the request');
SELECT matches(pg_temp.outcome('drop once'), '^failed UNKNOWN 08000: ', 'which may have been done');
SELECT is(pg_temp.outcome('long'), 'succeeded "long"', 'more than promised: the promise counts');
SELECT matches(pg_temp.outcome('bad length'), '^failed [A-Z]+ 08000: ', 'a length that is none');
SELECT ok(pg_temp.outcome('two lengths') ~ '^(failed [A-Z]+ 08000: |succeeded)', 'two lengths: an end, whichever');
SELECT matches(pg_temp.outcome('long header'), '^failed [A-Z_]+ 08000: ', 'one giant header');
SELECT ok(pg_temp.outcome('odd headers') ~ '^(succeeded|failed [A-Z]+ 08000)', 'headers that are none');
SELECT ok(pg_temp.outcome('nul header') ~ '^(succeeded|failed [A-Z]+ 08000)', 'a NUL in a header');
SELECT matches(pg_temp.outcome('100 MB'), '^failed RESOURCE_LIMIT 08000: ', '100 MB that are announced');
SELECT matches(pg_temp.outcome('100 MB chunked'), '^failed RESOURCE_LIMIT 08000: ', 'and that are not');
SELECT matches(pg_temp.outcome('drip long'), '^failed TIMEOUT 08000: ', 'a drip does not outlast the timeout');
SELECT is(pg_temp.outcome('metadata'), 'failed DEPENDENCY 38000: the service answered 302', 'a redirect to the metadata service is not followed');
SELECT is(pg_temp.outcome('handled'), 'succeeded {"class": "DEPENDENCY", "status": 503}', 'an edge on failure reads the status');

-- ---- again ----

SELECT pg_temp.get('flaky', '/flaky?key={{ task.id }}&fail=2', '{"retry": {"max_attempts": 3, "initial": "10ms", "backoff": "fixed"}, "output": "$.output.body.attempt"}');
SELECT pg_temp.get('retry after', '/flaky?key={{ task.id }}&fail=1&status=429&retry_after=1', '{"retry": {"max_attempts": 2, "initial": "10ms"}, "output": "$.output.body.attempt"}');
SELECT pg_temp.get('retry date', '/flaky?key={{ task.id }}&fail=1&status=503&retry_after=date%2B2', '{"retry": {"max_attempts": 2, "initial": "10ms"}, "output": "$.output.body.attempt"}');
SELECT pg_temp.get('retry spent', '/flaky?key={{ task.id }}&fail=9', '{"retry": {"max_attempts": 2, "initial": "10ms"}}');
SELECT pg_temp.get('no retry of 404', '/status/404', '{"retry": {"max_attempts": 3, "initial": "10ms"}}');
SELECT pg_temp.get('no retry of unknown', '/hang', '{"timeout": "100ms", "idempotent": false, "retry": {"max_attempts": 3, "initial": "10ms", "on": ["TIMEOUT", "TRANSIENT"]}}');
SELECT pg_temp.get('retry of hang', '/hang', '{"timeout": "100ms", "retry": {"max_attempts": 2, "initial": "10ms", "on": ["TIMEOUT"]}}');
SELECT is(pg_temp.outcome('flaky'), 'succeeded 3', '503 twice, then an answer');
SELECT is(pg_temp.runs('flaky'), 'h:failed h#2:failed h#3:succeeded', 'three attempts');
SELECT is(pg_temp.outcome('retry after'), 'succeeded 2', '429 with Retry-After');
SELECT ok(b.started_at - a.finished_at >= interval '1 s', 'which is waited for')
FROM goya.node_runs a, goya.node_runs b WHERE (a.task_id, a.attempt) = (pg_temp.task_id('retry after'), 1) AND (b.task_id, b.attempt) = (a.task_id, 2);
SELECT is(pg_temp.outcome('retry date'), 'succeeded 2', 'Retry-After as a date');
SELECT ok(b.started_at - a.finished_at BETWEEN interval '0.9 s' AND interval '6 s', 'which is waited for')
FROM goya.node_runs a, goya.node_runs b WHERE (a.task_id, a.attempt) = (pg_temp.task_id('retry date'), 1) AND (b.task_id, b.attempt) = (a.task_id, 2);
SELECT is(pg_temp.runs('retry spent'), 'h:failed h#2:failed', 'no more than max_attempts');
SELECT is(pg_temp.runs('no retry of 404'), 'h:failed', '404 is not tried again');
SELECT is(pg_temp.runs('no retry of unknown'), 'h:failed', 'nor what is not idempotent and may have been done');
SELECT is(pg_temp.runs('retry of hang'), 'h:failed h#2:failed', 'a timeout is, if asked for');

-- The server's own log tells what really was sent.
SELECT pg_temp.get('log', '/_log', '{"output": "$.output.body"}');
SELECT is((SELECT jsonb_agg(l -> 'idempotency_key' ORDER BY (l ->> 'n')::integer) FROM jsonb_array_elements(pg_temp.output('log', 'h')) l
           WHERE l #>> '{query,key}' = pg_temp.task_id('flaky')::text),
    jsonb_build_array(pg_temp.task_id('flaky') || '/h/0/1', pg_temp.task_id('flaky') || '/h/0/2', pg_temp.task_id('flaky') || '/h/0/3'),
    'each attempt was sent once, with an Idempotency-Key of its own');
SELECT is((SELECT count(*) FROM jsonb_array_elements(pg_temp.output('log', 'h')) l WHERE l ->> 'idempotency_key' LIKE pg_temp.task_id('redirect') || '%'), 1::bigint,
    'the redirect was asked once');
SELECT is((SELECT count(*) - count(DISTINCT l ->> 'idempotency_key') FROM jsonb_array_elements(pg_temp.output('log', 'h')) l
           WHERE l ->> 'idempotency_key' LIKE '%/h/%' AND l ->> 'path' NOT IN ('/resethead', '/close')), 0::bigint,
    'no attempt of any task was sent twice, but for a GET whose kept connection was gone before the answer');

-- ---- maps ----

SELECT pg_temp.start('map', jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'm', 'kind', 'map', 'over', '{{ input.list }}', 'max_parallel', 20,
    'node', jsonb_build_object('key', 'h', 'kind', 'http', 'url', current_setting('test.server') || '/echo?ms=200&i={{ item }}', 'output', '$.output.body.query.i')))),
    jsonb_build_object('list', (SELECT jsonb_agg(i) FROM generate_series(1, 20) i)));
SELECT pg_temp.start('map failing', jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'm', 'kind', 'map', 'over', '{{ input.list }}', 'error_budget', 1,
    'node', jsonb_build_object('key', 'h', 'kind', 'http', 'url', current_setting('test.server') || '/status/{{ item }}', 'output', '$.output.status')))), '{"list": [200, 500, 201]}');
SELECT is(pg_temp.output('map', 'm'), (SELECT jsonb_agg(i::text) FROM generate_series(1, 20) i), 'map: a call per item, in their order');
SELECT ok(t.finished_at - t.created_at < interval '3 s', 'map: at once, not one after the other') FROM pg_temp.task('map') t;
SELECT is(pg_temp.outcome('map failing'), 'succeeded [200, null, 201]', 'map: a failed call within the budget');

-- ---- cancel ----

SELECT pg_temp.get('cancel', '/hang');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('cancel')$$, 'running'), 'running', 'cancel: the transfer runs');
SELECT is(pg_temp.until($$SELECT string_agg(node, ',') FROM goya.activity WHERE task_id = pg_temp.task_id('cancel')$$, 'h'), 'h', 'and shows in goya.activity');
SELECT pg_temp.start_time() AS before, clock_timestamp() AS asked \gset
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('cancel'), 'no more')$$), 'true', 'cancel');
SELECT is(pg_temp.outcome('cancel'), 'cancelled', 'the task is cancelled');
SELECT ok((pg_temp.task('cancel')).finished_at - :'asked'::timestamptz <= interval '1 s' + 10 * greatest(:'before'::interval, pg_temp.start_time()), 'within a second');
SELECT is((pg_temp.last_run('cancel', 'h')).status::text, 'cancelled', 'and so is its run');
SELECT is(pg_temp.until($$SELECT state FROM goya.activity WHERE task_id = pg_temp.task_id('cancel')$$, NULL), NULL, 'nothing of it runs any more');

ALTER SYSTEM RESET goya.http_allow_loopback;
SELECT pg_reload_conf() \g /dev/null
\ir lib/finish.psql
