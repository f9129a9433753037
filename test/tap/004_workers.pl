# 004_workers.pl: goya's processes are ended under load, one after the other and in every way; nothing is lost, nothing is done twice.
#
# Decided: pg_terminate_backend must not restart the cluster (a worker's exit code says so): the launcher's log line count shows it. SIGKILL of a worker
# does restart it, as for any backend, and goya comes back by itself.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaStorm qw(start_time);
use GoyaWork;
use List::Util qw(max);
use Test::More;
use Time::HiRes qw(sleep time);

my $node = GoyaNode->start(name => 'workers', conf => $GoyaWork::CONF);
create_studio($node);
create_workflow($node, 'chain', {
	nodes => [ map { { key => "e$_", kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => "e$_" } } } 1 .. 3 ],
	edges => [ { from => 'e1', to => 'e2' }, { from => 'e2', to => 'e3' } ] });
ended($node, run_task($node, 'chain'), 'succeeded', 10, 'a first task');

my $DONE = 'SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL';
my $ONCE = q{SELECT count(*) FROM goya.tasks t WHERE status <> 'succeeded' OR (SELECT count(*) || ' ' || count(DISTINCT node) FROM app.effects e WHERE e.task = t.id) <> '3 3'};
$node->sql('CREATE INDEX ON app.effects (task)');

# ---- terminated, 20 times ----
my $offset = log_size($node);
my ($ended, $slowest, @late) = (0, 0);
foreach my $round (1 .. 20)
{
	my $what = $round % 2 ? 'executor' : 'engine';

	$node->sql(q{SELECT count(goya.run('chain')) FROM generate_series(1, 150)}, role => 'studio');
	my @pids = worker_pid($node, $what);
	$ended += $node->sql("SELECT count(pg_terminate_backend(pid)) FROM unnest('{" . join(',', @pids) . "}'::int[]) pid") if @pids;
	my %old = map { $_ => 1 } @pids;
	my $before = start_time($node);
	my $seconds = $what eq 'engine' ? until_true(sub { grep { !$old{$_} } worker_pid($node, 'engine') }, 10)
	  : $node->wait_until($DONE, 0, 10);
	$slowest = $seconds if !defined $seconds || $seconds > $slowest;
	# Ten times what a plain backend's start takes is for a machine that others use, too.
	push @late, "round $round, $what: " . ($seconds // 'never') if !defined $seconds || $seconds >= 5 + 10 * max($before, start_time($node));
	last if !defined $seconds;
}
cmp_ok($ended, '>=', 10, "$ended workers were terminated in 20 rounds");
is(join(', ', @late), '', sprintf 'each time they were back, or the work done, within 5 s (%.2f s at most)', $slowest // 99);
$node->reached($DONE, 0, 30, 'all tasks end');
is($node->sql($ONCE), 0, 'every effect is there once');
unlike(log_since($node, $offset), qr/terminating any other active server processes|all server processes terminated/, 'the cluster did not restart');
is_sound($node, 'goya.check() is empty after terminations');

# ---- killed: the cluster restarts, goya with it ----
foreach my $what (qw(executor engine))
{
	$node->sql(q{SELECT count(goya.run('chain')) FROM generate_series(1, 500)}, role => 'studio');
	my ($pid) = worker_pid($node, $what);
	$offset = log_size($node);
	kill 'KILL', $pid;
	ok(defined until_true(sub { log_since($node, $offset) =~ /database system is ready to accept connections/ }, 30), "SIGKILL of an $what restarts the cluster");
	$node->reached($DONE, 0, 30, "after SIGKILL of an $what all tasks end");
	is($node->sql($ONCE), 0, "after SIGKILL of an $what every effect is there once");
	is_sound($node, "goya.check() is empty after SIGKILL of an $what");
}

# ---- an executor that nobody needs leaves ----
$node->sql(q{ALTER SYSTEM SET goya.executor_idle_timeout = '1s'; SELECT pg_reload_conf() \g /dev/null});
$node->reached('SHOW goya.executor_idle_timeout', '1s', 5, 'the idle timeout is a second');
ended($node, run_task($node, 'chain'), 'succeeded', 10, 'a task after that');
my $gone = until_true(sub { !worker_pid($node, 'executor') }, 15);
ok(defined $gone, sprintf 'executors leave (%.1f s)', $gone // 99);
ended($node, run_task($node, 'chain'), 'succeeded', 10, 'and come back for a task');
is(scalar(worker_pid($node, 'engine')), 1, 'the engine has stayed');

# ---- two databases at once ----
$node->safe_psql('postgres', 'CREATE DATABASE second');
{
	local $GoyaNode::DATABASE = 'second';
	$node->sql('CREATE EXTENSION goya');
	create_studio($node);
	create_workflow($node, 'chain', { nodes => [ { key => 'e1', kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'e1' } } ] });
	$node->sql(q{SELECT count(goya.run('chain')) FROM generate_series(1, 200)}, role => 'studio');
}
$node->sql(q{SELECT count(goya.run('chain')) FROM generate_series(1, 200)}, role => 'studio');
$node->reached($DONE, 0, 20, 'the first database ends its tasks');
{
	local $GoyaNode::DATABASE = 'second';
	$node->reached($DONE, 0, 20, 'the second database ends its tasks');
	is($node->sql('SELECT count(*), count(DISTINCT task) FROM app.effects'), '200|200', '... with their effects there and only once');
	is_sound($node, 'goya.check() of the second is empty');
}
is($node->sql($ONCE), 0, 'and those of the first are in the first');
is(scalar(map { worker_pid($node, 'engine', $_) } qw(goya second)), 2, 'each has an engine');
is_sound($node);
$node->stop('fast');

# ---- no worker slots ----
# The launcher, pg_cron and logical replication take what there is: none is left for an engine.
$node->append_conf('postgresql.conf', "max_worker_processes = 3\ncron.use_background_workers = off\n");
$offset = log_size($node);
$node->start;
ok(defined until_true(sub { log_since($node, $offset) =~ /no background worker slot for a goya e/ }, 20), 'without a free slot there is a line in the log');
my $id = run_task($node, 'chain');
is($node->sql("SELECT status FROM goya.tasks WHERE id = '$id'"), 'pending', 'a task can be started and waits');
cmp_ok(scalar(() = log_since($node, $offset) =~ /no background worker slot/g), '<=', 2, 'not a line a second');
$node->append_conf('postgresql.conf', "max_worker_processes = 16\n");
$node->restart;
ended($node, $id, 'succeeded', 15, 'with slots it runs');
is_sound($node, 'goya.check() is empty at the end');
$node->stop('fast');
done_testing();
