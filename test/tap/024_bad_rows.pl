# 024_bad_rows.pl: rows that cannot be run, among a thousand that can: each fails by itself, with an error that says why; the others succeed.
#
# Decided: a superuser breaks what no API can: he deletes what tasks need, and by casts without a function writes text that is no text and
# jsonb that is no jsonb. All in the transaction that starts the tasks, so that executors claim good and bad together.
# Must hold: what is bad is found out once, not run again for ever: the queue is empty at the end.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;

my $node = GoyaNode->start(name => 'bad_rows', conf => $GoyaWork::CONF);
create_studio($node);
$node->sql(<<'SQL');
CREATE CAST (bytea AS jsonb) WITHOUT FUNCTION;
CREATE CAST (bytea AS text) WITHOUT FUNCTION;
CREATE FUNCTION app.vanishing(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION app.reads(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT to_jsonb(input::text)';
CREATE TABLE app.bad (name text, task uuid);
CREATE ROLE leaver LOGIN IN ROLE goya_user;
GRANT USAGE ON SCHEMA app TO leaver;
SQL

my %SQL = (kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'a' });
my $two = { nodes => [ { key => 'a', %SQL }, { key => 'b', %SQL, input => { task => '{{ task.id }}', node => 'b', x => '{{ input.x }}' } } ], edges => [ { from => 'a', to => 'b' } ] };
create_workflow($node, $_, $two) foreach qw(good revision_gone definition_empty definition_text definition_bytes key_bytes);
create_workflow($node, 'leaver', $two, role => 'leaver');
create_workflow($node, 'function_gone', { nodes => [ { key => 'a', %SQL, function => 'app.vanishing' } ] });
create_workflow($node, 'reads', { nodes => [ { key => 'a', %SQL, function => 'app.reads', input => '{{ input }}' } ] });

# name => [ workflow, what the superuser does to the task ($t) or its surroundings, the error's class and code as expected ]
my $revision = 'UPDATE goya.workflow_revisions r SET resolved = %s FROM goya.workflows w WHERE w.id = r.workflow_id AND w.name = $$%s$$';
my @bad = (
	[ role_gone => 'leaver', 'DROP OWNED BY leaver CASCADE; DROP ROLE leaver', qr/POLICY_DENY 42501 role "leaver", which the task runs as, does not exist/ ],
	[ function_gone => 'function_gone', 'DROP FUNCTION app.vanishing(jsonb)', qr/TOOL_BUG 42883 function app.vanishing\(jsonb\) does not exist/ ],
	[ revision_gone => 'revision_gone', 'DELETE FROM goya.workflow_revisions r USING goya.workflows w WHERE w.id = r.workflow_id AND w.name = $$revision_gone$$', qr/TOOL_BUG 42704 revision 1 / ],
	[ definition_empty => 'definition_empty', sprintf($revision, q{'{}'}, 'definition_empty'), qr/TOOL_BUG 42704 revision 1 / ],
	[ definition_text => 'definition_text', sprintf($revision, q{'"nonsense"'}, 'definition_text'), qr/TOOL_BUG 42704 revision 1 / ],
	[ definition_bytes => 'definition_bytes', sprintf($revision, q{'\x00000000'::bytea::jsonb}, 'definition_bytes'), qr/TOOL_BUG 42704 revision 1 / ],
	[ input_no_container => 'reads', q{UPDATE goya.tasks SET input = '\x00000000'::bytea::jsonb WHERE id = $t}, qr/TOOL_BUG XX000 / ],
	[ input_too_long => 'reads', q{UPDATE goya.tasks SET input = '\xffffff2f01000000'::bytea::jsonb WHERE id = $t}, qr/(CRASH 57P02|XX000|22\w+|54\w+) / ],
	[ input_no_text => 'reads', q{UPDATE goya.tasks SET input = '\x01000020010000000100000078ff'::bytea::jsonb WHERE id = $t}, undef ],
	[ input_garbage => 'good', q{UPDATE goya.tasks SET input = '\xffffff4fffffffff'::bytea::jsonb WHERE id = $t}, undef ],
	[ run_as_is_no_text => 'good', q{UPDATE goya.tasks SET run_as = '\xfffe'::bytea::text WHERE id = $t}, qr/POLICY_DENY 42501 \(not valid text\)/ ],
	[ tenant_gone => 'good', q{UPDATE goya.tasks SET tenant_id = goya.new_id() WHERE id = $t}, qr/POLICY_DENY 42501 the tenant/ ],
	[ node_beyond => 'good', q{UPDATE goya_private.ready SET node = 99 WHERE task_id = $t}, qr/TOOL_BUG XX001 / ],
	[ node_below => 'good', q{UPDATE goya_private.ready SET node = -7 WHERE task_id = $t}, qr/TOOL_BUG XX001 / ],
	[ verb_unknown => 'good', q{UPDATE goya_private.ready SET verb = 77, node = 1 WHERE task_id = $t}, qr/TOOL_BUG XX001 / ],
);

# ---- all of it in one transaction ----

my $sql = "BEGIN;\nSET LOCAL ROLE studio;\nSELECT count(goya.run('good', '{\"x\": 1}')) FROM generate_series(1, 500) \\g /dev/null\nRESET ROLE;\n";
foreach my $bad (@bad)
{
	my ($name, $workflow, $damage) = @$bad;
	my $role = $workflow eq 'leaver' ? 'leaver' : 'studio';

	$damage =~ s/\$t\b/:'task'/g;
	$sql .= "SET LOCAL ROLE $role;\nSELECT goya.run('$workflow', '{\"x\": 1}') AS task \\gset\nRESET ROLE;\nINSERT INTO app.bad VALUES ('$name', :'task');\n$damage;\n";
}
$sql .= "SET LOCAL ROLE studio;\nSELECT count(goya.run('good', '{\"x\": 1}')) FROM generate_series(1, 500) \\g /dev/null\n"
  . "RESET ROLE;\nINSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt) SELECT 0, lane, 0, goya.new_id(), -1, 0, 1 FROM unnest('{0,1,2,3,4}'::int[]) lane;\nCOMMIT;\n";
$node->sql($sql);

$node->reached(q{SELECT count(*) FROM goya.tasks t WHERE finished_at IS NULL AND NOT EXISTS (SELECT FROM app.bad b WHERE b.task = t.id)}, 0, 30, 'the thousand end');
# One of the bad ones ends its process, which restarts the server: nothing but reached() is safe before they have ended.
$node->reached(q{SELECT count(*) FROM goya.tasks t WHERE finished_at IS NULL}, 0, 20, 'the bad ones end, too');
is($node->sql(q{SELECT status, count(*) FROM goya.tasks t WHERE NOT EXISTS (SELECT FROM app.bad b WHERE b.task = t.id) GROUP BY 1}), 'succeeded|1000', '... all have succeeded');
is($node->sql(q{SELECT count(*), count(DISTINCT (task, node)) FROM app.effects e WHERE NOT EXISTS (SELECT FROM app.bad b WHERE b.task = e.task)}), '2000|2000', '... every effect is there once');
foreach my $bad (@bad)
{
	my ($name, undef, undef, $error) = @$bad;
	my $seen = $node->sql("SELECT concat_ws(' ', t.status, t.error ->> 'class', t.error ->> 'code', t.error ->> 'message') FROM goya.tasks t JOIN app.bad b ON b.task = t.id WHERE b.name = '$name'");

	like($seen, $error ? qr/^failed $error/ : qr/^(failed|succeeded)/, "$name: " . ($error ? 'it has failed' : 'it has ended'));
}
$node->reached('SELECT count(*) FROM goya_private.ready', 0, 10, 'the queue is empty');
is($node->sql(q{SELECT code, subject, detail FROM goya.check() WHERE code NOT IN ('revision_row', 'task_revision', 'tenant_missing')}), '',
	'goya.check() finds the damage that was done, and nothing else');
$node->stop('fast');
done_testing();
