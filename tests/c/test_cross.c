/* test_cross.c — crosses between two instruments: opened, changed, closed, signal by signal. */
#include <math.h>

#include "fixture.h"

enum { INSTRUMENTS = 5, PAIRS = 4, SIGNALS = 64 };

static struct {
    cw_top tops[INSTRUMENTS] __attribute__((aligned(64)));
    double net_ask[INSTRUMENTS], net_bid[INSTRUMENTS];
    cw_route routes[2 * PAIRS];
    cw_peer peers[2 * PAIRS];
    uint32_t peer_first[INSTRUMENTS + 1], open_count[INSTRUMENTS];
    cw_signal slots[SIGNALS] __attribute__((aligned(64)));
} memory;

static cw_books books;
static cw_crosses crosses;
static cw_ring ring;
static uint64_t seq;

#define PAIR(a_, b_, rule, open_, close_)                                                       \
    { .a = a_, .b = b_, .rule_id = rule, .open_net_bps = open_, .close_net_bps = close_,         \
      .qty_max = INFINITY }

/* Instruments of fee 10 bps and multiplier 1, but instrument 1: 5 bps, multiplier 0.5. */
static void begin(const cw_pair_terms *pairs, uint32_t count) {
    memset(&memory, 0, sizeof memory);
    memset(&crosses, 0, sizeof crosses);
    books = (cw_books){memory.tops, memory.net_ask, memory.net_bid, INSTRUMENTS, INSTRUMENTS};
    for (uint32_t i = 0; i < INSTRUMENTS; i++)
        cw_top_init(&books, i, (uint16_t)(20 + i), i == 1 ? 5.0 : 10.0, i == 1 ? 0.5 : 1.0);
    crosses.routes = memory.routes;
    crosses.peers = memory.peers;
    crosses.peer_first = memory.peer_first;
    crosses.open_count = memory.open_count;
    crosses.pair_capacity = PAIRS;
    crosses.instrument_capacity = INSTRUMENTS;
    cw_ring_init(&ring, memory.slots, SIGNALS);
    seq = 0;
    CHECK_EQ(cw_crosses_set(&crosses, pairs, count), CW_OK);
}

/* Quote an instrument and look; returns signals written. */
static uint32_t quote(uint32_t instrument, double bid, double bid_qty, double ask,
                      double ask_qty) {
    cw_quote q = {.ts_exch = 1000 + (int64_t)seq, .ts_rx = 2000 + (int64_t)seq, .seq = ++seq,
                  .bid = bid, .bid_qty = bid_qty, .ask = ask, .ask_qty = ask_qty,
                  .instrument = instrument, .venue = (uint16_t)(20 + instrument)};
    cw_moment now = {q.ts_exch, q.ts_rx, 5000000 * (int64_t)seq};
    uint64_t head = ring.head;
    uint32_t written;
    CHECK_EQ(cw_top_apply(&books, &q, now.mono_rx, 1, 1, 0), CW_OK);
    written = cw_crosses_look(&crosses, &books, instrument, &now, &ring);
    CHECK_EQ(ring.head - head, written);
    CHECK_EQ(ring.refused, 0);
    return written;
}

static cw_signal next_signal(void) { return take_signal(&ring); }

static void check_none(void) { CHECK_EQ(ring.head, ring.tail); }

static const cw_pair_terms ONE[] = {PAIR(0, 2, 77, 0.0, -5.0)};

static double net_of(double bid, double fee_sell, double ask, double fee_buy) {
    return 1e4 * (bid * (1 - fee_sell) / (ask * (1 + fee_buy)) - 1);
}

static void test_no_signal_while_fees_eat_the_edge(void) {
    begin(ONE, 1);
    CHECK_EQ(quote(0, 99, 1, 100, 1), 0);
    CHECK_EQ(quote(2, 100.15, 1, 100.25, 1), 0); /* gross 15 bps, fees 20 */
    check_none();
}

