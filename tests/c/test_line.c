/* test_line.c — a connection's bytes to records, signals and inbox, however the stream is cut. */
#include "messages.h"
#include "session.h"

#define QUOTE(SEQ, SYMBOL, BID, ASK)                                                            \
    "{\"u\":" SEQ ",\"s\":\"" SYMBOL "\",\"b\":\"" BID "\",\"B\":\"1\",\"a\":\"" ASK            \
    "\",\"A\":\"2\"}"
#define ACK "{\"result\":null,\"id\":1}"

static const uint8_t MASK[4] = {0x37, 0xFA, 0x21, 0x3D};

/* ---- helpers ---- */

static void feed_new(session *self, const options *o, const bytes *stream) {
    session_open(self, o);
    receive(self, stream->p, stream->n);
}

/* The same bytes, cut at every position and byte by byte, must come to the same. */
static void check_every_cut(const options *o, const bytes *stream) {
    session whole, s;
    feed_new(&whole, o, stream);
    for (size_t cut = 0; cut <= stream->n; cut++) {
        session_open(&s, o);
        receive(&s, stream->p, cut);
        receive(&s, stream->p + cut, stream->n - cut);
        check_note("cut at %zu of %zu", cut, stream->n);
        check_same(&whole, &s);
        session_close(&s);
    }
    session_open(&s, o);
    for (size_t i = 0; i < stream->n; i++) receive(&s, stream->p + i, 1);
    check_note("byte by byte");
    check_same(&whole, &s);
    check_note("%s", "");
    session_close(&s);
    session_close(&whole);
}

static uint32_t count_of(const bytes *log, size_t size) {
    CHECK_EQ(log->n % size, 0);
    return (uint32_t)(log->n / size);
}

static cw_inbox_entry entry_at(const session *s, size_t *at, const uint8_t **payload) {
    cw_inbox_entry entry;
    CHECK(*at + sizeof entry <= s->inbox.n);
    memcpy(&entry, s->inbox.p + *at, sizeof entry);
    *payload = s->inbox.p + *at + sizeof entry;
    *at += sizeof entry + entry.len;
    return entry;
}

static void check_entry(const session *s, size_t *at, uint8_t opcode, const char *text, size_t n) {
    const uint8_t *payload;
    cw_inbox_entry entry = entry_at(s, at, &payload);
    CHECK_EQ(entry.opcode, opcode);
    CHECK_EQ(entry.len, n);
    CHECK_BYTES(payload, text, n);
}

/* Feed a stream that must break the line: what, and at which byte of the stream. Cut everywhere. */
static void check_broken(const options *o, const bytes *stream, int code, uint64_t at) {
    session s;
    feed_new(&s, o, stream);
    CHECK(s.fed & CW_FED_BROKEN);
    CHECK_EQ(s.line.receiver.error.code, code);
    CHECK_EQ(s.line.receiver.error.at, at);
    CHECK_EQ(s.line.is_done, 1);
    CHECK_EQ(s.engine->errors[code - CW_E_FIRST], 1);
    CHECK_EQ(cw_line_feed(&s.line, 0, 1, 1), 0);
    session_close(&s);
    check_every_cut(o, stream);
}

/* ---- what is in order ---- */

