/* roundtrip.c — peers that never sleep, for benchmarks/wake.py, which builds it and calls it from
 * outside: an echo and its client, for what the sockets themselves take, and a sender whose own time
 * from a due message to the system call is next to nothing. */
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

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Send `count` messages that lie behind each other in `p`, of `sizes` bytes, each when the monotonic
 * clock shows its `due_ns`; 0: done, -1: the peer is gone. */
SHOWN int send_when_due(int fd, const char *p, const int64_t *sizes, const int64_t *due_ns,
                        size_t count) {
    for (size_t i = 0; i < count; i++) {
        while (now_ns() < due_ns[i]) continue;
        if (put(fd, p, (size_t)sizes[i])) return -1;
        p += sizes[i];
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
        int64_t began = now_ns();
        if (put(fd, p, size)) return -1;
        for (size_t got = 0; got < size;) {
            ssize_t n = take(fd, data, sizeof(data));
            if (n <= 0) return -1;
            got += (size_t)n;
        }
        ns[i] = now_ns() - began;
    }
    return 0;
}
