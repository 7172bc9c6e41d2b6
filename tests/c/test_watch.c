/* test_watch.c — deadlines of quotes, and losses of quotes and trades. */
#include <math.h>

#include "session.h"

enum { LINES = 3 };

static void *memory;
static cw_engine *engine;
static uint16_t venue;
static uint32_t a, b;
static cw_merged merged[LINES];

static const int64_t SILENT = 1000000, DATA = 100;

/* Instruments a and b that cross at 0 bps and three lines, made by hand. */
static void begin(int64_t data_limit, int seq_is_rising) {
    cw_limits limits = {.instruments = 4, .pairs = 4, .lines = LINES, .venues = 2, .signals = 16};
    cw_pair_terms pair = {.a = 0, .b = 1, .rule_id = 9, .qty_max = INFINITY};
    free(memory);
    memory = take_aligned(cw_engine_size(&limits));
    engine = cw_engine_init(memory, &limits, cw_ops_for(CW_LEVEL_BASE));
    memset(merged, 0, sizeof merged);
    CHECK_EQ(cw_engine_add_venue(engine, &SPOT, SILENT, 10.0, seq_is_rising, &venue), CW_OK);
    cw_engine_set_merge_key(engine, venue, CW_MERGE_SEQ);
    cw_engine_set_data_limit(engine, venue, data_limit);
    CHECK_EQ(cw_engine_add_instrument(engine, venue, (const uint8_t *)"A", 1, 10.0, 1.0, &a),
             CW_OK);
    CHECK_EQ(cw_engine_add_instrument(engine, venue, (const uint8_t *)"B", 1, 10.0, 1.0, &b),
             CW_OK);
    CHECK_EQ(cw_engine_set_pairs(engine, &pair, 1), CW_OK);
    engine->line_count = LINES;
    for (uint16_t i = 0; i < LINES; i++) {
        engine->pulses[i].venue = venue;
        engine->pulses[i].limit_ns = SILENT;
        cw_engine_open_line(engine, i, 1, 1);
    }
}

static void begin_group(int64_t data_limit) {
    begin(data_limit, 1);
    for (uint16_t i = 0; i < 2; i++) {
        CHECK_EQ(cw_group_join(engine, i, 1, &merged[i]), CW_OK);
        cw_engine_cover(engine, i, 1, 1);
    }
}

static uint32_t advance(int64_t now) { return cw_engine_advance(engine, now + 5000, now); }

/* A quote at a time; the UTC stamp is 5000 ahead of the monotonic one. */
static uint32_t quote(int64_t now, uint16_t line, uint32_t instrument, double bid, uint64_t seq) {
    cw_record row = {.quote = {.seq = seq, .bid = bid, .bid_qty = 1, .ask = bid + 1, .ask_qty = 1,
                               .instrument = instrument, .venue = venue}};
    uint32_t written = advance(now);
    cw_engine_hear(engine, line);
    return written + cw_engine_take(engine, line, CW_SCAN_QUOTE, SPOT_BOOK_TICKER, instrument, &row);
}

static void trade(int64_t now, uint16_t line, uint64_t id) {
    cw_record row = {.trade = {.trade_id = id, .price = 1, .qty = 1, .instrument = a,
                               .venue = venue}};
    CHECK_EQ(advance(now), 0);
    cw_engine_hear(engine, line);
    CHECK_EQ(cw_engine_take(engine, line, CW_SCAN_TRADE, SPOT_TRADE, a, &row), 0);
}

static cw_signal next_signal(void) { return take_signal(&engine->ring); }

static int is_readable(uint32_t instrument) { return engine->books.net_ask[instrument] < INFINITY; }
static int is_stale(uint32_t instrument) { return engine->books.tops[instrument].is_stale; }

static void check_loss(const cw_loss *loss, uint8_t record, uint16_t line, cw_loss_cause cause,
                       int64_t last_ts, uint64_t last_seq) {
    CHECK_EQ(loss->record, record);
    CHECK_EQ(loss->line, line);
    CHECK_EQ(loss->cause, cause);
    CHECK_EQ(loss->last_good_ts, last_ts);
    CHECK_EQ(loss->last_seq, last_seq);
}

