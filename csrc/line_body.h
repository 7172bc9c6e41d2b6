/* line_body.h — bytes to messages to the engine: frames, fragments, control frames, the inbox.
 *
 * Compiled once per instruction-set level together with the scanner, so that the way of a message
 * from its frame to the ring is one function. Read from the end: line_parse, take_texts, step. */
#include "crosswire/line.h"

/* ---- errors and the inbox ---- */

/* Count a message that was lost to an error, and trust nothing that it may have changed. */
static uint32_t lose_message(cw_line *self, int code, uint64_t at, uint32_t instrument) {
    cw_line_error *slot = &self->errors[self->error_count++ % CW_LINE_ERRORS];
    slot->error = (cw_error){at, code, 0};
    slot->message = self->messages - 1;
    slot->instrument = instrument;
    self->engine->errors[code - CW_E_FIRST]++;
    /* a symbol that is nobody's has changed nobody's top */
    if (code == CW_E_SYMBOL_UNKNOWN || code == CW_E_SYMBOLS_FULL) return 0;
    return cw_engine_distrust(self->engine, self->id, instrument);
}

static uint32_t inbox_size(uint64_t n) {
    return (uint32_t)sizeof(cw_inbox_entry) + (((uint32_t)n + 3) & ~3u);
}

/* 1 when a message of n bytes must wait until the inbox has been emptied. */
static int inbox_must_drain(const cw_line *self, uint64_t n) {
    if (self->inbox_len == 0) return 0;
    return n > self->inbox_capacity || inbox_size(n) > self->inbox_capacity - self->inbox_len;
}

/* 0 when it does not even fit an empty inbox. */
static int put_inbox(cw_line *self, uint8_t opcode, const uint8_t *p, uint64_t n) {
    cw_inbox_entry entry = {(uint32_t)n, opcode, {0}};
    if (n > self->inbox_capacity || inbox_size(n) > self->inbox_capacity - self->inbox_len)
        return 0;
    memcpy(self->inbox + self->inbox_len, &entry, sizeof entry);
    memcpy(self->inbox + self->inbox_len + sizeof entry, p, n);
    self->inbox_len += inbox_size(n);
    self->inbox_count++;
    return 1;
}

/* ---- messages ---- */

/* Bits for the owner that are known without parsing further; 0: go on. */
static uint32_t must_stop(const cw_line *self) {
    const cw_engine *engine = self->engine;
    const cw_batch *quotes = &engine->quotes, *trades = &engine->trades;
    if (cw_ring_free(&engine->ring) < 2 * engine->crosses.peers_max + engine->crosses.open_total)
        return CW_FED_MORE;
    if ((quotes->capacity && quotes->count == quotes->capacity) ||
        (trades->capacity && trades->count == trades->capacity))
        return CW_FED_MORE | CW_FED_RECORDS;
    return 0;
}

/* Where the next record is written: into its batch, if it is of the kind that the last one was. */
static cw_record *next_row(cw_line *self) {
    cw_engine *engine = self->engine;
    cw_batch *batch = self->last_scanned == CW_SCAN_TRADE ? &engine->trades : &engine->quotes;
    return batch->count < batch->capacity ? &batch->rows[batch->count] : &self->scratch;
}

/* Hand the records of the message in hand to the engine, beginning with what was `scanned`. Stops
 * with scanner->next_at set when there is no room for another. Returns signals written. */
static uint32_t take_records(cw_line *self, int scanned, cw_record *row) {
    cw_engine *engine = self->engine;
    cw_scanner *scanner = &self->scanner;
    uint32_t written = 0;
    while (scanned < CW_SCAN_CONTROL) {
        int refused = CW_UNLIKELY(self->is_merged) ? cw_merge_check(scanned, row) : CW_OK;
        self->last_scanned = (uint8_t)scanned;
        written += CW_UNLIKELY(refused)
                       ? lose_message(self, refused, 0, scanner->instrument)
                       : cw_engine_take(engine, self->id, scanned, scanner->kind,
                                        scanner->instrument, row);
        if (CW_LIKELY(!scanner->next_at) || must_stop(self)) return written;
        row = next_row(self);
        scanned = ops_scan_next(scanner, row);
    }
    if (scanned >= CW_E_FIRST)
        written += lose_message(self, scanned, scanner->error.at, scanner->instrument);
    return written;
}

/* Go on with a message of many records. */
static uint32_t take_rest(cw_line *self) {
    cw_record *row = next_row(self);
    return take_records(self, ops_scan_next(&self->scanner, row), row);
}

/* A view turned out to be no text. */
static void break_text(cw_line *self, uint64_t at) {
    (void)cw_receiver_fail(&self->receiver, CW_E_UTF8, at);
    (void)cw_line_break(self);
}

