/* conversation.h — an owner that feeds a receiver as it likes, with a heap that counts. */
#ifndef CROSSWIRE_TESTS_CONVERSATION_H
#define CROSSWIRE_TESTS_CONVERSATION_H

#include "rfc6455.h"

/* ---- a heap of one block, which moves whenever its size changes ---- */

typedef struct counted {
    uint8_t *block;
    size_t size, peak; /* of the block that is out; 0: none */
    uint64_t made, grown, given;
    uint64_t fail_at; /* the request that is refused, from 1; 0: none */
} counted;

static void *counted_resize(void *user, void *block, size_t size) {
    counted *self = user;
    uint8_t *to;
    CHECK(block == self->block);
    if (size == 0) {
        self->given += block != NULL;
        free(block);
        self->block = NULL;
        self->size = 0;
        return NULL;
    }
    if (self->fail_at && self->made + self->grown + 1 >= self->fail_at) return NULL;
    to = malloc(size);
    CHECK(to != NULL);
    memset(to, 0xA5, size);
    if (block) memcpy(to, block, self->size < size ? self->size : size);
    free(block);
    if (block) self->grown++;
    else self->made++;
    self->block = to;
    self->size = size;
    if (size > self->peak) self->peak = size;
    return to;
}

/* ---- the owner ---- */

typedef struct peer {
    options options;
    cw_receiver receiver;
    counted heap;
    void *rx, *small;
    outcome said;
    uint64_t frames_before, controls_before; /* of earlier connections */
} peer;

static cw_receiver_terms terms_of(peer *self) {
    const options *o = &self->options;
    return (cw_receiver_terms){.role = o->role,
                               .checks_text = o->checks_text,
                               .rx = self->rx,
                               .rx_capacity = o->rx_capacity,
                               .small_size = o->small_size,
                               .small = self->small,
                               .heap = {counted_resize, &self->heap},
                               .message_max = o->message_max,
                               .fragments_max = o->fragments_max,
                               .controls_max = o->controls_max};
}

static void peer_open(peer *self, const options *o) {
    cw_receiver_terms terms;
    memset(self, 0, sizeof *self);
    self->options = *o;
    self->rx = malloc(cw_buffer_size(o->rx_capacity));
    self->small = malloc(cw_buffer_size(o->small_size));
    CHECK(self->rx && self->small);
    memset(self->rx, 0x5A, cw_buffer_size(o->rx_capacity));
    memset(self->small, 0x5A, cw_buffer_size(o->small_size));
    terms = terms_of(self);
    CHECK_EQ(cw_receiver_init(&self->receiver, cw_ops_for(o->level), &terms), CW_OK);
    cw_receiver_open(&self->receiver);
}

static void peer_reopen(peer *self) {
    bytes_free(&self->said.log);
    self->said = (outcome){0};
    self->frames_before = self->receiver.frames;
    self->controls_before = self->receiver.controls;
    cw_receiver_open(&self->receiver);
    CHECK(self->heap.block == NULL);
}

static void peer_close(peer *self) {
    cw_receiver_close(&self->receiver);
    CHECK(self->heap.block == NULL);
    CHECK_EQ(self->heap.given, self->heap.made);
    free(self->rx);
    free(self->small);
    bytes_free(&self->said.log);
}

static int is_over(const peer *self) { return self->said.code || self->said.is_closed; }

/* The guards around a payload are there to be read. */
static void check_message(const peer *self, const cw_message *m) {
    const uint8_t *rx = (const uint8_t *)self->rx + CW_GUARD_BEFORE;
    unsigned sum = 0;
    CHECK(m->payload != NULL);
    for (const uint8_t *p = m->payload - CW_GUARD_BEFORE; p < m->payload + m->len + CW_GUARD_AFTER;
         p++)
        sum += *(const volatile uint8_t *)p;
    CHECK(sum < UINT32_MAX);
    CHECK_EQ(m->is_view, m->payload >= rx && m->payload + m->len <= rx + self->options.rx_capacity);
    if (!m->is_view) CHECK_EQ(m->at, 0);
    if (m->opcode < CW_CLOSE) CHECK(m->len <= self->options.message_max);
    else CHECK(m->len <= CW_CONTROL_MAX && m->is_view);
}

/* What the owner that checks views by itself says of one. 0: it is text. */
static int owner_fails(peer *self, const cw_message *m) {
    int64_t fault;
    if (self->options.checks_text || !m->is_view || m->opcode != CW_TEXT) return 0;
    if ((fault = fault_of_text(m->payload, m->len)) < 0) return 0;
    return cw_receiver_fail(&self->receiver, CW_E_UTF8, m->at + (uint64_t)fault);
}

