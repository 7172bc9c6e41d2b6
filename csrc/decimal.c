/* decimal.c — decimal text to the nearest double, exactly, whatever its length.
 *
 * Strategy: up to 19 digits whose integer fits 53 bits and whose power of ten is exact take one
 * multiplication or division, which IEEE 754 rounds correctly (W. D. Clinger, "How to read
 * floating point numbers accurately", 1990). Everything else is a quotient of two big integers,
 * computed bit by bit. It is slow and rare: market prices have fewer than 16 digits. */
#include "crosswire/decimal.h"

static const double POWERS[23] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* ---- big integers: 32 limbs of 32 bits; 64 digits times 10^99, shifted by 64, need 26 ---- */

#define LIMBS 32

typedef struct big {
    uint32_t limb[LIMBS];
} big;

static void big_multiply_add(big *self, uint32_t factor, uint32_t addend) {
    uint64_t carry = addend;
    for (int i = 0; i < LIMBS; i++) {
        carry += (uint64_t)self->limb[i] * factor;
        self->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static int big_bits(const big *self) {
    for (int i = LIMBS - 1; i >= 0; i--)
        if (self->limb[i]) return 32 * i + 32 - __builtin_clz(self->limb[i]);
    return 0;
}

static void big_shift_left(big *self, int bits) {
    int limbs = bits / 32, rest = bits % 32;
    for (int i = LIMBS - 1; i >= 0; i--) {
        uint64_t high = i >= limbs ? self->limb[i - limbs] : 0;
        uint64_t low = i > limbs ? self->limb[i - limbs - 1] : 0;
        self->limb[i] = (uint32_t)((high << 32 | low) >> (32 - rest));
    }
}

static void big_halve(big *self) {
    for (int i = 0; i < LIMBS; i++) {
        uint32_t above = i + 1 < LIMBS ? self->limb[i + 1] : 0;
        self->limb[i] = self->limb[i] >> 1 | above << 31;
    }
}

static int big_is_less(const big *a, const big *b) {
    for (int i = LIMBS - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i];
    return 0;
}

static void big_subtract(big *self, const big *b) {
    int64_t carry = 0;
    for (int i = 0; i < LIMBS; i++) {
        carry += (int64_t)self->limb[i] - b->limb[i];
        self->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

/* Nearest double to the integer of `digits` times 10^exponent; not zero, neither tiny nor huge. */
static double exact(const uint8_t *digits, uint32_t count, int exponent) {
    big num = {{0}}, den = {{1}};
    uint64_t quotient = 0, bits, half;
    int shift;
    for (uint32_t i = 0; i < count; i++) big_multiply_add(&num, 10, digits[i]);
    for (int i = 0; i < exponent; i++) big_multiply_add(&num, 10, 0);
    for (int i = 0; i > exponent; i--) big_multiply_add(&den, 10, 0);

    /* quotient = num * 2^shift / den, of 55 or 56 bits */
    shift = 55 - (big_bits(&num) - big_bits(&den));
    if (shift > 0) big_shift_left(&num, shift);
    if (shift < 0) big_shift_left(&den, -shift);
    big_shift_left(&den, 56);
    for (int i = 0; i <= 56; i++) {
        quotient <<= 1;
        if (!big_is_less(&num, &den)) {
            big_subtract(&num, &den);
            quotient |= 1;
        }
        big_halve(&den);
    }
    int drop = 64 - __builtin_clzll(quotient) - 53;
    int is_above = big_bits(&num) != 0;
    half = 1ull << (drop - 1);
    bits = quotient >> drop;
    quotient &= (1ull << drop) - 1;
    if (quotient > half || (quotient == half && (is_above || (bits & 1)))) bits++;
    /* bits may be 2^53 now; the sum below carries into the exponent, as it should */
    int64_t biased = 1023 + 52 + drop - shift;
    uint64_t image = ((uint64_t)(biased - 1) << 52) + bits;
    double value;
    memcpy(&value, &image, sizeof value);
    return value;
}

/* ---- the text ---- */

static int is_digit(uint8_t c) { return c >= '0' && c <= '9'; }

static int refuse(uint32_t *at, size_t position, int code) {
    *at = (uint32_t)position;
    return code;
}

typedef struct digits {
    uint8_t digit[CW_DECIMAL_TEXT_MAX]; /* significant ones, no leading zeros */
    uint32_t count;
    int exponent; /* of ten, of the last digit */
} digits;

static size_t take_digits(digits *d, const uint8_t *p, size_t n, size_t i, int is_fraction) {
    for (; i < n && is_digit(p[i]); i++) {
        if (d->count || p[i] != '0') d->digit[d->count++] = p[i] - '0';
        d->exponent -= is_fraction;
    }
    return i;
}

static int take_exponent(digits *d, const uint8_t *p, size_t n, size_t i, uint32_t *at) {
    int sign = 1, e = 0;
    size_t start = i;
    if (i < n && (p[i] == '+' || p[i] == '-')) sign = p[i++] == '-' ? -1 : 1;
    if (i == n) return refuse(at, i, CW_E_NUMBER_FORM);
    for (; i < n; i++) {
        if (!is_digit(p[i])) return refuse(at, i, CW_E_NUMBER_FORM);
        e = 10 * e + (p[i] - '0');
        if (e > CW_DECIMAL_EXPONENT_MAX) return refuse(at, start, CW_E_NUMBER_RANGE);
    }
    d->exponent += sign * e;
    return CW_OK;
}

static double nearest(const digits *d) {
    uint64_t mantissa = 0;
    if (d->count <= 19) {
        for (uint32_t i = 0; i < d->count; i++) mantissa = 10 * mantissa + d->digit[i];
        if (mantissa <= 1ull << 53 && d->exponent <= 22 && d->exponent >= -22)
            return d->exponent < 0 ? (double)mantissa / POWERS[-d->exponent]
                                   : (double)mantissa * POWERS[d->exponent];
    }
    return exact(d->digit, d->count, d->exponent);
}

int cw_decimal_read(const uint8_t *p, size_t n, double *value, uint32_t *flags, uint32_t *at) {
    digits d = {.count = 0, .exponent = 0};
    size_t i = 0, start;
    int is_negative = 0;
    *flags = 0;
    if (n > CW_DECIMAL_TEXT_MAX) return refuse(at, CW_DECIMAL_TEXT_MAX, CW_E_NUMBER_LENGTH);
    if (n && p[0] == '-') is_negative = 1, i = 1;
    start = i;
    i = take_digits(&d, p, n, i, 0);
    if (i == start) return refuse(at, i, CW_E_NUMBER_FORM);
    if (i < n && p[i] == '.') {
        start = ++i;
        i = take_digits(&d, p, n, i, 1);
        if (i == start) return refuse(at, i, CW_E_NUMBER_FORM);
    }
    if (i < n && (p[i] == 'e' || p[i] == 'E')) {
        int code = take_exponent(&d, p, n, i + 1, at);
        if (code != CW_OK) return code;
    } else if (i < n) {
        return refuse(at, i, CW_E_NUMBER_FORM);
    }
    while (d.count && d.digit[d.count - 1] == 0) d.count--, d.exponent++;
    if (d.count > 15) *flags = CW_DECIMAL_INEXACT;
    *value = d.count ? nearest(&d) : 0.0;
    if (is_negative && d.count) *value = -*value;
    return CW_OK;
}

int cw_integer_read(const uint8_t *p, size_t n, uint64_t *value, uint32_t *at) {
    uint64_t v = 0;
    if (n == 0) return refuse(at, 0, CW_E_NUMBER_FORM);
    for (size_t i = 0; i < n; i++) {
        uint64_t next;
        if (!is_digit(p[i])) return refuse(at, i, CW_E_NUMBER_FORM);
        if (i == 20) return refuse(at, i, CW_E_NUMBER_RANGE);
        if (__builtin_mul_overflow(v, 10u, &next) ||
            __builtin_add_overflow(next, (uint64_t)(p[i] - '0'), &v))
            return refuse(at, i, CW_E_NUMBER_RANGE);
    }
    *value = v;
    return CW_OK;
}
