/* session.h — an engine with lines, and an owner that reads as line.h tells: one stamp per read,
 * n = 0 while CW_FED_MORE, everything drained in between. What came out is kept in logs that two
 * sessions can be compared by. All memory is on the heap in blocks of its exact size. */
#ifndef CROSSWIRE_TESTS_SESSION_H
#define CROSSWIRE_TESTS_SESSION_H

#include <math.h>

#include "fixture.h"

typedef struct options {
    const cw_layout *layout;
    const char *const *symbols;
    cw_role role;
    cw_level level;
    uint32_t rx_capacity, small_size, message_max, fragments_max, controls_max, inbox_capacity;
    uint32_t signals, batch; /* batch 0: no rows are kept */
    uint32_t instruments;    /* room for so many, symbols included */
    int predicts, takes_unknown, latest_only;
    int pairs; /* instruments 0 and 1 cross at any edge above -1000 bps */
} options;

static options usual(const cw_layout *layout) {
    return (options){.layout = layout,
                     .symbols = layout == &OKX ? OKX_SYMBOLS : SPOT_SYMBOLS,
                     .role = CW_CLIENT,
                     .level = CW_LEVEL_AVX512,
                     .rx_capacity = 4096,
                     .small_size = 512,
                     .message_max = 8192,
                     .fragments_max = 16,
                     .inbox_capacity = 4096,
                     .signals = 16,
                     .batch = 4,
                     .instruments = 8,
                     .predicts = 1,
                     .pairs = 1};
}

typedef struct session {
    options options;
    void *engine_memory;
    cw_engine *engine;
    cw_line line;
    cw_line_memory memory;
    bytes quotes, trades, signals, inbox;
    uint32_t fed;     /* bits of all calls together */
    uint32_t more;    /* how often CW_FED_MORE was said */
    uint32_t records; /* how often CW_FED_RECORDS was said */
} session;

static void *take_aligned(size_t n) {
    void *p = aligned_alloc(CW_CACHE_LINE, (n + 63) & ~(size_t)63);
    CHECK(p != NULL);
    memset(p, 0, n);
    return p;
}

static cw_batch batch_of(uint32_t capacity) {
    return (cw_batch){capacity ? take_aligned(capacity * sizeof(cw_record)) : NULL, 0, capacity};
}

static const int64_t LIMIT_NS = 1000000;

/* The C library's own allocator as a heap; the address sanitizer finds what is not given back. */
static void *resize_block(void *user, void *block, size_t size) {
    (void)user;
    if (size) return realloc(block, size);
    free(block);
    return NULL;
}

static void session_open(session *self, const options *o) {
    cw_limits limits = {.instruments = o->instruments, .pairs = 4, .lines = 2, .venues = 2,
                        .signals = o->signals};
    cw_pair_terms pair = {.a = 0, .b = 1, .rule_id = 1, .open_net_bps = -1000,
                          .close_net_bps = -2000, .qty_max = INFINITY};
    uint16_t venue;
    memset(self, 0, sizeof *self);
    self->options = *o;
    self->engine_memory = take_aligned(cw_engine_size(&limits));
    self->engine = cw_engine_init(self->engine_memory, &limits, cw_ops_for(o->level));
    self->engine->takes_unknown = (uint8_t)o->takes_unknown;
    self->engine->latest_only = (uint8_t)o->latest_only;
    CHECK_EQ(cw_engine_add_venue(self->engine, o->layout, LIMIT_NS, 10.0, 0, &venue), CW_OK);
    for (uint32_t i = 0, id; o->symbols[i]; i++)
        CHECK_EQ(cw_engine_add_instrument(self->engine, venue, (const uint8_t *)o->symbols[i],
                                          (uint32_t)strlen(o->symbols[i]), 10.0, 1.0, &id),
                 CW_OK);
    if (o->pairs) CHECK_EQ(cw_engine_set_pairs(self->engine, &pair, 1), CW_OK);
    self->engine->quotes = batch_of(o->batch);
    self->engine->trades = batch_of(o->batch);
    self->memory = (cw_line_memory){.receiver = {.role = o->role,
                                                 .rx = malloc(cw_buffer_size(o->rx_capacity)),
                                                 .rx_capacity = o->rx_capacity,
                                                 .small = malloc(cw_buffer_size(o->small_size)),
                                                 .small_size = o->small_size,
                                                 .heap = {resize_block, NULL},
                                                 .message_max = o->message_max,
                                                 .fragments_max = o->fragments_max,
                                                 .controls_max = o->controls_max},
                                    .inbox = malloc(o->inbox_capacity),
                                    .inbox_capacity = o->inbox_capacity};
    CHECK_EQ(cw_line_init(&self->line, self->engine, venue, &self->memory), CW_OK);
    self->line.scanner.predicts = (uint8_t)o->predicts;
    cw_line_open(&self->line, 1, 1);
}

static void session_close(session *self) {
    free(self->engine->quotes.rows);
    free(self->engine->trades.rows);
    cw_line_close(&self->line);
    free(self->memory.receiver.rx);
    free(self->memory.receiver.small);
    free(self->memory.inbox);
    free(self->engine_memory);
    bytes_free(&self->quotes);
    bytes_free(&self->trades);
    bytes_free(&self->signals);
    bytes_free(&self->inbox);
}

/* ---- the owner ---- */

static void drain_batch(cw_batch *batch, bytes *log) {
    CHECK(batch->count <= batch->capacity);
    if (batch->count) put(log, batch->rows, batch->count * sizeof(cw_record));
    batch->count = 0;
}

static void drain_signals(session *self) {
    uint32_t count;
    for (;;) {
        const cw_signal *s = cw_ring_peek(&self->engine->ring, &count);
        if (count == 0) return;
        put(&self->signals, s, count * sizeof *s);
        cw_ring_release(&self->engine->ring, count);
    }
}

