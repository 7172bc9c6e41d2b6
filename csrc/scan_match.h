/* scan_match.h — templates: whether a message agrees with one, and its record then. */

/* What follows a literal in a template. Slots that are compared as text (the tag) are literal. */
enum hole {
    HOLE_NONE = 0, /* more of the literal */
    HOLE_END,
    HOLE_PRICE, /* with as many decimals as the last one */
    HOLE_SIZE,
    HOLE_VARYING, /* a price or size of which that cannot be said */
    HOLE_INTEGER,
    HOLE_TIME,  /* ms, to be ns */
    HOLE_COUNT, /* 32 bits */
    HOLE_SYMBOL,
    HOLE_BUYER_IS_MAKER,
    HOLE_SIDE,
    HOLE_SKIP_STRING,
    HOLE_SKIP_NUMBER
};

/* match runs once per message, so what is rare (numbers of more than 16 characters) is kept out of
 * line. No step reads more than 64 bytes behind the end of the message. What a match accepts is
 * ASCII where it was not compared, so it needs no check of its encoding.
 *
 * Where a scalar ends must be known before the next one can be looked at. Ids and times are as long
 * as they were for years, and an ask is nearly always as long as the bid before it: such a length
 * is a hint. The literal that follows must stand where the hint says, or the end is searched for;
 * if that literal stands there by chance, a byte of the scalar is no digit. */

/* Places of decimals in a quote: bid, its size, ask, its size; in a trade: price, size. */
#define DECIMALS 4

/* Decimals that are not short. */
typedef struct odd {
    uint32_t places; /* a bit per place */
    uint32_t flags;
    double value[DECIMALS];
} odd;

/* A number that is rare: its length, or 0. */
typedef struct long_number {
    union {
        double decimal;
        uint64_t integer;
    } value;
    uint32_t len;
    uint32_t flags;
} long_number;

/* What stands for a decimal that the text does not have: the last byte of these is read. */
static const uint8_t NOUGHT[17] = {SIXTEEN('0'), '0'};
#define NO_DECIMAL ((decimal){NOUGHT + sizeof NOUGHT, &FORMS[0][0]})

CW_HOT int literal_stands(const uint8_t *p, const cw_step *step) {
    return CW_LIKELY((~equal16(load16(p), load16(step->literal)) & step->mask) == 0);
}

static __attribute__((noinline)) long_number long_decimal(const uint8_t *p, const uint8_t *end) {
    long_number found = {.len = 0};
    uint32_t at, left = (uint32_t)(end - p), n = p < end ? plain_string(p, left) : left + 1;
    if (n > left || p[0] == '-') return found;
    if (cw_decimal_read(p, n, &found.value.decimal, &found.flags, &at) == CW_OK) found.len = n;
    return found;
}

/* A decimal that is not short is read at once. Returns its length, 0 for a disagreement. */
static __attribute__((noinline)) uint32_t match_long(const uint8_t *p, const uint8_t *end,
                                                     uint32_t place, decimal *d, odd *odds) {
    long_number found = long_decimal(p, end);
    d[place] = NO_DECIMAL;
    odds->value[place] = found.value.decimal;
    odds->places |= 1u << place;
    odds->flags |= found.flags;
    return found.len;
}

/* Search for the point of a price or size of n bytes. Returns its length, 0 for a disagreement. */
static inline uint32_t match_varying(const uint8_t *p, uint32_t n, const uint8_t *end,
                                     uint32_t place, decimal *d, const lanes *k, odd *odds) {
    const form *form = form_of(p + n, n, k);
    if (CW_UNLIKELY(form == NULL)) return match_long(p, end, place, d, odds);
    d[place] = (decimal){p + n, form};
    return n;
}

/* Note where a price or size of n bytes stands, and its form. Returns its length, 0 for a
 * disagreement. Most venues write a field with the same number of decimals always: the step
 * remembers how many, and one look tells that it still holds. A field that keeps changing has its
 * point searched for. */
CW_HOT size_t match_decimal(const uint8_t *p, size_t n, const uint8_t *end, cw_step *step,
                            decimal *d, const lanes *k, odd *odds) {
    const uint8_t *number_end = p + n;
    size_t fraction = step->fraction;
    if (CW_UNLIKELY(n - 1 >= 16)) return match_long(p, end, step->target, d, odds);
    if (CW_UNLIKELY(*(number_end - fraction - 1) != '.')) {
        if (++step->surprises == CW_SURPRISES_MAX) step->hole = HOLE_VARYING;
        return match_varying(p, (uint32_t)n, end, step->target, d, k, odds);
    }
    d[step->target].end = number_end;
    d[step->target].form = &FORMS[fraction][n - 1];
    return n;
}

