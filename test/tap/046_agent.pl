# 046_agent.pl: sessions of agents: a dialogue with calls of tools that are refused, approved, tried again; every budget; stop, cancel and a crash in the midst
# of one; calls side by side; arguments that are wrong; approvals that are for other arguments.
#
# Decided: the model is real as far as goya can tell, a node of kind ai_model that calls a service over HTTP; the service says what a script says
# (servers/scripted_agent.py), since no real model does so when asked to. What it was told is read from its own log.
# Must hold: what a tool did is looked up where it did it (app.effects), exactly once; goya.check() finds nothing, in the midst of sessions too.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use HTTP::Tiny;
use JSON::PP ();
use Test::More;

my $service = script_server('scripted_agent.py');
like($service, qr{^http://127\.0\.0\.1:\d+$}, 'the scripted service runs') or BAIL_OUT('no scripted service');
my $faulty = http_server();
my $web = HTTP::Tiny->new(timeout => 10);

my $node = GoyaNode->start(name => 'agents', conf => $GoyaWork::CONF);
create_studio($node);
$node->sql(q{SELECT goya.set_price('tokens', 2, 'token_in'), goya.set_price('tokens', 5, 'token_out'), goya.set_price('lookup', 700, 'call'),
	goya.top_up(1000000000, 'start', 'default')});
$node->sql(<<'SQL');
CREATE FUNCTION app.lookup(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO app.effects (node, item) VALUES ('lookup', (input ->> 'id')::integer) RETURNING jsonb_build_object('price', item * 10);
$$;
CREATE FUNCTION app.refund(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO app.effects (node, item) VALUES ('refund', (input ->> 'amount')::integer) RETURNING '"refunded"'::jsonb;
$$;
CREATE FUNCTION app.wipe(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO app.effects (node) VALUES ('wipe') RETURNING 'true'::jsonb; $$;
CREATE FUNCTION app.fail(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = input ->> 'code', MESSAGE = 'it broke'; END; $$;
CREATE FUNCTION app.long(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(repeat('x', 5000)); $$;
CREATE FUNCTION app.right(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('ok', input ->> 'text' = 'right', 'message', 'say right'); $$;
SQL
$node->sql(<<"SQL", role => 'studio');
SELECT goya.create_operator('shop.lookup', 'sql', '{"function": "app.lookup"}',
    '{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}', description => 'Price of an article');
SELECT goya.create_operator('shop.refund', 'sql', '{"function": "app.refund"}', '{"type": "object", "required": ["amount"]}');
SELECT goya.create_operator('db.wipe', 'sql', '{"function": "app.wipe"}');
SELECT goya.create_operator('app.fail', 'sql', '{"function": "app.fail"}');
SELECT goya.create_operator('app.long', 'sql', '{"function": "app.long"}');
SELECT goya.create_operator('net.rate', 'http', '{"url": "$faulty/flaky?key=rate&fail=1", "retry": {"max_attempts": 3, "initial": "50 ms"}}');
SELECT goya.set_tool_policy('refunds', 'shop.refund', risk => 'high', data_access => 'write', reason => 'Money leaves.');
SELECT goya.set_tool_policy('wipes', '*.wipe', 'deny', reason => 'Never.');
SQL

my $n = 0;

# Puts the script, makes a model and a workflow with one agent of it.
sub workflow
{
	my ($script, %fields) = @_;
	my $name = 's' . ++$n;

	put_script($service, $name, $script);
	$node->sql("SELECT goya.create_model('$name', '$service/$name/v1', capabilities => '{chat,tools}', price => 'tokens')", role => 'studio');
	my $after = delete $fields{nodes} // [];
	my $edges = delete $fields{edges} // [];
	create_workflow($node, $name, { nodes => [ { key => 'bot', kind => 'agent', model => $name, prompt => 'Help {{ input.who }}.', %fields }, @$after ], edges => $edges });
	return $name;
}

sub start { return run_task($node, workflow(@_), { who => 'Ann' }); }

# What an agent left, when its task has ended.
sub result
{
	my ($id, $status, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ended($node, $id, $status, 30, $name);
	return JSON::PP->new->utf8->allow_nonref->decode($node->sql("SELECT coalesce(output, error, 'null') FROM goya.node_runs WHERE task_id = '$id' AND node = 'bot'") || 'null');
}

sub seen { return @{ JSON::PP->new->utf8->decode($web->get("$service/seen/$_[0]")->{content}) }; }
sub hangs { my ($name) = @_; return until_true(sub { $web->get("$service/waiting/$name")->{content} >= 1 }, 20); }
sub effects { return $node->sql("SELECT string_agg(concat_ws(' ', node, item), ', ' ORDER BY at) FROM app.effects"); }
sub forget { $node->sql('TRUNCATE app.effects'); return; }
sub calls
{
	return $node->sql("SELECT string_agg(concat_ws(' ', tool, decision, status, policy, class), ', ' ORDER BY item) FROM goya.tool_calls WHERE task_id = '$_[0]'");
}
sub asked { return $node->reached("SELECT count(*) FROM goya.approvals WHERE task_id = '$_[0]' AND status = 'pending'", 1, 30, $_[1] // '... a person is asked'); }
sub answer { return $node->sql("SELECT a.status FROM goya.approvals q, goya.approve(q.task_id, q.node, $_[1], '{\"note\": \"so be it\"}', q.item) a WHERE q.task_id = '$_[0]' AND q.status = 'pending'", role => 'studio'); }

my @TOOLS = ('shop.lookup', 'shop.refund', 'db.wipe', 'net.rate', 'app.fail', 'app.long');

# ---- the dialogue ----

my $name = workflow([
	{ text => 'Let me see.', calls => [ [ 'shop_lookup', { id => 7 } ] ] },
	{ calls => [ [ 'db_wipe', {} ], [ 'net_rate', {} ] ] },
	{ calls => [ [ 'shop_refund', { amount => 70 } ] ] },
	{ calls => [ [ 'shop_lookup', { id => 8 } ] ] },
	{ text => 'All done.' } ], system => 'Be kind.', tools => \@TOOLS, cost_tag => 'support', provider => 'openai_compatible');
my $id = run_task($node, $name, { who => 'Ann' });
asked($id, 'the third call waits for a person');
is($node->sql("SELECT status FROM goya.tasks WHERE id = '$id'"), 'waiting', '... and the task with it');
is($node->sql("SELECT message FROM goya.approvals WHERE task_id = '$id'"), "Agent \"bot\" wants to call shop.refund with {\"amount\": 70}\nMoney leaves.", '... who is told what it is about');
is($node->sql("SELECT count(*) FROM goya.node_runs r JOIN goya.tool_calls c ON c.task_id = r.task_id AND c.item = r.item AND c.digest = r.input ->> 'digest'
	WHERE r.task_id = '$id' AND r.node = 'bot.approval'"), 1, '... by the digest of the very arguments');
is(effects(), 'lookup 7', '... before anything of it is done');
is_sound($node, '... and everything adds up meanwhile');
is($node->sql("SELECT goya.timeline('$id')") =~ /bot\.approval/ ? 1 : 0, 1, '... and the timeline shows it');
is($node->sql("SELECT goya.explain_workflow('$name')", role => 'studio') =~ /agent .*shop\.lookup, shop\.refund/ ? 1 : 0, 1, '... and the picture says what it calls');
answer($id, 'true');
my $o = result($id, 'succeeded', 'a dialogue of five calls ends well');
is($o->{text}, 'All done.', '... with what the model said last');
is($o->{steps}, 10, '... after five calls of the model and five of tools');
is($o->{stopped}, undef, '... by itself');
is($o->{usage}{tokens}, 50, '... with the tokens of all');
is(effects(), 'lookup 7, refund 70, lookup 8', '... each tool once, the refused one never');
is(calls($id), 'shop_lookup allow succeeded, db_wipe deny denied wipes POLICY_DENY, net_rate allow succeeded, shop_refund approve succeeded refunds, shop_lookup allow succeeded',
	'... each call is recorded');
is($node->sql("SELECT decided_by FROM goya.tool_calls WHERE task_id = '$id' AND tool = 'shop_refund' AND approved_digest = digest"), 'studio', '... and who approved what');
is($node->sql("SELECT string_agg(attempt || ' ' || status, ', ' ORDER BY attempt) FROM goya.node_runs WHERE task_id = '$id' AND node = 'bot.net_rate'"), '1 failed, 2 succeeded', '... one was tried again');
is(join(' ', map { $_->{role} } @{ (seen($name))[-1]{messages} }), 'system user assistant tool assistant tool tool assistant tool assistant tool', 'the model was told everything, in order');
my @told = @{ (seen($name))[-1]{messages} };
is($told[1]{content}, 'Help Ann.', '... the prompt with its template');
is($told[3]{content}, '{"price": 70}', '... results');
like($told[5]{content}, qr/not allowed: Never/, '... refusals');
is($told[8]{tool_call_id}, 'call_2_0', '... by the names it gave the calls');
is((grep { $_->{function}{name} eq 'shop_lookup' } @{ (seen($name))[0]{tools} })[0]{function}{description}, 'Price of an article', '... and what tools there are');
is($node->sql("SELECT count(*) FROM goya.usage_records WHERE task_id = '$id' AND node = 'bot.model' AND unit = 'token_out'"), 5, "each call of the model is billed");
is($node->sql("SELECT string_agg(DISTINCT cost_tag, ', ') || ' ' || sum(node_runs) FROM goya.bill_summary WHERE workflow = '$name'"), 'support 5', "... under the agent's tag");
is($node->sql("SELECT t.cost = a.cost AND a.cost = 5 * (5 * 2 + 5 * 5) FROM goya.agent_sessions a JOIN goya.task_summary t ON t.id = a.task_id WHERE a.task_id = '$id'"), 't', '... and the session knows');
is_sound($node, '... and everything adds up');

# ---- budgets ----

forget();
my @endless = map { { text => "turn $_", calls => [ [ 'shop_lookup', { id => $_ } ] ] } } 1 .. 30;
$id = start(\@endless, tools => \@TOOLS, budget => { steps => 6 });
$o = result($id, 'succeeded', 'steps: it ends');
is("$o->{stopped} $o->{steps} $o->{text}", 'steps 6 turn 3', '... after so many, with what there is');
is(effects(), 'lookup 1, lookup 2, lookup 3', '... and calls no more');
$id = start(\@endless, tools => \@TOOLS, budget => { tokens => 25 });
$o = result($id, 'succeeded', 'tokens: it ends');
is("$o->{stopped} $o->{usage}{tokens}", 'tokens 30', '... when they are used up');
$id = start(\@endless, tools => [ { operator => 'shop.lookup', price => 'lookup' } ], budget => { cost => 1400 });
$o = result($id, 'succeeded', 'money: it ends');
is("$o->{stopped} $o->{usage}{cost}", 'cost ' . 2 * (700 + 35), '... when it is spent, on tools and the model');
$id = start(\@endless, tools => \@TOOLS, budget => { steps => 2 }, on_budget => 'fail');
$o = result($id, 'failed', 'on_budget fail: it fails');
is("$o->{class}: $o->{message}", "RESOURCE_LIMIT: the agent's budget of steps is used up", '... and says why');
# Three at once, so that each has the time to get where it is to wait.
$id = start([ { calls => [ [ 'shop_refund', { amount => 1 } ] ] } ], tools => \@TOOLS, budget => { time => '5 s' });
$name = workflow([ { hang => 1, text => 'late' } ], budget => { time => 5 }, timeout => '30 s');
my $hung = run_task($node, $name);
my $again = start([ { calls => [ [ 'down', {} ] ] } ], tools => [ { name => 'down', node => { kind => 'http', url => "$faulty/status/503", retry => { max_attempts => 5, initial => 60, max => 60 } } } ], budget => { time => 5 });
hangs($name);
$o = result($id, 'succeeded', 'time: it ends though a person was asked');
is($o->{stopped}, 'time', '... when it is over');
is(calls($id), 'shop_refund approve expired refunds TIMEOUT', '... and the call was not made');
is($node->sql("SELECT status FROM goya.approvals WHERE task_id = '$id'"), 'expired', '... nor is it asked any more');
$o = result($hung, 'succeeded', 'time: it ends though the model hangs');
is($o->{stopped}, 'time', '... too');
$web->get("$service/release/$name");
$o = result($again, 'succeeded', 'time: it ends though a tool is to be tried again in a minute');
is("$o->{stopped} " . calls($again), 'time down allow failed DEPENDENCY', '... and it is not');
is_sound($node, '... and everything adds up');
foreach my $bad ({ steps => 0 }, { steps => 1001 }, { time => 'soon' }, { cost => -1 }, { days => 1 })
{
	$node->refused(sprintf(q{SELECT goya.create_workflow('bad', '%s', publish => true)}, json({ nodes => [ { key => 'a', kind => 'agent', model => 'm', prompt => 'x', budget => $bad } ] })), '22023', 'no budget: ' . json($bad), role => 'studio');
}
$id = start([], budget => { steps => '{{ input.steps }}' });
is(result($id, 'succeeded', 'a budget may come from the input')->{text}, 'no more', '... and has a default');

# ---- stop and cancel ----

$id = start([ { text => 'so far', calls => [ [ 'shop_refund', { amount => 2 } ] ] } ], tools => \@TOOLS, nodes => [ { key => 'after', kind => 'noop' } ], edges => [ { from => 'bot', to => 'after' } ]);
asked($id);
is($node->sql("SELECT goya.stop_agent('$id', 'bot')", role => 'studio'), 't', 'an agent that waits for a person is stopped');
$o = result($id, 'succeeded', '... and its task goes on');
is("$o->{stopped} $o->{text}", 'stop so far', '... with what it has');
is($node->sql("SELECT goya.stop_agent('$id', 'bot')", role => 'studio'), 'f', '... and cannot be stopped again');
$node->refused("SELECT goya.stop_agent('$id', 'after')", 'PT404', 'what is no agent cannot be stopped', role => 'studio');
$name = workflow([ { hang => 1, text => 'asked', calls => [ [ 'shop_lookup', { id => 1 } ] ] } ], tools => \@TOOLS);
$id = run_task($node, $name);
hangs($name);
$node->sql("SELECT goya.stop_agent('$id', 'bot')", role => 'studio');
$web->get("$service/release/$name");
$o = result($id, 'succeeded', 'one whose model is being called ends after that');
is("$o->{stopped} " . calls($id), 'stop shop_lookup invalid invalid RESOURCE_LIMIT', '... and calls nothing more');

forget();
$name = workflow([ { calls => [ [ 'shop_lookup', { id => 3 } ], [ 'shop_refund', { amount => 3 } ] ] } ], tools => \@TOOLS);
$id = run_task($node, $name);
asked($id);
$node->reached("SELECT count(*) FROM goya.tool_calls WHERE task_id = '$id' AND status = 'succeeded'", 1, 20, '... and the other call is made');
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 20, 'a task is cancelled in the midst of a session');
is($node->sql("SELECT status FROM goya.agent_sessions WHERE task_id = '$id'"), 'cancelled', '... which is over');
is(calls($id), 'shop_lookup allow succeeded, shop_refund approve cancelled refunds', '... with its calls');
$name = workflow([ { hang => 1, text => 'late' } ]);
$id = run_task($node, $name);
hangs($name);
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 20, '... or in a call of its model');
$web->get("$service/release/$name");
is_sound($node, '... and everything adds up');

# ---- side by side, wrong calls, long results ----

forget();
$name = workflow([ { calls => [ map { [ 'shop_lookup', { id => $_ } ] } 1 .. 8 ] }, { text => 'ok' } ], tools => \@TOOLS);
$id = run_task($node, $name);
$o = result($id, 'succeeded', 'eight calls at once');
is($node->sql('SELECT count(*), count(DISTINCT item) FROM app.effects'), '8|8', '... each made once');
is(join(' ', map { $_->{content} =~ /(\d+)/ } grep { $_->{role} eq 'tool' } @{ (seen($name))[-1]{messages} }), '10 20 30 40 50 60 70 80', '... and told in the order they were asked for');
$name = workflow([ { calls => [ [ 'shop_lookup', { id => 'x' } ], [ 'nothing', {} ], [ 'shop_lookup', '{"id": ' ], [ 'shop_lookup', '[1]' ], [ 'app_long', {} ] ] }, { text => 'sorry' } ],
	tools => \@TOOLS, max_result => 100);
$id = run_task($node, $name);
$o = result($id, 'succeeded', 'wrong calls do no harm');
is($o->{steps}, 7, '... and count');
is(calls($id), 'shop_lookup invalid invalid VALIDATION, nothing invalid invalid VALIDATION, shop_lookup invalid invalid VALIDATION, shop_lookup invalid invalid VALIDATION, app_long allow succeeded', '... are recorded');
@told = map { $_->{content} } grep { $_->{role} eq 'tool' } @{ (seen($name))[-1]{messages} };
like($told[0], qr{/id: expected integer}, '... and the model is told why: the schema');
like($told[1], qr/no tool "nothing"; there are: shop_lookup/, '... the name');
like($told[2], qr/not valid JSON/, '... the JSON');
like($told[3], qr/no JSON object/, '... the type');
like($told[4], qr/^x{100}\n\[cut: 100 of 5000 bytes\]$/, 'a long result is cut, and says so');

# ---- errors and what is done about them ----

$name = workflow([ { calls => [ [ 'app_fail', { code => '22000' } ] ] }, { text => 'I see' } ], tools => \@TOOLS);
$id = run_task($node, $name);
is(result($id, 'succeeded', "a tool's error is told")->{text}, 'I see', '... and the model goes on');
like((seen($name))[-1]{messages}[-1]{content}, qr/^error: it broke/, '... with what it was');
$id = start([ { calls => [ [ 'app_fail', { code => '22000' } ] ] } ], tools => \@TOOLS, on_error => { VALIDATION => 'fail' });
$o = result($id, 'failed', 'on_error fail: the agent fails');
is("$o->{class} $o->{message}", 'VALIDATION tool "app_fail": it broke', '... with the error of the tool');
$id = start([ { text => 'try', calls => [ [ 'db_wipe', {} ] ] } ], tools => \@TOOLS, on_error => { POLICY_DENY => 'stop' });
$o = result($id, 'succeeded', 'on_error stop: it ends');
is("$o->{stopped} $o->{text}", 'error try', '... with what it has');
$id = start([ { status => 400 } ], nodes => [ { key => 'sorry', kind => 'noop' } ], edges => [ { from => 'bot', to => 'sorry', on => 'failure' } ]);
is(result($id, 'succeeded', "the model's error is the agent's, which an edge may handle")->{class}, 'VALIDATION', '... with its class');
$id = start([ { text => '' } ], retry => { max_attempts => 1 });
is(result($id, 'failed', 'a model that says nothing fails')->{class}, 'MODEL_REASONING', '... for that');
$id = start([ { text => 'well' } ], artifact => { type => 'asset', data => { media_type => 'nonsense' } });
$o = result($id, 'failed', 'an agent whose end cannot be written fails');
is($node->sql("SELECT status FROM goya.agent_sessions WHERE task_id = '$id'"), 'failed', '... and its session with it');
is_sound($node, '... and everything adds up');

# ---- approvals ----

forget();
my @refund = ({ calls => [ [ 'shop_refund', { amount => 5 } ] ] }, { text => 'end' });
$id = start(\@refund, tools => \@TOOLS);
asked($id);
answer($id, 'false');
is(result($id, 'succeeded', 'a person says no')->{text}, 'end', '... and the model goes on');
is($node->sql("SELECT status, result, decided_by FROM goya.tool_calls WHERE task_id = '$id'"), 'rejected|error: a person rejected this call: so be it|studio', '... and is told so');
$id = start(\@refund, tools => \@TOOLS, approval_timeout => '0.5 s');
result($id, 'succeeded', 'nobody says anything');
is($node->sql("SELECT status, class FROM goya.tool_calls WHERE task_id = '$id'"), 'expired|TIMEOUT', '... which is a no');
$id = start(\@refund, tools => \@TOOLS);
asked($id);
$node->sql("UPDATE goya.tool_calls SET arguments = '{\"amount\": 5000}' WHERE task_id = '$id'");
answer($id, 'true');
result($id, 'succeeded', 'an approval of other arguments');
is($node->sql("SELECT status, result FROM goya.tool_calls WHERE task_id = '$id'"), 'denied|error: the approval was for other arguments', '... is none');
$node->sql("UPDATE goya.tool_calls SET arguments = '{\"amount\": 5}' WHERE task_id = '$id'");
$id = start(\@refund, tools => \@TOOLS);
asked($id);
$node->sql("SELECT goya.set_tool_policy('refunds', 'shop.refund', 'deny', reason => 'Closed.')", role => 'studio');
answer($id, 'true');
result($id, 'succeeded', 'an approval of what was forbidden meanwhile');
is($node->sql("SELECT status, result FROM goya.tool_calls WHERE task_id = '$id'"), 'denied|error: this call is not allowed: Closed.', '... is none either');
is(effects(), '', 'and none of them was made');
$node->sql("SELECT goya.set_tool_policy('few', 'shop.lookup', max_calls => 1), goya.drop_tool_policy('refunds')", role => 'studio');
$id = start([ { calls => [ [ 'shop_lookup', { id => 1 } ], [ 'shop_lookup', { id => 2 } ] ] }, { text => 'end' } ], tools => \@TOOLS);
result($id, 'succeeded', 'max_calls');
is(calls($id), 'shop_lookup allow succeeded few, shop_lookup deny denied few RESOURCE_LIMIT', '... is a limit for the session');
$node->sql("SELECT goya.drop_tool_policy('few')", role => 'studio');

# ---- other tools, checked answers ----

create_workflow($node, 'child', { nodes => [ { key => 'twice', kind => 'transform', output => { twice => '{{ $.input.n + $.input.n }}' } } ] });
$name = workflow([ { calls => [ [ 'double', { n => 21 } ], [ 'greet', {} ] ] }, { text => 'wrong' }, { text => 'right' } ],
	tools => [ { name => 'double', description => 'Twice a number', input_schema => { type => 'object', required => ['n'] }, node => { kind => 'workflow', workflow => 'child' } },
		{ name => 'greet', node => { kind => 'transform', output => 'Hello {{ input.who }}' } } ],
	verify => { kind => 'sql', function => 'app.right' });
$id = run_task($node, $name, { who => 'Ann' });
is(result($id, 'succeeded', 'workflows and nodes are tools as well, and answers are checked')->{text}, 'right', '... until they are accepted');
@told = map { $_->{content} } @{ (seen($name))[-1]{messages} };
is(join('|', @told[ 2 .. 3 ]), '{"twice": 42}|Hello Ann', '... with what they said');
is($told[5], 'Your answer was checked and is not accepted: say right', '... and why not');
is_sound($node, '... and everything adds up');

# ---- a crash ----

forget();
$name = workflow([ { calls => [ [ 'shop_lookup', { id => 1 } ], [ 'shop_lookup', { id => 2 } ] ] }, { hang => 1, calls => [ [ 'shop_lookup', { id => 3 } ] ] }, { text => 'survived' } ], tools => \@TOOLS);
$id = run_task($node, $name);
ok(defined hangs($name), 'the model is being called when the server dies');
$node->crash;
$web->get("$service/release/$name");
$node->start;
is(result($id, 'succeeded', '... and the session goes on after it')->{text}, 'survived', '... to its end');
is(effects(), 'lookup 1, lookup 2, lookup 3', '... with each tool once');
is(calls($id), join(', ', ('shop_lookup allow succeeded') x 3), '... and each call on record');
my @keys = map { $_->{key} } seen($name);
is(scalar(grep { $_ eq $keys[1] } @keys), 2, '... the call that was cut off was made again under its key');
is_sound($node, '... and everything adds up');

# ---- what others see ----

$node->create_user('stranger');
$node->sql("SELECT goya.create_tenant('elsewhere'); SELECT goya.add_member('stranger', 'elsewhere')");
is($node->sql('SELECT count(*) FROM goya.agent_sessions, goya.agent_messages, goya.tool_calls', role => 'stranger'), 0, 'sessions are seen by nobody else');
$node->refused("SELECT goya.stop_agent('$id', 'bot')", 'PT404', '... nor stopped', role => 'stranger');

done_testing();