static cw_loss open_loss(uint32_t instrument, uint8_t record) {
    cw_loss loss;
    CHECK_EQ(cw_watch_open_loss(engine, instrument, record, &loss), 1);
    CHECK_EQ(loss.instrument, instrument);
    CHECK_EQ(loss.first_good_ts, 0);
    return loss;
}

static int has_loss(uint32_t instrument, uint8_t record) {
    cw_loss loss;
    return cw_watch_open_loss(engine, instrument, record, &loss);
}

static cw_loss ended(void) {
    cw_loss loss;
    CHECK_EQ(cw_losses_take(&engine->losses, &loss), 1);
    return loss;
}

static int any_ended(void) {
    cw_loss loss;
    return cw_losses_take(&engine->losses, &loss);
}

/* ---- deadlines ---- */

static void test_a_top_is_fresh_at_its_deadline_and_stale_one_tick_later(void) {
    cw_signal s;
    begin(DATA, 0);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(quote(60, 1, b, 101, 1), 1);
    CHECK_EQ(next_signal().event, CW_SIGNAL_OPEN);
    CHECK_EQ(advance(110), 0);
    CHECK(is_readable(a));
    CHECK_EQ(advance(111), 1);
    s = next_signal();
    CHECK_EQ(s.event, CW_SIGNAL_CLOSE);
    CHECK_EQ(s.close_reason, CW_CLOSE_STALE);
    CHECK_EQ(s.gates, CW_GATE_BOOK_A);
    CHECK_EQ(s.ts_rx, 5111);
    CHECK(!is_readable(a));
    CHECK(is_stale(a));
    CHECK_EQ(engine->books.tops[a].is_valid, 1);
    CHECK_EQ(engine->books.tops[a].is_live, 1);
    CHECK(is_readable(b));
    CHECK_EQ(advance(160), 0);
    CHECK(!is_stale(b));
    CHECK_EQ(advance(161), 0);
    CHECK(is_stale(b));
    CHECK_EQ(engine->deadline, 1 + SILENT); /* that of the line which never spoke */
    CHECK_EQ(quote(200, 0, a, 99, 2), 0);
    CHECK(is_readable(a));
    CHECK(!is_stale(a));
}

/* What a read finds stale is closed before any signal of what it brings. */
static void test_a_stale_top_is_found_before_what_is_read(void) {
    begin(DATA, 0);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(quote(111, 1, b, 101, 1), 0);
    CHECK(is_stale(a));
}

static void test_without_a_limit_nothing_is_ever_stale(void) {
    begin(INT64_MAX, 0);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(advance(SILENT), 0);
    CHECK(is_readable(a));
    CHECK_EQ(engine->data_deadline, INT64_MAX);
    CHECK_EQ(engine->books.tops[a].watch, 0);
    CHECK_EQ(engine->streams[a].heard_mono, 0);
}

static void test_a_slow_instrument_gets_four_times_its_longest_gap(void) {
    begin(DATA, 0);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(quote(60, 0, a, 99, 2), 0);
    CHECK_EQ(quote(61, 0, a, 99, 3), 0);
    CHECK_EQ(advance(260), 0);
    CHECK(is_readable(a)); /* 4 * 50 ns, less what faded: that rounds down */
    CHECK_EQ(advance(262), 0);
    CHECK(is_stale(a));
    CHECK_EQ(quote(361, 0, a, 99, 4), 0); /* a gap of 300 */
    CHECK_EQ(advance(1561), 0);
    CHECK(!is_stale(a));
    CHECK_EQ(advance(1562), 0);
    CHECK(is_stale(a));
}

