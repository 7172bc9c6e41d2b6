/* scan_body.h — the scanner of scan.h, compiled once per level as part of ops_scan.h.
 *
 * Read from the end: ops_scan tries the templates (match), else walks the text (walk_value),
 * recognises the kind of message (recognise), reads its slots (read_slots) and learns (learn). */

/* What follows a literal in a template. Slots that are compared as text (the tag) are literal. */
enum hole {
    HOLE_NONE = 0, /* more of the literal */
    HOLE_END,
    HOLE_PRICE,
    HOLE_SIZE,
    HOLE_INTEGER,
    HOLE_TIME,  /* ms, to be ns */
    HOLE_COUNT, /* 32 bits */
    HOLE_SYMBOL,
    HOLE_BUYER_IS_MAKER,
    HOLE_SIDE,
    HOLE_SKIP_STRING,
    HOLE_SKIP_NUMBER
};

/* The slots of one record, read. */
typedef struct values {
    union {
        double d;
        uint64_t u;
    } slot[CW_SLOTS];
    uint32_t seen;
    uint32_t flags;
    uint32_t instrument;
} values;

#define BIT(slot) (1u << (slot))
#define PRICES                                                                                  \
    (BIT(CW_SLOT_BID) | BIT(CW_SLOT_BID_QTY) | BIT(CW_SLOT_ASK) | BIT(CW_SLOT_ASK_QTY) |        \
     BIT(CW_SLOT_PRICE) | BIT(CW_SLOT_QTY))

/* A time in ms that fits in 63 bits of ns. */
#define TS_MS_MAX (INT64_MAX / 1000000)

/* ------------------------------------------------------------------ values to records */

static inline void write_quote(const values *v, cw_quote *q, uint16_t venue) {
    int has_both = v->slot[CW_SLOT_BID].d > 0 && v->slot[CW_SLOT_BID_QTY].d > 0 &&
                   v->slot[CW_SLOT_ASK].d > 0 && v->slot[CW_SLOT_ASK_QTY].d > 0;
    q->ts_exch = (int64_t)v->slot[CW_SLOT_TS_MS].u * 1000000;
    q->ts_rx = 0;
    q->seq = v->slot[CW_SLOT_SEQ].u;
    q->bid = v->slot[CW_SLOT_BID].d;
    q->bid_qty = v->slot[CW_SLOT_BID_QTY].d;
    q->ask = v->slot[CW_SLOT_ASK].d;
    q->ask_qty = v->slot[CW_SLOT_ASK_QTY].d;
    q->instrument = v->instrument;
    q->venue = venue;
    q->flags = (uint16_t)(v->flags | (has_both ? 0 : CW_FLAG_ONE_SIDED));
}

static inline void write_trade(const values *v, cw_trade *t, uint16_t venue) {
    int is_sell = v->seen & BIT(CW_SLOT_BUYER_IS_MAKER)
                      ? v->slot[CW_SLOT_BUYER_IS_MAKER].u != 0
                      : v->slot[CW_SLOT_SIDE].u != 0;
    t->ts_exch = (int64_t)v->slot[CW_SLOT_TS_MS].u * 1000000;
    t->ts_rx = 0;
    t->seq = v->slot[CW_SLOT_SEQ].u;
    t->trade_id = v->slot[CW_SLOT_TRADE_ID].u;
    t->price = v->slot[CW_SLOT_PRICE].d;
    t->qty = v->slot[CW_SLOT_QTY].d;
    t->count = v->seen & BIT(CW_SLOT_COUNT) ? (uint32_t)v->slot[CW_SLOT_COUNT].u : 1;
    t->side = is_sell ? -1 : 1;
    t->kind = (uint8_t)v->slot[CW_SLOT_TRADE_KIND].u;
    t->reserved = 0;
    t->instrument = v->instrument;
    t->venue = venue;
    t->flags = (uint16_t)v->flags;
}

static inline int write_record(const values *v, const cw_layout_message *message, cw_record *row,
                               uint16_t venue) {
    if (message->record == CW_QUOTE) {
        write_quote(v, &row->quote, venue);
        return CW_SCAN_QUOTE;
    }
    write_trade(v, &row->trade, venue);
    return CW_SCAN_TRADE;
}

/* 0 buy, 1 sell, -1 neither. */
static inline int side_of(const uint8_t *p, uint32_t n) {
    uint32_t word = cw_load_u32(p) | 0x20202020u; /* to lower case; reads into the guard */
    if (n == 3) return (word & 0xFFFFFF) == 0x797562 /* buy */ ? 0 : -1;
    if (n == 4) return word == 0x6C6C6573 /* sell */ ? 1 : -1;
    return -1;
}

/* ------------------------------------------------------------------ text */

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

/* ------------------------------------------------------------------ templates: verify
 *
 * match runs once per message, so what is rare (numbers of more than 16 characters) is kept out
 * of line. No step reads more than 48 bytes behind the end of the message. What a match accepts is
 * ASCII where it was not compared, so it needs no check of its encoding. */

/* What a match gathers on its way. It lives in registers: nothing takes its address. */
typedef struct matched {
    vec16 bad;         /* a bit where a digit was none */
    uint64_t any_zero; /* its top bit: a decimal is zero */
    uint32_t flags;
    cw_symbol *symbol;
} matched;

/* A number that is rare: its length, or 0. */
typedef struct long_number {
    union {
        double decimal;
        uint64_t integer;
    } value;
    uint32_t len;
    uint32_t flags;
} long_number;

static __attribute__((noinline)) long_number long_decimal(const uint8_t *p, const uint8_t *end) {
    long_number found = {.len = 0};
    uint32_t at, left = (uint32_t)(end - p), n = plain_string(p, left);
    if (n > left || p[0] == '-') return found;
    if (cw_decimal_read(p, n, &found.value.decimal, &found.flags, &at) == CW_OK) found.len = n;
    return found;
}

