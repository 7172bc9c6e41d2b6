/* ring.h — a ring of signals, one writer and one reader in the same thread.
 *
 * Write: `cw_ring_claim` a slot, fill it, `cw_ring_commit`. Read: `cw_ring_peek` a contiguous
 * run, use it, `cw_ring_release`. Nothing is ever overwritten: a claim that finds no room returns
 * NULL and is counted. */
#ifndef CROSSWIRE_RING_H
#define CROSSWIRE_RING_H

#include "signal.h"

typedef struct cw_ring {
    cw_signal *slots;
    uint64_t head;    /* signals committed since init */
    uint64_t tail;    /* signals released since init */
    uint64_t refused; /* claims that found no room */
    uint32_t capacity; /* a power of two */
    uint32_t reserved;
} cw_ring;

/* Take `slots`, 64-byte aligned, `capacity` of them; capacity must be a power of two. */
void cw_ring_init(cw_ring *self, cw_signal *slots, uint32_t capacity);

/* Free slots now. */
static inline uint32_t cw_ring_free(const cw_ring *self) {
    return self->capacity - (uint32_t)(self->head - self->tail);
}

/* The next slot, zeroed, or NULL when the ring is full. Claiming again without a commit gives
 * the same slot. */
cw_signal *cw_ring_claim(cw_ring *self);

/* Make the claimed slot visible. */
void cw_ring_commit(cw_ring *self);

/* First unread signal and how many follow it without a wrap; *count 0 when there is none. */
const cw_signal *cw_ring_peek(const cw_ring *self, uint32_t *count);

/* Give `count` peeked slots back; more than were peeked are not released. */
void cw_ring_release(cw_ring *self, uint32_t count);

#endif
