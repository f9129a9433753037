-- 33_algorithms.sql: intents above operators, what implements them, how good that is, and which one to take.
--
-- Decided: a node {"kind": "algorithm", "algorithm": "detect.people", "policy": "low_cost"} becomes, when its workflow is published, a node of kind workflow with the
-- list of candidates: the workflows of one node that stand for the operators (33_operator_trials.sql). When the node runs, one of them is chosen, and started as a
-- child task; so what is chosen is seen, charged and retried as any child, whatever its mode, and measuring is looking at those children. A revision pins which candidates
-- there are; which of them is taken is decided again at each run, from the newest figures. Disabling an implementation takes it out at once, everywhere.
-- Figures: what was measured in the last 100 runs, five at least; else what was evaluated; else what was declared. Quality cannot be measured by running: it is evaluated or declared.
-- Candidates more than half of whose runs failed come last whatever the policy.
--   stable        fewest failures, then quality, then latency
--   high_quality  quality, then failures, then latency
--   low_cost      cost, then failures, then quality
-- Must hold: choosing never fails while there is a candidate.

CREATE TRIGGER algorithms_bump BEFORE UPDATE ON goya.algorithms FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();

CREATE FUNCTION goya_private.lock_algorithm(name text) RETURNS goya.algorithms
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    a      goya.algorithms;
BEGIN
    SELECT x.* INTO a FROM goya.algorithms x WHERE x.tenant_id = tenant AND x.name = lock_algorithm.name FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('algorithm', lock_algorithm.name, 'SELECT name FROM goya.algorithms lists them.');
    END IF;
    RETURN a;
END;
$$;

CREATE FUNCTION goya_private.refuse_unknown_version(a goya.algorithms, version integer) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT EXISTS (SELECT FROM goya.algorithm_versions v WHERE v.tenant_id = a.tenant_id AND v.algorithm = a.name AND v.version = refuse_unknown_version.version) THEN
        PERFORM goya_private.not_found('algorithm version', a.name || '@' || refuse_unknown_version.version, 'SELECT algorithm, version FROM goya.algorithm_versions lists them.');
    END IF;
END;
$$;

CREATE FUNCTION goya.create_algorithm(name text, input_schema jsonb DEFAULT '{}', output_schema jsonb DEFAULT '{}', description text DEFAULT '',
    policy text DEFAULT 'stable') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    made   uuid := goya.new_id();
