/* test_scan.c — JSON messages to records by two layouts; every level, with templates and without,
 * must say the same of every message, whole or broken. */
#include "messages.h"
#include "scanners.h"

static scanners spot, okx;
static cw_record row;

static void begin(void) {
    scanners_free(&spot);
    scanners_free(&okx);
    scanners_init(&spot, &SPOT, SPOT_SYMBOLS, 0);
    scanners_init(&okx, &OKX, OKX_SYMBOLS, 0);
}

/* ---- by hand: what the venues send ---- */

#define SPOT_QUOTE                                                                              \
    "{\"u\":50093239212,\"s\":\"BTCUSDT\",\"b\":\"61837.63000000\",\"B\":\"3.78826000\","       \
    "\"a\":\"61837.64000000\",\"A\":\"1.54698000\"}"

static void check_spot_quote(void) {
    CHECK_EQ(row.quote.ts_exch, 0);
    CHECK_EQ(row.quote.ts_rx, 0);
    CHECK_EQ(row.quote.seq, 50093239212);
    CHECK_DOUBLE(row.quote.bid, 61837.63);
    CHECK_DOUBLE(row.quote.bid_qty, 3.78826);
    CHECK_DOUBLE(row.quote.ask, 61837.64);
    CHECK_DOUBLE(row.quote.ask_qty, 1.54698);
    CHECK_EQ(row.quote.instrument, 0);
    CHECK_EQ(row.quote.venue, VENUE);
    CHECK_EQ(row.quote.flags, 0);
}

static void test_spot_quote_bare_and_in_its_envelope(void) {
    begin();
    for (int turn = 0; turn < 20; turn++) {
        CHECK_EQ(scan_text(&spot, SPOT_QUOTE, &row), CW_SCAN_QUOTE);
        check_spot_quote();
        CHECK_EQ(spot.all[0].scanner->kind, SPOT_BOOK_TICKER);
        CHECK_EQ(scan_text(&spot, "{\"stream\":\"btcusdt@bookTicker\",\"data\":" SPOT_QUOTE "}",
                           &row),
                 CW_SCAN_QUOTE);
        check_spot_quote();
    }
    CHECK(template_hits(&spot) >= 4);
    CHECK_EQ(spot.all[0].scanner->hits, 0);
}

static void test_spot_trade_and_its_kinds(void) {
    begin();
    for (int turn = 0; turn < 2; turn++) {
        CHECK_EQ(scan_text(&spot,
                           "{\"e\":\"trade\",\"E\":1723161255343,\"s\":\"BTCUSDT\","
                           "\"t\":3735683259,\"p\":\"61837.63000000\",\"q\":\"0.02000000\","
                           "\"T\":1723161255342,\"m\":true,\"M\":true}",
                           &row),
                 CW_SCAN_TRADE);
        CHECK_EQ(row.trade.ts_exch, 1723161255342000000);
        CHECK_EQ(row.trade.trade_id, 3735683259);
        CHECK_EQ(row.trade.seq, 0);
        CHECK_DOUBLE(row.trade.price, 61837.63);
        CHECK_DOUBLE(row.trade.qty, 0.02);
        CHECK_EQ(row.trade.count, 1);
        CHECK_EQ(row.trade.side, -1);
        CHECK_EQ(row.trade.kind, 0);
        CHECK_EQ(row.trade.venue, VENUE);
        CHECK_EQ(row.trade.flags, 0);
        CHECK_EQ(scan_text(&spot,
                           "{\"e\":\"trade\",\"s\":\"ETHUSDT\",\"t\":1,\"p\":\"1\",\"q\":\"2\","
                           "\"T\":3,\"m\":false,\"X\":\"MARKET\"}",
                           &row),
                 CW_SCAN_TRADE);
        CHECK_EQ(row.trade.side, 1);
        CHECK_EQ(row.trade.kind, 0);
        CHECK_EQ(row.trade.instrument, 1);
        CHECK_EQ(scan_text(&spot,
                           "{\"e\":\"trade\",\"s\":\"ETHUSDT\",\"t\":1,\"p\":\"1\",\"q\":\"2\","
                           "\"T\":3,\"m\":false,\"X\":\"ADL\"}",
                           &row),
                 CW_SCAN_TRADE);
        CHECK_EQ(row.trade.kind, 1);
    }
}

#define OKX_QUOTE(ASKS, BIDS)                                                                   \
    "{\"arg\":{\"channel\":\"bbo-tbt\",\"instId\":\"BTC-USDT\"},\"data\":[{\"asks\":[" ASKS     \
    "],\"bids\":[" BIDS "],\"ts\":\"1654032991947\",\"seqId\":123456}]}"

