# 012_model.pl: random workflows with failures, retries, cancels, signals, timeouts, maps, children, pauses and prices are executed as a naive
# model says (test/model, which has the rules), several hundred seeds; and what the model found once stays mended.
#
# Decided: the short form of test/soak/model, which runs the same for 10,000 seeds. GOYA_SEED repeats a run, GOYA_SEEDS sets how many.
# Must hold: a failing seed is printed with its definition, its events and how to repeat it.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use IPC::Run ();
use PostgreSQL::Test::Utils ();
use Test::More;

my $seed = $ENV{GOYA_SEED} || int(rand 2**31);
my $count = $ENV{GOYA_SEEDS} || 300;
note "GOYA_SEED=$seed";

my $keys = PostgreSQL::Test::Utils::tempdir() . '/keys';
PostgreSQL::Test::Utils::append_to_file($keys, 'k1 ' . '5e' x 32 . "\n");
chmod 0600, $keys;
my $node = GoyaNode->start(name => 'model', conf => $GoyaWork::CONF . "goya.master_key_file = '$keys'\n");

# run_model(ARGUMENTS): (exit status, output) of test/model/run.py.
sub run_model
{
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'postgres', PGDATABASE => $GoyaNode::DATABASE, PYTHONDONTWRITEBYTECODE => 1);
	my $out = `python3 "$FindBin::Bin/../model/run.py" @_ 2>&1`;

	return ($? >> 8, $out);
}

