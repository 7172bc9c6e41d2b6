/* test_merge.c — lines of one group: what comes first counts, and who takes over. */
#include <math.h>

#include "session.h"

enum { LINES = 6, GROUP = 3 };

static void *memory;
static cw_engine *engine;
static uint16_t venue;
static uint32_t a, b;
static cw_merged merged[LINES];
static cw_record quote_rows[64] __attribute__((aligned(64)));
static cw_record trade_rows[64] __attribute__((aligned(64)));

static const int64_t LIMIT = 100;

/* Instruments a and b that cross at 0 bps; lines 0 to `count` - 1 are of one group and open, line 5
 * is alone; all made by hand: the engine only needs their pulses. */
static void begin(cw_merge_key key, uint16_t count) {
    cw_limits limits = {.instruments = 4, .pairs = 4, .lines = LINES, .venues = 2, .signals = 64};
    cw_pair_terms pair = {.a = 0, .b = 1, .rule_id = 9, .qty_max = INFINITY};
    free(memory);
    memory = take_aligned(cw_engine_size(&limits));
    engine = cw_engine_init(memory, &limits, cw_ops_for(CW_LEVEL_BASE));
    memset(merged, 0, sizeof merged);
    CHECK_EQ(cw_engine_add_venue(engine, &SPOT, LIMIT, 10.0, key == CW_MERGE_SEQ, &venue), CW_OK);
    cw_engine_set_merge_key(engine, venue, key);
    CHECK_EQ(cw_engine_add_instrument(engine, venue, (const uint8_t *)"A", 1, 10.0, 1.0, &a),
             CW_OK);
    CHECK_EQ(cw_engine_add_instrument(engine, venue, (const uint8_t *)"B", 1, 10.0, 1.0, &b),
             CW_OK);
    CHECK_EQ(cw_engine_set_pairs(engine, &pair, 1), CW_OK);
    engine->quotes = (cw_batch){quote_rows, 0, 64};
    engine->trades = (cw_batch){trade_rows, 0, 64};
    for (uint16_t i = 0; i < LINES; i++) {
        engine->line_count++;
        engine->pulses[i].venue = venue;
        engine->pulses[i].limit_ns = LIMIT;
        if (i < count) CHECK_EQ(cw_group_join(engine, i, GROUP, &merged[i]), CW_OK);
        if (i < count || i == 5) cw_engine_open_line(engine, i, 1, 1);
    }
}

static uint32_t quote_at(uint16_t line, uint32_t instrument, double bid, int64_t ts, uint64_t seq) {
    cw_record row = {.quote = {.seq = seq, .ts_exch = ts, .bid = bid, .bid_qty = 1,
                               .ask = bid + 1, .ask_qty = 1, .instrument = instrument,
                               .venue = venue}};
    cw_engine_hear(engine, line);
    return cw_engine_take(engine, line, CW_SCAN_QUOTE, SPOT_BOOK_TICKER, instrument, &row);
}

static uint32_t quote(uint16_t line, uint32_t instrument, double bid, uint64_t seq) {
    return quote_at(line, instrument, bid, 0, seq);
}

/* 1 when it was handed over. */
static uint32_t trade(uint16_t line, uint64_t id) {
    uint32_t before = engine->trades.count;
    cw_record row = {.trade = {.trade_id = id, .price = 1, .qty = 1, .instrument = a,
                               .venue = venue}};
    cw_engine_hear(engine, line);
    CHECK_EQ(cw_engine_take(engine, line, CW_SCAN_TRADE, SPOT_TRADE, a, &row), 0);
    return engine->trades.count - before;
}

static void pass(int64_t now) { CHECK_EQ(cw_engine_advance(engine, now, now), 0); }

static cw_signal next_signal(void) { return take_signal(&engine->ring); }

static int is_readable(uint32_t instrument) { return engine->books.net_ask[instrument] < INFINITY; }

static const cw_top *top_of(uint32_t instrument) { return &engine->books.tops[instrument]; }

/* Both lines cover from 2 on and line 0 quotes a as 10; the time is 3. */
static void begin_covered(void) {
    begin(CW_MERGE_SEQ, 2);
    cw_engine_cover(engine, 0, 2, 2);
    cw_engine_cover(engine, 1, 2, 2);
    pass(3);
    CHECK_EQ(quote(0, a, 99, 10), 0);
}

