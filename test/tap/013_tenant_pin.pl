# 013_tenant_pin.pl: a node runs in the tenant of its task, whatever tenant its role belongs to by then.
#
# Decided: the role is moved to another tenant while its task waits for a signal, so that the pin and a look at the members differ. What the node
# sees, starts and writes must be its task's tenant's.
# Must hold: without the pin of identity.c this fails (test/mutants, no-tenant-pin).
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;

my $node = GoyaNode->start(name => 'pin', conf => $GoyaWork::CONF);
create_studio($node);
$node->sql(<<'SQL');
SELECT goya.create_tenant('first') \g /dev/null
SELECT goya.create_tenant('second') \g /dev/null
CREATE ROLE mover LOGIN;
GRANT goya_user TO mover;
GRANT USAGE ON SCHEMA app TO mover;
SELECT goya.add_member('mover', 'first') \g /dev/null
CREATE FUNCTION app.tenant_now(input jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('tenant', (SELECT name FROM goya.tenants WHERE id = goya.current_tenant()), 'task_seen', (SELECT count(*) FROM goya.tasks WHERE id = (tenant_now.input ->> 'task')::uuid),
                                 'asset', goya.register_asset('file:///pin', 'text')) $$;
SQL
create_workflow($node, 'who', {
	nodes => [ { key => 'go', kind => 'wait', signal => 'go' }, { key => 'now', kind => 'sql', function => 'app.tenant_now', input => { task => '{{ task.id }}' } } ],
	edges => [ { from => 'go', to => 'now' } ] }, role => 'mover');
my $id = $node->sql(q{SELECT goya.run('who')}, role => 'mover');
$node->reached("SELECT status FROM goya.tasks WHERE id = '$id'", 'waiting', 30, 'the task waits');
$node->sql("BEGIN; SET ROLE mover; SELECT goya.signal('$id', 'go'); RESET ROLE; SELECT goya.remove_member('mover'); SELECT goya.add_member('mover', 'second'); COMMIT");
ended($node, $id, 'succeeded', 30, 'its node runs after the role has moved');
is($node->sql("SELECT output ->> 'tenant', output ->> 'task_seen' FROM goya.tasks WHERE id = '$id'"), 'first|1', 'the node ran in the tenant of its task');
is($node->sql("SELECT n.name FROM goya.tasks t JOIN goya.assets a ON a.id = (t.output ->> 'asset')::uuid JOIN goya.tenants n ON n.id = a.tenant_id WHERE t.id = '$id'"),
	'first', 'and what it made belongs to that tenant');

is_sound($node);
$node->stop('fast');
done_testing();
