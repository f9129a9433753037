/*-------------------------------------------------------------------------
 * usage.c
 *		Metering: what the priced node runs of a batch used becomes usage rows and captures from their tasks' holds, set-based, in the
 *		transaction that writes the runs and under the locks of the batch's tasks.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "batch.h"

/* Capture the cost of the batch's priced records, not yet written, and note it in them. */
void
goya_usage_write(GoyaBatch *b)
{
	static const Oid columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID, TEXTOID, JSONBOID};
	GoyaRows   *rows = goya_rows_create(6, columns);
	GoyaRecord **priced = palloc(sizeof(GoyaRecord *) * Max(list_length(b->records), 1));
	ListCell   *lc;

	foreach(lc, b->records)
	{
		GoyaRecord *r = lfirst(lc);
		const GoyaNode *n = &r->task->plan->nodes[r->node];

		if (!r->priced)
			continue;
		priced[rows->n] = r;
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &r->task->id);
		goya_rows_text(rows, 1, n->key);
		goya_rows_int4(rows, 2, r->item);
		goya_rows_int2(rows, 3, r->attempt);
		goya_rows_text(rows, 4, n->price_name);
		goya_rows_jsonb(rows, 5, r->quantity);
	}
	if (rows->n == 0)
		return;
	goya_rows_run(GOYA_STMT_RECORD_USAGE, rows);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int			ordinal = goya_result_int4(i, 1);

		if (ordinal < 1 || ordinal > rows->n || goya_result_isnull(i, 2))
			continue;
		priced[ordinal - 1]->has_cost = true;
		priced[ordinal - 1]->cost = goya_result_int8(i, 2);
	}
}
