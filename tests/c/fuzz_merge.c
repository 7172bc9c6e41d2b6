/* fuzz_merge.c — lines of one group that are opened, cover, fall silent and are lost in any order:
 * no trade is handed over twice, the key of a top never falls while a line carries it, and nothing is
 * readable that no line carries, that is stale, or that is lost.
 *
 * An input is pairs of bytes. The first one's low two bits name a line, the next four what happens:
 * 0 to 5 a quote, 6 to 9 a trade, 10 open, 11 lose, 12 cover, 13 time passes, 14 a message that cannot
 * be read, 15 a frame that breaks the connection. The second byte is the number of a quote or trade,
 * whose lowest bit is the instrument, or the time. */
#include "session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES = 3, IDS = 256 };

typedef struct world {
    void *memory;
    cw_engine *engine;
    cw_line lines[LINES];
    cw_line_memory memories[LINES];
    cw_merged merged[LINES];
    cw_record quotes[2], trades[2];
    uint8_t came[IDS];
    int64_t now;
} world;

static void line_make(world *self, int i) {
    self->memories[i] = (cw_line_memory){.receiver = {.role = CW_CLIENT,
                                                      .rx = malloc(cw_buffer_size(1024)),
                                                      .rx_capacity = 1024,
                                                      .small = malloc(cw_buffer_size(256)),
                                                      .small_size = 256,
                                                      .heap = {resize_block, NULL},
                                                      .message_max = 1024,
                                                      .fragments_max = 16},
                                         .inbox = malloc(1024),
                                         .inbox_capacity = 1024};
    CHECK_EQ(cw_line_init(&self->lines[i], self->engine, 0, &self->memories[i]), CW_OK);
    CHECK_EQ(cw_line_join(&self->lines[i], 1, &self->merged[i]), CW_OK);
}

static void world_make(world *self) {
    cw_limits limits = {.instruments = 2, .pairs = 1, .lines = LINES, .venues = 1, .signals = 16};
    cw_pair_terms pair = {.a = 0, .b = 1, .rule_id = 1, .open_net_bps = -4000,
                          .close_net_bps = -4500, .qty_max = INFINITY};
    uint16_t venue;
    memset(self, 0, sizeof *self);
    self->memory = take_aligned(cw_engine_size(&limits));
    self->engine = cw_engine_init(self->memory, &limits, cw_ops_for(CW_LEVEL_AVX512));
    CHECK_EQ(cw_engine_add_venue(self->engine, &SPOT, 1000, 1.0, 1, &venue), CW_OK);
    cw_engine_set_merge_key(self->engine, venue, CW_MERGE_SEQ);
    cw_engine_set_data_limit(self->engine, venue, 700);
    for (uint32_t i = 0, id; i < 2; i++)
        CHECK_EQ(cw_engine_add_instrument(self->engine, venue, (const uint8_t *)SPOT_SYMBOLS[i],
                                          (uint32_t)strlen(SPOT_SYMBOLS[i]), 1.0, 1.0, &id),
                 CW_OK);
    CHECK_EQ(cw_engine_set_pairs(self->engine, &pair, 1), CW_OK);
    self->engine->quotes = (cw_batch){self->quotes, 0, 2};
    self->engine->trades = (cw_batch){self->trades, 0, 2};
    for (int i = 0; i < LINES; i++) line_make(self, i);
}

static void world_free(world *self) {
    for (int i = 0; i < LINES; i++) {
        cw_line_close(&self->lines[i]);
        free(self->memories[i].receiver.rx);
        free(self->memories[i].receiver.small);
        free(self->memories[i].inbox);
    }
    free(self->memory);
}

/* ---- what must hold ---- */

static const cw_pulse *owner_of(const world *self, const cw_top *top) {
    const cw_pulse *owner = top->line == CW_NO_LINE ? NULL : &self->engine->pulses[top->line];
    return owner && owner->is_open && owner->epoch == top->epoch ? owner : NULL;
}

static void check_readable(const world *self) {
    for (uint32_t i = 0; i < 2; i++) {
        const cw_top *top = &self->engine->books.tops[i];
        const cw_pulse *owner = owner_of(self, top);
        cw_loss loss;
        if (self->engine->books.net_ask[i] == INFINITY) continue;
        CHECK(top->is_valid && top->is_live && !top->is_stale);
        CHECK(self->engine->now.mono_rx <= self->engine->streams[i].end_mono);
        if (cw_watch_open_loss(self->engine, i, CW_QUOTE, &loss)) CHECK_EQ(loss.cause, CW_LOSS_SILENT);
        CHECK(owner && owner->is_live);
        CHECK(self->engine->now.mono_rx <= cw_pulse_end(owner));
    }
}

