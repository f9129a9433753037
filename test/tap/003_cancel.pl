# 003_cancel.pl: goya.cancel ends a task within a second of its commit, whatever the task is doing: a running statement, a running transfer, a wait, a
# pause, a sleep, a map, children; what it used is paid, the rest of its hold released; its neighbours in a batch notice nothing.
#
# Decided: the second is measured in the database, from the commit of the cancel (the session's next statement) to tasks.finished_at. It is for a machine
# that has time: ten times what a plain backend's start takes at that moment is allowed on top.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaStorm qw(start_time);
use GoyaWork;
use List::Util qw(max);
use Test::More;

my $node = GoyaNode->start(name => 'cancel', conf => $GoyaWork::CONF);
my $http = http_server();
create_studio($node);
$node->sql(q{SELECT goya.top_up(1000000000000, 'start', 'default'); SELECT goya.set_price('step', 1000000)});

my $effect = { task => '{{ task.id }}', node => 'e' };

create_workflow($node, 'statement', { nodes => [
	{ key => 'paid', kind => 'sql', function => 'app.effect', input => $effect, price => 'step' },
	{ key => 'slow', kind => 'sql', function => 'app.slow', input => { seconds => 60 }, price => 'step' } ],
	edges => [ { from => 'paid', to => 'slow' } ] });