static void test_the_longest_gap_fades_by_time(void) {
    cw_stream s = {0};
    const int64_t second = 1000000000;
    int64_t now = second;
    cw_stream_learn(&s, now);
    CHECK_DOUBLE(s.gap_peak_ns, 0); /* the first quote ends no gap */
    cw_stream_hear(&s, now, 1);
    CHECK_EQ(s.end_mono, now + 1);
    now += 60 * second;
    cw_stream_learn(&s, now);
    cw_stream_hear(&s, now, 1);
    CHECK_DOUBLE(s.gap_peak_ns, 60e9);
    CHECK_EQ(s.end_mono, now + 240 * second);
    for (int i = 0; i < 6000; i++) {
        now += second / 10;
        cw_stream_learn(&s, now);
        cw_stream_hear(&s, now, 1);
    }
    CHECK(fabs(s.gap_peak_ns / (60e9 * exp(-1)) - 1) < 0.001);
    now += 3000 * second; /* beyond the time constant nothing is left but the gap itself */
    cw_stream_learn(&s, now);
    CHECK_DOUBLE(s.gap_peak_ns, 3000e9);
}

static void test_deadlines_do_not_run_over(void) {
    cw_stream s = {.gap_peak_ns = 4e18};
    cw_stream_hear(&s, 5, 1);
    CHECK_EQ(s.end_mono, INT64_MAX);
    s.gap_peak_ns = 0;
    cw_stream_hear(&s, INT64_MAX - 1, 5);
    CHECK_EQ(s.end_mono, INT64_MAX);
}

static void test_a_repetition_is_life_and_freshens_nothing(void) {
    begin(DATA, 1);
    CHECK_EQ(quote(10, 0, a, 99, 7), 0);
    CHECK_EQ(quote(90, 0, a, 99, 7), 0);
    CHECK_EQ(engine->books.tops[a].stale, 1);
    CHECK_EQ(advance(190), 0);
    CHECK(is_readable(a));
    CHECK_EQ(advance(191), 0);
    CHECK(is_stale(a));
    CHECK_EQ(quote(195, 0, a, 99, 7), 0);
    CHECK(is_stale(a));
    CHECK_EQ(quote(196, 0, a, 99, 8), 0);
    CHECK(is_readable(a));
}

static void test_a_copy_on_another_line_of_the_group_is_life(void) {
    begin_group(DATA);
    CHECK_EQ(quote(10, 0, a, 99, 7), 0);
    CHECK_EQ(quote(90, 1, a, 99, 7), 0);
    CHECK_EQ(advance(190), 0);
    CHECK(is_readable(a));
    CHECK_EQ(quote(190, 1, a, 99, 6), 0); /* what is older says nothing of now */
    CHECK_EQ(advance(191), 0);
    CHECK(is_stale(a));
}

static void test_a_repetition_without_a_limit_costs_nothing(void) {
    begin(INT64_MAX, 1);
    CHECK_EQ(quote(10, 0, a, 99, 7), 0);
    CHECK_EQ(cw_engine_distrust(engine, 0, a), 0);
    CHECK_EQ(quote(11, 0, a, 99, 7), 0); /* the top is watched for its loss */
    CHECK_EQ(engine->data_deadline, INT64_MAX);
    CHECK(has_loss(a, CW_QUOTE));
}

static void test_what_is_lost_is_not_stale_as_well(void) {
    begin(DATA, 0);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(advance(111), 0);
    CHECK(is_stale(a));
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5112, 112), 0);
    CHECK(!is_stale(a));
    CHECK_EQ(quote(120, 1, b, 99, 1), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 1, 5121, 121), 0);
    CHECK_EQ(advance(400), 0);
    CHECK(!is_stale(b));
    CHECK_EQ(engine->data_deadline, INT64_MAX);
}

/* The gap of an outage is not the stream's own. */
static void test_an_outage_is_not_learned_from(void) {
    begin(DATA, 0);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5011, 11), 0);
    cw_engine_open_line(engine, 0, 900, 900);
    CHECK_EQ(quote(910, 0, a, 99, 2), 0);
    CHECK_DOUBLE(engine->streams[a].gap_peak_ns, 0);
    CHECK_EQ(advance(1011), 0);
    CHECK(is_stale(a));
}

/* A line that was silent speaks again: its tops are readable, but for those whose deadline has passed
 * meanwhile. */
