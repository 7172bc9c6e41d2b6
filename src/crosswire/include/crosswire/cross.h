/* cross.h — crosses between two instruments, net of both taker fees, at top-of-book size.
 *
 * A pair is two instruments; each direction is a route: buy one, sell the other.
 *     gross_bps = 1e4 * (bid_sell / ask_buy - 1)
 *     net_bps   = 1e4 * (bid_sell * (1 - fee_sell) / (ask_buy * (1 + fee_buy)) - 1)
 * A route opens when net_bps >= open_net_bps, stays open while net_bps >= open_net_bps or
 * net_bps > close_net_bps, and changes when net edge or size changes. Every event is a signal.
 * Routes are looked at after every accepted quote of either leg, first buy a and sell b, then
 * the other way, pairs in the order of their declaration. */
#ifndef CROSSWIRE_CROSS_H
#define CROSSWIRE_CROSS_H

#include "book.h"
#include "ring.h"

typedef struct cw_route {
    uint32_t buy, sell; /* instruments */
    uint32_t rule_id;
    uint8_t is_open;
    uint8_t reserved[3];
    uint64_t opp_id;
    int64_t ts_open;
    double open_net_bps, close_net_bps;
    double qty_max; /* base units; +inf: no cap */
    double last_net_bps, last_qty;
} cw_route;

/* One instrument's view of one pair: the other instrument and the two routes. */
typedef struct cw_peer {
    uint32_t other;
    uint32_t route_first; /* routes [route_first, route_first + 2) of the pair, a before b */
} cw_peer;

typedef struct cw_crosses {
    cw_route *routes; /* two per pair: buy a sell b, buy b sell a */
    cw_peer *peers;   /* two per pair, grouped by instrument */
    uint32_t *peer_first; /* per instrument; one more entry than instruments */
    uint32_t *open_count; /* per instrument: open routes that touch it */
    uint32_t pair_capacity, instrument_capacity;
    uint32_t pair_count;
    uint32_t peers_max; /* most peers of one instrument */
    uint32_t open_total; /* open routes */
    double filter;      /* no route can be open below net_bid / net_ask = filter */
    uint64_t opp_next;
    uint64_t signal_next;
} cw_crosses;

typedef struct cw_pair_terms {
    uint32_t a, b;
    uint32_t rule_id;
    uint32_t reserved;
    double open_net_bps, close_net_bps, qty_max;
} cw_pair_terms;

/* What a look at the routes needs to know about the moment. */
typedef struct cw_moment {
    int64_t ts_exch, ts_rx, mono_rx;
} cw_moment;

/* Declare all pairs at once, replacing what was there; `pairs` is only read. CW_OK; CW_FULL when
 * there are more than fit or an instrument is out of range. */
int cw_crosses_set(cw_crosses *self, const cw_pair_terms *pairs, uint32_t count);

/* Look at every route of an instrument whose top has just changed. Returns signals written. The
 * ring must have room for two signals per peer of the instrument. */
static inline uint32_t cw_crosses_look(cw_crosses *self, const cw_books *books,
                                       uint32_t instrument, const cw_moment *now, cw_ring *ring);

/* Close every open route of an instrument. Returns signals written. */
uint32_t cw_crosses_close(cw_crosses *self, const cw_books *books, uint32_t instrument,
                          cw_close_reason reason, const cw_moment *now, cw_ring *ring);

/* ---- inline: once per message ---- */

/* Evaluate the routes one by one; use cw_crosses_look. */
uint32_t cw_crosses_look_all(cw_crosses *self, const cw_books *books, uint32_t instrument,
                             const cw_moment *now, cw_ring *ring);

/* One compare per peer and side tells that nothing is open and nothing opens: nearly always. */
static inline uint32_t cw_crosses_look(cw_crosses *self, const cw_books *books,
                                       uint32_t instrument, const cw_moment *now, cw_ring *ring) {
    const cw_peer *peer = &self->peers[self->peer_first[instrument]];
    const cw_peer *end = &self->peers[self->peer_first[instrument + 1]];
    double cost = books->net_ask[instrument] * self->filter, yield = books->net_bid[instrument];
    int maybe_open = self->open_count[instrument] != 0;
    for (; peer < end; peer++)
        maybe_open |= (books->net_bid[peer->other] >= cost) |
                      (yield >= books->net_ask[peer->other] * self->filter);
    if (CW_LIKELY(!maybe_open)) return 0;
    return cw_crosses_look_all(self, books, instrument, now, ring);
}

#endif
