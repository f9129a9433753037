# 001_lifecycle.pl: goya comes, goes and stays away as it should: preloaded only, created, dropped under load, not preloaded, without pg_cron, stopped
# fast and at once.
#
# Decided: what is timed is timed from the statement or signal that asks for it; limits are those of what people are promised, not of what is usual.
# They are for a machine that has time: ten times what a plain backend's start takes, just before or after, is allowed on top.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaStorm qw(start_time);
use GoyaWork;
use List::Util qw(max);
use Test::More;
use Time::HiRes 'time';

my $http = http_server();

# ---- preloaded, not created ----
my $node = GoyaNode->start(name => 'lifecycle', conf => $GoyaWork::CONF, extension => 0);
ok(defined until_true(sub { worker_pid($node, 'launcher') }, 5), 'the launcher runs');
is($node->safe_psql('postgres', q{SELECT string_agg(backend_type, ', ') FROM pg_stat_activity WHERE backend_type LIKE 'goya%'}), 'goya launcher', 'and nothing else of goya');
$node->restart;
ok(defined until_true(sub { worker_pid($node, 'launcher') }, 5), 'it runs again after a restart');
is(scalar(grep { /goya/ && !/administrator command|exited with exit code 1|shared_preload|received/ } split /\n/, log_since($node, 0)), 0, 'the log says nothing of goya');
my ($launcher) = worker_pid($node, 'launcher');
# Idle: it looked at its start, and looks once more ten seconds later. Transactions would take wake-ups, and their xids would show.
sub sleeps
{
	open my $status, '<', "/proc/$_[0]/status" or return 0;
	return (map { /^voluntary_ctxt_switches:\s+(\d+)/ ? $1 : () } <$status>)[0];
}
my $NEXT_XID = 'SELECT pg_snapshot_xmax(pg_current_snapshot())';
my ($slept, $xid, $watched) = (sleeps($launcher), $node->safe_psql('postgres', $NEXT_XID), time);
until_true(sub { time - $watched > 6 }, 10);
cmp_ok(sleeps($launcher) - $slept, '<=', 2, sprintf 'preloaded but not created it wakes %d times in 6 s', sleeps($launcher) - $slept);
is($node->safe_psql('postgres', $NEXT_XID), $xid, 'and no transaction writes');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE pid = $launcher AND locktype <> 'virtualxid'"), 0, 'nor is a lock held');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
ok(defined until_true(sub { my @now = worker_pid($node, 'launcher'); @now && $now[0] != $launcher }, 10), 'a terminated launcher comes back');

# ---- created ----
my $before = start_time($node);
my $began = time;
$node->create_extensions;
my $seconds = $node->wait_until(q{SELECT state FROM goya_private.activity() WHERE process = 'engine'}, 'running', 10);
ok(defined $seconds, 'CREATE EXTENSION brings an engine');
cmp_ok($seconds // 99, '<', 2 + 10 * max($before, start_time($node)), sprintf 'within 2 s of its end (%.2f s)', $seconds // 99);
create_studio($node);
create_workflow($node, 'plain', { nodes => [ { key => 'e', kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'e' } } ] });
create_workflow($node, 'slow', { nodes => [ { key => 's', kind => 'sql', function => 'app.slow', input => { seconds => 60 } } ] });
create_workflow($node, 'hang', { nodes => [ { key => 'h', kind => 'http', url => "$http/hang" } ] });
ended($node, run_task($node, 'plain'), 'succeeded', 10, 'a task runs');
my $health = $node->sql('SELECT component, status, detail FROM goya.health()');
unlike($health, qr/\|error\|/, 'goya.health() sees no error') or diag($health);
like($health, qr/engine\|ok\|/, 'and an engine that is well');
like($node->sql('SELECT process, state FROM goya.activity ORDER BY 1'), qr/engine\|running/, 'goya.activity shows it');
is($node->sql('SELECT count(*) FROM goya.diagnose((SELECT id FROM goya.tasks LIMIT 1))'), 1, 'goya.diagnose says how the task ended');

