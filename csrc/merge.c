/* merge.c — groups of lines: who covers, who takes over, and which record is the first of its key. */
#include "crosswire/engine.h"

/* ---- groups ---- */

int cw_group_check(const cw_engine *self, uint16_t venue, uint16_t group) {
    uint32_t count = 0;
    if (self->venues[venue].merge_key == CW_MERGE_NONE) return CW_E_TYPE;
    for (uint16_t i = 0; i < self->line_count; i++) {
        if (self->pulses[i].group != group) continue;
        if (self->pulses[i].venue != venue) return CW_TAKEN;
        count++;
    }
    return count < CW_GROUP_LINES ? CW_OK : CW_FULL;
}

int cw_group_join(cw_engine *self, uint16_t line, uint16_t group, cw_merged *merged) {
    cw_pulse *pulse = &self->pulses[line];
    int code = cw_group_check(self, pulse->venue, group);
    if (code != CW_OK) return code;
    pulse->member_count = 0;
    for (uint16_t i = 0; i < self->line_count; i++) {
        cw_pulse *twin = &self->pulses[i];
        if (twin->group != group) continue;
        twin->members[twin->member_count++] = line;
        pulse->members[pulse->member_count++] = i;
    }
    pulse->group = group;
    pulse->merged = merged;
    pulse->member = pulse->place = pulse->member_count;
    pulse->members[pulse->member_count++] = line;
    return CW_OK;
}

/* ---- covering ---- */

void cw_engine_cover(cw_engine *self, uint16_t line, int64_t ts_now, int64_t mono_now) {
    cw_pulse *pulse = &self->pulses[line];
    cw_engine_move_clock(self, ts_now, mono_now);
    if (!pulse->is_open || pulse->is_covering) return;
    pulse->is_covering = 1;
    pulse->covers_from = self->now.mono_rx;
}

/* 1 when a line covers, so that it is open, and has not been silent for too long as of now. */
static int is_carrying(const cw_engine *self, const cw_pulse *pulse) {
    return pulse->is_covering && pulse->is_live && self->now.mono_rx <= cw_pulse_end(pulse);
}

/* 1 when a line lost no message since it was opened or since it last brought the stream. */
static int is_whole(const cw_pulse *pulse, const uint32_t *joins) {
    uint32_t join = joins[pulse->member];
    return join == pulse->join || (pulse->join == pulse->join_opened && join != ~pulse->join);
}

uint16_t cw_engine_twin(const cw_engine *self, uint16_t line,
                        const uint32_t joins[CW_GROUP_LINES]) {
    const cw_pulse *from = &self->pulses[line];
    for (uint32_t i = 0; i < from->member_count; i++) {
        const cw_pulse *to = &self->pulses[from->members[i]];
        if (to != from && is_carrying(self, to) && to->covers_from < from->last_mono &&
            is_whole(to, joins))
            return from->members[i];
    }
    return CW_NO_LINE;
}

static void hand_over_top(cw_engine *self, uint32_t instrument, uint16_t twin) {
    cw_top *top = &self->books.tops[instrument];
    if (twin == CW_NO_LINE) return;
    top->line = twin;
    top->epoch = self->pulses[twin].epoch;
    self->streams[instrument].has_margin = 1; /* the twin did not win it */
    if (!top->is_live) cw_watch_revive(self, instrument);
}

static void hand_over_trades(cw_engine *self, uint32_t instrument, uint16_t twin) {
    if (twin == CW_NO_LINE) return;
    self->streams[instrument].trade_line = twin;
    self->streams[instrument].trade_epoch = self->pulses[twin].epoch;
}

void cw_engine_hand_over(cw_engine *self, uint16_t line) {
    uint32_t epoch = self->pulses[line].epoch;
    for (uint32_t i = 0; i < self->books.count; i++) {
        const cw_top *top = &self->books.tops[i];
        const cw_stream *stream = &self->streams[i];
        if (top->line == line && top->epoch == epoch)
            hand_over_top(self, i, cw_engine_twin(self, line, stream->quote_joins));
        if (stream->trade_line == line && stream->trade_epoch == epoch)
            hand_over_trades(self, i, cw_engine_twin(self, line, stream->trade_joins));
    }
}