static void test_okx_quote_with_both_sides_one_and_none(void) {
    begin();
    for (int turn = 0; turn < 2; turn++) {
        CHECK_EQ(scan_text(&okx,
                           OKX_QUOTE("[\"31774.7\",\"0.14368878\",\"0\",\"3\"]",
                                     "[\"31774.6\",\"0.3392211\",\"0\",\"3\"]"),
                           &row),
                 CW_SCAN_QUOTE);
        CHECK_EQ(row.quote.ts_exch, 1654032991947000000);
        CHECK_EQ(row.quote.seq, 123456);
        CHECK_DOUBLE(row.quote.ask, 31774.7);
        CHECK_DOUBLE(row.quote.ask_qty, 0.14368878);
        CHECK_DOUBLE(row.quote.bid, 31774.6);
        CHECK_DOUBLE(row.quote.bid_qty, 0.3392211);
        CHECK_EQ(row.quote.flags, 0);
        CHECK_EQ(okx.all[0].scanner->kind, OKX_BBO);
        CHECK_EQ(scan_text(&okx, OKX_QUOTE("", "[\"31774.6\",\"0.3392211\",\"0\",\"3\"]"), &row),
                 CW_SCAN_QUOTE);
        CHECK_EQ(row.quote.flags, CW_FLAG_ONE_SIDED);
        CHECK_DOUBLE(row.quote.ask, 0);
        CHECK_DOUBLE(row.quote.ask_qty, 0);
        CHECK_DOUBLE(row.quote.bid, 31774.6);
        CHECK_EQ(scan_text(&okx, OKX_QUOTE("", ""), &row), CW_SCAN_QUOTE);
        CHECK_EQ(row.quote.flags, CW_FLAG_ONE_SIDED);
    }
    CHECK(template_hits(&okx) > 0);
}

static void test_okx_trades_of_many_elements_come_one_by_one(void) {
    static const char TEXT[] =
        "{\"arg\":{\"channel\":\"trades\",\"instId\":\"ETH-USDT\"},\"data\":["
        "{\"instId\":\"ETH-USDT\",\"tradeId\":\"11\",\"px\":\"10.5\",\"sz\":\"1\",\"side\":"
        "\"buy\",\"ts\":\"1000\",\"count\":\"2\",\"source\":\"0\",\"seqId\":7} , "
        "{\"tradeId\":\"12\",\"px\":\"10.6\",\"sz\":\"2\",\"side\":\"sell\",\"ts\":\"1001\"},"
        "{\"seqId\":9,\"ts\":\"1002\",\"side\":\"SELL\",\"sz\":\"3\",\"px\":\"10.7\","
        "\"tradeId\":\"13\",\"count\":\"4294967295\"}]}";
    block b = block_of(TEXT, sizeof TEXT - 1);
    begin();
    CHECK_EQ(scan_text(&okx, TEXT, &row), CW_SCAN_TRADE);
    for (uint32_t i = 0; i < okx.count; i++) {
        scanned_as *one = &okx.all[i];
        CHECK_EQ(one->ops->scan(one->scanner, b.text, (uint32_t)b.n, &row), CW_SCAN_TRADE);
        CHECK_EQ(row.trade.trade_id, 11);
        CHECK_EQ(row.trade.count, 2);
        CHECK_EQ(row.trade.side, 1);
        CHECK_EQ(row.trade.seq, 7);
        CHECK_EQ(row.trade.instrument, 1);
        CHECK_EQ(one->ops->scan_next(one->scanner, &row), CW_SCAN_TRADE);
        CHECK_EQ(row.trade.trade_id, 12);
        CHECK_EQ(row.trade.count, 1);
        CHECK_EQ(row.trade.side, -1);
        CHECK_EQ(row.trade.ts_exch, 1001000000);
        CHECK_EQ(row.trade.instrument, 1);
        CHECK_EQ(one->ops->scan_next(one->scanner, &row), CW_SCAN_TRADE);
        CHECK_EQ(row.trade.trade_id, 13);
        CHECK_EQ(row.trade.count, UINT32_MAX);
        CHECK_DOUBLE(row.trade.price, 10.7);
        CHECK_EQ(one->ops->scan_next(one->scanner, &row), CW_SCAN_END);
        CHECK_EQ(one->ops->scan_next(one->scanner, &row), CW_SCAN_END);
    }
    block_free(&b);
}

static void test_broken_element_is_an_error_after_the_records_before_it(void) {
    static const char TEXT[] =
        "{\"arg\":{\"channel\":\"trades\",\"instId\":\"ETH-USDT\"},\"data\":["
        "{\"tradeId\":\"11\",\"px\":\"10.5\",\"sz\":\"1\",\"side\":\"buy\",\"ts\":\"1000\"},"
        "{\"tradeId\":\"12\",\"px\":\"x\",\"sz\":\"2\",\"side\":\"sell\",\"ts\":\"1001\"}]}";
    block b = block_of(TEXT, sizeof TEXT - 1);
    begin();
    (void)scan_text(&okx, TEXT, &row);
    for (uint32_t i = 0; i < okx.count; i++) {
        scanned_as *one = &okx.all[i];
        CHECK_EQ(one->ops->scan(one->scanner, b.text, (uint32_t)b.n, &row), CW_SCAN_TRADE);
        CHECK_EQ(one->ops->scan_next(one->scanner, &row), CW_E_NUMBER_FORM);
        CHECK_EQ(one->scanner->error.at, strstr(TEXT, "\"x\"") + 1 - TEXT);
        CHECK_EQ(one->scanner->instrument, 1);
        CHECK_EQ(one->ops->scan_next(one->scanner, &row), CW_SCAN_END);
    }
    block_free(&b);
}

