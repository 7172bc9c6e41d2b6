from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "crosswire/frame.h" nogil:
    ctypedef enum cw_role:
        CW_CLIENT
        CW_SERVER

    ctypedef enum cw_opcode:
        CW_CONTINUATION
        CW_TEXT
        CW_BINARY
        CW_CLOSE
        CW_PING
        CW_PONG

    enum:
        CW_FRAME_HEADER_MAX
        CW_CONTROL_MAX

    ctypedef struct cw_frame:
        uint64_t payload_len
        uint8_t header_len
        uint8_t opcode
        uint8_t is_final
        uint8_t is_masked
        uint8_t mask[4]

    int cw_frame_read(const uint8_t *p, size_t n, cw_role role, cw_frame *out,
                      uint32_t *at) noexcept
    uint32_t cw_frame_write(uint8_t *p, cw_opcode opcode, int is_final, uint64_t payload_len,
                            const uint8_t *mask) noexcept
    int cw_close_code_is_valid(uint32_t code) noexcept
    uint32_t cw_close_code_for(int code) noexcept
