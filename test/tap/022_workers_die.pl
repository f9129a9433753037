# 022_workers_die.pl: goya's workers are terminated (C4), stopped and continued (C5), killed with work in hand (C3), and the server is stopped (L1).
#
# Decided: five parts, three of them on one node; GOYA_PARTS names some. The numbers are small here, `make chaos` sets GOYA_TERMINATIONS to 1,000 and GOYA_STOPS
# to 50; the seed is printed, and set by GOYA_SEED. What a stopped process can do late is made to happen, one way after the other: its task is
# cancelled, or fails elsewhere, or its call is taken over, while it is stopped; then it goes on, and writes nothing.
# A stopped process keeps its locks, as any backend's: what it has claimed waits for it, and nothing else does.
# Must hold: whatever is waited for is a state, with a deadline; no stopped process is left behind.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaScene;
use GoyaStops;
use GoyaStorm;
use GoyaWire;
use GoyaWork;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{GOYA_SEED} || int(rand 2**31);
my $terminations = $ENV{GOYA_TERMINATIONS} || 60;
my $stops = $ENV{GOYA_STOPS} || 5;
my @parts = split ' ', $ENV{GOYA_PARTS} || 'terminate fence reclaim fast immediate';
my ($node, $quiet, $http);

note "GOYA_SEED=$seed, $terminations terminations, $stops stops, parts @parts";

