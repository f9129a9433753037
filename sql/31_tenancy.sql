-- 31_tenancy.sql: tenants, their members, trusted front ends; and the questions "may this caller?" that the other modules ask.
--
-- Decided: a PostgreSQL role belongs to at most one tenant, and to tenant default without a row in goya.members (so a single team never
-- meets the word). Administration is for goya_admin and superusers alone. Roles are made and granted by the DBA: goya_owner may
-- not create or grant roles, so add_member only records who belongs where.
-- Must hold: whoever belongs to no tenant, or to a suspended one, is refused with 42501 before anything is read or written.

-- The caller's tenant; everything that needs one asks here.
CREATE FUNCTION goya_private.require_tenant() RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := goya.current_tenant();
    caller name;
BEGIN
    IF tenant IS NOT NULL THEN
        RETURN tenant;
    END IF;
    caller := goya.current_caller();
    IF EXISTS (SELECT FROM goya.members m JOIN goya.tenants t ON t.id = m.tenant_id
               WHERE m.role_name = caller AND t.status = 'suspended') THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('the tenant of role "%s" is suspended', caller),
            HINT = 'An administrator can end this with goya.activate_tenant.';
    END IF;
    IF goya_private.claims_withheld() THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('role "%s" belongs to no tenant', caller),
            DETAIL = 'It owns a SECURITY DEFINER function that a front end''s session called, and the claims there are not about it.',
            HINT = 'goya.register_authenticator lets its functions act for the front end''s users, goya.add_member for a tenant of its own.';
    END IF;
    RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('role "%s" belongs to no tenant', caller),
        HINT = 'Grant goya_user to the role, or ask an administrator for goya.add_member.';
END;
$$;

-- The caller's tenant, for calls that change something: members with access reader are refused.
CREATE FUNCTION goya_private.require_writer() RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := goya_private.require_tenant();
BEGIN
    IF goya_private.caller_is_reader() THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('role "%s" may only read', goya.current_caller()),
            DETAIL = 'It is a member of its tenant with access reader.',
            HINT = 'Ask an administrator for goya.add_member with access member.';
    END IF;
    RETURN tenant;
END;
$$;

CREATE FUNCTION goya_private.require_admin() RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT goya.is_admin() THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a platform administrator may do this',
            DETAIL = format('Role "%s" is not a member of goya_admin.', goya.current_caller()),
            HINT = 'GRANT goya_admin TO the role, and do it outside of tasks.';
    END IF;
END;
$$;

-- The one way to say that something is not there, or is not for the caller to see.
CREATE FUNCTION goya_private.not_found(thing text, name text, hint text) RETURNS void
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = not_found.thing || ' not found',
        DETAIL = format('There is no %s "%s" that role "%s" can see.', not_found.thing, not_found.name, goya.current_caller()),
        HINT = not_found.hint;
END;
$$;

-- May this role of the same tenant see a shared thing: everybody's, its own, one shared with a role it has, or as the tenant's admin.
CREATE FUNCTION goya_private.role_may_see(role name, visibility goya.visibility, owner_role name, visible_roles name[]) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT role_may_see.visibility IN ('tenant', 'public') OR role_may_see.owner_role = role_may_see.role
        OR (role_may_see.visibility = 'role'
            AND EXISTS (SELECT FROM pg_roles me, pg_roles shared
                        WHERE me.rolname = role_may_see.role AND shared.rolname = ANY (role_may_see.visible_roles)
                          AND pg_has_role(me.oid, shared.oid, 'MEMBER')))
        OR EXISTS (SELECT FROM goya.members m WHERE m.role_name = role_may_see.role AND m.access = 'admin')
$$;

-- May the caller. Of two end users of one front-end role each has its own private things: created_by tells whose, where that is known.
CREATE FUNCTION goya_private.may_see(visibility goya.visibility, owner_role name, visible_roles name[], created_by text DEFAULT NULL) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(goya_private.role_may_see(goya.current_caller(), may_see.visibility,
               CASE WHEN may_see.created_by IS NULL OR coalesce(goya.current_end_user(), may_see.created_by) = may_see.created_by
                    THEN may_see.owner_role END, may_see.visible_roles), false)
        OR goya.is_admin()
