-- 38_programs.sql: programs that cli nodes may run.
--
-- Decided: a program runs on the server's machine, so only superusers register one, and say who may use it; a tenant names it and gives values. Nobody may
-- use a program before it is allowed. Everything is off until goya.cli is on, so that a restored dump runs nothing by itself.
-- Must hold: a program is an absolute path; each element of arguments becomes exactly one argument.

CREATE FUNCTION goya_private.require_superuser() RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT goya.is_admin() OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = goya.current_caller() AND r.rolsuper) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a superuser may do this',
            DETAIL = 'Programs run on the server''s machine with the rights of its user.', HINT = 'Connect as a superuser, not through a front end.';
    END IF;
END;
$$;

-- Ids of tenants by name; null for null, which is all of them.
CREATE FUNCTION goya_private.tenants_named(names text[]) RETURNS uuid[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unknown text;
BEGIN
    SELECT n INTO unknown FROM unnest(tenants_named.names) n WHERE NOT EXISTS (SELECT FROM goya.tenants t WHERE t.name = n) LIMIT 1;
    IF FOUND THEN
        PERFORM goya_private.not_found('tenant', coalesce(unknown, 'null'), 'SELECT name FROM goya.tenants lists them.');
    END IF;
    RETURN CASE WHEN tenants_named.names IS NULL THEN NULL
                ELSE ARRAY(SELECT t.id FROM goya.tenants t WHERE t.name = ANY (tenants_named.names) ORDER BY t.id) END;
END;
$$;

CREATE FUNCTION goya.create_program(name text, path text, arguments text[] DEFAULT '{}', tenants text[] DEFAULT '{}', description text DEFAULT '',
    timeout interval DEFAULT '5 min', memory_mb integer DEFAULT 2048, cpu interval DEFAULT NULL, file_mb integer DEFAULT 1024, processes integer DEFAULT 64,
    output_kb integer DEFAULT 1024, environment text[] DEFAULT '{}', os_user text DEFAULT NULL, progress_pattern text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    problem text;
BEGIN
    PERFORM goya_private.require_superuser();
    problem := CASE
        WHEN create_program.name IS NULL OR create_program.name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'
            THEN format('Name "%s" is not a letter followed by up to 62 letters, digits, "_", "." and "-".', create_program.name)
        WHEN create_program.path IS NULL OR create_program.path !~ '^/.*[^/]$' OR create_program.path ~ '(^|/)\.\.?(/|$)'
            THEN format('Path "%s" is not the absolute path of a program.', create_program.path)
        WHEN array_position(create_program.arguments, NULL) IS NOT NULL OR array_ndims(create_program.arguments) > 1 THEN 'Arguments must be a list of texts.'
        WHEN EXISTS (SELECT FROM unnest(create_program.arguments) a
                     WHERE regexp_replace(replace(replace(a, '{{', ''), '}}', ''), '\{-?[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,7}\}', '', 'g') ~ '[{}]')
            THEN 'An argument has a brace that is neither {name}, {-name} nor doubled.'
        WHEN EXISTS (SELECT FROM unnest(create_program.environment) e WHERE e IS NULL OR e !~ '^[A-Za-z_][A-Za-z0-9_]*(=|$)')
            THEN 'Environment must be a list of NAME or NAME=value.'
        WHEN create_program.timeout IS NULL OR create_program.timeout NOT BETWEEN interval '1 ms' AND interval '24 hours' THEN 'The timeout must be from 1 ms to 24 hours.'
        WHEN create_program.cpu NOT BETWEEN interval '1 s' AND interval '24 hours' THEN 'The processor time must be from 1 s to 24 hours.'
        WHEN create_program.memory_mb < 1 OR create_program.file_mb < 0 OR create_program.processes < 1 THEN 'memory_mb and processes must be at least 1, file_mb at least 0; null is no limit.'
        WHEN create_program.output_kb IS NULL OR create_program.output_kb NOT BETWEEN 1 AND 262144 THEN 'output_kb must be from 1 to 262144.'
        WHEN create_program.os_user !~ '^[a-z_][a-z0-9_-]{0,31}$' THEN 'os_user is not the name of a user of the operating system.'
        WHEN create_program.progress_pattern !~ '\(' THEN 'progress_pattern needs a group in parentheses, for the percentage.'
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad program', DETAIL = problem,
            HINT = 'As in goya.create_program(''probe'', ''/usr/bin/ffprobe'', ARRAY[''-v'', ''error'', ''-of'', ''json'', ''-show_format'', ''-i'', ''{file}'']).';
    END IF;
    INSERT INTO goya_private.programs (name, path, arguments, tenants, description, timeout_ms, memory_kb, cpu_s, file_kb, processes, output_kb, environment,
                                       os_user, progress_pattern)
    VALUES (create_program.name, create_program.path, coalesce(create_program.arguments, '{}'), goya_private.tenants_named(create_program.tenants),
            coalesce(create_program.description, ''), ceil(extract(epoch FROM create_program.timeout) * 1000), create_program.memory_mb * 1024::bigint,
            ceil(extract(epoch FROM create_program.cpu)), create_program.file_mb * 1024::bigint, create_program.processes, create_program.output_kb,
            coalesce(create_program.environment, '{}'), create_program.os_user, create_program.progress_pattern)
    ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('program "%s" already exists', create_program.name),
            HINT = 'goya.drop_program removes it; what runs goes on.';
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.create_program(text, text, text[], text[], text, interval, integer, interval, integer, integer, integer, text[], text, text) IS
'Registers a program for cli nodes. For superusers.
path is absolute and run without a shell. Each element of arguments becomes exactly one argument; {name} in it, or {a.b}, is the value of that name in the node''s
arguments, which may not begin with "-" at the beginning of an argument, unless written {-name}; {{ and }} are braces. tenants: who may use it, by name; none
at first, null: all. Limits: timeout (of the clock), cpu, memory_mb of each process, file_mb of each file, processes besides those its user has, output_kb of
standard output; null: none. environment: NAME passes one of the server''s variables on, NAME=value sets one; there is nothing else but PATH, LANG, HOME, TMPDIR, GOYA_TASK_ID,
GOYA_NODE, GOYA_IDEMPOTENCY_KEY, GOYA_TRACE_ID. os_user: run as that user, by goya.cli_wrapper; without, as the server''s, which can read all of its files.
progress_pattern: a POSIX regular expression for lines of standard error; its first group is a percentage.
Errors: 42501 not a superuser; 22023 bad value; 23505 the name is taken; PT404 unknown tenant.
Example: SELECT goya.create_program(''probe'', ''/usr/bin/ffprobe'', ARRAY[''-v'', ''error'', ''-of'', ''json'', ''-show_format'', ''-i'', ''{file}''], ARRAY[''default'']);';

CREATE FUNCTION goya.drop_program(name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.require_superuser();
    DELETE FROM goya_private.programs p WHERE p.name = drop_program.name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('program', drop_program.name, 'SELECT name FROM goya_private.programs lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_program(text) IS
'Removes a program: nodes that want it fail from now on, what runs goes on. For superusers.
Errors: 42501 not a superuser, PT404 no such program.';

CREATE FUNCTION goya.allow_program(name text, tenant text, allowed boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    whose uuid;
BEGIN
    PERFORM goya_private.require_superuser();
    whose := (goya_private.tenants_named(ARRAY[allow_program.tenant]))[1];
    UPDATE goya_private.programs p
    SET tenants = array_remove(coalesce(p.tenants, ARRAY(SELECT t.id FROM goya.tenants t)), whose)
                  || CASE WHEN allow_program.allowed THEN ARRAY[whose] ELSE '{}'::uuid[] END
    WHERE p.name = allow_program.name AND (p.tenants IS NOT NULL OR NOT allow_program.allowed);
    IF NOT FOUND AND NOT EXISTS (SELECT FROM goya_private.programs p WHERE p.name = allow_program.name) THEN
        PERFORM goya_private.not_found('program', allow_program.name, 'SELECT name FROM goya_private.programs lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.allow_program(text, text, boolean) IS
'Lets a tenant use a program, or no longer. For superusers.
A program for all tenants stays so when one more is allowed; when one is refused it is for all others that are there now.
Errors: 42501 not a superuser, PT404 no such program or tenant. Example: SELECT goya.allow_program(''probe'', ''default'');';

CREATE FUNCTION goya.list_programs() RETURNS TABLE (name text, description text, arguments text[], timeout interval)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 20 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT goya_private.require_tenant();      -- also where a program is for all
        SELECT p.name, p.description, p.arguments, make_interval(secs => p.timeout_ms / 1000.0)
        FROM goya_private.programs p
        WHERE p.tenants IS NULL OR goya_private.require_tenant() = ANY (p.tenants) ORDER BY p.name;
    END;
COMMENT ON FUNCTION goya.list_programs() IS
'Lists the programs that cli nodes of the caller''s tenant may run, with what their arguments are made of.
They run only where goya.cli is on. Errors: 42501 no tenant.';
