/* count_malloc.c — the C library's allocator with a count per thread; to be preloaded.
 *
 * benchmarks.allocations builds it and reads the count through cw_allocations(). */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

static __thread uint64_t count __attribute__((tls_model("initial-exec")));

/* Blocks that the calling thread has asked for. */
uint64_t cw_allocations(void) { return count; }

void *malloc(size_t n) {
    count++;
    return __libc_malloc(n);
}

void *calloc(size_t items, size_t n) {
    count++;
    return __libc_calloc(items, n);
}

void *realloc(void *p, size_t n) {
    count++;
    return __libc_realloc(p, n);
}

void *memalign(size_t alignment, size_t n) {
    count++;
    return __libc_memalign(alignment, n);
}

void *aligned_alloc(size_t alignment, size_t n) { return memalign(alignment, n); }

int posix_memalign(void **p, size_t alignment, size_t n) {
    *p = memalign(alignment, n);
    return *p ? 0 : ENOMEM;
}