/* Entries are kept without their padding, whose contents are nobody's. */
static void drain_inbox(session *self) {
    uint32_t at = 0;
    CHECK(self->line.inbox_len <= self->line.inbox_capacity);
    while (at < self->line.inbox_len) {
        cw_inbox_entry entry;
        CHECK(self->line.inbox_len - at >= sizeof entry);
        memcpy(&entry, self->line.inbox + at, sizeof entry);
        CHECK(entry.len <= self->line.inbox_len - at - sizeof entry);
        put(&self->inbox, &entry, sizeof entry);
        put(&self->inbox, self->line.inbox + at + sizeof entry, entry.len);
        at += (uint32_t)sizeof entry + ((entry.len + 3) & ~3u);
    }
    CHECK_EQ(at, self->line.inbox_len);
    self->line.inbox_len = 0;
}

static void drain(session *self) {
    drain_batch(&self->engine->quotes, &self->quotes);
    drain_batch(&self->engine->trades, &self->trades);
    drain_signals(self);
    drain_inbox(self);
}

static void check_fed(const session *self, uint32_t fed) {
    const cw_engine *engine = self->engine;
    CHECK((fed & ~(CW_FED_MORE | CW_FED_SIGNALS | CW_FED_CONTROL | CW_FED_RECORDS |
                   CW_FED_BROKEN | CW_FED_CLOSED)) == 0);
    CHECK_EQ((fed & CW_FED_SIGNALS) != 0, engine->ring.head != engine->ring.tail);
    CHECK_EQ((fed & CW_FED_CONTROL) != 0, self->line.inbox_len != 0);
    if (fed & CW_FED_RECORDS)
        CHECK(engine->quotes.count == self->options.batch ||
              engine->trades.count == self->options.batch);
    if (fed & (CW_FED_BROKEN | CW_FED_CLOSED)) CHECK(self->line.is_done);
    if (fed & CW_FED_BROKEN) CHECK(cw_code_name(self->line.receiver.error.code) != NULL);
    CHECK_EQ(engine->ring.refused, 0);
    CHECK(self->line.receiver.rx.consumed <= self->line.receiver.rx.parsed &&
          self->line.receiver.rx.parsed <= self->line.receiver.rx.received &&
          self->line.receiver.rx.received <= self->line.receiver.rx.capacity);
}

/* Feed one read and drain until nothing more is to be said. */
static void receive_stamped(session *self, const uint8_t *p, size_t n, int64_t ts, int64_t mono) {
    while (n && !self->line.is_done) {
        uint32_t free_size, piece, fed;
        uint8_t *to = cw_line_tail(&self->line, &free_size);
        CHECK(free_size > 0);
        piece = free_size < n ? free_size : (uint32_t)n;
        memcpy(to, p, piece);
        p += piece;
        n -= piece;
        fed = cw_line_feed(&self->line, piece, ts, mono);
        for (uint32_t calls = 0;; calls++) {
            CHECK(calls < 100000);
            check_fed(self, fed);
            self->fed |= fed;
            self->more += (fed & CW_FED_MORE) != 0;
            self->records += (fed & CW_FED_RECORDS) != 0;
            drain(self);
            if (!(fed & CW_FED_MORE)) break;
            fed = cw_line_feed(&self->line, 0, ts, mono);
        }
    }
}

static void receive(session *self, const void *p, size_t n) {
    receive_stamped(self, p, n, 1000, 1000);
}

/* ---- comparing ---- */

static void check_log(const char *what, const bytes *a, const bytes *b) {
    if (a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0)) return;
    fprintf(stderr, "the %s differ: %zu and %zu bytes\n", what, a->n, b->n);
    CHECK(!"both sessions say the same");
}

/* All that does not depend on how the stream was cut. */
static void check_same(const session *a, const session *b) {
    check_log("quotes", &a->quotes, &b->quotes);
    check_log("trades", &a->trades, &b->trades);
    check_log("signals", &a->signals, &b->signals);
    check_log("inbox entries", &a->inbox, &b->inbox);
    CHECK_EQ(a->line.is_done, b->line.is_done);
    CHECK_EQ(a->line.receiver.has_close, b->line.receiver.has_close);
    CHECK_EQ(a->line.receiver.error.code, b->line.receiver.error.code);
    CHECK_EQ(a->line.receiver.error.at, b->line.receiver.error.at);
    CHECK_EQ(a->line.receiver.frames, b->line.receiver.frames);
    CHECK_EQ(a->line.messages, b->line.messages);
    CHECK_EQ(a->line.inbox_count, b->line.inbox_count);
    CHECK_EQ(a->line.error_count, b->line.error_count);
    CHECK_BYTES(a->line.errors, b->line.errors, sizeof a->line.errors);
    CHECK_EQ(a->engine->messages, b->engine->messages);
    CHECK_BYTES(a->engine->errors, b->engine->errors, sizeof a->engine->errors);
    CHECK_EQ(a->engine->instrument_count, b->engine->instrument_count);
    CHECK_BYTES(a->engine->counts, b->engine->counts,
                sizeof(uint64_t) * CW_KINDS * a->engine->instrument_count);
    for (uint32_t i = 0; i < a->engine->books.count; i++)
        CHECK_BYTES(&a->engine->books.tops[i], &b->engine->books.tops[i], sizeof(cw_top));
    CHECK_EQ(a->engine->ring.head, b->engine->ring.head);
    if (!a->line.is_done) {
        CHECK_EQ(a->line.bytes, b->line.bytes);
        CHECK_EQ(a->line.receiver.stream_at + a->line.receiver.rx.parsed,
                 b->line.receiver.stream_at + b->line.receiver.rx.parsed);
    }
}

#endif
