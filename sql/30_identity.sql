-- 30_identity.sql: who is calling, and the C routines the SQL modules build on.

CREATE FUNCTION goya.current_tenant() RETURNS uuid
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_tenant_sql';
COMMENT ON FUNCTION goya.current_tenant() IS
'Returns the tenant of the caller.
Inside a task: the task''s tenant, whatever the SQL sets; in a SECURITY DEFINER function of another role that uses goya: that role''s. Otherwise the tenant of the role''s membership; for a session of a registered
authenticator the tenant named in request.jwt.claims; for any other role granted goya_user, goya_reader or goya_admin, tenant default.
In a SECURITY DEFINER function those claims count when its owner is a superuser or a registered authenticator itself; for any other owner only its membership does.
Null for a role that belongs to no tenant and for members of a suspended tenant.
Errors: 0A000 in a parallel worker.';

CREATE FUNCTION goya.current_caller() RETURNS name
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_caller_sql';
COMMENT ON FUNCTION goya.current_caller() IS
'Returns the role on whose behalf goya acts: the current role, or, inside goya''s own functions, the role that called them.
Errors: 42501 inside goya''s own functions when PostgreSQL runs them for an index, statistics, a materialized view or a foreign key; 0A000 in a parallel worker.';

CREATE FUNCTION goya.current_end_user() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_user_sql';
COMMENT ON FUNCTION goya.current_end_user() IS
'Returns the front end''s user from verified claims (user, else sub), or null.
Null in a SECURITY DEFINER function whose owner is neither a superuser nor a registered authenticator.
Errors: 0A000 in a parallel worker.';

CREATE FUNCTION goya.is_admin() RETURNS boolean
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_admin_sql';
COMMENT ON FUNCTION goya.is_admin() IS
'Tells whether the caller is a platform administrator: a superuser or a member of goya_admin. False inside tasks.
Errors: 0A000 in a parallel worker.';

-- Is the caller a member of its tenant with access reader?
CREATE FUNCTION goya_private.caller_is_reader() RETURNS boolean
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_reader_sql';

-- Has the caller no tenant because the claims of the session, a front end's, are not about it? So it is for the owner of a SECURITY DEFINER function.
CREATE FUNCTION goya_private.claims_withheld() RETURNS boolean
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_withheld_sql';

-- Who is who, workflows by name and which events are wanted are kept in every session's memory (src/watch.c); these triggers tell of changes, also in a
-- session that loads or replicates rows. Columns that nothing is kept of may change unsaid.
CREATE FUNCTION goya_private.tell_change() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'goya_tell_change_sql';
CREATE TRIGGER tenants_tell AFTER INSERT OR DELETE ON goya.tenants FOR EACH ROW EXECUTE FUNCTION goya_private.tell_change();
CREATE TRIGGER tenants_tell_update AFTER UPDATE ON goya.tenants FOR EACH ROW
    WHEN ((OLD.id, OLD.name, OLD.status, OLD.weight, OLD.max_priority, OLD.settings -> 'encrypt_prompts')
          IS DISTINCT FROM (NEW.id, NEW.name, NEW.status, NEW.weight, NEW.max_priority, NEW.settings -> 'encrypt_prompts'))
    EXECUTE FUNCTION goya_private.tell_change();
CREATE TRIGGER members_tell AFTER INSERT OR UPDATE OR DELETE ON goya.members FOR EACH ROW EXECUTE FUNCTION goya_private.tell_change();
CREATE TRIGGER authenticators_tell AFTER INSERT OR UPDATE OR DELETE ON goya_private.authenticators
    FOR EACH ROW EXECUTE FUNCTION goya_private.tell_change();
CREATE TRIGGER workflows_tell AFTER INSERT OR DELETE ON goya.workflows FOR EACH ROW EXECUTE FUNCTION goya_private.tell_change();
CREATE TRIGGER workflows_tell_update AFTER UPDATE ON goya.workflows FOR EACH ROW
    WHEN ((OLD.id, OLD.tenant_id, OLD.name, OLD.enabled, OLD.revision, OLD.visibility, OLD.visible_roles, OLD.owner_role)
          IS DISTINCT FROM (NEW.id, NEW.tenant_id, NEW.name, NEW.enabled, NEW.revision, NEW.visibility, NEW.visible_roles, NEW.owner_role))
    EXECUTE FUNCTION goya_private.tell_change();