static void test_counted_kinds_set_kind_and_instrument(void) {
    begin();
    CHECK_EQ(scan_text(&spot,
                       "{\"e\":\"depthUpdate\",\"E\":1,\"s\":\"ETHUSDT\",\"U\":157,\"u\":160,"
                       "\"b\":[[\"0.0024\",\"10\"]],\"a\":[[\"0.0026\",\"100\"]]}",
                       NULL),
             CW_SCAN_COUNTED);
    CHECK_EQ(spot.all[0].scanner->kind, SPOT_DEPTH);
    CHECK_EQ(spot.all[0].scanner->instrument, 1);
    CHECK_EQ(scan_text(&okx,
                       "{\"arg\":{\"channel\":\"books\",\"instId\":\"BTC-USDT\"},"
                       "\"action\":\"update\",\"data\":[{\"asks\":[],\"bids\":[],\"ts\":\"1\"}]}",
                       NULL),
             CW_SCAN_COUNTED);
    CHECK_EQ(okx.all[0].scanner->kind, OKX_BOOKS);
}

static void test_control_messages_are_whole_json_but_no_data(void) {
    static const char *const TEXTS[] = {"{\"result\":null,\"id\":1}", "{}", "[]", "1", "\"x\"",
                                        "null", " true ", "{\"code\":2,\"msg\":\"no\",\"id\":1}",
                                        "{\"e\":\"serverShutdown\",\"E\":1}", "-0.5e-3",
                                        "{\"e\":5,\"s\":\"BTCUSDT\"}", "{\"s\":\"NOBODY\"}",
                                        "{\"e\":\"\",\"s\":\"BTCUSDT\"}"};
    begin();
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
        CHECK_EQ(scan_text(&spot, TEXTS[i], NULL), CW_SCAN_CONTROL);
    CHECK_EQ(scan_text(&okx,
                       "{\"event\":\"subscribe\",\"arg\":{\"channel\":\"trades\",\"instId\":"
                       "\"BTC-USDT\"},\"connId\":\"a\"}",
                       NULL),
             CW_SCAN_CONTROL);
}

static void test_the_word_of_a_venue_is_control_and_of_another_is_not_json(void) {
    begin();
    CHECK_EQ(scan_text(&okx, "pong", NULL), CW_SCAN_CONTROL);
    CHECK(scan_text(&okx, "pon", NULL) >= CW_E_FIRST);
    CHECK(scan_text(&okx, "ponga", NULL) >= CW_E_FIRST);
    CHECK(scan_text(&okx, "Pong", NULL) >= CW_E_FIRST);
    CHECK(scan_text(&okx, " pong", NULL) >= CW_E_FIRST);
    CHECK_EQ(scan_text(&spot, "pong", NULL), CW_E_JSON_SYNTAX);
}

/* ---- by hand: what is wrong ---- */

static void test_every_prefix_of_a_message_is_cut(void) {
    begin();
    for (int turn = 0; turn < 2; turn++)
        for (size_t n = 0; n < sizeof SPOT_QUOTE - 1; n++) {
            CHECK_EQ(scan_all(&spot, SPOT_QUOTE, n, NULL), CW_E_JSON_CUT);
            CHECK_EQ(spot.all[0].scanner->error.at, n);
            if (turn == 0 && n == 40) CHECK_EQ(scan_text(&spot, SPOT_QUOTE, &row), CW_SCAN_QUOTE);
        }
}

static void test_symbol_of_an_error_is_told_where_it_was_read_before(void) {
    begin();
    CHECK_EQ(scan_text(&spot, "{\"u\":1,\"s\":\"ETHUSDT\",\"b\":\"1\",", NULL), CW_E_JSON_CUT);
    CHECK_EQ(spot.all[0].scanner->instrument, 1);
    CHECK_EQ(scan_text(&spot, "{\"u\":1,\"b\":\"1\",", NULL), CW_E_JSON_CUT);
    CHECK_EQ(spot.all[0].scanner->instrument, CW_NO_INSTRUMENT);
    CHECK_EQ(scan_text(&spot, "{\"u\":1,\"s\":\"ETHUSDT\",\"b\":\"x\",\"B\":\"1\",\"a\":\"1\","
                              "\"A\":\"1\"}", NULL),
             CW_E_NUMBER_FORM);
    CHECK_EQ(spot.all[0].scanner->instrument, 1);
    CHECK_EQ(spot.all[0].scanner->error.at, 26);
}

