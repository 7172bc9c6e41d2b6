/* scan_walk.h — the order-free walk: a whole validating JSON parser that notes where the slots of a
 * layout stand, and the reading of them. */

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
        if (memchr(p, '\\', f->len)) return refuse_slot(w, f, 0, CW_E_TYPE);
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
