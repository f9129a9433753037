/*
 * cppcheck.h: PostgreSQL's macros, as far as cppcheck has to understand them (ci/lint). Never compiled.
 *
 * Decided: cppcheck gets these instead of PostgreSQL's own headers, with which it takes minutes a file. That an error does not return, and
 * that foreach is a loop, is what it needs to follow the code.
 */
#define PG_FUNCTION_INFO_V1(x) extern int x##_info
#define PG_MODULE_MAGIC extern int magic
#define DEBUG1 14
#define LOG 15
#define NOTICE 18
#define WARNING 19
#define ERROR 21
#define FATAL 22
#define PANIC 23
#define ereport(level, ...) ((level) >= ERROR ? abort() : (void) (__VA_ARGS__))
#define elog(level, ...) ((level) >= ERROR ? abort() : (void) printf(__VA_ARGS__))
#define Assert(x) ((void) 0)
#define pg_unreachable() abort()
#define pg_attribute_printf(a, b)
#define pg_attribute_noreturn()
#define FLEXIBLE_ARRAY_MEMBER
#define foreach(cell, list) for (cell = list_first(list); cell != NULL; cell = list_after(list, cell))
#define for_each_from(cell, list, n) for (cell = list_nth(list, n); cell != NULL; cell = list_after(list, cell))
#define dlist_foreach(i, list) for ((i).cur = list_first(list); (i).cur != NULL; (i).cur = list_after(list, (i).cur))
#define dlist_foreach_modify(i, list) for ((i).cur = list_first(list); (i).cur != NULL; (i).cur = list_next_kept(list))
#define PG_TRY() if (try_begin())
#define PG_CATCH() else
#define PG_FINALLY()
#define PG_END_TRY() try_end()
#define PG_RETURN_NULL() return 0
#define PG_RETURN_DATUM(x) return (x)
#define LIBCURL_VERSION_NUM 0x075700
