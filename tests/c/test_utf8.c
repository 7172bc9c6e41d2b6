/* test_utf8.c — UTF-8 by RFC 3629, whole and cut in pieces. */
#include "fixture.h"

/* The reference: decode code points and judge them. Returns the offset of the first byte that
 * cannot stand there, or n; *is_whole is 0 when the text ends inside a character. */
static size_t judge(const uint8_t *p, size_t n, int *is_whole) {
    size_t i = 0;
    *is_whole = 1;
    while (i < n) {
        uint32_t need, min, value;
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        if (p[i] >= 0xC2 && p[i] <= 0xDF) need = 1, min = 0x80, value = p[i] & 0x1F;
        else if ((p[i] & 0xF0) == 0xE0) need = 2, min = 0x800, value = p[i] & 0x0F;
        else if (p[i] >= 0xF0 && p[i] <= 0xF4) need = 3, min = 0x10000, value = p[i] & 0x07;
        else return i;
        for (uint32_t k = 1; k <= need; k++) {
            uint32_t low, high, rest = 6 * (need - k);
            if (i + k == n) return *is_whole = 0, n;
            if ((p[i + k] & 0xC0) != 0x80) return i + k;
            value = value << 6 | (p[i + k] & 0x3F);
            low = value << rest;
            high = low | ((1u << rest) - 1);
            /* no character begins like this */
            if (high < min || low > 0x10FFFF || (low >= 0xD800 && high <= 0xDFFF)) return i + k;
        }
        i += need + 1;
    }
    return n;
}

/* Feed [p, p + n) in pieces that end at `a` and `b`; the verdict must be the reference's. */
static void check_cut(const uint8_t *p, size_t n, size_t a, size_t b) {
    size_t ends[3] = {a, b, n}, from = 0;
    int is_whole;
    size_t bad = judge(p, n, &is_whole);
    cw_utf8 u = {0, 0, 0};
    for (int k = 0; k < 3; k++) {
        size_t at = 12345, len = ends[k] - from;
        uint8_t *piece = malloc(len ? len : 1);
        int code;
        if (len) memcpy(piece, p + from, len);
        code = cw_utf8_feed(&u, piece, len, &at);
        free(piece);
        if (bad < ends[k]) {
            CHECK_EQ(code, CW_E_UTF8);
            CHECK_EQ(from + at, bad);
            return;
        }
        CHECK_EQ(code, CW_OK);
        from = ends[k];
    }
    CHECK_EQ(cw_utf8_is_whole(&u), is_whole);
}

static void check_text(const void *text, size_t n) {
    for (size_t a = 0; a <= n; a++)
        for (size_t b = a; b <= n; b++) check_cut(text, n, a, b);
}

static void check_bad_at(const char *text, size_t n, size_t at) {
    int is_whole;
    CHECK_EQ(judge((const uint8_t *)text, n, &is_whole), at);
    check_text(text, n);
}
#define BAD_AT(text, at) check_bad_at(text, sizeof text - 1, at)

static void check_good(const char *text, size_t n) {
    int is_whole;
    CHECK_EQ(judge((const uint8_t *)text, n, &is_whole), n);
    CHECK_EQ(is_whole, 1);
    check_text(text, n);
}
#define GOOD(text) check_good(text, sizeof text - 1)

static void test_empty_text_and_ascii_with_zeros_are_whole(void) {
    GOOD("");
    GOOD("a");
    GOOD("0123456789abcdef0123456789abcdef!");
    GOOD("a\0b\x7F");
}

static void test_first_and_last_character_of_every_length_is_accepted(void) {
    GOOD("\xC2\x80");
    GOOD("\xDF\xBF");
    GOOD("\xE0\xA0\x80");
    GOOD("\xEF\xBF\xBF");
    GOOD("\xF0\x90\x80\x80");
    GOOD("\xF4\x8F\xBF\xBF");
    GOOD("\xED\x9F\xBF\xEE\x80\x80");
    GOOD("\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5");
}

static void test_overlong_forms_are_refused_where_they_become_so(void) {
    BAD_AT("\xC0\x80", 0);
    BAD_AT("\xC1\xBF", 0);
    BAD_AT("\xE0\x80\x80", 1);
    BAD_AT("\xE0\x9F\xBF", 1);
    BAD_AT("\xF0\x80\x80\x80", 1);
    BAD_AT("\xF0\x8F\xBF\xBF", 1);
}

