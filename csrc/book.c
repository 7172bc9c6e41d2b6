/* book.c — the top of book: applied, judged, priced net of fees. */
#include "crosswire/book.h"

#include <math.h>

/* Bring the net prices of a top in line with what it is now. */
static void price(cw_books *self, uint32_t instrument) {
    const cw_top *top = &self->tops[instrument];
    int is_readable = top->is_valid & top->is_live;
    self->net_ask[instrument] = is_readable ? top->ask * top->cost_factor : INFINITY;
    self->net_bid[instrument] = is_readable ? top->bid * top->yield_factor : -INFINITY;
}

void cw_top_init(cw_books *self, uint32_t instrument, uint16_t venue, double fee_bps,
                 double multiplier) {
    cw_top *top = &self->tops[instrument];
    memset(top, 0, sizeof *top);
    top->venue = venue;
    top->line = CW_NO_LINE;
    top->cost_factor = 1.0 + fee_bps * 1e-4;
    top->yield_factor = 1.0 - fee_bps * 1e-4;
    top->multiplier = multiplier;
    price(self, instrument);
}

int cw_top_apply(cw_books *self, const cw_quote *quote, int64_t mono_rx, uint16_t line,
                 uint32_t epoch, int seq_is_rising) {
    cw_top *top = &self->tops[quote->instrument];
    int is_same_stream = top->line == line && top->epoch == epoch;
    if (CW_UNLIKELY(seq_is_rising && is_same_stream && quote->seq <= top->seq)) {
        top->stale++;
        return CW_FULL;
    }
    top->bid = quote->bid;
    top->bid_qty = quote->bid_qty;
    top->ask = quote->ask;
    top->ask_qty = quote->ask_qty;
    top->seq = quote->seq;
    top->ts_exch = quote->ts_exch;
    top->ts_rx = quote->ts_rx;
    top->mono_rx = mono_rx;
    top->flags = quote->flags;
    top->epoch = epoch;
    top->line = line;
    top->is_live = 1; /* it has just spoken */
    top->is_valid = (quote->bid > 0) & (quote->bid_qty > 0) & (quote->ask_qty > 0) &
                    (quote->bid < quote->ask);
    top->quotes++;
    price(self, quote->instrument);
    return CW_OK;
}

void cw_top_invalidate(cw_books *self, uint32_t instrument) {
    self->tops[instrument].is_valid = 0;
    price(self, instrument);
}

void cw_top_set_live(cw_books *self, uint32_t instrument, int is_live) {
    self->tops[instrument].is_live = is_live != 0;
    price(self, instrument);
}
