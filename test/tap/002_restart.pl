# 002_restart.pl: the server is killed, and stopped, in the middle of 1,000 mixed tasks; afterwards all have ended, every effect is there once,
# every capture was made once, and the HTTP server saw a call twice only if it was in flight at the kill, with the same key.
#
# Decided: effects are counted in a table without a unique key, calls in the HTTP server's own log. The kill comes when tasks have ended and
# calls are in flight, seen in the tables, never after a time. fsync is off: what is tested is goya, not the disk.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;

my $node = GoyaNode->start(name => 'restart', conf => $GoyaWork::CONF);
my $http = http_server();
create_studio($node);
$node->sql(q{SELECT goya.top_up(1000000000000, 'start', 'default'); SELECT goya.set_price('step', 1000000); SELECT goya.set_price('call', 3000000)});

sub effect { my ($key, @more) = @_; return { key => $key, kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => $key }, @more }; }

my %definitions = (
	chain => { nodes => [ map { effect("e$_", price => 'step') } 1 .. 5 ], edges => [ map { { from => "e$_", to => 'e' . ($_ + 1) } } 1 .. 4 ] },
	map => {
		nodes => [
			{ key => 'm', kind => 'map', over => [ 0 .. 7 ], max_parallel => 3, node => {
				key => 'body', kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'body', item => '{{ index }}' } } },
			effect('after'),
		],
		edges => [ { from => 'm', to => 'after' } ],
	},
	call => {
		nodes => [
			effect('before'),
			{ key => 'get', kind => 'http', method => 'POST', url => "$http/delay?ms=2000&task={{ task.id }}", success => '$.output.status == 200', price => 'call' },
			effect('after'),
		],
		edges => [ { from => 'before', to => 'get' }, { from => 'get', to => 'after' } ],
	},
	nap => { nodes => [ { key => 's', kind => 'sleep', duration => 0.3 }, effect('after') ], edges => [ { from => 's', to => 'after' } ] },
	signal => { nodes => [ { key => 'w', kind => 'wait', signal => 'go', timeout => '120s' }, effect('after') ], edges => [ { from => 'w', to => 'after' } ] },
	child => { nodes => [ { key => 'c', kind => 'workflow', workflow => 'chain' }, effect('after') ], edges => [ { from => 'c', to => 'after' } ] },
	undo => {
		nodes => [
			effect('do', compensate => { kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'undo' } }),
			{ key => 'bad', kind => 'sql', function => 'app.effect_boom', input => { task => '{{ task.id }}', node => 'bad' },
				retry => { max_attempts => 3, initial => 0.05, backoff => 'fixed' } },
		],
		edges => [ { from => 'do', to => 'bad' } ],
	},
);
create_workflow($node, $_, $definitions{$_}) foreach qw(chain map call nap signal child undo);

# What a task of each kind leaves in app.effects, per node.
my %effects = (
	chain => { map { ("e$_" => 1) } 1 .. 5 },
	map => { body => 8, after => 1 }, call => { before => 1, after => 1 }, nap => { after => 1 }, signal => { after => 1 },
	child => { after => 1 }, undo => { do => 1, undo => 1 },
);

my $DONE = q{SELECT count(*) FROM goya.tasks WHERE finished_at IS NOT NULL};

