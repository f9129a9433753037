# 021_storm.pl: C1, C2, C3: tasks of every kind from several clients and tenants while processes of the cluster are killed at random moments.
#
# Decided: 2,000 tasks and 10 kills here; `make chaos` sets GOYA_STORM_TASKS and GOYA_STORM_KILLS to 100,000 and 200. What is done and what must be there is
# in test/lib/GoyaScene.pm, GoyaCrowd.pm and GoyaStorm.pm. The seed is printed, and set by GOYA_SEED. fsync is off: a killed process loses nothing that
# the kernel has, so what is tested is goya and the recovery, not the disk.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../lib";
use GoyaNode;
use GoyaScene;
use GoyaStorm;
use GoyaWork;
use Test::More;

my $seed = $ENV{GOYA_SEED} || int(rand 2**31);
my $tasks = $ENV{GOYA_STORM_TASKS} || 2000;
my $kills = $ENV{GOYA_STORM_KILLS} || 10;
note "GOYA_SEED=$seed, $tasks tasks, $kills kills";

# Sessions deadlock with nobody: whoever waits in a circle for a moment is seen.
my $node = GoyaNode->start(name => 'storm', conf => $GoyaScene::CONF . "deadlock_timeout = '100ms'\n");
storm($node, tasks => $tasks, kills => $kills, seed => $seed);
unlike(log_since($node, 0), qr/PANIC:|TRAP:|terminated by signal (?!9:|6: .*startup)/, 'nobody died but of SIGKILL');
unlike(log_since($node, 0), qr/deadlock detected/, 'wallets and tasks are locked in one order by everybody');
$node->stop('fast');
done_testing();
