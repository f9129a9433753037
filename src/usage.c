/*-------------------------------------------------------------------------
 * usage.c
 *		Metering: what priced node runs used becomes usage rows, and their cost is due from their tasks' holds, in the transaction that
 *		writes the runs and under the locks of their tasks.
 *
 * Decided: a usage row's key (tenant, task, node, item, attempt, line) is the idempotency reference of its capture: a second charge for
 * one node run is 23505.  A cost is rounded once per row.  A hold that is too small is made larger at once, so that a node that cannot
 * be paid fails where it is written; everything else about holds waits for the end of the batch (escrow.c).
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/int.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "batch.h"
#include "crash_point.h"
#include "json_util.h"
#include "money.h"
#include "table.h"

/* ----- quantities ----- */

static void pg_attribute_noreturn()
refuse_quantity(Jsonb *quantity)
{
	char	   *text = goya_json_to_cstring(quantity);

	text[pg_mbcliplen(text, strlen(text), 200)] = '\0';
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bad quantity of a price"),
			 errdetail("%s is not a number of units, nor an object of such numbers.", text),
			 errhint("Use \"quantity\": 12 or \"quantity\": {\"token_in\": 5, \"token_out\": 7}; none may be negative.")));
}

/* NULL quantity and JSON null: NULL. */
static Numeric
number_of(Jsonb *quantity, const JsonbValue *value)
{
	Numeric		zero = int64_to_numeric(0);

	if (value->type != jbvNumeric ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(value->val.numeric), NumericGetDatum(zero))))
		refuse_quantity(quantity);
	return value->val.numeric;
}

static Numeric
simple_quantity(Jsonb *quantity)
{
	JsonbValue	view;

	if (goya_json_is_null(quantity))
		return NULL;
	goya_json_view(quantity, &view);
	return number_of(quantity, &view);
}

/* ----- lines ----- */

typedef struct Writer
{
	GoyaTable  *usage;
	TimestampTz now;
	Datum		one;			/* as a quantity */
} Writer;

static void
put_line(Writer *w, GoyaUse *u, int line, const char *unit, Numeric quantity, int64 cost)
{
	TupleTableSlot *row;

	if (w->usage == NULL)
		w->usage = goya_table_open(GOYA_TABLE_USAGE);
	row = goya_table_row(w->usage);
	goya_row_set(w->usage, row, GOYA_USAGE_TASK_ID, UUIDPGetDatum(u->task));
	goya_row_set(w->usage, row, GOYA_USAGE_NODE, CStringGetTextDatum(u->node));
	goya_row_set(w->usage, row, GOYA_USAGE_ITEM, Int32GetDatum(u->item));
	goya_row_set(w->usage, row, GOYA_USAGE_ATTEMPT, Int16GetDatum(u->attempt));
	goya_row_set(w->usage, row, GOYA_USAGE_LINE, Int16GetDatum(line));
	goya_row_set(w->usage, row, GOYA_USAGE_TENANT_ID, UUIDPGetDatum(u->tenant));
	goya_row_set(w->usage, row, GOYA_USAGE_PRICE_NAME, CStringGetTextDatum(u->name));
	goya_row_set(w->usage, row, GOYA_USAGE_UNIT, CStringGetTextDatum(unit));
	goya_row_set(w->usage, row, GOYA_USAGE_QUANTITY, quantity ? NumericGetDatum(quantity) : w->one);
	goya_row_set(w->usage, row, GOYA_USAGE_COST, Int64GetDatum(cost));
	goya_row_set(w->usage, row, GOYA_USAGE_CURRENCY, CStringGetTextDatum(u->escrow ? u->escrow->currency : "USD"));
	goya_row_set(w->usage, row, GOYA_USAGE_ESTIMATED, BoolGetDatum(u->estimated));
	if (u->escrow != NULL)
		goya_row_set(w->usage, row, GOYA_USAGE_HOLD_ID, UUIDPGetDatum(&u->escrow->id));
	if (u->trace_id != NULL)
		goya_row_set(w->usage, row, GOYA_USAGE_TRACE_ID, CStringGetTextDatum(u->trace_id));
	if (u->cost_tag != NULL)
		goya_row_set(w->usage, row, GOYA_USAGE_COST_TAG, CStringGetTextDatum(u->cost_tag));
	goya_row_set(w->usage, row, GOYA_USAGE_CREATED_AT, TimestampTzGetDatum(w->now));
	goya_table_append(w->usage);

	if (pg_add_s64_overflow(u->cost, cost, &u->cost) || (u->escrow != NULL && pg_add_s64_overflow(u->escrow->due, cost, &u->escrow->due)))
		ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
}

static const GoyaPrices *
prices_of(const GoyaUse *u)
{
	return u->escrow ? goya_prices_get(u->tenant, u->escrow->currency, u->name, u->escrow->generation) : NULL;
}

/* A quantity counts for every unit that has a price under the name. */
static void
put_all_units(Writer *w, GoyaUse *u)
{
	Numeric		quantity = simple_quantity(u->quantity);
	const GoyaPrices *prices = prices_of(u);
	const GoyaPrice *p;
	int			i = 0;
	int			line = 0;

	while (prices != NULL && (p = goya_prices_next(prices, &i, u->created_at, u->escrow->generation)) != NULL)
		put_line(w, u, ++line, p->unit, quantity, goya_price_cost(quantity, p));
	if (line == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no price is called \"%s\"", u->name),
				 errdetail("Node \"%s\" of task %s has this price; none was in force in the wallet's currency, or the task has no hold.", u->node,
						   goya_uuid_text(u->task)),
				 errhint("Ask an administrator for goya.set_price, and start the task again.")));
}

