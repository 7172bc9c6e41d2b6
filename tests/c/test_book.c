/* test_book.c — tops of book: applied, valid, readable, net of fees. */
#include <math.h>

#include "fixture.h"

enum { COUNT = 4, LINE = 3, EPOCH = 7 };

static cw_top tops[COUNT] __attribute__((aligned(64)));
static double net_ask[COUNT], net_bid[COUNT];
static cw_books books;

static void begin(void) {
    memset(tops, 0xEE, sizeof tops);
    books = (cw_books){tops, net_ask, net_bid, COUNT, COUNT};
    for (uint32_t i = 0; i < COUNT; i++) cw_top_init(&books, i, 1, 10.0, 1.0);
}

static cw_quote quote_of(double bid, double bid_qty, double ask, double ask_qty, uint64_t seq) {
    return (cw_quote){.ts_exch = 11, .ts_rx = 22, .seq = seq, .bid = bid, .bid_qty = bid_qty,
                      .ask = ask, .ask_qty = ask_qty, .instrument = 2, .venue = 1, .flags = 1};
}

static int apply(cw_quote q) { return cw_top_apply(&books, &q, 33, LINE, EPOCH, 1); }

static void check_unreadable(void) {
    CHECK_DOUBLE(net_ask[2], INFINITY);
    CHECK_DOUBLE(net_bid[2], -INFINITY);
}

static void check_readable(double bid, double ask) {
    CHECK_DOUBLE(net_ask[2], ask * (1 + 10.0 * 1e-4));
    CHECK_DOUBLE(net_bid[2], bid * (1 - 10.0 * 1e-4));
}

static void test_new_top_was_never_quoted(void) {
    begin();
    cw_top_init(&books, 2, 5, 7.5, 0.01);
    CHECK_EQ(tops[2].line, CW_NO_LINE);
    CHECK_EQ(tops[2].venue, 5);
    CHECK_DOUBLE(tops[2].cost_factor, 1.00075);
    CHECK_DOUBLE(tops[2].yield_factor, 0.99925);
    CHECK_DOUBLE(tops[2].multiplier, 0.01);
    CHECK_EQ(tops[2].is_valid, 0);
    CHECK_EQ(tops[2].quotes, 0);
    check_unreadable();
}

static void test_quote_is_put_into_its_top_and_priced_net_of_fees(void) {
    begin();
    CHECK_EQ(apply(quote_of(99.5, 2, 100.25, 3, 1)), CW_OK);
    CHECK_DOUBLE(tops[2].bid, 99.5);
    CHECK_DOUBLE(tops[2].bid_qty, 2);
    CHECK_DOUBLE(tops[2].ask, 100.25);
    CHECK_DOUBLE(tops[2].ask_qty, 3);
    CHECK_EQ(tops[2].seq, 1);
    CHECK_EQ(tops[2].ts_exch, 11);
    CHECK_EQ(tops[2].ts_rx, 22);
    CHECK_EQ(tops[2].mono_rx, 33);
    CHECK_EQ(tops[2].line, LINE);
    CHECK_EQ(tops[2].epoch, EPOCH);
    CHECK_EQ(tops[2].flags, 1);
    CHECK_EQ(tops[2].is_valid, 1);
    CHECK_EQ(tops[2].is_live, 1);
    CHECK_EQ(tops[2].quotes, 1);
    check_readable(99.5, 100.25);
    CHECK_EQ(tops[1].quotes, 0);
    CHECK_EQ(tops[3].quotes, 0);
}

