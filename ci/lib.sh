# ci/lib.sh: what the scripts of ci/, test/ and .ci/ share. Sourced, never run.
#
# Decided: tests and demo install nothing into the system. Each run has a run directory of its own with a private, relocatable copy
# of PostgreSQL, a copy of the tree, its clusters and its logs. As root everything that talks to the server, and the server, runs as
# user postgres (PostgreSQL refuses root); as anyone else it all runs as that user.
# Must hold: the server's user can reach the run directory; two runs at once share nothing; no process outlives the script.

PG_MAJOR=${PG_MAJOR:-15}
PG_SYSTEM=/usr/lib/postgresql/$PG_MAJOR

say() { printf '== %s\n' "$*"; }
die() { printf 'goya: %s\n' "$*" >&2; exit 1; }

# Who runs servers and tests.
if [ "$(id -u)" -eq 0 ]; then
	SERVER_USER=postgres
else
	SERVER_USER=$(id -un)
fi

# as_server COMMAND…: runs it as the server's user. For a command in the background write "${AS_SERVER[@]}" COMMAND… & instead: setpriv
# forks nothing, so $! is the command itself and a signal reaches it. It gets SIGTERM (a postmaster SIGINT: fast shutdown) when its
# parent dies, so that even `kill -9` of a script leaves nothing behind.
if [ "$(id -u)" -eq 0 ]; then
	AS_SERVER=(setpriv --reuid=postgres --regid=postgres --init-groups --pdeathsig TERM --)
	AS_POSTMASTER=(setpriv --reuid=postgres --regid=postgres --init-groups --pdeathsig INT --)
else
	AS_SERVER=(setpriv --pdeathsig TERM --)
	AS_POSTMASTER=(setpriv --pdeathsig INT --)
fi
as_server() { "${AS_SERVER[@]}" "$@"; }

# make_run_dir NAME: sets RUN to a fresh directory build/NAME.XXXXXX that the server's user owns and reaches, and SOCKETS to a short one.
# Where the checkout is closed to that user (/root/goya), the directory is in /tmp and build/NAME.XXXXXX is a link to it. A run
# holds a lock on its directory, and so do its servers; what no living run holds is removed here.
make_run_dir() {
	local name=$1 build=$ROOT/build
	mkdir -p "$build" 2>/dev/null
	[ -w "$build" ] || die "$build cannot be written by $(id -un): was it made by another user (sudo make)? Remove it and try again."
	chmod 755 "$build"
	sweep_runs "$name"
	RUN=$(mktemp -d "$build/$name.XXXXXX")
	chmod 755 "$RUN"
	if ! as_server test -x "$RUN" 2>/dev/null; then
		local link=$RUN
		rmdir "$link"
		RUN=$(mktemp -d "/tmp/goya-$name.XXXXXX")
		chmod 755 "$RUN"
		ln -s "$RUN" "$link"
	fi
	exec 8>"$RUN/.lock"
	flock 8
	# Sockets have a path of 107 bytes at most: they get a short directory of their own.
	SOCKETS=$(mktemp -d /tmp/goya-s.XXXXXX)
	chmod 755 "$SOCKETS"
	ln -s "$SOCKETS" "$RUN/sockets"
	mkdir "$RUN/home" "$RUN/log"
	if [ "$(id -u)" -eq 0 ]; then
		chown -R postgres: "$RUN" "$SOCKETS"
	fi
	export RUN SOCKETS
}

# sweep_runs NAME: removes the directories of runs that are over (kept for their logs, or killed).
sweep_runs() {
	local entry
	for entry in "$ROOT/build/$1".*; do
		[ -e "$entry" ] || { rm -f "$entry"; continue; }
		(
			[ ! -e "$entry/.lock" ] || { exec 8<"$entry/.lock" && flock -n 8; } || exit 0
			remove_run "$entry"
		)
	done
}

# remove_run DIRECTORY: with the socket directory and, for a link, the directory in /tmp behind it.
remove_run() {
	local sockets
	sockets=$(readlink "$1/sockets" 2>/dev/null || true)
	case $sockets in /tmp/goya-s.*) rm -rf "$sockets" ;; esac
	if [ -L "$1" ]; then
		rm -rf "$(readlink "$1")"
	fi
	rm -rf "$1"
}

