# 005_identity.pl: as whom SQL nodes run, and that nothing of one reaches the next.
#
# Decided: one executor (goya.max_executors = 1), so that a node of one tenant and then of the other run in the same process, seen by its pid. What a
# node tries to leave behind is looked for by a node of another tenant and by one of another role of the same tenant.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use JSON::PP ();
use Test::More;

my $node = GoyaNode->start(name => 'identity', conf => "goya.max_executors = 1\ngoya.batch_time = 2s\n");
create_studio($node);
$node->create_user('rival');
$node->sql(<<'SQL');
SELECT goya.create_tenant('rivals') \g /dev/null
SELECT goya.add_member('rival', 'rivals') \g /dev/null
GRANT USAGE ON SCHEMA app TO rival;
CREATE TABLE app.secrets (x text);
REVOKE ALL ON app.secrets FROM PUBLIC;
CREATE TABLE app.watched (who text, tenant uuid);
CREATE TABLE app.fired (who name, session name, outer_role text);
GRANT ALL ON app.watched, app.fired TO studio, rival;
CREATE SEQUENCE app.numbers;
GRANT ALL ON SEQUENCE app.numbers TO studio, rival;
CREATE FUNCTION app.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.fired VALUES (current_user, session_user, current_setting('role'));
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.note();
-- Runs one statement and says what it gave, or the error; the statement is the definition's, as the role of the task.
CREATE FUNCTION app.try(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    IF input ->> 'query' IS NOT NULL THEN
        EXECUTE input ->> 'query' INTO result;
    ELSE
        EXECUTE input ->> 'do';
    END IF;
    RETURN jsonb_build_object('result', result, 'pid', pg_backend_pid());
EXCEPTION WHEN others THEN
    RETURN jsonb_build_object('error', SQLSTATE, 'message', SQLERRM, 'pid', pg_backend_pid());
END $$;
-- The same without a block of its own, so that what it does stays.
CREATE FUNCTION app.do(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE input ->> 'do';
    RETURN jsonb_build_object('pid', pg_backend_pid());
END $$;
SQL
foreach my $role (qw(studio rival))
{
	create_workflow($node, "try", { nodes => [ { key => 't', kind => 'sql', function => 'app.try' } ], output => '{{ nodes.t.output }}' }, role => $role);
	create_workflow($node, "do", { nodes => [ { key => 't', kind => 'sql', function => 'app.do' } ], output => '{{ nodes.t.output }}' }, role => $role);
}

# as(ROLE, WORKFLOW, INPUT): [status, output or error] of a task of that role.
sub as
{
	my ($role, $workflow, $input) = @_;
	my $id = $node->sql(sprintf(q{SELECT goya.run('%s', $i$%s$i$)}, $workflow, json($input)), role => $role);
	my ($status, $value) = split /\|/, $node->sql("SELECT status, coalesce(output, error) FROM goya.wait_for_task('$id', '10 s')"), 2;
	return { status => $status, %{ $value ne '' ? JSON::PP::decode_json($value) : {} } };
}

sub value_for { my ($role, $query) = @_; my $r = as($role, 'try', { query => $query }); return $r->{error} ? "error $r->{error}" : $r->{result}; }
sub error_for { my ($role, $do) = @_; my $r = as($role, 'try', { do => $do }); return $r->{error} // "no error, $r->{status}"; }

# ---- who ----
my $studio = $node->sql('SELECT goya.current_tenant()', role => 'studio');
my $rival = $node->sql('SELECT goya.current_tenant()', role => 'rival');
isnt($studio, $rival, 'two roles, two tenants');
is(value_for('studio', 'SELECT current_user'), 'studio', 'current_user is the owner');
is(value_for('studio', 'SELECT session_user'), 'goya_executor', 'session_user is the powerless role of executors');
is(value_for('studio', q{SELECT rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid) FROM pg_roles r WHERE rolname = session_user}),
	'false', 'that role can do nothing and is a member of nothing');
is(value_for('rival', 'SELECT current_user'), 'rival', 'the next task is the other role');
is(value_for('studio', 'SELECT goya.current_tenant()'), $studio, 'the tenant is the owner\'s');
is(value_for('rival', 'SELECT goya.current_tenant()'), $rival, 'the other tenant is the other owner\'s');

# ---- no way up ----
foreach my $statement ('RESET ROLE', 'SET ROLE goya_executor', 'SET ROLE goya_owner', 'SET ROLE postgres', 'SET ROLE rival', 'SET LOCAL ROLE rival', 'SET ROLE NONE',
	'SET SESSION AUTHORIZATION postgres', 'SET SESSION AUTHORIZATION DEFAULT', 'RESET SESSION AUTHORIZATION', q{SELECT set_config('role', 'postgres', false)},
	q{SELECT set_config('session_authorization', 'postgres', false)})
{
	like(error_for('studio', $statement), qr/^(42501|22023)$/, "$statement is refused");
}
is(error_for('studio', 'INSERT INTO app.secrets VALUES (1)'), '42501', 'a table that is not theirs');
is(error_for('studio', 'SELECT * FROM goya_private.ready'), '42501', 'goya\'s own tables');
is(error_for('studio', 'DISCARD ALL'), '25001', 'DISCARD ALL') or note 'any refusal will do';
is(value_for('studio', 'SELECT current_user'), 'studio', 'afterwards a task is still its owner');

# ---- deferred triggers ----
is(as('studio', 'do', { do => q{INSERT INTO app.watched VALUES (current_user, goya.current_tenant())} })->{status}, 'succeeded', 'a node with a deferred trigger');
is(as('rival', 'do', { do => q{INSERT INTO app.watched VALUES (current_user, goya.current_tenant())} })->{status}, 'succeeded', 'and one of another tenant');
is($node->sql('SELECT who, session FROM app.fired ORDER BY 1'), "rival|goya_executor\nstudio|goya_executor", 'deferred triggers ran as the owner');
$node->sql(<<'SQL');
CREATE FUNCTION app.fail_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
CREATE TABLE app.late (x int);
GRANT ALL ON app.late TO studio;
CREATE CONSTRAINT TRIGGER fail_late AFTER INSERT ON app.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION app.fail_late();
SQL
my $late = as('studio', 'do', { do => 'INSERT INTO app.late VALUES (1)' });
is("$late->{status} $late->{message}", 'failed too late', 'an error of a deferred trigger is the node\'s error');

# ---- the tenant cannot be chosen ----
is(value_for('studio', qq{SELECT set_config('request.jwt.claims', '{"tenant": "rivals", "role": "rival"}', false) || goya.current_tenant()}),
	qq{{"tenant": "rivals", "role": "rival"}$studio}, 'request.jwt.claims changes nothing');
is(value_for('studio', q{SELECT goya.current_end_user()}), undef, 'and names no user');
is(value_for('studio', 'SELECT count(*) FROM goya.tasks WHERE tenant_id <> goya.current_tenant()'), 0, 'tasks of the other tenant are not seen');
is(value_for('rival', q{SELECT current_setting('request.jwt.claims', true)}) // '', '', 'the claims do not reach the next node');

# ---- nothing stays ----
# The functions are measured now: one executor is enough from here on.
$node->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'goya executor' \g /dev/null});
$node->reached(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'goya executor'}, 0, 10, 'the executors that measured functions are gone');
my $seeded = join ',', split /\n/, $node->sql('SELECT setseed(0.5) \g /dev/null
SELECT random() FROM generate_series(1, 100)');
my %left = (
	'GUC' => [ q{SELECT set_config('app.left', 'secret', false)}, q{SELECT coalesce(current_setting('app.left', true), '')}, '' ],
	'search_path' => [ q{SET search_path = app}, q{SELECT (current_setting('search_path') = 'app')::text}, 'false' ],
	'statement_timeout' => [ q{SET statement_timeout = '77s'}, q{SELECT (current_setting('statement_timeout') = '77s')::text}, 'false' ],
	'temp table' => [ q{CREATE TEMP TABLE left_behind AS SELECT 'secret' AS x}, q{SELECT (to_regclass('pg_temp.left_behind') IS NULL)::text}, 'true' ],
	'prepared statement' => [ q{PREPARE left_behind AS SELECT 1}, q{SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_behind'}, '0' ],
	'cursor WITH HOLD' => [ q{DECLARE left_behind CURSOR WITH HOLD FOR SELECT current_user}, q{SELECT count(*) FROM pg_cursors WHERE name = 'left_behind'}, '0' ],
	'advisory lock' => [ q{SELECT pg_advisory_lock(4711)}, q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711}, '0' ],
	'LISTEN' => [ q{LISTEN x}, q{SELECT count(*) FROM pg_listening_channels()}, '0' ],
	'currval' => [ q{SELECT nextval('app.numbers')}, q{SELECT currval('app.numbers')}, 'error 55000' ],
	'lastval' => [ q{SELECT nextval('app.numbers')}, q{SELECT lastval()}, 'error 55000' ],
	'random seed' => [ q{SELECT setseed(0.5)}, "SELECT (random() = ANY ('{$seeded}'::float8[]))::text", 'false' ],
);
foreach my $what (sort keys %left)
{
	my ($do, $look, $expected) = @{ $left{$what} };
	my $first = as('studio', 'do', { do => $do });
	my $second = as('rival', 'try', { query => $look });

	# What cannot be done at all leaves nothing either.
	ok($first->{status} eq 'succeeded' || $first->{code}, "$what: done ($first->{status})");
	is($second->{error} ? "error $second->{error}" : $second->{result}, $expected, "$what does not reach another tenant's node");
	is($first->{pid}, $second->{pid}, "$what: it was the same process") if $first->{pid};
}
# Within one batch, too: two tenants' tasks are started together, in turns.
$node->sql(q{SELECT count(*) FROM pg_stat_activity});
my @ids = split /\n/, $node->sql(<<'SQL');
CREATE TEMP TABLE t (id uuid);
GRANT ALL ON t TO studio, rival;
BEGIN;
SET ROLE studio; INSERT INTO t SELECT goya.run('do', '{"do": "SELECT pg_advisory_lock(815), set_config(''app.left'', ''secret'', false), nextval(''app.numbers'')"}') FROM generate_series(1, 20);
SET ROLE rival; INSERT INTO t SELECT goya.run('try', '{"query": "SELECT coalesce(current_setting(''app.left'', true), '''') || (SELECT count(*) FROM pg_locks WHERE locktype = ''advisory'') || goya.current_tenant()"}') FROM generate_series(1, 20);
COMMIT;
RESET ROLE; SELECT id FROM t;
SQL
$node->reached(sprintf("SELECT count(*) FROM goya.tasks WHERE id = ANY ('{%s}') AND status = 'succeeded'", join ',', @ids), 40, 10, '40 tasks of two tenants, together');
is($node->sql(sprintf "SELECT DISTINCT output ->> 'result' FROM goya.tasks WHERE id = ANY ('{%s}') AND run_as = 'rival'", join ',', @ids), "0$rival", 'nothing went over within a batch');

# ---- superusers ----
$node->sql('CREATE ROLE mighty SUPERUSER LOGIN; CREATE ROLE seer BYPASSRLS LOGIN; GRANT goya_user TO seer; GRANT USAGE ON SCHEMA app TO seer');
foreach my $role (qw(mighty seer))
{
	my ($done, $out, $error) = $node->try_sql(q{SELECT goya.run('try', '{"query": "SELECT 1"}')}, role => $role);
	like($error, qr/42501/, "$role may not run tasks");
}
my $id = $node->sql(q{BEGIN; SET LOCAL ROLE studio; SELECT goya.run('try', '{"query": "SELECT current_user"}', run_at => now() + interval '1 s'); RESET ROLE; ALTER ROLE studio BYPASSRLS; COMMIT});
$node->reached("SELECT status, error ->> 'code' FROM goya.tasks WHERE id = '$id'", 'failed|42501', 10, 'a role that became mighty meanwhile is refused when its node runs');
$node->sql('ALTER ROLE studio NOBYPASSRLS');
$node->sql(q{ALTER SYSTEM SET goya.allow_superuser_tasks = on; SELECT pg_reload_conf() \g /dev/null});
$node->reached('SHOW goya.allow_superuser_tasks', 'on', 5, 'superuser tasks are allowed now');
$id = $node->sql(q{SELECT goya.run('try', '{"query": "SELECT current_user"}')}, role => 'mighty');
ended($node, $id, 'succeeded', 10, 'then a superuser\'s task runs');
$node->sql(q{ALTER SYSTEM RESET goya.allow_superuser_tasks; SELECT pg_reload_conf() \g /dev/null});
$node->reached('SHOW goya.allow_superuser_tasks', 'off', 5, 'and not any more');

# ---- what changes while a task waits counts at its next node ----
create_workflow($node, 'later', { nodes => [ { key => 'w', kind => 'wait', signal => 'go' }, { key => 't', kind => 'sql', function => 'app.try', input => { query => 'SELECT 1' } } ],
	edges => [ { from => 'w', to => 't' } ] }, role => 'rival');
my $revoked = $node->sql(q{SELECT goya.run('later')}, role => 'rival');
$node->reached("SELECT status FROM goya.tasks WHERE id = '$revoked'", 'waiting', 10, 'a task waits');
$node->sql('REVOKE EXECUTE ON FUNCTION app.try(jsonb) FROM PUBLIC; GRANT EXECUTE ON FUNCTION app.try(jsonb) TO studio');
$node->sql("SELECT goya.signal('$revoked', 'go') \\g /dev/null", role => 'rival');
$node->reached("SELECT status, error ->> 'code' FROM goya.tasks WHERE id = '$revoked'", 'failed|42501', 10, 'a function that was revoked meanwhile is not called');
$node->sql('GRANT EXECUTE ON FUNCTION app.try(jsonb) TO rival');
my $dropped = $node->sql(q{SELECT goya.run('later')}, role => 'rival');
$node->reached("SELECT status FROM goya.tasks WHERE id = '$dropped'", 'waiting', 10, 'another waits');
$node->sql(q{DROP OWNED BY rival; DROP ROLE rival});
$node->sql("SELECT goya.signal('$dropped', 'go') \\g /dev/null");
$node->reached("SELECT status, error ->> 'code' FROM goya.tasks WHERE id = '$dropped'", 'failed|42501', 10, 'a task of a role that was dropped meanwhile fails');
is(value_for('studio', 'SELECT current_user'), 'studio', 'and others run on');
is_sound($node);
$node->stop('fast');
done_testing();