static void test_a_line_that_is_alive_again_may_be_stale(void) {
    begin(DATA, 0);
    engine->pulses[0].limit_ns = 50;
    cw_engine_open_line(engine, 0, 1, 1);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(quote(55, 0, b, 99, 1), 0);
    CHECK_EQ(advance(106), 0);
    CHECK(!is_readable(a));
    CHECK_EQ(advance(120), 0);
    CHECK(!is_stale(a)); /* it is silent */
    cw_engine_hear(engine, 0);
    CHECK(is_stale(a));
    CHECK(!is_readable(a));
    CHECK(is_readable(b));
    CHECK_EQ(advance(155), 0);
    cw_engine_hear(engine, 0);
    CHECK(is_readable(b));
    CHECK_EQ(advance(156), 0);
    CHECK(is_stale(b));
}

static void test_a_top_of_an_earlier_connection_is_lost_and_not_stale(void) {
    begin(DATA, 0);
    engine->pulses[0].limit_ns = 50;
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    cw_engine_open_line(engine, 0, 5011, 11);
    CHECK_EQ(advance(200), 0);
    cw_engine_hear(engine, 0);
    CHECK(!is_stale(a));
    CHECK(!is_readable(a));
}

static void test_a_twin_takes_over_the_deadline(void) {
    begin_group(DATA);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5050, 50), 0);
    CHECK_EQ(advance(110), 0);
    CHECK(is_readable(a));
    CHECK_EQ(advance(111), 0);
    CHECK(is_stale(a));
}

static void test_a_limit_is_of_its_venue(void) {
    uint16_t other;
    uint32_t c;
    begin(DATA, 0);
    CHECK_EQ(cw_engine_add_venue(engine, &OKX, SILENT, 10.0, 0, &other), CW_OK);
    CHECK_EQ(cw_engine_add_instrument(engine, other, (const uint8_t *)"C", 1, 10.0, 1.0, &c),
             CW_OK);
    engine->pulses[2].venue = other;
    CHECK_EQ(quote(10, 2, c, 99, 1), 0);
    CHECK_EQ(quote(10, 0, a, 99, 1), 0);
    CHECK_EQ(advance(500), 0);
    CHECK(is_stale(a));
    CHECK(is_readable(c));
}

static void test_an_instrument_found_on_the_way_has_its_venue_s_limit(void) {
    begin(DATA, 0);
    cw_engine_adopt(engine, 2, 0);
    CHECK_EQ(engine->books.tops[2].watch, CW_WATCH_DATA);
}

/* ---- losses ---- */

static void test_a_lost_line_s_streams_are_lost_until_their_next_record(void) {
    cw_loss loss;
    begin(INT64_MAX, 0);
    CHECK_EQ(quote(10, 0, a, 99, 7), 0);
    CHECK_EQ(quote(11, 1, b, 99, 8), 0);
    trade(12, 0, 70);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5020, 20), 0);
    loss = open_loss(a, CW_QUOTE);
    check_loss(&loss, CW_QUOTE, 0, CW_LOSS_LOST, 5010, 7);
    loss = open_loss(a, CW_TRADE);
    check_loss(&loss, CW_TRADE, 0, CW_LOSS_LOST, 5012, 70);
    CHECK(!has_loss(b, CW_QUOTE));
    CHECK(!has_loss(b, CW_TRADE));
    cw_engine_open_line(engine, 0, 5030, 30);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5040, 40), 0); /* once more: it is one loss */
    cw_engine_open_line(engine, 0, 5050, 50);
    CHECK(!any_ended());
    CHECK_EQ(quote(60, 0, a, 99, 17), 0);
    loss = ended();
    check_loss(&loss, CW_QUOTE, 0, CW_LOSS_LOST, 5010, 7);
    CHECK_EQ(loss.first_good_ts, 5060);
    CHECK_EQ(loss.first_seq, 17);
    CHECK(!any_ended());
    trade(61, 0, 90);
    loss = ended();
    check_loss(&loss, CW_TRADE, 0, CW_LOSS_LOST, 5012, 70);
    CHECK_EQ(loss.first_good_ts, 5061);
    CHECK_EQ(loss.first_seq, 90);
    CHECK(!has_loss(a, CW_QUOTE));
    CHECK(!has_loss(a, CW_TRADE));
    CHECK_EQ(engine->books.tops[a].watch, 0);
}

