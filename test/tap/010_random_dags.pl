# 010_random_dags.pl: definitions generated from random DAGs run in topological order, each node once; with failures, conditions and joins
# they end as a naive model says. And what a node costs in a chain and in a fan of 5,000.
#
# Decided: the numbers come from one seed, printed, and set by GOYA_SEED to repeat a run. Order is judged by seq, which the engine gives
# under the lock of the task; effects are in a table without a unique key. The model knows only the rules of docs/concepts.md, and decides
# node by node in topological order; where several failures race for the end of a task, only that end and its cause are compared.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use Test::More;
use Time::HiRes 'time';

my $seed = $ENV{GOYA_SEED} || int(rand 2**31);
srand $seed;
note "GOYA_SEED=$seed";

my $node = GoyaNode->start(name => 'dags', conf => $GoyaWork::CONF);
create_studio($node);

# ---- random DAGs ----

# Each shape returns a list of [from, to] over nodes 0 … n-1, from < to.
my %shapes = (
	chain => sub { my $n = shift; map { [ $_ - 1, $_ ] } 1 .. $n - 1; },
	fan => sub { my $n = shift; map { [ 0, $_ ] } 1 .. $n - 1; },
	diamond => sub { my $n = shift; map { ([ 0, $_ ], [ $_, $n - 1 ]) } 1 .. $n - 2; },
	mesh => sub {
		my $n = shift;
		my $width = 1 + int(rand(1 + sqrt $n));
		my @edges;

		for my $to ($width .. $n - 1)
		{
			my $layer = int($to / $width) - 1;
			my %from = map { $layer * $width + int(rand $width) => 1 } 0 .. int(rand 4);
			push @edges, map { [ $_, $to ] } sort { $a <=> $b } keys %from;
		}
		return @edges;
	},
	random => sub {
		my $n = shift;
		my @edges;

		for my $to (1 .. $n - 1)
		{
			my %from = map { int(rand $to) => 1 } 1 .. int(rand 4);
			push @edges, map { [ $_, $to ] } sort { $a <=> $b } keys %from;
		}
		return @edges;
	},
);

sub effect_node
{
	my ($key, @more) = @_;
	return { key => $key, kind => 'sql', function => 'app.effect', input => { task => '{{ task.id }}', node => $key }, @more };
}

# Mostly SQL nodes, some of the others: what runs inline and what is queued must keep the order together.
sub random_node
{
	my ($key) = @_;
	my $dice = rand;

	return { key => $key, kind => 'noop', input => {} } if $dice < 0.1;
	return { key => $key, kind => 'transform', output => { node => $key } } if $dice < 0.15;
	return { key => $key, kind => 'sleep', duration => 0.001 } if $dice < 0.16;
	return effect_node($key);
}

# The order as SQL sees it: nodes that did not run exactly once, or not after each node before them.
my $WRONG = <<'SQL';
WITH mine AS MATERIALIZED (SELECT t.id, t.status, r.resolved AS d FROM goya.tasks t JOIN goya.workflow_revisions r ON r.workflow_id = t.workflow_id AND r.revision = t.revision
                           WHERE t.id = ANY ('{%s}')),
     nodes AS MATERIALIZED (SELECT m.id, n ->> 'key' AS key, n ->> 'function' AS function FROM mine m, jsonb_array_elements(m.d -> 'nodes') n),
     edges AS MATERIALIZED (SELECT m.id, e ->> 'from' AS source, e ->> 'to' AS target FROM mine m, jsonb_array_elements(m.d -> 'edges') e),
     runs AS MATERIALIZED (SELECT r.task_id AS id, r.node, r.status, r.seq, coalesce(r.started_seq, r.seq) AS began FROM goya.node_runs r JOIN mine m ON m.id = r.task_id),
     effects AS MATERIALIZED (SELECT e.task AS id, e.node, count(*) AS n FROM app.effects e JOIN mine m ON m.id = e.task GROUP BY 1, 2)
SELECT 'task', id, status::text FROM mine WHERE status <> 'succeeded'
UNION ALL SELECT 'runs', n.id, n.key || ' ' || count(r.node) FROM nodes n LEFT JOIN runs r ON r.id = n.id AND r.node = n.key AND r.status = 'succeeded' GROUP BY n.id, n.key HAVING count(r.node) <> 1
UNION ALL SELECT 'stranger', r.id, r.node FROM runs r LEFT JOIN nodes n ON n.id = r.id AND n.key = r.node WHERE n.key IS NULL
UNION ALL SELECT 'effect', n.id, n.key FROM nodes n LEFT JOIN effects e ON e.id = n.id AND e.node = n.key WHERE coalesce(e.n, 0) <> CASE WHEN n.function IS NULL THEN 0 ELSE 1 END
UNION ALL SELECT 'order', e.id, e.source || ' -> ' || e.target FROM edges e JOIN runs s ON s.id = e.id AND s.node = e.source JOIN runs t ON t.id = e.id AND t.node = e.target WHERE t.began <= s.seq
LIMIT 10
SQL

