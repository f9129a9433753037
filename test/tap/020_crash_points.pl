# 020_crash_points.pl: processes fail at every named place where something becomes durable or visible (src/crash_point.h), while mixed work runs; afterwards all
# has ended as it should, effects are there once, captures were made once, calls were repeated only when they were in flight, with the same key.
#
# It needs goya built with CRASH_POINTS=1 in a PostgreSQL of its own, whose programs are in GOYA_CRASH_PGBIN (test/run makes one), or first in PATH.
#
# Decided: the points are read from the header, and one that is never reached fails the test. Points of one area are armed together, each at a hit drawn at
# random, and work of that area is started until the server's log says that all have fired; then everything has to end, and is looked at. Every
# point is killed once here; error, fatal and pause at a selection that GOYA_SEED decides. With GOYA_CRASH_ALL=1 each point is met alone by every
# action that it can take, at the first hit and at a later one, under the whole mix of work (GOYA_CRASH_ONLY: a pattern, only those points). Who starts tasks uses idempotency keys and repeats what failed,
# as an application would. fsync is off: what is tested is goya, not the disk.
# Must hold: no wait without a deadline; what is expected of each workflow is said once, in app.due.
use strict;
use warnings;

BEGIN { $ENV{PATH} = "$ENV{GOYA_CRASH_PGBIN}:$ENV{PATH}" if $ENV{GOYA_CRASH_PGBIN}; }

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use List::Util qw(shuffle);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $began = time;
my $all = $ENV{GOYA_CRASH_ALL};
my $seed = $ENV{GOYA_SEED} // int(rand(2**31));
srand $seed;
note("GOYA_SEED=$seed" . ($all ? ' GOYA_CRASH_ALL=1' : ''));

# ---- the points ----

my (@points, %committed);
open my $header, '<', "$FindBin::Bin/../../src/crash_point.h" or die $!;
while (<$header>)
{
	next unless /^\s*point\(\w+, "([a-z_.]+)", (\w+)\)/;
	push @points, $1;
	$committed{$1} = $2 eq 'COMMITTED';
}
close $header;
cmp_ok(scalar @points, '>=', 25, scalar(@points) . ' points in the header');

# Which work reaches them: areas, each with points and work. A point is in the first that matches; every point has to be in one.
my @areas = (
	{ name => 'recover',  points => qr/^recover\./,                                work => [qw(call)], before => 'call.started=kill' },
	{ name => 'park',     points => qr/parked|^flush\.(context|artifacts)/,           work => [qw(park parkcall keep)] },
	{ name => 'run',      points => qr/^run/,                                       work => [qw(chain later many)] },
	{ name => 'session',  points => qr/^session\./,                                 work => [qw(chain patience)] },
	{ name => 'waits',    points => qr/^flush\.(approval|signal)|^timers\.|^queue\.timers/, work => [qw(ask signal nap worker)] },
	{ name => 'end',      points => qr/^finish\.(failed|task_failed|comp|child)/,   work => [qw(fail undo child)] },
	{ name => 'graph',    points => qr/^flush\.(joins|maps)|^queue\.written/,       work => [qw(map join agent)] },
	{ name => 'batch',    points => qr/^(claim|effect|advance|flush|finish)\./,     work => [qw(chain map)] },
	{ name => 'money',    points => qr/^(hold|capture|settle)\./,                   work => [qw(chain extend)] },
	{ name => 'events',   points => qr/^(asset|dispatch)\./,                        work => [qw(asset)] },
	{ name => 'clock',    points => qr/^(interval|notes)\./,                        work => [qw(interval notify)] },
	{ name => 'cancel',   points => qr/^(control|cancel)\./,                        work => [qw(patience)] },
	{ name => 'call',     points => qr/^call\./,                                    work => [qw(call model cli agent)] },
	{ name => 'processes', points => qr/^(launcher|engine|executor)\.(engine|epoch|started|executor_started)/, work => [qw(chain)], restart => 1 },
	{ name => 'workers',  points => qr/^(executor|engine)\./,                       work => [qw(chain call nap)] },
	{ name => 'table',    points => qr/^table\./,                                   work => [qw(chain)] },
);
my %area_of = map { my $point = $_; my ($area) = grep { $point =~ $_->{points} } @areas; ($point => $area) } @points;
is(join(' ', grep { !$area_of{$_} } @points), '', 'every point has work that should reach it');