static void test_quotes_trades_and_signals_of_whole_frames(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    cw_quote q;
    session s;
    put_text_frame(&stream, QUOTE("1", "BTCUSDT", "99", "100"));
    put_text_frame(&stream, "{\"e\":\"trade\",\"s\":\"ETHUSDT\",\"t\":5,\"p\":\"7\",\"q\":\"8\","
                            "\"T\":1723161255342,\"m\":false}");
    put_text_frame(&stream, QUOTE("2", "ETHUSDT", "101", "102"));
    feed_new(&s, &o, &stream);
    CHECK_EQ(count_of(&s.quotes, sizeof(cw_quote)), 2);
    CHECK_EQ(count_of(&s.trades, sizeof(cw_trade)), 1);
    CHECK_EQ(count_of(&s.signals, sizeof(cw_signal)), 2);
    memcpy(&q, s.quotes.p + sizeof q, sizeof q);
    CHECK_EQ(q.seq, 2);
    CHECK_EQ(q.ts_rx, 1000);
    CHECK_EQ(q.instrument, 1);
    CHECK_DOUBLE(q.bid, 101);
    CHECK_EQ(s.line.receiver.frames, 3);
    CHECK_EQ(s.line.messages, 3);
    CHECK_EQ(s.line.bytes, stream.n);
    CHECK_EQ(s.line.error_count, 0);
    CHECK_EQ(s.engine->messages, 3);
    CHECK_EQ(s.engine->counts[0 * CW_KINDS + SPOT_BOOK_TICKER], 1);
    CHECK_EQ(s.engine->counts[1 * CW_KINDS + SPOT_TRADE], 1);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

/* Text in three fragments with a ping in between, another whole message, a pong, a close. */
static void put_conversation(bytes *stream, const uint8_t *mask) {
    static const char WHOLE[] = QUOTE("1", "ETHUSDT", "99", "100");
    static const char TEXT[] = QUOTE("3", "BTCUSDT", "61837.63000000", "61837.64000000");
    put_frame(stream, 0x81, mask, WHOLE, sizeof WHOLE - 1);
    put_frame(stream, 0x01, mask, TEXT, 20);
    put_frame(stream, 0x89, mask, "are you there", 13);
    put_frame(stream, 0x00, mask, TEXT + 20, 0);
    put_frame(stream, 0x00, mask, TEXT + 20, 17);
    put_frame(stream, 0x8A, mask, "", 0);
    put_frame(stream, 0x80, mask, TEXT + 37, sizeof TEXT - 1 - 37);
    put_frame(stream, 0x81, mask, ACK, sizeof ACK - 1);
    put_frame(stream, 0x81, mask, "{\"z\":\"\xE2\x82\xAC\xF0\x9F\x98\x80\"}", 15);
    put_frame(stream, 0x88, mask, "\x03\xE8" "bye \xC3\xA9", 8);
    put_frame(stream, 0x81, mask, ACK, sizeof ACK - 1);
}

static void check_conversation(const session *s) {
    size_t at = 0;
    CHECK(s->fed & CW_FED_CLOSED);
    CHECK_EQ(s->line.receiver.has_close, 1);
    CHECK_EQ(s->line.is_done, 1);
    CHECK_EQ(s->line.receiver.error.code, 0);
    CHECK_EQ(count_of(&s->quotes, sizeof(cw_quote)), 2);
    CHECK_EQ(s->line.messages, 4);
    CHECK_EQ(s->line.receiver.frames, 10);
    CHECK_EQ(s->line.inbox_count, 5);
    check_entry(s, &at, CW_PING, "are you there", 13);
    check_entry(s, &at, CW_PONG, "", 0);
    check_entry(s, &at, CW_TEXT, ACK, sizeof ACK - 1);
    check_entry(s, &at, CW_TEXT, "{\"z\":\"\xE2\x82\xAC\xF0\x9F\x98\x80\"}", 15);
    check_entry(s, &at, CW_CLOSE, "\x03\xE8" "bye \xC3\xA9", 8);
    CHECK_EQ(at, s->inbox.n);
}

static void test_fragments_pings_in_between_and_close_as_a_client(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    put_conversation(&stream, NULL);
    feed_new(&s, &o, &stream);
    check_conversation(&s);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

static void test_fragments_pings_in_between_and_close_as_a_server(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    o.role = CW_SERVER;
    put_conversation(&stream, MASK);
    feed_new(&s, &o, &stream);
    check_conversation(&s);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

/* A message larger than the receive buffer goes through the assembly. */
static void test_message_larger_than_the_receive_buffer(void) {
    options o = usual(&SPOT);
    bytes stream = {0}, text = {0};
    session s;
    o.rx_capacity = 256;
    put_text(&text, "{\"zz\":\"");
    for (int i = 0; i < 900; i++) put_text(&text, i % 50 ? "x" : "\xC3\xA9");
    put_text(&text, "\",\"u\":1,\"s\":\"X\",\"b\":\"1\",\"B\":\"1\",\"a\":\"2\",\"A\":\"1\"}");
    for (int role = 0; role < 2; role++) {
        o.role = (cw_role)role;
        stream.n = 0;
        put_frame(&stream, 0x81, role ? MASK : NULL, text.p, text.n);
        put_frame(&stream, 0x81, role ? MASK : NULL, ACK, sizeof ACK - 1);
        feed_new(&s, &o, &stream);
        CHECK_EQ(count_of(&s.quotes, sizeof(cw_quote)), 1);
        CHECK_EQ(s.line.messages, 2);
        CHECK_EQ(s.line.receiver.frames, 2);
        CHECK_EQ(s.line.is_done, 0);
        session_close(&s);
        check_every_cut(&o, &stream);
    }
    bytes_free(&stream);
    bytes_free(&text);
}

static void test_frames_of_every_size_around_the_receive_buffer(void) {
    for (uint32_t n = 200; n < 300; n++) {
        options o = usual(&SPOT);
        bytes stream = {0}, text = {0};
        session s;
        o.rx_capacity = 256;
        put_text(&text, "{\"z\":\"");
        while (text.n < n - 2) put_text(&text, "y");
        put_text(&text, "\"}");
        put_frame(&stream, 0x81, NULL, text.p, text.n);
        put_text_frame(&stream, QUOTE("1", "X", "1", "2"));
        feed_new(&s, &o, &stream);
        check_note("size %u", n);
        CHECK_EQ(s.line.messages, 2);
        CHECK_EQ(s.line.inbox_count, 1);
        CHECK_EQ(count_of(&s.quotes, sizeof(cw_quote)), 1);
        session_close(&s);
        bytes_free(&stream);
        bytes_free(&text);
    }
}

static void test_okx_message_of_many_trades_fills_batch_after_batch(void) {
    options o = usual(&OKX);
    bytes stream = {0}, text = {0};
    session s;
    put_text(&text, "{\"arg\":{\"channel\":\"trades\",\"instId\":\"X\"},\"data\":[");
    for (int i = 0; i < 11; i++)
        put_format(&text, "%s{\"tradeId\":\"%d\",\"px\":\"2\",\"sz\":\"3\",\"side\":\"buy\","
                          "\"ts\":\"4\"}", i ? "," : "", i);
    put_text(&text, "]}");
    put_frame(&stream, 0x81, NULL, text.p, text.n);
    put_text_frame(&stream, "pong");
    feed_new(&s, &o, &stream);
    CHECK_EQ(count_of(&s.trades, sizeof(cw_trade)), 11);
    for (uint32_t i = 0; i < 11; i++) {
        cw_trade t;
        memcpy(&t, s.trades.p + i * sizeof t, sizeof t);
        CHECK_EQ(t.trade_id, i);
    }
    CHECK_EQ(s.line.messages, 2);
    CHECK_EQ(s.line.inbox_count, 1);
    CHECK(s.records >= 2);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
    bytes_free(&text);
}

static void test_many_quotes_in_one_message_each_with_its_signals(void) {
    options o = usual(&OKX);
    bytes stream = {0}, text = {0};
    session s;
    o.signals = 4; /* no more than a pair needs */
    put_text_frame(&stream, "{\"arg\":{\"channel\":\"bbo-tbt\",\"instId\":\"ETH-USDT\"},\"data\":["
                            "{\"asks\":[[\"100\",\"1\"]],\"bids\":[[\"99\",\"1\"]],\"ts\":\"1\"}]}");
    put_text(&text, "{\"arg\":{\"channel\":\"bbo-tbt\",\"instId\":\"BTC-USDT\"},\"data\":[");
    for (int i = 0; i < 9; i++)
        put_format(&text, "%s{\"asks\":[[\"100\",\"1\"]],\"bids\":[[\"9%d\",\"1\"]],"
                          "\"ts\":\"%d\"}", i ? "," : "", i, i);
    put_text(&text, "]}");
    put_frame(&stream, 0x81, NULL, text.p, text.n);
    feed_new(&s, &o, &stream);
    CHECK_EQ(count_of(&s.quotes, sizeof(cw_quote)), 10);
    CHECK(count_of(&s.signals, sizeof(cw_signal)) >= 9);
    CHECK_EQ(s.engine->ring.refused, 0);
    session_close(&s);
    check_every_cut(&o, &stream);
    o.latest_only = 1;
    check_every_cut(&o, &stream);
    bytes_free(&stream);
    bytes_free(&text);
}

/* ---- what is lost, and counted ---- */

static void test_broken_message_is_counted_and_the_stream_goes_on(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    put_text_frame(&stream, QUOTE("1", "BTCUSDT", "99", "100"));
    put_text_frame(&stream, QUOTE("2", "BTCUSDT", "x", "100"));
    put_text_frame(&stream, "{\"u\":3,");
    put_frame(&stream, 0x82, NULL, "\1\2\3", 3);
    put_text_frame(&stream, "");
    put_text_frame(&stream, QUOTE("4", "ETHUSDT", "99", "100"));
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.is_done, 0);
    CHECK_EQ(s.line.messages, 6);
    CHECK_EQ(s.line.error_count, 4);
    CHECK_EQ(s.line.errors[0].error.code, CW_E_NUMBER_FORM);
    CHECK_EQ(s.line.errors[0].error.at, strlen("{\"u\":2,\"s\":\"BTCUSDT\",\"b\":\""));
    CHECK_EQ(s.line.errors[0].message, 1);
    CHECK_EQ(s.line.errors[0].instrument, 0);
    CHECK_EQ(s.line.errors[1].error.code, CW_E_JSON_CUT);
    CHECK_EQ(s.line.errors[1].instrument, CW_NO_INSTRUMENT);
    CHECK_EQ(s.line.errors[2].error.code, CW_E_MESSAGE_BINARY);
    CHECK_EQ(s.line.errors[2].message, 3);
    CHECK_EQ(s.line.errors[3].error.code, CW_E_JSON_CUT);
    CHECK_EQ(s.engine->errors[CW_E_JSON_CUT - CW_E_FIRST], 2);
    CHECK_EQ(count_of(&s.quotes, sizeof(cw_quote)), 2);
    CHECK_DOUBLE(s.engine->books.net_ask[0], INFINITY);
    CHECK(s.engine->books.net_ask[1] < INFINITY);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

/* What lies behind a message that is cut may look like the rest of it, as far as memory goes. */
static void test_message_cut_inside_a_literal_is_not_read_on_behind_its_end(void) {
    static const char WHOLE[] = QUOTE("1", "BTCUSDT", "99", "100") "";
    static const char BEFORE[] = ",\"stream\":\"";
    options o = usual(&SPOT);
    bytes stream = {0}, text = {0};
    session s;
    o.message_max = 600;
    put(&text, WHOLE, sizeof WHOLE - 2);
    put_text(&text, BEFORE);
    put_text(&text, "x\"}");
    put_frame(&stream, 0x81, NULL, text.p, text.n);
    text.n -= 3;
    size_t cut = text.n - 1;
    while (text.n < o.message_max) put_text(&text, "x");
    put_frame(&stream, 0x01, NULL, text.p, 1);
    put_frame(&stream, 0x80, NULL, text.p + 1, text.n - 1);
    put_frame(&stream, 0x01, NULL, text.p, 1);
    put_frame(&stream, 0x80, NULL, text.p + 1, cut - 1);
    feed_new(&s, &o, &stream);
    CHECK_EQ(count_of(&s.quotes, sizeof(cw_quote)), 1);
    CHECK_EQ(s.engine->errors[CW_E_JSON_CUT - CW_E_FIRST], 2);
    CHECK_EQ(s.line.errors[0].error.at, o.message_max);
    CHECK_EQ(s.line.errors[1].error.at, cut);
    session_close(&s);
    bytes_free(&text);
    bytes_free(&stream);
}

static void test_line_whose_records_nobody_wants_keeps_the_tops(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    o.batch = 0;
    for (int i = 0; i < 3; i++) {
        char text[200];
        snprintf(text, sizeof text, QUOTE("%d", "BTCUSDT", "99", "100"), i + 1);
        put_text_frame(&stream, text);
        put_text_frame(&stream, "{\"e\":\"trade\",\"s\":\"ETHUSDT\",\"t\":5,\"p\":\"7\","
                                "\"q\":\"8\",\"T\":1723161255342,\"m\":false}");
    }
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.engine->books.tops[0].quotes, 3);
    CHECK_EQ(s.engine->books.tops[0].seq, 3);
    CHECK_EQ(s.engine->counts[1 * CW_KINDS + SPOT_TRADE], 3);
    CHECK_EQ(s.engine->quotes.count + s.engine->trades.count, 0);
    session_close(&s);
    bytes_free(&stream);
}

static void test_the_most_recent_16_errors_are_kept(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    for (int i = 0; i < 20; i++) put_text_frame(&stream, "{");
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.error_count, 20);
    for (uint64_t i = 0; i < CW_LINE_ERRORS; i++) {
        uint64_t message = s.line.errors[i].message;
        CHECK(message >= 4 && message < 20 && message % 16 == i);
    }
    session_close(&s);
    bytes_free(&stream);
}

static void test_control_message_larger_than_the_inbox_is_lost_and_counted(void) {
    options o = usual(&SPOT);
    bytes stream = {0}, text = {0};
    session s;
    o.inbox_capacity = 544;
    put_text(&text, "{\"z\":\"");
    for (int i = 0; i < 600; i++) put_text(&text, "y");
    put_text(&text, "\"}");
    put_text_frame(&stream, ACK);
    put_frame(&stream, 0x81, NULL, text.p, text.n);
    put_text_frame(&stream, ACK);
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.error_count, 1);
    CHECK_EQ(s.line.errors[0].error.code, CW_E_MESSAGE_UNKNOWN);
    CHECK_EQ(s.line.errors[0].message, 1);
    CHECK_EQ(s.line.inbox_count, 2);
    CHECK_EQ(s.line.is_done, 0);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
    bytes_free(&text);
}

