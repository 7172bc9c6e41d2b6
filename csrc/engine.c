/* engine.c — records to tops to routes, and a clock that moves by stamps only. */
#include "crosswire/engine.h"

#include <math.h>

/* ---- memory: one block, cut into arrays ---- */

static size_t round_up(size_t n) { return (n + CW_CACHE_LINE - 1) & ~(size_t)(CW_CACHE_LINE - 1); }

static int limits_are_sane(const cw_limits *l) {
    return l->instruments && l->instruments <= 1u << 20 && l->pairs <= 1u << 22 && l->lines &&
           l->lines < CW_NO_LINE && l->venues && l->venues <= 256 && l->signals &&
           l->signals <= 1u << 24 && (l->signals & (l->signals - 1)) == 0;
}

/* Slots of a venue's symbol table: a power of two, at least twice the instruments. */
static uint32_t symbol_slots(const cw_limits *limits) {
    uint32_t n = 16;
    while (n < 2 * limits->instruments) n *= 2;
    return n;
}

/* Give the next `size` bytes of the block at *at; only counts when the block is NULL. */
static void *cut(uint8_t *block, size_t *at, size_t size) {
    size_t start = *at;
    *at += round_up(size);
    return block ? block + start : NULL;
}

static size_t lay_out(cw_engine *self, uint8_t *block, const cw_limits *l) {
    size_t at = 0;
    cw_engine counted;
    uint32_t n = l->instruments, slots = symbol_slots(l);
    (void)cut(block, &at, sizeof *self);
    if (!self) self = &counted;
    self->books.tops = cut(block, &at, sizeof(cw_top) * n);
    self->books.net_ask = cut(block, &at, sizeof(double) * n);
    self->books.net_bid = cut(block, &at, sizeof(double) * n);
    self->crosses.routes = cut(block, &at, sizeof(cw_route) * 2 * l->pairs);
    self->crosses.peers = cut(block, &at, sizeof(cw_peer) * 2 * l->pairs);
    self->crosses.peer_first = cut(block, &at, sizeof(uint32_t) * (n + 1));
    self->crosses.open_count = cut(block, &at, sizeof(uint32_t) * n);
    self->ring.slots = cut(block, &at, sizeof(cw_signal) * l->signals);
    self->venues = cut(block, &at, sizeof(cw_venue) * l->venues);
    self->pulses = cut(block, &at, sizeof(cw_pulse) * l->lines);
    self->counts = cut(block, &at, sizeof(uint64_t) * CW_KINDS * n);
    self->streams = cut(block, &at, sizeof(cw_stream) * n);
    self->losses.rows = cut(block, &at, sizeof(cw_loss) * CW_LOSSES);
    for (uint32_t i = 0; i < l->venues; i++) {
        cw_symbol *symbols = cut(block, &at, sizeof(cw_symbol) * slots);
        if (block) cw_symbols_init(&self->venues[i].symbols, symbols, slots);
    }
    return at;
}

size_t cw_engine_size(const cw_limits *limits) {
    return limits_are_sane(limits) ? lay_out(NULL, NULL, limits) : 0;
}

cw_engine *cw_engine_init(void *memory, const cw_limits *limits, const cw_ops *ops) {
    cw_engine *self = memory;
    cw_signal *slots;
    (void)lay_out(self, memory, limits);
    self->ops = ops;
    self->limits = *limits;
    self->books.capacity = limits->instruments;
    self->crosses.pair_capacity = limits->pairs;
    self->crosses.instrument_capacity = limits->instruments;
    slots = self->ring.slots;
    cw_ring_init(&self->ring, slots, limits->signals);
    self->deadline = self->data_deadline = INT64_MAX;
    (void)cw_crosses_set(&self->crosses, NULL, 0);
    return self;
}

/* ---- directory ---- */

int cw_engine_add_venue(cw_engine *self, const cw_layout *layout, int64_t liveness_limit_ns,
                        double fee_bps, int seq_is_rising, uint16_t *id) {
    cw_venue *venue;
    if (self->venue_count == self->limits.venues || !cw_layout_is_valid(layout)) return CW_FULL;
    *id = self->venue_count++;
    venue = &self->venues[*id];
    venue->layout = layout;
    venue->liveness_limit_ns = liveness_limit_ns;
    venue->data_limit_ns = INT64_MAX;
    venue->fee_bps = fee_bps;
    venue->seq_is_rising = seq_is_rising != 0;
    return CW_OK;
}