static void test_route_opens_with_the_numbers_of_both_tops(void) {
    cw_signal s;
    begin(ONE, 1);
    CHECK_EQ(quote(0, 99, 4, 100, 3), 0);
    CHECK_EQ(quote(2, 101, 2, 102, 1), 1);
    s = next_signal();
    CHECK_EQ(s.seq, 0);
    CHECK_EQ(s.kind, CW_SIGNAL_CROSS);
    CHECK_EQ(s.event, CW_SIGNAL_OPEN);
    CHECK_EQ(s.close_reason, CW_CLOSE_NONE);
    CHECK_EQ(s.rule_id, 77);
    CHECK_EQ(s.n_legs, 2);
    CHECK_EQ(s.gates, 0);
    CHECK_EQ(s.ts_exch, 1001);
    CHECK_EQ(s.ts_rx, 2001);
    CHECK_EQ(s.mono_rx, 10000000);
    CHECK_EQ(s.ts_open, 2001);
    CHECK_DOUBLE(s.qty, 2);
    CHECK(fabs(s.notional_ref - 2 * 100 * 1.001) < 1e-9);
    CHECK(fabs(s.profit_ref - 2 * (101 * 0.999 - 100 * 1.001)) < 1e-9);
    CHECK(isnan(s.ev_ref));
    CHECK(fabs(s.gross_bps - 100.0) < 1e-4);
    CHECK(fabs(s.net_bps - net_of(101, 0.001, 100, 0.001)) < 1e-4);
    CHECK_EQ(s.legs[0].side, 1);
    CHECK_EQ(s.legs[0].instrument, 0);
    CHECK_EQ(s.legs[0].venue, 20);
    CHECK_DOUBLE(s.legs[0].vwap, 100);
    CHECK_DOUBLE(s.legs[0].limit, 100);
    CHECK_DOUBLE(s.legs[0].qty, 2);
    CHECK_EQ(s.legs[0].book_seq, 1);
    CHECK_EQ(s.legs[0].ts_exch, 1000);
    CHECK_EQ(s.legs[0].age_us, 5000);
    CHECK_EQ(s.legs[0].lag_us, CW_NOT_SAMPLED);
    CHECK_EQ(s.legs[1].side, -1);
    CHECK_EQ(s.legs[1].instrument, 2);
    CHECK_EQ(s.legs[1].venue, 22);
    CHECK_DOUBLE(s.legs[1].limit, 101);
    CHECK_EQ(s.legs[1].book_seq, 2);
    CHECK_EQ(s.legs[1].age_us, 0);
    CHECK_EQ(s.legs[2].instrument, 0);
    CHECK_EQ(s.d_decode, CW_NOT_SAMPLED);
    check_none();
}

static void test_other_direction_is_a_route_of_its_own(void) {
    cw_signal s;
    begin(ONE, 1);
    CHECK_EQ(quote(2, 99, 1, 100, 1), 0);
    CHECK_EQ(quote(0, 101, 1, 102, 1), 1);
    s = next_signal();
    CHECK_EQ(s.legs[0].instrument, 2);
    CHECK_EQ(s.legs[1].instrument, 0);
}

static void test_route_updates_when_edge_or_size_changes_and_is_silent_otherwise(void) {
    cw_signal s;
    uint64_t opp_id;
    begin(ONE, 1);
    (void)quote(0, 99, 1, 100, 1);
    CHECK_EQ(quote(2, 101, 1, 102, 1), 1);
    opp_id = next_signal().opp_id;
    CHECK_EQ(quote(2, 101, 1, 102, 1), 0);
    CHECK_EQ(quote(2, 101, 5, 103, 9), 0); /* neither edge nor the smaller size changed */
    CHECK_EQ(quote(2, 101.5, 1, 102, 1), 1);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_UPDATE);
    CHECK(s.opp_id == opp_id);
    CHECK_EQ(s.seq, 1);
    CHECK_EQ(s.ts_open, 2001);
    CHECK_EQ(quote(2, 101.5, 0.5, 102, 1), 1);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_UPDATE);
    CHECK_DOUBLE(s.qty, 0.5);
    check_none();
}