# ---- the work ----

my $CONF = $GoyaWork::CONF . "goya.listen = on\ngoya.cli = on\nlog_min_duration_statement = -1\nautovacuum_naptime = 10\n";
my $node = GoyaNode->start(name => 'crash', conf => $CONF);
is($node->sql('SHOW goya.crash_points'), '', 'goya is a build with crash points') or BAIL_OUT('make CRASH_POINTS=1, see src/README.md');
my $http = http_server();
my $models = script_server('scripted_model.py');
my $agents = script_server('scripted_agent.py');
create_studio($node);

my %retry = (retry => { max_attempts => 4, initial => 0.02, backoff => 'fixed' });
sub effect { my ($key, @more) = @_; return { key => $key, kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => $key, n => 7 }, %retry, @more }; }
sub edges { return [ map { my ($from, $to) = split />/; { from => $from, to => $to } } @_ ]; }

my %definitions = (
	chain => { nodes => [ map { effect("e$_", price => 'step') } 1 .. 3 ], edges => edges('e1>e2', 'e2>e3') },
	map => {
		nodes => [
			{ key => 'm', kind => 'map', over => [ 0 .. 4 ], max_parallel => 2, node => {
				kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'body', item => '{{ index }}' }, price => 'step', %retry } },
			effect('after') ],
		edges => edges('m>after') },
	# The join's edges come in different transactions, so it is counted in the table.
	join => {
		nodes => [ { key => 's', kind => 'sleep', duration => 0.03 }, effect('fast'), effect('both') ],
		edges => edges('s>both', 'fast>both') },
	call => {
		nodes => [ effect('before'), effect('after'),
			{ key => 'get', kind => 'http', method => 'POST', url => "$http/delay?ms=20&task={{ task.id }}", success => '$.output.status == 200', price => 'call', %retry } ],
		edges => edges('before>get', 'get>after') },
	nap => { nodes => [ { key => 's', kind => 'sleep', duration => 0.05 }, effect('after') ], edges => edges('s>after') },
	signal => { nodes => [ { key => 'w', kind => 'wait', signal => 'go', %retry }, effect('after') ], edges => edges('w>after') },
	ask => { nodes => [ { key => 'a', kind => 'approval', message => 'well?', %retry }, effect('after') ], edges => edges('a>after') },
	child => { nodes => [ { key => 'c', kind => 'workflow', workflow => 'chain' }, effect('after') ], edges => edges('c>after') },
	undo => {
		nodes => [
			effect('do', price => 'step', compensate => { kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'undo' }, %retry }),
			{ key => 'bad', kind => 'sql', function => 'app.effect_boom', input => { task => '{{ task.id }}', node => 'bad' }, retry => { max_attempts => 2, initial => 0.02 } } ],
		edges => edges('do>bad') },
	fail => { nodes => [ effect('first', price => 'step'), { key => 'bad', kind => 'sql', function => 'app.boom' } ], edges => edges('first>bad') },
	keep => {
		context => { shared => { log => { conflict => 'append', default => [] } } },
		nodes => [ effect('e1', writes => { shared => { log => 'e1' } }, artifact => { type => 'result', name => 'r', data => { n => 1 } }),
			effect('e2', writes => { shared => { log => 'e2' } }), { key => 'out', kind => 'transform', output => '{{ shared.log }}' } ],
		edges => edges('e1>e2', 'e2>out') },
	# Costs more than it was thought to: its hold is made larger.
	extend => { nodes => [ effect('e1', price => { name => 'step', quantity => '{{ output.n }}', estimate => 1 }), effect('e2', price => 'step') ], edges => edges('e1>e2') },
	park => { nodes => [ effect('e1') ] },
	parkcall => { nodes => [ { key => 'get', kind => 'http', url => "$http/ok?task={{ task.id }}", %retry } ] },
	patience => {
		nodes => [ effect('e1', price => 'step'), { key => 'w', kind => 'wait', signal => 'never' }, effect('after', price => 'step') ], edges => edges('e1>w', 'w>after') },
	# Each in the engine's own way: a stream, a program, work that somebody outside does (app.drive), and a loop of a model's calls and tools, one of which needs an approval.
	model => {
		nodes => [ { key => 'say', kind => 'ai_model', model => 'words', prompt => 'two words', stream => JSON::PP::true, price => 'tokens', %retry }, effect('after') ],
		edges => edges('say>after') },
	cli => {
		nodes => [ { key => 'run', kind => 'cli', program => 'cat', stdin => { n => 1 }, price => 'step', %retry }, effect('after') ], edges => edges('run>after') },
	worker => {
		nodes => [ { key => 'out', kind => 'worker', queue => 'q', lease => '2 s', price => 'step', %retry }, effect('after') ], edges => edges('out>after') },
	agent => {
		nodes => [ { key => 'bot', kind => 'agent', model => 'talker', prompt => 'Do it.', price => 'tokens', %retry, tools => [ map {
			{ name => $_, description => "to $_", node => { kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => $_, n => 7 }, price => 'step', %retry } } } qw(act pay) ] },
			effect('after') ],
		edges => edges('bot>after') },
	thumb => { nodes => [ effect('e1', price => 'step') ] },
	tick => { nodes => [ effect('e1') ] },
);
my @mix = qw(chain map join call nap signal ask child undo fail keep extend park parkcall patience asset later many model cli worker agent);

