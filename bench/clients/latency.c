/*-------------------------------------------------------------------------
 * latency.c
 *		The client of W3 and W4: starts one task after the other on an idle system and waits for each result.
 *
 *		latency WORKFLOW INPUT COUNT
 *
 * Decided: one connection, prepared statements, role bench, goya.wait_for_task: what an application would do.  The clock starts when the
 * client has the answer of goya.run, which is its commit, and stops when it has the row of the finished task.
 * Must hold: prints a line per task, milliseconds from the commit and milliseconds from the call; exits 1 unless every task succeeded.
 *-------------------------------------------------------------------------
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static PGresult *
must(PGconn *conn, PGresult *r)
{
	ExecStatusType status = PQresultStatus(r);

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
	{
		fprintf(stderr, "latency: %s", PQerrorMessage(conn));
		exit(1);
	}
	return r;
}

int
main(int argc, char **argv)
{
	PGconn	   *conn = PQconnectdb("");
	const char *run[2];

	if (argc != 4)
		return fprintf(stderr, "usage: latency WORKFLOW INPUT COUNT\n"), 2;
	if (PQstatus(conn) != CONNECTION_OK)
		return fprintf(stderr, "latency: %s", PQerrorMessage(conn)), 1;
	PQclear(must(conn, PQexec(conn, "SET ROLE bench")));
	PQclear(must(conn, PQprepare(conn, "run", "SELECT goya.run($1, $2::jsonb)", 0, NULL)));
	PQclear(must(conn, PQprepare(conn, "wait", "SELECT status FROM goya.wait_for_task($1::uuid, '60 s')", 0, NULL)));
	run[0] = argv[1];
	run[1] = argv[2];
	for (long i = atol(argv[3]); i > 0; i--)
	{
		double		called = now_ms(),
					committed;
		PGresult   *task = must(conn, PQexecPrepared(conn, "run", 2, run, NULL, NULL, 0));
		const char *id = PQgetvalue(task, 0, 0);
		PGresult   *end;

		committed = now_ms();
		end = must(conn, PQexecPrepared(conn, "wait", 1, &id, NULL, NULL, 0));
		printf("%.3f %.3f\n", now_ms() - committed, now_ms() - called);
		if (PQntuples(end) != 1 || strcmp(PQgetvalue(end, 0, 0), "succeeded") != 0)
			return fprintf(stderr, "latency: task %s did not succeed\n", id), 1;
		PQclear(end);
		PQclear(task);
	}
	PQfinish(conn);
	return 0;
}