/* A text of a venue whose layout names no messages: it is checked to be text, and counted. */
static uint32_t pass_text(cw_line *self, const cw_message *message) {
    size_t at = 0;
    if (CW_UNLIKELY(!ops_is_utf8(message->payload, message->len, &at)))
        return break_text(self, message->at + at), 0;
    self->messages++;
    self->engine->messages++;
    return 0;
}

/* What the scanner said of a text message. Returns signals written; breaks the line when it is no
 * text. */
static uint32_t take_scanned(cw_line *self, int scanned, cw_record *row,
                             const cw_message *message) {
    const cw_scanner *scanner = &self->scanner;
    if (scanned == CW_E_UTF8) return break_text(self, message->at + scanner->error.at), 0;
    self->messages++;
    self->engine->messages++;
    if (scanned < CW_SCAN_CONTROL) return take_records(self, scanned, row);
    if (scanned >= CW_E_FIRST)
        return lose_message(self, scanned, scanner->error.at, scanner->instrument);
    if (put_inbox(self, CW_TEXT, message->payload, message->len)) return 0;
    return lose_message(self, CW_E_MESSAGE_UNKNOWN, 0, CW_NO_INSTRUMENT); /* larger than it */
}

/* One whole text message; as take_scanned. */
static uint32_t take_text(cw_line *self, const cw_message *message) {
    cw_record *row = next_row(self);
    int scanned;
    cw_engine_stage(self->engine, CW_STAGE_FRAME);
    if (self->scanner.layout->message_count == 0) return pass_text(self, message);
    scanned = ops_scan(&self->scanner, message->payload, message->len, row);
    cw_engine_stage(self->engine, CW_STAGE_DECODE);
    return take_scanned(self, scanned, row, message);
}

static uint32_t take_binary(cw_line *self) {
    self->messages++;
    self->engine->messages++;
    return lose_message(self, CW_E_MESSAGE_BINARY, 0, CW_NO_INSTRUMENT);
}

/* ---- one message after the other ---- */

static uint32_t take_message(cw_line *self, const cw_message *message, uint32_t *written) {
    if (message->opcode >= CW_CLOSE) {
        (void)put_inbox(self, message->opcode, message->payload, message->len); /* there is room */
        if (message->opcode != CW_CLOSE) return 0;
        self->is_done = 1;
        cw_engine_end_line(self->engine, self->id);
        return CW_FED_CLOSED;
    }
    *written += message->opcode == CW_TEXT ? take_text(self, message) : take_binary(self);
    return self->is_done ? CW_FED_BROKEN : 0;
}

/* Take one message. Sets *is_waiting when more bytes are needed. */
static uint32_t step(cw_line *self, int *is_waiting, uint32_t *written) {
    cw_engine *engine = self->engine;
    int code = CW_OK;
    if (CW_UNLIKELY(engine->is_sampling))
        engine->stage_began = engine->clock.now_ns(engine->clock.user);
    if (!self->has_held) code = cw_receiver_next(&self->receiver, engine->now.mono_rx, &self->held);
    *is_waiting = code == CW_NEED_MORE;
    if (*is_waiting) return 0;
    if (CW_UNLIKELY(code != CW_OK)) return cw_line_break(self);
    self->has_held = (uint8_t)inbox_must_drain(self, self->held.len);
    return CW_UNLIKELY(self->has_held) ? CW_FED_MORE : take_message(self, &self->held, written);
}

/* ---- texts, one behind the other ---- */

/* The payload's length of a whole, unmasked, final text frame of the usual sizes, by a look at its
 * first bytes; 0 for any other frame, which cw_frame_read will judge. */
CW_HOT uint32_t plain_text(const uint8_t *p, size_t have, uint32_t *header_len) {
    uint32_t n;
    if (CW_UNLIKELY(have < 4 || p[0] != (0x80 | CW_TEXT))) return 0;
    n = p[1];
    *header_len = 2;
    if (n >= 126) {
        n = (uint32_t)p[2] << 8 | p[3];
        *header_len = 4;
        if (CW_UNLIKELY(p[1] != 126 || n < 126)) return 0;
    }
    return CW_LIKELY(n <= have - *header_len) ? n : 0;
}

/* What the scanner calls what a template reads. */
static int scanned_by(const cw_template *t) { return t->is_quote ? CW_SCAN_QUOTE : CW_SCAN_TRADE; }

/* 1 when a text may be taken without a look at the state of the stream: no other message is in
 * progress and the inbox is empty. Sampled reads are timed step by step. */
static int takes_texts(const cw_line *self) {
    return self->receiver.role == CW_CLIENT && cw_receiver_is_between(&self->receiver) &&
           !self->inbox_len && !self->has_held && !self->engine->is_sampling &&
           !self->scanner.next_at;
}

/* Count texts that were taken; p is behind the last of them. */
static void note_texts(cw_line *self, const uint8_t *p, uint64_t count) {
    cw_receiver_skip(&self->receiver, p, count);
    self->messages += count;
    self->engine->messages += count;
}

