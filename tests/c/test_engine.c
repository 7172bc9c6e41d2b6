/* test_engine.c — memory, directory, time and records of the engine. */
#include <math.h>

#include "session.h"

static void *memory;
static cw_engine *engine;
static uint16_t venue;
static uint32_t a, b;

static const int64_t LIMIT = 100;

/* One venue, instruments a and b that cross at 0 bps, and a line 0 made by hand: the engine only
 * needs its pulse. */
static void begin(int seq_is_rising) {
    cw_limits limits = {.instruments = 4, .pairs = 4, .lines = 2, .venues = 2, .signals = 16};
    cw_pair_terms pair = {.a = 0, .b = 1, .rule_id = 9, .qty_max = INFINITY};
    free(memory);
    memory = take_aligned(cw_engine_size(&limits));
    engine = cw_engine_init(memory, &limits, cw_ops_for(CW_LEVEL_BASE));
    CHECK_EQ(cw_engine_add_venue(engine, &SPOT, LIMIT, 10.0, seq_is_rising, &venue), CW_OK);
    CHECK_EQ(cw_engine_add_instrument(engine, venue, (const uint8_t *)"A", 1, 10.0, 1.0, &a),
             CW_OK);
    CHECK_EQ(cw_engine_add_instrument(engine, venue, (const uint8_t *)"B", 1, 10.0, 1.0, &b),
             CW_OK);
    CHECK_EQ(cw_engine_set_pairs(engine, &pair, 1), CW_OK);
    engine->line_count = 2;
    for (int i = 0; i < 2; i++) {
        engine->pulses[i].venue = venue;
        engine->pulses[i].limit_ns = LIMIT;
    }
}

static uint32_t quote(uint16_t line, uint32_t instrument, double bid, double ask, uint64_t seq) {
    cw_record row = {.quote = {.seq = seq, .bid = bid, .bid_qty = 1, .ask = ask, .ask_qty = 1,
                               .instrument = instrument, .venue = venue}};
    return cw_engine_take(engine, line, CW_SCAN_QUOTE, SPOT_BOOK_TICKER, instrument, &row);
}

static cw_signal next_signal(void) { return take_signal(&engine->ring); }

static void open_cross(void) {
    CHECK_EQ(quote(0, a, 99, 100, 1), 0);
    CHECK_EQ(quote(1, b, 101, 102, 1), 1);
    CHECK_EQ(next_signal().event, CW_SIGNAL_OPEN);
}

static void test_size_is_0_for_absurd_limits_and_a_multiple_of_64_otherwise(void) {
    cw_limits good = {.instruments = 4, .pairs = 0, .lines = 1, .venues = 1, .signals = 1}, bad;
    CHECK(cw_engine_size(&good) > 0);
    CHECK_EQ(cw_engine_size(&good) % 64, 0);
    bad = good, bad.instruments = 0;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.instruments = UINT32_MAX;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.pairs = UINT32_MAX;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.lines = 0;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.lines = UINT32_MAX;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.venues = 0;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.signals = 0;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.signals = 12;
    CHECK_EQ(cw_engine_size(&bad), 0);
    bad = good, bad.signals = 1u << 31;
    CHECK_EQ(cw_engine_size(&bad), 0);
}

static void test_directory_is_full_at_its_limits(void) {
    uint16_t id16;
    uint32_t id;
    begin(0);
    CHECK_EQ(a, 0);
    CHECK_EQ(b, 1);
    CHECK_EQ(cw_engine_add_venue(engine, &OKX, LIMIT, 1.0, 0, &id16), CW_OK);
    CHECK_EQ(id16, 1);
    CHECK_EQ(cw_engine_add_venue(engine, &OKX, LIMIT, 1.0, 0, &id16), CW_FULL);
    CHECK_EQ(cw_engine_add_instrument(engine, 1, (const uint8_t *)"A", 1, 5, 1, &id), CW_OK);
    CHECK_EQ(id, 2);
    CHECK_EQ(cw_engine_add_instrument(engine, 1, (const uint8_t *)"", 0, 5, 1, &id),
             CW_E_SYMBOL_UNKNOWN);
    CHECK_EQ(cw_engine_add_instrument(engine, 1, (const uint8_t *)"C", 1, 5, 1, &id), CW_OK);
    CHECK_EQ(cw_engine_add_instrument(engine, 1, (const uint8_t *)"D", 1, 5, 1, &id), CW_FULL);
    CHECK_EQ(engine->instrument_count, 4);
}

