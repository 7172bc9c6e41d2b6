/* scan_learn.h — templates: made of messages that the walk understood. */

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

/* Where a hole's value goes: its place among the decimals, or the field's offset in the record. */
static uint8_t target_of(uint32_t slot, uint32_t record) {
    switch (slot) {
    case CW_SLOT_BID:
    case CW_SLOT_PRICE: return 0;
    case CW_SLOT_BID_QTY:
    case CW_SLOT_QTY: return 1;
    case CW_SLOT_ASK: return 2;
    case CW_SLOT_ASK_QTY: return 3;
    case CW_SLOT_SEQ: return record == CW_QUOTE ? offsetof(cw_quote, seq) : offsetof(cw_trade, seq);
    case CW_SLOT_TRADE_ID: return offsetof(cw_trade, trade_id);
    case CW_SLOT_COUNT: return offsetof(cw_trade, count);
    case CW_SLOT_SIDE:
    case CW_SLOT_BUYER_IS_MAKER: return offsetof(cw_trade, side);
    default: return offsetof(cw_quote, ts_exch); /* the same in both */
    }
}

/* Append a literal in pieces, the last of which is followed by `hole`; 0 when it does not fit. */
static int add_steps(cw_template *t, const uint8_t *p, uint32_t n, uint8_t hole, uint8_t target) {
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
        step->target = target;
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

/* How many decimals a number shows; 0 where they are to be searched for. */
static uint8_t fraction_shown(const uint8_t *p, uint32_t n) {
    const uint8_t *point = memchr(p, '.', n);
    uint32_t fraction = point ? (uint32_t)(p + n - point) - 1 : 0;
    return fraction < 15 ? (uint8_t)fraction : 0;
}

static void set_decimal(cw_template *t, cw_step *step, uint8_t fraction) {
    t->decimals |= (uint8_t)(1u << step->target);
    step->fraction = fraction;
    if (fraction == 0) step->hole = HOLE_VARYING;
}

/* Write the message's structure into t; 0 when it does not fit. */
static int build_template(const walk *w, const cw_layout_message *message, cw_template *t) {
    uint32_t at = 0, end = (uint32_t)(w->end - w->start);
    t->step_count = 0;
    t->decimals = 0;
    t->is_quote = message->record == CW_QUOTE;
    t->kind = message->kind;
    make_blank(w->self, message, w->seen & message->used, &t->blank);
    for (uint32_t i = 0; i < w->mark_count; i++) {
        const mark *m = &w->marks[i];
        uint8_t hole = hole_for(m, message->used);
        uint8_t target = target_of(m->slot, message->record);
        cw_step *step;
        if (hole == HOLE_END) continue;
        if (!add_steps(t, w->start + at, m->at - at, hole, target)) return 0;
        step = &t->steps[t->step_count - 1];
        step->is_number = m->text == CW_TEXT_NUMBER;
        if (hole == HOLE_PRICE || hole == HOLE_SIZE)
            set_decimal(t, step, fraction_shown(w->start + m->at, m->len));
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
    if (w->slot[CW_SLOT_SYMBOL].text != CW_TEXT_STRING) return 0;
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
    self->front = &self->templates[index];
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
