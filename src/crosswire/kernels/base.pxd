from libc.stdint cimport int32_t, uint64_t

cdef extern from "crosswire/base.h" nogil:
    enum:
        CW_OK
        CW_NEED_MORE
        CW_FULL
        CW_TAKEN
        CW_E_FIRST
        CW_E_COUNT
        CW_E_FRAME_TOO_BIG
        CW_E_INFLATE
        CW_E_MEMORY
        CW_E_MESSAGE_UNKNOWN

    ctypedef struct cw_error:
        uint64_t at
        int32_t code

    const char *cw_code_name(int code) noexcept
    const char *cw_code_text(int code) noexcept
