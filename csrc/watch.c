/* watch.c — deadlines of quotes, and losses of quotes and trades. */
#include "crosswire/engine.h"

/* ---- deadlines ---- */

static void expect(cw_engine *self, int64_t end) {
    if (end < self->data_deadline) self->data_deadline = end;
    if (end < self->deadline) self->deadline = end;
}

static void hear(cw_engine *self, uint32_t instrument) {
    const cw_venue *venue = &self->venues[self->books.tops[instrument].venue];
    cw_stream *stream = &self->streams[instrument];
    cw_stream_hear(stream, self->now.mono_rx, venue->data_limit_ns);
    expect(self, stream->end_mono);
}

/* 1 when a line was silent itself, or has covered since before the last quote: behind silence, such
 * a line has brought all that there was. */
static int missed_nothing(const cw_engine *self, uint16_t line, const cw_stream *stream) {
    const cw_pulse *pulse = &self->pulses[line];
    return line == stream->quote_loser ||
           (pulse->is_covering && pulse->covers_from < stream->heard_mono);
}

void cw_watch_quote(cw_engine *self, const cw_quote *quote) {
    cw_top *top = &self->books.tops[quote->instrument];
    cw_stream *stream = &self->streams[quote->instrument];
    cw_loss loss;
    if (cw_watch_open_loss(self, quote->instrument, CW_QUOTE, &loss)) {
        loss.first_good_ts = quote->ts_rx;
        loss.first_seq = quote->seq;
        if (stream->is_quote_lost || !missed_nothing(self, top->line, stream))
            cw_losses_put(&self->losses, &loss);
        stream->quote_cause = CW_LOSS_NONE;
        top->watch &= (uint8_t)~CW_WATCH_LOSS;
    }
    if (!(top->watch & CW_WATCH_DATA)) return;
    if (!stream->was_cut) cw_stream_learn(stream, self->now.mono_rx);
    stream->was_cut = 0;
    hear(self, quote->instrument);
}

void cw_watch_repeat(cw_engine *self, uint32_t instrument) {
    if (self->books.tops[instrument].watch & CW_WATCH_DATA) hear(self, instrument);
}

void cw_watch_freshen(cw_engine *self, uint32_t instrument) {
    cw_top *top = &self->books.tops[instrument];
    cw_stream *stream = &self->streams[instrument];
    if (!top->is_stale || stream->is_quote_lost) return;
    stream->quote_cause = CW_LOSS_NONE;
    top->watch &= (uint8_t)~CW_WATCH_LOSS;
    cw_top_set_stale(&self->books, instrument, 0);
}

/* 1 when a line that is alive carries the top: else it is unreadable for another reason. */
static int is_carried(const cw_engine *self, const cw_top *top) {
    const cw_pulse *pulse;
    if (top->line == CW_NO_LINE) return 0;
    pulse = &self->pulses[top->line];
    return pulse->is_open && pulse->is_live && pulse->epoch == top->epoch;
}

void cw_watch_revive(cw_engine *self, uint32_t instrument) {
    cw_top *top = &self->books.tops[instrument];
    const cw_stream *stream = &self->streams[instrument];
    if (top->watch & CW_WATCH_DATA && is_carried(self, top)) {
        top->is_stale |= self->now.mono_rx > stream->end_mono;
        expect(self, stream->end_mono);
    }
    cw_top_set_live(&self->books, instrument, 1);
}

uint32_t cw_watch_find_stale(cw_engine *self) {
    uint32_t written = 0;
    self->data_deadline = INT64_MAX;
    for (uint32_t i = 0; i < self->books.count; i++) {
        cw_top *top = &self->books.tops[i];
        if (!(top->watch & CW_WATCH_DATA) || top->is_stale || !is_carried(self, top)) continue;
        if (self->now.mono_rx <= self->streams[i].end_mono) {
            expect(self, self->streams[i].end_mono);
            continue;
        }
        cw_top_set_stale(&self->books, i, 1);
        cw_watch_lose_quotes(self, i, top->line, CW_LOSS_STALE);
        self->now.ts_exch = 0;
        written += cw_crosses_close(&self->crosses, &self->books, i, CW_CLOSE_STALE, &self->now,
                                    &self->ring);
    }
    return written;
}

/* ---- losses ---- */

/* 1 when bytes are gone. Behind mere silence a connection that goes on has brought everything. */
static int loses_bytes(cw_loss_cause cause) {
    return cause == CW_LOSS_LOST || cause == CW_LOSS_MESSAGE;
}

void cw_watch_lose_quotes(cw_engine *self, uint32_t instrument, uint16_t line,
                          cw_loss_cause cause) {
    cw_top *top = &self->books.tops[instrument];
    cw_stream *stream = &self->streams[instrument];
    stream->was_cut |= cause == CW_LOSS_LOST || cause == CW_LOSS_SILENT;
    if (top->line == CW_NO_LINE) return;
    stream->is_quote_lost = loses_bytes(cause) || (stream->quote_cause && stream->is_quote_lost);
    if (stream->quote_cause) return;
    stream->quote_cause = (uint8_t)cause;
    stream->quote_loser = line;
    stream->quote_ts = top->ts_rx;
    stream->quote_seq = top->seq;
    top->watch |= CW_WATCH_LOSS;
}

void cw_watch_lose_trades(cw_engine *self, uint32_t instrument, uint16_t line,
                          cw_loss_cause cause) {
    cw_stream *stream = &self->streams[instrument];
    if (stream->trade_epoch == 0) return;
    stream->is_trade_lost = loses_bytes(cause) || (stream->trade_cause && stream->is_trade_lost);
    if (stream->trade_cause) return;
    stream->trade_cause = (uint8_t)cause;
    stream->trade_loser = line;
}

void cw_watch_trade(cw_engine *self, uint16_t line, const cw_trade *trade) {
    cw_stream *stream = &self->streams[trade->instrument];
    cw_loss loss;
    (void)cw_watch_open_loss(self, trade->instrument, CW_TRADE, &loss); /* there is one */
    loss.first_good_ts = trade->ts_rx;
    loss.first_seq = trade->trade_id;
    if (stream->is_trade_lost || line != stream->trade_loser) cw_losses_put(&self->losses, &loss);
    stream->trade_cause = CW_LOSS_NONE;
}

int cw_watch_open_loss(const cw_engine *self, uint32_t instrument, uint8_t record,
                       cw_loss *loss) {
    const cw_stream *s = &self->streams[instrument];
    *loss = (cw_loss){.instrument = instrument, .record = record};
    if (record == CW_QUOTE) {
        loss->cause = s->quote_cause;
        loss->line = s->quote_loser;
        loss->last_good_ts = s->quote_ts;
        loss->last_seq = s->quote_seq;
    } else {
        loss->cause = s->trade_cause;
        loss->line = s->trade_loser;
        loss->last_good_ts = s->trade_ts;
        loss->last_seq = s->trade_id;
    }
    return loss->cause != CW_LOSS_NONE;
}
