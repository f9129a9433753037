# 029_drop_under_load.pl: the extension and its database can be dropped, created again, renamed and copied while clients submit and executors work.
#
# Decided: the load is psql sessions that never stop: some call goya.run, some read and run in one transaction, so that they hold locks while they wait for
# others; a slow SQL node and a silent HTTP call run too. Clients may fail in the ways listed below and in no other. What is timed is the statement.
# Must hold: every command in 5 s, no worker of the old extension, no line in the log that is not expected, and what comes after works unaided.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use IPC::Run ();
use List::Util qw(sum);
use Test::More;
use Time::HiRes 'time';

my $node = GoyaNode->start(name => 'drop', conf => $GoyaWork::CONF . "autovacuum_naptime = 1s\n");
my $http = http_server();
my $effect = { task => '{{ task.id }}', node => 'e' };

sub create_workflows
{
	create_workflow($node, 'plain', { nodes => [ { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ] });
	create_workflow($node, 'slow', { nodes => [ { key => 's', kind => 'sql', function => 'app.slow', input => { seconds => 60 } } ] });
	create_workflow($node, 'waits', { nodes => [ { key => 'w', kind => 'wait', signal => 'go' }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ],
		edges => [ { from => 'w', to => 'e' } ] });
	create_workflow($node, 'hang', { nodes => [ { key => 'h', kind => 'http', url => "$http/hang" } ] });
	return;
}

# ---- the load ----
my @clients;
my @LOAD = (
	[ q{SELECT goya.run('plain');} ],
	[ q{SELECT count(goya.run('plain')) FROM generate_series(1, 50);}, q{SELECT pg_sleep(0.02);} ],
	# They hold a lock on one table and then want another's, in both orders.
	[ 'BEGIN;', 'SELECT count(*) FROM goya.node_runs WHERE task_id = goya.new_id();', q{SELECT goya.run('plain');}, 'SELECT count(*) FROM goya.artifacts;', 'COMMIT;' ],
	[ 'BEGIN;', q{SELECT goya.run('plain');}, 'SELECT count(*) FROM goya.workflows;', 'SELECT pg_sleep(0.005);', 'SELECT count(*) FROM goya.approvals;', 'COMMIT;' ]);

# start_load(): each client says the same for ever, whatever the answer is. It ends when its session is terminated.
sub start_load
{
	my $n = 0;

	foreach my $statements (@LOAD)
	{
		my $file = sprintf '%s/client.%d', $node->basedir, $n++;
		my $statement = join "\n", @$statements;

		push @clients, { file => $file, run => IPC::Run::start([ 'sh', '-c', 'yes "$1" | PGAPPNAME=load exec psql -XAtq -v VERBOSITY=verbose -h "$2" -p "$3" -U studio "$4" >/dev/null 2>"$5"',
			'sh', $statement, $node->host, $node->port, $GoyaNode::DATABASE, $file ], '<', \undef) };
	}
	return;
}

# stop_load(): terminates the sessions; says what they were refused with, as a list of SQLSTATEs with how often.
sub stop_load
{
	my %seen;

	$node->safe_psql('postgres', q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'load'});
	foreach my $client (@clients)
	{
		$client->{run}->finish;
		open my $file, '<', $client->{file} or die $!;
		while (<$file>) { $seen{$1}{$2}++ if /(?:ERROR|FATAL|PANIC):\s+(\w{5}): (.*)/; }
	}
	@clients = ();
	return \%seen;
}

# Errors a client may see while the extension goes and comes: what it names is not there (schema, relation, function, workflow, an object dropped while a
# statement waited for it), cancelled or a deadlock because of the command, the rest of a transaction that failed, its own termination.
my $EXPECTED = qr/^(?:3F000|42P01|42883|PT404|XX000|57014|40P01|25P02|57P01)$/;

sub unexpected
{
	my ($seen) = @_;
	my @list;

	foreach my $code (sort keys %$seen)
	{
		foreach my $text (sort keys %{ $seen->{$code} })
		{
			next if $code =~ $EXPECTED && ($code ne 'XX000' || $text =~ /cache lookup failed|could not open relation with OID/);
			push @list, "$code: $text";
		}
	}
	return @list;
}

