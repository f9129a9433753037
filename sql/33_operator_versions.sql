-- 33_operator_versions.sql: the life of a version of an operator, and what operators depend on.
--
-- Decided: draft (anything may be saved), testing (checked; goya.test_operator runs it), published (may be activated, and workflows may be published with it),
-- deprecated (workflows published before go on), archived (the end). Which moves there are is goya.operator_moves. Publishing checks everything again: a function may
-- have gone since. The operator's own status is that of its active version, else of its newest.
-- Must hold: an active version is published or deprecated; a version never leaves archived; what a dependency names is there, published, when a version is published.

CREATE VIEW goya.operator_moves WITH (security_invoker = true) AS
    SELECT m.from_status, m.to_status, m.meaning FROM (VALUES
        ('draft', 'testing', 'it is checked, and may be run by goya.test_operator'),
        ('draft', 'published', 'it is checked, and may be used'),
        ('draft', 'archived', 'it is given up'),
        ('testing', 'draft', 'it needs more work'),
        ('testing', 'published', 'it may be used'),
        ('testing', 'archived', 'it is given up'),
        ('published', 'deprecated', 'what uses it goes on, nothing new does'),
        ('deprecated', 'published', 'it may be used again'),
        ('deprecated', 'archived', 'it is kept for the record only')) m (from_status, to_status, meaning)
    WHERE (SELECT goya.current_tenant()) IS NOT NULL;
COMMENT ON VIEW goya.operator_moves IS 'From which status a version of an operator may go to which.';

-- ---- dependencies ----

-- What of an operator's dependencies is not there, as text; null: nothing.
CREATE FUNCTION goya_private.missing_dependencies(op goya.operators) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT string_agg(format('"%s"%s %s', d.depends_on, coalesce(' version ' || d.version, ''),
                          CASE WHEN o.id IS NULL THEN 'does not exist' ELSE 'is not published' END), ', ' ORDER BY d.depends_on)
        FROM goya.operator_dependencies d
        LEFT JOIN goya.operators o ON o.tenant_id = d.tenant_id AND o.name = d.depends_on
        WHERE d.operator_id = (op).id
          AND NOT EXISTS (SELECT FROM goya.operator_versions v
                          WHERE v.operator_id = o.id AND v.status = 'published' AND v.version = coalesce(d.version, v.version));
    END;

CREATE FUNCTION goya_private.refuse_missing_dependencies(op goya.operators) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    missing text := goya_private.missing_dependencies(op);
BEGIN
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('operator "%s" cannot be published: it depends on what is not there', op.name),
            DETAIL = format('Missing: %s.', missing), HINT = 'Publish those first, or change the list with goya.set_operator_dependencies.';
    END IF;
END;
$$;