/* Check and count texts of a venue whose layout names no messages. */
static void pass_texts(cw_line *self, const uint8_t *p, const uint8_t *end, uint32_t n_max) {
    uint32_t n, header_len;
    uint64_t count = 0;
    while ((n = plain_text(p, (size_t)(end - p), &header_len)) != 0 && n <= n_max &&
           ops_is_ascii(p + header_len, n)) {
        p += header_len + n;
        count++;
    }
    note_texts(self, p, count);
}

/* A message that the template in front does not read. Returns signals written. */
static __attribute__((noinline)) uint32_t take_other(cw_line *self, const uint8_t *text,
                                                     uint32_t n) {
    cw_receiver *receiver = &self->receiver;
    cw_message message = {receiver->rx.data + (text - receiver->rx.data),
                          receiver->stream_at + (uint64_t)(text - receiver->rx.data), n, CW_TEXT,
                          1, {0}};
    cw_record *row = next_row(self);
    return take_scanned(self, ops_scan(&self->scanner, text, n, row), row, &message);
}

/* Count texts that the template in front has read. */
static void note_hits(cw_line *self, const uint8_t *p, uint64_t count) {
    note_texts(self, p, count);
    self->scanner.hits += count;
    if (count) self->scanner.miss_run = 0;
}

/* Take whole texts for as long as nothing else turns up, which is nearly all that ever comes: what
 * does not change from one to the next is looked at once. Stops behind a message that wants more
 * than its record to be taken, and before a frame that is not such a text. */
static uint32_t take_texts(cw_line *self, uint32_t *written) {
    cw_engine *engine = self->engine;
    cw_scanner *scanner = &self->scanner;
    const cw_origin origin = cw_engine_origin(engine, self->id);
    cw_buffer *rx = &self->receiver.rx;
    const uint8_t *const end = rx->data + rx->received, *p = rx->data + rx->parsed;
    uint32_t n_max = rx->capacity - CW_FRAME_HEADER_MAX, n, header_len, must_leave = 0;
    uint64_t count = 0;
    if (n_max > self->receiver.message_max) n_max = self->receiver.message_max;
    if (scanner->layout->message_count == 0) return pass_texts(self, p, end, n_max), 0;
    while (!must_leave && (n = plain_text(p, (size_t)(end - p), &header_len)) != 0 && n <= n_max) {
        cw_template *t = scanner->front;
        const uint8_t *text = p + header_len;
        cw_batch *batch = t && t->is_quote ? &engine->quotes : &engine->trades;
        cw_record *row =
            batch->count < batch->capacity ? &batch->rows[batch->count] : &self->scratch;
        if (CW_UNLIKELY(!t || scan_by_template(scanner, t, text, text + n, row) != 1 ||
                        (self->is_merged && cw_merge_check(scanned_by(t), row) != CW_OK))) {
            note_hits(self, p, count);
            *written += take_other(self, text, n);
            if (self->is_done) return CW_FED_BROKEN;
            cw_receiver_skip(&self->receiver, text + n, 1);
            return 0;
        }
        cw_engine_count(engine, self->id, t->kind, row->quote.instrument);
        p += header_len + n;
        count++;
        if (CW_UNLIKELY(self->is_merged)) {
            *written += cw_merge_take(engine, self->id, scanned_by(t), row);
            must_leave = *written | (batch->capacity && batch->count == batch->capacity);
            continue;
        }
        row->quote.ts_rx = engine->now.ts_rx; /* it stands in the same place in a trade */
        batch->count += row != &self->scratch;
        must_leave = row != &self->scratch && batch->count == batch->capacity;
        if (CW_LIKELY(t->is_quote)) {
            must_leave |= *written += cw_engine_apply(engine, origin, &row->quote);
        } else {
            cw_engine_note_trade(engine, origin, &row->trade);
        }
    }
    note_hits(self, p, count);
    return 0;
}

/* ---- parsing ---- */

/* Parse until something wants the owner's attention; `written` signals stand in the ring. */
static uint32_t line_parse(cw_line *self, uint32_t written) {
    int stops_at_signal = !self->engine->latest_only, is_waiting = 0;
    uint32_t fed = 0;
    while (!self->is_done && !is_waiting && !fed) {
        if (CW_UNLIKELY(written && stops_at_signal)) {
            fed = CW_FED_MORE;
        } else if (CW_UNLIKELY((fed = must_stop(self)) != 0)) {
            break;
        } else if (CW_UNLIKELY(self->scanner.next_at != NULL)) {
            written += take_rest(self);
        } else {
            uint32_t parsed;
            cw_receiver_settle(&self->receiver);
            parsed = self->receiver.rx.parsed;
            if (takes_texts(self)) fed = take_texts(self, &written);
            if (self->receiver.rx.parsed == parsed && !fed)
                fed = step(self, &is_waiting, &written);
        }
    }
    if (!(fed & CW_FED_MORE)) cw_receiver_compact(&self->receiver);
    return fed;
}
