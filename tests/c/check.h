/* check.h — what a test program needs to say "this must hold".
 *
 * A program is a list of RUN(name) in main; each prints `ok name`. The first CHECK that fails
 * prints file:line, what was wanted and the note in force, and aborts. */
#ifndef CROSSWIRE_TESTS_CHECK_H
#define CROSSWIRE_TESTS_CHECK_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char check_noted[4096];

/* Say what is being looked at; shown when a check fails. */
__attribute__((format(printf, 1, 2), unused)) static void check_note(const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(check_noted, sizeof check_noted, format, list);
    va_end(list);
}

__attribute__((noreturn, unused)) static void check_failed(const char *file, int line,
                                                           const char *what) {
    fflush(stdout);
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    if (check_noted[0]) fprintf(stderr, "    %s\n", check_noted);
    abort();
}

#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) check_failed(__FILE__, __LINE__, #condition);                         \
    } while (0)

/* Equal integers; both are shown. */
#define CHECK_EQ(got, want)                                                                     \
    do {                                                                                        \
        long long check_got = (long long)(got), check_want = (long long)(want);                 \
        if (check_got != check_want) {                                                          \
            fprintf(stderr, "got %lld, want %lld\n", check_got, check_want);                    \
            check_failed(__FILE__, __LINE__, #got " == " #want);                                \
        }                                                                                       \
    } while (0)

/* The same double, bit for bit (NaN equals itself, -0 is not 0). */
#define CHECK_DOUBLE(got, want)                                                                 \
    do {                                                                                        \
        double check_got = (got), check_want = (want);                                          \
        if (memcmp(&check_got, &check_want, sizeof check_got) != 0) {                           \
            fprintf(stderr, "got %.17g, want %.17g\n", check_got, check_want);                  \
            check_failed(__FILE__, __LINE__, #got " == " #want);                                \
        }                                                                                       \
    } while (0)

#define CHECK_BYTES(got, want, n) CHECK(memcmp((got), (want), (n)) == 0)

/* CHECK_ONLY in the environment: run the tests whose name contains it, and no other. */
#define RUN(name)                                                                               \
    do {                                                                                        \
        const char *check_only = getenv("CHECK_ONLY");                                          \
        if (check_only && !strstr(#name, check_only)) break;                                    \
        check_noted[0] = 0;                                                                     \
        name();                                                                                 \
        printf("ok %s\n", #name);                                                               \
        fflush(stdout);                                                                         \
    } while (0)

#endif
