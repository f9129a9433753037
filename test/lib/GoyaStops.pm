# GoyaStops.pm: goya's workers are terminated, stopped and continued while a crowd of clients works; and the waits that go with it.
#
#   terminate_workers($node, times => 60, seed => 7);      # C4 and the random half of C5; makes its scene; assertions of its own
#
# Decided: who is terminated is drawn by the seed, and every third time it is whoever has just been born: starting up is when a worker is easily forgotten. A
# worker is back when a process of its kind is there again and, for those that carry tasks, when a task given after the end has gone through both:
# a SQL node, a timer, a SQL node. Before a termination the worker may be stopped (SIGSTOP) in the middle of whatever it does, and be continued later.
# The two seconds are for a machine that has time: a worker's start is that of a backend and some statements, so ten times what a plain backend's start
# takes before or after is allowed on top (tens of milliseconds, unless others use the machine); twenty times for the listener, which waits half of its time.
# Must hold: no stopped process is left behind, whatever fails.
package GoyaStops;

use strict;
use warnings;

use Exporter 'import';
use GoyaCrowd;
use GoyaScene;
use GoyaStorm;
use GoyaWire;
use GoyaWork;
use List::Util qw(max sum);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(terminate_workers stopped continued);

my %WEIGHTS = (executor => 45, engine => 35, launcher => 8, listener => 12);
my %stopped;

# stopped(PID): stops it, and waits until it is. continued(PID): lets it go on.
sub stopped
{
	my ($pid) = @_;

	$stopped{$pid} = kill 'STOP', $pid;
	return until_true(sub { open my $in, '<', "/proc/$pid/stat" or return 1; return <$in> =~ /\) T/ }, 5);
}

sub continued { my ($pid) = @_; delete $stopped{$pid}; return kill 'CONT', $pid; }

END { kill 'CONT', keys %stopped if %stopped; }

sub draw
{
	my $dice = rand sum(values %WEIGHTS);

	foreach my $kind (sort keys %WEIGHTS) { return $kind if ($dice -= $WEIGHTS{$kind}) < 0; }
	return 'executor';
}

