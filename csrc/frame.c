/* frame.c — RFC 6455 section 5.2 headers and section 7.4 close codes. */
#include "crosswire/frame.h"

static int fail(uint32_t *at, uint32_t position, int code) {
    *at = position;
    return code;
}

static uint64_t big_endian(const uint8_t *p, uint32_t n) {
    uint64_t v = 0;
    for (uint32_t i = 0; i < n; i++) v = v << 8 | p[i];
    return v;
}

static int read_header(const uint8_t *p, size_t n, cw_role role, int may_be_compressed,
                       cw_frame *out, uint32_t *at) {
    uint32_t len7, extra, need;
    *at = 0;
    if (n < 1) return CW_NEED_MORE;
    out->is_final = p[0] >> 7;
    out->opcode = p[0] & 0x0F;
    out->is_compressed = (p[0] & 0x70) == 0x40 && may_be_compressed && out->opcode &&
                         out->opcode < CW_CLOSE;
    if (CW_UNLIKELY(p[0] & 0x70) && !out->is_compressed)
        return fail(at, 0, CW_E_FRAME_RESERVED_BITS);
    if (CW_UNLIKELY(out->opcode > CW_PONG || (out->opcode > CW_BINARY && out->opcode < CW_CLOSE)))
        return fail(at, 0, CW_E_FRAME_OPCODE);
    if (CW_UNLIKELY(out->opcode >= CW_CLOSE && !out->is_final))
        return fail(at, 0, CW_E_FRAME_CONTROL_FRAGMENTED);
    if (n < 2) return CW_NEED_MORE;
    out->is_masked = p[1] >> 7;
    if (CW_UNLIKELY(out->is_masked && role == CW_CLIENT)) return fail(at, 1, CW_E_FRAME_MASKED);
    if (CW_UNLIKELY(!out->is_masked && role == CW_SERVER))
        return fail(at, 1, CW_E_FRAME_UNMASKED);
    len7 = p[1] & 0x7F;
    if (CW_UNLIKELY(out->opcode >= CW_CLOSE && len7 > CW_CONTROL_MAX))
        return fail(at, 1, CW_E_FRAME_CONTROL_TOO_LONG);
    extra = len7 == 126 ? 2 : len7 == 127 ? 8 : 0;
    need = 2 + extra + (out->is_masked ? 4 : 0);
    if (extra && n >= 2 + extra) {
        out->payload_len = big_endian(p + 2, extra);
        if (out->payload_len < (extra == 2 ? 126u : 65536u) || out->payload_len >> 63)
            return fail(at, 2, CW_E_FRAME_LENGTH_FORM);
    } else {
        out->payload_len = len7;
    }
    if (n < need) return CW_NEED_MORE;
    out->header_len = (uint8_t)need;
    if (out->is_masked) memcpy(out->mask, p + need - 4, 4);
    return CW_OK;
}

int cw_frame_read(const uint8_t *p, size_t n, cw_role role, cw_frame *out, uint32_t *at) {
    return read_header(p, n, role, 0, out, at);
}

int cw_frame_read_deflate(const uint8_t *p, size_t n, cw_role role, cw_frame *out, uint32_t *at) {
    return read_header(p, n, role, 1, out, at);
}

uint32_t cw_frame_write(uint8_t *p, cw_opcode opcode, int is_final, uint64_t payload_len,
                        const uint8_t *mask) {
    uint32_t n = 2;
    uint8_t mask_bit = mask ? 0x80 : 0;
    p[0] = (uint8_t)((is_final ? 0x80 : 0) | opcode);
    if (payload_len < 126) {
        p[1] = (uint8_t)(mask_bit | payload_len);
    } else {
        uint32_t extra = payload_len < 65536 ? 2 : 8;
        p[1] = mask_bit | (extra == 2 ? 126 : 127);
        for (uint32_t i = 0; i < extra; i++)
            p[2 + i] = (uint8_t)(payload_len >> (8 * (extra - 1 - i)));
        n += extra;
    }
    if (mask) {
        memcpy(p + n, mask, 4);
        n += 4;
    }
    return n;
}

int cw_close_code_is_valid(uint32_t code) {
    if (code >= 3000 && code <= 4999) return 1;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

uint32_t cw_close_code_for(int code) {
    switch (code) {
    case CW_E_UTF8:
    case CW_E_INFLATE: return 1007;
    case CW_E_FRAME_TOO_BIG:
    case CW_E_FRAME_FRAGMENTS: return 1009;
    case CW_E_FRAME_FLOOD: return 1008;
    case CW_E_MEMORY: return 1011;
    default: return 1002;
    }
}
