/* messages.h — random messages in the shapes of two venues, with the records they must become. */
#ifndef CROSSWIRE_TESTS_MESSAGES_H
#define CROSSWIRE_TESTS_MESSAGES_H

#include "fixture.h"

/* How freely a message may differ from the venue's own spelling. */
#define FREE_ORDER 1u
#define FREE_SPACES 2u
#define FREE_KEYS 4u  /* unknown keys with any values */
#define FREE_VALUES 8u /* odd but lawful numbers */

typedef struct member {
    const char *key;
    char value[160];
} member;

static const char *const STRANGERS[] = {
    "\"zz\":1", "\"U\":-0.5e+3", "\"x1\":null", "\"y\":[1,{\"b\":\"9\"},[]]", "\"Q\":\"\"",
    "\"st\":\"a\\\"b\\\\\"", "\"w\":{\"s\":\"NO\",\"u\":5,\"k\":{\"b\":[\"1\"]}}", "\"f\":false",
    "\"\":true", "\"\\u0079z\":7", "\"long key with spaces and : , { } signs\":\"]\"",
    "\"uu\":\"\xE2\x82\xAC\"", "\"n\":123456789012345678901234567890", "\"z\":{}"};

static void put_space(bytes *out, dice *d, uint32_t freedom) {
    static const char *const SPACES[] = {"", "", " ", "\n", "\t", "\r\n  "};
    if (freedom & FREE_SPACES) put_text(out, SPACES[below(d, 6)]);
}

static void put_stranger(bytes *out, dice *d, uint32_t freedom, int is_first) {
    if (!(freedom & FREE_KEYS) || below(d, 6)) return;
    if (!is_first) put_text(out, ",");
    put_space(out, d, freedom);
    put_text(out, STRANGERS[below(d, sizeof STRANGERS / sizeof *STRANGERS)]);
    if (is_first) put_text(out, ",");
}

static void put_object(bytes *out, dice *d, uint32_t freedom, member *members, uint32_t count) {
    for (uint32_t i = count - 1; freedom & FREE_ORDER && i; i--) {
        uint32_t k = below(d, i + 1);
        member swapped = members[i];
        members[i] = members[k];
        members[k] = swapped;
    }
    put_text(out, "{");
    put_stranger(out, d, freedom, 1);
    for (uint32_t i = 0; i < count; i++) {
        if (i) put_text(out, ",");
        put_space(out, d, freedom);
        put_format(out, "\"%s\"", members[i].key);
        put_space(out, d, freedom);
        put_text(out, ":");
        put_space(out, d, freedom);
        put_text(out, members[i].value);
        put_space(out, d, freedom);
        put_stranger(out, d, freedom, 0);
    }
    put_text(out, "}");
    put_space(out, d, freedom);
}

static void make_number(char *text, size_t size, dice *d, uint32_t freedom) {
    static const char *const ODD[] = {"0", "0.00000000", "1e3", "12345678901234567.5", "0.1e-7",
                                      "00012.50", "1234567890123456", "99999999999999999999",
                                      "5E+2", "123456789.123456"};
    if (freedom & FREE_VALUES && below(d, 6) == 0)
        snprintf(text, size, "%s", ODD[below(d, 10)]);
    else
        snprintf(text, size, "%u.%0*u", 1 + below(d, 99999), 1 + (int)below(d, 8), below(d, 10));
}

static void make_whole(char *text, size_t size, dice *d, uint32_t freedom) {
    if (freedom & FREE_VALUES && below(d, 6) == 0)
        snprintf(text, size, "%llu", (unsigned long long)roll(d));
    else
        snprintf(text, size, "%llu", (unsigned long long)(50093239212u + below(d, 1u << 30)));
}

static uint16_t is_inexact(const char *text) {
    uint32_t count = 0, zeros = 0;
    for (; *text && *text != 'e' && *text != 'E'; text++) {
        if (*text < '0' || *text > '9') continue;
        if (*text == '0') {
            zeros += count != 0;
            continue;
        }
        count += zeros + 1;
        zeros = 0;
    }
    return count > 15 ? CW_FLAG_INEXACT : 0;
}

static uint16_t sides_of(const cw_quote *q) {
    return q->bid > 0 && q->bid_qty > 0 && q->ask > 0 && q->ask_qty > 0 ? 0 : CW_FLAG_ONE_SIDED;
}

static void quote_text(member *m, const char *key, const char *text) {
    m->key = key;
    snprintf(m->value, sizeof m->value, "\"%s\"", text);
}

