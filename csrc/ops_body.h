/* ops_body.h — the source that is compiled once per instruction-set level.
 *
 * The including file sets CW_WIDTH (bytes of a vector) and the table's name. Vectors may be
 * loaded from up to CW_GUARD_BEFORE bytes before and CW_GUARD_AFTER bytes behind the text; what
 * lies there never reaches a result. */
#include "crosswire/buffer.h"

/* ------------------------------------------------------------------ vectors of CW_WIDTH bytes */

#if CW_WIDTH == 64
typedef __m512i vec;
#define vec_load(p) _mm512_loadu_si512((const void *)(p))
#define vec_store(p, v) _mm512_storeu_si512((void *)(p), v)
#define vec_xor _mm512_xor_si512
#define vec_fill32(x) _mm512_set1_epi32(x)
static inline uint64_t vec_high_bits(vec v) { return _mm512_movepi8_mask(v); }
#elif CW_WIDTH == 32
typedef __m256i vec;
#define vec_load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define vec_store(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define vec_xor _mm256_xor_si256
#define vec_fill32(x) _mm256_set1_epi32(x)
static inline uint64_t vec_high_bits(vec v) { return (uint32_t)_mm256_movemask_epi8(v); }
#else
typedef __m128i vec;
#define vec_load(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define vec_store(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define vec_xor _mm_xor_si128
#define vec_fill32(x) _mm_set1_epi32(x)
static inline uint64_t vec_high_bits(vec v) { return (uint32_t)_mm_movemask_epi8(v); }
#endif

typedef __m128i vec16;

static inline vec16 load16(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static inline uint32_t equal16(vec16 a, vec16 b) {
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
}

/* Bit i: byte i of the 32 at p is `c`. */
static inline uint32_t find32(const uint8_t *p, char c) {
#if CW_WIDTH >= 32
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, _mm256_set1_epi8(c)));
#else
    vec16 want = _mm_set1_epi8(c);
    return equal16(load16(p), want) | equal16(load16(p + 16), want) << 16;
#endif
}

/* ------------------------------------------------------------------ masking, ASCII */

static void ops_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t phase) {
    uint8_t turned[4];
    uint32_t word;
    size_t i = 0;
    vec key;
    for (int k = 0; k < 4; k++) turned[k] = mask[(phase + (size_t)k) & 3];
    memcpy(&word, turned, 4);
    key = vec_fill32((int)word);
    for (; n - i >= 4 * CW_WIDTH; i += 4 * CW_WIDTH) {
        vec a = vec_xor(vec_load(p + i), key);
        vec b = vec_xor(vec_load(p + i + CW_WIDTH), key);
        vec c = vec_xor(vec_load(p + i + 2 * CW_WIDTH), key);
        vec d = vec_xor(vec_load(p + i + 3 * CW_WIDTH), key);
        vec_store(p + i, a);
        vec_store(p + i + CW_WIDTH, b);
        vec_store(p + i + 2 * CW_WIDTH, c);
        vec_store(p + i + 3 * CW_WIDTH, d);
    }
    for (; n - i >= CW_WIDTH; i += CW_WIDTH) vec_store(p + i, vec_xor(vec_load(p + i), key));
    for (; n - i >= 4; i += 4) {
        uint32_t v = cw_load_u32(p + i) ^ word;
        memcpy(p + i, &v, 4);
    }
    for (; i < n; i++) p[i] ^= turned[i & 3];
}

static size_t ops_ascii_prefix(const uint8_t *p, size_t n) {
    size_t i = 0;
    for (; n - i >= CW_WIDTH; i += CW_WIDTH) {
        uint64_t high = vec_high_bits(vec_load(p + i));
        if (high) return i + (size_t)__builtin_ctzll(high);
    }
    for (; n - i >= 8; i += 8) {
        uint64_t high = cw_load_u64(p + i) & 0x8080808080808080u;
        if (high) return i + (size_t)__builtin_ctzll(high) / 8;
    }
    for (; i < n; i++)
        if (p[i] & 0x80) return i;
    return n;
}

/* ------------------------------------------------------------------ numbers */

static const double TENS[17] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7, 1e8,
                                1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16};

static const uint8_t IOTA[16] __attribute__((aligned(16))) = {0, 1, 2,  3,  4,  5,  6,  7,
                                                              8, 9, 10, 11, 12, 13, 14, 15};

/* The number that 16 digit values (0..9, most significant first) make. */
static inline uint64_t digits_value(vec16 digits) {
    vec16 tens = _mm_mullo_epi16(_mm_and_si128(digits, _mm_set1_epi16(0xFF)), _mm_set1_epi16(10));
    vec16 pairs = _mm_add_epi16(tens, _mm_srli_epi16(digits, 8));
    vec16 fours = _mm_madd_epi16(pairs, _mm_set1_epi32(1 << 16 | 100));
    vec16 packed = _mm_packs_epi32(fours, fours);
    vec16 eights = _mm_madd_epi16(packed, _mm_set1_epi32(1 << 16 | 10000));
    uint64_t both = (uint64_t)_mm_cvtsi128_si64(eights);
    return (both & 0xFFFFFFFFu) * 100000000u + (both >> 32);
}

/* Bytes of `window` at and behind `first` (0..16) as digit values, the others 0; sets *ok to 0
 * when one of them is no digit. */
