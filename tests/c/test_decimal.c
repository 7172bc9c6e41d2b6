/* test_decimal.c — decimal text to the nearest double, against strtod of the C library. */
#include "crosswire/decimal.h"

#include <inttypes.h>
#include <math.h>

#include "fixture.h"

typedef struct read_result {
    int code;
    double value;
    uint32_t flags, at;
} read_result;

/* Read from a heap block of the exact size: not one byte outside may be read. */
static read_result read_plain(const char *text, size_t n) {
    read_result r = {-1, NAN, 99, 9999};
    uint8_t *p = malloc(n ? n : 1);
    if (n) memcpy(p, text, n);
    r.code = cw_decimal_read(p, n, &r.value, &r.flags, &r.at);
    free(p);
    return r;
}

/* All levels must say the same as cw_decimal_read, with lures in the guards. */
static void check_levels(const char *text, size_t n, const read_result *want) {
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    block b = block_of(text, n);
    for (uint32_t i = 0; i < count; i++) {
        read_result r = {-1, NAN, 99, 9999};
        r.code = ops[i]->decimal(b.text, n, &r.value, &r.flags, &r.at);
        check_note("level %s, text %.*s", ops[i]->name, (int)n, text);
        CHECK_EQ(r.code, want->code);
        if (r.code == CW_OK) {
            CHECK_DOUBLE(r.value, want->value);
            CHECK_EQ(r.flags, want->flags);
        } else {
            CHECK_EQ(r.at, want->at);
        }
    }
    block_free(&b);
}

/* Significant digits of a number's text: leading and trailing zeros stripped. */
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

static void check_number(const char *text) {
    size_t n = strlen(text);
    read_result r = read_plain(text, n);
    double want = strtod(text, NULL);
    check_note("text %s", text);
    CHECK_EQ(r.code, CW_OK);
    if (want == 0) {
        CHECK(r.value == 0);
    } else {
        CHECK_DOUBLE(r.value, want);
    }
    CHECK_EQ(r.flags, significant(text) > 15 ? CW_DECIMAL_INEXACT : 0);
    check_levels(text, n, &r);
}

static void check_refused(const char *text, int code, uint32_t at) {
    size_t n = strlen(text);
    read_result r = read_plain(text, n);
    check_note("text %s", text);
    CHECK_EQ(r.code, code);
    CHECK_EQ(r.at, at);
    check_levels(text, n, &r);
}

static void check_code(const char *text, size_t n, int code) {
    read_result r = read_plain(text, n);
    check_note("text %.*s", (int)n, text);
    CHECK_EQ(r.code, code);
    check_levels(text, n, &r);
}

/* ---- by hand ---- */

static void test_prices_of_venues(void) {
    static const char *const TEXTS[] = {
        "61837.63000000", "3.78826000", "0.02000000", "61800.30", "31774.7", "0.14368878", "0",
        "0.0", "0.00000000", "1", "9", "10", "0.1", "0.3", "0.00000001", "1234567890.12345",
        "99999999.99999999", "0.000000000000001", "123456789012345", "999999999999999",
        "00001.50", "0000000000000001", "00000000000000001", "000000.1", "100000000000000000000"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) check_number(TEXTS[i]);
}

static void test_exponents_and_signs(void) {
    static const char *const TEXTS[] = {
        "1e0",    "1E0",     "1e+5",  "1e-5",    "-1",       "-0.5",        "-61837.63",
        "1e99",   "1e-99",   "1E+22", "1e23",    "1e-22",    "1e-23",       "9007199254740992e22",
        "0e0",    "0e99",    "-1e-9", "1.5e3",   "12345e-2", "8.5e-7",      "1e00000000000000022",
        "123e-99", "0.000001e-99", "999999999999999e99", "1e05", "4.35e1", "1.7976931348623157e99"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) check_number(TEXTS[i]);
}

static void test_halves_between_two_doubles_go_to_the_even_one(void) {
    static const char *const TEXTS[] = {
        "9007199254740991", "9007199254740992", "9007199254740993", "9007199254740994",
        "9007199254740995", "9007199254740993.0", "9007199254740993.00000000000000000000000001",
        "9007199254740992.99999999999999999999999999", "9007199254740993e0",
        "900719925474099300000e-5", "90071992547409.93", "18014398509481986", "18014398509481990",
        "36028797018963972", "36028797018963964", "36028797018963972.0000000001",
        "36028797018963971.9999999999", "9223372036854776832", "9223372036854774784",
        "9223372036854775296", "9223372036854775297", "1152921504606847104",
        "1152921504606847232", "4611686018427388160", "4611686018427387648"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) check_number(TEXTS[i]);
    CHECK_DOUBLE(read_plain("9007199254740993", 16).value, 9007199254740992.0);
    CHECK_DOUBLE(read_plain("9007199254740995", 16).value, 9007199254740996.0);
    CHECK_DOUBLE(read_plain("9007199254740993.00000000000000000000000001", 43).value,
                 9007199254740994.0);
}