$node->sql(<<'SQL');
SELECT goya.top_up(1000000000000, 'start', 'default') \g /dev/null
SELECT goya.set_price('step', 1000000) \g /dev/null
SELECT goya.set_price('call', 3000000) \g /dev/null
SELECT goya.set_price('tokens', 2, 'token_in'), goya.set_price('tokens', 5, 'token_out') \g /dev/null
SELECT goya.create_program('cat', '/bin/cat', tenants => NULL) \g /dev/null
SELECT goya.set_tool_policy('pays', 'pay', 'approve') \g /dev/null
CREATE INDEX ON app.effects (task);

-- What a task leaves in app.effects, and how it ends.
CREATE TABLE app.due (workflow text, status goya.task_status, node text, n integer);
INSERT INTO app.due VALUES
    ('chain', 'succeeded', 'e1', 1), ('chain', 'succeeded', 'e2', 1), ('chain', 'succeeded', 'e3', 1),
    ('map', 'succeeded', 'body', 5), ('map', 'succeeded', 'after', 1), ('join', 'succeeded', 'fast', 1), ('join', 'succeeded', 'both', 1),
    ('call', 'succeeded', 'before', 1), ('call', 'succeeded', 'after', 1), ('nap', 'succeeded', 'after', 1), ('signal', 'succeeded', 'after', 1),
    ('ask', 'succeeded', 'after', 1), ('child', 'succeeded', 'after', 1), ('undo', 'failed', 'do', 1), ('undo', 'failed', 'undo', 1),
    ('fail', 'failed', 'first', 1), ('keep', 'succeeded', 'e1', 1), ('keep', 'succeeded', 'e2', 1), ('extend', 'succeeded', 'e1', 1),
    ('extend', 'succeeded', 'e2', 1), ('park', 'succeeded', 'e1', 1), ('parkcall', 'succeeded', NULL, 0), ('patience', 'cancelled', 'e1', 1), ('patience again', 'succeeded', 'after', 1),
    ('thumb', 'succeeded', 'e1', 1), ('tick', 'succeeded', 'e1', 1), ('model', 'succeeded', 'after', 1), ('cli', 'succeeded', 'after', 1),
    ('worker', 'succeeded', 'after', 1), ('agent', 'succeeded', 'act', 1), ('agent', 'succeeded', 'pay', 1), ('agent', 'succeeded', 'after', 1);

