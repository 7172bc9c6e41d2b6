/* cross.c — routes between pairs of instruments: opened, changed, closed. */
#include "crosswire/cross.h"

#include <math.h>

static cw_route *routes_of(const cw_crosses *self, const cw_peer *peer) {
    return &self->routes[peer->route_first];
}

/* ---- declaration ---- */

static int terms_are_valid(const cw_crosses *self, const cw_pair_terms *pair) {
    return pair->a < self->instrument_capacity && pair->b < self->instrument_capacity &&
           pair->a != pair->b;
}

static void set_route(cw_route *route, uint32_t buy, uint32_t sell, const cw_pair_terms *pair) {
    memset(route, 0, sizeof *route);
    route->buy = buy;
    route->sell = sell;
    route->rule_id = pair->rule_id;
    route->open_net_bps = pair->open_net_bps;
    route->close_net_bps = pair->close_net_bps;
    route->qty_max = pair->qty_max;
}

/* Turn per-instrument counts into first positions; returns the largest count. */
static uint32_t lay_out(uint32_t *first, uint32_t instruments) {
    uint32_t sum = 0, most = 0;
    for (uint32_t i = 0; i <= instruments; i++) {
        uint32_t count = first[i];
        first[i] = sum;
        sum += count;
        if (count > most) most = count;
    }
    return most;
}

int cw_crosses_set(cw_crosses *self, const cw_pair_terms *pairs, uint32_t count) {
    uint32_t n = self->instrument_capacity;
    double open_min = INFINITY;
    if (count > self->pair_capacity) return CW_FULL;
    for (uint32_t i = 0; i < count; i++)
        if (!terms_are_valid(self, &pairs[i])) return CW_FULL;

    memset(self->peer_first, 0, sizeof *self->peer_first * (n + 1));
    memset(self->open_count, 0, sizeof *self->open_count * n);
    for (uint32_t i = 0; i < count; i++) {
        self->peer_first[pairs[i].a]++;
        self->peer_first[pairs[i].b]++;
        set_route(&self->routes[2 * i], pairs[i].a, pairs[i].b, &pairs[i]);
        set_route(&self->routes[2 * i + 1], pairs[i].b, pairs[i].a, &pairs[i]);
        if (pairs[i].open_net_bps < open_min) open_min = pairs[i].open_net_bps;
    }
    self->peers_max = lay_out(self->peer_first, n);
    self->pair_count = count;
    self->open_total = 0;
    /* a little below the exact bound, so that rounding cannot hide a route from the full look */
    self->filter = (1.0 + open_min * 1e-4) * (1.0 - 1e-9);

    /* fill in declaration order, moving each first position to its end, then move them back */
    for (uint32_t i = 0; i < count; i++) {
        self->peers[self->peer_first[pairs[i].a]++] = (cw_peer){pairs[i].b, 2 * i};
        self->peers[self->peer_first[pairs[i].b]++] = (cw_peer){pairs[i].a, 2 * i};
    }
    memmove(self->peer_first + 1, self->peer_first, sizeof *self->peer_first * n);
    self->peer_first[0] = 0;
    return CW_OK;
}

/* ---- signals ---- */

static uint32_t age_us(int64_t now, int64_t then) {
    int64_t age = now > then ? (now - then) / 1000 : 0;
    return age < CW_NOT_SAMPLED ? (uint32_t)age : CW_NOT_SAMPLED;
}

static void write_leg(cw_leg *leg, const cw_top *top, uint32_t instrument, int side, double qty,
                      int64_t mono_now) {
    leg->venue = top->venue;
    leg->side = (int8_t)side;
    leg->instrument = instrument;
    leg->vwap = leg->limit = side > 0 ? top->ask : top->bid;
    leg->qty = qty;
    leg->book_seq = top->seq;
    leg->ts_exch = top->ts_exch;
    leg->age_us = age_us(mono_now, top->mono_rx);
    leg->lag_us = leg->skew_err_us = CW_NOT_SAMPLED;
}

static uint32_t gates_of(const cw_top *buy, const cw_top *sell) {
    return (buy->is_valid && !buy->is_stale ? 0 : CW_GATE_BOOK_A) |
           (sell->is_valid && !sell->is_stale ? 0 : CW_GATE_BOOK_B) |
           (buy->is_live && sell->is_live ? 0 : CW_GATE_LIVENESS);
}

typedef struct edge {
    double net_bps, gross_bps, qty, cost, yield;
    int is_readable;
} edge;

static double smaller(double a, double b) { return a < b ? a : b; }

static edge edge_of(const cw_route *route, const cw_books *books) {
    const cw_top *buy = &books->tops[route->buy], *sell = &books->tops[route->sell];
    edge e;
    e.cost = books->net_ask[route->buy];
    e.yield = books->net_bid[route->sell];
    e.is_readable = e.cost < INFINITY && e.yield > -INFINITY;
    e.net_bps = (e.yield / e.cost - 1.0) * 1e4;
    e.gross_bps = (sell->bid / buy->ask - 1.0) * 1e4;
    e.qty = smaller(smaller(buy->ask_qty * buy->multiplier, sell->bid_qty * sell->multiplier),
                    route->qty_max);
    return e;
}