static void test_invalid_layout_is_refused(void) {
    static cw_layout layout;
    uint16_t id;
    begin(0);
    layout = SPOT;
    layout.node_count = 0;
    CHECK(cw_engine_add_venue(engine, &layout, LIMIT, 1.0, 0, &id) != CW_OK);
}

static void test_pairs_of_unknown_instruments_are_refused(void) {
    cw_pair_terms pair = {.a = 0, .b = 2};
    begin(0);
    CHECK_EQ(cw_engine_set_pairs(engine, &pair, 1), CW_FULL);
    pair.b = 1;
    CHECK_EQ(cw_engine_set_pairs(engine, &pair, 1), CW_OK);
}

static void test_record_is_counted_stamped_kept_and_applied(void) {
    cw_record rows[1] __attribute__((aligned(64)));
    cw_record trade = {.trade = {.price = 5, .qty = 6, .instrument = 1, .venue = 0}};
    begin(0);
    cw_engine_open_line(engine, 0, 500, 50);
    engine->quotes = (cw_batch){rows, 0, 1};
    CHECK_EQ(quote(0, a, 99, 100, 7), 0);
    CHECK_EQ(engine->quotes.count, 1);
    CHECK_EQ(rows[0].quote.ts_rx, 500);
    CHECK_EQ(rows[0].quote.seq, 7);
    CHECK_EQ(engine->books.tops[a].mono_rx, 50);
    CHECK_EQ(engine->books.tops[a].ts_rx, 500);
    CHECK_EQ(engine->counts[a * CW_KINDS + SPOT_BOOK_TICKER], 1);
    engine->trades = (cw_batch){rows, 0, 1};
    CHECK_EQ(cw_engine_take(engine, 0, CW_SCAN_TRADE, SPOT_TRADE, b, &trade), 0);
    CHECK_EQ(engine->trades.count, 1);
    CHECK_EQ(rows[0].trade.ts_rx, 500);
    CHECK_EQ(engine->counts[b * CW_KINDS + SPOT_TRADE], 1);
    CHECK_EQ(cw_engine_take(engine, 0, CW_SCAN_COUNTED, SPOT_DEPTH, b, &trade), 0);
    CHECK_EQ(engine->counts[b * CW_KINDS + SPOT_DEPTH], 1);
}

static void test_stale_quote_of_a_rising_venue_is_counted_and_changes_nothing(void) {
    begin(1);
    cw_engine_open_line(engine, 0, 1, 1);
    CHECK_EQ(quote(0, a, 99, 100, 7), 0);
    CHECK_EQ(quote(0, a, 1, 2, 7), 0);
    CHECK_EQ(engine->books.tops[a].stale, 1);
    CHECK_DOUBLE(engine->books.tops[a].bid, 99);
    cw_engine_open_line(engine, 0, 2, 2);
    CHECK_EQ(quote(0, a, 98, 99, 1), 0);
    CHECK_EQ(engine->books.tops[a].stale, 1);
    CHECK_DOUBLE(engine->books.tops[a].bid, 98);
}

static void test_line_silent_for_its_limit_is_alive_and_one_tick_later_dead(void) {
    cw_signal s;
    begin(0);
    cw_engine_open_line(engine, 0, 1000, 1000);
    cw_engine_open_line(engine, 1, 1000, 1050);
    open_cross();
    CHECK_EQ(cw_engine_advance(engine, 1100, 1100), 0);
    CHECK_EQ(engine->pulses[0].is_live, 1);
    CHECK_EQ(cw_engine_advance(engine, 1101, 1101), 1);
    CHECK_EQ(engine->pulses[0].is_live, 0);
    CHECK_EQ(engine->pulses[1].is_live, 1);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_CLOSE);
    CHECK_EQ(s.close_reason, CW_CLOSE_LIVENESS);
    CHECK(s.gates & CW_GATE_LIVENESS);
    CHECK_EQ(s.ts_rx, 1101);
    CHECK_DOUBLE(engine->books.net_ask[a], INFINITY);
    CHECK(engine->books.net_ask[b] < INFINITY);
    CHECK_EQ(cw_engine_advance(engine, 1150, 1150), 0);
    CHECK_EQ(engine->pulses[1].is_live, 1);
    CHECK_EQ(cw_engine_advance(engine, 1151, 1151), 0);
    CHECK_EQ(engine->pulses[1].is_live, 0);
    CHECK_EQ(cw_engine_advance(engine, 9999, 9999), 0);
}