CREATE TRIGGER triggers_tell AFTER INSERT OR DELETE ON goya.triggers FOR EACH ROW EXECUTE FUNCTION goya_private.tell_change();
CREATE TRIGGER triggers_tell_update AFTER UPDATE ON goya.triggers FOR EACH ROW
    WHEN ((OLD.tenant_id, OLD.workflow_id, OLD.kind, OLD.event, OLD.enabled) IS DISTINCT FROM (NEW.tenant_id, NEW.workflow_id, NEW.kind, NEW.event, NEW.enabled))
    EXECUTE FUNCTION goya_private.tell_change();
ALTER TABLE goya.tenants ENABLE ALWAYS TRIGGER tenants_tell, ENABLE ALWAYS TRIGGER tenants_tell_update;
ALTER TABLE goya.members ENABLE ALWAYS TRIGGER members_tell;
ALTER TABLE goya_private.authenticators ENABLE ALWAYS TRIGGER authenticators_tell;
ALTER TABLE goya.workflows ENABLE ALWAYS TRIGGER workflows_tell, ENABLE ALWAYS TRIGGER workflows_tell_update;
ALTER TABLE goya.triggers ENABLE ALWAYS TRIGGER triggers_tell, ENABLE ALWAYS TRIGGER triggers_tell_update;

-- The node run whose SQL is running now; nulls outside of tasks.
CREATE FUNCTION goya_private.current_task(OUT task_id uuid, OUT node text, OUT item integer, OUT depth integer)
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_run_sql';
CREATE FUNCTION goya_private.in_task() RETURNS boolean
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_identity_in_task_sql';

-- Wakes the engine and idle executors of this database when the transaction commits.
CREATE FUNCTION goya_private.wake() RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_wake_sql';

-- Next place in the queue for a tenant: priority above start-time fair queueing. units is how many node runs it stands for.
CREATE FUNCTION goya_private.next_rank(tenant_id uuid, priority integer, units integer DEFAULT 1) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_rank_next_sql';

-- The priority that a caller who asks for this one gets: 22023 if its tenant may not have it.
CREATE FUNCTION goya_private.check_priority(tenant_id uuid, priority integer) RETURNS integer
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_check_priority_sql';

-- Ends the wait of sessions in wait_for_task and task_events_since for this task, at commit.
CREATE FUNCTION goya_private.announce(task_id uuid) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_announce_sql';

-- Sleeps until the task is announced or the time is over; true: announced. Never longer than a minute at once.
CREATE FUNCTION goya_private.wait_announcement(task_id uuid, milliseconds integer) RETURNS boolean
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_wait_announcement_sql';

-- Interrupts a statement or transfer of the task, wherever it runs now: executors by query cancel, transfers by the engine.
CREATE FUNCTION goya_private.interrupt_task(task_id uuid) RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_interrupt_task_sql';

-- In the engine: what the outside calls of the task that are in flight have used so far: [{"node", "item", "attempt", "price", "cost_tag", "quantity"}];
-- null: nothing that is known and costs something.
CREATE FUNCTION goya_private.calls_used(task_id uuid) RETURNS jsonb
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_calls_used_sql';

-- 0: not preloaded; 1: preloaded. Calls that need workers raise 55000 with a hint when it is 0.
CREATE FUNCTION goya_private.preloaded() RETURNS boolean
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_preloaded_sql';

-- What runs now in this database, from shared memory: one row per launcher, engine, executor.
CREATE FUNCTION goya_private.activity(
    OUT process text, OUT pid integer, OUT state text, OUT task_id uuid, OUT node text, OUT item integer,
    OUT since timestamptz, OUT batches bigint, OUT node_runs bigint, OUT transfers integer, OUT detail text) RETURNS SETOF record
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_activity_sql';

-- Puts work on the queue: verb 0 run, 1 timer, 2 signal, 3 child done, 4 decision (see src/README.md); wakes at commit.
CREATE FUNCTION goya_private.enqueue(task_id uuid, tenant_id uuid, priority integer, node integer, item integer, attempt integer,
                                     verb integer, lane integer DEFAULT 0) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt)
        VALUES (goya_private.next_rank(enqueue.tenant_id, enqueue.priority), CASE WHEN enqueue.verb > 0 THEN 2 ELSE enqueue.lane END, enqueue.verb, enqueue.task_id, enqueue.node,
                enqueue.item, enqueue.attempt);
        SELECT goya_private.wake();
    END;

-- Evaluates a template (see docs/concepts.md) over an object of roots: event, asset, payload, slot, task, input.
CREATE FUNCTION goya_private.eval_template(template jsonb, roots jsonb) RETURNS jsonb
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_eval_template_sql';