$$;

CREATE FUNCTION goya.create_tenant(name text, weight integer DEFAULT 1, settings jsonb DEFAULT '{}', max_priority integer DEFAULT 0) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    made uuid;
BEGIN
    PERFORM goya_private.require_admin();
    IF create_tenant.name IS NULL OR create_tenant.name !~ '^[a-z0-9][a-z0-9_-]{0,62}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad tenant name',
            DETAIL = format('"%s" is not a name of up to 63 lower-case letters, digits, "_" and "-".', create_tenant.name),
            HINT = 'Names begin with a letter or digit, as in acme or team-2.';
    END IF;
    IF create_tenant.weight IS NULL OR create_tenant.weight NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad tenant weight',
            DETAIL = format('%s is not between 1 and 1000.', coalesce(create_tenant.weight::text, 'null')),
            HINT = 'The weight is the tenant''s share of the executors; 1 is usual.';
    END IF;
    IF create_tenant.max_priority IS NULL OR create_tenant.max_priority NOT BETWEEN -100 AND 100 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad max_priority',
            DETAIL = format('%s is not between -100 and 100.', coalesce(create_tenant.max_priority::text, 'null')),
            HINT = 'Priority goes before the work of all tenants; 0, the priority of tasks that ask for none, is usual.';
    END IF;
    INSERT INTO goya.tenants (name, weight, settings, max_priority)
    VALUES (create_tenant.name, create_tenant.weight, coalesce(create_tenant.settings, '{}'), create_tenant.max_priority)
    ON CONFLICT (name) DO NOTHING
    RETURNING id INTO made;
    IF made IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('tenant "%s" already exists', create_tenant.name),
            HINT = 'Choose another name, or use the tenant that is there.';
    END IF;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.create_tenant(text, integer, jsonb, integer) IS
'Makes a tenant and returns its id. For administrators.
name: lower-case letters, digits, _ and -. weight: its share of the executors among tenants that have work waiting, 1 to 1000: with 4, four node runs for each one of a
tenant with 1. max_priority: the highest priority its tasks may have, -100 to 100; priority goes before the work of all tenants, so more than 0 is for those who
may pass everybody. UPDATE goya.tenants changes both later; that counts from its commit on, and what is in the queue keeps its place.
Errors: 42501 not an administrator, 22023 bad name, weight or max_priority, 23505 the name is taken.
Example: SELECT goya.create_tenant(''acme''); SELECT goya.add_member(''alice'', ''acme'');';

