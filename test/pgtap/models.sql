-- models.sql: the registry of models, profiles, prices, prompts. What calls of models do is tested elsewhere.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT no_plan();

CREATE ROLE regress_models; CREATE ROLE regress_models_reader; CREATE ROLE regress_models_other;
GRANT goya_user TO regress_models, regress_models_reader, regress_models_other;
SELECT goya.create_tenant('regress-models'), goya.create_tenant('regress-models-b') \g /dev/null
SELECT goya.add_member('regress_models', 'regress-models'), goya.add_member('regress_models_reader', 'regress-models', 'reader'), goya.add_member('regress_models_other', 'regress-models-b') \g /dev/null
SELECT goya.set_price('regress-tokens', 3000, 'token_in', 1000), goya.set_price('regress-tokens', 9000, 'token_out', 1000), goya.set_price('regress-tokens', 1000, 'token_in', 1000, tenant => 'regress-models') \g /dev/null
CREATE FUNCTION pg_temp.try(statement text, role name DEFAULT 'regress_models') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    detail text;
BEGIN
    PERFORM set_config('role', try.role, true);
    EXECUTE statement INTO result;
    PERFORM set_config('role', 'none', true);
    RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' ', SQLSTATE || ':', SQLERRM, detail);
END $$;

-- ---- models ----
SELECT unalike(pg_temp.try($$SELECT goya.create_model('small', 'http://127.0.0.1:8080/v1/')$$), '_____: %', 'a model of few words');
SELECT unalike(pg_temp.try($$SELECT goya.create_model('writer', 'https://ai.example/v1', 'llama-3:8b', 'ai-key', '{chat,vision,tools,json_schema,stream}', '{"temperature": 0.7}', 8192, 60, 100000, 4, '90 s',
    'regress-tokens', '{small}', description => 'writes')$$), '_____: %', 'and of many');
