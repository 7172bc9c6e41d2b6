/* receiver.c — a connection's frames, put together; a frame is taken whole or piece by piece. */
#include "crosswire/receiver.h"

#define SECOND_NS 1000000000

enum { PACKED_SPARE = 1024 };

enum { GO_ON = -1 }; /* a step was made and there may be another */

/* ---- life ---- */

int cw_receiver_init(cw_receiver *self, const cw_ops *ops, const cw_receiver_terms *terms) {
    if (terms->rx_capacity < CW_RECEIVER_RX_MIN || terms->message_max > 1u << 31)
        return CW_E_FRAME_TOO_BIG;
    memset(self, 0, sizeof *self);
    cw_buffer_init(&self->rx, terms->rx, terms->rx_capacity);
    self->ops = ops;
    self->heap = terms->heap;
    self->small = (uint8_t *)terms->small + CW_GUARD_BEFORE;
    self->small_size = terms->small_size;
    self->message_max = terms->message_max;
    self->fragments_max = terms->fragments_max;
    self->controls_max = terms->controls_max;
    self->role = (uint8_t)terms->role;
    self->checks_text = terms->checks_text != 0;
    return CW_OK;
}

static void give_back(cw_receiver *self) {
    if (!self->large) return;
    cw_heap_give(&self->heap, self->large - CW_GUARD_BEFORE);
    self->large = NULL;
}

void cw_receiver_open(cw_receiver *self) {
    cw_receiver_close(self);
    cw_buffer_clear(&self->rx);
    self->opcode = self->is_streaming = self->is_compressed = self->has_close = 0;
    self->assembled = self->fragment_count = self->second_count = 0;
    self->front_len = self->view_len = 0;
    self->stream_at = 0;
    memset(&self->utf8, 0, sizeof self->utf8);
    memset(&self->error, 0, sizeof self->error);
}

void cw_receiver_close(cw_receiver *self) {
    give_back(self);
    cw_inflate_close(&self->inflate);
    self->has_deflate = 0;
    self->opcode = self->is_streaming = self->is_compressed = 0; /* nothing is left to go on with */
}

int cw_receiver_take_deflate(cw_receiver *self, int window_bits, int keeps_context) {
    int code = cw_inflate_open(&self->inflate, &self->heap, CW_INFLATE_RAW, window_bits,
                               keeps_context);
    self->has_deflate = code == CW_OK;
    return code;
}

int cw_receiver_fail(cw_receiver *self, int code, uint64_t at) {
    if (self->error.code) return self->error.code;
    self->error.code = code;
    self->error.at = at;
    return code;
}

/* Fail `at` bytes behind the next one to be parsed. */
static int fail(cw_receiver *self, int code, uint64_t at) {
    return cw_receiver_fail(self, code, self->stream_at + self->rx.parsed + at);
}

int cw_receiver_commit(cw_receiver *self, uint32_t n) {
    if (cw_buffer_commit(&self->rx, n) != CW_OK) return fail(self, CW_E_FRAME_TOO_BIG, 0);
    return CW_OK;
}

void cw_receiver_compact(cw_receiver *self) {
    if (!self->error.code) cw_receiver_settle(self);
    self->rx.consumed = self->rx.parsed;
    self->stream_at += self->rx.consumed;
    cw_buffer_compact(&self->rx);
}

/* ---- text ---- */

/* Check that more bytes go on with a text. CW_OK, or CW_E_UTF8 with the bad byte in *at. */
static int check_text(cw_receiver *self, const uint8_t *p, size_t n, size_t *at) {
    size_t done = 0;
    int code = CW_OK;
    for (; self->utf8.need && done < n && code == CW_OK; done += code == CW_OK)
        code = cw_utf8_feed(&self->utf8, p + done, 1, at); /* a character that was cut */
    if (code == CW_OK && done < n) {
        done += self->ops->ascii_prefix(p + done, n - done);
        if (CW_UNLIKELY(done < n)) done += self->ops->utf8_prefix(p + done, n - done);
        code = cw_utf8_feed(&self->utf8, p + done, n - done, at);
    }
    *at += done;
    return code;
}

