/*-------------------------------------------------------------------------
 * no_nls.c
 *		Messages without translation, for LD_PRELOAD.  A server with NLS hangs in bindtextdomain() when the address sanitizer's library
 *		is loaded before it (glibc 2.36: its lock is counted below zero while the sanitizer starts), so it is not called.
 *-------------------------------------------------------------------------
 */

char *bindtextdomain(const char *domain, const char *directory) { return (char *) 0; }
char *textdomain(const char *domain) { return (char *) "messages"; }
char *gettext(const char *message) { return (char *) message; }
char *dgettext(const char *domain, const char *message) { return (char *) message; }
char *dcgettext(const char *domain, const char *message, int category) { return (char *) message; }
char *ngettext(const char *one, const char *many, unsigned long n) { return (char *) (n == 1 ? one : many); }
char *dngettext(const char *domain, const char *one, const char *many, unsigned long n) { return (char *) (n == 1 ? one : many); }
