# 026_billing.pl: 16 sessions, 20,000 random operations on one wallet through everything that moves money (B1, B2); and what cannot be done to the books by
# anybody (B4). The long form is test/soak/billing.
#
# Decided: the operations and the audit are in test/lib/billing_storm.sql, and goya.check() is asked while they run and afterwards. SEED repeats a run.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaWork;
use IPC::Run ();
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time);

my ($CLIENTS, $EACH) = (16, 1250);
my $seed = $ENV{SEED} // int(rand(1_000_000_000));
note("SEED=$seed");

my $node = GoyaNode->start(name => 'billing', conf => $GoyaWork::CONF);
$node->sql(PostgreSQL::Test::Utils::slurp_file("$FindBin::Bin/../lib/billing_storm.sql"));

# ---- the storm ----

my $script = PostgreSQL::Test::Utils::tempdir() . '/attempt.sql';
PostgreSQL::Test::Utils::append_to_file($script, "\\set n :n + 1\nSELECT storm.attempt(:seed, :client_id, :n);\n");
my $out = '';
my $began = time;
my $bench = IPC::Run::start(['pgbench', '-n', '-h', $node->host, '-p', $node->port, '-U', 'postgres', '-c', $CLIENTS, '-j', 2, '-t', $EACH, '-D', "seed=$seed",
	'-D', 'n=0', '-f', $script, $GoyaNode::DATABASE], '<', \undef, '>', \$out, '2>&1', IPC::Run::timeout(180));
my ($asked, $wrong) = (0, '');
while ($bench->pumpable && $wrong eq '')
{
	$wrong = $node->sql('SELECT * FROM goya.check() LIMIT 5');
	$asked++;
	$bench->pump_nb;
}
ok($bench->finish, 'every session got an answer to each attempt') or diag($out);
my $seconds = time - $began;
is($wrong, '', "goya.check() finds nothing meanwhile, asked $asked times");

my ($done, $money, $reference, $other) = split /\|/,
	$node->sql('SELECT d.last_value, m.last_value, r.last_value, o.last_value FROM storm.done d, storm.refused_money m, storm.refused_reference r, storm.refused_other o');
note(sprintf('%d attempts in %.1f s (%.0f/s): %d done, refused: %d no money, %d reference, %d other', $CLIENTS * $EACH, $seconds, $CLIENTS * $EACH / $seconds, $done, $money,
	$reference, $other));
is($done + $money + $reference + $other, $CLIENTS * $EACH, 'each was done or refused');
cmp_ok($done, '>', $CLIENTS * $EACH / 4, 'many were done');
cmp_ok($_->[1], '>', 50, "some were refused: $_->[0]") foreach (['no money', $money], ['the reference', $reference], ['the state', $other]);
cmp_ok($node->sql('SELECT count(*) - count(DISTINCT reference) FROM storm.told'), '>', 100, 'many references were used again');
$node->reached("SELECT count(*) FROM goya.tasks WHERE finished_at IS NULL", '0', 60, 'all tasks have ended');
is($node->sql("SELECT count(*) FROM goya.holds WHERE task_id IS NOT NULL AND status = 'open'"), '0', 'and no hold of theirs is open');
is($node->sql('SELECT * FROM storm.audit() LIMIT 10'), '', 'the audit finds nothing: never below zero, each hold its captures and release, each reference one effect');
is_sound($node);

# ---- nobody rewrites the books ----

# Superusers can, by ALTER TABLE … DISABLE TRIGGER or session_replication_role; that is PostgreSQL's own power and leaves a trace in goya.check().
$node->sql('CREATE ROLE storm_admin LOGIN; GRANT goya_admin TO storm_admin; CREATE ROLE storm_reader LOGIN; GRANT goya_reader TO storm_reader; GRANT ALL ON ALL TABLES IN SCHEMA goya TO storm_admin');
$node->sql(<<'SQL');
CREATE FUNCTION storm.refusal(role_name name, deed text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role_name, true);
    EXECUTE deed;
    RETURN 'was done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SQL
my $books = q{SELECT md5(string_agg(x::text, '' ORDER BY x::text)) FROM (SELECT w::text FROM goya.wallet_entries w UNION ALL SELECT u::text FROM goya.usage_records u
	UNION ALL SELECT p::text FROM goya.prices p) x};
my $before = $node->sql($books);
my @answers = split /\n/, $node->sql(<<'SQL');
SELECT storm.refusal(r, format(d, t)), r, format(d, t)
FROM unnest('{wallet_entries,usage_records,prices}'::text[]) t, unnest('{goya_owner,goya_admin,goya_user,goya_reader,storm_user,storm_admin,storm_reader,postgres}'::name[]) r,
     unnest(ARRAY['UPDATE goya.%I SET created_at = now()', 'UPDATE goya.%I SET created_at = now() WHERE false', 'DELETE FROM goya.%I', 'TRUNCATE goya.%I', 'TRUNCATE goya.%I CASCADE',
                  'MERGE INTO goya.%I x USING goya.wallets w ON false WHEN MATCHED THEN DELETE', 'WITH d AS (DELETE FROM goya.%I RETURNING 1) SELECT count(*) FROM d']) d
SQL
is(scalar @answers, 3 * 8 * 7, 'every role tries every way to change the books');
foreach (@answers)
{
	my ($state, $role, $deed) = split /\|/;
	is($state, '42501', "$role: $deed");
}
is($node->sql($books), $before, 'the books are as they were');
foreach my $role (qw(goya_admin goya_user goya_reader storm_user))
{
	foreach my $deed ('ALTER TABLE goya.wallet_entries DISABLE TRIGGER ALL', 'DROP TRIGGER refuse_change ON goya.wallet_entries', 'SET session_replication_role = replica',
		"INSERT INTO goya.wallet_entries (wallet_id, seq, tenant_id, kind, amount, balance_after, frozen_after, reference) SELECT id, 0, tenant_id, 'grant', 1, 1, 1, 'x' FROM goya.wallets",
		'UPDATE goya.wallets SET balance = balance + 1', "UPDATE goya.holds SET status = 'settled'")
	{
		$node->refused($deed, '42501', "$role: $deed", role => $role);
	}
}
is_sound($node, 'goya.check() is empty at the end');
done_testing();