/* Unmask and check what is there of the payload of the frame at rx.parsed, of which front_len
 * bytes are done; n bytes of it are there. */
static int check_front(cw_receiver *self, const cw_frame *frame, uint32_t n) {
    uint8_t *p = self->rx.data + self->rx.parsed + frame->header_len + self->front_len;
    uint32_t fresh = n - self->front_len;
    size_t at = 0;
    if (frame->is_masked) self->ops->mask(p, fresh, frame->mask, self->front_len);
    if (self->front_len == 0) memset(&self->utf8, 0, sizeof self->utf8);
    if (frame->opcode == CW_TEXT && check_text(self, p, fresh, &at) != CW_OK)
        return fail(self, CW_E_UTF8, frame->header_len + self->front_len + at);
    self->front_len = n;
    return CW_OK;
}

/* ---- the assembly ---- */

static uint8_t *assembly(const cw_receiver *self) {
    return self->large ? self->large : self->small;
}

static uint32_t capacity(const cw_receiver *self) {
    return self->large || self->message_max < self->small_size ? self->message_max
                                                               : self->small_size;
}

/* Go on in a block of the heap. 0 when there is no memory. */
static int make_large(cw_receiver *self) {
    uint8_t *block = cw_heap_take(&self->heap, cw_buffer_size(self->message_max));
    if (!block) return 0;
    self->large = block + CW_GUARD_BEFORE;
    memcpy(self->large, self->small, self->assembled);
    return 1;
}

/* Where the payload of the streamed frame began, seen from the next byte: what comes out of zlib at
 * a fault is told to be there, wherever the frame was cut. */
static uint64_t back_to_payload(const cw_receiver *self) { return 0 - self->streamed_len; }

/* Check and keep n bytes that were written behind the assembly. */
static int keep(cw_receiver *self, uint32_t n) {
    size_t at = 0;
    if (self->opcode == CW_TEXT &&
        check_text(self, assembly(self) + self->assembled, n, &at) != CW_OK)
        return fail(self, CW_E_UTF8, self->is_compressed ? back_to_payload(self) : at);
    self->assembled += n;
    return CW_OK;
}

/* Copy n bytes of a plain frame at p to the assembly, which message_max allows. */
static int copy(cw_receiver *self, const uint8_t *p, uint32_t n) {
    uint8_t *to;
    if (n > capacity(self) - self->assembled && !make_large(self))
        return fail(self, CW_E_MEMORY, 0);
    to = assembly(self) + self->assembled;
    memcpy(to, p, n);
    if (self->streamed.is_masked)
        self->ops->mask(to, n, self->streamed.mask, self->streamed_len);
    return keep(self, n);
}

/* Read n bytes of a compressed message at p into the assembly. One byte above message_max, which
 * the guard has room for, tells that the message is too big. */
static int expand(cw_receiver *self, const uint8_t *p, size_t n, int is_last) {
    size_t used = 0;
    for (;;) {
        uint32_t end = capacity(self) + (capacity(self) == self->message_max);
        size_t taken = 0, made, room = end - self->assembled;
        uint8_t *to = assembly(self) + self->assembled;
        int code = (is_last ? cw_inflate_last : cw_inflate_feed)(&self->inflate, p + used, n - used,
                                                                 &taken, to, room, &made);
        int kept = keep(self, (uint32_t)made);
        used += taken;
        if (kept != CW_OK) return kept;
        if (self->assembled > self->message_max)
            return fail(self, CW_E_FRAME_TOO_BIG, back_to_payload(self));
        if (code != CW_FULL) return code == CW_OK ? code : fail(self, code, used);
        if (!make_large(self)) return fail(self, CW_E_MEMORY, used); /* the small block is full */
    }
}

/* A frame is too big, says its length: the byte of 7 bits, or those behind it. */
static int fail_too_big(cw_receiver *self, const cw_frame *frame) {
    return fail(self, CW_E_FRAME_TOO_BIG, frame->payload_len < 126 ? 1 : 2);
}

