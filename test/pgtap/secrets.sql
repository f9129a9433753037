-- secrets.sql: goya.secrets and what belongs to it, as SQL sees it: who may do what, that nothing gives a value back, what is refused and how; sealed text;
-- changing the master key; personal data. Processes, files, logs and calls are test/tap/040_secrets.pl's.
--
-- The master key comes from a command, set for the server and taken back at the end.

\set QUIET 1
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET search_path = public, pg_catalog;
SELECT no_plan();

SELECT throws_ok($$SELECT * FROM goya.list_master_keys()$$, '55000', 'goya has no master key', 'without a master key it says so');
SELECT throws_ok($$SELECT goya_private.seal(goya.current_tenant(), 'prompt', 'r', 'x')$$, '55000', 'goya has no master key', 'and seals nothing');
SELECT is(goya_private.has_master_key(), false, 'what goes on without can ask');
CREATE FUNCTION pg_temp.health() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' | ', h.status, h.detail, left(h.hint, 20)) FROM goya.health() h WHERE h.component = 'master key' $$;
SELECT is(pg_temp.health(), 'ok | None is set, and nothing is sealed.', 'which is well while nothing is sealed');
BEGIN;
UPDATE goya.tenants SET settings = settings || '{"encrypt_prompts": true}' WHERE name = 'default';
SELECT is(pg_temp.health(), 'error | goya has no master key, and 1 tenants want their prompts to be sealed. | An administrator set', 'goya.health() says so where something is to be sealed');
INSERT INTO goya.secrets (tenant_id, name, hosts, key_id) VALUES (goya.current_tenant(), 'lost', '{a.example.com}', 'k1');
SELECT is(pg_temp.health(), 'error | goya has no master key, and 1 values are sealed, with "k1" (1): they cannot be opened. | An administrator set', 'or was');
ROLLBACK;

\set setting goya.master_key_command
\set wanted '/bin/printf k1\\0400011223344556677\\n8899'
ALTER SYSTEM SET goya.master_key_command = :'wanted';
SELECT pg_reload_conf() \g /dev/null
\ir lib/reloaded.psql
SELECT throws_ok($$SELECT * FROM goya.list_master_keys()$$, '55000', 'goya''s master keys are not as they should be', 'a key of the wrong length is refused');
SELECT matches(pg_temp.health(), '^error \| goya''s master keys are not as they should be\. \| Lines are', 'as goya.health() says');
\set wanted '/bin/echo k1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'
ALTER SYSTEM SET goya.master_key_command = :'wanted';
SELECT pg_reload_conf() \g /dev/null
\ir lib/reloaded.psql

SELECT is(goya_private.has_master_key(), true, 'and is told when there is one');

BEGIN;
CREATE ROLE sct_ann; CREATE ROLE sct_ben; CREATE ROLE sct_reader; CREATE ROLE sct_admin; CREATE ROLE sct_other; CREATE ROLE sct_nobody;
GRANT goya_user TO sct_ann, sct_ben, sct_reader, sct_other; GRANT goya_admin TO sct_admin;
SELECT goya.create_tenant('sct-a'), goya.create_tenant('sct-b') \g /dev/null
SELECT goya.add_member('sct_ann', 'sct-a'), goya.add_member('sct_ben', 'sct-a'), goya.add_member('sct_reader', 'sct-a', 'reader'), goya.add_member('sct_other', 'sct-b'), goya.add_member('sct_admin', 'sct-b') \g /dev/null
CREATE FUNCTION pg_temp.try(role_name name, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    d text;
    h text;
BEGIN
    PERFORM set_config('role', role_name, true);
    EXECUTE statement INTO result;
    PERFORM set_config('role', 'none', true);
    RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE || ': ' || SQLERRM, nullif(d, ''), nullif(h, ''));
END;
$$;
CREATE FUNCTION pg_temp.tenant(name text) RETURNS uuid LANGUAGE sql AS $$ SELECT t.id FROM goya.tenants t WHERE t.name = tenant.name $$;

