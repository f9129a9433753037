# 047_held_locks.pl: a client that locks what a worker needs, and leaves its transaction open, holds up its own task and nobody else's.
#
# The locks: a task's row, by goya.pause, while a call of it ends and while its SQL chain runs in a batch with 200 tasks of another tenant; an approval, by
# goya.approve, while the task is cancelled; a wallet, by goya.run, while a priced task of it ends and another one is cancelled; a cancel request that is not
# committed, while the parent ends; a cron trigger, or the wallet that it needs, while pg_cron's job fires it. Others' tasks end meanwhile; when the lock is gone the held task goes on by itself, and does nothing twice.
#
# Decided: what is to run together is due at the same moment (run_at), which comes when all is in place (come); a call ends when it may (release); no sleeps.
# Seconds are measured in the database, from that moment.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;

my $node = GoyaNode->start(name => 'held', conf => $GoyaWork::CONF);
my $http = http_server();
create_studio($node);
$node->create_user('rival', in => 'goya_user');
$node->sql(<<'SQL');
SELECT goya.create_tenant('rivals') \g /dev/null
SELECT goya.add_member('rival', 'rivals') \g /dev/null
GRANT USAGE ON SCHEMA app TO rival;
GRANT SELECT, INSERT ON app.effects TO rival;
SELECT goya.set_price('step', 1000000) \g /dev/null
SELECT goya.top_up(1000000000000, 'start', 'rivals') \g /dev/null
SQL

my $effect = { task => '{{ task.id }}', node => 'e' };
my @chain = map { { key => "n$_", kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => "n$_" } } } 1 .. 5;
my @edges = map { { from => "n$_", to => 'n' . ($_ + 1) } } 1 .. 4;
foreach my $role ('studio', 'rival')
{
	create_workflow($node, 'calls', { nodes => [{ key => 'get', kind => 'http', url => "$http/delay?ms={{ input.ms }}" }, { key => 'e', kind => 'sql', function => 'app.effect', input => $effect }],
		edges => [{ from => 'get', to => 'e' }] }, role => $role);
	create_workflow($node, 'chain', { nodes => \@chain, edges => \@edges }, role => $role);
	create_workflow($node, 'waits', { nodes => [{ key => 'w', kind => 'wait', signal => 'go' }] }, role => $role);
	create_workflow($node, 'asks', { nodes => [{ key => 'a', kind => 'approval', message => 'well?' }] }, role => $role);
}
create_workflow($node, 'priced', { nodes => [{ key => 'e', kind => 'sql', function => 'app.effect', input => $effect, price => 'step' }] }, role => 'rival');
create_workflow($node, 'priced wait', { nodes => [{ key => 'w', kind => 'wait', signal => 'go', price => 'step' }] }, role => 'rival');
create_workflow($node, 'parent', { nodes => [{ key => 'c', kind => 'workflow', workflow => 'waits' }] }, role => 'rival');