/* ---- bounds: stop, be drained, go on; nothing is lost ---- */

static void test_full_inbox_stops_the_feed_until_it_is_drained(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    uint32_t free_size, fed;
    o.inbox_capacity = 544;
    for (int i = 0; i < 40; i++) put_frame(&stream, 0x89, NULL, "0123456789012345678901234", 25);
    session_open(&s, &o);
    CHECK(stream.n <= o.rx_capacity);
    memcpy(cw_line_tail(&s.line, &free_size), stream.p, stream.n);
    fed = cw_line_feed(&s.line, (uint32_t)stream.n, 1, 1);
    CHECK_EQ(fed, CW_FED_MORE | CW_FED_CONTROL);
    CHECK_EQ(s.line.inbox_count, 544 / (8 + 28));
    CHECK_EQ(cw_line_feed(&s.line, 0, 1, 1), CW_FED_MORE | CW_FED_CONTROL);
    CHECK_EQ(s.line.inbox_count, 544 / (8 + 28));
    while (fed & CW_FED_MORE) {
        drain(&s);
        fed = cw_line_feed(&s.line, 0, 1, 1);
    }
    drain(&s);
    CHECK_EQ(s.line.inbox_count, 40);
    CHECK_EQ(s.inbox.n, 40 * (8 + 25));
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

static void test_full_batch_stops_the_feed_until_it_is_drained(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    uint32_t free_size, fed;
    o.pairs = 0;
    for (int i = 0; i < 10; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 "{\"u\":%d,\"s\":\"X\",\"b\":\"1\",\"B\":\"1\",\"a\":\"2\",\"A\":\"1\"}", i);
        put_text_frame(&stream, text);
    }
    session_open(&s, &o);
    memcpy(cw_line_tail(&s.line, &free_size), stream.p, stream.n);
    fed = cw_line_feed(&s.line, (uint32_t)stream.n, 1, 1);
    CHECK_EQ(fed, CW_FED_MORE | CW_FED_RECORDS);
    CHECK_EQ(s.engine->quotes.count, 4);
    CHECK_EQ(cw_line_feed(&s.line, 0, 1, 1), CW_FED_MORE | CW_FED_RECORDS);
    CHECK_EQ(s.line.messages, 4);
    drain(&s);
    CHECK_EQ(cw_line_feed(&s.line, 0, 1, 1), CW_FED_MORE | CW_FED_RECORDS);
    drain(&s);
    CHECK_EQ(cw_line_feed(&s.line, 0, 1, 1), 0);
    drain(&s);
    CHECK_EQ(count_of(&s.quotes, sizeof(cw_quote)), 10);
    for (uint32_t i = 0; i < 10; i++) {
        cw_quote q;
        memcpy(&q, s.quotes.p + i * sizeof q, sizeof q);
        CHECK_EQ(q.seq, i);
    }
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

static void put_crossing_quotes(bytes *stream, uint32_t count) {
    char text[200];
    put_text_frame(stream, QUOTE("1", "ETHUSDT", "99", "100"));
    for (uint32_t i = 0; i < count; i++) {
        snprintf(text, sizeof text,
                 "{\"u\":%u,\"s\":\"BTCUSDT\",\"b\":\"99.%u\",\"B\":\"1\",\"a\":\"101\","
                 "\"A\":\"1\"}",
                 i + 1, i + 1);
        put_text_frame(stream, text);
    }
}

static void test_nearly_full_ring_stops_the_feed_and_nothing_is_lost(void) {
    for (int latest_only = 0; latest_only < 2; latest_only++) {
        options o = usual(&SPOT);
        bytes stream = {0};
        session s;
        uint32_t free_size, fed, calls = 0, count;
        o.signals = 4;
        o.latest_only = latest_only;
        o.batch = 0;
        put_crossing_quotes(&stream, 9);
        session_open(&s, &o);
        memcpy(cw_line_tail(&s.line, &free_size), stream.p, stream.n);
        fed = cw_line_feed(&s.line, (uint32_t)stream.n, 1, 1);
        CHECK_EQ(fed, CW_FED_MORE | CW_FED_SIGNALS);
        for (int i = 0; i < 20; i++) { /* an owner that does not drain */
            CHECK_EQ(cw_line_feed(&s.line, 0, 1, 1), CW_FED_MORE | CW_FED_SIGNALS);
            CHECK_EQ(s.engine->ring.refused, 0);
        }
        CHECK(s.line.messages < 10);
        while (fed & CW_FED_MORE) { /* one signal at a time */
            CHECK(calls++ < 1000);
            const cw_signal *signal = cw_ring_peek(&s.engine->ring, &count);
            if (count) {
                put(&s.signals, signal, sizeof *signal);
                cw_ring_release(&s.engine->ring, 1);
            }
            fed = cw_line_feed(&s.line, 0, 1, 1);
        }
        drain(&s);
        CHECK_EQ(s.engine->ring.refused, 0);
        CHECK_EQ(s.line.messages, 10);
        count = count_of(&s.signals, sizeof(cw_signal));
        CHECK(count >= 10);
        for (uint32_t i = 0; i < count; i++) {
            cw_signal signal;
            memcpy(&signal, s.signals.p + i * sizeof signal, sizeof signal);
            CHECK_EQ(signal.seq, i);
        }
        session_close(&s);
        check_every_cut(&o, &stream);
        bytes_free(&stream);
    }
}

static void test_feed_stops_at_the_first_signal_unless_only_the_latest_counts(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    uint32_t free_size;
    put_crossing_quotes(&stream, 3);
    session_open(&s, &o);
    memcpy(cw_line_tail(&s.line, &free_size), stream.p, stream.n);
    CHECK_EQ(cw_line_feed(&s.line, (uint32_t)stream.n, 1, 1), CW_FED_MORE | CW_FED_SIGNALS);
    CHECK_EQ(s.line.messages, 2);
    session_close(&s);
    o.latest_only = 1;
    o.batch = 0;
    session_open(&s, &o);
    memcpy(cw_line_tail(&s.line, &free_size), stream.p, stream.n);
    CHECK_EQ(cw_line_feed(&s.line, (uint32_t)stream.n, 1, 1), CW_FED_SIGNALS);
    CHECK_EQ(s.line.messages, 4);
    session_close(&s);
    bytes_free(&stream);
}

/* ---- RFC 6455, the invalid side ---- */

static void test_masked_frame_from_a_server_and_unmasked_from_a_client_break_the_line(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    put_text_frame(&stream, ACK);
    put_frame(&stream, 0x81, MASK, ACK, sizeof ACK - 1);
    check_broken(&o, &stream, CW_E_FRAME_MASKED, 2 + sizeof ACK - 1 + 1);
    o.role = CW_SERVER;
    stream.n = 0;
    put_text_frame(&stream, ACK);
    check_broken(&o, &stream, CW_E_FRAME_UNMASKED, 1);
    bytes_free(&stream);
}

static void test_reserved_bits_and_opcodes_break_the_line(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    put_text_frame(&stream, ACK);
    put_frame(&stream, 0xC1, NULL, ACK, sizeof ACK - 1);
    check_broken(&o, &stream, CW_E_FRAME_RESERVED_BITS, 2 + sizeof ACK - 1);
    stream.n = 0;
    put_frame(&stream, 0x83, NULL, "", 0);
    check_broken(&o, &stream, CW_E_FRAME_OPCODE, 0);
    stream.n = 0;
    put(&stream, "\x89\x7E\x00\x7E", 4);
    check_broken(&o, &stream, CW_E_FRAME_CONTROL_TOO_LONG, 1);
    stream.n = 0;
    put(&stream, "\x81\x7E\x00\x05", 4);
    check_broken(&o, &stream, CW_E_FRAME_LENGTH_FORM, 2);
    stream.n = 0;
    put(&stream, "\x09\x00", 2);
    check_broken(&o, &stream, CW_E_FRAME_CONTROL_FRAGMENTED, 0);
    bytes_free(&stream);
}

static void test_continuation_without_a_message_and_message_inside_one_break_the_line(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    put_frame(&stream, 0x80, NULL, "{}", 2);
    check_broken(&o, &stream, CW_E_FRAME_CONTINUATION, 0);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, "{", 1);
    put_frame(&stream, 0x81, NULL, "{}", 2);
    check_broken(&o, &stream, CW_E_FRAME_CONTINUATION, 3);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, "{", 1);
    put_frame(&stream, 0x80, NULL, "}", 1);
    put_frame(&stream, 0x00, NULL, "}", 1);
    check_broken(&o, &stream, CW_E_FRAME_CONTINUATION, 6);
    stream.n = 0;
    put_frame(&stream, 0x81, NULL, "{}", 2);
    put_frame(&stream, 0x80, NULL, "{}", 2);
    check_broken(&o, &stream, CW_E_FRAME_CONTINUATION, 4);
    bytes_free(&stream);
}