static void test_a_tenth_and_a_tiny_bit_more(void) {
    static const char *const TEXTS[] = {
        "0.1000000000000000055511151231257827021181583404541015625",
        "0.1000000000000000055511151231257827021181583404541015626",
        "0.10000000000000001249000902703301107976585626602172851562",
        "0.100000000000000012490009027033011079765856266021728515625",
        "0.100000000000000012490009027033011079765856266021728515626",
        "0.1000000000000000000000000000000000000000000000000000000000001",
        "0.3000000000000000444089209850062616169452667236328125",
        "2.2250738585072011e-90", "7.2057594037927933e16", "123456789.1234567891234567"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) check_number(TEXTS[i]);
}

static void test_carries_into_the_next_power_of_two(void) {
    static const char *const TEXTS[] = {
        "0.99999999999999999999999", "0.9999999999999999444888487687421760603063",
        "0.999999999999999944488848768742176060306327615036178208623623", "1.99999999999999999",
        "9007199254740991.5", "9007199254740991.49999999999999999", "18014398509481983",
        "4503599627370495.5", "4503599627370497.5", "4503599627370496.5", "9999999999999999",
        "999999999999999999999999999999999999999999999999999999999999e-40"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) check_number(TEXTS[i]);
}

static void test_inexact_begins_with_the_sixteenth_significant_digit(void) {
    CHECK_EQ(read_plain("123456789012345", 15).flags, 0);
    CHECK_EQ(read_plain("1234567890123456", 16).flags, CW_DECIMAL_INEXACT);
    CHECK_EQ(read_plain("1234567890123450", 16).flags, 0);
    CHECK_EQ(read_plain("000123456789.0123450000", 23).flags, 0);
    CHECK_EQ(read_plain("0.001234567890123456", 20).flags, CW_DECIMAL_INEXACT);
    CHECK_EQ(read_plain("100000000000000000000000000000", 30).flags, 0);
    CHECK_EQ(read_plain("0.000000000000000000000000000001", 32).flags, 0);
}

static void test_what_is_no_number_is_refused_where_it_goes_wrong(void) {
    check_refused("", CW_E_NUMBER_FORM, 0);
    check_refused("-", CW_E_NUMBER_FORM, 1);
    check_refused("+1", CW_E_NUMBER_FORM, 0);
    check_refused(".5", CW_E_NUMBER_FORM, 0);
    check_refused("-.5", CW_E_NUMBER_FORM, 1);
    check_refused("5.", CW_E_NUMBER_FORM, 2);
    check_refused("5.e3", CW_E_NUMBER_FORM, 2);
    check_refused("1.2.3", CW_E_NUMBER_FORM, 3);
    check_refused("1..2", CW_E_NUMBER_FORM, 2);
    check_refused("1e", CW_E_NUMBER_FORM, 2);
    check_refused("1e+", CW_E_NUMBER_FORM, 3);
    check_refused("1e5.0", CW_E_NUMBER_FORM, 3);
    check_refused("1e--5", CW_E_NUMBER_FORM, 3);
    check_refused("--1", CW_E_NUMBER_FORM, 1);
    check_refused(" 1", CW_E_NUMBER_FORM, 0);
    check_refused("1 ", CW_E_NUMBER_FORM, 1);
    check_refused("1,5", CW_E_NUMBER_FORM, 1);
    check_refused("1_000", CW_E_NUMBER_FORM, 1);
    check_refused("0x10", CW_E_NUMBER_FORM, 1);
    check_refused("1f", CW_E_NUMBER_FORM, 1);
    check_refused("NaN", CW_E_NUMBER_FORM, 0);
    check_refused("Infinity", CW_E_NUMBER_FORM, 0);
    check_refused("-inf", CW_E_NUMBER_FORM, 1);
    check_refused("\xD9\xA1", CW_E_NUMBER_FORM, 0);
    check_refused("12345678/0", CW_E_NUMBER_FORM, 8);
    check_refused("12345678:0", CW_E_NUMBER_FORM, 8);
    check_refused("1\xB1", CW_E_NUMBER_FORM, 1);
    check_code("1\0", 2, CW_E_NUMBER_FORM);
}