sub status { my ($id) = @_; return "SELECT status FROM goya.tasks WHERE id = '$id'"; }
sub run { my ($role, $name, $input, $more) = @_; return $node->sql("SELECT goya.run('$name', '" . json($input // {}) . "'" . ($more // '') . ')', role => $role); }
sub cancel { my ($role, $id) = @_; return $node->sql("SELECT goya.cancel('$id')", role => $role); }
sub effects { my ($id) = @_; return "SELECT string_agg(node, ' ' ORDER BY node) FROM app.effects WHERE task = '$id'"; }

# hold(STATEMENTS): a session of the rival that has run them and stays in its transaction.
my @holders;
sub hold
{
	my ($statements) = @_;
	my $session = $node->session(role => 'rival');

	$session->query_safe("BEGIN; $statements");
	push @holders, $session;
	return $session;
}

# crowd(WHEN): 200 tasks of the studio that are due then, as a query for how many of them have not ended.
sub crowd
{
	my ($when) = @_;

	$node->sql("SELECT count(*) FROM goya.run_many('chain', (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 200)), run_at => '$when')", role => 'studio');
	return "FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id AND w.name = 'chain' JOIN goya.tenants n ON n.id = t.tenant_id AND n.name = 'default' WHERE t.run_at = '$when'";
}

# come(WHEN): what is due then is due now; the moment.
sub come
{
	my ($when) = @_;

	return $node->sql("SELECT least('$when', clock_timestamp());\n"
		. "UPDATE goya_private.timers SET due = clock_timestamp() WHERE due = '$when' \\g /dev/null\nSELECT goya_private.wake_timers() \\g /dev/null");
}

# crowd_ended(CROWD, WHEN, NAME): the moment comes, and they end within seconds of it.
sub crowd_ended
{
	my ($crowd, $when, $name) = @_;
	my $moment = come($when);

	$node->reached("SELECT count(*) $crowd AND t.status = 'succeeded'", 200, 30, "$name: 200 tasks of others end");
	my $seconds = $node->sql("SELECT extract(epoch FROM coalesce(max(t.finished_at), clock_timestamp() + interval '1 hour') - '$moment')::numeric(10, 3) $crowd");
	cmp_ok($seconds, '<', 12, "$name: within seconds ($seconds s)");
	return;
}

sub soon { return $node->sql(q{SELECT clock_timestamp() + interval '8 s'}); }

# ---- a call of the held task ends ----

my $held = run('rival', 'calls', { ms => 20000 });
$node->reached("SELECT status FROM goya.node_runs WHERE task_id = '$held'", 'running', 20, 'a call is under way');
my $holder = hold("SELECT goya.pause('$held')");
release($http, 20000);
my @others = map { run('studio', 'calls', { ms => $_ }) } (200, 300, 800);
ended($node, $_, 'succeeded', 20, 'a call: one that ends after it is recorded') foreach @others;
is($node->sql("SELECT status FROM goya.node_runs WHERE task_id = '$held'"), 'running', 'a call: its own is not');
$others[0] = run('studio', 'calls', { ms => 1 });
ended($node, $others[0], 'succeeded', 15, 'a call: and new ones are made');
$holder->query_safe('ROLLBACK');
ended($node, $held, 'succeeded', 20, 'a call: let go, the task goes on by itself');
is($node->sql(effects($held)), 'e', 'a call: what follows has run once');
is(scalar(grep { $_->{path} eq '/delay' && json($_->{query}) =~ /\b20000\b/ } http_log($http)), 1, 'a call: it was made once');
is_sound($node);

# ---- its SQL chain in a batch with others ----

my $when = soon();
$held = run('rival', 'chain', {}, ", run_at => '$when'");
$holder = hold("SELECT goya.pause('$held')");
my $crowd = crowd($when);
crowd_ended($crowd, $when, 'a chain');
$node->reached("SELECT EXISTS (SELECT FROM goya_private.timers WHERE task_id = '$held' AND tries >= 100)", 't', 25, 'a chain: the held task is put aside');
is($node->sql("SELECT count(*) FROM goya.node_runs WHERE task_id = '$held'"), 0, 'a chain: and has not run');
is_sound($node, 'a chain: goya.check() is empty meanwhile');
$holder->query_safe('ROLLBACK');
ended($node, $held, 'succeeded', 20, 'a chain: let go, it runs');
is($node->sql(effects($held)), 'n1 n2 n3 n4 n5', 'a chain: each node once');

# A pause that is committed in the end holds.
$when = soon();
$held = run('rival', 'chain', {}, ", run_at => '$when'");
$holder = hold("SELECT goya.pause('$held')");
come($when);
$node->reached("SELECT EXISTS (SELECT FROM goya_private.timers WHERE task_id = '$held' AND tries >= 100)", 't', 25, 'a pause: the held task is put aside');
$holder->query_safe('COMMIT');
$node->reached("SELECT EXISTS (SELECT FROM goya_private.parked WHERE task_id = '$held')", 't', 20, 'a pause: committed, it is parked');
is_sound($node, 'a pause: goya.check() is empty');
$node->sql("SELECT goya.resume('$held')", role => 'rival');
ended($node, $held, 'succeeded', 20, 'a pause: resumed, it runs');
is($node->sql(effects($held)), 'n1 n2 n3 n4 n5', 'a pause: each node once');

# A signal comes while its task is held.
$held = run('rival', 'waits');
$node->reached(status($held), 'waiting', 10, 'a signal: the task waits');
$holder = hold("SELECT goya.pause('$held')");
$node->sql("SELECT goya.signal('$held', 'go')", role => 'rival');
my $other = run('studio', 'waits');
$node->reached(status($other), 'waiting', 20, 'a signal: so does another');
$node->sql("SELECT goya.signal('$other', 'go')", role => 'studio');
ended($node, $other, 'succeeded', 15, 'a signal: which gets its own');
is_sound($node, 'a signal: goya.check() is empty meanwhile');
$holder->query_safe('ROLLBACK');
ended($node, $held, 'succeeded', 20, 'a signal: let go, it is taken');

# ---- a cancel, and an approver who is idle in transaction ----

foreach my $end ('COMMIT', 'ROLLBACK')
{
	$held = run('rival', 'asks');
	$node->reached("SELECT status FROM goya.approvals WHERE task_id = '$held'", 'pending', 10, 'an approver: is asked');
	$holder = hold("SELECT goya.approve('$held', 'a')");
	cancel('rival', $held);
	$other = run('studio', 'waits');
	$node->reached(status($other), 'waiting', 20, 'an approver: another task waits');
	cancel('studio', $other);
	ended($node, $other, 'cancelled', 15, 'an approver: and is cancelled');
	is($node->sql(status($held)), 'waiting', 'an approver: the held one not yet');
	$holder->query_safe($end);
	ended($node, $held, 'cancelled', 20, "an approver: after $end it is");
	is($node->sql("SELECT status FROM goya.approvals WHERE task_id = '$held'"), $end eq 'COMMIT' ? 'approved' : 'cancelled', "an approver: after $end its question is answered or not");
	is_sound($node);
}

# ---- a wallet ----

my $waiting = run('rival', 'priced wait', {}, ', max_cost => 50000000');
$node->reached(status($waiting), 'waiting', 10, 'a wallet: a priced task waits');
$when = soon();
$held = run('rival', 'priced', {}, ", run_at => '$when'");
$holder = hold(q{SELECT goya.run('priced', '{}')});
$crowd = crowd($when);
crowd_ended($crowd, $when, 'a wallet');
cancel('rival', $waiting);
$other = run('studio', 'waits');
$node->reached(status($other), 'waiting', 20, 'a wallet: another task waits');
cancel('studio', $other);
ended($node, $other, 'cancelled', 15, 'a wallet: and is cancelled');
is($node->sql(status($_)), $_ eq $held ? 'pending' : 'waiting', 'a wallet: who needs it does not end') foreach ($held, $waiting);
$other = run('rival', 'chain');
ended($node, $other, 'succeeded', 20, 'a wallet: who does not need it does');
is_sound($node, 'a wallet: goya.check() is empty meanwhile');
$holder->query_safe('ROLLBACK');
ended($node, $held, 'succeeded', 20, 'a wallet: let go, the task settles');
ended($node, $waiting, 'cancelled', 20, 'a wallet: and the other is cancelled');
is($node->sql(effects($held)), 'e', 'a wallet: what it paid for ran once');
is_sound($node);

# ---- a wallet, and events ----

create_workflow($node, 'told', { nodes => [{ key => 'n', kind => 'noop' }] }, role => 'studio');
create_workflow($node, 'told', { nodes => [{ key => 'e', kind => 'sql', function => 'app.effect', input => $effect, price => 'step' }] }, role => 'rival');
$node->sql("SELECT goya.create_trigger('told', 'on asset', 'event', event => 'asset_new')", role => $_) foreach ('studio', 'rival');
sub told { my ($tenant, $status) = @_; return "SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id AND w.name = 'told' JOIN goya.tenants n ON n.id = t.tenant_id AND n.name = '$tenant' WHERE t.status = '$status'"; }
$holder = hold(q{SELECT goya.run('priced', '{}')});
$node->sql("INSERT INTO goya.assets (name, media_type) VALUES ('a thing', 'video')", role => $_) foreach ('rival', 'studio');
$node->reached(told('default', 'succeeded'), 1, 20, 'an event: becomes a task, though another tenant has locked its wallet');
is($node->sql(told('rivals', 'succeeded')), 0, 'an event: of the other tenant not yet');
$holder->query_safe('ROLLBACK');
$node->reached(told('rivals', 'succeeded'), 1, 20, 'an event: let go, it does');
is($node->sql("SELECT count(*) FROM goya.events WHERE type = 'trigger_failed'"), 0, 'an event: no trigger has failed');
is_sound($node);

# ---- a cron trigger, and a wallet, that pg_cron's job needs ----

create_workflow($node, 'ticks', { nodes => [{ key => 'n', kind => 'noop' }] }, role => 'rival');
create_workflow($node, 'priced ticks', { nodes => [{ key => 'n', kind => 'noop', price => 'step' }] }, role => 'rival');
# They are due once a month, so that they are only fired here.
my %trigger = map { my ($workflow, $name, $missed) = @$_; $name => $node->sql("SELECT goya.create_trigger('$workflow', '$name', 'cron', schedule => '0 0 1 * *', missed => '$missed')", role => 'rival') }
	([ 'ticks', 'skips', 'skip' ], [ 'ticks', 'makes up', 'once' ], [ 'priced ticks', 'pays', 'skip' ]);
my $lost = q{SELECT string_agg(concat_ws(' ', data ->> 'workflow', data ->> 'trigger', data #>> '{error,code}'), ', ' ORDER BY id) FROM goya.events WHERE type = 'trigger_failed'};

# job(NAME): what pg_cron's job of it answers, or 'late'.
sub job
{
	my ($name) = @_;
	my ($done, $out) = $node->try_sql("SET statement_timeout = '4s'; SELECT coalesce(goya_private.fire_trigger('$trigger{$name}', date_trunc('minute', now()) + interval '1 minute')::text, 'nothing')");

	return !$done ? 'late' : $out =~ /^[0-9a-f-]{36}$/ ? 'a task' : $out;
}

$holder = hold(q{SELECT goya.disable_trigger('ticks', 'skips')});
is(job('skips'), 'nothing', 'a trigger: pg_cron\'s job does not wait for who keeps it locked');
is($node->sql($lost), 'ticks skips 55P03', 'a trigger: its tenant is told of the slot');
$holder->query_safe('ROLLBACK');
is(job('skips'), 'a task', 'a trigger: let go, it fires');

# This month's slot was missed, and the engine has to make up for it.
$holder = $node->session;
push @holders, $holder;
$holder->query_safe("BEGIN; UPDATE goya.triggers SET last_slot = now() - interval '40 days', next_due = date_trunc('month', now()) WHERE id = '$trigger{'makes up'}'; SELECT goya_private.wake()");
is(job('makes up'), 'nothing', 'a trigger that makes up: the job does not wait, either');
is($node->sql($lost), 'ticks skips 55P03', 'a trigger that makes up: nothing is said to be lost');
is($node->sql("SELECT count(*) FROM goya_private.trigger_slots WHERE trigger_id = '$trigger{'makes up'}'"), 0, 'a trigger that makes up: nothing is fired meanwhile');
$holder->query_safe('COMMIT');
$node->reached("SELECT count(*) FROM goya_private.trigger_slots WHERE trigger_id = '$trigger{'makes up'}' AND task_id IS NOT NULL", 1, 10, 'a trigger that makes up: let go, the engine fires it');

$holder = hold(q{SELECT goya.run('priced', '{}')});
is(job('pays'), 'nothing', 'a wallet: pg_cron\'s job does not wait for it');
is($node->sql($lost), 'ticks skips 55P03, priced ticks pays 55P03', 'a wallet: the tenant is told of the slot');
$holder->query_safe('ROLLBACK');
is(job('pays'), 'a task', 'a wallet: let go, it fires');
$node->reached(q{SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name LIKE '%ticks' AND t.status = 'succeeded'}, 3, 10, 'triggers: what was fired has run');
is_sound($node);

# ---- the cancel of a child, not committed, while its parent ends ----

my $parent = run('rival', 'parent');
my $child;
ok(until_true(sub { $child = $node->sql("SELECT id FROM goya.tasks WHERE parent_task_id = '$parent' AND status = 'waiting'") }, 10), 'a child waits');
$holder = hold("SELECT goya.cancel('$child')");
cancel('rival', $parent);
ended($node, $parent, 'cancelled', 20, 'a child: its parent is cancelled while somebody is about to cancel the child');
ended($node, $child, 'cancelled', 20, 'a child: and with it the child');
$holder->query_safe('COMMIT');
$node->reached('SELECT count(*) FROM goya_private.cancel_requests', 0, 10, 'a child: no request is left');
is_sound($node);

$_->quit foreach @holders;
done_testing();
