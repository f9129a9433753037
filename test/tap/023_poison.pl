# 023_poison.pl: nodes that end the process they run in. Three times, then they fail; nobody else is blamed, and nothing of others is lost.
#
# Decided: test/modules/crasher.c is built here, with the compiler that built goya, and loaded by its path: so the real causes are tried, a wild
# pointer, abort, a full stack, SIGKILL, exit, FATAL. Calls are counted in a file, which no rollback and no crash takes back.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $module = "$dir/crasher.so";
chomp(my $headers = `pg_config --includedir-server`);
my @build = (split(/ /, $ENV{CC} // 'cc'), qw(-O0 -w -fPIC -shared -I), $headers, '-o', $module, "$FindBin::Bin/../modules/crasher.c");
is(system(@build), 0, 'the module that crashes is built') or BAIL_OUT("@build");

# ---- what runs ----

my $node = GoyaNode->start(name => 'poison', conf => $GoyaWork::CONF . "goya.poll_interval = '1s'\nlog_min_messages = log\n");
create_studio($node);
foreach my $way (qw(segv abort kill stack exit exit_at_once fatal))
{
	$node->sql(<<"SQL");
CREATE FUNCTION app.do_$way() RETURNS void LANGUAGE c AS '$module', 'crasher_$way';
CREATE FUNCTION app.$way(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM app.enter('$dir/' || (input ->> 'count'));
    IF coalesce(input ->> 'sane', '') <> 'yes' THEN PERFORM app.do_$way(); END IF;
    RETURN input;
END \$\$;
SQL
}
$node->sql(<<"SQL");
CREATE FUNCTION app.enter(path text) RETURNS integer LANGUAGE c AS '$module', 'crasher_enter';
CREATE FUNCTION app.wait_for(path text) RETURNS void LANGUAGE c AS '$module', 'crasher_wait';
-- The second call waits for the test, and leaves an effect.
CREATE FUNCTION app.gate(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
    IF app.enter('$dir/' || (input ->> 'count') || '.gate') = 2 THEN PERFORM app.wait_for('$dir/' || (input ->> 'count') || '.open'); END IF;
    RETURN app.effect(input);
END \$\$;
-- Crashes the first time; then returns how many effects its own transaction has left.
CREATE FUNCTION app.once(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
BEGIN
    IF app.enter('$dir/' || (input ->> 'count')) = 1 AND input ->> 'sane' = '' THEN PERFORM app.do_segv(); END IF;
    RETURN (SELECT count(*) FROM app.effects e WHERE e.xmin::text = (pg_current_xact_id()::text::bigint % 4294967296)::text);
END \$\$;
SQL

sub calls { return -s "$dir/$_[0]" // 0; }
sub crashes { return scalar(() = log_since($node, $_[0]) =~ /terminating any other active server processes/g); }
sub sql_node { my ($key, $function, %more) = @_; return { key => $key, kind => 'sql', function => "app.$function", input => { task => '{{ task.id }}', node => $key, count => '{{ input.count }}', sane => '{{ input.sane }}' }, %more }; }
my $ERROR = q{SELECT concat_ws(' ', status, error ->> 'class', error ->> 'code', error ->> 'node') FROM goya.tasks WHERE id = };
my $DONE = 'SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL';
my $LEFT = 'SELECT count(*) FROM goya_private.crashes';

create_workflow($node, 'chain', { nodes => [ map { sql_node("e$_", 'effect') } 1 .. 3 ], edges => [ { from => 'e1', to => 'e2' }, { from => 'e2', to => 'e3' } ] });
create_workflow($node, "poison_$_", { nodes => [ sql_node('before', 'effect'), sql_node('bad', $_), sql_node('after', 'effect') ],
	edges => [ { from => 'before', to => 'bad' }, { from => 'bad', to => 'after' } ] }) foreach qw(segv abort kill stack exit exit_at_once fatal);
create_workflow($node, 'gated', { nodes => [ sql_node('gate', 'gate'), sql_node('bad', 'once') ], edges => [ { from => 'gate', to => 'bad' } ] });
create_workflow($node, 'handled', { nodes => [ sql_node('bad', 'segv', retry => { max_attempts => 5, initial => '10ms' }), sql_node('instead', 'effect') ],
	edges => [ { from => 'bad', to => 'instead', on => 'failure' } ] });
create_workflow($node, 'items', { nodes => [ { key => 'all', kind => 'map', over => '{{ input.items }}', error_budget => 5,
	node => { kind => 'sql', function => 'app.segv', input => { count => '{{ input.count }}', sane => '{{ item }}' } } } ] });
create_workflow($node, 'slow', { nodes => [ { key => 'nap', kind => 'sql', function => 'app.slow', input => { seconds => '{{ input.seconds }}' } } ] });

# Starts a task. The server may crash of it before it has said so: asked again, with the same key.
sub poison
{
	my ($workflow, $count, %more) = @_;
	my $input = json({ count => $count, sane => '', %more });
	my $id;

	until_true(sub { (my $done, $id) = $node->try_sql("SELECT goya.run('$workflow', '$input', idempotency_key => '$workflow $count')", role => 'studio'); return $done; }, 20);
	return $id;
}

# Measured, the functions run in batches and not alone.
ended($node, poison('poison_segv', 'measured', sane => 'yes'), 'succeeded', 10, 'a sane task');

# ---- a wild pointer in the middle of a chain, among others ----

my $offset = log_size($node);
my (undef, $poison) = $node->try_sql(<<'SQL', role => 'studio');
BEGIN;
SELECT count(goya.run('poison_segv', '{"count": "mates", "sane": "yes"}')) FROM generate_series(1, 300) \g /dev/null
SELECT goya.run('poison_segv', '{"count": "segv", "sane": ""}');
SELECT count(goya.run('poison_segv', '{"count": "mates", "sane": "yes"}')) FROM generate_series(1, 300) \g /dev/null
COMMIT;
SQL
$node->reached($DONE, 0, 40, 'all tasks end, the poisoned one too');
is($node->sql("$ERROR '$poison'"), 'failed CRASH 57P02 bad', 'it has failed with class CRASH at the node that crashes');
is(calls('segv'), 3, 'its function was called three times');
is(crashes($offset), 3, 'the server restarted three times');
is($node->sql("SELECT string_agg(node, ' ' ORDER BY node) FROM app.effects WHERE task = '$poison'"), 'before', 'the node before it ran once, the one after it never');
is($node->sql(q{SELECT status, count(*) FROM goya.tasks GROUP BY 1 ORDER BY 1}), "succeeded|601\nfailed|1", 'its 600 neighbours succeeded');
is($node->sql(q{SELECT count(*), count(DISTINCT (task, node)) FROM app.effects}), '1203|1203', '... each effect there once');
like($node->sql("SELECT error ->> 'detail' FROM goya.tasks WHERE id = '$poison'"), qr/Signal 11/, 'the error names the signal');
like($node->sql("SELECT * FROM goya.diagnose('$poison')"), qr/failed\|bad\|57P02 the node ended its process 3 times.*goya\.retry/, 'goya.diagnose says so, with what to do');
is($node->sql($LEFT), 0, 'nothing is left in the table of crashes');
is_sound($node);

# ---- mended, and tried again ----

my $as_it_was = $node->sql("SELECT pg_get_functiondef('app.segv'::regproc)");
$node->sql("CREATE OR REPLACE FUNCTION app.segv(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input'");
my $again = $node->sql("SELECT goya.retry('$poison')", role => 'studio');
ended($node, $again, 'succeeded', 10, 'with the function mended, goya.retry goes through');
is($node->sql("SELECT string_agg(node, ' ') FROM app.effects WHERE task = '$again'"), 'after', '... from where it had failed');
$node->sql($as_it_was);

# ---- every other way to go ----

foreach my $way (qw(abort kill stack exit_at_once exit fatal))
{
	$offset = log_size($node);
	my $task = poison("poison_$way", $way);
	$node->reached("$ERROR '$task'", 'failed CRASH 57P02 bad', 30, "$way: dead-lettered");
	is(calls($way), 3, "$way: called three times");
	my $restarts = $way eq 'exit' || $way eq 'fatal' ? 0 : 3;
	is(crashes($offset), $restarts, "$way: $restarts restarts of the server");
}

# ---- on failure, retry, items of a map ----

my $handled = poison('handled', 'handled');
$node->reached("SELECT status FROM goya.tasks WHERE id = '$handled'", 'succeeded', 30, 'an edge on failure takes it');
is(calls('handled'), 3, '... and the node is not retried');
my $items = poison('items', 'items', items => [ qw(yes yes no yes) ]);
$node->reached("SELECT status FROM goya.tasks WHERE id = '$items'", 'succeeded', 30, 'a map goes on within its error budget');
is($node->sql("SELECT string_agg(item || ' ' || status || coalesce(' ' || (error ->> 'class'), ''), ', ' ORDER BY item) FROM goya.node_runs WHERE task_id = '$items' AND node <> 'all'"),
	'0 succeeded, 1 succeeded, 2 failed CRASH, 3 succeeded', '... only the item that crashes fails');
is_sound($node);

# ---- a crash that does not come again ----

# Tasks of it until both nodes run in one transaction, since their functions are measured.
sub together
{
	my ($name) = @_;
	my $tries = 0;

	return until_true(sub {
		my $task = poison('gated', $name . ++$tries, sane => 'yes');
		return $node->sql("SELECT output FROM goya.wait_for_task('$task', '10 s')") eq '1';
	}, 20);
}

ok(together('first'), 'two nodes in one transaction');
my $once = poison('gated', 'once');
ok(defined until_true(sub { calls('once.gate') == 2 }, 20), 'after one crash the task runs again');
$node->reached("SELECT count(*) FROM goya.diagnose('$once') WHERE finding = 'crashed' AND node = 'bad' AND detail LIKE '%1 of 3%'", 1, 10, '... and goya.diagnose tells of the crash');
is($node->sql("SELECT status FROM goya.health() WHERE component = 'crashes'"), 'warning', '... as goya.health() does');
ok(together('again'), '... other tasks of its workflow run both nodes in one transaction, as soon as they are measured');
PostgreSQL::Test::Utils::append_to_file("$dir/once.open", '');
ended($node, $once, 'succeeded', 10, 'the task that had crashed succeeds');
is($node->sql("SELECT output FROM goya.tasks WHERE id = '$once'"), 0, '... its node in a transaction of its own');
is($node->sql($LEFT), 0, '... and its count is gone');

# ---- who is innocent ----

sub running { my ($id) = @_; return $node->wait_until("SELECT count(*) FROM goya.activity WHERE task_id = '$id' AND process = 'executor'", 1, 20); }

$node->sql(q{ALTER SYSTEM SET goya.executor_idle_timeout = '1s'; SELECT pg_reload_conf() \g /dev/null});
my $nap = run_task($node, 'slow', { seconds => 60 });
my $blamed = "SELECT status || ' ' || (SELECT count(*) FROM goya_private.crashes WHERE task_id = t.id) FROM goya.tasks t WHERE id = '$nap'";
$offset = log_size($node);
ok(defined running($nap), 'a slow node runs');
my $bad = poison('poison_segv', 'beside');
$node->reached("$ERROR '$bad'", 'failed CRASH 57P02 bad', 30, 'beside it another one crashes the server three times');
running($nap);
is($node->sql($blamed), 'running 0', '... which counts for nothing');
my $pid = $node->sql("SELECT pid FROM goya.activity WHERE task_id = '$nap' AND process = 'executor'");
$node->sql("SELECT pg_terminate_backend($pid)") if $pid;
$node->wait_until("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", 0, 10) if $pid;
running($nap);
is($node->sql($blamed), 'running 0', 'nor does pg_terminate_backend of its executor');
$node->stop('immediate');
$node->start;
running($nap);
is($node->sql($blamed), 'running 0', 'nor an immediate stop');
$node->crash;
$node->start;
running($nap);
is($node->sql($blamed), 'running 0', 'nor the death of the postmaster');
kill 'KILL', worker_pid($node, 'engine');
until_true(sub { log_since($node, $offset) =~ /goya engine" .* was terminated by signal 9/ }, 10);
running($nap);
is($node->sql($blamed), 'running 0', 'nor SIGKILL of the engine');
is($node->sql("SELECT status FROM goya.tasks WHERE id = '$nap'"), 'running', '... the slow task goes on');
unlike(log_since($node, $offset), qr/ended while it ran .*$nap/, '... and the log does not blame it');
$node->sql("SELECT goya.cancel('$nap')", role => 'studio');
ended($node, $nap, 'cancelled', 10, '... until it is cancelled');

# ---- a server that does not restart by itself ----

$node->append_conf('postgresql.conf', "restart_after_crash = off\n");
$node->restart;
# Due when who starts it has got its answer: this server does not come back to be asked again.
my $off = run_task($node, 'poison_segv', { count => 'off', sane => '' }, q{run_at => clock_timestamp() + interval '2 s'});
foreach my $round (1 .. 3)
{
	ok(defined until_true(sub { calls('off') == $round && !-e $node->data_dir . '/postmaster.pid' }, 20), "restart_after_crash = off: crash $round ends the server");
	$node->{_pid} = undef;
	$node->start(fail_ok => $round < 3);		# it may be gone again before anybody has seen it
}
$node->reached("$ERROR '$off'", 'failed CRASH 57P02 bad', 20, '... after the third one the task fails');
is(calls('off'), 3, '... called three times');
is_sound($node, 'goya.check() is empty at the end');
is($node->sql($LEFT), 0, 'no count is left');
$node->stop('fast');
done_testing();