foreach my $mode (qw(immediate fast))
{
	$node->sql(q{TRUNCATE app.effects});
	my $calls_before = http_log($http);
	my $finished = $node->sql($DONE);
	my $from = $node->sql('SELECT clock_timestamp()');

	$node->sql(<<'SQL', role => 'studio');
SELECT goya.run((ARRAY['chain', 'map', 'call', 'nap', 'signal', 'child', 'undo', 'call', 'chain', 'nap'])[i % 10 + 1]) FROM generate_series(1, 1000) i \g /dev/null
SELECT goya.signal(t.id, 'go') FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'signal' AND t.finished_at IS NULL ORDER BY t.id LIMIT 50 \g /dev/null
SQL
	# Half of those that wait are told before, half after the restart.
	ok(defined $node->wait_until("SELECT count(*) > $finished + 150 AND (SELECT count(*) > 20 FROM goya.node_runs WHERE status = 'running') FROM goya.tasks WHERE finished_at IS NOT NULL",
		't', 30), "$mode: 150 tasks have ended, 20 calls are in flight");
	my $open = $node->sql('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL');
	my $running = $node->sql("SELECT count(*) FROM goya.node_runs WHERE status = 'running'");
	$node->stop($mode);
	my @until_kill = http_log($http);
	my $log_from = log_size($node);
	$node->start;
	cmp_ok($open, '>', 100, "$mode: it was in the middle: $open tasks were open, $running calls were in flight");
	$node->sql(q{SELECT goya.signal(t.id, 'go') FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'signal' AND t.finished_at IS NULL
		AND NOT EXISTS (SELECT FROM goya_private.signals s WHERE s.task_id = t.id) \g /dev/null});
	$node->reached("SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL", 0, 60, "$mode: after the restart all tasks end");
	is($node->sql("SELECT w.name, t.status, count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE t.created_at > '$from'
		AND t.status <> CASE w.name WHEN 'undo' THEN 'failed' ELSE 'succeeded' END::goya.task_status GROUP BY 1, 2"), '', "$mode: all as they should end");

	my @due = map { my $w = $_; map { "('$w', '$_', $effects{$w}{$_})" } sort keys %{ $effects{$w} } } sort keys %effects;
	is($node->sql(sprintf(<<'SQL', join(', ', @due), $from)), '', "$mode: every effect is there once");
WITH due(workflow, node, n) AS (VALUES %s), mine AS (SELECT t.id, w.name FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE t.created_at > '%s'),
     seen AS (SELECT e.task, e.node, count(*) AS n, count(DISTINCT e.item) AS items FROM app.effects e GROUP BY 1, 2)
SELECT m.name, m.id, d.node, d.n, s.n FROM mine m JOIN due d ON d.workflow = m.name LEFT JOIN seen s ON s.task = m.id AND s.node = d.node
WHERE d.n IS DISTINCT FROM s.n OR (d.node = 'body' AND s.items <> 8)
UNION ALL SELECT m.name, m.id, s.node, 0, s.n FROM seen s LEFT JOIN mine m ON m.id = s.task LEFT JOIN due d ON d.workflow = m.name AND d.node = s.node WHERE d.n IS NULL
LIMIT 10
SQL
	is($node->sql("SELECT DISTINCT r.attempt, count(*) FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id WHERE r.node = 'bad' AND t.created_at > '$from' GROUP BY 1 ORDER BY 1"),
		"1|100\n2|100\n3|100", "$mode: what failed was tried three times, no more and no less");

	# Captures: one usage row for each priced node run, and each hold has let go of the rest.
	is($node->sql(<<'SQL'), 't|t|t', "$mode: captures once, holds settled");
SELECT (SELECT count(*) FROM goya.usage_records) = (SELECT count(*) FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id JOIN goya.workflows w ON w.id = t.workflow_id
            WHERE r.status = 'succeeded' AND ((w.name = 'chain') OR (w.name = 'call' AND r.node = 'get'))),
       NOT EXISTS (SELECT FROM goya.holds WHERE status <> 'settled'),
       (SELECT sum(cost) FROM goya.usage_records) = (SELECT 1000000000000 - balance - frozen FROM goya.wallets)
SQL

	# The server's own log: who was called more often than once?
	my @calls = http_log($http);
	my (%keys, %last_before);
	foreach my $i ($calls_before .. $#calls)
	{
		my $task = $calls[$i]{query}{task};
		push @{ $keys{$task} }, [ $calls[$i]{idempotency_key}, $i < @until_kill ];
	}
	my @twice = grep { @{ $keys{$_} } > 1 } sort keys %keys;
	my @wrong = grep {
		my ($first, $second, @more) = @{ $keys{$_} };
		@more || !defined $first->[0] || $first->[0] ne $second->[0] || !$first->[1] || $second->[1];
	} @twice;
	is(scalar keys %keys, 200, "$mode: each of 200 calls was made");
	is("@wrong", '', "$mode: calls were made twice only over the kill, with the same key");
	my ($taken_over) = log_since($node, $log_from) =~ /goya took over (\d+) outside calls/;
	cmp_ok(scalar @twice, '<=', $taken_over // 0, "$mode: no more than were in flight");
	cmp_ok(scalar @twice, '>', 0, "$mode: some were, " . @twice . ' of 200');
	is_sound($node, "$mode: goya.check() is empty");
}
$node->reached('SELECT count(*) FROM goya_private.ready', 0, 10, 'the queue is empty');
is($node->sql('SELECT count(*) FROM goya_private.timers t JOIN goya.tasks k ON k.id = t.task_id WHERE k.finished_at IS NULL'), 0, 'no timer of an open task is left');
$node->stop('fast');
done_testing();
