/* test_deflate.c — messages compressed by RFC 7692, read back by zlib itself. */
#include "packed.h"

static const char TICKER[] =
    "{\"stream\":\"btcusdt@bookTicker\",\"data\":{\"u\":400900217,\"s\":\"BTCUSDT\",\"b\":"
    "\"67000.10000000\",\"B\":\"1.50000000\",\"a\":\"67000.20000000\",\"A\":\"0.75000000\"}}";

/* Compress into a room of exactly the bound. */
static bytes compressed(cw_deflate *self, const void *p, size_t n) {
    size_t room = cw_deflate_bound(n), made = 0;
    uint8_t *to = malloc(room), *from = malloc(n ? n : 1);
    bytes b = {0};
    if (n) memcpy(from, p, n);
    CHECK_EQ(cw_deflate_message(self, n ? from : NULL, n, to, room, &made), CW_OK);
    CHECK(made >= 1 && made + 4 < room);
    put(&b, to, made);
    free(to);
    free(from);
    return b;
}

/* What zlib reads from a message and its tail must be [p, p + n). */
static void check_read(z_stream *z, const bytes *packed, const void *p, size_t n) {
    static const uint8_t TAIL[] = {0, 0, 0xFF, 0xFF};
    uint8_t *out = malloc(n + 1);
    z->next_out = out;
    z->avail_out = (uInt)n + 1;
    z->next_in = packed->p;
    z->avail_in = (uInt)packed->n;
    CHECK_EQ(inflate(z, Z_SYNC_FLUSH), Z_OK);
    CHECK_EQ(z->avail_in, 0);
    z->next_in = (Bytef *)(uintptr_t)TAIL;
    z->avail_in = sizeof TAIL;
    CHECK_EQ(inflate(z, Z_SYNC_FLUSH), Z_OK);
    CHECK_EQ(z->avail_in, 0);
    CHECK_EQ(z->data_type, 128); /* at the end of a block and of a byte */
    CHECK_EQ(z->avail_out, 1);
    if (n) CHECK_BYTES(out, p, n);
    free(out);
}

/* The kinds of text that zlib treats differently: repeated, noise, noise of 9-bit literals. */
static void fill(uint8_t *p, size_t n, int kind, dice *d) {
    for (size_t i = 0; i < n; i++)
        p[i] = kind == 0   ? (uint8_t)TICKER[(i + (below(d, 50) == 0)) % (sizeof TICKER - 1)]
               : kind == 1 ? (uint8_t)roll(d)
                           : (uint8_t)(144 + below(d, 112));
}

static void check_messages(int bits, int keeps_context, int level) {
    ledger l;
    cw_deflate deflate;
    dice d = {(uint64_t)(bits * 100 + level)};
    z_stream z = {0};
    CHECK_EQ(inflateInit2(&z, -bits), Z_OK);
    CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), bits, keeps_context, level), CW_OK);
    for (int turn = 0; turn < 30; turn++) {
        size_t n = turn < 4 ? (size_t)turn : below(&d, turn == 9 ? 70000 : 2000);
        uint8_t *text = malloc(n + 1);
        bytes packed;
        check_note("%d bits, level %d, context %d, message %d", bits, level, keeps_context, turn);
        fill(text, n, turn % 3, &d);
        packed = compressed(&deflate, text, n);
        check_read(&z, &packed, text, n);
        if (!keeps_context) inflateReset(&z);
        bytes_free(&packed);
        free(text);
    }
    inflateEnd(&z);
    cw_deflate_close(&deflate);
    ledger_is_settled(&l);
}

static void test_every_window_and_level_is_read_by_zlib(void) {
    for (int bits = 9; bits <= 15; bits++)
        for (int level = -1; level <= 9; level++)
            for (int keeps = 0; keeps < 2; keeps++) check_messages(bits, keeps, level);
}

static void test_the_messages_of_the_standard_are_written(void) {
    ledger l;
    cw_deflate deflate;
    bytes b;
    CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), 15, 1, 6), CW_OK);
    b = compressed(&deflate, "Hello", 5);
    CHECK_EQ(b.n, 7);
    CHECK_BYTES(b.p, "\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
    bytes_free(&b);
    b = compressed(&deflate, "Hello", 5);
    CHECK_EQ(b.n, 5);
    CHECK_BYTES(b.p, "\xf2\x00\x11\x00\x00", 5);
    bytes_free(&b);
    b = compressed(&deflate, "", 0);
    CHECK_EQ(b.n, 1);
    CHECK_EQ(b.p[0], 0);
    bytes_free(&b);
    cw_deflate_close(&deflate);
    ledger_is_settled(&l);
}

