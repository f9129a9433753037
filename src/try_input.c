/*-------------------------------------------------------------------------
 * try_input.c
 *		Input functions whose errors are values; see try_input.h.
 *
 * PostgreSQL 16 has soft errors for many types, but not jsonpath's regular expressions; one way that works on 15 to 18 is kept.
 * errfinish() zeroes the interrupt holdoff counts, hence they are put back.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "try_input.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/* What is not the fault of the text. */
static bool
must_be_thrown(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR) ||
		category == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR);
}

/* jsonpath's parser quotes single bytes of a character: nothing to store in a table. */
static void
clean_text(char *text)
{
	if (pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true))
		return;
	for (char *p = text; *p != '\0'; p++)
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
}

bool
goya_try_input(PGFunction input, const char *text, Datum *result, char **error)
{
	MemoryContext caller = CurrentMemoryContext;
	uint32		interrupts = InterruptHoldoffCount;
	uint32		cancels = QueryCancelHoldoffCount;
	volatile bool fine = true;

	PG_TRY();
	{
		*result = DirectFunctionCall3(input, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		if (must_be_thrown(edata->sqlerrcode))
			PG_RE_THROW();
		FlushErrorState();
		InterruptHoldoffCount = interrupts;
		QueryCancelHoldoffCount = cancels;
		*error = edata->detail ? psprintf("%s: %s", edata->message, edata->detail) : pstrdup(edata->message);
		clean_text(*error);
		FreeErrorData(edata);
		fine = false;
	}
	PG_END_TRY();
	return fine;
}

bool
goya_try_interval_ms(const char *text, int64 *ms, char **error)
{
	Datum		datum;
	Interval   *interval;
	double		result;

	if (!goya_try_input(interval_in, text, &datum, error))
		return false;
	interval = DatumGetIntervalP(datum);
	result = interval->time / 1000.0 + ((double) interval->day + interval->month * 30.0) * 86400000.0;
#ifdef INTERVAL_NOT_FINITE
	if (INTERVAL_NOT_FINITE(interval))
		result = 1e300;
#endif
	if (!(result > -9e15 && result < 9e15))
	{
		*error = psprintf("interval is out of range: \"%s\"", text);
		return false;
	}
	*ms = (int64) (result < 0 ? result - 0.5 : result + 0.5);
	return true;
}
