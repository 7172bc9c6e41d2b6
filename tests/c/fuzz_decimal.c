/* fuzz_decimal.c — every line of the input as decimal text and as an integer: the grammar of
 * decimal.h written out again, strtod, and all levels must agree. */
#include "crosswire/decimal.h"

#include "fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t digits(const char *p) { return strspn(p, "0123456789"); }

/* CW_OK or the kind of refusal, by the grammar; `text` ends with 0 and holds no other. */
static int judge(const char *text) {
    const char *p = text + (*text == '-');
    unsigned long exponent = 0;
    if (!digits(p)) return CW_E_NUMBER_FORM;
    p += digits(p);
    if (*p == '.') {
        if (!digits(p + 1)) return CW_E_NUMBER_FORM;
        p += 1 + digits(p + 1);
    }
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        if (!digits(p)) return CW_E_NUMBER_FORM;
        exponent = strtoul(p, NULL, 10);
        p += digits(p);
    }
    if (*p) return CW_E_NUMBER_FORM;
    return exponent > CW_DECIMAL_EXPONENT_MAX ? CW_E_NUMBER_RANGE : CW_OK;
}

static uint32_t significant(const char *text) {
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
    return count;
}

static void check_decimal(const char *text, size_t n) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops), flags = 99, at = 9999;
    int want = n > CW_DECIMAL_TEXT_MAX ? CW_E_NUMBER_LENGTH : judge(text), code;
    double value = -1, expected;
    uint8_t *exact = malloc(n ? n : 1);
    block b = block_of(text, n);
    if (n) memcpy(exact, text, n);
    code = cw_decimal_read(exact, n, &value, &flags, &at);
    free(exact);
    check_note("text %s", text);
    /* where both an exponent is too large and something follows it, either may be said */
    if (want == CW_E_NUMBER_FORM && code == CW_E_NUMBER_RANGE) want = code;
    CHECK_EQ(code, want);
    if (code == CW_OK) {
        expected = strtod(text, NULL);
        if (expected == 0) CHECK(value == 0);
        else CHECK_DOUBLE(value, expected);
        CHECK_EQ(flags, significant(text) > 15 ? CW_DECIMAL_INEXACT : 0);
    } else {
        CHECK(at <= n);
    }
    for (uint32_t i = 0; i < count; i++) {
        double level_value = -1;
        uint32_t level_flags = 99, level_at = 9999;
        CHECK_EQ(ops[i]->decimal(b.text, n, &level_value, &level_flags, &level_at), code);
        if (code == CW_OK) {
            CHECK_DOUBLE(level_value, value);
            CHECK_EQ(level_flags, flags);
        } else {
            CHECK_EQ(level_at, at);
        }
    }
    block_free(&b);
}

static void check_integer(const char *text, size_t n) {
    uint64_t value = 0;
    uint32_t at = 9999;
    uint8_t *exact = malloc(n ? n : 1);
    int code;
    if (n) memcpy(exact, text, n);
    code = cw_integer_read(exact, n, &value, &at);
    free(exact);
    check_note("integer %s", text);
    if (n == 0 || digits(text) != n) {
        CHECK(code >= CW_E_FIRST);
    } else if (n <= 20) {
        unsigned __int128 wide = 0;
        for (size_t i = 0; i < n; i++) wide = 10 * wide + (unsigned)(text[i] - '0');
        CHECK_EQ(code, wide > UINT64_MAX ? CW_E_NUMBER_RANGE : CW_OK);
        if (code == CW_OK) CHECK(value == (uint64_t)wide);
    }
    if (code != CW_OK) CHECK(at <= n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[128];
    size_t n = 0;
    for (size_t i = 0; i <= size; i++) {
        if (i < size && data[i] != '\n') {
            if (n + 1 < sizeof text && data[i]) text[n++] = (char)data[i];
            continue;
        }
        text[n] = 0;
        check_decimal(text, n);
        check_integer(text, n);
        n = 0;
    }
    return 0;
}
