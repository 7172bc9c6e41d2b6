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

static inline int is_zero(vec16 v) { return equal16(v, _mm_setzero_si128()) == 0xFFFF; }

#define SIXTEEN(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
#define THIRTY_TWO(x) SIXTEEN(x), SIXTEEN(x)
#define EIGHT_PAIRS(x, y) x, y, x, y, x, y, x, y, x, y, x, y, x, y, x, y

/* Constants of the hot loop, as operands in memory. The compiler must not know their values, or it
 * makes each anew at each use, in two or three instructions. */
typedef struct lanes {
    uint8_t zero[32], nine[32], point[32], quote[32];
    int8_t tens[32];
    int16_t hundreds[16], myriads[16];
    uint64_t eights[4];
    uint64_t magic[4]; /* the double 2^52: below it, an integer's bits are those of a fraction */
} lanes;

static const lanes LANES __attribute__((aligned(64))) = {
    .zero = {THIRTY_TWO('0')},
    .nine = {THIRTY_TWO(9)},
    .point = {THIRTY_TWO('.')},
    .quote = {THIRTY_TWO('"')},
    .tens = {EIGHT_PAIRS(10, 1), EIGHT_PAIRS(10, 1)},
    .hundreds = {EIGHT_PAIRS(100, 1)},
    .myriads = {EIGHT_PAIRS(10000, 1)},
    .eights = {100000000, 100000000, 100000000, 100000000},
    .magic = {0x4330000000000000, 0x4330000000000000, 0x4330000000000000, 0x4330000000000000},
};

static inline const lanes *lanes_hidden(void) {
    const lanes *k = &LANES;
    __asm__("" : "+r"(k));
    return k;
}

#define LANE16(field) _mm_load_si128((const __m128i *)(const void *)(k->field))

/* ------------------------------------------------------------------ digits */

/* Masks of 16 bytes by sliding: LAST + n keeps the last n bytes, FIRST - n the first n. */
static const uint8_t SLIDE[48] __attribute__((aligned(16))) = {SIXTEEN(0), SIXTEEN(0xFF),
                                                               SIXTEEN(0)};
#define LAST_BYTES(n) load16(SLIDE + (n))
#define FIRST_BYTES(n) load16(SLIDE + 32 - (n))

/* The number that 16 digit values (0..9, most significant first) make. */
static inline uint64_t digits_value(vec16 digits, const lanes *k) {
    vec16 fours, packed, eights;
#if CW_WIDTH >= 32
    vec16 pairs = _mm_maddubs_epi16(digits, LANE16(tens));
#else
    vec16 tens = _mm_mullo_epi16(_mm_and_si128(digits, _mm_set1_epi16(0xFF)), _mm_set1_epi16(10));
    vec16 pairs = _mm_add_epi16(tens, _mm_srli_epi16(digits, 8));
#endif
    fours = _mm_madd_epi16(pairs, LANE16(hundreds));
    packed = _mm_packs_epi32(fours, fours);
    eights = _mm_madd_epi16(packed, LANE16(myriads));
    uint64_t both = (uint64_t)_mm_cvtsi128_si64(eights);
    return (both & 0xFFFFFFFFu) * 100000000u + (both >> 32);
}

/* The last `count` (0..16) bytes of a window as digit values, the others 0. *bad gets a bit where
 * one of them is no digit. */
static inline vec16 digits_of(vec16 window, uint32_t count, const lanes *k, vec16 *bad) {
    vec16 digits = _mm_and_si128(_mm_sub_epi8(window, LANE16(zero)), LAST_BYTES(count));
    *bad = _mm_or_si128(*bad, _mm_subs_epu8(digits, LANE16(nine)));
    return digits;
}

/* ------------------------------------------------------------------ decimals
 *
 * A short decimal has 1 to 16 bytes and at most 15 digits: with so few, mantissa and power of ten
 * are exact, and the one division is correctly rounded (Clinger). Its form is its length and how
 * many of its digits stand behind the point; the form tells how the 16 bytes that end with the
 * text become 16 digits: what stands before the point moves up by one, so that it falls out. */

typedef struct form {
    uint8_t order[16]; /* of a byte shuffle: where each digit is taken from, 0x80: it is 0 */
    double scale;
    uint8_t digits;
    uint8_t moved; /* leading bytes of the window that move up by one */
    uint8_t reserved[6];
} form;

