# GoyaNode.pm: a PostgreSQL::Test::Cluster node with goya in it, for test/tap/*.pl.
#
#   use GoyaNode;
#   use Test::More;
#   my $node = GoyaNode->start(name => 'main', conf => "goya.max_executors = 2\n");
#   is($node->sql('SELECT 1'), 1, 'it answers');
#   $node->wait_until("SELECT status FROM goya.tasks WHERE id = '$id'", 'succeeded', 30);
#
# Decided: database `goya`, superuser `postgres` (whoever runs the test), goya and pg_cron preloaded and created, no TCP port. Everything of
# PostgreSQL::Test::Cluster works on it (stop('immediate'), restart, kill9, background_psql, logfile, …). A new cluster is a copy of
# $GOYA_TEMPLATE where test/run gives one, else an initdb of its own, so that `prove` by hand works with goya's PostgreSQL first in PATH,
# PERL5LIB with test/lib and pgxs/src/test/perl, and PG_REGRESS.
# Must hold: tests wait for states with a deadline (wait_until), never for a time.
package GoyaNode;

use strict;
use warnings;

use parent 'PostgreSQL::Test::Cluster';

use Cwd ();
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(sleep time);

our $DATABASE = 'goya';

# Cluster.pm clears the connection variables when it is loaded; this one has to stand, since the tests may run as any user.
$ENV{PGUSER} = 'postgres';

