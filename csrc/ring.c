/* ring.c — signals in a ring of a power of two; nothing is overwritten. */
#include "crosswire/ring.h"

void cw_ring_init(cw_ring *self, cw_signal *slots, uint32_t capacity) {
    memset(self, 0, sizeof *self);
    self->slots = slots;
    self->capacity = capacity;
}

cw_signal *cw_ring_claim(cw_ring *self) {
    cw_signal *slot;
    if (cw_ring_free(self) == 0) {
        self->refused++;
        return NULL;
    }
    slot = &self->slots[self->head & (self->capacity - 1)];
    memset(slot, 0, sizeof *slot);
    return slot;
}

void cw_ring_commit(cw_ring *self) { self->head++; }

const cw_signal *cw_ring_peek(const cw_ring *self, uint32_t *count) {
    uint32_t first = (uint32_t)(self->tail & (self->capacity - 1));
    uint32_t unread = (uint32_t)(self->head - self->tail), until_wrap = self->capacity - first;
    *count = unread < until_wrap ? unread : until_wrap;
    return &self->slots[first];
}

void cw_ring_release(cw_ring *self, uint32_t count) {
    uint32_t unread = (uint32_t)(self->head - self->tail);
    self->tail += count < unread ? count : unread;
}
