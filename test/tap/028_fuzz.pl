# 028_fuzz.pl: what reads users' text takes random changes of all definitions, templates, schemas and patterns that the tests and the documentation
# have: no crash, no internal error, no unbounded memory or time, and the promises of test/fuzz/target*.c.
#
# The short form of test/soak/fuzz, without coverage: gcc builds the module with a driver of its own. GOYA_SEED repeats a run, GOYA_FUZZ_RUNS
# makes it longer (in percent).
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use PostgreSQL::Test::Utils ();
use Test::More;

my %runs = (definition => 6000, schema => 15000, template => 12000, pattern => 8000, text => 3000, json => 4000, http => 6000);
my %max_len = (pattern => 300);
my $seed = $ENV{GOYA_SEED} // int rand 1_000_000_000;
my $fuzz = "$FindBin::Bin/../fuzz";
my $dir = PostgreSQL::Test::Utils::tempdir();
my $data = "$dir/data";

sub command
{
	my ($command) = @_;
	my $out = `cd "$dir" && ( $command ) 2>&1`;

	return ($? >> 8, $out);
}

sub fuzz
{
	my ($target, @arguments) = @_;

	return command(join ' ', "'$fuzz/one'", "$dir/goya_fuzz.so", $data, $target, @arguments);
}

note("seed $seed");
my ($status, $out) = command("make -s -j2 -f '$fuzz/Makefile' DRIVER=blind PG_CONFIG=pg_config");
is($status, 0, 'the fuzzing module builds') or BAIL_OUT($out);
is($out, '', 'without a warning');
($status, $out) = $ENV{GOYA_TEMPLATE} ? command("cp -a '$ENV{GOYA_TEMPLATE}' '$data'") : command("initdb -D '$data' -A trust -N -E UTF8 --locale=C.UTF-8");
is($status, 0, 'a data directory') or BAIL_OUT($out);
($status, $out) = command("'$fuzz/seeds' '$dir/seeds'");
is($status, 0, 'the seeds') or diag($out);

# First that a finding would be seen.
for my $case ([ i => 'error XX000: an internal error' ], [ d => 'error 22000: a data error' ], [ m => 'left \d+ bytes' ], [ c => 'crashed with signal 11' ], [ s => 'crashed with signal 11' ])
{
	my ($input, $words) = @$case;

	mkdir "$dir/self-$input";
	PostgreSQL::Test::Utils::append_to_file("$dir/self-$input/input", $input);
	($status, $out) = fuzz('self', '-runs=0', "$dir/self-$input");
	isnt($status, 0, "self '$input' is a finding");
	like($out, qr/^FINDING in self: $words/m, "and says why: $words");
}
mkdir "$dir/self-fine";
PostgreSQL::Test::Utils::append_to_file("$dir/self-fine/input", 'x');
($status, $out) = fuzz('self', '-runs=0', "$dir/self-fine");
is($status, 0, 'a target without a finding is none') or diag($out);

for my $target (sort keys %runs)
{
	my $n = int $runs{$target} * ($ENV{GOYA_FUZZ_RUNS} // 100) / 100;

	($status, $out) = fuzz($target, "-runs=$n", "-seed=$seed", '-max_len=' . ($max_len{$target} // 4000), "$dir/seeds/$target");
	is($status, 0, "$target: $n random inputs (seed $seed)") or diag(substr $out, 0, 8000);
	my ($inputs, $deep) = $out =~ /^FUZZED $target: (\d+) inputs, (\d+) all the way/m;
	cmp_ok($inputs // 0, '>=', $n, "$target: all of them ran");
	cmp_ok(($deep // 0) / ($inputs || 1), '>', 0.02, "$target: not all were refused at the door");
	note($out =~ /^(FUZZED .*)$/m);
}

done_testing();