static void test_surrogates_are_refused(void) {
    BAD_AT("\xED\xA0\x80", 1);
    BAD_AT("\xED\xBF\xBF", 1);
    BAD_AT("a\xED\xAD\xBF\xED\xB0\x80", 2);
}

static void test_above_10ffff_is_refused(void) {
    BAD_AT("\xF4\x90\x80\x80", 1);
    BAD_AT("\xF5\x80\x80\x80", 0);
    BAD_AT("\xF8\x88\x80\x80\x80", 0);
    BAD_AT("\xFF", 0);
    BAD_AT("\xFE", 0);
}

static void test_stray_and_missing_continuations_are_refused(void) {
    BAD_AT("\x80", 0);
    BAD_AT("abc\xBF", 3);
    BAD_AT("\xC2" "a", 1);
    BAD_AT("\xE2\x82" "a", 2);
    BAD_AT("\xF0\x9F\x98" "a", 3);
    BAD_AT("\xC2\xC2\x80", 1);
}

static void test_text_that_ends_inside_a_character_is_not_whole(void) {
    static const char *CUT[] = {"\xC2", "\xE2", "\xE2\x82", "\xF0", "\xF0\x9F", "\xF0\x9F\x98"};
    for (size_t i = 0; i < sizeof CUT / sizeof *CUT; i++) {
        cw_utf8 u = {0, 0, 0};
        size_t at;
        CHECK_EQ(cw_utf8_feed(&u, (const uint8_t *)CUT[i], strlen(CUT[i]), &at), CW_OK);
        CHECK_EQ(cw_utf8_is_whole(&u), 0);
    }
}

static void test_every_sequence_of_three_bytes_is_judged_as_the_reference_does(void) {
    for (uint32_t word = 0; word < 1u << 24; word++) {
        uint8_t p[3] = {(uint8_t)(word >> 16), (uint8_t)(word >> 8), (uint8_t)word};
        cw_utf8 u = {0, 0, 0};
        int is_whole;
        size_t at = 0, bad = judge(p, 3, &is_whole);
        int code = cw_utf8_feed(&u, p, 3, &at);
        if (code != (bad < 3 ? CW_E_UTF8 : CW_OK) || (bad < 3 && at != bad) ||
            (bad == 3 && cw_utf8_is_whole(&u) != is_whole)) {
            check_note("bytes %02x %02x %02x", p[0], p[1], p[2]);
            CHECK(!"the reference agrees");
        }
    }
}

static void test_every_four_byte_character_is_judged_as_the_reference_does(void) {
    for (uint32_t word = 0; word < 1u << 20; word++) {
        uint8_t p[4] = {0xF0 | (uint8_t)(word >> 17 & 7), (uint8_t)(word >> 9),
                        0x80 | (uint8_t)(word >> 3 & 0x3F), 0x80 | (uint8_t)(word & 7)};
        check_note("bytes %02x %02x %02x %02x", p[0], p[1], p[2], p[3]);
        check_cut(p, 4, word & 3, 4);
    }
}

static void test_a_bad_byte_is_found_at_every_place_in_a_long_text(void) {
    uint8_t p[80];
    for (size_t at = 0; at < sizeof p; at++)
        for (size_t cut = 0; cut <= sizeof p; cut += 7) {
            memset(p, 'x', sizeof p);
            p[at] = 0xFF;
            check_cut(p, sizeof p, cut, sizeof p);
        }
}

static void test_random_texts_of_characters_and_noise(void) {
    static const char *const PIECES[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
                                         "0123456789abcdef", "\x80", "\xF0\x9F", "\xED\xA0",
                                         "\xEF\xBF\xBD", "\xE0\xA0"};
    dice d = {7};
    for (int turn = 0; turn < 100000; turn++) {
        uint8_t p[160];
        size_t n = 0, count = below(&d, 9), a, b;
        for (size_t i = 0; i < count; i++) {
            const char *piece = PIECES[below(&d, turn % 3 ? 5 : 10)];
            memcpy(p + n, piece, strlen(piece));
            n += strlen(piece);
        }
        if (n && below(&d, 8) == 0) p[below(&d, (uint32_t)n)] = (uint8_t)roll(&d);
        a = below(&d, (uint32_t)n + 1);
        b = a + below(&d, (uint32_t)(n - a) + 1);
        check_note("turn %d", turn);
        check_cut(p, n, a, b);
    }
}