void cw_engine_end_line(cw_engine *self, uint16_t line) {
    self->pulses[line].is_covering = 0;
    if (self->pulses[line].group) cw_engine_hand_over(self, line);
}

/* ---- records ---- */

int cw_merge_check(int scanned, const cw_record *row) {
    /* every kind of key holds the seq */
    if (scanned == CW_SCAN_QUOTE && row->quote.seq == 0) return CW_E_KEY_MISSING;
    if (scanned == CW_SCAN_TRADE && row->trade.flags & CW_FLAG_ID_HASHED) return CW_E_TYPE;
    return CW_OK;
}

/* Which is newer: above 0 when the quote is, 0 when both are one. */
static int compare(const cw_top *top, const cw_quote *quote, uint8_t key) {
    if (key == CW_MERGE_TS_SEQ && quote->ts_exch != top->ts_exch)
        return quote->ts_exch > top->ts_exch ? 1 : -1;
    return (quote->seq > top->seq) - (quote->seq < top->seq);
}

/* 1 while a line of the group carries what stands in the top, readable or not. */
static int is_carried(const cw_engine *self, const cw_top *top, uint16_t group) {
    const cw_pulse *owner;
    if (top->line == CW_NO_LINE) return 0;
    owner = &self->pulses[top->line];
    return owner->group == group && owner->is_open && owner->epoch == top->epoch;
}

/* Count a record that came first, and as a gap filled where another place carries nothing now. */
static void win(cw_engine *self, const cw_pulse *pulse) {
    uint32_t places = 0, carried = 1u << pulse->place;
    pulse->merged->wins++;
    for (uint32_t i = 0; i < pulse->member_count; i++) {
        const cw_pulse *other = &self->pulses[pulse->members[i]];
        places |= 1u << other->place;
        if (is_carrying(self, other)) carried |= 1u << other->place;
    }
    pulse->merged->gaps_filled += (places & ~carried) != 0;
}

/* Note a copy of what stands in the top: how much later it came than the first. */
static void note_copy(cw_engine *self, uint16_t line, uint32_t instrument) {
    const cw_top *top = &self->books.tops[instrument];
    if (top->line == line || self->streams[instrument].has_margin) return;
    self->streams[instrument].has_margin = 1;
    cw_histogram_record(&self->pulses[top->line].merged->margin,
                        (uint64_t)(self->now.mono_rx - top->mono_rx));
}

static uint32_t merge_quote(cw_engine *self, uint16_t line, cw_record *row) {
    const cw_pulse *pulse = &self->pulses[line];
    const cw_quote *quote = &row->quote;
    const cw_top *top = &self->books.tops[quote->instrument];
    self->streams[quote->instrument].quote_joins[pulse->member] = pulse->join;
    if (is_carried(self, top, pulse->group)) {
        int order = compare(top, quote, self->venues[pulse->venue].merge_key);
        if (order <= 0) {
            pulse->merged->duplicates++;
            if (order == 0) note_copy(self, line, quote->instrument);
            if (order == 0 || top->line == line) cw_watch_repeat(self, quote->instrument);
            if (order == 0) cw_watch_freshen(self, quote->instrument);
            return 0;
        }
    }
    win(self, pulse);
    self->streams[quote->instrument].has_margin = 0;
    cw_batch_put(&self->quotes, row);
    return cw_engine_apply(self, cw_engine_origin(self, line), quote);
}

static void merge_trade(cw_engine *self, uint16_t line, const cw_record *row) {
    const cw_pulse *pulse = &self->pulses[line];
    cw_stream *stream = &self->streams[row->trade.instrument];
    if (!cw_stream_take_trade(stream, pulse->member, pulse->join, row->trade.trade_id)) {
        pulse->merged->duplicates++;
        return;
    }
    win(self, pulse);
    cw_engine_note_trade(self, cw_engine_origin(self, line), &row->trade);
    cw_batch_put(&self->trades, row);
}

uint32_t cw_merge_take(cw_engine *self, uint16_t line, int scanned, cw_record *row) {
    if (scanned == CW_SCAN_QUOTE) {
        row->quote.ts_rx = self->now.ts_rx;
        return merge_quote(self, line, row);
    }
    if (scanned == CW_SCAN_TRADE) {
        row->trade.ts_rx = self->now.ts_rx;
        merge_trade(self, line, row);
    }
    return 0;
}