/* How long a scalar is must be known before the one before it is read, or the processor waits. A
 * price of one symbol is nearly always as long as it was the last time, ids and times as long as
 * they were for years: a hint, verified here as far as one look can. A wrong one only ends in a
 * disagreement: digits are checked one by one, and there is no quote among them. */
CW_HOT uint32_t price_len(const uint8_t *p, uint8_t *hint) {
    uint32_t n = *hint;
    if (CW_UNLIKELY((uint16_t)(cw_load_u16(p + n - 1) - ('"' << 8 | '0')) >= 10))
        *hint = (uint8_t)(n = find_quote(p));
    return n;
}

CW_HOT uint32_t integer_len(const uint8_t *p, cw_step *step) {
    uint32_t n = step->hint;
    if (CW_UNLIKELY(n == 0 || (uint8_t)(p[n] - '0') < 10 || (uint8_t)(p[n - 1] - '0') >= 10))
        step->hint = (uint8_t)(n = digit_run(p));
    return n;
}
/* Prices and sizes. Returns the length, 0 for a disagreement. Most venues write a field with the
 * same number of decimals always: the step remembers how many, and one look tells that it still
 * holds. A field that keeps changing has its point searched for. */
CW_HOT uint32_t match_decimal(const uint8_t *p, uint32_t n, const uint8_t *end, cw_step *step,
                              uint8_t *field, lanes k, matched *m) {
    const uint8_t *number_end = p + n;
    uint32_t fraction = step->fraction;
    uint64_t mantissa;
    double value;
    if (CW_UNLIKELY(n - 1 >= 16)) goto is_long;
    if (CW_LIKELY(fraction != CW_FRACTION_VARIES)) {
        if (CW_UNLIKELY(n < fraction + 2 || number_end[-1 - (int)fraction] != '.')) {
            if (++step->surprises == CW_SURPRISES_MAX) step->fraction = CW_FRACTION_VARIES;
            goto is_searched;
        }
        mantissa = pointed_value(number_end, n, fraction, k, &m->bad);
    } else {
    is_searched:
        if (CW_UNLIKELY(!decimal_short(number_end, n, k, &mantissa, &fraction, &m->bad)))
            goto is_long;
    }
    value = (double)(int64_t)mantissa / TENS[fraction];
    m->any_zero |= mantissa - 1;
    memcpy(field, &value, sizeof value);
    return n;
is_long:;
    long_number found = long_decimal(p, end);
    m->any_zero |= (uint64_t)(found.value.decimal == 0) << 63;
    m->flags |= found.flags;
    memcpy(field, &found.value.decimal, sizeof found.value.decimal);
    return found.len;
}

static __attribute__((noinline)) long_number long_integer(const uint8_t *p, uint32_t n) {
    long_number found = {.len = 0};
    vec16 bad = _mm_setzero_si128();
    uint32_t at;
    if (n == 19) { /* nanoseconds */
        vec16 high = digits_of(load16(p - 13), 3, lanes_make(), &bad);
        vec16 low = digits_of(load16(p + 3), 16, lanes_make(), &bad);
        found.value.integer = digits_value(high) * 10000000000000000u + digits_value(low);
        found.len = is_zero(bad) ? n : 0;
    } else if (n <= 20 && cw_integer_read(p, n, &found.value.integer, &at) == CW_OK) {
        found.len = n;
    }
    return found;
}

CW_HOT uint32_t match_integer(const uint8_t *p, uint32_t n, const cw_step *step, lanes k,
                              matched *m, uint64_t *value) {
    if (CW_UNLIKELY(p[0] == '0' && step->is_number && n != 1)) return 0;
    if (CW_LIKELY(n - 1 < 16)) {
        *value = digits_value(digits_of(load16(p + n - 16), n, k, &m->bad));
        return n;
    }
    long_number found = long_integer(p, n);
    *value = found.value.integer;
    return found.len;
}

CW_HOT uint32_t match_symbol(const cw_symbols *symbols, const uint8_t *p, uint32_t n, matched *m) {
    if (CW_LIKELY(n - 1 < 16)) {
        vec16 text = _mm_and_si128(load16(p), FIRST_BYTES(n));
        uint64_t low = (uint64_t)_mm_cvtsi128_si64(text);
        uint64_t high = (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(text, text));
        cw_symbol *s = &symbols->slots[cw_symbol_hash(low, high, n) & (symbols->capacity - 1)];
        if (CW_LIKELY(s->len == n && equal16(load16(s->text), text) == 0xFFFF)) {
            m->symbol = s;
            return n;
        }
    }
    m->symbol = cw_symbols_find(symbols, p, n);
    return m->symbol ? n : 0;
}

static inline uint32_t match_bool(const uint8_t *p, int8_t *side) {
    *side = p[0] == 't' ? -1 : 1;
    if (p[0] == 't') return cw_load_u32(p) == 0x65757274 /* true */ ? 4 : 0;
    return p[0] == 'f' && cw_load_u32(p + 1) == 0x65736C61 /* alse */ ? 5 : 0;
}

/* 1 when the whole message agrees with the template; its record stands in row then.
 *
 * Every hole ends by comparing the next literal and jumping to the next hole: a jump a hole, each
 * from a place of its own, which is what processors predict best. -1: a hint was wrong and is
 * gone now; try again. */
