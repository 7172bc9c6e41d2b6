/* pen.h — a block that is lent again and again, with poison for the address sanitizer around it: as
 * good as a fresh block of the exact size, for a hundredth of its price, which a fuzz target needs. */
#ifndef CROSSWIRE_TESTS_PEN_H
#define CROSSWIRE_TESTS_PEN_H

#include <stdint.h>

#include "check.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { PEN_FENCE = 64 };

typedef struct pen {
    uint8_t *memory; /* lives as long as the process */
    size_t size, taken;
} pen;

/* Exactly n bytes, not set, until the next call. */
__attribute__((unused)) static uint8_t *pen_take(pen *self, size_t n) {
    if (!self->memory || n > self->size) {
        if (self->memory) ASAN_UNPOISON_MEMORY_REGION(self->memory, self->size + 2 * PEN_FENCE);
        free(self->memory);
        self->size = n < 1024 ? 1024 : 2 * n;
        self->memory = malloc(self->size + 2 * PEN_FENCE);
        CHECK(self->memory != NULL);
        ASAN_POISON_MEMORY_REGION(self->memory, PEN_FENCE);
    } else if (n == self->taken) {
        return self->memory + PEN_FENCE;
    }
    self->taken = n;
    ASAN_UNPOISON_MEMORY_REGION(self->memory + PEN_FENCE, n);
    ASAN_POISON_MEMORY_REGION(self->memory + PEN_FENCE + n, self->size + PEN_FENCE - n);
    return self->memory + PEN_FENCE;
}

#endif