static void test_a_stream_that_brought_nothing_is_not_lost(void) {
    begin(DATA, 0);
    CHECK_EQ(cw_engine_distrust(engine, 0, a), 0);
    CHECK_EQ(cw_engine_distrust(engine, 0, CW_NO_INSTRUMENT), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 1, 1), 0);
    CHECK(!has_loss(a, CW_QUOTE));
    CHECK(!has_loss(a, CW_TRADE));
}

static void test_a_silent_line_and_an_unreadable_message(void) {
    cw_loss loss;
    begin(INT64_MAX, 0);
    engine->pulses[0].limit_ns = 50;
    cw_engine_open_line(engine, 0, 1, 1);
    CHECK_EQ(quote(10, 0, a, 99, 7), 0);
    trade(10, 0, 70);
    CHECK_EQ(advance(61), 0);
    CHECK_EQ(open_loss(a, CW_QUOTE).cause, CW_LOSS_SILENT);
    CHECK_EQ(open_loss(a, CW_TRADE).cause, CW_LOSS_SILENT);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5062, 62), 0);
    CHECK_EQ(open_loss(a, CW_QUOTE).cause, CW_LOSS_SILENT); /* the first of them */
    cw_engine_open_line(engine, 0, 5070, 70);
    CHECK_EQ(quote(71, 0, a, 99, 9), 0);
    CHECK_EQ(ended().first_seq, 9);

    CHECK_EQ(cw_engine_distrust(engine, 0, a), 0);
    loss = open_loss(a, CW_QUOTE);
    check_loss(&loss, CW_QUOTE, 0, CW_LOSS_MESSAGE, 5071, 9);
    trade(72, 0, 99);
    CHECK_EQ(ended().record, CW_TRADE);
    CHECK_EQ(cw_engine_distrust(engine, 0, CW_NO_INSTRUMENT), 0);
    loss = open_loss(a, CW_TRADE);
    check_loss(&loss, CW_TRADE, 0, CW_LOSS_MESSAGE, 5072, 99);
    CHECK_EQ(quote(73, 0, a, 99, 10), 0);
    CHECK_EQ(ended().cause, CW_LOSS_MESSAGE);
}

static void test_a_message_of_one_instrument_loses_its_trades_too(void) {
    begin(INT64_MAX, 0);
    trade(10, 0, 70);
    CHECK_EQ(cw_engine_distrust(engine, 1, a), 0); /* not the line that brings them */
    CHECK(!has_loss(a, CW_TRADE));
    CHECK_EQ(cw_engine_distrust(engine, 0, a), 0);
    CHECK(has_loss(a, CW_TRADE));
    CHECK(!has_loss(a, CW_QUOTE));
}

static void test_a_stale_stream_is_lost_from_its_last_quote_on(void) {
    cw_loss loss;
    begin(DATA, 0);
    CHECK_EQ(quote(10, 2, a, 99, 7), 0);
    CHECK_EQ(advance(111), 0);
    loss = open_loss(a, CW_QUOTE);
    check_loss(&loss, CW_QUOTE, 2, CW_LOSS_STALE, 5010, 7);
    CHECK_EQ(cw_engine_lose_line(engine, 2, 5120, 120), 0);
    cw_engine_open_line(engine, 2, 5130, 130);
    CHECK_EQ(quote(150, 2, a, 99, 8), 0);
    loss = ended();
    check_loss(&loss, CW_QUOTE, 2, CW_LOSS_STALE, 5010, 7);
    CHECK_EQ(loss.first_good_ts, 5150);
    CHECK_EQ(engine->books.tops[a].watch, CW_WATCH_DATA);
}