static void test_crossed_locked_and_one_sided_tops_are_not_readable(void) {
    static const double BAD[][4] = {{100, 1, 100, 1}, {101, 1, 100, 1}, {0, 0, 100, 1},
                                    {100, 0, 101, 1}, {100, 1, 0, 0},   {100, 1, 101, 0},
                                    {0, 1, 100, 1},   {0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        begin();
        CHECK_EQ(apply(quote_of(99, 1, 100, 1, 1)), CW_OK);
        CHECK_EQ(apply(quote_of(BAD[i][0], BAD[i][1], BAD[i][2], BAD[i][3], 2)), CW_OK);
        check_note("case %zu", i);
        CHECK_EQ(tops[2].is_valid, 0);
        CHECK_EQ(tops[2].quotes, 2);
        check_unreadable();
        CHECK_EQ(apply(quote_of(99, 1, 100, 1, 3)), CW_OK);
        check_readable(99, 100);
    }
}

static void test_quote_whose_seq_does_not_rise_is_stale_and_not_applied(void) {
    begin();
    CHECK_EQ(apply(quote_of(99, 1, 100, 1, 10)), CW_OK);
    CHECK_EQ(apply(quote_of(1, 1, 2, 1, 10)), CW_FULL);
    CHECK_EQ(apply(quote_of(1, 1, 2, 1, 9)), CW_FULL);
    CHECK_EQ(tops[2].stale, 2);
    CHECK_EQ(tops[2].quotes, 1);
    CHECK_EQ(tops[2].seq, 10);
    check_readable(99, 100);
    CHECK_EQ(apply(quote_of(98, 1, 99, 1, 11)), CW_OK);
    check_readable(98, 99);
}

static void test_seq_starts_afresh_on_another_line_or_epoch(void) {
    cw_quote low = quote_of(98, 1, 99, 1, 1);
    begin();
    CHECK_EQ(apply(quote_of(99, 1, 100, 1, 10)), CW_OK);
    CHECK_EQ(cw_top_apply(&books, &low, 0, LINE, EPOCH + 1, 1), CW_OK);
    CHECK_EQ(cw_top_apply(&books, &low, 0, LINE, EPOCH + 1, 1), CW_FULL);
    CHECK_EQ(cw_top_apply(&books, &low, 0, LINE + 1, EPOCH + 1, 1), CW_OK);
    CHECK_EQ(tops[2].line, LINE + 1);
    check_readable(98, 99);
}

static void test_first_quote_may_have_seq_0(void) {
    begin();
    CHECK_EQ(apply(quote_of(99, 1, 100, 1, 0)), CW_OK);
    CHECK_EQ(apply(quote_of(99, 1, 100, 1, 0)), CW_FULL);
}

static void test_without_rising_seq_every_quote_is_applied(void) {
    cw_quote high = quote_of(99, 1, 100, 1, 10), low = quote_of(98, 1, 99, 1, 3);
    begin();
    CHECK_EQ(cw_top_apply(&books, &high, 0, LINE, EPOCH, 0), CW_OK);
    CHECK_EQ(cw_top_apply(&books, &low, 0, LINE, EPOCH, 0), CW_OK);
    CHECK_EQ(tops[2].stale, 0);
    check_readable(98, 99);
}

static void test_invalidated_top_is_unreadable_until_its_next_quote(void) {
    begin();
    CHECK_EQ(apply(quote_of(99, 1, 100, 1, 1)), CW_OK);
    cw_top_invalidate(&books, 2);
    check_unreadable();
    cw_top_set_live(&books, 2, 1);
    check_unreadable();
    CHECK_EQ(apply(quote_of(99, 1, 100, 1, 2)), CW_OK);
    check_readable(99, 100);
}

static void test_top_of_a_dead_line_is_unreadable_until_it_is_alive(void) {
    begin();
    CHECK_EQ(apply(quote_of(99, 1, 100, 1, 1)), CW_OK);
    cw_top_set_live(&books, 2, 0);
    CHECK_EQ(tops[2].is_valid, 1);
    check_unreadable();
    cw_top_set_live(&books, 2, 1);
    check_readable(99, 100);
}

int main(void) {
    RUN(test_new_top_was_never_quoted);
    RUN(test_quote_is_put_into_its_top_and_priced_net_of_fees);
    RUN(test_crossed_locked_and_one_sided_tops_are_not_readable);
    RUN(test_quote_whose_seq_does_not_rise_is_stale_and_not_applied);
    RUN(test_seq_starts_afresh_on_another_line_or_epoch);
    RUN(test_first_quote_may_have_seq_0);
    RUN(test_without_rising_seq_every_quote_is_applied);
    RUN(test_invalidated_top_is_unreadable_until_its_next_quote);
    RUN(test_top_of_a_dead_line_is_unreadable_until_it_is_alive);
    return 0;
}