static inline vec16 digits_of(vec16 window, uint32_t first, uint32_t *ok) {
    vec16 iota = _mm_load_si128((const __m128i *)(const void *)IOTA);
    vec16 keep = _mm_cmpgt_epi8(iota, _mm_set1_epi8((char)((int)first - 1)));
    vec16 digits = _mm_and_si128(_mm_sub_epi8(window, _mm_set1_epi8('0')), keep);
    *ok = equal16(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits) == 0xFFFF;
    return digits;
}

/* Read decimal text of n bytes, 1..17, at most 16 of them digits. 1: *mantissa / 10^*fraction is
 * its value. 0: not of this form; it may still be a number. The window of 16 bytes that ends at
 * the end of the text is taken twice, the second time one byte earlier: digits behind the point
 * come from the first, digits before it from the second, so the point falls out. */
static inline int decimal_short(const uint8_t *p, uint32_t n, uint64_t *mantissa,
                                uint32_t *fraction) {
    const uint8_t *end = p + n;
    vec16 late = load16(end - 16), early = load16(end - 17);
    vec16 iota = _mm_load_si128((const __m128i *)(const void *)IOTA);
    uint32_t inside = n >= 16 ? 0xFFFF : 0xFFFFu & (0xFFFFu << (16 - n));
    uint32_t points = equal16(late, _mm_set1_epi8('.')) & inside;
    uint32_t ok, point, count;
    vec16 is_before, window;
    if (points == 0) {
        if (n > 16) return 0;
        *mantissa = digits_value(digits_of(late, 16 - n, &ok));
        *fraction = 0;
        return (int)ok;
    }
    point = (uint32_t)__builtin_ctz(points);
    count = n - 1;
    *fraction = 15 - point;
    if (*fraction == 0 || *fraction >= count) return 0; /* a point without digits on a side */
    is_before = _mm_cmpgt_epi8(_mm_set1_epi8((char)(point + 1)), iota);
    window = _mm_or_si128(_mm_and_si128(is_before, early), _mm_andnot_si128(is_before, late));
    *mantissa = digits_value(digits_of(window, 16 - count, &ok));
    return (int)ok;
}

/* As cw_decimal_read, by the short form where it applies. Below 10^15 a mantissa has at most 15
 * digits and the one division is exact (Clinger); it is never INEXACT. */
static inline int read_decimal(const uint8_t *p, uint32_t n, double *value, uint32_t *flags,
                               uint32_t *at) {
    uint64_t mantissa;
    uint32_t fraction;
    if (CW_LIKELY(n - 1 < 17 && decimal_short(p, n, &mantissa, &fraction) &&
                  mantissa < 1000000000000000u)) {
        *value = (double)(int64_t)mantissa / TENS[fraction];
        *flags = 0;
        return CW_OK;
    }
    return cw_decimal_read(p, n, value, flags, at);
}

static int ops_decimal(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at) {
    return n > CW_DECIMAL_TEXT_MAX ? cw_decimal_read(p, n, value, flags, at)
                                   : read_decimal(p, (uint32_t)n, value, flags, at);
}

/* Read an unsigned integer of n digits. */
static inline int read_integer(const uint8_t *p, uint32_t n, uint64_t *value) {
    uint32_t ok, at;
    if (CW_LIKELY(n - 1 < 16)) {
        *value = digits_value(digits_of(load16(p + n - 16), 16 - n, &ok));
        return (int)ok;
    }
    if (n == 19) { /* nanoseconds */
        uint32_t a = p[0] - (uint32_t)'0', b = p[1] - (uint32_t)'0', c = p[2] - (uint32_t)'0';
        uint64_t low = digits_value(digits_of(load16(p + 3), 0, &ok));
        *value = (uint64_t)(100 * a + 10 * b + c) * 10000000000000000u + low;
        return (int)ok & (a < 10) & (b < 10) & (c < 10);
    }
    return cw_integer_read(p, n, value, &at) == CW_OK;
}

/* How many digits stand at p, 33 for more than 32. */
static inline uint32_t digit_run(const uint8_t *p) {
    uint64_t others;
#if CW_WIDTH >= 32
    __m256i v = _mm256_sub_epi8(_mm256_loadu_si256((const __m256i *)(const void *)p),
                                _mm256_set1_epi8('0'));
    __m256i low = _mm256_min_epu8(v, _mm256_set1_epi8(9));
    others = ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(v, low));
#else
    vec16 zero = _mm_set1_epi8('0'), nine = _mm_set1_epi8(9);
    vec16 a = _mm_sub_epi8(load16(p), zero), b = _mm_sub_epi8(load16(p + 16), zero);
    uint32_t digits = equal16(_mm_min_epu8(a, nine), a) | equal16(_mm_min_epu8(b, nine), b) << 16;
    others = ~digits;
#endif
    return others ? (uint32_t)__builtin_ctzll(others) : 33;
}

#include "scan_body.h"

const cw_ops CW_OPS_TABLE = {
    .name = CW_OPS_NAME,
    .level = CW_OPS_LEVEL,
    .mask = ops_mask,
    .ascii_prefix = ops_ascii_prefix,
    .decimal = ops_decimal,
    .scan = ops_scan,
    .scan_next = ops_scan_next,
};
