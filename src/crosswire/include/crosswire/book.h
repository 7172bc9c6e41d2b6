/* book.h — the top of book of every instrument, and what makes it readable.
 *
 * A top is valid when it was quoted since its line was opened, both sides are there and it is not
 * crossed or locked. It is readable when it is valid, its line is alive and it is not stale: quoted
 * within its deadline, where there is one (watch.h). The net prices are
 * what a taker pays and gets after fees; for a top that is not readable they are +inf and -inf,
 * so that nothing ever crosses it. */
#ifndef CROSSWIRE_BOOK_H
#define CROSSWIRE_BOOK_H

#include <math.h>

#include "record.h"

#define CW_NO_LINE 0xFFFFu

#define CW_WATCH_DATA 0x1u /* its quotes have a deadline */
#define CW_WATCH_LOSS 0x2u /* a loss of its quotes lasts */

typedef struct cw_top {
    double bid, bid_qty, ask, ask_qty;
    uint64_t seq;
    int64_t ts_exch, ts_rx, mono_rx;
    double cost_factor;  /* 1 + taker fee */
    double yield_factor; /* 1 - taker fee */
    double multiplier;   /* base units per unit of size */
    uint32_t epoch;      /* of the line, when it was quoted */
    uint16_t line;       /* CW_NO_LINE until it is quoted */
    uint16_t venue;
    uint32_t flags;
    uint8_t is_valid;
    uint8_t is_live; /* its line is alive */
    uint8_t is_stale;
    uint8_t watch; /* CW_WATCH_ bits: what wants more than to be applied */
    uint64_t quotes;
    uint64_t stale; /* quotes refused because their seq did not rise */
    uint64_t reserved2;
} cw_top;

_Static_assert(sizeof(cw_top) == 128, "two cache lines");

typedef struct cw_books {
    cw_top *tops;
    double *net_ask; /* per instrument: ask * cost_factor, or +inf */
    double *net_bid; /* per instrument: bid * yield_factor, or -inf */
    uint32_t capacity;
    uint32_t count;
} cw_books;

/* Set a top to "never quoted" with these terms. */
void cw_top_init(cw_books *self, uint32_t instrument, uint16_t venue, double fee_bps,
                 double multiplier);

/* Put a quote into its top. CW_OK when it was accepted; CW_FULL when `seq_is_rising` and its seq
 * does not rise on the same line and epoch: it is then counted as stale and not applied. */
static inline int cw_top_apply(cw_books *self, const cw_quote *quote, int64_t mono_rx,
                               uint16_t line, uint32_t epoch, int seq_is_rising);

/* Make a top unreadable until its next quote. */
void cw_top_invalidate(cw_books *self, uint32_t instrument);

/* Say whether the line of a top is alive. */
void cw_top_set_live(cw_books *self, uint32_t instrument, int is_live);

/* Say whether a top was not quoted within its deadline; the next quote makes it fresh. */
void cw_top_set_stale(cw_books *self, uint32_t instrument, int is_stale);

/* ---- inline: once per message ---- */

/* Bring the net prices of a top in line with what it is now. */
static inline void cw_top_price(cw_books *self, uint32_t instrument) {
    const cw_top *top = &self->tops[instrument];
    int is_readable = top->is_valid & top->is_live & !top->is_stale;
    self->net_ask[instrument] = is_readable ? top->ask * top->cost_factor : INFINITY;
    self->net_bid[instrument] = is_readable ? top->bid * top->yield_factor : -INFINITY;
}

static inline int cw_top_apply(cw_books *self, const cw_quote *quote, int64_t mono_rx,
                               uint16_t line, uint32_t epoch, int seq_is_rising) {
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
    top->is_stale = 0;
    top->is_valid = (quote->bid > 0) & (quote->bid_qty > 0) & (quote->ask_qty > 0) &
                    (quote->bid < quote->ask);
    top->quotes++;
    cw_top_price(self, quote->instrument);
    return CW_OK;
}


#endif