-- The tasks of patience are cancelled and retried: the second one does the rest.
CREATE VIEW app.tasks AS
    SELECT t.*, CASE WHEN w.name = 'patience' AND t.parent_task_id IS NOT NULL THEN 'patience again' ELSE w.name END AS workflow
    FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id;

-- What has to be done from outside for tasks to end; each in a transaction of its own, and again until it has happened.
CREATE PROCEDURE app.drive(seconds float8, INOUT open integer) LANGUAGE plpgsql AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + make_interval(secs => seconds);
    work record;
BEGIN
    LOOP
        PERFORM goya.signal(t.id, 'go') FROM app.tasks t
        WHERE t.workflow = 'signal' AND t.finished_at IS NULL AND NOT EXISTS (SELECT FROM goya_private.signals s WHERE s.task_id = t.id);
        COMMIT;
        PERFORM goya.approve(a.task_id, a.node, item => a.item) FROM goya.approvals a WHERE a.status = 'pending';
        COMMIT;
        -- Claimed in one transaction, done in the next, by one process or another.
        PERFORM goya.claim_work('q', 'somebody', 10);
        COMMIT;
        FOR work IN SELECT w.token FROM goya_private.work w WHERE w.worker = 'somebody' LOOP
            PERFORM goya.complete_work(work.token, '"done"');
        END LOOP;
        COMMIT;
        PERFORM goya.cancel(t.id) FROM app.tasks t WHERE t.workflow = 'patience' AND t.status = 'waiting';
        COMMIT;
        PERFORM goya.retry(t.id) FROM app.tasks t
        WHERE t.workflow = 'patience' AND t.status = 'cancelled' AND NOT EXISTS (SELECT FROM goya.tasks r WHERE r.parent_task_id = t.id);
        COMMIT;
        PERFORM goya.signal(t.id, 'never') FROM app.tasks t
        WHERE t.workflow = 'patience again' AND t.status = 'waiting' AND NOT EXISTS (SELECT FROM goya_private.signals s WHERE s.task_id = t.id);
        COMMIT;
        PERFORM goya.resume(t.id) FROM app.tasks t WHERE t.paused AND EXISTS (SELECT FROM goya_private.parked p WHERE p.task_id = t.id);
        COMMIT;
        open := (SELECT count(*) FROM goya.tasks t WHERE t.finished_at IS NULL) + (SELECT count(*) FROM goya_private.event_queue)
            + (SELECT count(*) FROM app.tasks t WHERE t.workflow = 'patience' AND NOT EXISTS (SELECT FROM goya.tasks r WHERE r.parent_task_id = t.id));
        EXIT WHEN open = 0 OR clock_timestamp() > deadline;
        PERFORM pg_sleep(0.02);
        COMMIT;
    END LOOP;
END;
$$;

