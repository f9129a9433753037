# 008_calls.pl: many outside calls at once, and none at all.
#
# Decided: the server's log says how often each idempotency key came, so a call that was lost or made twice is seen; a small goya.max_transfers makes the
# calls of one task wait for those of others. Idle processes are counted by the kernel: every time one of them slept.
# Must hold: an engine that ends in the middle of 500 calls leaves in seconds, and its calls are made again with the same keys.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use HTTP::Tiny;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = GoyaNode->start(name => 'calls', conf => $GoyaWork::CONF . "goya.max_transfers = 2000\n");
my $server = http_server();
my $DONE = 'SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL';
create_studio($node);

sub forget { HTTP::Tiny->new(timeout => 10)->get("$server/_clear"); return; }

# How often each key came to a path: "calls keys".
sub calls
{
	my ($path) = @_;
	my %keys;
	my $n = 0;

	foreach my $request (http_log($server))
	{
		next if $request->{path} !~ m{^\Q$path\E};
		$n++;
		$keys{ $request->{idempotency_key} // '' }++;
	}
	return ($n, scalar keys %keys);
}

# ---- a map of 3000 calls: more than one multi handle ----
create_workflow($node, 'fan', { nodes => [ { key => 'each', kind => 'map', over => '{{ input.items }}',
	node => { kind => 'http', url => "$server/delay?ms={{ input.ms }}", input => { i => '{{ item }}' }, retry => { max_attempts => 1 } } } ], edges => [] });
ended($node, run_task($node, 'fan', { items => [ 1 .. 3000 ], ms => 100 }), 'succeeded', 60, 'a map of 3000 calls');
is(join(' ', calls('/delay')), '3000 3000', 'each was made once, with a key of its own');
is($node->sql(q{SELECT count(*) || ' ' || count(DISTINCT item) FROM goya.node_runs WHERE node <> 'each' AND status = 'succeeded'}), '3000 3000', 'each has its row');
is_sound($node, 'goya.check() is empty after a map of calls');

# ---- tasks that start with calls: the engine alone begins them, and never more at once than it may ----
forget();
$node->sql(q{ALTER SYSTEM SET goya.max_transfers = 20; SELECT pg_reload_conf() \g /dev/null});
create_workflow($node, 'roots', { nodes => [ map { { key => "r$_", kind => 'http', url => "$server/json?ms=20" } } 1 .. 3 ], edges => [] });
$node->sql(q{SELECT count(goya.run('roots')) FROM generate_series(1, 100)}, role => 'studio');
my $most = 0;
until_true(sub {
	my ($flying, $open) = split /\|/, $node->sql(q{SELECT (SELECT count(*) FROM goya.node_runs WHERE status = 'running'), (SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL)});
	$most = $flying if $flying > $most;
	return $open == 0;
}, 60);
is($node->sql(q{SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'roots' AND t.status = 'succeeded'}), 100, '100 tasks of three calls each');
is(join(' ', calls('/json')), '300 300', 'each call was made once');
cmp_ok($most, '<=', 20, "never more than 20 were running ($most seen)");
$node->sql(q{ALTER SYSTEM SET goya.max_transfers = 2000; SELECT pg_reload_conf() \g /dev/null});

# ---- cancelled in flight ----
forget();
my $id = run_task($node, 'fan', { items => [ 1 .. 500 ], ms => 20000 });
$node->reached(q{SELECT count(*) FROM goya.node_runs WHERE status = 'running'}, 500, 20, '500 calls are in flight');
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 5, 'cancelled in time');
$node->reached(q{SELECT count(*) FROM goya.node_runs WHERE status = 'running'}, 0, 5, 'no call is left');

# ---- the engine is terminated in flight ----
forget();
$id = run_task($node, 'fan', { items => [ 1 .. 500 ], ms => 2000 });
$node->reached(q{SELECT count(*) FROM goya.node_runs WHERE status = 'running'}, 500, 20, '500 calls are in flight again');
my ($engine) = worker_pid($node, 'engine');
my $began = time;
$node->sql("SELECT pg_terminate_backend($engine)");
ok(defined until_true(sub { !kill 0, $engine }, 5), sprintf 'the engine leaves at once, its thread with it (%.2f s)', time - $began);
ended($node, $id, 'succeeded', 30, 'the next engine makes the calls again');
my ($n, $keys) = calls('/delay');
is($keys, 500, 'with the same keys');
cmp_ok($n, '<=', 1000, "at most twice each ($n)");
is_sound($node, 'goya.check() is empty after the engine was terminated');

# ---- nothing to do: nobody wakes ----
sub slept
{
	my $n = 0;

	foreach my $pid (worker_pid($node, 'engine'), worker_pid($node, 'launcher'))
	{
		foreach my $file (glob "/proc/$pid/task/*/status")
		{
			open my $status, '<', $file or next;
			while (<$status>) { $n += $1 if /^voluntary_ctxt_switches:\s+(\d+)/; }
		}
	}
	return $n;
}

$node->sql(q{ALTER SYSTEM SET goya.executor_idle_timeout = '1s'; ALTER SYSTEM SET goya.poll_interval = '1s'; SELECT pg_reload_conf() \g /dev/null});
$node->reached($DONE, 0, 10, 'nothing is left to do');
ok(defined until_true(sub { !worker_pid($node, 'executor') }, 15), 'the executors have left');
sleep 12;						# one look that finds nothing, and what the launcher does after a change
my $before = slept();
sleep 8;
my $woken = slept() - $before;
cmp_ok($woken, '<=', 8, "engine and launcher slept $woken times in 8 seconds, with one look in ten");

# ---- a wake-up that was lost: found by a look ----
$id = $node->sql(q{SET goya.wake_by_latch = off; SET ROLE studio; SELECT goya.run('roots')});
ended($node, $id, 'succeeded', 20, 'a task whose wake-up was lost is found');

$node->stop;
done_testing();