static void test_silence_that_ends_where_it_began_has_lost_nothing(void) {
    cw_loss loss;
    begin(DATA, 0);
    engine->pulses[2].limit_ns = 150;
    CHECK_EQ(quote(10, 2, a, 99, 7), 0);
    trade(10, 2, 70);
    CHECK_EQ(advance(111), 0);
    CHECK(has_loss(a, CW_QUOTE)); /* for as long as it lasts */
    CHECK_EQ(quote(120, 2, a, 99, 8), 0);
    CHECK(!has_loss(a, CW_QUOTE));
    CHECK_EQ(cw_losses_take(&engine->losses, &loss), 0);

    CHECK_EQ(advance(300), 0); /* the whole line is silent */
    CHECK(has_loss(a, CW_TRADE));
    CHECK_EQ(quote(310, 2, a, 99, 9), 0);
    trade(310, 2, 71);
    CHECK(!has_loss(a, CW_QUOTE) && !has_loss(a, CW_TRADE));
    CHECK_EQ(cw_losses_take(&engine->losses, &loss), 0);

    CHECK_EQ(advance(500), 0); /* but another line may have missed something */
    trade(510, 1, 73);
    CHECK_EQ(cw_losses_take(&engine->losses, &loss), 1);
    CHECK_EQ(loss.first_seq, 73);
    CHECK_EQ(advance(800), 0);
    CHECK_EQ(cw_engine_distrust(engine, 2, a), 0); /* and a message may be gone besides */
    CHECK_EQ(quote(810, 2, a, 99, 10), 0);
    CHECK_EQ(cw_losses_take(&engine->losses, &loss), 1);
    check_loss(&loss, CW_QUOTE, 2, CW_LOSS_SILENT, 5310, 9);
}

static void test_what_a_covering_twin_brings_is_not_lost(void) {
    begin_group(INT64_MAX);
    CHECK_EQ(quote(10, 0, a, 99, 7), 0);
    trade(10, 0, 70);
    CHECK_EQ(cw_engine_distrust(engine, 0, a), 0);
    CHECK_EQ(cw_engine_distrust(engine, 0, CW_NO_INSTRUMENT), 0);
    CHECK_EQ(cw_engine_lose_line(engine, 0, 5020, 20), 0);
    CHECK(!has_loss(a, CW_QUOTE));
    CHECK(!has_loss(a, CW_TRADE));
    /* the other carries both now, and has no twin */
    CHECK_EQ(cw_engine_lose_line(engine, 1, 5030, 30), 0);
    CHECK_EQ(open_loss(a, CW_QUOTE).line, 1);
    CHECK_EQ(open_loss(a, CW_TRADE).line, 1);
    cw_engine_open_line(engine, 0, 5040, 40);
    trade(41, 0, 90);
    CHECK_EQ(ended().last_seq, 70);
    CHECK_EQ(quote(42, 0, a, 99, 7), 0);
    CHECK_EQ(ended().first_good_ts, 5042);
}

int main(void) {
    RUN(test_a_top_is_fresh_at_its_deadline_and_stale_one_tick_later);
    RUN(test_a_stale_top_is_found_before_what_is_read);
    RUN(test_without_a_limit_nothing_is_ever_stale);
    RUN(test_a_slow_instrument_gets_four_times_its_longest_gap);
    RUN(test_the_longest_gap_fades_by_time);
    RUN(test_deadlines_do_not_run_over);
    RUN(test_a_repetition_is_life_and_freshens_nothing);
    RUN(test_a_copy_on_another_line_of_the_group_is_life);
    RUN(test_a_repetition_without_a_limit_costs_nothing);
    RUN(test_what_is_lost_is_not_stale_as_well);
    RUN(test_an_outage_is_not_learned_from);
    RUN(test_a_line_that_is_alive_again_may_be_stale);
    RUN(test_a_top_of_an_earlier_connection_is_lost_and_not_stale);
    RUN(test_a_twin_takes_over_the_deadline);
    RUN(test_a_limit_is_of_its_venue);
    RUN(test_an_instrument_found_on_the_way_has_its_venue_s_limit);
    RUN(test_a_lost_line_s_streams_are_lost_until_their_next_record);
    RUN(test_a_stream_that_brought_nothing_is_not_lost);
    RUN(test_a_silent_line_and_an_unreadable_message);
    RUN(test_a_message_of_one_instrument_loses_its_trades_too);
    RUN(test_a_stale_stream_is_lost_from_its_last_quote_on);
    RUN(test_silence_that_ends_where_it_began_has_lost_nothing);
    RUN(test_what_a_covering_twin_brings_is_not_lost);
    free(memory);
    return 0;
}
