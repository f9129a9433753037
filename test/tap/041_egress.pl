# 041_egress.pl: which addresses outside calls reach: every spelling of a denied one, rules per tenant, kept connections, redirects, names that change
# their address, proxies of the environment. H2 of the reliability list.
#
# Decided: the test runs itself in a user, network and mount namespace in which all addresses of the world lead to one server (servers/everywhere.py), with
# a resolver of its own: so a public address can be called without a network, and a call to a denied one would be in the server's log. Nothing but the
# log decides: whatever an error says, no connection may have been made. Where the kernel allows no such namespace the test is skipped.
# Must hold: at the end the log has no connection to an address that was not allowed at that moment.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use Test::More;

# Before anything else is loaded: the test begins anew, apart from the rest of the machine.
BEGIN
{
	if (!$ENV{GOYA_EVERYWHERE})
	{
		my @apart = ('unshare', '--user', '--map-current-user', '--net', '--mount', '--keep-caps', '--');

		plan(skip_all => 'no namespaces for ordinary users here, or no iproute2') if system(@apart, 'ip', 'link', 'set', 'lo', 'up') != 0;
		$ENV{GOYA_EVERYWHERE} = 1;
		# An engine that listened to these would call 127.0.0.1:3128 instead of the service.
		$ENV{$_} = 'http://127.0.0.1:3128' foreach qw(http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY);
		exec @apart, $^X, $0 or die "unshare: $!";
	}
}

use GoyaNode;
use GoyaWork;
use IPC::Open2 ();
use JSON::PP ();
use PostgreSQL::Test::Utils ();

my $PUBLIC = '93.184.216.34';
my $PUBLIC6 = '2606:4700::1111';
my $METADATA = '169.254.169.254';

# ---- the world ----

my $scratch = PostgreSQL::Test::Utils::tempdir();
my $log = "$scratch/connections";
my %files = (
	'/etc/resolv.conf' => "nameserver 127.0.0.1\noptions timeout:10 attempts:1\n",
	'/etc/hosts' => "127.0.0.1 localhost loop.hosts.test\n::1 ip6-localhost\n$METADATA metadata.hosts.test\n");

sub command { system(@_) == 0 or BAIL_OUT("@_ failed: $?"); return; }

command(qw(ip link set lo up));
command(qw(ip route add local 0.0.0.0/0 dev lo));
command(qw(ip -6 route add local ::/0 dev lo));
foreach my $path (sort keys %files)
{
	(my $copy = "$scratch/$path") =~ s{/etc/}{};
	PostgreSQL::Test::Utils::append_to_file($copy, $files{$path});
	command('mount', '--bind', $copy, $path);
}
PostgreSQL::Test::Utils::append_to_file($log, '');
my $world = IPC::Open2::open2(my $out, my $in, 'python3', "$FindBin::Bin/../servers/everywhere.py", $log, '21,22,25,70,80,443,3128,5432,6379,8080,11211',
	"public.test=$PUBLIC", "public6.test=$PUBLIC6", 'loop.test=127.0.0.1', 'loop6.test=::1', 'private.test=10.0.0.1', "metadata.test=$METADATA",
	'mapped.test=::ffff:127.0.0.1', 'nat64.test=64:ff9b::7f00:1', 'sixtofour.test=2002:7f00:1::1', 'cname.test=loop.test', 'zero.test=0.0.0.0',
	"both.test=10.0.0.1,$PUBLIC", "rebind.test=$PUBLIC|127.0.0.1", "unbind.test=127.0.0.1|$PUBLIC", 'media.internal.test=10.20.0.5', 'other.internal.test=10.20.0.6',
	"api.example.test=$PUBLIC", "cdn.example.test=$PUBLIC", 'xn--bcher-kva.test=127.0.0.1');
