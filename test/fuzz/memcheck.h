/*-------------------------------------------------------------------------
 * memcheck.h
 *		In the place of valgrind's header when PostgreSQL is built with USE_VALGRIND for test/soak/sanitizers: what PostgreSQL tells valgrind
 *		about its memory contexts, buffers and lists is told to the address sanitizer.
 *
 * Undefined bytes may be touched here: finding reads of them is valgrind's, not the sanitizer's.
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_MEMCHECK_H
#define FUZZ_MEMCHECK_H

#include <sanitizer/asan_interface.h>

#define VALGRIND_MAKE_MEM_NOACCESS(p, n)	__asan_poison_memory_region((p), (n))
#define VALGRIND_MAKE_MEM_UNDEFINED(p, n)	__asan_unpoison_memory_region((p), (n))
#define VALGRIND_MAKE_MEM_DEFINED(p, n)		__asan_unpoison_memory_region((p), (n))
#define VALGRIND_CHECK_MEM_IS_DEFINED(p, n)	((void) 0)
#define VALGRIND_GET_VBITS(p, bits, n)		(3)
#define VALGRIND_CREATE_MEMPOOL(c, r, z)	((void) 0)
#define VALGRIND_DESTROY_MEMPOOL(c)			((void) 0)
#define VALGRIND_MEMPOOL_ALLOC(c, p, n)		__asan_unpoison_memory_region((p), (n))
#define VALGRIND_MEMPOOL_FREE(c, p)			((void) 0)
#define VALGRIND_MEMPOOL_CHANGE(c, o, p, n) __asan_unpoison_memory_region((p), (n))
#define VALGRIND_COUNT_ERRORS				0
#define VALGRIND_PRINTF(...)				((void) 0)

#endif
