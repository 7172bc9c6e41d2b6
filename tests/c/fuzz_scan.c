/* fuzz_scan.c — messages through the scanner: all levels, with templates and without, must agree.
 *
 * The first line of an input names what it is for: "okx" somewhere in it chooses that layout, else
 * Binance's; "new" lets unknown symbols become instruments. Every further line is a message; all
 * go through the same scanners, so that templates are learned from one and meet the next. */
#include "scanners.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static scanners all;

static int holds(const uint8_t *p, size_t n, const char *word) {
    size_t len = strlen(word);
    for (size_t i = 0; i + len <= n; i++)
        if (memcmp(p + i, word, len) == 0) return 1;
    return 0;
}

static const char *const SPOT_FIRST[] = {
    "{\"u\":1,\"s\":\"BTCUSDT\",\"b\":\"1.5\",\"B\":\"2\",\"a\":\"3\",\"A\":\"4\"}",
    "{\"e\":\"trade\",\"s\":\"X\",\"t\":7,\"p\":\"1.5\",\"q\":\"2\",\"T\":3,\"m\":true}", NULL};
static const char *const OKX_FIRST[] = {
    "{\"arg\":{\"channel\":\"bbo-tbt\",\"instId\":\"BTC-USDT\"},\"data\":[{\"asks\":[[\"3\","
    "\"1\",\"0\",\"3\"]],\"bids\":[[\"2\",\"1\",\"0\",\"3\"]],\"ts\":\"1\",\"seqId\":1}]}",
    "{\"arg\":{\"channel\":\"trades\",\"instId\":\"X\"},\"data\":[{\"tradeId\":\"1\",\"px\":"
    "\"2\",\"sz\":\"3\",\"side\":\"buy\",\"ts\":\"4\",\"count\":\"1\"}]}", NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *first = memchr(data, '\n', size);
    size_t head = first ? (size_t)(first - data) : size, at = head + 1;
    int is_okx = holds(data, head, "okx");
    const char *const *lesson = is_okx ? OKX_FIRST : SPOT_FIRST;
    scanners_init(&all, is_okx ? &OKX : &SPOT, is_okx ? OKX_SYMBOLS : SPOT_SYMBOLS,
                  holds(data, head, "new"));
    for (; *lesson; lesson++) CHECK(scan_text(&all, *lesson, NULL) < CW_SCAN_COUNTED);
    while (at < size) {
        const uint8_t *stop = memchr(data + at, '\n', size - at);
        size_t n = stop ? (size_t)(stop - data) - at : size - at;
        (void)scan_all(&all, data + at, n, NULL);
        at += n + 1;
    }
    scanners_free(&all);
    return 0;
}