static int match(cw_scanner *self, cw_template *t, const uint8_t *p, const uint8_t *end,
                 cw_record *row) {
    static const void *const TO[] = {
        [HOLE_NONE] = &&none,
        [HOLE_END] = &&message_end,
        [HOLE_PRICE] = &&price,
        [HOLE_SIZE] = &&size,
        [HOLE_INTEGER] = &&integer,
        [HOLE_TIME] = &&time,
        [HOLE_COUNT] = &&count,
        [HOLE_SYMBOL] = &&symbol,
        [HOLE_BUYER_IS_MAKER] = &&buyer_is_maker,
        [HOLE_SIDE] = &&side,
        [HOLE_SKIP_STRING] = &&skip_string,
        [HOLE_SKIP_NUMBER] = &&skip_number,
    };
    cw_symbol nobody; /* takes the hints of prices that stand before the symbol */
    matched m = {_mm_setzero_si128(), 0, 0, &nobody};
    const lanes k = lanes_make();
    cw_step *step = t->steps;
    uint8_t *field;
    uint64_t whole = 0;
    uint32_t n, narrow;
    memset(nobody.hints, 0, sizeof nobody.hints);

#define TO_HOLE                                                                                 \
    do {                                                                                        \
        if ((~equal16(load16(p), load16(step->literal)) & step->mask) != 0) goto disagrees;     \
        p += step->len;                                                                         \
        field = row->bytes + step->offset;                                                      \
        goto *TO[step->hole];                                                                   \
    } while (0)
#define NEXT(len)                                                                               \
    do {                                                                                        \
        n = (len);                                                                              \
        p += n;                                                                                 \
        if (CW_UNLIKELY(n == 0 || p > end)) goto disagrees;                                     \
        step++;                                                                                 \
        TO_HOLE;                                                                                \
    } while (0)

    TO_HOLE;
none:
    step++;
    if (CW_UNLIKELY(p > end)) return 0;
    TO_HOLE;
price:
    NEXT(match_decimal(p, price_len(p, &m.symbol->hints[step->hint]), end, step, field, k, &m));
size:
    NEXT(match_decimal(p, find_quote(p), end, step, field, k, &m));
symbol:
    NEXT(match_symbol(self->symbols, p, find_quote(p), &m));
integer:
    n = match_integer(p, integer_len(p, step), step, k, &m, &whole);
    memcpy(field, &whole, sizeof whole);
    NEXT(n);
time:
    n = match_integer(p, integer_len(p, step), step, k, &m, &whole);
    if (CW_UNLIKELY(whole > TS_MS_MAX)) return 0;
    whole *= 1000000;
    memcpy(field, &whole, sizeof whole);
    NEXT(n);
count:
    n = match_integer(p, integer_len(p, step), step, k, &m, &whole);
    if (CW_UNLIKELY(whole > UINT32_MAX)) return 0;
    narrow = (uint32_t)whole;
    memcpy(field, &narrow, sizeof narrow);
    NEXT(n);
buyer_is_maker:
    NEXT(match_bool(p, (int8_t *)field));
side:
    narrow = (p[0] | 0x20) == 'b' ? 3 : 4;
    *(int8_t *)field = narrow == 3 ? 1 : -1;
    NEXT(side_of(p, narrow) >= 0 ? narrow : 0);
skip_string:
    narrow = plain_string(p, (uint32_t)(end - p));
    NEXT(narrow <= (uint32_t)(end - p) && ops_ascii_prefix(p, narrow) == narrow ? narrow : 0);
skip_number:
    NEXT(number_length(p, end));

disagrees:
    if (is_zero(m.bad)) return 0;
    goto digits;
message_end:
    if (CW_UNLIKELY(p != end)) goto disagrees;
    if (CW_UNLIKELY(!is_zero(m.bad))) goto digits;
    row->quote.instrument = self->instrument = m.symbol->instrument;
    if (CW_UNLIKELY(m.flags || m.any_zero >> 63)) {
        int is_quote = self->layout->messages[t->message].record == CW_QUOTE;
        row->quote.flags |= (uint16_t)m.flags;
        if (m.any_zero >> 63 && is_quote) row->quote.flags |= CW_FLAG_ONE_SIDED;
    }
    return 1;
digits: /* what stood where a hint said that a number ends was the end of another */
    if (!m.symbol) return 0;
    narrow = 0;
    for (uint32_t i = 0; i < CW_HINTS; i++) narrow |= m.symbol->hints[i];
    memset(m.symbol->hints, 0, sizeof m.symbol->hints);
    return m.symbol != &nobody && narrow ? -1 : 0;
#undef TO_HOLE
#undef NEXT
}

/* ------------------------------------------------------------------ the order-free walk */

typedef struct found {
    uint32_t at, len;
    uint8_t text; /* cw_text_kind */
} found;

#define MARKS_MAX 40

typedef struct mark { /* a scalar that may become a hole */
    uint32_t at, len;
    uint8_t slot, text;
} mark;

typedef struct walk {
    cw_scanner *self;
    const uint8_t *start, *end;
    uint32_t depth;
    uint32_t seen;
    uint32_t element_count; /* of the array of records */
    uint32_t mark_count;
    const uint8_t *element_next; /* behind the first element of the array of records */
    int has_elements;            /* the array of records was there, maybe empty */
    uint8_t visited[CW_LAYOUT_NODES_MAX]; /* nodes whose key was seen */
    found slot[CW_SLOTS];
    mark marks[MARKS_MAX];
} walk;

#define NO_NODE 0xFFFFu

static const uint8_t *refuse(walk *w, const uint8_t *p, int code) {
    w->self->error.code = code;
    w->self->error.at = (uint64_t)(p - w->start);
    return NULL;
}

static const uint8_t *refuse_here(walk *w, const uint8_t *p) {
    return refuse(w, p, p >= w->end ? CW_E_JSON_CUT : CW_E_JSON_SYNTAX);
}

static inline const uint8_t *skip_space(const uint8_t *p, const uint8_t *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) p++;
    return p;
}

