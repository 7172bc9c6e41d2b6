/* packed.h — compressed messages for the tests: made by zlib, or bit by bit; and read in pieces. */
#ifndef CROSSWIRE_TESTS_PACKED_H
#define CROSSWIRE_TESTS_PACKED_H

#include <zlib.h>

#include "crosswire/deflate.h"
#include "crosswire/inflate.h"
#include "fixture.h"
#include "ledger.h"
#include "pen.h"

/* ---- made by zlib; `bits` as deflateInit2 has it: -9..-15 raw, 9..15 zlib, 25..31 gzip ---- */

static z_stream *packer_of(int bits, int level) {
    z_stream *z = calloc(1, sizeof *z);
    CHECK_EQ(deflateInit2(z, level, Z_DEFLATED, bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    return z;
}

static void packer_free(z_stream *z) {
    deflateEnd(z);
    free(z);
}

/* Add what zlib makes of [p, p + n) and this flush. */
static void pack_more(bytes *self, z_stream *z, const void *p, size_t n, int flush) {
    uint8_t chunk[4096];
    z->next_in = (Bytef *)(uintptr_t)p;
    z->avail_in = (uInt)n;
    do {
        z->next_out = chunk;
        z->avail_out = sizeof chunk;
        (void)deflate(z, flush);
        put(self, chunk, sizeof chunk - z->avail_out);
    } while (z->avail_out == 0);
}

/* A message of permessage-deflate; `z` is kept from one to the next, or reset by the caller. */
static bytes pack_message(z_stream *z, const void *p, size_t n) {
    bytes b = {0};
    pack_more(&b, z, p, n, Z_SYNC_FLUSH);
    CHECK(b.n > 4);
    CHECK_BYTES(b.p + b.n - 4, "\0\0\xFF\xFF", 4);
    b.n -= 4;
    return b;
}

/* A whole stream of one form. */
static bytes pack(int bits, int level, const void *p, size_t n) {
    bytes b = {0};
    z_stream *z = packer_of(bits, level);
    pack_more(&b, z, p, n, Z_FINISH);
    packer_free(z);
    return b;
}

/* ---- bit by bit: blocks with the fixed codes of RFC 1951 3.2.6 ---- */

typedef struct bits {
    bytes out;
    uint32_t held, count;
} bits;

/* `count` bits of `value`, the lowest first. */
static void put_bits(bits *self, uint32_t value, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        self->held |= (value >> i & 1) << self->count;
        if (++self->count == 8) {
            uint8_t byte = (uint8_t)self->held;
            put(&self->out, &byte, 1);
            self->held = self->count = 0;
        }
    }
}

/* A Huffman code: its highest bit first. */
static void put_code(bits *self, uint32_t code, uint32_t count) {
    while (count--) put_bits(self, code >> count & 1, 1);
}

static void put_literal(bits *self, uint8_t byte) {
    if (byte < 144) put_code(self, 0x30u + byte, 8);
    else put_code(self, 0x190u + byte - 144, 9);
}

static void put_block_head(bits *self, int is_final, int type) {
    put_bits(self, is_final != 0, 1);
    put_bits(self, (uint32_t)type, 2);
}

static void put_block_end(bits *self) { put_code(self, 0, 7); }

/* Three bytes from 1..32768 back; distance codes of RFC 1951 3.2.5. */
static void put_match(bits *self, uint32_t distance) {
    uint32_t code = 0, base = 1, extra = 0;
    while (distance >= base + (1u << extra)) {
        base += 1u << extra;
        code++;
        extra = code < 4 ? 0 : code / 2 - 1;
    }
    put_code(self, 1, 7); /* length 3 */
    put_code(self, code, 5);
    put_bits(self, distance - base, extra);
}

/* Zeros up to the next byte. */
static void put_padding(bits *self) {
    while (self->count) put_bits(self, 0, 1);
}

/* A fixed block with this text in it. */
static void put_fixed(bits *self, int is_final, const char *text) {
    put_block_head(self, is_final, 1);
    while (*text) put_literal(self, (uint8_t)*text++);
    put_block_end(self);
}

/* The empty stored block that ends a message, less its tail. */
static void put_message_end(bits *self) {
    put_block_head(self, 0, 0);
    put_padding(self);
}

/* ---- read in pieces ---- */

/* How a message is cut: input ends at `cuts` (rising, the last is its size), room is `room` bytes
 * each time. Every piece and every room is a block of its exact size. */
typedef struct cutting {
    const size_t *cuts;
    size_t cut_count, room;
} cutting;

typedef int reader(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                   size_t room, size_t *made);

/* Read on until all of [p, p + n) is taken; the output goes to `out`, which may not become longer
 * than `most` bytes (CW_FULL then). */
static int read_piece(reader *read, cw_inflate *self, const uint8_t *p, size_t n, size_t room,
                      bytes *out, size_t most, size_t *at) {
    static pen inputs, rooms;
    uint8_t *in = pen_take(&inputs, n), *to = pen_take(&rooms, room);
    size_t from = 0, used, made;
    int code;
    if (n) memcpy(in, p, n);
    do {
        code = read(self, n > from ? in + from : NULL, n - from, &used, to, room, &made);
        CHECK(used <= n - from && made <= room);
        CHECK(code != CW_OK || used == n - from);
        CHECK(code != CW_FULL || made == room);
        put(out, to, made);
        from += used;
    } while (code == CW_FULL && out->n <= most);
    *at += from;
    return code;
}

static int read_end(cw_inflate *self, size_t room, bytes *out, size_t most) {
    static pen rooms;
    uint8_t *to = pen_take(&rooms, room);
    size_t made;
    int code;
    do {
        code = cw_inflate_end(self, to, room, &made);
        CHECK(made <= room);
        CHECK(code != CW_FULL || made == room);
        put(out, to, made);
    } while (code == CW_FULL && out->n <= most);
    return code;
}

/* Read a whole message, its last piece by cw_inflate_last where the number of pieces is odd, and
 * otherwise by cw_inflate_feed and cw_inflate_end; *at is where an error stands. */
static int read_message(cw_inflate *self, const uint8_t *p, cutting cut, bytes *out, size_t most,
                        size_t *at) {
    size_t from = 0;
    *at = 0;
    for (size_t i = 0; i < cut.cut_count; i++) {
        int is_last = i + 1 == cut.cut_count && cut.cut_count % 2;
        int code = read_piece(is_last ? cw_inflate_last : cw_inflate_feed, self, p + from,
                              cut.cuts[i] - from, cut.room, out, most, at);
        if (code != CW_OK || is_last) return code;
        from = cut.cuts[i];
    }
    return read_end(self, cut.room, out, most);
}

#endif