/* ---- groups ---- */

static void test_a_group_is_of_one_venue_with_a_key_and_has_four_lines(void) {
    uint16_t other;
    begin(CW_MERGE_SEQ, 4);
    CHECK_EQ(cw_engine_add_venue(engine, &OKX, LIMIT, 1.0, 0, &other), CW_OK);
    CHECK_EQ(cw_group_check(engine, other, 7), CW_E_TYPE);
    cw_engine_set_merge_key(engine, other, CW_MERGE_TS_SEQ);
    CHECK_EQ(cw_group_check(engine, other, 7), CW_OK);
    CHECK_EQ(cw_group_check(engine, other, GROUP), CW_TAKEN);
    CHECK_EQ(cw_group_check(engine, venue, GROUP), CW_FULL);
    CHECK_EQ(cw_group_join(engine, 4, GROUP, &merged[4]), CW_FULL);
    CHECK_EQ(engine->pulses[4].group, 0);
    CHECK_EQ(engine->pulses[0].member_count, 4);
    CHECK_EQ(engine->pulses[3].members[3], 3);
    CHECK_EQ(engine->pulses[3].member, 3);
}

/* ---- quotes ---- */

static void test_the_first_of_a_key_is_taken_and_its_copies_are_counted(void) {
    begin(CW_MERGE_SEQ, 3);
    pass(10);
    CHECK_EQ(quote(0, a, 99, 7), 0);
    CHECK_EQ(engine->quotes.count, 1);
    pass(25);
    CHECK_EQ(quote(1, a, 99, 7), 0);
    pass(30);
    CHECK_EQ(quote(2, a, 99, 7), 0);
    CHECK_EQ(quote(2, a, 55, 6), 0);
    CHECK_EQ(engine->quotes.count, 1);
    CHECK_EQ(top_of(a)->line, 0);
    CHECK_DOUBLE(top_of(a)->bid, 99);
    CHECK_EQ(top_of(a)->stale, 0);
    CHECK_EQ(merged[0].wins, 1);
    CHECK_EQ(merged[1].duplicates, 1);
    CHECK_EQ(merged[2].duplicates, 2);
    CHECK_EQ(merged[0].margin.count, 1); /* the second copy is none */
    CHECK_EQ(merged[0].margin.max, 15);
    CHECK_EQ(quote(2, a, 98, 8), 0);
    CHECK_EQ(top_of(a)->line, 2);
    CHECK_EQ(engine->quotes.count, 2);
    CHECK_EQ(engine->counts[a * CW_KINDS + SPOT_BOOK_TICKER], 5); /* what came */
}

static void test_time_comes_before_the_number_where_numbers_may_be_set_back(void) {
    begin(CW_MERGE_TS_SEQ, 2);
    CHECK_EQ(quote_at(0, a, 99, 1000, 7), 0);
    CHECK_EQ(quote_at(1, a, 98, 999, 8), 0);
    CHECK_DOUBLE(top_of(a)->bid, 99);
    CHECK_EQ(quote_at(1, a, 97, 1000, 8), 0);
    CHECK_DOUBLE(top_of(a)->bid, 97);
    CHECK_EQ(quote_at(0, a, 96, 1001, 1), 0);
    CHECK_DOUBLE(top_of(a)->bid, 96);
    CHECK_EQ(quote_at(0, a, 95, 1001, 1), 0);
    CHECK_DOUBLE(top_of(a)->bid, 96);
}

static void test_a_repetition_on_its_own_line_has_no_margin(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(quote(0, a, 99, 7), 0);
    CHECK_EQ(quote(0, a, 99, 7), 0);
    CHECK_EQ(merged[0].duplicates, 1);
    CHECK_EQ(merged[0].margin.count, 0);
}

static void test_wins_are_told_that_would_have_been_missing(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(quote(0, a, 99, 7), 0);
    CHECK_EQ(merged[0].gaps_filled, 1);
    cw_engine_cover(engine, 1, 2, 2);
    CHECK_EQ(quote(0, a, 99, 8), 0);
    CHECK_EQ(merged[0].gaps_filled, 1);
    CHECK_EQ(quote(1, a, 99, 9), 0); /* the other does not cover */
    CHECK_EQ(merged[1].gaps_filled, 1);
}

