/* ledger.h — a cw_heap that counts what it gives, and that can run dry. */
#ifndef CROSSWIRE_TESTS_LEDGER_H
#define CROSSWIRE_TESTS_LEDGER_H

#include "check.h"
#include "crosswire/heap.h"

#define NEVER (-1)

/* A size in front of every block; 16 bytes, so that the block stays aligned. */
typedef struct ledger_head {
    size_t size, reserved;
} ledger_head;

typedef struct ledger {
    cw_heap heap; /* its user is this ledger once ledger_lend was called */
    long asked;   /* blocks that were asked for */
    long dry_at;  /* the one that is refused, and all behind it; NEVER */
    long blocks;  /* given and not given back */
    size_t bytes, bytes_max;
} ledger;

static void *ledger_resize(void *user, void *block, size_t size) {
    ledger *self = user;
    ledger_head *head = block ? (ledger_head *)block - 1 : NULL;
    size_t had = head ? head->size : 0;
    if (size == 0) {
        self->blocks -= head != NULL;
        self->bytes -= had;
        free(head);
        return NULL;
    }
    if (self->asked++ >= self->dry_at && self->dry_at != NEVER) return NULL;
    head = realloc(head, sizeof *head + size);
    CHECK(head != NULL);
    head->size = size;
    self->blocks += block == NULL;
    self->bytes += size - had;
    if (self->bytes > self->bytes_max) self->bytes_max = self->bytes;
    if (!block) memset(head + 1, 0xA5, size); /* nothing may rest on fresh memory being zero */
    return head + 1;
}

/* The heap of this ledger, which stays where it is; it runs dry at the `dry_at`-th block. */
__attribute__((unused)) static const cw_heap *ledger_lend(ledger *self, long dry_at) {
    memset(self, 0, sizeof *self);
    self->heap = (cw_heap){ledger_resize, self};
    self->dry_at = dry_at;
    return &self->heap;
}

__attribute__((unused)) static void ledger_is_settled(const ledger *self) {
    CHECK_EQ(self->blocks, 0);
    CHECK_EQ(self->bytes, 0);
}

#endif
