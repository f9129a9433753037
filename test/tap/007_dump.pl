# 007_dump.pl: pg_dump and pg_restore into another database keep every row, and the copy comes up paused until goya.adopt_copy(): restored at once, in
# parallel, as plain SQL, and as data only into an extension that is there. Who is no superuser is told so.
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
create_workflow($node, 'naps', { nodes => [ { key => 's', kind => 'sleep', duration => 600 }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect } ], edges => [ { from => 's', to => 'e' } ] });
create_workflow($node, 'calls', { nodes => [ { key => 'h', kind => 'http', url => "$http/hang" } ] });
$node->sql(q{SELECT goya.create_trigger(workflow => 'plain', name => 'often', kind => 'interval', every => interval '1 h') \g /dev/null
SELECT count(goya.run('plain')) FROM generate_series(1, 20) \g /dev/null}, role => 'studio');
$node->reached(q{SELECT count(*) FROM goya.tasks WHERE status = 'succeeded'}, 20, 10, '20 tasks have ended');
my %open;
$open{$_} = run_task($node, $_) foreach qw(waits naps calls);
$node->reached(q{SELECT count(*) FROM goya.node_runs WHERE status IN ('waiting', 'running')}, 3, 10, 'one waits, one sleeps, one calls');
$open{due} = run_task($node, 'plain', {}, q{run_at => now() + interval '10 min'});

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
    FOR t IN SELECT c.oid::regclass AS name FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) LOOP
        EXECUTE format('INSERT INTO hashes SELECT %L, last_value, is_called::text FROM %s x', t.name, t.name);
    END LOOP;
END $$;
SELECT name, n, h FROM hashes WHERE name <> 'goya_private.engine' ORDER BY name;
SQL
my $dump = $node->basedir . '/goya.dump';
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-Fc', '-f', $dump, 'goya');
my $before = $node->sql($HASHES);
my $calls = grep { $_->{path} eq '/hang' } http_log($http);

# run_tool(NAME, COMMAND…): one assertion, that a program of PostgreSQL restores everything of goya.
sub run_tool
{
	my ($name, $tool, @arguments) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ $tool, '-h', $node->host, '-p', $node->port, '-U', 'postgres', @arguments ], '>', \$out, '2>', \$err);
	# pg_cron can be created in one database of a cluster only: its objects are what may be refused, and nothing else.
	my @refused = grep { /error:|ERROR:/ && !/cron|can only create extension|errors ignored/ } split /\n/, $err;
	return is("@refused", '', $name) || diag($err);
}

# same_rows(NAME): the current database has what the dump has.
sub same_rows
{
	my ($name) = @_;
	my %before = map { /^([^|]+)\|(.*)/; $1 => $2 } split /\n/, $before;
	my %after = map { /^([^|]+)\|(.*)/; $1 => $2 } split /\n/, $node->sql($HASHES);

	is(join(' ', sort keys %after), join(' ', sort keys %before), "$name: all tables are there");
	is(join(' ', map { ($before{$_} // '') eq ($after{$_} // '') ? () : "$_ ($before{$_} -> $after{$_})" } sort keys %after), '', "$name: and every row of them");
	return cmp_ok(scalar(keys %after), '>', 25, "$name: it was more than a few");
}

# ---- restored in other ways ----
my $plain = $node->basedir . '/goya.sql';
PostgreSQL::Test::Utils::system_or_bail('pg_restore', '-f', $plain, $dump);
my %ways = (
	# As docs/operations.md says: in parallel PostgreSQL does not know that rows of an extension's table refer to those of another.
	parallel => sub {
		my $lists = $node->basedir;
		my ($text) = PostgreSQL::Test::Utils::run_command([ 'pg_restore', '-l', $dump ]);
		my @list = split /\n/, $text;
		my @first = grep { /TABLE DATA goya (tenants|operators|workflows) / } @list;

		PostgreSQL::Test::Utils::append_to_file("$lists/first", join("\n", @first, ''));
		PostgreSQL::Test::Utils::append_to_file("$lists/rest", join("\n", (grep { !/TABLE DATA goya (tenants|operators|workflows) / } @list), ''));
		run_tool('the schema first', 'pg_restore', '--section=pre-data', '-d', 'copy', $dump);
		run_tool('then what others refer to', 'pg_restore', '--data-only', '-L', "$lists/first", '-d', 'copy', $dump);
		run_tool('then pg_restore -j 2', 'pg_restore', '--section=data', '--section=post-data', '-j', '2', '-L', "$lists/rest", '-d', 'copy', $dump);
	},
	plain => sub { run_tool('psql with a plain dump', 'psql', '-X', '-q', '-d', 'copy', '-f', $plain) },
	'data only' => sub {
		run_tool('the schema first', 'pg_restore', '--section=pre-data', '--section=post-data', '-d', 'copy', $dump);
		run_tool('then pg_restore --data-only', 'pg_restore', '--data-only', '-d', 'copy', $dump);
	});
foreach my $way (sort keys %ways)
{
	$node->safe_psql('postgres', 'CREATE DATABASE copy');
	$ways{$way}->();
	{
		local $GoyaNode::DATABASE = 'copy';

		same_rows($way);
		$node->reached(q{SELECT state || ' ' || (detail ~ 'adopt_copy') FROM goya.activity WHERE process = 'engine'}, 'paused true', 20, "$way: the copy comes up paused, and says what to do");
		is($node->sql('SELECT count(*) FROM app.effects'), 20, "$way: it has no effect of its own");
	}
	$node->safe_psql('postgres', 'DROP DATABASE copy');
}

# ---- by somebody who is no superuser ----
$node->safe_psql('postgres', 'CREATE ROLE keeper LOGIN CREATEDB; CREATE DATABASE copy OWNER keeper');
my ($out, $err) = ('', '');
IPC::Run::run([ 'pg_restore', '-h', $node->host, '-p', $node->port, '-U', 'keeper', '-O', '-d', 'copy', $dump ], '>', \$out, '2>', \$err);
like($err, qr/permission denied to create extension "goya"\s+HINT:\s+Must be superuser/, 'who is no superuser cannot restore goya, and is told why');
is($node->safe_psql('copy', q{SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname LIKE 'goya%'}), 0, 'nothing of it is left half-made');
$node->safe_psql('postgres', 'DROP DATABASE copy; DROP ROLE keeper');

# ---- restored ----
$node->safe_psql('postgres', 'CREATE DATABASE copy');
run_tool('pg_restore restores everything of goya', 'pg_restore', '-d', 'copy', $dump);
{
	local $GoyaNode::DATABASE = 'copy';

	same_rows('pg_restore');
	$node->reached(q{SELECT state FROM goya.activity WHERE process = 'engine'}, 'paused', 20, 'the copy comes up paused');
	$node->reached(q{SELECT detail ~ 'adopt_copy' FROM goya.activity WHERE process = 'engine'}, 't', 10, 'and says what to do');
	like($node->sql(q{SELECT status, hint FROM goya.health() WHERE component LIKE '%engine%' OR hint LIKE '%adopt%'}), qr/adopt_copy/, 'so does goya.health()');
	my $new = run_task($node, 'plain');
	$node->sql("SELECT goya.signal('$open{waits}', 'go') \\g /dev/null");
	# Their time comes in both: in the original the sleep and the due task end, in the copy they do not.
	my $come = "UPDATE goya_private.timers SET due = clock_timestamp() WHERE task_id IN ('$open{naps}', '$open{due}') \\g /dev/null\nSELECT goya_private.wake_timers() \\g /dev/null";
	$node->sql($come);
	local $GoyaNode::DATABASE = 'goya';
	$node->sql($come);
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
