/* heap.h — where a kernel gets memory that cannot be lent at the start. */
#ifndef CROSSWIRE_HEAP_H
#define CROSSWIRE_HEAP_H

#include <stddef.h>

typedef struct cw_heap {
    /* As realloc: a NULL block makes one, size 0 gives the block back and returns NULL; NULL on
     * failure leaves the block as it was. Called on the thread that calls the kernel. */
    void *(*resize)(void *user, void *block, size_t size);
    void *user;
} cw_heap;

#endif