-- Everything that is not as it must be, when all has ended; keys: how many tasks were asked for.
CREATE FUNCTION app.wrong(keys integer) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT 'check: ' || c.code || ' ' || c.subject || ' ' || c.detail FROM goya.check() c
    UNION ALL SELECT format('end: %s %s is %s %s', t.workflow, t.id, t.status, t.error) FROM app.tasks t
        WHERE NOT EXISTS (SELECT FROM app.due d WHERE d.workflow = t.workflow AND d.status = t.status)
    UNION ALL SELECT format('effects: %s %s has %s of %s at %s', t.workflow, t.id, coalesce(s.n, 0), d.n, d.node)
        FROM app.tasks t JOIN app.due d ON d.workflow = t.workflow
        LEFT JOIN (SELECT e.task, e.node, count(*) AS n, count(DISTINCT coalesce(e.item, 0)) AS items FROM app.effects e GROUP BY 1, 2) s ON s.task = t.id AND s.node = d.node
        WHERE d.n <> coalesce(s.n, 0) OR (d.n > 1 AND s.items <> d.n)
    UNION ALL SELECT format('effect that nobody asked for: %s', e) FROM app.effects e
        WHERE NOT EXISTS (SELECT FROM app.tasks t JOIN app.due d ON d.workflow = t.workflow WHERE t.id = e.task AND d.node = e.node)
    UNION ALL SELECT format('attempts: bad of %s ran %s times', t.id, count(*)) FROM app.tasks t JOIN goya.node_runs r ON r.task_id = t.id AND r.node = 'bad'
        WHERE t.workflow = 'undo' GROUP BY t.id HAVING count(*) <> 2
    UNION ALL SELECT format('context: %s of %s', t.output, t.id) FROM app.tasks t WHERE t.workflow = 'keep' AND t.output <> '["e1", "e2"]'
    UNION ALL SELECT format('artifacts: %s of %s', count(a.id), t.id) FROM app.tasks t LEFT JOIN goya.artifacts a ON a.task_id = t.id
        WHERE t.workflow = 'keep' GROUP BY t.id HAVING count(a.id) <> 1
    -- Money: what succeeded and has a price was captured once, and nothing else.
    UNION ALL SELECT format('captures: %s is %s, not %s; failed: %s', coalesce(due.task_id, u.task_id), u.cost, due.cost, (SELECT string_agg(concat_ws(' ', r.node, r.attempt, r.error), ', ')
            FROM goya.node_runs r WHERE r.task_id = coalesce(due.task_id, u.task_id) AND r.status = 'failed'))
        FROM (SELECT r.task_id, sum(CASE WHEN t.workflow = 'extend' AND r.node = 'e1' THEN 7000000 WHEN r.node = 'get' THEN 3000000
                                           WHEN r.node = 'say' THEN 20 WHEN r.node = 'bot.model' THEN 35 ELSE 1000000 END) AS cost
              FROM goya.node_runs r JOIN app.tasks t ON t.id = r.task_id
              WHERE r.status IN ('succeeded', 'compensated') AND (t.workflow, r.node) IN (('chain', 'e1'), ('chain', 'e2'), ('chain', 'e3'), ('map', 'm.item'),
                    ('call', 'get'), ('undo', 'do'), ('fail', 'first'), ('extend', 'e1'), ('extend', 'e2'), ('patience', 'e1'), ('patience again', 'after'), ('thumb', 'e1'),
                    ('model', 'say'), ('cli', 'run'), ('worker', 'out'), ('agent', 'bot.model'), ('agent', 'bot.act'), ('agent', 'bot.pay'))
              GROUP BY 1) due
        FULL JOIN (SELECT task_id, sum(cost) AS cost FROM goya.usage_records GROUP BY 1) u ON u.task_id = due.task_id WHERE u.cost IS DISTINCT FROM due.cost
    UNION ALL SELECT format('hold of %s is %s', h.task_id, h.status) FROM goya.holds h WHERE h.status <> 'settled'
    UNION ALL SELECT format('wallet: %s + %s, used %s', w.balance, w.frozen, (SELECT sum(cost) FROM goya.usage_records)) FROM goya.wallets w
        WHERE w.frozen <> 0 OR w.balance <> 1000000000000 - coalesce((SELECT sum(cost) FROM goya.usage_records), 0)
    -- Submitted once, fired once.
    UNION ALL SELECT format('keys: %s tasks for %s keys', count(*), wrong.keys) FROM goya.tasks t WHERE t.idempotency_key IS NOT NULL HAVING count(*) <> wrong.keys
    UNION ALL SELECT format('asset %s has started %s tasks', a.name, count(t.id)) FROM goya.assets a LEFT JOIN goya.tasks t ON t.asset_id = a.id AND t.trigger_id IS NOT NULL
        GROUP BY a.id, a.name HAVING count(t.id) <> 1
    UNION ALL SELECT format('slot %s of %s tasks', t.trigger ->> 'slot', count(*)) FROM app.tasks t WHERE t.workflow = 'tick' AND t.trigger ->> 'slot' IS NOT NULL
        GROUP BY t.trigger ->> 'slot' HAVING count(*) <> 1
    UNION ALL SELECT 'left in the queue: ' || q::text FROM goya_private.ready q
    UNION ALL SELECT 'left among timers: ' || q::text FROM goya_private.timers q JOIN goya.tasks t ON t.id = q.task_id WHERE t.finished_at IS NULL
    LIMIT 12