static void test_stamps_that_run_backwards_stand_still(void) {
    begin(0);
    cw_engine_open_line(engine, 0, 1000, 1000);
    CHECK_EQ(cw_engine_advance(engine, 1090, 1090), 0);
    CHECK_EQ(cw_engine_advance(engine, 1, 1), 0);
    cw_engine_open_line(engine, 1, 1, 1);
    CHECK_EQ(engine->pulses[1].last_mono, 1090);
    CHECK_EQ(cw_engine_advance(engine, 1190, 1190), 0);
    CHECK_EQ(engine->pulses[1].is_live, 1);
}

static void test_lost_line_makes_its_tops_unreadable_and_closes_what_was_open(void) {
    cw_signal s;
    begin(0);
    cw_engine_open_line(engine, 0, 1, 1);
    cw_engine_open_line(engine, 1, 1, 1);
    open_cross();
    CHECK_EQ(cw_engine_lose_line(engine, 1, 7, 7), 1);
    s = next_signal();
    CHECK_EQ(s.close_reason, CW_CLOSE_LOST);
    CHECK_EQ(s.ts_rx, 7);
    CHECK_DOUBLE(engine->books.net_bid[b], -INFINITY);
    CHECK(engine->books.net_ask[a] < INFINITY);
    CHECK_EQ(cw_engine_lose_line(engine, 1, 8, 8), 0);
    cw_engine_open_line(engine, 1, 9, 9);
    CHECK_DOUBLE(engine->books.net_bid[b], -INFINITY);
    CHECK_EQ(quote(1, b, 101, 102, 1), 1);
    CHECK_EQ(next_signal().event, CW_SIGNAL_OPEN);
}

static void test_distrusted_instrument_is_unreadable_until_its_next_quote(void) {
    cw_signal s;
    begin(0);
    cw_engine_open_line(engine, 0, 1, 1);
    cw_engine_open_line(engine, 1, 1, 1);
    open_cross();
    CHECK_EQ(cw_engine_distrust(engine, 1, b), 1);
    s = next_signal();
    CHECK_EQ(s.close_reason, CW_CLOSE_GATE);
    CHECK_DOUBLE(engine->books.net_bid[b], -INFINITY);
    CHECK(engine->books.net_ask[a] < INFINITY);
    CHECK_EQ(quote(1, b, 101, 102, 2), 1);
    CHECK_EQ(next_signal().event, CW_SIGNAL_OPEN);
}

static void test_distrust_of_nobody_in_particular_is_of_the_whole_line(void) {
    begin(0);
    cw_engine_open_line(engine, 0, 1, 1);
    cw_engine_open_line(engine, 1, 1, 1);
    open_cross();
    CHECK_EQ(cw_engine_distrust(engine, 0, CW_NO_INSTRUMENT), 1);
    CHECK_EQ(next_signal().close_reason, CW_CLOSE_GATE);
    CHECK_DOUBLE(engine->books.net_ask[a], INFINITY);
    CHECK(engine->books.net_bid[b] > -INFINITY);
}

static int64_t ticks;
static int64_t tick(void *user) { return *(int64_t *)user += 7; }

static void test_signals_are_timed_by_the_clock_that_was_given(void) {
    begin(0);
    cw_engine_open_line(engine, 0, 1, 1);
    cw_engine_open_line(engine, 1, 1, 1);
    ticks = 100;
    engine->clock = (cw_clock){tick, &ticks};
    open_cross();
    CHECK_EQ(engine->rx_to_signal.count, 1);
    CHECK_EQ(engine->rx_to_signal.max, 106);
}