/* Where there is no room for a digit before the point, the form takes the point for digits. */
#define HAS_ROOM(f, n) (f == 0 || n >= f + 2)
#define DIGITS(f, n) (f == 0 ? n : n >= f + 2 ? n - 1 : 16)
#define ORDER(f, n, i)                                                                          \
    (!HAS_ROOM(f, n) ? 15 - f : i < 16 - DIGITS(f, n) ? 0x80 : f && i < 16 - f ? i - 1 : i)
#define ORDER4(f, n, i)                                                                         \
    ORDER(f, n, i), ORDER(f, n, (i + 1)), ORDER(f, n, (i + 2)), ORDER(f, n, (i + 3))
#define FORM(f, n)                                                                              \
    {{ORDER4(f, n, 0), ORDER4(f, n, 4), ORDER4(f, n, 8), ORDER4(f, n, 12)},                     \
     1e##f,                                                                                     \
     DIGITS(f, n),                                                                              \
     f && HAS_ROOM(f, n) ? 16 - f : 0,                                                          \
     {0}}
#define FORMS_WITH(f)                                                                           \
    {FORM(f, 1), FORM(f, 2),  FORM(f, 3),  FORM(f, 4),  FORM(f, 5),  FORM(f, 6),                \
     FORM(f, 7), FORM(f, 8),  FORM(f, 9),  FORM(f, 10), FORM(f, 11), FORM(f, 12),               \
     FORM(f, 13), FORM(f, 14), FORM(f, 15), FORM(f, 16)}

/* [digits behind the point, 0: there is no point][length - 1] */
static const form FORMS[16][16] __attribute__((aligned(64))) = {
    FORMS_WITH(0),  FORMS_WITH(1),  FORMS_WITH(2),  FORMS_WITH(3),
    FORMS_WITH(4),  FORMS_WITH(5),  FORMS_WITH(6),  FORMS_WITH(7),
    FORMS_WITH(8),  FORMS_WITH(9),  FORMS_WITH(10), FORMS_WITH(11),
    FORMS_WITH(12), FORMS_WITH(13), FORMS_WITH(14), FORMS_WITH(15)};

/* Digits behind the last point of a text of n bytes (1..16); 0 when it has none, 16 when it stands
 * at an end, where no point may be. */
static inline uint32_t fraction_of(const uint8_t *end, uint32_t n, const lanes *k) {
    uint32_t points = equal16(load16(end - 16), LANE16(point));
    uint32_t point = 31 - (uint32_t)__builtin_clz(points | 1);
    if (point + n < 16 || points == 0) return 0;
    return point + n > 16 && point < 15 ? 15 - point : 16;
}

/* The form of a text of n bytes that ends at `end`, if it is a short decimal; NULL: it is not, but
 * it may be a number all the same. A second point is left for the digits' check. */
static inline const form *form_of(const uint8_t *end, uint32_t n, const lanes *k) {
    uint32_t fraction;
    if (n - 1 >= 16) return NULL;
    fraction = fraction_of(end, n, k);
    return fraction == 16 || (fraction == 0 && n == 16) ? NULL : &FORMS[fraction][n - 1];
}

/* A short decimal in the text. */
typedef struct decimal {
    const uint8_t *end;
    const form *form;
} decimal;

/* Its 16 digits; *bad gets a bit where one is none. */
static inline vec16 decimal_digits(decimal d, const lanes *k, vec16 *bad) {
    vec16 window = load16(d.end - 16);
#if CW_WIDTH >= 32
    vec16 digits = _mm_shuffle_epi8(_mm_sub_epi8(window, LANE16(zero)), load16(d.form->order));
    *bad = _mm_or_si128(*bad, _mm_subs_epu8(digits, LANE16(nine)));
    return digits;
#else
    vec16 up = _mm_xor_si128(window, load16(d.end - 17));
    window = _mm_xor_si128(window, _mm_and_si128(up, FIRST_BYTES(d.form->moved)));
    return digits_of(window, d.form->digits, k, bad);
#endif
}

/* As cw_decimal_read, by the short form where it applies. */
static int ops_decimal(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at) {
    const lanes *k = lanes_hidden();
    const decimal d = {p + n, n - 1 < 16 ? form_of(p + n, (uint32_t)n, k) : NULL};
    if (d.form) {
        vec16 bad = _mm_setzero_si128();
        uint64_t mantissa = digits_value(decimal_digits(d, k, &bad), k);
        if (is_zero(bad)) {
            *value = (double)(int64_t)mantissa / d.form->scale;
            *flags = 0;
            return CW_OK;
        }
    }
    return cw_decimal_read(p, n, value, flags, at);
}

