/* scan_text.h — where strings and numbers of JSON end, and words that stand for something. */

/* 0 buy, 1 sell, -1 neither. */
static inline int side_of(const uint8_t *p, uint32_t n) {
    uint32_t word = cw_load_u32(p) | 0x20202020u; /* to lower case; reads into the guard */
    if (n == 3) return (word & 0xFFFFFF) == 0x797562 /* buy */ ? 0 : -1;
    if (n == 4) return word == 0x6C6C6573 /* sell */ ? 1 : -1;
    return -1;
}

/* Bytes up to the closing quote of a string without escapes or control characters; n_max + 1
 * when there is no such quote within n_max bytes. */
static inline uint32_t plain_string(const uint8_t *p, uint32_t n_max) {
    for (uint32_t i = 0; i <= n_max; i += 16) {
        vec16 v = load16(p + i);
        uint32_t quotes = equal16(v, _mm_set1_epi8('"'));
        uint32_t others = equal16(v, _mm_set1_epi8('\\')) |
                          equal16(_mm_min_epu8(v, _mm_set1_epi8(0x1F)), v);
        if (quotes | others) {
            uint32_t at = (uint32_t)__builtin_ctz(quotes | others);
            return quotes >> at & 1 ? i + at : n_max + 1;
        }
    }
    return n_max + 1;
}

/* Length of the JSON number at p, 0 when there is none. Reads [p, end). */
static uint32_t number_length(const uint8_t *p, const uint8_t *end) {
    const uint8_t *start = p, *digits;
    if (p < end && *p == '-') p++;
    digits = p;
    while (p < end && *p >= '0' && *p <= '9') p++;
    if (p == digits || (*digits == '0' && p - digits > 1)) return 0;
    if (p < end && *p == '.') {
        digits = ++p;
        while (p < end && *p >= '0' && *p <= '9') p++;
        if (p == digits) return 0;
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        digits = p;
        while (p < end && *p >= '0' && *p <= '9') p++;
        if (p == digits) return 0;
    }
    return (uint32_t)(p - start);
}
