/* utf8.c — the well-formed byte sequences of The Unicode Standard, table 3-7. */
#include "crosswire/utf8.h"

/* Bytes that must follow a first byte, and the bounds of the second; need 0xFF: no first byte. */
static void expect(cw_utf8 *self, uint8_t first) {
    self->low = 0x80;
    self->high = 0xBF;
    if (first < 0xC2 || first > 0xF4) {
        self->need = 0xFF;
    } else if (first < 0xE0) {
        self->need = 1;
    } else if (first < 0xF0) {
        self->need = 2;
        if (first == 0xE0) self->low = 0xA0;
        if (first == 0xED) self->high = 0x9F;
    } else {
        self->need = 3;
        if (first == 0xF0) self->low = 0x90;
        if (first == 0xF4) self->high = 0x8F;
    }
}

int cw_utf8_feed(cw_utf8 *self, const uint8_t *p, size_t n, size_t *at) {
    for (size_t i = 0; i < n; i++) {
        if (self->need) {
            if (p[i] < self->low || p[i] > self->high) return *at = i, CW_E_UTF8;
            self->need--;
            self->low = 0x80;
            self->high = 0xBF;
        } else if (p[i] >= 0x80) {
            expect(self, p[i]);
            if (self->need == 0xFF) return *at = i, CW_E_UTF8;
        } else {
            while (n - i >= 16 && !((cw_load_u64(p + i) | cw_load_u64(p + i + 8)) &
                                    0x8080808080808080u))
                i += 16;
            if (i == n) break;
            i -= p[i] >= 0x80; /* the loop's step brings it back */
        }
    }
    return CW_OK;
}

int cw_utf8_is_whole(const cw_utf8 *self) { return self->need == 0; }