static void test_every_byte_value_at_every_place_is_judged_alike_by_all_levels(void) {
    static const char *const TEXTS[] = {"61837.63", "3735683259", "1234567890.12345",
                                        "1234567890123456", "123456789012.3456", "1.5e-7"};
    for (size_t t = 0; t < sizeof TEXTS / sizeof *TEXTS; t++)
        for (size_t at = 0; at < strlen(TEXTS[t]); at++)
            for (int c = 0; c < 256; c++) {
                char text[32];
                size_t n = strlen(TEXTS[t]);
                read_result r;
                memcpy(text, TEXTS[t], n);
                text[at] = (char)c;
                r = read_plain(text, n);
                check_levels(text, n, &r);
            }
}

static void test_text_of_64_bytes_is_read_and_of_65_is_too_long(void) {
    char text[70];
    memset(text, '7', sizeof text);
    text[64] = 0;
    check_number(text);
    text[20] = '.';
    check_number(text);
    text[64] = '7';
    text[20] = '7';
    check_code(text, 65, CW_E_NUMBER_LENGTH);
    check_code(text, 70, CW_E_NUMBER_LENGTH);
    memset(text, '0', sizeof text);
    check_code(text, 64, CW_OK);
    check_code(text, 65, CW_E_NUMBER_LENGTH);
}

static void test_exponent_above_99_is_out_of_range(void) {
    check_code("1e100", 5, CW_E_NUMBER_RANGE);
    check_code("1e-100", 6, CW_E_NUMBER_RANGE);
    check_code("0e100", 5, CW_E_NUMBER_RANGE);
    check_code("1e99999999999999999999", 22, CW_E_NUMBER_RANGE);
    check_code("1e-4294967297", 13, CW_E_NUMBER_RANGE);
}

/* ---- by dice ---- */

static size_t digits_into(dice *d, char *text, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) text[i] = (char)('0' + below(d, 10));
    if (below(d, 4) == 0)
        for (uint32_t i = below(d, count + 1); i < count; i++) text[i] = below(d, 2) ? '0' : '9';
    return count;
}

static void random_text(dice *d, char *text, uint32_t digits_max) {
    uint32_t count = 1 + below(d, digits_max), point = below(d, count);
    size_t n = 0;
    if (below(d, 16) == 0) text[n++] = '-';
    n += digits_into(d, text + n, count - point);
    if (point) {
        text[n++] = '.';
        n += digits_into(d, text + n, point);
    }
    text[n] = 0;
}

static void test_300000_random_texts_of_1_to_20_digits(void) {
    dice d = {2024};
    for (int turn = 0; turn < 300000; turn++) {
        char text[80];
        random_text(&d, text, turn % 2 ? 20 : 16);
        if (below(&d, 6) == 0)
            snprintf(text + strlen(text), 8, "%c%s%u", below(&d, 2) ? 'e' : 'E',
                     below(&d, 2) ? "-" : below(&d, 2) ? "+" : "", below(&d, 100));
        check_number(text);
    }
}

static void test_20000_random_texts_of_up_to_63_digits(void) {
    dice d = {64};
    for (int turn = 0; turn < 20000; turn++) {
        char text[80];
        do random_text(&d, text, 63);
        while (strlen(text) > 60);
        if (below(&d, 2))
            snprintf(text + strlen(text), 5, "e%s%u", below(&d, 2) ? "-" : "", below(&d, 100));
        if (strlen(text) <= CW_DECIMAL_TEXT_MAX) check_number(text);
    }
}

/* The text of a half between two doubles, then with its last digit up, down, and with more behind.
 * A long double of 64 bits holds the half exactly. */
static void check_half(double low) {
    long double half = ((long double)low + (long double)nextafter(low, INFINITY)) / 2;
    char text[200], other[210];
    size_t n;
    snprintf(text, sizeof text, "%.110Lf", half);
    n = strlen(text);
    while (n && text[n - 1] == '0') n--;
    if (text[n - 1] == '.') n--;
    text[n] = 0;
    if (n > 62) return;
    check_number(text);
    snprintf(other, sizeof other, "%s%s", text, strchr(text, '.') ? "1" : ".1");
    check_number(other);
    strcpy(other, text);
    if (other[n - 1] != '9') other[n - 1]++;
    check_number(other);
    strcpy(other, text);
    if (other[n - 1] != '0') other[n - 1]--;
    check_number(other);
}

