/* symbol.c — filling the symbol table; finding is inline, in symbol.h. */
#include "crosswire/symbol.h"

void cw_symbols_init(cw_symbols *self, cw_symbol *slots, uint32_t capacity) {
    memset(slots, 0, sizeof *slots * capacity);
    self->slots = slots;
    self->capacity = capacity;
    self->count = 0;
}

int cw_symbols_add(cw_symbols *self, const uint8_t *text, uint32_t len, uint32_t instrument) {
    cw_symbol key = {.len = len, .instrument = instrument};
    uint32_t at;
    if (len == 0 || len > CW_SYMBOL_MAX) return CW_E_SYMBOL_UNKNOWN;
    for (uint32_t i = 0; i < len; i++) /* as it stands in JSON: no escapes */
        if (text[i] < 0x20 || text[i] == '"' || text[i] == '\\') return CW_E_SYMBOL_UNKNOWN;
    memcpy(key.text, text, len);
    at = cw_symbol_hash(cw_load_u64(key.text), cw_load_u64(key.text + 8), len);
    for (;; at++) {
        cw_symbol *slot = &self->slots[at & (self->capacity - 1)];
        if (slot->len == 0) {
            if (2 * (self->count + 1) > self->capacity) return CW_FULL;
            self->count++;
            *slot = key;
            return CW_OK;
        }
        if (slot->len == len && memcmp(slot->text, key.text, CW_SYMBOL_MAX) == 0) return CW_TAKEN;
    }
}
