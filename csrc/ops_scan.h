/* ops_scan.h — numbers by vectors, and the scanner, compiled once per instruction-set level.
 *
 * Vectors may be loaded from up to CW_GUARD_BEFORE bytes before and CW_GUARD_AFTER bytes behind the
 * text; what lies there never reaches a result. */
#include "crosswire/buffer.h"
#include "crosswire/decimal.h"
#include "crosswire/utf8.h"

typedef __m128i vec16;

static inline vec16 load16(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline uint32_t equal16(vec16 a, vec16 b) {
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
}

/* Constants of the hot loop. The compiler must not know their values, or it makes each anew at
 * each use, in two instructions, instead of keeping it in a register. */
typedef struct lanes {
    vec16 zero, nine, point, iota;
} lanes;

static inline lanes lanes_make(void) {
    lanes k = {.zero = _mm_set1_epi8('0'), .nine = _mm_set1_epi8(9), .point = _mm_set1_epi8('.')};
    k.iota = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __asm__("" : "+x"(k.zero), "+x"(k.nine), "+x"(k.point), "+x"(k.iota));
    return k;
}

/* ------------------------------------------------------------------ numbers */

static const double TENS[17] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7, 1e8,
                                1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16};

/* Masks of 16 bytes by sliding: LAST + n keeps the last n bytes, FIRST - n the first n. */
#define SIXTEEN(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
static const uint8_t SLIDE[48] __attribute__((aligned(16))) = {SIXTEEN(0), SIXTEEN(0xFF),
                                                               SIXTEEN(0)};
#define LAST_BYTES(n) load16(SLIDE + (n))
#define FIRST_BYTES(n) load16(SLIDE + 32 - (n))

/* The number that 16 digit values (0..9, most significant first) make. */
static inline uint64_t digits_value(vec16 digits) {
    vec16 fours, packed, eights;
#if CW_WIDTH >= 32
    vec16 pairs = _mm_maddubs_epi16(digits, _mm_set1_epi16(1 << 8 | 10));
#else
    vec16 tens = _mm_mullo_epi16(_mm_and_si128(digits, _mm_set1_epi16(0xFF)), _mm_set1_epi16(10));
    vec16 pairs = _mm_add_epi16(tens, _mm_srli_epi16(digits, 8));
#endif
    fours = _mm_madd_epi16(pairs, _mm_set1_epi32(1 << 16 | 100));
    packed = _mm_packs_epi32(fours, fours);
    eights = _mm_madd_epi16(packed, _mm_set1_epi32(1 << 16 | 10000));
    uint64_t both = (uint64_t)_mm_cvtsi128_si64(eights);
    return (both & 0xFFFFFFFFu) * 100000000u + (both >> 32);
}

/* The last `count` (0..16) bytes of a window as digit values, the others 0. *bad gets a bit where
 * one of them is no digit. */
static inline vec16 digits_of(vec16 window, uint32_t count, lanes k, vec16 *bad) {
    vec16 digits = _mm_and_si128(_mm_sub_epi8(window, k.zero), LAST_BYTES(count));
    *bad = _mm_or_si128(*bad, _mm_subs_epu8(digits, k.nine));
    return digits;
}

static inline int is_zero(vec16 v) { return equal16(v, _mm_setzero_si128()) == 0xFFFF; }

/* The digits of decimal text of n bytes (3..16) that ends at `end` and whose point stands
 * `fraction` digits before that, as one number; a second point is no digit and sets *bad.
 *
 * In the window of 16 bytes that ends with the text, what stands before the point moves up by one,
 * so that the point falls out. */
static inline uint64_t pointed_value(const uint8_t *end, uint32_t n, uint32_t fraction, lanes k,
                                     vec16 *bad) {
    vec16 window = load16(end - 16), before = FIRST_BYTES(16 - fraction);
#if CW_WIDTH >= 32
    window = _mm_shuffle_epi8(window, _mm_add_epi8(k.iota, before));
#else
    vec16 moved = load16(end - 17);
    window = _mm_xor_si128(window, _mm_and_si128(_mm_xor_si128(window, moved), before));
#endif
    return digits_value(digits_of(window, n - 1, k, bad));
}

/* Digits behind the last point of a text of n bytes (1..16); 0 when it has none, 16 when it stands
 * at an end, where no point may be. */
static inline uint32_t fraction_of(const uint8_t *end, uint32_t n, lanes k) {
    uint32_t points = equal16(load16(end - 16), k.point);
    uint32_t point = 31 - (uint32_t)__builtin_clz(points | 1);
    if (point + n < 16 || points == 0) return 0;
    return point + n > 16 && point < 15 ? 15 - point : 16;
}

/* Read decimal text of n bytes, 1..16, with at most 15 digits. 1: *mantissa / 10^*fraction is its
 * value unless *bad got a bit. 0: not of this form; it may still be a number. */
static inline int decimal_short(const uint8_t *end, uint32_t n, lanes k, uint64_t *mantissa,
                                uint32_t *fraction, vec16 *bad) {
    *fraction = fraction_of(end, n, k);
    if (CW_LIKELY(*fraction - 1 < 15)) {
        *mantissa = pointed_value(end, n, *fraction, k, bad);
        return 1;
    }
    if (*fraction || n > 15) return 0;
    *mantissa = digits_value(digits_of(load16(end - 16), n, k, bad));
    return 1;
}

/* As cw_decimal_read, by the short form where it applies: with at most 15 digits the mantissa and
 * the power of ten are exact, so the one division is correctly rounded (Clinger). */
static int ops_decimal(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at) {
    uint64_t mantissa;
    uint32_t fraction;
    vec16 bad = _mm_setzero_si128();
    if (n - 1 < 16 &&
        decimal_short(p + n, (uint32_t)n, lanes_make(), &mantissa, &fraction, &bad) &&
        is_zero(bad)) {
        *value = (double)(int64_t)mantissa / TENS[fraction];
        *flags = 0;
        return CW_OK;
    }
    return cw_decimal_read(p, n, value, flags, at);
}

/* How many digits stand at p, at most 32. */
static inline uint32_t digit_run(const uint8_t *p) {
    uint64_t others;
#if CW_WIDTH >= 32
    __m256i v = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i *)(const void *)p),
                                _mm256_set1_epi8('0'));
    __m256i low = _mm256_min_epu8(v, _mm256_set1_epi8(9));
    others = ~(uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, low));
#else
    vec16 zero = _mm_set1_epi8('0'), nine = _mm_set1_epi8(9);
    vec16 a = _mm_sub_epi8(load16(p), zero), b = _mm_sub_epi8(load16(p + 16), zero);
    uint32_t digits = equal16(_mm_min_epu8(a, nine), a) | equal16(_mm_min_epu8(b, nine), b) << 16;
    others = ~(uint64_t)digits;
#endif
    return (uint32_t)__builtin_ctzll(others);
}

/* Offset of the first quote in the 32 bytes at p, 31 or more when there is none before. */
static inline uint32_t find_quote(const uint8_t *p) {
#if CW_WIDTH >= 32
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    uint32_t quotes =
        (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_set1_epi8('"')));
#else
    vec16 quote = _mm_set1_epi8('"');
    uint32_t quotes = equal16(load16(p), quote) | equal16(load16(p + 16), quote) << 16;
#endif
    return (uint32_t)__builtin_ctz(quotes | 0x80000000u);
}

#include "scan_body.h"
