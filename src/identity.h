/* identity.h - who is calling, and doing goya's own work as goya_owner.  See identity.c. */
#ifndef GOYA_IDENTITY_H
#define GOYA_IDENTITY_H

#include "postgres.h"
#include "utils/uuid.h"

/* State to restore after acting as goya_owner. */
typedef struct GoyaOwnerScope
{
	Oid			userid;
	int			sec_context;
	int			guc_level;		/* 0: search_path was right already */
} GoyaOwnerScope;

extern Oid	goya_owner_oid(void);
extern void goya_owner_enter(GoyaOwnerScope *scope);	/* be goya_owner with a fixed search_path */
extern void goya_owner_leave(GoyaOwnerScope *scope);	/* not needed when an error passes: (sub)transaction abort restores */

/* The node run whose SQL is running now. */
typedef struct GoyaPin
{
	pg_uuid_t	task;
	const char *node;
	int			item;
	int			depth;
} GoyaPin;

extern void goya_identity_pin(const pg_uuid_t *tenant, Oid role, const GoyaPin *run);	/* executor: until goya_identity_unpin */
extern void goya_identity_unpin(void);

extern const GoyaPin *goya_identity_run(void);
extern Oid	goya_identity_caller(void);
extern bool goya_identity_tenant(pg_uuid_t *tenant);	/* false: none */
extern void goya_identity_require_tenant(pg_uuid_t *tenant);
extern char *goya_identity_user(void);	/* or NULL */
extern bool goya_identity_is_admin(void);
extern bool goya_identity_is_reader(void);

#endif
