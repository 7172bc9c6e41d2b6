/* ops_wide.h — masking and the ASCII check, compiled once per instruction-set level.
 *
 * The including file sets CW_WIDTH, the bytes of a vector. */

/* ------------------------------------------------------------------ vectors of CW_WIDTH bytes */

#if CW_WIDTH == 64
typedef __m512i vec;
#define vec_load(p) _mm512_loadu_si512((const void *)(p))
#define vec_store(p, v) _mm512_storeu_si512((void *)(p), v)
#define vec_xor _mm512_xor_si512
#define vec_or _mm512_or_si512
#define vec_fill32(x) _mm512_set1_epi32(x)
static inline uint64_t vec_high_bits(vec v) { return _mm512_movepi8_mask(v); }
#elif CW_WIDTH == 32
typedef __m256i vec;
#define vec_load(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define vec_store(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define vec_xor _mm256_xor_si256
#define vec_or _mm256_or_si256
#define vec_fill32(x) _mm256_set1_epi32(x)
static inline uint64_t vec_high_bits(vec v) { return (uint32_t)_mm256_movemask_epi8(v); }
#else
typedef __m128i vec;
#define vec_load(p) _mm_loadu_si128((const __m128i *)(const void *)(p))
#define vec_store(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#define vec_xor _mm_xor_si128
#define vec_or _mm_or_si128
#define vec_fill32(x) _mm_set1_epi32(x)
static inline uint64_t vec_high_bits(vec v) { return (uint32_t)_mm_movemask_epi8(v); }
#endif

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

/* The last vector overlaps the one before it, so that nothing behind the text is read. */
static size_t ops_ascii_prefix(const uint8_t *p, size_t n) {
    size_t i = 0;
    for (; n - i >= CW_WIDTH; i += CW_WIDTH) {
        uint64_t high = vec_high_bits(vec_load(p + i));
        if (CW_UNLIKELY(high)) return i + (size_t)__builtin_ctzll(high);
    }
    if (CW_LIKELY(n >= CW_WIDTH)) {
        uint64_t high = vec_high_bits(vec_load(p + n - CW_WIDTH));
        return CW_LIKELY(!high) ? n : n - CW_WIDTH + (size_t)__builtin_ctzll(high);
    }
    for (; i < n; i++)
        if (p[i] & 0x80) return i;
    return n;
}

/* The same question without the place: one look at the end instead of one at each vector. */
static inline int ops_is_ascii(const uint8_t *p, size_t n) {
    vec high;
    if (CW_UNLIKELY(n < CW_WIDTH)) return ops_ascii_prefix(p, n) == n;
    high = vec_load(p + n - CW_WIDTH);
    for (size_t i = 0; n - i > CW_WIDTH; i += CW_WIDTH) high = vec_or(high, vec_load(p + i));
    return vec_high_bits(high) == 0;
}
