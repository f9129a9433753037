# GoyaWork.pm: what the process tests in test/tap have in common: people and functions to run, an HTTP server, DAGs, and the checks after it.
#
#   use GoyaNode; use GoyaWork;
#   my $node = GoyaNode->start(conf => $GoyaWork::CONF);
#   create_studio($node);                       # role studio, schema app with functions for SQL nodes, table app.effects
#   my $id = run_task($node, 'name', \%input);  # as studio
#   ended($node, $id, 'succeeded', 10, 'it ran');
#   is_sound($node);                            # goya.check() is empty
#
# Decided: effects go to a table without a unique key, so that doing something twice is seen and not refused. The HTTP server reads its end
# from our end of a pipe, so that it never outlives the test.
# Must hold: every wait has a deadline; every assertion says what it looked at.
package GoyaWork;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use HTTP::Tiny;
use IPC::Open2 ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(create_studio create_workflow run_task ended is_sound json http_server http_log release script_server put_script worker_pid log_since log_size until_true);

our $CONF = "goya.http_allow_loopback = on\ngoya.max_executors = 2\n";

my $codec = JSON::PP->new->canonical->allow_nonref;

# json(VALUE): as text; json(TEXT) of a reference only.
sub json { return $codec->encode($_[0]); }

sub quote
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

# create_studio(NODE): role studio (goya_user), and functions it may run.
sub create_studio
{
	my ($node, $database) = @_;
	local $GoyaNode::DATABASE = $database if defined $database;

	$node->sql(<<'SQL');
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'studio') THEN CREATE ROLE studio LOGIN; END IF;
END $$;
GRANT goya_user TO studio;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO studio;
CREATE TABLE app.effects (task uuid, node text, item integer, at timestamptz DEFAULT clock_timestamp());
GRANT SELECT, INSERT ON app.effects TO studio;
-- Leaves a row that a second run would repeat.
CREATE FUNCTION app.effect(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO app.effects (task, node, item) VALUES ((input ->> 'task')::uuid, input ->> 'node', (input ->> 'item')::integer) RETURNING input;
$$;
CREATE FUNCTION app.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION app.slow(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(pg_sleep((input ->> 'seconds')::float8)::text) $$;
CREATE FUNCTION app.boom(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'boom'; END $$;
-- An effect that does not stay, and a failure.
CREATE FUNCTION app.effect_boom(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM app.effect(input);
    RAISE EXCEPTION 'boom after an effect';
END $$;
SQL
	return;
}

# create_workflow(NODE, NAME, DEFINITION): published, as studio; dies with every problem.
sub create_workflow
{
	my ($node, $name, $definition, %options) = @_;

	return $node->sql(sprintf('SELECT goya.create_workflow(%s, %s, publish => true)', quote($name), quote(json($definition))),
		role => $options{role} // 'studio');
}

# run_task(NODE, NAME, INPUT, ARGUMENTS): starts a task as studio, returns its id.
sub run_task
{
	my ($node, $name, $input, $arguments) = @_;

	return $node->sql(sprintf('SELECT goya.run(%s, %s%s)', quote($name), quote(json($input // {})), $arguments ? ", $arguments" : ''), role => 'studio');
}

# ended(NODE, ID, STATUS, SECONDS, NAME): one assertion, that the task ends so in time.
sub ended
{
	my ($node, $id, $status, $seconds, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $seen = $node->sql("SELECT status, error FROM goya.wait_for_task('$id', '$seconds s')");
	my ($got) = split /\|/, $seen;

	diag("task $id: $seen\n" . $node->sql("SELECT * FROM goya.diagnose('$id')")) if $got ne $status;
	return is($got, $status, $name);
}

# is_sound(NODE, NAME): one assertion, that goya.check() finds nothing.
sub is_sound
{
	my ($node, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return is($node->sql('SELECT * FROM goya.check() LIMIT 20'), '', $name // 'goya.check() is empty');
}

# worker_pid(NODE, 'engine'|'executor'|'launcher'): their pids.
sub worker_pid
{
	my ($node, $what, $database) = @_;
	my $where = $what eq 'launcher' ? '' : sprintf " AND datname = '%s'", $database // $GoyaNode::DATABASE;

	return split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'goya $what'$where ORDER BY 1");
}

sub log_size { return -s $_[0]->logfile; }

# log_since(NODE, OFFSET): what the server has written since.
sub log_since
{
	my ($node, $offset) = @_;

	open my $log, '<', $node->logfile or die $!;
	seek $log, $offset // 0, 0;
	local $/;
	return scalar <$log> // '';
}

# until_true(CODE, SECONDS): polls; the seconds it took, or undef.
sub until_true
{
	my ($code, $seconds) = @_;
	my $start = time;

	until ($code->())
	{
		return if time - $start > $seconds;
		sleep 0.02;
	}
	return time - $start;
}

my @servers;

# http_server(): starts the faulty HTTP server; its address as http://127.0.0.1:N.
sub http_server { return script_server('faulty_http.py'); }

# script_server(NAME): starts one of test/servers that prints its port; its address.
sub script_server
{
	my ($name) = @_;
	my $pid = IPC::Open2::open2(my $out, my $in, 'setpriv', '--pdeathsig', 'TERM', '--', 'python3', "$FindBin::Bin/../servers/$name");
	my $port = <$out>;

	BAIL_OUT("$name did not start") unless defined $port && $port =~ /^\d+$/;
	chomp $port;
	push @servers, { pid => $pid, in => $in, out => $out };
	return "http://127.0.0.1:$port";
}

# put_script(ADDRESS, NAME, TURNS): what the model NAME of scripted_agent.py says.
sub put_script
{
	my ($address, $name, $turns) = @_;

	HTTP::Tiny->new(timeout => 10)->put("$address/script/$name", { content => json($turns) })->{success} or BAIL_OUT("$address takes no script");
	return;
}

# http_log(ADDRESS): the requests it got, oldest first.
sub http_log
{
	my ($address) = @_;
	my $answer = HTTP::Tiny->new(timeout => 10)->get("$address/_log");

	BAIL_OUT("the HTTP server does not answer: $answer->{status}") unless $answer->{success};
	return @{ JSON::PP::decode_json($answer->{content}) };
}

# release(ADDRESS, MS): from now on calls that ask for a delay of so many ms, 10,000 or more, are answered at once, those under way too.
sub release
{
	my ($address, $ms) = @_;

	HTTP::Tiny->new(timeout => 10)->get("$address/_release?of=$ms")->{success} or BAIL_OUT("$address releases nothing");
	return;
}

END
{
	my $status = $?;
	foreach my $server (@servers)
	{
		close $server->{in};
		kill 'TERM', $server->{pid};
		waitpid $server->{pid}, 0;
	}
	$? = $status;
}

1;