create_workflow($node, 'transfer', { nodes => [ { key => 'get', kind => 'http', url => "$http/hang" } ] });
create_workflow($node, 'waits', { nodes => [ { key => 'w', kind => 'wait', signal => 'never' } ] });
create_workflow($node, 'asks', { nodes => [ { key => 'a', kind => 'approval', message => 'well?' } ] });
create_workflow($node, 'sleeps', { nodes => [ { key => 's', kind => 'sleep', duration => 600 } ] });
create_workflow($node, 'retries', { nodes => [ { key => 'b', kind => 'sql', function => 'app.boom', retry => { max_attempts => 5, initial => '1 hour' } } ] });
create_workflow($node, 'maps calls', { nodes => [ { key => 'm', kind => 'map', over => [ 1 .. 20 ], max_parallel => 5, node => { kind => 'http', url => "$http/hang?item={{ item }}" } } ] });
create_workflow($node, 'maps waits', { nodes => [ { key => 'm', kind => 'map', over => [ 1 .. 10 ], node => { kind => 'wait', signal => 'never' } } ] });
create_workflow($node, 'child', { nodes => [ { key => 'c', kind => 'workflow', workflow => 'statement' }, { key => 'd', kind => 'workflow', workflow => 'waits' } ] });
create_workflow($node, 'grandchild', { nodes => [ { key => 'c', kind => 'workflow', workflow => 'child' } ] });
create_workflow($node, 'plain', { nodes => [ { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ] });

# cancelled(ID, NAME): cancels it and says whether it ended within a second of the commit.
sub cancelled
{
	my ($id, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $before = start_time($node);
	my $said = $node->sql("SELECT goya.cancel('$id', 'a test') \\g\nSELECT clock_timestamp()", role => 'studio');
	my ($asked, $committed) = split /\n/, $said;
	my $row = $node->sql("SELECT status, extract(epoch FROM finished_at - '$committed')::numeric(10, 3), error ->> 'class' FROM goya.wait_for_task('$id', '10 s')");
	my ($status, $seconds, $class) = split /\|/, $row;

	is("$asked $status $class", 't cancelled CANCELLED', "$name: cancelled") or diag($node->sql("SELECT * FROM goya.task_events WHERE task_id = '$id' ORDER BY seq"));
	cmp_ok($seconds ne '' ? $seconds : 99, '<', 1 + 10 * max($before, start_time($node)), "$name: within a second ($seconds s)");
	return;
}

sub running { my ($id, $node_key) = @_; return "SELECT EXISTS (SELECT FROM goya_private.activity() a WHERE a.task_id = '$id' AND a.node = '$node_key')"; }

# ---- a statement ----
my $id = run_task($node, 'statement', {}, 'max_cost => 50000000');
$node->reached(running($id, 'slow'), 't', 10, 'the slow statement runs and is seen');
my $frozen = $node->sql('SELECT frozen FROM goya.wallets');
cmp_ok($frozen, '>=', 1_000_000, 'money is held for it');
cancelled($id, 'statement');
is($node->sql("SELECT string_agg(node || ' ' || status, ', ' ORDER BY node) FROM goya.node_runs WHERE task_id = '$id' AND status IN ('succeeded', 'running', 'waiting')"),
	'paid succeeded', 'statement: what was done stays, nothing is left open');
$node->reached(running($id, 'slow'), 'f', 10, 'statement: it does not run any more');
is($node->sql("SELECT h.status, h.captured FROM goya.holds h WHERE h.task_id = '$id'"), 'settled|1000000', 'statement: the step that was done is paid, once');
is($node->sql('SELECT frozen, balance FROM goya.wallets'), '0|' . (1_000_000_000_000 - 1_000_000), 'statement: the rest was released');
is($node->sql("SELECT count(*) FROM app.effects WHERE task = '$id'"), 1, 'statement: its effect is there once');

# ---- a transfer ----
$id = run_task($node, 'transfer');
ok(defined until_true(sub { grep { $_->{path} eq '/hang' } http_log($http) }, 10), 'the transfer has arrived at the server');
cancelled($id, 'transfer');
$node->reached(q{SELECT transfers FROM goya_private.activity() WHERE process = 'engine'}, 0, 10, 'transfer: none is left in flight');
is(scalar(grep { $_->{path} eq '/hang' } http_log($http)), 1, 'transfer: it was called once');

# ---- waiting, asking, sleeping, retrying, in the queue ----
foreach my $workflow (qw(waits asks sleeps))
{
	$id = run_task($node, $workflow);
	$node->reached("SELECT status FROM goya.tasks WHERE id = '$id'", 'waiting', 10, "$workflow: it waits");
	cancelled($id, $workflow);
}
is($node->sql(q{SELECT status FROM goya.approvals}), 'cancelled', 'asks: the question is withdrawn');
$id = run_task($node, 'retries');
$node->reached("SELECT count(*) FROM goya.node_runs WHERE task_id = '$id' AND status = 'failed'", 1, 10, 'retries: the first attempt has failed');
cancelled($id, 'retries');
$id = run_task($node, 'plain', {}, q{run_at => now() + interval '1 day'});
cancelled($id, 'not due yet');

# ---- paused ----
$id = $node->sql("BEGIN;\nSELECT goya.run('plain') AS id \\gset\nSELECT id FROM goya.pause(:'id');\nCOMMIT", role => 'studio');
is($node->sql("SELECT paused, status FROM goya.tasks WHERE id = '$id'"), 't|pending', 'paused: it was paused before it began');
cancelled($id, 'paused');

# ---- maps ----
$id = run_task($node, 'maps calls');
ok(defined until_true(sub { 5 == grep { defined $_->{query}{item} } http_log($http) }, 10), 'maps calls: five transfers are in flight');
cancelled($id, 'maps calls');
is(scalar(grep { defined $_->{query}{item} } http_log($http)), 5, 'maps calls: no other item was begun');
$id = run_task($node, 'maps waits');
$node->reached("SELECT count(*) FROM goya.node_runs WHERE task_id = '$id' AND status = 'waiting' AND node <> 'm'", 10, 10, 'maps waits: all ten wait');
cancelled($id, 'maps waits');

# ---- children ----
foreach my $workflow (qw(child grandchild))
{
	$id = run_task($node, $workflow);
	my $below = "WITH RECURSIVE b AS (SELECT id, status FROM goya.tasks WHERE parent_task_id = '$id' UNION ALL SELECT t.id, t.status FROM goya.tasks t JOIN b ON t.parent_task_id = b.id) SELECT";
	my $count = $workflow eq 'child' ? 2 : 3;

	$node->reached("$below count(*) FROM b", $count, 10, "$workflow: the tasks below it are there");
	$node->reached("$below EXISTS (SELECT FROM goya_private.activity() a JOIN b ON b.id = a.task_id AND a.node = 'slow')", 't', 10, "$workflow: the statement below runs");
	cancelled($id, $workflow);
	$node->reached("$below string_agg(DISTINCT status::text, ' ') FROM b", 'cancelled', 2, "$workflow: and so are all below it, within 2 s");
}

# ---- one among many ----
my @ids = split /\n/, $node->sql(q{SELECT goya.run('plain') FROM generate_series(1, 500)}, role => 'studio');
my $one = $ids[250];
$node->sql("SELECT goya.cancel('$one') \\g /dev/null", role => 'studio');
$node->reached(sprintf("SELECT count(*) FROM goya.tasks WHERE id = ANY ('{%s}') AND finished_at IS NOT NULL", join ',', @ids), 500, 20, '500 tasks, one of them cancelled, all end');
is($node->sql(sprintf "SELECT count(*) FROM goya.tasks WHERE id = ANY ('{%s}') AND id <> '$one' AND status = 'succeeded'", join ',', @ids), 499, 'the other 499 succeeded');
is($node->sql(sprintf "SELECT count(*), count(DISTINCT task) FROM app.effects WHERE task = ANY ('{%s}') AND task <> '$one'", join ',', @ids), '499|499', '... each with its effect once');
is($node->sql("SELECT count(*) FROM app.effects e JOIN goya.tasks t ON t.id = e.task WHERE t.id = '$one' AND t.status = 'cancelled'"), 0, 'the cancelled one left none');

# Cancelled while its batch runs: 20 slow tasks as one batch, interrupted in the middle.
create_workflow($node, 'brief', { nodes => [ { key => 's', kind => 'sql', function => 'app.slow', input => { seconds => 0.004 } }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ], edges => [ { from => 's', to => 'e' } ] });
ended($node, run_task($node, 'brief'), 'succeeded', 10, 'a brief task, to be measured');
@ids = split /\n/, $node->sql(q{SELECT goya.run('brief') FROM generate_series(1, 200)}, role => 'studio');
$node->sql(sprintf("SELECT goya.cancel(id) FROM unnest('{%s}'::uuid[]) WITH ORDINALITY u(id, n) WHERE n %% 10 = 0 \\g /dev/null", join ',', @ids), role => 'studio');
$node->reached(sprintf("SELECT count(*) FROM goya.tasks WHERE id = ANY ('{%s}') AND finished_at IS NOT NULL", join ',', @ids), 200, 20, '200 tasks with 20 cancels in between all end');
is($node->sql(sprintf "SELECT count(*) FROM unnest('{%s}'::uuid[]) WITH ORDINALITY u(id, n) JOIN goya.tasks t USING (id) WHERE n %% 10 <> 0 AND t.status <> 'succeeded'", join ',', @ids), 0, 'no neighbour was hit');
is($node->sql(sprintf "SELECT count(*) FROM goya.tasks t WHERE id = ANY ('{%s}') AND (SELECT count(*) FROM app.effects e WHERE e.task = t.id) <> CASE t.status WHEN 'succeeded' THEN 1 ELSE 0 END", join ',', @ids), 0, 'effects are there exactly for those that succeeded');

# ---- functions that catch the cancellation and go on ----
$node->sql(<<'SQL');
CREATE SEQUENCE app.told;
CREATE SEQUENCE app.calls;
CREATE FUNCTION app.stubborn(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('app.calls');
    INSERT INTO app.effects (task, node) VALUES ((input ->> 'task')::uuid, 'stubborn');
    LOOP
        BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN PERFORM nextval('app.told'); END;
    END LOOP;
END $$;
CREATE FUNCTION app.tidy(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(600);
EXCEPTION WHEN query_canceled THEN
    PERFORM nextval('app.told'), pg_sleep(0.1);
    RETURN '"in time"';
END $$;
GRANT USAGE ON SEQUENCE app.told, app.calls TO studio;
SQL
create_workflow($node, $_, { nodes => [ { key => 'n', kind => 'sql', function => "app.$_", input => $effect, timeout => '300ms', retry => { max_attempts => 3, initial => '1ms' } } ] }) foreach qw(stubborn tidy);
create_workflow($node, 'endless', { nodes => [ { key => 'n', kind => 'sql', function => 'app.stubborn', input => $effect } ] });
create_workflow($node, 'long', { nodes => [ { key => 'n', kind => 'sql', function => 'app.slow', input => { seconds => 600 } } ] });
my $told = 'SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM app.told';
my $error = q{SELECT concat_ws(' ', status, error ->> 'class', error ->> 'code') FROM goya.tasks WHERE id = };
ended($node, run_task($node, 'tidy'), 'succeeded', 10, 'who is told that its time is over, cleans up and ends, has ended well');
is($node->sql($told), 1, '... told once');
my $late = run_task($node, 'stubborn');
my $endless = run_task($node, 'endless');
$node->reached("SELECT count(*) FROM goya.activity a JOIN pg_stat_activity p USING (pid) WHERE a.task_id = '$endless' AND p.wait_event = 'PgSleep'", 1, 10,
    'who goes on after a cancel: it is where it catches one');
$node->sql("SELECT goya.cancel('$endless') \\g /dev/null", role => 'studio');
$node->reached("SELECT ($told) >= 3", 't', 10, '... both that were told to end go on');
ended($node, run_task($node, 'plain'), 'succeeded', 10, '... beside them others run');
$node->reached("$error '$late'", 'failed CRASH 57P02', 20, 'who goes on after its time is ended with its process, and not run again');
like($node->sql("SELECT error ->> 'detail' FROM goya.tasks WHERE id = '$late'"), qr/went on after its time was over/, '... the error says why');
$node->reached("$error '$endless'", 'cancelled CANCELLED 57014', 10, '... the cancelled one is cancelled');
$node->reached("SELECT count(*) FROM goya.activity WHERE task_id IN ('$late', '$endless')", 0, 10, '... and runs no more');
# Five seconds after its time, which is 0.3 s; the rest is the machine's.
my $took = $node->sql("SELECT extract(epoch FROM finished_at - created_at)::numeric(10, 3) FROM goya.tasks WHERE id = '$late'");
cmp_ok($took, '<', 8, "... it was not given much more than 5 s ($took s)");
is($node->sql('SELECT last_value FROM app.calls'), 2, '... neither was run again');
is($node->sql("SELECT count(*) FROM app.effects WHERE task IN ('$late', '$endless')"), 0, '... no effect of theirs is left');
$node->reached('SELECT count(*) FROM goya_private.crashes', 0, 10, '... and no count');

# ---- a limit for all SQL nodes ----
$node->sql("ALTER SYSTEM SET goya.sql_timeout = '1s'; SELECT pg_reload_conf() \\g /dev/null");
$node->reached("$error '" . run_task($node, 'long') . "'", 'failed TIMEOUT 57014', 10, 'goya.sql_timeout ends a node that has no timeout of its own');

# ---- what cannot be cancelled ----
is($node->sql("SELECT goya.cancel('$ids[0]')", role => 'studio'), 'f', 'a task that has ended says so');
$node->refused("SELECT goya.cancel('00000000-0000-7000-8000-00000000dead')", 'PT404', 'a task that is not there', role => 'studio');
is($node->sql('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL'), 0, 'no task is open');
is_sound($node);
$node->stop('fast');
done_testing();
