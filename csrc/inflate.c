/* inflate.c — zlib's inflate, step by step, with the message as its unit. */
#include "crosswire/inflate.h"

#include "zlib_heap.h"

/* What zlib counts in data_type when a block has just ended at the end of a byte: RFC 7692's tail
 * must lead there and nowhere else. */
enum { AT_BLOCK_END = 128, LEFT_BITS = 63 };

enum { STEP = 64 * 1024 };

static const uint8_t TAIL[4] = {0x00, 0x00, 0xFF, 0xFF};

/* ---------------------------------------------------------------- open and close */

static int bits_of(cw_inflate_form form, int window_bits) {
    switch (form) {
    case CW_INFLATE_GZIP: return 16 + window_bits;
    case CW_INFLATE_ZLIB: return window_bits;
    default: return -window_bits;
    }
}

int cw_inflate_open(cw_inflate *self, const cw_heap *heap, cw_inflate_form form, int window_bits,
                    int keeps_context) {
    z_stream *z;
    memset(self, 0, sizeof *self);
    if (window_bits < CW_WINDOW_BITS_MIN || window_bits > CW_WINDOW_BITS_MAX) return CW_FULL;
    z = cw_zlib_stream(heap);
    if (!z) return CW_E_MEMORY;
    if (inflateInit2(z, bits_of(form, window_bits)) != Z_OK) {
        cw_heap_give(heap, z);
        return CW_E_MEMORY;
    }
    self->stream = z;
    self->heap = heap;
    self->form = (uint8_t)form;
    self->keeps_context = keeps_context && form == CW_INFLATE_RAW;
    self->is_bare = 1;
    return CW_OK;
}

void cw_inflate_close(cw_inflate *self) {
    if (!self->stream) return;
    (void)inflateEnd(self->stream);
    cw_heap_give(self->heap, self->stream);
    memset(self, 0, sizeof *self);
}

/* ---------------------------------------------------------------- messages */

static int fail(cw_inflate *self, int code) {
    self->broken = code;
    return code;
}

/* A deflate stream ended. RAW: another begins, and it may refer back into this one, as blocks of
 * one message do. inflateReset would forget the window; reading it out and setting it again would
 * copy 64 KiB for each two bytes of a hostile message. inflateResetKeep is what inflateReset is
 * made of, less the forgetting: zlib exports it, though its manual does not tell of it. */
static void stream_ended(cw_inflate *self) {
    if (self->form == CW_INFLATE_RAW) {
        (void)inflateResetKeep(self->stream);
        self->is_bare = 1;
    } else {
        self->is_done = 1;
    }
}

/* One call of zlib, with next_in .. avail_out set; a flush of Z_BLOCK also stops it between two
 * blocks. */
static int step(cw_inflate *self, int flush) {
    z_stream *z = self->stream;
    uInt had = z->avail_in;
    int result = inflate(z, flush);
    if (z->avail_in != had) self->is_bare = 0;
    switch (result) {
    case Z_OK:
    case Z_BUF_ERROR: return CW_OK; /* the latter: there was nothing to do */
    case Z_STREAM_END: stream_ended(self); return CW_OK;
    case Z_MEM_ERROR: return fail(self, CW_E_MEMORY);
    default: return fail(self, CW_E_INFLATE); /* Z_DATA_ERROR, Z_NEED_DICT */
    }
}

/* Between two messages: the next begins with an empty window, or with the one there is. */
static void begin_message(cw_inflate *self) {
    if (!self->keeps_context) (void)inflateReset(self->stream);
    self->is_bare = 1;
    self->is_done = self->is_behind = 0;
}

/* Whether zlib, between two blocks, has nothing before it but the head of an empty stored block:
 * three bits 0, and what fills the byte. `p` is the whole input, of which zlib has the last
 * avail_in bytes to come, and of those before them the highest bits. */
static int is_at_last_head(const z_stream *z, const uint8_t *p, size_t n) {
    uint32_t bits = ((uint32_t)z->data_type & LEFT_BITS) + 8 * z->avail_in, left;
    if ((z->data_type & ~LEFT_BITS) != AT_BLOCK_END || bits < 3 || bits > 10 || n < 2) return 0;
    left = (uint32_t)(p[n - 2] | p[n - 1] << 8) >> (16 - bits);
    return (left & 7) == 0;
}

/* As cw_inflate_feed; where the input is the rest of a message, *is_over tells that its end was
 * seen, and the next may begin. */
static int feed(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                size_t room, size_t *made, int *is_over) {
    z_stream *z = self->stream;
    *used = *made = 0;
    if (!z) return CW_E_INFLATE;
    if (self->broken) return self->broken;
    while (n > *used || self->is_behind) {
        uInt given = cw_zlib_step(n - *used, STEP), lent = cw_zlib_step(room - *made, STEP);
        int code;
        if (self->is_done) return n > *used ? fail(self, CW_E_INFLATE) : CW_OK;
        self->is_behind = lent == 0;
        if (!lent) return CW_FULL;
        z->next_in = given ? p + *used : TAIL; /* nothing is read where nothing is given */
        z->avail_in = given;
        z->next_out = out + *made;
        z->avail_out = lent;
        code = step(self, is_over ? Z_BLOCK : Z_SYNC_FLUSH);
        *used += given - z->avail_in;
        *made += lent - z->avail_out;
        self->is_behind = z->avail_out == 0 || (is_over && z->data_type & AT_BLOCK_END);
        if (code != CW_OK) return code;
        if (is_over && n - *used == z->avail_in && is_at_last_head(z, p, n)) {
            *used = n;
            *is_over = 1;
            return CW_OK;
        }
    }
    return CW_OK;
}

int cw_inflate_feed(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                    size_t room, size_t *made) {
    return feed(self, p, n, used, out, room, made, NULL);
}

int cw_inflate_last(cw_inflate *self, const uint8_t *p, size_t n, size_t *used, uint8_t *out,
                    size_t room, size_t *made) {
    int is_over = 0, is_raw = self->form == CW_INFLATE_RAW, code;
    size_t more;
    code = feed(self, p, n, used, out, room, made, is_raw ? &is_over : NULL);
    if (code != CW_OK) return code;
    if (is_over) {
        (void)inflateResetKeep(self->stream); /* as if zlib had read that head, and the tail */
        begin_message(self);
        return CW_OK;
    }
    code = cw_inflate_end(self, room > *made ? out + *made : NULL, room - *made, &more);
    *made += more;
    return code;
}

/* Whether the tail that the sender took off completes the message. It is an empty block, so no
 * room is lent: where output would come of it, a block was cut and takes the tail for its own. */
static int tail_fits(cw_inflate *self) {
    z_stream *z = self->stream;
    uint8_t nothing;
    if (self->is_bare) return 1;
    z->next_in = TAIL;
    z->avail_in = sizeof TAIL;
    z->next_out = &nothing;
    z->avail_out = 0;
    if (step(self, Z_SYNC_FLUSH) != CW_OK || z->avail_in) return 0;
    return self->is_bare || z->data_type == AT_BLOCK_END;
}

int cw_inflate_end(cw_inflate *self, uint8_t *out, size_t room, size_t *made) {
    size_t used;
    int code = cw_inflate_feed(self, NULL, 0, &used, out, room, made);
    if (code != CW_OK) return code;
    if (self->form == CW_INFLATE_RAW ? !tail_fits(self) : !self->is_done)
        return fail(self, self->broken ? self->broken : CW_E_INFLATE);
    begin_message(self);
    return CW_OK;
}