static void test_missing_doubled_and_mistyped_keys_are_refused(void) {
    static const struct {
        const char *text;
        int code;
    } CASES[] = {
        {"{\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}", CW_E_KEY_MISSING},
        {"{\"u\":1,\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}", CW_E_KEY_MISSING},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\"}", CW_E_KEY_MISSING},
        {"{\"u\":1,\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_KEY_DOUBLED},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\",\"s\":"
         "\"BTCUSDT\"}",
         CW_E_KEY_DOUBLED},
        {"{\"u\":1,\"data\":{\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\","
         "\"A\":\"1\"}}",
         CW_E_KEY_DOUBLED},
        {"{\"u\":\"1\",\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_TYPE},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":1,\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}", CW_E_TYPE},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":null,\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}", CW_E_TYPE},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":[\"1\"],\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_TYPE},
        {"{\"u\":1,\"s\":5,\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}", CW_E_TYPE},
        {"{\"u\":1,\"s\":\"NOBODY\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_SYMBOL_UNKNOWN},
        {"{\"u\":1,\"s\":\"\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_SYMBOL_UNKNOWN},
        {"{\"u\":1.5,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_NUMBER_FORM},
        {"{\"u\":-1,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_NUMBER_FORM},
        {"{\"u\":18446744073709551616,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":\"1\","
         "\"A\":\"1\"}",
         CW_E_NUMBER_RANGE},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"-1\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_NUMBER_RANGE},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"1e100\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_NUMBER_RANGE},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"\",\"B\":\"1\",\"a\":\"1\",\"A\":\"1\"}",
         CW_E_NUMBER_FORM},
        {"{\"u\":1,\"s\":\"BTCUSDT\",\"b\":"
         "\"00000000000000000000000000000000000000000000000000000000000000001\",\"B\":\"1\","
         "\"a\":\"1\",\"A\":\"1\"}",
         CW_E_NUMBER_LENGTH},
        {"{\"e\":\"trade\",\"s\":\"BTCUSDT\",\"t\":1,\"p\":\"1\",\"q\":\"1\",\"T\":1,\"m\":"
         "\"true\"}",
         CW_E_TYPE},
        {"{\"e\":\"trade\",\"s\":\"BTCUSDT\",\"t\":1,\"p\":\"1\",\"q\":\"1\",\"T\":"
         "9223372036855,\"m\":true}",
         CW_E_NUMBER_RANGE},
    };
    for (int is_trained = 0; is_trained < 2; is_trained++) {
        begin();
        if (is_trained) CHECK_EQ(scan_text(&spot, SPOT_QUOTE, NULL), CW_SCAN_QUOTE);
        for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
            CHECK_EQ(scan_text(&spot, CASES[i].text, NULL), CASES[i].code);
    }
}

static void test_okx_side_and_count_have_bounds(void) {
#define OKX_TRADE(SIDE, COUNT)                                                                  \
    "{\"arg\":{\"channel\":\"trades\",\"instId\":\"X\"},\"data\":[{\"tradeId\":\"1\",\"px\":"   \
    "\"2\",\"sz\":\"3\",\"side\":\"" SIDE "\",\"ts\":\"4\",\"count\":\"" COUNT "\"}]}"
    for (int is_trained = 0; is_trained < 2; is_trained++) {
        begin();
        if (is_trained) CHECK_EQ(scan_text(&okx, OKX_TRADE("buy", "1"), NULL), CW_SCAN_TRADE);
        CHECK_EQ(scan_text(&okx, OKX_TRADE("bought", "1"), NULL), CW_E_TYPE);
        CHECK_EQ(scan_text(&okx, OKX_TRADE("", "1"), NULL), CW_E_TYPE);
        CHECK_EQ(scan_text(&okx, OKX_TRADE("buy", "4294967295"), &row), CW_SCAN_TRADE);
        CHECK_EQ(row.trade.count, 4294967295);
        CHECK_EQ(scan_text(&okx, OKX_TRADE("buy", "4294967296"), NULL), CW_E_NUMBER_RANGE);
        CHECK_EQ(scan_text(&okx, OKX_TRADE("sell", "1.0"), NULL), CW_E_NUMBER_FORM);
    }
}

static void test_wide_trade_id_is_hashed_and_says_so(void) {
#define OKX_ID(ID)                                                                              \
    "{\"arg\":{\"channel\":\"trades\",\"instId\":\"X\"},\"data\":[{\"tradeId\":\"" ID "\","     \
    "\"px\":\"2\",\"sz\":\"3\",\"side\":\"buy\",\"ts\":\"4\"}]}"
    cw_record again;
    begin();
    CHECK_EQ(scan_text(&okx, OKX_ID("18446744073709551615"), &row), CW_SCAN_TRADE);
    CHECK_EQ(row.trade.flags, 0);
    CHECK(row.trade.trade_id == UINT64_MAX);
    CHECK_EQ(scan_text(&okx, OKX_ID("18446744073709551616"), &row), CW_SCAN_TRADE);
    CHECK_EQ(row.trade.flags, CW_FLAG_ID_HASHED);
    CHECK_EQ(scan_text(&okx, OKX_ID("18446744073709551616"), &again), CW_SCAN_TRADE);
    CHECK_BYTES(&row, &again, sizeof row);
    CHECK_EQ(scan_text(&okx, OKX_ID("3f2a-11ee-9c0d"), &again), CW_SCAN_TRADE);
    CHECK_EQ(again.trade.flags, CW_FLAG_ID_HASHED);
    CHECK(row.trade.trade_id != again.trade.trade_id);
}

static void test_numbers_of_more_than_15_digits_are_marked_inexact(void) {
    for (int turn = 0; turn < 2; turn++) {
        begin();
        CHECK_EQ(scan_text(&spot, "{\"u\":1,\"s\":\"X\",\"b\":\"1\",\"B\":\"1234567890.1234567\","
                                  "\"a\":\"3\",\"A\":\"1\"}", &row),
                 CW_SCAN_QUOTE);
        CHECK_EQ(row.quote.flags, CW_FLAG_INEXACT);
        CHECK_DOUBLE(row.quote.bid_qty, 1234567890.1234567);
        CHECK_EQ(scan_text(&spot, "{\"u\":1,\"s\":\"X\",\"b\":\"1\",\"B\":\"1234567890.12345\","
                                  "\"a\":\"3\",\"A\":\"1\"}", &row),
                 CW_SCAN_QUOTE);
        CHECK_EQ(row.quote.flags, 0);
    }
}

static void test_nesting_of_64_is_read_and_of_65_is_refused(void) {
    char text[256];
    begin();
    for (int depth = 63; depth <= 66; depth++) {
        int n = 0;
        for (int i = 0; i < depth; i++) text[n++] = '[';
        for (int i = 0; i < depth; i++) text[n++] = ']';
        text[n] = 0;
        CHECK_EQ(scan_text(&spot, text, NULL), depth <= 64 ? CW_SCAN_CONTROL : CW_E_JSON_DEPTH);
    }
    memset(text, '[', 200);
    text[200] = 0;
    CHECK_EQ(scan_text(&spot, text, NULL), CW_E_JSON_DEPTH);
    memset(text, '{', 200);
    CHECK_EQ(scan_text(&spot, text, NULL), CW_E_JSON_SYNTAX);
}

static void test_json_that_is_in_order_is_read(void) {
    static const char *const VALUES[] = {
        "0", "-0", "1", "-1", "10", "0.5", "-0.5", "1e1", "1E1", "1e+1", "1e-1", "1.5e10",
        "\"\"", "\"a\"", "\"\\\"\"", "\"\\\\\"", "\"\\/\"", "\"\\b\\f\\n\\r\\t\"", "\"\\u0041\"",
        "\"\\uD800\"", "\"\\u00aF\"", "\"\x7F\"", "\"\xC3\xA9\"", "true", "false", "null", "[]",
        "[ ]", "{}", "{ }", "[1,2]", "[ 1 , 2 ]", "{\"c\":1,\"c\":2}", "{\"\":0}", "[[],{}]",
        "\"0123456789abcdef\"", "\"0123456789abcde\"", "\"0123456789abcdef0\\n\""};
    char text[200];
    begin();
    for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
        snprintf(text, sizeof text, " \r\n\t{ \"z\" : %s , \"y\":%s}\n", VALUES[i], VALUES[i]);
        CHECK_EQ(scan_text(&spot, text, NULL), CW_SCAN_CONTROL);
        snprintf(text, sizeof text, "%s", VALUES[i]);
        CHECK_EQ(scan_text(&spot, text, NULL), CW_SCAN_CONTROL);
    }
}

