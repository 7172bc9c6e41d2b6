/* roundtrip.c — an echo and a client that never sleep, for the row of round trips: what the sockets
 * themselves take. benchmarks/wake.py builds it and calls it from outside. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#define SHOWN __attribute__((visibility("default")))

enum { SIZE_MAX_ECHO = 1 << 16 };

/* Send n bytes, all of them; 0: done, -1: the peer is gone. */
static int put(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
        } else if (errno != EAGAIN && errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

/* Receive what there is, at most n bytes, looking until something is; 0 or less: the end. */
static ssize_t take(int fd, char *p, size_t n) {
    for (;;) {
        ssize_t got = recv(fd, p, n, MSG_DONTWAIT);
        if (got >= 0 || (errno != EAGAIN && errno != EINTR)) return got;
    }
}

/* Send back what comes, until the peer ends. */
SHOWN void echo(int fd) {
    static char data[SIZE_MAX_ECHO];
    ssize_t n;
    while ((n = take(fd, data, sizeof(data))) > 0)
        if (put(fd, data, (size_t)n)) return;
}

/* Send `size` bytes and wait for them, `count` times; writes the ns of each. 0: done. */
SHOWN int round_trips(int fd, const char *p, size_t size, size_t count, int64_t *ns) {
    static char data[SIZE_MAX_ECHO];
    for (size_t i = 0; i < count; i++) {
        struct timespec began, ended;
        clock_gettime(CLOCK_MONOTONIC, &began);
        if (put(fd, p, size)) return -1;
        for (size_t got = 0; got < size;) {
            ssize_t n = take(fd, data, sizeof(data));
            if (n <= 0) return -1;
            got += (size_t)n;
        }
        clock_gettime(CLOCK_MONOTONIC, &ended);
        ns[i] = (int64_t)(ended.tv_sec - began.tv_sec) * 1000000000 + ended.tv_nsec - began.tv_nsec;
    }
    return 0;
}
