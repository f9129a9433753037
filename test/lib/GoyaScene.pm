# GoyaScene.pm: three tenants, workflows of every kind, and what must be left when all their tasks have ended, whatever was killed meanwhile.
#
#   my $scene = create_scene($node, http => $address, seed => 42);
#   my $batch = scene_batch($scene, 17);         # the same for the same seed and number: tenant, mode, items
#   verify_scene($node, $scene, \@ledger, outages => [[from, to], …]);
#
# Decided: what must be there is written once, as rows (app.due, app.priced) and as an end for each kind, and compared set by set with what is there.
# Effects go to a table without a unique key, calls are counted by the HTTP server's own log. A key says which batch and item it is, so that
# whoever repeats a submission repeats exactly that.
# Must hold: every kind ends by itself once the clients have done their part; a kind that may end in two ways says so in least and most.
package GoyaScene;

use strict;
use warnings;

use Digest::MD5 'md5_hex';
use Exporter 'import';
use GoyaWork;
use JSON::PP ();
use Test::More;
use Time::HiRes 'time';

our @EXPORT = qw(create_scene scene_batch close_scene verify_scene none_is_left);

our $CONF = $GoyaWork::CONF . <<'CONF';
max_wal_size = 96MB
checkpoint_timeout = 30s
autovacuum_naptime = 2s
goya.cli = on
log_autovacuum_min_duration = -1
CONF

my @TENANTS = qw(red green blue);
my %PRICE = (step => 1_000_000, call => 3_000_000);
my $MONEY = 1_000_000_000_000_000;

# A kind of task, how often it comes of 100, what its client does later.
my @KINDS = (
	[ chain => 12 ], [ fan => 7 ], [ any => 6 ], [ map => 6 ], [ call => 10 ], [ flaky => 4 ], [ nap => 6 ], [ later => 3 ], [ child => 5 ], [ kids => 2 ],
	[ spawn => 2 ], [ undo => 4 ], [ undocall => 2 ], [ slow => 3 ], [ context => 3 ], [ shot => 3 ], [ asset => 4 ],
	[ signal => 4, 'signal' ], [ ask => 2, 'approve' ], [ held => 2, 'resume' ], [ stop => 1, 'cancel' ], [ stopcall => 1, 'cancel' ], [ stopkid => 1, 'cancel' ],
	[ model => 2 ], [ agent => 2 ], [ program => 1 ], [ work => 2, 'work' ],
);
my %LATER = map { $_->[0] => $_->[2] } @KINDS;
my @ALIKE = qw(chain fan any map call nap child kids asset);		# kinds that run_many starts

sub effect { my ($key, @more) = @_; return { key => $key, kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => $key }, @more }; }

