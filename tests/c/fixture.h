/* fixture.h — what the C tests share: dice, guarded heap blocks, two layouts, message makers.
 *
 * SPOT and OKX are the layouts of two venues, written out by hand as the tables of layout.h; their
 * message shapes stand in the docstrings of src/crosswire/venues. */
#ifndef CROSSWIRE_TESTS_FIXTURE_H
#define CROSSWIRE_TESTS_FIXTURE_H

#include "check.h"
#include "crosswire/line.h"

#pragma GCC diagnostic ignored "-Wunused-function"

/* ---- dice: splitmix64 ---- */

typedef struct dice {
    uint64_t state;
} dice;

static uint64_t roll(dice *self) {
    uint64_t z = (self->state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static uint32_t below(dice *self, uint32_t n) { return (uint32_t)(roll(self) % n); }

/* ---- blocks: bytes with exactly the guards that the headers ask for, on the heap, so that the
 * address sanitizer sees every byte that is read beyond them ---- */

typedef struct block {
    uint8_t *memory, *text;
    size_t n;
} block;

/* The guards are filled with bytes that look like more of the message. */
static block block_of(const void *bytes, size_t n) {
    static const char LURE[] = "9\"}]1.0,{[\"e\\";
    block b = {malloc(CW_GUARD_BEFORE + n + CW_GUARD_AFTER), NULL, n};
    CHECK(b.memory != NULL);
    for (size_t i = 0; i < CW_GUARD_BEFORE + n + CW_GUARD_AFTER; i++)
        b.memory[i] = (uint8_t)LURE[i % (sizeof LURE - 1)];
    b.text = b.memory + CW_GUARD_BEFORE;
    if (n) memcpy(b.text, bytes, n);
    return b;
}

static void block_free(block *b) {
    free(b->memory);
    b->memory = b->text = NULL;
}

/* ---- bytes that grow ---- */

typedef struct bytes {
    uint8_t *p;
    size_t n, capacity;
} bytes;

static void put(bytes *self, const void *p, size_t n) {
    if (self->n + n > self->capacity) {
        self->capacity = 2 * (self->n + n) + 64;
        self->p = realloc(self->p, self->capacity);
        CHECK(self->p != NULL);
    }
    if (n) memcpy(self->p + self->n, p, n);
    self->n += n;
}

static void put_text(bytes *self, const char *text) { put(self, text, strlen(text)); }

__attribute__((format(printf, 2, 3))) static void put_format(bytes *self, const char *format,
                                                             ...) {
    char text[8192];
    va_list list;
    int n;
    va_start(list, format);
    n = vsnprintf(text, sizeof text, format, list);
    va_end(list);
    CHECK(n >= 0 && (size_t)n < sizeof text);
    put(self, text, (size_t)n);
}

static void bytes_free(bytes *self) {
    free(self->p);
    *self = (bytes){0};
}

/* ---- frames, written by hand and not by the code under test ---- */

/* `first` is the whole first byte: 0x81 is a final text. `mask` is four bytes or NULL. */
static void put_frame(bytes *self, uint8_t first, const uint8_t *mask, const void *payload,
                      size_t n) {
    uint8_t head[14] = {first}, bit = mask ? 0x80 : 0;
    size_t at = 2;
    if (n < 126) {
        head[1] = (uint8_t)(bit | n);
    } else if (n < 65536) {
        head[1] = bit | 126;
        head[at++] = (uint8_t)(n >> 8);
        head[at++] = (uint8_t)n;
    } else {
        head[1] = bit | 127;
        for (int i = 7; i >= 0; i--) head[at++] = (uint8_t)((uint64_t)n >> (8 * i));
    }
    for (int i = 0; mask && i < 4; i++) head[at++] = mask[i];
    put(self, head, at);
    put(self, payload, n);
    for (size_t i = 0; mask && i < n; i++) self->p[self->n - n + i] ^= mask[i & 3];
}

static void put_text_frame(bytes *self, const char *text) {
    put_frame(self, 0x81, NULL, text, strlen(text));
}

/* ---- layouts ---- */

#define AT_KEY(text, slot_)                                                                     \
    { .key = text, .key_len = sizeof text - 1, .index = CW_INDEX_KEY, .slot = slot_ }
#define AT_KEY_WITH(text, slot_, first, count)                                                  \
    {                                                                                           \
        .key = text, .key_len = sizeof text - 1, .index = CW_INDEX_KEY, .slot = slot_,          \
        .child_first = first, .child_count = count                                              \
    }
#define AT_INDEX(index_, slot_, first, count)                                                   \
    { .index = index_, .slot = slot_, .child_first = first, .child_count = count }
#define BIT_OF(slot) (1u << (slot))

#define SPOT_QUOTE_SLOTS                                                                        \
    (BIT_OF(CW_SLOT_SEQ) | BIT_OF(CW_SLOT_SYMBOL) | BIT_OF(CW_SLOT_BID) |                       \
     BIT_OF(CW_SLOT_BID_QTY) | BIT_OF(CW_SLOT_ASK) | BIT_OF(CW_SLOT_ASK_QTY))
#define SPOT_TRADE_SLOTS                                                                        \
    (BIT_OF(CW_SLOT_TAG) | BIT_OF(CW_SLOT_SYMBOL) | BIT_OF(CW_SLOT_TRADE_ID) |                  \
     BIT_OF(CW_SLOT_PRICE) | BIT_OF(CW_SLOT_QTY) | BIT_OF(CW_SLOT_TS_MS) |                      \
     BIT_OF(CW_SLOT_BUYER_IS_MAKER))

enum { SPOT_BOOK_TICKER, SPOT_TRADE, SPOT_DEPTH };

/* Binance: bare or inside "data"; a quote has no tag; X is optional. */
static const cw_layout SPOT = {
    .nodes =
        {
            AT_KEY_WITH("", CW_SLOT_NONE, 1, 14),
            AT_KEY("u", CW_SLOT_SEQ),
            AT_KEY("s", CW_SLOT_SYMBOL),
            AT_KEY("b", CW_SLOT_BID),
            AT_KEY("B", CW_SLOT_BID_QTY),
            AT_KEY("a", CW_SLOT_ASK),
            AT_KEY("A", CW_SLOT_ASK_QTY),
            AT_KEY("e", CW_SLOT_TAG),
            AT_KEY("t", CW_SLOT_TRADE_ID),
            AT_KEY("p", CW_SLOT_PRICE),
            AT_KEY("q", CW_SLOT_QTY),
            AT_KEY("T", CW_SLOT_TS_MS),
            AT_KEY("m", CW_SLOT_BUYER_IS_MAKER),
            AT_KEY("X", CW_SLOT_TRADE_KIND),
            AT_KEY_WITH("data", CW_SLOT_NONE, 1, 14),
        },
    .node_count = 15,
    .messages =
        {
            {.record = CW_QUOTE,
             .kind = SPOT_BOOK_TICKER,
             .required = SPOT_QUOTE_SLOTS,
             .any_of = SPOT_QUOTE_SLOTS & ~(BIT_OF(CW_SLOT_SEQ) | BIT_OF(CW_SLOT_SYMBOL)),
             .used = SPOT_QUOTE_SLOTS,
             .text = {[CW_SLOT_SEQ] = CW_TEXT_NUMBER,
                      [CW_SLOT_SYMBOL] = CW_TEXT_STRING,
                      [CW_SLOT_BID] = CW_TEXT_STRING,
                      [CW_SLOT_BID_QTY] = CW_TEXT_STRING,
                      [CW_SLOT_ASK] = CW_TEXT_STRING,
                      [CW_SLOT_ASK_QTY] = CW_TEXT_STRING}},
            {.tag = "trade",
             .tag_len = 5,
             .record = CW_TRADE,
             .kind = SPOT_TRADE,
             .required = SPOT_TRADE_SLOTS,
             .used = SPOT_TRADE_SLOTS | BIT_OF(CW_SLOT_TRADE_KIND),
             .text = {[CW_SLOT_TAG] = CW_TEXT_STRING,
                      [CW_SLOT_SYMBOL] = CW_TEXT_STRING,
                      [CW_SLOT_TRADE_ID] = CW_TEXT_NUMBER,
                      [CW_SLOT_PRICE] = CW_TEXT_STRING,
                      [CW_SLOT_QTY] = CW_TEXT_STRING,
                      [CW_SLOT_TS_MS] = CW_TEXT_NUMBER,
                      [CW_SLOT_BUYER_IS_MAKER] = CW_TEXT_BOOL,
                      [CW_SLOT_TRADE_KIND] = CW_TEXT_STRING}},
            {.tag = "depthUpdate",
             .tag_len = 11,
             .record = CW_COUNTED,
             .kind = SPOT_DEPTH,
             .required = BIT_OF(CW_SLOT_TAG) | BIT_OF(CW_SLOT_SYMBOL),
             .used = BIT_OF(CW_SLOT_TAG) | BIT_OF(CW_SLOT_SYMBOL),
             .text = {[CW_SLOT_TAG] = CW_TEXT_STRING, [CW_SLOT_SYMBOL] = CW_TEXT_STRING}},
        },
    .message_count = 3,
    .each_node = 0xFFFF,
};

#define OKX_HEAD (BIT_OF(CW_SLOT_TAG) | BIT_OF(CW_SLOT_SYMBOL))
#define OKX_QUOTE_SLOTS                                                                         \
    (OKX_HEAD | BIT_OF(CW_SLOT_ASKS) | BIT_OF(CW_SLOT_BIDS) | BIT_OF(CW_SLOT_TS_MS))
#define OKX_TRADE_SLOTS                                                                         \
    (OKX_HEAD | BIT_OF(CW_SLOT_TRADE_ID) | BIT_OF(CW_SLOT_PRICE) | BIT_OF(CW_SLOT_QTY) |        \
     BIT_OF(CW_SLOT_SIDE) | BIT_OF(CW_SLOT_TS_MS))

enum { OKX_BBO, OKX_TRADES, OKX_BOOKS };

/* OKX: tag and symbol in "arg", one record per element of "data", "event" is control. */
static const cw_layout OKX = {
    .nodes =
        {
            AT_KEY_WITH("", CW_SLOT_NONE, 1, 3),
            AT_KEY_WITH("arg", CW_SLOT_NONE, 4, 2),
            AT_KEY_WITH("data", CW_SLOT_NONE, 6, 1),
            AT_KEY("event", CW_SLOT_CONTROL),
            AT_KEY("channel", CW_SLOT_TAG),
            AT_KEY("instId", CW_SLOT_SYMBOL),
            AT_INDEX(CW_INDEX_EACH, CW_SLOT_NONE, 7, 9),
            AT_KEY_WITH("asks", CW_SLOT_ASKS, 16, 1),
            AT_KEY_WITH("bids", CW_SLOT_BIDS, 17, 1),
            AT_KEY("ts", CW_SLOT_TS_MS),
            AT_KEY("seqId", CW_SLOT_SEQ),
            AT_KEY("tradeId", CW_SLOT_TRADE_ID),
            AT_KEY("px", CW_SLOT_PRICE),
            AT_KEY("sz", CW_SLOT_QTY),
            AT_KEY("side", CW_SLOT_SIDE),
            AT_KEY("count", CW_SLOT_COUNT),
            AT_INDEX(0, CW_SLOT_NONE, 18, 2),
            AT_INDEX(0, CW_SLOT_NONE, 20, 2),
            AT_INDEX(0, CW_SLOT_ASK, 0, 0),
            AT_INDEX(1, CW_SLOT_ASK_QTY, 0, 0),
            AT_INDEX(0, CW_SLOT_BID, 0, 0),
            AT_INDEX(1, CW_SLOT_BID_QTY, 0, 0),
        },
    .node_count = 22,
    .messages =
        {
            {.tag = "bbo-tbt",
             .tag_len = 7,
             .record = CW_QUOTE,
             .kind = OKX_BBO,
             .required = OKX_QUOTE_SLOTS,
             .used = OKX_QUOTE_SLOTS | BIT_OF(CW_SLOT_ASK) | BIT_OF(CW_SLOT_ASK_QTY) |
                     BIT_OF(CW_SLOT_BID) | BIT_OF(CW_SLOT_BID_QTY) | BIT_OF(CW_SLOT_SEQ),
             .text = {[CW_SLOT_TAG] = CW_TEXT_STRING,
                      [CW_SLOT_SYMBOL] = CW_TEXT_STRING,
                      [CW_SLOT_ASKS] = CW_TEXT_ARRAY,
                      [CW_SLOT_BIDS] = CW_TEXT_ARRAY,
                      [CW_SLOT_ASK] = CW_TEXT_STRING,
                      [CW_SLOT_ASK_QTY] = CW_TEXT_STRING,
                      [CW_SLOT_BID] = CW_TEXT_STRING,
                      [CW_SLOT_BID_QTY] = CW_TEXT_STRING,
                      [CW_SLOT_TS_MS] = CW_TEXT_STRING,
                      [CW_SLOT_SEQ] = CW_TEXT_NUMBER}},
            {.tag = "trades",
             .tag_len = 6,
             .record = CW_TRADE,
             .kind = OKX_TRADES,
             .required = OKX_TRADE_SLOTS,
             .used = OKX_TRADE_SLOTS | BIT_OF(CW_SLOT_COUNT) | BIT_OF(CW_SLOT_SEQ),
             .text = {[CW_SLOT_TAG] = CW_TEXT_STRING,
                      [CW_SLOT_SYMBOL] = CW_TEXT_STRING,
                      [CW_SLOT_TRADE_ID] = CW_TEXT_STRING,
                      [CW_SLOT_PRICE] = CW_TEXT_STRING,
                      [CW_SLOT_QTY] = CW_TEXT_STRING,
                      [CW_SLOT_SIDE] = CW_TEXT_STRING,
                      [CW_SLOT_TS_MS] = CW_TEXT_STRING,
                      [CW_SLOT_COUNT] = CW_TEXT_STRING,
                      [CW_SLOT_SEQ] = CW_TEXT_NUMBER}},
            {.tag = "books",
             .tag_len = 5,
             .record = CW_COUNTED,
             .kind = OKX_BOOKS,
             .required = OKX_HEAD,
             .used = OKX_HEAD,
             .text = {[CW_SLOT_TAG] = CW_TEXT_STRING, [CW_SLOT_SYMBOL] = CW_TEXT_STRING}},
        },
    .message_count = 3,
    .each_node = 6,
    .word = "pong",
    .word_len = 4,
};

/* ---- symbols ---- */

#define SYMBOL_SLOTS 64

/* A table that knows these symbols by their positions; `texts` ends with NULL. */
typedef struct directory {
    cw_symbols symbols;
    cw_symbol slots[SYMBOL_SLOTS];
} directory;

static void directory_init(directory *self, const char *const *texts) {
    cw_symbols_init(&self->symbols, self->slots, SYMBOL_SLOTS);
    for (uint32_t i = 0; texts[i]; i++) {
        block b = block_of(texts[i], strlen(texts[i]));
        CHECK_EQ(cw_symbols_add(&self->symbols, b.text, (uint32_t)b.n, i), CW_OK);
        block_free(&b);
    }
}

static const char *const SPOT_SYMBOLS[] = {"BTCUSDT", "ETHUSDT", "X", "1000SATSFDUSD_PERPETUAL",
                                           NULL};
static const char *const OKX_SYMBOLS[] = {"BTC-USDT", "ETH-USDT", "X", "BTC-USD-SWAP-0123456789",
                                          NULL};

/* ---- levels ---- */

#define LEVELS 3

/* Tables of all levels that this processor has; returns how many. */
static uint32_t levels(const cw_ops *ops[LEVELS]) {
    uint32_t n = 0;
    for (int level = 0; level <= (int)cw_level_best(); level++)
        ops[n++] = cw_ops_for((cw_level)level);
    return n;
}

/* ---- signals ---- */

/* The oldest signal of a ring, which is read then; there must be one. */
static cw_signal take_signal(cw_ring *ring) {
    uint32_t count;
    cw_signal s = *cw_ring_peek(ring, &count);
    CHECK(count > 0);
    cw_ring_release(ring, 1);
    return s;
}

#endif