static void test_oversize_messages_break_the_line_before_they_arrive(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    uint8_t text[600];
    memset(text, ' ', sizeof text);
    o.rx_capacity = 256;
    o.message_max = 500;
    put(&stream, "\x81\x7E\x01\xF4", 4); /* 500 */
    put(&stream, text, 499);
    put_text(&stream, "1");
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.messages, 1);
    CHECK_EQ(s.line.is_done, 0);
    session_close(&s);
    stream.n = 0;
    put(&stream, "\x81\x7E\x01\xF5", 4); /* 501, of which nothing came */
    check_broken(&o, &stream, CW_E_FRAME_TOO_BIG, 2);
    stream.n = 0;
    put(&stream, "\x81\x7F\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 10);
    check_broken(&o, &stream, CW_E_FRAME_TOO_BIG, 2);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, text, 300);
    put_frame(&stream, 0x80, NULL, text, 201);
    check_broken(&o, &stream, CW_E_FRAME_TOO_BIG, 304 + 2);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, text, 300);
    put_frame(&stream, 0x80, NULL, text, 200);
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.is_done, 0);
    CHECK_EQ(s.line.messages, 1);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

static void test_more_fragments_than_allowed_break_the_line(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    o.fragments_max = 4;
    put_frame(&stream, 0x01, NULL, "", 0);
    put_frame(&stream, 0x00, NULL, "[", 1);
    put_frame(&stream, 0x00, NULL, "1", 1);
    put_frame(&stream, 0x80, NULL, "]", 1);
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.messages, 1);
    CHECK_EQ(s.line.is_done, 0);
    session_close(&s);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, "", 0);
    for (int i = 0; i < 4; i++) put_frame(&stream, 0x00, NULL, "", 0);
    check_broken(&o, &stream, CW_E_FRAME_FRAGMENTS, 8);
    bytes_free(&stream);
}

