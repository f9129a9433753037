# 032_rare_orders.pl: things that happen in an order that is rare, made to happen.
#
# A task fails while another of its nodes has run and not yet been recorded: what that node did is taken back; the task is undone and fails. (It used to
# succeed, with its error and half undone.) A call that was lost with its engine fails when it is to be made again: the node run says why and
# when. (Its row had neither.) Many tasks that cannot pay for their last node, and many executors: each fails, nobody waits for a node that another one
# has. (Executors that had each found another's guilty node never ended any.)
#
# Decided: no sleeps: nodes wait for locks that this test holds, so that the failing one is first at the task's row and the other one behind it.
# goya.lock_wait is a minute meanwhile, since the first must still wait for the row when the second comes; the last part has the usual half of a second.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;

my $node = GoyaNode->start(name => 'race', conf => $GoyaWork::CONF . "goya.lock_wait = '60s'\n");
create_studio($node);
$node->sql(<<'SQL');
CREATE TABLE app.gate_bad (n integer);
CREATE TABLE app.gate_good (n integer);
GRANT ALL ON app.gate_bad, app.gate_good TO studio;
CREATE FUNCTION app.bad(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM app.gate_bad; RAISE EXCEPTION 'boom'; END $$;
CREATE FUNCTION app.good(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM app.gate_good; PERFORM app.effect(input); RETURN input; END $$;
SQL
create_workflow($node, 'race', { nodes => [
	{ key => 'first', kind => 'noop', compensate => { kind => 'sql', function => 'app.effect', input => { node => 'undone' } } },
	{ key => 'bad', kind => 'sql', function => 'app.bad' },
	{ key => 'good', kind => 'sql', function => 'app.good', input => { node => 'good' } }],
	edges => [{ from => 'first', to => 'bad' }, { from => 'first', to => 'good' }] });

# locked(WHAT, N): executors that wait for the relation, or for a row.
sub locked
{
	my ($what, $n) = @_;
	my $for = $what eq 'row' ? "wait_event IN ('transactionid', 'tuple')" : "pid IN (SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'app.$what'::regclass)";
	return $node->reached("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'goya executor' AND wait_event_type = 'Lock' AND $for", $n, 60, "$n wait for $what");
}

my ($bad, $good, $row) = map { $node->session } 1 .. 3;
$bad->query_safe('BEGIN; LOCK app.gate_bad');
$good->query_safe('BEGIN; LOCK app.gate_good');
my $id = run_task($node, 'race', {});
locked('gate_bad', 1);
locked('gate_good', 1);
$row->query_safe("BEGIN; SELECT FROM goya.tasks WHERE id = '$id' FOR UPDATE");
$bad->query_safe('COMMIT');
locked('row', 1);
$good->query_safe('COMMIT');
locked('row', 2);
$row->query_safe('COMMIT');
ended($node, $id, 'failed', 30, 'the task fails');
is($node->sql("SELECT string_agg(node || ':' || status, ' ' ORDER BY node) FROM goya.node_runs WHERE task_id = '$id'"), 'bad:failed first:compensated first.compensate:succeeded',
	'its first node is undone, the other has not run');
is($node->sql('SELECT string_agg(node, \' \') FROM app.effects'), 'undone', 'and has left nothing');
is_sound($node);

# ---- a lost call that cannot be made again ----

my $http = http_server();
create_workflow($node, 'lost', { context => { vars => { url => { type => 'string' } } },
	nodes => [{ key => 'call', kind => 'http', method => 'GET', url => '{{ vars.url }}' }, { key => 'after', kind => 'noop' }],
	edges => [{ from => 'call', to => 'after', on => 'failure' }] });
$id = run_task($node, 'lost', { url => "$http/hang" });
$node->reached("SELECT status FROM goya.node_runs WHERE task_id = '$id'", 'running', 30, 'a call hangs');
ok(until_true(sub { scalar grep { $_->{path} eq '/hang' } http_log($http) }, 30), 'the server has it');
$node->sql(qq{SELECT goya.patch_context('$id', '{"vars": {"url": ""}}')}, role => 'studio');
$node->sql("SELECT pg_terminate_backend($_)") foreach worker_pid($node, 'engine');
ended($node, $id, 'succeeded', 60, 'called again it has no address any more, which the workflow handles');
is($node->sql("SELECT status, error ->> 'message', finished_at IS NOT NULL FROM goya.node_runs WHERE task_id = '$id' AND node = 'call'"),
	'failed|the url of node "call" is empty|t', 'its node run says why it failed, and when');
is_sound($node, 'goya.check() is empty');
$_->quit foreach ($bad, $good, $row);
# ---- more nodes that cannot be written than executors ----

my ($tasks, $paying) = (300, 40);
$node->sql(<<'SQL');
ALTER SYSTEM SET goya.max_executors = 6;
ALTER SYSTEM SET goya.lock_wait = '500ms';
SELECT pg_reload_conf();
SELECT goya.set_price('dear', 1000);
SQL
create_workflow($node, 'dear', { nodes => [
	{ key => 'free', kind => 'noop' },
	{ key => 'dear', kind => 'sql', function => 'app.good', input => { node => 'dear' }, price => { name => 'dear', quantity => '{{ input.n }}', estimate => 1 } }],
	edges => [{ from => 'free', to => 'dear' }] });
$node->sql("SELECT goya.top_up(@{[ ($tasks + $paying) * 1000 ]}, 'dear', 'default')");
$node->sql('TRUNCATE app.effects');
$node->sql("SELECT count(*) FROM goya.run_many('dear', (SELECT jsonb_agg(jsonb_build_object('n', 2)) FROM generate_series(1, $tasks)))", role => 'studio');
my $of_dear = "goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id AND w.name = 'dear'";
$node->reached("SELECT count(*) FROM $of_dear WHERE finished_at IS NULL", 0, 60, 'tasks that cannot pay for their last node end, though there are more of them than executors');
my ($paid, $unpaid) = split /\|/, $node->sql("SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed' AND t.error ->> 'code' = 'PT402') FROM $of_dear");
is($paid + $unpaid, $tasks, 'each has succeeded, or failed with PT402');
cmp_ok($unpaid, '>', 100, "many could not pay: $unpaid");
is($node->sql('SELECT count(*) FROM app.effects'), $paid, 'what was not paid for left nothing');
is_sound($node);

done_testing();
