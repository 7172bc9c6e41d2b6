/* fuzz_inflate.c — compressed messages read at once and in pieces; gzip and zlib also against zlib
 * in one call; and the input itself, compressed and read back.
 *
 * Input: the form and its terms (one byte); a seed for the cuts (one byte), of which one in 32
 * allows the way back, which is slow; then messages, each behind its size (two bytes, the lower
 * first; at most what is left). */
#include "packed.h"
#include "zlib_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUTPUT_MAX = 1 << 12, SLOTS = 4, SET_MAX = 1 << 13 };

/* ---- a heap whose blocks wait for the next input: zlib's are large, an input is small ---- */

typedef struct slots {
    cw_heap heap;
    pen blocks[SLOTS];
    uint8_t *given[SLOTS];
} slots;

static void *slots_resize(void *user, void *block, size_t size) {
    slots *self = user;
    int i = 0;
    CHECK(!block || !size); /* zlib makes blocks and gives them back */
    while (i < SLOTS && self->given[i] != block) i++;
    if (!block && !size) return NULL;
    CHECK(i < SLOTS);
    if (!size) {
        pen_take(&self->blocks[i], 0);
        self->given[i] = NULL;
        return NULL;
    }
    self->given[i] = pen_take(&self->blocks[i], size);
    if (size <= SET_MAX) memset(self->given[i], 0xA5, size); /* as ledger.h; not whole windows */
    return self->given[i];
}

static const cw_heap *slots_lend(slots *self) {
    self->heap = (cw_heap){slots_resize, self};
    return &self->heap;
}

static void slots_are_empty(const slots *self) {
    for (int i = 0; i < SLOTS; i++) CHECK(!self->given[i]);
}

/* ---- messages ---- */

typedef struct terms {
    cw_inflate_form form;
    int window_bits, keeps_context;
} terms;

static terms terms_of(uint8_t byte) {
    return (terms){(cw_inflate_form)((byte & 3) % 3), byte & 4 ? 8 + (byte >> 4 & 7) : 15,
                   byte >> 3 & 1};
}

/* Cut [0, n) at random; returns how many pieces there are. */
static size_t cuts_of(dice *d, size_t n, size_t cuts[40]) {
    size_t count = 0, at = 0;
    while (count < 39 && at < n) {
        at += below(d, (uint32_t)(below(d, 4) ? 9 : n - at) + 1);
        if (at > n) at = n;
        cuts[count++] = at;
    }
    cuts[count++] = n;
    return count;
}

/* The verdict of zlib on a whole member: its output, and 1 when it is all of the message. */
static int judge(terms t, const uint8_t *p, size_t n, bytes *out) {
    static uint8_t to[OUTPUT_MAX];
    static slots memory;
    z_stream z = {0};
    int result;
    z.zalloc = cw_zlib_take;
    z.zfree = cw_zlib_give;
    z.opaque = (voidpf)(uintptr_t)slots_lend(&memory);
    CHECK_EQ(inflateInit2(&z, t.window_bits + (t.form == CW_INFLATE_GZIP ? 16 : 0)), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)p;
    z.avail_in = (uInt)n;
    z.next_out = to;
    z.avail_out = OUTPUT_MAX;
    result = inflate(&z, Z_FINISH);
    put(out, to, OUTPUT_MAX - z.avail_out);
    inflateEnd(&z);
    slots_are_empty(&memory);
    return result == Z_STREAM_END && z.avail_in == 0;
}

/* The same message of two objects, the one at once and the other in pieces. 0 when no more may
 * follow. */
static int read_both(terms t, cw_inflate *whole, cw_inflate *cut, const uint8_t *p, size_t n,
                     dice *d) {
    static bytes a, b; /* their memory is kept */
    size_t cuts[40], count = cuts_of(d, n, cuts), at_a, at_b, least;
    int code_a, code_b;
    a.n = b.n = 0;
    code_a = read_message(whole, p, (cutting){&n, 1, OUTPUT_MAX}, &a, OUTPUT_MAX, &at_a);
    code_b = read_message(cut, p, (cutting){cuts, count, 1 + below(d, 400)}, &b, OUTPUT_MAX,
                              &at_b);
    least = a.n < b.n ? a.n : b.n;
    if (least) CHECK_BYTES(a.p, b.p, least);
    if (t.window_bits == 15 && code_a != CW_FULL && code_b != CW_FULL) {
        CHECK_EQ(code_a, code_b);
        CHECK_EQ(a.n, b.n);
        CHECK_EQ(at_a, at_b);
        if (t.form != CW_INFLATE_RAW) {
            static bytes c;
            c.n = 0;
            CHECK_EQ(judge(t, p, n, &c), code_a == CW_OK);
            if (code_a == CW_OK) {
                CHECK_EQ(c.n, a.n);
                if (c.n) CHECK_BYTES(c.p, a.p, a.n);
            }
        }
    }
    return code_a == CW_OK && code_b == CW_OK;
}

static void read_messages(terms t, const uint8_t *p, size_t n, dice *d) {
    static slots one, other;
    cw_inflate whole, cut;
    CHECK_EQ(cw_inflate_open(&whole, slots_lend(&one), t.form, t.window_bits, t.keeps_context),
             CW_OK);
    CHECK_EQ(cw_inflate_open(&cut, slots_lend(&other), t.form, t.window_bits, t.keeps_context),
             CW_OK);
    while (n >= 2) {
        size_t size = p[0] | (size_t)p[1] << 8;
        p += 2;
        n -= 2;
        if (size > n) size = n;
        if (!read_both(t, &whole, &cut, p, size, d)) break;
        p += size;
        n -= size;
    }
    cw_inflate_close(&whole);
    cw_inflate_close(&cut);
    slots_are_empty(&one);
    slots_are_empty(&other);
}

/* Two messages there and back again. */
static void write_and_read(terms t, const uint8_t *p, size_t n, dice *d) {
    size_t parts[2] = {below(d, (uint32_t)n + 1), n}, from = 0;
    int bits = t.window_bits < 9 ? 9 : t.window_bits;
    ledger l, l2;
    cw_deflate deflate;
    cw_inflate inflate;
    CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), bits, t.keeps_context,
                             (int)below(d, 10)),
             CW_OK);
    CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l2, NEVER), CW_INFLATE_RAW, bits,
                             t.keeps_context),
             CW_OK);
    for (int i = 0; i < 2; i++) {
        size_t own = parts[i] - from, room = cw_deflate_bound(own), made, at;
        uint8_t *to = malloc(room);
        bytes out = {0};
        CHECK_EQ(cw_deflate_message(&deflate, p + from, own, to, room, &made), CW_OK);
        CHECK_EQ(read_message(&inflate, to, (cutting){&made, 1, 300}, &out, own, &at), CW_OK);
        CHECK_EQ(out.n, own);
        if (own) CHECK_BYTES(out.p, p + from, own);
        from = parts[i];
        bytes_free(&out);
        free(to);
    }
    cw_deflate_close(&deflate);
    cw_inflate_close(&inflate);
    ledger_is_settled(&l);
    ledger_is_settled(&l2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dice d;
    terms t;
    if (size < 2) return 0;
    d = (dice){data[1]};
    t = terms_of(data[0]);
    read_messages(t, data + 2, size - 2, &d);
    if (data[0] >> 7 && data[1] % 32 == 7) write_and_read(t, data + 2, size - 2, &d);
    return 0;
}