static void test_text_that_is_no_utf8_breaks_the_line_at_its_byte(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    put_text_frame(&stream, ACK);
    put_frame(&stream, 0x81, NULL, "{\"a\":\"\xFF\"}", 9);
    check_broken(&o, &stream, CW_E_UTF8, 2 + sizeof ACK - 1 + 2 + 6);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, "\"\xE2\x82", 3);
    put_frame(&stream, 0x89, NULL, "\xFF\xFE", 2); /* a ping is no text */
    put_frame(&stream, 0x80, NULL, "A\"", 2);
    check_broken(&o, &stream, CW_E_UTF8, 5 + 4 + 2);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, "\"\xE2\x82", 3);
    put_frame(&stream, 0x80, NULL, "\xAC\"", 2);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

static void test_text_that_ends_inside_a_character_breaks_the_line(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    put_frame(&stream, 0x81, NULL, "\"\xE2\x82", 3);
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.receiver.error.code, CW_E_UTF8);
    session_close(&s);
    check_every_cut(&o, &stream);
    stream.n = 0;
    put_frame(&stream, 0x01, NULL, "\"", 1);
    put_frame(&stream, 0x80, NULL, "\xE2\x82", 2);
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.receiver.error.code, CW_E_UTF8);
    session_close(&s);
    check_every_cut(&o, &stream);
    bytes_free(&stream);
}

static void test_close_payloads_valid_and_invalid(void) {
    static const struct {
        const char *payload;
        size_t n;
        int code; /* 0: in order */
    } CASES[] = {
        {"", 0, 0},
        {"\x03\xE8", 2, 0},
        {"\x0B\xB8" "x", 3, 0},
        {"\x13\x87", 2, 0},
        {"\x03", 1, CW_E_FRAME_CLOSE},
        {"\x03\xE7", 2, CW_E_FRAME_CLOSE}, /* 999 */
        {"\x03\xEC", 2, CW_E_FRAME_CLOSE}, /* 1004 */
        {"\x03\xED", 2, CW_E_FRAME_CLOSE}, /* 1005 */
        {"\x03\xEE", 2, CW_E_FRAME_CLOSE}, /* 1006 */
        {"\x03\xF7", 2, CW_E_FRAME_CLOSE}, /* 1015 */
        {"\x13\x88", 2, CW_E_FRAME_CLOSE}, /* 5000 */
        {"\x00\x00", 2, CW_E_FRAME_CLOSE},
        {"\x03\xE8\xFF", 3, CW_E_UTF8},
        {"\x03\xE8" "a\xC3", 4, CW_E_UTF8},
    };
    options o = usual(&SPOT);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        bytes stream = {0};
        session s;
        put_frame(&stream, 0x88, NULL, CASES[i].payload, CASES[i].n);
        feed_new(&s, &o, &stream);
        check_note("case %zu", i);
        CHECK_EQ(s.line.receiver.error.code, CASES[i].code);
        CHECK_EQ(s.line.is_done, 1);
        CHECK_EQ((s.fed & CW_FED_CLOSED) != 0, CASES[i].code == 0);
        CHECK_EQ((s.fed & CW_FED_BROKEN) != 0, CASES[i].code != 0);
        CHECK_EQ(s.line.receiver.has_close, CASES[i].code == 0);
        CHECK_EQ(cw_line_feed(&s.line, 0, 1, 1), 0);
        session_close(&s);
        check_every_cut(&o, &stream);
        bytes_free(&stream);
    }
}