typedef struct UnitQuantity
{
	char	   *unit;
	Numeric		quantity;
} UnitQuantity;

static int
compare_units(const void *a, const void *b)
{
	return strcmp(((const UnitQuantity *) a)->unit, ((const UnitQuantity *) b)->unit);
}

/* An object gives each unit its own; one that nobody priced is recorded and free. */
static void
put_given_units(Writer *w, GoyaUse *u)
{
	const GoyaPrices *prices = prices_of(u);
	JsonbValue	object;
	UnitQuantity *units;
	int			n;

	goya_json_view(u->quantity, &object);
	n = goya_json_view_length(&object);
	units = palloc(sizeof(UnitQuantity) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		JsonbValue	key;
		JsonbValue	value;

		goya_json_view_pair(&object, i, &key, &value);
		units[i].unit = pnstrdup(key.val.string.val, key.val.string.len);
		units[i].quantity = number_of(u->quantity, &value);
	}
	qsort(units, n, sizeof(UnitQuantity), compare_units);
	for (int i = 0; i < n; i++)
	{
		const GoyaPrice *p = prices ? goya_prices_find(prices, units[i].unit, u->created_at, u->escrow->generation) : NULL;

		put_line(w, u, i + 1, units[i].unit, units[i].quantity, p ? goya_price_cost(units[i].quantity, p) : 0);
	}
}

/* Holds that are too small for what is due, each once; or settled, which goya_escrow_extend refuses. */
static void
extend_escrows(GoyaBatch *b, GoyaUse *uses, int n)
{
	GoyaEscrow **small = palloc(sizeof(GoyaEscrow *) * Max(n, 1));
	int			n_small = 0;

	for (int i = 0; i < n; i++)
	{
		GoyaEscrow *e = uses[i].escrow;

		if (e == NULL || e->listed || e->due == 0 || (e->open && e->due <= e->amount - e->captured))
			continue;
		small[n_small++] = e;
		e->listed = true;
	}
	for (int i = 0; i < n_small; i++)
		small[i]->listed = false;
	if (n_small > 0 && b != NULL)
		goya_flush_lock_wallets(b);
	goya_escrow_extend(small, n_small);
}

void
goya_usage_record(GoyaBatch *b, GoyaUse *uses, int n)
{
	Writer		w = {NULL, GetCurrentTimestamp(), NumericGetDatum(int64_to_numeric(1))};

	for (int i = 0; i < n; i++)
	{
		uses[i].cost = 0;
		if (uses[i].quantity != NULL && goya_json_is_object(uses[i].quantity))
			put_given_units(&w, &uses[i]);
		else
			put_all_units(&w, &uses[i]);
	}
	if (w.usage != NULL)
	{
		goya_table_close(w.usage);
		GOYA_CRASH_POINT(CAPTURE_USAGE);
	}
	extend_escrows(b, uses, n);
}

/* ----- of a batch ----- */

static GoyaEscrow *
need_escrow(GoyaBatch *b, GoyaTask *t)
{
	t->escrow = MemoryContextAllocZero(b->cxt, sizeof(GoyaEscrow));
	t->escrow->id = t->id;
	return t->escrow;
}

static void
load_escrows(List *unloaded)
{
	GoyaEscrow **escrows = palloc(sizeof(GoyaEscrow *) * Max(list_length(unloaded), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, unloaded)
		escrows[n++] = lfirst(lc);
	goya_escrow_load(escrows, n);
}

/* Usage of the batch's priced records, not yet written; their cost is noted in them. */
void
goya_usage_write(GoyaBatch *b)
{
	GoyaUse    *uses = NULL;
	GoyaRecord **priced = NULL;
	List	   *unloaded = NIL;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, b->records)
	{
		GoyaRecord *r = lfirst(lc);

		if (!r->priced)
			continue;
		if (priced == NULL)
			priced = palloc(sizeof(GoyaRecord *) * list_length(b->records));
		priced[n++] = r;
		if (r->task->has_hold && r->task->escrow == NULL)
			unloaded = lappend(unloaded, need_escrow(b, r->task));
	}
	if (n == 0)
		return;
	load_escrows(unloaded);
	uses = palloc(sizeof(GoyaUse) * n);
	for (int i = 0; i < n; i++)
	{
		GoyaRecord *r = priced[i];
		const GoyaNode *node = &r->task->plan->nodes[r->node];
		GoyaEscrow *e = r->task->escrow;

		uses[i] = (GoyaUse) {&r->task->id, &r->task->tenant, r->task->trace_id, r->task->created_at, e != NULL && e->row != NULL ? e : NULL,
		node->key, r->item, r->attempt, node->price_name, r->quantity, r->estimated, node->cost_tag, 0};
	}
	goya_usage_record(b, uses, n);
	for (int i = 0; i < n; i++)
	{
		priced[i]->has_cost = true;
		priced[i]->cost = uses[i].cost;
	}
}

/* Writes the holds of the batch: what was captured, and settlement of tasks that have succeeded. */
void
goya_usage_settle(GoyaBatch *b)
{
	List	   *unloaded = NIL;
	GoyaEscrow **escrows = palloc(sizeof(GoyaEscrow *) * Max(b->n_tasks, 1));
	int			n = 0;

	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->has_hold && t->escrow == NULL && t->end == GOYA_END_SUCCEEDED)
			unloaded = lappend(unloaded, need_escrow(b, t));
	}
	load_escrows(unloaded);
	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->escrow == NULL)
			continue;
		t->escrow->settle = t->end == GOYA_END_SUCCEEDED;
		escrows[n++] = t->escrow;
	}
	goya_escrow_write(escrows, n);
}
