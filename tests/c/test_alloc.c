/* test_alloc.c — nothing allocates after start: a million messages of two venues go from the
 * receive buffer to the ring, many of them crossing, while malloc and its kin are counted.
 *
 * The allocator of this program is the one below; it stands in for the C library's, so that calls
 * from anywhere in the process are seen. Built without sanitizers, which bring their own. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crosswire/line.h"
#include "fixture.h"

/* ---- an allocator that counts, and gives nothing back ---- */

static uint8_t arena[64 << 20] __attribute__((aligned(64)));
static size_t arena_used;
static uint64_t calls;

static void *give(size_t alignment, size_t n) {
    size_t at = (arena_used + 16 + alignment - 1) & ~(alignment - 1);
    calls++;
    if (at + n > sizeof arena) return NULL;
    memcpy(arena + at - 8, &n, sizeof n);
    arena_used = at + n;
    return arena + at;
}

void *malloc(size_t n) { return give(16, n); }
void *calloc(size_t count, size_t n) { return give(16, count * n); } /* the arena is zero */
void *aligned_alloc(size_t alignment, size_t n) { return give(alignment, n); }
void *memalign(size_t alignment, size_t n);
void *memalign(size_t alignment, size_t n) { return give(alignment, n); }
int posix_memalign(void **p, size_t alignment, size_t n) {
    *p = give(alignment, n);
    return *p ? 0 : ENOMEM;
}
void free(void *p) { calls += p != NULL; }
void *realloc(void *p, size_t n) {
    uint8_t *to = give(16, n);
    size_t had = 0;
    if (p) memcpy(&had, (uint8_t *)p - 8, sizeof had);
    if (to && had) memcpy(to, p, had < n ? had : n);
    return to;
}

/* ---- two venues ---- */

enum { MESSAGES = 1000000, PREPARED = 5000, READ = 6000 };

static uint64_t signals[4], fed_bits;

static void put_quote(bytes *out, int venue, uint32_t symbol, uint32_t turn) {
    char text[512];
    unsigned bid = 10000 + turn * 7919 % 61;
    int n = venue == 0
                ? snprintf(text, sizeof text,
                           "{\"stream\":\"x@bookTicker\",\"data\":{\"u\":%u,\"s\":\"%s\",\"b\":"
                           "\"%u.%02u\",\"B\":\"1.5\",\"a\":\"%u.%02u\",\"A\":\"2.25\"}}",
                           turn + 1, SPOT_SYMBOLS[symbol], bid / 100, bid % 100, (bid + 3) / 100,
                           (bid + 3) % 100)
                : snprintf(text, sizeof text,
                           "{\"arg\":{\"channel\":\"bbo-tbt\",\"instId\":\"%s\"},\"data\":[{"
                           "\"asks\":[[\"%u.%02u\",\"1.5\",\"0\",\"3\"]],\"bids\":[[\"%u.%02u\","
                           "\"2\",\"0\",\"3\"]],\"ts\":\"1654032991947\",\"seqId\":%u}]}",
                           OKX_SYMBOLS[symbol], (bid + 3) / 100, (bid + 3) % 100, bid / 100,
                           bid % 100, turn + 1);
    put_frame(out, 0x81, NULL, text, (size_t)n);
}

static void put_trade(bytes *out, int venue, uint32_t symbol, uint32_t turn) {
    char text[512];
    int n = venue == 0
                ? snprintf(text, sizeof text,
                           "{\"e\":\"trade\",\"E\":1723161255343,\"s\":\"%s\",\"t\":%u,\"p\":"
                           "\"61837.63000000\",\"q\":\"0.02\",\"T\":1723161255342,\"m\":true}",
                           SPOT_SYMBOLS[symbol], turn)
                : snprintf(text, sizeof text,
                           "{\"arg\":{\"channel\":\"trades\",\"instId\":\"%s\"},\"data\":[{"
                           "\"tradeId\":\"%u\",\"px\":\"64040.2\",\"sz\":\"0.00240857\",\"side\":"
                           "\"sell\",\"ts\":\"1786538760218\",\"count\":\"2\"},{\"tradeId\":\"1\","
                           "\"px\":\"1\",\"sz\":\"2\",\"side\":\"buy\",\"ts\":\"1786538760218\"}]}",
                           OKX_SYMBOLS[symbol], turn);
    put_frame(out, 0x81, NULL, text, (size_t)n);
}

static void prepare(bytes *out, int venue) {
    dice d = {(uint64_t)venue + 1};
    for (uint32_t turn = 0; turn < PREPARED; turn++) {
        if (turn % 97 == 0) put_frame(out, 0x89, NULL, "ping", 4);
        if (turn % 5 == 4) put_trade(out, venue, below(&d, 2), turn);
        else put_quote(out, venue, below(&d, 2), turn + 31 * (uint32_t)venue);
    }
}

static void drain(cw_engine *engine, cw_line *line) {
    uint32_t count;
    for (;;) {
        const cw_signal *s = cw_ring_peek(&engine->ring, &count);
        if (count == 0) break;
        for (uint32_t i = 0; i < count; i++) signals[s[i].event]++;
        cw_ring_release(&engine->ring, count);
    }
    engine->quotes.count = engine->trades.count = 0;
    line->inbox_len = 0;
}

