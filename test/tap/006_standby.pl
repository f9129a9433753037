# 006_standby.pl: on a streaming standby nothing of goya runs and its tables can be read; after promotion tasks run within 5 s, also when the primary
# died under load: with synchronous replication no task that a client was told of is lost, and no effect is there twice.
#
# Decided: what clients were told is in files that they write themselves. What an outside service saw is in its own log: a call in flight when the primary
# died is made again with the same key. Five seconds are for a machine that has time: ten times what a plain backend's start takes is allowed on
# top. The old primary stays away: it is for pg_rewind, as with any PostgreSQL.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaStorm qw(start_time);
use GoyaWork;
use IPC::Run ();
use Test::More;
use Time::HiRes 'time';

my $primary = GoyaNode->start(name => 'primary', conf => $GoyaWork::CONF, streaming => 1);
create_studio($primary);
$primary->sql(q{SELECT goya.top_up(5000000000, 'start', 'default') \g /dev/null});
create_workflow($primary, 'plain', { nodes => [ { key => 'e', kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'e' } } ] });
create_workflow($primary, 'waits', { nodes => [ { key => 'w', kind => 'wait', signal => 'go' }, { key => 'e', kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'e' } } ],
	edges => [ { from => 'w', to => 'e' } ] });
ended($primary, run_task($primary, 'plain'), 'succeeded', 10, 'a task on the primary');
my $waiting = run_task($primary, 'waits');
$primary->reached("SELECT status FROM goya.tasks WHERE id = '$waiting'", 'waiting', 10, 'and one that waits');

$primary->backup('copy');
my $standby = GoyaNode->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->append_conf('postgresql.conf', sprintf "unix_socket_directories = '%s'\nport = %s\n", $standby->host, $standby->port);
PostgreSQL::Test::Cluster::start($standby);
my $later = run_task($primary, 'plain');
ended($primary, $later, 'succeeded', 10, 'one more on the primary');
$primary->wait_for_catchup($standby);

# ---- it reads, and runs nothing ----
is($standby->sql('SELECT pg_is_in_recovery()'), 't', 'the standby is one');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'goya%'}), 0, 'no process of goya on the standby');
is($standby->sql("SELECT status FROM goya.tasks WHERE id = '$later'", role => 'studio'), 'succeeded', 'tasks can be read');
is($standby->sql("SELECT count(*) FROM goya.node_runs WHERE task_id = '$later'", role => 'studio'), 1, 'so can node runs');
is($standby->sql("SELECT string_agg(type, ' ' ORDER BY seq) FROM goya.task_events WHERE task_id = '$later'", role => 'studio'), 'task_created task_started node_succeeded task_succeeded', 'and events');
like($standby->sql("SELECT goya.timeline('$later')", role => 'studio'), qr/\be\b/, 'goya.timeline draws there');
like($standby->sql("SELECT goya.graph('plain', 'mermaid')", role => 'studio'), qr/graph|flowchart/, 'goya.graph too');
is($standby->sql('SELECT goya.current_tenant() IS NOT NULL', role => 'studio'), 't', 'the tenant is known');
is_sound($standby, 'goya.check() can be asked there, and is empty');
$standby->refused(q{SELECT goya.run('plain')}, '25006', 'goya.run is refused on a standby', role => 'studio');
my (undef, undef, $refused) = $standby->try_sql(q{SELECT goya.run('plain')}, role => 'studio');
like($refused, qr/on a standby.*HINT:.*primary/s, 'and says where to go');
$standby->refused("SELECT goya.cancel('$waiting')", '25006', 'so is goya.cancel', role => 'studio');
$standby->refused("SELECT goya.signal('$waiting', 'go')", '25006', 'and goya.signal', role => 'studio');
like($standby->sql('SELECT component, status, detail FROM goya.health()'), qr/^standby\|ok\|.*standby/m, 'goya.health() says that it is a standby');
is($standby->sql(q{SELECT string_agg(component || ': ' || detail, E'\n') FROM goya.health() WHERE status = 'error'}), '', 'and sees no error');
like($standby->sql("SELECT string_agg(finding, ' ') FROM goya.diagnose('$waiting')", role => 'studio'), qr/waiting for a signal/, 'goya.diagnose explains there');
is($standby->sql('SELECT balance, topped_up FROM goya.wallet_summary', role => 'studio'), '5000000000|5000000000', 'goya.wallet_summary answers there');

# ---- promoted ----
$primary->sql("SELECT goya.signal('$waiting', 'go') \\g /dev/null");
ended($primary, $waiting, 'succeeded', 10, 'the waiting task goes on, on the primary');
my $open = run_task($primary, 'waits');
$primary->reached("SELECT status FROM goya.tasks WHERE id = '$open'", 'waiting', 10, 'another waits');
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
my $began = time;
$standby->promote;
$standby->reached('SELECT pg_is_in_recovery()', 'f', 20, 'the standby is promoted');
my $promoted = time;
ended($standby, run_task($standby, 'plain'), 'succeeded', 10, 'after promotion a task runs');
my $seconds = time - $promoted;
cmp_ok($seconds, '<', 5 + 10 * start_time($standby), sprintf 'within 5 s (%.2f s)', $seconds);
$standby->sql("SELECT goya.signal('$open', 'go') \\g /dev/null");
ended($standby, $open, 'succeeded', 10, 'what waited on the primary goes on here');
is($standby->sql('SELECT count(*), count(DISTINCT task) FROM app.effects'), '5|5', 'every effect is there once');
is_sound($standby);

