# 042_models.pl: nodes of kind ai_model: with llama.cpp's server and a tiny model, and with a scripted service for what no real one does when asked to.
#
# Decided: test/servers/llama/fetch gets the server from Debian's packages, or the test fails; nothing is skipped. The model's words are nonsense, but everything
# about them is real: counts of tokens, the stream, the grammar that makes JSON, vectors, the refusal of a wrong key.
# Must hold: what is billed is what the service counted; what a service is asked is looked up in its own log; waits have deadlines.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(sleep time);

my $servers = "$FindBin::Bin/../servers";
my $scratch = PostgreSQL::Test::Utils::tempdir();
my $KEY = 'a-key-of-llama-0123456789';
my @children;
END { my $status = $?; kill 'TERM', @children if @children; waitpid $_, 0 foreach @children; $? = $status; }

# ---- services ----

my $llama = $ENV{GOYA_LLAMA};
if (!$llama)
{
	my $why;

	IPC::Run::run([ "$servers/llama/fetch" ], '>', \$llama, '2>', \$why) or die("llama.cpp cannot be had: $why");
	chomp $llama;
}

# The url of a server of llama.cpp with the arguments, once it answers.
sub llama
{
	my ($name, @arguments) = @_;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $log = "$scratch/$name.log";
	my $pid = fork // die $!;

	if ($pid == 0)
	{
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', $log;
		open STDERR, '>&', \*STDOUT;
		exec 'setpriv', '--pdeathsig', 'TERM', '--', "$servers/llama/run", $llama, '-m', "$llama/model.gguf", '--host', '127.0.0.1', '--port', $port, '-t', 1, '-c', 2048,
			'--no-webui', @arguments;
		exit 1;
	}
	push @children, $pid;
	ok(defined until_true(sub { HTTP::Tiny->new(timeout => 5)->get("http://127.0.0.1:$port/health")->{success} }, 30), "llama.cpp's server answers ($name)")
		or diag(PostgreSQL::Test::Utils::slurp_file($log));
	return "http://127.0.0.1:$port/v1";
}

my $chat = llama('chat', '--api-key', $KEY, '--parallel', 2);
my $vectors = llama('vectors', '--embeddings', '--pooling', 'mean');
my $scripted = script_server('scripted_model.py');

# What the scripted service was asked by this path.
sub seen { return @{ JSON::PP->new->utf8->decode(HTTP::Tiny->new->get("$scripted/seen/$_[0]")->{content}) }; }

# ---- the node ----

my $keys = "$scratch/keys";
PostgreSQL::Test::Utils::append_to_file($keys, 'k1 ' . ('0123456789abcdef' x 4) . "\n");
chmod 0600, $keys;
my $node = GoyaNode->start(name => 'models', conf => $GoyaWork::CONF . "goya.master_key_file = '$keys'\n");
create_studio($node);
(my $host = $chat) =~ s{/v1}{};
$node->sql("SELECT goya.set_secret('llama', '$KEY', ARRAY['$host', '$scripted']); SELECT goya.set_secret('wrong', 'not-the-key-at-all', ARRAY['$host'])", role => 'studio');
# Nano-units: 2 for each token in, 5 for each token out, 1000 for a request.
$node->sql(q{SELECT goya.set_price('tokens', 2, 'token_in'), goya.set_price('tokens', 5, 'token_out'), goya.set_price('tokens', 1000, 'request')});
$node->sql(q{SELECT goya.top_up(1000000000, 'start', 'default')});

sub model
{
	my ($name, $endpoint, $more) = @_;
	$node->sql(sprintf(q{SELECT goya.create_model('%s', '%s'%s)}, $name, $endpoint, $more ? ", $more" : ''), role => 'studio');
	return;
}

my $ALL = q(capabilities => '{chat,vision,tools,json_schema,stream}');
my $n = 0;