$$;
SQL
put_script($agents, 'talker', [ { calls => [ [ 'act', {} ] ] }, { calls => [ [ 'pay', {} ] ] }, { text => 'Done.' } ]);
$node->sql("SELECT goya.create_model('words', '$models/echo/v1', price => 'tokens'), goya.create_model('talker', '$agents/talker/v1', capabilities => '{chat,tools}', price => 'tokens')", role => 'studio');
create_workflow($node, $_, $definitions{$_}) foreach qw(chain), grep { $_ ne 'chain' } sort keys %definitions;
$node->sql(<<'SQL', role => 'studio');
SELECT goya.create_trigger('thumb', 'new', 'event', event => 'asset_new') \g /dev/null
SELECT goya.create_trigger('tick', 'clock', 'interval', every => '1 s', enabled => false) \g /dev/null
SELECT goya.create_trigger('tick', 'ear', 'notify', channel => 'crash') \g /dev/null
SQL

my ($keys, $round, $setting, %fired) = (0, 0, '');

# What starts one piece of work; to be said again until it has been heard. How many keys it takes.
sub submission
{
	my ($work, $key) = @_;

	return (0, "SELECT goya.enable_trigger('tick', 'clock')") if $work eq 'interval';
	return (0, "NOTIFY crash, '$key'") if $work eq 'notify';
	return (0, "INSERT INTO goya.assets (name, media_type) SELECT '$key', 'video' WHERE NOT EXISTS (SELECT FROM goya.assets WHERE name = '$key')") if $work eq 'asset';
	return (1, "SELECT goya.run('chain', idempotency_key => '$key', run_at => clock_timestamp() + interval '300 ms')") if $work eq 'later';
	return (3, "SELECT goya.run_many('chain', '[{}, {}, {}]', idempotency_keys => ARRAY['$key.1', '$key.2', '$key.3'])") if $work eq 'many';
	return (1, "DO \$\$ BEGIN IF NOT EXISTS (SELECT FROM goya.tasks WHERE idempotency_key = '$key') THEN PERFORM goya.pause(goya.run('$work', idempotency_key => '$key')); END IF; END \$\$")
	  if $work =~ /^park/;
	return (1, "SELECT goya.run('$work', idempotency_key => '$key')");
}

# One session that may die of it: true when it went well.
sub attempt
{
	my ($statements, $role) = @_;
	my ($status, $out, $err);

	# psql that has lost its server may be gone before it has read all of them, and then writing to it throws.
	return unless eval {
		($status, $out, $err) = $node->psql($GoyaNode::DATABASE, ($role ? "SET ROLE $role;\n" : '') . $statements, on_error_stop => 1, timeout => 60);
		1;
	};
	return $status == 0 ? $out // '' : undef;
}