/* Four decimals at once, which halves the work of each. The values are written to out[0..count),
 * count being 2 or 4. Returns a bit per value that is above zero, or -1 when a digit is none. */
#if CW_WIDTH >= 32
#define LANE32(field) _mm256_load_si256((const __m256i *)(const void *)(k->field))

static inline __m256i two16(const uint8_t *low, const uint8_t *high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(load16(low)), load16(high), 1);
}

CW_HOT int read_decimals(const decimal d[4], uint32_t count, const lanes *k, double *out) {
    __m256i a = two16(d[0].end - 16, d[2].end - 16), b = two16(d[1].end - 16, d[3].end - 16);
    __m256i fours, bad, whole;
    __m256d value, scale;
    a = _mm256_sub_epi8(a, LANE32(zero));
    b = _mm256_sub_epi8(b, LANE32(zero));
    a = _mm256_shuffle_epi8(a, two16(d[0].form->order, d[2].form->order));
    b = _mm256_shuffle_epi8(b, two16(d[1].form->order, d[3].form->order));
    bad = _mm256_or_si256(_mm256_subs_epu8(a, LANE32(nine)), _mm256_subs_epu8(b, LANE32(nine)));
    /* not vptest, which costs a fifth of the whole message on Zen 3 (benchmarks.decode) */
    bad = _mm256_cmpeq_epi8(bad, _mm256_setzero_si256());
    if (CW_UNLIKELY(_mm256_movemask_epi8(bad) != -1)) return -1;
    a = _mm256_madd_epi16(_mm256_maddubs_epi16(a, LANE32(tens)), LANE32(hundreds));
    b = _mm256_madd_epi16(_mm256_maddubs_epi16(b, LANE32(tens)), LANE32(hundreds));
    fours = _mm256_packs_epi32(a, b); /* of d[0], d[1], d[2], d[3] */
    whole = _mm256_madd_epi16(fours, LANE32(myriads));
    whole = _mm256_add_epi64(_mm256_mul_epu32(whole, LANE32(eights)),
                             _mm256_srli_epi64(whole, 32));
    value = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(whole, LANE32(magic))),
                          _mm256_castsi256_pd(LANE32(magic)));
    scale = _mm256_setr_pd(d[0].form->scale, d[1].form->scale, d[2].form->scale,
                           d[3].form->scale);
    value = _mm256_div_pd(value, scale);
    if (count == 4) {
        _mm256_storeu_pd(out, value);
    } else {
        _mm_storeu_pd(out, _mm256_castpd256_pd128(value));
    }
    return _mm256_movemask_pd(_mm256_cmp_pd(value, _mm256_setzero_pd(), _CMP_GT_OQ));
}
#else
CW_HOT int read_decimals(const decimal d[4], uint32_t count, const lanes *k, double *out) {
    vec16 bad = _mm_setzero_si128();
    int positive = 0;
    for (uint32_t i = 0; i < count; i += 2) {
        uint64_t first = digits_value(decimal_digits(d[i], k, &bad), k);
        uint64_t second = digits_value(decimal_digits(d[i + 1], k, &bad), k);
        __m128d value = _mm_div_pd(_mm_setr_pd((double)(int64_t)first, (double)(int64_t)second),
                                   _mm_setr_pd(d[i].form->scale, d[i + 1].form->scale));
        _mm_storeu_pd(out + i, value);
        positive |= _mm_movemask_pd(_mm_cmpgt_pd(value, _mm_setzero_pd())) << i;
    }
    return CW_LIKELY(is_zero(bad)) ? positive : -1;
}
#endif

/* ------------------------------------------------------------------ ends */

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
static inline uint32_t find_quote(const uint8_t *p, const lanes *k) {
#if CW_WIDTH >= 32
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    uint32_t quotes =
        (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, LANE32(quote)));
#else
    vec16 quote = LANE16(quote);
    uint32_t quotes = equal16(load16(p), quote) | equal16(load16(p + 16), quote) << 16;
#endif
    return (uint32_t)__builtin_ctz(quotes | 0x80000000u);
}

#include "scan_text.h"
#include "scan_record.h"
#include "scan_match.h"
#include "scan_walk.h"
#include "scan_learn.h"
#include "scan_body.h"