# Runs a workflow of one ai_model node; its id.
sub start
{
	my (%node) = @_;
	my $name = 'w' . ++$n;

	create_workflow($node, $name, { nodes => [ { key => 'ask', kind => 'ai_model', retry => { max_attempts => 1 }, %node } ] });
	return run_task($node, $name);
}

# The output, or the error, of such a node.
sub ask
{
	my ($status, %node) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = start(%node);

	ended($node, $id, $status, 30, "$node{model}: $status");
	my $found = $node->sql("SELECT coalesce(goya.open_value(output), error) FROM goya.node_runs WHERE task_id = '$id' AND node = 'ask' ORDER BY attempt DESC LIMIT 1");
	return (JSON::PP->new->utf8->decode($found || '{}'), $id);
}

# "unit=quantity …" and whether any of it is estimated.
sub usage
{
	return $node->sql("SELECT string_agg(unit || '=' || quantity, ' ' ORDER BY unit) || CASE WHEN bool_or(estimated) THEN ' estimated' ELSE '' END
		FROM goya.usage_records WHERE task_id = '$_[0]'");
}

my $TEXT = { role => 'user', content => 'Tell me a story.' };

# ---- llama.cpp: chat ----

model('llama', $chat, "'tiny', secret => 'llama', parameters => '{\"max_tokens\": 12, \"seed\": 7}', price => 'tokens', $ALL");
model('locked', $chat, "'tiny', secret => 'wrong'");
model('vectors', $vectors, q('tiny', capabilities => '{embedding}', price => 'tokens'));
my ($o, $id) = ask('succeeded', model => 'llama', system => 'You are brief.', prompt => 'Tell me a story.');
is($o->{usage}{output_tokens}, 12, 'llama.cpp: as many tokens as were allowed');
cmp_ok($o->{usage}{input_tokens}, '>', 20, '... and it counted what was said');
cmp_ok(length $o->{text}, '>', 5, '... which is text');
is($o->{finish_reason}, 'length', '... that was cut at the limit');
is(usage($id), "request=1 token_in=$o->{usage}{input_tokens} token_out=12", '... and is billed as counted');
is($node->sql("SELECT captured FROM goya.holds WHERE task_id = '$id' AND status <> 'open'"), 1000 + 2 * $o->{usage}{input_tokens} + 5 * 12, '... at its price');
my ($again) = ask('succeeded', model => 'llama', system => 'You are brief.', prompt => 'Tell me a story.', parameters => { max_tokens => 5, temperature => 0 });
is($again->{usage}{output_tokens}, 5, "the node's parameters go before the model's");
($o) = ask('failed', model => 'locked', prompt => 'Hello');
like($o->{message}, qr/answered 401: Invalid API Key/, 'a wrong key: the service says so');
is($o->{class}, 'POLICY_DENY', '... and it is not tried again');

# ---- llama.cpp: a schema, vectors, a trial ----

my $CITY = { type => 'object', required => [ 'city', 'people' ], additionalProperties => JSON::PP::false,
	properties => { city => { type => 'string', maxLength => 20 }, people => { type => 'integer', minimum => 0, maximum => 9 } } };
($o) = ask('succeeded', model => 'llama', prompt => 'A city', response_schema => $CITY, parameters => { max_tokens => 200 });
is(ref $o->{json}, 'HASH', 'llama.cpp: a schema makes JSON');
is(join(',', sort keys %{ $o->{json} }), 'city,people', '... that fits it');
($o, $id) = ask('succeeded', model => 'vectors', operation => 'embedding', content => [ 'one text', 'and another' ]);
is(scalar @{ $o->{vectors} }, 2, 'llama.cpp: a vector for each text');
is($o->{dimensions}, 64, '... of as many numbers as the model has');
like(usage($id), qr/^request=1 token_in=\d+$/, '... billed by what was read');
$id = $node->sql(q{SELECT goya.test_model('llama')}, role => 'studio');
is($node->sql("SELECT status, output ->> 'finish_reason' FROM goya.test_result('$id')", role => 'studio'), 'succeeded|length', 'a trial of it works');
is(usage($id), '', '... and is not billed');

# ---- llama.cpp: a stream ----

$id = start(model => 'llama', prompt => 'Tell me a long story.', stream => JSON::PP::true, parameters => { max_tokens => 300 });
my ($text, $after, $rows, $ended) = ('', 0, 0, 0);
until_true(sub {
	foreach my $row (split /\n/, $node->sql("SELECT json_build_object('seq', seq, 'delta', delta, 'starts', starts, 'ends', ends)
		FROM goya.read_stream('$id', 'ask', after => $after, timeout => '5 s')", role => 'studio'))
	{
		my $chunk = JSON::PP->new->utf8->decode($row);
		$text = '' if $chunk->{starts};
		$text .= $chunk->{delta};
		$after = $chunk->{seq};
		$ended = $chunk->{ends};
		$rows++;
	}
	$ended;
}, 30);
ok($ended, 'llama.cpp: the stream was read to its end');
ended($node, $id, 'succeeded', 10, 'llama.cpp: it streams');
is($text, JSON::PP->new->utf8->decode($node->sql("SELECT output -> 'text' FROM goya.node_runs WHERE task_id = '$id'") =~ s/^(.*)$/[$1]/sr)->[0],
	"what was read while it came is the output ($rows rows)");
like(usage($id), qr/^request=1 token_in=\d+ token_out=300$/, '... billed as the last piece says');

# ---- scripted: streams ----

sub script { my ($name, $path, $more) = @_; model($name, "$scripted/$path/v1", $more // "price => 'tokens', $ALL"); return; }

# One that is cancelled has used what has come of it. What is held goes back but for that.
script('stopped', 'gate/4');
$id = start(model => 'stopped', messages => [$TEXT], stream => JSON::PP::true, cost_tag => 'cut');
$node->reached("SELECT string_agg(delta, '' ORDER BY seq) FROM goya.read_stream('$id', 'ask', timeout => '1 s')", 'w0 w1 w2 w3 ', 10, 'a stream that is to be cut', role => 'studio');
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 10, '... is cancelled');
is(usage($id), 'request=1 token_in=4 token_out=4 estimated', '... and billed for what was read of it');
is($node->sql("SELECT h.status, h.captured, r.status, r.cost, (SELECT sum(u.cost) FROM goya.usage_records u WHERE u.task_id = h.id AND u.cost_tag = 'cut')
	FROM goya.holds h JOIN goya.node_runs r ON r.task_id = h.id WHERE h.id = '$id'"), 'settled|1028|cancelled|1028|1028', '... from its hold, which is settled');
is_sound($node, '... and goya.check() finds nothing');

script('gate', 'gate/3');
$id = start(model => 'gate', messages => [$TEXT], stream => JSON::PP::true);
my $listener = $node->session(role => 'studio');
$listener->query_safe('LISTEN goya_stream');
$node->reached("SELECT string_agg(delta, '' ORDER BY seq) FROM goya.read_stream('$id', 'ask', timeout => '1 s')", 'w0 w1 w2 ', 10, 'words are read while the call is running', role => 'studio');
is($node->sql("SELECT status FROM goya.node_runs WHERE task_id = '$id'"), 'running', '... which it still is');
$after = $node->sql("SELECT max(seq) FROM goya.read_stream('$id', 'ask', timeout => '0')", role => 'studio');
my $began = time;
is($node->sql("SELECT count(*) FROM goya.read_stream('$id', 'ask', after => $after, timeout => '300 ms')", role => 'studio'), 0, 'a poll without news ends in time');
cmp_ok(time - $began, '<', 3, '... and no later');
$node->create_user('stranger');
$node->sql(q{SELECT goya.create_tenant('strangers') \g /dev/null
SELECT goya.add_member('stranger', 'strangers') \g /dev/null});
$node->refused("SELECT * FROM goya.read_stream('$id', 'ask')", 'PT404', 'a stranger cannot read it', role => 'stranger');
HTTP::Tiny->new->get("$scripted/open");
ended($node, $id, 'succeeded', 10, 'the gate opens');
like($node->sql("SELECT string_agg(delta || ends, '' ORDER BY seq) FROM goya.read_stream('$id', 'ask', after => $after, timeout => '5 s')", role => 'studio'), qr/^end/,
	'the rest is read after what was read');
$node->reached("SELECT bool_or(ends) FROM goya.read_stream('$id', 'ask', timeout => '1 s')", 't', 10, 'the end is told', role => 'studio');
like($listener->query('SELECT 1'), qr/Asynchronous notification "goya_stream"/, 'a session that listens was told');
$listener->quit;

script('cut', 'cut/5');
($o, $id) = ask('failed', model => 'cut', messages => [$TEXT], stream => JSON::PP::true);
is($o->{class}, 'TRANSIENT', 'a stream that breaks is TRANSIENT');
is(usage($id), 'request=1 token_in=4 token_out=5 estimated', '... and what came is billed, as an estimate');
is($node->sql("SELECT captured FROM goya.holds WHERE task_id = '$id' AND status <> 'open'"), 1000 + 2 * 4 + 5 * 5, '... to the task that failed');
script('unended', 'unended/2');
($o) = ask('failed', model => 'unended', messages => [$TEXT], stream => JSON::PP::true);
like($o->{message}, qr/was cut/, 'a stream without an end is one that was cut');
script('crumbs', 'crumbs');
($o) = ask('succeeded', model => 'crumbs', messages => [$TEXT], stream => JSON::PP::true);
is($o->{text}, 'one two three', 'a stream may be cut anywhere, and its lines end in any of three ways');
script('failing', 'failing/2');
($o) = ask('failed', model => 'failing', messages => [$TEXT], stream => JSON::PP::true);
like($o->{message}, qr/out of memory/, 'an error in a stream is its outcome');

# ---- scripted: usage in every shape ----

foreach my $shape (qw(input_output gemini top timings))
{
	script("usage-$shape", "usage/$shape");
	foreach my $stream (JSON::PP::false, JSON::PP::true)
	{
		($o, $id) = ask('succeeded', model => "usage-$shape", prompt => 'one two three', stream => $stream);
		is(usage($id), "request=1 token_in=6 token_out=3", "usage as $shape" . ($stream ? ', streamed' : ''));
	}
}
script('usage-none', 'usage/none');
($o, $id) = ask('succeeded', model => 'usage-none', prompt => 'one two three');
is(usage($id), 'request=1 token_in=4 token_out=4 estimated', 'no usage: an estimate');

# ---- scripted: tools, schema and repair ----

script('tools', 'tools');
foreach my $stream (JSON::PP::false, JSON::PP::true)
{
	($o) = ask('succeeded', model => 'tools', messages => [$TEXT], stream => $stream, tools => [ { type => 'function', function => { name => 'weather' } } ], tool_choice => 'auto');
	is(json($o->{tool_calls}), '[{"arguments":{"city":"Paris"},"id":"call_1","name":"weather"},{"arguments":"{\"city\": ","id":"call_2","name":"broken"}]',
		'calls of tools are data' . ($stream ? ', streamed' : ''));
}
is((seen('tools'))[0]{body}{tools}[0]{function}{name}, 'weather', 'the tools were told');

script('repair', 'repair');
($o, $id) = ask('succeeded', model => 'repair', prompt => 'A city', response_schema => $CITY);
is(json($o->{json}), '{"city":"Paris","people":2}', 'an answer that does not fit is corrected');
my @asked = seen('repair');
is(scalar @asked, 2, '... by one more call');
is($asked[0]{body}{response_format}{type}, 'json_schema', '... the service knew the schema');
like($asked[1]{body}{messages}[-1]{content}, qr{people}, '... and was told what is wrong');
isnt($asked[0]{headers}{'Idempotency-Key'}, $asked[1]{headers}{'Idempotency-Key'}, '... under a key of its own');
like(usage($id), qr/^request=2 /, '... both are billed');
script('stubborn', 'stubborn');
($o, $id) = ask('failed', model => 'stubborn', prompt => 'A city', response_schema => $CITY);
is($o->{class}, 'MODEL_REASONING', 'one that goes on answering wrongly is a failure of reasoning');
like(usage($id), qr/^request=2 /, '... and is billed');
script('fenced', 'fenced', "capabilities => '{chat}'");
($o) = ask('succeeded', model => 'fenced', prompt => 'A city', response_schema => $CITY);
is($o->{json}{people}, 2, 'a fence around JSON is taken off');
@asked = seen('fenced');
ok(!exists $asked[0]{body}{response_format} && $asked[0]{body}{messages}[0]{content} =~ /JSON Schema/, 'a service that knows no schemas is told in words');

# ---- scripted: limits, fallback ----

script('limited', 'limited/1');
($o, $id) = ask('succeeded', model => 'limited', prompt => 'hello', retry => { max_attempts => 2, initial => '10ms' });
is($o->{text}, 'hello', '429 with Retry-After is tried again') if ref $o;
cmp_ok($node->sql("SELECT extract(epoch FROM max(started_at) - min(started_at)) FROM goya.node_runs WHERE task_id = '$id'"), '>=', 1, '... not before the service wants it');
script('down', 'down', q(fallback_models => '{}'));
script('spare', 'echo', "price => 'tokens'");
$node->sql(q{SELECT goya.update_model('down', '{"fallback_models": ["spare"]}')}, role => 'studio');
($o) = ask('succeeded', model => 'down', prompt => 'hello');
is($o->{model}, 'spare', 'a model that is down is replaced');
is(join(' ', map { "$_->{model}:$_->{status}" . ($_->{class} // '') } @{ $o->{attempts} }), 'down:503DEPENDENCY spare:200', '... and that is told');
($o) = ask('failed', model => 'down', prompt => 'hello', fallback => []);
like($o->{message}, qr/answered 503: no room/, 'unless the node wants no other');
$node->sql(q{SELECT goya.update_model('down', '{"provider": "acme"}')}, role => 'studio');
($o) = ask('failed', model => 'down', prompt => 'hello', provider => 'acme');
like($o->{message}, qr/answered 503: no room/, '... or one of that provider only, which the spare is not');
$node->sql(q{SELECT goya.update_model('spare', '{"provider": "acme"}')}, role => 'studio');
($o) = ask('succeeded', model => 'down', prompt => 'hello', provider => 'acme');
is($o->{model}, 'spare', '... until it is');
create_workflow($node, 'other', { nodes => [ { key => 'ask', kind => 'ai_model', model => 'spare', provider => '{{ input.who }}', prompt => 'hello', retry => { max_attempts => 1 } } ] });
$id = run_task($node, 'other', { who => 'nobody' });
ended($node, $id, 'failed', 30, 'a provider that is known when the node runs');
is($node->sql("SELECT error ->> 'detail' FROM goya.node_runs WHERE task_id = '$id'"), 'There is no model "spare" of provider "nobody".', '... does not have the model');
($o, $id) = ask('succeeded', model => 'cut', fallback => ['spare'], prompt => 'hello', stream => JSON::PP::true);
is($o->{text}, 'hello', 'a stream that breaks is begun anew by the next model');
$node->reached("SELECT string_agg(delta, '' ORDER BY seq) FROM goya.read_stream('$id', 'ask', timeout => '1 s')", 'hello', 10, '... and by who reads it', role => 'studio');
like(usage($id), qr/^request=2 .*token_out=6 estimated$/, '... and what the first had said is billed too');

script('narrow', 'echo', q(max_concurrency => 1, requests_per_minute => 100));
create_workflow($node, 'many', { nodes => [ { key => 'each', kind => 'map', over => '{{ input.items }}',
	node => { kind => 'ai_model', model => 'narrow', prompt => '{{ item }}' } } ] });
ended($node, run_task($node, 'many', { items => [ 1 .. 5 ] }), 'succeeded', 30, 'more calls than may be made at once are made one after the other');
$node->sql(q{SELECT goya.update_model('narrow', '{"max_concurrency": null, "requests_per_minute": 6}')}, role => 'studio');
$id = run_task($node, 'many', { items => [ 1 .. 12 ] });
$node->reached(qq{SELECT count(*) FROM goya.node_runs WHERE task_id = '$id' AND node <> 'each' AND status = 'succeeded'}, 6, 20, 'of twelve calls a minute\'s six are made at once');
is($node->sql("SELECT count(*) FROM goya_private.timers WHERE task_id = '$id'"), 6, '... the others have a time to come back');
$node->sql("SELECT goya.cancel('$id')", role => 'studio');

# ---- scripted: kept answers, templates, pictures ----

script('kept', 'echo', "price => 'tokens'");
$node->sql(q{SELECT goya.set_prompt('greet', 'Hello {{ who.name }}, {{ n }}', 'You are {{ mood }}.')}, role => 'studio');
($o, $id) = ask('succeeded', model => 'kept', prompt_template => 'greet', variables => { who => { name => 'Ada' }, n => 3, mood => 'kind' }, cache => 600);
is($o->{text}, 'Hello Ada, 3', 'a prompt template is filled in');
my $calls = () = seen('echo');
($o, $id) = ask('succeeded', model => 'kept', prompt_template => 'greet@1', variables => { who => { name => 'Ada' }, n => 3, mood => 'kind' }, cache => 600);
is($o->{text} . ($o->{cached} ? ' kept' : ''), 'Hello Ada, 3 kept', 'the same question is answered from what was kept');
is(scalar(() = seen('echo')), $calls, '... without a call');
is($node->sql("SELECT coalesce(sum(cost), -1) FROM goya.usage_records WHERE task_id = '$id'"), 0, '... and costs nothing');
($o) = ask('succeeded', model => 'kept', prompt_template => 'greet', variables => { who => { name => 'Bob' }, n => 3, mood => 'kind' }, cache => 600);
is($o->{text}, 'Hello Bob, 3', 'another question is not');
($o) = ask('failed', model => 'kept', prompt_template => 'greet', variables => { n => 3 });
like($o->{detail}, qr/\{\{ (mood|who\.name) \}\}/, 'a variable that is missing is named');
my $asset = $node->sql(q{INSERT INTO goya.assets (name, media_type, mime_type, content) VALUES ('dot', 'image', 'image/png', '\x89504e47') RETURNING id}, role => 'studio');
script('seer', 'echo');
ask('succeeded', model => 'seer', prompt => 'What is it?', content => [ { asset => $asset }, { image => 'https://example.com/a.png' } ]);
my ($last) = (seen('echo'))[-1];
is(json([ map { $_->{type} eq 'text' ? $_->{text} : $_->{image_url}{url} } @{ $last->{body}{messages}[-1]{content} } ]),
	'["What is it?","data:image/png;base64,iVBORw==","https://example.com/a.png"]', 'pictures are parts of the message');
script('painter', 'pictures', q(capabilities => '{image}', price => 'tokens'));
($o, $id) = ask('succeeded', model => 'painter', operation => 'image', prompt => 'A dot');
is(join(' ', map { $_->{url} // $_->{media_type} } @{ $o->{images} }), 'image/png https://example.com/1.png', 'images come as bytes or as addresses');
like(usage($id), qr/^image=2 request=1/, '... and are counted');
foreach my $kept (0, 1)
{
	($o, $id) = ask('succeeded', model => 'painter', operation => 'image', prompt => 'Another dot', spill => JSON::PP::true, cache => JSON::PP::true);
	is($o->{images}[0]{media_type} . ' ' . join(' ', sort keys %{ $o->{images}[0] }), 'image/png asset_id media_type sha256 size', 'an image becomes an asset' . ($kept ? ', one that was kept too' : ''));
	is($o->{images}[1]{url}, 'https://example.com/1.png', '... an address stays one');
	is($node->sql("SELECT a.media_type, a.mime_type, a.node, a.source, a.owner_role, a.status, convert_from(substr(a.content, 9), 'UTF8'), a.content = decode('iVBORw0KGgogbm90IHJlYWxseQ==', 'base64')
		FROM goya.assets a WHERE a.id = '$o->{images}[0]{asset_id}' AND a.task_id = '$id'"), 'image|image/png|ask|operator|studio|ready| not really|t', '... of its task and node, with its bytes');
}
is(scalar(() = seen('pictures')), 2, '... and the service was asked once for both');
script('muralist', 'pictures/1025', q(capabilities => '{image}'));
($o) = ask('succeeded', model => 'muralist', operation => 'image', prompt => 'A wall', spill => JSON::PP::true);
is(length $o->{images}[0]{base64}, 1399468, 'one that no asset can hold stays as it came');
script('ordered', 'vectors', q(capabilities => '{embedding}'));
($o) = ask('succeeded', model => 'ordered', operation => 'embedding', content => [ 'a', 'bb' ]);
is(join(' ', map { $_->[0] } @{ $o->{vectors} }), '1 2', 'vectors are in the order of the texts');

# ---- encrypted at rest ----

$node->sql(q{UPDATE goya.tenants SET settings = settings || '{"encrypt_prompts": true}'});
script('private', 'words/3');
ask('succeeded', model => 'private', prompt => 'hello', cache => JSON::PP::true);
($o) = ask('succeeded', model => 'private', prompt => 'hello', cache => JSON::PP::true);
is($o->{text} . ($o->{cached} ? ' kept' : ''), 'w0 w1 w2 kept', 'a tenant that wants it has its answers kept sealed');
is($node->sql(q{SELECT count(*) FROM goya_private.prompt_cache WHERE output IS NULL AND position('w1' IN encode(sealed, 'escape')) = 0}), 1, '... and not as they are');
$id = start(model => 'private', prompt => 'hello', stream => JSON::PP::true);
ended($node, $id, 'succeeded', 10, 'a stream of such a tenant');
$node->reached("SELECT string_agg(delta, '' ORDER BY seq) FROM goya.read_stream('$id', 'ask', timeout => '1 s')", 'w0 w1 w2', 10, '... can be read', role => 'studio');
is($node->sql("SELECT count(*) || ' ' || count(delta) FROM goya_private.stream_chunks WHERE task_id = '$id'") =~ /^[1-9]\d* 0$/ ? 1 : 0, 1, '... and is sealed in its table');
$node->sql(q{UPDATE goya.tenants SET settings = settings - 'encrypt_prompts'});

# ---- mistakes, and secrets ----

script('page', 'page');
($o) = ask('failed', model => 'page', prompt => 'hello');
like($o->{message}, qr/cannot be understood/, 'a page of HTML is no answer');
($o) = ask('failed', model => 'nobody', prompt => 'hello');
is("$o->{class} $o->{detail}", 'VALIDATION There is no model "nobody".', 'a model that is not there');
($o) = ask('failed', model => 'kept', operation => 'embedding', content => 'a');
is($o->{class}, 'VALIDATION', 'a model that cannot do it');
script('leak', 'leak', qq(secret => 'llama', $ALL));
foreach my $stream (JSON::PP::false, JSON::PP::true)
{
	($o, $id) = ask('succeeded', model => 'leak', prompt => 'hello', stream => $stream);
	is($o->{text}, 'the key is Bearer [secret llama] indeed', 'a key that comes back is taken out' . ($stream ? ', of a stream too' : ''));
}
is_sound($node);
$node->stop;
done_testing();
