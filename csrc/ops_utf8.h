/* ops_utf8.h — whole characters of UTF-8, a vector at a time; compiled once per level.
 *
 * Each byte is judged with the one before it by three table look-ups, whose AND has a bit for every
 * way in which the pair is wrong; third and fourth bytes by the ones two and three before (J. Keiser
 * and D. Lemire, "Validating UTF-8 In Less Than One Instruction Per Byte", 2020). */
#include "crosswire/utf8.h"

#if CW_WIDTH >= 32

enum {
    TOO_SHORT = 1 << 0,     /* 11______ 0_______, 11______ 11______ */
    TOO_LONG = 1 << 1,      /* 0_______ 10______ */
    OVERLONG_3 = 1 << 2,    /* 11100000 100_____ */
    TOO_LARGE = 1 << 3,     /* 11110100 1001____, and whatever is above */
    SURROGATE = 1 << 4,     /* 11101101 101_____ */
    OVERLONG_2 = 1 << 5,    /* 1100000_ 10______ */
    LARGE_OR_LONG = 1 << 6, /* 11110101 1000____ and above; 11110000 1000____ */
    TWO_CONTS = 1 << 7,     /* 10______ 10______: right only where two bytes before say so */
    ANY_LOW = TOO_SHORT | TOO_LONG | TWO_CONTS /* that do not look at the low half */
};

#define ROW(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))

/* The halves of each byte's value, as indices. */
static inline __m256i high_half(__m256i v) {
    return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}

/* The bytes k before those of `v`; `before` is the vector before it. */
#define BEFORE(before, v, k) \
    _mm256_alignr_epi8(v, _mm256_permute2x128_si256(before, v, 0x21), 16 - (k))

/* A vector that is all zero where every byte of `v` may follow what is before it. */
static inline __m256i faults(__m256i before, __m256i v) {
    const char HUGE = (char)(ANY_LOW | TOO_LARGE | LARGE_OR_LONG);
    const char MID = (char)(TOO_LONG | OVERLONG_2 | TWO_CONTS | SURROGATE | TOO_LARGE);
    __m256i one = BEFORE(before, v, 1);
    __m256i first_high = _mm256_shuffle_epi8(
        ROW(TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG, TOO_LONG,
            (char)TWO_CONTS, (char)TWO_CONTS, (char)TWO_CONTS, (char)TWO_CONTS,
            TOO_SHORT | OVERLONG_2, TOO_SHORT, TOO_SHORT | OVERLONG_3 | SURROGATE,
            TOO_SHORT | TOO_LARGE | LARGE_OR_LONG),
        high_half(one));
    __m256i first_low = _mm256_shuffle_epi8(
        ROW((char)(ANY_LOW | OVERLONG_3 | OVERLONG_2 | LARGE_OR_LONG),
            (char)(ANY_LOW | OVERLONG_2), (char)ANY_LOW, (char)ANY_LOW,
            (char)(ANY_LOW | TOO_LARGE), HUGE, HUGE, HUGE, HUGE, HUGE, HUGE, HUGE, HUGE,
            (char)(HUGE | SURROGATE), HUGE, HUGE),
        _mm256_and_si256(one, _mm256_set1_epi8(15)));
    __m256i second_high = _mm256_shuffle_epi8(
        ROW(TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT,
            TOO_SHORT,
            (char)(TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | LARGE_OR_LONG),
            (char)(TOO_LONG | OVERLONG_2 | TWO_CONTS | OVERLONG_3 | TOO_LARGE), MID, MID,
            TOO_SHORT, TOO_SHORT, TOO_SHORT, TOO_SHORT),
        high_half(v));
    __m256i pairs = _mm256_and_si256(_mm256_and_si256(first_high, first_low), second_high);
    /* the high bit where a lead of three stands two before, or one of four three before */
    __m256i third = _mm256_subs_epu8(BEFORE(before, v, 2), _mm256_set1_epi8(0xE0 - 0x80));
    __m256i fourth = _mm256_subs_epu8(BEFORE(before, v, 3), _mm256_set1_epi8(0xF0 - 0x80));
    __m256i goes_on = _mm256_and_si256(_mm256_or_si256(third, fourth),
                                       _mm256_set1_epi8((char)0x80));
    return _mm256_xor_si256(goes_on, pairs);
}

/* The end of the last whole character at or before `at`; what is before is known to be in order. */
static size_t whole_before(const uint8_t *p, size_t at) {
    for (size_t k = 1; k <= 3 && k <= at; k++) {
        uint8_t byte = p[at - k];
        size_t len = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
        if ((byte & 0xC0) != 0x80) return len > k ? at - k : at;
    }
    return at;
}

/* Bytes of [p, p + n), which begins with a character, that are whole characters in order; stops
 * early before a fault or the end, for cw_utf8_feed to go on. */
static size_t ops_utf8_prefix(const uint8_t *p, size_t n) {
    __m256i before = _mm256_setzero_si256();
    size_t i = 0;
    for (; n - i >= 32; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
        if (!_mm256_movemask_epi8(_mm256_or_si256(before, v))) continue;
        if (_mm256_movemask_epi8(
                _mm256_cmpeq_epi8(faults(before, v), _mm256_setzero_si256())) != -1)
            break;
        before = v;
    }
    return whole_before(p, i);
}

#undef ROW
#undef BEFORE

#else

static size_t ops_utf8_prefix(const uint8_t *p, size_t n) { return ops_ascii_prefix(p, n); }

#endif

/* 1 when [p, p + n) is UTF-8; else *at is the first bad byte, or n when it ends too soon. */
static inline int ops_is_utf8(const uint8_t *p, size_t n, size_t *at) {
    size_t whole = ops_ascii_prefix(p, n);
    cw_utf8 utf8 = {0, 0, 0};
    if (CW_LIKELY(whole == n)) return 1;
    whole += ops_utf8_prefix(p + whole, n - whole);
    if (cw_utf8_feed(&utf8, p + whole, n - whole, at) == CW_OK) {
        if (cw_utf8_is_whole(&utf8)) return 1;
        *at = n - whole;
    }
    *at += whole;
    return 0;
}
