# GoyaStorm.pm: SIGKILL at random moments, of any process of a cluster, while a crowd of clients works.
#
#   storm($node, tasks => 2000, kills => 10, seed => 7);        # makes its scene; assertions of its own
#
# Decided: the batches are handed out in as many parts as there are kills, and each kill comes a random moment after its part, so that there is work at
# every kill. Who dies is drawn from %WEIGHTS among what runs then, read from /proc: no help of the server, which may be down. After most kills the
# storm waits until the server answers and what the dead had in hand is done, and measures both; after the others the next kill comes at once, in the
# middle of the recovery. A postmaster that is dead is started again when all of its children are gone.
# The five seconds of C3 are for a machine that has time: launcher, engine and executors start and plan anew, so twenty times what a plain backend's start
# takes at that moment is allowed on top (a tenth of a second, unless others use the machine).
# Must hold: every figure in the log follows from the seed but for timing; a kill that hit nobody is not counted.
package GoyaStorm;

use strict;
use warnings;

use Exporter 'import';
use GoyaCrowd;
use GoyaScene;
use GoyaWire;
use GoyaWork;
use List::Util qw(max sum);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(storm start_time processes postmaster alive await_server reclaimed);

my %WEIGHTS = (executor => 24, engine => 18, launcher => 6, client => 12, checkpointer => 6, walwriter => 6, autovacuum => 5, 'background writer' => 3,
	pg_cron => 3, startup => 3, postmaster => 14);
my @TITLES = ([ executor => qr/goya executor/ ], [ engine => qr/goya engine/ ], [ launcher => qr/goya launcher/ ], [ checkpointer => qr/: checkpointer/ ],
	[ walwriter => qr/: walwriter/ ], [ autovacuum => qr/: autovacuum/ ], [ 'background writer' => qr/: background writer/ ], [ pg_cron => qr/: pg_cron/ ],
	[ startup => qr/: startup/ ], [ listener => qr/: goya_listener / ], [ client => qr/: (red|green|blue) goya / ]);

# ---- processes ----

sub postmaster
{
	my ($node) = @_;

	open my $in, '<', $node->data_dir . '/postmaster.pid' or return;
	my $pid = <$in>;
	return defined $pid && $pid =~ /^(\d+)/ ? $1 : undef;
}

# alive(PID): it runs, and is no zombie.
sub alive
{
	my ($pid) = @_;

	open my $in, '<', "/proc/$pid/stat" or return 0;
	return <$in> =~ /\) Z/ ? 0 : 1;
}

