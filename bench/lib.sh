# bench/lib.sh: what bench/run and the workloads share. Sourced, after ci/lib.sh.
#
# Decided: time is read from the rows that the work leaves (started_at, finished_at; the limit probe's own times), not from a client, except where the
# client is what is measured. Who waits for the work looks five times a second through one session that is kept open.
# Must hold: every figure goes through `result`, into $RESULTS and before the reader's eyes; a task that did not succeed stops the workload.

q() { psql -XAtq -v ON_ERROR_STOP=1 "$@"; }
full() { [ "$FORM" = full ]; }
median() { sort -n | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
percentile() { sort -n | awk -v p="$1" '{v[NR] = $1} END {i = int(NR * p / 100 + 0.5); print v[i < 1 ? 1 : i]}'; }
calc() { awk "BEGIN {printf \"%.${2:-0}f\n\", $1}"; }

# result WORKLOAD ENGINE METRIC VALUE UNIT [NOTE]: a note has no quotes and no backslashes.
result() {
	printf '{"workload":"%s","engine":"%s","metric":"%s","value":%s,"unit":"%s","note":"%s"}\n' "$1" "$2" "$3" "$4" "$5" "${6:-}" >>"$RESULTS"
	printf '  %-16s %-34s %12s %-4s %s\n' "$2" "$3" "$4" "$5" "${6:-}"
}

# ---- Sessions ----

# drained MARK: waits until every task with an id above MARK has ended. Looks from one session, which sleeps in no transaction and so holds no snapshot.
drained() {
	local i reply pid
	coproc LOOK { psql -XAtq 2>&1; }
	pid=$LOOK_PID
	for ((i = 0; i < 9000; i++)); do
		look 'SELECT EXISTS (SELECT FROM goya_private.ready) OR EXISTS (SELECT FROM goya_private.event_queue)'
		if [ "$reply" = f ]; then
			look "SELECT count(*) FROM goya.tasks WHERE id > '$1' AND finished_at IS NULL"
			[ "$reply" != 0 ] || break
		fi
		sleep 0.2
	done
	printf '\\q\n' >&"${LOOK[1]}"
	wait "$pid" 2>/dev/null || true
	[ "$reply" = 0 ] || die "tasks after $1 did not end in half an hour"
}
look() {
	printf '%s;\n' "$1" >&"${LOOK[1]}"
	IFS= read -r -t 300 reply <&"${LOOK[0]}" || die "no answer from the server to: $1"
}

# run_tasks WORKFLOW COUNT [INPUT]: submits them in one transaction, waits, and prints the seconds from the first start to the last end.
run_tasks() {
	local mark
	mark=$(q -c 'SELECT goya.new_id()')
	q -c 'SET ROLE bench' -c "SELECT count(goya.run('$1', '${3:-{\"x\": 1\}}')) FROM generate_series(1, $2)" >/dev/null
	drained "$mark"
	task_seconds "$mark" "$2"
}
# task_seconds MARK COUNT: of the tasks above MARK, which must be COUNT and have succeeded.
task_seconds() {
	local ended
	IFS=' ' read -r ended REPLY < <(q -F ' ' -c "SELECT count(*) FILTER (WHERE status = 'succeeded'), extract(epoch FROM max(finished_at) - min(started_at))
		FROM goya.tasks WHERE id > '$1'")
	[ "$ended" = "$2" ] || die "$ended of $2 tasks succeeded"
	echo "$REPLY"
}
# step_rate WORKFLOW COUNT STEPS: steps per second.
step_rate() {
	local seconds
	seconds=$(run_tasks "$1" "$2")
	calc "$2 * $3 / $seconds"
}

# executors N: from now on N of them, fresh ones.
executors() {
	q -c "ALTER SYSTEM SET goya.max_executors = $1" -c 'SELECT pg_reload_conf()' >/dev/null
	fresh_executors
}
# fresh_executors: ends those that run; the next work starts others, whose plans are not made yet.
fresh_executors() {
	q -c "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'goya executor'" >/dev/null
}

# new_database NAME [FILE…]: with goya and what the workloads use; its engine works when this returns.
new_database() {
	local name=$1
	shift
	q -c "CREATE DATABASE $name TEMPLATE template0"
	prepare_database "$name" "$@"
}
prepare_database() {
	local name=$1
	shift
	PGDATABASE=$name q -c 'SET client_min_messages = warning' -c 'CREATE EXTENSION IF NOT EXISTS goya'
	PGDATABASE=$name q -f "$BENCH/setup.sql" "${@/#/-f}" >/dev/null
	PGDATABASE=$name run_tasks chain 10 >/dev/null
}
drop_database() { q -c "DROP DATABASE $1 WITH (FORCE)"; }

# ---- The limit probe ----

# limit_rate narrow|same TASKS NODES BATCH PROCESSES: steps per second.
limit_rate() {
	local form=$1 tasks=$2 nodes=$3 batch=$4 processes=$5 i pids=() part keys
	keys=$(seq -f 'n%g' -s , 1 "$nodes")
	part=$(((tasks + processes - 1) / processes))
	q -c "CALL app.limit_submit('$form', $tasks)"
	q -c "ANALYZE app.limit_ids, app.${form}_tasks, app.${form}_runs"
	for ((i = 0; i < processes; i++)); do
		q -c "CALL app.limit_$form($((i * part + 1)), $(((i + 1) * part < tasks ? (i + 1) * part : tasks)), $batch, '{$keys}')" &
		pids+=($!)
	done
	wait "${pids[@]}"
	q -c "SELECT round($tasks * $nodes / extract(epoch FROM max(ended) - min(began))) FROM app.limit_times"
	[ "$(q -c "SELECT count(*) FROM app.${form}_runs")" = $((tasks * nodes)) ] || die 'the limit probe did not do all of its work'
}

# best_batch FORM TASKS NODES PROCESSES: the batch size with the highest rate.
best_batch() {
	local batch
	for batch in 100 200 500 1000 2000; do
		printf '%s %s\n' "$(limit_rate "$1" "$2" "$3" "$batch" "$4")" "$batch"
	done | sort -n | tail -n 1 | cut -d' ' -f2
}

# ---- Programs beside the server ----

# client NAME: compiles bench/clients/NAME.c once; prints the program's path.
client() {
	local library=-lcurl flags=()
	if [ "$1" = latency ]; then
		library=-lpq
		flags=("-I$(pg_config --includedir 2>/dev/null || "$PGBIN/pg_config" --includedir)")
	fi
	[ -x "$RUN/$1" ] || gcc -O2 -Wall -Wextra "${flags[@]}" -o "$RUN/$1" "$BENCH/clients/$1.c" "$library" >&2
	echo "$RUN/$1"
}

# start_nginx: the HTTP service; sets HTTP_PORT. It ends with the script, or by stop_nginx.
start_nginx() {
	local directory=$RUN/nginx i try
	mkdir -p "$directory"
	if [ "$(id -u)" -eq 0 ]; then
		chown postgres: "$directory"
	fi
	for ((try = 0; try < 5; try++)); do
		HTTP_PORT=$((20000 + RANDOM % 12000))
		sed "s,@DIRECTORY@,$directory,g; s,@PORT@,$HTTP_PORT,g" "$BENCH/servers/nginx.conf" >"$directory/nginx.conf"
		"${AS_SERVER[@]}" nginx -c "$directory/nginx.conf" -p "$directory" -e stderr >>"$RUN/log/nginx.log" 2>&1 </dev/null 3>&- 8>&- &
		NGINX_PID=$!
		for ((i = 0; i < 50; i++)); do
			! curl -sf -o /dev/null "http://127.0.0.1:$HTTP_PORT/slow" || return 0
			kill -0 "$NGINX_PID" 2>/dev/null || break
			sleep 0.1
		done
		stop_nginx
	done
	tail -n 5 "$RUN/log/nginx.log" >&2
	die 'nginx did not start'
}
stop_nginx() {
	[ -n "${NGINX_PID:-}" ] || return 0
	kill "$NGINX_PID" 2>/dev/null || true
	wait "$NGINX_PID" 2>/dev/null || true
	NGINX_PID=
}

# tps CLIENTS SECONDS SCRIPT [OPTION…]: transactions per second of pgbench as role bench; options are settings of its sessions.
tps() {
	local clients=$1 seconds=$2 script=$3 option options='-c role=bench'
	shift 3
	for option; do options+=" -c $option"; done
	PGOPTIONS=$options "$PGBIN/pgbench" -n -M prepared -c "$clients" -T "$seconds" -f "$script" 2>>"$RUN/log/pgbench.log" | sed -n 's/^tps = \([0-9]*\).*/\1/p'
}