void cw_engine_set_merge_key(cw_engine *self, uint16_t venue, cw_merge_key key) {
    self->venues[venue].merge_key = (uint8_t)key;
}

void cw_engine_set_data_limit(cw_engine *self, uint16_t venue, int64_t data_limit_ns) {
    self->venues[venue].data_limit_ns = data_limit_ns;
}

static void add_top(cw_engine *self, uint32_t instrument, uint16_t venue, double fee_bps,
                    double multiplier) {
    cw_top_init(&self->books, instrument, venue, fee_bps, multiplier);
    if (self->venues[venue].data_limit_ns != INT64_MAX)
        self->books.tops[instrument].watch = CW_WATCH_DATA;
}

int cw_engine_add_instrument(cw_engine *self, uint16_t venue, const uint8_t *symbol,
                             uint32_t symbol_len, double fee_bps, double multiplier,
                             uint32_t *id) {
    int code;
    if (venue >= self->venue_count || self->instrument_count == self->limits.instruments)
        return CW_FULL;
    code = cw_symbols_add(&self->venues[venue].symbols, symbol, symbol_len,
                          self->instrument_count);
    if (code != CW_OK) return code;
    *id = self->instrument_count++;
    self->books.count = self->instrument_count;
    add_top(self, *id, venue, fee_bps, multiplier);
    return CW_OK;
}

int cw_engine_set_pairs(cw_engine *self, const cw_pair_terms *pairs, uint32_t count) {
    if ((uint64_t)4 * count > self->limits.signals) return CW_FULL;
    for (uint32_t i = 0; i < count; i++)
        if (pairs[i].a >= self->instrument_count || pairs[i].b >= self->instrument_count)
            return CW_FULL;
    return cw_crosses_set(&self->crosses, pairs, count);
}

/* ---- lines and time ---- */

/* Streams of a line are lost, unless a message of theirs was and a twin brings it. */
static void lose_quotes(cw_engine *self, uint32_t instrument, uint16_t line, cw_loss_cause cause) {
    if (cause != CW_LOSS_MESSAGE ||
        cw_engine_twin(self, line, self->streams[instrument].quote_joins) == CW_NO_LINE)
        cw_watch_lose_quotes(self, instrument, line, cause);
}

static void lose_trades(cw_engine *self, uint32_t instrument, uint16_t line, cw_loss_cause cause) {
    if (cause != CW_LOSS_MESSAGE ||
        cw_engine_twin(self, line, self->streams[instrument].trade_joins) == CW_NO_LINE)
        cw_watch_lose_trades(self, instrument, line, cause);
}

/* Do something to everything of a line that no twin takes over, and close what was open on it. */
static uint32_t silence(cw_engine *self, uint16_t line, cw_close_reason reason,
                        cw_loss_cause cause) {
    uint32_t written = 0;
    if (cause != CW_LOSS_MESSAGE && self->pulses[line].group) cw_engine_hand_over(self, line);
    self->now.ts_exch = 0;
    for (uint32_t i = 0; i < self->books.count; i++) {
        cw_top *top = &self->books.tops[i];
        if (self->streams[i].trade_line == line) lose_trades(self, i, line, cause);
        if (top->line != line) continue;
        lose_quotes(self, i, line, cause);
        if (cause == CW_LOSS_LOST) top->is_stale = 0; /* it is lost */
        if (cause == CW_LOSS_SILENT) {
            cw_top_set_live(&self->books, i, 0);
        } else {
            cw_top_invalidate(&self->books, i);
        }
        written += cw_crosses_close(&self->crosses, &self->books, i, reason, &self->now,
                                    &self->ring);
    }
    return written;
}

uint32_t cw_engine_advance(cw_engine *self, int64_t ts_now, int64_t mono_now) {
    uint32_t written = 0;
    cw_engine_move_clock(self, ts_now, mono_now);
    if (CW_LIKELY(self->now.mono_rx <= self->deadline)) return 0;
    self->deadline = INT64_MAX;
    for (uint16_t i = 0; i < self->line_count; i++) {
        cw_pulse *pulse = &self->pulses[i];
        int64_t end;
        if (!pulse->is_open || !pulse->is_live) continue;
        end = cw_pulse_end(pulse);
        if (self->now.mono_rx > end) {
            pulse->is_live = 0;
            written += silence(self, i, CW_CLOSE_LIVENESS, CW_LOSS_SILENT);
        } else if (end < self->deadline) {
            self->deadline = end;
        }
    }
    if (self->now.mono_rx > self->data_deadline) {
        written += cw_watch_find_stale(self);
    } else if (self->data_deadline < self->deadline) {
        self->deadline = self->data_deadline;
    }
    return written;
}