static void test_route_stays_open_between_close_and_open_edge(void) {
    cw_signal s;
    uint64_t opp_id;
    begin(ONE, 1);
    (void)quote(0, 99, 1, 100, 1);
    (void)quote(2, 101, 1, 102, 1);
    opp_id = next_signal().opp_id;
    CHECK_EQ(quote(2, 100.17, 1, 102, 1), 1); /* net about -3 bps: not to open, not to close */
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_UPDATE);
    CHECK(s.net_bps < 0 && s.net_bps > -5);
    CHECK_EQ(quote(2, 100.1, 1, 102, 1), 1);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_CLOSE);
    CHECK_EQ(s.close_reason, CW_CLOSE_SELL_MOVED);
    CHECK(s.opp_id == opp_id);
    CHECK_EQ(quote(2, 100.17, 1, 102, 1), 0);
    CHECK_EQ(quote(2, 101, 1, 102, 1), 1);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_OPEN);
    CHECK(s.opp_id != opp_id);
    CHECK_EQ(quote(0, 99, 1, 101, 1), 1);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_CLOSE);
    CHECK_EQ(s.close_reason, CW_CLOSE_BUY_MOVED);
}

static void test_edge_of_exactly_the_threshold_opens_and_of_exactly_the_close_closes(void) {
    double net = net_of(101, 0.001, 100, 0.001);
    cw_pair_terms pair = PAIR(0, 2, 1, 0.0, 0.0);
    double got = (101 * (1 - 10.0 * 1e-4) / (100 * (1 + 10.0 * 1e-4)) - 1.0) * 1e4;
    CHECK(fabs(net - got) < 1e-9);
    pair.open_net_bps = got;
    pair.close_net_bps = got;
    begin(&pair, 1);
    (void)quote(0, 99, 1, 100, 1);
    CHECK_EQ(quote(2, 101, 1, 102, 1), 1); /* net >= open */
    pair.open_net_bps = nextafter(got, INFINITY);
    begin(&pair, 1);
    (void)quote(0, 99, 1, 100, 1);
    CHECK_EQ(quote(2, 101, 1, 102, 1), 0);
    pair.open_net_bps = got + 5;
    begin(&pair, 1);
    (void)quote(0, 99, 1, 100, 1);
    CHECK_EQ(quote(2, 102, 1, 103, 1), 1);
    CHECK_EQ(quote(2, 101, 1, 103, 1), 1); /* net == close: neither >= open nor > close */
    (void)next_signal();
    CHECK_EQ(next_signal().event, CW_SIGNAL_CLOSE);
}

static void test_negative_threshold_opens_routes_at_a_loss(void) {
    static const cw_pair_terms LOOSE[] = {PAIR(0, 2, 1, -1000.0, -2000.0)};
    begin(LOOSE, 1);
    CHECK_EQ(quote(0, 99, 1, 100, 1), 0);
    CHECK_EQ(quote(2, 99, 1, 100, 1), 2);
    CHECK_EQ(next_signal().legs[0].instrument, 0); /* first buy a, sell b */
    CHECK_EQ(next_signal().legs[0].instrument, 2);
}

static void test_size_is_the_smallest_of_both_sides_and_the_cap_in_base_units(void) {
    static const cw_pair_terms CAPPED[] = {{.a = 0, .b = 1, .rule_id = 1, .open_net_bps = 0,
                                            .close_net_bps = 0, .qty_max = 0.7}};
    begin(CAPPED, 1);
    (void)quote(0, 99, 1, 100, 3);
    CHECK_EQ(quote(1, 102, 1, 103, 1), 1); /* one unit of instrument 1 is half a base unit */
    CHECK_DOUBLE(next_signal().qty, 0.5);
    CHECK_EQ(quote(1, 102, 10, 103, 1), 1);
    CHECK_DOUBLE(next_signal().qty, 0.7);
}

static void test_unreadable_top_closes_its_routes_by_the_gate(void) {
    cw_signal s;
    begin(ONE, 1);
    (void)quote(0, 99, 1, 100, 1);
    (void)quote(2, 101, 1, 102, 1);
    (void)next_signal();
    CHECK_EQ(quote(2, 102, 1, 102, 1), 1); /* locked */
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_CLOSE);
    CHECK_EQ(s.close_reason, CW_CLOSE_GATE);
    CHECK_EQ(s.gates, CW_GATE_BOOK_B);
    CHECK(isnan(s.net_bps));
    CHECK_EQ(quote(2, 101, 1, 102, 1), 1);
    CHECK_EQ(next_signal().event, CW_SIGNAL_OPEN);
}

