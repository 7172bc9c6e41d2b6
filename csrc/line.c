/* line.c — a line's life and its reads; what is parsed on the way is in line_body.h. */
#include "crosswire/line.h"

/* ---- life ---- */

int cw_line_init(cw_line *self, cw_engine *engine, uint16_t venue,
                 const cw_line_memory *memory) {
    cw_receiver_terms terms = memory->receiver;
    int code;
    if (engine->line_count == engine->limits.lines || venue >= engine->venue_count)
        return CW_FULL;
    if (memory->inbox_capacity < CW_LINE_INBOX_MIN) return CW_E_FRAME_TOO_BIG;
    memset(self, 0, sizeof *self);
    terms.checks_text = 0; /* the scanner does, on its way */
    code = cw_receiver_init(&self->receiver, engine->ops, &terms);
    if (code != CW_OK) return code;
    self->engine = engine;
    self->inbox = memory->inbox;
    self->inbox_capacity = memory->inbox_capacity;
    self->id = engine->line_count++;
    engine->pulses[self->id].venue = venue;
    engine->pulses[self->id].limit_ns = engine->venues[venue].liveness_limit_ns;
    self->scanner.layout = engine->venues[venue].layout;
    self->scanner.symbols = &engine->venues[venue].symbols;
    self->scanner.venue = venue;
    self->scanner.predicts = 1;
    if (engine->takes_unknown) {
        self->scanner.instrument_next = &engine->instrument_count;
        self->scanner.instrument_limit = engine->limits.instruments;
    }
    cw_scanner_reset(&self->scanner);
    return CW_OK;
}

int cw_line_join(cw_line *self, uint16_t group, cw_merged *merged) {
    int code = cw_group_join(self->engine, self->id, group, merged);
    self->is_merged = code == CW_OK;
    return code;
}

void cw_line_open(cw_line *self, int64_t ts_now, int64_t mono_now) {
    cw_receiver_open(&self->receiver);
    self->inbox_len = 0;
    self->is_done = self->has_held = 0;
    self->scanner.next_at = NULL;
    cw_engine_open_line(self->engine, self->id, ts_now, mono_now);
}

void cw_line_close(cw_line *self) { cw_receiver_close(&self->receiver); }

void cw_line_cover(cw_line *self, int64_t ts_now, int64_t mono_now) {
    if (!self->is_done) cw_engine_cover(self->engine, self->id, ts_now, mono_now);
}

uint32_t cw_line_lose(cw_line *self, int64_t ts_now, int64_t mono_now) {
    self->is_done = 1;
    self->scanner.next_at = NULL;
    return cw_engine_lose_line(self->engine, self->id, ts_now, mono_now);
}

uint8_t *cw_line_tail(cw_line *self, uint32_t *free_size) {
    return cw_receiver_tail(&self->receiver, free_size);
}

uint32_t cw_line_break(cw_line *self) {
    self->engine->errors[self->receiver.error.code - CW_E_FIRST]++;
    self->is_done = 1;
    cw_engine_end_line(self->engine, self->id);
    return CW_FED_BROKEN;
}

/* ---- feeding ---- */

/* Move the clock to the read and note that the line has spoken. Returns signals written. */
static uint32_t begin_read(cw_line *self, uint32_t n, int64_t ts_rx, int64_t mono_rx) {
    cw_engine *engine = self->engine;
    uint32_t written;
    self->bytes += n;
    engine->is_sampling = engine->clock.now_ns && engine->reads % CW_SAMPLE_EVERY == 0;
    engine->reads++;
    written = cw_engine_advance(engine, ts_rx, mono_rx);
    cw_engine_hear(engine, self->id);
    return written;
}

uint32_t cw_line_feed(cw_line *self, uint32_t n, int64_t ts_rx, int64_t mono_rx) {
    uint32_t fed, written = 0;
    if (self->is_done) return 0;
    if (cw_receiver_commit(&self->receiver, n) != CW_OK) return cw_line_break(self);
    if (n) written = begin_read(self, n, ts_rx, mono_rx);
    fed = self->engine->ops->parse(self, written);
    if (self->engine->ring.head != self->engine->ring.tail) fed |= CW_FED_SIGNALS;
    if (self->inbox_len) fed |= CW_FED_CONTROL;
    return fed;
}