static void plain_value(member *m, const char *key, const char *text) {
    m->key = key;
    snprintf(m->value, sizeof m->value, "%s", text);
}

/* Wrap what was put since `from` in the envelope of a combined stream. */
static void put_enveloped(bytes *out, dice *d, uint32_t freedom, member *members,
                          uint32_t count) {
    if (below(d, 2)) {
        put_object(out, d, freedom, members, count);
        return;
    }
    put_space(out, d, freedom);
    put_format(out, "{\"stream\":\"btcusdt@bookTicker\",\"data\":");
    put_object(out, d, freedom, members, count);
    put_text(out, "}");
}

/* A quote of SPOT; returns the record that it must become. */
static cw_quote make_spot_quote(bytes *out, dice *d, uint32_t freedom, uint16_t venue) {
    char texts[4][64], seq[32];
    uint32_t instrument = below(d, 4);
    member m[6];
    cw_quote q = {.instrument = instrument, .venue = venue};
    for (int i = 0; i < 4; i++) {
        make_number(texts[i], sizeof texts[i], d, freedom);
        q.flags |= is_inexact(texts[i]);
    }
    make_whole(seq, sizeof seq, d, freedom);
    q.seq = strtoull(seq, NULL, 10);
    q.bid = strtod(texts[0], NULL);
    q.bid_qty = strtod(texts[1], NULL);
    q.ask = strtod(texts[2], NULL);
    q.ask_qty = strtod(texts[3], NULL);
    q.flags |= sides_of(&q);
    plain_value(&m[0], "u", seq);
    quote_text(&m[1], "s", SPOT_SYMBOLS[instrument]);
    quote_text(&m[2], "b", texts[0]);
    quote_text(&m[3], "B", texts[1]);
    quote_text(&m[4], "a", texts[2]);
    quote_text(&m[5], "A", texts[3]);
    put_enveloped(out, d, freedom, m, 6);
    return q;
}

/* A trade of SPOT; returns the record that it must become. */
static cw_trade make_spot_trade(bytes *out, dice *d, uint32_t freedom, uint16_t venue) {
    char price[64], qty[64], id[32], ts[32];
    uint32_t instrument = below(d, 4), count = 7;
    int is_maker = (int)below(d, 2);
    member m[9];
    cw_trade t = {.instrument = instrument, .venue = venue, .count = 1};
    make_number(price, sizeof price, d, freedom);
    make_number(qty, sizeof qty, d, freedom);
    make_whole(id, sizeof id, d, freedom);
    snprintf(ts, sizeof ts, "17231612%05u", below(d, 100000));
    t.price = strtod(price, NULL);
    t.qty = strtod(qty, NULL);
    t.flags = is_inexact(price) | is_inexact(qty);
    t.trade_id = strtoull(id, NULL, 10);
    t.ts_exch = (int64_t)strtoll(ts, NULL, 10) * 1000000;
    t.side = is_maker ? -1 : 1;
    plain_value(&m[0], "e", "\"trade\"");
    quote_text(&m[1], "s", SPOT_SYMBOLS[instrument]);
    plain_value(&m[2], "t", id);
    quote_text(&m[3], "p", price);
    quote_text(&m[4], "q", qty);
    plain_value(&m[5], "T", ts);
    plain_value(&m[6], "m", is_maker ? "true" : "false");
    if (below(d, 2)) plain_value(&m[count++], "M", "true");
    if (below(d, 4) == 0) {
        t.kind = (uint8_t)below(d, 2);
        plain_value(&m[count++], "X", t.kind ? "\"INSURANCE_FUND\"" : "\"MARKET\"");
    }
    put_enveloped(out, d, freedom, m, count);
    return t;
}

static void put_okx(bytes *out, dice *d, uint32_t freedom, const char *channel,
                    uint32_t instrument, const bytes *elements) {
    member arg[2];
    int is_first = !(freedom & FREE_ORDER) || below(d, 2);
    bytes head = {0};
    quote_text(&arg[0], "channel", channel);
    quote_text(&arg[1], "instId", OKX_SYMBOLS[instrument]);
    put_text(&head, "\"arg\":");
    put_object(&head, d, freedom, arg, 2);
    put_text(out, "{");
    if (is_first) put(out, head.p, head.n), put_text(out, ",");
    put_space(out, d, freedom);
    put_text(out, "\"data\":[");
    put_space(out, d, freedom);
    put(out, elements->p, elements->n);
    put_text(out, "]");
    if (!is_first) put_text(out, ","), put(out, head.p, head.n);
    put_text(out, "}");
    bytes_free(&head);
}