# Meanwhile the tenant has its values sealed, has them not, five times a second.
my $toggle = IPC::Run::start([ 'psql', '-XqAt', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-d', $GoyaNode::DATABASE, '-c', <<'SQL' ], '>', '/dev/null', '2>&1');
DO $$ BEGIN
    WHILE to_regclass('public.judged') IS NULL LOOP
        UPDATE goya.tenants SET settings = CASE WHEN settings ? 'encrypt_prompts' THEN settings - 'encrypt_prompts' ELSE settings || '{"encrypt_prompts": true}' END;
        COMMIT;
        PERFORM pg_sleep(0.2);
    END LOOP;
END $$
SQL
my ($status, $out) = run_model('--base', $seed, '--count', $count, '--in-flight', 150, '--seconds', 150);
is($status, 0, "$count random workflows are executed as the model says (seed $seed)") or diag($out);
like($out, qr/^$count passed, 0 failed$/m, 'all of them were judged');
$node->sql('CREATE TABLE public.judged ()');
IPC::Run::finish($toggle);
$node->sql("UPDATE goya.tenants SET settings = settings - 'encrypt_prompts'");
cmp_ok($node->sql(q{SELECT min(least(sealed, clear)) FROM (SELECT count(*) FILTER (WHERE output ? '$sealed') AS sealed, count(*) FILTER (WHERE NOT output ? '$sealed') AS clear FROM goya.node_runs
	UNION ALL SELECT count(*) FILTER (WHERE input ? '$sealed'), count(*) FILTER (WHERE NOT input ? '$sealed') FROM goya.tasks) n}), '>', $count / 10, 'of many of them values were sealed, of many others not');
note $1 if $out =~ /^# (\d+ seeds in .*)$/m;
if ($status != 0 && $ENV{GOYA_MUTANT})
{
	$node->stop('immediate');	# test/mutants has seen enough
	done_testing();
	exit;
}

# ---- found by the model ----

my $work = sub { my ($key, @more) = @_; return { key => $key, kind => 'sql', function => 'app.work', input => { task => '{{ task.id }}', node => $key, n => 1, @more } }; };

# A map that was tried again met the rows of its own items, and the batch was repeated for ever: no task of anybody went on.
my ($done, undef, $err) = $node->try_sql(q{SELECT goya.create_workflow('map again', '{"nodes": [{"key": "m", "kind": "map", "over": [1],
	"node": {"kind": "noop"}, "retry": {"max_attempts": 2}}]}', publish => true)}, role => 'studio');
ok(!$done && $err =~ m{bad_value at /nodes/0/retry: a map is not tried again as a whole}, 'a map has no retry of its own') or diag($err);

# The end of a wait that cannot be written is that node's error; it was repeated for ever, and no wait of anybody ended.
foreach my $kind (
	[ 'sleep', { kind => 'sleep', duration => 0.01 } ],
	[ 'wait', { kind => 'wait', signal => 'go' } ],
	[ 'map', { kind => 'map', over => [1], node => { kind => 'noop' } } ],
	[ 'map of waits', { kind => 'map', over => [1], node => { kind => 'sleep', duration => 0.01 } } ])
{
	my ($name, $fields) = @$kind;
	create_workflow($node, "late $name", {
		context => { shared => { first => { conflict => 'reject' } } },
		nodes => [ { key => 'a', kind => 'noop', writes => { shared => { first => 'a' } } }, { key => 'b', %$fields, writes => { shared => { first => 'b' } } } ],
		edges => [ { from => 'a', to => 'b' } ] });
	my $id = run_task($node, "late $name");
	if ($name eq 'wait')
	{
		$node->reached("SELECT status FROM goya.tasks WHERE id = '$id'", 'waiting', 30, 'it waits');
		$node->sql("SELECT goya.signal('$id', 'go')", role => 'studio');
	}
	ended($node, $id, 'failed', 30, "a $name that may not write what it wants fails");
	is($node->sql("SELECT error ->> 'code', error ->> 'node' FROM goya.tasks WHERE id = '$id'"), 'PT409|b', 'with the reason');
}
create_workflow($node, 'after it', { nodes => [ { key => 's', kind => 'sleep', duration => 0.01 } ] });
ended($node, run_task($node, 'after it'), 'succeeded', 30, 'and others go on');

# What a node wrote to the context stays with its result when another node fails in the same batch.
create_workflow($node, 'wrote before', {
	context => { shared => { log => { type => 'array', conflict => 'append' } } },
	nodes => [ { key => 'a', kind => 'noop', writes => { shared => { log => 'a' } } }, $work->('b', fails => 9, code => 'P0001') ] });
my $id = run_task($node, 'wrote before');
ended($node, $id, 'failed', 30, 'a task fails beside a node that wrote');
is($node->sql("SELECT goya.task_context('$id') -> 'shared'", role => 'studio'), $node->sql("SELECT CASE WHEN EXISTS (SELECT FROM goya.node_runs
	WHERE task_id = '$id' AND node = 'a' AND status = 'succeeded') THEN '{\"log\": [\"a\"]}' ELSE '{}' END"), 'what it wrote is there');

# A node that ends while its task undoes what it did had let the task succeed.
create_workflow($node, 'while undoing', {
	nodes => [ { %{ $work->('a') }, compensate => { kind => 'sql', function => 'app.work', input => { task => '{{ task.id }}', node => 'a.compensate', n => 1, ms => 300 } } },
		$work->('b', fails => 9, code => 'P0001', ms => 50), $work->('c', ms => 200) ],
	edges => [ { from => 'a', to => 'b' }, { from => 'a', to => 'c' } ] });
my @tasks = split /\n/, $node->sql(q{SELECT goya.run('while undoing') FROM generate_series(1, 6)}, role => 'studio');
$node->reached(sprintf(q{SELECT count(*) FROM goya.tasks WHERE id = ANY ('{%s}') AND finished_at IS NOT NULL}, join ',', @tasks), 6, 60, 'tasks with slow branches end');
is($node->sql(sprintf q{SELECT count(*) FROM goya.tasks WHERE id = ANY ('{%s}') AND status = 'failed' AND error ->> 'node' = 'b'}, join ',', @tasks), 6, 'each as failed');

# Nothing is begun for a task that was cancelled before, however soon an executor comes by.
create_workflow($node, 'stillborn', { nodes => [ $work->('a') ] });
foreach (1 .. 20)
{
	$node->sql(q{SELECT goya.cancel(goya.run('stillborn')) FROM generate_series(1, 20)}, role => 'studio');
}
$node->reached(q{SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'stillborn' AND t.status = 'cancelled'}, 400, 30,
	'400 tasks are cancelled in the transaction that starts them') or diag $node->sql(q{SELECT t.status, count(*) FROM goya.tasks t GROUP BY 1});
is($node->sql(q{SELECT count(*) FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'stillborn'}), 0,
	'and no node of them runs');

# A call that ends after its node run was ended changes nothing: its row belongs to somebody else by then.
my $http = http_server();
create_workflow($node, 'late result', {
	nodes => [ { %{ $work->('a') }, compensate => { kind => 'sql', function => 'app.work', input => { task => '{{ task.id }}', node => 'a.compensate', n => 1, ms => 1500 } } },
		{ key => 'call', kind => 'http', url => "$http/delay?ms=20000" }, { key => 's', kind => 'wait', signal => 'go' }, $work->('b', fails => 9, code => 'P0001') ],
	edges => [ { from => 'a', to => 'call' }, { from => 'a', to => 's' }, { from => 's', to => 'b' } ] });
$id = run_task($node, 'late result');
ok(defined until_true(sub { scalar http_log($http) }, 30), 'a call is made');
$node->sql("SELECT goya.signal('$id', 'go')", role => 'studio');
$node->reached("SELECT count(*) FROM goya.node_runs WHERE task_id = '$id' AND node = 'b' AND status = 'failed'", 1, 30, 'beside it a node fails');
release($http, 20000);
ended($node, $id, 'failed', 30, 'a task fails while a call is made');
is($node->sql("SELECT status FROM goya.node_runs WHERE task_id = '$id' AND node = 'call'"), 'cancelled', 'the late answer of the call changes nothing');

is_sound($node);
$node->stop('fast');
done_testing();