# processes(NODE): { kind => [pids] } of the children of its postmaster.
sub processes
{
	my ($node) = @_;
	my $postmaster = postmaster($node) // return {};
	my %found;

	open my $in, '<', "/proc/$postmaster/task/$postmaster/children" or return {};
	foreach my $pid (split ' ', <$in> // '')
	{
		open my $cmdline, '<', "/proc/$pid/cmdline" or next;
		my $title = <$cmdline> // '';
		my ($kind) = map { $_->[0] } grep { $title =~ $_->[1] } @TITLES;
		push @{ $found{$kind} }, $pid if defined $kind;
	}
	$found{postmaster} = [$postmaster] if alive($postmaster);
	return \%found;
}

# revive(NODE): starts a postmaster that is gone, when all of its children are.
sub revive
{
	my ($node) = @_;
	my $postmaster = postmaster($node);

	return if defined $postmaster && alive($postmaster);
	# One that ended by itself (its startup process was killed) has no pid file any more.
	$node->{_pid} = undef if !defined $postmaster;
	$node->crash;
	$node->start;
	return;
}

# await_server(NODE, SECONDS, OLD): a connection, once the cluster accepts one and none of the processes OLD is left; starts a postmaster that is gone.
sub await_server
{
	my ($node, $seconds, @old) = @_;
	my $deadline = time + $seconds;

	while (time < $deadline)
	{
		if (@old = grep { alive($_) } @old) { sleep 0.005; next; }
		revive($node);
		my $c = GoyaWire->connect($node, timeout => 30);
		return $c if $c;
		sleep 0.02;
	}
	BAIL_OUT("the cluster accepts no connection within $seconds s: " . GoyaWire::problem());
	return;
}

# start_time(NODE): what a backend's start takes now.
sub start_time
{
	my ($node) = @_;
	my $start = time;
	my $c = GoyaWire->connect($node);

	$c->close if $c;
	return time - $start;
}

# ---- what the dead had in hand ----

# What keeps it from being taken up: rows left, and what every process is at.
my $STANDSTILL = <<'SQL';
SELECT concat_ws(E'\n', (SELECT string_agg(to_jsonb(e)::text, E'\n') FROM goya_private.engine e),
    (SELECT 'calls of older engines: ' || string_agg(concat_ws(' ', r.task_id, r.node, r.epoch, r.updated_at), ', ') FROM (SELECT to_jsonb(n) ->> 'updated_at' AS updated_at, n.* FROM goya.node_runs n
      WHERE n.status = 'running' AND n.epoch < (SELECT max(epoch) FROM goya_private.engine) LIMIT 5) r),
    (SELECT 'queue: ' || string_agg(to_jsonb(q)::text, E'\n') FROM (SELECT q.* FROM hand h JOIN goya_private.ready q ON q.ctid = h.place AND q.xmin = h.version LIMIT 5) q),
    (SELECT string_agg(concat_ws(' ', pid, backend_type, state, wait_event_type, wait_event, now() - backend_start, now() - xact_start, pg_blocking_pids(pid)::text, left(query, 80)), E'\n')
      FROM pg_stat_activity WHERE pid <> pg_backend_pid()))
SQL

# reclaimed(CONNECTION, EPOCH, SECONDS): seconds until a new engine has started, no call of an older one counts as running, and the first rows of each
# lane that are in the queue now have been taken, and how many that were; nothing when the connection broke, negative when it took too long. Of the lane
# that is worked off one by one only as many as there are executors: no more can have been in a dead one's hand.
sub reclaimed
{
	my ($c, $epoch, $seconds) = @_;
	my $start = time;
	my $told;

	my $made = $c->query(<<'SQL');
CREATE TEMP TABLE IF NOT EXISTS hand (place tid, version xid);
TRUNCATE hand;
INSERT INTO hand SELECT q.ctid, q.xmin FROM generate_series(0, 4) l CROSS JOIN LATERAL (SELECT ctid, xmin FROM goya_private.ready WHERE lane = l ORDER BY lane, rank
    LIMIT CASE l WHEN 3 THEN current_setting('goya.max_executors')::integer + current_setting('goya.max_slow_nodes')::integer ELSE 20 END) q
SQL
	return if $made->{lost} || $made->{error};
	my $n = $c->value(q{SELECT (SELECT count(*) FROM hand) + (SELECT count(*) FROM goya.node_runs WHERE status = 'running')}) // return;
	while (1)
	{
		my $done = $c->value(<<"SQL");
SELECT (SELECT max(epoch) > $epoch FROM goya_private.engine)
   AND NOT EXISTS (SELECT FROM goya.node_runs WHERE status = 'running' AND epoch < (SELECT max(epoch) FROM goya_private.engine))
   AND NOT EXISTS (SELECT FROM hand h JOIN goya_private.ready q ON q.ctid = h.place AND q.xmin = h.version)
SQL
		return if !defined $done;
		return (time - $start, $n) if $done eq 't';
		return (-1, $n) if time - $start > $seconds;
		note 'not taken up after 4 s: ' . ($c->value($STANDSTILL) // 'gone') if !$told && time - $start > 4 && ($told = 1);
		sleep 0.02;
	}
}

# ---- kills ----

# The kind that dies now: drawn among those that are there.
sub victim
{
	my ($node, $only) = @_;
	my $found = processes($node);
	my @kinds = grep { $found->{$_} && (!defined $only || $_ eq $only) } sort keys %WEIGHTS;
	my $dice = rand sum(0, map { $WEIGHTS{$_} } @kinds);

	foreach my $kind (@kinds)
	{
		next if ($dice -= $WEIGHTS{$kind}) >= 0;
		my @pids = @{ $found->{$kind} };
		return ($kind, $pids[ rand @pids ]);
	}
	return;
}

# One kill, within 10 s; [kind, when].
sub strike
{
	my ($node, $only) = @_;
	my $deadline = time + 10;

	while (time < $deadline)
	{
		my ($kind, $pid) = victim($node, $only);
		my $at = time;
		return [ $kind, $at ] if defined $pid && alive($pid) && kill 'KILL', $pid;
		return if defined $only;
		revive($node);
		sleep 0.005;
	}
	BAIL_OUT('there is nobody to kill');
	return;
}

sub known_epoch { my ($c) = @_; return $c ? $c->value('SELECT coalesce(max(epoch), 0) FROM goya_private.engine') : undef; }

# The storm itself: { killed => {kind => n}, outages => [[from, to]], up => [s], hand => [s], late => n }.
sub blow
{
	my ($node, $crowd, %o) = @_;
	my %seen = (killed => {}, outages => [], up => [], hand => []);
	my $batches = 0;
	my $c = await_server($node, 60);
	my $epoch = known_epoch($c) // 0;

	for my $k (1 .. $o{kills})
	{
		my $share = int($o{batches} * $k / $o{kills}) - $batches;
		# Kills in the middle of a recovery: the next one comes before anybody has looked.
		my ($moment, $at_once, $startup) = (0.02 + rand 0.8, rand() < 0.25, rand() < 0.1);
		$crowd->release($share);
		$batches += $share;
		sleep $moment;
		my $before = processes($node);
		my $strike = $o{strike} ? $o{strike}->() : strike($node);
		push @{ $seen{outages} }, [ $strike->[1], $strike->[1] ];
		$seen{killed}{ $strike->[0] }++;
		if ($startup && $k < $o{kills} && $strike->[0] ne 'postmaster')
		{
			my $second;
			until_true(sub { $second = strike($node, 'startup') }, 1);
			$seen{killed}{startup}++ if $second;
		}
		next if $at_once && $k < $o{kills};
		$c = await_server($node, 60, map { $before->{$_}[0] // () } qw(checkpointer walwriter launcher));
		push @{ $seen{up} }, time - $strike->[1];
		$_->[1] = time foreach grep { $_->[0] == $_->[1] } @{ $seen{outages} };
		my ($hand, $n) = reclaimed($c, $epoch, 30);
		my $start = start_time($node);
		push @{ $seen{hand} }, [ $hand, $n, $start ] if defined $hand;
		diag("kill $k of a $strike->[0]: after 30 s not all is taken up again") if defined $hand && $hand < 0;
		$epoch = known_epoch($c) // $epoch;
		$c->close;
		note sprintf 'kill %d/%d: %s after %.2f s, back after %.2f s, %s', $k, $o{kills}, $strike->[0], $moment, $seen{up}[-1], defined $hand ? sprintf '%d taken up after %.2f s', $n, $hand : 'and gone again';
	}
	$_->[1] = time foreach grep { $_->[0] == $_->[1] } @{ $seen{outages} };
	return \%seen;
}

# ---- the whole ----

sub first_lines { my @lines = @_; return join "\n", @lines > 5 ? (@lines[ 0 .. 4 ], '… ' . (@lines - 5) . ' more') : @lines; }

# What the storm did and how fast the cluster was back; one assertion of C3.
sub verify_recovery
{
	my ($seen, $kills, $name) = @_;
	my @hand = map { $_->[0] } @{ $seen->{hand} };
	my $held = sum(0, map { $_->[1] } @{ $seen->{hand} });
	my $slowest = max(0, map { $_ < 0 ? 99 : $_ } @hand);
	my @late = grep { $_->[0] < 0 || $_->[0] > 5 + 20 * $_->[2] } @{ $seen->{hand} };

	note sprintf 'killed: %s', join ', ', map { "$_ $seen->{killed}{$_}" } sort keys %{ $seen->{killed} };
	note sprintf 'the cluster was back within %.2f s at most, %.2f s on average; what the dead had in hand was taken up within %.2f s at most, %.2f s on average of %d',
		max(@{ $seen->{up} }), sum(@{ $seen->{up} }) / @{ $seen->{up} }, $slowest, sum(0, @hand) / (@hand || 1), scalar @hand;
	cmp_ok(sum(values %{ $seen->{killed} }), '>=', $kills, "${name}$kills times somebody was killed");
	cmp_ok(scalar @hand, '>', $kills / 4, "${name}measured after a good part of the kills: " . @hand);
	cmp_ok($held, '>', @hand, "${name}and there was something in hand: $held calls and first rows of the queue");
	is(join(', ', map { sprintf '%.2f s', $_->[0] } @late), '',
		sprintf '%sC3: what the dead had in hand is taken up within 5 s of the cluster accepting connections (%.2f s at most)', $name, $slowest);
	return;
}

# storm(NODE, tasks, kills, seed, clients, size, name => prefix of assertions, strike => code that ends the cluster instead, and gives [name, when]).
sub storm
{
	my ($node, %o) = @_;
	my $size = $o{size} // 10;
	my $name = $o{name} // '';
	my $scene = create_scene($node, http => http_server(), seed => $o{seed}, size => $size);
	my $crowd = GoyaCrowd->start($node, $scene, clients => $o{clients} // 4);
	my $began = time;

	srand $o{seed};
	my $seen = blow($node, $crowd, kills => $o{kills}, batches => int($o{tasks} / $size), strike => $o{strike});
	my $blown = time - $began;
	my $clients = $crowd->finish(180);
	await_server($node, 60);
	close_scene($node, $scene);
	my $drained = $node->wait_until('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 0, 120);
	note sprintf '%d tasks of %d submissions, repeated %d times; %.0f s of storm, %.1f s to the end of all', $node->sql('SELECT count(*) FROM goya.tasks'),
		scalar @{ $clients->{ledger} }, $clients->{repeats}, $blown, $drained // -1;
	verify_recovery($seen, $o{kills}, $name);
	is($clients->{done} * $size, $o{tasks}, "${name}the clients submitted $o{tasks} tasks");
	is(first_lines(@{ $clients->{errors} }), '', "${name}no client saw an error but for a lost server");
	ok(defined $drained, "${name}all tasks end by themselves: none lost, none stuck");
	verify_scene($node, $scene, $clients->{ledger}, outages => $seen->{outages}, name => $name);
	return;
}

1;