# What the log says, without what clients were told and what belongs to a worker that is sent away.
sub strange_lines
{
	my ($offset) = @_;

	return grep { /(?:LOG|WARNING|ERROR|FATAL|PANIC):/ && !/\@\S* (?:load|029_drop\S*) / && !/studio\@/ }
	  grep { !/administrator command|canceling autovacuum task|took too long to start|exited with exit code 1|checkpoint|autovacuum worker LOG:  skipping|received fast shutdown|parameter ".*" changed|received SIGHUP/ }
	  split /\n/, log_since($node, $offset);
}

sub workers { return $node->safe_psql('postgres', qq{SELECT string_agg(pid || '', ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type LIKE 'goya%' AND datname = '$GoyaNode::DATABASE'}); }

# ---- DROP EXTENSION and CREATE EXTENSION, five times ----
create_studio($node);
create_workflows();
my $offset = log_size($node);
start_load();
foreach my $round (1 .. 5)
{
	run_task($node, $_) foreach qw(slow hang);
	$node->reached(q{SELECT count(*) FROM goya_private.activity() WHERE node = 's'}, 1, 20, "round $round: a slow function runs");
	$node->reached(q{SELECT count(*) > 500 FROM goya.tasks WHERE status = 'succeeded'}, 't', 20, "round $round: and many tasks");
	my @old = split / /, workers();
	my ($done, $out, $error) = $node->try_sql("\\timing on\nDROP EXTENSION goya;\nCREATE EXTENSION goya;");
	my ($dropped, $created) = $out =~ /^Time: ([\d.]+) ms/mg;
	ok($done, "round $round: DROP EXTENSION and CREATE EXTENSION at once under load") or diag($error);
	cmp_ok($dropped // 1e9, '<', 5000, sprintf 'round %d: dropped in less than 5 s (%d ms; created in %d ms)', $round, $dropped // -1, $created // -1);
	ok(defined until_true(sub { !grep { kill 0, $_ } @old }, 5), "round $round: no worker of the old extension is left");
	is($node->sql('SELECT count(*) FROM goya.tasks'), 0, "round $round: the new one has no task");
	$node->reached(q{SELECT state FROM goya_private.activity() WHERE process = 'engine'}, 'running', 10, "round $round: it has an engine");
	$node->sql('GRANT goya_user TO studio');
	create_workflows();
	ended($node, run_task($node, 'plain'), 'succeeded', 10, "round $round: a task runs");
}
# In a transaction that changes its mind.
$node->reached(q{SELECT count(*) > 500 FROM goya.tasks WHERE status = 'succeeded'}, 't', 20, 'the load goes on');
my $began = time;
$node->sql('BEGIN; DROP EXTENSION goya; ROLLBACK');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'load'}), scalar @LOAD, 'no client has lost its session');
my $seen = stop_load();
is(join("\n", unexpected($seen)), '', 'clients saw only what is expected');
note(join "\n", map { my $code = $_; map { "$code: $seen->{$code}{$_} x $_" } sort keys %{ $seen->{$code} } } sort keys %$seen);
$node->reached('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 0, 60, 'after a DROP EXTENSION that was rolled back all tasks end');
is_sound($node);
is(join("\n", strange_lines($offset)), '', 'the log has no unexpected line');
cmp_ok(sum(0, map { values %{ $seen->{$_} // {} } } qw(57014 40P01)), '>', 0, 'of those that held the command up, their statement was cancelled');

# ---- ALTER EXTENSION ----
$node->refused('ALTER EXTENSION goya SET SCHEMA public', '0A000', 'goya keeps its schema');
$node->sql('ALTER EXTENSION goya UPDATE');
ended($node, run_task($node, 'plain'), 'succeeded', 10, 'after an update to the same version a task runs');

# ---- the database, with work under way ----
# command(STATEMENT, NAME, CODE): while tasks of the database are under way; CODE says how the same looks afterwards.
my $database = 'goya_two';
$node->safe_psql('postgres', "CREATE DATABASE $database");
{
	local $GoyaNode::DATABASE = $database;

	$node->sql('CREATE EXTENSION goya');
	create_studio($node);
	create_workflows();
}

# Work for longer than the command takes, and nobody connected.
sub give_work
{
	local $GoyaNode::DATABASE = $_[0];

	$node->sql(q{SELECT count(goya.run('plain')), count(goya.run('waits')) FROM generate_series(1, 5000)}, role => 'studio');
	run_task($node, $_) foreach qw(slow hang);
	$node->reached(q{SELECT count(*) FROM goya_private.activity() WHERE node = 's'}, 1, 20, "$_[0]: a slow function runs");
	return;
}

sub timed
{
	my ($statement) = @_;
	my $began = time;
	my ($out, $error);

	$node->psql('postgres', $statement, stdout => \$out, stderr => \$error);
	is($error, '', $statement);
	return cmp_ok(time - $began, '<', 5, sprintf '%s in less than 5 s (%.2f s)', $statement, time - $began);
}

# What is left of the work ends, but for the two that never do.
sub goes_on
{
	local $GoyaNode::DATABASE = $_[0];

	$node->sql(q{SELECT count(goya.signal(t.id, 'go')) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'waits' AND t.finished_at IS NULL \g /dev/null});
	$node->reached('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 2, 60, "$_[0]: all tasks end");
	$node->sql(q{SELECT count(goya.cancel(id)) FROM goya.tasks WHERE finished_at IS NULL \g /dev/null});
	$node->reached('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 0, 10, "$_[0]: or are cancelled");
	is($node->sql('SELECT count(*), count(DISTINCT task) FROM app.effects'), $_[1], "$_[0]: every effect is there once");
	is_sound($node, "$_[0]: goya.check() is empty");
	return;
}

give_work($database);
timed("ALTER DATABASE $database RENAME TO goya_three");
$database = 'goya_three';
goes_on($database, '10000|10000');
give_work($database);
timed("CREATE DATABASE goya_copy TEMPLATE $database");
goes_on($database, '20000|20000');
{
	local $GoyaNode::DATABASE = 'goya_copy';

	$node->reached(q{SELECT state FROM goya.activity WHERE process = 'engine'}, 'paused', 20, 'the copy comes up paused');
	like($node->sql(q{SELECT detail FROM goya.activity WHERE process = 'engine'}), qr/adopt_copy/, 'and says what to do');
	my $open = $node->sql('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL');
	cmp_ok($open, '>=', 5000, "it has $open open tasks");
	is($node->sql('SELECT goya.adopt_copy()'), 1, 'goya.adopt_copy() lets it run');
	goes_on('goya_copy', '20000|20000');
}
give_work('goya_copy');
timed('DROP DATABASE goya_copy');

# With clients that are connected and do not stop.
give_work($database);
{
	local $GoyaNode::DATABASE = $database;

	start_load();
	$node->reached(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'load'}, 4, 20, 'clients are connected');
	$node->reached('SELECT count(*) > 30500 FROM goya.tasks', 't', 20, 'and submit');
}
$began = time;
my (undef, undef, $refused) = $node->psql('postgres', "ALTER DATABASE $database RENAME TO goya_four");
like($refused, qr/is being accessed by other users/, 'with clients it is not renamed');
cmp_ok(time - $began, '<', 8, sprintf 'said after the 5 s that PostgreSQL waits for them (%.2f s)', time - $began);
{
	local $GoyaNode::DATABASE = $database;

	my $count = $node->sql('SELECT count(*) FROM app.effects');
	$node->reached("SELECT count(*) > $count FROM app.effects", 't', 5, 'and works on at once');
}
timed("DROP DATABASE $database WITH (FORCE)");
$seen = stop_load();
is(join("\n", unexpected($seen)), '', 'clients saw only their end');
ok(defined until_true(sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'goya%' AND datname <> 'goya'}) == 0 }, 10), 'no worker of a dropped database is left');

# A database made right after one was dropped does not inherit that goya was to keep off it.
$node->safe_psql('postgres', 'CREATE DATABASE goya_next');
{
	local $GoyaNode::DATABASE = 'goya_next';

	$node->sql('CREATE EXTENSION goya');
	$node->reached(q{SELECT state FROM goya.activity WHERE process = 'engine'}, 'running', 5, 'a new database has an engine at once');
}
timed('DROP DATABASE goya_next');
unlike(log_since($node, 0), qr/PANIC|TRAP|was terminated by signal/, 'nothing crashed');
$node->stop('fast');
done_testing();