static void test_instruments_found_on_the_way_have_the_venue_s_fee(void) {
    options o = usual(&SPOT);
    session s;
    bytes stream = {0};
    o.takes_unknown = 1;
    session_open(&s, &o);
    put_text_frame(&stream, "{\"u\":1,\"s\":\"NEW\",\"b\":\"1\",\"B\":\"1\",\"a\":\"2\","
                            "\"A\":\"1\"}");
    receive(&s, stream.p, stream.n);
    CHECK_EQ(s.engine->instrument_count, 5);
    CHECK_EQ(s.engine->books.count, 5);
    CHECK_DOUBLE(s.engine->books.net_ask[4], 2 * (1 + 10.0 * 1e-4));
    CHECK_DOUBLE(s.engine->books.tops[4].multiplier, 1.0);
    bytes_free(&stream);
    session_close(&s);
}

/* engine.h: CW_FULL "when the ring has fewer than four slots a pair". */
static void test_ring_needs_four_slots_a_pair(void) {
    cw_limits limits = {.instruments = 8, .pairs = 4, .lines = 1, .venues = 1, .signals = 8};
    cw_pair_terms three[] = {{.a = 0, .b = 1}, {.a = 2, .b = 3}, {.a = 4, .b = 5}};
    void *block = take_aligned(cw_engine_size(&limits));
    cw_engine *e = cw_engine_init(block, &limits, cw_ops_for(CW_LEVEL_BASE));
    uint16_t id;
    uint32_t instrument;
    CHECK_EQ(cw_engine_add_venue(e, &SPOT, LIMIT, 10.0, 0, &id), CW_OK);
    for (uint8_t c = 'A'; c < 'G'; c++)
        CHECK_EQ(cw_engine_add_instrument(e, id, &c, 1, 10, 1, &instrument), CW_OK);
    CHECK_EQ(cw_engine_set_pairs(e, three, 3), CW_FULL);
    CHECK_EQ(cw_engine_set_pairs(e, three, 2), CW_OK);
    free(block);
}

/* book.h: a top is valid "when it was quoted since its line was opened". */
static void test_reopened_line_has_no_valid_tops_of_before(void) {
    begin(0);
    cw_engine_open_line(engine, 0, 1, 1);
    CHECK_EQ(quote(0, a, 99, 100, 1), 0);
    CHECK(engine->books.net_ask[a] < INFINITY);
    cw_engine_open_line(engine, 0, 2, 2);
    CHECK_DOUBLE(engine->books.net_ask[a], INFINITY);
}

static void test_limit_without_end_never_ends(void) {
    begin(0);
    engine->pulses[0].limit_ns = INT64_MAX;
    cw_engine_open_line(engine, 0, 1, 1);
    CHECK_EQ(cw_engine_advance(engine, 1000000, 1000000), 0);
    CHECK_EQ(engine->pulses[0].is_live, 1);
}

int main(void) {
    RUN(test_size_is_0_for_absurd_limits_and_a_multiple_of_64_otherwise);
    RUN(test_directory_is_full_at_its_limits);
    RUN(test_invalid_layout_is_refused);
    RUN(test_pairs_of_unknown_instruments_are_refused);
    RUN(test_record_is_counted_stamped_kept_and_applied);
    RUN(test_stale_quote_of_a_rising_venue_is_counted_and_changes_nothing);
    RUN(test_line_silent_for_its_limit_is_alive_and_one_tick_later_dead);
    RUN(test_stamps_that_run_backwards_stand_still);
    RUN(test_lost_line_makes_its_tops_unreadable_and_closes_what_was_open);
    RUN(test_distrusted_instrument_is_unreadable_until_its_next_quote);
    RUN(test_distrust_of_nobody_in_particular_is_of_the_whole_line);
    RUN(test_signals_are_timed_by_the_clock_that_was_given);
    RUN(test_instruments_found_on_the_way_have_the_venue_s_fee);
    RUN(test_limit_without_end_never_ends);
    RUN(test_reopened_line_has_no_valid_tops_of_before);
    RUN(test_ring_needs_four_slots_a_pair);
    free(memory);
    return 0;
}