/* Begin to take a frame piece by piece. */
static int begin_stream(cw_receiver *self, const cw_frame *frame) {
    if (frame->opcode != CW_CONTINUATION) {
        self->opcode = frame->opcode;
        self->is_compressed = frame->is_compressed;
        self->assembled = self->fragment_count = 0;
        self->packed_len = 0;
        memset(&self->utf8, 0, sizeof self->utf8);
    }
    if (!self->is_compressed && frame->payload_len > self->message_max - self->assembled)
        return fail_too_big(self, frame);
    if (++self->fragment_count > self->fragments_max)
        return fail(self, CW_E_FRAME_FRAGMENTS, 0);
    self->streamed = *frame;
    self->streamed_len = 0;
    self->is_streaming = 1;
    self->rx.parsed += frame->header_len;
    return GO_ON;
}

/* The message in the assembly has no more frames. */
static int take_assembled(cw_receiver *self, cw_message *out) {
    if (self->opcode == CW_TEXT && !cw_utf8_is_whole(&self->utf8))
        return fail(self, CW_E_UTF8, 0);
    if (self->is_compressed && self->assembled >= CW_RATIO_ALARM_MIN)
        self->ratio_alarms += self->assembled / CW_RATIO_ALARM >= self->packed_len;
    *out = (cw_message){assembly(self), 0, self->assembled, self->opcode, 0, {0}};
    self->opcode = self->is_compressed = 0;
    return CW_OK;
}

/* Take what has arrived of the streamed frame; at the message's end, take it. */
static int stream(cw_receiver *self, cw_message *out) {
    uint64_t left = self->streamed.payload_len - self->streamed_len;
    uint32_t have = self->rx.received - self->rx.parsed;
    uint32_t n = left < have ? (uint32_t)left : have;
    uint8_t *p = self->rx.data + self->rx.parsed;
    int code;
    if (self->is_compressed) {
        if (self->streamed.is_masked)
            self->ops->mask(p, n, self->streamed.mask, self->streamed_len);
        self->packed_len += n;
        code = expand(self, p, n, n == left && self->streamed.is_final);
    } else {
        code = copy(self, p, n);
    }
    if (code != CW_OK) return code;
    self->streamed_len += n;
    self->rx.parsed += n;
    if (self->streamed_len < self->streamed.payload_len) return CW_NEED_MORE;
    self->is_streaming = 0;
    if (self->streamed.is_final && (code = take_assembled(self, out)) != CW_OK) return code;
    self->frames++;
    return self->streamed.is_final ? CW_OK : GO_ON;
}

/* ---- frames ---- */

/* Count a control frame; CW_E_FRAME_FLOOD when too many came within a second. A stamp that runs
 * backwards begins another. */
static int count_control(cw_receiver *self, int64_t mono_now) {
    uint64_t passed = (uint64_t)mono_now - (uint64_t)self->second_began;
    if (passed >= SECOND_NS || !self->second_count) {
        self->second_began = mono_now;
        self->second_count = 0;
    }
    self->controls++;
    if (++self->second_count > self->controls_max && self->controls_max)
        return fail(self, CW_E_FRAME_FLOOD, 0);
    return CW_OK;
}

static int check_close(cw_receiver *self, const cw_frame *frame, const uint8_t *p) {
    uint32_t n = (uint32_t)frame->payload_len;
    cw_utf8 utf8 = {0, 0, 0};
    size_t at = 0;
    if (n == 1 || (n >= 2 && !cw_close_code_is_valid((uint32_t)p[0] << 8 | p[1])))
        return fail(self, CW_E_FRAME_CLOSE, frame->header_len);
    if (n <= 2) return CW_OK;
    if (cw_utf8_feed(&utf8, p + 2, n - 2, &at) != CW_OK)
        return fail(self, CW_E_UTF8, frame->header_len + 2 + at);
    if (!cw_utf8_is_whole(&utf8)) return fail(self, CW_E_UTF8, frame->header_len + n);
    return CW_OK;
}