static __attribute__((noinline)) long_number long_integer(const uint8_t *p, uint32_t n,
                                                            const lanes *k) {
    long_number found = {.len = 0};
    vec16 bad = _mm_setzero_si128();
    uint32_t at;
    if (n == 19) { /* nanoseconds */
        vec16 high = digits_of(load16(p - 13), 3, k, &bad);
        vec16 low = digits_of(load16(p + 3), 16, k, &bad);
        found.value.integer = digits_value(high, k) * 10000000000000000u + digits_value(low, k);
        found.len = is_zero(bad) ? n : 0;
    } else if (n <= 20 && cw_integer_read(p, n, &found.value.integer, &at) == CW_OK) {
        found.len = n;
    }
    return found;
}

CW_HOT size_t match_integer(const uint8_t *p, size_t n, const cw_step *step, const lanes *k,
                              vec16 *bad, uint64_t *value) {
    if (CW_UNLIKELY(p[0] == '0' && step->is_number && n != 1)) return 0;
    if (CW_LIKELY(n - 1 < 16)) {
        *value = digits_value(digits_of(load16(p + n - 16), n, k, bad), k);
        return n;
    }
    long_number found = long_integer(p, (uint32_t)n, k);
    *value = found.value.integer;
    return found.len;
}

CW_HOT const cw_symbol *match_symbol(const cw_symbols *symbols, const uint8_t *p, uint32_t n) {
    if (CW_LIKELY(n - 1 < 16)) {
        vec16 text = _mm_and_si128(load16(p), FIRST_BYTES(n));
        uint64_t low = (uint64_t)_mm_cvtsi128_si64(text);
        uint64_t high = (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(text, text));
        cw_symbol *s = &symbols->slots[cw_symbol_hash(low, high, n) & (symbols->capacity - 1)];
        if (CW_LIKELY(s->len == n && equal16(load16(s->text), text) == 0xFFFF)) return s;
    }
    return cw_symbols_find(symbols, p, n);
}

static inline uint32_t match_bool(const uint8_t *p, int8_t *side) {
    *side = p[0] == 't' ? -1 : 1;
    if (p[0] == 't') return cw_load_u32(p) == 0x65757274 /* true */ ? 4 : 0;
    return p[0] == 'f' && cw_load_u32(p + 1) == 0x65736C61 /* alse */ ? 5 : 0;
}

/* A literal stood by chance where a hint said that a number ends, or a digit is none. Returns -1
 * when there were hints, which are gone now: the message is worth another try; else 0. */
static __attribute__((noinline)) int forget_hints(cw_template *t) {
    uint32_t had = 0;
    for (uint32_t i = 0; i < t->step_count; i++) {
        had |= t->steps[i].hint;
        t->steps[i].hint = 0;
    }
    return had ? -1 : 0;
}

/* Put the decimals that are not short into their places. */
static __attribute__((noinline)) int take_odd(const odd *odds, double *out, int positive) {
    for (uint32_t i = 0; i < DECIMALS; i++) {
        if (!(odds->places >> i & 1)) continue;
        out[i] = odds->value[i];
        positive |= (odds->value[i] > 0) << i;
    }
    return positive;
}

/* Read the decimals into out[0..count). Returns a bit per value above zero, -1: a digit is none. */
CW_HOT int take_decimals(const decimal *d, uint32_t count, const lanes *k, const odd *odds,
                         double *out) {
    int positive = read_decimals(d, count, k, out);
    if (CW_LIKELY(!odds->places) || positive < 0) return positive;
    return take_odd(odds, out, positive);
}

/* 1 when the whole message agrees with the template; its record stands in row then. 0 when it does
 * not. -1: a hint was wrong and is gone now; try again.
 *
 * Every hole ends by comparing the next literal and jumping to the next hole. Decimals are only
 * located on the way and read together at the end. */