BAIL_OUT('the world did not start') unless (<$out> // '') eq "ready\n";

my $read = 0;

# Lines of the log since the last call.
sub news
{
	open my $file, '<', $log or die $!;
	seek $file, $read, 0;
	my @lines = map { JSON::PP::decode_json($_) } <$file>;
	$read = tell $file;
	return @lines;
}

# "address:port …" of the connections and requests since, each once.
sub reached
{
	my %seen = map { ("$_->{address}:$_->{port}" => 1) } news();
	return join ' ', sort keys %seen;
}

# ---- the node ----

my $node = GoyaNode->start(name => 'egress', conf => "goya.http_connect_timeout = 15\n");
create_studio($node);
$node->sql(q{SELECT goya.create_tenant('acme'); SELECT goya.create_tenant('bolt');
	CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; GRANT goya_user TO alice, bob;
	SELECT goya.add_member('alice', 'acme'); SELECT goya.add_member('bob', 'bolt');});

my $shape = { nodes => [ { key => 'all', kind => 'map', over => '{{ input.urls }}', error_budget => 'all',
	node => { key => 'h', kind => 'http', url => '{{ item }}', timeout => '20s', retry => { max_attempts => 1 },
		output => '$.output.body.address' } } ], edges => [] };
create_workflow($node, 'try', $shape, role => $_) foreach qw(studio alice bob);

# What becomes of calls to these urls, one each, as somebody: "called ADDRESS" or the class of the error.
sub fates
{
	my ($role, @urls) = @_;
	my $workflow = ref $urls[0] ? shift(@urls)->[0] : 'try';
	my $id = $node->sql(sprintf(q{SELECT goya.run('%s', $json$%s$json$)}, $workflow, JSON::PP->new->ascii->encode({ urls => \@urls })), role => $role);
	my @fates = map { /^\s*$/ ? () : $_ } split /\n/, $node->sql(<<"SQL");
SELECT FROM goya.wait_for_task('$id', '60 s') \\g /dev/null
SELECT coalesce('called ' || (r.output #>> '{}'), r.error ->> 'class') FROM goya.node_runs r WHERE r.task_id = '$id' AND r.node = 'h' ORDER BY r.item
SQL
	return @fates;
}

sub fate { return (fates(@_))[0]; }

# ---- nothing is allowed but what is public ----

my $DENIED = 'POLICY_DENY';
my $BAD = 'VALIDATION';
my $PATH = '/latest/meta-data/iam';

# url => what must become of it; "no" is any failure: what counts is that nothing was called.
my @corpus = (
	# IPv4, as the URL standard and inet_aton read it
	[ "http://127.0.0.1$PATH", $DENIED ], [ "http://127.1$PATH", $DENIED ], [ 'http://127.0.1/', $DENIED ], [ 'http://127.255.255.254/', $DENIED ],
	[ 'http://2130706433/', $DENIED ], [ 'http://017700000001/', $DENIED ], [ 'http://0x7f000001/', $DENIED ], [ 'http://0x7f.0.0.1/', $DENIED ],
	[ 'http://0x7f.1/', $DENIED ], [ 'http://0177.0.0.1/', $DENIED ], [ 'http://0177.0.0.01/', $DENIED ], [ 'http://00000177.0.0.1/', $DENIED ],
	[ 'http://0x7F.0X0.0x0.0X1/', $DENIED ], [ 'http://127.0.0x1/', $DENIED ], [ 'http://4294967295/', $DENIED ], [ 'http://0/', $DENIED ],
	[ 'http://0.0.0.0/', $DENIED ], [ 'http://0.0.0.0:22/', $DENIED ], [ 'http://0x0/', $DENIED ], [ 'http://000.000.000.000/', $DENIED ],
	[ 'http://127.0.0.1./', 'no' ], [ 'http://2130706433./', 'no' ], [ 'http://127.0.0.1:80/', $DENIED ], [ 'http://6425673729/', 'no' ],
	[ 'http://127.0.0.256/', 'no' ], [ 'http://0xa9fea9fe/', $DENIED ], [ 'http://2852039166/', $DENIED ], [ 'http://0251.0376.0251.0376/', $DENIED ],
	[ "http://$METADATA$PATH", $DENIED ], [ 'http://169.254.43518/', $DENIED ], [ 'http://169.16689662/', $DENIED ], [ 'http://10.0.0.1/', $DENIED ],
	[ 'http://10.1/', $DENIED ], [ 'http://192.168.0.1/', $DENIED ], [ 'http://172.31.255.255/', $DENIED ], [ 'http://100.64.0.1/', $DENIED ],
	[ 'http://198.18.0.1/', $DENIED ], [ 'http://192.0.0.192/', $DENIED ], [ 'http://224.0.0.1/', $DENIED ], [ 'http://255.255.255.255/', $DENIED ],
	[ 'http://240.0.0.1/', $DENIED ],
	# IPv6
	[ 'http://[::1]/', $DENIED ], [ 'http://[0:0:0:0:0:0:0:1]/', $DENIED ], [ 'http://[::]/', $DENIED ], [ 'http://[::ffff:127.0.0.1]/', $DENIED ],
	[ 'http://[::ffff:7f00:1]/', $DENIED ], [ 'http://[0:0:0:0:0:ffff:a9fe:a9fe]/', $DENIED ], [ 'http://[::127.0.0.1]/', $DENIED ],
	[ 'http://[::ffff:0:127.0.0.1]/', $DENIED ], [ 'http://[64:ff9b::127.0.0.1]/', $DENIED ], [ 'http://[64:ff9b::a9fe:a9fe]/', $DENIED ],
	[ 'http://[64:ff9b:1::a00:1]/', $DENIED ], [ 'http://[2002:7f00:1::]/', $DENIED ], [ 'http://[2002:a9fe:a9fe::1]/', $DENIED ],
	[ 'http://[2606:4700::5efe:10.0.0.1]/', $DENIED ], [ 'http://[2001:0:1:2:3:4:5:6]/', $DENIED ], [ 'http://[fe80::1]/', $DENIED ],
	[ 'http://[fe80::1%25lo]/', 'no' ], [ 'http://[fe80::1%lo]/', 'no' ], [ 'http://[::1%25lo]/', 'no' ], [ 'http://[fd00:ec2::254]/', $DENIED ],
	[ 'http://[fc00::1]/', $DENIED ], [ 'http://[ff02::1]/', $DENIED ], [ 'http://[2001:db8::1]/', $DENIED ], [ 'http://[::ffff:127.0.0.1', 'no' ],
	# names
	[ 'http://localhost/', $DENIED ], [ 'http://LOCALHOST/', $DENIED ], [ 'http://localhost./', 'no' ], [ 'http://a.localhost/', $DENIED ],
	[ 'http://loop.hosts.test/', $DENIED ], [ 'http://metadata.hosts.test/', $DENIED ], [ 'http://loop.test/', $DENIED ], [ 'http://loop.test./', $DENIED ],
	[ 'http://LOOP.test/', $DENIED ], [ 'http://loop6.test/', $DENIED ], [ 'http://private.test/', $DENIED ], [ 'http://metadata.test/', $DENIED ],
	[ 'http://mapped.test/', $DENIED ], [ 'http://nat64.test/', $DENIED ], [ 'http://sixtofour.test/', $DENIED ], [ 'http://cname.test/', $DENIED ],
	[ 'http://zero.test/', $DENIED ], [ 'http://ip6-localhost/', $DENIED ], [ "http://b\x{fc}cher.test/", $DENIED ],
	[ "http://\x{ff4c}oop.test/", $DENIED ], [ "http://\x{24db}oop.test/", $DENIED ], [ "http://\x{ff11}27.0.0.1/", 'no' ],
	[ "http://127\x{3002}0\x{3002}0\x{3002}1/", 'no' ], [ "http://\x{2460}27.0.0.1/", 'no' ], [ 'http://%31%32%37.0.0.1/', 'no' ],
	[ 'http://loop%2etest/', 'no' ], [ 'http://127%2e0.0.1/', 'no' ],
	# tricks with the parts of a url
	[ "http://$PUBLIC\@127.0.0.1/", $DENIED ], [ "http://$PUBLIC:80\@127.0.0.1:22/", $DENIED ], [ "http://a:b\@c\@127.0.0.1/", 'no' ],
	[ "http://127.0.0.1#\@$PUBLIC/", $DENIED ], [ "http://127.0.0.1?\@$PUBLIC/", $DENIED ], 
	[ "http://127.0.0.1\\.$PUBLIC/", 'no' ], [ 'http:127.0.0.1/', 'no' ], [ 'http:/127.0.0.1/', 'no' ], [ 'http:///127.0.0.1/', 'no' ], [ 'http:\\\\127.0.0.1/', 'no' ],
	[ '//127.0.0.1/', $BAD ], [ '127.0.0.1', $BAD ], [ ' http://127.0.0.1/', 'no' ], [ "http://127.0.0.1\t/", 'no' ], [ "http://127.0.0.1/\r\nX-Evil: 1", $BAD ],
	[ "http://$PUBLIC/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", $BAD ], [ "http://$PUBLIC\r\n\@127.0.0.1/", $BAD ], [ 'http://127.0.0.1:80:22/', 'no' ],
	[ 'http://127.0.0.1:99999/', 'no' ], [ 'http://127.0.0.1:0/', 'no' ], [ 'http://127.0.0.1:5432/', $DENIED ],
	# schemes
	[ 'file:///etc/passwd', $BAD ], [ 'gopher://127.0.0.1:70/_x', $BAD ], [ 'ftp://127.0.0.1/', $BAD ], [ 'dict://127.0.0.1:11211/stat', $BAD ],
	[ 'ldap://127.0.0.1/', $BAD ], [ 'smtp://127.0.0.1/', $BAD ], [ 'telnet://127.0.0.1:22/', $BAD ], [ 'scp://127.0.0.1/x', $BAD ], [ 'ws://127.0.0.1/', $BAD ],
	[ 'jar:http://127.0.0.1!/', $BAD ], [ 'unix:///tmp/.s.PGSQL.5432', $BAD ], [ 'https://127.0.0.1/', $DENIED ], [ 'HTTP://127.0.0.1/', $DENIED ],
	[ 'httpx://127.0.0.1/', $BAD ]);

my @fates = fates('studio', map { $_->[0] } @corpus);
is(scalar @fates, scalar @corpus, scalar(@corpus) . ' spellings of what must not be called have an end each');
foreach my $i (0 .. $#corpus)
{
	my ($url, $wanted) = @{ $corpus[$i] };
	my $got = $fates[$i] // 'nothing';
	my $good = $wanted eq 'no' ? $got !~ /^called/ : $got eq $wanted;

	fail("$url: $got, not $wanted") if !$good;
}
is(reached(), '', 'and none was called');

my @public = ("http://$PUBLIC/", "http://[$PUBLIC6]/", 'http://public.test/', 'http://public6.test/', 'http://1572395042/', "http://127.0.0.1\@$PUBLIC/",
	"http://127.0.0.1\\\@$PUBLIC/", "http://$PUBLIC/?\@127.0.0.1", "http://$PUBLIC#127.0.0.1", "http://[64:ff9b::$PUBLIC]/", 'http://both.test/');
is_deeply([ fates('studio', @public) ],
	[ "called $PUBLIC", "called $PUBLIC6", "called $PUBLIC", "called $PUBLIC6", "called $PUBLIC", "called $PUBLIC", "called $PUBLIC", "called $PUBLIC", "called $PUBLIC", 'called 64:ff9b::5db8:d822',
		"called $PUBLIC" ], 'public addresses are called, by whatever name, and of two addresses the public one');
is(reached(), "2606:4700::1111:80 64:ff9b::5db8:d822:80 $PUBLIC:80", 'and nothing else is: no private one of two, no proxy of the environment');

# ---- names that change their address ----

is(fate('studio', 'http://rebind.test/'), "called $PUBLIC", 'a name that is public when first asked');
is(fate('studio', 'http://rebind.test:8080/'), $DENIED, 'and not when asked again');
is(fate('studio', 'http://unbind.test/'), $DENIED, 'a name that is not public');
is(reached(), "$PUBLIC:80", 'only its public address was called');

# ---- rules of administrators ----

$node->sql(q{SELECT goya.allow_egress('*.internal.test', '10.20.0.0/24', '80', 'http', tenant => 'acme')});
is(fate('alice', 'http://media.internal.test/'), 'called 10.20.0.5', 'a rule opens a private network to a tenant');
is(join(' ', fates('alice', 'http://10.20.0.5/', 'http://media.internal.test:8080/', 'https://media.internal.test/', 'http://private.test/')), join(' ', ($DENIED) x 4),
	'under that name, port and scheme and in that network only');
is(fate('bob', 'http://media.internal.test/'), $DENIED, 'and not to another, though the connection is there');
is(fate('studio', 'http://media.internal.test/'), $DENIED, 'nor to the default tenant');
is(scalar(grep { $_->{what} eq 'request' && $_->{address} eq '10.20.0.5' } news()), 1, 'the kept connection carried one request');

my $any = $node->sql(q{SELECT goya.allow_egress(ordinal => 1)});
is(join(' ', fates('alice', 'http://127.0.0.1/', "http://$METADATA/", 'http://loop.test/', 'http://[::1]/')), join(' ', ($DENIED) x 4), 'allowing everything opens nothing private');
$node->sql(qq{SELECT goya.drop_egress_rule($any)});
my $name = $node->sql(q{SELECT goya.allow_egress('loop.test')});
is(fate('alice', 'http://loop.test/'), $DENIED, 'nor does a name without its network');
$node->sql(qq{SELECT goya.drop_egress_rule($name)});
my $never = $node->sql(q{SELECT goya.allow_egress(network => '0.0.0.0/0'), goya.allow_egress(network => '::/0')});
is(join(' ', fates('alice', 'http://0.0.0.0/', 'http://[::]/', 'http://224.0.0.1/', 'http://[ff02::1]/', 'http://zero.test/')), join(' ', ($DENIED) x 5),
	'0.0.0.0, :: and multicast are never called, whatever is allowed');
is(join(' ', fates('alice', 'http://127.0.0.1/', 'http://[fd00::1]/')), 'called 127.0.0.1 called fd00::1', 'all other networks are, if an administrator says so');
$node->sql("SELECT goya.drop_egress_rule($_)") foreach split /\|/, $never;
news();

my $deny = $node->sql(q{SELECT goya.deny_egress(network => '93.184.216.0/24')});
is(join(' ', fates('bob', "http://$PUBLIC/", 'http://api.example.test/', "http://[64:ff9b::$PUBLIC]/", "http://[::ffff:$PUBLIC]/", "http://[2002:5db8:d822::1]/", "http://[$PUBLIC6]/")),
	join(' ', ($DENIED) x 5, "called $PUBLIC6"), 'a public network can be denied, in every form');
like($node->sql(qq{SELECT r.error ->> 'message' FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id WHERE t.run_as = 'bob' AND r.node = 'h' ORDER BY t.created_at DESC, r.item LIMIT 1}),
	qr/denied by egress rule $deny/, 'the error names the rule');
$node->sql(qq{SELECT goya.allow_egress('api.example.test', '93.184.216.34', ordinal => 50)});
is(join(' ', fates('bob', 'http://api.example.test/', 'http://API.example.TEST./', 'http://cdn.example.test/')), "called $PUBLIC called $PUBLIC $DENIED", 'the first rule that fits decides');
is(reached(), "$PUBLIC6:80 $PUBLIC:80", 'nothing else was called');
$node->sql("DELETE FROM goya.egress_rules WHERE tenant_id IS NULL");

# ---- a tenant's own rules ----

$node->sql(q{SELECT goya.allow_egress('*.example.test', ports => '80'), goya.deny_egress(ordinal => 1000)}, role => 'bob');
is(join(' ', fates('bob', 'http://cdn.example.test/', 'http://cdn.example.test:8080/', "http://$PUBLIC/", 'http://public.test/')), "called $PUBLIC $DENIED $DENIED $DENIED",
	'a tenant narrows what it may call');
is(fate('alice', "http://$PUBLIC/"), "called $PUBLIC", 'and nobody else');
$node->refused(q{SELECT goya.allow_egress(network => '10.0.0.0/8')}, '42501', 'a tenant does not open private networks', role => 'bob');
$node->refused(q{SELECT goya.allow_egress(network => '::/0')}, '42501', 'nor all of IPv6', role => 'bob');
$node->refused(q{SELECT goya.allow_egress('a.test', tenant => 'acme')}, '42501', 'nor makes rules for another', role => 'bob');
$node->refused(q{SELECT goya.drop_egress_rule((SELECT min(id) FROM goya.egress_rules))}, 'PT404', 'nor drops an administrator\'s', role => 'alice');
$node->refused(q{SELECT goya.allow_egress(ports => '80-79')}, '22023', 'ports in the wrong order', role => 'bob');
$node->refused(q{SELECT goya.allow_egress('a b')}, '22023', 'a host that is none', role => 'bob');
is($node->sql(q{SELECT count(*) FROM goya.egress_rules}, role => 'bob'), 2, 'a tenant sees its own rules');
$node->sql(q{INSERT INTO goya.egress_rules (by_admin, tenant_id, action, host, created_by) SELECT false, id, 'allow', '*', 'bob' FROM goya.tenants WHERE name = 'bolt'});
is(fate('bob', 'http://loop.test/'), $DENIED, 'a rule of the tenant opens nothing, however it came there');
is(fate('bob', 'http://cname.test/'), $DENIED, 'also by a CNAME');
$node->sql(q{SELECT count(goya.drop_egress_rule(id)) FROM goya.egress_rules}, role => 'bob');
is(fate('bob', "http://$PUBLIC/"), "called $PUBLIC", 'without the rules all is as before');

# ---- redirects ----

news();
create_workflow($node, 'follow', { nodes => [ { key => 'all', kind => 'map', over => '{{ input.urls }}', error_budget => 'all', node => { key => 'h', kind => 'http',
	url => "http://$PUBLIC/redirect?to={{ item }}", redirects => 5, timeout => '20s', retry => { max_attempts => 1 }, output => '$.output.body.address' } } ], edges => [] });
is(join(' ', fates('studio', [ 'follow' ], "http://$METADATA/", 'http://127.0.0.1/', 'http://loop.test/', 'http://0x7f.1/', 'http://[::1]/', '//10.0.0.1/', 'file:///etc/passwd',
	'gopher://127.0.0.1:70/', "http://nowhere.test/", "http://$PUBLIC/redirect%3Fto%3Dhttp://127.0.0.1/", "http://[$PUBLIC6]/")),
	join(' ', ($DENIED) x 6, $BAD, $BAD, 'DEPENDENCY', $DENIED, "called $PUBLIC6"), 'each redirect is asked anew');
is(reached(), "$PUBLIC6:80 $PUBLIC:80", 'and none leads to what is denied');

is_sound($node);
$node->stop('fast');
close $in;
waitpid $world, 0;
done_testing();