/* ---- whole characters by vectors, at every level ---- */

/* utf8_prefix stops at a character, before any fault, and not far from it; feeding on from there
 * gives the reference's verdict. The text is in a heap block of its size. */
static void check_prefix(const uint8_t *text, size_t n) {
    int is_whole;
    size_t bad = judge(text, n, &is_whole);
    uint8_t *p = malloc(n ? n : 1);
    if (n) memcpy(p, text, n);
    for (int level = 0; level <= (int)cw_level_best(); level++) {
        cw_utf8 rest = {0, 0, 0};
        size_t at = 0, whole = cw_ops_for((cw_level)level)->utf8_prefix(p, n);
        int code;
        CHECK(whole <= bad);
        if (level >= CW_LEVEL_AVX2) CHECK(whole + 36 > bad);
        code = cw_utf8_feed(&rest, p + whole, n - whole, &at);
        CHECK_EQ(code, bad < n ? CW_E_UTF8 : CW_OK);
        if (bad < n) CHECK_EQ(whole + at, bad);
        else CHECK_EQ(cw_utf8_is_whole(&rest), is_whole);
    }
    free(p);
}

static const char *const CHARACTERS[] = {"a", "\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80",
                                         "\xED\x9F\xBF", "\xEF\xBF\xBF", "\xF0\x90\x80\x80",
                                         "\xF4\x8F\xBF\xBF"};

static size_t put_characters(dice *d, uint8_t *p, size_t room, uint32_t kinds) {
    size_t n = 0;
    while (room - n >= 4) {
        const char *character = CHARACTERS[below(d, kinds)];
        memcpy(p + n, character, strlen(character));
        n += strlen(character);
    }
    return n;
}

static void test_vectors_judge_every_byte_at_every_place_as_the_reference_does(void) {
    dice d = {7};
    uint8_t text[132];
    for (int turn = 0; turn < 6; turn++) {
        size_t n = put_characters(&d, text, sizeof text, turn % 2 ? 9 : 3);
        for (size_t at = 0; at < n; at++) {
            uint8_t was = text[at];
            for (int byte = 0; byte < 256; byte++) {
                text[at] = (uint8_t)byte;
                check_prefix(text, n);
            }
            text[at] = was;
        }
    }
}

static void test_vectors_judge_every_pair_across_the_edge_of_a_vector(void) {
    uint8_t text[96];
    for (int first = 0; first < 256; first++)
        for (int second = 0; second < 256; second++)
            for (size_t at = 29; at < 34; at++) {
                memset(text, 'x', sizeof text);
                text[at] = (uint8_t)first;
                text[at + 1] = (uint8_t)second;
                text[at + 2] = 0x80;
                text[at + 3] = 0xBF;
                check_prefix(text, 64 + at % 3);
            }
}

static void test_vectors_stop_at_a_character_however_long_the_text_is(void) {
    dice d = {8};
    uint8_t text[200];
    for (int turn = 0; turn < 400; turn++) {
        size_t n = put_characters(&d, text, sizeof text, turn % 2 ? 9 : 2);
        for (size_t cut = 0; cut <= n; cut++) check_prefix(text, cut);
    }
}

int main(void) {
    RUN(test_empty_text_and_ascii_with_zeros_are_whole);
    RUN(test_first_and_last_character_of_every_length_is_accepted);
    RUN(test_overlong_forms_are_refused_where_they_become_so);
    RUN(test_surrogates_are_refused);
    RUN(test_above_10ffff_is_refused);
    RUN(test_stray_and_missing_continuations_are_refused);
    RUN(test_text_that_ends_inside_a_character_is_not_whole);
    RUN(test_every_sequence_of_three_bytes_is_judged_as_the_reference_does);
    RUN(test_every_four_byte_character_is_judged_as_the_reference_does);
    RUN(test_a_bad_byte_is_found_at_every_place_in_a_long_text);
    RUN(test_random_texts_of_characters_and_noise);
    RUN(test_vectors_judge_every_byte_at_every_place_as_the_reference_does);
    RUN(test_vectors_judge_every_pair_across_the_edge_of_a_vector);
    RUN(test_vectors_stop_at_a_character_however_long_the_text_is);
    return 0;
}
