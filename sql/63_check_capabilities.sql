-- 63_check_capabilities.sql: what goya.check() asks of operators, algorithms and models. See 63_check.sql for how.
--
-- Decided: what a name may lead to later is not asked for: an operator that depends on one that is still to come is a draft, no violation; a model may name a price or
-- secret that is not there.

CREATE FUNCTION goya_private.check_capabilities(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH versions AS MATERIALIZED (
            SELECT v.operator_id, v.version, v.tenant_id, v.status FROM goya.operator_versions v),
        operators AS (
            SELECT o.id, o.tenant_id, o.status, o.active_version, count(v.version) AS versions, coalesce(max(v.version), 0) AS newest,
                   count(*) FILTER (WHERE v.tenant_id <> o.tenant_id) AS foreign_rows,
                   max(v.status) FILTER (WHERE v.version = o.active_version) AS active_status,
                   count(*) FILTER (WHERE v.version = ANY (o.former_versions)) <> cardinality(o.former_versions) AS lost_former
            FROM goya.operators o LEFT JOIN versions v ON v.operator_id = o.id GROUP BY o.id)
        SELECT 'operator_row' AS code, o.id::text AS subject, concat_ws(' ',
                   CASE WHEN o.newest <> o.versions OR o.versions = 0 THEN format('It has %s versions up to %s.', o.versions, o.newest) END,
                   CASE WHEN o.foreign_rows > 0 THEN 'Versions are of another tenant.' END,
                   CASE WHEN o.active_version IS NOT NULL AND coalesce(o.active_status, '') NOT IN ('published', 'deprecated')
                        THEN format('Its active version %s is %s.', o.active_version, coalesce(o.active_status, 'not there')) END,
                   CASE WHEN o.lost_former THEN 'Versions that were active before are not there.' END,
                   CASE WHEN o.status <> coalesce(o.active_status, n.status) THEN format('Its status is %s, that of its version %s.', o.status, coalesce(o.active_status, n.status)) END) AS detail
        FROM operators o LEFT JOIN versions n ON n.operator_id = o.id AND n.version = o.newest
        WHERE o.newest <> o.versions OR o.versions = 0 OR o.foreign_rows > 0 OR o.lost_former OR o.status <> coalesce(o.active_status, n.status)
           OR (o.active_version IS NOT NULL AND coalesce(o.active_status, '') NOT IN ('published', 'deprecated'))
        UNION ALL
        SELECT 'operator_dependency', d.operator_id::text, format('It depends on "%s", in rows of another tenant.', d.depends_on)
        FROM goya.operator_dependencies d JOIN goya.operators o ON o.id = d.operator_id WHERE d.tenant_id <> o.tenant_id
        UNION ALL
        SELECT 'algorithm_row', a.id::text, format('It has %s versions up to %s; version %s is active.', count(v.version), coalesce(max(v.version), 0), a.active_version)
        FROM goya.algorithms a LEFT JOIN goya.algorithm_versions v ON v.tenant_id = a.tenant_id AND v.algorithm = a.name
        GROUP BY a.id HAVING count(v.version) <> coalesce(max(v.version), 0) OR count(*) FILTER (WHERE v.version = a.active_version) <> 1
        UNION ALL
        SELECT 'implementation_row', i.tenant_id::text, concat_ws(' ', format('Operator "%s" version %s implements version %s of "%s":', i.operator, i.operator_version, i.version, i.algorithm),
                   CASE WHEN v.version IS NULL THEN 'there is no such version of the algorithm.' END,
                   CASE WHEN o.version IS NULL THEN 'there is no such version of the operator.' END)
        FROM goya.algorithm_implementations i
        LEFT JOIN goya.algorithm_versions v ON v.tenant_id = i.tenant_id AND v.algorithm = i.algorithm AND v.version = i.version
        LEFT JOIN (SELECT p.tenant_id, p.name, x.version FROM goya.operators p JOIN versions x ON x.operator_id = p.id) o
             ON o.tenant_id = i.tenant_id AND o.name = i.operator AND o.version = i.operator_version
        WHERE v.version IS NULL OR o.version IS NULL
        UNION ALL
        SELECT 'evaluation_row', e.id::text, format('It is of "%s", and operator "%s" version %s implements no such version of it.', e.algorithm, e.operator, e.operator_version)
        FROM goya.algorithm_evaluations e
        LEFT JOIN goya.algorithm_implementations i ON i.tenant_id = e.tenant_id AND i.algorithm = e.algorithm AND i.version = e.version
             AND i.operator = e.operator AND i.operator_version = e.operator_version
        WHERE i.operator IS NULL
        UNION ALL
        SELECT 'model_row', m.id::text, format('It falls back to "%s", which is %s.', f.name, CASE WHEN f.name = m.name THEN 'itself' ELSE 'not there' END)
        FROM goya.models m CROSS JOIN LATERAL unnest(m.fallback_models) f (name)
        LEFT JOIN goya.models o ON o.tenant_id = m.tenant_id AND o.name = f.name WHERE o.id IS NULL OR f.name = m.name
        UNION ALL
        SELECT 'profile_row', p.tenant_id::text, format('Profile "%s" is of model "%s", which is not there.', p.name, p.model)
        FROM goya.model_profiles p LEFT JOIN goya.models m ON m.tenant_id = p.tenant_id AND m.name = p.model WHERE m.id IS NULL
        UNION ALL
        SELECT 'prompt_row', min(p.tenant_id::text), format('Prompt "%s" has %s versions up to %s.', p.name, count(*), max(p.version))
        FROM goya.prompts p GROUP BY p.tenant_id, p.name HAVING count(*) <> max(p.version)
        UNION ALL
        SELECT 'stand_in_row', w.id::text, 'It stands for an operator or model, and has a draft, triggers or more than one node.'
        FROM goya.workflows w
        WHERE w.stands_for IS NOT NULL
          AND (w.draft IS NOT NULL OR w.revision IS NULL OR EXISTS (SELECT FROM goya.triggers g WHERE g.workflow_id = w.id)
               OR EXISTS (SELECT FROM goya.workflow_revisions r WHERE r.workflow_id = w.id AND jsonb_array_length(r.resolved -> 'nodes') <> 1));
    END;