# ---- stopped fast, with a statement and a transfer that do not end by themselves ----
my $slow = run_task($node, 'slow');
my $hang = run_task($node, 'hang');
$node->reached("SELECT count(*) FROM goya_private.activity() WHERE task_id = '$slow'", 1, 10, 'a slow statement runs');
is($node->sql("SELECT finding FROM goya.diagnose('$slow')"), 'running', 'goya.diagnose says so');
ok(defined until_true(sub { grep { $_->{path} eq '/hang' } http_log($http) }, 10), 'a transfer hangs');
$node->reached(q{SELECT bool_or(state = 'running' AND transfers = 1) FROM goya_private.activity() WHERE process = 'engine'}, 't', 5, 'and is seen');
$before = start_time($node);
$began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 3 + 10 * $before, sprintf 'a fast stop takes less than 3 s (%.2f s)', time - $began);
my $offset = log_size($node);
$node->start;
$node->reached("SELECT count(*) FROM goya_private.activity() WHERE task_id = '$slow'", 1, 10, 'after the start the statement runs again');
ok(defined until_true(sub { 2 == grep { $_->{path} eq '/hang' } http_log($http) }, 10), 'and the call is made again');
is($node->sql("SELECT count(*) FROM goya.tasks WHERE status IN ('running', 'pending')"), 2, 'both tasks are open');
my %keys = map { $_->{idempotency_key} // '' => 1 } grep { $_->{path} eq '/hang' } http_log($http);
is(scalar keys %keys, 1, 'with the same idempotency key');

# ---- stopped at once ----
$before = start_time($node);
$began = time;
$node->stop('immediate');
cmp_ok(time - $began, '<', 3 + 10 * $before, 'an immediate stop');
$node->start;
$began = time;
ended($node, run_task($node, 'plain'), 'succeeded', 10, 'after an immediate stop a task runs');
$seconds = time - $began;
cmp_ok($seconds, '<', 5 + 10 * max($before, start_time($node)), sprintf 'within 5 s of accepting connections (%.2f s)', $seconds);
$node->sql("SELECT goya.cancel('$slow'), goya.cancel('$hang') \\g /dev/null");
$node->reached("SELECT count(*) FROM goya.tasks WHERE status = 'cancelled'", 2, 10, 'what hung is cancelled');
is_sound($node, 'goya.check() is empty after the stops');

# ---- dropped under load, created again ----
foreach my $round (1 .. 3)
{
	$node->sql(q{SELECT count(goya.run('plain')) FROM generate_series(1, 2000); SELECT goya.run('hang') \g /dev/null}, role => 'studio');
	$node->reached(q{SELECT count(*) > 0 FROM goya.tasks WHERE finished_at IS NULL}, 't', 5, "round $round: there is work");
	$began = time;
	my ($done, $out, $error) = $node->try_sql('DROP EXTENSION goya');
	ok($done, "round $round: DROP EXTENSION under load") or diag($error);
	$seconds = time - $began;
	cmp_ok($seconds, '<', 5 + 10 * start_time($node), sprintf 'round %d: in less than 5 s (%.2f s)', $round, $seconds);
	ok(defined until_true(sub { !worker_pid($node, 'engine') && !worker_pid($node, 'executor') }, 5), "round $round: its processes leave") if $round == 1;
	$node->sql('CREATE EXTENSION goya');
	$node->reached(q{SELECT state FROM goya_private.activity() WHERE process = 'engine'}, 'running', 10, "round $round: created again, an engine runs");
	create_workflow($node, 'plain', { nodes => [ { key => 'e', kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'e' } } ] });
	create_workflow($node, 'hang', { nodes => [ { key => 'h', kind => 'http', url => "$http/hang" } ] });
	ended($node, run_task($node, 'plain'), 'succeeded', 10, "round $round: and a task");
	is_sound($node, "round $round: goya.check() is empty");
}

# ---- the database goes ----
$node->safe_psql('postgres', 'CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION goya');
ok(defined until_true(sub { worker_pid($node, 'engine', 'second') }, 10), 'a second database has an engine of its own');
$began = time;
my ($out, $error);
$node->psql('postgres', 'ALTER DATABASE second RENAME TO third', stdout => \$out, stderr => \$error);
is($error, '', 'a database with goya can be renamed');
ok(defined until_true(sub { worker_pid($node, 'engine', 'third') }, 15), 'and its engine comes back');
$node->psql('postgres', 'CREATE DATABASE copied TEMPLATE third', stdout => \$out, stderr => \$error);
is($error, '', 'and be a template');
$began = time;
$node->psql('postgres', 'DROP DATABASE third', stdout => \$out, stderr => \$error);
is($error, '', 'DROP DATABASE of a database with goya needs no FORCE');
$seconds = time - $began;
cmp_ok($seconds, '<', 6 + 10 * start_time($node), sprintf 'in about 5 s (%.2f s)', $seconds);
unlike(log_since($node, $offset), qr/PANIC|was terminated by signal|TRAP/, 'nothing crashed');
$node->stop('fast');

# ---- not preloaded ----
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->start;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'goya%'}), 0, 'not preloaded: no process of goya');
foreach my $call (q{SELECT goya.run('plain')}, q{SELECT goya.wait_for_task((SELECT id FROM goya.tasks ORDER BY id LIMIT 1), '1 s') FROM goya.run('plain')})
{
	my ($done, $out, $error) = $node->try_sql($call, role => 'studio');
	like($error, qr/ERROR:\s+55000:.*HINT:.*shared_preload_libraries/s, "not preloaded: $call is refused with a hint");
}
is($node->sql('SELECT count(*) FROM goya.workflows'), 2, 'not preloaded: tables can be read');
is($node->sql(q{SELECT code FROM goya.validate_workflow('{}') LIMIT 1}) ne '', 1, 'not preloaded: definitions can be checked');
my $about = $node->sql('SELECT component, status, hint FROM goya.health()');
like($about, qr/error.*shared_preload_libraries/, 'not preloaded: goya.health() says what to do') or diag($about);
is($node->sql(q{DROP EXTENSION goya; CREATE EXTENSION goya; SELECT count(*) FROM goya.workflows}), 0, 'not preloaded: it can be dropped and created');
$node->stop('fast');

# ---- without pg_cron ----
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'goya'\n");
$node->start;
$node->sql('DROP EXTENSION pg_cron');
create_workflow($node, 'plain', { nodes => [ { key => 'n', kind => 'noop' } ] });
my ($done, $printed, $problem) = $node->try_sql(q{SELECT goya.create_trigger(workflow => 'plain', name => 'nightly', kind => 'cron', schedule => '0 3 * * *')}, role => 'studio');
ok(!$done, 'without pg_cron a cron trigger is refused');
like($problem, qr/ERROR:\s+0A000:\s+cron triggers need pg_cron.*HINT:/s, 'with a clear error');
is($node->sql('SELECT count(*) FROM goya.triggers'), 0, 'and nothing half-written');
ended($node, run_task($node, 'plain'), 'succeeded', 10, 'without pg_cron everything else runs');
is_sound($node);
$node->stop('fast');
done_testing();