static void test_a_lone_line_of_the_venue_is_no_twin_and_needs_no_key(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(quote(0, a, 99, 7), 0);
    CHECK_EQ(quote(5, a, 98, 3), 0);
    CHECK_DOUBLE(top_of(a)->bid, 98);
    CHECK_EQ(quote(0, a, 97, 2), 0);
    CHECK_DOUBLE(top_of(a)->bid, 97);
}

/* ---- who takes over ---- */

static void test_a_lost_line_s_tops_go_over_to_a_covering_twin_and_nothing_closes(void) {
    begin_covered();
    CHECK_EQ(quote(0, b, 101, 10), 1);
    CHECK_EQ(next_signal().event, CW_SIGNAL_OPEN);
    pass(4);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 4, 4), 0);
    CHECK(is_readable(a));
    CHECK_EQ(top_of(a)->line, 1);
    CHECK_EQ(top_of(a)->epoch, engine->pulses[1].epoch);
    CHECK_EQ(top_of(a)->seq, 10);
    /* the twin is behind: what it repeats is older than what stands there */
    CHECK_EQ(quote(1, a, 50, 9), 0);
    CHECK_EQ(quote(1, a, 99, 10), 0);
    CHECK_DOUBLE(top_of(a)->bid, 99);
    CHECK_EQ(merged[1].margin.count, 0);
    CHECK_EQ(quote(1, a, 99, 11), 0);
    CHECK_EQ(top_of(a)->seq, 11);
    CHECK_EQ(cw_engine_lose_line(engine, 1, 5, 5), 1);
    CHECK_EQ(next_signal().close_reason, CW_CLOSE_LOST);
    CHECK(!is_readable(a));
}

static void test_a_twin_that_began_to_cover_behind_the_last_byte_does_not_take_over(void) {
    begin(CW_MERGE_SEQ, 2);
    pass(3);
    CHECK_EQ(quote(0, a, 99, 10), 0);
    cw_engine_cover(engine, 1, 3, 3);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 9, 9), 0);
    CHECK(!is_readable(a));
    /* nobody carries it: any quote is better than none */
    CHECK_EQ(quote(1, a, 98, 8), 0);
    CHECK(is_readable(a));
    CHECK_EQ(top_of(a)->seq, 8);
}

static void test_a_twin_that_does_not_cover_or_is_silent_or_lost_does_not_take_over(void) {
    for (int how = 0; how < 4; how++) {
        begin(CW_MERGE_SEQ, 2);
        if (how != 0) cw_engine_cover(engine, 1, 2, 2);
        pass(50);
        if (how == 1) CHECK_EQ(cw_engine_lose_line(engine, 1, 50, 50), 0);
        if (how == 3) cw_engine_open_line(engine, 1, 50, 50); /* once more: it does not cover yet */
        CHECK_EQ(quote(0, a, 99, 10), 0);
        check_note("how %d", how);
        CHECK_EQ(cw_engine_lose_line(engine, 0, 0, how == 2 ? 102 : 60), 0);
        CHECK(!is_readable(a));
    }
}

static void test_a_silent_line_s_tops_go_over_and_come_back_by_newer_quotes_only(void) {
    begin_covered();
    pass(90);
    cw_engine_hear(engine, 1);
    CHECK_EQ(cw_engine_advance(engine, 104, 104), 0);
    CHECK_EQ(engine->pulses[0].is_live, 0);
    CHECK(is_readable(a));
    CHECK_EQ(top_of(a)->line, 1);
    CHECK_EQ(quote(0, a, 55, 10), 0);
    CHECK_EQ(top_of(a)->line, 1);
    CHECK_EQ(quote(0, a, 98, 11), 0);
    CHECK_EQ(top_of(a)->line, 0);
}

static void test_two_lines_that_fall_silent_together_do_not_take_over_from_each_other(void) {
    begin_covered();
    CHECK_EQ(quote(1, b, 101, 10), 1);
    CHECK_EQ(next_signal().event, CW_SIGNAL_OPEN);
    CHECK_EQ(cw_engine_advance(engine, 104, 104), 1);
    CHECK_EQ(next_signal().close_reason, CW_CLOSE_LIVENESS);
    CHECK(!is_readable(a));
    CHECK_EQ(top_of(a)->line, 0);
    /* the twin speaks again, then the other is lost: it missed nothing */
    cw_engine_hear(engine, 1);
    CHECK(!is_readable(a));
    CHECK_EQ(cw_engine_lose_line(engine, 0, 105, 105), 0);
    CHECK(is_readable(a));
}

