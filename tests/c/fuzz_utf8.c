/* fuzz_utf8.c — UTF-8 validation, whole and in pieces, against a decoder of code points. */
#include "fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Offset of the first byte that cannot stand there, or n; *is_whole as cw_utf8_is_whole. */
static size_t judge(const uint8_t *p, size_t n, int *is_whole) {
    size_t i = 0;
    *is_whole = 1;
    while (i < n) {
        static const uint32_t MIN[] = {0, 0x80, 0x800, 0x10000};
        uint32_t need = p[i] < 0x80 ? 0 : p[i] >> 5 == 6 ? 1 : p[i] >> 4 == 14 ? 2 : 9;
        if (p[i] >> 3 == 30) need = 3;
        uint32_t value = need == 9 ? 0 : p[i] & (0x7Fu >> (need ? need + 1 : 0));
        if (need == 9) return i;
        for (uint32_t k = 0; k <= need; k++) {
            uint32_t rest = 6 * (need - k), low, high;
            if (k) {
                if (i + k == n) return *is_whole = 0, n;
                if (p[i + k] >> 6 != 2) return i + k;
                value = value << 6 | (p[i + k] & 0x3F);
            }
            low = value << rest;
            high = low | ((1u << rest) - 1);
            if (high < MIN[need] || low > 0x10FFFF || (low >= 0xD800 && high <= 0xDFFF))
                return i + k;
        }
        i += need + 1;
    }
    return n;
}

static int code_of(size_t bad, size_t size) { return bad < size ? CW_E_UTF8 : CW_OK; }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    dice d = {size};
    int is_whole;
    size_t bad = judge(data, size, &is_whole), ascii = 0, from = 0;
    cw_utf8 u = {0, 0, 0}, pieces = {0, 0, 0};
    size_t at = 0;
    int code = cw_utf8_feed(&u, data, size, &at);
    CHECK_EQ(code, code_of(bad, size));
    if (bad < size) CHECK_EQ(at, bad);
    else CHECK_EQ(cw_utf8_is_whole(&u), is_whole);
    for (size_t i = 0; i < size && i < 8; i++) d.state = d.state * 31 + data[i];
    while (from < size) {
        size_t n = 1 + below(&d, size - from > 40 ? 40 : (uint32_t)(size - from));
        code = cw_utf8_feed(&pieces, data + from, n, &at);
        CHECK_EQ(code, bad < from + n ? CW_E_UTF8 : CW_OK);
        if (code != CW_OK) {
            CHECK_EQ(from + at, bad);
            break;
        }
        from += n;
    }
    while (ascii < size && data[ascii] < 0x80) ascii++;
    for (uint32_t i = 0; i < count; i++) {
        size_t whole = ops[i]->utf8_prefix(data, size);
        cw_utf8 rest = {0, 0, 0};
        CHECK_EQ(ops[i]->ascii_prefix(data, size), ascii);
        CHECK(whole <= bad);
        CHECK_EQ(cw_utf8_feed(&rest, data + whole, size - whole, &at), code_of(bad, size));
        if (bad < size) CHECK_EQ(whole + at, bad);
        else CHECK_EQ(cw_utf8_is_whole(&rest), is_whole);
    }
    return 0;
}