static void test_truncated_stream_says_nothing_and_waits(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    put_text_frame(&stream, QUOTE("1", "X", "1", "2"));
    for (size_t n = 0; n < stream.n; n++) {
        bytes part = {stream.p, n, n};
        session s;
        feed_new(&s, &o, &part);
        CHECK_EQ(s.fed, 0);
        CHECK_EQ(s.line.messages, 0);
        CHECK_EQ(s.line.bytes, n);
        session_close(&s);
    }
    bytes_free(&stream);
}

/* Such a frame may be read where it stands or by way of the assembly, as the stream is cut. */
static void test_bad_utf8_in_frames_about_as_large_as_the_receive_buffer(void) {
    for (size_t n = 238; n < 260; n++)
        for (int is_cut = 0; is_cut < 2; is_cut++) {
            options o = usual(&SPOT);
            bytes stream = {0}, text = {0};
            o.rx_capacity = 256;
            put_text_frame(&stream, ACK);
            put_text(&text, "{\"z\":\"");
            while (text.n < n) put_text(&text, "y");
            text.p[is_cut ? n - 1 : n / 2] = 0xE2;
            put_frame(&stream, 0x81, NULL, text.p, n);
            check_every_cut(&o, &stream);
            bytes_free(&stream);
            bytes_free(&text);
        }
}

/* ---- life ---- */

static void test_reopened_line_forgets_the_stream_and_keeps_the_counters(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    put_text_frame(&stream, QUOTE("1", "BTCUSDT", "99", "100"));
    put_frame(&stream, 0x01, NULL, "{\"half\":", 8);
    put(&stream, "\x00\x05", 2);
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.line.receiver.opcode, CW_TEXT);
    CHECK_EQ(cw_line_lose(&s.line, 1001, 1001), 0);
    CHECK_DOUBLE(s.engine->books.net_ask[0], INFINITY);
    CHECK_EQ(s.line.is_done, 1);
    cw_line_open(&s.line, 1002, 1002);
    CHECK_EQ(s.line.is_done, 0);
    CHECK_EQ(s.line.messages, 1);
    stream.n = 0;
    put_text_frame(&stream, QUOTE("2", "BTCUSDT", "98", "99"));
    receive_stamped(&s, stream.p, stream.n, 1003, 1003);
    CHECK_EQ(s.line.messages, 2);
    CHECK_EQ(s.line.is_done, 0);
    CHECK(s.engine->books.net_ask[0] < INFINITY);
    session_close(&s);
    bytes_free(&stream);
}

static void test_silence_closes_what_was_open_and_a_byte_wakes_the_line(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    cw_signal signal;
    size_t before;
    put_crossing_quotes(&stream, 1);
    feed_new(&s, &o, &stream);
    before = s.signals.n;
    CHECK(before >= sizeof signal);
    receive_stamped(&s, (const uint8_t *)"\x89", 1, 3000000, 3000000);
    CHECK(s.signals.n > before);
    memcpy(&signal, s.signals.p + before, sizeof signal);
    CHECK_EQ(signal.event, CW_SIGNAL_CLOSE);
    CHECK_EQ(signal.close_reason, CW_CLOSE_LIVENESS);
    CHECK(s.engine->books.net_ask[0] < INFINITY);
    session_close(&s);
    bytes_free(&stream);
}

static void test_lines_beyond_the_limit_and_inboxes_too_small_are_refused(void) {
    options o = usual(&SPOT);
    session s;
    cw_line *more = calloc(1, sizeof *more);
    cw_line_memory memory;
    session_open(&s, &o);
    memory = s.memory;
    memory.inbox_capacity = 100;
    CHECK_EQ(cw_line_init(more, s.engine, 0, &memory), CW_E_FRAME_TOO_BIG);
    memory = s.memory;
    memory.receiver.rx = malloc(cw_buffer_size(memory.receiver.rx_capacity));
    CHECK_EQ(cw_line_init(more, s.engine, 0, &memory), CW_OK);
    CHECK_EQ(cw_line_init(more, s.engine, 0, &memory), CW_FULL);
    free(memory.receiver.rx);
    free(more);
    session_close(&s);
}

/* ---- by dice ---- */

static void put_random_frame(bytes *stream, dice *d, const uint8_t *mask, int is_okx) {
    static const char *const CONTROLS[] = {ACK, "{}", "pong", "{\"event\":\"subscribe\"}", "{", "",
                                           "\"\xE2\x82\xAC\"", "[1,2,3]"};
    bytes text = {0};
    uint8_t head = 0x81;
    switch (below(d, 10)) {
    case 0: put_text(&text, CONTROLS[below(d, 8)]); break;
    case 1: head = 0x89; put_format(&text, "%0*u", (int)below(d, 126), 7u); break;
    case 2:
        if (below(d, 4) == 0) head = 0x82;
        put_text(&text, CONTROLS[below(d, 8)]);
        break;
    case 3:
    case 4:
        (void)(is_okx ? make_okx_trade : make_spot_trade)(&text, d, below(d, 16), 0);
        break;
    default: (void)(is_okx ? make_okx_quote : make_spot_quote)(&text, d, below(d, 16), 0);
    }
    if (head == 0x89 && text.n > 125) text.n = 125;
    if (head == 0x81 && below(d, 3) == 0) { /* in fragments */
        size_t at = 0;
        while (at < text.n) {
            size_t n = 1 + below(d, (uint32_t)(text.n - at));
            put_frame(stream, (uint8_t)((at ? 0x00 : 0x01) | (at + n == text.n ? 0x80 : 0)), mask,
                      text.p + at, n);
            at += n;
            if (at < text.n && below(d, 4) == 0) put_frame(stream, 0x8A, mask, "p", 1);
        }
    } else {
        put_frame(stream, head, mask, text.p, text.n);
    }
    bytes_free(&text);
}