static void test_what_is_no_json_is_refused(void) {
    static const char *const VALUES[] = {
        "00", "01", "-", "-a", "+1", ".5", "1.", "1.e1", "1e", "1e+", "0x1", "1_0", "NaN", "nan",
        "Infinity", "True", "nul", "nulL", "truE", "'a'", "a", "\"\\x\"", "\"\\u12\"",
        "\"\\u12G4\"", "\"\n\"", "\"\t\"", "\"\x01\"", "\"\x1F\"", "[,]", "[1,]", "[,1]", "[1 2]",
        "[1", "]", "}", "{,}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:1}", "{\"a\" 1}",
        "{\"a\":1 \"b\":2}", "{\"a\":1,,\"b\":2}", "[1}", "{\"a\":1]", "1 2", "//", "/**/1", "\\",
        "\"a\"\"b\"", "\x80", "\xEF\xBB\xBF" "1", "tru", "\"\\\"", "\v1", "\f1", "*", "--1", "1-"};
    char text[200];
    begin();
    for (size_t i = 0; i < sizeof VALUES / sizeof *VALUES; i++) {
        int code;
        snprintf(text, sizeof text, "{\"z\":%s}", VALUES[i]);
        code = scan_text(&spot, text, NULL);
        CHECK(code == CW_E_JSON_SYNTAX || code == CW_E_JSON_CUT || code == CW_E_JSON_TRAILING ||
              code == CW_E_UTF8);
        snprintf(text, sizeof text, "%s", VALUES[i]);
        code = scan_text(&spot, text, NULL);
        CHECK(code == CW_E_JSON_SYNTAX || code == CW_E_JSON_CUT || code == CW_E_JSON_TRAILING ||
              code == CW_E_UTF8);
    }
}

static void test_bytes_behind_the_value_are_refused(void) {
    begin();
    for (int turn = 0; turn < 2; turn++) {
        CHECK_EQ(scan_text(&spot, SPOT_QUOTE, NULL), CW_SCAN_QUOTE);
        CHECK_EQ(scan_text(&spot, SPOT_QUOTE " \n", NULL), CW_SCAN_QUOTE);
        CHECK_EQ(scan_text(&spot, SPOT_QUOTE "}", NULL), CW_E_JSON_TRAILING);
        CHECK_EQ(spot.all[0].scanner->error.at, sizeof SPOT_QUOTE - 1);
        CHECK_EQ(scan_text(&spot, SPOT_QUOTE SPOT_QUOTE, NULL), CW_E_JSON_TRAILING);
    }
    CHECK_EQ(scan_all(&spot, SPOT_QUOTE, sizeof SPOT_QUOTE, NULL), CW_E_JSON_TRAILING);
    CHECK_EQ(scan_text(&spot, "", NULL), CW_E_JSON_CUT);
    CHECK_EQ(scan_text(&spot, "  ", NULL), CW_E_JSON_CUT);
}

static void test_key_with_an_escape_is_the_key_that_it_spells(void) {
    begin();
    CHECK_EQ(scan_text(&spot, "{\"\\u0075\":1,\"s\":\"BTCUSDT\",\"b\":\"1\",\"B\":\"1\",\"a\":"
                              "\"1\",\"A\":\"1\"}", NULL),
             CW_SCAN_QUOTE);
}