/* p stands behind the opening quote. Returns the closing quote; *is_plain: no escapes. */
static const uint8_t *walk_string(walk *w, const uint8_t *p, int *is_plain) {
    static const char SIMPLE[] = "\"\\/bfnrt";
    uint32_t left = (uint32_t)(w->end - p), n = plain_string(p, left);
    *is_plain = 1;
    if (n <= left && p + n < w->end) return p + n;
    for (; p < w->end; p++) {
        if (*p == '"') return p;
        if (*p < 0x20) return refuse_here(w, p);
        if (*p != '\\') continue;
        *is_plain = 0;
        if (++p >= w->end) break;
        if (*p == 'u') {
            for (int i = 0; i < 4; i++) {
                if (++p >= w->end) return refuse_here(w, w->end);
                if (!((*p >= '0' && *p <= '9') || ((*p | 0x20) >= 'a' && (*p | 0x20) <= 'f')))
                    return refuse_here(w, p);
            }
        } else if (*p == 0 || !memchr(SIMPLE, *p, sizeof SIMPLE - 1)) {
            return refuse_here(w, p);
        }
    }
    return refuse_here(w, w->end);
}

/* Write a key without its escapes to `out`; returns its length, above CW_KEY_MAX when it is none
 * that a layout may name. */
static uint32_t unescape_key(const uint8_t *p, const uint8_t *end, uint8_t out[CW_KEY_MAX]) {
    static const char FROM[] = "\"\\/bfnrt", TO_BYTE[] = "\"\\/\b\f\n\r\t";
    uint32_t n = 0;
    while (p < end) {
        uint32_t c = *p++;
        if (n == CW_KEY_MAX) return CW_KEY_MAX + 1;
        if (c == '\\' && *p == 'u') {
            c = 0;
            for (int i = 1; i <= 4; i++) {
                uint32_t digit = p[i] <= '9' ? p[i] - (uint32_t)'0' : (p[i] | 0x20u) - 'a' + 10;
                c = c << 4 | digit;
            }
            p += 5;
        } else if (c == '\\') {
            c = (uint8_t)TO_BYTE[(const char *)memchr(FROM, *p++, sizeof FROM - 1) - FROM];
        }
        if (c > 0x7F) return CW_KEY_MAX + 1; /* no layout names such a key */
        out[n++] = (uint8_t)c;
    }
    return n;
}

/* The child of `node` at this key, or NO_NODE. */
static uint32_t child_at_key(const cw_layout *layout, uint32_t node, const uint8_t *key,
                             uint32_t len) {
    const cw_layout_node *parent;
    if (node == NO_NODE || len > CW_KEY_MAX) return NO_NODE;
    parent = &layout->nodes[node];
    for (uint32_t i = 0; i < parent->child_count; i++) {
        const cw_layout_node *child = &layout->nodes[parent->child_first + i];
        if (child->index == CW_INDEX_KEY && child->key_len == len &&
            memcmp(child->key, key, len) == 0)
            return parent->child_first + i;
    }
    return NO_NODE;
}

static uint32_t child_at_index(const cw_layout *layout, uint32_t node, uint32_t index) {
    const cw_layout_node *parent;
    if (node == NO_NODE) return NO_NODE;
    parent = &layout->nodes[node];
    for (uint32_t i = 0; i < parent->child_count; i++) {
        const cw_layout_node *child = &layout->nodes[parent->child_first + i];
        if (child->index == CW_INDEX_EACH || (index < CW_INDEX_KEY && child->index == index))
            return parent->child_first + i;
    }
    return NO_NODE;
}

/* Note that `node` stands at [at, at + len); 0 when its slot was taken before. */
static int take_slot(walk *w, uint32_t node, const uint8_t *at, uint32_t len, cw_text_kind text) {
    uint32_t slot = node == NO_NODE ? CW_SLOT_NONE : w->self->layout->nodes[node].slot;
    if (text == CW_TEXT_STRING || text == CW_TEXT_NUMBER || text == CW_TEXT_BOOL) {
        if (w->mark_count < MARKS_MAX)
            w->marks[w->mark_count] =
                (mark){(uint32_t)(at - w->start), len, (uint8_t)slot, (uint8_t)text};
        w->mark_count++;
    }
    if (slot == CW_SLOT_NONE) return 1;
    if (w->seen & BIT(slot)) {
        refuse(w, at, CW_E_KEY_DOUBLED);
        return 0;
    }
    w->seen |= BIT(slot);
    w->slot[slot] = (found){(uint32_t)(at - w->start), len, (uint8_t)text};
    return 1;
}

static const uint8_t *walk_value(walk *w, const uint8_t *p, uint32_t node);

static const uint8_t *walk_object(walk *w, const uint8_t *p, uint32_t node) {
    p = skip_space(p + 1, w->end);
    if (p < w->end && *p == '}') return p + 1;
    for (;;) {
        const uint8_t *key, *key_end;
        uint8_t plain[CW_KEY_MAX];
        int is_plain;
        uint32_t child;
        if (p >= w->end || *p != '"') return refuse_here(w, p);
        key = p + 1;
        if (!(key_end = walk_string(w, key, &is_plain))) return NULL;
        child = is_plain ? child_at_key(w->self->layout, node, key, (uint32_t)(key_end - key))
                         : child_at_key(w->self->layout, node, plain,
                                        unescape_key(key, key_end, plain));
        if (child != NO_NODE && w->visited[child]++) return refuse(w, key, CW_E_KEY_DOUBLED);
        p = skip_space(key_end + 1, w->end);
        if (p >= w->end || *p != ':') return refuse_here(w, p);
        if (!(p = walk_value(w, skip_space(p + 1, w->end), child))) return NULL;
        p = skip_space(p, w->end);
        if (p < w->end && *p == '}') return p + 1;
        if (p >= w->end || *p != ',') return refuse_here(w, p);
        p = skip_space(p + 1, w->end);
    }
}

/* The elements of the array of records: the first is walked as a record, the others are only
 * validated here and walked again by ops_scan_next. */
static const uint8_t *walk_record(walk *w, const uint8_t *p, uint32_t child, uint32_t index) {
    if (index == 0) {
        if (w->element_count) return refuse(w, p, CW_E_KEY_DOUBLED);
        p = walk_value(w, p, child);
        w->element_next = p;
    } else {
        p = walk_value(w, p, NO_NODE);
    }
    w->element_count = index + 1;
    return p;
}