-- ---- Setting ----
SELECT is(pg_temp.try('sct_ann', $$SELECT goya.set_secret('openai', 'canary-3141592', ARRAY['API.OpenAI.com.', 'api.openai.com', '*.Azure.com:443', 'http://LOCALHOST:8080', '[::1]'], 'of the lab')$$), '1', 'a member sets a secret');
SELECT is(pg_temp.try('sct_ben', $$SELECT concat_ws(' ', name, hosts, description, key_id, version, last_used_at IS NULL, rotated_at = updated_at) FROM goya.secrets$$),
    'openai {*.azure.com:443,[::1],api.openai.com,http://localhost:8080} of the lab k1 1 t t', 'others of the tenant see all of it but the value; hosts in order, once, in lower case');
SELECT is(pg_temp.try('sct_reader', 'SELECT count(*) FROM goya.secrets'), '1', 'so does a reader');
SELECT is(pg_temp.try('sct_other', 'SELECT count(*) FROM goya.secrets'), '0', 'another tenant sees nothing');
SELECT is(pg_temp.try('sct_ben', $$SELECT goya.set_secret('openai', 'canary-2718281', ARRAY['api.openai.com'])$$), '2', 'a new value is version 2');
SELECT is((SELECT concat_ws(' ', s.description, s.hosts) FROM goya.secrets s WHERE s.name = 'openai'), 'of the lab {api.openai.com}', 'with its own hosts; the description stays');
SELECT is(pg_temp.try('sct_other', $$SELECT goya.set_secret('openai', 'canary-other-tenant', ARRAY['a.example.com'])$$), '1', 'the same name in another tenant is another secret');
SELECT matches(pg_temp.try('sct_reader', $$SELECT goya.set_secret('x', 'canary-2718281', ARRAY['api.openai.com'])$$), '^42501: role "sct_reader" may only read', 'a reader sets none');
SELECT matches(pg_temp.try('sct_nobody', $$SELECT goya.set_secret('x', 'canary-2718281', ARRAY['api.openai.com'])$$), '^42501: permission denied for schema goya', 'nor does somebody without a grant');
SELECT ok(pg_temp.try('sct_ann', format('SELECT goya.set_secret(%s, %s, %s)', n, v, h)) ~ expected, format('%s %s %s: %s', n, v, h, pg_temp.try('sct_ann', format('SELECT goya.set_secret(%s, %s, %s)', n, v, h))))
FROM (VALUES
    ('''a b''', '''canary-2718281''', '''{a.b}''', '^22023: bad name'), ('NULL', '''canary-2718281''', '''{a.b}''', '^22023: bad name'),
    ('''x''', 'NULL', '''{a.b}''', '^22023: bad value'), ('''x''', '''canary-''', '''{a.b}''', '^22023: bad value .* fewer than 8'), ('''x''', 'repeat(''canary-7'', 8193)', '''{a.b}''', '^22023: bad value .* more than 65536'),
    ('''x''', '''canary-2718281''', 'NULL', '^22023: bad hosts'), ('''x''', '''canary-2718281''', '''{}''', '^22023: bad hosts'), ('''x''', '''canary-2718281''', '''{NULL}''', '^22023: bad host'),
    ('''x''', '''canary-2718281''', '''{{a.b},{c.d}}''', '^22023: bad hosts'), ('''x''', '''canary-2718281''', 'array_fill(''a.b''::text, ARRAY[33])', '^22023: bad hosts')) f(n, v, h, expected);
SELECT ok(pg_temp.try('sct_ann', format('SELECT goya.set_secret(''x'', ''canary-2718281'', ARRAY[%L])', h)) ~ '^22023: bad host of a secret \| "', 'no host: ' || h)
FROM unnest('{"",*,*.,*.com,*.*.com,"*.1.2",a..b,.a.b,a b,a/b,a.b/c,user@a.b,a.b:,a.b:0,a.b:65536,a.b:1x,a.b:443:1,http://,https://,ftp://a.b,[],[::1,"[::g]",[::1]x,a*.b,"a,b",ä.example}'::text[]) h;
SELECT is(pg_temp.try('sct_ann', format('SELECT goya.set_secret(''h'', ''canary-2718281'', ARRAY[%L]) > 0', h)), 'true', 'a host: ' || h)
FROM unnest('{localhost,10.0.0.1,a-b.c_d.e,https://A.B:1,http://a.b:65535,"*.a.b",[2001:db8::1]:443}'::text[]) h;

