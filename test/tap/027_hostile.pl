# 027_hostile.pl: a hostile tenant's SQL nodes: what they try, as whom they run, and what the next tenant's node finds of it.
#
# Decided: one executor, so that eve's node and vic's run in one process, seen by its pid. vic's node looks at everything a session can hold
# (app.inspect) and says what it saw before eve had run at all; after each of eve's attacks - one that goes well, one that ends in an error,
# and one that shares a transaction with vic's node - it must see the same again. Whatever eve is told is searched for the canary that all of vic's
# rows carry.
# Must hold: an attack that this server cannot even try (an extension is missing) is a failure, not a pass.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(time);

my $node = GoyaNode->start(name => 'hostile', conf => "goya.max_executors = 1\ngoya.batch_time = 2s\nmax_prepared_transactions = 2\n");
my $socket = $node->host;
my $port = $node->port;
my $CANARY = 'canary-5c0ffee5';
my $json = JSON::PP->new->canonical->allow_nonref;

$node->sql('CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw');
$node->create_user($_) foreach qw(eve vic);
$node->sql(<<'SQL');
SELECT goya.create_tenant('eves') \g /dev/null
SELECT goya.create_tenant('vics') \g /dev/null
SELECT goya.add_member('eve', 'eves'), goya.add_member('vic', 'vics') \g /dev/null
CREATE SCHEMA app;
CREATE SCHEMA eve AUTHORIZATION eve;
CREATE SCHEMA vic AUTHORIZATION vic;
GRANT USAGE ON SCHEMA app, eve TO PUBLIC;
CREATE SEQUENCE app.numbers;
GRANT ALL ON SEQUENCE app.numbers TO eve, vic;
CREATE TABLE app.diary (at timestamptz DEFAULT clock_timestamp(), who name, outer_role text, note text);
GRANT INSERT ON app.diary TO PUBLIC;
-- An administrator trusts both with connections that need no password: what one opens the other must not find.
GRANT EXECUTE ON FUNCTION dblink_connect_u(text, text), dblink_connect_u(text) TO eve, vic;
-- What several tenants use, as an administrator may have written it: nothing qualified.
CREATE FUNCTION app.tidy(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE x text := input ->> 'name'; BEGIN RETURN to_jsonb(x); END $$;
-- Runs statements, one after the other; then, if asked, fails with what it was told.
CREATE FUNCTION app.do(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    result text;
    statement text;
BEGIN
    FOR statement IN SELECT jsonb_array_elements_text(input -> 'do') LOOP
        EXECUTE statement;
    END LOOP;
    IF input ? 'query' THEN
        EXECUTE input ->> 'query' INTO result;
    END IF;
    IF input ? 'fail' THEN
        RAISE EXCEPTION USING ERRCODE = input ->> 'fail', MESSAGE = 'as told';
    END IF;
    RETURN jsonb_build_object('result', result, 'pid', pg_backend_pid(), 'xid', pg_current_xact_id()::text);
END $$;
-- The same with the error as the result.
CREATE FUNCTION app.try(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN app.do(input);
EXCEPTION WHEN OTHERS THEN
    RETURN jsonb_build_object('code', SQLSTATE, 'message', SQLERRM, 'pid', pg_backend_pid(), 'xid', pg_current_xact_id()::text);
END $$;
CREATE FUNCTION app.gives(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    EXECUTE statement INTO result;
    RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
-- All that a session can hold.
CREATE FUNCTION app.inspect(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    seen jsonb;
BEGIN
    SELECT jsonb_object_agg(name, app.gives(query)) INTO seen FROM (VALUES
        ('who', 'SELECT concat_ws('' '', current_user, session_user, current_setting(''role''), goya.current_tenant(), goya.current_caller())'),
        ('settings', 'SELECT md5(string_agg(name || ''='' || setting, '','' ORDER BY name)) FROM pg_settings WHERE name NOT IN (''seed'')'),
        ('settings of the session', 'SELECT string_agg(name || ''='' || setting, '','' ORDER BY name) FROM pg_settings WHERE source IN (''session'', ''interactive'')'),
        ('made up settings', 'SELECT nullif(current_setting(''eve.left'', true), '''')'),
        ('claims', 'SELECT nullif(current_setting(''request.jwt.claims'', true), '''')'),
        ('prepared statements', 'SELECT string_agg(name, '','') FROM pg_prepared_statements'),
        ('cursors', 'SELECT string_agg(name, '','') FROM pg_cursors WHERE name LIKE ''eve%'''),
        ('channels', 'SELECT string_agg(c, '','') FROM pg_listening_channels() c'),
        ('advisory locks', 'SELECT count(*) FROM pg_locks WHERE locktype = ''advisory'' AND pid = pg_backend_pid()'),
        ('locks on eve''s tables', 'SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation WHERE c.relnamespace = pg_my_temp_schema()'),
        ('temporary relations', 'SELECT string_agg(relname, '','') FROM pg_class WHERE relnamespace = pg_my_temp_schema()'),
        ('temporary types', 'SELECT string_agg(typname, '','') FROM pg_type WHERE typnamespace = pg_my_temp_schema()'),
        ('temporary functions', 'SELECT string_agg(proname, '','') FROM pg_proc WHERE pronamespace = pg_my_temp_schema()'),
        ('temporary operators', 'SELECT string_agg(oprname, '','') FROM pg_operator WHERE oprnamespace = pg_my_temp_schema()'),
        ('tasks by its short name', 'SELECT to_regclass(''tasks'')'),
        ('currval', 'SELECT currval(''app.numbers'')'), ('lastval', 'SELECT lastval()'),
        ('large object 0', 'SELECT loread(0, 100)'),
        ('connections', 'SELECT array_to_string(public.dblink_get_connections(), '','')'),
        ('connection without a name', 'SELECT x FROM public.dblink(''SELECT current_user::text'') AS d(x text)'),
        ('read only', 'SELECT current_setting(''transaction_read_only'')'),
        ('isolation', 'SELECT current_setting(''transaction_isolation'')'),
        ('the table of the diary', 'SELECT count(*) FROM app.diary')) q(name, query);
    RETURN seen || jsonb_build_object('pid', pg_backend_pid(), 'xid', pg_current_xact_id()::text, 'random', random());
END $$;
SQL
foreach my $role (qw(eve vic))
{
	foreach my $function (qw(do try inspect tidy))
	{
		create_workflow($node, $function, { nodes => [ { key => 'n', kind => 'sql', function => "app.$function" } ], output => '{{ nodes.n.output }}' }, role => $role);
	}
}

my $session = $node->session;

# ask(ROLE, STATEMENT): as the role, in one session that stays.
sub ask { my ($role, $statement) = @_; my $out = $session->query_safe("SET ROLE $role; $statement"); chomp $out; return $out; }

# ended_task(ID): {status, and the output's or error's fields}.
sub ended_task
{
	my ($id) = @_;
	my ($status, $value) = split /\|/, ask('postgres', "SELECT status, coalesce(output, error) FROM goya.wait_for_task('$id', '20 s')"), 2;
	my $fields = $value ne '' ? $json->decode($value) : {};
	return { status => $status, ref $fields eq 'HASH' ? %$fields : (value => $fields) };
}

sub start_task { my ($role, $workflow, $input) = @_; return ask($role, sprintf(q{SELECT goya.run('%s', $i$%s$i$)}, $workflow, $json->encode($input))); }
sub as { my ($role, $workflow, $input) = @_; return ended_task(start_task($role, $workflow, $input)); }

# ---- vic has something to lose ----
ask('vic', "INSERT INTO goya.assets (name, uri, metadata) VALUES ('$CANARY', 'file:///$CANARY', '{\"x\": \"$CANARY\"}')");
my $secret = start_task('vic', 'tidy', { name => $CANARY });
is(ended_task($secret)->{value}, $CANARY, 'vic has a task with a secret');
$node->sql("CREATE TABLE vic.t (x text); ALTER TABLE vic.t OWNER TO vic; INSERT INTO vic.t VALUES ('$CANARY')");

# ================ ways up: each is refused, and the session is the same as before ================
# The functions are measured now, so one executor is enough from here on.
as($_, 'do', { do => [], fail => '22012' }), as($_, 'try', { do => [] }), as($_, 'do', { do => [] }), as($_, 'inspect', {}) foreach qw(eve vic);
$node->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'goya executor' \\g /dev/null");
$node->reached("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'goya executor'", 0, 10, 'the executors that measured functions are gone');
as('vic', 'inspect', {});
my $executors = join ',', worker_pid($node, 'executor');
my $engine = join ',', worker_pid($node, 'engine');
like($executors, qr/^\d+$/, 'one executor');
my @refused = (
	# to other roles
	[ 'RESET ROLE', '42501|22023' ], [ 'SET ROLE vic', 42501 ], [ 'SET LOCAL ROLE vic', 42501 ], [ 'SET ROLE NONE', '42501|22023' ], [ 'SET ROLE goya_owner', 42501 ],
	[ 'SET ROLE goya_executor', 42501 ], [ 'SET ROLE eve', 42501 ], [ 'SET SESSION AUTHORIZATION postgres', 42501 ], [ 'SET SESSION AUTHORIZATION eve', 42501 ],
	[ 'RESET SESSION AUTHORIZATION', 42501 ], [ q{SELECT set_config('role', 'vic', true)}, 42501 ], [ q{SELECT set_config('session_authorization', 'goya_executor', false)}, 42501 ],
	[ 'DO $$ BEGIN BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END; SET ROLE vic; END $$', 42501 ],
	[ 'GRANT goya_owner TO eve', 42501 ], [ 'GRANT vic TO eve', 42501 ], [ 'GRANT eve TO goya_executor', 42501 ],
	[ 'CREATE ROLE more', 42501 ], [ 'ALTER ROLE eve SUPERUSER', 42501 ], [ 'ALTER ROLE eve BYPASSRLS', 42501 ], [ 'ALTER ROLE goya_executor SUPERUSER', 42501 ],
	[ 'ALTER ROLE goya_executor SET search_path = eve', 42501 ], [ 'ALTER DATABASE goya SET search_path = eve', 42501 ], [ 'ALTER DEFAULT PRIVILEGES FOR ROLE vic GRANT ALL ON TABLES TO eve', 42501 ],
	# settings
	[ 'SET goya.allow_superuser_tasks = on', 42501 ], [ 'SET goya.max_executors = 64', '55P02' ], [ 'SET goya.tenant = $$vics$$', '42704|42602' ], [ 'SET session_replication_role = replica', 42501 ],
	[ 'SET log_min_messages = debug5', 42501 ], [ 'SET lo_compat_privileges = on', 42501 ], [ 'SET zero_damaged_pages = on', 42501 ], [ 'SET track_functions = $$all$$', 42501 ],
	[ 'ALTER SYSTEM SET goya.allow_superuser_tasks = on', '42501|25001' ], [ 'LOAD $$dblink$$', 42501 ],
	# transactions
	[ 'COMMIT', '0A000|2D000' ], [ 'ROLLBACK', '0A000|2D000' ], [ 'SAVEPOINT s', '0A000' ], [ 'PREPARE TRANSACTION $$x$$', '0A000|2D000' ], [ 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 25001 ],
	[ 'SET TRANSACTION SNAPSHOT $$00000003-0000001B-1$$', '25001|22023|0A000' ], [ 'VACUUM', 25001 ], [ 'DISCARD ALL', 25001 ], [ 'LISTEN x', '0A000' ],
	[ 'DO $$ BEGIN COMMIT; END $$', '2D000' ], [ 'DO $$ BEGIN ROLLBACK; END $$', '2D000' ],
	# other processes, files, programs
	[ "SELECT pg_terminate_backend(pid) FROM unnest('{$executors,$engine}'::int[]) pid", 42501 ], [ "SELECT pg_cancel_backend($engine)", 42501 ],
	[ 'SELECT pg_terminate_backend(pg_backend_pid())', 42501 ], [ 'SELECT pg_cancel_backend(pg_backend_pid())', 42501 ], [ 'SELECT pg_reload_conf()', 42501 ], [ 'SELECT pg_stat_reset()', 42501 ],
	[ 'SELECT pg_log_backend_memory_contexts(pg_backend_pid())', 42501 ], [ 'SELECT * FROM pg_backend_memory_contexts', 42501 ],
	[ 'COPY app.diary TO PROGRAM $$id$$', 42501 ], [ 'COPY (SELECT 1) TO $$/tmp/eve$$', 42501 ], [ 'COPY app.diary FROM $$/etc/passwd$$', 42501 ], [ 'COPY (SELECT 1) TO STDOUT', '0A000' ],
	[ 'SELECT lo_import($$/etc/passwd$$)', 42501 ], [ 'SELECT lo_export(1, $$/tmp/eve$$)', 42501 ], [ 'SELECT pg_read_file($$PG_VERSION$$)', 42501 ], [ 'SELECT pg_ls_dir($$.$$)', 42501 ],
	# loopback: a server that trusts its own socket trusts no SQL that comes from itself
	[ "SELECT dblink_connect('host=$socket port=$port dbname=goya user=postgres')", '2F003' ], [ "SELECT * FROM dblink('host=$socket port=$port dbname=goya user=postgres', 'SELECT 1') AS d(x int)", '2F003' ],
	[ 'CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw', 42501 ], [ 'CREATE EXTENSION adminpack', 42501 ], [ 'CREATE FUNCTION eve.c() RETURNS int LANGUAGE c AS $$goya$$, $$goya_wake_sql$$', 42501 ],
	[ 'CREATE FUNCTION eve.i(internal) RETURNS internal LANGUAGE internal AS $$int4in$$', 42501 ], [ 'CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION eve.nothing()', '42501|42883' ],
	[ 'CREATE SUBSCRIPTION s CONNECTION $$host=x$$ PUBLICATION p', '42501|25001' ], [ 'CREATE PUBLICATION p FOR TABLE goya.tasks', 42501 ], [ 'SELECT pg_create_logical_replication_slot($$s$$, $$test_decoding$$)', '42501|55000' ],
	# goya's own
	[ 'SELECT * FROM goya_private.ready', 42501 ], [ 'SELECT goya_private.wake()', 42501 ], [ 'CREATE TABLE goya.x ()', 42501 ], [ 'CREATE FUNCTION goya.run(text) RETURNS uuid LANGUAGE sql AS $$ SELECT NULL::uuid $$', 42501 ],
	[ 'DROP FUNCTION goya.current_tenant()', 42501 ], [ 'ALTER FUNCTION goya.current_tenant() OWNER TO eve', 42501 ], [ 'ALTER TABLE goya.tasks DISABLE ROW LEVEL SECURITY', 42501 ], [ 'ALTER TABLE goya.assets NO FORCE ROW LEVEL SECURITY', 42501 ],
	[ 'CREATE POLICY p ON goya.assets USING (true)', 42501 ], [ 'CREATE TRIGGER t AFTER INSERT ON goya.assets EXECUTE FUNCTION suppress_redundant_updates_trigger()', 42501 ],
	[ 'CREATE INDEX ON goya.assets ((length(name)))', 42501 ], [ 'CREATE STATISTICS eve.s ON name, uri FROM goya.assets', 42501 ],
	[ 'ANALYZE goya.assets', '' ], [ 'LOCK TABLE goya.tasks IN SHARE MODE', 42501 ], [ 'SELECT * FROM goya.tasks FOR UPDATE', 42501 ], [ 'CREATE TABLE eve.r (x uuid REFERENCES goya.tasks)', 42501 ],
	[ 'CREATE TABLE eve.k () INHERITS (goya.assets)', 42501 ], [ 'TRUNCATE goya.events', 42501 ], [ 'DELETE FROM goya.tenants', 42501 ], [ 'UPDATE goya.tasks SET run_as = $$vic$$', 42501 ], [ 'INSERT INTO goya.members VALUES ($$eve$$)', 42501 ],
	[ 'SELECT goya.add_member($$eve$$, $$vics$$)', 42501 ], [ 'SELECT goya.top_up(1, $$x$$)', 42501 ], [ 'CREATE CAST (text AS uuid) WITHOUT FUNCTION', '42501|42P17' ], [ 'CREATE OPERATOR CLASS eve.o FOR TYPE int USING btree AS STORAGE int', 42501 ],
	[ 'SELECT cron.schedule($$x$$, $$* * * * *$$, $$SELECT 1$$)', 42501 ], [ "SELECT goya.cancel('$secret')", 'PT404' ], [ "SELECT goya.wait_for_task('$secret', '0')", 'PT404' ], [ "SELECT goya.retry('$secret')", 'PT404' ],
);
my $before = as('vic', 'inspect', {});
is($before->{status}, 'succeeded', 'what a session holds before eve comes') or diag explain $before;
my $pid = $before->{pid};
delete @{$before}{qw(pid xid random)};
my $told = '';
foreach my $attack (@refused)
{
	my ($statement, $codes) = @$attack;
	my $answer = as('eve', 'try', { do => [$statement] });
	my $code = $answer->{code} // '';

	like($code, qr/^(?:$codes)$/, "$statement is refused") or diag explain $answer;
	$told .= $json->encode($answer);
}
same_session('after all of them');

# same_session(NAME): one assertion, that vic finds what it found at first, in the same process.
sub same_session
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return same_as_before(as('vic', 'inspect', {}), $name);
}

sub same_as_before
{
	my ($after, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %seen = %$after;
	my @different;

	delete @seen{qw(pid xid random)};
	foreach my $what (sort keys %seen, keys %$before)
	{
		push @different, "$what: " . ($seen{$what} // '(nothing)') . " and not " . ($before->{$what} // '(nothing)') if ($seen{$what} // '') ne ($before->{$what} // '');
	}
	push @different, "process $after->{pid} and not $pid" if ($after->{pid} // 0) != $pid;
	return is(join("\n", @different), '', "$name: vic's node finds what it found at first");
}

# ================ residue ================
my $connect = "SELECT dblink_connect_u('eve', 'host=$socket port=$port dbname=goya user=eve')";
my $connect_unnamed = "SELECT dblink_connect_u('host=$socket port=$port dbname=goya user=eve')";
my %leave = (
	'settings' => [ q{SELECT set_config('eve.left', 'x', false), set_config('search_path', 'eve', false), set_config('statement_timeout', '0', false), set_config('TimeZone', 'Asia/Tokyo', false)},
		'SET default_transaction_read_only = on; SET client_min_messages = debug1; SET standard_conforming_strings = off; SET transform_null_equals = on',
		'SET row_security = off; SET datestyle = german; SET client_encoding = latin1; SET work_mem = 64; SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan',
		'SET application_name = eve; SET synchronous_commit = off; SET lock_timeout = 1; SET default_tablespace = pg_default' ],
	'claims' => [ q{SELECT set_config('request.jwt.claims', '{"tenant": "vics", "role": "vic"}', false)} ],
	'read only' => [ 'SET TRANSACTION READ ONLY' ],
	'a prepared statement' => [ 'PREPARE eve AS SELECT 1' ],
	'cursors' => [ 'DECLARE eve1 CURSOR WITH HOLD FOR SELECT current_user', 'DECLARE eve2 CURSOR FOR SELECT 1' ],
	'temporary objects' => [ 'CREATE TEMP TABLE tasks (x int) ON COMMIT DELETE ROWS', 'CREATE TEMP TABLE pg_class (x int)', 'CREATE TEMP VIEW assets AS SELECT 1 AS id', 'CREATE DOMAIN pg_temp.text AS pg_catalog.text',
		'CREATE FUNCTION pg_temp.f(x int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$', 'CREATE OPERATOR pg_temp.@@@@ (FUNCTION = pg_temp.f, RIGHTARG = int)', 'CREATE TEMP SEQUENCE s' ],
	'values of sequences' => [ q{SELECT nextval('app.numbers')} ],
	'advisory locks' => [ 'SELECT pg_advisory_lock(1), pg_advisory_lock_shared(2), pg_advisory_xact_lock(3)' ],
	'an open large object' => [ q{SELECT lo_from_bytea(0, 'x') AS o, lo_open((SELECT lo_create(0)), 131072 | 262144)} ],
	'connections of dblink' => [ $connect, $connect_unnamed ],
	'a seed' => [ 'SELECT setseed(0.5)' ],
	'notifications' => [ q{SELECT pg_notify('eve', repeat('x', 7000)) FROM generate_series(1, 100)}, 'UNLISTEN *' ],
	'a snapshot' => [ 'SELECT pg_export_snapshot()' ],
	'a role for later' => [ 'SET LOCAL statement_timeout = 1', 'SET CONSTRAINTS ALL DEFERRED' ],
	'discarded plans' => [ 'DISCARD PLANS', 'DISCARD SEQUENCES', 'DISCARD TEMP', 'DEALLOCATE ALL', 'RESET ALL' ],
	'notices' => [ 'DO $$ BEGIN FOR i IN 1 .. 10000 LOOP RAISE NOTICE $x$x$x$; END LOOP; END $$' ],
);
my @seeded = split /\n/, $node->sql('SELECT setseed(0.5) \g /dev/null
SELECT random() FROM generate_series(1, 100)');
foreach my $what (sort keys %leave)
{
	my $do = $leave{$what};
	my $done = as('eve', 'do', { do => $do });
	my $seen = as('vic', 'inspect', {});

	is($done->{status}, 'succeeded', "$what: left behind") or diag explain $done;
	same_as_before($seen, $what);
	ok(!(grep { $_ == $seen->{random} } @seeded), "$what: random() is not what eve makes it");
	like(as('eve', 'do', { do => $do, fail => '22012' })->{code}, qr/^(22012|25001)$/, "$what, then an error");
	same_session("$what, then an error");
}
# In one transaction: eve's node and vic's are started together. A node runs alone now and then; then both are started again.
foreach my $what (sort keys %leave)
{
	my ($together, $eve, $vic);

	for (1 .. 10)
	{
		my @ids = split /\n/, $session->query_safe(sprintf <<'SQL', $json->encode({ do => $leave{$what} }));
BEGIN;
SET ROLE eve; SELECT goya.run('do', $i$%s$i$);
SET ROLE vic; SELECT goya.run('inspect');
COMMIT;
SQL
		($eve, $vic) = map { ended_task($_) } @ids;
		$together = ($eve->{xid} // '') eq ($vic->{xid} // '-');
		last if $together;
	}
	ok($together, "$what: in the same transaction") or diag explain [ $eve, $vic ];
	same_as_before($vic, "$what, in the same transaction");
}
# Deferral of constraints is the transaction's, and no setting.
$node->sql('CREATE TABLE app.once (x int UNIQUE DEFERRABLE); INSERT INTO app.once VALUES (1); GRANT INSERT ON app.once TO vic');
{
	my ($together, $vic);
	for (1 .. 10)
	{
		my @ids = split /\n/, $session->query_safe(<<'SQL');
BEGIN;
SET ROLE eve; SELECT goya.run('do', '{"do": ["SET CONSTRAINTS ALL DEFERRED"]}');
SET ROLE vic; SELECT goya.run('try', '{"do": ["INSERT INTO app.once VALUES (1)"]}');
COMMIT;
SQL
		(my $eve, $vic) = map { ended_task($_) } @ids;
		$together = ($eve->{xid} // '') eq ($vic->{xid} // '-');
		last if $together;
	}
	ok($together, 'deferred constraints: in the same transaction') or diag explain $vic;
	is($vic->{code}, '23505', 'deferred constraints: vic\'s are checked at once') or diag explain $vic;
}

# ---- the other's connection, statements and so on cannot be used, either ----
is(as('vic', 'do', { do => [ "SELECT dblink_connect_u('mine', 'host=$socket port=$port dbname=goya user=vic')" ] })->{status}, 'succeeded', 'vic forgets a connection');
# A name that is no connection's is taken for a connection string.
is(as('eve', 'try', { query => q{SELECT x FROM dblink('mine', 'SELECT x FROM vic.t') AS d(x text)} })->{code}, '2F003', 'eve cannot use it');
is(as('vic', 'do', { do => [ q{SELECT lo_from_bytea(4711, 'secret')}, 'SELECT lo_open(4711, 262144)' ] })->{status}, 'succeeded', 'vic forgets an open large object');
is(as('eve', 'try', { query => 'SELECT loread(0, 100)' })->{code}, '42704', 'eve cannot read it');

# ---- what PL/pgSQL compiled under another's names ----
ask('eve', <<'SQL');
CREATE FUNCTION eve.spy(v pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO app.diary (who, note) VALUES (current_user, v); RETURN true; END $f$;
CREATE DOMAIN eve.text AS pg_catalog.text CHECK (eve.spy(value));
CREATE FUNCTION eve.poison(input jsonb) RETURNS jsonb LANGUAGE plpgsql SET search_path = eve, pg_catalog AS $f$ BEGIN RETURN app.tidy(input); END $f$;
SELECT goya.create_workflow('poison', '{"nodes": [{"key": "n", "kind": "sql", "function": "eve.poison"}], "output": "{{ nodes.n.output }}"}', publish => true);
SQL
$node->sql('DELETE FROM app.diary');
is(as('eve', 'poison', { name => 'mine' })->{value}, 'mine', 'eve calls a shared function with types of its own');
isnt($node->sql(q{SELECT count(*) FROM app.diary WHERE who = 'eve'}), 0, 'and is noted');
is(as('vic', 'tidy', { name => $CANARY })->{value}, $CANARY, 'vic calls it too');
is($node->sql(q{SELECT count(*) FROM app.diary WHERE who <> 'eve'}), 0, 'nothing of eve\'s ran as vic');
$node->sql('DELETE FROM app.diary');
is(as('eve', 'poison', { name => 'mine' })->{value}, 'mine', 'and again: eve');
is($node->sql(q{SELECT count(*) FROM app.diary}) > 0, 1, 'as it was compiled for eve');

# ================ as whom ================
ask('eve', <<'SQL');
CREATE TABLE eve.bait (x int);
CREATE FUNCTION eve.late() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO app.diary (who, outer_role, note) VALUES (current_user, session_user, 'deferred'); RETURN NULL; END $f$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON eve.bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION eve.late();
CREATE FUNCTION eve.held() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO app.diary (who, outer_role, note) VALUES (current_user, session_user, 'held'); RETURN current_user; END $f$;
CREATE FUNCTION eve.climb() RETURNS text SECURITY DEFINER LANGUAGE plpgsql AS $f$
BEGIN
    BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
    BEGIN EXECUTE 'SET ROLE vic'; EXCEPTION WHEN OTHERS THEN NULL; END;
    RETURN concat_ws(' ', current_user, goya.current_caller(), goya.current_tenant() = (SELECT id FROM goya.tenants WHERE name = 'eves'),
                     (SELECT count(*) FROM goya.tasks WHERE run_as <> 'eve'), goya.is_admin());
END $f$;
CREATE FUNCTION eve.safe(question text) RETURNS text PARALLEL SAFE LANGUAGE plpgsql AS $f$ DECLARE answer text; BEGIN EXECUTE question INTO answer; RETURN pg_backend_pid() || ' ' || answer; END $f$;
-- In a parallel worker, which is in no task: what is asked there, and whether it was there.
CREATE FUNCTION eve.in_worker(question text) RETURNS text LANGUAGE plpgsql AS $f$
DECLARE
    answer text;
BEGIN
    PERFORM set_config('force_parallel_mode', 'on', true);
    EXECUTE 'SELECT eve.safe($1)' INTO answer USING question;
    RETURN CASE WHEN split_part(answer, ' ', 1) <> pg_backend_pid()::text THEN 'worker: ' END || substr(answer, strpos(answer, ' ') + 1);
END $f$;
CREATE FUNCTION eve.serve() RETURNS text SECURITY DEFINER LANGUAGE plpgsql AS $f$ BEGIN RETURN app.serve(); END $f$;
CREATE VIEW eve.window AS SELECT eve.held() AS who;
GRANT SELECT ON eve.window TO PUBLIC;
GRANT INSERT ON eve.bait TO PUBLIC;
SQL
$node->sql('DELETE FROM app.diary');
is(as('eve', 'do', { do => [ 'INSERT INTO eve.bait VALUES (1)', 'DECLARE held CURSOR WITH HOLD FOR SELECT eve.held()' ] })->{status}, 'succeeded', 'eve leaves a deferred trigger and a cursor that runs at commit');
same_session('deferred');
is($node->sql('SELECT DISTINCT who, outer_role FROM app.diary'), 'eve|goya_executor', 'whatever ran at the end of the transaction ran as eve');
is(as('vic', 'do', { query => 'SELECT eve.climb()' })->{result}, 'eve eve t 0 f', 'a SECURITY DEFINER function of eve, called by vic\'s node, is eve: role, tenant and rows');
is(as('eve', 'do', { query => q{SELECT concat_ws(' ', current_user, goya.current_caller(), goya.is_admin())} })->{result}, 'eve eve f', 'and eve is eve');
$node->sql(q{CREATE FUNCTION app.serve() RETURNS text SECURITY DEFINER LANGUAGE plpgsql AS $f$ BEGIN RETURN goya.current_caller() || ' ' || (SELECT name FROM goya.tenants WHERE id = goya.current_tenant()); END $f$});
is(as('vic', 'do', { query => 'SELECT app.serve()' })->{result}, 'vic vics', 'a superuser\'s function acts for the task that calls it');
is(as('vic', 'do', { query => 'SELECT eve.serve()' })->{result}, 'eve eves', 'and for eve, whose function calls it in vic\'s task');
is(as('eve', 'do', { query => q{SELECT eve.in_worker('SELECT current_user')} })->{result}, 'worker: eve', 'eve gets a parallel worker');
foreach my $question ('goya.current_caller()', 'goya.current_tenant()', 'goya.is_admin()', 'count(*) FROM goya.tasks')
{
	is(as('eve', 'try', { query => "SELECT eve.in_worker('SELECT $question')" })->{code}, '0A000', "goya does not answer $question there");
}

# ================ an unpleasant guest ================
my %errors = ('57P01' => qr/57P01/, 'XX000' => qr/XX000/, '57014' => qr/57014/, '40001' => qr/40001/, '40P01' => qr/40P01/, '00000' => qr/P0001/, 'PT402' => qr/PT402/, '55006' => qr/55006/, 'XXUUU' => qr/XXUUU/);
foreach my $code (sort keys %errors)
{
	my $answer = as('eve', 'do', { do => [], fail => $code });
	like("$answer->{status} " . ($answer->{code} // ''), qr/^failed $errors{$code}/, "an error $code is eve's node's") or diag explain $answer;
}
same_session('errors of all kinds');
ask('eve', <<'SQL');
CREATE FUNCTION eve.deep(x int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN RETURN eve.deep(x + 1) + 1; END $f$;
CREATE FUNCTION eve.stubborn(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $f$ BEGIN SET LOCAL statement_timeout = 0; PERFORM set_config('statement_timeout', '0', false), pg_sleep(60); RETURN '1'; END $f$;
SELECT goya.create_workflow('stubborn', '{"nodes": [{"key": "n", "kind": "sql", "function": "eve.stubborn", "timeout": "300ms"}]}', publish => true);
SQL
is(as('eve', 'do', { do => ['SELECT eve.deep(0)'] })->{code}, '54001', 'a recursion without end');
is(as('eve', 'do', { query => q{SELECT repeat('x', 2000000000)} })->{code}, '54000', 'more text than fits');
{
	my $began = time;
	is(as('eve', 'stubborn', {})->{code}, '57014', 'a node cannot switch its timeout off');
	cmp_ok(time - $began, '<', 10, 'and ends in time');
}
same_session('a stubborn node');

# Settings of made-up names stay for ever, each costs memory: an executor with many of them leaves.
my $many = as('eve', 'do', { do => [ q{SELECT count(set_config('eve.x' || i, 'x', false)) FROM generate_series(1, 1500) i} ] });
is($many->{status}, 'succeeded', '1,500 settings of made-up names');
$node->reached("SELECT count(*) FROM pg_stat_activity WHERE pid = $many->{pid}", 0, 10, 'the executor leaves');
my $fresh = as('vic', 'inspect', {});
is($fresh->{status}, 'succeeded', 'another comes');
$pid = $fresh->{pid};
same_as_before($fresh, 'in the new executor');

# ================ what counts from the next node on ================
# A node that takes the privilege away itself, then a node that would need it, in one task, so mostly in one batch.
$node->sql(<<'SQL');
CREATE FUNCTION app.revoke(input jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE input ->> 'do'; RETURN '1'; END $$;
CREATE FUNCTION app.last(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.diary (who, note) VALUES (current_user, 'last'); RETURN '1'; END $$;
CREATE ROLE club; GRANT club TO vic; CREATE SCHEMA club; GRANT USAGE ON SCHEMA club TO club;
CREATE FUNCTION club.last(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT app.last(input) $$;
SQL
create_workflow($node, 'revoked', { nodes => [ { key => 'a', kind => 'sql', function => 'app.last' }, { key => 'b', kind => 'sql', function => 'app.revoke', input => { do => '{{ input.do }}' } },
	{ key => 'c', kind => 'sql', function => 'app.last' } ], edges => [ { from => 'a', to => 'b' }, { from => 'b', to => 'c' } ] }, role => 'vic');
create_workflow($node, 'club', { nodes => [ { key => 'a', kind => 'sql', function => 'club.last' }, { key => 'b', kind => 'sql', function => 'app.revoke', input => { do => '{{ input.do }}' } },
	{ key => 'c', kind => 'sql', function => 'club.last' } ], edges => [ { from => 'a', to => 'b' }, { from => 'b', to => 'c' } ] }, role => 'vic');
foreach my $case (
	[ 'EXECUTE on the function', 'revoked', 'REVOKE EXECUTE ON FUNCTION app.last(jsonb) FROM PUBLIC', 'GRANT EXECUTE ON FUNCTION app.last(jsonb) TO PUBLIC' ],
	[ 'USAGE of the schema', 'club', 'REVOKE USAGE ON SCHEMA club FROM club', 'GRANT USAGE ON SCHEMA club TO club' ],
	[ 'the membership of a role', 'club', 'REVOKE club FROM vic', 'GRANT club TO vic' ],
	[ 'the function', 'club', 'ALTER FUNCTION club.last(jsonb) RENAME TO first', 'ALTER FUNCTION club.first(jsonb) RENAME TO last' ],
	[ 'being no superuser', 'revoked', 'ALTER ROLE vic SUPERUSER', 'ALTER ROLE vic NOSUPERUSER' ],
	[ 'being bound by row security', 'revoked', 'ALTER ROLE vic BYPASSRLS', 'ALTER ROLE vic NOBYPASSRLS' ],
	[ 'the name of the role', 'revoked', 'ALTER ROLE vic RENAME TO victor', 'ALTER ROLE victor RENAME TO vic' ])
{
	my ($what, $workflow, $take, $give) = @$case;

	# The first time functions are measured, each in a transaction of its own; then all three nodes share one.
	is(as('vic', $workflow, { do => 'SELECT 1' })->{status}, 'succeeded', "$what: all three nodes run") for 1 .. 2;
	$node->sql('DELETE FROM app.diary');
	my $answer = as('vic', $workflow, { do => $take });
	$node->sql($give);
	like("$answer->{status} " . ($answer->{code} // ''), qr/^failed (42501|42883|3F000)$/, "$what: taken away by the second node, missed by the third") or diag explain $answer;
	is($node->sql('SELECT count(*) FROM app.diary'), 1, "$what: the third did not run");
}
my $waiting = create_workflow($node, 'later', { nodes => [ { key => 'w', kind => 'wait', signal => 'go' }, { key => 'c', kind => 'sql', function => 'app.last' } ], edges => [ { from => 'w', to => 'c' } ] }, role => 'vic');
foreach my $case ([ 'a suspended tenant', q{SELECT goya.suspend_tenant('vics')}, q{SELECT goya.activate_tenant('vics')} ], [ 'a renamed role', 'ALTER ROLE vic RENAME TO victor', 'ALTER ROLE victor RENAME TO vic' ])
{
	my ($what, $take, $give) = @$case;
	my $id = start_task('vic', 'later', {});
	$node->reached("SELECT status FROM goya.tasks WHERE id = '$id'", 'waiting', 10, "$what: a task waits");
	$node->sql("$take \\g /dev/null");
	$node->sql("SELECT goya.signal('$id', 'go') \\g /dev/null");
	my $answer = ended_task($id);
	is("$answer->{status} $answer->{code}", 'failed 42501', "$what: its next node is refused");
	$node->sql("$give \\g /dev/null");
}
# A role that owns nothing is dropped while its task waits between two nodes.
$node->sql(q{CREATE ROLE gil; GRANT goya_user TO gil; SELECT goya.add_member('gil', 'vics') \g /dev/null});
{
	my $id = start_task('gil', 'later', {});
	$node->reached("SELECT status FROM goya.tasks WHERE id = '$id'", 'waiting', 10, 'a dropped role: its task waits');
	$session->query_safe('RESET ROLE');
	$node->sql('DELETE FROM app.diary; DROP ROLE gil');
	$node->sql("SELECT goya.signal('$id', 'go') \\g /dev/null");
	my $answer = ended_task($id);
	is("$answer->{status} $answer->{code}", 'failed 42501', 'a dropped role: its next node is refused');
	is($node->sql('SELECT count(*) FROM app.diary'), 0, 'a dropped role: and has not run');
}

# ================ what somebody prepared before CREATE EXTENSION ================
# Traps: whatever of them ran would say so, and stop the script.
my $traps = <<'SQL';
CREATE FUNCTION public.trap() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$;
CREATE FUNCTION public.trap_operator(name, text) RETURNS boolean LANGUAGE sql AS $$ SELECT public.trap() IS NULL $$;
CREATE OPERATOR public.= (FUNCTION = public.trap_operator, LEFTARG = name, RIGHTARG = text);
CREATE FUNCTION public.trap_concat(text, text) RETURNS text LANGUAGE sql AS $$ SELECT public.trap() $$;
CREATE OPERATOR public.|| (FUNCTION = public.trap_concat, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE sql AS $$ SELECT public.trap() $$;
CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT public.trap()::timestamptz $$;
CREATE FUNCTION public.coalesce(jsonb, jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT public.trap()::jsonb $$;
CREATE FUNCTION public.jsonb_build_object(text, text) RETURNS jsonb LANGUAGE sql AS $$ SELECT public.trap()::jsonb $$;
CREATE DOMAIN public.text AS pg_catalog.text CHECK (public.trap() IS NULL);
CREATE DOMAIN public.uuid AS pg_catalog.uuid CHECK (public.trap() IS NULL);
CREATE TABLE public.tasks (x int); CREATE TABLE public.pg_roles (rolname name); CREATE VIEW public.pg_class AS SELECT public.trap() AS oid;
SQL
my $made = 0;
foreach my $case (
	[ 'a schema goya that is eve\'s', 'CREATE SCHEMA goya AUTHORIZATION eve', '42501' ],
	[ 'a schema goya that eve may create in', 'CREATE SCHEMA goya; GRANT CREATE ON SCHEMA goya TO eve', '42501' ],
	[ 'a schema goya that holds a function', 'CREATE SCHEMA goya; CREATE FUNCTION goya.format(text, text) RETURNS text LANGUAGE sql AS $$ SELECT $1 $$', '55000' ],
	[ 'a schema goya that holds an operator', 'CREATE SCHEMA goya; CREATE OPERATOR goya.= (FUNCTION = nameeqtext, LEFTARG = name, RIGHTARG = text)', '55000' ],
	[ 'a schema goya that holds a table', 'CREATE SCHEMA goya; CREATE TABLE goya.tasks (x int)', '55000' ],
	[ 'a schema goya_private', 'CREATE SCHEMA goya_private AUTHORIZATION eve', '42P06' ],
	[ 'goya_owner a superuser', 'ALTER ROLE goya_owner SUPERUSER', '42501', 'ALTER ROLE goya_owner NOSUPERUSER' ],
	[ 'goya_owner for clients', 'ALTER ROLE goya_owner CONNECTION LIMIT 5', '42501', 'ALTER ROLE goya_owner CONNECTION LIMIT 0' ],
	[ 'goya_executor a creator of roles', 'ALTER ROLE goya_executor CREATEROLE', '42501', 'ALTER ROLE goya_executor NOCREATEROLE' ],
	[ 'goya_executor a creator of databases', 'ALTER ROLE goya_executor CREATEDB', '42501', 'ALTER ROLE goya_executor NOCREATEDB' ],
	[ 'eve a member of goya_owner', 'GRANT goya_owner TO eve', '42501', 'REVOKE goya_owner FROM eve' ],
	[ 'goya_executor a member of vic', 'GRANT vic TO goya_executor', '42501', 'REVOKE vic FROM goya_executor' ],
	[ 'traps in public', "ALTER DATABASE prepared SET search_path = public, pg_catalog; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO eve; ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO eve;\n$traps", '' ])
{
	my ($what, $prepare, $code, $undo) = @$case;
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS prepared WITH (FORCE)');
	$node->safe_psql('postgres', 'CREATE DATABASE prepared');
	local $GoyaNode::DATABASE = 'prepared';
	$node->sql($prepare);
	my ($done, $out, $error) = $node->try_sql('CREATE EXTENSION goya');
	if ($code ne '') { like($done ? 'created' : $error, qr/ERROR:\s+(?:$code):/, "$what stops the installation") }
	else
	{
		ok($done, "$what do nothing") or diag $error;
		is($node->sql(q{SET search_path = pg_catalog; SELECT count(*) FROM pg_depend d JOIN pg_extension e ON e.extname = 'goya' JOIN pg_depend o ON o.refobjid = e.oid AND o.deptype = 'e' AND d.objid = o.objid AND d.classid = o.classid
			WHERE (d.refclassid = 'pg_proc'::regclass AND EXISTS (SELECT FROM pg_proc p WHERE p.oid = d.refobjid AND p.pronamespace = 'public'::regnamespace))
			   OR (d.refclassid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type p WHERE p.oid = d.refobjid AND p.typnamespace = 'public'::regnamespace))
			   OR (d.refclassid = 'pg_operator'::regclass AND EXISTS (SELECT FROM pg_operator p WHERE p.oid = d.refobjid AND p.oprnamespace = 'public'::regnamespace))}), 0, 'and goya has none of them in it');
		is($node->sql(q{SET search_path = pg_catalog; SELECT count(*) FROM pg_class c WHERE c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND c.relkind IN ('r', 'v', 'S') AND has_table_privilege('eve', c.oid, 'SELECT') AND NOT has_table_privilege('goya_user', c.oid, 'SELECT')}), 0, 'and default privileges gave eve nothing');
		is($node->sql(q{SET search_path = pg_catalog; SELECT count(*) FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND a.grantee IN (0, 'eve'::regrole)}), 0, 'nor functions');
	}
	$node->sql($undo) if $undo;
	$made++ if $done;
}
is($made, 1, 'one of them was installed');
{
	local $GoyaNode::DATABASE = 'prepared';
	$node->sql('DROP EXTENSION goya');
}
$node->safe_psql('postgres', 'DROP DATABASE prepared WITH (FORCE)');

# ================ what eve was told ================
unlike($told, qr/\Q$CANARY\E/, 'nothing eve was told has vic\'s secret in it');
is(ask('eve', "SELECT count(*) FROM goya.tasks t WHERE t::text LIKE '%$CANARY%'"), '0', 'nor any row it sees');
is_sound($node);
$session->quit;
$node->stop('fast');
done_testing();
