# 040_secrets.pl: secrets and their master key, as processes, files and logs see them: where the key may come from, changing it, restart, a dump, tampering; what a
# call gets and what is taken out of its answer; and a canary that must be nowhere: no log, no view, no table, no dump, no file of the data directory. The same of
# what is asked and answered, for a tenant that has inputs and outputs sealed, while its members and its nodes read it.
#
# Decided: test/modules/secret_probe.c calls goya's C interface (src/secret.h) from a session, since no function of goya gives a value back. The canary of the
# last part is never given to it.
use strict;
use warnings;

use File::Find ();
use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use IPC::Run ();
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time);

my $dir = PostgreSQL::Test::Utils::tempdir();
my $module = "$dir/secret_probe.so";
chomp(my $headers = `pg_config --includedir-server`);
my @build = (split(/ /, $ENV{CC} // 'cc'), qw(-O0 -w -fPIC -shared -I), $headers, '-I', "$FindBin::Bin/../../src", '-o', $module, "$FindBin::Bin/../modules/secret_probe.c");
is(system(@build), 0, 'the module that calls the C interface is built') or BAIL_OUT("@build");

my %KEY = (k1 => join('', map { sprintf '%02x', $_ * 7 % 256 } 1 .. 32), k2 => join('', map { sprintf '%02X', $_ * 11 % 256 } 3 .. 34));
my $keys = "$dir/keys";

sub write_file
{
	my ($path, $text, $mode) = @_;
	unlink $path;
	open(my $out, '>', $path) or die "$path: $!";
	print $out $text;
	close $out;
	chmod $mode // 0600, $path;
	return;
}
sub keys_of { return join '', "# keys of the test\n\n", map { "$_ \t$KEY{$_}\r\n" } @_; }

write_file($keys, keys_of('k1'));
my $node = GoyaNode->start(name => 'secrets', preload => 'pg_cron,goya,pg_stat_statements', conf => $GoyaWork::CONF . <<"CONF");
goya.master_key_file = '$keys'
log_min_messages = debug5
log_parameter_max_length = 0
pg_stat_statements.track_utility = on
CONF
create_studio($node);
$node->create_user('rival');
$node->sql(<<"SQL");
CREATE EXTENSION pg_stat_statements;
SELECT goya.create_tenant('rivals') \\g /dev/null
SELECT goya.add_member('rival', 'rivals') \\g /dev/null
CREATE SCHEMA probe;
CREATE FUNCTION probe.resolve(tenant uuid, name text, tls boolean, host text, port integer) RETURNS text LANGUAGE c STRICT AS '$module', 'probe_resolve';
CREATE FUNCTION probe.redact(tenant uuid, names text, tls boolean, host text, port integer, answer bytea) RETURNS bytea LANGUAGE c STRICT AS '$module', 'probe_redact';
CREATE FUNCTION probe.matches(pattern text, tls boolean, host text, port integer) RETURNS boolean LANGUAGE c STRICT AS '$module', 'probe_matches';
CREATE FUNCTION probe.wiped(tenant uuid, name text, tls boolean, host text, port integer) RETURNS integer LANGUAGE c STRICT AS '$module', 'probe_wiped';
CREATE FUNCTION probe.gcm_seal(key bytea, nonce bytea, aad bytea, plain bytea) RETURNS bytea LANGUAGE c STRICT AS '$module', 'probe_gcm_seal';
CREATE FUNCTION probe.gcm_open(key bytea, nonce bytea, aad bytea, sealed bytea) RETURNS bytea LANGUAGE c STRICT AS '$module', 'probe_gcm_open';
SQL
my $tenant = $node->sql('SELECT goya.current_tenant()', role => 'studio');
my $LIST = q{SELECT string_agg(concat_ws(' ', key_id, active, present, sealed_values), ', ') FROM goya.list_master_keys()};
sub error_of { my ($sql, %options) = @_; my (undef, $out, $err) = $node->try_sql($sql, %options); return $err ne '' ? $err : "no error: $out"; }

# ---- the cipher: known answers (McGrew and Viega, cases 13, 14 and 16) ----
my ($zero, $k) = ('00' x 32, 'feffe9928665731c6d6a8f9467308308' x 2);
my $p16 = 'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39';
my $c16 = '522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662' . '76fc6ece0f4e1768cddf8853bb2d551b';
foreach my $case ([ $zero, '00' x 12, '', '', '530f8afbc74536b9a963b4f1c4cb738b' ], [ $zero, '00' x 12, '', '00' x 16, 'cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919' ],
	[ $k, 'cafebabefacedbaddecaf888', 'feedfacedeadbeeffeedfacedeadbeefabaddad2', $p16, $c16 ])
{
	my ($key, $nonce, $aad, $plain, $sealed) = @$case;
	is($node->sql("SELECT encode(probe.gcm_seal('\\x$key', '\\x$nonce', '\\x$aad', '\\x$plain'), 'hex')"), $sealed, 'AES-256-GCM seals as known, ' . length($plain) / 2 . ' bytes');
	is($node->sql("SELECT encode(probe.gcm_open('\\x$key', '\\x$nonce', '\\x$aad', '\\x$sealed'), 'hex')"), $plain, 'and opens');
	is($node->sql("SELECT probe.gcm_open('\\x$key', '\\x$nonce', '\\x00$aad', '\\x$sealed') IS NULL"), 't', 'not with other data beside it');
}

# ---- the file ----
is($node->sql($LIST), 'k1 t t 0', 'the key comes from the file');
foreach my $mode (0644, 0640, 0604, 0660)
{
	chmod $mode, $keys;
	like(error_of($LIST), qr/55000: goya's master key file ".*" can be read by others\nDETAIL:.*\nHINT:.*0600/, sprintf('mode %04o is refused', $mode));
}
chmod 0400, $keys;
is($node->sql($LIST), 'k1 t t 0', '0400 will do');
rename $keys, "$dir/real";
like(error_of($LIST), qr/55000: goya's master key file ".*" cannot be opened: No such file/, 'a file that is not there');
symlink "$dir/real", $keys;
is($node->sql($LIST), 'k1 t t 0', 'a link is followed');
unlink $keys;
mkdir $keys;
like(error_of($LIST), qr/55000: .* is not a regular file/, 'a directory');
rmdir $keys;
POSIX::mkfifo($keys, 0600) if require POSIX;
like(error_of($LIST), qr/55000: .* is not a regular file/, 'a pipe holds nobody up');
unlink $keys;
foreach my $bad ([ 'nothing', '', 'There is no key' ], [ 'comments only', "# x\n\n", 'There is no key' ], [ 'no hexadecimal', "k1 $KEY{k1}\nk2 " . 'g' x 64 . "\n", 'Line 2 is wrong' ], [ 'a short key', 'k1 ' . substr($KEY{k1}, 1), 'Line 1 is wrong' ],
	[ 'a key twice', keys_of('k1', 'k1'), 'Line 4 is wrong' ], [ 'a bad id', "k/1 $KEY{k1}\n", 'Line 1 is wrong' ], [ 'an id of 33 characters', 'x' x 33 . " $KEY{k1}\n", 'Line 1 is wrong' ], [ 'no id', "$KEY{k1}\n", 'Line 1 is wrong' ],
	[ 'more than 32', join('', map { "k$_ $KEY{k1}\n" } 1 .. 33), 'Line 33 is wrong' ], [ 'a huge file', "#\n" x 20000, 'more than' ])
{
	write_file($keys, $bad->[1]);
	my $said = error_of($LIST);
	like($said, qr/55000: goya's master keys are not as they should be\nDETAIL:.*\Q$bad->[2]\E/, $bad->[0]);
	unlike($said, qr/\Q@{[substr $KEY{k1}, 1, 12]}\E/, 'and nothing of a key is said') if $bad->[1] =~ /$KEY{k1}/;
}
write_file($keys, keys_of('k1'));

# use_setting(NAME, VALUE): until new sessions have it.
sub use_setting
{
	my ($name, $value) = @_;
	$node->sql("ALTER SYSTEM SET $name = '$value'");
	$node->sql('SELECT pg_reload_conf()');
	return $node->reached("SELECT current_setting('$name')", $value, 10, "$name = $value");
}
my $inside = $node->data_dir . '/keys';
write_file($inside, keys_of('k1'));
use_setting('goya.master_key_file', $inside);
like(error_of($LIST), qr/55000: .* is in the data directory/, 'not in the data directory');
unlink $inside;
like(error_of(q{ALTER SYSTEM SET goya.master_key_file = 'keys'}), qr/22023: .*\nDETAIL:  It must be an absolute path/, 'an absolute path it must be');
like(error_of('SHOW goya.master_key_file', role => 'studio'), qr/42501/, 'users do not see where it is');
like(error_of(qq{SET goya.master_key_file = '$keys'}), qr/55P02/, 'nobody sets it in a session');

# ---- the command ----
use_setting('goya.master_key_command', "/bin/cat $keys");
like(error_of($LIST), qr/55000: goya has two sources of master keys/, 'file and command: one too many');
use_setting('goya.master_key_file', '');
is($node->sql($LIST), 'k1 t t 0', 'the key comes from the command');
write_file("$dir/spy", <<"SPY", 0700);
#!/usr/bin/perl
open my \$out, '>', '$dir/seen';
my \$line = <STDIN>;
print \$out "\$_=\$ENV{\$_}\\n" for sort keys \%ENV;
print \$out 'args ', join('|', \@ARGV), "\\n", 'stdin ', defined \$line ? 'open' : 'empty', "\\n", 'fds ', join(' ', grep { /^[0-9]+\$/ && \$_ != fileno \$out && -e "/proc/\$\$/fd/\$_" } map { s|.*/||r } glob "/proc/\$\$/fd/*"), "\\n";
print STDERR "not for the log\\n";
close \$out;
exec '/bin/cat', '$keys';
SPY
use_setting('goya.master_key_command', "$dir/spy a \$HOME \"b c\"");
is($node->sql($LIST), 'k1 t t 0', 'a program with arguments');
my $seen = PostgreSQL::Test::Utils::slurp_file("$dir/seen");
like($seen, qr/^args a\|\$HOME\|"b\|c"$/m, 'which no shell looked at');
like($seen, qr/^stdin empty\nfds 0 1 2$/m, 'it has nothing to read and no descriptor of ours');
is(join(' ', sort $seen =~ /^(\w+)=/mg), $ENV{HOME} ? 'HOME LANG PATH PGDATA' : 'LANG PATH PGDATA', 'and a clean environment');
foreach my $bad ([ '/nonexistent/program', 'failed\nDETAIL:  It exited with code 127' ], [ '/bin/false', 'failed\nDETAIL:  It exited with code 1' ], [ '/usr/bin/yes 0123456789', 'was stopped' ],
	[ q{/usr/bin/perl -e kill+9,$$}, 'failed\nDETAIL:  It was ended by signal 9' ], [ '/bin/true', 's are not as they should be' ])
{
	use_setting('goya.master_key_command', $bad->[0]);
	like(error_of($LIST), qr/55000: goya's master key(?: command)? ?$bad->[1]/, $bad->[0]);
}
sub command_line { my ($path) = @_; open(my $in, '<', $path) or return ''; return join('', <$in>); }
sub running { my ($what) = @_; return scalar grep { command_line($_) =~ /\Q$what\E/ } glob '/proc/[0-9]*/cmdline'; }
use_setting('goya.master_key_command', '/bin/sleep 98761');
like(error_of("SET statement_timeout = 300; $LIST"), qr/57014/, 'waiting for it can be cancelled');
is(running("sleep\0" . '98761'), 0, 'and it is ended then');
my $start = time;
like(error_of($LIST), qr/55000: goya's master key command was stopped\nDETAIL:  It has 10 seconds/, 'it has 10 seconds');
cmp_ok(time - $start, '<', 20, 'and no more');
is(running("sleep\0" . '98761'), 0, 'it is ended then');
use_setting('goya.master_key_command', '/bin/false');
my ($out, $err) = ('', '');
$node->psql($GoyaNode::DATABASE, "$LIST;\n$LIST;", stdout => \$out, stderr => \$err, on_error_stop => 0);
like($err, qr/command failed\n.*command failed a moment ago/s, 'a session does not ask it again at once');
$node->sql('ALTER SYSTEM RESET goya.master_key_command');
use_setting('goya.master_key_file', $keys);

# ---- what a call gets ----
my $set = sub { my ($name, $value, $hosts, $role) = @_; return $node->sql("SELECT goya.set_secret('$name', \$v\$$value\$v\$, ARRAY['$hosts'])", role => $role // 'studio'); };
sub resolve { my ($name, $tls, $host, $port, $of) = @_; $of //= $tenant; return "SELECT probe.resolve('$of', '$name', $tls, '$host', $port)"; }
$set->('api', 'probe-value+/=&"\\ é?>?~>?>', 'api.example.com');
is($node->sql(resolve('api', 'true', 'API.example.COM.', 443)), 'probe-value+/=&"\\ é?>?~>?>', 'the value, for its host');
is($node->sql("SELECT last_used_at > now() - interval '1 minute' FROM goya.secrets WHERE name = 'api'"), 't', 'its use is noted');
my $xmin = $node->sql(q{SELECT xmin FROM goya.secrets WHERE name = 'api'});
$node->sql(resolve('api', 'true', 'api.example.com', 8443));
is($node->sql(q{SELECT xmin FROM goya.secrets WHERE name = 'api'}), $xmin, 'at most once a minute');
like(error_of(resolve(@$_)), qr/42501: secret "api" may not be sent there\nDETAIL:  It is not bound to \Q$_->[2]:$_->[3]\E/, "not for $_->[2], TLS $_->[1]")
	foreach [ 'api', 'true', 'example.com', 443 ], [ 'api', 'true', 'x.api.example.com', 443 ], [ 'api', 'true', 'api.example.com.evil.org', 443 ], [ 'api', 'false', 'api.example.com', 443 ], [ 'api', 'true', '', 443 ];
like(error_of(resolve('none', 'true', 'api.example.com', 443)), qr/PT404: secret not found/, 'an unknown secret');
like(error_of(resolve('api', 'true', 'api.example.com', 443, $node->sql('SELECT goya.current_tenant()', role => 'rival'))), qr/PT404: secret not found/, 'another tenant has none of that name');
is($node->sql("SELECT probe.wiped('$tenant', 'api', true, 'api.example.com', 443)"), 0, 'nothing is left in memory when its context is reset');
is($node->sql('SELECT ' . join(" || ' ' || ", map { "probe.matches('$_->[0]', $_->[1], '$_->[2]', $_->[3])" } @$_[1 .. $#$_])), $_->[0], "patterns: $_->[0]")
	foreach [ join(' ', ('true') x 5), [ '*.a.b', 'true', 'x.a.b', 443 ], [ '*.a.b', 'true', 'x.y.a.b.', 1 ], [ 'a.b:443', 'true', 'a.b', 443 ], [ 'http://a.b', 'false', 'a.b', 80 ], [ '[::1]:9', 'true', '[::1]', 9 ] ],
	[ join(' ', ('false') x 7), [ '*.a.b', 'true', 'a.b', 443 ], [ '*.a.b', 'true', 'xa.b', 443 ], [ '*.a.b', 'true', '.a.b', 443 ], [ 'a.b:443', 'true', 'a.b', 444 ], [ 'a.b', 'false', 'a.b', 443 ], [ '[::1]', 'true', '::2', 9 ], [ '10.0.0.1', 'true', '0x0a000001', 1 ] ];
# Somebody in the middle of setting it holds nobody up.
my $busy = $node->session(role => 'studio');
$node->sql(q{UPDATE goya.secrets SET last_used_at = NULL});
$busy->query_safe(q{BEGIN; SELECT goya.set_secret('api', 'probe-value-new', ARRAY['api.example.com'])});
is($node->sql('SET statement_timeout = 5000; ' . resolve('api', 'true', 'api.example.com', 443)), 'probe-value+/=&"\\ é?>?~>?>', 'a value that is being set keeps no call waiting; the old one goes');
$busy->query_safe('ROLLBACK');
$busy->quit;

# ---- taken out of answers ----
my $value = 'probe-value+/=&"\\ é?>?~>?>';
my $u8 = $value;    # bytes, as this file is
# Each text redacted, in one statement.
sub redact
{
	my ($names, @texts) = @_;
	my $rows = join ', ', map { "($_, '\\x" . unpack('H*', $texts[$_]) . "'::bytea)" } 0 .. $#texts;
	return map { pack 'H*', $_ } split /\n/, $node->sql("SELECT encode(probe.redact('$tenant', '$names', true, 'api.example.com', 443, x), 'hex') FROM (VALUES $rows) v(i, x) ORDER BY i"), -1;
}
my %forms = (
	'as it is' => "x$u8", 'twice' => "$u8$u8", 'in a URL' => 'q=' . ($u8 =~ s/([^A-Za-z0-9-])/sprintf '%%%02X', ord $1/ger), 'in a form, small digits' => 'q=' . (($u8 =~ s/([^A-Za-z0-9 -])/sprintf '%%%02x', ord $1/ger) =~ tr/ /+/r),
	'in JSON' => '{"x": "' . ($u8 =~ s/(["\\])/\\$1/gr) . '"}', 'in JSON, slash escaped' => '"' . ($u8 =~ s/(["\\\/])/\\$1/gr) . '"', 'in JSON of ASCII' => '"' . (($u8 =~ s/(["\\])/\\$1/gr) =~ s/\xc3\xa9/\\u00e9/r) . '"',
	'all in \u' => join('', map { sprintf '\u%04X', ord } split //, 'probe-value+/=&"\\ ') . '\u00E9?>?~>?>', 'in HTML' => ($u8 =~ s/&/&amp;/r) =~ s/"/&quot;/r, 'in HTML by number' => ($u8 =~ s/([&"])/'&#' . ord($1) . ';'/ger),
	(map { ("in base64 behind $_ bytes" => encode_base64('u' x $_ . $u8 . 'tail', '')) } 0 .. 4), 'in base64 of URLs' => encode_base64(":$u8", '') =~ tr|+/|-_|r, 'in hexadecimal' => unpack('H*', $u8), 'in HEX' => uc unpack('H*', $u8));
my @forms = sort keys %forms;
my @redacted = redact('api', map { "before $forms{$_} after" } @forms);
foreach my $i (0 .. $#forms)
{
	like($redacted[$i], qr/^before .*\[secret api\].* after$/s, "found $forms[$i]");
	unlike($redacted[$i], qr/probe-value|cHJvYmU|70726f6265/i, 'and gone');
}
my @innocent = ('probe-value+/=&"\\', 'Probe-value+/=&"\\ é', "%%%41\\u00\\&#;&amp+\0\xff", '', 'x' x 100000);
@redacted = redact('api', @innocent);
is($redacted[$_], $innocent[$_], 'left alone: ' . substr($innocent[$_], 0, 8)) foreach 0 .. $#innocent;
$set->('second', 'probe-value', 'api.example.com');
is(join('', redact('api,second', "a probe-value b $u8 c")), 'a [secret second] b [secret api] c', 'of two secrets the longer one is taken');

# ---- tampering ----
$set->('other', 'probe-value-other', 'api.example.com');
$node->sql(q{UPDATE goya.secrets SET hosts = '{evil.example.com}' WHERE name = 'api'});
like(error_of(resolve('api', 'true', 'evil.example.com', 443)), qr/XX001: a sealed value cannot be opened\nDETAIL:  It was changed, or sealed for another row/, 'with other hosts in its row a value is of no use');
$node->sql(q{UPDATE goya.secrets SET hosts = '{api.example.com}', version = 7 WHERE name = 'api'});
like(error_of(resolve('api', 'true', 'api.example.com', 443)), qr/XX001/, 'nor with another version');
$node->sql(q{UPDATE goya.secrets SET version = 1 WHERE name = 'api';
UPDATE goya_private.secret_values v SET sealed = o.sealed FROM goya_private.secret_values o WHERE v.name = 'api' AND o.name = 'other'});
like(error_of(resolve('api', 'true', 'api.example.com', 443)), qr/XX001/, 'nor in another row');
$set->('api', 'probe-value-again', 'api.example.com');

# ---- another master key, while sessions are there ----
my $session = $node->session;
is($session->query_safe($LIST), 'k1 t t 3', 'a session has the key');
write_file($keys, keys_of('k2', 'k1'));
is($session->query_safe($LIST), 'k1 t t 3', 'which it keeps until a reload');
$node->sql('SELECT pg_reload_conf()');
my $until = time + 10;
1 while $session->query_safe($LIST) ne 'k2 t t 0, k1 f t 3' && time < $until;
is($session->query_safe($LIST), 'k2 t t 0, k1 f t 3', 'then it has the new ones');
is($session->query_safe('SELECT goya.reseal_secrets(2)'), 2, 'two are sealed again');
is($session->query_safe(resolve('other', 'true', 'api.example.com', 443)), 'probe-value-other', 'in the middle of that all are there');
is($session->query_safe('SELECT goya.reseal_secrets()') . $session->query_safe('SELECT goya.reseal_secrets()'), '10', 'then the rest');
is($session->query_safe($LIST), 'k2 t t 3, k1 f t 0', 'the old key has nothing left');
$session->quit;
write_file($keys, keys_of('k2'));
$node->restart;
is($node->sql(resolve('api', 'true', 'api.example.com', 443)), 'probe-value-again', 'without the old key, after a restart');
write_file($keys, "k2 $KEY{k1}\n");
like(error_of(resolve('api', 'true', 'api.example.com', 443)), qr/XX001: .*\nDETAIL:  It was changed, or master key "k2" is not the one/, 'another key of that name opens nothing');
write_file($keys, keys_of('k1'));
like(error_of(resolve('api', 'true', 'api.example.com', 443)), qr/55000: goya has no master key "k2"\nDETAIL:.*\nHINT:/, 'the key it needs is named');
like($node->sql($LIST), qr/k1 t t 0, k2 f f 3/, 'and listed as missing');
write_file($keys, keys_of('k2'));

# ---- the canary ----
my $canary = 'canary4f1d9b27c8' . join('', map { chr(97 + ($_ * 7) % 26) } 1 .. 24);
my $canary2 = "2nd$canary";
my $marker = 'marker7a2b' . 'zzzz';
$session = $node->session(role => 'studio');
$session->query_safe("SELECT goya.set_secret('canary', '$canary', ARRAY['http://127.0.0.1'], '$marker')");
is($node->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%" . substr($canary, 0, 12) . "_%' AND pid <> pg_backend_pid()"), 0, 'pg_stat_activity does not show the statement that set it');
is($node->sql(q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%holds a secret%' AND pid <> pg_backend_pid()}), 1, 'but that there was one');
# Errors log the statement that failed, with its text.
foreach my $wrong ("SELECT goya.set_secret('x', '$canary', ARRAY['*'])", "SELECT goya.set_secret('x y', '$canary', ARRAY['a.b'])", "SELECT goya.set_secret('$canary ', 'long enough', ARRAY['a.b'])", "SELECT goya.set_secret('x', '$canary', NULL)",
	"SELECT goya.set_secret('x', '$canary', ARRAY['a.b']), 1 / (length(now()::text) - length(now()::text))", "BEGIN; SELECT goya.set_secret('x', '$canary', ARRAY['a.b']); SELECT 1 / 0")
{
	$session->{stderr} = '';
	$session->query($wrong);
	like($session->{stderr}, qr/ERROR/, 'a call that fails, with the canary in its text');
	unlike($session->{stderr} =~ s/^LINE.*//mgr, qr/\Q$canary\E/, 'the client is not told of it');
	$session->query('ROLLBACK');
}
$session->quit;
# With every statement logged: as a parameter.
use_setting('log_statement', 'all');
write_file("$dir/set.pgbench", "SELECT goya.set_secret('param', :value, ARRAY['http://127.0.0.1']);\n");
is(PostgreSQL::Test::Utils::run_log([ 'pgbench', '-n', '-t', 1, '-M', $_, '-h', $node->host, '-p', $node->port, '-U', 'studio', '-D', "value=$canary2", '-f', "$dir/set.pgbench", 'goya' ]), 1, "set by a parameter ($_)") foreach qw(extended prepared);
is($node->sql(q{SELECT string_agg(name || ' ' || version, ',' ORDER BY name) FROM goya.secrets WHERE name IN ('canary', 'param')}), 'canary 1,param 2', 'both are set');
use_setting('log_statement', 'none');
is($node->sql(q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%canary4f%' AND query NOT LIKE '%pg_stat%'}), 0, 'pg_stat_statements has not seen it');
is($node->sql(q{SELECT count(*) > 0 FROM pg_stat_statements WHERE query LIKE '%goya.set_secret(%'}), 't', 'but the statement');
# A workflow that runs beside it, to fill the tables that might have it.
create_workflow($node, 'plain', { nodes => [ { key => 'e', kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => 'e', s => '{{ input.secrets.canary }}' } } ] });
my $task = run_task($node, 'plain', {});
$node->reached("SELECT status FROM goya.wait_for_task('$task', '10 s')", 'succeeded', 20, 'a task ran');
is($node->sql(<<"SQL"), '', 'no row of any table has it');
SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v') AND (n.nspname LIKE 'goya%' OR n.nspname = 'app')
      AND query_to_xml(format('SELECT 1 FROM %s x WHERE x::text LIKE ''%%canary4f%%'' OR x::text LIKE ''%%'' || encode(''canary4f'', ''hex'') || ''%%''', c.oid::regclass), false, true, '')::text LIKE '%row%'
SQL


# ---- prompts, completions, inputs and outputs, of a tenant that has them sealed ----
my $said = 'said6e2a91c0' . join('', map { chr(97 + ($_ * 5) % 26) } 1 .. 24);
my $agents = script_server('scripted_agent.py');
my %script = (ask => [ { text => "answer $said" } ], bot => [ { text => "I see $said", calls => [ [ 'app_note', { note => $said } ], [ 'app_note', { bad => $said } ] ] }, { text => "done $said" } ]);
put_script($agents, $_, $script{$_}) foreach keys %script;
$node->sql(q{UPDATE goya.tenants SET settings = settings || '{"encrypt_prompts": true}' WHERE name = 'default'});
$node->sql(<<'SQL');
CREATE TABLE app.door ();
GRANT SELECT ON app.door TO studio;
CREATE FUNCTION app.door(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN IF NOT EXISTS (SELECT FROM app.door) THEN RAISE EXCEPTION 'the door is shut'; END IF; RETURN input; END $$;
SQL
$node->sql(<<"SQL", role => 'studio');
SELECT goya.create_model(m, format('$agents/%s/v1', m), capabilities => '{chat,tools}') FROM unnest('{ask,bot}'::text[]) m;
SELECT goya.create_operator('app.note', 'sql', '{"function": "app.echo"}', '{"type": "object", "required": ["note"]}');
SELECT goya.set_tool_policy('notes', 'app.note', 'approve');
SQL
create_workflow($node, 'inner', { nodes => [ { key => 'i', kind => 'sql', function => 'app.echo' } ] });
create_workflow($node, 'heir', { nodes => [ { key => 'h', kind => 'sql', function => 'app.echo' } ] });
$node->sql(q{SELECT goya.create_trigger('heir', 'heirs', 'event', event => 'task_completed', filter => '$.task.status == "succeeded" && $.task.input.p starts with "said"',
	input => '{"of": "{{ task.output }}"}')}, role => 'studio');
my @chain = (
	{ key => 'ask', kind => 'ai_model', model => 'ask', prompt => '{{ input.p }}', stream => JSON::PP::false }, { key => 'each', kind => 'map', over => '{{ input.list }}', max_parallel => 1, node => { kind => 'sql', function => 'app.echo', input => { v => '{{ item }}', a => '{{ nodes.ask.output.text }}' } } },
	{ key => 'inner', kind => 'workflow', workflow => 'inner', input => { items => '{{ nodes.each.output }}' } }, { key => 'go', kind => 'wait', signal => 'go' }, { key => 'agree', kind => 'approval', message => 'Is {{ input.p }} right?' },
	{ key => 'work', kind => 'worker', queue => 'hands', input => { signal => '{{ nodes.go.output }}', agreed => '{{ nodes.agree.output.response }}', inner => '{{ nodes.inner.output }}' } },
	{ key => 'which', kind => 'condition', cases => [ { name => 'done', when => '$.nodes.work.output.by starts with "said"' } ] }, { key => 'bot', kind => 'agent', model => 'bot', prompt => 'Help {{ input.p }}', tools => ['app.note'] },
	{ key => 'last', kind => 'sql', function => 'app.door', input => { p => '{{ input.p }}', bot => '{{ nodes.bot.output.text }}', work => '{{ nodes.work.output }}', ask => '{{ nodes.ask.output.text }}' } });
create_workflow($node, 'vault', { nodes => \@chain, edges => [ map { { from => $chain[ $_ - 1 ]{key}, to => $chain[$_]{key}, $chain[ $_ - 1 ]{key} eq 'which' ? (case => 'done') : () } } 1 .. $#chain ] });
sub asked { my ($of, $where) = @_; return $node->reached("SELECT count(*) FROM goya.approvals WHERE task_id = '$of' AND status = 'pending' AND node = '$where'", 1, 20, "$where asks"); }
my $vault = run_task($node, 'vault', { p => $said, list => [ "$said-1", "$said-2" ] });
$node->sql(qq{SELECT goya.signal('$vault', 'go', '{"s": "$said"}')}, role => 'studio');
asked($vault, 'agree');
is($node->sql("SELECT goya.open_text(message) FROM goya.approvals WHERE task_id = '$vault'", role => 'studio'), "Is $said right?", 'a question is opened by who is asked');
like($node->sql("SELECT finding FROM goya.diagnose('$vault')", role => 'studio') . $node->sql("SELECT * FROM goya.diagnose('$vault')", role => 'studio'), qr/Is $said right/, 'and in goya.diagnose');
is($node->sql(qq{SELECT a.response ->> 'n' FROM goya.approve('$vault', 'agree', true, '{"n": "$said"}') a}, role => 'studio'), $said, 'it is answered');
$node->reached(q{SELECT goya.wait_for_work('hands', '5 s')}, 't', 20, 'work is offered', role => 'studio');
my ($token, $given) = split /\|/, $node->sql(q{SELECT token, input FROM goya.claim_work('hands', 'me')}, role => 'studio'), 2;
is($given, qq({"inner": {"items": [{"a": "answer $said", "v": "$said-1"}, {"a": "answer $said", "v": "$said-2"}]}, "agreed": {"n": "$said"}, "signal": {"s": "$said"}}), 'a worker is given what a model, a map, a child, a signal and an approval said');
$node->sql(qq{SELECT goya.complete_work('$token', '{"by": "$said"}')}, role => 'studio');
asked($vault, 'bot.approval');
like($node->sql("SELECT goya.open_text(message) FROM goya.approvals WHERE task_id = '$vault' AND status = 'pending'", role => 'studio'), qr/wants to call app.note with \{"note": "$said"\}/, 'what an agent wants is told');
is_sound($node, 'meanwhile all is sound');
$node->sql("SELECT goya.approve('$vault', q.node, item => q.item) FROM goya.approvals q WHERE q.task_id = '$vault' AND q.status = 'pending'", role => 'studio');
ended($node, $vault, 'failed', 20, 'its last node fails');
$node->sql('ALTER TABLE app.door ADD x integer; INSERT INTO app.door VALUES (1)');
my $again = $node->sql("SELECT goya.retry('$vault')", role => 'studio');
ended($node, $again, 'succeeded', 20, 'it is run again from there');
my $wanted = qq({"p": "$said", "ask": "answer $said", "bot": "done $said", "work": {"by": "$said"}});
is($node->sql("SELECT output FROM goya.wait_for_task('$again')", role => 'studio'), $wanted, 'its output is told to who waits for it');
is($node->sql("SELECT goya.open_value(output) FROM goya.tasks WHERE id = '$again'", role => 'studio'), $wanted, 'and to who asks');
$node->reached(q{SELECT count(*) FROM goya.tasks WHERE trigger ->> 'name' = 'heirs' AND status = 'succeeded'}, 1, 20, 'a trigger saw its input');
is($node->sql(q{SELECT goya.open_value(output) -> 'of' FROM goya.tasks WHERE trigger ->> 'name' = 'heirs'}, role => 'studio'), $wanted, 'and its output');
is($node->sql('SELECT goya.open_value(' . "'" . $node->sql("SELECT output FROM goya.tasks WHERE id = '$again'") . "') ? '\$sealed'", role => 'rival'), 't', 'another tenant opens nothing, even if it has it');
is($node->sql(qq{SELECT string_agg(m.role || ' ' || (position('$said' IN goya.open_value(m.message)::text) > 0), ', ' ORDER BY m.seq) FROM goya.agent_messages m WHERE m.task_id = '$vault'}, role => 'studio'),
	'user true, assistant true, tool true, tool false, assistant true', 'what was said in an agent can be read');
is($node->sql(qq{SELECT string_agg(concat_ws(' ', goya.open_value(c.arguments) ->> 'note', left(goya.open_text(c.result), 5)), ', ' ORDER BY c.item) FROM goya.tool_calls c WHERE c.task_id = '$vault'}, role => 'studio'),
	qq($said {"not, error), 'and its tools');
is($node->sql("SELECT goya.open_text(last_message) FROM goya.agent_sessions WHERE task_id = '$vault'", role => 'studio'), "done $said", 'and its last words');
my $STORED = <<"SQL";
SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY c.oid::regclass::text) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname LIKE 'goya%' AND query_to_xml(format('SELECT 1 FROM %s x WHERE x::text LIKE ''%%$said%%''', c.oid::regclass), false, true, '')::text LIKE '%row%'
SQL
is($node->sql($STORED), '', 'no row of any table has it as it is');
is($node->sql("SELECT string_agg(DISTINCT concat_ws(' ', kind, sealed), ', ') FROM (SELECT 'task' AS kind, input ? '\$sealed' AND coalesce(output ? '\$sealed', true) AS sealed FROM goya.tasks WHERE id IN ('$vault', '$again')
	UNION ALL SELECT 'run', coalesce(input ? '\$sealed', true) AND coalesce(output ? '\$sealed', true) FROM goya.node_runs WHERE task_id IN ('$vault', '$again')) x"), 'run t, task t', 'inputs and outputs are sealed, all of them');
is_sound($node, 'goya.check() looks into them');

# Without the key: nothing is written as it is, and nothing is lost.
create_workflow($node, 'nap', { nodes => [ { key => 'a', kind => 'sql', function => 'app.echo' }, { key => 'nap', kind => 'wait', signal => 'up' }, { key => 'b', kind => 'sql', function => 'app.echo', input => { x => '{{ input.p }}', y => '{{ nodes.a.output }}' } } ], edges => [ { from => 'a', to => 'nap' }, { from => 'nap', to => 'b' } ] });
my $nap = run_task($node, 'nap', { p => $said });
$node->reached("SELECT status FROM goya.tasks WHERE id = '$nap'", 'waiting', 20, 'a task waits');
my $engine = join ' ', worker_pid($node, 'engine');
write_file($keys, keys_of('k1'));
$node->sql('SELECT pg_reload_conf()');
$node->sql(qq{SELECT goya.signal('$nap', 'up', '{}')}, role => 'studio');
ended($node, $nap, 'failed', 20, 'what cannot be opened fails its node');
is($node->sql("SELECT concat_ws(' ', error ->> 'node', error ->> 'code', error ->> 'message') FROM goya.tasks WHERE id = '$nap'"), 'b 55000 goya has no master key "k2"', 'which says what is missing');
is($node->sql("SELECT status, input ? '\$sealed' FROM goya.wait_for_task('$nap')", role => 'studio'), 'failed|t', 'who waits for it is told that it ended');
like(error_of("SELECT goya.open_value(input) FROM goya.tasks WHERE id = '$nap'", role => 'studio'), qr/55000: goya has no master key "k2"\nDETAIL:.*\nHINT:.*Put the key back/, 'who reads it, what is missing');
like(error_of("SELECT goya.retry('$nap')", role => 'studio'), qr/55000: goya has no master key "k2"/, 'and who runs it again');
my $left = run_task($node, 'nap', { p => 'k1' });
$node->reached("SELECT status FROM goya.tasks WHERE id = '$left'", 'waiting', 20, 'a task of another key waits');
create_workflow($node, 'solo', { nodes => [ { key => 'bot', kind => 'agent', model => 'bot', prompt => 'Help', tools => ['app.note'] } ] });
my $solo = run_task($node, 'solo', {});
asked($solo, 'bot.approval');
rename $keys, "$keys.away";
$node->sql('SELECT pg_reload_conf()');
like(error_of('SELECT goya.run(\'inner\', \'{"p": "x"}\')', role => 'studio'), qr/55000: goya's master key file ".*" cannot be opened/, 'without any key a task is refused');
like(error_of("SELECT goya.signal('$left', 'up')", role => 'studio'), qr/55000: goya's master key file/, 'and a signal');
$node->sql("INSERT INTO goya_private.signals (task_id, name) VALUES ('$left', 'up'); SELECT goya_private.enqueue('$left', tenant_id, 0::smallint, -1, 0, 1, 2) FROM goya.tasks WHERE id = '$left'");
$node->reached("SELECT concat_ws(' ', status, error ->> 'node', error ->> 'class', error ->> 'code') FROM goya.tasks WHERE id = '$left'", 'failed nap RESOURCE_LIMIT 53400', 20, 'what cannot be sealed fails its node');
$node->sql("SELECT goya.stop_agent('$solo', 'bot')", role => 'studio');
$node->reached("SELECT concat_ws(' ', t.status, t.error ->> 'node', t.error ->> 'class', a.status) FROM goya.tasks t JOIN goya.agent_sessions a ON a.task_id = t.id WHERE t.id = '$solo'", 'failed bot RESOURCE_LIMIT failed', 20, 'an agent that cannot be told anything ends');
is_sound($node, 'all is sound without a key');
is(join(' ', worker_pid($node, 'engine')), $engine, 'the engine has not been started again');
rename "$keys.away", $keys;
write_file($keys, keys_of('k2', 'k1'));
$node->sql('SELECT pg_reload_conf()');
$until = time + 10;
1 while $node->sql($LIST) !~ /^k2 t t \d+, k1 f t [1-9]/ && time < $until;
$node->reached("SELECT count(*) FROM goya.retry('$nap')", 1, 10, 'with the key it is run again', role => 'studio');
$node->reached("SELECT goya.open_value(output) -> 'x' FROM goya.tasks WHERE parent_task_id = '$nap'", "\"$said\"", 20, 'and succeeds');

# Another key for what is there.
is($node->sql($STORED), '', 'still no row has it as it is');
my ($old) = $node->sql($LIST) =~ /k1 f t (\d+)/;
cmp_ok($old, '>', 3, 'some values are sealed with another key');
is($node->sql('SELECT last_task IS NULL, resealed > 0 FROM goya.reseal_values(limit_tasks => 1000)'), 'f|t', 'they are sealed again');
is($node->sql('SELECT last_task IS NULL, resealed FROM goya.reseal_values((SELECT max(id::text)::uuid FROM goya.tasks))'), 't|0', 'until there are no more');
like($node->sql($LIST), qr/^k2 t t \d+, k1 f t 0$/, 'nothing is left of the old key');
is($node->sql("SELECT goya.open_value(input) ->> 'p' FROM goya.tasks WHERE id = '$left'", role => 'studio'), 'k1', 'and all of it opens');
write_file($keys, keys_of('k2'));
$node->sql('SELECT pg_reload_conf()');
is_sound($node, 'all is sound');

# A dump has the sealed value, and a copy opens it with the key alone.
my $dump = "$dir/goya.dump";
PostgreSQL::Test::Utils::system_or_bail('pg_dump', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-Fp', '-f', $dump, 'goya');
my $text = PostgreSQL::Test::Utils::slurp_file($dump);
like($text, qr/\Q$marker\E/, 'a dump has the description of a secret');
unlike($text, qr/\Q$canary\E|\Q@{[unpack 'H*', $canary]}\E/i, 'and not its value');
unlike($text, qr/\Q$said\E|\Q@{[unpack 'H*', $said]}\E/i, 'nor what was asked and answered');
like($text, qr/\$sealed/, 'but that sealed');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
IPC::Run::run([ 'psql', '-X', '-q', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-d', 'copy', '-f', $dump ], '>', \$out, '2>', \$err);
{
	local $GoyaNode::DATABASE = 'copy';

	is($node->sql(resolve('api', 'true', 'api.example.com', 443)), 'probe-value-again', 'a copy opens it with the key');
	is($node->sql("SELECT goya.open_value(output) FROM goya.tasks WHERE id = '$again'"), $wanted, 'and outputs');
	rename $keys, "$keys.away";
	like(error_of(resolve('api', 'true', 'api.example.com', 443)), qr/55000: goya's master key file .* cannot be opened/, 'and not without');
	rename "$keys.away", $keys;
}
$node->safe_psql('postgres', 'DROP DATABASE copy');

# Every file there is.
sub files_with
{
	my ($what, @where) = @_;
	my @found;
	File::Find::find({ no_chdir => 1, wanted => sub {
		return unless -f $_ && open(my $in, '<:raw', $_);
		local $/;
		push @found, $_ if (<$in> // '') =~ $what;
	} }, @where);
	return join ' ', map { s|.*/secrets_data/||r } @found;
}
my $any = join '|', map { quotemeta } $canary, unpack('H*', $canary), substr(encode_base64($canary, ''), 0, 40);
my $keyish = join '|', map { (quotemeta($KEY{$_}), quotemeta(lc $KEY{$_}), quotemeta(pack 'H*', $KEY{$_})) } keys %KEY;
$node->sql('CHECKPOINT');
$node->stop('fast');
isnt(files_with(qr/\Q$marker\E/, $node->data_dir), '', 'what is no secret is found in the data directory');
is(files_with(qr/$any/i, $node->data_dir), '', 'the canary is in no file of it');
my $any_said = join '|', map { quotemeta } $said, unpack('H*', $said), map { substr(encode_base64(' ' x $_ . $said, ''), 4, 24) } 0 .. 2;
is(files_with(qr/$any_said/, $node->data_dir), '', 'nor is what was asked and answered, for a tenant that has it sealed; the log of changes included');
is(files_with(qr/$keyish/, $node->data_dir), '', 'nor is a master key');
is(files_with(qr/\Q$canary\E/, $node->logfile), '', 'nor is it in the log of the server, at debug5');
is(files_with(qr/$keyish/, $node->logfile), '', 'nor is a master key');
like(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/STATEMENT:  \(a statement of goya that holds a secret\)/, 'where errors say that there was a statement');
$node->start;
is($node->sql(q{SELECT string_agg(DISTINCT code, ' ') FROM goya.check()}), '', 'goya.check() finds nothing');
done_testing();
