# 011_wfformat.pl: workflows recorded in WfFormat 1.5 are imported (a node per task, an edge per parent) and run in topological order.
#
# Decided: the instances are data beside the checkout ($GOYA_SHARED, default ../shared), not part of it; without them the file is skipped.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use File::Basename 'basename';
use GoyaNode;
use GoyaWork;
use JSON::PP ();
use Test::More;
use Time::HiRes 'time';

my $shared = $ENV{GOYA_SHARED} // "$FindBin::Bin/../../../shared";
my @files = sort glob "$shared/data/wfformat/*.json";

plan skip_all => "no WfFormat instances in $shared/data/wfformat" unless @files;

my $node = GoyaNode->start(name => 'wfformat', conf => $GoyaWork::CONF);
create_studio($node);

# import_wfformat(FILE): definition, and the parents of each node by key. Ids that are no keys, or too long for one, get one from their place.
sub import_wfformat
{
	my ($file) = @_;

	open my $in, '<:raw', $file or die "$file: $!";
	local $/;
	my $instance = JSON::PP::decode_json(<$in>);
	die "$file: not WfFormat 1.5" unless ($instance->{schemaVersion} // '') eq '1.5';
	my @tasks = @{ $instance->{workflow}{specification}{tasks} };
	my (%key, %parents, @nodes, @edges, $n);

	foreach my $task (@tasks)
	{
		my $key = $task->{id} =~ /^[A-Za-z_][A-Za-z0-9_-]{0,62}$/ ? $task->{id} : sprintf 'task_%05d', ++$n;
		$key{ $task->{id} } = $key;
		push @nodes, { key => $key, kind => 'sql', label => $task->{name}, function => 'app.effect', input => { task => '{{ task.id }}', node => $key } };
	}
	foreach my $task (@tasks)
	{
		my $key = $key{ $task->{id} };
		$parents{$key} = [ map { $key{$_} } @{ $task->{parents} } ];
		push @edges, map { { from => $_, to => $key } } @{ $parents{$key} };
	}
	return ({ nodes => \@nodes, edges => \@edges }, \%parents);
}

foreach my $file (@files)
{
	my $name = basename($file, '.json');
	my ($definition, $parents) = import_wfformat($file);
	my $n = keys %$parents;

	is(scalar @{ $definition->{nodes} }, $n, "$name: $n nodes");
	create_workflow($node, $name, $definition);
	my $began = time;
	my $id = run_task($node, $name);
	ended($node, $id, 'succeeded', 20, "$name: it runs");
	note sprintf '%s: %d nodes, %d edges in %.3f s', $name, $n, scalar @{ $definition->{edges} }, time - $began;

	my (%seq, %began_at, %times);
	foreach (split /\n/, $node->sql("SELECT node, seq, coalesce(started_seq, seq), status FROM goya.node_runs WHERE task_id = '$id'"))
	{
		my ($key, $seq, $start, $status) = split /\|/;
		$times{$key}++ if $status eq 'succeeded';
		($seq{$key}, $began_at{$key}) = ($seq, $start);
	}
	is(join(' ', grep { ($times{$_} // 0) != 1 } sort keys %$parents), '', "$name: every node ran once");
	is(scalar keys %seq, $n, "$name: and no other");
	my @early = map { my $key = $_; map { $seq{$_} < $began_at{$key} ? () : "$_ -> $key" } @{ $parents->{$key} } } sort keys %$parents;
	is("@early", '', "$name: each after all its parents");
	is($node->sql("SELECT count(*), count(DISTINCT node) FROM app.effects WHERE task = '$id'"), "$n|$n", "$name: every effect is there once");
}
is_sound($node);
$node->stop('fast');
done_testing();