# drive_all: until everything has ended; false when that takes too long.
sub drive_all
{
	my ($seconds) = @_;

	return defined until_true(sub { (attempt('CALL app.drive(2, 0)') // 'dead') eq '0' }, $seconds);
}

sub set_points
{
	my ($value) = @_;
	my $offset = log_size($node);

	return 1 if $value eq $setting;
	$setting = $value;
	until_true(sub { defined attempt("ALTER SYSTEM SET goya.crash_points = '$value';\nSELECT pg_reload_conf()") }, 30);
	return defined until_true(sub { log_since($node, $offset) =~ /crash points: \Q$value\E\n/ }, 10);
}

# wake_up(OFFSET): a process that waits until a point pauses, asks goya.check() what is to be seen then, and ends the pause.
sub wake_up
{
	my ($offset) = @_;
	my $pid = open my $answer, '-|';

	return { pid => $pid, answer => $answer } if $pid;
	my @seen = defined until_true(sub { log_since($node, $offset) =~ /crash point \S+ pause\n/ }, 60) ? split /\n/, attempt('SELECT * FROM goya.check()') // 'no answer' : 'nothing paused';
	$setting = 'paused';
	print join "\n", @seen, set_points('') ? () : 'the pause was not ended';
	close STDOUT;
	POSIX::_exit(0);
}

sub woken
{
	my ($waker) = @_;
	my $answer = $waker->{answer};
	my @seen = map { "while paused: $_" } <$answer>;

	close $answer;
	$setting = '';
	return @seen;
}

# unheard(ROUND, N): notifications of a round that made no task. A hint may be lost with its process, never by an error.
sub unheard
{
	my ($this, $n) = @_;
	my $heard = "SELECT count(DISTINCT t.trigger ->> 'payload') FROM app.tasks t WHERE t.workflow = 'tick' AND t.trigger ->> 'payload' LIKE '$this.%.notify'";

	return defined $node->wait_until($heard, $n, 10) && drive_all(10) ? '' : "$n notifications were sent, not all have made a task";
}

# fire(NAME, AREA, [POINT, ACTION, HIT]…): arms the points, works until all have fired, and looks at everything.

sub fire
{
	my ($name, $area, @wanted) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	my $offset = log_size($node);
	my @calls_before = http_log($http);
	my @left = map { "$_->[0]: $_->[1]" } @wanted;
	my $kills = grep { $_->[1] eq 'kill' } @wanted;
	my $waker = (grep { $_->[1] eq 'pause' } @wanted) ? wake_up($offset) : undef;
	my ($started, @problems) = (0);

	unshift @left, 'call.started: kill' if $area->{before} && $kills++ < 1e9;
	push @problems, 'the setting was not taken' if !set_points(join ', ', ($area->{before} // ()), map { "$_->[0]=$_->[1]\@$_->[2]" } @wanted);
	$round++;
	my $armed = time;
	for (my $n = 1; @left || $n == 1; $n++)
	{
		$started = $n;
		# A process that the postmaster ends in the moment between a point's mark and its line has fired without a word: again, then.
		if (time - $armed > 20)
		{
			my %left = map { $_ => 1 } @left;

			set_points('');
			set_points(join ', ', map { "$_->[0]=$_->[1]\@$_->[2]" } grep { $left{"$_->[0]: $_->[1]"} } @wanted);
			$armed = time;
		}
		if (time - $start > 60)
		{
			push @problems, 'not reached: ' . join(', ', @left);
			last;
		}
		# Notifications are heard by who listens.
		until_true(sub { (attempt(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'goya listener' AND state = 'idle' AND query LIKE '%LISTEN crash%'}) // 0) > 0 }, 15)
		  if grep { $_ eq 'notify' } @{ $area->{work} };
		my @statements = map {
			my ($count, $statement) = submission($_, "$round.$n.$_");
			$keys += $count;
			$statement;
		} @{ $area->{work} };
		push @problems, 'work could not be started' if !defined until_true(sub { defined attempt(join(";\n", @statements), 'studio') }, 30);
		attempt(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type IN ('goya engine', 'goya executor')}) if $area->{restart};
		until_true(sub {
			my $log = log_since($node, $offset);
			my $before = @left;
			@left = grep { $log !~ /crash point \Q$_\E\n/ } @left;
			return 1 if !@left || (attempt('CALL app.drive(0.3, 0)') // 'dead') eq '0';
			return 0;
		}, 20);
		my $log = log_since($node, $offset);
		@left = grep { $log !~ /crash point \Q$_\E\n/ } @left;
	}
	push @problems, woken($waker) if $waker;
	push @problems, 'the setting was not taken back' if !set_points('');
	attempt(q{SELECT goya.disable_trigger('tick', 'clock')}, 'studio') if grep { $_ eq 'interval' } @{ $area->{work} };
	push @problems, 'not all has ended: ' . join("\n", map { $_ // 'no answer' } attempt(q{SELECT t.workflow, t.status, t.active, t.waiting, d.* FROM app.tasks t, goya.diagnose(t.id) d WHERE t.finished_at IS NULL LIMIT 8}))
	  if !drive_all(45);
	push @problems, unheard($round, $started) if grep { $_->[0] eq 'notes.fired' && $_->[1] =~ /error|pause/ } @wanted;
	# What woke somebody may stand in the queue for a moment after the last task has ended.
	$node->wait_until('SELECT count(*) FROM goya_private.ready', 0, 10);
	push @problems, $node->sql("SELECT * FROM app.wrong($keys)");

	my $log = log_since($node, $offset);
	my $restarts = () = $log =~ /all server processes terminated; reinitializing/g;
	# Two may be killed at nearly the same time.
	push @problems, "$restarts restarts of the cluster, $kills processes were killed" if $restarts > $kills || ($kills > 0 && $restarts == 0);
	push @problems, 'a process failed by itself' if grep { !/was terminated by signal 9: Killed/ } $log =~ /^.*(?:PANIC:|TRAP:|was terminated by signal).*$/mg;
	push @problems, wrong_calls(scalar @calls_before, $log);
	@problems = grep { $_ ne '' } @problems;
	is(join("\n", @problems), '', sprintf '%s: %s (%.1f s)', $name, join(', ', map { "$_->[0] $_->[1]\@$_->[2]" } @wanted), time - $start)
	  or diag(join '', grep { /crash point|ERROR|FATAL|WARNING|failed|took over/ } map { "$_\n" } split /\n/, $log);
	$fired{$_}++ foreach map { "$_->[0] $_->[1]" } @wanted;
	return;
}

# The server's own log: a call was made twice only if a new engine took it over, and with the same key.
sub wrong_calls
{
	my ($from, $log) = @_;
	my @calls = http_log($http);
	my ($taken, $again, %keys) = (0, 0);

	$taken += $_ foreach $log =~ /goya took over (\d+) outside calls/g;
	push @{ $keys{ $_->{query}{task} } }, $_->{idempotency_key} // 'none' foreach @calls[$from .. $#calls];
	foreach my $task (keys %keys)
	{
		my ($key, @more) = @{ $keys{$task} };

		return "calls of $task with other keys" if grep { $_ ne $key } @more;
		$again += @more;
	}
	return $again > $taken ? "$again calls were repeated, $taken were in flight" : '';
}

# ---- rounds ----

sub actions { my ($point) = @_; return $committed{$point} ? qw(kill pause) : qw(kill error fatal pause); }

ok(drive_all(30), 'the server is ready');
# Processes know their way by now, and every statement is prepared: all kinds of work once, without a fault.
fire('no fault', { work => \@mix });

if ($all)
{
	my $mix = { work => [ @mix, qw(interval notify) ] };

	my $only = $ENV{GOYA_CRASH_ONLY} // '.';

	foreach my $case (shuffle map { my $point = $_; map { [ $point, $_, 1 ], $area_of{$point}{before} ? () : [ $point, $_, 2 + int rand 3 ] } actions($point) } grep { /$only/ } @points)
	{
		fire('every', { %$mix, %{ $area_of{ $case->[0] } }{qw(before restart)} }, $case);
	}
}
else
{
	foreach my $area (@areas)
	{
		my @mine = grep { $area_of{$_} == $area } @points;
		fire($area->{name}, $area, map { [ $_, 'kill', $area->{restart} || $area->{before} ? 1 : 1 + int rand 2 ] } shuffle @mine);
	}
	is(join(' ', grep { !$fired{"$_ kill"} } @points), '', 'every point has been killed');

	# As many others as there is time for: six at least, and an error that had once lost a notification.
	my @others = ([ 'notes.fired', 'error' ], shuffle map { my $point = $_; map { [ $point, $_ ] } grep { $_ ne 'kill' } actions($point) } @points);
	my $done = 0;
	foreach my $other (@others)
	{
		my ($point, $action) = @$other;

		last if $done >= 6 && time - $began > 75;
		fire('chosen', $area_of{$point}, [ $point, $action, 1 ]);
		$done++;
	}
}
note(sprintf '%d rounds, %.0f s, GOYA_SEED=%d', $round, time - $began, $seed);
$node->stop('fast');
done_testing();