static void test_a_line_that_is_opened_while_open_is_lost_first(void) {
    begin_covered();
    cw_engine_open_line(engine, 0, 5, 5);
    CHECK(is_readable(a));
    CHECK_EQ(top_of(a)->line, 1);
    CHECK_EQ(engine->pulses[0].is_covering, 0);
    cw_engine_open_line(engine, 1, 6, 6);
    CHECK(!is_readable(a));
}

static void test_a_line_that_is_done_gives_away_what_it_has_and_takes_nothing(void) {
    begin_covered();
    CHECK_EQ(quote(1, b, 99, 10), 0);
    cw_engine_end_line(engine, 0);
    CHECK_EQ(top_of(a)->line, 1);
    CHECK(is_readable(a));
    CHECK_EQ(cw_engine_lose_line(engine, 1, 9, 9), 0);
    CHECK(!is_readable(a));
    CHECK(!is_readable(b));
}

static void test_a_line_that_is_not_open_does_not_cover(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(cw_engine_lose_line(engine, 1, 2, 2), 0);
    cw_engine_cover(engine, 1, 3, 3);
    CHECK_EQ(engine->pulses[1].is_covering, 0);
}

static void test_covering_twice_counts_from_the_first(void) {
    begin(CW_MERGE_SEQ, 2);
    cw_engine_cover(engine, 1, 2, 2);
    cw_engine_cover(engine, 1, 9, 9);
    CHECK_EQ(engine->pulses[1].covers_from, 2);
}

static void test_a_distrusted_top_is_valid_again_by_a_newer_quote_of_any_line(void) {
    begin_covered();
    CHECK_EQ(cw_engine_distrust(engine, 0, a), 0);
    CHECK(!is_readable(a));
    CHECK_EQ(quote(1, a, 99, 10), 0);
    CHECK(!is_readable(a));
    CHECK_EQ(quote(1, a, 99, 11), 0);
    CHECK(is_readable(a));
    CHECK_EQ(cw_engine_distrust(engine, 0, CW_NO_INSTRUMENT), 0); /* the other line carries it */
    CHECK(is_readable(a));
}

static void test_a_distrusted_top_is_not_healed_by_going_over(void) {
    begin_covered();
    CHECK_EQ(cw_engine_distrust(engine, 0, a), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 9, 9), 0);
    CHECK_EQ(top_of(a)->line, 1);
    CHECK(!is_readable(a));
}

static void test_a_line_that_is_open_again_does_not_carry_what_it_carried_before(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(quote(0, a, 99, 10), 0);
    cw_engine_open_line(engine, 0, 5, 5);
    CHECK_EQ(quote(1, a, 98, 8), 0);
    CHECK(is_readable(a));
    CHECK_EQ(top_of(a)->seq, 8);
}

/* What stood there before the line was opened again is lost, and no twin brings it back. */
static void test_what_an_earlier_connection_brought_does_not_go_over(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(quote(0, a, 99, 10), 0);
    CHECK_EQ(trade(0, 5), 1);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 2, 2), 0);
    cw_engine_open_line(engine, 0, 3, 3);
    cw_engine_cover(engine, 1, 3, 3);
    pass(4);
    CHECK_EQ(quote(0, b, 99, 11), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5, 5), 0);
    CHECK(is_readable(b));
    CHECK(!is_readable(a));
    CHECK_EQ(top_of(a)->line, 0);
    CHECK_EQ(engine->streams[a].trade_line, 0);
}

