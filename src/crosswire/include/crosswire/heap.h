/* heap.h — where a kernel gets memory whose size is not known when it starts.
 *
 * Most kernels work in memory that is lent to them once. The few that cannot are lent a heap: one
 * function in the manner of realloc, and a word of the lender's. They ask it for every block that
 * they have and give all of them back when they are closed; they never call the C library's. */
#ifndef CROSSWIRE_HEAP_H
#define CROSSWIRE_HEAP_H

#include "base.h"

typedef struct cw_heap {
    /* Make `block` `size` bytes long and return where it is now, its bytes kept as far as both
     * sizes reach. NULL for `block` makes one; a size of 0 gives it back and returns NULL (NULL
     * and 0 together do nothing). NULL for any other size says that there is no memory, and leaves
     * the block as it was. A block is aligned for every C type; what is new in it is not set. It is
     * called on the thread of the kernel's caller, and must not call that kernel. */
    void *(*resize)(void *user, void *block, size_t size);
    void *user; /* handed to resize as it is; may be NULL */
} cw_heap;

/* A block of `size` > 0 bytes, not set; NULL when there is no memory. */
static inline void *cw_heap_take(const cw_heap *self, size_t size) {
    return self->resize(self->user, NULL, size);
}

/* Give a block back; NULL does nothing. */
static inline void cw_heap_give(const cw_heap *self, void *block) {
    if (block) (void)self->resize(self->user, block, 0);
}

#endif