my @sizes = map { my $r = rand; $r < 0.6 ? 1 + int(rand 12) : $r < 0.9 ? 5 + int(rand 60) : 50 + int(rand 250) } 1 .. 196;
push @sizes, 1000, 1500, 2000, 1;
my @names = sort keys %shapes;
my (@script, $total, $total_edges);
for my $i (0 .. $#sizes)
{
	my $n = $sizes[$i];
	my $shape = $names[ $i % @names ];
	my @edges = grep { $_->[0] >= 0 && $_->[0] < $_->[1] } $n > 1 ? $shapes{$shape}->($n) : ();
	my $definition = {
		nodes => [ map { random_node("n$_") } 0 .. $n - 1 ],
		edges => [ map { { from => "n$_->[0]", to => "n$_->[1]" } } @edges ],
	};

	push @script, sprintf q{SELECT goya.create_workflow('dag %d %s', $d$%s$d$, publish => true) \g /dev/null}, $i, $shape, json($definition);
	$total += $n;
	$total_edges += @edges;
}
my $began = time;
$node->sql(join("\n", @script), role => 'studio');
note sprintf '%d workflows with %d nodes and %d edges published in %.1f s', scalar @sizes, $total, $total_edges, time - $began;
$began = time;
my @tasks = split /\n/, $node->sql(q{SELECT goya.run(w.name) FROM goya.workflows w WHERE w.name LIKE 'dag %' ORDER BY w.id}, role => 'studio');
is(scalar @tasks, 200, '200 tasks were started');
$node->reached(q{SELECT count(*) FROM goya.tasks WHERE status IN ('succeeded', 'failed', 'cancelled')}, 200, 60, 'they all end');
note sprintf '%d nodes in %.1f s', $total, time - $began;
is($node->sql(sprintf $WRONG, join ',', @tasks), '', "each node ran once, after all before it (seed $seed)");

# ---- failures, conditions, joins: against a model ----

# The rules, naively: [status of each node], and keys of nodes whose failure nobody handles.
sub model
{
	my ($nodes, $edges) = @_;
	my (%status, %blocked, @uncontained);

	for my $n (@$nodes)
	{
		my @in = grep { $_->{to} eq $n->{key} } @$edges;
		my ($fired, $dead, $failed) = (0, 0, 0);

		for my $e (@in)
		{
			my $source = $status{ $e->{from} };
			my $on = $e->{on} // 'success';

			if ($source eq 'skipped') { $blocked{ $e->{from} } ? $failed++ : $dead++; }
			elsif ($source eq 'succeeded' ? $on eq 'failure' : $on eq 'success') { $source eq 'succeeded' ? $dead++ : $failed++; }
			elsif (defined $e->{when} && !$e->{truth}) { $dead++; }
			elsif (defined $e->{case} && $e->{case} ne $e->{taken}) { $dead++; }
			else { $fired++; }
		}
		my $runs = !@in || (($n->{join} // 'all') eq 'any' ? $fired > 0 : $fired > 0 && $failed == 0);
		if (!$runs)
		{
			$status{ $n->{key} } = 'skipped';
			$blocked{ $n->{key} } = $failed > 0;
			next;
		}
		$status{ $n->{key} } = $n->{fails} ? 'failed' : 'succeeded';
		push @uncontained, $n->{key} if $n->{fails} && !grep { $_->{from} eq $n->{key} && ($_->{on} // '') =~ /failure|always/ } @$edges;
	}
	return (\%status, \@uncontained);
}

my $MODELS = 120;
my (@models, @expected);
@script = ();
for my $i (0 .. $MODELS - 1)
{
	my $n = 2 + int(rand 14);
	my (@nodes, @edges);

	for my $to (0 .. $n - 1)
	{
		my $dice = rand;
		my $definition = $dice < 0.25 ? { key => "n$to", kind => 'sql', function => 'app.effect_boom', input => { task => '{{ task.id }}', node => "n$to" } }
		  : $dice < 0.4 ? { key => "n$to", kind => 'switch', cases => [ { name => 'yes', when => '$.input.one == 1' } ], default => 'no' }
		  : $dice < 0.5 ? { key => "n$to", kind => 'sleep', duration => 0.001 * int(rand 20) }
		  : effect_node("n$to");
		my %from = map { int(rand $to) => 1 } $to ? (0 .. int(rand 3)) : ();

		$definition->{join} = 'any' if keys %from > 1 && rand() < 0.35;
		push @nodes, { key => "n$to", definition => $definition, join => $definition->{join}, fails => $dice < 0.25 };
		for my $from (sort { $a <=> $b } keys %from)
		{
			my $edge = { from => "n$from", to => "n$to" };
			my $source = $nodes[$from];

			$edge->{on} = $source->{fails} ? (qw(failure always failure success))[ rand 4 ] : (qw(success success success always failure))[ rand 5 ];
			if ($source->{definition}{kind} eq 'switch' && rand() < 0.7)
			{
				$edge->{on} = 'success';
				$edge->{case} = rand() < 0.6 ? 'yes' : 'no';
			}
			elsif (rand() < 0.25)
			{
				my $truth = rand() < 0.6;
				$edge->{when} = $truth ? '$.input.one == 1' : '$.input.one > 1';
				$edge->{truth} = $truth;
			}
			push @edges, $edge;
		}
	}
	my $definition = {
		nodes => [ map { $_->{definition} } @nodes ],
		edges => [ map { my %e = %$_; delete $e{truth}; \%e } @edges ],
	};
	$_->{taken} = 'yes' foreach @edges;
	push @models, [ \@nodes, \@edges, $definition ];
	push @script, sprintf q{SELECT goya.create_workflow('model %03d', $d$%s$d$, publish => true) \g /dev/null}, $i, json($definition);
}
$node->sql(join("\n", @script), role => 'studio');
@tasks = split /\n/, $node->sql(q{SELECT goya.run(w.name, '{"one": 1}') FROM goya.workflows w WHERE w.name LIKE 'model %' ORDER BY w.id}, role => 'studio');
is(scalar @tasks, $MODELS, "$MODELS tasks with failures were started");
$node->reached(q{SELECT count(*) FROM goya.tasks WHERE finished_at IS NOT NULL}, 200 + $MODELS, 60, 'they all end');

my %seen;
foreach (split /\n/, $node->sql(q{SELECT task_id, node, status FROM goya.node_runs}))
{
	my ($task, $key, $status) = split /\|/;
	push @{ $seen{$task}{$key} }, $status;
}
my %end = map { my ($task, $status, $at) = split /\|/; $task => [ $status, $at // '' ] } split /\n/, $node->sql(q{SELECT id, status, error ->> 'node' FROM goya.tasks});
my %effects;
$effects{$_}++ foreach split /\n/, $node->sql('SELECT task || node FROM app.effects');
my ($wrong, $failed, $contained) = ('', 0, 0);
for my $i (0 .. $#models)
{
	my ($nodes, $edges, $definition) = @{ $models[$i] };
	my ($status, $uncontained) = model($nodes, $edges);
	my $task = $tasks[$i];
	my $problem = '';

	if (@$uncontained)
	{
		$failed++;
		$problem .= "task is $end{$task}[0]; " if $end{$task}[0] ne 'failed';
		$problem .= "error at $end{$task}[1], not at one of @$uncontained; " unless grep { $_ eq $end{$task}[1] } @$uncontained;
	}
	else
	{
		$contained++ if grep { $_ eq 'failed' } values %$status;
		$problem .= "task is $end{$task}[0]; " if $end{$task}[0] ne 'succeeded';
		foreach my $key (sort keys %$status)
		{
			my $is = join '+', @{ $seen{$task}{$key} // ['nothing'] };
			$problem .= "$key is $is, not $status->{$key}; " if $is ne $status->{$key};
		}
	}
	foreach my $n (@$nodes)
	{
		my $done = $effects{ $task . $n->{key} } // 0;
		my $is = join '+', @{ $seen{$task}{ $n->{key} } // ['nothing'] };
		my $due = ($n->{definition}{function} // '') eq 'app.effect' && $is eq 'succeeded' ? 1 : 0;
		$problem .= "$n->{key} ($is) has $done effects; " if $done != $due;
	}
	$wrong .= "model $i: $problem\n" . json($definition) . "\n" if $problem ne '';
}
is($wrong, '', "statuses are the model's (seed $seed)");
note "$failed tasks failed, $contained more had a failure that was handled";
cmp_ok($contained, '>', 5, 'enough of them had failures that were handled');

# ---- what a node costs ----

sub cost
{
	my ($name, $size, @edges) = @_;

	create_workflow($node, $name,
		{ nodes => [ map { effect_node("n$_") } 0 .. $size - 1 ], edges => [ map { { from => "n$_->[0]", to => "n$_->[1]" } } @edges ] });
	my $began = time;
	my $id = run_task($node, $name);
	ended($node, $id, 'succeeded', 60, "$name ends");
	my $ms = (time - $began) * 1000;
	note sprintf '%s: %.1f s, %.3f ms a node', $name, $ms / 1000, $ms / $size;
	is($node->sql(sprintf $WRONG, $id), '', "$name ran in order");
	return $ms;
}

cmp_ok(cost('chain of 5000', 5000, $shapes{chain}->(5000)), '<', 20_000, 'a chain of 5,000 takes less than 20 s');
cmp_ok(cost('fan of 5000', 5000, $shapes{fan}->(5000)), '<', 20_000, 'a fan of 5,000 takes less than 20 s');
cmp_ok(cost('diamond of 5000', 5000, $shapes{diamond}->(5000)), '<', 20_000, 'a diamond of 5,000 takes less than 20 s');

is_sound($node);
$node->stop('fast');
done_testing();
