# 006_standby.pl: on a streaming standby nothing of goya runs and its tables can be read; after promotion tasks run within 5 s.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;
use Time::HiRes 'time';

my $primary = GoyaNode->start(name => 'primary', conf => $GoyaWork::CONF, streaming => 1);
create_studio($primary);
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
is($standby->sql('SELECT count(*) FROM goya.health()') > 0, 1, 'goya.health() answers there');

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
cmp_ok(time - $promoted, '<', 5, sprintf 'within 5 s (%.2f s)', time - $promoted);
$standby->sql("SELECT goya.signal('$open', 'go') \\g /dev/null");
ended($standby, $open, 'succeeded', 10, 'what waited on the primary goes on here');
is($standby->sql('SELECT count(*), count(DISTINCT task) FROM app.effects'), '5|5', 'every effect is there once');
is_sound($standby);
$standby->stop('fast');
done_testing();
