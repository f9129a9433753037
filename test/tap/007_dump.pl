# 007_dump.pl: pg_dump and pg_restore into another database keep every row, and the copy comes up paused until goya.adopt_copy().
#
# Decided: every table of schemas goya and goya_private is compared by a hash of its rows; only goya_private.engine may have one row more (the copy's own).
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use IPC::Run ();
use PostgreSQL::Test::Utils ();
use Test::More;

my $node = GoyaNode->start(name => 'dump', conf => $GoyaWork::CONF);
my $http = http_server();
create_studio($node);
$node->sql(q{SELECT goya.top_up(1000000000, 'start', 'default') \g /dev/null
SELECT goya.set_price('step', 1000000) \g /dev/null
SELECT goya.create_tenant('others') \g /dev/null});
my $effect = { task => '{{ task.id }}', node => 'e' };
create_workflow($node, 'plain', { nodes => [ { key => 'e', kind => 'sql', function => 'app.effect', input => $effect, price => 'step' } ] });
create_workflow($node, 'waits', { nodes => [ { key => 'w', kind => 'wait', signal => 'go' }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ], edges => [ { from => 'w', to => 'e' } ] });
create_workflow($node, 'naps', { nodes => [ { key => 's', kind => 'sleep', duration => 2 }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ], edges => [ { from => 's', to => 'e' } ] });
create_workflow($node, 'calls', { nodes => [ { key => 'h', kind => 'http', url => "$http/hang" } ] });
$node->sql(q{SELECT goya.create_trigger(workflow => 'plain', name => 'often', kind => 'interval', every => interval '1 h') \g /dev/null
SELECT count(goya.run('plain')) FROM generate_series(1, 20) \g /dev/null}, role => 'studio');
$node->reached(q{SELECT count(*) FROM goya.tasks WHERE status = 'succeeded'}, 20, 10, '20 tasks have ended');
my %open;
$open{$_} = run_task($node, $_) foreach qw(waits naps calls);
$node->reached(q{SELECT count(*) FROM goya.node_runs WHERE status IN ('waiting', 'running')}, 3, 10, 'one waits, one sleeps, one calls');
$open{due} = run_task($node, 'plain', {}, q{run_at => now() + interval '5 s'});

my $HASHES = <<'SQL';
DO $$
DECLARE
    t record;
    h text;
BEGIN
    CREATE TEMP TABLE hashes (name text, n bigint, h text);
    FOR t IN SELECT c.oid::regclass AS name FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace, 'app'::regnamespace) LOOP
        EXECUTE format('INSERT INTO hashes SELECT %L, count(*), md5(coalesce(string_agg(x::text, %L ORDER BY x::text), %L)) FROM %s x', t.name, E'\n', '', t.name);
    END LOOP;
END $$;
SELECT name, n, h FROM hashes WHERE name <> 'goya_private.engine' ORDER BY name;
SQL
my $dump = $node->basedir . '/goya.dump';
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-Fc', '-f', $dump, 'goya');
my $before = $node->sql($HASHES);
my $calls = grep { $_->{path} eq '/hang' } http_log($http);

# ---- restored ----
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my ($out, $err) = ('', '');
my $status = IPC::Run::run([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-d', 'copy', $dump ], '>', \$out, '2>', \$err);
# pg_cron can be created in one database of a cluster only: its objects are what may be refused, and nothing else.
my @refused = grep { /error:/ && !/cron|can only create extension|errors ignored/ } split /\n/, $err;
is("@refused", '', 'pg_restore restores everything of goya') or diag($err);
{
	local $GoyaNode::DATABASE = 'copy';

	my $after = $node->sql($HASHES);
	my %before = map { /^([^|]+)\|(.*)/; $1 => $2 } split /\n/, $before;
	my %after = map { /^([^|]+)\|(.*)/; $1 => $2 } split /\n/, $after;
	is(join(' ', sort keys %after), join(' ', sort keys %before), 'all tables are there');
	is(join(' ', map { ($before{$_} // '') eq ($after{$_} // '') ? () : "$_ ($before{$_} -> $after{$_})" } sort keys %after), '', 'and every row of them');
	cmp_ok(scalar(keys %after), '>', 25, 'it was more than a few');

	$node->reached(q{SELECT state FROM goya.activity WHERE process = 'engine'}, 'paused', 20, 'the copy comes up paused');
	like($node->sql(q{SELECT detail FROM goya.activity WHERE process = 'engine'}), qr/adopt_copy/, 'and says what to do');
	like($node->sql(q{SELECT status, hint FROM goya.health() WHERE component LIKE '%engine%' OR hint LIKE '%adopt%'}), qr/adopt_copy/, 'so does goya.health()');
	my $new = run_task($node, 'plain');
	$node->sql("SELECT goya.signal('$open{waits}', 'go') \\g /dev/null");
	# In the original the sleep and the due task end meanwhile; in the copy they do not.
	local $GoyaNode::DATABASE = 'goya';
	$node->reached(qq{SELECT count(*) FROM goya.tasks WHERE id IN ('$open{naps}', '$open{due}') AND status = 'succeeded'}, 2, 20, 'the original runs on');
	local $GoyaNode::DATABASE = 'copy';
	is($node->sql(qq{SELECT string_agg(status::text, ' ' ORDER BY id) FROM goya.tasks WHERE id IN ('$open{waits}', '$open{naps}', '$open{due}', '$new')}), 'waiting waiting pending pending', 'nothing runs in the copy');
	is(scalar(grep { $_->{path} eq '/hang' } http_log($http)), $calls, 'the copy has called nobody');
	is($node->sql('SELECT count(*) FROM app.effects'), 20, 'and has no effect of its own');
	$node->refused('SELECT goya.adopt_copy()', '42501', 'a user may not adopt it', role => 'studio');

	# ---- adopted ----
	is($node->sql('SELECT goya.adopt_copy()'), 1, 'goya.adopt_copy() adopts one origin');
	$node->reached(q{SELECT state FROM goya.activity WHERE process = 'engine'}, 'running', 20, 'its engine runs');
	foreach my $id ($new, @open{qw(waits naps due)})
	{
		ended($node, $id, 'succeeded', 10, 'a task goes on in the copy');
	}
	ok(defined until_true(sub { $calls < grep { $_->{path} eq '/hang' } http_log($http) }, 10), 'the call that was in flight is made again by the copy');
	$node->sql("SELECT goya.cancel('$open{calls}') \\g /dev/null");
	$node->reached("SELECT status FROM goya.tasks WHERE id = '$open{calls}'", 'cancelled', 10, 'and can be cancelled');
	is($node->sql('SELECT count(*), count(DISTINCT task) FROM app.effects'), '24|24', 'every effect is there once');
	is_sound($node, 'goya.check() of the copy is empty');
}
is($node->sql("SELECT status FROM goya.tasks WHERE id = '$open{waits}'"), 'waiting', 'the original knows nothing of what was done in the copy');
is_sound($node);
$node->stop('fast');
done_testing();
