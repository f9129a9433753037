# GoyaCrowd.pm: clients of GoyaScene's tenants, as processes of their own, that go on until each of their submissions is there once.
#
#   my $crowd = GoyaCrowd->start($node, $scene, clients => 4);
#   $crowd->release(50);                    # batches, numbered on from the last
#   my $result = $crowd->finish(120);       # { ledger, errors, repeats, done }
#
# Decided: what is to be submitted comes as numbers of batches through one pipe that all clients read. A client repeats whatever failed
# for want of a server, with the same idempotency keys, until it is told yes; any other error is kept and ends that item. What a client does to its
# tasks later (signal, approve, resume, cancel) is done two batches later, and repeated in the same way. A signal has no key: a table says that it was sent.
# Must hold: a client ends at the end of the pipe, when its parent is gone, or after its own deadline; it runs none of the parent's END blocks.
package GoyaCrowd;

use strict;
use warnings;

use GoyaScene;
use GoyaWire;
use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(sleep time);

# No server, or one that is going: 57P01 … 57P03, 08xxx. Beaten by somebody else: 40xxx.
my $AGAIN = qr/^(57P0[1-3]|08...|40...|55P03)$/;
my $PATIENCE = 180;

sub start
{
	my ($class, $node, $scene, %o) = @_;
	my $self = bless { node => $node, scene => $scene, dir => PostgreSQL::Test::Utils::tempdir(), next => 1, pids => [] }, $class;

	pipe(my $read, $self->{write}) or die $!;
	foreach my $i (1 .. $o{clients} // 3)
	{
		my $pid = fork // die $!;
		if (!$pid)
		{
			close $self->{write};
			my $ok = eval { $self->client($i, $read); 1 };
			print STDERR "# client $i: $@" if !$ok;
			POSIX::_exit($ok ? 0 : 1);
		}
		push @{ $self->{pids} }, $pid;
	}
	close $read;
	return $self;
}

sub release
{
	my ($self, $batches) = @_;
	local $SIG{PIPE} = 'IGNORE';

	syswrite $self->{write}, pack 'N*', $self->{next} .. $self->{next} + $batches - 1;
	$self->{next} += $batches;
	return;
}

# progress(): how many batches were submitted so far.
sub progress
{
	my ($self) = @_;
	my $done = 0;

	foreach my $file (glob "$self->{dir}/client.*")
	{
		open my $in, '<', $file or next;
		$done += () = do { local $/; <$in> } =~ /^batch /mg;
	}
	return $done;
}

# finish(SECONDS): no more batches; what became of all.
sub finish
{
	my ($self, $seconds) = @_;
	my %result = (ledger => [], errors => [], repeats => 0, done => 0, ended => 0);
	my $deadline = time + $seconds;

	close $self->{write};
	foreach my $pid (@{ $self->{pids} })
	{
		sleep 0.02 until waitpid($pid, POSIX::WNOHANG()) == $pid || time > $deadline;
		$result{ended}++ if $? == 0 && time <= $deadline;
		kill 'KILL', $pid if time > $deadline;
	}
	foreach my $file (sort glob "$self->{dir}/client.*")
	{
		open my $in, '<', $file or die $!;
		while (my $line = <$in>)
		{
			chomp $line;
			my ($what, @more) = split /\t/, $line;
			if ($what eq 'task') { push @{ $result{ledger} }, [@more]; }
			elsif ($what eq 'error') { push @{ $result{errors} }, "@more"; }
			elsif ($what eq 'repeat') { $result{repeats}++; }
			elsif ($what =~ /^batch /) { $result{done}++; }
		}
	}
	return \%result;
}

# ---- one client, in its own process ----

sub client
{
	my ($self, $i, $read) = @_;
	my $parent = getppid;
	my @later;

	$self->{connections} = {};
	open $self->{out}, '>', "$self->{dir}/client.$i" or die $!;
	$self->{out}->autoflush(1);
	while (sysread $read, my $bytes, 4)
	{
		return if getppid != $parent;
		my $batch = scene_batch($self->{scene}, unpack 'N', $bytes);
		my @items = $self->submit($batch);
		push @later, map { { %$_, tenant => $batch->{tenant}, due => 2 } } grep { $_->{later} && $_->{id} } @items;
		print { $self->{out} } "batch $batch->{n}\n";
		$_->{due}-- foreach @later;
		@later = grep { $_->{due} > 0 || !$self->follow_up($_) } @later;
	}
	my $deadline = time + $PATIENCE;
	while (@later && time < $deadline)
	{
		return if getppid != $parent;
		@later = grep { !$self->follow_up($_) } @later;
		sleep 0.05 if @later;
	}
	$self->say(error => "$_->{kind} $_->{id}: its client could not $_->{later}") foreach @later;
	return;
}

sub say { my ($self, @words) = @_; print { $self->{out} } join("\t", @words) . "\n"; return; }

# persist(TENANT, SQL, IGNORED): the rows, once the server has said yes; undef: an error that stays, unless it is one to ignore.
sub persist
{
	my ($self, $tenant, $sql, $ignored) = @_;
	my $deadline = time + $PATIENCE;

	while (time < $deadline)
	{
		my $c = $self->{connections}{$tenant} //= GoyaWire->connect($self->{node}, user => $tenant, timeout => 60);
		if (!$c) { sleep 0.03; next; }
		my $r = $c->query($sql);
		delete $self->{connections}{$tenant} if $r->{lost};
		return $r->{rows} if !$r->{lost} && !$r->{error};
		return [] if $r->{error} && defined $ignored && $r->{error}{state} =~ $ignored;
		if ($r->{error} && $r->{error}{state} !~ $AGAIN)
		{
			$self->say(error => "$r->{error}{state} $r->{error}{message} $r->{error}{detail}", $sql);
			return;
		}
		$self->say('repeat');
	}
	$self->say(error => 'the server did not say yes in time', $sql);
	return;
}

# submit(BATCH): its items, with the ids they got.
sub submit
{
	my ($self, $batch) = @_;
	my @items = @{ $batch->{items} };
	my @groups = $batch->{mode} eq 'each' ? map { [$_] } @items : \@items;

	foreach my $group (@groups)
	{
		my $sql = $batch->{mode} eq 'many' ? many($group) : join '; ', map { single($_) } @$group;
		my $rows = $self->persist($batch->{tenant}, $sql) // next;
		# An asset that was there already gives no row: its id is the client's own.
		my %id = map { $_->[0] => $_->[1] } @$rows;
		foreach my $item (@$group)
		{
			$item->{id} = $item->{asset} // $id{ $item->{key} };
			$self->say(task => $item->{key}, $item->{id} // '00000000-0000-0000-0000-000000000000', $batch->{tenant}, $item->{kind});
		}
	}
	return @items;
}

sub asset_values { my ($item) = @_; return "('$item->{asset}', '$item->{key}', 'video')"; }

sub assets { return 'INSERT INTO goya.assets (id, name, media_type) VALUES ' . join(', ', map { asset_values($_) } @_) . ' ON CONFLICT (id) DO NOTHING RETURNING name, id'; }

sub single
{
	my ($item) = @_;
	my ($kind, $key) = ($item->{kind}, $item->{key});

	return assets($item) if $kind eq 'asset';
	# The same moment whenever it is repeated: it is part of the request.
	$item->{run_at} //= sprintf ', run_at => to_timestamp(%.3f)', time + 0.3 if $kind eq 'later';
	my $run = sprintf "goya.run('%s', '%s', idempotency_key => '%s'%s)", $kind, $item->{input}, $key, $item->{run_at} // '';
	return $kind eq 'held' ? "SELECT '$key', (goya.pause($run)).id" : "SELECT '$key', $run";
}

sub many
{
	my ($items) = @_;

	return assets(@$items) if $items->[0]{kind} eq 'asset';
	my $keys = "'{" . join(',', map { $_->{key} } @$items) . "}'::text[]";
	return sprintf "SELECT k, id FROM (SELECT row_number() OVER () AS n, id FROM goya.run_many('%s', '[%s]', idempotency_keys => %s) id) r JOIN unnest(%s) WITH ORDINALITY u(k, n) USING (n)",
		$items->[0]{kind}, join(',', map { $_->{input} } @$items), $keys, $keys;
}

my %FOLLOW_UP = (
	signal => q{WITH s AS (INSERT INTO app.sent VALUES ('%1$s') ON CONFLICT DO NOTHING RETURNING task) SELECT goya.signal(task, 'go', to_jsonb(task::text)) FROM s},
	resume => q{SELECT (goya.resume('%1$s')).id},
	cancel => q{SELECT goya.cancel('%1$s')},
	approve => q{SELECT (goya.approve('%1$s', 'ask')).status},
	# A worker of the tenant does what there is, whosever it is, until this task has ended.
	work => q{SELECT goya.complete_work(w.token, '"done"') FROM goya.claim_work('q', 'crowd', 10) w; SELECT 1 FROM goya.tasks WHERE id = '%1$s' AND finished_at IS NOT NULL},
);

# follow_up(ITEM): true when it is done.
sub follow_up
{
	my ($self, $item) = @_;
	# Resuming again what has gone on and ended since is no error; there may be no question to answer yet.
	my $ignored = { resume => qr/^55000$/, approve => qr/^PT404$/ }->{ $item->{later} };
	my $rows = $self->persist($item->{tenant}, sprintf($FOLLOW_UP{ $item->{later} }, $item->{id}), $ignored);

	return 1 if !defined $rows || $item->{later} !~ /^(approve|work)$/;
	return grep { defined $_->[0] && $_->[0] ne 't' && $_->[0] ne 'f' } @$rows;
}

1;