CW_HOT int match(cw_scanner *self, cw_template *t, const uint8_t *p, const uint8_t *end,
                 cw_record *row) {
    const lanes *k = lanes_hidden();
    const cw_symbol *found = NULL;
    vec16 bad = _mm_setzero_si128(); /* a bit where a digit of an integer was none */
    decimal decimals[DECIMALS];
    odd odds;
    cw_step *step = t->steps;
    uint8_t *field;
    uint64_t whole = 0;
    size_t n, price_len = 0;
    uint32_t narrow;
    int positive;
    odds.places = odds.flags = 0;

/* The literal of this step stands at p: go on behind it. */
#define TO_HOLE                                                                                 \
    do {                                                                                        \
        p += step->len;                                                                         \
        switch (step->hole) {                                                                   \
        case HOLE_PRICE: goto price;                                                            \
        case HOLE_SIZE: goto size;                                                              \
        case HOLE_VARYING: goto varying;                                                        \
        case HOLE_SYMBOL: goto symbol;                                                          \
        case HOLE_INTEGER: goto integer;                                                        \
        case HOLE_TIME: goto time;                                                              \
        case HOLE_COUNT: goto count;                                                            \
        case HOLE_BUYER_IS_MAKER: goto buyer_is_maker;                                          \
        case HOLE_SIDE: goto side;                                                              \
        case HOLE_SKIP_STRING: goto skip_string;                                                \
        case HOLE_SKIP_NUMBER: goto skip_number;                                                \
        case HOLE_NONE: goto none;                                                              \
        case HOLE_END: goto message_end;                                                        \
        default: __builtin_unreachable();                                                       \
        }                                                                                       \
    } while (0)
/* The hole was n bytes long. */
#define NEXT                                                                                    \
    do {                                                                                        \
        p += n;                                                                                 \
        step++;                                                                                 \
        if (CW_UNLIKELY(p > end) || !literal_stands(p, step)) goto disagrees;                   \
        TO_HOLE;                                                                                \
    } while (0)
/* The same where n may be 0, which is a disagreement. */
#define NEXT_IF_ANY                                                                             \
    do {                                                                                        \
        if (CW_UNLIKELY(n == 0)) goto disagrees;                                                \
        NEXT;                                                                                   \
    } while (0)
#define INTEGER                                                                                 \
    do {                                                                                        \
        n = step->hint;                                                                         \
        if (!literal_stands(p + n, step + 1)) step->hint = (uint8_t)(n = digit_run(p));         \
        n = match_integer(p, n, step, k, &bad, &whole);                                         \
        field = row->bytes + step->target;                                                      \
    } while (0)

    if (CW_UNLIKELY(t->decimals != 15))
        for (uint32_t i = 0; i < DECIMALS; i++) decimals[i] = NO_DECIMAL;
    if (!literal_stands(p, step)) return 0;
    TO_HOLE;
none:
    n = 0;
    NEXT;
price:
    n = price_len;
    if (!literal_stands(p + n, step + 1)) price_len = n = find_quote(p, k);
    n = match_decimal(p, n, end, step, decimals, k, &odds);
    NEXT_IF_ANY;
size:
    n = match_decimal(p, find_quote(p, k), end, step, decimals, k, &odds);
    NEXT_IF_ANY;
varying:
    n = match_varying(p, find_quote(p, k), end, step->target, decimals, k, &odds);
    NEXT_IF_ANY;
symbol:
    n = find_quote(p, k);
    if (CW_UNLIKELY(!(found = match_symbol(self->symbols, p, (uint32_t)n)))) return 0;
    NEXT;
integer:
    INTEGER;
    memcpy(field, &whole, sizeof whole);
    NEXT_IF_ANY;
time:
    INTEGER;
    if (CW_UNLIKELY(whole > TS_MS_MAX)) goto disagrees;
    whole *= 1000000;
    memcpy(field, &whole, sizeof whole);
    NEXT_IF_ANY;
count:
    INTEGER;
    if (CW_UNLIKELY(whole > UINT32_MAX)) goto disagrees;
    narrow = (uint32_t)whole;
    memcpy(field, &narrow, sizeof narrow);
    NEXT_IF_ANY;
buyer_is_maker:
    n = match_bool(p, (int8_t *)row->bytes + step->target);
    NEXT_IF_ANY;
side:
    n = (p[0] | 0x20) == 'b' ? 3 : 4;
    *((int8_t *)row->bytes + step->target) = n == 3 ? 1 : -1;
    if (CW_UNLIKELY(side_of(p, (uint32_t)n) < 0)) goto disagrees;
    NEXT;
skip_string:
    if (CW_UNLIKELY(p > end)) goto disagrees; /* the literal went on in what lies behind */
    n = plain_string(p, (uint32_t)(end - p));
    if (CW_UNLIKELY(n > (uint32_t)(end - p) || ops_ascii_prefix(p, n) != n)) goto disagrees;
    NEXT;
skip_number:
    n = number_length(p, end);
    NEXT_IF_ANY;

message_end:
    if (CW_UNLIKELY(p != end)) goto disagrees;
    if (CW_LIKELY(t->is_quote)) {
        positive = take_decimals(decimals, 4, k, &odds, &row->quote.bid);
        if (CW_UNLIKELY(positive != 15)) row->quote.flags |= CW_FLAG_ONE_SIDED;
    } else {
        positive = take_decimals(decimals, 2, k, &odds, &row->trade.price);
    }
    if (CW_UNLIKELY(positive < 0 || !is_zero(bad))) return forget_hints(t);
    row->quote.instrument = self->instrument = found->instrument;
    if (CW_UNLIKELY(odds.flags)) row->quote.flags |= (uint16_t)odds.flags;
    return 1;
disagrees:
    return is_zero(bad) ? 0 : forget_hints(t);
#undef TO_HOLE
#undef NEXT
#undef NEXT_IF_ANY
#undef INTEGER
}
