# 025_bad_days.pl: others in the way, no worker slots, no processes, wrong settings, a full disk. Goya waits, says so once, and comes back by itself.
#
# Decided: the small disk is a tmpfs in a mount namespace of our own (unshare -Urm), where the server runs as the user that it is outside: so the test
# needs no privilege; where such namespaces are forbidden that part is skipped, and says why. Only what limits the test's own postmaster is changed
# (prlimit by its pid).
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use IPC::Open2 ();
use Test::More;
use Time::HiRes qw(sleep time);

my $node = GoyaNode->start(name => 'bad_days', conf => $GoyaWork::CONF . "goya.poll_interval = '1s'\ndeadlock_timeout = '20ms'\n");
create_studio($node);
$node->sql(<<'SQL');
CREATE TABLE app.counters (id integer PRIMARY KEY, n integer DEFAULT 0);
INSERT INTO app.counters SELECT generate_series(1, 4);
GRANT SELECT, UPDATE ON app.counters TO studio;
-- Two rows, in an order that depends on the task: so two of them deadlock.
CREATE FUNCTION app.cross(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    first integer := 1 + (input ->> 'i')::integer % 2;
BEGIN
    UPDATE app.counters SET n = n + 1 WHERE id = first;
    PERFORM pg_sleep(0.03);
    UPDATE app.counters SET n = n + 1 WHERE id = 3 - first;
    RETURN input;
END $$;
-- Goya's own transactions are READ COMMITTED, so a node meets this in another database only: one that it has reached by dblink, here this one. A row that was read
-- is changed by somebody else before it is changed in the transaction that read it, the first two times.
CREATE EXTENSION dblink;
CREATE SEQUENCE app.tries;
CREATE FUNCTION app.unlucky(input jsonb) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    here text := format('host=%s port=%s dbname=%s user=postgres', current_setting('unix_socket_directories'), current_setting('port'), current_database());
BEGIN
    PERFORM dblink_connect('there', here), dblink_exec('there', 'BEGIN ISOLATION LEVEL REPEATABLE READ');
    PERFORM FROM dblink('there', 'SELECT n FROM app.counters WHERE id = 3') d(n integer);
    IF nextval('app.tries') < 3 THEN
        PERFORM dblink_exec(here, 'UPDATE app.counters SET n = n + 1 WHERE id = 3');
    END IF;
    PERFORM dblink_exec('there', 'UPDATE app.counters SET n = n + 100 WHERE id = 3');
    PERFORM dblink_exec('there', 'COMMIT'), dblink_disconnect('there');
    RETURN input;
END $$;
CREATE FUNCTION app.never(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = '40001'; END $$;
CREATE FUNCTION app.touch(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ UPDATE app.counters SET n = n + 1 WHERE id = 4 RETURNING to_jsonb(n) $$;
CREATE FUNCTION app.large(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT to_jsonb(string_agg(md5(random()::text), '')) FROM generate_series(1, 400) $$;
SQL
my %SQL = (kind => 'sql', input => '{{ input }}');
create_workflow($node, $_, { nodes => [ { key => 'a', %SQL, function => "app.$_" } ] }) foreach qw(cross unlucky never touch large echo);
my $OPEN = 'SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL';

# ---- others in the way ----

ended($node, run_task($node, 'cross', { i => $_ }), 'succeeded', 10, 'a task alone') foreach 1;
$node->sql('UPDATE app.counters SET n = 0');
my $offset = log_size($node);
$node->sql(q{SELECT count(goya.run('cross', jsonb_build_object('i', i))) FROM generate_series(1, 40) i}, role => 'studio');
$node->reached($OPEN, 0, 30, 'tasks that deadlock with each other end');
is($node->sql(q{SELECT count(*) FROM goya.tasks WHERE status <> 'succeeded'}), 0, '... all succeed');
is($node->sql('SELECT string_agg(n::text, $$ $$ ORDER BY id) FROM app.counters WHERE id < 3'), '40 40', '... with their effects once');
cmp_ok(scalar(() = log_since($node, $offset) =~ /deadlock detected/g) + $node->sql(q{SELECT deadlocks FROM pg_stat_database WHERE datname = 'goya'}), '>', 0, '... and there were deadlocks');
ended($node, run_task($node, 'unlucky'), 'succeeded', 10, 'a serialization failure is tried again');
is(scalar(() = log_since($node, $offset) =~ /ERROR:  could not serialize access due to concurrent update/g) . ' ' . $node->sql('SELECT n FROM app.counters WHERE id = 3'), '2 102',
	'... PostgreSQL has said so twice, and the third time it was done');
my $never = run_task($node, 'never');
ended($node, $never, 'failed', 20, 'one that always comes is a failure in the end');
is($node->sql("SELECT error ->> 'class' FROM goya.tasks WHERE id = '$never'"), 'TRANSIENT', '... of class TRANSIENT');

# A lock that others hold longer than lock_timeout, first on what a node changes, then on goya's own rows.
$node->sql(q{ALTER SYSTEM SET lock_timeout = '50ms'; ALTER SYSTEM SET default_transaction_isolation = 'serializable'; SELECT pg_reload_conf() \g /dev/null});
ended($node, run_task($node, 'touch'), 'succeeded', 10, 'with default_transaction_isolation = serializable a task runs');
my $holder = $node->session;
$holder->query_safe('SET lock_timeout = 0; BEGIN; UPDATE app.counters SET n = 0 WHERE id = 4');
my $waits = run_task($node, 'touch');
$node->reached("SELECT count(*) FROM goya_private.ready WHERE task_id = '$waits' AND tries > 1", 1, 10, 'a node that meets lock_timeout is tried again');
$holder->query_safe('COMMIT');
ended($node, $waits, 'succeeded', 10, '... and succeeds when the lock is gone');
$holder->query_safe(q{BEGIN; LOCK goya.node_runs IN EXCLUSIVE MODE});
my @blocked = map { run_task($node, 'touch') } 1 .. 3;
ok(defined until_true(sub { log_since($node, $offset) =~ /batch of goya node runs failed: canceling statement due to lock timeout/ }, 15), 'a lock on goya\'s own table fails batches, and the log says so');
$holder->query_safe('COMMIT');
$node->reached("SELECT status FROM goya.tasks WHERE id = '$_'", 'succeeded', 20, '... but no task') foreach @blocked;
my %told;
$told{$_}++ foreach log_since($node, $offset) =~ /\[(\d+)\] [^\n]*batch of goya node runs failed/g;
cmp_ok($_, '<=', 1, '... once a minute') foreach (sort { $b <=> $a } values %told)[0];
$holder->quit;
$node->sql('ALTER SYSTEM RESET lock_timeout; ALTER SYSTEM RESET default_transaction_isolation; SELECT pg_reload_conf() \g /dev/null');
is_sound($node);

# ---- settings ----

foreach my $setting ('max_executors = 0', 'max_executors = 65', 'max_executors = many', 'batch_size = -1', 'batch_time = 0', 'poll_interval = 0', "executor_idle_timeout = '0s'",
	'max_transfers = 0', 'max_slow_nodes = 0', "http_timeout = '-1s'", 'http_max_response = 0', 'max_depth = 1000', 'listen = perhaps', 'no_such = 1', 'max_databases = 0')
{
	my ($done, undef, $err) = $node->try_sql("ALTER SYSTEM SET goya.$setting");

	like($err, qr/ERROR:  (22023|42602|42704|55P02): .*"goya\.\w+"/, "goya.$setting is refused");
}
# Allowed, and of no use to anybody.
$node->sql(join ';', (map { "ALTER SYSTEM SET goya.$_" } 'max_executors = 1', 'max_slow_nodes = 1', 'batch_size = 1', 'batch_time = 1', 'executor_idle_timeout = 1', 'poll_interval = 3600',
	'wake_by_latch = off', q{listen_conninfo = 'nonsense=1 ='}), 'ALTER DATABASE goya SET default_transaction_read_only = on', 'SELECT pg_reload_conf()');
$node->sql(q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type IN ('goya engine', 'goya executor')});
$offset = log_size($node);
my $odd = $node->sql(q{SET default_transaction_read_only = off; SET goya.wake_by_latch = on; SET ROLE studio; SELECT goya.run('echo', '{}')});
$node->reached("SELECT status FROM goya.tasks WHERE id = '$odd'", 'succeeded', 20, 'with the oddest values of all a task runs');
like($node->sql(q{SET default_transaction_read_only = off; SELECT status || ' ' || detail FROM goya.health() WHERE component = 'listener'}), qr/^warning/, '... and goya.health() tells of a connection string that is none');
$node->sql(q{SET default_transaction_read_only = off; ALTER DATABASE goya RESET default_transaction_read_only}); 
$node->sql("ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()");
$node->stop;
foreach my $preload ('goya,goya', 'goya,pg_cron', 'pg_cron', 'pg_cron,goya')
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\n");
	$offset = log_size($node);
	$node->start;
	if ($preload =~ /goya/)
	{
		ended($node, run_task($node, 'echo'), 'succeeded', 20, "preloaded as $preload: a task runs");
		is(scalar(worker_pid($node, 'engine')) . scalar(worker_pid($node, 'launcher')), '11', '... one launcher, one engine');
	}
	else
	{
		$node->refused(q{SELECT goya.run('echo', '{}')}, '55000', "preloaded as $preload: a task is refused", role => 'studio');
		like($node->sql(q{SELECT component || ' ' || status FROM goya.health() LIMIT 1}), qr/preload error/, '... and goya.health() says why');
	}
	unlike(log_since($node, $offset), qr/PANIC|FATAL:  (?!the database)|terminated by signal/, '... without a word of alarm in the log');
	$node->stop;
}

# In postgresql.conf nobody refuses them: each is a line in the log, the default counts, and the server starts as if it were not there.
my %bad = (max_executors => 65, poll_interval => 0, batch_time => q{'soon'}, listen => 'perhaps', http_max_response => -1, no_such => 1);
$node->append_conf('postgresql.conf', "include_if_exists = 'bad.conf'\n");
$node->append_conf('bad.conf', join '', map { "goya.$_ = $bad{$_}\n" } sort keys %bad);
$offset = log_size($node);
$node->start;
my @untold = grep { log_since($node, $offset) !~ /(?:LOG|WARNING):  [^\n]*"goya\.$_"/ } sort keys %bad;
is("@untold", '', 'started with values that are none: the log names each');
is($node->sql(q{SELECT count(*) FROM pg_settings WHERE name IN ('goya.poll_interval', 'goya.batch_time', 'goya.http_max_response', 'goya.listen') AND setting = boot_val}), 4, '... the defaults count');
ended($node, run_task($node, 'echo'), 'succeeded', 20, '... a task runs');
unlike(log_since($node, $offset), qr/PANIC|FATAL:  (?!the database)|terminated by signal/, '... without a word of alarm');
$node->stop;
unlink $node->data_dir . '/bad.conf';

# ---- no worker slots ----

# The launchers of logical replication, pg_cron and goya, and one engine: none is left for an executor.
$node->append_conf('postgresql.conf', "max_worker_processes = 4\ncron.use_background_workers = off\ngoya.poll_interval = '1s'\n");
$offset = log_size($node);
$node->start;
my $slotless = run_task($node, 'echo');
ok(defined until_true(sub { log_since($node, $offset) =~ /no background worker slot for a goya executor/ }, 20), 'without a slot for an executor there is a line in the log');
is($node->sql(q{SELECT status FROM goya.health() WHERE component = 'executors'}), 'warning', '... and goya.health() says it');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION goya');
ok(defined until_true(sub { log_since($node, $offset) =~ /no background worker slot for a goya engine/ }, 20), 'nor for a second engine');
$node->stop;
$node->append_conf('postgresql.conf', "max_worker_processes = 5\n");
$offset = log_size($node);
$node->start;
# Two engines have all slots; when one is gone, an executor has its place.
ok(defined until_true(sub { worker_pid($node, 'engine', 'other') && worker_pid($node, 'engine') }, 20), 'two engines take all there is');
$node->reached("SELECT status FROM goya.tasks WHERE id = '$slotless'", 'pending', 1, 'the task still waits');
my $start = time;
$node->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');
$node->reached("SELECT status FROM goya.tasks WHERE id = '$slotless'", 'succeeded', 10, 'a slot that is given back is used unaided');
cmp_ok(scalar(() = log_since($node, $offset) =~ /no background worker slot/g), '<=', 1, '... and the log has one line of it');

# ---- no processes ----

$node->append_conf('postgresql.conf', "max_worker_processes = 16\ngoya.executor_idle_timeout = '1s'\n");
$node->restart;
my $session = $node->session;
ended($node, run_task($node, 'echo'), 'succeeded', 20, 'a task, before');
my $postmaster = (split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid'))[0];
ok(defined until_true(sub { !worker_pid($node, 'executor') }, 15), 'the executor has left');
SKIP:
{
	skip 'a superuser of the system is not limited', 5 if $> == 0;
	system('prlimit', "--pid=$postmaster", '--nproc=1:') == 0 or BAIL_OUT('prlimit');
	$offset = log_size($node);
	$session->query_safe('SET ROLE studio');
	my ($late) = $session->query_safe(q{SELECT goya.run('echo', '{}')});
	ok(defined until_true(sub { log_since($node, $offset) =~ /could not fork/ }, 15), 'no process can be made');
	my $seconds = 6;
	my $until = time + $seconds;
	until_true(sub { time > $until }, 20);
	my $lines = () = log_since($node, $offset) =~ /could not fork (?:worker|background)/g;
	cmp_ok($lines, '<=', 4, "... it is tried more and more rarely ($lines times in $seconds s)");
	system('prlimit', "--pid=$postmaster", '--nproc=unlimited:') == 0 or system('prlimit', "--pid=$postmaster", '--nproc=10000:') == 0 or BAIL_OUT('prlimit');
	$start = time;
	ok(defined until_true(sub { worker_pid($node, 'executor') }, 60), 'when it can, an executor starts by itself');
	is($session->query_safe("SELECT status FROM goya.wait_for_task('$late', '10 s')"), 'succeeded', '... and the task runs');
	is(() = log_since($node, $offset) =~ /terminated by signal/g, 0, '... and the server has been up all the time');
}
$session->quit;
is_sound($node);
$node->stop;

# ---- a full disk ----

my $data = $node->data_dir;
my $uid = $>;
my ($out, $in);
sub inside
{
	my ($command) = @_;
	my $said = '';

	print {$in} "{ $command ; } </dev/null 2>&1; echo \"=END= \$?\"\n";
	while (my $line = <$out>)
	{
		return ($1, $said) if $line =~ /^=END= (\d+)/;
		$said .= $line;
	}
	return (-1, $said);
}

SKIP:
{
	my $may = `unshare -Urm sh -c 'mount -t tmpfs tmpfs $data/base && unshare -U --map-user=4242 id -u' 2>&1`;
	skip "this system does not let us mount in a namespace of our own: $may", 12 if $may !~ /^4242$/m;

	IPC::Open2::open2($out, $in, 'unshare', '-Urm', 'sh');
	$in->autoflush(1);
	my ($status, $said) = inside("mv $data/base $data/base.disk && mkdir $data/base && chmod 700 $data/base"
		. " && mount -t tmpfs -o mode=700,size=\$((\$(du -sm $data/base.disk | cut -f1) + 12))m tmpfs $data/base && cp -a $data/base.disk/. $data/base/");
	is($status, 0, 'the databases are on a small disk') or diag($said);
	my $log = $node->logfile;
	($status, $said) = inside("unshare -U --map-user=$uid pg_ctl -w -D $data -l $log start");
	is($status, 0, 'the server starts there') or diag($said);
	$node->_update_pid(1);
	$offset = log_size($node);
	ended($node, run_task($node, 'large'), 'succeeded', 20, 'a task, while there is room');
	# Started while there is room, due when there is none. That a client is told of a full disk is right.
	my $begun = $node->sql(q{SELECT count(goya.run('large', '{}', run_at => clock_timestamp() + interval '5 s')) FROM generate_series(1, 300)}, role => 'studio');
	inside("dd if=/dev/zero of=$data/base/filler bs=1M; dd if=/dev/zero of=$data/base/filler2 bs=8k");
	my (undef, undef, $err) = $node->try_sql(q{SELECT count(goya.run('large', '{}')) FROM generate_series(1, 1000)}, role => 'studio');
	like($err, qr/ERROR:  53100/, 'a client that starts a thousand more is told that the disk is full');
	ok(defined until_true(sub { log_since($node, $offset) =~ /failed: could not (extend|write|create).*No space left/ }, 30), 'goya says in the log that it has no room');
	my $open = $node->sql($OPEN);
	cmp_ok($open, '>', 0, "$open tasks wait");
	is($node->sql(q{SELECT count(*) FROM goya.tasks WHERE status = 'failed' AND error ->> 'code' = '53100'}), 0, '... none has failed of it');
	inside("rm -f $data/base/filler $data/base/filler2; mount -o remount,size=300m $data/base");
	my $resumed = $node->wait_until("SELECT count(*) < $open FROM goya.tasks WHERE finished_at IS NULL", 't', 10);
	ok(defined $resumed, sprintf 'with room again they go on (%.1f s)', $resumed // 99);
	$node->reached($OPEN, 0, 30, '... and all end');
	is($node->sql(q{SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'large' AND t.status = 'succeeded'}), $begun + 1, '... well');
	cmp_ok(scalar(() = log_since($node, $offset) =~ /a batch of goya node runs failed/g), '<=', 3, 'few lines in the log');
	is_sound($node, 'goya.check() is empty');

	# pg_wal on a full disk is PostgreSQL's own end: it stops, and goya goes on after the start.
	$node->stop;
	($status, $said) = inside("mv $data/pg_wal $data/wal.disk && mkdir $data/pg_wal && chmod 700 $data/pg_wal"
		. " && mount -t tmpfs -o mode=700,size=\$((\$(du -sm $data/wal.disk | cut -f1) + 20))m tmpfs $data/pg_wal && cp -a $data/wal.disk/. $data/pg_wal/"
		. " && unshare -U --map-user=$uid pg_ctl -w -D $data -l $log start");
	is($status, 0, 'the log of changes is on a small disk, too') or diag($said);
	$node->_update_pid(1);
	ended($node, run_task($node, 'large'), 'succeeded', 20, 'a task runs');
	inside("dd if=/dev/zero of=$data/pg_wal/filler bs=1M");
	$offset = log_size($node);
	foreach my $round (1 .. 60)
	{
		my ($done) = $node->try_sql(q{SET ROLE studio; SELECT count(goya.run('echo', '{}')) FROM generate_series(1, 20); RESET ROLE; SELECT pg_switch_wal()});
		last if !$done;
	}
	ok(defined until_true(sub { log_since($node, $offset) =~ /PANIC:.*No space left/ }, 20), 'without room for it PostgreSQL stops with PANIC');
	until_true(sub { !-e "$data/postmaster.pid" }, 10);
	inside("rm -f $data/pg_wal/filler; mount -o remount,size=400m $data/pg_wal; pg_ctl -D $data -m immediate stop");
	($status, $said) = inside("unshare -U --map-user=$uid pg_ctl -w -D $data -l $log start");
	is($status, 0, 'with room again it starts') or diag($said);
	$node->_update_pid(1);
	$node->reached($OPEN, 0, 30, '... and all tasks end');
	is($node->sql(q{SELECT count(*) FROM goya.tasks WHERE status <> 'succeeded' AND id <> '} . $never . q{'}), 0, '... well');
	is_sound($node, 'goya.check() is empty after that');
	$node->stop;
	close $in;
}
done_testing();