-- ---- Nothing gives it back ----
SELECT is((SELECT count(*) FROM goya.secrets s, LATERAL (SELECT 1 WHERE s::text LIKE '%canary-%') x), 0::bigint, 'the value is not in goya.secrets');
SELECT is((SELECT count(*) FROM goya_private.secret_values v WHERE position('canary' IN encode(v.sealed, 'escape')) > 0), 0::bigint, 'nor in the sealed value');
SELECT is((SELECT count(DISTINCT v.sealed) FROM goya_private.secret_values v), (SELECT count(*) FROM goya_private.secret_values), 'no two are alike');
SELECT throws_ok(format('SELECT goya_private.open_sealed(%L, %L, %L, (SELECT sealed FROM goya_private.secret_values v WHERE v.tenant_id = %1$L AND v.name = ''openai''))', pg_temp.tenant('sct-a'), kind, E'openai\n2\napi.openai.com'),
    state, message, 'a superuser does not open it as ' || kind)
FROM (VALUES ('secret', '42501', 'secrets cannot be read'), ('key', '42501', 'secrets cannot be read'), ('prompt', 'XX001', 'a sealed value cannot be opened'), ('', '22023', 'bad kind of a sealed value')) f(kind, state, message);
SELECT is((SELECT string_agg(p.proname, ' ' ORDER BY p.proname COLLATE "C") FROM pg_proc p WHERE p.pronamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace)
           AND p.proargtypes::oid[] @> ARRAY['bytea'::regtype::oid] AND p.prolang = (SELECT l.oid FROM pg_language l WHERE l.lanname = 'c')), 'keyed_hash open_sealed rewrap sealed_with',
    'functions that take a sealed value are these four');
SELECT unalike(pg_temp.try('sct_ann', 'SELECT goya_private.open_sealed(NULL, NULL, NULL, NULL)'), 'null', 'nobody else may even call them');

-- ---- Sealed text ----
SELECT is(goya_private.open_sealed(goya.current_tenant(), 'prompt', 'row 7', goya_private.seal(goya.current_tenant(), 'prompt', 'row 7', x)), x, format('%s bytes are opened as they were', octet_length(x)))
FROM unnest(ARRAY['', 'x', 'Grüße, 世界', repeat('many words ', 100000)]) x;
SELECT is(goya_private.open_sealed('00000000-0000-7000-8000-000000000001', 'prompt', 'row 7', '\x474f5901026b316465666768696a6b6c6d6e6ffe11c457b1ecc4f6c9b5ca1a2c10c7fd72ee1cdb8efa5c51626786e40f57c4ccbe56dc4a618b48cfa67dd571758d47a9c8c9cacbcccdcecfd0d1d2d3560aa26745539e0c54d8a728f99367cafa95b39196739b1a210884bc817373'::bytea), 'Grüße, 世界', 'what another program sealed is opened: the format is as described');
SELECT is(goya_private.keyed_hash('00000000-0000-7000-8000-000000000001', 'pii', '\x474f5901026b316465666768696a6b6c6d6e6ffe11c457b1ecc4f6c9b5ca1a2c10c7fd72ee1cdb8efa5c51626786e40f57c4ccbe56dc4a618b48cfa67dd571758d47a9c8c9cacbcccdcecfd0d1d2d3167f66dc81cbfc27733b18b91901ec13e780ebaf036caf23eaae3ce6dd96aceef5a3ce64b81c28885c50e42195ca9145', 'ann@example.com'),
    '61b55fab9c26d32d104ec34ed67a68f9042c022638ba102c71aeabc6b760fe1d', 'and its keyed hash is what that program computes');