static const uint8_t *walk_array(walk *w, const uint8_t *p, uint32_t node) {
    const cw_layout *layout = w->self->layout;
    uint32_t slot = node == NO_NODE ? CW_SLOT_NONE : layout->nodes[node].slot;
    if (node != NO_NODE && child_at_index(layout, node, 0) == layout->each_node)
        w->has_elements = 1;
    p = skip_space(p + 1, w->end);
    if (p < w->end && *p == ']') return p + 1;
    if (slot != CW_SLOT_NONE) w->slot[slot].len = 1; /* it is not empty */
    for (uint32_t index = 0;; index++) {
        uint32_t child = child_at_index(layout, node, index);
        int is_record = child != NO_NODE && child == layout->each_node;
        p = is_record ? walk_record(w, p, child, index) : walk_value(w, p, child);
        if (!p) return NULL;
        p = skip_space(p, w->end);
        if (p < w->end && *p == ']') return p + 1;
        if (p >= w->end || *p != ',') return refuse_here(w, p);
        p = skip_space(p + 1, w->end);
    }
}

static const uint8_t *walk_word(walk *w, const uint8_t *p, uint32_t node, const char *word,
                                uint32_t n, cw_text_kind text) {
    for (uint32_t i = 0; i < n; i++)
        if (p + i >= w->end || p[i] != (uint8_t)word[i]) return refuse_here(w, p + i);
    return take_slot(w, node, p, n, text) ? p + n : NULL;
}

/* Say where a text that begins like a number stops being one, or that it is cut. */
static const uint8_t *refuse_number(walk *w, const uint8_t *p) {
    const uint8_t *stop = p;
    while (stop < w->end && *stop && memchr("-+.eE0123456789", *stop, 15)) stop++;
    if (stop == w->end && stop != p) return refuse_here(w, stop);
    return refuse_here(w, *p == '-' ? p + 1 : p);
}

static const uint8_t *walk_container(walk *w, const uint8_t *p, uint32_t node) {
    const uint8_t *next;
    int is_object = *p == '{';
    if (!take_slot(w, node, p, 0, is_object ? CW_TEXT_OBJECT : CW_TEXT_ARRAY)) return NULL;
    if (++w->depth > CW_JSON_DEPTH) return refuse(w, p, CW_E_JSON_DEPTH);
    next = is_object ? walk_object(w, p, node) : walk_array(w, p, node);
    w->depth--;
    return next;
}

/* Walk one value; returns what is behind it, or NULL with the error set. */
static const uint8_t *walk_value(walk *w, const uint8_t *p, uint32_t node) {
    const uint8_t *end;
    int is_plain;
    uint32_t n;
    if (p >= w->end) return refuse_here(w, p);
    switch (*p) {
    case '{':
    case '[': return walk_container(w, p, node);
    case '"':
        if (!(end = walk_string(w, ++p, &is_plain))) return NULL;
        return take_slot(w, node, p, (uint32_t)(end - p), CW_TEXT_STRING) ? end + 1 : NULL;
    case 't': return walk_word(w, p, node, "true", 4, CW_TEXT_BOOL);
    case 'f': return walk_word(w, p, node, "false", 5, CW_TEXT_BOOL);
    case 'n': return walk_word(w, p, node, "null", 4, CW_TEXT_NULL);
    default:
        n = number_length(p, w->end);
        if (n == 0) return refuse_number(w, p);
        return take_slot(w, node, p, n, CW_TEXT_NUMBER) ? p + n : NULL;
    }
}

/* ------------------------------------------------------------------ slots to values */

static int refuse_slot(walk *w, const found *f, uint32_t offset, int code) {
    refuse(w, w->start + f->at + offset, code);
    return code;
}

