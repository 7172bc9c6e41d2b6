/* scan_body.h — the scanner of scan.h, compiled once per level as part of ops_scan.h.
 *
 * Read from the end: scan_message tries the templates (match), else walks the text (walk_value),
 * recognises the kind of message (recognise), reads its slots (read_slots) and learns (learn). */

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
    if (code != CW_OK)
        return refuse_slot(w, f, 0, code == CW_FULL ? CW_E_SYMBOLS_FULL : CW_E_SYMBOL_UNKNOWN);
    self->instrument = (*self->instrument_next)++;
    return CW_OK;
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
    size_t at;
    if (CW_LIKELY(ops_is_utf8(w->start, (size_t)(w->end - w->start), &at))) return CW_OK;
    refuse(w, w->start + at, CW_E_UTF8);
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

/* Read the message by this template. 1, 0 and -1 as match. */
CW_HOT int scan_by_template(cw_scanner *self, cw_template *t, const uint8_t *p,
                            const uint8_t *end, cw_record *row) {
    *row = t->blank;
    return match(self, t, p, end, row);
}

/* Each template in its turn, then the walk. */
static __attribute__((noinline)) int ops_scan(cw_scanner *self, const uint8_t *p, uint32_t n,
                                              cw_record *row) {
    const uint8_t *end = p + n;
    self->next_at = NULL;
    for (uint32_t i = 0; i < self->template_count; i++) {
        cw_template *t = &self->templates[self->order[i]];
        int agrees = scan_by_template(self, t, p, end, row);
        if (agrees < 0) agrees = scan_by_template(self, t, p, end, row);
        if (agrees <= 0) continue;
        to_front(self, i);
        self->miss_run = 0;
        self->hits++;
        self->kind = t->kind;
        return t->is_quote ? CW_SCAN_QUOTE : CW_SCAN_TRADE;
    }
    self->instrument = CW_NO_INSTRUMENT;
    self->misses++;
    return scan_by_walk(self, p, end, row);
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