static void level_text(member *m, const char *key, dice *d, uint32_t freedom, double *price,
                       double *qty, uint16_t *flags) {
    char p[64], q[64];
    m->key = key;
    *price = *qty = 0;
    if (below(d, 10) == 0) {
        snprintf(m->value, sizeof m->value, "[]");
        return;
    }
    make_number(p, sizeof p, d, freedom);
    make_number(q, sizeof q, d, freedom);
    *price = strtod(p, NULL);
    *qty = strtod(q, NULL);
    *flags |= is_inexact(p) | is_inexact(q);
    snprintf(m->value, sizeof m->value, "[[\"%s\",\"%s\",\"0\",\"%u\"]]", p, q, below(d, 20));
}

/* A quote of OKX of one to three elements; returns the record of the first. */
static cw_quote make_okx_quote(bytes *out, dice *d, uint32_t freedom, uint16_t venue) {
    uint32_t instrument = below(d, 4), elements = below(d, 8) ? 1 : 1 + below(d, 3);
    cw_quote first = {0};
    bytes body = {0};
    for (uint32_t i = 0; i < elements; i++) {
        cw_quote q = {.instrument = instrument, .venue = venue};
        char ts[32], seq[32];
        member m[4];
        level_text(&m[0], "asks", d, freedom, &q.ask, &q.ask_qty, &q.flags);
        level_text(&m[1], "bids", d, freedom, &q.bid, &q.bid_qty, &q.flags);
        snprintf(ts, sizeof ts, "16540329%05u", below(d, 100000));
        make_whole(seq, sizeof seq, d, freedom);
        quote_text(&m[2], "ts", ts);
        plain_value(&m[3], "seqId", seq);
        q.flags |= sides_of(&q);
        q.ts_exch = (int64_t)strtoll(ts, NULL, 10) * 1000000;
        q.seq = strtoull(seq, NULL, 10);
        if (i) put_text(&body, ",");
        put_object(&body, d, freedom, m, 4);
        if (i == 0) first = q;
    }
    put_okx(out, d, freedom, "bbo-tbt", instrument, &body);
    bytes_free(&body);
    return first;
}

/* A trades message of OKX of one to three elements; returns the record of the first. */
static cw_trade make_okx_trade(bytes *out, dice *d, uint32_t freedom, uint16_t venue) {
    static const char *const SIDES[] = {"buy", "sell", "BUY", "Sell"};
    uint32_t instrument = below(d, 4), elements = below(d, 4) ? 1 : 1 + below(d, 3);
    cw_trade first = {0};
    bytes body = {0};
    for (uint32_t i = 0; i < elements; i++) {
        cw_trade t = {.instrument = instrument, .venue = venue, .count = 1};
        char price[64], qty[64], id[32], ts[32], count_text[16];
        uint32_t side = below(d, freedom & FREE_VALUES ? 4 : 2), count = 5;
        member m[8];
        make_number(price, sizeof price, d, freedom);
        make_number(qty, sizeof qty, d, freedom);
        make_whole(id, sizeof id, d, freedom);
        snprintf(ts, sizeof ts, "17865387%05u", below(d, 100000));
        t.price = strtod(price, NULL);
        t.qty = strtod(qty, NULL);
        t.flags = is_inexact(price) | is_inexact(qty);
        t.trade_id = strtoull(id, NULL, 10);
        t.ts_exch = (int64_t)strtoll(ts, NULL, 10) * 1000000;
        t.side = side % 2 ? -1 : 1;
        quote_text(&m[0], "tradeId", id);
        quote_text(&m[1], "px", price);
        quote_text(&m[2], "sz", qty);
        quote_text(&m[3], "side", SIDES[side]);
        quote_text(&m[4], "ts", ts);
        if (below(d, 4)) {
            t.count = below(d, 500);
            snprintf(count_text, sizeof count_text, "%u", t.count);
            quote_text(&m[count++], "count", count_text);
        }
        if (below(d, 4)) {
            make_whole(id, sizeof id, d, freedom);
            t.seq = strtoull(id, NULL, 10);
            plain_value(&m[count++], "seqId", id);
        }
        plain_value(&m[count++], "source", "\"0\"");
        if (i) put_text(&body, ",");
        put_object(&body, d, freedom, m, count);
        if (i == 0) first = t;
    }
    put_okx(out, d, freedom, "trades", instrument, &body);
    bytes_free(&body);
    return first;
}

#endif
