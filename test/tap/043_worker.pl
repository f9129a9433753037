# 043_worker.pl: outside workers: the examples in docs/examples against a server, and workers that are killed, late, or not wanted any more.
#
# Decided: the workers are the examples themselves, as processes; test/run has test/worker/fetch get pg for Node.js. Leases are short where they must run out.
# Must hold: whatever happens to a worker, its node run ends once, with the output of the one that had the lease; goya.check() finds nothing.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use IPC::Run ();
use Test::More;
use Time::HiRes qw(sleep time);

my $node = GoyaNode->start(name => 'worker', conf => $GoyaWork::CONF);
my $root = Cwd::realpath("$FindBin::Bin/../..");
my $modules = $ENV{GOYA_WORKER_MODULES} // die "GOYA_WORKER_MODULES names no directory: test/run makes it with test/worker/fetch\n";
my %WORKERS = (python => [ 'python3', "$root/docs/examples/worker.py" ], node => [ 'node', "$modules/worker.mjs" ]);
create_studio($node);

# An example at a queue, until stop_worker.
sub start_worker
{
	my ($kind, $queue) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'goya', PGUSER => 'studio');
	my $worker = { said => '' };

	$worker->{run} = IPC::Run::start([ @{ $WORKERS{$kind} }, $queue ], '<', \undef, '>&', \$worker->{said});
	return $worker;
}