static void test_without_context_equal_messages_become_equal_bytes(void) {
    ledger l;
    cw_deflate deflate;
    bytes first, later;
    CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), 15, 0, 6), CW_OK);
    first = compressed(&deflate, TICKER, strlen(TICKER));
    for (int turn = 0; turn < 5; turn++) {
        later = compressed(&deflate, TICKER, strlen(TICKER));
        CHECK_EQ(later.n, first.n);
        CHECK_BYTES(later.p, first.p, first.n);
        bytes_free(&later);
    }
    bytes_free(&first);
    cw_deflate_close(&deflate);
    ledger_is_settled(&l);
}

static void test_no_distance_is_beyond_the_window(void) {
    for (int bits = 9; bits <= 15; bits++) {
        size_t n = ((size_t)1 << bits) * 3, at;
        uint8_t *text = malloc(n);
        dice d = {5};
        ledger l, l2;
        cw_deflate deflate;
        cw_inflate inflate;
        bytes packed, out = {0};
        for (size_t i = 0; i < n; i++) /* repeats at the window's size and near it */
            text[i] = i < (1u << bits) ? (uint8_t)roll(&d) : text[i - (1u << bits) + i % 3 / 2];
        CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), bits, 1, 9), CW_OK);
        CHECK_EQ(cw_inflate_open(&inflate, ledger_lend(&l2, NEVER), CW_INFLATE_RAW, bits, 1),
                 CW_OK);
        packed = compressed(&deflate, text, n);
        CHECK_EQ(read_message(&inflate, packed.p, (cutting){&packed.n, 1, 1}, &out, n, &at), CW_OK);
        CHECK_EQ(out.n, n);
        CHECK_BYTES(out.p, text, n);
        cw_deflate_close(&deflate);
        cw_inflate_close(&inflate);
        bytes_free(&packed);
        bytes_free(&out);
        free(text);
    }
}

/* ---------------------------------------------------------------- the bound */

/* A sync flush by zlib itself after a message before it, with all that zlib can be told. */
static void check_bound(int bits, int memory_level, int level, int strategy, const uint8_t *text,
                        size_t n, uint8_t *to) {
    z_stream z = {0};
    CHECK_EQ(deflateInit2(&z, level, Z_DEFLATED, -bits, memory_level, strategy), Z_OK);
    for (int turn = 0; turn < 2; turn++) {
        z.next_in = (Bytef *)(uintptr_t)text;
        z.avail_in = (uInt)n;
        z.next_out = to;
        z.avail_out = (uInt)cw_deflate_bound(n);
        CHECK_EQ(deflate(&z, Z_SYNC_FLUSH), Z_OK);
        check_note("%zu bytes, %d bits, memory %d, level %d, strategy %d: %u of %zu left", n, bits,
                   memory_level, level, strategy, z.avail_out, cw_deflate_bound(n));
        CHECK_EQ(z.avail_in, 0);
        CHECK(z.avail_out > 6); /* zlib's condition for not flushing twice */
    }
    deflateEnd(&z);
}

static void test_the_bound_holds_for_every_setting_of_zlib(void) {
    static const size_t SIZES[] = {1, 127, 128, 129, 513, 4097, 16383};
    uint8_t *text = malloc(16384), *to = malloc(cw_deflate_bound(16384));
    dice d = {17};
    for (int kind = 1; kind < 3; kind++) {
        fill(text, 16384, kind, &d);
        for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
            for (int bits = 9; bits <= 15; bits += 3)
                for (int memory_level = 1; memory_level <= 9; memory_level++)
                    for (int level = 0; level <= 9; level += level == 1 ? 5 : 1 + 2 * (level > 1))
                        for (int strategy = 0; strategy <= Z_FIXED; strategy++)
                            check_bound(bits, memory_level, level, strategy, text, SIZES[i], to);
    }
    free(text);
    free(to);
}

static void test_the_bound_holds_for_long_noise(void) {
    enum { N = 1 << 18 };
    uint8_t *text = malloc(N), *to = malloc(cw_deflate_bound(N));
    dice d = {19};
    for (int kind = 1; kind < 3; kind++) {
        fill(text, N, kind, &d);
        for (int bits = 9; bits <= 15; bits += 6)
            for (int memory_level = 1; memory_level <= 9; memory_level += 4)
                for (int strategy = 0; strategy <= Z_FIXED; strategy += Z_FIXED) {
                    check_bound(bits, memory_level, 0, strategy, text, N, to);
                    check_bound(bits, memory_level, 1, strategy, text, N, to);
                    check_bound(bits, memory_level, 6, strategy, text, N, to);
                }
    }
    free(text);
    free(to);
}

