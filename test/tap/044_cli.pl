# 044_cli.pl: programs that cli nodes run: what reaches them and what does not, their limits, and that nothing of them is left, whatever ends.
#
# Decided: the programs are the system's own (sh, cat, printf, ffmpeg, ffprobe); a shell is registered as a program where a test needs one to misbehave. A process
# of ours is known by an argument that no other has.
# Must hold: no process and no directory of a program is left after any of this; goya.check() finds nothing.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

my $node = GoyaNode->start(name => 'cli', conf => $GoyaWork::CONF);
my $places = PostgreSQL::Test::Utils::tempdir_short();
my $media = PostgreSQL::Test::Utils::tempdir();
create_studio($node);

sub program { my ($sql) = @_; return $node->sql("SELECT goya.create_program($sql)"); }

# Processes whose command line has this word.
sub pids_with { my ($word) = @_; return grep { (slurp("/proc/$_/cmdline") // '') =~ /\x{0}\Q$word\E(\x{0}|$)/ } map { m{(\d+)$} } glob '/proc/[0-9]*'; }
sub slurp { my ($file) = @_; open my $in, '<', $file or return; local $/; return scalar <$in>; }
sub left { my ($word) = @_; return map { slurp("/proc/$_/cmdline") // '' } pids_with($word); }

sub places_left { return scalar(() = glob "$places/*"); }

# A run of a program: its id; with its end, [status, output, error].
sub start { my ($program, $arguments, %also) = @_; return run_task($node, 'run', { program => $program, arguments => $arguments // {}, %also }); }

sub end
{
	my ($id, $seconds) = @_;
	my $text = $node->sql(sprintf(q{SELECT jsonb_build_object('status', status, 'output', output, 'error', error) FROM goya.wait_for_task('%s', '%d s')}, $id, $seconds // 20));

	return JSON::PP->new->utf8->allow_nonref->decode($text);
}

sub out { return end(start(@_))->{output}; }
sub error { my $e = end(start(@_)); return $e->{error} // { message => $e->{status} }; }

create_workflow($node, 'run', { nodes => [ { key => 'r', kind => 'cli', program => '{{ input.program }}', arguments => '{{ input.arguments }}', stdin => '{{ input.stdin }}',
	retry => { max_attempts => 1 } } ], edges => [] });

# ---- who may ----
$node->refused(q{SELECT goya.create_program('mine', '/bin/sh')}, '42501', 'a user registers no program', role => 'studio');
$node->create_user('chief', in => [ 'goya_admin' ]);
$node->refused(q{SELECT goya.create_program('mine', '/bin/sh')}, '42501', 'nor an administrator who is no superuser', role => 'chief');
$node->refused(q{SELECT goya.create_program('bad', 'bin/sh')}, '22023', 'a path must be absolute');
$node->refused(q<SELECT goya.create_program('bad', '/bin/sh', ARRAY['{a'])>, '22023', 'braces must fit');
program(q{'show', '/usr/bin/printf', ARRAY['[%s]', '{a}', 'x{b.c}', '{-d}']});
program(q{'cat', '/bin/cat', tenants => NULL});
program(qq{'sh', '/bin/sh', ARRAY['-c', '{script}', '{word}'], ARRAY['default'], timeout => '30 s', output_kb => 64, file_mb => 1, memory_mb => 300, processes => 60});
like(error('cat')->{message}, qr/switched off/, 'off by default');
$node->sql(qq{ALTER SYSTEM SET goya.cli = on; ALTER SYSTEM SET goya.cli_directory = '$places'; SELECT pg_reload_conf()});
$node->reached(q{SHOW goya.cli}, 'on', 10, 'switched on');
ok(defined until_true(sub { (end(start('cat', {}, stdin => 'x'))->{output} // '') eq 'x' }, 10), 'then it runs');
is(error('show', { a => 1, b => { c => 2 }, d => 3 })->{class}, 'POLICY_DENY', 'not before the tenant is allowed');
$node->sql(q{SELECT goya.allow_program('show', 'default')});
is(out('show', { a => 1, b => { c => 2 }, d => 3 }), '[1][x2][3]', 'then it is');
$node->create_user('stranger');
$node->sql(q{SELECT goya.create_tenant('elsewhere'); SELECT goya.add_member('stranger', 'elsewhere')});
is($node->sql(q{SELECT string_agg(name, ' ') FROM goya.list_programs()}, role => 'stranger'), 'cat', 'another tenant sees what is for all');
create_workflow($node, 'foreign', { nodes => [ { key => 'r', kind => 'cli', program => 'sh', arguments => { script => 'id', word => 'x' }, retry => { max_attempts => 1 } } ], edges => [] },
	role => 'stranger');
my $foreign = $node->sql(q{SELECT goya.run('foreign')}, role => 'stranger');
is($node->sql("SELECT error ->> 'code' FROM goya.wait_for_task('$foreign', '10 s')"), '42501', 'and runs nothing else');

# ---- arguments are arguments ----
foreach my $evil ('$(id)', '`id`', "; id", "a\nb", '| id', "'", '"', '*', '{a}', '%s', "\x{e9}\x{4e2d}", ' ', '')
{
	is(out('show', { a => $evil, b => { c => $evil }, d => $evil }), "[$evil][x$evil][$evil]", 'one argument: ' . json($evil));
}
is(error('show', { a => '-rf', b => { c => 1 }, d => 1 })->{code}, '22023', 'a value is no option');
is(out('show', { a => 'a', b => { c => '-rf' }, d => '-7' }), '[a][x-rf][-7]', 'unless the template says so, or it is not at the beginning');
like(error('show', { a => 1 })->{message}, qr/"b.c" is missing/, 'a value that is missing is named');
is(error('show', { a => 'x' x 200_000, b => { c => 1 }, d => 1 })->{code}, '22023', 'an argument that the kernel would refuse');

# ---- input and output ----
is_deeply(out('cat', {}, stdin => { a => [ 1, JSON::PP::null ] }), { a => [ 1, undef ] }, 'JSON in, JSON out');
is(out('cat', {}, stdin => "not json"), 'not json', 'text');
is(length out('sh', { script => 'cat | wc -c', word => 'x' }, stdin => 'x' x 3_000_000), 7, 'three megabytes of input');
is_deeply(out('sh', { script => 'printf "a\\000b"', word => 'x' }), { size => 3, base64 => 'YQBi' }, 'bytes that are no text');
is_deeply(out('sh', { script => 'printf "\\377\\376"', word => 'x' }), { size => 2, base64 => '//4=' }, 'bytes that are no UTF-8');
is(out('sh', { script => 'true', word => 'x' }, stdin => 'x' x 1_000_000), undef, 'a program that reads nothing');
my $e = error('sh', { script => 'echo one >&2; printf "two\\377" >&2; exit 3', word => 'x' });
is_deeply([ @$e{qw(exit_code class detail)} ], [ 3, 'TOOL_BUG', "one\ntwo?\n" ], 'an exit code, and the last of its errors');
is(error('sh', { script => 'exit 75', word => 'x' })->{class}, 'TRANSIENT', 'EX_TEMPFAIL');

# ---- what it inherits ----
$ENV{SECRET_OF_THE_SERVER} = 1;
like(out('sh', { script => 'env', word => 'x' }), qr/\A(?!.*(SECRET|PG|GOYA_TEMPLATE))(?=.*GOYA_TASK_ID=)/s, 'its environment is its own');
my @fds = split /\n/, out('sh', { script => 'ls /proc/self/fd', word => 'x' });
is_deeply(\@fds, [ 0 .. 3 ], 'three descriptors, and the one that ls lists them with');
like(out('sh', { script => 'grep -E "Sig(Blk|Ign)|NoNewPrivs" /proc/self/status; umask', word => 'x' }), qr/SigBlk:\s0+\nSigIgn:\s0000000[01]80000000\nNoNewPrivs:\s1\n0077/,
	'signals, privileges and umask are reset') or diag(out('sh', { script => 'cat /proc/self/status', word => 'x' }));
like(out('sh', { script => 'pwd; touch f; mkdir -p d/e; chmod 0 d', word => 'x' }), qr{^\Q$places\E/goya-}, 'it has a directory of its own');
is(places_left(), 0, 'which is gone afterwards');

# ---- limits ----
is(error('sh', { script => 'yes', word => 'x' })->{class}, 'RESOURCE_LIMIT', 'too much output');
like(error('sh', { script => q{python3 -c 'x = bytearray(900000000)'}, word => 'x' })->{detail}, qr/MemoryError/, 'too much memory');
is(out('sh', { script => 'head -c 3000000 /dev/zero >f 2>/dev/null; stat -c %s f', word => 'x' }), 1048576, 'too large a file');
program(q{'short', '/bin/sh', ARRAY['-c', '{script}', '{word}'], NULL, timeout => '1 s'});
my $began = time;
is(error('short', { script => 'trap "" TERM; (setsid sleep 1000 &); while :; do sleep 1000; done', word => 'x' })->{class}, 'TIMEOUT', 'out of time, deaf to SIGTERM');
cmp_ok(time - $began, '<', 8, 'it is killed');
is(scalar left('1000'), 0, 'and what it started, though that left its session');
program(q{'busy', '/bin/sh', ARRAY['-c', 'while :; do :; done'], NULL, cpu => '1 s'});
is_deeply([ @{ error('busy') }{qw(class signal)} ], [ 'RESOURCE_LIMIT', 24 ], 'out of processor time');
program(q{'gone', '/usr/bin/no-such-program', tenants => NULL});
is_deeply([ @{ error('gone') }{qw(class exit_code)} ], [ 'DEPENDENCY', 127 ], 'a program that is not installed');
is(error('sh', { script => 'kill -SEGV $$', word => 'x' })->{signal}, 11, 'a crash');

# ---- many ----
$node->sql(q{ALTER SYSTEM SET goya.max_children = 2; SELECT pg_reload_conf() \g /dev/null});
my @ids = split /\n/, $node->sql(q{SELECT goya.run('run', jsonb_build_object('program', 'sh', 'arguments', jsonb_build_object('script', 'sleep 0.1; echo ' || i, 'word', 'manychildren')))
	FROM generate_series(1, 12) i}, role => 'studio');
my $most = 0;
until_true(sub { my $n = grep { /^\/bin\/sh/ } left('manychildren'); $most = $n if $n > $most; $node->sql(q{SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL}) == 0 }, 30);
ok($most > 0 && $most <= 2, "goya.max_children ($most at once)");
is($node->sql(q{SELECT count(*) FROM goya.tasks t WHERE status = 'succeeded' AND input -> 'arguments' ->> 'word' = 'manychildren'}), 12, 'all of them ran');
$node->sql(q{ALTER SYSTEM RESET goya.max_children; SELECT pg_reload_conf() \g /dev/null});

# ---- progress ----
my $id = start('sh', { script => q(echo '{"progress": 0.4, "message": "nearly"}' >&2; sleep 20), word => 'progress' });
$node->reached("SELECT progress, message FROM goya.node_runs WHERE task_id = '$id'", '40|nearly', 10, 'progress as JSON');
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 10, 'cancelled');
program(q{'steps', '/bin/sh', ARRAY['-c', 'echo "done: 12.5 percent" >&2; sleep 20', 'steps'], NULL, progress_pattern => 'done: *([0-9.]+) percent'});
$id = start('steps');
$node->reached("SELECT progress, message FROM goya.node_runs WHERE task_id = '$id'", '12.5|done: 12.5 percent', 10, 'progress by a pattern');
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 10, 'cancelled, too');
ok(defined until_true(sub { !left('progress') && !left('steps') }, 10), 'nothing of them is left');

# ---- the end of others ----
my $family = { script => '(setsid sleep 1001 &); sleep 1001 & trap "" TERM; while :; do sleep 1001; done', word => 'family' };
$id = start('sh', $family);
ok(defined until_true(sub { left('1001') >= 3 }, 10), 'a program with children');
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 10, 'is cancelled');
ok(defined until_true(sub { !left('1001') && !left('family') }, 10), 'and all of them end');

$id = start('sh', $family);
ok(defined until_true(sub { left('1001') >= 3 }, 10), 'again');
my ($engine) = worker_pid($node, 'engine');
my @before = pids_with('1001');
kill 'KILL', $engine;
ok(defined until_true(sub { kill(0, $engine) ? 0 : 1 }, 10), 'the engine is killed');
ok(defined until_true(sub { !grep { kill 0, $_ } @before }, 10), 'and its programs with it');
$node->wait_until('SELECT 1', '1', 30);
$node->sql("SELECT goya.cancel('$id')", role => 'studio');
ended($node, $id, 'cancelled', 20, 'the next engine had started it again, and ended it');
ok(defined until_true(sub { !left('1001') && !left('family') && !places_left() }, 10), 'no process and no directory is left');

# ---- as another user ----
SKIP:
{
	my $other = (getpwnam 'nobody')[0];
	my $may = -x '/usr/bin/sudo' && defined $other && system("sudo -n -u $other -- true >/dev/null 2>&1") == 0;

	skip "this user may not run programs as $other by sudo", 2 if !$may;
	chmod 0777, $places;
	$node->sql(q{ALTER SYSTEM SET goya.cli_wrapper = '/usr/bin/sudo -n -u {user} --'; SELECT pg_reload_conf() \g /dev/null});
	$node->reached('SELECT current_setting(\'goya.cli_wrapper\') <> \'\'', 't', 10, 'a wrapper');
	program(qq{'other', '/usr/bin/id', ARRAY['-un'], NULL, os_user => '$other'});
	ok(defined until_true(sub { (out('other') // '') eq "$other\n" }, 10), 'a program of another user');
}
program(q{'nowrapper', '/bin/true', tenants => NULL, os_user => 'nobody'});
$node->sql(q{ALTER SYSTEM RESET goya.cli_wrapper; SELECT pg_reload_conf() \g /dev/null});
$node->reached('SELECT current_setting(\'goya.cli_wrapper\')', '', 10, 'no wrapper');
like(error('nowrapper')->{message}, qr/cli_wrapper does not say how/, 'a user needs goya.cli_wrapper');

# ---- the main job with programs: probe a film, three frames of it, the longest side of each ----
system('ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'testsrc=size=320x180:rate=10:duration=3', '-pix_fmt', 'yuv420p', "$media/film.mp4") == 0 or die 'ffmpeg made no film';
chmod 0777, $media;
program(q{'probe', '/usr/bin/ffprobe', ARRAY['-v', 'error', '-of', 'json', '-show_format', '-show_streams', '-protocol_whitelist', 'file', '-i', '{file}'], ARRAY['default']});
program(q{'frame', '/usr/bin/ffmpeg', ARRAY['-nostdin', '-v', 'error', '-y', '-ss', '{at}', '-protocol_whitelist', 'file', '-i', '{file}', '-frames:v', '1', '-vf', 'scale={width}:-1', '{out}'],
	ARRAY['default'], memory_mb => NULL});
create_workflow($node, 'film', { nodes => [
	{ key => 'probe', kind => 'cli', program => 'probe', arguments => { file => '{{ input.file }}' } },
	{ key => 'times', kind => 'transform', output => [ 0, 1, 2 ] },
	{ key => 'frames', kind => 'map', over => '{{ nodes.times.output }}', node => { key => 'frame', kind => 'cli', program => 'frame',
		arguments => { file => '{{ input.file }}', at => '{{ item }}', width => 64, out => '{{ input.folder }}/frame{{ index }}.png' } } },
	{ key => 'look', kind => 'cli', program => 'probe', arguments => { file => '{{ input.folder }}/frame2.png' } } ],
	edges => [ { from => 'probe', to => 'times' }, { from => 'times', to => 'frames' }, { from => 'frames', to => 'look' } ],
	output => { seconds => '{{ nodes.probe.output.format.duration }}', width => '{{ nodes.look.output.streams[0].width }}' } });
$id = run_task($node, 'film', { file => "$media/film.mp4", folder => $media });
ended($node, $id, 'succeeded', 60, 'ffprobe and ffmpeg on a film');
is($node->sql("SELECT output ->> 'seconds', output ->> 'width' FROM goya.tasks WHERE id = '$id'"), '3.000000|64', 'what they found');
like(error('probe', { file => "$media/none.mp4" })->{detail}, qr/No such file/, 'ffprobe of nothing says why');

ok(defined until_true(sub { places_left() == 0 }, 10), 'no directory is left');
is_sound($node);
$node->stop;
done_testing();