static void test_halves_of_17_to_19_digits_and_their_neighbours(void) {
    dice d = {1719};
    for (int turn = 0; turn < 6000; turn++) {
        uint32_t bits = 53 + below(&d, 11);
        check_half((double)((1ull << bits) + (roll(&d) & ((1ull << bits) - 1))));
    }
}

static void test_halves_with_a_long_fraction_and_their_neighbours(void) {
    dice d = {53};
    for (int turn = 0; turn < 4000; turn++)
        check_half((double)(1 + (roll(&d) >> 12)) / (double)(1ull << (1 + below(&d, 52))));
}

/* ---- integers ---- */

static int read_whole(const char *text, uint64_t *value, uint32_t *at) {
    size_t n = strlen(text);
    uint8_t *p = malloc(n ? n : 1);
    int code;
    if (n) memcpy(p, text, n);
    *at = 9999;
    code = cw_integer_read(p, n, value, at);
    free(p);
    return code;
}

static void test_integers_of_1_to_20_digits(void) {
    static const char *const TEXTS[] = {"0", "7", "50093239212", "1723161256313", "00000000000012",
                                        "9999999999999999999", "18446744073709551615",
                                        "00000000000000000001", "10000000000000000000"};
    uint64_t value;
    uint32_t at;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        CHECK_EQ(read_whole(TEXTS[i], &value, &at), CW_OK);
        CHECK(value == strtoull(TEXTS[i], NULL, 10));
    }
}

static void test_integers_that_are_none_or_too_large(void) {
    uint64_t value;
    uint32_t at;
    CHECK_EQ(read_whole("", &value, &at), CW_E_NUMBER_FORM);
    CHECK_EQ(at, 0);
    CHECK_EQ(read_whole("-1", &value, &at), CW_E_NUMBER_FORM);
    CHECK_EQ(at, 0);
    CHECK_EQ(read_whole("+1", &value, &at), CW_E_NUMBER_FORM);
    CHECK_EQ(read_whole("12.0", &value, &at), CW_E_NUMBER_FORM);
    CHECK_EQ(at, 2);
    CHECK_EQ(read_whole("1e3", &value, &at), CW_E_NUMBER_FORM);
    CHECK_EQ(at, 1);
    CHECK_EQ(read_whole("12a", &value, &at), CW_E_NUMBER_FORM);
    CHECK_EQ(at, 2);
    CHECK_EQ(read_whole("18446744073709551616", &value, &at), CW_E_NUMBER_RANGE);
    CHECK_EQ(read_whole("18446744073709551620", &value, &at), CW_E_NUMBER_RANGE);
    CHECK_EQ(read_whole("99999999999999999999", &value, &at), CW_E_NUMBER_RANGE);
}

static void test_integer_of_21_digits_is_refused(void) {
    uint64_t value;
    uint32_t at;
    CHECK(read_whole("100000000000000000000", &value, &at) >= CW_E_FIRST);
    CHECK(read_whole("000000000000000000001", &value, &at) >= CW_E_FIRST);
}

int main(void) {
    RUN(test_prices_of_venues);
    RUN(test_exponents_and_signs);
    RUN(test_halves_between_two_doubles_go_to_the_even_one);
    RUN(test_a_tenth_and_a_tiny_bit_more);
    RUN(test_carries_into_the_next_power_of_two);
    RUN(test_inexact_begins_with_the_sixteenth_significant_digit);
    RUN(test_what_is_no_number_is_refused_where_it_goes_wrong);
    RUN(test_every_byte_value_at_every_place_is_judged_alike_by_all_levels);
    RUN(test_text_of_64_bytes_is_read_and_of_65_is_too_long);
    RUN(test_exponent_above_99_is_out_of_range);
    RUN(test_300000_random_texts_of_1_to_20_digits);
    RUN(test_20000_random_texts_of_up_to_63_digits);
    RUN(test_halves_of_17_to_19_digits_and_their_neighbours);
    RUN(test_halves_with_a_long_fraction_and_their_neighbours);
    RUN(test_integers_of_1_to_20_digits);
    RUN(test_integers_that_are_none_or_too_large);
    RUN(test_integer_of_21_digits_is_refused);
    return 0;
}