BEGIN
    PERFORM goya_private.check_name('algorithm', create_algorithm.name, 'detect.people');
    PERFORM goya_private.check_word('policy', create_algorithm.policy, '{stable,high_quality,low_cost}');
    PERFORM goya.check_schema(coalesce(create_algorithm.input_schema, '{}'), 'null');
    PERFORM goya.check_schema(coalesce(create_algorithm.output_schema, '{}'), 'null');
    INSERT INTO goya.algorithms (id, tenant_id, name, description, policy, owner_role)
    VALUES (made, tenant, create_algorithm.name, coalesce(create_algorithm.description, ''), create_algorithm.policy, goya.current_caller())
    ON CONFLICT (tenant_id, name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('algorithm "%s" already exists', create_algorithm.name),
            HINT = 'goya.add_algorithm_version gives it a new version.';
    END IF;
    INSERT INTO goya.algorithm_versions (tenant_id, algorithm, version, input_schema, output_schema)
    VALUES (tenant, create_algorithm.name, 1, coalesce(create_algorithm.input_schema, '{}'), coalesce(create_algorithm.output_schema, '{}'));
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.create_algorithm(text, jsonb, jsonb, text, text) IS
'Makes an algorithm, an intent such as detect.people, with version 1, and returns its id; goya.add_implementation says which operators do it.
Schemas are what every implementation takes and gives. policy, of nodes that say none: stable (fewest failures), high_quality, low_cost.
Errors: 22023 bad name, policy or schema, 23505 the name is taken, 42501 no tenant or reader.';

CREATE FUNCTION goya.add_algorithm_version(name text, input_schema jsonb DEFAULT NULL, output_schema jsonb DEFAULT NULL, note text DEFAULT '',
    activate boolean DEFAULT true) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a      goya.algorithms := goya_private.lock_algorithm(add_algorithm_version.name);
    newest goya.algorithm_versions;
BEGIN
    PERFORM goya.check_schema(coalesce(add_algorithm_version.input_schema, '{}'), 'null');
    PERFORM goya.check_schema(coalesce(add_algorithm_version.output_schema, '{}'), 'null');
    SELECT v.* INTO newest FROM goya.algorithm_versions v WHERE v.tenant_id = a.tenant_id AND v.algorithm = a.name ORDER BY v.version DESC LIMIT 1;
    INSERT INTO goya.algorithm_versions (tenant_id, algorithm, version, input_schema, output_schema, note)
    VALUES (a.tenant_id, a.name, newest.version + 1, coalesce(add_algorithm_version.input_schema, newest.input_schema),
            coalesce(add_algorithm_version.output_schema, newest.output_schema), coalesce(add_algorithm_version.note, ''));
    IF add_algorithm_version.activate THEN
        UPDATE goya.algorithms x SET active_version = newest.version + 1 WHERE x.id = a.id;
    END IF;
    RETURN newest.version + 1;
END;
$$;
COMMENT ON FUNCTION goya.add_algorithm_version(text, jsonb, jsonb, text, boolean) IS
'Adds a version to an algorithm, a changed contract, activates it unless told not to, and returns its number. It has no implementations yet.
Errors: PT404 unknown algorithm, 22023 bad schema, 42501 no tenant or reader.';

CREATE FUNCTION goya.activate_algorithm_version(name text, version integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a goya.algorithms := goya_private.lock_algorithm(activate_algorithm_version.name);
BEGIN
    PERFORM goya_private.refuse_unknown_version(a, activate_algorithm_version.version);
    UPDATE goya.algorithms x SET active_version = activate_algorithm_version.version WHERE x.id = a.id;
END;
$$;
COMMENT ON FUNCTION goya.activate_algorithm_version(text, integer) IS
'Chooses the version of an algorithm that workflows published from now on get when they name none.
Errors: PT404 unknown algorithm or version, 42501 no tenant or reader.';

CREATE FUNCTION goya.add_implementation(algorithm text, operator text, operator_version integer DEFAULT NULL, tier text DEFAULT 'standard', cost bigint DEFAULT 0,
    latency_ms integer DEFAULT 0, quality double precision DEFAULT 0.5, version integer DEFAULT NULL, enabled boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a  goya.algorithms := goya_private.lock_algorithm(add_implementation.algorithm);
    op goya.operators := goya_private.lock_operator(add_implementation.operator);
    v  goya.operator_versions;
    wanted integer := coalesce(add_implementation.version, a.active_version);
    problem text := CASE
        WHEN add_implementation.quality IS NULL OR add_implementation.quality NOT BETWEEN 0 AND 1 THEN 'quality is a number from 0 to 1.'
        WHEN add_implementation.cost IS NULL OR add_implementation.cost < 0 THEN 'cost is nano-units, 0 or more.'
        WHEN add_implementation.latency_ms IS NULL OR add_implementation.latency_ms < 0 THEN 'latency_ms is 0 or more.'
        WHEN coalesce(add_implementation.tier, '') = '' THEN 'tier is a word.' END;
BEGIN
    PERFORM goya_private.refuse_unknown_version(a, wanted);
    v := goya_private.find_operator_version(op, coalesce(add_implementation.operator_version, op.active_version));
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad implementation', DETAIL = problem, HINT = 'goya.record_evaluation adds what was measured.';
    END IF;
    IF v.status <> 'published' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('version %s of operator "%s" is not published', v.version, op.name),
            DETAIL = format('It is %s.', v.status), HINT = 'goya.publish_operator publishes it.';
    END IF;
    INSERT INTO goya.algorithm_implementations AS i (tenant_id, algorithm, version, operator, operator_version, tier, cost, latency_ms, quality, enabled)
    VALUES (a.tenant_id, a.name, wanted, op.name, v.version, add_implementation.tier, add_implementation.cost, add_implementation.latency_ms,
            add_implementation.quality, coalesce(add_implementation.enabled, true))
    ON CONFLICT (tenant_id, algorithm, version, operator, operator_version) DO UPDATE
    SET tier = excluded.tier, cost = excluded.cost, latency_ms = excluded.latency_ms, quality = excluded.quality, enabled = excluded.enabled;
END;
$$;
COMMENT ON FUNCTION goya.add_implementation(text, text, integer, text, bigint, integer, double precision, integer, boolean) IS
'Says that a published version of an operator (the active one unless named) does what a version of an algorithm asks for; again, and the figures are changed.
tier: standard, premium or any word a node may ask for. cost: nano-units of a call, latency_ms, quality from 0 to 1: as declared, until something is measured. Workflows
published before do not get it; with enabled false none chooses it any more, those published before neither.
Errors: PT404 unknown algorithm, version or operator; 22023 bad figure; 55000 the operator is not published; 42501 no tenant or reader.';

CREATE FUNCTION goya.drop_implementation(algorithm text, operator text, operator_version integer, version integer DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a goya.algorithms := goya_private.lock_algorithm(drop_implementation.algorithm);
BEGIN
    DELETE FROM goya.algorithm_evaluations e
    WHERE e.tenant_id = a.tenant_id AND e.algorithm = a.name AND e.version = coalesce(drop_implementation.version, a.active_version)
          AND e.operator = drop_implementation.operator AND e.operator_version = drop_implementation.operator_version;
    DELETE FROM goya.algorithm_implementations i
    WHERE i.tenant_id = a.tenant_id AND i.algorithm = a.name AND i.version = coalesce(drop_implementation.version, a.active_version)
          AND i.operator = drop_implementation.operator AND i.operator_version = drop_implementation.operator_version;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('implementation', format('%s by %s@%s', a.name, drop_implementation.operator, drop_implementation.operator_version),
                                       'SELECT * FROM goya.algorithm_implementations lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_implementation(text, text, integer, integer) IS
'Removes an implementation of an algorithm with its evaluations.
Published workflows keep it as a candidate; to take it out there too, disable it (goya.add_implementation).
Errors: PT404 unknown algorithm or implementation, 42501 no tenant or reader.';

CREATE FUNCTION goya.record_evaluation(algorithm text, operator text, operator_version integer, quality double precision DEFAULT NULL,
    latency_ms double precision DEFAULT NULL, cost bigint DEFAULT NULL, samples integer DEFAULT 1, data jsonb DEFAULT '{}', version integer DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a    goya.algorithms := goya_private.lock_algorithm(record_evaluation.algorithm);
    made uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM goya.algorithm_implementations i
                   WHERE i.tenant_id = a.tenant_id AND i.algorithm = a.name AND i.version = coalesce(record_evaluation.version, a.active_version)
                     AND i.operator = record_evaluation.operator AND i.operator_version = record_evaluation.operator_version) THEN
        PERFORM goya_private.not_found('implementation', format('%s by %s@%s', a.name, record_evaluation.operator, record_evaluation.operator_version),
                                       'SELECT * FROM goya.algorithm_implementations lists them.');
    END IF;
    IF num_nonnulls(record_evaluation.quality, record_evaluation.latency_ms, record_evaluation.cost) = 0 OR record_evaluation.quality NOT BETWEEN 0 AND 1
       OR record_evaluation.latency_ms < 0 OR record_evaluation.cost < 0 OR coalesce(record_evaluation.samples, 0) < 1 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad evaluation',
            DETAIL = 'quality is a number from 0 to 1, latency_ms and cost are 0 or more, samples 1 or more; one figure at least is there.',
            HINT = 'Leave out what was not measured.';
    END IF;
    INSERT INTO goya.algorithm_evaluations (tenant_id, algorithm, version, operator, operator_version, quality, latency_ms, cost, samples, data, evaluated_by)
    VALUES (a.tenant_id, a.name, coalesce(record_evaluation.version, a.active_version), record_evaluation.operator, record_evaluation.operator_version,
            record_evaluation.quality, record_evaluation.latency_ms, record_evaluation.cost, record_evaluation.samples, coalesce(record_evaluation.data, '{}'),
            goya.current_caller())
    RETURNING id INTO made;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.record_evaluation(text, text, integer, double precision, double precision, bigint, integer, jsonb, integer) IS
'Records what an implementation of an algorithm was measured to be, and returns the evaluation''s id; it counts from the next choice on.
quality from 0 to 1, latency_ms, cost in nano-units: null what was not measured. samples: how many the figures are means of; means of evaluations are weighted by it. data:
the data set, the metric, whatever explains the figures.
Errors: PT404 unknown algorithm or implementation, 22023 no or bad figures, 42501 no tenant or reader.';

-- ---- choosing ----

-- Candidates [{"operator", "operator_version", "tier", "cost", "latency_ms", "quality", "workflow", "revision"}] in the order of the policy, with the figures that count.
CREATE FUNCTION goya_private.rank_candidates(tenant_id uuid, algorithm text, version integer, candidates jsonb, policy text,
    OUT place integer, OUT operator text, OUT operator_version integer, OUT workflow_id uuid, OUT revision integer, OUT tier text,
    OUT cost double precision, OUT latency_ms double precision, OUT quality double precision, OUT failure_share double precision, OUT runs integer, OUT source text)
    RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 5 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH listed AS (
            SELECT c.*, e.ordinality
            FROM jsonb_array_elements(rank_candidates.candidates) WITH ORDINALITY AS e (value, ordinality)
            CROSS JOIN LATERAL jsonb_to_record(e.value)
                AS c (operator text, operator_version integer, tier text, cost double precision, latency_ms double precision, quality double precision, workflow uuid, revision integer)),
        figures AS (
            SELECT l.*, r.runs, r.failed, r.latency_ms AS ran_latency, r.cost AS ran_cost, e.quality AS seen_quality, e.latency_ms AS seen_latency, e.cost AS seen_cost,
                   coalesce(i.enabled, true) AS enabled
            FROM listed l
            LEFT JOIN goya.algorithm_implementations i ON i.tenant_id = rank_candidates.tenant_id AND i.algorithm = rank_candidates.algorithm
                 AND i.version = rank_candidates.version AND i.operator = l.operator AND i.operator_version = l.operator_version
            LEFT JOIN LATERAL (
                SELECT sum(x.quality * x.samples) / sum(x.samples) FILTER (WHERE x.quality IS NOT NULL) AS quality,
                       sum(x.latency_ms * x.samples) / sum(x.samples) FILTER (WHERE x.latency_ms IS NOT NULL) AS latency_ms,
                       sum(x.cost * x.samples)::double precision / sum(x.samples) FILTER (WHERE x.cost IS NOT NULL) AS cost
                FROM goya.algorithm_evaluations x
                WHERE x.tenant_id = rank_candidates.tenant_id AND x.algorithm = rank_candidates.algorithm AND x.version = rank_candidates.version
                  AND x.operator = l.operator AND x.operator_version = l.operator_version) e ON true
            LEFT JOIN LATERAL (
                SELECT count(*)::integer AS runs, count(*) FILTER (WHERE t.status = 'failed')::integer AS failed,
                       avg(extract(epoch FROM t.finished_at - t.started_at) * 1000) FILTER (WHERE t.status = 'succeeded')::double precision AS latency_ms,
                       avg(coalesce(h.captured, 0)) FILTER (WHERE t.status = 'succeeded')::double precision AS cost
                FROM (SELECT y.id, y.status, y.started_at, y.finished_at FROM goya.tasks y
                      WHERE y.workflow_id = l.workflow AND y.tenant_id = rank_candidates.tenant_id ORDER BY y.id DESC LIMIT 100) t
                LEFT JOIN goya.holds h ON h.id = t.id
                WHERE t.status IN ('succeeded', 'failed')) r ON true),
        counted AS (
            SELECT f.operator, f.operator_version, f.workflow, f.revision, f.tier, f.ordinality, f.enabled, coalesce(f.runs, 0) AS runs,
                   coalesce(CASE WHEN f.runs >= 5 THEN f.ran_cost END, f.seen_cost, f.cost) AS cost,
                   coalesce(CASE WHEN f.runs >= 5 THEN f.ran_latency END, f.seen_latency, f.latency_ms) AS latency_ms,
                   coalesce(f.seen_quality, f.quality) AS quality,
                   CASE WHEN f.runs >= 5 THEN f.failed::double precision / f.runs ELSE 0 END AS failure_share,
                   CASE WHEN f.runs >= 5 THEN format('measured in %s runs', f.runs) WHEN num_nonnulls(f.seen_quality, f.seen_latency, f.seen_cost) > 0 THEN 'evaluated'
                        ELSE 'declared' END AS source
            FROM figures f)
        SELECT (row_number() OVER (ORDER BY NOT c.enabled, c.failure_share > 0.5,
                    CASE rank_candidates.policy WHEN 'high_quality' THEN -c.quality WHEN 'low_cost' THEN c.cost ELSE round(c.failure_share::numeric, 2)::double precision END,
                    CASE rank_candidates.policy WHEN 'stable' THEN -c.quality ELSE c.failure_share END,
                    CASE rank_candidates.policy WHEN 'low_cost' THEN -c.quality ELSE c.latency_ms END, c.ordinality))::integer,
               c.operator, c.operator_version, c.workflow, c.revision, c.tier, c.cost, c.latency_ms, c.quality, c.failure_share, c.runs,
               c.source || CASE WHEN NOT c.enabled THEN ', disabled' ELSE '' END
        FROM counted c ORDER BY 1;
    END;

-- What publishing pins of an algorithm; those of the tier, or of any when none has it. With workflows false only what choosing needs.
CREATE FUNCTION goya_private.find_candidates(tenant_id uuid, algorithm text, version integer, tier text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH fitting AS (
            SELECT i.*, o.id AS operator_id, i.tier = find_candidates.tier AS of_tier
            FROM goya.algorithm_implementations i
            JOIN goya.operators o ON o.tenant_id = i.tenant_id AND o.name = i.operator
            JOIN goya.operator_versions v ON v.operator_id = o.id AND v.version = i.operator_version AND v.status = 'published'
            WHERE i.tenant_id = find_candidates.tenant_id AND i.algorithm = find_candidates.algorithm AND i.version = find_candidates.version AND i.enabled)
        SELECT jsonb_agg(jsonb_build_object('operator', f.operator, 'operator_version', f.operator_version, 'tier', f.tier, 'cost', f.cost, 'latency_ms', f.latency_ms,
                                            'quality', f.quality, 'workflow', w.id, 'revision', w.revision) ORDER BY f.operator, f.operator_version)
        FROM fitting f
        LEFT JOIN goya.workflows w ON w.tenant_id = f.tenant_id AND w.name = format('~operator %s@%s', f.operator, f.operator_version)
        WHERE find_candidates.tier IS NULL OR f.of_tier OR NOT EXISTS (SELECT FROM fitting x WHERE x.of_tier);
    END;

CREATE FUNCTION goya.choose_implementation(algorithm text, policy text DEFAULT NULL, tier text DEFAULT NULL, version integer DEFAULT NULL,
    OUT place integer, OUT operator text, OUT operator_version integer, OUT tier_of text, OUT cost double precision, OUT latency_ms double precision,
    OUT quality double precision, OUT failure_share double precision, OUT runs integer, OUT source text, OUT reason text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_tenant();
    a      goya.algorithms;
    chosen text;
BEGIN
    SELECT x.* INTO a FROM goya.algorithms x WHERE x.tenant_id = tenant AND x.name = choose_implementation.algorithm;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('algorithm', choose_implementation.algorithm, 'SELECT name FROM goya.algorithms lists them.');
    END IF;
    chosen := coalesce(choose_implementation.policy, a.policy);
    PERFORM goya_private.check_word('policy', chosen, '{stable,high_quality,low_cost}');
    RETURN QUERY
        SELECT r.place, r.operator, r.operator_version, r.tier, r.cost, r.latency_ms, r.quality, r.failure_share, r.runs, r.source,
               CASE WHEN r.place > 1 THEN NULL ELSE
                   CASE chosen WHEN 'high_quality' THEN format('policy high_quality: the best quality, %s', round(r.quality::numeric, 3))
                               WHEN 'low_cost' THEN format('policy low_cost: the lowest cost, %s nano-units', round(r.cost::numeric))
                               ELSE format('policy stable: the fewest failures, %s %%, then quality %s', round((r.failure_share * 100)::numeric), round(r.quality::numeric, 3)) END
                   || CASE WHEN r.failure_share > 0.5 THEN '; all candidates fail more than half of the time' ELSE '' END
                   || CASE WHEN r.tier <> choose_implementation.tier THEN format('; there is none of tier %s', choose_implementation.tier) ELSE '' END END
        FROM goya_private.rank_candidates(tenant, a.name, coalesce(choose_implementation.version, a.active_version),
            coalesce(goya_private.find_candidates(tenant, a.name, coalesce(choose_implementation.version, a.active_version), choose_implementation.tier), '[]'), chosen) r
        ORDER BY r.place;
END;
$$;
COMMENT ON FUNCTION goya.choose_implementation(text, text, text, integer) IS
'Says which implementation of an algorithm a node would get at this moment (place 1, with the reason), and which come after it.
Policies: stable, fewest failures; high_quality; low_cost; without one that of the algorithm. tier: only those of it, if there are any. Figures are of the last 100 runs as an
implementation if there are five, else evaluated, else declared, as source says; quality is never measured by running.
Errors: PT404 unknown algorithm, 22023 bad policy, 42501 no tenant. Example: SELECT operator, reason FROM goya.choose_implementation(''detect.people'', ''low_cost'') WHERE place = 1;';

-- A node of kind algorithm as it is published: of kind workflow, with its candidates.
CREATE FUNCTION goya_private.resolve_algorithm(tenant_id uuid, node jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a      goya.algorithms;
    wanted integer;
    contract goya.algorithm_versions;
    found_list jsonb;
    item   record;
BEGIN
    SELECT x.* INTO a FROM goya.algorithms x WHERE x.tenant_id = resolve_algorithm.tenant_id AND x.name = node ->> 'algorithm';
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('algorithm', node ->> 'algorithm', 'SELECT name FROM goya.algorithms lists them.');
    END IF;
    wanted := coalesce((node ->> 'version')::integer, a.active_version);
    SELECT v.* INTO contract FROM goya.algorithm_versions v WHERE v.tenant_id = a.tenant_id AND v.algorithm = a.name AND v.version = wanted;
    -- First the workflows that stand for them, then the list with these.
    FOR item IN SELECT o, v FROM jsonb_array_elements(goya_private.find_candidates(a.tenant_id, a.name, wanted, node ->> 'tier')) c
                JOIN goya.operators o ON o.tenant_id = a.tenant_id AND o.name = c ->> 'operator'
                JOIN goya.operator_versions v ON v.operator_id = o.id AND v.version = (c ->> 'operator_version')::integer
                ORDER BY o.name, v.version
    LOOP
        PERFORM goya_private.implementation_workflow(item.o, item.v);
    END LOOP;
    found_list := goya_private.find_candidates(a.tenant_id, a.name, wanted, node ->> 'tier');
    IF found_list IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('version %s of algorithm "%s" has no implementation', wanted, a.name),
            DETAIL = 'There is none that is enabled and published.', HINT = 'goya.add_implementation adds one.';
    END IF;
    RETURN (node - '{tier}'::text[]) || jsonb_build_object('kind', 'workflow', 'workflow', '~' || a.name, 'version', wanted,
        'policy', coalesce(node ->> 'policy', a.policy), 'candidates', found_list, 'input_schema', contract.input_schema, 'output_schema', contract.output_schema);
END;
$$;

-- What the engine asks when such a node runs (src/finish.c). A definition can name any workflow as a candidate; only those that stand for the tenant's operators are.
CREATE FUNCTION goya_private.choose_candidate(tenant_id uuid, choice jsonb, OUT workflow_id uuid, OUT revision integer)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT r.workflow_id, r.revision
        FROM goya_private.rank_candidates(choose_candidate.tenant_id, choice ->> 'algorithm', (choice ->> 'version')::integer, choice -> 'candidates', choice ->> 'policy') r
        JOIN goya.workflows w ON w.id = r.workflow_id AND w.tenant_id = choose_candidate.tenant_id AND w.stands_for = 'implementation'
        JOIN goya.workflow_revisions v ON v.workflow_id = r.workflow_id AND v.revision = r.revision
        ORDER BY r.place LIMIT 1;
    END;
