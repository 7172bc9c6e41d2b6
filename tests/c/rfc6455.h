/* rfc6455.h — sections 5 to 8 of RFC 6455 written out once more: a slow model that judges a whole
 * byte string, for the tests of the receiver.
 *
 * What was said is kept as text: `text@2[Hello]` is a view whose first byte is byte 2 of the
 * stream, `text[Hello]` a message of the assembly. */
#ifndef CROSSWIRE_TESTS_RFC6455_H
#define CROSSWIRE_TESTS_RFC6455_H

#include "crosswire/receiver.h"
#include "fixture.h"

typedef struct options {
    cw_role role;
    cw_level level;
    int checks_text;
    uint32_t rx_capacity, small_size, message_max, fragments_max, controls_max;
} options;

static options usual(cw_role role) {
    return (options){.role = role,
                     .level = CW_LEVEL_AVX512,
                     .checks_text = 1,
                     .rx_capacity = 512,
                     .small_size = 128,
                     .message_max = 4096,
                     .fragments_max = 16};
}

static const int64_t SECOND = 1000000000;

/* ---- what was said ---- */

typedef struct outcome {
    bytes log;
    int code;
    uint64_t at; /* of the error */
    int is_closed;
    uint64_t frames, controls;
} outcome;

static void put_message(bytes *log, uint8_t opcode, int is_view, uint64_t at, const uint8_t *p,
                        size_t n) {
    static const char *const NAMES[] = {[CW_TEXT] = "text",
                                        [CW_BINARY] = "binary",
                                        [CW_CLOSE] = "close",
                                        [CW_PING] = "ping",
                                        [CW_PONG] = "pong"};
    CHECK(opcode <= CW_PONG && NAMES[opcode]);
    put_format(log, "%s%s", log->n ? " " : "", NAMES[opcode]);
    if (is_view) put_format(log, "@%llu", (unsigned long long)at);
    put(log, "[", 1);
    put(log, p, n);
    put(log, "]", 1);
}

static void check_outcome(const outcome *got, const outcome *want) {
    if (got->log.n != want->log.n || (got->log.n && memcmp(got->log.p, want->log.p, got->log.n))) {
        fprintf(stderr, "got  %.*s\nwant %.*s\n", (int)got->log.n, (char *)got->log.p,
                (int)want->log.n, (char *)want->log.p);
        CHECK(!"the same messages");
    }
    CHECK_EQ(got->code, want->code);
    CHECK_EQ(got->at, want->at);
    CHECK_EQ(got->is_closed, want->is_closed);
    CHECK_EQ(got->frames, want->frames);
    CHECK_EQ(got->controls, want->controls);
}

/* ---- characters ---- */

/* 1 when the encoding of some character, in its shortest form, begins with these bytes. */
static int is_prefix_of_a_character(const uint8_t *b, size_t n, size_t *len) {
    uint32_t low, high, least;
    if (b[0] < 0x80) return *len = 1, n == 1;
    if (b[0] >= 0xC0 && b[0] <= 0xDF) *len = 2, least = 0x80, low = b[0] - 0xC0;
    else if (b[0] >= 0xE0 && b[0] <= 0xEF) *len = 3, least = 0x800, low = b[0] - 0xE0;
    else if (b[0] >= 0xF0 && b[0] <= 0xF7) *len = 4, least = 0x10000, low = b[0] - 0xF0;
    else return 0;
    for (size_t i = 1; i < n; i++) {
        if (b[i] < 0x80 || b[i] > 0xBF) return 0;
        low = low * 64 + (b[i] - 0x80);
    }
    high = low;
    for (size_t i = n; i < *len; i++) {
        low *= 64;
        high = high * 64 + 63;
    }
    if (low < least) low = least;
    if (high > 0x10FFFF) high = 0x10FFFF;
    return low <= high && !(low >= 0xD800 && high <= 0xDFFF);
}

typedef struct character {
    uint8_t b[4];
    size_t n; /* bytes of an unfinished one */
} character;

/* 0 when no text goes on like this. */
static int character_takes(character *self, uint8_t byte) {
    size_t len;
    self->b[self->n++] = byte;
    if (!is_prefix_of_a_character(self->b, self->n, &len)) return 0;
    if (self->n == len) self->n = 0;
    return 1;
}

/* Where a text stops being one: its length for an end inside a character, -1 for nowhere. */
static int64_t fault_of_text(const uint8_t *p, size_t n) {
    for (size_t at = 0, len = 1; at < n; at += len)
        for (size_t have = 1; have <= len; have++) {
            if (at + have > n) return (int64_t)n;
            if (!is_prefix_of_a_character(p + at, have, &len)) return (int64_t)(at + have - 1);
        }
    return -1;
}

/* ---- headers ---- */

typedef struct head {
    size_t size; /* 0: not whole */
    uint8_t opcode;
    int is_final, code;
    size_t at, length_at; /* of the error; of the length */
    uint64_t len;
    const uint8_t *mask;
} head;