sub line { my @keys = @_; return [ map { { from => $keys[ $_ - 1 ], to => $keys[$_] } } 1 .. $#keys ]; }

sub definitions
{
	my ($http) = @_;
	my $call = sub { my ($key, $path, @more) = @_; return { key => $key, kind => 'http', method => 'POST', url => "$http$path&task={{ task.id }}", price => 'call', @more }; };
	my $undo = { kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'undo' } };

	return (
		leaf => { nodes => [ effect('e1', price => 'step'), effect('e2') ], edges => line(qw(e1 e2)) },
		chain => { nodes => [ map { effect("e$_", price => 'step') } 1 .. 4 ], edges => line(qw(e1 e2 e3 e4)) },
		fan => {
			nodes => [ map { effect($_, price => 'step') } qw(a b1 b2 b3 z) ],
			edges => [ map { ({ from => 'a', to => $_ }, { from => $_, to => 'z' }) } qw(b1 b2 b3) ],
		},
		any => {
			nodes => [ effect('q'), { key => 's', kind => 'sleep', duration => 0.05 }, effect('r'), effect('after', join => 'any') ],
			edges => [ { from => 's', to => 'r' }, { from => 'q', to => 'after' }, { from => 'r', to => 'after' } ],
		},
		map => {
			nodes => [
				{ key => 'm', kind => 'map', over => [ 0 .. 5 ], max_parallel => 2, node => { key => 'body', kind => 'sql', function => 'app.effect', price => 'step',
					input => { task => '{{ task.id }}', node => 'body', item => '{{ index }}' } } },
				effect('after'),
			],
			edges => line(qw(m after)),
		},
		call => { nodes => [ effect('before'), $call->('get', '/delay?ms={{ input.ms }}'), effect('after') ], edges => line(qw(before get after)) },
		flaky => {
			nodes => [ $call->('get', '/flaky?key={{ task.id }}&fail=1', retry => { max_attempts => 5, initial => 0.05, backoff => 'fixed' }), effect('after') ],
			edges => line(qw(get after)),
		},
		nap => { nodes => [ { key => 's', kind => 'sleep', duration => 0.3 }, effect('after') ], edges => line(qw(s after)) },
		later => { nodes => [ effect('e1') ] },
		child => { nodes => [ { key => 'c', kind => 'workflow', workflow => 'leaf' }, effect('after') ], edges => line(qw(c after)) },
		kids => { nodes => [ { key => 'm', kind => 'map', over => [ 0 .. 2 ], workflow => 'leaf' }, effect('after') ], edges => line(qw(m after)) },
		spawn => { nodes => [ { key => 'go', kind => 'sql', function => 'app.spawn', input => { task => '{{ task.id }}' } }, effect('after') ], edges => line(qw(go after)) },
		undo => {
			nodes => [
				effect('do', price => 'step', compensate => $undo),
				{ key => 'bad', kind => 'sql', function => 'app.effect_boom', input => { task => '{{ task.id }}', node => 'bad' },
					retry => { max_attempts => 3, initial => 0.05, backoff => 'fixed' } },
			],
			edges => line(qw(do bad)),
		},
		undocall => {
			nodes => [
				effect('do', compensate => { kind => 'http', method => 'POST', url => "$http/ok?undo={{ task.id }}&task={{ task.id }}" }),
				{ key => 'bad', kind => 'sql', function => 'app.effect_boom', input => { task => '{{ task.id }}', node => 'bad' } },
			],
			edges => line(qw(do bad)),
		},
		slow => { nodes => [ { key => 's', kind => 'sql', function => 'app.slow_effect', input => { task => '{{ task.id }}', node => 's' } } ] },
		context => {
			context => { shared => { log => { type => 'array', conflict => 'append' } } },
			nodes => [ map { effect($_, writes => { shared => { log => "$_ was here" } }) } qw(a b c) ],
			edges => [ { from => 'a', to => 'c' }, { from => 'b', to => 'c' } ],
		},
		shot => {
			nodes => [ effect('e', artifact => { type => 'asset', name => 'shot', data => { uri => 'file:///{{ task.id }}', media_type => 'image' } }) ],
		},
		signal => { nodes => [ effect('before'), { key => 'w', kind => 'wait', signal => 'go' }, effect('after') ], edges => line(qw(before w after)),
			output => '{{ nodes.w.output }}' },
		ask => { nodes => [ { key => 'ask', kind => 'approval', message => 'go on?' }, effect('after') ], edges => line(qw(ask after)) },
		held => { nodes => [ effect('e1'), effect('after') ], edges => line(qw(e1 after)) },
		stop => { nodes => [ effect('before', price => 'step'), { key => 'w', kind => 'wait', signal => 'never' }, effect('after') ], edges => line(qw(before w after)) },
		stopcall => { nodes => [ effect('before'), $call->('slow', '/delay?ms=600000'), effect('after') ], edges => line(qw(before slow after)) },
		stopkid => { nodes => [ { key => 'c', kind => 'workflow', workflow => 'stop' }, effect('after') ], edges => line(qw(c after)) },
		model => {
			nodes => [ { key => 'say', kind => 'ai_model', model => 'words', prompt => 'two words', stream => JSON::PP::true, price => 'call' }, effect('after') ],
			edges => line(qw(say after)) },
		program => { nodes => [ { key => 'run', kind => 'cli', program => 'cat', stdin => { n => 1 }, price => 'step' }, effect('after') ], edges => line(qw(run after)) },
		work => { nodes => [ { key => 'out', kind => 'worker', queue => 'q', lease => '5 s', price => 'step' }, effect('after') ], edges => line(qw(out after)) },
		agent => {
			nodes => [ { key => 'bot', kind => 'agent', model => 'talker', prompt => 'Do it.', price => 'call', tools => [
				{ name => 'act', description => 'acts', node => { kind => 'sql', function => 'app.effect', price => 'step',
					input => { task => '{{ task.id }}', node => 'act', item => '{{ item.i }}' } } } ] },
				effect('after') ],
			edges => line(qw(bot after)) },
		on_video => { nodes => [ effect('e1', price => 'step'), effect('e2') ], edges => line(qw(e1 e2)) },
		on_image => { nodes => [ effect('e1') ] },
		tick => { nodes => [ effect('e1') ] },
	);
}

# What a task of each workflow leaves in app.effects: node => times, or node => [least, most].
my %EFFECTS = (
	leaf => { e1 => 1, e2 => 1 }, chain => { map { ("e$_" => 1) } 1 .. 4 }, fan => { map { ($_ => 1) } qw(a b1 b2 b3 z) },
	any => { q => 1, r => 1, after => 1 }, map => { body => 6, after => 1 }, call => { before => 1, after => 1 }, flaky => { after => 1 }, nap => { after => 1 },
	later => { e1 => 1 }, child => { after => 1 }, kids => { after => 1 }, spawn => { after => 1 }, undo => { do => 1, undo => 1 }, undocall => { do => 1 },
	slow => { s => 1 }, context => { a => 1, b => 1, c => 1 }, shot => { e => 1 }, signal => { before => 1, after => 1 }, ask => { after => 1 },
	held => { e1 => 1, after => 1 }, stop => { before => [ 0, 1 ] }, stopcall => { before => [ 0, 1 ] }, stopkid => {}, on_video => { e1 => 1, e2 => 1 },
	model => { after => 1 }, program => { after => 1 }, work => { after => 1 }, agent => { act => 3, after => 1 },
	on_image => { e1 => 1 }, tick => { e1 => 1 },
);
my %END = (undo => 'failed', undocall => 'failed', stop => 'cancelled', stopcall => 'cancelled', stopkid => 'cancelled');

# create_scene(NODE, http => ADDRESS, seed => N, size => items of a batch, ticks => 1: an interval trigger).
sub create_scene
{
	my ($node, %o) = @_;
	my %scene = (size => 10, seed => 1, ticks => 1, %o, tenants => \@TENANTS);
	my %definition = definitions($o{http});

	$node->sql(<<'SQL');
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE TABLE app.effects (task uuid, node text, item integer, pid integer DEFAULT pg_backend_pid());
CREATE TABLE app.sent (task uuid PRIMARY KEY);
CREATE TABLE app.due (workflow text, node text, least integer, most integer);
CREATE TABLE app.ends (workflow text, status text);
CREATE TABLE app.priced (workflow text, node text, amount bigint);
GRANT SELECT, INSERT ON app.effects, app.sent TO PUBLIC;
CREATE FUNCTION app.effect(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO app.effects (task, node, item) VALUES ((input ->> 'task')::uuid, input ->> 'node', (input ->> 'item')::integer) RETURNING input;
$$;
CREATE FUNCTION app.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION app.slow_effect(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT pg_sleep(0.02); SELECT app.effect(input); $$;
CREATE FUNCTION app.effect_boom(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.effect(input);
    RAISE EXCEPTION 'boom after an effect';
END $$;
-- A task started by a node's own SQL: one, if the node has run once.
CREATE FUNCTION app.spawn(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(goya.run('leaf', jsonb_build_object('by', input ->> 'task'))) $$;
SQL
	my ($models, $agents) = map { script_server($_) } qw(scripted_model.py scripted_agent.py);
	put_script($agents, 'talker', [ { calls => [ map { [ 'act', { i => $_ } ] } 1, 2 ] }, { calls => [ [ 'act', { i => 3 } ] ] }, { text => 'Done.' } ]);
	$node->sql(q{SELECT goya.create_program('cat', '/bin/cat', tenants => NULL)});
	$node->sql(join "\n", map { sprintf "SELECT goya.set_price('%s', %d);", $_, $PRICE{$_} } sort keys %PRICE);
	foreach my $tenant (@TENANTS)
	{
		$node->sql(<<"SQL");
CREATE ROLE $tenant LOGIN;
GRANT goya_user TO $tenant;
SELECT goya.create_tenant('$tenant', max_priority => 100);
SELECT goya.add_member('$tenant', '$tenant');
SELECT goya.top_up($MONEY, 'start', '$tenant');
SQL
		$node->sql(qq{SELECT goya.create_model('words', '$models/echo/v1'), goya.create_model('talker', '$agents/talker/v1', capabilities => '{chat,tools}')}, role => $tenant);
		create_workflow($node, $_, $definition{$_}, role => $tenant) foreach sort { ($b eq 'leaf' || $b eq 'stop') <=> ($a eq 'leaf' || $a eq 'stop') || $a cmp $b } keys %definition;
		$node->sql(<<'SQL', role => $tenant);
SELECT goya.create_trigger('on_video', 'videos', 'event', event => 'asset_new', filter => '$.asset.media_type == "video"');
SELECT goya.create_trigger('on_image', 'images', 'event', event => 'asset_done', filter => '$.asset.media_type == "image"');
SQL
	}
	$node->sql(q{SELECT goya.create_trigger('tick', 'ticks', 'interval', every => '1 second', missed => 'all')}, role => 'red') if $scene{ticks};
	$node->sql(q{INSERT INTO app.due VALUES } . join ', ', map { my $w = $_; map {
		my $n = $EFFECTS{$w}{$_};
		sprintf "('%s', '%s', %d, %d)", $w, $_, ref $n ? @$n : ($n, $n);
	} sort keys %{ $EFFECTS{$w} } } sort keys %EFFECTS);
	$node->sql(q{INSERT INTO app.ends VALUES } . join ', ', map { sprintf "('%s', '%s')", $_, $END{$_} // 'succeeded' } sort keys %EFFECTS);
	$node->sql(q{INSERT INTO app.priced VALUES } . join ', ', map { my $w = $_; map { priced($w, $_) } @{ $definition{$w}{nodes} } } sort keys %definition);
	return \%scene;
}

sub priced
{
	my ($workflow, $spec) = @_;

	$spec = $spec->{node} if ref $spec->{node};
	# An agent's runs are its model's and its tools'.
	my @runs = $spec->{tools} ? ([ "$spec->{key}.model", $spec ], map { [ "$spec->{key}.$_->{name}", $_ ] } @{ $spec->{tools} }) : [ $spec->{key}, $spec ];
	return map { sprintf "('%s', '%s', %d)", $workflow, $_->[0], $PRICE{ $_->[1]{price} } } grep { defined $_->[1]{price} } map { $_->[1]{node} ? [ $_->[0], $_->[1]{node} ] : $_ } @runs;
}

# ---- what clients submit ----

sub pick
{
	my $dice = rand 100;

	foreach my $kind (@KINDS)
	{
		return $kind->[0] if ($dice -= $kind->[1]) < 0;
	}
	return 'chain';
}

sub item
{
	my ($scene, $n, $i, $kind) = @_;
	my $key = "b$n.$i";
	my %item = (key => $key, kind => $kind, later => $LATER{$kind}, input => sprintf('{"ms": %d, "key": "%s"}', 5 + rand 300, $key));

	$item{asset} = join '-', unpack 'A8A4A4A4A12', md5_hex("$scene->{seed} $key") if $kind eq 'asset';
	return \%item;
}

# scene_batch(SCENE, N): { tenant, mode => each | one | many, items }: a transaction each, one for all, or one call for all.
sub scene_batch
{
	my ($scene, $n) = @_;

	srand($scene->{seed} * 100_003 + $n);
	my $tenant = $TENANTS[ rand @TENANTS ];
	my $mode = (qw(each each each one one one one many many many))[ rand 10 ];
	my $alike = $ALIKE[ rand @ALIKE ];
	return { n => $n, tenant => $tenant, mode => $mode, items => [ map { item($scene, $n, $_, $mode eq 'many' ? $alike : pick()) } 1 .. $scene->{size} ] };
}

# close_scene(NODE): nothing starts by itself any more.
sub close_scene
{
	my ($node, $scene) = @_;

	$node->sql(q{SELECT goya.disable_trigger('tick', 'ticks')}, role => 'red') if $scene->{ticks};
	return;
}

# ---- what must be there ----

# empty(NODE, NAME, QUERY): one assertion, that the query gives no row; at most ten are shown. Whole tables are joined: never row by row.
sub empty
{
	my ($node, $name, $query) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 2;

	return is($node->sql("SET enable_nestloop = off; SET work_mem = '64MB'; WITH found AS MATERIALIZED ($query) SELECT * FROM found LIMIT 10"), '', $name);
}

# none_is_left(NODE, NAME): nothing of the queue and its kin is there.
sub none_is_left
{
	my ($node, $name) = @_;
	my @tables = map { "goya_private.$_" } qw(ready parked joins maps cancel_requests event_queue work);
	# Leases that have ended in time are still timed: that is nobody's work.
	my $timers = "SELECT 'timers', count(*) FROM goya_private.timers q JOIN goya.tasks t ON t.id = q.task_id WHERE t.finished_at IS NULL HAVING count(*) > 0";

	return empty($node, $name, join ' UNION ALL ', $timers, map { "SELECT '$_', count(*) FROM $_ HAVING count(*) > 0" } @tables);
}

# verify_scene(NODE, SCENE, LEDGER, outages => [[from, to], …], name => PREFIX). LEDGER: [key, id, tenant, kind] as clients were told.
sub verify_scene
{
	my ($node, $scene, $ledger, %o) = @_;
	my $name = $o{name} // '';
	my $check = sub { empty($node, "$name$_[0]", $_[1]) };

	$node->sql('CREATE TABLE IF NOT EXISTS app.told (key text, id uuid, tenant text, kind text); TRUNCATE app.told');
	for (my $i = 0; $i < @$ledger; $i += 2000)
	{
		my $to = $i + 1999 > $#$ledger ? $#$ledger : $i + 1999;
		$node->sql('INSERT INTO app.told VALUES ' . join ', ', map { sprintf "('%s', '%s', '%s', '%s')", @$_ } @$ledger[ $i .. $to ]);
	}
	$node->sql('ANALYZE');
	$node->sql(<<'SQL');
CREATE OR REPLACE VIEW app.mine AS SELECT t.*, w.name AS workflow, n.name AS tenant FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id JOIN goya.tenants n ON n.id = t.tenant_id;
SQL

	verify_submission($check);
	verify_effects($check);
	verify_money($node, $check, $name);
	verify_calls($node, $scene, $o{outages} // [], $name) if $scene->{http};
	none_is_left($node, "${name}nothing is left in the queue, timers, joins, maps, requests and events");
	is_sound($node, "${name}goya.check() is empty");
	return;
}

sub verify_submission
{
	my ($check) = @_;

	$check->('every task that a client was told of is there, once, and no other', <<'SQL');
SELECT * FROM (SELECT key, id, tenant FROM app.told WHERE kind <> 'asset') c
FULL JOIN (SELECT idempotency_key AS key, id, tenant FROM app.mine WHERE idempotency_key IS NOT NULL) s USING (key, tenant) WHERE c.id IS DISTINCT FROM s.id
SQL
	$check->('every asset of a client has fired once', <<'SQL');
SELECT c.id, count(t.id) FROM app.told c LEFT JOIN app.mine t ON t.asset_id = c.id AND t.workflow = 'on_video' WHERE c.kind = 'asset' GROUP BY 1 HAVING count(t.id) <> 1
SQL
	$check->('every image a task made is there once and has fired once', <<'SQL');
SELECT t.id, count(DISTINCT a.id), count(DISTINCT r.id), count(DISTINCT f.id) FROM app.mine t LEFT JOIN goya.artifacts r ON r.task_id = t.id LEFT JOIN goya.assets a ON a.task_id = t.id
    LEFT JOIN app.mine f ON f.asset_id = a.id AND f.workflow = 'on_image'
WHERE t.workflow = 'shot' GROUP BY 1 HAVING (count(DISTINCT a.id), count(DISTINCT r.id), count(DISTINCT f.id)) <> (1, 1, 1)
SQL
	$check->('no trigger has fired for nothing', q{SELECT t.id FROM app.mine t WHERE t.workflow IN ('on_video', 'on_image') AND NOT EXISTS (SELECT FROM goya.assets a WHERE a.id = t.asset_id)});
	$check->('every second has its tick, once', <<'SQL');
SELECT slot, next FROM (SELECT (trigger ->> 'slot')::timestamptz AS slot, lead((trigger ->> 'slot')::timestamptz) OVER (ORDER BY trigger ->> 'slot') AS next FROM app.mine WHERE workflow = 'tick') s
WHERE next - slot <> '1 second'
SQL
	$check->('every task has ended as it should', 'SELECT t.workflow, t.status, t.error, count(*) FROM app.mine t JOIN app.ends e ON e.workflow = t.workflow WHERE t.status::text <> e.status GROUP BY 1, 2, 3');
	$check->('every task has told of its end, once', <<'SQL');
SELECT t.id, t.workflow, count(e.id) FROM app.mine t LEFT JOIN goya.events e ON e.tenant_id = t.tenant_id AND e.subject_id = t.id AND e.type = 'task_completed' GROUP BY 1, 2 HAVING count(e.id) <> 1
SQL
	return;
}

sub verify_effects
{
	my ($check) = @_;

	$check->('every SQL effect is there exactly once', <<'SQL');
WITH want AS (SELECT t.id, t.workflow, d.node, d.least, d.most FROM app.mine t JOIN app.due d ON d.workflow = t.workflow),
     seen AS (SELECT task AS id, node, count(*) AS n, count(item) AS items, count(DISTINCT item) AS different FROM app.effects GROUP BY 1, 2)
SELECT id, workflow, node, least, most, n FROM want FULL JOIN seen USING (id, node) WHERE coalesce(n, 0) NOT BETWEEN coalesce(least, 0) AND coalesce(most, 0) OR items <> different
SQL
	$check->('every child task was started once', <<'SQL');
SELECT t.id, t.workflow, count(c.id) FROM app.mine t LEFT JOIN goya.tasks c ON c.parent_task_id = t.id WHERE t.workflow IN ('child', 'kids', 'stopkid') GROUP BY 1, 2
HAVING count(c.id) NOT BETWEEN CASE t.workflow WHEN 'child' THEN 1 WHEN 'kids' THEN 3 ELSE 0 END AND CASE t.workflow WHEN 'kids' THEN 3 ELSE 1 END
SQL
	$check->('every task that a node started itself was started once', <<'SQL');
SELECT t.id, count(c.id) FROM app.mine t LEFT JOIN (SELECT id, input ->> 'by' AS by FROM app.mine WHERE workflow = 'leaf') c ON c.by = t.id::text WHERE t.workflow = 'spawn' GROUP BY 1 HAVING count(c.id) <> 1
SQL
	$check->('what fails was tried three times, no more and no less', <<'SQL');
SELECT t.id, count(*) FROM app.mine t JOIN goya.node_runs r ON r.task_id = t.id AND r.node = 'bad' AND r.status = 'failed' WHERE t.workflow = 'undo' GROUP BY 1 HAVING count(*) <> 3
SQL
	$check->('every write of a context is there once', <<'SQL');
SELECT t.id, c.state FROM app.mine t LEFT JOIN goya.task_contexts c ON c.task_id = t.id WHERE t.workflow = 'context'
    AND (c.version IS DISTINCT FROM 3 OR (SELECT array_agg(v ORDER BY v) FROM jsonb_array_elements_text(c.state #> '{shared,log}') v) <> '{"a was here","b was here","c was here"}')
SQL
	$check->('every signal arrived once, with its own payload', q{SELECT id, output FROM app.mine WHERE workflow = 'signal' AND output <> to_jsonb(id::text)});
	return;
}

sub verify_money
{
	my ($node, $check, $name) = @_;

	$check->('every priced run was captured exactly once, at its price', <<'SQL');
WITH due AS (SELECT r.task_id, r.node, r.item, r.attempt, p.amount FROM app.mine t JOIN app.priced p ON p.workflow = t.workflow
             JOIN goya.node_runs r ON r.task_id = t.id AND r.node = p.node AND r.status IN ('succeeded', 'compensated'))
SELECT * FROM due d FULL JOIN (SELECT task_id, node, item, attempt, sum(cost) AS cost, count(DISTINCT unit) = count(*) AS once FROM goya.usage_records GROUP BY 1, 2, 3, 4) u
    USING (task_id, node, item, attempt) WHERE d.amount IS DISTINCT FROM u.cost OR NOT u.once
SQL
	$check->('every wallet has spent exactly that, and holds nothing', <<"SQL");
SELECT n.name, w.balance, w.frozen, u.cost FROM goya.wallets w JOIN goya.tenants n ON n.id = w.tenant_id
    LEFT JOIN (SELECT tenant_id, sum(cost) AS cost FROM goya.usage_records GROUP BY 1) u ON u.tenant_id = w.tenant_id WHERE w.frozen <> 0 OR $MONEY - w.balance <> coalesce(u.cost, 0)
SQL
	$check->('every hold is settled, and its capture is in the ledger', <<'SQL');
SELECT h.id, h.status, h.captured, c.amount FROM goya.holds h LEFT JOIN goya.wallet_entries c ON c.tenant_id = h.tenant_id AND c.seq = h.capture_seq AND c.kind = 'capture'
WHERE h.status <> 'settled' OR (h.captured > 0 AND coalesce(c.amount, 0) = 0)
SQL
	return;
}

# The HTTP server's own log: each call came, more than once only over an outage, with one key for each attempt that goya knows of.
sub verify_calls
{
	my ($node, $scene, $outages, $name) = @_;
	my (%times, %wait, @wrong, @unkeyed);
	my ($twice, $again) = (0, 0);

	foreach my $request (http_log($scene->{http}))
	{
		my $key = $request->{idempotency_key};
		if (!defined $key || index($key, "$request->{query}{task}/") != 0) { push @unkeyed, "$request->{path} " . ($key // 'without a key'); next; }
		push @{ $times{$key} }, $request->{time};
		$wait{$key} = ($request->{query}{ms} // 0) / 1000;
	}
	is("@unkeyed", '', "${name}every call had its own key");
	foreach my $key (sort keys %times)
	{
		my @at = @{ $times{$key} };
		$twice++ if @at > 1;
		$again += @at - 1;
		foreach my $i (1 .. $#at)
		{
			# In flight at the kill: it had been sent, though a busy server may read it later, and had not been answered long before: an engine may wait for locks.
			my $over = grep { $_->[0] >= $at[ $i - 1 ] - 2 && $_->[0] <= $at[$i] && $_->[0] <= $at[ $i - 1 ] + $wait{$key} + 10 } @$outages;
			push @wrong, sprintf '%s at %.3f and %.3f (answered after %.1f s)', $key, $at[ $i - 1 ], $at[$i], $wait{$key} if !$over;
		}
	}
	is(join("\n", @wrong[ 0 .. ($#wrong > 9 ? 9 : $#wrong) ]), '', "${name}calls were made again only when they were in flight at a kill, with the same key");
	diag(scalar(@wrong) . ' calls were made again without a kill') if @wrong;
	my $taken_over = 0;
	$taken_over += $_ foreach log_since($node, 0) =~ /goya took over (\d+) outside calls/g;
	cmp_ok($again, '<=', $taken_over, "${name}no more of them than new engines took over: $again of $taken_over");

	my %known = map { $_ => 1 } split /\n/, $node->sql(<<'SQL');
SELECT r.task_id || '/' || r.node || '/' || r.item || '/' || r.attempt FROM goya.node_runs r JOIN app.mine t ON t.id = r.task_id
WHERE (t.workflow, r.node) IN (('call', 'get'), ('flaky', 'get'), ('undocall', 'do.compensate'), ('stopcall', 'slow'))
SQL
	my %answered = map { $_ => 1 } split /\n/, $node->sql(<<'SQL');
SELECT r.task_id || '/' || r.node || '/' || r.item || '/' || r.attempt FROM goya.node_runs r JOIN app.mine t ON t.id = r.task_id
WHERE (t.workflow, r.node) IN (('call', 'get'), ('flaky', 'get'), ('undocall', 'do.compensate')) AND r.status IN ('succeeded', 'failed')
SQL
	is(join(' ', (grep { !$known{$_} } sort keys %times)[ 0 .. 0 ] // ''), '', "${name}every call belongs to a node run");
	is(join(' ', (grep { !$times{$_} } sort keys %answered)[ 0 .. 0 ] // ''), '', "${name}every node run that has an answer made its call");
	note sprintf '%d calls, %d of them made again over a kill', scalar keys %times, $twice;
	return;
}

1;
