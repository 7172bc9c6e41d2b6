/* symbol.h — a venue's symbols to instrument ids: open addressing over 32-byte keys. */
#ifndef CROSSWIRE_SYMBOL_H
#define CROSSWIRE_SYMBOL_H

#include "layout.h"

#define CW_NO_INSTRUMENT 0xFFFFFFFFu

typedef struct cw_symbol {
    uint8_t text[CW_SYMBOL_MAX]; /* padded with zeros */
    uint32_t len;                /* 0: the slot is free */
    uint32_t instrument;
    uint8_t reserved[24];
} cw_symbol;

_Static_assert(sizeof(cw_symbol) == 64, "one cache line");

typedef struct cw_symbols {
    cw_symbol *slots;
    uint32_t capacity; /* a power of two, at least twice the symbols it may hold */
    uint32_t count;
} cw_symbols;

/* Take `slots`, `capacity` of them, and clear them. capacity must be a power of two. */
void cw_symbols_init(cw_symbols *self, cw_symbol *slots, uint32_t capacity);

/* Add a symbol of 1 to CW_SYMBOL_MAX bytes. CW_OK; CW_FULL when half of the slots are taken;
 * CW_E_SYMBOL_UNKNOWN for an impossible length, a quote, backslash or control character; CW_TAKEN,
 * with the id unchanged, for one that was added before. */
int cw_symbols_add(cw_symbols *self, const uint8_t *text, uint32_t len, uint32_t instrument);

static inline uint32_t cw_symbol_hash(uint64_t low, uint64_t high, uint32_t len) {
    uint64_t h = (low ^ (high << 29 | high >> 35) ^ len) * 0xD6E8FEB86659FD93u;
    return (uint32_t)(h >> 32);
}

/* The first 16 bytes of a text as two words, padded with zeros. Reads [p, p + 16). */
static inline void cw_symbol_words(const uint8_t *p, uint32_t len, uint64_t *low, uint64_t *high) {
    uint64_t a = cw_load_u64(p), b = cw_load_u64(p + 8);
    uint32_t low_len = len < 8 ? len : 8, high_len = len < 8 ? 0 : len < 16 ? len - 8 : 8;
    *low = low_len == 8 ? a : a & ((1ull << (8 * low_len)) - 1);
    *high = high_len == 8 ? b : b & ((1ull << (8 * high_len)) - 1);
}

/* The slot of a symbol or NULL. At least 16 bytes must be readable at `text`. */
static inline cw_symbol *cw_symbols_find(const cw_symbols *self, const uint8_t *text,
                                         uint32_t len) {
    uint64_t low, high;
    if (CW_UNLIKELY(len == 0 || len > CW_SYMBOL_MAX)) return NULL;
    cw_symbol_words(text, len, &low, &high);
    for (uint32_t at = cw_symbol_hash(low, high, len);; at++) {
        cw_symbol *s = &self->slots[at & (self->capacity - 1)];
        if (CW_LIKELY(s->len == len && cw_load_u64(s->text) == low &&
                      cw_load_u64(s->text + 8) == high) &&
            (CW_LIKELY(len <= 16) || memcmp(s->text + 16, text + 16, len - 16) == 0))
            return s;
        if (s->len == 0) return NULL;
    }
}

#endif