# build_private_server: goya compiled and installed into a private PostgreSQL of this run; sets PGBIN and PATH.
build_private_server() {
	local pg_config
	pg_config=$("$ROOT/ci/private-postgres" "$RUN/pg")
	PGBIN=${pg_config%/pg_config}
	# One builder at a time in a checkout: object files stand beside their sources.
	(
		flock 9
		make -C "$ROOT" --no-print-directory -s -j"$(nproc)" all PG_CONFIG="$pg_config"
		make -C "$ROOT" --no-print-directory -s install PG_CONFIG="$pg_config"
	) 9>"$ROOT/build/.lock" >"$RUN/log/build.log" 2>&1 || {
		cat "$RUN/log/build.log" >&2
		die "the build failed"
	}
	grep -E 'warning:' "$RUN/log/build.log" || true
	PATH=$PGBIN:$PATH
	export PATH PGBIN
}

# build_crash_server: the test build (make CRASH_POINTS=1, see src/crash_point.h) in a second private PostgreSQL of this run, made of hard links to
# the first; sets GOYA_CRASH_PGBIN. After build_private_server, whose objects it takes: only what mentions a crash point is compiled again.
build_crash_server() {
	local copy=$RUN/crash pg=$RUN/pg-crash pg_config
	pg_config=$pg/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
	(
		set -e
		if grep -l '#include "crash_point.h"' "$ROOT"/src/*.h; then
			echo 'crash_point.h is for .c files only: objects that see it through another header would not be compiled again'
			exit 1
		fi
		mkdir "$copy"
		(
			flock 9
			cp -Rp "$ROOT/src" "$ROOT/sql" "$ROOT/Makefile" "$ROOT/goya.control" "$copy/"
		) 9>"$ROOT/build/.lock"
		grep -lE 'crash_point|CRASH_POINT' "$copy"/src/*.c | sed 's/c$/o/' | xargs rm -f "$copy/src/crash_point.o"
		cp -al "$RUN/pg" "$pg"
		make -C "$copy" --no-print-directory -s -j"$(nproc)" goya.so CRASH_POINTS=1 PG_CONFIG="$pg_config"
		# A new file, so that the first PostgreSQL keeps its own.
		rm "$pg/usr/lib/postgresql/$PG_MAJOR/lib/goya.so"
		cp "$copy/goya.so" "$pg/usr/lib/postgresql/$PG_MAJOR/lib/goya.so"
		rm -rf "$copy"
	) >"$RUN/log/build-crash.log" 2>&1 || {
		cat "$RUN/log/build-crash.log" >&2
		die "the test build failed"
	}
	grep -E 'warning:' "$RUN/log/build-crash.log" || true
	export GOYA_CRASH_PGBIN=${pg_config%/pg_config}
}

# clean_environment: nothing of the caller's reaches servers and tests that could send them elsewhere.
clean_environment() {
	unset http_proxy https_proxy all_proxy ftp_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
	unset PGDATABASE PGHOST PGPORT PGUSER PGPASSWORD PGSERVICE PGOPTIONS PGDATA PGSSLMODE TEMP_CONFIG
	unset LANGUAGE LC_ALL LC_MESSAGES
	# Debian's own programs, not a shim in a home directory that the server's user cannot enter.
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	export LANG=C.UTF-8 TZ=UTC HOME=$RUN/home TMPDIR=/tmp
	export PSQLRC=/dev/null PSQL_HISTORY=/dev/null PAGER=
}

# make_template: one initdb for all clusters of a run, with the database `goya` in it.
make_template() {
	TEMPLATE=$RUN/template
	as_server "$PGBIN/initdb" -D "$TEMPLATE" -U postgres -A trust --encoding=UTF8 --locale=C.UTF-8 --no-instructions -N \
		>"$RUN/log/initdb.log" 2>&1 || { cat "$RUN/log/initdb.log" >&2; die "initdb failed"; }
	echo 'CREATE DATABASE goya;' | as_server "$PGBIN/postgres" --single -D "$TEMPLATE" postgres >>"$RUN/log/initdb.log" 2>&1 \
		|| { cat "$RUN/log/initdb.log" >&2; die "the database goya could not be made"; }
	export TEMPLATE
}

# start_cluster NAME [SETTING…]: a cluster from the template on a socket of its own, goya and pg_cron preloaded. It listens on no
# TCP port, so ports cannot clash. Sets PGHOST, PGPORT, PGUSER, PGDATABASE.
start_cluster() {
	local name=$1 data=$RUN/$1.data
	shift
	[ -d "$data" ] || as_server cp -a "$TEMPLATE" "$data"
	mkdir -p "$SOCKETS/$name"
	if [ "$(id -u)" -eq 0 ]; then
		chown postgres: "$SOCKETS/$name"
	fi
	export PGHOST=$SOCKETS/$name PGPORT=$((20000 + RANDOM % 20000)) PGUSER=postgres PGDATABASE=goya
	as_server tee "$data/postgresql.auto.conf" >/dev/null <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$PGHOST'
		port = $PGPORT
		shared_preload_libraries = 'pg_cron,goya'
		cron.database_name = 'goya'
		cron.use_background_workers = on
		max_worker_processes = 32
		max_connections = 60
		fsync = off
		synchronous_commit = on
		wal_level = minimal
		max_wal_senders = 0
		timezone = 'UTC'
		lc_messages = 'C'
		log_line_prefix = '%m [%p] %b %q%u@%d %a '
		$(printf '%s\n' "$@")
	CONF
	"${AS_POSTMASTER[@]}" "$PGBIN/postgres" -D "$data" >>"$RUN/log/$name.server.log" 2>&1 </dev/null 3>&- &
	SERVER_PID=$!
	local i
	for ((i = 0; i < 600; i++)); do
		"$PGBIN/pg_isready" -q && return 0
		kill -0 "$SERVER_PID" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 30 "$RUN/log/$name.server.log" >&2
	echo "goya: the cluster $name did not start" >&2
	return 1
}

# stop_cluster [fast|immediate]: the cluster that start_cluster started last, and waits for its end.
stop_cluster() {
	[ -n "${SERVER_PID:-}" ] || return 0
	if [ "${1:-fast}" = fast ]; then
		kill -INT "$SERVER_PID" 2>/dev/null || true
	else
		kill -QUIT "$SERVER_PID" 2>/dev/null || true
	fi
	wait "$SERVER_PID" 2>/dev/null || true
	SERVER_PID=
}

# reap_clusters: stops whatever postmaster a killed test left in the run directory; says their data directories.
reap_clusters() {
	local pidfile pid
	while IFS= read -r pidfile; do
		pid=$(head -n 1 "$pidfile" 2>/dev/null) || continue
		[ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(readlink -f "${pidfile%/*}")" ] || continue
		printf '%s\n' "${pidfile%/*}"
		kill -QUIT "$pid" 2>/dev/null || true
	done < <(find "$RUN" -maxdepth 6 -name postmaster.pid 2>/dev/null)
}

# start_janitor: a process that outlives a `kill -9` of this script by a second, and ends the servers that its tests had started
# (pg_ctl makes them daemons, which no death of a parent reaches). stop_janitor when the script ends as it should.
start_janitor() {
	local parent=$$
	(
		trap '' INT HUP
		while kill -0 "$parent" 2>/dev/null; do
			setpriv --pdeathsig KILL -- sleep 1
		done
		reap_clusters
		rm -rf "${SOCKETS:?}"
	) </dev/null >/dev/null 2>&1 3>&- 8>&- &
	JANITOR=$!
}

stop_janitor() {
	[ -n "${JANITOR:-}" ] || return 0
	kill -KILL "$JANITOR" 2>/dev/null || true
	wait "$JANITOR" 2>/dev/null || true
	JANITOR=
}

# copy_tree: the checkout as the server's user can read it, in RUN/tree, with the shared data that tests may use beside it.
copy_tree() {
	mkdir -p "$RUN/tree"
	tar -C "$ROOT" --exclude=./build --exclude=./.git --exclude='*.o' --exclude=./goya.so -cf - . | tar -C "$RUN/tree" --no-same-owner -xf -
	if [ -d "$ROOT/../shared/data" ]; then
		mkdir -p "$RUN/shared"
		cp -RL "$ROOT/../shared/data" "$RUN/shared/"
	fi
	chmod -R a+rX "$RUN/tree" "$RUN/shared" 2>/dev/null || true
}
