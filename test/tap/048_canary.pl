# 048_canary.pl: a secret that calls of every kind use, against services that say it back in every spelling: it reaches the service, and is nowhere else.
#
# Nowhere: no log at debug5 with log_statement = all and auto_explain, no table or view that a superuser reads, no pg_stat_statements, pg_stat_activity, process title or
# environment while the calls run, no notification, no stream, no dump, no file of the data directory. 040_secrets.pl does the same for setting a secret.
#
# Decided: what is looked for are two words of the secret, one in its first half and one in its second, so that a part of it counts, too; as they are, in base64, in
# hexadecimal and escaped. No statement of this test has them: texts are searched here, not in SQL.
# Must hold: what is found missing from answers was in them: the service's own log says that it got the secret, and outputs and errors have "[secret …]".
use strict;
use warnings;

use File::Find ();
use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use HTTP::Tiny;
use IPC::Open2 ();
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(sleep time);

my ($HEAD, $TAIL) = ('QvCanary8Zt0aa', 'WnTail55RkEndzz');
my $SECRET = $HEAD . ' /+="%&<:;\\x' . $TAIL;

# ---- what is looked for ----
sub spellings
{
	my ($word) = @_;
	my @all = ($word, unpack('H*', $word), uc unpack('H*', $word), join('', map { sprintf '\\u%04x', ord } split //, $word), join('', map { sprintf '%%%02x', ord } split //, $word));

	# What of base64 does not depend on what stands before and behind.
	foreach my $before (0 .. 2)
	{
		my $text = encode_base64('x' x $before . $word, '');
		push @all, substr($text, $before ? 4 : 0, 12);
	}
	return @all;
}
my $ANY = join '|', map { quotemeta } map { spellings($_) } $HEAD, $TAIL;
$ANY = qr/$ANY/;

# The first that is found, with what is around it.
sub found { my ($text) = @_; return defined $text && $text =~ $ANY ? substr($text, $-[0] > 60 ? $-[0] - 60 : 0, 120) : ''; }

like(encode_base64("Basic u:$SECRET", ''), $ANY, 'the canary is found in base64');

# ---- a server with all ears ----
my $dir = PostgreSQL::Test::Utils::tempdir();
open my $out, '>', "$dir/keys" or die $!;
print $out 'k1 ', '7e' x 32, "\n";
close $out;
chmod 0600, "$dir/keys";
my $node = GoyaNode->start(name => 'canary', preload => 'pg_cron,goya,pg_stat_statements,auto_explain', conf => $GoyaWork::CONF . <<"CONF");
goya.master_key_file = '$dir/keys'
log_min_messages = debug5
log_statement = all
log_min_duration_statement = 0
log_parameter_max_length = 0
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_verbose = on
pg_stat_statements.track = all
pg_stat_statements.track_utility = on
goya.cli = on
track_activity_query_size = 100kB
CONF
create_studio($node);
$node->sql('CREATE EXTENSION pg_stat_statements');
# It may connect, and nothing else: what it hears anybody hears.
$node->sql('CREATE ROLE passer');
my $notified = $node->session(role => 'passer');
$notified->query_safe("LISTEN $_") foreach qw(goya_stream goya_asset goya_task goya);
open $out, '>', "$dir/set.pgbench" or die $!;
print $out "SELECT goya.set_secret(:name, :value, ARRAY['http://127.0.0.1:' || :port::text], 'for the test');\n";
close $out;

my $pid = IPC::Open2::open2(my $said, my $end, 'python3', "$FindBin::Bin/../servers/parrot.py");
my ($port, $other) = split ' ', <$said> // '';
BAIL_OUT('the server did not start') unless $other;
END { my $status = $?; close $end; waitpid $pid, 0 if $pid; $? = $status; }

my %value = (key => $SECRET, pair => "me:$SECRET", token => "2$SECRET", aws => "3$SECRET");
foreach my $name (sort keys %value)
{
	PostgreSQL::Test::Utils::system_or_bail('pgbench', '-n', '-t', 1, '-M', 'extended', '-h', $node->host, '-p', $node->port, '-U', 'studio', '-D', "name=$name", '-D', "value=$value{$name}", '-D', "port=$port",
		'-f', "$dir/set.pgbench", 'goya');
}

# ---- text that comes in pieces, and JSON in JSON in JSON ----
my $module = "$dir/secret_probe.so";
chomp(my $headers = `pg_config --includedir-server`);
PostgreSQL::Test::Utils::system_or_bail(split(/ /, $ENV{CC} // 'cc'), qw(-O0 -w -fPIC -shared -I), $headers, '-I', "$FindBin::Bin/../../src", '-o', $module, "$FindBin::Bin/../modules/secret_probe.c");
$node->sql("CREATE FUNCTION app.pieces(tenant uuid, name text, tls boolean, host text, port integer, answer bytea, size integer) RETURNS bytea LANGUAGE c STRICT AS '$module', 'probe_redact_pieces';
	SELECT goya.set_secret('other', \$x\$ab+\"c\\n d%e-value\$x\$, ARRAY['http://127.0.0.1'])", role => undef);
my $other_value = 'ab+"c\\n d%e-value';
my @texts = ('nothing', 'plain', $other_value, "$other_value$other_value", 'ab+"c\\n d%e-valu', "ab+$other_value", 'a%a&a\\a+', unpack('H*', "x$other_value"), encode_base64("xy$other_value.", ''), $other_value =~ s/(\W)/sprintf '%%%02X', ord $1/ger);
my $nested = $other_value;
push @texts, $nested = json("<$nested>") foreach 1 .. 4;
my $rows = join ', ', map { "($_, '\\x" . unpack('H*', "before $texts[$_] after") . "'::bytea)" } 0 .. $#texts;
my @got = split /\n/, $node->sql("SELECT string_agg(DISTINCT encode(app.pieces(goya.current_tenant(), 'other', false, '127.0.0.1', 80, x, size), 'escape'), ' | ')
	FROM (VALUES $rows) v(i, x), unnest('{1,2,3,5,11,1000}'::integer[]) size GROUP BY i ORDER BY i");
foreach my $i (0 .. $#texts)
{
	my $expected = $i < 2 || $texts[$i] =~ /valu$|^a%a/ ? $texts[$i] : $texts[$i] =~ /^ab\+ab/ ? 'ab+[secret other]' : '';
	$expected = '[secret other]' x ($i == 3 ? 2 : 1) if $i == 2 || $i == 3;
	$expected ? is($got[$i], 'before ' . ($expected =~ s/\\/\\\\/gr) . ' after', "the same in pieces of any size: $texts[$i]") : like($got[$i], qr/^before [^|]*\[secret other\][^|]* after$/, "found in pieces of any size: $texts[$i]");
	unlike($got[$i], qr/d%|6425|ZCVl/, 'nothing of it is left') if !$expected;
}
like($got[-1] =~ s/\\\\/\\/gr, qr/^before ("<.*\[secret other\].*>") after$/, 'what was JSON');
ok(eval { JSON::PP->new->allow_nonref->decode($got[-1] =~ s/\\\\/\\/gr =~ s/^before | after$//gr) }, 'is JSON');

# A search that would take minutes, in which nobody's calls go on: 4 kB that begin alike everywhere in 200 kB.
$node->sql("SELECT goya.set_secret('alike', repeat('a', 4000) || 'b', ARRAY['http://127.0.0.1'])");
my $began = time;
is($node->sql("SELECT convert_from(app.pieces(goya.current_tenant(), 'alike', false, '127.0.0.1', 80, convert_to(repeat('a', 200000), 'UTF8'), 300000), 'UTF8')"), '[secret alike]', 'an answer that is made to be searched for ever counts as the secret');
cmp_ok(time - $began, '<', 20, 'and is not');
is($node->sql("SELECT convert_from(app.pieces(goya.current_tenant(), 'alike', false, '127.0.0.1', 80, convert_to('x' || repeat('a', 4000) || 'by', 'UTF8'), 700), 'UTF8')"), 'x[secret alike]y', 'one that has it is like any other');

# ---- calls of every kind ----
my $service = "http://127.0.0.1:$port";
my $once = { max_attempts => 1 };
my (%node, %task);

sub http { my ($way, %more) = @_; return { kind => 'http', method => 'GET', url => 'URL', way => $way, auth => { type => 'bearer', secret => 'key' }, %more }; }

%node = (
	(map { ("bearer_$_" => http($_)) } qw(ok deny broken hang slow)),
	basic_ok => http('ok', auth => { type => 'basic', username => 'me', secret => 'key' }), basic_deny => http('deny', auth => { type => 'basic', secret => 'pair' }),
	header_ok => http('ok', auth => { type => 'api_key', name => 'X-Api-Key', prefix => 'Key ', secret => 'key' }), headers_deny => http('deny', auth => undef, secret_headers => { 'X-One' => 'key', 'X-Two' => 'token' }),
	query_ok => http('ok', auth => { type => 'api_key', name => 'key', in => 'query', secret => 'key' }), query_deny => http('deny', auth => { type => 'api_key', name => 'key', in => 'query', secret => 'key' }),
	query_hang => http('hang', auth => { type => 'api_key', name => 'key', in => 'query', secret => 'key' }), query_slow => http('slow', auth => { type => 'api_key', name => 'key', in => 'query', secret => 'key' }),
	query_away => http('away', redirects => 2, auth => { type => 'api_key', name => 'key', in => 'query', secret => 'key' }),
	sigv4_ok => http('ok', auth => { type => 'aws_sigv4', access_key => 'AKID', secret => 'aws', region => 'eu', service => 's3', session_token => 'token' }),
	bearer_away => http('away', redirects => 2), bearer_stay => http('away'),
	stream_pieces => http('pieces', stream => JSON::PP::true), stream_slow => http('slow', stream => 'text'), spilled_ok => http('ok', spill => { over => 10 }), paged_ok => http('ok', paging => { type => 'link' }),
	poll_ok => http('ok', poll => { url => 'URL', interval => 0.05, until => '$.base64 like_regex "."' }), callback_ok => http('ok', callback => { timeout => '1s' }, method => 'POST'));
$node{"model_$_"} = { kind => 'ai_model', way => $_, prompt => 'hi' } foreach qw(ok deny broken hang slow away);
$node{"model_stream_$_"} = { kind => 'ai_model', way => $_, prompt => 'hi', stream => JSON::PP::true, tools => [ { name => 'tell', parameters => {} } ] } foreach qw(ok hang slow deny);
$node{model_cached_ok} = { kind => 'ai_model', way => 'ok', prompt => 'hi', cache => 60 };
$node{model_schema_ok} = { kind => 'ai_model', way => 'ok', prompt => 'hi', response_schema => { type => 'object' } };
$node{agent_ok} = { kind => 'agent', way => 'ok', prompt => 'hi', tools => ['echo'] };
$node{"mcp_$_"} = { kind => 'mcp', way => $_, tool => 'tell', arguments => {} } foreach qw(ok deny broken hang slow away pieces fault);

# What each of them says to a service that is not there for long.
my @sql = (q{SELECT goya.create_operator('echo', 'sql', '{"function": "app.echo"}', description => 'x')});
foreach my $name (sort keys %node)
{
	my $n = $node{$name};
	my $way = delete $n->{way};
	my $base = "$service/$name/$way";

	foreach (grep { ($_->{url} // '') eq 'URL' } $n, $n->{poll} // ())
	{
		$_->{url} = "$base?q=1";
	}
	delete $n->{auth} if exists $n->{auth} && !defined $n->{auth};
	if ($n->{kind} eq 'mcp')
	{
		my $auth = $name =~ /pieces|fault/ ? '{"type": "api_key", "name": "X-Key", "secret": "key"}' : $name eq 'mcp_hang' ? '{"type": "basic", "username": "me", "secret": "key"}' : '{"type": "bearer", "secret": "key"}';
		push @sql, "SELECT goya.create_mcp_server('$name', '$base/mcp', auth => '$auth', protocol => '2025-11-25')";
		$n->{server} = $name;
	}
	elsif ($n->{kind} ne 'http')
	{
		push @sql, "SELECT goya.create_model('$name', '$base/v1', secret => 'key', capabilities => '{chat,tools,stream,json_schema}')";
		$n->{model} = $name;
	}
	my $limit = $name =~ /slow/ ? '1500ms' : '10s';
	$n = { timeout => $limit, retry => $once, %$n, key => 'n' };
	push @sql, sprintf q{SELECT goya.create_workflow('%s', $d$%s$d$, publish => true)}, $name, json({ nodes => [$n] });
}
$node->sql(join(";\n", @sql), role => 'studio');
# A program runs beside the calls: it has nothing of them.
$node->sql(q{SELECT goya.create_program('env', '/bin/sh', ARRAY['-c', 'env; tr "\\0" "\\n" </proc/$PPID/environ; sleep 1'], NULL)});
create_workflow($node, 'program', { nodes => [ { key => 'n', kind => 'cli', program => 'env', retry => $once } ] });
my @names = (sort(keys %node), 'program');
@task{@names} = split /\n/, $node->sql(join(";\n", map { "SELECT goya.run('$_')" } @names), role => 'studio');
foreach my $sync (qw(mcp_ok mcp_deny))
{
	$task{"sync_$sync"} = $node->sql("SELECT goya.sync_mcp_server('$sync')", role => 'studio');
}
$task{test_model} = $node->sql(q{SELECT goya.test_model('model_deny')}, role => 'studio');

# ---- while they run ----
sub slurp { my ($file) = @_; open my $in, '<:raw', $file or return ''; local $/; return scalar(<$in>) // ''; }

# All processes of the cluster, as the system shows them.
sub processes
{
	my %parent = map { my ($id, $parent) = slurp("$_/stat") =~ /^(\d+) \(.*\) \S (\d+)/s; $id ? ($id => $parent) : () } glob '/proc/[0-9]*';
	my ($root) = slurp($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @ours;

	foreach my $id (keys %parent)
	{
		my $up = $id;
		$up = $parent{$up} while $up && $up != $root && $parent{$up};
		push @ours, $id if $up && $up == $root;
	}
	return map { slurp("/proc/$_/cmdline") . slurp("/proc/$_/environ") } @ours;
}
my ($looks, $most, @shown) = (0, 0);
my $watch = $node->session;
my $deadline = time + 60;
while (time < $deadline)
{
	my @processes = processes();
	$most = @processes if @processes > $most;
	push @shown, grep { $_ ne '' } map { found($_) } @processes, $watch->query_safe('SELECT * FROM pg_stat_activity'), $watch->query_safe('SELECT * FROM goya.activity');
	$looks++;
	last if $watch->query_safe('SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL') == 0;
	sleep 0.1;
}
cmp_ok($looks, '>=', 5, "looked while they ran ($looks times, $most processes)");
is("@shown", '', 'no process title, environment or row of pg_stat_activity and goya.activity has it');
$watch->quit;

# ---- what came of them ----
my %end;
foreach (split /\n/, $node->sql(q{SELECT id || ' ' || jsonb_build_object('status', status, 'output', output, 'error', error) FROM goya.tasks}))
{
	my ($id, $text) = split / /, $_, 2;
	$end{$id} = $text;
}
is(join(' ', grep { !defined $end{$task{$_}} || $end{$task{$_}} =~ /"status": "(running|waiting|pending)"/ } sort keys %task), '', 'all have ended');
my $seen = JSON::PP::decode_json(HTTP::Tiny->new->get("$service/_seen")->{content});
my (@unsent, @kept, @failed);
foreach my $name (sort keys %node)
{
	my @requests = @{ $seen->{$name} // [] };
	my $sent = join "\n", map { ($_->{path} =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger) =~ tr/+/ /r, %{ $_->{headers} } } grep { $_->{port} == $port } @requests;
	my $basic = join "\n", map { MIME::Base64::decode_base64($_) } $sent =~ /Basic (\S+)/g;
	my $elsewhere = join "\n", map { $_->{path}, %{ $_->{headers} } } grep { $_->{port} == $other } @requests;

	push @unsent, $name unless "$sent\n$basic" =~ /\Q$HEAD\E.*\Q$TAIL\E/s;
	push @kept, $name if found($elsewhere) ne '';
	push @failed, "$name: $end{$task{$name}}" if ($end{$task{$name}} =~ /"status": "succeeded"/ ? 1 : 0) != ($name =~ /_(ok|pieces)$|^(bearer|query)_away$/ && $name !~ /callback|schema/ ? 1 : 0);
}
is("@unsent", '', 'each call has sent it');
is("@kept", '', 'and none to another origin');
is(join("\n", @failed), '', 'those went well that should');
is(scalar(grep { $_->{port} == $other } @{ $seen->{bearer_away} }), 1, 'a redirect was followed');
is(join("\n", grep { $_ ne '' } map { my $f = found($end{$task{$_}}); $f ne '' ? "$_: $f" : '' } sort keys %task), '', 'no output and no error has it');
my @silent = grep { $end{$task{$_}} !~ /\[secret \w+\]/ } grep { /_(ok|deny|broken|pieces|fault)$/ && !/spilled|callback|schema_ok|sync_mcp_ok/ } sort keys %task;
is("@silent", '', 'but that it was there');
diag("$_: $end{$task{$_}}") foreach @silent;
like($end{$task{program}}, qr/GOYA_TASK_ID/, 'a program has run beside them');

# ---- streams, pieces put together ----
foreach my $name (grep { /stream/ } sort keys %node)
{
	my $text = $node->sql("SELECT string_agg(delta, '' ORDER BY seq) FROM goya.read_stream('$task{$name}', 'n', timeout => '0 s')", role => 'studio');

	is(found($text), '', "$name: nobody reads it");
	like($text, qr/\[secret key\]/, 'but that it was there') if $name =~ /_(ok|hang|pieces)$/;
}
my ($asset) = $node->sql(q{INSERT INTO goya.assets (name, uri, media_type) VALUES ('unheard of', 'file:///unheard-of', 'video') RETURNING id}, role => 'studio');
my $notes = join "\n", map { $notified->query_safe('SELECT 1') } 1 .. 2;
like($notes, qr/Asynchronous notification "goya_stream"/, 'streams were announced');
is(found($notes), '', 'without it');
# docs/security.md says what everybody hears.
my %heard;
$heard{"$1 " . join ' ', sort keys %{ JSON::PP::decode_json($2) }}++ while $notes =~ /Asynchronous notification "(\w+)" with payload "(.*)" received from/g;
is(join(', ', sort keys %heard), 'goya_asset ids, goya_stream item node seq task_id', 'who may only connect hears ids, nodes and numbers');
like($notes, qr/"goya_asset" with payload "\{"ids": \["$asset"\]\}"/, 'the id of an asset');
unlike($notes, qr/unheard.of/, 'and nothing else of it');
$notified->quit;

# ---- all that a superuser can read ----
my @relations = split /\n/, $node->sql(q{SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p', 'v', 'm') AND (n.nspname LIKE 'goya%' OR n.nspname IN ('app', 'cron', 'public')) AND c.relname <> 'pg_stat_statements_info'});
my $all = $node->sql(join ";\n", map { "\\echo -- $_\nCOPY (SELECT x::text FROM $_ x) TO STDOUT" } @relations);
cmp_ok(scalar @relations, '>', 70, 'all tables and views');
is(found($all), '', 'no row has it');
like($all, qr/\[secret key\]/, 'answers are among them');
like($all, qr/set_secret/, 'and pg_stat_statements');
foreach my $call (qw(goya.health() goya.list_master_keys()), map { "goya.$_('$task{mcp_pieces}')" } qw(diagnose timeline))
{
	is(found($node->sql("SELECT * FROM $call")), '', "nor what $call says");
}
is_sound($node);
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-Fp', '-f', "$dir/dump", 'goya');
my $dump = slurp("$dir/dump");
like($dump, qr/\[secret key\]/, 'a dump has the answers');
is(found($dump), '', 'and nothing of it');

# ---- all files ----
$node->sql('CHECKPOINT');
$node->stop('fast');
my @files;
File::Find::find({ no_chdir => 1, wanted => sub { my $f = -f $_ ? found(slurp($_)) : ''; push @files, "$_: $f" if $f ne ''; } }, $node->data_dir);
is(join("\n", @files), '', 'no file of the data directory');
my $log = slurp($node->logfile);
like($log, qr/DEBUG:.*LOG:  duration: [0-9.]+ ms  plan:/s, 'the log of the server has debug messages and plans');
is(found($log), '', 'and nothing of it');
done_testing();
