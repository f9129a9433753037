# Makefile: builds goya with PGXS, and is the way into everything else (make help).
#
# Decided: two kinds of goals. The ones below under OURS work on a machine with nothing but git, make and root or sudo: they install
# packages, build, and use a private copy of PostgreSQL under build/. All others (all, install, installcheck, clean) are PGXS's as in
# any extension, and need PostgreSQL's server headers already.
# Must hold: `make`, with nothing installed, says what to do instead of failing inside a missing include.

EXTENSION = goya
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" goya.control)
OURS = help check ack chaos soak mutants demo demo-psql bench bench-full lint format reference trial packages distclean

ifneq ($(filter $(OURS),$(MAKECMDGOALS)),)

.PHONY: $(OURS)

help:
	@echo 'make demo [VIDEO=file]   the main job, end to end, on a private server'
	@echo '          [MODE=cli]     the same with programs that goya runs, instead of a service'
	@echo 'make demo-psql           psql on the server of the last demo'
	@echo 'make check [SUITES=…]    every test, on throwaway servers (SUITES: regress pgtap isolation tap schema postgrest)'
	@echo '           [TESTS=glob]  of those suites only the files that match, as TESTS="02*"'
	@echo 'make ack                 the quick check: regression tests only'
	@echo 'make chaos [PARTS=…]     kills at every moment: 200 processes over 100,000 tasks, each crash point: half an hour'
	@echo 'make soak [PARTS=…]      random models, fuzzing, sanitizers, millions of tasks: an hour'
	@echo 'make mutants             breaks goya on purpose: every mutant must be found by a test'
	@echo 'make bench               measures goya, the limit and other engines: 10 minutes'
	@echo 'make bench-full          the same at full length, and docs/performance.md: an hour or more'
	@echo 'make lint, make format   warnings as errors with gcc and clang, exported symbols; clang-format'
	@echo 'make reference           docs/reference.md from the comments in the catalog'
	@echo 'make trial               demo and check on a fresh Debian 12 in a chroot (as root)'
	@echo 'make, make install, make installcheck PG_CONFIG=…   as any PostgreSQL extension'

# Each script prints what it does and leaves no process behind; see its header.
check:
	@ci/install-packages check
	@test/run $(SUITES)

# Long campaigns: each prints its seed, and repeats it when GOYA_SEED says so.
chaos:
	@ci/install-packages check
	@test/chaos/run $(PARTS)

soak:
	@ci/install-packages soak
	@test/soak/run $(PARTS)

mutants:
	@ci/install-packages check
	@test/mutants

ack:
	@ci/install-packages check
	@test/run regress

demo:
	@ci/install-packages demo
	@GOYA_DEMO_MODE='$(MODE)' test/demo/run $(if $(VIDEO),'$(VIDEO)')

demo-psql:
	@test/demo/run --psql

bench:
	@ci/install-packages bench
	@bench/run short $(WORKLOADS)

bench-full:
	@ci/install-packages bench
	@bench/run full $(WORKLOADS)

lint:
	@ci/install-packages lint
	@ci/lint

format:
	@ci/install-packages lint
	@clang-format-14 -i src/*.c src/*.h

reference:
	@ci/install-packages demo
	@ci/reference

trial:
	@ci/try-chroot

packages:
	@ci/install-packages check

distclean:
	rm -rf build
	rm -f src/*.o src/*.bc goya.so goya-guard goya--$(EXTVERSION).sql

# Goals of both kinds in one command: the others get a make of their own.
ifneq ($(filter-out $(OURS),$(MAKECMDGOALS)),)
.PHONY: $(filter-out $(OURS),$(MAKECMDGOALS))
$(filter-out $(OURS),$(MAKECMDGOALS)):
	@$(MAKE) --no-print-directory $@
endif

else

MODULE_big = goya
SOURCES := $(sort $(wildcard src/*.c))
OBJS = $(SOURCES:.c=.o)
MODULES_SQL := $(sort $(wildcard sql/*.sql))
DATA = $(wildcard sql/upgrades/goya--*--*.sql)
DATA_built = goya--$(EXTVERSION).sql
PGFILEDESC = "goya - AI and media workflows inside PostgreSQL"

PG_CPPFLAGS = -I$(libpq_srcdir)
# Not said: unused parameters, since callbacks and PG_FUNCTION_ARGS have the parameters that PostgreSQL, curl and libpq give them; int compared with a
# size_t, since PostgreSQL counts in int and its lengthof is a size_t (its own headers have both); fields that an initializer leaves out (clang), since
# they are to be zero.
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers
SHLIB_LINK = -lcurl -ljansson -lcrypto $(libpq)
# The test build: processes can be made to fail at named points (src/crash_point.h).
ifneq ($(filter 1,$(CRASH_POINTS)),)
PG_CPPFLAGS += -DGOYA_CRASH_POINTS
endif
# Warnings stop the build where nobody would read them.
ifneq ($(filter true 1,$(CI) $(WERROR)),)
PG_CFLAGS += -Werror
endif

# Bitcode serves the JIT to inline our functions into queries: of no use here, and it doubles the time of a build.
override with_llvm = no

# Inputs are in test/, results in expected/ (test/expected links there). The server must preload goya; the tests also want pg_cron.
REGRESS = $(sort $(patsubst test/sql/%.sql,%,$(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=goya

EXTRA_CLEAN = goya-guard results output_iso regression.diffs regression.out tmp_check

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

ifneq ($(wildcard $(PGXS)),)
include $(PGXS)

# What runs programs of cli nodes: a program of its own, beside the library.
GUARD_CFLAGS = -O2 -g -Wall -Wextra -D_GNU_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
all: goya-guard
goya-guard: src/guard/guard.c Makefile
	$(CC) $(GUARD_CFLAGS) $(if $(filter true 1,$(CI) $(WERROR)),-Werror) -o $@ $<
install: install-guard
.PHONY: install-guard uninstall-guard
install-guard: goya-guard
	$(MKDIR_P) '$(DESTDIR)$(pkglibdir)'
	$(INSTALL_PROGRAM) goya-guard '$(DESTDIR)$(pkglibdir)/goya-guard'
uninstall: uninstall-guard
uninstall-guard:
	rm -f '$(DESTDIR)$(pkglibdir)/goya-guard'

# PGXS follows no #include: a changed header rebuilds everything, which takes seconds.
$(OBJS): $(wildcard src/*.h) Makefile

# The modules in reading order are one script. psql stops at the first line; CREATE EXTENSION takes it as a comment.
goya--$(EXTVERSION).sql: $(MODULES_SQL) Makefile goya.control
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION goya" to load this file. \quit'; \
	   for module in $(MODULES_SQL); do printf '\n-- ---- %s ----\n\n' "$$module"; cat "$$module"; done; } >$@.part
	@mv $@.part $@
else

.PHONY: all install installcheck uninstall clean
all install installcheck uninstall:
	@echo 'goya: the server headers of PostgreSQL were not found by PG_CONFIG=$(PG_CONFIG).' >&2
	@echo 'Debian: `make packages` installs them; elsewhere name the pg_config of your server.' >&2
	@exit 1
clean:
	rm -f src/*.o src/*.bc goya.so goya-guard goya--$(EXTVERSION).sql
endif

endif