/* What the twin could not read may have been newer than what stands there: it would never be told. */
static void test_a_twin_that_lost_a_message_takes_over_once_it_brought_the_stream_again(void) {
    for (int is_known = 0; is_known < 2; is_known++) {
        for (int is_heard = 0; is_heard < 2; is_heard++) {
            check_note("known %d heard %d", is_known, is_heard);
            begin_covered();
            CHECK_EQ(quote(1, a, 99, 10), 0);
            CHECK_EQ(trade(0, 5), 1);
            CHECK_EQ(trade(1, 5), 0);
            CHECK_EQ(cw_engine_distrust(engine, 1, is_known ? a : CW_NO_INSTRUMENT), 0);
            pass(4);
            CHECK_EQ(quote(0, a, 99, 12), 0);
            CHECK(is_readable(a));
            if (is_heard) CHECK_EQ(quote(1, a, 99, 12), 0);
            if (is_heard) CHECK_EQ(trade(1, 7), 1);
            if (is_heard) CHECK_EQ(trade(0, 8), 1);
            CHECK_EQ(cw_engine_lose_line(engine, 0, 5, 5), 0);
            CHECK_EQ(is_readable(a), is_heard);
            CHECK_EQ(engine->streams[a].trade_line, is_heard);
            cw_engine_open_line(engine, 0, 6, 6);
            cw_engine_cover(engine, 0, 6, 6);
            pass(7);
            CHECK_EQ(quote(1, a, 99, 13), 0);
            cw_engine_open_line(engine, 1, 8, 8); /* its misses are of a connection before */
            CHECK(is_readable(a));
            cw_engine_cover(engine, 1, 8, 8);
            pass(9);
            cw_engine_hear(engine, 0);
            CHECK_EQ(cw_engine_lose_line(engine, 0, 10, 10), 0);
            CHECK(is_readable(a));
        }
    }
}

static void test_what_others_carry_does_not_go_over(void) {
    begin_covered();
    CHECK_EQ(quote(5, b, 99, 11), 0);
    cw_engine_hear(engine, 5);
    CHECK_EQ(trade(1, 5), 1);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5, 5), 0);
    CHECK_EQ(top_of(b)->line, 5);
    CHECK_EQ(engine->streams[a].trade_line, 1);
}

static void test_a_line_that_has_been_silent_does_not_count_as_covering(void) {
    begin_covered();
    CHECK_EQ(merged[0].gaps_filled, 0);
    pass(90);
    cw_engine_hear(engine, 0);
    CHECK_EQ(cw_engine_advance(engine, 150, 150), 0);
    CHECK_EQ(quote(0, a, 99, 11), 0);
    CHECK_EQ(merged[0].gaps_filled, 1);
}

/* ---- trades ---- */

static void test_each_trade_is_handed_over_once(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(trade(0, 5), 1);
    CHECK_EQ(trade(1, 5), 0);
    CHECK_EQ(trade(1, 6), 1);
    CHECK_EQ(trade(0, 6), 0);
    CHECK_EQ(merged[0].wins, 1);
    CHECK_EQ(merged[0].duplicates, 1);
    CHECK_EQ(merged[1].wins, 1);
    CHECK_EQ(merged[1].duplicates, 1);
    CHECK_EQ(engine->counts[a * CW_KINDS + SPOT_TRADE], 4);
}

static void test_a_line_that_is_opened_again_ahead_of_its_twin_hides_nothing(void) {
    begin(CW_MERGE_SEQ, 2);
    CHECK_EQ(trade(0, 5), 1);
    CHECK_EQ(trade(1, 5), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 2, 2), 0);
    cw_engine_open_line(engine, 0, 3, 3);
    CHECK_EQ(trade(0, 9), 1);
    CHECK_EQ(trade(1, 6), 1);
    CHECK_EQ(trade(1, 7), 1);
    CHECK_EQ(trade(1, 9), 0);
}

static void test_a_trade_that_could_not_be_read_is_new_on_the_other_line(void) {
    for (int is_known = 0; is_known < 2; is_known++) {
        begin(CW_MERGE_SEQ, 2);
        CHECK_EQ(trade(0, 5), 1);
        CHECK_EQ(cw_engine_distrust(engine, 0, is_known ? a : CW_NO_INSTRUMENT), 0);
        CHECK_EQ(trade(0, 7), 1);
        CHECK_EQ(trade(1, 6), 1);
        CHECK_EQ(trade(1, 7), 0);
    }
}

/* ---- what cannot be merged ---- */

static void test_a_record_without_its_key_cannot_be_merged(void) {
    cw_record row = {.quote = {.seq = 1}};
    CHECK_EQ(cw_merge_check(CW_SCAN_QUOTE, &row), CW_OK);
    row.quote.seq = 0;
    CHECK_EQ(cw_merge_check(CW_SCAN_QUOTE, &row), CW_E_KEY_MISSING);
    row = (cw_record){.trade = {.trade_id = 1}};
    CHECK_EQ(cw_merge_check(CW_SCAN_TRADE, &row), CW_OK);
    row.trade.flags = CW_FLAG_ID_HASHED;
    CHECK_EQ(cw_merge_check(CW_SCAN_TRADE, &row), CW_E_TYPE);
    CHECK_EQ(cw_merge_check(CW_SCAN_COUNTED, &row), CW_OK);
}