static void test_pairs_are_looked_at_in_the_order_of_their_declaration(void) {
    static const cw_pair_terms PAIRS_[] = {PAIR(3, 0, 30, 0, 0), PAIR(0, 2, 31, 0, 0),
                                           PAIR(4, 0, 32, 0, 0), PAIR(2, 3, 33, 0, 0)};
    begin(PAIRS_, 4);
    (void)quote(3, 99, 1, 100, 1);
    (void)quote(4, 99, 1, 100, 1);
    (void)quote(2, 99, 1, 100, 1);
    check_none();
    CHECK_EQ(crosses.peers_max, 3);
    CHECK_EQ(quote(0, 101, 1, 102, 1), 3);
    CHECK_EQ(next_signal().rule_id, 30);
    CHECK_EQ(next_signal().rule_id, 31);
    CHECK_EQ(next_signal().rule_id, 32);
    CHECK_EQ(quote(0, 97, 1, 98, 1), 6); /* three close, three open the other way */
    for (uint32_t rule = 30; rule < 33; rule++) {
        cw_signal a = next_signal(), b = next_signal(); /* first buy a and sell b, then b and a */
        CHECK_EQ(a.rule_id, rule);
        CHECK_EQ(b.rule_id, rule);
        CHECK_EQ(a.event, rule == 31 ? CW_SIGNAL_OPEN : CW_SIGNAL_CLOSE);
        CHECK_EQ(b.event, rule == 31 ? CW_SIGNAL_CLOSE : CW_SIGNAL_OPEN);
    }
}

static void test_every_filtered_look_agrees_with_the_formula(void) {
    static const cw_pair_terms PAIRS_[] = {PAIR(0, 1, 1, 3.0, 0.0), PAIR(1, 2, 2, -4.0, -8.0),
                                           PAIR(0, 2, 3, 0.0, 0.0), PAIR(3, 1, 4, 25.0, -10.0)};
    static const double FEE[] = {0.001, 0.0005, 0.001, 0.001};
    double bid[4] = {0}, ask[4] = {0};
    int is_open[8] = {0};
    dice d = {41};
    begin(PAIRS_, 4);
    for (int turn = 0; turn < 40000; turn++) {
        uint32_t i = below(&d, 4);
        bid[i] = 100 + below(&d, 60) * 0.01;
        ask[i] = bid[i] + below(&d, 4) * 0.01; /* now and then locked */
        (void)quote(i, bid[i], 1, ask[i], 1);
        for (uint32_t r = 0; r < 8; r++) {
            const cw_pair_terms *p = &PAIRS_[r / 2];
            uint32_t buy = r % 2 ? p->b : p->a, sell = r % 2 ? p->a : p->b;
            double net;
            if (buy != i && sell != i) continue;
            net = net_of(bid[sell], FEE[sell], ask[buy], FEE[buy]);
            if (bid[buy] >= ask[buy] || bid[sell] >= ask[sell]) is_open[r] = 0;
            else if (fabs(net - p->open_net_bps) < 1e-7 || fabs(net - p->close_net_bps) < 1e-7)
                is_open[r] = crosses.routes[r].is_open; /* too near to call */
            else if (net > p->open_net_bps) is_open[r] = 1;
            else if (net < p->close_net_bps) is_open[r] = 0;
        }
        for (uint32_t r = 0; r < 8; r++) {
            check_note("turn %d, route %u", turn, r);
            CHECK_EQ(crosses.routes[r].is_open, is_open[r]);
        }
        for (uint32_t k = 0; k < 4; k++) {
            uint32_t open = 0;
            for (uint32_t r = 0; r < 8; r++)
                open += crosses.routes[r].is_open &&
                        (crosses.routes[r].buy == k || crosses.routes[r].sell == k);
            CHECK_EQ(crosses.open_count[k], open);
        }
        cw_ring_release(&ring, SIGNALS);
    }
}