void cw_engine_open_line(cw_engine *self, uint16_t line, int64_t ts_now, int64_t mono_now) {
    cw_pulse *pulse = &self->pulses[line];
    cw_engine_move_clock(self, ts_now, mono_now);
    if (pulse->is_open) (void)silence(self, line, CW_CLOSE_LOST, CW_LOSS_LOST);
    pulse->epoch++;
    pulse->join_opened = ++pulse->join;
    pulse->is_covering = 0;
    pulse->is_open = pulse->is_live = 1;
    cw_engine_hear(self, line);
}

void cw_engine_hear(cw_engine *self, uint16_t line) {
    cw_pulse *pulse = &self->pulses[line];
    pulse->last_mono = self->now.mono_rx;
    if (cw_pulse_end(pulse) < self->deadline) self->deadline = cw_pulse_end(pulse);
    if (CW_LIKELY(pulse->is_live)) return;
    pulse->is_live = 1;
    for (uint32_t i = 0; i < self->books.count; i++)
        if (self->books.tops[i].line == line) cw_watch_revive(self, i);
}

uint32_t cw_engine_lose_line(cw_engine *self, uint16_t line, int64_t ts_now, int64_t mono_now) {
    cw_engine_move_clock(self, ts_now, mono_now);
    self->pulses[line].is_open = self->pulses[line].is_live = 0;
    self->pulses[line].is_covering = 0;
    return silence(self, line, CW_CLOSE_LOST, CW_LOSS_LOST);
}

/* ---- records ---- */

void cw_engine_adopt(cw_engine *self, uint32_t instrument, uint16_t line) {
    uint16_t venue = self->pulses[line].venue;
    for (uint32_t i = self->books.count; i <= instrument; i++)
        add_top(self, i, venue, self->venues[venue].fee_bps, 1.0);
    self->books.count = instrument + 1;
}

void cw_engine_end_stage(cw_engine *self, cw_stage stage) {
    int64_t now = self->clock.now_ns(self->clock.user);
    int64_t took = now > self->stage_began ? now - self->stage_began : 0;
    self->stage_ns[stage] = took < CW_NOT_SAMPLED ? (uint32_t)took : CW_NOT_SAMPLED - 1;
    self->stage_began = now;
    cw_histogram_record(&self->stages[stage], (uint64_t)took);
}

void cw_engine_time_signals(cw_engine *self, uint64_t first) {
    int64_t done = self->clock.now_ns(self->clock.user);
    int64_t took = done > self->now.mono_rx ? done - self->now.mono_rx : 0;
    for (uint64_t i = first; i != self->ring.head; i++) {
        cw_signal *signal = &self->ring.slots[i & (self->ring.capacity - 1)];
        cw_histogram_record(&self->rx_to_signal, (uint64_t)took);
        if (!self->is_sampling) continue;
        signal->d_decode = self->stage_ns[CW_STAGE_DECODE];
        signal->d_book = self->stage_ns[CW_STAGE_BOOK];
        signal->d_detect = self->stage_ns[CW_STAGE_DETECT];
    }
}

/* Note that a member of a group lost a message of an instrument. */
static void note_miss(cw_engine *self, uint32_t instrument, const cw_pulse *pulse) {
    cw_stream *stream = &self->streams[instrument];
    stream->trade_joins[pulse->member] = stream->quote_joins[pulse->member] = ~pulse->join;
}

uint32_t cw_engine_distrust(cw_engine *self, uint16_t line, uint32_t instrument) {
    cw_pulse *pulse = &self->pulses[line];
    if (instrument == CW_NO_INSTRUMENT) {
        pulse->join++; /* something may be missing */
        return silence(self, line, CW_CLOSE_GATE, CW_LOSS_MESSAGE);
    }
    self->now.ts_exch = 0;
    if (instrument >= self->books.count) cw_engine_adopt(self, instrument, line);
    if (pulse->group) note_miss(self, instrument, pulse);
    lose_quotes(self, instrument, line, CW_LOSS_MESSAGE);
    if (self->streams[instrument].trade_line == line)
        lose_trades(self, instrument, line, CW_LOSS_MESSAGE);
    cw_top_invalidate(&self->books, instrument);
    return cw_crosses_close(&self->crosses, &self->books, instrument, CW_CLOSE_GATE, &self->now,
                            &self->ring);
}
