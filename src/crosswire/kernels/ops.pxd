from libc.stdint cimport uint8_t, uint32_t

cdef extern from "crosswire/ops.h" nogil:
    ctypedef enum cw_level:
        CW_LEVEL_BASE
        CW_LEVEL_AVX2
        CW_LEVEL_AVX512

    ctypedef struct cw_ops:
        const char *name
        void (*mask)(uint8_t *p, size_t n, const uint8_t *mask, size_t phase) noexcept
        size_t (*ascii_prefix)(const uint8_t *p, size_t n) noexcept
        size_t (*utf8_prefix)(const uint8_t *p, size_t n) noexcept
        int (*decimal)(const uint8_t *p, size_t n, double *value, uint32_t *flags,
                       uint32_t *at) noexcept

    cw_level cw_level_best() noexcept
    const cw_ops *cw_ops_for(cw_level level) noexcept