-- The list in place of the one before. ["name", {"operator": "name", "version": 2}]
CREATE FUNCTION goya_private.write_dependencies(op goya.operators, dependencies jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    item   jsonb;
    needed text;
    number integer;
BEGIN
    IF jsonb_typeof(coalesce(write_dependencies.dependencies, '[]')) <> 'array' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad dependencies', DETAIL = 'They are not an array.',
            HINT = 'Write ["name", {"operator": "name", "version": 2}].';
    END IF;
    DELETE FROM goya.operator_dependencies d WHERE d.operator_id = op.id;
    FOR item IN SELECT e FROM jsonb_array_elements(coalesce(write_dependencies.dependencies, '[]')) e LOOP
        needed := CASE jsonb_typeof(item) WHEN 'string' THEN item #>> '{}' WHEN 'object' THEN item ->> 'operator' END;
        IF needed IS NULL OR needed = op.name
           OR (jsonb_typeof(item) = 'object' AND coalesce(item ->> 'version', '1') !~ '^[1-9][0-9]{0,8}$') THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad dependencies',
                DETAIL = CASE WHEN needed = op.name THEN 'An operator cannot depend on itself.' ELSE format('%s names no operator or no version.', item) END,
                HINT = 'Write ["name", {"operator": "name", "version": 2}].';
        END IF;
        number := CASE jsonb_typeof(item) WHEN 'object' THEN (item ->> 'version')::integer END;
        INSERT INTO goya.operator_dependencies (operator_id, depends_on, version, tenant_id) VALUES (op.id, needed, number, op.tenant_id)
        ON CONFLICT (operator_id, depends_on) DO UPDATE SET version = excluded.version;
    END LOOP;
END;
$$;

CREATE FUNCTION goya.set_operator_dependencies(name text, dependencies jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    op goya.operators := goya_private.lock_operator(set_operator_dependencies.name);
BEGIN
    PERFORM goya_private.write_dependencies(op, set_operator_dependencies.dependencies);
END;
$$;
COMMENT ON FUNCTION goya.set_operator_dependencies(text, jsonb) IS
'Says which operators an operator needs, in place of what was said before: ["name", {"operator": "name", "version": 2}].
They need not be there yet; publishing a version of it asks for them, and lists all that are missing. Without a version any published one will do.
Errors: PT404 unknown operator, 22023 no list of names, 42501 no tenant or reader.';

-- ---- versions ----

-- The operator's status follows its versions.
CREATE FUNCTION goya_private.note_operator_status(id uuid) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        UPDATE goya.operators o SET status = v.status
        FROM goya.operator_versions v
        WHERE o.id = note_operator_status.id AND v.operator_id = o.id AND o.status <> v.status
          AND v.version = coalesce(o.active_version, (SELECT max(n.version) FROM goya.operator_versions n WHERE n.operator_id = o.id));
    END;

-- Twenty versions back are remembered.
CREATE FUNCTION goya_private.activate_version(op goya.operators, version integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE goya.operators o SET active_version = activate_version.version,
        former_versions = CASE WHEN o.active_version IS NULL OR o.active_version = activate_version.version THEN o.former_versions
                               ELSE (array_remove(o.former_versions, o.active_version) || o.active_version)
                                    [greatest(1, cardinality(array_remove(o.former_versions, o.active_version)) - 18):] END
    WHERE o.id = op.id;
    PERFORM goya_private.note_operator_status(op.id);
END;
$$;

-- A version of a locked operator; null: the newest.
CREATE FUNCTION goya_private.find_operator_version(op goya.operators, version integer) RETURNS goya.operator_versions
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v goya.operator_versions;
BEGIN
    SELECT x.* INTO v FROM goya.operator_versions x
    WHERE x.operator_id = op.id AND x.version = coalesce(find_operator_version.version, x.version) ORDER BY x.version DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('operator version', op.name || '@' || find_operator_version.version,
                                       'SELECT version, status FROM goya.operator_versions lists them.');
    END IF;
    RETURN v;
END;
$$;

CREATE FUNCTION goya_private.move_version(op goya.operators, v goya.operator_versions, status text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.check_word('operator status', move_version.status, '{draft,testing,published,deprecated,archived}',
                                    'goya.operator_moves says what may become what.');
    IF v.status = move_version.status THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM goya.operator_moves m WHERE m.from_status = v.status AND m.to_status = move_version.status) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('version %s of operator "%s" cannot become %s', v.version, op.name, move_version.status),
            DETAIL = format('It is %s, and may become %s.', v.status,
                            coalesce((SELECT string_agg(m.to_status, ' or ' ORDER BY m.to_status) FROM goya.operator_moves m WHERE m.from_status = v.status), 'nothing else')),
            HINT = 'SELECT * FROM goya.operator_moves lists all moves; goya.add_operator_version begins anew.';
    END IF;
    IF move_version.status IN ('testing', 'published') THEN
        PERFORM goya_private.check_operator(v.mode, v.config, v.input_schema, v.output_schema);
    END IF;
    IF move_version.status = 'published' THEN
        PERFORM goya_private.refuse_missing_dependencies(op);
    END IF;
    UPDATE goya.operator_versions x SET status = move_version.status,
        published_at = CASE move_version.status WHEN 'published' THEN coalesce(x.published_at, now()) ELSE x.published_at END
    WHERE x.operator_id = op.id AND x.version = v.version;
    -- What is archived is not active.
    UPDATE goya.operators o SET active_version = NULL
    WHERE o.id = op.id AND o.active_version = v.version AND move_version.status = 'archived';
    PERFORM goya_private.note_operator_status(op.id);
END;
$$;

CREATE FUNCTION goya.set_operator_status(name text, status text, version integer DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    op goya.operators := goya_private.lock_operator(set_operator_status.name);
BEGIN
    PERFORM goya_private.move_version(op, goya_private.find_operator_version(op, coalesce(set_operator_status.version, op.active_version)), set_operator_status.status);
END;
$$;
COMMENT ON FUNCTION goya.set_operator_status(text, text, integer) IS
'Moves a version of an operator to another status: draft, testing, published, deprecated, archived. Without a version: the active one, else the newest.
goya.operator_moves says which moves there are. Testing and published check configuration and schemas, published also the dependencies. What workflows were published
with goes on whatever becomes of it; an archived version is not active any more.
Errors: PT404 unknown operator or version; 55000 no such move, or dependencies are missing; 22023 bad status, configuration or schema; 42501 no tenant or reader.
Example: SELECT goya.set_operator_status(''media.probe'', ''deprecated'');';

CREATE FUNCTION goya.publish_operator(name text, version integer DEFAULT NULL, activate boolean DEFAULT true) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    op goya.operators := goya_private.lock_operator(publish_operator.name);
    v  goya.operator_versions := goya_private.find_operator_version(op, publish_operator.version);
BEGIN
    PERFORM goya_private.move_version(op, v, 'published');
    IF publish_operator.activate THEN
        PERFORM goya_private.activate_version(op, v.version);
    END IF;
    RETURN v.version;
END;
$$;
COMMENT ON FUNCTION goya.publish_operator(text, integer, boolean) IS
'Publishes a version of an operator, the newest unless one is named, activates it unless told not to, and returns its number.
Configuration, schemas and dependencies are checked; all that is missing is listed.
Errors: PT404 unknown operator or version; 22023 bad configuration or schema; 55000 dependencies are missing, or it is archived; 42501 no tenant or reader.';

CREATE FUNCTION goya.activate_operator_version(name text, version integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    op goya.operators := goya_private.lock_operator(activate_operator_version.name);
    v  goya.operator_versions := goya_private.find_operator_version(op, coalesce(activate_operator_version.version, 0));
BEGIN
    IF v.status <> 'published' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('version %s of operator "%s" is not published', v.version, op.name),
            DETAIL = format('It is %s.', v.status), HINT = 'goya.publish_operator publishes and activates it.';
    END IF;
    PERFORM goya_private.activate_version(op, v.version);
END;
$$;
COMMENT ON FUNCTION goya.activate_operator_version(text, integer) IS
'Chooses the version of an operator that workflows published from now on get; goya.rollback_operator goes back to the one before.
Errors: PT404 unknown operator or version, 55000 it is not published, 42501 no tenant or reader.';

CREATE FUNCTION goya.rollback_operator(name text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    op     goya.operators := goya_private.lock_operator(rollback_operator.name);
    wanted integer;
    place  integer;
BEGIN
    SELECT f.version, f.place INTO wanted, place
    FROM unnest(op.former_versions) WITH ORDINALITY f (version, place)
    JOIN goya.operator_versions v ON v.operator_id = op.id AND v.version = f.version AND v.status = 'published'
    ORDER BY f.place DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('operator "%s" has no version to go back to', op.name),
            DETAIL = 'No version that is published was active before.', HINT = 'goya.activate_operator_version chooses any published version.';
    END IF;
    UPDATE goya.operators o SET active_version = wanted, former_versions = op.former_versions[:place - 1] WHERE o.id = op.id;
    PERFORM goya_private.note_operator_status(op.id);
    RETURN wanted;
END;
$$;
COMMENT ON FUNCTION goya.rollback_operator(text) IS
'Activates the published version of an operator that was active before the present one, and returns its number.
Again, and it goes one further back. Workflows that are published keep what they have.
Errors: PT404 unknown operator, 55000 there is none to go back to, 42501 no tenant or reader.';