static void test_a_quote_without_its_key_is_a_lost_message_of_the_line(void) {
    static cw_merged of_line;
    options o = usual(&OKX);
    session s;
    bytes stream = {0};
    memset(&of_line, 0, sizeof of_line);
    session_open(&s, &o);
    cw_engine_set_merge_key(s.engine, 0, CW_MERGE_TS_SEQ);
    CHECK_EQ(cw_line_join(&s.line, 1, &of_line), CW_OK);
    put_text_frame(&stream, "{\"arg\":{\"channel\":\"bbo-tbt\",\"instId\":\"ETH-USDT\"},\"data\":["
                            "{\"asks\":[[\"2\",\"1\"]],\"bids\":[[\"1\",\"1\"]],\"ts\":\"5\",\"seqId\":3},"
                            "{\"asks\":[[\"2\",\"1\"]],\"bids\":[[\"1\",\"1\"]],\"ts\":\"6\"},"
                            "{\"asks\":[[\"2\",\"1\"]],\"bids\":[[\"1\",\"1\"]],\"ts\":\"6\",\"seqId\":2},"
                            "{\"asks\":[[\"2\",\"1\"]],\"bids\":[[\"1\",\"1\"]],\"ts\":\"7\",\"seqId\":1}]}");
    receive(&s, stream.p, stream.n);
    CHECK_EQ(s.quotes.n, 3 * sizeof(cw_quote));
    CHECK_EQ(s.line.error_count, 1);
    CHECK_EQ(s.line.errors[0].error.code, CW_E_KEY_MISSING);
    CHECK_EQ(s.line.errors[0].instrument, 1);
    CHECK_EQ(s.engine->books.tops[1].is_valid, 1);
    CHECK_EQ(of_line.wins, 3);
    CHECK_EQ(s.line.is_done, 0);
    bytes_free(&stream);
    session_close(&s);
}

int main(void) {
    RUN(test_a_group_is_of_one_venue_with_a_key_and_has_four_lines);
    RUN(test_the_first_of_a_key_is_taken_and_its_copies_are_counted);
    RUN(test_time_comes_before_the_number_where_numbers_may_be_set_back);
    RUN(test_a_repetition_on_its_own_line_has_no_margin);
    RUN(test_wins_are_told_that_would_have_been_missing);
    RUN(test_a_lone_line_of_the_venue_is_no_twin_and_needs_no_key);
    RUN(test_a_lost_line_s_tops_go_over_to_a_covering_twin_and_nothing_closes);
    RUN(test_a_twin_that_began_to_cover_behind_the_last_byte_does_not_take_over);
    RUN(test_a_twin_that_does_not_cover_or_is_silent_or_lost_does_not_take_over);
    RUN(test_a_silent_line_s_tops_go_over_and_come_back_by_newer_quotes_only);
    RUN(test_two_lines_that_fall_silent_together_do_not_take_over_from_each_other);
    RUN(test_a_line_that_is_opened_while_open_is_lost_first);
    RUN(test_a_line_that_is_open_again_does_not_carry_what_it_carried_before);
    RUN(test_a_line_that_is_done_gives_away_what_it_has_and_takes_nothing);
    RUN(test_a_line_that_is_not_open_does_not_cover);
    RUN(test_covering_twice_counts_from_the_first);
    RUN(test_a_distrusted_top_is_valid_again_by_a_newer_quote_of_any_line);
    RUN(test_a_distrusted_top_is_not_healed_by_going_over);
    RUN(test_what_an_earlier_connection_brought_does_not_go_over);
    RUN(test_a_twin_that_lost_a_message_takes_over_once_it_brought_the_stream_again);
    RUN(test_what_others_carry_does_not_go_over);
    RUN(test_a_line_that_has_been_silent_does_not_count_as_covering);
    RUN(test_each_trade_is_handed_over_once);
    RUN(test_a_line_that_is_opened_again_ahead_of_its_twin_hides_nothing);
    RUN(test_a_trade_that_could_not_be_read_is_new_on_the_other_line);
    RUN(test_a_record_without_its_key_cannot_be_merged);
    RUN(test_a_quote_without_its_key_is_a_lost_message_of_the_line);
    free(memory);
    return 0;
}