static uint64_t hash_text(const uint8_t *p, uint32_t n) { /* FNV-1a, 64 bits */
    uint64_t h = 0xCBF29CE484222325u;
    for (uint32_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001B3u;
    return h;
}

static int read_price(walk *w, const found *f, values *v, uint32_t slot) {
    uint32_t flags = 0, at = 0;
    int code = ops_decimal(w->start + f->at, f->len, &v->slot[slot].d, &flags, &at);
    if (code != CW_OK) return refuse_slot(w, f, at, code);
    if (v->slot[slot].d < 0) return refuse_slot(w, f, 0, CW_E_NUMBER_RANGE);
    v->flags |= flags;
    return CW_OK;
}

static int read_whole(walk *w, const found *f, values *v, uint32_t slot, uint64_t max) {
    uint32_t at = 0;
    const uint8_t *p = w->start + f->at;
    int code = cw_integer_read(p, f->len, &v->slot[slot].u, &at);
    if (code != CW_OK && slot == CW_SLOT_TRADE_ID && f->len &&
        (f->text == CW_TEXT_STRING || code == CW_E_NUMBER_RANGE)) {
        v->slot[slot].u = hash_text(p, f->len);
        v->flags |= CW_FLAG_ID_HASHED;
        return CW_OK;
    }
    if (code != CW_OK) return refuse_slot(w, f, at, code);
    if (v->slot[slot].u > max) return refuse_slot(w, f, 0, CW_E_NUMBER_RANGE);
    return CW_OK;
}

static int read_slot(walk *w, uint32_t slot, values *v) {
    const found *f = &w->slot[slot];
    const uint8_t *p = w->start + f->at;
    int side;
    if (BIT(slot) & PRICES) return read_price(w, f, v, slot);
    switch (slot) {
    case CW_SLOT_SEQ:
    case CW_SLOT_TRADE_ID: return read_whole(w, f, v, slot, UINT64_MAX);
    case CW_SLOT_TS_MS: return read_whole(w, f, v, slot, TS_MS_MAX);
    case CW_SLOT_COUNT: return read_whole(w, f, v, slot, UINT32_MAX);
    case CW_SLOT_BUYER_IS_MAKER: v->slot[slot].u = *p == 't'; return CW_OK;
    case CW_SLOT_TRADE_KIND:
        v->slot[slot].u = !(f->len == 6 && memcmp(p, "MARKET", 6) == 0);
        return CW_OK;
    case CW_SLOT_SIDE:
        side = side_of(p, f->len);
        v->slot[slot].u = (uint64_t)side;
        return side < 0 ? refuse_slot(w, f, 0, CW_E_TYPE) : CW_OK;
    default: return CW_OK; /* symbol, tag, containers: no value of their own */
    }
}

/* A side that is an array holds a price and a size, or nothing at all. */
static int check_side(walk *w, const cw_layout_message *message, uint32_t side, uint32_t parts) {
    const found *f = &w->slot[side];
    uint32_t want = (message->used & w->seen & BIT(side)) && f->len ? parts : 0;
    if (!(message->used & BIT(side)) || (w->seen & parts) == want) return CW_OK;
    return refuse_slot(w, f, 0, CW_E_TYPE);
}

/* Read every slot that this kind of message uses, checking each one's JSON type first. */
static int read_slots(walk *w, const cw_layout_message *message, values *v) {
    uint32_t missing = message->required & ~w->seen;
    int code;
    memset(v, 0, sizeof *v);
    v->instrument = w->self->instrument;
    v->seen = w->seen & message->used;
    if (missing) {
        refuse(w, w->end, CW_E_KEY_MISSING);
        return CW_E_KEY_MISSING;
    }
    for (uint32_t rest = v->seen; rest; rest &= rest - 1) {
        uint32_t slot = (uint32_t)__builtin_ctz(rest);
        if (message->text[slot] != CW_TEXT_ANY && w->slot[slot].text != message->text[slot])
            return refuse_slot(w, &w->slot[slot], 0, CW_E_TYPE);
        if ((code = read_slot(w, slot, v)) != CW_OK) return code;
    }
    code = check_side(w, message, CW_SLOT_ASKS, BIT(CW_SLOT_ASK) | BIT(CW_SLOT_ASK_QTY));
    if (code != CW_OK) return code;
    return check_side(w, message, CW_SLOT_BIDS, BIT(CW_SLOT_BID) | BIT(CW_SLOT_BID_QTY));
}

/* ------------------------------------------------------------------ recognising */

static const cw_layout_message *recognise(const walk *w) {
    const cw_layout *layout = w->self->layout;
    const found *tag = &w->slot[CW_SLOT_TAG];
    int has_tag = (w->seen & BIT(CW_SLOT_TAG)) != 0;
    if (w->seen & BIT(CW_SLOT_CONTROL)) return NULL;
    for (uint32_t i = 0; i < layout->message_count; i++) {
        const cw_layout_message *m = &layout->messages[i];
        if (m->tag_len == 0 ? has_tag : !has_tag || tag->text != CW_TEXT_STRING) continue;
        if (m->tag_len && (tag->len != m->tag_len ||
                           memcmp(w->start + tag->at, m->tag, m->tag_len) != 0))
            continue;
        if (m->any_of && !(m->any_of & w->seen)) continue;
        return m;
    }
    return NULL;
}

/* Find the instrument of the symbol that was seen; a new one is made where that is allowed. */
static int find_instrument(walk *w) {
    cw_scanner *self = w->self;
    const found *f = &w->slot[CW_SLOT_SYMBOL];
    const uint8_t *p = w->start + f->at;
    const cw_symbol *symbol;
    int code;
    if (!(w->seen & BIT(CW_SLOT_SYMBOL)) || f->text != CW_TEXT_STRING) return CW_OK;
    if ((symbol = cw_symbols_find(self->symbols, p, f->len)) != NULL) {
        self->instrument = symbol->instrument;
        return CW_OK;
    }
    if (!self->instrument_next || f->len == 0 || f->len > CW_SYMBOL_MAX)
        return refuse_slot(w, f, 0, CW_E_SYMBOL_UNKNOWN);
    if (*self->instrument_next >= self->instrument_limit)
        return refuse_slot(w, f, 0, CW_E_SYMBOLS_FULL);
    code = cw_symbols_add(self->symbols, p, f->len, *self->instrument_next);
    if (code != CW_OK) return refuse_slot(w, f, 0, CW_E_SYMBOLS_FULL);
    self->instrument = (*self->instrument_next)++;
    return CW_OK;
}

/* ------------------------------------------------------------------ templates: learn */

/* HOLE_END: its text is part of the literal. */
static uint8_t hole_for(const mark *m, uint32_t used) {
    uint32_t slot = m->slot;
    int is_used = slot != CW_SLOT_NONE && (used & BIT(slot));
    if (m->len == 0) return HOLE_END;
    if (m->text == CW_TEXT_BOOL)
        return slot == CW_SLOT_BUYER_IS_MAKER && is_used ? HOLE_BUYER_IS_MAKER : HOLE_END;
    if (!is_used) return m->text == CW_TEXT_NUMBER ? HOLE_SKIP_NUMBER : HOLE_SKIP_STRING;
    if (slot == CW_SLOT_BID || slot == CW_SLOT_ASK || slot == CW_SLOT_PRICE) return HOLE_PRICE;
    if (BIT(slot) & PRICES) return HOLE_SIZE;
    switch (slot) {
    case CW_SLOT_SYMBOL: return HOLE_SYMBOL;
    case CW_SLOT_SIDE: return HOLE_SIDE;
    case CW_SLOT_TS_MS: return HOLE_TIME;
    case CW_SLOT_COUNT: return HOLE_COUNT;
    case CW_SLOT_SEQ:
    case CW_SLOT_TRADE_ID: return HOLE_INTEGER;
    default: return HOLE_END; /* tag, kind of trade */
    }
}

static uint8_t field_offset(uint32_t slot, uint32_t record) {
    switch (slot) {
    case CW_SLOT_BID: return offsetof(cw_quote, bid);
    case CW_SLOT_BID_QTY: return offsetof(cw_quote, bid_qty);
    case CW_SLOT_ASK: return offsetof(cw_quote, ask);
    case CW_SLOT_ASK_QTY: return offsetof(cw_quote, ask_qty);
    case CW_SLOT_SEQ: return record == CW_QUOTE ? offsetof(cw_quote, seq) : offsetof(cw_trade, seq);
    case CW_SLOT_TRADE_ID: return offsetof(cw_trade, trade_id);
    case CW_SLOT_PRICE: return offsetof(cw_trade, price);
    case CW_SLOT_QTY: return offsetof(cw_trade, qty);
    case CW_SLOT_COUNT: return offsetof(cw_trade, count);
    case CW_SLOT_SIDE:
    case CW_SLOT_BUYER_IS_MAKER: return offsetof(cw_trade, side);
    default: return offsetof(cw_quote, ts_exch); /* the same in both */
    }
}

/* Append a literal in pieces, the last of which is followed by `hole`; 0 when it does not fit. */
static int add_steps(cw_template *t, const uint8_t *p, uint32_t n, uint8_t hole, uint8_t offset) {
    for (;;) {
        uint32_t piece = n < CW_LITERAL_MAX ? n : CW_LITERAL_MAX;
        cw_step *step = &t->steps[t->step_count];
        if (t->step_count == CW_TEMPLATE_STEPS) return 0;
        t->step_count++;
        memset(step, 0, sizeof *step);
        memcpy(step->literal, p, piece);
        step->len = (uint8_t)piece;
        step->mask = (uint16_t)((1u << piece) - 1);
        p += piece;
        n -= piece;
        if (n) continue;
        step->hole = hole;
        step->offset = offset;
        step->hint = hole == HOLE_PRICE ? (uint8_t)(t->step_count % CW_HINTS) : 0;
        return 1;
    }
}

/* The record before its holes are filled: what no hole fills stays as it is here. */
static void make_blank(const cw_scanner *self, const cw_layout_message *message, uint32_t seen,
                       cw_record *blank) {
    uint32_t sides = BIT(CW_SLOT_BID) | BIT(CW_SLOT_BID_QTY) | BIT(CW_SLOT_ASK) |
                     BIT(CW_SLOT_ASK_QTY);
    values v;
    memset(&v, 0, sizeof v);
    memset(blank, 0, sizeof *blank);
    (void)write_record(&v, message, blank, self->venue);
    blank->quote.flags = message->record == CW_QUOTE && (seen & sides) != sides
                             ? CW_FLAG_ONE_SIDED
                             : 0;
}

/* How many decimals a number shows, or that they are to be searched for. */
static uint8_t decimals_of(const uint8_t *p, uint32_t n) {
    const uint8_t *point = memchr(p, '.', n);
    uint32_t fraction = point ? (uint32_t)(p + n - point) - 1 : 0;
    return fraction - 1 < 15 ? (uint8_t)fraction : CW_FRACTION_VARIES;
}

/* Write the message's structure into t; 0 when it does not fit. */
static int build_template(const walk *w, const cw_layout_message *message, cw_template *t) {
    uint32_t at = 0, end = (uint32_t)(w->end - w->start);
    t->step_count = 0;
    t->message = (uint16_t)(message - w->self->layout->messages);
    make_blank(w->self, message, w->seen & message->used, &t->blank);
    for (uint32_t i = 0; i < w->mark_count; i++) {
        const mark *m = &w->marks[i];
        uint8_t hole = hole_for(m, message->used);
        if (hole == HOLE_END) continue;
        if (!add_steps(t, w->start + at, m->at - at, hole, field_offset(m->slot, message->record)))
            return 0;
        t->steps[t->step_count - 1].is_number = m->text == CW_TEXT_NUMBER;
        t->steps[t->step_count - 1].fraction = decimals_of(w->start + m->at, m->len);
        at = m->at + m->len;
    }
    return add_steps(t, w->start + at, end - at, HOLE_END, 0);
}

/* A price that is a JSON number has no hole, and the kind of a trade is not read from a template:
 * messages with the one or an unusual other are not learned. */
static int is_learnable(const walk *w, const cw_layout_message *message, const values *v) {
    if (w->element_count > 1 || w->mark_count >= MARKS_MAX) return 0;
    if ((v->flags & CW_FLAG_ID_HASHED) || v->slot[CW_SLOT_TRADE_KIND].u) return 0;
    if (!(w->seen & BIT(CW_SLOT_SYMBOL))) return 0;
    for (uint32_t i = 0; i < w->mark_count; i++) {
        const mark *m = &w->marks[i];
        if (m->slot != CW_SLOT_NONE && (BIT(m->slot) & PRICES & message->used) &&
            m->text != CW_TEXT_STRING)
            return 0;
    }
    return 1;
}

static void to_front(cw_scanner *self, uint32_t position) {
    uint8_t index = self->order[position];
    memmove(self->order + 1, self->order, position);
    self->order[0] = index;
}

/* Keep the structure of a message that was understood. A stream whose key order keeps changing is
 * learned from only now and then, so that it does not pay for what it cannot use. */
static void learn(const walk *w, const cw_layout_message *message, const values *v) {
    cw_scanner *self = w->self;
    cw_template fresh;
    uint32_t position = self->template_count;
    if (!self->predicts || !is_learnable(w, message, v)) return;
    if (++self->miss_run > 32 && (self->miss_run & 15)) return;
    if (!build_template(w, message, &fresh)) return;
    if (position == CW_TEMPLATES) {
        position--; /* the least recently used one goes */
    } else {
        self->order[position] = (uint8_t)position;
        self->template_count++;
    }
    self->templates[self->order[position]] = fresh;
    to_front(self, position);
}

/* ------------------------------------------------------------------ entry points */

static int fail_message(walk *w) {
    cw_error error = w->self->error;
    /* say whose message it was, where its symbol was read before the fault */
    (void)find_instrument(w);
    w->self->error = error;
    return error.code;
}

static void begin_walk(walk *w, cw_scanner *self, const uint8_t *p, const uint8_t *end) {
    w->self = self;
    w->start = p;
    w->end = end;
    w->depth = w->seen = w->element_count = w->mark_count = 0;
    w->element_next = NULL;
    w->has_elements = 0;
    memset(w->visited, 0, sizeof w->visited);
}

/* The message was walked and is of a known kind: read its first record. */
static int take_first(walk *w, const cw_layout_message *message, cw_record *row) {
    cw_scanner *self = w->self;
    values v;
    int code;
    self->kind = message->kind;
    if (self->layout->each_node != 0xFFFF && w->element_count == 0 &&
        message->record != CW_COUNTED) {
        uint32_t head = BIT(CW_SLOT_SYMBOL) | BIT(CW_SLOT_TAG);
        if (message->required & head & ~w->seen || self->instrument == CW_NO_INSTRUMENT ||
            !w->has_elements) {
            refuse(w, w->end, CW_E_KEY_MISSING);
            return CW_E_KEY_MISSING;
        }
        return CW_SCAN_COUNTED; /* an empty array of records */
    }
    if ((code = read_slots(w, message, &v)) != CW_OK) return code;
    if (message->record == CW_COUNTED) return CW_SCAN_COUNTED;
    self->matched = message;
    self->next_at = w->element_count > 1 ? w->element_next : NULL;
    learn(w, message, &v);
    return write_record(&v, message, row, self->venue);
}

/* Messages that a template takes are ASCII; the others are checked to be UTF-8 here. */
static int check_text(walk *w) {
    size_t n = (size_t)(w->end - w->start), ascii = ops_ascii_prefix(w->start, n), at = 0;
    cw_utf8 utf8 = {0, 0, 0};
    if (CW_LIKELY(ascii == n)) return CW_OK;
    if (cw_utf8_feed(&utf8, w->start + ascii, n - ascii, &at) == CW_OK) {
        if (cw_utf8_is_whole(&utf8)) return CW_OK;
        at = n - ascii;
    }
    refuse(w, w->start + ascii + at, CW_E_UTF8);
    return CW_E_UTF8;
}

static __attribute__((noinline)) int scan_by_walk(cw_scanner *self, const uint8_t *p,
                                                  const uint8_t *end, cw_record *row) {
    const cw_layout_message *message;
    const uint8_t *rest;
    walk w;
    int code;
    begin_walk(&w, self, p, end);
    if ((code = check_text(&w)) != CW_OK) return code;
    if ((size_t)(end - p) == self->layout->word_len &&
        memcmp(p, self->layout->word, self->layout->word_len) == 0 && p != end)
        return CW_SCAN_CONTROL;
    rest = walk_value(&w, skip_space(p, end), 0);
    if (!rest) return fail_message(&w);
    rest = skip_space(rest, end);
    if (rest != end) {
        refuse(&w, rest, CW_E_JSON_TRAILING);
        return fail_message(&w);
    }
    if (!(message = recognise(&w))) return CW_SCAN_CONTROL;
    if ((code = find_instrument(&w)) != CW_OK) return code;
    code = take_first(&w, message, row);
    if (code < CW_E_FIRST && self->next_at) {
        self->message = p;
        self->message_end = end;
    }
    return code;
}

CW_HOT int scan_message(cw_scanner *self, const uint8_t *p, uint32_t n, cw_record *row) {
    const uint8_t *end = p + n;
    self->instrument = CW_NO_INSTRUMENT;
    self->next_at = NULL;
    for (uint32_t i = 0; i < self->template_count; i++) {
        cw_template *t = &self->templates[self->order[i]];
        const cw_layout_message *message;
        int agrees;
        *row = t->blank;
        agrees = match(self, t, p, end, row);
        if (CW_UNLIKELY(agrees < 0)) agrees = match(self, t, p, end, row) > 0;
        if (!agrees) continue;
        if (CW_UNLIKELY(i)) to_front(self, i);
        self->miss_run = 0;
        self->hits++;
        message = &self->layout->messages[t->message];
        self->kind = message->kind;
        return message->record == CW_QUOTE ? CW_SCAN_QUOTE : CW_SCAN_TRADE;
    }
    self->instrument = CW_NO_INSTRUMENT;
    self->misses++;
    return scan_by_walk(self, p, end, row);
}

static int ops_scan(cw_scanner *self, const uint8_t *p, uint32_t n, cw_record *row) {
    return scan_message(self, p, n, row);
}

/* Records behind the first are rare (a push of several trades): each element is walked again.
 * Symbol and tag stand outside the elements; they were read with the first record. */
static int ops_scan_next(cw_scanner *self, cw_record *row) {
    const uint8_t *p = self->next_at;
    cw_layout_message element;
    values v;
    walk w;
    int code;
    if (!p) return CW_SCAN_END;
    begin_walk(&w, self, self->message, self->message_end);
    p = skip_space(p, w.end);
    if (p >= w.end || *p != ',') return self->next_at = NULL, CW_SCAN_END;
    p = walk_value(&w, skip_space(p + 1, w.end), self->layout->each_node);
    self->next_at = p;
    if (!p) return self->error.code;
    element = *self->matched;
    element.required &= ~(BIT(CW_SLOT_SYMBOL) | BIT(CW_SLOT_TAG));
    if ((code = read_slots(&w, &element, &v)) != CW_OK) return self->next_at = NULL, code;
    return write_record(&v, &element, row, self->venue);
}