# Whoever is of that kind now and is not one of the old ones; within a time.
sub newborn
{
	my ($node, $kind, $old, $seconds) = @_;
	my $deadline = time + $seconds;

	while (time < $deadline)
	{
		foreach my $pid (@{ processes($node)->{$kind} // [] }) { return $pid if !$old->{$pid}; }
		sleep 0.002;
	}
	return;
}

# True when the server has sent SIGTERM to a process of its own.
sub terminate
{
	my ($c, $pid) = @_;

	# A process that has just been forked is not known to pg_terminate_backend yet.
	return until_true(sub { ($c->value("SELECT pg_terminate_backend($pid)") // 'f') eq 't' || !alive($pid) }, 1);
}

# Why it is not back: what goya's processes do and wait for.
sub tell_why
{
	my ($c, $kind) = @_;
	my $r = $c->query(<<'SQL');
SELECT pid, backend_type, state, wait_event, pg_blocking_pids(pid), left(query, 60), clock_timestamp() - xact_start FROM pg_stat_activity WHERE backend_type LIKE 'goya%' OR cardinality(pg_blocking_pids(pid)) > 0;
SELECT a::text FROM goya_private.activity() a;
SELECT lane, verb, count(*), min(rank) FROM goya_private.ready GROUP BY 1, 2;
SELECT t.id, w.name, t.status, r.node, r.status FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id LEFT JOIN goya.node_runs r ON r.task_id = t.id WHERE t.finished_at IS NULL AND w.name = 'probe'
SQL
	diag("$kind is not back after 2 s:\n" . join "\n", map { join ' | ', map { $_ // '' } @$_ } @{ $r->{rows} });
	return;
}

# Seconds until it is back, or undef after ten.
sub back
{
	my ($node, $c, $kind, $old, $since) = @_;

	if ($kind eq 'launcher' || $kind eq 'listener')
	{
		return defined newborn($node, $kind, $old, 10) ? time - $since : undef;
	}
	my $probe = GoyaWire->connect($node, user => 'red') // return;
	my $id = $probe->value("SELECT goya.run('probe', priority => 100)") // return;
	my $ended = sub { ($c->value("SELECT finished_at IS NOT NULL FROM goya.tasks WHERE id = '$id'") // 'f') eq 't' };
	my $done = until_true($ended, 2);
	tell_why($c, $kind) if !defined $done;
	$done //= until_true($ended, 10);
	my $seconds = time - $since;
	$probe->close;
	return if !defined $done || ($kind eq 'engine' && !defined newborn($node, $kind, $old, 1));
	return $seconds;
}

# One round; [kind, seconds until it was back, how many were terminated, whether it was stopped first].
sub round_of
{
	my ($node, $c) = @_;
	my $kind = draw();
	my ($stop, $again, $nth, $pause, $moment) = (rand() < 0.25, rand() < 0.33, rand, 0.02 + rand 0.15, rand 0.1);
	my $found = processes($node)->{$kind} // return;
	my %old = map { $_ => 1 } @$found;
	my $pid = $found->[ $nth * @$found ];
	my $n = 0;

	sleep $moment;
	stopped($pid) if $stop;
	my $since = time;
	$n++ if defined terminate($c, $pid);
	if ($stop)
	{
		sleep $pause;
		$since = time;
		continued($pid);
	}
	return if !until_true(sub { !alive($pid) }, 10);
	# The listener is a connection: one that is lost again at once is tried again later and later. A new executor comes only when it is needed.
	$again = 0 if $kind eq 'listener';
	my $young = $again ? newborn($node, $kind, \%old, $kind eq 'executor' ? 0.3 : 3) : undef;
	$since = time if $again && !defined $young && $kind eq 'executor';
	if (defined $young)
	{
		$n++ if defined terminate($c, $young);
		until_true(sub { !alive($young) }, 10);
		$since = time;
		$old{$young} = 1;
	}
	return [ $kind, back($node, $c, $kind, \%old, $since) // 99, $n, $stop, $since ];
}

sub terminate_workers
{
	my ($node, %o) = @_;
	my $scene = create_scene($node, http => http_server(), seed => $o{seed}, size => 5);
	create_workflow($node, 'probe', {
		nodes => [ { key => 'a', kind => 'sql', function => 'app.echo' }, { key => 's', kind => 'sleep', duration => 0.001 }, { key => 'b', kind => 'sql', function => 'app.echo' } ],
		edges => [ { from => 'a', to => 's' }, { from => 's', to => 'b' } ] }, role => 'red');
	my $offset = log_size($node);
	my $crowd = GoyaCrowd->start($node, $scene, clients => 3);
	my $c = GoyaWire->connect($node, timeout => 60) or BAIL_OUT(GoyaWire::problem());
	my (%slowest, %times, @outages, @slow);
	my ($ended, $stops, $rounds, $batches) = (0, 0, 0, 0);

	srand $o{seed};
	while ($ended < $o{times} && $rounds < 3 * $o{times})
	{
		$rounds++;
		$crowd->release(2);
		$batches += 2;
		my $from = time;
		my $before = start_time($node);
		my $round = round_of($node, $c) // next;
		my ($kind, $seconds, $n, $stop, $since) = @$round;
		$ended += $n;
		$stops++ if $stop;
		$times{$kind} += $n;
		$slowest{$kind} = max($seconds, $slowest{$kind} // 0);
		my $allowed = 2 + ($kind eq 'listener' ? 20 : 10) * max($before, start_time($node));
		push @slow, sprintf '%s: %.2f s in round %d, %.2f s allowed', $kind, $seconds, $rounds, $allowed if $seconds > $allowed;
		push @outages, [ $from, time ] if $kind eq 'engine';
		last if $seconds >= 99 && @slow > 5;
	}
	my $clients = $crowd->finish(120);
	close_scene($node, $scene);
	my $drained = $node->wait_until('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 0, 60);
	note sprintf '%d terminations in %d rounds, %d of them stopped before; back within: %s', $ended, $rounds, $stops,
		join ', ', map { sprintf '%s %.2f s at most of %d', $_, $slowest{$_}, $times{$_} } sort keys %slowest;
	cmp_ok($ended, '>=', $o{times}, "C4: $ended times a worker was terminated");
	is(join("\n", @slow), '', 'C4: each time it was back within 2 s');
	unlike(log_since($node, $offset), qr/terminating any other active server processes|all server processes terminated/, 'C4: the cluster did not restart');
	is(join("\n", @{ $clients->{errors} }), '', 'C4: no client saw an error');
	is($clients->{repeats}, 0, 'C4: no client lost its connection');
	is($clients->{done}, $batches, "C4: the clients submitted $batches batches");
	ok(defined $drained, 'C4: all tasks end by themselves');
	verify_scene($node, $scene, $clients->{ledger}, outages => \@outages, name => 'C4: ');
	return;
}

1;