sub stop_worker
{
	my ($worker, $signal) = @_;

	$worker->{run}->signal($signal // 'TERM');
	$worker->{run}->finish;
	return $worker->{said};
}

sub at_work { my ($queue, $what) = @_; return "SELECT bool_or(status = '$what') FROM goya.list_work('$queue')"; }

create_workflow($node, 'render', { nodes => [ { key => 'render', kind => 'worker', queue => '{{ input.queue }}', lease => '2 s', input => '{{ input }}',
	retry => { max_attempts => 2, initial => '0 s' }, price => { name => 'render' } },
	{ key => 'after', kind => 'transform', output => '{{ nodes.render.output.done }}' } ], edges => [ { from => 'render', to => 'after' } ] });
$node->sql(q{SELECT goya.set_price('render', 2, 'step'); SELECT goya.top_up(100000, 'a', 'default')});

# ---- the examples ----
foreach my $kind (sort keys %WORKERS)
{
	my $worker = start_worker($kind, $kind);
	my $good = run_task($node, 'render', { queue => $kind, steps => 3, seconds => 0.05 });
	my $bad = run_task($node, 'render', { queue => $kind, steps => 1, fail => 'no such film' });

	ended($node, $good, 'succeeded', 20, "$kind: a task that a worker did");
	is($node->sql("SELECT output, (SELECT count(*) FROM goya.usage_records u WHERE u.task_id = t.id AND u.unit = 'step' AND u.quantity = 3) FROM goya.tasks t WHERE id = '$good'"),
		'3|1', "$kind: what comes after it saw its output, and its usage was billed");
	ended($node, $bad, 'failed', 20, "$kind: one whose worker failed");
	is($node->sql("SELECT error ->> 'message', (SELECT count(*) FROM goya.node_runs r WHERE r.task_id = t.id AND r.node = 'render') FROM goya.tasks t WHERE id = '$bad'"),
		'no such film|2', "$kind: with its message, after two attempts");
	my $long = run_task($node, 'render', { queue => $kind, steps => 30, seconds => 0.1 });
	$node->reached("SELECT progress > 0 AND message LIKE 'step % of 30' FROM goya.node_runs WHERE task_id = '$long' AND node = 'render'", 't', 20,
		"$kind: progress is seen while it works");
	ended($node, $long, 'succeeded', 20, "$kind: work that takes longer than its lease, with heartbeats");
	is($node->sql("SELECT count(*) FROM goya.node_runs WHERE task_id = '$long' AND node = 'render'"), 1, "$kind: in one attempt");

	my $cancelled = run_task($node, 'render', { queue => $kind, steps => 600, seconds => 0.1 });
	$node->reached(at_work($kind, 'claimed'), 't', 20, "$kind: a long piece of work is taken");
	$node->sql("SELECT goya.cancel('$cancelled')", role => 'studio');
	ended($node, $cancelled, 'cancelled', 5, "$kind: its task is cancelled at once");
	my $next = run_task($node, 'render', { queue => $kind, steps => 1, seconds => 0 });
	ended($node, $next, 'succeeded', 20, "$kind: the worker saw that nobody wants it, and goes on");
	is(stop_worker($worker), '', "$kind: the worker ends when asked, without complaint");
}
is_sound($node);

# ---- a worker is killed: another has the work when the lease is over ----
my $task = run_task($node, 'render', { queue => 'killed', steps => 3, seconds => 1 });
my $worker = start_worker('python', 'killed');
$node->reached(at_work('killed', 'claimed'), 't', 20, 'a worker has it');
stop_worker($worker, 'KILL');
$worker = start_worker('node', 'killed');
ended($node, $task, 'succeeded', 30, 'after a worker was killed another did the work');
is($node->sql("SELECT count(*), max(output ->> 'done') FROM goya.node_runs WHERE task_id = '$task' AND node = 'render'"), '1|3', 'in the same attempt');
stop_worker($worker);

# ---- a late worker ----
my $claim = q{SELECT token FROM goya.claim_work('late', '%s', 1, '1 s')};
$task = run_task($node, 'render', { queue => 'late' });
$node->sql(q{SELECT goya.wait_for_work('late')}, role => 'studio');
my $first = $node->sql(sprintf($claim, 'first'), role => 'studio');
$node->reached(at_work('late', 'expired'), 't', 10, 'its lease runs out');
is($node->sql("SELECT goya.heartbeat('$first', 10)", role => 'studio'), 't', 'as long as nobody else took it, it may go on');
$node->reached(at_work('late', 'expired'), 't', 10, 'its lease runs out again');
my $second = $node->sql(sprintf($claim, 'second'), role => 'studio');
is($node->sql("SELECT goya.heartbeat('$first'), goya.complete_work('$first', '1'), goya.fail_work('$first', '\"x\"')", role => 'studio'), 'f|f|f',
	'when another has it, nothing of the first counts');
is($node->sql("SELECT goya.complete_work('$second', '{\"done\": 2}')", role => 'studio'), 't', 'the other completes it');
is($node->sql("SELECT goya.complete_work('$second', '{\"done\": 3}')", role => 'studio'), 'f', 'once');
ended($node, $task, 'succeeded', 10, 'the task has ended');
is($node->sql("SELECT output FROM goya.tasks WHERE id = '$task'"), '2', 'with the output of the one that had the lease');

# ---- taken again and again, completed by nobody; too late for the node ----
create_workflow($node, 'never', { nodes => [ { key => 'n', kind => 'worker', queue => 'never', lease => 1, max_claims => 2, retry => { max_attempts => 1 } } ], edges => [] });
$task = run_task($node, 'never');
foreach my $name ('one', 'two')
{
	$node->reached(q{SELECT goya.wait_for_work('never', '1 s')}, 't', 10, "there is work for $name", role => 'studio');
	$node->sql("SELECT token FROM goya.claim_work('never', '$name')", role => 'studio');
}
ended($node, $task, 'failed', 10, 'work that nobody completes fails');
is($node->sql("SELECT error ->> 'class', error ->> 'message' FROM goya.tasks WHERE id = '$task'"), 'TIMEOUT|2 workers took it and none completed it; the last was "two"', 'and says so');
create_workflow($node, 'soon', { nodes => [ { key => 'n', kind => 'worker', queue => 'soon', timeout => '2 s', retry => { max_attempts => 1 } } ], edges => [] });
# In one session, since the time runs already.
($task, $first) = split /\n/, $node->sql(q{SELECT goya.run('soon');
SELECT goya.wait_for_work('soon') \g /dev/null
SELECT token FROM goya.claim_work('soon', 'one')}, role => 'studio');
ended($node, $task, 'failed', 20, "the node's timeout covers all");
is($node->sql("SELECT goya.complete_work('$first', '1')", role => 'studio'), 'f', 'what comes after it is for nothing');

# ---- a client that keeps its rows locked holds up nobody ----
$task = run_task($node, 'render', { queue => 'locked' });
$node->sql(q{SELECT goya.wait_for_work('locked')}, role => 'studio');
my $session = $node->session(role => 'studio');
$session->query_safe('BEGIN');
$session->query_safe(q{SELECT goya.claim_work('locked', 'idle')});
$node->sql("SELECT goya.cancel('$task')", role => 'studio');
ended($node, $task, 'cancelled', 5, 'a task is cancelled while a client holds its work');
$session->query_safe('COMMIT');
is($node->sql(q{SELECT count(*) FROM goya.list_work('locked')}), 1, 'what it held is left behind');
$node->sql(q{SELECT goya.claim_work('locked', 'next')}, role => 'studio');
is($node->sql(q{SELECT count(*) FROM goya.list_work('locked')}), 0, 'until the next claim');
$session->quit;

# ---- a paused task, another tenant, a restart ----
$task = run_task($node, 'render', { queue => 'restart' });
$node->sql(q{SELECT goya.wait_for_work('restart')}, role => 'studio');
$node->sql("SELECT goya.pause('$task') IS NOT NULL", role => 'studio');
is($node->sql(q{SELECT count(*) FROM goya.claim_work('restart', 'one')}, role => 'studio'), 0, 'work of a paused task is not handed out');
$node->sql("SELECT goya.resume('$task') IS NOT NULL", role => 'studio');
$node->create_user('stranger');
$node->sql(q{SELECT goya.create_tenant('elsewhere'); SELECT goya.add_member('stranger', 'elsewhere')});
is($node->sql(q{SELECT count(*) FROM goya.claim_work('restart', 'one')}, role => 'stranger'), 0, 'nor to another tenant');
$first = $node->sql(q{SELECT token FROM goya.claim_work('restart', 'one', 1, '1 min')}, role => 'studio');
is($node->sql("SELECT goya.heartbeat('$first'), goya.complete_work('$first', '1')", role => 'stranger'), 'f|f', 'whose token is of no use there');
$node->crash;
$node->start;
is($node->sql("SELECT goya.heartbeat('$first', 50, 'still here')", role => 'studio'), 't', 'a lease outlives the server');
is($node->sql("SELECT goya.complete_work('$first', '{\"done\": 9}')", role => 'studio'), 't', 'and its work is completed');
ended($node, $task, 'succeeded', 20, 'after the crash');
is_sound($node);

$node->stop;
done_testing();