/* Random conversations at every level, cut at random, with small buffers of every kind and now and
 * then a damaged byte: the same bytes must always come to the same. */
static void test_6000_random_conversations_cut_at_random(void) {
    dice d = {51};
    uint32_t broken = 0;
    for (int turn = 0; turn < 6000; turn++) {
        int is_okx = (int)below(&d, 2);
        options o = usual(is_okx ? &OKX : &SPOT), other;
        const uint8_t *mask = below(&d, 2) ? MASK : NULL;
        bytes stream = {0};
        session whole, s;
        size_t at = 0;
        o.role = mask ? CW_SERVER : CW_CLIENT;
        o.takes_unknown = (int)below(&d, 2);
        o.rx_capacity = below(&d, 2) ? 256 : 4096;
        for (uint32_t k = 1 + below(&d, 12); k; k--)
            put_random_frame(&stream, &d, mask, is_okx);
        if (stream.n && below(&d, 3) == 0)
            stream.p[below(&d, (uint32_t)stream.n)] ^= (uint8_t)(1u << below(&d, 8));
        if (below(&d, 6) == 0) stream.n = below(&d, (uint32_t)stream.n + 1);
        o.level = CW_LEVEL_BASE;
        o.predicts = 0;
        feed_new(&whole, &o, &stream);
        broken += whole.line.receiver.error.code != 0;
        for (int again = 0; again < 3; again++) {
            other = o;
            other.level = (cw_level)below(&d, LEVELS);
            other.predicts = (int)below(&d, 2);
            other.latest_only = (int)below(&d, 2);
            other.signals = 4u << below(&d, 3);
            other.batch = 1 + below(&d, 5);
            other.inbox_capacity = 3000 + 4 * below(&d, 100);
            session_open(&s, &other);
            for (at = 0; at < stream.n;) {
                size_t n = 1 + below(&d, below(&d, 2) ? 40 : 2000);
                if (n > stream.n - at) n = stream.n - at;
                receive(&s, stream.p + at, n);
                at += n;
            }
            check_note("turn %d, level %d, predicts %d", turn, (int)other.level, other.predicts);
            check_same(&whole, &s);
            session_close(&s);
        }
        session_close(&whole);
        bytes_free(&stream);
    }
    printf("   of 6000, %u broke the protocol\n", broken);
    CHECK(broken > 50 && broken < 5000);
}

/* ---- bounds of the ring beyond one look ---- */

/* Four pairs open on one line; a message of nobody in particular distrusts the whole line and
 * closes all four. Each close must reach the ring. */
static void test_closes_of_a_whole_line_are_not_lost_in_a_nearly_full_ring(void) {
    static const char *const SYMBOLS[] = {"A1", "A2", "B1", "B2", "C1", "C2", "D1", "D2", NULL};
    cw_pair_terms pairs[4];
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    uint32_t free_size, fed, events[4] = {0}, count;
    o.symbols = SYMBOLS;
    o.signals = 16;
    o.batch = 0;
    o.latest_only = 1;
    o.pairs = 0;
    session_open(&s, &o);
    for (uint32_t i = 0; i < 4; i++)
        pairs[i] = (cw_pair_terms){.a = 2 * i, .b = 2 * i + 1, .rule_id = i, .open_net_bps = 0,
                                   .close_net_bps = 0, .qty_max = INFINITY};
    CHECK_EQ(cw_engine_set_pairs(s.engine, pairs, 4), CW_OK);
    for (uint32_t i = 0; i < 8; i++) {
        char text[200];
        snprintf(text, sizeof text,
                 "{\"u\":1,\"s\":\"%s\",\"b\":\"%u\",\"B\":\"1\",\"a\":\"%u\",\"A\":\"1\"}",
                 SYMBOLS[i], i % 2 ? 101 : 99, i % 2 ? 102 : 100);
        put_text_frame(&stream, text);
    }
    put_text_frame(&stream, QUOTE("2", "A2", "101.5", "102"));
    put_text_frame(&stream, QUOTE("2", "B2", "101.5", "102"));
    put_text_frame(&stream, "{");
    memcpy(cw_line_tail(&s.line, &free_size), stream.p, stream.n);
    fed = cw_line_feed(&s.line, (uint32_t)stream.n, 1, 1);
    while (fed & CW_FED_MORE) {
        drain(&s);
        fed = cw_line_feed(&s.line, 0, 1, 1);
    }
    drain(&s);
    count = count_of(&s.signals, sizeof(cw_signal));
    for (uint32_t i = 0; i < count; i++) {
        cw_signal signal;
        memcpy(&signal, s.signals.p + i * sizeof signal, sizeof signal);
        events[signal.event]++;
    }
    CHECK_EQ(events[CW_SIGNAL_OPEN], 4);
    CHECK_EQ(s.engine->ring.refused, 0);
    CHECK_EQ(events[CW_SIGNAL_CLOSE], 4);
    session_close(&s);
    bytes_free(&stream);
}

/* A table that cw_layout_is_valid takes must not make the engine count for instrument nobody. */
static void test_layout_with_a_kind_that_requires_no_symbol_is_refused(void) {
    static cw_layout layout;
    options o = usual(&SPOT);
    session s;
    uint16_t id;
    layout = SPOT;
    CHECK_EQ(cw_layout_is_valid(&layout), 1);
    layout.messages[SPOT_DEPTH].required &= ~BIT_OF(CW_SLOT_SYMBOL);
    CHECK_EQ(cw_layout_is_valid(&layout), 0);
    session_open(&s, &o);
    CHECK_EQ(cw_engine_add_venue(s.engine, &layout, LIMIT_NS, 1.0, 0, &id), CW_FULL);
    session_close(&s);
}

