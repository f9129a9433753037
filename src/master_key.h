/*-------------------------------------------------------------------------
 * master_key.h
 *		The master keys, from a file or a command outside the database.  See master_key.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_MASTER_KEY_H
#define GOYA_MASTER_KEY_H

#include "postgres.h"
#include "utils/guc.h"

#define GOYA_KEY_BYTES		32
#define GOYA_KEY_ID_MAX		32

typedef struct GoyaMasterKey
{
	char		id[GOYA_KEY_ID_MAX + 1];
	uint8		bytes[GOYA_KEY_BYTES];
} GoyaMasterKey;

/*
 * All of these load the keys when this process has none or the settings were reloaded since, and throw 55000 when there is none or it
 * cannot be read.  What they return is this module's, valid until the next call of any of them.
 */
extern const GoyaMasterKey *goya_master_key_active(void);
extern const GoyaMasterKey *goya_master_key_find(const char *id, size_t len);	/* NULL: not among them */
extern const GoyaMasterKey *goya_master_key_at(int i);	/* in the order of the file; NULL: no more */

/* Check hooks of goya.master_key_file and goya.master_key_command. */
extern bool goya_master_key_check_file(char **newval, void **extra, GucSource source);
extern bool goya_master_key_check_command(char **newval, void **extra, GucSource source);

#endif
