/* pii.h - e-mail addresses, phone numbers, IBANs and card numbers in a text.  See pii.c. */
#ifndef GOYA_PII_H
#define GOYA_PII_H

#include "postgres.h"

/* The text with tags in their place, palloc'd; NULL: there are none. */
extern char *goya_pii_redact(const char *text, size_t len, size_t *out_len);

#endif
