/* fuzz_frame.c — frame headers: prefixes, writing back what was read, masks of all levels. */
#include "fixture.h"
#include "pen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_role(const uint8_t *data, size_t size, cw_role role) {
    cw_frame whole, part;
    uint32_t at = 0, part_at = 0;
    size_t head = size < 20 ? size : 20;
    static pen front;
    int code = cw_frame_read(data, size, role, &whole, &at), is_decided = 0;
    CHECK(code == CW_OK || code == CW_NEED_MORE || (code >= CW_E_FIRST && code < CW_E_LAST));
    for (size_t n = 0; n <= head; n++) {
        uint8_t *p = pen_take(&front, n);
        int part_code;
        if (n) memcpy(p, data, n);
        part_code = cw_frame_read(p, n, role, &part, &part_at);
        if (part_code == CW_NEED_MORE) {
            CHECK(!is_decided);
            continue;
        }
        is_decided = 1;
        CHECK_EQ(part_code, code);
        if (code >= CW_E_FIRST) CHECK_EQ(part_at, at);
    }
    CHECK_EQ(is_decided, code != CW_NEED_MORE);
    if (code == CW_OK) {
        uint8_t written[CW_FRAME_HEADER_MAX];
        CHECK(whole.header_len <= CW_FRAME_HEADER_MAX && whole.header_len <= size);
        CHECK(whole.payload_len >> 63 == 0);
        CHECK_EQ(whole.is_masked, role == CW_SERVER);
        CHECK(whole.opcode < CW_CLOSE || (whole.is_final && whole.payload_len <= CW_CONTROL_MAX));
        CHECK_EQ(cw_frame_write(written, (cw_opcode)whole.opcode, whole.is_final,
                                whole.payload_len, whole.is_masked ? whole.mask : NULL),
                 whole.header_len);
        CHECK_BYTES(written, data, whole.header_len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static pen payload;
    const cw_ops *ops[LEVELS];
    uint32_t count = levels(ops);
    check_role(data, size, CW_CLIENT);
    check_role(data, size, CW_SERVER);
    if (size < 5) return 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t n = size - 5, phase = data[4];
        uint8_t *p = pen_take(&payload, n);
        if (n) memcpy(p, data + 5, n);
        ops[i]->mask(p, n, data, phase);
        for (size_t k = 0; k < n; k++) CHECK_EQ(p[k], data[5 + k] ^ data[(k + phase) & 3]);
    }
    return 0;
}