static void test_unknown_symbols_may_become_instruments_where_that_is_allowed(void) {
    char text[200];
    scanners_free(&spot);
    scanners_init(&spot, &SPOT, SPOT_SYMBOLS, 1);
    for (uint32_t i = 4; i < 16; i++) {
        snprintf(text, sizeof text,
                 "{\"u\":1,\"s\":\"NEW%u\",\"b\":\"1\",\"B\":\"1\",\"a\":\"2\",\"A\":\"1\"}", i);
        CHECK_EQ(scan_text(&spot, text, &row), i < 12 ? CW_SCAN_QUOTE : CW_E_SYMBOLS_FULL);
        if (i < 12) CHECK_EQ(row.quote.instrument, i);
        CHECK_EQ(scan_text(&spot, text, &row), i < 12 ? CW_SCAN_QUOTE : CW_E_SYMBOLS_FULL);
        if (i < 12) CHECK_EQ(row.quote.instrument, i);
    }
    CHECK_EQ(scan_text(&spot, "{\"u\":1,\"s\":\"123456789012345678901234567890123\",\"b\":\"1\","
                              "\"B\":\"1\",\"a\":\"2\",\"A\":\"1\"}", NULL),
             CW_E_SYMBOL_UNKNOWN);
}

static void test_symbol_with_an_escape_never_becomes_an_instrument(void) {
    scanners_free(&spot);
    scanners_init(&spot, &SPOT, SPOT_SYMBOLS, 1);
    CHECK_EQ(scan_text(&spot, "{\"u\":1,\"s\":\"NEW\\/USDT\",\"b\":\"1\",\"B\":\"1\",\"a\":"
                              "\"2\",\"A\":\"1\"}", NULL),
             CW_E_SYMBOL_UNKNOWN);
    CHECK_EQ(spot.all[0].instrument_next, 4);
}

static void test_kind_of_trade_with_an_escape_is_refused(void) {
    static const char TEXT[] = "{\"e\":\"trade\",\"s\":\"X\",\"t\":7,\"p\":\"1\",\"q\":\"2\","
                               "\"T\":3,\"m\":true,\"X\":\"%s\"}";
    static const char *const KINDS[] = {"MARKET", "ADL", "", "MARKE\\u0054", "\\u004dARKET"};
    char text[200];
    begin();
    for (int i = 0; i < 5; i++) {
        snprintf(text, sizeof text, TEXT, KINDS[i]);
        CHECK_EQ(scan_text(&spot, text, &row), i < 3 ? CW_SCAN_TRADE : CW_E_TYPE);
        if (i < 3) CHECK_EQ(row.trade.kind, i > 0);
    }
}

static void test_reset_forgets_templates_and_keeps_the_owner(void) {
    begin();
    CHECK_EQ(scan_text(&spot, SPOT_QUOTE, &row), CW_SCAN_QUOTE);
    for (uint32_t i = 0; i < spot.count; i++) {
        cw_scanner *s = spot.all[i].scanner;
        cw_scanner_reset(s);
        CHECK_EQ(s->template_count, 0);
        CHECK_EQ(s->hits, 0);
        CHECK(s->layout == &SPOT);
        CHECK(s->symbols == &spot.all[i].known.symbols);
        CHECK_EQ(s->venue, VENUE);
        CHECK_EQ(s->predicts, i & 1);
    }
    CHECK_EQ(scan_text(&spot, SPOT_QUOTE, &row), CW_SCAN_QUOTE);
    check_spot_quote();
}

/* ---- by dice ---- */

static void check_record(int is_quote, const void *want) {
    if (is_quote) CHECK_BYTES(&row.quote, want, sizeof(cw_quote));
    else CHECK_BYTES(&row.trade, want, sizeof(cw_trade));
}

static uint32_t freedom_of(dice *d) { return below(d, 3) ? 0 : below(d, 16); }

static void test_30000_messages_become_the_records_they_were_made_from(void) {
    dice d = {31};
    begin();
    for (int turn = 0; turn < 30000; turn++) {
        int is_okx = (int)below(&d, 2), is_quote = below(&d, 3) != 0;
        uint32_t freedom = freedom_of(&d);
        bytes text = {0};
        cw_quote q;
        cw_trade t;
        if (is_quote) q = (is_okx ? make_okx_quote : make_spot_quote)(&text, &d, freedom, VENUE);
        else t = (is_okx ? make_okx_trade : make_spot_trade)(&text, &d, freedom, VENUE);
        CHECK_EQ(scan_all(is_okx ? &okx : &spot, text.p, text.n, &row),
                 is_quote ? CW_SCAN_QUOTE : CW_SCAN_TRADE);
        check_record(is_quote, is_quote ? (void *)&q : (void *)&t);
        bytes_free(&text);
    }
    printf("   template hits: %.0f%% spot, %.0f%% okx\n",
           100.0 * spot.all[1].scanner->hits /
               (spot.all[1].scanner->hits + spot.all[1].scanner->misses),
           100.0 * okx.all[1].scanner->hits / (okx.all[1].scanner->hits + okx.all[1].scanner->misses));
    CHECK(spot.all[1].scanner->hits > 1000 && okx.all[1].scanner->hits > 1000);
}

