/* book.c — the top of book: applied, judged, priced net of fees. */
#include "crosswire/book.h"

void cw_top_init(cw_books *self, uint32_t instrument, uint16_t venue, double fee_bps,
                 double multiplier) {
    cw_top *top = &self->tops[instrument];
    memset(top, 0, sizeof *top);
    top->venue = venue;
    top->line = CW_NO_LINE;
    top->cost_factor = 1.0 + fee_bps * 1e-4;
    top->yield_factor = 1.0 - fee_bps * 1e-4;
    top->multiplier = multiplier;
    cw_top_price(self, instrument);
}

void cw_top_invalidate(cw_books *self, uint32_t instrument) {
    self->tops[instrument].is_valid = 0;
    cw_top_price(self, instrument);
}

void cw_top_set_live(cw_books *self, uint32_t instrument, int is_live) {
    self->tops[instrument].is_live = is_live != 0;
    cw_top_price(self, instrument);
}

void cw_top_set_stale(cw_books *self, uint32_t instrument, int is_stale) {
    self->tops[instrument].is_stale = is_stale != 0;
    cw_top_price(self, instrument);
}