static void test_closing_an_instrument_closes_its_open_routes_only(void) {
    static const cw_pair_terms PAIRS_[] = {PAIR(0, 2, 1, 0, 0), PAIR(3, 2, 2, 0, 0),
                                           PAIR(3, 4, 3, 0, 0)};
    cw_moment now = {0, 9, 9};
    cw_signal s;
    begin(PAIRS_, 3);
    (void)quote(0, 99, 1, 100, 1);
    (void)quote(3, 99, 1, 100, 1);
    (void)quote(4, 101, 1, 102, 1);
    CHECK_EQ(quote(2, 101, 1, 102, 1), 2);
    cw_ring_release(&ring, SIGNALS);
    CHECK_EQ(cw_crosses_close(&crosses, &books, 2, CW_CLOSE_LOST, &now, &ring), 2);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_CLOSE);
    CHECK_EQ(s.close_reason, CW_CLOSE_LOST);
    CHECK_EQ(s.rule_id, 1);
    CHECK_EQ(s.ts_rx, 9);
    CHECK_EQ(next_signal().rule_id, 2);
    CHECK_EQ(cw_crosses_close(&crosses, &books, 2, CW_CLOSE_LOST, &now, &ring), 0);
    CHECK_EQ(crosses.routes[4].is_open, 1);
}

static void test_pairs_that_do_not_fit_or_name_nobody_are_refused(void) {
    cw_pair_terms five[5] = {PAIR(0, 1, 1, 0, 0), PAIR(0, 1, 1, 0, 0), PAIR(0, 1, 1, 0, 0),
                             PAIR(0, 1, 1, 0, 0), PAIR(0, 1, 1, 0, 0)};
    begin(ONE, 1);
    CHECK_EQ(cw_crosses_set(&crosses, five, 5), CW_FULL);
    CHECK_EQ(cw_crosses_set(&crosses, five, 4), CW_OK);
    five[0].b = INSTRUMENTS;
    CHECK_EQ(cw_crosses_set(&crosses, five, 1), CW_FULL);
    five[0].b = 0xFFFFFFFF;
    CHECK_EQ(cw_crosses_set(&crosses, five, 1), CW_FULL);
    CHECK_EQ(cw_crosses_set(&crosses, NULL, 0), CW_OK);
    CHECK_EQ(crosses.peers_max, 0);
    CHECK_EQ(quote(0, 101, 1, 102, 1), 0);
}

static void test_signal_numbers_and_opportunities_only_rise(void) {
    dice d = {42};
    uint64_t next = 0, opp = 0;
    begin(ONE, 1);
    for (int turn = 0; turn < 3000; turn++) {
        uint32_t i = below(&d, 2) ? 0 : 2;
        double bid = 100 + below(&d, 200) * 0.01;
        (void)quote(i, bid, 1, bid + 0.01, 1);
        while (ring.head != ring.tail) {
            cw_signal s = next_signal();
            CHECK(s.seq == next++);
            if (s.event == CW_SIGNAL_OPEN) {
                CHECK(s.opp_id > opp);
                opp = s.opp_id;
            }
        }
    }
    CHECK(next > 500);
}

int main(void) {
    RUN(test_no_signal_while_fees_eat_the_edge);
    RUN(test_route_opens_with_the_numbers_of_both_tops);
    RUN(test_other_direction_is_a_route_of_its_own);
    RUN(test_route_updates_when_edge_or_size_changes_and_is_silent_otherwise);
    RUN(test_route_stays_open_between_close_and_open_edge);
    RUN(test_edge_of_exactly_the_threshold_opens_and_of_exactly_the_close_closes);
    RUN(test_negative_threshold_opens_routes_at_a_loss);
    RUN(test_size_is_the_smallest_of_both_sides_and_the_cap_in_base_units);
    RUN(test_unreadable_top_closes_its_routes_by_the_gate);
    RUN(test_pairs_are_looked_at_in_the_order_of_their_declaration);
    RUN(test_every_filtered_look_agrees_with_the_formula);
    RUN(test_closing_an_instrument_closes_its_open_routes_only);
    RUN(test_pairs_that_do_not_fit_or_name_nobody_are_refused);
    RUN(test_signal_numbers_and_opportunities_only_rise);
    return 0;
}
