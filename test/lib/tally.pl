#!/usr/bin/perl
# tally.pl LOG COUNTS: reads a suite's output, keeps all of it in LOG, shows what a person watching wants, writes
# `passed failed skipped shown` to COUNTS.
#
# Understood: pg_regress and pg_isolation_regress ("test x ... ok"), and TAP at top level ("ok 1 - …", "not ok 2 - …", "# SKIP", "# TODO"). A
# subtest's own lines are indented and not counted: the subtest is. Shown: a line per file or regression test, every failure with what
# it says, diffs and errors; not the assertions that passed.
use strict;
use warnings;

my ($log_name, $counts_name) = @ARGV;
open my $log, '>', $log_name or die "$log_name: $!";
$| = 1;
my %count = (passed => 0, failed => 0, skipped => 0, shown => 0);
my ($failing, $in_diff) = (0, 0);

while (my $line = <STDIN>)
{
	print $log $line;
	my $show = 0;

	if ($line =~ /^(?:test |\s+)\S+\s+\.\.\. (ok|FAILED|failed)\b/)
	{
		$count{ $1 eq 'ok' ? 'passed' : 'failed' }++;
		$show = 1;
	}
	elsif ($line =~ /^ok (?:\d+|-)(?: |$)/)
	{
		$count{ $line =~ /#\s*skip/i ? 'skipped' : 'passed' }++;
		$failing = 0;
	}
	elsif ($line =~ /^not ok (?:\d+|-)(?: |$)/)
	{
		my $todo = $line =~ /#\s*todo/i;
		$count{ $todo ? 'skipped' : 'failed' }++;
		$failing = $show = !$todo;
	}
	elsif ($line =~ /^\s+Parse errors: /)
	{
		# A file that died, or ended with another number of assertions than it planned, is one failure more.
		$count{failed}++;
		$show = 1;
	}
	elsif ($line =~ /^(?:\[[\d:]+\] )?(test\/\S+) \.+ *$/)
	{
		$line = "$1\n";
		($failing, $in_diff, $show) = (0, 0, 1);
	}
	else
	{
		$in_diff = 1 if $line =~ /^diff /;
		$show = 1 if $in_diff
		  || ($line =~ /^#/ && ($failing || $line =~ /fail|deadline|looks like|timed out/i))
		  || $line =~ /^(?:Dubious|Failed|Result: FAIL|Bail|  Failed|  Non-zero|ERROR|FATAL|psql:|pg_regress:|goya:|Traceback|demo: |== )/;
	}
	next unless $show;
	$count{shown}++;
	print "   $line";
}
close $log;

open my $counts, '>', $counts_name or die "$counts_name: $!";
print $counts "$count{passed} $count{failed} $count{skipped} $count{shown}\n";
close $counts;
