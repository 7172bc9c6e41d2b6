/* buffer.c — the receive buffer: one invariant, four cursors. */
#include "crosswire/buffer.h"

#include <assert.h>

static void check(const cw_buffer *self) {
    assert(self->consumed <= self->parsed && self->parsed <= self->received &&
           self->received <= self->capacity);
    (void)self;
}

size_t cw_buffer_size(uint32_t capacity) {
    return (size_t)CW_GUARD_BEFORE + capacity + CW_GUARD_AFTER;
}

void cw_buffer_init(cw_buffer *self, void *memory, uint32_t capacity) {
    memset(memory, 0, CW_GUARD_BEFORE);
    self->data = (uint8_t *)memory + CW_GUARD_BEFORE;
    memset(self->data + capacity, 0, CW_GUARD_AFTER);
    self->capacity = capacity;
    cw_buffer_clear(self);
}

uint8_t *cw_buffer_tail(const cw_buffer *self, uint32_t *free_size) {
    check(self);
    *free_size = self->capacity - self->received;
    return self->data + self->received;
}

int cw_buffer_commit(cw_buffer *self, uint32_t n) {
    if (n > self->capacity - self->received) return CW_FULL;
    self->received += n;
    check(self);
    return CW_OK;
}

void cw_buffer_compact(cw_buffer *self) {
    uint32_t rest = self->received - self->consumed;
    check(self);
    if (self->consumed == 0) return;
    if (rest) memmove(self->data, self->data + self->consumed, rest);
    self->parsed -= self->consumed;
    self->received = rest;
    self->consumed = 0;
}

void cw_buffer_clear(cw_buffer *self) {
    self->consumed = self->parsed = self->received = 0;
}