# GoyaNode->start(name, conf, preload, cron_database, extension) makes, starts and fills a node:
#   name       => 'main'           the node's name
#   conf       => "a = b\n…"       further settings
#   preload    => 'pg_cron,goya'   shared_preload_libraries; '' for none
#   extension  => 1                0: no CREATE EXTENSION goya
#   streaming  => 0                1: room for a standby (wal_level replica)
#   fsync      => 0                1: fsync on, for tests of durability
# On a node, $node->start is Cluster's own.
sub start
{
	my ($self, %options) = @_;

	return $self->SUPER::start(%options) if ref $self;

	my $node = $self->new($options{name} // 'main');
	$node->init_from_template(%options);
	$node->SUPER::start();
	$node->create_extensions(%options) if $options{extension} // 1;
	return $node;
}

# The data directory: a copy of the template or an initdb, and the settings.
sub init_from_template
{
	my ($self, %options) = @_;
	my $data = $self->data_dir;
	my $template = $ENV{GOYA_TEMPLATE};
	my $preload = $options{preload} // 'pg_cron,goya';

	mkdir $self->backup_dir;
	mkdir $self->archive_dir;
	if ($template)
	{
		PostgreSQL::Test::Utils::system_or_bail('cp', '-a', $template, $data);
	}
	else
	{
		PostgreSQL::Test::Utils::system_or_bail('initdb', '-D', $data, '-U', 'postgres', '-A', 'trust', '-N',
			'--encoding=UTF8', '--locale=C.UTF-8', '--no-instructions');
	}

	$self->append_conf('postgresql.conf', sprintf(<<'CONF', $self->port, $self->host));

# GoyaNode.pm
port = %s
unix_socket_directories = '%s'
listen_addresses = ''
timezone = 'UTC'
lc_messages = 'C'
restart_after_crash = on
log_line_prefix = '%%m [%%p] %%b %%q%%u@%%d %%a '
max_worker_processes = 32
max_connections = 60
CONF
	$self->append_conf('postgresql.conf', 'fsync = ' . ($options{fsync} ? "on\n" : "off\n"));
	$self->append_conf('postgresql.conf', $options{streaming}
		? "wal_level = replica\nmax_wal_senders = 10\nmax_replication_slots = 10\nhot_standby = on\n"
		: "wal_level = minimal\nmax_wal_senders = 0\n");
	$self->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\n") if $preload ne '';
	if ($preload =~ /pg_cron/)
	{
		$self->append_conf('postgresql.conf', "cron.database_name = '$DATABASE'\ncron.use_background_workers = on\n");
	}
	$self->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	return;
}

sub create_extensions
{
	my ($self, %options) = @_;

	if (!$ENV{GOYA_TEMPLATE})
	{
		$self->safe_psql('postgres', "CREATE DATABASE $DATABASE");
	}
	if (($options{preload} // 'pg_cron,goya') =~ /pg_cron/)
	{
		$self->safe_psql($DATABASE, 'CREATE EXTENSION IF NOT EXISTS pg_cron');
	}
	$self->safe_psql($DATABASE, 'CREATE EXTENSION goya');
	return;
}

# crash: kill -9 of the postmaster, and waits until no process of the cluster is left, so that start finds neither a pid file in use nor a
# shared memory block. Follow with $node->start.
sub crash
{
	my ($self) = @_;
	my $data = Cwd::realpath($self->data_dir);
	my $deadline = time + 30;

	$self->kill9;
	while (grep { (readlink("$_/cwd") // '') eq $data } glob '/proc/[0-9]*')
	{
		BAIL_OUT('processes of a killed cluster are still there after 30 s') if time > $deadline;
		sleep 0.02;
	}
	# The dead postmaster may stay a zombie until init looks, and PostgreSQL would take that for a running server.
	unlink $self->data_dir . '/postmaster.pid', $self->host . '/.s.PGSQL.' . $self->port . '.lock';
	return;
}

# sql(STATEMENTS): runs them in one session of the database and returns what they print, unaligned; dies with the server's message.
# With (role => NAME) as that role.
sub sql
{
	my ($self, $statements, %options) = @_;

	return $self->safe_psql($DATABASE, as_role($statements, %options));
}

# try_sql(STATEMENTS): (true when it went well, output, error text with SQLSTATE, detail and hint).
sub try_sql
{
	my ($self, $statements, %options) = @_;
	my ($out, $err);

	my $status = eval {
		$self->psql($DATABASE, "\\set VERBOSITY verbose\n" . as_role($statements, %options), stdout => \$out, stderr => \$err, on_error_stop => 1);
	};
	return ('', $out, $@) if !defined $status;	# psql was gone before it was asked
	return ($status == 0, $out, $err);
}

sub as_role
{
	my ($statements, %options) = @_;

	return $statements unless defined $options{role};
	return "SET ROLE \"$options{role}\";\n$statements";
}

# refused(STATEMENTS, SQLSTATE, NAME): one assertion, that the server refuses them with that SQLSTATE.
sub refused
{
	my ($self, $statements, $sqlstate, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($done, $out, $err) = $self->try_sql($statements, %options);

	return fail("$name: was not refused") if $done;
	return like($err, qr/ERROR:\s+\Q$sqlstate\E:/, $name);
}

# wait_until(QUERY, EXPECTED, TIMEOUT, role => …): asks every 20 ms until the query answers EXPECTED (default 't'); returns the seconds it
# took, or undef after TIMEOUT (default 60) with what was seen last as a diagnostic.
sub wait_until
{
	my ($self, $query, $expected, $timeout, %options) = @_;
	my $start = time;
	my $seen;

	$expected //= 't';
	$timeout //= 60;
	while (1)
	{
		# A server that is being restarted refuses for a moment, and psql may be gone before it was asked: reasons to ask again.
		my ($status, $out, $err) = eval { $self->psql($DATABASE, as_role($query, %options)) };
		($status, $err) = (2, $@) if !defined $status;
		return time - $start if defined $out && $status == 0 && $out eq $expected;
		$seen = $status == 0 ? $out : $err;
		last if time - $start > $timeout;
		sleep 0.02;
	}
	diag("after $timeout s: expected \"$expected\", got \"" . ($seen // '') . "\" from: $query");
	return;
}

# reached(QUERY, EXPECTED, TIMEOUT, NAME): wait_until as an assertion.
sub reached
{
	my ($self, $query, $expected, $timeout, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return ok(defined $self->wait_until($query, $expected, $timeout, %options), $name);
}

# create_user(NAME, in => 'goya_user'): a role that may log in, member of the roles named (one or several).
sub create_user
{
	my ($self, $name, %options) = @_;
	my $in = $options{in} // 'goya_user';

	$self->sql(join ";\n", "CREATE ROLE \"$name\" LOGIN", map { "GRANT $_ TO \"$name\"" } ref $in ? @$in : $in);
	return;
}

# session(role => NAME): a psql that stays connected (BackgroundPsql: query, query_safe, query_until, quit).
sub session
{
	my ($self, %options) = @_;
	my $session = $self->background_psql($DATABASE, on_error_stop => 0);

	$session->query_safe("SET ROLE \"$options{role}\"") if defined $options{role};
	return $session;
}

1;