static void emit(cw_crosses *self, const cw_books *books, cw_route *route, const edge *e,
                 cw_signal_event event, cw_close_reason reason, const cw_moment *now,
                 cw_ring *ring) {
    const cw_top *buy = &books->tops[route->buy], *sell = &books->tops[route->sell];
    cw_signal *s = cw_ring_claim(ring);
    if (s == NULL) return; /* counted by the ring; the callers leave room, so it does not happen */
    s->seq = self->signal_next++;
    s->opp_id = route->opp_id;
    s->rule_id = route->rule_id;
    s->kind = CW_SIGNAL_CROSS;
    s->event = (uint8_t)event;
    s->n_legs = 2;
    s->close_reason = (uint8_t)reason;
    s->gates = gates_of(buy, sell);
    s->ts_exch = now->ts_exch;
    s->ts_rx = now->ts_rx;
    s->mono_rx = now->mono_rx;
    s->d_decode = s->d_book = s->d_detect = s->d_publish = CW_NOT_SAMPLED;
    s->ts_open = route->ts_open;
    s->qty = e->is_readable ? e->qty : 0.0;
    s->notional_ref = e->is_readable ? e->qty * e->cost : 0.0;
    s->profit_ref = e->is_readable ? e->qty * (e->yield - e->cost) : 0.0;
    s->ev_ref = NAN;
    s->gross_bps = e->is_readable ? (float)e->gross_bps : NAN;
    s->net_bps = e->is_readable ? (float)e->net_bps : NAN;
    s->worst_bps = s->net_bps; /* the limits are the quoted prices themselves */
    s->risk_bps = NAN;
    write_leg(&s->legs[0], buy, route->buy, +1, s->qty, now->mono_rx);
    write_leg(&s->legs[1], sell, route->sell, -1, s->qty, now->mono_rx);
    cw_ring_commit(ring);
}

/* ---- the life of a route ---- */

static void open_route(cw_crosses *self, const cw_books *books, cw_route *route, const edge *e,
                       const cw_moment *now, cw_ring *ring) {
    route->is_open = 1;
    route->opp_id = ++self->opp_next;
    route->ts_open = now->ts_rx;
    self->open_total++;
    self->open_count[route->buy]++;
    self->open_count[route->sell]++;
    emit(self, books, route, e, CW_SIGNAL_OPEN, CW_CLOSE_NONE, now, ring);
}

static void close_route(cw_crosses *self, const cw_books *books, cw_route *route, const edge *e,
                        cw_close_reason reason, const cw_moment *now, cw_ring *ring) {
    route->is_open = 0;
    self->open_total--;
    self->open_count[route->buy]--;
    self->open_count[route->sell]--;
    emit(self, books, route, e, CW_SIGNAL_CLOSE, reason, now, ring);
}

/* Look at one route after its leg `moved` has changed; returns signals written. */
static uint32_t look(cw_crosses *self, const cw_books *books, cw_route *route, uint32_t moved,
                     const cw_moment *now, cw_ring *ring) {
    edge e = edge_of(route, books);
    if (!route->is_open) {
        if (!(e.is_readable && e.net_bps >= route->open_net_bps)) return 0;
        open_route(self, books, route, &e, now, ring);
    } else if (!e.is_readable) {
        close_route(self, books, route, &e, CW_CLOSE_GATE, now, ring);
    } else if (e.net_bps < route->open_net_bps && e.net_bps <= route->close_net_bps) {
        cw_close_reason reason = moved == route->buy ? CW_CLOSE_BUY_MOVED : CW_CLOSE_SELL_MOVED;
        close_route(self, books, route, &e, reason, now, ring);
    } else if (e.net_bps != route->last_net_bps || e.qty != route->last_qty) {
        emit(self, books, route, &e, CW_SIGNAL_UPDATE, CW_CLOSE_NONE, now, ring);
    } else {
        return 0;
    }
    route->last_net_bps = e.net_bps;
    route->last_qty = e.qty;
    return 1;
}

uint32_t cw_crosses_look_all(cw_crosses *self, const cw_books *books, uint32_t instrument,
                             const cw_moment *now, cw_ring *ring) {
    uint32_t written = 0;
    for (uint32_t i = self->peer_first[instrument]; i < self->peer_first[instrument + 1]; i++)
        for (uint32_t side = 0; side < 2; side++)
            written += look(self, books, routes_of(self, &self->peers[i]) + side, instrument, now,
                            ring);
    return written;
}

uint32_t cw_crosses_close(cw_crosses *self, const cw_books *books, uint32_t instrument,
                          cw_close_reason reason, const cw_moment *now, cw_ring *ring) {
    uint32_t written = 0;
    if (self->open_count[instrument] == 0) return 0;
    for (uint32_t i = self->peer_first[instrument]; i < self->peer_first[instrument + 1]; i++) {
        for (uint32_t side = 0; side < 2; side++) {
            cw_route *route = routes_of(self, &self->peers[i]) + side;
            edge e = edge_of(route, books);
            if (!route->is_open) continue;
            close_route(self, books, route, &e, reason, now, ring);
            written++;
        }
    }
    return written;
}