CREATE FUNCTION goya_private.set_tenant_status(name text, status text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.require_admin();
    UPDATE goya.tenants t SET status = set_tenant_status.status WHERE t.name = set_tenant_status.name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('tenant', set_tenant_status.name, 'SELECT name FROM goya.tenants lists them.');
    END IF;
    PERFORM goya_private.wake();
END;
$$;

CREATE FUNCTION goya.suspend_tenant(name text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT goya_private.set_tenant_status(suspend_tenant.name, 'suspended');
    END;
COMMENT ON FUNCTION goya.suspend_tenant(text) IS
'Suspends a tenant: its members are refused and its triggers do not fire. For administrators.
Nothing is deleted; what its triggers missed meanwhile is handled by their missed-slot policy when it is active again.
Errors: 42501 not an administrator, PT404 unknown tenant.';

CREATE FUNCTION goya.activate_tenant(name text) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT goya_private.set_tenant_status(activate_tenant.name, 'active');
    END;
COMMENT ON FUNCTION goya.activate_tenant(text) IS
'Ends the suspension of a tenant. For administrators.
Errors: 42501 not an administrator, PT404 unknown tenant.';

CREATE FUNCTION goya.add_member(role_name name, tenant text, access text DEFAULT 'member') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted  uuid;
    present uuid;
BEGIN
    PERFORM goya_private.require_admin();
    IF add_member.access IS NULL OR add_member.access NOT IN ('admin', 'member', 'reader') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad access',
            DETAIL = format('"%s" is none of admin, member, reader.', add_member.access),
            HINT = 'admin sees private things of its tenant too, reader changes nothing.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = add_member.role_name) THEN
        PERFORM goya_private.not_found('role', add_member.role_name, 'CREATE ROLE makes it.');
    END IF;
    IF add_member.role_name IN ('goya_owner', 'goya_executor', 'goya_listener', 'goya_admin', 'goya_user', 'goya_reader') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('role "%s" cannot be a member', add_member.role_name),
            DETAIL = 'It is one of goya''s own roles.', HINT = 'Name a role of your own that is granted goya_user.';
    END IF;
    SELECT t.id INTO wanted FROM goya.tenants t WHERE t.name = add_member.tenant;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('tenant', add_member.tenant, 'SELECT name FROM goya.tenants lists them.');
    END IF;
    -- Adding again changes the access; another tenant's member must be removed there first.
    INSERT INTO goya.members (role_name, tenant_id, access) VALUES (add_member.role_name, wanted, add_member.access)
    ON CONFLICT (role_name) DO UPDATE SET access = excluded.access WHERE members.tenant_id = excluded.tenant_id
    RETURNING tenant_id INTO present;
    IF present IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('role "%s" is a member of another tenant', add_member.role_name),
            DETAIL = 'A role belongs to one tenant.', HINT = 'Call goya.remove_member first, or use a role of its own for each tenant.';
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.add_member(name, text, text) IS
'Makes a PostgreSQL role a member of a tenant, or changes its access. For administrators.
access: admin (sees private things of the tenant too), member, or reader (may change nothing). The role also needs GRANT goya_user or goya_reader.
Errors: 42501 not an administrator, PT404 unknown role or tenant, 22023 bad access or one of goya''s own roles,
23505 the role belongs to another tenant.';

CREATE FUNCTION goya.remove_member(role_name name) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.require_admin();
    DELETE FROM goya.members m WHERE m.role_name = remove_member.role_name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('member', remove_member.role_name, 'SELECT role_name FROM goya.members lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.remove_member(name) IS
'Ends the membership of a role. For administrators.
A role that still has goya_user then belongs to tenant default: revoke that too to shut it out.
Errors: 42501 not an administrator, PT404 not a member.';

CREATE FUNCTION goya.register_authenticator(role_name name) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.require_admin();
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = register_authenticator.role_name) THEN
        PERFORM goya_private.not_found('role', register_authenticator.role_name, 'CREATE ROLE makes it.');
    END IF;
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = register_authenticator.role_name AND (r.rolsuper OR r.rolbypassrls)) THEN
        RAISE EXCEPTION USING ERRCODE = '22023',
            MESSAGE = format('role "%s" cannot be an authenticator', register_authenticator.role_name),
            DETAIL = 'It is a superuser or bypasses row-level security.',
            HINT = 'Let the front end connect as a role without privileges that may SET ROLE to its users'' roles.';
    END IF;
    INSERT INTO goya_private.authenticators (role_name) VALUES (register_authenticator.role_name) ON CONFLICT DO NOTHING;
END;
$$;
COMMENT ON FUNCTION goya.register_authenticator(name) IS
'Lets a front end speak for its users: request.jwt.claims (tenant, user, sub) count in sessions of this role. For administrators.
They count there also in the SECURITY DEFINER functions of roles that are registered: so an API whose functions belong to a role of their own works for the tenant of the request.
Register only a role that nothing but a front end which verifies its tokens can connect as, or that is NOLOGIN and owns only functions that you trust. Registering twice changes nothing.
Errors: 42501 not an administrator, PT404 unknown role, 22023 a superuser or BYPASSRLS role.';

CREATE FUNCTION goya.unregister_authenticator(role_name name) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.require_admin();
    DELETE FROM goya_private.authenticators a WHERE a.role_name = unregister_authenticator.role_name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('authenticator', unregister_authenticator.role_name,
                                       'Only roles of goya.register_authenticator can be unregistered.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.unregister_authenticator(name) IS
'Claims in sessions of this role no longer count. For administrators.
Errors: 42501 not an administrator, PT404 it was not registered.';

-- Users insert assets themselves: what they leave out is theirs.
ALTER TABLE goya.assets
    ALTER COLUMN tenant_id SET DEFAULT goya.current_tenant(),
    ALTER COLUMN owner_role SET DEFAULT goya.current_caller(),
    ALTER COLUMN created_by SET DEFAULT goya.current_end_user();