CREATE TEMP TABLE texts AS SELECT goya_private.seal(pg_temp.tenant('sct-a'), 'prompt', 'row 7', 'hello') AS sealed;
SELECT throws_ok(format('SELECT goya_private.open_sealed(%L, %L, %L, (SELECT sealed FROM texts))', pg_temp.tenant(t), k, r), 'XX001', 'a sealed value cannot be opened', format('moved to %s, %s, %s it is of no use', t, k, r))
FROM (VALUES ('sct-b', 'prompt', 'row 7'), ('sct-a', 'completion', 'row 7'), ('sct-a', 'prompt', 'row 8'), ('sct-a', 'promp', 'trow 7'), ('sct-a', 'prompt', '')) m(t, k, r);
CREATE FUNCTION pg_temp.open(sealed bytea) RETURNS text LANGUAGE sql AS $$ SELECT goya_private.open_sealed(pg_temp.tenant('sct-a'), 'prompt', 'row 7', sealed) $$;
CREATE FUNCTION pg_temp.outcome(sealed bytea) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN pg_temp.open(sealed); EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
SELECT is((SELECT string_agg(DISTINCT pg_temp.outcome(set_byte(sealed, i, get_byte(sealed, i) # 1)), ' ') FROM texts, generate_series(0, length(sealed) - 1) i WHERE i NOT BETWEEN 4 AND 6), 'XX001', 'any bit that was changed is noticed');
SELECT is((SELECT string_agg(DISTINCT pg_temp.outcome(substring(sealed FOR i)), ' ') FROM texts, generate_series(0, length(sealed) - 1) i), 'XX001', 'so is any that was cut');
SELECT is((SELECT pg_temp.outcome(sealed || '\x00'::bytea) FROM texts), 'XX001', 'or made longer');
SELECT throws_ok($$SELECT pg_temp.open(overlay(sealed PLACING '\x3953' FROM 6 FOR 2)) FROM texts$$, '55000', 'goya has no master key "9S"', 'a master key that is not here is named');
SELECT is(goya_private.encrypts_prompts(pg_temp.tenant('sct-a')), false, 'prompts are not sealed unless a tenant wants it');
UPDATE goya.tenants SET settings = settings || '{"encrypt_prompts": true}' WHERE name = 'sct-a';
SELECT is(array_agg(goya_private.encrypts_prompts(t.id) ORDER BY t.name), '{true,false}', 'and are where it does') FROM goya.tenants t WHERE t.name IN ('sct-a', 'sct-b');

-- ---- Values: inputs and outputs at rest ----
CREATE TEMP TABLE vals AS SELECT v AS plain, goya_private.seal_value(pg_temp.tenant('sct-a'), v) AS sealed FROM (VALUES
    ('{"p": "hello"}'::jsonb), ('null'), ('true'), ('[1, 2.50, "x", {"a": []}]'), ('"Grüße, 世界"'), (to_jsonb(repeat('many words ', 100000))), ('{"$sealed": "R09ZAQ"}')) x(v);
CREATE TEMP TABLE words AS SELECT w AS plain, goya_private.seal_text(pg_temp.tenant('sct-a'), w) AS sealed FROM unnest(ARRAY['', 'x', 'Grüße', 'null', '{"$sealed": "x"}', repeat('many words ', 100000)]) w;
GRANT SELECT ON vals, words TO PUBLIC;
SELECT is((SELECT count(*) FROM vals WHERE jsonb_typeof(sealed -> '$sealed') = 'string' AND sealed - '$sealed' = '{}' AND goya_private.value_key(sealed) = 'k1'), 7::bigint, 'values of a tenant that wants it are sealed');
SELECT is((SELECT count(*) FROM vals WHERE goya_private.value_key(goya_private.seal_value(pg_temp.tenant('sct-b'), plain)) IS NULL), 7::bigint, 'others are not');
SELECT is(pg_temp.try(r, 'SELECT bool_and(goya.open_value(sealed) = plain AND goya.open_value(sealed)::text = plain::text) FROM vals'), 'true', r || ' opens them as they were') FROM unnest('{sct_ann,sct_ben,sct_reader}'::text[]) r;
SELECT is(pg_temp.try('sct_ann', 'SELECT bool_and(goya.open_text(sealed) = plain AND sealed <> plain) FROM words'), 'true', 'and texts');
SELECT is(pg_temp.try('sct_other', 'SELECT (SELECT bool_and(goya.open_value(sealed) = sealed) FROM vals) AND (SELECT bool_and(goya.open_text(sealed) = sealed) FROM words)'), 'true', 'another tenant gets them back as they are');
SELECT is(pg_temp.try('sct_ann', 'SELECT goya.open_value(NULL) IS NULL AND goya.open_text(NULL) IS NULL'), 'true', 'null is null');
SELECT matches(pg_temp.try('sct_nobody', 'SELECT goya.open_value(sealed) FROM vals'), '^42501', 'not for somebody without a grant');
SELECT is(pg_temp.try('sct_ann', format('SELECT goya.open_value(%L)', v)), v, 'looks a bit like it: ' || v)
FROM unnest(ARRAY['{"a": 1}', '{"$sealed": 1}', '{"$sealed": ""}', '{"$sealed": "R09ZA"}', '{"$sealed": "R09ZA!!!!"}', '{"$sealed": "R09ZAQJrMQ=="}', '{"$sealed": {"$sealed": "R09ZAQ=="}}', '["$sealed"]', '"$sealed"', '1']) v;
SELECT is(pg_temp.try('sct_ann', 'SELECT bool_and(goya.open_value(sealed || ''{"x": 1}'') = sealed || ''{"x": 1}'') FROM vals'), 'true', 'with another key beside it, it is data');
SELECT is(pg_temp.try('sct_ann', format('SELECT goya.open_text(%L)', v)), v, 'a text that looks like it: ' || v)
FROM unnest(ARRAY['{"$sealed": "', '{"$sealed": "R09ZA', '{"$sealed": "R09ZAQ=="} ', '{"$sealed": "R09ZA"x"}', '{"$sealed": "R09ZA\u0041"}']) v;
-- Any character of it changed: it stays closed, or names a key that is not here.
CREATE FUNCTION pg_temp.opened(sealed jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN RETURN CASE goya_private.open_value(pg_temp.tenant('sct-a'), opened.sealed) WHEN opened.sealed THEN 'closed' ELSE 'opened' END; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $$;
SELECT is((SELECT string_agg(DISTINCT pg_temp.opened(jsonb_build_object('$sealed', overlay(s PLACING CASE substr(s, i, 1) WHEN 'b' THEN 'c' ELSE 'b' END FROM i FOR 1))), ' ')
           FROM (SELECT sealed ->> '$sealed' AS s FROM vals WHERE plain ? 'p') x, generate_series(1, length(s) - 3) i), '55000 closed', 'changed anywhere it does not open');
SELECT is((SELECT string_agg(DISTINCT pg_temp.opened(jsonb_build_object('$sealed', left(s, i))), ' ') FROM (SELECT sealed ->> '$sealed' AS s FROM vals WHERE plain ? 'p') x, generate_series(0, length(s) - 1) i), 'closed', 'nor cut');
SELECT is((SELECT pg_temp.opened(jsonb_build_object('$sealed', translate(encode(goya_private.seal(pg_temp.tenant('sct-a'), 'completion', '', '"x"'), 'base64'), E'\n', '')))), 'closed', 'what was sealed as something else is no value');
SELECT is(goya_private.open_value(pg_temp.tenant('sct-a'), jsonb_build_object('$sealed', translate(encode(goya_private.seal(pg_temp.tenant('sct-a'), 'value', '', '{"x": 1.0}'), 'base64'), E'\n', ''))), '{"x": 1.0}', 'the format is as described');
SELECT is(goya_private.keep_value(pg_temp.tenant('sct-a'), sealed), sealed, 'a copy is not sealed twice') FROM vals WHERE plain ? 'p';
SELECT is(goya_private.value_key(goya_private.keep_value(pg_temp.tenant('sct-a'), '1')), 'k1', 'a copy of what was not is');
UPDATE goya.tenants SET settings = settings - 'encrypt_prompts' WHERE name = 'sct-a';
SELECT is(goya_private.seal_value(pg_temp.tenant('sct-a'), '1'), '1', 'the setting counts at once, within the transaction too');
SELECT is(pg_temp.try('sct_ann', 'SELECT bool_and(goya.open_value(sealed) = plain) FROM vals'), 'true', 'what was sealed is opened whatever it says by now');

-- ---- Personal data ----
SELECT is(goya.redact_pii(given), wanted, given) FROM (VALUES
    ('write to Ann.B+x@mail.ex-ample.co.uk.', 'write to [email].'), ('<a@b.io>,c@d.org', '<[email]>,[email]'), ('邮箱a@b.cn。', '邮箱[email]。'), ('a@b, @c.de, a@.de, a@b.c, x@1.2.3.4', 'a@b, @c.de, a@.de, a@b.c, x@1.2.3.4'),
    ('+49 170 1234567', '[phone]'), ('call (555) 123-4567 now', 'call [phone] now'), ('555-123-4567', '[phone]'), ('1-800-555-0199', '[phone]'), ('13800138000', '[phone]'), ('138 0013 8000', '[phone]'), ('host 138.100.10.101', 'host 138.100.10.101'), ('0170/1234567', '[phone]'),
    ('4111 1111 1111 1111', '[card]'), ('4111-1111-1111-1111.', '[card].'), ('378282246310005', '[card]'), ('4111 1111 1111 1112', '4111 1111 1111 1112'),
    ('DE89 3704 0044 0532 0130 00 thanks', '[iban] thanks'), ('GB82WEST12345698765432', '[iban]'), ('DE89370400440532013001', 'DE89370400440532013001'),
    ('2024-01-15 10:30:00, 192.168.1.100, 1700000000, v1.2.3, 12,345,678', '2024-01-15 10:30:00, 192.168.1.100, 1700000000, v1.2.3, 12,345,678'),
    ('018f2c3e-7b1a-7c3d-9e4f-0123456789ab', '018f2c3e-7b1a-7c3d-9e4f-0123456789ab'), ('', '')) p(given, wanted);
SELECT is(pg_temp.try('sct_ann', $$SELECT goya.hash_pii(' Ann@Example.com ')$$), pg_temp.try('sct_reader', $$SELECT goya.hash_pii('ann@example.com')$$), 'a hash is the same for the same value');
SELECT matches(pg_temp.try('sct_ann', $$SELECT goya.hash_pii('ann@example.com')$$), '^[0-9a-f]{64}$', 'of 64 digits');
SELECT isnt(pg_temp.try('sct_other', $$SELECT goya.hash_pii('ann@example.com')$$), pg_temp.try('sct_ann', $$SELECT goya.hash_pii('ann@example.com')$$), 'and another one in another tenant');
SELECT set_config('test.hash', pg_temp.try('sct_ann', $$SELECT goya.hash_pii('ann@example.com')$$), false) \g /dev/null

-- ---- Deleting, administration ----
SELECT is(pg_temp.try('sct_other', $$SELECT goya.delete_secret('h')$$), 'PT404: secret not found | There is no secret "h" that role "sct_other" can see. | SELECT name FROM goya.secrets lists them.', 'another tenant deletes nothing');
SELECT is(pg_temp.try('sct_ann', $$SELECT goya.delete_secret('h')$$), '', 'a member deletes a secret');
SELECT is((SELECT count(*) FROM goya_private.secret_values v WHERE v.name = 'h'), 0::bigint, 'and its value is gone');
SELECT matches(pg_temp.try('sct_ann', 'SELECT ' || call), '^42501: permission denied', 'not for members: ' || call) FROM unnest('{goya.reseal_secrets(),goya.reseal_values(),goya.list_master_keys()}'::text[]) call;
SELECT is(pg_temp.try('sct_admin', 'SELECT goya.reseal_secrets()'), '0', 'all is sealed with the active key');
SELECT matches(pg_temp.try('sct_admin', format('SELECT goya.reseal_secrets(%s)', coalesce(n, 'NULL'))), '^22023: bad number of rows', coalesce(n, 'null') || ' rows') FROM unnest('{0,-1,NULL,1000001}'::text[]) n;
SELECT matches(pg_temp.try('sct_admin', format('SELECT goya.reseal_values(NULL, %s)', coalesce(n, 'NULL'))), '^22023: bad number of tasks', coalesce(n, 'null') || ' tasks') FROM unnest('{0,-1,NULL,1000001}'::text[]) n;
SELECT is_empty($$SELECT * FROM goya.check() WHERE code = 'secret_row'$$, 'goya.check() finds nothing');
DELETE FROM goya_private.secret_values v WHERE v.tenant_id = pg_temp.tenant('sct-b');
UPDATE goya.secrets s SET key_id = 'k9' WHERE s.tenant_id = pg_temp.tenant('sct-a');
INSERT INTO goya_private.secret_values SELECT tenant_id, 'stray', sealed FROM goya_private.secret_values LIMIT 1;
SELECT bag_eq($$SELECT detail FROM goya.check() WHERE code = 'secret_row'$$,
    $$VALUES ('Secret "openai" has no value.'), ('Secret "openai" is sealed with key "k1", not "k9".'), ('Secret "stray" is not there, and its value is.')$$, 'it finds what is wrong');
SELECT is(pg_temp.try('sct_admin', $$SELECT string_agg(concat_ws(' ', key_id, active, present, sealed_values), ', ') FROM goya.list_master_keys() WHERE key_id <> 'k1'$$), 'k9 f f 1', 'a key that is not here is listed as such');
SELECT is(pg_temp.health(), 'error | Values are sealed with keys that are not here: "k9" (1). They cannot be opened. | Put their lines back', 'and by goya.health()');
ROLLBACK;

-- ---- Another master key ----
BEGIN;
CREATE ROLE sct_ann; GRANT goya_user TO sct_ann;
SET LOCAL ROLE sct_ann;
SELECT goya.set_secret('first', 'canary-3141592', ARRAY['a.example.com']), goya.hash_pii('x') \g /dev/null
COMMIT;
-- Values of tasks that ended, of one that has not, and one that a user has made up to look like it.
UPDATE goya.tenants SET settings = settings || '{"encrypt_prompts": true}' WHERE name = 'default';
INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, status, run_as, trace_id, input, output)
SELECT ('7fffffff-0000-7000-8000-00000000000' || n)::uuid, goya.current_tenant(), goya.new_id(), 1, status::goya.task_status, 'sct_ann', n::text, goya_private.seal_value(goya.current_tenant(), to_jsonb(n)),
       CASE n WHEN 3 THEN overlay(goya_private.seal_value(goya.current_tenant(), '"x"')::text PLACING 'AAAA' FROM 40)::jsonb WHEN 1 THEN to_jsonb(n) END
FROM (VALUES (1, 'succeeded'), (2, 'waiting'), (3, 'failed')) t(n, status);
INSERT INTO goya.node_runs (task_id, node, item, attempt, tenant_id, status, seq, input, output)
SELECT t.id, 'a', 0, 1, t.tenant_id, 'succeeded', 1, t.input, t.input FROM goya.tasks t WHERE t.run_as = 'sct_ann';
UPDATE goya.tenants SET settings = settings - 'encrypt_prompts' WHERE name = 'default';
SELECT set_config('test.hash', goya.hash_pii('x'), false), set_config('test.sealed', sealed::text, false) FROM goya_private.secret_values WHERE name = 'first' \g /dev/null
\set wanted '/bin/printf #\\040new\\n\\nk2\\040ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\\nk1\\04000112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\\n'
ALTER SYSTEM SET goya.master_key_command = :'wanted';
SELECT pg_reload_conf() \g /dev/null
\ir lib/reloaded.psql
SELECT results_eq($$SELECT key_id, active, present, sealed_values FROM goya.list_master_keys()$$, $$VALUES ('k2', true, true, 0::bigint), ('k1', false, true, 11)$$, 'the first key is the active one');
SELECT results_eq($$SELECT key_id, active, present, sealed_values FROM goya.list_master_keys(false)$$, $$VALUES ('k2', true, true, 0::bigint), ('k1', false, true, 2)$$, 'values are counted on demand');
SELECT is(goya.hash_pii('x'), current_setting('test.hash'), 'what the older one sealed is still opened');
SELECT is(pg_temp.health(), 'ok | Key "k2" seals; 2 values are sealed.', 'all is well');
SELECT is((SELECT goya.reseal_secrets(1)), 1, 'one value is sealed again');
SELECT is((SELECT goya.reseal_secrets()), 1, 'then the other');
SELECT is((SELECT goya.reseal_secrets()), 0, 'then none');
SELECT results_eq($$SELECT key_id, sealed_values FROM goya.list_master_keys()$$, $$VALUES ('k2', 2::bigint), ('k1', 9)$$, 'values of tasks are still sealed with the old one');
SELECT results_eq($$SELECT last_task::text, resealed FROM goya.reseal_values('7fffffff-0000-7000-8000-000000000000', 1)$$, $$VALUES ('7fffffff-0000-7000-8000-000000000001', 2::bigint)$$, 'those of one task are sealed again');
SELECT results_eq($$SELECT last_task::text, resealed FROM goya.reseal_values('7fffffff-0000-7000-8000-000000000001', 9)$$, $$VALUES ('7fffffff-0000-7000-8000-000000000003', 2::bigint)$$, 'then of the others that have ended');
SELECT results_eq($$SELECT last_task::text, resealed FROM goya.reseal_values('7fffffff-0000-7000-8000-000000000003')$$, $$VALUES (NULL::text, 0::bigint)$$, 'then there are no more');
SELECT results_eq($$SELECT key_id, sealed_values FROM goya.list_master_keys()$$, $$VALUES ('k2', 8::bigint), ('k1', 3)$$, 'what has not ended is left');
UPDATE goya.tasks SET status = 'cancelled' WHERE id = '7fffffff-0000-7000-8000-000000000002';
SELECT is((SELECT resealed FROM goya.reseal_values('7fffffff-0000-7000-8000-000000000000')), 2::bigint, 'until it has');
SELECT results_eq($$SELECT key_id, sealed_values FROM goya.list_master_keys()$$, $$VALUES ('k2', 11::bigint), ('k1', 0)$$, 'what a user has made up does not count, and stops nothing');
SELECT is((SELECT string_agg(goya.open_value(t.input)::text, ' ' ORDER BY t.id) FROM goya.tasks t WHERE t.run_as = 'sct_ann'), '1 2 3', 'all open');
DELETE FROM goya.node_runs r USING goya.tasks t WHERE t.id = r.task_id AND t.run_as = 'sct_ann';
DELETE FROM goya.tasks WHERE run_as = 'sct_ann';
SELECT isnt((SELECT sealed::text FROM goya_private.secret_values WHERE name = 'first'), current_setting('test.sealed'), 'they are not the same bytes');
\set wanted '/bin/echo k2 ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff'
ALTER SYSTEM SET goya.master_key_command = :'wanted';
SELECT pg_reload_conf() \g /dev/null
\ir lib/reloaded.psql
SELECT results_eq($$SELECT key_id, active, present, sealed_values FROM goya.list_master_keys()$$, $$VALUES ('k2', true, true, 2::bigint)$$, 'the old key may go');
SELECT is(goya.hash_pii('x'), current_setting('test.hash'), 'and the hashes are what they were');
SELECT is_empty($$SELECT * FROM goya.check() WHERE code = 'secret_row'$$, 'goya.check() finds nothing');
SELECT goya.delete_secret('first') \g /dev/null
DELETE FROM goya_private.tenant_keys;
DROP OWNED BY sct_ann;
DROP ROLE sct_ann;

ALTER SYSTEM RESET goya.master_key_command;
SELECT pg_reload_conf() \g /dev/null
\set wanted ''
\ir lib/reloaded.psql
SELECT throws_ok($$SELECT goya.hash_pii('x')$$, '55000', 'goya has no master key', 'a key that was taken away is gone from a running session');
SELECT * FROM finish();