static void mutate(bytes *text, dice *d) {
    static const char SIGNS[] = "{}[]:,\"\\0123456789.eE+-truefalsn asubBAqpTm\n\t\x80\x1f";
    for (uint32_t k = 1 + below(d, 3); k && text->n; k--) {
        uint32_t at = below(d, (uint32_t)text->n), n = 1 + below(d, 4);
        switch (below(d, 5)) {
        case 0: text->p[at] ^= (uint8_t)(1u << below(d, 8)); break;
        case 1: text->p[at] = (uint8_t)SIGNS[below(d, sizeof SIGNS - 1)]; break;
        case 2: /* insert */
            put(text, "x", 1);
            memmove(text->p + at + 1, text->p + at, text->n - 1 - at);
            text->p[at] = (uint8_t)SIGNS[below(d, sizeof SIGNS - 1)];
            break;
        case 3: /* delete */
            if (n > text->n - at) n = (uint32_t)text->n - at;
            memmove(text->p + at, text->p + at + n, text->n - at - n);
            text->n -= n;
            break;
        default: /* cut */
            if (below(d, 4) == 0) text->n = at;
        }
    }
}

/* The scanners are trained on whole messages between the broken ones. */
static void test_60000_broken_messages_are_judged_alike_by_all(void) {
    dice d = {32};
    uint32_t errors = 0;
    begin();
    for (int turn = 0; turn < 60000; turn++) {
        int is_okx = (int)below(&d, 2), code;
        uint32_t freedom = freedom_of(&d);
        bytes text = {0};
        if (below(&d, 3))
            (void)(is_okx ? make_okx_quote : make_spot_quote)(&text, &d, freedom, VENUE);
        else
            (void)(is_okx ? make_okx_trade : make_spot_trade)(&text, &d, freedom, VENUE);
        if (below(&d, 8)) mutate(&text, &d);
        code = scan_all(is_okx ? &okx : &spot, text.p, text.n, NULL);
        errors += code >= CW_E_FIRST;
        bytes_free(&text);
    }
    CHECK(errors > 10000);
    CHECK(spot.all[1].scanner->hits > 1000 && okx.all[1].scanner->hits > 1000);
}

/* One byte of a message that fits a template, at every place and of every value. */
static void test_every_single_byte_change_is_judged_alike_by_all(void) {
    static const char *const TEXTS[] = {
        SPOT_QUOTE,
        "{\"e\":\"trade\",\"s\":\"X\",\"t\":37,\"p\":\"61.6\",\"q\":\"0.02\",\"T\":17,\"m\":true}"};
    begin();
    for (size_t t = 0; t < 2; t++) {
        size_t n = strlen(TEXTS[t]);
        for (size_t at = 0; at < n; at++)
            for (int c = 0; c < 256; c++) {
                char text[256];
                memcpy(text, TEXTS[t], n);
                text[at] = (char)c;
                (void)scan_all(&spot, text, n, NULL);
                if (c % 64 == 0) (void)scan_text(&spot, TEXTS[t], NULL);
            }
    }
}

/* A price may become longer or shorter by any number of characters and stay so. */
static void test_template_hits_whatever_the_length_of_a_price_was_before(void) {
    for (int was = 1; was <= 12; was++)
        for (int is = 1; is <= 12; is++) {
            uint64_t hits = 0;
            char text[200];
            begin();
            for (int turn = 0; turn < 12; turn++) {
                if (turn == 4) hits = template_hits(&spot);
                snprintf(text, sizeof text,
                         "{\"u\":1,\"s\":\"X\",\"b\":\"1\",\"B\":\"%0*u\",\"a\":\"3\",\"A\":\"1\"}",
                         turn < 4 ? was : is, 7u);
                CHECK_EQ(scan_text(&spot, text, &row), CW_SCAN_QUOTE);
            }
            check_note("from %d to %d characters", was, is);
            CHECK(template_hits(&spot) - hits >= spot.count / 2 * 6);
        }
}

/* What a template remembers of a value must survive a message in which that value is odd. */
static void test_template_survives_values_of_odd_lengths(void) {
    static const char *const ODD[] = {"x", "", "0", "\"\"", "\"5\"", "12345678901234567", "null",
                                      "1234567890123456789", "18446744073709551615", "-1",
                                      "123456789012345678901234567890123456789012345678901"};
    char text[400];
    begin();
    for (size_t i = 0; i < sizeof ODD / sizeof *ODD; i++)
        for (int place = 0; place < 6; place++) {
            const char *v[6] = {"12345", "\"X\"", "\"1.5\"", "\"2\"", "\"3\"", "\"4.25\""};
            CHECK_EQ(scan_text(&spot, "{\"u\":12345,\"s\":\"X\",\"b\":\"1.5\",\"B\":\"2\",\"a\":"
                                      "\"3\",\"A\":\"4.25\"}", &row),
                     CW_SCAN_QUOTE);
            CHECK_EQ(row.quote.seq, 12345);
            CHECK_DOUBLE(row.quote.ask_qty, 4.25);
            v[place] = ODD[i];
            snprintf(text, sizeof text,
                     "{\"u\":%s,\"s\":%s,\"b\":%s,\"B\":%s,\"a\":%s,\"A\":%s}", v[0], v[1], v[2],
                     v[3], v[4], v[5]);
            (void)scan_text(&spot, text, NULL);
        }
}