/* line.h: *free_size "is 0 only while CW_FED_MORE is pending or the line is done". */
static void test_tail_is_full_only_while_there_is_more_to_feed(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    uint32_t free_size;
    o.rx_capacity = 256;
    o.batch = 0;
    put_crossing_quotes(&stream, 8);
    session_open(&s, &o);
    memcpy(cw_line_tail(&s.line, &free_size), stream.p, 256);
    CHECK(cw_line_feed(&s.line, 256, 1, 1) & CW_FED_MORE);
    CHECK_EQ(s.line.is_done, 0);
    while (cw_line_feed(&s.line, 0, 1, 1) & CW_FED_MORE) drain_signals(&s);
    (void)cw_line_tail(&s.line, &free_size);
    CHECK(free_size > 0);
    session_close(&s);
    bytes_free(&stream);
}

/* line.h: CW_E_FRAME_TOO_BIG "when the receive buffer or the inbox is below its minimum". */
static void test_inbox_below_its_minimum_is_refused(void) {
    options o = usual(&SPOT);
    session s;
    cw_line *more = calloc(1, sizeof *more);
    cw_line_memory memory;
    session_open(&s, &o);
    memory = s.memory;
    memory.inbox_capacity = CW_LINE_INBOX_MIN - 1;
    CHECK_EQ(cw_line_init(more, s.engine, 0, &memory), CW_E_FRAME_TOO_BIG);
    free(more);
    session_close(&s);
}

/* A receive buffer may be refused, but not be taken and then hang. */
static void test_receive_buffer_smaller_than_a_control_frame(void) {
    options o = usual(&SPOT);
    bytes stream = {0};
    session s;
    uint8_t payload[125] = {0};
    cw_line *more = calloc(1, sizeof *more);
    cw_line_memory memory;
    session_open(&s, &o);
    memory = s.memory;
    memory.receiver.rx_capacity = 100;
    if (cw_line_init(more, s.engine, 0, &memory) == CW_OK) {
        uint32_t free_size;
        put_frame(&stream, 0x89, NULL, payload, sizeof payload);
        cw_line_open(more, 1, 1);
        memcpy(cw_line_tail(more, &free_size), stream.p, 100);
        CHECK_EQ(cw_line_feed(more, 100, 1, 1) & CW_FED_MORE, 0);
        (void)cw_line_tail(more, &free_size);
        CHECK(more->is_done || free_size > 0);
    }
    free(more);
    session_close(&s);
    bytes_free(&stream);
}

static void test_texts_of_a_venue_without_messages_are_checked_and_counted(void) {
    cw_layout layout = SPOT;
    options o = usual(&layout);
    bytes stream = {0}, bad = {0};
    session s;
    layout.message_count = 0;
    o.symbols = SPOT_SYMBOLS;
    for (size_t n = 0; n < 70; n++) {
        char text[70];
        memset(text, 'x', sizeof text);
        put_frame(&stream, 0x81, NULL, text, n);
        if (n > 1) memcpy(text + n - 2, "\xC2\xB5", 2);
        put_frame(&stream, 0x81, NULL, text, n);
    }
    check_every_cut(&o, &stream);
    feed_new(&s, &o, &stream);
    CHECK_EQ(s.engine->messages, 140);
    CHECK_EQ(s.quotes.n + s.trades.n + s.inbox.n, 0);
    session_close(&s);
    put_frame(&bad, 0x81, NULL, "fine", 4);
    put_frame(&bad, 0x81, NULL, "0123456789 0123456789 0123456789 \xFF", 34);
    check_broken(&o, &bad, CW_E_UTF8, 6 + 2 + 33);
    bytes_free(&stream);
    bytes_free(&bad);
}

int main(void) {
    RUN(test_texts_of_a_venue_without_messages_are_checked_and_counted);
    RUN(test_quotes_trades_and_signals_of_whole_frames);
    RUN(test_fragments_pings_in_between_and_close_as_a_client);
    RUN(test_fragments_pings_in_between_and_close_as_a_server);
    RUN(test_message_larger_than_the_receive_buffer);
    RUN(test_frames_of_every_size_around_the_receive_buffer);
    RUN(test_okx_message_of_many_trades_fills_batch_after_batch);
    RUN(test_many_quotes_in_one_message_each_with_its_signals);
    RUN(test_broken_message_is_counted_and_the_stream_goes_on);
    RUN(test_message_cut_inside_a_literal_is_not_read_on_behind_its_end);
    RUN(test_line_whose_records_nobody_wants_keeps_the_tops);
    RUN(test_the_most_recent_16_errors_are_kept);
    RUN(test_control_message_larger_than_the_inbox_is_lost_and_counted);
    RUN(test_full_inbox_stops_the_feed_until_it_is_drained);
    RUN(test_full_batch_stops_the_feed_until_it_is_drained);
    RUN(test_nearly_full_ring_stops_the_feed_and_nothing_is_lost);
    RUN(test_feed_stops_at_the_first_signal_unless_only_the_latest_counts);
    RUN(test_masked_frame_from_a_server_and_unmasked_from_a_client_break_the_line);
    RUN(test_reserved_bits_and_opcodes_break_the_line);
    RUN(test_continuation_without_a_message_and_message_inside_one_break_the_line);
    RUN(test_oversize_messages_break_the_line_before_they_arrive);
    RUN(test_more_fragments_than_allowed_break_the_line);
    RUN(test_text_that_is_no_utf8_breaks_the_line_at_its_byte);
    RUN(test_text_that_ends_inside_a_character_breaks_the_line);
    RUN(test_bad_utf8_in_frames_about_as_large_as_the_receive_buffer);
    RUN(test_close_payloads_valid_and_invalid);
    RUN(test_truncated_stream_says_nothing_and_waits);
    RUN(test_reopened_line_forgets_the_stream_and_keeps_the_counters);
    RUN(test_silence_closes_what_was_open_and_a_byte_wakes_the_line);
    RUN(test_lines_beyond_the_limit_and_inboxes_too_small_are_refused);
    RUN(test_6000_random_conversations_cut_at_random);
    RUN(test_closes_of_a_whole_line_are_not_lost_in_a_nearly_full_ring);
    RUN(test_layout_with_a_kind_that_requires_no_symbol_is_refused);
    RUN(test_tail_is_full_only_while_there_is_more_to_feed);
    RUN(test_inbox_below_its_minimum_is_refused);
    RUN(test_receive_buffer_smaller_than_a_control_frame);
    return 0;
}