# A function that waits in the middle for whoever holds lock 1; one that goes on when it is interrupted; one that never ends.
my $FUNCTIONS = <<'SQL';
SELECT goya.top_up(1000000000000, 'start', 'default'); SELECT goya.set_price('step', 1000000);
CREATE FUNCTION app.gate(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    RETURN app.effect(input);
END $$;
CREATE FUNCTION app.deaf_gate(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(1);
    EXCEPTION WHEN query_canceled THEN
        PERFORM 1;
    END;
    RETURN app.effect(input);
END $$;
CREATE FUNCTION app.late_boom(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1);
    RAISE EXCEPTION 'boom at last';
END $$;
CREATE FUNCTION app.spin(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN LOOP END LOOP; END $$;
CREATE FUNCTION app.count_on(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(count(*)) FROM generate_series(1, 100000000000) i';
SQL

sub effect { my ($key, $function, @more) = @_; return { key => $key, kind => 'sql', function => "app.$function", input => { task => '{{ task.id }}', node => $key }, @more }; }

sub one { my ($name, @nodes) = @_; return create_workflow($node, $name, { nodes => [@nodes], edges => [ map { { from => $nodes[ $_ - 1 ]{key}, to => $nodes[$_]{key} } } 1 .. $#nodes ] }); }

# A node with the functions, workflows of one node or a few, and an HTTP server.
sub begin
{
	return if $quiet;
	my $places = PostgreSQL::Test::Utils::tempdir_short();
	$node = $quiet = GoyaNode->start(name => 'quiet', conf => $GoyaWork::CONF . "goya.cli = on\ngoya.cli_directory = '$places'\n");
	$http = http_server();
	create_studio($node);
	$node->sql($FUNCTIONS);
	one('plain', effect('e', 'effect'));
	one('gate', effect('before', 'effect', price => 'step'), effect('g', 'gate', price => 'step'), effect('after', 'effect'));
	one('deaf', effect('before', 'effect', price => 'step'), effect('g', 'deaf_gate', price => 'step'), effect('after', 'effect'));
	one('call', { key => 'get', kind => 'http', method => 'POST', url => "$http/delay?ms={{ input.ms }}&task={{ task.id }}", price => 'step' }, effect('after', 'effect'));
	create_workflow($node, 'two', { nodes => [ { key => 'get', kind => 'http', method => 'POST', url => "$http/delay?ms=1500&task={{ task.id }}", price => 'step' },
		effect('b', 'late_boom') ] });
	ended($node, run_task($node, 'plain'), 'succeeded', 10, 'a first task');
	return;
}

sub left { my ($id) = @_; return $node->sql("SELECT coalesce(string_agg(node, ' ' ORDER BY node), '') FROM app.effects WHERE task = '$id'"); }

sub state_of { my ($id) = @_; return $node->sql("SELECT status FROM goya.tasks WHERE id = '$id'"); }

sub paid { my ($id) = @_; return $node->sql("SELECT coalesce(sum(cost), 0), (SELECT status FROM goya.holds WHERE id = '$id') FROM goya.usage_records WHERE task_id = '$id'"); }

sub ended_quietly { my ($id) = @_; return $node->sql("SELECT status FROM goya.wait_for_task('$id', '10 s')") eq 'succeeded'; }

# The pid of the executor that runs a node of the task, within 10 s; where the node waits for whoever holds lock 1, it does by then.
sub runs
{
	my ($id, $key) = @_;
	my $waits = $key eq 's' ? '' : " AND s.wait_event = 'advisory'";

	$node->wait_until("SELECT count(*) FROM goya_private.activity() a JOIN pg_stat_activity s ON s.pid = a.pid WHERE a.task_id = '$id' AND a.node = '$key'$waits", 1, 10);
	return $node->sql("SELECT pid FROM goya_private.activity() WHERE task_id = '$id' AND node = '$key'");
}

sub calls_of { my ($id) = @_; return grep { ($_->{query}{task} // '') eq $id } http_log($http); }

# Processes with this argument.
sub slurp { my ($file) = @_; open my $in, '<', $file or return; local $/; return scalar <$in>; }
sub programs { my ($word) = @_; return grep { (slurp("/proc/$_/cmdline") // '') =~ /\x{0}\Q$word\E(\x{0}|$)/ } map { m{(\d+)$} } glob '/proc/[0-9]*'; }

# Waits until the server has answered the task's call, by its log and its own delay.
sub answered { my ($id, $ms) = @_; my ($call) = calls_of($id); return until_true(sub { time > $call->{time} + $ms / 1000 + 0.2 }, 10); }

sub gate_closed { my $c = GoyaWire->connect($node) or BAIL_OUT(GoyaWire::problem()); $c->query('SELECT pg_advisory_lock(1)'); return $c; }

# ---- C4, and stops and continuations at random moments ----

sub part_terminate
{
	$node = GoyaNode->start(name => 'terminate', conf => $GoyaScene::CONF);
	terminate_workers($node, times => $terminations, seed => $seed);
	$node->stop('fast');
	return;
}

# ---- C5: what a stopped process does late ----

sub part_fence
{
	begin();
	foreach my $workflow (qw(gate deaf))
	{
		my $gate = gate_closed();
		my $id = run_task($node, $workflow);
		my $pid = runs($id, 'g');
		ok(stopped($pid), "C5 $workflow: the executor is stopped inside a node");
		$node->sql(q{SELECT count(goya.run('plain')) FROM generate_series(1, 200)}, role => 'studio');
		$node->sql("SELECT goya.cancel('$id')", role => 'studio');
		$node->reached("SELECT status FROM goya.tasks WHERE id = '$id'", 'cancelled', 5, "C5 $workflow: meanwhile the task is cancelled");
		$node->reached(q{SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL}, 0, 10, "C5 $workflow: and 200 others end");
		my $row = $node->sql("SELECT t FROM goya.tasks t WHERE id = '$id'");
		$gate->close;
		continued($pid);
		$node->reached("SELECT count(*) FROM goya_private.activity() WHERE task_id = '$id'", 0, 5, "C5 $workflow: it goes on, and has done with that node");
		is(left($id), 'before', "C5 $workflow: its late effect is not there");
		is($node->sql("SELECT t FROM goya.tasks t WHERE id = '$id'"), $row, "C5 $workflow: the task's row is as it was");
		is(paid($id), '1000000|settled', "C5 $workflow: what was done before is paid, nothing else");
		is($node->sql("SELECT count(*) FROM goya.node_runs WHERE task_id = '$id' AND node <> 'before' AND status <> 'cancelled'"), 0, "C5 $workflow: no run was recorded late");
		is_sound($node, "C5 $workflow: goya.check() is empty");
	}

	# Terminated while stopped: somebody else does it, when it goes on.
	my $gate = gate_closed();
	my $id = run_task($node, 'gate');
	my $pid = runs($id, 'g');
	stopped($pid);
	$node->sql("SELECT pg_terminate_backend($pid)");
	$gate->close;
	continued($pid);
	ended($node, $id, 'succeeded', 10, 'C5: terminated while it was stopped: another executor does its work');
	is(left($id), 'after before g', 'C5: ... once');
	is(paid($id), '2000000|settled', 'C5: ... and is paid once');

	# Who is idle is told to take it when it can be taken: when the transaction of the dead is over, not before.
	my @left;
	for my $round (1 .. 20)
	{
		$gate = gate_closed();
		$id = run_task($node, 'gate');
		$pid = runs($id, 'g');
		ended_quietly(run_task($node, 'plain')) or BAIL_OUT('nobody else works');
		$node->sql("SELECT pg_terminate_backend($pid)");
		push @left, $round if !defined until_true(sub { $node->sql("SELECT count(*) FROM goya_private.activity() WHERE task_id = '$id' AND pid <> $pid") }, 5);
		$gate->close;
		ended_quietly($id) or push @left, "$round for good";
		last if @left;
	}
	is("@left", '', 'C5: terminated 20 times beside an idle executor: it goes on with the work at once');

	# The answer of a call comes while the engine is stopped, and its task fails in another branch.
	my ($engine) = worker_pid($node, 'engine');
	$gate = gate_closed();
	$id = run_task($node, 'two');
	ok(defined until_true(sub { calls_of($id) }, 10), 'C5: a call is in flight');
	stopped($engine);
	runs($id, 'b');
	$gate->close;
	$node->reached("SELECT status FROM goya.tasks WHERE id = '$id'", 'failed', 5, 'C5: the engine is stopped, and the task fails in another branch');
	answered($id, 1500);
	continued($engine);
	ended($node, run_task($node, 'call', { ms => 1 }), 'succeeded', 10, 'C5: the engine goes on, and makes other calls');
	is($node->sql("SELECT node, status FROM goya.node_runs WHERE task_id = '$id' ORDER BY node"), "b|failed\nget|cancelled", 'C5: the answer that came late changed nothing');
	is(paid($id), '0|settled', 'C5: ... and was not paid');
	is_sound($node, 'C5: goya.check() is empty after a late answer');

	# As if another start of the engine had taken the call over while this one was stopped.
	$id = run_task($node, 'call', { ms => 1500 });
	until_true(sub { calls_of($id) }, 10);
	stopped($engine);
	$node->sql("UPDATE goya.node_runs SET epoch = epoch + 1 WHERE task_id = '$id' AND node = 'get'");
	answered($id, 1500);
	continued($engine);
	ended($node, run_task($node, 'call', { ms => 1 }), 'succeeded', 10, 'C5: the engine goes on; another has taken its call over');
	is($node->sql("SELECT status FROM goya.node_runs WHERE task_id = '$id' AND node = 'get'"), 'running', 'C5: its answer is not recorded');
	$node->sql("UPDATE goya.node_runs SET epoch = epoch - 1 WHERE task_id = '$id' AND node = 'get'; SELECT pg_terminate_backend($engine)");
	ended($node, $id, 'succeeded', 10, 'C5: the next engine makes the call again');
	my @calls = calls_of($id);
	is(join(' ', scalar @calls, scalar keys %{ { map { $_->{idempotency_key} => 1 } @calls } }), '2 1', 'C5: with the same key');
	is(left($id) . ' ' . paid($id), 'after 1000000|settled', 'C5: ... and it counts once');
	is_sound($node, 'C5: goya.check() is empty after a fenced call');
	return;
}

# ---- C3: killed with work in hand ----

sub part_reclaim
{
	begin();
	foreach my $what (qw(executor engine stopped postmaster))
	{
		my $gate = gate_closed();
		my $id = run_task($node, 'gate');
		my $call = run_task($node, 'call', { ms => 60000 });
		my $pid = runs($id, 'g');
		until_true(sub { calls_of($call) }, 10);
		my ($engine) = worker_pid($node, 'engine');
		my @old = ($pid, $engine);

		stopped($pid) if $what eq 'stopped';
		if ($what eq 'postmaster') { $node->crash; $node->start; }
		else { kill 'KILL', $what eq 'engine' ? $engine : $pid; }
		my $c = await_server($node, 30, @old);
		my $up = time;
		my $seconds = until_true(sub { ($c->value("SELECT count(*) FROM goya.tasks WHERE id = '$id' AND finished_at IS NOT NULL") // 0) && calls_of($call) > 1 }, 20);
		cmp_ok($seconds // 99, '<=', 5 + 20 * start_time($node), sprintf 'C3 %s: its SQL node is done and its call made again within 5 s of the cluster accepting connections (%.2f s)', $what, $seconds // 99);
		is(left($id), 'after before g', "C3 $what: each effect is there once");
		is(paid($id), '2000000|settled', "C3 $what: each was paid once");
		my %keys = map { $_->{idempotency_key} => 1 } calls_of($call);
		is(join(' ', scalar calls_of($call), scalar keys %keys), '2 1', "C3 $what: the call has the same key");
		$node->sql("SELECT goya.cancel('$call')", role => 'studio');
		ended($node, $call, 'cancelled', 10, "C3 $what: the call is cancelled");
		is_sound($node, "C3 $what: goya.check() is empty");
	}
	return;
}

# ---- L1 ----

sub part_fast
{
	my %busy = (
		'a sleeping statement' => [ effect('s', 'slow', input => { seconds => 600 }) ], 'a busy loop' => [ effect('s', 'spin') ], 'a busy query' => [ effect('s', 'count_on') ],
	);

	begin();
	my $stop = sub {
		my ($name) = @_;
		my $allowed = 3 + 10 * start_time($node);
		my $start = time;
		$node->stop('fast');
		my $seconds = time - $start;
		cmp_ok($seconds, '<=', $allowed, sprintf 'L1: with %s a fast stop takes no more than 3 s (%.2f s)', $name, $seconds);
		# goya-guard gives a program two seconds, also after the server is gone.
		ok(defined until_true(sub { !programs('86399') }, 8), "L1: with $name it is gone soon after") if $name =~ /program/;
		$node->start;
	};
	$stop->('nothing to do');
	foreach my $name (sort keys %busy)
	{
		(my $workflow = $name) =~ s/\W+/_/g;
		one($workflow, @{ $busy{$name} });
		my $id = run_task($node, $workflow);
		ok(runs($id, 's'), "L1: $name runs");
		$stop->($name);
		ok(runs($id, 's'), "L1: $name runs again after the start");
		$node->sql("SELECT goya.cancel('$id')", role => 'studio');
		ended($node, $id, 'cancelled', 10, "L1: $name can be cancelled then");
	}
	foreach my $path (qw(hang hangbody))
	{
		one($path, { key => 'h', kind => 'http', url => "$http/$path?task={{ task.id }}" });
		my $id = run_task($node, $path);
		ok(defined until_true(sub { calls_of($id) }, 10), "L1: a call of a silent server is in flight ($path)");
		$stop->("a server that is silent ($path)");
		ok(defined until_true(sub { calls_of($id) > 1 }, 10), 'L1: the call is made again after the start');
		$node->sql("SELECT goya.cancel('$id')", role => 'studio');
		ended($node, $id, 'cancelled', 10, 'L1: and can be cancelled');
	}
	# It hears no SIGTERM, and what it started has left its session.
	$node->sql(q{SELECT goya.create_program('deaf', '/bin/sh', ARRAY['-c', 'trap "" TERM; (setsid sleep 86399 &); while :; do sleep 86399; done'], NULL)});
	one('deaf program', { key => 'p', kind => 'cli', program => 'deaf' });
	my $id = run_task($node, 'deaf program');
	ok(defined until_true(sub { programs('86399') == 2 }, 10), 'L1: a program that is deaf to SIGTERM runs');
	$stop->('a program that is deaf to SIGTERM');
	ok(defined until_true(sub { programs('86399') == 2 }, 10), 'L1: it runs again after the start, once: nothing was left of it');
	$node->sql("SELECT goya.cancel('$id')", role => 'studio');
	ended($node, $id, 'cancelled', 15, 'L1: and can be cancelled');
	ok(defined until_true(sub { !programs('86399') }, 10), 'L1: with all that it has started');
	is_sound($node, 'L1: goya.check() is empty after fast stops');
	return;
}

# Immediate stops under load; all that C1 says holds.
sub part_immediate
{
	$node = GoyaNode->start(name => 'immediate', conf => $GoyaScene::CONF);
	storm($node, tasks => 100 * $stops, kills => $stops, seed => $seed, name => 'L1: ', strike => sub {
		my $at = time;
		$node->stop('immediate');
		$node->start;
		return [ 'immediate stop', $at ];
	});
	$node->stop('fast');
	return;
}

my %part = (terminate => \&part_terminate, fence => \&part_fence, reclaim => \&part_reclaim, fast => \&part_fast, immediate => \&part_immediate);
foreach my $name (@parts)
{
	my $began = time;
	BAIL_OUT("no part is called $name") if !$part{$name};
	$part{$name}->();
	note sprintf '%s: %.0f s', $name, time - $began;
}
done_testing();
