# 031_company.pl: nodes that must not share their batch with others (src/alone.c): one that takes long this time, and one that locks a wallet
# beside nodes of other tenants.
#
# Decided: whether two nodes shared a transaction is seen by its id, which each writes down; what takes long waits for a lock, and is let go when the
# test has seen enough. Both functions are measured before, fast, so that they are run in batches. One executor, so that what is claimed together is known.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;

my $node = GoyaNode->start(name => 'company', preload => 'goya', conf => $GoyaWork::CONF . "goya.max_executors = 1\ngoya.batch_time = '200ms'\ngoya.executor_idle_timeout = '10min'\n");
create_studio($node);
$node->create_user('other');
$node->sql(<<'SQL');
SELECT goya.create_tenant('others'), goya.add_member('other', 'others') \g /dev/null
SELECT goya.top_up(1000000000000, 'start', 'default'), goya.top_up(1000000000000, 'start', 'others'), goya.set_price('step', 1000) \g /dev/null
GRANT USAGE ON SCHEMA app TO other;
CREATE SEQUENCE app.calls;
CREATE TABLE app.seen (task uuid, what text, tx bigint, at timestamptz DEFAULT clock_timestamp());
GRANT ALL ON app.seen TO studio, other;
GRANT ALL ON SEQUENCE app.calls TO studio, other;
CREATE FUNCTION app.see(input jsonb, what text) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO app.seen (task, what, tx) VALUES ((input ->> 'task')::uuid, what, pg_current_xact_id()::text::bigint);
    SELECT '"ok"'::jsonb;
$$;
CREATE FUNCTION app.gate(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF input ->> 'shut' <> '' THEN
        PERFORM nextval('app.calls');
    END IF;
    PERFORM app.see(input, 'gate');
    IF input ->> 'shut' = 'deaf' THEN
        BEGIN
            PERFORM pg_advisory_xact_lock(77);
        EXCEPTION WHEN query_canceled THEN
            RETURN '"told to end"';
        END;
    ELSIF input ->> 'shut' = 'yes' THEN
        PERFORM pg_advisory_xact_lock(77);
    END IF;
    RETURN '"ok"';
END $$;
CREATE FUNCTION app.quick(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN app.see(input, 'quick'); END $$;
CREATE FUNCTION app.buy(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF input ->> 'shut' = '' THEN
        RETURN '"nothing"';
    END IF;
    PERFORM app.see(input, 'buy');
    BEGIN
        RETURN to_jsonb(goya.run('step'));
    EXCEPTION WHEN OTHERS THEN
        RETURN to_jsonb(SQLERRM);
    END;
END $$;
SQL
my $task = '{{ task.id }}';
foreach my $role (qw(studio other))
{
	create_workflow($node, 'step', { nodes => [ { key => 'n', kind => 'noop', price => 'step' } ] }, role => $role);
	create_workflow($node, $_, { nodes => [ { key => 'n', kind => 'sql', function => "app.$_", input => { task => $task, shut => '{{ input.shut }}' } } ] }, role => $role)
		foreach qw(gate quick buy);
}
sub run_as { my ($role, $what, $shut) = @_; return $node->sql(sprintf(q{SELECT goya.run('%s', '{"shut": "%s"}')}, $what, $shut // ''), role => $role); }
# Its first call may take long.
sub measure { my ($role, $what) = @_; ended($node, run_as($role, $what), 'succeeded', 10, "$what of $role is measured") foreach 1 .. 6; return; }
my $CALLS = 'SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM app.calls';

# ---- who takes long this time ----
measure('studio', 'gate');
measure('other', 'quick');
my $door = $node->session;
$door->query_safe('SELECT pg_advisory_lock(77)');
my %stuck = map { $_ => run_as('studio', 'gate', $_) } qw(yes deaf);
$node->reached("SELECT ($CALLS) > 0", 't', 10, 'a function that was fast waits in a batch');
ended($node, run_as('other', 'quick'), 'succeeded', 30, "another tenant's task does not wait for it");
ended($node, run_as('other', 'quick'), 'succeeded', 30, '... nor the next');
$node->reached(q{SELECT count(*) FROM goya.activity a JOIN pg_stat_activity p USING (pid) WHERE a.process = 'executor' AND p.wait_event = 'advisory'}, 2, 20,
	'both that took long run by themselves now, in executors that do not count');
is($node->sql(sprintf "SELECT string_agg(DISTINCT status::text, ',') FROM goya.tasks WHERE id IN ('%s')", join "','", values %stuck), 'running', '... for as long as they like');
ended($node, run_as('other', 'quick'), 'succeeded', 10, '... beside the batches');
$door->quit;
ended($node, $stuck{yes}, 'succeeded', 10, 'who took long ends well');
ended($node, $stuck{deaf}, 'succeeded', 10, '... also who had caught that it was to make room');
is($node->sql("SELECT output FROM goya.tasks WHERE id = '$stuck{deaf}'"), '"ok"', '... what that returned is forgotten');
is($node->sql(sprintf "SELECT string_agg(n.attempt::text, ',') FROM goya.node_runs n WHERE n.task_id IN ('%s')", join "','", values %stuck), '1,1', 'no attempt was counted');
is($node->sql(sprintf "SELECT count(*) FROM app.seen WHERE task IN ('%s')", join "','", values %stuck), 2, '... and each effect is there once');
cmp_ok($node->sql($CALLS), '>', 2, '... though they were called more often');

# ---- who locks a wallet, which nobody has seen it do ----
measure($_, 'buy') foreach qw(studio other);
$node->sql(q{SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE backend_type = 'goya executor'});
$node->sql('TRUNCATE app.seen');
$node->sql(q{BEGIN;
SET LOCAL ROLE other; SELECT count(goya.run('quick', '{"shut": ""}')) FROM generate_series(1, 20);
SET LOCAL ROLE studio; SELECT count(goya.run('quick', '{"shut": ""}')) FROM generate_series(1, 20);
SELECT count(goya.run('buy', '{"shut": "no"}')) FROM generate_series(1, 20);
SET LOCAL ROLE other; SELECT count(goya.run('buy', '{"shut": "no"}')) FROM generate_series(1, 20);
COMMIT});
$node->reached('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 0, 20, 'tasks of two tenants that start others with a price end');
is($node->sql(q{SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'step' AND t.status = 'succeeded'}), 40, '... and so do those');
is($node->sql(q{SELECT count(*), count(DISTINCT s.task) FROM app.seen s WHERE what = 'buy'}), '40|40', '... each effect once');
is($node->sql(q{SELECT count(*) FROM (SELECT FROM app.seen s JOIN goya.tasks t ON t.id = s.task GROUP BY s.tx HAVING count(DISTINCT t.tenant_id) > 1 AND bool_or(s.what = 'buy')) x}), 0, 'no transaction that locked a wallet on its way had nodes of both');
is($node->sql(q{SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'buy' AND t.output::text !~ '^"([0-9a-f-]{36}|nothing)"$'}), 0, 'no function got an error that it caught')
	or diag($node->sql(q{SELECT DISTINCT t.output FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'buy'}));
$node->sql('TRUNCATE app.seen');
$node->sql(q{SELECT count(goya.run('buy', '{"shut": "no"}')) FROM generate_series(1, 20)}, role => 'studio');
$node->reached('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 0, 20, 'tasks of one tenant');
cmp_ok($node->sql('SELECT count(DISTINCT tx) FROM app.seen'), '<', 20, '... share transactions, as before');

is_sound($node);
$node->stop('fast');
done_testing();
