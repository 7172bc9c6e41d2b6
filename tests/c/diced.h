/* diced.h — conversations by dice: messages, fragments, control frames, most often in order. */
#ifndef CROSSWIRE_TESTS_DICED_H
#define CROSSWIRE_TESTS_DICED_H

#include "rfc6455.h"

static options diced_options(dice *d) {
    options o = usual(below(d, 2) ? CW_SERVER : CW_CLIENT);
    o.level = (cw_level)below(d, LEVELS);
    o.checks_text = below(d, 4) != 0;
    o.rx_capacity = CW_RECEIVER_RX_MIN + (below(d, 2) ? 0 : below(d, 300));
    o.small_size = below(d, 3) ? below(d, 300) : below(d, 4);
    o.message_max = below(d, 8) ? 300 + below(d, 2000) : below(d, 200);
    o.fragments_max = below(d, 4) ? 64 : 1 + below(d, 8);
    o.controls_max = below(d, 4) ? 0 : 1 + below(d, 8);
    return o;
}

static size_t diced_size(dice *d, const options *o) {
    uint32_t around[] = {126,
                         o->rx_capacity - (o->role == CW_SERVER ? 8 : 4),
                         o->small_size,
                         o->message_max,
                         o->rx_capacity,
                         2 * o->rx_capacity};
    switch (below(d, 5)) {
    case 0: return below(d, 4);
    case 1:
    case 2: return below(d, 60);
    case 3: return below(d, 700);
    default: {
        uint32_t n = around[below(d, sizeof around / sizeof *around)] + below(d, 7);
        return n < 3 ? 0 : n - 3;
    }
    }
}

static void put_character(bytes *text, dice *d) {
    static const uint32_t EDGES[] = {0,      0x7F,   0x80,   0x7FF,   0x800,   0xFFF, 0x1000,
                                     0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF};
    uint32_t c = below(d, 3) ? ' ' + below(d, 95)
                 : below(d, 2) ? EDGES[below(d, sizeof EDGES / sizeof *EDGES)]
                               : below(d, 0xD800);
    uint8_t b[4];
    size_t n = 0;
    if (c < 0x80) {
        b[n++] = (uint8_t)c;
    } else if (c < 0x800) {
        b[n++] = (uint8_t)(0xC0 | c >> 6);
    } else if (c < 0x10000) {
        b[n++] = (uint8_t)(0xE0 | c >> 12);
        b[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
    } else {
        b[n++] = (uint8_t)(0xF0 | c >> 18);
        b[n++] = (uint8_t)(0x80 | (c >> 12 & 63));
        b[n++] = (uint8_t)(0x80 | (c >> 6 & 63));
    }
    if (c >= 0x80) b[n++] = (uint8_t)(0x80 | (c & 63));
    put(text, b, n);
}

static void put_diced_frame(bytes *stream, const options *o, dice *d, uint8_t first, const void *p,
                            size_t n) {
    uint64_t mask = roll(d);
    put_frame(stream, first, o->role == CW_SERVER ? (const uint8_t *)&mask : NULL, p, n);
}

static void put_diced_control(bytes *stream, const options *o, dice *d) {
    uint8_t payload[126];
    size_t n = below(d, 3) ? below(d, 5) : below(d, 127); /* one too many */
    for (size_t i = 0; i < n; i++) payload[i] = (uint8_t)roll(d);
    put_diced_frame(stream, o, d, (below(d, 50) ? 0x80 : 0) | (below(d, 2) ? 0x09 : 0x0A), payload,
                    n);
}

static void put_diced_close(bytes *stream, const options *o, dice *d) {
    bytes payload = {0};
    uint32_t code = below(d, 3) ? 1000 + below(d, 17) : below(d, 6000);
    if (below(d, 4)) {
        put(&payload, &(uint8_t){(uint8_t)(code >> 8)}, 1);
        if (below(d, 8)) put(&payload, &(uint8_t){(uint8_t)code}, 1);
        while (payload.n >= 2 && payload.n < 100 && below(d, 5)) put_character(&payload, d);
        if (below(d, 8) == 0) payload.n--;
    }
    put_diced_frame(stream, o, d, 0x88, payload.p, payload.n);
    bytes_free(&payload);
}

/* A message in one frame or more, most often in order. */
static void put_diced_message(bytes *stream, const options *o, dice *d) {
    size_t n = diced_size(d, o), at = 0;
    uint8_t opcode = below(d, 4) ? CW_TEXT : CW_BINARY;
    bytes text = {0};
    while (text.n < n) put_character(&text, d);
    if (n && below(d, 12) == 0) text.p[below(d, (uint32_t)n)] = (uint8_t)roll(d);
    if (below(d, 20) == 0) text.n = n; /* may be inside a character */
    for (int is_first = 1;; is_first = 0) {
        size_t rest = text.n - at, piece = below(d, 2) ? rest : below(d, (uint32_t)rest + 1);
        int is_final = piece == rest && below(d, 4) != 0;
        put_diced_frame(stream, o, d, (uint8_t)((is_final ? 0x80 : 0) | (is_first ? opcode : 0)),
                        text.p + at, piece);
        at += piece;
        if (is_final) break;
        while (below(d, 4) == 0) put_diced_control(stream, o, d);
    }
    bytes_free(&text);
}

/* A header that promises anything. */
static void put_diced_bytes(bytes *stream, const options *o, dice *d) {
    uint8_t head[14];
    for (size_t i = 0; i < sizeof head; i++) head[i] = below(d, 2) ? 0 : (uint8_t)roll(d);
    if (below(d, 4)) {
        head[0] = 0x81;
        head[1] = (uint8_t)((o->role == CW_SERVER ? 0x80 : 0) | (126 + below(d, 2)));
    }
    put(stream, head, 1 + below(d, 14));
}

static void mutate(bytes *stream, dice *d) {
    size_t at, n;
    if (stream->n == 0) return;
    at = below(d, (uint32_t)stream->n);
    n = 1 + below(d, 4);
    if (n > stream->n - at) n = stream->n - at;
    switch (below(d, 4)) {
    case 0: stream->p[at] ^= (uint8_t)(1u << below(d, 8)); break;
    case 1: stream->p[at] = (uint8_t)roll(d); break;
    case 2:
        memmove(stream->p + at, stream->p + at + n, stream->n - at - n);
        stream->n -= n;
        break;
    default: stream->n = at;
    }
}

#endif