static head head_of(const options *o, const uint8_t *p, size_t n) {
    head h = {0};
    size_t length_size, mask_size = o->role == CW_SERVER ? 4 : 0;
    if (n == 0) return h;
    h.opcode = p[0] % 16;
    h.is_final = p[0] >= 128;
    if (p[0] / 16 % 8) return h.code = CW_E_FRAME_RESERVED_BITS, h;
    if (!memchr("\0\1\2\10\11\12", h.opcode, 6)) return h.code = CW_E_FRAME_OPCODE, h;
    if (h.opcode >= 8 && !h.is_final) return h.code = CW_E_FRAME_CONTROL_FRAGMENTED, h;
    if (n == 1) return h;
    h.at = 1;
    if (o->role == CW_CLIENT && p[1] >= 128) return h.code = CW_E_FRAME_MASKED, h;
    if (o->role == CW_SERVER && p[1] < 128) return h.code = CW_E_FRAME_UNMASKED, h;
    h.len = p[1] % 128;
    if (h.opcode >= 8 && h.len > 125) return h.code = CW_E_FRAME_CONTROL_TOO_LONG, h;
    length_size = h.len == 126 ? 2 : h.len == 127 ? 8 : 0;
    h.length_at = length_size ? 2 : 1;
    if (n < 2 + length_size) return h;
    if (length_size) h.len = 0;
    for (size_t i = 0; i < length_size; i++) h.len = h.len * 256 + p[2 + i];
    h.at = 2;
    if (length_size == 2 && h.len < 126) return h.code = CW_E_FRAME_LENGTH_FORM, h;
    if (length_size == 8 && (h.len < 65536 || h.len > INT64_MAX))
        return h.code = CW_E_FRAME_LENGTH_FORM, h;
    if (n < 2 + length_size + mask_size) return h;
    h.mask = mask_size ? p + 2 + length_size : NULL;
    h.size = 2 + length_size + mask_size;
    return h;
}

/* ---- a conversation ---- */

typedef struct model {
    const options *o;
    outcome out;
    bytes message; /* fragments so far */
    uint8_t opcode;
    uint32_t fragments;
    character text;
    int64_t second;
    uint32_t in_second;
} model;

static int model_fails(model *self, int code, uint64_t at) {
    self->out.code = code;
    self->out.at = at;
    return 0;
}

/* Text at `at`: the first byte that cannot stand there, and an end inside a character. */
static int model_reads(model *self, character *c, const uint8_t *p, size_t n, int is_end,
                       uint64_t at) {
    for (size_t i = 0; i < n; i++)
        if (!character_takes(c, p[i])) return model_fails(self, CW_E_UTF8, at + i);
    return is_end && c->n ? model_fails(self, CW_E_UTF8, at + n) : 1;
}

static int model_control(model *self, const head *h, const uint8_t *p, uint64_t frame_at,
                         int64_t stamp) {
    uint64_t at = frame_at + h->size;
    character reason = {0};
    self->out.controls++;
    if (stamp < self->second || !self->in_second ||
        (uint64_t)stamp - (uint64_t)self->second >= (uint64_t)SECOND) {
        self->second = stamp;
        self->in_second = 0;
    }
    self->in_second++;
    if (self->o->controls_max && self->in_second > self->o->controls_max)
        return model_fails(self, CW_E_FRAME_FLOOD, frame_at);
    if (h->opcode == CW_CLOSE && h->len) {
        uint32_t code = h->len == 1 ? 0 : p[0] * 256u + p[1];
        int is_standard = code >= 1000 && code <= 1014 && code != 1004 && code != 1005 &&
                          code != 1006;
        if (!is_standard && !(code >= 3000 && code <= 4999))
            return model_fails(self, CW_E_FRAME_CLOSE, at);
        if (!model_reads(self, &reason, p + 2, (size_t)h->len - 2, 1, at + 2)) return 0;
    }
    self->out.is_closed = h->opcode == CW_CLOSE;
    put_message(&self->out.log, h->opcode, 1, at, p, (size_t)h->len);
    self->out.frames++;
    return 1;
}

/* A frame of which `n` payload bytes came. */
static int model_data(model *self, const head *h, const uint8_t *p, size_t n, uint64_t frame_at) {
    const options *o = self->o;
    uint64_t at = frame_at + h->size;
    int is_whole = n == h->len, is_single = h->opcode && h->is_final;
    int is_view = is_single && h->size + h->len <= o->rx_capacity;
    if (!h->opcode == !self->opcode) return model_fails(self, CW_E_FRAME_CONTINUATION, frame_at);
    if (h->len > o->message_max || h->len + self->message.n > o->message_max)
        return model_fails(self, CW_E_FRAME_TOO_BIG, frame_at + h->length_at);
    if (self->fragments == o->fragments_max)
        return model_fails(self, CW_E_FRAME_FRAGMENTS, frame_at);
    self->fragments++;
    if (h->opcode) self->opcode = h->opcode;
    if (self->opcode == CW_TEXT &&
        !model_reads(self, &self->text, p, n, is_whole && h->is_final, at))
        return 0;
    if (!is_whole) return 0;
    put(&self->message, p, n);
    self->out.frames++;
    if (!h->is_final) return 1;
    put_message(&self->out.log, self->opcode, is_view, at, self->message.p, self->message.n);
    self->message.n = self->fragments = self->opcode = 0;
    self->text.n = 0;
    return 1;
}

static outcome expected_of(const options *o, const uint8_t *p, size_t n, const int64_t *stamps) {
    model m = {.o = o};
    bytes payload = {0};
    int goes_on = 1;
    for (size_t at = 0; at < n && goes_on && !m.out.is_closed;) {
        head h = head_of(o, p + at, n - at);
        size_t came = n - at - h.size, body = at + h.size;
        if (h.code) model_fails(&m, h.code, at + h.at);
        if (!h.size) break;
        if (came > h.len) came = (size_t)h.len;
        payload.n = 0;
        put(&payload, p + body, came);
        for (size_t i = 0; h.mask && i < came; i++) payload.p[i] ^= h.mask[i % 4];
        if (h.opcode < CW_CLOSE) goes_on = model_data(&m, &h, payload.p, came, at);
        else if (came < h.len) break;
        else goes_on = model_control(&m, &h, payload.p, at, stamps ? stamps[body + came - 1] : 0);
        at = body + came;
    }
    bytes_free(&payload);
    bytes_free(&m.message);
    return m.out;
}

#endif