static void drain_all(world *self) {
    uint32_t count;
    cw_loss loss;
    while (cw_ring_peek(&self->engine->ring, &count), count)
        cw_ring_release(&self->engine->ring, count);
    for (uint32_t i = 0; i < self->engine->trades.count; i++) {
        const cw_trade *trade = &self->engine->trades.rows[i].trade;
        CHECK_EQ(self->came[trade->trade_id], 0);
        self->came[trade->trade_id] = 1;
    }
    self->engine->quotes.count = self->engine->trades.count = 0;
    CHECK_EQ(self->engine->ring.refused, 0);
    while (cw_losses_take(&self->engine->losses, &loss)) {
        CHECK(loss.cause >= CW_LOSS_LOST && loss.cause <= CW_LOSS_STALE);
        CHECK(loss.last_good_ts < loss.first_good_ts && loss.first_good_ts <= self->now);
        CHECK(loss.instrument < 2 && loss.line < LINES);
    }
}

/* Whoever carried a top before, its key is not below what it was. */
static void check_keys(const world *self, const cw_top before[2], const int was_carried[2]) {
    for (uint32_t i = 0; i < 2; i++)
        if (was_carried[i]) CHECK(self->engine->books.tops[i].seq >= before[i].seq);
}

/* ---- what happens ---- */

static void feed(world *self, cw_line *line, const bytes *stream) {
    uint32_t free_size, fed;
    uint8_t *to;
    if (line->is_done || !self->engine->pulses[line->id].is_open) return;
    to = cw_line_tail(line, &free_size);
    CHECK(free_size >= stream->n);
    memcpy(to, stream->p, stream->n);
    fed = cw_line_feed(line, (uint32_t)stream->n, self->now, self->now);
    drain_all(self);
    while (fed & CW_FED_MORE) {
        fed = cw_line_feed(line, 0, self->now, self->now);
        drain_all(self);
    }
}

static void feed_text(world *self, cw_line *line, const char *format, unsigned number) {
    bytes stream = {0}, text = {0};
    put_format(&text, format, number, SPOT_SYMBOLS[number & 1], number + 100, number + 101);
    put_frame(&stream, 0x81, NULL, text.p, text.n);
    feed(self, line, &stream);
    bytes_free(&text);
    bytes_free(&stream);
}

static void happen(world *self, uint8_t what, uint8_t number) {
    cw_line *line = &self->lines[(what & 3) % LINES];
    uint8_t event = what >> 2 & 15;
    if (event < 6) {
        feed_text(self, line, "{\"u\":%u,\"s\":\"%s\",\"b\":\"%u\",\"B\":\"1\",\"a\":\"%u\","
                              "\"A\":\"1\"}", number + 1u);
    } else if (event < 10) {
        feed_text(self, line, "{\"e\":\"trade\",\"t\":%u,\"s\":\"%s\",\"p\":\"%u\",\"q\":\"%u\","
                              "\"T\":1723161255342,\"m\":true}", number);
    } else if (event == 10) {
        cw_line_open(line, self->now, self->now);
    } else if (event == 11) {
        (void)cw_line_lose(line, self->now, self->now);
    } else if (event == 12) {
        cw_line_cover(line, self->now, self->now);
    } else if (event == 13) {
        self->now += 5 * number;
        (void)cw_engine_advance(self->engine, self->now, self->now);
    } else if (event == 14) {
        feed_text(self, line, number & 2 ? "{\"u\":%u,\"s\":\"%s\",\"b\":%u}" : "{%u", number);
    } else {
        bytes stream = {0};
        put_frame(&stream, number & 1 ? 0x88 : 0xF1, NULL, "", 0);
        feed(self, line, &stream);
        bytes_free(&stream);
    }
    drain_all(self);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static world w;
    world_make(&w);
    for (size_t at = 0; at + 1 < size; at += 2) {
        cw_top before[2];
        int was_carried[2];
        for (uint32_t i = 0; i < 2; i++) {
            before[i] = w.engine->books.tops[i];
            was_carried[i] = owner_of(&w, &before[i]) != NULL;
        }
        w.now++;
        happen(&w, data[at], data[at + 1]);
        check_note("pair %zu of %zu", at / 2, size / 2);
        /* a line that is lost without a twin lets go, and what comes next may be of any key */
        check_keys(&w, before, was_carried);
        (void)cw_engine_advance(w.engine, w.now, w.now);
        drain_all(&w);
        check_readable(&w);
    }
    world_free(&w);
    return 0;
}