static void test_the_bound_never_wraps_around(void) {
    size_t last = 0;
    for (size_t n = 0; n < 5000; n++) {
        CHECK(cw_deflate_bound(n) >= n + 32 && cw_deflate_bound(n) >= last);
        last = cw_deflate_bound(n);
    }
    CHECK(cw_deflate_bound(SIZE_MAX) == SIZE_MAX);
    CHECK(cw_deflate_bound(SIZE_MAX - 32) == SIZE_MAX);
    CHECK(cw_deflate_bound(SIZE_MAX / 10 * 9) == SIZE_MAX);
    CHECK(cw_deflate_bound(SIZE_MAX / 2) < SIZE_MAX / 8 * 5);
}

/* ---------------------------------------------------------------- use and memory */

static void test_less_room_than_the_bound_is_refused_and_takes_nothing(void) {
    ledger l;
    cw_deflate deflate;
    uint8_t to[64];
    size_t made = 9;
    bytes b;
    CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), 15, 1, 6), CW_OK);
    for (size_t room = 0; room < cw_deflate_bound(5); room++) {
        CHECK_EQ(cw_deflate_message(&deflate, (const uint8_t *)"Hello", 5, to, room, &made),
                 CW_FULL);
        CHECK_EQ(made, 0);
    }
    CHECK_EQ(cw_deflate_message(&deflate, NULL, 0, to, cw_deflate_bound(0) - 1, &made), CW_FULL);
    b = compressed(&deflate, "Hello", 5);
    CHECK_EQ(b.n, 7); /* nothing stands in the window yet */
    bytes_free(&b);
    cw_deflate_close(&deflate);
    ledger_is_settled(&l);
}

static void test_memory_that_runs_out_at_any_block_is_told_and_none_is_lost(void) {
    int was_opened = 0;
    for (long dry_at = 0; !was_opened; dry_at++) {
        ledger l;
        cw_deflate deflate;
        int code = cw_deflate_open(&deflate, ledger_lend(&l, dry_at), 15, 1, 6);
        CHECK(code == CW_OK || code == CW_E_MEMORY);
        CHECK_EQ(deflate.stream != NULL, code == CW_OK);
        was_opened = code == CW_OK;
        if (was_opened) { /* then a message needs no more */
            bytes b = compressed(&deflate, TICKER, strlen(TICKER));
            CHECK_EQ(l.asked, dry_at);
            CHECK(dry_at >= 2);
            CHECK(l.bytes_max <= 272 << 10);
            bytes_free(&b);
        }
        cw_deflate_close(&deflate);
        ledger_is_settled(&l);
    }
}

static void test_what_is_closed_writes_nothing_and_may_be_closed_again(void) {
    cw_deflate deflate = {0};
    ledger l;
    uint8_t to[64];
    size_t made = 9;
    cw_deflate_close(&deflate);
    CHECK_EQ(cw_deflate_message(&deflate, (const uint8_t *)"a", 1, to, sizeof to, &made), CW_FULL);
    CHECK_EQ(made, 0);
    CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), 9, 1, 1), CW_OK);
    cw_deflate_close(&deflate);
    cw_deflate_close(&deflate);
    ledger_is_settled(&l);
}

static void test_windows_and_levels_that_zlib_cannot_write_are_refused(void) {
    for (int bits = -16; bits < 40; bits++)
        for (int level = -2; level <= 10; level++) {
            cw_deflate deflate;
            ledger l;
            int is_good = bits >= 9 && bits <= 15 && level >= -1 && level <= 9;
            check_note("%d bits, level %d", bits, level);
            CHECK_EQ(cw_deflate_open(&deflate, ledger_lend(&l, NEVER), bits, 1, level),
                     is_good ? CW_OK : CW_FULL);
            cw_deflate_close(&deflate);
            ledger_is_settled(&l);
        }
}

int main(void) {
    RUN(test_every_window_and_level_is_read_by_zlib);
    RUN(test_the_messages_of_the_standard_are_written);
    RUN(test_without_context_equal_messages_become_equal_bytes);
    RUN(test_no_distance_is_beyond_the_window);
    RUN(test_the_bound_holds_for_every_setting_of_zlib);
    RUN(test_the_bound_holds_for_long_noise);
    RUN(test_the_bound_never_wraps_around);
    RUN(test_less_room_than_the_bound_is_refused_and_takes_nothing);
    RUN(test_memory_that_runs_out_at_any_block_is_told_and_none_is_lost);
    RUN(test_what_is_closed_writes_nothing_and_may_be_closed_again);
    RUN(test_windows_and_levels_that_zlib_cannot_write_are_refused);
    return 0;
}