SELECT is((SELECT format('%s %s %s %s', m.endpoint, m.remote_model, m.capabilities, m.status) FROM goya.models m WHERE m.name = 'small'), 'http://127.0.0.1:8080/v1 small {chat} active', 'what was not said has its default');
SELECT matches(pg_temp.try(format('SELECT goya.create_model(%s)', a)), e, a) FROM (VALUES
    ('''small'', ''http://x''', '^23505'), ('''bad name'', ''http://x''', '^22023.*is not a name'), ('NULL, ''http://x''', '^22023'), ('''m'', ''ftp://x''', '^22023.*no http:// or https://'),
    ('''m'', ''http://x'', capabilities => ''{telepathy}''', '^22023.*capabilities are some of'), ('''m'', ''http://x'', capabilities => ''{}''', '^22023'), ('''m'', ''http://x'', parameters => ''[]''', '^22023.*not an object'),
    ('''m'', ''http://x'', max_concurrency => 0', '^22023.*at least 1'), ('''m'', ''http://x'', timeout => ''2 h''', '^22023.*timeout'), ('''m'', ''http://x'', fallback_models => ''{m}''', '^22023.*no other model "m"'),
    ('''m'', ''http://x'', fallback_models => ''{nix,small}''', '^22023.*no other model "nix"'), ('''m'', ''http://x'', provider => ''Big Corp''', '^22023.*provider'), ('''m'', ''http://x'', visibility => ''public''', '^42501'),
    ('''m'', ''http://x'', visibility => ''role''', '^22023')) v(a, e);
SELECT is(pg_temp.try($$SELECT goya.update_model('writer', '{"max_concurrency": null, "timeout": "5 s", "capabilities": ["chat"], "endpoint": "https://b.example/v1/"}', 1)$$), '2', 'some columns change');
SELECT is((SELECT format('%s %s %s %s %s', m.max_concurrency, m.timeout, m.capabilities, m.endpoint, m.requests_per_minute) FROM goya.models m WHERE m.name = 'writer'), ' 00:00:05 {chat} https://b.example/v1 60', 'the others do not');
SELECT matches(pg_temp.try(format('SELECT goya.update_model(''writer'', %s)', a)), e, a) FROM (VALUES ('''{"name": "x"}''', '^22023.*nothing to change as "name"'), ('''{"max_concurrency": "many"}''', '^22023'), ('''[]''', '^22023'),
    ('''{"timeout": "5 s"}'', 1', '^PT409'), ('''{"fallback_models": ["writer"]}''', '^22023'), ('''{"endpoint": null}''', '^22023')) v(a, e);
SELECT is(pg_temp.try($$SELECT goya.set_model_status('writer', 'disabled')$$), '', 'a model is disabled');
SELECT is((SELECT m.status FROM goya.models m WHERE m.name = 'writer'), 'disabled', 'and says so');
SELECT matches(pg_temp.try($$SELECT goya.set_model_status('writer', 'asleep')$$), '^22023', 'not put to sleep');
SELECT matches(pg_temp.try($$SELECT goya.drop_model('small')$$), '^23503.*Of "writer"', 'a fallback is not dropped');

-- ---- profiles, prices ----
SELECT is(pg_temp.try($$SELECT goya.set_model_profile('writer', 'precise', '{"temperature": 0.1}')$$) || pg_temp.try($$SELECT goya.set_model_profile('writer', 'precise', '{"temperature": 0.2, "top_p": 0.5}')$$)
, '', 'a profile is made and changed');
SELECT is((SELECT string_agg(p.parameters::text, ' ') FROM goya.model_profiles p), '{"top_p": 0.5, "temperature": 0.2}', 'to what was said last');
SELECT matches(pg_temp.try($$SELECT goya.set_model_profile('writer', 'precise', '5')$$), '^22023', 'its parameters are an object');
SELECT unalike(pg_temp.try($$SELECT goya.create_workflow('ask', '{"nodes": [{"key": "a", "kind": "ai_model", "model": "writer", "prompt": "hello", "parameters": {"profile": "precise", "top_p": 1}}, {"key": "b", "kind": "ai_model", "model": "small", "prompt": "x"}]}', publish => true)$$),
    '_____: %', 'a workflow that asks models');
SELECT is((SELECT jsonb_path_query_array(r.resolved, '$.nodes[*] ? (@.key == "a").parameters')::text || (r.resolved #>> '{nodes,0,price}') || coalesce(r.resolved #>> '{nodes,1,price}', ' none')
           FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id WHERE w.name = 'ask'), '[{"top_p": 1, "temperature": 0.2}]regress-tokens none', 'publishing pins the profile and the price');
SELECT matches(pg_temp.try($$SELECT goya.create_workflow('ask2', '{"nodes": [{"key": "a", "kind": "ai_model", "model": "writer", "prompt": "hello", "parameters": {"profile": "nix"}}]}', publish => true)$$), '^PT404', 'an unknown profile is not published');
SELECT is(pg_temp.try($$SELECT goya.update_model('writer', '{"provider": "acme"}')$$) , '4', 'a model is of a provider');
SELECT matches(pg_temp.try(format($$SELECT goya.create_workflow('of %s', jsonb_build_object('nodes', jsonb_build_array('{"key": "a", "kind": "ai_model", "model": "writer", "prompt": "x"}'::jsonb || %L)), publish => true)$$, n, more)), e, more)
FROM (VALUES (1, '{"provider": "acme"}', '^[0-9a-f-]{36}$'), (2, '{"provider": "other"}', '^22023: no model "writer" of provider "other" Node "a" asks for it; the model of that name is of provider "acme"'),
    (3, '{"provider": "{{ input.who }}"}', '^[0-9a-f-]{36}$'), (4, '{"provider": "acme", "model": "to come"}', '^[0-9a-f-]{36}$'), (5, '{"provider": 5}', '^22023.*/provider'),
    (6, '{"kind": "agent", "provider": "other"}', '^22023: no model'), (7, '{"kind": "agent", "provider": "acme"}', '^[0-9a-f-]{36}$')) v(n, more, e);
SELECT is((SELECT r.resolved #>> '{nodes,0,price}' FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id WHERE w.name = 'of 1'), 'regress-tokens', 'the price is that of the provider''s model');
SELECT is(pg_temp.try($$SELECT string_agg(format('%s %s %s/%s', p.model, p.unit, p.amount, p.per_units), ', ' ORDER BY p.model, p.unit) FROM goya.model_prices p WHERE p.effective_at <= now() OR p.unit IS NULL$$),
    (SELECT string_agg(format('%s %s %s/%s', v.m, v.u, v.a, v.p), ', ') FROM (VALUES ('small', '', '', ''), ('writer', 'token_in', '1000', '1000'), ('writer', 'token_out', '9000', '1000')) v(m, u, a, p)), 'models are listed with the prices in force, the tenant''s own first')
WHERE now() >= (SELECT max(effective_at) FROM goya.prices WHERE name = 'regress-tokens');
SELECT is(pg_temp.try($$SELECT goya.drop_model_profile('writer', 'precise')$$), '', 'a profile goes');
SELECT matches(pg_temp.try($$SELECT goya.drop_model_profile('writer', 'precise')$$), '^PT404', 'once');

-- ---- prompts ----
SELECT is(pg_temp.try($$SELECT goya.set_prompt('summary', 'Sum up: {{ text }}', 'Be brief.', '{"required": ["text"]}')$$), '1', 'a prompt');
SELECT is(pg_temp.try($$SELECT goya.set_prompt('summary', 'Sum up: {{ text }}', 'Be brief.', '{"required": ["text"]}', 'again')$$), '1', 'the same again is the same version');
SELECT is(pg_temp.try($$SELECT goya.set_prompt('summary', 'In short: {{ text }}')$$), '2', 'another text is the next');
SELECT is(pg_temp.try($$SELECT template FROM goya.get_prompt('summary')$$) || pg_temp.try($$SELECT system FROM goya.get_prompt('summary', 1)$$), 'In short: {{ text }}Be brief.', 'both are there');
SELECT matches(pg_temp.try(format('SELECT goya.%s', a)), e, a) FROM (VALUES ('set_prompt(''1x'', ''x'')', '^22023'), ('set_prompt(''x'', '''')', '^22023'), ('set_prompt(''x'', ''y'', variables => ''{"type": 5}'')', '^22023'),
    ('get_prompt(''summary'', 3)', '^PT404'), ('get_prompt(''nix'')', '^PT404'), ('drop_prompt(''nix'')', '^PT404')) v(a, e);

-- ---- who may ----
SELECT matches(pg_temp.try(format('SELECT goya.%s', a), 'regress_models_reader'), '^42501', 'a reader may not: ' || a)
FROM unnest(ARRAY['create_model(''m'', ''http://x'')', 'update_model(''writer'', ''{}'')', 'drop_model(''writer'')', 'set_prompt(''a'', ''b'')', 'test_model(''writer'')', 'set_model_profile(''writer'', ''p'', ''{}'')']) a;
SELECT is(pg_temp.try($$SELECT template FROM goya.get_prompt('summary')$$, 'regress_models_reader'), 'In short: {{ text }}', 'but read');
SELECT matches(pg_temp.try(format('SELECT goya.%s', a), 'regress_models_other'), '^PT404', 'of another tenant there is nothing: ' || a)
FROM unnest(ARRAY['update_model(''writer'', ''{}'')', 'drop_model(''writer'')', 'get_prompt(''summary'')', 'test_model(''writer'')', 'drop_model_profile(''writer'', ''p'')']) a;
SELECT is(pg_temp.try($$SELECT count(*) FROM goya.models$$, 'regress_models_other'), '0', 'nor to see');
SELECT unalike(pg_temp.try($$SELECT goya.create_model('secret', 'http://x', visibility => 'private')$$), '_____: %', 'a private model');
SELECT is(pg_temp.try($$SELECT string_agg(name, ' ' ORDER BY name) FROM goya.models$$, 'regress_models_reader'), 'small writer', 'is its owner''s');

-- ---- a connection test is a task that costs nothing ----
SELECT matches(pg_temp.try($$SELECT goya.test_model('writer')$$), '^[0-9a-f-]{36}$', 'it starts');
SELECT is((SELECT (r.resolved #> '{nodes,0}') - '{key,timeout}'::text[] FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id WHERE w.name = '~trial model writer'),
    '{"kind": "ai_model", "model": "writer", "fallback": [], "messages": [{"role": "user", "content": "Say OK."}], "parameters": {"max_tokens": 8}}', 'a few tokens, no fallback, no price');
SELECT unalike(pg_temp.try($$SELECT goya.create_model('vectors', 'http://x', capabilities => '{embedding}')$$), '_____: %', 'a model that embeds');
SELECT matches(pg_temp.try($$SELECT goya.test_model('vectors')$$), '^[0-9a-f-]{36}$', 'is tested');
SELECT is((SELECT r.resolved #>> '{nodes,0,operation}' FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id WHERE w.name = '~trial model vectors'), 'embedding', 'with what it does');
SELECT is(pg_temp.try($$SELECT goya.drop_model('writer')$$) || pg_temp.try($$SELECT goya.drop_model('small')$$), '', 'models go');
SELECT is_empty($$SELECT code, detail FROM goya.check() WHERE code IN ('model_row', 'profile_row', 'prompt_row', 'stand_in_row')$$, 'goya.check() finds nothing');

SELECT * FROM finish();
ROLLBACK;