/* ---- bounds that only odd messages reach ---- */

/* A message whose literals do not fit a template must not leave one half made: neither what it
 * wrote nor what it left of the least recently used template may answer for a message. */
static void test_template_that_did_not_fit_is_not_used(void) {
#define QUOTE_WITH(HEAD, TAIL)                                                                  \
    "{" HEAD "\"u\":1,\"s\":\"X\",\"b\":\"1\",\"B\":\"2\",\"a\":\"3\",\"A\":\"4\"" TAIL "}"
    static char text[4000], pad[2000];
    memset(pad, 'k', sizeof pad);
    for (int size = 500; size < 1900; size += 20) {
        int is_last = size / 20 % 2; /* the last template of the table is the one that goes */
        begin();
        snprintf(text, sizeof text, QUOTE_WITH("\"%.100s\":\"1\",", ""), pad);
        CHECK_EQ(scan_text(&spot, text, NULL), CW_SCAN_QUOTE);
        for (int i = 1; i < CW_TEMPLATES; i++) {
            snprintf(text, sizeof text, QUOTE_WITH("\"%.*s\":null,", ""), i, pad);
            CHECK_EQ(scan_text(&spot, text, NULL), CW_SCAN_QUOTE);
        }
        for (int i = 0; i < CW_TEMPLATES - 1 && is_last; i++) { /* use all but the last again */
            if (i == 0) snprintf(text, sizeof text, QUOTE_WITH("\"%.100s\":\"1\",", ""), pad);
            else snprintf(text, sizeof text, QUOTE_WITH("\"%.*s\":null,", ""), i, pad);
            CHECK_EQ(scan_text(&spot, text, NULL), CW_SCAN_QUOTE);
        }
        snprintf(text, sizeof text, QUOTE_WITH("", ",\"%.*s\":1"), size, pad);
        for (int again = 0; again < 3; again++)
            CHECK_EQ(scan_text(&spot, text, NULL), CW_SCAN_QUOTE);
        CHECK_EQ(scan_text(&spot, QUOTE_WITH("", ",\"A\":\"5\""), NULL), CW_E_KEY_DOUBLED);
        snprintf(text, sizeof text, QUOTE_WITH("", ",\"%.*s\":1"), size - 1, pad);
        CHECK_EQ(scan_text(&spot, text, NULL), CW_SCAN_QUOTE);
    }
}

/* An element of an array is not the value of a key, whatever its number. */
static void test_element_65534_of_an_array_is_no_key(void) {
    cw_layout *layout = malloc(sizeof *layout);
    bytes text = {0};
    *layout = SPOT;
    layout->nodes[1] = SPOT.nodes[7]; /* the tag is the first child of the root */
    layout->nodes[7] = SPOT.nodes[1];
    scanners_free(&spot);
    scanners_init(&spot, layout, SPOT_SYMBOLS, 0);
    put_text(&text, "[");
    for (int i = 0; i < 65534; i++) put_text(&text, "0,");
    put_text(&text, "\"depthUpdate\"]");
    CHECK_EQ(scan_all(&spot, text.p, text.n, NULL), CW_SCAN_CONTROL);
    bytes_free(&text);
    free(layout);
}

int main(void) {
    RUN(test_spot_quote_bare_and_in_its_envelope);
    RUN(test_spot_trade_and_its_kinds);
    RUN(test_okx_quote_with_both_sides_one_and_none);
    RUN(test_okx_trades_of_many_elements_come_one_by_one);
    RUN(test_broken_element_is_an_error_after_the_records_before_it);
    RUN(test_counted_kinds_set_kind_and_instrument);
    RUN(test_control_messages_are_whole_json_but_no_data);
    RUN(test_the_word_of_a_venue_is_control_and_of_another_is_not_json);
    RUN(test_every_prefix_of_a_message_is_cut);
    RUN(test_symbol_of_an_error_is_told_where_it_was_read_before);
    RUN(test_missing_doubled_and_mistyped_keys_are_refused);
    RUN(test_okx_side_and_count_have_bounds);
    RUN(test_wide_trade_id_is_hashed_and_says_so);
    RUN(test_numbers_of_more_than_15_digits_are_marked_inexact);
    RUN(test_nesting_of_64_is_read_and_of_65_is_refused);
    RUN(test_json_that_is_in_order_is_read);
    RUN(test_what_is_no_json_is_refused);
    RUN(test_bytes_behind_the_value_are_refused);
    RUN(test_key_with_an_escape_is_the_key_that_it_spells);
    RUN(test_unknown_symbols_may_become_instruments_where_that_is_allowed);
    RUN(test_symbol_with_an_escape_never_becomes_an_instrument);
    RUN(test_kind_of_trade_with_an_escape_is_refused);
    RUN(test_reset_forgets_templates_and_keeps_the_owner);
    RUN(test_30000_messages_become_the_records_they_were_made_from);
    RUN(test_60000_broken_messages_are_judged_alike_by_all);
    RUN(test_every_single_byte_change_is_judged_alike_by_all);
    RUN(test_template_survives_values_of_odd_lengths);
    RUN(test_template_hits_whatever_the_length_of_a_price_was_before);
    RUN(test_element_65534_of_an_array_is_no_key);
    RUN(test_template_that_did_not_fit_is_not_used);
    scanners_free(&spot);
    scanners_free(&okx);
    return 0;
}
