# GoyaWire.pm: a small client of PostgreSQL's protocol, for tests that hold many connections while servers die.
#
#   my $c = GoyaWire->connect($node, user => 'red') or die GoyaWire::problem();
#   my $r = $c->query("SELECT 1; SELECT 2");    # simple query: one string, one transaction
#   $r->{rows}                                  # [[1], [2]]; null is undef
#   $r->{error}                                 # { state => '23505', message => … }; undef: all went well
#   $r->{lost}                                  # the connection broke: nobody knows what became of the query
#
# Decided: no driver, since Debian's is one package more for everybody, and psql costs a process for each look; over the socket directory,
# without a password. An answer has a deadline: a server that hangs is a lost connection that says so.
# Must hold: no SIGPIPE, no exception: whoever asks decides what a broken connection means.
package GoyaWire;

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes 'time';

my $problem = '';

sub problem { return $problem; }

# connect(NODE, user => NAME, database => NAME, timeout => SECONDS): a connection that is ready for queries, or undef.
sub connect
{
	my ($class, $node, %o) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port);
	my $self;

	if (!$socket)
	{
		$problem = "no socket: $!";
		return;
	}
	$self = bless { socket => $socket, select => IO::Select->new($socket), buffer => '', timeout => $o{timeout} // 60 }, $class;
	my $start = pack('N', 196608)
	  . join("\0", user => $o{user} // 'postgres', database => $o{database} // 'goya', application_name => $o{name} // 'storm', '') . "\0";
	if (!$self->send(pack('N', 4 + length $start) . $start))
	{
		$problem = 'lost while connecting';
		return;
	}
	my $r = $self->answer;
	return $self if !$r->{error} && !$r->{lost};
	$problem = $r->{error} ? "$r->{error}{state} $r->{error}{message}" : 'lost while connecting';
	return;
}

# query(SQL): see above.
sub query
{
	my ($self, $sql) = @_;

	utf8::encode($sql) if utf8::is_utf8($sql);
	return { rows => [], lost => 1 } if $self->{lost};
	return $self->lose if !$self->send('Q' . pack('N', 5 + length $sql) . "$sql\0");
	return $self->answer;
}

# value(SQL): the first column of the first row, undef when there is none or it failed.
sub value
{
	my ($self, $sql) = @_;
	my $r = $self->query($sql);

	return $r->{error} || $r->{lost} || !@{ $r->{rows} } ? undef : $r->{rows}[0][0];
}

# ask(SQL), without waiting for the answer; then answer().
sub ask
{
	my ($self, $sql) = @_;

	return $self->send('Q' . pack('N', 5 + length $sql) . "$sql\0");
}

sub close { my ($self) = @_; $self->send('X' . pack('N', 4)); CORE::close($self->{socket}); $self->{lost} = 1; return; }

sub lose { my ($self) = @_; $self->{lost} = 1; CORE::close($self->{socket}); return { rows => [], lost => 1 }; }

sub send
{
	my ($self, $bytes) = @_;
	local $SIG{PIPE} = 'IGNORE';

	while (length $bytes)
	{
		my $n = syswrite $self->{socket}, $bytes;
		return 0 if !$n;
		substr $bytes, 0, $n, '';
	}
	return 1;
}

sub message
{
	my ($self, $deadline) = @_;

	while (1)
	{
		if (length $self->{buffer} >= 5)
		{
			my ($type, $length) = unpack 'aN', $self->{buffer};
			if (length $self->{buffer} > $length)
			{
				my $body = substr $self->{buffer}, 5, $length - 4;
				substr $self->{buffer}, 0, $length + 1, '';
				return ($type, $body);
			}
		}
		my $left = $deadline - time;
		return if $left <= 0 || !$self->{select}->can_read($left);
		return if !sysread $self->{socket}, $self->{buffer}, 65536, length $self->{buffer};
	}
}

# Everything until the server is ready again.
sub answer
{
	my ($self) = @_;
	my $deadline = time + $self->{timeout};
	my %r = (rows => []);

	while (my ($type, $body) = $self->message($deadline))
	{
		if ($type eq 'D') { push @{ $r{rows} }, row($body); }
		elsif ($type eq 'E')
		{
			my %field = map { (substr($_, 0, 1) => substr $_, 1) } grep { length } split /\0/, $body;
			$r{error} //= { state => $field{C}, message => $field{M}, detail => $field{D} // '' };
		}
		elsif ($type eq 'K') { ($self->{pid}) = unpack 'N', $body; }
		elsif ($type eq 'Z') { return \%r; }
		elsif ($type eq 'R' && unpack('N', $body) != 0)
		{
			$r{error} //= { state => '28000', message => 'the server wants a password', detail => '' };
			return \%r;
		}
	}
	# A FATAL and then the end: that is why. During a start the server refuses so.
	$self->lose;
	$r{lost} = 1;
	return \%r;
}

sub row
{
	my ($body) = @_;
	my $n = unpack 'n', $body;
	my ($at, @values) = (2);

	for (1 .. $n)
	{
		my $length = unpack 'l>', substr $body, $at, 4;
		$at += 4;
		push @values, $length < 0 ? undef : substr $body, $at, $length;
		$at += $length if $length > 0;
	}
	return \@values;
}

1;