static void feed(cw_engine *engine, cw_line *line, const uint8_t *p, size_t n, int64_t now) {
    while (n) {
        uint32_t free_size, piece, fed;
        uint8_t *to = cw_line_tail(line, &free_size);
        piece = free_size < n ? free_size : (uint32_t)n;
        memcpy(to, p, piece);
        p += piece;
        n -= piece;
        fed = cw_line_feed(line, piece, now, now);
        for (;;) {
            fed_bits |= fed;
            drain(engine, line);
            if (!(fed & CW_FED_MORE)) break;
            fed = cw_line_feed(line, 0, now, now);
        }
    }
}

static cw_engine *make_engine(void) {
    cw_limits limits = {.instruments = 4, .pairs = 2, .lines = 2, .venues = 2, .signals = 64};
    cw_pair_terms pairs[2] = {{.a = 0, .b = 2, .rule_id = 1, .qty_max = INFINITY},
                              {.a = 1, .b = 3, .rule_id = 2, .qty_max = INFINITY}};
    cw_engine *engine = cw_engine_init(aligned_alloc(64, cw_engine_size(&limits)), &limits,
                                       cw_ops_for(cw_level_best()));
    for (uint16_t v = 0; v < 2; v++) {
        uint16_t venue;
        CHECK_EQ(cw_engine_add_venue(engine, v ? &OKX : &SPOT, 1000000000, 1.0, 0, &venue), CW_OK);
        for (uint32_t i = 0, id; i < 2; i++) {
            const char *symbol = (v ? OKX_SYMBOLS : SPOT_SYMBOLS)[i];
            CHECK_EQ(cw_engine_add_instrument(engine, venue, (const uint8_t *)symbol,
                                              (uint32_t)strlen(symbol), 1.0, 1.0, &id),
                     CW_OK);
        }
    }
    CHECK_EQ(cw_engine_set_pairs(engine, pairs, 2), CW_OK);
    engine->quotes = (cw_batch){aligned_alloc(64, 4 * sizeof(cw_record)), 0, 4};
    engine->trades = (cw_batch){aligned_alloc(64, 4 * sizeof(cw_record)), 0, 4};
    return engine;
}

static void make_line(cw_line *line, cw_engine *engine, uint16_t venue) {
    cw_line_memory memory = {.receiver = {.role = CW_CLIENT,
                                          .rx = malloc(cw_buffer_size(1 << 14)),
                                          .rx_capacity = 1 << 14,
                                          .small = malloc(cw_buffer_size(4096)),
                                          .small_size = 4096,
                                          .message_max = 65536,
                                          .fragments_max = 64},
                             .inbox_capacity = 4096,
                             .inbox = malloc(4096)};
    CHECK_EQ(cw_line_init(line, engine, venue, &memory), CW_OK);
    cw_line_open(line, 1, 1);
}

static void test_a_million_messages_allocate_nothing(void) {
    bytes streams[2] = {{0}, {0}};
    cw_line *lines[2];
    cw_engine *engine = make_engine();
    size_t at[2] = {0, 0};
    uint64_t before;
    int64_t now = 1000;
    for (int v = 0; v < 2; v++) {
        prepare(&streams[v], v);
        lines[v] = aligned_alloc(64, sizeof(cw_line));
        make_line(lines[v], engine, (uint16_t)v);
    }
    CHECK(calls > 0); /* the counter counts */
    before = calls;
    for (uint32_t turn = 0; engine->messages < MESSAGES; turn++) {
        int v = turn & 1;
        size_t n = streams[v].n - at[v] < READ ? streams[v].n - at[v] : READ;
        feed(engine, lines[v], streams[v].p + at[v], n, now);
        at[v] = (at[v] + n) % streams[v].n;
        now += 1000;
    }
    CHECK_EQ(calls, before);
    CHECK_EQ(lines[0]->error_count + lines[1]->error_count, 0);
    CHECK_EQ(lines[0]->is_done + lines[1]->is_done, 0);
    CHECK_EQ(engine->ring.refused, 0);
    CHECK(signals[CW_SIGNAL_OPEN] > 10000 && signals[CW_SIGNAL_CLOSE] > 10000);
    CHECK((fed_bits & (CW_FED_SIGNALS | CW_FED_CONTROL | CW_FED_RECORDS)) ==
          (CW_FED_SIGNALS | CW_FED_CONTROL | CW_FED_RECORDS));
    printf("   %llu messages, %llu signals opened, %llu updated, %llu closed, %llu allocations\n",
           (unsigned long long)engine->messages, (unsigned long long)signals[CW_SIGNAL_OPEN],
           (unsigned long long)signals[CW_SIGNAL_UPDATE],
           (unsigned long long)signals[CW_SIGNAL_CLOSE], (unsigned long long)(calls - before));
}

int main(void) {
    RUN(test_a_million_messages_allocate_nothing);
    return 0;
}