/* Ask once. */
static int take(peer *self, int64_t mono) {
    const cw_receiver *r = &self->receiver;
    cw_message m;
    int code;
    memset(&m, 0xEE, sizeof m);
    code = cw_receiver_next(&self->receiver, mono, &m);
    if (code == CW_OK && owner_fails(self, &m)) code = CW_E_UTF8;
    CHECK(r->rx.consumed <= r->rx.parsed && r->rx.parsed <= r->rx.received &&
          r->rx.received <= r->rx.capacity);
    CHECK(self->heap.size <= cw_buffer_size(self->options.message_max));
    if (code == CW_OK) {
        CHECK(!is_over(self));
        check_message(self, &m);
        put_message(&self->said.log, m.opcode, m.is_view, m.at, m.payload, m.len);
        self->said.is_closed = m.opcode == CW_CLOSE;
    } else if (code != CW_NEED_MORE) {
        CHECK(code >= CW_E_FIRST && code < CW_E_LAST);
        CHECK_EQ(r->error.code, code);
        if (self->said.code) {
            CHECK_EQ(code, self->said.code);
            CHECK_EQ(r->error.at, self->said.at);
        }
        self->said.code = code;
        self->said.at = r->error.at;
    } else {
        uint32_t free_size;
        (void)cw_receiver_tail(&self->receiver, &free_size);
        CHECK(free_size > 0 || self->said.is_closed);
        CHECK_EQ(self->said.code, 0);
        CHECK_EQ(r->error.code, 0);
        if (cw_receiver_is_between(r)) CHECK(self->heap.block == NULL);
    }
    self->said.frames = r->frames - self->frames_before;
    self->said.controls = r->controls - self->controls_before;
    return code;
}

static void take_all(peer *self, int64_t mono) {
    while (take(self, mono) == CW_OK) {}
}

/* Write as much as fits. */
static size_t give(peer *self, const uint8_t *p, size_t n) {
    uint32_t free_size;
    uint8_t *to = cw_receiver_tail(&self->receiver, &free_size);
    if (n > free_size) n = free_size;
    if (n) memcpy(to, p, n);
    CHECK_EQ(cw_receiver_commit(&self->receiver, (uint32_t)n), CW_OK);
    return n;
}

/* One read, and all that it brings. */
static void receive(peer *self, const void *bytes_, size_t n, int64_t mono) {
    const uint8_t *p = bytes_;
    while (n && !is_over(self)) {
        size_t taken = give(self, p, n);
        CHECK(taken > 0);
        p += taken;
        n -= taken;
        take_all(self, mono);
    }
}

/* ---- one conversation in many reads ---- */

static void check_whole(const options *o, const bytes *stream, const outcome *want) {
    peer s;
    peer_open(&s, o);
    receive(&s, stream->p, stream->n, 0);
    check_outcome(&s.said, want);
    peer_close(&s);
}

static void check_cut(const options *o, const bytes *stream, size_t cut, const outcome *want) {
    peer s;
    check_note("cut at %zu of %zu", cut, stream->n);
    peer_open(&s, o);
    receive(&s, stream->p, cut, 0);
    receive(&s, stream->p + cut, stream->n - cut, 0);
    check_outcome(&s.said, want);
    peer_close(&s);
}

static void check_steps(const options *o, const bytes *stream, size_t step, const outcome *want) {
    peer s;
    check_note("steps of %zu of %zu", step, stream->n);
    peer_open(&s, o);
    for (size_t at = 0; at < stream->n; at += step)
        receive(&s, stream->p + at, stream->n - at < step ? stream->n - at : step, 0);
    check_outcome(&s.said, want);
    peer_close(&s);
}

/* An owner that writes and takes as the dice say: reads of any size, several before it asks, asks
 * that leave something for later, a receive buffer made empty at odd times. */
static void check_diced(const options *o, const bytes *stream, dice *d, const outcome *want) {
    peer s;
    uint32_t most = 1 + below(d, below(d, 2) ? 8 : 700), compacts = below(d, 3);
    size_t at = 0;
    peer_open(&s, o);
    while (at < stream->n && !is_over(&s)) {
        size_t n = 1 + below(d, most), taken;
        if (n > stream->n - at) n = stream->n - at;
        taken = give(&s, stream->p + at, n);
        at += taken;
        if (compacts == 1 || (compacts == 2 && below(d, 2))) cw_receiver_compact(&s.receiver);
        if (taken < n) {
            take_all(&s, 0);
        } else {
            for (uint32_t asks = below(d, 4); asks; asks--)
                if (take(&s, 0) != CW_OK) break;
        }
        if (compacts == 2 && below(d, 2)) cw_receiver_compact(&s.receiver);
    }
    take_all(&s, 0);
    check_outcome(&s.said, want);
    peer_close(&s);
}

#endif