/* A control frame or an unfragmented message, whole in the receive buffer. */
static int take_frame(cw_receiver *self, const cw_frame *frame, int64_t mono_now,
                      cw_message *out) {
    uint8_t *payload = self->rx.data + self->rx.parsed + frame->header_len;
    uint32_t n = (uint32_t)frame->payload_len;
    int code = CW_OK;
    if (frame->opcode >= CW_CLOSE) {
        if (frame->is_masked) self->ops->mask(payload, n, frame->mask, 0);
        if ((code = count_control(self, mono_now)) != CW_OK) return code;
        if (frame->opcode == CW_CLOSE) {
            code = check_close(self, frame, payload);
            self->has_close = code == CW_OK;
        }
    } else if (self->checks_text || frame->is_masked) {
        if ((code = check_front(self, frame, n)) != CW_OK) return code;
        if (frame->opcode == CW_TEXT && !cw_utf8_is_whole(&self->utf8))
            code = fail(self, CW_E_UTF8, frame->header_len + n);
    }
    if (code != CW_OK) return code;
    *out = (cw_message){payload, self->stream_at + self->rx.parsed + frame->header_len, n,
                        frame->opcode, 1, {0}};
    self->view_len = frame->header_len + n;
    return CW_OK;
}

/* What a frame's place among others forbids. A compressed one is bounded by what it expands to, and
 * by PACKED_SPARE beyond twice that: deflate adds five bytes to a block that it cannot shrink, and no
 * sender needs so many blocks. */
static int check_place(cw_receiver *self, const cw_frame *frame) {
    int is_continued = frame->opcode == CW_CONTINUATION;
    int is_compressed = frame->is_compressed || (is_continued && self->is_compressed);
    uint64_t most = self->message_max;
    if (CW_UNLIKELY(is_continued != (self->opcode != 0)))
        return fail(self, CW_E_FRAME_CONTINUATION, 0);
    if (CW_UNLIKELY(is_compressed)) most = 2 * most + PACKED_SPARE;
    if (CW_UNLIKELY(frame->payload_len > most)) return fail_too_big(self, frame);
    return CW_OK;
}

static int take_step(cw_receiver *self, int64_t mono_now, cw_message *out) {
    uint32_t have = self->rx.received - self->rx.parsed, at;
    cw_frame frame;
    int code;
    if (self->is_streaming) return stream(self, out);
    code = (self->has_deflate ? cw_frame_read_deflate : cw_frame_read)(
        self->rx.data + self->rx.parsed, have, (cw_role)self->role, &frame, &at);
    if (CW_UNLIKELY(code != CW_OK)) return code == CW_NEED_MORE ? code : fail(self, code, at);
    if (CW_LIKELY(frame.opcode < CW_CLOSE)) {
        if ((code = check_place(self, &frame)) != CW_OK) return code;
        if (CW_UNLIKELY(!frame.is_final || frame.opcode == CW_CONTINUATION ||
                        frame.is_compressed ||
                        frame.payload_len > self->rx.capacity - frame.header_len))
            return begin_stream(self, &frame);
    }
    have -= frame.header_len;
    if (have >= frame.payload_len) return take_frame(self, &frame, mono_now, out);
    if (frame.opcode >= CW_CLOSE) return CW_NEED_MORE;
    code = check_front(self, &frame, have);
    return code == CW_OK ? CW_NEED_MORE : code;
}

int cw_receiver_next(cw_receiver *self, int64_t mono_now, cw_message *out) {
    int code = GO_ON;
    if (CW_UNLIKELY(self->error.code)) return self->error.code;
    cw_receiver_settle(self);
    if (self->has_close) return CW_NEED_MORE;
    if (!self->opcode) give_back(self);
    while (code == GO_ON) code = take_step(self, mono_now, out); /* each takes a frame */
    if (code == CW_NEED_MORE) cw_receiver_compact(self);
    return code;
}