# ---- the promoted one dies under load; its synchronous standby takes over ----
my $http = http_server();
my $second = $standby;
$second->backup('copy');
my $third = GoyaNode->new('third');
$third->init_from_backup($second, 'copy', has_streaming => 1);
$third->append_conf('postgresql.conf', sprintf "unix_socket_directories = '%s'\nport = %s\n", $third->host, $third->port);
PostgreSQL::Test::Cluster::start($third);
$second->sql(q{ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf() \g /dev/null});
ok(defined until_true(sub { $second->sql(q{SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'}) eq '1' }, 20), 'a second standby is synchronous');

my $effect = { task => '{{ task.id }}', node => 'e' };
create_workflow($second, 'naps', { nodes => [ { key => 's', kind => 'sleep', duration => 0.5 }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ], edges => [ { from => 's', to => 'e' } ] });
create_workflow($second, 'calls', { nodes => [ { key => 'h', kind => 'http', url => "$http/delay?ms=300" }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ], edges => [ { from => 'h', to => 'e' } ] });
create_workflow($second, 'fan', { nodes => [ { key => 'm', kind => 'map', over => '{{ input.items }}', node => { kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'm', item => '{{ item }}' } } } ], edges => [] });
$second->sql('TRUNCATE app.effects');
my @clients;
foreach my $workflow (qw(plain naps calls fan))
{
	my $file = $second->basedir . "/told.$workflow";
	my $statement = sprintf q{SELECT goya.run('%s', '{"items": [1, 2, 3]}');}, $workflow;

	push @clients, { name => $workflow, file => $file, run => IPC::Run::start([ 'sh', '-c', 'yes "$1" | exec psql -XAtq -h "$2" -p "$3" -U studio goya >"$4" 2>/dev/null', 'sh', $statement,
		$second->host, $second->port, $file ], '<', \undef, '2>', \my $ignored) };
}
$second->reached(q{SELECT count(*) > 300 AND bool_or(status = 'succeeded') FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'calls'}, 't', 60, 'clients submit, calls are made');
$second->crash;
$_->{run}->finish foreach @clients;
$began = time;
$third->promote;
$third->reached('SELECT pg_is_in_recovery()', 'f', 20, 'the standby is promoted');
$promoted = time;
ended($third, run_task($third, 'plain', {}, 'priority => 100'), 'succeeded', 10, 'a task runs there');
$seconds = time - $promoted;
cmp_ok($seconds, '<', 5 + 10 * start_time($third), sprintf 'within 5 s (%.2f s), beside what the dead primary left', $seconds);
$third->reached('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL', 0, 120, 'every task that was under way ends');
my $told = 0;
foreach my $client (@clients)
{
	open my $file, '<', $client->{file} or die $!;
	my @ids = grep { /^[0-9a-f-]{36}$/ } map { s/\s+$//r } <$file>;		# the last line may be cut
	$told += @ids;
	cmp_ok(scalar @ids, '>', 20, "the client of $client->{name} was told of " . @ids . ' tasks');
	is($third->sql('SELECT count(*) FROM goya.tasks WHERE id IN (' . join(',', map { "'$_'" } @ids) . q{) AND status = 'succeeded'}), scalar @ids, 'none of them is lost');
}
is($third->sql(q{SELECT count(*) FROM (SELECT task, node, item FROM app.effects GROUP BY 1, 2, 3 HAVING count(*) > 1) x}), 0, 'no effect is there twice');
is($third->sql(q{SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id
	WHERE t.status = 'succeeded' AND t.created_at > (SELECT min(at) - interval '1 min' FROM app.effects) AND w.name IN ('naps', 'calls', 'fan')
	AND (SELECT count(*) FROM app.effects e WHERE e.task = t.id) <> CASE w.name WHEN 'fan' THEN 3 ELSE 1 END}), 0, 'and none is missing');
my %calls;
$calls{ $_->{idempotency_key} // '' }++ foreach grep { $_->{path} =~ m{^/delay} } http_log($http);
my @more = grep { $_ > 1 } values %calls;
is(scalar(grep { $_ > 2 } values %calls), 0, sprintf 'a call was made twice at most, with the same key: %d of %d', scalar @more, scalar keys %calls);
is($third->sql(q{SELECT count(*) FROM goya.node_runs WHERE node = 'h' AND status = 'succeeded'}) <= keys %calls, 1, 'no call is recorded that was not made');
is_sound($third, 'goya.check() is empty there');
$third->stop('fast');
done_testing();
