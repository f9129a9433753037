/*-------------------------------------------------------------------------
 * try_input.h
 *		Calls a type's input function and takes its error as a value.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_TRY_INPUT_H
#define GOYA_TRY_INPUT_H

#include "postgres.h"
#include "fmgr.h"

/*
 * Input is a pure function of text (jsonpath_in, interval_in, timestamptz_in): it takes no locks and changes nothing, so an error needs no
 * subtransaction.  Returns false and sets *error (palloc'd) when the text is refused.  Running out of resources, cancellation and
 * internal errors are thrown as usual.
 */
extern bool goya_try_input(PGFunction input, const char *text, Datum *result, char **error);

/* Interval text ("2s", "500ms", "1 minute") as milliseconds; a month counts 30 days.  False when refused or not finite. */
extern bool goya_try_interval_ms(const char *text, int64 *ms, char **error);

#endif
