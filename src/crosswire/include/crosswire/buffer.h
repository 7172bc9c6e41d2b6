/* buffer.h — a receive buffer with named cursors.
 *
 *     guard | consumed .. parsed .. received .. capacity | guard
 *
 * Bytes before `consumed` are done with, [consumed, parsed) is the message in hand, [parsed,
 * received) awaits parsing, [received, capacity) is free. The invariant
 *     consumed <= parsed <= received <= capacity
 * is asserted in one function. The guards are readable bytes around the data, so that kernels
 * may load whole vectors; their contents are never used. */
#ifndef CROSSWIRE_BUFFER_H
#define CROSSWIRE_BUFFER_H

#include "base.h"

#define CW_GUARD_BEFORE 64
#define CW_GUARD_AFTER 192

typedef struct cw_buffer {
    uint8_t *data; /* first byte after the front guard */
    uint32_t consumed, parsed, received, capacity;
} cw_buffer;

/* Bytes of memory that a buffer of `capacity` data bytes needs, guards included. */
size_t cw_buffer_size(uint32_t capacity);

/* Take `memory` of cw_buffer_size(capacity) bytes; it must outlive the buffer. Clears it. */
void cw_buffer_init(cw_buffer *self, void *memory, uint32_t capacity);

/* Where to write next and how many bytes fit; 0 when full. Valid until the next call. */
uint8_t *cw_buffer_tail(const cw_buffer *self, uint32_t *free_size);

/* Say that `n` bytes were written at the tail. CW_FULL, with nothing taken, when they cannot. */
int cw_buffer_commit(cw_buffer *self, uint32_t n);

/* Move the bytes that are not consumed to the front. */
void cw_buffer_compact(cw_buffer *self);

/* Forget everything received. */
void cw_buffer_clear(cw_buffer *self);

#endif
